package scheduler

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"
	"github.com/google/uuid"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
	"thaw/trigger/delivery"
	"thaw/trigger/events"
	"thaw/trigger/schedule"
	trigger "thaw/trigger/scheduler"
)

// definition is what CreateSchedule and UpdateSchedule have in common.
type definition struct {
	group, name, description    string
	expression, zone            string
	start, end                  *time.Time
	window                      *types.FlexibleTimeWindow
	state                       types.ScheduleState
	after                       types.ActionAfterCompletion
	target                      *types.Target
	encryptionKey, token, asked string
}

// createSchedule answers a repeated request, known by its ClientToken, as it did the first time.
func (a *API) createSchedule(ctx context.Context, in *sdk.CreateScheduleInput) (*sdk.CreateScheduleOutput, error) {
	token := operation.Value(in.ClientToken)
	in.ClientToken = nil
	d := definition{
		group: cmp.Or(operation.Value(in.GroupName), trigger.DefaultGroup), name: *in.Name, description: operation.Value(in.Description), expression: *in.ScheduleExpression,
		zone: operation.Value(in.ScheduleExpressionTimezone), start: in.StartDate, end: in.EndDate, window: in.FlexibleTimeWindow, state: in.State,
		after: in.ActionAfterCompletion, target: in.Target, encryptionKey: operation.Value(in.KmsKeyArn), token: token, asked: digest(in),
	}
	if err := a.check(&d); err != nil {
		return nil, err
	}
	a.making.Lock()
	defer a.making.Unlock()
	group, err := a.group(ctx, d.group)
	switch {
	case err != nil:
		return nil, err
	case group.Deleting:
		return nil, conflict("Schedule group %s is being deleted.", d.group)
	}
	s := &trigger.Schedule{Group: d.group, Name: d.name, ID: uuid.NewString(), Created: a.now().UTC(), Token: d.token, Asked: d.asked}
	a.change(s, &d)
	arn := s.ARN(a.account)
	err = a.records.Create(ctx, s)
	if errors.Is(err, state.ErrExists) {
		present, got := a.records.Schedule(ctx, d.group, d.name)
		if got == nil && d.token != "" && present.Token == d.token && present.Asked == d.asked {
			return &sdk.CreateScheduleOutput{ScheduleArn: &arn}, nil
		}
		err = conflict("Schedule %s already exists.", d.name)
	}
	if err != nil {
		return nil, storeError(err)
	}
	return &sdk.CreateScheduleOutput{ScheduleArn: &arn}, nil
}

// updateSchedule replaces all of a schedule: what the request lacks gets its default, as on AWS.
func (a *API) updateSchedule(ctx context.Context, in *sdk.UpdateScheduleInput) (*sdk.UpdateScheduleOutput, error) {
	d := definition{
		group: cmp.Or(operation.Value(in.GroupName), trigger.DefaultGroup), name: *in.Name, description: operation.Value(in.Description), expression: *in.ScheduleExpression,
		zone: operation.Value(in.ScheduleExpressionTimezone), start: in.StartDate, end: in.EndDate, window: in.FlexibleTimeWindow, state: in.State,
		after: in.ActionAfterCompletion, target: in.Target, encryptionKey: operation.Value(in.KmsKeyArn),
	}
	if err := a.check(&d); err != nil {
		return nil, err
	}
	if _, err := a.group(ctx, d.group); err != nil {
		return nil, err
	}
	s, err := a.records.Update(ctx, d.group, d.name, func(s *trigger.Schedule) error { a.change(s, &d); return nil })
	if errors.Is(err, state.ErrNotFound) {
		return nil, noSchedule(d.name)
	}
	if err != nil {
		return nil, storeError(err)
	}
	return &sdk.UpdateScheduleOutput{ScheduleArn: aws.String(s.ARN(a.account))}, nil
}

func (a *API) check(d *definition) error {
	if _, err := schedule.Parse(d.expression); err != nil {
		return invalid("Invalid Schedule Expression %s.", d.expression)
	}
	if _, err := schedule.Zone(d.zone); err != nil {
		return invalid("Invalid Schedule Expression Timezone %s.", d.zone)
	}
	if d.encryptionKey != "" {
		return notImplemented("KmsKeyArn is not implemented: schedules are not encrypted. Leave it out.")
	}
	if d.start != nil && d.end != nil && !d.end.After(*d.start) {
		return invalid("The EndDate must be after the StartDate.")
	}
	switch flexible := d.window.Mode == types.FlexibleTimeWindowModeFlexible; {
	case flexible && d.window.MaximumWindowInMinutes == nil:
		return invalid("MaximumWindowInMinutes is required when the Mode of FlexibleTimeWindow is FLEXIBLE.")
	case !flexible && d.window.MaximumWindowInMinutes != nil:
		return invalid("MaximumWindowInMinutes must not be provided when the Mode of FlexibleTimeWindow is OFF.")
	}
	return a.checkTarget(d.target)
}

func (a *API) checkTarget(t *types.Target) error {
	for _, parameters := range []struct {
		name string
		set  bool
	}{
		{"EcsParameters", t.EcsParameters != nil}, {"EventBridgeParameters", t.EventBridgeParameters != nil},
		{"KinesisParameters", t.KinesisParameters != nil}, {"SageMakerPipelineParameters", t.SageMakerPipelineParameters != nil},
	} {
		if parameters.set {
			return notImplemented("%s is not implemented: a target is a Lambda function or an SQS queue.", parameters.name)
		}
	}
	if strings.Contains(*t.Arn, ":::aws-sdk:") {
		return notImplemented("Universal targets are not implemented: %s. A target is the ARN of a Lambda function or an SQS queue.", *t.Arn)
	}
	to, err := delivery.ParseTarget(a.account, *t.Arn)
	if err != nil {
		return err
	}
	group := t.SqsParameters != nil && operation.Value(t.SqsParameters.MessageGroupId) != ""
	switch {
	case to.Queue == "" && t.SqsParameters != nil:
		return invalid("SqsParameters are only for targets that are SQS queues.")
	case strings.HasSuffix(to.Queue, ".fifo") && !group:
		return invalid("SqsParameters with a MessageGroupId are required for a FIFO queue.")
	case to.Queue == "" && t.Input != nil && !json.Valid([]byte(*t.Input)):
		return invalid("The Input of a Lambda target must be well-formed JSON.")
	}
	if dead := t.DeadLetterConfig; dead != nil && dead.Arn != nil {
		to, err := delivery.ParseTarget(a.account, *dead.Arn)
		switch {
		case err != nil && thaw.CodeOf(err) == thaw.CodeNotImplemented:
			return err
		case err != nil, to.Queue == "", strings.HasSuffix(to.Queue, ".fifo"):
			return invalid("DeadLetterConfig.Arn must be the ARN of a standard SQS queue.")
		}
	}
	return nil
}

// change sets what a request has. The schedule begins anew when its times change. What was due while it was disabled, or
// behind an end that is moved now, stays undone.
func (a *API) change(s *trigger.Schedule, d *definition) {
	now := a.now().UTC()
	to := cmp.Or(d.state, types.ScheduleStateEnabled)
	switch {
	case s.Expression != d.expression || s.Timezone != d.zone || !sameTime(s.Start, d.start):
		s.Origin = now.Truncate(time.Second)
		s.Since = s.Origin.Add(-1)
	case !sameTime(s.End, d.end), to == types.ScheduleStateEnabled && s.State != string(to):
		s.Since = now
	}
	s.Description, s.Expression, s.Timezone, s.Start, s.End = d.description, d.expression, d.zone, d.start, d.end
	s.Window = int(operation.Value(d.window.MaximumWindowInMinutes))
	s.State, s.DeleteAfter, s.Modified = string(to), d.after == types.ActionAfterCompletionDelete, now
	t := d.target
	s.Target = trigger.Target{ARN: *t.Arn, RoleARN: *t.RoleArn, Input: t.Input, Policy: delivery.DefaultPolicy}
	if t.SqsParameters != nil {
		s.Target.Group = t.SqsParameters.MessageGroupId
	}
	if t.DeadLetterConfig != nil {
		s.Target.DeadLetter = t.DeadLetterConfig.Arn
	}
	if t.RetryPolicy != nil {
		s.Target.Policy = events.MakePolicy(t.RetryPolicy.MaximumRetryAttempts, t.RetryPolicy.MaximumEventAgeInSeconds)
	}
}

func sameTime(x, y *time.Time) bool {
	if x == nil || y == nil {
		return x == y
	}
	return x.Equal(*y)
}

func (a *API) getSchedule(ctx context.Context, in *sdk.GetScheduleInput) (*sdk.GetScheduleOutput, error) {
	group := cmp.Or(operation.Value(in.GroupName), trigger.DefaultGroup)
	if _, err := a.group(ctx, group); err != nil {
		return nil, err
	}
	s, err := a.records.Schedule(ctx, group, *in.Name)
	if errors.Is(err, state.ErrNotFound) {
		return nil, noSchedule(*in.Name)
	}
	if err != nil {
		return nil, err
	}
	out := &sdk.GetScheduleOutput{
		Arn: aws.String(s.ARN(a.account)), Name: &s.Name, GroupName: &s.Group, Description: operation.Optional(s.Description), ScheduleExpression: &s.Expression,
		ScheduleExpressionTimezone: aws.String(cmp.Or(s.Timezone, "UTC")), StartDate: s.Start, EndDate: s.End, State: types.ScheduleState(s.State),
		ActionAfterCompletion: types.ActionAfterCompletionNone, CreationDate: &s.Created, LastModificationDate: &s.Modified,
		FlexibleTimeWindow: &types.FlexibleTimeWindow{Mode: types.FlexibleTimeWindowModeOff}, Target: shown(&s.Target),
	}
	if s.DeleteAfter {
		out.ActionAfterCompletion = types.ActionAfterCompletionDelete
	}
	if s.Window > 0 {
		out.FlexibleTimeWindow = &types.FlexibleTimeWindow{Mode: types.FlexibleTimeWindowModeFlexible, MaximumWindowInMinutes: aws.Int32(int32(s.Window))}
	}
	return out, nil
}

// shown has the retry policy in any case, as AWS's answers do.
func shown(s *trigger.Target) *types.Target {
	t := &types.Target{
		Arn: &s.ARN, RoleArn: &s.RoleARN, Input: s.Input,
		RetryPolicy: &types.RetryPolicy{MaximumRetryAttempts: aws.Int32(int32(s.Policy.Attempts)), MaximumEventAgeInSeconds: aws.Int32(int32(s.Policy.Age / time.Second))},
	}
	if s.Group != nil {
		t.SqsParameters = &types.SqsParameters{MessageGroupId: s.Group}
	}
	if s.DeadLetter != nil {
		t.DeadLetterConfig = &types.DeadLetterConfig{Arn: s.DeadLetter}
	}
	return t
}

func (a *API) deleteSchedule(ctx context.Context, in *sdk.DeleteScheduleInput) (*sdk.DeleteScheduleOutput, error) {
	group := cmp.Or(operation.Value(in.GroupName), trigger.DefaultGroup)
	if _, err := a.group(ctx, group); err != nil {
		return nil, err
	}
	err := a.records.Delete(ctx, group, *in.Name)
	if errors.Is(err, state.ErrNotFound) {
		return nil, noSchedule(*in.Name)
	}
	return &sdk.DeleteScheduleOutput{}, storeError(err)
}

func (a *API) listSchedules(ctx context.Context, in *sdk.ListSchedulesInput) (*sdk.ListSchedulesOutput, error) {
	prefix := ""
	if in.GroupName != nil {
		if _, err := a.group(ctx, *in.GroupName); err != nil {
			return nil, err
		}
		prefix = *in.GroupName + "/" + operation.Value(in.NamePrefix)
	}
	all, err := a.records.Schedules(ctx, prefix)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(s *trigger.Schedule) bool {
		return !strings.HasPrefix(s.Name, operation.Value(in.NamePrefix)) || in.State != "" && s.State != string(in.State)
	})
	part, next, err := page(all, (*trigger.Schedule).Key, in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListSchedulesOutput{Schedules: make([]types.ScheduleSummary, len(part)), NextToken: next}
	for i, s := range part {
		out.Schedules[i] = types.ScheduleSummary{
			Arn: aws.String(s.ARN(a.account)), Name: &s.Name, GroupName: &s.Group, State: types.ScheduleState(s.State),
			CreationDate: &s.Created, LastModificationDate: &s.Modified, Target: &types.TargetSummary{Arn: &s.Target.ARN},
		}
	}
	return out, nil
}
