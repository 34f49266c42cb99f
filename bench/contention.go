package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"thaw"
	"thaw/invoke"
	"thaw/placement"
	"thaw/runtimes"
	"thaw/sandbox"
	"thaw/sandbox/sandboxtest"
	"thaw/state"
	"thaw/telemetry"
	"thaw/warm"
)

const (
	contentionLength = 4 * time.Second
	// slowCall is what each call of the driver takes when they are made slow, those that are system calls in the real one. A lock
	// that were held over one would make its waiters wait about that long.
	slowCall = 5 * time.Millisecond
	// topHolders is how many of them are shown.
	topHolders = 5
)

// contention is what callers waited for at locks while they invoked one function, by Go's mutex profile.
type contention struct {
	Slow        bool // the driver's calls took slowCall each
	Callers     int
	Invocations int
	DriverCalls int // start, freeze, thaw, kill and close
	Holders     []holder
}

// holder is a function that let go of a lock that others waited for.
type holder struct {
	Name   string
	Count  int64 // times
	Waited time.Duration
}

// each is the mean of what was waited in one invocation.
func (c *contention) each() time.Duration {
	var all time.Duration
	for _, h := range c.Holders {
		all += h.Waited
	}
	return all / time.Duration(max(c.Invocations, 1))
}

// measureContention has as many callers as there are connections elsewhere invoke one function at the Invoker and the Placer
// as they are, in this process, over environments that are goroutines and answer at once: what is left is the path of a
// request from its permit to its environment and back. Then the same again with a slow driver, whose environments are frozen
// and thawed all the time.
func measureContention(ctx context.Context, o *options, f *findings) error {
	before := runtime.SetMutexProfileFraction(1)
	defer runtime.SetMutexProfileFraction(before)
	for _, slow := range []bool{false, true} {
		say(fmt.Sprintf("the locks of a request's path, slow system calls: %t", slow))
		c, err := contend(ctx, slow, o.shorten(contentionLength))
		if err != nil {
			return fmt.Errorf("contention: %w", err)
		}
		f.Waits = append(f.Waits, *c)
	}
	return nil
}

func contend(ctx context.Context, slow bool, length time.Duration) (*contention, error) {
	c := &contention{Slow: slow, Callers: connections}
	v := thaw.Version{Function: "f", Number: thaw.Latest, State: thaw.StateActive, Generation: 1, Timeout: 30, MemorySize: 128}
	one := oneFunction{&thaw.Function{Name: v.Function, Config: v, Running: &v}}
	driver := &countingDriver{Driver: &sandboxtest.Driver{}}
	freezeAfter := time.Hour
	if slow {
		driver.takes, freezeAfter = slowCall, 0
	}
	account := thaw.Account{ID: "000000000000", Region: anyRegion}
	placer := placement.New(placement.Config{
		Store: one, Packages: one, Launcher: one, Logs: telemetry.NewLogs(noLogs{}), Log: slog.New(slog.DiscardHandler),
		Sandbox:         &sandbox.Config{Driver: driver, Account: account},
		MaxEnvironments: 2 * connections, Starters: 2, KeepAlive: warm.Fixed(time.Hour), FreezeAfter: freezeAfter,
	})
	invoker := invoke.New(invoke.Config{Catalog: one, Placer: placer, Account: account, Concurrency: connections})
	running, stop := context.WithCancel(ctx)
	var platform sync.WaitGroup
	var failed error
	platform.Go(func() { failed = placer.Run(running) })
	defer func() { stop(); platform.Wait() }()

	var calls atomic.Int64
	work := func(ctx context.Context, caller int) error {
		_, err := invoker.Invoke(ctx, &invoke.Request{
			Function: thaw.FunctionRef{Name: v.Function}, Payload: []byte(event), RequestID: fmt.Sprint(caller), Start: time.Now(),
			Forced: slow && caller%8 == 0, // starts and ends among the rest
		})
		calls.Add(1)
		if slow && err == nil {
			_ = wait(ctx, time.Duration(caller)*time.Millisecond) // some are frozen in the meantime; or the time is over
		}
		return err
	}
	if _, err := during(ctx, c.Callers, length/4, work); err != nil { // makes the environments
		return nil, err
	}
	calls.Store(0)
	driver.calls.Store(0)
	earlier, err := lockWaits()
	if err != nil {
		return nil, err
	}
	if _, err := during(ctx, c.Callers, length, work); err != nil {
		return nil, err
	}
	later, err := lockWaits()
	if err != nil {
		return nil, err
	}
	c.Invocations, c.DriverCalls = int(calls.Load()), int(driver.calls.Load())
	for name, h := range later {
		h.Count -= earlier[name].Count
		h.Waited -= earlier[name].Waited
		if h.Count > 0 {
			c.Holders = append(c.Holders, h)
		}
	}
	slices.SortFunc(c.Holders, func(a, b holder) int {
		if a.Waited != b.Waited {
			return int(b.Waited - a.Waited)
		}
		return strings.Compare(a.Name, b.Name)
	})
	stop()
	platform.Wait()
	return c, failed
}

// lockWaits is Go's mutex profile by holder, of locks that are let go of below the Invoker and the Placer.
func lockWaits() (map[string]holder, error) {
	var text bytes.Buffer
	if err := pprof.Lookup("mutex").WriteTo(&text, 1); err != nil {
		return nil, err
	}
	var perSecond int64 // the profile's unit, which its text alone tells
	if _, err := fmt.Sscanf(text.String(), "--- mutex:\ncycles/second=%d\n", &perSecond); err != nil {
		return nil, fmt.Errorf("the mutex profile begins with %.60q: %w", text.String(), err)
	}
	records := make([]runtime.BlockProfileRecord, 1000)
	for {
		n, ok := runtime.MutexProfile(records)
		if ok {
			records = records[:n]
			break
		}
		records = make([]runtime.BlockProfileRecord, 2*n)
	}
	holders := map[string]holder{}
	for i := range records {
		r := &records[i]
		var stack []string
		for frames := runtime.CallersFrames(r.Stack()); ; {
			frame, more := frames.Next()
			stack = append(stack, frame.Function)
			if !more {
				break
			}
		}
		name := holderIn(stack)
		if name == "" {
			continue
		}
		h := holders[name]
		h.Name = name
		h.Count += r.Count
		h.Waited += time.Duration(float64(r.Cycles) / float64(perSecond) * float64(time.Second))
		holders[name] = h
	}
	return holders, nil
}

// holderIn names who let go of a lock, by the functions on its stack, the innermost first: the innermost one of the platform,
// and what that called if the lock belongs to it. It is empty where the platform has no part, or a fake's.
func holderIn(stack []string) string {
	at := slices.IndexFunc(stack, func(function string) bool { return strings.HasPrefix(function, "thaw/") })
	if at < 0 || strings.HasPrefix(stack[at], "thaw/sandbox/sandboxtest.") || strings.HasPrefix(stack[at], "thaw/bench.") {
		return ""
	}
	name := strings.TrimPrefix(stack[at], "thaw/")
	if strings.HasPrefix(stack[0], "runtime.") {
		return name + " in Go's runtime" // a lock of the allocator's, the scheduler's or a channel's
	}
	for _, owner := range slices.Backward(stack[:at]) {
		if !strings.HasPrefix(owner, "sync.") && !strings.HasPrefix(owner, "runtime.") && !strings.HasPrefix(owner, "internal/sync.") {
			return name + " in " + owner
		}
	}
	return name
}

// oneFunction is all that is deployed where the locks are measured.
type oneFunction struct{ function *thaw.Function }

func (f oneFunction) Function(name string) (*thaw.Function, bool) {
	return f.function, name == f.function.Name
}
func (oneFunction) Functions(string, int) []*thaw.Function { return nil }
func (oneFunction) UpdateFunction(context.Context, string, func(*thaw.Function) error) (*thaw.Function, error) {
	return nil, state.ErrNotFound
}
func (oneFunction) Watch(ctx context.Context, _ func(state.Change)) error {
	<-ctx.Done()
	return ctx.Err()
}
func (oneFunction) Retain(string) func()                             { return func() {} }
func (oneFunction) RetainLayers([]string) func()                     { return func() {} }
func (oneFunction) Dir(context.Context, string) (string, error)      { return "", nil }
func (oneFunction) Layers(context.Context, []string) (string, error) { return "", nil }
func (oneFunction) Launch(context.Context, *thaw.Version, string, string) (*runtimes.Launch, error) {
	return &runtimes.Launch{Args: []string{"none"}, Channel: true, Version: "none"}, nil
}

// noLogs drops every line.
type noLogs struct{}

func (noLogs) PublishLog(string, string, []byte) error { return nil }
func (noLogs) ReadLogs(context.Context, string, time.Time, bool, func(time.Time, []byte) error) error {
	return errors.ErrUnsupported
}

// countingDriver counts the calls that are system calls in a real driver, and makes each take a time.
type countingDriver struct {
	sandbox.Driver
	takes time.Duration
	calls atomic.Int64
}

func (d *countingDriver) Start(ctx context.Context, spec *sandbox.Spec) (sandbox.Process, error) {
	p, err := d.Driver.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	d.call()
	return &countedProcess{Process: p, driver: d}, nil
}

func (d *countingDriver) call() {
	d.calls.Add(1)
	if d.takes > 0 {
		<-time.After(d.takes)
	}
}

type countedProcess struct {
	sandbox.Process
	driver *countingDriver
}

func (p *countedProcess) Freeze() error {
	p.driver.call()
	return p.Process.Freeze()
}

func (p *countedProcess) Thaw() error {
	p.driver.call()
	return p.Process.Thaw()
}

func (p *countedProcess) Kill() {
	p.driver.call()
	p.Process.Kill()
}

func (p *countedProcess) Close() error {
	p.driver.call()
	return p.Process.Close()
}
