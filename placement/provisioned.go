package placement

import (
	"time"

	"thaw"
)

// Provisioned gives an idle provisioned environment of a version, if there is one, and never waits.
func (p *Placer) Provisioned(v *thaw.Version) (Lease, bool) {
	f := p.fleetOf(v)
	for instance := f.takeProvisioned(); instance != nil; instance = f.takeProvisioned() {
		if instance.Claim() {
			return f.lease(instance, ""), true
		}
		p.end(f, instance, thaw.CauseCrashed)
	}
	return Lease{}, false
}

// Wake has an inactive version made ready again, in the background.
func (p *Placer) Wake(v *thaw.Version) { p.wish(v.Function, time.Now()) }

// takeProvisioned pops the most recently used idle provisioned environment, nil if there is none.
func (f *fleet) takeProvisioned() *Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := len(f.idle) - 1; n >= 0; n-- {
		if instance := f.idle[n].instance; instance.provisioned {
			f.idle = append(f.idle[:n], f.idle[n+1:]...)
			f.handOut(instance)
			return instance
		}
	}
	return nil
}
