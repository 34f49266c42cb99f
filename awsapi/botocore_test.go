package awsapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
)

// TestBotocoreReadsAnswers has the other widespread client read outputs and errors of both protocols.
func TestBotocoreReadsAnswers(t *testing.T) {
	if err := exec.Command("python3", "-c", "import botocore.session").Run(); err != nil {
		t.Skip("python3 has no botocore here, so its reading cannot be tried")
	}
	l := newLambda(t)
	Handle(l, "CreateFunction", func(_ context.Context, in *lambda.CreateFunctionInput) (*lambda.CreateFunctionOutput, error) {
		return &lambda.CreateFunctionOutput{FunctionName: in.FunctionName, State: types.StatePending, CodeSize: int64(len(in.Code.ZipFile)), Environment: &types.EnvironmentResponse{Variables: in.Environment.Variables}}, nil
	})
	Handle(l, "Invoke", func(_ context.Context, in *lambda.InvokeInput) (*lambda.InvokeOutput, error) {
		return &lambda.InvokeOutput{StatusCode: 200, Payload: in.Payload, FunctionError: new("Unhandled"), ExecutedVersion: new(thaw.Latest)}, nil
	})
	Handle(l, "GetFunction", func(_ context.Context, in *lambda.GetFunctionInput) (*lambda.GetFunctionOutput, error) {
		return nil, thaw.Errorf(thaw.CodeResourceNotFound, "Function not found: %s", *in.FunctionName)
	})
	Handle(l, "DeleteFunction", func(context.Context, *lambda.DeleteFunctionInput) (*lambda.DeleteFunctionOutput, error) {
		return nil, &thaw.Error{Code: thaw.CodeTooManyRequests, Message: "Rate Exceeded.", Reason: "CallerRateLimitExceeded", RetryAfter: time.Second}
	})
	i, err := New("iam")
	if err != nil {
		t.Fatal(err)
	}
	Handle(i, "ListRoleTags", func(context.Context, *iam.ListRoleTagsInput) (*iam.ListRoleTagsOutput, error) {
		return &iam.ListRoleTagsOutput{Tags: nil, IsTruncated: false}, nil
	})
	Handle(i, "GetRole", func(context.Context, *iam.GetRoleInput) (*iam.GetRoleOutput, error) {
		return nil, thaw.Errorf(thaw.CodeNoSuchEntity, "The role with name <r> cannot be found.")
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if service, _ := Identify(r); service == "iam" {
			i.ServeHTTP(w, r)
		} else {
			l.ServeHTTP(w, r)
		}
	}))
	defer server.Close()

	const script = `
import sys, botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError
session = botocore.session.Session()
session.set_credentials("AKIDEXAMPLE0000", "secret")
def client(name):
    return session.create_client(name, region_name="eu-west-1", endpoint_url=sys.argv[1], config=Config(retries={"max_attempts": 0}))
l, i = client("lambda"), client("iam")
def error(call, **arguments):
    try:
        call(**arguments)
    except ClientError as e:
        return e
    raise AssertionError("no error")

out = l.create_function(FunctionName="f", Role="arn:aws:iam::123456789012:role/r", Code={"ZipFile": b"\x00\xff"}, Environment={"Variables": {"AB": "é\n\"<"}})
assert out["State"] == "Pending" and out["CodeSize"] == 2 and out["Environment"]["Variables"] == {"AB": "é\n\"<"}, out
assert "LastUpdateStatus" not in out, out
assert out["ResponseMetadata"]["HTTPStatusCode"] == 201 and len(out["ResponseMetadata"]["RequestId"]) == 36, out
out = l.invoke(FunctionName="f", Payload=b"[1]")
assert out["Payload"].read() == b"[1]" and out["FunctionError"] == "Unhandled" and out["ExecutedVersion"] == "$LATEST", out

e = error(l.get_function, FunctionName="f")
assert isinstance(e, l.exceptions.ResourceNotFoundException), e
assert e.response["Error"] == {"Code": "ResourceNotFoundException", "Message": "Function not found: f"}, e.response
assert e.response["Type"] == "User" and e.response["ResponseMetadata"]["HTTPStatusCode"] == 404, e.response
e = error(l.delete_function, FunctionName="f")
assert e.response["Reason"] == "CallerRateLimitExceeded" and e.response["retryAfterSeconds"] == "1", e.response
assert e.response["Error"]["Message"] == "Rate Exceeded.", e.response
e = error(l.publish_version, FunctionName="f")
assert e.response["Error"]["Code"] == "NotImplementedException" and "PublishVersion" in e.response["Error"]["Message"], e.response

out = i.list_role_tags(RoleName="r")
assert out["IsTruncated"] is False and len(out["ResponseMetadata"]["RequestId"]) == 36, out
e = error(i.get_role, RoleName="r")
assert isinstance(e, i.exceptions.NoSuchEntityException), e
assert e.response["Error"] == {"Type": "Sender", "Code": "NoSuchEntity", "Message": "The role with name <r> cannot be found."}, e.response
e = error(i.get_role, RoleName="a/b")
assert e.response["Error"]["Code"] == "ValidationError", e.response
`
	if out, err := exec.Command("python3", "-c", script, server.URL).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
