package async

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"thaw"
	"thaw/invoke"
	"thaw/state"
	"thaw/state/queues"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var account = thaw.Account{ID: "000000000000", Region: "us-east-1"}

// memory is a queue engine that keeps its messages in memory, on the clock of the test's bubble.
type memory struct {
	mu      sync.Mutex
	queues  map[string]*memoryQueue
	changed chan struct{} // closed with each change
	full    bool          // nothing can be stored
}

type memoryQueue struct {
	of       *memory
	info     queues.Info
	last     uint64
	messages []*memoryMessage
	closed   bool
}

type memoryMessage struct {
	queues.Received
	shows    time.Time // when it is visible
	inFlight bool
	handles  int
}

func newMemory() *memory {
	return &memory{queues: map[string]*memoryQueue{}, changed: make(chan struct{})}
}

// touch wakes whoever waits; the caller holds mu.
func (m *memory) touch() {
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *memory) Create(_ context.Context, info queues.Info) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return state.ErrFull
	}
	if _, ok := m.queues[info.Name]; ok {
		return state.ErrExists
	}
	m.queues[info.Name] = &memoryQueue{of: m, info: info}
	return nil
}

func (m *memory) Queue(name string) (Queue, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, ok := m.queues[name]
	return q, ok
}

func (m *memory) Names(prefix string) (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.queues {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (m *memory) Delete(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, ok := m.queues[name]
	if !ok {
		return state.ErrNotFound
	}
	q.closed = true
	delete(m.queues, name)
	m.touch()
	return nil
}

// fill makes the disk full, or not.
func (m *memory) fill(full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full = full
}

// crash forgets what a restart would: nothing that was stored. Messages in flight stay hidden as long as they were.
func (m *memory) crash() *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := newMemory()
	for name, q := range m.queues {
		q.closed = true
		n := &memoryQueue{of: after, info: q.info, last: q.last}
		for _, message := range q.messages {
			same := *message
			n.messages = append(n.messages, &same)
		}
		after.queues[name] = n
	}
	m.touch()
	return after
}

func (q *memoryQueue) Info() queues.Info { return q.info }

func (q *memoryQueue) Depth() (d queues.Depth) {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	now := time.Now()
	for _, m := range q.messages {
		switch {
		case !m.shows.After(now):
			d.Visible++
		case m.inFlight:
			d.InFlight++
		default:
			d.Delayed++
		}
		d.Bytes += int64(len(m.Body))
	}
	return d
}

func (q *memoryQueue) Send(_ context.Context, messages ...queues.Message) []queues.Sent {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	sent := make([]queues.Sent, len(messages))
	for i := range messages {
		switch {
		case q.closed:
			sent[i].Err = queues.ErrClosed
		case q.of.full:
			sent[i].Err = state.ErrFull
		default:
			q.put(messages[i].Body, messages[i].Meta, "")
		}
	}
	q.of.touch()
	return sent
}

func (q *memoryQueue) put(body, meta []byte, from string) {
	q.last++
	q.messages = append(q.messages, &memoryMessage{shows: time.Now(), Received: queues.Received{
		ID: "m" + strconv.FormatUint(q.last, 10), Sequence: q.last, Body: slices.Clone(body), Meta: slices.Clone(meta), Sent: time.Now(), DeadFrom: from,
	}})
}

func (q *memoryQueue) Receive(ctx context.Context, most int, wait time.Duration, visibility *time.Duration) (got []queues.Received, err error) {
	hide := q.info.Options.Visibility
	if visibility != nil {
		hide = *visibility
	}
	for end := time.Now().Add(wait); ; {
		q.of.mu.Lock()
		if q.closed {
			q.of.mu.Unlock()
			return nil, queues.ErrClosed
		}
		now := time.Now()
		next := end
		for _, m := range q.messages {
			switch {
			case m.shows.After(now):
				if m.shows.Before(next) {
					next = m.shows
				}
			case len(got) < most:
				m.handles++
				m.Handle = fmt.Sprintf("%d.%d", m.Sequence, m.handles)
				m.Receives++
				m.inFlight, m.shows = true, now.Add(hide)
				got = append(got, m.Received)
			}
		}
		changed := q.of.changed
		q.of.mu.Unlock()
		if len(got) > 0 || !now.Before(end) {
			return got, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		case <-time.After(next.Sub(now)):
		}
	}
}

// find gives the message of a handle; the caller holds mu.
func (q *memoryQueue) find(handle string) (int, *memoryMessage, error) {
	if q.closed {
		return 0, nil, queues.ErrClosed
	}
	sequence, _, _ := strings.Cut(handle, ".")
	for i, m := range q.messages {
		if strconv.FormatUint(m.Sequence, 10) == sequence {
			return i, m, nil
		}
	}
	return -1, nil, nil
}

func (q *memoryQueue) Delete(_ context.Context, handle string) error {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	i, m, err := q.find(handle)
	if m != nil {
		q.messages = slices.Delete(q.messages, i, i+1)
	}
	return err
}

func (q *memoryQueue) DeleteBatch(ctx context.Context, handles []string) []error {
	errs := make([]error, len(handles))
	for i, handle := range handles {
		errs[i] = q.Delete(ctx, handle)
	}
	return errs
}

// change does something to a message in flight.
func (q *memoryQueue) change(handle string, do func(i int, m *memoryMessage) error) error {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	i, m, err := q.find(handle)
	if err != nil {
		return err
	}
	if m == nil || !m.inFlight || !m.shows.After(time.Now()) {
		return queues.ErrNotInFlight
	}
	err = do(i, m)
	q.of.touch()
	return err
}

func (q *memoryQueue) ChangeVisibilityBatch(_ context.Context, changes []queues.VisibilityChange) []error {
	errs := make([]error, len(changes))
	for i, c := range changes {
		errs[i] = q.change(c.Handle, func(_ int, m *memoryMessage) error {
			m.shows = time.Now().Add(c.Visibility)
			return nil
		})
	}
	return errs
}

func (q *memoryQueue) Return(_ context.Context, handle string, delay time.Duration, note []byte) error {
	return q.change(handle, func(_ int, m *memoryMessage) error {
		m.shows, m.inFlight, m.Note = time.Now().Add(delay), false, slices.Clone(note)
		return nil
	})
}

func (q *memoryQueue) Die(_ context.Context, handle string, meta []byte) error {
	return q.change(handle, func(i int, m *memoryMessage) error {
		dead, ok := q.of.queues[q.info.Options.DeadLetter]
		if !ok {
			return state.ErrNotFound
		}
		if q.of.full {
			return state.ErrFull
		}
		dead.put(m.Body, meta, q.info.Name)
		q.messages = slices.Delete(q.messages, i, i+1)
		return nil
	})
}

func (q *memoryQueue) Recall(context.Context) (n int, err error) {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	for _, m := range q.messages {
		if m.inFlight && m.shows.After(time.Now()) {
			m.shows = time.Now()
			n++
		}
	}
	q.of.touch()
	return n, nil
}

func (q *memoryQueue) Peek(_ context.Context, after uint64, limit int) (got []queues.Received, err error) {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	for _, m := range q.messages {
		if m.Sequence > after && len(got) < limit {
			got = append(got, m.Received)
		}
	}
	return got, nil
}

// try is an attempt that the platform under test has made.
type try struct {
	at      time.Duration // since the test's begin
	request invoke.Request
}

// platform is a Dispatcher over a queue engine in memory, functions that are Go functions, and no waiting.
type platform struct {
	t          *testing.T
	queues     *memory
	dispatcher *Dispatcher
	stop       func()
	began      time.Time

	mu        sync.Mutex
	functions map[string]*thaw.Function
	handle    func(r *invoke.Request) (payload string, failed bool, err error)
	tries     []try
	running   int
	most      int // that ran at the same time
	counted   map[string]int
}

// count takes the metrics.
func (p *platform) count(metric, function, qualifier string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counted == nil {
		p.counted = map[string]int{}
	}
	p.counted[strings.TrimSpace(metric+" "+function+" "+qualifier)] += n
}

// newPlatform has a function f that gives back what it gets, and g.
func newPlatform(t *testing.T, change ...func(*Config)) *platform {
	p := &platform{t: t, queues: newMemory(), began: time.Now(), functions: map[string]*thaw.Function{}}
	for _, name := range []string{"f", "g"} {
		v := thaw.Version{Function: name, Number: thaw.Latest, State: thaw.StateActive}
		p.functions[name] = &thaw.Function{Name: name, Config: v, Running: &v, EventInvoke: map[string]thaw.EventInvoke{}}
	}
	p.handle = func(r *invoke.Request) (string, bool, error) { return string(r.Payload), false, nil }
	p.start(change...)
	return p
}

func (p *platform) start(change ...func(*Config)) {
	cfg := Config{Queues: p.queues, Invoker: p, Catalog: p, Account: account, Count: p.count, Log: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&cfg)
	}
	d, err := New(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(p.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Run(ctx); err != nil {
			p.t.Error(err)
		}
	}()
	p.dispatcher, p.stop = d, func() { cancel(); <-done }
}

func (p *platform) Function(name string) (*thaw.Function, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := p.functions[name]
	return f, ok
}

// set changes a function as the store does: by another value.
func (p *platform) set(name string, change func(*thaw.Function)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := *p.functions[name]
	change(&f)
	p.functions[name] = &f
}

func (p *platform) remove(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.functions, name)
}

func (p *platform) Check(r *invoke.Request) (string, error) {
	if _, ok := p.Function(r.Function.Name); !ok {
		return "", thaw.Errorf(thaw.CodeResourceNotFound, "Function not found: %s", account.FunctionARN(r.Function.Name, r.Qualifier))
	}
	return thaw.Latest, nil
}

func (p *platform) Invoke(_ context.Context, r *invoke.Request) (*invoke.Response, error) {
	p.mu.Lock()
	p.tries = append(p.tries, try{time.Since(p.began), *r})
	p.running++
	p.most = max(p.most, p.running)
	handle := p.handle
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.running--
		p.mu.Unlock()
	}()
	if _, err := p.Check(r); err != nil {
		return nil, err
	}
	payload, failed, err := handle(r)
	if err != nil {
		return nil, err
	}
	return &invoke.Response{Payload: []byte(payload), FunctionError: failed, ExecutedVersion: thaw.Latest, Record: thaw.Invocation{TraceID: r.TraceID + ";Lineage=x:1"}}, nil
}

func (p *platform) handles(handle func(r *invoke.Request) (string, bool, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handle = handle
}

// tried gives the attempts of one function so far.
func (p *platform) tried(function string) (tries []try) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.tries {
		if t.request.Function.Name == function {
			tries = append(tries, t)
		}
	}
	return tries
}

// at gives when the attempts of one function were made.
func (p *platform) at(function string) (times []time.Duration) {
	for _, t := range p.tried(function) {
		times = append(times, t.at)
	}
	return times
}

func (p *platform) enqueue(function, payload string) string {
	p.t.Helper()
	ref, ok := thaw.ParseFunctionRef(function)
	if !ok {
		p.t.Fatalf("%q is no function", function)
	}
	id, err := p.dispatcher.Enqueue(p.t.Context(), &Event{Function: ref, Payload: []byte(payload), TraceID: "Root=1-2-3"})
	if err != nil {
		p.t.Fatal(err)
	}
	return id
}

// sqs makes a queue of the users' and gives what it holds when it is asked.
func (p *platform) sqs(name string, options queues.Options) func() []queues.Received {
	p.t.Helper()
	if err := p.queues.Create(p.t.Context(), queues.Info{Name: sqsPrefix + name, Options: options}); err != nil {
		p.t.Fatal(err)
	}
	return func() []queues.Received {
		q, _ := p.queues.Queue(sqsPrefix + name)
		got, err := q.Peek(p.t.Context(), 0, 1000)
		if err != nil {
			p.t.Fatal(err)
		}
		return got
	}
}

// depth is what is left in an engine's queue.
func (p *platform) depth(name string) queues.Depth {
	q, ok := p.queues.Queue(name)
	if !ok {
		return queues.Depth{}
	}
	return q.Depth()
}

// after lets time pass until everything that can happen until then has.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// bubble runs a test on a clock of its own.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

var (
	errThrottled = &thaw.Error{Code: thaw.CodeTooManyRequests, Message: "Rate Exceeded.", Reason: "ReservedFunctionConcurrentInvocationLimitExceeded"}
	errPlatform  = errors.New("the platform failed")
)

const (
	queueARN = "arn:aws:sqs:us-east-1:000000000000:"
	failed   = `{"errorMessage":"no","errorType":"ValueError"}`
)

func failing(*invoke.Request) (string, bool, error) { return failed, true, nil }

func number(n int) *int { return &n }
