package tests

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw/internal/ownbody"
	"thaw/tests/harness"
)

// alarmPatience is enough for a minute to be over and for what follows.
const alarmPatience = 150 * time.Second

const failing = `def handler(event, context):
    if event.get("fail"):
        raise RuntimeError("told to")
    return event
`

// TestAlarmProgram runs a program that was written to watch a function on AWS, and looks at what its alarms did: a function is
// invoked and a queue has a message once for each change, and all of that is there after a kill.
func TestAlarmProgram(t *testing.T) {
	t.Parallel()
	python := findPython(t)
	data := t.TempDir()
	t.Cleanup(func() { harness.NothingLeft(t, data) })
	e := startEventful(t, data)
	e.python(t, "watched", failing, deployed{})
	e.python(t, "acting", echo, deployed{})
	acted := e.queue(t, "acted")
	e.configureEvents(t, "acting", 0, acted, "")
	seen := e.queue(t, "seen")
	if _, err := e.client.AddPermission(t.Context(), &lambda.AddPermissionInput{
		FunctionName: aws.String("acting"), StatementId: aws.String("alarms"), Action: aws.String("lambda:InvokeFunction"),
		Principal: aws.String("lambda.alarms.cloudwatch.amazonaws.com"), SourceAccount: aws.String("000000000000"),
	}); err != nil {
		t.Fatal(err)
	}
	function := "arn:aws:lambda" + arnHere + "function:acting"
	out, text, err := run(t, e.Env(), "", python, unmodified(t, python, clientFile("python/alarms.py"), "watched", function, seen)...)
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, text)
	}
	states := map[string]string{}
	for line := range strings.Lines(out) {
		var a struct {
			Name, State, Reason string
			Transitions         []string
		}
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		states[a.Name] = a.State
		if a.Name == "watched-ErrorRate" && (!strings.Contains(a.Reason, "[25.0 (") || a.Transitions[0] != "Alarm updated from OK to ALARM" && a.Transitions[0] != "Alarm updated from INSUFFICIENT_DATA to ALARM") {
			t.Errorf("%+v", a)
		}
	}
	if states["watched-ErrorRate"] != "ALARM" || states["watched-Timeout"] != "OK" || len(states) != 3 {
		t.Errorf("%v", states)
	}

	t.Run("a function", func(t *testing.T) {
		payload, _ := json.Marshal(recordOf(t, e.one(t, "acted").body).RequestPayload)
		var event struct {
			Source, AlarmArn string
			AlarmData        struct {
				AlarmName string
				State     struct{ Value string }
			}
		}
		if err := json.Unmarshal(payload, &event); err != nil || event.Source != "aws.cloudwatch" || event.AlarmData.AlarmName != "watched-ErrorRate" || event.AlarmData.State.Value != "ALARM" ||
			event.AlarmArn != "arn:aws:cloudwatch"+arnHere+"alarm:watched-ErrorRate" {
			t.Errorf("%s, %v", payload, err)
		}
	})
	t.Run("a queue", func(t *testing.T) {
		var message struct{ AlarmName, NewStateValue string }
		if body := e.one(t, "seen").body; json.Unmarshal([]byte(body), &message) != nil || message.AlarmName != "watched-ErrorRate" || message.NewStateValue != "ALARM" {
			t.Errorf("%s", body)
		}
	})
	t.Run("after a kill", func(t *testing.T) {
		client := func() *cloudwatch.Client {
			return cloudwatch.New(cloudwatch.Options{
				BaseEndpoint: &e.URL, Region: "us-east-1", RetryMaxAttempts: 1, HTTPClient: ownbody.Client{},
				Credentials: credentials.NewStaticCredentialsProvider("thaw-test-access-key", "thaw-test-secret-key", ""),
			})
		}
		// A state that is set is there, with its history and its action, however soon the platform is killed.
		if _, err := client().SetAlarmState(t.Context(), &cloudwatch.SetAlarmStateInput{AlarmName: aws.String("watched-Timeout"), StateValue: types.StateValueAlarm, StateReason: aws.String("a test")}); err != nil {
			t.Fatal(err)
		}
		e.Kill()
		e = startEventful(t, data)
		var messages []message
		for deadline := time.Now().Add(alarmPatience); len(messages) == 0 && time.Now().Before(deadline); {
			messages = e.receive(t, "seen")
		}
		if len(messages) == 0 || !strings.Contains(messages[0].body, "watched-Timeout") {
			t.Fatalf("%+v", messages)
		}
		history, err := client().DescribeAlarmHistory(t.Context(), &cloudwatch.DescribeAlarmHistoryInput{AlarmName: aws.String("watched-Timeout"), ScanBy: types.ScanByTimestampAscending})
		if err != nil {
			t.Fatal(err)
		}
		var summaries []string
		for _, item := range history.AlarmHistoryItems {
			summaries = append(summaries, *item.HistorySummary)
		}
		if !slices.Contains(summaries, `Alarm "watched-Timeout" created`) || !slices.Contains(summaries, "Alarm updated from OK to ALARM") {
			t.Errorf("%q", summaries)
		}
	})
	e.Stop()
}
