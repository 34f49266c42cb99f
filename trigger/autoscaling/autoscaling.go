// Package autoscaling is the loop of Application Auto Scaling: it changes the provisioned concurrency of functions as
// target tracking policies and scheduled actions say, and keeps a record of what it did. The API over the same records
// is another package's.
//
// Once a second it looks at every scalable target:
//
//	scheduled actions ──▶ bounds ──▶ capacity within the bounds ──▶ utilisation ──▶ capacity
//	  at their times      stored     once per registration and     one datapoint    in proportion, see decide
//	                                 scheduled action, as on AWS
//
// What it asks for is an activity that goes
//
//	InProgress ──▶ Successful   that many environments are there
//	           ├─▶ Overridden   something else was asked for in the meantime
//	           └─▶ Unfulfilled  not within ten minutes
//
// and Failed from the beginning where the Lambda API refuses it. Utilisation is that of the environments on this node;
// one node runs the loop. There are no locks: Run is one goroutine and shares nothing.
package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"thaw"
)

// Functions is the catalog of functions.
type Functions interface {
	Function(name string) (*thaw.Function, bool)
}

// Config is what a Loop needs. All fields but AWSPace, Now and Log are required.
type Config struct {
	Records   *Records
	Functions Functions
	// Provision sets the provisioned concurrency of a function's qualifier; 0 takes it away. It refuses what the Lambda
	// API's PutProvisionedConcurrencyConfig refuses, with the same errors.
	Provision func(ctx context.Context, function, qualifier string, n int) error
	// Usage tells how many of the initialised provisioned environments of a qualifier are busy, and how many there are.
	// ok is false where nothing is known of it.
	Usage func(function, qualifier string) (inFlight, allocated int, ok bool)
	// AWSPace has utilisation judged as AWS's alarms do: averages of minutes, 3 in a row to scale out and 15 to scale
	// in, and no scaling in without traffic. Otherwise a second above the target scales out, and 15 below scale in.
	AWSPace bool
	// Now is the clock, nil for the machine's.
	Now func() time.Time
	// Log gets what has no other way out. Nil means slog.Default().
	Log *slog.Logger
}

// Loop carries out scaling. New makes it, Run runs it.
type Loop struct {
	cfg     Config
	pace    pace
	follows map[string]*follow // by resource
	said    string             // the last failure that was logged
	forgot  time.Time          // when old activities were last looked for
}

// follow is what is known of one target beyond its record; it begins anew with the process.
type follow struct {
	id      string // Target.ID
	history []Activity
	meter   meter
	agendas map[string]*agenda // by the action's id
	// refused is the capacity that could not be had, and when: it is not asked for again every second.
	refused   int
	refusedAt time.Time
	// why is the reason of not scaling that holds now, noted the one that was recorded last, at notedAt.
	why     string
	noted   string
	notedAt time.Time
}

const (
	tickEvery    = time.Second
	retryAfter   = time.Minute
	noteAgain    = 10 * time.Minute
	fulfilWithin = 10 * time.Minute
	forgetEvery  = time.Hour
)

// New makes a loop. The error says which field of cfg is missing.
func New(cfg Config) (*Loop, error) {
	if cfg.Records == nil || cfg.Functions == nil || cfg.Provision == nil || cfg.Usage == nil {
		return nil, errors.New("trigger/autoscaling: Records, Functions, Provision and Usage are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	l := &Loop{cfg: cfg, pace: promptly, follows: map[string]*follow{}}
	if cfg.AWSPace {
		l.pace = asAWS
	}
	return l, nil
}

// Run scales until ctx ends, and then returns nil. A failure is logged and tried again.
func (l *Loop) Run(ctx context.Context) error {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := l.Tick(ctx, l.cfg.Now().UTC())
		switch {
		case err == nil:
			l.said = ""
		case ctx.Err() == nil && err.Error() != l.said:
			l.said = err.Error()
			l.cfg.Log.Error("automatic scaling failed", "error", err)
		}
	}
}

// Tick looks at every target once, now being the time: what Run does every second. A failure with one target does not
// keep it from the others. It must not be called while Run runs.
func (l *Loop) Tick(ctx context.Context, now time.Time) error {
	targets, err := l.cfg.Records.Targets(ctx)
	if err != nil {
		return err
	}
	present := make(map[string]*follow, len(targets))
	var failed []error
	for _, t := range targets {
		f := l.follows[t.ResourceID()]
		if f == nil || f.id != t.ID {
			f = &follow{id: t.ID}
			if f.history, err = l.cfg.Records.Activities(ctx, t.ResourceID(), now); err != nil {
				failed = append(failed, err)
				continue
			}
		}
		present[t.ResourceID()] = f
		if err := l.scale(ctx, t, f, now); err != nil {
			failed = append(failed, fmt.Errorf("scaling %s: %w", t.ResourceID(), err))
		}
	}
	l.follows = present
	if now.Sub(l.forgot) >= forgetEvery {
		l.forgot = now
		failed = append(failed, l.cfg.Records.forget(ctx, now))
	}
	return errors.Join(failed...)
}

// scale does one target's part of a tick.
func (l *Loop) scale(ctx context.Context, t *Target, f *follow, now time.Time) error {
	t, err := l.runScheduled(ctx, t, f, now)
	if err != nil {
		return err
	}
	fn, ok := l.cfg.Functions.Function(t.Function)
	if !ok || !active(fn, t.Qualifier) {
		f.meter = meter{} // nothing to scale, or not yet
		return nil
	}
	current := fn.Provisioned[t.Qualifier].Requested
	inFlight, allocated, known := l.cfg.Usage(t.Function, t.Qualifier)
	if !known {
		inFlight, allocated = 0, 0
	}
	if err := l.settle(ctx, t, f, current, allocated, now); err != nil {
		return err
	}
	if t.Bounds != t.Enforced {
		return l.enforce(ctx, t, f, current, now)
	}
	if !f.meter.add(l.pace, now, inFlight, allocated, known) {
		return nil
	}
	d := decide(situation{
		pace: l.pace, points: f.meter.points, policy: t.Policy, current: current, min: t.Min, max: t.Max,
		suspend: t.Suspended, history: f.history, now: now,
	})
	return l.carryOut(ctx, t, f, current, d, now)
}

// active reports whether a qualifier of a function is there and can be invoked.
func active(fn *thaw.Function, qualifier string) bool {
	if alias, ok := fn.Aliases[qualifier]; ok {
		qualifier = alias.Version
	}
	return qualifier != thaw.Latest && fn.InForce(qualifier) != nil
}

// settle ends the activity that is under way, when it has.
func (l *Loop) settle(ctx context.Context, t *Target, f *follow, current, allocated int, now time.Time) error {
	i := underWay(f.history)
	if i < 0 {
		return nil
	}
	a := f.history[i]
	switch {
	case current != a.To:
		a.Status = StatusOverridden
		a.Message = fmt.Sprintf("Successfully set desired concurrency to %d. It was set to %d before the change was fulfilled by lambda.", a.To, current)
	case a.To >= a.From && allocated >= a.To, a.To < a.From && allocated <= a.To:
		a.Status = StatusSuccessful
		a.Message = fmt.Sprintf("Successfully set desired concurrency to %d. Change successfully fulfilled by lambda.", a.To)
	case now.Sub(a.Start) >= fulfilWithin:
		a.Status = StatusUnfulfilled
		a.Message = fmt.Sprintf("Successfully set desired concurrency to %d. Change was not fulfilled by lambda: %d were there after %s.", a.To, allocated, fulfilWithin)
	default:
		return nil
	}
	a.End = now
	return l.replace(ctx, t, f, a, now)
}

// underWay is the index of the newest activity that is in progress, or -1. There is at most one: a new one overrides it.
func underWay(history []Activity) int {
	for i := range history {
		if history[i].Status == StatusInProgress {
			return i
		}
	}
	return -1
}

// enforce brings the capacity within the bounds, as AWS does when they are set: it does not keep to it, so that a
// capacity set by hand afterwards stays.
func (l *Loop) enforce(ctx context.Context, t *Target, f *follow, current int, now time.Time) error {
	to, cause := current, ""
	switch {
	case current < t.Min:
		to, cause = t.Min, fmt.Sprintf("minimum capacity was set to %d", t.Min)
	case current > t.Max:
		to, cause = t.Max, fmt.Sprintf("maximum capacity was set to %d", t.Max)
	}
	if to != current {
		if err := l.set(ctx, t, f, now, Activity{Cause: cause, From: current, To: to, Base: current}); err != nil {
			return err
		}
	}
	seen := t.Bounds
	_, err := l.cfg.Records.Update(ctx, t.ResourceID(), func(t *Target) error {
		if t.ID == f.id {
			t.Enforced = max(t.Enforced, seen)
		}
		return nil
	})
	return err
}

// carryOut does what was decided, or notes why it is not done: once, and not again and again where it comes and goes.
func (l *Loop) carryOut(ctx context.Context, t *Target, f *follow, current int, d decision, now time.Time) error {
	known := d.why == f.why || d.why == f.noted && now.Sub(f.notedAt) < noteAgain
	f.why = d.why
	switch {
	case d.to == current && (d.why == "" || known):
		return nil
	case d.why != "":
		f.noted, f.notedAt = d.why, now
	case d.to == f.refused && now.Sub(f.refusedAt) < retryAfter:
		return nil
	}
	alarm := t.Policy.AlarmLowName(t.ResourceID())
	if d.high {
		alarm = t.Policy.AlarmHighName(t.ResourceID())
	}
	a := Activity{
		Cause:  fmt.Sprintf("monitor alarm %s in state ALARM triggered policy %s", alarm, t.Policy.Name),
		Policy: t.Policy.Name, From: current, To: d.to, Base: d.base,
	}
	if d.why == "" {
		return l.set(ctx, t, f, now, a)
	}
	a.Description = "Attempting to scale due to alarm triggered"
	a.Status, a.Start, a.End = StatusSuccessful, now, now
	a.NotScaled, a.Min, a.Max = d.why, t.Min, t.Max
	return l.note(ctx, t, f, now, a)
}

// set asks for the capacity a.To and notes what came of it.
func (l *Loop) set(ctx context.Context, t *Target, f *follow, now time.Time, a Activity) error {
	a.Start = now
	a.Description = fmt.Sprintf("Setting desired concurrency to %d.", a.To)
	a.Status = StatusInProgress
	a.Message = fmt.Sprintf("Successfully set desired concurrency to %d. Waiting for change to be fulfilled by lambda.", a.To)
	if err := l.cfg.Provision(ctx, t.Function, t.Qualifier, a.To); err != nil {
		if ctx.Err() != nil {
			return err
		}
		reason := "lambda failed to answer; its log has the reason."
		if told, ok := errors.AsType[*thaw.Error](err); ok {
			reason = told.Message
		} else {
			l.cfg.Log.Error("provisioned concurrency cannot be set", "resource", t.ResourceID(), "concurrency", a.To, "error", err)
		}
		f.refused, f.refusedAt = a.To, now
		a.Status, a.End = StatusFailed, now
		a.Message = fmt.Sprintf("Failed to set desired concurrency to %d. Reason: %s", a.To, reason)
	}
	return l.note(ctx, t, f, now, a)
}

// note records a new activity. One that takes effect overrides the one under way.
func (l *Loop) note(ctx context.Context, t *Target, f *follow, now time.Time, a Activity) error {
	a.ID = uuid.NewString()
	history, err := l.cfg.Records.record(ctx, t.ResourceID(), now, func(h []Activity) []Activity {
		if i := underWay(h); i >= 0 && a.Status == StatusInProgress {
			h[i].Status, h[i].End = StatusOverridden, now
			h[i].Message = fmt.Sprintf("Successfully set desired concurrency to %d. It was set to %d before the change was fulfilled by lambda.", h[i].To, a.To)
		}
		a.Number = 1
		if len(h) > 0 {
			a.Number = h[0].Number + 1
		}
		return append([]Activity{a}, h...)
	})
	if err == nil {
		f.history = history
	}
	return err
}

// replace stores a changed activity.
func (l *Loop) replace(ctx context.Context, t *Target, f *follow, a Activity, now time.Time) error {
	history, err := l.cfg.Records.record(ctx, t.ResourceID(), now, func(h []Activity) []Activity {
		for i := range h {
			if h[i].ID == a.ID {
				h[i] = a
			}
		}
		return h
	})
	if err == nil {
		f.history = history
	}
	return err
}
