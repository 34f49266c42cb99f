package sqs

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"thaw/control/internal/apitest"
)

// callers is how many clients a benchmark has for each processor.
const callers = 16

// newBench is a queue behind a listener, and a client that keeps a connection for each caller.
func newBench(b *testing.B, attributes map[string]string) (*sdk.Client, *string) {
	b.Helper()
	client := newClient(apitest.Serve(b, newWorld(b).handler))
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 4 * callers
	client = sdk.New(client.Options(), func(o *sdk.Options) { o.HTTPClient = http.DefaultClient })
	out, err := client.CreateQueue(b.Context(), &sdk.CreateQueueInput{QueueName: aws.String("q"), Attributes: attributes})
	if err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(callers)
	return client, out.QueueUrl
}

var kilobyte = aws.String(strings.Repeat("x", 1024))

func report(b *testing.B, each int) {
	b.ReportMetric(float64(b.N*each)/b.Elapsed().Seconds(), "messages/s")
}

func BenchmarkSend(b *testing.B) {
	client, url := newBench(b, nil)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := client.SendMessage(b.Context(), &sdk.SendMessageInput{QueueUrl: url, MessageBody: kilobyte}); err != nil {
				b.Error(err)
			}
		}
	})
	report(b, 1)
}

func batch() []types.SendMessageBatchRequestEntry {
	entries := make([]types.SendMessageBatchRequestEntry, maxBatch)
	for i := range entries {
		entries[i] = types.SendMessageBatchRequestEntry{Id: aws.String(string('a' + rune(i))), MessageBody: kilobyte}
	}
	return entries
}

func BenchmarkSendBatch(b *testing.B) {
	client, url := newBench(b, nil)
	entries := batch()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if out, err := client.SendMessageBatch(b.Context(), &sdk.SendMessageBatchInput{QueueUrl: url, Entries: entries}); err != nil || len(out.Failed) > 0 {
				b.Error(out, err)
			}
		}
	})
	report(b, maxBatch)
}

// fill sends as many messages as a benchmark will receive.
func fill(b *testing.B, client *sdk.Client, url *string, n int) {
	b.Helper()
	entries := batch()
	for ; n > 0; n -= maxBatch {
		if _, err := client.SendMessageBatch(b.Context(), &sdk.SendMessageBatchInput{QueueUrl: url, Entries: entries}); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
}

// BenchmarkReceive is a receive of one message and its deletion.
func BenchmarkReceive(b *testing.B) {
	client, url := newBench(b, nil)
	fill(b, client, url, b.N)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			out, err := client.ReceiveMessage(b.Context(), &sdk.ReceiveMessageInput{QueueUrl: url})
			if err != nil || len(out.Messages) != 1 {
				b.Error(out, err)
				return
			}
			if _, err := client.DeleteMessage(b.Context(), &sdk.DeleteMessageInput{QueueUrl: url, ReceiptHandle: out.Messages[0].ReceiptHandle}); err != nil {
				b.Error(err)
			}
		}
	})
	report(b, 1)
}

// BenchmarkReceiveBatch is a receive of ten messages and their deletion.
func BenchmarkReceiveBatch(b *testing.B) {
	client, url := newBench(b, nil)
	fill(b, client, url, b.N*maxBatch)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			out, err := client.ReceiveMessage(b.Context(), &sdk.ReceiveMessageInput{QueueUrl: url, MaxNumberOfMessages: maxReceive, WaitTimeSeconds: 1})
			if err != nil || len(out.Messages) == 0 {
				b.Error(out, err)
				return
			}
			done := make([]types.DeleteMessageBatchRequestEntry, len(out.Messages))
			for i, x := range out.Messages {
				done[i] = types.DeleteMessageBatchRequestEntry{Id: aws.String(string('a' + rune(i))), ReceiptHandle: x.ReceiptHandle}
			}
			if _, err := client.DeleteMessageBatch(b.Context(), &sdk.DeleteMessageBatchInput{QueueUrl: url, Entries: done}); err != nil {
				b.Error(err)
			}
		}
	})
	report(b, maxBatch)
}
