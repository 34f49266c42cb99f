package logs

import (
	"context"
	"maps"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/telemetry/groups"
	"thaw/telemetry/metrics"
	"thaw/trigger/subscription"
)

// Bounds of metric filters, after the documentation.
const (
	maxMetricFilters = 100 // of a group
	maxDimensions    = 3
)

func (a *API) putMetricFilter(ctx context.Context, in *sdk.PutMetricFilterInput) (*sdk.PutMetricFilterOutput, error) {
	switch {
	case in.ApplyOnTransformedLogs:
		return nil, thaw.Errorf(thaw.CodeNotImplemented, "Log transformers are not implemented: put the filter without applyOnTransformedLogs.")
	case in.FieldSelectionCriteria != nil, len(in.EmitSystemFieldDimensions) > 0:
		return nil, thaw.Errorf(thaw.CodeNotImplemented, "Centralized logs are not implemented: put the filter without fieldSelectionCriteria and emitSystemFieldDimensions.")
	}
	pattern, err := compilePattern(*in.FilterPattern)
	if err != nil {
		return nil, err
	}
	t := &in.MetricTransformations[0]
	f := groups.MetricFilter{
		Name: *in.FilterName, Pattern: *in.FilterPattern, Namespace: *t.MetricNamespace, Metric: *t.MetricName, Unit: string(t.Unit), Value: *t.MetricValue,
		Default: t.DefaultValue, Dimensions: t.Dimensions, Created: a.cfg.Now().UTC(),
	}
	switch {
	case f.Default != nil && len(f.Dimensions) > 0:
		return nil, invalid("Invalid metric transformation: dimensions and default value are mutually exclusive properties.")
	case len(f.Dimensions) > maxDimensions:
		return nil, invalid("Invalid metric transformation: there can be %d dimensions at most.", maxDimensions)
	case strings.HasPrefix(f.Namespace, "AWS/"):
		return nil, invalid("Invalid metric transformation: namespaces that begin with AWS/ are AWS's own.")
	case f.Namespace == metrics.NamespaceThaw:
		return nil, invalid("Invalid metric transformation: the namespace %s is the platform's own.", f.Namespace)
	}
	if err := subscription.CheckMetricFilter(pattern, &f); err != nil {
		return nil, invalid("Invalid metric transformation: %s.", err)
	}
	g, err := a.group(ctx, in.LogGroupName, nil)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(g.MetricFilters, func(other groups.MetricFilter) bool { return other.Name == f.Name }) {
		if err := a.roomForFilter(ctx); err != nil {
			return nil, err
		}
	}
	if f.After, err = a.cfg.Groups.Newest(ctx); err != nil {
		return nil, err
	}
	return nil, a.update(ctx, g.Name, func(g *groups.Group) error {
		g.MetricFilters = slices.Clone(g.MetricFilters)
		if i := slices.IndexFunc(g.MetricFilters, func(other groups.MetricFilter) bool { return other.Name == f.Name }); i >= 0 {
			f.Created, f.After = g.MetricFilters[i].Created, g.MetricFilters[i].After // it goes on where it is
			g.MetricFilters[i] = f
			return nil
		}
		if len(g.MetricFilters) >= maxMetricFilters {
			return thaw.Errorf(thaw.CodeQuotaExceeded, "Resource limit exceeded.")
		}
		g.MetricFilters = append(g.MetricFilters, f)
		return nil
	})
}

func (a *API) describeMetricFilters(ctx context.Context, in *sdk.DescribeMetricFiltersInput) (*sdk.DescribeMetricFiltersOutput, error) {
	if (in.MetricName == nil) != (in.MetricNamespace == nil) {
		return nil, invalid("metricName and metricNamespace must be given together.")
	}
	var list []groups.GroupInfo
	if in.LogGroupName != nil {
		g, err := a.group(ctx, in.LogGroupName, nil)
		if err != nil {
			return nil, err
		}
		list = []groups.GroupInfo{g}
	} else {
		var err error
		if list, err = a.cfg.Groups.Groups(ctx); err != nil {
			return nil, err
		}
	}
	var all []types.MetricFilter
	for _, g := range list {
		for i := range g.MetricFilters {
			f := &g.MetricFilters[i]
			if strings.HasPrefix(f.Name, operation.Value(in.FilterNamePrefix)) &&
				(in.MetricName == nil || f.Metric == *in.MetricName && f.Namespace == *in.MetricNamespace) {
				all = append(all, describedFilter(g.Name, f))
			}
		}
	}
	key := func(f types.MetricFilter) string { return *f.FilterName + "\x00" + *f.LogGroupName }
	slices.SortFunc(all, func(a, b types.MetricFilter) int { return strings.Compare(key(a), key(b)) })
	page, next, err := cut(all, key, in.NextToken, in.Limit, maxDescribed)
	if err != nil {
		return nil, err
	}
	return &sdk.DescribeMetricFiltersOutput{MetricFilters: append([]types.MetricFilter{}, page...), NextToken: next}, nil
}

func describedFilter(group string, f *groups.MetricFilter) types.MetricFilter {
	return types.MetricFilter{
		FilterName: &f.Name, FilterPattern: &f.Pattern, LogGroupName: &group, CreationTime: millis(f.Created),
		MetricTransformations: []types.MetricTransformation{{
			MetricName: &f.Metric, MetricNamespace: &f.Namespace, MetricValue: &f.Value, DefaultValue: f.Default, Dimensions: maps.Clone(f.Dimensions),
			Unit: types.StandardUnit(f.Unit),
		}},
	}
}

func (a *API) deleteMetricFilter(ctx context.Context, in *sdk.DeleteMetricFilterInput) (*sdk.DeleteMetricFilterOutput, error) {
	return nil, a.update(ctx, *in.LogGroupName, func(g *groups.Group) error {
		i := slices.IndexFunc(g.MetricFilters, func(f groups.MetricFilter) bool { return f.Name == *in.FilterName })
		if i < 0 {
			return thaw.Errorf(thaw.CodeResourceNotFound, "The specified metric filter does not exist.")
		}
		g.MetricFilters = slices.Delete(slices.Clone(g.MetricFilters), i, i+1)
		return nil
	})
}

// testMetricFilter judges messages by a filter pattern.
func (a *API) testMetricFilter(_ context.Context, in *sdk.TestMetricFilterInput) (*sdk.TestMetricFilterOutput, error) {
	p, err := compilePattern(*in.FilterPattern)
	if err != nil {
		return nil, err
	}
	out := &sdk.TestMetricFilterOutput{Matches: []types.MetricFilterMatchRecord{}}
	for i, message := range in.LogEventMessages {
		if p.Match(message) {
			out.Matches = append(out.Matches, types.MetricFilterMatchRecord{
				EventNumber: int64(i + 1), EventMessage: &message, ExtractedValues: p.Extract(message),
			})
		}
	}
	return out, nil
}
