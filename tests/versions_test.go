package tests

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw/tests/harness"
)

// tellingSource answers which code, version, way of initialisation and log stream it runs with.
const tellingSource = `
import os, time
def handler(event, context):
    time.sleep(event.get("sleep", 0))
    return {"code": CODE, "version": os.environ["AWS_LAMBDA_FUNCTION_VERSION"], "context": context.function_version,
        "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "stream": context.log_stream_name, "arn": context.invoked_function_arn}
`

type identity struct {
	Code                                int
	Version, Context, Type, Stream, ARN string
}

// versioned is a function with versions.
type versioned struct {
	*stage
	name string
}

func source(code string) string { return "CODE = " + code + "\n" + tellingSource }

// ask invokes a qualifier.
func (f *versioned) ask(t *testing.T, qualifier, event string) (identity, *answer) {
	t.Helper()
	a := f.invoke(t, f.name+":"+qualifier, event)
	var v identity
	if err := json.Unmarshal([]byte(a.payload), &v); err != nil {
		t.Fatalf("%s:%s: %s\n%s", f.name, qualifier, a.payload, a.tail)
	}
	return v, a
}

// update replaces the code of $LATEST.
func (f *versioned) update(t *testing.T, source string) {
	t.Helper()
	harness.Update(t, f.client, f.name, map[string]string{"f.py": source})
}

// publish makes a version and waits until it is Active.
func (f *versioned) publish(t *testing.T) string {
	t.Helper()
	v, err := f.client.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: &f.name})
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "version "+*v.Version+" is Active", func() bool {
		c, err := f.client.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &f.name, Qualifier: v.Version})
		return err == nil && c.State == types.StateActive
	})
	return *v.Version
}

func (f *versioned) point(t *testing.T, alias, version string) {
	t.Helper()
	if _, err := f.client.UpdateAlias(t.Context(), &lambda.UpdateAliasInput{FunctionName: &f.name, Name: &alias, FunctionVersion: &version}); err != nil {
		t.Fatal(err)
	}
}

// provision sets provisioned concurrency; 0 deletes it.
func (f *versioned) provision(t *testing.T, qualifier string, n int32) {
	t.Helper()
	var err error
	if n == 0 {
		_, err = f.client.DeleteProvisionedConcurrencyConfig(t.Context(), &lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: &f.name, Qualifier: &qualifier})
	} else {
		_, err = f.client.PutProvisionedConcurrencyConfig(t.Context(), &lambda.PutProvisionedConcurrencyConfigInput{FunctionName: &f.name, Qualifier: &qualifier, ProvisionedConcurrentExecutions: &n})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// awaitProvisioned waits until a qualifier's provisioned concurrency has a status.
func (f *versioned) awaitProvisioned(t *testing.T, qualifier string, want types.ProvisionedConcurrencyStatusEnum) (c *lambda.GetProvisionedConcurrencyConfigOutput) {
	t.Helper()
	harness.Eventually(t, f.name+":"+qualifier+" is "+string(want), func() bool {
		var err error
		c, err = f.client.GetProvisionedConcurrencyConfig(t.Context(), &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: &f.name, Qualifier: &qualifier})
		if err != nil {
			t.Fatal(err)
		}
		return c.Status == want
	})
	return c
}

// view is the native view.
func (f *versioned) view(t *testing.T) (v struct {
	Usage struct {
		SpilledOver int `json:"spilled_over"`
	}
	Versions []struct {
		Version     string
		Provisioned struct{ Wanted, Allocated, Available int }
	}
},
) {
	t.Helper()
	a := f.call(t, http.MethodGet, "/_thaw/functions/"+f.name, nil, nil)
	if err := json.Unmarshal([]byte(a.payload), &v); err != nil {
		t.Fatalf("%v: %s", err, a.payload)
	}
	return v
}

// available is how many provisioned environments a version has.
func (f *versioned) available(t *testing.T, version string) int {
	t.Helper()
	v := f.view(t)
	for i := range v.Versions {
		if v.Versions[i].Version == version {
			return v.Versions[i].Provisioned.Available
		}
	}
	return 0
}

// TestLifeOfVersions follows versions, aliases and provisioned concurrency through the shipped program, and over a restart.
func TestLifeOfVersions(t *testing.T) {
	data := t.TempDir()
	t.Cleanup(func() { harness.NothingLeft(t, data) })
	start := func() *stage {
		p := harness.Start(t, harness.Options{Config: forkConfig, Data: data})
		return &stage{Platform: p, client: p.Lambda()}
	}
	s := start()
	f := &versioned{stage: s, name: "told"}
	s.python(t, f.name, source("1"), deployed{})
	one := f.publish(t)
	if v, _ := f.ask(t, one, "{}"); v.Code != 1 || v.Version != one || v.Context != one || v.Type != "on-demand" || !strings.Contains(v.Stream, "/["+one+"]") {
		t.Errorf("version %s says %+v", one, v)
	}
	f.update(t, source("2"))
	if v, a := f.ask(t, one, "{}"); v.Code != 1 || a.explanation.Kind != "warm" {
		t.Errorf("after an update of $LATEST, version %s says %+v, a %s start", one, v, a.explanation.Kind)
	}
	if v, _ := f.ask(t, "$LATEST", "{}"); v.Code != 2 || !strings.Contains(v.Stream, "/[$LATEST]") {
		t.Errorf("$LATEST says %+v", v)
	}
	two := f.publish(t)
	if _, err := s.client.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: &f.name, Name: aws.String("live"), FunctionVersion: &one}); err != nil {
		t.Fatal(err)
	}

	const n = 2
	f.provision(t, "live", n)
	if c := f.awaitProvisioned(t, "live", types.ProvisionedConcurrencyStatusEnumReady); *c.AvailableProvisionedConcurrentExecutions != n || *c.AllocatedProvisionedConcurrentExecutions != n {
		t.Errorf("%d of %d are available", *c.AvailableProvisionedConcurrentExecutions, *c.AllocatedProvisionedConcurrentExecutions)
	}
	if v, a := f.ask(t, "live", "{}"); v.Type != "provisioned-concurrency" || v.Version != one || a.explanation.Kind != "provisioned" || !strings.HasSuffix(v.ARN, ":live") {
		t.Errorf("the alias says %+v, a %s start", v, a.explanation.Kind)
	}
	f.spillsOver(t, n)

	// The alias moves with what it has provisioned, and the old version can then go.
	f.point(t, "live", two)
	f.awaitProvisioned(t, "live", types.ProvisionedConcurrencyStatusEnumReady)
	harness.Eventually(t, "the old version's are given up", func() bool { return f.available(t, one) == 0 && f.available(t, two) == n })
	if v, _ := f.ask(t, "live", "{}"); v.Type != "provisioned-concurrency" || v.Code != 2 {
		t.Errorf("after its move, the alias says %+v", v)
	}
	if _, err := s.client.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: &f.name, Qualifier: &one}); err != nil {
		t.Fatal(err)
	}
	if a := s.call(t, http.MethodPost, "/2015-03-31/functions/told:"+one+"/invocations", nil, nil); a.status != http.StatusNotFound {
		t.Errorf("a version that was deleted answers %d %s", a.status, a.payload)
	}
	if v, a := f.ask(t, "live", "{}"); v.Code != 2 || a.explanation.Kind == "boot" {
		t.Errorf("after that, the alias says %+v, a %s start", v, a.explanation.Kind)
	}
	f.provision(t, "live", 1)
	harness.Eventually(t, "one is given back", func() bool { return f.available(t, two) == 1 })

	broken := &versioned{stage: s, name: "broken"}
	s.python(t, broken.name, "raise Exception('no')\n", deployed{})
	broken.provision(t, broken.publish(t), 1)
	if c := broken.awaitProvisioned(t, "1", types.ProvisionedConcurrencyStatusEnumFailed); aws.ToString(c.StatusReason) != "FUNCTION_ERROR_INIT_FAILURE" || *c.AvailableProvisionedConcurrentExecutions != 0 {
		t.Errorf("it failed because %q, with %d", aws.ToString(c.StatusReason), *c.AvailableProvisionedConcurrentExecutions)
	}
	broken.provision(t, "1", 0)

	cmd, out := s.thaw(t.Context(), t, "get", f.name)
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "version "+two+" is Active; provisioned environments: 1 of 1") {
		t.Errorf("thaw get: %v %s", err, out)
	}

	s.Stop()
	f.stage = start()
	f.awaitProvisioned(t, "live", types.ProvisionedConcurrencyStatusEnumReady)
	if v, a := f.ask(t, "live", "{}"); v.Type != "provisioned-concurrency" || v.Code != 2 || a.explanation.Kind != "provisioned" {
		t.Errorf("after a restart, the alias says %+v, a %s start", v, a.explanation.Kind)
	}
	f.provision(t, "live", 0)
	if n := f.available(t, two); n != 0 {
		harness.Eventually(t, "it is given back", func() bool { return f.available(t, two) == 0 })
	}
	if v, _ := f.ask(t, "live", "{}"); v.Type != "on-demand" {
		t.Errorf("without provisioned concurrency, the alias says %+v", v)
	}
}

// spillsOver sends one request more at once than are provisioned.
func (f *versioned) spillsOver(t *testing.T, n int) {
	t.Helper()
	before := f.view(t).Usage.SpilledOver
	types := make([]string, n+1)
	var calls sync.WaitGroup
	for i := range types {
		calls.Go(func() {
			a, err := f.tryCall(t.Context(), http.MethodPost, "/2015-03-31/functions/"+f.name+":live/invocations", nil, strings.NewReader(`{"sleep": 1}`))
			var v identity
			if err != nil || json.Unmarshal([]byte(a.payload), &v) != nil {
				t.Errorf("%v %+v", err, a)
			}
			types[i] = v.Type
		})
	}
	calls.Wait()
	spilled := 0
	for _, kind := range types {
		if kind == "on-demand" {
			spilled++
		}
	}
	if counted := f.view(t).Usage.SpilledOver - before; spilled != 1 || counted != 1 {
		t.Errorf("%d of %v ran on demand, and %d are counted", spilled, types, counted)
	}
}

// TestInactive has functions that nobody uses, on a platform that has little patience with them.
func TestInactive(t *testing.T) {
	data := t.TempDir()
	t.Cleanup(func() { harness.NothingLeft(t, data) })
	p := harness.Start(t, harness.Options{Config: forkConfig + "environments:\n  inactive_after: 2s\n", Data: data})
	f := &versioned{stage: &stage{Platform: p, client: p.Lambda()}, name: "idle"}
	f.python(t, f.name, source("1"), deployed{})
	one := f.publish(t)
	f.provision(t, one, 1)
	awaitIdle := func() {
		t.Helper()
		harness.Eventually(t, "$LATEST is Inactive", func() bool {
			c, err := f.client.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &f.name})
			return err == nil && c.State == types.StateInactive && c.StateReasonCode == types.StateReasonCodeIdle
		})
	}
	awaitIdle()
	if v := f.standing(t, f.name); v.Environments.Spares != 0 || v.Template.State != "" {
		t.Errorf("while it is inactive it has %+v", v)
	}
	if v, _ := f.ask(t, one, "{}"); v.Type != "provisioned-concurrency" {
		t.Errorf("a version with provisioned concurrency says %+v", v)
	}
	call := func() *answer {
		return f.call(t, http.MethodPost, "/2015-03-31/functions/idle/invocations", invokeHeaders, strings.NewReader("{}"))
	}
	if a := call(); a.status != http.StatusConflict || !strings.Contains(a.payload, "following state: Inactive") {
		t.Errorf("it answers %d %s", a.status, a.payload)
	}
	harness.Eventually(t, "it is back", func() bool { return call().status == http.StatusOK })
	awaitIdle()
	f.update(t, source("2"))
	if v, _ := f.ask(t, "$LATEST", "{}"); v.Code != 2 {
		t.Errorf("after an update it says %+v", v)
	}
}
