package metricmath

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"thaw"
	"thaw/telemetry/metrics"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) // a Sunday

// fake is a source: values by metric name and, for searches, dimension; a NaN is a minute without one.
type fake struct {
	values  map[string][]float64
	all     []metrics.Metric
	queries int
	page    int // metrics that List gives together; 0: one
	err     error
}

func (f *fake) Query(_ context.Context, m metrics.Metric, from, to time.Time, period time.Duration) (points []metrics.Point, unit string, err error) {
	f.queries++
	name := m.Name
	for _, d := range m.Dimensions {
		name += "/" + d.Value
	}
	for i, v := range f.values[name] {
		at := from.Add(time.Duration(i) * period).UTC()
		if !math.IsNaN(v) && at.Before(to) {
			points = append(points, metrics.Point{At: at, Unit: "Count", Count: 2, Sum: 2 * v, Min: v - 1, Max: v + 1})
		}
	}
	return points, "Count", f.err
}

func (f *fake) List(_ context.Context, filter metrics.Filter, after string, limit int) (found []metrics.Metric, next string, err error) {
	for i := range f.all {
		m := &f.all[i]
		if m.Key() <= after && after != "" || !filter.Matches(m) {
			continue
		}
		if found = append(found, *m); len(found) == max(1, f.page) {
			return found, m.Key(), f.err
		}
	}
	return found, "", f.err
}

func average() metrics.Statistic { s, _ := metrics.ParseStatistic("Average"); return s }

// metric is a query of a metric of that name, in minutes.
func metric(id, name string) Query {
	return Query{ID: id, Stat: &Stat{Metric: metrics.Metric{Namespace: "n", Name: name}, Period: time.Minute, Statistic: average()}, Hidden: true}
}

var nothing = math.NaN()

// world has four minutes of some metrics.
func world() *fake {
	return &fake{values: map[string][]float64{
		"a": {1, 2, 3, 4}, "b": {10, nothing, 30, 40}, "zero": {0, 1, 0, 2}, "gaps": {nothing, 5, nothing, 7}, "none": {},
	}}
}

func run(t *testing.T, src Source, queries ...Query) ([]Series, error) {
	t.Helper()
	p, err := Prepare("MetricDataQueries", queries)
	if err != nil {
		return nil, err
	}
	return p.Run(t.Context(), src, Range{From: start, To: start.Add(4 * time.Minute), Now: start.Add(time.Hour), Account: thaw.Account{ID: "123456789012", Region: "eu-west-1"}})
}

// calculate evaluates an expression over the world's metrics and gives its series as "label: minute=value …".
func calculate(t *testing.T, expression string) (string, error) {
	t.Helper()
	var queries []Query
	for _, name := range []string{"a", "b", "zero", "gaps", "none"} {
		queries = append(queries, metric(name, name))
	}
	all, err := run(t, world(), append(queries, Query{ID: "x", Expression: expression})...)
	return shown(all), err
}

func shown(all []Series) string {
	var lines []string
	for _, s := range all {
		line := s.Label + ":"
		for i, at := range s.Times {
			line += fmt.Sprintf(" %d=%.4g", int(at.Sub(start)/time.Minute), s.Values[i])
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestExpressions(t *testing.T) {
	for expression, want := range map[string]string{
		"a":                                      "x: 0=1 1=2 2=3 3=4",
		"a + 1":                                  "x: 0=2 1=3 2=4 3=5",
		"1 + 2 * a ^ 2":                          "x: 0=3 1=9 2=19 3=33",
		"(1 + 2) * a":                            "x: 0=3 1=6 2=9 3=12",
		"-a ^ 2":                                 "x: 0=-1 1=-4 2=-9 3=-16",
		"2 ^ 3 ^ 2 - a * 0":                      "x: 0=512 1=512 2=512 3=512",
		"10 - 4 - 3 + a * 0":                     "x: 0=3 1=3 2=3 3=3",
		"1e3 * 1.5E-1 * a + +.5":                 "x: 0=150.5 1=300.5 2=450.5 3=600.5",
		"a + b":                                  "x: 0=11 1=2 2=33 3=44",
		"b / zero":                               "x: 1=0 3=20", // nothing where it would be infinite
		"a / (a - 2)":                            "x: 0=-1 2=3 3=2",
		"100 * (zero / a)":                       "x: 0=0 1=50 2=0 3=50",
		"a > 2":                                  "x: 0=0 1=0 2=1 3=1",
		"a >= 2 AND a != 3":                      "x: 0=0 1=1 2=0 3=1",
		"a < 2 || a == 4":                        "x: 0=1 1=0 2=0 3=1",
		"a < 2 OR a == 4 && a<=3":                "x: 0=1 1=0 2=0 3=0",
		"none + 1":                               "x:",
		"a - AVG(a)":                             "x: 0=-1.5 1=-0.5 2=0.5 3=1.5",
		"a * 0 + SUM(b)":                         "x: 0=80 1=80 2=80 3=80",
		"a - MIN(b) + MAX(b)":                    "x: 0=31 1=32 2=33 3=34",
		"a*0 + STDDEV(a)":                        "x: 0=1.118 1=1.118 2=1.118 3=1.118",
		"a > AVG(none)":                          "x:", // of nothing there is no average to be above
		"ABS(-a)":                                "x: 0=1 1=2 2=3 3=4",
		"CEIL(a / 2)":                            "x: 0=1 1=1 2=2 3=2",
		"FLOOR(a / 2)":                           "x: 0=0 1=1 2=1 3=2",
		"LOG10(a * 100)":                         "x: 0=2 1=2.301 2=2.477 3=2.602",
		"LOG(zero)":                              "x: 1=0 3=0.6931",
		"RATE(a)":                                "x: 1=0.01667 2=0.01667 3=0.01667",
		"RATE(gaps)":                             "x: 3=0.01667",
		"DIFF(b)":                                "x: 2=20 3=10",
		"DIFF_TIME(b)":                           "x: 2=120 3=60",
		"RUNNING_SUM(a)":                         "x: 0=1 1=3 2=6 3=10",
		"FILL(gaps, 0)":                          "x: 0=0 1=5 2=0 3=7",
		"FILL(gaps, REPEAT)":                     "x: 1=5 2=5 3=7",
		"FILL(gaps, LINEAR)":                     "x: 1=5 2=6 3=7",
		"FILL(gaps, a)":                          "x: 0=1 1=5 2=3 3=7",
		"FILL(none, 1)":                          "x: 0=1 1=1 2=1 3=1",
		"IF(a > 2, a, b)":                        "x: 0=10 2=3 3=4",
		"IF(a > 2, a)":                           "x: 2=3 3=4",
		"IF(zero, 1, 0)":                         "x: 0=0 1=1 2=0 3=1",
		"IF(AVG(a) > 2, a, b)":                   "x: 0=1 1=2 2=3 3=4",
		"IF(1 > 2, a, b)":                        "x: 0=10 2=30 3=40",
		"IF(1, 5, a)":                            "x: 0=5 1=5 2=5 3=5",
		"a * 0 + IF(1 == 1, 7, 8)":               "x: 0=7 1=7 2=7 3=7",
		"TIME_SERIES(5)":                         "x: 0=5 1=5 2=5 3=5",
		"a*0 + PERIOD(a)":                        "x: 0=60 1=60 2=60 3=60",
		"a*0 + DATAPOINT_COUNT(b)":               "x: 0=3 1=3 2=3 3=3",
		"a*0 + METRIC_COUNT(METRICS())":          "x: 0=5 1=5 2=5 3=5",
		"MINUTE(a)":                              "x: 0=0 1=1 2=2 3=3",
		"MINUTE(none)":                           "x: 0=0 1=1 2=2 3=3",
		"gaps * (MINUTE(gaps) > 1)":              "x: 0=0 1=0 2=0 3=7",
		"IF(zero, gaps, b)":                      "x: 0=10 1=5 2=30 3=7",
		"IF(a > 2, gaps)":                        "x: 2=0 3=7",
		"IF(1, gaps)":                            "x: 1=5 3=7",
		"gaps < b":                               "x: 0=1 1=0 2=1 3=1",
		"gaps > 4 AND b > 15":                    "x: 0=0 1=0 2=0 3=1",
		"HOUR(a) + DAY(a) * 100":                 "x: 0=712 1=712 2=712 3=712",
		"DATE(a) + MONTH(a) * 100 + YEAR(a) * 0": "x: 0=301 1=301 2=301 3=301",
		"EPOCH(a) - 1772366400":                  "x: 0=0 1=60 2=120 3=180",

		"SUM(METRICS())":                         "x: 0=11 1=8 2=33 3=53",
		"SUM([a, b])":                            "x: 0=11 1=2 2=33 3=44",
		"AVG([a, b])":                            "x: 0=5.5 1=1 2=16.5 3=22",
		"MAX(METRICS('a'))":                      "x: 0=1 1=5 2=3 3=7", // a and gaps
		"MIN([a, 2 * a])":                        "x: 0=1 1=2 2=3 3=4",
		"DATAPOINT_COUNT([a,b])":                 "x: 0=2 1=1 2=2 3=2",
		"[a, b] * 2":                             "a: 0=2 1=4 2=6 3=8\nb: 0=20 2=60 3=80",
		"1 - [a, b]":                             "a: 0=0 1=-1 2=-2 3=-3\nb: 0=-9 2=-29 3=-39",
		"[b, zero] / a":                          "b: 0=10 1=0 2=10 3=10\nzero: 0=0 1=0.5 2=0 3=0.5",
		"a / [b, zero]":                          "b: 0=0.1 2=0.1 3=0.1\nzero: 1=2 3=2",
		"METRICS(\"ero\")":                       "zero: 0=0 1=1 2=0 3=2",
		"FIRST([b, a])":                          "x: 0=10 2=30 3=40",
		"LAST([b, a])":                           "x: 0=1 1=2 2=3 3=4",
		"FIRST(METRICS('?'))":                    "x:",
		"REMOVE_EMPTY([none, a])":                "a: 0=1 1=2 2=3 3=4",
		"SLICE([a, b, zero], 1)":                 "b: 0=10 2=30 3=40\nzero: 0=0 1=1 2=0 3=2",
		"SLICE([a, b, zero], 0, 1)":              "a: 0=1 1=2 2=3 3=4",
		"SLICE([a, b], 2, 9)":                    "",
		"SORT([a, b, none, zero], MAX, DESC, 2)": "b: 0=10 2=30 3=40\na: 0=1 1=2 2=3 3=4",
		"SORT([none, b, a], SUM, ASC)":           "a: 0=1 1=2 2=3 3=4\nb: 0=10 2=30 3=40\nnone:",
		"SORT([b, a], AVG)":                      "a: 0=1 1=2 2=3 3=4\nb: 0=10 2=30 3=40",
		"ABS([a])":                               "a: 0=1 1=2 2=3 3=4",
		"sum([a, a])":                            "x: 0=2 1=4 2=6 3=8",
	} {
		got, err := calculate(t, expression)
		if err != nil || got != want {
			t.Errorf("%s\n got %s, %v\nwant %s", expression, got, err, want)
		}
	}
}

// TestUserGuide has the examples of the user guide that show what is made of missing values.
func TestUserGuide(t *testing.T) {
	compared := map[string][]float64{"metric1": {30, 20, 0, 0}, "metric2": {20, nothing, 20, nothing}}
	chosen := map[string][]float64{"metric1": {1, 1, 0, 0, nothing}, "metric2": {30, nothing, 0, 0, 30}, "metric3": {0, 0, 20, nothing, 20}}
	for _, c := range []struct {
		metrics          map[string][]float64
		expression, want string
	}{
		{compared, "metric1 < metric2", "x: 0=0 1=0 2=1 3=0"},
		{compared, "metric1 >= 30", "x: 0=1 1=0 2=0 3=0"},
		{compared, "metric1 > 15 AND metric2 > 15", "x: 0=1 1=0 2=0 3=0"},
		{chosen, "IF(metric1, metric2, metric3)", "x: 0=30 1=0 2=20"},
		{chosen, "IF(metric1, 5, metric3)", "x: 0=5 1=5 2=20"},
		{chosen, "IF(metric1, metric2, 5)", "x: 0=30 1=0 2=5 3=5"},
	} {
		queries := []Query{{ID: "x", Expression: c.expression}}
		for name := range c.metrics {
			queries = append(queries, metric(name, name))
		}
		p, err := Prepare("MetricDataQueries", queries)
		if err != nil {
			t.Fatal(err)
		}
		all, err := p.Run(t.Context(), &fake{values: c.metrics}, Range{From: start, To: start.Add(5 * time.Minute), Now: start.Add(time.Hour)})
		if got := shown(all); err != nil || got != c.want {
			t.Errorf("%s\n got %s, %v\nwant %s", c.expression, got, err, c.want)
		}
	}
}

func TestMistakes(t *testing.T) {
	for expression, want := range map[string]string{
		"":                               "Error in expression 'x': Invalid syntax: the end is not expected at character 1",
		"a +":                            "Error in expression 'x': Invalid syntax: the end is not expected at character 4",
		"a b":                            "Error in expression 'x': Invalid syntax: 'b' is not expected at character 3",
		"(a":                             "Error in expression 'x': Invalid syntax: the end is not expected at character 3",
		"a)":                             "Error in expression 'x': Invalid syntax: ')' is not expected at character 2",
		"SUM(a":                          "Error in expression 'x': Invalid syntax: the end is not expected at character 6",
		"SUM(a,)":                        "Error in expression 'x': Invalid syntax: ')' is not expected at character 7",
		"[a b]":                          "Error in expression 'x': Invalid syntax: 'b' is not expected at character 4",
		"a $ b":                          "Error in expression 'x': Invalid syntax: '$' is not part of an expression at character 3",
		"METRICS('a":                     "Error in expression 'x': Invalid syntax: the text 'a has no closing quote at character 9",
		"1..2 + a":                       "Error in expression 'x': Invalid syntax: '.2' is not expected at character 3",
		"unknown + a":                    "Error in expression 'x': 'unknown' is neither a query of this request nor a function. Give the query that it names, or write a function with brackets.",
		"REPEAT":                         "Error in expression 'x': it gives a word, but what is returned must be a time series. Use TIME_SERIES, or set ReturnData to false.",
		"AVG(a)":                         "Error in expression 'x': it gives a scalar, but what is returned must be a time series. Use TIME_SERIES, or set ReturnData to false.",
		"1 + 2":                          "Error in expression 'x': it gives a scalar, but what is returned must be a time series. Use TIME_SERIES, or set ReturnData to false.",
		"ANOMALY_DETECTOR(a)":            "Error in expression 'x': Function 'ANOMALY_DETECTOR' not found",
		"ABS()":                          "Error in expression 'x': ABS takes a scalar, a time series or an array.",
		"METRICS(a, b)":                  "Error in expression 'x': METRICS takes nothing or a text.",
		"AVG(1)":                         "Error in expression 'x': AVG does not take a scalar as argument 1; it takes a time series or an array.",
		"FILL(a, ASC)":                   "Error in expression 'x': FILL does not take a word as argument 2; it takes a time series or an array, and a scalar, a time series, REPEAT or LINEAR.",
		"[a] + [b]":                      "Error in expression 'x': The operator + does not take an array of time series and an array of time series.",
		"'a' + 1":                        "Error in expression 'x': The operator + does not take a text and a scalar.",
		"[1]":                            "Error in expression 'x': An array takes time series, not a scalar.",
		"x + 1":                          "Error in expression 'x': it refers to itself",
		"SEARCH('', 'Sum', 60)":          "Error in expression 'x': SEARCH has an expression that cannot be read: it is empty",
		"SEARCH('{', 'Sum', 60)":         "Error in expression 'x': SEARCH has an expression that cannot be read: the schema has no closing brace",
		"SEARCH('(a', 'Sum', 60)":        "Error in expression 'x': SEARCH has an expression that cannot be read: a bracket is not closed",
		"SEARCH('a OR', 'Sum', 60)":      "Error in expression 'x': SEARCH has an expression that cannot be read: a term is missing before ''",
		"SEARCH('a', 'Total', 60)":       "Error in expression 'x': The value Total in SEARCH is not a valid statistic.",
		"SEARCH('a', 'Sum', 0)":          "Error in expression 'x': A period of 0 seconds is not possible in SEARCH.",
		strings.Repeat("(", 200) + "a":   "Error in expression 'x': Invalid syntax: it nests deeper than 100",
		strings.Repeat("a+", 5000) + "a": "Error in expression 'x': Invalid syntax: it is longer than 2048 characters",
	} {
		_, err := calculate(t, expression)
		e, ok := errors.AsType[*thaw.Error](err)
		if !ok || e.Code != thaw.CodeValidation || e.Message != want {
			t.Errorf("%.60s\n got %v\nwant %s", expression, err, want)
		}
	}
	for _, expression := range []string{"SELECT AVG(CPU) FROM n", "select x", "ANOMALY_DETECTION_BAND(a, 2)", "SERVICE_QUOTA(a)", "LAMBDA('f', a)"} {
		if _, err := calculate(t, expression); !errors.Is(err, &thaw.Error{Code: thaw.CodeNotImplemented}) {
			t.Errorf("%s: %v", expression, err)
		}
	}
}

func TestQueries(t *testing.T) {
	src := world()
	visible := metric("a", "a")
	visible.Hidden = false
	all, err := run(t, src,
		Query{ID: "e3", Expression: "e2 * 2", Label: "three"}, // before what it refers to
		visible,
		Query{ID: "e2", Expression: "e1 + a", Hidden: true},
		Query{ID: "e1", Expression: "AVG(b)", Hidden: true},
		metric("b", "b"), metric("b2", "b"),
	)
	want := []Series{
		{ID: "e3", Label: "three", Period: time.Minute, Values: []float64{55.333, 57.333, 59.333, 61.333}},
		{ID: "a", Label: "a", Period: time.Minute, Values: []float64{1, 2, 3, 4}},
	}
	if diff := cmp.Diff(want, all, cmpopts.IgnoreFields(Series{}, "Times"), cmpopts.EquateApprox(0, 0.001)); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if src.queries != 2 { // a, and b once
		t.Errorf("%d queries of the source", src.queries)
	}
	for want, queries := range map[string][]Query{
		"The values for parameter id in MetricDataQueries are not unique.":        {metric("a", "a"), metric("a", "b")},
		"Error in expression 'a': it refers to itself":                            {{ID: "a", Expression: "b"}, {ID: "b", Expression: "a"}},
		"The collection MetricDataQueries must not have a size greater than 500.": make([]Query, 501),
		"The value 5xx for parameter MetricDataQueries.member.1.Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$.\n" +
			"The value A for parameter MetricDataQueries.member.2.Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$.": {metric("5xx", "a"), metric("A", "a")},
	} {
		_, err := run(t, src, queries...)
		if e, ok := errors.AsType[*thaw.Error](err); !ok || e.Code != thaw.CodeValidation || e.Message != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	src.err = errors.New("broken")
	if _, err := run(t, src, visible); !errors.Is(err, src.err) {
		t.Error(err)
	}
}

// TestRange: nothing is made up for the future.
func TestRange(t *testing.T) {
	p, err := Prepare("MetricDataQueries", []Query{metric("a", "a"), {ID: "x", Expression: "FILL(a, 9)"}})
	if err != nil {
		t.Fatal(err)
	}
	all, err := p.Run(t.Context(), world(), Range{From: start, To: start.Add(time.Hour), Now: start.Add(5*time.Minute + time.Second)})
	if got := shown(all); err != nil || got != "x: 0=1 1=2 2=3 3=4 4=9 5=9" {
		t.Errorf("%s, %v", got, err)
	}
}

// TestBounds: a request cannot take more into memory than is allowed.
func TestBounds(t *testing.T) {
	run := func(length time.Duration, expressions ...string) error {
		queries := []Query{metric("a", "a")}
		for i, x := range expressions {
			queries = append(queries, Query{ID: fmt.Sprint("x", i), Expression: x, Hidden: true})
		}
		p, err := Prepare("MetricDataQueries", queries)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Run(t.Context(), world(), Range{From: start, To: start.Add(length), Now: start.Add(length)})
		return err
	}
	if err := run(maxValues*time.Minute+time.Hour, "FILL(a, 0)"); !errors.Is(err, &thaw.Error{Code: thaw.CodeParameterCombination}) {
		t.Error(err)
	}
	many := "[" + strings.Repeat("TIME_SERIES(1),", 29) + "a]"
	if err := run(900_000*time.Minute, many); !errors.Is(err, &thaw.Error{Code: thaw.CodeParameterCombination}) {
		t.Error(err)
	}
	if err := run(10_000*time.Minute, many); err != nil {
		t.Error(err)
	}
}

// TestEndlessWork: neither what an expression looks at, nor what an array has, nor how long ago a request begins is without a
// bound.
func TestEndlessWork(t *testing.T) {
	source := &fake{values: map[string][]float64{"a": make([]float64, 100_000)}}
	begin := func(from time.Time, queries ...Query) error {
		p, err := Prepare("MetricDataQueries", queries)
		if err == nil {
			_, err = p.Run(t.Context(), source, Range{From: from, To: start.Add(100_000 * time.Minute), Now: start.AddDate(1, 0, 0)})
		}
		return err
	}
	shown := metric("a", "a")
	shown.Hidden = false
	hidden := func(id, expression string) Query { return Query{ID: id, Expression: expression, Hidden: true} }
	times := func(n int, text string) string { return "[" + strings.Repeat(text+",", n-1) + text + "]" }
	for name, c := range map[string]struct {
		from    time.Time
		queries []Query
		want    string
	}{
		"arrays of arrays":  {start, []Query{metric("a", "a"), hidden("b", times(900, "a")), hidden("c", times(900, "b")), hidden("d", times(900, "c"))}, "An array can have 10000 time series."},
		"one series often":  {start, []Query{metric("a", "a"), {ID: "b", Expression: times(100, "a")}}, "more than 2000000 datapoints"},
		"scalars of series": {start, append([]Query{metric("a", "a")}, hidden("b", strings.Repeat("AVG(a)+", 250)+"0"), hidden("c", strings.Repeat("AVG(a)+", 250)+"0"), hidden("d", strings.Repeat("AVG(a)+", 250)+"0"), hidden("e", strings.Repeat("AVG(a)+", 251)+"0")), "calculate with more than 100000000 datapoints"},
		"long ago":          {time.Unix(math.MinInt64, 0), []Query{{ID: "x", Expression: "TIME_SERIES(1)"}}, "more than 1000000 datapoints"},
		"a label":           {start, []Query{{ID: "x", Expression: "TIME_SERIES(1)", Label: strings.Repeat("l", 2049)}}, "Label must be shorter than 2049 characters."},
	} {
		if err := begin(c.from, c.queries...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := begin(start, shown, hidden("b", strings.Repeat("AVG(a)+", 250)+"0")); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p, err := Prepare("MetricDataQueries", []Query{metric("a", "a"), hidden("b", "a+a")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(ctx, source, Range{From: start, To: start.Add(time.Hour), Now: start.Add(time.Hour)}); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits: %v", err)
	}
}

// TestSearchPeriod: the query's period is that of SEARCH where it has none of its own.
func TestSearchPeriod(t *testing.T) {
	src := &fake{all: []metrics.Metric{{Namespace: "n", Name: "a"}}, values: map[string][]float64{"a": {1}}}
	for expression, want := range map[string]time.Duration{"SEARCH('{n}', 'Sum')": 2 * time.Minute, "SEARCH('{n}', 'Sum', 60)": time.Minute} {
		all, err := run(t, src, Query{ID: "x", Expression: expression, Period: 2 * time.Minute})
		if err != nil || len(all) != 1 || all[0].Period != want {
			t.Errorf("%s: %v, %v", expression, all, err)
		}
	}
	if all, err := run(t, src, Query{ID: "x", Expression: "SEARCH('{n}', 'Sum')"}); err != nil || all[0].Period != searchPeriod {
		t.Errorf("%v, %v", all, err)
	}
	src.page = 1000
	for i := range 600 {
		src.all = append(src.all, metrics.Metric{Namespace: "n", Name: fmt.Sprintf("b%03d", i)})
	}
	long := make([]Query, 40)
	for i := range long {
		long[i] = Query{ID: fmt.Sprint("x", i), Expression: "SEARCH('" + strings.Repeat("z OR ", 400) + "z', 'Sum')"}
	}
	if _, err := run(t, src, long...); err == nil || !strings.Contains(err.Error(), "calculate with more than 100000000 datapoints") {
		t.Error(err)
	}
	all := "[" + strings.Repeat("SEARCH('{n}', 'Sum'),", 21) + "SEARCH('{n}', 'Sum')]"
	if _, err := run(t, src, Query{ID: "x", Expression: all}); err == nil || !strings.Contains(err.Error(), "The searches of one request can give 10000 metrics") {
		t.Error(err)
	}
}

// TestUnits: a period that has values in two units is one value, unless one of them is asked for.
func TestUnits(t *testing.T) {
	points := []metrics.Point{{At: start, Unit: "Count", Count: 1, Sum: 3, Min: 3, Max: 3}, {At: start, Unit: "None", Count: 3, Sum: 5, Min: 1, Max: 2}}
	for name, want := range map[string]float64{"Sum": 8, "Average": 2, "Minimum": 1, "Maximum": 3, "SampleCount": 4} {
		s, _ := metrics.ParseStatistic(name)
		if got, ok := pick(points, &Stat{Statistic: s}); !ok || got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	sum, _ := metrics.ParseStatistic("Sum")
	if got, ok := pick(points, &Stat{Statistic: sum, Unit: "None"}); !ok || got != 5 {
		t.Errorf("%v", got)
	}
	if got, ok := pick(points, &Stat{Statistic: sum, Unit: "Bytes"}); ok {
		t.Errorf("%v", got)
	}
}

func TestSearch(t *testing.T) {
	src := world()
	add := func(namespace, name string, dimensions ...metrics.Dimension) {
		src.all = append(src.all, metrics.Metric{Namespace: namespace, Name: name, Dimensions: dimensions})
		for _, d := range dimensions {
			name += "/" + d.Value
		}
		src.values[name] = []float64{1}
	}
	function := func(name string) metrics.Dimension { return metrics.Dimension{Name: "FunctionName", Value: name} }
	add("AWS/Lambda", "Errors", function("order-api"))
	add("AWS/Lambda", "Invocations", function("order-api"))
	add("AWS/Lambda", "Invocations", function("order-api"), metrics.Dimension{Name: "Resource", Value: "order-api:live"})
	add("AWS/Lambda", "Invocations", function("payApi2"))
	add("my-app", "OrderCount")
	for expression, want := range map[string]string{
		`{AWS/Lambda,FunctionName} MetricName="Invocations"`:      "order-api: 0=1\npayApi2: 0=1",
		`{AWS/Lambda,Resource,FunctionName}`:                      "Invocations: 0=1",
		`{"AWS/Lambda","FunctionName"} order`:                     "Errors: 0=1\nInvocations: 0=1",
		`{AWS/Lambda,FunctionName} NOT order`:                     "Invocations: 0=1",
		`{AWS/Lambda,FunctionName} FunctionName=api Invocations`:  "order-api: 0=1\npayApi2: 0=1",
		`{AWS/Lambda,FunctionName} MetricName=(Errors OR Dances)`: "Errors: 0=1",
		`{AWS/Lambda,FunctionName} (order AND errors) OR pay`:     "Errors order-api: 0=1\nInvocations payApi2: 0=1",
		`order count`:        "OrderCount: 0=1",
		`Namespace="my-app"`: "OrderCount: 0=1",
		`Namespace="my"`:     "",
		`{my-app}`:           "OrderCount: 0=1",
		`{AWS/Lambda, FunctionName}, MetricName="Errors"`: "Errors: 0=1",
		`FunctionName="payApi2"`:                          "Invocations: 0=1",
		`FunctionName="payapi2"`:                          "",
	} {
		all, err := run(t, src, Query{ID: "x", Expression: fmt.Sprintf("SEARCH('%s', 'Average', 60)", expression)})
		if got := shown(all); err != nil || got != want {
			t.Errorf("%s\n got %s, %v\nwant %s", expression, got, err, want)
		}
	}
	all, err := run(t, src, Query{ID: "x", Expression: "SUM(SEARCH('{AWS/Lambda,FunctionName} Invocations', 'Sum', 60))"})
	if got := shown(all); err != nil || got != "x: 0=4" {
		t.Errorf("%s, %v", got, err)
	}
}

func TestLabels(t *testing.T) {
	q := metric("m", "a")
	q.Hidden = false
	q.Stat.Metric.Dimensions = []metrics.Dimension{{Name: "FunctionName", Value: "f"}}
	src := &fake{values: map[string][]float64{"a/f": {3, 1, 5}}}
	for label, want := range map[string]string{
		"":       "a",
		"plain":  "plain",
		"${MAX}": "5",
		"[min ${MIN}, avg ${AVG}, sum ${SUM}] ${LABEL}":                                                                         "[min 1, avg 3, sum 9] a",
		"${FIRST} ${LAST} ${DATAPOINT_COUNT} ${MIN_MAX_RANGE}":                                                                  "3 5 3 1 - 5",
		"${PROP('Dim.FunctionName')} ${PROP('Dim.Other')}":                                                                      "f --",
		"${PROP(\"MetricName\")} ${PROP('Namespace')} ${PROP('Stat')} ${PROP('Period')} ${PROP('Region')} ${PROP('AccountId')}": "a n Average 60 eu-west-1 123456789012",
		"${MAX_TIME}": "2026-03-01 12:02:00 UTC+00:00",
		"${NEWS} ${":  "${NEWS} ${",
	} {
		q.Label = label
		all, err := run(t, src, q)
		if err != nil || all[0].Label != want {
			t.Errorf("%q is %q, %v, want %q", label, all[0].Label, err, want)
		}
	}
	p, err := Prepare("Metrics", []Query{q})
	if err != nil {
		t.Fatal(err)
	}
	p.queries[0].Label = "${FIRST_TIME} ${MAX}"
	all, err := p.Run(t.Context(), &fake{}, Range{From: start, To: start.Add(time.Minute), Now: start})
	if err != nil || all[0].Label != "-- --" {
		t.Errorf("%v, %v", all, err)
	}
}

// FuzzExpression looks for an expression that trips the parser, or that passes the check and fails when it is run.
func FuzzExpression(f *testing.F) {
	for _, seed := range []string{
		"100 * (a / b)", "IF(a > 2, a, FILL(b, REPEAT))", "SORT([a, b], MAX, DESC, 2)", "SUM(METRICS('a')) ^ -1e3", "SLICE([a,b],0,1)",
		`SEARCH('{n,d} MetricName="a" (x OR NOT y)', 'p99', 60)`, "RUNNING_SUM(RATE(a)) AND LOG(b) || 1 == 2", "TIME_SERIES(1/0)", "-(-a)", "FIRST([])",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		queries := []Query{metric("a", "a"), metric("b", "gaps"), {ID: "x", Expression: expression, Hidden: true}}
		p, err := Prepare("Metrics", queries)
		if err != nil {
			if _, ok := errors.AsType[*thaw.Error](err); !ok {
				t.Errorf("%q: %v", expression, err)
			}
			return
		}
		p.queries[2].Hidden = false
		all, err := p.Run(t.Context(), world(), Range{From: start, To: start.Add(4 * time.Minute), Now: start.Add(time.Hour)})
		if err != nil && !errors.Is(err, &thaw.Error{Code: thaw.CodeValidation}) {
			t.Errorf("%q: %v", expression, err)
		}
		for _, s := range all {
			for i, v := range s.Values {
				if math.IsNaN(v) || math.IsInf(v, 0) || i > 0 && !s.Times[i].After(s.Times[i-1]) {
					t.Errorf("%q gives %v at %v", expression, s.Values, s.Times)
				}
			}
		}
	})
}

// FuzzSearch looks for a search expression that trips its parser.
func FuzzSearch(f *testing.F) {
	for _, seed := range []string{`{AWS/Lambda,FunctionName} MetricName="Errors"`, "a AND (b OR NOT c) d=e", `"`, "=", "x=(y OR", "{,}"} {
		f.Add(seed)
	}
	m := metrics.Metric{Namespace: "AWS/Lambda", Name: "CPUUtilization2", Dimensions: []metrics.Dimension{{Name: "FunctionName", Value: "a-b"}}}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := parseSearch(text)
		if err == nil {
			q.match(&m)
		}
	})
}

func TestWords(t *testing.T) {
	for name, want := range map[string]string{
		"CPUUtilization": "cpu utilization cpuutilization", "order-api": "order api order-api", "a2B": "a 2 b a2b", "": "", "ALL": "all",
	} {
		if got := strings.Join(wordsOf(name), " "); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
}
