package placement

import "time"

// lowMemory is the share of the machine's memory below which the platform gives some back. Above twice that it makes
// things ahead again.
const lowMemory = 0.08

// relief is the part of the environments that a step of relieve ends: one of so many.
const relief = 16

// relieve gives memory back while the machine is short of it although the environments keep to their budget, a step at each
// call: those parked environments on demand that are worth least, then the template used least recently, and last of all a
// provisioned environment. Below half of lowMemory no environment is started. When there is enough again, what was given up
// is made again.
func (p *Placer) relieve(now time.Time) {
	if p.cfg.AvailableMemory == nil {
		return
	}
	available := p.cfg.AvailableMemory()
	if p.exhausted.Swap(available < lowMemory/2) && available >= lowMemory/2 {
		p.orders.freed()
	}
	if available >= 2*lowMemory && p.owed.Swap(false) {
		p.restore()
	}
	if available >= lowMemory {
		return
	}
	p.owed.Store(true)
	var gone []*Instance
	p.mu.Lock()
	for range 1 + p.count/relief {
		evicted := p.evictLeast(now)
		if evicted == nil {
			break
		}
		gone = append(gone, evicted)
	}
	if len(gone) > 0 {
		p.mu.Unlock()
		p.cfg.Log.Warn("parked environments end: the machine is short of memory", "count", len(gone), "first", gone[0].Version.Function)
		p.buryAll(gone)
		return
	}
	key, evicted := p.evictTemplate("the machine was short of memory; it is made again when there is enough")
	p.mu.Unlock()
	if evicted != nil {
		p.cfg.Log.Warn("a template ends: the machine is short of memory", "function", key.function)
		p.closeTemplate(key, evicted)
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
