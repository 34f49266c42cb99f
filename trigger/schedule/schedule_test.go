package schedule

import (
	"strings"
	"testing"
	"time"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func TestNext(t *testing.T) {
	for _, tt := range []struct {
		expr, zone, after string
		want              string // the times that follow, in turn; a dash is the end
	}{
		// The examples of AWS's page.
		{"cron(0 10 * * ? *)", "UTC", "2026-03-01T10:00:00Z", "2026-03-02T10:00:00Z 2026-03-03T10:00:00Z"},
		{"cron(15 12 * * ? *)", "UTC", "2026-02-28T12:15:00Z", "2026-03-01T12:15:00Z"},
		{"cron(0 18 ? * MON-FRI *)", "UTC", "2026-01-02T18:00:00Z", "2026-01-05T18:00:00Z 2026-01-06T18:00:00Z"},
		{"cron(0 8 1 * ? *)", "UTC", "2026-01-01T08:00:00Z", "2026-02-01T08:00:00Z"},
		{"cron(0/15 * * * ? *)", "UTC", "2026-01-01T23:44:59Z", "2026-01-01T23:45:00Z 2026-01-02T00:00:00Z"},
		{"cron(0/10 * ? * MON-FRI *)", "UTC", "2026-01-02T23:50:00Z", "2026-01-05T00:00:00Z"},
		{"cron(0/5 8-17 ? * MON-FRI *)", "UTC", "2026-01-02T17:55:00Z", "2026-01-05T08:00:00Z"},
		{"cron(15 10 ? * 6L 2022-2026)", "UTC", "2026-11-01T00:00:00Z", "2026-11-27T10:15:00Z 2026-12-25T10:15:00Z -"},
		{"cron(0 0 ? * 3#2 *)", "UTC", "2026-01-01T00:00:00Z", "2026-01-13T00:00:00Z 2026-02-10T00:00:00Z"},
		{"cron(0 0 3W * ? *)", "UTC", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z 2026-02-03T00:00:00Z"},

		// Fields.
		{"cron(1/10 5 * * ? *)", "UTC", "2026-01-01T05:11:00Z", "2026-01-01T05:21:00Z 2026-01-01T05:31:00Z"},
		{"cron(0 0/6 * * ? *)", "UTC", "2026-01-01T06:00:00Z", "2026-01-01T12:00:00Z"},
		{"cron(0 22-2 * * ? *)", "UTC", "2026-01-01T22:00:00Z", "2026-01-01T23:00:00Z 2026-01-02T00:00:00Z 2026-01-02T01:00:00Z 2026-01-02T02:00:00Z 2026-01-02T22:00:00Z"},
		{"cron(0 0 ? * FRI-MON *)", "UTC", "2026-01-05T00:00:00Z", "2026-01-09T00:00:00Z 2026-01-10T00:00:00Z 2026-01-11T00:00:00Z 2026-01-12T00:00:00Z 2026-01-16T00:00:00Z"},
		{"cron(0 0 ? * sun,Tue *)", "UTC", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z 2026-01-06T00:00:00Z"},
		{"cron(0 0 1,15 jan,MAR/6 ? 2027,2029)", "UTC", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z 2027-01-15T00:00:00Z 2027-03-01T00:00:00Z 2027-03-15T00:00:00Z 2027-09-01T00:00:00Z 2027-09-15T00:00:00Z 2029-01-01T00:00:00Z"},
		{"cron(0 0 1 1 ? 2020/5)", "UTC", "2026-01-01T00:00:00Z", "2030-01-01T00:00:00Z"},
		{"cron( 0  0 1\t1 ? 2199 )", "UTC", "1900-05-06T07:08:09Z", "2199-01-01T00:00:00Z -"},
		{"cron(0 0 * * ? *)", "UTC", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z"},
		{"cron(0 0 L * ? *)", "UTC", "2028-01-31T00:00:00Z", "2028-02-29T00:00:00Z 2028-03-31T00:00:00Z"},
		{"cron(0 0 LW * ? *)", "UTC", "2026-01-01T00:00:00Z", "2026-01-30T00:00:00Z 2026-02-27T00:00:00Z 2026-03-31T00:00:00Z"},
		{"cron(0 0 1W * ? *)", "UTC", "2026-07-31T00:00:00Z", "2026-08-03T00:00:00Z 2026-09-01T00:00:00Z"},
		{"cron(0 0 31W * ? *)", "UTC", "2026-05-01T00:00:00Z", "2026-05-29T00:00:00Z 2026-07-31T00:00:00Z"},
		{"cron(0 0 31 * ? *)", "UTC", "2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"},
		{"cron(0 0 ? * L *)", "UTC", "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z 2026-01-10T00:00:00Z"},
		{"cron(0 0 ? * FRIL *)", "UTC", "2026-01-01T00:00:00Z", "2026-01-30T00:00:00Z"},
		{"cron(0 0 ? * 5#5 *)", "UTC", "2026-01-01T00:00:00Z", "2026-01-29T00:00:00Z 2026-04-30T00:00:00Z"},
		{"cron(0 0 29 2 ? *)", "UTC", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"},
		{"cron(0 0 30 2 ? *)", "UTC", "2026-01-01T00:00:00Z", "-"},
		{"cron(0 0 29 FEB ? 2027)", "UTC", "2026-01-01T00:00:00Z", "-"},
		{"cron(0 0 * * ? 2020)", "UTC", "2026-01-01T00:00:00Z", "-"},

		// Zones.
		{"cron(0 9 * * ? *)", "America/New_York", "2026-03-07T12:00:00Z", "2026-03-07T14:00:00Z 2026-03-08T13:00:00Z"},
		{"cron(30 2 * * ? *)", "Europe/Berlin", "2026-03-28T00:00:00Z", "2026-03-28T01:30:00Z 2026-03-30T00:30:00Z"},                                             // not on the 29th
		{"cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z 2026-10-26T01:30:00Z"},                                             // once on the 25th
		{"cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-25T01:00:00Z", "2026-10-26T01:30:00Z"},                                                                  // nor when asked in between
		{"cron(0/30 * * * ? *)", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z 2026-10-25T01:00:00Z 2026-10-25T01:30:00Z 2026-10-25T02:00:00Z"}, // every half hour that passes
		{"cron(0/30 0-3 * * ? *)", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z 2026-10-25T02:00:00Z 2026-10-25T02:30:00Z"},                    // by the clock
		{"cron(0/30 * * * ? *)", "Europe/Berlin", "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z 2026-03-29T01:30:00Z"},                                           // on through the change
		{"cron(15 1 * * ? *)", "Australia/Lord_Howe", "2026-04-04T12:00:00Z", "2026-04-04T14:15:00Z 2026-04-05T14:45:00Z"},                                       // half an hour, back at 2:00 to 1:30
		{"cron(45 1 * * ? *)", "Australia/Lord_Howe", "2026-04-04T12:00:00Z", "2026-04-04T14:45:00Z 2026-04-05T15:15:00Z"},                                       // twice 1:45
		{"cron(15 2 * * ? *)", "Australia/Lord_Howe", "2026-10-02T18:00:00Z", "2026-10-04T15:15:00Z"},                                                            // no 2:15 on the 4th
		{"cron(5 1 * * ? *)", "America/St_Johns", "2011-03-13T00:00:00Z", "2011-03-13T03:35:00Z"},                                                                // from 0:01 to 1:01
		{"cron(5 * 28 10 ? *)", "America/St_Johns", "2006-10-29T01:40:00Z", "2006-10-29T02:35:00Z 2007-10-28T02:35:00Z"},                                         // from 0:01 back to 23:01 of the 28th
		{"cron(0 0 * * ? *)", "America/Havana", "2026-10-31T12:00:00Z", "2026-11-01T04:00:00Z 2026-11-02T05:00:00Z"},                                             // the day begins twice
		{"cron(0 0 * * ? *)", "Africa/Cairo", "2026-04-22T23:00:00Z", "2026-04-24T21:00:00Z"},                                                                    // the day begins at 1:00
		{"cron(0 1 * * ? *)", "Africa/Cairo", "2026-04-23T20:00:00Z", "2026-04-23T22:00:00Z"},                                                                    //
		{"cron(0 12 30 12 ? *)", "Pacific/Apia", "2011-01-01T00:00:00Z", "2012-12-29T22:00:00Z"},                                                                 // a day that was left out
		{"cron(0 12 * 12 ? *)", "Pacific/Apia", "2011-12-29T00:00:00Z", "2011-12-29T22:00:00Z 2011-12-30T22:00:00Z"},

		{"rate(1 minute)", "UTC", "2026-01-01T00:00:07Z", "2026-01-01T00:01:07Z 2026-01-01T00:02:07Z"},
		{"rate(12 hours)", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T12:00:00Z"},
		{"rate(1 days)", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"},

		{"at(2026-03-29T12:00:00)", "UTC", "2026-03-29T11:59:59Z", "2026-03-29T12:00:00Z -"},
		{"at(2026-03-29T12:00:00)", "America/New_York", "2026-01-01T00:00:00Z", "2026-03-29T16:00:00Z -"},
		{"at(2026-03-29T02:30:00)", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-03-29T01:30:00Z -"}, // 3:30, as there is no 2:30
		{"at(2026-10-25T02:30:00)", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-10-25T00:30:00Z -"}, // the first
	} {
		t.Run(tt.expr+" "+tt.zone, func(t *testing.T) {
			s, err := Parse(tt.expr)
			if err != nil {
				t.Fatal(err)
			}
			loc := zone(t, tt.zone)
			after, err := time.Parse(time.RFC3339, tt.after)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range strings.Fields(tt.want) {
				next, ok := s.Next(after, loc)
				got := "-"
				if ok {
					got = next.UTC().Format(time.RFC3339)
				}
				if got != want {
					t.Fatalf("after %s: %s, want %s", after.UTC().Format(time.RFC3339), got, want)
				}
				after = next
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for expr, want := range map[string]string{
		"":                           "is none of cron",
		"0 10 * * ? *":               "is none of cron",
		"cron(0 10 * * ? *":          "is none of cron",
		"Cron(0 10 * * ? *)":         "is none of cron",
		"every(5 minutes)":           "is none of cron",
		"cron(0 10 * * ?)":           "6 fields",
		"cron(0 0 10 * * ? *)":       "6 fields",
		"cron(60 10 * * ? *)":        `minutes: "60" is not in 0-59`,
		"cron(-1 10 * * ? *)":        "minutes",
		"cron(0 24 * * ? *)":         "hours",
		"cron(0 10 32 * ? *)":        "day-of-month",
		"cron(0 10 0 * ? *)":         "day-of-month",
		"cron(0 10 * 13 ? *)":        "month",
		"cron(0 10 * JUNE ? *)":      "month",
		"cron(0 10 ? * 0 *)":         "day-of-week",
		"cron(0 10 ? * 8 *)":         "day-of-week",
		"cron(0 10 * * ? 1969)":      "year",
		"cron(0 10 * * ? 2200)":      "year",
		"cron(0 10 * * * *)":         "one of them must be ?",
		"cron(0 10 1 * 2 *)":         "one of them must be ?",
		"cron(0 10 ? * ? *)":         "not both",
		"cron(? 10 * * ? *)":         "minutes",
		"cron(0 10 15-1 * ? *)":      "begins after its end",
		"cron(0 10 * * ? 2030-2026)": "begins after its end",
		"cron(*/0 10 * * ? *)":       "step",
		"cron(*/60 10 * * ? *)":      "step",
		"cron(/5 10 * * ? *)":        "minutes",
		"cron(1, 10 * * ? *)":        "minutes",
		"cron(+1 10 * * ? *)":        "minutes",
		"cron(0 10 L-3 * ? *)":       "day-of-month",
		"cron(0 10 W * ? *)":         "day-of-month",
		"cron(0 10 ? * 3W *)":        "day-of-week",
		"cron(0 10 ? * 3#6 *)":       "after #",
		"cron(0 10 ? * 3#1,6#3 *)":   "after #",
		"cron(0 L * * ? *)":          "hours",
		"rate(0 minutes)":            "positive integer",
		"rate(-1 minutes)":           "positive integer",
		"rate(1.5 hours)":            "positive integer",
		"rate(5 seconds)":            "unit",
		"rate(5 minutess)":           "unit",
		"rate(5)":                    "a value and a unit",
		"rate( 5 minutes )":          "a value and a unit",
		"rate(5  minutes)":           "a value and a unit",
		"rate(36501 days)":           "100 years",
		"at(2026-03-29)":             "yyyy-mm-ddThh:mm:ss",
		"at(2026-02-30T00:00:00)":    "yyyy-mm-ddThh:mm:ss",
		"at(2026-03-29T12:00:00Z)":   "yyyy-mm-ddThh:mm:ss",
		"at(2026-03-29T12:00:00.5)":  "yyyy-mm-ddThh:mm:ss",
	} {
		if _, err := Parse(expr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", expr, err, want)
		}
	}
}

func TestCheckRule(t *testing.T) {
	for expr, want := range map[string]bool{
		// Taken by EventBridge.
		"cron(0 2 ? * SAT *)": true, "cron(5,35 14 * * ? *)": true, "cron(15 10 ? * 6L 2002-2005)": true, "cron(0 2 ? * SAT#3 *)": true,
		"cron(* * ? * SAT#3 *)": true, "cron(0/5 5 ? JAN 1-5 2022)": true, "cron(0/30 20-23 ? * MON-FRI *)": true, "cron(0 9 LW * ? *)": true,
		"rate(1 minute)": true, "rate(1 hour)": true, "rate(1 day)": true, "rate(2 minutes)": true, "rate(12 hours)": true, "rate(7 days)": true,
		// Refused by EventBridge.
		"cron(0 1 * * * *)": false, "cron(7 20 * * NOT *)": false, "cron(INVALID)": false, "cron(0 dummy ? * MON-FRI *)": false, "cron(71 8 1 * ? *)": false,
		"cron()": false, "rate(10 seconds)": false, "rate(10 years)": false, "rate(1 minutes)": false, "rate(1 hours)": false, "rate(1 days)": false,
		"rate(10 minute)": false, "rate(10 hour)": false, "rate(10 day)": false, "rate()": false, "rate(10)": false, "rate(10 minutess)": false,
		"rate(foo minutes)": false, "rate(0 minutes)": false, "rate(-10 minutes)": false, "rate(10 MINUTES)": false, "rate( 10 minutes )": false,
		" rate(10 minutes)": false, "at(2030-01-01T00:00:00)": false, "": false,
	} {
		if err := CheckRule(expr); (err == nil) != want {
			t.Errorf("%s: %v", expr, err)
		}
	}
}

func TestLatest(t *testing.T) {
	for _, tt := range []struct{ expr, after, until, want string }{
		{"cron(* * * * ? *)", "2000-01-01T00:00:00Z", "2026-01-01T00:00:30Z", "2026-01-01T00:00:00Z"},
		{"cron(0 8 1 1 ? *)", "2000-01-01T00:00:00Z", "2026-01-01T00:00:30Z", "2025-01-01T08:00:00Z"},
		{"cron(0 8 1 1 ? 2001)", "2000-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2001-01-01T08:00:00Z"},
		{"cron(0 8 * * ? *)", "2026-01-01T08:00:00Z", "2026-01-02T07:59:59Z", ""},
		{"cron(0 8 * * ? *)", "2026-01-01T08:00:00Z", "2026-01-02T08:00:00Z", "2026-01-02T08:00:00Z"},
		{"cron(0 8 * * ? *)", "2026-01-02T08:00:00Z", "2026-01-01T08:00:00Z", ""},
		{"rate(7 minutes)", "2026-01-01T00:00:00Z", "2026-01-01T00:30:00Z", "2026-01-01T00:28:00Z"},
		{"rate(7 minutes)", "2026-01-01T00:00:00Z", "2026-01-01T00:06:59Z", ""},
		{"rate(7 minutes)", "2026-01-01T00:00:00Z", "2025-01-01T00:00:00Z", ""},
		{"at(2026-01-01T00:00:00)", "2025-12-31T00:00:00Z", "2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z"},
		{"at(2026-01-01T00:00:00)", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", ""},
	} {
		s, err := Parse(tt.expr)
		if err != nil {
			t.Fatal(err)
		}
		after, _ := time.Parse(time.RFC3339, tt.after)
		until, _ := time.Parse(time.RFC3339, tt.until)
		got := ""
		if last, ok := Latest(s, after, until, time.UTC); ok {
			got = last.Format(time.RFC3339)
		}
		if got != tt.want {
			t.Errorf("%s in (%s, %s]: %s, want %s", tt.expr, tt.after, tt.until, got, tt.want)
		}
	}
}

// fits tells in another way than Next whether c is due at t: from the clock alone.
func fits(c *cron, t time.Time, seen map[string]bool) bool {
	clock := t.Format("2006-01-02 15:04")
	again := seen[clock]
	seen[clock] = true
	year, month, day := t.Date()
	return c.minutes>>t.Minute()&1 == 1 && c.hours>>t.Hour()&1 == 1 && c.months>>month&1 == 1 &&
		(c.years == nil || c.years[year]) && c.days.in(year, month)>>day&1 == 1 && (!again || c.hours == every(24))
}

// FuzzNext compares Next with a look at every minute, around changes of offsets.
func FuzzNext(f *testing.F) {
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Africa/Cairo", "Pacific/Apia", "Asia/Kathmandu", "America/St_Johns"}
	for i, start := range []int64{1774742400, 1792800000, 1793500000, 1775300000, 1325100000, 1776900000, 1299988800, 1162080000} {
		for j := range zones {
			f.Add("cron(30 2 * * ? *)", start, uint8(j))
			f.Add("cron(0/7 * * * ? *)", start, uint8(i+j))
			f.Add("cron(15 0-3 ? * MON-FRI *)", start, uint8(j))
		}
	}
	f.Add("cron(0 0 LW,3W,L,5 2/3 ? 2020-2030/2)", int64(1774742400), uint8(0))
	f.Add("cron(0 0 ? * 2#5 *)", int64(1774742400), uint8(1))
	f.Add("cron(*/5 22-2 ? * L,FRIL,SUN/3 *)", int64(1774742400), uint8(2))
	f.Add("rate(5 minutes)", int64(0), uint8(0))
	f.Add("at(2026-03-29T02:30:00)", int64(1774742400), uint8(1))
	f.Fuzz(func(t *testing.T, expr string, start int64, z uint8) {
		s, err := Parse(expr)
		if err != nil {
			return
		}
		loc := zone(t, zones[int(z)%len(zones)])
		after := time.Unix(start%(7e9), 0)
		next, ok := s.Next(after, loc)
		if ok && !next.After(after) {
			t.Fatalf("%s after %s: %s", expr, after, next)
		}
		c, isCron := s.(*cron)
		if !isCron || after.Year() < 1971 || after.Year() > 2190 {
			return
		}
		seen := map[string]bool{}
		for at := after.Truncate(time.Minute).Add(-24 * time.Hour); at.Before(after.Add(36 * time.Hour)); at = at.Add(time.Minute) {
			due := fits(c, at.In(loc), seen)
			if !at.After(after) {
				continue
			}
			if due {
				if !ok || !next.Equal(at) {
					t.Fatalf("%s in %s after %s: %s, want %s", expr, loc, after.In(loc), next, at.In(loc))
				}
				return
			}
			if ok && next.Equal(at) {
				t.Fatalf("%s in %s after %s: %s, which does not fit", expr, loc, after.In(loc), next)
			}
		}
	})
}

func BenchmarkNext(b *testing.B) {
	for _, expr := range []string{"cron(0/5 * * * ? *)", "cron(0 8 ? * 2#1 *)", "cron(0 0 29 2 ? *)", "cron(0 0 30 2 ? *)"} {
		b.Run(expr, func(b *testing.B) {
			s, _ := Parse(expr)
			loc, after := zone(b, "Europe/Berlin"), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			for b.Loop() {
				s.Next(after, loc)
			}
		})
	}
}

func TestZone(t *testing.T) {
	for name, want := range map[string]string{"": "UTC", "UTC": "UTC", "Etc/GMT+9": "Etc/GMT+9", "Pacific/Tahiti": "Pacific/Tahiti"} {
		if loc, err := Zone(name); err != nil || loc.String() != want {
			t.Errorf("%q: %v, %v", name, loc, err)
		}
	}
	for _, name := range []string{"Local", "Mars/Olympus", "../etc/passwd", "/etc/localtime"} {
		if _, err := Zone(name); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
}
