package alarms

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestSuppression has the examples of AWS's page "Suppressing composite alarm actions": WaitPeriod is 2 units of time and
// ExtensionPeriod 3.
func TestSuppression(t *testing.T) {
	const unit = 2 * time.Second
	type moment struct {
		child, suppressor State  // changes
		by                string // then
		acted             string // states whose actions were taken, until then
	}
	for name, tt := range map[string]struct {
		before  State // of the suppressor
		moments []moment
	}{
		"1: not suppressed after WaitPeriod": {OK, []moment{
			1: {}, 2: {child: InAlarm, by: byWait}, 3: {by: byWait}, 4: {acted: "ALARM"}, 5: {acted: "ALARM"},
		}},
		"2: suppressed by alarm before WaitPeriod expires": {OK, []moment{
			2: {child: InAlarm, by: byWait}, 3: {suppressor: InAlarm, by: byAlarm}, 4: {by: byAlarm}, 9: {by: byAlarm},
		}},
		"3: transition within WaitPeriod": {OK, []moment{
			2: {child: InAlarm, by: byWait}, 3: {child: OK, by: byWait}, 4: {by: byWait}, 5: {acted: "OK"}, 6: {acted: "OK"},
		}},
		"4: suppressed by alarm": {InAlarm, []moment{
			2: {child: InAlarm, by: byAlarm}, 6: {by: byAlarm},
		}},
		"5: not suppressed after ExtensionPeriod": {OK, []moment{
			2: {child: InAlarm, by: byWait}, 3: {suppressor: InAlarm, by: byAlarm}, 6: {suppressor: OK, by: byExtension}, 8: {by: byExtension}, 9: {acted: "ALARM"}, 12: {acted: "ALARM"},
		}},
		"6: transition within ExtensionPeriod": {OK, []moment{
			2: {child: InAlarm, by: byWait}, 3: {suppressor: InAlarm, by: byAlarm}, 6: {suppressor: OK, by: byExtension}, 7: {child: OK, by: byWait}, 8: {by: byWait}, 9: {acted: "OK"},
		}},
		"the suppressor comes back within ExtensionPeriod": {InAlarm, []moment{
			2: {child: InAlarm, by: byAlarm}, 3: {suppressor: OK, by: byExtension}, 4: {suppressor: InAlarm, by: byAlarm}, 9: {by: byAlarm},
		}},
		"nothing has changed": {InAlarm, []moment{3: {suppressor: OK}, 8: {}}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for _, name := range []string{"child", "suppressor"} {
				w.put(name, func(a *Alarm) { a.Status.Value, a.Metric.Missing = OK, TreatIgnore })
			}
			w.put("c", func(c *Alarm) {
				c.Metric, c.Composite = nil, &Composite{Rule: "ALARM(child)", Suppressor: "suppressor", Wait: int(2 * unit / time.Second), Extension: int(3 * unit / time.Second)}
				c.Status.Value, c.Actions = OK, map[State][]string{OK: {function}, InAlarm: {function}}
			})
			w.pass(0)
			change := func(name string, to State) {
				if to == "" {
					return
				}
				if _, err := w.records.Update(t.Context(), name, func(a *Alarm) error { a.Set(to, "r", "", w.clock()); return nil }); err != nil {
					t.Fatal(err)
				}
			}
			change("suppressor", tt.before)
			w.pass(0)
			for i, m := range tt.moments {
				change("child", m.child)
				change("suppressor", m.suppressor)
				if i == 4 {
					w.start() // anew, as after a crash
				}
				w.pass(unit)
				if m == (moment{}) && i < len(tt.moments)-1 {
					continue // it says nothing
				}
				var acted []string
				for _, x := range w.delivered {
					var event struct{ AlarmData alarmForm }
					if err := json.Unmarshal(x.Input, &event); err != nil {
						t.Fatal(err)
					}
					if s := event.AlarmData; s.State.By != "" || s.Previous.By == "" || s.Previous.Value != s.State.Value || s.Previous.Why != "Actions suppressed by "+s.Previous.By {
						t.Errorf("%s", x.Input)
					}
					acted = append(acted, string(event.AlarmData.State.Value))
				}
				if c := w.alarm("c"); c.Status.SuppressedBy != m.by || strings.Join(acted, " ") != m.acted {
					t.Errorf("at %d: suppressed by %q, actions %q, want %+v", i, c.Status.SuppressedBy, acted, m)
				}
			}
		})
	}
}

// TestSuppressorGoes: with the suppressor gone or another, what was held back is done, unless that one is in ALARM.
func TestSuppressorGoes(t *testing.T) {
	for next, acts := range map[string]bool{"": true, "other": true, "alarming": false} {
		w := newWorld(t)
		w.put("other", func(a *Alarm) { a.Status.Value = OK })
		for _, name := range []string{"suppressor", "alarming"} {
			w.put(name, func(a *Alarm) { a.Metric, a.Composite = nil, &Composite{Rule: "TRUE"} })
		}
		w.pass(0)
		w.put("c", func(c *Alarm) {
			c.Metric, c.Composite = nil, &Composite{Rule: "TRUE", Suppressor: "suppressor", Wait: 60, Extension: 60}
		}, function)
		w.pass(time.Second)
		if c := w.alarm("c"); c.Status.SuppressedBy != byAlarm || c.Status.Value != InAlarm || len(w.delivered) != 0 {
			t.Fatalf("%+v, %+v", c, w.delivered)
		}
		if e := w.events[len(w.events)-1]; !strings.Contains(string(e.Detail), `"actionsSuppressedBy":"Alarm"`) {
			t.Errorf("%s", e.Detail)
		}
		if _, err := w.records.Update(t.Context(), "c", func(c *Alarm) error {
			c.Resuppress(w.clock())
			c.Composite.Suppressor, c.Updated = next, w.clock()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Second)
		w.pass(time.Second)
		if n := len(w.delivered); acts != (n == 1) {
			t.Errorf("%q: %d actions", next, n)
		}
	}
}

// TestNoPeriods: with periods of 0 the suppressor alone decides, also where a state is set by hand.
func TestNoPeriods(t *testing.T) {
	for _, rule := range []string{"FALSE", "TRUE"} {
		w := newWorld(t)
		w.put("suppressor", func(a *Alarm) { a.Metric, a.Composite = nil, &Composite{Rule: rule} })
		w.put("c", func(c *Alarm) {
			c.Metric, c.Composite, c.Status.Value = nil, &Composite{Rule: "FALSE", Suppressor: "suppressor"}, OK
		}, function)
		w.pass(0)
		if _, err := w.records.Update(t.Context(), "c", func(c *Alarm) error { c.Set(InAlarm, "by hand", "", w.clock()); return nil }); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Second)
		if n := len(w.delivered); (n == 1) != (rule == "FALSE") {
			t.Errorf("the suppressor is %s: %d actions", rule, n)
		}
		if by := w.alarm("c").Status.SuppressedBy; (by == byAlarm) != (rule == "TRUE") {
			t.Errorf("the suppressor is %s: suppressed by %q", rule, by)
		}
	}
}
