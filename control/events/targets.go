package events

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/trigger/delivery"
	trigger "thaw/trigger/events"
)

// putTargets adds targets to a rule, or replaces those with the same id.
func (a *API) putTargets(ctx context.Context, in *sdk.PutTargetsInput) (*sdk.PutTargetsOutput, error) {
	if err := a.checkBus(in.EventBusName); err != nil {
		return nil, err
	}
	targets := make([]trigger.Target, len(in.Targets))
	for i := range in.Targets {
		if err := a.checkTarget(&in.Targets[i]); err != nil {
			return nil, err
		}
		targets[i] = stored(&in.Targets[i])
	}
	_, err := a.update(ctx, *in.Rule, func(r *trigger.Rule) error {
		for _, t := range targets {
			i := slices.IndexFunc(r.Targets, func(old trigger.Target) bool { return old.ID == t.ID })
			if i < 0 {
				r.Targets = append(r.Targets, t)
			} else {
				r.Targets[i] = t
			}
		}
		if len(r.Targets) > maxTargets {
			return limitExceeded()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.PutTargetsOutput{FailedEntries: []types.PutTargetsResultEntry{}}, nil
}

func (a *API) checkTarget(t *types.Target) error {
	for _, parameters := range []struct {
		name string
		set  bool
	}{
		{"AppSyncParameters", t.AppSyncParameters != nil}, {"BatchParameters", t.BatchParameters != nil}, {"EcsParameters", t.EcsParameters != nil},
		{"HttpParameters", t.HttpParameters != nil}, {"KinesisParameters", t.KinesisParameters != nil}, {"RedshiftDataParameters", t.RedshiftDataParameters != nil},
		{"RunCommandParameters", t.RunCommandParameters != nil}, {"SageMakerPipelineParameters", t.SageMakerPipelineParameters != nil},
	} {
		if parameters.set {
			return notImplemented("%s of target %s is not implemented: a target is a Lambda function or an SQS queue.", parameters.name, *t.Id)
		}
	}
	to, err := delivery.ParseTarget(a.account, *t.Arn)
	if err != nil {
		if thaw.CodeOf(err) == thaw.CodeNotImplemented {
			return err
		}
		return invalid("Parameter %s is not valid. Reason: Provided Arn is not in correct format.", *t.Arn)
	}
	fifo := strings.HasSuffix(to.Queue, ".fifo")
	group := t.SqsParameters != nil && operation.Value(t.SqsParameters.MessageGroupId) != ""
	switch {
	case fifo && !group:
		return invalid("Parameter(s) SqsParameters must be specified for target: %s.", *t.Id)
	case group && to.Queue == "":
		return invalid("Parameter(s) SqsParameters not valid for target %s: it is no SQS queue.", *t.Id)
	}
	if dead := t.DeadLetterConfig; dead != nil && dead.Arn != nil {
		if err := a.checkDeadLetter(*dead.Arn); err != nil {
			return err
		}
	}
	return checkInput(t)
}

func (a *API) checkDeadLetter(arn string) error {
	to, err := delivery.ParseTarget(a.account, arn)
	switch {
	case err != nil && thaw.CodeOf(err) == thaw.CodeNotImplemented:
		return err
	case err != nil, to.Queue == "", strings.HasSuffix(to.Queue, ".fifo"):
		return invalid("Parameter DeadLetterConfig is not valid. Reason: %s is not the ARN of a standard SQS queue.", arn)
	}
	return nil
}

func checkInput(t *types.Target) error {
	given := 0
	for _, set := range []bool{t.Input != nil, t.InputPath != nil, t.InputTransformer != nil} {
		if set {
			given++
		}
	}
	switch {
	case given > 1:
		return invalid("Only one of Input, InputPath, or InputTransformer must be provided for target %s.", *t.Id)
	case t.Input != nil && !json.Valid([]byte(*t.Input)):
		return invalid("JSON syntax error in input for target %s.", *t.Id)
	case t.InputPath != nil:
		if err := trigger.CheckPath(*t.InputPath); err != nil {
			return invalid("Invalid InputPath for target %s: %v.", *t.Id, err)
		}
	case t.InputTransformer != nil:
		if err := trigger.CheckTemplate(*t.InputTransformer.InputTemplate, t.InputTransformer.InputPathsMap); err != nil {
			return invalid("Invalid InputTemplate for target %s: %v.", *t.Id, err)
		}
	}
	return nil
}

func stored(t *types.Target) trigger.Target {
	s := trigger.Target{ID: *t.Id, ARN: *t.Arn, RoleARN: operation.Value(t.RoleArn), Input: t.Input, InputPath: t.InputPath}
	if x := t.InputTransformer; x != nil {
		s.Template, s.Paths = x.InputTemplate, x.InputPathsMap
	}
	if t.SqsParameters != nil {
		s.Group = t.SqsParameters.MessageGroupId
	}
	if t.DeadLetterConfig != nil {
		s.DeadLetter = t.DeadLetterConfig.Arn
	}
	if t.RetryPolicy != nil {
		s.Attempts, s.Age = t.RetryPolicy.MaximumRetryAttempts, t.RetryPolicy.MaximumEventAgeInSeconds
	}
	return s
}

func shown(s *trigger.Target) types.Target {
	t := types.Target{Id: &s.ID, Arn: &s.ARN, RoleArn: operation.Optional(s.RoleARN), Input: s.Input, InputPath: s.InputPath}
	if s.Template != nil {
		t.InputTransformer = &types.InputTransformer{InputTemplate: s.Template, InputPathsMap: s.Paths}
	}
	if s.Group != nil {
		t.SqsParameters = &types.SqsParameters{MessageGroupId: s.Group}
	}
	if s.DeadLetter != nil {
		t.DeadLetterConfig = &types.DeadLetterConfig{Arn: s.DeadLetter}
	}
	if s.Attempts != nil || s.Age != nil {
		t.RetryPolicy = &types.RetryPolicy{MaximumRetryAttempts: s.Attempts, MaximumEventAgeInSeconds: s.Age}
	}
	return t
}

// removeTargets takes ids that the rule does not have for removed, as AWS does.
func (a *API) removeTargets(ctx context.Context, in *sdk.RemoveTargetsInput) (*sdk.RemoveTargetsOutput, error) {
	if err := a.checkBus(in.EventBusName); err != nil {
		return nil, err
	}
	_, err := a.update(ctx, *in.Rule, func(r *trigger.Rule) error {
		r.Targets = slices.DeleteFunc(r.Targets, func(t trigger.Target) bool { return slices.Contains(in.Ids, t.ID) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.RemoveTargetsOutput{FailedEntries: []types.RemoveTargetsResultEntry{}}, nil
}

func (a *API) listTargetsByRule(ctx context.Context, in *sdk.ListTargetsByRuleInput) (*sdk.ListTargetsByRuleOutput, error) {
	r, err := a.rule(ctx, *in.Rule, in.EventBusName)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(r.Targets, func(x, y trigger.Target) int { return strings.Compare(x.ID, y.ID) })
	part, next, err := page(r.Targets, func(t trigger.Target) string { return t.ID }, in.NextToken, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListTargetsByRuleOutput{Targets: make([]types.Target, len(part)), NextToken: next}
	for i := range part {
		out.Targets[i] = shown(&part[i])
	}
	return out, nil
}

func (a *API) listRuleNamesByTarget(ctx context.Context, in *sdk.ListRuleNamesByTargetInput) (*sdk.ListRuleNamesByTargetOutput, error) {
	if err := a.checkBus(in.EventBusName); err != nil {
		return nil, err
	}
	rules, err := a.records.Rules(ctx, "")
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, r := range rules {
		if slices.ContainsFunc(r.Targets, func(t trigger.Target) bool { return t.ARN == *in.TargetArn }) {
			names = append(names, r.Name)
		}
	}
	part, next, err := page(names, func(name string) string { return name }, in.NextToken, in.Limit)
	if err != nil {
		return nil, err
	}
	return &sdk.ListRuleNamesByTargetOutput{RuleNames: part, NextToken: next}, nil
}
