package sqs

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"thaw/state"
	"thaw/state/queues"
)

// dead makes the queues source and dead, of which dead holds n messages that died in source.
func (w *world) dead(t testing.TB, n int) (source, dead string) {
	t.Helper()
	dead = w.create(t, "dead", nil)
	source = w.create(t, "source", m{"RedrivePolicy": `{"deadLetterTargetArn": "` + w.api.arn("dead") + `", "maxReceiveCount": 1}`})
	for i := range n {
		w.must(t, "SendMessage", m{"QueueUrl": source, "MessageBody": fmt.Sprint(i)})
	}
	for got := 0; got < n; {
		got += len(w.receive(t, source, m{"MaxNumberOfMessages": 10, "VisibilityTimeout": 0, "WaitTimeSeconds": 20}))
	}
	w.visible(t, "dead", n)
	return source, dead
}

func (w *world) visible(t testing.TB, name string, n int) {
	t.Helper()
	q, _ := w.queues.Queue(prefix + name)
	eventually(t, fmt.Sprintf("%d messages in %s", n, name), func() bool { return q.Depth().Visible == n })
}

func (w *world) lastTask(t testing.TB) m {
	t.Helper()
	return w.must(t, "ListMessageMoveTasks", m{"SourceArn": w.api.arn("dead")})["Results"].([]any)[0].(m)
}

func TestMoveToAnother(t *testing.T) {
	w := newWorld(t)
	w.dead(t, 25)
	w.create(t, "other", nil)
	w.must(t, "StartMessageMoveTask", m{"SourceArn": w.api.arn("dead"), "DestinationArn": w.api.arn("other"), "MaxNumberOfMessagesPerSecond": 500})
	w.moved(t, "dead")
	w.visible(t, "other", 25)
	if task := w.lastTask(t); task["Status"] != completed || task["ApproximateNumberOfMessagesMoved"] != 25.0 || task["ApproximateNumberOfMessagesToMove"] != 25.0 || task["DestinationArn"] != w.api.arn("other") || task["MaxNumberOfMessagesPerSecond"] != 500.0 || task["TaskHandle"] != nil {
		t.Errorf("%v", task)
	}
	for range maxTasks + 2 { // of nothing
		w.must(t, "StartMessageMoveTask", m{"SourceArn": w.api.arn("dead")})
		w.moved(t, "dead")
	}
	if list := w.must(t, "ListMessageMoveTasks", m{"SourceArn": w.api.arn("dead"), "MaxResults": 10})["Results"].([]any); len(list) != maxTasks || list[0].(m)["ApproximateNumberOfMessagesMoved"] != 0.0 {
		t.Errorf("%v", list)
	}
}

func TestCancelledMove(t *testing.T) {
	w := newWorld(t)
	w.dead(t, 5)
	start := m{"SourceArn": w.api.arn("dead"), "MaxNumberOfMessagesPerSecond": 1}
	handle := w.must(t, "StartMessageMoveTask", start)["TaskHandle"]
	if code, text, _ := w.ask(t, "StartMessageMoveTask", start); code != "InvalidParameterValue" || text != "There is already a task running. Only one active task is allowed for a source queue arn at a given time." {
		t.Errorf("%s %s", code, text)
	}
	if task := w.lastTask(t); task["Status"] != running || task["TaskHandle"] != handle {
		t.Errorf("%v", task)
	}
	w.must(t, "CancelMessageMoveTask", m{"TaskHandle": handle})
	w.moved(t, "dead")
	if task := w.lastTask(t); task["Status"] != cancelled || task["ApproximateNumberOfMessagesMoved"].(float64) >= 5 {
		t.Errorf("%v", task)
	}
	if code, text, _ := w.ask(t, "CancelMessageMoveTask", m{"TaskHandle": handle}); code != "InvalidParameterValue" || !strings.HasPrefix(text, "Only active tasks can be cancelled.") {
		t.Errorf("%s %s", code, text)
	}
}

func TestMoveIntoADeletedQueue(t *testing.T) {
	w := newWorld(t)
	w.dead(t, 5)
	other := w.create(t, "other", nil)
	w.must(t, "StartMessageMoveTask", m{"SourceArn": w.api.arn("dead"), "DestinationArn": w.api.arn("other"), "MaxNumberOfMessagesPerSecond": 1})
	w.must(t, "DeleteQueue", m{"QueueUrl": other})
	w.moved(t, "dead")
	if task := w.lastTask(t); task["Status"] != broken || task["FailureReason"] != "AWS.SimpleQueueService.NonExistentQueue" {
		t.Errorf("%v", task)
	}
}

// TestMoveOfWhatDiedNowhere: messages that were sent to the dead-letter queue have no queue to go back to.
func TestMoveOfWhatDiedNowhere(t *testing.T) {
	w := newWorld(t)
	_, dead := w.dead(t, 3)
	w.must(t, "SendMessage", m{"QueueUrl": dead, "MessageBody": "x"})
	w.must(t, "StartMessageMoveTask", m{"SourceArn": w.api.arn("dead")})
	w.moved(t, "dead")
	if task := w.lastTask(t); task["Status"] != broken || task["FailureReason"] != "CouldNotDetermineMessageSource" || task["ApproximateNumberOfMessagesMoved"] != 3.0 {
		t.Errorf("%v", task)
	}
	w.visible(t, "dead", 1)
	w.visible(t, "source", 3)
}

// TestMoveGoesOn: a task that the end of the platform interrupted is taken up by the next one.
func TestMoveGoesOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	open := func() (w *world, end func()) {
		t.Helper()
		store, err := state.Open(t.Context(), state.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		q, err := queues.Open(t.Context(), store, queues.Config{})
		if err != nil {
			t.Fatal(err)
		}
		w = &world{queues: q, api: New(account, q, nil)}
		w.handler = service(t, w)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- q.Run(ctx) }()
		return w, func() {
			cancel()
			<-done
			store.Close()
		}
	}
	w, end := open()
	w.dead(t, 5)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.api.Run(ctx) }()
	w.must(t, "StartMessageMoveTask", m{"SourceArn": w.api.arn("dead"), "MaxNumberOfMessagesPerSecond": 1})
	cancel()
	<-done
	if task := w.lastTask(t); task["Status"] != running {
		t.Fatalf("%v", task)
	}
	end()

	w, end = open()
	defer end()
	ctx, cancel = context.WithCancel(t.Context())
	go func() { done <- w.api.Run(ctx) }()
	w.moved(t, "dead")
	cancel()
	<-done
	if task := w.lastTask(t); task["Status"] != completed || task["ApproximateNumberOfMessagesMoved"] != 5.0 {
		t.Errorf("%v", task)
	}
	w.visible(t, "source", 5)
}
