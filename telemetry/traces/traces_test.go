package traces

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"thaw"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeCollector takes OTLP over HTTP.
type fakeCollector struct {
	t      *testing.T
	status int

	mu    sync.Mutex
	spans []*otlp.Span
	about map[string]string // the resource's attributes
}

func (c *fakeCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &request)
	}
	if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("X-Key") != "k" {
		c.t.Errorf("%s with %v: %v", r.URL, r.Header, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range request.ResourceSpans {
		for _, a := range of.Resource.Attributes {
			c.about[a.Key] = a.Value.GetStringValue()
		}
		for _, scope := range of.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
	w.WriteHeader(c.status)
}

const (
	traceHex = "5759e988bd862e3fe1be46a994272793"
	header   = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled="
)

func invocation(begin time.Time) thaw.Invocation {
	i := thaw.Invocation{
		RequestID: "r", Function: "f", Version: "3", Start: begin, Kind: thaw.StartFork, Cause: thaw.CauseFirst, MemorySize: 128, EnvironmentID: "e",
		ErrorType: "Oh", TraceID: header + "1;Lineage=a:1", Caller: [8]byte{1, 2, 3, 4, 5, 6, 7, 8},
	}
	i.Phases.Set(thaw.PhasePlace, begin, begin.Add(time.Millisecond), begin.Add(2*time.Millisecond))
	i.Phases.Set(thaw.PhaseHandler, begin, begin.Add(2*time.Millisecond), begin.Add(7*time.Millisecond))
	return i
}

// send runs a Traces against a collector while it is given records, until it has sent all.
func send(t *testing.T, c *fakeCollector, list ...thaw.Invocation) *Traces {
	t.Helper()
	server := httptest.NewServer(c)
	defer server.Close()
	tr, err := New(Config{Endpoint: server.URL, Headers: map[string]string{"X-Key": "k"}, Account: thaw.Account{ID: "000000000000", Region: "us-east-1"}, Node: "n", Version: "v", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	tr.Invocations(list)
	stop() // what waits is sent before it returns
	if err := tr.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestSpans(t *testing.T) {
	c := &fakeCollector{t: t, status: http.StatusOK, about: map[string]string{}}
	begin := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	quiet, alone := invocation(begin), invocation(begin)
	quiet.TraceID = header + "0"
	alone.Caller, alone.Function, alone.ErrorType = [8]byte{}, "alone", ""
	send(t, c, invocation(begin), quiet, alone)
	if len(c.spans) != 6 || c.about["service.name"] != "thaw" || c.about["cloud.region"] != "us-east-1" {
		t.Fatalf("%d spans of %v", len(c.spans), c.about)
	}
	byName := map[string]*otlp.Span{}
	for _, s := range c.spans[:3] {
		byName[s.Name] = s
		if hex.EncodeToString(s.TraceId) != traceHex {
			t.Errorf("%s is of trace %x", s.Name, s.TraceId)
		}
	}
	whole, place, handler := byName["f"], byName["place"], byName["handler"]
	if whole == nil || place == nil || handler == nil {
		t.Fatal(c.spans)
	}
	own := hex.EncodeToString(whole.SpanId)
	if own != "53995c3f42cd8ad8" || hex.EncodeToString(whole.ParentSpanId) != "0102030405060708" || whole.Kind != otlp.Span_SPAN_KIND_SERVER {
		t.Errorf("the invocation's span is %s of %x", own, whole.ParentSpanId)
	}
	for _, part := range []*otlp.Span{place, handler} {
		if hex.EncodeToString(part.ParentSpanId) != own || hex.EncodeToString(part.SpanId) == own {
			t.Errorf("%s is %x of %x", part.Name, part.SpanId, part.ParentSpanId)
		}
	}
	if from := uint64(begin.UnixNano()); whole.StartTimeUnixNano != from || whole.EndTimeUnixNano != from+7e6 || place.StartTimeUnixNano != from+1e6 || handler.EndTimeUnixNano != from+7e6 {
		t.Errorf("%v", c.spans)
	}
	if whole.Status.Code != otlp.Status_STATUS_CODE_ERROR || handler.Status.Message != "Oh" || place.Status.Code == otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("%v, %v", whole.Status, handler.Status)
	}
	attributes := map[string]string{}
	for _, a := range whole.Attributes {
		attributes[a.Key] = strings.Trim(a.Value.String(), `"`)
	}
	for key, want := range map[string]string{
		"faas.invocation_id": "r", "faas.coldstart": "true", "thaw.start.kind": "fork", "thaw.start.cause": "first", "error.type": "Oh",
		"cloud.resource_id": "arn:aws:lambda:us-east-1:000000000000:function:f",
	} {
		if !strings.Contains(attributes[key], want) {
			t.Errorf("%s is %s", key, attributes[key])
		}
	}
	for _, s := range c.spans[3:] {
		if s.Name == "alone" && len(s.ParentSpanId) != 0 {
			t.Errorf("one without a caller has the parent %x", s.ParentSpanId)
		}
	}
}

// A collector that refuses loses spans, which are counted; and so is what nobody takes.
func TestLossIsCounted(t *testing.T) {
	c := &fakeCollector{t: t, status: http.StatusBadRequest, about: map[string]string{}}
	if tr := send(t, c, invocation(time.Now())); tr.Failed() != 3 || tr.Dropped() != 0 {
		t.Errorf("%d failed, %d dropped", tr.Failed(), tr.Dropped())
	}
	tr, err := New(Config{Endpoint: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	tr.Invocations(make([]thaw.Invocation, 10)) // not sampled
	one := invocation(time.Now())
	for range maxWaiting + 5 {
		tr.Invocations([]thaw.Invocation{one})
	}
	if tr.Dropped() != 5 {
		t.Errorf("%d dropped", tr.Dropped())
	}
}

// What waits for a collector that hangs has a bound, and is counted beyond it; and such a collector does not hold up the end.
func TestHangingCollector(t *testing.T) {
	asked, gone := make(chan struct{}, 1), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		io.Copy(io.Discard, r.Body)
		<-gone
	}))
	defer server.Close()
	defer close(gone)
	tr, err := New(Config{Endpoint: server.URL, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- tr.Run(ctx) }()
	const spans = 3 // of each
	given := 0
	for ; given*spans <= maxSpans+batchSpans; given++ {
		tr.Invocations([]thaw.Invocation{invocation(time.Now())})
		for len(tr.waiting) > maxWaiting/2 {
			runtime.Gosched()
		}
	}
	<-asked
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if lost := tr.Dropped()*spans + tr.Failed(); lost != int64(given*spans) || tr.Dropped() == 0 || tr.made.Load() != 0 {
		t.Errorf("of %d spans %d failed, and %d invocations had none; %d are left", given*spans, tr.Failed(), tr.Dropped(), tr.made.Load())
	}
}

// A function that gives its error a type that is no text does not cost others their spans.
func TestErrorTypeIsNoText(t *testing.T) {
	c := &fakeCollector{t: t, status: http.StatusOK, about: map[string]string{}}
	odd := invocation(time.Now())
	odd.ErrorType = "O\xffh"
	if tr := send(t, c, odd, invocation(time.Now())); len(c.spans) != 6 || tr.Failed() != 0 {
		t.Errorf("%d spans, %d failed", len(c.spans), tr.Failed())
	}
}

// What is not told as the decision is none.
func TestOnlyTheDecisionCounts(t *testing.T) {
	c := &fakeCollector{t: t, status: http.StatusOK, about: map[string]string{}}
	odd := invocation(time.Now())
	odd.TraceID = header + "0;NotSampled=1"
	if send(t, c, odd); len(c.spans) != 0 {
		t.Errorf("%d spans", len(c.spans))
	}
}

// A collector's long answer is not logged as a whole, nor is what shows it who sends.
func TestComplaint(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, strings.Repeat("<p>", 10_000))
	}))
	defer server.Close()
	var logged bytes.Buffer
	tr, err := New(Config{Endpoint: server.URL, Headers: map[string]string{"Authorization": "Bearer secret"}, Log: slog.New(slog.NewTextHandler(&logged, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	tr.Invocations([]thaw.Invocation{invocation(time.Now())})
	stop()
	if err := tr.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if text := logged.String(); !strings.Contains(text, "403 Forbidden") || len(text) > maxComplaint+500 || strings.Contains(text, "secret") {
		t.Errorf("%d bytes: %.300s", len(text), text)
	}
}

func TestHeaders(t *testing.T) {
	for name, value := range map[string]string{"Host": "h", "content-type": "text/plain", "Content-Length": "1", "X Key": "k", "X-Key": "a\nb", "": ""} {
		if _, err := New(Config{Endpoint: "http://c", Headers: map[string]string{name: value}}); err == nil {
			t.Errorf("%q: %q: %v", name, value, err)
		}
	}
	if _, err := New(Config{Endpoint: "http://c", Headers: map[string]string{"Authorization": "Bearer x", "X-Key": ""}}); err != nil {
		t.Error(err)
	}
}

func TestEndpoint(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://127.0.0.1:4318": "http://127.0.0.1:4318/v1/traces", "https://c.example/": "https://c.example/v1/traces", "http://c/own/path": "http://c/own/path",
		"127.0.0.1:4318": "", "grpc://c:1": "", "http://": "", "http://\x00": "", "": "",
		"https://user:secret@c": "", "https://c/v1/traces?key=secret": "", "https://c/#part": "",
	} {
		tr, err := New(Config{Endpoint: endpoint})
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q is in %v", endpoint, err)
		}
		if (err == nil) != (want != "") || err == nil && tr.target != want {
			t.Errorf("%q: %v, %v", endpoint, tr, err)
		}
	}
}
