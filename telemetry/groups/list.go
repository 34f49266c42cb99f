package groups

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"thaw/state"
)

// GroupInfo is a group as a listing shows it.
type GroupInfo struct {
	Name string
	Group
	Bytes int64 // stored, about
}

// StreamInfo is a stream as a listing shows it.
type StreamInfo struct {
	Name    string
	Created time.Time
	// From and To are the times of the earliest and the latest event, Stored when it was last written to; zero without events.
	From, To, Stored time.Time

	first, last uint64
}

// Groups lists all groups by name: those that have events or streams, and those that were created.
func (x *Index) Groups(ctx context.Context) ([]GroupInfo, error) {
	if err := x.Sync(ctx); err != nil {
		return nil, err
	}
	settings, err := x.cfg.Settings.All(ctx)
	if err != nil {
		return nil, err
	}
	x.mu.RLock()
	list := make([]GroupInfo, 0, len(x.groups)+len(settings))
	for name, g := range x.groups {
		set, ok := settings[name]
		if !ok {
			set.Created = time.UnixMicro(g.Created)
		}
		delete(settings, name)
		list = append(list, GroupInfo{name, set, g.Chunks.bytes()})
	}
	x.mu.RUnlock()
	for name, set := range settings {
		list = append(list, GroupInfo{Name: name, Group: set})
	}
	slices.SortFunc(list, func(a, b GroupInfo) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Group gives one group. It fails with state.ErrNotFound.
func (x *Index) Group(ctx context.Context, name string) (GroupInfo, error) {
	set, ok, err := x.cfg.Settings.Get(ctx, name)
	if err != nil {
		return GroupInfo{}, err
	}
	created, bytes, known := x.known(name)
	if !ok && !known {
		// It may have been written to just now.
		if err := x.Sync(ctx); err != nil {
			return GroupInfo{}, err
		}
		if created, bytes, known = x.known(name); !known {
			return GroupInfo{}, state.ErrNotFound
		}
	}
	if !ok {
		set.Created = created
	}
	return GroupInfo{name, set, bytes}, nil
}

func (x *Index) known(name string) (created time.Time, bytes int64, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	g := x.groups[name]
	if g == nil {
		return time.Time{}, 0, false
	}
	return time.UnixMicro(g.Created), g.Chunks.bytes(), true
}

// Count is how many groups there are: those that have events or streams, and those that were created.
func (x *Index) Count(ctx context.Context) (int, error) {
	settings, err := x.cfg.Settings.All(ctx)
	if err != nil {
		return 0, err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	n := len(x.groups)
	for name := range settings {
		if x.groups[name] == nil {
			n++
		}
	}
	return n, nil
}

// Update changes the settings of a group, which must be there: it fails with state.ErrNotFound. An error of change ends it
// and is returned as it is.
func (x *Index) Update(ctx context.Context, name string, change func(*Group) error) error {
	info, err := x.Group(ctx, name)
	if err != nil {
		return err
	}
	return x.cfg.Settings.Update(ctx, name, Group{Created: info.Created}, change)
}

// Create makes a group. It fails with state.ErrExists.
func (x *Index) Create(ctx context.Context, name string, g Group) error {
	if err := x.Sync(ctx); err != nil {
		return err
	}
	if _, _, ok := x.known(name); ok {
		return state.ErrExists
	}
	return x.cfg.Settings.Create(ctx, name, g)
}

// Stream gives one stream as of the last Sync.
func (x *Index) Stream(group, name string) (StreamInfo, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	g := x.groups[group]
	if g == nil || g.Streams[name] == nil {
		return StreamInfo{}, false
	}
	return g.Streams[name].info(name), true
}

// Streams lists the streams of a group whose names begin with prefix, by name, or by the time of the latest event and then
// the name.
func (x *Index) Streams(ctx context.Context, group, prefix string, byTime bool) ([]StreamInfo, error) {
	if err := x.Sync(ctx); err != nil {
		return nil, err
	}
	x.mu.RLock()
	var list []StreamInfo
	if g := x.groups[group]; g != nil {
		list = make([]StreamInfo, 0, len(g.Streams))
		for name, s := range g.Streams {
			if strings.HasPrefix(name, prefix) {
				list = append(list, s.info(name))
			}
		}
	}
	x.mu.RUnlock()
	slices.SortFunc(list, func(a, b StreamInfo) int {
		if byTime {
			return cmp.Or(a.To.Compare(b.To), strings.Compare(a.Name, b.Name))
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list, nil
}

func (s *stream) info(name string) StreamInfo {
	i := StreamInfo{Name: name, Created: time.UnixMicro(s.Created), first: s.First, last: s.Last}
	if s.From <= s.To {
		i.From, i.To, i.Stored = time.UnixMicro(s.From), time.UnixMicro(s.To), time.UnixMicro(s.Stored)
	}
	return i
}
