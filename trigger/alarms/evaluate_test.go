package alarms

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

// values reads the datapoints of AWS's tables: the newest is on the right, 0 does not breach, X does, - is missing.
func values(text string) []Point {
	marks := strings.Fields(text)
	points := make([]Point, len(marks))
	for i, mark := range marks {
		v := map[string]float64{"0": 1, "X": 9, "-": math.NaN()}[mark]
		points[len(marks)-1-i] = Point{At: int64(i) * 300, Value: v}
	}
	return points
}

// TestMissingData has the tables of AWS's page "Configuring how CloudWatch alarms treat missing data", and what its text says
// besides. "" stands for the state that the alarm is in.
func TestMissingData(t *testing.T) {
	for _, tt := range []struct {
		m, n                                  int
		points                                string
		filled                                int
		missing, ignore, breaching, notBreach State
	}{
		{3, 3, "0 - X - X", 0, OK, OK, OK, OK},
		{3, 3, "0 - - - -", 2, OK, OK, OK, OK},
		{3, 3, "- - - - -", 3, Insufficient, "", InAlarm, OK},
		{3, 3, "0 X X - X", 0, InAlarm, InAlarm, InAlarm, InAlarm},
		{3, 3, "- - X - -", 2, InAlarm, "", InAlarm, OK},
		// In the text: not at once, and not when a good one follows.
		{3, 3, "- - - - X", 2, OK, "", InAlarm, OK},
		{3, 3, "- - - X -", 2, OK, "", InAlarm, OK},
		{3, 3, "- - - X 0", 1, OK, OK, OK, OK},
		{3, 3, "- - X - 0", 1, OK, OK, OK, OK},
		// 2 out of 3.
		{2, 3, "0 - X - X", 0, InAlarm, InAlarm, InAlarm, InAlarm},
		{2, 3, "0 0 X 0 X", 0, InAlarm, InAlarm, InAlarm, InAlarm},
		{2, 3, "0 - X - -", 1, OK, OK, InAlarm, OK},
		{2, 3, "- - - - 0", 2, OK, OK, InAlarm, OK},
		{2, 3, "- - - X -", 2, InAlarm, "", InAlarm, OK},
		// What the newest N decide, the older ones in the range do not change.
		{3, 3, "X X X X 0", 0, OK, OK, OK, OK},
		{3, 3, "0 0 X X X", 0, InAlarm, InAlarm, InAlarm, InAlarm},
		{1, 1, "X X 0", 0, OK, OK, OK, OK},
		{1, 1, "- - X", 0, InAlarm, InAlarm, InAlarm, InAlarm},
		// The last value counts until it has left the range.
		{1, 1, "X - -", 0, InAlarm, InAlarm, InAlarm, InAlarm},
		{1, 1, "0 - -", 0, OK, OK, OK, OK},
		{1, 1, "- - -", 1, Insufficient, "", InAlarm, OK},
		// Enough real ones breach, whatever is missing.
		{1, 3, "0 - - - X", 1, InAlarm, InAlarm, InAlarm, InAlarm},
	} {
		for treatment, want := range map[string]State{
			"": tt.missing, TreatMissing: tt.missing, TreatIgnore: tt.ignore, TreatBreaching: tt.breaching, TreatNotBreaching: tt.notBreach,
		} {
			m := &Metric{Evaluation: tt.n, Datapoints: tt.m, Threshold: 5, Comparison: "GreaterThanThreshold", Missing: treatment, Queries: []Query{{Period: 300, Stat: "Average"}}}
			v := m.judge(values(tt.points))
			got := v.state
			if v.keep {
				got = ""
			}
			if got != want || v.filled != tt.filled {
				t.Errorf("%d out of %d, %q, %s: %q with %d filled, want %q with %d", tt.m, tt.n, tt.points, treatment, got, v.filled, want, tt.filled)
			}
		}
	}
}

func TestComparisons(t *testing.T) {
	for comparison, want := range map[string][3]bool{ // of less, equal, greater
		"GreaterThanThreshold":          {false, false, true},
		"GreaterThanOrEqualToThreshold": {false, true, true},
		"LessThanThreshold":             {true, false, false},
		"LessThanOrEqualToThreshold":    {true, true, false},
	} {
		m := &Metric{Comparison: comparison, Threshold: 5}
		if got := [3]bool{m.breaches(4), m.breaches(5), m.breaches(6)}; got != want {
			t.Errorf("%s: %v", comparison, got)
		}
	}
}

// TestReasons has texts of CloudWatch that are on record.
func TestReasons(t *testing.T) {
	at := func(s string) int64 {
		when, err := time.Parse(pointFormat, s)
		if err != nil {
			t.Fatal(err)
		}
		return when.Unix()
	}
	nan := math.NaN()
	for _, tt := range []struct {
		m, n       int
		threshold  float64
		comparison string
		missing    string
		points     []Point
		want       string
	}{
		{0, 1, 50, "GreaterThanThreshold", "", []Point{{at("02/10/19 16:59:00"), 99.50160229693434}}, "Threshold Crossed: 1 out of the last 1 datapoints [99.50160229693434 (02/10/19 16:59:00)] was greater than the threshold (50.0) (minimum 1 datapoint for OK -> ALARM transition)."},
		{0, 1, 50, "GreaterThanThreshold", "", []Point{{at("01/10/19 13:46:00"), 0.0666851903306472}}, "Threshold Crossed: 1 out of the last 1 datapoints [0.0666851903306472 (01/10/19 13:46:00)] was not greater than the threshold (50.0) (minimum 1 datapoint for ALARM -> OK transition)."},
		{2, 3, 5, "GreaterThanOrEqualToThreshold", "", []Point{{at("01/10/19 13:48:00"), 7}, {at("01/10/19 13:47:00"), 1}, {at("01/10/19 13:46:00"), 5}}, "Threshold Crossed: 2 out of the last 3 datapoints [7.0 (01/10/19 13:48:00), 5.0 (01/10/19 13:46:00)] were greater than or equal to the threshold (5.0) (minimum 2 datapoints for OK -> ALARM transition)."},
		{0, 1, 1, "GreaterThanThreshold", TreatBreaching, []Point{{0, nan}}, "Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint was treated as [Breaching]."},
		{0, 2, 1, "GreaterThanThreshold", TreatBreaching, []Point{{0, nan}, {0, nan}}, "Threshold Crossed: no datapoints were received for 2 periods and 2 missing datapoints were treated as [Breaching]."},
		{0, 1, 1, "GreaterThanThreshold", TreatNotBreaching, []Point{{0, nan}}, "Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint was treated as [NonBreaching]."},
		{0, 2, 1, "LessThanThreshold", TreatBreaching, []Point{{at("20/04/26 18:45:00"), 0}, {0, nan}}, "Threshold Crossed: 1 datapoint [0.0 (20/04/26 18:45:00)] was less than the threshold (1.0) and 1 missing datapoint was treated as [Breaching]."},
		{0, 2, 1, "GreaterThanOrEqualToThreshold", TreatBreaching, []Point{{at("03/08/26 11:42:00"), 0}, {0, nan}}, "Threshold Crossed: 1 datapoint [0.0 (03/08/26 11:42:00)] was not greater than or equal to the threshold (1.0) and 1 missing datapoint was treated as [Breaching]."},
		{0, 5, 1, "GreaterThanThreshold", "", []Point{{0, nan}, {0, nan}}, "Insufficient Data: 5 datapoints were unknown."},
		{0, 1, 1, "GreaterThanThreshold", "", []Point{{0, nan}}, "Insufficient Data: 1 datapoint was unknown."},
	} {
		m := &Metric{Evaluation: tt.n, Datapoints: tt.m, Threshold: tt.threshold, Comparison: tt.comparison, Missing: tt.missing, Queries: []Query{{Period: 60, Stat: "Average"}}}
		v := m.judge(tt.points)
		if got := m.reason(&v); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func TestReasonData(t *testing.T) {
	m := &Metric{Evaluation: 5, Threshold: 5, Comparison: "GreaterThanThreshold", Queries: []Query{{Period: 60, Stat: "Average"}}}
	looked := make([]Point, 5)
	for i := range looked {
		looked[i] = Point{At: time.Date(2023, 8, 4, 12, 30-i, 0, 0, time.UTC).Unix(), Value: math.NaN()}
	}
	v := m.judge(looked)
	now := time.Date(2023, 8, 4, 12, 31, 29, 591e6, time.UTC)
	// AWS's example of what a function gets.
	want := `{"version":"1.0","queryDate":"2023-08-04T12:31:29.591+0000","statistic":"Average","period":60,"recentDatapoints":[],"threshold":5.0,"evaluatedDatapoints":[{"timestamp":"2023-08-04T12:30:00.000+0000"},{"timestamp":"2023-08-04T12:29:00.000+0000"},{"timestamp":"2023-08-04T12:28:00.000+0000"},{"timestamp":"2023-08-04T12:27:00.000+0000"},{"timestamp":"2023-08-04T12:26:00.000+0000"}]}`
	if got := m.reasonData(&v, now, looked); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	m.Evaluation = 1440
	many := make([]Point, 1440)
	for i := range many {
		many[i] = Point{At: int64(1e9 - 60*i), Value: 1e300 / 3}
	}
	v = m.judge(many)
	if data, reason := m.reasonData(&v, now, many), m.reason(&v); !json.Valid([]byte(data)) || len(data) > 4000 || len(reason) > 1023 {
		t.Errorf("%d and %d bytes: %s", len(data), len(reason), data)
	}
}

func TestDecimal(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.0", 50: "50.0", 0.1: "0.1", 1e7: "1.0E7", 12345678.5: "1.23456785E7", 1e-4: "1.0E-4", 0.001: "0.001", -2.5: "-2.5", 9999999: "9999999.0", 1e100: "1.0E100",
	} {
		if got := decimal(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestEnough(t *testing.T) {
	for p, want := range map[float64]float64{99: 1000, 50: 20, 10: 100, 0: 0, 100: 0} {
		if got := enough(p); math.Abs(got-want) > 1e-6 {
			t.Errorf("p%v: %v, want %v", p, got, want)
		}
	}
}

// TestEnds has when alarms are evaluated: by minutes, by ten seconds, by hours.
func TestEnds(t *testing.T) {
	at := time.Date(2026, 3, 2, 12, 34, 56, 0, time.UTC)
	for _, tt := range []struct {
		period, n int
		want      string
	}{
		{60, 1, "12:34:00"}, {300, 1, "12:34:00"}, {10, 1, "12:34:50"}, {30, 3, "12:34:50"},
		{3600, 24, "12:34:00"}, {3600, 25, "12:00:00"}, {86400, 1, "12:34:00"}, {86400, 2, "12:00:00"},
	} {
		m := &Metric{Evaluation: tt.n, Queries: []Query{{Period: tt.period}}}
		if got := time.Unix(m.lastEnd(at), 0).UTC().Format(time.TimeOnly); got != tt.want {
			t.Errorf("%d of %ds: until %s, want %s", tt.n, tt.period, got, tt.want)
		}
	}
}
