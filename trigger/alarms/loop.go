// Package alarms evaluates CloudWatch alarms: it compares metrics, or other alarms' states, with what an alarm says, keeps
// the state, and does what is to be done when the state changes. The API over the same records is another package's.
//
//	metrics ──▶ judge ──▶ state changes ──▶ one write: state, and an outbox of
//	                                        history, event, actions
//	outbox  ──▶ history is written, actions are carried out ──▶ taken out of the outbox
//
// So nothing that a change brings about is lost with the process. What was done and not yet taken out is done again, with the
// same id: at least once.
//
// Alarms with periods of a minute or more are evaluated once a minute, those that look back more than a day once an hour, others
// every ten seconds, and all when they have been changed. An evaluation looks at periods that are over, as they slide: the last one
// ends with the last minute, or hour. Composite alarms are evaluated every second.
//
// One node runs the loop. Locks: Loop.mu guards what is known of alarms; nothing is called while it is held.
package alarms

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"thaw"
	"thaw/trigger/delivery"
)

// Functions is the catalog of functions.
type Functions interface {
	Function(name string) (*thaw.Function, bool)
}

// Config is what a Loop needs. Publish, Now and Log may be nil.
type Config struct {
	Account   thaw.Account
	Records   *Records
	Functions Functions
	// Values gives the values, in the order of time, of the one of the queries that is returned: periods that begin at from
	// and end at to. An error with a code that blames the request is not tried again before the alarm has been changed or a
	// minute has gone by.
	Values func(ctx context.Context, queries []Query, from, to time.Time) ([]Point, error)
	// Deliver brings something to a function or a queue, or stores it to be tried again; delivery.Deliverer's.
	Deliver func(ctx context.Context, x delivery.Delivery) error
	// HasQueue tells whether there is a queue of that name.
	HasQueue func(name string) bool
	// Publish sends an event to the default event bus; nil: there is none.
	Publish func(ctx context.Context, e Event) error
	// Now is the clock, nil for the machine's.
	Now func() time.Time
	// Log gets what has no other way out. Nil means slog.Default().
	Log *slog.Logger
}

// Loop evaluates alarms. New makes it, Run runs it.
type Loop struct {
	cfg      Config
	webhooks *http.Client
	// direct and calls bound what is under way at a time, so that webhooks that hang keep nothing else up.
	direct, calls chan struct{}
	working       sync.WaitGroup

	mu    sync.Mutex
	known map[string]*known
	busy  map[string]bool // by name, with a "!" before it for webhooks
	hosts map[string]int  // of webhooks that are called now, the first of each alarm's

	said   string    // the last failure that was logged
	forgot time.Time // when old histories were last looked for
}

// known is what is known of one alarm.
type known struct {
	alarm *Alarm
	// end is the end of the last period that was judged, of the alarm as it was changed last at updated.
	end     int64
	updated time.Time
	rule    *Rule
	states  map[string]State // of a composite alarm's children, when it was judged last
	// direct and calls are what was done and could not be noted, of the two kinds of tasks; whoever is busy with them may
	// look.
	direct, calls *outcome
}

const (
	tickEvery   = time.Second
	settleTime  = 2 * time.Second // until what happened in a period is counted
	evaluators  = 4
	workers     = 16 // of direct actions, and as many of webhooks
	perHost     = 4  // of webhooks, so that a host that hangs leaves slots to others
	lastWait    = time.Minute
	forgetEvery = time.Hour
	// giveUpAfter bounds how long a direct action is tried that cannot even be stored.
	giveUpAfter = 24 * time.Hour
)

// New makes a loop. The error says what is missing in cfg.
func New(cfg Config) (*Loop, error) {
	if cfg.Records == nil || cfg.Functions == nil || cfg.Values == nil || cfg.Deliver == nil || cfg.HasQueue == nil {
		return nil, errors.New("trigger/alarms: Records, Functions, Values, Deliver and HasQueue are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Loop{
		cfg: cfg, webhooks: newWebhooks(), direct: make(chan struct{}, workers), calls: make(chan struct{}, workers),
		known: map[string]*known{}, busy: map[string]bool{}, hosts: map[string]int{},
	}, nil
}

// Run evaluates alarms and carries out actions until ctx ends, and then returns nil.
func (l *Loop) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	ready := make(chan struct{})
	var once sync.Once
	var following sync.WaitGroup
	var failed error
	following.Go(func() {
		defer stop()
		failed = l.cfg.Records.alarms.Follow(ctx, l.changed, func() { once.Do(func() { close(ready) }) })
	})
	defer func() {
		stop()
		following.Wait()
		l.working.Wait()
	}()
	select {
	case <-ctx.Done():
		following.Wait()
		return failed
	case <-ready:
	}
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		err := l.Tick(ctx, l.cfg.Now().UTC())
		switch {
		case err == nil:
			l.said = ""
		case ctx.Err() == nil && err.Error() != l.said:
			l.said = err.Error()
			l.cfg.Log.Error("alarms cannot all be evaluated; this is tried again every second", "error", err)
		}
		select {
		case <-ctx.Done():
			following.Wait()
			return failed
		case <-ticker.C:
		}
	}
}

// changed takes in what is stored of an alarm.
func (l *Loop) changed(name string, value json.RawMessage) {
	if value == nil {
		l.mu.Lock()
		delete(l.known, name)
		l.mu.Unlock()
		return
	}
	a := new(Alarm)
	if err := json.Unmarshal(value, a); err != nil {
		l.cfg.Log.Error("a stored alarm cannot be read and is left where it is", "alarm", name, "error", err)
		return
	}
	l.learn(a)
}

// learn notes an alarm as it is stored, unless something newer is known of it.
func (l *Loop) learn(a *Alarm) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.known[a.Name]
	switch {
	case k == nil || !k.alarm.Created.Equal(a.Created):
		k = &known{}
		l.known[a.Name] = k
	case k.alarm.Change >= a.Change:
		return
	}
	k.alarm = a
	if a.Composite != nil && (k.rule == nil || !k.updated.Equal(a.Updated)) {
		k.rule, _ = ParseRule(a.Composite.Rule) // it was checked when it was put
		k.states = nil
	}
	if !k.updated.Equal(a.Updated) {
		k.end, k.updated = 0, a.Updated
	}
}

// drop forgets an alarm that turned out to be gone.
func (l *Loop) drop(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, name)
}

// job is an alarm that is due, with the end of its last period.
type job struct {
	alarm *Alarm
	end   int64
}

// Tick evaluates what is due at a time and begins what waits in outboxes: what Run does every second. A failure with one
// alarm does not keep it from the others. It must not be called while Run runs, nor before alarms are known.
func (l *Loop) Tick(ctx context.Context, now time.Time) error {
	var jobs []job
	l.mu.Lock()
	for _, k := range l.known {
		if m := k.alarm.Metric; m != nil {
			if end := m.lastEnd(now); end != k.end {
				jobs = append(jobs, job{k.alarm, end})
			}
		}
	}
	l.mu.Unlock()
	var evaluating sync.WaitGroup
	slots := make(chan struct{}, evaluators)
	failures := make(chan error, len(jobs)+1)
	for _, j := range jobs {
		slots <- struct{}{}
		evaluating.Go(func() {
			defer func() { <-slots }()
			failures <- l.evaluate(ctx, j, now)
		})
	}
	evaluating.Wait()
	if now.Sub(l.forgot) >= forgetEvery {
		l.forgot = now
		failures <- l.cfg.Records.forget(ctx, now, maxHistories)
	}
	close(failures)
	var failed []error
	for err := range failures {
		if err != nil && len(failed) < 10 {
			failed = append(failed, err)
		}
	}
	failed = append(failed, l.combine(ctx, now))
	l.dispatch(ctx, now)
	return errors.Join(failed...)
}

// lastEnd is the end of the last period that is over at a time. Alarms that look back more than a day are evaluated once an hour,
// by what came before it: AWS's page "Alarm evaluation", under multi-day alarms.
func (m *Metric) lastEnd(now time.Time) int64 {
	step := int64(60)
	switch period := m.Period(); {
	case period < 60:
		step = 10
	case period*m.Evaluation > 24*60*60:
		step = 60 * 60
	}
	at := now.Add(-settleTime).Unix()
	return at - at%step
}

// evaluate judges one metric alarm.
func (l *Loop) evaluate(ctx context.Context, j job, now time.Time) error {
	m := j.alarm.Metric
	n, period := m.Evaluation+spare, int64(m.Period())
	from := j.end - int64(n)*period
	points, err := l.cfg.Values(ctx, m.Queries, time.Unix(from, 0).UTC(), time.Unix(j.end, 0).UTC())
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if blames(err) {
			return l.cannot(ctx, j, err, now)
		}
		return err
	}
	values := make([]Point, n)
	for i := range values {
		values[i] = Point{At: j.end - int64(i+1)*period, Value: math.NaN()}
	}
	for _, p := range points {
		if i := (j.end-p.At)/period - 1; p.At >= from && i >= 0 && i < int64(n) {
			values[i].Value = p.Value
		}
	}
	v := m.judge(values)
	if !v.keep && m.LowSample == LowSampleIgnore {
		if v.keep, err = l.tooFew(ctx, m, &v, from, j.end); err != nil {
			return err
		}
	}
	return l.decided(ctx, j, func(a *Alarm) bool {
		cured := a.Problem != ""
		a.Problem = ""
		if v.keep || v.state == a.Status.Value && !cured {
			return cured
		}
		a.Set(v.state, cut(m.reason(&v), 1023), m.reasonData(&v, now, values[:min(n, m.Evaluation)]), now)
		return true
	})
}

const evaluationError = "EVALUATION_ERROR"

// cannot says with the alarm why it is not evaluated. It stays in its state.
func (l *Loop) cannot(ctx context.Context, j job, why error, now time.Time) error {
	return l.decided(ctx, j, func(a *Alarm) bool {
		text := cut("The alarm cannot be evaluated: "+message(why), 1023)
		if a.Problem == evaluationError && a.Status.Reason == text {
			return false
		}
		a.Problem, a.Status.Reason, a.Status.Data, a.Status.Updated = evaluationError, text, "", now
		return true
	})
}

// decided stores what change makes of an alarm, if it is still the one that was judged, and notes that it was judged. change
// reports whether there is anything to store; it may be called more than once, with copies.
func (l *Loop) decided(ctx context.Context, j job, change func(*Alarm) bool) error {
	trial := *j.alarm
	trial.Outbox = slices.Clone(trial.Outbox)
	if change(&trial) {
		stored, err := l.cfg.Records.Update(ctx, j.alarm.Name, func(a *Alarm) error {
			if !a.Created.Equal(j.alarm.Created) || !a.Updated.Equal(j.alarm.Updated) || !change(a) {
				return errMoot
			}
			return nil
		})
		switch {
		case isGone(err):
			l.drop(j.alarm.Name)
			return nil
		case errors.Is(err, errMoot):
		case err != nil:
			return err
		default:
			l.learn(stored)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.known[j.alarm.Name]; k != nil && k.updated.Equal(j.alarm.Updated) && k.alarm.Created.Equal(j.alarm.Created) {
		k.end = j.end
	}
	return nil
}

// errMoot leaves an alarm as it is.
var errMoot = errors.New("moot")

// tooFew reports whether a percentile that was judged has too few values to say something.
func (l *Loop) tooFew(ctx context.Context, m *Metric, v *verdict, from, to int64) (bool, error) {
	q := *m.Returned()
	p, err := strconv.ParseFloat(strings.TrimPrefix(q.Stat, "p"), 64)
	if err != nil || !strings.HasPrefix(q.Stat, "p") || q.Expression != "" {
		return false, nil // no percentile
	}
	q.Stat = "SampleCount"
	counts, err := l.cfg.Values(ctx, []Query{q}, time.Unix(from, 0).UTC(), time.Unix(to, 0).UTC())
	if err != nil {
		return false, err
	}
	for _, c := range counts {
		if c.Value < enough(p) && slices.ContainsFunc(v.used, func(u Point) bool { return u.At == c.At }) {
			return true, nil
		}
	}
	return false, nil
}

// blames reports whether an error is the alarm's own fault.
func blames(err error) bool {
	switch thaw.CodeOf(err) {
	case thaw.CodeInvalidParameterValue, thaw.CodeParameterCombination, thaw.CodeValidation, thaw.CodeNotImplemented, thaw.CodeMissingParameter:
		return true
	}
	return false
}

// message is what a caller is told of an error.
func message(err error) string {
	if told, ok := errors.AsType[*thaw.Error](err); ok {
		return told.Message
	}
	return err.Error()
}
