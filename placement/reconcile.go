package placement

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"thaw"
	"thaw/state"
)

// How often tend looks.
const (
	freezeEvery = 25 * time.Millisecond
	expireEvery = time.Second
	keepEvery   = 10 * time.Second
)

// reconcilers bounds how many versions are prepared at the same time.
const reconcilers = 4

// retryPrepare is the pause after a preparation that failed for the platform's reasons.
const retryPrepare = time.Second

// tend freezes and ages idle environments until ctx ends.
func (p *Placer) tend(ctx context.Context) {
	freeze := time.NewTicker(freezeEvery)
	defer freeze.Stop()
	expire := time.NewTicker(expireEvery)
	defer expire.Stop()
	keep := time.NewTicker(keepEvery)
	defer keep.Stop()
	var idle <-chan time.Time // never
	if every := p.idleLook(); every > 0 {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		idle = ticker.C
	}
	defer p.keepRecent()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-freeze.C:
			p.freezeIdle(now.Add(-p.cfg.FreezeAfter))
		case now := <-expire.C:
			p.expireIdle(now)
			p.renewTemplates(now)
			p.restIdle()
			p.tendProvisioned()
			p.relieve(now)
		case <-keep.C:
			p.keepRecent()
		case now := <-idle:
			p.deactivateIdle(ctx, now)
		}
	}
}

func (p *Placer) freezeIdle(before time.Time) {
	p.freezeMu.Lock()
	fleets := p.unfrozen
	p.unfrozen = nil
	p.freezeMu.Unlock()
	for _, f := range fleets {
		f.noted.Store(false)
		old, more := f.unfrozen(before)
		for _, i := range old {
			if err := i.instance.Freeze(); err != nil {
				// It dies of this only if it was dead already; then the next claim or the ageing finds it.
				p.cfg.Log.Debug("cannot freeze an environment", "environment", i.instance.ID, "error", err)
			}
			// Here it keeps no request waiting.
			p.memory.Add(f.weigh(i.instance, !i.since.IsZero(), i.instance.UsedMemory()))
		}
		if more {
			p.noteUnfrozen(f)
		}
	}
}

func (p *Placer) expireIdle(now time.Time) {
	for _, f := range p.allFleets() {
		gone := f.expire(now)
		p.buryAll(gone)
		if slices.ContainsFunc(gone, func(i *Instance) bool { return f.aged(i, now) }) {
			p.wish(f.key, now) // for what shall take its place
		}
		p.forget(f)
	}
}

// buryAll ends environments that have been popped from their fleet.
func (p *Placer) buryAll(gone []*Instance) {
	for _, instance := range gone {
		p.bury(ending{instance: instance})
	}
}

// forget drops a retired fleet that is over.
func (p *Placer) forget(f *fleet) {
	if !f.over() {
		return
	}
	p.mu.Lock()
	if p.fleets[f.key] == f {
		delete(p.fleets, f.key)
	}
	p.mu.Unlock()
}

func (p *Placer) allFleets() []*fleet {
	p.mu.RLock()
	defer p.mu.RUnlock()
	fleets := make([]*fleet, 0, len(p.fleets))
	for _, f := range p.fleets {
		fleets = append(fleets, f)
	}
	return fleets
}

// reconcile follows the store: what it names is prepared, what has been replaced is retired.
func (p *Placer) reconcile(ctx context.Context) error {
	var group errgroup.Group
	for range reconcilers {
		group.Go(func() error { p.settling.serve(ctx, p.settle); return nil })
	}
	err := p.cfg.Store.Watch(ctx, p.follow)
	_ = group.Wait() // its functions return nil
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("placement: the store's change feed ended: %w", err)
}

// follow carries out one change of the store.
func (p *Placer) follow(c state.Change) {
	p.retireReplaced(c.Name)
	if f := c.Function; f != nil {
		p.dropUnsettled(f)
		for _, number := range numbers(f) {
			if unprepared(f, number) != nil {
				p.settling.add(slot{c.Name, number})
			} else if v := f.InForce(number); v != nil {
				if used := p.lastUse(v); p.worthTemplate(f, v, used) {
					p.wish(keyOf(v), used)
				}
			}
		}
	}
	p.plan(c.Name)
}

// retireReplaced ends the environments and templates of a function's versions that are not in force any more.
func (p *Placer) retireReplaced(name string) {
	f, ok := p.cfg.Store.Function(name)
	if !ok {
		f = nil
	}
	for _, fleet := range p.allFleets() {
		switch {
		case fleet.key.function != name:
		case f != nil && isCurrent(f, fleet.key):
			fleet.revive()
		default:
			p.remember(fleet)
			p.buryAll(fleet.retire())
			p.forget(fleet)
		}
	}
	// A start for an old version may have had its template made again while the update ended.
	p.dropTemplates(name, f)
	p.forgetGone(name, f)
}

// settle prepares a version and ends its creation, its update or its way back from Inactive. It tries again until it can
// say how that ended, there is nothing to prepare any more, or ctx ends.
func (p *Placer) settle(ctx context.Context, s slot) {
	for ctx.Err() == nil {
		f, ok := p.cfg.Store.Function(s.function)
		if !ok {
			return
		}
		v := unprepared(f, s.version)
		if v == nil {
			return
		}
		failure := p.prepare(ctx, f, v)
		if ctx.Err() != nil {
			return
		}
		if failure == nil {
			// What could only serve the old version goes before the new one is announced.
			p.dropIf(func(key fleetKey, _ *held) bool {
				return key.function == s.function && key.version == s.version && key.generation != v.Generation
			})
		}
		err := p.record(ctx, s, v.Generation, failure)
		if err == nil || expected(err) {
			return
		}
		p.cfg.Log.Error("cannot end an update; it is tried again", "function", s.function, "version", s.version, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryPrepare):
		}
	}
}

// prepare brings to this node what a version needs: its code and layers, and its template if it can have one.
func (p *Placer) prepare(ctx context.Context, f *thaw.Function, v *thaw.Version) error {
	trees, err := p.fetch(ctx, v)
	if err != nil {
		return err
	}
	_, err = p.launch(ctx, v, trees)
	if _, ok := errors.AsType[*thaw.FunctionError](err); ok {
		return nil // the package lacks what the runtime starts: the invocations say so, as on AWS
	}
	if err != nil {
		return err
	}
	if err := p.buildTemplate(ctx, f, v, time.Now()); err != nil && ctx.Err() == nil {
		p.cfg.Log.Error("cannot make a template", "function", f.Name, "version", v.Number, "error", err)
	}
	return nil
}

var errSuperseded = errors.New("placement: the function has changed again")

// record writes how a preparation ended. From the moment in which this is stored, the version is in force, and what was in
// force under its number before is not.
func (p *Placer) record(ctx context.Context, s slot, generation uint64, failure error) error {
	_, err := p.cfg.Store.UpdateFunction(ctx, s.function, func(f *thaw.Function) error {
		prepared := unprepared(f, s.version)
		if prepared == nil || prepared.Generation != generation {
			return errSuperseded
		}
		v := f.Version(s.version)
		var reason, code string
		if failure != nil {
			reason, code = failureReason(failure)
		}
		switch {
		case restoring(v) && failure == nil:
			setState(f, s.version, thaw.StateActive, "", "")
		case restoring(v):
			setState(f, s.version, thaw.StateInactive, reason, code)
		case failure == nil:
			v.State, v.StateReason, v.StateReasonCode = thaw.StateActive, "", ""
			v.LastUpdate, v.LastUpdateReason, v.LastUpdateCode = thaw.UpdateSuccessful, "", ""
			if s.version == thaw.Latest {
				v.RevisionID = uuid.NewString()
				running := *v
				f.Running = &running
			}
		default:
			if v.State == thaw.StatePending {
				v.State, v.StateReason, v.StateReasonCode = thaw.StateFailed, reason, code
			}
			v.LastUpdate, v.LastUpdateReason, v.LastUpdateCode = thaw.UpdateFailed, reason, code
			if s.version == thaw.Latest {
				v.RevisionID = uuid.NewString()
			}
		}
		return nil
	})
	if failure != nil && err == nil {
		p.cfg.Log.Warn("a version cannot run", "function", s.function, "version", s.version, "error", failure)
	}
	return err
}

// failureReason is a failure's sentence and AWS's reason code for it.
func failureReason(err error) (reason, code string) {
	known, ok := errors.AsType[*thaw.Error](err)
	if !ok {
		return "The platform could not prepare the function. The operator's log says why.", "InternalError"
	}
	switch known.Code {
	case thaw.CodeInvalidZip:
		return known.Message, "InvalidZipFileException"
	case thaw.CodeInvalidRuntime, thaw.CodeInvalidParameterValue:
		return known.Message, "InvalidRuntime"
	default:
		return known.Message, "InternalError"
	}
}
