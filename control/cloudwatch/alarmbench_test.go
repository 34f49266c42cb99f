package cloudwatch

import (
	"context"
	"fmt"
	"testing"
	"time"

	"thaw"
	"thaw/telemetry/metrics"
	"thaw/trigger/alarms"
)

// BenchmarkAlarmValues reads what one of 2,000 alarms compares, each on a metric of its own: besides the loop's own work, what an
// evaluation costs.
func BenchmarkAlarmValues(b *testing.B) {
	now := time.Now().UTC().Truncate(time.Minute)
	m, err := metrics.Open(metrics.Config{Dir: b.TempDir(), Now: func() time.Time { return now }})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	defer func() {
		stop()
		<-ended
	}()
	const count = 2000
	metric := func(i int) metrics.Metric {
		return metrics.Metric{Namespace: "Own", Name: "M", Dimensions: []metrics.Dimension{{Name: "N", Value: fmt.Sprint(i)}}}
	}
	for minute := range 60 {
		var data []metrics.Datum
		for i := range count {
			data = append(data, metrics.Datum{Metric: metric(i), At: now.Add(time.Duration(minute-60) * time.Minute), Values: []float64{1, 2, 3}, Resolution: 60})
			if len(data) == 500 {
				if err := m.Put(ctx, data); err != nil {
					b.Fatal(err)
				}
				data = nil
			}
		}
	}
	a := New(Config{Account: thaw.Account{ID: "123456789012", Region: "eu-west-1"}, Metrics: m, Now: func() time.Time { return now }})
	for _, periods := range []int{3, 30} {
		b.Run(fmt.Sprint(periods), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				points, err := a.AlarmValues(ctx, []alarms.Query{{ID: "m1", Namespace: "Own", Metric: "M", Dimensions: []alarms.Dimension{{Name: "N", Value: fmt.Sprint(i % count)}}, Stat: "Sum", Period: 60}}, now.Add(-time.Duration(periods+2)*time.Minute), now)
				if err != nil || len(points) != periods+2 {
					b.Fatal(len(points), err)
				}
			}
		})
	}
}
