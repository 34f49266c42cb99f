"""One step of a session with boto3: the step comes as JSON on standard input, what boto3 made of the answer goes as JSON to
standard output. The endpoint and the credentials come from the environment, as for any program."""

import base64
import json
import os
import pathlib
import sys

import boto3

step = json.load(sys.stdin)
client = boto3.client("lambda", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
name = step["name"]


def described(f):
    return {"state": f["State"], "update": f.get("LastUpdateStatus", ""), "sha256": f["CodeSha256"]}


def package():
    return pathlib.Path(step["zip"]).read_bytes()


def create():
    return described(
        client.create_function(
            FunctionName=name,
            Runtime=step["runtime"],
            Handler=step["handler"],
            Role="arn:aws:iam::000000000000:role/clients",
            Code={"ZipFile": package()},
        )
    )


def active():
    client.get_waiter("function_active_v2").wait(FunctionName=name)
    return {}


def invoke():
    answer = client.invoke(FunctionName=name, Payload=step["event"], LogType="Tail")
    return {
        "status": answer["StatusCode"],
        "payload": answer["Payload"].read().decode(),
        "log": base64.b64decode(answer["LogResult"]).decode(),
        "executed": answer["ExecutedVersion"],
        "function_error": answer.get("FunctionError", ""),
    }


def update():
    return described(client.update_function_code(FunctionName=name, ZipFile=package()))


def updated():
    client.get_waiter("function_updated_v2").wait(FunctionName=name)
    return {}


def get():
    try:
        return described(client.get_function(FunctionName=name)["Configuration"])
    except client.exceptions.ResourceNotFoundException as error:
        return {"error": error.response["Error"]["Code"], "message": error.response["Error"]["Message"]}


def delete():
    return {"status": client.delete_function(FunctionName=name)["ResponseMetadata"]["HTTPStatusCode"]}


verbs = {f.__name__: f for f in (create, active, invoke, update, updated, get, delete)}
json.dump(verbs[step["verb"]](), sys.stdout)
