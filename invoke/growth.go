package invoke

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// growth bounds how fast the environments of one function become more. It counts those that are made: a request that waits
// for one and has another that became free meanwhile, as most do while a busy function gets its first ones, has used nothing up.
type growth struct {
	mu      sync.Mutex // held for no call that waits
	starts  *rate.Limiter
	waiting int // requests that may each come to need one
}

func newGrowth(r ScalingRate) *growth {
	if r.Environments <= 0 {
		return nil
	}
	return &growth{starts: rate.NewLimiter(rate.Limit(float64(r.Environments)/r.Per.Seconds()), r.Environments)}
}

// enter lets one more request wait for an environment, if all that wait may have one made. nil lets every one.
func (g *growth) enter(now time.Time) bool {
	if g == nil {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.starts.TokensAt(now) < float64(g.waiting+1) {
		return false
	}
	g.waiting++
	return true
}

// leave ends what enter began; made says that an environment was.
func (g *growth) leave(now time.Time, made bool) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting--
	if made {
		g.starts.AllowN(now, 1)
	}
}
