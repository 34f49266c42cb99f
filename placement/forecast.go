package placement

import (
	"time"

	"thaw"
)

// forecastKept is for how long after its instant a forecast counts.
const forecastKept = 30 * time.Second

// forecast is how many environments a fleet is told that it will need at the same time.
type forecast struct {
	environments int
	until        time.Time
}

// Expect has environments made ready in the background for invocations that are still to come, as spares: within their
// bounds, and given back like them. It never waits. What it does not know, or cannot serve now, it forgets.
func (p *Placer) Expect(expected thaw.Forecast) {
	f, ok := p.cfg.Store.Function(expected.Function)
	if !ok || expected.Environments < 1 {
		return
	}
	number := expected.Qualifier
	if alias, ok := f.Aliases[number]; ok {
		number = alias.Version
	} else if number == "" {
		number = thaw.Latest
	}
	v := f.InForce(number)
	if v == nil {
		return
	}
	now := time.Now()
	at := expected.At
	if at.Before(now) {
		at = now
	}
	if p.fleetOf(v).expect(forecast{expected.Environments, at.Add(forecastKept)}, now) {
		p.wish(keyOf(v), now)
	}
}

// expect takes a forecast, unless a larger one still counts, and reports whether spares are missing for it.
func (f *fleet) expect(next forecast, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if next.environments >= f.forecast.environments || now.After(f.forecast.until) {
		f.forecast = next
	}
	return f.spares+f.tally[spare] < f.wanted(now)
}

// expected is how many spares the forecast asks for: what is idle anyway will do as well. The caller holds f.mu.
func (f *fleet) expected(now time.Time) int {
	if now.After(f.forecast.until) {
		return 0
	}
	return max(f.forecast.environments-f.tally[idle], 0)
}
