package async

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"thaw"
	"thaw/invoke"
	"thaw/state"
	"thaw/state/queues"
)

const (
	second = time.Second
	minute = time.Minute
)

func TestDelivery(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		records := p.sqs("good", queues.Options{})
		p.set("f", func(f *thaw.Function) {
			f.EventInvoke = map[string]thaw.EventInvoke{thaw.Latest: {OnSuccess: queueARN + "good", OnFailure: queueARN + "bad"}}
		})
		id := p.enqueue("f", `{"a":"<b>"}`)
		after(second)
		tries := p.tried("f")
		if len(tries) != 1 || tries[0].at != 0 || tries[0].request.RequestID != id || string(tries[0].request.Payload) != `{"a":"<b>"}` || tries[0].request.TraceID != "Root=1-2-3" {
			t.Fatalf("%+v", tries)
		}
		if d := p.depth("events/f"); d != (queues.Depth{}) {
			t.Errorf("left behind: %+v", d)
		}
		got := records()
		if len(got) != 1 {
			t.Fatalf("%d records", len(got))
		}
		want := `{"version":"1.0","timestamp":"2000-01-01T00:00:00.000Z","requestContext":{"requestId":"` + id + `","functionArn":"arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST","condition":"Success","approximateInvokeCount":1},"requestPayload":{"a":"<b>"},"responseContext":{"statusCode":200,"executedVersion":"$LATEST"},"responsePayload":{"a":"<b>"}}`
		if string(got[0].Body) != want {
			t.Errorf("got  %s\nwant %s", got[0].Body, want)
		}
		meta, err := queues.ParseSQSMeta(got[0].Meta)
		if err != nil || meta.System["AWSTraceHeader"].String != "Root=1-2-3;Lineage=x:1" {
			t.Errorf("%+v, %v", meta, err)
		}
		p.stop()
	})
}

// TestRetries: what comes of an event that its function always fails.
func TestRetries(t *testing.T) {
	for _, test := range []struct {
		name    string
		retries *int
		age     *int
		err     error
		gone    bool // the function is deleted at once
		reserve *int
		want    []time.Duration
		after   string // what the record says, condition and count
		status  int
	}{
		{name: "as AWS does by default", want: []time.Duration{0, minute, 3 * minute}, after: "RetriesExhausted 3", status: 200},
		{name: "no retries", retries: number(0), want: []time.Duration{0}, after: "RetriesExhausted 1", status: 200},
		{name: "one retry", retries: number(1), want: []time.Duration{0, minute}, after: "RetriesExhausted 2", status: 200},
		{name: "too old for the second", age: number(61), want: []time.Duration{0, minute}, after: "EventAgeExceeded 2", status: 200},
		{name: "too old for the first", retries: number(2), age: number(60), want: []time.Duration{0}, after: "EventAgeExceeded 1", status: 200},
		{name: "throttled", age: number(60), err: errThrottled, want: []time.Duration{0, 1 * second, 3 * second, 7 * second, 15 * second, 31 * second}, after: "EventAgeExceeded 0", status: 429},
		{name: "the platform fails", age: number(10), err: errPlatform, want: []time.Duration{0, 1 * second, 3 * second, 7 * second}, after: "EventAgeExceeded 0", status: 500},
		{name: "the function is not ready", age: number(5), err: thaw.Errorf(thaw.CodeResourceConflict, "not ready"), want: []time.Duration{0, 1 * second, 3 * second}, after: "EventAgeExceeded 0", status: 500},
		{name: "deleted", gone: true, want: []time.Duration{0, minute, 3 * minute}, after: "RetriesExhausted 3", status: 404},
		{name: "a loop", err: thaw.Errorf(thaw.CodeRecursiveInvocation, "a loop"), want: []time.Duration{0}, after: "RecursiveInvocation 0", status: 400},
		{name: "no concurrency", reserve: number(0), after: "ZeroReservedConcurrency 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPlatform(t)
				records, letters := p.sqs("bad", queues.Options{}), p.sqs("dlq", queues.Options{})
				p.set("f", func(f *thaw.Function) {
					f.EventInvoke = map[string]thaw.EventInvoke{thaw.Latest: {MaxRetries: test.retries, MaxAge: test.age, OnSuccess: queueARN + "good", OnFailure: queueARN + "bad"}}
					f.Config.DeadLetter = queueARN + "dlq"
					f.Reserved = test.reserve
				})
				p.handles(func(*invoke.Request) (string, bool, error) { return failed, test.err == nil, test.err })
				id := p.enqueue("f", `{"n":1}`)
				if test.gone {
					p.remove("f")
				}
				after(7 * time.Hour)
				if got := p.at("f"); !slices.Equal(got, test.want) {
					t.Errorf("attempts at %v, want %v", got, test.want)
				}
				for _, try := range p.tried("f") {
					if try.request.RequestID != id || try.request.TraceID != "Root=1-2-3" {
						t.Errorf("an attempt as %s %s", try.request.RequestID, try.request.TraceID)
					}
				}
				if d, dead := p.depth("events/f"), p.depth("events-dead/f"); d != (queues.Depth{}) || dead != (queues.Depth{}) {
					t.Errorf("left behind: %+v, dead %+v", d, dead)
				}
				got := records()
				if len(got) != 1 {
					t.Fatalf("%d records", len(got))
				}
				var record invocationRecord
				if err := json.Unmarshal(got[0].Body, &record); err != nil {
					t.Fatal(err)
				}
				c := record.RequestContext
				if said := fmt.Sprintf("%s %d", c.Condition, c.Attempts); said != test.after || c.RequestID != id || c.FunctionARN != account.FunctionARN("f", "$LATEST") || string(record.RequestPayload) != `{"n":1}` {
					t.Errorf("%s", got[0].Body)
				}
				switch {
				case test.status == 0:
					if record.ResponseContext != nil || record.ResponsePayload != nil {
						t.Errorf("an answer that nobody gave: %s", got[0].Body)
					}
				case record.ResponseContext == nil || record.ResponseContext.Status != test.status ||
					(test.status == 200) != (record.ResponseContext.FunctionError == "Unhandled" && string(record.ResponsePayload) == failed):
					t.Errorf("%s", got[0].Body)
				}
				dead := letters()
				if len(dead) != 1 || string(dead[0].Body) != `{"n":1}` {
					t.Fatalf("%d dead letters", len(dead))
				}
				meta, err := queues.ParseSQSMeta(dead[0].Meta)
				code := meta.Attributes["ErrorCode"]
				if err != nil || meta.Attributes["RequestID"].String != id || meta.Attributes["ErrorMessage"].String == "" ||
					(test.status == 0) != (code.Type == "") || test.status != 0 && (code.Type != "Number" || code.String != fmt.Sprint(test.status)) {
					t.Errorf("%s, %v", dead[0].Meta, err)
				}
				if test.status == 200 && meta.Attributes["ErrorMessage"].String != "no" {
					t.Errorf("%s", dead[0].Meta)
				}
				p.stop()
			})
		})
	}
}

// TestBackoffEnds: an event that is throttled for six hours is tried every five minutes at last.
func TestBackoffEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		p.handles(func(*invoke.Request) (string, bool, error) { return "", false, errThrottled })
		p.enqueue("f", `1`)
		after(7 * time.Hour)
		times := p.at("f")
		last := times[len(times)-1]
		if n := len(times); n < 70 || n > 90 || times[n-1]-times[n-2] != 5*minute || last > 6*time.Hour || last < 6*time.Hour-5*minute {
			t.Errorf("%d attempts, the last at %v: %v", n, last, times)
		}
		if f, _ := p.dispatcher.Function("f"); f.Dead != 1 || f.Throttles != int64(len(times)) {
			t.Errorf("%+v", f)
		}
		p.stop()
	})
}

// TestThrottledThenFailed: throttles cost none of an event's attempts, and its waits begin anew.
func TestThrottledThenFailed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		n := 0
		p.handles(func(*invoke.Request) (string, bool, error) {
			if n++; n == 2 || n == 4 {
				return failed, true, nil
			}
			return "", n < 0, map[bool]error{true: nil, false: errThrottled}[n > 5]
		})
		p.enqueue("f", `1`)
		after(time.Hour)
		if got, want := p.at("f"), []time.Duration{0, second, 61 * second, 62 * second, 182 * second, 183 * second}; !slices.Equal(got, want) {
			t.Errorf("attempts at %v, want %v", got, want)
		}
		p.stop()
	})
}

func TestDestinationFunction(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		p.set("f", func(f *thaw.Function) {
			f.EventInvoke = map[string]thaw.EventInvoke{thaw.Latest: {MaxRetries: number(0), OnFailure: account.FunctionARN("g", "")}}
		})
		p.handles(func(r *invoke.Request) (string, bool, error) { return failed, r.Function.Name == "f", nil })
		id := p.enqueue("f", `1`)
		after(second)
		tries := p.tried("g")
		if len(tries) != 1 || tries[0].request.RequestID == id || tries[0].request.TraceID != "Root=1-2-3;Lineage=x:1" || !strings.Contains(string(tries[0].request.Payload), `"condition":"RetriesExhausted"`) {
			t.Errorf("%+v", tries)
		}
		p.stop()
	})
}

// TestNowhere: what neither a destination nor a dead-letter queue takes is kept, shown and started again.
func TestNowhere(t *testing.T) {
	for _, test := range []struct{ name, failure, letter, reason string }{
		{"nothing is set", "", "", "neither an OnFailure destination nor a dead-letter queue"},
		{"a queue that is gone", queueARN + "none", "", "OnFailure destination: there is no queue named none"},
		{"another account's queue", "arn:aws:sqs:us-east-1:111111111111:q", "", "another account or region"},
		{"another region's queue", "arn:aws:sqs:eu-west-1:000000000000:q", "", "another account or region"},
		{"a FIFO queue", queueARN + "q.fifo", "", "is a FIFO queue"},
		{"a function that is gone", account.FunctionARN("none", ""), "", "Function not found"},
		{"a topic", "arn:aws:sns:us-east-1:000000000000:t", "", "SQS queues and Lambda functions only"},
		{"a dead-letter queue that is gone", "", queueARN + "none", "dead-letter queue: there is no queue named none"},
		{"neither", queueARN + "a", queueARN + "b", "no queue named a; dead-letter queue: there is no queue named b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPlatform(t)
				p.sqs("q.fifo", queues.Options{FIFO: true})
				p.set("f", func(f *thaw.Function) {
					f.EventInvoke = map[string]thaw.EventInvoke{thaw.Latest: {MaxRetries: number(0), OnFailure: test.failure}}
					f.Config.DeadLetter = test.letter
				})
				p.handles(failing)
				id := p.enqueue("f", `1`)
				after(second)
				list, next, err := p.dispatcher.Events(t.Context(), "f", "", 10)
				if err != nil || next != "" || len(list) != 1 {
					t.Fatalf("%+v, %q, %v", list, next, err)
				}
				v := list[0]
				if v.ID != id || v.State != StateDead || v.Attempts != 1 || v.Error != "no" || v.Condition != "RetriesExhausted" || !strings.Contains(v.Reason, test.reason) || v.Died.IsZero() {
					t.Errorf("%+v", v)
				}
				f, ok := p.dispatcher.Function("f")
				if !ok || f.Dead != 1 || f.Died != 1 || f.Failed != 1 || (f.DeliveryFailures > 0) != (test.failure+test.letter != "") || (f.Problem != "") != (f.DeliveryFailures > 0) {
					t.Errorf("%+v", f)
				}
				want := map[string]int{"AsyncEventsReceived f": 1, "AsyncEventsDropped f": 1}
				if test.failure != "" {
					want["DestinationDeliveryFailures f"] = 1
				}
				if test.letter != "" {
					want["DeadLetterErrors f"] = 1
				}
				p.mu.Lock()
				if !maps.Equal(p.counted, want) {
					t.Errorf("counted %v, want %v", p.counted, want)
				}
				p.mu.Unlock()
				after(7 * time.Hour) // it would be too old if its age did not begin again
				p.handles(func(*invoke.Request) (string, bool, error) { return "1", false, nil })
				if n, err := p.dispatcher.Redrive(t.Context(), "f"); n != 1 || err != nil {
					t.Errorf("redrive: %d, %v", n, err)
				}
				after(second)
				tries := p.tried("f")
				if len(tries) != 2 || tries[1].request.RequestID != id {
					t.Errorf("%+v", tries)
				}
				if f, _ := p.dispatcher.Function("f"); f.Dead+f.Waiting+f.Running+f.Retrying != 0 {
					t.Errorf("%+v", f)
				}
				p.stop()
			})
		})
	}
}

// TestOneOfTwo: where one of the two takes the event, that is enough.
func TestOneOfTwo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		letters := p.sqs("dlq", queues.Options{})
		p.set("f", func(f *thaw.Function) {
			f.EventInvoke = map[string]thaw.EventInvoke{thaw.Latest: {MaxRetries: number(0), OnFailure: queueARN + "none"}}
			f.Config.DeadLetter = queueARN + "dlq"
		})
		p.handles(failing)
		p.enqueue("f", `1`)
		after(second)
		if f, _ := p.dispatcher.Function("f"); len(letters()) != 1 || f.Dead != 0 || f.DeliveryFailures != 1 {
			t.Errorf("%d letters, %+v", len(letters()), f)
		}
		p.stop()
	})
}

func TestQualifiers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		records, letters := p.sqs("bad", queues.Options{}), p.sqs("dlq", queues.Options{})
		p.set("f", func(f *thaw.Function) {
			f.Published = []thaw.Version{{Function: "f", Number: "1", State: thaw.StateActive, DeadLetter: queueARN + "dlq"}}
			f.Aliases = map[string]thaw.Alias{"live": {Name: "live", Version: "1"}}
			f.EventInvoke = map[string]thaw.EventInvoke{"live": {MaxRetries: number(0), OnFailure: queueARN + "bad"}}
		})
		p.handles(failing)
		p.enqueue("f:live", `1`)
		after(second)
		if got, dead := records(), letters(); len(got) != 1 || len(dead) != 1 || !strings.Contains(string(got[0].Body), `:function:f:live"`) {
			t.Errorf("%v, %v", got, dead)
		}
		if tries := p.tried("f"); len(tries) != 1 || tries[0].request.Qualifier != "live" {
			t.Errorf("%+v", tries)
		}
		// An alias that goes while its event waits: what was wanted when it was accepted still is.
		p.handles(func(*invoke.Request) (string, bool, error) {
			return "", false, thaw.Errorf(thaw.CodeResourceNotFound, "none")
		})
		p.enqueue("f:live", `2`)
		p.set("f", func(f *thaw.Function) { f.Aliases, f.EventInvoke, f.Published = nil, nil, nil })
		after(second)
		if got, dead := records(), letters(); len(got) != 2 || len(dead) != 2 {
			t.Errorf("%d records, %d letters", len(got), len(dead))
		}
		p.stop()
	})
}

func TestRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		for _, test := range []struct {
			event Event
			code  thaw.ErrorCode
			say   string
		}{
			{Event{Function: thaw.FunctionRef{Name: "none"}}, thaw.CodeResourceNotFound, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:none"},
			{Event{Function: thaw.FunctionRef{Name: "f"}, Payload: make([]byte, MaxPayload+1)}, thaw.CodeRequestEntityTooLarge, "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)"},
		} {
			_, err := p.dispatcher.Enqueue(t.Context(), &test.event)
			if e, ok := errors.AsType[*thaw.Error](err); !ok || e.Code != test.code || e.Message != test.say {
				t.Errorf("%v, want %s: %s", err, test.code, test.say)
			}
		}
		p.queues.fill(true)
		_, err := p.dispatcher.Enqueue(t.Context(), &Event{Function: thaw.FunctionRef{Name: "f"}})
		if e, ok := errors.AsType[*thaw.Error](err); !ok || e.Code != thaw.CodeService || !strings.Contains(e.Message, "was not accepted: the disk") || !errors.Is(err, state.ErrFull) {
			t.Errorf("%v", err)
		}
		if f, ok := p.dispatcher.Function("f"); ok || f.Accepted != 0 {
			t.Errorf("%+v", f)
		}
		p.stop()
	})
}

// TestCrash: attempts and the last error survive, and what was under way is attempted again.
func TestCrash(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		release := make(chan struct{})
		p.handles(func(r *invoke.Request) (string, bool, error) {
			if string(r.Payload) == "2" {
				<-release
			}
			return failed, true, nil
		})
		p.enqueue("f", `1`)
		p.enqueue("f", `2`)
		after(30 * second)
		before := p.stop
		p.queues = p.queues.crash()
		p.start()
		p.handles(failing)
		list, _, err := p.dispatcher.Events(t.Context(), "f", "", 10)
		if err != nil || len(list) != 2 || list[0].State != StateRetrying || list[0].Attempts != 1 || list[0].Error != "no" || list[0].Next.Sub(p.began) != minute {
			t.Errorf("%+v, %v", list, err)
		}
		after(30 * second)
		var ones, twos []time.Duration
		for _, try := range p.tried("f") {
			if string(try.request.Payload) == "1" {
				ones = append(ones, try.at)
			} else {
				twos = append(twos, try.at)
			}
		}
		if !slices.Equal(ones, []time.Duration{0, minute}) || !slices.Equal(twos, []time.Duration{0, 30 * second}) {
			t.Errorf("attempts at %v and %v", ones, twos)
		}
		close(release)
		before()
		p.stop()
	})
}

// TestStop: what has not ended is handed back at once, and a start begins with it.
func TestStop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t, func(c *Config) { c.Drain = 5 * second })
		release := make(chan struct{})
		p.handles(func(r *invoke.Request) (string, bool, error) {
			if string(r.Payload) == "1" {
				<-time.After(3 * second)
			} else {
				<-release
			}
			return "", false, nil
		})
		p.enqueue("f", `1`)
		p.enqueue("f", `2`)
		after(second)
		p.stop()
		if d := p.depth("events/f"); d.Visible != 1 || d.InFlight != 0 || time.Since(p.began) != 6*second {
			t.Errorf("after %v: %+v", time.Since(p.began), d)
		}
		close(release)
		synctest.Wait() // what goes on after the stop settles nothing
		if d := p.depth("events/f"); d.Visible != 1 {
			t.Errorf("%+v", d)
		}
		p.start()
		synctest.Wait()
		if tries := p.tried("f"); len(tries) != 3 || string(tries[2].request.Payload) != "2" {
			t.Errorf("%+v", tries)
		}
		p.stop()
	})
}

// TestLongAttempt: an event that takes long is not given out a second time.
func TestLongAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		p.handles(func(*invoke.Request) (string, bool, error) { <-time.After(15 * minute); return "", false, nil })
		p.enqueue("f", `1`)
		after(14 * minute)
		if list, _, err := p.dispatcher.Events(t.Context(), "f", "", 1); err != nil || len(list) != 1 || list[0].State != StateRunning {
			t.Errorf("%+v, %v", list, err)
		}
		after(time.Hour)
		if got := p.at("f"); len(got) != 1 || p.depth("events/f") != (queues.Depth{}) {
			t.Errorf("attempts at %v", got)
		}
		p.stop()
	})
}

// TestSlowBesideQuick: a function that is slow leaves room for others.
func TestSlowBesideQuick(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t, func(c *Config) { c.MaxInFlight = 40 })
		p.handles(func(r *invoke.Request) (string, bool, error) {
			if r.Function.Name == "f" {
				<-time.After(10 * minute)
			}
			return "", false, nil
		})
		for range 200 {
			p.enqueue("f", `1`)
		}
		after(minute)
		for range 200 {
			p.enqueue("g", `1`)
		}
		after(second)
		if n := len(p.tried("g")); n != 200 {
			t.Errorf("%d of 200 quick ones were attempted", n)
		}
		if p.most > 40 || len(p.tried("f")) != 20 {
			t.Errorf("%d ran at once, %d of them slow ones", p.most, len(p.tried("f")))
		}
		p.handles(func(*invoke.Request) (string, bool, error) { return "", false, nil })
		after(15 * minute)
		p.stop()
	})
}

// TestGrowing: events that wait for something else are attempted more at a time, in a short time.
func TestGrowing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		p.handles(func(*invoke.Request) (string, bool, error) { <-time.After(2 * second); return "", false, nil })
		const n = 3000
		for range n {
			p.enqueue("f", `1`)
		}
		after(30 * second)
		if got := len(p.tried("f")); got != n || p.most > 500 || p.most < 400 {
			t.Errorf("%d of %d attempted, %d at once", got, n, p.most)
		}
		p.stop()
	})
}

// TestThrottledLane: a function without room is asked now and then, not once for each of its events.
func TestThrottledLane(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		p.handles(func(*invoke.Request) (string, bool, error) { return "", false, errThrottled })
		for range 1000 {
			p.enqueue("f", `1`)
		}
		after(minute)
		if n := len(p.tried("f")); n > 60 {
			t.Errorf("%d attempts in a minute", n)
		}
		p.handles(func(*invoke.Request) (string, bool, error) { return "", false, nil })
		after(10 * minute)
		if d := p.depth("events/f"); d != (queues.Depth{}) {
			t.Errorf("%+v", d)
		}
		p.stop()
	})
}

// TestReserved: no more are attempted at a time than the function's concurrency allows.
func TestReserved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		p.set("f", func(f *thaw.Function) { f.Reserved = number(3) })
		p.handles(func(*invoke.Request) (string, bool, error) { <-time.After(second); return "", false, nil })
		for range 30 {
			p.enqueue("f", `1`)
		}
		after(11 * second)
		if p.most != 3 || len(p.tried("f")) != 30 {
			t.Errorf("%d at once, %d attempted", p.most, len(p.tried("f")))
		}
		p.stop()
	})
}

// TestFullDisk: an event that cannot be put with the dead keeps its attempts and is put there later.
func TestFullDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		p.set("f", func(f *thaw.Function) {
			f.EventInvoke = map[string]thaw.EventInvoke{thaw.Latest: {MaxRetries: number(0)}}
		})
		p.handles(failing)
		p.enqueue("f", `1`)
		p.queues.fill(true)
		after(10 * minute)
		if f, _ := p.dispatcher.Function("f"); f.Dead != 0 || f.Retrying+f.Waiting != 1 {
			t.Errorf("%+v", f)
		}
		p.queues.fill(false)
		after(minute)
		if f, _ := p.dispatcher.Function("f"); f.Dead != 1 || len(p.tried("f")) != 1 {
			t.Errorf("%+v, attempts at %v", f, p.at("f"))
		}
		p.stop()
	})
}

// TestTidy: the queues of a function that is gone go too, when they are empty.
func TestTidy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		p.enqueue("f", `1`)
		after(second)
		p.handles(failing)
		p.enqueue("g", `1`)
		after(10 * minute)
		f, _ := p.Function("f")
		p.remove("f")
		p.remove("g")
		after(2 * minute)
		if names := p.queues.Names("events"); !slices.Equal(names, []string{"events-dead/g"}) {
			t.Errorf("%q", names)
		}
		if n, err := p.dispatcher.Redrive(t.Context(), "g"); n != 0 || thaw.CodeOf(err) != thaw.CodeResourceNotFound {
			t.Errorf("redrive: %d, %v", n, err)
		}
		p.mu.Lock()
		p.functions["f"] = f
		p.mu.Unlock()
		p.handles(func(*invoke.Request) (string, bool, error) { return "", false, nil })
		p.enqueue("f", `2`)
		after(second)
		if tries := p.tried("f"); len(tries) != 2 {
			t.Errorf("%+v", tries)
		}
		if n, err := p.dispatcher.Discard(t.Context(), "g"); n != 1 || err != nil {
			t.Errorf("discard: %d, %v", n, err)
		}
		after(2 * minute)
		if names := p.queues.Names("events"); !slices.Equal(names, []string{"events-dead/f", "events/f"}) {
			t.Errorf("%q", names)
		}
		p.stop()
	})
}

// TestTooManyDead: the oldest dead events go when there are more than are kept.
func TestTooManyDead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		p.enqueue("f", `1`)
		after(second)
		p.set("f", func(f *thaw.Function) {
			f.EventInvoke = map[string]thaw.EventInvoke{thaw.Latest: {MaxRetries: number(0)}}
		})
		q, _ := p.queues.Queue("events-dead/f")
		q.Send(t.Context(), make([]queues.Message, deadLimit)...)
		p.handles(failing)
		id := p.enqueue("f", `1`)
		after(second)
		if f, _ := p.dispatcher.Function("f"); f.Dead != deadLimit {
			t.Errorf("%d are kept", f.Dead)
		}
		got, err := q.Peek(t.Context(), deadLimit, 1)
		if env, broken := decodeEnvelope(got[0].Meta); err != nil || broken != nil || env.RequestID != id {
			t.Errorf("%+v, %v, %v", env, broken, err)
		}
		p.stop()
	})
}

func TestDeadByID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		p.set("f", func(f *thaw.Function) {
			f.EventInvoke = map[string]thaw.EventInvoke{thaw.Latest: {MaxRetries: number(0)}}
		})
		p.handles(failing)
		ids := make([]string, 100)
		for i := range ids {
			ids[i] = p.enqueue("f", `1`)
		}
		after(second)
		var shown []string
		for next := ""; ; {
			list, after, err := p.dispatcher.Events(t.Context(), "f", next, 30)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range list {
				shown = append(shown, v.ID)
			}
			if next = after; next == "" {
				break
			}
		}
		slices.Sort(shown)
		slices.Sort(ids)
		if !slices.Equal(shown, ids) {
			t.Errorf("%d of %d events were shown", len(shown), len(ids))
		}
		if _, _, err := p.dispatcher.Events(t.Context(), "f", "live-x", 30); thaw.CodeOf(err) != thaw.CodeInvalidParameterValue {
			t.Errorf("a bad place: %v", err)
		}
		if n, err := p.dispatcher.Discard(t.Context(), "f", ids[70], ids[3], "none"); n != 2 || err != nil {
			t.Errorf("discard: %d, %v", n, err)
		}
		if n, err := p.dispatcher.Redrive(t.Context(), "f", ids[71]); n != 1 || err != nil {
			t.Errorf("redrive: %d, %v", n, err)
		}
		after(second)
		if tries := p.tried("f"); len(tries) != 101 || tries[100].request.RequestID != ids[71] {
			t.Errorf("%d attempts", len(tries))
		}
		if n, err := p.dispatcher.Discard(t.Context(), "f"); n != 98 || err != nil {
			t.Errorf("discard: %d, %v", n, err)
		}
		p.stop()
	})
}

// TestDamaged: an event that cannot be read is kept for people.
func TestDamaged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlatform(t)
		p.enqueue("f", `1`)
		q, _ := p.queues.Queue("events/f")
		q.Send(context.Background(), queues.Message{Body: []byte("2"), Meta: []byte("{")})
		p.enqueue("f", `3`)
		after(second)
		list, _, err := p.dispatcher.Events(t.Context(), "f", "", 10)
		if err != nil || len(list) != 1 || list[0].Condition != "Damaged" || len(p.tried("f")) != 2 {
			t.Errorf("%+v, %v", list, err)
		}
		p.stop()
	})
}
