package invoke

import (
	"cmp"
	"context"
	"slices"
	"testing"
	"time"

	"thaw"
	"thaw/placement"
	"thaw/runtimes"
	"thaw/sandbox"
	"thaw/sandbox/sandboxtest"
	"thaw/telemetry"
)

// addUp holds phases, and what lies between them, to follow each other without a gap until end.
func addUp(t *testing.T, rec *thaw.Invocation, end time.Duration) {
	t.Helper()
	spans := slices.DeleteFunc(slices.Clone(rec.Phases[:]), func(s thaw.Span) bool { return s.Length == 0 })
	if rec.FailedInit > 0 {
		spans = append(spans, thaw.Span{Start: rec.Phases[thaw.PhaseSandbox].Start - rec.FailedInit, Length: rec.FailedInit})
	}
	slices.SortFunc(spans, func(a, b thaw.Span) int { return cmp.Compare(a.Start, b.Start) })
	at := time.Duration(0)
	for _, span := range spans {
		if span.Start != at {
			t.Errorf("one begins at %v, the one before ended at %v: %+v", span.Start, at, rec.Phases)
		}
		at = span.Start + span.Length
	}
	if at != end {
		t.Errorf("they end at %v, not %v: %+v", at, end, rec.Phases)
	}
}

// TestPhasesOfAStartAddUp goes through all kinds of starts, and through those that began before the request came.
func TestPhasesOfAStartAddUp(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		name       string
		kind       thaw.StartKind
		begun      time.Duration // all counted from the request
		timing     [5]time.Duration
		failedInit time.Duration
		want       map[thaw.Phase]time.Duration
		wantFailed time.Duration
	}{
		{name: "warm", kind: thaw.StartWarm, want: map[thaw.Phase]time.Duration{thaw.PhasePlace: 99 * ms}},
		{name: "provisioned", kind: thaw.StartProvisioned, want: map[thaw.Phase]time.Duration{thaw.PhasePlace: 99 * ms}},
		{name: "spare", kind: thaw.StartSpare, begun: -500 * ms, timing: [5]time.Duration{-400 * ms, -300 * ms, 0, -200 * ms, -100 * ms}, want: map[thaw.Phase]time.Duration{thaw.PhasePlace: 99 * ms}},
		{name: "boot", kind: thaw.StartBoot, begun: 11 * ms, timing: [5]time.Duration{21 * ms, 31 * ms, 0, 51 * ms, 96 * ms}, want: map[thaw.Phase]time.Duration{
			thaw.PhasePlace: 10 * ms, thaw.PhaseFetch: 10 * ms, thaw.PhaseSandbox: 10 * ms, thaw.PhaseRuntime: 20 * ms, thaw.PhaseInit: 49 * ms,
		}},
		{name: "with extensions", kind: thaw.StartBoot, begun: 11 * ms, timing: [5]time.Duration{11 * ms, 31 * ms, 41 * ms, 51 * ms, 96 * ms}, want: map[thaw.Phase]time.Duration{
			thaw.PhasePlace: 10 * ms, thaw.PhaseSandbox: 20 * ms, thaw.PhaseExtensions: 10 * ms, thaw.PhaseRuntime: 10 * ms, thaw.PhaseInit: 49 * ms,
		}},
		{name: "repeated init", kind: thaw.StartBoot, begun: 2 * ms, timing: [5]time.Duration{60 * ms, 61 * ms, 0, 71 * ms, 96 * ms}, failedInit: 50 * ms, want: map[thaw.Phase]time.Duration{
			thaw.PhasePlace: ms, thaw.PhaseFetch: 8 * ms, thaw.PhaseSandbox: ms, thaw.PhaseRuntime: 10 * ms, thaw.PhaseInit: 29 * ms,
		}, wantFailed: 50 * ms},
		{name: "first init failed before the request came", kind: thaw.StartBoot, begun: -90 * ms, timing: [5]time.Duration{-10 * ms, -5 * ms, 0, 51 * ms, 96 * ms}, failedInit: 50 * ms, want: map[thaw.Phase]time.Duration{
			thaw.PhaseRuntime: 50 * ms, thaw.PhaseInit: 49 * ms,
		}},
		{name: "request came during the first init", kind: thaw.StartBoot, begun: -90 * ms, timing: [5]time.Duration{31 * ms, 41 * ms, 0, 51 * ms, 96 * ms}, failedInit: 50 * ms, want: map[thaw.Phase]time.Duration{
			thaw.PhaseSandbox: 10 * ms, thaw.PhaseRuntime: 10 * ms, thaw.PhaseInit: 49 * ms,
		}, wantFailed: 30 * ms},
		{name: "given back by another request", kind: thaw.StartBoot, begun: -90 * ms, timing: [5]time.Duration{-80 * ms, -70 * ms, 0, -60 * ms, -ms}, failedInit: ms, want: map[thaw.Phase]time.Duration{thaw.PhasePlace: 99 * ms}},
		{name: "fork", kind: thaw.StartFork, begun: 2 * ms, timing: [5]time.Duration{3 * ms, 13 * ms, 0, 13 * ms, 96 * ms}, want: map[thaw.Phase]time.Duration{
			thaw.PhasePlace: 2 * ms, thaw.PhaseRuntime: 10 * ms, thaw.PhaseRestore: 87 * ms,
		}},
		{name: "fork for another request", kind: thaw.StartFork, begun: -5 * ms, timing: [5]time.Duration{-3 * ms, 13 * ms, 0, 13 * ms, 96 * ms}, want: map[thaw.Phase]time.Duration{
			thaw.PhaseRuntime: 12 * ms, thaw.PhaseRestore: 87 * ms,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			start := time.Now()
			at := start.Add
			env := &sandbox.Environment{Timing: sandbox.StartTiming{Begin: at(test.timing[0]), Sandboxed: at(test.timing[1]), Runtime: at(test.timing[3]), Ready: at(test.timing[4])}}
			if test.timing[2] != 0 {
				env.Timing.Extended = at(test.timing[2])
			}
			r := run{version: &thaw.Version{}}
			rec := &r.response.Record
			rec.Start = start
			rec.Phases.Set(thaw.PhaseAdmit, start, start, at(ms))
			rec.Phases[thaw.PhaseInit] = thaw.Span{Start: ms, Length: time.Hour} // of one that died
			r.describeStart(&placement.Lease{Instance: &placement.Instance{Environment: env, Begun: at(test.begun), FailedInit: test.failedInit}, Kind: test.kind}, at(ms), at(100*ms))
			addUp(t, rec, 100*ms)
			for phase := thaw.PhasePlace; phase < thaw.PhaseHandler; phase++ {
				if rec.Phases[phase].Length != test.want[phase] {
					t.Errorf("%s took %v, want %v", phase, rec.Phases[phase].Length, test.want[phase])
				}
			}
			if rec.FailedInit != test.wantFailed {
				t.Errorf("a failed init took %v, want %v", rec.FailedInit, test.wantFailed)
			}
		})
	}
}

// outcomes is a Placer that gives one thing after the other.
type outcomes struct {
	emptyPlacer
	next []func() (placement.Lease, error)
}

func (o *outcomes) Acquire(context.Context, *thaw.Version, bool) (placement.Lease, error) {
	next := o.next[0]
	o.next = o.next[1:]
	return next()
}
func (*outcomes) Release(placement.Lease) {}

// TestNothingStaysOfWhatDied: the start of an environment that died before it took the event is not part of an init that failed then.
func TestNothingStaysOfWhatDied(t *testing.T) {
	f := function("f")
	driver := &lastProcess{Driver: &sandboxtest.Driver{}}
	config := sandbox.Config{Driver: driver, Account: account}
	stream := telemetry.NewLogs(noLogs{}).Stream("g", "s")
	p := &outcomes{next: []func() (placement.Lease, error){
		func() (placement.Lease, error) {
			env, err := config.Boot(t.Context(), &sandbox.Plan{ID: sandbox.NewID(), Log: stream, Version: f.Running, InitLimit: time.Minute,
				Launch: &runtimes.Launch{Args: []string{"/bin/true"}, Channel: true}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { env.Close() })
			driver.last.Kill()
			<-driver.last.Done()
			env.InitDuration = time.Hour
			return placement.Lease{Instance: &placement.Instance{Environment: env, Stream: stream, NodeFull: true}, Kind: thaw.StartFork}, nil
		},
		func() (placement.Lease, error) {
			return placement.Lease{}, &placement.InitFailure{Stream: stream, EnvironmentID: "e", InitError: &sandbox.InitError{
				FunctionError: &thaw.FunctionError{Type: thaw.ErrorExit}, Length: time.Millisecond,
			}}
		},
	}}
	response, err := New(Config{Catalog: catalog{"f": f}, Placer: p, Account: account, Concurrency: 1}).Invoke(t.Context(), request("f", "1"))
	if err != nil || !response.FunctionError {
		t.Fatalf("%+v, %v", response, err)
	}
	rec := &response.Record
	if rec.InitDuration != 0 || rec.Billed != time.Millisecond || rec.NodeFull || rec.Phases[thaw.PhaseRuntime].Length+rec.Phases[thaw.PhaseRestore].Length != 0 {
		t.Errorf("%+v", rec)
	}
	addUp(t, rec, response.Answered().Sub(rec.Start))
}
