package queues

import (
	"context"
	"math"
	"sync"
	"time"
)

// timers knows which queue has something to do next, for all of them.
type timers struct {
	mu    sync.Mutex
	heap  heap[*Queue]
	first int64 // what the loop waits for
	wake  chan struct{}
}

func (t *timers) init() {
	t.first = math.MaxInt64
	t.wake = make(chan struct{}, 1)
	t.heap.less = func(a, b *Queue) bool { return a.due < b.due }
	t.heap.at = func(q *Queue, place int32) { q.place = place }
}

// set makes q due at a time of the engine's clock, in place of what was set before.
func (t *timers) set(q *Queue, due int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q.due = due
	if q.place < 0 {
		t.heap.push(q)
	} else {
		t.heap.fix(q.place)
	}
	if due < t.first {
		t.first = due
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

func (t *timers) remove(q *Queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q.place >= 0 {
		t.heap.remove(q.place)
	}
}

// take gives the next queue that is due; if there is none, when the next will be.
func (t *timers) take(now int64) (q *Queue, next int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q, ok := t.heap.top()
	if !ok {
		t.first = math.MaxInt64
		return nil, t.first
	}
	if q.due > now {
		t.first = q.due
		return nil, t.first
	}
	t.heap.remove(q.place)
	return q, 0
}

// tick does all that is due.
func (e *Queues) tick() (next int64) {
	for {
		q, next := e.timers.take(e.now())
		if q == nil {
			return next
		}
		q.tick()
	}
}

func (e *Queues) runTimers(ctx context.Context) error {
	for {
		next := e.tick()
		wait := time.Hour
		if left := next - e.now(); left < wait.Milliseconds() {
			wait = time.Duration(max(left, 1)) * time.Millisecond
		}
		if err := e.pause(ctx, wait, e.timers.wake); err != nil {
			return err
		}
	}
}
