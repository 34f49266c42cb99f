"""Makes the usual three alarms of a Lambda function, slow starts, errors and timeouts, as people do it on AWS, waits until they have
been evaluated on real calls, and prints each one's state as a line of JSON."""

import json
import sys
import time

import boto3


class PerformanceAlarms:
    def __init__(self, function, actions, region="us-east-1"):
        self.function = function
        self.actions = actions
        self.cloudwatch = boto3.client("cloudwatch", region_name=region)
        self.client = boto3.client("lambda", region_name=region)

    def put(self, name, **settings):
        self.cloudwatch.put_metric_alarm(
            AlarmName=f"{self.function}-{name}",
            EvaluationPeriods=1,
            TreatMissingData="notBreaching",
            ActionsEnabled=True,
            AlarmActions=self.actions,
            **settings,
        )

    def stat(self, id, metric):
        return {
            "Id": id,
            "ReturnData": False,
            "MetricStat": {
                "Metric": {
                    "Namespace": "AWS/Lambda",
                    "MetricName": metric,
                    "Dimensions": [{"Name": "FunctionName", "Value": self.function}],
                },
                "Period": 60,
                "Stat": "Sum",
            },
        }

    def create(self):
        dimensions = [{"Name": "FunctionName", "Value": self.function}]
        timeout = self.client.get_function_configuration(FunctionName=self.function)["Timeout"]
        self.put(
            "ColdStart",
            AlarmDescription="Duration above 500 ms",
            MetricName="Duration",
            Namespace="AWS/Lambda",
            Statistic="Maximum",
            Dimensions=dimensions,
            Period=60,
            Threshold=500,
            ComparisonOperator="GreaterThanThreshold",
        )
        self.put(
            "ErrorRate",
            AlarmDescription="More than 1 % of the calls fail",
            Metrics=[
                self.stat("errors", "Errors"),
                self.stat("invocations", "Invocations"),
                {"Id": "rate", "Expression": "errors / invocations * 100", "Label": "Error rate"},
            ],
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
        )
        self.put(
            "Timeout",
            AlarmDescription="A call takes nearly as long as it may",
            MetricName="Duration",
            Namespace="AWS/Lambda",
            ExtendedStatistic="p99",
            Dimensions=dimensions,
            Period=60,
            Threshold=timeout * 1000 * 0.9,
            ComparisonOperator="GreaterThanOrEqualToThreshold",
            Unit="Milliseconds",
        )

    def states(self):
        pages = self.cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix=self.function + "-")
        return {a["AlarmName"]: a for page in pages for a in page["MetricAlarms"]}

    def wait(self, name, state, patience=180):
        end = time.time() + patience
        while time.time() < end:
            if self.states()[f"{self.function}-{name}"]["StateValue"] == state:
                return
            time.sleep(1)
        sys.exit(f"{name} is not {state}: {self.states()}")


def main():
    alarms = PerformanceAlarms(sys.argv[1], sys.argv[2:])
    alarms.create()
    for i in range(20):
        alarms.client.invoke(FunctionName=alarms.function, Payload=json.dumps({"fail": i % 4 == 0}))
    alarms.wait("ErrorRate", "ALARM")
    alarms.wait("Timeout", "OK")
    for name, alarm in sorted(alarms.states().items()):
        history = alarms.cloudwatch.describe_alarm_history(AlarmName=name, HistoryItemType="StateUpdate")
        print(json.dumps({
            "name": name,
            "state": alarm["StateValue"],
            "reason": alarm["StateReason"],
            "transitions": [item["HistorySummary"] for item in history["AlarmHistoryItems"]],
        }))


if __name__ == "__main__":
    main()
