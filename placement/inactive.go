package placement

import (
	"context"
	"errors"
	"time"

	"thaw"
	"thaw/state"
)

// A version that nobody uses for long becomes Inactive and gives up everything. The next invocation fails, as on AWS,
// and has it made ready again:
//
//	Active ──▶ Inactive (Idle) ──▶ Pending (Restoring) ──▶ Active
//	              ▲                       │
//	              └───────────────────────┘ it cannot be made ready; the reason is kept
const (
	// reasonIdle and the codes are AWS's. Of a function that is restored only AWS's code is known, not its sentence.
	reasonIdle      = "The function is currently idle."
	codeIdle        = "Idle"
	reasonRestoring = "The function is being restored."
	codeRestoring   = "Restoring"
)

// maxIdleLook bounds how long an idle version may go unnoticed.
const maxIdleLook = time.Minute

// functionsPage is how many functions are looked at in one go.
const functionsPage = 500

func restoring(v *thaw.Version) bool {
	return v.State == thaw.StatePending && v.StateReasonCode == codeRestoring
}

// idleLook is how often to look for idle versions; 0: never.
func (p *Placer) idleLook() time.Duration {
	if p.cfg.InactiveAfter <= 0 {
		return 0
	}
	return min(max(p.cfg.InactiveAfter/10, expireEvery), maxIdleLook)
}

// deactivateIdle makes the versions Inactive that nobody has invoked or changed for the set time.
func (p *Placer) deactivateIdle(ctx context.Context, now time.Time) {
	before := now.Add(-p.cfg.InactiveAfter)
	for after := ""; ; {
		functions := p.cfg.Store.Functions(after, functionsPage)
		for _, f := range functions {
			after = f.Name
			for _, v := range f.AllInForce() {
				if p.idleSince(f, v, before) {
					p.deactivate(ctx, v, before)
				}
			}
		}
		if len(functions) < functionsPage || ctx.Err() != nil {
			return
		}
	}
}

// idleSince reports whether a version in force has not been used since then and may become Inactive. A use that is not
// remembered counts as one at the start of this platform.
func (p *Placer) idleSince(f *thaw.Function, v *thaw.Version, then time.Time) bool {
	if v.LastModified.After(then) || f.ProvisionedFor(v.Number) > 0 || unprepared(f, v.Number) != nil {
		return false
	}
	key := keyOf(v)
	p.mu.RLock()
	fleet, known := p.fleets[key], p.recent[key.name()].Used
	p.mu.RUnlock()
	if known.IsZero() || known.UnixMicro() == v.LastModified.UnixMicro() { // not used since it was made
		known = p.began
	}
	return !known.After(then) && (fleet == nil || !fleet.usedSince(then))
}

// usedSince reports whether requests were served after then, or are now.
func (f *fleet) usedSince(then time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tally[busy] > 0 || len(f.waiters) > 0 || f.used.Load() > then.UnixMicro()
}

func (p *Placer) deactivate(ctx context.Context, v *thaw.Version, before time.Time) {
	_, err := p.cfg.Store.UpdateFunction(ctx, v.Function, func(f *thaw.Function) error {
		now := f.InForce(v.Number)
		if now == nil || now.Generation != v.Generation || !p.idleSince(f, now, before) {
			return errSuperseded
		}
		setState(f, v.Number, thaw.StateInactive, reasonIdle, codeIdle)
		return nil
	})
	switch {
	case err == nil:
		p.cfg.Log.Info("a version is inactive: it has not been used for long", "function", v.Function, "version", v.Number)
	case !expected(err) && ctx.Err() == nil:
		p.cfg.Log.Error("cannot make an idle version inactive", "function", v.Function, "version", v.Number, "error", err)
	}
}

// setState changes a version's state; of $LATEST also that of what is in force, so that it is not any more.
func setState(f *thaw.Function, number string, s thaw.State, reason, code string) {
	v := f.Version(number)
	v.State, v.StateReason, v.StateReasonCode = s, reason, code
	if number == thaw.Latest && f.Running != nil {
		f.Running.State, f.Running.StateReason, f.Running.StateReasonCode = s, reason, code
	}
}

// expected reports whether a write failed only since somebody else's came first.
func expected(err error) bool {
	return errors.Is(err, state.ErrNotFound) || errors.Is(err, errSuperseded)
}

// Wake has an inactive version made ready again, in the background. It never waits.
func (p *Placer) Wake(v *thaw.Version) { p.waking.add(slot{v.Function, v.Number}) }

// awaken makes an inactive version Pending, from where it is prepared. An update that is in progress ends in Active by
// itself.
func (p *Placer) awaken(ctx context.Context, s slot) {
	_, err := p.cfg.Store.UpdateFunction(ctx, s.function, func(f *thaw.Function) error {
		v := f.Version(s.version)
		if v == nil || v.State != thaw.StateInactive || v.LastUpdate == thaw.UpdateInProgress {
			return errSuperseded
		}
		setState(f, s.version, thaw.StatePending, reasonRestoring, codeRestoring)
		return nil
	})
	if err == nil { // or it would be idle again as soon as it is ready
		name := fleetKey{function: s.function, version: s.version}.name()
		p.mu.Lock()
		p.recent[name] = usage{Used: time.Now(), Burst: p.recent[name].Burst}
		p.mu.Unlock()
	}
	if err != nil && !expected(err) && ctx.Err() == nil {
		p.cfg.Log.Error("cannot wake an inactive version", "function", s.function, "version", s.version, "error", err)
	}
}
