package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"thaw"
	"thaw/placement"
	"thaw/runtimes"
	"thaw/sandbox"
	"thaw/sandbox/sandboxtest"
	"thaw/state"
	"thaw/telemetry"
	"thaw/warm"
)

var account = thaw.Account{ID: "000000000000", Region: "us-east-1"}

// catalog is a fixed set of functions, for the Invoker and for the Placer.
type catalog map[string]*thaw.Function

func (c catalog) Function(name string) (*thaw.Function, bool) { f, ok := c[name]; return f, ok }

func (catalog) Functions(string, int) []*thaw.Function { return nil }

func (catalog) UpdateFunction(context.Context, string, func(*thaw.Function) error) (*thaw.Function, error) {
	return nil, state.ErrNotFound
}

func (catalog) Watch(ctx context.Context, _ func(state.Change)) error { <-ctx.Done(); return ctx.Err() }

func (catalog) Retain(string) func() { return func() {} }

func (catalog) RetainLayers([]string) func() { return func() {} }

func (catalog) Layers(context.Context, []string) (string, error) { return "/nowhere", nil }

func (catalog) Dir(context.Context, string) (string, error) { return "/nowhere", nil }

func (catalog) Launch(context.Context, *thaw.Version, string, string) (*runtimes.Launch, error) {
	return &runtimes.Launch{Args: []string{"/bin/true"}, Channel: true, Version: "fake:1"}, nil
}

func function(name string) *thaw.Function {
	v := thaw.Version{Function: name, Number: thaw.Latest, State: thaw.StateActive, Generation: 1, Timeout: 30, MemorySize: 128}
	return &thaw.Function{Name: name, Config: v, Running: &v}
}

type noLogs struct{}

func (noLogs) PublishLog(string, string, []byte) error { return nil }
func (noLogs) ReadLogs(context.Context, string, time.Time, bool, func(time.Time, []byte) error) error {
	return nil
}

// newInvoker runs functions of the catalog as goroutines.
func newInvoker(t *testing.T, c catalog, runtime sandboxtest.Runtime, concurrency int) *Invoker {
	t.Helper()
	return newInvokerOn(t, c, &sandboxtest.Driver{Runtime: runtime}, concurrency)
}

func newInvokerOn(t *testing.T, c catalog, driver *sandboxtest.Driver, concurrency int) *Invoker {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	placer := placement.New(placement.Config{
		Store: c, Packages: c, Launcher: c, Logs: telemetry.NewLogs(noLogs{}), Log: log,
		Sandbox:         &sandbox.Config{Driver: driver, Account: account},
		MaxEnvironments: 10, Starters: 2, KeepAlive: warm.Fixed(time.Hour), FreezeAfter: time.Hour,
	})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if err := placer.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); group.Wait() })
	return New(Config{Catalog: c, Placer: placer, Account: account, Concurrency: concurrency})
}

func request(name, payload string) *Request {
	ref, _ := thaw.ParseFunctionRef(name)
	return &Request{Function: ref, Payload: []byte(payload), RequestID: "the-id", Start: time.Now(), LogTail: true}
}

func TestResolve(t *testing.T) {
	pending := &thaw.Function{Name: "pending", Config: thaw.Version{State: thaw.StatePending}}
	failed := &thaw.Function{Name: "failed", Config: thaw.Version{State: thaw.StateFailed, StateReason: "No such thing."}}
	i := New(Config{Account: account, Catalog: catalog{"f": function("f"), "pending": pending, "failed": failed}})
	const arn = "arn:aws:lambda:us-east-1:000000000000:function:"
	for _, test := range []struct {
		name, qualifier string
		code            thaw.ErrorCode // empty: found
		message         string
	}{
		{name: "f"},
		{name: "f", qualifier: "$LATEST"},
		{name: "f:$LATEST"},
		{name: "f:$LATEST", qualifier: "$LATEST"},
		{name: arn + "f"},
		{name: arn + "f:$LATEST"},
		{name: "000000000000:function:f"},
		{name: "g", code: thaw.CodeResourceNotFound, message: "Function not found: " + arn + "g"},
		{name: "F", code: thaw.CodeResourceNotFound, message: "Function not found: " + arn + "F"},
		{name: "f:1", code: thaw.CodeResourceNotFound, message: "Function not found: " + arn + "f:1"},
		{name: "f", qualifier: "live", code: thaw.CodeResourceNotFound, message: "Function not found: " + arn + "f:live"},
		{name: "f:1", qualifier: "2", code: thaw.CodeInvalidParameterValue, message: "The derived qualifier from the function name does not match the specified qualifier."},
		{name: "999999999999:function:f", code: thaw.CodeAccessDenied, message: "User: arn:aws:iam::000000000000:root is not authorized to perform: lambda:InvokeFunction on resource: arn:aws:lambda:us-east-1:999999999999:function:f because no resource-based policy allows the lambda:InvokeFunction action"},
		{name: "arn:aws:lambda:eu-west-1:000000000000:function:f", code: thaw.CodeResourceNotFound, message: "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"},
		{name: "pending", code: thaw.CodeResourceConflict, message: "The operation cannot be performed at this time. The function is currently in the following state: Pending: " + arn + "pending"},
		{name: "failed", code: thaw.CodeResourceConflict, message: "The operation cannot be performed at this time. The function is currently in the following state: Failed. No such thing."},
	} {
		ref, ok := thaw.ParseFunctionRef(test.name)
		if !ok {
			t.Fatalf("%s is no name", test.name)
		}
		d, err := i.Resolve(ref, test.qualifier)
		if test.code == "" {
			if err != nil || d.Version.Function != "f" {
				t.Errorf("%s, %q: %v, %v", test.name, test.qualifier, d.Version, err)
			}
			continue
		}
		e, ok := errors.AsType[*thaw.Error](err)
		if !ok || e.Code != test.code || e.Message != test.message {
			t.Errorf("%s, %q:\n got %v\nwant %s: %s", test.name, test.qualifier, err, test.code, test.message)
		}
	}
}

func TestCheckPayload(t *testing.T) {
	for payload, ok := range map[string]bool{
		"": true, "{}": true, "null\n": true, `"text"`: true, "1e9": true, `{"a":[1,{"b":null}]}`: true,
		"{": false, "{}{}": false, "nul": false, "'a'": false, "\xff": false, `{"a":1,}`: false, "\x00": false, "NaN": false,
	} {
		err := checkPayload([]byte(payload))
		if (err == nil) != ok {
			t.Errorf("%q: %v", payload, err)
		}
		if err != nil && (thaw.CodeOf(err) != thaw.CodeInvalidRequestContent || !strings.Contains(err.Error(), "Could not parse request body into json: ")) {
			t.Errorf("%q: %v", payload, err)
		}
	}
}

func TestInvoke(t *testing.T) {
	i := newInvoker(t, catalog{"f": function("f")}, sandboxtest.Runtime{Handle: func(_ *sandbox.Spec, event []byte, output io.Writer) ([]byte, error) {
		if string(event) == `"die"` {
			return nil, errors.New("dead")
		}
		_, err := output.Write([]byte("got it\n"))
		return event, err
	}}, 10)
	cold, err := i.Invoke(t.Context(), request("f", ""))
	if err != nil {
		t.Fatal(err)
	}
	rec := &cold.Record
	if string(cold.Payload) != "{}" || cold.FunctionError || cold.ExecutedVersion != thaw.Latest || rec.Kind != thaw.StartBoot || rec.Cause != thaw.CauseFirst || rec.InitDuration == 0 || rec.MaxMemoryUsed != 10 {
		t.Errorf("%+v", cold)
	}
	if tail := string(cold.LogTail); !strings.HasPrefix(tail, "INIT_START Runtime Version: fake:1\t") || !strings.Contains(tail, "START RequestId: the-id Version: $LATEST\ngot it\nEND RequestId: the-id\nREPORT RequestId: the-id\t") || !strings.Contains(tail, "Init Duration: ") {
		t.Errorf("%s", tail)
	}
	warm, err := i.Invoke(t.Context(), request("f", "7"))
	if err != nil || string(warm.Payload) != "7" || warm.Record.Kind != thaw.StartWarm || warm.Record.InitDuration != 0 || warm.Record.EnvironmentID != rec.EnvironmentID {
		t.Errorf("%+v, %v", warm, err)
	}
	dead, err := i.Invoke(t.Context(), request("f", `"die"`))
	if err != nil {
		t.Fatal(err)
	}
	const payload = `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: the-id Error: Runtime exited with error: exit status 1"}`
	if string(dead.Payload) != payload || !dead.FunctionError || !dead.Record.Crashed || dead.Record.ErrorType != thaw.ErrorExit {
		t.Errorf("%s, %+v", dead.Payload, dead.Record)
	}
	if tail := string(dead.LogTail); !strings.HasSuffix(tail, "\tStatus: error\tError Type: Runtime.ExitError\n") || !strings.Contains(tail, "\nRequestId: the-id Error: Runtime exited with error: exit status 1\nRuntime.ExitError\nEND ") {
		t.Errorf("%s", tail)
	}
	again, err := i.Invoke(t.Context(), request("f", "8"))
	if err != nil || string(again.Payload) != "8" || again.Record.Cause != thaw.CauseCrashed {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestInvokeGoesOnWhenTheCallerHasGone(t *testing.T) {
	release := make(chan struct{})
	i := newInvoker(t, catalog{"f": function("f")}, sandboxtest.Runtime{Handle: func(_ *sandbox.Spec, event []byte, _ io.Writer) ([]byte, error) {
		<-release
		return event, nil
	}}, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		r, err := i.Invoke(ctx, request("f", "1"))
		if err == nil && string(r.Payload) != "1" {
			err = errors.New(string(r.Payload))
		}
		done <- err
	}()
	cancel()
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestConcurrencyLimit(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	i := newInvoker(t, catalog{"f": function("f")}, sandboxtest.Runtime{Handle: func(_ *sandbox.Spec, event []byte, _ io.Writer) ([]byte, error) {
		entered <- struct{}{}
		<-release
		return event, nil
	}}, 1)
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := i.Invoke(t.Context(), request("f", "1")); err != nil {
			t.Error(err)
		}
	})
	<-entered
	_, err := i.Invoke(t.Context(), request("f", "2"))
	e, ok := errors.AsType[*thaw.Error](err)
	if !ok || e.Code != thaw.CodeTooManyRequests || e.Message != "Rate Exceeded." || e.Reason != "ConcurrentInvocationLimitExceeded" || e.RetryAfter <= 0 {
		t.Errorf("%v", err)
	}
	close(release)
	group.Wait()
	group.Go(func() { <-entered })
	if _, err := i.Invoke(t.Context(), request("f", "3")); err != nil {
		t.Errorf("a permit was not given back: %v", err)
	}
	group.Wait()
}

// emptyPlacer has nothing ready.
type emptyPlacer struct{}

func (emptyPlacer) Provisioned(*thaw.Version) (placement.Lease, bool) {
	return placement.Lease{}, false
}
func (emptyPlacer) Idle(*thaw.Version) (placement.Lease, bool)  { return placement.Lease{}, false }
func (emptyPlacer) Spare(*thaw.Version) (placement.Lease, bool) { return placement.Lease{}, false }
func (emptyPlacer) Wake(*thaw.Version)                          {}

// placer is a Placer that starts what its function gives.
type placer struct {
	emptyPlacer
	placerFunc
}

type placerFunc func(ctx context.Context, v *thaw.Version, forced bool) (placement.Lease, error)

func (p placerFunc) Acquire(ctx context.Context, v *thaw.Version, forced bool) (placement.Lease, error) {
	return p(ctx, v, forced)
}
func (placerFunc) Release(placement.Lease) { panic("nothing was handed out") }

func TestNotPlaced(t *testing.T) {
	platform := errors.New("no cgroup")
	stream := telemetry.NewLogs(noLogs{}).Stream("g", "s")
	initFailure := func(kind, payload string, timedOut bool) error {
		return &placement.InitFailure{Stream: stream, EnvironmentID: "e", InitError: &sandbox.InitError{
			FunctionError: &thaw.FunctionError{Type: kind, Payload: []byte(payload)}, Length: time.Second, TimedOut: timedOut,
		}}
	}
	for _, test := range []struct {
		name    string
		err     error
		code    thaw.ErrorCode // of an error, else
		payload string         // of a response
		log     string
	}{
		{name: "no place in time", err: context.DeadlineExceeded, code: thaw.CodeTooManyRequests},
		{name: "the platform's failure", err: platform, code: thaw.CodeService},
		{name: "init ended", err: initFailure(thaw.ErrorExit, "Runtime exited with error: exit status 2", false),
			payload: `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: the-id Error: Runtime exited with error: exit status 2"}`,
			log:     "RequestId: the-id Error: Runtime exited with error: exit status 2\nRuntime.ExitError\n"},
		{name: "init failed", err: initFailure("Runtime.ImportModuleError", `{"errorMessage":"no module","errorType":"Runtime.ImportModuleError"}`, false),
			payload: `{"errorMessage":"no module","errorType":"Runtime.ImportModuleError"}`,
			log:     "RequestId: the-id Error: no module\nRuntime.ImportModuleError\n"},
		{name: "init said nothing", err: initFailure("Function.Unknown", `[1]`, false), payload: `[1]`, log: "RequestId: the-id Error: \nFunction.Unknown\n"},
		{name: "init timed out", err: initFailure(thaw.ErrorTimedOut, "", true),
			payload: `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: the-id Error: Task timed out after 30.00 seconds"}`,
			log:     "Z the-id Task timed out after 30.00 seconds\n\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			start := placerFunc(func(ctx context.Context, v *thaw.Version, _ bool) (placement.Lease, error) {
				deadline, ok := ctx.Deadline()
				// Both attempts of an init that blocks have to fit in.
				if need := time.Now().Add(sandbox.InitTimeout + time.Duration(v.Timeout)*time.Second); !ok || deadline.Before(need) {
					t.Errorf("the wait ends at %v, before a start can have failed at %v", deadline, need)
				}
				return placement.Lease{}, test.err
			})
			i := New(Config{Catalog: catalog{"f": function("f")}, Placer: placer{placerFunc: start}, Account: account, Concurrency: 1})
			response, err := i.Invoke(t.Context(), request("f", "{}"))
			if test.code != "" {
				if thaw.CodeOf(err) != test.code || !errors.Is(err, test.err) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || !response.FunctionError || string(response.Payload) != test.payload {
				t.Fatalf("%+v, %v", response, err)
			}
			tail := string(response.LogTail)
			begin, end := strings.Index(tail, "START RequestId: the-id Version: $LATEST\n"), strings.Index(tail, "END RequestId: the-id\nREPORT ")
			if begin < 0 || end < begin || !strings.Contains(tail[begin:end], test.log) || strings.Contains(tail, "Init Duration") {
				t.Errorf("%q lacks %q", tail, test.log)
			}
		})
	}
}

// leasePlacer hands out environments that it boots itself.
type leasePlacer struct {
	emptyPlacer
	boot     func() placement.Lease
	acquired int
	released int
}

func (p *leasePlacer) Acquire(context.Context, *thaw.Version, bool) (placement.Lease, error) {
	p.acquired++
	return p.boot(), nil
}
func (p *leasePlacer) Release(placement.Lease) { p.released++ }

// TestEventThatWasNotTaken: an environment that died while it was idle costs the caller nothing; one that dies before its
// very first event has failed, since the next one would do the same.
func TestEventThatWasNotTaken(t *testing.T) {
	f := function("f")
	for _, test := range []struct {
		kind     thaw.StartKind
		acquired int
		payload  string
	}{
		{thaw.StartWarm, 2, "1"},
		{thaw.StartBoot, 1, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: the-id Error: Runtime exited with error: signal: killed"}`},
	} {
		driver := &lastProcess{Driver: &sandboxtest.Driver{}}
		config := sandbox.Config{Driver: driver, Account: account}
		stream := telemetry.NewLogs(noLogs{}).Stream("g", "s")
		p := &leasePlacer{}
		p.boot = func() placement.Lease {
			env, err := config.Boot(t.Context(), &sandbox.Plan{ID: sandbox.NewID(), Log: stream, Version: f.Running, InitLimit: time.Minute,
				Launch: &runtimes.Launch{Args: []string{"/bin/true"}, Channel: true}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { env.Close() })
			if p.acquired == 1 {
				driver.last.Kill()
				<-driver.last.Done()
			}
			return placement.Lease{Instance: &placement.Instance{Environment: env, Stream: stream}, Kind: test.kind}
		}
		i := New(Config{Catalog: catalog{"f": f}, Placer: p, Account: account, Concurrency: 1})
		response, err := i.Invoke(t.Context(), request("f", "1"))
		if err != nil || string(response.Payload) != test.payload || p.acquired != test.acquired || p.released != p.acquired {
			t.Errorf("%s: %+v, %v; %d acquired, %d released", test.kind, response, err, p.acquired, p.released)
		}
	}
}

// TestStartInReport holds which of AWS's figures stands for which start, what is billed, and what is explained.
func TestStartInReport(t *testing.T) {
	const begin = `^REPORT RequestId: the-id\tDuration: ([0-9.]+) ms\tBilled Duration: ([0-9]+) ms\tMemory Size: 128 MB\tMax Memory Used: [0-9]+ MB\t`
	const initialised, restored, neither = "Init Duration: 23.00 ms\t$", "Restore Duration: 23.00 ms\tBilled Restore Duration: 4 ms\t$", "$"
	starting := []thaw.Phase{thaw.PhaseSandbox, thaw.PhaseRuntime, thaw.PhaseInit, thaw.PhaseRestore}
	for _, test := range []struct {
		kind      thaw.StartKind
		snapStart string
		report    string
		phases    []thaw.Phase
		billed    time.Duration // on top of the handler's whole milliseconds
	}{
		{thaw.StartBoot, "", initialised, []thaw.Phase{thaw.PhaseSandbox, thaw.PhaseInit}, 23 * time.Millisecond},
		{thaw.StartBoot, thaw.SnapStartPublished, initialised, []thaw.Phase{thaw.PhaseSandbox, thaw.PhaseInit}, 23 * time.Millisecond},
		{thaw.StartFork, "", initialised, []thaw.Phase{thaw.PhaseRuntime, thaw.PhaseRestore}, 23 * time.Millisecond},
		{thaw.StartFork, thaw.SnapStartPublished, restored, []thaw.Phase{thaw.PhaseRuntime, thaw.PhaseRestore}, 4 * time.Millisecond},
		{thaw.StartSpare, "", neither, nil, 0},
		{thaw.StartSpare, thaw.SnapStartPublished, neither, nil, 0},
		{thaw.StartWarm, thaw.SnapStartPublished, neither, nil, 0},
	} {
		f := function("f")
		f.Running.SnapStart = test.snapStart
		config := sandbox.Config{Driver: &sandboxtest.Driver{}, Account: account}
		stream := telemetry.NewLogs(noLogs{}).Stream("g", "s")
		p := &leasePlacer{boot: func() placement.Lease {
			env, err := config.Boot(t.Context(), &sandbox.Plan{ID: sandbox.NewID(), Log: stream, Version: f.Running, InitLimit: time.Minute,
				Launch: &runtimes.Launch{Args: []string{"/bin/true"}, Channel: true}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { env.Close() })
			at := env.Timing.Begin
			env.Timing = sandbox.StartTiming{Begin: at, Sandboxed: at.Add(19500 * time.Microsecond), Runtime: at.Add(19500 * time.Microsecond), Ready: at.Add(23 * time.Millisecond)}
			env.InitDuration = 23 * time.Millisecond
			<-time.After(time.Until(env.Timing.Ready)) // it is not handed out before
			return placement.Lease{Instance: &placement.Instance{Environment: env, Stream: stream}, Kind: test.kind}
		}}
		response, err := New(Config{Catalog: catalog{"f": f}, Placer: p, Account: account, Concurrency: 1}).Invoke(t.Context(), request("f", "1"))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(string(response.LogTail), "\n"), "\n")
		if report := lines[len(lines)-1]; !regexp.MustCompile(begin + test.report).MatchString(report) {
			t.Errorf("%s, SnapStart %q: %q", test.kind, test.snapStart, report)
		}
		rec := response.Record
		handler := telemetry.Billed(rec.Duration, 0)
		if added := rec.Billed - handler; added > test.billed || added < test.billed-time.Millisecond || test.kind == thaw.StartFork && rec.RestoreDuration > 0 && added != test.billed {
			t.Errorf("%s, SnapStart %q: billed %v for %v", test.kind, test.snapStart, rec.Billed, rec.Duration)
		}
		for _, phase := range starting {
			if happened := rec.Phases[phase].Length > 0; happened != slices.Contains(test.phases, phase) {
				t.Errorf("%s, SnapStart %q: phase %s took %v", test.kind, test.snapStart, phase, rec.Phases[phase].Length)
			}
		}
	}
}

// lastProcess remembers what it started.
type lastProcess struct {
	sandbox.Driver
	last sandbox.Process
}

func (d *lastProcess) Start(ctx context.Context, spec *sandbox.Spec) (sandbox.Process, error) {
	p, err := d.Driver.Start(ctx, spec)
	d.last = p
	return p, err
}

func TestDryRun(t *testing.T) {
	i := New(Config{Catalog: catalog{"f": function("f")}, Account: account})
	if executed, err := i.Check(request("f", "{}")); err != nil || executed != thaw.Latest {
		t.Error(executed, err)
	}
	if _, err := i.Check(request("g", "{}")); thaw.CodeOf(err) != thaw.CodeResourceNotFound {
		t.Error(err)
	}
	if _, err := i.Check(request("f", "{")); thaw.CodeOf(err) != thaw.CodeInvalidRequestContent {
		t.Error(err)
	}
}

func TestMegabytes(t *testing.T) {
	for _, test := range []struct {
		bytes uint64
		limit int
		want  int
	}{{0, 128, 0}, {1, 128, 1}, {1 << 20, 128, 1}, {1<<20 + 1, 128, 2}, {200 << 20, 128, 128}} {
		if got := megabytes(test.bytes, test.limit); got != test.want {
			t.Errorf("megabytes(%d, %d) = %d, want %d", test.bytes, test.limit, got, test.want)
		}
	}
}

func FuzzErrorMessage(f *testing.F) {
	f.Add([]byte(`{"errorMessage":"x"}`))
	f.Add([]byte(`{"errorMessage":7}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, object []byte) {
		message := errorMessage(object)
		if !json.Valid(errorPayload("T", message)) {
			t.Errorf("%q makes no JSON", message)
		}
	})
}
