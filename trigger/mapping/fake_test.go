package mapping

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"thaw"
	"thaw/state/queues"
)

const queueName = "sqs/orders"

// fakeQueue is a queue in memory, with just the rules that mappings stand on.
type fakeQueue struct {
	mu       sync.Mutex
	info     queues.Info
	messages []*fakeMessage
	dead     []string // bodies
	sent     uint64
	changed  chan struct{}
	receives int // messages given out
}

type fakeMessage struct {
	queues.Received
	hidden time.Time
}

func newFakeQueue(o queues.Options) *fakeQueue {
	if o.Visibility == 0 {
		o.Visibility = 30 * time.Second
	}
	return &fakeQueue{info: queues.Info{Name: queueName, Options: o}, changed: make(chan struct{})}
}

func (q *fakeQueue) Info() queues.Info { return q.info }

func (q *fakeQueue) Depth() queues.Depth {
	q.mu.Lock()
	defer q.mu.Unlock()
	var d queues.Depth
	for _, m := range q.messages {
		if m.hidden.After(time.Now()) {
			d.InFlight++
		} else {
			d.Visible++
		}
	}
	return d
}

func (q *fakeQueue) notify() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// send adds messages; "group:body" is one of a group, and what begins with Root= a body's trace.
func (q *fakeQueue) send(bodies ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, body := range bodies {
		q.sent++
		m := &fakeMessage{Received: queues.Received{ID: "id-" + body[:min(len(body), 20)], Sequence: q.sent, Body: []byte(body), Sent: time.Now()}}
		if q.info.Options.FIFO {
			m.Group, _, _ = strings.Cut(body, ":")
			m.Dedup = m.ID
		}
		if i := strings.Index(body, "Root="); i >= 0 {
			m.Meta = queues.SQSMeta{System: map[string]queues.SQSAttribute{"AWSTraceHeader": {Type: "String", String: body[i:]}}}.Encode()
		}
		q.messages = append(q.messages, m)
	}
	q.notify()
}

func (q *fakeQueue) Receive(ctx context.Context, most int, wait time.Duration, _ *time.Duration) ([]queues.Received, error) {
	over := time.Now().Add(wait)
	for {
		q.mu.Lock()
		given, next := q.take(most)
		changed := q.changed
		q.mu.Unlock()
		left := time.Until(over)
		if len(given) > 0 || left <= 0 {
			return given, nil
		}
		timer := time.NewTimer(min(left, next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take gives out what is visible, and how long it takes until something else may be.
func (q *fakeQueue) take(most int) (given []queues.Received, next time.Duration) {
	now := time.Now()
	next = time.Hour
	blocked := map[string]bool{}
	for _, m := range slices.Clone(q.messages) {
		switch o := q.info.Options; {
		case m.hidden.After(now):
			next = min(next, m.hidden.Sub(now))
			blocked[m.Group] = true
		case o.FIFO && blocked[m.Group]:
		case o.MaxReceives > 0 && m.Receives >= o.MaxReceives:
			q.dead = append(q.dead, string(m.Body))
			q.remove(m)
		case len(given) < most:
			m.Receives++
			q.receives++
			if m.Receives == 1 {
				m.FirstReceived = now
			}
			m.hidden = now.Add(o.Visibility)
			m.Handle = m.ID + "#" + strconv.Itoa(m.Receives)
			given = append(given, m.Received)
		}
	}
	return given, next
}

func (q *fakeQueue) remove(m *fakeMessage) {
	q.messages = slices.DeleteFunc(q.messages, func(o *fakeMessage) bool { return o == m })
}

func (q *fakeQueue) find(handle string) *fakeMessage {
	for _, m := range q.messages {
		if m.Handle == handle {
			return m
		}
	}
	return nil
}

func (q *fakeQueue) DeleteBatch(_ context.Context, handles []string) []error {
	q.mu.Lock()
	defer q.mu.Unlock()
	errs := make([]error, len(handles))
	for i, h := range handles {
		if m := q.find(h); m != nil {
			q.remove(m)
		} else {
			errs[i] = queues.ErrHandle
		}
	}
	q.notify()
	return errs
}

func (q *fakeQueue) ChangeVisibilityBatch(_ context.Context, changes []queues.VisibilityChange) []error {
	q.mu.Lock()
	defer q.mu.Unlock()
	errs := make([]error, len(changes))
	for i, c := range changes {
		switch m := q.find(c.Handle); {
		case m == nil:
			errs[i] = queues.ErrHandle
		case !m.hidden.After(time.Now()):
			errs[i] = queues.ErrNotInFlight
		default:
			m.hidden = time.Now().Add(c.Visibility)
		}
	}
	q.notify()
	return errs
}

// counts is the number of receives of every message that is there.
func (q *fakeQueue) counts() map[string]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := map[string]int{}
	for _, m := range q.messages {
		c[string(m.Body)] = m.Receives
	}
	return c
}

// call is one invocation that a function had.
type call struct {
	at     time.Time
	bodies []string
	event  []byte
	traces []string
}

// bench is a mapping with a function and a queue.
type bench struct {
	t         *testing.T
	queue     *fakeQueue
	function  thaw.Function
	gone      bool
	bound     int // the node's
	serve     func(ctx context.Context, bodies []string) (Result, error)
	forecasts []thaw.Forecast
	count     func(uuid, metric string, messages int)

	mu      sync.Mutex
	calls   []call
	running int
	most    int
}

func newBench(t *testing.T, o queues.Options) *bench {
	b := &bench{t: t, queue: newFakeQueue(o)}
	v := thaw.Version{Function: "f", Number: thaw.Latest, Timeout: 3, State: thaw.StateActive}
	b.function = thaw.Function{Name: "f", Config: v, Running: &v}
	return b
}

func (b *bench) Function(name string) (*thaw.Function, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.function
	return &f, name == "f" && !b.gone
}

func (b *bench) invoke(ctx context.Context, asked *Call) (Result, error) {
	var e struct {
		Records []struct{ Body string }
	}
	if err := json.Unmarshal(asked.Payload, &e); err != nil || asked.Function.Name != "f" {
		return Result{}, fmt.Errorf("event %s for %s: %w", asked.Payload, asked.Function.Name, err)
	}
	c := call{at: time.Now(), event: asked.Payload, traces: asked.Traces}
	for _, r := range e.Records {
		c.bodies = append(c.bodies, r.Body)
	}
	b.mu.Lock()
	b.calls = append(b.calls, c)
	b.running++
	b.most = max(b.most, b.running)
	serve := b.serve
	if b.gone {
		serve = func(context.Context, []string) (Result, error) {
			return Result{}, thaw.Errorf(thaw.CodeResourceNotFound, "Function not found.")
		}
	}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.running--
	}()
	if serve == nil {
		return Result{Payload: []byte("null")}, nil
	}
	return serve(ctx, c.bodies)
}

// told is the bodies of each invocation, in order: "a b|c".
func (b *bench) told() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, c := range b.calls {
		all = append(all, strings.Join(c.bodies, " "))
	}
	return strings.Join(all, "|")
}

func (b *bench) config() Config {
	return Config{
		Account: thaw.Account{ID: "000000000000", Region: "us-east-1"}, Records: &Records{}, Functions: b, Invoke: b.invoke,
		Queue: func(name string) (Queue, bool) { return b.queue, strings.HasPrefix(name, queueName) },
		Expect: func(f thaw.Forecast) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.forecasts = append(b.forecasts, f)
		},
		MaxConcurrency: b.bound, Count: b.count, Log: slog.New(slog.DiscardHandler),
	}
}

func (b *bench) mapping(change ...func(*Mapping)) *Mapping {
	m := &Mapping{
		UUID: "00000000-0000-0000-0000-000000000001", Function: "f", Enabled: true, BatchSize: 10, State: StateEnabled, Revision: 1,
		Source: Source{ARN: "arn:aws:sqs:us-east-1:000000000000:orders"},
	}
	for _, c := range change {
		c(m)
	}
	return m
}

// run starts a runner for the mapping and has it adjust twice a second until stop.
func (b *bench) run(change ...func(*Mapping)) (r *runner, stop func(ending)) {
	b.t.Helper()
	l, err := New(b.config())
	if err != nil {
		b.t.Fatal(err)
	}
	r = newRunner(b.t.Context(), l, b.mapping(change...))
	ctx, cancel := context.WithCancel(b.t.Context())
	var wait sync.WaitGroup
	wait.Go(r.run)
	wait.Go(func() {
		ticker := time.NewTicker(tickEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				r.adjust()
			}
		}
	})
	return r, func(how ending) {
		r.end(how)
		cancel()
		wait.Wait()
	}
}

func (b *bench) wantTold(want string) {
	b.t.Helper()
	if got := b.told(); got != want {
		b.t.Errorf("invoked with %s\nwant %s", got, want)
	}
}

// wantLeft names the messages that are in the queue and how often each was received: "a=1 b=2".
func (b *bench) wantLeft(want string) {
	b.t.Helper()
	var all []string
	for body, n := range b.queue.counts() {
		all = append(all, fmt.Sprintf("%s=%d", body, n))
	}
	slices.Sort(all)
	if got := strings.Join(all, " "); got != want {
		b.t.Errorf("left %q, want %q", got, want)
	}
}

var errThrottled = &thaw.Error{Code: thaw.CodeTooManyRequests, Message: "Rate Exceeded."}

// pass lets time pass, which costs none in a bubble of synctest.
func pass(d time.Duration) { <-time.After(d) }
