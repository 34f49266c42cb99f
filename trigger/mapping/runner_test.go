package mapping

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"thaw"
	"thaw/state/queues"
)

func TestBatchesAreInvokedAndDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, queues.Options{})
		b.queue.send("a", "b", "c")
		_, stop := b.run()
		synctest.Wait()
		b.queue.send("d")
		synctest.Wait()
		stop(drain)
		b.wantTold("a b c|d")
		b.wantLeft("")
	})
}

func TestBatchSizeAndPayloadBoundBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, queues.Options{})
		b.queue.send("a", "b", "c", "d", "e")
		_, stop := b.run(func(m *Mapping) { m.BatchSize = 2; m.MaxConcurrency = 2 })
		pass(time.Second)
		stop(drain)
		slices.SortFunc(b.calls, func(a, c call) int { return strings.Compare(a.bodies[0], c.bodies[0]) })
		b.wantTold("a b|c d|e")

		b = newBench(t, queues.Options{})
		big := strings.Repeat("x", 1<<20)
		for i := range 8 {
			b.queue.send(fmt.Sprint(i) + big)
		}
		_, stop = b.run()
		pass(time.Second)
		stop(drain)
		var sizes []int
		for _, c := range b.calls {
			sizes = append(sizes, len(c.bodies))
			if len(c.event) > thaw.MaxPayload {
				t.Errorf("an event of %d bytes", len(c.event))
			}
		}
		if slices.Sort(sizes); !slices.Equal(sizes, []int{3, 5}) {
			t.Errorf("batches of %v", sizes)
		}
		b.wantLeft("")
	})
}

func TestWindowGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, queues.Options{})
		begin := time.Now()
		_, stop := b.run(func(m *Mapping) { m.BatchSize = 4; m.Window = 5 })
		for _, body := range []string{"a", "b", "c"} {
			b.queue.send(body)
			pass(time.Second)
		}
		pass(3 * time.Second)
		b.wantTold("a b c")
		if len(b.calls) == 1 && b.calls[0].at.Sub(begin) != 5*time.Second {
			t.Errorf("invoked after %v", b.calls[0].at.Sub(begin))
		}
		b.queue.send("d", "e", "f", "g")
		synctest.Wait()
		b.wantTold("a b c|d e f g") // full, so that it need not wait
		stop(drain)
		b.wantLeft("")
	})
}

func TestFunctionErrorLeavesTheBatchToTheVisibilityTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, queues.Options{MaxReceives: 3, DeadLetter: "sqs/dead"})
		b.serve = func(context.Context, []string) (Result, error) { return Result{FunctionError: true}, nil }
		begin := time.Now()
		b.queue.send("poison")
		r, stop := b.run()
		pass(5 * time.Minute)
		stop(drain)
		b.wantTold("poison|poison|poison")
		for i, c := range b.calls {
			if at := c.at.Sub(begin); at != time.Duration(i)*30*time.Second {
				t.Errorf("attempt %d after %v", i+1, at)
			}
		}
		if !slices.Equal(b.queue.dead, []string{"poison"}) {
			t.Errorf("dead %v", b.queue.dead)
		}
		if got := *r.result.Load(); got != resultFailed {
			t.Error(got)
		}
	})
}

func TestPartialFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, queues.Options{MaxReceives: 2, DeadLetter: "sqs/dead"})
		b.serve = func(_ context.Context, bodies []string) (Result, error) {
			if slices.Contains(bodies, "bad") {
				return Result{Payload: []byte(`{"batchItemFailures":[{"itemIdentifier":"id-bad"}]}`)}, nil
			}
			return Result{Payload: []byte(`{"batchItemFailures":[]}`)}, nil
		}
		b.queue.send("a", "bad", "b")
		_, stop := b.run(func(m *Mapping) { m.ReportFailures = true })
		synctest.Wait()
		b.wantLeft("bad=1")
		pass(2 * time.Minute)
		stop(drain)
		b.wantTold("a bad b|bad")
		if !slices.Equal(b.queue.dead, []string{"bad"}) {
			t.Errorf("dead %v", b.queue.dead)
		}
	})
}

func TestFailedMessageHoldsBackItsGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, queues.Options{FIFO: true})
		failing := true
		b.serve = func(_ context.Context, bodies []string) (Result, error) {
			if bodies[0] == "a:1" && failing {
				failing = false
				return Result{Payload: []byte(`{"batchItemFailures":[{"itemIdentifier":"id-a:1"}]}`)}, nil
			}
			return Result{}, nil
		}
		b.queue.send("a:1", "a:2", "b:1", "b:2")
		_, stop := b.run(func(m *Mapping) {
			m.ReportFailures, m.BatchSize = true, 1
			m.Source.ARN = "arn:aws:sqs:us-east-1:000000000000:orders.fifo"
		})
		synctest.Wait()
		b.wantLeft("a:1=1 a:2=0")
		pass(time.Minute)
		stop(drain)
		b.wantLeft("")
		groups := map[string][]string{}
		for _, c := range b.calls {
			group, number, _ := strings.Cut(c.bodies[0], ":")
			groups[group] = append(groups[group], number)
		}
		if got := fmt.Sprint(groups); got != "map[a:[1 1 2] b:[1 2]]" {
			t.Error(got)
		}
	})
}

// What has no room in a batch may be of the same group: it comes after the batch, and not before the batch has succeeded.
func TestLargeMessagesOfAGroupKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, queues.Options{FIFO: true})
		failing := true
		b.serve = func(_ context.Context, bodies []string) (Result, error) {
			pass(time.Second)
			if failing && strings.HasPrefix(bodies[0], "a:0") {
				failing = false
				return Result{FunctionError: true}, nil
			}
			return Result{}, nil
		}
		big := strings.Repeat("x", 1<<20)
		for i := range 8 {
			b.queue.send(fmt.Sprintf("a:%d%s", i, big))
		}
		_, stop := b.run(func(m *Mapping) { m.Source.ARN += ".fifo" })
		pass(2 * time.Minute)
		stop(drain)
		var order []string
		for _, c := range b.calls {
			for _, body := range c.bodies {
				order = append(order, body[2:3])
			}
			order = append(order, "|")
		}
		if got := strings.Join(order, ""); got != "01234|01234|567|" || b.most != 1 {
			t.Errorf("%s, %d at the same time", got, b.most)
		}
		b.wantLeft("")
	})
}

func TestThrottledBatchesCountOneReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, queues.Options{MaxReceives: 2, DeadLetter: "sqs/dead"})
		until := time.Now().Add(10 * time.Minute)
		b.serve = func(context.Context, []string) (Result, error) {
			if time.Now().Before(until) {
				return Result{}, errThrottled
			}
			return Result{}, nil
		}
		for i := range 100 {
			b.queue.send(fmt.Sprintf("%03d", i))
		}
		r, stop := b.run()
		pass(9 * time.Minute)
		for body, n := range b.queue.counts() {
			if n > 1 {
				t.Errorf("%s was received %d times", body, n)
			}
		}
		if d := b.queue.Depth(); d.InFlight > 50 || d.InFlight < 10 {
			t.Errorf("%d messages are in flight, more than the first batches", d.InFlight)
		}
		if got := *r.result.Load(); got != "PROBLEM: Rate Exceeded." {
			t.Error(got)
		}
		pass(2 * time.Minute)
		stop(drain)
		b.wantLeft("")
		if b.queue.receives != 100 || len(b.queue.dead) != 0 {
			t.Errorf("%d receives, %d dead", b.queue.receives, len(b.queue.dead))
		}
	})
}

func TestNothingIsReceivedForAFunctionThatCannotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, queues.Options{})
		zero := 0
		b.function.Reserved = &zero
		b.queue.send("a")
		r, stop := b.run()
		pass(time.Minute)
		b.wantLeft("a=0")
		if got := *r.result.Load(); got != "PROBLEM: The function's reserved concurrency is 0" {
			t.Error(got)
		}
		b.mu.Lock()
		b.function.Reserved = nil
		b.mu.Unlock()
		pass(time.Second)
		b.wantLeft("")
		b.mu.Lock()
		b.gone = true
		b.mu.Unlock()
		pass(time.Second)
		b.queue.send("b") // for the receive that was waiting already
		pass(time.Minute)
		b.queue.send("c")
		pass(time.Minute)
		b.wantLeft("b=1 c=0")
		if d := b.queue.Depth(); d.Visible != 2 {
			t.Errorf("%+v", d)
		}
		stop(giveBack)
	})
}

func TestConcurrencyIsBounded(t *testing.T) {
	for _, bound := range []string{"mapping", "reserved", "node"} {
		t.Run(bound, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, queues.Options{})
				b.serve = func(context.Context, []string) (Result, error) {
					pass(2 * time.Second)
					return Result{}, nil
				}
				for i := range 2000 {
					b.queue.send(fmt.Sprint(i))
				}
				reserved := 7
				if bound == "reserved" {
					b.function.Reserved = &reserved
				}
				if bound == "node" {
					b.bound = 7
				}
				_, stop := b.run(func(m *Mapping) {
					m.BatchSize = 1
					if bound == "mapping" {
						m.MaxConcurrency = 7
					}
				})
				pass(time.Minute)
				stop(drain)
				if b.most != 7 {
					t.Errorf("%d at the same time", b.most)
				}
			})
		})
	}
}

func TestSlowFunctionsGetMoreBatchesQuickly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, queues.Options{Visibility: time.Hour})
		b.serve = func(context.Context, []string) (Result, error) {
			pass(time.Minute)
			return Result{}, nil
		}
		for i := range 2000 {
			b.queue.send(fmt.Sprint(i))
		}
		_, stop := b.run(func(m *Mapping) { m.BatchSize = 1 })
		pass(10 * time.Second)
		b.mu.Lock()
		if b.running != 1000 {
			t.Errorf("%d batches are under way", b.running)
		}
		last := b.forecasts[len(b.forecasts)-1]
		b.mu.Unlock()
		if last.Function != "f" || last.Environments < 500 {
			t.Errorf("expected %+v", last)
		}
		stop(giveBack)
	})
}

func TestDrainFinishesWhatWasReceived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, queues.Options{})
		b.serve = func(context.Context, []string) (Result, error) {
			pass(2 * time.Second)
			return Result{}, nil
		}
		_, stop := b.run(func(m *Mapping) { m.Window = 10 })
		b.queue.send("a", "b")
		synctest.Wait()
		stop(drain)
		b.wantTold("a b")
		b.wantLeft("")
	})
}

func TestStopGivesBackWhatNoFunctionHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, queues.Options{})
		_, stop := b.run(func(m *Mapping) { m.Window = 10 })
		b.queue.send("a", "b")
		synctest.Wait()
		stop(giveBack)
		b.wantTold("")
		b.wantLeft("a=1 b=1")
		if d := b.queue.Depth(); d.Visible != 2 {
			t.Errorf("%+v", d)
		}

		b = newBench(t, queues.Options{})
		b.serve = func(context.Context, []string) (Result, error) { return Result{}, errThrottled }
		b.queue.send("a", "b")
		_, stop = b.run()
		pass(time.Second)
		stop(giveBack)
		if d := b.queue.Depth(); d.Visible != 2 {
			t.Errorf("throttled: %+v", d)
		}
	})
}

func TestAbandonLeavesFunctionsAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, queues.Options{})
		release := make(chan struct{})
		b.serve = func(context.Context, []string) (Result, error) {
			<-release
			return Result{}, nil
		}
		b.queue.send("a")
		r, stop := b.run()
		synctest.Wait()
		r.abandon()
		stop(giveBack)
		b.wantLeft("a=1")
		if d := b.queue.Depth(); d.InFlight != 1 {
			t.Errorf("%+v", d) // the function has it
		}
		close(release)
	})
}

// The function's invocation carries on what its messages bring, and a loop ends without taking other messages with it.
func TestTracesAndLoops(t *testing.T) {
	for _, fifo := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, queues.Options{FIFO: fifo})
			b.serve = func(_ context.Context, bodies []string) (Result, error) {
				if slices.Contains(bodies, "c Root=loop") {
					return Result{}, thaw.Errorf(thaw.CodeRecursiveInvocation, "a loop")
				}
				return Result{}, nil
			}
			b.queue.send("a Root=1", "b Root=1", "c Root=loop", "d", "e Root=2")
			_, stop := b.run(func(m *Mapping) {
				if fifo {
					m.Source.ARN += ".fifo"
				}
			})
			synctest.Wait()
			if got := b.calls[0].traces; !slices.Equal(got, []string{"Root=1", "Root=loop", "Root=2"}) {
				t.Errorf("traces %q", got)
			}
			if fifo { // what comes later may not overtake
				b.wantLeft("a Root=1=1 b Root=1=1 c Root=loop=1 d=1 e Root=2=1")
			} else {
				b.wantLeft("c Root=loop=1")
				b.wantTold("a Root=1 b Root=1 c Root=loop d e Root=2|a Root=1 b Root=1|c Root=loop d e Root=2|c Root=loop|d e Root=2")
			}
			stop(giveBack)
		})
	}
}

func TestFilteredMessagesAreDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, queues.Options{})
		b.queue.send(`{"kind":"order"}`, `{"kind":"visit"}`, `text`)
		_, stop := b.run(func(m *Mapping) { m.Filters = []string{`{"body":{"kind":["order"]}}`} })
		synctest.Wait()
		stop(drain)
		b.wantTold(`{"kind":"order"}`)
		b.wantLeft("")
	})
}

func TestMessagesThatMightShowTooEarlyAreHiddenLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, queues.Options{Visibility: 5 * time.Second})
		b.serve = func(context.Context, []string) (Result, error) {
			pass(2900 * time.Millisecond)
			return Result{}, nil
		}
		b.queue.send("a")
		_, stop := b.run(func(m *Mapping) { m.Window = 4 })
		pass(time.Minute)
		stop(drain)
		b.wantTold("a")
		b.wantLeft("")
	})
}

func TestEventIsAsOnAWS(t *testing.T) {
	q := ownQueue{arn: "arn:aws:sqs:us-east-2:123456789012:my-queue.fifo", region: "us-east-2"}
	meta := queues.SQSMeta{
		Sender: "AIDAIENQZJOLO23YVJ4VO", System: map[string]queues.SQSAttribute{"AWSTraceHeader": {Type: "String", String: "Root=1-5759e988-bd862e3fe1be46a994272793"}},
		Attributes: map[string]queues.SQSAttribute{
			"myAttribute": {Type: "String", String: "myValue"}, "bytes": {Type: "Binary", Binary: []byte{1, 2}}, "n": {Type: "Number", String: "6"},
		},
	}
	r := queues.Received{
		ID: "059f36b4-87a3-44ab-83d2-661975830a7d", Handle: "AQEB", Body: []byte("Test <message>.\n\"x\""), Meta: meta.Encode(), Group: "1", Dedup: "d",
		DeadFrom: "sqs/first.fifo", Sequence: 7, Sent: time.UnixMilli(1545082649183), FirstReceived: time.UnixMilli(1545082649185), Receives: 1,
	}
	record, trace := q.record(&r)
	if trace != meta.System["AWSTraceHeader"].String {
		t.Errorf("trace %s", trace)
	}
	got := string(event([]message{{record: record}}))
	want := `{"Records":[{"messageId":"059f36b4-87a3-44ab-83d2-661975830a7d","receiptHandle":"AQEB","body":"Test <message>.\n\"x\"",` +
		`"attributes":{"ApproximateReceiveCount":"1","AWSTraceHeader":"Root=1-5759e988-bd862e3fe1be46a994272793","SentTimestamp":"1545082649183","SequenceNumber":"00000000000000000007","MessageGroupId":"1",` +
		`"SenderId":"AIDAIENQZJOLO23YVJ4VO","MessageDeduplicationId":"d","ApproximateFirstReceiveTimestamp":"1545082649185",` +
		`"DeadLetterQueueSourceArn":"arn:aws:sqs:us-east-2:123456789012:first.fifo"},` +
		`"messageAttributes":{"bytes":{"binaryValue":"AQI=","stringListValues":[],"binaryListValues":[],"dataType":"Binary"},` +
		`"myAttribute":{"stringValue":"myValue","stringListValues":[],"binaryListValues":[],"dataType":"String"},` +
		`"n":{"stringValue":"6","stringListValues":[],"binaryListValues":[],"dataType":"Number"}},` +
		`"md5OfMessageAttributes":"` + meta.MD5OfAttributes() + `","md5OfBody":"` + md5Hex(r.Body) + `",` +
		`"eventSource":"aws:sqs","eventSourceARN":"arn:aws:sqs:us-east-2:123456789012:my-queue.fifo","awsRegion":"us-east-2"}]}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// The example of the developer guide, from a standard queue without attributes.
	plain := ownQueue{arn: "arn:aws:sqs:us-east-2:123456789012:my-queue", region: "us-east-2"}
	r.Meta, r.Group, r.Dedup, r.Body = nil, "", "", []byte("Test message.")
	var members map[string]any
	if record, trace = plain.record(&r); trace != "" {
		t.Errorf("trace %s", trace)
	}
	if err := json.Unmarshal(record, &members); err != nil {
		t.Fatal(err)
	}
	if members["md5OfBody"] != "e4e68fb7bd0e697a0ae8f1bb342846b3" || fmt.Sprint(members["messageAttributes"]) != "map[]" || len(members) != 9 {
		t.Errorf("%v", members)
	}
}
