package pattern

import (
	"maps"
	"strings"
)

// tree is an object that is made here of keys with dots, until it is handed out.
type tree map[string]any

// undotted gives v with its keys that contain dots, as far as n asks for them, as objects within objects. v stays as it is.
func undotted(n *node, v map[string]any) map[string]any {
	var t tree
	for key, val := range v {
		if path := n.path(key); path != nil {
			if t == nil {
				t = tree{}
			}
			t.put(path, val)
		}
	}
	if t == nil {
		return v
	}
	return t.onto(v).(map[string]any)
}

// path splits a key at its dots, if it has any and n has a node there.
func (n *node) path(key string) []string {
	if strings.IndexByte(key, '.') < 0 {
		return nil
	}
	var path []string
	for step := range strings.SplitSeq(key, ".") {
		if n = n.child(step); n == nil {
			return nil
		}
		path = append(path, step)
	}
	return path
}

// put adds a value. Where there is one already, either counts, as if they stood in an array.
func (t tree) put(path []string, val any) {
	for ; len(path) > 1; path = path[1:] {
		switch old := t[path[0]].(type) {
		case tree:
			t = old
		default:
			below := tree{}
			if _, ok := t[path[0]]; ok {
				t[path[0]] = []any{old, below}
			} else {
				t[path[0]] = below
			}
			t = below
		}
	}
	if old, ok := t[path[0]]; ok {
		val = []any{plain(old), val}
	}
	t[path[0]] = val
}

// onto gives v and t in one.
func (t tree) onto(v any) any {
	object, ok := v.(map[string]any)
	if !ok {
		return []any{v, plain(t)}
	}
	out := maps.Clone(object)
	for key, val := range t {
		old, ok := out[key]
		below, isTree := val.(tree)
		switch {
		case ok && isTree:
			out[key] = below.onto(old)
		case ok:
			out[key] = []any{old, plain(val)}
		default:
			out[key] = plain(val)
		}
	}
	return out
}

func plain(v any) any {
	switch v := v.(type) {
	case tree:
		for key, val := range v {
			v[key] = plain(val)
		}
		return map[string]any(v)
	case []any:
		if len(v) == 2 { // made by put, perhaps
			if below, ok := v[1].(tree); ok {
				return []any{plain(v[0]), plain(below)}
			}
		}
	}
	return v
}
