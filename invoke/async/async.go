package async

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"thaw"
	"thaw/invoke"
	"thaw/state"
	"thaw/state/queues"
)

// MaxPayload bounds the payload of an asynchronous invocation, bytes: Lambda's quota since October 2025.
const MaxPayload = 1 << 20

// Names of an event's queues; the function's name follows.
const (
	queuePrefix = "events/"
	deadPrefix  = "events-dead/"
	sqsPrefix   = "sqs/" // those that users have
)

const (
	// hidden is for how long a received event is given to nobody else. While it is attempted that is extended.
	hidden = 20 * time.Second
	// linger is how long a lane waits for another event before it looks whether it is still needed.
	linger = 10 * time.Second
	// recheck is how soon a lane that may not take more looks again, if nothing wakes it before.
	recheck = 100 * time.Millisecond
	// batch bounds how many events a lane takes at once.
	batch = 32
	// settleTime bounds a write of the engine that ends or hands back an event.
	settleTime = 10 * time.Second
)

// deadRetention is how long dead events are kept, deadLimit and deadBytes how many of each function: the oldest go first.
const (
	deadRetention = 14 * 24 * time.Hour
	deadLimit     = 10_000
	deadBytes     = 256 << 20
)

// Event is an asynchronous invocation as its caller asked for it.
type Event struct {
	Function  thaw.FunctionRef
	Qualifier string // the Qualifier parameter; Function may carry one too
	Payload   []byte // JSON of at most MaxPayload bytes; empty stands for {}
	TraceID   string // X-Amzn-Trace-Id; what a function causes carries that function's own, so that loops are seen
	RequestID string // empty: one is made. It is the same on every attempt
	// Once has an event with a RequestID that was accepted within queues.DeduplicationWindow not accepted again: what was
	// told before a crash may be told once more.
	Once bool
	// Wait has the event accepted also while the function cannot be invoked yet, as when it is Inactive: it is attempted
	// when it can be. Callers of the Lambda API are refused then, as on AWS.
	Wait bool
}

// Invoker runs one invocation; *invoke.Invoker is one.
type Invoker interface {
	// Check does what comes before an environment: whether what is asked for is there and the payload is JSON.
	Check(r *invoke.Request) (executedVersion string, err error)
	Invoke(ctx context.Context, r *invoke.Request) (*invoke.Response, error)
}

// Catalog is the node's view of what is deployed. Function never waits.
type Catalog interface {
	Function(name string) (*thaw.Function, bool)
}

// Config is what a Dispatcher needs. Queues, Invoker, Catalog and Account are required.
type Config struct {
	Queues  Queues
	Invoker Invoker
	Catalog Catalog
	Account thaw.Account
	// MaxInFlight bounds the events that are attempted at the same time. 0: 1,000, the account's default concurrency.
	MaxInFlight int
	// RetryWait is how long an event that the function failed waits for the second attempt; for the third it waits twice as
	// long. 0: a minute, AWS's.
	RetryWait time.Duration
	// MaxBackoff bounds the waits of events that found no room or no function ready; the first is RetryWait/60, and each
	// twice the last. 0: five minutes, AWS's.
	MaxBackoff time.Duration
	// Drain is how long a stop waits for attempts that are under way. 0: not at all.
	Drain time.Duration
	// Count adds to a metric of a function, of the names below, by the qualifier that the caller gave. May be nil.
	Count func(metric, function, qualifier string, n int)
	// Now is the clock, nil for the machine's.
	Now func() time.Time
	// Log gets what no caller is told. Nil means slog.Default().
	Log *slog.Logger
}

// Metrics of AWS/Lambda that are counted here, in AWS's words. Those of attempts come from their records.
const (
	metricReceived      = "AsyncEventsReceived"         // accepted for a function
	metricDropped       = "AsyncEventsDropped"          // ended without success, wherever they went then
	metricDeadLetter    = "DeadLetterErrors"            // not taken by the dead-letter queue
	metricUndeliverable = "DestinationDeliveryFailures" // not taken by a destination
)

// Dispatcher takes events in and delivers them. Its methods may be called from several goroutines.
type Dispatcher struct {
	cfg     Config
	backoff backoff

	mu      sync.Mutex
	lanes   map[string]*lane // by function
	running context.Context  // nil while Run does not run
	group   sync.WaitGroup   // the lanes' goroutines

	inFlight atomic.Int64
}

// New makes a Dispatcher. It takes events in at once; Run delivers them. The error says which field of cfg is missing.
func New(cfg Config) (*Dispatcher, error) {
	if cfg.Queues == nil || cfg.Invoker == nil || cfg.Catalog == nil || cfg.Account.ID == "" {
		return nil, errors.New("invoke/async: Queues, Invoker, Catalog and Account are required")
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = 1000
	}
	if cfg.RetryWait == 0 {
		cfg.RetryWait = time.Minute
	}
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = 5 * time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	first := max(cfg.RetryWait/60, time.Millisecond)
	return &Dispatcher{cfg: cfg, backoff: backoff{first: first, longest: max(cfg.MaxBackoff, first)}, lanes: map[string]*lane{}}, nil
}

// Enqueue stores an event and gives its request id. What it refuses, it refuses as the Lambda API does: what is asked for
// is not there or not ready, the payload is no JSON or too large, the disk is full. Whether the function has room for it is
// not asked.
func (d *Dispatcher) Enqueue(ctx context.Context, e *Event) (requestID string, err error) {
	if len(e.Payload) > MaxPayload {
		return "", TooLarge(int64(len(e.Payload)), MaxPayload)
	}
	now := d.cfg.Now()
	r := invoke.Request{Function: e.Function, Qualifier: e.Qualifier, Payload: e.Payload, TraceID: invoke.KeepTrace(e.TraceID), RequestID: e.RequestID, Start: now}
	if _, err := d.cfg.Invoker.Check(&r); err != nil && (!e.Wait || thaw.CodeOf(err) != thaw.CodeResourceConflict) {
		return "", err
	}
	if r.RequestID == "" {
		r.RequestID = uuid.NewString()
	}
	env := envelope{RequestID: r.RequestID, Qualifier: e.Qualifier, Trace: invoke.TraceHead(&r), Accepted: now.UnixMilli()}
	if env.Qualifier == "" {
		env.Qualifier = e.Function.Qualifier
	}
	if f, ok := d.cfg.Catalog.Function(e.Function.Name); ok {
		env.Kept = keep(f, env.Qualifier)
	}
	m := queues.Message{Body: e.Payload, Meta: encode(&env)}
	if e.Once {
		m.Dedup = r.RequestID
	}
	if err := d.store(ctx, e.Function.Name, m); err != nil {
		if errors.Is(err, state.ErrFull) {
			return "", &thaw.Error{Code: thaw.CodeService, Message: "The event was not accepted: the disk of the platform's data directory is full. Free some space there, then send it again.", Cause: err}
		}
		return "", fmt.Errorf("store an event of function %s: %w", e.Function.Name, err)
	}
	d.count(metricReceived, e.Function.Name, env.Qualifier)
	return r.RequestID, nil
}

func (d *Dispatcher) count(metric, function, qualifier string) {
	if d.cfg.Count != nil {
		d.cfg.Count(metric, function, qualifier, 1)
	}
}

// TooLarge is AWS's recorded text for an asynchronous payload over a limit of so many bytes.
func TooLarge(length int64, limit int) error {
	return thaw.Errorf(thaw.CodeRequestEntityTooLarge, "%d byte payload is too large for the Event invocation type (limit %d bytes)", length, limit)
}

// store puts an event into its function's queue, which is made where there is none yet, and sees to it that somebody takes
// it out.
func (d *Dispatcher) store(ctx context.Context, function string, m queues.Message) error {
	for again := false; ; again = true {
		l := d.lane(function)
		err, gone := l.send(ctx, d, m)
		switch {
		case gone:
			continue // the janitor has just put it away: d.lane makes another
		case err == nil:
			d.wake(l)
			return nil
		case again || !errors.Is(err, queues.ErrClosed) && !errors.Is(err, state.ErrNotFound):
			return err
		}
	}
}

// lane gives a function's lane, made at its first event.
func (d *Dispatcher) lane(function string) *lane {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, ok := d.lanes[function]
	if !ok {
		l = &lane{function: function, window: newWindow(), flights: map[string]*flight{}, landed: make(chan struct{}, 1)}
		d.lanes[function] = l
	}
	return l
}

// wake has a lane's goroutine run.
func (d *Dispatcher) wake(l *lane) {
	d.mu.Lock()
	ctx := d.running
	if ctx == nil || ctx.Err() != nil {
		d.mu.Unlock()
		return
	}
	d.group.Add(1) // under mu, so that Run, which ends running there, waits for it
	d.mu.Unlock()
	l.mu.Lock()
	active := l.active
	l.active = true
	l.mu.Unlock()
	if active {
		d.group.Done()
		return
	}
	go func() {
		defer d.group.Done()
		d.serve(ctx, l)
	}()
}
