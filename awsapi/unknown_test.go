package awsapi

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/fxamacker/cbor/v2"
)

// TestUnknownMembers sends members that are in no model. They are passed over, as on AWS, except where a union is left
// without any: it would have meant something else than nothing.
func TestUnknownMembers(t *testing.T) {
	s := newService(t, "monitoring")
	var got *cloudwatch.PutMetricAlarmInput
	Handle(s, "PutMetricAlarm", func(_ context.Context, in *cloudwatch.PutMetricAlarmInput) (*cloudwatch.PutMetricAlarmOutput, error) {
		got = in
		return nil, nil
	})
	path := strings.Replace(listMetricsPath, "ListMetrics", "PutMetricAlarm", 1)
	object := func(more map[string]any) []byte {
		more["AlarmName"] = "a"
		b, err := cbor.Marshal(more)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	type entries = map[string]any
	for name, w := range map[string]*httptest.ResponseRecorder{
		"cbor":  postCBOR(s, path, object(entries{"News": entries{"a": 1}})),
		"json":  postJSON(s, "PutMetricAlarm", `{"AlarmName":"a","News":{"a":[1]}}`),
		"query": post(s, "/", "Action=PutMetricAlarm&AlarmName=a&News.member.1.a=1"),
	} {
		if w.Code != 200 || got.AlarmName == nil || *got.AlarmName != "a" {
			t.Errorf("%s: %d %s", name, w.Code, readable(w.Header(), w.Body.Bytes()))
		}
	}
	for name, w := range map[string]*httptest.ResponseRecorder{
		"cbor":       postCBOR(s, path, object(entries{"EvaluationWindow": entries{"Sundial": entries{}}})),
		"cbor empty": postCBOR(s, path, object(entries{"EvaluationCriteria": entries{}})),
		"json":       postJSON(s, "PutMetricAlarm", `{"AlarmName":"a","EvaluationWindow":{"Sundial":{}}}`),
		"json empty": postJSON(s, "PutMetricAlarm", `{"AlarmName":"a","EvaluationCriteria":{}}`),
		"query":      post(s, "/", "Action=PutMetricAlarm&AlarmName=a&EvaluationWindow.Sundial.Latitude=1"),
	} {
		if text := readable(w.Header(), w.Body.Bytes()); w.Code != 400 || !strings.Contains(text, "Exactly one member of ") {
			t.Errorf("%s: %d %s", name, w.Code, text)
		}
	}
}
