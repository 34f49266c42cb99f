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
	// Begun is when its start began, what it waited for being there.
	Begun time.Time
	// FailedInit is what a first init took that failed, zero if none did.
	FailedInit time.Duration
	// NodeFull: its start had to wait until the node had room for it.
	NodeFull bool

	release func() // lets the package go
	epoch   uint64 // its fleet's when its start began
	fleet   *fleet
	// stage and bytes are guarded by the fleet's mu. bytes is the most memory that it has used, once it has served and rested.
	stage stage
	bytes uint64
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
	forecast forecast
	// startTook is how long the last start took, startBytes what the last spare used at most before it served.
	startTook  time.Duration
	startBytes uint64
	uses       warm.Uses
	releases   int // uses that are not yet in uses
	keep       warm.KeepAlive
	maxAge     time.Duration // 0: none
	fault      func(i *Instance, from, to stage)

	size          int64  // the memory that an environment may have, bytes
	peak          uint64 // the most that one has used that had served
	places        int    // of the node's
	measured      int    // environments whose use is known
	measuredBytes int64
	charge        int64  // what the fleet counts for in the node's memory
	epoch         uint64 // spares of an earlier one are not kept
	// used is when a request last gave an environment back, or what is remembered of it; Unix µs.
	used atomic.Int64
	// lastStart is when something was last started or taken unserved for a request, or the fleet was made; Unix µs.
	lastStart atomic.Int64
	noted     atomic.Bool // the freezer will look at this fleet
	retired   bool        // its version's code or configuration has been replaced, or the function is gone
	tally     [stages]int // environments by stage
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
	if !f.handOut(instance) {
		return nil
	}
	return instance
}

// takeUnserved pops a spare for a request, nil if there is none.
func (f *fleet) takeUnserved() *Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n, i := range f.idle {
		if i.instance.Served == 0 {
			f.idle = slices.Delete(f.idle, n, n+1)
			if !f.handOut(i.instance) {
				return nil
			}
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
	if f.tally[busy] > 1 {
		return thaw.CauseScaleOut
	}
	return f.cause
}

// counts counts the fleet's environments.
func (f *fleet) counts(now time.Time) Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Counts{Busy: f.tally[busy], Idle: f.tally[idle] - len(f.capacity.idle), Spares: f.tally[spare], Ending: f.tally[over], Wanted: f.wanted(now), Starts: f.starts + f.spares + f.capacity.starts, Provisioned: len(f.capacity.idle)}
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
	case f.tally[busy]+f.starts > 0:
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
	f.handOut(instance) // legal: it is new
	w.got <- result{instance: instance}
	return true
}

// begin turns an order into a start. It reports false, and the order is void, when it is not needed any more: every
// request that waits is covered by a start that has begun. Otherwise a busy function's orders would all become spares
// that nobody asked for.
func (f *fleet) begin(w *waiter) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.voidLocked(w) {
		f.ended(w)
		return false
	}
	if !w.alone {
		f.booting++
	}
	return true
}

// started ends a start that went well.
func (f *fleet) started(w *waiter, instance *Instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bootEnded(w)
	f.hopeless = false
	f.startTook = instance.Timing.Ready.Sub(instance.Timing.Begin)
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

// void reports whether an order is not needed any more, as begin would.
func (f *fleet) void(w *waiter) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.voidLocked(w)
}

func (f *fleet) voidLocked(w *waiter) bool {
	if w.alone {
		return w.gone
	}
	return len(f.waiters) <= f.booting
}

// drop ends an order that is void, and reports false when it is not.
func (f *fleet) drop(w *waiter) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.voidLocked(w) {
		return false
	}
	f.ended(w)
	return true
}

// cancel ends an order that will not be carried out, and tells who is left without one.
func (f *fleet) cancel(w *waiter, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended(w)
	f.tell(w, err)
}

// tell has a failure known by the waiter whose order it was, or where that has been served otherwise, by the oldest one
// that no order is left for. The caller holds f.mu.
func (f *fleet) tell(w *waiter, err error) {
	switch {
	case !w.alone && len(f.waiters) <= f.shared:
		return // the others' orders are enough
	case f.leaveLocked(w):
	case !w.alone:
		w = f.waiters[0]
		f.leaveLocked(w)
	default:
		return
	}
	w.got <- result{err: err}
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
		if !f.handOut(instance) {
			return true // ends already
		}
		w := f.waiters[0]
		f.waiters[0] = nil
		f.waiters = f.waiters[1:]
		w.got <- result{instance: instance}
		return true
	}
	if f.retired {
		return false
	}
	if f.aged(instance, now) {
		f.cause = thaw.CauseAged
		return false
	}
	if instance.stage == starting && !f.move(instance, f.parked(instance)) {
		return true
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
	if !f.move(instance, f.parked(instance)) {
		return false
	}
	f.releases++
	f.used.Store(now.UnixMicro())
	return f.offerLocked(instance, now)
}

// handOut gives a parked or new environment to a request, as far as move allows. The caller holds f.mu.
func (f *fleet) handOut(instance *Instance) bool { return f.move(instance, busy) }

// parked is the stage of an environment that waits for a request.
func (f *fleet) parked(instance *Instance) stage {
	if instance.Served == 0 && !instance.provisioned {
		return spare
	}
	return idle
}

// aged reports whether an environment has lived for too long to serve once more.
func (f *fleet) aged(instance *Instance, now time.Time) bool {
	return f.maxAge > 0 && now.Sub(instance.Timing.Ready) >= f.maxAge
}

// unpark takes an environment out of those that are parked. The caller holds f.mu.
func (f *fleet) unpark(instance *Instance) {
	is := func(i idleInstance) bool { return i.instance == instance }
	f.idle = slices.DeleteFunc(f.idle, is)
	f.capacity.idle = slices.DeleteFunc(f.capacity.idle, is)
	f.capacity.lose(instance)
}

// lost forgets an environment that is not idle, and remembers why the next start will not be warm. It reports false when
// the environment has been forgotten before.
func (f *fleet) lost(instance *Instance, cause thaw.Cause) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if instance.stage == over {
		return false
	}
	f.move(instance, over)
	f.capacity.lose(instance)
	if cause != "" {
		f.cause = cause
	}
	return true
}

// expire pops the environments that have been idle or have lived for too long, or have died. Of the spares it pops those
// that have waited for too long and are more than there should be now.
func (f *fleet) expire(now time.Time) []*Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	uses := f.usesBy(now)
	surplus := f.tally[spare] - f.wanted(now)
	var gone []*Instance
	kept := f.idle[:0]
	for n, i := range f.idle {
		alive := warm.Idle{Since: i.since, Others: len(f.idle) - 1 - n, Uses: uses}
		unserved := i.instance.stage == spare
		if unserved {
			alive.Since = i.made
		}
		switch {
		case unserved && surplus > 0 && f.keep.Expired(alive, now):
			surplus--
			gone = append(gone, i.instance)
		case f.aged(i.instance, now):
			f.cause = thaw.CauseAged
			gone = append(gone, i.instance)
		case !unserved && f.keep.Expired(alive, now):
			f.cause = thaw.CauseIdleExpired
			gone = append(gone, i.instance)
		case !i.instance.Usable():
			f.cause = thaw.CauseCrashed
			gone = append(gone, i.instance)
		default:
			kept = append(kept, i)
			continue
		}
		f.move(i.instance, over)
	}
	clear(f.idle[len(kept):])
	f.idle = kept
	return gone
}

// retire ends the fleet: it takes no idle environment back and gives out those that it had. Requests that wait go on
// waiting for the starts that are under way.
func (f *fleet) retire() []*Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retired = true
	gone := make([]*Instance, 0, len(f.idle))
	for _, i := range f.idle {
		f.move(i.instance, over)
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
	for _, instance := range gone {
		f.move(instance, over)
	}
	return gone
}

// unfrozen lists the environments that have waited unfrozen since before the given instant; more says that younger ones
// wait.
func (f *fleet) unfrozen(before time.Time) (old []idleInstance, more bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range slices.Concat(f.idle, f.capacity.idle) {
		switch {
		case !i.instance.Idle():
		case i.since.Before(before):
			old = append(old, i)
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
	return f.retired && len(f.live)+f.tally[starting] == 0 && f.starts+f.spares+f.capacity.starts == 0
}

// lastUse is when the function was last used, as far as is known.
func (f *fleet) lastUse() time.Time { return time.UnixMicro(max(f.used.Load(), f.lastStart.Load())) }
