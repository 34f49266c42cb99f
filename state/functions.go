package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"thaw"
)

// Function gives a function from the catalog. The value is shared: it must not be changed. The call takes no lock.
func (s *Store) Function(name string) (*thaw.Function, bool) {
	f, _, ok := s.catalog.get(name)
	return f, ok
}

// Functions gives up to limit functions, sorted by name, whose names come strictly after `after`. The values are shared.
func (s *Store) Functions(after string, limit int) []*thaw.Function {
	return s.catalog.list(after, limit)
}

// CreateFunction stores a new function. It fails with ErrExists or ErrFull. The store keeps a copy.
func (s *Store) CreateFunction(ctx context.Context, f *thaw.Function) error {
	doing := "create function " + f.Name
	own, data, err := copyFunction(f)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := s.room.take(len(data)); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer s.room.give(len(data))
	rev, err := s.functions.Create(ctx, f.Name, data)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("%s: %w", doing, ErrExists)
	}
	if err != nil {
		return s.storeError(doing, err)
	}
	s.catalog.apply(f.Name, own, rev, false)
	return nil
}

// UpdateFunction passes a copy of the function to change and stores what change made of it, unless the function was
// changed by someone else in between: then it starts again with the newer one. An error of change ends it and is
// returned as it is. It fails with ErrNotFound or ErrFull. The result is shared and must not be changed.
func (s *Store) UpdateFunction(ctx context.Context, name string, change func(*thaw.Function) error) (*thaw.Function, error) {
	doing := "update function " + name
	current, rev, ok := s.catalog.get(name)
	if !ok {
		return nil, fmt.Errorf("%s: %w", doing, ErrNotFound)
	}
	for {
		next, _, err := copyFunction(current)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
		if err := change(next); err != nil {
			return nil, err
		}
		next.Name = name
		own, data, err := copyFunction(next)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
		rev, err = s.replace(ctx, name, data, rev)
		if err == nil {
			s.catalog.apply(name, own, rev, false)
			return own, nil
		}
		if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return nil, s.storeError(doing, err)
		}
		if current, rev, err = s.readFunction(ctx, name); err != nil {
			return nil, s.storeError(doing, err)
		}
	}
}

func (s *Store) replace(ctx context.Context, name string, data []byte, rev uint64) (uint64, error) {
	if err := s.room.take(len(data)); err != nil {
		return 0, err
	}
	defer s.room.give(len(data))
	return s.functions.Update(ctx, name, data, rev)
}

// readFunction asks the stream, which is never behind, and shows the catalog what it found.
func (s *Store) readFunction(ctx context.Context, name string) (*thaw.Function, uint64, error) {
	kv, err := s.functions.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, ErrNotFound
	}
	if err != nil {
		return nil, 0, err
	}
	f, err := decodeFunction(kv.Value())
	if err != nil {
		return nil, 0, err
	}
	s.catalog.apply(name, f, kv.Revision(), false)
	return f, kv.Revision(), nil
}

// DeleteFunction deletes a function, whatever its latest revision is. It fails with ErrNotFound. It needs no free space
// beyond the reserve, so that a full disk can be made emptier.
func (s *Store) DeleteFunction(ctx context.Context, name string) error {
	doing := "delete function " + name
	_, rev, ok := s.catalog.get(name)
	if !ok {
		return fmt.Errorf("%s: %w", doing, ErrNotFound)
	}
	for {
		gone, err := s.erase(ctx, s.functions.Bucket(), name, rev)
		if err == nil {
			s.catalog.apply(name, nil, gone, false)
			return nil
		}
		if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return s.storeError(doing, err)
		}
		if _, rev, err = s.readFunction(ctx, name); err != nil {
			return s.storeError(doing, err)
		}
	}
}

// erase puts a deletion in the place of revision rev of a key and gives the deletion's own revision, which the client's
// Purge does not tell.
func (s *Store) erase(ctx context.Context, bucket, key string, rev uint64) (uint64, error) {
	msg := nats.NewMsg("$KV." + bucket + "." + key)
	msg.Header.Set("KV-Operation", "PURGE")
	msg.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(rev, 10))
	ack, err := s.js.PublishMsg(ctx, msg, jetstream.WithMsgTTL(markerTTL))
	if api, ok := errors.AsType[*jetstream.APIError](err); ok &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
		return 0, fmt.Errorf("%w: %w", jetstream.ErrKeyRevisionMismatch, err)
	}
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// copyFunction makes a deep copy and gives the form in which it is stored.
func copyFunction(f *thaw.Function) (*thaw.Function, []byte, error) {
	data, err := json.Marshal(f)
	if err != nil {
		return nil, nil, err
	}
	own, err := decodeFunction(data)
	return own, data, err
}

func decodeFunction(data []byte) (*thaw.Function, error) {
	f := new(thaw.Function)
	if err := json.Unmarshal(data, f); err != nil {
		return nil, fmt.Errorf("stored function is damaged: %w", err)
	}
	return f, nil
}
