package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"thaw"
	"thaw/trigger/delivery"
	"thaw/trigger/pattern"
)

// Deliver brings one thing to one target, as (*delivery.Deliverer).Deliver does: an error says that it is nowhere.
type Deliver func(ctx context.Context, d delivery.Delivery) error

// Bus passes events to the rules that match them. New makes it; its methods may be called by many.
type Bus struct {
	account thaw.Account
	records *Records
	deliver Deliver
	now     func() time.Time
	log     *slog.Logger

	mu       sync.Mutex
	compiled map[string]*pattern.Pattern // by text, nil for one that cannot be compiled; at most maxCompiled
}

// maxCompiled bounds the compiled patterns that are kept. AWS has 300 rules on a bus.
const maxCompiled = 1000

// New makes the bus over records. now and log may be nil, for the machine's clock and slog.Default().
func New(account thaw.Account, records *Records, deliver Deliver, now func() time.Time, log *slog.Logger) *Bus {
	if now == nil {
		now = time.Now
	}
	if log == nil {
		log = slog.Default()
	}
	return &Bus{account: account, records: records, deliver: deliver, now: now, log: log, compiled: map[string]*pattern.Pattern{}}
}

// Publish passes events to the targets of all enabled rules with a matching pattern. When it returns, every target has
// stored what it gets, or that is stored to be tried again; failed[i] says that this could not be done for list[i], of
// which some targets may have been served nevertheless.
func (b *Bus) Publish(ctx context.Context, list []*Event) (failed []error) {
	failed = make([]error, len(list))
	rules, err := b.records.Rules(ctx, "")
	came := b.now()
	for i, e := range list {
		if err != nil {
			failed[i] = err
			continue
		}
		failed[i] = b.publish(ctx, e, came, rules)
	}
	return failed
}

func (b *Bus) publish(ctx context.Context, e *Event, came time.Time, rules []*Rule) error {
	text, err := e.Encode()
	if err != nil {
		return err
	}
	var failed []error
	for _, rule := range rules {
		if rule.State != Enabled || rule.Pattern == "" || len(rule.Targets) == 0 {
			continue
		}
		if p := b.compile(rule); p != nil && p.Match(text) {
			failed = append(failed, Send(ctx, b.account, rule, Occasion{ID: e.ID, Event: text, At: came, Trace: e.Trace}, b.deliver))
		}
	}
	return errors.Join(failed...)
}

// compile gives a rule's pattern, nil where it cannot be compiled: it was checked before it was stored.
func (b *Bus) compile(rule *Rule) *pattern.Pattern {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.compiled[rule.Pattern]
	if ok {
		return p
	}
	p, err := pattern.Compile([]byte(rule.Pattern))
	if err != nil {
		b.log.Error("a rule's stored event pattern cannot be compiled and matches nothing", "rule", rule.Name, "error", err)
		p = nil
	}
	if len(b.compiled) >= maxCompiled {
		clear(b.compiled)
	}
	b.compiled[rule.Pattern] = p
	return p
}

// space is the name space of the ids that are made from others.
var space = uuid.MustParse("6f1c9df4-8f9a-4b5e-9d3e-2a5e1c6b7f10")

// DerivedID is a UUID made of parts: the same for the same parts, so that a repeat is recognised.
func DerivedID(parts ...string) string {
	var all []byte
	for _, p := range parts {
		all = fmt.Appendf(all, "%d:%s", len(p), p)
	}
	return uuid.NewSHA1(space, all).String()
}

// Occasion is an event that a rule's targets get.
type Occasion struct {
	ID    string
	Event []byte    // encoded
	At    time.Time // when it came or was due
	Trace string    // an X-Ray trace header, empty for none
	Once  bool      // it may be a repeat, see delivery.Delivery
}

// Send delivers an event to all targets of a rule. A failure with one target does not keep it from the others.
func Send(ctx context.Context, account thaw.Account, rule *Rule, o Occasion, deliver Deliver) error {
	var failed []error
	for i := range rule.Targets {
		t := &rule.Targets[i]
		input, err := t.payload(moment{ruleARN: rule.ARN(account), ruleName: rule.Name, event: o.Event, came: o.At})
		if err != nil {
			failed = append(failed, fmt.Errorf("target %s of rule %s: %w", t.ID, rule.Name, err))
			continue
		}
		d := delivery.Delivery{
			ID: DerivedID(o.ID, rule.ID, t.ID), Kind: delivery.FromRule, Source: rule.ARN(account), Time: o.At, Target: t.ARN,
			Input: input, Event: o.Event, Policy: t.Policy(), Trace: o.Trace, Once: o.Once,
		}
		if t.Group != nil {
			d.Group = *t.Group
		}
		if t.DeadLetter != nil {
			d.DeadLetter = *t.DeadLetter
		}
		failed = append(failed, deliver(ctx, d))
	}
	return errors.Join(failed...)
}
