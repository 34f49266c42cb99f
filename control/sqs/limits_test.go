package sqs

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
)

// ask sends a JSON request and gives the error's code, as the header that clients read has it, and its text.
func (w *world) ask(t testing.TB, operation string, in map[string]any) (code, text string, out map[string]any) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/", strings.NewReader(string(body)))
	r.Header.Set("X-Amz-Target", "AmazonSQS."+operation)
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	if err := json.Unmarshal(answer.Body.Bytes(), &out); err != nil {
		t.Fatalf("%s: %v", answer.Body, err)
	}
	code, _, _ = strings.Cut(answer.Header().Get("X-Amzn-Query-Error"), ";")
	text, _ = out["message"].(string)
	return code, text, out
}

// must is ask where no error may come.
func (w *world) must(t testing.TB, operation string, in map[string]any) map[string]any {
	t.Helper()
	code, text, out := w.ask(t, operation, in)
	if code != "" {
		t.Fatalf("%s %v: %s %s", operation, in, code, text)
	}
	return out
}

type m = map[string]any

func queueURL(name string) string { return "http://example.com/" + account.ID + "/" + name }

func (w *world) create(t testing.TB, name string, attributes m) string {
	t.Helper()
	return w.must(t, "CreateQueue", m{"QueueName": name, "Attributes": attributes})["QueueUrl"].(string)
}

// TestLimits has AWS's limits, each at its edge: what is just allowed, and what just is not, with AWS's code for it.
func TestLimits(t *testing.T) {
	w := newWorld(t)
	w.create(t, "q", nil)
	w.create(t, "q.fifo", m{"FifoQueue": "true"})
	w.create(t, "c.fifo", m{"FifoQueue": "true", "ContentBasedDeduplication": "true"})
	w.create(t, "dead", nil)
	w.create(t, "closed", m{"RedriveAllowPolicy": `{"redrivePermission": "denyAll"}`})
	w.create(t, "some", m{"RedriveAllowPolicy": `{"redrivePermission": "byQueue", "sourceQueueArns": ["` + w.api.arn("q") + `"]}`})
	q, f := queueURL("q"), queueURL("q.fifo")
	text := func(n int) string { return strings.Repeat("a", n) }
	attribute := func(kind string, members m) m {
		v := m{"DataType": kind}
		for k, x := range members {
			v[k] = x
		}
		return v
	}
	many := func(n int) m {
		all := m{}
		for i := range n {
			all[fmt.Sprint("a", i)] = attribute("String", m{"StringValue": "v"})
		}
		return all
	}
	tags := func(n int) m {
		all := m{}
		for i := range n {
			all[fmt.Sprint("t", i)] = ""
		}
		return all
	}
	entries := func(n int, change func(i int, e m)) []m {
		list := make([]m, n)
		for i := range list {
			list[i] = m{"Id": fmt.Sprint(i), "MessageBody": "b"}
			if change != nil {
				change(i, list[i])
			}
		}
		return list
	}
	redrive := func(target string, count any) m {
		policy, _ := json.Marshal(m{"deadLetterTargetArn": target, "maxReceiveCount": count})
		return m{"RedrivePolicy": string(policy)}
	}
	const parameter, missing, value, name = "InvalidParameterValue", "MissingParameter", "InvalidAttributeValue", "InvalidAttributeName"
	const gone, own = "AWS.SimpleQueueService.NonExistentQueue", "AWS.SimpleQueueService."
	send := func(members m) m {
		in := m{"QueueUrl": q, "MessageBody": "b"}
		for k, v := range members {
			in[k] = v
		}
		return in
	}
	fifo := func(members m) m {
		return send(mix(m{"QueueUrl": f, "MessageGroupId": "g", "MessageDeduplicationId": "d"}, members))
	}
	for i, c := range []struct {
		operation string
		in        m
		code      string // empty: it succeeds
		text      string // what the error's text contains
	}{
		{"CreateQueue", m{}, missing, "The request must contain the parameter QueueName."},
		{"CreateQueue", m{"QueueName": ""}, parameter, "1 to 80 in length"},
		{"CreateQueue", m{"QueueName": text(80)}, "", ""},
		{"CreateQueue", m{"QueueName": text(81)}, parameter, "Can only include alphanumeric characters"},
		{"CreateQueue", m{"QueueName": "a b"}, parameter, ""},
		{"CreateQueue", m{"QueueName": "x.fifo"}, parameter, ""},
		{"CreateQueue", m{"QueueName": "x", "Attributes": m{"FifoQueue": "true"}}, parameter, "must end with .fifo"},
		{"CreateQueue", m{"QueueName": text(75) + ".fifo", "Attributes": m{"FifoQueue": "true"}}, "", ""},
		{"CreateQueue", m{"QueueName": text(76) + ".fifo", "Attributes": m{"FifoQueue": "true"}}, parameter, ""},
		{"CreateQueue", m{"QueueName": "x", "Attributes": m{"FifoQueue": "false"}}, name, "Unknown Attribute FifoQueue."},
		{"CreateQueue", m{"QueueName": "x", "Attributes": m{"ContentBasedDeduplication": "true"}}, name, "Unknown Attribute ContentBasedDeduplication."},
		{"CreateQueue", m{"QueueName": "x", "Attributes": m{"DeduplicationScope": "queue"}}, name, "You can specify the DeduplicationScope only when FifoQueue is set to true."},
		{"CreateQueue", m{"QueueName": "x", "Attributes": m{"Foo": "1"}}, name, "Unknown Attribute Foo."},
		{"CreateQueue", m{"QueueName": "x", "Attributes": m{"QueueArn": "1"}}, name, "Unknown Attribute QueueArn."},
		{"CreateQueue", m{"QueueName": "x", "tags": tags(51)}, parameter, "Too many tags"},
		{"CreateQueue", m{"QueueName": "q", "Attributes": m{"DelaySeconds": "0"}}, "", ""},
		{"CreateQueue", m{"QueueName": "q", "Attributes": m{"DelaySeconds": "1"}}, "QueueAlreadyExists", "a different value for attribute DelaySeconds"},
		{"GetQueueUrl", m{"QueueName": "none"}, gone, ""},
		{"GetQueueUrl", m{"QueueName": "q", "QueueOwnerAWSAccountId": "000000000000"}, gone, ""},
		{"GetQueueUrl", m{"QueueName": "q", "QueueOwnerAWSAccountId": account.ID}, "", ""},
		{"GetQueueAttributes", m{"QueueUrl": "q"}, "InvalidAddress", "The address q is not valid for this endpoint."},
		{"GetQueueAttributes", m{"QueueUrl": "http://h/000000000000/q"}, gone, ""},
		{"GetQueueAttributes", m{"QueueUrl": "https://other:1/" + account.ID + "/q"}, "", ""},
		{"GetQueueAttributes", m{"QueueUrl": q, "AttributeNames": []string{"All", "QueueArn"}}, "", ""},
		{"GetQueueAttributes", m{"QueueUrl": q, "AttributeNames": []string{"Foo"}}, name, "Unknown Attribute Foo."},
		{"ListQueues", m{"MaxResults": 1000}, "", ""},
		{"ListQueues", m{"MaxResults": 1001}, parameter, ""},
		{"ListQueues", m{"MaxResults": 0}, parameter, ""},
		{"ListQueues", m{"NextToken": "?"}, parameter, ""},

		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"DelaySeconds": "900"}}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"DelaySeconds": "0"}}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"DelaySeconds": "901"}}, value, "Invalid value for the parameter DelaySeconds."},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"DelaySeconds": "-1"}}, value, ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"DelaySeconds": "x"}}, value, ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"DelaySeconds": ""}}, value, ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"MaximumMessageSize": "1024"}}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"MaximumMessageSize": "1023"}}, value, ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"MaximumMessageSize": "1048577"}}, value, ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"MaximumMessageSize": "1048576"}}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"MessageRetentionPeriod": "60"}}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"MessageRetentionPeriod": "59"}}, value, ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"MessageRetentionPeriod": "1209600"}}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"MessageRetentionPeriod": "1209601"}}, value, ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"ReceiveMessageWaitTimeSeconds": "20"}}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"ReceiveMessageWaitTimeSeconds": "21"}}, value, ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"ReceiveMessageWaitTimeSeconds": "0"}}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"VisibilityTimeout": "43200"}}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"VisibilityTimeout": "43201"}}, value, ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"FifoQueue": "true"}}, name, "Unknown Attribute FifoQueue."},
		{"SetQueueAttributes", m{"QueueUrl": f, "Attributes": m{"FifoQueue": "true"}}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": f, "Attributes": m{"FifoQueue": "false"}}, value, "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported."},
		{"SetQueueAttributes", m{"QueueUrl": f, "Attributes": m{"ContentBasedDeduplication": "yes"}}, value, ""},
		{"SetQueueAttributes", m{"QueueUrl": f, "Attributes": m{"FifoThroughputLimit": "perMessageGroupId"}}, value, "only when the value for DeduplicationScope is messageGroup"},
		{"SetQueueAttributes", m{"QueueUrl": f, "Attributes": m{"FifoThroughputLimit": "perMessageGroupId", "DeduplicationScope": "messageGroup"}}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": f, "Attributes": m{"FifoThroughputLimit": "perQueue", "DeduplicationScope": "queue"}}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"Policy": "{"}}, value, ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"Policy": ""}}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"SqsManagedSseEnabled": "false", "KmsMasterKeyId": ""}}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"SqsManagedSseEnabled": "true"}}, "NotImplemented", "SqsManagedSseEnabled"},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"KmsMasterKeyId": "alias/aws/sqs"}}, "NotImplemented", "KmsMasterKeyId"},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"KmsDataKeyReusePeriodSeconds": "300"}}, "NotImplemented", ""},

		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": redrive(w.api.arn("dead"), 1000)}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": redrive(w.api.arn("dead"), "1")}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": redrive(w.api.arn("dead"), 1001)}, parameter, "Invalid value for maxReceiveCount: 1001, valid values are from 1 to 1000 both inclusive."},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": redrive(w.api.arn("dead"), 0)}, parameter, ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": redrive(w.api.arn("dead"), nil)}, parameter, "does not contain mandatory attribute: maxReceiveCount."},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": redrive("dummy", 42)}, parameter, `Value {"deadLetterTargetArn":"dummy","maxReceiveCount":42} for parameter RedrivePolicy is invalid. Reason: Invalid value for deadLetterTargetArn.`},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": redrive(w.api.arn("none"), 1)}, parameter, "Dead letter target does not exist."},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": redrive(w.api.arn("q.fifo"), 1)}, parameter, "same type"},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": redrive(w.api.arn("q"), 1)}, parameter, ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": redrive(w.api.arn("closed"), 1)}, parameter, "RedriveAllowPolicy"},
		{"SetQueueAttributes", m{"QueueUrl": queueURL("dead"), "Attributes": redrive(w.api.arn("some"), 1)}, parameter, "RedriveAllowPolicy"},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": redrive(w.api.arn("some"), 1)}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"RedrivePolicy": "{}"}}, parameter, "does not contain mandatory attribute: deadLetterTargetArn."},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"RedrivePolicy": "x"}}, parameter, ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"RedrivePolicy": ""}}, "", ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"RedriveAllowPolicy": `{"redrivePermission": "byQueue"}`}}, parameter, ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"RedriveAllowPolicy": `{"redrivePermission": "allowAll", "sourceQueueArns": ["a"]}`}}, parameter, ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"RedriveAllowPolicy": `{"redrivePermission": "x"}`}}, parameter, ""},
		{"SetQueueAttributes", m{"QueueUrl": q, "Attributes": m{"RedriveAllowPolicy": `{}`}}, parameter, ""},

		{"SendMessage", send(nil), "", ""},
		{"SendMessage", m{"QueueUrl": q}, missing, "The request must contain the parameter MessageBody."},
		{"SendMessage", send(m{"MessageBody": ""}), missing, "The request must contain the parameter MessageBody."},
		{"SendMessage", send(m{"MessageBody": text(1 << 20)}), "", ""},
		{"SendMessage", send(m{"MessageBody": text(1<<20 + 1)}), parameter, "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes."},
		{"SendMessage", send(m{"MessageBody": text(1<<20 - 8), "MessageAttributes": m{"n": attribute("String", m{"StringValue": "v"})}}), "", ""},
		{"SendMessage", send(m{"MessageBody": text(1<<20 - 7), "MessageAttributes": m{"n": attribute("String", m{"StringValue": "v"})}}), parameter, "shorter than"},
		{"SendMessage", send(m{"MessageBody": "\t\n\r \uE000\uFFFD\U00010000"}), "", ""},
		{"SendMessage", send(m{"MessageBody": "\x00"}), "InvalidMessageContents", ""},
		{"SendMessage", send(m{"MessageBody": "\uFFFF"}), "InvalidMessageContents", ""},
		{"SendMessage", send(m{"DelaySeconds": 900}), "", ""},
		{"SendMessage", send(m{"DelaySeconds": 901}), parameter, "Value 901 for parameter DelaySeconds is invalid."},
		{"SendMessage", send(m{"DelaySeconds": -1}), parameter, ""},
		{"SendMessage", send(m{"MessageGroupId": text(128)}), "", ""}, // fair queues
		{"SendMessage", send(m{"MessageGroupId": ""}), parameter, "Value  for parameter MessageGroupId is invalid. Reason: MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length."},
		{"SendMessage", send(m{"MessageDeduplicationId": "d"}), parameter, "not valid for this queue type"},
		{"SendMessage", fifo(nil), "", ""},
		{"SendMessage", fifo(m{"MessageGroupId": text(129)}), parameter, "1 to 128 in length."},
		{"SendMessage", fifo(m{"MessageDeduplicationId": "group 123"}), parameter, "Value group 123 for parameter MessageDeduplicationId is invalid."},
		{"SendMessage", fifo(m{"DelaySeconds": 2}), parameter, "Value 2 for parameter DelaySeconds is invalid. Reason: The request include parameter that is not valid for this queue type."},
		{"SendMessage", fifo(m{"DelaySeconds": 0}), "", ""},
		{"SendMessage", m{"QueueUrl": f, "MessageBody": "b"}, missing, "The request must contain the parameter MessageGroupId."},
		{"SendMessage", m{"QueueUrl": f, "MessageBody": "b", "MessageGroupId": "g"}, parameter, "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"},
		{"SendMessage", m{"QueueUrl": queueURL("c.fifo"), "MessageBody": "b", "MessageGroupId": "g"}, "", ""},

		{"SendMessage", send(m{"MessageAttributes": many(10)}), "", ""},
		{"SendMessage", send(m{"MessageAttributes": many(11)}), parameter, "Number of message attributes [11] exceeds the allowed maximum [10]."},
		{"SendMessage", send(m{"MessageAttributes": m{text(256): attribute("String", m{"StringValue": "v"})}}), "", ""},
		{"SendMessage", send(m{"MessageAttributes": m{text(257): attribute("String", m{"StringValue": "v"})}}), parameter, ""},
		{"SendMessage", send(m{"MessageAttributes": m{"a..b": attribute("String", m{"StringValue": "v"})}}), parameter, ""},
		{"SendMessage", send(m{"MessageAttributes": m{".a": attribute("String", m{"StringValue": "v"})}}), parameter, ""},
		{"SendMessage", send(m{"MessageAttributes": m{"aWs.a": attribute("String", m{"StringValue": "v"})}}), parameter, "reserved"},
		{"SendMessage", send(m{"MessageAttributes": m{"a b": attribute("String", m{"StringValue": "v"})}}), parameter, ""},
		{"SendMessage", send(m{"MessageAttributes": m{"": attribute("String", m{"StringValue": "v"})}}), parameter, ""},
		{"SendMessage", send(m{"MessageAttributes": m{"a": attribute("String", m{"StringValue": ""})}}), parameter, "Message (user) attribute 'a' must contain a non-empty value of type 'String'."},
		{"SendMessage", send(m{"MessageAttributes": m{"a": attribute("Text", m{"StringValue": "v"})}}), parameter, "'a' is invalid"},
		{"SendMessage", send(m{"MessageAttributes": m{"a": m{"StringValue": "v"}}}), parameter, "non-empty attribute type"},
		{"SendMessage", send(m{"MessageAttributes": m{"a": attribute("String.x", m{"StringValue": "v"}), "b": attribute("Binary.gif", m{"BinaryValue": "AA=="})}}), "", ""},
		{"SendMessage", send(m{"MessageAttributes": m{"a": attribute("Binary", m{"StringValue": "v"})}}), parameter, "non-empty value of type 'Binary'"},
		{"SendMessage", send(m{"MessageAttributes": m{"a": attribute("Number", m{"StringValue": "-1.5e10"})}}), "", ""},
		{"SendMessage", send(m{"MessageAttributes": m{"a": attribute("Number", m{"StringValue": "one"})}}), parameter, "to a number"},
		{"SendMessage", send(m{"MessageAttributes": m{"a": attribute("Number", m{"StringValue": strings.Repeat("1", 39)})}}), parameter, ""},
		{"SendMessage", send(m{"MessageAttributes": m{"a": attribute("String", m{"StringListValues": []string{"v"}})}}), own + "UnsupportedOperation", ""},
		{"SendMessage", send(m{"MessageSystemAttributes": m{"AWSTraceHeader": attribute("String", m{"StringValue": "Root=1"})}}), "", ""},
		{"SendMessage", send(m{"MessageSystemAttributes": m{"SenderId": attribute("String", m{"StringValue": "x"})}}), parameter, ""},
		{"SendMessage", send(m{"MessageSystemAttributes": m{"AWSTraceHeader": attribute("Number", m{"StringValue": "1"})}}), parameter, ""},

		{"SendMessageBatch", m{"QueueUrl": q, "Entries": entries(10, nil)}, "", ""},
		{"SendMessageBatch", m{"QueueUrl": q, "Entries": entries(20, nil)}, own + "TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10. You have sent 20."},
		{"SendMessageBatch", m{"QueueUrl": q, "Entries": []m{}}, own + "EmptyBatchRequest", "There should be at least one SendMessageBatchRequestEntry in the request."},
		{"SendMessageBatch", m{"QueueUrl": q}, own + "EmptyBatchRequest", ""},
		{"SendMessageBatch", m{"QueueUrl": q, "Entries": []m{{"MessageBody": "b"}}}, missing, "The request must contain the parameter Id."},
		{"SendMessageBatch", m{"QueueUrl": q, "Entries": entries(2, func(_ int, e m) { e["Id"] = "x" })}, own + "BatchEntryIdsNotDistinct", "Id x repeated."},
		{"SendMessageBatch", m{"QueueUrl": q, "Entries": entries(1, func(_ int, e m) { e["Id"] = "in:valid" })}, own + "InvalidBatchEntryId", "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long."},
		{"SendMessageBatch", m{"QueueUrl": q, "Entries": entries(1, func(_ int, e m) { e["Id"] = text(81) })}, own + "InvalidBatchEntryId", ""},
		{"SendMessageBatch", m{"QueueUrl": q, "Entries": entries(2, func(_ int, e m) { e["MessageBody"] = text(1 << 19) })}, "", ""},
		{"SendMessageBatch", m{"QueueUrl": q, "Entries": entries(2, func(i int, e m) { e["MessageBody"] = text(1<<19 + i) })}, own + "BatchRequestTooLong", "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes."},
		{"SendMessageBatch", m{"QueueUrl": f, "Entries": entries(1, nil)}, parameter, "The request must contain the parameter MessageGroupId."},
		{"SendMessageBatch", m{"QueueUrl": f, "Entries": entries(1, func(_ int, e m) { e["MessageGroupId"] = "g" })}, parameter, "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"},

		{"ReceiveMessage", m{"QueueUrl": q, "MaxNumberOfMessages": 10, "VisibilityTimeout": 43200, "WaitTimeSeconds": 20}, "", ""},
		{"ReceiveMessage", m{"QueueUrl": q, "MaxNumberOfMessages": 11}, parameter, "Value 11 for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided."},
		{"ReceiveMessage", m{"QueueUrl": q, "MaxNumberOfMessages": 0}, parameter, ""},
		{"ReceiveMessage", m{"QueueUrl": q, "WaitTimeSeconds": 21}, parameter, "Value 21 for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20, if provided."},
		{"ReceiveMessage", m{"QueueUrl": q, "WaitTimeSeconds": -1}, parameter, ""},
		{"ReceiveMessage", m{"QueueUrl": q, "VisibilityTimeout": 43201}, parameter, "Must be >= 0 and <= 43200, if provided."},
		{"ReceiveMessage", m{"QueueUrl": q, "VisibilityTimeout": 0, "AttributeNames": []string{"Foo"}}, name, "Unknown Attribute Foo."},
		{"ReceiveMessage", m{"QueueUrl": q, "ReceiveRequestAttemptId": "a"}, parameter, "not valid for this queue type"},
		{"ReceiveMessage", m{"QueueUrl": f, "ReceiveRequestAttemptId": "a"}, "NotImplemented", "ReceiveRequestAttemptId"},
		{"DeleteMessage", m{"QueueUrl": q}, missing, "The request must contain the parameter ReceiptHandle."},
		{"DeleteMessage", m{"QueueUrl": q, "ReceiptHandle": "x"}, "ReceiptHandleIsInvalid", `The input receipt handle "x" is not a valid receipt handle.`},
		{"DeleteMessage", m{"QueueUrl": f, "ReceiptHandle": "x"}, "ReceiptHandleIsInvalid", ""},
		{"ChangeMessageVisibility", m{"QueueUrl": q, "ReceiptHandle": "x"}, missing, "VisibilityTimeout"},
		{"ChangeMessageVisibility", m{"QueueUrl": q, "ReceiptHandle": "x", "VisibilityTimeout": 43201}, parameter, "Value 43201 for parameter VisibilityTimeout is invalid."},
		{"ChangeMessageVisibility", m{"QueueUrl": q, "ReceiptHandle": "x", "VisibilityTimeout": 43200}, "ReceiptHandleIsInvalid", ""},
		{"ChangeMessageVisibilityBatch", m{"QueueUrl": q, "Entries": []m{}}, own + "EmptyBatchRequest", ""},

		{"TagQueue", m{"QueueUrl": q, "Tags": tags(50)}, "", ""},
		{"TagQueue", m{"QueueUrl": q, "Tags": m{"one more": ""}}, parameter, "Too many tags"},
		{"TagQueue", m{"QueueUrl": f, "Tags": m{text(129): ""}}, parameter, ""},
		{"TagQueue", m{"QueueUrl": f, "Tags": m{"k": text(257)}}, parameter, ""},
		{"TagQueue", m{"QueueUrl": f, "Tags": m{"aws:k": ""}}, parameter, "reserved"},
		{"AddPermission", m{"QueueUrl": q, "Label": "a b", "AWSAccountIds": []string{"111122223333"}, "Actions": []string{"*"}}, parameter, "Label"},
		{"AddPermission", m{"QueueUrl": q, "Label": "l", "AWSAccountIds": []string{"1"}, "Actions": []string{"*"}}, parameter, "PrincipalId"},
		{"AddPermission", m{"QueueUrl": q, "Label": "l", "AWSAccountIds": []string{"111122223333"}, "Actions": []string{"CreateQueue"}}, parameter, "Only the queue owner is allowed"},
		{"AddPermission", m{"QueueUrl": q, "Label": "l", "AWSAccountIds": []string{"111122223333"}, "Actions": actions[:8]}, "OverLimit", "8 Actions were found, maximum allowed is 7."},
		{"AddPermission", m{"QueueUrl": q, "Label": "l", "Actions": []string{"*"}}, missing, "AWSAccountIds"},

		{"StartMessageMoveTask", m{"SourceArn": w.api.arn("none")}, "ResourceNotFoundException", "The resource that you specified for the SourceArn parameter doesn't exist."},
		{"StartMessageMoveTask", m{"SourceArn": "x"}, parameter, ""},
		{"StartMessageMoveTask", m{"SourceArn": w.api.arn("q")}, parameter, "Source queue must be configured as a Dead Letter Queue."},
		{"StartMessageMoveTask", m{"SourceArn": w.api.arn("dead"), "DestinationArn": w.api.arn("none")}, "ResourceNotFoundException", "The resource that you specified for the DestinationArn parameter doesn't exist."},
		{"StartMessageMoveTask", m{"SourceArn": w.api.arn("dead"), "DestinationArn": w.api.arn("q.fifo")}, parameter, "same type"},
		{"StartMessageMoveTask", m{"SourceArn": w.api.arn("dead"), "MaxNumberOfMessagesPerSecond": 501}, parameter, ""},
		{"CancelMessageMoveTask", m{"TaskHandle": "x"}, parameter, "Value for parameter TaskHandle is invalid."},
		{"CancelMessageMoveTask", m{"TaskHandle": *w.api.handle("none", "t")}, "ResourceNotFoundException", "The resource that you specified for the SourceArn parameter doesn't exist."},
		{"CancelMessageMoveTask", m{"TaskHandle": *w.api.handle("dead", "t")}, "ResourceNotFoundException", "Task does not exist."},
		{"ListMessageMoveTasks", m{"SourceArn": w.api.arn("dead"), "MaxResults": 11}, parameter, ""},
	} {
		code, text, _ := w.ask(t, c.operation, c.in)
		if code != c.code || !strings.Contains(text, c.text) {
			in, _ := json.Marshal(c.in)
			t.Errorf("%d %s %.200s: %s %q, want %s %q", i, c.operation, in, code, text, c.code, c.text)
		}
	}
}

// mix is the members of several maps, the last ones first.
func mix(maps ...m) m {
	all := m{}
	for _, one := range maps {
		for k, v := range one {
			all[k] = v
		}
	}
	return all
}
