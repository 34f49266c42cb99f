package groups

import (
	"fmt"
	"testing"
	"time"

	"thaw/telemetry"
)

// fill stores n events of 100 bytes, in batches of 100 of 10 streams.
func fill(b *testing.B, p *platform, n int) {
	b.Helper()
	line := fmt.Sprintf("%099d\n", 0)
	for i := range n / 100 {
		events := make([]telemetry.Event, 100)
		for j := range events {
			events[j] = telemetry.Event{At: epoch.Add(time.Duration(i*100+j) * time.Millisecond), RequestID: "8f507cfc-0000-4697-b07a-ac58fc914c95", Message: line}
		}
		meta, data := telemetry.EncodeBatch(fmt.Sprint("s", i%10), events)
		if _, err := p.store.AppendLog(b.Context(), "g", meta.String(), data); err != nil {
			b.Fatal(err)
		}
	}
}

const benchEvents = 500_000 // 50 MB

// BenchmarkScan reads all events, as a query does.
func BenchmarkScan(b *testing.B) {
	p := start(b, b.TempDir())
	fill(b, p, benchEvents)
	if err := p.Sync(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		n := 0
		if err := p.Scan(b.Context(), "g", 0, 1<<60, func(Event) error { n++; return nil }); err != nil || n != benchEvents {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(benchEvents)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkNewest reads the newest 100 events of a group of that size, as a tail does.
func BenchmarkNewest(b *testing.B) {
	p := start(b, b.TempDir())
	fill(b, p, benchEvents)
	for b.Loop() {
		page, err := p.Read(b.Context(), Query{Group: "g", From: First, Before: Last, Backward: true, Limit: 100, Bytes: 1 << 20, Scan: 1 << 26})
		if err != nil || len(page.Events) != 100 {
			b.Fatal(len(page.Events), err)
		}
	}
}
