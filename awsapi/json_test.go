package awsapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"

	"thaw"
)

func newScaling(t testing.TB, fail func() error) *Service {
	t.Helper()
	s, err := New("application-autoscaling")
	if err != nil {
		t.Fatal(err)
	}
	Handle(s, "DescribeScalableTargets", func(_ context.Context, in *applicationautoscaling.DescribeScalableTargetsInput) (*applicationautoscaling.DescribeScalableTargetsOutput, error) {
		return &applicationautoscaling.DescribeScalableTargetsOutput{NextToken: in.NextToken}, fail()
	})
	Handle(s, "DeregisterScalableTarget", func(context.Context, *applicationautoscaling.DeregisterScalableTargetInput) (*applicationautoscaling.DeregisterScalableTargetOutput, error) {
		return nil, fail()
	})
	return s
}

func TestTargets(t *testing.T) {
	s := newScaling(t, func() error { return nil })
	for _, tt := range []struct {
		name, target, body string
		status             int
		want               string
	}{
		{"members", "AnyScaleFrontendService.DescribeScalableTargets", `{"ServiceNamespace":"lambda","NextToken":"n","New":{"a":[1]}}`, 200, `{"NextToken":"n"}`},
		{"no output", "AnyScaleFrontendService.DescribeScalableTargets", `{"ServiceNamespace":"lambda"}`, 200, `{}`},
		{"no body", "AnyScaleFrontendService.DescribeScalableTargets", ``, 400, `{"__type":"ValidationException","Message":"1 validation error detected: Value null at 'serviceNamespace' failed to satisfy constraint: Member must not be null"}`},
		{"no JSON", "AnyScaleFrontendService.DescribeScalableTargets", `{`, 400, `{"__type":"SerializationException","Message":"Could not parse request body into json: unexpected end of JSON input"}`},
		{"not implemented", "AnyScaleFrontendService.TagResource", `{}`, 501, `{"__type":"NotImplementedException","message":"Application Auto Scaling does not implement the operation TagResource."}`},
		{"no operation", "AnyScaleFrontendService.Dance", `{}`, 404, `{"__type":"UnknownOperationException","message":"Application Auto Scaling has no operation AnyScaleFrontendService.Dance."}`},
		{"another service's", "DynamoDB_20120810.DescribeScalableTargets", `{}`, 404, `{"__type":"UnknownOperationException","message":"Application Auto Scaling has no operation DynamoDB_20120810.DescribeScalableTargets."}`},
		{"no target", "", `{}`, 404, `{"__type":"UnknownOperationException","message":"Application Auto Scaling needs the header X-Amz-Target; the request POST / has none."}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", strings.NewReader(tt.body))
			if tt.target != "" {
				r.Header.Set("X-Amz-Target", tt.target)
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != tt.status || w.Body.String() != tt.want {
				t.Errorf("%d %s\nwant %d %s", w.Code, w.Body, tt.status, tt.want)
			}
			if got := w.Header().Get("Content-Type"); got != "application/x-amz-json-1.1" || w.Header().Get("X-Amzn-RequestId") == "" {
				t.Errorf("content type %q, header %v", got, w.Header())
			}
		})
	}
}

// TestTargetErrors shows that the service's own model decides about status and text, also where Lambda has the same code.
func TestTargetErrors(t *testing.T) {
	var fail error
	s := newScaling(t, func() error { return fail })
	s.Log = slog.New(slog.DiscardHandler)
	server := httptest.NewServer(s)
	defer server.Close()
	client := clients["application-autoscaling"](server.URL).(*applicationautoscaling.Client)
	call := func(err error) error {
		fail = err
		_, err = client.DeregisterScalableTarget(context.Background(), &applicationautoscaling.DeregisterScalableTargetInput{
			ServiceNamespace: "lambda", ResourceId: aws.String("function:f:1"), ScalableDimension: types.ScalableDimensionLambdaFunctionProvisionedConcurrency,
		})
		return err
	}
	if e, ok := errors.AsType[*types.ObjectNotFoundException](call(thaw.Errorf(thaw.CodeObjectNotFound, "None."))); !ok || aws.ToString(e.Message) != "None." {
		t.Errorf("got %v", e)
	}
	if e, ok := errors.AsType[*types.InternalServiceException](call(errors.New("secret"))); !ok || strings.Contains(e.Error(), "secret") {
		t.Errorf("got %v", e)
	}
	w := httptest.NewRecorder()
	s.WriteError(w, httptest.NewRequest("POST", "/", nil), thaw.Errorf(thaw.CodeResourceNotFound, "None."))
	var body map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != 400 || body["__type"] != "ResourceNotFoundException" || body["Message"] != "None." || body["Type"] != "" {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
