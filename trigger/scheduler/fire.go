package scheduler

import (
	"context"
	"errors"
	"time"

	"thaw/state"
	"thaw/trigger/events"
)

var (
	errFired   = errors.New("the slot has been fired")
	errHeld    = errors.New("another node fires it")
	errNotOurs = errors.New("the record is of another definition")
)

// fire claims a slot, delivers what is to be sent for it, and notes that. An older slot that another node has claimed and
// not finished comes first. It gives the time at which to try again, zero where nothing is left to do.
func (l *Loop) fire(ctx context.Context, e *entry, newest time.Time) (again time.Time) {
	slot, until, err := l.claim(ctx, e, newest)
	switch {
	case errors.Is(err, errFired):
		return time.Time{}
	case errors.Is(err, errHeld):
		return until
	case err == nil && !e.delivered.Equal(slot):
		if err = l.send(ctx, e, slot); err == nil {
			e.delivered = slot
		}
	}
	if err == nil {
		err = l.finish(ctx, e, slot)
	}
	if err != nil {
		if ctx.Err() == nil {
			l.cfg.Log.Error("a schedule cannot be fired for now", "schedule", e.key, "slot", slot, "error", err)
		}
		return l.cfg.Now().Add(tryAgain)
	}
	l.fired.Add(1)
	if slot.Before(newest) {
		return l.cfg.Now()
	}
	if _, more := e.agenda.after(slot); !more {
		l.complete(ctx, e)
	}
	return time.Time{}
}

// claim makes a slot this node's for claimTime: the newest, or one before it that a node had claimed when it died. errFired
// says that it has been fired, errHeld that another node has the claim until then.
func (l *Loop) claim(ctx context.Context, e *entry, newest time.Time) (slot, until time.Time, err error) {
	take := func(p *progress) error {
		now := l.cfg.Now().UTC()
		if p.ID != e.id {
			*p = progress{ID: e.id}
		}
		slot = newest
		switch {
		case p.fired(newest):
			e.progress = *p
			return errFired
		case p.Claim.held(l.node, now):
			until = p.Claim.Until
			return errHeld
		case p.Claim != nil && p.Claim.Slot.Before(newest) && !p.fired(p.Claim.Slot) && now.Sub(p.Claim.Slot.Add(e.agenda.shift)) <= l.limit(e):
			slot = p.Claim.Slot
		}
		p.Claim = &claim{Slot: slot, By: l.node, At: now, Until: now.Add(claimTime)}
		return nil
	}
	for {
		_, err := state.UpdateRecord(ctx, l.records.progress, e.key, take)
		if !errors.Is(err, state.ErrNotFound) {
			return slot, until, err
		}
		p := new(progress)
		if err := take(p); err != nil {
			return slot, until, err
		}
		if err := l.records.progress.Create(ctx, e.key, p); !errors.Is(err, state.ErrExists) {
			return slot, until, err
		}
	}
}

// finish notes that the slot was fired, and gives the claim back unless it has expired and is another node's by now.
func (l *Loop) finish(ctx context.Context, e *entry, slot time.Time) error {
	p, err := state.UpdateRecord(ctx, l.records.progress, e.key, func(p *progress) error {
		if p.ID != e.id {
			return errNotOurs
		}
		p.add(slot, e.agenda)
		if p.Claim != nil && p.Claim.By == l.node {
			p.Claim = nil
		}
		return nil
	})
	switch {
	case err == nil:
		e.progress = *p
	case errors.Is(err, errNotOurs), errors.Is(err, state.ErrNotFound): // it was deleted meanwhile
		err = nil
	}
	return err
}

// send delivers what an entry sends for a slot, to all of its targets.
func (l *Loop) send(ctx context.Context, e *entry, slot time.Time) error {
	if e.schedule != nil {
		return e.schedule.send(ctx, l.cfg.Account, slot, l.cfg.Deliver)
	}
	event := events.Scheduled(l.cfg.Account, events.DerivedID("rule", e.id, slot.Format(time.RFC3339Nano)), slot, e.rule)
	text, err := event.Encode()
	if err != nil {
		return err
	}
	return events.Send(ctx, l.cfg.Account, e.rule, events.Occasion{ID: event.ID, Event: text, At: slot, Once: true}, l.cfg.Deliver)
}

// complete deletes a schedule that will not be due any more, where its ActionAfterCompletion is DELETE. One that has been
// changed meanwhile stays.
func (l *Loop) complete(ctx context.Context, e *entry) {
	if e.schedule == nil || !e.schedule.DeleteAfter {
		return
	}
	err := state.DeleteRecord(ctx, l.records.schedules, e.schedule.Key(), func(s *Schedule) error {
		if s.ID != e.id || !s.Modified.Equal(e.schedule.Modified) {
			return errNotOurs
		}
		return nil
	})
	if err != nil && !errors.Is(err, errNotOurs) && !errors.Is(err, state.ErrNotFound) && ctx.Err() == nil {
		l.cfg.Log.Error("a completed schedule cannot be deleted", "schedule", e.key, "error", err)
	}
}
