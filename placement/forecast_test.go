package placement

import (
	"testing"
	"time"

	"thaw"
	"thaw/sandbox/sandboxtest"
)

func TestForecastMakesSparesWithinTheirBounds(t *testing.T) {
	const most = 5
	r := newForkingRig(t, sandboxtest.Runtime{}, func(c *Config) { c.Spares, c.MaxVersionSpares = 2, most })
	v := r.deploy("f", "code", 1)
	eventually(t, "it has its spares", func() bool { return r.Report(v).Environments.Spares == 2 })
	for _, nothing := range []thaw.Forecast{{Function: "g", Environments: 4}, {Function: "f"}, {Function: "f", Qualifier: "7", Environments: 4}} {
		r.Expect(nothing)
	}
	if c := r.Report(v).Environments; c.Wanted != 2 {
		t.Fatalf("wanted after forecasts of nothing: %+v", c)
	}
	r.Expect(thaw.Forecast{Function: "f", Environments: 4, At: time.Now().Add(time.Minute)})
	r.Expect(thaw.Forecast{Function: "f", Environments: 3})
	eventually(t, "those foreseen are there", func() bool { return r.Report(v).Environments.Spares == 4 })
	r.Expect(thaw.Forecast{Function: "f", Qualifier: thaw.Latest, Environments: 400})
	eventually(t, "no more than the bound are there", func() bool { return r.Report(v).Environments.Spares == most })
	// One that is idle serves a foreseen invocation as well as a spare does.
	l := r.acquire(t, v, false)
	serve(t, l)
	r.Release(l)
	f := r.fleetOf(v)
	f.mu.Lock()
	f.forecast.environments = 4
	f.mu.Unlock()
	if c := r.Report(v).Environments; c.Wanted != 3 || c.Idle != 1 {
		t.Errorf("with an idle one: %+v", c)
	}
	later := time.Now().Add(24 * time.Hour)
	r.expireIdle(later)
	if c := f.counts(later); c.Wanted != 2 || c.Spares != 2 {
		t.Errorf("a day later: %+v", c)
	}
}
