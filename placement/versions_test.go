package placement

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"thaw"
	"thaw/runtimes"
	"thaw/sandbox"
	"thaw/sandbox/sandboxtest"
	"thaw/template"
	"thaw/warm"
)

func (s *fakeStore) Functions(after string, limit int) []*thaw.Function {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []*thaw.Function{}
	for name, f := range s.functions {
		if name > after {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b *thaw.Function) int { return cmp.Compare(a.Name, b.Name) })
	return all[:min(limit, len(all))]
}

// change makes one change of a function, as the control API does.
func (r *rig) change(t *testing.T, name string, change func(f *thaw.Function)) {
	t.Helper()
	if _, err := r.store.UpdateFunction(t.Context(), name, func(f *thaw.Function) error { change(f); return nil }); err != nil {
		t.Fatal(err)
	}
}

// publish makes a Pending version of $LATEST, whose generation is 100 and its number.
func (r *rig) publish(t *testing.T, name string) (number string) {
	t.Helper()
	r.change(t, name, func(f *thaw.Function) {
		f.LastNumber++
		number = strconv.Itoa(f.LastNumber)
		v := f.Config
		v.Number, v.State, v.LastUpdate, v.Generation = number, thaw.StatePending, "", uint64(100+f.LastNumber)
		f.Published = append(f.Published, v)
	})
	return number
}

func (r *rig) version(t *testing.T, name, number string) *thaw.Version {
	t.Helper()
	f, ok := r.store.Function(name)
	if !ok {
		t.Fatalf("no function %s", name)
	}
	return f.Version(number)
}

func (r *rig) awaitState(t *testing.T, name, number string, s thaw.State) *thaw.Version {
	t.Helper()
	eventually(t, name+":"+number+" is "+string(s), func() bool { return r.version(t, name, number).State == s })
	return r.version(t, name, number)
}

// provision sets a qualifier's provisioned concurrency; 0 deletes it.
func (r *rig) provision(t *testing.T, name, qualifier string, n int) {
	t.Helper()
	r.change(t, name, func(f *thaw.Function) {
		if f.Provisioned == nil {
			f.Provisioned = map[string]thaw.Provisioned{}
		}
		f.Provisioned[qualifier] = thaw.Provisioned{Requested: n, LastModified: time.Now()}
		if n == 0 {
			delete(f.Provisioned, qualifier)
		}
	})
}

func (r *rig) point(t *testing.T, name, alias, number string) {
	t.Helper()
	r.change(t, name, func(f *thaw.Function) {
		if f.Aliases == nil {
			f.Aliases = map[string]thaw.Alias{}
		}
		f.Aliases[alias] = thaw.Alias{Name: alias, Version: number}
	})
}

func (r *rig) awaitCapacity(t *testing.T, name, qualifier string, want thaw.Capacity) {
	t.Helper()
	var got thaw.Capacity
	defer func() {
		if t.Failed() {
			t.Logf("%s:%s has %+v", name, qualifier, got)
		}
	}()
	eventually(t, name+":"+qualifier+" has its capacity", func() bool {
		got = r.Capacity(name, qualifier)
		return got == want
	})
}

func ready(n int) thaw.Capacity {
	return thaw.Capacity{Allocated: n, Available: n, Status: thaw.ProvisionedReady}
}

func TestPublishedVersionsHaveTheirOwnEnvironments(t *testing.T) {
	r := newForkingRig(t, sandboxtest.Runtime{}, nil)
	r.deploy("f", "code1", 1)
	one := r.awaitState(t, "f", r.publish(t, "f"), thaw.StateActive)
	if one.LastUpdate != thaw.UpdateSuccessful {
		t.Errorf("its last update is %q", one.LastUpdate)
	}
	r.awaitTemplate(t, one, template.StateReady)
	old := r.acquire(t, one, false)
	wantStart(t, old, thaw.StartFork, thaw.CauseFirst)
	if !strings.Contains(old.LogStream, "/[1]") {
		t.Errorf("its log stream is %s", old.LogStream)
	}
	serve(t, old)
	r.Release(old)
	latest := r.deployOver(t, "f", "code2", 2)
	l := r.acquire(t, latest, false)
	serve(t, l)
	r.Release(l)
	again := r.acquire(t, one, false)
	wantStart(t, again, thaw.StartWarm, "")
	if again.ID != old.ID || again.Version.Code.SHA256 != "code1" {
		t.Error("the published version has lost its environment to an update of $LATEST")
	}
	r.Release(again)
	r.change(t, "f", func(f *thaw.Function) { f.Published = nil })
	eventually(t, "what is left is $LATEST's", func() bool {
		return r.driver.Open.Load() == 2 && r.driver.Templates.Load() == 1 // its environment and its template
	})
	warm := r.acquire(t, latest, false)
	wantStart(t, warm, thaw.StartWarm, "")
	r.Release(warm)
}

// deployOver replaces $LATEST and leaves the rest of the function as it is.
func (r *rig) deployOver(t *testing.T, name, code string, generation uint64) *thaw.Version {
	t.Helper()
	r.change(t, name, func(f *thaw.Function) {
		f.Config.Code.SHA256, f.Config.Generation = code, generation
		running := f.Config
		f.Running = &running
	})
	return r.version(t, name, thaw.Latest)
}

func TestPreparationOfAVersionFails(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{}, nil)
	r.deploy("f", "code", 1)
	bad := error(thaw.Errorf(thaw.CodeInvalidZip, "Could not unzip uploaded file."))
	r.packages.err.Store(&bad)
	first, second := r.publish(t, "f"), r.publish(t, "f")
	for _, number := range []string{first, second} {
		v := r.awaitState(t, "f", number, thaw.StateFailed)
		if v.StateReason != "Could not unzip uploaded file." || v.StateReasonCode != "InvalidZipFileException" {
			t.Errorf("%s: %s %s", number, v.StateReasonCode, v.StateReason)
		}
	}
	if v := r.version(t, "f", thaw.Latest); v.State != thaw.StateActive {
		t.Errorf("$LATEST is %s", v.State)
	}
}

func TestTemplatesOfIdleVersionsRest(t *testing.T) {
	r := newForkingRig(t, sandboxtest.Runtime{}, func(c *Config) { c.Spares, c.KeepAlive, c.MaxTemplates = 1, warm.Fixed(time.Nanosecond), 10 })
	r.deploy("f", "code", 1)
	for range 3 {
		r.awaitState(t, "f", r.publish(t, "f"), thaw.StateActive)
	}
	r.point(t, "f", "live", "1")
	r.restIdle()
	for number, want := range map[string]template.State{"1": template.StateReady, "2": template.StateEvicted, "3": template.StateReady} {
		v := r.version(t, "f", number)
		r.awaitTemplate(t, v, want)
		if want == template.StateReady {
			eventually(t, "it has its spare", func() bool { return r.Report(v).Environments.Spares == 1 })
		} else if n := r.Report(v).Environments.Spares; n != 0 {
			t.Errorf("version %s, which nobody uses, has %d spares", number, n)
		}
	}
}

func TestProvisionedConcurrency(t *testing.T) {
	var types sync.Map // initialisation type by environment
	r := newForkingRig(t, sandboxtest.Runtime{Handle: func(spec *sandbox.Spec, event []byte, _ io.Writer) ([]byte, error) {
		for _, pair := range spec.Env {
			if value, ok := strings.CutPrefix(pair, "AWS_LAMBDA_INITIALIZATION_TYPE="); ok {
				types.Store(spec.ID, value)
			}
		}
		return event, nil
	}}, nil)
	r.deploy("f", "code", 1)
	v := r.awaitState(t, "f", r.publish(t, "f"), thaw.StateActive)
	if _, ok := r.Provisioned(v); ok {
		t.Fatal("a provisioned environment where none is wanted")
	}
	r.provision(t, "f", "1", 3)
	r.awaitCapacity(t, "f", "1", ready(3))

	var leases []Lease
	for range 3 {
		l, ok := r.Provisioned(v)
		if !ok {
			t.Fatal("one of three is missing")
		}
		wantStart(t, l, thaw.StartProvisioned, "")
		serve(t, l)
		if !l.Provisioned {
			t.Error("the lease does not say that it is provisioned")
		}
		leases = append(leases, l)
	}
	if _, ok := r.Provisioned(v); ok {
		t.Error("there is a fourth")
	}
	if _, ok := r.Idle(v); ok {
		t.Error("a provisioned environment is handed out on demand")
	}
	spilled := r.acquire(t, v, false)
	serve(t, spilled)
	if spilled.Provisioned {
		t.Error("what is started on demand says that it is provisioned")
	}
	for id, want := range map[string]string{leases[0].ID: "provisioned-concurrency", spilled.ID: "on-demand"} {
		if got, _ := types.Load(id); got != want {
			t.Errorf("the initialisation type is %v, want %s", got, want)
		}
	}
	r.Release(spilled)
	r.awaitCapacity(t, "f", "1", ready(3))

	// Neither age nor a full node ends them, but death does, and they are replaced.
	for _, l := range leases {
		r.Release(l)
	}
	r.expireIdle(time.Now().Add(2 * time.Hour))
	if c := r.Report(v).Environments; c.Provisioned != 3 || c.Idle != 0 {
		t.Errorf("after an hour there are %+v", c)
	}
	l, _ := r.Provisioned(v)
	wantStart(t, l, thaw.StartWarm, "")
	l.Invoke(t.Context(), &runtimes.Event{}, time.Now().Add(-time.Second)) //nolint:errcheck // the deadline has passed: it is broken
	broken := l.ID
	r.Release(l)
	r.awaitCapacity(t, "f", "1", ready(3))
	eventually(t, "three are parked again", func() bool { return r.Report(v).Environments.Provisioned == 3 })
	for range 3 {
		l, ok := r.Provisioned(v)
		if !ok || l.ID == broken {
			t.Fatalf("%v, %v", ok, l.ID)
		}
		leases = append(leases[1:], l)
	}

	// A decrease takes idle ones first; busy ones end when they are given back.
	r.Release(leases[0])
	r.provision(t, "f", "1", 1)
	if got := r.Report(v).Provisioned; got != (Provisioned{Wanted: 1, Allocated: 2, Available: 2}) {
		t.Errorf("with two busy, %+v", got)
	}
	r.Release(leases[1])
	r.Release(leases[2])
	if got := r.Report(v).Provisioned; got != (Provisioned{Wanted: 1, Allocated: 1, Available: 1}) {
		t.Errorf("after that, %+v", got)
	}
	r.provision(t, "f", "1", 0)
	if got := r.Report(v); got.Provisioned != (Provisioned{}) || got.Environments.Provisioned != 0 {
		t.Errorf("without any wish, %+v", got)
	}
	eventually(t, "nothing is left but templates", func() bool { return r.driver.Open.Load() == r.driver.Templates.Load() })
}

func TestWaitingRequestGetsAFreedProvisionedEnvironment(t *testing.T) {
	gate, booted := make(chan struct{}), atomic.Int32{}
	r := newRig(t, sandboxtest.Runtime{Init: func(*sandbox.Spec, io.Writer) error {
		if booted.Add(1) > 1 {
			<-gate
		}
		return nil
	}}, nil)
	r.deploy("f", "code", 1)
	v := r.awaitState(t, "f", r.publish(t, "f"), thaw.StateActive)
	r.provision(t, "f", "1", 1)
	r.awaitCapacity(t, "f", "1", ready(1))
	l, _ := r.Provisioned(v)
	serve(t, l)
	got := make(chan Lease)
	go func() {
		other, err := r.Acquire(t.Context(), v, false)
		if err != nil {
			t.Error(err)
		}
		got <- other
	}()
	eventually(t, "a start is under way", func() bool { return booted.Load() == 2 })
	r.Release(l)
	other := <-got
	if other.ID != l.ID || !other.Provisioned {
		t.Errorf("it got %s, provisioned %v", other.ID, other.Provisioned)
	}
	close(gate)
	r.Release(other)
	r.awaitCapacity(t, "f", "1", ready(1))
}

func TestProvisionedConcurrencyWhoseInitFails(t *testing.T) {
	var fails atomic.Bool
	fails.Store(true)
	r := newRig(t, sandboxtest.Runtime{Init: func(*sandbox.Spec, io.Writer) error {
		if fails.Load() {
			return errors.New("no")
		}
		return nil
	}}, nil)
	r.deploy("f", "code", 1)
	r.awaitState(t, "f", r.publish(t, "f"), thaw.StateActive)
	r.provision(t, "f", "1", 2)
	r.awaitCapacity(t, "f", "1", thaw.Capacity{Status: thaw.ProvisionedFailed, Reason: "FUNCTION_ERROR_INIT_FAILURE"})
	fails.Store(false)
	r.awaitCapacity(t, "f", "1", ready(2)) // by itself
}

func TestAliasMovesWithItsCapacity(t *testing.T) {
	gate := make(chan struct{})
	r := newRig(t, sandboxtest.Runtime{Init: func(spec *sandbox.Spec, _ io.Writer) error {
		if slices.Contains(spec.Env, "AWS_LAMBDA_FUNCTION_VERSION=2") {
			<-gate
		}
		return nil
	}}, nil)
	r.deploy("f", "code", 1)
	one := r.awaitState(t, "f", r.publish(t, "f"), thaw.StateActive)
	two := r.awaitState(t, "f", r.publish(t, "f"), thaw.StateActive)
	r.point(t, "f", "live", "1")
	r.provision(t, "f", "live", 2)
	r.awaitCapacity(t, "f", "live", ready(2))
	r.point(t, "f", "live", "2")
	eventually(t, "the new version's are being made", func() bool { return r.Report(two).Provisioned.Allocated == 2 })
	if got := r.Report(one).Provisioned; got.Available != 2 {
		t.Errorf("meanwhile the old version has %+v", got)
	}
	if got := r.Capacity("f", "live"); got.Status != thaw.ProvisionedInProgress || got.Available != 0 {
		t.Errorf("meanwhile the alias has %+v", got)
	}
	close(gate)
	r.awaitCapacity(t, "f", "live", ready(2))
	eventually(t, "the old version's are given up", func() bool {
		return r.Report(one).Provisioned == Provisioned{} && r.driver.Open.Load() == 2
	})
	// Nothing is held back for a wish that is deleted.
	r.provision(t, "f", "live", 0)
	if got := r.Report(two).Provisioned; got.Available != 0 {
		t.Errorf("without any wish, %+v", got)
	}
}

func TestAliasMovesOnAFullNode(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{}, func(c *Config) { c.MaxEnvironments = 2 })
	r.deploy("f", "code", 1)
	r.awaitState(t, "f", r.publish(t, "f"), thaw.StateActive)
	r.awaitState(t, "f", r.publish(t, "f"), thaw.StateActive)
	r.point(t, "f", "live", "1")
	r.provision(t, "f", "live", 2)
	r.awaitCapacity(t, "f", "live", ready(2))
	r.point(t, "f", "live", "2")
	r.awaitCapacity(t, "f", "live", ready(2))
}

func TestMemoryPressureTakesProvisionedLast(t *testing.T) {
	var available atomic.Value
	available.Store(1.0)
	r := newForkingRig(t, sandboxtest.Runtime{}, func(c *Config) {
		c.Spares, c.AvailableMemory = 1, func() float64 { return available.Load().(float64) }
	})
	latest := r.deploy("f", "code", 1)
	v := r.awaitState(t, "f", r.publish(t, "f"), thaw.StateActive)
	r.provision(t, "f", "1", 1)
	r.awaitCapacity(t, "f", "1", ready(1))
	for _, version := range []*thaw.Version{latest, v} {
		r.awaitTemplate(t, version, template.StateReady)
		eventually(t, "it has its spare", func() bool { return r.Report(version).Environments.Spares == 1 })
	}
	available.Store(0.01)
	eventually(t, "all but the provisioned environment is given back", func() bool {
		if r.driver.Templates.Load() > 0 {
			r.relieve(time.Now())
		}
		return r.driver.Templates.Load() == 0 && r.driver.Open.Load() <= 1
	})
	if got := r.Report(v).Provisioned.Available; got != 1 {
		t.Errorf("%d provisioned environments are left", got)
	}
	eventually(t, "then it goes, too", func() bool {
		r.relieve(time.Now())
		return r.Report(v).Provisioned.Available == 0
	})
	if got := r.Capacity("f", "1"); got.Status != thaw.ProvisionedInProgress {
		t.Errorf("it is told as %+v", got)
	}
	available.Store(1.0)
	r.awaitCapacity(t, "f", "1", ready(1))
}

func TestInactiveAndBack(t *testing.T) {
	r := newForkingRig(t, sandboxtest.Runtime{}, func(c *Config) { c.InactiveAfter, c.Spares = time.Hour, 1 })
	latest := r.deploy("f", "code", 1)
	one := r.awaitState(t, "f", r.publish(t, "f"), thaw.StateActive)
	two := r.awaitState(t, "f", r.publish(t, "f"), thaw.StateActive)
	r.provision(t, "f", two.Number, 1)
	r.awaitCapacity(t, "f", two.Number, ready(1))
	l := r.acquire(t, one, false)
	serve(t, l)
	later := time.Now().Add(2 * time.Hour)
	r.deactivateIdle(t.Context(), later)
	r.awaitState(t, "f", thaw.Latest, thaw.StateInactive)
	for _, v := range []*thaw.Version{one, two} {
		if got := r.version(t, "f", v.Number).State; got != thaw.StateActive {
			t.Errorf("version %s, which is busy or provisioned, is %s", v.Number, got)
		}
	}
	f, _ := r.store.Function("f")
	if c := f.Config; c.StateReason != "The function is currently idle." || c.StateReasonCode != "Idle" || f.InForce(thaw.Latest) != nil {
		t.Errorf("%+v", f)
	}
	eventually(t, "it gives up everything", func() bool {
		c := r.Report(latest)
		return c.Environments.Spares == 0 && r.driver.Templates.Load() == 2
	})
	r.Release(l)
	r.deactivateIdle(t.Context(), later)
	r.awaitState(t, "f", one.Number, thaw.StateInactive)

	r.Wake(latest)
	r.Wake(one)
	r.awaitState(t, "f", thaw.Latest, thaw.StateActive)
	r.awaitState(t, "f", one.Number, thaw.StateActive)
	r.mu.RLock()
	if used := r.recent["f:"+thaw.Latest].Used; time.Since(used) > time.Minute {
		t.Errorf("being woken does not count as use, it was at %v", used)
	}
	r.mu.RUnlock()
	f, _ = r.store.Function("f")
	l = r.acquire(t, f.InForce(thaw.Latest), false)
	serve(t, l)
	r.Release(l)
	back := r.acquire(t, f.InForce(thaw.Latest), false)
	wantStart(t, back, thaw.StartWarm, "")
	r.Release(back)

	// What cannot be made ready stays Inactive and says why; an update brings it back.
	r.deactivateIdle(t.Context(), later)
	r.awaitState(t, "f", thaw.Latest, thaw.StateInactive)
	bad := error(thaw.Errorf(thaw.CodeInvalidZip, "Could not unzip uploaded file."))
	r.packages.err.Store(&bad)
	r.Wake(latest)
	eventually(t, "it says why", func() bool {
		v := r.version(t, "f", thaw.Latest)
		return v.State == thaw.StateInactive && v.StateReason == "Could not unzip uploaded file."
	})
	r.packages.err.Store(nil)
	r.change(t, "f", func(f *thaw.Function) { f.Config.Generation, f.Config.LastUpdate = 5, thaw.UpdateInProgress })
	r.awaitState(t, "f", thaw.Latest, thaw.StateActive)
	if v := f.Running; v.Generation == 5 {
		t.Error("a shared function was changed")
	}
}

// TestHammerProvisioned changes what is provisioned while requests come, and counts.
func TestHammerProvisioned(t *testing.T) {
	const most = 4
	r := newForkingRig(t, sandboxtest.Runtime{Handle: crashing}, func(c *Config) { c.FreezeAfter = 0 })
	r.deploy("f", "code", 1)
	v := r.awaitState(t, "f", r.publish(t, "f"), thaw.StateActive)
	var out atomic.Int64
	stop := make(chan struct{})
	var requests sync.WaitGroup
	for worker := range 8 {
		requests.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				l, ok := r.Provisioned(v)
				var err error
				if !ok {
					l, err = r.Acquire(ctx, v, i%7 == 0)
				}
				cancel()
				if err != nil {
					continue
				}
				if l.Provisioned && out.Add(1) > most {
					t.Error("more are leased than were ever provisioned")
				}
				if (i+worker)%9 == 0 {
					l.Invoke(t.Context(), &runtimes.Event{}, time.Now().Add(-time.Second)) //nolint:errcheck // it is broken by that
				}
				if l.Provisioned {
					out.Add(-1)
				}
				r.Release(l)
			}
		})
	}
	for i := range 60 {
		r.provision(t, "f", "1", i%(most+1))
		<-time.After(time.Millisecond)
	}
	r.provision(t, "f", "1", most)
	close(stop)
	requests.Wait()
	r.awaitCapacity(t, "f", "1", ready(most))
	f := r.fleetOf(v)
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.capacity; c.starts != 0 || c.made != most || len(c.idle) != most || f.tally[busy] != 0 {
		t.Errorf("%+v, %d busy", c, f.tally[busy])
	}
}

// TestBusyWhileInactive has a version that becomes Inactive and comes back while it still serves: what it has is kept again.
func TestBusyWhileInactive(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{}, nil)
	v := r.deploy("f", "code", 1)
	l := r.acquire(t, v, false)
	serve(t, l)
	r.change(t, "f", func(f *thaw.Function) { setState(f, thaw.Latest, thaw.StateInactive, reasonIdle, codeIdle) })
	r.Wake(v)
	r.awaitState(t, "f", thaw.Latest, thaw.StateActive)
	r.Release(l)
	again := r.acquire(t, v, false)
	wantStart(t, again, thaw.StartWarm, "")
	r.Release(again)
}

func TestStreamName(t *testing.T) {
	v := &thaw.Version{Function: "fn", Number: thaw.Latest}
	day := time.Now().UTC().Format("2006/01/02/")
	if got := streamName(v, "id"); got != day+"[$LATEST]id" {
		t.Errorf("in its own group: %s", got)
	}
	v.LogGroup, v.Number = "shared", "7"
	if got := streamName(v, "id"); got != day+"fn[7]id" {
		t.Errorf("in a group that others may share: %s", got)
	}
}
