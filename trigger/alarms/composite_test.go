package alarms

import (
	"strings"
	"testing"
	"time"
)

// TestCircles: alarms that depend on themselves are not evaluated, do nothing, and say why until the circle is broken.
func TestCircles(t *testing.T) {
	w := newWorld(t)
	rules := map[string]string{"self": "NOT ALARM(self)", "one": "NOT ALARM(two)", "two": "ALARM(one)", "above": "OK(one) OR ALARM(one)", "apart": "TRUE"}
	for name, rule := range rules {
		w.put(name, func(a *Alarm) { a.Metric, a.Composite = nil, &Composite{Rule: rule} }, function)
	}
	w.pass(0)
	before := w.alarm("one").Change
	for range 5 {
		w.pass(time.Second)
	}
	w.state("apart", InAlarm)
	for _, name := range []string{"self", "one", "two", "above"} {
		w.state(name, Insufficient)
		if a := w.alarm(name); a.Problem == "" || !strings.Contains(a.Status.Reason, "leads back to itself") {
			t.Errorf("%+v", a)
		}
	}
	if len(w.delivered) != 1 || w.alarm("one").Change != before {
		t.Errorf("%d actions, %d changes", len(w.delivered), w.alarm("one").Change-before)
	}
	if _, err := w.records.Update(t.Context(), "two", func(a *Alarm) error {
		a.Composite.Rule, a.Updated, a.Problem = "FALSE", a.Updated.Add(time.Second), ""
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		w.pass(time.Second)
	}
	w.state("two", OK)
	w.state("one", InAlarm)
	w.state("above", InAlarm)
	w.state("self", Insufficient)
	if a := w.alarm("above"); a.Problem != "" {
		t.Errorf("%+v", a)
	}
}

// TestOneFails: a composite alarm that cannot be stored does not keep those behind it from being judged.
func TestOneFails(t *testing.T) {
	w := newWorld(t)
	w.put("c", func(c *Alarm) { c.Metric, c.Composite = nil, &Composite{Rule: "TRUE"} })
	w.pass(0)
	w.loop.drop("c")
	w.put("d", func(d *Alarm) { d.Metric, d.Composite = nil, &Composite{Rule: "TRUE"} })
	w.loop.learn(w.alarm("d"))
	w.loop.learn(&Alarm{Name: strings.Repeat("a", 5000), Change: 1, Created: noon, Updated: noon, Status: Status{Value: OK}, Composite: &Composite{Rule: "TRUE"}})
	if err := w.loop.Tick(t.Context(), w.clock()); err == nil {
		t.Error("no error")
	}
	w.loop.working.Wait()
	w.state("d", InAlarm)
}
