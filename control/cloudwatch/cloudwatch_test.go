package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/schemas"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/aws/smithy-go/transport/http/protocol/awsjson"
	"github.com/aws/smithy-go/transport/http/protocol/awsquery"
	"go.uber.org/goleak"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/apitest"
	"thaw/control/internal/golden"
	"thaw/internal/ownbody"
	"thaw/telemetry/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service makes the API over a store of metrics of its own.
func service(t *testing.T, now func() time.Time) *awsapi.Service {
	t.Helper()
	store, err := metrics.Open(metrics.Config{Dir: t.TempDir(), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- store.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return apitest.Service(t, "monitoring", New(Config{Account: thaw.Account{ID: "123456789012", Region: "eu-west-1"}, Metrics: store, Now: now}).Register)
}

func TestGolden(t *testing.T) {
	golden.Run(t, func(t *testing.T) golden.Conversation {
		clock := apitest.NewClock(time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC))
		return golden.Conversation{ContentType: "application/x-amz-json-1.0", Variables: map[string]string{"AVG": "${AVG}", "LAST_TIME": "${LAST_TIME}"}, Handler: golden.Targeted("GraniteServiceVersion20100801", service(t, clock.Now))}
	})
}

// TestGoSDK uses metrics through aws-sdk-go-v2 in each of the protocols that CloudWatch has.
func TestGoSDK(t *testing.T) {
	for name, protocol := range map[string]smithyhttp.ClientProtocol{
		"cbor": nil, "json": awsjson.New10(schemas.GraniteServiceVersion20100801), "query": awsquery.New(schemas.GraniteServiceVersion20100801),
	} {
		t.Run(name, func(t *testing.T) { testGoSDK(t, protocol) })
	}
}

func testGoSDK(t *testing.T, protocol smithyhttp.ClientProtocol) {
	ctx, url := t.Context(), apitest.Serve(t, service(t, time.Now))
	client := sdk.New(sdk.Options{
		BaseEndpoint: &url, Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("thaw", "thaw", ""), RetryMaxAttempts: 1, HTTPClient: ownbody.Client{},
		RequestMinCompressSizeBytes: 1,
	}, func(o *sdk.Options) {
		if protocol != nil {
			o.Protocol = protocol
		}
	})
	minute := time.Now().UTC().Truncate(time.Minute)
	var data []types.MetricDatum
	for i := range 10 {
		data = append(data, types.MetricDatum{
			MetricName: aws.String("m"), Value: aws.Float64(float64(i)), Unit: types.StandardUnitSeconds, Timestamp: aws.Time(minute.Add(-time.Duration(i) * time.Minute)),
			Dimensions: []types.Dimension{{Name: aws.String("d"), Value: aws.String("ä b&c")}},
		})
	}
	_, err := client.PutMetricData(ctx, &sdk.PutMetricDataInput{Namespace: aws.String("n"), MetricData: data})
	if e, ok := errors.AsType[*types.InvalidParameterValueException](err); !ok {
		t.Errorf("a dimension beyond ASCII: %v", e)
	}
	for i := range data {
		data[i].Dimensions[0].Value = aws.String("a b&c")
	}
	if _, err := client.PutMetricData(ctx, &sdk.PutMetricDataInput{Namespace: aws.String("n"), MetricData: data}); err != nil {
		t.Fatal(err)
	}
	statistics, err := client.GetMetricStatistics(ctx, &sdk.GetMetricStatisticsInput{
		Namespace: aws.String("n"), MetricName: aws.String("m"), Dimensions: data[0].Dimensions, StartTime: aws.Time(minute.Add(-9 * time.Minute)), EndTime: aws.Time(minute.Add(time.Minute)),
		Period: aws.Int32(600), Statistics: []types.Statistic{types.StatisticSum}, ExtendedStatistics: []string{"p0"},
	})
	if err != nil || len(statistics.Datapoints) != 1 || *statistics.Datapoints[0].Sum != 45 || statistics.Datapoints[0].ExtendedStatistics["p0"] != 0 ||
		statistics.Datapoints[0].Unit != types.StandardUnitSeconds || !statistics.Datapoints[0].Timestamp.Equal(minute.Add(-9*time.Minute)) {
		t.Errorf("%+v, %v", statistics, err)
	}
	pages := sdk.NewGetMetricDataPaginator(client, &sdk.GetMetricDataInput{
		StartTime: aws.Time(minute.Add(-9 * time.Minute)), EndTime: aws.Time(minute.Add(time.Minute)), MaxDatapoints: aws.Int32(3),
		MetricDataQueries: []types.MetricDataQuery{
			{Id: aws.String("m1"), MetricStat: &types.MetricStat{Metric: &types.Metric{Namespace: aws.String("n"), MetricName: aws.String("m"), Dimensions: data[0].Dimensions}, Period: aws.Int32(60), Stat: aws.String("Maximum")}},
			{Id: aws.String("e1"), Expression: aws.String("m1 * 2")},
		},
	})
	values := map[string][]float64{}
	count := 0
	for ; pages.HasMorePages(); count++ {
		out, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range out.MetricDataResults {
			values[*r.Id] = append(values[*r.Id], r.Values...)
		}
	}
	if want := []float64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}; !slices.Equal(values["m1"], want) || len(values["e1"]) != 10 || values["e1"][9] != 18 || count != 7 {
		t.Errorf("%v in %d pages", values, count)
	}
	list := sdk.NewListMetricsPaginator(client, &sdk.ListMetricsInput{Namespace: aws.String("n")})
	out, err := list.NextPage(ctx)
	if err != nil || len(out.Metrics) != 1 || *out.Metrics[0].Dimensions[0].Value != "a b&c" || list.HasMorePages() {
		t.Errorf("%+v, %v", out, err)
	}
	_, err = client.GetMetricStatistics(ctx, &sdk.GetMetricStatisticsInput{
		Namespace: aws.String("n"), MetricName: aws.String("m"), StartTime: aws.Time(minute.AddDate(0, 0, -2)), EndTime: &minute, Period: aws.Int32(60), Statistics: []types.Statistic{types.StatisticSum},
	})
	if e, ok := errors.AsType[*types.InvalidParameterCombinationException](err); !ok || *e.Message != "You have requested up to 2880 datapoints, which exceeds the limit of 1440. You may reduce the datapoints requested by increasing Period, or decreasing the time range." {
		t.Errorf("%v", err)
	}
	_, err = client.GetMetricData(ctx, &sdk.GetMetricDataInput{StartTime: &minute, EndTime: aws.Time(minute.Add(time.Minute)), NextToken: aws.String("?"), MetricDataQueries: []types.MetricDataQuery{{Id: aws.String("e"), Expression: aws.String("TIME_SERIES(1)")}}})
	if e, ok := errors.AsType[*types.InvalidNextToken](err); !ok {
		t.Errorf("%v is no %T", err, e)
	}
}

// TestListPages lists more metrics than an answer holds.
func TestListPages(t *testing.T) {
	s := service(t, time.Now)
	ctx, url := t.Context(), apitest.Serve(t, s)
	client := sdk.New(sdk.Options{BaseEndpoint: &url, Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("thaw", "thaw", ""), RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
	for from := 0; from < 2000; from += maxData {
		var data []types.MetricDatum
		for i := range maxData {
			data = append(data, types.MetricDatum{MetricName: aws.String(fmt.Sprintf("m%04d", from+i)), Value: aws.Float64(1)})
		}
		if _, err := client.PutMetricData(ctx, &sdk.PutMetricDataInput{Namespace: aws.String("n"), MetricData: data}); err != nil {
			t.Fatal(err)
		}
	}
	pages := sdk.NewListMetricsPaginator(client, &sdk.ListMetricsInput{Namespace: aws.String("n")})
	var names []string
	count := 0
	for ; pages.HasMorePages(); count++ {
		out, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range out.Metrics {
			names = append(names, *m.MetricName)
		}
	}
	if len(names) != 2000 || !slices.IsSorted(names) || len(slices.Compact(names)) != 2000 || count != 4 {
		t.Errorf("%d metrics in %d pages", len(names), count)
	}
}

const session = `
import boto3, datetime, sys
from botocore.config import Config
c = boto3.client("cloudwatch", endpoint_url=sys.argv[1], config=Config(retries={"max_attempts": 0}, request_min_compression_size_bytes=1))
now = datetime.datetime.now(datetime.timezone.utc).replace(second=0, microsecond=0)
c.put_metric_data(Namespace="Lambda/ColdStarts", MetricData=[
    {"MetricName": "InitDuration", "Value": v, "Unit": "Milliseconds", "Timestamp": now, "Dimensions": [{"Name": "FunctionName", "Value": "f"}]} for v in (100, 200, 300)])
out = c.get_metric_statistics(Namespace="Lambda/ColdStarts", MetricName="InitDuration", Dimensions=[{"Name": "FunctionName", "Value": "f"}],
    StartTime=now - datetime.timedelta(hours=1), EndTime=now + datetime.timedelta(minutes=1), Period=7200, Statistics=["Average", "Maximum"])
assert len(out["Datapoints"]) == 1 and out["Datapoints"][0]["Average"] == 200 and out["Datapoints"][0]["Maximum"] == 300, out
assert out["Datapoints"][0]["Timestamp"] == now - datetime.timedelta(hours=1) and out["Label"] == "InitDuration", out
query = {"Id": "m1", "MetricStat": {"Metric": {"Namespace": "Lambda/ColdStarts", "MetricName": "InitDuration", "Dimensions": [{"Name": "FunctionName", "Value": "f"}]}, "Period": 60, "Stat": "p100"}}
pages = c.get_paginator("get_metric_data").paginate(MetricDataQueries=[query, {"Id": "e1", "Expression": "m1 / 1000", "Label": "seconds"}], StartTime=now, EndTime=now + datetime.timedelta(minutes=1))
results = pages.build_full_result()["MetricDataResults"]
assert [(r["Id"], r["Label"], r["Values"], r["Timestamps"]) for r in results] == [("m1", "InitDuration", [300.0], [now]), ("e1", "seconds", [0.3], [now])], results
assert [m["MetricName"] for p in c.get_paginator("list_metrics").paginate(Namespace="Lambda/ColdStarts") for m in p["Metrics"]] == ["InitDuration"]
metric = boto3.resource("cloudwatch", endpoint_url=sys.argv[1]).Metric("Lambda/ColdStarts", "InitDuration")
assert metric.get_statistics(StartTime=now, EndTime=now + datetime.timedelta(minutes=1), Period=60, Statistics=["Sum"])["Datapoints"] == []
for call, arguments, error in (
        (c.put_metric_data, {"Namespace": "AWS/x", "MetricData": [{"MetricName": "m", "Value": 1}]}, c.exceptions.InvalidParameterValueException),
        (c.put_metric_data, {"Namespace": "x", "MetricData": []}, c.exceptions.MissingRequiredParameterException),
        (c.put_metric_data, {"Namespace": "x", "MetricData": [{"MetricName": "m"}]}, c.exceptions.InvalidParameterCombinationException)):
    try:
        call(**arguments)
        raise AssertionError("accepted")
    except error:
        pass
`

func TestBoto3(t *testing.T) {
	apitest.Boto3(t, "eu-west-1", "-c", session, apitest.Serve(t, service(t, time.Now)))
}

// TestCommandLine runs the commands of CloudWatch's user guide.
func TestCommandLine(t *testing.T) {
	run := apitest.CommandLine(t, "eu-west-1", apitest.Serve(t, service(t, time.Now)), "cloudwatch")
	minute := time.Now().UTC().Truncate(time.Minute)
	stamp := minute.Format(time.RFC3339)
	run("put-metric-data", "--metric-name", "PageViewCount", "--namespace", "MyService", "--value", "2", "--timestamp", stamp)
	run("put-metric-data", "--metric-name", "PageViewCount", "--namespace", "MyService", "--statistic-values", "Sum=11,Minimum=2,Maximum=5,SampleCount=3", "--timestamp", stamp)
	run("put-metric-data", "--namespace", "MyService", "--metric-data", `[{"MetricName": "Buffers", "Unit": "Bytes", "Dimensions": [{"Name": "InstanceId", "Value": "1-23456789"}], "Value": 231434333}]`)
	for command, want := range map[string]string{
		"get-metric-statistics --metric-name PageViewCount --namespace MyService --statistics Sum Maximum --period 60 --query Datapoints[].[Sum,Maximum,Unit] --output text --start-time " + stamp + " --end-time " + minute.Add(time.Minute).Format(time.RFC3339): "13.0\t5.0\tNone\n",
		"list-metrics --namespace MyService --query Metrics[].MetricName --output text": "Buffers\tPageViewCount\n",
	} {
		if got := run(strings.Fields(command)...); got != want {
			t.Errorf("%s gives %q", command, got)
		}
	}
}

// TestJavaScript runs testdata/metrics.mjs with AWS's SDK for JavaScript, where tests/clients/node has it installed.
func TestJavaScript(t *testing.T) {
	modules, err := filepath.Abs("../../tests/clients/node/node_modules/@aws-sdk/client-cloudwatch")
	if err != nil {
		t.Fatal(err)
	}
	node, err := exec.LookPath("node")
	if found, _ := filepath.Glob(modules); err != nil || found == nil {
		t.Skip("needs node with @aws-sdk/client-cloudwatch in tests/clients/node")
	}
	script, err := filepath.Abs("testdata/metrics.mjs")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, script, apitest.Serve(t, service(t, time.Now)), modules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
