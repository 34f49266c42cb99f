package queues

import (
	"context"
	"errors"
)

// Recall makes all messages that are in flight visible at once, with their notes and counts of receives: for who knows
// that those who received them are gone, as after a crash. Handles from before go on to work as after a visibility timeout.
// It returns how many it was, also with an error.
func (q *Queue) Recall(ctx context.Context) (int, error) {
	q.lock()
	if q.ended {
		q.unlock()
		return 0, ErrClosed
	}
	var held []*message
	for _, m := range q.index.messages {
		if m.class == inFlight && m.more.inFlight && !m.more.condemned && !m.more.moving {
			held = append(held, m)
		}
	}
	o := newOutcomes(len(held))
	for i, m := range held {
		q.rehide(m, 0, true, m.more.note, func(err error) { o.tell(i, err) })
	}
	q.unlock()
	n := 0
	var failed []error
	for _, err := range o.wait(ctx, q.e) {
		if err == nil {
			n++
		} else if len(failed) < 3 {
			failed = append(failed, err)
		}
	}
	return n, errors.Join(failed...)
}
