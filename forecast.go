package thaw

import "time"

// Forecast is what a trigger knows of invocations that are still to come: how deep a queue is, when a schedule fires next.
type Forecast struct {
	Function  string
	Qualifier string // a version's number or an alias, empty for Latest
	// At is when they come; the zero time stands for now. Environments is how many of them come at the same time, 1 or more.
	At           time.Time
	Environments int
}
