package logs

import (
	"fmt"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"thaw"
	"thaw/awsapi"
	"thaw/telemetry"
	"thaw/telemetry/groups"
	"thaw/trigger/subscription"
)

func TestUpdatesOfLiveTailsAreBounded(t *testing.T) {
	var all tail
	for range 2 * maxTailed {
		all.add(&types.LiveTailSessionLogEvent{Message: pointer(strings.Repeat("x", telemetry.MaxMessage)), Timestamp: pointer(int64(1))})
	}
	size := 0
	update := all.update()
	for _, e := range update.SessionResults {
		size += len(*e.Message)
	}
	if size == 0 || size > maxTailBytes || !update.SessionMetadata.Sampled {
		t.Errorf("%d bytes in %d events", size, len(update.SessionResults))
	}
	all.add(&types.LiveTailSessionLogEvent{Message: pointer("x"), Timestamp: pointer(int64(1))})
	if update := all.update(); len(update.SessionResults) != 1 || update.SessionMetadata.Sampled {
		t.Error("the next update is not whole")
	}
}

// A query that was stopped while it waited leaves its place to another one.
func TestStoppedQueriesMakeRoom(t *testing.T) {
	w := newWorld(t)
	w.write("g", "s", "", "x")
	a, err := New(Config{Account: account, Groups: w.index, Functions: w}) // nothing runs its queries
	if err != nil {
		t.Fatal(err)
	}
	in := &sdk.StartQueryInput{LogGroupName: pointer("g"), StartTime: pointer(int64(0)), EndTime: pointer(int64(1)), QueryString: pointer("fields @message")}
	var ids []*string
	for range maxWaiting {
		out, err := a.startQuery(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, out.QueryId)
	}
	if _, err := a.startQuery(t.Context(), in); thaw.CodeOf(err) != thaw.CodeQuotaExceeded {
		t.Errorf("one more than can wait: %v", err)
	}
	for range 2 * maxWaiting {
		if _, err := a.stopQuery(t.Context(), &sdk.StopQueryInput{QueryId: ids[0]}); err != nil {
			t.Fatal(err)
		}
		out, err := a.startQuery(t.Context(), in)
		if err != nil {
			t.Fatalf("after one was stopped: %v", err)
		}
		ids = append(ids[1:], out.QueryId)
	}
}

func TestRecordsPastRetentionAreGone(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	w.api.cfg.Now = func() time.Time { return now }
	w.write("g", "s", "", "x")
	page, err := w.index.Read(t.Context(), groups.Query{Group: "g", Before: groups.Last, Limit: 1, Bytes: 1, Scan: 1})
	if err != nil || len(page.Events) != 1 {
		t.Fatal(page, err)
	}
	in := &sdk.GetLogRecordInput{LogRecordPointer: pointer(encodeToken(page.Events[0].ID() + "g"))}
	if _, err := w.api.getLogRecord(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if _, err := w.api.putRetentionPolicy(t.Context(), &sdk.PutRetentionPolicyInput{LogGroupName: pointer("g"), RetentionInDays: pointer(int32(1))}); err != nil {
		t.Fatal(err)
	}
	now = now.AddDate(0, 0, 2)
	if _, err := w.api.getLogRecord(t.Context(), in); thaw.CodeOf(err) != thaw.CodeResourceNotFound {
		t.Errorf("past its retention: %v", err)
	}
}

// A filter beyond those that are followed would be taken and do nothing.
func TestFiltersThatWouldNotBeFollowedAreRefused(t *testing.T) {
	w := newWorld(t)
	for i := range subscription.MaxFilters / maxMetricFilters {
		var list []groups.MetricFilter
		for n := range maxMetricFilters {
			list = append(list, groups.MetricFilter{Name: fmt.Sprint(n)})
		}
		if err := w.index.Create(t.Context(), fmt.Sprint("g", i), groups.Group{Created: time.Now(), MetricFilters: list}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.index.Create(t.Context(), "g", groups.Group{Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	_, err := w.api.putSubscriptionFilter(t.Context(), &sdk.PutSubscriptionFilterInput{
		LogGroupName: pointer("g"), FilterName: pointer("f"), FilterPattern: pointer(""), DestinationArn: pointer("arn:aws:lambda:eu-west-1:123456789012:function:open"),
	})
	if thaw.CodeOf(err) != thaw.CodeQuotaExceeded {
		t.Errorf("a subscription: %v", err)
	}
	metric := &sdk.PutMetricFilterInput{
		LogGroupName: pointer("g"), FilterName: pointer("0"), FilterPattern: pointer(""),
		MetricTransformations: []types.MetricTransformation{{MetricName: pointer("m"), MetricNamespace: pointer("n"), MetricValue: pointer("1")}},
	}
	if _, err = w.api.putMetricFilter(t.Context(), metric); thaw.CodeOf(err) != thaw.CodeQuotaExceeded {
		t.Errorf("a metric filter: %v", err)
	}
	metric.LogGroupName = pointer("g1")
	if _, err = w.api.putMetricFilter(t.Context(), metric); err != nil {
		t.Errorf("one that is there: %v", err)
	}
}

// A filter that is put again, as after a mend of what it delivers to, goes on with what waits for it.
func TestAFilterThatIsPutAgainGoesOn(t *testing.T) {
	w := newWorld(t)
	subscribe := &sdk.PutSubscriptionFilterInput{
		LogGroupName: pointer("g"), FilterName: pointer("f"), FilterPattern: pointer(""), DestinationArn: pointer("arn:aws:lambda:eu-west-1:123456789012:function:open"),
	}
	measure := &sdk.PutMetricFilterInput{
		LogGroupName: pointer("g"), FilterName: pointer("f"), FilterPattern: pointer(""),
		MetricTransformations: []types.MetricTransformation{{MetricName: pointer("m"), MetricNamespace: pointer("n"), MetricValue: pointer("1")}},
	}
	var first, again groups.GroupInfo
	for i, g := range []*groups.GroupInfo{&first, &again} {
		w.write("g", "s", "", "x")
		if i > 0 {
			subscribe.FilterPattern, measure.FilterPattern = pointer("x"), pointer("x")
		}
		if _, err := w.api.putSubscriptionFilter(t.Context(), subscribe); err != nil {
			t.Fatal(err)
		}
		if _, err := w.api.putMetricFilter(t.Context(), measure); err != nil {
			t.Fatal(err)
		}
		var err error
		if *g, err = w.index.Group(t.Context(), "g"); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := first.Subscriptions[0], again.Subscriptions[0]; a.After != b.After || b.Pattern != "x" || len(again.Subscriptions) != 1 {
		t.Errorf("%+v, then %+v", a, b)
	}
	if a, b := first.MetricFilters[0], again.MetricFilters[0]; a.After != b.After || b.Pattern != "x" || len(again.MetricFilters) != 1 {
		t.Errorf("%+v, then %+v", a, b)
	}
}

// The SDKs in a function send the trace of its invocation.
func TestPutEventsKeepTheLineageOfTheirCaller(t *testing.T) {
	w := newWorld(t)
	if _, err := w.api.createLogGroup(t.Context(), &sdk.CreateLogGroupInput{LogGroupName: pointer("g")}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.api.createLogStream(t.Context(), &sdk.CreateLogStreamInput{LogGroupName: pointer("g"), LogStreamName: pointer("s")}); err != nil {
		t.Fatal(err)
	}
	ctx := awsapi.WithRequest(t.Context(), awsapi.Request{Header: map[string][]string{"X-Amzn-Trace-Id": {"Root=1-2-3;Lineage=a:1%7Cb:2"}}})
	in := &sdk.PutLogEventsInput{LogGroupName: pointer("g"), LogStreamName: pointer("s"), LogEvents: []types.InputLogEvent{{Message: pointer("x"), Timestamp: pointer(time.Now().UnixMilli())}}}
	if _, err := w.api.putLogEvents(ctx, in); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := w.logs.Read(t.Context(), "g", time.Time{}, false, func(e telemetry.Event) error { got = append(got, e.RequestID+e.Lineage); return nil })
	if err != nil || len(got) != 1 || got[0] != "a:1|b:2" {
		t.Errorf("%q, %v", got, err)
	}
}

// What a version writes to counts for subscriptions to that version.
func TestAVersionsOwnLogIsNoSource(t *testing.T) {
	f := &thaw.Function{
		Config: thaw.Version{Function: "f", Number: thaw.Latest}, Published: []thaw.Version{{Function: "f", Number: "1", LogGroup: "own"}, {Function: "f", Number: "2"}},
		Aliases: map[string]thaw.Alias{"part": {Version: "2", Other: "1", Weight: 0.1}, "all": {Version: "2"}},
	}
	for qualifier, writes := range map[string]bool{"": false, "1": true, "2": false, "part": true, "all": false, "none": false} {
		if groups.WritesTo(f, qualifier, "own") != writes {
			t.Errorf("%q", qualifier)
		}
	}
	if !groups.WritesTo(f, "", "/aws/lambda/f") {
		t.Error("not its default log")
	}
}
