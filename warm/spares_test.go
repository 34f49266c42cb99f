package warm

import (
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// burst adds n requests that come one after the other within spread.
func burst(b Bursts, from time.Time, n int, spread time.Duration) Bursts {
	for i := range n {
		b = b.Add(from.Add(spread * time.Duration(i) / time.Duration(n)))
	}
	return b
}

func TestSparesFollowBursts(t *testing.T) {
	const floor, ceiling = 2, 10
	for _, c := range []struct {
		name  string
		b     Bursts
		after time.Duration
		want  int
	}{
		{"nothing yet", Bursts{}, 0, 2},
		{"one at a time", burst(Bursts{}, epoch, 5, 10*time.Second), 10 * time.Second, 2},
		{"a burst", burst(Bursts{}, epoch, 7, time.Second/2), time.Second, 7},
		{"more than the ceiling", burst(Bursts{}, epoch, 500, time.Second/2), time.Second, 10},
		{"half of it later", burst(Bursts{}, epoch, 8, 0), 10 * time.Minute, 4},
		{"the floor in the end", burst(Bursts{}, epoch, 8, 0), time.Hour, 2},
		{"a small one does not undo a large one", burst(burst(Bursts{}, epoch, 8, 0), epoch.Add(time.Minute), 2, 0), 2 * time.Minute, 7},
		{"a large one outdoes what is left of a larger one", burst(burst(Bursts{}, epoch, 10, 0), epoch.Add(20*time.Minute), 6, 0), 20 * time.Minute, 6},
		{"a clock that goes back", burst(burst(Bursts{}, epoch, 3, 0), epoch.Add(-time.Hour), 4, 0), -time.Hour, 4},
		{"recalled", Recall(8, epoch), 10 * time.Minute, 4},
	} {
		if got := Spares(c.b.Size(epoch.Add(c.after)), floor, ceiling); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	if got := Spares(9, 0, ceiling); got != 0 {
		t.Errorf("switched off: %d", got)
	}
	if got := Spares(9, 20, ceiling); got != 20 {
		t.Errorf("a floor above the ceiling: %d", got)
	}
}
