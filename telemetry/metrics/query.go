package metrics

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"thaw"
)

// Query gives a metric's values from from (inclusive) to to (exclusive), merged by periods of that length, whole seconds, of which the
// first begins with from, as CloudWatch's do. Periods without values are left out. Points are in the order of time; where values came in
// several units a period has a point of each. Unit is that of the last point, empty where there is none. The minute that is not over
// yet is among them. A metric that nobody has written has no points, and that is no error; more than MaxPoints periods are one.
func (m *Metrics) Query(ctx context.Context, metric Metric, from, to time.Time, period time.Duration) (points []Point, unit string, err error) {
	seconds := int64(period / time.Second)
	if seconds < 1 || period%time.Second != 0 {
		return nil, "", bad("A period must be a whole number of seconds, 1 or more.")
	}
	if !from.Before(to) {
		return nil, "", nil
	}
	if to.Sub(from)/period > MaxPoints {
		return nil, "", bad("A query of %v in periods of %v has too many points; it can have %d. Ask for longer periods or less time.", to.Sub(from), period, MaxPoints)
	}
	if err := m.wait(ctx); err != nil {
		return nil, "", err
	}
	m.reading.RLock()
	defer m.reading.RUnlock()
	if m.store == nil {
		return nil, "", errStopped()
	}
	q := query{from: from.Unix(), to: to.Unix(), period: seconds, merged: map[periodUnit]*summary{}}
	if from.Nanosecond() > 0 {
		q.from++
	}
	if to.Nanosecond() > 0 {
		q.to++
	}
	key := metric.Sorted().Key()
	all := m.waiting(key, &q)
	if all, err = m.withForgotten(ctx, all, key, from, to); err != nil {
		return nil, "", unread(err)
	}
	for _, s := range all {
		read := func(at int64, v *summary) {
			// A sample's time is in its slot, and the slot in the period or not.
			if at -= mod(at, int64(s.Resolution)); at >= q.from && at < q.to {
				q.add(s.Unit, at, v)
			}
		}
		if err := m.store.read(ctx, s.id, q.from, q.to+int64(s.Resolution), read); err != nil {
			return nil, "", unread(err)
		}
	}
	points = q.points()
	if len(points) > 0 {
		unit = points[len(points)-1].Unit
	}
	return points, unit, nil
}

// waiting adds what is in memory of a metric and gives the series that answer for it.
func (m *Metrics) waiting(key string, q *query) []*series {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.memory.catalog.entries[key]
	if e == nil {
		return nil
	}
	for _, s := range e.series {
		for _, cells := range [][]*cell{s.flushing, s.cells} {
			for _, c := range cells {
				if c.slot >= q.from && c.slot < q.to {
					q.add(s.Unit, c.slot, &c.total)
					q.add(s.Unit, c.slot, &c.delta)
				}
			}
		}
	}
	return slices.Clone(e.series)
}

func unread(err error) error {
	return &thaw.Error{Code: thaw.CodeService, Message: "The metric could not be read. The platform's log says why.", Cause: err}
}

// withForgotten adds the series of a metric that have had no values for so long that they are not listed any more. What is stored of
// them can be read until it is too old.
func (m *Metrics) withForgotten(ctx context.Context, all []*series, key string, from, to time.Time) ([]*series, error) {
	listed := m.cfg.Now().Add(-listedFor)
	if !from.Before(listed) {
		return all, nil
	}
	if to.After(listed) {
		to = listed
	}
	ids, err := m.store.known(ctx, from, to)
	if err != nil {
		return nil, err
	}
	namespace, rest, _ := strings.Cut(key, "\x00")
	name, _, _ := strings.Cut(rest, "\x00")
	prefix := string(appendString(appendString(nil, namespace), name))
	for _, id := range ids {
		if !strings.HasPrefix(id, prefix) || slices.ContainsFunc(all, func(s *series) bool { return s.id == id }) {
			continue
		}
		d := decoder{data: []byte(id)}
		of := d.identity()
		if d.err == nil && slices.ContainsFunc(answers(&of), func(m Metric) bool { return m.Key() == key }) {
			all = append(all, &series{identity: of, id: id})
		}
	}
	return all, nil
}

// query gathers values by period.
type query struct {
	from, to, period int64 // unix time
	merged           map[periodUnit]*summary
	last             periodUnit // what was added to last: most values come in the order of time
	lastSummary      *summary
}

type periodUnit struct {
	at   int64
	unit string
}

func (q *query) add(unit string, at int64, v *summary) {
	if v.count == 0 {
		return
	}
	key := periodUnit{at - mod(at-q.from, q.period), unit}
	if q.lastSummary == nil || q.last != key {
		s := q.merged[key]
		if s == nil {
			s = &summary{}
			q.merged[key] = s
		}
		q.last, q.lastSummary = key, s
	}
	q.lastSummary.merge(v)
}

func (q *query) points() []Point {
	points := make([]Point, 0, len(q.merged))
	for key, s := range q.merged {
		points = append(points, s.point(key.at, key.unit))
	}
	slices.SortFunc(points, func(a, b Point) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Unit, b.Unit))
	})
	return points
}
