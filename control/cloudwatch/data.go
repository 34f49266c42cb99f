package cloudwatch

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"thaw"
	"thaw/telemetry/metricmath"
	"thaw/telemetry/metrics"
)

// maxDataPoints is how many values an answer of GetMetricData has at most, over all of its results.
const maxDataPoints = 100_800

// queriesParameter is what messages about GetMetricData's queries call them.
const queriesParameter = "MetricDataQueries"

func bad(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeValidation, format, args...)
}

func (a *API) getMetricData(ctx context.Context, in *cloudwatch.GetMetricDataInput) (*cloudwatch.GetMetricDataOutput, error) {
	limit := maxDataPoints
	if in.MaxDatapoints != nil {
		limit = int(*in.MaxDatapoints)
	}
	zone, err := labelZone(in.LabelOptions)
	switch {
	case err != nil:
		return nil, err
	case len(in.MetricDataQueries) == 0:
		return nil, bad("The parameter MetricDataQueries is required.")
	case in.EndTime.Equal(*in.StartTime):
		return nil, bad("The parameter StartTime must not equal parameter EndTime.")
	case in.EndTime.Before(*in.StartTime):
		return nil, bad("The parameter StartTime must be less than the parameter EndTime.")
	case limit < 1 || limit > maxDataPoints:
		return nil, bad("The parameter MaxDatapoints must be between 1 and %d.", maxDataPoints)
	}
	next, ok := readPlace(in.NextToken)
	if !ok {
		return nil, thaw.Errorf(thaw.CodeNextTokenFault, "The value for parameter NextToken is not one that GetMetricData gave. Start again without it.")
	}
	queries, err := a.queries(queriesParameter, in.MetricDataQueries)
	if err != nil {
		return nil, err
	}
	plan, err := metricmath.Prepare(queriesParameter, queries)
	if err != nil {
		return nil, err
	}
	now := a.now()
	shortest := time.Minute
	for i := range queries {
		if s := queries[i].Stat; s != nil {
			shortest = min(shortest, s.Period)
		}
	}
	all, err := plan.Run(ctx, a.cfg.Metrics, metricmath.Range{
		From: roundStart(*in.StartTime, now, shortest), To: *in.EndTime, Now: now, Account: a.cfg.Account, Zone: zone,
	})
	if err != nil {
		return nil, storeError(err)
	}
	out := &cloudwatch.GetMetricDataOutput{MetricDataResults: []types.MetricDataResult{}}
	out.MetricDataResults, out.NextToken = page(all, in.ScanBy == types.ScanByTimestampAscending, next, limit)
	return out, nil
}

// labelZone reads +HHMM.
func labelZone(o *types.LabelOptions) (*time.Location, error) {
	if o == nil || o.Timezone == nil {
		return time.UTC, nil
	}
	t, err := time.Parse("-0700", *o.Timezone)
	if err != nil {
		return nil, bad("The value %s for parameter LabelOptions.Timezone is not valid. Give + or - and four digits, such as +0130.", *o.Timezone)
	}
	_, offset := t.Zone()
	return time.FixedZone(*o.Timezone, offset), nil
}

// queries reads what GetMetricData and PutMetricAlarm have in common, and says all that is wrong with one kind of it, one
// mistake on a line, as AWS does. Parameter is what the request calls them.
func (a *API) queries(parameter string, list []types.MetricDataQuery) ([]metricmath.Query, error) {
	out := make([]metricmath.Query, len(list))
	var wrong []string
	for i := range list {
		q := &list[i]
		at := parameter + ".member." + strconv.Itoa(i+1)
		out[i] = metricmath.Query{
			ID: *q.Id, Expression: value(q.Expression), Label: value(q.Label), Hidden: q.ReturnData != nil && !*q.ReturnData,
			Period: time.Duration(value(q.Period)) * time.Second,
		}
		switch {
		case q.AccountId != nil && *q.AccountId != a.cfg.Account.ID:
			return nil, notImplemented("There are no metrics of other accounts here, such as %s. Leave AccountId out.", *q.AccountId)
		case q.Expression != nil && q.MetricStat != nil:
			wrong = append(wrong, "The parameters "+at+".Expression and "+at+".MetricStat are mutually exclusive and you have specified both.")
		case q.Expression == nil && q.MetricStat == nil:
			wrong = append(wrong, "At least one of the parameters "+at+".Expression and "+at+".MetricStat must be specified.")
		}
		if q.Period != nil && q.MetricStat == nil {
			if _, err := checkPeriod(at+".Period", *q.Period); err != nil {
				wrong = append(wrong, err.(*thaw.Error).Message) //nolint:errorlint,forcetypeassert // it gives no other
			}
		}
		if q.MetricStat != nil {
			var mistakes []string
			out[i].Stat, mistakes = stat(at+".MetricStat", q.MetricStat)
			wrong = append(wrong, mistakes...)
		}
	}
	if len(wrong) > 0 {
		return nil, bad("%s", strings.Join(wrong, "\n"))
	}
	return out, nil
}

func stat(at string, s *types.MetricStat) (*metricmath.Stat, []string) {
	var wrong []string
	statistic, ok := metrics.ParseStatistic(*s.Stat)
	if !ok {
		wrong = append(wrong, "The value "+*s.Stat+" for parameter "+at+".Stat is not a valid statistic.")
	}
	period, err := checkPeriod(at+".Period", *s.Period)
	if err != nil {
		wrong = append(wrong, err.(*thaw.Error).Message) //nolint:errorlint,forcetypeassert // it gives no other
	}
	if value(s.Metric.Namespace) == "" {
		wrong = append(wrong, "The parameter "+at+".Metric.Namespace is required.")
	}
	if value(s.Metric.MetricName) == "" {
		wrong = append(wrong, "The parameter "+at+".Metric.MetricName is required.")
	}
	m := metrics.Metric{Namespace: value(s.Metric.Namespace), Name: value(s.Metric.MetricName), Dimensions: dimensions(s.Metric.Dimensions)}
	return &metricmath.Stat{Metric: m.Sorted(), Period: period, Statistic: statistic, Unit: string(s.Unit)}, wrong
}

// place is where a page goes on: in the result of that index, with what comes after the time, in the order of the page.
type place struct {
	index int
	after int64 // seconds since 1970
	some  bool  // after is there: a part of the result is on the pages before
}

func readPlace(text *string) (p place, ok bool) {
	key, ok := tokenKey(text)
	if !ok || key == "" {
		return place{}, ok
	}
	n, err := fmt.Sscanf(key, "%d %d", &p.index, &p.after)
	p.some = true
	return p, err == nil && n == 2 && p.index >= 0
}

// page cuts results to at most limit values from a place on, and says where the next page begins.
func page(all []metricmath.Series, ascending bool, from place, limit int) (results []types.MetricDataResult, next *string) {
	results = []types.MetricDataResult{}
	for i := min(from.index, len(all)); i < len(all); i++ {
		s := all[i]
		times, values := slices.Clone(s.Times), slices.Clone(s.Values)
		if !ascending {
			slices.Reverse(times)
			slices.Reverse(values)
		}
		skip := 0
		if from.some && i == from.index {
			skip = slices.IndexFunc(times, func(t time.Time) bool {
				return ascending && t.Unix() > from.after || !ascending && t.Unix() < from.after
			})
			if skip < 0 {
				skip = len(times)
			}
		}
		times, values = times[skip:], values[skip:]
		r := types.MetricDataResult{Id: &s.ID, Label: &s.Label, StatusCode: types.StatusCodeComplete}
		if len(times) > limit {
			times, values = times[:limit], values[:limit]
			r.StatusCode = types.StatusCodePartialData
		}
		limit -= len(times)
		r.Timestamps, r.Values = times, values
		if r.StatusCode == types.StatusCodePartialData && len(times) == 0 {
			return results, token(fmt.Sprintf("%d %d", i, begin(ascending)))
		}
		results = append(results, r)
		if r.StatusCode == types.StatusCodePartialData {
			return results, token(fmt.Sprintf("%d %d", i, times[len(times)-1].Unix()))
		}
	}
	return results, nil
}

// begin is a time that nothing of a result comes before.
func begin(ascending bool) int64 {
	if ascending {
		return -1 << 40
	}
	return 1 << 40
}
