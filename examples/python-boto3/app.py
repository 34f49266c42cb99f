"""Makes a link that lets anyone who has it read one object of a bucket. boto3 computes the link; nothing is sent."""

import boto3

s3 = boto3.client(
    "s3",
    region_name="us-east-1",
    aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
    aws_secret_access_key="example",
)


def handler(event, context):
    params = {"Bucket": event.get("bucket", "example"), "Key": event.get("key", "hello.txt")}
    return {
        "boto3": boto3.__version__,
        "url": s3.generate_presigned_url("get_object", Params=params, ExpiresIn=60),
    }
