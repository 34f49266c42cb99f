package queues

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"thaw/state"
)

// VisibilityChange is one change of ChangeVisibilityBatch.
type VisibilityChange struct {
	Handle     string
	Visibility time.Duration
}

// find gives the message of a handle; nil if it is not here any more: deleted, or moved. The lock is held.
func (q *Queue) find(text string) (*message, handle, error) {
	h, err := parseHandle(text)
	if err != nil || h.queue != q.number {
		return nil, h, ErrHandle
	}
	m := q.index.messages[h.seq]
	if m == nil || m.tag != h.tag {
		return nil, h, nil
	}
	if q.fifo && (m.class != inFlight || m.receives() != h.receives) {
		return nil, h, ErrHandle
	}
	return m, h, nil
}

// held is find for what only a message that is received now can be told.
func (q *Queue) held(text string) (*message, handle, error) {
	m, h, err := q.find(text)
	switch {
	case err != nil:
		return nil, h, err
	case m == nil || m.class != inFlight || m.more.condemned || !m.more.inFlight:
		return nil, h, ErrNotInFlight
	}
	return m, h, nil
}

// outcomes waits for several operations.
type outcomes struct {
	mu    sync.Mutex
	errs  []error
	known []bool
	left  int
	done  chan struct{}
}

func newOutcomes(n int) *outcomes {
	o := &outcomes{errs: make([]error, n), known: make([]bool, n), left: n, done: make(chan struct{})}
	if n == 0 {
		close(o.done)
	}
	return o
}

func (o *outcomes) tell(i int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.errs[i], o.known[i] = err, true
	if o.left--; o.left == 0 {
		close(o.done)
	}
}

func (o *outcomes) wait(ctx context.Context, e *Queues) []error {
	timer := time.NewTimer(answerTimeout)
	defer timer.Stop()
	var err error
	select {
	case <-o.done:
		return o.errs
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = e.streams.Error("work on messages", errNoAnswer)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	errs := make([]error, len(o.errs))
	for i := range errs {
		if errs[i] = o.errs[i]; !o.known[i] {
			errs[i] = err
		}
	}
	return errs
}

// Delete deletes a message; one that is deleted already is no error. It fails with ErrHandle.
func (q *Queue) Delete(ctx context.Context, handle string) error {
	return q.DeleteBatch(ctx, []string{handle})[0]
}

// DeleteBatch is Delete for several; errors stand in the order of the handles.
func (q *Queue) DeleteBatch(ctx context.Context, handles []string) []error {
	o := newOutcomes(len(handles))
	busy := q.e.journal.overloaded()
	q.lock()
	for i, text := range handles {
		m, _, err := q.find(text)
		switch {
		case q.ended:
			o.tell(i, ErrClosed)
		case err != nil || m == nil:
			o.tell(i, err)
		case busy:
			o.tell(i, q.e.streams.Error("delete a message", state.ErrBusy))
		case m.more != nil && m.more.moving:
			m.more.wishes = append(m.more.wishes, func(err error) { o.tell(i, err) })
		default:
			q.pardon(m)
			q.erase(m, func(err error) { o.tell(i, err) })
		}
	}
	q.unlock()
	return o.wait(ctx, q.e)
}

// pardon takes a message from those that wait for their move.
func (q *Queue) pardon(m *message) {
	if m.more == nil || !m.more.condemned {
		return
	}
	m.more.condemned = false
	if i := slices.Index(q.doomed, m); i >= 0 {
		q.doomed = slices.Delete(q.doomed, i, i+1)
	}
}

// wished takes who wants a message deleted that was on its way to another queue. It gives nil if nobody does.
func (m *message) wished() func(error) {
	if m.more == nil || len(m.more.wishes) == 0 {
		return nil
	}
	wishes := m.more.wishes
	m.more.wishes = nil
	return func(err error) {
		for _, tell := range wishes {
			tell(err)
		}
	}
}

// ChangeVisibility hides a received message for d from now on; 0 makes it visible at once. It fails with ErrHandle and
// ErrNotInFlight.
func (q *Queue) ChangeVisibility(ctx context.Context, handle string, d time.Duration) error {
	return q.ChangeVisibilityBatch(ctx, []VisibilityChange{{handle, d}})[0]
}

// ChangeVisibilityBatch is ChangeVisibility for several; errors stand in the order of the changes.
func (q *Queue) ChangeVisibilityBatch(ctx context.Context, changes []VisibilityChange) []error {
	o := newOutcomes(len(changes))
	full := q.e.roomToHandle()
	q.lock()
	for i, c := range changes {
		m, _, err := q.held(c.Handle)
		switch {
		case q.ended:
			o.tell(i, ErrClosed)
		case full != nil && c.Visibility > 0:
			o.tell(i, full)
		case err != nil:
			o.tell(i, err)
		default:
			q.rehide(m, milliseconds(c.Visibility), true, m.more.note, func(err error) { o.tell(i, err) })
		}
	}
	q.unlock()
	return o.wait(ctx, q.e)
}

// rehide changes for how long, and as what, a message is hidden.
func (q *Queue) rehide(m *message, hide int64, received bool, note string, told func(error)) {
	q.index.lift(m)
	until := q.e.now() + hide
	q.note(m, hide, received, note, func(err error) {
		if err == nil {
			m.more.until, m.more.inFlight, m.more.note = until, received, note
		}
	}, told)
}

// Return gives a received message back, to be visible after delay. Until then it counts as delayed, not as in flight.
// note, at most MaxNote, is what the next receive of it shows; nil removes the last. It fails with ErrHandle,
// ErrNotInFlight, also where a later receive has the message, and ErrTooLarge.
func (q *Queue) Return(ctx context.Context, handle string, delay time.Duration, note []byte) error {
	if len(note) > MaxNote {
		return fmt.Errorf("note of %d bytes, %d are allowed: %w", len(note), MaxNote, ErrTooLarge)
	}
	if err := q.e.roomToHandle(); err != nil {
		return err
	}
	o := newOutcomes(1)
	q.lock()
	m, h, err := q.held(handle)
	switch {
	case q.ended:
		o.tell(0, ErrClosed)
	case err != nil:
		o.tell(0, err)
	case h.receives != m.more.receives:
		o.tell(0, ErrNotInFlight)
	default:
		q.rehide(m, milliseconds(delay), false, string(note), func(err error) { o.tell(0, err) })
	}
	q.unlock()
	return o.wait(ctx, q.e)[0]
}
