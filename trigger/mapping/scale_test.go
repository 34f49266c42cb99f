package mapping

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestScaler(t *testing.T) {
	s := scaler{limit: 5}
	for range 60 {
		if got := s.follow(use{busy: 0}, 0, 100); got != 5 {
			t.Fatalf("%d without work", got)
		}
	}
	ticks := 0
	for ; s.limit < 100; ticks++ {
		s.follow(use{busy: s.limit, starved: true}, 1000, 100)
	}
	if ticks > 5 {
		t.Errorf("%d looks until slow batches have all places", ticks)
	}
	for range 10 * slowTicks {
		s.follow(use{busy: 3, batches: 3}, 0, 100)
	}
	if s.limit != 5 {
		t.Errorf("%d places are kept without need", s.limit)
	}
	if got := s.follow(use{}, 0, 0); got != 0 {
		t.Errorf("%d places for a function that cannot run", got)
	}
	if got := s.follow(use{}, 0, 3); got != 3 {
		t.Errorf("%d places when it can again", got)
	}
}

// Fast batches that have the processors already get no more places than they can use.
func TestScalerStopsWhereMoreDoesNotHelp(t *testing.T) {
	s := scaler{limit: 5}
	most := 0
	for range 200 {
		s.follow(use{busy: s.limit, batches: 1000, starved: true}, 1_000_000, 1000)
		most = max(most, s.limit)
	}
	if most > 12 {
		t.Errorf("%d places without gain", most)
	}
	s = scaler{limit: 5}
	for range 200 {
		s.follow(use{busy: s.limit, batches: 20 * min(s.limit, 64), starved: true}, 1_000_000, 1000)
	}
	if s.limit < 50 || s.limit > 150 {
		t.Errorf("%d places where 64 help", s.limit)
	}
}

func TestScalerBacksOff(t *testing.T) {
	now := time.Now()
	s := scaler{limit: 64}
	for i := range 100 {
		s.backOff(now.Add(time.Duration(i) * time.Millisecond))
	}
	if s.limit != 32 {
		t.Errorf("%d places after failures of one moment", s.limit)
	}
	for i := range 20 {
		s.backOff(now.Add(time.Duration(i) * time.Second))
	}
	if s.limit != 1 {
		t.Errorf("%d places after lasting failures", s.limit)
	}
	for range slowTicks - 1 {
		s.follow(use{busy: 1, batches: 1, starved: true}, 100, 1000)
	}
	if s.limit != 1 {
		t.Errorf("%d places soon after", s.limit)
	}
	for range 20 {
		s.follow(use{busy: s.limit, starved: true}, 100, 1000)
	}
	if s.limit < 100 {
		t.Errorf("%d places long after", s.limit)
	}
}

func TestGate(t *testing.T) {
	g := newGate(3)
	var mu sync.Mutex
	inside, most := 0, 0
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(2000))*time.Microsecond)
				if g.acquire(ctx) == nil {
					mu.Lock()
					inside++
					most = max(most, inside)
					inside--
					mu.Unlock()
					g.release()
				}
				cancel()
			}
		})
	}
	all.Wait()
	if most > 3 || g.held != 0 || len(g.waiting) != 0 {
		t.Errorf("%d inside, %d held, %d waiting", most, g.held, len(g.waiting))
	}
	g.setLimit(0)
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() { waiting <- g.acquire(ctx) }()
	for !g.look().starved {
		select {
		case err := <-waiting:
			t.Fatalf("passed: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	g.setLimit(1)
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
	cancel()
	if g.acquire(ctx) == nil {
		t.Error("passed after the end")
	}
}
