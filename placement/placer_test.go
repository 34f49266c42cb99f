package placement

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"thaw"
	"thaw/runtimes"
	"thaw/sandbox"
	"thaw/sandbox/sandboxtest"
	"thaw/state"
	"thaw/telemetry"
	"thaw/warm"
)

// fakeStore is a catalog in memory that tells its watcher of each change.
type fakeStore struct {
	updating  sync.Mutex // makes UpdateFunction a compare-and-set
	mu        sync.Mutex
	functions map[string]*thaw.Function
	watch     func(state.Change)
}

func (s *fakeStore) Function(name string) (*thaw.Function, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.functions[name]
	return f, ok
}

func (s *fakeStore) put(f *thaw.Function) {
	s.mu.Lock()
	s.functions[f.Name] = f
	watch := s.watch
	s.mu.Unlock()
	if watch != nil {
		watch(state.Change{Name: f.Name, Function: f})
	}
}

func (s *fakeStore) delete(name string) {
	s.mu.Lock()
	delete(s.functions, name)
	watch := s.watch
	s.mu.Unlock()
	if watch != nil {
		watch(state.Change{Name: name})
	}
}

func (s *fakeStore) UpdateFunction(_ context.Context, name string, change func(*thaw.Function) error) (*thaw.Function, error) {
	s.updating.Lock()
	defer s.updating.Unlock()
	f, ok := s.Function(name)
	if !ok {
		return nil, state.ErrNotFound
	}
	next := *f
	next.Published, next.Provisioned, next.Aliases = slices.Clone(f.Published), maps.Clone(f.Provisioned), maps.Clone(f.Aliases)
	if f.Running != nil {
		running := *f.Running
		next.Running = &running
	}
	if err := change(&next); err != nil {
		return nil, err
	}
	s.put(&next)
	return &next, nil
}

func (s *fakeStore) Watch(ctx context.Context, fn func(state.Change)) error {
	s.mu.Lock()
	s.watch = fn
	present := make([]*thaw.Function, 0, len(s.functions))
	for _, f := range s.functions {
		present = append(present, f)
	}
	s.mu.Unlock()
	for _, f := range present {
		fn(state.Change{Name: f.Name, Function: f})
	}
	<-ctx.Done()
	return ctx.Err()
}

type fakePackages struct {
	err      atomic.Pointer[error]
	retained atomic.Int64
}

func (p *fakePackages) Retain(string) func() { p.retained.Add(1); return func() { p.retained.Add(-1) } }

func (p *fakePackages) RetainLayers([]string) func() { return p.Retain("") }

func (p *fakePackages) Layers(ctx context.Context, digests []string) (string, error) {
	return p.Dir(ctx, digests[0])
}

func (p *fakePackages) Dir(context.Context, string) (string, error) {
	if err := p.err.Load(); err != nil {
		return "", *err
	}
	return "/nowhere", nil
}

type fakeLauncher struct{}

func (fakeLauncher) Launch(context.Context, *thaw.Version, string, string) (*runtimes.Launch, error) {
	return &runtimes.Launch{Args: []string{"/bin/true"}, Channel: true, Version: "fake:1"}, nil
}

// noLogs drops every batch.
type noLogs struct{}

func (noLogs) PublishLog(string, string, []byte) error { return nil }
func (noLogs) ReadLogs(context.Context, string, time.Time, bool, func(time.Time, []byte) error) error {
	return nil
}

// rig is a running Placer on fakes.
type rig struct {
	*Placer
	store    *fakeStore
	packages *fakePackages
	driver   *sandboxtest.Driver
	stop     func()
}

func newRig(t testing.TB, runtime sandboxtest.Runtime, change func(*Config)) *rig {
	t.Helper()
	r := &rig{
		store:    &fakeStore{functions: map[string]*thaw.Function{}},
		packages: &fakePackages{},
		driver:   &sandboxtest.Driver{Runtime: runtime},
	}
	cfg := Config{
		Store: r.store, Packages: r.packages, Launcher: fakeLauncher{},
		Sandbox: &sandbox.Config{Driver: r.driver, Account: thaw.Account{ID: "000000000000", Region: "us-east-1"}},
		Logs:    telemetry.NewLogs(noLogs{}), Log: slog.New(slog.DiscardHandler),
		MaxEnvironments: 100, Starters: 4, KeepAlive: warm.Fixed(time.Hour), Queue: time.Second, FreezeAfter: time.Hour, MaxSpares: 3, MaxTemplates: 4,
	}
	if change != nil {
		change(&cfg)
	}
	r.Placer = New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the store is watched", func() bool {
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		return r.store.watch != nil
	})
	t.Cleanup(func() {
		r.stop()
		if n := r.driver.Open.Load(); n != 0 {
			t.Errorf("%d environments are left open", n)
		}
		if n := r.packages.retained.Load(); n != 0 {
			t.Errorf("%d packages are still retained", n)
		}
		if r.count != 0 {
			t.Errorf("%d places are still taken", r.count)
		}
		if n := r.memory.Load(); n != 0 || len(r.places) != 0 || r.leaving != 0 || r.orders.count != 0 {
			t.Errorf("%d bytes are still counted, %v places, %d leaving, %d orders", n, r.places, r.leaving, r.orders.count)
		}
	})
	return r
}

// deploy makes a generation of a function current at once.
func (r *rig) deploy(name, code string, generation uint64) *thaw.Version {
	v := thaw.Version{Function: name, Number: thaw.Latest, Code: thaw.Code{SHA256: code}, Timeout: 3, MemorySize: 128,
		State: thaw.StateActive, LastUpdate: thaw.UpdateSuccessful, Generation: generation}
	r.store.put(&thaw.Function{Name: name, Config: v, Running: &v})
	return &v
}

func (r *rig) acquire(t testing.TB, v *thaw.Version, forced bool) Lease {
	t.Helper()
	l, err := r.Acquire(t.Context(), v, forced)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serve passes one event.
func serve(t *testing.T, l Lease) {
	t.Helper()
	got, err := l.Invoke(t.Context(), &runtimes.Event{RequestID: "r", Payload: []byte(`{}`)}, time.Now().Add(time.Minute))
	if err != nil || string(got) != "{}" {
		t.Fatalf("%q, %v", got, err)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

func wantStart(t *testing.T, l Lease, kind thaw.StartKind, cause thaw.Cause) {
	t.Helper()
	if l.Kind != kind || l.Cause != cause {
		t.Errorf("start %s because %q, want %s because %q", l.Kind, l.Cause, kind, cause)
	}
}

func TestStartKindsAndCauses(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{Handle: crashing}, nil)
	v := r.deploy("f", "code1", 1)

	first := r.acquire(t, v, false)
	wantStart(t, first, thaw.StartBoot, thaw.CauseFirst)
	serve(t, first)
	second := r.acquire(t, v, false)
	wantStart(t, second, thaw.StartBoot, thaw.CauseScaleOut)
	serve(t, second)
	r.Release(first)
	again := r.acquire(t, v, false)
	wantStart(t, again, thaw.StartWarm, "")
	if again.ID != first.ID {
		t.Error("the idle environment was not used")
	}
	forced := r.acquire(t, v, true)
	wantStart(t, forced, thaw.StartBoot, thaw.CauseForced)
	r.Release(forced)
	eventually(t, "the forced environment ends", func() bool { return r.driver.Open.Load() == 2 })
	r.Release(again)
	r.Release(second)

	v2 := r.deploy("f", "code2", 2)
	deployed := r.acquire(t, v2, false)
	wantStart(t, deployed, thaw.StartBoot, thaw.CauseDeployed)
	serve(t, deployed)
	r.Release(deployed)
	eventually(t, "the old environments end", func() bool { return r.driver.Open.Load() == 1 })

	v3 := r.deploy("f", "code2", 3)
	changed := r.acquire(t, v3, false)
	wantStart(t, changed, thaw.StartBoot, thaw.CauseConfigChanged)
	serve(t, changed)
	// An invocation whose deadline has passed breaks its environment.
	if _, err := changed.Invoke(context.WithoutCancel(t.Context()), &runtimes.Event{}, time.Now().Add(-time.Second)); err == nil {
		t.Error("a deadline in the past is met")
	}
	r.Release(changed)
	timedOut := r.acquire(t, v3, false)
	wantStart(t, timedOut, thaw.StartBoot, thaw.CauseTimedOut)
	if _, err := timedOut.Invoke(t.Context(), &runtimes.Event{Payload: crash}, time.Now().Add(time.Minute)); err == nil {
		t.Error("a crash is no error")
	}
	r.Release(timedOut)
	crashed := r.acquire(t, v3, false)
	wantStart(t, crashed, thaw.StartBoot, thaw.CauseCrashed)
	r.Release(crashed)
}

// crash is the event that ends the process of crashing.
var crash = []byte(`"crash"`)

func crashing(_ *sandbox.Spec, event []byte, _ io.Writer) ([]byte, error) {
	if string(event) == string(crash) {
		return nil, errors.New("crash")
	}
	return event, nil
}

func TestBusyEnvironmentOfOldCodeIsNotReused(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{}, nil)
	old := r.acquire(t, r.deploy("f", "code1", 1), false)
	v2 := r.deploy("f", "code2", 2)
	r.Release(old)
	next := r.acquire(t, v2, false)
	if next.ID == old.ID || next.Version.Code.SHA256 != "code2" {
		t.Error("old code is handed out for new")
	}
	r.Release(next)
	eventually(t, "the old environment ends", func() bool { return r.driver.Open.Load() == 1 })
	// A request that resolved the old version before the update may still be served, but nothing of it stays.
	late := r.acquire(t, old.Version, false)
	r.Release(late)
	eventually(t, "the late environment ends", func() bool { return r.driver.Open.Load() == 1 })
}

func TestFunctionMadeAgainGetsNoOldEnvironment(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{}, nil)
	l := r.acquire(t, r.deploy("f", "code1", 7), false)
	r.Release(l)
	r.store.delete("f")
	eventually(t, "its environments end", func() bool { return r.driver.Open.Load() == 0 })
	l = r.acquire(t, r.deploy("f", "code1", 8), false)
	wantStart(t, l, thaw.StartBoot, thaw.CauseFirst)
	r.Release(l)
}

func TestWaitingRequestTakesWhateverComesFirst(t *testing.T) {
	gate := make(chan struct{})
	var booted atomic.Int32
	r := newRig(t, sandboxtest.Runtime{Init: func(*sandbox.Spec, io.Writer) error {
		if booted.Add(1) > 1 {
			<-gate
		}
		return nil
	}}, nil)
	v := r.deploy("f", "code", 1)
	first := r.acquire(t, v, false)
	serve(t, first)
	got := make(chan Lease)
	go func() {
		l, err := r.Acquire(t.Context(), v, false)
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	eventually(t, "the second start is under way", func() bool { return booted.Load() == 2 })
	r.Release(first)
	second := <-got
	wantStart(t, second, thaw.StartWarm, "")
	close(gate)
	eventually(t, "the start has become a spare", func() bool {
		return r.Report(v).Environments.Spares == 1
	})
	spare := r.acquire(t, v, false)
	wantStart(t, spare, thaw.StartSpare, thaw.CauseScaleOut)
	if n := r.driver.Started.Load(); n != 2 {
		t.Errorf("%d starts", n)
	}
	r.Release(second)
	r.Release(spare)
}

func TestIdleIsFrozenThawedAndExpired(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{}, func(c *Config) { c.FreezeAfter = 0 })
	v := r.deploy("f", "code", 1)
	l := r.acquire(t, v, false)
	r.Release(l)
	eventually(t, "the idle environment is frozen", func() bool { return r.driver.Frozen.Load() == 1 })
	l = r.acquire(t, v, false)
	if r.driver.Frozen.Load() != 0 {
		t.Error("it serves frozen")
	}
	serve(t, l)
	r.Release(l)
	r.expireIdle(time.Now().Add(2 * time.Hour))
	eventually(t, "the expired environment ends", func() bool { return r.driver.Open.Load() == 0 })
	l = r.acquire(t, v, false)
	wantStart(t, l, thaw.StartBoot, thaw.CauseIdleExpired)
	r.Release(l)
}

func TestFullNodeEvictsThenRefuses(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{}, func(c *Config) { c.MaxEnvironments = 2 })
	a, b, c := r.deploy("a", "x", 1), r.deploy("b", "x", 1), r.deploy("c", "x", 1)
	la, lb := r.acquire(t, a, false), r.acquire(t, b, false)
	if _, err := r.Acquire(t.Context(), c, false); !errors.Is(err, &thaw.Error{Code: thaw.CodeTooManyRequests}) {
		t.Errorf("a full node answers %v", err)
	}
	serve(t, la)
	r.Release(la)
	lc := r.acquire(t, c, false)
	r.Release(lb)
	la = r.acquire(t, a, false)
	wantStart(t, la, thaw.StartBoot, thaw.CauseEvicted)
	r.Release(la)
	r.Release(lc)
}

func TestInitFailureIsTriedTwiceAndToldOnce(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{Init: func(*sandbox.Spec, io.Writer) error { return errors.New("no") }}, nil)
	_, err := r.Acquire(t.Context(), r.deploy("f", "code", 1), false)
	failure, ok := errors.AsType[*InitFailure](err)
	if !ok || failure.Type != thaw.ErrorExit || string(failure.Payload) != "Runtime exited with error: exit status 1" {
		t.Errorf("got %v", err)
	}
	if n := r.driver.Started.Load(); n != 2 {
		t.Errorf("%d starts", n)
	}
}

func TestReconcileEndsCreationAndUpdate(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{}, nil)
	v := thaw.Version{Function: "f", Number: thaw.Latest, State: thaw.StatePending, Generation: 1, RevisionID: "one"}
	r.store.put(&thaw.Function{Name: "f", Config: v})
	active := func() bool {
		f, ok := r.store.Function("f")
		return ok && f.Config.State == thaw.StateActive && f.Config.LastUpdate == thaw.UpdateSuccessful
	}
	eventually(t, "the function is active", active)
	f, _ := r.store.Function("f")
	if f.Running == nil || f.Config.RevisionID == "one" || f.Config.RevisionID != f.Running.RevisionID {
		t.Errorf("%+v", f)
	}
	// An update whose package cannot be had fails, and the old version goes on.
	bad := error(thaw.Errorf(thaw.CodeInvalidZip, "Could not unzip uploaded file."))
	r.packages.err.Store(&bad)
	next := *f
	next.Config.LastUpdate, next.Config.Generation = thaw.UpdateInProgress, 2
	r.store.put(&next)
	eventually(t, "the update has failed", func() bool {
		f, _ := r.store.Function("f")
		return f.Config.LastUpdate == thaw.UpdateFailed && f.Config.State == thaw.StateActive && f.Running.Generation == 1
	})
}

// TestHammer mixes everything and then looks for environments and places that were lost.
func TestHammer(t *testing.T) {
	var n atomic.Int64
	r := newRig(t, sandboxtest.Runtime{Handle: func(_ *sandbox.Spec, event []byte, _ io.Writer) ([]byte, error) {
		if n.Add(1)%37 == 0 {
			return nil, errors.New("crash")
		}
		return event, nil
	}}, func(c *Config) { c.MaxEnvironments, c.FreezeAfter = 8, 0 })
	names := []string{"a", "b", "c"}
	for _, name := range names {
		r.deploy(name, "x", 1)
	}
	var group sync.WaitGroup
	for worker := range 12 {
		group.Go(func() {
			for i := range 150 {
				name := names[(worker+i)%len(names)]
				f, _ := r.store.Function(name)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%5)*time.Millisecond+time.Microsecond)
				l, err := r.Acquire(ctx, f.Running, i%11 == 0)
				cancel()
				if err != nil {
					continue
				}
				if l.Version.Generation != f.Running.Generation {
					t.Errorf("generation %d for %d", l.Version.Generation, f.Running.Generation)
				}
				l.Invoke(t.Context(), &runtimes.Event{Payload: []byte("{}")}, time.Now().Add(time.Minute)) //nolint:errcheck // some crash
				r.Release(l)
				if i%50 == 49 {
					r.deploy(name, "y", uint64(1000*worker+i))
				}
			}
		})
	}
	group.Wait()
	for _, f := range r.allFleets() {
		f.mu.Lock()
		if f.tally[busy] != 0 || f.starts < 0 || len(f.waiters) != 0 {
			t.Errorf("fleet %v: %d busy, %d starts, %d waiters", f.key, f.tally[busy], f.starts, len(f.waiters))
		}
		f.mu.Unlock()
	}
}

func TestSparesAreKeptAndUsedAfterWarmOnes(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{}, func(c *Config) { c.Spares, c.FreezeAfter = 2, 0 })
	v := r.deploy("f", "code", 1)
	spares := func(n int) func() bool {
		return func() bool { return r.Report(v).Environments.Spares == n }
	}
	eventually(t, "two spares are there", spares(2))
	eventually(t, "they are frozen", func() bool { return r.driver.Frozen.Load() == 2 })
	l := r.acquire(t, v, false)
	wantStart(t, l, thaw.StartSpare, thaw.CauseFirst)
	serve(t, l)
	eventually(t, "the spare is replaced", spares(2))
	r.Release(l)
	again := r.acquire(t, v, false)
	wantStart(t, again, thaw.StartWarm, "")
	other := r.acquire(t, v, false)
	wantStart(t, other, thaw.StartSpare, thaw.CauseScaleOut)
	serve(t, other)
	r.Release(again)
	eventually(t, "that spare is replaced too", spares(2))
	spare, ok := r.Spare(v)
	if !ok {
		t.Fatal("no spare is given although two are parked")
	}
	wantStart(t, spare, thaw.StartSpare, thaw.CauseScaleOut)
	serve(t, spare)
	r.Release(spare)
	r.Release(other)
	r.expireIdle(time.Now().Add(2 * time.Hour))
	eventually(t, "what has served expires, and the spares stay", func() bool {
		c := r.Report(v).Environments
		return c.Idle == 0 && c.Spares == 2 && r.driver.Open.Load() == 2
	})
	v2 := r.deploy("f", "code2", 2)
	eventually(t, "the old spares end and new ones come", func() bool {
		return r.Report(v2).Environments.Spares == 2 && r.driver.Open.Load() == 2
	})
}

func TestSparesOfABrokenFunctionAreNotTriedForEver(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{Init: func(*sandbox.Spec, io.Writer) error { return errors.New("no") }}, func(c *Config) { c.Spares = 2 })
	v := r.deploy("f", "code", 1)
	f := r.fleetOf(v)
	eventually(t, "the platform has given up", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.hopeless
	})
	if n := r.driver.Started.Load(); n != 2 {
		t.Errorf("%d starts", n)
	}
}

func TestSparesAreBoundedOverAllFunctions(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{}, func(c *Config) { c.Spares = 2 }) // at most 3 in all
	total := func() (n int) {
		for _, f := range r.allFleets() {
			n += f.counts(time.Now()).Spares
		}
		return n
	}
	var newest *thaw.Version
	for _, name := range []string{"a", "b", "c"} {
		newest = r.deploy(name, "code", 1)
		eventually(t, "it has a spare", func() bool { return r.Report(newest).Environments.Spares > 0 })
	}
	eventually(t, "there are three in all", func() bool { return total() == 3 })
}
