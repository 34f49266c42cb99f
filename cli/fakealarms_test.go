package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// cloudwatch is as much of the CloudWatch API as listing and making alarms takes, in CBOR, which the SDK speaks.
func (f *fakePlatform) cloudwatch(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	var in map[string]any
	_ = cbor.Unmarshal(body, &in)
	text, _ := json.Marshal(plainMap(in))
	f.record("%s %s", r.PathValue("operation"), text)
	out := map[string]any{}
	if r.PathValue("operation") == "DescribeAlarms" && !f.empty {
		since := cbor.Tag{Number: 1, Content: float64(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Unix())}
		if in["NextToken"] == nil {
			out["NextToken"] = "2"
			out["MetricAlarms"] = []any{map[string]any{
				"AlarmName": "hello-errors", "StateValue": "ALARM", "StateReason": "Threshold Crossed", "StateTransitionedTimestamp": since, "ActionsEnabled": true,
				"MetricName": "Errors", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 3, "DatapointsToAlarm": 2, "Threshold": 5.0, "ComparisonOperator": "GreaterThanThreshold",
				"AlarmActions": []string{"arn:aws:sqs:eu-central-1:123456789012:alerts"},
			}}
		} else {
			out["MetricAlarms"] = []any{map[string]any{
				"AlarmName": "hello-rate", "StateValue": "OK", "StateTransitionedTimestamp": since, "ActionsEnabled": false, "EvaluationPeriods": 1, "Threshold": 0.5, "ComparisonOperator": "LessThanThreshold",
				"Metrics": []any{
					map[string]any{"Id": "e", "ReturnData": false, "MetricStat": map[string]any{"Period": 300, "Stat": "Sum", "Metric": map[string]any{"MetricName": "Errors"}}},
					map[string]any{"Id": "r", "Expression": "100 * e"},
				},
			}}
			out["CompositeAlarms"] = []any{map[string]any{"AlarmName": "any", "StateValue": "INSUFFICIENT_DATA", "AlarmRule": "ALARM(hello-errors)", "StateTransitionedTimestamp": since, "ActionsEnabled": true}}
		}
	}
	w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	w.Header().Set("Content-Type", "application/cbor")
	data, _ := cbor.Marshal(out)
	_, _ = w.Write(data)
}

// plainMap gives maps of CBOR the type that JSON has.
func plainMap(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key := range v {
			v[key] = plainMap(v[key])
		}
	case map[any]any:
		out := map[string]any{}
		for key, member := range v {
			out[key.(string)] = plainMap(member)
		}
		return out
	case []any:
		for i := range v {
			v[i] = plainMap(v[i])
		}
	}
	return v
}

func TestRecommendedAlarms(t *testing.T) {
	hello := writeTree(t, map[string]string{"app.py": pythonHandler})
	f := newFakePlatform(t)
	run(t, t.Context(), "", testDeps(f.URL), "deploy", hello)
	f.requests = nil
	got := run(t, t.Context(), "", testDeps(f.URL), "alarms", "recommended", "--all", "--action", "arn:aws:lambda:eu-central-1:123456789012:function:act:live", "--action", "https://example.com/hook")
	if got.exit != ExitOK || len(f.requests) != 4 {
		t.Fatalf("%+v: %q", got, f.requests)
	}
	if f.requests[0] != `permit act live {"Action":"lambda:InvokeFunction","Principal":"lambda.alarms.cloudwatch.amazonaws.com","SourceAccount":"123456789012","StatementId":"thaw-alarms"}` {
		t.Error(f.requests[0])
	}
	for i, words := range []string{"", `"MAX([boot, fork, spare])"`, `"errors / invocations * 100"`, `"MetricName":"Timeouts"`} {
		if r := f.requests[i]; i > 0 && (!strings.HasPrefix(r, "PutMetricAlarm ") || !strings.Contains(r, words) || !strings.Contains(r, "https://example.com/hook") || !strings.Contains(r, `"TreatMissingData":"notBreaching"`)) {
			t.Error(r)
		}
	}
	// A function that has the permission already is no mistake.
	if got := run(t, t.Context(), "", testDeps(f.URL), "alarms", "recommended", "hello", "--action", "arn:aws:lambda:eu-central-1:123456789012:function:conflict"); got.exit != ExitOK {
		t.Errorf("%+v", got)
	}
	if got := run(t, t.Context(), "", testDeps(f.URL), "alarms", "recommended", "hello", "--all"); got.exit != ExitUsage {
		t.Errorf("%+v", got)
	}
}

// permit takes permissions; the function conflict has them already.
func (f *fakePlatform) permit(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var in map[string]any
	_ = json.NewDecoder(r.Body).Decode(&in)
	body, _ := json.Marshal(in)
	f.record("permit %s %s %s", r.PathValue("name"), r.URL.Query().Get("Qualifier"), body)
	if r.PathValue("name") == "conflict" {
		f.fail(w, 409, "ResourceConflictException", "The statement id (thaw-alarms) provided already exists.")
		return
	}
	w.WriteHeader(201)
	_, _ = io.WriteString(w, `{"Statement":"{}"}`)
}
