package harness

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"thaw/internal/ownbody"
)

// Function is a function to be created. Empty fields have the defaults of their comment.
type Function struct {
	Name     string
	Runtime  types.Runtime     // python3.11
	Handler  string            // app.handler
	Source   string            // the text of app.py; Files and Zip win over it
	Files    map[string]string // by name, as Zip takes them
	Zip      []byte
	MemoryMB int32 // 128
	Timeout  int32 // 10 s
	Env      map[string]string
}

// Deploy creates a function and waits until it is Active.
func Deploy(t testing.TB, client *lambda.Client, f *Function) {
	t.Helper()
	if _, err := client.CreateFunction(t.Context(), f.Input(t)); err != nil {
		t.Fatalf("create %s: %v", f.Name, err)
	}
	WaitActive(t, client, f.Name)
}

// Input is the request that creates f.
func (f *Function) Input(t testing.TB) *lambda.CreateFunctionInput {
	t.Helper()
	in := &lambda.CreateFunctionInput{
		FunctionName: &f.Name, Role: aws.String("arn:aws:iam::000000000000:role/test"),
		Runtime: f.Runtime, Handler: &f.Handler, Code: &types.FunctionCode{ZipFile: f.Zip},
		MemorySize: aws.Int32(max(f.MemoryMB, 128)), Timeout: &f.Timeout,
	}
	if in.Runtime == "" {
		in.Runtime = types.RuntimePython311
	}
	if f.Handler == "" {
		in.Handler = aws.String("app.handler")
	}
	if f.Timeout == 0 {
		in.Timeout = aws.Int32(10)
	}
	files := f.Files
	if files == nil {
		files = map[string]string{"app.py": f.Source}
	}
	if f.Zip == nil {
		in.Code.ZipFile = Zip(t, files)
	}
	if f.Env != nil {
		in.Environment = &types.Environment{Variables: f.Env}
	}
	return in
}

// WaitActive waits until a function is Active and its last update Successful; a failed one fails the test.
func WaitActive(t testing.TB, client *lambda.Client, name string) {
	t.Helper()
	Eventually(t, name+" is Active", func() bool {
		c, err := client.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		if err != nil {
			t.Fatalf("look at %s: %v", name, err)
		}
		if c.State == types.StateFailed || c.LastUpdateStatus == types.LastUpdateStatusFailed {
			t.Fatalf("%s: %s %s", name, aws.ToString(c.StateReason), aws.ToString(c.LastUpdateStatusReason))
		}
		return c.State == types.StateActive && c.LastUpdateStatus == types.LastUpdateStatusSuccessful
	})
}

// Invoke calls a function and gives its payload, and failed when that is a function error.
func Invoke(ctx context.Context, client *lambda.Client, name, event string) (payload string, failed bool, err error) {
	out, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(event)})
	if err != nil {
		return "", false, err
	}
	return string(out.Payload), out.FunctionError != nil, nil
}

// MustInvoke calls a function, which must answer without an error.
func MustInvoke(t testing.TB, client *lambda.Client, name, event string) string {
	t.Helper()
	payload, failed, err := Invoke(t.Context(), client, name, event)
	if err != nil || failed {
		t.Fatalf("invoke %s: %v %s", name, err, payload)
	}
	return payload
}

// Code is the error code of an AWS client's error, empty if it has none.
func Code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

// ClientWith is a client of url with a key of its own; it does not retry.
func ClientWith(url, region string, keys aws.CredentialsProvider) *lambda.Client {
	return lambda.New(lambda.Options{BaseEndpoint: aws.String(strings.TrimSuffix(url, "/")), Region: region, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}, Credentials: keys})
}

// Update replaces a function's code and waits until that is successful.
func Update(t testing.TB, client *lambda.Client, name string, files map[string]string) {
	t.Helper()
	if _, err := client.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: Zip(t, files)}); err != nil {
		t.Fatalf("update %s: %v", name, err)
	}
	WaitActive(t, client, name)
}
