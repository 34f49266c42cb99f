package alarms

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"thaw/state"
	"thaw/trigger/delivery"
)

// BenchmarkTick evaluates 1,000 alarms of which none changes: what a minute costs beside reading the metrics.
func BenchmarkTick(b *testing.B) {
	store, err := state.Open(b.Context(), state.Config{Dir: filepath.Join(b.TempDir(), "data")})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	l, err := New(Config{
		Account: account, Records: NewRecords(store), Functions: &world{}, HasQueue: func(string) bool { return true },
		Values:  func(context.Context, []Query, time.Time, time.Time) ([]Point, error) { return nil, nil },
		Deliver: func(context.Context, delivery.Delivery) error { return nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		l.learn(&Alarm{Name: fmt.Sprint(i), Change: 1, Created: noon, Updated: noon, Status: Status{Value: Insufficient}, Metric: &Metric{
			Queries: []Query{{ID: "m1", Namespace: "N", Metric: "M", Stat: "Sum", Period: 60}}, Evaluation: 5, Comparison: "GreaterThanThreshold",
		}})
	}
	now := noon
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Minute)
		if err := l.Tick(b.Context(), now); err != nil {
			b.Fatal(err)
		}
	}
}
