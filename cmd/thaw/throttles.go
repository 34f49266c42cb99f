package main

import (
	"context"
	"time"

	"thaw/invoke"
	"thaw/telemetry/metrics"
)

// throttles counts a function's invocations that were refused, from the minute of since on, by AWS's name of the limit.
func (s *telemetrySide) throttles(ctx context.Context, function string, since time.Time) (map[string]int64, error) {
	from, to := since.Truncate(time.Minute), time.Now().Add(time.Minute)
	counts := map[string]int64{}
	if !from.Before(to) {
		return counts, nil
	}
	period := to.Sub(from).Truncate(time.Second) + time.Second // all of it
	for _, reason := range invoke.ThrottleReasons() {
		points, _, err := s.metrics.Query(ctx, metrics.Metric{Namespace: metrics.NamespaceThaw, Name: metrics.MetricThrottles, Dimensions: []metrics.Dimension{
			{Name: metrics.DimensionFunction, Value: function}, {Name: metrics.DimensionReason, Value: reason},
		}}, from, to, period)
		if err != nil {
			return nil, err
		}
		for i := range points {
			counts[reason] += int64(points[i].Sum)
		}
	}
	return counts, nil
}
