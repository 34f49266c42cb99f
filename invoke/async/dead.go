package async

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"thaw"
	"thaw/state/queues"
)

// FunctionEvents is what waits of one function's asynchronous invocations, and what became of those since the platform
// started.
type FunctionEvents struct {
	Function string
	Waiting  int // for their first attempt, or to be attempted again now
	Running  int
	Retrying int // for a further attempt at its time
	Dead     int
	Bytes    int64     // of all that waits, dead events included
	Oldest   time.Time // when the oldest of those that wait or retry was accepted, zero if there is none
	// Accepted and the following are counts since the platform started.
	Accepted, Attempts, Succeeded, FunctionErrors, Throttles, Failed, Died, DeliveryFailures int64
	// Problem is the last delivery to a destination or dead-letter queue that failed, empty if none did.
	Problem   string
	ProblemAt time.Time
}

// State is where an event is.
type State string

// States of events.
const (
	StateWaiting  State = "waiting"
	StateRunning  State = "running"
	StateRetrying State = "retrying"
	StateDead     State = "dead"
)

// EventView is one event as people see it.
type EventView struct {
	ID        string // its request id
	State     State
	Qualifier string
	Accepted  time.Time
	Attempts  int       // that the function failed
	Throttles int       // attempts in a row, after those, that found no room or no function ready
	Next      time.Time // when it is tried again; StateRetrying only
	Error     string    // of the last attempt
	// Condition and Reason say of a dead event how it ended and why it was delivered nowhere; Died is when.
	Condition string
	Reason    string
	Died      time.Time
	Size      int // of the payload, bytes
}

// Functions lists up to limit functions that have or had events, by name, those after one.
func (d *Dispatcher) Functions(after string, limit int) []FunctionEvents {
	names := map[string]bool{}
	for _, prefix := range []string{queuePrefix, deadPrefix} {
		for _, name := range d.cfg.Queues.Names(prefix) {
			names[strings.TrimPrefix(name, prefix)] = true
		}
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		if name > after {
			sorted = append(sorted, name)
		}
	}
	slices.Sort(sorted)
	sorted = sorted[:min(limit, len(sorted))]
	list := make([]FunctionEvents, len(sorted))
	for i, name := range sorted {
		list[i], _ = d.Function(name)
	}
	return list
}

// Function tells about one function's events; ok is false when it has never had any.
func (d *Dispatcher) Function(name string) (f FunctionEvents, ok bool) {
	f.Function = name
	if q, there := d.cfg.Queues.Queue(queuePrefix + name); there {
		depth := q.Depth()
		f.Waiting, f.Running, f.Retrying, f.Bytes, f.Oldest, ok = depth.Visible, depth.InFlight, depth.Delayed, depth.Bytes, depth.Oldest, true
	}
	if q, there := d.cfg.Queues.Queue(deadPrefix + name); there {
		depth := q.Depth()
		f.Dead, ok = depth.Visible+depth.InFlight+depth.Delayed, true
		f.Bytes += depth.Bytes
	}
	d.mu.Lock()
	l := d.lanes[name]
	d.mu.Unlock()
	if l == nil {
		return f, ok
	}
	c := &l.counted
	f.Accepted, f.Attempts, f.Succeeded, f.FunctionErrors = c.accepted.Load(), c.attempts.Load(), c.succeeded.Load(), c.functionErrors.Load()
	f.Throttles, f.Failed, f.Died, f.DeliveryFailures = c.throttles.Load(), c.failed.Load(), c.died.Load(), c.deliveryFailures.Load()
	l.problem.Lock()
	f.Problem, f.ProblemAt = l.problem.text, l.problem.at
	l.problem.Unlock()
	return f, ok
}

// Events lists up to limit events of a function, the dead ones after the others, each kind in the order in which they came.
// after is what the last page gave as next, empty for the first; next is empty when there are no more. A bad after fails
// with InvalidParameterValueException.
func (d *Dispatcher) Events(ctx context.Context, function, after string, limit int) (list []EventView, next string, err error) {
	kind, text, _ := strings.Cut(after, "-")
	var sequence uint64
	if after != "" {
		if sequence, err = strconv.ParseUint(text, 10, 64); err != nil || kind != "live" && kind != "dead" {
			return nil, "", thaw.Errorf(thaw.CodeInvalidParameterValue, "%q is no place in a list of events. Begin with the first page.", after)
		}
	}
	if kind != "dead" {
		got, err := d.peek(ctx, queuePrefix+function, sequence, limit)
		if err != nil {
			return nil, "", err
		}
		running := d.runningOf(function)
		for i := range got {
			list = append(list, d.viewLive(&got[i], running))
		}
		if len(got) == limit {
			return list, "live-" + strconv.FormatUint(got[len(got)-1].Sequence, 10), nil
		}
		sequence, limit = 0, limit-len(got)
	}
	got, err := d.peek(ctx, deadPrefix+function, sequence, limit)
	if err != nil {
		return nil, "", err
	}
	for i := range got {
		list = append(list, viewDead(&got[i]))
	}
	if len(got) == limit {
		next = "dead-" + strconv.FormatUint(got[len(got)-1].Sequence, 10)
	}
	return list, next, nil
}

func (d *Dispatcher) peek(ctx context.Context, name string, after uint64, limit int) ([]queues.Received, error) {
	q, ok := d.cfg.Queues.Queue(name)
	if !ok {
		return nil, nil
	}
	got, err := q.Peek(ctx, after, limit)
	if errors.Is(err, queues.ErrClosed) {
		return nil, nil
	}
	return got, err
}

// runningOf is the set of the events of a function that are being attempted, by sequence.
func (d *Dispatcher) runningOf(function string) map[uint64]bool {
	d.mu.Lock()
	l := d.lanes[function]
	d.mu.Unlock()
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	running := make(map[uint64]bool, len(l.flights))
	for _, f := range l.flights {
		running[f.sequence] = true
	}
	return running
}

func (d *Dispatcher) viewLive(m *queues.Received, running map[uint64]bool) EventView {
	env, _ := decodeEnvelope(m.Meta) // a damaged one shows as what is left of it, until it is attempted
	p := decodeProgress(m.Note)
	v := EventView{
		ID: env.RequestID, State: StateWaiting, Qualifier: env.Qualifier, Accepted: accepted(&env, m),
		Attempts: p.Attempts, Throttles: p.Throttles, Error: p.Error, Size: len(m.Body),
	}
	switch {
	case running[m.Sequence]:
		v.State = StateRunning
	case p.Next > d.cfg.Now().UnixMilli():
		v.State, v.Next = StateRetrying, time.UnixMilli(p.Next)
	}
	return v
}

func viewDead(m *queues.Received) EventView {
	env, _ := decodeEnvelope(m.Meta) // as above
	v := EventView{ID: env.RequestID, State: StateDead, Qualifier: env.Qualifier, Accepted: accepted(&env, m), Size: len(m.Body)}
	if env.Dead != nil {
		v.Attempts, v.Error, v.Condition, v.Reason = env.Dead.Attempts, env.Dead.Error, env.Dead.Condition, env.Dead.Reason
		v.Died = time.UnixMilli(env.Dead.At)
	}
	return v
}

func accepted(env *envelope, m *queues.Received) time.Time {
	if env.Accepted == 0 {
		return m.Sent
	}
	return time.UnixMilli(env.Accepted)
}

// Redrive accepts dead events of a function anew: those with the given request ids, or all there are when it begins. They
// have all their attempts again, and their age begins again. It returns how many it was, also with an error, which is
// ResourceNotFoundException when the function or what an event's qualifier names is not there.
func (d *Dispatcher) Redrive(ctx context.Context, function string, ids ...string) (n int, err error) {
	return d.eachDead(ctx, function, ids, func(m *queues.Received) error {
		env, err := decodeEnvelope(m.Meta)
		if err != nil {
			return err
		}
		f, ok := d.cfg.Catalog.Function(function)
		if !ok || !has(f, env.Qualifier) {
			return thaw.Errorf(thaw.CodeResourceNotFound, "Function not found: %s", d.cfg.Account.FunctionARN(function, env.Qualifier))
		}
		env.Accepted, env.Dead, env.Kept = d.cfg.Now().UnixMilli(), nil, keep(f, env.Qualifier)
		return d.store(ctx, function, queues.Message{Body: m.Body, Meta: encode(&env)})
	})
}

// Discard drops dead events of a function: those with the given request ids, or all there are when it begins. It returns
// how many it was, also with an error.
func (d *Dispatcher) Discard(ctx context.Context, function string, ids ...string) (n int, err error) {
	return d.eachDead(ctx, function, ids, func(*queues.Received) error { return nil })
}

// eachDead passes dead events to do and drops those that it deals with. A crash in between may leave an event in both
// places, never in none.
func (d *Dispatcher) eachDead(ctx context.Context, function string, ids []string, do func(*queues.Received) error) (n int, err error) {
	q, ok := d.cfg.Queues.Queue(deadPrefix + function)
	if !ok {
		return 0, nil
	}
	depth := q.Depth()
	var left []string // handles of those not asked for, which are hidden until the end
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
		defer cancel()
		changes := make([]queues.VisibilityChange, len(left))
		for i, handle := range left {
			changes[i] = queues.VisibilityChange{Handle: handle}
		}
		if len(changes) > 0 {
			q.ChangeVisibilityBatch(ctx, changes) // what fails shows again by itself
		}
	}()
	wanted := map[string]bool{}
	for _, id := range ids {
		wanted[id] = true
	}
	for seen := 0; seen < depth.Visible; {
		got, err := q.Receive(ctx, min(batch, depth.Visible-seen), 0, nil)
		if err != nil || len(got) == 0 {
			return n, err
		}
		seen += len(got)
		var done []string
		for i := range got {
			m := &got[i]
			env, _ := decodeEnvelope(m.Meta) // a damaged one has no id that could be asked for
			if err != nil || len(ids) > 0 && !wanted[env.RequestID] {
				left = append(left, m.Handle)
				continue
			}
			if err = do(m); err != nil {
				left = append(left, m.Handle)
				continue
			}
			done = append(done, m.Handle)
		}
		for _, failed := range q.DeleteBatch(ctx, done) {
			if failed != nil && err == nil {
				err = fmt.Errorf("drop a dead event of function %s: %w", function, failed)
			}
		}
		n += len(done)
		if err != nil || len(ids) > 0 && n >= len(wanted) {
			return n, err
		}
	}
	return n, nil
}

// trim drops the oldest dead events of a function that has too many.
func (d *Dispatcher) trim(ctx context.Context, l *lane) {
	if !l.trimming.TryLock() {
		return
	}
	defer l.trimming.Unlock()
	q, ok := d.cfg.Queues.Queue(deadPrefix + l.function)
	if !ok {
		return
	}
	for {
		depth := q.Depth()
		over := depth.Visible - deadLimit
		if over <= 0 && depth.Bytes > deadBytes {
			over = 1
		}
		if over <= 0 {
			return
		}
		got, err := q.Receive(ctx, min(over, batch), 0, nil)
		if err != nil || len(got) == 0 {
			return
		}
		handles := make([]string, len(got))
		for i := range got {
			handles[i] = got[i].Handle
		}
		for _, err := range q.DeleteBatch(ctx, handles) {
			if err != nil {
				return
			}
		}
		d.cfg.Log.Warn("dropped the oldest dead events of a function: it has more than are kept", "function", l.function, "dropped", len(got), "kept", deadLimit)
	}
}
