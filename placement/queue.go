package placement

import (
	"context"
	"slices"
	"sync"
)

// queue holds the keys of work to be done, oldest first and each at most once. Adding never waits. Its methods may be
// called from several goroutines.
type queue[K comparable] struct {
	mu      sync.Mutex
	waiting []K
	token   chan struct{} // one whenever there may be work
}

func newQueue[K comparable]() *queue[K] { return &queue[K]{token: make(chan struct{}, 1)} }

func (q *queue[K]) add(key K) {
	q.mu.Lock()
	if !slices.Contains(q.waiting, key) {
		q.waiting = append(q.waiting, key)
	}
	q.mu.Unlock()
	q.signal()
}

func (q *queue[K]) signal() {
	select {
	case q.token <- struct{}{}:
	default:
	}
}

// take pops the oldest key; it is false when there is none.
func (q *queue[K]) take() (key K, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return key, false
	}
	key = q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	if len(q.waiting) > 0 {
		q.signal() // another worker may go on with the rest
	}
	return key, true
}

// serve does the work until ctx ends. Several may serve one queue; a key that is added while it is being worked on is
// worked on once more, perhaps at the same time.
func (q *queue[K]) serve(ctx context.Context, do func(context.Context, K)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.token:
		}
		for key, ok := q.take(); ok && ctx.Err() == nil; key, ok = q.take() {
			do(ctx, key)
		}
	}
}
