// Package filter reads CloudWatch Logs' filter patterns, as FilterLogEvents, StartLiveTail and subscription filters have them,
// and says which messages they mean. Its source is the page "Filter pattern syntax" of the CloudWatch Logs user guide.
//
// There are four kinds of patterns: terms, a JSON condition in braces, columns of a space-delimited line in brackets, and
// the empty one, which means every message. A term is found wherever its text stands in the message, in the same case.
package filter

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Bounds of a pattern: its length in characters as in AWS's model, how deep its parentheses nest, how many regular
// expressions it has, and how many steps they take for each byte of a message.
const (
	maxDepth   = 32
	maxRegexps = 2
	maxSteps   = 1000
)

// Pattern is a compiled filter pattern. It is read only and may be used by many.
type Pattern struct {
	terms   []term
	json    condition
	columns *columns
}

// Compile reads a pattern. The error says what is wrong with it, in a sentence for its author.
func Compile(text string) (*Pattern, error) {
	trimmed := strings.TrimSpace(text)
	p := &parser{text: trimmed, budget: maxSteps}
	var out *Pattern
	var err error
	switch {
	case trimmed == "":
		return &Pattern{}, nil
	case trimmed[0] == '{':
		out, err = p.json()
	case trimmed[0] == '[':
		out, err = p.space()
	default:
		out, err = p.terms()
	}
	if err == nil && p.regexps > maxRegexps {
		err = fmt.Errorf("it has %d regular expressions, and %d are the most", p.regexps, maxRegexps)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Match reports whether the pattern means a message.
func (p *Pattern) Match(message string) bool {
	switch {
	case p.json != nil:
		v, ok := parseMessage(message)
		return ok && p.json.match(v)
	case p.columns != nil:
		_, ok := p.columns.match(message)
		return ok
	}
	return matchTerms(p.terms, message)
}

// All reports whether the pattern means every message.
func (p *Pattern) All() bool { return p.json == nil && p.columns == nil && len(p.terms) == 0 }

// Columns reports whether the pattern is one of a space-delimited line.
func (p *Pattern) Columns() bool { return p.columns != nil }

// Extract gives what TestMetricFilter shows of a message that the pattern means: the fields that it names, by selector or
// by "$" and the column's name, and their values.
func (p *Pattern) Extract(message string) map[string]string {
	values := map[string]string{}
	switch {
	case p.json != nil:
		v, ok := parseMessage(message)
		if !ok {
			break
		}
		p.json.fields(func(s selector) {
			if found, ok := s.find(v); ok {
				values[s.text] = plain(found)
			}
		})
	case p.columns != nil:
		words, _ := p.columns.match(message)
		for name, word := range words {
			values["$"+name] = word
		}
	}
	return values
}

// parseMessage reads a message that is a JSON object or array.
func parseMessage(message string) (any, bool) {
	trimmed := strings.TrimLeft(message, " \t\r\n")
	if trimmed == "" || trimmed[0] != '{' && trimmed[0] != '[' {
		return nil, false
	}
	decoder := json.NewDecoder(strings.NewReader(trimmed))
	decoder.UseNumber()
	var v any
	if decoder.Decode(&v) != nil {
		return nil, false
	}
	return v, true
}

// plain is a JSON value as text.
func plain(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(text)
}
