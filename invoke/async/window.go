package async

import "time"

// window says how many of one function's events may be attempted at the same time, and when none may. It is a value
// without a clock or a lock of its own.
//
// It begins at firstLimit. While it is what holds events back, it is doubled once a second, as long as that makes more
// events end in a second: for a function that waits for others it goes up to what the node has, for one that needs the
// processor it stays near where the processor is busy. A throttled attempt halves it; when nothing succeeds between two
// throttles, the lane pauses too, twice as long each time, so that a function without room is asked now and then and not
// with each of its events.
type window struct {
	limit  int
	before int     // the limit before it was doubled last
	rate   float64 // events that ended per second when it was doubled last

	since  time.Time // begin of the period
	seen   time.Time // when grow was called last
	done   int       // events that ended in the period
	cutOff bool      // the limit was halved in the period
	hold   int       // periods to go before the limit is doubled again

	begun     uint64    // attempts so far
	halved    uint64    // attempts that had begun when the limit was halved
	succeeded bool      // since then
	throttles int       // without a success in between
	paused    time.Time // nothing is attempted before
}

const (
	firstLimit   = 10
	growEvery    = time.Second
	holdPeriods  = 10
	worthGrowing = 1.1 // of the rate before
)

func newWindow() window { return window{limit: firstLimit, succeeded: true} }

// backoff is how long attempts wait that found no room: first, then twice as long each time, at most longest.
type backoff struct{ first, longest time.Duration }

// after gives the wait after n attempts in a row, n from 1.
func (b backoff) after(n int) time.Duration {
	d := b.first
	for ; n > 1 && d < b.longest; n-- {
		d *= 2
	}
	return min(d, b.longest)
}

// answered notes an attempt that the function answered, well or not.
func (w *window) answered() {
	w.done++
	w.succeeded, w.throttles = true, 0
	w.paused = time.Time{}
}

// begin gives the number of an attempt that begins.
func (w *window) begin() uint64 {
	w.begun++
	return w.begun
}

// throttled notes that an attempt found no room. Those that had begun before the limit was halved last say nothing new.
func (w *window) throttled(attempt uint64, now time.Time, b backoff) {
	if attempt <= w.halved {
		return
	}
	w.limit, w.cutOff = max(1, w.limit/2), true
	w.halved = w.begun
	if w.succeeded {
		w.succeeded, w.throttles = false, 0
		return
	}
	w.throttles++
	w.paused = now.Add(b.after(w.throttles))
}

// grow is called when the limit holds events back, most being what the node has for the function.
func (w *window) grow(now time.Time, most int) {
	if now.Sub(w.seen) > 2*growEvery {
		w.since, w.done, w.rate, w.cutOff = now, 0, 0, false // it did not bind for a while
	}
	w.seen = now
	length := now.Sub(w.since)
	if length < growEvery {
		return
	}
	rate := float64(w.done) / length.Seconds()
	slow := w.done < w.limit // less than one round: what the last doubling brought is not known
	cutOff := w.cutOff
	w.since, w.done, w.cutOff = now, 0, false
	switch {
	case w.hold > 0:
		w.hold--
	case cutOff || w.limit >= most:
		w.rate = 0
	case slow, rate > worthGrowing*w.rate:
		w.before, w.rate = w.limit, rate
		w.limit = min(2*w.limit, most)
	default:
		w.limit, w.rate, w.hold = max(w.before, 1), 0, holdPeriods
	}
}
