package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Follow passes every record of the kind to changed, calls ready, and then passes every change, whichever node made it,
// until ctx ends; it returns nil then, and ErrClosed once the store is closed. A deleted record has a nil value. All calls
// come from one goroutine, one after the other. Where the feed breaks off it is taken up again, and ready is called again
// behind all that was missed; a record may then come although it has not changed.
func (r *Records) Follow(ctx context.Context, changed func(key string, value json.RawMessage), ready func()) error {
	known := map[string]bool{}
	for {
		err := r.followOnce(ctx, known, changed, ready)
		switch {
		case ctx.Err() != nil:
			return nil
		case isClosed(r.store.closed):
			return ErrClosed
		}
		r.store.cfg.Log.Warn("changes of records are not seen for now", "kind", r.kind, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-r.store.closed:
			return ErrClosed
		case <-time.After(feedRetry):
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// followOnce is Follow until the feed breaks off. known are the keys that were passed with a value.
func (r *Records) followOnce(ctx context.Context, known map[string]bool, changed func(string, json.RawMessage), ready func()) error {
	watch, err := r.store.records.Watch(ctx, r.kind+".*")
	if err != nil {
		return err
	}
	defer watch.Stop() //nolint:errcheck // it fails where the engine has gone, and the watch with it
	present, begun := map[string]bool{}, false
	for {
		kv, err := nextUpdate(ctx, watch)
		if err != nil {
			return err
		}
		if kv == nil {
			begun = true
			for key := range known {
				if !present[key] {
					delete(known, key)
					changed(key, nil)
				}
			}
			ready()
			continue
		}
		key, err := unescapeName(strings.TrimPrefix(kv.Key(), r.kind+"."))
		if err != nil {
			return err
		}
		there := kv.Operation() == jetstream.KeyValuePut
		switch {
		case there:
			known[key], present[key] = true, true
			changed(key, kv.Value())
		case begun && known[key]:
			delete(known, key)
			changed(key, nil)
		default:
			delete(present, key)
		}
	}
}

// DeleteRecord passes the record at key, decoded, to check and deletes that very record unless check gives an error, which
// is returned as it is. It fails with ErrNotFound.
func DeleteRecord[T any](ctx context.Context, r *Records, key string, check func(*T) error) error {
	for {
		v := new(T)
		rev, err := r.read(ctx, key, v)
		if err != nil {
			return err
		}
		if err := check(v); err != nil {
			return err
		}
		err = r.deleteRevision(ctx, key, rev)
		if err == nil {
			return nil
		}
		if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return fmt.Errorf("%s: %w", r.doing("delete", key), err)
		}
	}
}
