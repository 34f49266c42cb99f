package autoscaling

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"thaw/trigger/schedule"
)

// lateness is how late a scheduled action may run. AWS promises its schedules to the minute; what is later than that was
// missed, because thaw was not running, and is not made up for.
const lateness = time.Minute

// agenda is a scheduled action's calculation of what is due, valid for one state of the action.
type agenda struct {
	seen  time.Time // Action.Seen when it was made
	sched schedule.Schedule
	loc   *time.Location
	next  time.Time // zero: never again
}

// newAgenda reads an action. The expression and the zone were checked before the action was stored.
func newAgenda(a *Action) (*agenda, error) {
	g := &agenda{seen: a.Seen}
	var err error
	if g.sched, err = schedule.Parse(a.Schedule); err != nil {
		return nil, err
	}
	if g.loc, err = schedule.Zone(a.Timezone); err != nil {
		return nil, err
	}
	if next, ok := g.after(a, a.Seen); ok {
		g.next = next
	}
	return g, nil
}

// after is the first time after `after` at which an action is due. A recurring one is due at its start time, too, and
// neither before it nor after its end time.
func (g *agenda) after(a *Action, after time.Time) (time.Time, bool) {
	once := strings.HasPrefix(a.Schedule, "at(")
	if a.Start != nil && after.Before(*a.Start) {
		if !once {
			return *a.Start, a.End == nil || !a.End.Before(*a.Start)
		}
		after = a.Start.Add(-1)
	}
	t, ok := g.sched.Next(g.origin(a, after), g.loc)
	return t, ok && (a.End == nil || !a.End.Before(t))
}

// origin is where to count from. Rates go on from the start time or the making of the action, whatever became of the
// times in between.
func (g *agenda) origin(a *Action, after time.Time) time.Time {
	if !strings.HasPrefix(a.Schedule, "rate(") {
		return after
	}
	origin := a.Created
	if a.Start != nil {
		origin = *a.Start
	}
	if last, ok := schedule.Latest(g.sched, origin, after, g.loc); ok {
		return last
	}
	return origin
}

// latest is the last time after what was seen and not after `until` at which an action is due.
func (g *agenda) latest(a *Action, until time.Time) time.Time {
	if a.End != nil && a.End.Before(until) {
		until = *a.End
	}
	// g.next is due, so that the time before the next one after it is found from there.
	if last, ok := schedule.Latest(g.sched, g.origin(a, g.next), until, g.loc); ok && last.After(g.next) {
		return last
	}
	return g.next
}

// due is a scheduled action whose time has come.
type due struct {
	action Action
	at     time.Time
}

// dueActions lists what is due, in the order of time, and keeps the calculations for the next call.
func (f *follow) dueActions(t *Target, now time.Time) ([]due, error) {
	var list []due
	kept := make(map[string]*agenda, len(t.Actions))
	for i := range t.Actions {
		a := &t.Actions[i]
		g := f.agendas[a.ID]
		if g == nil || !g.seen.Equal(a.Seen) {
			var err error
			if g, err = newAgenda(a); err != nil {
				return nil, fmt.Errorf("scheduled action %s of %s: %w", a.Name, t.ResourceID(), err)
			}
		}
		kept[a.ID] = g
		if !g.next.IsZero() && !g.next.After(now) {
			list = append(list, due{action: *a, at: g.latest(a, now)})
		}
	}
	f.agendas = kept
	slices.SortStableFunc(list, func(a, b due) int { return a.at.Compare(b.at) })
	return list, nil
}

// runScheduled carries out what is due: one write marks it as done and sets the bounds, and asks for the capacity to be
// brought within them.
func (l *Loop) runScheduled(ctx context.Context, t *Target, f *follow, now time.Time) (*Target, error) {
	list, err := f.dueActions(t, now)
	if err != nil {
		return t, err
	}
	for _, d := range list {
		late := now.Sub(d.at) > lateness
		done, suspended := false, false
		changed, err := l.cfg.Records.Update(ctx, t.ResourceID(), func(t *Target) error {
			done, suspended = false, t.Suspended.Scheduled
			i := slices.IndexFunc(t.Actions, func(a Action) bool { return a.ID == d.action.ID && a.Seen.Equal(d.action.Seen) })
			if i < 0 {
				return nil // changed or deleted meanwhile
			}
			done = true
			t.Actions[i].Seen = d.at
			if !late && !suspended {
				t.setBounds(d.action.Min, d.action.Max)
			}
			return nil
		})
		if err != nil {
			return t, err
		}
		t = changed
		if !done || suspended {
			continue
		}
		if err := l.note(ctx, t, f, now, d.activity(late, now)); err != nil {
			return t, err
		}
	}
	return t, nil
}

// setBounds changes one bound or both. One that is given alone takes the other with it where they would cross.
func (t *Target) setBounds(low, high *int32) {
	if low != nil {
		t.Min = int(*low)
	}
	if high != nil {
		t.Max = int(*high)
	}
	if low == nil {
		t.Min = min(t.Min, t.Max)
	}
	if high == nil {
		t.Max = max(t.Min, t.Max)
	}
	t.Bounds++
}

// activity has the texts that AWS has for a scheduled action, and thaw's own for one that was missed.
func (d *due) activity(late bool, now time.Time) Activity {
	var parts []string
	if d.action.Min != nil {
		parts = append(parts, fmt.Sprintf("min capacity to %d", *d.action.Min))
	}
	if d.action.Max != nil {
		parts = append(parts, fmt.Sprintf("max capacity to %d", *d.action.Max))
	}
	what := cmp.Or(strings.Join(parts, " and "), "nothing")
	a := Activity{
		Description: "Setting " + what, Cause: "scheduled action name " + d.action.Name + " was triggered",
		Status: StatusSuccessful, Message: "Successfully set " + what, Start: now,
	}
	if late {
		a.Status, a.End = StatusFailed, now
		a.Message = fmt.Sprintf("Failed to set %s. Reason: the scheduled action was due at %s, when thaw was not running, and is not made up for.", what, d.at.UTC().Format(time.RFC3339))
	}
	return a
}
