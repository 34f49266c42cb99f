package subscription

import (
	"context"
	"math"
	"slices"
	"strconv"

	"thaw/telemetry/filter"
	"thaw/telemetry/groups"
	"thaw/telemetry/metrics"
)

// maxData is how many values are handed over together.
const maxData = 500

// maxDimension is the longest value of a dimension, bytes, CloudWatch's own bound. A line decides about it.
const maxDimension = 1024

// meter makes values of a metric from events.
type meter struct {
	of         *groups.MetricFilter
	value      func(message string) (float64, bool)
	dimensions map[string]filter.Value
	defaulted  int64 // the minute that has its default value already
}

// CheckMetricFilter says what is wrong with the values that a metric filter takes from what its pattern means.
func CheckMetricFilter(pattern *filter.Pattern, f *groups.MetricFilter) error {
	_, err := newMeter(pattern, f)
	return err
}

func newMeter(pattern *filter.Pattern, of *groups.MetricFilter) (*meter, error) {
	m := &meter{of: of, dimensions: map[string]filter.Value{}}
	if n, ok := number(of.Value); ok {
		m.value = func(string) (float64, bool) { return n, true }
	} else {
		v, err := pattern.Value(of.Value)
		if err != nil {
			return nil, err
		}
		m.value = func(message string) (float64, bool) {
			text, ok := v.Of(message)
			if !ok {
				return 0, false
			}
			return number(text)
		}
	}
	for name, text := range of.Dimensions {
		v, err := pattern.Value(text)
		if err != nil {
			return nil, err
		}
		m.dimensions[name] = v
	}
	return m, nil
}

func number(text string) (float64, bool) {
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil && !math.IsNaN(n) && !math.IsInf(n, 0)
}

func newMetricFollower(d *Deliverer, group string, m *groups.MetricFilter) *follower {
	f := newFollower(d, group, groups.Subscription{Name: m.Name, Pattern: m.Pattern, After: m.After})
	f.key, f.metric = group+"\x00metric\x00"+m.Name, m
	return f
}

// measure hands over the values of what was gathered, or the default value where nothing of what came was meant. It fails
// only when ctx ends.
func (f *follower) measure(ctx context.Context) error {
	var data []metrics.Datum
	for _, from := range f.origins {
		for i := range f.events[from] {
			if d, ok := f.meter.datum(&f.events[from][i]); ok {
				data = append(data, d)
			}
		}
	}
	now := f.d.cfg.Now()
	if minute := now.Unix() / 60; len(f.origins) == 0 && f.came && f.metric.Default != nil && minute != f.meter.defaulted {
		f.meter.defaulted = minute
		d := f.meter.empty()
		d.At, d.Values = now, []float64{*f.metric.Default}
		data = append(data, d)
	}
	for i := range data {
		data[i].Origin = f.group
	}
	for part := range slices.Chunk(data, maxData) {
		if err := f.try(ctx, len(part), func() error { return f.put(ctx, part) }); err != nil {
			return err
		}
	}
	return nil
}

// put hands values over, and where they are refused each by itself: what one line says is wrong takes no other with it.
func (f *follower) put(ctx context.Context, part []metrics.Datum) error {
	err := f.d.cfg.PutMetrics(ctx, part)
	if err == nil {
		f.d.count(func(c *Counts) { c.Delivered += uint64(len(part)) })
	}
	if err == nil || !final(err) || len(part) == 1 {
		return err
	}
	var refused uint64
	for i := range part {
		if f.d.cfg.PutMetrics(ctx, part[i:i+1]) != nil {
			refused++
		}
	}
	f.d.count(func(c *Counts) { c.Dropped += refused; c.Delivered += uint64(len(part)) - refused })
	return nil
}

func (m *meter) empty() metrics.Datum {
	return metrics.Datum{Metric: metrics.Metric{Namespace: m.of.Namespace, Name: m.of.Metric}, Unit: m.of.Unit}
}

// datum is the value of an event, if it has one. An event that lacks a dimension's value has none either, as on AWS.
func (m *meter) datum(e *groups.Event) (metrics.Datum, bool) {
	d := m.empty()
	n, ok := m.value(e.Message)
	if !ok {
		return d, false
	}
	d.At, d.Values = e.Event.At, []float64{n}
	for name, v := range m.dimensions {
		text, ok := v.Of(e.Message)
		if !ok || text == "" || len(text) > maxDimension {
			return d, false
		}
		d.Dimensions = append(d.Dimensions, metrics.Dimension{Name: name, Value: text})
	}
	return d, true
}
