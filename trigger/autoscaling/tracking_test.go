package autoscaling

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

// row is n datapoints of the same utilisation.
func row(n int, busy float64, allocated int) []datapoint {
	points := make([]datapoint, n)
	for i := range points {
		points[i] = datapoint{busy / float64(allocated), allocated}
	}
	return points
}

func TestDecide(t *testing.T) {
	const (
		atMax = "AlreadyAtMaxCapacity"
		atMin = "AlreadyAtMinCapacity"
	)
	out := func(ago time.Duration, from, to, base int) Activity {
		return Activity{Policy: "p", Status: StatusSuccessful, Start: noon.Add(-ago), End: noon.Add(-ago), From: from, To: to, Base: base}
	}
	for _, tt := range []struct {
		name    string
		pace    pace
		points  []datapoint
		policy  Policy // Target is 0.7 where it is not set
		current int
		min     int
		max     int
		suspend Suspended
		history []Activity
		to      int
		why     string
	}{
		{name: "no data", current: 10, max: 100, to: 10},
		{name: "on target", points: row(20, 7, 10), current: 10, max: 100, to: 10},
		{name: "out in proportion", points: row(1, 10, 10), current: 10, max: 100, to: 15},
		{name: "out rounded up", points: row(1, 8, 10), current: 10, max: 100, to: 12},
		{name: "out not by an error of floats", points: row(1, 21, 29), current: 29, max: 100, to: 30},
		{name: "out by the newest second", points: append(row(15, 1, 10), row(1, 9, 10)...), current: 10, max: 100, to: 13},
		{name: "out to the maximum", points: row(1, 10, 10), current: 10, max: 12, to: 12},
		{name: "at the maximum", points: row(1, 10, 10), current: 10, max: 10, to: 10, why: atMax},
		{name: "beyond the maximum by hand", points: row(1, 20, 20), current: 20, max: 10, to: 20, why: atMax},
		{name: "what is on its way is not asked for again", points: row(1, 10, 10), current: 15, max: 100, to: 15},
		{name: "more than what is on its way", points: row(1, 12, 12), current: 15, max: 100, to: 18},
		{name: "out is suspended", points: row(1, 10, 10), current: 10, max: 100, suspend: Suspended{Out: true}, to: 10},
		{name: "the others' suspension does not matter", points: row(1, 10, 10), current: 10, max: 100, suspend: Suspended{In: true, Scheduled: true}, to: 15},
		{name: "a target of 100%", points: row(1, 10, 10), policy: Policy{Target: 1}, current: 10, max: 100, to: 10},
		{name: "a small target", points: row(1, 2, 2), policy: Policy{Target: 0.1}, current: 2, max: 100, to: 20},

		{name: "cooldown out", points: row(1, 15, 15), policy: Policy{OutCooldown: ptr[int32](60)}, current: 15, max: 100, history: []Activity{out(59*time.Second, 10, 15, 10)}, to: 15},
		{name: "a larger need within the cooldown", points: row(1, 12, 12), policy: Policy{OutCooldown: ptr[int32](60)}, current: 12, max: 100, history: []Activity{out(59*time.Second, 10, 12, 10)}, to: 15},
		{name: "cooldown out has ended", points: row(1, 15, 15), policy: Policy{OutCooldown: ptr[int32](60)}, current: 15, max: 100, history: []Activity{out(60*time.Second, 10, 15, 10)}, to: 22},
		{name: "cooldown while it is under way", points: row(1, 15, 15), policy: Policy{OutCooldown: ptr[int32](60)}, current: 15, max: 100, history: []Activity{{Policy: "p", Status: StatusInProgress, Start: noon.Add(-time.Hour), From: 10, To: 15, Base: 10}}, to: 15},
		{name: "a failure has no cooldown", points: row(1, 15, 15), policy: Policy{OutCooldown: ptr[int32](60)}, current: 15, max: 100, history: []Activity{{Policy: "p", Status: StatusFailed, Start: noon, End: noon, From: 10, To: 15, Base: 10}}, to: 22},
		{name: "a scheduled action has no cooldown", points: row(1, 15, 15), policy: Policy{OutCooldown: ptr[int32](60)}, current: 15, max: 100, history: []Activity{{Status: StatusSuccessful, Start: noon, End: noon, From: 10, To: 15, Base: 10}}, to: 22},

		{name: "in", points: row(15, 2, 10), current: 10, max: 100, to: 3},
		{name: "in rounded up", points: row(15, 5, 10), current: 10, max: 100, to: 8},
		{name: "in not above 90% of the target", points: row(15, 63, 100), current: 100, max: 100, to: 100},
		{name: "in below it", points: row(15, 62, 100), current: 100, max: 100, to: 89},
		{name: "in by the busiest moment", points: append(row(14, 0, 10), row(1, 5, 10)...), current: 10, max: 100, to: 8},
		{name: "wherever in that time it is", points: append(row(1, 5, 10), row(14, 1, 10)...), current: 10, max: 100, to: 8},
		{name: "in only after all of them", points: append(row(14, 0, 10), row(1, 7, 10)...), current: 10, max: 100, to: 10},
		{name: "not long enough", points: row(14, 0, 10), current: 10, max: 100, to: 10},
		{name: "idle", points: row(15, 0, 10), current: 10, max: 100, to: 0},
		{name: "in to the minimum", points: row(15, 0, 10), current: 10, min: 4, max: 100, to: 4},
		{name: "at the minimum", points: row(15, 0, 4), current: 4, min: 4, max: 100, to: 4, why: atMin},
		{name: "in is off", points: row(15, 0, 10), policy: Policy{DisableScaleIn: ptr(true)}, current: 10, max: 100, to: 10},
		{name: "in is on", points: row(15, 0, 10), policy: Policy{DisableScaleIn: ptr(false)}, current: 10, max: 100, to: 0},
		{name: "in is suspended", points: row(15, 0, 10), current: 10, max: 100, suspend: Suspended{In: true}, to: 10},
		{name: "cooldown in", points: row(15, 0, 10), policy: Policy{InCooldown: ptr[int32](60)}, current: 10, max: 100, history: []Activity{out(59*time.Second, 20, 10, 20)}, to: 10},
		{name: "cooldown in has ended", points: row(15, 0, 10), policy: Policy{InCooldown: ptr[int32](60)}, current: 10, max: 100, history: []Activity{out(60*time.Second, 20, 10, 20)}, to: 0},
		{name: "out within the cooldown in", points: row(1, 10, 10), policy: Policy{InCooldown: ptr[int32](60), OutCooldown: ptr[int32](60)}, current: 10, max: 100, history: []Activity{out(time.Second, 20, 10, 20)}, to: 15},
		{name: "and that ends it", points: row(15, 0, 15), policy: Policy{InCooldown: ptr[int32](60)}, current: 15, max: 100, history: []Activity{out(30*time.Second, 10, 15, 10), out(40*time.Second, 20, 10, 20)}, to: 0},

		{name: "AWS: two minutes are not enough", pace: asAWS, points: row(2, 10, 10), current: 10, max: 100, to: 10},
		{name: "AWS: three minutes out", pace: asAWS, points: row(3, 10, 10), current: 10, max: 100, to: 15},
		{name: "AWS: not all of three", pace: asAWS, points: append(row(2, 10, 10), row(1, 7, 10)...), current: 10, max: 100, to: 10},
		{name: "AWS: fifteen in", pace: asAWS, points: row(15, 1, 10), current: 10, max: 100, to: 2},
		{name: "AWS: fourteen", pace: asAWS, points: row(14, 1, 10), current: 10, max: 100, to: 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.pace == (pace{}) {
				tt.pace = promptly
			}
			tt.policy.Name = "p"
			if tt.policy.Target == 0 {
				tt.policy.Target = 0.7
			}
			d := decide(situation{
				pace: tt.pace, points: tt.points, policy: &tt.policy, current: tt.current, min: tt.min, max: tt.max,
				suspend: tt.suspend, history: tt.history, now: noon,
			})
			if d.to != tt.to || d.why != tt.why {
				t.Errorf("%d %s, want %d %s", d.to, d.why, tt.to, tt.why)
			}
		})
	}
	if d := decide(situation{pace: promptly, points: row(15, 0, 10), current: 10}); d.to != 10 {
		t.Errorf("without a policy: %d", d.to)
	}
}

func TestMeter(t *testing.T) {
	var m meter
	if m.add(promptly, noon, 1, 0, true) || m.add(promptly, noon, 1, 1, false) || len(m.points) != 0 {
		t.Errorf("a datapoint of nothing: %v", m.points)
	}
	for range 40 {
		m.add(promptly, noon, 3, 4, true)
	}
	if len(m.points) != 15 || m.points[14] != (datapoint{0.75, 4}) {
		t.Errorf("%v", m.points)
	}
	if m.add(promptly, noon, 9, 4, true); m.points[14].utilisation != 1 {
		t.Errorf("more than all are busy: %v", m.points[14])
	}
	if m.add(promptly, noon, 0, 0, false); len(m.points) != 0 {
		t.Error("a row goes across a gap")
	}

	m = meter{}
	second := func(at int, inFlight int) bool {
		return m.add(asAWS, noon.Add(time.Duration(at)*time.Second), inFlight, 10, true)
	}
	for s := range 60 {
		if second(s, s%2*10) {
			t.Fatal("a datapoint within the minute")
		}
	}
	if !second(60, 0) || len(m.points) != 1 || m.points[0] != (datapoint{0.5, 10}) {
		t.Fatalf("the average of a minute: %v", m.points)
	}
	for s := 61; s < 120; s++ {
		second(s, 0)
	}
	if second(120, 5) || len(m.points) != 0 {
		t.Fatalf("a minute without traffic has no datapoint on AWS: %v", m.points)
	}
	if !second(180, 5) || second(300, 5) || len(m.points) != 0 {
		t.Fatalf("a minute that was left out: %v", m.points)
	}
}
