package main

import (
	"context"
	"sync"
	"testing"
	"time"

	"thaw/invoke"
	"thaw/telemetry/metrics"
)

// TestThrottlesAreTold counts what was refused since some instant of the running minute.
func TestThrottlesAreTold(t *testing.T) {
	m, err := metrics.Open(metrics.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer func() { cancel(); running.Wait() }()
	s := &telemetrySide{metrics: m}
	since := time.Now()
	account, reserved := invoke.ThrottleReasons()[0], invoke.ThrottleReasons()[1]
	for range 3 {
		s.throttled("f", "", reserved)
	}
	s.throttled("f", "1", account)
	s.throttled("g", "", account)
	deadline := time.After(30 * time.Second)
	for {
		counts, err := s.throttles(t.Context(), "f", since)
		if err != nil {
			t.Fatal(err)
		}
		if len(counts) == 2 && counts[reserved] == 3 && counts[account] == 1 {
			break
		}
		select {
		case <-deadline:
			t.Fatalf("%v", counts)
		case <-time.After(20 * time.Millisecond):
		}
	}
	if counts, err := s.throttles(t.Context(), "f", since.Add(time.Hour)); err != nil || len(counts) != 0 {
		t.Errorf("%v, %v", counts, err)
	}
	if counts, err := s.throttles(t.Context(), "h", since.Add(-1000*time.Hour)); err != nil || len(counts) != 0 {
		t.Errorf("%v, %v", counts, err)
	}
}
