package autoscaling

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"
	"github.com/google/uuid"

	"thaw"
	trigger "thaw/trigger/autoscaling"
	"thaw/trigger/schedule"
)

// putScheduledAction changes what is given, except for the start and end time, which are gone where they are not.
func (a *API) putScheduledAction(ctx context.Context, in *sdk.PutScheduledActionInput) (*sdk.PutScheduledActionOutput, error) {
	r := resource{in.ServiceNamespace, value(in.ResourceId), in.ScalableDimension}
	if err := checkAction(in); err != nil {
		return nil, err
	}
	_, err := a.update(ctx, r, notRegistered(r), func(t *trigger.Target) error {
		now := a.now().UTC()
		i := slices.IndexFunc(t.Actions, func(x trigger.Action) bool { return x.Name == *in.ScheduledActionName })
		if i < 0 {
			switch {
			case in.Schedule == nil:
				return invalid("Schedule is required to create a scheduled action.")
			case in.ScalableTargetAction == nil:
				return errNoBounds
			case len(t.Actions) >= maxActions:
				return thaw.Errorf(thaw.CodeQuotaExceeded, "A scalable target can have %d scheduled actions. Delete one that is not needed.", maxActions)
			}
			t.Actions = append(t.Actions, trigger.Action{Name: *in.ScheduledActionName, ID: uuid.NewString(), Created: now})
			i = len(t.Actions) - 1
		}
		x := &t.Actions[i]
		if in.Schedule != nil {
			x.Schedule = *in.Schedule
		}
		if in.Timezone != nil {
			x.Timezone = *in.Timezone
		}
		if to := in.ScalableTargetAction; to != nil {
			x.Min, x.Max = to.MinCapacity, to.MaxCapacity
		}
		x.Start, x.End, x.Seen = in.StartTime, in.EndTime, now
		return nil
	})
	return &sdk.PutScheduledActionOutput{}, err
}

func checkAction(in *sdk.PutScheduledActionInput) error {
	if in.Schedule != nil {
		if _, err := schedule.Parse(*in.Schedule); err != nil {
			return invalid("The schedule expression is not valid: %v", err)
		}
	}
	if _, err := schedule.Zone(value(in.Timezone)); err != nil {
		return invalid("The time zone is not valid: %v", err)
	}
	if in.StartTime != nil && in.EndTime != nil && in.EndTime.Before(*in.StartTime) {
		return invalid("The end time cannot be before the start time.")
	}
	if to := in.ScalableTargetAction; to != nil {
		if to.MinCapacity == nil && to.MaxCapacity == nil {
			return errNoBounds
		}
		return checkBounds(to.MinCapacity, to.MaxCapacity)
	}
	return nil
}

var errNoBounds = invalid("ScalableTargetAction with MinCapacity, MaxCapacity or both is required to create a scheduled action.")

// scheduled is one action of a listing.
type scheduled struct {
	target *trigger.Target
	action *trigger.Action
}

// key sorts by resource, then by name. No resource has a blank in its name.
func (s scheduled) key() string { return s.target.ResourceID() + " " + s.action.Name }

func (a *API) describeScheduledActions(ctx context.Context, in *sdk.DescribeScheduledActionsInput) (*sdk.DescribeScheduledActionsOutput, error) {
	asked := resource{in.ServiceNamespace, value(in.ResourceId), in.ScalableDimension}
	targets, err := a.targets(ctx, asked, func(t *trigger.Target) bool { return asked.id == "" || asked.id == t.ResourceID() })
	if err != nil {
		return nil, err
	}
	var all []scheduled
	for _, t := range targets {
		for i := range t.Actions {
			if len(in.ScheduledActionNames) == 0 || slices.Contains(in.ScheduledActionNames, t.Actions[i].Name) {
				all = append(all, scheduled{t, &t.Actions[i]})
			}
		}
	}
	slices.SortFunc(all, func(x, y scheduled) int { return strings.Compare(x.key(), y.key()) })
	part, next, err := page(all, scheduled.key, in.NextToken, in.MaxResults, maxPage)
	if err != nil {
		return nil, err
	}
	out := &sdk.DescribeScheduledActionsOutput{ScheduledActions: make([]types.ScheduledAction, len(part)), NextToken: next}
	for i, s := range part {
		x := s.action
		out.ScheduledActions[i] = types.ScheduledAction{
			ScheduledActionName: &x.Name, ScheduledActionARN: a.partARN("scheduledAction", x.ID, s.target.ResourceID(), "scheduledActionName", x.Name),
			ServiceNamespace: namespace, ResourceId: aws.String(s.target.ResourceID()), ScalableDimension: dimension,
			Schedule: &x.Schedule, StartTime: x.Start, EndTime: x.End, CreationTime: &x.Created,
			ScalableTargetAction: &types.ScalableTargetAction{MinCapacity: x.Min, MaxCapacity: x.Max},
		}
		if x.Timezone != "" {
			out.ScheduledActions[i].Timezone = &x.Timezone
		}
	}
	return out, nil
}

func (a *API) deleteScheduledAction(ctx context.Context, in *sdk.DeleteScheduledActionInput) (*sdk.DeleteScheduledActionOutput, error) {
	r := resource{in.ServiceNamespace, value(in.ResourceId), in.ScalableDimension}
	missing := objectNotFound("No scheduled action found for %s, scheduled action name: %s", r, *in.ScheduledActionName)
	_, err := a.update(ctx, r, missing, func(t *trigger.Target) error {
		n := len(t.Actions)
		t.Actions = slices.DeleteFunc(t.Actions, func(x trigger.Action) bool { return x.Name == *in.ScheduledActionName })
		if len(t.Actions) == n {
			return missing
		}
		return nil
	})
	return &sdk.DeleteScheduledActionOutput{}, err
}

// activity is one scaling activity of a listing.
type activity struct {
	resource string
	trigger.Activity
}

// key sorts the newest first: what is left until the end of time gets larger as one goes back.
func (x activity) key() string {
	return fmt.Sprintf("%020d %s %020d", math.MaxInt64-x.Start.UnixNano(), x.resource, math.MaxUint64-x.Number)
}

func (a *API) describeScalingActivities(ctx context.Context, in *sdk.DescribeScalingActivitiesInput) (*sdk.DescribeScalingActivitiesOutput, error) {
	all, err := a.activities(ctx, resource{in.ServiceNamespace, value(in.ResourceId), in.ScalableDimension}, a.now())
	if err != nil {
		return nil, err
	}
	if !value(in.IncludeNotScaledActivities) {
		all = slices.DeleteFunc(all, func(x activity) bool { return x.NotScaled != "" })
	}
	slices.SortFunc(all, func(x, y activity) int { return strings.Compare(x.key(), y.key()) })
	part, next, err := page(all, activity.key, in.NextToken, in.MaxResults, maxPage)
	if err != nil {
		return nil, err
	}
	out := &sdk.DescribeScalingActivitiesOutput{ScalingActivities: make([]types.ScalingActivity, len(part)), NextToken: next}
	for i, x := range part {
		shown := types.ScalingActivity{
			ActivityId: &x.ID, ServiceNamespace: namespace, ResourceId: &x.resource, ScalableDimension: dimension,
			Description: &x.Description, Cause: &x.Cause, StartTime: &x.Start, StatusCode: types.ScalingActivityStatusCode(x.Status),
		}
		if x.Message != "" {
			shown.StatusMessage = &x.Message
		}
		if !x.End.IsZero() {
			shown.EndTime = &x.End
		}
		switch reason := (types.NotScaledReason{Code: &x.NotScaled, CurrentCapacity: aws.Int32(int32(x.From))}); x.NotScaled {
		case "":
		case trigger.AlreadyAtMax:
			reason.MaxCapacity = aws.Int32(int32(x.Max))
			shown.NotScaledReasons = []types.NotScaledReason{reason}
		default:
			reason.MinCapacity = aws.Int32(int32(x.Min))
			shown.NotScaledReasons = []types.NotScaledReason{reason}
		}
		out.ScalingActivities[i] = shown
	}
	return out, nil
}

// activities gives what a listing is about. Activities outlive their target.
func (a *API) activities(ctx context.Context, asked resource, now time.Time) ([]activity, error) {
	none, err := filter(asked)
	if none || err != nil {
		return nil, err
	}
	byResource := map[string][]trigger.Activity{}
	switch {
	case asked.id != "" && !resourcePattern.MatchString(asked.id):
		return nil, nil
	case asked.id != "":
		byResource[asked.id], err = a.records.Activities(ctx, asked.id, now)
	default:
		byResource, err = a.records.AllActivities(ctx, now)
	}
	var all []activity
	for id, list := range byResource {
		for _, x := range list {
			all = append(all, activity{id, x})
		}
	}
	return all, err
}
