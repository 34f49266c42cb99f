package tests

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"thaw/internal/ownbody"
	"thaw/tests/harness"
)

// The kinds of events of the torture: asynchronous invocations and messages of three queues with mappings.
const (
	kindAsync = "async"
	kindStd   = "std"
	kindFIFO  = "fifo"
	kindSlow  = "slow" // its function hangs until the others have had all of theirs
)

// witness tells the collector what it was invoked with, and fails on what is poisonous.
const witness = `
import http.client, json, os

def tell(kind, seen):
    c = http.client.HTTPConnection(os.environ['COLLECTOR'])
    c.request('POST', '/' + kind, json.dumps(seen))
    assert c.getresponse().status == 200

def handler(event, context):
    if 'Records' not in event:
        tell('async', [{'id': event['id'], 'message': context.aws_request_id}])
        if event['id'].startswith('poison'):
            raise ValueError('poison')
        return
    tell(os.environ['KIND'], [{'id': r['body'], 'message': r['messageId']} for r in event['Records']])
    return {'batchItemFailures': [{'itemIdentifier': r['messageId']} for r in event['Records'] if r['body'].startswith('poison')]}
`

// eventConfig runs functions on the host's network, where they reach the collector, and has short waits.
const eventConfig = "runtimes:\n  nearest: true\nnetwork:\n  mode: host\nevents:\n  retry_wait: 300ms\n  max_backoff: 2s\n"

// collector is what functions have told of.
type collector struct {
	address string
	release chan struct{} // closed when slow functions need not hang any more

	mu       sync.Mutex
	told     map[string]map[string]int // times, by kind and id
	message  map[string]string         // the message id that a FIFO id came with
	newest   map[string]int            // by producer, the number of its newest FIFO message
	hanging  int                       // slow invocations that came
	problems []string
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{address: l.Addr().String(), release: make(chan struct{}), told: map[string]map[string]int{}, message: map[string]string{}, newest: map[string]int{}}
	s := &http.Server{Handler: c}
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(l) })
	t.Cleanup(func() { s.Close(); serving.Wait() })
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind := strings.TrimPrefix(r.URL.Path, "/")
	var seen []struct{ ID, Message string }
	if err := json.NewDecoder(r.Body).Decode(&seen); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if kind == kindSlow {
		c.mu.Lock()
		c.hanging++
		c.mu.Unlock()
		select {
		case <-c.release:
		case <-r.Context().Done():
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told[kind] == nil {
		c.told[kind] = map[string]int{}
	}
	for _, s := range seen {
		c.told[kind][s.ID]++
		if kind == kindFIFO {
			c.checkFIFO(s.ID, s.Message)
		}
	}
}

// checkFIFO holds that what a producer sent comes in its order, and as one message. Ids are WORD-PRODUCER-NUMBER.
func (c *collector) checkFIFO(id, message string) {
	if before := cmp.Or(c.message[id], message); before != message {
		c.problems = append(c.problems, fmt.Sprintf("%s was accepted twice: as %s and as %s", id, before, message))
	}
	c.message[id] = message
	if c.told[kindFIFO][id] > 1 {
		return // again, after a crash
	}
	part := strings.Split(id, "-")
	n, _ := strconv.Atoi(part[2])
	if newest := c.newest[part[1]]; n < newest {
		c.problems = append(c.problems, fmt.Sprintf("%s came first after number %d of its producer", id, newest))
	}
	c.newest[part[1]] = max(n, c.newest[part[1]])
}

// torture is a platform that is killed while events are sent to it.
type torture struct {
	t      *testing.T
	listen string
	data   string
	lambda *lambda.Client
	sqs    *sqs.Client

	*collector

	sent     sync.Mutex
	accepted map[string]map[string]bool // by kind and id
	dead     map[string]bool            // ids found in dead-letter queues
	wrong    map[string]string          // errors of requests that were answered, by code
	repeats  int
}

func newTorture(t *testing.T) *torture {
	t.Helper()
	x := &torture{
		t: t, listen: harness.FreeAddress(t), data: t.TempDir(),
		accepted: map[string]map[string]bool{}, dead: map[string]bool{}, wrong: map[string]string{},
	}
	keys := credentials.NewStaticCredentialsProvider("thaw-test-access-key", "thaw-test-secret-key", "")
	url := "http://" + x.listen
	x.lambda = harness.ClientWith(url, "us-east-1", keys)
	x.sqs = sqs.New(sqs.Options{BaseEndpoint: &url, Region: "us-east-1", RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}, Credentials: keys})
	return x
}

func (x *torture) start() *harness.Platform {
	return harness.Start(x.t, harness.Options{Data: x.data, Listen: x.listen, Config: eventConfig})
}

func (x *torture) url(queue string) *string {
	return aws.String("http://" + x.listen + "/000000000000/" + queue)
}

func arnOf(queue string) string { return "arn:aws:sqs:us-east-1:000000000000:" + queue }

func (x *torture) createQueue(name string, attributes map[string]string) {
	x.t.Helper()
	if _, err := x.sqs.CreateQueue(x.t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes}); err != nil {
		x.t.Fatalf("create queue %s: %v", name, err)
	}
}

const (
	functionTimeout = 5
	queueTimeout    = "6" // seconds, of the messages' visibility
)

// set makes queues, functions and mappings.
func (x *torture) set() {
	t := x.t
	t.Helper()
	ctx := t.Context()
	for _, dead := range []string{"std-dead", "async-dead"} {
		x.createQueue(dead, nil)
	}
	x.createQueue("std", map[string]string{"VisibilityTimeout": queueTimeout, "RedrivePolicy": `{"deadLetterTargetArn":"` + arnOf("std-dead") + `","maxReceiveCount":"5"}`})
	x.createQueue("in-order.fifo", map[string]string{"VisibilityTimeout": queueTimeout, "FifoQueue": "true"})
	x.createQueue("slow", map[string]string{"VisibilityTimeout": queueTimeout})
	for kind, queue := range map[string]string{kindStd: "std", kindFIFO: "in-order.fifo", kindSlow: "slow", kindAsync: ""} {
		harness.Deploy(t, x.lambda, &harness.Function{
			Name: kind, Source: witness, Timeout: functionTimeout, Env: map[string]string{"COLLECTOR": x.address, "KIND": kind},
		})
		if queue == "" {
			continue
		}
		_, err := x.lambda.CreateEventSourceMapping(ctx, &lambda.CreateEventSourceMappingInput{
			FunctionName: &kind, EventSourceArn: aws.String(arnOf(queue)), ScalingConfig: &lambdatypes.ScalingConfig{MaximumConcurrency: aws.Int32(4)},
			FunctionResponseTypes: []lambdatypes.FunctionResponseType{lambdatypes.FunctionResponseTypeReportBatchItemFailures},
		})
		if err != nil {
			t.Fatalf("map %s: %v", kind, err)
		}
	}
	// A few at a time, so that throttles are met too.
	if _, err := x.lambda.PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String(kindAsync), ReservedConcurrentExecutions: aws.Int32(6)}); err != nil {
		t.Fatal(err)
	}
	if _, err := x.lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
		FunctionName: aws.String(kindAsync), DeadLetterConfig: &lambdatypes.DeadLetterConfig{TargetArn: aws.String(arnOf("async-dead"))},
	}); err != nil {
		t.Fatal(err)
	}
	harness.WaitActive(t, x.lambda, kindAsync)
}

// accept notes what the platform has promised.
func (x *torture) accept(kind, id string) {
	x.sent.Lock()
	defer x.sent.Unlock()
	if x.accepted[kind] == nil {
		x.accepted[kind] = map[string]bool{}
	}
	x.accepted[kind][id] = true
}

// refused looks at a request that failed: the platform is down, or it has refused what it should take.
func (x *torture) refused(ctx context.Context, err error) {
	if code := harness.Code(err); code != "" && ctx.Err() == nil {
		x.sent.Lock()
		x.wrong[code] = err.Error()
		x.sent.Unlock()
	}
	<-time.After(20 * time.Millisecond)
}

// sentFIFO is a FIFO message that was accepted.
type sentFIFO struct {
	id, message string
	at          time.Time
}

// produce sends until ctx ends. A FIFO message is sent until it is accepted, and now and then an older one once more.
func (x *torture) produce(ctx context.Context, producer int, random *rand.Rand) {
	var older []sentFIFO
	for n := 0; ctx.Err() == nil; n++ {
		word := "ok"
		if random.IntN(50) == 0 {
			word = "poison"
		}
		kind := []string{kindAsync, kindAsync, kindStd, kindStd, kindFIFO}[random.IntN(5)]
		if kind == kindFIFO {
			word = "ok"
		}
		id := fmt.Sprintf("%s-%d-%d", word, producer, n)
		switch kind {
		case kindAsync:
			_, err := x.lambda.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String(kindAsync), InvocationType: lambdatypes.InvocationTypeEvent, Payload: []byte(`{"id":"` + id + `"}`)})
			if err != nil {
				x.refused(ctx, err)
				continue
			}
		case kindStd:
			if _, err := x.sqs.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: x.url("std"), MessageBody: &id}); err != nil {
				x.refused(ctx, err)
				continue
			}
		case kindFIFO:
			message := x.sendFIFO(ctx, id, producer)
			if message == "" {
				return
			}
			older = append(older, sentFIFO{id, message, time.Now()})
		}
		x.accept(kind, id)
		if len(older) > 0 && random.IntN(5) == 0 {
			x.sendAgain(ctx, older[random.IntN(len(older))], producer)
		}
		<-time.After(time.Duration(random.IntN(200)) * time.Millisecond)
	}
}

// sendFIFO sends until the message is accepted and gives its message id, the empty string if ctx ended before.
func (x *torture) sendFIFO(ctx context.Context, id string, producer int) string {
	for ctx.Err() == nil {
		out, err := x.sqs.SendMessage(ctx, &sqs.SendMessageInput{
			QueueUrl: x.url("in-order.fifo"), MessageBody: &id, MessageDeduplicationId: &id, MessageGroupId: aws.String("group-" + strconv.Itoa(producer%10)),
		})
		if err == nil {
			return *out.MessageId
		}
		x.refused(ctx, err)
	}
	return ""
}

// sendAgain sends what was accepted, within the deduplication window of five minutes: it must be the same message.
func (x *torture) sendAgain(ctx context.Context, m sentFIFO, producer int) {
	if time.Since(m.at) > 3*time.Minute {
		return
	}
	again := x.sendFIFO(ctx, m.id, producer)
	x.sent.Lock()
	defer x.sent.Unlock()
	if x.repeats++; again != "" && again != m.message {
		x.wrong["duplicate "+m.id] = "accepted as " + m.message + " and again as " + again
	}
}

// bury takes what is in the dead-letter queues.
func (x *torture) bury() {
	x.t.Helper()
	for _, queue := range []string{"std-dead", "async-dead"} {
		for {
			out, err := x.sqs.ReceiveMessage(x.t.Context(), &sqs.ReceiveMessageInput{QueueUrl: x.url(queue), MaxNumberOfMessages: 10})
			if err != nil {
				x.t.Fatalf("receive from %s: %v", queue, err)
			}
			if len(out.Messages) == 0 {
				break
			}
			var entries []sqstypes.DeleteMessageBatchRequestEntry
			for i, m := range out.Messages {
				id := *m.Body
				var event struct{ ID string }
				if json.Unmarshal([]byte(id), &event) == nil && event.ID != "" {
					id = event.ID
				}
				x.dead[strings.TrimSuffix(queue, "-dead")+" "+id] = true
				entries = append(entries, sqstypes.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
			}
			if _, err := x.sqs.DeleteMessageBatch(x.t.Context(), &sqs.DeleteMessageBatchInput{QueueUrl: x.url(queue), Entries: entries}); err != nil {
				x.t.Fatalf("delete from %s: %v", queue, err)
			}
		}
	}
}

// missing are the accepted ones that no function has had and no dead-letter queue has. Poison counts only in the latter.
func (x *torture) missing(kinds ...string) []string {
	x.bury()
	x.sent.Lock()
	defer x.sent.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	var all []string
	for _, kind := range kinds {
		for id := range x.accepted[kind] {
			if !x.dead[kind+" "+id] && (strings.HasPrefix(id, "poison") || x.told[kind][id] == 0) {
				all = append(all, kind+" "+id)
			}
		}
	}
	return all
}

// await waits until nothing is missing of some kinds, as long as that goes on: a minute without progress is the end.
func (x *torture) await(kinds ...string) {
	x.t.Helper()
	least, since := -1, time.Now()
	for {
		missing := x.missing(kinds...)
		if len(missing) == 0 {
			return
		}
		if least < 0 || len(missing) < least {
			least, since = len(missing), time.Now()
		}
		if time.Since(since) > harness.Patience {
			slices.Sort(missing)
			x.t.Errorf("%d accepted events were neither processed nor are they in a dead-letter queue:\n%s", len(missing), strings.Join(missing[:min(20, len(missing))], "\n"))
			return
		}
		<-time.After(100 * time.Millisecond)
	}
}

// tortureTime is how long the platform is killed again and again.
func tortureTime(t *testing.T) time.Duration {
	t.Helper()
	text := cmp.Or(os.Getenv("THAW_TORTURE"), "20s")
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("THAW_TORTURE=%s: %v", text, err)
	}
	return d
}

// TestKilledWhileEventsCome kills the platform at random moments while 50 producers send. What it has accepted must be
// processed or be in its dead-letter queue; what is in order stays so and is accepted once; what is slow slows nothing else.
func TestKilledWhileEventsCome(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root for functions on the host's network")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	x := newTorture(t)
	x.collector = newCollector(t)
	p := x.start()
	x.set()
	const slow = 40
	for i := range slow {
		id := fmt.Sprintf("ok-%d-0", i)
		if _, err := x.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: x.url("slow"), MessageBody: &id}); err != nil {
			t.Fatal(err)
		}
		x.accept(kindSlow, id)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var producers sync.WaitGroup
	for i := range 50 {
		producers.Go(func() { x.produce(ctx, i, rand.New(rand.NewPCG(seed, uint64(i)+1))) })
	}
	kills := 0
	for over := time.Now().Add(tortureTime(t)); time.Now().Before(over); kills++ {
		<-time.After(time.Duration(300+random.IntN(2700)) * time.Millisecond)
		p.Kill()
		if random.IntN(4) == 0 { // a start that is killed as well
			early := harness.Launch(t, harness.Options{Data: x.data, Listen: x.listen, Config: eventConfig})
			<-time.After(time.Duration(random.IntN(400)) * time.Millisecond)
			early.Kill()
		}
		p = x.start()
	}
	stop()
	producers.Wait()
	x.await(kindAsync, kindStd, kindFIFO)
	x.mu.Lock()
	if x.hanging == 0 || len(x.told[kindSlow]) > 0 {
		t.Errorf("%d invocations of the slow function hung, and %d of its messages are through, while the others had theirs", x.hanging, len(x.told[kindSlow]))
	}
	x.mu.Unlock()
	close(x.release)
	x.await(kindSlow)
	x.report(kills)
	for _, queue := range []string{"std", "in-order.fifo", "slow"} {
		harness.Eventually(t, queue+" is empty", func() bool {
			out, err := x.sqs.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: x.url(queue), AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll}})
			if err != nil {
				t.Fatal(err)
			}
			return out.Attributes["ApproximateNumberOfMessages"] == "0" && out.Attributes["ApproximateNumberOfMessagesNotVisible"] == "0"
		})
	}
	p.Stop()
	harness.NothingLeft(t, x.data)
}

// report says what was seen, and fails the test for what was wrong.
func (x *torture) report(kills int) {
	x.t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, problem := range x.problems[:min(20, len(x.problems))] {
		x.t.Error(problem)
	}
	for _, code := range slices.Sorted(maps.Keys(x.wrong)) {
		x.t.Errorf("a request was refused: %s: %s", code, x.wrong[code])
	}
	total := 0
	for _, kind := range []string{kindAsync, kindStd, kindFIFO, kindSlow} {
		repeated, unasked := 0, 0
		for id, times := range x.told[kind] {
			if times > 1 {
				repeated++
			}
			if !x.accepted[kind][id] {
				unasked++
			}
		}
		total += len(x.accepted[kind])
		x.t.Logf("%s: %d accepted; %d processed, of them %d more than once and %d whose acceptance was not heard of", kind, len(x.accepted[kind]), len(x.told[kind]), repeated, unasked)
	}
	x.t.Logf("%d kills, %d dead letters, %d FIFO messages sent twice on purpose", kills, len(x.dead), x.repeats)
	if total < 20*kills {
		x.t.Errorf("only %d events were accepted with %d kills", total, kills)
	}
}

// TestDiskFullWhileEventsCome fills the disk with messages: those and asynchronous events are refused then, what was
// accepted before is kept through a crash and comes when there is room.
func TestDiskFullWhileEventsCome(t *testing.T) {
	mount := tmpfs(t, "size=160m", 0)
	x := newTorture(t)
	x.data = filepath.Join(mount, "data")
	x.collector = newCollector(t)
	p := x.start()
	ctx := t.Context()
	x.createQueue("std", map[string]string{"VisibilityTimeout": "600"})
	harness.Deploy(t, x.lambda, &harness.Function{Name: kindAsync, Source: witness, Env: map[string]string{"COLLECTOR": x.address}})
	filler := filepath.Join(mount, "filler")
	var st syscall.Statfs_t
	if err := syscall.Statfs(mount, &st); err != nil {
		t.Fatal(err)
	}
	room := int64(st.Bavail)*st.Bsize - 44<<20 // what is left is little more than the reserve
	if err := os.WriteFile(filler, make([]byte, max(room, 0)), 0o600); err != nil {
		t.Fatal(err)
	}
	const size = 200_000
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		id := fmt.Sprintf("%s-%0*d", "ok", size, n)
		if _, err = x.sqs.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: x.url("std"), MessageBody: &id}); err == nil {
			x.accept(kindStd, id)
		}
	}
	if code := harness.Code(err); code == "" || n < 5 {
		t.Fatalf("after %d messages: %v", n, err)
	}
	t.Logf("after %d messages: %v", n, err)
	event := &lambda.InvokeInput{
		FunctionName: aws.String(kindAsync), InvocationType: lambdatypes.InvocationTypeEvent,
		Payload: []byte(`{"id":"late","more":"` + strings.Repeat("x", size) + `"}`),
	}
	if _, err := x.lambda.Invoke(ctx, event); harness.Code(err) == "" || !strings.Contains(err.Error(), "space") {
		t.Errorf("an asynchronous event on a full disk: %v", err)
	}
	p.Kill()
	p = x.start()
	if _, err := x.lambda.Invoke(ctx, event); harness.Code(err) == "" {
		t.Errorf("an asynchronous event on a full disk after a crash: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "there is room again", func() bool {
		_, err := x.lambda.Invoke(ctx, event)
		return err == nil
	})
	x.accept(kindAsync, "late")
	x.createQueue("std-dead", nil)
	x.createQueue("async-dead", nil)
	x.await(kindAsync)
	got := map[string]bool{}
	harness.Eventually(t, "all messages come", func() bool {
		out, err := x.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: x.url("std"), MaxNumberOfMessages: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range out.Messages {
			if got[*m.Body] || !x.accepted[kindStd][*m.Body] {
				t.Errorf("message %.20s… comes twice or was refused", *m.Body)
			}
			got[*m.Body] = true
		}
		return len(got) >= len(x.accepted[kindStd])
	})
	p.Stop()
}
