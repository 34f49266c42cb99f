package queues

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"thaw/state"
)

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
type Queues struct{}

// Open reads what the store keeps of queues and returns when the index is complete. It starts nothing that outlives the
// store; messages that time makes visible, expire or move need Run.
func Open(ctx context.Context, store *state.Store, cfg Config) (*Queues, error) {
	return nil, errors.ErrUnsupported
}

// Run does what time asks for until ctx ends: delays and visibility timeouts that pass, retention, moves to dead-letter
// queues, and giving back the disk space of what was deleted. It returns ctx's error.
func (e *Queues) Run(ctx context.Context) error { return errors.ErrUnsupported }

// Create makes a queue of info's name, options and meta. It fails with state.ErrExists, also where the present one is
// the same, and with state.ErrFull.
func (e *Queues) Create(ctx context.Context, info Info) (*Queue, error) {
	return nil, errors.ErrUnsupported
}

// Queue gives the queue of a name.
func (e *Queues) Queue(name string) (*Queue, bool) { return nil, false }

// List gives up to limit queues, sorted by name, whose names begin with prefix and sort after `after`.
func (e *Queues) List(prefix, after string, limit int) []*Queue { return nil }

// Delete deletes a queue with all its messages. It fails with state.ErrNotFound.
func (e *Queues) Delete(ctx context.Context, name string) error { return errors.ErrUnsupported }

// Move takes up to max messages (0: all there are when it begins) from one queue to another, oldest first, only those
// that are visible: a redrive. With to "" each goes back to the queue that it died in; those that were never in another
// stay. Body, meta, group and id are kept; the count of receives starts again. It returns how many moved, also with an
// error. It fails with state.ErrNotFound and state.ErrFull.
func (e *Queues) Move(ctx context.Context, from, to string, max int) (moved int, err error) {
	return 0, errors.ErrUnsupported
}

// Watch calls fn with the name of every present queue, then of each queue that was made, changed or deleted or that went
// from nothing visible to something visible, until ctx ends or the store is closed; it returns ctx's error or ErrClosed.
// fn runs on the caller's goroutine; while it is busy, several changes of a queue become one call.
func (e *Queues) Watch(ctx context.Context, fn func(name string)) error { return errors.ErrUnsupported }

// Queue is one queue.
type Queue struct{}

// Info describes the queue as it is now; the caller must not change what it points to.
func (q *Queue) Info() Info { return Info{} }

// Update lets change edit a copy of the description and stores it. Name, Created and Options.FIFO stay as they are. An
// error of change is returned as it is.
func (q *Queue) Update(ctx context.Context, change func(*Info) error) error {
	return errors.ErrUnsupported
}

// Purge deletes every message of the queue, in flight or not.
func (q *Queue) Purge(ctx context.Context) error { return errors.ErrUnsupported }

// Depth counts what the queue holds.
func (q *Queue) Depth() Depth { return Depth{} }

// Send stores messages, in order, and returns when the outcome of each is known. A message whose Err is nil is stored.
// Err is state.ErrFull, ErrTooLarge, ErrClosed, or the context's error: then the message may still come to be stored.
func (q *Queue) Send(ctx context.Context, messages ...Message) []Sent { return nil }

// Receive gives out up to max visible messages and hides them for visibility (nil: the queue's). It waits up to wait for
// the first one; callers that wait are served in the order they came. Nothing there: an empty slice. On FIFO queues a
// group with a message in flight gives out no other. It fails with ErrInFlight, ErrClosed, state.ErrFull.
func (q *Queue) Receive(ctx context.Context, max int, wait time.Duration, visibility *time.Duration) ([]Received, error) {
	return nil, errors.ErrUnsupported
}

// Delete deletes a message; one that is deleted already is no error. It fails with ErrHandle.
func (q *Queue) Delete(ctx context.Context, handle string) error { return errors.ErrUnsupported }

// DeleteBatch is Delete for several; errors stand in the order of the handles.
func (q *Queue) DeleteBatch(ctx context.Context, handles []string) []error { return nil }

// ChangeVisibility hides a received message for d from now on; 0 makes it visible at once. It fails with ErrHandle and
// ErrNotInFlight.
func (q *Queue) ChangeVisibility(ctx context.Context, handle string, d time.Duration) error {
	return errors.ErrUnsupported
}

// VisibilityChange is one change of ChangeVisibilityBatch.
type VisibilityChange struct {
	Handle     string
	Visibility time.Duration
}

// ChangeVisibilityBatch is ChangeVisibility for several; errors stand in the order of the changes.
func (q *Queue) ChangeVisibilityBatch(ctx context.Context, changes []VisibilityChange) []error {
	return nil
}

// Return gives a received message back, to be visible after delay. Until then it counts as delayed, not as in flight.
// note, at most MaxNote, is what the next receive of it shows; nil removes the last. It fails with ErrHandle,
// ErrNotInFlight and ErrTooLarge.
func (q *Queue) Return(ctx context.Context, handle string, delay time.Duration, note []byte) error {
	return errors.ErrUnsupported
}

// Die moves a received message to the dead-letter queue at once, with other Meta (nil: kept). It fails with ErrHandle,
// ErrNotInFlight, state.ErrNotFound if there is no dead-letter queue, and state.ErrFull.
func (q *Queue) Die(ctx context.Context, handle string, meta []byte) error {
	return errors.ErrUnsupported
}

// Peek shows up to limit messages whose sequence is above `after`, in order, whatever their state. It gives out nothing
// and counts nothing; Handle is empty.
func (q *Queue) Peek(ctx context.Context, after uint64, limit int) ([]Received, error) {
	return nil, errors.ErrUnsupported
}
