package state

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// feedRetry is how long a feed that broke off waits before it is taken up again.
const feedRetry = time.Second

// loadCatalog fills the catalog and keeps it following the feed until background ends.
func (s *Store) loadCatalog(ctx, background context.Context) error {
	watch, err := s.functions.WatchAll(background)
	if err != nil {
		return err
	}
	view, seen, err := readPresent(ctx, watch)
	if err != nil {
		watch.Stop() //nolint:errcheck // it fails where the engine has gone, and the watch with it
		return err
	}
	s.catalog.load(view, seen)
	s.running.Go(func() { s.follow(background, watch) })
	return nil
}

// readPresent reads a watch up to the point where all that was there when it began has come; seen is the newest revision.
func readPresent(ctx context.Context, watch jetstream.KeyWatcher) (view []entry, seen uint64, err error) {
	for {
		kv, err := nextUpdate(ctx, watch)
		if err != nil {
			return nil, 0, err
		}
		if kv == nil {
			return view, seen, nil
		}
		seen = max(seen, kv.Revision())
		if kv.Operation() != jetstream.KeyValuePut {
			continue
		}
		f, err := decodeFunction(kv.Value())
		if err != nil {
			return nil, 0, fmt.Errorf("function %s: %w", kv.Key(), err)
		}
		view = append(view, entry{kv.Key(), f, kv.Revision()})
	}
}

// nextUpdate waits for the next entry of a watch; nil comes once, behind all that was there when the watch began.
func nextUpdate(ctx context.Context, watch jetstream.KeyWatcher) (jetstream.KeyValueEntry, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case kv, open := <-watch.Updates():
		if !open {
			return nil, ErrClosed
		}
		return kv, nil
	}
}

// follow applies what the feed brings. The client takes a feed up again by itself after most faults of a cluster; where
// it gives up, follow begins a new one.
func (s *Store) follow(ctx context.Context, watch jetstream.KeyWatcher) {
	for {
		for {
			kv, err := nextUpdate(ctx, watch)
			if err != nil {
				break
			}
			if kv != nil {
				s.applyFeed(kv)
			}
		}
		watch.Stop() //nolint:errcheck // it fails where the engine has gone, and the watch with it
		for watch = nil; watch == nil; {
			if ctx.Err() != nil {
				return
			}
			var err error
			if watch, err = s.refill(ctx); err != nil {
				s.cfg.Log.Warn("functions that other nodes change are not seen for now", "error", err)
				select {
				case <-ctx.Done():
				case <-time.After(feedRetry):
				}
			}
		}
	}
}

// refill begins a new feed and brings the catalog to what is there now.
func (s *Store) refill(ctx context.Context) (jetstream.KeyWatcher, error) {
	watch, err := s.functions.WatchAll(ctx)
	if err != nil {
		return nil, err
	}
	view, seen, err := readPresent(ctx, watch)
	if err != nil {
		watch.Stop() //nolint:errcheck // it fails where the engine has gone, and the watch with it
		return nil, err
	}
	present := map[string]bool{}
	for _, e := range view {
		present[e.name] = true
	}
	for _, e := range *s.catalog.view.Load() {
		if !present[e.name] {
			s.catalog.apply(e.name, nil, seen, true) // too old to stay if the feed is ahead of it
		}
	}
	for _, e := range view {
		s.catalog.apply(e.name, e.f, e.rev, true)
	}
	return watch, nil
}

func (s *Store) applyFeed(kv jetstream.KeyValueEntry) {
	if kv.Operation() != jetstream.KeyValuePut {
		s.catalog.apply(kv.Key(), nil, kv.Revision(), true)
		return
	}
	if s.catalog.stale(kv.Key(), kv.Revision()) {
		return
	}
	f, err := decodeFunction(kv.Value())
	if err != nil {
		s.cfg.Log.Error("a function that another node stored cannot be read; the one known before stays in use", "function", kv.Key(), "error", err)
		return
	}
	s.catalog.apply(kv.Key(), f, kv.Revision(), true)
}
