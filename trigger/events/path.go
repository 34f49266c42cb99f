package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// step is one step of a JSON path: a member, an element, or all of them.
type step struct {
	member string
	index  int // -1: member, -2: all
}

const (
	byMember = -1
	all      = -2
)

// maxSteps bounds a path. One of 256 characters, AWS's bound, can have 127.
const maxSteps = 128

// parsePath reads a JSON path as EventBridge has them: $, .name, ['name'], [0], [*] and .*.
func parsePath(text string) ([]step, error) {
	rest, ok := strings.CutPrefix(text, "$")
	if !ok {
		return nil, errors.New("a path begins with $")
	}
	var steps []step
	for rest != "" {
		if len(steps) == maxSteps {
			return nil, fmt.Errorf("it has more than %d steps", maxSteps)
		}
		var s step
		var err error
		switch rest[0] {
		case '.':
			s, rest, err = dotted(rest[1:])
		case '[':
			s, rest, err = bracketed(rest[1:])
		default:
			err = fmt.Errorf("%q is out of place", rest[:1])
		}
		if err != nil {
			return nil, err
		}
		steps = append(steps, s)
	}
	return steps, nil
}

func dotted(rest string) (step, string, error) {
	end := strings.IndexAny(rest, ".[")
	if end < 0 {
		end = len(rest)
	}
	name := rest[:end]
	switch {
	case name == "":
		return step{}, "", errors.New("a name is missing behind a dot")
	case name == "*":
		return step{index: all}, rest[end:], nil
	case strings.ContainsAny(name, " \t\n'\"]()?@*"):
		return step{}, "", fmt.Errorf("%q is no name", name)
	}
	return step{member: name, index: byMember}, rest[end:], nil
}

func bracketed(rest string) (step, string, error) {
	inner, rest, ok := strings.Cut(rest, "]")
	if !ok {
		return step{}, "", errors.New("a bracket is not closed")
	}
	if inner == "*" {
		return step{index: all}, rest, nil
	}
	if n := len(inner); n >= 3 && (inner[0] == '\'' || inner[0] == '"') && inner[n-1] == inner[0] {
		return step{member: inner[1 : n-1], index: byMember}, rest, nil
	}
	i, err := strconv.ParseUint(inner, 10, 31)
	if err != nil {
		return step{}, "", fmt.Errorf("%q is neither an index nor a name in quotation marks", inner)
	}
	return step{index: int(i)}, rest, nil
}

// find follows a path through a JSON text. The part is given as it stands there; with a wildcard in the path it is an array
// of all that was found.
func find(text json.RawMessage, steps []step) (json.RawMessage, bool) {
	for i, s := range steps {
		switch s.index {
		case all:
			return findAll(text, steps[i+1:])
		case byMember:
			var object map[string]json.RawMessage
			if json.Unmarshal(text, &object) != nil {
				return nil, false
			}
			next, ok := object[s.member]
			if !ok {
				return nil, false
			}
			text = next
		default:
			var array []json.RawMessage
			if json.Unmarshal(text, &array) != nil || s.index >= len(array) {
				return nil, false
			}
			text = array[s.index]
		}
	}
	return text, true
}

func findAll(text json.RawMessage, steps []step) (json.RawMessage, bool) {
	var array []json.RawMessage
	if json.Unmarshal(text, &array) != nil {
		var object map[string]json.RawMessage
		if json.Unmarshal(text, &object) != nil {
			return nil, false
		}
		for _, key := range sortedKeys(object) {
			array = append(array, object[key])
		}
	}
	found := []json.RawMessage{}
	for _, element := range array {
		if part, ok := find(element, steps); ok {
			found = append(found, part)
		}
	}
	out, err := encode(found)
	return out, err == nil
}
