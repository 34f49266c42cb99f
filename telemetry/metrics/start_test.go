package metrics

import (
	"testing"
	"time"

	"thaw"
)

// TestAFailedInitIsNoColdStart: what never came to the handler did not take 0 ms to come to it.
func TestAFailedInitIsNoColdStart(t *testing.T) {
	c := newClock(noon)
	r := begin(t, t.TempDir(), Config{Now: c.now})
	defer r.kill()
	r.Invocations([]thaw.Invocation{
		invoked(noon, func(r *thaw.Invocation) {
			r.Kind, r.Cause = thaw.StartBoot, thaw.CauseFirst
			r.Phases[thaw.PhaseHandler].Start = 300 * time.Millisecond
		}),
		invoked(noon, func(r *thaw.Invocation) {
			r.Kind, r.Cause, r.Failed, r.Crashed, r.Phases = thaw.StartBoot, thaw.CauseFirst, true, true, thaw.Phases{thaw.PhaseInit: {Length: time.Second}}
		}),
	})
	of := func(name string, dimensions ...Dimension) []Point {
		return r.query(Metric{Namespace: NamespaceThaw, Name: name, Dimensions: append([]Dimension{{DimensionFunction, "f"}}, dimensions...)}, noon, noon.Add(time.Hour), time.Hour)
	}
	if points := of(MetricColdStart); len(points) != 1 || points[0].Count != 1 || points[0].Min != 300 {
		t.Errorf("cold starts: %+v", points)
	}
	if points := of(MetricCauses, Dimension{DimensionCause, string(thaw.CauseFirst)}); len(points) != 1 || points[0].Sum != 2 {
		t.Errorf("causes: %+v", points)
	}
}
