package state

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// MaxLogEvent is the largest log event, bytes. AWS's own bound on one event is the same.
const MaxLogEvent = 1 << 20

// Bounds of what waits to be stored.
const (
	maxLogsWaiting     = 4096
	maxLogBytesWaiting = 16 << 20
	maxLogsSent        = 512 // of those, handed to the engine and not acknowledged yet
)

// ackTimeout is when an asynchronous write that was not acknowledged counts as failed.
const ackTimeout = 10 * time.Second

// syncPatience is how long a reader waits for what was published before it.
const syncPatience = 2 * time.Second

// PublishLog hands one event of a log group over to be stored and returns at once; data must not be changed afterwards.
// It fails with ErrBusy when too many events wait already. An event that is lost later (no room, an engine that failed,
// a kill) is counted by LogsDropped at most: logs are not acknowledged.
func (s *Store) PublishLog(group string, data []byte) error {
	token, err := escapeName(group)
	if err != nil {
		return fmt.Errorf("log group: %w", err)
	}
	if len(data) > MaxLogEvent {
		return fmt.Errorf("log event of %d bytes: one has at most %d", len(data), MaxLogEvent)
	}
	return s.sender.enqueue(logSubject+token, data)
}

// LogsDropped counts the events that PublishLog accepted and that could not be stored.
func (s *Store) LogsDropped() uint64 { return s.sender.dropped.Load() }

// sender stores log events in the background, on a connection of its own so that a flood delays no other write.
type sender struct {
	nc   *nats.Conn
	js   jetstream.JetStream
	room *room

	queue   chan logEvent
	bytes   atomic.Int64 // of events that wait, in queue or for their acknowledgement
	dropped atomic.Uint64
	done    chan struct{} // closed when run has returned

	mu     sync.Mutex
	closed bool // queue is closed
}

// logEvent is an event to be stored, or, with reached, a mark among them.
type logEvent struct {
	subject string
	data    []byte
	reached chan struct{}
}

// sent is an event that waits for its acknowledgement, or a mark that waits for the events before it.
type sent struct {
	ack     jetstream.PubAckFuture
	size    int
	reached chan struct{}
}

func newSender(srv *server.Server, cfg Config, room *room) (*sender, error) {
	nc, err := connect(srv, cfg, "thaw-logs")
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("open logs: %w", err)
	}
	return &sender{nc: nc, js: js, room: room, queue: make(chan logEvent, maxLogsWaiting), done: make(chan struct{})}, nil
}

func (s *sender) enqueue(subject string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.bytes.Add(int64(len(data))) > maxLogBytesWaiting {
		s.bytes.Add(-int64(len(data)))
		return ErrBusy
	}
	select {
	case s.queue <- logEvent{subject: subject, data: data}:
		return nil
	default:
		s.bytes.Add(-int64(len(data)))
		return ErrBusy
	}
}

// sync waits until everything enqueued before has been stored or lost, or ctx ends.
func (s *sender) sync(ctx context.Context) error {
	mark := logEvent{reached: make(chan struct{})}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	select {
	case s.queue <- mark:
		s.mu.Unlock()
	default:
		s.mu.Unlock()
		return ErrBusy
	}
	select {
	case <-mark.reached:
		return nil
	case <-s.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run passes events on and takes acknowledgements, oldest first, until drain has been called and nothing waits, or ctx
// ends.
func (s *sender) run(ctx context.Context) {
	defer close(s.done)
	var window []sent
	queue := s.queue
	for queue != nil || len(window) > 0 {
		if len(window) > 0 && window[0].reached != nil {
			close(window[0].reached)
			window = window[1:]
			continue
		}
		in := queue
		if len(window) >= maxLogsSent {
			in = nil
		}
		var ok <-chan *jetstream.PubAck
		var failed <-chan error
		if len(window) > 0 {
			ok, failed = window[0].ack.Ok(), window[0].ack.Err()
		}
		select {
		case <-ctx.Done():
			return
		case event, open := <-in:
			switch {
			case !open:
				queue = nil
			case event.reached != nil:
				window = append(window, sent{reached: event.reached})
			default:
				if ack := s.send(event); ack != nil {
					window = append(window, sent{ack: ack, size: len(event.data)})
				}
			}
		case <-ok:
			s.settle(window[0].size)
			window = window[1:]
		case <-failed: //nolint:errcheck // the count of what was dropped is what is told of it
			s.dropped.Add(1)
			s.settle(window[0].size)
			window = window[1:]
		}
	}
}

// send publishes one event. It returns nil when the event is lost.
func (s *sender) send(event logEvent) jetstream.PubAckFuture {
	err := s.room.take(len(event.data))
	if err == nil {
		var ack jetstream.PubAckFuture
		if ack, err = s.js.PublishAsync(event.subject, event.data); err == nil {
			return ack
		}
		s.room.give(len(event.data))
	}
	s.dropped.Add(1)
	s.bytes.Add(-int64(len(event.data)))
	return nil
}

func (s *sender) settle(size int) {
	s.room.give(size)
	s.bytes.Add(-int64(size))
}

// drain accepts no more events and waits, for a bounded time, until those that wait are stored.
func (s *sender) drain(wait time.Duration) {
	s.mu.Lock()
	s.closed = true
	close(s.queue)
	s.mu.Unlock()
	select {
	case <-s.done:
	case <-time.After(wait):
	}
}

// ReadLogs passes the events of a log group that were stored at or after since to fn, oldest first, each with the time
// at which it was stored; events published before the call are among them, unless a flood is being stored. A zero since means all. Without follow it ends after the newest event there is; with follow it
// goes on with those to come until ctx ends, and returns ctx's error. An error of fn ends it and is returned as it is.
func (s *Store) ReadLogs(ctx context.Context, group string, since time.Time, follow bool, fn func(at time.Time, data []byte) error) error {
	token, err := escapeName(group)
	if err != nil {
		return fmt.Errorf("log group: %w", err)
	}
	waiting, cancel := context.WithTimeout(ctx, syncPatience)
	err = s.sender.sync(waiting)
	cancel()
	if errors.Is(err, ErrClosed) {
		return err
	}
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{logSubject + token}}
	if !since.IsZero() {
		cfg.DeliverPolicy = jetstream.DeliverByStartTimePolicy
		cfg.OptStartTime = &since
	}
	consumer, err := s.logs.OrderedConsumer(ctx, cfg)
	if err != nil {
		return s.storeError("read logs of "+group, err)
	}
	if !follow && consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(256))
	if err != nil {
		return s.storeError("read logs of "+group, err)
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return ErrClosed
		}
		if err != nil {
			return s.storeError("read logs of "+group, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read logs of %s: %w", group, err)
		}
		if err := fn(meta.Timestamp, msg.Data()); err != nil {
			return err
		}
		if !follow && meta.NumPending == 0 {
			return nil
		}
	}
}

// PurgeLogs deletes the stored events of a log group. Events that still wait to be stored come after it.
func (s *Store) PurgeLogs(ctx context.Context, group string) error {
	token, err := escapeName(group)
	if err != nil {
		return fmt.Errorf("log group: %w", err)
	}
	if err := s.logs.Purge(ctx, jetstream.WithPurgeSubject(logSubject+token)); err != nil {
		return s.storeError("purge logs of "+group, err)
	}
	return nil
}
