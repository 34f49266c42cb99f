package queues

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"thaw/state"
)

// Names in JetStream.
const (
	streamName    = "thaw-queues"
	subjectPrefix = "thaw.queue."
	messageSuffix = ".m"
	recordSubject = subjectPrefix + "r"
)

func messageSubject(id uint64) string {
	return subjectPrefix + strconv.FormatUint(id, 10) + messageSuffix
}

// Bounds of what waits for the engine.
const (
	maxSending  = 4096 // messages
	maxFetching = 256  // messages
)

// answerTimeout is when the engine counts as gone.
const answerTimeout = 10 * time.Second

// definitionKind is the kind of the records that describe queues.
const definitionKind = "queue"

// definition is a queue as it is kept among the records. Its number is in the subjects of its messages and is never used
// again.
type definition struct {
	Number uint64 `json:"number"`
	Info   Info   `json:"info"`
}

// Config says what the queues work with. Zero values mean the defaults named here.
type Config struct {
	// Log gets what the operator should know and no caller is told. Nil: dropped.
	Log *slog.Logger
	// Now is the clock. Default time.Now, whose monotonic reading keeps delays right when the machine's clock is set.
	Now func() time.Time
	// MaxBytes bounds all queues' messages together, bytes: a Send above fails with state.ErrFull. 0: the disk's room.
	MaxBytes int64
}

// Queues is every queue of a store. All methods may be called from several goroutines.
type Queues struct {
	cfg     Config
	started time.Time // what the engine's clock counts from
	streams *state.Streams
	stream  jetstream.Stream
	records *state.Records
	writes  *pipe // all that is stored, so that the answers come in the order of the stream
	reads   *pipe
	journal journal
	trash   trash
	cache   cache
	timers  timers
	mover   mover
	watched watched

	sending  chan struct{} // a slot per message on its way
	fetching chan struct{}
	admin    chan struct{} // held while a definition changes
	bytes    atomic.Int64  // of all messages

	recordBytes atomic.Int64 // of all records that are needed
	recordOps   atomic.Int64 // that are needed of them

	mu     sync.RWMutex
	byName map[string]*Queue
	names  []string // sorted
	last   uint64   // the highest number in use
}

// now is the engine's clock: milliseconds since it was opened, whatever happens to the machine's time of day.
func (e *Queues) now() int64 { return e.cfg.Now().Sub(e.started).Milliseconds() }

// wall is the time of day, milliseconds since 1970.
func (e *Queues) wall() int64 { return e.cfg.Now().UnixMilli() }

// Run does what time asks for until ctx ends: delays and visibility timeouts that pass, retention, moves to dead-letter
// queues, and giving back the disk space of what was deleted. It returns ctx's error, or ErrClosed once the store closes.
func (e *Queues) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return e.runTimers(ctx) })
	group.Go(func() error { return e.runMoves(ctx) })
	group.Go(func() error { return e.runCollector(ctx) })
	return group.Wait()
}

func (e *Queues) runCollector(ctx context.Context) error {
	for {
		if err := e.pause(ctx, collectInterval, nil); err != nil {
			return err
		}
		e.thin()
		if err := e.collect(ctx, false); err != nil && ctx.Err() == nil {
			e.cfg.Log.Warn("disk space of deleted messages is not given back for now", "error", err)
		}
	}
}

// pause waits until d has passed, wake is signalled, ctx ends or the store closes.
func (e *Queues) pause(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-e.streams.Closed():
		return ErrClosed
	case <-timer.C:
	case <-wake:
	}
	return nil
}

// lockAdmin waits until no other definition is being changed.
func (e *Queues) lockAdmin(ctx context.Context) (unlock func(), err error) {
	select {
	case e.admin <- struct{}{}:
		return func() { <-e.admin }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-e.streams.Closed():
		return nil, ErrClosed
	}
}

// Create makes a queue of info's name, options and meta. It fails with state.ErrExists, also where the present one is
// the same, with ErrTooLarge and with state.ErrFull.
func (e *Queues) Create(ctx context.Context, info Info) (*Queue, error) {
	if info.Name == "" || len(info.Name) > MaxID {
		return nil, fmt.Errorf("queue name of %d bytes, 1 to %d are allowed: %w", len(info.Name), MaxID, ErrTooLarge)
	}
	unlock, err := e.lockAdmin(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, ok := e.Queue(info.Name); ok {
		return nil, fmt.Errorf("create queue %s: %w", info.Name, state.ErrExists)
	}
	info.Created = e.cfg.Now().Round(0)
	info.Modified = info.Created
	e.mu.Lock()
	e.last++
	number := e.last
	e.mu.Unlock()
	if err := e.records.Create(ctx, info.Name, definition{number, info}); err != nil {
		return nil, err
	}
	q := newQueue(e, number, info)
	e.include(q)
	e.watched.notify(info.Name)
	return q, nil
}

func (e *Queues) include(q *Queue) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.byName[q.name] = q
	i, _ := slices.BinarySearch(e.names, q.name)
	e.names = slices.Insert(e.names, i, q.name)
	e.last = max(e.last, q.number)
}

// Queue gives the queue of a name.
func (e *Queues) Queue(name string) (*Queue, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	q, ok := e.byName[name]
	return q, ok
}

// List gives up to limit queues, sorted by name, whose names begin with prefix and sort after `after`.
func (e *Queues) List(prefix, after string, limit int) []*Queue {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var list []*Queue
	i, _ := slices.BinarySearch(e.names, max(prefix, after))
	for ; i < len(e.names) && len(list) < limit; i++ {
		if name := e.names[i]; name != after || after == "" {
			if !strings.HasPrefix(name, prefix) {
				break
			}
			list = append(list, e.byName[name])
		}
	}
	return list
}

// Delete deletes a queue with all its messages. It fails with state.ErrNotFound.
func (e *Queues) Delete(ctx context.Context, name string) error {
	unlock, err := e.lockAdmin(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	q, ok := e.Queue(name)
	if !ok {
		return fmt.Errorf("delete queue %s: %w", name, state.ErrNotFound)
	}
	// Messages whose queue has no definition are dropped when the store is opened, so that this one write is the deletion.
	if err := e.records.Delete(ctx, name); err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	e.mu.Lock()
	delete(e.byName, name)
	if i, ok := slices.BinarySearch(e.names, name); ok {
		e.names = slices.Delete(e.names, i, i+1)
	}
	e.mu.Unlock()
	q.end()
	e.watched.notify(name)
	return nil
}

// closing reports whether the store has been closed.
func (e *Queues) closing() bool {
	select {
	case <-e.streams.Closed():
		return true
	default:
		return false
	}
}
