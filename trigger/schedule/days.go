package schedule

import (
	"fmt"
	"strings"
	"time"
)

// days are the days of a month that a cron expression has: by the field day-of-month or by the field day-of-week.
type days struct {
	fixed       uint64 // day-of-month: 1 to 31
	last        bool   // day-of-month: L
	lastWeekday bool   // day-of-month: LW
	near        uint64 // day-of-month: the days of 3W, 15W and so on

	weekdays uint64 // day-of-week: 1 to 7 from Sunday on
	ending   uint64 // day-of-week: the days of 6L and so on, the last Friday of the month
	nth      int    // day-of-week: 2 of 3#2, the second Tuesday; 0: none
	nthDay   int    // day-of-week: 3 of 3#2
}

func parseDays(field string) (days, error) {
	var d days
	for item := range strings.SplitSeq(field, ",") {
		switch upper := strings.ToUpper(item); {
		case upper == "L":
			d.last = true
		case upper == "LW":
			d.lastWeekday = true
		case strings.HasSuffix(upper, "W"):
			v, err := dayBounds.value(strings.TrimSuffix(upper, "W"))
			if err != nil {
				return days{}, err
			}
			d.near |= 1 << v
		default:
			if err := dayBounds.item(item, func(v int) { d.fixed |= 1 << v }); err != nil {
				return days{}, err
			}
		}
	}
	return d, nil
}

func parseWeekdays(field string) (days, error) {
	var d days
	if day, nth, ok := strings.Cut(field, "#"); ok {
		var err error
		if d.nthDay, err = weekdayBounds.value(day); err != nil {
			return days{}, err
		}
		if d.nth, err = number(nth); err != nil || d.nth < 1 || d.nth > 5 {
			return days{}, fmt.Errorf("%s: after # stands one number of 1 to 5 and nothing else, not %q", weekdayBounds.name, nth)
		}
		return d, nil
	}
	for item := range strings.SplitSeq(field, ",") {
		switch upper := strings.ToUpper(item); {
		case upper == "L": // the last day of the week
			d.weekdays |= 1 << weekdayBounds.max
		case strings.HasSuffix(upper, "L"):
			v, err := weekdayBounds.value(strings.TrimSuffix(upper, "L"))
			if err != nil {
				return days{}, err
			}
			d.ending |= 1 << v
		default:
			if err := weekdayBounds.item(item, func(v int) { d.weekdays |= 1 << v }); err != nil {
				return days{}, err
			}
		}
	}
	return d, nil
}

// in is the set of the days of a month, bit 1 being the first.
func (d *days) in(year int, month time.Month) uint64 {
	end := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC)
	size := end.Day()
	set := d.fixed
	if d.last {
		set |= 1 << size
	}
	if d.lastWeekday {
		set |= 1 << nearest(size, size, end.Weekday())
	}
	first := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC).Weekday()
	for day := 1; day <= size; day++ {
		weekday := (int(first)+day-1)%7 + 1
		switch {
		case d.weekdays>>weekday&1 == 1,
			d.ending>>weekday&1 == 1 && day+7 > size,
			d.nthDay == weekday && (day-1)/7+1 == d.nth:
			set |= 1 << day
		}
		if d.near>>day&1 == 1 {
			set |= 1 << nearest(day, size, time.Weekday(weekday-1))
		}
	}
	return set & (1<<(size+1) - 1)
}

// nearest is the day from Monday to Friday that is nearest to a day of a month of size days, in the same month.
func nearest(day, size int, weekday time.Weekday) int {
	switch weekday {
	case time.Saturday:
		if day == 1 {
			return 3
		}
		return day - 1
	case time.Sunday:
		if day == size {
			return day - 2
		}
		return day + 1
	}
	return day
}
