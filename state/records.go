package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Records is one kind of small JSON documents: roles, users, whatever a service keeps besides functions.
type Records struct {
	store *Store
	kind  string
}

// Record is one document of a listing.
type Record struct {
	Key   string
	Value json.RawMessage
}

// Records gives the records of a kind, which is a constant of the caller's made of letters, digits and '-'.
func (s *Store) Records(kind string) *Records { return &Records{store: s, kind: kind} }

func (r *Records) name(key string) (string, error) {
	token, err := escapeName(key)
	if err != nil {
		return "", fmt.Errorf("%s record: %w", r.kind, err)
	}
	return r.kind + "." + token, nil
}

func (r *Records) doing(verb, key string) string { return verb + " " + r.kind + " record " + key }

// Get decodes the record at key into v, as json.Unmarshal does. It fails with ErrNotFound.
func (r *Records) Get(ctx context.Context, key string, v any) error {
	_, err := r.read(ctx, key, v)
	return err
}

// read is Get that also gives the revision.
func (r *Records) read(ctx context.Context, key string, v any) (uint64, error) {
	name, err := r.name(key)
	if err != nil {
		return 0, err
	}
	kv, err := r.store.records.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, fmt.Errorf("%s: %w", r.doing("read", key), ErrNotFound)
	}
	if err != nil {
		return 0, r.store.storeError(r.doing("read", key), err)
	}
	if err := json.Unmarshal(kv.Value(), v); err != nil {
		return 0, fmt.Errorf("%s: %w", r.doing("read", key), err)
	}
	return kv.Revision(), nil
}

// Put stores v at key, whatever is there. It fails with ErrFull.
func (r *Records) Put(ctx context.Context, key string, v any) error {
	return r.write(key, "write", v, 1, func(name string, data []byte) error {
		_, err := r.store.records.Put(ctx, name, data)
		return err
	})
}

// Create stores v at key if nothing is there. It fails with ErrExists or ErrFull.
func (r *Records) Create(ctx context.Context, key string, v any) error {
	return r.write(key, "create", v, 1, func(name string, data []byte) error {
		_, err := r.store.records.Create(ctx, name, data)
		return err
	})
}

// replace stores v at key if revision rev is there, and fails with jetstream.ErrKeyRevisionMismatch if not. fraction is as for
// room.takeUrgent.
func (r *Records) replace(ctx context.Context, key string, v any, rev uint64, fraction int64) error {
	return r.write(key, "update", v, fraction, func(name string, data []byte) error {
		_, err := r.store.records.Update(ctx, name, data, rev)
		return err
	})
}

func (r *Records) write(key, verb string, v any, fraction int64, put func(name string, data []byte) error) error {
	name, err := r.name(key)
	if err != nil {
		return err
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", r.doing(verb, key), err)
	}
	if err := r.store.room.takeUrgent(len(data), fraction); err != nil {
		return fmt.Errorf("%s: %w", r.doing(verb, key), err)
	}
	defer r.store.room.give(len(data))
	err = put(name, data)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrKeyRevisionMismatch):
		return err
	case errors.Is(err, jetstream.ErrKeyExists):
		return fmt.Errorf("%s: %w", r.doing(verb, key), ErrExists)
	default:
		return r.store.storeError(r.doing(verb, key), err)
	}
}

// UpdateRecord passes the record at key, decoded, to change and stores what change made of it, unless someone else
// changed it in between: then it starts again with the newer one. An error of change ends it and is returned as it is.
// It fails with ErrNotFound or ErrFull.
func UpdateRecord[T any](ctx context.Context, r *Records, key string, change func(*T) error) (*T, error) {
	return updateRecord(ctx, r, key, 1, change)
}

// ReduceRecord is UpdateRecord for a change that deletes something or leaves the record as long as it is: it may use half of the
// reserve, so that a full disk can be made emptier.
func ReduceRecord[T any](ctx context.Context, r *Records, key string, change func(*T) error) (*T, error) {
	return updateRecord(ctx, r, key, 2, change)
}

func updateRecord[T any](ctx context.Context, r *Records, key string, fraction int64, change func(*T) error) (*T, error) {
	for {
		v := new(T)
		rev, err := r.read(ctx, key, v)
		if err != nil {
			return nil, err
		}
		if err := change(v); err != nil {
			return nil, err
		}
		err = r.replace(ctx, key, v, rev, fraction)
		if err == nil {
			return v, nil
		}
		if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return nil, err
		}
	}
}

// Delete deletes the record at key. It fails with ErrNotFound.
func (r *Records) Delete(ctx context.Context, key string) error {
	for {
		var raw json.RawMessage
		rev, err := r.read(ctx, key, &raw)
		if err != nil {
			return err
		}
		err = r.deleteRevision(ctx, key, rev)
		if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return err
		}
	}
}

// deleteRevision deletes the record at key if revision rev is there.
func (r *Records) deleteRevision(ctx context.Context, key string, rev uint64) error {
	name, err := r.name(key)
	if err != nil {
		return err
	}
	_, err = r.store.erase(ctx, r.store.records.Bucket(), name, rev)
	if err == nil || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return err
	}
	return r.store.storeError(r.doing("delete", key), err)
}

// List gives the records whose keys begin with prefix, sorted by key.
func (r *Records) List(ctx context.Context, prefix string) ([]Record, error) {
	var list []Record
	err := r.scan(ctx, func(key string, kv jetstream.KeyValueEntry) {
		if strings.HasPrefix(key, prefix) {
			list = append(list, Record{Key: key, Value: kv.Value()})
		}
	})
	slices.SortFunc(list, func(a, b Record) int { return strings.Compare(a.Key, b.Key) })
	return list, err
}

// Each passes every record to fn, one after the other in no order, for kinds of which there may be too much to hold. An error of
// fn ends it and is returned as it is.
func (r *Records) Each(ctx context.Context, fn func(Record) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var failed error
	err := r.scan(ctx, func(key string, kv jetstream.KeyValueEntry) {
		if failed == nil {
			if failed = fn(Record{Key: key, Value: kv.Value()}); failed != nil {
				stop(failed)
			}
		}
	})
	if failed != nil {
		return failed
	}
	return err
}

// scan passes every present record to fn.
func (r *Records) scan(ctx context.Context, fn func(key string, kv jetstream.KeyValueEntry)) error {
	doing := "list " + r.kind + " records"
	watch, err := r.store.records.Watch(ctx, r.kind+".*", jetstream.IgnoreDeletes())
	if err != nil {
		return r.store.storeError(doing, err)
	}
	defer watch.Stop() //nolint:errcheck // it fails where the engine has gone, and the watch with it
	for {
		kv, err := nextUpdate(ctx, watch)
		if err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		if kv == nil {
			return nil
		}
		key, err := unescapeName(strings.TrimPrefix(kv.Key(), r.kind+"."))
		if err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		fn(key, kv)
	}
}
