package extensions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"

	"thaw"
	"thaw/runtimes"
)

// MaxExtensions is how many extensions one environment may have, external and internal ones together.
const MaxExtensions = 10

// How long the shutdown of an environment may take, after AWS's developer guide ("Shutdown phase").
const (
	ShutdownInternal = 500 * time.Millisecond // with internal extensions only: the runtime's time
	ShutdownExternal = 2 * time.Second        // with external ones: all of it
	shutdownRuntime  = 300 * time.Millisecond // of ShutdownExternal, the runtime's where there is no internal extension
)

// Reasons of a shutdown, as the SHUTDOWN event gives them.
const (
	Spindown = "spindown"
	TimedOut = "timeout"
	Failure  = "failure"
)

// Config is one environment as its extensions are told of it.
type Config struct {
	Function, Version, Handler string
	AccountID                  string
	EnvironmentID              string
	MemoryMB                   int
	// InitializationType, RuntimeVersion and RuntimeARN are what platform.initStart tells.
	InitializationType, RuntimeVersion, RuntimeARN string
	// Phase is "init", or "invoke" where init is repeated within an invocation.
	Phase string
	// JSON: the function's LogFormat is JSON. Its lines that are objects are records as they are then, and the platform's
	// lines are objects. Quiet leaves those out, which are of level INFO.
	JSON, Quiet bool
	// External are the names of the files in /opt/extensions, sorted.
	External []string
	// Runtime is the path of the runtime's own command, which the launcher starts; for messages only.
	Runtime string
	// Dial connects to a port of the loopback interface inside the sandbox. Nil: subscriptions are refused.
	Dial func(ctx context.Context, port int) (net.Conn, error)
	// Budget is the node's; nil: what an environment may hold is bounded for itself alone.
	Budget *Budget
	// Log takes the platform's lines about extensions, and what extensions write, with a newline. It does not block.
	Log func(at time.Time, requestID string, message []byte)
	// WaitRoom blocks while the log cannot keep up; it is what slows a flooding extension down.
	WaitRoom func(ctx context.Context)
}

// Host serves the extensions of one environment. Its methods may be called from several goroutines, but for the order
//
//	Launch, Ready, then any number of Begin, Done, Report, then Shutdown, Close
type Host struct {
	cfg       Config
	ctx       context.Context //nolint:containedctx // the environment's life: what delivers telemetry ends with Close
	stop      context.CancelFunc
	telemetry telemetry
	launcher  launcherConn
	server    server

	failed    context.Context //nolint:containedctx // it ends with the first failure
	setFailed context.CancelFunc
	gone      chan struct{} // closed when nothing in the sandbox lives any more
	goneOnce  sync.Once
	current   atomic.Pointer[string] // the request that runs, or ran last

	mu         sync.Mutex
	extensions []*extension
	changed    chan struct{} // closed and replaced when an extension's state changes
	closed     bool          // registration is over
	ending     bool          // a process that ends from now on is no failure
	failure    *thaw.FunctionError
}

// state is an extension's, in the words that AWS logs.
type state string

const (
	stateStarted     state = "Started"
	stateRegistered  state = "Registered"
	stateReady       state = "Ready"
	stateRunning     state = "Running"
	stateInitError   state = "InitError"
	stateExitError   state = "ExitError"
	stateLaunchError state = "LaunchError"
	stateExited      state = "Exited"
)

// extension is guarded by its Host's mu, but for deliver.
type extension struct {
	name             string
	id               string
	external         bool
	index            int // external: its number for the launcher
	invoke, shutdown bool
	state            state
	errorType        string
	subscribed       string        // the API by which it takes telemetry, empty: none
	deliver          chan []byte   // at most one event that it has not fetched
	replaced         chan struct{} // closed when another call of next takes the place of the one that waits
}

func (x *extension) events() []string {
	events := []string{}
	if x.invoke {
		events = append(events, "INVOKE")
	}
	if x.shutdown {
		events = append(events, "SHUTDOWN")
	}
	return events
}

// New makes the Host of an environment that is about to start. Close gives back what it holds.
func New(ctx context.Context, cfg Config) *Host {
	h := &Host{cfg: cfg, changed: make(chan struct{}), gone: make(chan struct{})}
	h.ctx, h.stop = context.WithCancel(context.WithoutCancel(ctx))
	h.failed, h.setFailed = context.WithCancel(context.WithoutCancel(ctx))
	h.telemetry.init(h)
	h.launcher.init(h)
	for i, name := range cfg.External {
		h.extensions = append(h.extensions, &extension{name: name, id: uuid.NewString(), external: true, index: i, state: stateStarted, deliver: make(chan []byte, 1)})
	}
	h.emitInitStart()
	return h
}

// notify wakes who waits for a state. The caller holds mu.
func (h *Host) notify() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// wait blocks until ok, which is called with mu held, or ctx ends, or an extension fails.
func (h *Host) wait(ctx context.Context, ok func() bool) error {
	for {
		h.mu.Lock()
		failure, done, changed := h.failure, ok(), h.changed
		h.mu.Unlock()
		switch {
		case failure != nil:
			return failure
		case done:
			return nil
		}
		select {
		case <-changed:
		case <-h.gone:
			return io.EOF
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Gone says that nothing in the sandbox lives any more: whoever waits gets io.EOF.
func (h *Host) Gone() { h.goneOnce.Do(func() { close(h.gone) }) }

// Closed is closed by Close.
func (h *Host) Closed() <-chan struct{} { return h.ctx.Done() }

// External reports whether the environment has external extensions.
func (h *Host) External() bool { return len(h.cfg.External) > 0 }

// fail takes note of the first failure. What comes after the shutdown has begun is none.
func (h *Host) fail(failure *thaw.FunctionError) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failure != nil || h.ending {
		return
	}
	h.failure = failure
	h.setFailed()
	h.notify()
}

// Failure is what ended the extensions for good, nil while all is well: an extension that ended or reported an error, or
// a runtime that cannot be started. Its Payload is the message alone.
func (h *Host) Failure() *thaw.FunctionError {
	if h.failed.Err() == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failure
}

// Context is ctx that ends with the first failure as well. The caller calls release when it needs it no longer.
func (h *Host) Context(ctx context.Context) (limited context.Context, release func()) {
	limited, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(h.failed, cancel)
	return limited, func() { stop(); cancel() }
}

// Launch starts the external extensions, waits until each has registered, and then has the runtime started. Errors:
// *thaw.FunctionError whose Payload is the message alone, io.EOF when the sandbox has gone, ctx's own.
func (h *Host) Launch(ctx context.Context) error {
	if len(h.cfg.External) == 0 {
		return nil
	}
	if len(h.cfg.External) > MaxExtensions {
		h.failNamed(h.extensions[MaxExtensions], stateLaunchError, "TooManyExtensions", "Extension.LaunchError",
			fmt.Sprintf("there are more than %d files in /opt/extensions, which is as many extensions as are allowed", MaxExtensions))
		return h.Failure()
	}
	if err := h.launcher.await(ctx); err != nil {
		return err
	}
	for _, x := range h.extensions {
		if x.external {
			h.launcher.start(x.index, x.name)
		}
	}
	if err := h.wait(ctx, func() bool {
		return !slices.ContainsFunc(h.extensions, func(x *extension) bool { return x.external && x.state == stateStarted })
	}); err != nil {
		return err
	}
	h.launcher.startRuntime()
	return nil
}

// Ready ends the registration and waits until every extension has asked for its first event. Errors are as for Launch.
func (h *Host) Ready(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	err := h.wait(ctx, func() bool {
		return !slices.ContainsFunc(h.extensions, func(x *extension) bool { return x.state == stateRegistered || x.state == stateStarted })
	})
	if err == nil {
		h.telemetry.closeSubscription()
	}
	return err
}

// Registered are the extensions that have registered, external ones first: the names alone.
func (h *Host) Registered() (external, internal []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, x := range h.extensions {
		switch {
		case !x.external:
			internal = append(internal, x.name)
		case x.state != stateStarted && x.state != stateLaunchError:
			external = append(external, x.name)
		}
	}
	return external, internal
}

// Empty reports whether there is nothing to serve: no extension has registered and none will.
func (h *Host) Empty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed && len(h.extensions) == 0
}

// Begin gives an invocation to the extensions that want it, and tells of its start.
func (h *Host) Begin(event *runtimes.Event, at time.Time) {
	id := event.RequestID
	h.current.Store(&id)
	h.emitStart(at, event)
	var body []byte
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, x := range h.extensions {
		if !x.invoke || x.state != stateReady {
			continue
		}
		if body == nil {
			body = invokeEvent(event)
		}
		x.state = stateRunning
		x.give(body)
	}
}

// give leaves an event for the extension, in the place of one that it has not fetched. The caller holds mu, as everyone does
// who puts something into deliver, so that there is room for it.
func (x *extension) give(body []byte) {
	select {
	case <-x.deliver:
	default:
	}
	x.deliver <- body
}

// takeBack leaves an event that could not be handed over for the extension's next call, unless a later one waits for it.
func (h *Host) takeBack(x *extension, body []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case x.deliver <- body:
	default:
	}
}

func invokeEvent(event *runtimes.Event) []byte {
	type tracing struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	body, _ := json.Marshal(struct { // nothing in it can fail
		Type     string  `json:"eventType"`
		Deadline int64   `json:"deadlineMs"`
		ID       string  `json:"requestId"`
		ARN      string  `json:"invokedFunctionArn"`
		Tracing  tracing `json:"tracing"`
	}{"INVOKE", event.DeadlineMS, event.RequestID, event.FunctionARN, tracing{"X-Amzn-Trace-Id", event.TraceID}})
	return body
}

// Done waits until every extension that was given the invocation has asked for the next event. Errors are as for Launch.
func (h *Host) Done(ctx context.Context) error {
	return h.wait(ctx, func() bool {
		return !slices.ContainsFunc(h.extensions, func(x *extension) bool { return x.invoke && x.state == stateRunning })
	})
}

// Shutdown tells the extensions that the environment ends, and why, and waits for them within AWS's limits; what is still
// there then is for the caller to kill. terminate asks the runtime process to end where the launcher is not its parent;
// ended is closed when nothing runs any more.
func (h *Host) Shutdown(reason string, terminate func(), ended <-chan struct{}) {
	h.mu.Lock()
	already := h.ending
	h.ending = true
	external, internal := false, false
	for _, x := range h.extensions {
		external = external || x.external && x.state != stateStarted && x.state != stateLaunchError
		internal = internal || !x.external
	}
	h.notify()
	h.mu.Unlock()
	if already || !external && !internal {
		return
	}
	h.telemetry.flush()
	begin := time.Now()
	limit, share := ShutdownExternal, shutdownRuntime
	if internal {
		share = ShutdownInternal
	}
	if !external {
		limit = ShutdownInternal
	}
	deadline := begin.Add(limit)
	h.endRuntime(begin.Add(share), terminate, ended)
	if external {
		h.endExtensions(deadline, reason, ended)
	}
}

// endRuntime asks the runtime to end, and kills it at the deadline.
func (h *Host) endRuntime(deadline time.Time, terminate func(), ended <-chan struct{}) {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	exited := ended
	if h.launcher.connected() {
		exited = h.launcher.runtimeExited
		h.launcher.terminateRuntime()
	} else if terminate != nil {
		terminate()
	}
	select {
	case <-exited:
	case <-ended:
	case <-timer.C:
		h.launcher.kill(launcherRuntime)
	}
}

// endExtensions sends SHUTDOWN to those that want it and waits for their end; the others are killed.
func (h *Host) endExtensions(deadline time.Time, reason string, ended <-chan struct{}) {
	body, _ := json.Marshal(struct { // nothing in it can fail
		Type     string `json:"eventType"`
		Deadline int64  `json:"deadlineMs"`
		Reason   string `json:"shutdownReason"`
	}{"SHUTDOWN", deadline.UnixMilli(), reason})
	var killed []int
	h.mu.Lock()
	for _, x := range h.extensions {
		switch {
		case !x.external:
		case x.shutdown:
			x.give(body)
		default:
			killed = append(killed, x.index)
		}
	}
	h.mu.Unlock()
	for _, index := range killed {
		h.launcher.kill(index)
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for {
		h.mu.Lock()
		alive := slices.ContainsFunc(h.extensions, func(x *extension) bool { return x.external && x.shutdown && !h.launcher.exited(x.index) })
		changed := h.changed
		h.mu.Unlock()
		if !alive {
			return
		}
		select {
		case <-changed:
		case <-ended:
			return
		case <-timer.C:
			return
		}
	}
}

// Close ends what serves and delivers, and waits for it.
func (h *Host) Close() {
	h.mu.Lock()
	h.ending, h.closed = true, true
	if h.failure == nil {
		h.failure = &thaw.FunctionError{Type: thaw.ErrorRuntimeUnknown, Payload: []byte("the environment was ended by the platform")}
	}
	h.setFailed() // lets go of whoever waits
	h.Gone()
	h.notify()
	h.mu.Unlock()
	h.stop()
	h.launcher.close()
	h.server.close()
	h.telemetry.close()
}

// ended is called when the launcher tells that a process has ended.
func (h *Host) ended(index int, status syscall.WaitStatus) {
	if index == launcherRuntime {
		return
	}
	h.mu.Lock()
	x := h.byIndex(index)
	ending := h.ending
	if x != nil && ending {
		x.state = stateExited
	}
	h.notify()
	h.mu.Unlock()
	if x == nil || ending {
		return
	}
	how := "exit status " + fmt.Sprint(status.ExitStatus())
	switch {
	case status.Signaled():
		how = "signal: " + status.Signal().String()
	case status.ExitStatus() == 0:
		how = "exit code 0"
	}
	h.failNamed(x, "", "Extension.Crash", "Extension.Crash", how)
}

// notStarted is called when the launcher could not start something.
func (h *Host) notStarted(index int, errno syscall.Errno) {
	if index == launcherRuntime {
		h.fail(&thaw.FunctionError{Type: thaw.ErrorInvalidEntry, Payload: []byte("fork/exec " + h.cfg.Runtime + ": " + errno.Error())})
		return
	}
	h.mu.Lock()
	x := h.byIndex(index)
	h.mu.Unlock()
	if x == nil {
		return
	}
	kind := "UnknownError"
	if errors.Is(errno, syscall.EACCES) {
		kind = "PermissionDenied"
	}
	h.failNamed(x, stateLaunchError, kind, "Extension.LaunchError", "fork/exec /opt/extensions/"+printable(x.name)+": "+errno.Error())
}

// byIndex finds an external extension by its number. The caller holds mu.
func (h *Host) byIndex(index int) *extension {
	for _, x := range h.extensions {
		if x.external && x.index == index {
			return x
		}
	}
	return nil
}

// failNamed makes an extension's end the environment's. An empty state leaves the extension's as it is.
func (h *Host) failNamed(x *extension, to state, extensionError, failure, message string) {
	h.mu.Lock()
	if to != "" {
		x.state = to
	}
	if x.errorType == "" {
		x.errorType = extensionError
	}
	h.mu.Unlock()
	h.fail(&thaw.FunctionError{Type: failure, Payload: []byte(message)})
}

// Describe writes the platform's line and event about each extension, which AWS does at the end of init.
func (h *Host) Describe() {
	h.mu.Lock()
	all := make([]extension, 0, len(h.extensions))
	for _, x := range h.extensions {
		all = append(all, extension{name: x.name, state: x.state, errorType: x.errorType, invoke: x.invoke, shutdown: x.shutdown})
	}
	h.mu.Unlock()
	for i := range all {
		x := &all[i]
		line := fmt.Sprintf("EXTENSION\tName: %s\tState: %s\tEvents: [%s]", printable(x.name), x.state, strings.Join(x.events(), ", "))
		if x.errorType != "" {
			line += "\tError Type: " + x.errorType
		}
		record := extensionRecord{x.name, string(x.state), x.events(), x.errorType}
		h.tell(line, &event{at: time.Now(), category: categoryPlatform, kind: "platform.extension", telemetry: record, logs: record})
	}
}

// tell writes what is one of the platform's own lines, and an event.
func (h *Host) tell(line string, e *event) {
	h.telemetry.emit(e)
	if h.cfg.Quiet {
		return
	}
	text := []byte(line)
	if h.cfg.JSON {
		text = e.encode(&subscription{api: telemetryAPI})
		if text == nil {
			text = e.encode(&subscription{api: logsAPI})
		}
	}
	h.cfg.Log(e.at, "", append(text, '\n'))
}
