package logs

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/telemetry/groups"
)

// Bounds of listings, after the model: the default is the most.
const (
	maxDescribed = 50
	maxListed    = 1000
)

func (a *API) createLogGroup(ctx context.Context, in *sdk.CreateLogGroupInput) (*sdk.CreateLogGroupOutput, error) {
	name := *in.LogGroupName
	switch {
	case strings.HasPrefix(name, "aws/"):
		return nil, invalid("Log groups starting with AWS/ are reserved for AWS.")
	case in.KmsKeyId != nil:
		return nil, thaw.Errorf(thaw.CodeNotImplemented, "KMS keys are not implemented: create the log group without kmsKeyId.")
	case in.LogGroupClass != "" && in.LogGroupClass != types.LogGroupClassStandard:
		return nil, thaw.Errorf(thaw.CodeNotImplemented, "The log group class %s is not implemented: all groups are STANDARD.", in.LogGroupClass)
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	count, err := a.cfg.Groups.Count(ctx)
	if err != nil {
		return nil, err
	}
	if count >= groups.MaxGroups {
		return nil, thaw.Errorf(thaw.CodeQuotaExceeded, "There are %d log groups, as many as there can be. Delete some.", groups.MaxGroups)
	}
	err = a.cfg.Groups.Create(ctx, name, groups.Group{Created: a.cfg.Now().UTC(), Tags: in.Tags, Protected: operation.Value(in.DeletionProtectionEnabled)})
	return nil, wording(err, nil, errGroupExists)
}

func (a *API) deleteLogGroup(ctx context.Context, in *sdk.DeleteLogGroupInput) (*sdk.DeleteLogGroupOutput, error) {
	g, err := a.group(ctx, in.LogGroupName, nil)
	if err != nil {
		return nil, err
	}
	if err := protected(&g); err != nil {
		return nil, err
	}
	return nil, wording(a.cfg.Groups.DeleteGroup(ctx, g.Name), errNoGroup, nil)
}

// protected refuses what deletes from a group with deletion protection.
func protected(g *groups.GroupInfo) error {
	if g.Protected {
		return thaw.Errorf(thaw.CodeValidation, "Deletion protection is enabled for the log group %s. Disable it with PutLogGroupDeletionProtection first.", g.Name)
	}
	return nil
}

func (a *API) describeLogGroups(ctx context.Context, in *sdk.DescribeLogGroupsInput) (*sdk.DescribeLogGroupsOutput, error) {
	if in.LogGroupNamePrefix != nil && in.LogGroupNamePattern != nil {
		return nil, invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
	}
	if err := a.ownAccount(in.AccountIdentifiers); err != nil {
		return nil, err
	}
	var only []string
	for _, identifier := range in.LogGroupIdentifiers {
		name, err := a.nameOf(identifier)
		if err != nil {
			return nil, err
		}
		only = append(only, name)
	}
	pattern := strings.ToLower(operation.Value(in.LogGroupNamePattern))
	list, err := a.listed(ctx, in.LogGroupClass, func(name string) bool {
		return strings.HasPrefix(name, operation.Value(in.LogGroupNamePrefix)) && strings.Contains(strings.ToLower(name), pattern) &&
			(only == nil || slices.Contains(only, name))
	})
	if err != nil {
		return nil, err
	}
	page, next, err := cut(list, groupName, in.NextToken, in.Limit, maxDescribed)
	if err != nil {
		return nil, err
	}
	out := &sdk.DescribeLogGroupsOutput{LogGroups: []types.LogGroup{}, NextToken: next}
	for i := range page {
		g := &page[i]
		described := types.LogGroup{
			LogGroupName: &g.Name, CreationTime: millis(g.Created), Arn: pointer(a.arn(g.Name) + ":*"), LogGroupArn: pointer(a.arn(g.Name)),
			StoredBytes: &g.Bytes, MetricFilterCount: pointer(int32(len(g.MetricFilters))), LogGroupClass: types.LogGroupClassStandard,
			DeletionProtectionEnabled: &g.Protected,
		}
		if g.Retention > 0 {
			described.RetentionInDays = pointer(int32(g.Retention))
		}
		out.LogGroups = append(out.LogGroups, described)
	}
	return out, nil
}

func (a *API) listLogGroups(ctx context.Context, in *sdk.ListLogGroupsInput) (*sdk.ListLogGroupsOutput, error) {
	switch {
	case len(in.DataSources) > 0:
		return nil, thaw.Errorf(thaw.CodeNotImplemented, "Data sources are not implemented: list the log groups without dataSources.")
	case len(in.FieldIndexNames) > 0:
		return nil, thaw.Errorf(thaw.CodeNotImplemented, "Field indexes are not implemented: list the log groups without fieldIndexNames.")
	case len(in.LogGroupTags) > 0:
		return nil, thaw.Errorf(thaw.CodeNotImplemented, "Filters of tags are not implemented: list the log groups without logGroupTags.")
	}
	if err := a.ownAccount(in.AccountIdentifiers); err != nil {
		return nil, err
	}
	var pattern *regexp.Regexp
	if in.LogGroupNamePattern != nil {
		var err error
		if pattern, err = regexp.Compile(*in.LogGroupNamePattern); err != nil {
			return nil, invalid("logGroupNamePattern is not a regular expression.")
		}
	}
	list, err := a.listed(ctx, in.LogGroupClass, func(name string) bool { return pattern == nil || pattern.MatchString(name) })
	if err != nil {
		return nil, err
	}
	page, next, err := cut(list, groupName, in.NextToken, in.Limit, maxListed)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListLogGroupsOutput{LogGroups: []types.LogGroupSummary{}, NextToken: next}
	for i := range page {
		out.LogGroups = append(out.LogGroups, types.LogGroupSummary{
			LogGroupName: &page[i].Name, LogGroupArn: pointer(a.arn(page[i].Name)), LogGroupClass: types.LogGroupClassStandard,
		})
	}
	return out, nil
}

// ownAccount refuses to list what other accounts have.
func (a *API) ownAccount(accounts []string) error {
	for _, id := range accounts {
		if id != a.cfg.Account.ID {
			return thaw.Errorf(thaw.CodeNotImplemented, "There are no log groups of other accounts here, such as %s. Leave accountIdentifiers out.", id)
		}
	}
	return nil
}

func groupName(g groups.GroupInfo) string { return g.Name }

// listed gives the groups of a class whose names are meant.
func (a *API) listed(ctx context.Context, class types.LogGroupClass, meant func(name string) bool) ([]groups.GroupInfo, error) {
	if class != "" && class != types.LogGroupClassStandard {
		return nil, nil
	}
	list, err := a.cfg.Groups.Groups(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(g groups.GroupInfo) bool { return !meant(g.Name) }), nil
}

// cut gives the page that a request asks for of items in the order of their keys.
func cut[T any](items []T, key func(T) string, token *string, limit *int32, most int) ([]T, *string, error) {
	if limit != nil {
		most = min(most, int(*limit))
	}
	page, next, err := operation.Cut(items, key, token, most)
	if err != nil {
		return nil, nil, errToken
	}
	return page, next, nil
}

// retentions are the days that PutRetentionPolicy takes, after its documentation.
var retentions = []int32{
	1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
}

func (a *API) putRetentionPolicy(ctx context.Context, in *sdk.PutRetentionPolicyInput) (*sdk.PutRetentionPolicyOutput, error) {
	days := *in.RetentionInDays
	if !slices.Contains(retentions, days) {
		return nil, invalid("1 validation error detected: Value '%d' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set: [%s]", days, strings.Trim(strings.ReplaceAll(fmt.Sprint(retentions), " ", ", "), "[]"))
	}
	return nil, a.update(ctx, *in.LogGroupName, func(g *groups.Group) error { g.Retention = int(days); return nil })
}

func (a *API) deleteRetentionPolicy(ctx context.Context, in *sdk.DeleteRetentionPolicyInput) (*sdk.DeleteRetentionPolicyOutput, error) {
	return nil, a.update(ctx, *in.LogGroupName, func(g *groups.Group) error { g.Retention = 0; return nil })
}

func (a *API) putLogGroupDeletionProtection(ctx context.Context, in *sdk.PutLogGroupDeletionProtectionInput) (*sdk.PutLogGroupDeletionProtectionOutput, error) {
	name, err := a.nameOf(*in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	return nil, a.update(ctx, name, func(g *groups.Group) error { g.Protected = *in.DeletionProtectionEnabled; return nil })
}

func (a *API) update(ctx context.Context, name string, change func(*groups.Group) error) error {
	return wording(a.cfg.Groups.Update(ctx, name, change), errNoGroup, nil)
}
