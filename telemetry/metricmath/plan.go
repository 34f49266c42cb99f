package metricmath

import (
	"context"
	"errors"
	"iter"
	"regexp"
	"strconv"
	"strings"
	"time"

	"thaw"
	"thaw/telemetry/metrics"
)

const (
	maxQueries = 500 // of one request
	// maxValues bounds what one run takes into memory: ten times what one answer may hold.
	maxValues = 1_000_000
	// maxMade bounds what a run's expressions calculate, the steps in between included.
	maxMade = 10 * maxValues
	// maxWork bounds how many values a run's expressions look at, which may give few: some seconds of one CPU.
	maxWork   = 100 * maxValues
	maxSeries = 10_000 // of an array, of a result, and of what all searches of a run give
	// maxLabel bounds the label of a query, in bytes: each of the series of a SEARCH has it. CloudWatch tells of no bound.
	maxLabel = 2048
)

// Query is one of a request: a metric's statistic, or an expression.
type Query struct {
	ID         string
	Stat       *Stat
	Expression string
	Label      string        // may have dynamic parts such as ${MAX}; empty: one is made up
	Period     time.Duration // of what SEARCH finds where it does not say; 0: five minutes
	Hidden     bool          // it is only for other queries
}

// Stat is a statistic of a metric.
type Stat struct {
	Metric    metrics.Metric // its dimensions in order
	Period    time.Duration
	Statistic metrics.Statistic
	Unit      string // only values with it; empty: with any
}

// Series is a result. Times are the periods' begins, in order.
type Series struct {
	ID, Label string
	Period    time.Duration
	Times     []time.Time
	Values    []float64
}

// Source is where metrics come from.
type Source interface {
	List(ctx context.Context, filter metrics.Filter, after string, limit int) (found []metrics.Metric, next string, err error)
	Query(ctx context.Context, metric metrics.Metric, from, to time.Time, period time.Duration) (points []metrics.Point, unit string, err error)
}

// Range is what a run is about. To is not part of it, and neither is what comes after Now.
type Range struct {
	From, To, Now time.Time
	Account       thaw.Account
	Zone          *time.Location // of the times in labels; nil: UTC
}

// Plan is a request whose queries are without mistakes.
type Plan struct {
	queries []Query
	index   map[string]int // of the queries, by id
	parsed  map[string]expression
	order   []string // the expressions, each after those that it refers to
}

var idPattern = regexp.MustCompile(`^[a-z][a-zA-Z0-9_]*$`)

// Prepare checks a request's queries. Parameter is what CloudWatch calls them in messages: MetricDataQueries. An error is a
// *thaw.Error.
func Prepare(parameter string, queries []Query) (*Plan, error) {
	if len(queries) > maxQueries {
		return nil, failure("The collection %s must not have a size greater than %d.", parameter, maxQueries)
	}
	p := &Plan{queries: queries, index: make(map[string]int, len(queries)), parsed: make(map[string]expression)}
	if err := p.check(parameter); err != nil {
		return nil, err
	}
	done := make(map[string]bool, len(queries)) // false: it is being looked at
	for i := range queries {
		if err := p.arrange(&queries[i], done); err != nil {
			return nil, err
		}
	}
	e := &evaluation{plan: p, values: make(map[string]value), dry: true}
	return p, e.run()
}

func (p *Plan) check(parameter string) error {
	var wrong []string
	for i := range p.queries {
		q := &p.queries[i]
		if !idPattern.MatchString(q.ID) {
			wrong = append(wrong, "The value "+q.ID+" for parameter "+parameter+".member."+strconv.Itoa(i+1)+".Id is not matching the expected pattern "+idPattern.String()+".")
		}
		if len(q.Label) > maxLabel {
			wrong = append(wrong, "The parameter "+parameter+".member."+strconv.Itoa(i+1)+".Label must be shorter than "+strconv.Itoa(maxLabel+1)+" characters.")
		}
		p.index[q.ID] = i
	}
	switch {
	case len(wrong) > 0:
		return failure("%s", strings.Join(wrong, "\n"))
	case len(p.index) < len(p.queries):
		return failure("The values for parameter id in %s are not unique.", parameter)
	}
	for i := range p.queries {
		q := &p.queries[i]
		if q.Stat != nil {
			continue
		}
		if first, _, _ := strings.Cut(strings.TrimSpace(q.Expression), " "); strings.EqualFold(first, "SELECT") {
			return thaw.Errorf(thaw.CodeNotImplemented, "Metrics Insights queries, such as '%s' has, are not implemented. Use MetricStat, or SEARCH to find metrics.", q.ID)
		}
		parsed, err := parse(q.Expression)
		if err != nil {
			return failure("Error in expression '%s': Invalid syntax: %v", q.ID, err)
		}
		p.parsed[q.ID] = parsed
	}
	return nil
}

// arrange puts an expression behind those that it refers to.
func (p *Plan) arrange(q *Query, done map[string]bool) (err error) {
	if q.Stat != nil {
		return nil
	}
	if over, seen := done[q.ID]; seen {
		if !over {
			return failure("Error in expression '%s': it refers to itself", q.ID)
		}
		return nil
	}
	done[q.ID] = false
	walk(p.parsed[q.ID], func(e expression) {
		name, _ := e.(nameNode) // no query has the empty name
		if i, ok := p.index[string(name)]; ok && err == nil {
			err = p.arrange(&p.queries[i], done)
		}
	})
	done[q.ID] = true
	p.order = append(p.order, q.ID)
	return err
}

// Run evaluates the queries. The result has the series of those that are not hidden, in the order of the queries; one that gives an
// array has several. An error is a *thaw.Error, or of the context.
func (p *Plan) Run(ctx context.Context, source Source, r Range) ([]Series, error) {
	e := &evaluation{
		ctx: ctx, plan: p, source: source, values: make(map[string]value), from: r.From.Unix(), to: min(r.To.Unix(), r.Now.Unix()+1),
		region: r.Account.Region, account: r.Account.ID,
	}
	if e.periods(e.shortest()) > maxValues {
		return nil, tooMany(maxValues)
	}
	if err := e.run(); err != nil {
		return nil, err
	}
	zone := r.Zone
	if zone == nil {
		zone = time.UTC
	}
	var out []Series
	values := 0
	for i := range p.queries {
		q := &p.queries[i]
		if q.Hidden {
			continue
		}
		all, array := e.values[q.ID].(list)
		if s, ok := e.values[q.ID].(*series); ok {
			all = list{s}
		}
		for _, s := range all { // an array may have one series many times, which only here takes memory
			if values += len(s.values); values > 2*maxValues || len(out) == maxSeries {
				return nil, tooMany(2 * maxValues)
			}
			out = append(out, e.result(q, s, array, zone))
		}
	}
	return out, nil
}

func (e *evaluation) result(q *Query, s *series, array bool, zone *time.Location) Series {
	out := Series{ID: q.ID, Label: e.label(q, s, array, zone), Period: time.Duration(s.period) * time.Second, Times: make([]time.Time, len(s.at)), Values: s.values}
	for i, at := range s.at {
		out.Times[i] = time.Unix(at, 0).UTC()
	}
	return out
}

// run fills in the values of all queries.
func (e *evaluation) run() error {
	if err := e.load(); err != nil {
		return err
	}
	for _, id := range e.plan.order {
		e.query = &e.plan.queries[e.plan.index[id]]
		v, err := e.eval(e.plan.parsed[id])
		if err != nil {
			if mistake, ok := errors.AsType[*thaw.Error](err); ok && mistake.Code == thaw.CodeValidation {
				return failure("Error in expression '%s': %s", id, mistake.Message)
			}
			return err
		}
		if !e.query.Hidden && !isSeries(v) {
			return failure("Error in expression '%s': it gives %s, but what is returned must be a time series. Use TIME_SERIES, or set ReturnData to false.", id, kindOf(v))
		}
		e.values[id] = v
	}
	return nil
}

// periods is how many periods of that length begin in the run. The difference of times far apart does not fit an int64.
func (e *evaluation) periods(length int64) uint64 {
	if e.from >= e.to || length <= 0 {
		return 0
	}
	return (uint64(e.to) - uint64(e.from)) / uint64(length)
}

// grid gives the periods of the run.
func (e *evaluation) grid(period int64) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		if period <= 0 || e.periods(period) > maxValues {
			return
		}
		for at := e.from; at < e.to; at += period {
			if !yield(at) {
				return
			}
		}
	}
}

// shortest is the shortest period of the request's metrics, in seconds; a minute where there are none.
func (e *evaluation) shortest() int64 {
	least := int64(0)
	for i := range e.plan.queries {
		if q := &e.plan.queries[i]; q.Stat != nil && (least == 0 || int64(q.Stat.Period/time.Second) < least) {
			least = int64(q.Stat.Period / time.Second)
		}
	}
	if least == 0 {
		return 60
	}
	return least
}

// load reads the metrics of the run. Each is read once for all of its statistics, and what was read is let go of before the
// next: it has the distribution of every period.
func (e *evaluation) load() error {
	same := make(map[string][]*Query)
	var keys []string
	for i := range e.plan.queries {
		q := &e.plan.queries[i]
		if q.Stat == nil {
			continue
		}
		key := q.Stat.Metric.Key() + "\x00" + q.Stat.Period.String()
		if same[key] == nil {
			keys = append(keys, key)
		}
		same[key] = append(same[key], q)
	}
	for _, key := range keys {
		points, err := e.read(same[key][0].Stat)
		if err != nil {
			return err
		}
		for _, q := range same[key] {
			e.values[q.ID] = seriesOf(points, q.Stat)
		}
	}
	return nil
}

// read gives a metric's values in the run.
func (e *evaluation) read(stat *Stat) ([]metrics.Point, error) {
	if e.dry {
		return nil, nil
	}
	points, _, err := e.source.Query(e.ctx, stat.Metric, time.Unix(e.from, 0), time.Unix(e.to, 0), stat.Period)
	if err != nil {
		return nil, err
	}
	if e.loaded += len(points); e.loaded > maxValues {
		return nil, tooMany(maxValues)
	}
	return points, nil
}

func seriesOf(points []metrics.Point, stat *Stat) *series {
	s := &series{label: stat.Metric.Name, stat: stat, period: int64(stat.Period / time.Second)}
	for i := 0; i < len(points); {
		begin := i
		for i < len(points) && points[i].At.Equal(points[begin].At) {
			i++
		}
		if v, ok := pick(points[begin:i], stat); ok {
			s.add(points[begin].At.Unix(), v)
		}
	}
	return s
}

// pick is the statistic of a period, of which there is a point for each unit. Where any unit will do, their counts, sums
// and extremes go together; percentiles and their like are of the unit that most values have.
func pick(points []metrics.Point, stat *Stat) (float64, bool) {
	var all *metrics.Point
	for i := range points {
		p := &points[i]
		switch {
		case stat.Unit != "" && p.Unit != stat.Unit:
		case all == nil:
			all = p
		case !stat.Statistic.Simple():
			if p.Count > all.Count {
				all = p
			}
		default:
			all = &metrics.Point{At: p.At, Count: all.Count + p.Count, Sum: all.Sum + p.Sum, Min: min(all.Min, p.Min), Max: max(all.Max, p.Max)}
		}
	}
	if all == nil {
		return 0, false
	}
	return all.Value(stat.Statistic)
}
