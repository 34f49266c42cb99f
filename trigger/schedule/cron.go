package schedule

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// cron is the six fields of a cron expression. Sets have a bit for each value.
type cron struct {
	minutes uint64
	hours   uint64
	months  uint64
	years   map[int]bool // nil: all of firstYear to lastYear
	days    days
}

// The years that a cron expression can have.
const (
	firstYear = 1970
	lastYear  = 2199
)

// every is the set of the values from 0 to n-1.
func every(n int) uint64 { return 1<<n - 1 }

// bounds are a field's name in messages, its values and their names.
type bounds struct {
	name     string
	min, max int
	names    []string // of min and what follows
	wraps    bool     // a range may begin with a larger value than it ends with: FRI-MON
}

var (
	minuteBounds  = bounds{name: "minutes", max: 59, wraps: true}
	hourBounds    = bounds{name: "hours", max: 23, wraps: true}
	dayBounds     = bounds{name: "day-of-month", min: 1, max: 31}
	monthBounds   = bounds{name: "month", min: 1, max: 12, wraps: true, names: []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}}
	weekdayBounds = bounds{name: "day-of-week", min: 1, max: 7, wraps: true, names: []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}}
	yearBounds    = bounds{name: "year", min: firstYear, max: lastYear}
)

func parseCron(body string) (Schedule, error) {
	fields := strings.Fields(body)
	if len(fields) != 6 {
		return nil, fmt.Errorf("a cron expression has 6 fields, minutes, hours, day-of-month, month, day-of-week and year; this has %d", len(fields))
	}
	c := new(cron)
	var err error
	collect := func(set *uint64) func(int) { return func(v int) { *set |= 1 << v } }
	if err := minuteBounds.parse(fields[0], collect(&c.minutes)); err != nil {
		return nil, err
	}
	if err := hourBounds.parse(fields[1], collect(&c.hours)); err != nil {
		return nil, err
	}
	if err := monthBounds.parse(fields[3], collect(&c.months)); err != nil {
		return nil, err
	}
	if fields[5] != "*" {
		c.years = map[int]bool{}
		if err := yearBounds.parse(fields[5], func(v int) { c.years[v] = true }); err != nil {
			return nil, err
		}
	}
	switch dayField, weekdayField := fields[2], fields[4]; {
	case dayField == "?" && weekdayField == "?":
		return nil, errors.New("one of day-of-month and day-of-week is ?, but not both")
	case weekdayField == "?":
		c.days, err = parseDays(dayField)
	case dayField == "?":
		c.days, err = parseWeekdays(weekdayField)
	default:
		return nil, errors.New("day-of-month and day-of-week cannot both have a value: one of them must be ?")
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// parse passes every value that a field stands for to add.
func (b bounds) parse(field string, add func(int)) error {
	for item := range strings.SplitSeq(field, ",") {
		if err := b.item(item, add); err != nil {
			return err
		}
	}
	return nil
}

// item reads one of *, a, a-b, and one of these with a step: */n, a/n, which goes on to the end, and a-b/n.
func (b bounds) item(item string, add func(int)) error {
	span, stepText, stepped := strings.Cut(item, "/")
	step := 1
	if stepped {
		var err error
		if step, err = number(stepText); err != nil || step == 0 || step > b.max {
			return fmt.Errorf("%s: %q is no step of 1 to %d", b.name, stepText, b.max)
		}
	}
	from, to := b.min, b.max
	if span != "*" {
		first, last, ranged := strings.Cut(span, "-")
		var err error
		if from, err = b.value(first); err != nil {
			return err
		}
		switch {
		case ranged:
			if to, err = b.value(last); err != nil {
				return err
			}
		case !stepped:
			to = from
		}
	}
	if from > to {
		if !b.wraps {
			return fmt.Errorf("%s: the range %s begins after its end", b.name, span)
		}
		to += b.max - b.min + 1
	}
	for v := from; v <= to; v += step {
		add((v-b.min)%(b.max-b.min+1) + b.min)
	}
	return nil
}

// value reads a number or a name.
func (b bounds) value(text string) (int, error) {
	for i, name := range b.names {
		if strings.EqualFold(text, name) {
			return b.min + i, nil
		}
	}
	v, err := number(text)
	if err != nil || v < b.min || v > b.max {
		return 0, fmt.Errorf("%s: %q is not in %d-%d", b.name, text, b.min, b.max)
	}
	return v, nil
}

// number reads digits and nothing else.
func number(text string) (int, error) {
	v, err := strconv.ParseUint(text, 10, 16)
	return int(v), err
}

// Next walks from one date, hour and minute that fits to the next. It goes by time that passes, so that times which do
// not exist never come up.
func (c *cron) Next(after time.Time, loc *time.Location) (time.Time, bool) {
	t := wholeMinute(after.In(loc)).Add(time.Minute)
	for {
		year, month, day := t.Date()
		var next time.Time
		switch {
		case year > lastYear:
			return time.Time{}, false
		case year < firstYear || c.years != nil && !c.years[year]:
			next = midnight(max(year+1, firstYear), 1, 1, loc)
		case c.months>>month&1 == 0:
			next = midnight(year, month+1, 1, loc)
		default:
			wait := bits.TrailingZeros64(c.days.in(year, month) >> day)
			minute := bits.TrailingZeros64(c.minutes >> t.Minute())
			switch {
			case wait == none:
				next = midnight(year, month+1, 1, loc)
			case wait > 0:
				next = midnight(year, month, day+wait, loc)
			case c.hours>>t.Hour()&1 == 0 || minute == none:
				next = t.Add(time.Duration(60-t.Minute()) * time.Minute)
			case minute > 0:
				next = t.Add(time.Duration(minute) * time.Minute)
			case c.hours == every(24) || onClock(wallOf(t), loc).Equal(t):
				return t, true
			}
		}
		// Where the clock is about to be changed it may come back to what has been, or to what a step would pass over, such
		// as from 0:01 to 23:01 of the day before: there every minute is looked at.
		if !next.After(t) || offset(t.Add(time.Hour)) != offset(t) {
			next = t.Add(time.Minute)
		}
		t = next
	}
}

// none is what bits.TrailingZeros64 says of an empty set.
const none = 64

// midnight is when a day begins, which need not be at 0:00.
func midnight(year int, month time.Month, day int, loc *time.Location) time.Time {
	return onClock(time.Date(year, month, day, 0, 0, 0, 0, time.UTC), loc)
}

func offset(t time.Time) int {
	_, seconds := t.Zone()
	return seconds
}

// wholeMinute cuts the seconds off what the clock shows. Offsets of the past had seconds.
func wholeMinute(t time.Time) time.Time {
	return t.Add(-time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond()))
}
