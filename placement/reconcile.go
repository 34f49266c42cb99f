package placement

import (
	"context"
	"errors"
	"fmt"
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

// reconcilers bounds how many functions are prepared at the same time.
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
	defer p.keepRecent()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-freeze.C:
			p.freezeIdle(now.Add(-p.cfg.FreezeAfter))
		case now := <-expire.C:
			p.expireIdle(now.Add(-p.cfg.KeepAlive), now)
			p.renewTemplates(now)
			p.relieve(now)
		case <-keep.C:
			p.keepRecent()
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
		for _, instance := range old {
			if err := instance.Freeze(); err != nil {
				// It dies of this only if it was dead already; then the next claim or the ageing finds it.
				p.cfg.Log.Debug("cannot freeze an environment", "environment", instance.ID, "error", err)
			}
		}
		if more {
			p.noteUnfrozen(f)
		}
	}
}

func (p *Placer) expireIdle(before, now time.Time) {
	for _, f := range p.allFleets() {
		p.buryAll(f.expire(before, now))
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
	changes := make(chan string, reconcilers)
	var group errgroup.Group
	for range reconcilers {
		group.Go(func() error {
			for name := range changes {
				p.settle(ctx, name)
			}
			return nil
		})
	}
	err := p.cfg.Store.Watch(ctx, func(c state.Change) {
		p.retireReplaced(c.Name)
		if c.Function == nil {
			return
		}
		if !needsPreparation(c.Function) {
			if c.Function.Running != nil {
				p.dropUnsettled(c.Function)
				p.wish(c.Name, p.lastUse(c.Function))
			}
			return
		}
		select {
		case changes <- c.Name:
		case <-ctx.Done():
		}
	})
	close(changes)
	_ = group.Wait() // its functions return nil
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("placement: the store's change feed ended: %w", err)
}

func needsPreparation(f *thaw.Function) bool {
	return f.Config.State == thaw.StatePending || f.Config.LastUpdate == thaw.UpdateInProgress
}

// retireReplaced ends the environments of a function's versions that are no longer current.
func (p *Placer) retireReplaced(name string) {
	f, ok := p.cfg.Store.Function(name)
	for _, fleet := range p.allFleets() {
		if fleet.key.function != name {
			continue
		}
		if ok && f.Running != nil && f.Running.Generation == fleet.key.generation {
			continue
		}
		p.remember(fleet)
		p.buryAll(fleet.retire())
		p.forget(fleet)
	}
	if ok && f.Running != nil && f.Running.Generation == f.Config.Generation {
		// A start for the old version may have had its template made again while the update ended.
		p.dropTemplates(name, f.Running.Generation)
	}
	if !ok {
		p.dropTemplates(name, 0)
		p.mu.Lock()
		delete(p.last, name)
		delete(p.recent, name)
		p.mu.Unlock()
	}
}

// settle prepares a function's newest configuration and ends its creation or update. It tries again until it can say
// how that ended, the function is gone, or ctx ends.
func (p *Placer) settle(ctx context.Context, name string) {
	for ctx.Err() == nil {
		f, ok := p.cfg.Store.Function(name)
		if !ok || !needsPreparation(f) {
			return
		}
		failure := p.prepare(ctx, f)
		if ctx.Err() != nil {
			return
		}
		if failure == nil {
			// What could only serve the old version goes before the new one is announced.
			p.dropTemplates(name, f.Config.Generation)
		}
		err := p.record(ctx, name, f.Config.Generation, failure)
		if err == nil || errors.Is(err, state.ErrNotFound) || errors.Is(err, errSuperseded) {
			return
		}
		p.cfg.Log.Error("cannot end an update; it is tried again", "function", name, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryPrepare):
		}
	}
}

// prepare brings to this node what the newest configuration needs: its code, and its template if it can have one.
func (p *Placer) prepare(ctx context.Context, f *thaw.Function) error {
	v := &f.Config
	dir, err := p.cfg.Packages.Dir(ctx, v.Code.SHA256)
	if err != nil {
		return err
	}
	_, err = p.cfg.Launcher.Launch(ctx, v, dir)
	if _, ok := errors.AsType[*thaw.FunctionError](err); ok {
		return nil // the package lacks what the runtime starts: the invocations say so, as on AWS
	}
	if err != nil {
		return err
	}
	if err := p.buildTemplate(ctx, f, v, time.Now()); err != nil && ctx.Err() == nil {
		p.cfg.Log.Error("cannot make a template", "function", f.Name, "error", err)
	}
	return nil
}

var errSuperseded = errors.New("placement: the function has changed again")

// record writes how a preparation ended. From the moment in which this is stored, the new version runs and the old one
// does not.
func (p *Placer) record(ctx context.Context, name string, generation uint64, failure error) error {
	_, err := p.cfg.Store.UpdateFunction(ctx, name, func(f *thaw.Function) error {
		c := &f.Config
		if c.Generation != generation || !needsPreparation(f) {
			return errSuperseded
		}
		c.RevisionID = uuid.NewString()
		if failure == nil {
			c.State, c.StateReason, c.StateReasonCode = thaw.StateActive, "", ""
			c.LastUpdate, c.LastUpdateReason, c.LastUpdateCode = thaw.UpdateSuccessful, "", ""
			running := *c
			f.Running = &running
			return nil
		}
		reason, code := failureReason(failure)
		if c.State == thaw.StatePending {
			c.State, c.StateReason, c.StateReasonCode = thaw.StateFailed, reason, code
		}
		c.LastUpdate, c.LastUpdateReason, c.LastUpdateCode = thaw.UpdateFailed, reason, code
		return nil
	})
	if failure != nil && err == nil {
		p.cfg.Log.Warn("a version cannot run", "function", name, "error", failure)
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
