// Package scheduler fires EventBridge's rules with a schedule and the schedules of EventBridge Scheduler. It keeps the
// records of the latter, and of what has been fired; the API over them is another package's.
//
//	rules, schedules ──▶ heap by time ──▶ forecast ──▶ claim ──▶ deliver ──▶ fired
//	  followed in         one timer        some         one       stored by    stored
//	  the store                            seconds      node      the target
//	                                       before       only
//
// Any number of nodes may run the loop. A slot, a time that an expression names, is claimed by a compare-and-set before it
// is fired and noted as fired after its targets have stored what they get. A node that dies in between leaves its claim
// behind, and when that has expired another fires the slot again, with the same ids. Functions and FIFO queues that got
// theirs within the last five minutes (queues.DeduplicationWindow) do not get it twice; other queues do.
//
// Of slots that were missed, because no node ran or the clock was put forward, the newest is fired, once, unless it is
// older than Config.CatchUp; a one-time schedule is fired as long as its MaximumEventAgeInSeconds allows. One that a node
// had begun with is fired besides. A slot that was fired is not fired again when the clock is put back.
//
// Locks: Loop.mu guards what the feeds have brought, and is held for moments. The heap belongs to the goroutine that calls
// Tick. An entry belongs to it too, but for the time in which a goroutine that Tick waits for fires it.
package scheduler

import (
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"thaw"
	"thaw/state"
	"thaw/trigger/delivery"
	"thaw/trigger/events"
)

// Config is what a Loop needs. All fields but CatchUp, Lead, Expect, Now and Log are required.
type Config struct {
	Store   *state.Store
	Account thaw.Account
	Deliver events.Deliver
	// CatchUp is how old a slot may be that is fired late; 0: DefaultCatchUp. Less than a minute counts as one, which is
	// EventBridge's own precision.
	CatchUp time.Duration
	// Lead is how long before a slot Expect is called for it; 0: DefaultLead.
	Lead time.Duration
	// Expect is told what will be invoked, once for each slot. It must return at once. Nil: nobody is told.
	Expect func(thaw.Forecast)
	// Now is the clock, nil for the machine's.
	Now func() time.Time
	// Log gets what has no other way out. Nil means slog.Default().
	Log *slog.Logger
}

// Defaults of Config.
const (
	DefaultCatchUp = 5 * time.Minute
	DefaultLead    = 10 * time.Second
)

const (
	lookEvery = time.Second // at most, so that a change of the clock is seen
	tryAgain  = time.Second
	fireLive  = 32 // entries that are fired at a time
)

// Counts are totals since the process began.
type Counts struct {
	Fired  uint64 // slots that this node fired
	Missed uint64 // times that the newest slot was found too old to be fired
	Active int    // rules and schedules that are waited for
}

// Loop fires. New makes it, Run runs it.
type Loop struct {
	cfg     Config
	records *Records
	rules   *events.Records
	node    string // tells this process's claims from others'
	entries map[string]*entry
	zones   zones
	queue   queue
	looked  time.Time // when Tick was called last

	fired, missed atomic.Uint64
	active        atomic.Int64

	mu      sync.Mutex
	changes map[string]change
	wake    chan struct{}
}

// change is what a feed has brought: one of the two, or neither for what is gone.
type change struct {
	rule     *events.Rule
	schedule *Schedule
}

// entry is an enabled rule or schedule.
type entry struct {
	key      string // rule/NAME or schedule/GROUP/NAME
	id       string
	agenda   *agenda
	rule     *events.Rule
	schedule *Schedule
	wakeAt   time.Time
	index    int
	progress progress  // as it was when it was seen last
	foretold time.Time // the slot that Expect was told of last
	skipped  time.Time // the slot that was found too old last
	// again is when to try again, zero if all went well. delivered is the slot that was delivered and could not be noted.
	again, delivered time.Time
}

// New makes a loop. The error says what is missing in cfg.
func New(cfg Config) (*Loop, error) {
	if cfg.Store == nil || cfg.Deliver == nil {
		return nil, errors.New("trigger/scheduler: Store and Deliver are required")
	}
	if cfg.CatchUp == 0 {
		cfg.CatchUp = DefaultCatchUp
	}
	cfg.CatchUp = max(cfg.CatchUp, precision)
	if cfg.Lead == 0 {
		cfg.Lead = DefaultLead
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Loop{
		cfg: cfg, records: NewRecords(cfg.Store), rules: events.NewRecords(cfg.Store), node: uuid.NewString(),
		entries: map[string]*entry{}, zones: zones{}, changes: map[string]change{}, wake: make(chan struct{}, 1),
	}, nil
}

// Counts gives the totals.
func (l *Loop) Counts() Counts {
	return Counts{Fired: l.fired.Load(), Missed: l.missed.Load(), Active: int(l.active.Load())}
}

// Run fires until ctx ends, and then returns nil. A failure is logged and tried again.
func (l *Loop) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer stop()
	failed := make(chan error, 2)
	ready := l.follow(ctx, func(err error) { failed <- err; stop() }, &following)
	select {
	case <-ready:
	case <-ctx.Done():
	}
	if ctx.Err() == nil {
		l.prepare(ctx)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			following.Wait()
			close(failed)
			for err := range failed {
				if err != nil {
					return err
				}
			}
			return nil
		case <-timer.C:
		case <-l.wake:
		}
		next := l.Tick(ctx)
		timer.Reset(min(max(next.Sub(l.cfg.Now()), 0), lookEvery))
	}
}

// follow starts both feeds. The channel is closed when all that is there has come.
func (l *Loop) follow(ctx context.Context, ended func(error), following *sync.WaitGroup) <-chan struct{} {
	both := make(chan struct{})
	var waiting atomic.Int32
	waiting.Store(2)
	ready := func() func() {
		return sync.OnceFunc(func() {
			if waiting.Add(-1) == 0 {
				close(both)
			}
		})
	}
	following.Go(func() {
		ended(l.rules.Follow(ctx, func(name string, r *events.Rule) { l.changed("rule/"+name, change{rule: r}) }, ready()))
	})
	following.Go(func() {
		ended(l.records.schedules.Follow(ctx, func(key string, value json.RawMessage) {
			var s *Schedule
			if value != nil {
				s = new(Schedule)
				if err := json.Unmarshal(value, s); err != nil {
					l.cfg.Log.Error("a schedule cannot be read and is not fired", "schedule", key, "error", err)
					s = nil
				}
			}
			l.changed("schedule/"+key, change{schedule: s})
		}, ready()))
	})
	return both
}

func (l *Loop) changed(key string, c change) {
	l.mu.Lock()
	l.changes[key] = c
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// prepare takes in what is there, with what has been fired of it, and finishes what a node that died has left: the deletion
// of groups, and the progress of what is gone.
func (l *Loop) prepare(ctx context.Context) {
	l.applyChanges(ctx)
	all, err := l.records.progress.List(ctx, "")
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		l.cfg.Log.Error("what has been fired is looked up one by one", "error", err)
	}
	for _, record := range all {
		var p progress
		if json.Unmarshal(record.Value, &p) != nil {
			continue
		}
		if e := l.entries[record.Key]; e != nil && e.id == p.ID {
			e.progress = p
		} else if l.gone(ctx, record.Key, p.ID) {
			l.forget(ctx, record.Key, p.ID)
		}
	}
	groups, err := l.records.Groups(ctx, "")
	for _, g := range groups {
		if g.Deleting {
			err = errors.Join(err, l.records.DeleteGroup(ctx, g.Name))
		}
	}
	if err != nil && ctx.Err() == nil {
		l.cfg.Log.Error("a schedule group whose deletion was interrupted is not deleted yet", "error", err)
	}
}

// gone reports whether a rule or schedule is stored no more. The feeds may be behind other nodes.
func (l *Loop) gone(ctx context.Context, key, id string) bool {
	kind, name, _ := strings.Cut(key, "/")
	if kind == "rule" {
		r, err := l.rules.Rule(ctx, name)
		return errors.Is(err, state.ErrNotFound) || err == nil && r.ID != id
	}
	group, name, _ := strings.Cut(name, "/")
	s, err := l.records.Schedule(ctx, group, name)
	return errors.Is(err, state.ErrNotFound) || err == nil && s.ID != id
}

// forget deletes the progress of what is gone. Failing that it stays, and hurts nobody.
func (l *Loop) forget(ctx context.Context, key, id string) {
	err := state.DeleteRecord(ctx, l.records.progress, key, func(p *progress) error {
		if p.ID != id {
			return errNotOurs
		}
		return nil
	})
	if err != nil && !errors.Is(err, errNotOurs) && !errors.Is(err, state.ErrNotFound) && ctx.Err() == nil {
		l.cfg.Log.Warn("what has been fired of a deleted schedule is kept", "schedule", key, "error", err)
	}
}

// applyChanges takes in what the feeds have brought.
func (l *Loop) applyChanges(ctx context.Context) {
	l.mu.Lock()
	changes := l.changes
	l.changes = map[string]change{}
	l.mu.Unlock()
	for key, c := range changes {
		old := l.entries[key]
		fresh := l.makeEntry(key, c)
		if old != nil {
			heap.Remove(&l.queue, old.index)
			delete(l.entries, key)
			if fresh != nil && fresh.id == old.id {
				fresh.progress, fresh.foretold, fresh.skipped, fresh.delivered = old.progress, old.foretold, old.skipped, old.delivered
			} else if old.progress.ID != "" && l.gone(ctx, key, old.id) {
				l.forget(ctx, key, old.id)
			}
		}
		if fresh != nil {
			l.entries[key] = fresh
			heap.Push(&l.queue, fresh)
		}
	}
	l.active.Store(int64(len(l.entries)))
}

// makeEntry gives an entry that is looked at at once, nil for what never fires.
func (l *Loop) makeEntry(key string, c change) *entry {
	e := &entry{key: key, rule: c.rule, schedule: c.schedule}
	var err error
	switch {
	case c.rule != nil && c.rule.State == events.Enabled && c.rule.Schedule != "":
		e.id = c.rule.ID
		e.agenda, err = l.zones.ruleAgenda(c.rule)
	case c.schedule != nil && c.schedule.State == events.Enabled:
		e.id = c.schedule.ID
		e.agenda, err = l.zones.scheduleAgenda(c.schedule)
	default:
		return nil
	}
	if err != nil {
		l.cfg.Log.Error("a stored schedule cannot be read and is not fired", "schedule", key, "error", err)
		return nil
	}
	return e
}

// Tick fires what is due and returns when it is done, with the time at which something is to be done next: what Run does,
// at least every second. It must not be called while Run runs.
func (l *Loop) Tick(ctx context.Context) (next time.Time) {
	l.applyChanges(ctx)
	now := l.cfg.Now().UTC().Round(0) // what the clock on the wall says, not how much time has passed
	if l.looked.Sub(now) > time.Second {
		for _, e := range l.queue { // all were planned for a clock that has been put back since
			e.wakeAt = now
		}
		heap.Init(&l.queue)
	}
	l.looked = now
	var looked []*entry
	for len(l.queue) > 0 && !l.queue[0].wakeAt.After(now) {
		looked = append(looked, heap.Pop(&l.queue).(*entry))
	}
	var firing sync.WaitGroup
	live := make(chan struct{}, fireLive)
	for _, e := range looked {
		e.again = time.Time{}
		slot, ok := l.pick(e, now)
		if !ok {
			continue
		}
		live <- struct{}{}
		firing.Go(func() {
			defer func() { <-live }()
			e.again = l.fire(ctx, e, slot)
		})
	}
	firing.Wait()
	expected := forecasts{}
	for _, e := range looked {
		if e.wakeAt = e.again; e.again.IsZero() {
			l.plan(ctx, e, now, expected)
		}
		heap.Push(&l.queue, e)
	}
	for k, n := range expected {
		l.cfg.Expect(thaw.Forecast{Function: k.function, Qualifier: k.qualifier, At: k.at, Environments: n})
	}
	if len(l.queue) == 0 {
		return now.Add(lookEvery)
	}
	return l.queue[0].wakeAt
}

// pick gives the slot that an entry fires now, if there is one: the newest that is due, has not been fired and is not too
// old.
func (l *Loop) pick(e *entry, now time.Time) (time.Time, bool) {
	slot, ok := e.agenda.due(now)
	if !ok || e.progress.ID == e.id && e.progress.fired(slot) {
		return slot, false
	}
	if late := now.Sub(slot.Add(e.agenda.shift)); late > l.limit(e) {
		if !e.skipped.Equal(slot) {
			e.skipped = slot
			l.missed.Add(1)
			l.cfg.Log.Warn("a schedule was missed and is not made up for", "schedule", e.key, "slot", slot, "late", late)
		}
		return slot, false
	}
	return slot, true
}

// limit is how late an entry may be fired.
func (l *Loop) limit(e *entry) time.Duration {
	if e.agenda.kind == "at" && e.schedule != nil {
		return max(l.cfg.CatchUp, e.schedule.Target.Policy.Age)
	}
	return l.cfg.CatchUp
}

// forecasts counts what is invoked, by function and second.
type forecasts map[forecastKey]int

type forecastKey struct {
	function, qualifier string
	at                  time.Time
}

// plan sets when to look at an entry next: at its next slot, and some seconds before, when the slot is added to expected.
func (l *Loop) plan(ctx context.Context, e *entry, now time.Time, expected forecasts) {
	next, ok := e.agenda.next(now)
	if !ok {
		if slot, was := e.agenda.due(now); was && e.skipped.Equal(slot) {
			l.complete(ctx, e)
		}
		e.wakeAt = now.Add(idle)
		return
	}
	e.wakeAt = next.Add(e.agenda.shift)
	if l.cfg.Expect == nil || e.foretold.Equal(next) {
		return
	}
	if tell := e.wakeAt.Add(-l.cfg.Lead); tell.After(now) {
		e.wakeAt = tell
		return
	}
	e.foretold = next
	for _, ref := range e.functions(l.cfg.Account) {
		expected[forecastKey{ref.Name, ref.Qualifier, e.wakeAt.Truncate(time.Second)}]++
	}
}

// idle is how often an entry is looked at that has no slot to come.
const idle = time.Hour

// functions are those that an entry invokes.
func (e *entry) functions(account thaw.Account) (refs []thaw.FunctionRef) {
	var arns []string
	if e.schedule != nil {
		arns = append(arns, e.schedule.Target.ARN)
	} else {
		for i := range e.rule.Targets {
			arns = append(arns, e.rule.Targets[i].ARN)
		}
	}
	for _, arn := range arns {
		if to, err := delivery.ParseTarget(account, arn); err == nil && to.Queue == "" {
			refs = append(refs, to.Function)
		}
	}
	return refs
}

// queue is a heap of entries by when they are to be looked at.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].wakeAt.Before(q[j].wakeAt) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push is container/heap's.
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}

// Pop is container/heap's.
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return e
}
