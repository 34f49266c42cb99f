package metricmath

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// functions are those of the user guide's table, by name. It is filled by init, since some of them evaluate.
var functions map[string]*function

func init() { //nolint:gochecknoinits // a table whose functions refer to it
	functions = map[string]*function{
		"ABS":   mapping(math.Abs),
		"CEIL":  mapping(math.Ceil),
		"FLOOR": mapping(math.Floor),
		"LOG":   mapping(math.Log),
		"LOG10": mapping(math.Log10),

		"AVG": {1, 1, summarized, mean}, "MIN": summary(minimumOf), "MAX": summary(maximumOf), "SUM": summary(sumOf), "STDDEV": summary(deviationOf),

		"RATE":        stepping(func(seconds, difference float64) float64 { return difference / seconds }),
		"DIFF":        stepping(func(_, difference float64) float64 { return difference }),
		"DIFF_TIME":   stepping(func(seconds, _ float64) float64 { return seconds }),
		"RUNNING_SUM": {1, 1, "a time series or an array", runningSum},

		"EPOCH":  dating(func(t time.Time) float64 { return float64(t.Unix()) }),
		"MINUTE": dating(func(t time.Time) float64 { return float64(t.Minute()) }),
		"HOUR":   dating(func(t time.Time) float64 { return float64(t.Hour()) }),
		"DAY":    dating(weekday),
		"DATE":   dating(func(t time.Time) float64 { return float64(t.Day()) }),
		"MONTH":  dating(func(t time.Time) float64 { return float64(t.Month()) }),
		"YEAR":   dating(func(t time.Time) float64 { return float64(t.Year()) }),

		"PERIOD":          {1, 1, "a time series", period},
		"DATAPOINT_COUNT": {1, 1, "a time series or an array", datapointCount},
		"METRIC_COUNT":    {1, 1, "an array of time series", metricCount},
		"TIME_SERIES":     {1, 1, "a scalar", timeSeries},
		"FILL":            {2, 2, "a time series or an array, and a scalar, a time series, REPEAT or LINEAR", fill},
		"IF":              {2, 3, "a condition and one or two values, each a scalar or a time series", condition},

		"METRICS":      {0, 1, "nothing or a text", metricsOf},
		"FIRST":        {1, 1, "an array of time series", first},
		"LAST":         {1, 1, "an array of time series", last},
		"SLICE":        {2, 3, "an array of time series and one or two scalars", slice},
		"REMOVE_EMPTY": {1, 1, "an array of time series", removeEmpty},
		"SORT":         {2, 4, "an array of time series, AVG, MIN, MAX or SUM, and then ASC or DESC and a scalar if wanted", sorted},
		"SEARCH":       {2, 3, "a search expression and a statistic, both as texts, and a period as a scalar", search},
	}
}

func isSeries(v value) bool {
	switch v.(type) {
	case *series, list:
		return true
	}
	return false
}

// mapping is a function of each value.
func mapping(f func(float64) float64) *function {
	return &function{1, 1, "a scalar, a time series or an array", func(_ *evaluation, a []value) (value, error) {
		if x, ok := a[0].(float64); ok {
			return f(x), nil
		}
		if !isSeries(a[0]) {
			return nil, &mismatch{0}
		}
		return each(a[0], func(s *series) *series { return s.mapped(func(_ int64, v float64) float64 { return f(v) }) }), nil
	}}
}

// summarized is what summaries take.
const summarized = "a time series or an array"

// mean is that of all values of a series; in an array those that are missing at a time are 0.
func mean(_ *evaluation, a []value) (value, error) {
	switch x := a[0].(type) {
	case *series:
		return averageOf(x.values), nil
	case list:
		return merged(x, func(values []float64) float64 { return sumOf(values) / float64(len(x)) }), nil
	}
	return nil, &mismatch{0}
}

// summary gives a scalar of a time series, and a time series of an array.
func summary(f func([]float64) float64) *function {
	return &function{1, 1, summarized, func(_ *evaluation, a []value) (value, error) {
		switch x := a[0].(type) {
		case *series:
			return f(x.values), nil
		case list:
			return merged(x, f), nil
		}
		return nil, &mismatch{0}
	}}
}

// stepping is a function of each value and the one before it.
func stepping(f func(seconds, difference float64) float64) *function {
	return &function{1, 1, "a time series or an array", func(_ *evaluation, a []value) (value, error) {
		if !isSeries(a[0]) {
			return nil, &mismatch{0}
		}
		return each(a[0], func(s *series) *series {
			out := s.derived()
			for i := 1; i < len(s.at); i++ {
				out.add(s.at[i], f(float64(s.at[i]-s.at[i-1]), s.values[i]-s.values[i-1]))
			}
			return out
		}), nil
	}}
}

func runningSum(_ *evaluation, a []value) (value, error) {
	if !isSeries(a[0]) {
		return nil, &mismatch{0}
	}
	return each(a[0], func(s *series) *series {
		total := 0.0
		return s.mapped(func(_ int64, v float64) float64 { total += v; return total })
	}), nil
}

// dating is a function of the begin of each period of the run, in UTC; whether the series has a value there does not matter.
func dating(f func(time.Time) float64) *function {
	return &function{1, 1, "a time series", func(e *evaluation, a []value) (value, error) {
		if !isSeries(a[0]) {
			return nil, &mismatch{0}
		}
		return each(a[0], func(s *series) *series {
			out := s.derived()
			for at := range e.grid(s.period) {
				out.add(at, f(time.Unix(at, 0).UTC()))
			}
			return out
		}), nil
	}}
}

// weekday counts from Monday, 1, to Sunday, 7.
func weekday(t time.Time) float64 { return float64((t.Weekday()+6)%7 + 1) }

func period(_ *evaluation, a []value) (value, error) {
	if s, ok := a[0].(*series); ok {
		return float64(s.period), nil
	}
	return nil, &mismatch{0}
}

// datapointCount is of all values of a series, and of an array the number of values at each time.
func datapointCount(_ *evaluation, a []value) (value, error) {
	count := func(values []float64) float64 { return float64(len(values)) }
	switch x := a[0].(type) {
	case *series:
		return count(x.values), nil
	case list:
		return merged(x, count), nil
	}
	return nil, &mismatch{0}
}

func metricCount(_ *evaluation, a []value) (value, error) {
	if all, ok := a[0].(list); ok {
		return float64(len(all)), nil
	}
	return nil, &mismatch{0}
}

// timeSeries has a scalar at every period of the request, which is that of the shortest metric.
func timeSeries(e *evaluation, a []value) (value, error) {
	v, ok := a[0].(float64)
	if !ok {
		return nil, &mismatch{0}
	}
	s := &series{period: e.shortest()}
	for at := range e.grid(s.period) {
		s.add(at, v)
	}
	return s, nil
}

// fill gives a series a value at every period where it has none: a scalar, that of another series, the value before
// (REPEAT), or what lies on the line between the values around (LINEAR).
func fill(e *evaluation, a []value) (value, error) {
	if !isSeries(a[0]) {
		return nil, &mismatch{0}
	}
	var missing func(s *series, at int64) float64
	switch with := a[1].(type) {
	case float64:
		missing = func(*series, int64) float64 { return with }
	case *series:
		missing = func(_ *series, at int64) float64 {
			if v, ok := with.value(at); ok {
				return v
			}
			return math.NaN()
		}
	case word:
		switch with {
		case "REPEAT":
			missing = repeat
		case "LINEAR":
			missing = linear
		}
	}
	if missing == nil {
		return nil, &mismatch{1}
	}
	return each(a[0], func(s *series) *series {
		out := s.derived()
		for at := range e.grid(s.period) {
			if v, ok := s.value(at); ok {
				out.add(at, v)
			} else {
				out.add(at, missing(s, at))
			}
		}
		return out
	}), nil
}

func repeat(s *series, at int64) float64 {
	if i, _ := slices.BinarySearch(s.at, at); i > 0 {
		return s.values[i-1]
	}
	return math.NaN()
}

func linear(s *series, at int64) float64 {
	i, _ := slices.BinarySearch(s.at, at)
	if i == 0 || i == len(s.at) {
		return math.NaN()
	}
	part := float64(at-s.at[i-1]) / float64(s.at[i]-s.at[i-1])
	return s.values[i-1] + part*(s.values[i]-s.values[i-1])
}

// condition takes the second argument where the first is not 0, else the third; without one, there is no value then. Where
// the condition is a series and true, a series that lacks the value has 0, as on AWS.
func condition(_ *evaluation, a []value) (value, error) {
	pick := make([]func(at int64) (float64, bool), len(a))
	out := &series{}
	scalars := 0
	for i, v := range a {
		switch v := v.(type) {
		case float64:
			scalars++
			pick[i] = func(int64) (float64, bool) { return v, !math.IsNaN(v) }
		case *series:
			pick[i] = v.value
			out.period = max(out.period, v.period)
		default:
			return nil, &mismatch{i}
		}
	}
	if scalars == len(a) && len(a) == 3 {
		if a[0].(float64) != 0 {
			return a[1], nil
		}
		return a[2], nil
	}
	for _, at := range timesOf(a) {
		c, ok := pick[0](at)
		chosen := 1
		if c == 0 {
			chosen = 2
		}
		if !ok || chosen == len(a) {
			continue
		}
		v, ok := pick[chosen](at)
		if _, varies := a[0].(*series); ok || varies && chosen == 1 {
			out.add(at, v)
		}
	}
	return out, nil
}

// timesOf are the times of a condition that is a series, else those of the values.
func timesOf(a []value) (times []int64) {
	if s, ok := a[0].(*series); ok {
		return s.at
	}
	for _, v := range a[1:] {
		if s, ok := v.(*series); ok {
			times = append(times, s.at...)
		}
	}
	slices.Sort(times)
	return slices.Compact(times)
}

// metricsOf are the metrics of the request, not its expressions; with a text, those whose ids contain it.
func metricsOf(e *evaluation, a []value) (value, error) {
	part := ""
	if len(a) > 0 {
		t, ok := a[0].(text)
		if !ok {
			return nil, &mismatch{0}
		}
		part = string(t)
	}
	all := list{}
	for i := range e.plan.queries {
		q := &e.plan.queries[i]
		if s, ok := e.values[q.ID].(*series); ok && q.Stat != nil && strings.Contains(q.ID, part) {
			all = append(all, s)
		}
	}
	return all, nil
}

func first(_ *evaluation, a []value) (value, error) { return at(a, 0) }

func last(_ *evaluation, a []value) (value, error) {
	all, _ := a[0].(list)
	return at(a, len(all)-1)
}

func at(a []value, i int) (value, error) {
	all, ok := a[0].(list)
	switch {
	case !ok:
		return nil, &mismatch{0}
	case len(all) == 0:
		return &series{}, nil
	}
	return all[i], nil
}

// slice takes from the index that the second argument is, counted from 0, up to before the third.
func slice(_ *evaluation, a []value) (value, error) {
	all, ok := a[0].(list)
	if !ok {
		return nil, &mismatch{0}
	}
	bounds := []int{0, len(all)}
	for i, v := range a[1:] {
		x, ok := v.(float64)
		if !ok {
			return nil, &mismatch{i + 1}
		}
		bounds[i] = int(max(0, min(x, float64(len(all)))))
	}
	if bounds[0] >= bounds[1] {
		return list{}, nil
	}
	return all[bounds[0]:bounds[1]], nil
}

func removeEmpty(_ *evaluation, a []value) (value, error) {
	all, ok := a[0].(list)
	if !ok {
		return nil, &mismatch{0}
	}
	out := list{}
	for _, s := range all {
		if len(s.values) > 0 {
			out = append(out, s)
		}
	}
	return out, nil
}

// sorted orders an array by a summary of each series, ascending unless DESC is asked for, and keeps as many as are wanted.
func sorted(_ *evaluation, a []value) (value, error) {
	all, ok := a[0].(list)
	if !ok {
		return nil, &mismatch{0}
	}
	by, _ := a[1].(word)
	f := map[word]func([]float64) float64{"AVG": averageOf, "MIN": minimumOf, "MAX": maximumOf, "SUM": sumOf}[by]
	if f == nil {
		return nil, &mismatch{1}
	}
	order, most := 1, len(all)
	for i, v := range a[2:] {
		switch v := v.(type) {
		case word:
			if i > 0 || v != "ASC" && v != "DESC" {
				return nil, &mismatch{i + 2}
			}
			if v == "DESC" {
				order = -1
			}
		case float64:
			most = int(max(0, min(v, float64(most))))
		default:
			return nil, &mismatch{i + 2}
		}
	}
	out := slices.Clone(all)
	slices.SortStableFunc(out, func(x, y *series) int {
		if len(x.values) == 0 || len(y.values) == 0 { // what has no values comes last
			return cmp.Compare(truth(len(x.values) == 0), truth(len(y.values) == 0))
		}
		return order * cmp.Compare(f(x.values), f(y.values))
	})
	return out[:most], nil
}
