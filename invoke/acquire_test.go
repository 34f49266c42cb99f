package invoke

import (
	"context"
	"testing"
	"time"

	"thaw"
	"thaw/placement"
)

// provisionedPlacer has provisioned environments, and hands out one to whoever waits.
type provisionedPlacer struct {
	emptyPlacer
	idle  int
	woken []string
}

func (p *provisionedPlacer) Provisioned(*thaw.Version) (placement.Lease, bool) {
	if p.idle == 0 {
		return placement.Lease{}, false
	}
	p.idle--
	return placement.Lease{Provisioned: true}, true
}

func (*provisionedPlacer) Acquire(context.Context, *thaw.Version, bool) (placement.Lease, error) {
	return placement.Lease{Provisioned: true}, nil
}

func (*provisionedPlacer) Release(placement.Lease) {}

func (p *provisionedPlacer) Wake(v *thaw.Version) { p.woken = append(p.woken, v.Number) }

func TestProvisionedEnvironmentsAreCountedHoweverTheyCome(t *testing.T) {
	f := function("f")
	f.Provisioned = map[string]thaw.Provisioned{"1": {Requested: 2}}
	v := f.Config
	v.Number = "1"
	f.Published = []thaw.Version{v}
	placer := &provisionedPlacer{idle: 1}
	i := New(Config{Catalog: catalog{"f": f}, Placer: placer, Account: account, Concurrency: 5})
	i.permits.changed("f", f)
	u := i.permits.of(&account, "f")
	d := &Destination{Function: f, Version: &f.Published[0]}
	acquire := func() holding {
		t.Helper()
		held, err := i.acquire(t.Context(), d, u, &Request{})
		if err != nil {
			t.Fatal(err)
		}
		return held
	}
	idle, waited := acquire(), acquire() // the second waits, and gets one that has become free
	if got := i.Usage("f"); !idle.provisioned || !waited.provisioned || got.Provisioned != 2 || got.OnDemand != 0 || got.SpilledOver != 0 {
		t.Errorf("%v, %v, %+v", idle.provisioned, waited.provisioned, got)
	}
	// A third one, as there is while an alias moves, is beyond what is provisioned.
	placer.idle = 1
	third := acquire()
	if got := i.Usage("f"); third.provisioned || got.Provisioned != 2 || got.OnDemand != 1 || got.SpilledOver != 1 {
		t.Errorf("%v, %+v", third.provisioned, got)
	}
	for _, held := range []holding{idle, waited, third} {
		i.release(&held)
	}
	if got := i.Usage("f"); got.Provisioned != 0 || got.OnDemand != 0 || i.AccountUsage().Unreserved != 0 {
		t.Errorf("after all, %+v, %+v", got, i.AccountUsage())
	}
}

// freedPlacer has nothing idle, and gives whoever waits an environment of one kind.
type freedPlacer struct {
	emptyPlacer
	kind thaw.StartKind
}

func (p *freedPlacer) Acquire(context.Context, *thaw.Version, bool) (placement.Lease, error) {
	return placement.Lease{Kind: p.kind}, nil
}

func (*freedPlacer) Release(placement.Lease) {}

// A request that waited for an environment and was served by one that became free has made the function no larger.
func TestScalingRateCountsEnvironmentsThatAreMade(t *testing.T) {
	f, placer := function("f"), &freedPlacer{}
	i := New(Config{Catalog: catalog{"f": f}, Placer: placer, Account: account, Concurrency: 100, Scaling: ScalingRate{Environments: 3, Per: time.Hour}})
	u, d := i.permits.of(&account, "f"), &Destination{Function: f, Version: &f.Config}
	serve := func(kind thaw.StartKind, times int) (refused int) {
		t.Helper()
		placer.kind = kind
		for range times {
			held, err := i.acquire(t.Context(), d, u, &Request{})
			if err != nil {
				refused++
				continue
			}
			i.release(&held)
		}
		return refused
	}
	if n := serve(thaw.StartWarm, 10); n != 0 {
		t.Errorf("%d requests were refused though nothing was made", n)
	}
	if n := serve(thaw.StartFork, 5); n != 2 {
		t.Errorf("%d of 5 starts were refused, want those beyond 3", n)
	}
	// So many may wait at the same time as may be made.
	g := newGrowth(ScalingRate{Environments: 3, Per: time.Hour})
	now := time.Now()
	for n := range 5 {
		if g.enter(now) != (n < 3) {
			t.Errorf("request %d", n)
		}
	}
	g.leave(now, false)
	if !g.enter(now) {
		t.Error("refused although nothing was made")
	}
}

func TestInactiveVersionIsWokenAndPendingOneIsNot(t *testing.T) {
	f := function("f")
	placer := &provisionedPlacer{}
	i := New(Config{Catalog: catalog{"f": f}, Placer: placer, Account: account, Concurrency: 5})
	for _, state := range []thaw.State{thaw.StateInactive, thaw.StatePending} {
		f.Config.State, f.Running.State = state, state
		_, err := i.Resolve(thaw.FunctionRef{Name: "f"}, "")
		if thaw.CodeOf(err) != thaw.CodeResourceConflict {
			t.Errorf("%s: %v", state, err)
		}
	}
	if len(placer.woken) != 1 || placer.woken[0] != thaw.Latest {
		t.Errorf("woken are %v", placer.woken)
	}
}
