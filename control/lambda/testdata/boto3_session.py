"""A user's session with boto3 against the endpoint in argv[1], deploying the package in argv[2]."""

import sys
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError

endpoint, package = sys.argv[1:]
zip_bytes = open(package, "rb").read()
client = boto3.client("lambda", endpoint_url=endpoint, config=Config(retries={"max_attempts": 0}))
role = "arn:aws:iam::000000000000:role/made-up"
fast = {"Delay": 0.01, "MaxAttempts": 1000}


def fails(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error.response
        return error.response
    raise AssertionError(f"{code} expected")


def create(name, **more):
    return client.create_function(
        FunctionName=name, Runtime="python3.11", Handler="app.handler", Role=role, Code={"ZipFile": zip_bytes}, **more
    )


made = create("hello", Environment={"Variables": {"KEY": "välue"}}, Tags={"team": "ä"})
assert made["ResponseMetadata"]["HTTPStatusCode"] == 201 and made["State"] == "Pending", made
assert "LastUpdateStatus" not in made, made
client.get_waiter("function_exists").wait(FunctionName="hello", WaiterConfig=fast)
client.get_waiter("function_active").wait(FunctionName="hello", WaiterConfig=fast)
client.get_waiter("function_active_v2").wait(FunctionName="hello", WaiterConfig=fast)
got = client.get_function(FunctionName=made["FunctionArn"], Qualifier="$LATEST")
assert got["Tags"] == {"team": "ä"} and got["Configuration"]["Environment"] == {"Variables": {"KEY": "välue"}}, got
assert got["Configuration"]["RevisionId"] != made["RevisionId"]
assert urllib.request.urlopen(got["Code"]["Location"]).read() == zip_bytes

answer = fails("ResourceConflictException", create, name="hello")
assert answer["Error"]["Message"] == "Function already exist: hello" and answer["Type"] == "User", answer
client.update_function_code(FunctionName="hello", ZipFile=zip_bytes)
client.get_waiter("function_updated").wait(FunctionName="hello", WaiterConfig=fast)
client.update_function_configuration(FunctionName="hello", Timeout=20, VpcConfig={"SubnetIds": [], "SecurityGroupIds": []})
client.get_waiter("function_updated_v2").wait(FunctionName="hello", WaiterConfig=fast)
assert client.get_function_configuration(FunctionName="hello")["Timeout"] == 20

create("broken", Description="fail")
try:
    client.get_waiter("function_active_v2").wait(FunctionName="broken", WaiterConfig=fast)
    raise AssertionError("a failed function became active")
except WaiterError as error:
    assert error.last_response["Configuration"]["StateReason"] == "init failed", error.last_response
client.update_function_configuration(FunctionName="broken", Description="mended")
client.get_waiter("function_active_v2").wait(FunctionName="broken", WaiterConfig=fast)

for i in range(60):
    create(f"many-{i}")
names = [f["FunctionName"] for page in client.get_paginator("list_functions").paginate() for f in page["Functions"]]
assert len(names) == 62, len(names)

arn = made["FunctionArn"]
client.tag_resource(Resource=arn, Tags={"a": "1"})
client.untag_resource(Resource=arn, TagKeys=["team"])
assert client.list_tags(Resource=arn)["Tags"] == {"a": "1"}
client.add_permission(FunctionName="hello", StatementId="s", Action="lambda:InvokeFunction", Principal="events.amazonaws.com")
assert '"Sid":"s"' in client.get_policy(FunctionName="hello")["Policy"]
client.remove_permission(FunctionName="hello", StatementId="s")
fails("ResourceNotFoundException", client.get_policy, FunctionName="hello")
assert client.get_account_settings()["AccountUsage"]["FunctionCount"] == 62

fails("InvalidParameterValueException", client.update_function_code, FunctionName="hello", S3Bucket="bucket", S3Key="key")
fails("InvalidParameterValueException", client.update_function_code, FunctionName="hello", ZipFile=b"")
fails("ValidationException", create, name="with space")
big = fails("RequestEntityTooLargeException", client.update_function_code, FunctionName="hello", ZipFile=b"x" * 52_428_801)
assert big["ResponseMetadata"]["HTTPStatusCode"] == 413, big
assert client.delete_function(FunctionName="hello")["StatusCode"] == 200
fails("ResourceNotFoundException", client.delete_function, FunctionName="hello")
