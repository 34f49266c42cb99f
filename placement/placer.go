package placement

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"thaw"
	"thaw/runtimes"
	"thaw/sandbox"
	"thaw/state"
	"thaw/telemetry"
	"thaw/template"
	"thaw/warm"
)

// Store is what placement needs of the state: the catalog, its changes, and the right to end an update.
type Store interface {
	Function(name string) (*thaw.Function, bool)
	// Functions lists at most limit functions by name, those after one.
	Functions(after string, limit int) []*thaw.Function
	UpdateFunction(ctx context.Context, name string, change func(*thaw.Function) error) (*thaw.Function, error)
	Watch(ctx context.Context, fn func(state.Change)) error
}

// Packages gives a version's unpacked code on this node, and its layers joined. A tree stays while it is retained.
type Packages interface {
	Dir(ctx context.Context, sha256 string) (string, error)
	Retain(sha256 string) (release func())
	Layers(ctx context.Context, sha256 []string) (string, error)
	RetainLayers(sha256 []string) (release func())
}

// Launcher knows how to start a version's runtime.
type Launcher interface {
	Launch(ctx context.Context, v *thaw.Version, codeDir, optDir string) (*runtimes.Launch, error)
}

// Config is what placement is made of.
type Config struct {
	Store    Store
	Packages Packages
	Launcher Launcher
	Sandbox  *sandbox.Config
	// Programs is the folder in which what environments need besides their runtime is kept: what starts extensions.
	Programs string
	Logs     *telemetry.Logs
	Log      *slog.Logger
	// MaxEnvironments bounds the environments of this node, made or being made.
	MaxEnvironments int
	// Starters bounds how many environments are made at the same time.
	Starters int
	// Queue is how long a request waits for room on the node before it is refused. What waits is bounded by MaxEnvironments.
	Queue time.Duration
	// Memory is what the environments may use together, bytes; 0: not bounded.
	Memory int64
	// KeepAlive decides how long an environment may be idle before it is ended.
	KeepAlive warm.KeepAlive
	// MaxAge is how long an environment may live; it ends when it is next idle. 0: for ever.
	MaxAge time.Duration
	// FreezeAfter is how long an environment is idle before it is frozen.
	FreezeAfter time.Duration
	// Spares is how many environments that have served nothing are kept ready for each version at least; 0: none are made.
	Spares int
	// MaxVersionSpares is how many there may be for a version whose requests come in bursts; Spares if that is more.
	MaxVersionSpares int
	// MaxSpares bounds them over all versions of this node.
	MaxSpares int
	// MaxTemplates bounds the templates of this node.
	MaxTemplates int
	// Recent is the file that keeps, over a restart, when which function was used. Empty: it is forgotten.
	Recent string
	// InactiveAfter is how long a version may go without being invoked or changed before it becomes Inactive; 0: it never does.
	InactiveAfter time.Duration
	// Profiled, if set, has inits measured, and hears of each that was: one call at a time, after the environment has been handed
	// over. The profile is its own from then on.
	Profiled func(*thaw.InitProfile)
	// AvailableMemory is the share of the machine's memory that is available now, 0 to 1. Nil: always enough.
	AvailableMemory func() float64
}

// Placer hands out environments. Its methods may be called from several goroutines while Run runs.
type Placer struct {
	cfg Config

	mu      sync.RWMutex
	fleets  map[fleetKey]*fleet
	last    map[string]lastVersion // per qualified name: what ran here last, for the cause of the next start
	recent  map[string]usage       // per qualified name: its use before the fleet that it has now
	count   int                    // environments made, being made or being closed
	places  map[string]int         // of these, per function
	leaving int                    // of these, those that end so that others have room
	closed  bool                   // Run is over

	templates map[fleetKey]*held

	orders   *orders
	carrying sync.WaitGroup // orders being carried out
	memory   atomic.Int64   // what the environments may need, bytes
	// exhausted: the machine itself has next to no memory left.
	exhausted atomic.Bool

	closing chan ending

	profiles     chan toldProfile
	profilesHeld atomic.Int64 // their bytes
	profilesLost atomic.Uint64

	wishMu sync.Mutex
	wishes map[fleetKey]time.Time // versions whose template and spares are to be looked after, and their last use
	wished chan struct{}          // a token whenever there is one

	urgent atomic.Int32 // environments being made that a request ordered
	owed   atomic.Bool  // for want of memory, something was given up or not made

	settling  *queue[slot]     // versions to be prepared
	waking    *queue[slot]     // inactive versions that were invoked
	providing *queue[fleetKey] // versions that lack provisioned environments
	began     time.Time

	planning sync.Mutex // serialises plan; guards moves
	moves    moves

	freezeMu sync.Mutex
	unfrozen []*fleet // fleets that may hold environments to be frozen, each once
}

// lastVersion is what the last fleet of a version's number ran; only $LATEST has had several.
type lastVersion struct {
	generation uint64
	code       string
}

// ending is an environment to be closed.
type ending struct {
	instance *Instance
	// forRoom: an order waits for the place that it has.
	forRoom bool
}

// endingWorkers close environments: mostly waiting for the kernel.
const endingWorkers = 4

// slowEndings is how many environments with extensions are closed at a time: each may take the 2 s of AWS's Shutdown phase.
const slowEndings = 64

// New makes a Placer; nothing happens before Run.
func New(cfg Config) *Placer {
	return &Placer{
		cfg:       cfg,
		fleets:    map[fleetKey]*fleet{},
		last:      map[string]lastVersion{},
		orders:    newOrders(cfg.MaxEnvironments),
		places:    map[string]int{},
		templates: map[fleetKey]*held{},
		recent:    map[string]usage{},
		wishes:    map[fleetKey]time.Time{},
		wished:    make(chan struct{}, 1),
		settling:  newQueue[slot](),
		waking:    newQueue[slot](),
		providing: newQueue[fleetKey](),
		moves:     moves{},
		began:     time.Now(),
		closing:   make(chan ending, cfg.MaxEnvironments),
		profiles:  make(chan toldProfile, profilesWaiting),
	}
}

// Lease is an environment in one request's hands.
type Lease struct {
	*Instance
	Kind  thaw.StartKind
	Cause thaw.Cause
	// Provisioned: it is one of its version's provisioned concurrency, and takes no permit.
	Provisioned bool

	fleet *fleet
	alone bool
}

// Idle gives an idle environment, if there is one, and never waits.
func (p *Placer) Idle(v *thaw.Version) (Lease, bool) {
	f := p.fleetOf(v)
	for instance := f.take(); instance != nil; instance = f.take() {
		if instance.Claim() {
			l := f.lease(instance, "")
			if l.Kind != thaw.StartWarm {
				p.wish(keyOf(v), time.Now())
			}
			return l, true
		}
		p.end(f, instance, thaw.CauseCrashed)
	}
	return Lease{}, false
}

// Spare gives an environment that has served nothing yet although others may be idle, if one is parked, and never waits.
func (p *Placer) Spare(v *thaw.Version) (Lease, bool) {
	f := p.fleetOf(v)
	for instance := f.takeUnserved(); instance != nil; instance = f.takeUnserved() {
		if instance.Claim() {
			p.wish(keyOf(v), time.Now())
			return f.lease(instance, ""), true
		}
		p.end(f, instance, thaw.CauseCrashed)
	}
	return Lease{}, false
}

// Acquire gives an environment for one invocation of a version, waiting until ctx ends if one must be made. forced asks
// for a new one that is not kept. Errors: *sandbox.InitError when the function's init fails, *thaw.Error when the node
// is full or the start failed for the platform's reasons, ctx's own.
func (p *Placer) Acquire(ctx context.Context, v *thaw.Version, forced bool) (Lease, error) {
	if !forced {
		if l, ok := p.Idle(v); ok {
			return l, nil
		}
	}
	f := p.fleetOf(v)
	// An environment may die in the moment of its hand-over. One more try, so that a function whose environments all
	// die at once cannot keep a request going in circles.
	for range 2 {
		instance, cause, err := p.wait(ctx, f, v, forced)
		if err != nil {
			return Lease{}, err
		}
		if instance.Claim() {
			l := f.lease(instance, cause)
			l.alone = forced
			return l, nil
		}
		p.end(f, instance, thaw.CauseCrashed)
	}
	return Lease{}, &thaw.Error{Code: thaw.CodeService, Message: "The function's environments end as soon as they are started. Read its log with: thaw logs " + v.Function}
}

// wait orders a start and returns the first environment that comes, this start's or one that became free.
func (p *Placer) wait(ctx context.Context, f *fleet, v *thaw.Version, forced bool) (*Instance, thaw.Cause, error) {
	w := &waiter{got: make(chan result, 1), alone: forced}
	cause := p.order(f, v, w)
	select {
	case got := <-w.got:
		if failure, ok := errors.AsType[*InitFailure](got.err); ok {
			mine := *failure
			mine.Cause = cause
			return nil, "", &mine
		}
		return got.instance, cause, got.err
	case <-ctx.Done():
		if f.leave(w) {
			return nil, "", ctx.Err()
		}
		// A result is on its way: give an environment back.
		if got := <-w.got; got.err == nil {
			p.giveBack(f, got.instance, forced)
		}
		return nil, "", ctx.Err()
	}
}

// Release ends a lease. An environment that is broken, or was made for one request only, is closed in the background.
func (p *Placer) Release(l Lease) {
	if l.alone || !l.Usable() {
		cause := thaw.Cause("")
		switch {
		case l.TimedOut():
			cause = thaw.CauseTimedOut
		case !l.Usable():
			cause = thaw.CauseCrashed
		}
		p.end(l.fleet, l.Instance, cause)
		return
	}
	if l.Served == 1 {
		// It may never rest for long enough to be frozen and weighed, and would go on counting as a stranger.
		p.memory.Add(l.fleet.weigh(l.Instance, true, l.LastPeak()))
	}
	l.Release()
	p.giveBack(l.fleet, l.Instance, false)
}

// giveBack offers an environment that was handed out to the next request.
func (p *Placer) giveBack(f *fleet, instance *Instance, alone bool) {
	switch now := time.Now(); {
	case alone:
		p.end(f, instance, "")
		return
	case p.yields(f):
		p.end(f, instance, thaw.CauseEvicted)
		return
	case !f.giveBack(instance, now):
		p.end(f, instance, "")
		if f.aged(instance, now) {
			p.wish(f.key, now)
		}
		return
	}
	p.orders.freed()
	p.noteUnfrozen(f)
}

// noteUnfrozen makes the freezer look at a fleet, once per round.
func (p *Placer) noteUnfrozen(f *fleet) {
	if f.noted.Swap(true) {
		return
	}
	p.freezeMu.Lock()
	p.unfrozen = append(p.unfrozen, f)
	p.freezeMu.Unlock()
}

// fleetOf finds or makes the fleet of a version.
func (p *Placer) fleetOf(v *thaw.Version) *fleet {
	key := keyOf(v)
	p.mu.RLock()
	f := p.fleets[key]
	p.mu.RUnlock()
	if f != nil {
		return f
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if f = p.fleets[key]; f != nil {
		return f
	}
	f = &fleet{key: key, floor: p.cfg.Spares, ceiling: p.cfg.MaxVersionSpares, cause: thaw.CauseFirst, live: map[string]*Instance{},
		keep: p.cfg.KeepAlive, maxAge: p.cfg.MaxAge, size: int64(v.MemorySize) << 20, fault: p.illegal}
	f.recall(p.recent[key.name()], v.LastModified)
	if last, ok := p.last[key.name()]; ok {
		switch {
		case last.code != v.Code.SHA256:
			f.cause = thaw.CauseDeployed
		case last.generation != v.Generation:
			f.cause = thaw.CauseConfigChanged
		}
	}
	// The version may have been replaced since the request read it: such a fleet keeps nothing. If it is replaced
	// after this look, the reconciler finds the fleet in the map.
	if !p.current(key) {
		f.retired = true
	} else {
		p.last[key.name()] = lastVersion{generation: v.Generation, code: v.Code.SHA256}
	}
	p.fleets[key] = f
	return f
}

// current reports whether a fleet's version is in force.
func (p *Placer) current(key fleetKey) bool {
	f, ok := p.cfg.Store.Function(key.function)
	return ok && isCurrent(f, key)
}

// order has an environment made for w, and says why it is needed, unless enough of its fleet's are being made.
func (p *Placer) order(f *fleet, v *thaw.Version, w *waiter) thaw.Cause {
	cause, order := f.queue(w)
	if order {
		p.enqueue(start{fleet: f, version: v, waiter: w, at: time.Now()})
	}
	return cause
}

// enqueue queues an order, and refuses the one that there is no place for in the queue.
func (p *Placer) enqueue(s start) {
	dropped, ok := p.orders.add(s)
	if !ok {
		s.fleet.cancel(s.waiter, errShutdown)
	}
	if dropped != nil {
		dropped.fleet.cancel(dropped.waiter, p.full())
	}
}

// end closes an environment that is in nobody's hands any more. cause, if any, explains the next start of its fleet.
func (p *Placer) end(f *fleet, instance *Instance, cause thaw.Cause) {
	if f.lost(instance, cause) {
		p.bury(ending{instance: instance})
		p.refill(f)
	}
}

// bury closes an environment in the background.
func (p *Placer) bury(e ending) {
	p.mu.RLock()
	if !p.closed {
		p.closing <- e
		p.mu.RUnlock()
		return
	}
	p.mu.RUnlock()
	p.closeNow(e)
}

func (p *Placer) closeNow(e ending) {
	if err := e.instance.Close(); err != nil {
		p.cfg.Log.Error("cannot close an environment", "environment", e.instance.ID, "function", e.instance.Version.Function, "error", err)
	}
	e.instance.release()
	p.vacate(e.instance.fleet, e.instance, e.forRoom)
	e.instance.fleet.closed()
}

// Run makes, freezes, ages and closes environments and carries out the control API's changes, until ctx ends; then it
// closes every environment.
func (p *Placer) Run(ctx context.Context) error {
	var closers, slow, work errgroup.Group
	turns := make(chan struct{}, slowEndings)
	for range endingWorkers {
		closers.Go(func() error {
			for e := range p.closing {
				if e.instance.Extended() {
					// It waits for its turn by itself, so that those of other functions are not kept waiting behind it.
					slow.Go(func() error {
						turns <- struct{}{}
						p.closeNow(e)
						<-turns
						return nil
					})
					continue
				}
				p.closeNow(e)
			}
			return nil
		})
	}
	work.Go(func() error { p.dispatch(ctx); return nil })
	for range builders {
		work.Go(func() error { p.grant(ctx); return nil })
	}
	for range provisioners {
		work.Go(func() error { p.providing.serve(ctx, p.provide); return nil })
	}
	work.Go(func() error { p.waking.serve(ctx, p.awaken); return nil })
	work.Go(func() error { p.readProfiles(ctx); return nil })
	p.recollect()
	work.Go(func() error { p.tend(ctx); return nil })
	work.Go(func() error { return p.reconcile(ctx) })
	err := work.Wait()
	p.carrying.Wait()
	p.closeAll()
	close(p.closing)
	_ = closers.Wait() // its functions return nil
	_ = slow.Wait()    // as above
	return err
}

// closeAll ends what is left when Run ends: no invocation is under way any more, or its time is over.
func (p *Placer) closeAll() {
	p.mu.Lock()
	p.closed = true
	fleets, templates := p.fleets, p.templates
	p.fleets, p.templates = map[fleetKey]*fleet{}, map[fleetKey]*held{}
	p.mu.Unlock()
	for key, h := range templates {
		p.closeHeld(key, h)
	}
	for _, s := range p.orders.close() {
		s.fleet.cancel(s.waiter, errShutdown)
	}
	for _, f := range fleets {
		for _, instance := range f.shutDown(errShutdown) {
			p.closing <- ending{instance: instance}
		}
	}
}

var errShutdown = &thaw.Error{Code: thaw.CodeService, Message: "The platform is stopping. Try again when it has been started."}

// carryOut makes one environment and hands it over.
func (p *Placer) carryOut(ctx context.Context, s start) {
	defer p.wish(keyOf(s.version), time.Now()) // no spares are made while a request waits
	if !s.fleet.begin(s.waiter) {
		p.unreserve(s.fleet)
		return
	}
	full := p.orders.waitedForRoom(s.at)
	p.urgent.Add(1)
	instance, err := p.start(ctx, s.fleet, s.version, onDemand)
	p.urgent.Add(-1)
	if err != nil {
		p.unreserve(s.fleet)
		s.fleet.failed(s.waiter, err)
		return
	}
	instance.NodeFull = full
	s.fleet.started(s.waiter, instance)
	if s.waiter.alone {
		if !s.fleet.handTo(s.waiter, instance) {
			p.end(s.fleet, instance, "")
		}
		return
	}
	if !s.fleet.offer(instance, time.Now()) {
		p.end(s.fleet, instance, "")
		return
	}
	p.noteUnfrozen(s.fleet)
}

// start makes an environment in the cheapest way there is.
func (p *Placer) start(ctx context.Context, f *fleet, v *thaw.Version, as purpose) (instance *Instance, err error) {
	f.launch()
	defer func() {
		if err != nil {
			f.abandon()
		}
	}()
	begun := time.Now()
	epoch := f.currentEpoch() // before the template is chosen, so that none of an old template passes for new
	if h := p.forkable(v); h != nil {
		instance, err = p.fork(ctx, h.template, v, as)
		if err != nil && ctx.Err() != nil {
			return nil, err
		}
		p.forked(v, h, err)
		if err != nil {
			p.cfg.Log.Warn("cannot fork an environment; it is booted", "function", v.Function, "error", err)
		}
	}
	if instance == nil {
		if instance, err = p.boot(ctx, v, as); err != nil {
			return nil, err
		}
	}
	instance.epoch, instance.fleet, instance.Begun = epoch, f, begun
	return instance, nil
}

// fork makes an environment from a template.
func (p *Placer) fork(ctx context.Context, t *template.Template, v *thaw.Version, as purpose) (*Instance, error) {
	release := p.retain(v)
	id := sandbox.NewID()
	stream := p.cfg.Logs.Stream(v.LogGroupName(), streamName(v, id))
	begin, lines := time.Now(), telemetry.LinesOf(v)
	if v.SnapStarted() {
		version := t.RuntimeVersion()
		stream.Write(begin, "", lines.RestoreStart(nil, begin, &telemetry.Init{Runtime: version, RuntimeARN: p.runtimeARN(version), ID: id}))
	}
	env, err := t.Fork(ctx, &sandbox.Plan{ID: id, LogStream: stream.Name(), Log: stream, Version: v, Provisioned: as == provisioned})
	if v.SnapStarted() {
		now := time.Now()
		status, errorType := initStatus(err)
		stream.Write(now, "", lines.RestoreReport(nil, now, now.Sub(begin), status, errorType))
	}
	if err != nil {
		release()
		return nil, err
	}
	return &Instance{Environment: env, Stream: stream, release: release}, nil
}

// initStatus is how the platform's log lines call the end of an init or a restore: "error" with its type, "timeout", or
// nothing for success.
func initStatus(err error) (status, errorType string) {
	failure, ok := errors.AsType[*sandbox.InitError](err)
	switch {
	case err == nil:
		return "", ""
	case !ok:
		return "error", "" // not the function's
	case failure.TimedOut:
		return "timeout", ""
	}
	return "error", failure.Type
}

// boot brings the code here and boots an environment. When init fails it is tried once more under the function's own
// timeout, as AWS does ("suppressed init"); the second failure is the invocation's. That of a provisioned environment has
// more time, and is not tried again at once.
func (p *Placer) boot(ctx context.Context, v *thaw.Version, as purpose) (_ *Instance, err error) {
	release := p.retain(v)
	defer func() {
		if err != nil {
			release()
		}
	}()
	begun := time.Now()
	trees, err := p.fetch(ctx, v)
	if err != nil {
		return nil, err
	}
	fetched := time.Now()
	id := sandbox.NewID()
	stream := p.cfg.Logs.Stream(v.LogGroupName(), streamName(v, id))
	launch, err := p.launch(ctx, v, trees)
	lacking, ok := errors.AsType[*thaw.FunctionError](err)
	if err != nil && !ok {
		return nil, err
	}
	plan := &sandbox.Plan{
		ID: id, LogStream: stream.Name(), Log: stream, Version: v, Launch: launch, CodeDir: trees.code,
		InitLimit: sandbox.InitTimeout, Provisioned: as == provisioned,
	}
	if plan.Provisioned {
		plan.InitLimit = sandbox.AheadLimit(v)
	}
	p.measure(plan, p.settingsOf(v))
	plan.RuntimeARN = p.runtimeARN(launch.Version)
	initialising, lines := time.Now(), telemetry.LinesOf(v)
	starting := telemetry.Init{
		Type: runtimes.InitializationType(v, plan.Provisioned), Phase: "init", Runtime: launch.Version, RuntimeARN: plan.RuntimeARN, ID: id,
	}
	stream.Write(initialising, "", lines.InitStart(nil, initialising, &starting))
	for {
		var env *sandbox.Environment
		if lacking != nil {
			err = &sandbox.InitError{FunctionError: lacking}
		} else if env, err = p.cfg.Sandbox.Boot(ctx, plan); err == nil {
			now := time.Now()
			stream.Write(now, "", lines.InitReport(nil, now, &starting, env.InitDuration, "", ""))
			instance := &Instance{Environment: env, Stream: stream, release: release}
			if plan.Repeated {
				instance.FailedInit = env.Timing.Begin.Sub(initialising)
			}
			return instance, nil
		}
		failure, ok := errors.AsType[*sandbox.InitError](err)
		if !ok {
			return nil, err
		}
		status, errorType := initStatus(err)
		now := time.Now()
		stream.Write(now, "", lines.InitReport(nil, now, &starting, failure.Length, status, errorType))
		if plan.Repeated || plan.Provisioned {
			return nil, &InitFailure{InitError: failure, Stream: stream, EnvironmentID: id, Begun: begun, Fetched: fetched}
		}
		starting.Phase, plan.ID, plan.Repeated = "invoke", sandbox.NewID(), true
		plan.InitLimit = time.Duration(v.Timeout) * time.Second
	}
}

// InitFailure is an init that failed twice, and where its log is.
type InitFailure struct {
	*sandbox.InitError
	Stream        *telemetry.Stream
	EnvironmentID string
	// Cause is why the request that is told of it needed a start.
	Cause thaw.Cause
	// Begun is as in Instance; Fetched is when the code was on the node.
	Begun, Fetched time.Time
}

// Unwrap gives the failure itself.
func (f *InitFailure) Unwrap() error { return f.InitError }

// streamName is the log stream of an environment, in AWS's form: in a group of the version's own choice, which other functions may
// share, with the function's name.
func streamName(v *thaw.Version, id string) string {
	owner := ""
	if v.LogGroup != "" {
		owner = v.Function
	}
	return time.Now().UTC().Format("2006/01/02/") + owner + "[" + v.Number + "]" + id
}

// runtimeARN names a runtime version the way INIT_START does: AWS's are opaque digests too.
func (p *Placer) runtimeARN(version string) string {
	sum := sha256.Sum256([]byte(version))
	return "arn:aws:lambda:" + p.cfg.Sandbox.Account.Region + "::runtime:" + hex.EncodeToString(sum[:])
}
