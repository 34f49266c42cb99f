package placement

import (
	"context"
	"errors"
	"slices"
	"time"

	"thaw"
	"thaw/sandbox"
)

// provisioners bounds how many provisioned environments are made at the same time on this node.
const provisioners = 4

// reasonInitFailure is AWS's StatusReason of provisioned concurrency whose environments fail to initialise.
const reasonInitFailure = "FUNCTION_ERROR_INIT_FAILURE"

// purpose is what an environment is made for.
type purpose int

const (
	onDemand purpose = iota
	provisioned
)

// capacity is a fleet's provisioned environments. They are kept apart from the others, so that neither age nor a full node
// ends them. The fleet's mu guards it.
type capacity struct {
	wanted int
	since  time.Time      // when what is wanted was last set by its owner
	idle   []idleInstance // initialised and parked, the most recently used last
	made   int            // idle and busy
	starts int            // being made

	failures int       // starts that failed since one went well
	broken   bool      // the last failure was the function's
	retry    time.Time // when the next start is due after a failure
}

// Provisioned counts a version's provisioned environments.
type Provisioned struct {
	Wanted    int `json:"wanted"`
	Allocated int `json:"allocated"` // being made and made
	Available int `json:"available"` // initialised, idle or busy
}

// Provisioned gives an idle provisioned environment of a version, if there is one, and never waits.
func (p *Placer) Provisioned(v *thaw.Version) (Lease, bool) {
	f := p.fleetOf(v)
	for instance := f.takeProvisioned(); instance != nil; instance = f.takeProvisioned() {
		if instance.Claim() {
			return f.lease(instance, ""), true
		}
		p.end(f, instance, "")
	}
	return Lease{}, false
}

// takeProvisioned pops the most recently used idle provisioned environment, nil if there is none.
func (f *fleet) takeProvisioned() *Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := len(f.capacity.idle) - 1
	if last < 0 {
		return nil
	}
	instance := f.capacity.idle[last].instance
	f.capacity.idle[last] = idleInstance{}
	f.capacity.idle = f.capacity.idle[:last]
	if !f.handOut(instance) {
		return nil
	}
	return instance
}

// keep parks a provisioned environment. It reports false when there are more than wanted: the caller then ends it, since
// it could not serve on demand without having been told that it is provisioned.
func (c *capacity) keep(instance *Instance, now time.Time) bool {
	if c.made > c.wanted {
		c.lose(instance)
		return false
	}
	if instance.Served == 0 {
		c.idle = slices.Insert(c.idle, 0, idleInstance{instance: instance, made: now})
	} else {
		c.idle = append(c.idle, idleInstance{instance: instance, since: now})
	}
	return true
}

// lose counts an environment no more that is not parked, if it is provisioned.
func (c *capacity) lose(instance *Instance) {
	if instance.provisioned {
		instance.provisioned = false
		c.made--
	}
}

// popProvisioned takes the parked environment away that was used least recently. The caller holds f.mu, and ends it.
func (f *fleet) popProvisioned() *Instance {
	instance := f.capacity.idle[0].instance
	f.capacity.idle = slices.Delete(f.capacity.idle, 0, 1)
	f.capacity.lose(instance)
	f.move(instance, over)
	return instance
}

// surplusProvisioned takes away the parked environments that are not wanted. The caller holds f.mu, and ends them.
func (f *fleet) surplusProvisioned() (gone []*Instance) {
	for f.capacity.made > f.capacity.wanted && len(f.capacity.idle) > 0 {
		gone = append(gone, f.popProvisioned())
	}
	return gone
}

// provision sets how many provisioned environments there are to be, and gives those to be ended. A wish that was renewed
// since is tried at once, whatever failed before.
func (f *fleet) provision(wanted int, since time.Time) []*Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.retired {
		return nil
	}
	if since.After(f.capacity.since) || wanted == 0 {
		f.capacity.since = since
		f.capacity.recover()
	}
	f.capacity.wanted = wanted
	return f.surplusProvisioned()
}

func (c *capacity) recover() { c.failures, c.broken, c.retry = 0, false, time.Time{} }

// lacks reports whether a provisioned environment is to be made now. After a failure one is tried at a time.
func (c *capacity) lacks(now time.Time) bool {
	return c.made+c.starts < c.wanted && (c.failures == 0 || c.starts == 0 && !now.Before(c.retry))
}

func (f *fleet) lacksProvisioned(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.retired && f.capacity.lacks(now)
}

// beginProvisioned is lacksProvisioned, and counts a start.
func (f *fleet) beginProvisioned(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.retired || !f.capacity.lacks(now) {
		return false
	}
	f.capacity.starts++
	return true
}

// addProvisioned ends beginProvisioned with an environment. It reports false when it is not wanted any more.
func (f *fleet) addProvisioned(instance *Instance, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.capacity.starts--
	f.capacity.made++
	f.capacity.recover()
	instance.provisioned = true
	return f.offerLocked(instance, now)
}

// provisionedNotMade ends beginProvisioned without an environment, for which neither the function nor the platform failed.
func (f *fleet) provisionedNotMade() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.capacity.starts--
}

// provisionedFailed ends beginProvisioned with a failure; broken: it is the function's.
func (f *fleet) provisionedFailed(broken bool, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.capacity.starts--
	f.capacity.failures++
	f.capacity.broken = broken
	f.capacity.retry = now.Add(max(backoff(f.capacity.failures), time.Second))
}

func (f *fleet) provisionedCounts() Provisioned {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Provisioned{Wanted: f.capacity.wanted, Allocated: f.capacity.made + f.capacity.starts, Available: f.capacity.made}
}

// expireProvisioned takes away the parked environments that have died.
func (f *fleet) expireProvisioned() (gone []*Instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := f.capacity.idle[:0]
	for _, i := range f.capacity.idle {
		if i.instance.Usable() {
			kept = append(kept, i)
			continue
		}
		f.capacity.lose(i.instance)
		f.move(i.instance, over)
		gone = append(gone, i.instance)
	}
	clear(f.capacity.idle[len(kept):])
	f.capacity.idle = kept
	return gone
}

// refill has a fleet's provisioned environments made, if some lack.
func (p *Placer) refill(f *fleet) {
	if f.lacksProvisioned(time.Now()) {
		p.providing.add(f.key)
	}
}

// tendProvisioned replaces provisioned environments that have died while nobody used them, and tries again what failed.
func (p *Placer) tendProvisioned() {
	for _, f := range p.allFleets() {
		p.buryAll(f.expireProvisioned())
		p.refill(f)
	}
}

// provide makes one provisioned environment. Versions that lack several take turns.
func (p *Placer) provide(ctx context.Context, key fleetKey) {
	f, ok := p.cfg.Store.Function(key.function)
	if !ok || !isCurrent(f, key) {
		return
	}
	v := f.InForce(key.version)
	fleet := p.fleetOf(v)
	p.letRequestsPass(ctx)
	if p.shortOfMemory() {
		p.owed.Store(true)
		return // looked at again every second
	}
	if err := p.buildTemplate(ctx, f, v, time.Now()); err != nil && ctx.Err() == nil {
		p.cfg.Log.Error("cannot make a template", "function", v.Function, "version", v.Number, "error", err)
	}
	if !p.templateKnown(key) {
		return // whoever makes it says so
	}
	if !fleet.beginProvisioned(time.Now()) {
		return
	}
	p.refill(fleet) // while this one is made, others may be
	if !p.placeForProvisioned(ctx, fleet) {
		fleet.provisionedNotMade()
		return // looked at again every second
	}
	instance, err := p.start(ctx, fleet, v, provisioned)
	switch {
	case err == nil:
		if fleet.addProvisioned(instance, time.Now()) {
			p.noteUnfrozen(fleet)
		} else {
			p.end(fleet, instance, "")
		}
		p.refill(fleet)
	case ctx.Err() != nil:
		p.unreserve(fleet)
		fleet.provisionedNotMade()
		return
	default:
		p.unreserve(fleet)
		_, broken := errors.AsType[*sandbox.InitError](err)
		fleet.provisionedFailed(broken, time.Now())
		p.cfg.Log.Warn("a provisioned environment cannot be made; it is tried again", "function", v.Function, "version", v.Number, "error", err)
	}
	p.plan(key.function)
}

// placeForProvisioned takes room for a provisioned environment, if need be from those on demand that are worth least. Where
// there is none to be had, what an alias has left behind makes room for what it points at now.
func (p *Placer) placeForProvisioned(ctx context.Context, f *fleet) bool {
	look := time.NewTicker(giveWayLook)
	defer look.Stop()
	for {
		admitted, making := p.admit(f)
		if admitted {
			return true
		}
		if !making {
			break
		}
		select {
		case <-ctx.Done():
			return false
		case <-look.C:
		}
	}
	p.planning.Lock()
	p.moves.arrive(f.key.function, f.key.version)
	p.planning.Unlock()
	p.plan(f.key.function)
	return false
}

// giveUpProvisioned ends one parked provisioned environment, the last thing that is done for want of memory.
func (p *Placer) giveUpProvisioned() {
	var oldest *fleet
	var since time.Time
	for _, f := range p.allFleets() {
		f.mu.Lock()
		if len(f.capacity.idle) > 0 && (oldest == nil || f.capacity.idle[0].since.Before(since)) {
			oldest, since = f, f.capacity.idle[0].since
		}
		f.mu.Unlock()
	}
	if oldest == nil {
		return
	}
	oldest.mu.Lock()
	var gone *Instance
	if len(oldest.capacity.idle) > 0 {
		gone = oldest.popProvisioned()
	}
	oldest.mu.Unlock()
	if gone != nil {
		p.cfg.Log.Warn("a provisioned environment ends: the machine is short of memory", "function", oldest.key.function, "version", oldest.key.version)
		p.bury(ending{instance: gone})
	}
}

// ProvisionedUse tells how many of the initialised provisioned environments of a qualifier's version serve now, and how many
// there are. ok is false where there are none.
func (p *Placer) ProvisionedUse(function, qualifier string) (inFlight, allocated int, ok bool) {
	_, _, fleet := p.qualified(function, qualifier)
	if fleet == nil {
		return 0, 0, false
	}
	fleet.mu.Lock()
	defer fleet.mu.Unlock()
	c := &fleet.capacity
	return c.made - len(c.idle), c.made, c.made > 0
}

// qualified finds what a qualifier, a version's number or an alias, leads to; all nil when there is no such version, and the
// fleet alone when the node has nothing of it.
func (p *Placer) qualified(function, qualifier string) (*thaw.Function, *thaw.Version, *fleet) {
	f, ok := p.cfg.Store.Function(function)
	if !ok {
		return nil, nil, nil
	}
	if a, ok := f.Aliases[qualifier]; ok {
		qualifier = a.Version
	}
	v := f.Version(qualifier)
	if v == nil {
		return nil, nil, nil
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return f, v, p.fleets[keyOf(v)]
}

// Capacity tells what this node has of a qualifier's provisioned concurrency. Where several qualifiers provision one
// version, what there is counts for them in their order.
func (p *Placer) Capacity(function, qualifier string) thaw.Capacity {
	pending := thaw.Capacity{Status: thaw.ProvisionedInProgress}
	f, v, fleet := p.qualified(function, qualifier)
	switch {
	case v != nil && v.State == thaw.StateFailed:
		return thaw.Capacity{Status: thaw.ProvisionedFailed, Reason: v.StateReason}
	case fleet == nil:
		return pending
	}
	fleet.mu.Lock()
	c := fleet.capacity
	fleet.mu.Unlock()
	allocated, available := c.made+c.starts, c.made
	for _, q := range qualifiersOf(f, v.Number) {
		requested := f.Provisioned[q].Requested
		if q != qualifier {
			allocated, available = max(allocated-requested, 0), max(available-requested, 0)
			continue
		}
		got := thaw.Capacity{Allocated: min(allocated, requested), Available: min(available, requested), Status: thaw.ProvisionedInProgress}
		switch {
		case got.Available == requested:
			got.Status = thaw.ProvisionedReady
		case c.broken:
			got.Status, got.Reason = thaw.ProvisionedFailed, reasonInitFailure
		}
		return got
	}
	return pending
}
