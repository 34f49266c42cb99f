"""What programs written with boto3 rely on: the types and fields of errors, paging, tags, policies, identity, roles, packages and
the Invoke call. The platform allows CONCURRENCY invocations at the same time."""

import base64
import concurrent.futures
import hashlib
import io
import json
import os
import re
import unittest
import urllib.error
import urllib.request
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ParamValidationError, WaiterError

CONCURRENCY = int(os.environ["CONCURRENCY"])
ACCOUNT = "000000000000"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/clients"
ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:"
SOURCE = """
import time

def handler(event, context):
    time.sleep(event.get("hold", 0))
    if "raise" in event:
        raise ValueError(event["raise"])
    client = context.client_context
    return {
        "event": event,
        "client": client and {"title": client.client.app_title, "custom": client.custom, "env": client.env},
        "arn": context.invoked_function_arn,
        "request": context.aws_request_id,
    }
"""


def connect(service):
    # Clients that retry would hide what is answered.
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=2 * CONCURRENCY, read_timeout=60)
    return boto3.client(service, endpoint_url=os.environ["AWS_ENDPOINT_URL"], config=config)


def package(source=SOURCE):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as z:
        info = zipfile.ZipInfo("app.py")
        info.external_attr = 0o644 << 16
        z.writestr(info, source)
    return buffer.getvalue()


aws = connect("lambda")


def create(name, **more):
    settings = {"Runtime": "python3.11", "Handler": "app.handler", "Role": ROLE, "Code": {"ZipFile": package()}, "Timeout": 30}
    return aws.create_function(FunctionName=name, **{**settings, **more})


class Case(unittest.TestCase):
    maxDiff = None

    def refused(self, code, status, message, call, *args, **kwargs):
        """The call is refused with exactly this, in the form that programs take apart."""
        with self.assertRaises(ClientError) as caught:
            call(*args, **kwargs)
        response = caught.exception.response
        self.assertEqual((response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]), (code, status), response)
        if isinstance(message, str):
            self.assertEqual(response["Error"]["Message"], message)
        else:
            self.assertRegex(response["Error"]["Message"], message)
        self.assertRegex(response["ResponseMetadata"]["RequestId"], r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
        self.assertIn(f"An error occurred ({code}) when calling the ", str(caught.exception))
        return caught.exception


class Lambda(Case):
    name = "api"

    @classmethod
    def setUpClass(cls):
        create(cls.name)
        aws.get_waiter("function_active_v2").wait(FunctionName=cls.name)

    @classmethod
    def tearDownClass(cls):
        aws.delete_function(FunctionName=cls.name)

    def test_not_found(self):
        missing = f"Function not found: {ARN}nobody"
        for call, arguments in (
            (aws.get_function, {}),
            (aws.get_function_configuration, {}),
            (aws.invoke, {}),
            (aws.update_function_code, {"ZipFile": package()}),
            (aws.update_function_configuration, {"Timeout": 5}),
            (aws.delete_function, {}),
        ):
            error = self.refused("ResourceNotFoundException", 404, missing, call, FunctionName="nobody", **arguments)
            self.assertIsInstance(error, aws.exceptions.ResourceNotFoundException)
            self.assertEqual(error.response["Type"], "User")
        with self.assertRaises(WaiterError):
            aws.get_waiter("function_exists").wait(FunctionName="nobody", WaiterConfig={"Delay": 0, "MaxAttempts": 2})

    def test_conflict(self):
        error = self.refused("ResourceConflictException", 409, f"Function already exist: {self.name}", create, self.name)
        self.assertIsInstance(error, aws.exceptions.ResourceConflictException)
        self.assertEqual(error.response["Type"], "User")

    def test_invalid_values(self):
        invalid = aws.exceptions.InvalidParameterValueException
        for pattern, more in (
            (r"^Could not unzip uploaded file\. Please check your file, then try to upload again\.$", {"Code": {"ZipFile": b"no zip"}}),
            (r"^Value python1\.0 at 'runtime' failed to satisfy constraint: ", {"Runtime": "python1.0"}),
            (r"AWS_LAMBDA_FUNCTION_NAME", {"Environment": {"Variables": {"AWS_LAMBDA_FUNCTION_NAME": "mine"}}}),
            (r"4KB|4 KB|4096", {"Environment": {"Variables": {"LONG": "x" * 5000}}}),
        ):
            error = self.refused("InvalidParameterValueException", 400, re.compile(pattern), create, "invalid", **more)
            self.assertIsInstance(error, invalid)
        self.refused("ValidationException", 400, re.compile(r"^1 validation error detected: Value '1000' at 'timeout'"), create, "invalid", Timeout=1000)
        self.refused("ValidationException", 400, re.compile(r"^1 validation error detected: Value 'no spaces' at 'functionName'"), create, "no spaces")
        with self.assertRaises(ParamValidationError):
            create("invalid", Timeout="long")
        self.assertNotIn("invalid", [f["FunctionName"] for f in aws.list_functions()["Functions"]])

    def test_precondition(self):
        error = self.refused(
            "PreconditionFailedException", 412, re.compile(r"^The Revision"), aws.update_function_configuration,
            FunctionName=self.name, Timeout=30, RevisionId="00000000-0000-0000-0000-000000000000",
        )
        self.assertIsInstance(error, aws.exceptions.PreconditionFailedException)

    def test_too_large(self):
        error = self.refused(
            "RequestTooLargeException", 413, re.compile(r"payload is too large for the RequestResponse invocation type \(limit 6291456 bytes\)$"),
            aws.invoke, FunctionName=self.name, Payload=json.dumps("x" * 6_291_556),
        )
        self.assertIsInstance(error, aws.exceptions.RequestTooLargeException)

    def test_not_json(self):
        error = self.refused(
            "InvalidRequestContentException", 400, re.compile(r"^Could not parse request body into json: "),
            aws.invoke, FunctionName=self.name, Payload=b"{not json",
        )
        self.assertIsInstance(error, aws.exceptions.InvalidRequestContentException)

    def test_not_there_yet(self):
        self.refused("NotImplementedException", 501, re.compile("CreateFunctionUrlConfig"), aws.create_function_url_config, FunctionName=self.name, AuthType="NONE")

    def test_too_many(self):
        calls = 2 * CONCURRENCY

        def hold(_):
            try:
                return aws.invoke(FunctionName=self.name, Payload=json.dumps({"hold": 3}))["StatusCode"]
            except aws.exceptions.TooManyRequestsException as error:
                return error.response

        with concurrent.futures.ThreadPoolExecutor(calls) as pool:
            answers = list(pool.map(hold, range(calls)))
        refused = [a for a in answers if a != 200]
        self.assertGreaterEqual(answers.count(200), CONCURRENCY)
        self.assertTrue(refused, f"{calls} calls at the same time, and none was refused")
        for response in refused:
            self.assertEqual(response["Error"], {"Message": "Rate Exceeded.", "Code": "TooManyRequestsException"})
            self.assertEqual(response["Reason"], "ConcurrentInvocationLimitExceeded")
            self.assertEqual(response["ResponseMetadata"]["HTTPStatusCode"], 429)
            self.assertIn("retry-after", response["ResponseMetadata"]["HTTPHeaders"])

    def test_invoke(self):
        answer = aws.invoke(FunctionName=self.name, Payload=json.dumps({"n": [1, None, "ü"]}))
        body = json.load(answer["Payload"])
        self.assertEqual((answer["StatusCode"], answer["ExecutedVersion"]), (200, "$LATEST"))
        self.assertNotIn("LogResult", answer)
        self.assertNotIn("FunctionError", answer)
        request = answer["ResponseMetadata"]["RequestId"]
        self.assertEqual(body, {"event": {"n": [1, None, "ü"]}, "client": None, "arn": ARN + self.name, "request": request})
        for name in (ARN + self.name, f"{ACCOUNT}:function:{self.name}", f"{self.name}:$LATEST"):
            self.assertEqual(json.load(aws.invoke(FunctionName=name)["Payload"])["event"], {}, name)

    def test_function_error(self):
        answer = aws.invoke(FunctionName=self.name, Payload=json.dumps({"raise": "no tea"}), LogType="Tail")
        self.assertEqual((answer["StatusCode"], answer["FunctionError"]), (200, "Unhandled"))
        request = answer["ResponseMetadata"]["RequestId"]
        body = json.load(answer["Payload"])
        self.assertEqual(
            body,
            {
                "errorMessage": "no tea",
                "errorType": "ValueError",
                "requestId": request,
                "stackTrace": ['  File "/var/task/app.py", line 7, in handler\n    raise ValueError(event["raise"])\n'],
            },
        )
        log = base64.b64decode(answer["LogResult"]).decode()
        self.assertIn("[ERROR] ValueError: no tea\nTraceback (most recent call last):\n", log)

    def test_dry_run(self):
        answer = aws.invoke(FunctionName=self.name, InvocationType="DryRun")
        self.assertEqual((answer["StatusCode"], answer["Payload"].read()), (204, b""))

    def test_client_context(self):
        context = {"client": {"app_title": "shop"}, "custom": {"table": "7"}, "env": {"locale": "de"}}
        encoded = base64.b64encode(json.dumps(context).encode()).decode()
        body = json.load(aws.invoke(FunctionName=self.name, ClientContext=encoded)["Payload"])
        self.assertEqual(body["client"], {"title": "shop", "custom": {"table": "7"}, "env": {"locale": "de"}})

    def test_package_comes_back(self):
        got = aws.get_function(FunctionName=self.name)
        with urllib.request.urlopen(got["Code"]["Location"], timeout=30) as response:
            content = response.read()
        self.assertEqual(content, package())
        self.assertEqual(got["Configuration"]["CodeSize"], len(content))
        self.assertEqual(got["Configuration"]["CodeSha256"], base64.b64encode(hashlib.sha256(content).digest()).decode())
        with self.assertRaises(urllib.error.HTTPError):
            urllib.request.urlopen(got["Code"]["Location"][:-4] + "0000", timeout=30)

    def test_dry_update(self):
        before = aws.get_function_configuration(FunctionName=self.name)
        other = package("def handler(event, context): return 1\n")
        tried = aws.update_function_code(FunctionName=self.name, ZipFile=other, DryRun=True)
        self.assertEqual(tried["CodeSha256"], base64.b64encode(hashlib.sha256(other).digest()).decode())
        after = aws.get_function_configuration(FunctionName=self.name)
        self.assertEqual((after["CodeSha256"], after["RevisionId"]), (before["CodeSha256"], before["RevisionId"]))

    def test_tags(self):
        arn = ARN + self.name
        aws.tag_resource(Resource=arn, Tags={"team": "küche", "stage": "dev"})
        aws.tag_resource(Resource=arn, Tags={"stage": "prod"})
        self.assertEqual(aws.list_tags(Resource=arn)["Tags"], {"team": "küche", "stage": "prod"})
        self.assertEqual(aws.get_function(FunctionName=arn)["Tags"], {"team": "küche", "stage": "prod"})
        aws.untag_resource(Resource=arn, TagKeys=["team", "never"])
        self.assertEqual(aws.list_tags(Resource=arn)["Tags"], {"stage": "prod"})
        self.refused("ResourceNotFoundException", 404, re.compile("nobody"), aws.list_tags, Resource=ARN + "nobody")

    def test_policy(self):
        allow = {"StatementId": "bucket", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com", "SourceArn": "arn:aws:s3:::cups", "SourceAccount": ACCOUNT}
        statement = json.loads(aws.add_permission(FunctionName=self.name, **allow)["Statement"])
        self.assertEqual(
            statement,
            {
                "Sid": "bucket",
                "Effect": "Allow",
                "Principal": {"Service": "s3.amazonaws.com"},
                "Action": "lambda:InvokeFunction",
                "Resource": ARN + self.name,
                "Condition": {"StringEquals": {"AWS:SourceAccount": ACCOUNT}, "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::cups"}},
            },
        )
        again = "The statement id (bucket) provided already exists. Please provide a new statement id, or remove the existing statement."
        self.refused("ResourceConflictException", 409, again, aws.add_permission, FunctionName=self.name, **allow)
        policy = json.loads(aws.get_policy(FunctionName=self.name)["Policy"])
        self.assertEqual((policy["Version"], policy["Id"], policy["Statement"]), ("2012-10-17", "default", [statement]))
        aws.remove_permission(FunctionName=self.name, StatementId="bucket")
        gone = "The resource you requested does not exist."
        self.refused("ResourceNotFoundException", 404, gone, aws.get_policy, FunctionName=self.name)

    def test_paging(self):
        names = [f"page-{i}" for i in range(7)]
        for name in names:
            create(name)
        self.addCleanup(lambda: [aws.delete_function(FunctionName=name) for name in names])
        pages = list(aws.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 3}))
        self.assertTrue(all(len(page["Functions"]) == 3 and page["NextMarker"] for page in pages[:-1]), pages)
        self.assertNotIn("NextMarker", pages[-1])
        listed = [f["FunctionName"] for page in pages for f in page["Functions"]]
        self.assertEqual(sorted(listed), sorted(names + [self.name]))
        few = aws.get_paginator("list_functions").paginate(PaginationConfig={"MaxItems": 4, "PageSize": 2}).build_full_result()
        self.assertEqual(len(few["Functions"]), 4)
        self.refused("InvalidParameterValueException", 400, re.compile("."), aws.list_functions, Marker="made-up")

    def test_account(self):
        settings = aws.get_account_settings()
        self.assertEqual(settings["AccountLimit"]["ConcurrentExecutions"], CONCURRENCY)
        self.assertGreaterEqual(settings["AccountUsage"]["FunctionCount"], 1)


class Others(Case):
    def test_identity(self):
        who = connect("sts").get_caller_identity()
        self.assertEqual((who["Account"], who["Arn"]), (ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root"))

    def test_role(self):
        iam = connect("iam")
        trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
        basic = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
        made = iam.create_role(RoleName="kitchen", AssumeRolePolicyDocument=json.dumps(trust))["Role"]
        self.assertEqual(made["Arn"], f"arn:aws:iam::{ACCOUNT}:role/kitchen")
        self.refused("EntityAlreadyExists", 409, "Role with name kitchen already exists.", iam.create_role, RoleName="kitchen", AssumeRolePolicyDocument=json.dumps(trust))
        iam.attach_role_policy(RoleName="kitchen", PolicyArn=basic)
        inline = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
        iam.put_role_policy(RoleName="kitchen", PolicyName="cups", PolicyDocument=json.dumps(inline))
        got = iam.get_role(RoleName="kitchen")["Role"]
        self.assertEqual((got["AssumeRolePolicyDocument"], got["RoleId"]), (trust, made["RoleId"]))
        self.assertEqual(iam.get_role_policy(RoleName="kitchen", PolicyName="cups")["PolicyDocument"], inline)
        attached = iam.list_attached_role_policies(RoleName="kitchen")["AttachedPolicies"]
        self.assertEqual(attached, [{"PolicyName": "AWSLambdaBasicExecutionRole", "PolicyArn": basic}])

        create("with-role", Role=got["Arn"])
        self.addCleanup(aws.delete_function, FunctionName="with-role")
        self.assertEqual(aws.get_function_configuration(FunctionName="with-role")["Role"], got["Arn"])

        error = self.refused("DeleteConflict", 409, re.compile("^Cannot delete entity, must "), iam.delete_role, RoleName="kitchen")
        self.assertIsInstance(error, iam.exceptions.DeleteConflictException)
        iam.detach_role_policy(RoleName="kitchen", PolicyArn=basic)
        iam.delete_role_policy(RoleName="kitchen", PolicyName="cups")
        iam.delete_role(RoleName="kitchen")
        missing = "The role with name kitchen cannot be found."
        error = self.refused("NoSuchEntity", 404, missing, iam.get_role, RoleName="kitchen")
        self.assertIsInstance(error, iam.exceptions.NoSuchEntityException)

    def test_unknown_service(self):
        for service, operation, code, status in (
            ("dynamodb", "list_tables", "UnknownOperationException", 404),
            ("sns", "list_topics", "InvalidAction", 400),
        ):
            message = re.compile(f"^thaw does not know the service {service}")
            self.refused(code, status, message, getattr(connect(service), operation))


if __name__ == "__main__":
    unittest.main()
