package queues

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"thaw/state"
)

// defaultMaxInFlight is SQS's own figure.
const defaultMaxInFlight = 120_000

// How often a queue is looked through for messages past their retention, and how many go at a time.
const (
	sweepInterval = 5 * time.Second
	sweepMost     = 2000
)

// Queue is one queue.
type Queue struct {
	e      *Queues
	number uint64
	name   string
	fifo   bool

	mu       sync.Mutex // never held while something is sent to the engine; taken with lock and unlock
	info     Info
	ended    bool
	index    index
	memory   memory
	waiters  []*waiter
	doomed   []*message // condemned, for the mover
	sweepAt  int64      // on the engine's clock; MaxInt64: nothing expires
	wakeAt   int64      // what timers were told
	reported int64      // bytes of index that are in Queues.bytes
	had      bool       // something was visible at the last unlock

	due   int64 // guarded by timers.mu
	place int32 // guarded by timers.mu
}

func newQueue(e *Queues, number uint64, info Info) *Queue {
	return &Queue{
		e: e, number: number, name: info.Name, fifo: info.Options.FIFO, info: info,
		index: newIndex(info.Options.FIFO), sweepAt: math.MaxInt64, wakeAt: math.MaxInt64, place: -1,
	}
}

func (q *Queue) lock() { q.mu.Lock() }

// unlock lets what was changed have its effects: messages that are ready go to who waits for them, timers are set, and
// what is to be stored is.
func (q *Queue) unlock() {
	now := q.e.now()
	if q.ended {
		q.mu.Unlock()
		q.e.journal.kick()
		return
	}
	q.serve(now)
	next := q.sweepAt
	if m, ok := q.index.hidden.top(); ok {
		next = min(next, m.more.until)
	}
	if forget, ok := q.memory.next(); ok {
		next = min(next, forget)
	}
	if next < q.wakeAt {
		q.wakeAt = next
		q.e.timers.set(q, next)
	}
	q.e.bytes.Add(q.index.bytes - q.reported)
	q.reported = q.index.bytes
	has := q.index.count[visible] > 0
	news := has && !q.had
	q.had = has
	moves := len(q.doomed) > 0
	q.mu.Unlock()
	q.e.journal.kick()
	if news {
		q.e.watched.notify(q.name)
	}
	if moves {
		q.e.mover.add(q)
	}
}

// tick does what is due.
func (q *Queue) tick() {
	q.lock()
	defer q.unlock()
	q.wakeAt = math.MaxInt64
	now := q.e.now()
	q.arrivals(now)
	q.sweep(now)
}

// arrivals makes visible what was hidden until now.
func (q *Queue) arrivals(now int64) {
	for m := q.index.due(now); m != nil; m = q.index.due(now) {
		q.arrive(m, now)
	}
}

// arrive finds the place of a message that is nowhere, unless an operation on it is still being stored.
func (q *Queue) arrive(m *message, now int64) {
	switch {
	case m.spot != nowhere || m.pending > 0 || m.more != nil && m.more.condemned:
	case m.until() <= now && q.expired(m, now):
		q.drop(m)
	case m.until() <= now && q.overdue(m):
		q.condemn(m)
	default:
		q.index.place(m, now)
		q.expect(m, now)
	}
}

// overdue reports whether m is to go to the dead-letter queue instead of being given out.
func (q *Queue) overdue(m *message) bool {
	o := &q.info.Options
	if o.DeadLetter == "" || o.MaxReceives <= 0 || m.receives() < uint32(o.MaxReceives) {
		return false
	}
	_, ok := q.e.Queue(o.DeadLetter)
	return ok
}

// condemn leaves m, which is nowhere, to the mover.
func (q *Queue) condemn(m *message) {
	m.details().condemned = true
	q.index.reckon(m, inFlight)
	q.doomed = append(q.doomed, m)
}

func (q *Queue) expired(m *message, now int64) bool {
	r := q.info.Options.Retention
	return r > 0 && now-m.sent >= milliseconds(r)
}

// expect sees to it that m is looked at when it expires.
func (q *Queue) expect(m *message, now int64) {
	if r := q.info.Options.Retention; r > 0 {
		q.sweepAt = min(q.sweepAt, max(m.sent+milliseconds(r), now+1))
	}
}

// sweep drops messages past their retention.
func (q *Queue) sweep(now int64) {
	q.e.forget(&q.memory, now)
	if now < q.sweepAt {
		return
	}
	q.sweepAt = math.MaxInt64
	r := milliseconds(q.info.Options.Retention)
	if r == 0 {
		return
	}
	first, dropped := int64(math.MaxInt64), 0
	for _, m := range q.index.messages {
		if dropped == sweepMost {
			first = now
			break // without looking at all the others each time
		}
		switch {
		case m.sent+r > now:
			first = min(first, m.sent+r)
		case m.spot == nowhere:
		default:
			dropped++
			q.drop(m)
		}
	}
	if first != math.MaxInt64 {
		q.sweepAt = max(first, now+sweepInterval.Milliseconds())
		if dropped == sweepMost {
			q.sweepAt = now + 10
		}
	}
}

// forget drops the deduplication ids whose window has passed.
func (e *Queues) forget(d *memory, now int64) {
	for _, rec := range d.forget(now) {
		e.release(rec)
	}
}

// drop deletes a message for which nobody waits.
func (q *Queue) drop(m *message) { q.erase(m, nil) }

// erase takes m from where it is and deletes it. told is called when the deletion is stored or has failed.
func (q *Queue) erase(m *message, told func(error)) {
	q.index.lift(m)
	m.pending++
	if s := q.memory.bySeq[m.seq]; s != nil {
		q.remember(s)
	}
	q.e.journal.add(op{kind: opDelete, queue: q.number, seq: m.seq, tag: m.tag}, func(rec *record, err error) {
		q.lock()
		m.pending--
		switch {
		case err == nil && m.spot != removed:
			q.bury(m)
			q.e.trash.died(m.seq, int(m.size), rec)
		case err == nil:
			q.e.release(rec)
		default:
			q.arrive(m, q.e.now())
		}
		q.unlock()
		if told != nil {
			told(err)
		}
	})
}

// remember has a deduplication id stored whose message is about to be deleted, unless it is already or its window is over.
func (q *Queue) remember(s *sighting) {
	over := func() bool { return s.rec != nil || s.at+DeduplicationWindow.Milliseconds() <= q.e.now() }
	if over() {
		return
	}
	q.e.journal.add(op{kind: opDedup, queue: q.number, seq: s.seq, dedup: s.key, id: s.id, sent: s.wall}, func(rec *record, err error) {
		if err != nil {
			return
		}
		q.lock()
		defer q.unlock()
		if q.ended || over() {
			q.e.release(rec)
			return
		}
		s.rec = rec
	})
}

// bury forgets a deleted message.
func (q *Queue) bury(m *message) {
	if m.more != nil {
		q.e.release(m.more.rec)
		m.more.rec = nil
	}
	q.index.remove(m)
	q.e.cache.remove(m.seq)
}

// Name is the queue's name.
func (q *Queue) Name() string { return q.name }

// Info describes the queue as it is now; the caller must not change what it points to.
func (q *Queue) Info() Info {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.info
}

// Update lets change edit a copy of the description and stores it. Name, Created and Options.FIFO stay as they are. An
// error of change is returned as it is.
func (q *Queue) Update(ctx context.Context, change func(*Info) error) error {
	unlock, err := q.e.lockAdmin(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	old := q.Info()
	info := old
	info.Meta = slices.Clone(old.Meta)
	if err := change(&info); err != nil {
		return err
	}
	info.Name, info.Created, info.Options.FIFO = old.Name, old.Created, old.Options.FIFO
	info.Modified = q.e.cfg.Now().Round(0)
	if current, ok := q.e.Queue(q.name); !ok || current != q {
		return fmt.Errorf("change queue %s: %w", q.name, state.ErrNotFound)
	}
	if err := q.e.records.Put(ctx, q.name, definition{q.number, info}); err != nil {
		return err
	}
	q.lock()
	q.info = info
	if info.Options.Retention != old.Options.Retention {
		q.sweepAt = math.MaxInt64
		if info.Options.Retention > 0 {
			q.sweepAt = q.e.now()
		}
	}
	q.unlock()
	q.e.watched.notify(q.name)
	return nil
}

// Purge deletes every message of the queue, in flight or not.
func (q *Queue) Purge(ctx context.Context) error {
	done := make(chan error, 1)
	q.lock()
	if q.ended {
		q.unlock()
		return ErrClosed
	}
	var last uint64
	for seq := range q.index.messages {
		last = max(last, seq)
	}
	if last == 0 {
		q.unlock()
		return nil
	}
	for _, s := range q.memory.bySeq {
		q.remember(s)
	}
	q.e.journal.add(op{kind: opPurge, queue: q.number, seq: last}, func(rec *record, err error) {
		if err == nil {
			q.lock()
			q.clear(last)
			q.unlock()
			q.e.trash.purge(purge{q.number, last, rec})
		}
		done <- err
	})
	q.unlock()
	return q.e.await(ctx, done)
}

// clear forgets every message up to last, for a purge of the stream.
func (q *Queue) clear(last uint64) {
	var kept []*message
	gone := make([]*message, 0, len(q.index.messages))
	for seq, m := range q.index.messages {
		if seq > last {
			kept = append(kept, m)
			continue
		}
		gone = append(gone, m)
		if len(kept) == 0 && m.more != nil {
			q.e.release(m.more.rec)
			m.more.rec = nil
		}
	}
	if len(kept) == 0 { // one by one takes seconds with a million
		q.index = newIndex(q.fifo)
	}
	for _, m := range gone {
		if len(kept) > 0 {
			q.bury(m)
		}
		m.spot = removed
		q.e.cache.remove(m.seq)
		if tell := m.wished(); tell != nil {
			tell(nil)
		}
	}
	q.e.trash.left(gone)
	q.doomed = slices.DeleteFunc(q.doomed, func(m *message) bool { return m.spot == removed })
}

// await waits for the outcome of something that is being stored.
func (e *Queues) await(ctx context.Context, done <-chan error) error {
	timer := time.NewTimer(answerTimeout)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return e.streams.Error("work on a queue", errNoAnswer)
	}
}

var errNoAnswer = errors.New("the state engine does not answer")

// Depth counts what the queue holds.
func (q *Queue) Depth() Depth {
	q.mu.Lock()
	defer q.mu.Unlock()
	d := Depth{Visible: q.index.count[visible], InFlight: q.index.count[inFlight], Delayed: q.index.count[delayed], Bytes: q.index.bytes}
	if sent, ok := q.index.oldest(); ok {
		now := q.e.cfg.Now()
		d.Oldest = now.Add(time.Duration(sent-q.e.now()) * time.Millisecond).Round(0)
	}
	return d
}

// end drops everything of a deleted queue.
func (q *Queue) end() {
	q.lock()
	q.ended = true
	waiters := q.waiters
	q.waiters = nil
	q.e.bytes.Add(-q.reported)
	q.clear(math.MaxUint64)
	q.e.trash.purge(purge{q.number, math.MaxInt64, nil})
	for _, s := range q.memory.order {
		q.e.release(s.rec)
		s.rec = nil
	}
	q.memory, q.doomed = memory{}, nil
	q.unlock()
	q.e.timers.remove(q)
	for _, w := range waiters {
		close(w.served)
	}
}
