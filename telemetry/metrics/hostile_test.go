package metrics

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"thaw"
)

func numbered(i int) Datum {
	return Datum{Metric: Metric{"App", "m", []Dimension{{"n", fmt.Sprint(i)}}}, Values: []float64{1}}
}

// filled puts metrics of an origin until no more are taken.
func (r *running) filled(origin string, from int) (taken int) {
	r.t.Helper()
	for ; ; taken++ {
		d := numbered(from + taken)
		d.Origin = origin
		if err := r.Put(r.t.Context(), []Datum{d}); err != nil {
			if thaw.CodeOf(err) != thaw.CodeLimitExceeded {
				r.t.Fatal(err)
			}
			return taken
		}
	}
}

// TestProgramsLeaveRoomForThePlatformsOwnMetrics fills the store with metrics of ever new dimensions.
func TestProgramsLeaveRoomForThePlatformsOwnMetrics(t *testing.T) {
	c := newClock(noon)
	r := begin(t, t.TempDir(), Config{Now: c.now, MaxSeries: 200})
	if n := r.filled("", 0); n != 150 {
		t.Errorf("programs had %d metrics of 200", n)
	}
	r.Invocations([]thaw.Invocation{invoked(noon, nil)})
	invocations := Metric{NamespaceLambda, "Invocations", []Dimension{{DimensionFunction, "f"}}}
	if points := r.query(invocations, noon, noon.Add(time.Hour), time.Hour); len(points) != 1 || points[0].Sum != 1 {
		t.Errorf("the platform's own metric is %+v", points)
	}
	// What is there already is still taken.
	r.put(numbered(7))
	r.stop()
}

// TestOneOriginCannotHaveAllMetrics: the log of one function leaves others room.
func TestOneOriginCannotHaveAllMetrics(t *testing.T) {
	c := newClock(noon)
	r := begin(t, t.TempDir(), Config{Now: c.now, MaxSeries: 200})
	if n := r.filled("/aws/lambda/hostile", 0); n != 50 {
		t.Errorf("one log group had %d metrics of 200", n)
	}
	d := numbered(1000)
	d.Origin = "/aws/lambda/other"
	r.put(d)
	// When its metrics are forgotten it can have others.
	c.add(15 * 24 * time.Hour)
	r.flushed()
	r.memory.catalog.expire(c.now().Add(-listedFor).Unix())
	if n := r.filled("/aws/lambda/hostile", 2000); n != 50 || r.memory.catalog.bytes > 51*100 {
		t.Errorf("after two weeks it had %d, and %d bytes are counted", n, r.memory.catalog.bytes)
	}
	r.stop()
}

// TestLongNamesAreBounded: dimensions can have 40 kB.
func TestLongNamesAreBounded(t *testing.T) {
	c := newClock(noon)
	r := begin(t, t.TempDir(), Config{Now: c.now, MaxSeries: 4000})
	taken := 0
	for i := range 300 {
		d := numbered(i)
		if d.Origin = "hostile"; i >= 100 {
			d.Origin = ""
		}
		for n := range 29 {
			d.Dimensions = append(d.Dimensions, Dimension{fmt.Sprint("d", n), strings.Repeat("x", 1000)})
		}
		if err := r.Put(t.Context(), []Datum{d}); err == nil {
			taken++
		} else if thaw.CodeOf(err) != thaw.CodeLimitExceeded {
			t.Fatal(err)
		}
		if i == 99 && (taken == 0 || r.memory.catalog.bytes > 1000*meanID) {
			t.Errorf("%d metrics with %d bytes of one log group", taken, r.memory.catalog.bytes)
		}
	}
	if taken == 0 || r.memory.catalog.bytes > 3000*meanID {
		t.Errorf("%d metrics with %d bytes", taken, r.memory.catalog.bytes)
	}
	r.put(numbered(0))
	r.stop()
}

// TestNamesThatAreNotTaken: those of the platform's own metrics, and such as could be two metrics.
func TestNamesThatAreNotTaken(t *testing.T) {
	r := begin(t, t.TempDir(), Config{})
	for _, m := range []Metric{
		{"thaw", "Timeouts", []Dimension{{DimensionFunction, "other"}}},
		{NamespaceLambda, "Errors", nil},
		{"App", "m\x00n", nil},
		{"App\x00m", "n", nil},
		{"App", "m", []Dimension{{"a\x00b", "c"}}},
		{"App", "m", []Dimension{{"a", "b\x00c"}}},
	} {
		if err := r.Put(t.Context(), []Datum{{Metric: m, Values: []float64{1}}}); thaw.CodeOf(err) != thaw.CodeInvalidParameterValue {
			t.Errorf("%q: %v", m, err)
		}
	}
	r.stop()
}

// TestNothingIsLostWhileAMinuteIsStored writes a late value just when its minute goes from memory to the store.
func TestNothingIsLostWhileAMinuteIsStored(t *testing.T) {
	c := newClock(noon)
	r := begin(t, t.TempDir(), Config{Now: c.now})
	r.put(Datum{Metric: latency, Values: []float64{1}})
	c.add(time.Minute)
	late := 0
	r.free = func() (int64, error) {
		if late < 5 {
			late++
			r.put(Datum{Metric: latency, At: noon, Values: []float64{10}})
		}
		return 1 << 40, nil
	}
	for range 6 {
		r.flushed()
	}
	if got := r.query(latency, noon, noon.Add(time.Minute), time.Minute); len(got) != 1 || got[0].Sum != 51 || late != 5 {
		t.Errorf("%d late values: %+v", late, got)
	}
	if r.memory.held != 0 {
		t.Errorf("%d bytes are held", r.memory.held)
	}
	r.stop()
}

// TestAClockThatIsPutBackStoresOn runs the real loop, with a clock that jumps.
func TestAClockThatIsPutBackStoresOn(t *testing.T) {
	c := newClock(noon)
	m, err := Open(Config{Dir: t.TempDir(), Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- m.Run(ctx) }()
	deadline := time.After(30 * time.Second)
	for _, at := range []time.Time{noon, noon.Add(-time.Hour)} {
		c.set(at)
		if err := m.Put(t.Context(), []Datum{{Metric: latency, Values: []float64{1}}}); err != nil {
			t.Fatal(err)
		}
		// The loop has seen the minute, which then ends.
		for waiting := int64(1); waiting > 0; waiting = m.Stats().Waiting {
			c.add(time.Minute)
			select {
			case <-deadline:
				t.Fatalf("values of %v are not stored", at)
			case <-time.After(300 * time.Millisecond):
			}
			if c.now().Sub(at) > 50*time.Minute {
				c.set(at.Add(2 * time.Minute))
			}
		}
	}
	cancel()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
}

// TestAClockThatWasAheadIsTold: values of now are dropped then, but not in silence.
func TestAClockThatWasAheadIsTold(t *testing.T) {
	c := newClock(noon.Add(60 * 24 * time.Hour))
	r := begin(t, t.TempDir(), Config{Now: c.now})
	r.put(Datum{Metric: latency, Values: []float64{1}})
	c.add(time.Minute)
	r.flushed()
	c.set(noon)
	r.put(Datum{Metric: latency, Values: []float64{1}})
	c.add(time.Minute)
	r.flushed()
	if n := r.Stats().Refused[reasonNames[reasonOld]]; n != 1 {
		t.Errorf("%d values are counted as too old", n)
	}
	r.stop()
}

// TestWhatIsNotListedAnyMoreCanBeRead: a metric without values in two weeks, and one version of a function that goes on.
func TestWhatIsNotListedAnyMoreCanBeRead(t *testing.T) {
	c := newClock(noon)
	r := begin(t, t.TempDir(), Config{Now: c.now})
	version := func(number string) func(*thaw.Invocation) {
		return func(r *thaw.Invocation) { r.Version = number }
	}
	r.put(Datum{Metric: latency, Values: []float64{3}})
	r.Invocations([]thaw.Invocation{invoked(c.now(), version("1")), invoked(c.now(), version("2"))})
	c.add(time.Minute)
	r.flushed()
	c.add(20 * 24 * time.Hour)
	r.Invocations([]thaw.Invocation{invoked(c.now(), version("2"))})
	check := func(when string) {
		t.Helper()
		if got := r.query(latency, noon, c.now(), 24*time.Hour); len(got) != 1 || got[0].Sum != 3 {
			t.Errorf("%s: %+v", when, got)
		}
		calls := Metric{NamespaceLambda, "Invocations", []Dimension{{DimensionFunction, "f"}}}
		if got := r.query(calls, noon, c.now().Add(time.Hour), 60*24*time.Hour); len(got) != 1 || got[0].Sum != 3 {
			t.Errorf("%s: %+v", when, got)
		}
		if found, _, err := r.List(t.Context(), Filter{Namespace: "App"}, "", 10); err != nil || len(found) > 0 {
			t.Errorf("%s: listed %v, %v", when, found, err)
		}
	}
	check("not expired")
	r.memory.catalog.expire(c.now().Add(-listedFor).Unix())
	check("expired")
	r.stop()
}
