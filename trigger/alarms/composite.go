package alarms

import (
	"context"
	"maps"
	"sort"
	"strings"
	"time"
)

// combine judges the composite alarms. One that depends on another follows it at the next tick.
func (l *Loop) combine(ctx context.Context, now time.Time) error {
	type composite struct {
		job
		rule   *Rule
		before map[string]State
	}
	var list []composite
	states := map[string]*Status{}
	l.mu.Lock()
	for name, k := range l.known {
		states[name] = &k.alarm.Status
		if k.rule != nil {
			list = append(list, composite{job{alarm: k.alarm}, k.rule, k.states})
		}
	}
	l.mu.Unlock()
	sort.Slice(list, func(i, j int) bool { return list[i].alarm.Name < list[j].alarm.Name })
	for _, c := range list {
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
			if a.Status.Value == value {
				return false
			}
			a.Set(value, cut(reason, 1023), data, now)
			return true
		})
		if err != nil {
			return err
		}
		l.mu.Lock()
		if k := l.known[c.alarm.Name]; k != nil && k.rule == c.rule {
			k.states = seen
		}
		l.mu.Unlock()
	}
	return nil
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
