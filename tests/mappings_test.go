package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"thaw/internal/ownbody"
	"thaw/tests/harness"
)

// TestMappings runs a program with a queue, a function that reports failures, and a dead-letter queue, as it runs on AWS.
func TestMappings(t *testing.T) {
	t.Parallel()
	python := findPython(t)
	p := harness.Start(t, harness.Options{Config: network})
	out, text, err := run(t, p.Env(), "", python, unmodified(t, python, clientFile("python/mappings.py"), "mapped")...)
	if err != nil {
		t.Errorf("%v\n%s%s", err, out, text)
	}
	p.Stop()
	harness.NothingLeft(t, p.Data)
}

func sqsClient(p *harness.Platform) *sqs.Client {
	return sqs.New(sqs.Options{
		BaseEndpoint: aws.String(p.URL), Region: "us-east-1", RetryMaxAttempts: 1, HTTPClient: ownbody.Client{},
		Credentials: credentials.NewStaticCredentialsProvider("thaw-test-access-key", "thaw-test-secret-key", ""),
	})
}

// queue makes a queue and gives its URL.
func queue(t *testing.T, client *sqs.Client, name string, attributes map[string]string) string {
	t.Helper()
	out, err := client.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	return *out.QueueUrl
}

func queueARN(name string) string { return "arn:aws:sqs:us-east-1:000000000000:" + name }

// sendNumbers sends count messages, the numbers from first on.
func sendNumbers(t *testing.T, client *sqs.Client, url string, first, count int) {
	t.Helper()
	for from := first; from < first+count; from += 10 {
		var entries []types.SendMessageBatchRequestEntry
		for n := from; n < min(from+10, first+count); n++ {
			entries = append(entries, types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(n)), MessageBody: aws.String(strconv.Itoa(n))})
		}
		out, err := client.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: &url, Entries: entries})
		if err != nil || len(out.Failed) > 0 {
			t.Fatalf("send: %v %+v", err, out)
		}
	}
}

// drained reports whether a queue holds nothing, waiting or in flight.
func drained(t *testing.T, client *sqs.Client, url string) bool {
	t.Helper()
	out, err := client.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
	if err != nil {
		t.Fatal(err)
	}
	return out.Attributes["ApproximateNumberOfMessages"] == "0" && out.Attributes["ApproximateNumberOfMessagesNotVisible"] == "0"
}

// teller is a function that posts the bodies it gets to COLLECTOR.
const teller = `
import json, os, urllib.request

def handler(event, context):
    bodies = [r["body"] for r in event["Records"]]
    urllib.request.urlopen(os.environ["COLLECTOR"], data=json.dumps(bodies).encode()).read()
`

// reachable lets functions call a server of this test.
const reachable = "network:\n  mode: host\n"

// seen collects what functions post to it.
type seen struct {
	mu    sync.Mutex
	count map[string]int
}

func (s *seen) add(bodies []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == nil {
		s.count = map[string]int{}
	}
	for _, b := range bodies {
		s.count[b]++
	}
}

// missing is how many of the numbers below n were not seen, and again how many were seen more than once.
func (s *seen) missing(n int) (missing, again int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range n {
		switch c := s.count[strconv.Itoa(i)]; {
		case c == 0:
			missing++
		case c > 1:
			again++
		}
	}
	return missing, again
}

// collector is a server that functions post to.
func (s *seen) collector(t *testing.T) map[string]string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var bodies []string
		// A function that is killed with the platform may have got no further: it has not told of anything then.
		if err := json.NewDecoder(r.Body).Decode(&bodies); errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Errorf("a function posts %v", err)
		}
		s.add(bodies)
	}))
	t.Cleanup(server.Close)
	return map[string]string{"COLLECTOR": server.URL}
}

func mapped(t *testing.T, client *lambda.Client, in *lambda.CreateEventSourceMappingInput) string {
	t.Helper()
	m, err := client.CreateEventSourceMapping(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the mapping is enabled", func() bool {
		got, err := client.GetEventSourceMapping(t.Context(), &lambda.GetEventSourceMappingInput{UUID: m.UUID})
		if err != nil {
			t.Fatal(err)
		}
		return aws.ToString(got.State) == "Enabled"
	})
	return *m.UUID
}

// What a queue has accepted comes to the function through a kill of the platform, and a stop loses nothing and repeats
// nothing that the function was done with.
func TestMappingOutlivesThePlatform(t *testing.T) {
	var s seen
	p := harness.Start(t, harness.Options{Config: reachable})
	harness.Deploy(t, p.Lambda(), &harness.Function{Name: "f", Source: teller, Timeout: 2, Env: s.collector(t)})
	url := queue(t, sqsClient(p), "orders", map[string]string{"VisibilityTimeout": "2"})
	mapped(t, p.Lambda(), &lambda.CreateEventSourceMappingInput{FunctionName: aws.String("f"), EventSourceArn: aws.String(queueARN("orders"))})
	const each = 200
	for round := range 4 {
		sendNumbers(t, sqsClient(p), url, round*each, each)
		if round%2 == 0 {
			p.Kill()
		} else {
			p.Stop()
		}
		p = harness.Start(t, harness.Options{Data: p.Data, Config: reachable})
		url = queue(t, sqsClient(p), "orders", nil)
	}
	harness.Eventually(t, "every message is dealt with", func() bool { return drained(t, sqsClient(p), url) })
	missing, again := s.missing(4 * each)
	if missing > 0 {
		t.Errorf("%d messages were never seen", missing)
	}
	t.Logf("%d of %d messages came more than once", again, 4*each)
	p.Stop()
	harness.NothingLeft(t, p.Data)
}

// A queue behind another SQS API, which here is another platform.
func TestMappingOfAnotherServersQueue(t *testing.T) {
	t.Setenv("PARTNER_AWS_ACCESS_KEY_ID", "partner")
	t.Setenv("PARTNER_AWS_SECRET_ACCESS_KEY", "secret")
	var s seen
	other := harness.Start(t, harness.Options{Config: "network:\n  mode: none\n"})
	p := harness.Start(t, harness.Options{Config: reachable})
	harness.Deploy(t, p.Lambda(), &harness.Function{Name: "f", Source: teller, Timeout: 2, Env: s.collector(t)})
	url := queue(t, sqsClient(other), "orders", nil)
	fifo := queue(t, sqsClient(other), "orders.fifo", map[string]string{"FifoQueue": "true", "ContentBasedDeduplication": "true"})
	for _, name := range []string{"orders", "orders.fifo"} {
		mapped(t, p.Lambda(), &lambda.CreateEventSourceMappingInput{
			FunctionName: aws.String("f"), EventSourceArn: aws.String(queueARN(name)),
			SelfManagedEventSource:     &lambdatypes.SelfManagedEventSource{Endpoints: map[string][]string{"SQS_ENDPOINT": {other.URL}}},
			SourceAccessConfigurations: []lambdatypes.SourceAccessConfiguration{{Type: lambdatypes.SourceAccessTypeBasicAuth, URI: aws.String("env:PARTNER")}},
		})
	}
	sendNumbers(t, sqsClient(other), url, 0, 95)
	for n := 95; n < 100; n++ {
		if _, err := sqsClient(other).SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &fifo, MessageBody: aws.String(strconv.Itoa(n)), MessageGroupId: aws.String("g")}); err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range []string{url, fifo} {
		harness.Eventually(t, "every message is dealt with", func() bool { return drained(t, sqsClient(other), u) })
	}
	if missing, again := s.missing(100); missing+again > 0 {
		t.Errorf("%d messages were never seen, %d more than once", missing, again)
	}
	other.Stop()
	harness.Eventually(t, "the mapping says why nothing comes", func() bool {
		all, err := p.Lambda().ListEventSourceMappings(t.Context(), &lambda.ListEventSourceMappingsInput{FunctionName: aws.String("f")})
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(all.EventSourceMappings, func(m lambdatypes.EventSourceMappingConfiguration) bool {
			return strings.HasPrefix(aws.ToString(m.LastProcessingResult), "PROBLEM: The SQS API of the queue answered")
		})
	})
	p.Stop()
	harness.NothingLeft(t, p.Data)
	harness.NothingLeft(t, other.Data)
}

// One function's throttles and slowness are no other's: its messages wait in the queue and die of nothing.
func TestThrottledMappingKeepsItsMessages(t *testing.T) {
	p := harness.Start(t, harness.Options{Config: network})
	client := p.Lambda()
	harness.Deploy(t, client, &harness.Function{Name: "slow", Source: "import time\ndef handler(event, context):\n    time.sleep(0.05)\n", Timeout: 2})
	harness.Deploy(t, client, &harness.Function{Name: "quick", Source: "def handler(event, context):\n    pass\n", Timeout: 2})
	if _, err := client.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String("slow"), ReservedConcurrentExecutions: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	queues := sqsClient(p)
	dead := queue(t, queues, "dead", nil)
	urls := map[string]string{}
	for _, name := range []string{"slow", "quick"} {
		urls[name] = queue(t, queues, name, map[string]string{"VisibilityTimeout": "30", "RedrivePolicy": fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":1}`, queueARN("dead"))})
		mapped(t, client, &lambda.CreateEventSourceMappingInput{FunctionName: &name, EventSourceArn: aws.String(queueARN(name)), BatchSize: aws.Int32(2)})
	}
	// Somebody else takes the one place that the slow function has, now and then.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 40 {
			_, _ = client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("slow"), Payload: []byte(`{"Records":[{"body":"x"}]}`)})
		}
	}()
	for _, name := range []string{"slow", "quick"} {
		sendNumbers(t, queues, urls[name], 0, 100)
	}
	for _, name := range []string{"quick", "slow"} {
		harness.Eventually(t, name+" has had every message", func() bool { return drained(t, queues, urls[name]) })
	}
	<-ended
	if !drained(t, queues, dead) {
		t.Error("messages died although their function never failed")
	}
	p.Stop()
	harness.NothingLeft(t, p.Data)
}
