"""Measures a function's cold and warm starts from the outside, as people do it on AWS: a changed environment variable forces a
new environment, the log's tail says what the start cost."""

import base64
import concurrent.futures
import json
import re
import statistics
import sys
import time

import boto3

INIT = re.compile(r"\tInit Duration: ([\d.]+) ms\t")
DURATION = re.compile(r"\tDuration: ([\d.]+) ms\t")


class Measurement:
    def __init__(self, function, region="us-east-1"):
        self.function = function
        self.client = boto3.client("lambda", region_name=region)
        # Made by programs that publish what they measured; making it must not fail where nobody asks it anything.
        self.metrics = boto3.client("cloudwatch", region_name=region)

    def invoke(self):
        begin = time.perf_counter()
        answer = self.client.invoke(FunctionName=self.function, Payload="{}", LogType="Tail")
        took = (time.perf_counter() - begin) * 1000
        log = base64.b64decode(answer["LogResult"]).decode()
        init = INIT.search(log)
        return {
            "took": took,
            "status": answer["StatusCode"],
            "error": answer.get("FunctionError"),
            "forced": json.load(answer["Payload"]),
            "duration": float(DURATION.search(log).group(1)),
            "init": float(init.group(1)) if init else None,
        }

    def cold(self, times):
        for _ in range(times):
            forced = str(time.time_ns())
            self.client.update_function_configuration(
                FunctionName=self.function, Environment={"Variables": {"FORCE_COLD_START": forced}}
            )
            self.client.get_waiter("function_updated_v2").wait(FunctionName=self.function)
            result = self.invoke()
            assert result["forced"] == forced, f"an environment with the old configuration answered: {result}"
            yield result

    def warm(self, times, at_once):
        self.invoke()
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            yield from (f.result() for f in [pool.submit(self.invoke) for _ in range(times)])


def summary(kind, results):
    took = sorted(r["took"] for r in results)
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return {
        "kind": kind,
        "count": len(took),
        "ok": sum(r["status"] == 200 and r["error"] is None for r in results),
        "with_init": sum(r["init"] is not None for r in results),
        "mean": statistics.mean(took),
        "median": statistics.median(took),
        "min": took[0],
        "max": took[-1],
        "deviation": statistics.stdev(took),
        "p95": cuts[94],
        "p99": cuts[98],
    }


if __name__ == "__main__":
    measurement = Measurement(sys.argv[1])
    for line in (summary("cold", list(measurement.cold(4))), summary("warm", list(measurement.warm(60, 10)))):
        print(json.dumps(line))
