package cloudwatch

import (
	"context"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"thaw"
	"thaw/telemetry/metrics"
)

// maxDatapoints is how many an answer of GetMetricStatistics has at most.
const maxDatapoints = 1440

// The ages from which AWS rounds the start of a request to longer intervals.
const (
	minutesUntil     = 15 * 24 * time.Hour
	fiveMinutesUntil = 63 * 24 * time.Hour
)

func (a *API) getMetricStatistics(ctx context.Context, in *cloudwatch.GetMetricStatisticsInput) (*cloudwatch.GetMetricStatisticsOutput, error) {
	period, err := checkPeriod("Period", *in.Period)
	if err != nil {
		return nil, err
	}
	from, to := roundStart(*in.StartTime, a.now(), period), *in.EndTime
	simple, extended, err := statistics(in)
	switch count := to.Sub(from) / period; {
	case err != nil:
		return nil, err
	case in.EndTime.Equal(*in.StartTime):
		return nil, invalid("The parameter StartTime must not equal parameter EndTime.")
	case in.EndTime.Before(*in.StartTime):
		return nil, invalid("The parameter StartTime must be less than the parameter EndTime.")
	case count > maxDatapoints:
		return nil, badCombination("You have requested up to %d datapoints, which exceeds the limit of %d. You may reduce the datapoints requested by increasing Period, or decreasing the time range.", count, maxDatapoints)
	}
	metric := metrics.Metric{Namespace: *in.Namespace, Name: *in.MetricName, Dimensions: dimensions(in.Dimensions)}.Sorted()
	points, _, err := a.cfg.Metrics.Query(ctx, metric, from, to, period)
	if err != nil {
		return nil, storeError(err)
	}
	out := &cloudwatch.GetMetricStatisticsOutput{Label: in.MetricName, Datapoints: []types.Datapoint{}}
	for i := range points {
		p := &points[i]
		if in.Unit != "" && string(in.Unit) != p.Unit {
			continue
		}
		if d, ok := datapoint(p, simple, extended); ok {
			out.Datapoints = append(out.Datapoints, d)
		}
	}
	return out, nil
}

// statistics are those that a request asks for.
func statistics(in *cloudwatch.GetMetricStatisticsInput) (simple, extended []metrics.Statistic, err error) {
	if len(in.Statistics) == 0 && len(in.ExtendedStatistics) == 0 {
		return nil, nil, thaw.Errorf(thaw.CodeParameterCombination, "Must specify either Statistics or ExtendedStatistics")
	}
	for _, name := range in.Statistics {
		s, _ := metrics.ParseStatistic(string(name)) // the model has no others
		simple = append(simple, s)
	}
	for i, name := range in.ExtendedStatistics {
		s, ok := metrics.ParseStatistic(name)
		if !ok || s.Simple() {
			return nil, nil, invalid("The value %s for parameter ExtendedStatistics.member.%d is not a valid extended statistic.", name, i+1)
		}
		extended = append(extended, s)
	}
	return simple, extended, nil
}

// datapoint has what was asked for of a point; ok is false where nothing of it can be told.
func datapoint(p *metrics.Point, simple, extended []metrics.Statistic) (d types.Datapoint, ok bool) {
	d = types.Datapoint{Timestamp: &p.At, Unit: types.StandardUnit(p.Unit)}
	if d.Unit == "" {
		d.Unit = types.StandardUnitNone
	}
	for _, s := range simple {
		v, has := p.Value(s)
		if !has {
			continue
		}
		ok = true
		switch types.Statistic(s.String()) {
		case types.StatisticSampleCount:
			d.SampleCount = &v
		case types.StatisticAverage:
			d.Average = &v
		case types.StatisticSum:
			d.Sum = &v
		case types.StatisticMinimum:
			d.Minimum = &v
		case types.StatisticMaximum:
			d.Maximum = &v
		}
	}
	for _, s := range extended {
		if v, has := p.Value(s); has {
			if d.ExtendedStatistics == nil {
				d.ExtendedStatistics = make(map[string]float64, len(extended))
			}
			d.ExtendedStatistics[s.String()], ok = v, true
		}
	}
	return d, ok
}

// checkPeriod takes 1, 5, 10, 20 and 30 seconds and whole minutes.
func checkPeriod(name string, seconds int32) (time.Duration, error) {
	switch {
	case seconds == 1, seconds == 5, seconds == 10, seconds == 20, seconds == 30, seconds > 0 && seconds%60 == 0:
		return time.Duration(seconds) * time.Second, nil
	}
	return 0, invalid("The parameter %s must be 1, 5, 10, 20, 30 or a multiple of 60, not %s.", name, strconv.Itoa(int(seconds)))
}

// roundStart rounds the start of a request down as AWS does: to the period where that is less than a minute, else to the
// minute, to five minutes or to the hour by how long ago it is.
func roundStart(start, now time.Time, period time.Duration) time.Time {
	to := time.Minute
	switch age := now.Sub(start); {
	case age > fiveMinutesUntil:
		to = time.Hour
	case age > minutesUntil:
		to = 5 * time.Minute
	case period < time.Minute:
		to = period
	}
	return start.Truncate(to)
}
