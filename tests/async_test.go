package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"thaw/tests/harness"
)

// eventsConfig makes a minute a second.
const eventsConfig = stageConfig + "events:\n  retry_wait: 1s\n"

// eventful is a stage with queues.
type eventful struct {
	*stage
	sqs *sqs.Client
}

func startEventful(t *testing.T, data string) *eventful {
	t.Helper()
	p := harness.Start(t, harness.Options{Config: eventsConfig, Data: data})
	return &eventful{
		stage: &stage{Platform: p, client: p.Lambda()},
		sqs: sqs.New(sqs.Options{
			BaseEndpoint: &p.URL, Region: "us-east-1", // with the SDK's own retries: what a lost answer held shows again
			Credentials: credentials.NewStaticCredentialsProvider("thaw-test-access-key", "thaw-test-secret-key", ""),
		}),
	}
}

// queue makes a queue and gives its ARN.
func (e *eventful) queue(t *testing.T, name string) string {
	t.Helper()
	if _, err := e.sqs.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name}); err != nil {
		t.Fatal(err)
	}
	return "arn:aws:sqs:us-east-1:000000000000:" + name
}

// message is what a test looks at of one.
type message struct {
	body       string
	attributes map[string]string
}

// receive takes everything out of a queue that is in it now or comes within a second.
func (e *eventful) receive(t *testing.T, name string) (all []message) {
	t.Helper()
	url, err := e.sqs.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: &name})
	if err != nil {
		t.Fatal(err)
	}
	for {
		out, err := e.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: url.QueueUrl, MaxNumberOfMessages: 10, WaitTimeSeconds: 1, MessageAttributeNames: []string{"All"}})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return all
		}
		for _, m := range out.Messages {
			got := message{body: *m.Body, attributes: map[string]string{}}
			for name, a := range m.MessageAttributes {
				got.attributes[name] = *a.DataType + " " + *a.StringValue
			}
			all = append(all, got)
			if _, err := e.sqs.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: url.QueueUrl, ReceiptHandle: m.ReceiptHandle}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// one takes the one message out of a queue that comes there in time.
func (e *eventful) one(t *testing.T, name string) message {
	t.Helper()
	var all []message
	harness.Eventually(t, "a message is in "+name, func() bool {
		all = append(all, e.receive(t, name)...)
		return len(all) > 0
	})
	if len(all) != 1 {
		t.Fatalf("%d messages in %s", len(all), name)
	}
	return all[0]
}

// send invokes a function asynchronously and gives the request id.
func (e *eventful) send(t *testing.T, name, payload string) string {
	t.Helper()
	a := e.call(t, http.MethodPost, "/2015-03-31/functions/"+name+"/invocations", map[string]string{"X-Amz-Invocation-Type": "Event"}, strings.NewReader(payload))
	if a.status != http.StatusAccepted || a.payload != "" || a.id == "" || a.header.Get("X-Amz-Executed-Version") != "" {
		t.Fatalf("%+v", a)
	}
	return a.id
}

// attempts counts how often a function was invoked with a request id.
func (e *eventful) attempts(t *testing.T, function, id string) (n int) {
	t.Helper()
	e.logs(t, function, func(l logEvent) {
		if l.RequestID == id && strings.HasPrefix(l.Message, "START RequestId: "+id) {
			n++
		}
	})
	return n
}

func (e *eventful) configureEvents(t *testing.T, name string, retries int32, success, failure string) {
	t.Helper()
	in := &lambda.PutFunctionEventInvokeConfigInput{FunctionName: &name, MaximumRetryAttempts: &retries, DestinationConfig: &types.DestinationConfig{}}
	if success != "" {
		in.DestinationConfig.OnSuccess = &types.OnSuccess{Destination: &success}
	}
	if failure != "" {
		in.DestinationConfig.OnFailure = &types.OnFailure{Destination: &failure}
	}
	if _, err := e.client.PutFunctionEventInvokeConfig(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

// record is what destinations get.
type record struct {
	Version        string
	RequestContext struct {
		RequestID   string `json:"requestId"`
		FunctionArn string
		Condition   string
		Count       int `json:"approximateInvokeCount"`
	}
	RequestPayload  any
	ResponseContext struct {
		StatusCode      int
		ExecutedVersion string
		FunctionError   string
	}
	ResponsePayload any
}

func recordOf(t *testing.T, body string) (r record) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return r
}

// events is what the native API shows of a function's events.
func (e *eventful) events(t *testing.T, name string) (view struct {
	Dead   int
	Events []struct{ ID, State, Error, Reason string }
}) {
	t.Helper()
	a := e.call(t, http.MethodGet, "/_thaw/events/"+name, nil, nil)
	if err := json.Unmarshal([]byte(a.payload), &view); err != nil || a.status != http.StatusOK {
		t.Fatalf("%d %s: %v", a.status, a.payload, err)
	}
	return view
}

const (
	failer = "def handler(event, context):\n    raise ValueError('no ' + str(event['n']))\n"
	echo   = "def handler(event, context):\n    return event\n"
)

// TestAsynchronousInvocations follows events to their ends: answered, failed for good, and delivered nowhere.
func TestAsynchronousInvocations(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	t.Cleanup(func() { harness.NothingLeft(t, data) })
	e := startEventful(t, data)
	good, bad, dlq := e.queue(t, "good"), e.queue(t, "bad"), e.queue(t, "dlq")
	e.python(t, "echo", echo, deployed{})
	e.python(t, "taker", echo, deployed{})
	e.python(t, "failer", failer, deployed{})
	e.python(t, "slow", "import time\ndef handler(event, context):\n    time.sleep(30)\n", deployed{timeout: 1})

	t.Run("to a queue", func(t *testing.T) {
		e.configureEvents(t, "echo", 2, good, bad)
		out, err := e.client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("echo"), InvocationType: types.InvocationTypeEvent, Payload: []byte(`{"n": 1}`)})
		if err != nil || out.StatusCode != http.StatusAccepted || len(out.Payload) != 0 || out.FunctionError != nil {
			t.Fatalf("%+v, %v", out, err)
		}
		r := recordOf(t, e.one(t, "good").body)
		c := r.RequestContext
		if r.Version != "1.0" || c.Condition != "Success" || c.Count != 1 || c.FunctionArn != "arn:aws:lambda:us-east-1:000000000000:function:echo:$LATEST" ||
			fmt.Sprint(r.RequestPayload, r.ResponsePayload) != "map[n:1] map[n:1]" || r.ResponseContext.StatusCode != 200 || r.ResponseContext.ExecutedVersion != "$LATEST" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("to a function", func(t *testing.T) {
		e.configureEvents(t, "echo", 2, "arn:aws:lambda:us-east-1:000000000000:function:taker", "")
		e.configureEvents(t, "taker", 2, good, "")
		id := e.send(t, "echo", `{"n": 2}`)
		r := recordOf(t, e.one(t, "good").body) // the record of the delivery of the record
		inner, _ := json.Marshal(r.RequestPayload)
		if of := recordOf(t, string(inner)); of.RequestContext.RequestID != id || r.RequestContext.RequestID == id || of.RequestContext.Condition != "Success" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("failed for good", func(t *testing.T) {
		e.configureEvents(t, "failer", 2, good, bad)
		if _, err := e.client.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{
			FunctionName: aws.String("failer"), DeadLetterConfig: &types.DeadLetterConfig{TargetArn: &dlq},
		}); err != nil {
			t.Fatal(err)
		}
		e.awaitUpdate(t, "failer")
		id := e.send(t, "failer", `{"n":3}`)
		r := recordOf(t, e.one(t, "bad").body)
		answer, _ := r.ResponsePayload.(map[string]any)
		if c := r.RequestContext; c.RequestID != id || c.Condition != "RetriesExhausted" || c.Count != 3 || r.ResponseContext.FunctionError != "Unhandled" || answer["errorMessage"] != "no 3" {
			t.Errorf("%+v", r)
		}
		letter := e.one(t, "dlq")
		if letter.body != `{"n":3}` || letter.attributes["RequestID"] != "String "+id || letter.attributes["ErrorCode"] != "Number 200" || letter.attributes["ErrorMessage"] != "String no 3" {
			t.Errorf("%+v", letter)
		}
		harness.Eventually(t, "the log has three attempts", func() bool { return e.attempts(t, "failer", id) == 3 })
		if v := e.events(t, "failer"); v.Dead != 0 || len(v.Events) != 0 {
			t.Errorf("%+v", v)
		}
	})
	t.Run("timed out, kept and started again", func(t *testing.T) {
		e.configureEvents(t, "slow", 0, "", "")
		id := e.send(t, "slow", `{"n":4}`)
		harness.Eventually(t, "it is dead", func() bool { return e.events(t, "slow").Dead == 1 })
		if v := e.events(t, "slow").Events; len(v) != 1 || v[0].ID != id || v[0].State != "dead" || !strings.Contains(v[0].Error, "Task timed out after 1.00 seconds") || !strings.Contains(v[0].Reason, "neither") {
			t.Errorf("%+v", v)
		}
		e.configureEvents(t, "slow", 0, good, "")
		harness.Update(t, e.client, "slow", map[string]string{"f.py": echo})
		if a := e.call(t, http.MethodPost, "/_thaw/events/slow/redrive", nil, nil); a.status != http.StatusOK {
			t.Fatalf("%+v", a)
		}
		if r := recordOf(t, e.one(t, "good").body); r.RequestContext.RequestID != id {
			t.Errorf("%+v", r)
		}
	})
	t.Run("refused", func(t *testing.T) {
		for _, test := range []struct {
			name, payload, code string
		}{
			{"none", "{}", "ResourceNotFoundException"}, {"echo:7", "{}", "ResourceNotFoundException"}, {"echo", "{", "InvalidRequestContentException"},
			{"echo", `"` + strings.Repeat("x", 1<<20) + `"`, "RequestEntityTooLargeException"},
		} {
			_, err := e.client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &test.name, InvocationType: types.InvocationTypeEvent, Payload: []byte(test.payload)})
			if harness.Code(err) != test.code {
				t.Errorf("%s: %v, want %s", test.name, err, test.code)
			}
		}
	})
	t.Run("no concurrency", func(t *testing.T) {
		e.configureEvents(t, "echo", 2, good, bad)
		if _, err := e.client.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String("echo"), ReservedConcurrentExecutions: aws.Int32(0)}); err != nil {
			t.Fatal(err)
		}
		e.send(t, "echo", `{"n":5}`)
		if r := recordOf(t, e.one(t, "bad").body); r.RequestContext.Condition != "ZeroReservedConcurrency" || r.RequestContext.Count != 0 {
			t.Errorf("%+v", r)
		}
		if _, err := e.client.DeleteFunctionConcurrency(t.Context(), &lambda.DeleteFunctionConcurrencyInput{FunctionName: aws.String("echo")}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("boto3", func(t *testing.T) {
		const program = `import boto3
client = boto3.client("lambda")
a = client.invoke(FunctionName="echo", InvocationType="Event", Payload=b'{"n": 6}')
assert a["StatusCode"] == 202 and a["Payload"].read() == b"" and a["ResponseMetadata"]["RequestId"], a
b = client.invoke_async(FunctionName="echo", InvokeArgs=b'{"n": 7}')
assert b["Status"] == 202, b
`
		if _, text, err := run(t, e.Env(), "", findPython(t), "-c", program); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		var got []string
		harness.Eventually(t, "both were answered", func() bool {
			for _, m := range e.receive(t, "good") {
				got = append(got, fmt.Sprint(recordOf(t, m.body).ResponsePayload))
			}
			return len(got) >= 2
		})
		slices.Sort(got)
		if !slices.Equal(got, []string{"map[n:6]", "map[n:7]"}) {
			t.Errorf("%q", got)
		}
	})
	t.Run("a loop", func(t *testing.T) {
		// echo's record goes to taker, whose record goes to echo.
		e.configureEvents(t, "echo", 0, "arn:aws:lambda:us-east-1:000000000000:function:taker", bad)
		e.configureEvents(t, "taker", 0, "arn:aws:lambda:us-east-1:000000000000:function:echo", bad)
		e.send(t, "echo", `{"n":8}`)
		if r := recordOf(t, e.one(t, "bad").body); r.RequestContext.Condition != "RecursiveInvocation" {
			t.Errorf("%+v", r.RequestContext)
		}
	})
	e.Stop()
}

// TestKilledWhileEventsWait: events that were accepted are delivered by the next platform, with the attempts that they had.
func TestKilledWhileEventsWait(t *testing.T) {
	data := t.TempDir()
	t.Cleanup(func() { harness.NothingLeft(t, data) })
	e := startEventful(t, data)
	good, bad := e.queue(t, "good"), e.queue(t, "bad")
	e.python(t, "worker", "import time\ndef handler(event, context):\n    time.sleep(0.02)\n    return event\n", deployed{})
	e.configureEvents(t, "worker", 2, good, "")
	e.python(t, "failer", failer, deployed{})
	e.configureEvents(t, "failer", 2, "", bad)
	failing := e.send(t, "failer", `{"n":0}`)
	harness.Eventually(t, "one waits for its retry", func() bool {
		v := e.events(t, "failer").Events
		return len(v) == 1 && v[0].State == "retrying"
	})
	const count = 300
	missing := map[string]bool{}
	for n := range count {
		missing[e.send(t, "worker", fmt.Sprintf(`{"n":%d}`, n))] = true
	}
	e.Kill()

	e = startEventful(t, data)
	twice := 0
	harness.Eventually(t, "all that were accepted were delivered", func() bool {
		for _, m := range e.receive(t, "good") {
			id := recordOf(t, m.body).RequestContext.RequestID
			if !missing[id] {
				twice++
			}
			delete(missing, id)
		}
		return len(missing) == 0
	})
	t.Logf("%d of %d were delivered twice", twice, count)
	if r := recordOf(t, e.one(t, "bad").body); r.RequestContext.RequestID != failing || r.RequestContext.Count != 3 {
		t.Errorf("%+v", r.RequestContext)
	}
	// A stop in the middle hands back what runs, and the next start has it.
	var ids []string
	for n := range 50 {
		ids = append(ids, e.send(t, "worker", fmt.Sprintf(`{"n":%d}`, n)))
	}
	e.Stop()
	e = startEventful(t, data)
	harness.Eventually(t, "those too", func() bool {
		for _, m := range e.receive(t, "good") {
			ids = slices.DeleteFunc(ids, func(id string) bool { return id == recordOf(t, m.body).RequestContext.RequestID })
		}
		return len(ids) == 0
	})
	e.Stop()
}
