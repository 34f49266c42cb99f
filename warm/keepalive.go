package warm

import "time"

// Idle is what a KeepAlive may know of an environment that is idle.
type Idle struct {
	// Since is when it became idle.
	Since time.Time
	// Others is how many idle environments of its version are used before it.
	Others int
	// Uses are those of its version.
	Uses Uses
}

// KeepAlive decides how long idle environments are kept. Its answer depends on its arguments alone, and once it is true
// for an environment it stays so for later times.
type KeepAlive interface {
	Expired(e Idle, now time.Time) bool
}

// Fixed keeps every environment for the same time.
type Fixed time.Duration

// Expired says whether the time is over.
func (f Fixed) Expired(e Idle, now time.Time) bool { return now.Sub(e.Since) > time.Duration(f) }
