package awsapi

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"thaw"
)

// decodeREST fills an input from the URI, the query string, the headers and the body. nulls holds the paths of the
// elements of lists and maps that were null, which Go's slices cannot show.
func decodeREST(w http.ResponseWriter, r *http.Request, h *handler, call incoming, in reflect.Value) (nulls map[string]bool, err error) {
	text, err := readBody(w, r, h.limit)
	if errors.Is(err, errTooLarge) {
		return nil, tooLarge(h.op.name, r.ContentLength, h.limit)
	}
	if err != nil {
		return nil, err
	}
	hasBody, hasPayload := false, false
	for i := range h.input.fields {
		f := &h.input.fields[i]
		v := in.Field(f.index)
		switch f.In {
		case inBody:
			hasBody = true
		case inPayload:
			hasPayload = true
			if f.node.kind == kindStructure {
				nulls, err = decodeJSON(text, f.node, settle(v))
			} else {
				setPayload(f.node, v, text)
			}
		case inURI:
			err = setText(f, v, call.labels[f.Wire], time.RFC3339)
		case inQuery:
			err = setQuery(f, v, call.query)
		case inHeader:
			if values := r.Header.Values(f.Wire); len(values) > 0 {
				err = setText(f, v, strings.Join(values, ","), http.TimeFormat)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if hasBody && !hasPayload && len(text) > 0 {
		nulls, err = decodeJSON(text, h.input, in)
	}
	return nulls, err
}

func setPayload(n *node, v reflect.Value, text []byte) {
	switch {
	case n.kind == kindStream:
		v.Set(reflect.ValueOf(bytes.NewReader(text)))
	case len(text) == 0:
	case n.kind == kindBlob:
		v.SetBytes(text)
	default:
		settle(v).SetString(string(text))
	}
}

func setQuery(f *field, v reflect.Value, query url.Values) error {
	values, ok := query[f.Wire]
	if !ok {
		return nil
	}
	if f.node.kind == kindList {
		list := reflect.MakeSlice(f.node.typ, len(values), len(values))
		for i, s := range values {
			list.Index(i).SetString(s)
		}
		v.Set(list)
		return nil
	}
	if values[0] == "" && f.node.kind != kindString {
		return nil // AWS takes an empty number as an absent one
	}
	return setText(f, v, values[0], time.RFC3339)
}

// setText stores a member that travels as text outside the body.
func setText(f *field, v reflect.Value, s, timeLayout string) error {
	v = settle(v)
	switch f.node.kind {
	case kindString:
		v.SetString(s)
	case kindBoolean:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return notConverted(s, f.node.kind)
		}
		v.SetBool(b)
	case kindInteger, kindLong:
		i, err := strconv.ParseInt(s, 10, v.Type().Bits())
		if err != nil {
			return notConverted(s, f.node.kind)
		}
		v.SetInt(i)
	case kindDouble:
		d, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return notConverted(s, f.node.kind)
		}
		v.SetFloat(d)
	case kindTimestamp:
		t, err := time.Parse(timeLayout, s)
		if err != nil {
			return notConverted(s, f.node.kind)
		}
		v.Set(reflect.ValueOf(t.UTC()))
	}
	return nil
}

// notConverted has AWS's text, recorded for the query parameter MaxItems=abc.
func notConverted(s string, k kind) error {
	return thaw.Errorf(thaw.CodeSerialization, "'%s' can not be converted to %s", s, k.title())
}
