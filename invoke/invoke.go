// Package invoke is one invocation: it resolves the qualifier, takes a concurrency permit, gets an environment, passes
// the event, and makes the record and the log lines of what happened. It knows no HTTP.
package invoke

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"thaw"
	"thaw/placement"
	"thaw/runtimes"
	"thaw/sandbox"
	"thaw/state"
	"thaw/telemetry"
	"thaw/telemetry/xray"
)

// placeLimit bounds how long a request waits for an environment, on top of what a start may take whose first init is cut
// off and whose second has the function's own timeout.
const placeLimit = 60 * time.Second

// Request is one invocation as its caller asked for it.
type Request struct {
	Function  thaw.FunctionRef
	Qualifier string // the Qualifier parameter; Function may carry one too
	Payload   []byte // empty stands for {}
	// ClientContext is the decoded JSON of X-Amz-Client-Context, may be empty.
	ClientContext string
	TraceID       string // the caller's X-Amzn-Trace-Id, may be empty
	RequestID     string
	LogTail       bool // collect the log's last 4 KB
	Forced        bool // serve from a new environment that is not kept
	Spare         bool // serve from a spare, if one is parked, although others may be idle
	Start         time.Time
	// Async: it is one attempt of an asynchronous invocation, whose event was accepted EventAge before Start.
	Async    bool
	EventAge time.Duration
	// Responds: the caller writes the response to somebody, and calls Responded then.
	Responds bool
}

// Response is how an invocation ended for its caller.
type Response struct {
	Payload         []byte
	FunctionError   bool
	LogTail         []byte
	ExecutedVersion string
	Record          thaw.Invocation

	// later, where extensions go on after the response, takes the phase respond for the record that is made then.
	later chan<- thaw.Span
}

// Answered is when there was something to be written to the caller: where its phase respond begins.
func (r *Response) Answered() time.Time {
	return r.Record.Start.Add(r.Record.Phases.End() + r.Record.PostRuntime)
}

// Catalog is the node's view of what is deployed. Function never waits.
type Catalog interface {
	Function(name string) (*thaw.Function, bool)
	Watch(ctx context.Context, fn func(state.Change)) error
}

// Placer hands out environments.
type Placer interface {
	// Provisioned gives an idle provisioned environment, if there is one, and never waits.
	Provisioned(v *thaw.Version) (placement.Lease, bool)
	Idle(v *thaw.Version) (placement.Lease, bool)
	Spare(v *thaw.Version) (placement.Lease, bool)
	Acquire(ctx context.Context, v *thaw.Version, forced bool) (placement.Lease, error)
	Release(l placement.Lease)
	// Wake has an inactive version made ready again, in the background.
	Wake(v *thaw.Version)
}

// Config is what invocations are made of.
type Config struct {
	Catalog Catalog
	Placer  Placer
	Account thaw.Account
	// Concurrency is the account's limit of invocations at the same time.
	Concurrency int
	// Scaling bounds how fast one function's environments may become more.
	Scaling ScalingRate
	// Record gets the record of each invocation that has ended, one whose init failed included. It must return at once and
	// must not keep the pointer. Nil: nobody wants them.
	Record func(*thaw.Invocation)
	// Throttled gets each invocation that was refused for want of concurrency or room, with the qualifier as the caller gave
	// it and AWS's name of the limit. As quick as Record; may be nil.
	Throttled func(function, qualifier, reason string)
	// Sample decides about traces that their callers have not decided about; nil: none is recorded.
	Sample Sample
}

// Invoker runs invocations. Its methods may be called from several goroutines.
type Invoker struct {
	cfg     Config
	permits *permits
	going   sync.WaitGroup // invocations that only extensions still work on
}

// New makes an Invoker. It knows what functions claim of the concurrency while Run runs.
func New(cfg Config) *Invoker {
	return &Invoker{cfg: cfg, permits: newPermits(cfg.Concurrency, cfg.Scaling)}
}

// Check is a DryRun: everything that comes before an environment.
func (i *Invoker) Check(r *Request) (executedVersion string, err error) {
	d, err := i.Resolve(r.Function, r.Qualifier)
	if err != nil {
		return "", err
	}
	return d.Version.Number, checkPayload(r.Payload)
}

// Invoke runs one synchronous invocation to its end. It goes on when the caller goes away, as AWS's does; ctx carries
// values only. Errors are *thaw.Error; a function's own failure is a Response.
func (i *Invoker) Invoke(ctx context.Context, r *Request) (*Response, error) {
	d, err := i.Resolve(r.Function, r.Qualifier)
	if err != nil {
		return nil, err
	}
	if err := checkPayload(r.Payload); err != nil {
		return nil, err
	}
	u := i.permits.of(&i.cfg.Account, d.Function.Name)
	run := run{request: r, version: d.Version, arn: d.ARN, response: Response{ExecutedVersion: d.Version.Number}}
	rec := &run.response.Record
	rec.RequestID, rec.Function, rec.Version, rec.Alias, rec.Start = r.RequestID, d.Function.Name, d.Version.Number, d.Alias, r.Start
	rec.MemorySize, rec.Async, rec.EventAge = d.Version.MemorySize, r.Async, r.EventAge
	trace, caller := i.head(r, d.Version)
	trace, before := descend(trace, u.lineage)
	if before >= maxRecursion && d.Function.RecursiveLoop != thaw.RecursionAllow {
		return nil, thaw.Errorf(thaw.CodeRecursiveInvocation, "Lambda has detected your function being invoked in a recursive loop with other AWS resources and stopped your function's invocation. If the loop is meant, allow it with PutFunctionRecursionConfig.")
	}
	rec.TraceID, rec.Caller = trace, caller
	if strings.Contains(r.TraceID, xray.LineageKey) {
		_, run.lineage = xray.CutLineage(trace)
	}
	u.last.Store(r.Start.Unix())
	ctx = context.WithoutCancel(ctx)

	placed := time.Now()
	rec.Phases.Set(thaw.PhaseAdmit, r.Start, r.Start, placed)
	for {
		held, err := i.acquire(ctx, &d, u, r)
		if err != nil {
			run.forgetStart()
			rec.Provisioned, rec.SpilledOver = false, held.spilled
			response, err := run.notPlaced(err, placed)
			if err != nil {
				i.noteThrottled(r, d.Function.Name, err)
				return nil, err
			}
			i.ended(r, u, response)
			return response, nil
		}
		rec.Provisioned, rec.SpilledOver = held.provisioned, held.spilled
		begin := time.Now()
		run.describeStart(&held.lease, placed, begin)
		taken := run.handle(ctx, &held.lease, begin)
		if taken && held.lease.Extended() {
			return i.goOn(ctx, &run, &held, u), nil
		}
		i.release(&held)
		if taken {
			i.ended(r, u, &run.response)
			return &run.response, nil
		}
		// It had died while it was idle. That is nothing this request has to suffer from.
	}
}

// ended counts an invocation, and has it recorded unless its response is still to be written.
func (i *Invoker) ended(r *Request, u *usage, response *Response) {
	u.counted.count(response)
	if i.cfg.Record != nil && !r.Responds {
		i.cfg.Record(&response.Record)
	}
}

// Responded ends an invocation whose request has Responds: its response was written between the given instants.
func (i *Invoker) Responded(response *Response, begin, end time.Time) {
	response.Record.Phases.Set(thaw.PhaseRespond, response.Record.Start, begin, end)
	if response.later != nil {
		response.later <- response.Record.Phases[thaw.PhaseRespond]
		return
	}
	if i.cfg.Record != nil {
		i.cfg.Record(&response.Record)
	}
}

// noteThrottled passes on that an invocation was refused for want of concurrency or room, if that is what err says.
func (i *Invoker) noteThrottled(r *Request, function string, err error) {
	refused, ok := errors.AsType[*thaw.Error](err)
	if i.cfg.Throttled == nil || !ok || refused.Code != thaw.CodeTooManyRequests {
		return
	}
	i.cfg.Throttled(function, cmp.Or(r.Qualifier, r.Function.Qualifier), refused.Reason)
}

// holding is an environment and the right to use it.
type holding struct {
	lease       placement.Lease
	permit      permit
	provisioned bool
	spilled     bool
}

// acquire takes what is ready first: a provisioned environment, then with a permit an idle one, then whatever start or
// environment comes first, for a bounded time. The common case, an idle one, needs no timer.
func (i *Invoker) acquire(ctx context.Context, d *Destination, u *usage, r *Request) (held holding, err error) {
	v := d.Version
	if len(d.Function.Provisioned) > 0 && !r.Forced && !r.Spare {
		if kept, ok := i.permits.takeProvisioned(d.Function, u); ok {
			if held.lease, held.provisioned = i.cfg.Placer.Provisioned(v); held.provisioned {
				held.permit = kept
				return held, nil
			}
			kept.release()
		}
		held.spilled = d.Function.ProvisionedFor(v.Number) > 0
	}
	if held.permit, err = i.permits.take(d.Function, u); err != nil {
		return held, err
	}
	defer func() {
		if err == nil && held.spilled {
			u.counted.spilled.Add(1)
		}
	}()
	var ok bool
	if r.Spare {
		if held.lease, ok = i.cfg.Placer.Spare(v); ok {
			return held, nil
		}
	}
	if !r.Forced {
		if held.lease, ok = i.cfg.Placer.Idle(v); ok {
			return held, nil
		}
	}
	if !u.growth.enter(time.Now()) {
		held.permit.release()
		u.counted.throttles.Add(1)
		return held, throttled(reasonAccount)
	}
	start := sandbox.InitTimeout + time.Duration(v.Timeout)*time.Second
	waiting, cancel := context.WithTimeout(ctx, placeLimit+start)
	defer cancel()
	held.lease, err = i.cfg.Placer.Acquire(waiting, v, r.Forced)
	made := held.lease.Kind != thaw.StartWarm && held.lease.Kind != thaw.StartProvisioned
	u.growth.leave(time.Now(), err != nil || made)
	if err != nil {
		held.permit.release()
		return held, err
	}
	if held.lease.Provisioned && held.permit.keep(d.Function) {
		held.provisioned, held.spilled = true, false // one became free first, so that this is no invocation on demand
	}
	return held, nil
}

func (i *Invoker) release(held *holding) {
	i.cfg.Placer.Release(held.lease)
	held.permit.release()
}

// checkPayload refuses what is not JSON, with AWS's text.
func checkPayload(payload []byte) error {
	if len(payload) == 0 || json.Valid(payload) {
		return nil
	}
	var ignored any
	return thaw.Errorf(thaw.CodeInvalidRequestContent, "Could not parse request body into json: %v", json.Unmarshal(payload, &ignored))
}

// run is an invocation under way.
type run struct {
	request  *Request
	version  *thaw.Version
	arn      string
	lineage  string // of a request that is part of a chain already; empty: it begins one
	response Response
	// begin and deadline are the handler's, for what extensions do after it.
	begin, deadline time.Time
}

// forgetStart takes out of the record what was said of an environment that had died before it took the event.
func (r *run) forgetStart() {
	rec := &r.response.Record
	rec.InitDuration, rec.RestoreDuration, rec.BilledRestore = 0, 0, 0
	clear(rec.Phases[thaw.PhasePlace:thaw.PhaseHandler])
	rec.NodeFull, rec.FailedInit = false, 0
}

// describeStart records how the environment came to be, between placed and handled: each phase begins where the one before it
// ends. A fork is a restore where SnapStart is set, else an init; what a spare's start took is nobody's, since it was over
// before the request came.
func (r *run) describeStart(l *placement.Lease, placed, handled time.Time) {
	rec := &r.response.Record
	rec.Kind, rec.Cause, rec.EnvironmentID, rec.ProfileID = l.Kind, l.Cause, l.ID, l.ProfileID
	r.forgetStart()
	t := &l.Timing
	// The start may have begun for another request, which was served otherwise: what was before is nobody's time.
	waited := func(begin, end time.Time) (from time.Time, length time.Duration) {
		if begin.Before(placed) {
			begin = placed
		}
		return begin, max(0, end.Sub(begin))
	}
	set := func(phase thaw.Phase, begin, end time.Time) {
		if from, length := waited(begin, end); length > 0 {
			rec.Phases[phase] = thaw.Span{Start: from.Sub(rec.Start), Length: length}
		}
	}
	switch l.Kind {
	case thaw.StartBoot:
		rec.InitDuration = l.InitDuration
		if !t.Ready.After(placed) {
			break
		}
		rec.NodeFull = l.NodeFull
		failing := t.Begin.Add(-l.FailedInit)
		_, rec.FailedInit = waited(failing, t.Begin)
		set(thaw.PhasePlace, placed, l.Begun)
		set(thaw.PhaseFetch, l.Begun, failing)
		set(thaw.PhaseSandbox, t.Begin, t.Sandboxed)
		up := t.Sandboxed
		if !t.Extended.IsZero() {
			up = t.Extended
			set(thaw.PhaseExtensions, t.Sandboxed, up)
		}
		set(thaw.PhaseRuntime, up, t.Runtime)
		set(thaw.PhaseInit, t.Runtime, handled)
		return
	case thaw.StartFork:
		if r.version.SnapStarted() {
			rec.RestoreDuration = l.InitDuration
			rec.BilledRestore = telemetry.Billed(t.Ready.Sub(t.Sandboxed), 0)
		} else {
			rec.InitDuration = l.InitDuration
		}
		if !t.Ready.After(placed) {
			break
		}
		rec.NodeFull = l.NodeFull
		set(thaw.PhasePlace, placed, t.Begin)
		set(thaw.PhaseRuntime, t.Begin, t.Sandboxed)
		set(thaw.PhaseRestore, t.Sandboxed, handled)
		return
	}
	set(thaw.PhasePlace, placed, handled)
}

// handle passes the event at begin and ends the record. It reports false when the runtime had ended before it took the event.
func (r *run) handle(ctx context.Context, l *placement.Lease, begin time.Time) (taken bool) {
	rec := &r.response.Record
	switch {
	case r.request.LogTail:
		l.Stream.BeginTail()
	case rec.Kind != thaw.StartWarm:
		l.Stream.EndTail() // what init wrote is not asked for
	}
	if r.lineage != "" {
		l.Stream.Descend(rec.RequestID, r.lineage)
	}
	var line [512]byte
	l.Stream.Write(begin, rec.RequestID, telemetry.LinesOf(r.version).Start(line[:0], begin, rec, r.arn))
	deadline := begin.Add(time.Duration(r.version.Timeout) * time.Second)
	event := runtimes.Event{
		RequestID: rec.RequestID, DeadlineMS: deadline.UnixMilli(), FunctionARN: r.arn, TraceID: rec.TraceID,
		ClientContext: r.request.ClientContext, Payload: r.request.Payload,
	}
	if len(event.Payload) == 0 {
		event.Payload = emptyEvent
	}
	payload, err := l.Invoke(ctx, &event, deadline)
	// One that was just started and ends before its first event would do so again.
	if broken, ok := errors.AsType[*sandbox.Broken](err); ok && broken.NotTaken && rec.Kind != thaw.StartBoot {
		l.Stream.Write(time.Now(), rec.RequestID, []byte("thaw: the environment had ended before it took the event; another one serves it\n"))
		return false
	}
	end := time.Now()
	answered := end
	if l.Extended() {
		answered = l.Answered()
	}
	rec.Phases.Set(thaw.PhaseHandler, rec.Start, begin, answered)
	rec.Duration = end.Sub(begin)
	rec.MaxMemoryUsed = megabytes(l.MemoryPeak(end, rec.Duration), rec.MemorySize)
	r.response.Payload = payload
	if err != nil {
		r.failed(l.Stream, err, end)
	}
	if l.Extended() {
		r.begin, r.deadline = begin, deadline
		return true // goOn reports it when the extensions are done
	}
	r.report(l.Stream, line[:0])
	return true
}

var emptyEvent = []byte("{}")

// notPlaced ends an invocation that got no environment. A failed init is the function's failure, with log lines as AWS
// writes them; anything else is the platform's.
func (r *run) notPlaced(err error, placed time.Time) (*Response, error) {
	var failure *placement.InitFailure
	if !errors.As(err, &failure) {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, &thaw.Error{Code: thaw.CodeTooManyRequests, Message: "Rate Exceeded.", Reason: "ConcurrentInvocationLimitExceeded", RetryAfter: time.Second, Cause: err}
		}
		return nil, err
	}
	rec := &r.response.Record
	rec.Kind, rec.Cause, rec.EnvironmentID, rec.ProfileID = thaw.StartBoot, failure.Cause, failure.EnvironmentID, failure.ProfileID
	now := time.Now()
	begun, fetched := failure.Begun, failure.Fetched
	if begun.Before(placed) {
		begun = placed // for another request, see describeStart
	}
	if fetched.Before(begun) {
		fetched = begun
	}
	rec.Phases.Set(thaw.PhasePlace, rec.Start, placed, begun)
	rec.Phases.Set(thaw.PhaseFetch, rec.Start, begun, fetched)
	rec.Phases.Set(thaw.PhaseInit, rec.Start, fetched, now) // both attempts, with the sandbox and runtime of each
	rec.Duration = failure.Length
	stream := failure.Stream
	if r.request.LogTail {
		stream.BeginTail()
	}
	if r.lineage != "" {
		stream.Descend(rec.RequestID, r.lineage)
	}
	stream.Write(now, rec.RequestID, telemetry.LinesOf(r.version).Start(nil, now, rec, r.arn))
	r.failed(stream, &sandbox.Broken{FunctionError: failure.FunctionError, TimedOut: failure.TimedOut}, now)
	r.report(stream, nil)
	return &r.response, nil
}

// failed makes the caller's payload and the log line of an invocation that did not end well.
func (r *run) failed(stream *telemetry.Stream, err error, at time.Time) {
	rec := &r.response.Record
	r.response.FunctionError, rec.Failed = true, true
	var broken *sandbox.Broken
	var failure *thaw.FunctionError
	switch {
	case errors.As(err, &broken) && broken.TimedOut:
		rec.TimedOut, rec.ErrorType = true, thaw.ErrorTimedOut
		text := fmt.Sprintf("Task timed out after %d.00 seconds", r.version.Timeout)
		line := fmt.Sprintf("%s %s %s\n\n", at.UTC().Format("2006-01-02T15:04:05.000Z"), rec.RequestID, text)
		stream.Write(at, rec.RequestID, telemetry.LinesOf(r.version).Fault(nil, at, rec, line))
		r.response.Payload = errorPayload(thaw.ErrorTimedOut, "RequestId: "+rec.RequestID+" Error: "+text)
	case errors.As(err, &broken):
		rec.Crashed, rec.ErrorType = true, broken.Type
		reason, own := string(broken.Payload), false
		if len(broken.Payload) > 0 && json.Valid(broken.Payload) {
			reason, own = errorMessage(broken.Payload), true // the runtime said itself what was wrong (init)
		}
		text := "RequestId: " + rec.RequestID + " Error: " + reason
		stream.Write(at, rec.RequestID, telemetry.LinesOf(r.version).Fault(nil, at, rec, text+"\n"+broken.Type+"\n"))
		if r.response.Payload = broken.Payload; !own {
			r.response.Payload = errorPayload(broken.Type, text)
		}
	case errors.As(err, &failure):
		rec.ErrorType = failure.Type
		r.response.Payload = failure.Payload
	default:
		rec.Crashed, rec.ErrorType = true, thaw.ErrorRuntimeUnknown
		r.response.Payload = errorPayload(thaw.ErrorRuntimeUnknown, "RequestId: "+rec.RequestID+" Error: the environment was ended by the platform")
	}
}

// report writes END and REPORT and takes the log's tail.
func (r *run) report(stream *telemetry.Stream, line []byte) {
	rec := &r.response.Record
	rec.Billed = telemetry.Billed(rec.Duration, rec.InitDuration) + rec.BilledRestore
	now := time.Now()
	lines := telemetry.LinesOf(r.version)
	stream.Write(now, rec.RequestID, lines.End(line, now, rec, len(r.response.Payload)))
	stream.Write(now, rec.RequestID, lines.Report(line, now, rec))
	if r.request.LogTail {
		r.response.LogTail = stream.EndTail()
	}
}

// errorMessage is the message in the error object of a runtime, which may be any JSON.
func errorMessage(object []byte) string {
	var e struct {
		Message string `json:"errorMessage"`
	}
	_ = json.Unmarshal(object, &e) // one without a message has none to show
	return e.Message
}

// errorPayload is the JSON of a failure that the platform reports in the function's place.
func errorPayload(errorType, message string) []byte {
	b, _ := json.Marshal(struct {
		ErrorType    string `json:"errorType"`
		ErrorMessage string `json:"errorMessage"`
	}{errorType, message})
	return b
}

// megabytes rounds up, and stays within the function's memory as AWS's figure does.
func megabytes(bytes uint64, limit int) int {
	const mb = 1 << 20
	return min(int((bytes+mb-1)/mb), limit)
}
