package thaw

import (
	"encoding/json"
	"strings"
)

// InvokePermission is a question to a function's policy: may an AWS service invoke it, for one of its resources?
type InvokePermission struct {
	Service string // the principal: logs.amazonaws.com
	Source  string // ARN of the resource that causes the invocation; empty: unknown
	Account string // whose resource it is
}

// Permits reports whether a statement of the policy allows the invocation. Statements are those that AddPermission makes; a
// condition that is none of its kinds is not satisfied.
func (p Policy) Permits(ask InvokePermission) bool {
	for _, s := range p.Statements {
		if permits(s.Document, ask) {
			return true
		}
	}
	return false
}

func permits(document string, ask InvokePermission) bool {
	var s struct {
		Effect    string
		Principal json.RawMessage
		Action    string
		Condition map[string]map[string]string
	}
	if json.Unmarshal([]byte(document), &s) != nil || s.Effect != "Allow" || !matchWildcards(s.Action, "lambda:InvokeFunction") {
		return false
	}
	var who struct{ Service string }
	if string(s.Principal) != `"*"` && (json.Unmarshal(s.Principal, &who) != nil || who.Service != ask.Service) {
		return false
	}
	for operator, keys := range s.Condition {
		for key, want := range keys {
			switch {
			case strings.EqualFold(key, "aws:SourceArn") && (operator == "ArnLike" || operator == "StringLike"):
				if !matchWildcards(want, ask.Source) {
					return false
				}
			case strings.EqualFold(key, "aws:SourceArn") && (operator == "ArnEquals" || operator == "StringEquals"):
				if want != ask.Source {
					return false
				}
			case strings.EqualFold(key, "aws:SourceAccount") && operator == "StringEquals":
				if want != ask.Account {
					return false
				}
			default:
				return false
			}
		}
	}
	return true
}

// matchWildcards compares as IAM does: * stands for any characters, ? for one.
func matchWildcards(pattern, text string) bool {
	star, mark, i, j := -1, 0, 0, 0
	for j < len(text) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, mark = i, j
			i++
		case i < len(pattern) && (pattern[i] == '?' || pattern[i] == text[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[i:], "*") == ""
}
