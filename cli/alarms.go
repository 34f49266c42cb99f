package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"
	"github.com/spf13/cobra"

	"thaw"
	"thaw/internal/ownbody"
)

// What the recommended alarms compare with.
const (
	coldStartLimit = 500 // ms
	errorLimit     = 1   // percent
)

// The end of the name of each recommended alarm, behind the function's.
const (
	coldStartAlarm = "-cold-start"
	errorRateAlarm = "-error-rate"
	timeoutAlarm   = "-timeouts"
)

// alarmPrincipal is whom a function must allow to invoke it so that it can be an alarm's action.
const alarmPrincipal = "lambda.alarms.cloudwatch.amazonaws.com"

type alarmsJSON struct {
	Version int         `json:"version"`
	Alarms  []alarmJSON `json:"alarms"`
}

// alarmJSON is an alarm as both verbs show it.
type alarmJSON struct {
	Name      string   `json:"name"`
	State     string   `json:"state,omitempty"` // not of one that was made just now
	Since     string   `json:"since,omitempty"`
	Condition string   `json:"condition"`
	Actions   []string `json:"actions"` // of the state ALARM
	Enabled   bool     `json:"actions_enabled"`
	Reason    string   `json:"reason,omitempty"`
}

func (p *program) alarms() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alarms",
		Short: "List the alarms, and make the three that every function should have",
		Long: `List the CloudWatch alarms with their states. They are made with the CloudWatch API, such as by aws cloudwatch put-metric-alarm,
or by thaw alarms recommended.`,
		Example: "  thaw alarms\n  thaw alarms recommended hello\n  thaw alarms recommended --all --action https://example.com/hook",
		Args:    cobra.NoArgs,
		RunE:    p.alarmList,
	}
	cmd.AddCommand(p.alarmsRecommended())
	return cmd
}

// cloudwatch is a client of the CloudWatch API at the same endpoint.
func (c *client) cloudwatch() *cloudwatch.Client {
	return cloudwatch.New(cloudwatch.Options{BaseEndpoint: &c.base, Region: c.region, Credentials: c.creds, HTTPClient: ownbody.Client{HTTP: c.http}, Retryer: aws.NopRetryer{}})
}

func (p *program) alarmList(cmd *cobra.Command, _ []string) error {
	ctx := cmd.Context()
	list := []alarmJSON{}
	err := p.talk("listing", func(c *client) error {
		pages := cloudwatch.NewDescribeAlarmsPaginator(c.cloudwatch(), &cloudwatch.DescribeAlarmsInput{AlarmTypes: []types.AlarmType{types.AlarmTypeMetricAlarm, types.AlarmTypeCompositeAlarm}})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			for i := range page.MetricAlarms {
				a := &page.MetricAlarms[i]
				list = append(list, alarmJSON{
					aws.ToString(a.AlarmName), string(a.StateValue), when(a.StateTransitionedTimestamp), metricCondition(a),
					append([]string{}, a.AlarmActions...), aws.ToBool(a.ActionsEnabled), aws.ToString(a.StateReason),
				})
			}
			for i := range page.CompositeAlarms {
				a := &page.CompositeAlarms[i]
				list = append(list, alarmJSON{
					aws.ToString(a.AlarmName), string(a.StateValue), when(a.StateTransitionedTimestamp), aws.ToString(a.AlarmRule),
					append([]string{}, a.AlarmActions...), aws.ToBool(a.ActionsEnabled), aws.ToString(a.StateReason),
				})
			}
		}
		return nil
	}, func(err error) *Error { return p.remote(ctx, "cannot list the alarms", "", err) })
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b alarmJSON) int { return strings.Compare(a.Name, b.Name) })
	if p.json {
		p.writeJSON(p.io.Out, &alarmsJSON{Version: jsonVersion, Alarms: list})
		return nil
	}
	if len(list) == 0 {
		fmt.Fprintf(p.io.Err, "no alarms yet\n  next: thaw alarms recommended --all\n")
		return nil
	}
	t := tabwriter.NewWriter(p.io.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tSTATE\tSINCE\tCONDITION\tACTIONS")
	for i := range list {
		a := &list[i]
		actions := strconv.Itoa(len(a.Actions))
		if !a.Enabled {
			actions += ", off"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", a.Name, a.State, a.Since, a.Condition, actions)
	}
	return t.Flush()
}

func when(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

var comparisonSigns = map[types.ComparisonOperator]string{
	types.ComparisonOperatorGreaterThanThreshold: ">", types.ComparisonOperatorGreaterThanOrEqualToThreshold: ">=",
	types.ComparisonOperatorLessThanThreshold: "<", types.ComparisonOperatorLessThanOrEqualToThreshold: "<=",
}

// metricCondition is what a metric alarm waits for, on one line: "Sum of Errors > 5, 2 of 3 x 60s".
func metricCondition(a *types.MetricAlarm) string {
	watched := first(string(a.Statistic), aws.ToString(a.ExtendedStatistic)) + " of " + aws.ToString(a.MetricName)
	period := aws.ToInt32(a.Period)
	for i := range a.Metrics {
		q := &a.Metrics[i]
		if q.MetricStat != nil {
			period = max(period, aws.ToInt32(q.MetricStat.Period))
		}
		if q.ReturnData == nil || *q.ReturnData {
			watched = first(aws.ToString(q.Label), aws.ToString(q.Expression), aws.ToString(q.Id))
		}
	}
	n := aws.ToInt32(a.EvaluationPeriods)
	m := n
	if a.DatapointsToAlarm != nil {
		m = *a.DatapointsToAlarm
	}
	return fmt.Sprintf("%s %s %s, %d of %d x %ds", watched, first(comparisonSigns[a.ComparisonOperator], string(a.ComparisonOperator)), number(aws.ToFloat64(a.Threshold)), m, n, period)
}

func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}

func (p *program) alarmsRecommended() *cobra.Command {
	var all bool
	var actions []string
	cmd := &cobra.Command{
		Use:   "recommended [FUNCTION]",
		Short: "Make the three alarms that every function should have",
		Long: `Make three alarms of a function, or of every function with --all:

  FUNCTION-cold-start   a start that was not warm took more than 500 ms, from the request to the handler
  FUNCTION-error-rate   more than 1 % of the calls of a minute failed
  FUNCTION-timeouts     a call ran into the function's timeout

Minutes without calls are OK. Those that are there already are made anew, and keep their state. An action is the ARN of a function or
of an SQS queue, or the URL of a webhook; a function is given the permission that alarms need to invoke it.`,
		Example:           "  thaw alarms recommended hello --action arn:aws:sqs:us-east-1:000000000000:alerts\n  thaw alarms recommended --all",
		ValidArgsFunction: p.completeFunction,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) == 1) || len(args) > 1 {
				return usage("name one function, or all with --all", "thaw alarms recommended --all")
			}
			return p.recommend(cmd.Context(), args, actions)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "make them of every function")
	cmd.Flags().StringArrayVar(&actions, "action", nil, "ARN or URL of what is to be called when an alarm goes off; may be given again")
	return cmd
}

// recommend makes the alarms of the named functions, or of all without a name.
func (p *program) recommend(ctx context.Context, names, actions []string) error {
	made := []alarmJSON{}
	err := p.talk("making alarms", func(c *client) error {
		if len(names) == 0 {
			functions, err := listAll(ctx, c)
			if err != nil {
				return err
			}
			for i := range functions {
				names = append(names, functions[i].Name)
			}
		} else if _, err := c.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &names[0]}); err != nil {
			return err
		}
		if err := c.permitAlarms(ctx, actions); err != nil {
			return err
		}
		to := c.cloudwatch()
		for _, name := range names {
			for _, in := range recommended(name, actions) {
				if _, err := to.PutMetricAlarm(ctx, in); err != nil {
					return err
				}
				made = append(made, alarmJSON{Name: *in.AlarmName, Condition: *in.AlarmDescription, Actions: append([]string{}, actions...), Enabled: true})
			}
		}
		return nil
	}, func(err error) *Error { return p.remote(ctx, "cannot make the alarms", "", err) })
	if err != nil {
		return err
	}
	switch {
	case p.json:
		p.writeJSON(p.io.Out, &alarmsJSON{Version: jsonVersion, Alarms: made})
	case len(made) == 0:
		fmt.Fprintf(p.io.Err, "no functions yet\n  next: thaw deploy DIR\n")
	default:
		t := tabwriter.NewWriter(p.io.Out, 0, 0, 2, ' ', 0)
		for i := range made {
			fmt.Fprintf(t, "%s\t%s\n", made[i].Name, made[i].Condition)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		if len(actions) == 0 {
			fmt.Fprintf(p.io.Err, "they have no action: only their states tell\n  next: thaw alarms        (or again with --action ARN)\n")
		}
	}
	return nil
}

// permitAlarms lets alarms of the account invoke the functions among their actions.
func (c *client) permitAlarms(ctx context.Context, actions []string) error {
	for _, action := range actions {
		if !strings.HasPrefix(action, "arn:aws:lambda:") {
			continue
		}
		ref, ok := thaw.ParseFunctionRef(action)
		if !ok {
			continue // the platform says so better
		}
		in := &lambda.AddPermissionInput{
			FunctionName: &ref.Name, StatementId: aws.String("thaw-alarms"), Action: aws.String("lambda:InvokeFunction"), Principal: aws.String(alarmPrincipal),
			SourceAccount: aws.String(strings.Split(action, ":")[4]),
		}
		if ref.Qualifier != "" {
			in.Qualifier = &ref.Qualifier
		}
		_, err := c.AddPermission(ctx, in)
		if there, is := errors.AsType[smithy.APIError](err); is && there.ErrorCode() == string(thaw.CodeResourceConflict) {
			err = nil // it was given before
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// recommended are the alarms of one function. Cold starts have a metric for each start kind, of which the longest counts.
func recommended(function string, actions []string) []*cloudwatch.PutMetricAlarmInput {
	stat := func(id, namespace, metric, statistic string, more ...string) types.MetricDataQuery {
		dimensions := []types.Dimension{{Name: aws.String("FunctionName"), Value: &function}}
		if len(more) == 2 {
			dimensions = append(dimensions, types.Dimension{Name: &more[0], Value: &more[1]})
		}
		return types.MetricDataQuery{Id: &id, ReturnData: aws.Bool(false), MetricStat: &types.MetricStat{
			Metric: &types.Metric{Namespace: &namespace, MetricName: &metric, Dimensions: dimensions}, Period: aws.Int32(60), Stat: &statistic,
		}}
	}
	expression := func(text, label string) types.MetricDataQuery {
		return types.MetricDataQuery{Id: aws.String("watched"), Expression: &text, Label: &label}
	}
	alarm := func(end, description string, threshold float64, queries ...types.MetricDataQuery) *cloudwatch.PutMetricAlarmInput {
		return &cloudwatch.PutMetricAlarmInput{
			AlarmName: aws.String(function + end), AlarmDescription: &description, AlarmActions: actions, Metrics: queries,
			EvaluationPeriods: aws.Int32(1), Threshold: &threshold, ComparisonOperator: types.ComparisonOperatorGreaterThanThreshold, TreatMissingData: aws.String("notBreaching"),
		}
	}
	var starts []types.MetricDataQuery
	var ids []string
	for _, kind := range []thaw.StartKind{thaw.StartBoot, thaw.StartFork, thaw.StartSpare} {
		starts = append(starts, stat(string(kind), "thaw", "ColdStartDuration", "Maximum", "StartKind", string(kind)))
		ids = append(ids, string(kind))
	}
	starts = append(starts, expression("MAX(["+strings.Join(ids, ", ")+"])", "longest cold start, ms"))
	timeouts := alarm(timeoutAlarm, "A call ran into the function's timeout.", 0)
	timeouts.Namespace, timeouts.MetricName, timeouts.Statistic, timeouts.Period = aws.String("thaw"), aws.String("Timeouts"), types.StatisticSum, aws.Int32(60)
	timeouts.Dimensions = []types.Dimension{{Name: aws.String("FunctionName"), Value: &function}}
	return []*cloudwatch.PutMetricAlarmInput{
		alarm(coldStartAlarm, fmt.Sprintf("A cold start took more than %d ms.", coldStartLimit), coldStartLimit, starts...),
		alarm(errorRateAlarm, fmt.Sprintf("More than %d %% of the calls failed.", errorLimit), errorLimit,
			stat("errors", "AWS/Lambda", "Errors", "Sum"), stat("invocations", "AWS/Lambda", "Invocations", "Sum"), expression("errors / invocations * 100", "error rate, %")),
		timeouts,
	}
}
