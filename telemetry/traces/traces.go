// Package traces sends what happened in sampled invocations to an OpenTelemetry collector: a span for each, in the trace of its
// caller, with a span for each phase in it. It takes records as they are, off the request path, and sends them in batches with
// OTLP over HTTP. When the collector is slow or away, spans are dropped and counted; the platform goes on.
package traces

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/net/http/httpguts"

	"thaw"
	"thaw/telemetry/xray"
)

const (
	// maxWaiting is how many invocations may wait for Run.
	maxWaiting = 4096
	// maxSpans is how many spans may wait for the collector or be on their way, and batchSpans how many go in one request.
	maxSpans   = 16_384
	batchSpans = 512
	// maxComplaint bounds what is logged of a collector's answer, bytes.
	maxComplaint = 500
	// sendEvery is how long a span waits for others.
	sendEvery = time.Second
	// sendTime bounds one request to the collector with its repetitions; stopTime what is left when the platform stops.
	sendTime = 10 * time.Second
	stopTime = 3 * time.Second
	// complainEvery is how often a collector that fails is logged.
	complainEvery = time.Minute
)

// Config says where traces go.
type Config struct {
	// Endpoint is the collector's OTLP/HTTP address, such as http://127.0.0.1:4318; /v1/traces follows unless it has a path.
	Endpoint string
	// Headers are sent along, such as an Authorization.
	Headers map[string]string
	Account thaw.Account
	Node    string // service.instance.id
	Version string // the platform's
	Log     *slog.Logger
}

// Traces sends spans while Run runs.
type Traces struct {
	cfg     Config
	target  string
	waiting chan thaw.Invocation
	made    atomic.Int64 // spans that the collector has not been asked to take yet, or has not answered for
	dropped atomic.Int64
	failed  atomic.Int64
}

// New makes a Traces; it fails for an Endpoint that is no address, and for Headers that cannot be sent.
func New(cfg Config) (*Traces, error) {
	u, err := url.Parse(cfg.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("it is no address of a collector, such as http://127.0.0.1:4318")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("only a host, a port and a path can be in a collector's address. What shows the collector who sends goes in traces.headers, such as Authorization")
	}
	if err := checkHeaders(cfg.Headers); err != nil {
		return nil, err
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/traces"
	}
	return &Traces{cfg: cfg, target: u.String(), waiting: make(chan thaw.Invocation, maxWaiting)}, nil
}

// checkHeaders refuses what would not be sent, by name only: values are secrets.
func checkHeaders(headers map[string]string) error {
	for name, value := range headers {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return fmt.Errorf("the header %q has a name or a value that HTTP does not allow", name)
		}
		switch http.CanonicalHeaderKey(name) {
		case "Host", "Content-Type", "Content-Encoding", "Content-Length", "Transfer-Encoding", "Trailer", "Connection":
			return fmt.Errorf("the header %s is the platform's own; leave it out", name)
		}
	}
	return nil
}

// Invocations takes those of the records that are sampled. It does not block: what Run cannot keep up with is dropped.
func (t *Traces) Invocations(list []thaw.Invocation) {
	for i := range list {
		if !strings.Contains(list[i].TraceID, "Sampled=1") {
			continue
		}
		select {
		case t.waiting <- list[i]:
		default:
			t.dropped.Add(1)
		}
	}
}

// Dropped counts the sampled invocations that nothing was sent of, and Failed the spans that the collector did not take.
func (t *Traces) Dropped() int64 { return t.dropped.Load() }

// Failed counts the spans that were made and that the collector did not take.
func (t *Traces) Failed() int64 { return t.failed.Load() }

// Run sends spans until ctx ends, and then what is left, for stopTime at most; what the collector has not taken by then has
// failed.
func (t *Traces) Run(ctx context.Context) error {
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	exporter, err := otlptracehttp.New(context.WithoutCancel(ctx), otlptracehttp.WithEndpointURL(t.target), otlptracehttp.WithHeaders(t.cfg.Headers), otlptracehttp.WithTimeout(sendTime))
	if err != nil {
		return fmt.Errorf("traces: %w", err)
	}
	out := &complaining{SpanExporter: exporter, of: t, sending: sending}
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(out, sdk.WithMaxQueueSize(maxSpans), sdk.WithMaxExportBatchSize(batchSpans), sdk.WithBatchTimeout(sendEvery), sdk.WithExportTimeout(sendTime)),
		sdk.WithIDGenerator(ids{}), sdk.WithSampler(sdk.AlwaysSample()),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "thaw"), attribute.String("service.version", t.cfg.Version), attribute.String("service.instance.id", t.cfg.Node),
			attribute.String("cloud.provider", "aws"), attribute.String("cloud.platform", "aws_lambda"), attribute.String("cloud.region", t.cfg.Account.Region), attribute.String("cloud.account.id", t.cfg.Account.ID),
		)),
	)
	tracer := provider.Tracer("thaw")
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case i := <-t.waiting:
			t.spans(ctx, tracer, &i)
		}
	}
	defer time.AfterFunc(stopTime, cut).Stop()
	for len(t.waiting) > 0 {
		i := <-t.waiting
		t.spans(ctx, tracer, &i)
	}
	// It returns when nothing of it goes on any more. What was not taken is counted, and has been logged.
	_ = provider.Shutdown(context.WithoutCancel(ctx))
	return nil
}

// spans makes those of one invocation.
func (t *Traces) spans(ctx context.Context, tracer trace.Tracer, i *thaw.Invocation) {
	head, ok := xray.Parse(i.TraceID)
	if !ok || head.Decision != xray.Sampled {
		return
	}
	// Whole invocations are dropped: the SDK would drop some of their spans, and tell nobody.
	n := int64(1)
	for _, span := range i.Phases {
		if span.Length > 0 {
			n++
		}
	}
	if t.made.Add(n) > maxSpans {
		t.made.Add(-n)
		t.dropped.Add(1)
		return
	}
	// The header says what the function was told: its Parent is the invocation's own segment.
	own := want{trace: head.Root, span: head.Parent}
	if caller := trace.NewSpanContext(trace.SpanContextConfig{TraceID: head.Root, SpanID: i.Caller, TraceFlags: trace.FlagsSampled, Remote: true}); caller.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, caller)
	}
	ctx = context.WithValue(ctx, wantKey{}, own)
	ctx, whole := tracer.Start(ctx, i.Function, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(i.Start), trace.WithAttributes(t.attributes(i)...))
	ctx = context.WithValue(ctx, wantKey{}, want{})
	end := i.Start
	for p, span := range i.Phases {
		if span.Length <= 0 {
			continue
		}
		begin := i.Start.Add(span.Start)
		_, part := tracer.Start(ctx, thaw.Phase(p).String(), trace.WithTimestamp(begin))
		over := begin.Add(span.Length)
		if over.After(end) {
			end = over
		}
		if thaw.Phase(p) == thaw.PhaseHandler && i.ErrorType != "" {
			part.SetStatus(codes.Error, errorType(i))
		}
		part.End(trace.WithTimestamp(over))
	}
	if i.ErrorType != "" {
		whole.SetStatus(codes.Error, errorType(i))
	}
	whole.End(trace.WithTimestamp(end))
}

// errorType is text for certain: one byte that is not would cost a whole batch, other functions' spans included.
func errorType(i *thaw.Invocation) string { return strings.ToValidUTF8(i.ErrorType, "\uFFFD") }

// attributes have the names of OpenTelemetry's semantic conventions for functions where there is one.
func (t *Traces) attributes(i *thaw.Invocation) []attribute.KeyValue {
	list := []attribute.KeyValue{
		attribute.String("faas.invocation_id", i.RequestID),
		attribute.String("faas.invoked_name", i.Function),
		attribute.String("faas.version", i.Version),
		attribute.String("faas.instance", i.EnvironmentID),
		attribute.Bool("faas.coldstart", i.Kind != thaw.StartWarm),
		attribute.Int("faas.max_memory", i.MemorySize<<20),
		attribute.String("cloud.resource_id", fmt.Sprintf("arn:aws:lambda:%s:%s:function:%s", t.cfg.Account.Region, t.cfg.Account.ID, i.Function)),
		attribute.String("thaw.start.kind", string(i.Kind)),
		attribute.Int64("thaw.billed_ms", i.Billed.Milliseconds()),
		attribute.Int("thaw.max_memory_used_mb", i.MaxMemoryUsed),
	}
	if i.Cause != "" {
		list = append(list, attribute.String("thaw.start.cause", string(i.Cause)))
	}
	if i.ErrorType != "" {
		list = append(list, attribute.String("error.type", errorType(i)))
	}
	return list
}

// want is the ids that a span is to have; where it is zero, new ones are made.
type want struct {
	trace trace.TraceID
	span  trace.SpanID
}

type wantKey struct{}

// ids gives spans the ids that their context asks for: the invocation's span is the segment that its function was told of, so
// that what the function does itself is seen below it.
type ids struct{}

func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	w, _ := ctx.Value(wantKey{}).(want)
	return w.trace, ids{}.NewSpanID(ctx, w.trace)
}

func (ids) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if w, _ := ctx.Value(wantKey{}).(want); w.span.IsValid() {
		return w.span
	}
	return xray.NewSegment()
}

// complaining counts and logs what an exporter could not send, the first and then one a minute.
type complaining struct {
	sdk.SpanExporter
	of      *Traces
	sending context.Context // its end ends each request
	next    time.Time       // ExportSpans is not called twice at a time
}

func (c *complaining) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	defer c.of.made.Add(-int64(len(spans)))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.sending, cancel)()
	err := c.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		c.next = time.Time{}
		return nil
	}
	c.of.failed.Add(int64(len(spans)))
	if now := time.Now(); !now.Before(c.next) && !errors.Is(err, context.Canceled) {
		c.next = now.Add(complainEvery)
		reason := err.Error() // may have a page of HTML in it
		c.of.cfg.Log.Warn("the collector does not take traces; they are dropped until it does", "endpoint", c.of.target, "error", reason[:min(len(reason), maxComplaint)])
	}
	return nil // the SDK would print it through a handler of the whole process
}
