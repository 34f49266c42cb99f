package insights

import (
	"cmp"
	"slices"
	"strings"
)

// What a row and a field of the results cost beside their texts, bytes, about.
const (
	rowOverhead   = 200
	fieldOverhead = 32
)

// Run is one execution of a query.
type Run struct {
	query *Query
	rows  []command // commands that look at one row at a time, up to rest
	rest  []command // from the first that looks at all of them

	stats *grouping // rest begins with it; nil: rows are kept
	kept  []*row
	keep  int       // how many are wanted
	limit int       // how many the results have at most
	order []sortKey // which come first
	by    []expr    // of dedup, if rest begins with it
	seen  map[string]*row

	// Scanned and Matched count events; Bytes are those of the scanned ones.
	Scanned, Matched int
	Bytes            int64

	size     int // bytes of what is kept, about
	distinct int
}

// Run begins an execution that gives up to limit rows.
func (q *Query) Run(limit int) *Run {
	x := &Run{query: q, limit: min(limit, MaxRows), order: []sortKey{{field("@timestamp"), true}}}
	x.keep = x.limit
	i := 0
	for ; i < len(q.commands) && (perRow(q.commands[i]) || isOrder(q.commands[i])); i++ {
		if o, ok := q.commands[i].(order); ok {
			x.order = o.list // in which order rows are looked at changes nothing of what becomes of them
		} else {
			x.rows = append(x.rows, q.commands[i])
		}
	}
	x.rest = q.commands[i:]
	if len(x.rest) == 0 {
		return x
	}
	// What comes next decides what has to be kept.
	switch c := x.rest[0].(type) {
	case aggregate:
		x.stats, x.rest = &grouping{c, map[string]*statsGroup{}}, x.rest[1:]
		return x
	case unique:
		x.by, x.seen, x.keep = c.fields, map[string]*row{}, MaxRows
		if len(x.rest) > 1 {
			x.keepFirst(x.rest[1])
		}
	default:
		x.keep = MaxRows
		x.keepFirst(c)
	}
	return x
}

// keepFirst keeps no more rows than a limit command lets through.
func (x *Run) keepFirst(c command) {
	if c, ok := c.(first); ok {
		x.keep = min(x.keep, c.n)
	}
}

func perRow(c command) bool {
	switch c.(type) {
	case setFields, keep, extract:
		return true
	}
	return false
}

func isOrder(c command) bool { _, ok := c.(order); return ok }

// grow notes that more is kept.
func (x *Run) grow(n int) { x.size += n }

// replace notes that one value is kept instead of another.
func (x *Run) replace(old, v value) {
	if s, ok := old.(string); ok {
		x.size -= len(s)
	}
	if s, ok := v.(string); ok {
		x.size += len(s)
	}
}

// Add takes in an event. It fails with ErrTooMuch.
func (x *Run) Add(e *Event) error {
	x.Scanned++
	x.Bytes += int64(len(e.Message))
	r := &row{event: e}
	for _, c := range x.rows {
		if !apply(c, r) {
			return nil
		}
	}
	x.Matched++
	if x.stats != nil {
		return x.stats.add(r, x)
	}
	r.keys = keysOf(x.order, r)
	if x.seen != nil && !x.fresh(r) {
		return nil
	}
	own := *e
	r.event, r.found = &own, nil
	x.kept = append(x.kept, r)
	x.size += cost(r)
	if len(x.kept) >= 2*x.keep || x.size > MaxBytes {
		x.trim()
		if x.size > MaxBytes {
			return ErrTooMuch
		}
	}
	return nil
}

func cost(r *row) int {
	n := rowOverhead + len(r.event.Message) + len(r.event.Stream) + len(r.event.Pointer)
	for name, v := range r.set {
		n += len(name) + 32
		if s, ok := v.(string); ok {
			n += len(s)
		}
	}
	for _, v := range r.keys {
		n += 16
		if s, ok := v.(string); ok {
			n += len(s)
		}
	}
	return n
}

// apply runs a command on one row, and reports whether the row stays.
func apply(c command, r *row) bool {
	switch c := c.(type) {
	case setFields:
		for _, n := range c.list {
			if f, ok := n.expr.(field); !ok || string(f) != n.name {
				r.put(n.name, n.expr.eval(r))
			}
		}
	case keep:
		return truth(c.expr.eval(r))
	case extract:
		v := c.from.eval(r)
		if v == nil {
			return true
		}
		found := c.regexp.FindStringSubmatch(toText(v))
		for i, name := range c.names {
			if found != nil && name != "" {
				r.put(name, strings.Clone(found[i+1]))
			}
		}
	}
	return true
}

// fresh reports whether a row is the first with its dedup fields, or comes before the one that is kept, which it replaces.
// Rows that lack one of the fields are dropped.
func (x *Run) fresh(r *row) bool {
	id, ok := identity(x.by, r)
	if !ok {
		return false
	}
	other := x.seen[id]
	if other == nil {
		x.seen[id] = r
		x.size += len(id)
		return true
	}
	if compareRows(x.order, r, other) < 0 {
		x.size -= cost(other)
		own := *r.event
		other.event, other.set, other.size, other.keys, other.found = &own, r.set, r.size, r.keys, nil
		x.size += cost(other)
	}
	return false
}

func identity(fields []expr, r *row) (string, bool) {
	var id strings.Builder
	for _, f := range fields {
		v := f.eval(r)
		if v == nil {
			return "", false
		}
		id.WriteString(toText(v))
		id.WriteByte(0)
	}
	return id.String(), true
}

// keysOf gives what a row is sorted by. To look for it in the messages of all rows at each comparison would take long, and to
// keep what was found there much memory.
func keysOf(keys []sortKey, r *row) []value {
	list := make([]value, len(keys))
	for i, k := range keys {
		list[i] = k.expr.eval(r)
	}
	return list
}

// compareRows wants the keys of both rows to be set.
func compareRows(keys []sortKey, a, b *row) int {
	for i, k := range keys {
		c := compareValues(a.keys[i], b.keys[i])
		if k.desc {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	if a.event != nil && b.event != nil {
		return cmp.Or(b.event.At.Compare(a.event.At), strings.Compare(b.event.Pointer, a.event.Pointer))
	}
	return 0
}

// trim drops the rows that nobody will see.
func (x *Run) trim() {
	slices.SortStableFunc(x.kept, func(a, b *row) int { return compareRows(x.order, a, b) })
	if len(x.kept) <= x.keep {
		return
	}
	for _, r := range x.kept[x.keep:] {
		x.size -= cost(r)
		if x.seen != nil {
			if id, ok := identity(x.by, r); ok {
				delete(x.seen, id)
				x.size -= len(id)
			}
			r.found = nil
		}
	}
	clear(x.kept[x.keep:])
	x.kept = x.kept[:x.keep]
}

// Finish gives the results: for each row its fields, those without a value left out. It fails with ErrTooMuch.
func (x *Run) Finish() ([][]Field, error) {
	var rows []*row
	if x.stats != nil {
		rows = x.stats.finish()
	} else {
		x.trim()
		rows = x.kept
	}
	x.kept, x.seen = nil, nil
	var err error
	for _, c := range x.rest {
		if rows, err = x.all(c, rows); err != nil {
			return nil, err
		}
	}
	rows = rows[:min(len(rows), x.limit)]
	columns := x.query.columns()
	results, size := make([][]Field, len(rows)), 0
	for i, r := range rows {
		for _, name := range columns {
			if v := r.get(name); v != nil {
				f := Field{name, toText(v)}
				if size += len(f.Name) + len(f.Value) + fieldOverhead; size > MaxBytes {
					return nil, ErrTooMuch
				}
				results[i] = append(results[i], f)
			}
		}
		if r.event != nil {
			results[i] = append(results[i], Field{"@ptr", r.event.Pointer})
		}
		r.found = nil
	}
	return results, nil
}

// all runs a command on all rows.
func (x *Run) all(c command, rows []*row) ([]*row, error) {
	switch c := c.(type) {
	case order:
		for _, r := range rows {
			r.keys, r.found = keysOf(c.list, r), nil
		}
		slices.SortStableFunc(rows, func(a, b *row) int { return compareRows(c.list, a, b) })
		return rows, nil
	case first:
		return rows[:min(c.n, len(rows))], nil
	case unique:
		seen := map[string]bool{}
		return slices.DeleteFunc(rows, func(r *row) bool {
			id, ok := identity(c.fields, r)
			again := !ok || seen[id]
			seen[id], r.found = true, nil
			return again
		}), nil
	case aggregate:
		g := &grouping{c, map[string]*statsGroup{}}
		for _, r := range rows {
			if err := g.add(r, x); err != nil {
				return nil, err
			}
			r.found = nil
		}
		return g.finish(), nil
	}
	return slices.DeleteFunc(rows, func(r *row) bool {
		stays := apply(c, r)
		r.found = nil
		return !stays
	}), nil
}

// columns are the fields that the results have, in their order.
func (q *Query) columns() []string {
	var names []string
	add := func(name string) {
		if name != "" && name != "@ptr" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	chosen, shown := false, false
	for _, c := range q.commands {
		switch c := c.(type) {
		case setFields:
			if c.only {
				names = nil
			}
			if shown && !c.only {
				continue // display has the last word
			}
			chosen, shown = true, shown || c.only
			for _, n := range c.list {
				add(n.name)
			}
		case aggregate:
			names, chosen, shown = c.columns(), true, false
		case extract:
			if !shown {
				for _, name := range c.names {
					add(name)
				}
			}
		}
	}
	if !chosen {
		names = slices.Insert(names, 0, "@timestamp", "@message")
	}
	return names
}
