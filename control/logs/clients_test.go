package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"thaw/control/internal/apitest"
	"thaw/internal/ownbody"
)

func client(url string) *sdk.Client {
	return sdk.New(sdk.Options{BaseEndpoint: &url, Region: account.Region, Credentials: credentials.NewStaticCredentialsProvider("thaw", "thaw", ""), RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
}

// disableHostPrefix keeps the SDK from asking stream-127.0.0.1.
func disableHostPrefix(stack *middleware.Stack) error {
	plain := func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(smithyhttp.DisableEndpointHostPrefix(ctx, true), in)
	}
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("plainHost", plain), middleware.Before)
}

func TestGoSDK(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	c := client(apitest.Serve(t, w.handler(t)))
	name := pointer("/aws/lambda/f")
	_, err := c.FilterLogEvents(ctx, &sdk.FilterLogEventsInput{LogGroupName: name})
	if none := (*types.ResourceNotFoundException)(nil); !errors.As(err, &none) {
		t.Errorf("%v", err)
	}
	// What a function writes makes the group and the stream.
	w.write(*name, "2026/01/31/[$LATEST]a", "r", "one", "two", "three")
	var got []string
	pages := sdk.NewFilterLogEventsPaginator(c, &sdk.FilterLogEventsInput{LogGroupName: name, Limit: pointer(int32(1))})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			got = append(got, strings.TrimSpace(*e.Message))
		}
	}
	if fmt.Sprint(got) != "[one two three]" {
		t.Errorf("%q", got)
	}
	groups, err := c.DescribeLogGroups(ctx, &sdk.DescribeLogGroupsInput{})
	if err != nil || len(groups.LogGroups) != 1 || *groups.LogGroups[0].StoredBytes == 0 {
		t.Errorf("%+v, %v", groups, err)
	}
	streams, err := c.DescribeLogStreams(ctx, &sdk.DescribeLogStreamsInput{LogGroupIdentifier: groups.LogGroups[0].LogGroupArn})
	if err != nil || len(streams.LogStreams) != 1 || time.Since(time.UnixMilli(*streams.LogStreams[0].LastEventTimestamp)) > time.Hour {
		t.Errorf("%+v, %v", streams, err)
	}
	// The paginator of GetLogEvents ends where a token comes twice; to follow, one asks again with it.
	var token *string
	got = nil
	for range 3 {
		out, err := c.GetLogEvents(ctx, &sdk.GetLogEventsInput{LogGroupName: name, LogStreamName: streams.LogStreams[0].LogStreamName, StartFromHead: pointer(true), NextToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range out.Events {
			got = append(got, strings.TrimSpace(*e.Message))
		}
		if token != nil && len(out.Events) == 0 && *token != *out.NextForwardToken {
			t.Errorf("at the end %s becomes %s", *token, *out.NextForwardToken)
		}
		token = out.NextForwardToken
		if len(got) == 3 {
			w.write(*name, "2026/01/31/[$LATEST]a", "r", "four")
		}
	}
	if fmt.Sprint(got) != "[one two three four]" {
		t.Errorf("%q", got)
	}
}

func TestGoSDKLiveTail(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	c := client(apitest.Serve(t, w.handler(t)))
	name := "/aws/lambda/f"
	w.write(name, "s", "r", "before ERROR")
	arn := w.api.arn(name)
	withoutPrefix := func(o *sdk.Options) {
		o.APIOptions = append(o.APIOptions, disableHostPrefix)
	}
	_, err := c.StartLiveTail(ctx, &sdk.StartLiveTailInput{LogGroupIdentifiers: []string{w.api.arn("none")}}, withoutPrefix)
	if none := (*types.ResourceNotFoundException)(nil); !errors.As(err, &none) {
		t.Errorf("%v", err)
	}
	out, err := c.StartLiveTail(ctx, &sdk.StartLiveTailInput{LogGroupIdentifiers: []string{arn}, LogEventFilterPattern: pointer("ERROR")}, withoutPrefix)
	if err != nil {
		t.Fatal(err)
	}
	stream := out.GetStream()
	var got []string
	for event := range stream.Events() {
		switch e := event.(type) {
		case *types.StartLiveTailResponseStreamMemberSessionStart:
			w.write(name, "s", "r", "an ERROR", "nothing")
			w.write("/other", "s", "r", "another ERROR")
		case *types.StartLiveTailResponseStreamMemberSessionUpdate:
			for _, x := range e.Value.SessionResults {
				got = append(got, strings.TrimSpace(*x.Message))
			}
			w.logs.Flush()
		}
		if len(got) > 0 {
			break
		}
	}
	if fmt.Sprint(got) != "[an ERROR]" {
		t.Errorf("%q", got)
	}
	// A platform that stops says so.
	w.api.StopTails()
	for range stream.Events() { //nolint:revive // what comes until the end is not looked at
	}
	if end := (*types.SessionStreamingException)(nil); !errors.As(stream.Err(), &end) {
		t.Errorf("%v", stream.Err())
	}
	if err := stream.Close(); err != nil && !errors.As(err, new(*types.SessionStreamingException)) {
		t.Error(err)
	}
}

const session = `
import boto3, sys, time
from botocore.config import Config
logs = boto3.client("logs", endpoint_url=sys.argv[1], config=Config(retries={"max_attempts": 0}, inject_host_prefix=False))
group, stream = {"logGroupName": "/app/web"}, {"logGroupName": "/app/web", "logStreamName": "one"}
logs.create_log_group(**group)
try:
    logs.create_log_group(**group)
    raise AssertionError("made twice")
except logs.exceptions.ResourceAlreadyExistsException:
    pass
try:
    logs.create_log_group(logGroupName="a b")
    raise AssertionError("a bad name is taken")
except logs.exceptions.InvalidParameterException as e:
    assert "regular expression pattern" in str(e), e
logs.create_log_stream(**stream)
now = int(time.time() * 1000)
logs.put_log_events(**stream, logEvents=[{"timestamp": now - 1000 + i, "message": "line %d" % i} for i in range(250)])
pages = logs.get_paginator("filter_log_events").paginate(**group, filterPattern="line", PaginationConfig={"PageSize": 100})
assert [e["message"] for p in pages for e in p["events"]] == ["line %d" % i for i in range(250)]
newest = logs.get_log_events(**stream, limit=2)
assert [e["message"] for e in newest["events"]] == ["line 248", "line 249"], newest
older = logs.get_log_events(**stream, limit=2, nextToken=newest["nextBackwardToken"])
assert [e["message"] for e in older["events"]] == ["line 246", "line 247"], older

query = logs.start_query(**group, startTime=now // 1000 - 60, endTime=now // 1000 + 60,
    queryString='parse @message "line *" as n | filter n >= 200 | stats count(*) as count, max(n) as most')["queryId"]
while True:
    result = logs.get_query_results(queryId=query)
    if result["status"] not in ("Scheduled", "Running"):
        break
    time.sleep(0.05)
assert result["status"] == "Complete", result
assert result["results"] == [[{"field": "count", "value": "50"}, {"field": "most", "value": "249"}]], result
assert result["statistics"]["recordsScanned"] == 250, result
query = logs.start_query(**group, startTime=now // 1000 - 60, endTime=now // 1000 + 60, queryString='fields @message | limit 1')["queryId"]
while logs.get_query_results(queryId=query)["status"] != "Complete":
    time.sleep(0.05)
fields = {f["field"]: f["value"] for f in logs.get_query_results(queryId=query)["results"][0]}
assert fields["@message"] == "line 249", fields
assert logs.get_log_record(logRecordPointer=fields["@ptr"])["logRecord"]["@logStream"] == "one"
assert {q["status"] for q in logs.describe_queries()["queries"]} == {"Complete"}

tail = logs.start_live_tail(logGroupIdentifiers=["arn:aws:logs:eu-west-1:123456789012:log-group:/app/web"])["responseStream"]
seen, put = [], False
for event in tail:
    if "sessionStart" in event:
        logs.put_log_events(**stream, logEvents=[{"timestamp": now + 1, "message": "live"}])
    else:
        seen += [r["message"] for r in event["sessionUpdate"]["sessionResults"]]
    if seen:
        break
tail.close()
assert seen == ["live"], seen

assert logs.describe_log_streams(**group, orderBy="LastEventTime", descending=True)["logStreams"][0]["lastEventTimestamp"] == now + 1
logs.put_retention_policy(**group, retentionInDays=1)
assert logs.describe_log_groups()["logGroups"][0]["retentionInDays"] == 1
logs.delete_log_stream(**stream)
assert logs.filter_log_events(**group)["events"] == []
logs.delete_log_group(**group)
assert logs.describe_log_groups()["logGroups"] == []
`

func TestBoto3(t *testing.T) {
	apitest.Boto3(t, account.Region, "-c", session, apitest.Serve(t, newWorld(t).handler(t)))
}

func TestCommandLine(t *testing.T) {
	w := newWorld(t)
	aws := apitest.CommandLine(t, account.Region, apitest.Serve(t, w.handler(t)), "logs")
	w.write("/aws/lambda/f", "2026/01/31/[$LATEST]a", "r",
		"REPORT RequestId: 8f507cfc-0000-4697-b07a-ac58fc914c95\tDuration: 3.01 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\tInit Duration: 110.10 ms\t", "other")
	if out := aws("filter-log-events", "--log-group-name", "/aws/lambda/f", "--filter-pattern", "REPORT"); strings.Count(out, "eventId") != 1 {
		t.Error(out)
	}
	start := fmt.Sprint(time.Now().Add(-time.Hour).Unix())
	var query struct{ QueryID string }
	out := aws("start-query", "--log-group-name", "/aws/lambda/f", "--start-time", start, "--end-time", fmt.Sprint(time.Now().Unix()+1),
		"--query-string", `filter @type = "REPORT" | stats max(@initDuration) as cold`)
	if err := json.Unmarshal([]byte(out), &query); err != nil {
		t.Fatal(err)
	}
	w.await(t)
	if out := aws("get-query-results", "--query-id", query.QueryID); !strings.Contains(out, `"110.1"`) || !strings.Contains(out, "Complete") {
		t.Error(out)
	}
}
