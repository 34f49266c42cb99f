package queues

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// modelMessage is a message as the model has it.
type modelMessage struct {
	id, group, dedup string
	seq              uint64
	until            time.Time
	inFlight         bool
	receives         int
	note, deadFrom   string
	handles          []string // of all receives
}

// model is a queue and its dead-letter queue, done the simplest way.
type model struct {
	fifo     bool
	max      int
	messages []*modelMessage // of the queue, by sequence
	dead     []*modelMessage
	seen     map[string]seen
}

type seen struct {
	id  string
	seq uint64
	at  time.Time
}

func (m *modelMessage) hidden(now time.Time) bool { return m.until.After(now) }

// settle forgets what has passed, and gives the messages that die.
func (m *model) settle(now time.Time) (dying []*modelMessage) {
	m.messages = slices.DeleteFunc(m.messages, func(one *modelMessage) bool {
		if one.hidden(now) {
			return false
		}
		one.inFlight = false
		if m.max > 0 && one.receives >= m.max {
			dying = append(dying, one)
			return true
		}
		return false
	})
	return dying
}

// next is what a receive of up to n gives.
func (m *model) next(n int, now time.Time) []*modelMessage {
	var got []*modelMessage
	if !m.fifo {
		for _, one := range m.messages {
			if len(got) < n && !one.hidden(now) {
				got = append(got, one)
			}
		}
		return got
	}
	blocked := map[string]bool{}
	for _, one := range m.messages {
		if one.hidden(now) && one.inFlight {
			blocked[one.group] = true
		}
	}
	var groups []string // by head
	for _, one := range m.messages {
		if !slices.Contains(groups, one.group) {
			groups = append(groups, one.group)
		}
	}
	for _, group := range groups {
		for _, one := range m.messages {
			if one.group != group || blocked[group] || len(got) == n {
				continue
			}
			if one.hidden(now) {
				blocked[group] = true
				continue
			}
			got = append(got, one)
		}
	}
	return got
}

func (m *model) depth(list []*modelMessage, now time.Time) (visible, inFlight, delayed int) {
	for _, one := range list {
		switch {
		case !one.hidden(now):
			visible++
		case one.inFlight:
			inFlight++
		default:
			delayed++
		}
	}
	return
}

func TestAgainstModel(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 4
	}
	for round := range rounds {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("fifo=%v/seed=%d", round%2 == 1, seed), func(t *testing.T) {
			playModel(t, round%2 == 1, rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

func playModel(t *testing.T, fifo bool, r *rand.Rand) {
	p := newPlace(t)
	ctx := t.Context()
	m := &model{fifo: fifo, max: 3, seen: map[string]seen{}}
	p.create("dead", Options{FIFO: fifo})
	p.create("q", Options{FIFO: fifo, Visibility: 30 * time.Second, DeadLetter: "dead", MaxReceives: m.max})
	count := 0
	pick := func() *modelMessage {
		var held []*modelMessage
		for _, one := range m.messages {
			if len(one.handles) > 0 {
				held = append(held, one)
			}
		}
		if len(held) == 0 {
			return nil
		}
		return held[r.IntN(len(held))]
	}
	for step := range 300 {
		q, now := p.queue("q"), p.clock.Now()
		said := ""
		switch op := r.IntN(100); {
		case op < 30:
			batch := make([]Message, 1+r.IntN(4))
			for i := range batch {
				count++
				batch[i] = Message{ID: fmt.Sprint("id", count), Body: []byte(fmt.Sprint("body", count))}
				if fifo {
					batch[i].Group, batch[i].Dedup = fmt.Sprint(r.IntN(3)), fmt.Sprint(r.IntN(200))
				} else if r.IntN(4) == 0 {
					d := time.Duration(r.IntN(20)) * time.Second
					batch[i].Delay = &d
				}
			}
			for i, s := range q.Send(ctx, batch...) {
				b := batch[i]
				said += fmt.Sprintf("send %s %s %s; ", b.ID, b.Group, b.Dedup)
				first, again := m.seen[b.Dedup]
				again = again && fifo && first.at.Add(DeduplicationWindow).After(now)
				switch {
				case s.Err != nil || s.Duplicate != again:
					t.Fatalf("step %d: %s%+v, duplicate should be %v", step, said, s, again)
				case again && (s.ID != first.id || s.Sequence != first.seq):
					t.Fatalf("step %d: %s%+v, the first was %+v", step, said, s, first)
				case again:
				default:
					one := &modelMessage{id: b.ID, group: b.Group, dedup: b.Dedup, seq: s.Sequence}
					if b.Delay != nil {
						one.until = now.Add(*b.Delay)
					}
					m.messages = append(m.messages, one)
					if fifo {
						m.seen[b.Dedup] = seen{b.ID, s.Sequence, now}
					}
				}
			}
		case op < 60:
			n := 1 + r.IntN(10)
			visibility := time.Duration(r.IntN(40)) * time.Second
			got, err := q.Receive(ctx, n, 0, &visibility)
			must(t, err)
			want := m.next(n, now)
			said = fmt.Sprintf("receive %d for %v", n, visibility)
			if len(got) != len(want) {
				t.Fatalf("step %d: %s: got %d messages, not %d", step, said, len(got), len(want))
			}
			for i, one := range want {
				one.receives++
				one.inFlight, one.until = true, now.Add(visibility)
				one.handles = append(one.handles, got[i].Handle)
				if g := got[i]; g.ID != one.id || g.Sequence != one.seq || g.Receives != one.receives || string(g.Note) != one.note || g.Group != one.group {
					t.Fatalf("step %d: %s: got %+v, not %+v", step, said, g, one)
				}
			}
		case op < 72:
			one := pick()
			if one == nil {
				continue
			}
			h := r.IntN(len(one.handles))
			said = fmt.Sprintf("delete %s by handle %d", one.id, h)
			stale := fifo && (h != len(one.handles)-1 || !one.hidden(now) || !one.inFlight)
			if err := q.Delete(ctx, one.handles[h]); stale != errors.Is(err, ErrHandle) || !stale && err != nil {
				t.Fatalf("step %d: %s: %v, stale should be %v", step, said, err, stale)
			}
			if !stale {
				m.messages = slices.DeleteFunc(m.messages, func(other *modelMessage) bool { return other == one })
			}
		case op < 84:
			one := pick()
			if one == nil {
				continue
			}
			d := time.Duration(r.IntN(30)) * time.Second
			note := fmt.Sprint("note", step)
			back := r.IntN(2) == 0
			handle := one.handles[len(one.handles)-1]
			able := one.hidden(now) && one.inFlight
			var err error
			if back {
				err = q.Return(ctx, handle, d, []byte(note))
			} else {
				err = q.ChangeVisibility(ctx, handle, d)
			}
			said = fmt.Sprintf("hide %s for %v, back %v", one.id, d, back)
			if able != (err == nil) || err != nil && !errors.Is(err, ErrNotInFlight) && !errors.Is(err, ErrHandle) {
				t.Fatalf("step %d: %s: %v", step, said, err)
			}
			if able {
				one.until = now.Add(d)
				if back {
					one.inFlight, one.note = false, note
				}
			}
		case op < 86:
			one := pick()
			if one == nil || !one.hidden(now) || !one.inFlight {
				continue
			}
			said = "die " + one.id
			must(t, q.Die(ctx, one.handles[len(one.handles)-1], nil))
			m.messages = slices.DeleteFunc(m.messages, func(other *modelMessage) bool { return other == one })
			m.die(t, p, one)
		case op < 93:
			p.pass(time.Duration(r.IntN(15)) * time.Second)
			said = "time passes"
		case op < 94:
			p.pass(DeduplicationWindow)
			said = "much time passes"
		case op < 95:
			must(t, q.Purge(ctx))
			m.messages = nil
			said = "purge"
		case op < 97:
			n := r.IntN(4)
			moved, err := p.Move(ctx, "dead", "", n)
			must(t, err)
			said = fmt.Sprintf("move %d", n)
			m.redrive(t, p, moved, n)
		case op < 98:
			must(t, p.collect(ctx, r.IntN(2) == 0))
			said = "collect"
		default:
			p.reopen()
			said = "reopen"
		}
		must(t, p.moveDoomed(ctx))
		for _, one := range m.settle(p.clock.Now()) {
			m.die(t, p, one)
		}
		q = p.queue("q")
		if testing.Verbose() && testing.Short() {
			t.Logf("step %d: %s", step, said)
		}
		now = p.clock.Now()
		v, i, d := m.depth(m.messages, now)
		if got := q.Depth(); got.Visible != v || got.InFlight != i || got.Delayed != d {
			t.Fatalf("step %d: %s: depth is %+v, not %d, %d, %d", step, said, got, v, i, d)
		}
		if got := p.queue("dead").Depth(); got.Visible != len(m.dead) || got.InFlight != 0 {
			t.Fatalf("step %d: %s: the dead-letter queue has %+v, not %d", step, said, got, len(m.dead))
		}
	}
	p.reopen()
	for _, c := range []struct {
		name string
		want []*modelMessage
	}{{"q", m.messages}, {"dead", m.dead}} {
		list, err := p.queue(c.name).Peek(ctx, 0, 1000)
		must(t, err)
		if len(list) != len(c.want) {
			t.Fatalf("%s has %d messages, not %d", c.name, len(list), len(c.want))
		}
		for i, one := range c.want {
			if g := list[i]; g.ID != one.id || g.Receives != one.receives || string(g.Note) != one.note || g.DeadFrom != one.deadFrom {
				t.Errorf("%s has %+v, not %+v", c.name, g, one)
			}
		}
	}
}

// die puts a message into the model's dead-letter queue, where the real one has it.
func (m *model) die(t *testing.T, p *place, one *modelMessage) {
	t.Helper()
	list, err := p.queue("dead").Peek(t.Context(), 0, 1000)
	must(t, err)
	i := slices.IndexFunc(list, func(r Received) bool { return r.ID == one.id })
	if i < 0 {
		t.Fatalf("%s is not in the dead-letter queue", one.id)
	}
	m.dead = append(m.dead, &modelMessage{id: one.id, group: one.group, dedup: one.dedup, seq: list[i].Sequence, deadFrom: "q"})
	slices.SortFunc(m.dead, func(a, b *modelMessage) int { return cmp.Compare(a.seq, b.seq) })
}

// redrive moves what the real one moved.
func (m *model) redrive(t *testing.T, p *place, moved, n int) {
	t.Helper()
	want := len(m.dead)
	if n > 0 {
		want = min(want, n)
	}
	if moved != want {
		t.Fatalf("%d messages moved, not %d", moved, want)
	}
	list, err := p.queue("q").Peek(t.Context(), 0, 1000)
	must(t, err)
	m.dead = slices.DeleteFunc(m.dead, func(one *modelMessage) bool {
		i := slices.IndexFunc(list, func(r Received) bool { return r.ID == one.id })
		if i < 0 {
			return false
		}
		m.messages = append(m.messages, &modelMessage{id: one.id, group: one.group, dedup: one.dedup, seq: list[i].Sequence})
		return true
	})
	slices.SortFunc(m.messages, func(a, b *modelMessage) int { return cmp.Compare(a.seq, b.seq) })
}
