package alarms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"thaw"
	"thaw/state"
	"thaw/trigger/delivery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	function = "arn:aws:lambda:eu-west-1:123456789012:function:f"
	queue    = "arn:aws:sqs:eu-west-1:123456789012:q"
)

var (
	account = thaw.Account{ID: "123456789012", Region: "eu-west-1"}
	noon    = time.Date(2026, 3, 2, 12, 0, 5, 0, time.UTC)
)

// world is a platform with a function, f, that alarms may invoke, a queue, q, and one metric, whose values are set by minute.
type world struct {
	t       *testing.T
	loop    *Loop
	store   *state.Store
	dir     string // the store's
	records *Records

	mu        sync.Mutex
	now       time.Time
	values    map[int64]float64 // by the period's begin
	asked     [][]Query
	refuse    error // of Values
	failing   error // of Deliver
	delivered []delivery.Delivery
	events    []Event
	f         thaw.Function
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	store, err := state.Open(t.Context(), state.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	w := &world{t: t, now: noon, store: store, dir: dir, records: NewRecords(store), values: map[int64]float64{}}
	w.f = thaw.Function{Name: "f", Policies: map[string]thaw.Policy{"": {Statements: []thaw.Statement{
		{Document: `{"Effect":"Allow","Principal":{"Service":"lambda.alarms.cloudwatch.amazonaws.com"},"Action":"lambda:InvokeFunction"}`},
	}}}}
	w.start()
	return w
}

// start makes the loop, anew after a crash.
func (w *world) start() {
	w.t.Helper()
	var err error
	w.loop, err = New(Config{
		Account: account, Records: w.records, Functions: w, Now: w.clock, Values: w.query,
		Deliver: func(_ context.Context, x delivery.Delivery) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.failing == nil {
				w.delivered = append(w.delivered, x)
			}
			return w.failing
		},
		HasQueue: func(name string) bool { return name == "q" },
		Publish: func(_ context.Context, e Event) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
			return nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) Function(name string) (*thaw.Function, bool) { return &w.f, name == "f" }

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) query(_ context.Context, queries []Query, from, to time.Time) ([]Point, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, queries)
	if w.refuse != nil {
		return nil, w.refuse
	}
	var points []Point
	for at := from.Unix(); at < to.Unix(); at += int64(queries[0].Period) {
		if v, ok := w.values[at]; ok {
			if queries[0].Stat == "SampleCount" {
				v = 1
			}
			points = append(points, Point{at, v})
		}
	}
	return points, nil
}

// put stores an alarm on the metric, 1 of 1 above 5, with actions of the state ALARM.
func (w *world) put(name string, change func(*Alarm), actions ...string) *Alarm {
	w.t.Helper()
	now := w.clock()
	a := &Alarm{
		Name: name, Created: now, Updated: now, Enabled: true, Actions: map[State][]string{InAlarm: actions},
		Status: Status{Value: Insufficient, Reason: Initial, Updated: now, Transitioned: now},
		Metric: &Metric{
			Queries: []Query{{ID: "m1", Namespace: "N", Metric: "M", Dimensions: []Dimension{{"D", "v"}}, Stat: "Average", Period: 60}}, Evaluation: 1, Threshold: 5,
			Comparison: "GreaterThanThreshold", Missing: TreatNotBreaching,
		},
	}
	if change != nil {
		change(a)
	}
	if err := w.records.Create(w.t.Context(), a); err != nil {
		w.t.Fatal(err)
	}
	return a
}

// minute puts a value into the minute that begins so many minutes after noon.
func (w *world) minute(n int, v float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.values[noon.Truncate(time.Minute).Add(time.Duration(n)*time.Minute).Unix()] = v
}

// pass lets a time pass and the loop look once, with what is stored then, and waits for what it began.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	records, err := w.records.alarms.List(w.t.Context(), "")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range records {
		w.loop.changed(r.Key, r.Value)
	}
	if err := w.loop.Tick(w.t.Context(), w.clock()); err != nil {
		w.t.Fatal(err)
	}
	w.loop.working.Wait()
}

func (w *world) alarm(name string) *Alarm {
	w.t.Helper()
	a, err := w.records.Get(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) state(name string, want State) {
	w.t.Helper()
	if got := w.alarm(name).Status; got.Value != want {
		w.t.Errorf("%s is %s, want %s: %s", name, got.Value, want, got.Reason)
	}
}

// history gives the summaries of an alarm's history, the oldest first.
func (w *world) history(name string) (summaries []string) {
	w.t.Helper()
	j, err := w.records.History(w.t.Context(), name, w.clock())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, item := range j.Items {
		if !json.Valid([]byte(item.Data)) {
			w.t.Errorf("%s: %s", item.Summary, item.Data)
		}
		summaries = append(summaries, item.Summary)
	}
	return summaries
}

func TestTransitions(t *testing.T) {
	w := newWorld(t)
	w.put("a", nil, function, queue)
	w.pass(0)
	w.state("a", OK) // nothing came, which does not breach
	w.minute(0, 9)
	w.pass(30 * time.Second)
	w.state("a", OK) // the minute is not over
	w.pass(30 * time.Second)
	w.state("a", InAlarm)
	if len(w.delivered) != 2 || w.delivered[0].Target != function || w.delivered[1].Target != queue || !w.delivered[0].Once || w.delivered[0].Kind != "alarm" {
		t.Fatalf("%+v", w.delivered)
	}
	w.pass(time.Second)
	w.minute(1, 10)
	w.pass(time.Minute)
	w.state("a", InAlarm)
	if len(w.delivered) != 2 || len(w.events) != 2 {
		t.Errorf("%d actions and %d events for two changes", len(w.delivered), len(w.events))
	}
	w.minute(2, 1)
	w.pass(time.Minute)
	w.state("a", OK)
	w.pass(time.Second)
	if len(w.delivered) != 2 {
		t.Errorf("%+v: OK has no actions", w.delivered[2:])
	}
	want := []string{
		"Alarm updated from INSUFFICIENT_DATA to OK", "Alarm updated from OK to ALARM",
		"Successfully executed action " + function, "Successfully executed action " + queue, "Alarm updated from ALARM to OK",
	}
	if got := w.history("a"); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if a := w.alarm("a"); len(a.Outbox) != 0 {
		t.Errorf("left: %+v", a.Outbox)
	}
}

// TestSets is what SetAlarmState does: the next evaluation takes the state back, and the actions are those of each change.
func TestSets(t *testing.T) {
	w := newWorld(t)
	w.put("a", nil, function)
	w.pass(0)
	if _, err := w.records.Update(t.Context(), "a", func(a *Alarm) error {
		a.Set(InAlarm, "testing", "", w.clock())
		a.Set(InAlarm, "testing again", "", w.clock())
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	w.pass(time.Second)
	w.state("a", InAlarm)
	if len(w.delivered) != 1 {
		t.Errorf("%d actions", len(w.delivered))
	}
	w.pass(time.Minute)
	w.state("a", OK)
}

func TestDisabledActions(t *testing.T) {
	w := newWorld(t)
	w.put("a", func(a *Alarm) { a.Enabled = false }, function)
	w.minute(-1, 9)
	w.pass(0)
	w.state("a", InAlarm)
	if len(w.delivered) != 0 || len(w.events) != 1 {
		t.Errorf("%+v, %+v", w.delivered, w.events)
	}
}

// TestKilled: what was written with the state is done after a start, with the same id, and what was done but not noted is done
// again.
func TestKilled(t *testing.T) {
	w := newWorld(t)
	w.put("a", nil, function)
	w.minute(-1, 9)
	w.failing = errors.New("the store is closing")
	w.pass(0)
	w.state("a", InAlarm)
	outbox := w.alarm("a").Outbox
	if len(outbox) != 1 || outbox[0].Target != function {
		t.Fatalf("%+v", outbox)
	}
	w.failing = nil
	w.start()
	w.pass(10 * time.Second)
	if len(w.delivered) != 1 || w.delivered[0].ID != outbox[0].ID {
		t.Fatalf("%+v, %+v", w.delivered, outbox)
	}
	// As if the process had been killed before it was noted.
	if _, err := w.records.Update(t.Context(), "a", func(a *Alarm) error { a.Outbox = outbox; return nil }); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.pass(10 * time.Second)
	if len(w.delivered) != 2 || w.delivered[1].ID != outbox[0].ID {
		t.Errorf("%+v", w.delivered)
	}
	if got := w.history("a"); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

func TestRefusedActions(t *testing.T) {
	w := newWorld(t)
	for target, words := range map[string]string{
		"arn:aws:lambda:eu-west-1:123456789012:function:g":      "Function not found",
		"arn:aws:lambda:eu-west-1:123456789012:function:f:live": "because no resource-based policy allows the lambda:InvokeFunction action",
		"arn:aws:sqs:eu-west-1:123456789012:gone":               "The specified queue does not exist.",
	} {
		w.put(words, nil, target)
		w.minute(-1, 9)
		w.pass(0)
		w.pass(time.Second)
		got := w.history(words)
		if len(got) != 2 || !strings.HasPrefix(got[1], "Failed to execute action "+target+". Received error: ") || !strings.Contains(got[1], words) {
			t.Errorf("%q", got)
		}
	}
	if len(w.delivered) != 0 {
		t.Errorf("%+v", w.delivered)
	}
}

// TestPayload compares with AWS's example of what a function gets.
func TestPayload(t *testing.T) {
	w := newWorld(t)
	about := "Metric Alarm to test Lambda actions"
	w.put("a", func(a *Alarm) { a.Description = &about; a.Metric.Queries[0].Unit = "Percent" }, function, queue)
	w.minute(-1, 9)
	w.pass(0)
	const want = `{"source":"aws.cloudwatch","alarmArn":"arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a","accountId":"123456789012","time":"2026-03-02T12:00:05.000+0000","region":"eu-west-1","alarmData":{"alarmName":"a",` +
		`"state":{"value":"ALARM","reason":"Threshold Crossed: 1 out of the last 1 datapoints [9.0 (02/03/26 11:59:00)] was greater than the threshold (5.0) (minimum 1 datapoint for OK -> ALARM transition).","reasonData":"{\"version\":\"1.0\",\"queryDate\":\"2026-03-02T12:00:05.000+0000\",\"startDate\":\"2026-03-02T11:59:00.000+0000\",\"unit\":\"Percent\",\"statistic\":\"Average\",\"period\":60,\"recentDatapoints\":[9.0],\"threshold\":5.0,\"evaluatedDatapoints\":[{\"timestamp\":\"2026-03-02T11:59:00.000+0000\",\"value\":9.0}]}","timestamp":"2026-03-02T12:00:05.000+0000"},` +
		`"previousState":{"value":"INSUFFICIENT_DATA","reason":"Unchecked: Initial alarm creation","timestamp":"2026-03-02T12:00:05.000+0000"},` +
		`"configuration":{"description":"Metric Alarm to test Lambda actions","metrics":[{"id":"ID","metricStat":{"metric":{"namespace":"N","name":"M","dimensions":{"D":"v"}},"period":60,"stat":"Average","unit":"Percent"},"returnData":true}]}}}`
	got := string(w.delivered[0].Input)
	id := strings.Index(got, `"metrics":[{"id":"`) + len(`"metrics":[{"id":"`)
	if got = got[:id] + "ID" + got[id+36:]; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var message struct {
		AlarmName, NewStateValue, OldStateValue, AlarmArn string
		Trigger                                           struct {
			MetricName, Statistic string
			Threshold             float64
			Dimensions            []struct{ Name, Value string }
		}
	}
	if err := json.Unmarshal(w.delivered[1].Input, &message); err != nil {
		t.Fatal(err)
	}
	if m := message; m.AlarmName != "a" || m.NewStateValue != "ALARM" || m.OldStateValue != "INSUFFICIENT_DATA" || m.Trigger.Statistic != "AVERAGE" || m.Trigger.Dimensions[0].Value != "v" {
		t.Errorf("%s", w.delivered[1].Input)
	}
	if e := w.events[0]; e.DetailType != "CloudWatch Alarm State Change" || !strings.Contains(string(e.Detail), `"alarmName":"a"`) {
		t.Errorf("%+v", e)
	}
}

func TestEvaluationErrors(t *testing.T) {
	w := newWorld(t)
	w.put("a", nil, function)
	w.refuse = thaw.Errorf(thaw.CodeValidation, "No such thing.")
	w.pass(0)
	w.pass(time.Second)
	if a := w.alarm("a"); a.Problem != "EVALUATION_ERROR" || !strings.Contains(a.Status.Reason, "No such thing.") || len(w.asked) != 1 {
		t.Errorf("%+v, asked %d times", a, len(w.asked))
	}
	w.refuse = errors.New("the disk is gone")
	w.mu.Lock()
	w.now = w.now.Add(time.Minute)
	w.mu.Unlock()
	if err := w.loop.Tick(t.Context(), w.clock()); err == nil || !strings.Contains(err.Error(), "disk") {
		t.Errorf("%v", err)
	}
	w.refuse = nil
	w.pass(time.Second) // at once, not at the next minute
	if a := w.alarm("a"); a.Problem != "" || a.Status.Value != OK {
		t.Errorf("%+v", a)
	}
}

// TestChangedMeanwhile does not write what was found out about the alarm as it was before.
func TestChangedMeanwhile(t *testing.T) {
	w := newWorld(t)
	a := w.put("a", nil, function)
	w.minute(-1, 9)
	if _, err := w.records.Update(t.Context(), "a", func(a *Alarm) error {
		a.Metric.Threshold, a.Updated = 100, a.Updated.Add(time.Second)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.loop.learn(a) // the older one
	if err := w.loop.Tick(t.Context(), w.clock()); err != nil {
		t.Fatal(err)
	}
	w.state("a", Insufficient)
	w.pass(time.Second)
	w.state("a", OK)
}

func TestLowSamples(t *testing.T) {
	w := newWorld(t)
	w.put("a", func(a *Alarm) { a.Metric.LowSample, a.Metric.Queries[0].Stat = LowSampleIgnore, "p90" })
	w.minute(-1, 9)
	w.pass(0)
	w.state("a", Insufficient)
	if len(w.asked) != 2 || w.asked[1][0].Stat != "SampleCount" {
		t.Errorf("%+v", w.asked)
	}
}

// TestShortPeriods are evaluated every ten seconds.
func TestShortPeriods(t *testing.T) {
	w := newWorld(t)
	w.put("a", func(a *Alarm) { a.Metric.Queries[0].Period = 10 })
	w.pass(0)
	w.values[noon.Truncate(time.Minute).Unix()] = 9
	w.pass(6 * time.Second)
	w.state("a", OK)
	w.pass(time.Second) // 12:00:12: ten seconds and those that counting takes
	w.state("a", InAlarm)
}

func TestComposite(t *testing.T) {
	w := newWorld(t)
	w.put("a", nil)
	w.put("b", func(b *Alarm) { b.Metric.Threshold = 20 })
	w.put("c", func(c *Alarm) { c.Metric, c.Composite = nil, &Composite{Rule: "ALARM(a) AND NOT ALARM(b)"} }, function)
	w.put("d", func(d *Alarm) {
		d.Metric, d.Composite = nil, &Composite{Rule: "ALARM(arn:aws:cloudwatch:eu-west-1:123456789012:alarm:c)"}
	})
	w.pass(0)
	w.pass(time.Second)
	w.state("c", OK)
	w.minute(0, 9)
	w.pass(time.Minute)
	w.pass(time.Second)
	w.pass(time.Second)
	w.state("c", InAlarm)
	w.state("d", InAlarm)
	if got := w.alarm("c").Status; got.Reason != "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a transitioned to ALARM at Monday 02 March, 2026 12:01:06 UTC" ||
		got.Data != `{"triggeringAlarms":[{"arn":"arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a","state":{"value":"ALARM","timestamp":"2026-03-02T12:01:06.000+0000"}}]}` {
		t.Errorf("%+v", got)
	}
	if len(w.delivered) != 1 || !strings.Contains(string(w.delivered[0].Input), `"alarmRule":"ALARM(a) AND NOT ALARM(b)"`) {
		t.Errorf("%+v", w.delivered)
	}
	w.minute(1, 30)
	w.pass(time.Minute)
	w.pass(time.Second)
	w.pass(time.Second)
	w.state("c", OK)
	w.state("d", OK)
}

// TestFullDisk: what was done and cannot be noted is not done again every second, and is noted when there is room.
func TestFullDisk(t *testing.T) {
	w, h := newWorld(t), newHook(t)
	w.put("a", nil, function, h.URL)
	w.minute(-1, 9)
	w.failing = errors.New("not yet")
	h.answer.Store(500)
	w.pass(0)
	w.failing = nil
	h.answer.Store(200)
	calls := h.calls.Load()
	dir := w.dir
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	var free syscall.Statfs_t
	if err := syscall.Statfs(dir, &free); err != nil {
		t.Fatal(err)
	}
	reopen := func(reserve int64) *state.Store {
		store, err := state.Open(t.Context(), state.Config{Dir: dir, DiskReserve: reserve})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	full := reopen(2 * int64(free.Bavail) * free.Bsize)
	w.records = NewRecords(full)
	w.start()
	for range 5 {
		w.pass(10 * time.Second)
	}
	if len(w.delivered) != 1 || h.calls.Load() != calls+1 || len(w.alarm("a").Outbox) != 2 {
		t.Errorf("%d invocations, %d calls, %+v", len(w.delivered), h.calls.Load()-calls, w.alarm("a").Outbox)
	}
	if err := full.Close(); err != nil {
		t.Fatal(err)
	}
	again := reopen(0)
	defer again.Close()
	w.records = NewRecords(again)
	w.loop.cfg.Records = w.records
	w.pass(time.Second)
	w.pass(time.Second)
	if len(w.delivered) != 1 || h.calls.Load() != calls+1 || len(w.alarm("a").Outbox) != 0 {
		t.Errorf("%d invocations, %d calls, %+v", len(w.delivered), h.calls.Load()-calls, w.alarm("a").Outbox)
	}
	if got := w.history("a"); len(got) != 3 {
		t.Errorf("%q", got)
	}
}

// hook is a webhook that answers as it is told.
type hook struct {
	*httptest.Server
	calls  atomic.Int32
	answer atomic.Int32

	mu   sync.Mutex
	last *http.Request
	body []byte
}

func newHook(t *testing.T) *hook {
	h := &hook{}
	h.answer.Store(200)
	h.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h.calls.Add(1)
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		h.last, h.body = r, body
		h.mu.Unlock()
		if r.URL.Path == "/elsewhere" {
			t.Error("the redirect was followed")
		}
		rw.Header().Set("Location", "/elsewhere")
		rw.WriteHeader(int(h.answer.Load()))
	}))
	t.Cleanup(h.Close)
	return h
}

func TestWebhook(t *testing.T) {
	w, h := newWorld(t), newHook(t)
	w.put("a", nil, h.URL+"/hook?key=1")
	w.minute(-1, 9)
	w.pass(0)
	if h.calls.Load() != 1 {
		t.Fatalf("%d calls", h.calls.Load())
	}
	if r := h.last; r.Method != http.MethodPost || r.URL.RawQuery != "key=1" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get(deliveryHeader) == "" || r.Header.Get("Authorization") != "" || !strings.Contains(string(h.body), `"NewStateValue":"ALARM"`) {
		t.Errorf("%+v: %s", r, h.body)
	}
	if got := w.history("a"); len(got) != 2 || !slices.Contains(got, "Successfully executed action "+h.URL+"/hook?key=1") {
		t.Errorf("%q", got)
	}
}

// TestWebhookFails: what may get better is tried again a few times, with the same id, and a redirect is not followed.
func TestWebhookFails(t *testing.T) {
	for answer, calls := range map[int32]int32{500: 5, 429: 5, 302: 1, 404: 1, 200: 1} {
		t.Run(fmt.Sprint(answer), func(t *testing.T) {
			w, h := newWorld(t), newHook(t)
			h.answer.Store(answer)
			w.put("a", nil, h.URL)
			w.minute(-1, 9)
			ids := map[string]bool{}
			for range 50 {
				w.pass(5 * time.Second)
				h.mu.Lock()
				ids[h.last.Header.Get(deliveryHeader)] = true
				h.mu.Unlock()
			}
			if h.calls.Load() != calls || len(ids) != 1 {
				t.Errorf("%d calls with %d ids, want %d", h.calls.Load(), len(ids), calls)
			}
			got := w.history("a")
			if last := got[len(got)-1]; answer != 200 && !slices.ContainsFunc(got, func(s string) bool {
				return strings.HasPrefix(s, "Failed to execute action "+h.URL) && strings.Contains(s, fmt.Sprint(answer))
			}) {
				t.Errorf("%s", last)
			}
			if a := w.alarm("a"); len(a.Outbox) != 0 {
				t.Errorf("%+v", a.Outbox)
			}
		})
	}
}

// TestSlowWebhook keeps neither the same alarm's other actions up nor other alarms, nor webhooks of other hosts.
func TestSlowWebhook(t *testing.T) {
	w, h := newWorld(t), newHook(t)
	release := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer slow.Close()
	for i := range 2 * workers {
		w.put(fmt.Sprint("slow", i), nil, slow.URL, queue)
	}
	w.minute(-1, 9)
	look := func() {
		records, err := w.records.alarms.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			w.loop.changed(r.Key, r.Value)
		}
		if err := w.loop.Tick(t.Context(), w.clock()); err != nil {
			t.Fatal(err)
		}
	}
	look() // and the slots that there are for the slow ones are taken
	w.put("a", nil, function, h.URL)
	for range 100 {
		look()
		w.mu.Lock()
		n := len(w.delivered)
		w.mu.Unlock()
		if n == 2*workers+1 && h.calls.Load() > 0 {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	close(release)
	w.loop.working.Wait()
	if n := len(w.delivered); n != 2*workers+1 || h.calls.Load() != 1 {
		t.Errorf("%d of %d actions, and %d calls of another host, while webhooks hang", n, 2*workers+1, h.calls.Load())
	}
}

// TestWebhookSaysMuch: what the other side writes does not fill the history.
func TestWebhookSaysMuch(t *testing.T) {
	long := strings.Repeat("x", 8<<10)
	for _, answer := range []string{"HTTP/1.1 404 " + long + "\r\n\r\n", long + "\r\n\r\n"} {
		w := newWorld(t)
		h := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(rw).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, answer)
		}))
		w.put("a", nil, h.URL)
		w.minute(-1, 9)
		for range 50 {
			w.pass(5 * time.Second)
		}
		h.Close()
		j, err := w.records.History(t.Context(), "a", w.clock())
		if err != nil {
			t.Fatal(err)
		}
		failed := false
		for _, item := range j.Items {
			failed = failed || item.Type == ItemAction
			if len(item.Summary) > 1000 {
				t.Errorf("%d bytes: %.100s", len(item.Summary), item.Summary)
			}
		}
		if !failed {
			t.Errorf("%+v", j.Items)
		}
	}
}

// TestWebhooksAndMachines: no webhook gets to where a cloud's machine tells its credentials, by whatever name.
func TestWebhooksAndMachines(t *testing.T) {
	for address, want := range map[string]bool{
		"169.254.169.254:80": false, "169.254.170.2:80": false, "[::ffff:169.254.169.254]:80": false, "100.100.100.200:80": false, "168.63.129.16:80": false,
		"[fe80::1%eth0]:80": false, "[fd00:ec2::254]:80": false, "127.0.0.1:80": true, "[::1]:80": true, "10.0.0.1:80": true, "203.0.113.9:443": true, "[fd00::1]:80": true, "x": false,
	} {
		if err := mayDial("tcp", address, nil); (err == nil) != want {
			t.Errorf("%s: %v", address, err)
		}
	}
	w := newWorld(t)
	w.put("a", nil, "http://169.254.169.254/latest/meta-data/")
	w.minute(-1, 9)
	w.pass(0)
	w.pass(time.Second)
	if got := w.history("a"); !strings.Contains(strings.Join(got, " "), "webhooks may not call 169.254.169.254") {
		t.Errorf("%q", got)
	}
}

func TestWebhookURLs(t *testing.T) {
	for target, want := range map[string]thaw.ErrorCode{
		"http://127.0.0.1:1/x":                 "",
		"https://example.com/hook?x=1":         "",
		"http://user:secret@example.com/":      thaw.CodeValidation,
		"http://":                              thaw.CodeValidation,
		"http://:80/":                          thaw.CodeValidation,
		"http://a b/":                          thaw.CodeValidation,
		"https://example.com/#x":               thaw.CodeValidation,
		"ftp://example.com":                    thaw.CodeValidation,
		function:                               "",
		queue:                                  "",
		"arn:aws:sns:eu-west-1:123456789012:t": thaw.CodeNotImplemented,
		"arn:aws:automate:eu-west-1:ec2:stop":  thaw.CodeNotImplemented,
		"arn:aws:lambda:us-east-1:123456789012:function:f": thaw.CodeValidation,
		"arn:aws:lambda:eu-west-1:210987654321:function:f": thaw.CodeNotImplemented,
		"arn:aws:lambda:eu-west-1:123456789012:layer:l:1":  thaw.CodeValidation,
		"x": thaw.CodeValidation,
	} {
		err := CheckAction(account, target)
		if want == "" && err != nil || want != "" && thaw.CodeOf(err) != want {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// TestOutboxIsBounded where nothing gets through.
func TestOutboxIsBounded(t *testing.T) {
	a := &Alarm{Name: "a", Enabled: true, Actions: map[State][]string{InAlarm: {function}, OK: {function}}}
	for i := range 200 {
		a.Set([]State{OK, InAlarm}[i%2], "r", "", noon)
	}
	if len(a.Outbox) > maxOutbox || len([]rune(a.Status.Reason)) > 1023 {
		t.Errorf("%d tasks", len(a.Outbox))
	}
}

func TestHistoryIsBounded(t *testing.T) {
	j := &Journal{}
	for i := range 500 {
		j.add([]Item{{ID: fmt.Sprint(i), At: noon, Data: strings.Repeat("x", 10<<10)}}, noon)
	}
	if n := len(j.Items); n == 0 || n*10<<10 > historyBytes || j.Items[n-1].ID != "499" {
		t.Errorf("%d items", n)
	}
	if j.add(nil, noon.Add(31*24*time.Hour)); len(j.Items) != 0 {
		t.Errorf("%d items after a month", len(j.Items))
	}
}

// TestHistoryOutlivesItsAlarm, and goes with its last item.
func TestHistoryOutlivesItsAlarm(t *testing.T) {
	w := newWorld(t)
	w.put("a", nil)
	w.pass(0)
	if err := w.records.Delete(t.Context(), "a", func(a *Alarm) Item {
		return a.Configured("Delete", "1", w.clock(), json.RawMessage(`{}`))
	}); err != nil {
		t.Fatal(err)
	}
	if got := w.history("a"); !slices.Equal(got, []string{"Alarm updated from INSUFFICIENT_DATA to OK", `Alarm "a" deleted`}) {
		t.Errorf("%q", got)
	}
	w.pass(31 * 24 * time.Hour)
	if list, err := w.records.history.List(t.Context(), ""); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestHistories: that of one alarm is read without the others, all are passed once, and there are not ever more of them.
func TestHistories(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	for i := range 5 {
		name := fmt.Sprint("gone", i)
		if err := w.records.record(ctx, &Alarm{Name: name}, []Item{{ID: name, At: noon.Add(time.Duration(i) * time.Minute), Summary: name}}, noon); err != nil {
			t.Fatal(err)
		}
	}
	a := w.put("a", nil)
	if _, err := w.records.Update(ctx, "a", func(a *Alarm) error { a.Note(a.Configured("Update", "1", noon, nil)); return nil }); err != nil {
		t.Fatal(err)
	}
	names := func() (names []string) {
		if err := w.records.Histories(ctx, noon, func(j *Journal) {
			if len(j.Items) > 0 {
				names = append(names, j.Name)
			}
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		return names
	}
	if got := names(); !slices.Equal(got, []string{"a", "gone0", "gone1", "gone2", "gone3", "gone4"}) {
		t.Errorf("%q", got)
	}
	if err := w.records.forget(ctx, noon, 2); err != nil {
		t.Fatal(err)
	}
	if got := names(); !slices.Equal(got, []string{a.Name, "gone3", "gone4"}) {
		t.Errorf("the oldest go: %q", got)
	}
	if err := w.records.history.Put(ctx, "broken", "no journal"); err != nil {
		t.Fatal(err)
	}
	if got := w.history("a"); len(got) != 1 {
		t.Errorf("%q", got)
	}
	if err := w.records.Histories(ctx, noon, func(*Journal) {}); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("%v", err)
	}
}

// TestRun follows the store with the machine's clock, and ends with its context.
func TestRun(t *testing.T) {
	w := newWorld(t)
	w.loop.cfg.Now = time.Now
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.loop.Run(ctx) }()
	w.put("a", func(a *Alarm) { a.Metric.Missing = TreatBreaching }, function)
	deadline := time.After(30 * time.Second)
	for {
		w.mu.Lock()
		n := len(w.delivered)
		w.mu.Unlock()
		if n > 0 {
			break
		}
		select {
		case <-deadline:
			t.Fatal("no action")
		case <-time.After(20 * time.Millisecond):
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	w.state("a", InAlarm)
}
