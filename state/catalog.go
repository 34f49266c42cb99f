package state

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"thaw"
)

// Change is what became of one function.
type Change struct {
	Name string
	// Function is the function as it is now, nil when it was deleted.
	Function *thaw.Function
}

// entry is one function of a view. rev is the revision that brought it.
type entry struct {
	name string
	f    *thaw.Function
	rev  uint64
}

// catalog is every function, in memory. Readers take the view, which is sorted by name and never changed once published;
// a write publishes a new one. Copying 5,000 entries takes microseconds, and functions are read far more than written.
type catalog struct {
	view atomic.Pointer[[]entry]

	mu sync.Mutex // serialises writes; guards what follows
	// seen is the newest revision that the feed has brought: nothing up to it is news.
	seen uint64
	// deleted holds revisions of deletions made here that the feed has yet to bring: an older revision that the feed
	// brings in between must not bring the function back.
	deleted  map[string]uint64
	watchers map[*watcher]struct{}
}

func newCatalog() *catalog {
	c := &catalog{deleted: map[string]uint64{}, watchers: map[*watcher]struct{}{}}
	c.view.Store(&[]entry{})
	return c
}

func find(view []entry, name string) (int, bool) {
	return slices.BinarySearchFunc(view, name, func(e entry, name string) int { return strings.Compare(e.name, name) })
}

// get gives a function and its revision.
func (c *catalog) get(name string) (*thaw.Function, uint64, bool) {
	view := *c.view.Load()
	i, ok := find(view, name)
	if !ok {
		return nil, 0, false
	}
	return view[i].f, view[i].rev, true
}

// list gives up to limit functions whose names sort after `after`.
func (c *catalog) list(after string, limit int) []*thaw.Function {
	view := *c.view.Load()
	i, ok := find(view, after)
	if ok {
		i++
	}
	view = view[i:]
	list := make([]*thaw.Function, 0, max(0, min(limit, len(view))))
	for _, e := range view {
		if len(list) >= limit {
			break
		}
		list = append(list, e.f)
	}
	return list
}

// load publishes the first view, complete up to revision seen.
func (c *catalog) load(view []entry, seen uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = seen
	slices.SortFunc(view, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	c.view.Store(&view)
}

// stale reports whether revision rev of a function is known already, or overtaken.
func (c *catalog) stale(name string, rev uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known, _ := c.get(name)
	return rev <= max(known, c.deleted[name])
}

// apply brings in one revision of one function, nil being its deletion. feed tells revisions that the feed brings, in
// order, from those that a local write was answered with.
func (c *catalog) apply(name string, f *thaw.Function, rev uint64, feed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	view := *c.view.Load()
	i, present := find(view, name)
	gone := c.deleted[name]
	if feed {
		c.seen = max(c.seen, rev)
		if rev >= gone {
			delete(c.deleted, name)
		}
	} else if rev <= c.seen {
		return
	}
	if rev <= gone || present && rev <= view[i].rev {
		return
	}
	switch {
	case f == nil:
		if !feed {
			c.deleted[name] = rev
		}
		if !present {
			return
		}
		view = slices.Delete(slices.Clone(view), i, i+1)
	case present:
		view = slices.Clone(view)
		view[i] = entry{name, f, rev}
	default:
		view = slices.Concat(view[:i], []entry{{name, f, rev}}, view[i:])
	}
	c.view.Store(&view)
	for w := range c.watchers {
		w.add(Change{name, f})
	}
}

// watch makes a watcher whose queue starts with every present function.
func (c *catalog) watch() *watcher {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &watcher{last: map[string]int{}, wake: make(chan struct{}, 1)}
	for _, e := range *c.view.Load() {
		w.add(Change{e.name, e.f})
	}
	c.watchers[w] = struct{}{}
	return w
}

func (c *catalog) unwatch(w *watcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.watchers, w)
}

// watcher queues changes for one caller of Watch. A slow caller does not grow the queue without bound: a change of a
// function that waits already takes the place of the one that waits. Only a deletion is not overtaken by what
// re-created the function, since the two are different functions to the caller.
type watcher struct {
	wake chan struct{}

	mu    sync.Mutex
	queue []Change
	last  map[string]int // a function's last place in queue
}

func (w *watcher) add(change Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i, ok := w.last[change.Name]; ok && (w.queue[i].Function != nil || change.Function == nil) {
		w.queue[i] = change
		return
	}
	w.last[change.Name] = len(w.queue)
	w.queue = append(w.queue, change)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) take() []Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	queue := w.queue
	w.queue = nil
	clear(w.last)
	return queue
}

// Watch calls fn for every present function, sorted by name, then for each change in order, until ctx ends or the store
// is closed; it returns ctx's error or ErrClosed. When several changes of a function wait for a slow fn, only the newest
// is passed on, but a deletion always is. fn runs on the caller's goroutine; by then the catalog shows the change or a
// newer one.
func (s *Store) Watch(ctx context.Context, fn func(Change)) error {
	w := s.catalog.watch()
	defer s.catalog.unwatch(w)
	for {
		for _, change := range w.take() {
			if err := ctx.Err(); err != nil {
				return err
			}
			fn(change)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closed:
			return ErrClosed
		case <-w.wake:
		}
	}
}
