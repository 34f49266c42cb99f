"""A program as it runs on AWS: a function that a queue feeds, that reports which messages failed, with a dead-letter queue.

It makes everything it needs, prints one line of JSON per part, and takes everything away. It exits with 1 where something
is not as AWS documents it.
"""

import io
import json
import sys
import time
import zipfile

import boto3

awslambda = boto3.client("lambda")
sqs = boto3.client("sqs")

SOURCE = """
import json

def handler(event, context):
    failed = []
    seen = []
    for record in event["Records"]:
        body = record["body"]
        seen.append([body, int(record["attributes"]["ApproximateReceiveCount"]), record["attributes"].get("MessageGroupId")])
        if body.startswith("bad") or (body.startswith("once") and record["attributes"]["ApproximateReceiveCount"] == "1"):
            failed.append({"itemIdentifier": record["messageId"]})
    print("SEEN " + json.dumps(seen))
    if any(r["body"] == "raise" for r in event["Records"]):
        raise RuntimeError("as it was told")
    if any(r["body"] == "nonsense" for r in event["Records"]):
        return {"batchItemFailures": [{"id": "x"}]}
    return {"batchItemFailures": failed}
"""

PATIENCE = 90


def package():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("app.py", SOURCE)
    return out.getvalue()


def until(what, ask):
    end = time.monotonic() + PATIENCE
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            sys.exit("not in time: " + what)
        time.sleep(0.05)


def queue(name, **attributes):
    url = sqs.create_queue(QueueName=name, Attributes={k: str(v) for k, v in attributes.items()})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return url, arn


def depth(url):
    a = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"])["Attributes"]
    return int(a["ApproximateNumberOfMessages"]), int(a["ApproximateNumberOfMessagesNotVisible"])


def drain(url, count):
    """The bodies of so many messages of a queue, which are deleted."""
    bodies = []

    def some():
        for m in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", []):
            bodies.append(m["Body"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=m["ReceiptHandle"])
        return len(bodies) >= count

    until(f"{count} messages in {url}", some)
    return sorted(bodies)


def wait_state(uuid, state):
    def there():
        return awslambda.get_event_source_mapping(UUID=uuid)["State"] == state

    until(f"mapping {uuid} is {state}", there)


def delete_mapping(uuid):
    awslambda.delete_event_source_mapping(UUID=uuid)

    def gone():
        try:
            awslambda.get_event_source_mapping(UUID=uuid)
        except awslambda.exceptions.ResourceNotFoundException:
            return True
        return False

    until("mapping is deleted", gone)


def check(what, got, want):
    print(json.dumps({"part": what, "got": got}))
    if got != want:
        sys.exit(f"{what}: got {got}, want {want}")


def partial(name, fifo):
    suffix = ".fifo" if fifo else ""
    more = {"FifoQueue": "true", "ContentBasedDeduplication": "true"} if fifo else {}
    dead, dead_arn = queue(name + "-dead" + suffix, **more)
    url, arn = queue(name + suffix, VisibilityTimeout=2, RedrivePolicy=json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 2}), **more)
    m = awslambda.create_event_source_mapping(
        FunctionName=name, EventSourceArn=arn, BatchSize=10, FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    uuid = m["UUID"]
    check("created", [m["State"], m["BatchSize"], m["FunctionResponseTypes"]], ["Creating", 10, ["ReportBatchItemFailures"]])
    wait_state(uuid, "Enabled")
    groups = ["a", "b"]
    entries = []
    for i, body in enumerate(["good1", "bad1", "once1", "good2", "bad2", "good3"]):
        e = {"Id": str(i), "MessageBody": body, "MessageAttributes": {"n": {"DataType": "Number", "StringValue": str(i)}}}
        if fifo:
            e["MessageGroupId"] = groups[i % 2]
        entries.append(e)
    check("sent", len(sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]), 6)
    check("dead letters", drain(dead, 2), ["bad1", "bad2"])
    until("the queue is empty", lambda: depth(url) == (0, 0))

    # What is no partial batch response, and an exception, fail the whole batch.
    for body, group in [("nonsense", "a"), ("raise", "b")]:
        extra = {"MessageGroupId": group} if fifo else {}
        sqs.send_message(QueueUrl=url, MessageBody=body, **extra)
    check("whole batches", drain(dead, 2), ["nonsense", "raise"])
    until("the queue is empty", lambda: depth(url) == (0, 0))

    # A filter, and a mapping that rests while it is disabled.
    awslambda.update_event_source_mapping(UUID=uuid, Enabled=False, FilterCriteria={"Filters": [{"Pattern": json.dumps({"body": {"kind": ["wanted"]}})}]})
    wait_state(uuid, "Disabled")
    extra = {"MessageGroupId": "a"} if fifo else {}
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"kind": "other"}), **extra)
    sqs.send_message(QueueUrl=url, MessageBody="bad but filtered", **extra)
    time.sleep(1)
    check("disabled", depth(url), (2, 0))
    awslambda.update_event_source_mapping(UUID=uuid, Enabled=True)
    wait_state(uuid, "Enabled")
    until("the filtered messages are deleted", lambda: depth(url) == (0, 0))
    check("dead letters of filtered messages", depth(dead), (0, 0))

    # Conflicts.
    try:
        awslambda.create_event_source_mapping(FunctionName=name, EventSourceArn=arn)
        sys.exit("a second mapping was made")
    except awslambda.exceptions.ResourceConflictException as e:
        check("conflict", uuid in str(e), True)
    listed = awslambda.list_event_source_mappings(EventSourceArn=arn, FunctionName=name)["EventSourceMappings"]
    check("listed", [x["UUID"] for x in listed], [uuid])
    delete_mapping(uuid)
    sqs.send_message(QueueUrl=url, MessageBody="late", **extra)
    time.sleep(1)
    check("deleted", depth(url), (1, 0))
    sqs.delete_queue(QueueUrl=url)
    sqs.delete_queue(QueueUrl=dead)


def window(name):
    url, arn = queue(name + "-window", VisibilityTimeout=30)
    scaling = {"ScalingConfig": {"MaximumConcurrency": 2}}
    if "ScalingConfig" not in awslambda.meta.service_model.operation_model("CreateEventSourceMapping").input_shape.members:
        scaling = {}  # boto3 before 1.26.50
    m = awslambda.create_event_source_mapping(FunctionName=name, EventSourceArn=arn, BatchSize=500, MaximumBatchingWindowInSeconds=2, **scaling)
    check("window", [m["MaximumBatchingWindowInSeconds"], m.get("ScalingConfig")], [2, scaling.get("ScalingConfig")])
    for start in range(0, 100, 10):
        sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(i), "MessageBody": f"good{start + i}"} for i in range(10)])
    until("the queue is empty", lambda: depth(url) == (0, 0))
    delete_mapping(m["UUID"])
    sqs.delete_queue(QueueUrl=url)


def main():
    name = sys.argv[1]
    awslambda.create_function(
        FunctionName=name, Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/test", Timeout=2,
        Code={"ZipFile": package()},
    )
    try:
        awslambda.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        partial(name, fifo=False)
        partial(name, fifo=True)
        window(name)
    finally:
        awslambda.delete_function(FunctionName=name)


main()
