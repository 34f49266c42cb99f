package placement

import "thaw"

// lowMemory is the share of the machine's memory below which the platform gives some back.
const lowMemory = 0.08

// relieve gives memory back while the machine is short of it, a step at each call: the spares of the function that has
// started nothing for longest, then the environment that has been idle longest, then the template used least recently.
func (p *Placer) relieve() {
	if p.cfg.AvailableMemory == nil || p.cfg.AvailableMemory() >= lowMemory {
		return
	}
	p.mu.Lock()
	var idlest *fleet
	for _, f := range p.fleets {
		if f.counts().Spares > 0 && (idlest == nil || f.lastStart.Load() < idlest.lastStart.Load()) {
			idlest = f
		}
	}
	if idlest != nil {
		p.mu.Unlock()
		for spare := idlest.takeSpare(); spare != nil; spare = idlest.takeSpare() {
			p.bury(ending{instance: spare})
		}
		return
	}
	evicted := p.evictOldest()
	var key fleetKey
	var oldest *held
	if evicted == nil {
		key, oldest = p.leastUsedTemplate()
		delete(p.templates, key)
	}
	p.mu.Unlock()
	switch {
	case evicted != nil:
		p.cfg.Log.Warn("an idle environment ends: the machine is short of memory", "function", evicted.Version.Function, "cause", thaw.CauseEvicted)
		p.bury(ending{instance: evicted})
	case oldest != nil:
		p.cfg.Log.Warn("a template ends: the machine is short of memory", "function", key.function)
		p.closeHeld(key, oldest)
	}
}

// shortOfMemory reports whether nothing should be made ahead now.
func (p *Placer) shortOfMemory() bool {
	return p.cfg.AvailableMemory != nil && p.cfg.AvailableMemory() < 2*lowMemory
}
