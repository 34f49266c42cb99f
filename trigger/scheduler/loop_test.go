package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"thaw"
	"thaw/state"
	"thaw/trigger/delivery"
	"thaw/trigger/events"
)

var account = thaw.Account{ID: "123456789012", Region: "eu-west-1"}

const target = "arn:aws:lambda:eu-west-1:123456789012:function:f"

// world is a store, a clock, and what was delivered.
type world struct {
	store   *state.Store
	records *Records
	rules   *events.Records

	mu        sync.Mutex
	now       time.Time
	sent      []delivery.Delivery
	fail      error
	forecasts []thaw.Forecast
}

var begin = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func newWorld(t testing.TB) *world {
	t.Helper()
	store, err := state.Open(t.Context(), state.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return &world{store: store, records: NewRecords(store), rules: events.NewRecords(store), now: begin}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) deliver(_ context.Context, d delivery.Delivery) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return w.fail
	}
	w.sent = append(w.sent, d)
	return nil
}

func (w *world) loop(t testing.TB) *Loop {
	t.Helper()
	l, err := New(Config{Store: w.store, Account: account, Deliver: w.deliver, Now: w.clock, Expect: func(f thaw.Forecast) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.forecasts = append(w.forecasts, f)
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.feed(t, l)
	l.prepare(t.Context())
	return l
}

// feed brings a loop what is stored, as its feeds do when it runs.
func (w *world) feed(t testing.TB, l *Loop) {
	t.Helper()
	rules, err := w.rules.Rules(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	schedules, err := w.records.Schedules(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for key := range l.entries {
		l.changed(key, change{})
	}
	for _, r := range rules {
		l.changed("rule/"+r.Name, change{rule: r})
	}
	for _, s := range schedules {
		l.changed("schedule/"+s.Key(), change{schedule: s})
	}
}

// pass lets a time pass, second by second, and the loops look each time.
func (w *world) pass(t testing.TB, d time.Duration, loops ...*Loop) {
	t.Helper()
	for range int(d / time.Second) {
		w.set(w.clock().Add(time.Second))
		w.tick(t, loops...)
	}
}

func (w *world) set(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = now
}

// tick has all loops look at the same time.
func (w *world) tick(t testing.TB, loops ...*Loop) {
	t.Helper()
	var ticking sync.WaitGroup
	for _, l := range loops {
		ticking.Go(func() { l.Tick(t.Context()) })
	}
	ticking.Wait()
}

func (w *world) rule(t testing.TB, name, expression string) *events.Rule {
	t.Helper()
	r := &events.Rule{Name: name, ID: uuid.NewString(), Schedule: expression, State: events.Enabled, Created: w.clock(), Origin: w.clock(), Since: w.clock(), Targets: []events.Target{{ID: "1", ARN: target}}}
	if err := w.rules.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return r
}

func (w *world) schedule(t testing.TB, name, expression string, change func(*Schedule)) *Schedule {
	t.Helper()
	now := w.clock()
	s := &Schedule{Group: "default", Name: name, ID: uuid.NewString(), Expression: expression, State: events.Enabled, Created: now, Modified: now, Origin: now, Since: now.Add(-1), Target: Target{ARN: target, Policy: delivery.DefaultPolicy}}
	if change != nil {
		change(s)
	}
	if err := w.records.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return s
}

// slots are the times of what was delivered, after begin, in order.
func (w *world) slots() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, d := range w.sent {
		all = append(all, d.Time.Sub(begin).String())
	}
	return strings.Join(all, " ")
}

func TestRuleFires(t *testing.T) {
	w := newWorld(t)
	w.rule(t, "minutely", "rate(1 minute)")
	l := w.loop(t)
	w.pass(t, 3*time.Minute+30*time.Second, l)
	if got := w.slots(); got != "1m0s 2m0s 3m0s" {
		t.Fatalf("fired at %s", got)
	}
	d := w.sent[0]
	want := `{"version":"0","id":"ID","detail-type":"Scheduled Event","source":"aws.events","account":"123456789012","time":"2026-03-02T12:01:00Z","region":"eu-west-1","resources":["arn:aws:events:eu-west-1:123456789012:rule/minutely"],"detail":{}}`
	var e struct{ ID string }
	if err := json.Unmarshal(d.Input, &e); err != nil || uuid.Validate(e.ID) != nil {
		t.Fatalf("%s: %v", d.Input, err)
	}
	if got := strings.Replace(string(d.Input), e.ID, "ID", 1); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if d.Kind != delivery.FromRule || d.Source != "arn:aws:events:eu-west-1:123456789012:rule/minutely" || d.Target != target || d.Policy != delivery.DefaultPolicy {
		t.Errorf("%+v", d)
	}
	if c := l.Counts(); c != (Counts{Fired: 3, Active: 1}) {
		t.Errorf("%+v", c)
	}
}

func TestScheduleFires(t *testing.T) {
	w := newWorld(t)
	w.schedule(t, "s", "cron(30 14 * * ? *)", func(s *Schedule) { s.Timezone = "Europe/Berlin" })
	w.schedule(t, "text", "at(2026-03-02T12:01:00)", func(s *Schedule) { s.Target.Input = new(string); *s.Target.Input = "hello" })
	l := w.loop(t)
	w.pass(t, time.Minute, l)
	w.set(begin.Add(90*time.Minute - time.Second))
	w.pass(t, 2*time.Second, l)
	if got := w.slots(); got != "1m0s 1h30m0s" {
		t.Fatalf("fired at %s", got)
	}
	if got := string(w.sent[0].Input); got != "hello" || !w.sent[0].Once {
		t.Errorf("input %s", got)
	}
	want := `{"version":"0","id":"` + w.sent[1].ID + `","detail-type":"Scheduled Event","source":"aws.scheduler","account":"123456789012","time":"2026-03-02T13:30:00Z","region":"eu-west-1","resources":["arn:aws:scheduler:eu-west-1:123456789012:schedule/default/s"],"detail":"{}"}`
	if got := string(w.sent[1].Input); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestOnce fires a one-time schedule once, whatever happens afterwards, and deletes it where that is asked for.
func TestOnce(t *testing.T) {
	w := newWorld(t)
	w.schedule(t, "gone", "at(2026-03-02T12:00:10)", func(s *Schedule) { s.DeleteAfter = true })
	w.schedule(t, "kept", "at(2026-03-02T12:00:20)", nil)
	w.schedule(t, "late", "at(2026-03-02T11:59:30)", nil) // within the precision
	w.schedule(t, "past", "at(2026-03-02T11:30:00)", nil)
	l := w.loop(t)
	w.pass(t, 30*time.Second, l)
	w.pass(t, 10*time.Second, w.loop(t))
	w.set(begin)
	w.pass(t, 30*time.Second, l, w.loop(t))
	if got := w.slots(); got != "-30s 10s 20s" {
		t.Errorf("fired at %s", got)
	}
	if _, err := w.records.Schedule(t.Context(), "default", "gone"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("gone: %v", err)
	}
	if _, err := w.records.Schedule(t.Context(), "default", "kept"); err != nil {
		t.Errorf("kept: %v", err)
	}
}

// TestRecurringEnds deletes a recurring schedule behind its end, and not one that was changed meanwhile.
func TestRecurringEnds(t *testing.T) {
	w := newWorld(t)
	end := begin.Add(2 * time.Minute)
	w.schedule(t, "ends", "rate(1 minute)", func(s *Schedule) { s.End, s.DeleteAfter = &end, true })
	l := w.loop(t)
	w.pass(t, time.Minute, l)
	w.schedule(t, "changed", "at(2026-03-02T12:01:30)", func(s *Schedule) { s.DeleteAfter = true })
	w.feed(t, l)
	if _, err := w.records.Update(t.Context(), "default", "changed", func(s *Schedule) error { s.Modified = s.Modified.Add(1); return nil }); err != nil {
		t.Fatal(err)
	}
	w.pass(t, 3*time.Minute, l)
	if got := w.slots(); got != "0s 1m0s 1m30s 2m0s" {
		t.Errorf("fired at %s", got)
	}
	left, err := w.records.Schedules(t.Context(), "")
	if err != nil || len(left) != 1 || left[0].Name != "changed" {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestEachSlotOnce has three loops on one store.
func TestEachSlotOnce(t *testing.T) {
	w := newWorld(t)
	const rules, minutes = 30, 3
	for i := range rules {
		w.rule(t, fmt.Sprint("r", i), "cron(* * * * ? *)")
	}
	loops := []*Loop{w.loop(t), w.loop(t), w.loop(t)}
	for i := range minutes * 6 {
		w.set(begin.Add(time.Duration(i+1) * 10 * time.Second))
		w.tick(t, loops...)
	}
	seen := map[string]int{}
	for _, d := range w.sent {
		seen[d.ID]++
	}
	if len(w.sent) != rules*minutes || len(seen) != rules*minutes {
		t.Errorf("%d deliveries, %d different ones, want %d", len(w.sent), len(seen), rules*minutes)
	}
	var fired uint64
	for _, l := range loops {
		fired += l.Counts().Fired
	}
	if fired != rules*minutes {
		t.Errorf("%d counted", fired)
	}
}

// TestClaimExpires has a node die between its claim and its delivery, and between its delivery and the note of it.
func TestClaimExpires(t *testing.T) {
	w := newWorld(t)
	w.rule(t, "r", "cron(* * * * ? *)")
	dead, alive := w.loop(t), w.loop(t)
	slot := begin.Add(time.Minute)
	w.set(slot)
	if _, _, err := dead.claim(t.Context(), dead.entries["rule/r"], slot); err != nil {
		t.Fatal(err)
	}
	if err := dead.send(t.Context(), dead.entries["rule/r"], slot); err != nil {
		t.Fatal(err)
	}
	w.tick(t, alive)
	w.pass(t, claimTime-time.Second, alive)
	if got := w.slots(); got != "1m0s" {
		t.Fatalf("while the claim holds: %s", got)
	}
	w.pass(t, 5*time.Second, alive)
	if got := w.slots(); got != "1m0s 1m0s" || w.sent[0].ID != w.sent[1].ID || !w.sent[0].Once || string(w.sent[0].Input) != string(w.sent[1].Input) {
		t.Fatalf("after it: %s, %+v", got, w.sent)
	}
	w.pass(t, 30*time.Second, dead, alive)
	if got := w.slots(); got != "1m0s 1m0s 2m0s" {
		t.Errorf("afterwards: %s", got)
	}
}

// TestClaimFromTheFuture is of a node that died while its clock was ahead.
func TestClaimFromTheFuture(t *testing.T) {
	w := newWorld(t)
	w.rule(t, "r", "cron(* * * * ? *)")
	dead, alive := w.loop(t), w.loop(t)
	w.set(begin.Add(24 * time.Hour))
	if _, _, err := dead.claim(t.Context(), dead.entries["rule/r"], begin.Add(24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.set(begin.Add(time.Minute))
	w.tick(t, alive)
	if got := w.slots(); got != "1m0s" {
		t.Errorf("fired at %s", got)
	}
}

func TestDowntime(t *testing.T) {
	for _, tt := range []struct {
		name, expression string
		down             time.Duration
		want             string
	}{
		{"the newest of many", "rate(1 minute)", 4*time.Minute + 30*time.Second, "1m0s 5m0s 6m0s"},
		{"young enough", "rate(1 hour)", time.Hour + 3*time.Minute, "1h0m0s"},
		{"too old", "rate(1 hour)", time.Hour + 6*time.Minute, ""},
		{"a day", "cron(30 * * * ? *)", 24 * time.Hour, ""},
		{"a day, minutely", "cron(* * * * ? *)", 24 * time.Hour, "1m0s 24h0m0s 24h1m0s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.rule(t, "r", tt.expression)
			w.pass(t, time.Minute, w.loop(t))
			w.set(begin.Add(30*time.Second + tt.down))
			l := w.loop(t)
			w.tick(t, l)
			w.pass(t, 61*time.Second, l)
			if got := w.slots(); got != tt.want {
				t.Errorf("fired at %s, want %s", got, tt.want)
			}
			if missed := l.Counts().Missed; (missed > 0) != (tt.want == "") {
				t.Errorf("%d missed", missed)
			}
		})
	}
}

// TestNoCatchUp fires in time, within the precision, and makes up for nothing.
func TestNoCatchUp(t *testing.T) {
	w := newWorld(t)
	w.rule(t, "r", "rate(5 minutes)")
	l, err := New(Config{Store: w.store, Account: account, Deliver: w.deliver, Now: w.clock, CatchUp: 1})
	if err != nil {
		t.Fatal(err)
	}
	w.feed(t, l)
	for _, at := range []time.Duration{5*time.Minute + time.Second, 10*time.Minute + 59*time.Second, 16*time.Minute + time.Second, 20 * time.Minute} {
		w.set(begin.Add(at))
		w.tick(t, l)
	}
	if got := w.slots(); got != "5m0s 10m0s 20m0s" {
		t.Errorf("fired at %s", got)
	}
}

// TestDowntimeOfOneTimeSchedules: they are not lost while their policy allows.
func TestDowntimeOfOneTimeSchedules(t *testing.T) {
	w := newWorld(t)
	w.schedule(t, "day", "at(2026-03-02T13:00:00)", nil)
	w.schedule(t, "minute", "at(2026-03-02T13:00:00)", func(s *Schedule) { s.Target.Policy.Age = time.Minute; s.DeleteAfter = true })
	w.set(begin.Add(10 * time.Hour))
	l := w.loop(t)
	w.pass(t, 3*time.Second, l)
	if got := w.slots(); got != "1h0m0s" || !strings.HasSuffix(w.sent[0].Source, "/day") {
		t.Errorf("fired at %s", got)
	}
	left, err := w.records.Schedules(t.Context(), "")
	if err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestClock puts the clock forward by a day and back again.
func TestClock(t *testing.T) {
	w := newWorld(t)
	w.rule(t, "r", "cron(* * * * ? *)")
	l := w.loop(t)
	w.pass(t, 2*time.Minute, l)
	w.set(begin.Add(24 * time.Hour))
	w.pass(t, 10*time.Second, l)
	if got := w.slots(); got != "1m0s 2m0s 24h0m0s" {
		t.Fatalf("after a day at once: %s", got)
	}
	w.set(begin) // 10 seconds later it is right, or two minutes slow
	w.pass(t, 4*time.Minute, l)
	if got := w.slots(); got != "1m0s 2m0s 24h0m0s 3m0s 4m0s" {
		t.Fatalf("after that was taken back: %s", got)
	}
	again := w.loop(t)
	w.set(begin.Add(24*time.Hour - 30*time.Second))
	w.pass(t, 2*time.Minute, again)
	if got := w.slots(); got != "1m0s 2m0s 24h0m0s 3m0s 4m0s 23h59m0s 24h1m0s" {
		t.Errorf("a day later: %s", got)
	}
}

func TestFailureIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.rule(t, "r", "rate(1 minute)")
	l := w.loop(t)
	w.fail = errors.New("the disk is full")
	w.pass(t, 65*time.Second, l)
	w.fail = nil
	w.pass(t, 20*time.Second, l)
	if got := w.slots(); got != "1m0s" {
		t.Errorf("fired at %s", got)
	}
}

func TestTwoTargetsOneOfWhichFails(t *testing.T) {
	w := newWorld(t)
	w.rule(t, "r", "rate(1 minute)")
	if _, err := w.rules.Update(t.Context(), "r", func(r *events.Rule) error {
		r.Targets = append(r.Targets, events.Target{ID: "2", ARN: target + "2"})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	l := w.loop(t)
	w.pass(t, time.Minute, l)
	if got := w.slots(); got != "1m0s 1m0s" || w.sent[0].ID == w.sent[1].ID {
		t.Errorf("fired at %s: %+v", got, w.sent)
	}
}

// TestChanges disables, enables, deletes and makes anew while the loop runs.
func TestChanges(t *testing.T) {
	w := newWorld(t)
	w.rule(t, "r", "cron(* * * * ? *)")
	l := w.loop(t)
	w.pass(t, time.Minute, l)
	set := func(change func(*events.Rule) error) {
		t.Helper()
		if _, err := w.rules.Update(t.Context(), "r", change); err != nil {
			t.Fatal(err)
		}
		w.feed(t, l)
	}
	set(func(r *events.Rule) error { r.State = events.Disabled; return nil })
	w.pass(t, 90*time.Second, l) // 2:30
	set(func(r *events.Rule) error { r.State, r.Since = events.Enabled, w.clock(); return nil })
	w.pass(t, 40*time.Second, l) // 3:10
	if got := w.slots(); got != "1m0s 3m0s" {
		t.Fatalf("fired at %s", got)
	}
	if err := w.rules.Delete(t.Context(), "r", func(*events.Rule) error { return nil }); err != nil {
		t.Fatal(err)
	}
	w.feed(t, l)
	w.pass(t, time.Minute, l) // 4:10
	if left, err := w.records.progress.List(t.Context(), ""); err != nil || len(left) != 0 {
		t.Errorf("progress of what is gone: %v, %v", left, err)
	}
	w.rule(t, "r", "cron(* * * * ? *)")
	w.feed(t, l)
	w.pass(t, time.Minute, l)
	if got := w.slots(); got != "1m0s 3m0s 5m0s" {
		t.Errorf("fired at %s", got)
	}
}

func TestExpect(t *testing.T) {
	w := newWorld(t)
	w.rule(t, "a", "cron(* * * * ? *)")
	w.rule(t, "b", "cron(0/2 * * * ? *)")
	w.schedule(t, "s", "rate(2 minutes)", func(s *Schedule) { s.Target.ARN = target + ":live" })
	w.schedule(t, "q", "rate(1 minutes)", func(s *Schedule) { s.Target.ARN = "arn:aws:sqs:eu-west-1:123456789012:q" })
	l := w.loop(t)
	w.pass(t, 2*time.Minute+5*time.Second, l)
	want := []thaw.Forecast{
		{Function: "f", At: begin.Add(time.Minute), Environments: 1},
		{Function: "f", At: begin.Add(2 * time.Minute), Environments: 2},
		{Function: "f", Qualifier: "live", At: begin.Add(2 * time.Minute), Environments: 1},
	}
	slices.SortFunc(w.forecasts, func(a, b thaw.Forecast) int {
		return strings.Compare(a.At.String()+a.Qualifier, b.At.String()+b.Qualifier)
	})
	if !slices.Equal(w.forecasts, want) {
		t.Errorf("got  %v\nwant %v", w.forecasts, want)
	}
}

// TestGroupDeletion finishes what was interrupted.
func TestGroupDeletion(t *testing.T) {
	w := newWorld(t)
	if err := w.records.CreateGroup(t.Context(), &Group{Name: "g", Deleting: true}); err != nil {
		t.Fatal(err)
	}
	w.schedule(t, "s", "rate(1 minute)", func(s *Schedule) { s.Group = "g" })
	w.loop(t)
	if _, err := w.records.Group(t.Context(), "g"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("group: %v", err)
	}
	if left, err := w.records.Schedules(t.Context(), ""); err != nil || len(left) != 0 {
		t.Errorf("schedules: %v, %v", left, err)
	}
}

// TestRun follows the store, with the machine's clock.
func TestRun(t *testing.T) {
	w := newWorld(t)
	done := make(chan delivery.Delivery, 10)
	l, err := New(Config{Store: w.store, Account: account, Deliver: func(_ context.Context, d delivery.Delivery) error { done <- d; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	w.now = time.Now()
	s := w.schedule(t, "s", "at("+w.now.UTC().Add(time.Second).Format("2006-01-02T15:04:05")+")", func(s *Schedule) { s.DeleteAfter = true })
	select {
	case d := <-done:
		if d.Source != s.ARN(account) {
			t.Errorf("%+v", d)
		}
	case <-time.After(30 * time.Second):
		t.Error("not fired")
	}
	for deadline := time.After(30 * time.Second); ; {
		if _, err := w.records.Schedule(ctx, "default", "s"); errors.Is(err, state.ErrNotFound) {
			break
		}
		select {
		case <-deadline:
			t.Fatal("not deleted")
		case <-time.After(10 * time.Millisecond):
		}
	}
	stop()
	running.Wait()
}

// BenchmarkTick has 20,000 schedules due at the same second.
func BenchmarkTick(b *testing.B) {
	w := newWorld(b)
	const n = 20_000
	for i := range n {
		w.schedule(b, fmt.Sprint(i), "cron(* * * * ? *)", func(s *Schedule) { s.Timezone = "Europe/Berlin" })
	}
	l := w.loop(b)
	l.Tick(b.Context())
	b.ResetTimer()
	for i := range b.N {
		w.set(begin.Add(time.Duration(i+1) * time.Minute))
		l.Tick(b.Context())
	}
	b.ReportMetric(float64(len(w.sent))/b.Elapsed().Seconds(), "fired/s")
	w.sent = nil
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l.entries, l.queue = nil, nil
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(before.HeapAlloc-after.HeapAlloc)/n, "B/schedule")
}

// TestCrashes has nodes die at any point, one after the other, while slots come due: each slot is fired, and what is fired
// twice has the id that it had before.
func TestCrashes(t *testing.T) {
	w := newWorld(t)
	const rules, minutes = 5, 20
	for i := range rules {
		w.rule(t, fmt.Sprint("r", i), "cron(* * * * ? *)")
	}
	random := rand.New(rand.NewPCG(1, 2))
	crashes, died := 0, time.Time{}
	l := w.loop(t)
	for range minutes * 60 / 5 {
		w.set(w.clock().Add(5 * time.Second))
		ctx, die := context.WithCancel(t.Context())
		left := random.IntN(16) // steps until it dies; one that comes after it lives for a minute
		if w.clock().Sub(died) < time.Minute {
			left = -1
		}
		l.cfg.Deliver = func(ctx context.Context, d delivery.Delivery) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if left--; left == 0 {
				die()
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			w.sent = append(w.sent, d)
			if left--; left == 0 {
				die()
			}
			return nil
		}
		l.Tick(ctx)
		if ctx.Err() != nil {
			crashes++
			died = w.clock()
			l = w.loop(t)
		}
		die()
	}
	w.set(w.clock().Add(claimTime))
	w.tick(t, w.loop(t))
	fired := map[string]string{}
	slots := map[string]bool{}
	for _, d := range w.sent {
		slot := d.Source + d.Time.String()
		if before, ok := fired[slot]; ok && before != d.ID {
			t.Errorf("%s has the ids %s and %s", slot, before, d.ID)
		}
		fired[slot] = d.ID
		slots[slot] = true
	}
	if len(slots) != rules*minutes || crashes < 5 || len(w.sent) == len(slots) {
		t.Errorf("%d slots of %d, %d deliveries, %d crashes", len(slots), rules*minutes, len(w.sent), crashes)
	}
}

// TestBegunSlotIsFinished: a node died with a slot claimed, and nobody looked before the next one came.
func TestBegunSlotIsFinished(t *testing.T) {
	w := newWorld(t)
	w.rule(t, "r", "cron(* * * * ? *)")
	dead := w.loop(t)
	w.set(begin.Add(time.Minute))
	if _, _, err := dead.claim(t.Context(), dead.entries["rule/r"], begin.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	w.set(begin.Add(3*time.Minute + 10*time.Second))
	l := w.loop(t)
	w.pass(t, 3*time.Second, l)
	if got := w.slots(); got != "1m0s 3m0s" {
		t.Errorf("fired at %s", got)
	}
	if _, _, err := dead.claim(t.Context(), dead.entries["rule/r"], begin.Add(4*time.Minute)); err != nil {
		t.Fatal(err)
	}
	w.set(begin.Add(20*time.Minute + 10*time.Second))
	w.pass(t, 3*time.Second, l)
	if got := w.slots(); got != "1m0s 3m0s 20m0s" {
		t.Errorf("after too long: fired at %s", got)
	}
}

// TestProgressOfTheGone is deleted by the next loop, and that of the disabled is not.
func TestProgressOfTheGone(t *testing.T) {
	w := newWorld(t)
	w.rule(t, "gone", "cron(* * * * ? *)")
	w.rule(t, "off", "cron(* * * * ? *)")
	w.schedule(t, "gone", "cron(* * * * ? *)", nil)
	w.schedule(t, "there", "cron(* * * * ? *)", nil)
	w.pass(t, time.Minute, w.loop(t))
	_, err := w.rules.Update(t.Context(), "off", func(r *events.Rule) error { r.State = events.Disabled; return nil })
	if err := errors.Join(err, w.rules.Delete(t.Context(), "gone", func(*events.Rule) error { return nil }), w.records.Delete(t.Context(), "default", "gone")); err != nil {
		t.Fatal(err)
	}
	w.loop(t)
	left, err := w.records.progress.List(t.Context(), "")
	if err != nil || len(left) != 2 || left[0].Key != "rule/off" || left[1].Key != "schedule/default/there" {
		t.Errorf("%v, %v", left, err)
	}
}
