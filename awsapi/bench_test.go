package awsapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/fxamacker/cbor/v2"

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

// BenchmarkPutMetricData decodes and checks 1,000 metrics of three dimensions in each protocol: what a request may hold.
func BenchmarkPutMetricData(b *testing.B) {
	s := newService(b, "monitoring")
	count := 0
	Handle(s, "PutMetricData", func(_ context.Context, in *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
		count += len(in.MetricData)
		return nil, nil
	})
	form, data := url.Values{"Action": {"PutMetricData"}, "Namespace": {"my-app"}}, []any{}
	for i := range 1000 {
		at := fmt.Sprintf("MetricData.member.%d.", i+1)
		form.Set(at+"MetricName", "Latency")
		form.Set(at+"Value", "12.5")
		var dimensions []any
		for j, name := range []string{"FunctionName", "Resource", "Version"} {
			dimension := fmt.Sprintf("%sDimensions.member.%d.", at, j+1)
			form.Set(dimension+"Name", name)
			form.Set(dimension+"Value", "value")
			dimensions = append(dimensions, map[string]any{"Name": name, "Value": "value"})
		}
		data = append(data, map[string]any{"MetricName": "Latency", "Value": 12.5, "Dimensions": dimensions})
	}
	body := map[string]any{"Namespace": "my-app", "MetricData": data}
	asJSON, _ := json.Marshal(body)
	asCBOR, _ := cbor.Marshal(body)
	for _, c := range []struct {
		name, path, kind string
		text             []byte
		header           []string
	}{
		{"json", "/", "application/x-amz-json-1.0", asJSON, []string{"X-Amz-Target", "GraniteServiceVersion20100801.PutMetricData"}},
		{"cbor", "/service/GraniteServiceVersion20100801/operation/PutMetricData", cborContentType, asCBOR, []string{rpcHeader, rpcProtocol}},
		{"query", "/", "application/x-www-form-urlencoded", []byte(form.Encode()), []string{"Accept", "*/*"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.text)))
			b.ReportAllocs()
			count = 0
			for b.Loop() {
				r := httptest.NewRequest("POST", c.path, bytes.NewReader(c.text))
				r.Header.Set("Content-Type", c.kind)
				r.Header.Set(c.header[0], c.header[1])
				w := httptest.NewRecorder()
				s.ServeHTTP(w, r)
				if w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
			if count != 1000*b.N {
				b.Errorf("%d metrics in %d requests", count, b.N)
			}
		})
	}
}

// BenchmarkModel loads the models that CloudWatch adds to the start of the platform.
func BenchmarkModel(b *testing.B) {
	for _, name := range []string{"monitoring", "logs"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := loadModel(name); err != nil {
					b.Fatal(err)
				}
			}
		})
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
