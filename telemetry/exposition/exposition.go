// Package exposition is what Prometheus reads at /metrics: counters since the start of the platform, with labels whose values are
// bounded. Functions beyond a number of them are counted together.
package exposition

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"thaw"
)

// DefaultMaxFunctions is how many functions have series of their own: each has some 60.
const DefaultMaxFunctions = 200

// Other is the label of all functions that have none of their own. It is no function's name, which has no brackets.
const Other = "(other)"

// Upper bounds of the histograms' buckets, in seconds. Native histograms, of which Prometheus may ask for instead, grow by a tenth.
var (
	durationBounds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60, 900}
	startBounds    = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}
)

// A function that has not been invoked for quietFor makes room for another one; whether there is one is looked at every lookEvery.
const (
	quietFor  = time.Hour
	lookEvery = time.Minute
)

// Config is what an Exposition is made of.
type Config struct {
	MaxFunctions int // 0: every function is counted as Other
	Version      string
	Now          func() time.Time // nil: time.Now
}

// Exposition counts what has happened. Its methods may be called from several goroutines.
type Exposition struct {
	cfg      Config
	registry *prometheus.Registry
	names    []string

	invocations, errors, timeouts, billed *prometheus.CounterVec
	starts, throttles                     *prometheus.CounterVec
	causes                                *prometheus.CounterVec
	duration, coldStart                   *prometheus.HistogramVec
	phase                                 *prometheus.HistogramVec
	memory                                *prometheus.GaugeVec

	mu        sync.Mutex
	functions map[string]*function
	looked    time.Time // for one that is quiet
}

// function holds the counters of one function, so that they are not looked up for each invocation.
type function struct {
	label                                 string
	invocations, errors, timeouts, billed prometheus.Counter
	duration                              prometheus.Observer
	memory                                prometheus.Gauge
	starts                                map[thaw.StartKind]prometheus.Counter
	used                                  time.Time
}

// New makes an Exposition that has counted nothing.
func New(cfg Config) *Exposition {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	e := &Exposition{cfg: cfg, registry: prometheus.NewRegistry(), functions: map[string]*function{}}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		e.register(v, name)
		return v
	}
	histogram := func(name, help string, bounds []float64, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: bounds,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}, labels)
		e.register(v, name, name+"_bucket", name+"_sum", name+"_count")
		return v
	}
	e.invocations = counter("thaw_invocations_total", "Invocations that have ended, function errors included.", "function")
	e.errors = counter("thaw_errors_total", "Invocations that ended in a function error, a timeout or a crash.", "function")
	e.timeouts = counter("thaw_timeouts_total", "Invocations that ran into their function's timeout.", "function")
	e.billed = counter("thaw_billed_seconds_total", "What AWS would bill, in seconds.", "function")
	e.starts = counter("thaw_starts_total", "Invocations by how their environment came to be.", "function", "start_kind")
	e.throttles = counter("thaw_throttles_total", "Invocations that were refused with 429, by AWS's reason.", "function", "reason")
	e.causes = counter("thaw_cold_start_causes_total", "Starts that were not warm, by why.", "cause")
	e.duration = histogram("thaw_invocation_duration_seconds", "How long handlers took.", durationBounds, "function")
	e.coldStart = histogram("thaw_cold_start_duration_seconds", "From the request to the handler, of starts that were not warm.", startBounds, "start_kind")
	e.phase = histogram("thaw_start_phase_seconds", "Phases of starts that were not warm.", startBounds, "phase")
	e.memory = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "thaw_memory_used_bytes", Help: "The most memory that the last invocation used."}, []string{"function"})
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "thaw_build_info", Help: "The platform's version; always 1."}, []string{"version"})
	info.WithLabelValues(cfg.Version).Set(1)
	e.register(e.memory, "thaw_memory_used_bytes")
	e.register(info, "thaw_build_info")
	e.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return e
}

// Gauge adds a value that is read at each scrape. The name is unique, and fn cheap.
func (e *Exposition) Gauge(name, help string, fn func() float64) {
	e.register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, fn), name)
}

// Counter adds a number that only grows and is read at each scrape. Labels tell several of one name apart.
func (e *Exposition) Counter(name, help string, labels map[string]string, fn func() float64) {
	e.register(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, fn), name)
}

// of gives the counters of a function. The caller holds mu.
func (e *Exposition) of(name string, now time.Time) *function {
	if f := e.functions[name]; f != nil {
		f.used = now
		return f
	}
	label := name
	if e.named() >= e.cfg.MaxFunctions && !e.forget(now) {
		if f := e.functions[Other]; f != nil {
			return f
		}
		label = Other
	}
	f := &function{
		label: label, used: now,
		invocations: e.invocations.WithLabelValues(label), errors: e.errors.WithLabelValues(label), timeouts: e.timeouts.WithLabelValues(label),
		billed: e.billed.WithLabelValues(label), duration: e.duration.WithLabelValues(label), memory: e.memory.WithLabelValues(label),
		starts: map[thaw.StartKind]prometheus.Counter{},
	}
	e.functions[label] = f
	return f
}

// named is how many functions have series of their own.
func (e *Exposition) named() int {
	if e.functions[Other] != nil {
		return len(e.functions) - 1
	}
	return len(e.functions)
}

// forget drops the series of the function that has been quiet for longest, if there is one: most are of functions that were deleted.
func (e *Exposition) forget(now time.Time) bool {
	if now.Sub(e.looked) < lookEvery {
		return false
	}
	e.looked = now
	var oldest *function
	for label, f := range e.functions {
		if label != Other && now.Sub(f.used) > quietFor && (oldest == nil || f.used.Before(oldest.used)) {
			oldest = f
		}
	}
	if oldest == nil {
		return false
	}
	delete(e.functions, oldest.label)
	of := prometheus.Labels{"function": oldest.label}
	for _, v := range []interface {
		DeletePartialMatch(labels prometheus.Labels) int
	}{e.invocations, e.errors, e.timeouts, e.billed, e.duration, e.memory, e.starts, e.throttles} {
		v.DeletePartialMatch(of)
	}
	return true
}

// Invocations counts finished invocations. It is a sink of the recorder.
func (e *Exposition) Invocations(records []thaw.Invocation) {
	now := e.cfg.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range records {
		r := &records[i]
		f := e.of(r.Function, now)
		f.invocations.Inc()
		f.duration.Observe(r.Duration.Seconds())
		f.billed.Add(r.Billed.Seconds())
		if r.Failed || r.ErrorType != "" {
			f.errors.Inc()
		}
		if r.TimedOut {
			f.timeouts.Inc()
		}
		if r.MaxMemoryUsed > 0 {
			f.memory.Set(float64(r.MaxMemoryUsed) * (1 << 20))
		}
		if r.Kind == "" {
			continue
		}
		starts := f.starts[r.Kind]
		if starts == nil {
			starts = e.starts.WithLabelValues(f.label, string(r.Kind))
			f.starts[r.Kind] = starts
		}
		starts.Inc()
		if r.Kind != thaw.StartWarm {
			e.cold(r)
		}
	}
}

func (e *Exposition) cold(r *thaw.Invocation) {
	if handler := r.Phases[thaw.PhaseHandler]; handler.Length > 0 { // not of an init that failed
		e.coldStart.WithLabelValues(string(r.Kind)).Observe(handler.Start.Seconds())
	}
	if r.Cause != "" {
		e.causes.WithLabelValues(string(r.Cause)).Inc()
	}
	for phase := range thaw.PhaseHandler {
		if length := r.Phases[phase].Length; length > 0 {
			e.phase.WithLabelValues(phase.String()).Observe(length.Seconds())
		}
	}
}

// Throttled counts n invocations that were refused.
func (e *Exposition) Throttled(name, reason string, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	label := e.of(name, e.cfg.Now()).label
	e.throttles.WithLabelValues(label, reason).Add(float64(n))
}

// Handler answers GET /metrics in the format that the scraper asks for.
func (e *Exposition) Handler() http.Handler {
	return promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// register adds a collector; names are those of its series.
func (e *Exposition) register(c prometheus.Collector, names ...string) {
	e.registry.MustRegister(c)
	e.names = append(e.names, names...)
}

// Names are those of all series that there can be, but for the Go runtime's and the process's.
func (e *Exposition) Names() []string { return slices.Clone(e.names) }
