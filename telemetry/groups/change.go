package groups

import (
	"context"
	"errors"
	"slices"
	"time"

	"thaw/state"
	"thaw/telemetry"
)

// Append stores events of a stream, which begins with them if it is new. Readers see them when it returns.
func (x *Index) Append(ctx context.Context, group, stream string, events []telemetry.Event) error {
	meta, data := telemetry.EncodeBatch(stream, events)
	sequence, err := x.cfg.Store.AppendLog(ctx, group, meta.String(), data)
	if err != nil {
		return err
	}
	return x.wait(ctx, sequence)
}

// CreateStream makes a stream without events. It fails with state.ErrExists.
func (x *Index) CreateStream(ctx context.Context, group, stream string) error {
	if err := x.Sync(ctx); err != nil {
		return err
	}
	if _, ok := x.Stream(group, stream); ok {
		return state.ErrExists
	}
	return x.Append(ctx, group, stream, nil)
}

// DeleteStream deletes a stream with its events. It fails with state.ErrNotFound. What a function that still runs writes
// to it later makes it anew.
func (x *Index) DeleteStream(ctx context.Context, group, stream string) error {
	if err := x.Sync(ctx); err != nil {
		return err
	}
	s, ok := x.Stream(group, stream)
	if !ok {
		return state.ErrNotFound
	}
	meta := telemetry.Meta{Kind: telemetry.StreamDeleted, Stream: stream}
	sequence, err := x.cfg.Store.AppendLog(ctx, group, meta.String(), nil)
	if err == nil {
		err = x.erase(ctx, erasure{group, stream, s.first, sequence})
	}
	if err != nil {
		return err
	}
	return x.wait(ctx, sequence)
}

// DeleteGroup deletes a group with its streams and settings.
func (x *Index) DeleteGroup(ctx context.Context, name string) error {
	x.cfg.Flush()
	sequence, err := x.cfg.Store.AppendLog(ctx, name, telemetry.Meta{Kind: telemetry.GroupDeleted}.String(), nil)
	if err == nil {
		err = x.erase(ctx, erasure{Group: name, Before: sequence})
	}
	if err == nil {
		err = x.cfg.Settings.Delete(ctx, name)
	}
	if err != nil {
		return err
	}
	return x.wait(ctx, sequence)
}

// erase deletes from the store. Doing it twice does no harm.
func (x *Index) erase(ctx context.Context, e erasure) error {
	if e.Stream == "" {
		return x.cfg.Store.PurgeLogs(ctx, e.Group, e.Before)
	}
	return x.cfg.Store.ScanLogs(ctx, e.Group, e.First, e.Before-1, true, func(r state.LogRecord) error {
		meta, err := telemetry.ParseMeta(r.Meta)
		if err != nil || meta.Stream != e.Stream || meta.Kind != telemetry.Written {
			return nil //nolint:nilerr // a batch without a description belongs to no stream
		}
		if err := x.cfg.Store.DeleteLog(ctx, r.Sequence); err != nil {
			return err
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		if g := x.groups[e.Group]; g != nil {
			g.Chunks.forget(r.Sequence, r.Size)
		}
		return nil
	})
}

// sweepAll drops what is over, now and again, until ctx ends.
func (x *Index) sweepAll(ctx context.Context) {
	for {
		if err := x.sweep(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, state.ErrClosed) {
			x.cfg.Log.Warn("logs that are over could not be dropped", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(sweepEvery):
		}
	}
}

// sweep finishes deletions, deletes what is past its group's retention, and forgets what the store has dropped.
func (x *Index) sweep(ctx context.Context) error {
	x.sweeping.Lock()
	defer x.sweeping.Unlock()
	if err := x.Sync(ctx); err != nil {
		return err
	}
	x.mu.RLock()
	list := slices.Clone(x.unerased)
	x.mu.RUnlock()
	for _, e := range list {
		if err := x.erase(ctx, e); err != nil {
			return err
		}
		x.mu.Lock() // only here anything is taken out
		x.unerased = slices.Delete(x.unerased, 0, 1)
		x.mu.Unlock()
	}
	settings, err := x.cfg.Settings.All(ctx)
	if err != nil {
		return err
	}
	for name, g := range settings {
		if g.Retention == 0 {
			continue
		}
		if err := x.retain(ctx, name, x.cfg.Now().AddDate(0, 0, -g.Retention)); err != nil {
			return err
		}
	}
	first, _, err := x.cfg.Store.LogRange(ctx)
	if err != nil {
		return err
	}
	x.expire(first)
	return nil
}

// retain deletes the batches of a group that were stored before since.
func (x *Index) retain(ctx context.Context, name string, since time.Time) error {
	x.mu.RLock()
	g := x.groups[name]
	var oldest uint64
	if g != nil && len(g.Chunks) > 0 && g.Chunks[0].From < since.UnixMicro() {
		oldest = g.Chunks[0].First
	}
	x.mu.RUnlock()
	if oldest == 0 {
		return nil // nothing of it can be that old
	}
	first, err := x.cfg.Store.FirstLogSince(ctx, name, since)
	if err != nil || first <= oldest {
		return err
	}
	if err := x.cfg.Store.PurgeLogs(ctx, name, first); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if g := x.groups[name]; g != nil {
		g.Chunks = g.Chunks.expire(first, x.cfg.Store.LogLimit())
	}
	return nil
}
