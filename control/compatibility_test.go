// Package control_test holds docs/compatibility.md to what the packages below register.
package control_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkscaling "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	sdkcloudwatch "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	sdklogs "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	sdkevents "github.com/aws/aws-sdk-go-v2/service/eventbridge"
	sdkiam "github.com/aws/aws-sdk-go-v2/service/iam"
	sdklambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	sdkscheduler "github.com/aws/aws-sdk-go-v2/service/scheduler"
	sdksqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"thaw"
	"thaw/awsapi"
	"thaw/control/autoscaling"
	"thaw/control/cloudwatch"
	"thaw/control/events"
	"thaw/control/iam"
	"thaw/control/lambda"
	"thaw/control/logs"
	"thaw/control/scheduler"
	"thaw/control/sqs"
	"thaw/control/sts"
	"thaw/internal/ownbody"
	"thaw/state"
	"thaw/state/queues"
	"thaw/telemetry/groups"
	"thaw/trigger/alarms"
	trigger "thaw/trigger/autoscaling"
	rules "thaw/trigger/events"
	"thaw/trigger/mapping"
	schedules "thaw/trigger/scheduler"
)

var rowPattern = regexp.MustCompile(`(?m)^\| (\w+) \| (done|later) \|`)

// documented reads the table of one service: operation to state.
func documented(t *testing.T, service string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## "+service+"\n")
	if !ok {
		t.Fatalf("no section %s", service)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	rows := map[string]string{}
	for _, m := range rowPattern.FindAllStringSubmatch(section, -1) {
		if rows[m[1]] != "" {
			t.Errorf("%s has two rows", m[1])
		}
		rows[m[1]] = m[2]
	}
	return rows
}

// Each operation of the SDK is called with an input that has every member it requires; only the kind of refusal counts.
func TestDocumentedOperations(t *testing.T) {
	store, err := state.Open(t.Context(), state.Config{Dir: t.TempDir() + "/data"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	account := thaw.Account{ID: "000000000000", Region: "us-east-1"}
	services := map[string]*awsapi.Service{}
	for _, name := range []string{"lambda", "iam", "sts", "application-autoscaling", "sqs", "events", "scheduler", "monitoring", "logs"} {
		if services[name], err = awsapi.New(name); err != nil {
			t.Fatal(err)
		}
	}
	api, err := lambda.New(lambda.Config{Account: account, Architecture: "x86_64", Functions: store, Packages: store, Runtimes: noRuntime{}, CheckPackage: noPackage, Layers: store.Records(thaw.LayerRecords), Mappings: mapping.NewRecords(store), Queue: func(string) (queues.Info, bool) { return queues.Info{}, false }})
	if err != nil {
		t.Fatal(err)
	}
	api.Register(services["lambda"])
	iam.New(account, store).Register(services["iam"])
	sts.Register(services["sts"], account)
	autoscaling.New(account, trigger.NewRecords(store), store).Register(services["application-autoscaling"])
	messages, err := queues.Open(t.Context(), store, queues.Config{})
	if err != nil {
		t.Fatal(err)
	}
	sqs.New(account, messages, nil).Register(services["sqs"])
	events.New(account, rules.NewRecords(store), func(context.Context, []*rules.Event) []error { return nil }).Register(services["events"])
	scheduler.New(account, schedules.NewRecords(store)).Register(services["scheduler"])

	index, err := groups.New(groups.Config{Store: store, Settings: groups.NewSettings(store)})
	if err != nil {
		t.Fatal(err)
	}
	logsAPI, err := logs.New(logs.Config{Account: account, Groups: index, Functions: store})
	if err != nil {
		t.Fatal(err)
	}
	logsAPI.Register(services["logs"])
	cloudwatch.New(cloudwatch.Config{Account: account, Alarms: alarms.NewRecords(store)}).Register(services["monitoring"])

	for _, c := range []struct {
		title   string
		handler http.Handler
		client  func(url string) any
		// all says that the table must name every operation of the SDK.
		all bool
		// elsewhere are the operations that another package serves.
		elsewhere []string
	}{
		{"AWS Lambda", services["lambda"], func(url string) any {
			return sdklambda.New(sdklambda.Options{BaseEndpoint: &url, Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
		}, true, []string{"Invoke", "InvokeAsync"}},
		{"AWS IAM", services["iam"], func(url string) any {
			return sdkiam.New(sdkiam.Options{BaseEndpoint: &url, Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
		}, false, nil},
		{"Application Auto Scaling", services["application-autoscaling"], func(url string) any {
			return sdkscaling.New(sdkscaling.Options{BaseEndpoint: &url, Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
		}, true, nil},
		{"Amazon SQS", services["sqs"], func(url string) any {
			return sdksqs.New(sdksqs.Options{BaseEndpoint: &url, Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
		}, true, nil},
		{"Amazon EventBridge", services["events"], func(url string) any {
			return sdkevents.New(sdkevents.Options{BaseEndpoint: &url, Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
		}, true, nil},
		{"EventBridge Scheduler", services["scheduler"], func(url string) any {
			return sdkscheduler.New(sdkscheduler.Options{BaseEndpoint: &url, Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
		}, true, nil},
		{"Amazon CloudWatch", services["monitoring"], func(url string) any {
			return sdkcloudwatch.New(sdkcloudwatch.Options{BaseEndpoint: &url, Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
		}, false, nil}, // the SDK has operations that the model has not
		{"Amazon CloudWatch Logs", services["logs"], func(url string) any {
			return sdklogs.New(sdklogs.Options{
				BaseEndpoint: &url, Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{},
				APIOptions: []func(*middleware.Stack) error{plainHost},
			})
		}, false, nil},
		{"AWS STS", services["sts"], func(url string) any {
			return sdksts.New(sdksts.Options{BaseEndpoint: &url, Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
		}, false, nil},
	} {
		t.Run(c.title, func(t *testing.T) {
			var status int
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				rec := httptest.NewRecorder()
				c.handler.ServeHTTP(rec, r)
				status = rec.Code
				if strings.Contains(rec.Body.String(), "<Code>InvalidAction</Code>") || rec.Header().Get("X-Amzn-ErrorType") == "UnknownOperationException" {
					status = -1
				}
				w.WriteHeader(rec.Code)
			}))
			defer server.Close()
			rows := documented(t, c.title)
			client := reflect.ValueOf(c.client(server.URL))
			seen := 0
			for i := range client.NumMethod() {
				name, method := client.Type().Method(i).Name, client.Method(i)
				if method.Type().NumIn() != 3 {
					continue
				}
				state, ok := rows[name]
				if ok {
					seen++
				}
				for _, other := range c.elsewhere {
					if name == other {
						state = ""
					}
				}
				if name == "PutIntegration" {
					continue // it wants a union, which cannot be filled in here
				}
				in := reflect.New(method.Type().In(1).Elem())
				require(in.Elem(), 0)
				status = 0
				failed := method.Call([]reflect.Value{reflect.ValueOf(context.Background()), in})[1]
				answered := "done"
				switch status {
				case http.StatusNotImplemented:
					answered = "later"
				case -1:
					answered = "unknown" // newer than the model
				case 0:
					t.Errorf("%s was not sent: %v", name, failed)
				}
				switch {
				case ok && state != "" && state != answered:
					t.Errorf("%s: the table says %s, the answer is %s", name, state, answered)
				case !ok && c.all:
					t.Errorf("%s is not in the table", name)
				case !ok && answered == "done":
					t.Errorf("%s is done and not in the table", name)
				}
			}
			if seen != len(rows) {
				t.Errorf("the table names %d operations, the SDK has %d of them", len(rows), seen)
			}
		})
	}
}

// plainHost keeps the SDK from asking a host of another name, as it does for live tails.
func plainHost(stack *middleware.Stack) error {
	plain := func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(smithyhttp.DisableEndpointHostPrefix(ctx, true), in)
	}
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("plainHost", plain), middleware.Before)
}

// require fills in every member that could be required, so that the SDK sends the request.
func require(v reflect.Value, depth int) {
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() {
			v.Field(i).Set(something(f.Type, depth))
		}
	}
}

func something(typ reflect.Type, depth int) reflect.Value {
	if typ.Kind() == reflect.String {
		return reflect.ValueOf("x").Convert(typ)
	}
	v := reflect.New(typ).Elem()
	if depth > 20 {
		return v
	}
	switch typ.Kind() {
	case reflect.Interface:
		if reader := reflect.ValueOf(strings.NewReader("{}")); reader.Type().Implements(typ) {
			v.Set(reader)
		}
	case reflect.Pointer:
		v.Set(reflect.New(typ.Elem()))
		v.Elem().Set(something(typ.Elem(), depth+1))
	case reflect.Struct:
		if typ.PkgPath() != "time" {
			require(v, depth+1)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(typ, 1, 1))
		v.Index(0).Set(something(typ.Elem(), depth+1))
	case reflect.Map:
		v.Set(reflect.MakeMap(typ))
	}
	return v
}

type noRuntime struct{}

func (noRuntime) Check(string) error { return fmt.Errorf("none") }

func noPackage(context.Context, io.ReaderAt, int64) (int64, error) { return 0, fmt.Errorf("none") }
