package autoscaling

import (
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"

	"thaw/control/internal/apitest"
	"thaw/internal/ownbody"
)

func TestGoSDK(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	url := apitest.Serve(t, service(t, w))
	client := sdk.New(sdk.Options{BaseEndpoint: &url, Region: account.Region, Credentials: credentials.NewStaticCredentialsProvider("thaw", "thaw", ""), RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
	_, err := client.PutScheduledAction(ctx, action("live", "a"))
	if none := (*types.ObjectNotFoundException)(nil); !errors.As(err, &none) {
		t.Errorf("%v", err)
	}
	if _, err := client.RegisterScalableTarget(ctx, registration("live")); err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC)
	in := action("live", "a")
	in.StartTime = &start
	if _, err := client.PutScheduledAction(ctx, in); err != nil {
		t.Fatal(err)
	}
	out, err := client.DescribeScheduledActions(ctx, &sdk.DescribeScheduledActionsInput{ServiceNamespace: namespace})
	if err != nil || len(out.ScheduledActions) != 1 || !out.ScheduledActions[0].StartTime.Equal(start) {
		t.Errorf("%v, %v", out, err)
	}
	w.pass(t, time.Second)
	activities := sdk.NewDescribeScalingActivitiesPaginator(client, &sdk.DescribeScalingActivitiesInput{ServiceNamespace: namespace})
	page, err := activities.NextPage(ctx)
	if err != nil || len(page.ScalingActivities) != 1 || page.ScalingActivities[0].StatusCode != types.ScalingActivityStatusCodeInProgress || !page.ScalingActivities[0].StartTime.Equal(w.Now()) {
		t.Errorf("%v, %v", page, err)
	}
	_, err = client.DescribeScalableTargets(ctx, &sdk.DescribeScalableTargetsInput{ServiceNamespace: namespace, NextToken: ptr("?")})
	if wrong := (*types.InvalidNextTokenException)(nil); !errors.As(err, &wrong) {
		t.Errorf("%v", err)
	}
	_, err = client.GetPredictiveScalingForecast(ctx, &sdk.GetPredictiveScalingForecastInput{ServiceNamespace: namespace, ResourceId: in.ResourceId, ScalableDimension: dimension, PolicyName: ptr("p"), StartTime: &start, EndTime: &start})
	if wrong := (*types.ValidationException)(nil); !errors.As(err, &wrong) {
		t.Errorf("%v", err)
	}
}

const session = `
import boto3, datetime, sys
from botocore.config import Config
scaling = boto3.client("application-autoscaling", endpoint_url=sys.argv[1], config=Config(retries={"max_attempts": 0}))
what = {"ServiceNamespace": "lambda", "ResourceId": "function:f:live", "ScalableDimension": "lambda:function:ProvisionedConcurrency"}
try:
    scaling.put_scaling_policy(PolicyName="p", **what)
    raise AssertionError("there is no target")
except scaling.exceptions.ObjectNotFoundException as e:
    assert e.response["Error"]["Message"].startswith("No scalable target registered for service namespace: lambda"), e.response
arn = scaling.register_scalable_target(MinCapacity=1, MaxCapacity=10, Tags={"a": "ü"}, **what)["ScalableTargetARN"]
assert scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"a": "ü"}
scaling.untag_resource(ResourceARN=arn, TagKeys=["a"])
configuration = {"TargetValue": 0.7, "PredefinedMetricSpecification": {"PredefinedMetricType": "LambdaProvisionedConcurrencyUtilization"}, "ScaleInCooldown": 30}
policy = scaling.put_scaling_policy(PolicyName="p", PolicyType="TargetTrackingScaling", TargetTrackingScalingPolicyConfiguration=configuration, **what)
shown = scaling.describe_scaling_policies(ServiceNamespace="lambda")["ScalingPolicies"][0]
assert shown["TargetTrackingScalingPolicyConfiguration"] == configuration, shown
assert shown["PolicyARN"] == policy["PolicyARN"] and shown["Alarms"] == policy["Alarms"] and len(shown["Alarms"]) == 2, shown
end = datetime.datetime(2027, 1, 1, tzinfo=datetime.timezone.utc)
scaling.put_scheduled_action(ScheduledActionName="morning", Schedule="cron(0 8 ? * MON-FRI *)", Timezone="Europe/Berlin", EndTime=end, ScalableTargetAction={"MinCapacity": 5}, **what)
pages = list(scaling.get_paginator("describe_scheduled_actions").paginate(ServiceNamespace="lambda"))
assert pages[0]["ScheduledActions"][0]["EndTime"] == end, pages
assert scaling.describe_scaling_activities(ServiceNamespace="lambda")["ScalingActivities"] == []
try:
    scaling.put_scheduled_action(ScheduledActionName="morning", Schedule="cron(0 8 * * * *)", **what)
    raise AssertionError("that is no expression of AWS's")
except scaling.exceptions.ValidationException:
    pass
scaling.deregister_scalable_target(**what)
assert scaling.describe_scalable_targets(ServiceNamespace="lambda")["ScalableTargets"] == []
`

func TestBoto3(t *testing.T) {
	apitest.Boto3(t, account.Region, "-c", session, apitest.Serve(t, service(t, newWorld(t))))
}

// TestCommandLine runs the commands of Lambda's developer guide.
func TestCommandLine(t *testing.T) {
	run := apitest.CommandLine(t, account.Region, apitest.Serve(t, service(t, newWorld(t))), "application-autoscaling")
	what := []string{"--service-namespace", "lambda", "--resource-id", "function:f:live", "--scalable-dimension", "lambda:function:ProvisionedConcurrency"}
	for _, command := range [][]string{
		{"register-scalable-target", "--min-capacity", "1", "--max-capacity", "100"},
		{"put-scaling-policy", "--policy-name", "my-policy", "--policy-type", "TargetTrackingScaling", "--target-tracking-scaling-policy-configuration", `{"TargetValue": 0.7, "PredefinedMetricSpecification": {"PredefinedMetricType": "LambdaProvisionedConcurrencyUtilization"}}`},
		{"put-scheduled-action", "--scheduled-action-name", "once", "--schedule", "at(2099-12-05T20:00:00)", "--scalable-target-action", "MinCapacity=10,MaxCapacity=10"},
		{"describe-scaling-activities"},
		{"deregister-scalable-target"},
	} {
		run(append(command, what...)...)
	}
}
