package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"thaw"
	"thaw/runtimes"
	"thaw/runtimes/extensions"
)

// InitTimeout is how long init may take before it is cut off and tried again within an invocation (AWS: 10 s).
const InitTimeout = 10 * time.Second

// AheadLimit is how long an init may take that no invocation waits for, a snapshot's or provisioned concurrency's: the
// greater of 130 s and the function's timeout (AWS's developer guide, "Lambda execution environment lifecycle").
func AheadLimit(v *thaw.Version) time.Duration {
	return max(130*time.Second, time.Duration(v.Timeout)*time.Second)
}

// exitWait is how long a broken channel waits for the process's own end, to tell why it broke.
const exitWait = 2 * time.Second

// Log is where an environment writes: telemetry's streams in the platform.
type Log interface {
	// Write adds one log event and does not block.
	Write(at time.Time, requestID string, message []byte)
	// WaitRoom blocks while the log cannot keep up.
	WaitRoom(ctx context.Context)
}

// Config is what every environment of a node shares.
type Config struct {
	Driver  Driver
	Network Network
	Account thaw.Account

	telemetry extensions.Budget // what extensions' telemetry may hold

	mu    sync.Mutex
	alone map[string]bool // versions whose environments do not share a network
}

// Plan is one environment to be made.
type Plan struct {
	ID        string
	LogStream string
	Log       Log
	Version   *thaw.Version
	Launch    *runtimes.Launch
	CodeDir   string // unpacked package, bound at /var/task
	// Provisioned: it will be one of the version's provisioned concurrency, and is told so.
	Provisioned bool
	// Profiled, if set, has init measured, and hears of it as soon as init has ended, however it did: the profile without modules
	// and connections, which told has in the form of runtimes.ParseProfile. It must not block.
	Profiled func(profile thaw.InitProfile, told []byte)
	// InitLimit bounds init; InitTimeout, or the function's own timeout when init is repeated within an invocation.
	InitLimit time.Duration
	// Repeated: init has failed once and is repeated within an invocation. RuntimeARN is what INIT_START shows. Extensions
	// are told both.
	Repeated   bool
	RuntimeARN string
}

// NewID makes an environment id: 32 hex digits.
func NewID() string {
	var b [16]byte
	rand.Read(b[:]) //nolint:errcheck // crypto/rand.Read does not return an error since Go 1.24
	return hex.EncodeToString(b[:])
}

// Environment is one initialised execution environment.
//
//	          Boot
//	           │
//	           ▼    Claim        Invoke ends well
//	┌──────▶ idle ───────▶ busy ────────────────┐
//	│          │ ▲                               │
//	│   Freeze │ │ Claim (thaws)                 │ Release
//	│          ▼ │                               │
//	│   freezing ─▶ frozen                       │
//	└────────────────────────────────────────────┘
//
// A busy environment whose invocation timed out, or whose runtime ended, is dead: Usable says so and only Close may
// follow. Claim, Invoke and Release are for one owner at a time; Freeze may race with Claim.
type Environment struct {
	ID        string
	LogStream string
	Version   *thaw.Version
	// Served counts the invocations that it has answered. Only the owner of a claim may read or change it.
	Served int
	// Forked says that it was made from a template.
	Forked bool
	// ProfileID names the environment or template in which its init was measured, empty if it was not.
	ProfileID string
	// InitDuration is how long runtime and user module took; of a forked one, the whole start.
	InitDuration time.Duration
	// Timing holds the instants of the start.
	Timing StartTiming

	peak   uint64
	peakAt time.Time

	process Process
	conn    runtimes.Conn
	output  *output
	state   atomic.Int32
	settled chan struct{} // one token when a Freeze that a Claim waits for has ended
	dead    atomic.Bool
	timeout atomic.Bool // dead because of its deadline
	broken  atomic.Bool // dead because of a failure

	extensions *extensions.Host // nil: it has none
	answered   time.Time        // when the runtime answered last, where there are extensions
}

// StartTiming says when each step of a start ended.
type StartTiming struct {
	Begin     time.Time
	Sandboxed time.Time // the process runs
	Extended  time.Time // the external extensions have registered; zero where there are none
	Runtime   time.Time // the bootstrap runs; equal to Sandboxed where the runtime does not tell
	Ready     time.Time // init is over
}

// States of an Environment.
const (
	stateIdle int32 = iota
	stateBusy
	stateFreezing
	stateFrozen
	stateClaimedFreezing // a Claim waits for a Freeze to end
)

// InitError is a failure of init: the function's, not the platform's.
type InitError struct {
	*thaw.FunctionError
	Length   time.Duration
	TimedOut bool
	// ProfileID names the environment if its init was measured as far as it went.
	ProfileID string
}

// Unwrap gives the failure that the caller sees.
func (e *InitError) Unwrap() error { return e.FunctionError }

// Boot makes a sandbox, starts the runtime in it and waits until the user's module is initialised. A failure of the
// function is an *InitError; every other error is the platform's. Nothing is left behind on error. ctx bounds the whole
// start.
func (c *Config) Boot(ctx context.Context, plan *Plan) (*Environment, error) {
	return c.boot(ctx, plan, c.spec(plan))
}

func (c *Config) boot(ctx context.Context, plan *Plan, spec *Spec) (*Environment, error) {
	e := newEnvironment(plan)
	var held *runtimes.Credentials
	if plan.Launch.RuntimeAPI && plan.Version.SnapStarted() {
		spec.Env, held = runtimes.HoldCredentials(spec.Env)
		spec.CredentialsPath = runtimes.CredentialsPath
	}
	process, err := c.Driver.Start(ctx, spec)
	if errors.Is(err, ErrEntrypoint) {
		return nil, &InitError{FunctionError: &thaw.FunctionError{
			Type: thaw.ErrorInvalidEntry, Payload: []byte("fork/exec " + plan.Launch.Args[0] + ": " + cause(err)),
		}}
	}
	if err != nil {
		return nil, fmt.Errorf("sandbox: start %s: %w", plan.ID, err)
	}
	e.process = process
	e.Timing.Sandboxed = time.Now()
	e.output = newOutput(process.Output(), plan.Log, plan.Version)
	e.connect(ctx, c, plan, held)
	return e.ready(ctx, c, plan)
}

func newEnvironment(plan *Plan) *Environment {
	e := &Environment{ID: plan.ID, LogStream: plan.LogStream, Version: plan.Version, settled: make(chan struct{}, 1)}
	e.Timing.Begin = time.Now()
	return e
}

// ready waits for the end of a new environment's init and closes what did not get there.
func (e *Environment) ready(ctx context.Context, c *Config, plan *Plan) (*Environment, error) {
	err := e.waitInit(ctx, plan.InitLimit)
	e.initialized(c, err)
	e.tellProfile(plan)
	if err != nil {
		if failure, ok := errors.AsType[*InitError](err); ok {
			failure.ProfileID = e.ProfileID
		}
		e.output.drain("")
		e.Close()
		return nil, err
	}
	if err = e.process.LimitCPU(); err != nil {
		e.Close()
		return nil, fmt.Errorf("sandbox: limit CPU of %s: %w", plan.ID, err)
	}
	e.output.drain("")
	return e, nil
}

// tellProfile passes on what the runtime told of its init. A fork's is its template's.
func (e *Environment) tellProfile(plan *Plan) {
	profiler, ok := e.conn.(runtimes.Profiler)
	if !ok {
		return
	}
	told := profiler.TakeProfile() // also where it was not asked for: the connection would keep it
	if plan.Profiled == nil || e.Forked || len(told) == 0 {
		return
	}
	e.ProfileID = e.ID
	plan.Profiled(thaw.InitProfile{
		ID: e.ID, Function: e.Version.Function, Version: e.Version.Number, Generation: e.Version.Generation,
		Runtime: plan.Launch.Version, At: e.Timing.Runtime, Length: e.Timing.Ready.Sub(e.Timing.Runtime),
	}, told)
}

// cause is the kernel's own word for an error.
func cause(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}

func (c *Config) spec(plan *Plan) *Spec {
	launch := plan.Launch
	mounts := make([]Mount, 0, len(launch.Binds)+1)
	mounts = append(mounts, Mount{Source: plan.CodeDir, Target: "/var/task"})
	for _, b := range launch.Binds {
		mounts = append(mounts, Mount(b))
	}
	v := plan.Version
	spec := &Spec{
		ID:         plan.ID,
		NetworkKey: c.networkKey(plan),
		Mounts:     mounts,
		Args:       launch.Args,
		Env:        runtimes.Environ(v, c.Account, plan.LogStream, plan.Provisioned, launch.Env...),
		Dir:        "/var/task",
		MemoryMB:   v.MemorySize,
		TmpMB:      v.TmpSize,
		Channel:    launch.Channel,
		RuntimeAPI: true, // for the extensions, if not for the runtime
	}
	plan.measure(spec)
	plan.extend(spec)
	return spec
}

// measure has the command of a spec measure init, if that is wanted.
func (p *Plan) measure(spec *Spec) {
	if p.Profiled != nil {
		spec.Args = append(spec.Args[:len(spec.Args):len(spec.Args)], p.Launch.ProfileArgs...)
	}
}

// starter is a Conn that knows when the runtime itself was up, before it loaded the user's module.
type starter interface{ RuntimeUp() time.Time }

func (e *Environment) waitInit(ctx context.Context, limit time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := e.initialize(limited)
	e.Timing.Ready = time.Now()
	e.Timing.Runtime = e.Timing.Sandboxed
	if !e.Timing.Extended.IsZero() {
		e.Timing.Runtime = e.Timing.Extended
	}
	if s, ok := e.conn.(starter); ok {
		if up := s.RuntimeUp(); up.After(e.Timing.Sandboxed) && up.Before(e.Timing.Ready) {
			e.Timing.Runtime = up
		}
	}
	e.InitDuration = e.Timing.Ready.Sub(e.Timing.Sandboxed)
	failure, failed := errors.AsType[*thaw.FunctionError](err)
	switch {
	case err == nil:
		return nil
	case failed:
		return &InitError{FunctionError: failure, Length: e.InitDuration}
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil:
		return &InitError{FunctionError: &thaw.FunctionError{Type: thaw.ErrorTimedOut}, Length: e.InitDuration, TimedOut: true}
	default:
		exit := e.awaitExit()
		return &InitError{FunctionError: exit, Length: e.InitDuration}
	}
}

// awaitExit tells how the runtime ended. Its Payload is the message alone: who reports it knows the request id.
func (e *Environment) awaitExit() *thaw.FunctionError {
	timer := time.NewTimer(exitWait)
	defer timer.Stop()
	exit := ExitStatus{}
	select {
	case <-e.process.Done():
		exit = e.process.Exit()
	case <-e.runtimeEnded():
		exit = e.runtimeStatus()
	case <-timer.C:
		// The channel is broken although the process lives: it closed or garbled it.
		e.process.Kill()
		<-e.process.Done()
		return &thaw.FunctionError{Type: thaw.ErrorExit, Payload: []byte("Runtime exited without providing a reason")}
	}
	failure := &thaw.FunctionError{Type: thaw.ErrorExit}
	if e.process.OOMKilled() {
		failure.Type = thaw.ErrorOutOfMemory
	}
	switch {
	case exit.Signal != "":
		failure.Payload = []byte("Runtime exited with error: signal: " + exit.Signal)
	case exit.Code != 0:
		failure.Payload = fmt.Appendf(nil, "Runtime exited with error: exit status %d", exit.Code)
	default:
		failure.Payload = []byte("Runtime exited without providing a reason")
	}
	return failure
}

// Claim takes an idle environment for one invocation and thaws it if it was frozen. It reports false when the
// environment has died meanwhile; the caller then closes it.
func (e *Environment) Claim() bool {
	for {
		switch s := e.state.Load(); s {
		case stateIdle:
			if e.state.CompareAndSwap(s, stateBusy) {
				return e.Usable()
			}
		case stateFrozen:
			if e.state.CompareAndSwap(s, stateBusy) {
				return e.process.Thaw() == nil && e.Usable()
			}
		case stateFreezing:
			if e.state.CompareAndSwap(s, stateClaimedFreezing) {
				<-e.settled
				e.state.Store(stateBusy)
				return e.process.Thaw() == nil && e.Usable()
			}
		default:
			return false
		}
	}
}

// Freeze stops every process of an idle environment. It does nothing in any other state. A Claim that comes meanwhile
// waits for it.
func (e *Environment) Freeze() error {
	if !e.state.CompareAndSwap(stateIdle, stateFreezing) {
		return nil
	}
	err := e.process.Freeze()
	next := stateFrozen
	if err != nil {
		next = stateIdle
	}
	if !e.state.CompareAndSwap(stateFreezing, next) {
		e.settled <- struct{}{}
	}
	return err
}

// Idle reports whether the environment waits unfrozen.
func (e *Environment) Idle() bool { return e.state.Load() == stateIdle }

// Release ends a claim.
func (e *Environment) Release() { e.state.Store(stateIdle) }

// Usable reports whether the environment can serve: its runtime runs and no invocation has broken it.
func (e *Environment) Usable() bool {
	if e.dead.Load() || e.extensions != nil && e.extensions.Failure() != nil {
		return false
	}
	select {
	case <-e.process.Done():
		return false
	case <-e.runtimeEnded():
		return false
	default:
		return true
	}
}

// TimedOut reports whether the environment died of an invocation's deadline.
func (e *Environment) TimedOut() bool { return e.timeout.Load() }

// peakEvery is how old the figure of MemoryPeak may be after a short invocation.
const peakEvery = 20 * time.Millisecond

// MemoryPeak is the highest memory use so far, bytes. The kernel is asked after an invocation that took a while, and at
// intervals otherwise: the question is a good part of a short call's cost. Only the owner of a claim may call it.
func (e *Environment) MemoryPeak(now time.Time, took time.Duration) uint64 {
	if took > time.Millisecond || now.Sub(e.peakAt) > peakEvery {
		e.peak, e.peakAt = e.process.MemoryPeak(), now
	}
	return e.peak
}

// LastPeak is what MemoryPeak gave last, 0 if it was never asked. Only the owner of a claim may call it.
func (e *Environment) LastPeak() uint64 { return e.peak }

// UsedMemory is the highest memory use so far, bytes, as the kernel says now; 0 when it cannot be told. Anybody may call it.
func (e *Environment) UsedMemory() uint64 { return e.process.MemoryPeak() }

// Invoke passes one event to a claimed environment. It returns the response's JSON, or
//   - *thaw.FunctionError: the function failed; the environment goes on;
//   - *Broken: the runtime ended or the deadline passed; the environment is dead;
//   - ctx's own error, when the caller gave up; the environment is dead.
//
// What the function wrote up to its answer has reached the log when Invoke returns.
func (e *Environment) Invoke(ctx context.Context, event *runtimes.Event, deadline time.Time) ([]byte, error) {
	e.output.begin(event.RequestID)
	response, err := e.pass(ctx, event, deadline)
	if _, failed := errors.AsType[*thaw.FunctionError](err); err == nil || failed {
		if errors.Is(err, io.EOF) {
			e.dead.Store(true) // the runtime ends after this failure
			e.broken.Store(true)
		}
		e.output.drain(event.RequestID)
		e.Served++
		return response, err
	}
	e.dead.Store(true)
	failure, extended := errors.AsType[*extensionFailure](err)
	switch {
	case extended:
		err = &Broken{FunctionError: failure.failure}
	case ctx.Err() != nil:
		err = ctx.Err()
		e.process.Kill()
	case errors.Is(err, runtimes.ErrNotTaken):
		err = &Broken{FunctionError: e.awaitExit(), NotTaken: true}
	case errors.Is(err, context.DeadlineExceeded):
		e.timeout.Store(true)
		err = &Broken{FunctionError: &thaw.FunctionError{Type: thaw.ErrorTimedOut}, TimedOut: true}
		if e.extensions == nil { // they have a time to end, which begins with Close
			e.process.Kill()
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = &Broken{FunctionError: e.awaitExit()}
	default:
		e.process.Kill()
		err = &Broken{FunctionError: e.awaitExit()}
	}
	e.broken.Store(!e.timeout.Load())
	e.output.drain(event.RequestID)
	return nil, err
}

func (e *Environment) pass(ctx context.Context, event *runtimes.Event, deadline time.Time) ([]byte, error) {
	if e.extensions != nil {
		return e.passExtended(ctx, event, deadline)
	}
	if e.process.Channel() != nil && ctx.Done() == nil {
		return e.conn.Invoke(deadlineContext{ctx, deadline}, event)
	}
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	return e.conn.Invoke(limited, event)
}

// deadlineContext is a deadline without a timer: the socketpair of the frames has one of its own.
type deadlineContext struct {
	context.Context
	at time.Time
}

// Deadline is what the context adds.
func (c deadlineContext) Deadline() (time.Time, bool) { return c.at, true }

// Broken is an invocation that took its environment with it.
type Broken struct {
	*thaw.FunctionError
	TimedOut bool
	// NotTaken: the runtime ended before it took the event, so that another environment may serve it.
	NotTaken bool
}

// Unwrap gives the failure that the caller sees.
func (b *Broken) Unwrap() error { return b.FunctionError }

// Close ends the environment and gives everything back. Where there are extensions, they are told and have up to 2 s.
// Idempotent.
func (e *Environment) Close() error {
	e.dead.Store(true)
	e.shutDown()
	e.process.Kill()
	if e.conn != nil {
		e.conn.Close() //nolint:errcheck // the process behind it is being killed
	}
	if e.extensions != nil {
		e.extensions.Close()
	}
	e.output.close()
	return e.process.Close()
}
