package queues

import "time"

// class is how a message counts in Depth.
type class uint8

const (
	visible class = iota
	inFlight
	delayed
	classes
)

// spot is where the index has a message.
type spot uint8

const (
	nowhere spot = iota // an operation on it is being stored, or it waits for its move to another queue
	ready               // to be given out: in index.ready, or at its place in its group
	hidden              // in index.hidden, until its time comes
	removed             // deleted; an operation on it may still be on its way
)

// message is what the index knows of a message: 48 bytes, and details of those that were ever hidden.
type message struct {
	seq   uint64
	sent  int64   // on the engine's clock, milliseconds; before its start: negative
	group *member // FIFO only
	more  *detail // nil: never received, never hidden
	size  uint32
	tag   uint32
	place int32 // in the heap of its spot
	spot  spot
	class class
	// pending counts the operations on it that are being stored; it is nowhere meanwhile.
	pending uint16
}

type detail struct {
	until     int64 // hidden until, on the engine's clock, milliseconds
	first     int64 // first received, milliseconds since 1970
	receives  uint32
	inFlight  bool          // what it counts as while it is hidden
	condemned bool          // it waits for its move to another queue
	moving    bool          // and that has begun
	wishes    []func(error) // who wants it deleted meanwhile
	note      string
	rec       *record // where this is stored; nil: nowhere
}

// member is a message's place in its group.
type member struct {
	group      *group
	next, prev *message
}

// group is a FIFO queue's messages of one group, in order.
type group struct {
	name       string
	head, tail *message
	inFlight   int
	place      int32 // in index.groups, -1: it has nothing to give out now
}

// index is what one queue holds. It decides nothing about storage and is not safe for several goroutines.
//
// A message is ready or hidden, or nowhere while an operation on it is being stored:
//
//	         take (receive)              time passes
//	ready ------------------> nowhere --> hidden --> ready
//	                             \--> ready, hidden, or removed, as the operations say that were stored
type index struct {
	fifo     bool
	messages map[uint64]*message
	ready    heap[*message] // standard queues: by sequence
	groups   map[string]*group
	heads    heap[*group] // FIFO: groups whose head is ready and that have nothing in flight, by the head's sequence
	hidden   heap[*message]
	count    [classes]int
	bytes    int64
}

func newIndex(fifo bool) index {
	at := func(m *message, place int32) { m.place = place }
	return index{
		fifo:     fifo,
		messages: map[uint64]*message{},
		groups:   map[string]*group{},
		ready:    heap[*message]{less: func(a, b *message) bool { return a.seq < b.seq }, at: at},
		hidden:   heap[*message]{less: func(a, b *message) bool { return a.more.until < b.more.until }, at: at},
		heads:    heap[*group]{less: func(a, b *group) bool { return a.head.seq < b.head.seq }, at: func(g *group, place int32) { g.place = place }},
	}
}

// until is when m becomes visible; 0: it is.
func (m *message) until() int64 {
	if m.more == nil {
		return 0
	}
	return m.more.until
}

func (m *message) details() *detail {
	if m.more == nil {
		m.more = &detail{}
	}
	return m.more
}

func (m *message) receives() uint32 {
	if m.more == nil {
		return 0
	}
	return m.more.receives
}

// add brings in a message that is nowhere yet; place finds it a spot. FIFO queues put it into its group, by sequence.
func (x *index) add(m *message, groupName string) {
	x.messages[m.seq] = m
	x.count[m.class]++
	x.bytes += int64(m.size)
	if !x.fifo {
		return
	}
	g := x.groups[groupName]
	if g == nil {
		g = &group{name: groupName, place: -1}
		x.groups[groupName] = g
	}
	m.group = &member{group: g}
	after := g.tail
	for after != nil && after.seq > m.seq {
		after = after.group.prev
	}
	m.group.prev = after
	if after == nil {
		m.group.next, g.head = g.head, m
	} else {
		m.group.next, after.group.next = after.group.next, m
	}
	if m.group.next == nil {
		g.tail = m
	} else {
		m.group.next.group.prev = m
	}
	if m.class == inFlight {
		g.inFlight++
	}
	x.judge(g)
}

// remove forgets a message.
func (x *index) remove(m *message) {
	x.lift(m)
	delete(x.messages, m.seq)
	x.count[m.class]--
	x.bytes -= int64(m.size)
	m.spot = removed
	if !x.fifo {
		return
	}
	g := m.group.group
	if g.place >= 0 { // its order is its head's, which is about to change
		x.heads.remove(g.place)
	}
	if m.class == inFlight {
		g.inFlight--
	}
	if m.group.prev == nil {
		g.head = m.group.next
	} else {
		m.group.prev.group.next = m.group.next
	}
	if m.group.next == nil {
		g.tail = m.group.prev
	} else {
		m.group.next.group.prev = m.group.prev
	}
	if g.head == nil {
		delete(x.groups, g.name)
		return
	}
	x.judge(g)
}

// judge puts a group among those that have something to give out, or takes it from there.
func (x *index) judge(g *group) {
	able := g.inFlight == 0 && g.head != nil && g.head.spot == ready
	switch {
	case able && g.place < 0:
		x.heads.push(g)
	case able:
		x.heads.fix(g.place)
	case g.place >= 0:
		x.heads.remove(g.place)
	}
}

// reckon counts m as c.
func (x *index) reckon(m *message, c class) {
	if m.class == c {
		return
	}
	x.count[m.class]--
	x.count[c]++
	if x.fifo {
		if m.class == inFlight {
			m.group.group.inFlight--
		}
		if c == inFlight {
			m.group.group.inFlight++
		}
	}
	m.class = c
	if x.fifo {
		x.judge(m.group.group)
	}
}

// lift takes m from its spot.
func (x *index) lift(m *message) {
	switch m.spot {
	case ready:
		m.spot = nowhere
		if x.fifo {
			x.judge(m.group.group)
		} else {
			x.ready.remove(m.place)
		}
	case hidden:
		m.spot = nowhere
		x.hidden.remove(m.place)
	case nowhere, removed:
	}
}

// place finds a spot for a message that is nowhere and has nothing pending.
func (x *index) place(m *message, now int64) {
	if m.until() > now {
		m.spot = hidden
		x.hidden.push(m)
		if m.more.inFlight {
			x.reckon(m, inFlight)
		} else {
			x.reckon(m, delayed)
		}
		return
	}
	m.spot = ready
	if !x.fifo {
		x.ready.push(m)
	}
	x.reckon(m, visible)
	if x.fifo {
		x.judge(m.group.group)
	}
}

// due takes the next hidden message whose time has come from its spot.
func (x *index) due(now int64) *message {
	m, ok := x.hidden.top()
	if !ok || m.more.until > now {
		return nil
	}
	x.lift(m)
	return m
}

// next is the message that is to be given out next; of a FIFO queue it is the oldest head of a group.
func (x *index) next() *message {
	if x.fifo {
		if g, ok := x.heads.top(); ok {
			return g.head
		}
		return nil
	}
	if m, ok := x.ready.top(); ok {
		return m
	}
	return nil
}

// after is the message of the same group that may be given out together with m, which was taken just now.
func (m *message) after() *message {
	if m.group == nil {
		return nil
	}
	if next := m.group.next; next != nil && next.spot == ready {
		return next
	}
	return nil
}

// oldest is when the oldest ready message was sent, on the engine's clock.
func (x *index) oldest() (sent int64, ok bool) {
	if !x.fifo {
		if m, found := x.ready.top(); found {
			return m.sent, true
		}
		return 0, false
	}
	for _, g := range x.groups {
		for m := g.head; m != nil; m = m.group.next {
			if m.class == visible {
				if !ok || m.sent < sent {
					sent, ok = m.sent, true
				}
				break
			}
		}
	}
	return sent, ok
}

// memory is what a queue remembers of deduplication ids.
type memory struct {
	byKey map[string]*sighting
	bySeq map[uint64]*sighting // those whose message is there
	order []*sighting          // by when they are forgotten
}

type sighting struct {
	key  string
	id   string
	seq  uint64 // 0: being stored
	at   int64  // on the engine's clock, milliseconds
	wall int64
	rec  *record // where it is stored once the message is gone
	// followers are told what becomes of the message while it is being stored.
	followers []func(id string, seq uint64, err error)
}

func (d *memory) note(s *sighting) {
	if d.byKey == nil {
		d.byKey, d.bySeq = map[string]*sighting{}, map[uint64]*sighting{}
	}
	d.byKey[s.key] = s
	d.order = append(d.order, s)
	if s.seq != 0 {
		d.bySeq[s.seq] = s
	}
}

// forget drops what is past the window and gives the records that are not needed for it any more.
func (d *memory) forget(now int64) (free []*record) {
	for len(d.order) > 0 {
		s := d.order[0]
		if s.seq == 0 || s.at+DeduplicationWindow.Milliseconds() > now {
			break
		}
		d.order[0] = nil
		d.order = d.order[1:]
		if d.byKey[s.key] == s {
			delete(d.byKey, s.key)
		}
		delete(d.bySeq, s.seq)
		if s.rec != nil {
			free = append(free, s.rec)
		}
	}
	return free
}

// next is when there is something to forget. It comes a second late, to forget many at a time.
func (d *memory) next() (at int64, ok bool) {
	if len(d.order) == 0 || d.order[0].seq == 0 {
		return 0, false
	}
	return d.order[0].at + DeduplicationWindow.Milliseconds() + 1000, true
}

// drop forgets a sighting whose message was not stored.
func (d *memory) drop(s *sighting) {
	if d.byKey[s.key] == s {
		delete(d.byKey, s.key)
	}
	s.seq, s.at = ^uint64(0), s.at-2*DeduplicationWindow.Milliseconds()
}

func milliseconds(d time.Duration) int64 { return max(0, min(d.Milliseconds(), maxHidden)) }
