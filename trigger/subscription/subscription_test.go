package subscription

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"thaw"
	"thaw/state"
	"thaw/telemetry"
	"thaw/telemetry/filter"
	"thaw/telemetry/groups"
	"thaw/telemetry/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var account = thaw.Account{ID: "123456789012", Region: "eu-west-1"}

const target = "arn:aws:lambda:eu-west-1:123456789012:function:f"

// world is a store, an index, and a deliverer whose invocations are gathered.
type world struct {
	store    *state.Store
	index    *groups.Index
	settings *groups.Settings
	d        *Deliverer

	mu       sync.Mutex
	function *thaw.Function
	failure  error // of the next invocations
	ids      []string
	records  []record
	lineages []string
	attempts int
	data     []metrics.Datum

	stopDeliverer func()
}

const permission = `{"Effect":"Allow","Principal":{"Service":"logs.amazonaws.com"},"Action":"lambda:InvokeFunction",
	"Condition":{"ArnLike":{"AWS:SourceArn":"arn:aws:logs:eu-west-1:123456789012:log-group:g:*"}}}`

func newWorld(t *testing.T) *world {
	t.Helper()
	store, err := state.Open(t.Context(), state.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	w := &world{store: store, settings: groups.NewSettings(store)}
	w.function = &thaw.Function{
		Name: "f", Config: thaw.Version{Function: "f"}, Policies: map[string]thaw.Policy{"": {Statements: []thaw.Statement{{SID: "s", Document: permission}}}},
	}
	if w.index, err = groups.New(groups.Config{Store: store, Settings: w.settings}); err != nil {
		t.Fatal(err)
	}
	run(t, w.index.Run)
	w.start(t)
	return w
}

func run(t *testing.T, fn func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := fn(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return stop
}

func (w *world) start(t *testing.T) {
	t.Helper()
	var err error
	w.d, err = New(Config{Account: account, Store: w.store, Groups: w.index, Settings: w.settings, Functions: w, Enqueue: w.enqueue, PutMetrics: w.put})
	if err != nil {
		t.Fatal(err)
	}
	w.stopDeliverer = run(t, w.d.Run)
}

func (w *world) Function(name string) (*thaw.Function, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.function, w.function != nil && name == "f"
}

func (w *world) enqueue(_ context.Context, i Invocation) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attempts++
	if w.failure != nil {
		return w.failure
	}
	if i.Function.Name != "f" {
		return fmt.Errorf("invoked %+v", i.Function)
	}
	var in struct {
		AWSLogs struct{ Data []byte }
	}
	if err := json.Unmarshal(i.Payload, &in); err != nil {
		return err
	}
	zip, err := gzip.NewReader(bytes.NewReader(in.AWSLogs.Data))
	if err != nil {
		return err
	}
	var r record
	if err := json.NewDecoder(zip).Decode(&r); err != nil {
		return err
	}
	w.ids, w.records, w.lineages = append(w.ids, i.ID), append(w.records, r), append(w.lineages, i.Lineage)
	return nil
}

func (w *world) put(_ context.Context, data []metrics.Datum) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range data {
		if data[i].Values[0] < 0 {
			return thaw.Errorf(thaw.CodeInvalidParameterValue, "no")
		}
	}
	w.data = append(w.data, data...)
	return nil
}

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) subscribe(t *testing.T, filters ...groups.Subscription) {
	t.Helper()
	newest, err := w.index.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range filters {
		filters[i].After = newest
		filters[i].Destination = target
	}
	begin := groups.Group{Created: time.Now()}
	if err := w.settings.Update(t.Context(), "g", begin, func(g *groups.Group) error { g.Subscriptions = filters; return nil }); err != nil {
		t.Fatal(err)
	}
}

func (w *world) write(t *testing.T, stream string, lines ...string) {
	t.Helper()
	var events []telemetry.Event
	for _, line := range lines {
		events = append(events, telemetry.Event{At: time.UnixMilli(1_700_000_000_000), Message: line})
	}
	if err := w.index.Append(t.Context(), "g", stream, events); err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition, which is looked at under the lock.
func (w *world) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.After(20 * time.Second); ; {
		w.mu.Lock()
		is := ok()
		w.mu.Unlock()
		if is {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("it never comes that %s: %d attempts, %+v", what, w.attempts, w.records)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (w *world) messages() (list []string) {
	for _, r := range w.records {
		for _, e := range r.LogEvents {
			list = append(list, r.LogStream+":"+e.Message)
		}
	}
	return list
}

func TestEventsAreDeliveredInAWSsForm(t *testing.T) {
	w := newWorld(t)
	w.write(t, "a", "before ERROR")
	w.subscribe(t, groups.Subscription{Name: "errors", Pattern: "ERROR"})
	w.write(t, "a", "one ERROR", "fine")
	w.write(t, "b", "two ERROR")
	w.write(t, "a", "three ERROR")
	w.until(t, "three events are delivered", func() bool { return len(w.messages()) == 3 })
	got := w.messages()
	slices.Sort(got)
	if diff := cmp.Diff([]string{"a:one ERROR", "a:three ERROR", "b:two ERROR"}, got); diff != "" {
		t.Error(diff)
	}
	r := w.records[0]
	want := record{MessageType: "DATA_MESSAGE", Owner: account.ID, LogGroup: "g", LogStream: r.LogStream, SubscriptionFilters: []string{"errors"}, LogEvents: r.LogEvents}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Error(diff)
	}
	if e := r.LogEvents[0]; len(e.ID) != 56 || e.Timestamp != 1_700_000_000_000 {
		t.Errorf("%+v", e)
	}
}

func TestNothingIsLostWhileInvocationsFailOrThePlatformIsAway(t *testing.T) {
	w := newWorld(t)
	w.subscribe(t, groups.Subscription{Name: "all"})
	w.set(func() { w.failure = thaw.Errorf(thaw.CodeTooManyRequests, "busy") })
	w.write(t, "a", "1")
	w.until(t, "there are two attempts", func() bool { return w.attempts > 1 })
	w.stopDeliverer()
	w.write(t, "a", "2")
	w.set(func() { w.failure = nil })
	w.start(t)
	w.write(t, "a", "3")
	w.until(t, "all came", func() bool { return strings.Contains(fmt.Sprint(w.messages()), "a:1 a:2 a:3") })
	w.stopDeliverer()
	n := len(w.messages())
	w.start(t)
	w.write(t, "a", "4")
	w.until(t, "the next came", func() bool { return slices.Contains(w.messages(), "a:4") })
	if got := w.messages(); len(got) != n+1 {
		t.Errorf("after a restart: %v", got)
	}
}

func TestWhatCannotBeDeliveredIsDropped(t *testing.T) {
	w := newWorld(t)
	w.subscribe(t, groups.Subscription{Name: "all"})
	for _, change := range []func(){
		func() { w.failure = thaw.Errorf(thaw.CodeRequestTooLarge, "too large") },
		func() { w.failure, w.function.Config.LogGroup = nil, "g" },                 // it would be invoked for its own lines
		func() { w.function.Config.LogGroup, w.function.Policies = "", nil },        // it is not permitted any more
		func() { w.failure, w.function = errors.New("it must not come here"), nil }, // it is gone
	} {
		w.set(change)
		before := w.d.Counts().Dropped
		w.write(t, "a", "x", "y")
		w.until(t, "two events are dropped", func() bool { return w.d.Counts().Dropped == before+2 })
	}
	w.set(func() {
		if len(w.records) > 0 || w.attempts != 1 {
			t.Errorf("%d attempts, %+v", w.attempts, w.records)
		}
	})
}

// Functions that subscribe to each other's logs would go round without end.
func TestLogsInvokeNoFunctionTwiceInOneChain(t *testing.T) {
	w := newWorld(t)
	w.subscribe(t, groups.Subscription{Name: "all", Pattern: "x"})
	add := func(stream string, events ...telemetry.Event) {
		t.Helper()
		for i := range events {
			events[i].At, events[i].Message = time.Now(), "x"
		}
		if err := w.index.Append(t.Context(), "g", stream, events); err != nil {
			t.Fatal(err)
		}
	}
	mark := w.d.markOf("f") + ":1"
	add("first", telemetry.Event{}, telemetry.Event{RequestID: "1"})
	w.until(t, "it is delivered", func() bool { return len(w.lineages) == 1 })
	add("other", telemetry.Event{RequestID: "2", Lineage: "0123abcd:3"})
	w.until(t, "another chain is", func() bool { return len(w.lineages) == 2 })
	w.set(func() {
		if diff := cmp.Diff([]string{mark, "0123abcd:3|" + mark}, w.lineages); diff != "" {
			t.Error(diff)
		}
	})
	// What f wrote and what that caused; and what an environment that has just crashed writes outside of invocations, as it
	// does in each round of a loop.
	add("loop", telemetry.Event{RequestID: "3", Lineage: mark + "|0123abcd:1"}, telemetry.Event{RequestID: "4"})
	w.until(t, "one is dropped", func() bool { return w.d.Counts().Dropped == 1 })
	w.until(t, "the other is delivered", func() bool { return len(w.lineages) == 3 })
	add("crashed", telemetry.Event{})
	w.until(t, "one more is dropped", func() bool { return w.d.Counts().Dropped == 2 })
	w.set(func() { w.function.RecursiveLoop = thaw.RecursionAllow })
	add("allowed", telemetry.Event{RequestID: "5", Lineage: mark})
	w.until(t, "it is delivered", func() bool { return len(w.lineages) == 4 && w.lineages[3] == mark })
}

// Whoever can invoke a function can make up the lineage that its log lines have.
func TestMarksCannotBeMadeUp(t *testing.T) {
	w := newWorld(t)
	one := w.d.markOf("f")
	w.stopDeliverer()
	w.start(t)
	if other := w.d.markOf("f"); one == other || len(one) != 8 || w.d.markOf("f") != other || w.d.markOf("g") == other {
		t.Errorf("%s, %s", one, other)
	}
}

// A filter may mean nothing but lines that belong to no invocation.
func TestALoopIsSeenInLinesThatTheFilterDoesNotMean(t *testing.T) {
	w := newWorld(t)
	w.subscribe(t, groups.Subscription{Name: "inits", Pattern: "INIT_START"})
	events := []telemetry.Event{
		{At: time.Now(), Message: "START", RequestID: "1", Lineage: w.d.markOf("f") + ":1"}, {At: time.Now(), Message: "INIT_START"},
	}
	if err := w.index.Append(t.Context(), "g", "s", events); err != nil {
		t.Fatal(err)
	}
	w.until(t, "it is dropped", func() bool { return w.d.Counts().Dropped == 1 })
}

// After a crash the same first event may come with others than before. As the same invocation they would be lost.
func TestOtherPortionsAreOtherInvocations(t *testing.T) {
	w := newWorld(t)
	f := newFollower(w.d, "g", groups.Subscription{Name: "all", Destination: target})
	var err error
	if f.pattern, err = filter.Compile(""); err != nil {
		t.Fatal(err)
	}
	var events []groups.Event
	for i := range 3 {
		events = append(events, groups.Event{Event: telemetry.Event{Message: "x"}, Position: groups.Position{At: 5, Sequence: uint64(i)}})
	}
	for _, n := range []int{1, 1, 3, 3} {
		if err := f.deliver(t.Context(), origin{stream: "s"}, events[:n]); err != nil {
			t.Fatal(err)
		}
	}
	w.set(func() {
		if w.ids[0] != w.ids[1] || w.ids[2] != w.ids[3] || w.ids[0] == w.ids[2] {
			t.Errorf("%v", w.ids)
		}
	})
}

func TestPositionsOfLongNamesAreKept(t *testing.T) {
	w := newWorld(t)
	name := strings.Repeat("n", 512)
	for _, make := range []func() *follower{
		func() *follower { return newFollower(w.d, name, groups.Subscription{Name: name}) },
		func() *follower { return newMetricFollower(w.d, name, &groups.MetricFilter{Name: name}) },
	} {
		f := make()
		f.at = position{After: 7, Filter: 5}
		f.save(t.Context())
		var kept position
		if err := w.d.positions.Get(t.Context(), positionKey(make().key), &kept); err != nil || kept != f.at {
			t.Errorf("%+v, %v", kept, err)
		}
	}
}

// An invocation takes 1 MiB. What stands around a message counts too: a payload that could not be compressed fits.
func TestManyEmptyLinesFitIntoPayloads(t *testing.T) {
	w := newWorld(t)
	f := newFollower(w.d, "g", groups.Subscription{Name: "all", Destination: target})
	var err error
	if f.pattern, err = filter.Compile(""); err != nil {
		t.Fatal(err)
	}
	const lines = 12_000
	for i := range lines {
		e := groups.Event{Event: telemetry.Event{At: time.UnixMilli(int64(i)), Stream: "s", Message: "\n"}, Position: groups.Position{At: int64(i)}}
		f.add(read{events: []groups.Event{e}})
	}
	if err := f.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range w.records {
		n += len(r.LogEvents)
		text, err := json.Marshal(r)
		if err != nil || len(text) > 1<<20 {
			t.Errorf("a payload of %d bytes, %v", len(text), err)
		}
	}
	if n != lines {
		t.Errorf("%d lines of %d", n, lines)
	}
}

func TestFiltersComeAndGo(t *testing.T) {
	w := newWorld(t)
	w.subscribe(t, groups.Subscription{Name: "a", Pattern: "x"}, groups.Subscription{Name: "b", Pattern: "y"})
	w.write(t, "s", "x", "y")
	w.until(t, "both got theirs", func() bool { return len(w.messages()) == 2 })
	w.subscribe(t, groups.Subscription{Name: "a", Pattern: "y"})
	w.until(t, "one is left", func() bool { w.d.mu.Lock(); defer w.d.mu.Unlock(); return len(w.d.running) == 1 })
	w.write(t, "s", "x", "y")
	w.until(t, "it got its event", func() bool { return len(w.messages()) == 3 })
	if got := w.records[2].SubscriptionFilters[0] + w.messages()[2]; got != "as:y" {
		t.Error(got)
	}
}

func TestLargePayloadsAreCut(t *testing.T) {
	w := newWorld(t)
	w.subscribe(t, groups.Subscription{Name: "all"})
	for range 5 {
		w.write(t, "s", strings.Repeat("x", 300<<10), strings.Repeat("y", 300<<10))
	}
	w.until(t, "all came", func() bool { return len(w.messages()) == 10 })
	for _, r := range w.records {
		size := 0
		for _, e := range r.LogEvents {
			size += len(e.Message)
		}
		if size > maxPayload {
			t.Errorf("a payload of %d bytes", size)
		}
	}
}

func TestOneRefusedValueTakesNoOther(t *testing.T) {
	w := newWorld(t)
	begin := groups.Group{Created: time.Now(), MetricFilters: []groups.MetricFilter{
		{Name: "ms", Pattern: "{ $.ms = * }", Namespace: "n", Metric: "Latency", Value: "$.ms", Dimensions: map[string]string{"Path": "$.path"}},
	}}
	if err := w.settings.Create(t.Context(), "g", begin); err != nil {
		t.Fatal(err)
	}
	w.write(t, "a", `{"ms": 1, "path": "/x"}`, `{"ms": -1, "path": "/x"}`, `{"ms": 2, "path": "/x"}`, `{"ms": 3, "path": "`+strings.Repeat("x", 2000)+`"}`)
	w.until(t, "one is refused", func() bool { return w.d.Counts() == Counts{Delivered: 2, Dropped: 1} })
	w.set(func() {
		if len(w.data) != 2 {
			t.Errorf("%+v", w.data)
		}
	})
}

func TestMetricFilters(t *testing.T) {
	w := newWorld(t)
	none := 0.0
	begin := groups.Group{Created: time.Now(), MetricFilters: []groups.MetricFilter{
		{Name: "errors", Pattern: "ERROR", Namespace: "n", Metric: "Errors", Value: "1", Default: &none, Unit: "Count"},
		{Name: "latency", Pattern: "{ $.ms = * }", Namespace: "n", Metric: "Latency", Value: "$.ms", Dimensions: map[string]string{"Path": "$.path"}},
	}}
	if err := w.settings.Create(t.Context(), "g", begin); err != nil {
		t.Fatal(err)
	}
	w.write(t, "a", `{"ms": 12.5, "path": "/x"}`, `{"ms": 3}`, `{"ms": "no number", "path": "/y"}`)
	w.until(t, "there is a default and a value", func() bool { return len(w.data) == 2 })
	w.write(t, "a", "an ERROR")
	w.until(t, "there is an error", func() bool { return len(w.data) == 3 })
	var got []string
	for _, d := range w.data {
		got = append(got, fmt.Sprint(d.Namespace, d.Name, d.Unit, d.Values, d.Dimensions))
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"nErrorsCount[0] []", "nErrorsCount[1] []", "nLatency[12.5] [{Path /x}]"}, got); diff != "" {
		t.Error(diff)
	}
}
