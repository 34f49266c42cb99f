package lambda

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
	"thaw/control/internal/operation"
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

// FuzzMarker holds that a marker is one that some listing could have given, or refused with an error of the closed set.
func FuzzMarker(f *testing.F) {
	for _, key := range []string{"f", "f:1", "f:$LATEST", "", "a:b:c", "\x00", "000000000000:f"} {
		f.Add(*operation.Token(key))
	}
	f.Add("%%")
	all := []string{"$LATEST", "1", "10", "2", "live"}
	f.Fuzz(func(t *testing.T, marker string) {
		last, err := functionMarker(&marker)
		if err == nil && marker != "" && last.String() == "" && strings.Trim(marker, "\r\n") != "" {
			t.Errorf("%q means nothing", marker)
		}
		if err != nil && thaw.CodeOf(err) != thaw.CodeInvalidParameterValue {
			t.Errorf("%q: %v", marker, err)
		}
		page, next, err := cut("List", all, sameText, &marker, nil)
		if err != nil {
			if thaw.CodeOf(err) != thaw.CodeInvalidParameterValue {
				t.Errorf("%q: %v", marker, err)
			}
			return
		}
		if next != nil || !slices.Equal(page, all[len(all)-len(page):]) {
			t.Errorf("%q: %v", marker, page)
		}
	})
}

// FuzzAlias holds that an alias which is accepted points at versions that exist, with one weight at most.
func FuzzAlias(f *testing.F) {
	f.Add("1", "2", 0.5, "", 0.0)
	f.Add("$LATEST", "1", 0.5, "2", 1.0)
	f.Add("01", "+1", -1.0, "$LATEST", 2.0)
	a := &API{cfg: Config{Account: account}}
	fn := &thaw.Function{Name: "f", Published: []thaw.Version{{Number: "1"}, {Number: "2"}, {Number: "10"}}}
	f.Fuzz(func(t *testing.T, version, other string, weight float64, third string, weight3 float64) {
		r := &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{other: weight}}
		if third != "" {
			r.AdditionalVersionWeights[third] = weight3
		}
		alias := thaw.Alias{Name: "live", Version: version}
		err := route(&alias, r)
		if err == nil && fn.Version(version) != nil {
			err = a.checkRoute(fn, &alias)
		}
		if err != nil {
			if code := thaw.CodeOf(err); code != thaw.CodeInvalidParameterValue && code != thaw.CodeResourceNotFound {
				t.Error(err)
			}
			return
		}
		if fn.Version(version) == nil || alias.Other == "" {
			return
		}
		if v := fn.Version(alias.Other); v == nil || v.Number == thaw.Latest || alias.Version == thaw.Latest || alias.Other == alias.Version || len(r.AdditionalVersionWeights) != 1 {
			t.Errorf("%+v from %+v", alias, r)
		}
	})
}

// FuzzDestinations holds that what is accepted as a destination is the ARN of a service that can be one.
func FuzzDestinations(f *testing.F) {
	f.Add("arn:aws:sqs:us-east-1:000000000000:q", "arn:aws:s3:::b")
	f.Add(arnF, arnF+":live")
	f.Add("kafka://topic", "arn:aws:lambda:us-east-1:123456789012:function:g")
	a, store := newAPI(f)
	active(f, a, store, "g")
	f.Fuzz(func(t *testing.T, success, failure string) {
		var e thaw.EventInvoke
		err := a.setDestinations("f", &e, &types.DestinationConfig{OnSuccess: &types.OnSuccess{Destination: &success}, OnFailure: &types.OnFailure{Destination: &failure}})
		if err != nil {
			if thaw.CodeOf(err) != thaw.CodeInvalidParameterValue || e != (thaw.EventInvoke{}) {
				t.Errorf("%v %+v", err, e)
			}
			return
		}
		for _, arn := range []string{success, failure} {
			service, _, _ := strings.Cut(strings.SplitN(arn+":::", ":", 3)[2], ":")
			if arn != "" && !slices.Contains([]string{"lambda", "sqs"}, service) {
				t.Errorf("%q is a destination", arn)
			}
			if service == "lambda" && !strings.HasSuffix(strings.TrimSuffix(arn, ":$LATEST"), ":g") {
				t.Errorf("%q is a function", arn)
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
