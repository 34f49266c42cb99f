package awsapi

import (
	"fmt"
	"io"
	"reflect"
	"time"
)

// A node is a shape as one Go type holds it: what the codecs walk. Nodes are made once per operation, by bind, and
// shared between operations that use the same shape and type.
type node struct {
	shape  *shape
	kind   kind
	typ    reflect.Type // without the pointer of an optional value
	fields []field      // of a structure, in the model's order
	key    *node        // of a map
	elem   *node        // of a list or map
	wire   string       // of a list: the name that each element has in XML and in forms; empty if it is flattened
}

// field is a structure's member and the Go field that holds it.
type field struct {
	member
	index int
	node  *node
}

type kind int

const (
	kindString kind = iota
	kindBoolean
	kindInteger // 32 bits
	kindLong    // 64 bits
	kindDouble
	kindBlob
	kindStream // a blob that the SDK reads as a stream
	kindTimestamp
	kindList
	kindMap
	kindStructure
)

var kinds = map[string]kind{
	"string": kindString, "boolean": kindBoolean, "integer": kindInteger, "long": kindLong, "double": kindDouble,
	"blob": kindBlob, "timestamp": kindTimestamp, "list": kindList, "map": kindMap, "structure": kindStructure,
}

// title is the type's name in AWS's messages.
func (k kind) title() string {
	return [...]string{"String", "Boolean", "Integer", "Long", "Double", "Blob", "Blob", "Timestamp", "List", "Map", "Structure"}[k]
}

var (
	readerType = reflect.TypeFor[io.Reader]()
	timeType   = reflect.TypeFor[time.Time]()
)

type binder struct {
	model *model
	made  map[nodeKey]*node
}

type nodeKey struct {
	shape string
	typ   reflect.Type
}

func newBinder(m *model) binder {
	return binder{model: m, made: make(map[nodeKey]*node)}
}

// bind pairs the named shape with a Go type. An empty name is the shape without members.
func (b *binder) bind(name string, t reflect.Type) (*node, error) {
	if name == "" {
		if t.Kind() != reflect.Struct {
			return nil, fmt.Errorf("%v is not a struct", t)
		}
		n := &node{shape: &shape{Type: "structure"}, kind: kindStructure, typ: t}
		return n, b.derive(n)
	}
	key := nodeKey{name, t}
	if n := b.made[key]; n != nil {
		return n, nil
	}
	s := b.model.Shapes[name]
	if s == nil {
		return nil, fmt.Errorf("the model has no shape %s", name)
	}
	n := &node{shape: s, typ: t}
	b.made[key] = n // before its members: shapes may contain themselves
	if err := b.fill(n, name); err != nil {
		delete(b.made, key)
		return nil, err
	}
	return n, nil
}

func (b *binder) fill(n *node, name string) error {
	var ok bool
	if n.kind, ok = kinds[n.shape.Type]; !ok {
		return fmt.Errorf("shape %s has the unknown type %q", name, n.shape.Type)
	}
	if n.kind == kindBlob && n.typ == readerType {
		n.kind = kindStream
	}
	if n.shape.EventStream {
		return fmt.Errorf("shape %s is an event stream, which has no codec", name)
	}
	if b.model.Protocol == protocolQuery && n.kind == kindMap {
		return fmt.Errorf("shape %s is a map that is not flattened, which no implemented query operation has", name)
	}
	if !n.fits() {
		return fmt.Errorf("shape %s is a %s, but the Go type is %v", name, n.shape.Type, n.typ)
	}
	var err error
	switch n.kind {
	case kindList:
		n.wire = n.shape.Member.Wire
		if n.wire == "" && !n.shape.Flattened {
			n.wire = "member"
		}
		n.elem, err = b.bind(n.shape.Member.Shape, n.typ.Elem())
	case kindMap:
		if n.key, err = b.bind(n.shape.Key.Shape, n.typ.Key()); err == nil {
			n.elem, err = b.bind(n.shape.Value.Shape, n.typ.Elem())
		}
	case kindStructure:
		for _, m := range n.shape.Members {
			f, err := b.field(m, n.typ)
			if err != nil {
				return fmt.Errorf("shape %s: %w", name, err)
			}
			n.fields = append(n.fields, f)
		}
		return b.derive(n)
	}
	return err
}

// derive adds the fields that the SDK's struct has beyond the model, because the SDK is the newer of the two: members of
// the body under their Go name, without constraints. models/generate.py adds the few that travel elsewhere.
func (b *binder) derive(n *node) error {
	known := make(map[int]bool, len(n.fields))
	for _, f := range n.fields {
		known[f.index] = true
	}
	for i := range n.typ.NumField() {
		gf := n.typ.Field(i)
		if known[i] || !gf.IsExported() || gf.Name == "ResultMetadata" {
			continue
		}
		inner, err := b.deriveType(gf.Type)
		if err != nil {
			return fmt.Errorf("%v.%s: %w", n.typ, gf.Name, err)
		}
		n.fields = append(n.fields, field{member: member{Name: gf.Name, Wire: gf.Name, Query: gf.Name}, index: i, node: inner})
	}
	return nil
}

// deriveType makes a node from the Go type alone.
func (b *binder) deriveType(t reflect.Type) (*node, error) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	key := nodeKey{"", t}
	if n := b.made[key]; n != nil {
		return n, nil
	}
	n := &node{shape: &shape{}, typ: t}
	b.made[key] = n
	var err error
	switch {
	case t == timeType:
		n.kind = kindTimestamp
	case t.Kind() == reflect.String:
		n.kind = kindString
	case t.Kind() == reflect.Bool:
		n.kind = kindBoolean
	case t.Kind() == reflect.Int32:
		n.kind = kindInteger
	case t.Kind() == reflect.Int64:
		n.kind = kindLong
	case t.Kind() == reflect.Float64:
		n.kind = kindDouble
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		n.kind = kindBlob
	case t.Kind() == reflect.Slice:
		n.kind, n.wire = kindList, "member"
		n.elem, err = b.deriveType(t.Elem())
	case t.Kind() == reflect.Map && b.model.Protocol != protocolQuery:
		n.kind = kindMap
		if n.key, err = b.deriveType(t.Key()); err == nil {
			n.elem, err = b.deriveType(t.Elem())
		}
	case t.Kind() == reflect.Struct:
		n.kind = kindStructure
		err = b.derive(n)
	default:
		err = fmt.Errorf("no codec for the type %v", t)
	}
	return n, err
}

func (b *binder) field(m member, t reflect.Type) (field, error) {
	goField, ok := t.FieldByName(goName(m.Name))
	if !ok || len(goField.Index) > 1 { // the codecs do not look into embedded structs
		return field{}, fmt.Errorf("%v has no field %s", t, goName(m.Name))
	}
	ft := goField.Type
	if ft.Kind() == reflect.Pointer {
		ft = ft.Elem()
	}
	n, err := b.bind(m.Shape, ft)
	return field{member: m, index: goField.Index[0], node: n}, err
}

// goName is the SDK's name of a member: as the model's, with the first letter in upper case.
func goName(member string) string {
	if c := member[0]; 'a' <= c && c <= 'z' {
		return string(c-'a'+'A') + member[1:]
	}
	return member
}

func (n *node) fits() bool {
	switch n.kind {
	case kindString:
		return n.typ.Kind() == reflect.String
	case kindBoolean:
		return n.typ.Kind() == reflect.Bool
	case kindInteger:
		return n.typ.Kind() == reflect.Int32
	case kindLong:
		return n.typ.Kind() == reflect.Int64
	case kindDouble:
		return n.typ.Kind() == reflect.Float64
	case kindBlob:
		return n.typ.Kind() == reflect.Slice && n.typ.Elem().Kind() == reflect.Uint8
	case kindStream:
		return true
	case kindTimestamp:
		return n.typ == timeType
	case kindList:
		return n.typ.Kind() == reflect.Slice
	case kindMap:
		return n.typ.Kind() == reflect.Map && n.typ.Key().Kind() == reflect.String
	default:
		return n.typ.Kind() == reflect.Struct
	}
}

// settle gives the place to store a value in: v itself, or what a new pointer in v points to.
func settle(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		return v.Elem()
	}
	return v
}

// held gives the value in v, or ok = false when the member is absent: a nil pointer, slice, map or reader, or the empty
// string of an enumeration that the SDK holds without pointer. Numbers and booleans without pointer are always present.
func held(v reflect.Value) (value reflect.Value, ok bool) {
	switch v.Kind() {
	case reflect.Pointer:
		return v.Elem(), !v.IsNil()
	case reflect.Slice, reflect.Map, reflect.Interface:
		return v, !v.IsNil()
	case reflect.String:
		return v, v.Len() > 0
	default:
		return v, true
	}
}
