package sqs

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"thaw/control/internal/apitest"
	"thaw/internal/ownbody"
)

func newClient(url string) *sdk.Client {
	return sdk.New(sdk.Options{BaseEndpoint: &url, Region: account.Region, Credentials: credentials.NewStaticCredentialsProvider("thaw", "thaw", ""), RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
}

// TestGoSDK is a life of a queue through the Go SDK, which verifies the digests of messages.
func TestGoSDK(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	client := newClient(apitest.Serve(t, w.handler))
	_, err := client.GetQueueUrl(ctx, &sdk.GetQueueUrlInput{QueueName: aws.String("q")})
	if none := (*types.QueueDoesNotExist)(nil); !errors.As(err, &none) || none.ErrorCode() != "AWS.SimpleQueueService.NonExistentQueue" {
		t.Errorf("%v", err)
	}
	created, err := client.CreateQueue(ctx, &sdk.CreateQueueInput{QueueName: aws.String("q"), Attributes: map[string]string{"VisibilityTimeout": "600"}, Tags: map[string]string{"a": "ü"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CreateQueue(ctx, &sdk.CreateQueueInput{QueueName: aws.String("q"), Attributes: map[string]string{"VisibilityTimeout": "1"}})
	if exists := (*types.QueueNameExists)(nil); !errors.As(err, &exists) {
		t.Errorf("%v", err)
	}
	attributes := map[string]types.MessageAttributeValue{
		"s": {DataType: aws.String("String.label"), StringValue: aws.String("é\n")}, "b": {DataType: aws.String("Binary"), BinaryValue: []byte{0, 255}},
	}
	trace := map[string]types.MessageSystemAttributeValue{"AWSTraceHeader": {DataType: aws.String("String"), StringValue: aws.String("Root=1")}}
	if _, err := client.SendMessage(ctx, &sdk.SendMessageInput{QueueUrl: created.QueueUrl, MessageBody: aws.String("one \r\n é"), MessageAttributes: attributes, MessageSystemAttributes: trace}); err != nil {
		t.Fatal(err)
	}
	batch, err := client.SendMessageBatch(ctx, &sdk.SendMessageBatchInput{QueueUrl: created.QueueUrl, Entries: []types.SendMessageBatchRequestEntry{
		{Id: aws.String("a"), MessageBody: aws.String("two"), MessageAttributes: attributes}, {Id: aws.String("b"), MessageBody: aws.String("\x00")},
	}})
	if err != nil || len(batch.Successful) != 1 || len(batch.Failed) != 1 || *batch.Failed[0].Code != "InvalidMessageContents" || !batch.Failed[0].SenderFault {
		t.Fatalf("%v, %v", batch, err)
	}
	got, err := client.ReceiveMessage(ctx, &sdk.ReceiveMessageInput{
		QueueUrl: created.QueueUrl, MaxNumberOfMessages: 10, MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"},
	})
	if err != nil || len(got.Messages) != 2 || *got.Messages[0].Body != "one \r\n é" || got.Messages[0].Attributes["AWSTraceHeader"] != "Root=1" || string(got.Messages[1].MessageAttributes["b"].BinaryValue) != "\x00\xff" {
		t.Fatalf("%v, %v", got, err)
	}
	if _, err := client.ChangeMessageVisibility(ctx, &sdk.ChangeMessageVisibilityInput{QueueUrl: created.QueueUrl, ReceiptHandle: got.Messages[0].ReceiptHandle, VisibilityTimeout: 0}); err != nil {
		t.Error(err)
	}
	_, err = client.DeleteMessage(ctx, &sdk.DeleteMessageInput{QueueUrl: created.QueueUrl, ReceiptHandle: aws.String("x")})
	if wrong := (*types.ReceiptHandleIsInvalid)(nil); !errors.As(err, &wrong) {
		t.Errorf("%v", err)
	}
	for _, x := range got.Messages {
		if _, err := client.DeleteMessage(ctx, &sdk.DeleteMessageInput{QueueUrl: created.QueueUrl, ReceiptHandle: x.ReceiptHandle}); err != nil {
			t.Error(err)
		}
	}
	if got, err := client.ReceiveMessage(ctx, &sdk.ReceiveMessageInput{QueueUrl: created.QueueUrl}); err != nil || len(got.Messages) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	pages := sdk.NewListQueuesPaginator(client, &sdk.ListQueuesInput{MaxResults: aws.Int32(1)})
	if page, err := pages.NextPage(ctx); err != nil || len(page.QueueUrls) != 1 || pages.HasMorePages() {
		t.Errorf("%v, %v", page, err)
	}
}

const session = `
import boto3, sys
from botocore.config import Config
from botocore.exceptions import ClientError
config = Config(retries={"max_attempts": 0})
sqs = boto3.client("sqs", endpoint_url=sys.argv[1], config=config)
def error(call, **arguments):
    try:
        call(**arguments)
    except ClientError as e:
        return e
    raise AssertionError("no error")
e = error(sqs.get_queue_url, QueueName="none")
assert isinstance(e, sqs.exceptions.QueueDoesNotExist), type(e)
assert e.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue", e.response
assert e.response["Error"]["QueryErrorCode"] == "QueueDoesNotExist" and e.response["Error"]["Type"] == "Sender", e.response
dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
assert dead == sys.argv[1] + "/123456789012/dead", dead
arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
q = boto3.resource("sqs", endpoint_url=sys.argv[1], config=config).create_queue(QueueName="q", Attributes={"RedrivePolicy": '{"deadLetterTargetArn": "%s", "maxReceiveCount": 1}' % arn, "VisibilityTimeout": "0"}, tags={"a": "ü"})
assert sqs.list_queue_tags(QueueUrl=q.url)["Tags"] == {"a": "ü"}
assert q.receive_messages(WaitTimeSeconds=0) == [] and "Messages" not in sqs.receive_message(QueueUrl=q.url)
sent = q.send_message(MessageBody="ü <&>", MessageAttributes={"n": {"DataType": "Number", "StringValue": "7"}, "b": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}}, MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"}})
m = q.receive_messages(MessageAttributeNames=["All"], AttributeNames=["All"], WaitTimeSeconds=20)[0]
assert m.body == "ü <&>" and m.message_id == sent["MessageId"] and m.md5_of_message_attributes == sent["MD5OfMessageAttributes"], m
assert m.message_attributes["b"]["BinaryValue"] == b"\x00\xff" and m.message_attributes["n"]["StringValue"] == "7", m.message_attributes
assert m.attributes["ApproximateReceiveCount"] == "1" and m.attributes["AWSTraceHeader"] == "Root=1", m.attributes
died = sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=20, MessageSystemAttributeNames=["DeadLetterQueueSourceArn"])["Messages"][0]
assert died["Attributes"]["DeadLetterQueueSourceArn"].endswith(":q") and died["Body"] == "ü <&>", died
assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [q.url]
sqs.delete_message(QueueUrl=dead, ReceiptHandle=died["ReceiptHandle"])
out = q.send_messages(Entries=[{"Id": str(i), "MessageBody": str(i)} for i in range(10)])
assert len(out["Successful"]) == 10 and "Failed" not in out, out
e = error(sqs.send_message_batch, QueueUrl=q.url, Entries=[])
assert isinstance(e, sqs.exceptions.EmptyBatchRequest), e
e = error(sqs.receive_message, QueueUrl=q.url, MaxNumberOfMessages=11)
assert e.response["Error"]["Code"] == "InvalidParameterValue" and e.response["Error"]["Message"] == "Value 11 for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.", e.response
q.purge()
e = error(q.purge)
assert isinstance(e, sqs.exceptions.PurgeQueueInProgress) and e.response["ResponseMetadata"]["HTTPStatusCode"] == 403, e.response
fifo = sqs.create_queue(QueueName="q.fifo", Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"})["QueueUrl"]
first = sqs.send_message(QueueUrl=fifo, MessageBody="a", MessageGroupId="g")
assert first["SequenceNumber"] == sqs.send_message(QueueUrl=fifo, MessageBody="a", MessageGroupId="g")["SequenceNumber"]
assert [m["Body"] for m in sqs.receive_message(QueueUrl=fifo, MaxNumberOfMessages=10)["Messages"]] == ["a"]
assert sorted(u.rsplit("/")[-1] for page in sqs.get_paginator("list_queues").paginate(PaginationConfig={"PageSize": 2}) for u in page["QueueUrls"]) == ["dead", "q", "q.fifo"]
e = error(sqs.create_queue, QueueName="q", Attributes={"KmsMasterKeyId": "alias/aws/sqs"})
assert e.response["Error"]["Code"] == "NotImplemented" and e.response["ResponseMetadata"]["HTTPStatusCode"] == 501, e.response
sqs.delete_queue(QueueUrl=q.url)
`

func TestBoto3(t *testing.T) {
	apitest.Boto3(t, account.Region, "-c", session, apitest.Serve(t, service(t, newWorld(t))))
}

// TestCommandLine runs commands of the AWS CLI's examples for SQS.
func TestCommandLine(t *testing.T) {
	endpoint := apitest.Serve(t, service(t, newWorld(t)))
	run := apitest.CommandLine(t, account.Region, endpoint, "sqs")
	url := endpoint + "/123456789012/MyQueue"
	handle := ""
	for _, c := range []struct {
		arguments []string
		want      string
	}{
		{[]string{"create-queue", "--queue-name", "MyQueue", "--attributes", `{"MessageRetentionPeriod": "259200"}`}, url},
		{[]string{"get-queue-url", "--queue-name", "MyQueue"}, url},
		{[]string{"list-queues", "--queue-name-prefix", "My"}, url},
		{[]string{"tag-queue", "--queue-url", url, "--tags", "Priority=Highest"}, ""},
		{[]string{"list-queue-tags", "--queue-url", url}, "Highest"},
		{[]string{"send-message", "--queue-url", url, "--message-body", "Information about the largest city in Any Region.", "--delay-seconds", "0", "--message-attributes", `{"City": {"DataType": "String", "StringValue": "Any City"}}`}, "MD5OfMessageAttributes"},
		{[]string{"receive-message", "--queue-url", url, "--attribute-names", "All", "--message-attribute-names", "All", "--max-number-of-messages", "10"}, "Any City"},
		{[]string{"change-message-visibility", "--queue-url", url, "--receipt-handle", "HANDLE", "--visibility-timeout", "36000"}, ""},
		{[]string{"get-queue-attributes", "--queue-url", url, "--attribute-names", "All"}, `"ApproximateNumberOfMessagesNotVisible": "1"`},
		{[]string{"delete-message", "--queue-url", url, "--receipt-handle", "HANDLE"}, ""},
		{[]string{"purge-queue", "--queue-url", url}, ""},
		{[]string{"delete-queue", "--queue-url", url}, ""},
	} {
		for i := range c.arguments {
			c.arguments[i] = strings.ReplaceAll(c.arguments[i], "HANDLE", handle)
		}
		out := run(c.arguments...)
		if !strings.Contains(out, c.want) {
			t.Fatalf("%q: %s", c.arguments, out)
		}
		if _, after, ok := strings.Cut(out, `"ReceiptHandle": "`); ok {
			handle, _, _ = strings.Cut(after, `"`)
		}
	}
}
