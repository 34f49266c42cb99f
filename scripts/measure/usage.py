#!/usr/bin/env python3
"""Measures and analyses a function as the usual programs about cold starts do, with boto3 alone against Lambda, CloudWatch and
SQS: it invokes the function, reads the REPORT lines of its log, puts what it found into CloudWatch as metrics of its own, asks
CloudWatch how the function was used, and decides by that and by a queue's depth whether warming is called for. Whose platform it
is, boto3's own settings decide (AWS_ENDPOINT_URL, region, credentials).

Each line of the output is one finding in JSON. Nothing is made but the metrics."""

import argparse
import base64
import datetime
import json
import re
import statistics
import sys
import time

import boto3

NAMESPACE = "Lambda/ColdStarts"
REPORT = re.compile(r"(Init Duration|Restore Duration|(?<!Billed )(?<!Init )(?<!Restore )Duration|Billed Duration|Max Memory Used): ([0-9.]+)")


def tell(kind, **found):
    print(json.dumps({"kind": kind, **found}), flush=True)


def now():
    return datetime.datetime.now(datetime.timezone.utc)


class Usage:
    def __init__(self, function, period):
        self.function, self.period = function, period
        self.lambda_client = boto3.client("lambda")
        self.cloudwatch = boto3.client("cloudwatch")
        self.sqs = boto3.client("sqs")
        self.dimensions = [{"Name": "FunctionName", "Value": function}]

    def measure(self, count):
        """Invokes one after the other; what the log's tail says of each."""
        calls = []
        for i in range(count):
            began = time.monotonic()
            answer = self.lambda_client.invoke(FunctionName=self.function, Payload=json.dumps({"n": i}), LogType="Tail")
            took = (time.monotonic() - began) * 1000
            report = dict(REPORT.findall(base64.b64decode(answer["LogResult"]).decode()))
            calls.append({"took": took, "error": "FunctionError" in answer, **{k: float(v) for k, v in report.items()}})
        cold = [c["Init Duration"] for c in calls if "Init Duration" in c]
        tell("invocations", count=count, errors=sum(c["error"] for c in calls), cold=len(cold), init_ms=cold,
             duration_ms=statistics.median(c["Duration"] for c in calls), billed_ms=sum(c["Billed Duration"] for c in calls),
             end_to_end_ms=statistics.median(c["took"] for c in calls))
        return calls

    def put(self, calls):
        data = [{"MetricName": "EndToEnd", "Unit": "Milliseconds", "Dimensions": self.dimensions, "Value": c["took"]} for c in calls]
        data.append({"MetricName": "Duration", "Unit": "Milliseconds", "Dimensions": self.dimensions, "Values": [c["Duration"] for c in calls],
                     "Counts": [1.0] * len(calls)})
        data.append({"MetricName": "Batch", "Unit": "Count", "Dimensions": self.dimensions, "Timestamp": now(),
                     "StatisticValues": {"SampleCount": len(calls), "Sum": sum(c["took"] for c in calls),
                                         "Minimum": min(c["took"] for c in calls), "Maximum": max(c["took"] for c in calls)}})
        self.cloudwatch.put_metric_data(Namespace=NAMESPACE, MetricData=data)

    def statistics(self, metric, names, namespace="AWS/Lambda"):
        end = now() + datetime.timedelta(minutes=1)
        answer = self.cloudwatch.get_metric_statistics(
            Namespace=namespace, MetricName=metric, Dimensions=self.dimensions, StartTime=end - datetime.timedelta(hours=3), EndTime=end,
            Period=self.period, Statistics=names)
        return sorted(answer["Datapoints"], key=lambda p: p["Timestamp"])

    def wait_for(self, metric, count, namespace="AWS/Lambda", patience=60):
        """Metrics come a little later than the invocations that they are about."""
        until = time.monotonic() + patience
        while True:
            points = self.statistics(metric, ["Sum", "SampleCount", "Average", "Minimum", "Maximum"], namespace)
            if sum(p["SampleCount"] for p in points) >= count or time.monotonic() > until:
                return points
            time.sleep(0.2)

    def analyse(self, count):
        invocations = self.wait_for("Invocations", count)
        hours = {}
        for p in invocations:
            hours.setdefault(p["Timestamp"].hour, []).append(p["Sum"])
        tell("usage", invocations=sum(p["Sum"] for p in invocations), errors=sum(p["Sum"] for p in self.statistics("Errors", ["Sum"])),
             throttles=sum(p["Sum"] for p in self.statistics("Throttles", ["Sum"])), busiest=max(hours, key=lambda h: sum(hours[h]), default=None))
        end = now() + datetime.timedelta(minutes=1)
        found = self.cloudwatch.get_metric_data(
            StartTime=end - datetime.timedelta(hours=3), EndTime=end, MetricDataQueries=[
                {"Id": "p50", "MetricStat": {"Metric": {"Namespace": "AWS/Lambda", "MetricName": "Duration", "Dimensions": self.dimensions}, "Period": 10800, "Stat": "p50"}},
                {"Id": "p99", "MetricStat": {"Metric": {"Namespace": "AWS/Lambda", "MetricName": "Duration", "Dimensions": self.dimensions}, "Period": 10800, "Stat": "p99"}},
                {"Id": "n", "ReturnData": False, "MetricStat": {"Metric": {"Namespace": "AWS/Lambda", "MetricName": "Invocations", "Dimensions": self.dimensions}, "Period": 10800, "Stat": "Sum"}},
                {"Id": "e", "ReturnData": False, "MetricStat": {"Metric": {"Namespace": "AWS/Lambda", "MetricName": "Errors", "Dimensions": self.dimensions}, "Period": 10800, "Stat": "Sum"}},
                {"Id": "rate", "Expression": "100*e/n", "Label": "error rate"},
            ])
        tell("percentiles", **{r["Id"]: r["Values"] for r in found["MetricDataResults"]})
        own = self.wait_for("EndToEnd", count, NAMESPACE)
        listed = [m["MetricName"] for page in self.cloudwatch.get_paginator("list_metrics").paginate(Namespace=NAMESPACE, Dimensions=self.dimensions) for m in page["Metrics"]]
        tell("own", samples=sum(p["SampleCount"] for p in own), least=min((p["Minimum"] for p in own), default=None),
             most=max((p["Maximum"] for p in own), default=None), metrics=sorted(listed))

    def wanted(self, prefix):
        """Whether to warm: by what waits in a queue, or by what was done in the last ten minutes."""
        for url in self.sqs.list_queues(QueueNamePrefix=prefix).get("QueueUrls", [])[:1]:
            depth = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
            waiting = int(depth["Attributes"]["ApproximateNumberOfMessages"])
            tell("warming", queue=url.rsplit("/", 1)[1], waiting=waiting, wanted=waiting > 0)
            return
        recent = sum(p["Sum"] for p in self.statistics("Invocations", ["Sum"]))
        tell("warming", recent=recent, wanted=recent > 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split(".")[0])
    parser.add_argument("function")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--period", type=int, default=3600, help="of the statistics, seconds")
    parser.add_argument("--queue", default="processing-queue", help="what the name of the function's queue begins with")
    a = parser.parse_args()
    usage = Usage(a.function, a.period)
    calls = usage.measure(a.count)
    usage.put(calls)
    usage.analyse(a.count)
    usage.wanted(a.queue)


if __name__ == "__main__":
    sys.exit(main())
