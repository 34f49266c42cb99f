package subjects

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Settings of the consumers that we make.
const (
	// ackWait is how long the server waits for a word about a message before it delivers it again.
	ackWait = 30 * time.Second
	// maxAckPending bounds the messages in hand: two of the largest batches.
	maxAckPending = 20_000
	// forgetAfter is how long a consumer is kept that nobody uses, as long as SQS keeps messages.
	forgetAfter = 14 * 24 * time.Hour
	// longestBeat bounds how seldom Run looks for messages of which the server must hear.
	longestBeat = 5 * time.Second
)

// stream reads from a consumer of JetStream.
type stream struct {
	cfg     Config
	nc      *nats.Conn
	js      jetstream.JetStream
	pending atomic.Int64

	mu         sync.Mutex
	consumer   jetstream.Consumer // nil: bind again
	patience   time.Duration      // the consumer's AckWait
	maxDeliver int                // 0: for ever
	held       map[string]*held
}

// held is a message in hand.
type held struct {
	msg       jetstream.Msg
	delivered uint64
	heard     time.Time // when the server last heard of it
}

// bind finds or makes the consumer.
func (s *stream) bind(ctx context.Context) (jetstream.Consumer, error) {
	s.mu.Lock()
	consumer := s.consumer
	s.mu.Unlock()
	if consumer != nil {
		return consumer, nil
	}
	a := &s.cfg.Address
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var err error
	if a.Consumer != "" {
		consumer, err = s.js.Consumer(ctx, a.Stream, a.Consumer)
	} else {
		consumer, err = s.make(ctx)
	}
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, fmt.Errorf("%s has no stream %s; make it first", a.Server, a.Stream)
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		return nil, fmt.Errorf("the stream %s of %s has no consumer %s; make it first, or leave it out of the address", a.Stream, a.Server, a.Consumer)
	case err != nil:
		return nil, fmt.Errorf("use the stream %s of %s: %w", a.Stream, a.Server, err)
	}
	info := consumer.CachedInfo()
	if info.Config.AckPolicy != jetstream.AckExplicitPolicy {
		return nil, fmt.Errorf("the consumer %s of %s does not want each message acknowledged; make one with explicit acknowledgement", a.Consumer, a.Server)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consumer, s.patience, s.maxDeliver = consumer, info.Config.AckWait, a.MaxDeliver
	if n := info.Config.MaxDeliver; n > 0 && (s.maxDeliver == 0 || n < s.maxDeliver) {
		s.maxDeliver = n
	}
	s.pending.Store(int64(info.NumPending)) //nolint:gosec // a count
	return consumer, nil
}

func (s *stream) make(ctx context.Context) (jetstream.Consumer, error) {
	a := &s.cfg.Address
	cfg := jetstream.ConsumerConfig{
		Durable: "thaw-" + s.cfg.Name, Description: "event source mapping " + s.cfg.Name, FilterSubject: a.Subject,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxAckPending: maxAckPending, MaxDeliver: -1, InactiveThreshold: forgetAfter,
	}
	if a.MaxDeliver > 0 {
		cfg.MaxDeliver = a.MaxDeliver
	}
	if a.New {
		cfg.DeliverPolicy = jetstream.DeliverNewPolicy
	}
	return s.js.CreateOrUpdateConsumer(ctx, a.Stream, cfg)
}

// unbind has the consumer looked for again: it is gone, perhaps.
func (s *stream) unbind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consumer = nil
}

func (s *stream) Receive(ctx context.Context, limit int, wait time.Duration) ([]Message, error) {
	consumer, err := s.bind(ctx)
	if err != nil {
		return nil, err
	}
	got, err := s.gather(consumer.FetchNoWait(limit))
	if len(got) > 0 || err != nil {
		return got, err
	}
	s.pending.Store(0)
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	got, err = s.gather(consumer.Fetch(1, jetstream.FetchContext(waiting)))
	if len(got) == 0 || limit == 1 {
		if waiting.Err() != nil && ctx.Err() == nil {
			return got, nil // in time there was none
		}
		return got, err
	}
	more, err := s.gather(consumer.FetchNoWait(limit - 1))
	if err != nil {
		s.cfg.Log.Warn("a NATS server gives one message and no more", "error", err) // it is said by the next Receive too
	}
	return append(got, more...), nil
}

// gather takes the messages of a fetch in hand.
func (s *stream) gather(batch jetstream.MessageBatch, err error) ([]Message, error) {
	if err != nil {
		return nil, s.fetchError(err)
	}
	var got []Message
	for msg := range batch.Messages() {
		meta, err := msg.Metadata()
		if err != nil {
			return got, fmt.Errorf("message of %s: %w", s.cfg.Address.Stream, err)
		}
		m := Message{
			ID: fmt.Sprintf("%s:%d", meta.Stream, meta.Sequence.Stream), Subject: msg.Subject(), Body: msg.Data(), Header: msg.Headers(),
			Stream: meta.Stream, Sequence: meta.Sequence.Stream, Delivered: int(meta.NumDelivered), Stored: meta.Timestamp, //nolint:gosec // a count
		}
		s.pending.Store(int64(meta.NumPending)) //nolint:gosec // a count
		s.mu.Lock()
		s.held[m.ID] = &held{msg: msg, delivered: meta.NumDelivered, heard: time.Now()}
		s.mu.Unlock()
		got = append(got, m)
	}
	if err := batch.Error(); err != nil && len(got) == 0 {
		return nil, s.fetchError(err)
	}
	return got, nil
}

func (s *stream) fetchError(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	s.unbind()
	return fmt.Errorf("receive from the stream %s of %s: %w", s.cfg.Address.Stream, s.cfg.Address.Server, err)
}

// settle says something of each message to the server and lets go of it. One that is not in hand is left alone.
func (s *stream) settle(ids []string, say func(*held) error) error {
	var errs []error
	for _, id := range ids {
		s.mu.Lock()
		h := s.held[id]
		delete(s.held, id)
		s.mu.Unlock()
		if h == nil {
			continue
		}
		if err := say(h); err != nil && !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
			errs = append(errs, fmt.Errorf("message %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

func (s *stream) Done(ids []string) error {
	return s.settle(ids, func(h *held) error { return h.msg.Ack() })
}

func (s *stream) Failed(ids []string) error {
	s.mu.Lock()
	last := s.maxDeliver
	s.mu.Unlock()
	return s.settle(ids, func(h *held) error {
		if last > 0 && h.delivered >= uint64(last) { //nolint:gosec // positive
			return h.msg.TermWithReason(fmt.Sprintf("the function failed on all of %d deliveries", h.delivered))
		}
		return h.msg.NakWithDelay(s.cfg.Address.pause(h.delivered))
	})
}

func (s *stream) Return(ids []string) error {
	return s.settle(ids, func(h *held) error { return h.msg.Nak() })
}

func (s *stream) Backlog() int { return int(s.pending.Load()) }

func (s *stream) Run(ctx context.Context) {
	s.mu.Lock()
	every := min(max(s.patience/6, 50*time.Millisecond), longestBeat)
	s.mu.Unlock()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for _, msg := range s.due(now) {
				_ = msg.InProgress() // the next beat says it again
			}
		}
	}
}

// due are the messages of which the server must hear now.
func (s *stream) due(now time.Time) []jetstream.Msg {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []jetstream.Msg
	for _, h := range s.held {
		if now.Sub(h.heard) >= s.patience/3 {
			h.heard = now
			due = append(due, h.msg)
		}
	}
	return due
}

func (s *stream) Close() { closeConn(s.nc) }
