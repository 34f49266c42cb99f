package metrics

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// Dimension is a name and a value that are part of what a metric is.
type Dimension struct {
	Name, Value string
}

// Metric names one metric. Dimensions are sorted by name; Sorted makes them so.
type Metric struct {
	Namespace, Name string
	Dimensions      []Dimension
}

// Sorted gives the metric with its dimensions in order.
func (m Metric) Sorted() Metric {
	m.Dimensions = slices.Clone(m.Dimensions)
	slices.SortFunc(m.Dimensions, func(a, b Dimension) int { return cmp.Compare(a.Name, b.Name) })
	return m
}

// Key is the metric as one string: equal for equal metrics, and the order of List. It is what List's after and next are.
func (m Metric) Key() string {
	var b strings.Builder
	n := len(m.Namespace) + len(m.Name) + 1
	for _, d := range m.Dimensions {
		n += len(d.Name) + len(d.Value) + 2
	}
	b.Grow(n)
	b.WriteString(m.Namespace)
	b.WriteByte(0)
	b.WriteString(m.Name)
	for _, d := range m.Dimensions {
		b.WriteByte(0)
		b.WriteString(d.Name)
		b.WriteByte(0)
		b.WriteString(d.Value)
	}
	return b.String()
}

// Datum is what PutMetricData brings for one metric: Values with as many Counts (none: each once), or Stats.
type Datum struct {
	Metric
	Unit   string    // CloudWatch's own words; empty stands for None
	At     time.Time // zero: now
	Values []float64
	Counts []float64
	Stats  *StatisticSet
	// Resolution is the length in seconds of what is merged: 60, which 0 stands for, or 1.
	Resolution int
	// Origin tells apart who writes where that is not the operator's choice: the log group that the value was found in. One origin may
	// add a quarter of the metrics at most.
	Origin string
}

// StatisticSet is what is left of values that were summed up before they came.
type StatisticSet struct {
	SampleCount, Sum, Minimum, Maximum float64
}

// Filter chooses metrics. Empty members choose all. A dimension without a value stands for all values of that name; a metric may
// have further dimensions.
type Filter struct {
	Namespace, Name string
	Dimensions      []Dimension
	// RecentlyActive leaves those with values in the last three hours; otherwise all with values in the last two weeks are listed.
	RecentlyActive bool
}

// Matches reports whether the filter chooses the metric; RecentlyActive is not looked at.
func (f *Filter) Matches(m *Metric) bool {
	if f.Namespace != "" && f.Namespace != m.Namespace || f.Name != "" && f.Name != m.Name {
		return false
	}
	for _, want := range f.Dimensions {
		if !slices.ContainsFunc(m.Dimensions, func(d Dimension) bool {
			return d.Name == want.Name && (want.Value == "" || d.Value == want.Value)
		}) {
			return false
		}
	}
	return true
}

// Point is what is known of a metric's values in one period of one unit.
type Point struct {
	At                   time.Time // the period's begin
	Unit                 string
	Count, Sum, Min, Max float64

	// histogram holds the distribution of the values. Where statistic sets without a distribution are among them it is not
	// complete, and neither percentiles nor trimmed statistics exist.
	histogram   histogram
	undescribed bool
}

// Gauge is a value that is read once a second. A minute's Maximum, Average and SampleCount are those of what was read.
type Gauge struct {
	Metric
	Unit  string
	Value float64
}

// Units of CloudWatch's StandardUnit that the platform's own metrics have.
const (
	UnitNone         = "None"
	UnitCount        = "Count"
	UnitMilliseconds = "Milliseconds"
	UnitMicroseconds = "Microseconds"
	UnitMegabytes    = "Megabytes"
	UnitBytes        = "Bytes"
	UnitPercent      = "Percent"
	UnitSeconds      = "Seconds"
)

// IsUnit reports whether a unit is one of CloudWatch's StandardUnit.
func IsUnit(unit string) bool {
	return slices.Contains(types.StandardUnit("").Values(), types.StandardUnit(unit))
}
