// Package insights reads queries of CloudWatch Logs Insights and runs them over log events: the commands fields, filter,
// parse, stats, sort, limit, display and dedup, with the functions of the page "Supported operations and functions" of the
// CloudWatch Logs user guide. Other commands are refused by name.
//
// A Query is read only. A Run holds what one execution has gathered, which is bounded: rows and groups by MaxRows, their
// bytes by MaxBytes. It is used by one goroutine, and sees the events in any order.
package insights

import (
	"errors"
	"time"
)

// Bounds of a run. AWS answers up to 10,000 rows of one query unless it is asked page by page.
const (
	MaxRows  = 10_000
	MaxBytes = 64 << 20
)

// Bounds of a query.
const (
	maxCommands = 50
	maxDepth    = 50
	maxDedup    = 30 // fields of dedup
	// maxSteps is how many steps the regular expressions take for each byte of a message; those of parse count once more
	// for each field.
	maxSteps = 20_000
)

// ErrTooMuch is a query whose results do not fit into the bounds.
var ErrTooMuch = errors.New("the query has more groups, or larger results, than can be kept")

// ErrNotImplemented is in the error of Parse for a command that AWS has and that is not there.
var ErrNotImplemented = errors.New("not implemented")

// Event is a log event that a query sees.
type Event struct {
	At, Stored time.Time
	Log        string // ACCOUNT:GROUP
	Stream     string
	RequestID  string // empty: the message may tell
	Message    string
	Pointer    string // what @ptr shows
}

// Field is one field of a result.
type Field struct{ Name, Value string }
