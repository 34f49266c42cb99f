package state

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// MaxLogEvent is the largest batch of log events, bytes: the largest one that PutLogEvents may bring, with what is kept of it.
const MaxLogEvent = 1<<20 + 64<<10

// Bounds of what waits to be stored.
const (
	maxLogsWaiting     = 4096
	maxLogBytesWaiting = 8 << 20
	// Of those, handed to the engine and not acknowledged yet. The engine has two copies of each byte by then.
	maxLogsSent     = 512
	maxLogBytesSent = 2 << 20
)

// ackTimeout is when an asynchronous write that was not acknowledged counts as failed.
const ackTimeout = 10 * time.Second

// syncPatience is how long a reader waits for what was published before it.
const syncPatience = 2 * time.Second

// PublishLog hands one batch of a log group over to be stored and returns at once; data must not be changed afterwards.
// meta is a text without line breaks that describes it to those who read descriptions only. It fails with ErrBusy when too
// many batches wait already. A batch that is lost later (no room, an engine that failed, a kill) is counted by LogsDropped
// at most: logs are not acknowledged.
func (s *Store) PublishLog(group, meta string, data []byte) error {
	token, err := logToken(group, data)
	if err != nil {
		return err
	}
	return s.sender.enqueue(logEvent{subject: logSubject + token, meta: meta, data: data})
}

// AppendLog stores a batch as PublishLog does, behind those that were published before, and returns when it is stored. It
// fails with ErrBusy or ErrFull too.
func (s *Store) AppendLog(ctx context.Context, group, meta string, data []byte) (sequence uint64, err error) {
	token, err := logToken(group, data)
	if err != nil {
		return 0, err
	}
	stored := make(chan appended, 1)
	if err := s.sender.enqueue(logEvent{subject: logSubject + token, meta: meta, data: data, stored: stored}); err != nil {
		return 0, err
	}
	var a appended
	select {
	case a = <-stored:
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-s.sender.done:
		return 0, ErrClosed
	}
	if a.err != nil {
		return 0, s.storeError("write logs of "+group, a.err)
	}
	return a.sequence, nil
}

// ObserveLogs has fn called after each batch that this Store has stored, in the order of their sequences and without
// their data, on the goroutine that stores: fn must not wait. There is one observer; nil ends it.
func (s *Store) ObserveLogs(fn func(LogRecord)) { s.sender.observer.Store(&fn) }

func logToken(group string, data []byte) (string, error) {
	token, err := escapeName(group)
	if err != nil {
		return "", fmt.Errorf("log group: %w", err)
	}
	if len(data) > MaxLogEvent {
		return "", fmt.Errorf("batch of log events of %d bytes: one has at most %d", len(data), MaxLogEvent)
	}
	return token, nil
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

	observer atomic.Pointer[func(LogRecord)]

	mu     sync.Mutex
	closed bool // queue is closed
}

// logEvent is an event to be stored, or, with reached, a mark among them.
type logEvent struct {
	subject string
	meta    string
	data    []byte
	stored  chan<- appended // nil: nobody waits for it; else with room for one
	reached chan struct{}
}

// appended says what became of an event.
type appended struct {
	sequence uint64
	err      error
}

// sent is an event that waits for its acknowledgement, or a mark that waits for the events before it.
type sent struct {
	ack jetstream.PubAckFuture
	logEvent
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

func (s *sender) enqueue(event logEvent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	size := int64(len(event.data))
	if s.bytes.Add(size) > maxLogBytesWaiting {
		s.bytes.Add(-size)
		return ErrBusy
	}
	select {
	case s.queue <- event:
		return nil
	default:
		s.bytes.Add(-size)
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
	bytes := 0 // in window
	queue := s.queue
	for queue != nil || len(window) > 0 {
		if len(window) > 0 && window[0].reached != nil {
			close(window[0].reached)
			window = behind(window)
			continue
		}
		in := queue
		if len(window) >= maxLogsSent || bytes >= maxLogBytesSent {
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
				window = append(window, sent{logEvent: event})
			default:
				if ack := s.send(event); ack != nil {
					window = append(window, sent{ack, event})
					bytes += len(event.data)
				}
			}
		case ack := <-ok:
			bytes -= len(window[0].data)
			s.settle(&window[0], ack.Sequence, nil)
			window = behind(window)
		case err := <-failed:
			bytes -= len(window[0].data)
			s.settle(&window[0], 0, err)
			window = behind(window)
		}
	}
}

// behind gives a window without its first event, and lets go of that: after a flood the window's array stays.
func behind(window []sent) []sent {
	window[0] = sent{}
	return window[1:]
}

// send publishes one event. It returns nil when the event is lost.
func (s *sender) send(event logEvent) jetstream.PubAckFuture {
	err := s.room.take(len(event.data))
	if err == nil {
		var ack jetstream.PubAckFuture
		if ack, err = s.js.PublishMsgAsync(logMessage(event.subject, event.meta, event.data)); err == nil {
			return ack
		}
		s.room.give(len(event.data))
	}
	s.bytes.Add(-int64(len(event.data)))
	s.tell(&event, 0, err)
	return nil
}

// settle ends what send began.
func (s *sender) settle(of *sent, sequence uint64, err error) {
	s.room.give(len(of.data))
	s.bytes.Add(-int64(len(of.data)))
	s.tell(&of.logEvent, sequence, err)
}

// tell says what became of an event: to whom waits for it and to the observer, or, where it was lost, in the count.
func (s *sender) tell(event *logEvent, sequence uint64, err error) {
	if event.stored != nil {
		event.stored <- appended{sequence, err}
	} else if err != nil {
		s.dropped.Add(1)
	}
	observer := s.observer.Load()
	if err != nil || observer == nil || *observer == nil {
		return
	}
	if group, err := unescapeName(strings.TrimPrefix(event.subject, logSubject)); err == nil {
		(*observer)(LogRecord{Group: group, Sequence: sequence, At: time.Now(), Meta: event.meta, Size: len(event.data)})
	}
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
