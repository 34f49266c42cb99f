"""A user's session with versions, aliases and concurrency, with boto3 against the endpoint in argv[1]; argv[2] is a package."""

import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError

endpoint, package = sys.argv[1:]
zip_bytes = open(package, "rb").read()
client = boto3.client("lambda", endpoint_url=endpoint, config=Config(retries={"max_attempts": 0}))
fast = {"Delay": 0.01, "MaxAttempts": 1000}
name = {"FunctionName": "versioned"}


def fails(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error.response
        return error.response["Error"]["Message"]
    raise AssertionError(f"{code} expected")


def status(call, **arguments):
    return call(**arguments)["ResponseMetadata"]["HTTPStatusCode"]


made = client.create_function(
    **name, Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/made-up",
    Code={"ZipFile": zip_bytes}, Publish=True, SnapStart={"ApplyOn": "PublishedVersions"},
)
arn = made["FunctionArn"]
assert made["Version"] == "1" and made["ResponseMetadata"]["HTTPStatusCode"] == 201, made
client.get_waiter("published_version_active").wait(**name, Qualifier="1", WaiterConfig=fast)
client.get_waiter("function_active_v2").wait(**name, WaiterConfig=fast)
one = client.get_function(**name, Qualifier="1")["Configuration"]
assert one["FunctionArn"] == arn + ":1" and one["SnapStart"]["OptimizationStatus"] == "On", one
latest = client.get_function_configuration(**name)
assert latest["SnapStart"]["OptimizationStatus"] == "Off" and latest["CodeSha256"] == one["CodeSha256"], latest

again = client.publish_version(**name)
assert again["Version"] == "1" and again["RevisionId"] == one["RevisionId"], again
client.update_function_configuration(**name, Environment={"Variables": {"STAGE": "two"}})
client.get_waiter("function_updated_v2").wait(**name, WaiterConfig=fast)
fails("PreconditionFailedException", client.publish_version, **name, RevisionId=latest["RevisionId"])
fails("InvalidParameterValueException", client.publish_version, **name, CodeSha256="other")
two = client.publish_version(**name, Description="two", CodeSha256=latest["CodeSha256"])
assert two["Version"] == "2" and two["State"] == "Pending" and "LastUpdateStatus" not in two, two
client.get_waiter("published_version_active").wait(**name, Qualifier="2", WaiterConfig=fast)
client.update_function_configuration(**name, Description="fail")
try:
    client.get_waiter("function_updated_v2").wait(**name, WaiterConfig=fast)
    raise AssertionError("a failed update ended well")
except WaiterError:
    pass
client.update_function_configuration(**name, Description="mended")
client.get_waiter("function_updated_v2").wait(**name, WaiterConfig=fast)
published = client.update_function_code(**name, ZipFile=zip_bytes, Publish=True)
assert published["Version"] == "3" and published["FunctionArn"] == arn + ":3", published
client.get_waiter("function_updated_v2").wait(**name, WaiterConfig=fast)
listed = [v for page in client.get_paginator("list_versions_by_function").paginate(**name, PaginationConfig={"PageSize": 1}) for v in page["Versions"]]
assert [v["Version"] for v in listed] == ["$LATEST", "1", "2", "3"] and "State" not in listed[1], listed
assert "Environment" not in listed[1] and listed[2]["Environment"]["Variables"] == {"STAGE": "two"}, listed
assert [f["Version"] for page in client.get_paginator("list_functions").paginate(FunctionVersion="ALL") for f in page["Functions"] if f["FunctionName"] == "versioned"] == ["$LATEST", "1", "2", "3"]

live = client.create_alias(**name, Name="live", FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"2": 0.1}})
assert live["AliasArn"] == arn + ":live" and live["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.1}}, live
fails("ResourceConflictException", client.create_alias, **name, Name="live", FunctionVersion="1")
moved = client.update_alias(**name, Name="live", FunctionVersion="2", RoutingConfig={"AdditionalVersionWeights": {}}, RevisionId=live["RevisionId"])
assert "RoutingConfig" not in moved and moved["RevisionId"] != live["RevisionId"], moved
fails("PreconditionFailedException", client.update_alias, **name, Name="live", RevisionId=live["RevisionId"])
assert client.get_alias(**name, Name="live")["FunctionVersion"] == "2"
assert [a["Name"] for a in client.list_aliases(**name, FunctionVersion="2")["Aliases"]] == ["live"]
assert client.get_function(FunctionName=arn + ":live")["Configuration"]["Version"] == "2"
assert "[live]" in fails("ResourceConflictException", client.delete_function, **name, Qualifier="2")
client.add_permission(**name, Qualifier="live", StatementId="s", Action="lambda:InvokeFunction", Principal="events.amazonaws.com")
assert arn + ":live" in client.get_policy(**name, Qualifier="live")["Policy"]

assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(**name)
client.put_function_concurrency(**name, ReservedConcurrentExecutions=10)
assert client.get_function(**name)["Concurrency"] == {"ReservedConcurrentExecutions": 10}
assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 990
fails("InvalidParameterValueException", client.put_function_concurrency, **name, ReservedConcurrentExecutions=901)
provisioned = client.put_provisioned_concurrency_config(**name, Qualifier="live", ProvisionedConcurrentExecutions=4)
assert provisioned["Status"] == "IN_PROGRESS" and provisioned["ResponseMetadata"]["HTTPStatusCode"] == 202, provisioned
fails("ResourceConflictException", client.put_provisioned_concurrency_config, **name, Qualifier="2", ProvisionedConcurrentExecutions=1)
fails("InvalidParameterValueException", client.put_provisioned_concurrency_config, **name, Qualifier="$LATEST", ProvisionedConcurrentExecutions=1)
try:
    client.get_provisioned_concurrency_config(**name, Qualifier="1")
    raise AssertionError("a version has what it was not given")
except client.exceptions.ProvisionedConcurrencyConfigNotFoundException as error:
    assert error.response["Error"]["Message"] == "No Provisioned Concurrency Config found for this function", error.response
assert client.get_provisioned_concurrency_config(**name, Qualifier="live")["RequestedProvisionedConcurrentExecutions"] == 4
configs = client.list_provisioned_concurrency_configs(**name)["ProvisionedConcurrencyConfigs"]
assert [c["FunctionArn"] for c in configs] == [arn + ":live"], configs

client.put_function_event_invoke_config(**name, Qualifier="live", MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:000000000000:failed"}})
updated = client.update_function_event_invoke_config(**name, Qualifier="live", MaximumEventAgeInSeconds=60)
assert updated["MaximumRetryAttempts"] == 0 and updated["MaximumEventAgeInSeconds"] == 60 and updated["LastModified"].year > 2000, updated
assert len(client.list_function_event_invoke_configs(**name)["FunctionEventInvokeConfigs"]) == 1
fails("ResourceNotFoundException", client.get_function_event_invoke_config, **name)
assert status(client.delete_function_event_invoke_config, **name, Qualifier="live") == 204

assert client.get_function_recursion_config(**name)["RecursiveLoop"] == "Terminate"
assert client.put_function_recursion_config(**name, RecursiveLoop="Allow")["RecursiveLoop"] == "Allow"
in_use = latest["RuntimeVersionConfig"]["RuntimeVersionArn"]
client.put_runtime_management_config(**name, UpdateRuntimeOn="Manual", RuntimeVersionArn=in_use)
assert client.get_runtime_management_config(**name)["RuntimeVersionArn"] == in_use
assert "RuntimeVersionArn" not in client.get_runtime_management_config(**name, Qualifier="1")

assert status(client.delete_alias, **name, Name="live") == 204
fails("ResourceNotFoundException", client.get_provisioned_concurrency_config, **name, Qualifier="live")
fails("ResourceNotFoundException", client.get_policy, **name, Qualifier="live")
assert status(client.delete_function_concurrency, **name) == 204
client.delete_function(**name, Qualifier="2")
fails("ResourceNotFoundException", client.get_function, **name, Qualifier="2")
client.delete_function(**name)
fails("ResourceNotFoundException", client.list_aliases, **name)
