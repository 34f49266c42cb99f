package cloudwatch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/operation"
	"thaw/state"
	"thaw/telemetry/metricmath"
	"thaw/telemetry/metrics"
	"thaw/trigger/alarms"
)

// Quotas of alarms, after the pages "CloudWatch service quotas" and PutMetricAlarm.
const (
	maxAlarms      = 5000
	maxAlarmTags   = 50
	maxAlarmPage   = 100
	alarmPage      = 50
	maxQueries     = 20
	ownQuery       = "m1" // the id of the query of an alarm on one metric
	expressionStep = 60   // the period of an expression that has no metric to take it from
)

// registerAlarms adds the operations on alarms. Mute rules, anomaly detection and contributors are not implemented.
func (a *API) registerAlarms(s *awsapi.Service) {
	awsapi.Handle(s, "PutMetricAlarm", a.putMetricAlarm)
	awsapi.Handle(s, "PutCompositeAlarm", a.putCompositeAlarm)
	awsapi.Handle(s, "DescribeAlarms", a.describeAlarms)
	awsapi.Handle(s, "DescribeAlarmsForMetric", a.describeAlarmsForMetric)
	awsapi.Handle(s, "DescribeAlarmHistory", a.describeAlarmHistory)
	awsapi.Handle(s, "DeleteAlarms", a.deleteAlarms)
	awsapi.Handle(s, "SetAlarmState", a.setAlarmState)
	awsapi.Handle(s, "EnableAlarmActions", a.enableAlarmActions)
	awsapi.Handle(s, "DisableAlarmActions", a.disableAlarmActions)
	awsapi.Handle(s, "TagResource", a.tagAlarm)
	awsapi.Handle(s, "UntagResource", a.untagAlarm)
	awsapi.Handle(s, "ListTagsForResource", a.listAlarmTags)
}

// AlarmValues gives the values of what an alarm watches; it is Values of the loop that evaluates alarms.
func (a *API) AlarmValues(ctx context.Context, queries []alarms.Query, from, to time.Time) ([]alarms.Point, error) {
	list := make([]metricmath.Query, len(queries))
	returned := ""
	for i := range queries {
		q := &queries[i]
		list[i] = metricmath.Query{
			ID: q.ID, Expression: q.Expression, Label: q.Label, Hidden: q.Return != nil && !*q.Return, Period: time.Duration(q.Period) * time.Second,
		}
		if q.Expression == "" {
			statistic, ok := metrics.ParseStatistic(q.Stat)
			if !ok {
				return nil, invalid("The value %s for parameter Statistic is not a valid statistic.", q.Stat)
			}
			m := metrics.Metric{Namespace: q.Namespace, Name: q.Metric}
			for _, d := range q.Dimensions {
				m.Dimensions = append(m.Dimensions, metrics.Dimension{Name: d.Name, Value: d.Value})
			}
			list[i].Period = 0
			list[i].Stat = &metricmath.Stat{Metric: m.Sorted(), Period: time.Duration(q.Period) * time.Second, Statistic: statistic, Unit: q.Unit}
		}
		if !list[i].Hidden {
			returned = q.ID
		}
	}
	plan, err := metricmath.Prepare("Metrics", list)
	if err != nil {
		return nil, err
	}
	all, err := plan.Run(ctx, a.cfg.Metrics, metricmath.Range{From: from, To: to, Now: a.now(), Account: a.cfg.Account, Zone: time.UTC})
	if err != nil {
		return nil, err
	}
	var points []alarms.Point
	found := 0
	for i := range all {
		if all[i].ID != returned {
			continue
		}
		if found++; found > 1 {
			return nil, invalid("The expression gives more than one time series. An alarm watches one.")
		}
		for j, at := range all[i].Times {
			if v := all[i].Values[j]; !math.IsNaN(v) && !math.IsInf(v, 0) {
				points = append(points, alarms.Point{At: at.Unix(), Value: v})
			}
		}
	}
	return points, nil
}

func alarmNotFound(name string) error {
	return thaw.Errorf(thaw.CodeAlarmNotFound, "There is no alarm %s.", name)
}

// alarmError words an error of the records.
func alarmError(err error, name string) error {
	if errors.Is(err, state.ErrNotFound) {
		return alarmNotFound(name)
	}
	return operation.Stored(err, thaw.CodeServiceFault)
}

// plain reports whether a text has no control characters.
func plain(text string) bool {
	for _, r := range text {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return false
		}
	}
	return true
}

// metricAlarm is an alarm as DescribeAlarms shows it.
func (a *API) metricAlarm(x *alarms.Alarm) types.MetricAlarm {
	m := x.Metric
	out := types.MetricAlarm{
		AlarmName: &x.Name, AlarmArn: aws.String(alarms.ARN(a.cfg.Account, x.Name)), AlarmDescription: x.Description,
		AlarmConfigurationUpdatedTimestamp: &x.Updated, ActionsEnabled: &x.Enabled,
		OKActions: actions(x, alarms.OK), AlarmActions: actions(x, alarms.InAlarm), InsufficientDataActions: actions(x, alarms.Insufficient),
		StateValue: types.StateValue(x.Status.Value), StateReason: &x.Status.Reason, StateReasonData: operation.Optional(x.Status.Data),
		StateUpdatedTimestamp: &x.Status.Updated, StateTransitionedTimestamp: &x.Status.Transitioned,
		EvaluationPeriods: aws.Int32(int32(m.Evaluation)), Threshold: &m.Threshold, ComparisonOperator: types.ComparisonOperator(m.Comparison),
		TreatMissingData: operation.Optional(m.Missing), EvaluateLowSampleCountPercentile: operation.Optional(m.LowSample),
		EvaluationState: types.EvaluationState(x.Problem), Dimensions: []types.Dimension{},
	}
	if m.Datapoints > 0 {
		out.DatapointsToAlarm = aws.Int32(int32(m.Datapoints))
	}
	if m.Math {
		for i := range m.Queries {
			out.Metrics = append(out.Metrics, wireQuery(&m.Queries[i]))
		}
		return out
	}
	q := &m.Queries[0]
	out.MetricName, out.Namespace, out.Period, out.Unit = &q.Metric, &q.Namespace, aws.Int32(int32(q.Period)), types.StandardUnit(q.Unit)
	out.Dimensions = alarmDimensions(q)
	if isSimple(q.Stat) {
		out.Statistic = types.Statistic(q.Stat)
	} else {
		out.ExtendedStatistic = &q.Stat
	}
	return out
}

func isSimple(stat string) bool {
	s, ok := metrics.ParseStatistic(stat)
	return ok && s.Simple()
}

// actions are never nil: AWS shows empty lists.
func actions(x *alarms.Alarm, s alarms.State) []string { return append([]string{}, x.Actions[s]...) }

func alarmDimensions(q *alarms.Query) []types.Dimension {
	out := make([]types.Dimension, len(q.Dimensions))
	for i := range q.Dimensions {
		out[i] = types.Dimension{Name: &q.Dimensions[i].Name, Value: &q.Dimensions[i].Value}
	}
	return out
}

func wireQuery(q *alarms.Query) types.MetricDataQuery {
	out := types.MetricDataQuery{Id: &q.ID, Label: operation.Optional(q.Label), Expression: operation.Optional(q.Expression), ReturnData: q.Return, AccountId: operation.Optional(q.AccountID)}
	if q.Expression != "" {
		if q.Period > 0 {
			out.Period = aws.Int32(int32(q.Period))
		}
		return out
	}
	out.MetricStat = &types.MetricStat{
		Metric: &types.Metric{Namespace: &q.Namespace, MetricName: &q.Metric, Dimensions: alarmDimensions(q)},
		Period: aws.Int32(int32(q.Period)), Stat: &q.Stat, Unit: types.StandardUnit(q.Unit),
	}
	return out
}

// compositeAlarm is an alarm as DescribeAlarms shows it.
func (a *API) compositeAlarm(x *alarms.Alarm) types.CompositeAlarm {
	out := types.CompositeAlarm{
		AlarmName: &x.Name, AlarmArn: aws.String(alarms.ARN(a.cfg.Account, x.Name)), AlarmDescription: x.Description, AlarmRule: &x.Composite.Rule,
		AlarmConfigurationUpdatedTimestamp: &x.Updated, ActionsEnabled: &x.Enabled,
		OKActions: actions(x, alarms.OK), AlarmActions: actions(x, alarms.InAlarm), InsufficientDataActions: actions(x, alarms.Insufficient),
		StateValue: types.StateValue(x.Status.Value), StateReason: &x.Status.Reason, StateReasonData: operation.Optional(x.Status.Data),
		StateUpdatedTimestamp: &x.Status.Updated, StateTransitionedTimestamp: &x.Status.Transitioned,
	}
	if c := x.Composite; c.Suppressor != "" {
		out.ActionsSuppressor, out.ActionsSuppressorWaitPeriod, out.ActionsSuppressorExtensionPeriod = &c.Suppressor, aws.Int32(int32(c.Wait)), aws.Int32(int32(c.Extension))
	}
	out.ActionsSuppressedBy, out.ActionsSuppressedReason = types.ActionsSuppressedBy(x.Status.SuppressedBy), operation.Optional(x.Status.SuppressedReason())
	return out
}

// shown is an alarm's configuration in the history: the members that DescribeAlarms shows, with small initials.
func (a *API) shown(x *alarms.Alarm) json.RawMessage {
	var from any
	if x.Composite != nil {
		from = a.compositeAlarm(x)
	} else {
		from = a.metricAlarm(x)
	}
	text, err := json.Marshal(from)
	if err != nil {
		return json.RawMessage("{}")
	}
	var members any
	if err := json.Unmarshal(text, &members); err != nil {
		return json.RawMessage("{}")
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(small(members)); err != nil {
		return json.RawMessage("{}")
	}
	return bytes.TrimSpace(b.Bytes())
}

// small gives members small initials and leaves out those without a value.
func small(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, member := range v {
			if member != nil && member != "" {
				r, n := utf8.DecodeRuneInString(key)
				out[string(unicode.ToLower(r))+key[n:]] = small(member)
			}
		}
		return out
	case []any:
		for i := range v {
			v[i] = small(v[i])
		}
	}
	return v
}
