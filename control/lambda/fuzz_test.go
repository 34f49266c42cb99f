package lambda

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw"
)

// FuzzResolve holds that a name is understood as one function of this account or refused with an error of the closed set.
func FuzzResolve(f *testing.F) {
	for _, name := range []string{"f", arnF, arnF + ":$LATEST", "000000000000:f:1", "arn:aws:lambda:eu-west-1:1:function:f", "f:", ":", "", "function:function:function"} {
		f.Add(name, "")
		f.Add(name, "live")
	}
	a := &API{cfg: Config{Account: account}}
	f.Fuzz(func(t *testing.T, name, qualifier string) {
		for _, read := range []func(string, *string, *string) (target, error){
			a.resolve,
			func(op string, name, _ *string) (target, error) { return a.tagged(op, name) },
		} {
			got, err := read("GetFunction", &name, &qualifier)
			if err != nil {
				if code := thaw.CodeOf(err); code == thaw.CodeService {
					t.Errorf("%q: %v", name, err)
				}
				continue
			}
			if got.name == "" || strings.ContainsAny(got.name, ":/ .$") {
				t.Errorf("%q means %+v", name, got)
			}
			again, err := a.resolve("GetFunction", ptr(a.arn(got)), nil)
			if ref, ok := thaw.ParseFunctionRef(a.arn(got)); ok && (err != nil || again.name != got.name || ref.Qualifier != got.qualifier) {
				t.Errorf("%q means %+v, whose ARN means %+v, %v", name, got, again, err)
			}
		}
	})
}

// FuzzStatement holds that whatever is accepted as a permission is a JSON object with the sid and resource asked for.
func FuzzStatement(f *testing.F) {
	f.Add("sid", "lambda:InvokeFunction", "s3.amazonaws.com", "arn:aws:s3:::b", "123456789012", "token", "o-1")
	f.Add("\"", "*", "*", "\xff", "\x00", "</script>", "\u2028")
	f.Fuzz(func(t *testing.T, sid, action, principal, source, owner, token, org string) {
		text, err := statement(arnF, &sdk.AddPermissionInput{StatementId: &sid, Action: &action, Principal: &principal, SourceArn: &source, SourceAccount: &owner, EventSourceToken: &token, PrincipalOrgID: &org})
		if err != nil {
			return
		}
		var got struct{ Sid, Effect, Resource string }
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.Effect != "Allow" || got.Resource != arnF || utf8.ValidString(sid) && got.Sid != sid {
			t.Errorf("%s: %v", text, err)
		}
		if strings.ContainsRune(text, '\n') {
			t.Errorf("%q has a line end", text)
		}
	})
}
