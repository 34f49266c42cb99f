package cloudwatch

import (
	"context"
	"errors"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/google/uuid"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
	"thaw/telemetry/metricmath"
	"thaw/telemetry/metrics"
	"thaw/trigger/alarms"
)

func (a *API) putMetricAlarm(ctx context.Context, in *cloudwatch.PutMetricAlarmInput) (*cloudwatch.PutMetricAlarmOutput, error) {
	m, err := a.alarmMetric(in)
	if err != nil {
		return nil, err
	}
	actions, err := a.alarmActions(in.OKActions, in.AlarmActions, in.InsufficientDataActions)
	if err != nil {
		return nil, err
	}
	err = a.putAlarm(ctx, *in.AlarmName, in.Tags, func(x *alarms.Alarm) error {
		if x.Composite != nil {
			return bad("There is a composite alarm %s. Choose another name, or delete it first.", x.Name)
		}
		x.Metric, x.Description, x.Actions, x.Enabled = m, in.AlarmDescription, actions, in.ActionsEnabled == nil || *in.ActionsEnabled
		return nil
	})
	return &cloudwatch.PutMetricAlarmOutput{}, err
}

// putAlarm makes an alarm of that name or changes the one that is there, which keeps its state and its tags.
func (a *API) putAlarm(ctx context.Context, name string, tags []types.Tag, change func(*alarms.Alarm) error) error {
	if !plain(name) {
		return bad("The parameter AlarmName must not contain control characters.")
	}
	now := a.now().UTC()
	_, err := a.cfg.Alarms.Update(ctx, name, func(x *alarms.Alarm) error {
		if err := change(x); err != nil {
			return err
		}
		x.Updated, x.Problem = now, ""
		a.noteChange(x, "Update")
		return nil
	})
	if !errors.Is(err, state.ErrNotFound) {
		return alarmError(err, name)
	}
	x := &alarms.Alarm{
		Name: name, Created: now, Updated: now,
		Status: alarms.Status{Value: alarms.Insufficient, Reason: alarms.Initial, Updated: now, Transitioned: now},
	}
	if err := change(x); err != nil {
		return err
	}
	if x.Tags, err = addAlarmTags(nil, tags); err != nil {
		return err
	}
	a.noteChange(x, "Create")
	a.creating.Lock() // so that their number stays within the quota
	defer a.creating.Unlock()
	if err := a.roomForAlarm(ctx); err != nil {
		return err
	}
	err = a.cfg.Alarms.Create(ctx, x)
	if errors.Is(err, state.ErrExists) { // by another request just now
		return bad("The alarm %s was made by another request just now. Send the request again.", name)
	}
	if err == nil {
		a.counted++
	}
	return alarmError(err, name)
}

// roomForAlarm refuses a further alarm where there are as many as there can be. They are counted once, and again where there
// seem to be too many: some may have been deleted. The caller holds creating.
func (a *API) roomForAlarm(ctx context.Context) error {
	if a.counted > 0 && a.counted < maxAlarms {
		return nil
	}
	there, err := a.cfg.Alarms.List(ctx)
	if err != nil {
		return operation.Stored(err, thaw.CodeServiceFault)
	}
	if a.counted = len(there); a.counted >= maxAlarms {
		return thaw.Errorf(thaw.CodeLimitFault, "There can be %d alarms. Delete one first.", maxAlarms)
	}
	return nil
}

// noteChange puts a change of the configuration into the history.
func (a *API) noteChange(x *alarms.Alarm, kind string) {
	x.Note(x.Configured(kind, uuid.NewString(), a.now().UTC(), a.shown(x)))
}

// alarmActions checks the actions of the three states.
func (a *API) alarmActions(ok, alarm, insufficient []string) (map[alarms.State][]string, error) {
	out := map[alarms.State][]string{}
	for s, list := range map[alarms.State][]string{alarms.OK: ok, alarms.InAlarm: alarm, alarms.Insufficient: insufficient} {
		for i, target := range list {
			if slices.Contains(list[:i], target) {
				return nil, bad("The action %s is there twice for the state %s.", target, s)
			}
		}
		if len(list) > 0 {
			out[s] = list
		}
	}
	for _, target := range slices.Concat(ok, alarm, insufficient) {
		if err := alarms.CheckAction(a.cfg.Account, target); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// alarmMetric checks what an alarm watches.
func (a *API) alarmMetric(in *cloudwatch.PutMetricAlarmInput) (*alarms.Metric, error) {
	switch {
	case in.EvaluationCriteria != nil || in.EvaluationInterval != nil:
		return nil, notImplemented("EvaluationCriteria and EvaluationInterval are not implemented: there are no PromQL alarms. Send MetricName or Metrics.")
	case in.ThresholdMetricId != nil || isAnomaly(in.ComparisonOperator):
		return nil, notImplemented("Alarms on anomaly detection models are not implemented. Send Threshold with a comparison to it.")
	case in.EvaluationWindow != nil && !isSliding(in.EvaluationWindow):
		return nil, notImplemented("Wall clock windows are not implemented. Leave EvaluationWindow out: windows slide.")
	case in.WarmUpConfiguration != nil:
		return nil, notImplemented("WarmUpConfiguration is not implemented. Leave it out.")
	case in.ActionConfiguration != nil:
		return nil, notImplemented("ActionConfiguration is not implemented. Leave it out.")
	}
	m := &alarms.Metric{
		Evaluation: int(value(in.EvaluationPeriods)), Datapoints: int(value(in.DatapointsToAlarm)), Threshold: value(in.Threshold),
		Comparison: string(in.ComparisonOperator), Missing: value(in.TreatMissingData), LowSample: value(in.EvaluateLowSampleCountPercentile),
	}
	switch {
	case in.EvaluationPeriods == nil:
		return nil, bad("The parameter EvaluationPeriods is required.")
	case in.ComparisonOperator == "":
		return nil, bad("The parameter ComparisonOperator is required.")
	case in.Threshold == nil:
		return nil, bad("The parameter Threshold is required.")
	case math.IsNaN(m.Threshold) || math.IsInf(m.Threshold, 0):
		return nil, bad("The parameter Threshold must be a number, and not NaN or infinite.")
	case m.Evaluation < 1, in.DatapointsToAlarm != nil && m.Datapoints < 1:
		return nil, bad("EvaluationPeriods and DatapointsToAlarm must be 1 or more.")
	case m.Datapoints > m.Evaluation:
		return nil, bad("DatapointsToAlarm must not be greater than EvaluationPeriods: %d is more than %d.", m.Datapoints, m.Evaluation)
	case !slices.Contains([]string{"", alarms.TreatMissing, alarms.TreatIgnore, alarms.TreatBreaching, alarms.TreatNotBreaching}, m.Missing):
		return nil, bad("Option %s is not supported for parameter TreatMissingData. Supported options: [breaching, notBreaching, ignore, missing]", m.Missing)
	case !slices.Contains([]string{"", "evaluate", alarms.LowSampleIgnore}, m.LowSample):
		return nil, bad("Option %s is not supported for parameter EvaluateLowSampleCountPercentile. Supported options: [evaluate, ignore]", m.LowSample)
	}
	var err error
	switch {
	case len(in.Metrics) == 0:
		m.Queries, err = ownMetric(in)
	case in.MetricName != nil, in.Namespace != nil, len(in.Dimensions) > 0, in.Period != nil, in.Unit != "", in.Statistic != "", in.ExtendedStatistic != nil:
		return nil, badCombination("The parameter Metrics must not be specified together with MetricName, Namespace, Dimensions, Period, Unit, Statistic or ExtendedStatistic.")
	default:
		m.Math = true
		m.Queries, err = a.alarmQueries(in.Metrics)
	}
	if err != nil {
		return nil, err
	}
	if m.LowSample != "" && (m.Math || !strings.HasPrefix(m.Queries[0].Stat, "p")) {
		return nil, bad("EvaluateLowSampleCountPercentile is for alarms on a percentile alone. Leave it out.")
	}
	return m, checkSpan(m)
}

func isSliding(w types.EvaluationWindow) bool {
	_, ok := w.(*types.EvaluationWindowMemberSlidingWindow)
	return ok
}

func isAnomaly(o types.ComparisonOperator) bool {
	return o == types.ComparisonOperatorLessThanLowerOrGreaterThanUpperThreshold || o == types.ComparisonOperatorLessThanLowerThreshold || o == types.ComparisonOperatorGreaterThanUpperThreshold
}

// checkSpan bounds how long ago an alarm looks.
func checkSpan(m *alarms.Metric) error {
	const day = 24 * 60 * 60
	span := int64(m.Evaluation) * int64(m.Period()) // seconds; both are 32 bits in a request, and a time.Duration would overflow
	switch {
	case span > 7*day:
		return bad("Metrics cannot be checked across more than seven days (EvaluationPeriods * Period must be <= 604800).")
	case m.Period() < 3600 && span > day:
		return bad("Metrics cannot be checked across more than a day (EvaluationPeriods * Period must be <= 86400) with a period of less than an hour.")
	}
	return nil
}

// ownMetric is the query of an alarm on one metric.
func ownMetric(in *cloudwatch.PutMetricAlarmInput) ([]alarms.Query, error) {
	switch {
	case in.MetricName == nil:
		return nil, bad("Either MetricName or Metrics must be specified.")
	case in.Namespace == nil:
		return nil, bad("The parameter Namespace is required.")
	case in.Period == nil:
		return nil, bad("Period must not be null")
	case in.Statistic == "" && in.ExtendedStatistic == nil:
		return nil, bad("Either Statistic or ExtendedStatistic must be specified.")
	case in.Statistic != "" && in.ExtendedStatistic != nil:
		return nil, badCombination("The parameters Statistic and ExtendedStatistic are mutually exclusive and you have specified both.")
	}
	if err := checkAlarmPeriod(*in.Period); err != nil {
		return nil, err
	}
	q := alarms.Query{ID: ownQuery, Namespace: *in.Namespace, Metric: *in.MetricName, Stat: string(in.Statistic), Unit: string(in.Unit), Period: int(*in.Period)}
	if in.ExtendedStatistic != nil {
		q.Stat = *in.ExtendedStatistic
		if s, ok := metrics.ParseStatistic(q.Stat); !ok || s.Simple() {
			return nil, bad("The value %s for parameter ExtendedStatistic is not supported.", q.Stat)
		}
	}
	for _, d := range in.Dimensions {
		q.Dimensions = append(q.Dimensions, alarms.Dimension{Name: value(d.Name), Value: value(d.Value)})
	}
	return []alarms.Query{q}, nil
}

func checkAlarmPeriod(seconds int32) error {
	if seconds == 10 || seconds == 20 || seconds == 30 || seconds > 0 && seconds%60 == 0 {
		return nil
	}
	return bad("Period must be 10, 20, 30 or a multiple of 60, not %d.", seconds)
}

var searches = regexp.MustCompile(`(?i)\bSEARCH\s*\(`)

// alarmQueries are those of an alarm on an expression: one of them returns data.
func (a *API) alarmQueries(list []types.MetricDataQuery) ([]alarms.Query, error) {
	if len(list) > maxQueries {
		return nil, bad("The collection Metrics must not have a size greater than %d.", maxQueries)
	}
	checked, err := a.queries("Metrics", list)
	if err != nil {
		return nil, err
	}
	if _, err := metricmath.Prepare("Metrics", checked); err != nil {
		return nil, err
	}
	out := make([]alarms.Query, len(list))
	returned := 0
	for i := range list {
		q := &list[i]
		out[i] = alarms.Query{ID: *q.Id, Expression: value(q.Expression), Label: value(q.Label), Return: q.ReturnData, Period: int(value(q.Period)), AccountID: value(q.AccountId)}
		if q.ReturnData == nil || *q.ReturnData {
			returned++
		}
		if searches.MatchString(out[i].Expression) {
			return nil, bad("SEARCH cannot be used in an alarm: it gives any number of time series.")
		}
		if s := q.MetricStat; s != nil {
			out[i].Namespace, out[i].Metric, out[i].Stat, out[i].Unit, out[i].Period = value(s.Metric.Namespace), value(s.Metric.MetricName), *s.Stat, string(s.Unit), int(*s.Period)
			for _, d := range s.Metric.Dimensions {
				out[i].Dimensions = append(out[i].Dimensions, alarms.Dimension{Name: value(d.Name), Value: value(d.Value)})
			}
		}
		if p := out[i].Period; p != 0 {
			if err := checkAlarmPeriod(int32(p)); err != nil {
				return nil, err
			}
		}
	}
	if returned != 1 {
		return nil, bad("Exactly one element of the metrics list should return data.")
	}
	m := alarms.Metric{Queries: out}
	if m.Period() == 0 {
		m.Returned().Period = expressionStep
	}
	return out, nil
}

func (a *API) putCompositeAlarm(ctx context.Context, in *cloudwatch.PutCompositeAlarmInput) (*cloudwatch.PutCompositeAlarmOutput, error) {
	if strings.TrimSpace(*in.AlarmRule) != *in.AlarmRule {
		return nil, bad("AlarmRule must not contain leading or trailing whitespace or be null")
	}
	rule, err := alarms.ParseRule(*in.AlarmRule)
	switch {
	case err != nil:
		return nil, err
	case in.ActionsSuppressor == nil && (in.ActionsSuppressorWaitPeriod != nil || in.ActionsSuppressorExtensionPeriod != nil):
		return nil, bad("ActionsSuppressorWaitPeriod and ActionsSuppressorExtensionPeriod are for alarms with ActionsSuppressor. Leave them out, or send it.")
	case in.ActionsSuppressor != nil && (in.ActionsSuppressorWaitPeriod == nil || in.ActionsSuppressorExtensionPeriod == nil):
		return nil, bad("ActionsSuppressor needs ActionsSuppressorWaitPeriod and ActionsSuppressorExtensionPeriod, in seconds.")
	case value(in.ActionsSuppressorWaitPeriod) < 0 || value(in.ActionsSuppressorExtensionPeriod) < 0:
		return nil, bad("ActionsSuppressorWaitPeriod and ActionsSuppressorExtensionPeriod must be 0 or more.")
	case in.ActionConfiguration != nil:
		return nil, notImplemented("ActionConfiguration is not implemented. Leave it out.")
	}
	actions, err := a.alarmActions(in.OKActions, in.AlarmActions, in.InsufficientDataActions)
	if err != nil {
		return nil, err
	}
	there, err := a.alarmsByName(ctx)
	if err != nil {
		return nil, err
	}
	gone := func(ref string) bool {
		name := alarms.NameOf(ref)
		return name != ref && ref != alarms.ARN(a.cfg.Account, name) || there[name] == nil && name != *in.AlarmName
	}
	missing := slices.DeleteFunc(slices.Clone(rule.Children), func(ref string) bool { return !gone(ref) })
	if len(missing) > 0 {
		return nil, bad("Could not save the composite alarm as alarms [%s] in the alarm rule do not exist", strings.Join(missing, ", "))
	}
	if in.ActionsSuppressor != nil && gone(*in.ActionsSuppressor) {
		return nil, bad("There is no alarm %s to be ActionsSuppressor.", *in.ActionsSuppressor)
	}
	c := alarms.Composite{
		Rule: *in.AlarmRule, Suppressor: value(in.ActionsSuppressor),
		Wait: int(value(in.ActionsSuppressorWaitPeriod)), Extension: int(value(in.ActionsSuppressorExtensionPeriod)),
	}
	err = a.putAlarm(ctx, *in.AlarmName, in.Tags, func(x *alarms.Alarm) error {
		if x.Metric != nil {
			return bad("There is a metric alarm %s. Choose another name, or delete it first.", x.Name)
		}
		if x.Composite != nil && alarms.NameOf(x.Composite.Suppressor) != alarms.NameOf(c.Suppressor) {
			x.Resuppress(a.now().UTC())
		}
		x.Composite, x.Description, x.Actions = &c, in.AlarmDescription, actions
		x.Enabled = in.ActionsEnabled == nil || *in.ActionsEnabled
		return nil
	})
	return &cloudwatch.PutCompositeAlarmOutput{}, err
}

func (a *API) alarmsByName(ctx context.Context) (map[string]*alarms.Alarm, error) {
	list, err := a.cfg.Alarms.List(ctx)
	if err != nil {
		return nil, operation.Stored(err, thaw.CodeServiceFault)
	}
	all := make(map[string]*alarms.Alarm, len(list))
	for _, x := range list {
		all[x.Name] = x
	}
	return all, nil
}
