package placement

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"thaw"
	"thaw/runtimes"
	"thaw/sandbox"
	"thaw/sandbox/sandboxtest"
)

// gated counts the starts of a runtime and holds each until it is let go.
type gated struct {
	began chan string   // the function's name
	let   chan struct{} // one token lets one start go on
	done  chan struct{} // closed: all
}

func newGate() *gated {
	return &gated{began: make(chan string, 1000), let: make(chan struct{}), done: make(chan struct{})}
}

func (g *gated) init(spec *sandbox.Spec, _ io.Writer) error {
	for _, pair := range spec.Env {
		if name, ok := strings.CutPrefix(pair, "AWS_LAMBDA_FUNCTION_NAME="); ok {
			g.began <- name
		}
	}
	select {
	case <-g.let:
	case <-g.done:
	}
	return nil
}

// burst has n requests ask for an environment at once, and keep it until done is closed.
func (r *rig) burst(group *sync.WaitGroup, v *thaw.Version, n int, done <-chan struct{}, failed *atomic.Int64) {
	for range n {
		group.Go(func() {
			l, err := r.Acquire(context.Background(), v, false)
			if err != nil {
				failed.Add(1)
				return
			}
			<-done
			r.Release(l)
		})
	}
}

func (r *rig) refused(err error) bool {
	e, ok := errors.AsType[*thaw.Error](err)
	return ok && e.Code == thaw.CodeTooManyRequests && e.Reason == "ConcurrentInvocationLimitExceeded" && e.RetryAfter > 0
}

func TestBurstDoesNotStarveAnothersFirstStart(t *testing.T) {
	const starters = 4
	g := newGate()
	r := newRig(t, sandboxtest.Runtime{Init: g.init}, func(c *Config) { c.MaxEnvironments, c.Starters = 1000, starters })
	a, b := r.deploy("a", "x", 1), r.deploy("b", "x", 1)
	var group sync.WaitGroup
	var failed atomic.Int64
	r.burst(&group, a, 500, g.done, &failed)
	eventually(t, "the burst is ordered", func() bool { return r.fleetOf(a).counts(time.Now()).Starts == 500 })
	r.burst(&group, b, 1, g.done, &failed)
	// Counted as a start it need not have its place among the others yet.
	eventually(t, "the other is ordered", func() bool {
		return r.fleetOf(b).counts(time.Now()).Starts == 1 && r.orders.waiting() == 500-starters+1
	})
	before := 0
	for {
		if name := <-g.began; name == "b" {
			break
		}
		// Those under way come before it, and more while Go's scheduler lets b's wait though its turn has come; in the order of their
		// requests it would be 496.
		if before++; before > 25*starters {
			t.Errorf("%d starts of a came before b's first", before)
			break
		}
		select {
		case g.let <- struct{}{}:
		case <-time.After(time.Millisecond): // not all have begun
		}
	}
	close(g.done)
	group.Wait()
	if failed.Load() != 0 {
		t.Errorf("%d failed", failed.Load())
	}
}

func TestFunctionThatHoldsAllPlacesGivesOneUp(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{}, func(c *Config) { c.MaxEnvironments, c.Queue = 4, time.Hour })
	a, b := r.deploy("a", "x", 1), r.deploy("b", "x", 1)
	var held []Lease
	for range 4 {
		l := r.acquire(t, a, false)
		serve(t, l)
		held = append(held, l)
	}
	var group sync.WaitGroup
	var failed atomic.Int64
	done := make(chan struct{})
	r.burst(&group, a, 3, done, &failed)
	eventually(t, "three more of a wait", func() bool { return r.orders.waiting() == 3 })
	r.burst(&group, b, 1, done, &failed)
	eventually(t, "one of b waits behind them", func() bool { return r.orders.waiting() == 4 })
	r.Release(held[0])
	busyOf := func(v *thaw.Version) int { return r.fleetOf(v).counts(time.Now()).Busy }
	eventually(t, "the first place that becomes free is b's", func() bool { return busyOf(b) == 1 })
	// b has one and waits for no more: the next ones are a's, without a start.
	before := r.driver.Started.Load()
	for _, l := range held[1:] {
		r.Release(l)
	}
	eventually(t, "those of a that wait are served", func() bool { return busyOf(a) == 3 })
	if n := r.driver.Started.Load() - before; n != 0 {
		t.Errorf("%d starts although a's own became free", n)
	}
	close(done)
	group.Wait()
	if failed.Load() != 0 {
		t.Errorf("%d failed", failed.Load())
	}
}

func TestFullNodeQueuesThenRefuses(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{}, func(c *Config) { c.MaxEnvironments, c.Queue = 1, time.Hour })
	a, b := r.deploy("a", "x", 1), r.deploy("b", "x", 1)
	la := r.acquire(t, a, false)
	serve(t, la)
	results := make(chan error, 2)
	ask := func() {
		l, err := r.Acquire(context.Background(), b, false)
		if err == nil {
			r.Release(l)
		}
		results <- err
	}
	go ask()
	eventually(t, "one waits", func() bool { return r.orders.waiting() == 1 })
	if _, err := r.Acquire(t.Context(), b, false); !r.refused(err) { // the queue is as long as the node has places
		t.Errorf("a full queue answers %v", err)
	}
	r.Release(la)
	if err := <-results; err != nil {
		t.Errorf("what waited got %v", err)
	}
	r.cfg.Queue = 0 // nothing is under way
	lb := r.acquire(t, b, false)
	if _, err := r.Acquire(t.Context(), a, false); !r.refused(err) {
		t.Errorf("a full node answers %v", err)
	}
	r.Release(lb)
}

func TestQueueKeepsRoomForOtherFunctions(t *testing.T) {
	o := newOrders(3)
	order := func(function string) (dropped *start) {
		dropped, ok := o.add(start{fleet: &fleet{key: fleetKey{function: function}}, waiter: &waiter{}, at: time.Now()})
		if !ok {
			t.Error("closed")
		}
		return dropped
	}
	for range 3 {
		if order("a") != nil {
			t.Error("dropped below the limit")
		}
	}
	if d := order("b"); d == nil || d.fleet.key.function != "a" {
		t.Errorf("for b's first, %v is dropped", d)
	}
	if d := order("a"); d == nil || d.fleet.key.function != "a" {
		t.Errorf("for a's next, %v is dropped", d)
	}
	var turns string
	for s, ok := o.first(); ok; s, ok = o.first() {
		turns += s.fleet.key.function
		o.remove(s)
	}
	if turns != "aba" || o.count != 0 || len(o.lanes) != 0 {
		t.Errorf("turns %q, %d left", turns, o.count)
	}
}

func TestMemoryBudgetEvictsThenRefuses(t *testing.T) {
	// The fakes use 10 MB each; what has not been seen to rest counts with half of its 128 MB.
	r := newRig(t, sandboxtest.Runtime{}, func(c *Config) { c.Memory, c.FreezeAfter, c.Queue = 100<<20, 0, time.Millisecond })
	a, b := r.deploy("a", "x", 1), r.deploy("b", "x", 1)
	la := r.acquire(t, a, false)
	if _, err := r.Acquire(t.Context(), b, false); !r.refused(err) {
		t.Errorf("64 MB beside 64 MB of 100: %v", err)
	}
	serve(t, la)
	r.Release(la)
	eventually(t, "what it used is known", func() bool { return r.memory.Load() == 10<<20 })
	var held []Lease
	for range 9 {
		l := r.acquire(t, a, false)
		serve(t, l)
		held = append(held, l)
	}
	if n := r.memory.Load(); n != 90<<20 {
		t.Errorf("nine count for %d MB", n>>20)
	}
	if _, err := r.Acquire(t.Context(), b, false); !r.refused(err) {
		t.Errorf("64 MB beside 90 of 100: %v", err)
	}
	for _, l := range held {
		r.Release(l)
	}
	lb := r.acquire(t, b, false)
	if c := r.fleetOf(a).counts(time.Now()); c.Idle < 3 || c.Idle+c.Ending > 9 {
		t.Errorf("left of a: %+v", c)
	}
	if n := r.memory.Load(); n > r.cfg.Memory {
		t.Errorf("%d bytes are over the budget", n)
	}
	r.Release(lb)
}

// TestBusyEnvironmentsAreWeighed: one that is never left alone for long enough to be frozen counts with what it has used, too.
func TestBusyEnvironmentsAreWeighed(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{}, func(c *Config) { c.Memory, c.FreezeAfter = 1<<30, time.Hour })
	l := r.acquire(t, r.deploy("a", "x", 1), false)
	serve(t, l)
	if n := r.memory.Load(); n != 64<<20 {
		t.Errorf("a stranger counts for %d MB", n>>20)
	}
	l.MemoryPeak(time.Now(), time.Second)
	r.Release(l)
	if n := r.memory.Load(); n != 10<<20 {
		t.Errorf("after its first invocation it counts for %d MB", n>>20)
	}
}

func TestMaximumAge(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{}, func(c *Config) { c.MaxAge = 30 * time.Minute })
	v := r.deploy("f", "code", 1)
	l := r.acquire(t, v, false)
	serve(t, l)
	r.Release(l)
	r.expireIdle(time.Now())
	l = r.acquire(t, v, false)
	wantStart(t, l, thaw.StartWarm, "")
	r.Release(l)
	r.expireIdle(time.Now().Add(40 * time.Minute)) // before the keep-alive of an hour
	eventually(t, "the aged environment ends", func() bool { return r.driver.Open.Load() == 0 })
	l = r.acquire(t, v, false)
	wantStart(t, l, thaw.StartBoot, thaw.CauseAged)
	serve(t, l)
	l.Timing.Ready = time.Now().Add(-time.Hour)
	r.Release(l)
	eventually(t, "it is not parked", func() bool { return r.driver.Open.Load() == 0 })
}

func TestIllegalChangeEndsTheEnvironment(t *testing.T) {
	var log faults
	r := newRig(t, sandboxtest.Runtime{}, func(c *Config) { c.Log = slog.New(&log) })
	v := r.deploy("f", "code", 1)
	l := r.acquire(t, v, false)
	serve(t, l)
	r.Release(l)
	r.Release(l) // a fault: nobody has it
	eventually(t, "it ends, and that is told", func() bool { return r.driver.Open.Load() == 0 && log.count.Load() == 1 })
	f := r.fleetOf(v)
	eventually(t, "nothing is counted", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.tally == [stages]int{} && len(f.live)+len(f.idle) == 0
	})
}

// faults counts what is told of lost environments.
type faults struct{ count atomic.Int64 }

func (*faults) Enabled(context.Context, slog.Level) bool { return true }
func (f *faults) WithAttrs([]slog.Attr) slog.Handler     { return f }
func (f *faults) WithGroup(string) slog.Handler          { return f }
func (f *faults) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "lost track") {
		f.count.Add(1)
	}
	return nil
}

// TestLifecycleHammer has requests, kills, evictions, ageing and updates at the same time, on a node that is too small.
func TestLifecycleHammer(t *testing.T) {
	const most = 12
	var n atomic.Int64
	var inUse sync.Map
	var log faults
	r := newRig(t, sandboxtest.Runtime{Handle: func(_ *sandbox.Spec, event []byte, _ io.Writer) ([]byte, error) {
		if n.Add(1)%41 == 0 {
			return nil, errors.New("crash")
		}
		return event, nil
	}}, func(c *Config) {
		c.MaxEnvironments, c.FreezeAfter, c.Spares, c.MaxAge = most, 0, 1, time.Hour
		c.Memory, c.Queue, c.Log = 300<<20, 50*time.Millisecond, slog.New(&log)
	})
	names := []string{"a", "b", "c", "d", "e"}
	for _, name := range names {
		r.deploy(name, "x", 1)
	}
	stop := make(chan struct{})
	var watch, group sync.WaitGroup
	watch.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			if got := r.driver.Open.Load(); got > most {
				t.Errorf("%d environments are open", got)
			}
			if i%20 == 0 {
				r.expireIdle(time.Now().Add(2 * time.Hour))
			}
		}
	})
	var served, refused, gone atomic.Int64
	for worker := range 64 {
		group.Go(func() {
			for i := range 30 {
				f, _ := r.store.Function(names[(worker+i)%len(names)])
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				if i%7 == 0 {
					cancel() // gives up at once
				}
				l, err := r.Acquire(ctx, f.Running, i%13 == 0)
				for tries := 0; r.refused(err) && tries < 200; tries++ {
					refused.Add(1)
					<-time.After(time.Millisecond)
					l, err = r.Acquire(ctx, f.Running, false)
				}
				cancel()
				switch {
				case errors.Is(err, context.DeadlineExceeded):
					t.Error("a request hangs")
				case err != nil:
					gone.Add(1)
				default:
					if _, taken := inUse.LoadOrStore(l.ID, true); taken {
						t.Errorf("%s is in two hands", l.ID)
					}
					l.Invoke(t.Context(), &runtimes.Event{Payload: []byte("{}")}, time.Now().Add(time.Minute)) //nolint:errcheck // some crash
					served.Add(1)
					inUse.Delete(l.ID)
					r.Release(l)
				}
				if worker%8 == 0 && i%20 == 19 {
					r.deploy(f.Name, "y", uint64(1000*worker+i))
				}
			}
		})
	}
	group.Wait()
	close(stop)
	watch.Wait()
	t.Logf("%d served, %d times refused, %d not served", served.Load(), refused.Load(), gone.Load())
	fleets := r.allFleets()
	r.stop()
	for _, f := range fleets {
		if f.tally != [stages]int{} || f.starts != 0 || f.spares != 0 || len(f.waiters) != 0 || f.places != 0 {
			t.Errorf("fleet %v: %v, %d starts, %d spares, %d waiters, %d places", f.key, f.tally, f.starts, f.spares, len(f.waiters), f.places)
		}
	}
	if log.count.Load() != 0 {
		t.Errorf("%d environments were lost track of", log.count.Load())
	}
}
