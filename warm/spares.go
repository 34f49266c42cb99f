package warm

import (
	"math"
	"time"
)

// burstWindow is how far apart requests may come and still be one burst: what a spare that is made after the first of them
// does not help.
const burstWindow = time.Second

// Bursts remembers how many requests found nothing idle at about the same time. The zero value has seen none. Values are
// not changed by their methods.
type Bursts struct {
	peak  float64 // as of at
	at    time.Time
	began time.Time // the burst that counts now
	count int
}

// Recall is a memory of one burst of a size.
func Recall(size float64, at time.Time) Bursts { return Bursts{peak: size, at: at} }

// Add counts one request that found nothing idle.
func (b Bursts) Add(now time.Time) Bursts {
	if since := now.Sub(b.began); since < 0 || since >= burstWindow {
		b.began, b.count = now, 0
	}
	b.count++
	if size := b.Size(now); size <= float64(b.count) {
		b.peak, b.at = float64(b.count), now
	}
	return b
}

// Size is how many requests are to be expected at once, 0 or more: the largest burst, which halves every ten minutes.
func (b Bursts) Size(now time.Time) float64 { return b.peak * decay(now.Sub(b.at)) }

// Spares is how many spares a version is to have: as many as its bursts, at least floor and at most ceiling, or floor if
// that is more. A floor of 0 switches spares off.
func Spares(size float64, floor, ceiling int) int {
	if floor == 0 {
		return 0
	}
	return max(floor, min(int(math.Round(size)), ceiling))
}
