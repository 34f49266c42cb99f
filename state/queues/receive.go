package queues

import (
	"context"
	"slices"
	"sync"
	"time"

	"thaw/state"
)

// waiter is a call of Receive that found nothing.
type waiter struct {
	most       int
	visibility *time.Duration
	picked     *picked
	served     chan struct{} // closed when picked is set, or the queue is deleted
}

// picked is what one receive takes.
type picked struct {
	messages []pick
	done     chan struct{} // closed when it is stored that they were received

	mu   sync.Mutex
	left int
	err  error
}

type pick struct {
	m        *message
	handle   handle
	first    int64
	receives uint32
	note     string
}

func (p *picked) stored(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.err = err
	}
	if p.left--; p.left == 0 {
		close(p.done)
	}
}

// Receive gives out up to most visible messages and hides them for visibility (nil: the queue's). It waits up to wait for
// the first one; callers that wait are served in the order they came. Nothing there: an empty slice. On FIFO queues a
// group with a message in flight gives out no other. It fails with ErrInFlight, ErrClosed, state.ErrFull.
func (q *Queue) Receive(ctx context.Context, most int, wait time.Duration, visibility *time.Duration) ([]Received, error) {
	if err := q.e.roomToHandle(); err != nil {
		return nil, err
	}
	q.lock()
	if q.ended {
		q.unlock()
		return nil, ErrClosed
	}
	q.arrivals(q.e.now())
	var p *picked
	var err error
	if len(q.waiters) == 0 {
		p, err = q.take(most, visibility)
	}
	if p != nil || err != nil || wait <= 0 || ctx.Err() != nil {
		q.unlock()
		if p == nil {
			return nil, err
		}
		return q.deliver(ctx, p)
	}
	w := &waiter{most: most, visibility: visibility, served: make(chan struct{})}
	q.waiters = append(q.waiters, w)
	q.unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-w.served:
	case <-timer.C:
	case <-ctx.Done():
	case <-q.e.streams.Closed():
	}
	q.lock()
	if i := slices.Index(q.waiters, w); i >= 0 {
		q.waiters = slices.Delete(q.waiters, i, i+1)
	}
	ended := q.ended
	q.unlock()
	switch {
	case w.picked != nil: // nobody sets it any more
		return q.deliver(ctx, w.picked)
	case ended || q.e.closing():
		return nil, ErrClosed
	}
	return nil, ctx.Err()
}

// roomToHandle asks whether there is room for what is written while messages are worked on.
func (e *Queues) roomToHandle() error {
	const some = 4096
	if e.journal.overloaded() {
		return e.streams.Error("work on messages", state.ErrBusy)
	}
	if err := e.streams.Take(some, state.Handling); err != nil {
		return err
	}
	e.streams.Give(some)
	return nil
}

// serve gives ready messages to who waits.
func (q *Queue) serve(now int64) {
	for len(q.waiters) > 0 {
		w := q.waiters[0]
		p, err := q.take(w.most, w.visibility)
		if p == nil || err != nil {
			return
		}
		w.picked = p
		q.waiters[0] = nil
		q.waiters = q.waiters[1:]
		close(w.served)
	}
}

// take picks up to want ready messages. It gives nil if there are none.
func (q *Queue) take(want int, visibility *time.Duration) (*picked, error) {
	now := q.e.now()
	hide := milliseconds(q.info.Options.Visibility)
	if visibility != nil {
		hide = milliseconds(*visibility)
	}
	most := q.info.Options.MaxInFlight
	if most == 0 {
		most = defaultMaxInFlight
	}
	var p *picked
	var last *message
	for p == nil || len(p.messages) < want {
		var m *message
		if last != nil {
			m = last.after()
		}
		if m == nil {
			m = q.index.next()
		}
		if m == nil {
			break
		}
		if q.expired(m, now) {
			q.drop(m)
			last = nil
			continue
		}
		if q.overdue(m) {
			q.index.lift(m)
			q.condemn(m)
			last = nil
			continue
		}
		if q.index.count[inFlight] >= most {
			if p == nil {
				return nil, ErrInFlight
			}
			break
		}
		if p == nil {
			p = &picked{done: make(chan struct{})}
		}
		p.messages = append(p.messages, q.hide(m, now, hide))
		last = m
	}
	if p == nil {
		return nil, nil
	}
	p.left = len(p.messages)
	for i := range p.messages {
		q.note(p.messages[i].m, hide, true, p.messages[i].note, func(err error) {
			if err != nil {
				q.unhide(p.messages[i])
			}
		}, p.stored)
	}
	return p, nil
}

// hide takes a ready message for a receive.
func (q *Queue) hide(m *message, now, hide int64) pick {
	q.index.lift(m)
	d := m.details()
	d.receives++
	if d.first == 0 {
		d.first = q.e.wall()
	}
	d.until, d.inFlight = now+hide, true
	q.index.reckon(m, inFlight)
	return pick{
		m: m, first: d.first, receives: d.receives, note: d.note,
		handle: handle{queue: q.number, seq: m.seq, tag: m.tag, receives: d.receives},
	}
}

// unhide undoes hide for a message that was not given out after all.
func (q *Queue) unhide(p pick) {
	if d := p.m.more; p.m.spot != removed && d.receives == p.receives {
		d.receives--
		d.until = 0
	}
}

// note stores what m's state is to be: for how long it is hidden, why, and with which note. It must be nowhere. apply is
// called with the lock held when that is stored, or has failed, and told afterwards without it.
func (q *Queue) note(m *message, hide int64, received bool, note string, apply, told func(error)) {
	m.pending++
	d := m.details()
	o := op{
		kind: opState, queue: q.number, seq: m.seq, tag: m.tag, receives: d.receives, first: d.first,
		hidden: time.Duration(hide) * time.Millisecond, inFlight: received, note: note,
	}
	q.e.journal.add(o, func(rec *record, err error) {
		q.lock()
		m.pending--
		switch {
		case m.spot == removed:
			q.e.release(rec)
			if err == nil {
				err = ErrNotInFlight
			}
		case err == nil:
			q.e.release(d.rec)
			d.rec = rec
			apply(nil)
			q.arrive(m, q.e.now())
		default:
			apply(err)
			q.arrive(m, q.e.now())
		}
		q.unlock()
		told(err)
	})
}

// deliver completes a receive: it reads the messages and waits until the receive is stored.
func (q *Queue) deliver(ctx context.Context, p *picked) ([]Received, error) {
	seqs := make([]uint64, len(p.messages))
	for i := range p.messages {
		seqs[i] = p.messages[i].m.seq
	}
	contents, err := q.e.fetch(ctx, seqs)
	if err == nil {
		timer := time.NewTimer(answerTimeout)
		defer timer.Stop()
		select {
		case <-p.done:
			err = p.err
		case <-ctx.Done():
			err = ctx.Err()
		case <-timer.C:
			err = q.e.streams.Error("receive messages", errNoAnswer)
		}
	}
	if err != nil {
		q.giveBack(p.messages)
		return nil, err
	}
	received := make([]Received, 0, len(contents))
	for i, c := range contents {
		if c == nil {
			q.lost(p.messages[i].m)
			continue
		}
		r, err := q.received(p.messages[i].m.seq, c)
		if err != nil {
			q.giveBack(p.messages)
			return nil, err
		}
		pick := &p.messages[i]
		r.Receives, r.Handle = int(pick.receives), pick.handle.String()
		r.FirstReceived = time.UnixMilli(pick.first)
		if pick.note != "" {
			r.Note = []byte(pick.note)
		}
		received = append(received, r)
	}
	return received, nil
}

func (q *Queue) received(seq uint64, c *content) (Received, error) {
	meta, body, err := decodeData(c.data)
	if err != nil {
		return Received{}, q.e.streams.Error("read a message of queue "+q.name, err)
	}
	return Received{
		ID: c.envelope.id, Sequence: seq, Body: body, Meta: meta, Group: c.envelope.group, Dedup: c.envelope.dedup,
		Sent: time.UnixMilli(c.envelope.sent), DeadFrom: c.envelope.deadFrom,
	}, nil
}

// giveBack makes messages visible that were taken and not given out, and their receive uncounted.
func (q *Queue) giveBack(picks []pick) {
	q.lock()
	defer q.unlock()
	for _, p := range picks {
		d := p.m.more
		if p.m.spot == removed || d.condemned || d.receives != p.receives || p.m.class != inFlight {
			continue
		}
		q.index.lift(p.m)
		d.receives--
		d.until = 0
		q.note(p.m, 0, false, d.note, func(error) {}, func(error) {})
	}
}

// lost drops a message that the stream does not have: somebody has deleted it there.
func (q *Queue) lost(m *message) {
	q.e.cfg.Log.Error("a message is gone from the state engine; it was deleted there by other means than thaw", "queue", q.name, "sequence", m.seq)
	q.lock()
	defer q.unlock()
	if m.spot != removed {
		q.drop(m)
	}
}
