package metrics

import (
	"context"
	"log/slog"
	"time"

	"thaw"
)

// Bounds that are no settings.
const (
	// DefaultMaxAge is how long values are kept. AWS keeps its minutes for 15 days, and coarser values for 15 months.
	DefaultMaxAge = 30 * 24 * time.Hour
	// DefaultMaxBytes bounds what the store keeps on disk.
	DefaultMaxBytes = 1 << 30
	// DefaultMaxSeries bounds how many metrics there are, the platform's own included.
	DefaultMaxSeries = 50_000
	// MaxPast and MaxFuture are how far from now a value's time may be (CloudWatch, PutMetricData, Timestamp).
	MaxPast   = 14 * 24 * time.Hour
	MaxFuture = 2 * time.Hour
)

// Config is where metrics are kept, and how much of them.
type Config struct {
	Dir       string        // made if it is not there
	MaxAge    time.Duration // 0: DefaultMaxAge
	MaxBytes  int64         // 0: DefaultMaxBytes
	MaxSeries int           // 0: DefaultMaxSeries
	// Gauges is called once a second, from Run; nil: there are none. Metrics that it gives are the platform's own.
	Gauges func() []Gauge
	Log    *slog.Logger
	Now    func() time.Time // nil: time.Now
}

// Metrics is the store. Its methods may be called from several goroutines.
type Metrics struct{}

// Open makes the directory and nothing else; Run opens what is stored. What is written before that waits in memory, and readers
// wait until it is open.
func Open(cfg Config) (*Metrics, error) { return nil, errUnwritten }

// Run reads what is stored, then flushes, compacts and deletes what is too old until ctx ends, and closes the store.
func (m *Metrics) Run(ctx context.Context) error { return errUnwritten }

// Put adds values. Errors are *thaw.Error: CodeInvalidParameterValue for what cannot be a value, CodeLimitExceeded where MaxSeries
// metrics are there already, CodeTooManyRequests where more waits to be stored than fits into memory. On an error nothing was added.
func (m *Metrics) Put(ctx context.Context, data []Datum) error { return errUnwritten }

// Invocations adds the metrics of finished invocations. It is a sink of the recorder: calls must not overlap.
func (m *Metrics) Invocations(records []thaw.Invocation) {}

// Throttled counts an invocation that was refused; it is cheap enough for the request path. Reason is AWS's.
func (m *Metrics) Throttled(function, qualifier, reason string) {}

// Count adds to one of the platform's own metrics of the namespace AWS/Lambda of a function, such as AsyncEventsReceived or
// DeadLetterErrors: n values of 1, by function, by function and qualifier, and in all.
func (m *Metrics) Count(name, function, qualifier string, n int) {}

// Observe adds one value to such a metric, such as AsyncEventAge in milliseconds.
func (m *Metrics) Observe(name, function, qualifier, unit string, value float64) {}

// List gives at most limit metrics (1 to 10,000) in the order of their Key, beginning after the metric of that Key; next is empty
// at the end.
func (m *Metrics) List(ctx context.Context, filter Filter, after string, limit int) (found []Metric, next string, err error) {
	return nil, "", errUnwritten
}

// Query gives a metric's values from from (inclusive) to to (exclusive), merged by periods of that length, whole seconds, that begin
// at whole multiples of it since 1970. Periods without values are left out. Points are in the order of time; where values came in
// several units a period has a point of each. Unit is that of the last point, empty where there is none. The minute that is not over
// yet is among them. A metric that nobody has written has no points, and that is no error.
func (m *Metrics) Query(ctx context.Context, metric Metric, from, to time.Time, period time.Duration) (points []Point, unit string, err error) {
	return nil, "", errUnwritten
}

var errUnwritten = thaw.Errorf(thaw.CodeNotImplemented, "Metrics are not kept yet.")
