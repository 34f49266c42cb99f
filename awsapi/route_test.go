package awsapi

import (
	"context"
	"io"
	"maps"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"thaw"
)

func TestRoute(t *testing.T) {
	s := newLambda(t)
	const arn = "arn:aws:lambda:eu-west-1:123456789012:function:f"
	tests := []struct {
		method, target, want string // want is empty where there is no operation
		labels               map[string]string
	}{
		{"GET", "/2015-03-31/functions", "ListFunctions", nil},
		{"GET", "/2015-03-31/functions/", "ListFunctions", nil},
		{"GET", "/2015-03-31/functions/?MaxItems=1", "ListFunctions", nil},
		{"POST", "/2015-03-31/functions/", "CreateFunction", nil},
		{"POST", "/2014-11-13/functions/f/invoke-async/", "InvokeAsync", map[string]string{"FunctionName": "f"}},
		{"GET", "/2015-03-31/functions/f", "GetFunction", map[string]string{"FunctionName": "f"}},
		{"GET", "/2015-03-31/functions/" + arn, "GetFunction", map[string]string{"FunctionName": arn}},
		{"GET", "/2015-03-31/functions/" + strings.ReplaceAll(arn, ":", "%3A") + "%3A%24LATEST/configuration", "GetFunctionConfiguration", map[string]string{"FunctionName": arn + ":$LATEST"}},
		{"GET", "/2015-03-31/functions/a%2Fb/policy", "GetPolicy", map[string]string{"FunctionName": "a/b"}},
		{"GET", "/2015-03-31/functions/a+b", "GetFunction", map[string]string{"FunctionName": "a+b"}},
		{"GET", "/2015-03-31/functions/a%252Fb", "GetFunction", map[string]string{"FunctionName": "a%2Fb"}},
		{"DELETE", "/2015-03-31/functions/f/policy/s", "RemovePermission", map[string]string{"FunctionName": "f", "StatementId": "s"}},
		{"GET", "/2017-03-31/tags/" + arn, "ListTags", map[string]string{"Resource": arn}},
		{"POST", "/2017-03-31/tags/" + strings.ReplaceAll(arn, ":", "%3A"), "TagResource", map[string]string{"Resource": arn}},
		{"DELETE", "/2017-03-31/tags/" + arn + "/x?tagKeys=a", "UntagResource", map[string]string{"Resource": arn + "/x"}},
		{"GET", "/2018-10-31/layers", "ListLayers", nil},
		{"GET", "/2018-10-31/layers?find=LayerVersion&Arn=x", "GetLayerVersionByArn", nil},
		{"GET", "/2018-10-31/layers?find=Other", "ListLayers", nil},
		{"GET", "/2019-09-30/functions/f/provisioned-concurrency?List=ALL", "ListProvisionedConcurrencyConfigs", map[string]string{"FunctionName": "f"}},
		{"GET", "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=1", "GetProvisionedConcurrencyConfig", map[string]string{"FunctionName": "f"}},
		{"PUT", "/2026-07-09/resource-policy/" + arn, "PutResourcePolicy", map[string]string{"ResourceArn": arn}},
		{"GET", "/2025-12-01/durable-executions/" + arn + "%3A1%2Fdurable-execution%2Fa%2Fb/history", "GetDurableExecutionHistory", map[string]string{"DurableExecutionArn": arn + ":1/durable-execution/a/b"}},
		{"GET", "/2015-03-31/functions//configuration", "", nil},
		{"GET", "/2015-03-31/functions/f/other", "", nil},
		{"PATCH", "/2015-03-31/functions", "", nil},
		{"GET", "/2015-03-31", "", nil},
		{"GET", "/", "", nil},
		{"GET", "/2015-03-31/functions/f//configuration", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.target, func(t *testing.T) {
			call, err := s.router.find(httptest.NewRequest(tt.method, tt.target, nil))
			if tt.want == "" {
				if thaw.CodeOf(err) != thaw.CodeUnknownOperation || !strings.Contains(err.Error(), tt.method) {
					t.Errorf("got %v, %v", call.op, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if call.op.name != tt.want || !maps.Equal(call.labels, tt.labels) {
				t.Errorf("got %s %v, want %s %v", call.op.name, call.labels, tt.want, tt.labels)
			}
		})
	}
}

// TestEveryRouteIsReachable tries each operation's own URI.
func TestEveryRouteIsReachable(t *testing.T) {
	s := newLambda(t)
	if len(s.model.Operations) != 88 {
		t.Errorf("%d operations, want 88", len(s.model.Operations))
	}
	for name, op := range s.model.Operations {
		call, err := s.router.find(httptest.NewRequest(op.Method, strings.NewReplacer("{", "", "}", "").Replace(op.URI), nil))
		if err != nil || call.op.name != name {
			t.Errorf("%s %s goes to %v, %v", op.Method, op.URI, call.op, err)
		}
	}
}

func TestOperationsThatNobodyServes(t *testing.T) {
	tests := []struct{ service, method, target, form, code, message string }{
		{"lambda", "GET", "/2026-07-09/resource-policy/x", "", "NotImplementedException", "AWS Lambda does not implement the operation GetResourcePolicy."},
		{"lambda", "POST", "/2018-10-31/layers/l/versions", "", "NotImplementedException", "AWS Lambda does not implement the operation PublishLayerVersion."},
		{"lambda", "GET", "/2099-01-01/news", "", "UnknownOperationException", "AWS Lambda has no operation at GET /2099-01-01/news."},
		{"iam", "POST", "/", "Action=CreateUser&Version=2010-05-08", "NotImplemented", "AWS IAM does not implement the operation CreateUser."},
		{"sts", "POST", "/", "Action=Dance&Version=2011-06-15", "InvalidAction", "Could not find operation Dance for version 2011-06-15 of AWS STS."},
		{"sts", "POST", "/", "Action=GetCallerIdentity&Version=1999-01-01", "InvalidAction", "Could not find operation GetCallerIdentity for version 1999-01-01 of AWS STS."},
		{"sts", "GET", "/", "", "InvalidAction", "AWS STS needs the parameter Action; the request GET / has none."},
		{"sts", "POST", "/", "Action=%zz", "MalformedInput", `The parameters cannot be read: invalid URL escape "%zz"`},
	}
	for _, tt := range tests {
		t.Run(tt.service+" "+tt.message, func(t *testing.T) {
			s, err := New(tt.service)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(tt.method, tt.target, strings.NewReader(tt.form))
			if tt.form != "" {
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			var code, message string
			if tt.service == "lambda" {
				var c thaw.ErrorCode
				c, message = restError(t, w)
				code = string(c)
			} else {
				code, message = queryError(t, w)
			}
			if code != tt.code || message != tt.message {
				t.Errorf("got %s: %s", code, message)
			}
			if want := map[bool]int{true: 501, false: 0}[strings.HasPrefix(code, "NotImplemented")]; want != 0 && w.Code != want {
				t.Errorf("status %d", w.Code)
			}
		})
	}
}

func TestHandleRefusesMistakes(t *testing.T) {
	s := newLambda(t)
	echo[lambda.GetFunctionInput, lambda.GetFunctionOutput](s, "GetFunction")
	for name, f := range map[string]func(){
		"unknown operation": func() { echo[lambda.GetFunctionInput, lambda.GetFunctionOutput](s, "GetFunktion") },
		"no shapes":         func() { echo[lambda.GetFunctionInput, lambda.GetFunctionOutput](s, "PutResourcePolicy") },
		"registered twice":  func() { echo[lambda.GetFunctionInput, lambda.GetFunctionOutput](s, "GetFunction") },
		"another input": func() {
			echo[lambda.ListTagsInput, lambda.GetFunctionConfigurationOutput](s, "GetFunctionConfiguration")
		},
		"another output": func() { echo[lambda.GetPolicyInput, lambda.ListTagsOutput](s, "GetPolicy") },
		"streaming response": func() {
			echo[lambda.InvokeWithResponseStreamInput, lambda.InvokeWithResponseStreamOutput](s, "InvokeWithResponseStream")
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("accepted")
				}
			}()
			f()
		})
	}
	if _, err := New("s3"); err == nil {
		t.Error("there is no s3")
	}
}

func TestIdentify(t *testing.T) {
	form := "application/x-www-form-urlencoded; charset=utf-8"
	tests := []struct {
		name, method, target, body string
		header                     map[string]string
		service, region            string
	}{
		{name: "header", method: "POST", target: "/", header: map[string]string{"Authorization": "AWS4-HMAC-SHA256 Credential=AKID/20260102/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=00"}, service: "iam", region: "us-east-1"},
		{name: "header without blanks", method: "POST", target: "/", header: map[string]string{"Authorization": "AWS4-HMAC-SHA256 Credential=AKID/20260102/us-east-1/sts/aws4_request,SignedHeaders=host,Signature=00"}, service: "sts", region: "us-east-1"},
		{name: "presigned", method: "GET", target: "/?Action=X&X-Amz-Credential=AKID%2F20260102%2Feu-west-1%2Fsts%2Faws4_request", service: "sts", region: "eu-west-1"},
		{name: "target", method: "POST", target: "/", header: map[string]string{"X-Amz-Target": "DynamoDB_20120810.GetItem"}, service: "dynamodb"},
		{name: "target with prefix", method: "POST", target: "/", header: map[string]string{"X-Amz-Target": "AmazonSQS.SendMessage"}, service: "sqs"},
		{name: "target of another name", method: "POST", target: "/", header: map[string]string{"X-Amz-Target": "AWSEvents.PutEvents"}, service: "events"},
		{name: "target of Auto Scaling", method: "POST", target: "/", header: map[string]string{"X-Amz-Target": "AnyScaleFrontendService.TagResource"}, service: "application-autoscaling"},
		{name: "path", method: "GET", target: "/2015-03-31/functions", service: "lambda"},
		{name: "other path", method: "GET", target: "/2015-03-3x/functions"},
		{name: "form by version", method: "POST", target: "/", body: "Action=GetCallerIdentity&Version=2011-06-15", header: map[string]string{"Content-Type": form}, service: "sts"},
		{name: "form by action", method: "POST", target: "/", body: "Action=CreateRole", header: map[string]string{"Content-Type": form}, service: "iam"},
		{name: "form with escapes", method: "POST", target: "/", body: "Version=2011%2D06%2D15&Action=Get%43allerIdentity", header: map[string]string{"Content-Type": form}, service: "sts"},
		{name: "long form", method: "POST", target: "/", body: strings.Repeat("a=b&", 20_000) + "Action=ListMetrics&Version=2010-08-01", header: map[string]string{"Content-Type": form}, service: "monitoring"},
		{name: "query by action", method: "GET", target: "/?Action=AssumeRole&Version=2011-06-15", service: "sts"},
		{name: "unknown", method: "POST", target: "/", body: "Action=Dance", header: map[string]string{"Content-Type": form}},
		{name: "another scheme", method: "GET", target: "/", header: map[string]string{"Authorization": "Bearer x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, tt.target, strings.NewReader(tt.body))
			for name, value := range tt.header {
				r.Header.Set(name, value)
			}
			service, region := Identify(r)
			if service != tt.service || region != tt.region {
				t.Errorf("got %q %q, want %q %q", service, region, tt.service, tt.region)
			}
			if text, err := io.ReadAll(r.Body); err != nil || string(text) != tt.body {
				t.Errorf("the body is %q afterwards, %v", text, err)
			}
		})
	}
}

// TestIdentifyTakesLittle: nobody has vouched for a request when it is identified.
func TestIdentifyTakesLittle(t *testing.T) {
	var body strings.Builder
	for i := range 100_000 {
		body.WriteString("&" + strconv.Itoa(i))
	}
	made := testing.AllocsPerRun(1, func() {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body.String()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		Identify(r)
	})
	if made > 1000 {
		t.Errorf("%v allocations", made)
	}
}

// TestQueryByGET serves an operation whose parameters are all in the query string, as presigned ones are.
func TestQueryByGET(t *testing.T) {
	s, err := New("sts")
	if err != nil {
		t.Fatal(err)
	}
	account := "123456789012"
	Handle(s, "GetCallerIdentity", func(context.Context, *sts.GetCallerIdentityInput) (*sts.GetCallerIdentityOutput, error) {
		return &sts.GetCallerIdentityOutput{Account: &account}, nil
	})
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/?Action=GetCallerIdentity&Version=2011-06-15", nil))
	if w.Code != 200 || !strings.Contains(w.Body.String(), "<Account>123456789012</Account>") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestBodyLimits(t *testing.T) {
	s := newLambda(t)
	echo[lambda.InvokeInput, lambda.InvokeOutput](s, "Invoke")
	echo[lambda.CreateAliasInput, lambda.CreateAliasOutput](s, "CreateAlias")
	echo[lambda.CreateFunctionInput, lambda.CreateFunctionOutput](s, "CreateFunction")
	tests := []struct {
		name, target string
		size         int
		declared     bool
		code         thaw.ErrorCode
		message      string
	}{
		{"payload that fits", "/2015-03-31/functions/f/invocations", thaw.MaxPayload, true, "", ""},
		{"payload", "/2015-03-31/functions/f/invocations", thaw.MaxPayload + 1, true, thaw.CodeRequestTooLarge, "6291457 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)"},
		{"payload of unknown length", "/2015-03-31/functions/f/invocations", thaw.MaxPayload + 1, false, thaw.CodeRequestEntityTooLarge, "Request must be smaller than 6291456 bytes for the Invoke operation"},
		{"document", "/2015-03-31/functions/f/aliases", maxRESTBody + 1, true, thaw.CodeRequestEntityTooLarge, "Request must be smaller than 6291456 bytes for the CreateAlias operation"},
		{"package", "/2015-03-31/functions", maxCodeBody + 1, true, thaw.CodeRequestEntityTooLarge, "Request must be smaller than 70167211 bytes for the CreateFunction operation"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", tt.target, io.LimitReader(zeros{}, int64(tt.size)))
			r.ContentLength = -1
			if tt.declared {
				r.ContentLength = int64(tt.size)
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if tt.code == "" {
				if w.Code != 200 {
					t.Errorf("%d %s", w.Code, w.Body)
				}
				return
			}
			if code, message := restError(t, w); w.Code != 413 || code != tt.code || message != tt.message {
				t.Errorf("got %d %s: %s", w.Code, code, message)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
