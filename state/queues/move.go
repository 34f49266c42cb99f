package queues

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"thaw/state"
)

// A message moves by being stored in its new queue with the sequence that it had in the old one, its origin; then its
// deletion there is stored; then it shows in the new queue. A crash in between leaves both: whoever opens the store
// deletes the origin of every message that is there.

const (
	moveBatch = 64          // messages that one step of a move takes
	moveRetry = time.Second // after a move that failed
)

// mover is the queues with messages that wait for their move to a dead-letter queue.
type mover struct {
	mu     sync.Mutex
	queues []*Queue
	known  map[*Queue]struct{}
	wake   chan struct{}
}

func (m *mover) init() { m.known, m.wake = map[*Queue]struct{}{}, make(chan struct{}, 1) }

func (m *mover) add(q *Queue) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.known[q]; ok {
		return
	}
	m.known[q] = struct{}{}
	m.queues = append(m.queues, q)
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *mover) take() *Queue {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queues) == 0 {
		return nil
	}
	q := m.queues[0]
	m.queues[0] = nil
	m.queues = m.queues[1:]
	delete(m.known, q)
	return q
}

func (e *Queues) runMoves(ctx context.Context) error {
	for {
		wake := e.mover.wake
		wait := time.Hour
		if err := e.moveDoomed(ctx); err != nil {
			if ctx.Err() == nil {
				e.cfg.Log.Warn("messages do not reach their dead-letter queue for now", "error", err)
			}
			wake, wait = nil, moveRetry
		}
		if err := e.pause(ctx, wait, wake); err != nil {
			return err
		}
	}
}

// moveDoomed moves all that is condemned. Where that fails it goes on with the other queues, and returns an error.
func (e *Queues) moveDoomed(ctx context.Context) error {
	var again []*Queue
	var failure error
	for q := e.mover.take(); q != nil; q = e.mover.take() {
		if err := q.moveDoomed(ctx); err != nil {
			failure = fmt.Errorf("queue %s: %w", q.name, err)
			again = append(again, q)
		}
	}
	for _, q := range again {
		e.mover.add(q)
	}
	return failure
}

// moveDoomed moves a queue's condemned messages to the dead-letter queue.
func (q *Queue) moveDoomed(ctx context.Context) error {
	for {
		q.lock()
		target, ok := q.e.Queue(q.info.Options.DeadLetter)
		batch := slices.Clone(q.doomed[:min(len(q.doomed), moveBatch)])
		q.doomed = q.doomed[len(batch):]
		for _, m := range batch {
			m.more.moving = true
		}
		if !ok { // the queue is given up as a dead-letter queue: they are given out again
			for _, m := range batch {
				q.stay(m)
			}
			batch = nil
		}
		left := len(q.doomed)
		q.unlock()
		if len(batch) == 0 {
			if left > 0 && !ok {
				continue
			}
			return nil
		}
		_, err := q.move(ctx, batch, func(c *content) (*Queue, envelope) { return target, q.dead(c) }, nil)
		if err != nil {
			q.lock()
			for _, m := range batch {
				q.stay(m) // that is, it is condemned again
			}
			q.unlock()
			return err
		}
	}
}

// dead is the envelope of a message in the dead-letter queue.
func (q *Queue) dead(c *content) envelope {
	env := c.envelope
	env.deadFrom = q.name
	if q.fifo { // as SQS has it: the time in a FIFO dead-letter queue counts anew, that in others goes on
		env.sent = q.e.wall()
	}
	return env
}

// move moves messages that are nowhere and condemned. where says to which queue a message goes and as what; nil: it stays.
// Those that are not removed afterwards are still condemned, and the caller's to deal with.
func (q *Queue) move(ctx context.Context, batch []*message, where func(*content) (*Queue, envelope), meta []byte) (moved int, err error) {
	seqs := make([]uint64, len(batch))
	for i, m := range batch {
		seqs[i] = m.seq
	}
	contents, err := q.e.fetch(ctx, seqs)
	if err != nil {
		return 0, err
	}
	o := newOutcomes(len(batch))
	for i, m := range batch {
		c := contents[i]
		if c == nil {
			q.lost(m)
			o.tell(i, nil)
			continue
		}
		target, env := where(c)
		if target == nil {
			o.tell(i, errStays)
			continue
		}
		data := c.data
		if meta != nil {
			_, body, err := decodeData(data)
			if err != nil {
				o.tell(i, err)
				continue
			}
			data = encodeData(meta, body)
		}
		env.origin, env.originQueue, env.visible = m.seq, q.number, 0
		err := target.publish(newContent(env, data), state.Handling, func(seq uint64, c *content, err error) {
			if err != nil {
				o.tell(i, err)
				return
			}
			q.leave(m, func() {
				q.mu.Lock()
				unwanted := m.wished()
				q.mu.Unlock()
				if unwanted != nil {
					target.discard(seq, c, unwanted)
					o.tell(i, nil)
					return
				}
				err := target.insert(seq, c, nil)
				if errors.Is(err, ErrClosed) {
					err = nil // it went to a queue that was deleted meanwhile
				}
				o.tell(i, err)
			})
		})
		if err != nil {
			o.tell(i, err)
		}
	}
	// What has begun is not given up: a message would be neither here nor there.
	for _, err := range o.wait(context.WithoutCancel(ctx), q.e) {
		switch {
		case err == nil:
			moved++
		case errors.Is(err, errStays):
		default:
			return moved, err
		}
	}
	return moved, nil
}

// discard deletes a stored message that is not in the index.
func (q *Queue) discard(seq uint64, c *content, told func(error)) {
	q.e.journal.add(op{kind: opDelete, queue: q.number, seq: seq, tag: tag(c.envelope.id)}, func(rec *record, err error) {
		if err == nil {
			q.e.cache.remove(seq)
			q.e.trash.died(seq, c.size(), rec)
		} else {
			err = errors.Join(err, q.insert(seq, c, nil))
		}
		told(err)
	})
	q.e.journal.kick()
}

var errStays = errors.New("message stays where it is")

// leave deletes a message whose copy is stored elsewhere, however often that must be tried, and then calls then.
func (q *Queue) leave(m *message, then func()) {
	q.lock()
	if m.spot == removed { // purged meanwhile, and its copy with it
		q.unlock()
		then()
		return
	}
	q.erase(m, func(err error) {
		switch {
		case err == nil:
			then()
		case q.e.closing():
		default:
			time.AfterFunc(moveRetry, func() { q.leave(m, then) })
		}
	})
	q.unlock()
}

// Die moves a received message to the dead-letter queue at once, with other Meta (nil: kept). It fails with ErrHandle,
// ErrNotInFlight, state.ErrNotFound if there is no dead-letter queue, and state.ErrFull.
func (q *Queue) Die(ctx context.Context, handle string, meta []byte) error {
	q.lock()
	m, h, err := q.held(handle)
	target, ok := q.e.Queue(q.info.Options.DeadLetter)
	switch {
	case q.ended:
		err = ErrClosed
	case err != nil:
	case h.receives != m.more.receives || m.pending > 0:
		err = ErrNotInFlight
	case !ok:
		err = fmt.Errorf("dead-letter queue %q of %s: %w", q.info.Options.DeadLetter, q.name, state.ErrNotFound)
	default:
		q.index.lift(m)
		m.more.condemned, m.more.moving = true, true
	}
	q.unlock()
	if err != nil {
		return err
	}
	_, err = q.move(ctx, []*message{m}, func(c *content) (*Queue, envelope) { return target, q.dead(c) }, meta)
	if err != nil {
		q.restore([]*message{m})
	}
	return err
}

// stillHere leaves out of a list what is removed.
func (q *Queue) stillHere(list []*message) []*message {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.DeleteFunc(list, func(m *message) bool { return m.spot == removed })
}

// restore gives up a move.
func (q *Queue) restore(batch []*message) {
	q.lock()
	defer q.unlock()
	for _, m := range batch {
		q.stay(m)
	}
}

// stay gives up the move of a message, and deletes it if that was asked for meanwhile.
func (q *Queue) stay(m *message) {
	if m.spot == removed {
		return
	}
	m.more.condemned, m.more.moving = false, false
	if tell := m.wished(); tell != nil {
		q.erase(m, tell)
		return
	}
	q.arrive(m, q.e.now())
}

// Move takes up to most messages (0: all there are when it begins) from one queue to another, oldest first, only those
// that are visible: a redrive. With to "" each goes back to the queue that it died in; those whose queue is gone, or that
// were never in another, stay, and count for most. Body, meta, group and id are kept; the count of receives and the time in the queue start
// again. It returns how many moved, also with an error. It fails with state.ErrNotFound and state.ErrFull.
func (e *Queues) Move(ctx context.Context, from, to string, most int) (moved int, err error) {
	q, ok := e.Queue(from)
	if !ok {
		return 0, fmt.Errorf("move messages from queue %s: %w", from, state.ErrNotFound)
	}
	target, ok := e.Queue(to)
	if to != "" && !ok || target == q {
		return 0, fmt.Errorf("move messages to queue %s: %w", to, state.ErrNotFound)
	}
	left := q.Depth().Visible
	if most > 0 {
		left = min(left, most)
	}
	var stay []*message
	defer func() { q.restore(stay) }()
	for left > 0 && ctx.Err() == nil {
		batch := q.hold(min(left, moveBatch))
		if len(batch) == 0 {
			break
		}
		n, err := q.move(ctx, batch, func(c *content) (*Queue, envelope) {
			env := c.envelope
			env.sent = e.wall()
			to := target
			if to == nil && env.deadFrom != "" {
				to, _ = e.Queue(env.deadFrom)
			}
			env.deadFrom = ""
			return to, env
		}, nil)
		stay = append(stay, batch...)
		moved += n
		left -= len(batch)
		if err != nil {
			return moved, err
		}
		stay = q.stillHere(stay)
	}
	return moved, ctx.Err()
}

// hold takes the next visible messages for a move.
func (q *Queue) hold(limit int) []*message {
	q.lock()
	defer q.unlock()
	var batch []*message
	var last *message
	for len(batch) < limit {
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
		q.index.lift(m)
		m.details().condemned, m.more.moving = true, true
		batch = append(batch, m)
		last = m
	}
	return batch
}

// lowest gives the messages with the lowest sequences above after, in order.
func (q *Queue) lowest(after uint64, limit int) []*message {
	var low []*message
	if limit >= len(q.index.messages) {
		for seq, m := range q.index.messages {
			if seq > after {
				low = append(low, m)
			}
		}
		slices.SortFunc(low, func(a, b *message) int { return cmp.Compare(a.seq, b.seq) })
		return low
	}
	for seq, m := range q.index.messages {
		if seq <= after || len(low) == limit && seq > low[limit-1].seq {
			continue
		}
		i, _ := slices.BinarySearchFunc(low, seq, func(m *message, seq uint64) int { return cmp.Compare(m.seq, seq) })
		if len(low) == limit {
			low = low[:limit-1]
		}
		low = slices.Insert(low, i, m)
	}
	return low
}

// Peek shows up to limit messages whose sequence is above `after`, in order, whatever their state. It gives out nothing
// and counts nothing; Handle is empty.
func (q *Queue) Peek(ctx context.Context, after uint64, limit int) ([]Received, error) {
	if limit <= 0 {
		return nil, nil
	}
	q.lock()
	low := q.lowest(after, limit)
	known := make([]Received, len(low))
	seqs := make([]uint64, len(low))
	for i, m := range low {
		seqs[i] = m.seq
		if d := m.more; d != nil {
			known[i].Receives = int(d.receives)
			if d.first != 0 {
				known[i].FirstReceived = time.UnixMilli(d.first)
			}
			if d.note != "" {
				known[i].Note = []byte(d.note)
			}
		}
	}
	q.unlock()
	contents, err := q.e.fetch(ctx, seqs)
	if err != nil {
		return nil, err
	}
	list := make([]Received, 0, len(contents))
	for i, c := range contents {
		if c == nil {
			continue // deleted meanwhile
		}
		r, err := q.received(seqs[i], c)
		if err != nil {
			return nil, err
		}
		r.Receives, r.FirstReceived, r.Note = known[i].Receives, known[i].FirstReceived, known[i].Note
		list = append(list, r)
	}
	return list, nil
}
