package pattern

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// value is a part of a pattern's JSON with its place in the text, which AWS's errors name.
type value struct {
	kind       byte // '{', '[', 's' (string), 'n' (number), 'o' (true, false, null)
	start, end int
	text       string // a string's characters; a number or a word as it is written
	members    []member
	items      []*value
}

type member struct {
	name  string
	value *value
}

// seen is the place that AWS's parser has come to when it knows what v is: behind the first character of a string, an
// object or an array, and behind the whole of anything else.
func (v *value) seen() int {
	switch v.kind {
	case '{', '[', 's':
		return v.start + 1
	}
	return v.end
}

// source is a pattern's text.
type source string

// errorAt makes an Error that ends with a place, in the form of AWS's JSON parser.
func (s source) errorAt(pos int, format string, args ...any) *Error {
	return &Error{Reason: fmt.Sprintf(format, args...) + s.place(pos)}
}

func (s source) place(pos int) string {
	const shown = 500
	before := string(s[:pos])
	line := 1 + strings.Count(before, "\n")
	column := 1 + utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
	excerpt, rest := string(s), ""
	if n := utf8.RuneCountInString(excerpt); n > shown {
		excerpt, rest = string([]rune(excerpt)[:shown]), fmt.Sprintf("[truncated %d chars]", n-shown)
	}
	return fmt.Sprintf("\n at [Source: (String)\"%s\"%s; line: %d, column: %d]", excerpt, rest, line, column)
}

// parser reads JSON. Unlike encoding/json it keeps the order and the places of things, and names that come twice.
type parser struct {
	src   source
	pos   int
	depth int
}

// parse reads a pattern's text, all of it.
func parse(text string) (*value, error) {
	p := &parser{src: source(text)}
	v, err := p.value()
	if err != nil {
		return nil, err
	}
	if p.space(); p.pos < len(p.src) {
		return nil, p.unexpected("end of the pattern")
	}
	return v, nil
}

func (p *parser) space() {
	for p.pos < len(p.src) && strings.IndexByte(" \t\r\n", p.src[p.pos]) >= 0 {
		p.pos++
	}
}

// unexpected is the error for the character at pos, or for the end of the text there.
func (p *parser) unexpected(expecting string) *Error {
	if p.pos >= len(p.src) {
		return p.src.errorAt(len(p.src), "Unexpected end-of-input: was expecting %s", expecting)
	}
	r, _ := utf8.DecodeRuneInString(string(p.src[p.pos:]))
	return p.src.errorAt(p.pos, "Unexpected character ('%c' (code %d)): was expecting %s", r, r, expecting)
}

func (p *parser) value() (*value, error) {
	p.space()
	v := &value{start: p.pos}
	if p.pos >= len(p.src) {
		return nil, p.unexpected("a value")
	}
	var err error
	switch c := p.src[p.pos]; c {
	case '{', '[':
		if p.depth++; p.depth > maxNesting {
			return nil, p.src.errorAt(p.pos, "Document nesting depth (%d) exceeds the maximum allowed (%d)", p.depth, maxNesting)
		}
		p.pos++
		if v.kind = c; c == '{' {
			err = p.object(v)
		} else {
			err = p.array(v)
		}
		p.depth--
	case '"':
		v.kind = 's'
		v.text, err = p.str()
	default:
		err = p.word(v)
	}
	v.end = p.pos
	return v, err
}

func (p *parser) object(v *value) error {
	for p.space(); ; p.space() {
		if len(v.members) == 0 && p.is('}') {
			return nil
		}
		if p.pos >= len(p.src) || p.src[p.pos] != '"' {
			return p.unexpected("double-quote to start field name")
		}
		name, err := p.str()
		if err != nil {
			return err
		}
		if p.space(); !p.is(':') {
			return p.unexpected("a colon to separate field name and value")
		}
		val, err := p.value()
		if err != nil {
			return err
		}
		v.members = append(v.members, member{name, val})
		if p.space(); p.is('}') {
			return nil
		}
		if !p.is(',') {
			return p.unexpected("comma to separate Object entries")
		}
	}
}

func (p *parser) array(v *value) error {
	for p.space(); ; p.space() {
		if len(v.items) == 0 && p.is(']') {
			return nil
		}
		val, err := p.value()
		if err != nil {
			return err
		}
		v.items = append(v.items, val)
		if p.space(); p.is(']') {
			return nil
		}
		if !p.is(',') {
			return p.unexpected("comma to separate Array entries")
		}
	}
}

// is steps over c if it comes next.
func (p *parser) is(c byte) bool {
	if p.pos < len(p.src) && p.src[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

// str reads a string, whose first quote is at pos.
func (p *parser) str() (string, error) {
	start := p.pos
	for p.pos++; p.pos < len(p.src); p.pos++ {
		c := p.src[p.pos]
		if c == '\\' {
			p.pos++
			continue
		}
		if c == '"' {
			p.pos++
			var text string
			if json.Unmarshal([]byte(p.src[start:p.pos]), &text) != nil {
				return "", p.src.errorAt(p.pos, "Unrecognized character escape in a string")
			}
			return text, nil
		}
		if c < ' ' {
			return "", p.src.errorAt(p.pos+1, "Illegal unquoted character ((CTRL-CHAR, code %d)): has to be escaped using backslash to be included in string value", c)
		}
	}
	p.pos = len(p.src)
	return "", p.src.errorAt(p.pos, "Unexpected end-of-input in a string")
}

// word reads a number, true, false or null.
func (p *parser) word(v *value) error {
	for p.pos < len(p.src) && strings.IndexByte(" \t\r\n,:{}[]\"", p.src[p.pos]) < 0 {
		p.pos++
	}
	v.text = string(p.src[v.start:p.pos])
	switch {
	case v.text == "":
		return p.unexpected("a value")
	case v.text == "true" || v.text == "false" || v.text == "null":
		v.kind = 'o'
	case json.Valid([]byte(v.text)):
		v.kind = 'n'
	default:
		return p.src.errorAt(p.pos, "Unrecognized token '%s': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')", v.text)
	}
	return nil
}
