package telemetry_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"thaw/state"
	"thaw/telemetry"
)

// BenchmarkLogs is the path of log lines from 100 streams to the store: one operation is one line of 100 bytes, stored. The
// writers wait where the store cannot keep up, as functions do.
func BenchmarkLogs(b *testing.B) {
	store, err := state.Open(b.Context(), state.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close() //nolint:errcheck // the benchmark is over
	logs := telemetry.NewLogs(store)
	running := follow(b, store, logs)
	defer running()
	const streams = 100
	line := fmt.Appendf(nil, "%099d\n", 0)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	b.ResetTimer()
	var writers sync.WaitGroup
	for i := range streams {
		s := logs.Stream(fmt.Sprint("/aws/lambda/f", i), "2026/01/31/[$LATEST]0123456789abcdef0123456789abcdef")
		writers.Go(func() {
			for range b.N / streams {
				s.Write(time.Now(), "8f507cfc-0000-4697-b07a-ac58fc914c95", line)
				s.WaitRoom(b.Context())
			}
		})
	}
	writers.Wait()
	logs.Flush()
	// What was published is stored when a reader sees it.
	if err := store.ReadLogs(b.Context(), "none", time.Time{}, false, func(time.Time, []byte) error { return nil }); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	if n := logs.Dropped() + store.LogsDropped(); n > 0 {
		b.Errorf("%d of %d lines were dropped", n, b.N)
	}
}
