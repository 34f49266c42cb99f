package placement

import (
	"time"

	"thaw"
)

// moves remembers, by function and alias with provisioned concurrency, where the alias points and where it pointed before:
// the old version keeps its environments until the new one has its own.
type moves map[string]map[string]*move

type move struct {
	at   string // the version that it points at
	from string // the version that it pointed at before, empty once the new one has what it needs
	n    int    // environments
}

// follow takes over where a function's aliases point now.
func (m moves) follow(f *thaw.Function) {
	for name := range m[f.Name] {
		if _, ok := f.Aliases[name]; !ok || f.Provisioned[name].Requested == 0 {
			delete(m[f.Name], name)
		}
	}
	for name, wish := range f.Provisioned {
		alias, ok := f.Aliases[name]
		if !ok {
			continue
		}
		if m[f.Name] == nil {
			m[f.Name] = map[string]*move{}
		}
		known := m[f.Name][name]
		if known == nil {
			known = &move{at: alias.Version}
			m[f.Name][name] = known
		}
		if known.at != alias.Version {
			if known.from == "" {
				known.from = known.at
			}
			known.at = alias.Version
		}
		if known.from == known.at {
			known.from = ""
		}
		known.n = wish.Requested
	}
	if len(m[f.Name]) == 0 {
		delete(m, f.Name)
	}
}

// arrive ends the moves to a version.
func (m moves) arrive(function, version string) {
	for _, known := range m[function] {
		if known.at == version {
			known.from = ""
		}
	}
}

// kept is how many environments of a version an alias has left behind.
func (m moves) kept(function, version string) (n int) {
	for _, known := range m[function] {
		if known.from == version {
			n += known.n
		}
	}
	return n
}

// plan sets how many provisioned environments each version of a function is to have now, ends those that are not wanted
// any more and has the others made.
func (p *Placer) plan(name string) {
	p.planning.Lock()
	defer p.planning.Unlock()
	f, ok := p.cfg.Store.Function(name)
	if !ok {
		delete(p.moves, name)
		return
	}
	p.moves.follow(f)
	for _, known := range p.moves[name] {
		if known.from != "" && p.arrived(f, known.at) {
			known.from = ""
		}
	}
	for _, v := range f.AllInForce() {
		wanted := f.ProvisionedFor(v.Number) + p.moves.kept(name, v.Number)
		p.mu.RLock()
		fleet := p.fleets[keyOf(v)]
		p.mu.RUnlock()
		if fleet == nil && wanted == 0 {
			continue
		}
		fleet = p.fleetOf(v)
		p.buryAll(fleet.provision(wanted, provisionedSince(f, v.Number)))
		p.refill(fleet)
	}
	for i := range f.Published {
		if v := &f.Published[i]; v.State == thaw.StateInactive && f.ProvisionedFor(v.Number) > 0 {
			p.Wake(v)
		}
	}
}

// arrived reports whether a version has the provisioned environments that it is to have, or cannot have them.
func (p *Placer) arrived(f *thaw.Function, number string) bool {
	v := f.Version(number)
	if v == nil || v.State == thaw.StateFailed {
		return true
	}
	p.mu.RLock()
	fleet := p.fleets[keyOf(v)]
	p.mu.RUnlock()
	if fleet == nil {
		return false
	}
	fleet.mu.Lock()
	defer fleet.mu.Unlock()
	return fleet.capacity.broken || fleet.capacity.made >= f.ProvisionedFor(number)
}

// provisionedSince is when a version's provisioned concurrency was last set.
func provisionedSince(f *thaw.Function, number string) (last time.Time) {
	for _, q := range qualifiersOf(f, number) {
		if at := f.Provisioned[q].LastModified; at.After(last) {
			last = at
		}
	}
	return last
}
