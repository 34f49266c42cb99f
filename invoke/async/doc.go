// Package async delivers asynchronous invocations. An event that Enqueue has accepted is stored; it is attempted until the
// function has dealt with it, or ends where the function's owner told it to go, through crashes of the platform.
//
//	Enqueue ──▶ waiting ──▶ attempt ──┬─▶ answered: OnSuccess destination, then gone
//	               ▲                  ├─▶ function error: again after 1 and 2 minutes, at most MaximumRetryAttempts times
//	               │                  ├─▶ throttled, not ready, platform's error: again after 1 s, 2 s, 4 s ... 5 minutes
//	               └── delayed ◀──────┤
//	                                  └─▶ retries exhausted, too old, no concurrency reserved, a recursive loop:
//	                                      OnFailure destination and dead-letter queue; dead if neither took it
//
// The events of a function, all qualifiers together, wait in the durable queue events/FUNCTION. What was attempted, how
// that ended and when the next attempt is due is part of the queue, as the note of a message that was handed back, so that
// a crash forgets only the attempt that was under way, which is then made again. Dead events are kept in the queue
// events-dead/FUNCTION for two weeks, to be looked at and started again.
//
// One lane per function with events takes them from their queue and attempts several at the same time: see window for how
// many. No lane takes more than half of what the node has left, so that a function that is slow leaves room for others.
//
// Locks: a lane's sending before its mu; the Dispatcher's mu is never held together with either. None is held while the
// engine or the function works, but sending, whose readers store events.
package async
