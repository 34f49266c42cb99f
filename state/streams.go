package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Streams is for packages below this one that keep a stream of their own in the store's engine.
type Streams struct {
	store *Store
	Conn  *nats.Conn // closed with the store
}

// Streams makes a connection of its own, so that one user's flood delays no other's writes. closed is called when it
// has ended for good, which it does with the store.
func (s *Store) Streams(name string, closed func()) (*Streams, error) {
	nc, err := connect(s.srv, s.cfg, name)
	if err != nil {
		return nil, err
	}
	nc.SetClosedHandler(func(*nats.Conn) { closed() })
	s.connsMu.Lock()
	defer s.connsMu.Unlock()
	select {
	case <-s.closed:
		nc.Close()
		return nil, ErrClosed
	default:
	}
	s.conns = append(s.conns, nc)
	return &Streams{store: s, Conn: nc}, nil
}

// Stream makes the stream that cfg names, or brings it to cfg.
func (s *Streams) Stream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	js, err := jetstream.New(s.Conn)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", cfg.Name, err)
	}
	cfg.Replicas = s.store.cfg.Replicas
	stream, err := js.CreateOrUpdateStream(ctx, cfg)
	if err != nil {
		return nil, s.Error("open stream "+cfg.Name, err)
	}
	return stream, nil
}

// Urgency says how far into the disk's reserve a write may go.
type Urgency int64

// The urgencies. What drains the store must go on where what fills it is refused.
const (
	Filling  Urgency = 1 // not at all
	Handling Urgency = 2 // half of it: what is written while kept data is worked on
	Freeing  Urgency = 8 // nearly all: what makes room
)

// Take claims room on the disk for a write of n bytes; Give returns it when the write is done. It fails with ErrFull.
func (s *Streams) Take(n int, urgency Urgency) error {
	return s.store.room.takeUrgent(n, int64(urgency))
}

// Give returns what Take claimed, with the same n.
func (s *Streams) Give(n int) { s.store.room.give(n) }

// Error gives an error of the engine its sentinel and says what was being done.
func (s *Streams) Error(doing string, err error) error { return s.store.storeError(doing, err) }

// Closed is closed when the store closes.
func (s *Streams) Closed() <-chan struct{} { return s.store.closed }

// closeConns ends what Streams made.
func (s *Store) closeConns() {
	s.connsMu.Lock()
	defer s.connsMu.Unlock()
	for _, nc := range s.conns {
		nc.Close()
	}
}

// silence is after how long without a message a reader asks whether there is still one to come.
const silence = 250 * time.Millisecond

// nextStored gives the next message of a reader that wants what is stored, io.EOF when there is none any more: those that it was
// told of may have been deleted, or have expired, before it came to them.
func nextStored(ctx context.Context, consumer jetstream.Consumer, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	for {
		waiting, cancel := context.WithTimeout(ctx, silence)
		msg, err := messages.Next(jetstream.NextContext(waiting))
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return msg, err
		}
		info, err := consumer.Info(ctx)
		if err != nil {
			return nil, err
		}
		if info.NumPending == 0 {
			return nil, io.EOF
		}
	}
}
