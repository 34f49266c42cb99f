package placement

import (
	"slices"
	"strings"
	"time"

	"thaw"
	"thaw/warm"
)

// slot names a version over its generations.
type slot struct{ function, version string }

// isCurrent reports whether a key names what f's invocations may use now.
func isCurrent(f *thaw.Function, key fleetKey) bool {
	v := f.InForce(key.version)
	return v != nil && v.Generation == key.generation
}

// isPrepared reports whether a key names what is being prepared for f's invocations.
func isPrepared(f *thaw.Function, key fleetKey) bool {
	v := unprepared(f, key.version)
	return v != nil && v.Generation == key.generation
}

// unprepared gives what has to be prepared before the version with that number is in force, nil if nothing has. Of
// $LATEST that is the newest configuration, or the one that was in force when it became Inactive.
func unprepared(f *thaw.Function, number string) *thaw.Version {
	v := f.Version(number)
	switch {
	case v == nil || v.State != thaw.StatePending && v.LastUpdate != thaw.UpdateInProgress:
		return nil
	case number == thaw.Latest && restoring(v):
		return f.Running
	}
	return v
}

// numbers lists the version numbers that a function has.
func numbers(f *thaw.Function) []string {
	all := make([]string, 0, 1+len(f.Published))
	all = append(all, thaw.Latest)
	for i := range f.Published {
		all = append(all, f.Published[i].Number)
	}
	return all
}

// qualifier is what an ARN names a version by.
func qualifier(v *thaw.Version) string {
	if v.Number == thaw.Latest {
		return ""
	}
	return v.Number
}

// worthTemplate reports whether a template and spares are kept for a version in force that was used at a given time: for
// $LATEST, for the newest published version, for what an alias points at or has provisioned, and for what is in use.
func (p *Placer) worthTemplate(f *thaw.Function, v *thaw.Version, used time.Time) bool {
	if v.Number == thaw.Latest || f.Published[len(f.Published)-1].Number == v.Number || !p.cfg.KeepAlive.Expired(warm.Idle{Since: used}, time.Now()) {
		return true
	}
	if f.ProvisionedFor(v.Number) > 0 {
		return true
	}
	for _, a := range f.Aliases {
		if a.Version == v.Number || a.Other == v.Number && a.Weight > 0 {
			return true
		}
	}
	return false
}

// restIdle gives up templates and spares of published versions that are not worth them any more.
func (p *Placer) restIdle() {
	for _, fleet := range p.allFleets() {
		if fleet.key.version == thaw.Latest {
			continue
		}
		f, ok := p.cfg.Store.Function(fleet.key.function)
		if !ok || !isCurrent(f, fleet.key) || p.worthTemplate(f, f.InForce(fleet.key.version), fleet.lastUse()) {
			continue
		}
		p.restTemplate(fleet.key)
		p.buryAll(fleet.renew())
	}
}

// forgetGone drops what is remembered of versions that do not exist any more; f is nil when the function does not.
func (p *Placer) forgetGone(name string, f *thaw.Function) {
	gone := func(key string) bool {
		function, version, _ := strings.Cut(key, ":")
		return function == name && (f == nil || f.Version(version) == nil)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := range p.last {
		if gone(key) {
			delete(p.last, key)
		}
	}
	for key := range p.recent {
		if gone(key) {
			delete(p.recent, key)
		}
	}
}

// qualifiersOf lists the qualifiers whose provisioned concurrency is a version's: its number and its aliases, sorted.
func qualifiersOf(f *thaw.Function, number string) (qualifiers []string) {
	for q := range f.Provisioned {
		if q == number || f.Aliases[q].Version == number {
			qualifiers = append(qualifiers, q)
		}
	}
	slices.Sort(qualifiers)
	return qualifiers
}
