package async

import (
	"slices"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	b := backoff{first: time.Second, longest: 5 * time.Minute}
	var waits []time.Duration
	for n := 1; n <= 11; n++ {
		waits = append(waits, b.after(n)/time.Second)
	}
	if !slices.Equal(waits, []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300}) {
		t.Errorf("%d", waits)
	}
	if b.after(1<<40) != b.longest {
		t.Error("a wait grew beyond the longest")
	}
}

// TestWindow drives a window second by second; each second says how many events end in it, and which limit follows.
func TestWindow(t *testing.T) {
	type second struct{ done, limit int }
	for _, test := range []struct {
		name    string
		most    int
		seconds []second
	}{
		{"more at a time brings more", 500, []second{{10, 20}, {20, 40}, {40, 80}, {80, 160}, {160, 320}, {320, 500}, {500, 500}}},
		{"the processor is busy", 500, []second{{100, 20}, {105, 10}, {100, 10}, {100, 10}, {100, 10}, {100, 10}, {100, 10}, {100, 10}, {100, 10}, {100, 10}, {100, 10}, {100, 10}, {100, 20}, {101, 10}}},
		{"they take longer than a second", 500, []second{{0, 20}, {0, 40}, {10, 80}}},
		{"the node has no more", 15, []second{{10, 15}, {15, 15}, {15, 15}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWindow()
			now := time.Unix(1000, 0)
			w.grow(now, test.most)
			for i, s := range test.seconds {
				for range s.done {
					w.answered()
				}
				now = now.Add(growEvery)
				w.grow(now, test.most)
				if w.limit != s.limit {
					t.Fatalf("second %d: the limit is %d, want %d", i, w.limit, s.limit)
				}
			}
		})
	}
}

func TestWindowThrottled(t *testing.T) {
	w := newWindow()
	b := backoff{first: time.Second, longest: 10 * time.Second}
	now := time.Unix(1000, 0)
	var under []uint64
	for range 10 {
		under = append(under, w.begin())
	}
	for _, attempt := range under {
		w.throttled(attempt, now, b)
	}
	if w.limit != 5 || w.paused.After(now) {
		t.Errorf("after one round: limit %d, paused until %v", w.limit, w.paused)
	}
	for round, pause := range []time.Duration{1, 2, 4, 8, 10, 10} {
		w.throttled(w.begin(), now, b)
		if got := w.paused.Sub(now); got != pause*time.Second {
			t.Errorf("round %d: a pause of %v, want %d s", round, got, pause)
		}
	}
	if w.limit != 1 {
		t.Errorf("limit %d", w.limit)
	}
	w.answered()
	if w.paused.After(now) {
		t.Error("a success does not end the pause")
	}
	w.throttled(w.begin(), now, b)
	if w.paused.After(now) {
		t.Error("one throttle after a success makes a pause")
	}
	// A lane that is throttled does not grow in that second.
	w.grow(now.Add(time.Second), 100)
	w.grow(now.Add(2*time.Second), 100)
	if w.limit != 2 {
		t.Errorf("limit %d after a second without a throttle", w.limit)
	}
}
