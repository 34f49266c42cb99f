package telemetry

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the log path.
const (
	flushEvery = 100 * time.Millisecond
	// retryEvery is when a store that was busy is tried again.
	retryEvery = 5 * time.Millisecond
	// flushSize is when a stream is flushed without waiting for the tick; bounded by the store's message size.
	flushSize = 128 << 10
	// eventRoom is what an event takes beside its message, with a request id: some 50 bytes.
	eventRoom = 64
	// maxBuffered bounds what one stream holds while the store is behind. A writer that reaches it waits.
	maxBuffered = 512 << 10
	// patience is how long a writer at the bound waits for the store before its output is dropped and counted.
	patience = 2 * time.Second
	// MaxMessage is the longest single log event, bytes; CloudWatch Logs' own limit.
	MaxMessage = 256 << 10
)

// Store keeps batches of log events, by log group.
type Store interface {
	// PublishLog stores data soon, with its description meta; it does not block, and fails when too much is outstanding.
	PublishLog(group, meta string, data []byte) error
	// ReadLogs calls fn for each batch stored at or after since, oldest first, and with follow for each new one
	// until ctx ends.
	ReadLogs(ctx context.Context, group string, since time.Time, follow bool, fn func(at time.Time, data []byte) error) error
}

// Logs collects log events from all environments of a node.
type Logs struct {
	store Store

	flushing sync.Mutex // held by a flush, so that batches are handed over in their order and a reader waits for a flush under way

	mu    sync.Mutex
	dirty []*Stream // streams with something to flush, each once

	wake    chan struct{}
	dropped atomic.Uint64
}

// NewLogs makes the collector; Run moves what it collects to the store.
func NewLogs(store Store) *Logs {
	return &Logs{store: store, wake: make(chan struct{}, 1)}
}

// Run flushes until ctx ends, and then once more.
func (l *Logs) Run(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			l.Flush()
			return nil
		case <-tick.C:
		case <-l.wake:
		case <-retry.C:
		}
		if !l.flush() {
			retry.Reset(retryEvery)
		}
	}
}

// Flush hands everything collected so far to the store.
func (l *Logs) Flush() { l.flush() }

// flush is Flush; it reports whether the store took all.
func (l *Logs) flush() (all bool) {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	l.mu.Lock()
	dirty := l.dirty
	l.dirty = nil
	l.mu.Unlock()
	all = true
	for _, s := range dirty {
		all = s.flush() && all
	}
	return all
}

// Dropped counts the events that were lost because the store could not keep up.
func (l *Logs) Dropped() uint64 { return l.dropped.Load() }

// Read calls fn for each stored event of a log group at or after since, in the order in which batches were stored; with
// follow it goes on with new ones until ctx ends.
func (l *Logs) Read(ctx context.Context, group string, since time.Time, follow bool, fn func(Event) error) error {
	l.Flush()
	// A batch is stored up to a flush interval after its first event.
	return l.store.ReadLogs(ctx, group, since.Add(-flushEvery), follow, func(_ time.Time, data []byte) error {
		if len(data) == 0 {
			return nil // an entry without events, as a deletion is
		}
		return decodeBatch(data, func(e Event) error {
			if e.At.Before(since) {
				return nil
			}
			return fn(e)
		})
	})
}

// Stream is one environment's log stream. Its methods may be called from several goroutines.
type Stream struct {
	logs  *Logs
	group string
	name  string

	mu      sync.Mutex
	pending batch
	next    int     // bytes that pending gets room for when it begins
	full    []batch // those before pending, flushSize each, so that none is copied while it grows
	waiting int     // bytes in full
	queued  bool
	dropped int // events dropped since the last one that was kept
	// chained is the invocation that Descend told of, chainedID its id as a batch keeps it.
	chained, chainedID string
	tail               *tail
	room               chan struct{} // closed by flush when a writer waits
}

// Stream makes a log stream of a group. Nothing is stored before something is written. Its tail has begun, so that the
// first invocation's shows what init wrote.
func (l *Logs) Stream(group, name string) *Stream {
	return &Stream{logs: l, group: group, name: name, tail: &tail{}}
}

// Name is the stream's name as CloudWatch shows it.
func (s *Stream) Name() string { return s.name }

// Write adds one event; an empty message is none. Messages over MaxMessage are cut. It never blocks; above the bound the
// event is dropped and counted, and a line that says so takes its place later.
func (s *Stream) Write(at time.Time, requestID string, message []byte) {
	if len(message) == 0 {
		return
	}
	if len(message) > MaxMessage {
		message = message[:MaxMessage]
	}
	s.mu.Lock()
	if s.tail != nil {
		s.tail.add(message)
	}
	if requestID != "" && requestID == s.chained {
		requestID = s.chainedID
	}
	if s.size() > maxBuffered+MaxMessage {
		s.dropped++
		s.mu.Unlock()
		s.logs.dropped.Add(1)
		return
	}
	if !s.pending.empty() && len(s.pending.data)+len(message)+eventRoom > flushSize {
		s.seal(flushSize)
	}
	if s.pending.data == nil {
		s.pending.data = make([]byte, 0, s.next)
		s.pending.reset(s.name)
	}
	if s.dropped > 0 {
		s.pending.add(at, requestID, appendDropped(nil, s.dropped))
		s.dropped = 0
	}
	s.pending.add(at, requestID, message)
	queue := !s.queued
	s.queued = true
	full := s.size() >= flushSize
	s.mu.Unlock()
	if queue {
		s.logs.mu.Lock()
		s.logs.dirty = append(s.logs.dirty, s)
		s.logs.mu.Unlock()
	}
	if full {
		select {
		case s.logs.wake <- struct{}{}:
		default:
		}
	}
}

// size is how many bytes wait to be flushed. The lock is held.
func (s *Stream) size() int { return s.waiting + len(s.pending.data) }

// seal puts what is pending behind the full batches. The next one will have room for so many bytes from its beginning, which
// is with its first event: a stream that rests holds nothing. The lock is held.
func (s *Stream) seal(next int) {
	s.full = append(s.full, s.pending)
	s.waiting += len(s.pending.data)
	s.pending, s.next = batch{}, next
}

// WaitRoom blocks a writer while the stream is over its bound, until the store has caught up, patience has run out or
// ctx ends. It is what slows a flooding function down.
func (s *Stream) WaitRoom(ctx context.Context) {
	s.mu.Lock()
	if s.size() < maxBuffered {
		s.mu.Unlock()
		return
	}
	if s.room == nil {
		s.room = make(chan struct{})
	}
	room := s.room
	s.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-room:
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Descend says that an invocation is part of a chain of requests: its events carry the lineage of its trace, so that what
// they cause in their turn is seen as part of the chain. It holds until the next one is told of.
func (s *Stream) Descend(requestID, lineage string) {
	s.mu.Lock()
	s.chained, s.chainedID = requestID, withLineage(requestID, lineage)
	s.mu.Unlock()
}

// BeginTail starts to keep the last 4 KB of what is written, for X-Amz-Log-Result, unless that has begun already.
func (s *Stream) BeginTail() {
	s.mu.Lock()
	if s.tail == nil {
		s.tail = &tail{}
	}
	s.mu.Unlock()
}

// EndTail ends what BeginTail began and returns the text.
func (s *Stream) EndTail() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tail == nil {
		return nil
	}
	t := s.tail
	s.tail = nil
	return t.bytes()
}

// flush publishes what waits by now, and reports whether the store took it. When that is busy the rest stays, and the
// stream is queued again.
func (s *Stream) flush() (taken bool) {
	taken = true
	s.mu.Lock()
	for range len(s.full) + 1 {
		if len(s.full) == 0 && !s.pending.empty() {
			s.seal(min(len(s.pending.data), flushSize))
		}
		if len(s.full) == 0 {
			break
		}
		out := s.full[0]
		s.mu.Unlock()
		err := s.logs.store.PublishLog(s.group, out.meta(s.name).String(), out.data)
		s.mu.Lock()
		if taken = err == nil; !taken {
			break
		}
		s.full = slices.Delete(s.full, 0, 1)
		s.waiting -= len(out.data)
	}
	if s.room != nil && s.size() < maxBuffered {
		close(s.room)
		s.room = nil
	}
	again := s.waiting > 0 || !s.pending.empty()
	s.queued = again
	s.mu.Unlock()
	if again {
		s.logs.mu.Lock()
		s.logs.dirty = append(s.logs.dirty, s)
		s.logs.mu.Unlock()
	}
	return taken
}

// tailSize is how much of an invocation's log X-Amz-Log-Result carries (AWS's own limit).
const tailSize = 4096

// tail keeps the last tailSize bytes written to it.
type tail struct{ data []byte }

func (t *tail) add(message []byte) {
	message = message[max(0, len(message)-tailSize):]
	t.data = append(t.data, message...)
	if len(message) > 0 && message[len(message)-1] != '\n' {
		t.data = append(t.data, '\n')
	}
	if len(t.data) > 4*tailSize {
		t.data = append(t.data[:0], t.data[len(t.data)-tailSize:]...)
	}
}

func (t *tail) bytes() []byte { return t.data[max(0, len(t.data)-tailSize):] }
