package scheduler

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func instant(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02T15:04", s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestAgenda walks through the slots of schedules, over changes of the clock too, and looks back from each.
func TestAgenda(t *testing.T) {
	for _, tt := range []struct {
		name, expression, zone, created, start, end string
		want                                        string // the first slots in UTC, - for no more
	}{
		{"spring forward, a time that does not exist", "cron(30 2 * * ? *)", "Europe/Berlin", "2026-03-27T12:00", "", "", "03-28T01:30 03-30T00:30"},
		{"spring forward, New York", "cron(30 2 * * ? *)", "America/New_York", "2026-03-06T12:00", "", "", "03-07T07:30 03-09T06:30"},
		{"fall back, a time that is there twice", "cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-24T12:00", "", "", "10-25T00:30 10-26T01:30"},
		{"fall back, New York", "cron(30 1 * * ? *)", "America/New_York", "2026-10-31T12:00", "", "", "11-01T05:30 11-02T06:30"},
		{"fall back, every half hour", "cron(0/30 * * * ? *)", "Europe/Berlin", "2026-10-25T00:00", "", "", "10-25T00:00 10-25T00:30 10-25T01:00 10-25T01:30 10-25T02:00"},
		{"half an hour, Lord Howe", "cron(45 1 * * ? *)", "Australia/Lord_Howe", "2026-04-03T12:00", "", "", "04-03T14:45 04-04T14:45 04-05T15:15"},
		{"no change in UTC", "cron(30 2 * * ? *)", "", "2026-03-28T12:00", "", "", "03-29T02:30 03-30T02:30"},
		{"a day is 24 hours", "rate(1 day)", "Europe/Berlin", "2026-03-28T12:00", "", "", "03-28T12:00 03-29T12:00 03-30T12:00"},
		{"at, in its zone", "at(2026-07-01T09:00:00)", "Asia/Tokyo", "2026-03-28T12:00", "", "", "07-01T00:00 -"},
		{"at, start and end do not count", "at(2026-07-01T09:00:00)", "", "2026-03-28T12:00", "2026-08-01T00:00", "2026-09-01T00:00", "07-01T09:00 -"},
		{"at, when the clock goes forward over it", "at(2026-03-29T02:30:00)", "Europe/Berlin", "2026-03-28T12:00", "", "", "03-29T01:30 -"},
		{"rate from its start", "rate(2 hours)", "", "2026-03-28T12:00", "2026-03-29T00:30", "", "03-29T00:30 03-29T02:30"},
		{"rate from a start that has passed", "rate(2 hours)", "", "2026-03-28T12:00", "2026-03-28T09:30", "", "03-28T13:30 03-28T15:30"},
		{"rate to its end", "rate(2 hours)", "", "2026-03-28T12:00", "", "2026-03-28T16:00", "03-28T12:00 03-28T14:00 03-28T16:00 -"},
		{"cron between start and end", "cron(0 * * * ? *)", "", "2026-03-28T12:00", "2026-03-28T14:00", "2026-03-28T15:59", "03-28T14:00 03-28T15:00 -"},
		{"years", "cron(0 0 29 2 ? 2027-2032)", "", "2026-03-28T12:00", "", "", "02-29T00:00 02-29T00:00 -"},
		{"the last Friday", "cron(0 9 ? * 6L *)", "Europe/Berlin", "2026-03-01T00:00", "", "", "03-27T08:00 04-24T07:00"},
		{"the nearest weekday", "cron(0 9 15W * ? *)", "", "2026-03-01T00:00", "", "", "03-16T09:00 04-15T09:00 05-15T09:00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			created := instant(t, tt.created)
			s := &Schedule{ID: "x", Expression: tt.expression, Timezone: tt.zone, Origin: created, Since: created.Add(-1)}
			if tt.start != "" {
				at := instant(t, tt.start)
				s.Start = &at
			}
			if tt.end != "" {
				at := instant(t, tt.end)
				s.End = &at
			}
			a, err := zones{}.scheduleAgenda(s)
			if err != nil {
				t.Fatal(err)
			}
			at := time.Time{}
			for i, want := range strings.Fields(tt.want) {
				next, ok := a.after(at)
				got := "-"
				if ok {
					got = next.Format("01-02T15:04")
				}
				if got != want {
					t.Fatalf("slot %d: %s, want %s", i, got, want)
				}
				if !ok {
					break
				}
				if last, ok := a.latest(next); !ok || !last.Equal(next) {
					t.Errorf("at %s the latest is %s", next, last)
				}
				if last, ok := a.latest(next.Add(-time.Second)); ok != (i > 0) || ok && !last.Equal(at) {
					t.Errorf("before %s the latest is %s, %v, want %s", next, last, ok, at)
				}
				at = next
			}
		})
	}
}

// TestFlexibleWindow shifts all slots of a schedule by the same time, which lies within the window.
func TestFlexibleWindow(t *testing.T) {
	shifts := map[time.Duration]bool{}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		s := &Schedule{ID: id, Expression: "cron(0 * * * ? *)", Window: 15, Origin: begin, Since: begin}
		a, err := zones{}.scheduleAgenda(s)
		if err != nil {
			t.Fatal(err)
		}
		if a.shift < 0 || a.shift >= 15*time.Minute {
			t.Errorf("shift %s", a.shift)
		}
		shifts[a.shift] = true
		slot := begin.Add(time.Hour)
		if due, ok := a.due(slot.Add(a.shift)); !ok || !due.Equal(slot) {
			t.Errorf("due %s, %v", due, ok)
		}
		if due, ok := a.due(slot.Add(a.shift - 1)); ok {
			t.Errorf("due %s too early", due)
		}
		if next, ok := a.next(begin); !ok || !next.Equal(slot) {
			t.Errorf("next %s, %v", next, ok)
		}
	}
	if len(shifts) < 2 {
		t.Errorf("all have %v", shifts)
	}
}

// TestProgress fires slots in one order and another: what was fired is fired, and what was not is not, however many there
// are.
func TestProgress(t *testing.T) {
	a, err := zones{}.newAgenda("rate(1 minute)", "")
	if err != nil {
		t.Fatal(err)
	}
	a.origin, a.since, a.first = begin, begin.Add(-1), true
	slot := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Minute) }
	for _, order := range [][]int{{0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {0, 2, 4, 1, 3}, {0, 1, 10, 11, 2, 3}, {5, 5, 6}} {
		p := &progress{}
		for i, n := range order {
			p.add(slot(n), a)
			for m := range 15 {
				if got, want := p.fired(slot(m)), slices.Contains(order[:i+1], m); got != want {
					t.Errorf("%v: slot %d is fired: %v", order[:i+1], m, got)
				}
			}
		}
		if slices.Equal(slices.Sorted(slices.Values(order)), []int{0, 1, 2, 3, 4}) && len(p.Spans) != 1 {
			t.Errorf("%v: %v", order, p.Spans)
		}
	}
	p := &progress{}
	for i := range 100 {
		p.add(slot(i*2), a)
	}
	if len(p.Spans) != maxSpans || !p.fired(slot(0)) || !p.fired(slot(198)) || p.fired(slot(197)) || p.fired(slot(199)) {
		t.Errorf("%v", p.Spans)
	}
}
