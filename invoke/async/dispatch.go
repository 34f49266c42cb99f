package async

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"thaw/state"
	"thaw/state/queues"
)

// lane is one function's events on this node.
type lane struct {
	function string

	// sending is held for reading while an event is stored, and for writing while the janitor puts the lane of a function
	// that is gone away with its empty queues. gone is written then.
	sending sync.RWMutex
	gone    bool

	mu      sync.Mutex
	active  bool // its goroutine runs
	window  window
	flights map[string]*flight // by handle
	// landed is told of attempts that ended, for a lane that may not take more.
	landed chan struct{}

	trimming sync.Mutex
	counted  counts
	problem  problem
}

// counts are what happened since the platform started.
type counts struct {
	accepted, attempts, succeeded, functionErrors, throttles, failed, died, deliveryFailures atomic.Int64
}

// problem is the last delivery that failed.
type problem struct {
	sync.Mutex
	said time.Time // when one was logged last
	text string
	at   time.Time
}

// flight is an event that was taken out and is being attempted.
type flight struct {
	handle   string
	sequence uint64
	number   uint64 // of the attempt, from the lane's window
	note     []byte
	began    time.Time
	settled  bool // it has ended or was handed back; guarded by the lane's mu
}

// send stores an event. gone is true when the lane is not to be used any more.
func (l *lane) send(ctx context.Context, d *Dispatcher, m queues.Message) (err error, gone bool) {
	l.sending.RLock()
	defer l.sending.RUnlock()
	if l.gone {
		return nil, true
	}
	q, ok := d.cfg.Queues.Queue(queuePrefix + l.function)
	if !ok {
		if err := d.makeQueues(ctx, l.function); err != nil {
			return err, false
		}
		if q, ok = d.cfg.Queues.Queue(queuePrefix + l.function); !ok {
			return queues.ErrClosed, false
		}
	}
	sent := q.Send(ctx, m)
	if len(sent) != 1 {
		return fmt.Errorf("the queue gave %d results for one event", len(sent)), false
	}
	if sent[0].Err == nil && !sent[0].Duplicate {
		l.counted.accepted.Add(1)
	}
	return sent[0].Err, false
}

// makeQueues makes what is missing of a function's queues.
func (d *Dispatcher) makeQueues(ctx context.Context, function string) error {
	dead := queues.Info{Name: deadPrefix + function, Options: queues.Options{Visibility: hidden, Retention: deadRetention}}
	live := queues.Info{Name: queuePrefix + function, Options: queues.Options{Visibility: hidden, DeadLetter: dead.Name}}
	for _, info := range []queues.Info{dead, live} {
		if _, ok := d.cfg.Queues.Queue(info.Name); ok {
			continue
		}
		if err := d.cfg.Queues.Create(ctx, info); err != nil && !errors.Is(err, state.ErrExists) {
			return err
		}
	}
	return nil
}

// Run delivers events until ctx ends, beginning with those that were being attempted when the platform ended. Then it takes
// no more, waits a little for the attempts that are under way, hands back what has not ended, and returns nil. Attempts
// that go on after that end with the environments that run them.
func (d *Dispatcher) Run(ctx context.Context) error {
	d.recall(ctx)
	d.mu.Lock()
	d.running = ctx
	d.mu.Unlock()
	for _, name := range d.cfg.Queues.Names(queuePrefix) {
		if q, ok := d.cfg.Queues.Queue(name); ok && !empty(q) {
			d.wake(d.lane(strings.TrimPrefix(name, queuePrefix)))
		}
	}
	extend := time.NewTicker(hidden / 4)
	defer extend.Stop()
	tidy := time.NewTicker(time.Minute)
	defer tidy.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-extend.C:
			d.extend(ctx)
		case <-tidy.C:
			d.tidy(ctx)
		}
	}
	d.mu.Lock()
	d.running = nil
	d.mu.Unlock()
	d.group.Wait()
	d.drain(ctx)
	return nil
}

// recall makes visible what was being attempted when the platform ended. No lane may run yet.
func (d *Dispatcher) recall(ctx context.Context) {
	for _, name := range d.cfg.Queues.Names(queuePrefix) {
		q, ok := d.cfg.Queues.Queue(name)
		if !ok || q.Depth().InFlight == 0 {
			continue
		}
		if _, err := q.Recall(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Log.Warn("events that were being attempted when the platform ended wait until they are no longer hidden", "queue", name, "error", err)
		}
	}
}

func empty(q Queue) bool {
	depth := q.Depth()
	return depth.Visible == 0 && depth.InFlight == 0 && depth.Delayed == 0
}

// drain waits for attempts, and hands back those that do not end in time.
func (d *Dispatcher) drain(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	deadline := time.After(d.cfg.Drain)
	for waiting := d.cfg.Drain > 0; waiting && d.inFlight.Load() > 0; {
		select {
		case <-deadline:
			waiting = false
		case <-time.After(10 * time.Millisecond):
		}
	}
	for _, l := range d.allLanes() {
		q, ok := d.cfg.Queues.Queue(queuePrefix + l.function)
		if !ok {
			continue
		}
		for _, f := range l.unsettled(0, time.Time{}) {
			if l.settle(f) {
				d.handBack(ctx, l, q, f.handle, 0, f.note)
			}
		}
	}
}

func (d *Dispatcher) allLanes() []*lane {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]*lane, 0, len(d.lanes))
	for _, l := range d.lanes {
		all = append(all, l)
	}
	return all
}

// unsettled lists the attempts under way that began at least age before now.
func (l *lane) unsettled(age time.Duration, now time.Time) (list []*flight) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.flights {
		if age == 0 || now.Sub(f.began) >= age {
			list = append(list, f)
		}
	}
	return list
}

// settle claims the end of an attempt, which is either what came of it or that it was handed back.
func (l *lane) settle(f *flight) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := !f.settled
	f.settled = true
	delete(l.flights, f.handle)
	return first
}

// extend keeps hidden what is still being attempted.
func (d *Dispatcher) extend(ctx context.Context) {
	now := d.cfg.Now()
	for _, l := range d.allLanes() {
		list := l.unsettled(hidden/4, now)
		if len(list) == 0 {
			continue
		}
		q, ok := d.cfg.Queues.Queue(queuePrefix + l.function)
		if !ok {
			continue
		}
		changes := make([]queues.VisibilityChange, len(list))
		for i, f := range list {
			changes[i] = queues.VisibilityChange{Handle: f.handle, Visibility: hidden}
		}
		for _, err := range q.ChangeVisibilityBatch(ctx, changes) {
			if err != nil && ctx.Err() == nil && !errors.Is(err, queues.ErrNotInFlight) && !errors.Is(err, queues.ErrHandle) {
				d.cfg.Log.Warn("an event that is being attempted may be attempted twice", "function", l.function, "error", err)
				break
			}
		}
	}
}

// serve is a lane's goroutine: it takes events out until there are none.
func (d *Dispatcher) serve(ctx context.Context, l *lane) {
	for ctx.Err() == nil {
		q, ok := d.cfg.Queues.Queue(queuePrefix + l.function)
		if !ok {
			if d.rest(l) {
				return
			}
			l.wait(ctx, recheck)
			continue
		}
		n, pause := d.allowance(l, q)
		if n == 0 {
			l.wait(ctx, pause)
			continue
		}
		got, err := q.Receive(ctx, n, linger, nil)
		switch {
		case ctx.Err() != nil:
			for i := range got {
				d.handBack(context.WithoutCancel(ctx), l, q, got[i].Handle, 0, got[i].Note)
			}
			got = nil
		case errors.Is(err, queues.ErrClosed):
			// It was deleted, or the engine is closing.
			if d.rest(l) {
				return
			}
			l.wait(ctx, recheck)
		case err != nil:
			d.cfg.Log.Warn("cannot take events of a function out of their queue", "function", l.function, "error", err)
			l.wait(ctx, time.Second)
		case len(got) == 0:
			if d.rest(l) {
				return
			}
		}
		for i := range got {
			d.launch(ctx, l, q, &got[i])
		}
	}
	l.mu.Lock()
	l.active = false
	l.mu.Unlock()
}

// wait waits until an attempt of the lane has ended, at most for d.
func (l *lane) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-l.landed:
	case <-timer.C:
	}
}

// rest ends a lane's goroutine when there is nothing for it to do. Whoever stores an event wakes it after that, and nobody
// does for one that was stored before: the queue is looked up here, since one that was gone may be there again.
func (d *Dispatcher) rest(l *lane) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q, ok := d.cfg.Queues.Queue(queuePrefix + l.function); len(l.flights) > 0 || ok && !empty(q) {
		return false
	}
	l.active = false
	return true
}

// allowance is how many events a lane may take now. It is 0 while it may take none, for at most pause.
func (d *Dispatcher) allowance(l *lane, q Queue) (n int, pause time.Duration) {
	now := d.cfg.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if wait := l.window.paused.Sub(now); wait > 0 {
		return 0, wait
	}
	running := len(l.flights)
	free := d.cfg.MaxInFlight - int(d.inFlight.Load())
	// Half of what is left: whoever comes next finds as much as all that came before have not taken. One is always allowed.
	share := (free - running) / 2
	most := max(running+share, 1)
	if f, ok := d.cfg.Catalog.Function(l.function); ok && f.Reserved != nil && *f.Reserved > 0 {
		most = min(most, *f.Reserved)
	}
	if l.window.limit-running <= 0 && q.Depth().Visible > 0 {
		l.window.grow(now, most)
	}
	n = min(l.window.limit, most) - running
	if n <= 0 {
		return 0, recheck
	}
	return min(n, batch), 0
}

// launch attempts an event in a goroutine of its own.
func (d *Dispatcher) launch(ctx context.Context, l *lane, q Queue, m *queues.Received) {
	f := &flight{handle: m.Handle, sequence: m.Sequence, note: m.Note, began: d.cfg.Now()}
	l.mu.Lock()
	l.flights[f.handle] = f
	f.number = l.window.begin()
	l.mu.Unlock()
	d.inFlight.Add(1)
	ctx = context.WithoutCancel(ctx)
	go func() {
		defer func() {
			l.settle(f)
			d.inFlight.Add(-1)
			select {
			case l.landed <- struct{}{}:
			default:
			}
		}()
		d.attempt(ctx, l, q, m, f)
	}()
}

// handBack returns an event to its queue. Where that fails it comes back by itself when it is no longer hidden.
func (d *Dispatcher) handBack(ctx context.Context, l *lane, q Queue, handle string, delay time.Duration, note []byte) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if err := q.Return(ctx, handle, delay, note); err != nil && !errors.Is(err, queues.ErrNotInFlight) && !errors.Is(err, queues.ErrHandle) {
		d.cfg.Log.Warn("an event could not be handed back; it is attempted again when it is no longer hidden", "function", l.function, "error", err)
	}
}

// tidy puts away the lanes and empty queues of functions that are gone.
func (d *Dispatcher) tidy(ctx context.Context) {
	functions := map[string]bool{}
	for _, prefix := range []string{queuePrefix, deadPrefix} {
		for _, name := range d.cfg.Queues.Names(prefix) {
			functions[strings.TrimPrefix(name, prefix)] = true
		}
	}
	for _, l := range d.allLanes() {
		functions[l.function] = true
	}
	for function := range functions {
		if _, ok := d.cfg.Catalog.Function(function); ok || ctx.Err() != nil {
			continue
		}
		if err := d.putAway(ctx, d.lane(function)); err != nil && ctx.Err() == nil {
			d.cfg.Log.Warn("the empty queues of a deleted function cannot be removed", "function", function, "error", err)
		}
	}
}

// putAway removes a lane whose queues are empty, and them.
func (d *Dispatcher) putAway(ctx context.Context, l *lane) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	l.mu.Lock()
	idle := !l.active && len(l.flights) == 0
	l.mu.Unlock()
	if !idle || l.gone {
		return nil
	}
	// The first is emptied into the second, never the other way round without sending.
	for _, name := range []string{queuePrefix + l.function, deadPrefix + l.function} {
		q, ok := d.cfg.Queues.Queue(name)
		if !ok {
			continue
		}
		if !empty(q) {
			return nil
		}
		if err := d.cfg.Queues.Delete(ctx, name); err != nil && !errors.Is(err, state.ErrNotFound) {
			return err
		}
	}
	l.gone = true
	d.mu.Lock()
	delete(d.lanes, l.function)
	d.mu.Unlock()
	return nil
}
