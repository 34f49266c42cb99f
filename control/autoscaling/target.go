package autoscaling

import (
	"context"
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
	trigger "thaw/trigger/autoscaling"
)

// maxPage is the most that a listing puts on a page, and maxPolicyPage that of DescribeScalingPolicies, after the
// documentation of MaxResults.
const (
	maxPage       = 50
	maxPolicyPage = 10
)

// registerScalableTarget takes the RoleARN of any role and does without it, as AWS does: the service-linked role is what
// it shows.
func (a *API) registerScalableTarget(ctx context.Context, in *sdk.RegisterScalableTargetInput) (*sdk.RegisterScalableTargetOutput, error) {
	r := resource{in.ServiceNamespace, operation.Value(in.ResourceId), in.ScalableDimension}
	function, qualifier, err := r.function()
	if err != nil {
		return nil, err
	}
	if err := checkBounds(in.MinCapacity, in.MaxCapacity); err != nil {
		return nil, err
	}
	if !a.exists(function, qualifier) {
		return nil, invalid("Lambda function version or alias doesn't exist: %s", r.id)
	}
	a.registering.Lock()
	defer a.registering.Unlock()
	t, err := a.records.Update(ctx, r.id, func(t *trigger.Target) error { return change(t, in) })
	if errors.Is(err, state.ErrNotFound) {
		t, err = a.create(ctx, in, function, qualifier)
	}
	if err != nil {
		return nil, storeError(err)
	}
	return &sdk.RegisterScalableTargetOutput{ScalableTargetARN: aws.String(a.targetARN(t))}, nil
}

// exists reports whether a function has that alias or published version.
func (a *API) exists(function, qualifier string) bool {
	f, ok := a.functions.Function(function)
	if !ok {
		return false
	}
	_, alias := f.Aliases[qualifier]
	return alias || f.Version(qualifier) != nil
}

// create stores a new target. The caller holds API.registering.
func (a *API) create(ctx context.Context, in *sdk.RegisterScalableTargetInput, function, qualifier string) (*trigger.Target, error) {
	if in.MinCapacity == nil || in.MaxCapacity == nil {
		return nil, invalid("MinCapacity and MaxCapacity are required to register a new scalable target.")
	}
	present, err := a.records.Targets(ctx)
	if err != nil {
		return nil, err
	}
	if len(present) >= maxTargets {
		return nil, thaw.Errorf(thaw.CodeQuotaExceeded, "An account can have %d scalable targets. Deregister one that is not needed.", maxTargets)
	}
	t := &trigger.Target{Function: function, Qualifier: qualifier, ID: newID(), Created: a.now().UTC()}
	if err := change(t, in); err != nil {
		return nil, err
	}
	return t, a.records.Create(ctx, t)
}

// change sets what a registration has and leaves the rest. Every registration has the loop bring the capacity within the
// bounds.
func change(t *trigger.Target, in *sdk.RegisterScalableTargetInput) error {
	if in.MinCapacity != nil {
		t.Min = int(*in.MinCapacity)
	}
	if in.MaxCapacity != nil {
		t.Max = int(*in.MaxCapacity)
	}
	if t.Min > t.Max {
		return invalid("Maximum capacity cannot be less than minimum capacity")
	}
	if s := in.SuspendedState; s != nil {
		for _, member := range []struct {
			to   *bool
			from *bool
		}{
			{&t.Suspended.In, s.DynamicScalingInSuspended},
			{&t.Suspended.Out, s.DynamicScalingOutSuspended},
			{&t.Suspended.Scheduled, s.ScheduledScalingSuspended},
		} {
			if member.from != nil {
				*member.to = *member.from
			}
		}
	}
	t.Bounds++
	return addTags(t, in.Tags)
}

func (a *API) describeScalableTargets(ctx context.Context, in *sdk.DescribeScalableTargetsInput) (*sdk.DescribeScalableTargetsOutput, error) {
	ids := in.ResourceIds
	asked := resource{namespace: in.ServiceNamespace, dimension: in.ScalableDimension}
	if len(ids) > 0 {
		asked.id = ids[0]
	}
	targets, err := a.targets(ctx, asked, func(t *trigger.Target) bool { return len(ids) == 0 || slices.Contains(ids, t.ResourceID()) })
	if err != nil {
		return nil, err
	}
	part, next, err := page(targets, (*trigger.Target).ResourceID, in.NextToken, in.MaxResults, maxPage)
	if err != nil {
		return nil, err
	}
	out := &sdk.DescribeScalableTargetsOutput{ScalableTargets: make([]types.ScalableTarget, len(part)), NextToken: next}
	for i, t := range part {
		out.ScalableTargets[i] = types.ScalableTarget{
			ServiceNamespace: namespace, ResourceId: aws.String(t.ResourceID()), ScalableDimension: dimension,
			MinCapacity: aws.Int32(int32(t.Min)), MaxCapacity: aws.Int32(int32(t.Max)), CreationTime: aws.Time(t.Created),
			RoleARN: aws.String(a.roleARN()), ScalableTargetARN: aws.String(a.targetARN(t)),
			SuspendedState: &types.SuspendedState{
				DynamicScalingInSuspended:  aws.Bool(t.Suspended.In),
				DynamicScalingOutSuspended: aws.Bool(t.Suspended.Out),
				ScheduledScalingSuspended:  aws.Bool(t.Suspended.Scheduled),
			},
		}
	}
	return out, nil
}

// targets lists the targets that a listing is about, sorted by resource.
func (a *API) targets(ctx context.Context, asked resource, want func(*trigger.Target) bool) ([]*trigger.Target, error) {
	none, err := filter(asked)
	if none || err != nil {
		return nil, err
	}
	all, err := a.records.Targets(ctx)
	return slices.DeleteFunc(all, func(t *trigger.Target) bool { return !want(t) }), err
}

func (a *API) deregisterScalableTarget(ctx context.Context, in *sdk.DeregisterScalableTargetInput) (*sdk.DeregisterScalableTargetOutput, error) {
	r := resource{in.ServiceNamespace, operation.Value(in.ResourceId), in.ScalableDimension}
	err := state.ErrNotFound
	if r.ours() {
		err = a.records.Delete(ctx, r.id)
	}
	if errors.Is(err, state.ErrNotFound) {
		return nil, objectNotFound("No scalable target found for %s", r)
	}
	return &sdk.DeregisterScalableTargetOutput{}, storeError(err)
}

// update changes what hangs on a target. missing is the error where there is no such target.
func (a *API) update(ctx context.Context, r resource, missing error, change func(*trigger.Target) error) (*trigger.Target, error) {
	if !r.ours() {
		return nil, missing
	}
	t, err := a.records.Update(ctx, r.id, change)
	if errors.Is(err, state.ErrNotFound) {
		return nil, missing
	}
	return t, storeError(err)
}

func (a *API) targetARN(t *trigger.Target) string { return a.targetPrefix() + t.ID }

func (a *API) targetPrefix() string {
	return "arn:aws:application-autoscaling:" + a.account.Region + ":" + a.account.ID + ":scalable-target/"
}

// roleARN is the service-linked role that AWS makes for this dimension.
func (a *API) roleARN() string {
	return "arn:aws:iam::" + a.account.ID + ":role/aws-service-role/lambda.application-autoscaling.amazonaws.com/AWSServiceRoleForApplicationAutoScaling_LambdaConcurrency"
}

// partARN is the ARN of a policy or scheduled action: kind is scalingPolicy or scheduledAction, label policyName or
// scheduledActionName.
func (a *API) partARN(kind, id, resource, label, name string) *string {
	return aws.String("arn:aws:autoscaling:" + a.account.Region + ":" + a.account.ID + ":" + kind + ":" + id + ":resource/" + string(namespace) + "/" + resource + ":" + label + "/" + name)
}
