package metrics

import (
	"math"
	"strings"
	"time"

	"thaw"
)

// MaxValue is 2^360, the largest value, and its negative the smallest (CloudWatch, MetricDatum, Value).
const MaxValue = 1 << 360

// maxDimensions is CloudWatch's own bound.
const maxDimensions = 30

// check refuses what cannot be kept. What a service refuses in its own words, it refuses before.
func (d *Datum) check(now time.Time) error {
	if d.Namespace == "" || d.Name == "" {
		return bad("A metric needs a namespace and a name.")
	}
	if d.Namespace == NamespaceThaw || d.Namespace == NamespaceLambda {
		return bad("The namespace %s is the platform's own. Use another.", d.Namespace)
	}
	if strings.Contains(d.Namespace, "\x00") || strings.Contains(d.Name, "\x00") {
		return bad("The name of a metric or its namespace contains a zero.")
	}
	if len(d.Dimensions) > maxDimensions {
		return bad("The metric %s has %d dimensions; it can have %d.", d.Name, len(d.Dimensions), maxDimensions)
	}
	for i, dim := range d.Dimensions {
		if dim.Name == "" || dim.Value == "" {
			return bad("A dimension of the metric %s has no name or no value.", d.Name)
		}
		if strings.Contains(dim.Name, "\x00") || strings.Contains(dim.Value, "\x00") {
			return bad("A dimension of the metric %s contains a zero.", d.Name)
		}
		for _, other := range d.Dimensions[:i] {
			if other.Name == dim.Name {
				return bad("The metric %s has the dimension %s twice.", d.Name, dim.Name)
			}
		}
	}
	if d.Resolution != 0 && d.Resolution != 1 && d.Resolution != 60 {
		return bad("The storage resolution of the metric %s must be 1 or 60 seconds.", d.Name)
	}
	if !d.At.IsZero() && (d.At.Before(now.Add(-MaxPast)) || d.At.After(now.Add(MaxFuture))) {
		return bad("The timestamp of a value of the metric %s must not be more than two weeks in the past or two hours in the future.", d.Name)
	}
	if len(d.Counts) > 0 && len(d.Counts) != len(d.Values) {
		return bad("The metric %s has %d counts for %d values.", d.Name, len(d.Counts), len(d.Values))
	}
	if d.Stats == nil && len(d.Values) == 0 {
		return bad("The metric %s has no value.", d.Name)
	}
	for _, v := range d.Values {
		if !(math.Abs(v) <= MaxValue) {
			return bad("A value of the metric %s is not a number from -2^360 to 2^360.", d.Name)
		}
	}
	for _, n := range d.Counts {
		if !(n >= 0 && n <= MaxValue) {
			return bad("A count of the metric %s is not a number from 0.", d.Name)
		}
	}
	return d.Stats.check(d.Name)
}

func (s *StatisticSet) check(name string) error {
	if s == nil {
		return nil
	}
	for _, v := range []float64{s.SampleCount, s.Sum, s.Minimum, s.Maximum} {
		if !(math.Abs(v) <= MaxValue) {
			return bad("A statistic of the metric %s is not a number from -2^360 to 2^360.", name)
		}
	}
	if s.SampleCount < 0 || s.Minimum > s.Maximum {
		return bad("The statistics of the metric %s contradict each other: the minimum is above the maximum, or there are less than no samples.", name)
	}
	return nil
}

func bad(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeInvalidParameterValue, format, args...)
}
