package awsapi

import (
	"encoding/base64"
	"fmt"
	"io"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	smithyjson "github.com/aws/smithy-go/encoding/json"
)

// writeREST answers with an output: its headers, its status when it names one, else the model's, and its payload or its
// members as a JSON object. An error means that nothing was written.
func (s *Service) writeREST(w http.ResponseWriter, h *handler, id string, out reflect.Value) error {
	status := h.op.Status
	var payload *field
	hasBody := false
	for i := range h.output.fields {
		f := &h.output.fields[i]
		v, ok := held(out.Field(f.index))
		switch f.In {
		case inBody:
			hasBody = true
		case inPayload:
			payload = f
		case inStatus:
			if ok && v.Int() != 0 {
				status = int(v.Int())
			}
		}
	}
	if status < 200 || status > 599 {
		return fmt.Errorf("%s answered with the status %d", h.op.name, status)
	}
	for i := range h.output.fields {
		f := &h.output.fields[i]
		if v, ok := held(out.Field(f.index)); ok && f.In == inHeader {
			w.Header().Set(f.Wire, headerText(f.node, v))
		}
	}
	w.Header().Set("X-Amzn-Requestid", id)
	switch {
	case payload != nil:
		return writePayload(w, payload, out.Field(payload.index), status)
	case status == http.StatusNoContent || !hasBody && len(h.output.fields) == 0:
		w.WriteHeader(status)
	default:
		body := smithyjson.NewEncoder()
		encodeStructure(body.Value, h.output, out)
		writeBody(w, "application/json", status, body.Bytes())
	}
	return nil
}

func writePayload(w http.ResponseWriter, f *field, v reflect.Value, status int) error {
	contentType := "application/json"
	if set := w.Header().Get("Content-Type"); set != "" {
		contentType = set // the output has a member that is this header
	}
	value, ok := held(v)
	switch {
	case !ok:
		w.WriteHeader(status)
	case f.node.kind == kindBlob:
		writeBody(w, contentType, status, value.Bytes())
	case f.node.kind == kindStream:
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		if _, err := io.Copy(w, value.Interface().(io.Reader)); err != nil {
			panic(http.ErrAbortHandler) //nolint:forbidigo // the status is out: only a cut connection, which net/http makes of this, can still tell the caller
		}
	case f.node.kind == kindString:
		writeBody(w, contentType, status, []byte(value.String()))
	default:
		body := smithyjson.NewEncoder()
		encodeStructure(body.Value, f.node, value)
		writeBody(w, contentType, status, body.Bytes())
	}
	return nil
}

func headerText(n *node, v reflect.Value) string {
	switch n.kind {
	case kindString:
		return v.String()
	case kindBoolean:
		return strconv.FormatBool(v.Bool())
	case kindInteger, kindLong:
		return strconv.FormatInt(v.Int(), 10)
	case kindBlob:
		return base64.StdEncoding.EncodeToString(v.Bytes())
	case kindTimestamp:
		return v.Interface().(time.Time).UTC().Format(http.TimeFormat)
	default:
		return fmt.Sprint(v.Interface())
	}
}

// encodeStructure writes the members that travel in the body and are present.
func encodeStructure(w smithyjson.Value, n *node, v reflect.Value) {
	object := w.Object()
	for f, value := range n.members(v) {
		if f.In == inBody {
			encodeJSON(object.Key(f.Wire), f.node, value)
		}
	}
	object.Close()
}

func encodeJSON(w smithyjson.Value, n *node, v reflect.Value) {
	switch n.kind {
	case kindString:
		w.String(v.String())
	case kindBoolean:
		w.Boolean(v.Bool())
	case kindInteger, kindLong:
		w.Long(v.Int())
	case kindDouble:
		if d := v.Float(); d == math.Trunc(d) && math.Abs(d) < 1e15 {
			w.Write([]byte(strconv.FormatFloat(d, 'f', 1, 64))) // a whole number has a fraction on AWS, by which Python knows a float
		} else {
			encodeDouble(w, d)
		}
	case kindBlob:
		w.Base64EncodeBytes(v.Bytes())
	case kindTimestamp:
		t := v.Interface().(time.Time)
		encodeDouble(w, float64(t.UnixMilli())/1000)
	case kindList:
		array := w.Array()
		for i := range v.Len() {
			encodeElement(array.Value(), n.elem, v.Index(i))
		}
		array.Close()
	case kindMap:
		object := w.Object()
		for _, key := range sortedKeys(v) {
			encodeElement(object.Key(key.String()), n.elem, v.MapIndex(key))
		}
		object.Close()
	case kindStructure, kindUnion:
		encodeStructure(w, n, v)
	}
}

// encodeElement writes an element of a list or map. An empty string is one there.
func encodeElement(w smithyjson.Value, n *node, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if !v.IsValid() {
		w.Null()
		return
	}
	encodeJSON(w, n, v)
}

func encodeDouble(w smithyjson.Value, d float64) {
	if math.IsNaN(d) || math.IsInf(d, 0) {
		w.String(strconv.FormatFloat(d, 'g', -1, 64))
		return
	}
	w.Double(d)
}

// sortedKeys makes the order of a map's entries the same each time.
func sortedKeys(v reflect.Value) []reflect.Value {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	return keys
}
