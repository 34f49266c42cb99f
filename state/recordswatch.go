package state

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Watch calls fn once, and again after changes of records of the kind, on the caller's goroutine, until ctx ends; it
// returns ctx's error. Several changes while fn runs are one call. What is behind a change is read with List.
func (r *Records) Watch(ctx context.Context, fn func()) error {
	for {
		watch, err := r.store.records.Watch(ctx, r.kind+".*", jetstream.UpdatesOnly(), jetstream.MetaOnly())
		if err == nil {
			fn()
			followRecords(ctx, watch, fn)
			watch.Stop() //nolint:errcheck // it fails where the engine has gone, and the watch with it
		}
		// The feed broke off: what came meanwhile is in the first call after the next.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(feedRetry):
		}
	}
}

// followRecords calls fn after what a watch brings, until the watch or ctx ends.
func followRecords(ctx context.Context, watch jetstream.KeyWatcher, fn func()) {
	for {
		if _, err := nextUpdate(ctx, watch); err != nil {
			return
		}
		for more := true; more; {
			select {
			case _, more = <-watch.Updates():
			default:
				more = false
			}
		}
		fn()
	}
}
