package awsapi

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"thaw"
)

// restError reads an error answer of Lambda, whatever the case of its text's key.
func restError(t testing.TB, w *httptest.ResponseRecorder) (thaw.ErrorCode, string) {
	t.Helper()
	var body map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("status %d, body %q: %v", w.Code, w.Body, err)
	}
	if w.Header().Get("X-Amzn-RequestId") == "" {
		t.Error("no request id")
	}
	return thaw.ErrorCode(w.Header().Get("X-Amzn-ErrorType")), body["message"] + body["Message"]
}

// queryError reads an error answer of IAM or STS.
func queryError(t testing.TB, w *httptest.ResponseRecorder) (code, message string) {
	t.Helper()
	var body struct {
		XMLName xml.Name `xml:"ErrorResponse"`
		Error   struct{ Type, Code, Message string }
		ID      string `xml:"RequestId"`
	}
	if err := xml.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("status %d, body %q: %v", w.Code, w.Body, err)
	}
	if body.ID == "" || body.ID != w.Header().Get("X-Amzn-RequestId") {
		t.Errorf("request id %q in the body, %q in the header", body.ID, w.Header().Get("X-Amzn-RequestId"))
	}
	return body.Error.Code, body.Error.Message
}

// TestWireForms holds the table against the model and against the root package's list of codes.
func TestWireForms(t *testing.T) {
	m, err := models["lambda"]()
	if err != nil {
		t.Fatal(err)
	}
	for code, form := range wireForms {
		if e, ok := m.Errors[string(code)]; ok {
			fault := "User"
			if e.Status >= 500 {
				fault = "Service"
			}
			if form.status != e.Status || form.key != e.Message || form.fault != fault {
				t.Errorf("%s is %d %s %s; the model says %d %s %s", code, form.status, form.key, form.fault, e.Status, e.Message, fault)
			}
		}
	}
	iamModel, err := models["iam"]()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range iamModel.Errors {
		form, ok := wireForms[thaw.ErrorCode(e.Code)]
		if ok && (form.status != e.Status || form.query != "") {
			t.Errorf("%s is %d; the model says %d", e.Code, form.status, e.Status)
		}
	}
	file, err := parser.ParseFile(token.NewFileSet(), "../errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) == 0 {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "ErrorCode" {
			code, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if _, known := wireForms[thaw.ErrorCode(code)]; err != nil || !known {
				t.Errorf("no wire form for %s", code)
			}
		}
		return true
	})
}

// TestErrorsBecomeTyped lets the real SDK clients read errors.
func TestErrorsBecomeTyped(t *testing.T) {
	s := newLambda(t)
	var fail error
	Handle(s, "GetFunction", func(context.Context, *lambda.GetFunctionInput) (*lambda.GetFunctionOutput, error) { return nil, fail })
	server := httptest.NewServer(s)
	defer server.Close()
	client := clients["lambda"](server.URL).(*lambda.Client)
	get := func(err error) error {
		fail = err
		_, err = client.GetFunction(context.Background(), &lambda.GetFunctionInput{FunctionName: aws.String("f")})
		return err
	}

	err := get(fmt.Errorf("wrapped: %w", thaw.Errorf(thaw.CodeResourceNotFound, "Function not found: %s", "f")))
	notFound, ok := errors.AsType[*types.ResourceNotFoundException](err)
	if !ok || aws.ToString(notFound.Message) != "Function not found: f" || aws.ToString(notFound.Type) != "User" {
		t.Errorf("got %#v from %v", notFound, err)
	}
	err = get(thaw.Errorf(thaw.CodeResourceConflict, "There."))
	if conflict, ok := errors.AsType[*types.ResourceConflictException](err); !ok || aws.ToString(conflict.Message) != "There." {
		t.Errorf("got %v", err)
	}
	err = get(&thaw.Error{Code: thaw.CodeTooManyRequests, Message: "Rate Exceeded.", Reason: "ConcurrentInvocationLimitExceeded", RetryAfter: 1500 * time.Millisecond})
	throttled, ok := errors.AsType[*types.TooManyRequestsException](err)
	if !ok || throttled.Reason != types.ThrottleReasonConcurrentInvocationLimitExceeded || aws.ToString(throttled.RetryAfterSeconds) != "2" || *throttled.Message != "Rate Exceeded." {
		t.Errorf("got %#v from %v", throttled, err)
	}
	err = get(thaw.Errorf(thaw.CodeValidation, "1 validation error detected: …"))
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != "ValidationException" || api.ErrorMessage() != "1 validation error detected: …" {
		t.Errorf("got %v", err)
	}
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); !ok || response.HTTPStatusCode() != 400 {
		t.Errorf("got %v", err)
	}

	i, err := New("iam")
	if err != nil {
		t.Fatal(err)
	}
	Handle(i, "GetRole", func(context.Context, *iam.GetRoleInput) (*iam.GetRoleOutput, error) {
		return nil, thaw.Errorf(thaw.CodeNoSuchEntity, "The role with name <r> cannot be found.")
	})
	iamServer := httptest.NewServer(i)
	defer iamServer.Close()
	_, err = clients["iam"](iamServer.URL).(*iam.Client).GetRole(context.Background(), &iam.GetRoleInput{RoleName: aws.String("r")})
	if gone, ok := errors.AsType[*iamtypes.NoSuchEntityException](err); !ok || *gone.Message != "The role with name <r> cannot be found." {
		t.Errorf("got %v", err)
	}
}

// TestUnknownErrorsAreMasked shows that the caller learns nothing of an internal failure, and the log all, once.
func TestUnknownErrorsAreMasked(t *testing.T) {
	for _, name := range []string{"lambda", "iam", "application-autoscaling", "events", "scheduler"} {
		t.Run(name, func(t *testing.T) {
			s, err := New(name)
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			s.Log = slog.New(slog.NewTextHandler(&log, nil))
			for _, fail := range []error{
				errors.New("secret detail"),
				&thaw.Error{Code: thaw.CodeService, Message: "Try again.", Cause: errors.New("secret detail")},
			} {
				log.Reset()
				w := httptest.NewRecorder()
				ctx := WithRequest(context.Background(), Request{ID: "the-id"})
				s.WriteError(w, httptest.NewRequest("GET", "/", nil).WithContext(ctx), fail)
				if w.Code != 500 || strings.Contains(w.Body.String(), "secret") || w.Header().Get("X-Amzn-RequestId") != "the-id" {
					t.Errorf("the caller got %d %s %v", w.Code, w.Body, w.Header())
				}
				if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "secret detail") || !strings.Contains(log.String(), "the-id") {
					t.Errorf("the log has %q", log.String())
				}
			}
		})
	}
}

// TestCallerWhoLeft shows that a caller's going away is not logged as a failure.
func TestCallerWhoLeft(t *testing.T) {
	s := newLambda(t)
	var log bytes.Buffer
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	ctx, leave := context.WithCancel(context.Background())
	r := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
	s.WriteError(httptest.NewRecorder(), r, fmt.Errorf("reading: %w", context.Canceled))
	if log.Len() == 0 {
		t.Error("a cancelled operation of a caller who waits is a failure")
	}
	log.Reset()
	leave()
	s.WriteError(httptest.NewRecorder(), r, fmt.Errorf("reading: %w", context.Canceled))
	if log.Len() > 0 {
		t.Errorf("logged %s", log.String())
	}
}

func TestPanicIsAnswered(t *testing.T) {
	s := newLambda(t)
	var log bytes.Buffer
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	Handle(s, "GetAccountSettings", func(context.Context, *lambda.GetAccountSettingsInput) (*lambda.GetAccountSettingsOutput, error) {
		panic("secret detail")
	})
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/2016-08-19/account-settings", nil))
	code, _ := restError(t, w)
	if w.Code != 500 || code != thaw.CodeService || strings.Contains(w.Body.String(), "secret") || !strings.Contains(log.String(), "secret detail") {
		t.Errorf("got %d %s; log %q", w.Code, w.Body, log.String())
	}
}
