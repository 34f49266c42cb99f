package autoscaling

import (
	"context"
	"math"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"
	"github.com/google/uuid"

	"thaw/control/internal/operation"
	trigger "thaw/trigger/autoscaling"
)

func (a *API) putScalingPolicy(ctx context.Context, in *sdk.PutScalingPolicyInput) (*sdk.PutScalingPolicyOutput, error) {
	r := resource{in.ServiceNamespace, operation.Value(in.ResourceId), in.ScalableDimension}
	if err := checkPolicy(in); err != nil {
		return nil, err
	}
	t, err := a.update(ctx, r, notRegistered(r), func(t *trigger.Target) error {
		p := t.Policy
		switch {
		case p == nil && in.PolicyType == "":
			return invalid("PolicyType is required to create a scaling policy. Send TargetTrackingScaling.")
		case p == nil && in.TargetTrackingScalingPolicyConfiguration == nil:
			return invalid("TargetTrackingScalingPolicyConfiguration is required to create a policy of the type TargetTrackingScaling.")
		case p == nil:
			p = &trigger.Policy{Name: *in.PolicyName, ID: uuid.NewString(), AlarmHigh: uuid.NewString(), AlarmLow: uuid.NewString(), Created: a.now().UTC()}
		case p.Name != *in.PolicyName:
			return invalid("Only one TargetTrackingScaling policy for a given metric specification is allowed.")
		}
		if c := in.TargetTrackingScalingPolicyConfiguration; c != nil {
			p.Target, p.OutCooldown, p.InCooldown, p.DisableScaleIn = *c.TargetValue, c.ScaleOutCooldown, c.ScaleInCooldown, c.DisableScaleIn
		}
		t.Policy = p
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.PutScalingPolicyOutput{PolicyARN: a.policyARN(t), Alarms: a.alarms(t)}, nil
}

// checkPolicy refuses what AWS does not have for Lambda, and what thaw does not have.
func checkPolicy(in *sdk.PutScalingPolicyInput) error {
	c := in.TargetTrackingScalingPolicyConfiguration
	switch {
	case in.PolicyType != "" && in.PolicyType != types.PolicyTypeTargetTrackingScaling:
		return invalid("The policy type %s is not supported for %s. Send TargetTrackingScaling.", in.PolicyType, dimension)
	case in.StepScalingPolicyConfiguration != nil:
		return invalid("StepScalingPolicyConfiguration is not supported for %s. Send TargetTrackingScalingPolicyConfiguration.", dimension)
	case in.PredictiveScalingPolicyConfiguration != nil:
		return invalid("PredictiveScalingPolicyConfiguration is not supported for %s. Send TargetTrackingScalingPolicyConfiguration.", dimension)
	case c == nil:
		return nil
	case c.CustomizedMetricSpecification != nil:
		return invalid("CustomizedMetricSpecification is not supported: target tracking follows the provisioned concurrency alone. Send PredefinedMetricSpecification with %s.", types.MetricTypeLambdaProvisionedConcurrencyUtilization)
	case c.PredefinedMetricSpecification == nil:
		return invalid("PredefinedMetricSpecification is required. Send it with %s.", types.MetricTypeLambdaProvisionedConcurrencyUtilization)
	case c.PredefinedMetricSpecification.PredefinedMetricType != types.MetricTypeLambdaProvisionedConcurrencyUtilization:
		return invalid("The metric %s is not supported for %s. Send %s.", c.PredefinedMetricSpecification.PredefinedMetricType, dimension, types.MetricTypeLambdaProvisionedConcurrencyUtilization)
	case c.PredefinedMetricSpecification.ResourceLabel != nil:
		return invalid("You can't specify a resource label unless the metric type is ALBRequestCountPerTarget.")
	case !(*c.TargetValue > 0 && *c.TargetValue <= math.Ldexp(1, 360)):
		return invalid("TargetValue must be above 0: it is a share of the provisioned concurrency, such as 0.7.")
	case operation.Value(c.ScaleInCooldown) < 0, operation.Value(c.ScaleOutCooldown) < 0:
		return invalid("A cooldown cannot be negative.")
	}
	return nil
}

func (a *API) describeScalingPolicies(ctx context.Context, in *sdk.DescribeScalingPoliciesInput) (*sdk.DescribeScalingPoliciesOutput, error) {
	asked := resource{in.ServiceNamespace, operation.Value(in.ResourceId), in.ScalableDimension}
	targets, err := a.targets(ctx, asked, func(t *trigger.Target) bool {
		return t.Policy != nil && (asked.id == "" || asked.id == t.ResourceID()) && (len(in.PolicyNames) == 0 || slices.Contains(in.PolicyNames, t.Policy.Name))
	})
	if err != nil {
		return nil, err
	}
	part, next, err := page(targets, (*trigger.Target).ResourceID, in.NextToken, in.MaxResults, maxPolicyPage)
	if err != nil {
		return nil, err
	}
	out := &sdk.DescribeScalingPoliciesOutput{ScalingPolicies: make([]types.ScalingPolicy, len(part)), NextToken: next}
	for i, t := range part {
		p := t.Policy
		out.ScalingPolicies[i] = types.ScalingPolicy{
			PolicyARN: a.policyARN(t), PolicyName: &p.Name, PolicyType: types.PolicyTypeTargetTrackingScaling,
			ServiceNamespace: namespace, ResourceId: aws.String(t.ResourceID()), ScalableDimension: dimension,
			Alarms: a.alarms(t), CreationTime: &p.Created,
			TargetTrackingScalingPolicyConfiguration: &types.TargetTrackingScalingPolicyConfiguration{
				TargetValue: &p.Target, ScaleOutCooldown: p.OutCooldown, ScaleInCooldown: p.InCooldown, DisableScaleIn: p.DisableScaleIn,
				PredefinedMetricSpecification: &types.PredefinedMetricSpecification{PredefinedMetricType: types.MetricTypeLambdaProvisionedConcurrencyUtilization},
			},
		}
	}
	return out, nil
}

func (a *API) deleteScalingPolicy(ctx context.Context, in *sdk.DeleteScalingPolicyInput) (*sdk.DeleteScalingPolicyOutput, error) {
	r := resource{in.ServiceNamespace, operation.Value(in.ResourceId), in.ScalableDimension}
	missing := objectNotFound("No scaling policy found for %s, policy name: %s", r, *in.PolicyName)
	_, err := a.update(ctx, r, missing, func(t *trigger.Target) error {
		if t.Policy == nil || t.Policy.Name != *in.PolicyName {
			return missing
		}
		t.Policy = nil
		return nil
	})
	return &sdk.DeleteScalingPolicyOutput{}, err
}

// getPredictiveScalingForecast has nothing to tell: AWS has predictive scaling for ECS only.
func (a *API) getPredictiveScalingForecast(_ context.Context, in *sdk.GetPredictiveScalingForecastInput) (*sdk.GetPredictiveScalingForecastOutput, error) {
	r := resource{in.ServiceNamespace, operation.Value(in.ResourceId), in.ScalableDimension}
	return nil, invalid("No predictive scaling policy found for %s, policy name: %s", r, *in.PolicyName)
}

func (a *API) policyARN(t *trigger.Target) *string {
	return a.partARN("scalingPolicy", t.Policy.ID, t.ResourceID(), "policyName", t.Policy.Name)
}

// alarms names the alarms that AWS makes for a policy. There are none here: the loop watches the utilisation itself.
func (a *API) alarms(t *trigger.Target) []types.Alarm {
	var list []types.Alarm
	for _, name := range []string{t.Policy.AlarmHighName(t.ResourceID()), t.Policy.AlarmLowName(t.ResourceID())} {
		list = append(list, types.Alarm{
			AlarmName: aws.String(name),
			AlarmARN:  aws.String("arn:aws:cloudwatch:" + a.account.Region + ":" + a.account.ID + ":alarm:" + name),
		})
	}
	return list
}
