package mapping

import (
	"bytes"
	"encoding/json"
	"fmt"

	"thaw/trigger/pattern"
)

// filter decides which messages are for the function: those that match one of the patterns, all where there is none.
//
// A pattern sees the record. Its key body matches as AWS has it: a pattern that is an object matches bodies that are JSON,
// one that is a list of values matches bodies that are not, as text; otherwise the message does not match.
type filter []rule

type rule struct {
	pattern *pattern.Pattern
	body    bodyRule
}

type bodyRule int

const (
	anyBody  bodyRule = iota // the pattern does not look at it
	jsonBody                 // the pattern is an object
	textBody                 // the pattern is a list
)

// CheckFilter judges the pattern of a filter.
func CheckFilter(text string) error {
	_, err := newRule(text)
	return err
}

func newFilter(patterns []string) (filter, error) {
	var f filter
	for _, text := range patterns {
		r, err := newRule(text)
		if err != nil {
			return nil, fmt.Errorf("filter %s: %w", text, err)
		}
		f = append(f, r)
	}
	return f, nil
}

func newRule(text string) (rule, error) {
	p, err := pattern.Compile([]byte(text))
	if err != nil {
		return rule{}, err
	}
	r := rule{pattern: p}
	if body, _ := member([]byte(text), "body"); body != nil {
		r.body = textBody
		if bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
			r.body = jsonBody
		}
	}
	return r, nil
}

// match reports whether m is for the function.
func (f filter) match(m *message) bool {
	if len(f) == 0 {
		return true
	}
	isJSON := isObject(m.body)
	var withJSON []byte // the record, its body as JSON
	for _, r := range f {
		record := m.record
		switch {
		case r.body == textBody && isJSON, r.body == jsonBody && !isJSON:
			continue
		case r.body == jsonBody:
			if withJSON == nil {
				withJSON = replaceBody(m.record, m.body)
			}
			record = withJSON
		}
		if r.pattern.Match(record) {
			return true
		}
	}
	return false
}

// isObject reports whether a body is JSON in the sense of filters: an object or an array.
func isObject(body []byte) bool {
	body = bytes.TrimLeft(body, " \t\r\n")
	return len(body) > 0 && (body[0] == '{' || body[0] == '[') && json.Valid(body)
}

// replaceBody gives a record whose body is JSON itself and not JSON in a string.
func replaceBody(record, body []byte) []byte {
	var members map[string]json.RawMessage
	if json.Unmarshal(record, &members) != nil {
		return record
	}
	members["body"] = body
	out, err := json.Marshal(members)
	if err != nil {
		return record
	}
	return out
}

// sift parts messages into those for the function and the others.
func (f filter) sift(messages []message) (wanted, dropped []message) {
	if len(f) == 0 {
		return messages, nil
	}
	for i := range messages {
		if f.match(&messages[i]) {
			wanted = append(wanted, messages[i])
		} else {
			dropped = append(dropped, messages[i])
		}
	}
	return wanted, dropped
}
