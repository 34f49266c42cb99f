package logs

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"thaw/control/internal/operation"
	"thaw/telemetry"
	"thaw/telemetry/filter"
	"thaw/telemetry/groups"
)

// Bounds of a page of events, after the documentation, and of what is read for it, bytes: a page that matches little ends
// with a token.
const (
	maxEvents = 10_000
	maxPage   = 1 << 20
	maxScan   = 64 << 20
)

// The tokens of GetLogEvents name a place between events: f is what follows it, b is what comes before it.
func forward(p groups.Position) *string  { return pointer("f/" + p.ID() + "/s") }
func backward(p groups.Position) *string { return pointer("b/" + p.ID() + "/s") }

func readPlace(token string) (p groups.Position, back bool, err error) {
	inner, ok := strings.CutSuffix(token, "/s")
	if !ok || len(inner) < 2 || inner[1] != '/' || inner[0] != 'f' && inner[0] != 'b' {
		return p, false, errToken
	}
	if p, ok = groups.ParseID(inner[2:]); !ok {
		return p, false, errToken
	}
	return p, inner[0] == 'b', nil
}

func encodeToken(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func decodeToken(token string) (string, error) {
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", errToken
	}
	return string(text), nil
}

// first is the position of the first event at or after a time in ms, no earlier than the group's retention lets be seen.
func (a *API) first(g *groups.GroupInfo, start *int64) groups.Position {
	p := groups.Position{At: clampMillis(operation.Value(start)) * 1000}
	if g.Retention > 0 {
		p.At = max(p.At, a.cfg.Now().AddDate(0, 0, -g.Retention).UnixMicro())
	}
	return p
}

// clampMillis keeps a time in ms within what µs can hold.
func clampMillis(ms int64) int64 { return min(max(ms, 0), 1<<52) }

func (a *API) getLogEvents(ctx context.Context, in *sdk.GetLogEventsInput) (*sdk.GetLogEventsOutput, error) {
	g, err := a.group(ctx, in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	if in.StartTime != nil && in.EndTime != nil && *in.StartTime > *in.EndTime {
		return nil, invalid("End time must not be earlier than start time.")
	}
	q := groups.Query{
		Group: g.Name, Stream: func(name string) bool { return name == *in.LogStreamName },
		From: a.first(&g, in.StartTime), Before: groups.Last, Backward: !operation.Value(in.StartFromHead),
		Limit: limit(in.Limit), Bytes: maxPage, Scan: maxScan,
	}
	if in.EndTime != nil {
		q.Before = groups.Position{At: clampMillis(*in.EndTime) * 1000}
	}
	begin := q.From
	if in.NextToken != nil {
		place, back, err := readPlace(*in.NextToken)
		if err != nil {
			return nil, err
		}
		begin, q.Backward = place, back
		if back {
			q.Before = earlier(q.Before, place)
		} else if place.Compare(q.From) > 0 {
			q.From = place
		}
	}
	page, err := a.cfg.Groups.Read(ctx, q)
	if err != nil {
		return nil, err
	}
	if len(page.Events) == 0 {
		if _, ok := a.cfg.Groups.Stream(g.Name, *in.LogStreamName); !ok {
			return nil, errNoStream
		}
	}
	out := &sdk.GetLogEventsOutput{Events: []types.OutputLogEvent{}, NextForwardToken: forward(begin), NextBackwardToken: backward(begin)}
	for i := range page.Events {
		e := &page.Events[i]
		out.Events = append(out.Events, types.OutputLogEvent{Timestamp: millis(e.Event.At), Message: &e.Message, IngestionTime: millis(e.Stored)})
	}
	if n := len(page.Events); n > 0 {
		out.NextForwardToken, out.NextBackwardToken = forward(page.Events[n-1].Next()), backward(page.Events[0].Position)
	}
	if page.More && q.Backward {
		out.NextBackwardToken = backward(page.Next)
	} else if page.More {
		out.NextForwardToken = forward(page.Next)
	}
	return out, nil
}

func earlier(p, q groups.Position) groups.Position {
	if p.Compare(q) < 0 {
		return p
	}
	return q
}

func limit(asked *int32) int {
	if asked == nil {
		return maxEvents
	}
	return int(*asked)
}

// headSince is the earliest startTime with which FilterLogEvents reads backward.
var headSince = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func (a *API) filterLogEvents(ctx context.Context, in *sdk.FilterLogEventsInput) (*sdk.FilterLogEventsOutput, error) {
	g, err := a.group(ctx, in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	q := groups.Query{
		Group: g.Name, From: a.first(&g, in.StartTime), Before: groups.Last, Backward: in.StartFromHead != nil && !*in.StartFromHead,
		Limit: limit(in.Limit), Bytes: maxPage, Scan: maxScan,
	}
	if in.EndTime != nil {
		if in.StartTime != nil && *in.StartTime > *in.EndTime {
			return nil, invalid("End time must not be earlier than start time.")
		}
		q.Before = groups.Position{At: (clampMillis(*in.EndTime) + 1) * 1000}
	}
	if q.Backward && (in.StartTime == nil || *in.StartTime < headSince.UnixMilli()) {
		return nil, invalid("startFromHead can be false only with a startTime on or after Jan 1, 2024 00:00:00 UTC.")
	}
	if q.Stream, err = a.streams(ctx, g.Name, in.LogStreamNames, in.LogStreamNamePrefix); err != nil {
		return nil, err
	}
	if q.Match, err = matcher(in.FilterPattern); err != nil {
		return nil, err
	}
	if in.NextToken != nil {
		text, err := decodeToken(*in.NextToken)
		if err != nil {
			return nil, err
		}
		place, back, err := readPlace(text)
		if err != nil {
			return nil, err
		}
		if q.Backward = back; back {
			q.Before = earlier(q.Before, place)
		} else if place.Compare(q.From) > 0 {
			q.From = place
		}
	}
	page, err := a.cfg.Groups.Read(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &sdk.FilterLogEventsOutput{Events: []types.FilteredLogEvent{}, SearchedLogStreams: []types.SearchedLogStream{}}
	for i := range page.Events {
		e := &page.Events[i]
		out.Events = append(out.Events, types.FilteredLogEvent{
			LogStreamName: &e.Stream, Timestamp: millis(e.Event.At), Message: &e.Message, IngestionTime: millis(e.Stored), EventId: pointer(e.ID()),
		})
	}
	if q.Backward {
		slices.Reverse(out.Events)
	}
	if page.More {
		next := forward(page.Next)
		if q.Backward {
			next = backward(page.Next)
		}
		out.NextToken = pointer(encodeToken(*next))
	}
	return out, nil
}

// streams says which streams a request means; nil: all.
func (a *API) streams(ctx context.Context, group string, names []string, prefix *string) (func(string) bool, error) {
	switch {
	case len(names) > 0 && prefix != nil:
		return nil, invalid("logStreamNames and logStreamNamePrefix are mutually exclusive parameters.")
	case prefix != nil:
		return func(name string) bool { return strings.HasPrefix(name, *prefix) }, nil
	case len(names) == 0:
		return nil, nil
	}
	if err := a.cfg.Groups.Sync(ctx); err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, ok := a.cfg.Groups.Stream(group, name); !ok {
			return nil, errNoStream
		}
	}
	return func(name string) bool { return slices.Contains(names, name) }, nil
}

// matcher says which events a filter pattern means; nil: all.
func matcher(pattern *string) (func(*telemetry.Event) bool, error) {
	p, err := compilePattern(operation.Value(pattern))
	if err != nil || p.All() {
		return nil, err
	}
	return func(e *telemetry.Event) bool { return p.Match(e.Message) }, nil
}

func compilePattern(text string) (*filter.Pattern, error) {
	p, err := filter.Compile(text)
	if err != nil {
		return nil, invalid("Invalid filter pattern: %s.", err)
	}
	return p, nil
}
