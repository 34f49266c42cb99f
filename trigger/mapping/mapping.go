// Package mapping is the loop of event source mappings: it receives messages from queues, invokes functions with them, and
// deletes what the functions have dealt with. The API over the same records is another package's.
//
// Per mapping that is enabled:
//
//	source ──▶ receiver ──▶ batch ──▶ filter ──▶ invocation ──▶ settled
//	           waits for    until it     │           │            dealt with: deleted
//	           a place,     is full or   │ others    │ throttled  failed: left to the source,
//	           then for     the window   ▼           ▼            a queue shows it again after
//	           messages     is over    deleted     again, with    its visibility timeout
//	                                               a longer pause
//
// A message is received only when there is a place for its batch, so that one that waits for the function waits in its
// queue, where it counts no receive and others can have it. How many places there are follows the backlog (scaler), up to
// the mapping's MaximumConcurrency, the function's reserved concurrency and this node's bound. While a function throttles,
// the batch stays in hand and keeps its place: its messages stay hidden and count no further receive.
//
// The record of a mapping says what is asked of it; the loop makes it so and then says so in the record:
//
//	Creating, Enabling, Updating ──▶ Enabled    a runner has been started
//	Disabling, Updating          ──▶ Disabled   the runner's last batch is settled
//	Deleting                     ──▶ (nothing)  the same
//
// A mapping that changes gets a new runner at once; the old one ends its batches beside it. When Run ends, what was
// received and not yet handed to a function goes back to its source, and what functions are working on is waited for.
package mapping

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"thaw"
)

// Functions is the catalog of functions.
type Functions interface {
	Function(name string) (*thaw.Function, bool)
}

// Result is how an invocation ended.
type Result struct {
	Payload       []byte
	FunctionError bool
}

// Call is an invocation for a batch of messages.
type Call struct {
	Function  thaw.FunctionRef
	Qualifier string
	Payload   []byte
	// Traces are the X-Ray trace headers of those messages that have one, as their senders wrote them.
	Traces []string
}

// Invoke invokes a function synchronously. A throttle is a *thaw.Error with CodeTooManyRequests, a loop that the messages
// are part of one with CodeRecursiveInvocation; other errors of the platform are *thaw.Error too.
type Invoke func(ctx context.Context, c *Call) (Result, error)

// Config is what a Loop needs. Records, Functions, Queue and Invoke are required.
type Config struct {
	Account   thaw.Account
	Records   *Records
	Functions Functions
	// Queue gives a queue of this platform by the name that package queues knows it by.
	Queue  func(name string) (Queue, bool)
	Invoke Invoke
	// Count is told how many messages of a mapping one of the metrics below has. Nil: nobody is.
	Count func(uuid, metric string, messages int)
	// Expect is told of environments that will be needed for what waits. Nil: nobody is.
	Expect func(thaw.Forecast)
	// MaxConcurrency bounds the batches of one mapping at the same time. 0: 1,000.
	MaxConcurrency int
	// Grace is how long Run waits in the end for functions that are at work. 0: 10 seconds. What takes longer comes again.
	Grace time.Duration
	// Environment gives the variables with the credentials of other servers, by name; os.LookupEnv. Nil: there are none.
	Environment func(name string) (string, bool)
	// Log gets what the operator should know. Nil means slog.Default().
	Log *slog.Logger
}

// Loop follows the records. New makes it, Run runs it.
type Loop struct {
	cfg     Config
	wake    chan struct{}
	runners map[string]*runner // by UUID; Run's goroutine alone touches it
	ending  map[*runner]struct{}
	running sync.WaitGroup
	retry   bool   // the last reading of the records did not work: the next tick reads them once more
	said    string // the last failure that was logged
}

const (
	tickEvery = 500 * time.Millisecond
	// listAgain is how often the records are read although nothing was heard of a change.
	listAgain = 30 * time.Second
	// noteEvery bounds how often the outcome of batches is written into a record.
	noteEvery = 5 * time.Second
)

// New makes a Loop. The error says which field of cfg is missing.
func New(cfg Config) (*Loop, error) {
	if cfg.Records == nil || cfg.Functions == nil || cfg.Queue == nil || cfg.Invoke == nil || cfg.Account.ID == "" {
		return nil, errors.New("trigger/mapping: Account, Records, Functions, Queue and Invoke are required")
	}
	if cfg.MaxConcurrency == 0 {
		cfg.MaxConcurrency = 1000
	}
	if cfg.Grace == 0 {
		cfg.Grace = 10 * time.Second
	}
	if cfg.Environment == nil {
		cfg.Environment = func(string) (string, bool) { return "", false }
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Loop{cfg: cfg, wake: make(chan struct{}, 1), runners: map[string]*runner{}, ending: map[*runner]struct{}{}}, nil
}

// Run follows the mappings until ctx ends, and then returns nil when all that was received is settled or given back.
func (l *Loop) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	watching.Go(func() {
		_ = l.cfg.Records.Watch(ctx, l.poke) // it ends with ctx
	})
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	var listed time.Time
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-l.wake:
		case <-ticker.C:
			l.tick(ctx)
			if !l.retry && time.Since(listed) < listAgain {
				continue
			}
		}
		listed = time.Now()
		err := l.reconcile(ctx)
		l.retry = err != nil
		switch {
		case err == nil:
			l.said = ""
		case ctx.Err() == nil && err.Error() != l.said:
			l.said = err.Error()
			l.cfg.Log.Error("event source mappings cannot be followed", "error", err)
		}
	}
	l.stop()
	watching.Wait()
	return nil
}

// poke has the records read soon.
func (l *Loop) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// reconcile makes the runners what the records ask for.
func (l *Loop) reconcile(ctx context.Context) error {
	mappings, err := l.cfg.Records.All(ctx)
	if err != nil {
		return err
	}
	var failed []error
	present := map[string]bool{}
	for _, m := range mappings {
		present[m.UUID] = true
		if err := l.apply(ctx, m); err != nil {
			failed = append(failed, err)
		}
	}
	for uuid, r := range l.runners {
		if !present[uuid] { // its record went without us
			l.end(r, drain)
		}
	}
	return errors.Join(failed...)
}

// apply does what the record of one mapping asks for.
func (l *Loop) apply(ctx context.Context, m *Mapping) error {
	r := l.runners[m.UUID]
	wanted := m.Enabled && m.State != StateDeleting
	if r != nil && (!wanted || r.mapping.Revision != m.Revision) {
		l.end(r, drain)
		r = nil
	}
	if wanted {
		if r == nil {
			l.start(ctx, m)
		}
		if m.Settled() {
			return nil
		}
		return l.cfg.Records.settle(ctx, m.UUID, m.Revision, StateEnabled)
	}
	for old := range l.ending {
		if old.mapping.UUID == m.UUID && !old.ended() {
			return nil // its end wakes us
		}
	}
	switch {
	case m.State == StateDeleting:
		return l.cfg.Records.drop(ctx, m.UUID)
	case m.Settled():
		return nil
	default:
		return l.cfg.Records.settle(ctx, m.UUID, m.Revision, StateDisabled)
	}
}

func (l *Loop) start(ctx context.Context, m *Mapping) {
	r := newRunner(ctx, l, m)
	l.runners[m.UUID] = r
	l.running.Go(r.run)
}

// end tells a runner to end. Its end wakes the loop.
func (l *Loop) end(r *runner, how ending) {
	delete(l.runners, r.mapping.UUID)
	l.ending[r] = struct{}{}
	r.end(how)
}

// tick lets every runner follow its backlog, and forgets those that have ended.
func (l *Loop) tick(ctx context.Context) {
	for r := range l.ending {
		if r.ended() {
			delete(l.ending, r)
		}
	}
	for _, r := range l.runners {
		r.adjust()
		r.writeResult(ctx)
	}
}

// stop ends all runners and waits for them, for the functions at work no longer than the grace.
func (l *Loop) stop() {
	for _, r := range l.runners {
		l.end(r, giveBack)
	}
	for r := range l.ending {
		r.end(giveBack)
	}
	cut := time.AfterFunc(l.cfg.Grace, func() {
		for r := range l.ending {
			r.abandon()
		}
	})
	defer cut.Stop()
	l.running.Wait()
}
