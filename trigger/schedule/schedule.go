// Package schedule reads AWS's schedule expressions and tells when they are due: cron(fields), rate(value unit) and
// at(yyyy-mm-ddThh:mm:ss), as Application Auto Scaling, EventBridge rules and EventBridge Scheduler have them. It is a
// calculation: it keeps no state, starts nothing and reads no clock.
//
// The dialect of cron is that of the page "Cron expressions reference" of EventBridge's user guide. What happens at a
// change of a zone's offset follows the page "Schedule types on EventBridge Scheduler": a time that does not exist is
// passed over, and one that there is twice is due once, the first time. Since that page speaks of times of day, an
// expression that has every hour is due in both: otherwise one for every five minutes would pause for an hour.
package schedule

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Schedule is a parsed expression. It is immutable.
type Schedule interface {
	// Next is the first time after a time at which the expression is due, false when there is none. loc is the zone of
	// cron and at expressions. A rate is due one interval after `after`, so that times counted from the one before are
	// a series; a day has 24 hours in it.
	Next(after time.Time, loc *time.Location) (time.Time, bool)
}

// Parse reads an expression. The error says in a sentence what is wrong with it.
func Parse(expr string) (Schedule, error) {
	kind, rest, ok := strings.Cut(expr, "(")
	body, closed := strings.CutSuffix(rest, ")")
	if !ok || !closed {
		return nil, fmt.Errorf("%q is none of cron(fields), rate(value unit) and at(yyyy-mm-ddThh:mm:ss)", expr)
	}
	var s Schedule
	var err error
	switch kind {
	case "cron":
		s, err = parseCron(body)
	case "rate":
		s, err = parseRate(body)
	case "at":
		s, err = parseAt(body)
	default:
		return nil, fmt.Errorf("%q is none of cron(fields), rate(value unit) and at(yyyy-mm-ddThh:mm:ss)", expr)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	return s, nil
}

// CheckRule says what is wrong with the expression of an EventBridge rule. Rules have no at(…), and the unit of a rate has
// to agree with its value: rate(1 minute), rate(5 minutes).
func CheckRule(expr string) error {
	if _, err := Parse(expr); err != nil {
		return err
	}
	if strings.HasPrefix(expr, "at(") {
		return fmt.Errorf("%s: a rule has a cron or a rate expression; one-time schedules are EventBridge Scheduler's", expr)
	}
	if body, ok := strings.CutPrefix(expr, "rate("); ok {
		fields := strings.Fields(strings.TrimSuffix(body, ")"))
		if value, _ := strconv.Atoi(fields[0]); (value == 1) == strings.HasSuffix(fields[1], "s") {
			return fmt.Errorf("%s: the unit of 1 is minute, hour or day, and of more minutes, hours or days", expr)
		}
	}
	return nil
}

// Latest is the last time after `after` and not after `until` at which s is due, false when there is none. It costs
// little however many such times there are.
func Latest(s Schedule, after, until time.Time, loc *time.Location) (time.Time, bool) {
	if r, ok := s.(rate); ok {
		n := until.Sub(after) / time.Duration(r)
		return after.Add(n * time.Duration(r)), n > 0
	}
	// Look back ever further, so that neither a dense schedule nor a sparse one takes many steps.
	for back := time.Hour; ; back *= 8 {
		from := until.Add(-back)
		if back > maxLookBack || from.Before(after) {
			from = after
		}
		var last time.Time
		for t, ok := s.Next(from, loc); ok && !t.After(until); t, ok = s.Next(t, loc) {
			last = t
		}
		if !last.IsZero() || from.Equal(after) {
			return last, !last.IsZero()
		}
	}
}

// maxLookBack keeps Latest's steps from growing beyond what a Duration can hold.
const maxLookBack = 10 * 365 * 24 * time.Hour

// rate is due again and again after its interval.
type rate time.Duration

// maxRate bounds a rate's interval.
const maxRate = 100 * 365 * 24 * time.Hour

func parseRate(body string) (Schedule, error) {
	// No more blanks than the one, as recorded from EventBridge.
	fields := strings.Split(body, " ")
	if len(fields) != 2 {
		return nil, fmt.Errorf("a rate is a value and a unit with one blank between them")
	}
	value, err := strconv.ParseUint(fields[0], 10, 31)
	if err != nil || value == 0 {
		return nil, fmt.Errorf("the value of a rate is a positive integer, not %q", fields[0])
	}
	var unit time.Duration
	switch strings.TrimSuffix(fields[1], "s") {
	case "minute":
		unit = time.Minute
	case "hour":
		unit = time.Hour
	case "day":
		unit = 24 * time.Hour
	}
	if unit == 0 || strings.HasSuffix(fields[1], "ss") {
		return nil, fmt.Errorf("the unit of a rate is minute, minutes, hour, hours, day or days, not %q", fields[1])
	}
	if value > uint64(maxRate/unit) {
		return nil, fmt.Errorf("the interval is more than 100 years")
	}
	return rate(time.Duration(value) * unit), nil
}

func (r rate) Next(after time.Time, _ *time.Location) (time.Time, bool) {
	return after.Add(time.Duration(r)), true
}

// at is due once. It holds the time on the clock, as if it were UTC.
type at time.Time

func parseAt(body string) (Schedule, error) {
	t, err := time.Parse("2006-01-02T15:04:05", strings.TrimSpace(body))
	if err != nil || t.Nanosecond() != 0 {
		return nil, fmt.Errorf("a time is written yyyy-mm-ddThh:mm:ss")
	}
	return at(t), nil
}

// Next takes a time that does not exist as if the clock had not been put forward yet: what is due once is not lost.
func (a at) Next(after time.Time, loc *time.Location) (time.Time, bool) {
	t := onClock(time.Time(a), loc)
	return t, t.After(after)
}

// onClock is the first moment at which the clocks of loc show wall's date and time; if they never do, because they were
// put forward over it, the moment that would have been it without.
func onClock(wall time.Time, loc *time.Location) time.Time {
	// Offsets change less often than every two days, and are less than a day.
	_, before := wall.Add(-24 * time.Hour).In(loc).Zone()
	_, after := wall.Add(24 * time.Hour).In(loc).Zone()
	early := wall.Add(-time.Duration(before) * time.Second).In(loc)
	if shows(early, wall) {
		return early
	}
	if late := wall.Add(-time.Duration(after) * time.Second).In(loc); shows(late, wall) {
		return late
	}
	return early
}

// shows reports whether t, in its own zone, has the date and time of wall.
func shows(t, wall time.Time) bool {
	_, offset := t.Zone()
	return t.Add(time.Duration(offset) * time.Second).Equal(wall)
}

// wallOf is the date and time that t's zone shows, as if it were UTC.
func wallOf(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.Add(time.Duration(offset) * time.Second).UTC()
}
