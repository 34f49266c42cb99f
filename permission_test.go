package thaw

import "testing"

func TestPermits(t *testing.T) {
	const group = "arn:aws:logs:eu-west-1:123456789012:log-group:/a:*"
	ask := InvokePermission{Service: "logs.amazonaws.com", Source: group, Account: "123456789012"}
	for _, test := range []struct {
		document string
		want     bool
	}{
		{`{"Effect":"Allow","Principal":{"Service":"logs.amazonaws.com"},"Action":"lambda:InvokeFunction"}`, true},
		{`{"Effect":"Allow","Principal":"*","Action":"lambda:*"}`, true},
		{`{"Effect":"Deny","Principal":"*","Action":"lambda:*"}`, false},
		{`{"Effect":"Allow","Principal":{"Service":"sns.amazonaws.com"},"Action":"lambda:InvokeFunction"}`, false},
		{`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::1:root"},"Action":"lambda:InvokeFunction"}`, false},
		{`{"Effect":"Allow","Principal":{"Service":"logs.amazonaws.com"},"Action":"lambda:GetFunction"}`, false},
		{`{"Effect":"Allow","Principal":{"Service":"logs.amazonaws.com"},"Action":"lambda:InvokeFunction",
			"Condition":{"ArnLike":{"AWS:SourceArn":"arn:aws:logs:eu-west-1:*:log-group:/a:*"},"StringEquals":{"AWS:SourceAccount":"123456789012"}}}`, true},
		{`{"Effect":"Allow","Principal":{"Service":"logs.amazonaws.com"},"Action":"lambda:InvokeFunction",
			"Condition":{"ArnLike":{"AWS:SourceArn":"arn:aws:logs:eu-west-1:*:log-group:/b:*"}}}`, false},
		{`{"Effect":"Allow","Principal":{"Service":"logs.amazonaws.com"},"Action":"lambda:InvokeFunction","Condition":{"StringEquals":{"AWS:SourceAccount":"1"}}}`, false},
		{`{"Effect":"Allow","Principal":{"Service":"logs.amazonaws.com"},"Action":"lambda:InvokeFunction","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o"}}}`, false},
		{`not JSON`, false},
	} {
		p := Policy{Statements: []Statement{{SID: "s", Document: test.document}}}
		if got := p.Permits(ask); got != test.want {
			t.Errorf("%s: %v", test.document, got)
		}
	}
	if (Policy{}).Permits(ask) {
		t.Error("no policy permits")
	}
}
