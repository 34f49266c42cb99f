"""Runs the program named by the first argument, unmodified, with a boto3 that is too old to read AWS_ENDPOINT_URL (before 1.28)."""

import functools
import os
import runpy
import sys

import boto3

boto3.client = functools.partial(boto3.client, endpoint_url=os.environ["AWS_ENDPOINT_URL"])
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
