package mapping

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"thaw"
	"thaw/state/queues"
)

// fakeAPI is an SQS API over a fakeQueue.
type fakeAPI struct {
	queue  *fakeQueue
	polls  int
	broken error
}

func (f *fakeAPI) GetQueueUrl(_ context.Context, in *sqs.GetQueueUrlInput, _ ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error) {
	return &sqs.GetQueueUrlOutput{QueueUrl: aws.String("http://sqs.test/" + *in.QueueOwnerAWSAccountId + "/" + *in.QueueName)}, f.broken
}

func (f *fakeAPI) GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error) {
	return &sqs.GetQueueAttributesOutput{Attributes: map[string]string{"VisibilityTimeout": "30"}}, nil
}

func (f *fakeAPI) ReceiveMessage(ctx context.Context, in *sqs.ReceiveMessageInput, _ ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error) {
	if in.MaxNumberOfMessages < 1 || in.MaxNumberOfMessages > 10 || in.WaitTimeSeconds < 0 || in.WaitTimeSeconds > 20 {
		return nil, errors.New("out of bounds")
	}
	f.polls++
	received, err := f.queue.Receive(ctx, int(in.MaxNumberOfMessages), time.Duration(in.WaitTimeSeconds)*time.Second, nil)
	out := &sqs.ReceiveMessageOutput{}
	for i := range received {
		r := &received[i]
		out.Messages = append(out.Messages, types.Message{
			MessageId: &r.ID, ReceiptHandle: &r.Handle, Body: aws.String(string(r.Body)), MD5OfBody: aws.String(md5Hex(r.Body)),
			Attributes: map[string]string{"ApproximateReceiveCount": strconv.Itoa(r.Receives), "SenderId": "AID"},
		})
	}
	return out, err
}

func (f *fakeAPI) DeleteMessageBatch(ctx context.Context, in *sqs.DeleteMessageBatchInput, _ ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error) {
	out := &sqs.DeleteMessageBatchOutput{}
	if len(in.Entries) < 1 || len(in.Entries) > 10 {
		return out, errors.New("out of bounds")
	}
	for _, e := range in.Entries {
		if err := f.queue.DeleteBatch(ctx, []string{*e.ReceiptHandle})[0]; err != nil {
			out.Failed = append(out.Failed, types.BatchResultErrorEntry{Id: e.Id, SenderFault: true, Code: aws.String("ReceiptHandleIsInvalid")})
		}
	}
	return out, nil
}

func (f *fakeAPI) ChangeMessageVisibilityBatch(ctx context.Context, in *sqs.ChangeMessageVisibilityBatchInput, _ ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error) {
	out := &sqs.ChangeMessageVisibilityBatchOutput{}
	if len(in.Entries) < 1 || len(in.Entries) > 10 {
		return out, errors.New("out of bounds")
	}
	for _, e := range in.Entries {
		change := queues.VisibilityChange{Handle: *e.ReceiptHandle, Visibility: time.Duration(e.VisibilityTimeout) * time.Second}
		if err := f.queue.ChangeVisibilityBatch(ctx, []queues.VisibilityChange{change})[0]; err != nil {
			out.Failed = append(out.Failed, types.BatchResultErrorEntry{Id: e.Id, SenderFault: true, Code: aws.String("MessageNotInflight")})
		}
	}
	return out, nil
}

func TestExternalQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{queue: newFakeQueue(queues.Options{})}
		q := &externalQueue{api: api, client: &http.Client{}, arn: "arn:aws:sqs:eu-west-1:123456789012:abroad", region: "eu-west-1"}
		arn, _ := ParseQueueARN(q.arn)
		if err := q.find(t.Context(), arn); err != nil || q.url != "http://sqs.test/123456789012/abroad" || q.visibility != 30*time.Second {
			t.Fatalf("%+v, %v", q, err)
		}
		for n := range 25 {
			api.queue.send(strconv.Itoa(n))
		}
		c := collector{source: q, size: 100, window: 5 * time.Second}
		batch, err := c.next(t.Context())
		if err != nil || len(batch) != 25 {
			t.Fatalf("%d messages, %v", len(batch), err)
		}
		var record map[string]any
		if err := json.Unmarshal(batch[3].record, &record); err != nil || record["body"] != "3" || record["awsRegion"] != "eu-west-1" || record["eventSourceARN"] != q.arn {
			t.Errorf("%s", batch[3].record)
		}
		if err := q.hide(t.Context(), batch[:12], 0); err != nil {
			t.Error(err)
		}
		if err := q.done(t.Context(), batch[12:]); err != nil {
			t.Error(err)
		}
		if d := api.queue.Depth(); d.Visible != 12 || d.InFlight != 0 {
			t.Errorf("%+v", d)
		}
		if err := errors.Join(q.done(t.Context(), batch[12:]), q.hide(t.Context(), batch[12:], time.Minute)); err != nil {
			t.Errorf("what is somebody else's is no failure: %v", err)
		}
		q.close()
	})
}

func TestExternalQueueNeedsCredentials(t *testing.T) {
	b := newBench(t, queues.Options{})
	cfg := b.config()
	cfg.Environment = func(name string) (string, bool) {
		v, ok := map[string]string{"A_AWS_ACCESS_KEY_ID": "id", "A_AWS_SECRET_ACCESS_KEY": "secret", "AWS_ACCESS_KEY_ID": "id"}[name]
		return v, ok
	}
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := l.credentials("A"); err != nil {
		t.Error(err)
	} else if got, err := keys.Retrieve(t.Context()); err != nil || got.AccessKeyID != "id" || got.SecretAccessKey != "secret" {
		t.Errorf("%v, %v", got.AccessKeyID, err)
	}
	for _, prefix := range []string{"", "B"} {
		_, err := l.credentials(prefix)
		if thaw.CodeOf(err) != thaw.CodeInvalidParameterValue || !strings.Contains(err.Error(), "Set both and start it again") {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}
