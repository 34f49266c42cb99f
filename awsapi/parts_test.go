package awsapi

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/fxamacker/cbor/v2"
)

// postJSON calls an operation of CloudWatch in JSON.
func postJSON(s http.Handler, operation, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", "GraniteServiceVersion20100801."+operation)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// TestManyParts sends as much as PutMetricData takes, and what would take much more memory than it has bytes.
func TestManyParts(t *testing.T) {
	s, got := newMonitoring(t, nil)
	put := strings.Replace(listMetricsPath, "ListMetrics", "PutMetricData", 1)
	const metrics, values, dimensions = 1000, 150, 30
	send := map[string]func(body []byte) *httptest.ResponseRecorder{
		"cbor": func(body []byte) *httptest.ResponseRecorder {
			return postCBOR(s, put, zipped(t, body), "Content-Encoding", "gzip")
		},
	}
	for name, header := range map[string]http.Header{
		"query": {"Content-Type": {"application/x-www-form-urlencoded"}},
		"json":  {"Content-Type": {"application/x-amz-json-1.0"}, "X-Amz-Target": {"GraniteServiceVersion20100801.PutMetricData"}},
	} {
		send[name] = func(body []byte) *httptest.ResponseRecorder {
			r := httptest.NewRequest("POST", "/", bytes.NewReader(zipped(t, body)))
			r.Header = header
			r.Header.Set("Content-Encoding", "gzip")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			return w
		}
	}
	form := bytes.NewBufferString("Action=PutMetricData&Namespace=n")
	for i := 1; i <= metrics; i++ {
		at := fmt.Sprintf("&MetricData.member.%d.", i)
		form.WriteString(at + "MetricName=m")
		for j := 1; j <= values; j++ {
			fmt.Fprintf(form, "%sValues.member.%d=1.5%[1]sCounts.member.%[2]d=1", at, j)
		}
	}
	type object = map[string]any
	datum := object{"MetricName": "m", "Unit": "Count", "Timestamp": cbor.Tag{Number: 1, Content: 1.7e9}, "StorageResolution": 1}
	datum["Values"], datum["Counts"], datum["Dimensions"] = make([]float64, values), make([]float64, values), make([]object, dimensions)
	for i := range dimensions {
		datum["Dimensions"].([]object)[i] = object{"Name": "n", "Value": "v"}
	}
	data := make([]any, metrics)
	for i := range data {
		data[i] = datum
	}
	whole, err := cbor.Marshal(object{"Namespace": "n", "MetricData": data})
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{"query": form.Bytes(), "cbor": whole} {
		got.Store(&cloudwatch.PutMetricDataInput{})
		w := send[name](body)
		if list := got.Load().MetricData; w.Code != 200 || len(list) != metrics || len(list[metrics-1].Values) != values || len(list[metrics-1].Counts) != values {
			t.Errorf("%s: %d %s", name, w.Code, readable(w.Header(), w.Body.Bytes()))
		}
	}
	long := func(count int) string {
		return "\xa1\x6aMetricData\x9a" + string([]byte{byte(count >> 24), byte(count >> 16), byte(count >> 8), byte(count)})
	}
	for name, c := range map[string]struct {
		protocol, body string
		status         int
	}{
		"maps":       {"cbor", long(1<<20) + strings.Repeat("\xa0", 1<<20), 413},
		"entries":    {"cbor", long(1<<19) + strings.Repeat("\xa1\x60\xf6", 1<<19), 413},
		"integers":   {"cbor", long(1<<20) + strings.Repeat("\x18\x20", 1<<20), 413},
		"structures": {"json", `{"MetricData":[{}` + strings.Repeat(",{}", 1<<20) + "]}", 413},
		"nulls":      {"json", `{"MetricData":[null` + strings.Repeat(",null", 1<<20) + "]}", 413},
		"parameters": {"query", "Action=PutMetricData" + strings.Repeat("&a", 1<<20), 400},
	} {
		if w := send[c.protocol]([]byte(c.body)); w.Code != c.status || !strings.Contains(readable(w.Header(), w.Body.Bytes()), " more ") {
			t.Errorf("%s: %d %s", name, w.Code, readable(w.Header(), w.Body.Bytes()))
		}
	}
}
