package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// condition is what a JSON pattern asks of a message.
type condition interface {
	match(v any) bool
	fields(fn func(selector))
}

type (
	both   struct{ a, b condition }
	either struct{ a, b condition }
	// compares wants a field's value to satisfy a test.
	compares struct {
		selector selector
		test     test
	}
	// is wants a field to be null, true or false, or, with absent, not to be there.
	is struct {
		selector selector
		value    any
		absent   bool
	}
)

func (c both) match(v any) bool   { return c.a.match(v) && c.b.match(v) }
func (c either) match(v any) bool { return c.a.match(v) || c.b.match(v) }

func (c compares) match(v any) bool {
	return c.selector.any(v, func(found any) bool {
		switch found := found.(type) {
		case string:
			return c.test.matchText(found)
		case json.Number:
			return c.test.matchNumber(found.String())
		case bool:
			return c.test.matchText(strconv.FormatBool(found))
		}
		return false
	})
}

func (c is) match(v any) bool {
	found := c.selector.any(v, func(found any) bool { return c.absent || found == c.value })
	return found != c.absent
}

func (c both) fields(fn func(selector))     { c.a.fields(fn); c.b.fields(fn) }
func (c either) fields(fn func(selector))   { c.a.fields(fn); c.b.fields(fn) }
func (c compares) fields(fn func(selector)) { fn(c.selector) }
func (c is) fields(fn func(selector))       { fn(c.selector) }

// selector names a place in a JSON document: $.a.b[0].c. A step is a member's name, an index, or every element.
type selector struct {
	text  string
	steps []step
}

type step struct {
	name  string
	index int // -1: name counts; -2: every element
}

// any reports whether the value at the selector, or one of them, satisfies fn.
func (s selector) any(v any, fn func(any) bool) bool { return walk(v, s.steps, fn) }

func walk(v any, steps []step, fn func(any) bool) bool {
	for i, st := range steps {
		switch t := v.(type) {
		case map[string]any:
			next, ok := t[st.name]
			if st.index != -1 || !ok {
				return false
			}
			v = next
		case []any:
			switch {
			case st.index == -2:
				for _, element := range t {
					if walk(element, steps[i+1:], fn) {
						return true
					}
				}
				return false
			case st.index < 0 || st.index >= len(t):
				return false
			}
			v = t[st.index]
		default:
			return false
		}
	}
	return fn(v)
}

func (s selector) find(v any) (found any, ok bool) {
	ok = s.any(v, func(x any) bool { found = x; return true })
	return found, ok
}

func (p *parser) json() (*Pattern, error) {
	p.at++
	c, err := p.or()
	if err != nil {
		return nil, err
	}
	p.skip()
	if !p.take("}") {
		return nil, fmt.Errorf("a closing brace is missing at character %d", p.at+1)
	}
	if p.skip(); p.at < len(p.text) {
		return nil, errors.New("something follows the closing brace")
	}
	return &Pattern{json: c}, nil
}

func (p *parser) or() (condition, error) {
	a, err := p.and()
	for err == nil {
		if p.skip(); !p.take("||") {
			return a, nil
		}
		var b condition
		b, err = p.and()
		a = either{a, b}
	}
	return nil, err
}

func (p *parser) and() (condition, error) {
	a, err := p.one()
	for err == nil {
		if p.skip(); !p.take("&&") {
			return a, nil
		}
		var b condition
		b, err = p.one()
		a = both{a, b}
	}
	return nil, err
}

func (p *parser) one() (condition, error) {
	if p.skip(); p.take("(") {
		if p.depth++; p.depth > maxDepth {
			return nil, fmt.Errorf("its parentheses nest deeper than %d", maxDepth)
		}
		c, err := p.or()
		if err != nil {
			return nil, err
		}
		p.depth--
		if p.skip(); !p.take(")") {
			return nil, fmt.Errorf("a closing parenthesis is missing at character %d", p.at+1)
		}
		return c, nil
	}
	s, err := p.selector()
	if err != nil {
		return nil, err
	}
	p.skip()
	switch {
	case p.keyword("IS"):
		for word, value := range map[string]any{"NULL": nil, "TRUE": true, "FALSE": false} {
			if p.keyword(word) {
				return is{selector: s, value: value}, nil
			}
		}
		return nil, errors.New("IS wants NULL, TRUE or FALSE behind it")
	case p.keyword("NOT"):
		if !p.keyword("EXISTS") {
			return nil, errors.New("NOT wants EXISTS behind it")
		}
		return is{selector: s, absent: true}, nil
	}
	t, err := p.test()
	return compares{s, t}, err
}

// keyword takes a word in any case.
func (p *parser) keyword(word string) bool {
	p.skip()
	end := p.at + len(word)
	if end > len(p.text) || !strings.EqualFold(p.text[p.at:end], word) || end < len(p.text) && isWord(p.text[end]) {
		return false
	}
	p.at = end
	return true
}

// selector takes $, then members behind dots or in brackets, and indexes.
func (p *parser) selector() (selector, error) {
	p.skip()
	begin := p.at
	s := selector{}
	if !p.take("$") {
		return s, fmt.Errorf("a selector that begins with $ is missing at character %d", p.at+1)
	}
	for {
		switch {
		case p.take("."):
			name := p.name()
			if name == "" {
				return s, fmt.Errorf("a name is missing at character %d", p.at+1)
			}
			s.steps = append(s.steps, step{name, -1})
		case p.take("["):
			st, err := p.bracket()
			if err != nil {
				return s, err
			}
			s.steps = append(s.steps, st)
		default:
			s.text = p.text[begin:p.at]
			return s, nil
		}
	}
}

func (p *parser) name() string {
	begin := p.at
	for p.at < len(p.text) && (isWord(p.text[p.at]) || p.text[p.at] == '-' || p.text[p.at] == '@') {
		p.at++
	}
	return p.text[begin:p.at]
}

func (p *parser) bracket() (step, error) {
	end := strings.IndexByte(p.text[p.at:], ']')
	if end < 0 {
		return step{}, errors.New("a bracket is not closed")
	}
	inner := p.text[p.at : p.at+end]
	p.at += end + 1
	switch n := len(inner); {
	case inner == "*":
		return step{index: -2}, nil
	case n > 2 && (inner[0] == '\'' || inner[0] == '"') && inner[n-1] == inner[0]:
		return step{inner[1 : n-1], -1}, nil
	}
	index, err := strconv.Atoi(inner)
	if err != nil || index < 0 {
		return step{}, fmt.Errorf("[%s] is neither an index nor a name in quotes", inner)
	}
	return step{index: index}, nil
}
