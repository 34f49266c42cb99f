package queues

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"thaw/state"
)

// Open reads what the store keeps of queues and returns when the index is complete. What it starts ends with the store;
// messages that time makes visible, expire or move need Run. One process at a time may have a store's queues open.
func Open(ctx context.Context, store *state.Store, cfg Config) (*Queues, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	e := &Queues{
		cfg: cfg, started: cfg.Now(), records: store.Records(definitionKind), byName: map[string]*Queue{},
		sending: make(chan struct{}, maxSending), fetching: make(chan struct{}, maxFetching), admin: make(chan struct{}, 1),
	}
	e.journal.e = e
	e.timers.init()
	e.mover.init()
	if err := e.connect(ctx, store); err != nil {
		return nil, fmt.Errorf("open queues: %w", err)
	}
	if err := e.recover(ctx); err != nil {
		return nil, fmt.Errorf("open queues: %w", err)
	}
	return e, nil
}

func (e *Queues) connect(ctx context.Context, store *state.Store) error {
	connected := make(chan struct{})
	fail := func(err error) {
		<-connected
		for _, p := range []*pipe{e.writes, e.reads} {
			if p != nil {
				p.fail(err)
			}
		}
	}
	streams, err := store.Streams("thaw-queues", func() { fail(ErrClosed) })
	if err != nil {
		return err
	}
	defer close(connected)
	e.streams = streams
	streams.Conn.SetDisconnectErrHandler(func(*nats.Conn, error) {
		if e.closing() {
			fail(ErrClosed)
			return
		}
		fail(errLost)
	})
	if e.writes, err = newPipe(streams.Conn); err != nil {
		return err
	}
	if e.reads, err = newPipe(streams.Conn); err != nil {
		return err
	}
	e.stream, err = streams.Stream(ctx, jetstream.StreamConfig{
		Name:        streamName,
		Subjects:    []string{subjectPrefix + ">"},
		AllowDirect: true,
		Duplicates:  time.Second, // the engine's own deduplication is not used, and reading what it needs for it takes time
	})
	return err
}

// recovery is the reading of the stream when it is opened.
type recovery struct {
	e      *Queues
	now    int64
	wall   int64
	queues map[uint64]*Queue
	gone   map[uint64]bool // queues without a definition
	moved  []envelope      // of messages that came from elsewhere
}

// recover makes the index from the stream.
func (e *Queues) recover(ctx context.Context) error {
	r := &recovery{e: e, now: e.now(), wall: e.wall(), queues: map[uint64]*Queue{}, gone: map[uint64]bool{}}
	defined, err := e.records.List(ctx, "")
	if err != nil {
		return err
	}
	for _, record := range defined {
		var d definition
		if err := json.Unmarshal(record.Value, &d); err != nil {
			return fmt.Errorf("definition of queue %s: %w", record.Key, err)
		}
		q := newQueue(e, d.Number, d.Info)
		r.queues[d.Number] = q
		e.include(q)
	}
	info, err := e.stream.Info(ctx)
	if err != nil {
		return e.streams.Error("read the queues' stream", err)
	}
	if info.State.Msgs > 0 {
		if err := r.read(ctx); err != nil {
			return err
		}
	}
	e.trash.top = max(e.trash.top, info.State.LastSeq)
	for number := range r.gone {
		e.cfg.Log.Info("messages of a deleted queue are dropped; the deletion was not finished before the last stop", "number", number)
		e.trash.purge(purge{number, math.MaxInt64, nil})
		e.last = max(e.last, number)
	}
	if err := r.finishMoves(ctx); err != nil {
		return err
	}
	for _, q := range r.queues {
		r.arrange(q)
	}
	return nil
}

// read replays the stream, through a consumer that is pushed to: with a million messages that takes two thirds of the time
// that one takes that asks for them.
func (r *recovery) read(ctx context.Context) error {
	js, err := r.e.streams.Conn.JetStream()
	if err != nil {
		return r.e.streams.Error("read the queues' stream", err)
	}
	sub, err := js.SubscribeSync("", nats.BindStream(streamName), nats.OrderedConsumer(), nats.HeadersOnly(), nats.Context(ctx))
	if err != nil {
		return r.e.streams.Error("read the queues' stream", err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // it fails where the engine has gone, and the consumer with it
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return r.e.streams.Error("read the queues' stream", err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read the queues' stream: %w", err)
		}
		if err := r.replay(meta.Sequence.Stream, msg.Subject, msg.Header); err != nil {
			return fmt.Errorf("message %d of stream %s: %w; install a newer thaw, or choose another directory with --data", meta.Sequence.Stream, streamName, err)
		}
		if meta.NumPending == 0 {
			return nil
		}
	}
}

func (r *recovery) replay(seq uint64, subject string, headers nats.Header) error {
	value := headers.Get(header)
	if subject == recordSubject {
		return r.replayRecord(seq, value)
	}
	number, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(subject, subjectPrefix), messageSuffix), 10, 64)
	if err != nil {
		return errCorrupt
	}
	q := r.queues[number]
	if q == nil {
		r.gone[number] = true
		return nil
	}
	env, err := decodeEnvelope(value)
	if err != nil {
		return err
	}
	length, err := strconv.Atoi(headers.Get(nats.MsgSize))
	if err != nil {
		return errCorrupt
	}
	size := storedSize(length, len(value))
	r.e.trash.born(seq, size)
	m := &message{seq: seq, size: uint32(size), tag: tag(env.id), sent: r.now - max(0, r.wall-env.sent)}
	if until := m.sent + env.visible; until > r.now {
		m.details().until = until
	}
	q.index.add(m, env.group)
	if env.origin != 0 {
		r.moved = append(r.moved, env)
	} else if env.dedup != "" && m.sent+DeduplicationWindow.Milliseconds() > r.now {
		q.memory.note(&sighting{key: q.dedupKey(env.group, env.dedup), id: env.id, seq: seq, at: m.sent, wall: env.sent})
	}
	return nil
}

func (r *recovery) replayRecord(seq uint64, value string) error {
	at, ops, err := decodeOps(value)
	if err != nil {
		return err
	}
	rec := r.e.newRecord(seq, len(ops), len(value))
	age := max(0, r.wall-at)
	for i := range ops {
		o := &ops[i]
		r.e.last = max(r.e.last, o.queue)
		if q := r.queues[o.queue]; q == nil || !r.apply(q, o, age, rec) {
			r.e.release(rec)
		}
	}
	return nil
}

// apply brings in an operation that was stored age milliseconds ago. It reports whether its record is needed for it.
func (r *recovery) apply(q *Queue, o *op, age int64, rec *record) bool {
	m := q.index.messages[o.seq]
	switch o.kind {
	case opState:
		if m == nil || m.tag != o.tag {
			return false
		}
		d := m.details()
		r.e.release(d.rec)
		d.rec, d.receives, d.first, d.note, d.inFlight = rec, o.receives, o.first, o.note, o.inFlight
		d.until = 0
		if left := o.hidden.Milliseconds() - age; left > 0 {
			d.until = r.now + left
		}
	case opDelete:
		if m == nil || m.tag != o.tag {
			return false
		}
		q.bury(m)
		r.e.trash.died(m.seq, int(m.size), rec)
	case opDedup:
		if s := q.memory.bySeq[o.seq]; s != nil && s.key == o.dedup {
			if s.rec != nil {
				return false
			}
			s.rec = rec
			return true
		}
		at := r.now - max(0, r.wall-o.sent)
		if at+DeduplicationWindow.Milliseconds() <= r.now {
			return false
		}
		q.memory.note(&sighting{key: o.dedup, id: o.id, seq: o.seq, at: at, wall: o.sent, rec: rec})
	case opPurge:
		q.clear(o.seq)
		r.e.trash.purge(purge{q.number, o.seq, rec})
	}
	return true
}

// finishMoves deletes the origins of messages that are in their new queue.
func (r *recovery) finishMoves(ctx context.Context) error {
	var both []func(told func(error))
	for _, env := range r.moved {
		q := r.queues[env.originQueue]
		if q == nil {
			continue
		}
		if m := q.index.messages[env.origin]; m != nil {
			both = append(both, func(told func(error)) {
				q.lock()
				defer q.unlock()
				q.erase(m, told)
			})
		}
	}
	r.moved = nil
	o := newOutcomes(len(both))
	for i, erase := range both {
		erase(func(err error) { o.tell(i, err) })
	}
	return errors.Join(o.wait(ctx, r.e)...)
}

// arrange makes a queue's messages visible, hides them, or leaves them to the mover.
func (r *recovery) arrange(q *Queue) {
	q.lock()
	defer q.unlock()
	for _, m := range q.index.messages {
		switch {
		case m.spot != nowhere || m.pending > 0:
		case m.until() <= r.now && q.overdue(m):
			q.condemn(m)
		default:
			q.index.place(m, r.now)
			q.expect(m, r.now)
		}
	}
}
