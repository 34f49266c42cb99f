package sqs

import (
	"context"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"

	"thaw"
	"thaw/control/internal/apitest"
	"thaw/state/queues"
)

// receive gives the messages of one receive.
func (w *world) receive(t testing.TB, queue string, members m) []m {
	t.Helper()
	list, _ := w.must(t, "ReceiveMessage", mix(m{"QueueUrl": queue}, members))["Messages"].([]any)
	messages := make([]m, len(list))
	for i := range list {
		messages[i] = list[i].(m)
	}
	return messages
}

func bodies(messages []m) []string {
	var list []string
	for _, x := range messages {
		list = append(list, x["Body"].(string))
	}
	return list
}

// TestChosenAttributes has what AWS was recorded to answer.
func TestChosenAttributes(t *testing.T) {
	w := newWorld(t)
	url := w.create(t, "q", nil)
	text := func(s string) m { return m{"DataType": "String", "StringValue": s} }
	w.must(t, "SendMessage", m{"QueueUrl": url, "MessageBody": "msg", "MessageAttributes": m{"Hello": text("There"), "General": text("Kenobi"), "Help.Me": text("Me")}})
	for _, c := range []struct {
		asked []string
		names []string
		md5   any
	}{
		{nil, nil, nil},
		{[]string{"All"}, []string{"General", "Hello", "Help.Me"}, "4c360f3fdafd970e05fae2f149d997f5"},
		{[]string{".*"}, []string{"General", "Hello", "Help.Me"}, "4c360f3fdafd970e05fae2f149d997f5"},
		{[]string{"Foo"}, nil, nil},
		{[]string{"Hello", "General"}, []string{"General", "Hello"}, "fca026605781cb4126a1e9044df24232"},
		{[]string{"Hello", "Foo"}, []string{"Hello"}, "a311262e065454b75da111d535b8dacd"},
		{[]string{"Hel.*"}, []string{"Hello", "Help.Me"}, "83fee93c1bcd8b9a5a923ffacdc636c7"},
		{[]string{"AWS."}, nil, nil},
		{[]string{"."}, nil, nil},
	} {
		got := w.receive(t, url, m{"MessageAttributeNames": c.asked, "VisibilityTimeout": 0})
		if len(got) != 1 {
			t.Fatalf("%v", got)
		}
		attributes, _ := got[0]["MessageAttributes"].(m)
		if names := slices.Sorted(maps.Keys(attributes)); !slices.Equal(names, c.names) || got[0]["MD5OfMessageAttributes"] != c.md5 {
			t.Errorf("%q: %q, %v, want %q, %v", c.asked, names, got[0]["MD5OfMessageAttributes"], c.names, c.md5)
		}
	}
	for _, c := range []struct{ asked, names []string }{
		{nil, nil},
		{[]string{"All"}, []string{"ApproximateFirstReceiveTimestamp", "ApproximateReceiveCount", "SenderId", "SentTimestamp"}},
		{[]string{"SenderId", "SequenceNumber"}, []string{"SenderId"}},
	} {
		for _, member := range []string{"AttributeNames", "MessageSystemAttributeNames"} {
			attributes, _ := w.receive(t, url, m{member: c.asked, "VisibilityTimeout": 0})[0]["Attributes"].(m)
			if names := slices.Sorted(maps.Keys(attributes)); !slices.Equal(names, c.names) {
				t.Errorf("%s %q: %q, want %q", member, c.asked, names, c.names)
			}
		}
	}
}

func TestFIFO(t *testing.T) {
	w := newWorld(t)
	url := w.create(t, "q.fifo", m{"FifoQueue": "true"})
	send := func(group, dedup, body string) m {
		return w.must(t, "SendMessage", m{"QueueUrl": url, "MessageBody": body, "MessageGroupId": group, "MessageDeduplicationId": dedup})
	}
	first := send("g", "1", "a")
	again := send("h", "1", "a, again")
	if first["MessageId"] != again["MessageId"] || first["SequenceNumber"] != again["SequenceNumber"] || len(first["SequenceNumber"].(string)) != 20 {
		t.Errorf("%v, then %v", first, again)
	}
	second := send("g", "2", "b")
	if second["SequenceNumber"].(string) <= first["SequenceNumber"].(string) {
		t.Errorf("%v, then %v", first, second)
	}
	send("h", "3", "c")
	got := w.receive(t, url, m{"VisibilityTimeout": 600})
	if !slices.Equal(bodies(got), []string{"a"}) {
		t.Fatalf("%v", got)
	}
	if others := w.receive(t, url, m{"MaxNumberOfMessages": 10}); !slices.Equal(bodies(others), []string{"c"}) {
		t.Errorf("while a message of g is in flight, %v", bodies(others))
	}
	old := got[0]["ReceiptHandle"].(string)
	w.must(t, "ChangeMessageVisibility", m{"QueueUrl": url, "ReceiptHandle": old, "VisibilityTimeout": 0})
	got = w.receive(t, url, m{"MaxNumberOfMessages": 10})
	if !slices.Equal(bodies(got), []string{"a", "b"}) {
		t.Fatalf("%v", bodies(got))
	}
	if code, text, _ := w.ask(t, "DeleteMessage", m{"QueueUrl": url, "ReceiptHandle": old}); code != "InvalidParameterValue" || text != "Value "+old+" for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired." {
		t.Errorf("%s %s", code, text)
	}
	out := w.must(t, "DeleteMessageBatch", m{"QueueUrl": url, "Entries": []m{{"Id": "a", "ReceiptHandle": got[0]["ReceiptHandle"]}, {"Id": "b", "ReceiptHandle": old}}})
	if fmt.Sprint(out["Successful"]) != "[map[Id:a]]" || !strings.Contains(fmt.Sprint(out["Failed"]), "has expired") {
		t.Errorf("%v", out)
	}
}

// TestDelayOfNone: a message's delay of zero is not the queue's.
func TestDelayOfNone(t *testing.T) {
	w := newWorld(t)
	url := w.create(t, "q", m{"DelaySeconds": "900", "VisibilityTimeout": "0", "ReceiveMessageWaitTimeSeconds": "20"})
	w.must(t, "SendMessage", m{"QueueUrl": url, "MessageBody": "later"})
	w.must(t, "SendMessage", m{"QueueUrl": url, "MessageBody": "now", "DelaySeconds": 0})
	for range 2 {
		if got := w.receive(t, url, m{"MaxNumberOfMessages": 10}); !slices.Equal(bodies(got), []string{"now"}) {
			t.Errorf("%v", bodies(got))
		}
	}
	shown := w.must(t, "GetQueueAttributes", m{"QueueUrl": url, "AttributeNames": []string{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"}})
	if fmt.Sprint(shown["Attributes"]) != "map[ApproximateNumberOfMessages:1 ApproximateNumberOfMessagesDelayed:1]" {
		t.Errorf("%v", shown)
	}
}

func TestLongPolling(t *testing.T) {
	w := newWorld(t)
	url := w.create(t, "q", m{"ReceiveMessageWaitTimeSeconds": "20"})
	got := make(chan []m)
	go func() { got <- w.receive(t, url, nil) }()
	w.must(t, "SendMessage", m{"QueueUrl": url, "MessageBody": "b"})
	if messages := <-got; !slices.Equal(bodies(messages), []string{"b"}) {
		t.Errorf("%v", messages)
	}

	ctx, leave := context.WithCancel(t.Context())
	left := make(chan *sdk.ReceiveMessageOutput)
	go func() {
		out, _ := w.api.receiveMessage(ctx, &receiveMessageInput{QueueUrl: &url})
		left <- out
	}()
	leave()
	if out := <-left; out != nil && len(out.Messages) > 0 {
		t.Errorf("a caller who has left got %v", out)
	}

	code := make(chan string)
	go func() {
		c, _, _ := w.ask(t, "ReceiveMessage", m{"QueueUrl": url})
		code <- c
	}()
	w.must(t, "DeleteQueue", m{"QueueUrl": url})
	if c := <-code; c != "AWS.SimpleQueueService.NonExistentQueue" {
		t.Errorf("who waited when the queue was deleted got %q", c)
	}
}

func TestPages(t *testing.T) {
	w := newWorld(t)
	dead := w.create(t, "dead", nil)
	var want []string
	for i := range 25 {
		name := fmt.Sprintf("q%02d", i)
		want = append(want, w.create(t, name, m{"RedrivePolicy": `{"deadLetterTargetArn": "` + w.api.arn("dead") + `", "maxReceiveCount": 1}`}))
	}
	for _, c := range []struct {
		operation, member string
		in                m
	}{{"ListQueues", "QueueUrls", m{"QueueNamePrefix": "q"}}, {"ListDeadLetterSourceQueues", "queueUrls", m{"QueueUrl": dead}}} {
		for _, size := range []int{1, 10, 25, 26} {
			var all []string
			in, pages := mix(c.in, m{"MaxResults": size}), 0
			for {
				out := w.must(t, c.operation, in)
				list, _ := out[c.member].([]any)
				for _, url := range list {
					all = append(all, url.(string))
				}
				pages++
				if out["NextToken"] == nil {
					break
				}
				in["NextToken"] = out["NextToken"]
			}
			if !slices.Equal(all, want) || pages != (len(want)+size-1)/size {
				t.Errorf("%s in %d pages of %d: %q", c.operation, pages, size, all)
			}
		}
		if out := w.must(t, c.operation, c.in); len(out[c.member].([]any)) != 25 || out["NextToken"] != nil {
			t.Errorf("%s without MaxResults: %v", c.operation, out)
		}
	}
}

func TestPurgeOnceAMinute(t *testing.T) {
	w := newWorld(t)
	url := w.create(t, "q", nil)
	purge := m{"QueueUrl": url}
	w.must(t, "SendMessage", m{"QueueUrl": url, "MessageBody": "b"})
	w.must(t, "PurgeQueue", purge)
	if got := w.receive(t, url, nil); len(got) != 0 {
		t.Errorf("%v", got)
	}
	w.Pass(purgeInterval - time.Second)
	if code, _, _ := w.ask(t, "PurgeQueue", purge); code != "AWS.SimpleQueueService.PurgeQueueInProgress" {
		t.Errorf("%q", code)
	}
	w.Pass(time.Second)
	w.must(t, "PurgeQueue", purge)
	w.Pass(-time.Hour) // the clock was set back
	w.must(t, "PurgeQueue", purge)
}

// TestInFlightLimit: a standard queue tells of its limit, a FIFO queue gives nothing, as on AWS.
func TestInFlightLimit(t *testing.T) {
	w := newWorld(t)
	for name, want := range map[string]string{"q": "OverLimit", "q.fifo": ""} {
		attributes := m{"FifoQueue": "true"}
		if name == "q" {
			attributes = nil
		}
		url := w.create(t, name, attributes)
		q, _ := w.queues.Queue(prefix + name)
		if err := q.Update(t.Context(), func(info *queues.Info) error { info.Options.MaxInFlight = 1; return nil }); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"a", "b"} {
			in := m{"QueueUrl": url, "MessageBody": id}
			if name != "q" {
				in["MessageGroupId"], in["MessageDeduplicationId"] = id, id
			}
			w.must(t, "SendMessage", in)
		}
		if got := w.receive(t, url, nil); len(got) != 1 {
			t.Fatalf("%v", got)
		}
		code, _, out := w.ask(t, "ReceiveMessage", m{"QueueUrl": url})
		if code != want || out["Messages"] != nil {
			t.Errorf("%s: %q, %v", name, code, out)
		}
	}
}

// TestPolicyOfOthers: permissions leave the statements of a policy that somebody else has written as they are.
func TestPolicyOfOthers(t *testing.T) {
	w := newWorld(t)
	url := w.create(t, "q", m{"Policy": `{"Version": "2012-10-17", "Statement": [{"Sid": "mine", "Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}]}`})
	share := m{"QueueUrl": url, "Label": "share", "AWSAccountIds": []string{"111122223333"}, "Actions": []string{"*"}}
	w.must(t, "AddPermission", share)
	policy := func() string {
		return w.must(t, "GetQueueAttributes", m{"QueueUrl": url, "AttributeNames": []string{"Policy"}})["Attributes"].(m)["Policy"].(string)
	}
	for _, part := range []string{`"2012-10-17"`, `"Condition"`, `"Sid":"share"`, `"SQS:*"`} {
		if !strings.Contains(policy(), part) {
			t.Errorf("no %s in %s", part, policy())
		}
	}
	w.must(t, "RemovePermission", m{"QueueUrl": url, "Label": "share"})
	if p := policy(); strings.Contains(p, "share") || !strings.Contains(p, `"Condition"`) {
		t.Error(p)
	}
	w.must(t, "SetQueueAttributes", m{"QueueUrl": url, "Attributes": m{"Policy": `{"Statement": 1}`}})
	if code, _, _ := w.ask(t, "AddPermission", share); code != "AWS.SimpleQueueService.UnsupportedOperation" {
		t.Errorf("%q", code)
	}
}

// TestStopWaiting: a platform that stops does not wait for long polls.
func TestStopWaiting(t *testing.T) {
	w := newWorld(t)
	url := w.create(t, "q", nil)
	got := make(chan []m)
	go func() { got <- w.receive(t, url, m{"WaitTimeSeconds": 20}) }()
	w.api.StopWaiting()
	if messages := <-got; len(messages) > 0 {
		t.Errorf("%v", messages)
	}
	w.must(t, "SendMessage", m{"QueueUrl": url, "MessageBody": "b"})
	if messages := w.receive(t, url, m{"WaitTimeSeconds": 20}); len(messages) != 1 {
		t.Errorf("%v", messages)
	}
	if messages := w.receive(t, url, m{"WaitTimeSeconds": 20}); len(messages) > 0 {
		t.Errorf("%v", messages)
	}
}

// TestDeduplicationScope: with messageGroup the same id counts in each group by itself.
func TestDeduplicationScope(t *testing.T) {
	w := newWorld(t)
	for name, want := range map[string]int{"queue.fifo": 1, "messageGroup.fifo": 2} {
		url := w.create(t, name, m{"FifoQueue": "true", "DeduplicationScope": strings.TrimSuffix(name, ".fifo")})
		for _, group := range []string{"g", "h", "g"} {
			w.must(t, "SendMessage", m{"QueueUrl": url, "MessageBody": "b", "MessageGroupId": group, "MessageDeduplicationId": "d"})
		}
		if got := w.receive(t, url, m{"MaxNumberOfMessages": 10}); len(got) != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestManyAtOnce has senders and receivers at the same queue; every message comes once, within the visibility timeout.
func TestManyAtOnce(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	url := apitest.Serve(t, w.handler)
	client := newClient(url)
	created, err := client.CreateQueue(ctx, &sdk.CreateQueueInput{QueueName: aws.String("q"), Attributes: map[string]string{"VisibilityTimeout": "600"}})
	if err != nil {
		t.Fatal(err)
	}
	const senders, each = 8, 50
	var mu sync.Mutex
	seen := map[string]int{}
	var sending, receiving sync.WaitGroup
	for i := range senders {
		sending.Go(func() {
			for j := range each {
				if _, err := client.SendMessage(ctx, &sdk.SendMessageInput{QueueUrl: created.QueueUrl, MessageBody: aws.String(fmt.Sprint(i, " ", j))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	until, stop := context.WithCancel(ctx)
	defer stop()
	for range 4 {
		receiving.Go(func() {
			for until.Err() == nil {
				out, err := client.ReceiveMessage(until, &sdk.ReceiveMessageInput{QueueUrl: created.QueueUrl, MaxNumberOfMessages: 10, WaitTimeSeconds: 20})
				if err != nil {
					if until.Err() == nil {
						t.Error(err)
					}
					return
				}
				for _, x := range out.Messages {
					if _, err := client.DeleteMessage(ctx, &sdk.DeleteMessageInput{QueueUrl: created.QueueUrl, ReceiptHandle: x.ReceiptHandle}); err != nil {
						t.Error(err)
					}
					mu.Lock()
					seen[*x.Body]++
					if len(seen) == senders*each {
						stop()
					}
					mu.Unlock()
				}
			}
		})
	}
	sending.Wait()
	receiving.Wait()
	for body, n := range seen {
		if n != 1 {
			t.Errorf("%q came %d times", body, n)
		}
	}
	if len(seen) != senders*each {
		t.Errorf("%d of %d messages came", len(seen), senders*each)
	}
}

// TestURLs: a queue's URL is at the address that the caller used.
func TestURLs(t *testing.T) {
	w := newWorld(t)
	r := httptest.NewRequest("POST", "/", strings.NewReader("Action=CreateQueue&QueueName=q"))
	r.Host = "queues.example:4566"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	if !strings.Contains(answer.Body.String(), "<QueueUrl>http://queues.example:4566/123456789012/q</QueueUrl>") {
		t.Error(answer.Body)
	}
}

func TestMalformedMeta(t *testing.T) {
	w := newWorld(t)
	if _, err := w.queues.Create(t.Context(), queues.Info{Name: prefix + "q", Meta: []byte(`1`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.api.getQueueAttributes(t.Context(), &getQueueAttributesInput{QueueUrl: aws.String(queueURL("q"))}); err == nil || thaw.CodeOf(err) != thaw.CodeService {
		t.Errorf("%v", err)
	}
}
