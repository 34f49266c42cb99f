package lambda

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
	"thaw/control/internal/apitest"
	"thaw/internal/ownbody"
	"thaw/state"
)

// place does placement's part for every function until the test ends: what is Pending or InProgress ends in success, or
// in failure when its description asks for that.
func place(t *testing.T, store *state.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{}, 2)
	work := make(chan *thaw.Function, 100)
	go func() {
		store.Watch(ctx, func(c state.Change) {
			if f := c.Function; f != nil && unfinished(f) {
				work <- f
			}
		})
		close(work)
		done <- struct{}{}
	}()
	go func() {
		for f := range work {
			reason := ""
			if f.Config.Description == "fail" {
				reason = "init failed"
			}
			_, err := store.UpdateFunction(ctx, f.Name, func(now *thaw.Function) error {
				if now.Config.Generation != f.Config.Generation {
					return errors.New("changed meanwhile")
				}
				return finish(now, reason)
			})
			if err != nil && ctx.Err() == nil && !errors.Is(err, state.ErrNotFound) {
				t.Errorf("placement: %v", err)
			}
		}
		done <- struct{}{}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		<-done
	})
}

func unfinished(f *thaw.Function) bool {
	for i := range f.Published {
		if f.Published[i].State == thaw.StatePending {
			return true
		}
	}
	return f.Config.State == thaw.StatePending || f.Config.LastUpdate == thaw.UpdateInProgress
}

func TestGoSDK(t *testing.T) {
	url, _, store := serve(t)
	place(t, store)
	ctx := t.Context()
	client := sdk.New(sdk.Options{
		BaseEndpoint: &url, Region: account.Region, Credentials: credentials.NewStaticCredentialsProvider("thaw", "thaw", ""),
		RetryMaxAttempts: 1, HTTPClient: ownbody.Client{},
	})
	fast := func(o *sdk.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, 20*time.Millisecond
	}
	fastUpdate := func(o *sdk.FunctionUpdatedV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, 20*time.Millisecond
	}
	in := createInput(t, "hello")
	in.Tags = map[string]string{"a": "b"}
	created, err := client.CreateFunction(ctx, in)
	if err != nil || created.State != types.StatePending {
		t.Fatalf("%+v %v", created, err)
	}
	get := &sdk.GetFunctionInput{FunctionName: created.FunctionArn}
	active, err := sdk.NewFunctionActiveV2Waiter(client, fast).WaitForOutput(ctx, get, time.Minute)
	if err != nil || active.Configuration.LastUpdateStatus != types.LastUpdateStatusSuccessful || *active.Configuration.RevisionId == *created.RevisionId || active.Tags["a"] != "b" {
		t.Fatalf("%+v %v", active, err)
	}
	resp, err := http.Get(*active.Code.Location)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || string(body) != string(in.Code.ZipFile) {
		t.Errorf("downloaded %d bytes, %v", len(body), err)
	}

	_, err = client.CreateFunction(ctx, in)
	if conflict := (*types.ResourceConflictException)(nil); !errors.As(err, &conflict) || *conflict.Message != "Function already exist: hello" {
		t.Errorf("%v", err)
	}
	_, err = client.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: ptr("hello"), RevisionId: created.RevisionId})
	if failed := (*types.PreconditionFailedException)(nil); !errors.As(err, &failed) {
		t.Errorf("%v", err)
	}
	updated, err := client.UpdateFunctionCode(ctx, &sdk.UpdateFunctionCodeInput{FunctionName: ptr("hello"), ZipFile: zipOf(t, "2"), RevisionId: active.Configuration.RevisionId})
	if err != nil || updated.LastUpdateStatus != types.LastUpdateStatusInProgress {
		t.Fatalf("%+v %v", updated, err)
	}
	if err := sdk.NewFunctionUpdatedV2Waiter(client, fastUpdate).Wait(ctx, get, time.Minute); err != nil {
		t.Error(err)
	}
	if _, err := client.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: ptr("hello"), Description: ptr("fail")}); err != nil {
		t.Fatal(err)
	}
	if err := sdk.NewFunctionUpdatedV2Waiter(client, fastUpdate).Wait(ctx, get, time.Minute); err == nil {
		t.Error("a failed update counts as done")
	}

	for i := range 120 {
		in := createInput(t, numbered(i))
		if _, err := client.CreateFunction(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for pages := sdk.NewListFunctionsPaginator(client, &sdk.ListFunctionsInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n += len(page.Functions)
	}
	if n != 121 {
		t.Errorf("%d functions listed", n)
	}
	deleted, err := client.DeleteFunction(ctx, &sdk.DeleteFunctionInput{FunctionName: ptr("hello")})
	if err != nil || deleted.StatusCode != 200 {
		t.Errorf("%+v %v", deleted, err)
	}
	_, err = client.GetFunction(ctx, get)
	if none := (*types.ResourceNotFoundException)(nil); !errors.As(err, &none) || *none.Message != "Function not found: "+*created.FunctionArn {
		t.Errorf("%v", err)
	}
	for _, call := range []func() error{
		func() error {
			_, err := client.TagResource(ctx, &sdk.TagResourceInput{Resource: aws.String(*created.FunctionArn + ":1"), Tags: map[string]string{"a": "b"}})
			return err
		},
		func() error {
			_, err := client.AddPermission(ctx, &sdk.AddPermissionInput{FunctionName: ptr(numbered(0)), StatementId: ptr("s"), Action: ptr("lambda:InvokeFunction"), Principal: ptr("nobody")})
			return err
		},
	} {
		if wrong := (*types.InvalidParameterValueException)(nil); !errors.As(call(), &wrong) {
			t.Errorf("%v", call())
		}
	}
}

// A deployment as tools do it: a version is published, tried through an alias with a weight, and then takes over.
func TestGoSDKVersions(t *testing.T) {
	url, _, store := serve(t)
	place(t, store)
	ctx := t.Context()
	client := sdk.New(sdk.Options{
		BaseEndpoint: &url, Region: account.Region, Credentials: credentials.NewStaticCredentialsProvider("thaw", "thaw", ""),
		RetryMaxAttempts: 1, HTTPClient: ownbody.Client{},
	})
	active := func(version *string) {
		t.Helper()
		w := sdk.NewPublishedVersionActiveWaiter(client, func(o *sdk.PublishedVersionActiveWaiterOptions) {
			o.MinDelay, o.MaxDelay = time.Millisecond, 20*time.Millisecond
		})
		if err := w.Wait(ctx, &sdk.GetFunctionConfigurationInput{FunctionName: ptr("hello"), Qualifier: version}, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	in := createInput(t, "hello")
	in.Publish = true
	first, err := client.CreateFunction(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	active(first.Version)
	active(ptr(thaw.Latest))
	if _, err := client.CreateAlias(ctx, &sdk.CreateAliasInput{FunctionName: ptr("hello"), Name: ptr("live"), FunctionVersion: first.Version}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutProvisionedConcurrencyConfig(ctx, &sdk.PutProvisionedConcurrencyConfigInput{FunctionName: ptr("hello"), Qualifier: ptr("live"), ProvisionedConcurrentExecutions: aws.Int32(2)}); err != nil {
		t.Fatal(err)
	}
	second, err := client.UpdateFunctionCode(ctx, &sdk.UpdateFunctionCodeInput{FunctionName: ptr("hello"), ZipFile: zipOf(t, "2"), Publish: true})
	if err != nil {
		t.Fatal(err)
	}
	active(second.Version)
	canary, err := client.UpdateAlias(ctx, &sdk.UpdateAliasInput{FunctionName: ptr("hello"), Name: ptr("live"), RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{*second.Version: 0.05}}})
	if err != nil || canary.RoutingConfig.AdditionalVersionWeights["2"] != 0.05 || *canary.FunctionVersion != "1" {
		t.Fatalf("%+v %v", canary, err)
	}
	over, err := client.UpdateAlias(ctx, &sdk.UpdateAliasInput{FunctionName: ptr("hello"), Name: ptr("live"), FunctionVersion: second.Version, RoutingConfig: &types.AliasRoutingConfiguration{}, RevisionId: canary.RevisionId})
	if err != nil || over.RoutingConfig != nil || *over.FunctionVersion != "2" {
		t.Fatalf("%+v %v", over, err)
	}
	if f, _ := store.Function("hello"); f.ProvisionedFor("2") != 2 || f.ProvisionedFor("1") != 0 {
		t.Errorf("%+v", f.Provisioned)
	}
	_, err = client.GetProvisionedConcurrencyConfig(ctx, &sdk.GetProvisionedConcurrencyConfigInput{FunctionName: ptr("hello"), Qualifier: ptr("2")})
	if none := (*types.ProvisionedConcurrencyConfigNotFoundException)(nil); !errors.As(err, &none) {
		t.Errorf("%v", err)
	}
	_, err = client.UpdateAlias(ctx, &sdk.UpdateAliasInput{FunctionName: ptr("hello"), Name: ptr("live"), RevisionId: canary.RevisionId})
	if failed := (*types.PreconditionFailedException)(nil); !errors.As(err, &failed) {
		t.Errorf("%v", err)
	}
	n := 0
	for pages := sdk.NewListVersionsByFunctionPaginator(client, &sdk.ListVersionsByFunctionInput{FunctionName: ptr("hello")}, func(o *sdk.ListVersionsByFunctionPaginatorOptions) { o.Limit = 2 }); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n += len(page.Versions)
	}
	if n != 3 {
		t.Errorf("%d versions listed", n)
	}
}

func TestBoto3(t *testing.T) {
	for _, script := range []string{"boto3_session.py", "boto3_versions.py"} {
		t.Run(script, func(t *testing.T) {
			url, _, store := serve(t)
			place(t, store)
			zip := filepath.Join(t.TempDir(), "app.zip")
			if err := os.WriteFile(zip, zipOf(t, "hello"), 0o600); err != nil {
				t.Fatal(err)
			}
			apitest.Boto3(t, account.Region, "testdata/"+script, url, zip)
		})
	}
}
