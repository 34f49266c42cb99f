package events

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"thaw"
	"thaw/control/internal/apitest"
	"thaw/internal/ownbody"
)

const function = "arn:aws:lambda:eu-west-1:123456789012:function:f"

func (w *world) client(t *testing.T) *sdk.Client {
	url := apitest.Serve(t, service(t, w))
	return sdk.New(sdk.Options{BaseEndpoint: &url, Region: account.Region, Credentials: credentials.NewStaticCredentialsProvider("thaw", "thaw", ""), RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
}

// TestPutEvents has an event delivered to the targets of a rule, and tells of one that was not.
func TestPutEvents(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	client := w.client(t)
	if _, err := client.PutRule(ctx, &sdk.PutRuleInput{Name: aws.String("r"), EventPattern: aws.String(`{"detail": {"a": [1]}}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutTargets(ctx, &sdk.PutTargetsInput{Rule: aws.String("r"), Targets: []types.Target{{Id: aws.String("1"), Arn: aws.String(function), InputPath: aws.String("$.detail")}}}); err != nil {
		t.Fatal(err)
	}
	entry := func(detail string) types.PutEventsRequestEntry {
		return types.PutEventsRequestEntry{Source: aws.String("s"), DetailType: aws.String("t"), Detail: &detail}
	}
	out, err := client.PutEvents(ctx, &sdk.PutEventsInput{Entries: []types.PutEventsRequestEntry{entry(`{"a":2}`), entry(`{"a": 1}`), entry("{")}})
	if err != nil || out.FailedEntryCount != 1 || out.Entries[1].EventId == nil || *out.Entries[2].ErrorCode != "MalformedDetail" {
		t.Fatalf("%v, %v", out, err)
	}
	if len(w.sent) != 1 || string(w.sent[0].Input) != `{"a":1}` || w.sent[0].Target != function {
		t.Errorf("%+v", w.sent)
	}
	w.fail = errors.New("the disk is full")
	out, err = client.PutEvents(ctx, &sdk.PutEventsInput{Entries: []types.PutEventsRequestEntry{entry(`{"a":1}`), entry(`{"a":2}`)}})
	if err != nil || out.FailedEntryCount != 1 || *out.Entries[0].ErrorCode != "InternalFailure" || out.Entries[1].EventId == nil {
		t.Errorf("%v, %v", out, err)
	}
	_, err = client.PutEvents(ctx, &sdk.PutEventsInput{Entries: []types.PutEventsRequestEntry{entry(`{"a":"` + fmt.Sprintf("%0600000d", 0) + `"}`), entry(`{"a":"` + fmt.Sprintf("%0600000d", 0) + `"}`)}})
	if err == nil || thawCode(err) != "ValidationException" {
		t.Errorf("too large: %v", err)
	}
	if _, err := client.PutEvents(ctx, &sdk.PutEventsInput{Entries: []types.PutEventsRequestEntry{entry(`{"b":"` + fmt.Sprintf("%01000000d", 0) + `"}`)}}); err != nil {
		t.Errorf("large: %v", err)
	}
}

// TestSameAnswer: of several parameters that are not there, the answer names the same one each time.
func TestSameAnswer(t *testing.T) {
	w := newWorld(t)
	for range 20 {
		err := w.api.checkTarget(&types.Target{
			Id: aws.String("1"), Arn: aws.String(function), AppSyncParameters: &types.AppSyncParameters{}, BatchParameters: &types.BatchParameters{},
			EcsParameters: &types.EcsParameters{}, KinesisParameters: &types.KinesisParameters{},
		})
		if thaw.CodeOf(err) != thaw.CodeNotImplemented || !strings.Contains(err.Error(), ": AppSyncParameters of target 1") {
			t.Fatal(err)
		}
	}
}

func thawCode(err error) string {
	var told interface{ ErrorCode() string }
	if errors.As(err, &told) {
		return told.ErrorCode()
	}
	return ""
}

// TestWhenARuleBegins looks at what the loop goes by.
func TestWhenARuleBegins(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	put := func(expression string, state types.RuleState) {
		t.Helper()
		if _, err := w.api.putRule(ctx, &sdk.PutRuleInput{Name: aws.String("r"), ScheduleExpression: &expression, State: state}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, origin, since time.Duration) {
		t.Helper()
		r, err := w.api.records.Rule(ctx, "r")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
		if r.Origin.Sub(begin) != origin || r.Since.Sub(begin) != since {
			t.Errorf("%s: origin %s, since %s", what, r.Origin, r.Since)
		}
	}
	put("rate(1 minute)", "")
	check("made", 0, 0)
	w.Pass(time.Minute)
	put("rate(1 minute)", "")
	check("put again", 0, 0)
	put("rate(1 minute)", types.RuleStateDisabled)
	check("disabled", 0, 0)
	w.Pass(time.Minute)
	if _, err := w.api.enableRule(ctx, &sdk.EnableRuleInput{Name: aws.String("r")}); err != nil {
		t.Fatal(err)
	}
	check("enabled", 0, 2*time.Minute)
	w.Pass(time.Minute)
	put("rate(2 minutes)", "")
	check("another schedule", 3*time.Minute, 3*time.Minute)
}

func TestQuota(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	put := func(name string) error {
		_, err := w.api.putRule(ctx, &sdk.PutRuleInput{Name: &name, ScheduleExpression: aws.String("rate(1 hour)")})
		return err
	}
	for i := range maxRules - 2 {
		if err := put(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	var putting sync.WaitGroup
	refused := make(chan error, 5)
	for i := range 5 {
		putting.Go(func() {
			if err := put(fmt.Sprint("x", i)); err != nil {
				refused <- err
			}
		})
	}
	putting.Wait()
	close(refused)
	n := 0
	for err := range refused {
		if n++; thaw.CodeOf(err) != thaw.CodeQuotaExceeded {
			t.Error(err)
		}
	}
	if n != 3 {
		t.Errorf("%d were refused, want 3", n)
	}
	if err := put("7"); err != nil {
		t.Errorf("one that is there: %v", err)
	}
	var names []string
	var token *string
	for {
		out, err := w.api.listRules(ctx, &sdk.ListRulesInput{NextToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range out.Rules {
			names = append(names, *r.Name)
		}
		if token = out.NextToken; token == nil {
			break
		}
	}
	if len(names) != maxRules || !slices.IsSorted(names) {
		t.Errorf("%d rules", len(names))
	}
}

const session = `
import boto3, json, sys
from botocore.config import Config
events = boto3.client("events", endpoint_url=sys.argv[1], config=Config(retries={"max_attempts": 0}))
function = "arn:aws:lambda:eu-west-1:123456789012:function:f"
try:
    events.describe_rule(Name="minutely")
    raise AssertionError("there is no rule")
except events.exceptions.ResourceNotFoundException as e:
    assert e.response["Error"]["Message"] == "Rule minutely does not exist on EventBus default.", e.response
arn = events.put_rule(Name="minutely", ScheduleExpression="rate(1 minute)", Tags=[{"Key": "a", "Value": "ü"}])["RuleArn"]
assert arn == "arn:aws:events:eu-west-1:123456789012:rule/minutely", arn
assert events.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "a", "Value": "ü"}]
assert events.put_targets(Rule="minutely", Targets=[{"Id": "1", "Arn": function, "Input": json.dumps({"a": 1})}])["FailedEntryCount"] == 0
pages = list(events.get_paginator("list_targets_by_rule").paginate(Rule="minutely"))
assert pages[0]["Targets"] == [{"Id": "1", "Arn": function, "Input": '{"a": 1}'}], pages
assert events.list_rule_names_by_target(TargetArn=function)["RuleNames"] == ["minutely"]
try:
    events.put_rule(Name="bad", EventPattern='{"source": "x"}')
    raise AssertionError("that is no pattern")
except events.exceptions.InvalidEventPatternException as e:
    assert e.response["Error"]["Message"].startswith("Event pattern is not valid. Reason: "), e.response
try:
    events.delete_rule(Name="minutely")
    raise AssertionError("it has targets")
except events.exceptions.ClientError as e:
    assert e.response["Error"] == {"Code": "ValidationException", "Message": "Rule can't be deleted since it has targets."}, e.response
put = events.put_events(Entries=[{"Source": "s", "DetailType": "t", "Detail": "{}"}, {"Source": "s"}])
assert put["FailedEntryCount"] == 1 and len(put["Entries"][0]["EventId"]) == 36 and put["Entries"][1]["ErrorCode"] == "InvalidArgument", put
events.remove_targets(Rule="minutely", Ids=["1"])
events.delete_rule(Name="minutely")
events.delete_rule(Name="minutely")
assert events.list_rules()["Rules"] == []
try:
    events.create_event_bus(Name="mine")
    raise AssertionError("there is one event bus")
except events.exceptions.ClientError as e:
    assert e.response["Error"]["Code"] == "NotImplementedException" and "CreateEventBus" in e.response["Error"]["Message"], e.response
`

func TestBoto3(t *testing.T) {
	apitest.Boto3(t, account.Region, "-c", session, apitest.Serve(t, service(t, newWorld(t))))
}

// TestCommandLine runs the commands of Lambda's and EventBridge's guides.
func TestCommandLine(t *testing.T) {
	run := apitest.CommandLine(t, account.Region, apitest.Serve(t, service(t, newWorld(t))), "events")
	for _, command := range [][]string{
		{"put-rule", "--name", "my-scheduled-rule", "--schedule-expression", "rate(5 minutes)"},
		{"put-targets", "--rule", "my-scheduled-rule", "--targets", "Id=1,Arn=" + function},
		{"put-rule", "--name", "cron", "--schedule-expression", "cron(0 12 * * ? *)", "--event-pattern", `{"source":["aws.autoscaling"]}`},
		{"disable-rule", "--name", "cron"},
		{"put-events", "--entries", `[{"Source": "com.mycompany.myapp", "Detail": "{ \"key1\": \"value1\" }", "Resources": ["resource1"], "DetailType": "myDetailType", "Time": "2016-01-14T01:02:03Z"}]`},
		{"test-event-pattern", "--event-pattern", `{"source":["com.mycompany.myapp"]}`, "--event", `{"id":"1","source":"com.mycompany.myapp","detail-type":"myDetailType","account":"123456789012","region":"us-east-1","time":"2017-04-11T20:11:04Z","resources":[]}`},
		{"list-rules", "--name-prefix", "my"},
		{"remove-targets", "--rule", "my-scheduled-rule", "--ids", "1"},
		{"delete-rule", "--name", "my-scheduled-rule"},
	} {
		run(command...)
	}
}
