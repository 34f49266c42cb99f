package iam

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"thaw/control/internal/apitest"
	"thaw/internal/ownbody"
)

func TestGoSDK(t *testing.T) {
	url, ctx := apitest.Serve(t, service(t, newAPI(t))), t.Context()
	client := sdk.New(sdk.Options{
		BaseEndpoint: &url, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("thaw", "thaw", ""), RetryMaxAttempts: 1, HTTPClient: ownbody.Client{},
	})
	if _, err := client.CreateRole(ctx, &sdk.CreateRoleInput{RoleName: ptr("r"), AssumeRolePolicyDocument: ptr(trust)}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.AttachRolePolicy(ctx, &sdk.AttachRolePolicyInput{RoleName: ptr("r"), PolicyArn: ptr(basicRole)}); err != nil {
		t.Fatal(err)
	}
	_, err := client.DeleteRole(ctx, &sdk.DeleteRoleInput{RoleName: ptr("r")})
	if conflict := (*types.DeleteConflictException)(nil); !errors.As(err, &conflict) {
		t.Errorf("%v", err)
	}
	_, err = client.GetRole(ctx, &sdk.GetRoleInput{RoleName: ptr("none")})
	if none := (*types.NoSuchEntityException)(nil); !errors.As(err, &none) || *none.Message != "The role with name none cannot be found." {
		t.Errorf("%v", err)
	}
	_, err = client.CreateRole(ctx, &sdk.CreateRoleInput{RoleName: ptr("r"), AssumeRolePolicyDocument: ptr(trust)})
	if exists := (*types.EntityAlreadyExistsException)(nil); !errors.As(err, &exists) {
		t.Errorf("%v", err)
	}
	_, err = client.PutRolePolicy(ctx, &sdk.PutRolePolicyInput{RoleName: ptr("r"), PolicyName: ptr("p"), PolicyDocument: ptr("{")})
	if bad := (*types.MalformedPolicyDocumentException)(nil); !errors.As(err, &bad) {
		t.Errorf("%v", err)
	}
	if _, err = client.DetachRolePolicy(ctx, &sdk.DetachRolePolicyInput{RoleName: ptr("r"), PolicyArn: ptr(basicRole)}); err != nil {
		t.Error(err)
	}
	if _, err = client.DeleteRole(ctx, &sdk.DeleteRoleInput{RoleName: ptr("r")}); err != nil {
		t.Error(err)
	}
}

const session = `
import boto3, json, sys
from botocore.config import Config
iam = boto3.client("iam", endpoint_url=sys.argv[1], config=Config(retries={"max_attempts": 0}))
trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
role = iam.create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(trust), Tags=[{"Key": "a", "Value": "ü b"}])["Role"]
assert role["AssumeRolePolicyDocument"] == trust, role
iam.get_waiter("role_exists").wait(RoleName="r")
allow = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": ["*"]}}
iam.put_role_policy(RoleName="r", PolicyName="p+q", PolicyDocument=json.dumps(allow))
assert iam.get_role_policy(RoleName="r", PolicyName="p+q")["PolicyDocument"] == allow
policy = iam.create_policy(PolicyName="mine", PolicyDocument=json.dumps(allow))["Policy"]
iam.get_waiter("policy_exists").wait(PolicyArn=policy["Arn"])
iam.attach_role_policy(RoleName="r", PolicyArn=policy["Arn"])
assert iam.get_policy_version(PolicyArn=policy["Arn"], VersionId="v1")["PolicyVersion"]["Document"] == allow
assert iam.list_attached_role_policies(RoleName="r")["AttachedPolicies"] == [{"PolicyName": "mine", "PolicyArn": policy["Arn"]}]
assert iam.list_role_tags(RoleName="r")["Tags"] == [{"Key": "a", "Value": "ü b"}]
try:
    iam.delete_role(RoleName="r")
    raise AssertionError("deleted with policies")
except iam.exceptions.DeleteConflictException:
    pass
iam.detach_role_policy(RoleName="r", PolicyArn=policy["Arn"])
iam.delete_role_policy(RoleName="r", PolicyName="p+q")
iam.delete_policy(PolicyArn=policy["Arn"])
iam.delete_role(RoleName="r")
try:
    iam.get_role(RoleName="r")
    raise AssertionError("still there")
except iam.exceptions.NoSuchEntityException:
    pass
`

func TestBoto3(t *testing.T) {
	apitest.Boto3(t, "us-east-1", "-c", session, apitest.Serve(t, service(t, newAPI(t))))
}
