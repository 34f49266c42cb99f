package logs

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/google/uuid"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/telemetry/groups"
	"thaw/telemetry/insights"
)

// Bounds of queries. AWS keeps results for seven days, and lets a query run for an hour.
const (
	maxQueries   = 100              // that are remembered, with their results
	maxKept      = 64 << 20         // bytes of all results together, about; the oldest go first
	maxWaiting   = 30               // that wait for those before them
	runners      = 2                // that run at the same time
	maxQueryTime = 10 * time.Minute // of one
	maxQueried   = 50               // log groups of one
	fieldsBefore = 15 * time.Minute
	fieldsAround = 8 * time.Minute
)

// query is one query with what became of it. API.mu guards what changes.
type query struct {
	id       string
	text     string
	groups   []groups.GroupInfo
	from, to int64 // µs
	limit    int
	compiled *insights.Query
	created  time.Time

	status  types.QueryStatus
	cancel  context.CancelFunc // while it runs
	took    time.Duration
	results [][]insights.Field
	size    int
	matched int
	scanned int
	bytes   int64
}

func (a *API) startQuery(ctx context.Context, in *sdk.StartQueryInput) (*sdk.StartQueryOutput, error) {
	if in.QueryLanguage != "" && in.QueryLanguage != types.QueryLanguageCwli {
		return nil, thaw.Errorf(thaw.CodeNotImplemented, "The query language %s is not implemented: write the query in CWLI, the language of Logs Insights.", in.QueryLanguage)
	}
	compiled, err := compile(*in.QueryString)
	if err != nil {
		return nil, err
	}
	if *in.StartTime > *in.EndTime {
		return nil, thaw.Errorf(thaw.CodeMalformedQuery, "End time should not be before start time.")
	}
	q := &query{
		id: uuid.NewString(), text: *in.QueryString, compiled: compiled, created: a.cfg.Now(), status: types.QueryStatusScheduled, limit: insights.MaxRows,
		from: seconds(*in.StartTime), to: seconds(*in.EndTime) + 999_999,
	}
	if in.Limit != nil {
		if q.limit = int(*in.Limit); q.limit > insights.MaxRows {
			return nil, invalid("limit can be %d at most here.", insights.MaxRows)
		}
	}
	if q.groups, err = a.queried(ctx, in); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case a.waiting <- q:
	default:
		return nil, thaw.Errorf(thaw.CodeQuotaExceeded, "%d queries wait already. Wait until some are done, or stop them.", maxWaiting)
	}
	a.queries = append(a.queries, q)
	a.forget()
	return &sdk.StartQueryOutput{QueryId: &q.id}, nil
}

// seconds is a time in seconds as µs.
func seconds(s int64) int64 { return clampMillis(min(max(s, 0), 1<<42)*1000) * 1000 }

// queried gives the groups that a request names.
func (a *API) queried(ctx context.Context, in *sdk.StartQueryInput) ([]groups.GroupInfo, error) {
	given := 0
	names := slices.Concat(in.LogGroupNames, in.LogGroupIdentifiers)
	if in.LogGroupName != nil {
		given++
		names = append(names, *in.LogGroupName)
	}
	for _, list := range [][]string{in.LogGroupNames, in.LogGroupIdentifiers} {
		if len(list) > 0 {
			given++
		}
	}
	if given != 1 {
		return nil, invalid("Exactly one of logGroupName, logGroupNames and logGroupIdentifiers is required.")
	}
	if len(names) > maxQueried {
		return nil, invalid("A query can have %d log groups at most.", maxQueried)
	}
	var list []groups.GroupInfo
	for _, name := range names {
		g, err := a.group(ctx, nil, &name)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(list, func(other groups.GroupInfo) bool { return other.Name == g.Name }) {
			list = append(list, g)
		}
	}
	return list, nil
}

// forget drops the oldest queries that are done while there are too many, or too much of their results.
func (a *API) forget() {
	size, n := 0, len(a.queries)
	for _, q := range a.queries {
		size += q.size
	}
	a.queries = slices.DeleteFunc(a.queries, func(q *query) bool {
		if !done(q.status) || n <= maxQueries && size <= maxKept {
			return false
		}
		n--
		size -= q.size
		return true
	})
}

func done(s types.QueryStatus) bool {
	return s != types.QueryStatusScheduled && s != types.QueryStatusRunning
}

// Run runs queries until ctx ends.
func (a *API) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for range runners {
		running.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case q := <-a.waiting:
					a.runQuery(ctx, q)
				}
			}
		})
	}
	running.Wait()
	return nil
}

func (a *API) runQuery(ctx context.Context, q *query) {
	ctx, cancel := context.WithTimeout(ctx, maxQueryTime)
	defer cancel()
	a.mu.Lock()
	if done(q.status) {
		a.mu.Unlock()
		return
	}
	q.status, q.cancel = types.QueryStatusRunning, cancel
	a.mu.Unlock()
	begin := time.Now()
	run, results, err := a.execute(ctx, q)
	a.mu.Lock()
	defer a.mu.Unlock()
	q.took, q.cancel = time.Since(begin), nil
	q.matched, q.scanned, q.bytes = run.Matched, run.Scanned, run.Bytes
	switch {
	case q.status == types.QueryStatusCancelled:
	case errors.Is(err, context.DeadlineExceeded):
		q.status = types.QueryStatusTimeout
	case err != nil:
		q.status = types.QueryStatusFailed
		if !errors.Is(err, context.Canceled) {
			a.cfg.Log.Warn("a query of logs failed", "query", q.text, "error", err)
		}
	default:
		q.status, q.results = types.QueryStatusComplete, results
		for _, row := range results {
			for _, f := range row {
				q.size += len(f.Name) + len(f.Value) + 32
			}
		}
		a.forget()
	}
}

// execute reads the groups of a query.
func (a *API) execute(ctx context.Context, q *query) (*insights.Run, [][]insights.Field, error) {
	run := q.compiled.Run(q.limit)
	if err := a.cfg.Groups.Sync(ctx); err != nil {
		return run, nil, err
	}
	for i := range q.groups {
		if err := a.feed(ctx, &q.groups[i], q.from, q.to, run.Add); err != nil {
			return run, nil, err
		}
	}
	results, err := run.Finish()
	return run, results, err
}

// feed passes the events of a group from one time to another, µs, to add.
func (a *API) feed(ctx context.Context, g *groups.GroupInfo, from, to int64, add func(*insights.Event) error) error {
	from = max(from, a.first(g, nil).At)
	return a.cfg.Groups.Scan(ctx, g.Name, from, to, func(e groups.Event) error {
		if ctx.Err() != nil {
			return ctx.Err() // a batch may have thousands of events, each of which may take long
		}
		return add(a.event(g.Name, &e))
	})
}

func (a *API) event(group string, e *groups.Event) *insights.Event {
	return &insights.Event{
		At: e.Event.At, Stored: e.Stored, Log: a.cfg.Account.ID + ":" + group, Stream: e.Stream, RequestID: e.RequestID, Message: e.Message,
		Pointer: encodeToken(e.ID() + group),
	}
}

func (a *API) query(id string) (*query, error) {
	i := slices.IndexFunc(a.queries, func(q *query) bool { return q.id == id })
	if i < 0 {
		return nil, thaw.Errorf(thaw.CodeResourceNotFound, "Query with ID %s does not exist.", id)
	}
	return a.queries[i], nil
}

func (a *API) stopQuery(_ context.Context, in *sdk.StopQueryInput) (*sdk.StopQueryOutput, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q, err := a.query(*in.QueryId)
	if err != nil {
		return nil, err
	}
	if done(q.status) {
		return nil, invalid("Query with ID %s is not running.", q.id)
	}
	if q.cancel != nil {
		q.cancel()
	} else {
		a.leave(q)
	}
	q.status = types.QueryStatusCancelled
	return &sdk.StopQueryOutput{Success: true}, nil
}

// leave takes a query out of those that wait. The lock is held.
func (a *API) leave(q *query) {
	for range len(a.waiting) {
		select {
		case other := <-a.waiting:
			if other != q {
				a.waiting <- other // nobody adds one while the lock is held
			}
		default: // a runner has taken it
		}
	}
}

func (a *API) getQueryResults(_ context.Context, in *sdk.GetQueryResultsInput) (*sdk.GetQueryResultsOutput, error) {
	begin := 0
	if in.NextToken != nil {
		text, err := decodeToken(*in.NextToken)
		if err == nil {
			begin, err = strconv.Atoi(text)
		}
		if err != nil || begin < 0 {
			return nil, errToken
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	q, err := a.query(*in.QueryId)
	if err != nil {
		return nil, err
	}
	size := insights.MaxRows
	if n := operation.Value(in.MaxItems); n > 0 {
		size = int(n)
	}
	begin = min(begin, len(q.results))
	page := q.results[begin:min(begin+size, len(q.results))]
	out := &sdk.GetQueryResultsOutput{
		QueryLanguage: types.QueryLanguageCwli, Status: q.status, Results: make([][]types.ResultField, len(page)),
		Statistics: &types.QueryStatistics{
			RecordsMatched: float64(q.matched), RecordsScanned: float64(q.scanned), BytesScanned: float64(q.bytes), LogGroupsScanned: float64(len(q.groups)),
		},
	}
	for i, row := range page {
		out.Results[i] = make([]types.ResultField, len(row))
		for j := range row {
			out.Results[i][j] = types.ResultField{Field: &row[j].Name, Value: &row[j].Value}
		}
	}
	if begin+len(page) < len(q.results) {
		out.NextToken = pointer(encodeToken(strconv.Itoa(begin + len(page))))
	}
	return out, nil
}

func (a *API) describeQueries(_ context.Context, in *sdk.DescribeQueriesInput) (*sdk.DescribeQueriesOutput, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(a.queries), func(q *query) bool {
		named := in.LogGroupName == nil || slices.ContainsFunc(q.groups, func(g groups.GroupInfo) bool { return g.Name == *in.LogGroupName })
		return !named || in.Status != "" && in.Status != q.status || in.QueryLanguage != "" && in.QueryLanguage != types.QueryLanguageCwli
	})
	slices.Reverse(list) // the newest first
	begin := 0
	if in.NextToken != nil {
		text, err := decodeToken(*in.NextToken)
		if err != nil {
			return nil, err
		}
		begin = slices.IndexFunc(list, func(q *query) bool { return q.id == text }) + 1
		if begin == 0 {
			return nil, errToken
		}
	}
	size := len(list)
	if in.MaxResults != nil {
		size = int(*in.MaxResults)
	}
	page := list[begin:min(begin+size, len(list))]
	out := &sdk.DescribeQueriesOutput{Queries: []types.QueryInfo{}}
	for _, q := range page {
		info := types.QueryInfo{
			QueryId: &q.id, QueryString: &q.text, QueryLanguage: types.QueryLanguageCwli, Status: q.status, CreateTime: millis(q.created),
			LogGroupName: &q.groups[0].Name,
		}
		if done(q.status) {
			info.QueryDuration, info.BytesScanned = pointer(q.took.Milliseconds()), pointer(float64(q.bytes))
		}
		out.Queries = append(out.Queries, info)
	}
	if begin+len(page) < len(list) {
		out.NextToken = pointer(encodeToken(page[len(page)-1].id))
	}
	return out, nil
}

// getLogRecord gives all fields of the event that @ptr of a result names.
func (a *API) getLogRecord(ctx context.Context, in *sdk.GetLogRecordInput) (*sdk.GetLogRecordOutput, error) {
	bad := invalid("The log record pointer is invalid.")
	text, err := base64.RawURLEncoding.DecodeString(*in.LogRecordPointer)
	if err != nil || len(text) <= groups.IDLength {
		return nil, bad
	}
	place, ok := groups.ParseID(string(text[:groups.IDLength]))
	if !ok {
		return nil, bad
	}
	name := string(text[groups.IDLength:])
	gone := thaw.Errorf(thaw.CodeResourceNotFound, "The log record does not exist any more.")
	g, err := a.cfg.Groups.Group(ctx, name)
	if err != nil {
		return nil, wording(err, gone, nil)
	}
	e, err := a.cfg.Groups.Get(ctx, name, place)
	if err != nil {
		return nil, wording(err, gone, nil)
	}
	if place.Compare(a.first(&g, nil)) < 0 {
		return nil, gone
	}
	record := map[string]string{}
	for _, f := range insights.Fields(a.event(name, &e)) {
		record[f.Name] = f.Value
	}
	return &sdk.GetLogRecordOutput{LogRecord: record}, nil
}

// maxSampled is how many events GetLogGroupFields looks at.
const maxSampled = 10_000

func (a *API) getLogGroupFields(ctx context.Context, in *sdk.GetLogGroupFieldsInput) (*sdk.GetLogGroupFieldsOutput, error) {
	g, err := a.group(ctx, in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	now := a.cfg.Now()
	from, to := now.Add(-fieldsBefore).UnixMicro(), now.UnixMicro()
	if in.Time != nil {
		center := seconds(*in.Time)
		from, to = center-fieldsAround.Microseconds(), center+fieldsAround.Microseconds()
	}
	if err := a.cfg.Groups.Sync(ctx); err != nil {
		return nil, err
	}
	seen, events := map[string]int{}, 0
	enough := errors.New("enough")
	err = a.feed(ctx, &g, from, to, func(e *insights.Event) error {
		if events++; events > maxSampled {
			events--
			return enough
		}
		for _, f := range insights.Fields(e) {
			if _, ok := seen[f.Name]; ok || len(seen) < insights.MaxRows {
				seen[f.Name]++
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) {
		return nil, err
	}
	out := &sdk.GetLogGroupFieldsOutput{LogGroupFields: []types.LogGroupField{}}
	for name, n := range seen {
		out.LogGroupFields = append(out.LogGroupFields, types.LogGroupField{Name: pointer(name), Percent: int32(n * 100 / events)})
	}
	slices.SortFunc(out.LogGroupFields, func(a, b types.LogGroupField) int {
		if a.Percent != b.Percent {
			return int(b.Percent - a.Percent)
		}
		return strings.Compare(*a.Name, *b.Name)
	})
	return out, nil
}
