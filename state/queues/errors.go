package queues

import "errors"

// What the methods of this package return besides state's errors (state.ErrNotFound, state.ErrExists, state.ErrFull) and
// the error of a context that ended. Compare with errors.Is.
var (
	// ErrHandle: the receipt handle is no handle of this queue, or, on a FIFO queue, one that a later receive overtook.
	ErrHandle = errors.New("receipt handle is malformed or stale")
	// ErrNotInFlight: the message is not received now: it has become visible again, or is deleted.
	ErrNotInFlight = errors.New("message is not in flight")
	// ErrInFlight: as many messages are in flight as the queue allows.
	ErrInFlight = errors.New("too many messages are in flight")
	// ErrTooLarge: a message is larger than MaxMessage, a note larger than MaxNote, or a group, id or name too long.
	ErrTooLarge = errors.New("too large for a queue")
	// ErrClosed: the queue was deleted, or the store closed, while the call was under way.
	ErrClosed = errors.New("queue is closed")
)
