package metrics

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"thaw"
)

// invoked makes a record of an invocation that began at a time.
func invoked(at time.Time, change func(*thaw.Invocation)) thaw.Invocation {
	r := thaw.Invocation{
		Function: "f", Version: thaw.Latest, Start: at, Kind: thaw.StartWarm, Duration: 20 * time.Millisecond, Billed: 20 * time.Millisecond,
		MemorySize: 128, MaxMemoryUsed: 32,
	}
	r.Phases[thaw.PhaseHandler] = thaw.Span{Start: time.Millisecond, Length: r.Duration}
	if change != nil {
		change(&r)
	}
	return r
}

func TestInvocations(t *testing.T) {
	c := newClock(noon.Add(30 * time.Second))
	r := begin(t, t.TempDir(), Config{Now: c.now})
	r.Invocations([]thaw.Invocation{
		invoked(noon, func(r *thaw.Invocation) {
			r.Kind, r.Cause, r.InitDuration = thaw.StartBoot, thaw.CauseFirst, 400*time.Millisecond
			r.Phases[thaw.PhaseHandler].Start = 520 * time.Millisecond
			r.Phases[thaw.PhaseInit] = thaw.Span{Start: 100 * time.Millisecond, Length: 400 * time.Millisecond}
		}),
		invoked(noon.Add(5*time.Millisecond), nil),
		invoked(noon.Add(10*time.Millisecond), func(r *thaw.Invocation) { r.Failed, r.TimedOut, r.ErrorType = true, true, "Sandbox.Timedout" }),
		invoked(noon.Add(10*time.Millisecond), func(r *thaw.Invocation) { r.Alias, r.Version, r.Async, r.EventAge = "live", "3", true, 5*time.Second }),
		invoked(noon.Add(10*time.Millisecond), func(r *thaw.Invocation) { r.Version, r.Provisioned = "4", true }),
		invoked(noon.Add(10*time.Second), func(r *thaw.Invocation) { r.Function, r.SpilledOver = "g", true }),
	})
	var sending sync.WaitGroup
	for range 4 {
		sending.Go(func() {
			for range 25 {
				r.Throttled("f", "live", "ReservedFunctionConcurrentInvocationLimitExceeded")
			}
		})
	}
	sending.Wait()
	r.Count("AsyncEventsReceived", "f", "", 3)
	for _, n := range []int{10, 0, 3} {
		r.Mapping("u-1", "PolledEventCount", n)
	}
	of := func(namespace, name string, dimensions ...string) Metric {
		m := Metric{Namespace: namespace, Name: name}
		for i := 0; i < len(dimensions); i += 2 {
			m.Dimensions = append(m.Dimensions, Dimension{dimensions[i], dimensions[i+1]})
		}
		return m
	}
	check := func(when string) {
		t.Helper()
		for _, test := range []struct {
			metric     Metric
			count, sum float64
			unit       string
		}{
			{of("AWS/Lambda", "Invocations"), 6, 6, "Count"},
			{of("AWS/Lambda", "Invocations", "FunctionName", "f"), 5, 5, "Count"},
			{of("AWS/Lambda", "Invocations", "FunctionName", "f", "Resource", "f"), 3, 3, "Count"},
			{of("AWS/Lambda", "Invocations", "FunctionName", "f", "Resource", "f:live"), 1, 1, "Count"},
			{of("AWS/Lambda", "Invocations", "Resource", "f:live", "FunctionName", "f"), 1, 1, "Count"},
			{of("AWS/Lambda", "Invocations", "FunctionName", "f", "Resource", "f:live", "ExecutedVersion", "3"), 1, 1, "Count"},
			{of("AWS/Lambda", "Invocations", "FunctionName", "f", "Resource", "f:4"), 1, 1, "Count"},
			{of("AWS/Lambda", "Invocations", "Resource", "f"), 0, 0, ""},
			{of("AWS/Lambda", "Errors", "FunctionName", "f"), 5, 1, "Count"},
			{of("AWS/Lambda", "Throttles", "FunctionName", "f"), 105, 100, "Count"},
			{of("AWS/Lambda", "Throttles", "FunctionName", "f", "Resource", "f:live"), 101, 100, "Count"},
			{of("AWS/Lambda", "Throttles"), 106, 100, "Count"},
			{of("AWS/Lambda", "Duration", "FunctionName", "f"), 5, 100, "Milliseconds"},
			{of("AWS/Lambda", "ConcurrentExecutions", "FunctionName", "f"), 1, 5, "Count"},
			{of("AWS/Lambda", "ProvisionedConcurrencyInvocations", "FunctionName", "f"), 1, 1, "Count"},
			{of("AWS/Lambda", "ProvisionedConcurrencySpilloverInvocations", "FunctionName", "g"), 1, 1, "Count"},
			{of("AWS/Lambda", "AsyncEventAge", "FunctionName", "f"), 1, 5000, "Milliseconds"},
			{of("AWS/Lambda", "AsyncEventsReceived", "FunctionName", "f"), 3, 3, "Count"},
			{of("AWS/Lambda", "PolledEventCount", "EventSourceMappingUUID", "u-1"), 3, 13, "Count"},
			{of("AWS/Lambda", "PolledEventCount"), 0, 0, ""},
			{of("LambdaInsights", "used_memory_max", "function_name", "f"), 5, 160, "Megabytes"},
			{of("LambdaInsights", "memory_utilization", "function_name", "f", "version", "3"), 1, 25, "Percent"},
			{of("LambdaInsights", "init_duration", "function_name", "f"), 1, 400, "Milliseconds"},
			{of("thaw", "Starts", "FunctionName", "f"), 5, 5, "Count"},
			{of("thaw", "Starts", "FunctionName", "f", "StartKind", "boot"), 1, 1, "Count"},
			{of("thaw", "Starts", "StartKind", "warm"), 5, 5, "Count"},
			{of("thaw", "ColdStartDuration", "FunctionName", "f"), 1, 520, "Milliseconds"},
			{of("thaw", "ColdStartCauses", "FunctionName", "f", "Cause", "first"), 1, 1, "Count"},
			{of("thaw", "PhaseDuration", "FunctionName", "f", "Phase", "init"), 1, 400, "Milliseconds"},
			{of("thaw", "Timeouts", "FunctionName", "f"), 5, 1, "Count"},
			{of("thaw", "Throttles", "FunctionName", "f", "Reason", "ReservedFunctionConcurrentInvocationLimitExceeded"), 100, 100, "Count"},
		} {
			points := r.query(test.metric, noon, noon.Add(time.Hour), time.Hour)
			if test.count == 0 && len(points) == 0 {
				continue
			}
			if len(points) != 1 || points[0].Count != test.count || points[0].Sum != test.sum || points[0].Unit != test.unit {
				t.Errorf("%s: %v is %+v, want %v values of %v %s", when, test.metric, points, test.count, test.sum, test.unit)
			}
		}
	}
	r.second(c.now())
	check("in memory")
	c.add(time.Minute)
	r.flushed()
	check("stored")
	listed, _, err := r.List(t.Context(), Filter{Namespace: "AWS/Lambda", Name: "Invocations", Dimensions: []Dimension{{"FunctionName", "f"}}}, "", 100)
	if err != nil || len(listed) != 5 { // f; its three resources; and one executed version
		t.Errorf("listed %v, %v", listed, err)
	}
	r.stop()
}

// TestEventsAreCountedWhileTheyAreDrained adds and drains at once.
func TestEventsAreCountedWhileTheyAreDrained(t *testing.T) {
	var e events
	e.init()
	const writers, each = 4, 50_000
	var got uint64
	drain := func() { e.drain(func(_ eventKey, n uint64) { got += n }) }
	var adding sync.WaitGroup
	for range writers {
		adding.Go(func() {
			for range each {
				e.add(eventKey{name: "n"}, 1)
			}
		})
	}
	done := make(chan struct{})
	go func() { adding.Wait(); close(done) }()
	for running := true; running; drain() {
		select {
		case <-done:
			running = false
		default:
		}
		e.drains = 0 // a renewal comes with minutes between it and the one before, and gives writers a second
	}
	// One that has taken a map for its own is counted although the map was renewed meanwhile.
	late := e.current.Load()
	e.drains = renewAfter - 1
	drain()
	counter, _ := late.counts.Load(eventKey{name: "n"})
	counter.(*atomic.Uint64).Add(1)
	drain()
	if got != writers*each+1 {
		t.Errorf("%d of %d", got, writers*each+1)
	}
	for i := range maxEvents + 10 {
		e.add(eventKey{name: string(rune('a' + i%26)), function: time.Duration(i).String()}, 1)
	}
	if e.lost.Load() == 0 {
		t.Error("events are not bounded")
	}
}

func BenchmarkInvocations(b *testing.B) {
	c := newClock(noon)
	m, err := Open(Config{Dir: b.TempDir(), Now: c.now})
	if err != nil {
		b.Fatal(err)
	}
	batch := make([]thaw.Invocation, 1500)
	for i := range batch {
		batch[i] = invoked(noon.Add(time.Duration(i)*time.Millisecond/20), func(r *thaw.Invocation) {
			r.Function = string(rune('a' + i%20))
			r.Duration = time.Duration(i%97+1) * 137 * time.Microsecond
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Invocations(batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch)), "ns/record")
}

func BenchmarkThrottled(b *testing.B) {
	m, err := Open(Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Throttled("f", "", "ConcurrentInvocationLimitExceeded")
		}
	})
}
