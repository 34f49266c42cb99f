package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"thaw/internal/ownbody"
	"thaw/scripts/platform"
)

// What is measured of the event side.
const (
	eventSize     = 1024 // bytes of an event and of a message
	acceptLength  = 5 * time.Second
	pacedRate     = 50 // asynchronous invocations per second, where the first attempt is what counts
	pacedCount    = 1000
	latencyLength = 10 * time.Second
	arriveLimit   = 2 * time.Minute // when what does not arrive is lost
	arrivePoll    = 200 * time.Millisecond
	queueBatch    = 10 // the most that SQS takes and gives at a time
)

// mappingRates are the messages per second whose way through a mapping is measured.
var mappingRates = []int{10, 100, 1000}

// pythonClock is the code of python-clock.
//
//go:embed functions/python-clock/app.py
var pythonClock []byte

// eventRate is how often one thing was done per second.
type eventRate struct {
	What        string
	Connections int
	PerSecond   float64
}

// mappingResult is how long messages took from their sender to the function.
type mappingResult struct {
	Rate, Sent, Again int
	PerSecond         float64 // what the sender reached
	Took              latencies
}

// eventsResult is what the event side did.
type eventsResult struct {
	Rates   []eventRate
	Drained time.Duration // from the last event that was accepted until all had run
	First   latencies     // from sending an asynchronous invocation to its first attempt
	Mapping []mappingResult
	Backlog *backlogResult
}

func measureEvents(ctx context.Context, o *options, examples []platform.Example, f *findings) error {
	at := slices.IndexFunc(examples, func(e platform.Example) bool { return e.Name == "python-echo" })
	if at < 0 {
		return errors.New("no python-echo among the examples")
	}
	dir, err := os.MkdirTemp("", "thaw-bench-clock-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// The platform opens the code as another user.
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "app.py"), pythonClock, 0o644)); err != nil {
		return err
	}
	clock := examples[at]
	clock.Name, clock.Dir = "python-clock", dir
	r := &eventsResult{}
	err = withSettings(ctx, o, defaultSpares, func(p *platform.Platform) error {
		if err := p.Deploy(ctx, &clock); err != nil {
			return err
		}
		client := &http.Client{Timeout: arriveLimit, Transport: &http.Transport{MaxIdleConnsPerHost: 4 * connections}}
		defer client.CloseIdleConnections()
		e := &eventSide{
			p: p, function: clock.Name, http: client,
			lambda: lambda.New(lambda.Options{BaseEndpoint: endpointOf(p), Region: anyRegion, Credentials: anyKey, Retryer: aws.NopRetryer{}, HTTPClient: ownbody.Client{HTTP: client}}),
			sqs:    sqs.New(sqs.Options{BaseEndpoint: endpointOf(p), Region: anyRegion, Credentials: anyKey, Retryer: aws.NopRetryer{}, HTTPClient: ownbody.Client{HTTP: client}}),
		}
		for _, measure := range []func() error{
			func() error { return e.firstAttempts(ctx, o, r) },
			func() error { return e.accepted(ctx, o, r) },
			func() error { return e.queue(ctx, o, r) },
			func() error { return e.mapping(ctx, o, r) },
		} {
			if err := measure(); err != nil {
				return fmt.Errorf("events: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if r.Backlog, err = measureBacklog(ctx, o); err != nil {
		return fmt.Errorf("backlog: %w", err)
	}
	f.Events = r
	return nil
}

// eventSide is a platform with a function that says when it was called.
type eventSide struct {
	p        *platform.Platform
	function string
	lambda   *lambda.Client
	sqs      *sqs.Client
	http     *http.Client
}

// body is an event of eventSize bytes that says when it was sent.
func (e *eventSide) body(run string, n int) string {
	head := fmt.Sprintf(`{"run":%q,"n":%d,"sent":%.6f,"fill":"`, run, n, float64(time.Now().UnixMicro())/1e6)
	return head + strings.Repeat("x", max(eventSize-len(head)-2, 0)) + `"}`
}

// paced calls send with the numbers up to count at an even rate, each when it is due however long the others take.
func paced(ctx context.Context, count, rate int, send func(n int) error) (took time.Duration, err error) {
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	begin := time.Now()
	for n := range count {
		due := begin.Add(time.Duration(n) * time.Second / time.Duration(rate))
		if err := wait(ctx, max(time.Until(due), 0)); err != nil {
			break
		}
		all.Go(func() {
			if err := send(n); err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	all.Wait()
	took = time.Since(begin)
	if err := failed.Load(); err != nil {
		return took, *err
	}
	return took, ctx.Err()
}

// arrived waits until the function has said of count events of a run that it was called, and gives how long the first call
// with each came after it was sent, and how many calls were not the first.
func (e *eventSide) arrived(ctx context.Context, run string, count int) (took latencies, again int, err error) {
	ctx, cancel := context.WithTimeout(ctx, arriveLimit)
	defer cancel()
	for {
		took, again, err = e.said(ctx, run)
		if err != nil || len(took) >= count {
			slices.Sort(took)
			return took, again, err
		}
		if err := wait(ctx, arrivePoll); err != nil {
			return nil, 0, fmt.Errorf("%d of %d events have arrived: %w", len(took), count, err)
		}
	}
}

// said reads the function's log.
func (e *eventSide) said(ctx context.Context, run string) (took latencies, again int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.p.URL+"/_thaw/logs?function="+url.QueryEscape(e.function), nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	seen := map[int]bool{}
	for lines := json.NewDecoder(resp.Body); ; {
		var line struct {
			Message string `json:"message"`
		}
		if err := lines.Decode(&line); errors.Is(err, io.EOF) {
			return took, again, nil
		} else if err != nil {
			return nil, 0, err
		}
		var call struct {
			Run string  `json:"run"`
			N   int     `json:"n"`
			MS  float64 `json:"ms"`
		}
		if json.Unmarshal([]byte(line.Message), &call) != nil || call.Run != run {
			continue
		}
		if seen[call.N] {
			again++
			continue
		}
		seen[call.N] = true
		took = append(took, time.Duration(call.MS*float64(time.Millisecond)))
	}
}

// firstAttempts measures how long an event waits for its function where nothing else does.
func (e *eventSide) firstAttempts(ctx context.Context, o *options, r *eventsResult) error {
	count := o.scale(pacedCount)
	say(fmt.Sprintf("%d asynchronous invocations, %d per second", count, pacedRate))
	_, err := paced(ctx, count, pacedRate, func(n int) error {
		_, err := e.lambda.Invoke(ctx, &lambda.InvokeInput{FunctionName: &e.function, InvocationType: lambdatypes.InvocationTypeEvent, Payload: []byte(e.body("first", n))})
		return err
	})
	if err != nil {
		return err
	}
	r.First, _, err = e.arrived(ctx, "first", count)
	return err
}

// accepted measures how many asynchronous invocations are taken while others run.
func (e *eventSide) accepted(ctx context.Context, o *options, r *eventsResult) error {
	t := target{url: invokeURL(e.p, e.function), headers: "X-Amz-Invocation-Type: Event\r\n", body: `{"fill":"` + strings.Repeat("x", eventSize-11) + `"}`}
	if err := e.rates(ctx, o, r, "asynchronous invocations accepted", &t); err != nil {
		return err
	}
	// What was accepted runs for a while yet, and on the same cores.
	say("the end of what was accepted")
	begin := time.Now()
	for time.Since(begin) < arriveLimit {
		var view struct {
			Functions []struct{ Waiting, Running, Retrying int } `json:"functions"`
		}
		if err := e.p.Run(ctx, &view, "events", "list"); err != nil {
			return err
		}
		if f := view.Functions; len(f) == 1 && f[0].Waiting+f[0].Running+f[0].Retrying == 0 {
			r.Drained = time.Since(begin)
			return nil
		}
		if err := wait(ctx, arrivePoll); err != nil {
			return err
		}
	}
	return fmt.Errorf("the asynchronous invocations have not ended after %s", arriveLimit)
}

func (e *eventSide) rates(ctx context.Context, o *options, r *eventsResult, what string, t *target) error {
	for _, n := range []int{1, connections} {
		say(fmt.Sprintf("%s, %d connections", what, n))
		perSecond, err := throughput(ctx, t, n, o.shorten(acceptLength))
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		r.Rates = append(r.Rates, eventRate{what, n, perSecond})
	}
	return nil
}

// makeQueue makes a queue and gives its URL.
func (e *eventSide) makeQueue(ctx context.Context, name string) (string, error) {
	q, err := e.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: map[string]string{"VisibilityTimeout": "60"}})
	if err != nil {
		return "", err
	}
	return aws.ToString(q.QueueUrl), nil
}

// queue measures what a queue takes and gives.
func (e *eventSide) queue(ctx context.Context, o *options, r *eventsResult) error {
	address, err := e.makeQueue(ctx, "throughput")
	if err != nil {
		return err
	}
	send := func(operation string, in any) (*target, error) {
		body, err := json.Marshal(in)
		return &target{url: e.p.URL + "/", headers: "X-Amz-Target: AmazonSQS." + operation + "\r\n", content: "application/x-amz-json-1.0", body: string(body)}, err
	}
	message := strings.Repeat("x", eventSize)
	t, err := send("SendMessage", map[string]any{"QueueUrl": address, "MessageBody": message})
	if err != nil {
		return err
	}
	if err := e.rates(ctx, o, r, "SendMessage", t); err != nil {
		return err
	}
	var entries []map[string]string
	for i := range queueBatch {
		entries = append(entries, map[string]string{"Id": string(rune('a' + i)), "MessageBody": message})
	}
	if t, err = send("SendMessageBatch", map[string]any{"QueueUrl": address, "Entries": entries}); err != nil {
		return err
	}
	if err := e.rates(ctx, o, r, fmt.Sprintf("SendMessageBatch of %d, calls", queueBatch), t); err != nil {
		return err
	}
	for _, n := range []int{1, connections} {
		say(fmt.Sprintf("ReceiveMessage and DeleteMessageBatch, %d callers", n))
		perSecond, err := e.receive(ctx, address, n, o.shorten(acceptLength))
		if err != nil {
			return err
		}
		r.Rates = append(r.Rates, eventRate{fmt.Sprintf("ReceiveMessage of %d and DeleteMessageBatch, messages, with the Go SDK", queueBatch), n, perSecond})
	}
	_, err = e.sqs.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: &address})
	return err
}

// receive takes messages and deletes them for a while, and gives how many a second.
func (e *eventSide) receive(ctx context.Context, address string, callers int, length time.Duration) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	counts, errs := make([]int, callers), make([]error, callers)
	begin := time.Now()
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for time.Since(begin) < length && errs[i] == nil {
				var n int
				n, errs[i] = e.take(ctx, address)
				counts[i] += n
			}
		})
	}
	all.Wait()
	took, sum := time.Since(begin), 0
	for _, n := range counts {
		sum += n
	}
	return float64(sum) / took.Seconds(), errors.Join(errs...)
}

// take receives once and deletes what came.
func (e *eventSide) take(ctx context.Context, address string) (int, error) {
	got, err := e.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &address, MaxNumberOfMessages: queueBatch})
	if err != nil || len(got.Messages) == 0 {
		return 0, err
	}
	var entries []sqstypes.DeleteMessageBatchRequestEntry
	for i := range got.Messages {
		entries = append(entries, sqstypes.DeleteMessageBatchRequestEntry{Id: aws.String(string(rune('a' + i))), ReceiptHandle: got.Messages[i].ReceiptHandle})
	}
	deleted, err := e.sqs.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &address, Entries: entries})
	if err == nil && len(deleted.Failed) > 0 {
		err = fmt.Errorf("a message cannot be deleted: %s", aws.ToString(deleted.Failed[0].Message))
	}
	return len(got.Messages), err
}

// mapping measures messages on their way through a mapping.
func (e *eventSide) mapping(ctx context.Context, o *options, r *eventsResult) error {
	address, err := e.makeQueue(ctx, "latency")
	if err != nil {
		return err
	}
	arn := "arn:aws:sqs:" + anyRegion + ":" + filepath.Base(filepath.Dir(address)) + ":latency"
	m, err := e.lambda.CreateEventSourceMapping(ctx, &lambda.CreateEventSourceMappingInput{FunctionName: &e.function, EventSourceArn: &arn, BatchSize: aws.Int32(queueBatch)})
	if err != nil {
		return err
	}
	if err := poll(ctx, func() (bool, error) {
		m, err := e.lambda.GetEventSourceMapping(ctx, &lambda.GetEventSourceMappingInput{UUID: m.UUID})
		return err == nil && aws.ToString(m.State) == "Enabled", err
	}); err != nil {
		return err
	}
	for _, rate := range mappingRates {
		count := max(int(float64(rate)*o.shorten(latencyLength).Seconds()), 5)
		say(fmt.Sprintf("%d messages through a mapping, %d per second", count, rate))
		run := fmt.Sprintf("mapping-%d", rate)
		took, err := paced(ctx, count, rate, func(n int) error {
			_, err := e.sqs.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &address, MessageBody: aws.String(e.body(run, n))})
			return err
		})
		if err != nil {
			return err
		}
		result := mappingResult{Rate: rate, Sent: count, PerSecond: float64(count) / took.Seconds()}
		if result.Took, result.Again, err = e.arrived(ctx, run, count); err != nil {
			return err
		}
		r.Mapping = append(r.Mapping, result)
	}
	return nil
}
