package placement

import (
	"context"
	"slices"
	"time"

	"thaw/template"
	"thaw/warm"
)

// warmUp makes a version's template and fills up its spares. Requests go first: where some wait, whoever makes their
// environments wishes for the spares once more.
func (p *Placer) warmUp(ctx context.Context, key fleetKey, used time.Time) {
	f, ok := p.cfg.Store.Function(key.function)
	if !ok || !isCurrent(f, key) {
		return
	}
	v := f.InForce(key.version)
	if !p.worthTemplate(f, v, used) {
		return
	}
	if p.shortOfMemory() {
		p.owed.Store(true)
		return
	}
	if err := p.buildTemplate(ctx, f, v, used); err != nil && ctx.Err() == nil {
		p.cfg.Log.Error("cannot make a template", "function", key.function, "version", key.version, "error", err)
	}
	if now, ok := p.cfg.Store.Function(key.function); ok && template.SettingsOf(now.Tags) != template.SettingsOf(f.Tags) {
		p.dropUnsettled(now) // the tags changed after they were read, and perhaps before the template was known
		p.wish(key, used)
		return
	}
	fleet := p.fleetOf(v)
	for ctx.Err() == nil {
		epoch := fleet.currentEpoch()
		if !p.templateKnown(key) {
			return // whoever makes it, or is to, makes the spares too: those made now would be booted
		}
		p.letRequestsPass(ctx)
		if p.shortOfMemory() {
			p.owed.Store(true)
			return
		}
		if !fleet.wantsSpare(time.Now()) {
			return
		}
		if !p.reserveSpare(fleet, time.Now()) {
			fleet.spareFailed(false)
			return
		}
		instance, err := p.start(ctx, fleet, v, onDemand)
		if err != nil {
			p.unreserve(fleet)
			fleet.spareFailed(true)
			return
		}
		instance.epoch = epoch // a template that goes between the look and the start leaves a boot, which is not wanted
		if !fleet.addSpare(instance, time.Now()) {
			p.end(fleet, instance, "")
			continue
		}
		p.noteUnfrozen(fleet)
	}
}

// reserveSpare takes a place for a spare of f. The node's spares are bounded, and the last quarter of its places is kept
// for requests. At the bound, the spare that is worth least is given up, if a further one of f is worth more.
func (p *Placer) reserveSpare(f *fleet, now time.Time) bool {
	p.mu.Lock()
	if p.closed || p.count >= p.cfg.MaxEnvironments*3/4 || !p.fits(f) {
		p.mu.Unlock()
		return false
	}
	total := 0
	for _, other := range p.fleets {
		ready, making := other.spareCounts()
		total += ready + making // this one's is among those being made
	}
	var gone *Instance
	if total > p.cfg.MaxSpares {
		least, worth := p.leastWorth(f, now)
		if least == nil || worth >= f.worthOfNext(now) {
			p.mu.Unlock()
			return false
		}
		gone = least.takeSpare()
	}
	p.reserve(f)
	p.mu.Unlock()
	if gone != nil {
		p.bury(ending{instance: gone})
	}
	return true
}

// leastWorth finds the fleet, other than one, whose last spare is worth least, nil if there are no spares. The caller
// holds p.mu.
func (p *Placer) leastWorth(except *fleet, now time.Time) (least *fleet, worth float64) {
	for _, f := range p.fleets {
		if f == except {
			continue
		}
		if w, ok := f.worthOfLast(now); ok && (least == nil || w < worth) {
			least, worth = f, w
		}
	}
	return least, worth
}

// wanted is how many spares the fleet is to have. The caller holds f.mu.
func (f *fleet) wanted(now time.Time) int {
	return warm.Spares(max(f.bursts.Size(now), float64(f.expected(now))), f.floor, f.ceiling)
}

// wantsSpare reports whether one more spare is to be made, and counts it as being made. While requests wait for
// environments of this fleet, theirs come first.
func (f *fleet) wantsSpare(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.retired || f.hopeless || len(f.waiters) > 0 || f.spares+f.tally[spare] >= f.wanted(now) {
		return false
	}
	f.spares++
	return true
}

// addSpare keeps a spare, or gives it to a request that waits. It reports false when the fleet does not want it any more.
func (f *fleet) addSpare(instance *Instance, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spares--
	f.hopeless = false
	f.startTook = instance.Timing.Ready.Sub(instance.Timing.Begin)
	return f.offerLocked(instance, now)
}

// worthOfNext rates one more spare, which the caller has counted as being made.
func (f *fleet) worthOfNext(now time.Time) float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.worth(now, f.tally[spare]+f.spares-1)
}

// worthOfLast rates the spare that would be given up first, and reports false when there is none.
func (f *fleet) worthOfLast(now time.Time) (float64, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.tally[spare]
	return f.worth(now, n-1), n > 0
}

func (f *fleet) worth(now time.Time, others int) float64 {
	return warm.Worth(f.startTook, f.startBytes, 1, now.Sub(time.UnixMicro(f.lastStart.Load())), others)
}

// spareCounts counts the spares that are ready and those being made.
func (f *fleet) spareCounts() (ready, making int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tally[spare], f.spares
}

// takeSpare pops a spare, nil if there is none.
func (f *fleet) takeSpare() *Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n, i := range f.idle {
		if i.instance.Served == 0 {
			f.idle = slices.Delete(f.idle, n, n+1)
			f.move(i.instance, over)
			return i.instance
		}
	}
	return nil
}

// renew pops all spares, and has those refused that are being made: what they were made from is not wanted any more.
func (f *fleet) renew() (gone []*Instance) {
	f.mu.Lock()
	f.epoch++
	f.hopeless = false
	f.mu.Unlock()
	for spare := f.takeSpare(); spare != nil; spare = f.takeSpare() {
		gone = append(gone, spare)
	}
	return gone
}

// spareFailed ends wantsSpare without a spare. hopeless: no more are tried before a start has gone well.
func (f *fleet) spareFailed(hopeless bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spares--
	f.hopeless = f.hopeless || hopeless
}
