package autoscaling

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"
	"github.com/google/uuid"

	"thaw"
	"thaw/control/internal/operation"
	trigger "thaw/trigger/autoscaling"
	"thaw/trigger/schedule"
)

// putScheduledAction changes what is given, except for the start and end time, which are gone where they are not.
func (a *API) putScheduledAction(ctx context.Context, in *sdk.PutScheduledActionInput) (*sdk.PutScheduledActionOutput, error) {
	r := resource{in.ServiceNamespace, operation.Value(in.ResourceId), in.ScalableDimension}
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
	if _, err := schedule.Zone(operation.Value(in.Timezone)); err != nil {
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
	asked := resource{in.ServiceNamespace, operation.Value(in.ResourceId), in.ScalableDimension}
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
	r := resource{in.ServiceNamespace, operation.Value(in.ResourceId), in.ScalableDimension}
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
