package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"thaw"
	"thaw/runtimes"
	"thaw/runtimes/extensions"
)

// Dialer is a Process into whose network the host may be able to connect.
type Dialer interface {
	// Dials reports whether it can. Without root it cannot where the process has brought a network of its own.
	Dials() bool
	// DialPort connects to a TCP port of the loopback interface that the process sees. The caller may set deadlines on
	// the connection.
	DialPort(ctx context.Context, port int) (net.Conn, error)
}

// Terminator is a Process that can be asked to end.
type Terminator interface {
	// Terminate sends SIGTERM to the process that Start has started.
	Terminate() error
}

// aloneLimit bounds how many versions are remembered that have extensions of their own making.
const aloneLimit = 4096

// setAlone takes note that a version's environments listen on ports of their choice, as internal extensions do: those made
// from now on get a network each, so that they do not meet on one port.
func (c *Config) setAlone(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alone == nil || len(c.alone) >= aloneLimit {
		c.alone = map[string]bool{}
	}
	c.alone[key] = true
}

// networkKey tells which environments share a network: those of a version, unless it has extensions.
func (c *Config) networkKey(plan *Plan) string {
	key := versionKey(plan.Version)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(plan.Launch.Extensions) > 0 || c.alone[key] {
		return key + ":" + plan.ID
	}
	return key
}

func versionKey(v *thaw.Version) string {
	return fmt.Sprintf("%s:%s:%d", v.Function, v.Number, v.Generation)
}

// extend has a spec's command started by the launcher, after the extensions.
func (p *Plan) extend(spec *Spec) {
	if len(p.Launch.Extensions) == 0 {
		return
	}
	spec.Args = append([]string{extensions.LauncherPath}, spec.Args...)
	spec.Mounts = append(spec.Mounts, Mount{Source: p.Launch.Launcher, Target: extensions.LauncherPath})
}

// host makes the host's side of a new environment's extensions. Every boot has one until its init is over: an internal
// extension registers in the midst of init, and what does not register by then never may.
func (c *Config) host(ctx context.Context, plan *Plan, process Process) *extensions.Host {
	v := plan.Version
	cfg := extensions.Config{
		Function: v.Function, Version: v.Number, Handler: v.Handler, AccountID: c.Account.ID, EnvironmentID: plan.ID,
		MemoryMB: v.MemorySize, RuntimeVersion: plan.Launch.Version, RuntimeARN: plan.RuntimeARN,
		JSON: v.LogsJSON(), Quiet: v.SystemLevel == "WARN",
		Phase: "init", External: plan.Launch.Extensions, Runtime: plan.Launch.Args[0],
		InitializationType: runtimes.InitializationType(v, plan.Provisioned),
		Budget:             &c.telemetry, Log: plan.Log.Write, WaitRoom: plan.Log.WaitRoom,
	}
	if plan.Repeated {
		cfg.Phase = "invoke"
	}
	if dialer, ok := process.(Dialer); ok && dialer.Dials() {
		cfg.Dial = dialer.DialPort
	}
	return extensions.New(ctx, cfg)
}

// connect opens the environment's channel and the API beside it.
func (e *Environment) connect(ctx context.Context, c *Config, plan *Plan, held *runtimes.Credentials) {
	listener := e.process.Listener()
	if listener != nil {
		e.extensions = c.host(ctx, plan, e.process)
		e.output.listen(e.extensions.FunctionLog)
	}
	if plan.Launch.Channel {
		e.conn = runtimes.NewFrames(e.process.Channel())
		if e.extensions != nil {
			e.extensions.Serve(listener)
		}
	} else {
		var routes func(*http.ServeMux)
		if e.extensions != nil {
			routes = e.extensions.Routes
		}
		e.conn = runtimes.ServeAPI(listener, held, routes)
	}
	if e.extensions == nil {
		return
	}
	conn, host, process := e.conn, e.extensions, e.process
	overHTTP := !plan.Launch.Channel
	// Over HTTP the runtime's end cannot be seen; on the socketpair it can, but not by who waits for extensions.
	go func() {
		select {
		case <-process.Done():
		case <-host.Closed():
		case <-host.RuntimeExited():
			if gone, ok := conn.(interface{ Gone() }); ok {
				gone.Gone()
			}
			select {
			case <-process.Done():
			case <-host.Closed():
			}
		}
		if overHTTP {
			<-process.Done()
			conn.Close() //nolint:errcheck // its calls end with io.EOF
		}
		host.Gone()
	}()
}

// initialize waits for the external extensions to register, for the runtime's init and for all extensions to be ready.
func (e *Environment) initialize(ctx context.Context) error {
	host := e.extensions
	if host == nil {
		return e.conn.WaitInit(ctx)
	}
	if err := host.Launch(ctx); err != nil {
		return err
	}
	if host.External() {
		e.Timing.Extended = time.Now()
	}
	running, release := host.Context(ctx)
	err := e.conn.WaitInit(running)
	release()
	if failure := host.Failure(); failure != nil && err != nil {
		if _, own := errors.AsType[*thaw.FunctionError](err); !own {
			err = failure
		}
	}
	if err != nil {
		return err
	}
	return host.Ready(ctx)
}

// initialized tells the extensions how init ended, and gives up what is not needed any more.
func (e *Environment) initialized(c *Config, err error) {
	host := e.extensions
	if host == nil {
		return
	}
	failure, timedOut := "", false
	if told, ok := errors.AsType[*InitError](err); ok {
		failure, timedOut = told.Type, told.TimedOut
	} else if err != nil {
		failure = thaw.ErrorRuntimeUnknown
	}
	if err != nil { // what Close says to the extensions
		e.timeout.Store(timedOut)
		e.broken.Store(!timedOut)
	}
	host.InitDone(e.Timing.Ready, e.InitDuration, failure, timedOut)
	host.Describe()
	if _, internal := host.Registered(); len(internal) > 0 {
		c.setAlone(versionKey(e.Version))
	}
	if err == nil && host.Empty() {
		host.Close()
		e.extensions = nil
		e.output.listen(nil)
	}
}

// Extended reports whether extensions take part in the environment's invocations: Finish follows Invoke then, and Report
// follows Finish.
func (e *Environment) Extended() bool { return e.extensions != nil }

// extensionHazards says why an environment with extensions cannot be forked.
func (e *Environment) extensionHazards() []string {
	if e.extensions == nil {
		return nil
	}
	external, internal := e.extensions.Registered()
	switch {
	case len(external) > 0:
		return []string{extensions.Hazard(external)}
	case len(internal) > 0:
		return []string{fmt.Sprintf("init registered the internal extension %s, which waits for events in a thread that forks would not have", strings.Join(internal, ", "))}
	}
	return nil
}

// passExtended passes one event to the runtime and to the extensions.
func (e *Environment) passExtended(ctx context.Context, event *runtimes.Event, deadline time.Time) ([]byte, error) {
	host := e.extensions
	begin := time.Now()
	host.Begin(event, begin)
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	running, release := host.Context(limited)
	defer release()
	response, err := e.conn.Invoke(running, event)
	e.answered = time.Now()
	status, errorType := "success", ""
	failure, failed := errors.AsType[*thaw.FunctionError](err)
	switch {
	case failed:
		status, errorType = "error", failure.Type
	case err == nil:
	case host.Failure() != nil:
		err = &extensionFailure{host.Failure()}
		status, errorType = "error", host.Failure().Type
	case limited.Err() != nil:
		err = context.DeadlineExceeded
		status = "timeout"
	default:
		status, errorType = "error", thaw.ErrorExit
	}
	host.RuntimeDone(event, begin, e.answered, len(response), status, errorType)
	return response, err
}

// extensionFailure is what ended an invocation that its runtime could have gone on with.
type extensionFailure struct{ failure *thaw.FunctionError }

func (f *extensionFailure) Error() string { return f.failure.Error() }

// Finish waits until every extension is done with the invocation that Invoke was for. It comes after an Invoke whose error,
// if any, was a *thaw.FunctionError; the response may be given to the caller before. Errors: *Broken, when the deadline
// passed or an extension ended; the environment is dead then.
func (e *Environment) Finish(ctx context.Context, requestID string, deadline time.Time) error {
	if e.extensions == nil || e.dead.Load() {
		return nil
	}
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	err := e.extensions.Done(limited)
	e.output.drain(requestID)
	if err == nil {
		return nil
	}
	e.dead.Store(true)
	if failure, ok := errors.AsType[*thaw.FunctionError](err); ok {
		return &Broken{FunctionError: failure}
	}
	if limited.Err() != nil {
		e.timeout.Store(true)
		return &Broken{FunctionError: &thaw.FunctionError{Type: thaw.ErrorTimedOut}, TimedOut: true}
	}
	return &Broken{FunctionError: e.awaitExit()}
}

// Answered is when the runtime answered the last invocation; zero where no extension takes part.
func (e *Environment) Answered() time.Time { return e.answered }

// Report tells the extensions what REPORT says of the last invocation.
func (e *Environment) Report(at time.Time, r *thaw.Invocation) {
	if e.extensions != nil {
		e.extensions.Report(at, e.answered, r)
	}
}

// shutDown is the Shutdown phase of an environment that has extensions: it takes up to 2 s.
func (e *Environment) shutDown() {
	host := e.extensions
	if host == nil {
		return
	}
	reason := extensions.Spindown
	switch {
	case e.timeout.Load():
		reason = extensions.TimedOut
	case host.Failure() != nil, e.broken.Load():
		reason = extensions.Failure
	}
	select {
	case <-e.process.Done():
	default:
		if e.process.Thaw() == nil {
			terminate := func() {
				if t, ok := e.process.(Terminator); ok {
					t.Terminate() //nolint:errcheck // what cannot be asked is killed in the end
				}
			}
			host.Shutdown(reason, terminate, e.process.Done())
		}
	}
}

// runtimeEnded is closed when the runtime process has ended, as far as that can be told apart from the sandbox's end.
func (e *Environment) runtimeEnded() <-chan struct{} {
	if e.extensions == nil {
		return nil
	}
	return e.extensions.RuntimeExited()
}

// runtimeStatus is how the runtime process ended, after runtimeEnded.
func (e *Environment) runtimeStatus() ExitStatus {
	status := e.extensions.RuntimeStatus()
	if status.Signaled() {
		return ExitStatus{Signal: status.Signal().String()}
	}
	return ExitStatus{Code: status.ExitStatus()}
}
