package alarms

import "math"

// Point is a value of what an alarm watches. Its time is the beginning of its period.
type Point struct {
	At    int64 // seconds since 1970
	Value float64
}

// spare is how many periods before the N that count the evaluation range has: AWS's page "Configuring how CloudWatch alarms
// treat missing data" has a range of 5 for N of 3, and says that it depends on the period in other cases, but not how.
const spare = 2

// verdict is what a metric alarm's datapoints say.
type verdict struct {
	state State
	// keep says that the alarm stays in the state that it is in.
	keep bool
	// used are the datapoints that were judged, the newest first, and filled the number of missing ones that were counted
	// besides.
	used   []Point
	filled int
}

// breaches compares a value to the threshold.
func (m *Metric) breaches(v float64) bool {
	switch m.Comparison {
	case "GreaterThanOrEqualToThreshold":
		return v >= m.Threshold
	case "GreaterThanThreshold":
		return v > m.Threshold
	case "LessThanThreshold":
		return v < m.Threshold
	case "LessThanOrEqualToThreshold":
		return v <= m.Threshold
	}
	return false
}

// judge applies the rules of AWS's page "Configuring how CloudWatch alarms treat missing data" to the datapoints of the
// evaluation range, the newest first; NaN stands for a missing one.
//
// With N or more real datapoints the newest N of them decide. With fewer, missing ones are filled in as TreatMissingData says.
// What the page calls avoiding premature transitions is the rule for missing and ignore where all real datapoints breach and
// are fewer than M: with the oldest of them at least M periods old, missing is ALARM. Its tables say besides that one that does
// not breach, anywhere in the range, takes the rule out of force, and that ignore keeps the state.
func (m *Metric) judge(values []Point) verdict {
	var v verdict
	breaching, oldest := 0, 0
	for i, p := range values {
		if math.IsNaN(p.Value) || len(v.used) == m.Evaluation {
			continue
		}
		v.used = append(v.used, p)
		oldest = i + 1
		if m.breaches(p.Value) {
			breaching++
		}
	}
	v.filled = m.Evaluation - len(v.used)
	v.state = OK
	switch {
	case breaching >= m.M():
		v.state = InAlarm
	case v.filled == 0:
	case m.Missing == TreatBreaching:
		if breaching+v.filled >= m.M() {
			v.state = InAlarm
		}
	case m.Missing == TreatNotBreaching, breaching < len(v.used):
	case m.Missing == TreatIgnore:
		v.keep = true
	case len(v.used) == 0:
		v.state = Insufficient
	case oldest >= m.M():
		v.state = InAlarm
	}
	return v
}

// enough is how many values a percentile needs to say something, after AWS's page "Percentile-based alarms and low data
// samples"; 0 where p is no percentile between 0 and 100.
func enough(p float64) float64 {
	switch {
	case p <= 0 || p >= 100:
		return 0
	case p < 50:
		return 10 / (p / 100)
	default:
		return 10 / (1 - p/100)
	}
}
