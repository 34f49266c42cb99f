package cloudwatch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/trigger/alarms"
)

func (a *API) describeAlarms(ctx context.Context, in *cloudwatch.DescribeAlarmsInput) (*cloudwatch.DescribeAlarmsOutput, error) {
	related := in.ChildrenOfAlarmName != nil || in.ParentsOfAlarmName != nil
	switch {
	case in.AlarmNamePrefix != nil && len(in.AlarmNames) > 0:
		return nil, bad("AlarmNamePrefix and AlarmNames are mutually exclusive and you have specified both.")
	case related && (in.ChildrenOfAlarmName != nil && in.ParentsOfAlarmName != nil || len(in.AlarmNames) > 0 || in.AlarmNamePrefix != nil || len(in.AlarmTypes) > 0 || in.StateValue != "" || in.ActionPrefix != nil):
		return nil, bad("ChildrenOfAlarmName and ParentsOfAlarmName can be specified together with MaxRecords and NextToken alone.")
	}
	size, err := pageSize(in.MaxRecords, alarmPage)
	if err != nil {
		return nil, err
	}
	list, err := a.cfg.Alarms.List(ctx)
	if err != nil {
		return nil, operation.Stored(err, thaw.CodeServiceFault)
	}
	keep := func(x *alarms.Alarm) bool { return chosen(x, in) }
	if related {
		if keep, err = relation(list, in); err != nil {
			return nil, err
		}
	}
	list = slices.DeleteFunc(list, func(x *alarms.Alarm) bool { return !keep(x) })
	part, next, err := operation.Cut(list, func(x *alarms.Alarm) string { return x.Name }, in.NextToken, size)
	if err != nil {
		return nil, badAlarmToken()
	}
	out := &cloudwatch.DescribeAlarmsOutput{MetricAlarms: []types.MetricAlarm{}, CompositeAlarms: []types.CompositeAlarm{}, NextToken: next}
	for _, x := range part {
		switch {
		case x.Composite == nil && related:
			m := a.metricAlarm(x)
			out.MetricAlarms = append(out.MetricAlarms, types.MetricAlarm{AlarmName: m.AlarmName, AlarmArn: m.AlarmArn, StateValue: m.StateValue, StateUpdatedTimestamp: m.StateUpdatedTimestamp})
		case x.Composite == nil:
			out.MetricAlarms = append(out.MetricAlarms, a.metricAlarm(x))
		case in.ParentsOfAlarmName != nil:
			c := a.compositeAlarm(x)
			out.CompositeAlarms = append(out.CompositeAlarms, types.CompositeAlarm{AlarmName: c.AlarmName, AlarmArn: c.AlarmArn})
		case related:
			c := a.compositeAlarm(x)
			out.CompositeAlarms = append(out.CompositeAlarms, types.CompositeAlarm{AlarmName: c.AlarmName, AlarmArn: c.AlarmArn, StateValue: c.StateValue, StateUpdatedTimestamp: c.StateUpdatedTimestamp})
		default:
			out.CompositeAlarms = append(out.CompositeAlarms, a.compositeAlarm(x))
		}
	}
	return out, nil
}

func badAlarmToken() error {
	return thaw.Errorf(thaw.CodeNextTokenFault, "The value for parameter NextToken is not one that this operation gave. Start again without it.")
}

func pageSize(n *int32, usual int) (int, error) {
	switch {
	case n == nil:
		return usual, nil
	case *n < 1 || *n > maxAlarmPage:
		return 0, bad("The parameter MaxRecords must be between 1 and %d.", maxAlarmPage)
	}
	return int(*n), nil
}

// chosen applies the filters of a listing. Without AlarmTypes, metric alarms are listed alone.
func chosen(x *alarms.Alarm, in *cloudwatch.DescribeAlarmsInput) bool {
	if !ofType(x.Type(), in.AlarmTypes) || in.StateValue != "" && string(in.StateValue) != string(x.Status.Value) {
		return false
	}
	if len(in.AlarmNames) > 0 && !slices.Contains(in.AlarmNames, x.Name) || !strings.HasPrefix(x.Name, value(in.AlarmNamePrefix)) {
		return false
	}
	if in.ActionPrefix == nil {
		return true
	}
	for _, list := range x.Actions {
		if slices.ContainsFunc(list, func(action string) bool { return strings.HasPrefix(action, *in.ActionPrefix) }) {
			return true
		}
	}
	return false
}

func ofType(typ string, kinds []types.AlarmType) bool {
	if len(kinds) == 0 {
		return typ == string(types.AlarmTypeMetricAlarm)
	}
	return slices.Contains(kinds, types.AlarmType(typ))
}

// relation chooses the alarms in the rule of a composite alarm, or the composite alarms that have an alarm in their rule.
func relation(list []*alarms.Alarm, in *cloudwatch.DescribeAlarmsInput) (func(*alarms.Alarm) bool, error) {
	name := value(in.ChildrenOfAlarmName) + value(in.ParentsOfAlarmName)
	i := slices.IndexFunc(list, func(x *alarms.Alarm) bool { return x.Name == name })
	if i < 0 {
		return nil, alarmNotFound(name)
	}
	if in.ParentsOfAlarmName != nil {
		return func(x *alarms.Alarm) bool { return slices.Contains(children(x), name) }, nil
	}
	wanted := children(list[i])
	return func(x *alarms.Alarm) bool { return slices.Contains(wanted, x.Name) }, nil
}

// children are the names of the alarms in a composite alarm's rule.
func children(x *alarms.Alarm) []string {
	if x.Composite == nil {
		return nil
	}
	rule, err := alarms.ParseRule(x.Composite.Rule)
	if err != nil {
		return nil // it was checked when it was put
	}
	names := make([]string, len(rule.Children))
	for i, ref := range rule.Children {
		names[i] = alarms.NameOf(ref)
	}
	return names
}

// describeAlarmsForMetric gives the alarms on a metric alone: those on math that uses it are not among them, as on AWS.
func (a *API) describeAlarmsForMetric(ctx context.Context, in *cloudwatch.DescribeAlarmsForMetricInput) (*cloudwatch.DescribeAlarmsForMetricOutput, error) {
	list, err := a.cfg.Alarms.List(ctx)
	if err != nil {
		return nil, operation.Stored(err, thaw.CodeServiceFault)
	}
	stat := string(in.Statistic) + value(in.ExtendedStatistic)
	out := &cloudwatch.DescribeAlarmsForMetricOutput{MetricAlarms: []types.MetricAlarm{}}
	for _, x := range list {
		if x.Metric == nil || x.Metric.Math {
			continue
		}
		q := &x.Metric.Queries[0]
		if q.Metric == *in.MetricName && q.Namespace == *in.Namespace && sameDimensions(q.Dimensions, in.Dimensions) &&
			(in.Period == nil || int(*in.Period) == q.Period) && (stat == "" || stat == q.Stat) && (in.Unit == "" || string(in.Unit) == q.Unit) {
			out.MetricAlarms = append(out.MetricAlarms, a.metricAlarm(x))
		}
	}
	return out, nil
}

func sameDimensions(have []alarms.Dimension, want []types.Dimension) bool {
	return len(have) == len(want) && !slices.ContainsFunc(want, func(d types.Dimension) bool {
		return !slices.Contains(have, alarms.Dimension{Name: value(d.Name), Value: value(d.Value)})
	})
}

// past is one item of a listing of histories.
type past struct {
	alarm, typ string
	alarms.Item
	key string // of the order of the listing
}

// pastKey orders items by their times. back is for listings with the newest first.
func pastKey(item *alarms.Item, back bool) string {
	at := item.At.UnixNano()
	if back {
		at = 1<<62 - at
	}
	return fmt.Sprintf("%020d %s", at, item.ID)
}

func (a *API) describeAlarmHistory(ctx context.Context, in *cloudwatch.DescribeAlarmHistoryInput) (*cloudwatch.DescribeAlarmHistoryOutput, error) {
	if in.AlarmContributorId != nil {
		return nil, notImplemented("There are no alarms with contributors here. Leave AlarmContributorId out.")
	}
	size, err := pageSize(in.MaxRecords, maxAlarmPage)
	if err != nil {
		return nil, err
	}
	kinds := in.AlarmTypes
	if in.AlarmName != nil && len(kinds) == 0 {
		kinds = []types.AlarmType{types.AlarmTypeMetricAlarm, types.AlarmTypeCompositeAlarm}
	}
	after, err := operation.After(in.NextToken)
	if err != nil {
		return nil, badAlarmToken()
	}
	// One more than the page, so that it is seen whether another follows; the rest is not held.
	var list []past
	trim := func() {
		slices.SortFunc(list, func(x, y past) int { return strings.Compare(x.key, y.key) })
		list = slices.Delete(list, min(size+1, len(list)), len(list))
	}
	take := func(j *alarms.Journal) {
		typ := string(types.AlarmTypeMetricAlarm)
		if j.Composite {
			typ = string(types.AlarmTypeCompositeAlarm)
		}
		if !ofType(typ, kinds) {
			return
		}
		for _, item := range j.Items {
			if (in.HistoryItemType == "" || string(in.HistoryItemType) == item.Type) && within(item.At, in.StartDate, in.EndDate) {
				if key := pastKey(&item, in.ScanBy != types.ScanByTimestampAscending); key > after {
					list = append(list, past{j.Name, typ, item, key})
				}
			}
		}
		if len(list) > 4*maxAlarmPage {
			trim()
		}
	}
	if in.AlarmName != nil {
		var j *alarms.Journal
		if j, err = a.cfg.Alarms.History(ctx, *in.AlarmName, a.now()); err == nil {
			take(j)
		}
	} else {
		err = a.cfg.Alarms.Histories(ctx, a.now(), take)
	}
	if err != nil {
		return nil, operation.Stored(err, thaw.CodeServiceFault)
	}
	trim()
	part, next, err := operation.Cut(list, func(p past) string { return p.key }, in.NextToken, size)
	if err != nil {
		return nil, badAlarmToken()
	}
	out := &cloudwatch.DescribeAlarmHistoryOutput{AlarmHistoryItems: make([]types.AlarmHistoryItem, len(part)), NextToken: next}
	for i, p := range part {
		out.AlarmHistoryItems[i] = types.AlarmHistoryItem{
			AlarmName: &p.alarm, AlarmType: types.AlarmType(p.typ), Timestamp: aws.Time(p.At), HistoryItemType: types.HistoryItemType(p.Type),
			HistorySummary: &p.Summary, HistoryData: &p.Data,
		}
	}
	return out, nil
}

func within(at time.Time, from, to *time.Time) bool {
	return (from == nil || !at.Before(*from)) && (to == nil || !at.After(*to))
}
