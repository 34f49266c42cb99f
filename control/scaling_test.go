package control_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdkscaling "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"

	"thaw"
	"thaw/control/autoscaling"
	"thaw/control/internal/apitest"
	"thaw/control/lambda"
	"thaw/internal/ownbody"
	trigger "thaw/trigger/autoscaling"
)

// TestScalingOfFunctions puts the API, the loop, the Lambda API's checks and the store together.
func TestScalingOfFunctions(t *testing.T) {
	ctx := t.Context()
	store := apitest.Store(t)
	account := thaw.Account{ID: "000000000000", Region: "us-east-1"}
	functions, err := lambda.New(lambda.Config{
		Account: account, Architecture: "x86_64", Functions: store, Packages: store, Runtimes: noRuntime{}, CheckPackage: noPackage,
		Limits: lambda.Limits{ConcurrentExecutions: 160},
	})
	if err != nil {
		t.Fatal(err)
	}
	running := thaw.Version{Function: "f", Number: thaw.Latest, State: thaw.StateActive}
	if err := store.CreateFunction(ctx, &thaw.Function{
		Name: "f", Config: running, Running: &running, LastNumber: 1,
		Published: []thaw.Version{{Function: "f", Number: "1", State: thaw.StateActive}},
		Aliases:   map[string]thaw.Alias{"live": {Name: "live", Version: "1"}},
	}); err != nil {
		t.Fatal(err)
	}
	wish := func() int {
		f, _ := store.Function("f")
		return f.Provisioned["live"].Requested
	}
	records := trigger.NewRecords(store)
	busy := 0
	loop, err := trigger.New(trigger.Config{
		Records: records, Functions: store, Provision: functions.Provision,
		Usage: func(string, string) (int, int, bool) { return min(busy, wish()), wish(), wish() > 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	url := apitest.Serve(t, apitest.Service(t, "application-autoscaling", autoscaling.New(account, records, store).Register))
	client := sdkscaling.New(sdkscaling.Options{BaseEndpoint: &url, Region: account.Region, Credentials: credentials.NewStaticCredentialsProvider("thaw", "thaw", ""), RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})

	const dimension = types.ScalableDimensionLambdaFunctionProvisionedConcurrency
	id := aws.String("function:f:live")
	register := func(least, most int32) {
		t.Helper()
		if _, err := client.RegisterScalableTarget(ctx, &sdkscaling.RegisterScalableTargetInput{ServiceNamespace: "lambda", ResourceId: id, ScalableDimension: dimension, MinCapacity: &least, MaxCapacity: &most}); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	pass := func(seconds, want int) {
		t.Helper()
		for range seconds {
			now = now.Add(time.Second)
			if err := loop.Tick(ctx, now); err != nil {
				t.Fatal(err)
			}
		}
		if wish() != want {
			t.Errorf("%d are provisioned, want %d", wish(), want)
		}
	}
	register(4, 200)
	pass(1, 4)
	if _, err := client.PutScalingPolicy(ctx, &sdkscaling.PutScalingPolicyInput{
		ServiceNamespace: "lambda", ResourceId: id, ScalableDimension: dimension, PolicyName: aws.String("p"), PolicyType: types.PolicyTypeTargetTrackingScaling,
		TargetTrackingScalingPolicyConfiguration: &types.TargetTrackingScalingPolicyConfiguration{
			TargetValue:                   aws.Float64(0.5),
			PredefinedMetricSpecification: &types.PredefinedMetricSpecification{PredefinedMetricType: types.MetricTypeLambdaProvisionedConcurrencyUtilization},
		},
	}); err != nil {
		t.Fatal(err)
	}
	busy = 10
	pass(3, 20)
	busy = 40
	pass(1, 40)
	register(0, 0)
	pass(1, 0)
	register(61, 200) // of 160, 100 stay with the functions that reserve nothing
	pass(1, 0)
	out, err := client.DescribeScalingActivities(ctx, &sdkscaling.DescribeScalingActivitiesInput{ServiceNamespace: "lambda", ResourceId: id, MaxResults: aws.Int32(1)})
	if err != nil || len(out.ScalingActivities) != 1 {
		t.Fatal(out, err)
	}
	const reason = "Failed to set desired concurrency to 61. Reason: Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100]."
	if a := out.ScalingActivities[0]; a.StatusCode != types.ScalingActivityStatusCodeFailed || aws.ToString(a.StatusMessage) != reason {
		t.Errorf("%s %s", a.StatusCode, aws.ToString(a.StatusMessage))
	}
}
