package invoke

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"thaw"
	"thaw/placement"
)

func reserving(name string, reserved, provisioned int) *thaw.Function {
	f := function(name)
	if reserved >= 0 {
		f.Reserved = &reserved
	}
	if provisioned > 0 {
		f.Provisioned = map[string]thaw.Provisioned{"1": {Requested: provisioned}}
	}
	return f
}

func TestPermits(t *testing.T) {
	for _, test := range []struct {
		name                  string
		reserved, provisioned int
		others                int64 // claimed by other functions
		want                  int
		reason                string
	}{
		{"the account's limit", -1, 0, 0, 10, reasonAccount},
		{"what others have reserved", -1, 0, 4, 6, reasonAccount},
		{"its own provisioned capacity", -1, 3, 0, 7, reasonAccount},
		{"its reserve", 3, 0, 0, 3, reasonReserved},
		{"its reserve, of which some is provisioned", 3, 2, 0, 1, reasonReserved},
		{"all of its reserve is provisioned", 3, 3, 0, 0, reasonReserved},
		{"stopped", 0, 0, 0, 0, reasonReserved},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPermits(10, ScalingRate{})
			f := reserving("f", test.reserved, test.provisioned)
			p.changed("f", f)
			p.claimed.Add(test.others)
			u := p.of(&account, "f")
			var held []permit
			for {
				one, err := p.take(f, u)
				if err != nil {
					e, ok := errors.AsType[*thaw.Error](err)
					if !ok || e.Code != thaw.CodeTooManyRequests || e.Reason != test.reason || e.RetryAfter <= 0 {
						t.Errorf("%v", err)
					}
					break
				}
				held = append(held, one)
			}
			if len(held) != test.want {
				t.Errorf("%d at the same time, want %d", len(held), test.want)
			}
			for _, one := range held {
				one.release()
			}
			if u.onDemand.Load() != 0 || p.unreserved.Load() != 0 || p.total.Load() != 0 {
				t.Errorf("%d, %d and %d permits are left", u.onDemand.Load(), p.unreserved.Load(), p.total.Load())
			}
		})
	}
}

// TestPermitsOfTheAccount: a claim that grows while others use what it claims does not lead beyond the account's limit.
func TestPermitsOfTheAccount(t *testing.T) {
	p := newPermits(10, ScalingRate{})
	others := reserving("others", -1, 0)
	before := make([]permit, 10)
	for i := range before {
		var err error
		if before[i], err = p.take(others, p.of(&account, "others")); err != nil {
			t.Fatal(err)
		}
	}
	f := reserving("f", 4, 2)
	p.changed("f", f)
	u := p.of(&account, "f")
	if _, err := p.take(f, u); thaw.CodeOf(err) != thaw.CodeTooManyRequests {
		t.Errorf("an eleventh invocation of 10: %v", err)
	}
	if _, ok := p.takeProvisioned(f, u); ok {
		t.Error("an eleventh invocation of 10, on a provisioned environment")
	}
	before[0].release()
	kept, ok := p.takeProvisioned(f, u)
	if !ok {
		t.Fatal("there is room for one")
	}
	kept.release()
	late, err := p.take(f, u)
	if err != nil || !late.keep(f) || u.onDemand.Load() != 0 || u.provisioned.Load() != 1 || p.total.Load() != 10 {
		t.Errorf("%v: %d on demand, %d provisioned, %d in all", err, u.onDemand.Load(), u.provisioned.Load(), p.total.Load())
	}
	late.release()
	for i := range before[1:] {
		before[1+i].release()
	}
	if u.provisioned.Load() != 0 || p.unreserved.Load() != 0 || p.total.Load() != 0 {
		t.Errorf("%d, %d and %d permits are left", u.provisioned.Load(), p.unreserved.Load(), p.total.Load())
	}
}

// TestClaims follows functions as they come, change and go.
func TestClaims(t *testing.T) {
	p := newPermits(100, ScalingRate{})
	for _, step := range []struct {
		name string
		f    *thaw.Function
		want int64
	}{
		{"a", reserving("a", 10, 0), 10},
		{"b", reserving("b", -1, 5), 15},
		{"a", reserving("a", 30, 20), 35},
		{"a", reserving("a", -1, 20), 25},
		{"b", nil, 20},
		{"c", reserving("c", -1, 0), 20},
		{"a", nil, 0},
		{"a", nil, 0},
	} {
		if p.changed(step.name, step.f); p.claimed.Load() != step.want {
			t.Errorf("after %s: %d, want %d", step.name, p.claimed.Load(), step.want)
		}
	}
	if len(p.claims) != 0 {
		t.Errorf("%v", p.claims)
	}
}

// TestHammerPermits takes and gives back permits of three functions from many goroutines, while their settings stay, and
// looks at every instant of it: no limit is exceeded, and nothing leaks.
func TestHammerPermits(t *testing.T) {
	p := newPermits(20, ScalingRate{})
	functions := []*thaw.Function{reserving("a", 5, 0), reserving("b", -1, 2), reserving("c", -1, 0), reserving("d", 4, 1)}
	limits := []int64{5, 20 - 5 - 2 - 4, 20 - 5 - 2 - 4, 3}
	for _, f := range functions {
		p.changed(f.Name, f)
	}
	var running [4]atomic.Int64
	var common, taken, refused atomic.Int64
	var group sync.WaitGroup
	for range 32 {
		group.Go(func() {
			for range 3000 {
				k := rand.IntN(len(functions))
				held, err := p.take(functions[k], p.of(&account, functions[k].Name))
				if err != nil {
					refused.Add(1)
					continue
				}
				taken.Add(1)
				if n := running[k].Add(1); n > limits[k] {
					t.Errorf("%d of %s at the same time", n, functions[k].Name)
				}
				if k == 1 || k == 2 {
					if n := common.Add(1); n > limits[1] {
						t.Errorf("%d of the common part at the same time", n)
					}
				}
				if rand.IntN(4) == 0 {
					time.Sleep(time.Microsecond) //nolint:forbidigo // makes permits overlap; nothing waits for it
				}
				if k == 1 || k == 2 {
					common.Add(-1)
				}
				running[k].Add(-1)
				held.release()
			}
		})
	}
	group.Wait()
	if taken.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d taken, %d refused: the limits were not reached", taken.Load(), refused.Load())
	}
	for _, f := range functions {
		if n := p.of(&account, f.Name).onDemand.Load(); n != 0 {
			t.Errorf("%d permits of %s are left", n, f.Name)
		}
	}
	if n := p.unreserved.Load(); n != 0 {
		t.Errorf("%d permits of the account are left", n)
	}
}

// TestPermitsOutliveChanges: what was taken under one setting is given back under another.
func TestPermitsOutliveChanges(t *testing.T) {
	p := newPermits(10, ScalingRate{})
	u := p.of(&account, "f")
	before, err := p.take(reserving("f", -1, 0), u)
	if err != nil {
		t.Fatal(err)
	}
	reserved := reserving("f", 1, 0)
	p.changed("f", reserved)
	if _, err := p.take(reserved, u); thaw.CodeOf(err) != thaw.CodeTooManyRequests {
		t.Errorf("a second one beside a reserve of 1: %v", err)
	}
	before.release()
	after, err := p.take(reserved, u)
	if err != nil {
		t.Fatal(err)
	}
	p.changed("f", reserving("f", -1, 0))
	after.release()
	if u.onDemand.Load() != 0 || p.unreserved.Load() != 0 {
		t.Errorf("%d and %d permits are left", u.onDemand.Load(), p.unreserved.Load())
	}
}

func TestScalingRate(t *testing.T) {
	start := placerFunc(func(context.Context, *thaw.Version, bool) (l placement.Lease, err error) {
		return l, errors.New("not today")
	})
	i := New(Config{Catalog: catalog{"f": function("f")}, Placer: placer{placerFunc: start}, Account: account, Concurrency: 100, Scaling: ScalingRate{Environments: 3, Per: time.Hour}})
	var refused int
	for range 5 {
		_, err := i.Invoke(t.Context(), request("f", "{}"))
		if e, ok := errors.AsType[*thaw.Error](err); ok && e.Reason == reasonAccount {
			refused++
		}
	}
	if refused != 2 {
		t.Errorf("%d of 5 starts are refused, want those beyond 3", refused)
	}
	if usage := i.Usage("f"); usage.Throttles != 2 || usage.OnDemand != 0 {
		t.Errorf("%+v", usage)
	}
}

// TestAlias draws versions by weight.
func TestAlias(t *testing.T) {
	f := function("f")
	f.Published = []thaw.Version{
		{Function: "f", Number: "1", State: thaw.StateActive, Generation: 2},
		{Function: "f", Number: "2", State: thaw.StateActive, Generation: 3},
		{Function: "f", Number: "10", State: thaw.StatePending, Generation: 4},
	}
	f.Aliases = map[string]thaw.Alias{
		"live":  {Name: "live", Version: "1", Other: "2", Weight: 0.2},
		"new":   {Name: "new", Version: "10"},
		"plain": {Name: "plain", Version: "2"},
	}
	i := New(Config{Catalog: catalog{"f": f}, Placer: placer{}, Account: account, Concurrency: 1})
	const draws = 20_000
	seen := map[string]int{}
	for range draws {
		d, err := i.Resolve(thaw.FunctionRef{Name: "f"}, "live")
		if err != nil {
			t.Fatal(err)
		}
		seen[d.Version.Number]++
		if d.Alias != "live" || d.ARN != "arn:aws:lambda:us-east-1:000000000000:function:f:live" {
			t.Fatalf("%+v", d)
		}
	}
	// Six standard deviations of a binomial distribution: 6 * sqrt(20000 * 0.2 * 0.8) = 340.
	if n := seen["2"]; n < 4000-340 || n > 4000+340 || n+seen["1"] != draws {
		t.Errorf("%v", seen)
	}
	for qualifier, want := range map[string]thaw.ErrorCode{
		"1": "", "2": "", "plain": "", "10": thaw.CodeResourceConflict, "new": thaw.CodeResourceConflict,
		"3": thaw.CodeResourceNotFound, "01": thaw.CodeResourceNotFound, "old": thaw.CodeResourceNotFound,
	} {
		d, err := i.Resolve(thaw.FunctionRef{Name: "f", Qualifier: qualifier}, "")
		if want == "" && (err != nil || d.Version.Number == thaw.Latest) || want != "" && thaw.CodeOf(err) != want {
			t.Errorf("%s: %v, %v", qualifier, d.Version, err)
		}
	}
}

// TestRecursion stops a chain of invocations of one function, unless the function allows it.
func TestRecursion(t *testing.T) {
	f := function("f")
	start := placerFunc(func(context.Context, *thaw.Version, bool) (l placement.Lease, err error) {
		return l, errors.New("got through")
	})
	i := New(Config{Catalog: catalog{"f": f}, Placer: placer{placerFunc: start}, Account: account, Concurrency: 1})
	u := i.permits.of(&account, "f")
	for before, want := range map[string]thaw.ErrorCode{"0": thaw.CodeService, "15": thaw.CodeService, "16": thaw.CodeRecursiveInvocation, "99": thaw.CodeRecursiveInvocation} {
		r := request("f", "{}")
		r.TraceID = "Root=1;Lineage=other:99|" + u.lineage + ":" + before
		if _, err := i.Invoke(t.Context(), r); thaw.CodeOf(err) != want {
			t.Errorf("after %s: %v", before, err)
		}
		f.RecursiveLoop = thaw.RecursionAllow
		if _, err := i.Invoke(t.Context(), r); thaw.CodeOf(err) != thaw.CodeService {
			t.Errorf("allowed, after %s: %v", before, err)
		}
		f.RecursiveLoop = ""
	}
}
