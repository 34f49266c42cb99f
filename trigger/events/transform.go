package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// The variables that every template has, after the page "Amazon EventBridge input transformation".
const (
	varRuleARN   = "aws.events.rule-arn"
	varRuleName  = "aws.events.rule-name"
	varEvent     = "aws.events.event" // without its detail
	varEventJSON = "aws.events.event.json"
	varIngestion = "aws.events.event.ingestion-time"
)

var predefined = []string{varRuleARN, varRuleName, varEvent, varEventJSON, varIngestion}

// CheckPath says what is wrong with a JSON path.
func CheckPath(path string) error {
	_, err := parsePath(path)
	return err
}

// CheckTemplate says what is wrong with a template and the paths of its variables.
func CheckTemplate(template string, paths map[string]string) error {
	for _, name := range sortedKeys(paths) {
		if strings.HasPrefix(strings.ToLower(name), "aws.") {
			return fmt.Errorf("the variable %s: names that begin with AWS. are reserved", name)
		}
		if err := CheckPath(paths[name]); err != nil {
			return fmt.Errorf("the path %q of %s: %w", paths[name], name, err)
		}
	}
	for _, part := range parseTemplate(template) {
		if part.variable == "" || slices.Contains(predefined, part.variable) {
			continue
		}
		if _, ok := paths[part.variable]; !ok {
			return fmt.Errorf("the template has <%s>, which InputPathsMap has not", part.variable)
		}
	}
	return nil
}

// piece is a part of a template: text, or a variable, which may stand within a JSON string.
type piece struct {
	text     string
	variable string
	inString bool
}

// parseTemplate takes a template apart. What stands between < and > is a variable when it has the form of a name.
func parseTemplate(template string) []piece {
	var pieces []piece
	inString, from := false, 0
	for i := 0; i < len(template); i++ {
		switch c := template[i]; {
		case c == '\\' && inString:
			i++
		case c == '"':
			inString = !inString
		case c == '<':
			end := strings.IndexByte(template[i:], '>')
			if end < 0 || !isName(template[i+1:i+end]) {
				continue
			}
			pieces = append(pieces, piece{text: template[from:i]}, piece{variable: template[i+1 : i+end], inString: inString})
			i += end
			from = i + 1
		}
	}
	return append(pieces, piece{text: template[from:]})
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return s != ""
}

// moment is what a payload is made from.
type moment struct {
	ruleARN, ruleName string
	event             []byte // encoded
	came              time.Time
}

// payload is what t gets of an event. An InputPath that finds nothing gives null.
func (t *Target) payload(m moment) ([]byte, error) {
	switch {
	case t.Input != nil:
		return []byte(*t.Input), nil
	case t.InputPath != nil:
		steps, err := parsePath(*t.InputPath)
		if err != nil {
			return nil, err
		}
		part, ok := find(m.event, steps)
		if !ok {
			return []byte("null"), nil
		}
		return part, nil
	case t.Template != nil:
		return t.transform(m)
	}
	return m.event, nil
}

// transform fills the template. A text goes into a JSON string without its quotation marks and elsewhere with them; any
// other value goes in as it is, within a string with escapes. What is not in the event is an empty text.
func (t *Target) transform(m moment) ([]byte, error) {
	values := map[string]json.RawMessage{}
	var out bytes.Buffer
	for _, p := range parseTemplate(*t.Template) {
		if p.variable == "" {
			out.WriteString(p.text)
			continue
		}
		value, ok := values[p.variable]
		if !ok {
			var err error
			if value, err = t.variable(p.variable, m); err != nil {
				return nil, err
			}
			values[p.variable] = value
		}
		if !p.inString {
			out.Write(value)
			continue
		}
		text := string(value)
		if value[0] != '"' {
			quoted, err := encode(text)
			if err != nil {
				return nil, err
			}
			text = string(quoted)
		}
		out.WriteString(text[1 : len(text)-1])
	}
	return out.Bytes(), nil
}

func (t *Target) variable(name string, m moment) (json.RawMessage, error) {
	switch name {
	case varRuleARN:
		return encode(m.ruleARN)
	case varRuleName:
		return encode(m.ruleName)
	case varIngestion:
		return encode(m.came.UTC().Format("2006-01-02T15:04:05.000Z"))
	case varEventJSON:
		return m.event, nil
	case varEvent:
		return withoutDetail(m.event)
	}
	steps, err := parsePath(t.Paths[name])
	if err != nil {
		return nil, err
	}
	part, ok := find(m.event, steps)
	if !ok || len(part) == 0 {
		part = json.RawMessage(`""`)
	}
	return part, nil
}

func withoutDetail(event []byte) (json.RawMessage, error) {
	var e struct {
		Version    json.RawMessage `json:"version"`
		ID         json.RawMessage `json:"id"`
		DetailType json.RawMessage `json:"detail-type"`
		Source     json.RawMessage `json:"source"`
		Account    json.RawMessage `json:"account"`
		Time       json.RawMessage `json:"time"`
		Region     json.RawMessage `json:"region"`
		Resources  json.RawMessage `json:"resources"`
	}
	if err := json.Unmarshal(event, &e); err != nil {
		return nil, err
	}
	return encode(e)
}
