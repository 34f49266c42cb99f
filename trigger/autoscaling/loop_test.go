package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"thaw"
	"thaw/state"
)

// world is a platform with one function, f, whose alias live points at version 1.
type world struct {
	t       *testing.T
	loop    *Loop
	records *Records
	f       thaw.Function
	now     time.Time
	refuse  error
	asked   []int // of Provision

	busy      int
	allocated int // -1: as many as are asked for
}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	store, err := state.Open(t.Context(), state.Config{Dir: filepath.Join(t.TempDir(), "data")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	w := &world{t: t, now: noon, allocated: -1, records: NewRecords(store)}
	w.f = thaw.Function{
		Name: "f", Published: []thaw.Version{{Number: "1", State: thaw.StateActive}},
		Aliases: map[string]thaw.Alias{"live": {Name: "live", Version: "1"}}, Provisioned: map[string]thaw.Provisioned{},
	}
	w.start(change...)
	return w
}

// start makes the loop, anew after a crash.
func (w *world) start(change ...func(*Config)) {
	w.t.Helper()
	cfg := Config{Records: w.records, Functions: w, Provision: w.provision, Usage: w.usage}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if w.loop, err = New(cfg); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) Function(name string) (*thaw.Function, bool) { return &w.f, name == "f" }

func (w *world) provision(_ context.Context, function, qualifier string, n int) error {
	if w.refuse != nil {
		return w.refuse
	}
	w.asked = append(w.asked, n)
	if n == 0 {
		delete(w.f.Provisioned, qualifier)
	} else {
		w.f.Provisioned[qualifier] = thaw.Provisioned{Requested: n, LastModified: w.now}
	}
	return nil
}

func (w *world) capacity() int { return w.f.Provisioned["live"].Requested }

func (w *world) usage(function, qualifier string) (inFlight, allocated int, ok bool) {
	allocated = w.allocated
	if allocated < 0 {
		allocated = w.capacity()
	}
	return min(w.busy, allocated), allocated, allocated > 0
}

func (w *world) register(t Target) {
	w.t.Helper()
	t.Function, t.Qualifier, t.ID, t.Created, t.Bounds = "f", "live", "1", w.now, 1
	for i := range t.Actions {
		a := &t.Actions[i]
		a.ID, a.Created, a.Seen = a.Name, w.now, w.now
	}
	if err := w.records.Create(w.t.Context(), &t); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) target() *Target {
	w.t.Helper()
	t, err := w.records.Target(w.t.Context(), "function:f:live")
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

// pass lets seconds pass.
func (w *world) pass(seconds int) {
	w.t.Helper()
	for range seconds {
		w.now = w.now.Add(time.Second)
		if err := w.loop.Tick(w.t.Context(), w.now); err != nil {
			w.t.Fatal(err)
		}
	}
}

// until goes to a time at once, as after a pause, and looks there.
func (w *world) until(clock string) {
	w.t.Helper()
	at, err := time.Parse(time.RFC3339, "2026-03-02T"+clock+"Z")
	if err != nil {
		w.t.Fatal(err)
	}
	w.now = at.Add(-time.Second)
	w.pass(1)
}

// told is the activities, the oldest first, a line each.
func (w *world) told() string {
	w.t.Helper()
	activities, err := w.records.Activities(w.t.Context(), "function:f:live", w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	var b strings.Builder
	for i := len(activities) - 1; i >= 0; i-- {
		a := activities[i]
		fmt.Fprintf(&b, "%s|%s|%s|%s", a.Status, a.Description, a.Cause, a.Message)
		if a.NotScaled != "" {
			fmt.Fprintf(&b, "|%s", a.NotScaled)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (w *world) wantTold(want string) {
	w.t.Helper()
	if got := strings.TrimSpace(w.told()); got != strings.TrimSpace(want) {
		w.t.Errorf("activities:\n%s\nwant:\n%s", got, want)
	}
}

func (w *world) wantCapacity(n int) {
	w.t.Helper()
	if w.capacity() != n {
		w.t.Errorf("capacity %d, want %d; asked for %v\n%s", w.capacity(), n, w.asked, w.told())
	}
}

func TestRegistrationSetsTheBoundsOnce(t *testing.T) {
	w := newWorld(t)
	w.register(Target{Min: 3, Max: 10})
	w.pass(1)
	w.wantCapacity(3)
	w.wantTold("InProgress|Setting desired concurrency to 3.|minimum capacity was set to 3|Successfully set desired concurrency to 3. Waiting for change to be fulfilled by lambda.")
	w.pass(1)
	w.wantTold("Successful|Setting desired concurrency to 3.|minimum capacity was set to 3|Successfully set desired concurrency to 3. Change successfully fulfilled by lambda.")
	w.f.Provisioned["live"] = thaw.Provisioned{Requested: 1}
	w.pass(3)
	w.wantCapacity(1) // by hand, and left so
	if _, err := w.records.Update(t.Context(), "function:f:live", func(t *Target) error { t.Min, t.Max = 0, 0; t.Bounds++; return nil }); err != nil {
		t.Fatal(err)
	}
	w.pass(2)
	w.wantCapacity(0)
	if !strings.HasSuffix(w.told(), "Successful|Setting desired concurrency to 0.|maximum capacity was set to 0|Successfully set desired concurrency to 0. Change successfully fulfilled by lambda.\n") {
		t.Error(w.told())
	}
}

func TestNothingIsDoneToWhatIsNotActive(t *testing.T) {
	w := newWorld(t)
	w.f.Published[0].State = thaw.StatePending
	w.register(Target{Min: 3, Max: 10})
	w.pass(2)
	w.wantCapacity(0)
	w.f.Published[0].State = thaw.StateActive
	w.pass(1)
	w.wantCapacity(3)
	w.f.Name, w.f.Aliases = "f", nil
	w.pass(2)
	w.wantCapacity(3)
}

func TestLoadStep(t *testing.T) {
	w := newWorld(t)
	w.register(Target{Min: 2, Max: 40, Policy: &Policy{Name: "p", Target: 0.7, AlarmHigh: "h", AlarmLow: "l"}})
	w.busy = 20
	for range 8 {
		w.pass(1)
	}
	w.wantCapacity(29) // 20 of them busy are 69%
	if want := []int{2, 3, 5, 8, 12, 18, 26, 29}; fmt.Sprint(w.asked) != fmt.Sprint(want) {
		t.Errorf("asked for %v, want %v", w.asked, want)
	}
	w.pass(20)
	w.wantCapacity(29)
	w.busy = 5
	w.pass(14)
	w.wantCapacity(29)
	w.pass(1)
	w.wantCapacity(8)
	w.busy = 0
	w.pass(40)
	w.wantCapacity(2)
	if last := w.told(); !strings.HasSuffix(last, "Successful|Attempting to scale due to alarm triggered|monitor alarm TargetTracking-function:f:live-AlarmLow-l in state ALARM triggered policy p||AlreadyAtMinCapacity\n") {
		t.Error(last)
	}
	if !strings.Contains(w.told(), "Successful|Setting desired concurrency to 3.|monitor alarm TargetTracking-function:f:live-AlarmHigh-h in state ALARM triggered policy p|Successfully set desired concurrency to 3. Change successfully fulfilled by lambda.") {
		t.Error(w.told())
	}
}

func TestWhatIsStartingIsNotAskedForAgain(t *testing.T) {
	w := newWorld(t)
	w.register(Target{Min: 10, Max: 100, Policy: &Policy{Name: "p", Target: 0.7}})
	w.pass(2)
	w.allocated, w.busy = 10, 10
	w.pass(30)
	w.wantCapacity(15)
	w.until("12:09:00")
	if !strings.Contains(w.told(), "InProgress|Setting desired concurrency to 15.") {
		t.Error(w.told())
	}
	w.until("12:11:00")
	if !strings.Contains(w.told(), "Unfulfilled|Setting desired concurrency to 15.") || !strings.Contains(w.told(), "10 were there after 10m") {
		t.Error(w.told())
	}
}

func TestAWSPace(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.AWSPace = true })
	w.register(Target{Min: 2, Max: 10, Policy: &Policy{Name: "p", Target: 0.5}})
	w.pass(1)
	w.busy = 2
	w.pass(178)
	w.wantCapacity(2)
	w.pass(1)
	w.wantCapacity(4)
	w.busy = 0
	w.pass(1200)
	w.wantCapacity(4) // no traffic, no data
	for minute := range 15 {
		w.busy = 1
		w.pass(1)
		w.busy = 0
		w.pass(59)
		if minute == 13 {
			w.wantCapacity(4)
		}
	}
	w.wantCapacity(2)
}

func TestRefusal(t *testing.T) {
	w := newWorld(t)
	w.register(Target{Min: 5, Max: 100, Policy: &Policy{Name: "p", Target: 0.5}})
	w.refuse = thaw.Errorf(thaw.CodeInvalidParameterValue, "Too many.")
	w.pass(30)
	w.wantTold("Failed|Setting desired concurrency to 5.|minimum capacity was set to 5|Failed to set desired concurrency to 5. Reason: Too many.")
	w.f.Provisioned["live"] = thaw.Provisioned{Requested: 5}
	w.busy, w.refuse = 5, errors.New("secret")
	w.pass(30)
	if got := w.told(); strings.Count(got, "\n") != 2 || strings.Contains(got, "secret") || !strings.Contains(got, "Failed to set desired concurrency to 10. Reason: lambda failed") {
		t.Error(got)
	}
	w.refuse = nil
	w.pass(60)
	w.wantCapacity(10)
}

func TestActivitiesAreBounded(t *testing.T) {
	w := newWorld(t)
	w.register(Target{Min: 0, Max: 100})
	f := &follow{}
	for i := range 3 * maxActivities {
		a := Activity{Start: w.now, Status: StatusInProgress, To: i}
		if i%2 == 0 {
			a.Status, a.NotScaled = StatusSuccessful, "AlreadyAtMaxCapacity"
		}
		if err := w.loop.note(t.Context(), w.target(), f, w.now, a); err != nil {
			t.Fatal(err)
		}
	}
	idle, running := 0, 0
	for _, a := range f.history {
		if a.NotScaled != "" {
			idle++
		}
		if a.Status == StatusInProgress {
			running++
		}
	}
	if len(f.history) != maxActivities || idle != maxNotScaled || running != 1 {
		t.Errorf("%d kept, %d idle, %d under way", len(f.history), idle, running)
	}
	later := w.now.Add(activityAge + time.Second)
	if kept, err := w.records.Activities(t.Context(), "function:f:live", later); err != nil || len(kept) != 0 {
		t.Errorf("%d kept after six weeks, %v", len(kept), err)
	}
	if err := w.loop.Tick(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	if records, err := w.records.activities.List(t.Context(), ""); err != nil || len(records) != 0 {
		t.Errorf("%d records left, %v", len(records), err)
	}
}

func TestScheduledActions(t *testing.T) {
	w := newWorld(t)
	w.register(Target{Min: 1, Max: 10, Actions: []Action{
		{Name: "up", Schedule: "cron(5 12 * * ? *)", Min: ptr[int32](8), Max: ptr[int32](20)},
		{Name: "down", Schedule: "at(2026-03-02T12:06:00)", Max: ptr[int32](4)},
	}})
	w.pass(2)
	w.until("12:04:59")
	w.wantCapacity(1)
	w.until("12:05:00")
	w.wantCapacity(8)
	w.pass(30)
	w.start() // a crash does not have it run twice
	w.pass(10)
	w.wantTold(`
Successful|Setting desired concurrency to 1.|minimum capacity was set to 1|Successfully set desired concurrency to 1. Change successfully fulfilled by lambda.
Successful|Setting min capacity to 8 and max capacity to 20|scheduled action name up was triggered|Successfully set min capacity to 8 and max capacity to 20
Successful|Setting desired concurrency to 8.|minimum capacity was set to 8|Successfully set desired concurrency to 8. Change successfully fulfilled by lambda.`)
	if got := w.target(); got.Min != 8 || got.Max != 20 {
		t.Errorf("bounds %d-%d", got.Min, got.Max)
	}
	w.until("12:06:30")
	w.wantCapacity(4)
	if got := w.target(); got.Min != 4 || got.Max != 4 {
		t.Errorf("bounds %d-%d", got.Min, got.Max)
	}
	w.now = w.now.Add(24 * time.Hour)
	w.until("12:30:00") // the day after next would be due; at() is not
}

func TestMissedActions(t *testing.T) {
	w := newWorld(t)
	w.register(Target{Min: 1, Max: 10, Actions: []Action{
		{Name: "old", Schedule: "cron(5 12 * * ? *)", Min: ptr[int32](8)},
		{Name: "often", Schedule: "rate(1 minute)", Max: ptr[int32](9)},
	}})
	w.pass(2)
	w.start()
	w.until("13:00:30")
	if got := w.target(); got.Min != 1 || got.Max != 9 {
		t.Errorf("bounds %d-%d", got.Min, got.Max)
	}
	w.pass(20)
	w.wantTold(`
Successful|Setting desired concurrency to 1.|minimum capacity was set to 1|Successfully set desired concurrency to 1. Change successfully fulfilled by lambda.
Failed|Setting min capacity to 8|scheduled action name old was triggered|Failed to set min capacity to 8. Reason: the scheduled action was due at 2026-03-02T12:05:00Z, when thaw was not running, and is not made up for.
Successful|Setting max capacity to 9|scheduled action name often was triggered|Successfully set max capacity to 9`)
	w.until("13:01:01")
	if n := strings.Count(w.told(), "name often"); n != 2 {
		t.Errorf("%d times in two minutes\n%s", n, w.told())
	}
}

func TestOneBoundTakesTheOtherWithIt(t *testing.T) {
	for _, tt := range []struct{ low, high *int32 }{{ptr[int32](12), nil}, {nil, ptr[int32](2)}, {ptr[int32](5), nil}, {ptr[int32](1), ptr[int32](20)}} {
		target := Target{Min: 4, Max: 8}
		target.setBounds(tt.low, tt.high)
		if low := tt.low; low != nil && target.Min != int(*low) || tt.high != nil && target.Max != int(*tt.high) || target.Min > target.Max || target.Bounds != 1 {
			t.Errorf("%+v", target)
		}
	}
}

func TestSetByHandInTheMeantime(t *testing.T) {
	w := newWorld(t)
	w.register(Target{Min: 3, Max: 10})
	w.allocated = 0
	w.pass(1)
	w.f.Provisioned["live"] = thaw.Provisioned{Requested: 1}
	w.pass(1)
	w.wantTold("Overridden|Setting desired concurrency to 3.|minimum capacity was set to 3|Successfully set desired concurrency to 3. It was set to 1 before the change was fulfilled by lambda.")
}

func TestSuspendedActions(t *testing.T) {
	w := newWorld(t)
	w.register(Target{Min: 1, Max: 10, Suspended: Suspended{Scheduled: true}, Actions: []Action{{Name: "up", Schedule: "cron(5 12 * * ? *)", Min: ptr[int32](8)}}})
	w.pass(2)
	w.until("12:05:00")
	w.wantCapacity(1)
	if _, err := w.records.Update(t.Context(), "function:f:live", func(t *Target) error { t.Suspended.Scheduled = false; return nil }); err != nil {
		t.Fatal(err)
	}
	w.pass(5)
	w.wantCapacity(1)
	if strings.Contains(w.told(), "up") {
		t.Error(w.told())
	}
}

func TestAgenda(t *testing.T) {
	at := func(clock string) *time.Time {
		v, err := time.Parse("2006-01-02T15:04:05", clock)
		if err != nil {
			t.Fatal(err)
		}
		return &v
	}
	for _, tt := range []struct {
		name   string
		action Action
		want   []string
	}{
		{"cron", Action{Schedule: "cron(0/10 * * * ? *)"}, []string{"2026-03-02T12:10:00", "2026-03-02T12:20:00"}},
		{"cron in a zone", Action{Schedule: "cron(0 9 * * ? *)", Timezone: "America/New_York"}, []string{"2026-03-02T14:00:00", "2026-03-03T14:00:00"}},
		{"also at the start", Action{Schedule: "cron(0 8 * * ? *)", Start: at("2026-03-04T11:11:11")}, []string{"2026-03-04T11:11:11", "2026-03-05T08:00:00"}},
		{"a start that has passed", Action{Schedule: "cron(0 8 * * ? *)", Start: at("2026-03-01T11:11:11")}, []string{"2026-03-03T08:00:00"}},
		{"not after the end", Action{Schedule: "cron(0 8 * * ? *)", End: at("2026-03-04T08:00:00")}, []string{"2026-03-03T08:00:00", "2026-03-04T08:00:00", ""}},
		{"an end before the start", Action{Schedule: "cron(0 8 * * ? *)", Start: at("2026-03-05T00:00:00"), End: at("2026-03-04T00:00:00")}, []string{""}},
		{"rate", Action{Schedule: "rate(7 minutes)"}, []string{"2026-03-02T12:07:00", "2026-03-02T12:14:00"}},
		{"rate from the start", Action{Schedule: "rate(7 minutes)", Start: at("2026-03-02T12:01:00")}, []string{"2026-03-02T12:01:00", "2026-03-02T12:08:00"}},
		{"rate from an early start", Action{Schedule: "rate(1 day)", Start: at("2026-02-02T13:00:00")}, []string{"2026-03-02T13:00:00", "2026-03-03T13:00:00"}},
		{"at", Action{Schedule: "at(2026-03-02T13:00:00)"}, []string{"2026-03-02T13:00:00", ""}},
		{"at not at the start", Action{Schedule: "at(2026-03-02T13:00:00)", Start: at("2026-03-02T12:30:00")}, []string{"2026-03-02T13:00:00", ""}},
		{"at on the start", Action{Schedule: "at(2026-03-02T13:00:00)", Start: at("2026-03-02T13:00:00")}, []string{"2026-03-02T13:00:00", ""}},
		{"at before the start", Action{Schedule: "at(2026-03-02T13:00:00)", Start: at("2026-03-02T14:00:00")}, []string{""}},
		{"at after the end", Action{Schedule: "at(2026-03-02T13:00:00)", End: at("2026-03-02T12:30:00")}, []string{""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := tt.action
			a.Created, a.Seen = noon, noon
			for _, want := range tt.want {
				g, err := newAgenda(&a)
				if err != nil {
					t.Fatal(err)
				}
				got := ""
				if !g.next.IsZero() {
					got = g.next.UTC().Format("2006-01-02T15:04:05")
				}
				if got != want {
					t.Fatalf("%q, want %q", got, want)
				}
				if got != "" {
					if last := g.latest(&a, g.next); !last.Equal(g.next) {
						t.Errorf("the latest of one is %s, not %s", last, g.next)
					}
				}
				a.Seen = g.next
			}
		})
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	before := goleak.IgnoreCurrent()
	go func() { ended <- w.loop.Run(ctx) }()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, before)
	if _, err := New(Config{}); err == nil {
		t.Error("a loop without anything")
	}
}

func BenchmarkTick(b *testing.B) {
	for _, n := range []int{0, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			store, err := state.Open(b.Context(), state.Config{Dir: filepath.Join(b.TempDir(), "data")})
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			f := thaw.Function{Name: "f", Published: []thaw.Version{{Number: "1", State: thaw.StateActive}}, Aliases: map[string]thaw.Alias{}, Provisioned: map[string]thaw.Provisioned{}}
			r := NewRecords(store)
			for i := range n {
				q := fmt.Sprint("a", i)
				f.Aliases[q], f.Provisioned[q] = thaw.Alias{Name: q, Version: "1"}, thaw.Provisioned{Requested: 2}
				if err := r.Create(b.Context(), &Target{Function: "f", Qualifier: q, ID: q, Min: 1, Max: 9, Policy: &Policy{Name: "p", Target: 0.7}, Actions: []Action{{Name: "x", ID: "x", Schedule: "cron(0 8 * * ? *)", Seen: noon}}}); err != nil {
					b.Fatal(err)
				}
			}
			l, err := New(Config{Records: r, Functions: &world{f: f}, Provision: (&world{f: f}).provision, Usage: func(string, string) (int, int, bool) { return 1, 2, true }})
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := l.Tick(b.Context(), noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
