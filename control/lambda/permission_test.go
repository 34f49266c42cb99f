package lambda

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw"
)

func permission(sid, principal string, change ...func(*sdk.AddPermissionInput)) *sdk.AddPermissionInput {
	in := &sdk.AddPermissionInput{FunctionName: ptr("f"), StatementId: &sid, Action: ptr("lambda:InvokeFunction"), Principal: &principal}
	for _, c := range change {
		c(in)
	}
	return in
}

func TestStatements(t *testing.T) {
	head := `{"Sid":"s","Effect":"Allow","Principal":`
	tail := `,"Action":"lambda:InvokeFunction","Resource":"` + arnF + `"`
	tests := []struct {
		name string
		in   *sdk.AddPermissionInput
		want string
	}{
		{"service", permission("s", "s3.amazonaws.com"), head + `{"Service":"s3.amazonaws.com"}` + tail + `}`},
		{"account", permission("s", "123456789012"), head + `{"AWS":"arn:aws:iam::123456789012:root"}` + tail + `}`},
		{"user", permission("s", "arn:aws:iam::123456789012:user/a/b@c"), head + `{"AWS":"arn:aws:iam::123456789012:user/a/b@c"}` + tail + `}`},
		{"anyone", permission("s", "*"), head + `"*"` + tail + `}`},
		{"source", permission("s", "s3.amazonaws.com", func(in *sdk.AddPermissionInput) {
			in.SourceArn, in.SourceAccount = ptr("arn:aws:s3:::bucket"), ptr("123456789012")
		}), head + `{"Service":"s3.amazonaws.com"}` + tail + `,"Condition":{"StringEquals":{"AWS:SourceAccount":"123456789012"},"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::bucket"}}}`},
		{"token", permission("s", "alexa-appkit.amazonaws.com", func(in *sdk.AddPermissionInput) { in.EventSourceToken = ptr("amzn1.ask") }),
			head + `{"Service":"alexa-appkit.amazonaws.com"}` + tail + `,"Condition":{"StringEquals":{"lambda:EventSourceToken":"amzn1.ask"}}}`},
		{"organization", permission("s", "*", func(in *sdk.AddPermissionInput) { in.PrincipalOrgID = ptr("o-1234567890") }),
			head + `"*"` + tail + `,"Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1234567890"}}}`},
		{"url", permission("s", "*", func(in *sdk.AddPermissionInput) {
			in.Action, in.FunctionUrlAuthType = ptr("lambda:InvokeFunctionUrl"), "NONE"
		}),
			head + `"*"` + strings.Replace(tail, "Function\"", "FunctionUrl\"", 1) + `,"Condition":{"StringEquals":{"lambda:FunctionUrlAuthType":"NONE"}}}`},
		{"via url", permission("s", "*", func(in *sdk.AddPermissionInput) { in.InvokedViaFunctionUrl = aws.Bool(true) }),
			head + `"*"` + tail + `,"Condition":{"Bool":{"lambda:InvokedViaFunctionUrl":"true"}}}`},
		{"not escaped", permission("s", "s3.amazonaws.com", func(in *sdk.AddPermissionInput) { in.SourceArn = ptr("arn:aws:s3:::a&<b>") }),
			head + `{"Service":"s3.amazonaws.com"}` + tail + `,"Condition":{"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::a&<b>"}}}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got, err := statement(arnF, test.in); err != nil || got != test.want {
				t.Errorf("%v\n got %s\nwant %s", err, got, test.want)
			}
		})
	}
	for _, bad := range []string{"", "someone", "s3.amazonaws.com.evil.org", "arn:aws:s3:::bucket", "arn:aws:iam::1:root", "12345678901"} {
		_, err := statement(arnF, permission("s", bad))
		wantError(t, err, thaw.CodeInvalidParameterValue, "The provided principal was invalid. Please check the principal and try again.")
	}
	_, err := statement(arnF, permission("s", "*", func(in *sdk.AddPermissionInput) { in.FunctionUrlAuthType = "NONE" }))
	wantError(t, err, thaw.CodeInvalidParameterValue, "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")
}

func TestPolicyLifecycle(t *testing.T) {
	a, store := newAPI(t)
	first := active(t, a, store, "f")
	get := func(q *string) (*sdk.GetPolicyOutput, error) {
		return a.getPolicy(t.Context(), &sdk.GetPolicyInput{FunctionName: ptr("f"), Qualifier: q})
	}
	remove := func(sid string, change ...func(*sdk.RemovePermissionInput)) error {
		in := &sdk.RemovePermissionInput{FunctionName: ptr("f"), StatementId: &sid}
		for _, c := range change {
			c(in)
		}
		_, err := a.removePermission(t.Context(), in)
		return err
	}
	const none = "The resource you requested does not exist."
	_, err := get(nil)
	wantError(t, err, thaw.CodeResourceNotFound, none)
	wantError(t, remove("s"), thaw.CodeResourceNotFound, "No policy is associated with the given resource.")

	out, err := a.addPermission(t.Context(), permission("one", "s3.amazonaws.com"))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := get(nil)
	if err != nil || *policy.Policy != `{"Version":"2012-10-17","Id":"default","Statement":[`+*out.Statement+`]}` {
		t.Fatalf("%v %v", policy, err)
	}
	f, _ := store.Function("f")
	if *policy.RevisionId == first.Config.RevisionID || *policy.RevisionId != f.Config.RevisionID || f.Config.Generation != first.Config.Generation || f.Running.RevisionID != f.Config.RevisionID {
		t.Error("a permission gives the function a new revision, and no new generation")
	}
	_, err = a.addPermission(t.Context(), permission("one", "*"))
	wantError(t, err, thaw.CodeResourceConflict, "The statement id (one) provided already exists. Please provide a new statement id, or remove the existing statement.")
	old := func(in *sdk.AddPermissionInput) { in.RevisionId = &first.Config.RevisionID }
	_, err = a.addPermission(t.Context(), permission("two", "*", old))
	wantError(t, err, thaw.CodePreconditionFailed, revisionText)
	if _, err = a.addPermission(t.Context(), permission("two", "*", func(in *sdk.AddPermissionInput) { in.RevisionId = policy.RevisionId })); err != nil {
		t.Error(err)
	}
	qualified := func(q string) func(*sdk.AddPermissionInput) {
		return func(in *sdk.AddPermissionInput) { in.Qualifier = &q }
	}
	_, err = a.addPermission(t.Context(), permission("x", "*", qualified("$LATEST")))
	wantError(t, err, thaw.CodeInvalidParameterValue, "We currently do not support adding policies for $LATEST.")
	_, err = a.addPermission(t.Context(), permission("x", "*", qualified("1")))
	wantError(t, err, thaw.CodeResourceNotFound, "Function not found: "+arnF+":1")
	_, err = a.addPermission(t.Context(), permission("x", "*", qualified("live")))
	wantError(t, err, thaw.CodeResourceNotFound, "Cannot find alias arn: "+arnF+":live")
	_, err = a.addPermission(t.Context(), permission("x", "*", func(in *sdk.AddPermissionInput) { in.FunctionName = ptr("none") }))
	wantError(t, err, thaw.CodeResourceNotFound, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:none")
	_, err = get(ptr("$LATEST"))
	wantError(t, err, thaw.CodeResourceNotFound, none)

	wantError(t, remove("absent"), thaw.CodeResourceNotFound, "Statement absent is not found in resource policy.")
	wantError(t, remove("one", func(in *sdk.RemovePermissionInput) { in.RevisionId = &first.Config.RevisionID }), thaw.CodePreconditionFailed, revisionText)
	wantError(t, remove("one", func(in *sdk.RemovePermissionInput) { in.FunctionName = ptr("none") }), thaw.CodeResourceNotFound, "No policy found for: arn:aws:lambda:us-east-1:000000000000:function:none")
	wantError(t, remove("one", func(in *sdk.RemovePermissionInput) { in.Qualifier = ptr("$LATEST") }), thaw.CodeResourceNotFound, "")
	wantError(t, remove("one", func(in *sdk.RemovePermissionInput) { in.Qualifier = ptr("live") }), thaw.CodeResourceNotFound, "")
	if err := remove("one"); err != nil {
		t.Error(err)
	}
	if policy, err = get(nil); err != nil || strings.Contains(*policy.Policy, `"one"`) || !strings.Contains(*policy.Policy, `"two"`) {
		t.Errorf("%v %v", policy, err)
	}
	if err := remove("two"); err != nil {
		t.Error(err)
	}
	_, err = get(nil)
	wantError(t, err, thaw.CodeResourceNotFound, none)
}

func TestPolicySizeLimit(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	for i := range 300 {
		_, err := a.addPermission(t.Context(), permission(fmt.Sprintf("statement-%03d", i), "s3.amazonaws.com"))
		if err == nil {
			continue
		}
		wantPart(t, err, thaw.CodePolicyLengthExceeded, "The final policy size (20…")
		policy, err := a.getPolicy(t.Context(), &sdk.GetPolicyInput{FunctionName: ptr("f")})
		if err != nil || len(*policy.Policy) > maxPolicy || !json.Valid([]byte(*policy.Policy)) {
			t.Errorf("%v", err)
		}
		return
	}
	t.Error("no limit")
}

func TestPermissionsAtOnce(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if _, err := a.addPermission(t.Context(), permission(fmt.Sprint("s", i), "*")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if f, _ := store.Function("f"); len(f.Policies[""].Statements) != 40 {
		t.Errorf("%d of 40 statements", len(f.Policies[""].Statements))
	}
}
