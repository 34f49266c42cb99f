package awsapi

import (
	"fmt"
	"io"
	"iter"
	"reflect"
	"strings"
	"time"

	"thaw"
)

// A node is a shape as one Go type holds it: what the codecs walk. Nodes are made once per operation, by bind, and
// shared between operations that use the same shape and type.
type node struct {
	shape  *shape
	kind   kind
	typ    reflect.Type // without the pointer of an optional value
	fields []field      // of a structure or union, in the model's order
	key    *node        // of a map
	elem   *node        // of a list or map
	wire   string       // of a list or map: the name that each element has in XML and in forms; empty if it is flattened
}

// field is a structure's member and the Go field that holds it. Of a union it is a member and the SDK's type that stands
// for it, a struct whose field Value is at index.
type field struct {
	member
	index  int
	node   *node
	choice reflect.Type
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
	kindUnion
)

var kinds = map[string]kind{
	"string": kindString, "boolean": kindBoolean, "integer": kindInteger, "long": kindLong, "double": kindDouble,
	"blob": kindBlob, "timestamp": kindTimestamp, "list": kindList, "map": kindMap, "structure": kindStructure,
}

// title is the type's name in AWS's messages.
func (k kind) title() string {
	return [...]string{"String", "Boolean", "Integer", "Long", "Double", "Blob", "Blob", "Timestamp", "List", "Map", "Structure", "Structure"}[k]
}

var (
	readerType = reflect.TypeFor[io.Reader]()
	timeType   = reflect.TypeFor[time.Time]()
)

type binder struct {
	model  *model
	made   map[nodeKey]*node
	unions map[reflect.Type][]reflect.Type // the SDK's interfaces to the structs that implement them
	lower  bool                            // the names of most members begin with a small letter
}

type nodeKey struct {
	shape string
	typ   reflect.Type
}

func newBinder(m *model) binder {
	lower, all := 0, 0
	for _, s := range m.Shapes {
		for _, member := range s.Members {
			all++
			if member.Name != goName(member.Name) {
				lower++
			}
		}
	}
	return binder{model: m, made: make(map[nodeKey]*node), unions: make(map[reflect.Type][]reflect.Type), lower: lower > all/2}
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
		return fmt.Errorf("shape %s is an event stream, for which there is HandleStream", name)
	}
	if n.shape.Union {
		n.kind = kindUnion
		return b.choices(n, name)
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
		if !n.shape.Flattened {
			n.wire = "entry"
		}
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
// the body under their Go name, in the case that the service's names have, without constraints. models/generate.py adds the few that travel elsewhere.
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
		n.fields = append(n.fields, field{member: b.unknown(gf.Name), index: i, node: inner})
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
	case t.Kind() == reflect.Map:
		n.kind, n.wire = kindMap, "entry"
		n.shape.nameEntries()
		if n.key, err = b.deriveType(t.Key()); err == nil {
			n.elem, err = b.deriveType(t.Elem())
		}
	case t.Kind() == reflect.Struct:
		n.kind = kindStructure
		err = b.derive(n)
	case t.Kind() == reflect.Interface:
		n.kind = kindUnion
		err = b.choices(n, t.Name())
	default:
		err = fmt.Errorf("no codec for the type %v", t)
	}
	return n, err
}

// choices pairs a union's members with the SDK's types that Union has named: for the union U, UMemberName has Name.
func (b *binder) choices(n *node, name string) error {
	types := b.unions[n.typ]
	if len(types) == 0 {
		return fmt.Errorf("shape %s is a union, whose types Union must name first", name)
	}
	for _, t := range types {
		member, ok := strings.CutPrefix(t.Name(), n.typ.Name()+"Member")
		value, has := t.FieldByName("Value")
		if !ok || !has {
			return fmt.Errorf("%v is not a member of the union %v", t, n.typ)
		}
		f := field{member: b.known(n.shape, member), index: value.Index[0], choice: t}
		var err error
		if f.Shape == "" {
			f.node, err = b.deriveType(value.Type)
		} else {
			f.node, err = b.bind(f.Shape, value.Type)
		}
		if err != nil {
			return fmt.Errorf("shape %s: %w", name, err)
		}
		n.fields = append(n.fields, f)
	}
	return nil
}

// known is the model's member of that Go name, or one that the SDK alone has.
func (b *binder) known(s *shape, name string) member {
	for _, m := range s.Members {
		if goName(m.Name) == name {
			return m
		}
	}
	return b.unknown(name)
}

// unknown is a member that the model lacks.
func (b *binder) unknown(name string) member {
	if b.lower {
		name = memberPath("", name)
	}
	return member{Name: name, Wire: name, Query: name}
}

// members gives the members of a structure or union that are present, with their values.
func (n *node) members(v reflect.Value) iter.Seq2[*field, reflect.Value] {
	return func(yield func(*field, reflect.Value) bool) {
		if v.Kind() == reflect.Interface {
			v = v.Elem() // a union's is a pointer
		}
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		for i := range n.fields {
			f := &n.fields[i]
			if f.choice != nil && (!v.IsValid() || f.choice != v.Type()) {
				continue
			}
			if value, ok := held(v.Field(f.index)); ok && !yield(f, value) {
				return
			}
		}
	}
}

// place is where a member's value belongs in v, a structure or union. A union takes one member.
func (n *node) place(f *field, v reflect.Value) (reflect.Value, error) {
	if n.kind != kindUnion {
		return v.Field(f.index), nil
	}
	if !v.IsNil() {
		return v, thaw.Errorf(thaw.CodeSerialization, "Exactly one member may be set, and there is another beside %s.", f.Name)
	}
	made := reflect.New(f.choice)
	v.Set(made)
	return made.Elem().Field(f.index), nil
}

// chosen reports a union that was sent with no member that is known: one that AWS has made since would be ignored.
func (n *node) chosen(v reflect.Value, path string) error {
	if n.kind == kindUnion && v.IsNil() {
		return thaw.Errorf(thaw.CodeSerialization, "Exactly one member of '%s' must be set, and be one that is known here.", path)
	}
	return nil
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
