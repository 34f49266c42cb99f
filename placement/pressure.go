package placement

import (
	"time"

	"thaw"
)

// lowMemory is the share of the machine's memory below which the platform gives some back. Above twice that it makes
// things ahead again.
const lowMemory = 0.08

// relieve gives memory back while the machine is short of it, a step at each call: the spares of the function whose spares
// are worth least, then the environment that has been idle longest, then the template used least recently, and last of all a provisioned
// environment. When there is enough again, it has them made again.
func (p *Placer) relieve(now time.Time) {
	if p.cfg.AvailableMemory == nil {
		return
	}
	available := p.cfg.AvailableMemory()
	if available >= 2*lowMemory && p.owed.Swap(false) {
		p.restore()
	}
	if available >= lowMemory {
		return
	}
	p.owed.Store(true)
	p.mu.Lock()
	if least, _ := p.leastWorth(nil, now); least != nil {
		p.mu.Unlock()
		for spare := least.takeSpare(); spare != nil; spare = least.takeSpare() {
			p.bury(ending{instance: spare})
		}
		return
	}
	if evicted := p.evictOldest(); evicted != nil {
		p.mu.Unlock()
		p.cfg.Log.Warn("an idle environment ends: the machine is short of memory", "function", evicted.Version.Function, "cause", thaw.CauseEvicted)
		p.bury(ending{instance: evicted})
		return
	}
	key, gone := p.evictTemplate("the machine was short of memory; it is made again when there is enough")
	p.mu.Unlock()
	if gone != nil {
		p.cfg.Log.Warn("a template ends: the machine is short of memory", "function", key.function)
		p.closeTemplate(key, gone)
		return
	}
	p.giveUpProvisioned()
}

// restore wishes for the templates and spares of every function that has run here.
func (p *Placer) restore() {
	for _, f := range p.allFleets() {
		p.wish(f.key, f.lastUse())
	}
}

// shortOfMemory reports whether nothing should be made ahead now.
func (p *Placer) shortOfMemory() bool {
	return p.cfg.AvailableMemory != nil && p.cfg.AvailableMemory() < 2*lowMemory
}
