package queues

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"thaw/state"
)

// sending is one call of Send.
type sending struct {
	mu    sync.Mutex
	sent  []Sent
	known []bool
	left  int
	done  chan struct{} // closed when the outcome of each message is known
}

func (s *sending) tell(i int, sent Sent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent[i], s.known[i] = sent, true
	if s.left--; s.left == 0 {
		close(s.done)
	}
}

// result waits for the outcomes.
func (s *sending) result(ctx context.Context, e *Queues) []Sent {
	timer := time.NewTimer(answerTimeout)
	defer timer.Stop()
	var err error
	select {
	case <-s.done:
		return s.sent
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = e.streams.Error("store a message", errNoAnswer)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := make([]Sent, len(s.sent))
	for i := range sent {
		if sent[i] = s.sent[i]; !s.known[i] {
			sent[i].Err = err
		}
	}
	return sent
}

// Send stores messages, in order, and returns when the outcome of each is known. A message whose Err is nil is stored.
// Err is state.ErrFull, ErrTooLarge, ErrClosed, or the context's error: then the message may still come to be stored.
// What a message points to must not be changed afterwards.
func (q *Queue) Send(ctx context.Context, messages ...Message) []Sent {
	if len(messages) == 0 {
		return nil
	}
	s := &sending{sent: make([]Sent, len(messages)), known: make([]bool, len(messages)), left: len(messages), done: make(chan struct{})}
	for i := range messages {
		if err := q.send(ctx, &messages[i], func(sent Sent) { s.tell(i, sent) }); err != nil {
			s.tell(i, Sent{Err: err})
		}
	}
	return s.result(ctx, q.e)
}

// send begins to store a message. tell is called with the outcome unless it fails.
func (q *Queue) send(ctx context.Context, m *Message, tell func(Sent)) error {
	if err := check(m); err != nil {
		return err
	}
	select {
	case q.e.sending <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	err := q.accept(m, func(sent Sent) {
		<-q.e.sending
		tell(sent)
	})
	if err != nil {
		<-q.e.sending
	}
	return err
}

func check(m *Message) error {
	switch {
	case len(m.Body)+len(m.Meta) > MaxMessage:
		return fmt.Errorf("message of %d bytes, %d are allowed: %w", len(m.Body)+len(m.Meta), MaxMessage, ErrTooLarge)
	case len(m.Group) > MaxID || len(m.Dedup) > MaxID || len(m.ID) > MaxID:
		return fmt.Errorf("message with a group, a deduplication id or an id longer than %d bytes: %w", MaxID, ErrTooLarge)
	}
	return nil
}

func (q *Queue) accept(m *Message, tell func(Sent)) error {
	env := envelope{id: m.ID, dedup: m.Dedup, sent: q.e.wall()}
	if env.id == "" {
		env.id = uuid.NewString()
	}
	q.lock()
	if q.ended {
		q.unlock()
		return ErrClosed
	}
	delay := q.info.Options.Delay
	switch {
	case q.fifo:
		env.group = m.Group
	case m.Delay != nil:
		delay = *m.Delay
	}
	var seen *sighting
	if m.Dedup != "" {
		seen = q.recognise(m, env.id, env.sent, tell)
		if seen == nil {
			q.unlock()
			return nil
		}
	}
	q.unlock()
	env.visible = milliseconds(delay)
	err := q.publish(newContent(env, encodeData(m.Meta, m.Body)), state.Filling, func(seq uint64, c *content, err error) {
		if err == nil {
			err = q.insert(seq, c, seen)
		}
		if err != nil {
			q.disavow(seen, err)
			tell(Sent{Err: err})
			return
		}
		tell(Sent{ID: c.envelope.id, Sequence: seq})
	})
	if err != nil {
		q.disavow(seen, err)
	}
	return err
}

// recognise notes a message's deduplication id. It returns nil if it is a duplicate; tell is then told of the first one.
func (q *Queue) recognise(m *Message, id string, wall int64, tell func(Sent)) *sighting {
	now := q.e.now()
	q.e.forget(&q.memory, now)
	key := q.dedupKey(m.Group, m.Dedup)
	first := q.memory.byKey[key]
	if first == nil || first.seq != 0 && first.at+DeduplicationWindow.Milliseconds() <= now {
		s := &sighting{key: key, id: id, at: now, wall: wall}
		q.memory.note(s)
		return s
	}
	if first.seq != 0 {
		tell(Sent{ID: first.id, Sequence: first.seq, Duplicate: true})
		return nil
	}
	first.followers = append(first.followers, func(id string, seq uint64, err error) {
		if err != nil {
			tell(Sent{Err: err})
			return
		}
		tell(Sent{ID: id, Sequence: seq, Duplicate: true})
	})
	return nil
}

func (q *Queue) dedupKey(group, dedup string) string {
	if q.info.Options.GroupDedup {
		return group + "\x00" + dedup
	}
	return dedup
}

// disavow forgets a deduplication id whose message was not stored.
func (q *Queue) disavow(seen *sighting, err error) {
	if seen == nil {
		return
	}
	q.lock()
	q.memory.drop(seen)
	followers := seen.followers
	seen.followers = nil
	q.unlock()
	for _, follow := range followers {
		follow("", 0, err)
	}
}

// publish begins to store a message of the queue. done is called with its sequence, unless publish fails.
func (q *Queue) publish(c *content, urgency state.Urgency, done func(seq uint64, c *content, err error)) error {
	e := q.e
	size := c.size()
	if most := e.cfg.MaxBytes; urgency == state.Filling && most > 0 && e.bytes.Load()+int64(size) > most {
		return fmt.Errorf("%w: all queues together hold %d bytes and may hold %d (queues.max_bytes); receive or purge some messages", state.ErrFull, e.bytes.Load(), most)
	}
	if err := e.streams.Take(size, urgency); err != nil {
		return err
	}
	msg := &nats.Msg{Subject: messageSubject(q.number), Header: nats.Header{header: {c.value}}, Data: c.data}
	err := e.writes.send(msg, func(answer *nats.Msg, err error) {
		e.streams.Give(size)
		var seq uint64
		if err == nil {
			seq, err = stored(answer)
		}
		if err != nil {
			done(0, c, e.streams.Error("store a message", err))
			return
		}
		e.trash.born(seq, c.size())
		e.cache.put(seq, c)
		done(seq, c, nil)
	})
	if err != nil {
		e.streams.Give(size)
		return e.streams.Error("store a message", err)
	}
	return nil
}

// insert brings a stored message into the index.
func (q *Queue) insert(seq uint64, c *content, seen *sighting) error {
	now := q.e.now()
	m := &message{
		seq: seq, sent: now - max(0, q.e.wall()-c.envelope.sent), tag: tag(c.envelope.id),
		size: uint32(c.size()),
	}
	q.lock()
	if q.ended {
		q.unlock()
		q.e.trash.died(seq, int(m.size), nil)
		return ErrClosed
	}
	if c.envelope.visible > 0 {
		m.details().until = now + c.envelope.visible
	}
	q.index.add(m, c.envelope.group)
	q.arrive(m, now)
	var followers []func(string, uint64, error)
	if seen != nil {
		seen.seq = seq
		q.memory.bySeq[seq] = seen
		followers, seen.followers = seen.followers, nil
	}
	q.unlock()
	for _, follow := range followers {
		follow(c.envelope.id, seq, nil)
	}
	return nil
}
