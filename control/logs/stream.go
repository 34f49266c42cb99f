package logs

import (
	"context"
	"fmt"
	"slices"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"thaw/control/internal/operation"
	"thaw/telemetry"
	"thaw/telemetry/groups"
	"thaw/telemetry/xray"
)

// Bounds of PutLogEvents, after its documentation.
const (
	maxBatch      = 1_048_576 // bytes, with eventOverhead for each event
	eventOverhead = 26
	maxSpan       = 24 * time.Hour
	maxAge        = 14 * 24 * time.Hour
	maxAhead      = 2 * time.Hour
)

func (a *API) createLogStream(ctx context.Context, in *sdk.CreateLogStreamInput) (*sdk.CreateLogStreamOutput, error) {
	g, err := a.group(ctx, in.LogGroupName, nil)
	if err != nil {
		return nil, err
	}
	return nil, wording(a.cfg.Groups.CreateStream(ctx, g.Name, *in.LogStreamName), nil, errStreamExists)
}

func (a *API) deleteLogStream(ctx context.Context, in *sdk.DeleteLogStreamInput) (*sdk.DeleteLogStreamOutput, error) {
	g, err := a.group(ctx, in.LogGroupName, nil)
	if err != nil {
		return nil, err
	}
	if err := protected(&g); err != nil {
		return nil, err
	}
	return nil, wording(a.cfg.Groups.DeleteStream(ctx, g.Name, *in.LogStreamName), errNoStream, nil)
}

func (a *API) describeLogStreams(ctx context.Context, in *sdk.DescribeLogStreamsInput) (*sdk.DescribeLogStreamsOutput, error) {
	g, err := a.group(ctx, in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	byTime := in.OrderBy == types.OrderByLastEventTime
	if byTime && in.LogStreamNamePrefix != nil {
		return nil, invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
	}
	list, err := a.cfg.Groups.Streams(ctx, g.Name, operation.Value(in.LogStreamNamePrefix), byTime)
	if err != nil {
		return nil, err
	}
	page, next, err := a.streamPage(list, in, byTime)
	if err != nil {
		return nil, err
	}
	out := &sdk.DescribeLogStreamsOutput{LogStreams: []types.LogStream{}, NextToken: next}
	for i := range page {
		s := &page[i]
		out.LogStreams = append(out.LogStreams, types.LogStream{
			LogStreamName: &s.Name, Arn: pointer(a.streamARN(g.Name, s.Name)), CreationTime: millis(s.Created),
			FirstEventTimestamp: millis(s.From), LastEventTimestamp: millis(s.To), LastIngestionTime: millis(s.Stored),
			UploadSequenceToken: pointer(sequenceToken(s.Stored)),
			StoredBytes:         pointer(int64(0)), //nolint:staticcheck // AWS answers it all the same
		})
	}
	return out, nil
}

// streamPage cuts the page that a request asks for. A token holds what the order goes by: backwards, the items are cut from
// the end.
func (a *API) streamPage(list []groups.StreamInfo, in *sdk.DescribeLogStreamsInput, byTime bool) ([]groups.StreamInfo, *string, error) {
	key := func(s groups.StreamInfo) string { return s.Name }
	if byTime {
		key = func(s groups.StreamInfo) string { return timeKey(s.To) + s.Name }
	}
	if !operation.Value(in.Descending) {
		return cut(list, key, in.NextToken, in.Limit, maxDescribed)
	}
	limit := maxDescribed
	if in.Limit != nil {
		limit = min(limit, int(*in.Limit))
	}
	end := len(list)
	if in.NextToken != nil {
		before, err := decodeToken(*in.NextToken)
		if err != nil {
			return nil, nil, err
		}
		end = 0
		for end < len(list) && key(list[end]) < before {
			end++
		}
	}
	begin := max(0, end-limit)
	page := slices.Clone(list[begin:end])
	slices.Reverse(page)
	var next *string
	if begin > 0 {
		next = pointer(encodeToken(key(list[begin])))
	}
	return page, next, nil
}

// timeKey is a time as a text that sorts as it.
func timeKey(t time.Time) string {
	if t.IsZero() {
		return fmt.Sprintf("%020d ", 0)
	}
	return fmt.Sprintf("%020d ", t.UnixMicro())
}

// sequenceToken is what clients of old want to hand back. Nobody looks at it.
func sequenceToken(t time.Time) string { return fmt.Sprintf("496%053d", max(0, t.UnixMicro())) }

func (a *API) putLogEvents(ctx context.Context, in *sdk.PutLogEventsInput) (*sdk.PutLogEventsOutput, error) {
	g, err := a.group(ctx, in.LogGroupName, nil)
	if err != nil {
		return nil, err
	}
	if _, ok := a.cfg.Groups.Stream(g.Name, *in.LogStreamName); !ok {
		if err := a.cfg.Groups.Sync(ctx); err != nil {
			return nil, err
		}
		if _, ok := a.cfg.Groups.Stream(g.Name, *in.LogStreamName); !ok {
			return nil, errNoStream
		}
	}
	events, rejected, err := accept(in.LogEvents, a.cfg.Now(), g.Retention)
	if err != nil {
		return nil, err
	}
	if len(events) > 0 {
		_, lineage := xray.CutLineage(operation.CallersTrace(ctx)) // the SDKs in a function send it
		for i := range events {
			events[i].Lineage = lineage
		}
		if err := a.cfg.Groups.Append(ctx, g.Name, *in.LogStreamName, events); err != nil {
			return nil, wording(err, nil, nil)
		}
	}
	return &sdk.PutLogEventsOutput{NextSequenceToken: pointer(sequenceToken(a.cfg.Now())), RejectedLogEventsInfo: rejected}, nil
}

// accept checks the events of one request, and drops those that are too old or too new.
func accept(in []types.InputLogEvent, now time.Time, retention int) ([]telemetry.Event, *types.RejectedLogEventsInfo, error) {
	size := 0
	for i := range in {
		size += len(*in[i].Message) + eventOverhead
		if i > 0 && *in[i].Timestamp < *in[i-1].Timestamp {
			return nil, nil, invalid("Log events in a single PutLogEvents request must be in chronological order.")
		}
	}
	if size > maxBatch {
		return nil, nil, invalid("Upload too large: %d bytes exceeds limit of %d", size, maxBatch)
	}
	oldest, newest := now.Add(-maxAge), now.Add(maxAhead)
	var kept []telemetry.Event
	var old, expired, ahead int
	for i := range in {
		at := time.UnixMilli(*in[i].Timestamp)
		switch {
		case at.Before(oldest):
			old++
		case retention > 0 && at.Before(now.AddDate(0, 0, -retention)):
			expired++
		case at.After(newest):
			ahead++
		default:
			kept = append(kept, telemetry.Event{At: at, Message: *in[i].Message})
		}
	}
	if n := len(kept); n > 0 && kept[n-1].At.Sub(kept[0].At) > maxSpan {
		return nil, nil, invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
	}
	if old+expired+ahead == 0 {
		return kept, nil, nil
	}
	rejected := &types.RejectedLogEventsInfo{}
	if old > 0 {
		rejected.TooOldLogEventEndIndex = pointer(int32(old))
	}
	if expired > 0 {
		rejected.ExpiredLogEventEndIndex = pointer(int32(old + expired))
	}
	if ahead > 0 {
		rejected.TooNewLogEventStartIndex = pointer(int32(len(in) - ahead))
	}
	return kept, rejected, nil
}
