package alarms

import (
	"context"
	"errors"
	"maps"
	"sort"
	"strings"
	"time"

	"thaw"
)

// composite is a composite alarm that is judged.
type composite struct {
	job
	rule   *Rule
	before map[string]State
}

// errCircular is why an alarm of a circle is not evaluated. AWS stops with such alarms too; they would turn for ever.
var errCircular = thaw.Errorf(thaw.CodeValidation, "its AlarmRule, or that of an alarm in it, leads back to itself. Change one of the rules.")

// combine judges the composite alarms. One that depends on another follows it at the next tick. A failure with one does not
// keep it from the others.
func (l *Loop) combine(ctx context.Context, now time.Time) error {
	var list []composite
	states := map[string]*Status{}
	l.mu.Lock()
	for _, k := range l.known {
		if k.rule != nil {
			list = append(list, composite{job{alarm: k.alarm}, k.rule, k.states})
		}
	}
	if len(list) > 0 {
		for name, k := range l.known {
			states[name] = &k.alarm.Status
		}
	}
	l.mu.Unlock()
	sort.Slice(list, func(i, j int) bool { return list[i].alarm.Name < list[j].alarm.Name })
	around := circular(list)
	var failed []error
	for _, c := range list {
		by := quiet
		if s := states[NameOf(c.alarm.Composite.Suppressor)]; s != nil && s.Value == InAlarm {
			by = alarming
		}
		if c.alarm.Status.SuppressedBy != "" {
			if err := l.decided(ctx, c.job, func(a *Alarm) bool { return a.held(by, now) }); err != nil {
				failed = append(failed, err)
				continue
			}
		}
		if around[c.alarm.Name] {
			if err := l.cannot(ctx, c.job, errCircular, now); err != nil {
				failed = append(failed, err)
			}
			l.saw(&c, nil)
			continue
		}
		seen := map[string]State{}
		for _, ref := range c.rule.Children {
			if s := states[NameOf(ref)]; s != nil {
				seen[NameOf(ref)] = s.Value
			}
		}
		if c.before != nil && maps.Equal(seen, c.before) {
			continue
		}
		value := OK
		if c.rule.Holds(func(ref string) State { return seen[NameOf(ref)] }) {
			value = InAlarm
		}
		reason, data := l.compositeReason(c.alarm, c.rule, states, c.before, value)
		err := l.decided(ctx, c.job, func(a *Alarm) bool {
			if a.Status.Value == value && a.Problem == "" {
				return false
			}
			a.Problem = ""
			a.set(value, cut(reason, 1023), data, by, now)
			return true
		})
		if err != nil {
			failed = append(failed, err)
			continue
		}
		l.saw(&c, seen)
	}
	return errors.Join(failed[:min(len(failed), 10)]...)
}

// saw notes what a composite alarm was judged by; nil: it is judged again at the next tick.
func (l *Loop) saw(c *composite, seen map[string]State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.known[c.alarm.Name]; k != nil && k.rule == c.rule {
		k.states = seen
	}
}

// circular gives the alarms that cannot be judged since they depend on themselves, or on others that do: those that are left
// when one after the other is taken out that depends on none that is left.
func circular(list []composite) map[string]bool {
	waits := make(map[string]int, len(list)) // for how many others
	for i := range list {
		waits[list[i].alarm.Name] = 0
	}
	parents := map[string][]string{}
	for i := range list {
		name := list[i].alarm.Name
		for _, ref := range list[i].rule.Children {
			if child := NameOf(ref); has(waits, child) {
				parents[child] = append(parents[child], name)
				waits[name]++
			}
		}
	}
	var free []string
	for name, n := range waits {
		if n == 0 {
			free = append(free, name)
		}
	}
	for len(free) > 0 {
		name := free[len(free)-1]
		free = free[:len(free)-1]
		for _, parent := range parents[name] {
			if waits[parent]--; waits[parent] == 0 {
				free = append(free, parent)
			}
		}
	}
	left := map[string]bool{}
	for name, n := range waits {
		if n > 0 {
			left[name] = true
		}
	}
	return left
}

func has[V any](m map[string]V, key string) bool {
	_, ok := m[key]
	return ok
}

// NameOf is an alarm's name where ref is its ARN, and ref where it is the name.
func NameOf(ref string) string {
	if strings.HasPrefix(ref, "arn:") {
		if _, name, ok := strings.Cut(ref, ":alarm:"); ok {
			return name
		}
	}
	return ref
}

// compositeReason words a composite alarm's state as CloudWatch does: by the child that changed last.
func (l *Loop) compositeReason(a *Alarm, r *Rule, states map[string]*Status, before map[string]State, value State) (reason, data string) {
	type childState struct {
		Value State  `json:"value"`
		At    string `json:"timestamp"`
	}
	type child struct {
		ARN   string     `json:"arn"`
		State childState `json:"state"`
	}
	var triggering []child
	var last *Status
	var by string
	for _, ref := range r.Children {
		name := NameOf(ref)
		s := states[name]
		if s == nil || before != nil && before[name] == s.Value {
			continue
		}
		if len(triggering) < datedPoints {
			triggering = append(triggering, child{ARN(l.cfg.Account, name), childState{s.Value, s.Updated.UTC().Format(stampFormat)}})
		}
		if last == nil || s.Updated.After(last.Updated) {
			last, by = s, name
		}
	}
	data = encode(map[string]any{"triggeringAlarms": triggering})
	if len(data) > 4000 || triggering == nil {
		data = ""
	}
	if before == nil || last == nil {
		verb := "updated"
		if a.Created.Equal(a.Updated) {
			verb = "created"
		}
		return ARN(l.cfg.Account, a.Name) + " was " + verb + " and its alarm rule evaluates to " + string(value), data
	}
	return ARN(l.cfg.Account, by) + " transitioned to " + string(last.Value) + " at " + last.Updated.UTC().Format(spokenFormat), data
}
