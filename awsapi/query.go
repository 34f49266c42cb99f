package awsapi

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
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
// Action names. SQS takes requests at the URL of a queue too; its path is the queue then.
func findAction(m *model, r *http.Request) (incoming, error) {
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err == nil && isForm(r) {
		var text []byte
		limit := bodyLimit(m.Service, "")
		if text, err = readContent(nil, r, limit); errors.Is(err, errTooLarge) {
			return incoming{}, tooLarge("query", r.ContentLength, limit)
		} else if err == nil {
			err = addForm(form, string(text))
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
	if m.Service == "sqs" && !form.Has("QueueUrl") && len(r.URL.Path) > 1 {
		form.Set("QueueUrl", r.URL.Path)
	}
	return incoming{op: op, form: form}, nil
}

// addForm reads a form, up to the first mistake. It stands for url.ParseQuery, which takes 10,000 parameters: 1,000 metrics of
// PutMetricData have more.
func addForm(form url.Values, text string) error {
	if strings.Count(text, "&") >= maxParameters {
		return fmt.Errorf("there are more than %d", maxParameters)
	}
	for part := range strings.SplitSeq(text, "&") {
		if part == "" {
			continue
		}
		key, value, _ := strings.Cut(part, "=")
		key, err := url.QueryUnescape(key)
		if err != nil {
			return err
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return err
		}
		form[key] = append(form[key], value)
	}
	return nil
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
		name := f.Query
		if prefix != "" {
			name = prefix + "." + name
		}
		if !q.below(name) {
			continue
		}
		place, err := n.place(f, v)
		if err != nil {
			return err
		}
		if err := q.value(f.node, place, name); err != nil {
			return err
		}
	}
	return n.chosen(v, prefix)
}

func (q *queryDecoder) value(n *node, v reflect.Value, name string) error {
	switch n.kind {
	case kindStructure, kindUnion:
		return q.structure(n, settle(v), name)
	case kindList:
		return q.list(n, v, name)
	case kindMap:
		return q.mapping(n, v, name)
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
	for element := range q.elements(n, name) {
		list = reflect.Append(list, reflect.Zero(n.typ.Elem()))
		if err := q.value(n.elem, list.Index(list.Len()-1), element); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

// elements gives the names of a list's or map's elements. A flattened one is name.1, name.2, and AWS's documentation has
// examples where the only one is just name.
func (q *queryDecoder) elements(n *node, name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		prefix := name
		if n.wire != "" {
			prefix += "." + n.wire
		}
		for i := 1; ; i++ {
			element := prefix + "." + strconv.Itoa(i)
			if !q.below(element) {
				if i == 1 && n.shape.Flattened && (n.kind == kindMap || q.form.Get(name) != "") {
					yield(name)
				}
				return
			}
			if !yield(element) {
				return
			}
		}
	}
}

// mapping reads a map: name.entry.1.key=k, name.entry.1.value=v, or a flattened one, name.1.Name=k, name.1.Value=v. What an entry lacks is empty.
func (q *queryDecoder) mapping(n *node, v reflect.Value, name string) error {
	entries := reflect.MakeMap(n.typ)
	for element := range q.elements(n, name) {
		value := reflect.New(n.typ.Elem()).Elem()
		if at := element + "." + n.shape.Value.Wire; q.below(at) {
			if err := q.value(n.elem, value, at); err != nil {
				return err
			}
		}
		key := q.form.Get(element + "." + n.shape.Key.Wire)
		entries.SetMapIndex(reflect.ValueOf(key).Convert(n.typ.Key()), value)
	}
	v.Set(entries)
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
	case kindMap:
		for _, key := range sortedKeys(v) {
			encodeEntry(w.MemberElement(element(n.wire)), n, key, v.MapIndex(key))
		}
		w.Close()
	case kindStructure, kindUnion:
		for f, value := range n.members(v) {
			encodeMember(w, f, value)
		}
		w.Close()
	}
}

// encodeMember writes a member as an element, or as many as it has entries where it is flattened.
func encodeMember(w smithyxml.Value, f *field, v reflect.Value) {
	switch name := element(f.Query); {
	case !f.node.shape.Flattened:
		encodeXML(w.MemberElement(name), f.node, v)
	case f.node.kind == kindList:
		for i := range v.Len() {
			encodeXML(w.MemberElement(name), f.node.elem, v.Index(i))
		}
	default:
		for _, key := range sortedKeys(v) {
			encodeEntry(w.MemberElement(name), f.node, key, v.MapIndex(key))
		}
	}
}

// encodeEntry writes an entry of a map.
func encodeEntry(w smithyxml.Value, n *node, key, v reflect.Value) {
	encodeXML(w.MemberElement(element(n.shape.Key.Wire)), n.key, key)
	encodeXML(w.MemberElement(element(n.shape.Value.Wire)), n.elem, v)
	w.Close()
}
