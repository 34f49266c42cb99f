package tests

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	rules "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	schedules "github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"thaw/internal/ownbody"
	"thaw/tests/harness"
)

// timed is a stage with queues, rules and schedules.
type timed struct {
	*eventful
	rules     *eventbridge.Client
	schedules *scheduler.Client
}

func startTimed(t *testing.T, data string) *timed {
	t.Helper()
	e := startEventful(t, data)
	keys := credentials.NewStaticCredentialsProvider("thaw-test-access-key", "thaw-test-secret-key", "")
	return &timed{
		eventful:  e,
		rules:     eventbridge.New(eventbridge.Options{BaseEndpoint: &e.URL, Region: "us-east-1", RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}, Credentials: keys}),
		schedules: scheduler.New(scheduler.Options{BaseEndpoint: &e.URL, Region: "us-east-1", RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}, Credentials: keys}),
	}
}

const arnHere = ":us-east-1:000000000000:"

// rule makes a rule with one target, a part of whose settings is given.
func (s *timed) rule(t *testing.T, in *eventbridge.PutRuleInput, target rules.Target) {
	t.Helper()
	if _, err := s.rules.PutRule(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	target.Id = aws.String("1")
	out, err := s.rules.PutTargets(t.Context(), &eventbridge.PutTargetsInput{Rule: in.Name, Targets: []rules.Target{target}})
	if err != nil || out.FailedEntryCount != 0 {
		t.Fatalf("%+v, %v", out, err)
	}
}

// once makes a schedule that is due in two seconds, and tells when that is.
func (s *timed) once(t *testing.T, name string, target schedules.Target) string {
	t.Helper()
	due := time.Now().UTC().Add(2 * time.Second).Format("2006-01-02T15:04:05")
	target.RoleArn = aws.String("arn:aws:iam::000000000000:role/test")
	if _, err := s.schedules.CreateSchedule(t.Context(), &scheduler.CreateScheduleInput{
		Name: &name, ScheduleExpression: aws.String("at(" + due + ")"), ActionAfterCompletion: schedules.ActionAfterCompletionDelete,
		FlexibleTimeWindow: &schedules.FlexibleTimeWindow{Mode: schedules.FlexibleTimeWindowModeOff}, Target: &target,
	}); err != nil {
		t.Fatal(err)
	}
	return due + "Z"
}

// TestSchedules has a rule fire every minute, schedules once, and events reach the targets of the rules that match them,
// through a restart after a kill.
func TestSchedules(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	t.Cleanup(func() { harness.NothingLeft(t, data) })
	s := startTimed(t, data)
	ticks, seen, orders, dead := s.queue(t, "ticks"), s.queue(t, "seen"), s.queue(t, "orders"), s.queue(t, "dead")
	function := "arn:aws:lambda" + arnHere + "function:echo"
	s.python(t, "echo", echo, deployed{})
	s.configureEvents(t, "echo", 0, seen, "")

	before := time.Now()
	s.rule(t, &eventbridge.PutRuleInput{Name: aws.String("minutely"), ScheduleExpression: aws.String("rate(1 minute)")}, rules.Target{Arn: &ticks})
	began := time.Now()
	s.rule(t, &eventbridge.PutRuleInput{Name: aws.String("orders"), EventPattern: aws.String(`{"source": ["shop"], "detail": {"total": [{"numeric": [">", 10]}]}}`)},
		rules.Target{Arn: &orders, InputTransformer: &rules.InputTransformer{InputPathsMap: map[string]string{"total": "$.detail.total"}, InputTemplate: aws.String(`{"paid": <total>, "by": "<aws.events.rule-name>"}`)}})

	t.Run("a one-time schedule of a function", func(t *testing.T) {
		due := s.once(t, "once", schedules.Target{Arn: &function, Input: aws.String(`{"at": "<aws.scheduler.scheduled-time>", "try": "<aws.scheduler.attempt-number>"}`)})
		r := recordOf(t, s.one(t, "seen").body)
		got, _ := json.Marshal(r.RequestPayload)
		if want := `{"at":"` + due + `","try":"1"}`; string(got) != want {
			t.Errorf("the function got %s, want %s", got, want)
		}
		harness.Eventually(t, "the schedule is gone", func() bool {
			_, err := s.schedules.GetSchedule(t.Context(), &scheduler.GetScheduleInput{Name: aws.String("once")})
			return harness.Code(err) == "ResourceNotFoundException"
		})
	})
	t.Run("a one-time schedule of a queue, without input", func(t *testing.T) {
		due := s.once(t, "plain", schedules.Target{Arn: &seen})
		var e struct{ Source, Time, Detail string }
		if body := s.one(t, "seen").body; json.Unmarshal([]byte(body), &e) != nil || e.Source != "aws.scheduler" || e.Time != due || e.Detail != "{}" {
			t.Errorf("the queue got %s", body)
		}
	})
	t.Run("a schedule of a function that is not there", func(t *testing.T) {
		missing := "arn:aws:lambda" + arnHere + "function:missing"
		due := s.once(t, "lost", schedules.Target{Arn: &missing, Input: aws.String(`{"a": 1}`), DeadLetterConfig: &schedules.DeadLetterConfig{Arn: &dead}})
		m := s.one(t, "dead")
		if m.body != `{"a": 1}` || m.attributes["SCHEDULED_TIME"] != "String "+due || m.attributes["TARGET_ARN"] != "String "+missing || m.attributes["RETRY_ATTEMPTS"] != "String 0" ||
			m.attributes["SCHEDULE_ARN"] != "String arn:aws:scheduler"+arnHere+"schedule/default/lost" || !strings.Contains(m.attributes["ERROR_MESSAGE"], "Function not found") {
			t.Errorf("%+v", m)
		}
	})
	t.Run("events", func(t *testing.T) {
		entry := func(detail string) rules.PutEventsRequestEntry {
			return rules.PutEventsRequestEntry{Source: aws.String("shop"), DetailType: aws.String("order"), Detail: &detail}
		}
		out, err := s.rules.PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []rules.PutEventsRequestEntry{entry(`{"total": 10}`), entry(`{"total": 11.50}`)}})
		if err != nil || out.FailedEntryCount != 0 {
			t.Fatalf("%+v, %v", out, err)
		}
		if body := s.one(t, "orders").body; body != `{"paid": 11.50, "by": "orders"}` {
			t.Errorf("%s", body)
		}
	})
	t.Run("a rule, through a kill", func(t *testing.T) {
		s.Kill()
		s = startTimed(t, data)
		var ticks []message
		for deadline := time.After(3 * time.Minute); len(ticks) == 0; {
			select {
			case <-deadline:
				t.Fatal("the rule does not fire")
			default:
				ticks = s.receive(t, "ticks")
			}
		}
		ticks = append(ticks, s.receive(t, "ticks")...)
		var e struct {
			Time      time.Time
			Source    string
			Resources []string
		}
		if err := json.Unmarshal([]byte(ticks[0].body), &e); err != nil || e.Source != "aws.events" || len(e.Resources) != 1 || e.Resources[0] != "arn:aws:events"+arnHere+"rule/minutely" {
			t.Errorf("%s: %v", ticks[0].body, err)
		}
		made := e.Time // a number of minutes earlier
		for made.After(began) {
			made = made.Add(-time.Minute)
		}
		if made.Before(before.Truncate(time.Second)) || !e.Time.After(made) {
			t.Errorf("due at %s, for a rule made between %s and %s", e.Time, before, began)
		}
		if len(ticks) != 1 {
			t.Errorf("%d ticks: %v", len(ticks), ticks)
		}
	})
}
