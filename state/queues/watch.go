package queues

import (
	"context"
	"slices"
	"sync"
)

// watched tells watchers of queues.
type watched struct {
	mu       sync.Mutex
	watchers map[*watcher]struct{}
}

// watcher is the names that one caller of Watch has yet to be told.
type watcher struct {
	names map[string]struct{} // guarded by watched.mu
	wake  chan struct{}
}

func (w *watched) notify(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.watchers {
		one.names[name] = struct{}{}
		select {
		case one.wake <- struct{}{}:
		default:
		}
	}
}

func (w *watched) take(one *watcher) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	names := make([]string, 0, len(one.names))
	for name := range one.names {
		names = append(names, name)
	}
	clear(one.names)
	slices.Sort(names)
	return names
}

// Watch calls fn with the name of every present queue, then of each queue that was made, changed or deleted or that went
// from nothing visible to something visible, until ctx ends or the store is closed; it returns ctx's error or ErrClosed.
// fn runs on the caller's goroutine; while it is busy, several changes of a queue become one call.
func (e *Queues) Watch(ctx context.Context, fn func(name string)) error {
	one := &watcher{names: map[string]struct{}{}, wake: make(chan struct{}, 1)}
	e.watched.mu.Lock()
	if e.watched.watchers == nil {
		e.watched.watchers = map[*watcher]struct{}{}
	}
	e.watched.watchers[one] = struct{}{}
	e.watched.mu.Unlock()
	defer func() {
		e.watched.mu.Lock()
		delete(e.watched.watchers, one)
		e.watched.mu.Unlock()
	}()
	e.mu.RLock()
	names := slices.Clone(e.names)
	e.mu.RUnlock()
	for {
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			fn(name)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.streams.Closed():
			return ErrClosed
		case <-one.wake:
		}
		names = e.watched.take(one)
	}
}
