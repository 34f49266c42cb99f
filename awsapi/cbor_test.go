package awsapi

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"
	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"

	"thaw"
)

const listMetricsPath = "/service/GraniteServiceVersion20100801/operation/ListMetrics"

// newMonitoring makes CloudWatch with two operations: one that fails, and one that keeps its input.
func newMonitoring(t testing.TB, fail func() error) (s *Service, got *atomic.Pointer[cloudwatch.PutMetricDataInput]) {
	t.Helper()
	s, got = newService(t, "monitoring"), &atomic.Pointer[cloudwatch.PutMetricDataInput]{}
	got.Store(&cloudwatch.PutMetricDataInput{})
	s.Log = slog.New(slog.DiscardHandler)
	Handle(s, "ListMetrics", func(context.Context, *cloudwatch.ListMetricsInput) (*cloudwatch.ListMetricsOutput, error) {
		return nil, fail()
	})
	Handle(s, "PutMetricData", func(_ context.Context, in *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
		got.Store(in)
		return nil, nil
	})
	return s, got
}

func postCBOR(s http.Handler, path string, body []byte, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, bytes.NewReader(body))
	r.Header.Set("Content-Type", cborContentType)
	r.Header.Set(rpcHeader, rpcProtocol)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// TestErrorsInThreeProtocols has the SDK read one error in each, as its type and with the code of the query protocol.
func TestErrorsInThreeProtocols(t *testing.T) {
	var fail error
	s, _ := newMonitoring(t, func() error { return fail })
	server := httptest.NewServer(s)
	defer server.Close()
	for _, protocol := range []string{"monitoring", "monitoring@json", "monitoring@query"} {
		client := clients[protocol](server.URL).(*cloudwatch.Client)
		for _, c := range []struct {
			fail  error
			want  error
			code  string
			fault smithy.ErrorFault
		}{
			{thaw.Errorf(thaw.CodeInvalidParameterValue, "No."), &types.InvalidParameterValueException{}, "InvalidParameterValue", smithy.FaultClient},
			{thaw.Errorf(thaw.CodeMissingParameter, "No."), &types.MissingRequiredParameterException{}, "MissingParameter", smithy.FaultClient},
			{thaw.Errorf(thaw.CodeParameterCombination, "No."), &types.InvalidParameterCombinationException{}, "InvalidParameterCombination", smithy.FaultClient},
			{thaw.Errorf(thaw.CodeAlarmNotFound, "No."), &types.ResourceNotFound{}, "ResourceNotFound", smithy.FaultClient},
			{thaw.Errorf(thaw.CodeLimitFault, "No."), &types.LimitExceededFault{}, "LimitExceeded", smithy.FaultClient},
			{errors.New("secret"), &types.InternalServiceFault{}, "InternalServiceError", smithy.FaultServer},
		} {
			fail = c.fail
			_, err := client.ListMetrics(t.Context(), &cloudwatch.ListMetricsInput{})
			got := reflect.New(reflect.TypeOf(c.want))
			if !errors.As(err, got.Interface()) {
				t.Errorf("%s: %v is no %T", protocol, err, c.want)
				continue
			}
			e, _ := errors.AsType[smithy.APIError](err)
			if text := e.ErrorMessage(); protocol != "monitoring@query" && e.ErrorCode() != c.code || // the SDK has forgotten it there
				text != "No." && c.fault == smithy.FaultClient || strings.Contains(text, "secret") || text == "" {
				t.Errorf("%s: %s: %q", protocol, e.ErrorCode(), text)
			}
		}
		fail = thaw.Errorf(thaw.CodeValidation, "No.")
		if _, err := client.ListMetrics(t.Context(), &cloudwatch.ListMetricsInput{}); err == nil || !strings.Contains(err.Error(), "Validation") || !strings.Contains(err.Error(), "No.") {
			t.Errorf("%s: %v", protocol, err)
		}
		if _, err := client.GetMetricWidgetImage(t.Context(), &cloudwatch.GetMetricWidgetImageInput{MetricWidget: new("{}")}); err == nil || !strings.Contains(err.Error(), "NotImplemented: Amazon CloudWatch does not implement the operation GetMetricWidgetImage.") {
			t.Errorf("%s: %v", protocol, err)
		}
	}
}

// TestForms reads what other encoders write: lengths that come at the end, floats of all sizes, integers for doubles.
func TestForms(t *testing.T) {
	s, got := newMonitoring(t, nil)
	half := func(body string) []byte {
		b, err := hex.DecodeString(strings.ReplaceAll(body, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	text := func(s string) string { return hex.EncodeToString(append([]byte{0x60 | byte(len(s))}, s...)) }
	begin := "bf" + text("Namespace") + "7f" + text("a") + text("b") + "ff" + text("MetricData") + "9f bf" + text("MetricName") + text("m")
	end := "ff ff ff"
	for name, c := range map[string]struct {
		body string
		want types.MetricDatum
	}{
		"half float":       {begin + text("Value") + "f93e00" + end, types.MetricDatum{Value: new(1.5)}},
		"single float":     {begin + text("Value") + "fa3fc00000" + end, types.MetricDatum{Value: new(1.5)}},
		"integer":          {begin + text("Value") + "1903e8" + end, types.MetricDatum{Value: new(1000.0)}},
		"negative integer": {begin + text("Value") + "38ff" + end, types.MetricDatum{Value: new(-256.0)}},
		"null":             {begin + text("Value") + "f6" + end, types.MetricDatum{}},
		"unknown member":   {begin + text("News") + "a1 01 02" + end, types.MetricDatum{}},
		"whole seconds":    {begin + text("Timestamp") + "c1 1a 65920080" + end, types.MetricDatum{Timestamp: new(time.Unix(1704067200, 0).UTC())}},
		"milliseconds":     {begin + text("Timestamp") + "c1 fb 41d9648020 1f9add" + end, types.MetricDatum{Timestamp: new(time.UnixMilli(1704067200494).UTC())}},
	} {
		if name == "unknown member" {
			c.body = begin + text("News") + "a1" + text("x") + "02" + end
		}
		if w := postCBOR(s, strings.Replace(listMetricsPath, "ListMetrics", "PutMetricData", 1), half(c.body)); w.Code != 200 {
			t.Errorf("%s: %d %s", name, w.Code, readable(w.Header(), w.Body.Bytes()))
			continue
		}
		c.want.MetricName = new("m")
		if diff := cmp.Diff([]types.MetricDatum{c.want}, got.Load().MetricData, same); diff != "" || *got.Load().Namespace != "ab" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, body := range map[string]string{
		"no CBOR":           "ff",
		"too short":         "a1" + text("Namespace"),
		"no map":            "80",
		"list for a string": "a1" + text("Namespace") + "80",
		"string for a list": "a1" + text("MetricData") + "61 78",
		"string for double": begin + text("Value") + text("x") + end,
		"plain number":      begin + text("Timestamp") + "01" + end,
		"time without end":  begin + text("Timestamp") + "c1 f97e00" + end,
		"time far ahead":    begin + text("Timestamp") + "c1 1b 4000000000000000" + end,
		"time long ago":     begin + text("Timestamp") + "c1 3b 7fffffffffffffff" + end,
		"too large":         begin + text("StorageResolution") + "1b ffffffffffffffff" + end,
		"twice":             "a2" + text("Namespace") + text("a") + text("Namespace") + text("a"),
		"number as a key":   "a1 01 02",
		"deep":              strings.Repeat("81", 100) + "01",
	} {
		w := postCBOR(s, strings.Replace(listMetricsPath, "ListMetrics", "PutMetricData", 1), half(body))
		if w.Code != 400 || w.Header().Get("X-Amzn-Errortype") != "SerializationException" || w.Header().Get("X-Amzn-Query-Error") != "MalformedInput;Sender" || w.Header().Get(rpcHeader) != rpcProtocol {
			t.Errorf("%s: %d %s", name, w.Code, readable(w.Header(), w.Body.Bytes()))
		}
	}
}

func TestCBORPaths(t *testing.T) {
	s, _ := newMonitoring(t, func() error { return nil })
	empty, _ := cbor.Marshal(map[string]string{})
	for path, want := range map[string]int{
		listMetricsPath:                200,
		"/behind/it" + listMetricsPath: 200,
		"/service/GraniteServiceVersion20100801/operation/Dance":          404,
		"/service/Other/operation/ListMetrics":                            404,
		"/service/GraniteServiceVersion20100801/operation/DescribeAlarms": 501,
		"/": 404,
	} {
		if w := postCBOR(s, path, empty); w.Code != want || w.Header().Get("Content-Type") != cborContentType {
			t.Errorf("%s: %d %s", path, w.Code, readable(w.Header(), w.Body.Bytes()))
		}
	}
	if w := postCBOR(s, listMetricsPath, nil); w.Code != 200 {
		t.Errorf("without a body: %d", w.Code)
	}
	r := httptest.NewRequest("POST", listMetricsPath, nil)
	if service, _ := Identify(r); service != "monitoring" {
		t.Errorf("%s is for %q", r.URL, service)
	}
	r = httptest.NewRequest("POST", "/", strings.NewReader("Action=ListMetrics&Version=2010-08-01"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if service, _ := Identify(r); service != "monitoring" {
		t.Errorf("a form is for %q", service)
	}
	r = httptest.NewRequest("POST", "/", nil)
	r.Header.Set("X-Amz-Target", "GraniteServiceVersion20100801.ListMetrics")
	if service, _ := Identify(r); service != "monitoring" {
		t.Errorf("a target is for %q", service)
	}
	r.Header.Set("X-Amz-Target", "Logs_20140328.GetLogEvents")
	if service, _ := Identify(r); service != "logs" {
		t.Errorf("a target is for %q", service)
	}
}

func zipped(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestCompressedBodies sends what the SDKs compress, in all protocols.
func TestCompressedBodies(t *testing.T) {
	s, got := newMonitoring(t, nil)
	for _, c := range []struct{ path, kind, body string }{
		{"/", "application/x-www-form-urlencoded", "Action=PutMetricData&Namespace=n&MetricData.member.1.MetricName=m&MetricData.member.1.Value=2"},
		{"/", "application/x-amz-json-1.0", `{"Namespace":"n","MetricData":[{"MetricName":"m","Value":2}]}`},
	} {
		got.Store(&cloudwatch.PutMetricDataInput{})
		r := httptest.NewRequest("POST", c.path, bytes.NewReader(zipped(t, []byte(c.body))))
		r.Header.Set("Content-Type", c.kind)
		r.Header.Set("Content-Encoding", "gzip")
		if strings.HasPrefix(c.body, "{") {
			r.Header.Set("X-Amz-Target", "GraniteServiceVersion20100801.PutMetricData")
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != 200 || len(got.Load().MetricData) != 1 || *got.Load().MetricData[0].Value != 2 {
			t.Errorf("%s: %d %s, %v", c.kind, w.Code, w.Body, got.Load().MetricData)
		}
	}
	put := strings.Replace(listMetricsPath, "ListMetrics", "PutMetricData", 1)
	body, err := cbor.Marshal(map[string]any{"Namespace": "n", "MetricData": []any{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, encoding string
		body           []byte
		status         int
		kind           string
	}{
		{"gzip", "gzip", zipped(t, body), 200, ""},
		{"identity", "identity", body, 200, ""},
		{"no gzip", "gzip", body, 400, "SerializationException"},
		{"cut off", "gzip", zipped(t, body)[:20], 400, "SerializationException"},
		{"another", "br", body, 415, "UnsupportedMediaTypeException"},
		{"a bomb", "gzip", zipped(t, make([]byte, maxUnpacked+1)), 413, "RequestEntityTooLargeException"},
	} {
		if w := postCBOR(s, put, c.body, "Content-Encoding", c.encoding); w.Code != c.status || w.Header().Get("X-Amzn-Errortype") != c.kind {
			t.Errorf("%s: %d %s", c.name, w.Code, readable(w.Header(), w.Body.Bytes()))
		}
	}
}

// TestPlainParameters shows the words of CloudWatch's older operations.
func TestPlainParameters(t *testing.T) {
	s, _ := newMonitoring(t, func() error { return nil })
	Handle(s, "GetMetricStatistics", func(context.Context, *cloudwatch.GetMetricStatisticsInput) (*cloudwatch.GetMetricStatisticsOutput, error) {
		return nil, nil
	})
	for form, want := range map[string]string{
		"Action=PutMetricData":                                "MissingParameter: The parameter Namespace is required.",
		"Action=PutMetricData&Namespace=":                     "MissingParameter: The parameter Namespace is required.",
		"Action=GetMetricStatistics&Namespace=n&MetricName=m": "MissingParameter: The parameter StartTime is required.\nThe parameter EndTime is required.\nThe parameter Period is required.",
		"Action=PutMetricData&Namespace=n&MetricData.member.1.MetricName=m&MetricData.member.1.Dimensions.member.1.Name=d": "MissingParameter: The parameter MetricData.member.1.Dimensions.member.1.Value is required.",
		"Action=ListMetrics&RecentlyActive=PT4H":                    "InvalidParameterValue: The parameter RecentlyActive must be a value in the set [ PT3H ].",
		"Action=ListMetrics&MetricName=" + strings.Repeat("x", 256): "InvalidParameterValue: The parameter MetricName must be shorter than 256 characters.",
		"Action=ListMetrics&Namespace=:x":                           "InvalidParameterValue: The value :x for parameter Namespace is not matching the expected pattern [^:].*.",
		"Action=PutMetricData&Namespace=n&MetricData.member.1.MetricName=m&MetricData.member.1.StorageResolution=0": "InvalidParameterValue: The parameter MetricData.member.1.StorageResolution must be greater than or equal to 1.",
		`{"Namespace":"n","MetricData":[{"MetricName":"m","Values":[1,null]}]}`:                                     "InvalidParameterValue: The value at 'metricData.1.member.values.2.member' must not be null.",
		"Action=ListMetrics": "",
	} {
		if strings.HasPrefix(form, "{") {
			w := postJSON(s, "PutMetricData", form)
			code, _, _ := strings.Cut(w.Header().Get("X-Amzn-Query-Error"), ";")
			if _, text, _ := strings.Cut(want, ": "); !strings.HasPrefix(want, code+": ") || !strings.Contains(w.Body.String(), text) {
				t.Errorf("%s: %d %s", form, w.Code, w.Body)
			}
			continue
		}
		w := post(s, "/", form)
		if want == "" {
			if w.Code != 200 {
				t.Errorf("%s: %d %s", form, w.Code, w.Body)
			}
			continue
		}
		if code, text := queryError(t, w); w.Code != 400 || code+": "+text != want {
			t.Errorf("%s: %d %s: %s", form, w.Code, code, text)
		}
	}
}

// TestBotocoreInThreeProtocols has botocore speak each of the protocols that its model lists; by itself it takes JSON.
func TestBotocoreInThreeProtocols(t *testing.T) {
	if err := exec.Command("python3", "-c", "import botocore.session").Run(); err != nil {
		t.Skip("python3 has no botocore here, so its reading cannot be tried")
	}
	at := time.UnixMilli(1_700_000_000_123).UTC()
	s, got := newMonitoring(t, func() error { return thaw.Errorf(thaw.CodeParameterCombination, "No.") })
	var protocol atomic.Value
	Handle(s, "GetMetricData", func(ctx context.Context, _ *cloudwatch.GetMetricDataInput) (*cloudwatch.GetMetricDataOutput, error) {
		protocol.Store(RequestFrom(ctx).Protocol)
		return &cloudwatch.GetMetricDataOutput{MetricDataResults: []types.MetricDataResult{{Id: new("a"), Label: new("ä"), Timestamps: []time.Time{at}, Values: []float64{0.1}, StatusCode: types.StatusCodeComplete}}}, nil
	})
	server := httptest.NewServer(s)
	defer server.Close()
	const script = `
import sys, datetime, botocore.model, botocore.session
from botocore.config import Config
if sys.argv[2]:
    botocore.model.PRIORITY_ORDERED_SUPPORTED_PROTOCOLS = (sys.argv[2],)
session = botocore.session.Session()
session.set_credentials("AKIDEXAMPLE0000", "secret")
c = session.create_client("cloudwatch", region_name="eu-west-1", endpoint_url=sys.argv[1], config=Config(retries={"max_attempts": 0}, request_min_compression_size_bytes=1))
when = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
c.put_metric_data(Namespace="n", MetricData=[{"MetricName": "m", "Timestamp": when, "Value": 1.5, "Unit": "Count"}])
out = c.get_metric_data(MetricDataQueries=[{"Id": "a", "Expression": "1"}], StartTime=when, EndTime=when)["MetricDataResults"]
assert out == [{"Id": "a", "Label": "ä", "Timestamps": [datetime.datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=datetime.timezone.utc)], "Values": [0.1], "StatusCode": "Complete"}], out
try:
    c.list_metrics()
    raise AssertionError("no error")
except c.exceptions.InvalidParameterCombinationException as e:
    assert e.response["Error"]["Code"] == "InvalidParameterCombination" and e.response["Error"]["Message"] == "No." and e.response["Error"]["Type"] == "Sender", e.response
    assert len(e.response["ResponseMetadata"]["RequestId"]) == 36, e.response
`
	for name, want := range map[string]string{"": protocolJSON, "json": protocolJSON, "smithy-rpc-v2-cbor": protocolCBOR, "query": protocolQuery} {
		got.Store(&cloudwatch.PutMetricDataInput{})
		if out, err := exec.Command("python3", "-c", script, server.URL, name).CombinedOutput(); err != nil {
			t.Errorf("%q: %v\n%s", name, err, out)
		}
		data := []types.MetricDatum{{MetricName: new("m"), Timestamp: new(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), Value: new(1.5), Unit: types.StandardUnitCount}}
		if diff := cmp.Diff(data, got.Load().MetricData, same); diff != "" {
			t.Errorf("%q: %s", name, diff)
		}
		if spoke := protocol.Load(); spoke != want {
			t.Errorf("botocore with %q spoke %s", name, spoke)
		}
	}
}

// FuzzCBOR sends arbitrary bodies to all operations of CloudWatch.
func FuzzCBOR(f *testing.F) {
	s := newService(f, "monitoring")
	s.Log = slog.New(slog.DiscardHandler)
	var names []string
	for _, c := range calls(s.model, clients["monitoring"]("http://localhost")) {
		names = append(names, c.name)
		if err := s.handle(c.name, c.in, c.out, func(context.Context, any) (any, error) { return reflect.New(c.out).Interface(), nil }); err != nil {
			f.Fatal(err)
		}
	}
	for i := range names {
		f.Add(uint8(i), []byte("\xa1\x69Namespace\x61n"))
	}
	f.Add(uint8(0), []byte("\xbf\x6aMetricData\x9f\xa1\x69Timestamp\xc1\xfb\x41\xd9\x64\x80\x20\x1f\x9a\xdd\xff\xff"))
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		name := names[int(which)%len(names)]
		w := postCBOR(s, strings.Replace(listMetricsPath, "ListMetrics", name, 1), body)
		if w.Code >= 500 {
			t.Errorf("%s: %d %s", name, w.Code, readable(w.Header(), w.Body.Bytes()))
		}
		if text := w.Body.Bytes(); len(text) > 0 && cbor.Wellformed(text) != nil {
			t.Errorf("%s answers with %x", name, text)
		}
	})
}
