package alarms

import (
	"testing"

	"thaw"
)

func TestPermission(t *testing.T) {
	const alarm = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a"
	account := thaw.Account{ID: "123456789012", Region: "eu-west-1"}
	const service = `"Principal":{"Service":"lambda.alarms.cloudwatch.amazonaws.com"}`
	for document, want := range map[string]bool{
		`{"Effect":"Allow",` + service + `,"Action":"lambda:InvokeFunction"}`:                                                                                       true,
		`{"Effect":"Allow","Principal":"*","Action":"lambda:*"}`:                                                                                                    true,
		`{"Effect":"Deny",` + service + `,"Action":"lambda:InvokeFunction"}`:                                                                                        false,
		`{"Effect":"Allow","Principal":{"Service":"events.amazonaws.com"},"Action":"lambda:InvokeFunction"}`:                                                        false,
		`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:root"},"Action":"lambda:InvokeFunction"}`:                                                  false,
		`{"Effect":"Allow",` + service + `,"Action":"lambda:GetFunction"}`:                                                                                          false,
		`{"Effect":"Allow",` + service + `,"Action":"lambda:InvokeFunctionUrl"}`:                                                                                    false,
		`{"Effect":"Allow",` + service + `,"Action":"lambda:InvokeFunction","Condition":{"StringEquals":{"AWS:SourceAccount":"123456789012"}}}`:                     true,
		`{"Effect":"Allow",` + service + `,"Action":"lambda:InvokeFunction","Condition":{"StringEquals":{"AWS:SourceAccount":"210987654321"}}}`:                     false,
		`{"Effect":"Allow",` + service + `,"Action":"lambda:InvokeFunction","Condition":{"ArnLike":{"AWS:SourceArn":"` + alarm + `"}}}`:                             true,
		`{"Effect":"Allow",` + service + `,"Action":"lambda:InvokeFunction","Condition":{"ArnLike":{"AWS:SourceArn":"arn:aws:cloudwatch:*:123456789012:alarm:?"}}}`: true,
		`{"Effect":"Allow",` + service + `,"Action":"lambda:InvokeFunction","Condition":{"ArnLike":{"AWS:SourceArn":"` + alarm + `b"}}}`:                            false,
		`{"Effect":"Allow",` + service + `,"Action":"lambda:InvokeFunction","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}}`:                             false,
		`{"Effect":"Allow",` + service + `,"Action":"lambda:InvokeFunction","Condition":{"Bool":{"lambda:InvokedViaFunctionUrl":"true"}}}`:                          false,
		`{`: false,
		``:  false,
	} {
		f := &thaw.Function{Policies: map[string]thaw.Policy{"live": {Statements: []thaw.Statement{{Document: document}}}}}
		if got := allowed(f, "live", account, alarm); got != want {
			t.Errorf("%s: %v", document, got)
		}
		if allowed(f, "", account, alarm) {
			t.Errorf("%s: allows the function, and not its alias alone", document)
		}
	}
}
