package alarms

import (
	"encoding/json"
	"regexp"
	"strings"

	"thaw"
)

// principal is whom a function's policy must allow to invoke it.
const principal = "lambda.alarms.cloudwatch.amazonaws.com"

// allowed reports whether a function's policy lets an alarm of the account invoke a qualifier of it, as AWS demands: a policy
// that was not made for alarms does not.
func allowed(f *thaw.Function, qualifier string, account thaw.Account, alarm string) bool {
	for _, s := range f.Policies[qualifier].Statements {
		if allows(s.Document, account, alarm) {
			return true
		}
	}
	return false
}

func allows(document string, account thaw.Account, alarm string) bool {
	var s struct {
		Effect    string
		Principal json.RawMessage
		Action    string
		Condition map[string]map[string]string
	}
	if json.Unmarshal([]byte(document), &s) != nil || s.Effect != "Allow" || !isPrincipal(s.Principal) {
		return false
	}
	if !like(s.Action, "lambda:InvokeFunction") {
		return false
	}
	for operator, keys := range s.Condition {
		for key, want := range keys {
			got := map[string]string{"aws:sourceaccount": account.ID, "aws:sourcearn": alarm}[strings.ToLower(key)]
			switch operator {
			case "StringEquals":
				if got == "" || got != want {
					return false
				}
			case "ArnLike", "StringLike":
				if got == "" || !like(want, got) {
					return false
				}
			default: // nothing else can be said of a call by an alarm
				return false
			}
		}
	}
	return true
}

func isPrincipal(raw json.RawMessage) bool {
	var anyone string
	if json.Unmarshal(raw, &anyone) == nil {
		return anyone == "*"
	}
	var by map[string]string
	return json.Unmarshal(raw, &by) == nil && by["Service"] == principal
}

// like compares with a pattern in which * stands for any text and ? for one character.
func like(pattern, text string) bool {
	p := regexp.QuoteMeta(pattern)
	p = strings.ReplaceAll(strings.ReplaceAll(p, `\*`, ".*"), `\?`, ".")
	ok, err := regexp.MatchString("^(?s:"+p+")$", text)
	return err == nil && ok
}
