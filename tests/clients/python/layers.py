"""Layers as programs with boto3 use them: a Node layer, two layers over each other, the order, and a version that is deleted."""

import base64
import io
import json
import unittest
import urllib.request
import zipfile

import boto3
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::000000000000:role/clients"
aws = boto3.client("lambda")


def packed(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for name, text in files.items():
            z.writestr(name, text)
    return out.getvalue()


def publish(name, files, **more):
    return aws.publish_layer_version(LayerName=name, Content={"ZipFile": packed(files)}, **more)


def create(name, runtime, handler, files, layers):
    made = aws.create_function(FunctionName=name, Runtime=runtime, Handler=handler, Role=ROLE, Code={"ZipFile": packed(files)}, Layers=layers, Timeout=20)
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    return made


def call(name):
    answer = aws.invoke(FunctionName=name, LogType="Tail")
    payload = json.load(answer["Payload"])
    assert "FunctionError" not in answer, (payload, base64.b64decode(answer["LogResult"]))
    return payload


class Layers(unittest.TestCase):
    def test_node(self):
        layer = publish("node-deps", {
            "nodejs/node_modules/pad/package.json": '{"name": "pad", "version": "1.2.3", "main": "main.js"}',
            "nodejs/node_modules/pad/main.js": "module.exports = (s) => s.padStart(5, '.');",
            "nodejs/node20/node_modules/only20/index.js": "module.exports = 20;",
        }, CompatibleRuntimes=["nodejs20.x"], LicenseInfo="MIT", Description="padding")
        self.assertEqual((layer["Version"], layer["CompatibleRuntimes"], layer["LicenseInfo"]), (1, ["nodejs20.x"], "MIT"))
        made = create("node-user", "nodejs20.x", "app.handler", {
            "app.js": "const pad = require('pad'); exports.handler = async () => [pad('ab'), require('only20'), require.resolve('pad')];",
        }, [layer["LayerVersionArn"]])
        self.assertEqual(made["Layers"], [{"Arn": layer["LayerVersionArn"], "CodeSize": layer["Content"]["CodeSize"]}])
        self.assertEqual(call("node-user"), ["...ab", 20, "/opt/nodejs/node_modules/pad/main.js"])
        with urllib.request.urlopen(layer["Content"]["Location"]) as got:
            self.assertIn("nodejs/node_modules/pad/main.js", zipfile.ZipFile(io.BytesIO(got.read())).namelist())

    def test_order_and_deletion(self):
        one = publish("base", {"python/who.py": "NAME = 'one'\n", "python/base.py": "NAME = 'base'\n", "data/x": "1"})["LayerVersionArn"]
        two = publish("over", {"python/who.py": "NAME = 'two'\n", "data/y": "2"})["LayerVersionArn"]
        source = "import os, who, base\ndef handler(e, c): return [who.NAME, base.NAME, sorted(os.listdir('/opt/data'))]\n"
        create("user", "python3.11", "app.handler", {"app.py": source}, [one, two])
        self.assertEqual(call("user"), ["two", "base", ["x", "y"]])

        aws.update_function_configuration(FunctionName="user", Layers=[two, one])
        aws.get_waiter("function_updated_v2").wait(FunctionName="user", WaiterConfig={"Delay": 1})
        self.assertEqual(call("user"), ["one", "base", ["x", "y"]])
        version = aws.publish_version(FunctionName="user")["Version"]
        aws.get_waiter("published_version_active").wait(FunctionName="user", Qualifier=version, WaiterConfig={"Delay": 1})

        aws.delete_layer_version(LayerName="over", VersionNumber=1)
        with self.assertRaises(aws.exceptions.ResourceNotFoundException):
            aws.get_layer_version(LayerName="over", VersionNumber=1)
        with self.assertRaises(aws.exceptions.InvalidParameterValueException):
            create("late", "python3.11", "app.handler", {"app.py": source}, [two])
        aws.update_function_configuration(FunctionName="user", MemorySize=256)  # makes its environments anew
        aws.get_waiter("function_updated_v2").wait(FunctionName="user", WaiterConfig={"Delay": 1})
        self.assertEqual(call("user"), ["one", "base", ["x", "y"]])
        self.assertEqual(call("user:" + version), ["one", "base", ["x", "y"]])
        self.assertEqual([l["Arn"] for l in aws.get_function(FunctionName="user")["Configuration"]["Layers"]], [two, one])

        aws.update_function_configuration(FunctionName="user", Layers=[])
        aws.get_waiter("function_updated_v2").wait(FunctionName="user", WaiterConfig={"Delay": 1})
        self.assertNotIn("Layers", aws.get_function_configuration(FunctionName="user"))
        answer = aws.invoke(FunctionName="user")
        self.assertIn("No module named 'who'", json.load(answer["Payload"])["errorMessage"])

    def test_pages(self):
        for n in range(3):
            publish("pages", {"f": str(n)})
        pages = aws.get_paginator("list_layer_versions").paginate(LayerName="pages", PaginationConfig={"PageSize": 2})
        self.assertEqual([v["Version"] for page in pages for v in page["LayerVersions"]], [3, 2, 1])
        self.assertIn("pages", [l["LayerName"] for page in aws.get_paginator("list_layers").paginate() for l in page["Layers"]])
        with self.assertRaises(ClientError) as caught:
            aws.get_layer_version_policy(LayerName="pages", VersionNumber=1)
        self.assertEqual(caught.exception.response["Error"]["Code"], "ResourceNotFoundException")


if __name__ == "__main__":
    unittest.main()
