package insights

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

type aggregateKind byte

const (
	count aggregateKind = iota
	countDistinct
	sum
	avg
	least
	most
	percentile
	deviation
	earliest
	latest
	sortsFirst
	sortsLast
)

var aggregates = map[string]aggregateKind{
	"count": count, "count_distinct": countDistinct, "sum": sum, "avg": avg, "min": least, "max": most, "pct": percentile,
	"percentile": percentile, "stddev": deviation, "earliest": earliest, "latest": latest, "sortsfirst": sortsFirst, "sortslast": sortsLast,
}

// aggregation is an aggregate function of a query. Its value is that of the group that is being finished.
type aggregation struct {
	kind    aggregateKind
	arg     expr
	percent float64
	index   int
}

func (a *aggregation) eval(r *row) value {
	if a.index < len(r.results) {
		return r.results[a.index]
	}
	return nil
}

// maxSample is how many values of a group a percentile is made of; of more, some are drawn. maxDistinct bounds those that
// count_distinct tells apart over all groups together.
const (
	maxSample   = 1000
	maxDistinct = 1_000_000
)

// accumulator gathers one function of one group.
type accumulator struct {
	n           float64
	sum         float64
	mean, m2    float64
	best        value
	at          float64
	distinct    map[string]struct{}
	sample      []float64
	haveNumbers bool
}

func (c *accumulator) add(a *aggregation, r *row, run *Run) {
	v := a.arg.eval(r)
	if v == nil {
		return
	}
	switch a.kind {
	case count:
		c.n++
		return
	case countDistinct:
		if c.distinct == nil {
			c.distinct = map[string]struct{}{}
		}
		key := toText(v)
		if _, ok := c.distinct[key]; !ok {
			c.distinct[strings.Clone(key)] = struct{}{}
			run.distinct++
			run.grow(len(key) + rowOverhead/4)
		}
		return
	case earliest, latest:
		at, _ := toNumber(r.get("@timestamp"))
		if c.best == nil || a.kind == earliest && at < c.at || a.kind == latest && at >= c.at {
			run.replace(c.best, v)
			c.best, c.at = v, at
		}
		return
	case sortsFirst, sortsLast:
		if c.best == nil || (compareValues(v, c.best) < 0) == (a.kind == sortsFirst) {
			run.replace(c.best, v)
			c.best = v
		}
		return
	}
	x, ok := toNumber(v)
	if !ok {
		return
	}
	c.n++
	c.sum += x
	delta := x - c.mean
	c.mean += delta / c.n
	c.m2 += delta * (x - c.mean)
	switch {
	case !c.haveNumbers, a.kind == least && x < c.best.(float64), a.kind == most && x > c.best.(float64):
		c.best = x
	}
	c.haveNumbers = true
	if a.kind != percentile {
		return
	}
	if len(c.sample) < maxSample {
		c.sample = append(c.sample, x)
		run.grow(8)
	} else if i := rand.IntN(int(c.n)); i < maxSample { //nolint:gosec // which values are drawn is no secret
		c.sample[i] = x
	}
}

func (c *accumulator) result(a *aggregation) value {
	switch a.kind {
	case count:
		return c.n
	case countDistinct:
		return float64(len(c.distinct))
	case earliest, latest, sortsFirst, sortsLast:
		return c.best
	}
	if !c.haveNumbers {
		return nil
	}
	switch a.kind {
	case sum:
		return finite(c.sum)
	case avg:
		return finite(c.sum / c.n)
	case deviation:
		if c.n < 2 {
			return 0.0
		}
		return finite(math.Sqrt(c.m2 / (c.n - 1)))
	case percentile:
		slices.Sort(c.sample)
		// Between the two nearest values, in proportion.
		at := a.percent / 100 * float64(len(c.sample)-1)
		low := int(at)
		high := min(low+1, len(c.sample)-1)
		return finite(c.sample[low] + (c.sample[high]-c.sample[low])*(at-float64(low)))
	}
	return c.best
}

// grouping is a stats command with what it has gathered.
type grouping struct {
	aggregate

	groups map[string]*statsGroup
}

type statsGroup struct {
	keys []value
	accs []accumulator
}

func (g *grouping) add(r *row, run *Run) error {
	keys := make([]value, len(g.by))
	var id strings.Builder
	for i, by := range g.by {
		keys[i] = by.expr.eval(r)
		r.put(by.name, keys[i])
		if keys[i] != nil {
			id.WriteByte(1)
			id.WriteString(toText(keys[i]))
		}
		id.WriteByte(0)
	}
	group := g.groups[id.String()]
	if group == nil {
		if len(g.groups) >= MaxRows {
			return ErrTooMuch
		}
		group = &statsGroup{keys, make([]accumulator, len(g.aggs))}
		g.groups[id.String()] = group
		run.grow(2*id.Len() + rowOverhead*(1+len(g.aggs)))
	}
	for i, a := range g.aggs {
		group.accs[i].add(a, r, run)
	}
	if run.distinct > maxDistinct || run.size > MaxBytes {
		return ErrTooMuch
	}
	return nil
}

// finish gives a row for each group, in the order of their keys. Without "by" there is one, even of no events.
func (g *grouping) finish() []*row {
	if len(g.by) == 0 && len(g.groups) == 0 {
		g.groups[""] = &statsGroup{nil, make([]accumulator, len(g.aggs))}
	}
	groups := make([]*statsGroup, 0, len(g.groups))
	for _, group := range g.groups {
		groups = append(groups, group)
	}
	slices.SortFunc(groups, func(a, b *statsGroup) int {
		for i := range a.keys {
			if c := compareValues(a.keys[i], b.keys[i]); c != 0 {
				return c
			}
		}
		return 0
	})
	rows := make([]*row, len(groups))
	for i, group := range groups {
		r := &row{results: make([]value, len(g.aggs))}
		for j, a := range g.aggs {
			r.results[j] = group.accs[j].result(a)
		}
		for j, by := range g.by {
			r.put(by.name, group.keys[j])
		}
		for _, n := range g.list {
			r.put(n.name, n.expr.eval(r))
		}
		r.results = nil
		rows[i] = r
	}
	return rows
}

// columns are the names that a stats command's rows have, in their order.
func (g *aggregate) columns() []string {
	var names []string
	for _, list := range [][]named{g.by, g.list} {
		for _, n := range list {
			if !slices.Contains(names, n.name) {
				names = append(names, n.name)
			}
		}
	}
	return names
}
