package scheduler

import (
	"slices"
	"time"
)

// progress is what has been fired of a schedule, stored under its key. A node that fires a slot claims it first, in the
// same record, so that of several nodes one does.
type progress struct {
	ID    string `json:"id"` // of the definition: progress with another one is of something that was deleted
	Spans []span `json:"spans,omitempty"`
	Claim *claim `json:"claim,omitempty"`
}

// span is a run of slots of which each has been fired. Slots between two spans have not: the machine was down, or the clock
// was put forward over them, and if it is put back they are still to come.
type span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// claim says that a node fires a slot now.
type claim struct {
	Slot  time.Time `json:"slot"`
	By    string    `json:"by"`
	At    time.Time `json:"at"`
	Until time.Time `json:"until"`
}

const (
	// claimTime is for how long a claim holds: longer than firing takes, and shorter than a minute, the shortest interval.
	claimTime = 30 * time.Second
	maxSpans  = 8
)

// held reports whether another node has the claim. One from the future is of a clock that has been put back since.
func (c *claim) held(node string, now time.Time) bool {
	return c != nil && c.By != node && now.Before(c.Until) && !now.Before(c.At.Add(-claimTime))
}

// fired reports whether a slot has been fired.
func (p *progress) fired(slot time.Time) bool {
	return slices.ContainsFunc(p.Spans, func(s span) bool { return !slot.Before(s.From) && !slot.After(s.To) })
}

// add notes that a slot has been fired. A span goes on when the slot is the next one after it. There are at most maxSpans:
// of more, the oldest two become one.
func (p *progress) add(slot time.Time, a *agenda) {
	if p.fired(slot) {
		return
	}
	follows := func(end, slot time.Time) bool {
		next, ok := a.after(end)
		return ok && next.Equal(slot)
	}
	i, _ := slices.BinarySearchFunc(p.Spans, slot, func(s span, slot time.Time) int { return s.From.Compare(slot) })
	if i > 0 && follows(p.Spans[i-1].To, slot) {
		i--
		p.Spans[i].To = slot
	} else {
		p.Spans = slices.Insert(p.Spans, i, span{slot, slot})
	}
	if i+1 < len(p.Spans) && follows(slot, p.Spans[i+1].From) {
		p.Spans[i].To = p.Spans[i+1].To
		p.Spans = slices.Delete(p.Spans, i+1, i+2)
	}
	if len(p.Spans) > maxSpans {
		p.Spans[1].From = p.Spans[0].From
		p.Spans = slices.Delete(p.Spans, 0, 1)
	}
}
