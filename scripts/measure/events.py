#!/usr/bin/env python3
"""Measures the event side of a Lambda platform through its public API, with boto3 and nothing else: how many asynchronous
invocations are accepted per second and how long each waits for its first attempt, what a queue takes and gives per second,
and how long a message takes from its sender through an event source mapping to the function. Whose platform it is, boto3's own
settings decide (AWS_ENDPOINT_URL, region, credentials); on AWS, --role has to name a role that Lambda may assume, that may
read the queue and write logs, and what it makes and calls costs money.

The functions write when they were called to their log, which is read from CloudWatch Logs, or from thaw itself where that is
what answers. So sender and function must go by the same time, as on one machine, or by clocks that are well set.

Each line of the output is one measurement in JSON; what is going on is said on standard error. All that it made is
deleted at the end. The rates are bounded by this program too: Python sends some hundred requests per second and core."""

import argparse
import concurrent.futures
import io
import json
import math
import sys
import threading
import time
import urllib.parse
import urllib.request
import uuid
import zipfile

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError

SOURCE = """
import json, time

def handler(event, context):
    began = time.time()
    bodies = [json.loads(r["body"]) for r in event["Records"]] if "Records" in event else [event]
    for body in bodies:
        print(json.dumps({"measure": body["run"], "n": body["n"], "ms": (began - body["sent"]) * 1000, "batch": len(bodies)}))
"""


def say(text):
    print(text, file=sys.stderr, flush=True)


def tell(kind, **measured):
    print(json.dumps({"kind": kind, **measured}), flush=True)


def percentile(values, percent):
    """The nearest rank: a value that was measured; None of none."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1] if ordered else None


def package():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as z:
        entry = zipfile.ZipInfo("app.py")
        entry.external_attr = 0o644 << 16
        z.writestr(entry, SOURCE)
    return data.getvalue()


class Events:
    def __init__(self, arguments):
        self.arguments = arguments
        self.name = f"measure-events-{uuid.uuid4().hex[:12]}"
        config = Config(max_pool_connections=arguments.senders + 4, retries={"total_max_attempts": 1}, read_timeout=60)
        self.functions = boto3.client("lambda", config=config)
        self.sqs = boto3.client("sqs", config=config)
        self.queue = self.mapping = None
        self.thaw = self.is_thaw()

    def is_thaw(self):
        try:
            with urllib.request.urlopen(self.functions.meta.endpoint_url + "/_thaw/health", timeout=5) as answer:
                return "runtimes" in json.load(answer)
        except (OSError, ValueError):
            return False

    def make(self):
        role = self.arguments.role
        if not role:
            role = f"arn:aws:iam::{boto3.client('sts').get_caller_identity()['Account']}:role/measure-events"
        self.functions.create_function(
            FunctionName=self.name, Runtime=self.arguments.runtime, Role=role, Handler="app.handler",
            Code={"ZipFile": package()}, Timeout=30, MemorySize=128,
        )
        self.functions.get_waiter("function_active_v2").wait(FunctionName=self.name)
        self.queue = self.sqs.create_queue(QueueName=self.name, Attributes={"VisibilityTimeout": "60"})["QueueUrl"]

    def body(self, run, n):
        """An event of the size asked for that says when it was sent."""
        event = {"run": run, "n": n, "sent": time.time(), "fill": ""}
        event["fill"] = "x" * max(self.arguments.size - len(json.dumps(event)), 0)
        return json.dumps(event)

    def lines(self):
        """The log lines of the function, as far as they have come."""
        if not self.thaw:
            pages = boto3.client("logs").get_paginator("filter_log_events")
            for page in pages.paginate(logGroupName=f"/aws/lambda/{self.name}", filterPattern="measure"):
                for event in page["events"]:
                    yield event["message"]
            return
        url = f"{self.functions.meta.endpoint_url}/_thaw/logs?{urllib.parse.urlencode({'function': self.name})}"
        request = AWSRequest("GET", url)
        SigV4Auth(boto3.Session().get_credentials(), "lambda", self.functions.meta.region_name).add_auth(request)
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(request.headers)), timeout=60) as answer:
            for line in answer:
                yield json.loads(line)["message"]

    def seen(self, run, count):
        """Waits until the function has said of so many events that it was called, and gives what it said, the first of each."""
        deadline = time.monotonic() + self.arguments.patience
        while True:
            said, calls = {}, 0
            for line in self.lines():
                if f'"measure": "{run}"' in line:
                    one = json.loads(line[line.index("{"):])
                    said.setdefault(one["n"], one)
                    calls += 1
            if len(said) >= count or time.monotonic() > deadline:
                return said, calls
            time.sleep(0.5)

    def together(self, seconds, one):
        """Has every sender call one(n) over and over for so long; gives the sums of what it gave, and how long it took."""
        gate, numbers = threading.Barrier(self.arguments.senders), iter(range(1 << 62))

        def sender(_):
            gate.wait()
            sent, end = 0, time.monotonic() + seconds
            while time.monotonic() < end:
                sent += one(next(numbers))
            return sent

        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(self.arguments.senders) as pool:
            sent = sum(pool.map(sender, range(self.arguments.senders)))
        return sent, time.monotonic() - began

    def accepted(self):
        say(f"asynchronous invocations for {self.arguments.seconds:g} s, as many as are accepted")
        run = uuid.uuid4().hex

        def one(n):
            status = self.functions.invoke(FunctionName=self.name, InvocationType="Event", Payload=self.body(run, n))["StatusCode"]
            return 1 if status == 202 else 0

        sent, took = self.together(self.arguments.seconds, one)
        said, calls = self.seen(run, sent)
        waits = [s["ms"] for s in said.values()]
        tell(
            "accepted", accepted=sent, per_second=sent / took, attempted=len(said), lost=sent - len(said), again=calls - len(said),
            first_attempt_p50_ms=percentile(waits, 50), first_attempt_p99_ms=percentile(waits, 99),
        )

    def paced(self):
        """The time to the first attempt where nothing waits: one event at a time."""
        say(f"{self.arguments.paced} asynchronous invocations, 20 per second")
        run, waits = uuid.uuid4().hex, []
        for n in range(self.arguments.paced):
            self.functions.invoke(FunctionName=self.name, InvocationType="Event", Payload=self.body(run, n))
            time.sleep(0.05)
        said, _ = self.seen(run, self.arguments.paced)
        waits = [s["ms"] for s in said.values()]
        tell("paced", sent=self.arguments.paced, attempted=len(said), first_attempt_p50_ms=percentile(waits, 50), first_attempt_p99_ms=percentile(waits, 99))

    def throughput(self):
        say(f"a queue, sent to and received from for {self.arguments.seconds:g} s each")
        run = uuid.uuid4().hex

        def send(n):
            self.sqs.send_message(QueueUrl=self.queue, MessageBody=self.body(run, n))
            return 1

        def send_batch(n):
            entries = [{"Id": str(i), "MessageBody": self.body(run, n)} for i in range(10)]
            return len(self.sqs.send_message_batch(QueueUrl=self.queue, Entries=entries)["Successful"])

        def receive(_):
            got = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", [])
            if got:
                entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(got)]
                self.sqs.delete_message_batch(QueueUrl=self.queue, Entries=entries)
            return len(got)

        sent = 0
        for kind, one in (("send", send), ("send-batch", send_batch), ("receive-delete", receive)):
            count, took = self.together(self.arguments.seconds, one)
            tell(kind, count=count, per_second=count / took)
            sent += -count if one is receive else count
        while sent > 0 and (got := receive(0)):  # what is left, so that the mapping finds none of it
            sent -= got

    def map(self):
        self.mapping = self.functions.create_event_source_mapping(
            FunctionName=self.name, EventSourceArn=self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"],
            BatchSize=10,
        )["UUID"]
        deadline = time.monotonic() + self.arguments.patience
        while self.functions.get_event_source_mapping(UUID=self.mapping)["State"] != "Enabled":
            if time.monotonic() > deadline:
                raise SystemExit("the mapping does not become Enabled")
            time.sleep(0.2)

    def latency(self, rate):
        """Messages at an even rate, in batches where one at a time is too much for this program."""
        count = max(int(rate * self.arguments.seconds), 1)
        say(f"{count} messages through a mapping, {rate} per second")
        run, per = uuid.uuid4().hex, max(min(rate // 100, 10), 1)
        began = time.monotonic()

        def send(first):
            time.sleep(max(began + first / rate - time.monotonic(), 0))
            entries = [{"Id": str(n), "MessageBody": self.body(run, n)} for n in range(first, min(first + per, count))]
            return len(self.sqs.send_message_batch(QueueUrl=self.queue, Entries=entries)["Successful"])

        with concurrent.futures.ThreadPoolExecutor(self.arguments.senders) as pool:
            sent = sum(pool.map(send, range(0, count, per)))
        took = time.monotonic() - began
        said, calls = self.seen(run, sent)
        waits = [s["ms"] for s in said.values()]
        tell(
            "mapping", rate=rate, sent=sent, sent_per_second=sent / took, delivered=len(said), lost=sent - len(said), again=calls - len(said),
            p50_ms=percentile(waits, 50), p99_ms=percentile(waits, 99), most_in_a_batch=max((s["batch"] for s in said.values()), default=0),
        )

    def remove(self):
        for what, remove in (
            ("the mapping", lambda: self.mapping and self.functions.delete_event_source_mapping(UUID=self.mapping)),
            ("the queue", lambda: self.queue and self.sqs.delete_queue(QueueUrl=self.queue)),
            ("the function", lambda: self.functions.delete_function(FunctionName=self.name)),
        ):
            try:
                remove()
            except ClientError as error:
                if "NotFound" not in error.response["Error"]["Code"]:
                    say(f"{what} of {self.name} is still there: {error}")

    def run(self):
        try:
            self.make()
            if self.arguments.paced:
                self.paced()
            self.accepted()
            self.throughput()
            if self.arguments.rates:
                self.map()
                for rate in self.arguments.rates:
                    self.latency(rate)
        finally:
            self.remove()


def numbers(text):
    return [int(n) for n in text.split(",") if n]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--role", help="ARN of the function's role (default: a made-up one of the caller's account, which AWS refuses)")
    add("--runtime", default="python3.11")
    add("--size", type=int, default=1024, help="bytes of an event or message")
    add("--senders", type=int, default=16, help="threads that send")
    add("--seconds", type=float, default=10, help="how long each rate is measured")
    add("--paced", type=int, default=100, help="asynchronous invocations one after the other; 0: leave them out")
    add("--rates", type=numbers, default="10,100,1000", help="messages per second through the mapping, separated by commas; empty: leave it out")
    add("--patience", type=float, default=120, help="seconds to wait for what was sent to arrive")
    Events(parser.parse_args()).run()


if __name__ == "__main__":
    main()
