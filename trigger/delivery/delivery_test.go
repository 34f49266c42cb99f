package delivery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"thaw"
	"thaw/state"
	"thaw/state/queues"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var account = thaw.Account{ID: "123456789012", Region: "eu-west-1"}

const (
	function   = "arn:aws:lambda:eu-west-1:123456789012:function:f:live"
	queue      = "arn:aws:sqs:eu-west-1:123456789012:q"
	fifo       = "arn:aws:sqs:eu-west-1:123456789012:q.fifo"
	deadLetter = "arn:aws:sqs:eu-west-1:123456789012:dead"
	schedule   = "arn:aws:scheduler:eu-west-1:123456789012:schedule/default/s"
	rule       = "arn:aws:events:eu-west-1:123456789012:rule/r"
)

// world is a store, a clock, and what targets got. fail has the errors of targets, by function or queue.
type world struct {
	store *state.Store

	mu      sync.Mutex
	now     time.Time
	invoked []Invocation
	sent    map[string][]queues.Message
	fail    map[string]error
}

var begin = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func newWorld(t *testing.T) *world {
	t.Helper()
	store, err := state.Open(t.Context(), state.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return &world{store: store, now: begin, sent: map[string][]queues.Message{}, fail: map[string]error{}}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// deliverer makes one that follows the store.
func (w *world) deliverer(t *testing.T) *Deliverer {
	t.Helper()
	d, err := New(Config{
		Store: w.store, Account: account, Now: w.clock,
		Enqueue: func(_ context.Context, i Invocation) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.invoked = append(w.invoked, i)
			return w.fail[i.Function.Name]
		},
		Send: func(_ context.Context, queue string, m queues.Message) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if err := w.fail[queue]; err != nil {
				return err
			}
			w.sent[queue] = append(w.sent[queue], m)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// pass lets a time pass and all of ds look, with what is stored then.
func (w *world) pass(t *testing.T, by time.Duration, ds ...*Deliverer) {
	t.Helper()
	w.mu.Lock()
	w.now = w.now.Add(by)
	w.mu.Unlock()
	records, err := w.store.Records("delivery").List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var looking sync.WaitGroup
	for _, d := range ds {
		for _, record := range records {
			d.changed(record.Key, record.Value)
		}
		looking.Go(func() { d.Tick(t.Context()) })
	}
	looking.Wait()
}

// until has ds look every second until nothing waits, for at most a day and a bit.
func (w *world) until(t *testing.T, ds ...*Deliverer) time.Duration {
	t.Helper()
	for range 2000 {
		records, err := w.store.Records("delivery").List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			return w.clock().Sub(begin)
		}
		w.pass(t, time.Minute, ds...)
	}
	t.Fatal("something waits for ever")
	return 0
}

func (w *world) delivery(target string) Delivery {
	return Delivery{ID: uuid.NewString(), Kind: FromSchedule, Source: schedule, Time: begin, Target: target, Input: []byte(`{"a":1}`), Policy: DefaultPolicy, DeadLetter: deadLetter}
}

func deliver(t *testing.T, d *Deliverer, x Delivery) {
	t.Helper()
	if err := d.Deliver(t.Context(), x); err != nil {
		t.Fatal(err)
	}
}

func TestDelivered(t *testing.T) {
	w := newWorld(t)
	d := w.deliverer(t)
	x := w.delivery(function)
	x.Trace, x.Once = "Root=1", true
	deliver(t, d, x)
	if len(w.invoked) != 1 || !w.invoked[0].Once || w.invoked[0].ID != x.ID || w.invoked[0].Function.Name != "f" || w.invoked[0].Function.Qualifier != "live" || string(w.invoked[0].Payload) != `{"a":1}` || w.invoked[0].Trace != "Root=1" {
		t.Errorf("%+v", w.invoked)
	}
	x = w.delivery(queue)
	deliver(t, d, x)
	if m := w.sent["q"]; len(m) != 1 || m[0].ID != x.ID || string(m[0].Body) != `{"a":1}` || m[0].Meta != nil || m[0].Group != "" || m[0].Dedup != "" {
		t.Errorf("%+v", m)
	}
	x = w.delivery(fifo)
	x.Group, x.Trace = "g", "Root=2"
	deliver(t, d, x)
	m := w.sent["q.fifo"]
	if len(m) != 1 || m[0].Group != "g" || m[0].Dedup != x.ID {
		t.Fatalf("%+v", m)
	}
	if meta, err := queues.ParseSQSMeta(m[0].Meta); err != nil || meta.System["AWSTraceHeader"].String != "Root=2" {
		t.Errorf("%s, %v", m[0].Meta, err)
	}
	if c := d.Counts(); c != (Counts{Delivered: 3, Attempts: 3}) {
		t.Errorf("%+v", c)
	}
}

// TestKeywords replaces those that AWS documents, in schedules alone.
func TestKeywords(t *testing.T) {
	w := newWorld(t)
	d := w.deliverer(t)
	x := w.delivery(queue)
	x.Input = []byte("<aws.scheduler.schedule-arn> <aws.scheduler.scheduled-time> <aws.scheduler.attempt-number> <aws.scheduler.execution-id> <aws.scheduler.other>")
	w.fail["q"] = errors.New("busy")
	deliver(t, d, x)
	delete(w.fail, "q")
	w.until(t, d)
	got := strings.Fields(string(w.sent["q"][0].Body))
	if len(got) != 5 || got[0] != schedule || got[1] != "2026-03-02T12:00:00Z" || got[2] != "2" || len(got[3]) != 16 || got[4] != "<aws.scheduler.other>" {
		t.Errorf("%q", got)
	}
	x = w.delivery(queue)
	x.Kind, x.Source, x.Input = FromRule, rule, []byte(`"<aws.scheduler.attempt-number>"`)
	deliver(t, d, x)
	if body := w.sent["q"][1].Body; string(body) != `"<aws.scheduler.attempt-number>"` {
		t.Errorf("%s", body)
	}
}

// attributes are those of the only message in the dead-letter queue.
func (w *world) attributes(t *testing.T) map[string]string {
	t.Helper()
	if len(w.sent["dead"]) != 1 {
		t.Fatalf("%d messages in the dead-letter queue", len(w.sent["dead"]))
	}
	meta, err := queues.ParseSQSMeta(w.sent["dead"][0].Meta)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for name, a := range meta.Attributes {
		if a.Type != "String" {
			t.Errorf("%s is a %s", name, a.Type)
		}
		all[name] = a.String
	}
	return all
}

func TestEnds(t *testing.T) {
	gone := thaw.Errorf(thaw.CodeResourceNotFound, "Function not found: f")
	for _, tt := range []struct {
		name   string
		change func(*Delivery)
		err    error
		want   map[string]string // of the dead-letter message
		tries  int
	}{
		{"after all attempts", func(x *Delivery) { x.Policy.Attempts = 3 }, errors.New("busy"), map[string]string{"ERROR_CODE": "ERROR_FROM_TARGET", "ERROR_MESSAGE": "busy", "RETRY_ATTEMPTS": "3", "EXHAUSTED_RETRY_CONDITION": "MaximumRetryAttempts"}, 4},
		{"at once without retries", func(x *Delivery) { x.Policy.Attempts = 0 }, errors.New("busy"), map[string]string{"ERROR_CODE": "ERROR_FROM_TARGET", "ERROR_MESSAGE": "busy", "RETRY_ATTEMPTS": "0", "EXHAUSTED_RETRY_CONDITION": "MaximumRetryAttempts"}, 1},
		{"at its age", func(x *Delivery) { x.Policy.Age = 2 * time.Minute }, errors.New("busy"), map[string]string{"ERROR_CODE": "ERROR_FROM_TARGET", "ERROR_MESSAGE": "busy", "RETRY_ATTEMPTS": "2", "EXHAUSTED_RETRY_CONDITION": "MaximumEventAgeInSeconds"}, 3},
		{"no function", func(*Delivery) {}, gone, map[string]string{"ERROR_CODE": "NO_RESOURCE", "ERROR_MESSAGE": gone.Error(), "RETRY_ATTEMPTS": "0"}, 1},
		{"a full disk is tried again", func(x *Delivery) { x.Policy.Attempts = 1 }, fmt.Errorf("send: %w", state.ErrFull), map[string]string{"ERROR_CODE": "ERROR_FROM_TARGET", "ERROR_MESSAGE": "send: " + state.ErrFull.Error(), "RETRY_ATTEMPTS": "1", "EXHAUSTED_RETRY_CONDITION": "MaximumRetryAttempts"}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			d := w.deliverer(t)
			w.fail["f"] = tt.err
			x := w.delivery(function)
			tt.change(&x)
			deliver(t, d, x)
			w.until(t, d)
			if len(w.invoked) != tt.tries {
				t.Errorf("%d attempts, want %d", len(w.invoked), tt.tries)
			}
			for _, i := range w.invoked {
				if i.ID != x.ID {
					t.Errorf("an attempt has the id %s", i.ID)
				}
			}
			got := w.attributes(t)
			if len(got["EXECUTION_ID"]) != 16 {
				t.Errorf("execution id %q", got["EXECUTION_ID"])
			}
			delete(got, "EXECUTION_ID")
			maps.Copy(tt.want, map[string]string{"SCHEDULE_ARN": schedule, "TARGET_ARN": function, "SCHEDULED_TIME": "2026-03-02T12:00:00Z", "IS_PAYLOAD_TRUNCATED": "false"})
			if !maps.Equal(got, tt.want) {
				t.Errorf("got  %v\nwant %v", got, tt.want)
			}
			if body := string(w.sent["dead"][0].Body); body != `{"a":1}` {
				t.Errorf("body %s", body)
			}
			if c := d.Counts(); c.Dead != 1 || c.Dropped != 0 || c.Waiting != 0 {
				t.Errorf("%+v", c)
			}
			if o := d.Outcomes(); o[0].Status != StatusDead || o[0].ID != x.ID {
				t.Errorf("%+v", o)
			}
		})
	}
}

// TestRuleIsDead has the event in the dead-letter queue, not what was made of it.
func TestRuleIsDead(t *testing.T) {
	w := newWorld(t)
	d := w.deliverer(t)
	w.fail["q"] = fmt.Errorf("queue q: %w", state.ErrNotFound)
	x := w.delivery(queue)
	x.Kind, x.Source, x.Event = FromRule, rule, []byte(`{"id":"1"}`)
	deliver(t, d, x)
	got := w.attributes(t)
	want := map[string]string{"RULE_ARN": rule, "TARGET_ARN": queue, "ERROR_CODE": "NO_RESOURCE", "ERROR_MESSAGE": "queue q: not found", "RETRY_ATTEMPTS": "0"}
	if !maps.Equal(got, want) || string(w.sent["dead"][0].Body) != `{"id":"1"}` {
		t.Errorf("%v, %s", got, w.sent["dead"][0].Body)
	}
}

// TestDropped has no dead-letter queue, or none that is there: it is counted, listed and gone.
func TestDropped(t *testing.T) {
	w := newWorld(t)
	d := w.deliverer(t)
	w.fail["q"], w.fail["dead"] = state.ErrNotFound, state.ErrNotFound
	x := w.delivery(queue)
	deliver(t, d, x)
	x = w.delivery(queue)
	x.DeadLetter = ""
	deliver(t, d, x)
	w.until(t, d)
	if c := d.Counts(); c.Dropped != 2 || c.Dead != 0 || c.Waiting != 0 {
		t.Errorf("%+v", c)
	}
}

// TestDeadLetterQueueIsTriedAgain while the disk is full, without another attempt at the target.
func TestDeadLetterQueueIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	d := w.deliverer(t)
	w.fail["f"], w.fail["dead"] = thaw.Errorf(thaw.CodeResourceNotFound, "no f"), state.ErrFull
	deliver(t, d, w.delivery(function))
	w.pass(t, time.Minute, d)
	w.pass(t, 10*time.Minute, d)
	delete(w.fail, "dead")
	w.until(t, w.deliverer(t))
	if len(w.invoked) != 1 || w.attributes(t)["ERROR_MESSAGE"] != "ResourceNotFoundException: no f" {
		t.Errorf("%d attempts, %v", len(w.invoked), w.attributes(t))
	}
}

// TestAfterARestart goes on with what was stored, and two processes try each delivery once at a time.
func TestAfterARestart(t *testing.T) {
	w := newWorld(t)
	w.fail["f"] = errors.New("busy")
	first := w.deliverer(t)
	for range 20 {
		deliver(t, first, w.delivery(function))
	}
	delete(w.fail, "f")
	w.invoked = nil
	one, two := w.deliverer(t), w.deliverer(t)
	w.until(t, one, two)
	ids := map[string]bool{}
	for _, i := range w.invoked {
		ids[i.ID] = true
	}
	if len(w.invoked) != 20 || len(ids) != 20 || one.Counts().Delivered+two.Counts().Delivered != 20 {
		t.Errorf("%d invocations of %d", len(w.invoked), len(ids))
	}
}

// TestClaimOfTheDead holds another process off until it expires.
func TestClaimOfTheDead(t *testing.T) {
	w := newWorld(t)
	w.fail["f"] = errors.New("busy")
	d := w.deliverer(t)
	x := w.delivery(function)
	deliver(t, d, x)
	delete(w.fail, "f")
	if _, err := state.UpdateRecord(t.Context(), d.records, x.ID, func(p *pending) error {
		p.Claim = &claim{By: "dead", At: begin, Until: begin.Add(claimTime)}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.pass(t, claimTime-time.Second, d)
	if len(w.invoked) != 1 {
		t.Error("tried while another has the claim")
	}
	w.pass(t, 2*time.Second, d)
	if len(w.invoked) != 2 {
		t.Error("not tried after the claim has expired")
	}
}

// TestNowhere: what can neither be delivered nor kept is the caller's.
func TestNowhere(t *testing.T) {
	w := newWorld(t)
	w.fail["f"] = errors.New("busy")
	d := w.deliverer(t)
	w.store.Close()
	if err := d.Deliver(t.Context(), w.delivery(function)); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("%v", err)
	}
}

func TestBackoff(t *testing.T) {
	last := time.Duration(0)
	for n := 1; n < 20; n++ {
		d := backoff("an id", n)
		if d < min(firstRetry<<(n-1), lastRetry) || d > lastRetry*3/2 || n < 9 && d < last {
			t.Errorf("attempt %d: %s", n, d)
		}
		last = d
	}
}

func TestParseTarget(t *testing.T) {
	for arn, want := range map[string]string{
		"arn:aws:lambda:eu-west-1:123456789012:function:f":     "f ",
		"arn:aws:lambda:eu-west-1:123456789012:function:f:1":   "f 1",
		"arn:aws:sqs:eu-west-1:123456789012:q":                 "q",
		"arn:aws:sqs:eu-west-1:123456789012:q.fifo":            "q.fifo",
		"arn:aws:sns:eu-west-1:123456789012:t":                 "NotImplementedException sns",
		"arn:aws:scheduler:::aws-sdk:sqs:sendMessage":          "NotImplementedException scheduler",
		"arn:aws:states:eu-west-1:123456789012:stateMachine:m": "NotImplementedException states",
		"arn:aws:lambda:us-east-1:123456789012:function:f":     "NotImplementedException us-east-1",
		"arn:aws:sqs:eu-west-1:210987654321:q":                 "NotImplementedException 210987654321",
		"arn:aws:lambda:eu-west-1:123456789012:layer:l:1":      "ValidationException correct format",
		"arn:aws:lambda:eu-west-1:123456789012:function:":      "ValidationException correct format",
		"arn:aws:lambda:eu-west-1:123456789012:function:f:1:2": "ValidationException correct format",
		"arn:aws:sqs:eu-west-1:123456789012:a b":               "ValidationException correct format",
		"f":                                                    "ValidationException correct format",
		"":                                                     "ValidationException correct format",
		"arn:aws:sqs:eu-west-1:123456789012:q\narn":            "ValidationException correct format",
	} {
		to, err := ParseTarget(account, arn)
		got := to.Queue
		if to.Queue == "" {
			got = to.Function.Name + " " + to.Function.Qualifier
		}
		if err != nil {
			code, words, _ := strings.Cut(want, " ")
			if string(thaw.CodeOf(err)) != code || !strings.Contains(err.Error(), words) {
				t.Errorf("%s: %v, want %s", arn, err, want)
			}
		} else if got != want {
			t.Errorf("%s: %q, want %q", arn, got, want)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	f.Add("arn:aws:lambda:eu-west-1:123456789012:function:f:1")
	f.Add("arn:aws:sqs:eu-west-1:123456789012:q.fifo")
	f.Fuzz(func(t *testing.T, arn string) {
		to, err := ParseTarget(account, arn)
		if err == nil && (to.Queue == "") == (to.Function.Name == "") {
			t.Errorf("%+v", to)
		}
	})
}

// TestRun tries again what is stored, with the machine's clock.
func TestRun(t *testing.T) {
	w := newWorld(t)
	w.now = time.Now()
	failed := make(chan struct{}, 10)
	fail := true
	d, err := New(Config{Store: w.store, Account: account, Send: func(context.Context, string, queues.Message) error { return nil }, Enqueue: func(context.Context, Invocation) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if fail {
			fail = false
			return errors.New("busy")
		}
		failed <- struct{}{}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	x := w.delivery(function)
	x.Time = time.Now()
	deliver(t, d, x)
	select {
	case <-failed:
	case <-time.After(30 * time.Second):
		t.Error("not tried again")
	}
	stop()
	running.Wait()
	if o := d.Outcomes(); !slices.ContainsFunc(o, func(o Outcome) bool { return o.Status == StatusRetrying && o.Error == "busy" }) {
		t.Errorf("%+v", o)
	}
}
