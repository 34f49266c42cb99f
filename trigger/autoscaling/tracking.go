package autoscaling

import (
	"math"
	"time"
)

// pace is how often utilisation is judged, and how many datapoints in a row it takes to act.
type pace struct {
	period  time.Duration
	out, in int
}

var (
	// promptly acts on the first second above the target, and after a quarter of a minute below.
	promptly = pace{period: time.Second, out: 1, in: 15}
	// asAWS has the alarms that AWS makes for LambdaProvisionedConcurrencyUtilization: 3 minutes out, 15 minutes in,
	// after the page "Configuring provisioned concurrency for a function" of Lambda's developer guide.
	asAWS = pace{period: time.Minute, out: 3, in: 15}
)

// lowShare of the target is where scaling in begins: AWS's alarm for it has 90% of the target as its threshold.
const lowShare = 0.9

// datapoint is the utilisation of one period.
type datapoint struct {
	utilisation float64 // 0 to 1: share of the allocated environments that were busy
	allocated   int     // environments at the end of the period, at least 1
}

// situation is all that a decision depends on.
type situation struct {
	pace     pace
	points   []datapoint // in a row, the newest last
	policy   *Policy
	current  int // the capacity asked for now
	min, max int
	suspend  Suspended
	history  []Activity // the newest first
	now      time.Time
}

// decision is what to do: nothing where to is the current capacity.
type decision struct {
	to   int
	base int // for the cooldown that begins
	high bool
	// why nothing is done although the alarm is there: AlreadyAtMax, AlreadyAtMin or empty.
	why string
}

// decide is target tracking: out at once in proportion to the utilisation and rounded up, in when all of a longer time was
// below 90% of the target, and no further in than the busiest moment of that time needs. The capacity is worked out
// from the environments that the datapoint is about, not from what has been asked for since, so that what is still on its
// way is not asked for again.
func decide(s situation) decision {
	stay := decision{to: s.current}
	switch {
	case s.policy == nil:
		return stay
	case breached(s.points, s.pace.out, func(u float64) bool { return u > s.policy.Target }):
		if s.suspend.Out {
			return stay
		}
		last := s.points[len(s.points)-1]
		base := last.allocated
		if out := lastChange(s.history, s.policy.Name, true); cooling(out, s.policy.OutCooldown, s.now) {
			// What the activity before added counts as part of what this one adds: only a larger need goes beyond it.
			base = min(base, out.Base)
		}
		want := needed(last.utilisation*float64(base), s.policy.Target)
		to := min(want, s.max)
		switch {
		case to > s.current:
			return decision{to: to, base: base, high: true}
		case want > s.current:
			return decision{to: s.current, high: true, why: AlreadyAtMax}
		}
		return stay
	case breached(s.points, s.pace.in, func(u float64) bool { return u < lowShare*s.policy.Target }):
		out, in := lastChange(s.history, s.policy.Name, true), lastChange(s.history, s.policy.Name, false)
		switch {
		case s.suspend.In, s.policy.DisableScaleIn != nil && *s.policy.DisableScaleIn:
			return stay
		case cooling(in, s.policy.InCooldown, s.now) && (out == nil || out.Start.Before(in.Start)):
			return stay // a scaling out ends the cooldown of the scaling in before it
		}
		want := 0
		for _, p := range s.points[len(s.points)-s.pace.in:] {
			want = max(want, needed(p.utilisation*float64(p.allocated), s.policy.Target))
		}
		to := max(want, s.min)
		switch {
		case to < s.current:
			return decision{to: to, base: s.current}
		case want < s.current:
			return decision{to: s.current, why: AlreadyAtMin}
		}
	}
	return stay
}

// breached reports whether the last n points are all there and breach a threshold.
func breached(points []datapoint, n int, breach func(utilisation float64) bool) bool {
	if len(points) < n {
		return false
	}
	for _, p := range points[len(points)-n:] {
		if !breach(p.utilisation) {
			return false
		}
	}
	return true
}

// needed is how many environments it takes for so many busy ones to be the target's share. The subtraction keeps 7/0.7
// from being 11.
func needed(busy, target float64) int { return int(math.Ceil(busy/target - 1e-9)) }

// lastChange is the newest activity of a policy that took effect in that direction, nil when there is none.
func lastChange(history []Activity, policy string, out bool) *Activity {
	for i := range history {
		a := &history[i]
		if a.Policy == policy && a.Status != StatusFailed && a.NotScaled == "" && (a.To > a.From) == out {
			return a
		}
	}
	return nil
}

// cooling reports whether the cooldown of an activity is on. It begins when the activity has ended.
func cooling(a *Activity, seconds *int32, now time.Time) bool {
	if a == nil || seconds == nil || *seconds <= 0 {
		return false
	}
	return a.End.IsZero() || now.Before(a.End.Add(time.Duration(*seconds)*time.Second))
}

// meter makes datapoints of what is measured once a second.
type meter struct {
	points []datapoint

	// of the minute under way, when minutes count
	minute time.Time
	sum    float64
	count  int
	busy   bool
	last   int // allocated
}

// add takes one measurement, ok being false where there is nothing to measure, and reports whether it made a datapoint.
// What has no data is a gap, and no row of datapoints goes across a gap.
//
// With AWS's pace a datapoint is the average of a minute, the statistic of AWS's alarms, and a minute in which nothing was
// invoked has none, as on AWS: its alarm then has insufficient data and the capacity stays as it is.
func (m *meter) add(p pace, now time.Time, inFlight, allocated int, ok bool) bool {
	ok = ok && allocated > 0
	u := 0.0
	if ok {
		u = min(1, float64(inFlight)/float64(allocated))
	}
	if p.period <= tickEvery {
		return m.keep(p, datapoint{u, allocated}, ok)
	}
	made := false
	if minute := now.Truncate(p.period); !minute.Equal(m.minute) {
		if !m.minute.IsZero() {
			d := datapoint{allocated: m.last}
			if m.count > 0 {
				d.utilisation = m.sum / float64(m.count)
			}
			made = m.keep(p, d, m.busy && minute.Sub(m.minute) == p.period)
		}
		m.minute, m.sum, m.count, m.busy = minute, 0, 0, false
	}
	if ok {
		m.sum, m.count, m.last = m.sum+u, m.count+1, allocated
		m.busy = m.busy || inFlight > 0
	}
	return made
}

func (m *meter) keep(p pace, d datapoint, ok bool) bool {
	if !ok {
		m.points = m.points[:0]
		return false
	}
	if n := max(p.out, p.in); len(m.points) >= n {
		m.points = append(m.points[:0], m.points[len(m.points)-n+1:]...)
	}
	m.points = append(m.points, d)
	return true
}
