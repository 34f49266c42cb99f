// A life of a queue, through the SDK, which verifies the digests of messages.
import assert from "node:assert/strict";
import {
  SQSClient, CreateQueueCommand, GetQueueUrlCommand, SendMessageCommand, SendMessageBatchCommand, ReceiveMessageCommand,
  ChangeMessageVisibilityBatchCommand, DeleteMessageBatchCommand, GetQueueAttributesCommand, ListQueueTagsCommand,
  DeleteQueueCommand, QueueDoesNotExist, paginateListQueues,
} from "@aws-sdk/client-sqs";

const client = new SQSClient({ maxAttempts: 1 });
await assert.rejects(client.send(new GetQueueUrlCommand({ QueueName: "none" })), (e) => {
  assert(e instanceof QueueDoesNotExist, e.name);
  assert.equal(e.message, "The specified queue does not exist.");
  return true;
});
const { QueueUrl } = await client.send(new CreateQueueCommand({ QueueName: "q", Attributes: { VisibilityTimeout: "600" }, tags: { a: "ü" } }));
assert.match(QueueUrl, /\/\d{12}\/q$/);
assert(QueueUrl.startsWith(process.env.AWS_ENDPOINT_URL), QueueUrl);
assert.deepEqual((await client.send(new ListQueueTagsCommand({ QueueUrl }))).Tags, { a: "ü" });
const bytes = new Uint8Array([0, 255]);
const sent = await client.send(new SendMessageCommand({
  QueueUrl, MessageBody: "ü \r\n <&>",
  MessageAttributes: { s: { DataType: "String", StringValue: "é" }, b: { DataType: "Binary", BinaryValue: bytes } },
}));
const batch = await client.send(new SendMessageBatchCommand({
  QueueUrl, Entries: [{ Id: "a", MessageBody: "two" }, { Id: "b", MessageBody: "three", DelaySeconds: 901 }],
}));
assert.deepEqual([batch.Successful.length, batch.Failed.length, batch.Failed[0].Code], [1, 1, "InvalidParameterValue"]);
const { Messages } = await client.send(new ReceiveMessageCommand({
  QueueUrl, MaxNumberOfMessages: 10, MessageAttributeNames: ["All"], MessageSystemAttributeNames: ["All"], WaitTimeSeconds: 20,
}));
assert.deepEqual(Messages.map((m) => m.Body), ["ü \r\n <&>", "two"]);
assert.equal(Messages[0].MessageId, sent.MessageId);
assert.equal(Messages[0].Attributes.ApproximateReceiveCount, "1");
assert.deepEqual(new Uint8Array(Messages[0].MessageAttributes.b.BinaryValue), bytes);
const Entries = Messages.map((m, i) => ({ Id: String(i), ReceiptHandle: m.ReceiptHandle }));
const changed = await client.send(new ChangeMessageVisibilityBatchCommand({ QueueUrl, Entries: Entries.map((e) => ({ ...e, VisibilityTimeout: 100 })) }));
assert.equal(changed.Successful.length, 2);
const { Attributes } = await client.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ["ApproximateNumberOfMessagesNotVisible"] }));
assert.deepEqual(Attributes, { ApproximateNumberOfMessagesNotVisible: "2" });
const deleted = await client.send(new DeleteMessageBatchCommand({ QueueUrl, Entries }));
assert.equal(deleted.Successful.length, 2);
assert.equal((await client.send(new ReceiveMessageCommand({ QueueUrl }))).Messages, undefined);
await assert.rejects(client.send(new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 11 })), { Code: "InvalidParameterValue" });
for await (const page of paginateListQueues({ client, pageSize: 1 }, {})) assert.deepEqual(page.QueueUrls, [QueueUrl]);
await client.send(new DeleteQueueCommand({ QueueUrl }));
