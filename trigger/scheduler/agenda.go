package scheduler

import (
	"hash/fnv"
	"strings"
	"time"

	"thaw/trigger/events"
	"thaw/trigger/schedule"
)

// agenda tells when something is due. A slot is a time that its expression names; it is due at the slot, or with a flexible
// time window shift later.
type agenda struct {
	sched schedule.Schedule
	loc   *time.Location
	kind  string // cron, rate or at
	// origin is what a rate is counted from; it is a slot itself when first is set.
	origin time.Time
	first  bool
	since  time.Time // no slot is at or before it
	start  time.Time // no slot is before it, zero: none
	end    time.Time // no slot is after it, zero: none
	shift  time.Duration
}

// precision is how exact EventBridge's schedules are. A one-time schedule is due although its time has just passed when it
// is made.
const precision = time.Minute

// zones keeps the time zones that have been read, so that thousands of schedules share one.
type zones map[string]*time.Location

func (z zones) get(name string) (*time.Location, error) {
	if loc := z[name]; loc != nil {
		return loc, nil
	}
	loc, err := schedule.Zone(name)
	if err == nil {
		z[name] = loc
	}
	return loc, err
}

func (z zones) newAgenda(expression, zone string) (*agenda, error) {
	kind, _, _ := strings.Cut(expression, "(")
	a := &agenda{kind: kind}
	var err error
	if a.sched, err = schedule.Parse(expression); err != nil {
		return nil, err
	}
	a.loc, err = z.get(zone)
	return a, err
}

// ruleAgenda reads a rule's schedule, which is in UTC.
func (z zones) ruleAgenda(r *events.Rule) (*agenda, error) {
	a, err := z.newAgenda(r.Schedule, "")
	if err != nil {
		return nil, err
	}
	a.origin, a.since = r.Origin, r.Since
	return a, nil
}

// scheduleAgenda reads a schedule. A rate without a start date is due at once; the start and end dates of one-time
// schedules do not count.
func (z zones) scheduleAgenda(s *Schedule) (*agenda, error) {
	a, err := z.newAgenda(s.Expression, s.Timezone)
	if err != nil {
		return nil, err
	}
	a.origin, a.since, a.first = s.Origin, s.Since, true
	if s.Window > 0 {
		h := fnv.New64a()
		h.Write([]byte(s.ID))
		a.shift = time.Duration(h.Sum64()%uint64(s.Window*60)) * time.Second
	}
	if a.kind == "at" {
		a.since = a.since.Add(-precision)
		return a, nil
	}
	if s.Start != nil {
		a.start = *s.Start
		a.origin = *s.Start
	}
	if s.End != nil {
		a.end = *s.End
	}
	return a, nil
}

// after is the first slot after t.
func (a *agenda) after(t time.Time) (time.Time, bool) {
	if t.Before(a.since) {
		t = a.since
	}
	if !a.start.IsZero() && t.Before(a.start) {
		t = a.start.Add(-1)
	}
	if a.kind == "rate" {
		if t.Before(a.origin) {
			if a.first {
				return a.until(a.origin)
			}
			t = a.origin
		} else if last, ok := schedule.Latest(a.sched, a.origin, t, a.loc); ok {
			t = last
		} else {
			t = a.origin
		}
	}
	next, ok := a.sched.Next(t, a.loc)
	if !ok {
		return time.Time{}, false
	}
	return a.until(next)
}

// until refuses a slot after the end.
func (a *agenda) until(slot time.Time) (time.Time, bool) {
	if !a.end.IsZero() && slot.After(a.end) {
		return time.Time{}, false
	}
	return slot.UTC(), true
}

// latest is the last slot that is not after t.
func (a *agenda) latest(t time.Time) (time.Time, bool) {
	if !a.end.IsZero() && t.After(a.end) {
		t = a.end
	}
	floor := a.since
	if !a.start.IsZero() && floor.Before(a.start) {
		floor = a.start.Add(-1)
	}
	if !t.After(floor) {
		return time.Time{}, false
	}
	if a.kind != "rate" {
		slot, ok := schedule.Latest(a.sched, floor, t, a.loc)
		return slot.UTC(), ok
	}
	slot, ok := schedule.Latest(a.sched, a.origin, t, a.loc)
	if !ok {
		slot, ok = a.origin, a.first && !t.Before(a.origin)
	}
	return slot.UTC(), ok && slot.After(floor)
}

// due is the newest slot that is due at now.
func (a *agenda) due(now time.Time) (time.Time, bool) { return a.latest(now.Add(-a.shift)) }

// next is the first slot that is due after now.
func (a *agenda) next(now time.Time) (time.Time, bool) { return a.after(now.Add(-a.shift)) }
