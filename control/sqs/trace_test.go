package sqs

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"thaw/control/internal/apitest"
	"thaw/telemetry/xray"
)

// TestMessagesCarryOnTheTraceOfTheirRequest sends with the header that SDKs set within a function.
func TestMessagesCarryOnTheTraceOfTheirRequest(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	client := newClient(apitest.Serve(t, w.handler))
	created, err := client.CreateQueue(ctx, &sdk.CreateQueueInput{QueueName: aws.String("q")})
	if err != nil {
		t.Fatal(err)
	}
	const trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=a:1%7Cb:2"
	with := func(trace string) func(*sdk.Options) {
		return sdk.WithAPIOptions(smithyhttp.AddHeaderValue("X-Amzn-Trace-Id", trace))
	}
	own := map[string]types.MessageSystemAttributeValue{"AWSTraceHeader": {DataType: aws.String("String"), StringValue: aws.String("Root=own")}}
	sent, err := client.SendMessage(ctx, &sdk.SendMessageInput{QueueUrl: created.QueueUrl, MessageBody: aws.String("1")}, with(trace))
	if err != nil || sent.MD5OfMessageSystemAttributes != nil {
		t.Fatalf("%v, %v", sent, err)
	}
	if sent, err = client.SendMessage(ctx, &sdk.SendMessageInput{QueueUrl: created.QueueUrl, MessageBody: aws.String("2"), MessageSystemAttributes: own}, with(trace)); err != nil || sent.MD5OfMessageSystemAttributes == nil {
		t.Fatalf("%v, %v", sent, err)
	}
	batch := &sdk.SendMessageBatchInput{QueueUrl: created.QueueUrl, Entries: []types.SendMessageBatchRequestEntry{
		{Id: aws.String("a"), MessageBody: aws.String("3")}, {Id: aws.String("b"), MessageBody: aws.String("4"), MessageSystemAttributes: own},
	}}
	if out, err := client.SendMessageBatch(ctx, batch, with(trace)); err != nil || len(out.Successful) != 2 {
		t.Fatalf("%v, %v", out, err)
	}
	if _, err := client.SendMessage(ctx, &sdk.SendMessageInput{QueueUrl: created.QueueUrl, MessageBody: aws.String("5")}, with(strings.Repeat("x", xray.MaxHeader+1))); err != nil {
		t.Fatal(err)
	}
	got, err := client.ReceiveMessage(ctx, &sdk.ReceiveMessageInput{QueueUrl: created.QueueUrl, MaxNumberOfMessages: 10, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"AWSTraceHeader"}})
	if err != nil || len(got.Messages) != 5 {
		t.Fatalf("%v, %v", got, err)
	}
	for i, want := range []string{trace, "Root=own", trace, "Root=own", ""} {
		if trace := got.Messages[i].Attributes["AWSTraceHeader"]; trace != want {
			t.Errorf("%s: %q, want %q", *got.Messages[i].Body, trace, want)
		}
	}
}
