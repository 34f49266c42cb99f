// Package pattern matches events against event patterns: the language of EventBridge rules and of the filter criteria of
// event source mappings.
//
//	{"source": ["orders"], "detail": {"total": [{"numeric": [">", 100]}], "$or": [{"vip": [true]}, {"country": ["IS"]}]}}
//
// What a pattern means, what is refused and in which words follows AWS's own matcher, github.com/aws/event-ruler, and
// answers recorded from EventBridge, also where AWS's guides say otherwise:
//
//   - 300 matches 300.0 and 3.0e2: numbers between -5e9 and 5e9 with at most 6 decimals are compared as numbers, others
//     as they are written.
//   - {"a.b": …} and {"a": {"b": …}} are the same, in patterns as in events.
//   - Fields below one array match together in one element of it. A value of [] or {} is no field at all.
//   - {"exists": false} asks that no element of any array has the field.
//
// One thing is allowed here that AWS refuses: wildcards that its matcher finds too complex. Ours takes time in
// proportion to the event, for each combination of the pattern's $or, whatever the wildcards are.
package pattern

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
)

// Limits of a pattern.
const (
	// MaxSize is how many characters a pattern may have: the longest that the APIs of EventBridge and Lambda take. The
	// quota of EventBridge is 2048 to begin with.
	MaxSize = 4096
	// MaxCombinations is how many conditions the $or of a pattern may multiply to, AWS's figure.
	MaxCombinations = 1000
	// maxNesting is that of AWS's JSON parser.
	maxNesting = 1000
	// maxFields bounds the memory of a pattern: its fields, counted once for each combination of $or.
	maxFields = 100_000
)

// Pattern is a compiled event pattern. It never changes, so any number of goroutines may match with it.
type Pattern struct {
	rules []rule
}

// rule is one combination of $or: all of its fields must match.
type rule struct {
	root    *node
	absents int // how many nodes ask whether their field exists nowhere
}

// node is a step of the paths that a rule names.
type node struct {
	children []child
	values   []matcher // one of them must match; empty where no path ends
	// absent numbers the nodes that match where their field exists nowhere in the event, from 1.
	absent int
}

type child struct {
	name string
	node *node
}

// Error says why a pattern is not valid, in AWS's words: what stands after "Event pattern is not valid. Reason: " in
// EventBridge's InvalidEventPatternException.
type Error struct {
	Reason string
}

// Error is the reason.
func (e *Error) Error() string { return e.Reason }

// Match tells whether an event, a JSON object, matches. What is no JSON object matches nothing.
func (p *Pattern) Match(event []byte) bool {
	v, ok := Decode(event)
	return ok && p.MatchValue(v)
}

// Decode reads an event for MatchValue, for callers with several patterns. It tells whether it is a JSON object.
func Decode(event []byte) (map[string]any, bool) {
	d := json.NewDecoder(bytes.NewReader(event))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil || v == nil {
		return nil, false
	}
	_, err := d.Token()
	return v, err == io.EOF
}

// MatchValue is Match for an event that is decoded already. Its values are those that encoding/json makes: objects
// map[string]any, arrays []any, strings, bool, nil, and json.Number or float64 for numbers; int and int64 are numbers
// too. json.Number keeps how a number was written, which counts for large ones.
func (p *Pattern) MatchValue(event map[string]any) bool {
	for i := range p.rules {
		if p.rules[i].match(event) {
			return true
		}
	}
	return false
}

func (r *rule) match(event map[string]any) bool {
	var seen []bool
	if r.absents > 0 {
		seen = make([]bool, r.absents+1)
		mark(r.root, event, seen)
	}
	return below(r.root, event, seen)
}

// mark notes which of the fields that n's rule wants absent exist.
func mark(n *node, v any, seen []bool) {
	switch v := v.(type) {
	case map[string]any:
		if len(n.children) == 0 {
			return
		}
		v = undotted(n, v)
		for i := range n.children {
			if w, ok := v[n.children[i].name]; ok {
				mark(n.children[i].node, w, seen)
			}
		}
	case []any:
		for _, w := range v {
			mark(n, w, seen)
		}
	default:
		if n.absent > 0 {
			seen[n.absent] = true
		}
	}
}

// missing stands for a value that is not there.
type missing struct{}

// matches tells whether the field at n and the fields below it match in v.
func (n *node) matches(v any, seen []bool) bool {
	if len(n.values) > 0 || n.absent > 0 {
		if (n.absent == 0 || seen[n.absent]) && !n.anyValue(v) {
			return false
		}
	}
	return below(n, v, seen)
}

// anyValue tells whether v, or an element of it, is one of n's values.
func (n *node) anyValue(v any) bool {
	switch v := v.(type) {
	case map[string]any, missing:
		return false
	case []any:
		for _, w := range v {
			if n.anyValue(w) {
				return true
			}
		}
		return false
	default:
		s := scalarOf(v)
		for i := range n.values {
			if n.values[i].match(&s) {
				return true
			}
		}
		return false
	}
}

// below tells whether all fields below n match in v: in one element of it where it is an array.
func below(n *node, v any, seen []bool) bool {
	if len(n.children) == 0 {
		return true
	}
	switch v := v.(type) {
	case map[string]any:
		v = undotted(n, v)
		for i := range n.children {
			w, ok := v[n.children[i].name]
			if !ok {
				w = missing{}
			}
			if !n.children[i].node.matches(w, seen) {
				return false
			}
		}
		return true
	case []any:
		for _, w := range v {
			if below(n, w, seen) {
				return true
			}
		}
	}
	for i := range n.children { // only what may be absent matches now
		if !n.children[i].node.matches(missing{}, seen) {
			return false
		}
	}
	return true
}

func (n *node) child(name string) *node {
	for i := range n.children {
		if n.children[i].name == name {
			return n.children[i].node
		}
	}
	return nil
}

// scalar is a value of an event that is neither object nor array.
type scalar struct {
	kind   byte   // one of 's' (string), 'n' (number), 'o' (true, false, null), 0 (what JSON has not)
	text   string // a string's characters, or as the value is written
	micros int64  // of a number that can be compared as one
	exact  bool   // micros is set
}

func scalarOf(v any) scalar {
	number := func(text string) scalar {
		micros, exact := toMicros(text)
		return scalar{kind: 'n', text: text, micros: micros, exact: exact}
	}
	switch v := v.(type) {
	case string:
		return scalar{kind: 's', text: v}
	case json.Number:
		return number(string(v))
	case float64:
		return number(strconv.FormatFloat(v, 'g', -1, 64))
	case int:
		return number(strconv.Itoa(v))
	case int64:
		return number(strconv.FormatInt(v, 10))
	case bool:
		return scalar{kind: 'o', text: strconv.FormatBool(v)}
	case nil:
		return scalar{kind: 'o', text: "null"}
	}
	return scalar{}
}
