package tests

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	received "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"thaw/tests/harness"
)

// tracing is an OpenTelemetry collector.
type tracing struct {
	mu    sync.Mutex
	spans []*otlp.Span
}

func (c *tracing) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var request received.ExportTraceServiceRequest
	if proto.Unmarshal(body, &request) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range request.ResourceSpans {
		for _, scope := range of.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
}

// of gives the spans of a trace by name; trace is in hexadecimal digits.
func (c *tracing) of(trace string) map[string]*otlp.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string]*otlp.Span{}
	for _, s := range c.spans {
		if hex.EncodeToString(s.TraceId) == trace {
			found[s.Name] = s
		}
	}
	return found
}

// The trace of a caller, told by X-Ray's header or W3C's, goes through the function to the collector, with the phases.
func TestTraces(t *testing.T) {
	var c tracing
	server := httptest.NewServer(&c)
	defer server.Close()
	p := harness.Start(t, harness.Options{Config: "traces:\n  endpoint: " + server.URL + "\n  sample: 0\n"})
	harness.Deploy(t, p.Lambda(), &harness.Function{Name: "f", Source: "import os\ndef handler(event, context):\n    return os.environ['_X_AMZN_TRACE_ID']\n"})
	invoke := func(name string, header, value string) (told string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL+"/2015-03-31/functions/"+name+"/invocations", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			request.Header.Set(header, value)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if err := json.NewDecoder(response.Body).Decode(&told); err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s, %v", response.Status, err)
		}
		return told
	}
	for i, ask := range []struct{ header, value string }{
		{"X-Amzn-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a99427279%d;Parent=53995c3f42cd8ad8;Sampled=1"},
		{"traceparent", "00-5759e988bd862e3fe1be46a99427279%d-53995c3f42cd8ad8-01"},
	} {
		trace := fmt.Sprintf("5759e988bd862e3fe1be46a99427279%d", i)
		told := invoke("f", ask.header, fmt.Sprintf(ask.value, i))
		var spans map[string]*otlp.Span
		harness.Eventually(t, "the spans come", func() bool { spans = c.of(trace); return spans["f"] != nil && spans["handler"] != nil })
		own := hex.EncodeToString(spans["f"].SpanId)
		if hex.EncodeToString(spans["f"].ParentSpanId) != "53995c3f42cd8ad8" || hex.EncodeToString(spans["handler"].ParentSpanId) != own {
			t.Errorf("%v", spans)
		}
		if !strings.HasPrefix(told, "Root=1-5759e988-") || !strings.Contains(told, ";Parent="+own+";Sampled=1") {
			t.Errorf("the function was told %s, and its span is %s", told, own)
		}
	}
	for _, value := range []string{"", "Root=1-5759e988-bd862e3fe1be46a994272795;Sampled=0"} {
		if told := invoke("f", "X-Amzn-Trace-Id", value); !strings.Contains(told, ";Sampled=0") {
			t.Errorf("%q became %s", value, told)
		}
	}
	// The first of a second is taken where the mode is Active.
	if _, err := p.Lambda().UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{
		FunctionName: aws.String("f"), TracingConfig: &types.TracingConfig{Mode: types.TracingModeActive},
	}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "one is sampled", func() bool {
		told := invoke("f", "", "")
		if !strings.Contains(told, ";Sampled=1") {
			return false
		}
		root, _, _ := strings.Cut(told, ";")
		root = strings.NewReplacer("Root=1-", "", "-", "").Replace(root)
		harness.Eventually(t, "its span comes", func() bool { return c.of(root)["f"] != nil })
		return true
	})
	p.Stop()
	harness.NothingLeft(t, p.Data)
}

// Without a collector the mode Active is refused, not ignored.
func TestActiveTracingNeedsACollector(t *testing.T) {
	p := harness.Start(t, harness.Options{})
	harness.Deploy(t, p.Lambda(), &harness.Function{Name: "f", Source: "def handler(event, context):\n    return 1\n"})
	_, err := p.Lambda().UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{
		FunctionName: aws.String("f"), TracingConfig: &types.TracingConfig{Mode: types.TracingModeActive},
	})
	if err == nil || !strings.Contains(err.Error(), "traces.endpoint") {
		t.Error(err)
	}
}
