import json
import time


def handler(event, context):
    began = time.time()
    for body in [json.loads(r["body"]) for r in event["Records"]] if "Records" in event else [event]:
        if "n" in body:
            print(json.dumps({"run": body["run"], "n": body["n"], "ms": (began - body["sent"]) * 1000}))
