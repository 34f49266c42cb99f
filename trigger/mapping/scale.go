package mapping

import "time"

// How the number of batches at the same time follows the backlog. AWS begins with 5 and adds up to 300 a minute; on one
// machine nobody has to be protected from a faster rise, but more batches than the processors can work on help nobody.
const (
	startBatches = 5
	// slowTicks is for how many looks nothing is added after throttles and failures, and after more batches have brought
	// no more throughput.
	slowTicks = 20
	// gain is how much of what was added must come out as throughput.
	gain = 0.3
)

// scaler decides how many batches of one mapping may be under way. It is told twice a second what happened.
type scaler struct {
	limit int
	hold  int // looks for which nothing is added
	idle  int // looks without need of what there is
	// before is the limit and the throughput before the last addition, zero when there was none to judge.
	before struct{ limit, batches int }
	vain   int  // additions in a row that brought nothing
	good   int  // the limit before them
	gentle bool // additions are small: a doubling has brought nothing
	// backedOff is when the limit was halved last.
	backedOff time.Time
}

// follow gives the limit for the next half second. ceiling is the most there may be, 0 to stop; backlog is -1 where
// unknown.
func (s *scaler) follow(u use, backlog, ceiling int) int {
	floor := min(startBatches, ceiling)
	if s.hold > 0 {
		s.hold--
	}
	switch {
	case s.limit == 0:
		s.limit = floor // the function can be invoked again
	case u.starved && backlog != 0:
		s.idle = 0
		s.grow(u)
	case s.limit < floor:
		if s.hold == 0 {
			s.limit++
		}
	case s.limit > floor && u.busy < s.limit:
		if s.idle++; s.idle >= slowTicks {
			s.idle = 0
			s.limit -= max(1, (s.limit-max(floor, u.busy))/2)
			s.before.batches, s.vain, s.gentle = 0, 0, false
		}
	}
	s.limit = min(max(s.limit, min(1, ceiling)), ceiling)
	return s.limit
}

// grow adds batches while that helps.
func (s *scaler) grow(u use) {
	if s.hold > 0 {
		return
	}
	if u.batches < s.limit { // each takes longer than the time between two looks, so that there is nothing to be judged
		s.limit *= 2
		s.before.batches, s.vain = 0, 0
		return
	}
	added := float64(s.limit-s.before.limit) / float64(max(1, s.before.limit))
	if s.before.batches > 0 && float64(u.batches) < float64(s.before.batches)*(1+gain*added) {
		s.gentle = true
		if s.vain++; s.vain >= 2 {
			s.limit, s.hold, s.vain = s.good, slowTicks, 0
			s.before.batches = 0
			return
		}
	} else {
		s.good, s.vain = s.limit, 0
	}
	s.before.limit, s.before.batches = s.limit, u.batches
	if s.gentle {
		s.limit += max(1, s.limit/4)
	} else {
		s.limit *= 2
	}
}

// backOff halves the limit, once for what fails at about the same time: the function throttles, or fails.
func (s *scaler) backOff(now time.Time) int {
	s.hold = slowTicks
	if now.Sub(s.backedOff) < tickEvery {
		return s.limit
	}
	s.backedOff = now
	s.limit = min(s.limit, max(1, s.limit/2))
	s.before.batches, s.vain = 0, 0
	return s.limit
}
