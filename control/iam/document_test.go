package iam

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"thaw"
)

func TestDocuments(t *testing.T) {
	statement := func(members string) string { return `{"Version":"2012-10-17","Statement":{` + members + `}}` }
	const syntax = "Syntax errors in policy."
	tests := []struct {
		name, text      string
		trust, identity string // the message, or empty where the document is taken
	}{
		{"trust", trust, "", "Policy document should not specify a principal."},
		{"identity", allowAll, "Has prohibited field Resource", ""},
		{"not JSON", `{"Version"`, "This policy contains invalid Json", syntax},
		{"empty", ``, "This policy contains invalid Json", syntax},
		{"a list", `[]`, syntax, syntax},
		{"a string", `"x"`, syntax, syntax},
		{"null", `null`, syntax, syntax},
		{"no statement", `{"Version":"2012-10-17"}`, syntax, syntax},
		{"empty statement list", `{"Statement":[]}`, syntax, syntax},
		{"statement is null", `{"Statement":null}`, syntax, syntax},
		{"statement is text", `{"Statement":"x"}`, syntax, syntax},
		{"old version", `{"Version":"2011-01-01","Statement":[]}`, syntax, syntax},
		{"no effect", statement(`"Action":"sts:AssumeRole","Principal":"*"`), syntax, syntax},
		{"bad effect", statement(`"Effect":"allow","Action":"sts:AssumeRole","Principal":"*"`), syntax, syntax},
		{"both actions", statement(`"Effect":"Allow","Action":"s3:*","NotAction":"s3:*","Resource":"*"`), syntax, syntax},
		{"number as action", statement(`"Effect":"Allow","Action":1,"Resource":"*"`), syntax, syntax},
		{"no principal", statement(`"Effect":"Allow","Action":"sts:AssumeRole"`), "Missing required field Principal", "Policy statement must contain resources."},
		{"no action", statement(`"Effect":"Allow","Resource":"*"`), "Has prohibited field Resource", "Policy statement must contain actions."},
		{"trust without action", statement(`"Effect":"Allow","Principal":"*"`), "Missing required field Action", "Policy document should not specify a principal."},
		{"trust for s3", statement(`"Effect":"Allow","Principal":"*","Action":["sts:TagSession","s3:GetObject"]`), "AssumeRole policy may only specify STS AssumeRole actions.", "Policy document should not specify a principal."},
		{"no vendor", statement(`"Effect":"Deny","Action":"GetObject","Resource":"*"`), "Has prohibited field Resource", "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."},
		{"deny all but", " \n" + statement(`"Effect":"Deny","NotAction":["iam:*"],"NotResource":["*"]`), "Has prohibited field NotResource", ""},
		{"long trust", strings.Replace(trust, "lambda", strings.Repeat("l", 2048), 1), "Cannot exceed quota for ACLSizePerRole: 2048", "Policy document should not specify a principal."},
		{"spaces do not count", strings.Replace(trust, "{", "{"+strings.Repeat(" \n", 2048), 1), "", "Policy document should not specify a principal."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, c := range []struct {
				check func(string) error
				want  string
			}{{checkTrustPolicy, test.trust}, {checkIdentityPolicy, test.identity}} {
				err := c.check(test.text)
				switch {
				case c.want == "" && err != nil:
					t.Errorf("%v", err)
				case c.want != "" && (err == nil || !strings.HasSuffix(err.Error(), ": "+c.want)):
					t.Errorf("%v, want %s", err, c.want)
				}
			}
		})
	}
}

// FuzzDocument holds that a document is JSON if it is accepted, that a refusal is in IAM's words, and that what is
// shown again reads as it was sent.
func FuzzDocument(f *testing.F) {
	for _, text := range []string{trust, allowAll, "", "{}", `{"Statement":[{"Effect":"Allow","Action":[[]]}]}`, `{"Statement":[null]}`, "[[[[", `{"Statement":{"Principal":{"AWS":["*"]}}}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, check := range []func(string) error{checkTrustPolicy, checkIdentityPolicy} {
			err := check(text)
			if err == nil && !json.Valid([]byte(text)) {
				t.Errorf("%q was accepted", text)
			}
			if err != nil && thaw.CodeOf(err) != thaw.CodeMalformedPolicy && thaw.CodeOf(err) != thaw.CodeLimitExceeded {
				t.Errorf("%q: %v", text, err)
			}
		}
		if again, err := url.PathUnescape(*escape(text)); err != nil || again != text {
			t.Errorf("%q is shown as %q", text, again)
		}
	})
}

// FuzzPolicyARN holds that an accepted ARN has a name and a path that together are its end.
func FuzzPolicyARN(f *testing.F) {
	for _, arn := range []string{basicRole, "arn:aws:iam::000000000000:policy/p", "arn:aws:iam::aws:policy//x", "arn:aws:iam::aws:policy/", "policy/x", ":policy"} {
		f.Add(arn)
	}
	f.Fuzz(func(t *testing.T, arn string) {
		m := policyARN.FindStringSubmatch(arn)
		if m == nil {
			return
		}
		if path := pathOf(arn); m[2] == "" || strings.Contains(m[2], "/") || !strings.HasPrefix(path, "/") || !strings.HasSuffix(arn, ":policy"+path+m[2]) {
			t.Errorf("%q has path %q and name %q", arn, path, m[2])
		}
		if ownedByAWS(arn) != (m[1] == "aws") {
			t.Errorf("%q: owner %s", arn, m[1])
		}
	})
}
