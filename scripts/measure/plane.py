#!/usr/bin/env python3
"""Measures the service plane of a Lambda platform through its public API, with boto3 and nothing else: bursts from no
environment at all, what is refused and how, provisioned concurrency, how an alias splits its traffic, and how long automatic
scaling takes to answer a step in load. Whose platform it is, boto3's own settings decide (AWS_ENDPOINT_URL, region, credentials);
on AWS, --role has to name a role that Lambda may assume, and what it makes and calls costs money.

Each line of the output is one measurement in JSON; what is going on is said on standard error. All that it made is
deleted at the end."""

import argparse
import base64
import collections
import concurrent.futures
import io
import json
import math
import re
import sys
import threading
import time
import uuid
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

SOURCE = """
import os, time

def handler(event, context):
    began = time.time()
    time.sleep(event["sleep"])
    return {"type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "ran": [began, time.time()]}
"""

# A fair split is further out than so many standard deviations once in 100,000 runs.
SIGMAS = 4.42


def say(text):
    print(text, file=sys.stderr, flush=True)


def tell(kind, **measured):
    print(json.dumps({"kind": kind, **measured}), flush=True)


def package():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as z:
        entry = zipfile.ZipInfo("app.py")
        entry.external_attr = 0o644 << 16
        z.writestr(entry, SOURCE)
    return data.getvalue()


def percentile(values, percent):
    """The nearest rank: a value that was measured; None of none."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1] if ordered else None


class Answer:
    """One invocation as its caller saw it."""

    def __init__(self, began, answer=None, error=None):
        self.took = time.perf_counter() - began
        self.version = self.kind = self.ran = self.failed = self.reason = self.retry_after = None
        self.init = False
        if error is not None:
            if error.response["Error"]["Code"] != "TooManyRequestsException":
                raise error
            self.reason = error.response.get("Reason")
            self.retry_after = error.response["ResponseMetadata"]["HTTPHeaders"].get("retry-after")
            return
        self.version = answer["ExecutedVersion"]
        self.init = "\tInit Duration: " in base64.b64decode(answer.get("LogResult", "")).decode()
        said = json.load(answer["Payload"])
        if "FunctionError" in answer:
            self.failed = said
        else:
            self.kind, self.ran = said["type"], said["ran"]


def most_at_once(answers):
    """How many ran together, by the functions' own clocks: a program that is slow to send does not reach the number that it
    was told, and its figures are then its own."""
    now = most = 0
    for _, step in sorted([(a.ran[0], 1) for a in answers] + [(a.ran[1], -1) for a in answers]):
        now += step
        most = max(most, now)
    return most


class Plane:
    def __init__(self, arguments):
        self.arguments = arguments
        self.name = f"measure-plane-{uuid.uuid4().hex[:12]}"
        most = max([*arguments.bursts, arguments.canary_at_once, arguments.load, 1]) + 8
        # No attempt is made twice: what is refused is to be seen.
        config = Config(max_pool_connections=most, retries={"total_max_attempts": 1}, read_timeout=120)
        self.client = boto3.client("lambda", config=config)
        self.scaling = boto3.client("application-autoscaling")
        self.resource = {
            "ServiceNamespace": "lambda",
            "ResourceId": f"function:{self.name}:live",
            "ScalableDimension": "lambda:function:ProvisionedConcurrency",
        }

    def make(self):
        role = self.arguments.role
        if not role:
            role = f"arn:aws:iam::{boto3.client('sts').get_caller_identity()['Account']}:role/measure-plane"
        self.client.create_function(
            FunctionName=self.name, Runtime=self.arguments.runtime, Role=role, Handler="app.handler",
            Code={"ZipFile": package()}, Timeout=60, MemorySize=128,
        )
        self.client.get_waiter("function_active_v2").wait(FunctionName=self.name)

    def invoke(self, qualifier, sleep=0.0, tail=False):
        began = time.perf_counter()
        try:
            answer = self.client.invoke(
                FunctionName=self.name, Qualifier=qualifier, Payload=json.dumps({"sleep": sleep}), LogType="Tail" if tail else "None"
            )
        except ClientError as error:
            return Answer(began, error=error)
        return Answer(began, answer)

    def at_once(self, count, qualifier, sleep):
        """Invokes so many times, as nearly at the same moment as threads can."""
        gate = threading.Barrier(count)

        def one(_):
            gate.wait()
            return self.invoke(qualifier, sleep, tail=True)

        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return list(pool.map(one, range(count)))

    def burst(self, kind, count, qualifier, **more):
        answers = self.at_once(count, qualifier, self.arguments.work)
        served = [a for a in answers if a.kind is not None]
        refused = [a for a in answers if a.version is None]
        added = [(a.took - self.arguments.work) * 1000 for a in served]
        tell(
            kind, count=count, most_at_once=most_at_once(served), served=len(served), failed=sum(bool(a.failed) for a in answers), with_init=sum(a.init for a in served),
            types=collections.Counter(a.kind for a in served), added_p50_ms=percentile(added, 50), added_p99_ms=percentile(added, 99),
            throttled=len(refused), reasons=collections.Counter(a.reason for a in refused),
            retry_after=collections.Counter(a.retry_after for a in refused), refused_p99_ms=percentile([a.took * 1000 for a in refused], 99), **more,
        )

    def change(self, value):
        """Gives the function another configuration, which leaves it without environments."""
        self.client.update_function_configuration(FunctionName=self.name, Environment={"Variables": {"CHANGED": value}})
        self.client.get_waiter("function_updated_v2").wait(FunctionName=self.name)

    def bursts(self):
        for count in self.arguments.bursts:
            say(f"a burst of {count}, from no environment, and again with those that it left")
            self.change(f"{count} {time.time_ns()}")
            self.burst("burst", count, "$LATEST", environments="none")
            self.burst("burst", count, "$LATEST", environments="warm")

    def refusals(self):
        reserved = self.arguments.reserved
        if not reserved:
            return
        say(f"{2 * reserved} invocations at once with a reserved concurrency of {reserved}")
        self.client.put_function_concurrency(FunctionName=self.name, ReservedConcurrentExecutions=reserved)
        self.burst("reserved", 2 * reserved, "$LATEST", reserved=reserved)
        self.client.delete_function_concurrency(FunctionName=self.name)

    def publish(self):
        versions = []
        for n in (1, 2):
            self.change(f"version {n}")
            version = self.client.publish_version(FunctionName=self.name)["Version"]
            self.client.get_waiter("function_active_v2").wait(FunctionName=self.name, Qualifier=version)
            versions.append(version)
        return versions

    def canary(self, stable, new):
        count, weight = self.arguments.canary, self.arguments.weight
        say(f"{count} invocations of an alias that gives version {new} {weight:.0%}")
        self.client.create_alias(
            FunctionName=self.name, Name="canary", FunctionVersion=stable, RoutingConfig={"AdditionalVersionWeights": {new: weight}}
        )
        with concurrent.futures.ThreadPoolExecutor(self.arguments.canary_at_once) as pool:
            answers = list(pool.map(lambda _: self.invoke("canary"), range(count)))
        by = collections.Counter(a.version for a in answers if a.version is not None)
        served = sum(by.values())
        bound = SIGMAS * math.sqrt(served * weight * (1 - weight))
        tell(
            "canary", count=count, served=served, versions=by, expected=served * weight, got=by[new], bound=bound,
            within=abs(by[new] - served * weight) <= bound,
        )

    def capacity(self):
        return self.client.get_provisioned_concurrency_config(FunctionName=self.name, Qualifier="live")

    def await_capacity(self, done):
        """Polls until done(capacity), and gives that capacity."""
        deadline = time.monotonic() + self.arguments.patience
        while True:
            capacity = self.capacity()
            if done(capacity):
                return capacity
            if capacity["Status"] == "FAILED":
                raise SystemExit(f"provisioned concurrency failed: {capacity.get('StatusReason')}")
            if time.monotonic() > deadline:
                raise SystemExit(f"not within {self.arguments.patience:g} s: {capacity}")
            time.sleep(self.arguments.poll)

    def provision(self, version):
        count = self.arguments.provisioned
        say(f"{count} provisioned environments, and a burst of two more than that")
        self.client.create_alias(FunctionName=self.name, Name="live", FunctionVersion=version)
        began = time.perf_counter()
        status = self.client.put_provisioned_concurrency_config(
            FunctionName=self.name, Qualifier="live", ProvisionedConcurrentExecutions=count
        )["Status"]
        ready = self.await_capacity(lambda c: c["Status"] == "READY")
        tell(
            "provisioned", count=count, status=status, ready_s=time.perf_counter() - began,
            available=ready["AvailableProvisionedConcurrentExecutions"],
        )
        self.burst("provisioned-burst", count + 2, "live")

    def scale(self):
        load, target, most = self.arguments.load, self.arguments.target, self.arguments.max_capacity
        least = self.arguments.provisioned
        wanted = min(most, math.ceil(load / target))
        say(f"{load} invocations under way all the time, until {wanted} environments are provisioned for them")
        self.scaling.register_scalable_target(**self.resource, MinCapacity=least, MaxCapacity=most)
        self.scaling.put_scaling_policy(
            **self.resource, PolicyName="utilisation", PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": target,
                "PredefinedMetricSpecification": {"PredefinedMetricType": "LambdaProvisionedConcurrencyUtilization"},
            },
        )
        over = threading.Event()
        answers = []

        def caller():
            while not over.is_set():
                answers.append(self.invoke("live", 1.0))

        with concurrent.futures.ThreadPoolExecutor(load) as pool:
            began = time.perf_counter()
            callers = [pool.submit(caller) for _ in range(load)]
            try:
                self.await_capacity(lambda c: c["RequestedProvisionedConcurrentExecutions"] > least)
                asked = time.perf_counter() - began
                there = self.await_capacity(
                    lambda c: c["Status"] == "READY" and c["AvailableProvisionedConcurrentExecutions"] >= wanted
                )
                ready = time.perf_counter() - began
            finally:
                over.set()
        for c in callers:
            c.result()
        activities = self.scaling.describe_scaling_activities(**self.resource)["ScalingActivities"]
        tell(
            "load-step", load=load, target=target, before=least, wanted=wanted, asked_s=asked, ready_s=ready,
            available=there["AvailableProvisionedConcurrentExecutions"], served=sum(a.kind is not None for a in answers),
            throttled=sum(a.version is None for a in answers), activities=[a["Description"] for a in reversed(activities)],
        )

    def remove(self):
        for what, remove in (
            ("the scalable target", lambda: self.scaling.deregister_scalable_target(**self.resource)),
            ("provisioned concurrency", lambda: self.client.delete_provisioned_concurrency_config(FunctionName=self.name, Qualifier="live")),
            ("the function", lambda: self.client.delete_function(FunctionName=self.name)),
        ):
            try:
                remove()
            except ClientError as error:
                if not re.search("NotFound", error.response["Error"]["Code"]):
                    say(f"{what} of {self.name} is still there: {error}")

    def run(self):
        try:
            self.make()
            self.bursts()
            self.refusals()
            stable, new = self.publish()
            if self.arguments.canary:
                self.canary(stable, new)
            if self.arguments.provisioned:
                self.provision(stable)
                if self.arguments.load:
                    self.scale()
        finally:
            self.remove()


def numbers(text):
    return [int(n) for n in text.split(",") if n]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--role", help="ARN of the function's role (default: a made-up one of the caller's account, which AWS refuses)")
    add("--runtime", default="python3.11")
    add("--bursts", type=numbers, default="10,100,500,1000", help="how many invocations at once, separated by commas")
    add(
        "--work", type=float, default=0.1,
        help="seconds that the function takes in a burst; what an invocation takes beyond that was added by platform, network and this program",
    )
    add("--reserved", type=int, default=5, help="reserved concurrency, of which twice as many are invoked; 0: leave it out")
    add("--canary", type=int, default=2000, help="invocations of an alias with two versions; 0: leave it out")
    add("--canary-at-once", type=int, default=16)
    add("--weight", type=float, default=0.1, help="the second version's share, 0 to 1")
    add("--provisioned", type=int, default=10, help="provisioned concurrency; 0: leave it and the load step out")
    add("--load", type=int, default=20, help="invocations under way in the load step; 0: leave it out")
    add("--max-capacity", type=int, default=50, help="MaxCapacity of the scalable target")
    add("--target", type=float, default=0.7, help="TargetValue of the scaling policy")
    add("--poll", type=float, default=0.1, help="seconds between looks at provisioned concurrency")
    add("--patience", type=float, default=900, help="seconds to wait for provisioned concurrency")
    Plane(parser.parse_args()).run()


if __name__ == "__main__":
    main()
