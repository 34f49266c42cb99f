package metrics

import (
	"slices"
	"sort"
	"time"
)

// series is what is kept apart: one metric in one unit. Its identity never changes; the rest is guarded by Metrics.mu.
type series struct {
	identity
	id       string // the identity as bytes
	origin   string // whose it is, see Datum
	entries  []*entry
	lastSeen int64   // unix time of the newest slot with values
	cells    []*cell // what is in memory only, by slot
	flushing []*cell // what is being stored
	refs     refs    // the store's; used by flushes alone
}

// cell holds the values of a series in one slot: a minute, or a second of high resolution.
type cell struct {
	slot  int64 // unix time of its begin
	total summary
	delta summary // what the journal does not have yet
	dirty bool    // delta holds something
}

// entry is a metric as List gives it, and the series that answer for it.
type entry struct {
	metric Metric
	key    string
	series []*series
}

func (e *entry) lastSeen() (at int64) {
	for _, s := range e.series {
		at = max(at, s.lastSeen)
	}
	return at
}

// added is what one origin has added.
type added struct{ series, bytes int }

// catalog is all that is known of series.
type catalog struct {
	series  map[string]*series // by id
	entries map[string]*entry  // by the metric's key
	sorted  []*entry           // by key; nil: to be made
	bytes   int                // of ids
	origins map[string]added
}

func newCatalog() catalog {
	return catalog{series: map[string]*series{}, entries: map[string]*entry{}, origins: map[string]added{}}
}

// add makes a series that is not there yet.
func (c *catalog) add(id string, of identity, origin string) *series {
	s := &series{identity: of, id: id, origin: origin}
	c.series[id] = s
	c.bytes += len(id)
	if origin != "" {
		of := c.origins[origin]
		c.origins[origin] = added{of.series + 1, of.bytes + len(id)}
	}
	for _, m := range answers(&of) {
		key := m.Key()
		e := c.entries[key]
		if e == nil {
			e = &entry{metric: m, key: key}
			c.entries[key] = e
			c.sorted = nil
		}
		e.series = append(e.series, s)
		s.entries = append(s.entries, e)
	}
	return s
}

// answers are the metrics that a series is part of: its own; and for the platform's own series those with the last dimensions left
// out, down to one. (FunctionName, Resource, ExecutedVersion are in the order of what they narrow down, and of their names too but
// for the first.)
func answers(id *identity) []Metric {
	all := []Metric{id.Sorted()}
	if !id.Own {
		return all
	}
	for n := len(id.Dimensions) - 1; n > 0; n-- {
		m := id.Metric
		m.Dimensions = id.Dimensions[:n]
		all = append(all, m.Sorted())
	}
	return all
}

// expire forgets series without values since a time.
func (c *catalog) expire(before int64) {
	for id, s := range c.series {
		if s.lastSeen >= before || len(s.cells)+len(s.flushing) > 0 {
			continue
		}
		delete(c.series, id)
		c.bytes -= len(id)
		if of := c.origins[s.origin]; of.series > 1 {
			c.origins[s.origin] = added{of.series - 1, of.bytes - len(id)}
		} else {
			delete(c.origins, s.origin)
		}
		for _, e := range s.entries {
			if e.series = slices.DeleteFunc(e.series, func(other *series) bool { return other == s }); len(e.series) == 0 {
				delete(c.entries, e.key)
				c.sorted = nil
			}
		}
	}
}

func (c *catalog) list() []*entry {
	if c.sorted == nil {
		c.sorted = make([]*entry, 0, len(c.entries))
		for _, e := range c.entries {
			c.sorted = append(c.sorted, e)
		}
		slices.SortFunc(c.sorted, func(a, b *entry) int {
			if a.key < b.key {
				return -1
			}
			return 1
		})
	}
	return c.sorted
}

// find gives at most limit metrics after a key, seen since a time.
func (c *catalog) find(filter *Filter, since int64, after string, limit int) (found []Metric, next string) {
	all := c.list()
	begin := 0
	if after != "" {
		begin = sort.Search(len(all), func(i int) bool { return all[i].key > after })
	}
	last := ""
	for _, e := range all[begin:] {
		if !filter.Matches(&e.metric) || e.lastSeen() < since {
			continue
		}
		if len(found) == limit {
			return found, last
		}
		found = append(found, e.metric)
		last = e.key
	}
	return found, ""
}

// cell gives the series' cell of a slot, nil where there is none.
func (s *series) cell(slot int64) *cell {
	if n := len(s.cells); n > 0 && s.cells[n-1].slot == slot {
		return s.cells[n-1]
	}
	if i, found := s.position(slot); found {
		return s.cells[i]
	}
	return nil
}

func (s *series) position(slot int64) (int, bool) {
	return slices.BinarySearchFunc(s.cells, slot, func(c *cell, slot int64) int {
		switch {
		case c.slot < slot:
			return -1
		case c.slot > slot:
			return 1
		}
		return 0
	})
}

// slotOf is where a time's values go.
func slotOf(at time.Time, resolution int) int64 {
	t := at.Unix()
	return t - mod(t, int64(resolution))
}

func mod(a, n int64) int64 { return ((a % n) + n) % n }

func unixTime(s int64) time.Time { return time.Unix(s, 0).UTC() }
