package awsapi

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	smithyxml "github.com/aws/smithy-go/encoding/xml"

	"thaw"
)

// findAction reads the parameters of a query request, from the query string and a form, and finds the operation that
// Action names.
func findAction(m *model, r *http.Request) (incoming, error) {
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err == nil && isForm(r) {
		var text []byte
		if text, err = readBody(nil, r, maxQueryBody); errors.Is(err, errTooLarge) {
			return incoming{}, tooLarge("query", r.ContentLength, maxQueryBody)
		} else if err == nil {
			var more url.Values
			more, err = url.ParseQuery(string(text))
			for key, values := range more {
				form[key] = append(form[key], values...)
			}
		}
	}
	if err != nil {
		return incoming{}, thaw.Errorf(thaw.CodeSerialization, "The parameters cannot be read: %v", err)
	}
	action, version := form.Get("Action"), form.Get("Version")
	op := m.Operations[action]
	switch {
	case action == "":
		return incoming{}, thaw.Errorf(thaw.CodeUnknownOperation, "%s needs the parameter Action; the request %s %s has none.",
			serviceTitle(m.Service), r.Method, r.URL.EscapedPath())
	case op == nil || version != "" && version != m.Version:
		if version == "" {
			version = m.Version
		}
		return incoming{}, thaw.Errorf(thaw.CodeUnknownOperation, "Could not find operation %s for version %s of %s.",
			action, version, serviceTitle(m.Service))
	}
	return incoming{op: op, form: form}, nil
}

// decodeQuery fills a structure from parameters with dotted names: RoleName=x, Tags.member.1.Key=k.
func decodeQuery(form url.Values, n *node, v reflect.Value) error {
	q := queryDecoder{form: form, names: make([]string, 0, len(form))}
	for name := range form {
		q.names = append(q.names, name)
	}
	slices.Sort(q.names)
	return q.structure(n, v, "")
}

type queryDecoder struct {
	form  url.Values
	names []string // sorted
}

// below reports whether a parameter has the name prefix or one that begins with it and a dot.
func (q *queryDecoder) below(prefix string) bool {
	if _, ok := q.form[prefix]; ok {
		return true
	}
	i, _ := slices.BinarySearch(q.names, prefix+".")
	return i < len(q.names) && strings.HasPrefix(q.names[i], prefix+".")
}

func (q *queryDecoder) structure(n *node, v reflect.Value, prefix string) error {
	for i := range n.fields {
		f := &n.fields[i]
		name := f.Wire
		if prefix != "" {
			name = prefix + "." + name
		}
		if !q.below(name) {
			continue
		}
		if err := q.value(f.node, v.Field(f.index), name); err != nil {
			return err
		}
	}
	return nil
}

func (q *queryDecoder) value(n *node, v reflect.Value, name string) error {
	switch n.kind {
	case kindStructure:
		return q.structure(n, settle(v), name)
	case kindList:
		return q.list(n, v, name)
	}
	values := q.form[name]
	if len(values) == 0 {
		return thaw.Errorf(thaw.CodeSerialization, "The parameter %s has members, but is a %s.", name, n.kind.title())
	}
	if n.kind == kindBlob {
		blob, err := base64.StdEncoding.DecodeString(values[0])
		if err != nil {
			return notConverted(values[0], n.kind)
		}
		v.SetBytes(blob)
		return nil
	}
	return setText(&field{node: n}, v, values[0], time.RFC3339)
}

// list reads name.member.1, name.member.2 and so on up to the first that is missing. The bare name is how clients send
// an empty list.
func (q *queryDecoder) list(n *node, v reflect.Value, name string) error {
	list := reflect.MakeSlice(n.typ, 0, 0)
	prefix := name + "." + n.wire
	for {
		element := prefix + "." + strconv.Itoa(list.Len()+1)
		if !q.below(element) {
			break
		}
		list = reflect.Append(list, reflect.Zero(n.typ.Elem()))
		if err := q.value(n.elem, list.Index(list.Len()-1), element); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

// writeQuery answers with an output as XML: <OpResponse><OpResult>…</OpResult><ResponseMetadata>…. An operation without
// output has no result element.
func (s *Service) writeQuery(w http.ResponseWriter, h *handler, id string, out reflect.Value) error {
	var buf bytes.Buffer
	name := h.op.name
	root := smithyxml.NewEncoder(&buf).RootElement(element(name+"Response", smithyxml.NewNamespaceAttribute("", s.model.Namespace)))
	if h.op.Output != "" {
		encodeXML(root.MemberElement(element(name+"Result")), h.output, out)
	}
	meta := root.MemberElement(element("ResponseMetadata"))
	meta.MemberElement(element("RequestId")).String(id)
	meta.Close()
	root.Close()
	w.Header().Set("X-Amzn-Requestid", id)
	writeBody(w, "text/xml", h.op.Status, buf.Bytes())
	return nil
}

func encodeXML(w smithyxml.Value, n *node, v reflect.Value) {
	switch n.kind {
	case kindString:
		w.String(v.String())
	case kindBoolean:
		w.Boolean(v.Bool())
	case kindInteger, kindLong:
		w.Long(v.Int())
	case kindDouble:
		w.Double(v.Float())
	case kindBlob:
		w.Base64EncodeBytes(v.Bytes())
	case kindTimestamp:
		w.String(v.Interface().(time.Time).UTC().Format("2006-01-02T15:04:05.999Z"))
	case kindList:
		array := w.ArrayWithCustomName(element(n.wire))
		for i := range v.Len() {
			encodeXML(array.Member(), n.elem, v.Index(i))
		}
		w.Close()
	case kindStructure:
		for i := range n.fields {
			f := &n.fields[i]
			if value, ok := held(v.Field(f.index)); ok {
				encodeXML(w.MemberElement(element(f.Wire)), f.node, value)
			}
		}
		w.Close()
	}
}
