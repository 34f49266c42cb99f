package placement

import (
	"context"
	"fmt"
	"slices"
	"time"

	"thaw"
	"thaw/warm"
)

// makingRoom bounds how long an order waits for room that is being made, whatever Config.Queue says.
const makingRoom = 5 * time.Second

// dispatch carries out the orders as starters and room allow, until ctx ends.
func (p *Placer) dispatch(ctx context.Context) {
	starters := make(chan struct{}, p.cfg.Starters)
	for {
		select {
		case <-ctx.Done():
			return
		case starters <- struct{}{}:
		}
		s, ok := p.next(ctx)
		if !ok {
			return
		}
		p.carrying.Add(1)
		go func() {
			defer p.carrying.Done()
			p.carryOut(ctx, s)
			<-starters
		}()
	}
}

// next waits for the order whose turn it is to have room, and takes the room. It reports false when ctx ends.
func (p *Placer) next(ctx context.Context) (start, bool) {
	for {
		s, ok := p.orders.first()
		switch {
		case !ok:
			p.orders.blocked.Store(false)
			select {
			case <-ctx.Done():
				return start{}, false
			case <-p.orders.kick:
			}
		case s.fleet.void(s.waiter):
			if p.orders.remove(s) && !s.fleet.drop(s.waiter) {
				p.enqueue(s)
			}
		default:
			// Before the look, so that nothing is freed after it unseen.
			p.orders.blocked.Store(true)
			admitted, making := p.admit(s.fleet)
			if admitted {
				if p.orders.remove(s) {
					return s, true
				}
				p.unreserve(s.fleet)
				continue
			}
			more := p.awaitRoom(ctx, making)
			p.orders.full.Store(time.Now().UnixMicro())
			if !more {
				return start{}, false
			}
		}
	}
}

// awaitRoom waits until something may have become free, and refuses the orders that have waited for too long. making: some
// room is being made. It reports false when ctx ends.
func (p *Placer) awaitRoom(ctx context.Context, making bool) bool {
	limit := p.cfg.Queue
	if making {
		limit = max(limit, makingRoom)
	}
	late, oldest := p.orders.late(time.Now().Add(-limit))
	for _, s := range late {
		s.fleet.cancel(s.waiter, p.full())
	}
	if oldest.IsZero() {
		return true
	}
	timer := time.NewTimer(time.Until(oldest.Add(limit)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-p.orders.kick:
	case <-timer.C:
	}
	return true
}

// full is what a request is told that the node has no room for.
func (p *Placer) full() error {
	p.mu.RLock()
	count := p.count
	p.mu.RUnlock()
	return &thaw.Error{Code: thaw.CodeTooManyRequests, Message: "Rate Exceeded.", Reason: "ConcurrentInvocationLimitExceeded", RetryAfter: time.Second,
		Cause: fmt.Errorf("placement: this node has no room for another environment beside %d, which may use %d MB", count, p.memory.Load()>>20)}
}

// admit takes a place and memory for an environment of f. If there is no room, it ends the environment that is worth least,
// and reports that room is being made; then it is to be asked again when that has ended.
func (p *Placer) admit(f *fleet) (admitted, making bool) {
	waiting := p.orders.waiting()
	p.mu.Lock()
	for !p.fits(f) {
		if p.leaving >= min(endingWorkers, max(waiting, 1)) {
			p.mu.Unlock()
			return false, true
		}
		evicted := p.evictLeast(time.Now())
		if evicted == nil {
			making = p.leaving > 0
			p.mu.Unlock()
			return false, making
		}
		p.leaving++
		p.mu.Unlock()
		p.bury(ending{instance: evicted, forRoom: true})
		p.mu.Lock()
	}
	p.reserve(f)
	p.mu.Unlock()
	return true, false
}

// fits reports whether one more environment of f has a place, and its memory is within the budget. One alone always fits:
// there is nothing that it could wait for. The caller holds p.mu.
func (p *Placer) fits(f *fleet) bool {
	switch {
	case p.count >= p.cfg.MaxEnvironments:
		return false
	case p.count == 0:
		return true
	case p.exhausted.Load():
		return false
	}
	return p.cfg.Memory == 0 || p.memory.Load()+f.mayNeed() <= p.cfg.Memory
}

// reserve takes a place and memory for an environment of f, and unreserve gives them back. The caller of reserve holds p.mu.
func (p *Placer) reserve(f *fleet) {
	p.count++
	p.places[f.key.function]++
	p.memory.Add(f.occupy(nil, 1))
}

func (p *Placer) unreserve(f *fleet) { p.vacate(f, nil, false) }

// vacate gives back what an environment held that has ended, nil for one that was not made. forRoom: it was evicted.
func (p *Placer) vacate(f *fleet, instance *Instance, forRoom bool) {
	p.mu.Lock()
	p.count--
	if p.places[f.key.function]--; p.places[f.key.function] == 0 {
		delete(p.places, f.key.function)
	}
	p.memory.Add(f.occupy(instance, -1))
	if forRoom {
		p.leaving--
	}
	p.mu.Unlock()
	p.orders.freed()
}

// yields reports whether a function has to give up the environment that a request of its own would have next.
func (p *Placer) yields(f *fleet) bool {
	if !p.orders.blocked.Load() || !f.contended() {
		return false
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.orders.grant(f.key.function, func(function string) int { return p.places[function] })
}

// evictLeast pops the environment that is worth least of those that are parked and on demand, nil if there is none. The
// caller holds p.mu.
func (p *Placer) evictLeast(now time.Time) *Instance {
	for {
		var least *fleet
		var worth float64
		for _, f := range p.fleets {
			if w, ok := f.worthOfFirst(now); ok && (least == nil || w < worth) {
				least, worth = f, w
			}
		}
		if least == nil {
			return nil
		}
		if evicted := least.evict(); evicted != nil {
			return evicted
		}
	}
}

// occupy counts a place more or less, and gives the change of what the fleet may need. instance, if any, is the one whose
// place it is.
func (f *fleet) occupy(instance *Instance, n int) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.places += n
	if instance != nil && instance.bytes > 0 {
		f.measured--
		f.measuredBytes -= int64(instance.bytes)
	}
	return f.recharge()
}

// recharge gives the change of what the fleet may need since it was last asked: what has been measured of each environment
// that has served, and an estimate for the others. The caller holds f.mu.
func (f *fleet) recharge() int64 {
	was := f.charge
	f.charge = f.measuredBytes + int64(f.places-f.measured)*f.estimate()
	return f.charge - was
}

// estimate is what an environment of the fleet may need, bytes: the most that one has used that had served. Before any
// has, half of what the function may have, since few functions use all, and not less than what the init has used. The
// caller holds f.mu.
func (f *fleet) estimate() int64 {
	if f.peak > 0 {
		return int64(f.peak)
	}
	return max(f.size/2, int64(f.startBytes))
}

func (f *fleet) mayNeed() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.estimate()
}

// memory is what the fleet's environments may need together, as it is counted against the node's bound.
func (f *fleet) memory() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.charge
}

// weigh takes note of the memory that an environment has used at most, and gives the change of what the fleet may need.
func (f *fleet) weigh(instance *Instance, served bool, bytes uint64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case bytes == 0 || instance.stage == over:
		return 0
	case !served:
		f.startBytes = bytes
		return f.recharge()
	case instance.bytes == 0:
		f.measured++
	}
	f.measuredBytes += int64(bytes) - int64(instance.bytes)
	instance.bytes = bytes
	f.peak = max(f.peak, bytes)
	return f.recharge()
}

// contended reports whether requests of the fleet wait.
func (f *fleet) contended() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiters) > 0
}

// worthOfFirst rates the environment that evict would pop, and reports false when there is none.
func (f *fleet) worthOfFirst(now time.Time) (float64, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.idle) == 0 {
		return 0, false
	}
	i := f.idle[0]
	unused, uses, bytes := now.Sub(i.since), f.usesBy(now).Size(now), i.instance.bytes
	if i.instance.stage == spare {
		unused, uses = now.Sub(time.UnixMicro(f.lastStart.Load())), 1
	}
	if bytes == 0 {
		bytes = uint64(f.estimate())
	}
	return warm.Worth(f.startTook, bytes, uses, unused, len(f.idle)-1), true
}

// usesBy is the fleet's history of uses. The caller holds f.mu.
func (f *fleet) usesBy(now time.Time) warm.Uses {
	if f.releases > 0 {
		f.uses, f.releases = f.uses.Add(f.releases, now), 0
	}
	return f.uses
}

// evict pops the environment that would be used last, nil if none is parked any more.
func (f *fleet) evict() *Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.idle) == 0 {
		return nil
	}
	instance := f.idle[0].instance
	f.idle = slices.Delete(f.idle, 0, 1)
	f.move(instance, over)
	f.cause = thaw.CauseEvicted
	return instance
}
