package awsapi

import (
	"errors"
	"math"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"thaw"
)

// The protocol smithy-rpc-v2-cbor: the operation is in the path, input and output are CBOR maps
// (https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html).
const (
	cborContentType = "application/cbor"
	rpcHeader       = "Smithy-Protocol"
	rpcProtocol     = "rpc-v2-cbor"
	rpcPrefix       = "/service/"
	rpcOperation    = "/operation/"
)

// maxDepth bounds how deep a request's values may nest; the models' own nest 12 deep.
const maxDepth = 32

// cborForm reads what clients may send, of any length form and float size, into Go's plain types; cborText writes maps in
// the order of their keys, so that one answer has one form.
var (
	cborForm = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: maxDepth, DefaultMapType: reflect.TypeFor[map[string]any](),
		MaxArrayElements: maxUnpacked, MaxMapPairs: maxUnpacked,
	}.DecMode())
	cborText = must(cbor.EncOptions{Sort: cbor.SortBytewiseLexical}.EncMode())
)

// must is for options that are known when the program is written.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err) //nolint:forbidigo // every start would find it
	}
	return v
}

func isCBOR(r *http.Request) bool { return r.Header.Get(rpcHeader) == rpcProtocol }

// findPath finds the operation that the path names: /service/GraniteServiceVersion20100801/operation/ListMetrics.
func findPath(m *model, r *http.Request) (incoming, error) {
	_, rest, _ := strings.Cut(r.URL.Path, rpcPrefix)
	service, name, _ := strings.Cut(rest, rpcOperation)
	op := m.Operations[name]
	if service != m.Target || op == nil || r.Method != http.MethodPost {
		return incoming{}, thaw.Errorf(thaw.CodeUnknownOperation, "%s has no operation at %s %s.", serviceTitle(m.Service), r.Method, r.URL.EscapedPath())
	}
	return incoming{op: op}, nil
}

// decodeContent fills an input from a CBOR body; an empty one is an input without members.
func decodeContent(w http.ResponseWriter, r *http.Request, h *handler, in reflect.Value) (nulls map[string]bool, err error) {
	text, err := readContent(w, r, h.limit)
	switch {
	case errors.Is(err, errTooLarge):
		return nil, tooLarge(h.op.name, r.ContentLength, h.limit)
	case err != nil:
		return nil, err
	case len(text) == 0:
		return nil, nil
	}
	return decodeCBOR(text, h.input, in)
}

func decodeCBOR(text []byte, n *node, v reflect.Value) (nulls map[string]bool, err error) {
	if items(text) > maxItems {
		return nil, tooMany()
	}
	var tree any
	if err := cborForm.Unmarshal(text, &tree); err != nil {
		return nil, thaw.Errorf(thaw.CodeSerialization, "Could not parse request body into cbor: %v", err)
	}
	if _, ok := tree.(map[string]any); !ok {
		return nil, thaw.Errorf(thaw.CodeSerialization, "Could not parse request body into cbor: it is not a map")
	}
	d := cborDecoder{}
	if err := d.value(n, v, tree, ""); err != nil {
		return nil, err
	}
	return d.nulls, nil
}

// items counts the values and keys of a text, whose form need not be right, without decoding it.
func items(text []byte) (count int) {
	for len(text) > 0 && count <= maxItems {
		count++
		major, size := text[0]>>5, uint64(text[0]&0x1f)
		text = text[1:]
		if size >= 24 && size <= 27 { // it stands in the bytes that follow
			width := 1 << (size - 24)
			if width > len(text) {
				return count
			}
			size = 0
			for _, b := range text[:width] {
				size = size<<8 | uint64(b)
			}
			text = text[width:]
		} else if size > 27 { // not given: the parts follow, up to an end
			continue
		}
		if major == 2 || major == 3 { // bytes and texts
			text = text[min(size, uint64(len(text))):]
		}
	}
	return count
}

// cborDecoder stores a decoded text. Unknown members are passed over.
type cborDecoder struct {
	nulls map[string]bool // paths of the elements of lists and maps that were null
}

func (d *cborDecoder) value(n *node, v reflect.Value, x any, path string) error {
	if x == nil {
		return nil
	}
	switch n.kind {
	case kindStructure, kindUnion:
		if members, ok := x.(map[string]any); ok {
			return d.structure(n, settle(v), members, path)
		}
	case kindList:
		if elements, ok := x.([]any); ok {
			return d.list(n, v, elements, path)
		}
	case kindMap:
		if entries, ok := x.(map[string]any); ok {
			return d.mapping(n, v, entries, path)
		}
	default:
		if d.simple(n, v, x) {
			return nil
		}
	}
	return thaw.Errorf(thaw.CodeSerialization, "The value of '%s' can not be converted to %s", path, n.kind.title())
}

func (d *cborDecoder) structure(n *node, v reflect.Value, members map[string]any, path string) error {
	for i := range n.fields {
		f := &n.fields[i]
		x := members[f.Wire]
		if x == nil {
			continue
		}
		place, err := n.place(f, v)
		if err != nil {
			return err
		}
		if err := d.value(f.node, place, x, memberPath(path, f.Name)); err != nil {
			return err
		}
	}
	return n.chosen(v, path)
}

func (d *cborDecoder) list(n *node, v reflect.Value, elements []any, path string) error {
	list := reflect.MakeSlice(n.typ, len(elements), len(elements))
	for i, x := range elements {
		here := listPath(path, i+1)
		d.null(x, here)
		if err := d.value(n.elem, list.Index(i), x, here); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

func (d *cborDecoder) mapping(n *node, v reflect.Value, entries map[string]any, path string) error {
	all := reflect.MakeMapWithSize(n.typ, len(entries))
	for key, x := range entries {
		here := mapPath(path, key)
		d.null(x, here)
		value := reflect.New(n.typ.Elem()).Elem()
		if err := d.value(n.elem, value, x, here); err != nil {
			return err
		}
		all.SetMapIndex(reflect.ValueOf(key).Convert(n.typ.Key()), value)
	}
	v.Set(all)
	return nil
}

func (d *cborDecoder) null(x any, path string) {
	if x != nil {
		return
	}
	if d.nulls == nil {
		d.nulls = make(map[string]bool)
	}
	d.nulls[path] = true
}

// simple stores a value without parts; false when it has another type.
func (d *cborDecoder) simple(n *node, v reflect.Value, x any) bool {
	switch n.kind {
	case kindString:
		if s, ok := x.(string); ok {
			settle(v).SetString(s)
			return true
		}
	case kindBoolean:
		if b, ok := x.(bool); ok {
			settle(v).SetBool(b)
			return true
		}
	case kindInteger, kindLong:
		whole, ok := integer(x)
		v = settle(v)
		if ok && !v.OverflowInt(whole) {
			v.SetInt(whole)
			return true
		}
	case kindDouble:
		if f, ok := double(x); ok {
			settle(v).SetFloat(f)
			return true
		}
	case kindBlob:
		if b, ok := x.([]byte); ok {
			v.SetBytes(b)
			return true
		}
	case kindTimestamp:
		// The library gives no other sign of NaN than the zero time.
		if t, ok := x.(time.Time); ok && !t.IsZero() && t.Unix() >= -maxSeconds && t.Unix() <= maxSeconds {
			settle(v).Set(reflect.ValueOf(t.Round(time.Millisecond).UTC()))
			return true
		}
	}
	return false
}

func integer(x any) (int64, bool) {
	switch x := x.(type) {
	case uint64:
		return int64(x), x <= math.MaxInt64
	case int64:
		return x, true
	}
	return 0, false
}

// double takes integers too: clients write a number in its shortest form.
func double(x any) (float64, bool) {
	switch x := x.(type) {
	case float64:
		return x, true
	case uint64:
		return float64(x), true
	case int64:
		return float64(x), true
	}
	return 0, false
}

// writeCBOR answers with an output as a CBOR map; an operation without output has no body.
func (s *Service) writeCBOR(w http.ResponseWriter, h *handler, id string, out reflect.Value) error {
	w.Header().Set("X-Amzn-Requestid", id)
	w.Header().Set(rpcHeader, rpcProtocol)
	if h.op.Output == "" {
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(h.op.Status)
		return nil
	}
	body, err := cborText.Marshal(cborTree(h.output, out))
	if err != nil {
		return err
	}
	writeBody(w, cborContentType, h.op.Status, body)
	return nil
}

func writeCBORError(w http.ResponseWriter, m *model, e *thaw.Error, form wireForm) {
	status, kind, key := errorForm(w, m, e, form)
	body, err := cborText.Marshal(map[string]string{"__type": kind, key: e.Message})
	if err != nil {
		body = nil // strings can be encoded
	}
	w.Header().Set(rpcHeader, rpcProtocol)
	writeBody(w, cborContentType, status, body)
}

// cborTree is a value as the encoder takes it: maps, lists and plain types.
func cborTree(n *node, v reflect.Value) any {
	switch n.kind {
	case kindString:
		return v.String()
	case kindBoolean:
		return v.Bool()
	case kindInteger, kindLong:
		return v.Int()
	case kindDouble:
		return v.Float()
	case kindBlob:
		return v.Bytes()
	case kindTimestamp:
		t := v.Interface().(time.Time)
		return cbor.Tag{Number: 1, Content: float64(t.UnixMilli()) / 1000}
	case kindList:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = cborElement(n.elem, v.Index(i))
		}
		return list
	case kindMap:
		entries := make(map[string]any, v.Len())
		for _, key := range v.MapKeys() {
			entries[key.String()] = cborElement(n.elem, v.MapIndex(key))
		}
		return entries
	default:
		members := make(map[string]any)
		for f, value := range n.members(v) {
			members[f.Wire] = cborTree(f.node, value)
		}
		return members
	}
}

// cborElement is an element of a list or map, null where it is none.
func cborElement(n *node, v reflect.Value) any {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if !v.IsValid() {
		return nil
	}
	return cborTree(n, v)
}
