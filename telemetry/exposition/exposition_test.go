package exposition

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"thaw"
)

// scrape reads /metrics as Prometheus does, with its own parser.
func scrape(t *testing.T, e *Exposition) map[string]*dto.MetricFamily {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	answer := httptest.NewRecorder()
	e.Handler().ServeHTTP(answer, request)
	if answer.Code != http.StatusOK {
		t.Fatalf("%d: %s", answer.Code, answer.Body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(io.TeeReader(answer.Body, io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// sum adds up the counters of a family that have all of these labels.
func sum(f *dto.MetricFamily, labels ...string) (total float64) {
	for _, m := range f.GetMetric() {
		all := ""
		for _, l := range m.GetLabel() {
			all += l.GetName() + "=" + l.GetValue() + ";"
		}
		matches := true
		for _, want := range labels {
			matches = matches && strings.Contains(all, want+";")
		}
		if matches {
			total += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount()) + m.GetGauge().GetValue()
		}
	}
	return total
}

func record(function string, change func(*thaw.Invocation)) thaw.Invocation {
	r := thaw.Invocation{Function: function, Version: thaw.Latest, Kind: thaw.StartWarm, Duration: 20 * time.Millisecond, Billed: 21 * time.Millisecond, MaxMemoryUsed: 3}
	if change != nil {
		change(&r)
	}
	return r
}

func TestWhatIsScraped(t *testing.T) {
	e := New(Config{MaxFunctions: 2, Version: "v1"})
	e.Gauge("thaw_test_gauge", "A gauge.", func() float64 { return 7 })
	e.Invocations([]thaw.Invocation{
		record("f", nil),
		record("f", func(r *thaw.Invocation) { r.Failed, r.TimedOut = true, true }),
		record("g", func(r *thaw.Invocation) {
			r.Kind, r.Cause = thaw.StartFork, thaw.CauseScaleOut
			r.Phases[thaw.PhaseHandler] = thaw.Span{Start: 6 * time.Millisecond, Length: time.Millisecond}
			r.Phases[thaw.PhaseRuntime].Length = 4 * time.Millisecond
		}),
		record("h", func(r *thaw.Invocation) { r.Kind, r.Failed = thaw.StartBoot, true }), record("i", nil), // h's init failed
	})
	e.Throttled("f", "ConcurrentInvocationLimitExceeded", 3)
	e.Throttled("j", "ConcurrentInvocationLimitExceeded", 2)
	families := scrape(t, e)
	for _, test := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"thaw_invocations_total", nil, 5},
		{"thaw_invocations_total", []string{"function=f"}, 2},
		{"thaw_invocations_total", []string{"function=" + Other}, 2},
		{"thaw_errors_total", []string{"function=f"}, 1},
		{"thaw_timeouts_total", []string{"function=f"}, 1},
		{"thaw_throttles_total", []string{"function=f", "reason=ConcurrentInvocationLimitExceeded"}, 3},
		{"thaw_throttles_total", []string{"function=" + Other}, 2},
		{"thaw_starts_total", []string{"function=g", "start_kind=fork"}, 1},
		{"thaw_starts_total", []string{"start_kind=warm"}, 3},
		{"thaw_cold_start_causes_total", []string{"cause=scale-out"}, 1},
		{"thaw_cold_start_duration_seconds", []string{"start_kind=fork"}, 1},
		{"thaw_cold_start_duration_seconds", nil, 1},
		{"thaw_start_phase_seconds", []string{"phase=runtime"}, 1},
		{"thaw_invocation_duration_seconds", []string{"function=f"}, 2},
		{"thaw_memory_used_bytes", []string{"function=f"}, 3 << 20},
		{"thaw_build_info", []string{"version=v1"}, 1},
		{"thaw_test_gauge", nil, 7},
	} {
		if got := sum(families[test.name], test.labels...); got != test.want {
			t.Errorf("%s%v is %v, want %v", test.name, test.labels, got, test.want)
		}
	}
	for _, name := range e.Names() {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, suffix)
		}
		if families[name] == nil {
			t.Errorf("%s was not scraped", name)
		}
	}
}

// TestLabelsAreBounded counts ten thousand functions.
func TestLabelsAreBounded(t *testing.T) {
	e := New(Config{MaxFunctions: 10})
	for i := range 10_000 {
		e.Invocations([]thaw.Invocation{record(fmt.Sprint("function-", i), nil)})
	}
	family := scrape(t, e)["thaw_invocations_total"]
	if n := len(family.GetMetric()); n != 11 {
		t.Errorf("%d functions have a label", n)
	}
	if got := sum(family); got != 10_000 {
		t.Errorf("%v invocations were counted", got)
	}
}

// TestQuietFunctionsMakeRoom: a name that nobody uses any more, as a deleted function's, is not kept for ever.
func TestQuietFunctionsMakeRoom(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	e := New(Config{MaxFunctions: 2, Now: func() time.Time { return now }})
	count := func(names ...string) string {
		for _, name := range names {
			e.Invocations([]thaw.Invocation{record(name, nil)})
			e.Throttled(name, "reason", 1)
		}
		families := scrape(t, e)
		told := ""
		for _, name := range []string{"a", "b", "c", "d", Other} {
			if n := sum(families["thaw_invocations_total"], "function="+name); n > 0 {
				told += fmt.Sprint(name, "=", n, " ")
			}
			if sum(families["thaw_starts_total"], "function="+name) != sum(families["thaw_throttles_total"], "function="+name) {
				t.Errorf("%s is told of in part", name)
			}
		}
		return told
	}
	if got := count("a", "b", "c"); got != "a=1 b=1 (other)=1 " {
		t.Error(got)
	}
	now = now.Add(quietFor)
	if got := count("b", "c"); got != "a=1 b=2 (other)=2 " {
		t.Error(got)
	}
	now = now.Add(lookEvery)
	if got := count("c", "d", "c"); got != "b=2 c=2 (other)=3 " {
		t.Error(got)
	}
	now = now.Add(2 * quietFor)
	if got := count("a"); got != "a=1 c=2 (other)=3 " {
		t.Error(got)
	}
}

func TestNoFunctionsByName(t *testing.T) {
	e := New(Config{})
	e.Invocations([]thaw.Invocation{record("f", nil), record("g", nil)})
	if got := sum(scrape(t, e)["thaw_invocations_total"], "function="+Other); got != 2 {
		t.Errorf("%v counted together", got)
	}
}

func BenchmarkInvocations(b *testing.B) {
	e := New(Config{MaxFunctions: 200})
	batch := make([]thaw.Invocation, 1000)
	for i := range batch {
		batch[i] = record(fmt.Sprint("function-", i%20), nil)
	}
	b.ReportAllocs()
	for b.Loop() {
		e.Invocations(batch)
	}
}
