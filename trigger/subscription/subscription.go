// Package subscription delivers what subscription filters of log groups mean to functions, as asynchronous invocations in
// the form of CloudWatch Logs: {"awslogs": {"data": base64 of gzip of JSON}}. Metric filters go the same way: what they mean
// becomes values of metrics.
//
// Each filter has a follower of its group. It gathers events for a moment, makes one payload for each stream, and hands it
// over; when that fails it waits and tries again, for as long as AWS does, a day. Meanwhile nothing piles up: the events are
// in the store. How far a filter is, is kept, so that a restart goes on there: an event is delivered at least once, a repeat
// of the same events with the same request id.
//
// A payload carries the lineage of the chain of requests in which its events were written, with an entry for each function
// that logs have invoked in it. No function is invoked twice by logs in one chain: functions that subscribe to each other's
// logs would go round without end, and with each round there would be more of them.
//
// Locks: Deliverer.mu guards the list of followers and the counts; it is held for no call.
package subscription

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"thaw"
	"thaw/state"
	"thaw/telemetry/groups"
	"thaw/telemetry/metrics"
)

// MaxFilters bounds the filters that are followed.
const MaxFilters = 1000

// Functions tells what is deployed.
type Functions interface {
	Function(name string) (*thaw.Function, bool)
}

// Groups are read and followed; *groups.Index is one.
type Groups interface {
	Follow(ctx context.Context, group string, after uint64, fn func(sequence uint64, events []groups.Event) error) error
}

// Config is what a Deliverer needs. All but Now and Log are required.
type Config struct {
	Account   thaw.Account
	Store     *state.Store
	Groups    Groups
	Settings  *groups.Settings
	Functions Functions
	// Enqueue accepts an asynchronous invocation: it is stored when Enqueue returns. One whose id was accepted a short time
	// ago counts as that one.
	Enqueue func(ctx context.Context, i Invocation) error
	// PutMetrics takes values of metrics.
	PutMetrics func(ctx context.Context, data []metrics.Datum) error
	// Now is the clock, nil for the machine's.
	Now func() time.Time
	// Log gets what is not delivered. Nil means slog.Default().
	Log *slog.Logger
}

// Invocation is an asynchronous invocation of a function.
type Invocation struct {
	Function thaw.FunctionRef
	ID       string
	Payload  []byte
	// Lineage is that of the chain of requests that it is part of, as a trace has it. There always is one.
	Lineage string
}

// Counts are totals since the process began.
type Counts struct {
	Delivered uint64 // payloads and values
	Dropped   uint64 // events
}

// Deliverer follows the filters while Run runs.
type Deliverer struct {
	cfg       Config
	positions *state.Records
	secret    [32]byte // of this process: a chain that a restart cuts goes one round more

	mu      sync.Mutex
	running map[string]*follower // by group and filter
	counts  Counts
}

// New makes a Deliverer. The error says what is missing in cfg.
func New(cfg Config) (*Deliverer, error) {
	if cfg.Account.ID == "" || cfg.Store == nil || cfg.Groups == nil || cfg.Settings == nil || cfg.Functions == nil || cfg.Enqueue == nil || cfg.PutMetrics == nil {
		return nil, errors.New("trigger/subscription: Account, Store, Groups, Settings, Functions, Enqueue and PutMetrics are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	d := &Deliverer{cfg: cfg, positions: cfg.Store.Records("log-subscription"), running: map[string]*follower{}}
	rand.Read(d.secret[:]) //nolint:errcheck // never fails
	return d, nil
}

// Counts gives the totals.
func (d *Deliverer) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

func (d *Deliverer) count(change func(*Counts)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.counts)
}

// Run follows the filters that there are until ctx ends.
func (d *Deliverer) Run(ctx context.Context) error {
	err := d.cfg.Settings.Watch(ctx, func() { d.reconcile(ctx) })
	d.mu.Lock()
	list := d.running
	d.running = map[string]*follower{}
	d.mu.Unlock()
	for _, f := range list {
		f.stop()
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// reconcile ends the followers whose filters are gone or were changed, and starts those that are missing.
func (d *Deliverer) reconcile(ctx context.Context) {
	settings, err := d.cfg.Settings.All(ctx)
	if err != nil {
		if ctx.Err() == nil {
			d.cfg.Log.Warn("subscription filters cannot be read", "error", err)
		}
		return
	}
	wanted := map[string]*follower{}
	for name, g := range settings {
		for _, s := range g.Subscriptions {
			f := newFollower(d, name, s)
			wanted[f.key] = f
		}
		for i := range g.MetricFilters {
			f := newMetricFollower(d, name, &g.MetricFilters[i])
			wanted[f.key] = f
		}
	}
	d.mu.Lock()
	var ended []*follower
	var gone []string
	for key, f := range d.running {
		if w := wanted[key]; w == nil || w.filter != f.filter || !reflect.DeepEqual(w.metric, f.metric) {
			ended = append(ended, f)
			delete(d.running, key)
			if w == nil {
				gone = append(gone, key)
			}
		}
	}
	d.mu.Unlock()
	for _, f := range ended {
		f.stop()
	}
	for _, key := range gone {
		if err := d.positions.Delete(ctx, positionKey(key)); err != nil && !errors.Is(err, state.ErrNotFound) && ctx.Err() == nil {
			d.cfg.Log.Warn("the position of a subscription filter that is gone cannot be deleted", "error", err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, f := range wanted {
		if d.running[key] != nil {
			continue
		}
		if len(d.running) >= MaxFilters {
			d.cfg.Log.Error("a filter is not followed: there are too many", "log group", f.group, "filter", f.filter.Name, "most", MaxFilters)
			continue
		}
		d.running[key] = f
		f.start(ctx)
	}
}
