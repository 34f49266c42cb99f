package tests

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	metrictypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw/internal/ownbody"
	"thaw/tests/harness"
)

func logsClient(p *harness.Platform) *cloudwatchlogs.Client {
	return cloudwatchlogs.New(cloudwatchlogs.Options{
		BaseEndpoint: &p.URL, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("thaw", "thaw", ""), RetryMaxAttempts: 1, HTTPClient: ownbody.Client{},
	})
}

// follower asks again and again, as `aws logs tail --follow` does: from the time of the newest event on, and past those that
// it has seen.
type follower struct {
	client *cloudwatchlogs.Client
	group  string
	since  *int64
	seen   map[string]bool
	lines  []string
}

func (f *follower) poll(t *testing.T, pattern string) []string {
	t.Helper()
	in := &cloudwatchlogs.FilterLogEventsInput{LogGroupName: &f.group, StartTime: f.since, FilterPattern: &pattern}
	pages := cloudwatchlogs.NewFilterLogEventsPaginator(f.client, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			if f.seen[*e.EventId] {
				continue
			}
			f.seen[*e.EventId], f.since = true, e.Timestamp
			f.lines = append(f.lines, strings.TrimSpace(*e.Message))
		}
	}
	return f.lines
}

// query runs a query of Logs Insights over the last hour and gives its rows as text.
func query(t *testing.T, client *cloudwatchlogs.Client, group, text string) (rows []string) {
	t.Helper()
	now := time.Now().Unix()
	started, err := client.StartQuery(t.Context(), &cloudwatchlogs.StartQueryInput{
		LogGroupName: &group, StartTime: aws.Int64(now - 3600), EndTime: aws.Int64(now + 1), QueryString: &text,
	})
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the query is complete", func() bool {
		out, err := client.GetQueryResults(t.Context(), &cloudwatchlogs.GetQueryResultsInput{QueryId: started.QueryId})
		if err != nil {
			t.Fatal(err)
		}
		rows = nil
		for _, row := range out.Results {
			var fields []string
			for _, f := range row {
				fields = append(fields, *f.Field+"="+*f.Value)
			}
			rows = append(rows, strings.Join(fields, " "))
		}
		return out.Status == types.QueryStatusComplete
	})
	return rows
}

const watcher = `import base64, gzip, json
def handler(event, context):
    data = json.loads(gzip.decompress(base64.b64decode(event['awslogs']['data'])))
    for e in data['logEvents']:
        print('seen in', data['logGroup'], 'by', data['subscriptionFilters'][0] + ':', e['message'].strip())
`

// What a function writes, through CloudWatch Logs: listed, followed, queried, delivered to another function, after a crash
// as before.
func TestCloudWatchLogs(t *testing.T) {
	p := harness.Start(t, harness.Options{})
	client, functions := logsClient(p), p.Lambda()
	harness.Deploy(t, functions, &harness.Function{Name: "talker", Source: "def handler(e, c):\n    print('hello', e)\n    return e\n"})
	harness.Deploy(t, functions, &harness.Function{Name: "watcher", Source: watcher})
	const group = "/aws/lambda/talker"
	tail := &follower{client: client, group: group, seen: map[string]bool{}}
	var want []string
	for i := range 3 {
		harness.MustInvoke(t, functions, "talker", strconv.Itoa(i))
		want = append(want, fmt.Sprint("hello ", i))
		if got := tail.poll(t, "hello"); !slices.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	}
	if rows := query(t, client, group, `filter @type = "REPORT" | stats count(*) as n, count_distinct(@requestId) as ids, max(@duration) > 0 as took`); !slices.Equal(rows, []string{"n=3 ids=3 took=1"}) {
		t.Errorf("%q", rows)
	}

	// Another function gets what a filter means, once it permits that.
	put := &cloudwatchlogs.PutSubscriptionFilterInput{
		LogGroupName: aws.String(group), FilterName: aws.String("hello"), FilterPattern: aws.String("hello"),
		DestinationArn: aws.String("arn:aws:lambda:us-east-1:000000000000:function:watcher"),
	}
	if _, err := client.PutSubscriptionFilter(t.Context(), put); err == nil || !strings.Contains(err.Error(), "permission") {
		t.Errorf("without permission: %v", err)
	}
	_, err := functions.AddPermission(t.Context(), &lambda.AddPermissionInput{
		FunctionName: aws.String("watcher"), StatementId: aws.String("logs"), Action: aws.String("lambda:InvokeFunction"),
		Principal: aws.String("logs.amazonaws.com"), SourceArn: aws.String("arn:aws:logs:us-east-1:000000000000:log-group:" + group + ":*"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutSubscriptionFilter(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	_, err = client.PutMetricFilter(t.Context(), &cloudwatchlogs.PutMetricFilterInput{
		LogGroupName: aws.String(group), FilterName: aws.String("hello"), FilterPattern: aws.String("[word = hello, n]"),
		MetricTransformations: []types.MetricTransformation{{MetricNamespace: aws.String("Mine"), MetricName: aws.String("Said"), MetricValue: aws.String("$n")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := &follower{client: client, group: "/aws/lambda/watcher", seen: map[string]bool{}}
	harness.MustInvoke(t, functions, "talker", "3")
	harness.Eventually(t, "the watcher has seen the line", func() bool {
		_, err := client.DescribeLogStreams(t.Context(), &cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: &seen.group})
		return err == nil && slices.Equal(seen.poll(t, "seen"), []string{"seen in /aws/lambda/talker by hello: hello 3"})
	})
	numbers := cloudwatch.New(cloudwatch.Options{BaseEndpoint: &p.URL, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("thaw", "thaw", "")})
	harness.Eventually(t, "the metric filter has counted", func() bool {
		out, err := numbers.GetMetricStatistics(t.Context(), &cloudwatch.GetMetricStatisticsInput{
			Namespace: aws.String("Mine"), MetricName: aws.String("Said"), Period: aws.Int32(3600), Statistics: []metrictypes.Statistic{metrictypes.StatisticSum},
			StartTime: aws.Time(time.Now().Add(-time.Hour)), EndTime: aws.Time(time.Now().Add(time.Hour)),
		})
		return err == nil && len(out.Datapoints) == 1 && *out.Datapoints[0].Sum == 3
	})
	put.LogGroupName = &seen.group
	if _, err := client.PutSubscriptionFilter(t.Context(), put); err == nil || !strings.Contains(err.Error(), "reserved for the function log") {
		t.Errorf("its own log: %v", err)
	}

	// A crash forgets nothing of it.
	streams := func() (lines []string) {
		out, err := client.DescribeLogStreams(t.Context(), &cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: aws.String(group)})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range out.LogStreams {
			lines = append(lines, fmt.Sprint(*s.LogStreamName, *s.FirstEventTimestamp, *s.LastEventTimestamp))
		}
		return lines
	}
	before := streams()
	p.Kill()
	p = harness.Start(t, harness.Options{Data: p.Data})
	client, functions = logsClient(p), p.Lambda()
	tail.client, seen.client = client, client
	// A new template may have written by then.
	after := streams()
	for _, s := range before {
		if !slices.Contains(after, s) {
			t.Errorf("%s was there before the crash; after it there is %q", s, after)
		}
	}
	harness.Eventually(t, "the function works again", func() bool {
		_, failed, err := harness.Invoke(t.Context(), functions, "talker", "4")
		return err == nil && !failed
	})
	harness.Eventually(t, "the watcher has seen the line", func() bool {
		lines := seen.poll(t, "seen")
		return slices.Contains(lines, "seen in /aws/lambda/talker by hello: hello 4")
	})

	// What is deleted is gone, from everywhere.
	if _, err := client.DeleteLogGroup(t.Context(), &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: aws.String(group)}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.FilterLogEvents(t.Context(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String(group)}); err == nil {
		t.Error("the group is still there")
	}
	p.Stop()
	harness.NothingLeft(t, p.Data)
}
