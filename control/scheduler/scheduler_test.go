package scheduler

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"thaw"
	"thaw/control/internal/apitest"
	"thaw/internal/ownbody"
)

const (
	function = "arn:aws:lambda:eu-west-1:123456789012:function:f"
	role     = "arn:aws:iam::123456789012:role/r"
)

func creation(name, expression string) *sdk.CreateScheduleInput {
	return &sdk.CreateScheduleInput{
		Name: &name, ScheduleExpression: &expression, FlexibleTimeWindow: &types.FlexibleTimeWindow{Mode: types.FlexibleTimeWindowModeOff},
		Target: &types.Target{Arn: aws.String(function), RoleArn: aws.String(role)},
	}
}

func TestGoSDK(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	url := apitest.Serve(t, service(t, w))
	client := sdk.New(sdk.Options{BaseEndpoint: &url, Region: account.Region, Credentials: credentials.NewStaticCredentialsProvider("thaw", "thaw", ""), RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
	_, err := client.GetSchedule(ctx, &sdk.GetScheduleInput{Name: aws.String("s")})
	if none := (*types.ResourceNotFoundException)(nil); !errors.As(err, &none) || *none.Message != "Schedule s does not exist." {
		t.Errorf("%v", err)
	}
	start := time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	in := creation("s", "rate(1 minute)")
	in.StartDate = &start
	if _, err := client.CreateSchedule(ctx, in); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateSchedule(ctx, in); err != nil || in.ClientToken == nil {
		t.Errorf("again with the token %v: %v", in.ClientToken, err)
	}
	in.ClientToken = nil
	_, err = client.CreateSchedule(ctx, in)
	if there := (*types.ConflictException)(nil); !errors.As(err, &there) {
		t.Errorf("%v", err)
	}
	out, err := client.GetSchedule(ctx, &sdk.GetScheduleInput{Name: aws.String("s")})
	if err != nil || !out.StartDate.Equal(start) || *out.Target.Arn != function {
		t.Errorf("%v, %v", out, err)
	}
	in.ScheduleExpression = aws.String("rate(1 second)")
	_, err = client.CreateSchedule(ctx, in)
	if wrong := (*types.ValidationException)(nil); !errors.As(err, &wrong) || *wrong.Message != "Invalid Schedule Expression rate(1 second)." {
		t.Errorf("%v", err)
	}
	pages := sdk.NewListSchedulesPaginator(client, &sdk.ListSchedulesInput{})
	page, err := pages.NextPage(ctx)
	if err != nil || len(page.Schedules) != 1 {
		t.Errorf("%v, %v", page, err)
	}
}

// TestWhenAScheduleBegins looks at what the loop goes by.
func TestWhenAScheduleBegins(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	begin := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	check := func(what string, origin, since time.Duration) {
		t.Helper()
		s, err := w.api.records.Schedule(ctx, "default", "s")
		if err != nil {
			t.Fatal(err)
		}
		if s.Origin.Sub(begin) != origin || s.Since.Sub(begin) != since {
			t.Errorf("%s: origin %s, since %s", what, s.Origin.Sub(begin), s.Since.Sub(begin))
		}
	}
	if _, err := w.api.createSchedule(ctx, creation("s", "rate(1 minute)")); err != nil {
		t.Fatal(err)
	}
	check("made", 0, -1)
	var end *time.Time
	update := func(what, expression string, state types.ScheduleState, origin, since time.Duration) {
		t.Helper()
		w.Pass(time.Minute)
		c := creation("s", expression)
		if _, err := w.api.updateSchedule(ctx, &sdk.UpdateScheduleInput{Name: c.Name, ScheduleExpression: c.ScheduleExpression, FlexibleTimeWindow: c.FlexibleTimeWindow, Target: c.Target, State: state, EndDate: end}); err != nil {
			t.Fatal(err)
		}
		check(what, origin, since)
	}
	update("the same", "rate(1 minute)", "", 0, -1)
	update("disabled", "rate(1 minute)", types.ScheduleStateDisabled, 0, -1)
	update("enabled", "rate(1 minute)", types.ScheduleStateEnabled, 0, 3*time.Minute+250*time.Millisecond)
	update("another", "rate(2 minutes)", "", 4*time.Minute, 4*time.Minute-1)
	end = aws.Time(begin.Add(time.Hour))
	update("with an end", "rate(2 minutes)", "", 4*time.Minute, 5*time.Minute+250*time.Millisecond)
}

// TestSameAnswer: of several parameters that are not there, the answer names the same one each time.
func TestSameAnswer(t *testing.T) {
	w := newWorld(t)
	for range 20 {
		err := w.api.checkTarget(&types.Target{
			Arn: aws.String(function), RoleArn: aws.String(role), EcsParameters: &types.EcsParameters{}, EventBridgeParameters: &types.EventBridgeParameters{},
			KinesisParameters: &types.KinesisParameters{}, SageMakerPipelineParameters: &types.SageMakerPipelineParameters{},
		})
		if thaw.CodeOf(err) != thaw.CodeNotImplemented || !strings.Contains(err.Error(), ": EcsParameters is") {
			t.Fatal(err)
		}
	}
}

// TestGroupsGoWhole makes schedules in a group while that is deleted: none is left behind without its group.
func TestGroupsGoWhole(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	if _, err := w.api.createScheduleGroup(ctx, &sdk.CreateScheduleGroupInput{Name: aws.String("g")}); err != nil {
		t.Fatal(err)
	}
	var making sync.WaitGroup
	for i := range 20 {
		making.Go(func() {
			in := creation(fmt.Sprint(i), "rate(1 hour)")
			in.GroupName = aws.String("g")
			_, err := w.api.createSchedule(ctx, in)
			if err != nil && !errors.Is(err, noGroup("g")) && err.Error() != noGroup("g").Error() {
				t.Error(err)
			}
		})
		if i == 10 {
			making.Go(func() {
				if _, err := w.api.deleteScheduleGroup(ctx, &sdk.DeleteScheduleGroupInput{Name: aws.String("g")}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	making.Wait()
	left, err := w.api.records.Schedules(ctx, "")
	if err != nil || len(left) != 0 {
		t.Errorf("%d are left, %v", len(left), err)
	}
}

const session = `
import boto3, datetime, json, sys
from botocore.config import Config
scheduler = boto3.client("scheduler", endpoint_url=sys.argv[1], config=Config(retries={"max_attempts": 0}))
target = {"Arn": "arn:aws:lambda:eu-west-1:123456789012:function:f", "RoleArn": "arn:aws:iam::123456789012:role/r", "Input": json.dumps({"at": "<aws.scheduler.scheduled-time>"})}
off = {"Mode": "OFF"}
try:
    scheduler.get_schedule(Name="s")
    raise AssertionError("there is no schedule")
except scheduler.exceptions.ResourceNotFoundException as e:
    assert e.response["Error"]["Message"] == "Schedule s does not exist.", e.response
group = scheduler.create_schedule_group(Name="g", Tags=[{"Key": "a", "Value": "ü"}])["ScheduleGroupArn"]
assert scheduler.list_tags_for_resource(ResourceArn=group)["Tags"] == [{"Key": "a", "Value": "ü"}]
scheduler.tag_resource(ResourceArn=group, Tags=[{"Key": "b", "Value": "c"}])
scheduler.untag_resource(ResourceArn=group, TagKeys=["a"])
assert scheduler.list_tags_for_resource(ResourceArn=group)["Tags"] == [{"Key": "b", "Value": "c"}]
end = datetime.datetime(2027, 1, 1, tzinfo=datetime.timezone.utc)
arn = scheduler.create_schedule(Name="s", GroupName="g", ScheduleExpression="cron(0 9 ? * 2#1 *)", ScheduleExpressionTimezone="Asia/Tokyo", EndDate=end, FlexibleTimeWindow={"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 10}, Target=target)["ScheduleArn"]
assert arn == "arn:aws:scheduler:eu-west-1:123456789012:schedule/g/s", arn
got = scheduler.get_schedule(Name="s", GroupName="g")
assert got["EndDate"] == end and got["State"] == "ENABLED" and got["FlexibleTimeWindow"] == {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 10}, got
assert got["Target"]["Input"] == target["Input"] and got["Target"]["RetryPolicy"] == {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185}, got
try:
    scheduler.create_schedule(Name="s", GroupName="g", ScheduleExpression="rate(1 hour)", FlexibleTimeWindow=off, Target=target)
    raise AssertionError("it is there")
except scheduler.exceptions.ConflictException:
    pass
try:
    scheduler.create_schedule(Name="t", ScheduleExpression="cron(0 1 * * * *)", FlexibleTimeWindow=off, Target=target)
    raise AssertionError("that is no expression of AWS's")
except scheduler.exceptions.ValidationException as e:
    assert e.response["Message"] == "Invalid Schedule Expression cron(0 1 * * * *).", e.response
scheduler.update_schedule(Name="s", GroupName="g", ScheduleExpression="at(2030-01-01T00:00:00)", FlexibleTimeWindow=off, Target=target, ActionAfterCompletion="DELETE")
got = scheduler.get_schedule(Name="s", GroupName="g")
assert got["ScheduleExpressionTimezone"] == "UTC" and got["ActionAfterCompletion"] == "DELETE" and "EndDate" not in got, got
pages = list(scheduler.get_paginator("list_schedules").paginate(GroupName="g"))
assert [s["Name"] for s in pages[0]["Schedules"]] == ["s"], pages
assert [g["Name"] for g in scheduler.list_schedule_groups()["ScheduleGroups"]] == ["default", "g"]
scheduler.delete_schedule_group(Name="g")
assert scheduler.list_schedules()["Schedules"] == []
`

func TestBoto3(t *testing.T) {
	apitest.Boto3(t, account.Region, "-c", session, apitest.Serve(t, service(t, newWorld(t))))
}

// TestCommandLine runs the commands of EventBridge Scheduler's guide.
func TestCommandLine(t *testing.T) {
	run := apitest.CommandLine(t, account.Region, apitest.Serve(t, service(t, newWorld(t))), "scheduler")
	for _, command := range [][]string{
		{"create-schedule", "--name", "rate", "--schedule-expression", "rate(5 minutes)", "--target", `{"RoleArn": "` + role + `", "Arn": "` + function + `", "Input": "{}" }`, "--flexible-time-window", `{ "Mode": "OFF"}`},
		{"create-schedule", "--name", "once", "--schedule-expression", "at(2030-11-20T13:00:00)", "--schedule-expression-timezone", "America/Los_Angeles", "--action-after-completion", "DELETE", "--target", `{"RoleArn": "` + role + `", "Arn": "arn:aws:sqs:eu-west-1:123456789012:q", "Input": "hello", "DeadLetterConfig": {"Arn": "arn:aws:sqs:eu-west-1:123456789012:dead"}, "RetryPolicy": {"MaximumRetryAttempts": 3}}`, "--flexible-time-window", `{ "Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15}`},
		{"get-schedule", "--name", "once"},
		{"create-schedule-group", "--name", "mine", "--tags", "Key=a,Value=b"},
		{"list-schedules", "--group-name", "default", "--max-results", "1"},
		{"list-schedule-groups"},
		{"delete-schedule", "--name", "rate"},
		{"delete-schedule-group", "--name", "mine"},
	} {
		run(command...)
	}
}
