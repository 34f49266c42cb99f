package iam

import (
	"encoding/json"
	"strings"
	"unicode"

	"thaw"
)

// document is as much of a policy document as is judged here: its form. What it allows is never asked.
type document struct {
	Version   string
	Statement oneOrMore[statement]
}

type statement struct {
	Effect       string
	Action       oneOrMore[string]
	NotAction    oneOrMore[string]
	Resource     oneOrMore[string]
	NotResource  oneOrMore[string]
	Principal    json.RawMessage
	NotPrincipal json.RawMessage
}

// oneOrMore is a member that may be one value or a list of them.
type oneOrMore[T any] []T

// UnmarshalJSON implements json.Unmarshaler.
func (m *oneOrMore[T]) UnmarshalJSON(data []byte) error {
	if strings.HasPrefix(string(data), "[") {
		return json.Unmarshal(data, (*[]T)(m))
	}
	*m = make([]T, 1)
	return json.Unmarshal(data, &(*m)[0])
}

// errSyntax is IAM's answer to whatever it cannot read as a policy.
var errSyntax = malformed("Syntax errors in policy.")

func malformed(message string) error { return thaw.Errorf(thaw.CodeMalformedPolicy, "%s", message) }

// checkTrustPolicy judges the form of a document that says who may assume a role.
func checkTrustPolicy(text string) error {
	if !json.Valid([]byte(text)) {
		return malformed("This policy contains invalid Json")
	}
	d, err := parseDocument(text)
	if err != nil {
		return err
	}
	for _, s := range d.Statement {
		switch {
		case len(s.Resource) > 0:
			return malformed("Has prohibited field Resource")
		case len(s.NotResource) > 0:
			return malformed("Has prohibited field NotResource")
		case len(s.Principal) == 0 && len(s.NotPrincipal) == 0:
			return malformed("Missing required field Principal")
		case len(s.Action) == 0 && len(s.NotAction) == 0:
			return malformed("Missing required field Action")
		}
		for _, action := range s.Action {
			if !strings.HasPrefix(strings.ToLower(action), "sts:") {
				return malformed("AssumeRole policy may only specify STS AssumeRole actions.")
			}
		}
	}
	if size(text) > maxTrustPolicy {
		return overQuota("ACLSizePerRole", maxTrustPolicy)
	}
	return nil
}

// checkIdentityPolicy judges the form of a document that says what its holder may do.
func checkIdentityPolicy(text string) error {
	d, err := parseDocument(text)
	if err != nil {
		return err
	}
	for _, s := range d.Statement {
		switch {
		case len(s.Principal) > 0 || len(s.NotPrincipal) > 0:
			return malformed("Policy document should not specify a principal.")
		case len(s.Action) == 0 && len(s.NotAction) == 0:
			return malformed("Policy statement must contain actions.")
		case len(s.Resource) == 0 && len(s.NotResource) == 0:
			return malformed("Policy statement must contain resources.")
		}
		for _, action := range append(s.Action, s.NotAction...) {
			if action != "*" && !strings.Contains(action, ":") {
				return malformed("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
			}
		}
	}
	return nil
}

// parseDocument reads what both kinds of policy have in common.
func parseDocument(text string) (*document, error) {
	if !strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{") {
		return nil, errSyntax
	}
	var d document
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return nil, errSyntax
	}
	if d.Version != "" && d.Version != "2012-10-17" && d.Version != "2008-10-17" || len(d.Statement) == 0 {
		return nil, errSyntax
	}
	for _, s := range d.Statement {
		if s.Effect != "Allow" && s.Effect != "Deny" || len(s.Action) > 0 && len(s.NotAction) > 0 || len(s.Resource) > 0 && len(s.NotResource) > 0 {
			return nil, errSyntax
		}
	}
	return &d, nil
}

// size counts a document as IAM's quotas do: without white space.
func size(text string) int {
	n := 0
	for _, c := range text {
		if !unicode.IsSpace(c) {
			n++
		}
	}
	return n
}
