package events

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/google/uuid"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
	trigger "thaw/trigger/events"
	"thaw/trigger/pattern"
	"thaw/trigger/schedule"
)

// putRule makes a rule, or replaces all of one but its targets and tags, as AWS does.
func (a *API) putRule(ctx context.Context, in *sdk.PutRuleInput) (*sdk.PutRuleOutput, error) {
	if err := a.checkRule(in); err != nil {
		return nil, err
	}
	a.making.Lock()
	defer a.making.Unlock()
	rule, err := a.records.Update(ctx, *in.Name, func(r *trigger.Rule) error { a.change(r, in); return nil })
	if errors.Is(err, state.ErrNotFound) {
		rule, err = a.create(ctx, in)
	}
	if err != nil {
		return nil, storeError(err)
	}
	arn := rule.ARN(a.account)
	return &sdk.PutRuleOutput{RuleArn: &arn}, nil
}

func (a *API) checkRule(in *sdk.PutRuleInput) error {
	if err := a.checkBus(in.EventBusName); err != nil {
		return err
	}
	expression, patternText := operation.Value(in.ScheduleExpression), operation.Value(in.EventPattern)
	if expression == "" && patternText == "" {
		return invalid("Parameter(s) EventPattern or ScheduleExpression must be specified.")
	}
	if in.State == types.RuleStateEnabledWithAllCloudtrailManagementEvents {
		return notImplemented("The state %s is not implemented: there are no events of CloudTrail here. Use ENABLED.", in.State)
	}
	if expression != "" && schedule.CheckRule(expression) != nil {
		return invalid("Parameter ScheduleExpression is not valid.")
	}
	if patternText != "" {
		if _, err := compile(patternText); err != nil {
			return err
		}
	}
	return nil
}

// compile words a mistake in a pattern as AWS does.
func compile(text string) (*pattern.Pattern, error) {
	p, err := pattern.Compile([]byte(text))
	if err != nil {
		return nil, thaw.Errorf(thaw.CodeInvalidEventPattern, "Event pattern is not valid. Reason: %v", err)
	}
	return p, nil
}

// create stores a new rule. The caller holds API.making.
func (a *API) create(ctx context.Context, in *sdk.PutRuleInput) (*trigger.Rule, error) {
	present, err := a.records.Rules(ctx, "")
	if err != nil {
		return nil, err
	}
	if len(present) >= maxRules {
		return nil, limitExceeded()
	}
	r := &trigger.Rule{Name: *in.Name, ID: uuid.NewString(), Created: a.now().UTC()}
	if r.Tags, err = addTags(nil, in.Tags); err != nil {
		return nil, err
	}
	a.change(r, in)
	return r, a.records.Create(ctx, r)
}

// change sets what a request has. The schedule begins anew when it is another, and when the rule is enabled.
func (a *API) change(r *trigger.Rule, in *sdk.PutRuleInput) {
	r.Description, r.RoleARN, r.Pattern = operation.Value(in.Description), operation.Value(in.RoleArn), operation.Value(in.EventPattern)
	if expression := operation.Value(in.ScheduleExpression); expression != r.Schedule {
		r.Schedule = expression
		r.Origin = a.now().UTC()
		r.Since = r.Origin
	}
	to := trigger.Enabled
	if in.State == types.RuleStateDisabled {
		to = trigger.Disabled
	}
	a.setState(r, to)
}

// setState enables or disables a rule. What was due while it was disabled stays undone.
func (a *API) setState(r *trigger.Rule, to string) {
	if to == trigger.Enabled && r.State == trigger.Disabled {
		r.Since = a.now().UTC()
	}
	r.State = to
}

func (a *API) describeRule(ctx context.Context, in *sdk.DescribeRuleInput) (*sdk.DescribeRuleOutput, error) {
	r, err := a.rule(ctx, *in.Name, in.EventBusName)
	if err != nil {
		return nil, err
	}
	shown, owner := a.show(r), a.account.ID
	return &sdk.DescribeRuleOutput{
		Name: shown.Name, Arn: shown.Arn, EventPattern: shown.EventPattern, ScheduleExpression: shown.ScheduleExpression,
		State: shown.State, Description: shown.Description, RoleArn: shown.RoleArn, EventBusName: shown.EventBusName, CreatedBy: &owner,
	}, nil
}

func (a *API) show(r *trigger.Rule) types.Rule {
	arn, bus := r.ARN(a.account), trigger.BusName
	return types.Rule{
		Name: &r.Name, Arn: &arn, EventPattern: operation.Optional(r.Pattern), ScheduleExpression: operation.Optional(r.Schedule), State: types.RuleState(r.State),
		Description: operation.Optional(r.Description), RoleArn: operation.Optional(r.RoleARN), EventBusName: &bus,
	}
}

func (a *API) listRules(ctx context.Context, in *sdk.ListRulesInput) (*sdk.ListRulesOutput, error) {
	if err := a.checkBus(in.EventBusName); err != nil {
		return nil, err
	}
	rules, err := a.records.Rules(ctx, operation.Value(in.NamePrefix))
	if err != nil {
		return nil, err
	}
	part, next, err := page(rules, func(r *trigger.Rule) string { return r.Name }, in.NextToken, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListRulesOutput{Rules: make([]types.Rule, len(part)), NextToken: next}
	for i, r := range part {
		out.Rules[i] = a.show(r)
	}
	return out, nil
}

// deleteRule says nothing where there is no rule, as AWS does.
func (a *API) deleteRule(ctx context.Context, in *sdk.DeleteRuleInput) (*sdk.DeleteRuleOutput, error) {
	if err := a.checkBus(in.EventBusName); err != nil {
		return nil, err
	}
	err := a.records.Delete(ctx, *in.Name, func(r *trigger.Rule) error {
		if len(r.Targets) > 0 {
			return invalid("Rule can't be deleted since it has targets.")
		}
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		err = nil
	}
	return &sdk.DeleteRuleOutput{}, storeError(err)
}

func (a *API) enableRule(ctx context.Context, in *sdk.EnableRuleInput) (*sdk.EnableRuleOutput, error) {
	return &sdk.EnableRuleOutput{}, a.switchRule(ctx, *in.Name, in.EventBusName, trigger.Enabled)
}

func (a *API) disableRule(ctx context.Context, in *sdk.DisableRuleInput) (*sdk.DisableRuleOutput, error) {
	return &sdk.DisableRuleOutput{}, a.switchRule(ctx, *in.Name, in.EventBusName, trigger.Disabled)
}

func (a *API) switchRule(ctx context.Context, name string, bus *string, to string) error {
	if err := a.checkBus(bus); err != nil {
		return err
	}
	_, err := a.update(ctx, name, func(r *trigger.Rule) error { a.setState(r, to); return nil })
	return err
}

func (a *API) tagResource(ctx context.Context, in *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	name, err := a.taggable(*in.ResourceARN)
	if err != nil {
		return nil, err
	}
	_, err = a.update(ctx, name, func(r *trigger.Rule) error {
		tags, err := addTags(r.Tags, in.Tags)
		r.Tags = tags
		return err
	})
	return &sdk.TagResourceOutput{}, err
}

func (a *API) untagResource(ctx context.Context, in *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	name, err := a.taggable(*in.ResourceARN)
	if err != nil {
		return nil, err
	}
	_, err = a.update(ctx, name, func(r *trigger.Rule) error {
		for _, key := range in.TagKeys {
			delete(r.Tags, key)
		}
		return nil
	})
	return &sdk.UntagResourceOutput{}, err
}

func (a *API) listTagsForResource(ctx context.Context, in *sdk.ListTagsForResourceInput) (*sdk.ListTagsForResourceOutput, error) {
	name, err := a.taggable(*in.ResourceARN)
	if err != nil {
		return nil, err
	}
	r, err := a.rule(ctx, name, nil)
	if err != nil {
		return nil, err
	}
	return &sdk.ListTagsForResourceOutput{Tags: tagList(r.Tags)}, nil
}

// taggable is the name of the rule with that ARN.
func (a *API) taggable(arn string) (string, error) {
	if name, ok := strings.CutPrefix(arn, trigger.ARNPrefix(a.account)); ok && name != "" && !strings.Contains(name, "/") {
		return name, nil
	}
	if busPattern.MatchString(arn) {
		return "", notImplemented("Tags of event buses are not implemented, only those of rules.")
	}
	return "", thaw.Errorf(thaw.CodeResourceNotFound, "There is no rule %s on EventBus %s.", arn, trigger.BusName)
}

// addTags gives tags with more added, or says why they cannot be.
func addTags(present map[string]string, added []types.Tag) (map[string]string, error) {
	if len(added) == 0 {
		return present, nil
	}
	tags := map[string]string{}
	maps.Copy(tags, present)
	for _, t := range added {
		if strings.HasPrefix(strings.ToLower(*t.Key), "aws:") {
			return present, invalid("Tag key '%s' is not allowed: the prefix aws: is reserved. Choose another key.", *t.Key)
		}
		tags[*t.Key] = *t.Value
	}
	if len(tags) > maxTags {
		return present, limitExceeded()
	}
	return tags, nil
}

// The members that an event must have to be tested, after the documentation of TestEventPattern.
var testedMembers = []string{"id", "account", "source", "time", "region", "resources", "detail-type"}

func (a *API) testEventPattern(_ context.Context, in *sdk.TestEventPatternInput) (*sdk.TestEventPatternOutput, error) {
	p, err := compile(*in.EventPattern)
	if err != nil {
		return nil, err
	}
	var event map[string]json.RawMessage
	if json.Unmarshal([]byte(*in.Event), &event) != nil || event == nil {
		return nil, invalid("Parameter Event is not valid.")
	}
	for _, member := range testedMembers {
		if _, ok := event[member]; !ok {
			return nil, invalid("Parameter Event is not valid. Reason: The event has no member %s.", member)
		}
	}
	return &sdk.TestEventPatternOutput{Result: p.Match([]byte(*in.Event))}, nil
}
