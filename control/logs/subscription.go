package logs

import (
	"context"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/telemetry/groups"
	"thaw/trigger/subscription"
)

// maxSubscriptions is how many subscription filters a log group can have, after the documentation.
const maxSubscriptions = 2

func (a *API) putSubscriptionFilter(ctx context.Context, in *sdk.PutSubscriptionFilterInput) (*sdk.PutSubscriptionFilterOutput, error) {
	switch {
	case in.ApplyOnTransformedLogs:
		return nil, thaw.Errorf(thaw.CodeNotImplemented, "Log transformers are not implemented: put the filter without applyOnTransformedLogs.")
	case in.FieldSelectionCriteria != nil, len(in.EmitSystemFields) > 0:
		return nil, thaw.Errorf(thaw.CodeNotImplemented, "Centralized logs are not implemented: put the filter without fieldSelectionCriteria and emitSystemFields.")
	}
	g, err := a.group(ctx, in.LogGroupName, nil)
	if err != nil {
		return nil, err
	}
	if _, err := compilePattern(*in.FilterPattern); err != nil {
		return nil, err
	}
	if err := a.checkDestination(g.Name, in); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(g.Subscriptions, func(other groups.Subscription) bool { return other.Name == *in.FilterName }) {
		if err := a.roomForFilter(ctx); err != nil {
			return nil, err
		}
	}
	newest, err := a.cfg.Groups.Newest(ctx)
	if err != nil {
		return nil, err
	}
	s := groups.Subscription{
		Name: *in.FilterName, Pattern: *in.FilterPattern, Destination: *in.DestinationArn, Distribution: string(in.Distribution),
		Created: a.cfg.Now().UTC(), After: newest,
	}
	return nil, a.update(ctx, g.Name, func(g *groups.Group) error {
		g.Subscriptions = slices.Clone(g.Subscriptions)
		if i := slices.IndexFunc(g.Subscriptions, func(other groups.Subscription) bool { return other.Name == s.Name }); i >= 0 {
			s.Created, s.After = g.Subscriptions[i].Created, g.Subscriptions[i].After // it goes on where it is
			g.Subscriptions[i] = s
			return nil
		}
		if len(g.Subscriptions) >= maxSubscriptions {
			return thaw.Errorf(thaw.CodeQuotaExceeded, "Resource limit exceeded.")
		}
		g.Subscriptions = append(g.Subscriptions, s)
		return nil
	})
}

// roomForFilter refuses a further filter where it would not be followed.
func (a *API) roomForFilter(ctx context.Context) error {
	list, err := a.cfg.Groups.Groups(ctx)
	if err != nil {
		return err
	}
	n := 0
	for i := range list {
		n += len(list[i].Subscriptions) + len(list[i].MetricFilters)
	}
	if n >= subscription.MaxFilters {
		return thaw.Errorf(thaw.CodeQuotaExceeded, "There are %d subscription and metric filters, as many as are followed here. Delete some.", n)
	}
	return nil
}

// checkDestination wants a function of this account that lets CloudWatch Logs invoke it, and whose own log is another group:
// it would be invoked for what it writes about that.
func (a *API) checkDestination(group string, in *sdk.PutSubscriptionFilterInput) error {
	arn := *in.DestinationArn
	ref, ok := thaw.ParseFunctionRef(arn)
	if !ok || !strings.HasPrefix(arn, "arn:") || !strings.Contains(arn, ":lambda:") {
		if strings.HasPrefix(arn, "arn:") && !strings.Contains(arn, ":lambda:") {
			return thaw.Errorf(thaw.CodeNotImplemented, "Only functions are destinations of subscription filters here: %s is none.", arn)
		}
		return invalid("destinationArn is not the ARN of a function.")
	}
	if !strings.HasPrefix(arn, "arn:aws:lambda:"+a.cfg.Account.Region+":"+a.cfg.Account.ID+":") {
		return thaw.Errorf(thaw.CodeNotImplemented, "Functions of other accounts and regions are not implemented: %s. This is account %s in %s.", arn, a.cfg.Account.ID, a.cfg.Account.Region)
	}
	if in.RoleArn != nil {
		return invalid("destinationArn for vendor lambda cannot be used with roleArn")
	}
	f, ok := a.cfg.Functions.Function(ref.Name)
	if ok && groups.WritesTo(f, ref.Qualifier, group) {
		return invalid("The log group provided is reserved for the function log of the destination function.")
	}
	if ok && groups.Permits(f.Policies[ref.Qualifier], a.cfg.Account, group) {
		return nil
	}
	return invalid("Could not execute the lambda function. Make sure you have given CloudWatch Logs permission to execute your function.")
}

func (a *API) describeSubscriptionFilters(ctx context.Context, in *sdk.DescribeSubscriptionFiltersInput) (*sdk.DescribeSubscriptionFiltersOutput, error) {
	g, err := a.group(ctx, in.LogGroupName, nil)
	if err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(slices.Clone(g.Subscriptions), func(s groups.Subscription) bool {
		return !strings.HasPrefix(s.Name, operation.Value(in.FilterNamePrefix))
	})
	name := func(s groups.Subscription) string { return s.Name }
	slices.SortFunc(list, func(a, b groups.Subscription) int { return strings.Compare(a.Name, b.Name) })
	page, next, err := cut(list, name, in.NextToken, in.Limit, maxDescribed)
	if err != nil {
		return nil, err
	}
	out := &sdk.DescribeSubscriptionFiltersOutput{SubscriptionFilters: []types.SubscriptionFilter{}, NextToken: next}
	for i := range page {
		s := &page[i]
		distribution := types.Distribution(s.Distribution)
		if distribution == "" {
			distribution = types.DistributionByLogStream
		}
		out.SubscriptionFilters = append(out.SubscriptionFilters, types.SubscriptionFilter{
			FilterName: &s.Name, LogGroupName: &g.Name, FilterPattern: &s.Pattern, DestinationArn: &s.Destination,
			Distribution: distribution, CreationTime: millis(s.Created),
		})
	}
	return out, nil
}

func (a *API) deleteSubscriptionFilter(ctx context.Context, in *sdk.DeleteSubscriptionFilterInput) (*sdk.DeleteSubscriptionFilterOutput, error) {
	return nil, a.update(ctx, *in.LogGroupName, func(g *groups.Group) error {
		i := slices.IndexFunc(g.Subscriptions, func(s groups.Subscription) bool { return s.Name == *in.FilterName })
		if i < 0 {
			return thaw.Errorf(thaw.CodeResourceNotFound, "The specified subscription filter does not exist.")
		}
		g.Subscriptions = slices.Delete(slices.Clone(g.Subscriptions), i, i+1)
		return nil
	})
}
