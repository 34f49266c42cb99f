package placement

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
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
)

// forkingLauncher starts a runtime that can be forked.
type forkingLauncher struct{}

func (forkingLauncher) Launch(context.Context, *thaw.Version, string, string) (*runtimes.Launch, error) {
	return &runtimes.Launch{Args: []string{"/bin/true"}, TemplateArgs: []string{"/bin/true"}, Channel: true, Version: "fake:1"}, nil
}

// newForkingRig has functions with templates.
func newForkingRig(t *testing.T, runtime sandboxtest.Runtime, change func(*Config)) *rig {
	r := newRig(t, runtime, func(c *Config) {
		c.Launcher, c.MaxSpares = forkingLauncher{}, 100
		if change != nil {
			change(c)
		}
	})
	t.Cleanup(func() {
		r.stop()
		if n := r.driver.Templates.Load(); n != 0 {
			t.Errorf("%d templates are left", n)
		}
	})
	return r
}

func (r *rig) awaitTemplate(t *testing.T, v *thaw.Version, state template.State) template.Report {
	t.Helper()
	var got template.Report
	defer func() {
		if t.Failed() {
			t.Logf("the template of %s is %+v", v.Function, got)
		}
	}()
	eventually(t, "the template is "+string(state), func() bool {
		got = r.Report(v).Template
		return got.State == state
	})
	return got
}

// tag changes a function's tags.
func (r *rig) tag(name string, tags map[string]string) {
	f, _ := r.store.Function(name)
	next := *f
	next.Tags = tags
	r.store.put(&next)
}

// spareIDs are the environments that have served nothing.
func (r *rig) spareIDs(v *thaw.Version) (ids []string, forked bool) {
	f := r.fleetOf(v)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.idle {
		if i.instance.Served == 0 {
			ids = append(ids, i.instance.ID)
			forked = i.instance.Forked
		}
	}
	return ids, forked
}

func TestSparesGrowWithBursts(t *testing.T) {
	const burst, most = 9, 6
	r := newForkingRig(t, sandboxtest.Runtime{}, func(c *Config) { c.Spares, c.MaxVersionSpares = 2, most })
	v := r.deploy("f", "code", 1)
	eventually(t, "it has its spares", func() bool { return r.Report(v).Environments.Spares == 2 })
	var leases []Lease
	for range burst {
		l := r.acquire(t, v, false)
		serve(t, l)
		leases = append(leases, l)
	}
	eventually(t, "it has more", func() bool {
		c := r.Report(v).Environments
		return c.Wanted == most && c.Spares >= most
	})
	for _, l := range leases {
		r.Release(l)
	}
	// What a burst leaves expires when it has been forgotten.
	f := r.fleetOf(v)
	later := time.Now().Add(24 * time.Hour)
	r.expireIdle(later)
	if c := f.counts(later); c.Wanted != 2 || c.Spares != 2 || c.Idle != 0 {
		t.Errorf("a day later there are %+v", c)
	}
}

// TestSpareWorthLeastMakesRoom has a node full of spares, and functions whose starts cost more or less.
func TestSpareWorthLeastMakesRoom(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name      string
		took      time.Duration // of a start of the function that wants a spare; those of the others take 20 ms
		spares    int           // that it has
		other     int           // spares of the other function
		unused    time.Duration // since the other's last start
		makesRoom bool
	}{
		{name: "its first is worth more than the other's second", took: 20 * time.Millisecond, other: 2, makesRoom: true},
		{name: "its second is not", took: 20 * time.Millisecond, spares: 1, other: 2},
		{name: "its second is if its starts take long", took: time.Second, spares: 1, other: 2, makesRoom: true},
		{name: "or if the other has not been used for long", took: 20 * time.Millisecond, spares: 1, other: 2, unused: time.Hour, makesRoom: true},
		{name: "a cheap first is not", took: time.Millisecond, other: 2},
		{name: "its own make no room", took: time.Second, spares: 2},
	} {
		p := New(Config{MaxEnvironments: 100, MaxSpares: c.spares + c.other})
		with := func(name string, spares int, took, unused time.Duration) *fleet {
			f := &fleet{key: fleetKey{function: name}, live: map[string]*Instance{}, startTook: took, startBytes: 4 << 20}
			f.lastStart.Store(now.Add(-unused).UnixMicro())
			for range spares {
				f.offer(&Instance{Environment: &sandbox.Environment{}}, now)
			}
			p.fleets[f.key] = f
			return f
		}
		f, other := with("f", c.spares, c.took, 0), with("other", c.other, 20*time.Millisecond, c.unused)
		f.spares = 1
		if got := p.reserveSpare(f, now); got != c.makesRoom {
			t.Errorf("%s: %v", c.name, got)
		}
		if ready, _ := other.spareCounts(); (ready < c.other) != c.makesRoom {
			t.Errorf("%s: the other has %d", c.name, ready)
		}
	}
}

func TestSparesWaitForRequests(t *testing.T) {
	f := &fleet{floor: 2, live: map[string]*Instance{}}
	w := &waiter{got: make(chan result, 1)}
	if _, order := f.queue(w); !order {
		t.Fatal("nothing is ordered for the request")
	}
	if f.wantsSpare(time.Now()) {
		t.Error("a spare is made while a request waits")
	}
	if !f.leave(w) || !f.wantsSpare(time.Now()) {
		t.Error("no spare is made although no request waits")
	}
}

func TestTagsThatChangeRenewTemplateAndSpares(t *testing.T) {
	r := newForkingRig(t, sandboxtest.Runtime{}, func(c *Config) { c.Spares = 2 })
	v := r.deploy("f", "code", 1)
	var old []string
	settled := func(forked bool) func() bool {
		return func() bool {
			ids, made := r.spareIDs(v)
			c := r.Report(v).Environments
			kept := slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(old, id) })
			return len(ids) == 2 && made == forked && !kept && c.Starts == 0
		}
	}
	r.awaitTemplate(t, v, template.StateReady)
	eventually(t, "the spares are forks", settled(true))
	started := r.driver.Started.Load()
	r.tag("f", map[string]string{"owner": "me"})
	if n := r.driver.Started.Load(); n != started || r.driver.Templates.Load() != 1 {
		t.Errorf("a tag that is not about templates starts %d", n-started)
	}
	for _, c := range []struct {
		tags   map[string]string
		state  template.State
		forked bool
	}{
		{map[string]string{thaw.TagSnapshot: "off"}, template.StateOff, false},
		{map[string]string{thaw.TagWarmup: "true"}, template.StateReady, true},
		{map[string]string{thaw.TagWarmupEvent: "7"}, template.StateReady, true},
		{nil, template.StateReady, true},
	} {
		old, _ = r.spareIDs(v)
		r.tag("f", c.tags)
		r.awaitTemplate(t, v, c.state)
		eventually(t, "the spares are new ones", settled(c.forked))
		if n := r.driver.Templates.Load(); (n == 1) != c.forked {
			t.Errorf("with the tags %v there are %d templates", c.tags, n)
		}
	}
}

func TestPlatformFailuresAreTriedAgain(t *testing.T) {
	r := newForkingRig(t, sandboxtest.Runtime{}, nil)
	down := errors.New("the disk is gone")
	r.packages.err.Store(&down)
	v := r.deploy("f", "code", 1)
	told := strings.Join(r.awaitTemplate(t, v, template.StateFailed).Reasons, "; ")
	if !strings.Contains(told, "the platform could not make it") || !strings.Contains(told, "log says why; it is tried again, attempt 2 of 10") {
		t.Errorf("it is told that %s", told)
	}
	r.packages.err.Store(nil)
	r.awaitTemplate(t, v, template.StateReady)
}

func TestAttemptsAreBounded(t *testing.T) {
	h, now := &held{}, time.Unix(1000, 0)
	var pauses []time.Duration
	for h.postpone(now); !h.retry.IsZero(); h.postpone(now) {
		pauses = append(pauses, h.retry.Sub(now))
	}
	if !slices.IsSorted(pauses) || pauses[0] != 0 || len(pauses) != maxAttempts-1 || slices.Max(pauses) > maxBackoff {
		t.Errorf("pauses of %v", pauses)
	}
	if h.due(now.Add(time.Hour)) {
		t.Error("it is tried again for ever")
	}
	if backoff(1000) != maxBackoff {
		t.Errorf("a pause of %v", backoff(1000))
	}
}

func TestFunctionsOwnFailureIsNotTriedAgain(t *testing.T) {
	r := newForkingRig(t, sandboxtest.Runtime{Init: func(*sandbox.Spec, io.Writer) error { return errors.New("no") }}, nil)
	v := r.deploy("f", "code", 1)
	r.awaitTemplate(t, v, template.StateFailed)
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.templates[keyOf(v)]; h.due(time.Now().Add(time.Hour)) || h.attempts != 0 {
		t.Errorf("it is tried again: %+v", h.report)
	}
}

func TestTemplateWhoseForksFailIsDropped(t *testing.T) {
	var broken atomic.Bool
	var forks atomic.Int64
	broken.Store(true)
	r := newForkingRig(t, sandboxtest.Runtime{Fork: func() error {
		if forks.Add(1); broken.Load() {
			return errors.New("no room")
		}
		return nil
	}}, nil)
	v := r.deploy("f", "code", 1)
	r.awaitTemplate(t, v, template.StateReady)
	for range maxForkFailures {
		l := r.acquire(t, v, true)
		wantStart(t, l, thaw.StartBoot, thaw.CauseForced)
		r.Release(l)
	}
	r.awaitTemplate(t, v, template.StateReady) // the first time, at once
	for range maxForkFailures {
		r.Release(r.acquire(t, v, true))
	}
	for n := 2; n < maxAttempts; n++ { // by and by, as the pauses go by
		r.awaitTemplate(t, v, template.StateFailed)
		r.mu.Lock()
		h := r.templates[keyOf(v)]
		if told := strings.Join(h.report.Reasons, "; "); h.attempts != n || !strings.Contains(told, "3 forks in a row failed, the last one: ") || !strings.Contains(told, "no room") {
			t.Errorf("attempt %d, and it is told that %s", h.attempts, told)
		}
		h.retry = time.Now()
		r.mu.Unlock()
		r.renewTemplates(time.Now())
		r.awaitTemplate(t, v, template.StateReady)
		for range maxForkFailures {
			r.Release(r.acquire(t, v, true))
		}
	}
	for range 5 {
		r.Release(r.acquire(t, v, true))
	}
	if n := forks.Load(); n != maxAttempts*maxForkFailures {
		t.Errorf("%d forks were tried", n)
	}
	if told := strings.Join(r.awaitTemplate(t, v, template.StateFailed).Reasons, "; "); !strings.Contains(told, "not tried again") {
		t.Errorf("in the end it is told that %s", told)
	}

	// One that goes well in between sets the count to zero.
	broken.Store(false)
	v = r.deploy("f", "code", 2)
	r.awaitTemplate(t, v, template.StateReady)
	for range 4 {
		for _, fails := range []bool{true, true, false} {
			broken.Store(fails)
			r.Release(r.acquire(t, v, true))
		}
	}
	if report := r.Report(v).Template; report.State != template.StateReady {
		t.Errorf("it is %+v", report)
	}
}

func TestTemplatesOfTheFunctionsUsedLastAreKept(t *testing.T) {
	r := newForkingRig(t, sandboxtest.Runtime{}, func(c *Config) { c.MaxTemplates = 1 })
	a := r.deploy("a", "code", 1)
	r.awaitTemplate(t, a, template.StateReady)
	b := r.deploy("b", "code", 1)
	// Neither has been used, and there is room for one: nothing is made to be dropped at once.
	if told := strings.Join(r.awaitTemplate(t, b, template.StateEvicted).Reasons, "; "); !strings.Contains(told, "at most 1 templates") {
		t.Errorf("it is told that %s", told)
	}
	for range 2 {
		l := r.acquire(t, b, true)
		wantStart(t, l, thaw.StartBoot, thaw.CauseForced)
		r.Release(l)
		r.awaitTemplate(t, b, template.StateReady)
		r.awaitTemplate(t, a, template.StateEvicted)
		a, b = b, a
	}
}

func TestRestartBeginsWithTheFunctionsUsedLast(t *testing.T) {
	file := filepath.Join(t.TempDir(), "recent.json")
	now := time.Now()
	text, err := json.Marshal(map[string]usage{
		"old:$LATEST": {Used: now.Add(-time.Hour)}, "new:$LATEST": {Used: now.Add(-time.Minute), Burst: 5},
		"older:$LATEST": {Used: now.Add(-2 * time.Hour)}, "gone:$LATEST": {}, "old:1": {},
	})
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := newForkingRig(t, sandboxtest.Runtime{}, func(c *Config) {
		c.Recent, c.MaxTemplates, c.Spares, c.MaxVersionSpares = file, 1, 2, 10
	})
	for _, name := range []string{"old", "new", "older"} {
		v := r.deploy(name, "code", 1)
		state := template.StateReady
		if name == "older" {
			state = template.StateEvicted
		}
		r.awaitTemplate(t, v, state)
		want := 2
		if name == "new" {
			want = 5
		}
		eventually(t, name+" has its spares", func() bool { return r.Report(v).Environments.Spares == want })
	}
	f, _ := r.store.Function("old")
	r.Release(r.acquire(t, f.Running, false))
	r.stop()
	if text, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	kept := map[string]usage{}
	if err := json.Unmarshal(text, &kept); err != nil || len(kept) != 3 || !kept["old:$LATEST"].Used.After(kept["new:$LATEST"].Used) || kept["new:$LATEST"].Burst != 5 {
		t.Errorf("%v, %s", err, text)
	}
}

func TestWishesAreGrantedNewestFirst(t *testing.T) {
	p := New(Config{})
	now := time.Now()
	for n, name := range []string{"b", "d", "a", "c"} {
		p.wish(fleetKey{function: name}, now.Add(time.Duration(n%2)*time.Hour+time.Duration(name[0])*time.Second))
	}
	p.wish(fleetKey{function: "a"}, now.Add(2*time.Hour))
	p.wish(fleetKey{function: "d"}, now) // keeps the later time
	var order []string
	for key, _, ok := p.nextWish(); ok; key, _, ok = p.nextWish() {
		order = append(order, key.function)
	}
	if got := strings.Join(order, ""); got != "adcb" {
		t.Errorf("granted in the order %s", got)
	}
}

func TestShortMemoryTakesSparesThenIdleThenTemplates(t *testing.T) {
	var available atomic.Int64 // per cent
	available.Store(100)
	r := newForkingRig(t, sandboxtest.Runtime{}, func(c *Config) {
		c.Spares = 2
		c.AvailableMemory = func() float64 { return float64(available.Load()) / 100 }
	})
	v := r.deploy("f", "code", 1)
	r.awaitTemplate(t, v, template.StateReady)
	l := r.acquire(t, v, false)
	serve(t, l)
	r.Release(l)
	whole := func() bool {
		c := r.Report(v).Environments
		return c.Spares >= 2 && c.Starts == 0 && r.Report(v).Template.State == template.StateReady
	}
	eventually(t, "one has served and two are spare", func() bool { return whole() && r.Report(v).Environments.Idle == 1 })
	var steps sync.Mutex // the platform itself looks once a second: what counts is the order
	order := []string{"spares", "idle", "template"}
	seen := []string{}
	note := func() {
		steps.Lock()
		defer steps.Unlock()
		c := r.Report(v)
		for _, s := range []struct {
			name string
			gone bool
		}{{"spares", c.Environments.Spares == 0}, {"idle", c.Environments.Idle == 0}, {"template", c.Template.State == template.StateEvicted}} {
			if s.gone && !slices.Contains(seen, s.name) {
				seen = append(seen, s.name)
			}
		}
	}
	available.Store(1)
	for range len(order) + 1 { // the two spares end one at a time
		r.relieve(time.Now())
		note()
	}
	if !slices.Equal(seen, order) {
		t.Errorf("given up were %v, want %v", seen, order)
	}
	if told := r.Report(v).Template.Reasons; len(told) != 1 || !strings.Contains(told[0], "short of memory") {
		t.Errorf("it is told that %q", told)
	}
	available.Store(10) // enough to stop giving back, too little to make anything ahead
	r.relieve(time.Now())
	l = r.acquire(t, v, false)
	wantStart(t, l, thaw.StartBoot, thaw.CauseEvicted)
	serve(t, l)
	r.Release(l)
	if c := r.Report(v); c.Environments.Spares != 0 || c.Template.State != template.StateEvicted {
		t.Errorf("although memory is short, there are %+v", c)
	}
	available.Store(100)
	eventually(t, "everything is there again", whole)
	l = r.acquire(t, v, true)
	wantStart(t, l, thaw.StartFork, thaw.CauseForced)
	r.Release(l)
}
