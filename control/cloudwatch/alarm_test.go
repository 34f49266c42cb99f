package cloudwatch

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"
	"github.com/google/uuid"

	"thaw"
	"thaw/control/internal/apitest"
	"thaw/internal/ownbody"
	"thaw/telemetry/metrics"
	"thaw/trigger/alarms"
	"thaw/trigger/delivery"
)

const (
	alarmFunction = "arn:aws:lambda:eu-west-1:123456789012:function:f"
	alarmQueue    = "arn:aws:sqs:eu-west-1:123456789012:q"
)

// alarmWorld is the API over a store of metrics, with the loop on the same records and a clock of their own.
type alarmWorld struct {
	*apitest.Clock
	t       *testing.T
	api     *API
	loop    *alarms.Loop
	metrics *metrics.Metrics
	sent    []delivery.Delivery
}

func newAlarmWorld(t *testing.T) *alarmWorld {
	t.Helper()
	w := &alarmWorld{Clock: apitest.NewClock(time.Now().UTC().Truncate(time.Minute).Add(5 * time.Second)), t: t}
	account := thaw.Account{ID: "123456789012", Region: "eu-west-1"}
	var err error
	if w.metrics, err = metrics.Open(metrics.Config{Dir: t.TempDir(), Now: w.Now}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.metrics.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	records := alarms.NewRecords(apitest.Store(t))
	w.api = New(Config{Account: account, Metrics: w.metrics, Alarms: records, Now: w.Now})
	w.loop, err = alarms.New(alarms.Config{
		Account: account, Records: records, Functions: w, Values: w.api.AlarmValues, Now: w.Now,
		Deliver:  func(_ context.Context, x delivery.Delivery) error { w.sent = append(w.sent, x); return nil },
		HasQueue: func(string) bool { return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *alarmWorld) Function(string) (*thaw.Function, bool) { return nil, false }

// client is aws-sdk-go-v2's, which speaks CBOR.
func (w *alarmWorld) client() *sdk.Client {
	url := w.url()
	return sdk.New(sdk.Options{BaseEndpoint: &url, Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("thaw", "thaw", ""), RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
}

func (w *alarmWorld) url() string {
	return apitest.Serve(w.t, apitest.Service(w.t, "monitoring", w.api.Register))
}

func simpleAlarm(name string, change ...func(*sdk.PutMetricAlarmInput)) *sdk.PutMetricAlarmInput {
	in := &sdk.PutMetricAlarmInput{
		AlarmName: &name, Namespace: aws.String("Own"), MetricName: aws.String("M"), Statistic: types.StatisticSum, Period: aws.Int32(60),
		EvaluationPeriods: aws.Int32(1), Threshold: aws.Float64(5), ComparisonOperator: types.ComparisonOperatorGreaterThanThreshold,
	}
	for _, c := range change {
		c(in)
	}
	return in
}

func TestAlarmsWithGoSDK(t *testing.T) {
	w, ctx := newAlarmWorld(t), t.Context()
	c := w.client()
	in := simpleAlarm("a", func(in *sdk.PutMetricAlarmInput) {
		in.AlarmDescription, in.AlarmActions, in.OKActions = aws.String("too many"), []string{alarmQueue}, []string{alarmFunction}
		in.Dimensions = []types.Dimension{{Name: aws.String("D"), Value: aws.String("v")}}
		in.TreatMissingData, in.DatapointsToAlarm = aws.String("notBreaching"), aws.Int32(1)
		in.Tags = []types.Tag{{Key: aws.String("team"), Value: aws.String("x")}}
	})
	if _, err := c.PutMetricAlarm(ctx, in); err != nil {
		t.Fatal(err)
	}
	out, err := c.DescribeAlarms(ctx, &sdk.DescribeAlarmsInput{AlarmNames: []string{"a", "none"}})
	if err != nil || len(out.MetricAlarms) != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	a := out.MetricAlarms[0]
	if *a.AlarmArn != "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a" || *a.StateReason != "Unchecked: Initial alarm creation" || a.StateValue != types.StateValueInsufficientData ||
		*a.MetricName != "M" || a.Statistic != types.StatisticSum || *a.Threshold != 5 || !*a.ActionsEnabled || !slices.Equal(a.AlarmActions, in.AlarmActions) || *a.DatapointsToAlarm != 1 {
		t.Errorf("%+v", a)
	}
	if _, err := c.SetAlarmState(ctx, &sdk.SetAlarmStateInput{AlarmName: aws.String("a"), StateValue: types.StateValueAlarm, StateReason: aws.String("a test")}); err != nil {
		t.Fatal(err)
	}
	forMetric, err := c.DescribeAlarmsForMetric(ctx, &sdk.DescribeAlarmsForMetricInput{Namespace: aws.String("Own"), MetricName: aws.String("M"), Dimensions: in.Dimensions})
	if err != nil || len(forMetric.MetricAlarms) != 1 || *forMetric.MetricAlarms[0].StateReason != "a test" {
		t.Errorf("%+v, %v", forMetric, err)
	}
	in.Tags, in.Threshold = nil, aws.Float64(7)
	if _, err := c.PutMetricAlarm(ctx, in); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DisableAlarmActions(ctx, &sdk.DisableAlarmActionsInput{AlarmNames: []string{"a", "none"}}); err != nil {
		t.Fatal(err)
	}
	out, err = c.DescribeAlarms(ctx, &sdk.DescribeAlarmsInput{StateValue: types.StateValueAlarm, ActionPrefix: aws.String("arn:aws:sqs"), AlarmNamePrefix: aws.String("a")})
	if err != nil || len(out.MetricAlarms) != 1 || *out.MetricAlarms[0].Threshold != 7 || *out.MetricAlarms[0].ActionsEnabled {
		t.Errorf("an update keeps the state: %+v, %v", out, err)
	}
	history, err := c.DescribeAlarmHistory(ctx, &sdk.DescribeAlarmHistoryInput{AlarmName: aws.String("a"), ScanBy: types.ScanByTimestampAscending})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, item := range history.AlarmHistoryItems {
		kinds = append(kinds, string(item.HistoryItemType))
	}
	slices.Sort(kinds) // all of one moment
	if !slices.Equal(kinds, []string{"ConfigurationUpdate", "ConfigurationUpdate", "ConfigurationUpdate", "StateUpdate"}) {
		t.Errorf("%q", kinds)
	}
	tags, err := c.ListTagsForResource(ctx, &sdk.ListTagsForResourceInput{ResourceARN: a.AlarmArn})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].Value != "x" {
		t.Errorf("%+v, %v", tags, err)
	}
	if _, err := c.DeleteAlarms(ctx, &sdk.DeleteAlarmsInput{AlarmNames: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	_, err = c.SetAlarmState(ctx, &sdk.SetAlarmStateInput{AlarmName: aws.String("a"), StateValue: types.StateValueOk, StateReason: aws.String("x")})
	if gone := (*types.ResourceNotFound)(nil); !errors.As(err, &gone) {
		t.Errorf("%v", err)
	}
}

// TestAlarmTurns puts values with the API and has the loop look.
func TestAlarmTurns(t *testing.T) {
	w, ctx := newAlarmWorld(t), t.Context()
	put := func(metric string, v float64) {
		t.Helper()
		if _, err := w.api.putMetricData(ctx, &sdk.PutMetricDataInput{Namespace: aws.String("Own"), MetricData: []types.MetricDatum{{MetricName: &metric, Value: &v}}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.api.putMetricAlarm(ctx, simpleAlarm("sum", func(in *sdk.PutMetricAlarmInput) { in.AlarmActions = []string{alarmQueue} })); err != nil {
		t.Fatal(err)
	}
	// The rate of errors in percent, as a math expression.
	stat := func(id, metric string) types.MetricDataQuery {
		return types.MetricDataQuery{Id: &id, ReturnData: aws.Bool(false), MetricStat: &types.MetricStat{
			Metric: &types.Metric{Namespace: aws.String("Own"), MetricName: &metric}, Period: aws.Int32(60), Stat: aws.String("Sum"),
		}}
	}
	if _, err := w.api.putMetricAlarm(ctx, &sdk.PutMetricAlarmInput{
		AlarmName: aws.String("rate"), EvaluationPeriods: aws.Int32(1), Threshold: aws.Float64(1), ComparisonOperator: types.ComparisonOperatorGreaterThanThreshold,
		Metrics: []types.MetricDataQuery{stat("e", "Errors"), stat("i", "M"), {Id: aws.String("r"), Expression: aws.String("100*e/i"), Label: aws.String("rate")}},
	}); err != nil {
		t.Fatal(err)
	}
	put("M", 100)
	put("Errors", 2)
	w.Pass(time.Minute)
	w.look()
	for _, name := range []string{"sum", "rate"} {
		a, err := w.api.cfg.Alarms.Get(ctx, name)
		if err != nil || a.Status.Value != alarms.InAlarm {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	if a, _ := w.api.cfg.Alarms.Get(ctx, "rate"); !strings.Contains(a.Status.Reason, "[2.0 (") {
		t.Errorf("%+v", a.Status)
	}
	forMetric, err := w.api.describeAlarmsForMetric(ctx, &sdk.DescribeAlarmsForMetricInput{Namespace: aws.String("Own"), MetricName: aws.String("M")})
	if err != nil || len(forMetric.MetricAlarms) != 1 || *forMetric.MetricAlarms[0].AlarmName != "sum" {
		t.Errorf("math does not count: %+v, %v", forMetric, err)
	}
	out, err := w.api.describeAlarms(ctx, &sdk.DescribeAlarmsInput{AlarmNames: []string{"rate"}})
	if err != nil || len(out.MetricAlarms[0].Metrics) != 3 || out.MetricAlarms[0].MetricName != nil || *out.MetricAlarms[0].Metrics[2].Expression != "100*e/i" {
		t.Errorf("%+v, %v", out, err)
	}
	if len(w.sent) != 1 || w.sent[0].Target != alarmQueue {
		t.Errorf("%+v", w.sent)
	}
}

// look has the loop run until nothing is left to be done.
func (w *alarmWorld) look() {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.loop.Run(ctx) }()
	for deadline := time.Now().Add(20 * time.Second); ; {
		list, err := w.api.cfg.Alarms.List(ctx)
		if err != nil {
			w.t.Fatal(err)
		}
		if !slices.ContainsFunc(list, func(a *alarms.Alarm) bool { return len(a.Outbox) > 0 || a.Status.Reason == alarms.Initial }) {
			break
		}
		if time.Now().After(deadline) {
			w.t.Fatal("alarms are not looked at")
		}
		<-time.After(10 * time.Millisecond)
	}
	stop()
	if err := <-ended; err != nil {
		w.t.Error(err)
	}
}

func TestCompositeAlarms(t *testing.T) {
	w, ctx := newAlarmWorld(t), t.Context()
	c := w.client()
	for _, name := range []string{"a", "b"} {
		if _, err := c.PutMetricAlarm(ctx, simpleAlarm(name)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.PutCompositeAlarm(ctx, &sdk.PutCompositeAlarmInput{AlarmName: aws.String("c"), AlarmRule: aws.String("ALARM(a) OR ALARM(gone)")})
	if err == nil || !strings.Contains(err.Error(), "Could not save the composite alarm as alarms [gone] in the alarm rule do not exist") {
		t.Errorf("%v", err)
	}
	if _, err := c.PutCompositeAlarm(ctx, &sdk.PutCompositeAlarmInput{AlarmName: aws.String("c"), AlarmRule: aws.String(`ALARM(a) OR ALARM("b")`)}); err != nil {
		t.Fatal(err)
	}
	out, err := c.DescribeAlarms(ctx, &sdk.DescribeAlarmsInput{})
	if err != nil || len(out.MetricAlarms) != 2 || len(out.CompositeAlarms) != 0 {
		t.Errorf("without AlarmTypes: %+v, %v", out, err)
	}
	out, err = c.DescribeAlarms(ctx, &sdk.DescribeAlarmsInput{AlarmTypes: []types.AlarmType{types.AlarmTypeCompositeAlarm}})
	if err != nil || len(out.MetricAlarms) != 0 || len(out.CompositeAlarms) != 1 || *out.CompositeAlarms[0].AlarmRule != `ALARM(a) OR ALARM("b")` {
		t.Errorf("%+v, %v", out, err)
	}
	out, err = c.DescribeAlarms(ctx, &sdk.DescribeAlarmsInput{ChildrenOfAlarmName: aws.String("c")})
	if err != nil || len(out.MetricAlarms) != 2 || out.MetricAlarms[0].MetricName != nil {
		t.Errorf("%+v, %v", out, err)
	}
	out, err = c.DescribeAlarms(ctx, &sdk.DescribeAlarmsInput{ParentsOfAlarmName: aws.String("a")})
	if err != nil || len(out.CompositeAlarms) != 1 || out.CompositeAlarms[0].StateValue != "" || *out.CompositeAlarms[0].AlarmName != "c" {
		t.Errorf("parents have a name and an ARN: %+v, %v", out, err)
	}
	if _, err := c.DeleteAlarms(ctx, &sdk.DeleteAlarmsInput{AlarmNames: []string{"a"}}); err == nil || !strings.Contains(err.Error(), "depending on it: c") {
		t.Errorf("%v", err)
	}
	if _, err := c.DeleteAlarms(ctx, &sdk.DeleteAlarmsInput{AlarmNames: []string{"c", "none", "a", "b"}}); err != nil {
		t.Error(err)
	}
	if list, err := w.api.cfg.Alarms.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("names of which there is no alarm keep others from being deleted: %v, %v", list, err)
	}
}

func TestRefusedAlarms(t *testing.T) {
	w, ctx := newAlarmWorld(t), t.Context()
	query := func(expression string) []types.MetricDataQuery {
		return []types.MetricDataQuery{{Id: aws.String("e"), Expression: &expression}}
	}
	for name, tt := range map[string]struct {
		change func(*sdk.PutMetricAlarmInput)
		code   thaw.ErrorCode
		words  string
	}{
		"no metric":        {func(in *sdk.PutMetricAlarmInput) { in.MetricName = nil }, thaw.CodeValidation, "MetricName"},
		"no namespace":     {func(in *sdk.PutMetricAlarmInput) { in.Namespace = nil }, thaw.CodeValidation, "Namespace"},
		"no period":        {func(in *sdk.PutMetricAlarmInput) { in.Period = nil }, thaw.CodeValidation, "Period must not be null"},
		"odd period":       {func(in *sdk.PutMetricAlarmInput) { in.Period = aws.Int32(61) }, thaw.CodeValidation, "multiple of 60"},
		"no statistic":     {func(in *sdk.PutMetricAlarmInput) { in.Statistic = "" }, thaw.CodeValidation, "Statistic"},
		"two statistics":   {func(in *sdk.PutMetricAlarmInput) { in.ExtendedStatistic = aws.String("p90") }, thaw.CodeParameterCombination, "mutually exclusive"},
		"wrong percentile": {func(in *sdk.PutMetricAlarmInput) { in.Statistic, in.ExtendedStatistic = "", aws.String("p900") }, thaw.CodeValidation, "p900"},
		"no periods":       {func(in *sdk.PutMetricAlarmInput) { in.EvaluationPeriods = nil }, thaw.CodeValidation, "EvaluationPeriods"},
		"M over N":         {func(in *sdk.PutMetricAlarmInput) { in.DatapointsToAlarm = aws.Int32(2) }, thaw.CodeValidation, "DatapointsToAlarm"},
		"no threshold":     {func(in *sdk.PutMetricAlarmInput) { in.Threshold = nil }, thaw.CodeValidation, "Threshold"},
		"no comparison":    {func(in *sdk.PutMetricAlarmInput) { in.ComparisonOperator = "" }, thaw.CodeValidation, "ComparisonOperator"},
		"anomaly": {func(in *sdk.PutMetricAlarmInput) {
			in.ComparisonOperator = types.ComparisonOperatorLessThanLowerThreshold
		}, thaw.CodeNotImplemented, "anomaly"},
		"missing data":    {func(in *sdk.PutMetricAlarmInput) { in.TreatMissingData = aws.String("none") }, thaw.CodeValidation, "Supported options: [breaching, notBreaching, ignore, missing]"},
		"low sample":      {func(in *sdk.PutMetricAlarmInput) { in.EvaluateLowSampleCountPercentile = aws.String("ignore") }, thaw.CodeValidation, "percentile"},
		"more than a day": {func(in *sdk.PutMetricAlarmInput) { in.EvaluationPeriods = aws.Int32(1441) }, thaw.CodeValidation, "86400"},
		"more than seven": {func(in *sdk.PutMetricAlarmInput) { in.Period, in.EvaluationPeriods = aws.Int32(86400), aws.Int32(8) }, thaw.CodeValidation, "604800"},
		"more than can be": {func(in *sdk.PutMetricAlarmInput) {
			in.Period, in.EvaluationPeriods = aws.Int32(math.MaxInt32/60*60), aws.Int32(math.MaxInt32)
		}, thaw.CodeValidation, "604800"},
		"SNS":                {func(in *sdk.PutMetricAlarmInput) { in.AlarmActions = []string{"arn:aws:sns:eu-west-1:123456789012:t"} }, thaw.CodeNotImplemented, "sns"},
		"another region":     {func(in *sdk.PutMetricAlarmInput) { in.OKActions = []string{"arn:aws:sqs:us-east-1:123456789012:q"} }, thaw.CodeValidation, "Invalid region us-east-1 specified. Only eu-west-1 is supported."},
		"no ARN":             {func(in *sdk.PutMetricAlarmInput) { in.InsufficientDataActions = []string{"x"} }, thaw.CodeValidation, "Invalid arn syntax: x"},
		"a password":         {func(in *sdk.PutMetricAlarmInput) { in.AlarmActions = []string{"https://u:p@example.com/"} }, thaw.CodeValidation, "password"},
		"twice":              {func(in *sdk.PutMetricAlarmInput) { in.AlarmActions = []string{alarmQueue, alarmQueue} }, thaw.CodeValidation, "twice"},
		"control characters": {func(in *sdk.PutMetricAlarmInput) { in.AlarmName = aws.String("a\nb") }, thaw.CodeValidation, "control characters"},
		"metric and Metrics": {func(in *sdk.PutMetricAlarmInput) { in.Metrics = query("1") }, thaw.CodeParameterCombination, "Metrics"},
		"PromQL":             {func(in *sdk.PutMetricAlarmInput) { in.EvaluationInterval = aws.Int32(60) }, thaw.CodeNotImplemented, "EvaluationInterval"},
		"reserved tag": {func(in *sdk.PutMetricAlarmInput) {
			in.Tags = []types.Tag{{Key: aws.String("aws:x"), Value: aws.String("")}}
		}, thaw.CodeInvalidParameterValue, "aws:"},
		"a window": {func(in *sdk.PutMetricAlarmInput) {
			in.EvaluationWindow = &types.EvaluationWindowMemberWallClockWindow{}
		}, thaw.CodeNotImplemented, "EvaluationWindow"},
		"not a number": {func(in *sdk.PutMetricAlarmInput) { in.Threshold = aws.Float64(math.NaN()) }, thaw.CodeValidation, "Threshold"},
		"infinite":     {func(in *sdk.PutMetricAlarmInput) { in.Threshold = aws.Float64(math.Inf(1)) }, thaw.CodeValidation, "Threshold"},
		"a window and a warm-up": {func(in *sdk.PutMetricAlarmInput) {
			in.EvaluationWindow, in.WarmUpConfiguration = &types.EvaluationWindowMemberSlidingWindow{}, &types.WarmUpConfiguration{}
		}, thaw.CodeNotImplemented, "WarmUpConfiguration"},
		"a warm-up":           {func(in *sdk.PutMetricAlarmInput) { in.WarmUpConfiguration = &types.WarmUpConfiguration{} }, thaw.CodeNotImplemented, "WarmUpConfiguration"},
		"action settings":     {func(in *sdk.PutMetricAlarmInput) { in.ActionConfiguration = &types.ActionConfiguration{} }, thaw.CodeNotImplemented, "ActionConfiguration"},
		"anomaly's threshold": {func(in *sdk.PutMetricAlarmInput) { in.ThresholdMetricId = aws.String("t") }, thaw.CodeNotImplemented, "anomaly"},
	} {
		_, err := w.api.putMetricAlarm(ctx, simpleAlarm("a", tt.change))
		if thaw.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, tt := range map[string]struct {
		metrics []types.MetricDataQuery
		words   string
	}{
		"SEARCH":       {query("SUM(SEARCH('{Own,D} M', 'Sum', 60))"), "SEARCH"},
		"syntax":       {query("1+"), "e"},
		"none returns": {[]types.MetricDataQuery{{Id: aws.String("e"), Expression: aws.String("TIME_SERIES(1)"), ReturnData: aws.Bool(false)}}, "Exactly one element"},
	} {
		_, err := w.api.putMetricAlarm(ctx, simpleAlarm("a", func(in *sdk.PutMetricAlarmInput) {
			in.MetricName, in.Namespace, in.Period, in.Statistic, in.Metrics = nil, nil, nil, "", tt.metrics
		}))
		if err == nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := w.api.cfg.Alarms.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := w.api.setAlarmState(ctx, &sdk.SetAlarmStateInput{AlarmName: aws.String("a"), StateReasonData: aws.String("{")}); thaw.CodeOf(err) != thaw.CodeFormatFault {
		t.Errorf("%v", err)
	}
	for _, arn := range []string{"arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a", "arn:aws:cloudwatch::123456789012:dashboard/d"} {
		if _, err := w.api.listAlarmTags(ctx, &sdk.ListTagsForResourceInput{ResourceARN: &arn}); thaw.CodeOf(err) != thaw.CodeResourceNotFound {
			t.Errorf("%v", err)
		}
	}
	if _, err := w.api.putCompositeAlarm(ctx, &sdk.PutCompositeAlarmInput{AlarmName: aws.String("c"), AlarmRule: aws.String(" TRUE")}); thaw.CodeOf(err) != thaw.CodeValidation {
		t.Errorf("%v", err)
	}
}

func TestActionsSuppressor(t *testing.T) {
	w, ctx := newAlarmWorld(t), t.Context()
	c := w.client()
	if _, err := c.PutMetricAlarm(ctx, simpleAlarm("a", func(in *sdk.PutMetricAlarmInput) { in.TreatMissingData = aws.String("notBreaching") })); err != nil {
		t.Fatal(err)
	}
	const arn = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a"
	put := func(suppressor *string, wait, extension *int32) error {
		_, err := c.PutCompositeAlarm(ctx, &sdk.PutCompositeAlarmInput{
			AlarmName: aws.String("c"), AlarmRule: aws.String("TRUE"), AlarmActions: []string{alarmQueue},
			ActionsSuppressor: suppressor, ActionsSuppressorWaitPeriod: wait, ActionsSuppressorExtensionPeriod: extension,
		})
		return err
	}
	for name, err := range map[string]error{
		"no periods":      put(aws.String("a"), nil, nil),
		"no suppressor":   put(nil, aws.Int32(1), aws.Int32(1)),
		"one period":      put(aws.String("a"), aws.Int32(1), nil),
		"negative":        put(aws.String("a"), aws.Int32(1), aws.Int32(-1)),
		"not there":       put(aws.String("b"), aws.Int32(1), aws.Int32(1)),
		"another account": put(aws.String("arn:aws:cloudwatch:eu-west-1:210987654321:alarm:a"), aws.Int32(1), aws.Int32(1)),
	} {
		if code := (smithy.APIError)(nil); !errors.As(err, &code) || code.ErrorCode() != "ValidationError" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := put(aws.String(arn), aws.Int32(120), aws.Int32(0)); err != nil {
		t.Fatal(err)
	}
	w.look()
	described := func() types.CompositeAlarm {
		out, err := c.DescribeAlarms(ctx, &sdk.DescribeAlarmsInput{AlarmTypes: []types.AlarmType{types.AlarmTypeCompositeAlarm}})
		if err != nil || len(out.CompositeAlarms) != 1 {
			t.Fatalf("%+v, %v", out, err)
		}
		return out.CompositeAlarms[0]
	}
	if a := described(); *a.ActionsSuppressor != arn || *a.ActionsSuppressorWaitPeriod != 120 || *a.ActionsSuppressorExtensionPeriod != 0 || a.StateValue != types.StateValueAlarm ||
		a.ActionsSuppressedBy != types.ActionsSuppressedByWaitPeriod || *a.ActionsSuppressedReason != "Actions suppressed by WaitPeriod" || len(w.sent) != 0 {
		t.Errorf("%+v, %+v", a, w.sent)
	}
	if err := put(nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what is held back is let go, and then done
		w.look()
	}
	if a := described(); a.ActionsSuppressor != nil || a.ActionsSuppressorWaitPeriod != nil || a.ActionsSuppressedBy != "" || a.ActionsSuppressedReason != nil || len(w.sent) != 1 {
		t.Errorf("%+v, %+v", a, w.sent)
	}
}

// TestAlarmPages has neither repeats nor gaps.
func TestAlarmPages(t *testing.T) {
	w, ctx := newAlarmWorld(t), t.Context()
	for range 7 {
		if _, err := w.api.putMetricAlarm(ctx, simpleAlarm(uuid.NewString())); err != nil {
			t.Fatal(err)
		}
		w.Pass(time.Second)
	}
	var names []string
	for in := (&sdk.DescribeAlarmsInput{MaxRecords: aws.Int32(3)}); ; {
		out, err := w.api.describeAlarms(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range out.MetricAlarms {
			names = append(names, *a.AlarmName)
		}
		if in.NextToken = out.NextToken; out.NextToken == nil {
			break
		}
	}
	if len(names) != 7 || !slices.IsSorted(names) {
		t.Errorf("%q", names)
	}
	last := time.Unix(math.MaxInt32, 0)
	items := 0
	for in := (&sdk.DescribeAlarmHistoryInput{MaxRecords: aws.Int32(2)}); ; {
		out, err := w.api.describeAlarmHistory(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range out.AlarmHistoryItems {
			if item.Timestamp.After(last) {
				t.Errorf("%s comes after %s", item.Timestamp, last)
			}
			last = *item.Timestamp
			items++
		}
		if in.NextToken = out.NextToken; out.NextToken == nil {
			break
		}
	}
	if items != 7 {
		t.Errorf("%d items", items)
	}
	if _, err := w.api.describeAlarms(ctx, &sdk.DescribeAlarmsInput{NextToken: aws.String("!")}); thaw.CodeOf(err) != thaw.CodeNextTokenFault {
		t.Errorf("%v", err)
	}
}

const alarmScript = `
import boto3, json, sys
from botocore.exceptions import ClientError
cw = boto3.client("cloudwatch", endpoint_url=sys.argv[1])
cw.put_metric_alarm(AlarmName="errors", MetricName="Errors", Namespace="AWS/Lambda", Statistic="Sum", Dimensions=[{"Name": "FunctionName", "Value": "f"}],
    Period=300, EvaluationPeriods=2, DatapointsToAlarm=1, Threshold=5, ComparisonOperator="GreaterThanThreshold", TreatMissingData="notBreaching",
    ActionsEnabled=True, AlarmActions=["arn:aws:lambda:eu-west-1:123456789012:function:f"], AlarmDescription="too many errors")
cw.put_metric_alarm(AlarmName="slow", MetricName="Duration", Namespace="AWS/Lambda", ExtendedStatistic="p99", Period=60, EvaluationPeriods=1, Threshold=500.5,
    ComparisonOperator="GreaterThanOrEqualToThreshold", EvaluateLowSampleCountPercentile="ignore", Unit="Milliseconds")
cw.put_metric_alarm(AlarmName="rate", EvaluationPeriods=1, Threshold=1, ComparisonOperator="GreaterThanThreshold", Metrics=[
    {"Id": "e", "ReturnData": False, "MetricStat": {"Metric": {"Namespace": "AWS/Lambda", "MetricName": "Errors"}, "Period": 60, "Stat": "Sum"}},
    {"Id": "i", "ReturnData": False, "MetricStat": {"Metric": {"Namespace": "AWS/Lambda", "MetricName": "Invocations"}, "Period": 60, "Stat": "Sum"}},
    {"Id": "rate", "Expression": "e / i * 100", "Label": "rate"}])
cw.put_composite_alarm(AlarmName="any", AlarmRule="ALARM(errors) OR ALARM(slow)")
alarms = {a["AlarmName"]: a for page in cw.get_paginator("describe_alarms").paginate(PaginationConfig={"PageSize": 2}) for a in page["MetricAlarms"]}
assert sorted(alarms) == ["errors", "rate", "slow"], alarms
assert alarms["errors"]["Threshold"] == 5.0 and alarms["errors"]["DatapointsToAlarm"] == 1 and alarms["errors"]["Dimensions"] == [{"Name": "FunctionName", "Value": "f"}]
assert alarms["slow"]["ExtendedStatistic"] == "p99" and "Statistic" not in alarms["slow"] and alarms["slow"]["OKActions"] == []
assert [q["Id"] for q in alarms["rate"]["Metrics"]] == ["e", "i", "rate"]
cw.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="testing", StateReasonData=json.dumps({"x": 1}))
out = cw.describe_alarms(StateValue="ALARM")["MetricAlarms"]
assert [a["AlarmName"] for a in out] == ["errors"] and out[0]["StateReason"] == "testing", out
history = cw.describe_alarm_history(AlarmName="errors", HistoryItemType="StateUpdate")["AlarmHistoryItems"]
assert len(history) == 1 and history[0]["HistorySummary"] == "Alarm updated from INSUFFICIENT_DATA to ALARM", history
assert json.loads(history[0]["HistoryData"])["newState"]["stateReasonData"] == {"x": 1}
arn = out[0]["AlarmArn"]
cw.tag_resource(ResourceARN=arn, Tags=[{"Key": "k", "Value": "v"}])
assert cw.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "k", "Value": "v"}]
cw.untag_resource(ResourceARN=arn, TagKeys=["k"])
assert boto3.resource("cloudwatch", endpoint_url=sys.argv[1]).Alarm("errors").state_value == "ALARM"
for call, code in [
    (lambda: cw.set_alarm_state(AlarmName="none", StateValue="OK", StateReason="x"), "ResourceNotFound"),
    (lambda: cw.put_metric_alarm(AlarmName="x", EvaluationPeriods=1, Threshold=1, ComparisonOperator="GreaterThanThreshold"), "ValidationError"),
    (lambda: cw.put_composite_alarm(AlarmName="x", AlarmRule="ALARM("), "ValidationError"),
]:
    try:
        call()
        assert False, code
    except ClientError as e:
        assert e.response["Error"]["Code"] == code, e.response
cw.delete_alarms(AlarmNames=["any", "errors", "slow", "rate"])
assert cw.describe_alarms()["MetricAlarms"] == []
`

func TestAlarmsWithBoto3(t *testing.T) {
	apitest.Boto3(t, "eu-west-1", "-c", alarmScript, newAlarmWorld(t).url())
}

func TestAlarmsWithCommandLine(t *testing.T) {
	w := newAlarmWorld(t)
	cli := apitest.CommandLine(t, "eu-west-1", w.url(), "cloudwatch")
	cli("put-metric-alarm", "--alarm-name", "errors", "--metric-name", "Errors", "--namespace", "AWS/Lambda", "--statistic", "Sum", "--period", "60", "--threshold", "1",
		"--comparison-operator", "GreaterThanThreshold", "--evaluation-periods", "1", "--dimensions", "Name=FunctionName,Value=f", "--alarm-actions", alarmQueue)
	cli("set-alarm-state", "--alarm-name", "errors", "--state-value", "ALARM", "--state-reason", "testing")
	if out := cli("describe-alarms", "--alarm-names", "errors"); !strings.Contains(out, `"StateValue": "ALARM"`) {
		t.Errorf("%s", out)
	}
	if out := cli("describe-alarm-history", "--alarm-name", "errors"); !strings.Contains(out, `Alarm \"errors\" created`) {
		t.Errorf("%s", out)
	}
	cli("delete-alarms", "--alarm-names", "errors")
}

// TestAlarmQuota counts again where there seem to be too many.
func TestAlarmQuota(t *testing.T) {
	w, ctx := newAlarmWorld(t), t.Context()
	if _, err := w.api.putMetricAlarm(ctx, simpleAlarm("a")); err != nil {
		t.Fatal(err)
	}
	w.api.counted = maxAlarms // deleted meanwhile, but one
	if _, err := w.api.putMetricAlarm(ctx, simpleAlarm("b")); err != nil || w.api.counted != 2 {
		t.Errorf("%v, %d counted", err, w.api.counted)
	}
}
