package placement

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"thaw"
	"thaw/sandbox"
	"thaw/telemetry"
	"thaw/warm"
)

// Instance is an environment and the log stream that belongs to it.
type Instance struct {
	*sandbox.Environment
	Stream *telemetry.Stream

	release func() // lets the package go
	epoch   uint64 // its fleet's when its start began
	bytes   uint64 // what it held when it was ready; zero: not looked at
	out     bool   // in a request's hands; guarded by its fleet's mu
	// provisioned: one of its version's provisioned concurrency. It changes under its fleet's mu, in nobody's hands.
	provisioned bool
}

// fleetKey names the environments that are interchangeable: one generation of one version of one function.
type fleetKey struct {
	function   string
	version    string
	generation uint64
}

// name is the function's name qualified by the version, which lasts over generations.
func (k fleetKey) name() string { return k.function + ":" + k.version }

func keyOf(v *thaw.Version) fleetKey {
	return fleetKey{function: v.Function, version: v.Number, generation: v.Generation}
}

// fleet holds the environments of one fleetKey.
type fleet struct {
	key fleetKey
	// floor and ceiling bound how many spares are wanted.
	floor, ceiling int

	mu      sync.Mutex
	idle    []idleInstance // the most recently used last
	waiters []*waiter      // requests that wait, oldest first
	live    map[string]*Instance
	// cause is why the next start that finds nothing is not warm.
	cause    thaw.Cause
	spares   int  // spares being made
	hopeless bool // the last spare could not be made
	bursts   warm.Bursts
	// startTook and startBytes are the last spare's: how long its start took, and the memory that it then held.
	startTook  time.Duration
	startBytes uint64
	epoch      uint64 // spares of an earlier one are not kept
	// used is when a request last gave an environment back, or what is remembered of it; Unix µs.
	used atomic.Int64
	// lastStart is when something was last started or taken unserved for a request, or the fleet was made; Unix µs.
	lastStart atomic.Int64
	noted     atomic.Bool // the freezer will look at this fleet
	retired   bool        // its version's code or configuration has been replaced, or the function is gone
	busy      int         // environments that serve right now
	starts    int         // environments ordered or being made
	shared    int         // of these, those that any request may get
	booting   int         // of the shared ones, those being made

	capacity capacity // its provisioned environments
}

type idleInstance struct {
	instance *Instance
	// since is when it became idle. Spares have none: they are frozen at once, and evicted before any other.
	since time.Time
	// made is when a spare was ready.
	made time.Time
}

// waiter is a request without an environment yet.
type waiter struct {
	// got receives exactly one result, unless the waiter has been taken out of its fleet before.
	got chan result
	// alone: it waits for an environment of its own and is not in the fleet's queue. gone then says that it has left
	// or has been served.
	alone, gone bool
}

type result struct {
	instance *Instance
	err      error
}

// take pops the most recently used idle environment, nil if there is none.
func (f *fleet) take() *Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.idle) == 0 {
		return nil
	}
	last := len(f.idle) - 1
	instance := f.idle[last].instance
	f.idle[last] = idleInstance{}
	f.idle = f.idle[:last]
	f.handOut(instance)
	return instance
}

// takeUnserved pops a spare for a request, nil if there is none.
func (f *fleet) takeUnserved() *Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n, i := range f.idle {
		if i.instance.Served == 0 {
			f.idle = slices.Delete(f.idle, n, n+1)
			f.handOut(i.instance)
			return i.instance
		}
	}
	return nil
}

// lease describes a claimed environment. cause is why the request had to wait for it, empty if it did not.
func (f *fleet) lease(instance *Instance, cause thaw.Cause) Lease {
	l := Lease{Instance: instance, Kind: thaw.StartWarm, Provisioned: instance.provisioned, fleet: f}
	if instance.Served > 0 {
		return l
	}
	now := time.Now()
	f.lastStart.Store(now.UnixMicro())
	l.Kind, l.Cause = thaw.StartBoot, cause
	switch {
	case l.Provisioned:
		l.Kind = thaw.StartProvisioned
	case cause == "":
		l.Kind, l.Cause = thaw.StartSpare, f.spareTaken(now)
	case instance.Forked:
		l.Kind = thaw.StartFork
	}
	return l
}

// spareTaken takes note of a request that found no environment that had served, and says why.
func (f *fleet) spareTaken(now time.Time) thaw.Cause {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bursts = f.bursts.Add(now)
	if f.busy > 1 {
		return thaw.CauseScaleOut
	}
	return f.cause
}

// counts counts the fleet's environments.
func (f *fleet) counts(now time.Time) Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	spares := f.spareCount()
	return Counts{Busy: f.busy, Idle: len(f.idle) - spares, Spares: spares, Wanted: f.wanted(now), Starts: f.starts + f.spares + f.capacity.starts, Provisioned: len(f.capacity.idle)}
}

// queue adds a waiter and says why its start is not warm, and whether it needs an order of its own: it does not while
// there are more orders than requests that wait.
func (f *fleet) queue(w *waiter) (cause thaw.Cause, order bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	cause = f.cause
	switch {
	case w.alone:
		f.starts++
		return thaw.CauseForced, true
	case f.busy+f.starts > 0:
		cause = thaw.CauseScaleOut
	}
	f.bursts = f.bursts.Add(time.Now())
	f.waiters = append(f.waiters, w)
	if len(f.waiters) <= f.shared {
		return cause, false
	}
	f.starts++
	f.shared++
	return cause, true
}

// withdraw takes an order back. It reports false when the waiter has been served meanwhile.
func (f *fleet) withdraw(w *waiter) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended(w)
	return f.leaveLocked(w)
}

// ended counts an order no more.
func (f *fleet) ended(w *waiter) {
	f.starts--
	if !w.alone {
		f.shared--
	}
}

// leave takes a waiter out. It reports false when a result has been sent to it already.
func (f *fleet) leave(w *waiter) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leaveLocked(w)
}

func (f *fleet) leaveLocked(w *waiter) bool {
	if w.alone {
		gone := w.gone
		w.gone = true
		return !gone
	}
	for i, other := range f.waiters {
		if other == w {
			f.waiters = append(f.waiters[:i], f.waiters[i+1:]...)
			return true
		}
	}
	return false
}

// handTo gives an environment to one waiter, and reports false when it has gone.
func (f *fleet) handTo(w *waiter, instance *Instance) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.leaveLocked(w) {
		return false
	}
	f.handOut(instance)
	w.got <- result{instance: instance}
	return true
}

// begin turns an order into a start. It reports false, and the order is void, when it is not needed any more: every
// request that waits is covered by a start that has begun. Otherwise a busy function's orders would all become spares
// that nobody asked for.
func (f *fleet) begin(w *waiter) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.alone {
		if w.gone {
			f.ended(w)
		}
		return !w.gone
	}
	if len(f.waiters) <= f.booting {
		f.ended(w)
		return false
	}
	f.booting++
	return true
}

// started ends a start that went well.
func (f *fleet) started(w *waiter, instance *Instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bootEnded(w)
	f.hopeless = false
	f.live[instance.ID] = instance
}

func (f *fleet) bootEnded(w *waiter) {
	f.ended(w)
	if !w.alone {
		f.booting--
	}
}

// failed ends a start that did not go well, and tells the waiter that ordered it. Where that has been served otherwise,
// the oldest one that no order is left for is told.
func (f *fleet) failed(w *waiter, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bootEnded(w)
	switch {
	case f.leaveLocked(w):
	case !w.alone && len(f.waiters) > f.shared:
		w = f.waiters[0]
		f.leaveLocked(w)
	default:
		return
	}
	w.got <- result{err: err}
}

// cancel voids an order that will not be carried out.
func (f *fleet) cancel(w *waiter, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended(w)
	if f.leaveLocked(w) {
		w.got <- result{err: err}
	}
}

// offer hands an environment that is not claimed to the oldest waiter, or keeps it idle. It reports false when the
// fleet is retired, or the environment a spare that is not wanted any more: the caller then closes it.
func (f *fleet) offer(instance *Instance, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.offerLocked(instance, now)
}

func (f *fleet) offerLocked(instance *Instance, now time.Time) bool {
	if len(f.waiters) > 0 {
		w := f.waiters[0]
		f.waiters[0] = nil
		f.waiters = f.waiters[1:]
		f.handOut(instance)
		w.got <- result{instance: instance}
		return true
	}
	if f.retired {
		return false
	}
	if instance.provisioned {
		return f.capacity.keep(instance, now)
	}
	if instance.Served == 0 {
		if instance.epoch != f.epoch {
			return false
		}
		// Before those that have served, which are used first.
		f.idle = slices.Insert(f.idle, 0, idleInstance{instance: instance, made: now})
		return true
	}
	f.idle = append(f.idle, idleInstance{instance: instance, since: now})
	return true
}

// giveBack is offer for an environment that was handed out.
func (f *fleet) giveBack(instance *Instance, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.takeBack(instance)
	f.used.Store(now.UnixMicro())
	return f.offerLocked(instance, now)
}

func (f *fleet) handOut(instance *Instance) {
	instance.out = true
	f.busy++
}

func (f *fleet) takeBack(instance *Instance) {
	if instance.out {
		instance.out = false
		f.busy--
	}
}

// lost forgets an environment that is not idle, and remembers why the next start will not be warm. It reports false when
// the environment has been forgotten before.
func (f *fleet) lost(instance *Instance, cause thaw.Cause) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.live[instance.ID]; !ok {
		return false
	}
	f.takeBack(instance)
	delete(f.live, instance.ID)
	f.capacity.lose(instance)
	if cause != "" {
		f.cause = cause
	}
	return true
}

// expire pops the environments that have been idle since before the given instant or have died, oldest first. Of the
// spares it pops those that were made before it and are more than there should be now.
func (f *fleet) expire(before, now time.Time) []*Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	surplus := f.spareCount() - f.wanted(now)
	var gone []*Instance
	kept := f.idle[:0]
	for _, i := range f.idle {
		switch {
		case i.since.IsZero() && surplus > 0 && i.made.Before(before):
			surplus--
			gone = append(gone, i.instance)
		case !i.since.IsZero() && i.since.Before(before):
			f.cause = thaw.CauseIdleExpired
			gone = append(gone, i.instance)
		case !i.instance.Usable():
			f.cause = thaw.CauseCrashed
			gone = append(gone, i.instance)
		default:
			kept = append(kept, i)
			continue
		}
		delete(f.live, i.instance.ID)
	}
	clear(f.idle[len(kept):])
	f.idle = kept
	return gone
}

// oldest says since when the fleet's longest idle environment has been idle.
func (f *fleet) oldest() (time.Time, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.idle) == 0 {
		return time.Time{}, false
	}
	return f.idle[0].since, true
}

// evict pops the longest idle environment, nil if there is none any more.
func (f *fleet) evict() *Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.idle) == 0 {
		return nil
	}
	instance := f.idle[0].instance
	f.idle = append(f.idle[:0], f.idle[1:]...)
	delete(f.live, instance.ID)
	f.cause = thaw.CauseEvicted
	return instance
}

// retire ends the fleet: it takes no idle environment back and gives out those that it had. Requests that wait go on
// waiting for the starts that are under way.
func (f *fleet) retire() []*Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retired = true
	gone := make([]*Instance, 0, len(f.idle))
	for _, i := range f.idle {
		delete(f.live, i.instance.ID)
		gone = append(gone, i.instance)
	}
	f.idle = nil
	f.capacity.wanted = 0
	return append(gone, f.surplusProvisioned()...)
}

// revive undoes retire, for a version that has come back from Inactive.
func (f *fleet) revive() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retired = false
}

// shutDown retires the fleet, tells everybody who waits, and gives out every environment, busy ones too.
func (f *fleet) shutDown(err error) []*Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retired, f.idle, f.capacity = true, nil, capacity{}
	for _, w := range f.waiters {
		w.got <- result{err: err}
	}
	f.waiters = nil
	gone := slices.Collect(maps.Values(f.live))
	clear(f.live)
	return gone
}

// unfrozen lists the environments that have waited unfrozen since before the given instant; more says that younger ones
// wait.
func (f *fleet) unfrozen(before time.Time) (old []*Instance, more bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range slices.Concat(f.idle, f.capacity.idle) {
		switch {
		case !i.instance.Idle():
		case i.since.Before(before):
			old = append(old, i.instance)
		default:
			more = true
		}
	}
	return old, more
}

// over reports whether a retired fleet has nothing left to wait for.
func (f *fleet) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.retired && len(f.live) == 0 && f.starts+f.spares+f.capacity.starts == 0
}

// lastUse is when the function was last used, as far as is known.
func (f *fleet) lastUse() time.Time { return time.UnixMicro(max(f.used.Load(), f.lastStart.Load())) }
