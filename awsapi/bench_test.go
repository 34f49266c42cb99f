package awsapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw"
)

// BenchmarkInvoke is what the layer adds to a synchronous invocation.
func BenchmarkInvoke(b *testing.B) {
	s := newLambda(b)
	Handle(s, "Invoke", func(_ context.Context, in *lambda.InvokeInput) (*lambda.InvokeOutput, error) {
		return &lambda.InvokeOutput{StatusCode: 200, Payload: in.Payload, ExecutedVersion: new(thaw.Latest)}, nil
	})
	payload := []byte(`{"key":"value"}`)
	b.ReportAllocs()
	for b.Loop() {
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/2015-03-31/functions/my-function/invocations", bytes.NewReader(payload)))
	}
}

// BenchmarkCreateFunction decodes and checks a package of the largest size.
func BenchmarkCreateFunction(b *testing.B) {
	s := newLambda(b)
	echo[lambda.CreateFunctionInput, lambda.CreateFunctionOutput](s, "CreateFunction")
	text := []byte(`{"FunctionName":"f","Role":"arn:aws:iam::123456789012:role/r","Code":{"ZipFile":"` +
		base64.StdEncoding.EncodeToString(make([]byte, thaw.MaxZip)) + `"}}`)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", "/2015-03-31/functions", bytes.NewReader(text)))
		if w.Code != 201 {
			b.Fatal(w.Body)
		}
	}
}

// BenchmarkNew is what the layer adds to the start of the platform: a model loaded, all operations bound.
func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		m, err := loadModel("lambda")
		if err != nil {
			b.Fatal(err)
		}
		s := &Service{model: m, router: newRouter(m), binder: newBinder(m), handlers: make(map[string]*handler)}
		for _, c := range calls(m, clients["lambda"]("http://localhost")) {
			if c.name != "InvokeWithResponseStream" {
				s.handle(c.name, c.in, c.out, nil)
			}
		}
	}
}

// BenchmarkVerify checks the signature of an invocation.
func BenchmarkVerify(b *testing.B) {
	v := testVerifier()
	r := signed(b, "POST", "/2015-03-31/functions/my-function/invocations", `{"key":"value"}`, time.Now(), nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(r); err != nil {
			b.Fatal(err)
		}
	}
}
