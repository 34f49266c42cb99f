package metricmath

import (
	"math"
	"slices"
)

// value is what an expression gives: a float64, a *series, a list, a text, or a word that only functions take.
type value interface{}

type (
	list []*series
	text string
	word string
)

// series is a time series. Its values are finite.
type series struct {
	label  string
	stat   *Stat // what it is of; nil: it is calculated
	period int64 // seconds
	at     []int64
	values []float64
}

// derived is an empty series that is calculated from s.
func (s *series) derived() *series { return &series{label: s.label, stat: s.stat, period: s.period} }

// add appends a value unless it is none.
func (s *series) add(at int64, v float64) {
	if !math.IsNaN(v) && !math.IsInf(v, 0) {
		s.at = append(s.at, at)
		s.values = append(s.values, v)
	}
}

// mapped applies f to each value.
func (s *series) mapped(f func(at int64, v float64) float64) *series {
	out := s.derived()
	for i, at := range s.at {
		out.add(at, f(at, s.values[i]))
	}
	return out
}

// paired applies f where either has a value. What the other lacks is 0 then, as on AWS.
func paired(a, b *series, f func(x, y float64) float64) *series {
	out := a.derived()
	out.period = max(a.period, b.period)
	for i, j := 0, 0; i < len(a.at) || j < len(b.at); {
		switch {
		case j == len(b.at) || i < len(a.at) && a.at[i] < b.at[j]:
			out.add(a.at[i], f(a.values[i], 0))
			i++
		case i == len(a.at) || a.at[i] > b.at[j]:
			out.add(b.at[j], f(0, b.values[j]))
			j++
		default:
			out.add(a.at[i], f(a.values[i], b.values[j]))
			i++
			j++
		}
	}
	return out
}

// value gives the value at a time.
func (s *series) value(at int64) (v float64, ok bool) {
	i, ok := slices.BinarySearch(s.at, at)
	if !ok {
		return 0, false
	}
	return s.values[i], true
}

// merged gives, for each time that any of the series has a value at, f of the values there.
func merged(all list, f func(values []float64) float64) *series {
	out := &series{}
	var times []int64
	for _, s := range all {
		times = append(times, s.at...)
		out.period = max(out.period, s.period)
	}
	slices.Sort(times)
	next := make([]int, len(all)) // of each series, the first value that is not taken
	var values []float64
	for _, at := range slices.Compact(times) {
		values = values[:0]
		for i, s := range all {
			if next[i] < len(s.at) && s.at[next[i]] == at {
				values = append(values, s.values[next[i]])
				next[i]++
			}
		}
		out.add(at, f(values))
	}
	return out
}

func sumOf(values []float64) float64 {
	total := 0.0
	for _, v := range values {
		total += v
	}
	return total
}

// The summaries of no values are no number.
func averageOf(values []float64) float64 { return sumOf(values) / float64(len(values)) }

func minimumOf(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return slices.Min(values)
}

func maximumOf(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return slices.Max(values)
}

// deviationOf is the standard deviation of all values, not of a sample.
func deviationOf(values []float64) float64 {
	mean, total := averageOf(values), 0.0
	for _, v := range values {
		total += (v - mean) * (v - mean)
	}
	return math.Sqrt(total / float64(len(values)))
}
