package filter

import (
	"errors"
	"fmt"
	"strings"
)

// Value is what a metric filter takes out of a message: a part of a JSON document, or a column.
type Value struct {
	selector selector
	column   string // not empty: this column of the pattern
	pattern  *Pattern
}

// Value reads "$.a.b", which is a place in JSON messages, or "$name", which is a column of this pattern.
func (p *Pattern) Value(text string) (Value, error) {
	if p.columns != nil {
		name, ok := strings.CutPrefix(text, "$")
		for _, c := range p.columns.list {
			if ok && c.name == name {
				return Value{column: name, pattern: p}, nil
			}
		}
		return Value{}, fmt.Errorf("%s is not $ and the name of a column of the pattern", text)
	}
	if p.json == nil {
		return Value{}, errors.New("only JSON patterns and those of space-delimited lines have fields to take values from")
	}
	at := &parser{text: text}
	s, err := at.selector()
	if err == nil && (at.at < len(text) || len(s.steps) == 0) {
		err = fmt.Errorf("%s is not a selector such as $.latency", text)
	}
	return Value{selector: s, pattern: p}, err
}

// Of gives the value in a message that the pattern means; ok is false where there is none.
func (v Value) Of(message string) (text string, ok bool) {
	if v.column != "" {
		words, _ := v.pattern.columns.match(message)
		text, ok = words[v.column]
		return text, ok
	}
	document, ok := parseMessage(message)
	if !ok {
		return "", false
	}
	found, ok := v.selector.find(document)
	if !ok || found == nil {
		return "", false
	}
	return plain(found), true
}
