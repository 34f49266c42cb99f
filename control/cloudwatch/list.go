package cloudwatch

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"thaw/telemetry/metrics"
)

// listPage is how many metrics an answer of ListMetrics has at most.
const listPage = 500

func (a *API) listMetrics(ctx context.Context, in *cloudwatch.ListMetricsInput) (*cloudwatch.ListMetricsOutput, error) {
	if in.OwningAccount != nil && *in.OwningAccount != a.cfg.Account.ID {
		return nil, notImplemented("There are no other accounts here to list the metrics of. Leave OwningAccount out.")
	}
	filter := metrics.Filter{Namespace: value(in.Namespace), Name: value(in.MetricName), RecentlyActive: in.RecentlyActive != ""}
	for _, d := range in.Dimensions {
		filter.Dimensions = append(filter.Dimensions, metrics.Dimension{Name: value(d.Name), Value: value(d.Value)})
	}
	after, ok := tokenKey(in.NextToken)
	if !ok {
		return nil, invalid("The value for parameter NextToken is not one that ListMetrics gave. Start again without it.")
	}
	found, next, err := a.cfg.Metrics.List(ctx, filter, after, listPage)
	if err != nil {
		return nil, storeError(err)
	}
	out := &cloudwatch.ListMetricsOutput{Metrics: make([]types.Metric, len(found)), NextToken: token(next)}
	for i := range found {
		m := &found[i]
		out.Metrics[i] = types.Metric{Namespace: &m.Namespace, MetricName: &m.Name, Dimensions: wireDimensions(m.Dimensions)}
		if value(in.IncludeLinkedAccounts) {
			out.OwningAccounts = append(out.OwningAccounts, a.cfg.Account.ID)
		}
	}
	return out, nil
}
