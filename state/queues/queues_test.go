package queues

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"thaw/state"
)

// clock is a clock that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.UnixMilli(1_800_000_000_000)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// place is a data directory whose queues are opened and closed.
type place struct {
	t     testing.TB
	dir   string
	clock *clock
	cfg   state.Config
	max   int64
	store *state.Store
	*Queues
}

func newPlace(t testing.TB) *place {
	p := &place{t: t, dir: t.TempDir(), clock: newClock()}
	p.open()
	t.Cleanup(p.close)
	return p
}

func (p *place) open() {
	p.t.Helper()
	cfg := p.cfg
	cfg.Dir = p.dir
	var err error
	if p.store, err = state.Open(context.Background(), cfg); err != nil {
		p.t.Fatal(err)
	}
	if p.Queues, err = Open(context.Background(), p.store, Config{Now: p.clock.Now, MaxBytes: p.max}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) close() {
	p.t.Helper()
	if err := p.store.Close(); err != nil {
		p.t.Error(err)
	}
}

func (p *place) reopen() {
	p.t.Helper()
	p.close()
	p.open()
}

// pass lets time pass.
func (p *place) pass(d time.Duration) {
	p.clock.add(d)
	p.tick()
	if err := p.moveDoomed(p.t.Context()); err != nil {
		p.t.Error(err)
	}
}

func (p *place) create(name string, o Options) *Queue {
	p.t.Helper()
	q, err := p.Create(p.t.Context(), Info{Name: name, Options: o})
	if err != nil {
		p.t.Fatal(err)
	}
	return q
}

func (p *place) queue(name string) *Queue {
	p.t.Helper()
	q, ok := p.Queue(name)
	if !ok {
		p.t.Fatalf("queue %s is gone", name)
	}
	return q
}

func send(t testing.TB, q *Queue, bodies ...string) []Sent {
	t.Helper()
	messages := make([]Message, len(bodies))
	for i, body := range bodies {
		messages[i] = Message{Body: []byte(body), Meta: []byte("meta of " + body)}
		if group, dedup, ok := strings.Cut(body, ":"); ok {
			messages[i].Group, messages[i].Dedup = group, dedup
		}
	}
	sent := q.Send(t.Context(), messages...)
	for _, s := range sent {
		if s.Err != nil {
			t.Fatal(s.Err)
		}
	}
	return sent
}

func receive(t testing.TB, q *Queue, max int) []Received {
	t.Helper()
	received, err := q.Receive(t.Context(), max, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return received
}

// expect receives, and compares the bodies.
func expect(t testing.TB, q *Queue, max int, bodies ...string) []Received {
	t.Helper()
	received := receive(t, q, max)
	var got []string
	for _, r := range received {
		got = append(got, string(r.Body))
	}
	if fmt.Sprint(got) != fmt.Sprint(bodies) {
		t.Fatalf("received %q, not %q", got, bodies)
	}
	return received
}

func (p *place) depth(q *Queue, visible, inFlight, delayed int) {
	p.t.Helper()
	if d := q.Depth(); d.Visible != visible || d.InFlight != inFlight || d.Delayed != delayed {
		p.t.Fatalf("depth is %+v, not %d visible, %d in flight, %d delayed", d, visible, inFlight, delayed)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLifeOfAMessage(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	q := p.create("sqs/a", Options{Visibility: 30 * time.Second})
	sent := send(t, q, "one", "two", "three")
	if sent[0].Sequence >= sent[1].Sequence || sent[0].ID == "" || sent[0].ID == sent[1].ID {
		t.Fatalf("%+v", sent)
	}
	p.depth(q, 3, 0, 0)
	got := expect(t, q, 2, "one", "two")
	if r := got[0]; string(r.Meta) != "meta of one" || r.ID != sent[0].ID || r.Receives != 1 || !r.Sent.Equal(p.clock.Now()) || !r.FirstReceived.Equal(p.clock.Now()) {
		t.Fatalf("%+v", r)
	}
	p.depth(q, 1, 2, 0)
	must(t, q.Delete(ctx, got[0].Handle))
	must(t, q.Delete(ctx, got[0].Handle))
	p.depth(q, 1, 1, 0)

	p.pass(29 * time.Second)
	p.depth(q, 1, 1, 0)
	must(t, q.ChangeVisibility(ctx, got[1].Handle, 10*time.Second))
	p.reopen()
	q = p.queue("sqs/a")
	p.depth(q, 1, 1, 0)
	p.pass(9 * time.Second)
	p.depth(q, 1, 1, 0)
	p.pass(time.Second)
	p.depth(q, 2, 0, 0)
	again := expect(t, q, 10, "two", "three")
	if r := again[0]; r.Receives != 2 || !r.FirstReceived.Equal(got[0].FirstReceived) {
		t.Fatalf("%+v", r)
	}
	must(t, q.Return(ctx, again[1].Handle, 5*time.Second, []byte("a note")))
	p.depth(q, 0, 1, 1)
	must(t, q.Delete(ctx, got[1].Handle)) // of the first receive
	p.depth(q, 0, 0, 1)
	p.reopen()
	q = p.queue("sqs/a")
	p.depth(q, 0, 0, 1)
	p.pass(5 * time.Second)
	last := expect(t, q, 10, "three")
	if r := last[0]; r.Receives != 2 || string(r.Note) != "a note" {
		t.Fatalf("%+v", r)
	}
	must(t, q.DeleteBatch(ctx, []string{last[0].Handle})[0])
	p.depth(q, 0, 0, 0)
	p.reopen()
	p.depth(p.queue("sqs/a"), 0, 0, 0)
	must(t, p.collect(ctx, true))
	must(t, p.collect(ctx, true))
	info, err := p.stream.Info(ctx)
	must(t, err)
	if info.State.Msgs != 0 {
		t.Errorf("%d messages are left in the stream", info.State.Msgs)
	}
}

func TestHandles(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	q, other := p.create("a", Options{Visibility: time.Minute}), p.create("b", Options{})
	send(t, q, "one")
	got := expect(t, q, 1, "one")
	for _, h := range []string{"", "x", got[0].Handle[1:], got[0].Handle + "A", got[0].Handle[:len(got[0].Handle)-1]} {
		if err := q.Delete(ctx, h); !errors.Is(err, ErrHandle) {
			t.Errorf("delete %q: %v", h, err)
		}
	}
	if err := other.Delete(ctx, got[0].Handle); !errors.Is(err, ErrHandle) {
		t.Errorf("handle of another queue: %v", err)
	}
	must(t, q.ChangeVisibility(ctx, got[0].Handle, 0))
	p.depth(q, 1, 0, 0)
	if err := q.ChangeVisibility(ctx, got[0].Handle, time.Second); !errors.Is(err, ErrNotInFlight) {
		t.Errorf("change the visibility of a visible message: %v", err)
	}
	if err := q.Return(ctx, got[0].Handle, 0, nil); !errors.Is(err, ErrNotInFlight) {
		t.Errorf("return a visible message: %v", err)
	}
	expect(t, q, 1, "one")
	if err := q.Return(ctx, got[0].Handle, 0, nil); !errors.Is(err, ErrNotInFlight) {
		t.Errorf("return what a later receive has: %v", err)
	}
	must(t, q.Delete(ctx, got[0].Handle))
	p.depth(q, 0, 0, 0)
}

func TestDelays(t *testing.T) {
	p := newPlace(t)
	q := p.create("a", Options{Delay: 10 * time.Second})
	zero, long := time.Duration(0), time.Minute
	for i, s := range q.Send(t.Context(), Message{Body: []byte("now"), Delay: &zero}, Message{Body: []byte("soon")}, Message{Body: []byte("late"), Delay: &long}) {
		if s.Err != nil {
			t.Fatal(i, s.Err)
		}
	}
	p.depth(q, 1, 0, 2)
	expect(t, q, 10, "now")
	p.pass(5 * time.Second)
	p.reopen()
	q = p.queue("a")
	expect(t, q, 10, "now") // no visibility timeout
	p.pass(5 * time.Second)
	expect(t, q, 10, "now", "soon")
	p.pass(50 * time.Second)
	expect(t, q, 10, "now", "soon", "late")
}

func TestFIFO(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	q := p.create("a.fifo", Options{FIFO: true, Visibility: time.Minute})
	first := send(t, q, "g:1", "h:2", "g:3", "g:4", "h:5")
	got := expect(t, q, 2, "g:1", "g:3")
	expect(t, q, 10, "h:2", "h:5")
	expect(t, q, 10)
	must(t, q.Delete(ctx, got[0].Handle))
	expect(t, q, 10) // g:3 is in flight
	must(t, q.ChangeVisibility(ctx, got[1].Handle, 0))
	if err := q.Delete(ctx, got[1].Handle); !errors.Is(err, ErrHandle) {
		t.Errorf("delete with a handle that has expired: %v", err)
	}
	expect(t, q, 10, "g:3", "g:4")
	p.reopen()
	q = p.queue("a.fifo")
	p.depth(q, 0, 4, 0)
	expect(t, q, 10)

	must(t, p.collect(ctx, true))
	p.reopen()
	q = p.queue("a.fifo")
	p.pass(4 * time.Minute)
	p.depth(q, 4, 0, 0)
	if s := q.Send(ctx, Message{Group: "g", Dedup: "1"}); !s[0].Duplicate || s[0].ID != first[0].ID || s[0].Sequence != first[0].Sequence {
		t.Errorf("duplicate of a deleted message: %+v, the first was %+v", s, first[0])
	}
	p.pass(time.Minute)
	if s := q.Send(ctx, Message{Group: "g", Dedup: "1"}); s[0].Duplicate || s[0].Err != nil {
		t.Errorf("after the window: %+v", s)
	}
	p.depth(q, 5, 0, 0)
}

func TestDeadLetters(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	p.create("dead", Options{})
	q := p.create("a", Options{DeadLetter: "dead", MaxReceives: 2, Visibility: time.Second})
	sent := send(t, q, "one", "two")
	expect(t, q, 1, "one")
	p.pass(time.Second)
	expect(t, q, 1, "one")
	p.pass(time.Second)
	dead := p.queue("dead")
	p.depth(dead, 1, 0, 0)
	p.depth(q, 1, 0, 0)
	p.reopen()
	dead, q = p.queue("dead"), p.queue("a")
	p.depth(dead, 1, 0, 0)
	p.depth(q, 1, 0, 0)
	got := expect(t, dead, 1, "one")
	if r := got[0]; r.DeadFrom != "a" || r.ID != sent[0].ID || r.Receives != 1 || string(r.Meta) != "meta of one" {
		t.Errorf("%+v", r)
	}
	got = expect(t, q, 1, "two")
	must(t, q.Die(ctx, got[0].Handle, []byte("other")))
	p.depth(dead, 2, 0, 0)
	moved, err := p.Move(ctx, "dead", "", 0)
	must(t, err)
	if moved != 2 {
		t.Errorf("%d moved", moved)
	}
	got = expect(t, q, 10, "one", "two")
	if string(got[1].Meta) != "other" || got[1].DeadFrom != "" || got[1].Receives != 1 {
		t.Errorf("%+v", got[1])
	}
}

func TestRetention(t *testing.T) {
	p := newPlace(t)
	q := p.create("a", Options{Retention: time.Minute, Visibility: time.Hour})
	send(t, q, "one")
	p.pass(30 * time.Second)
	send(t, q, "two")
	expect(t, q, 1, "one")
	p.reopen()
	q = p.queue("a")
	p.depth(q, 1, 1, 0)
	p.pass(35 * time.Second)
	poll(t, func() bool { return q.Depth() == Depth{Visible: 1, Bytes: q.Depth().Bytes, Oldest: q.Depth().Oldest} })
	p.pass(35 * time.Second)
	poll(t, func() bool { return q.Depth() == Depth{} })
	p.reopen()
	p.depth(p.queue("a"), 0, 0, 0)
}

// poll waits until something is so.
func poll(t testing.TB, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !so(); {
		if time.Now().After(deadline) {
			t.Fatal("it does not come to be")
		}
		<-time.After(time.Millisecond)
	}
}

func TestPurgeAndDelete(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	q, other := p.create("a.fifo", Options{FIFO: true}), p.create("b", Options{})
	send(t, q, "g:1", "g:2")
	send(t, other, "kept", "too")
	expect(t, q, 1, "g:1")
	must(t, q.Purge(ctx))
	p.depth(q, 0, 0, 0)
	p.reopen()
	q = p.queue("a.fifo")
	p.depth(q, 0, 0, 0)
	if s := q.Send(ctx, Message{Group: "g", Dedup: "2"}); !s[0].Duplicate {
		t.Errorf("a purge forgot the deduplication ids: %+v", s)
	}
	send(t, q, "g:3")
	must(t, p.collect(ctx, true))
	must(t, p.Delete(ctx, "a.fifo"))
	if err := p.Delete(ctx, "a.fifo"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("second delete: %v", err)
	}
	if s := q.Send(ctx, Message{}); !errors.Is(s[0].Err, ErrClosed) {
		t.Errorf("send to a deleted queue: %+v", s)
	}
	if _, err := q.Receive(ctx, 1, 0, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("receive from a deleted queue: %v", err)
	}
	p.reopen()
	if _, ok := p.Queue("a.fifo"); ok {
		t.Error("the deleted queue is back")
	}
	p.create("a.fifo", Options{FIFO: true})
	p.depth(p.queue("a.fifo"), 0, 0, 0)
	p.depth(p.queue("b"), 2, 0, 0)
	if _, err := p.Create(ctx, Info{Name: "b"}); !errors.Is(err, state.ErrExists) {
		t.Errorf("second create: %v", err)
	}
}

func TestWaitersAreServedInOrder(t *testing.T) {
	p := newPlace(t)
	q := p.create("a", Options{Visibility: time.Minute})
	const waiters = 5
	got := make(chan string, waiters)
	for i := range waiters {
		go func() {
			r, err := q.Receive(context.Background(), 10, time.Minute, nil)
			if err != nil || len(r) != 1 {
				got <- fmt.Sprint(err, len(r))
				return
			}
			got <- fmt.Sprint(i, " ", string(r[0].Body))
		}()
		poll(t, func() bool {
			q.mu.Lock()
			defer q.mu.Unlock()
			return len(q.waiters) == i+1
		})
	}
	for i := range waiters {
		send(t, q, fmt.Sprint("body ", i))
		if one := <-got; one != fmt.Sprint(i, " body ", i) {
			t.Errorf("waiter number %d: %s", i, one)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := q.Receive(ctx, 1, time.Minute, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled receive: %v", err)
	}
	if r, err := q.Receive(t.Context(), 1, 10*time.Millisecond, nil); err != nil || len(r) != 0 {
		t.Errorf("receive of nothing: %v, %v", r, err)
	}
	send(t, q, "left")
	p.depth(q, 1, waiters, 0)
}

func TestInFlightIsBounded(t *testing.T) {
	p := newPlace(t)
	q := p.create("a", Options{Visibility: time.Minute, MaxInFlight: 2})
	send(t, q, "one", "two", "three")
	got := expect(t, q, 10, "one", "two")
	if _, err := q.Receive(t.Context(), 1, 0, nil); !errors.Is(err, ErrInFlight) {
		t.Errorf("third receive: %v", err)
	}
	must(t, q.Delete(t.Context(), got[0].Handle))
	expect(t, q, 10, "three")
}

func TestBounds(t *testing.T) {
	p := newPlace(t)
	p.close()
	p.max = 20_000
	p.open()
	q := p.create("a", Options{})
	for _, m := range []Message{
		{Body: make([]byte, MaxMessage+1)}, {Group: strings.Repeat("g", MaxID+1)}, {ID: strings.Repeat("g", MaxID+1)},
	} {
		if s := q.Send(t.Context(), m); !errors.Is(s[0].Err, ErrTooLarge) {
			t.Errorf("%v", s[0].Err)
		}
	}
	send(t, q, strings.Repeat("x", 9000))
	if s := q.Send(t.Context(), Message{Body: make([]byte, 3000)}); !errors.Is(s[0].Err, state.ErrFull) {
		t.Errorf("more than fits: %v", s[0].Err)
	}
	must(t, q.Purge(t.Context()))
	send(t, q, strings.Repeat("x", 9000))
}

func TestListAndWatch(t *testing.T) {
	p := newPlace(t)
	for _, name := range []string{"sqs/b", "sqs/a", "events/f", "sqs/c", "x"} {
		p.create(name, Options{})
	}
	names := func(list []*Queue) string {
		var names []string
		for _, q := range list {
			names = append(names, q.Name())
		}
		return strings.Join(names, " ")
	}
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          string
	}{
		{"", "", 10, "events/f sqs/a sqs/b sqs/c x"},
		{"sqs/", "", 10, "sqs/a sqs/b sqs/c"},
		{"sqs/", "sqs/a", 1, "sqs/b"},
		{"sqs/", "", 2, "sqs/a sqs/b"},
		{"sqs/", "x", 2, ""},
		{"y", "", 2, ""},
	} {
		if got := names(p.List(c.prefix, c.after, c.limit)); got != c.want {
			t.Errorf("%q after %q: %q, not %q", c.prefix, c.after, got, c.want)
		}
	}
	told := make(chan string)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- p.Watch(ctx, func(name string) {
			select {
			case told <- name:
			case <-ctx.Done():
			}
		})
	}()
	for _, want := range []string{"events/f", "sqs/a", "sqs/b", "sqs/c", "x"} {
		if got := <-told; got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	send(t, p.queue("sqs/b"), "one", "two")
	if got := <-told; got != "sqs/b" {
		t.Error(got)
	}
	must(t, p.Delete(ctx, "sqs/c"))
	if got := <-told; got != "sqs/c" {
		t.Error(got)
	}
	must(t, p.queue("x").Update(ctx, func(i *Info) error { i.Meta = []byte(`{"a":1}`); i.Name = "y"; return nil }))
	if got := <-told; got != "x" {
		t.Error(got)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	p.reopen()
	if i := p.queue("x").Info(); string(i.Meta) != `{"a":1}` || !i.Created.Equal(p.clock.Now()) {
		t.Errorf("%+v", i)
	}
}

func TestPeek(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	q := p.create("a", Options{Visibility: time.Minute})
	sent := send(t, q, "one", "two", "three", "four")
	got := expect(t, q, 2, "one", "two")
	must(t, q.Return(ctx, got[0].Handle, time.Minute, []byte("note")))
	list, err := q.Peek(ctx, 0, 2)
	must(t, err)
	if len(list) != 2 || string(list[0].Body) != "one" || string(list[0].Note) != "note" || list[0].Receives != 1 || list[0].Handle != "" || string(list[1].Body) != "two" {
		t.Errorf("%+v", list)
	}
	list, err = q.Peek(ctx, sent[1].Sequence, 10)
	must(t, err)
	if len(list) != 2 || string(list[0].Body) != "three" || list[0].Receives != 0 {
		t.Errorf("%+v", list)
	}
	p.depth(q, 2, 1, 1)
}

// TestSparseRecordsAreWrittenAnew holds that a message that stays does not keep what is known of those that went.
func TestSparseRecordsAreWrittenAnew(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	const n = 400
	q := p.create("a", Options{Visibility: time.Minute})
	bodies := make([]string, n)
	for i := range bodies {
		bodies[i] = fmt.Sprint("body ", i)
	}
	send(t, q, bodies...)
	got := expect(t, q, n, bodies...)
	must(t, q.Return(ctx, got[1].Handle, time.Second, []byte("note")))
	handles := make([]string, 0, n)
	for _, r := range got[2:] {
		handles = append(handles, r.Handle)
	}
	for _, err := range q.DeleteBatch(ctx, handles) {
		must(t, err)
	}
	p.pass(2 * time.Second)
	p.rewrite()
	poll(t, func() bool { return q.Depth().Visible == 1 && p.recordOps.Load() == n-2+2 })
	must(t, p.collect(ctx, true))
	must(t, p.collect(ctx, true))
	info, err := p.stream.Info(ctx)
	must(t, err)
	if info.State.Msgs > 2+2 || p.recordBytes.Load() > 1000 {
		t.Errorf("%d messages are left in the stream, records take %d bytes", info.State.Msgs, p.recordBytes.Load())
	}
	p.reopen()
	q = p.queue("a")
	p.depth(q, 1, 1, 0)
	if r := expect(t, q, 1, bodies[1])[0]; r.Receives != 2 || string(r.Note) != "note" {
		t.Errorf("%+v", r)
	}
	if recs, ops := p.recordBytes.Load(), p.recordOps.Load(); ops != 2 || recs == 0 {
		t.Errorf("%d operations in %d bytes are needed", ops, recs)
	}
}

// TestDeletedWhileItMoves deletes a message between the two halves of its move.
func TestDeletedWhileItMoves(t *testing.T) {
	for _, full := range []bool{false, true} { // true: the move fails
		p := newPlace(t)
		ctx := t.Context()
		dead := p.create("dead", Options{})
		q := p.create("q", Options{DeadLetter: "dead", MaxReceives: 1, Visibility: time.Second})
		send(t, q, "one", "two")
		got := expect(t, q, 1, "one")
		p.clock.add(time.Second)
		p.tick()
		p.depth(q, 1, 1, 0)
		q.mu.Lock()
		m := q.doomed[0]
		q.doomed = nil
		m.more.moving = true
		q.mu.Unlock()
		deleted := make(chan error)
		go func() { deleted <- q.Delete(ctx, got[0].Handle) }()
		poll(t, func() bool {
			q.mu.Lock()
			defer q.mu.Unlock()
			return len(m.more.wishes) == 1
		})
		if full {
			q.restore([]*message{m})
		} else {
			_, err := q.move(ctx, []*message{m}, func(c *content) (*Queue, envelope) { return dead, q.dead(c) }, nil)
			must(t, err)
		}
		must(t, <-deleted)
		for range 2 {
			p.depth(p.queue("q"), 1, 0, 0)
			p.depth(p.queue("dead"), 0, 0, 0)
			p.reopen()
		}
	}
}

// TestClockThatJumps sets the clock between two runs.
func TestClockThatJumps(t *testing.T) {
	p := newPlace(t)
	q := p.create("a.fifo", Options{FIFO: true, Visibility: time.Minute, Retention: time.Hour})
	send(t, q, "g:1", "h:2")
	expect(t, q, 1, "g:1")
	p.clock.add(-24 * time.Hour)
	p.reopen()
	q = p.queue("a.fifo")
	p.depth(q, 1, 1, 0)
	if s := q.Send(t.Context(), Message{Group: "g", Dedup: "1"}); !s[0].Duplicate {
		t.Errorf("%+v", s)
	}
	p.pass(time.Minute)
	p.depth(q, 2, 0, 0)
	p.pass(5 * time.Minute)
	if s := q.Send(t.Context(), Message{Group: "g", Dedup: "1"}); s[0].Duplicate {
		t.Errorf("%+v", s)
	}
	p.pass(55 * time.Minute)
	poll(t, func() bool { return q.Depth().Visible == 1 })
}

// TestLostConnection breaks the connection to the engine under load. What was acknowledged is there, and calls go on.
func TestLostConnection(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	q := p.create("a", Options{Visibility: time.Hour})
	var mu sync.Mutex
	acknowledged, deleted, failed := map[string]bool{}, map[string]bool{}, 0
	stop := make(chan struct{})
	var wait sync.WaitGroup
	work := func(fn func() error) {
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := fn(); err != nil {
					mu.Lock()
					failed++
					mu.Unlock()
				}
			}
		})
	}
	for range 4 {
		work(func() error {
			sent := q.Send(ctx, Message{Body: []byte("body")})[0]
			if sent.Err == nil {
				mu.Lock()
				acknowledged[sent.ID] = true
				mu.Unlock()
			}
			return sent.Err
		})
		work(func() error {
			got, err := q.Receive(ctx, 3, time.Millisecond, nil)
			for _, r := range got {
				if err := q.Delete(ctx, r.Handle); err != nil {
					return err
				}
				mu.Lock()
				deleted[r.ID] = true
				mu.Unlock()
			}
			return err
		})
	}
	for range 5 {
		mu.Lock()
		before := len(deleted)
		mu.Unlock()
		poll(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(deleted) > before+100
		})
		must(t, p.streams.Conn.ForceReconnect())
	}
	close(stop)
	wait.Wait()
	t.Logf("%d sent, %d deleted, %d calls failed", len(acknowledged), len(deleted), failed)
	poll(t, func() bool { return len(p.sending) == 0 && len(p.fetching) == 0 })
	for range 2 {
		list, err := q.Peek(ctx, 0, 1<<20)
		must(t, err)
		there := map[string]bool{}
		for _, r := range list {
			there[r.ID] = true
			if deleted[r.ID] {
				t.Errorf("%s is back after its deletion", r.ID)
			}
		}
		lost := 0
		for id := range acknowledged {
			if !there[id] && !deleted[id] {
				lost++
			}
		}
		if lost > failed { // a deletion that failed may have been stored all the same
			t.Errorf("%d are lost", lost)
		}
		p.reopen()
		q = p.queue("a")
	}
}

// TestCrashInTheMiddleOfAMove leaves a message in both queues.
func TestCrashInTheMiddleOfAMove(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	dead := p.create("dead", Options{})
	q := p.create("q", Options{DeadLetter: "dead", MaxReceives: 1})
	sent := send(t, q, "one", "two")
	contents, err := p.fetch(ctx, []uint64{sent[0].Sequence})
	must(t, err)
	env := q.dead(contents[0])
	env.origin, env.originQueue = sent[0].Sequence, q.number
	stored := make(chan error)
	must(t, dead.publish(newContent(env, contents[0].data), state.Handling, func(_ uint64, _ *content, err error) { stored <- err }))
	must(t, <-stored)
	for range 3 {
		p.reopen()
		p.depth(p.queue("q"), 1, 0, 0)
		p.depth(p.queue("dead"), 1, 0, 0)
		must(t, p.collect(ctx, true))
	}
	got := expect(t, p.queue("dead"), 10, "one")
	if got[0].DeadFrom != "q" || got[0].ID != sent[0].ID {
		t.Errorf("%+v", got[0])
	}
	must(t, p.queue("dead").Delete(ctx, got[0].Handle))
	for range 2 {
		must(t, p.collect(ctx, true))
		p.reopen()
		p.depth(p.queue("q"), 1, 0, 0)
		p.depth(p.queue("dead"), 0, 0, 0)
	}
}

// TestOperationsOfALostMessage holds that what is stored of a message that a power cut took does not touch the one that
// has its sequence now.
func TestOperationsOfALostMessage(t *testing.T) {
	p := newPlace(t)
	q := p.create("q", Options{})
	sent := send(t, q, "one")
	done := make(chan error)
	p.journal.add(op{kind: opDelete, queue: q.number, seq: sent[0].Sequence, tag: tag("another")}, func(_ *record, err error) { done <- err })
	p.journal.kick()
	must(t, <-done)
	p.reopen()
	p.depth(p.queue("q"), 1, 0, 0)
}
