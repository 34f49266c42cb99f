package tests

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"thaw/tests/harness"
)

// looper sends the next number to QUEUE, and the trace with it as botocore does within a function.
const looper = `
import json, os, urllib.parse, urllib.request

def handler(event, context):
    body = event["Records"][0]["body"]
    urllib.request.urlopen(os.environ["COLLECTOR"], data=json.dumps([body]).encode()).read()
    message = {"QueueUrl": os.environ["QUEUE"], "MessageBody": str(int(body) + 1)}
    urllib.request.urlopen(urllib.request.Request(os.environ["QUEUE"], data=json.dumps(message).encode(), headers={
        "Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS.SendMessage",
        "X-Amzn-Trace-Id": urllib.parse.quote(os.environ["_X_AMZN_TRACE_ID"], safe="-=;:+&[]{}\"',"),
    })).read()
`

// A loop of two functions and two queues is stopped, and what it was about is in the dead-letter queue. AWS: each function
// runs about 16 times.
func TestLoopThroughQueuesIsStopped(t *testing.T) {
	var s seen
	p := harness.Start(t, harness.Options{Config: reachable})
	client := sqsClient(p)
	dead := queue(t, client, "dead", nil)
	redrive, err := json.Marshal(map[string]any{"deadLetterTargetArn": queueARN("dead"), "maxReceiveCount": 1})
	if err != nil {
		t.Fatal(err)
	}
	urls := map[string]string{}
	for _, name := range []string{"a", "b"} {
		urls[name] = queue(t, client, name, map[string]string{"VisibilityTimeout": "3", "RedrivePolicy": string(redrive)})
	}
	for name, next := range map[string]string{"a": "b", "b": "a"} {
		env := s.collector(t)
		env["QUEUE"] = urls[next]
		harness.Deploy(t, p.Lambda(), &harness.Function{Name: name, Source: looper, Timeout: 3, Env: env})
		mapped(t, p.Lambda(), &lambda.CreateEventSourceMappingInput{FunctionName: aws.String(name), EventSourceArn: aws.String(queueARN(name))})
	}
	sendNumbers(t, client, urls["a"], 0, 1)
	var last string
	harness.Eventually(t, "the loop ends", func() bool {
		got, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &dead})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Messages) > 0 {
			last = *got.Messages[0].Body
		}
		return last != ""
	})
	if missing, again := s.missing(32); last != "32" || missing != 0 || again != 0 || s.count["32"] != 0 {
		t.Errorf("it ended with %s, %d missing, %d twice: %v", last, missing, again, s.count)
	}
	p.Stop()
	harness.NothingLeft(t, p.Data)
}

// Two functions that subscribe to each other's logs: each invocation writes lines, and would cause others without end.
func TestLoopThroughLogsIsStopped(t *testing.T) {
	p := harness.Start(t, harness.Options{})
	client, logs := p.Lambda(), logsClient(p)
	names := []string{"ping", "pong"}
	for _, name := range names {
		harness.Deploy(t, client, &harness.Function{Name: name, Source: "def handler(event, context): print('round')\n"})
		_, err := logs.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("/aws/lambda/" + name)})
		if err != nil && !strings.Contains(err.Error(), "ResourceAlreadyExists") {
			t.Fatal(err)
		}
	}
	for i, name := range names {
		_, err := client.AddPermission(t.Context(), &lambda.AddPermissionInput{
			FunctionName: aws.String(name), StatementId: aws.String("logs"), Action: aws.String("lambda:InvokeFunction"), Principal: aws.String("logs.amazonaws.com"),
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = logs.PutSubscriptionFilter(t.Context(), &cloudwatchlogs.PutSubscriptionFilterInput{
			LogGroupName: aws.String("/aws/lambda/" + names[1-i]), FilterName: aws.String("all"), FilterPattern: aws.String(""),
			DestinationArn: aws.String("arn:aws:lambda:us-east-1:000000000000:function:" + name),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	rounds := func() (n int) {
		for _, name := range names {
			out, err := logs.FilterLogEvents(t.Context(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("/aws/lambda/" + name), FilterPattern: aws.String("START RequestId")})
			if err != nil {
				t.Fatal(err)
			}
			n += len(out.Events)
		}
		return n
	}
	harness.MustInvoke(t, client, "ping", "{}")
	harness.Eventually(t, "events are dropped", func() bool { return strings.Contains(p.Log.String(), "in consequence of others") })
	last := -1
	harness.Eventually(t, "the loop ends", func() bool {
		before := last
		last = rounds()
		<-time.After(2 * time.Second) // a round takes half of one
		return before == last
	})
	// Once each, and what the first one's lines bring when they come in several portions.
	if last < 3 || last > 20 {
		t.Errorf("%d invocations", last)
	}
}
