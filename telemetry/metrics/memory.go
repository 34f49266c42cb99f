package metrics

import (
	"time"

	"thaw"
)

// retryAfter is when what waits has been flushed.
const retryAfter = time.Minute

// Bounds of what waits in memory for its minute to be over.
const (
	// flushAt is how many bytes bring the flush forward, and refuseAt how many have values refused.
	flushAt  = 48 << 20
	refuseAt = 96 << 20
	// ownShare is the part of the metrics that is kept for the platform's own: a quarter. originShare is the part that one origin may
	// add. meanID bounds what programs' metrics are called, in bytes, on an average of as many as there may be: each is in memory
	// several times, and could have 40 kB.
	ownShare    = 4
	originShare = 4
	meanID      = 256
	// What a cell and a bucket weigh, about.
	cellWeight   = 256
	bucketWeight = 16
)

func (h *histogram) weight() int64 {
	return bucketWeight * int64(len(h.positive)+len(h.negative))
}

// memory is what has not been flushed. Everything in it is guarded by Metrics.mu.
type memory struct {
	catalog catalog
	max     int    // series
	buffer  []byte // for ids
	active  []*series
	dirty   []dirtyCell
	held    int64 // bytes, about
	refused [numReasons]uint64
}

type dirtyCell struct {
	series *series
	cell   *cell
}

// reason says why values were not taken.
type reason int

const (
	reasonSeries reason = iota
	reasonMemory
	reasonJournal
	reasonStore
	reasonOld
	numReasons
)

var reasonNames = [numReasons]string{"too many metrics", "too much in memory", "not journalled", "not stored", "older than the store takes"}

// known gives the series of an identity, nil where there is none, and leaves its id in the buffer.
func (m *memory) known(id *identity) *series {
	m.buffer = appendIdentity(m.buffer[:0], id)
	return m.catalog.series[string(m.buffer)]
}

// find gives one of the platform's own series, and makes it where there is none; nil where there are too many.
func (m *memory) find(id *identity) *series {
	if s := m.known(id); s != nil {
		return s
	}
	if len(m.catalog.series) >= m.max {
		return nil
	}
	return m.catalog.add(string(m.buffer), *id, "")
}

// findFor is find for a series that a program writes.
func (m *memory) findFor(id *identity, origin string) *series {
	if s := m.known(id); s != nil {
		return s
	}
	c, n := &m.catalog, len(m.buffer)
	most, one := m.max-m.max/ownShare, m.max/originShare
	if len(c.series) >= most || c.bytes+n > most*meanID {
		return nil
	}
	if of := c.origins[origin]; origin != "" && (of.series >= one || of.bytes+n > one*meanID) {
		return nil
	}
	// The strings that the program's request gave may be parts of a large one, which would stay as long as the series.
	d := decoder{data: m.buffer}
	return c.add(string(m.buffer), d.identity(), origin)
}

// at gives the cell of a slot to add to, and marks it.
func (m *memory) at(s *series, slot int64) *cell {
	c := s.cell(slot)
	if c == nil {
		c = &cell{slot: slot}
		if len(s.cells) == 0 {
			m.active = append(m.active, s)
		}
		i, _ := s.position(slot)
		s.cells = append(s.cells, nil)
		copy(s.cells[i+1:], s.cells[i:])
		s.cells[i] = c
		s.lastSeen = max(s.lastSeen, slot)
		m.held += cellWeight
	}
	if !c.dirty {
		c.dirty = true
		m.dirty = append(m.dirty, dirtyCell{s, c})
	}
	return c
}

func (m *memory) add(s *series, slot int64, v, count float64) {
	c := m.at(s, slot)
	before := c.delta.histogram.weight()
	c.delta.add(v, count)
	m.held += c.delta.histogram.weight() - before
}

func (m *memory) addDatum(s *series, slot int64, d *Datum) {
	c := m.at(s, slot)
	before := c.delta.histogram.weight()
	if d.Stats != nil {
		c.delta.addSet(d.Stats)
	}
	for i, v := range d.Values {
		count := 1.0
		if len(d.Counts) > 0 {
			count = d.Counts[i]
		}
		if count > 0 {
			c.delta.add(v, count)
		}
	}
	m.held += c.delta.histogram.weight() - before
}

// restore puts back what a journal held.
func (m *memory) restore(id identity, slot int64, delta *summary) {
	s := m.find(&id)
	if s == nil {
		m.refused[reasonSeries]++
		return
	}
	c := m.at(s, slot)
	c.total.merge(delta)
	m.held += c.total.histogram.weight()
}

// settle moves every cell's new values to its total, after they were handed to fn, and gives the number of those cells.
func (m *memory) settle(fn func(s *series, slot int64, delta *summary)) (n uint64) {
	for _, d := range m.dirty {
		c := d.cell
		c.dirty = false
		if c.delta.count == 0 {
			continue
		}
		n++
		fn(d.series, c.slot, &c.delta)
		before := c.total.histogram.weight() + c.delta.histogram.weight()
		c.total.merge(&c.delta)
		c.delta.reset()
		m.held += c.total.histogram.weight() - before
	}
	m.dirty = m.dirty[:0]
	return n
}

// detach takes the cells of slots before a time out, to be stored; readers still see them. What comes for their slots meanwhile goes
// into new cells. All must have been settled.
func (m *memory) detach(before int64) (detached []*series) {
	active := m.active[:0]
	for _, s := range m.active {
		i, _ := s.position(before)
		if i > 0 {
			s.flushing = append([]*cell(nil), s.cells[:i]...)
			s.cells = append([]*cell(nil), s.cells[i:]...)
			detached = append(detached, s)
		}
		if len(s.cells) > 0 {
			active = append(active, s)
		}
	}
	clear(m.active[len(active):])
	m.active = active
	return detached
}

// release forgets what was detached, after it has been stored.
func (m *memory) release(all []*series) {
	for _, s := range all {
		for _, c := range s.flushing {
			m.held -= cellWeight + c.total.histogram.weight()
		}
		s.flushing = nil
	}
}

// attach puts back what could not be stored.
func (m *memory) attach(all []*series) {
	for _, s := range all {
		for _, c := range s.flushing {
			m.held -= cellWeight + c.total.histogram.weight()
			back := m.at(s, c.slot)
			before := back.total.histogram.weight()
			// What came before is merged first, as it will be when the journal is read.
			c.total.merge(&back.total)
			back.total = c.total
			m.held += back.total.histogram.weight() - before
		}
		s.flushing = nil
	}
}

// refuse counts a value that was not taken: for want of a series, or of memory.
func (m *memory) refuse(s *series) {
	if s == nil {
		m.refused[reasonSeries]++
	} else {
		m.refused[reasonMemory]++
	}
}

func (m *memory) full() bool { return m.held >= refuseAt }

func errTooMany(limit int) error {
	return thaw.Errorf(thaw.CodeLimitExceeded, "There are as many metrics as programs may have: metrics.max_series is %d, a quarter of which is kept for the platform's own, and one log group may add a quarter. Raise it, or use fewer and shorter dimensions.", limit)
}

func errFull() error {
	return &thaw.Error{Code: thaw.CodeTooManyRequests, Message: "More values wait to be stored than fit into memory. Send them again in a minute.", RetryAfter: retryAfter}
}
