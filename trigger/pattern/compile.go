package pattern

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Compile reads an event pattern: a JSON object of at most MaxSize characters. The error is an *Error.
func Compile(pattern []byte) (*Pattern, error) {
	if utf8.RuneCount(pattern) > MaxSize {
		return nil, &Error{Reason: "Event pattern is longer than 4096 characters"}
	}
	v, err := parse(string(pattern))
	if err != nil {
		return nil, err
	}
	c := compiler{src: source(pattern)}
	if v.kind != '{' {
		return nil, c.src.errorAt(v.seen(), "Filter is not an object")
	}
	combinations, err := c.object(v, nil, [][]field{nil}, false)
	if err != nil {
		return nil, err
	}
	p := &Pattern{rules: make([]rule, len(combinations))}
	for i, fields := range combinations {
		p.rules[i] = newRule(fields)
	}
	return p, nil
}

// field is one path of a pattern with its alternatives.
type field struct {
	path   []string
	values []matcher
	absent bool // {"exists": false} is among the alternatives
}

func newRule(fields []field) rule {
	r := rule{root: &node{}}
	for _, f := range fields {
		n := r.root
		for _, step := range f.path {
			next := n.child(step)
			if next == nil {
				next = &node{}
				n.children = append(n.children, child{step, next})
			}
			n = next
		}
		n.values = f.values // of a path that comes twice the last counts, as on AWS
		n.absent = 0
		if f.absent {
			r.absents++
			n.absent = r.absents
		}
	}
	return r
}

type compiler struct {
	src source
}

// reserved are the names that may not be fields within $or: AWS's operators, those that it has and those it may have.
var reserved = []string{
	"exactly", "equals-ignore-case", "prefix", "suffix", "anything-but", "exists", "wildcard", "numeric", "cidr",
	"=", "<", "<=", ">", ">=", "regex", "not-wildcard", "not-equals-ignore-case",
	"date-after", "date-on-or-after", "date-before", "date-on-or-before", "in-date-range",
	"ip-address-in-range", "ip-address-not-in-range",
}

// object adds the fields of v to every combination.
func (c *compiler) object(v *value, path []string, combinations [][]field, inOr bool) ([][]field, error) {
	if len(v.members) == 0 {
		return nil, c.src.errorAt(v.end, "Empty objects are not allowed")
	}
	for _, m := range v.members {
		var err error
		below := slices.Concat(path, strings.Split(m.name, "."))
		switch {
		case m.name == "$or":
			combinations, err = c.or(m.value, path, combinations)
		case inOr && slices.Contains(reserved, m.name):
			err = c.src.errorAt(m.value.seen(), "%s is Ruler reserved fieldName which cannot be used inside $or.", m.name)
		case m.value.kind == '{':
			combinations, err = c.object(m.value, below, combinations, inOr)
		case m.value.kind == '[':
			var f field
			if f, err = c.field(m.value, below); err != nil {
				break
			}
			for i := range combinations {
				combinations[i] = append(combinations[i], f)
			}
			err = c.bounded(m.value, combinations)
		default:
			err = c.src.errorAt(m.value.seen(), "\"%s\" must be an object or an array", m.name)
		}
		if err != nil {
			return nil, err
		}
	}
	return combinations, nil
}

// or multiplies the combinations with the objects of v.
func (c *compiler) or(v *value, path []string, combinations [][]field) ([][]field, error) {
	if v.kind != '[' {
		return nil, c.src.errorAt(v.seen(), "It must be an Array followed with $or.")
	}
	var all [][]field
	for _, item := range v.items {
		if item.kind != '{' {
			return nil, c.src.errorAt(item.seen(), "Only JSON object is allowed in array of $or relationship.")
		}
		forked := make([][]field, len(combinations))
		for i := range combinations {
			forked[i] = slices.Clip(combinations[i])
		}
		forked, err := c.object(item, path, forked, true)
		if err != nil {
			return nil, err
		}
		if all = append(all, forked...); len(all) > MaxCombinations {
			return nil, c.src.errorAt(v.end, "Rules with more than %d combinations of $or are not allowed", MaxCombinations)
		}
	}
	if len(v.items) < 2 {
		return nil, c.src.errorAt(v.end, "There must have at least 2 Objects in $or relationship.")
	}
	return all, c.bounded(v, all)
}

// bounded refuses what would take too much memory.
func (c *compiler) bounded(v *value, combinations [][]field) error {
	n := 0
	for _, fields := range combinations {
		n += len(fields)
	}
	if n > maxFields {
		return c.src.errorAt(v.end, "Rules with more than %d fields in all combinations of $or are not allowed", maxFields)
	}
	return nil
}

// field reads the alternatives of a path.
func (c *compiler) field(v *value, path []string) (field, error) {
	f := field{path: path}
	for _, item := range v.items {
		switch item.kind {
		case 's':
			f.values = append(f.values, ofString(item.text))
		case 'n':
			f.values = append(f.values, ofNumber(item.text))
		case 'o':
			f.values = append(f.values, matcher{op: opWord, text: item.text})
		case '{':
			m, absent, err := c.expression(item)
			if err != nil {
				return f, err
			}
			if f.absent = f.absent || absent; !absent {
				f.values = append(f.values, m)
			}
		default:
			return f, c.src.errorAt(item.seen(), "Match value must be String, number, true, false, or null")
		}
	}
	if len(v.items) == 0 {
		return f, c.src.errorAt(v.end, "Empty arrays are not allowed")
	}
	return f, nil
}

const (
	onlyOneKey = "Only one key allowed in match expression"
	tooMany    = "Too many elements in numeric expression"
)

// expression reads one of a field's alternatives that is an object. absent means {"exists": false}.
func (c *compiler) expression(v *value) (m matcher, absent bool, err error) {
	if len(v.members) == 0 {
		return m, false, c.src.errorAt(v.end, "Match expression name not found")
	}
	arg, more := v.members[0].value, onlyOneKey
	switch name := v.members[0].name; name {
	case "exactly":
		m, err = c.text(arg, opString, "exact")
	case "prefix":
		m, err = c.end(arg, opPrefix, opFoldPrefix, "prefix", "Prefix")
	case "suffix":
		m, err = c.end(arg, opSuffix, opFoldSuffix, "suffix", "Suffix")
	case "equals-ignore-case":
		m, err = c.text(arg, opFold, "equals-ignore-case")
	case "wildcard":
		if m, err = c.text(arg, opWildcard, "wildcard"); err == nil {
			m, err = c.wildcard(arg.text, arg.end)
		}
	case "cidr":
		if m, err = c.text(arg, opNetwork, "prefix"); err == nil { // so AWS says
			network, wrong := parseNetwork(arg.text)
			if wrong != "" {
				err = &Error{Reason: wrong}
			}
			m = matcher{op: opNetwork, network: network}
		}
	case "exists":
		if arg.kind != 'o' || arg.text == "null" {
			err = c.src.errorAt(arg.seen(), "exists match pattern must be either true or false.")
		}
		m, absent = matcher{op: opExists}, arg.text == "false"
	case "numeric":
		more = tooMany
		m, err = c.numeric(arg)
	case "anything-but":
		more = tooMany
		m, err = c.anythingBut(arg)
	default:
		err = c.src.errorAt(arg.seen(), "Unrecognized match type %s", name)
	}
	if err == nil && len(v.members) > 1 {
		err = c.src.errorAt(v.members[1].value.seen(), "%s", more)
	}
	return m, absent, err
}

// text reads an argument that is a string.
func (c *compiler) text(arg *value, o op, called string) (matcher, error) {
	if arg.kind != 's' {
		return matcher{}, c.src.errorAt(arg.seen(), "%s match pattern must be a string", called)
	}
	return matcher{op: o, text: arg.text, runes: utf8.RuneCountInString(arg.text)}, nil
}

// end reads the argument of prefix and suffix: a string, or an object with equals-ignore-case.
func (c *compiler) end(arg *value, o, fold op, called, title string) (matcher, error) {
	if arg.kind != '{' {
		return c.text(arg, o, called)
	}
	if len(arg.members) == 0 {
		return matcher{}, c.src.errorAt(arg.end, "%s expression name not found", title)
	}
	inner := arg.members[0]
	if inner.name != "equals-ignore-case" {
		return matcher{}, c.src.errorAt(inner.value.seen(), "Unsupported %s pattern: %s", called, inner.name)
	}
	m, err := c.text(inner.value, fold, inner.name)
	if err == nil && len(arg.members) > 1 {
		err = c.src.errorAt(arg.members[1].value.seen(), onlyOneKey)
	}
	return m, err
}

func (c *compiler) wildcard(text string, pos int) (matcher, error) {
	parts, wrong, at := parseWildcard(text)
	if wrong != "" {
		return matcher{}, c.src.errorAt(pos, "%s at pos %d", wrong, at)
	}
	return wildcard(parts), nil
}
