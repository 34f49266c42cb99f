package groups

import "slices"

// collector keeps the first events of those that are added, or with backward the last, of a bounded number and size.
type collector struct {
	backward    bool
	limit, most int

	events []Event
	size   int
	cut    bool      // some were dropped: those that are kept come before them
	edge   *Position // events from here on, or before it, are not known to be complete
}

func (c *collector) add(e Event) error {
	c.events = append(c.events, e)
	c.size += size(&e)
	if len(c.events) >= 2*c.limit || c.size >= 2*c.most+1<<20 {
		c.trim()
	}
	return nil
}

// eventOverhead is what an event counts beside its message, as in AWS's bound on PutLogEvents.
const eventOverhead = 26

func size(e *Event) int { return len(e.Message) + eventOverhead }

// sort brings the events in the order in which they are wanted.
func (c *collector) sort() {
	slices.SortFunc(c.events, func(a, b Event) int {
		if c.backward {
			a, b = b, a
		}
		return a.Compare(b.Position)
	})
}

// trim drops what is too much.
func (c *collector) trim() {
	c.sort()
	n, kept := 0, 0
	for n < len(c.events) && n < c.limit {
		s := size(&c.events[n])
		if n > 0 && kept+s > c.most {
			break
		}
		kept += s
		n++
	}
	if n < len(c.events) {
		c.cut = true
		clear(c.events[n:])
		c.events = c.events[:n]
	}
	c.size = kept
}

// closed reports whether the collector is full with events that come before the edge.
func (c *collector) closed(edge Position) bool {
	c.trim()
	if len(c.events) == 0 || !c.cut && len(c.events) < c.limit && c.size < c.most {
		return false
	}
	last := c.events[len(c.events)-1].Position
	beyond := edge.Compare(last) > 0
	if c.backward {
		beyond = edge.Compare(last) < 0
	}
	if beyond {
		c.cut = true // there is more behind the edge
	}
	return beyond
}

// stop ends collecting: nothing is known from the edge on.
func (c *collector) stop(edge Position) { c.edge = &edge }

func (c *collector) page() Page {
	c.trim()
	p := Page{More: c.cut}
	if c.edge != nil {
		n := len(c.events)
		for n > 0 && c.beyondEdge(c.events[n-1].Position) {
			n--
		}
		if n < len(c.events) || !c.cut {
			c.events, p.More, p.Next = c.events[:n], true, *c.edge
			c.cut = false
		}
	}
	if c.cut {
		p.Next = c.events[len(c.events)-1].Position
		if !c.backward {
			p.Next = p.Next.Next()
		}
	}
	if c.backward {
		slices.Reverse(c.events)
	}
	p.Events = c.events
	return p
}

func (c *collector) beyondEdge(p Position) bool {
	if c.backward {
		return p.Compare(*c.edge) < 0
	}
	return p.Compare(*c.edge) >= 0
}
