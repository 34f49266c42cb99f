#!/usr/bin/env python3
"""Writes the models that package awsapi embeds: one file for each of SERVICES.

Input: botocore's service-2.json.gz of these services, from the botocore that this Python imports. VERSION below is
the one that the committed files were made from; another is refused unless --any-version is given.

    python3 generate.py            # rewrite the files beside this script
    python3 generate.py --check    # exit 1 when a committed file differs from what would be written

What is kept of each model: every operation's name, method, URI and success status; for the operations that have a full
model (all of them, or those named in FULL), the shapes reached from their input and output; and the
wire form of every error. Documentation, examples and paginators are dropped.
"""
import argparse
import gzip
import json
import pathlib
import sys

import botocore

VERSION = "1.43.11"

SERVICES = {
    "lambda": "2015-03-31", "iam": "2010-05-08", "sts": "2011-06-15", "application-autoscaling": "2016-02-06",
    "sqs": "2012-11-05", "events": "2015-10-07", "scheduler": "2021-06-30", "monitoring": "2010-08-01",
    "logs": "2014-03-28",
}

# Operations whose shapes are kept. None stands for all.
FULL = {
    "lambda": None,
    "application-autoscaling": None,
    "sqs": None,
    "scheduler": None,
    "monitoring": None,
    "logs": {
        "CreateLogGroup", "CreateLogStream", "DeleteLogGroup", "DeleteLogStream", "DeleteMetricFilter",
        "DeleteQueryDefinition", "DeleteRetentionPolicy", "DeleteSubscriptionFilter", "DescribeLogGroups",
        "DescribeLogStreams", "DescribeMetricFilters", "DescribeQueries", "DescribeQueryDefinitions",
        "DescribeSubscriptionFilters", "FilterLogEvents", "GetLogEvents", "GetLogGroupFields", "GetLogRecord",
        "GetQueryResults", "ListLogGroups", "ListTagsForResource", "ListTagsLogGroup", "PutLogEvents",
        "PutLogGroupDeletionProtection", "PutMetricFilter", "PutQueryDefinition", "PutRetentionPolicy",
        "PutSubscriptionFilter", "StartLiveTail", "StartQuery", "StopQuery", "TagLogGroup", "TagResource",
        "TestMetricFilter", "UntagLogGroup", "UntagResource",
    },
    "events": {
        "DeleteRule", "DescribeRule", "DisableRule", "EnableRule", "ListRuleNamesByTarget", "ListRules",
        "ListTagsForResource", "ListTargetsByRule", "PutEvents", "PutRule", "PutTargets", "RemoveTargets", "TagResource",
        "TestEventPattern", "UntagResource",
    },
    "sts": {"AssumeRole", "GetCallerIdentity", "GetSessionToken"},
    "iam": {
        "AttachRolePolicy", "CreatePolicy", "CreateRole", "CreateServiceLinkedRole", "DeletePolicy", "DeleteRole",
        "DeleteRolePolicy", "DetachRolePolicy", "GetPolicy", "GetPolicyVersion", "GetRole", "GetRolePolicy", "GetUser",
        "ListAttachedRolePolicies", "ListInstanceProfilesForRole", "ListPolicies", "ListPolicyVersions",
        "ListRolePolicies", "ListRoleTags", "ListRoles", "PutRolePolicy", "TagRole", "UntagRole",
        "UpdateAssumeRolePolicy", "UpdateRole",
    },
}

# Operations that aws-sdk-go-v2 has and botocore lacks; their names and routes make the answer to them name them.
ADDED = {
    "lambda": {
        name: {"method": method, "uri": "/2026-07-09/resource-policy/{ResourceArn}", "status": status}
        for name, method, status in (
            ("DeleteResourcePolicy", "DELETE", 204),
            ("GetResourcePolicy", "GET", 200),
            ("PutResourcePolicy", "PUT", 200),
        )
    },
} | {
    service: {name: {"method": "POST", "uri": "/", "status": 200} for name in names.split()} for service, names in {
        "monitoring": "AssociateDatasetKmsKey CreateResourceMetricsConfiguration DeleteResourceMetricsConfiguration "
                      "DisassociateDatasetKmsKey GetDataset GetResourceMetricsConfiguration PutLogAlarm UpdateOTelEnrichment "
                      "UpdateResourceMetricsConfiguration",
        "logs": "DeleteSyslogConfiguration GetStorageTierPolicy ListSyslogConfigurations PutStorageTierPolicy "
                "PutSyslogConfiguration",
    }.items()
}

# Members that aws-sdk-go-v2 has and botocore lacks, of those that do not travel in the body: the codec finds the others.
ADDED_MEMBERS = {
    "GetDurableExecutionRequest": [
        {"name": "IncludeExecutionData", "shape": "IncludeExecutionData", "in": "query"},
    ],
}

# Services are named as Signature Version 4 signs for them; botocore and Smithy name these otherwise.
NAMES = {"monitoring": "cloudwatch"}

# What the codecs call the protocols that botocore names otherwise.
PROTOCOLS = {"smithy-rpc-v2-cbor": "cbor"}

# SQS speaks JSON and, as ever, the query protocol, of which botocore has dropped the names since. They are those of the
# Smithy model that aws-sdk-go-v2 is generated from (codegen/sdk-codegen/aws-models/sqs.json): the traits xmlNamespace,
# xmlName of members, of map keys and of map values, and awsQueryError. All lists and maps are flattened. CloudWatch, which
# has the query protocol too, has none of this: its names are the members' own, and its errors' codes are in the model.
QUERY_NAMESPACE = {"sqs": "http://queue.amazonaws.com/doc/2012-11-05/"}

QUERY_NAMES = {
    "AWSAccountIds": "AWSAccountId", "Actions": "ActionName", "AttributeNames": "AttributeName",
    "MessageSystemAttributeNames": "AttributeName", "MessageAttributeNames": "MessageAttributeName",
    "Attributes": "Attribute", "MessageAttributes": "MessageAttribute", "MessageSystemAttributes": "MessageSystemAttribute",
    "tags": "Tag", "Tags": "Tag", "TagKeys": "TagKey", "queueUrls": "QueueUrl", "QueueUrls": "QueueUrl",
    "Messages": "Message", "Results": "ListMessageMoveTasksResultEntry", "Failed": "BatchResultErrorEntry",
    "StringListValues": "StringListValue", "BinaryListValues": "BinaryListValue",
}

QUERY_KEYS = {"TagMap": "Key"}  # of maps; the others have Name

QUERY_ERRORS = {
    name: ("AWS.SimpleQueueService." + name, status) for name, status in (
        ("BatchEntryIdsNotDistinct", 400), ("BatchRequestTooLong", 400), ("EmptyBatchRequest", 400),
        ("InvalidBatchEntryId", 400), ("MessageNotInflight", 400), ("PurgeQueueInProgress", 403),
        ("QueueDeletedRecently", 400), ("TooManyEntriesInBatchRequest", 400), ("UnsupportedOperation", 400),
    )
} | {
    "QueueDoesNotExist": ("AWS.SimpleQueueService.NonExistentQueue", 400),
    "QueueNameExists": ("QueueAlreadyExists", 400),
    "InvalidAddress": ("InvalidAddress", 404), "InvalidSecurity": ("InvalidSecurity", 403),
    "OverLimit": ("OverLimit", 403), "ReceiptHandleIsInvalid": ("ReceiptHandleIsInvalid", 404),
    "RequestThrottled": ("RequestThrottled", 403), "ResourceNotFoundException": ("ResourceNotFoundException", 404),
    "KmsOptInRequired": ("KMS.OptInRequired", 403),
} | {
    "Kms" + name: ("KMS." + name + "Exception", 400)
    for name in ("AccessDenied", "Disabled", "InvalidKeyUsage", "InvalidState", "NotFound")
} | {"KmsThrottled": ("KMS.ThrottlingException", 400)}

CONSTRAINTS = ("min", "max", "pattern", "enum", "sensitive")
LOCATIONS = {"uri": "uri", "header": "header", "headers": "headers", "querystring": "query", "statusCode": "status"}


def compact_shape(name, shape, both):
    out = {"type": shape["type"]}
    out.update({key: shape[key] for key in CONSTRAINTS if key in shape})
    if shape["type"] == "structure":
        required = set(shape.get("required", ()))
        payload = shape.get("payload")
        for key in ("eventstream", "union"):
            if shape.get(key):
                out[key] = True
        out["members"] = members = []
        for member_name, member in shape["members"].items():
            entry = {"name": member_name, "shape": member["shape"]}
            if member_name == payload:
                entry["in"] = "payload"
            elif "location" in member:
                entry["in"] = LOCATIONS[member["location"]]
            if member.get("locationName", member_name) != member_name:
                entry["wire"] = member["locationName"]
            if both:
                entry.update(query_name(name, member_name))
            if member_name in required:
                entry["required"] = True
            members.append(entry)
        for entry in ADDED_MEMBERS.get(name, ()):
            if entry["name"] in shape["members"]:
                raise SystemExit(f"{name}.{entry['name']} is in botocore now; drop it from ADDED_MEMBERS")
            members.append(entry)
    elif shape["type"] == "list":
        out["member"] = compact_reference(shape["member"])
    elif shape["type"] == "map":
        out["key"] = compact_reference(shape["key"])
        out["value"] = compact_reference(shape["value"])
    if both and shape["type"] in ("list", "map"):
        out["flattened"] = True
    if both and shape["type"] == "map":
        out["key"]["wire"] = QUERY_KEYS.get(name, "Name")
        out["value"]["wire"] = "Value"
    for key in ("timestampFormat", "flattened", "xmlName"):
        if key in shape and not (both and key == "flattened"):
            raise SystemExit(f"{key}: the codecs know only the protocols' own forms")
    return out


def query_name(shape, member):
    """The member's name in the query protocol, where it is another than in JSON."""
    if member in ("Entries", "Successful"):
        # SendMessageBatchRequest.Entries is SendMessageBatchRequestEntry, SendMessageBatchResult's Successful are
        # SendMessageBatchResultEntry.
        return {"query": shape + "Entry"}
    return {"query": QUERY_NAMES[member]} if member in QUERY_NAMES else {}


def compact_reference(ref):
    out = {"shape": ref["shape"]}
    if "locationName" in ref:
        out["wire"] = ref["locationName"]
    return out


def references(shape):
    for member in shape.get("members", ()):
        yield member["shape"]
    for key in ("member", "key", "value"):
        if key in shape:
            yield shape[key]["shape"]


def compact(service):
    path = pathlib.Path(botocore.__file__).parent / "data" / NAMES.get(service, service) / SERVICES[service] / "service-2.json.gz"
    model = json.loads(gzip.decompress(path.read_bytes()))
    meta = model["metadata"]
    out = {
        "service": service,
        "version": meta["apiVersion"],
        "protocol": PROTOCOLS.get(meta["protocol"], meta["protocol"]),
        "namespace": meta.get("xmlNamespace", ""),
        "operations": {},
        "shapes": {},
        "errors": {},
    }
    if service in NAMES:
        out["smithy"] = NAMES[service]
    if "targetPrefix" in meta:
        out["target"] = meta["targetPrefix"]
        out["json"] = meta["jsonVersion"]
    if "awsQueryCompatible" in meta:
        out["queryCompatible"] = True
    both = service in QUERY_NAMESPACE
    if both:
        out["namespace"] = QUERY_NAMESPACE[service]
    wanted = []
    for name, op in sorted(model["operations"].items()):
        entry = {"method": op["http"]["method"], "uri": op["http"]["requestUri"]}
        entry["status"] = op["http"].get("responseCode", 200)
        if FULL[service] is None or name in FULL[service]:
            entry["full"] = True
            for side in ("input", "output"):
                if side in op:
                    entry[side] = op[side]["shape"]
                    wanted.append(op[side]["shape"])
        out["operations"][name] = entry
    missing = (FULL[service] or set()) - set(model["operations"])
    if missing:
        raise SystemExit(f"{service}: no such operations: {sorted(missing)}")
    for name, entry in ADDED.get(service, {}).items():
        if name in out["operations"]:
            raise SystemExit(f"{service}: {name} is in botocore now; drop it from ADDED")
        out["operations"][name] = entry
    while wanted:
        name = wanted.pop()
        if name not in out["shapes"]:
            out["shapes"][name] = compact_shape(name, model["shapes"][name], both)
            wanted.extend(references(out["shapes"][name]))
    for name, shape in model["shapes"].items():
        if shape.get("exception"):
            error = shape.get("error", {})
            message = next((m for m in shape["members"] if m.lower() == "message"), "")
            entry = {"status": error.get("httpStatusCode", 500 if shape.get("fault") else 400), "message": message}
            if "awsQueryCompatible" in meta and not message:
                entry["message"] = "message"  # the modeled error has no text; the answers have it all the same
            if error.get("code", name) != name:
                entry["code"] = error["code"]
            if both and name in QUERY_ERRORS:
                code, entry["status"] = QUERY_ERRORS[name]
                if code != name:
                    entry["code"] = code
            out["errors"][name] = entry
    for key in ("operations", "shapes", "errors"):
        out[key] = dict(sorted(out[key].items()))
    return render(out)


def render(model):
    """One line per operation, shape and error, so that an upgrade shows as a readable diff."""
    lines = []
    for key, value in model.items():
        if isinstance(value, dict):
            inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in value.items())
            lines.append(f"{json.dumps(key)}: {{\n{inner}\n}}")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("--any-version", action="store_true", help="accept another botocore than " + VERSION)
    args = parser.parse_args()
    if botocore.__version__ != VERSION and not args.any_version:
        raise SystemExit(f"botocore {botocore.__version__} found, {VERSION} wanted: pip install botocore=={VERSION}")
    differ = False
    for service in SERVICES:
        path = pathlib.Path(__file__).parent / f"{service}.json"
        text = compact(service)
        if not args.check:
            path.write_text(text)
        elif path.read_text() != text:
            differ = True
            print(f"{path.name} differs from what botocore {botocore.__version__} gives", file=sys.stderr)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
