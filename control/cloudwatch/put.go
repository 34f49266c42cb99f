package cloudwatch

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"thaw"
	"thaw/telemetry/metrics"
)

// Bounds of PutMetricData, after its page in the API reference.
const (
	maxData       = 1000 // metrics in one request
	maxValues     = 150  // values of one metric in one request
	maxEntities   = 2
	maxMistakes   = 10 // of each kind that are told of; a request can have one in each of half a million values
	minResolution = 1
	resolution    = 60
)

// maxMagnitude is 2^360: values beyond it on either side of zero are refused.
var maxMagnitude = math.Ldexp(1, 360)

// putMetricData stores all data of a request or none. What is said of entities is taken and not kept: it relates
// telemetry to AWS's resources, and changes no metric.
func (a *API) putMetricData(ctx context.Context, in *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
	count := len(in.MetricData)
	for i := range in.EntityMetricData {
		count += len(in.EntityMetricData[i].MetricData)
	}
	switch {
	case count == 0:
		return nil, thaw.Errorf(thaw.CodeMissingParameter, "The parameter MetricData is required.")
	case count > maxData:
		return nil, invalid("The collection MetricData must not have a size greater than %d.", maxData)
	case len(in.EntityMetricData) > maxEntities:
		return nil, invalid("The collection EntityMetricData must not have a size greater than %d.", maxEntities)
	case strings.HasPrefix(*in.Namespace, "AWS/"):
		return nil, invalid("The value AWS/ for parameter Namespace is invalid.")
	}
	p := putting{namespace: *in.Namespace, now: a.now(), data: make([]metrics.Datum, 0, count)}
	if !isNamespace(p.namespace) {
		return nil, invalid("The parameter Namespace must contain only ASCII characters that can be printed.")
	}
	p.all("MetricData", in.MetricData)
	for i := range in.EntityMetricData {
		p.all("EntityMetricData.member."+strconv.Itoa(i+1)+".MetricData", in.EntityMetricData[i].MetricData)
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return nil, storeError(a.cfg.Metrics.Put(ctx, p.data))
}

func isNamespace(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) < 0
}

// putting turns a request's data into the store's, and gathers what is wrong with them: AWS answers with all mistakes of
// the first kind that there is, one on a line; here with the first of them.
type putting struct {
	namespace string
	now       time.Time
	data      []metrics.Datum

	combinations, wrong []string
}

func (p *putting) err() error {
	switch {
	case len(p.wrong) > 0:
		return invalid("%s", strings.Join(p.wrong, "\n"))
	case len(p.combinations) > 0:
		return badCombination("%s", strings.Join(p.combinations, "\n"))
	}
	return nil
}

func (p *putting) bad(text ...string)            { note(&p.wrong, text) }
func (p *putting) badCombination(text ...string) { note(&p.combinations, text) }

func note(mistakes *[]string, text []string) {
	if len(*mistakes) < maxMistakes {
		*mistakes = append(*mistakes, strings.Join(text, ""))
	}
}

func (p *putting) all(name string, list []types.MetricDatum) {
	for i := range list {
		p.datum(name+".member."+strconv.Itoa(i+1), &list[i])
	}
}

func (p *putting) datum(at string, d *types.MetricDatum) {
	out := metrics.Datum{
		Metric: metrics.Metric{Namespace: p.namespace, Name: *d.MetricName, Dimensions: dimensions(d.Dimensions)}.Sorted(),
		Unit:   string(d.Unit), At: p.now, Resolution: int(value(d.StorageResolution)),
	}
	if out.Resolution == 0 {
		out.Resolution = resolution
	}
	if out.Resolution != minResolution && out.Resolution != resolution {
		p.bad("The parameter ", at, ".StorageResolution must be 1 or 60.")
	}
	if d.Timestamp != nil {
		out.At = *d.Timestamp
		switch {
		case out.At.Before(p.now.Add(-metrics.MaxPast)):
			p.bad("The parameter ", at, ".Timestamp must specify a time within the past two weeks.")
		case out.At.After(p.now.Add(metrics.MaxFuture)):
			p.bad("The parameter ", at, ".Timestamp must specify a time no more than two hours in the future.")
		}
	}
	for i := range d.Dimensions {
		name := at + ".Dimensions.member." + strconv.Itoa(i+1)
		p.text(name+".Name", *d.Dimensions[i].Name)
		p.text(name+".Value", *d.Dimensions[i].Value)
		if strings.HasPrefix(*d.Dimensions[i].Name, ":") {
			p.bad("The value ", *d.Dimensions[i].Name, " for parameter ", name, ".Name must not begin with a colon.")
		}
	}
	for i := 1; i < len(out.Dimensions); i++ {
		if out.Dimensions[i].Name == out.Dimensions[i-1].Name {
			p.bad("The parameter ", at, ".Dimensions must not name the dimension ", out.Dimensions[i].Name, " twice.")
		}
	}
	p.values(at, d, &out)
	p.data = append(p.data, out)
}

// values takes one of the three forms that a datum's values have.
func (p *putting) values(at string, d *types.MetricDatum, out *metrics.Datum) {
	forms := []string{}
	if d.Value != nil {
		forms = append(forms, at+".Value")
		out.Values = []float64{*d.Value}
		p.number(at+".Value", *d.Value)
	}
	if s := d.StatisticValues; s != nil {
		forms = append(forms, at+".StatisticValues")
		p.statistics(at+".StatisticValues", s, out)
	}
	if len(d.Values) > 0 {
		forms = append(forms, at+".Values")
		out.Values, out.Counts = d.Values, d.Counts
		p.series(at, d)
	}
	switch {
	case len(forms) > 1:
		p.badCombination("The parameters ", forms[0], " and ", forms[1], " are mutually exclusive and you have specified both.")
	case len(forms) == 0:
		p.badCombination("At least one of the parameters ", at, ".Value and ", at, ".StatisticValues must be specified.")
	case len(d.Values) == 0 && len(d.Counts) > 0:
		p.badCombination("The parameter ", at, ".Counts must not be specified without ", at, ".Values.")
	}
}

func (p *putting) series(at string, d *types.MetricDatum) {
	if len(d.Values) > maxValues {
		p.bad("The collection ", at, ".Values must not have a size greater than ", strconv.Itoa(maxValues), ".")
	}
	if len(d.Counts) > 0 && len(d.Counts) != len(d.Values) {
		p.bad("The parameters ", at, ".Values and ", at, ".Counts must be of the same size.")
	}
	for i, v := range d.Values {
		p.number(at+".Values.member."+strconv.Itoa(i+1), v)
	}
	for i, c := range d.Counts {
		name := at + ".Counts.member." + strconv.Itoa(i+1)
		if p.number(name, c) && c < 0 {
			p.bad("The parameter ", name, " must be greater than or equal to 0.")
		}
	}
}

func (p *putting) statistics(at string, s *types.StatisticSet, out *metrics.Datum) {
	set := &metrics.StatisticSet{SampleCount: value(s.SampleCount), Sum: value(s.Sum), Minimum: value(s.Minimum), Maximum: value(s.Maximum)}
	out.Stats = set
	ok := p.number(at+".SampleCount", set.SampleCount) && p.number(at+".Sum", set.Sum) && p.number(at+".Minimum", set.Minimum) && p.number(at+".Maximum", set.Maximum)
	switch {
	case !ok:
	case set.SampleCount <= 0:
		p.bad("The parameter ", at, ".SampleCount must be greater than 0.")
	case set.Maximum < set.Minimum:
		p.bad("The parameter ", at, ".Maximum must be greater than ", at, ".Minimum.")
	}
}

// text checks a dimension's name or value.
func (p *putting) text(name, s string) {
	switch {
	case strings.IndexFunc(s, func(r rune) bool { return r > 0x7e || r < 0x20 }) >= 0:
		p.bad("The value ", s, " for parameter ", name, " contains non-ASCII characters.")
	case strings.TrimSpace(s) == "":
		p.bad("The value of parameter ", name, " must have a character that is no blank.")
	}
}

func (p *putting) number(name string, v float64) bool {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		p.bad("The parameter ", name, " must be a number; NaN and infinity are not supported.")
	case math.Abs(v) > maxMagnitude:
		p.bad("The parameter ", name, " must be between -2^360 and 2^360.")
	default:
		return true
	}
	return false
}
