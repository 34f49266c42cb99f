package awsapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"thaw"
)

// decodeJSON fills a structure from a JSON text, in one pass over the bytes and without a copy of what it stores as a
// blob but the decoded one: a deployment package has 70 MB. Unknown members are passed over; a member of the wrong type
// is a SerializationException with AWS's text.
func decodeJSON(text []byte, n *node, v reflect.Value) (nulls map[string]bool, err error) {
	if !json.Valid(text) {
		var raw json.RawMessage
		return nil, thaw.Errorf(thaw.CodeSerialization, "Could not parse request body into json: %v", json.Unmarshal(text, &raw))
	}
	d := jsonDecoder{text: text}
	if err := d.value(n, v, ""); err != nil {
		return nil, err
	}
	return d.nulls, nil
}

// maxSeconds is the end of the year 9999, and as far before 1970 as a timestamp goes.
const maxSeconds = 253402300799

// jsonDecoder walks a text that is known to be valid JSON, so that it need not look for mistakes.
type jsonDecoder struct {
	text  []byte
	at    int
	nulls map[string]bool
	taken int // bytes of memory, by the elements of lists and maps
}

// take counts what an element takes.
func (d *jsonDecoder) take(size uintptr) error {
	if d.taken += int(size); d.taken > maxElements {
		return tooMany()
	}
	return nil
}

// peek passes over white space and gives the byte that begins the next token.
func (d *jsonDecoder) peek() byte {
	for {
		switch c := d.text[d.at]; c {
		case ' ', '\t', '\r', '\n':
			d.at++
		default:
			return c
		}
	}
}

// next passes over the separator before an element; false at the closing bracket or brace.
func (d *jsonDecoder) next() bool {
	switch d.peek() {
	case ']', '}':
		d.at++
		return false
	case ',':
		d.at++
		d.peek()
	}
	return true
}

func (d *jsonDecoder) value(n *node, v reflect.Value, path string) error {
	switch c := d.peek(); c {
	case 'n':
		d.at += len("null")
		return nil
	case '{':
		switch n.kind {
		case kindStructure, kindUnion:
			return d.structure(n, settle(v), path)
		case kindMap:
			return d.mapping(n, v, path)
		}
		return thaw.Errorf(thaw.CodeSerialization, "Start of structure or map found where not expected.")
	case '[':
		if n.kind != kindList {
			return thaw.Errorf(thaw.CodeSerialization, "Start of list found where not expected")
		}
		return d.list(n, v, path)
	case 't', 'f':
		d.at += len("true")
		if c == 'f' {
			d.at++
		}
		if n.kind != kindBoolean {
			return mismatch(map[byte]string{'t': "TRUE_VALUE", 'f': "FALSE_VALUE"}[c], n.kind)
		}
		settle(v).SetBool(c == 't')
		return nil
	case '"':
		return d.stringValue(n, v)
	default:
		return d.number(n, v)
	}
}

// mismatch has the texts of AWS's JSON parser.
func mismatch(found string, want kind) error {
	switch want {
	case kindList:
		return thaw.Errorf(thaw.CodeSerialization, "Expected list or null")
	case kindMap:
		return thaw.Errorf(thaw.CodeSerialization, "Expected map or null")
	case kindStructure, kindUnion:
		return thaw.Errorf(thaw.CodeSerialization, "Expected null")
	}
	article := "a"
	if want == kindInteger {
		article = "an"
	}
	return thaw.Errorf(thaw.CodeSerialization, "%s can not be converted to %s %s", found, article, want.title())
}

func (d *jsonDecoder) structure(n *node, v reflect.Value, path string) error {
	d.at++
	for d.next() {
		name := d.string()
		d.colon()
		f := n.bodyField(name)
		if f == nil || d.peek() == 'n' {
			d.skip()
			continue
		}
		place, err := n.place(f, v)
		if err != nil {
			return err
		}
		if err := d.value(f.node, place, memberPath(path, f.Name)); err != nil {
			return err
		}
	}
	return n.chosen(v, path)
}

func (n *node) bodyField(wire []byte) *field {
	for i := range n.fields {
		if f := &n.fields[i]; f.In == inBody && f.Wire == string(wire) {
			return f
		}
	}
	return nil
}

func (d *jsonDecoder) list(n *node, v reflect.Value, path string) error {
	d.at++
	list := reflect.MakeSlice(n.typ, 0, 0)
	for d.next() {
		if err := d.take(n.typ.Elem().Size()); err != nil {
			return err
		}
		list = reflect.Append(list, reflect.Zero(n.typ.Elem()))
		here := listPath(path, list.Len())
		if err := d.null(here); err != nil {
			return err
		}
		if err := d.value(n.elem, list.Index(list.Len()-1), here); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

func (d *jsonDecoder) mapping(n *node, v reflect.Value, path string) error {
	d.at++
	entries := reflect.MakeMap(n.typ)
	for d.next() {
		key := string(d.string())
		d.colon()
		if err := d.take(elementCost + n.typ.Elem().Size()); err != nil {
			return err
		}
		if err := d.null(mapPath(path, key)); err != nil {
			return err
		}
		value := reflect.New(n.typ.Elem()).Elem()
		if err := d.value(n.elem, value, mapPath(path, key)); err != nil {
			return err
		}
		entries.SetMapIndex(reflect.ValueOf(key).Convert(n.typ.Key()), value)
	}
	v.Set(entries)
	return nil
}

// null notes that an element is null, if it is.
func (d *jsonDecoder) null(path string) error {
	if d.peek() != 'n' {
		return nil
	}
	if d.nulls == nil {
		d.nulls = make(map[string]bool)
	}
	d.nulls[path] = true
	return d.take(elementCost)
}

func (d *jsonDecoder) stringValue(n *node, v reflect.Value) error {
	s := d.string()
	switch n.kind {
	case kindString:
		settle(v).SetString(string(s))
	case kindBlob:
		blob := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
		size, err := base64.StdEncoding.Strict().Decode(blob, s)
		if err != nil {
			return thaw.Errorf(thaw.CodeSerialization, "The value can not be converted to a Blob: %v", err)
		}
		v.SetBytes(blob[:size])
	case kindTimestamp:
		t, err := time.Parse(time.RFC3339, string(s))
		if err != nil {
			return mismatch("STRING_VALUE", n.kind)
		}
		settle(v).Set(reflect.ValueOf(t.UTC()))
	default:
		return mismatch("STRING_VALUE", n.kind)
	}
	return nil
}

func (d *jsonDecoder) number(n *node, v reflect.Value) error {
	start := d.at
	for d.at < len(d.text) && strings.IndexByte("+-.eE0123456789", d.text[d.at]) >= 0 {
		d.at++
	}
	text := string(d.text[start:d.at])
	found := "NUMBER_VALUE"
	if strings.ContainsAny(text, ".eE") {
		found = "DECIMAL_VALUE"
	}
	number, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return mismatch(found, n.kind)
	}
	switch n.kind {
	case kindInteger, kindLong:
		v = settle(v)
		whole, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			if math.Abs(number) >= 1<<63 {
				return mismatch(found, n.kind)
			}
			whole = int64(number) // AWS cuts a fraction off, too
		}
		if v.OverflowInt(whole) {
			return mismatch(found, n.kind)
		}
		v.SetInt(whole)
	case kindDouble:
		settle(v).SetFloat(number)
	case kindTimestamp:
		if math.Abs(number) > maxSeconds {
			return mismatch(found, n.kind)
		}
		seconds, part := math.Modf(number)
		t := time.Unix(int64(seconds), int64(math.Round(part*1e3))*int64(time.Millisecond)).UTC()
		settle(v).Set(reflect.ValueOf(t))
	default:
		return mismatch(found, n.kind)
	}
	return nil
}

// string reads a string. The result may be a part of the text: it is only for reading.
func (d *jsonDecoder) string() []byte {
	d.peek()
	start := d.at
	end := start + 1 + bytes.IndexByte(d.text[start+1:], '"')
	if bytes.IndexByte(d.text[start:end], '\\') < 0 {
		d.at = end + 1
		if s := d.text[start+1 : end]; utf8.Valid(s) {
			return s
		}
		return bytes.ToValidUTF8(d.text[start+1:end], []byte("\uFFFD"))
	}
	d.skipString()
	var s string
	// The text is valid: json.Unmarshal has nothing to refuse.
	_ = json.Unmarshal(d.text[start:d.at], &s)
	return []byte(s)
}

func (d *jsonDecoder) skipString() {
	for d.at++; d.text[d.at] != '"'; d.at++ {
		if d.text[d.at] == '\\' {
			d.at++
		}
	}
	d.at++
}

func (d *jsonDecoder) colon() {
	d.peek()
	d.at++
}

// skip passes over a value of any kind.
func (d *jsonDecoder) skip() {
	depth := 0
	for {
		switch d.peek() {
		case '{', '[':
			depth++
			d.at++
		case '}', ']':
			depth--
			d.at++
		case ',', ':':
			d.at++
			continue
		case '"':
			d.skipString()
		default:
			for d.at < len(d.text) && strings.IndexByte(",:]} \t\r\n", d.text[d.at]) < 0 {
				d.at++
			}
		}
		if depth == 0 {
			return
		}
	}
}
