package warm

import (
	"math"
	"time"
)

// halfLife is how long it takes until what was seen counts half: a burst, a use, a spare that was not used. It is the
// default keep-alive: while environments that have served are idle, spares matter little.
const halfLife = 10 * time.Minute

func decay(age time.Duration) float64 { return math.Exp2(-max(age, 0).Hours() / halfLife.Hours()) }

// Uses remembers how often a version was used. The zero value has seen nothing. Values are not changed by their methods.
type Uses struct {
	count float64 // as of at
	at    time.Time
}

// Add counts n uses.
func (u Uses) Add(n int, now time.Time) Uses { return Uses{count: u.Size(now) + float64(n), at: now} }

// Size is the number of uses, each of which counts half every ten minutes.
func (u Uses) Size(now time.Time) float64 { return u.count * decay(now.Sub(u.at)) }

// Value rates what is kept in memory: milliseconds that its use spares a request, times how often it is used, per MB.
func Value(start time.Duration, bytes uint64, frequency float64) float64 {
	ms := max(float64(start.Microseconds())/1000, 1) // below, the clock's grain would decide
	mb := max(float64(bytes)/(1<<20), 1)
	return ms / mb * frequency
}

// Worth is the Value of an environment that serves only when the others of its version are busy, and was unused for a
// while. Its frequency is its share of its version's uses: halved for every ten minutes without one, and divided by its
// place behind the others, so that every version has its first before any has many. uses is 1 for a spare, whose version
// may never use it.
func Worth(start time.Duration, bytes uint64, uses float64, unused time.Duration, others int) float64 {
	return Value(start, bytes, uses*decay(unused)/float64(others+1))
}
