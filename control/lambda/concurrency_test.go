package lambda

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw"
)

// Functions that reserve at once never take more than the account has.
func TestReservationsAtOnce(t *testing.T) {
	a, store := newAPI(t)
	const n = 20
	for i := range n {
		active(t, a, store, numbered(i))
		publish(t, a, numbered(i))
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = a.putFunctionConcurrency(t.Context(), &sdk.PutFunctionConcurrencyInput{FunctionName: ptr(numbered(i)), ReservedConcurrentExecutions: aws.Int32(170)})
			} else {
				_, err = a.putProvisionedConcurrencyConfig(t.Context(), &sdk.PutProvisionedConcurrencyConfigInput{FunctionName: ptr(numbered(i)), Qualifier: ptr("1"), ProvisionedConcurrentExecutions: aws.Int32(170)})
			}
			if err != nil && !errors.Is(err, &thaw.Error{Code: thaw.CodeInvalidParameterValue}) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	out, err := a.getAccountSettings(t.Context(), nil)
	if err != nil || *out.AccountLimit.UnreservedConcurrentExecutions != 1000-5*170 {
		t.Errorf("%d unreserved, %v", *out.AccountLimit.UnreservedConcurrentExecutions, err)
	}
}

// What is there when the account's limit is lowered can be kept and lowered, not raised.
func TestLimitLoweredBelowClaims(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	publish(t, a, "f")
	reserve := func(n int32) error {
		_, err := a.putFunctionConcurrency(t.Context(), &sdk.PutFunctionConcurrencyInput{FunctionName: ptr("f"), ReservedConcurrentExecutions: &n})
		return err
	}
	if err := reserve(500); err != nil {
		t.Fatal(err)
	}
	a.cfg.Limits.ConcurrentExecutions = 50
	out, err := a.getAccountSettings(t.Context(), nil)
	if err != nil || *out.AccountLimit.UnreservedConcurrentExecutions != 0 {
		t.Errorf("%+v %v", out.AccountLimit, err)
	}
	if err := reserve(400); err != nil {
		t.Error(err)
	}
	const floor = "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [50]."
	wantError(t, reserve(401), thaw.CodeInvalidParameterValue, floor)
	if err := reserve(0); err != nil {
		t.Error(err)
	}
	wantError(t, reserve(1), thaw.CodeInvalidParameterValue, floor)
}

func TestLimitLoweredBelowProvisioned(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	publish(t, a, "f")
	provision := func(n int32) error {
		_, err := a.putProvisionedConcurrencyConfig(t.Context(), &sdk.PutProvisionedConcurrencyConfigInput{FunctionName: ptr("f"), Qualifier: ptr("1"), ProvisionedConcurrentExecutions: &n})
		return err
	}
	if err := provision(500); err != nil {
		t.Fatal(err)
	}
	a.cfg.Limits.ConcurrentExecutions = 200
	if err := provision(400); err != nil {
		t.Error(err)
	}
	wantError(t, provision(401), thaw.CodeInvalidParameterValue, "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [200].")
}

func TestProvision(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	publish(t, a, "f")
	requested := func(n int) {
		t.Helper()
		if f, _ := store.Function("f"); f.ProvisionedFor("1") != n || n == 0 && len(f.Provisioned) != 0 {
			t.Errorf("%+v, want %d", f.Provisioned, n)
		}
	}
	for _, n := range []int{3, 5, 0, 0} {
		if err := a.Provision(t.Context(), "f", "1", n); err != nil {
			t.Fatal(err)
		}
		requested(n)
	}
	wantError(t, a.Provision(t.Context(), "f", "1", 901), thaw.CodeInvalidParameterValue, "")
	wantError(t, a.Provision(t.Context(), "f", thaw.Latest, 1), thaw.CodeInvalidParameterValue, "Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
	wantError(t, a.Provision(t.Context(), "f", "live", 0), thaw.CodeResourceNotFound, "Cannot find alias arn: "+arnF+":live")
	wantError(t, a.Provision(t.Context(), "none", "1", 1), thaw.CodeResourceNotFound, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:none:1")
	requested(0)
}

func TestCapacityShown(t *testing.T) {
	node := map[string]thaw.Capacity{
		"1":    {Allocated: 3, Available: 1, Status: thaw.ProvisionedInProgress},
		"live": {Status: thaw.ProvisionedFailed, Reason: "FUNCTION_ERROR_INIT_FAILURE"},
	}
	a, store := newAPI(t, func(c *Config) {
		c.Capacity = func(function, qualifier string) thaw.Capacity {
			if function != "f" {
				t.Errorf("asked for %s", function)
			}
			return node[qualifier]
		}
	})
	active(t, a, store, "f")
	publish(t, a, "f")
	change(t, a, store, "f", "d")
	publish(t, a, "f")
	if _, err := a.createAlias(t.Context(), &sdk.CreateAliasInput{FunctionName: ptr("f"), Name: ptr("live"), FunctionVersion: ptr("2")}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"f:1", arnF + ":live"} {
		if _, err := a.putProvisionedConcurrencyConfig(t.Context(), &sdk.PutProvisionedConcurrencyConfigInput{FunctionName: &name, ProvisionedConcurrentExecutions: aws.Int32(3)}); err != nil {
			t.Fatal(err)
		}
	}
	get := func(q string) string {
		out, err := a.getProvisionedConcurrencyConfig(t.Context(), &sdk.GetProvisionedConcurrencyConfigInput{FunctionName: ptr("f"), Qualifier: &q})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d %d %d %s %s", *out.RequestedProvisionedConcurrentExecutions, *out.AllocatedProvisionedConcurrentExecutions, *out.AvailableProvisionedConcurrentExecutions, out.Status, aws.ToString(out.StatusReason))
	}
	if got := get("1"); got != "3 3 1 IN_PROGRESS " {
		t.Error(got)
	}
	if got := get("live"); got != "3 0 0 FAILED FUNCTION_ERROR_INIT_FAILURE" {
		t.Error(got)
	}
	node["1"] = thaw.Capacity{Allocated: 3, Available: 3, Status: thaw.ProvisionedReady}
	out, err := a.listProvisionedConcurrencyConfigs(t.Context(), &sdk.ListProvisionedConcurrencyConfigsInput{FunctionName: ptr("f"), MaxItems: aws.Int32(1)})
	if err != nil || len(out.ProvisionedConcurrencyConfigs) != 1 || out.NextMarker == nil || out.ProvisionedConcurrencyConfigs[0].Status != "READY" || *out.ProvisionedConcurrencyConfigs[0].FunctionArn != arnF+":1" {
		t.Errorf("%+v %v", out, err)
	}
	f, _ := store.Function("f")
	if f.ProvisionedFor("1") != 3 || f.ProvisionedFor("2") != 3 || f.TotalProvisioned() != 6 {
		t.Errorf("%+v", f.Provisioned)
	}
	// The alias takes its share along, to a version without provisioned concurrency of its own.
	if _, err := a.deleteProvisionedConcurrencyConfig(t.Context(), &sdk.DeleteProvisionedConcurrencyConfigInput{FunctionName: ptr("f"), Qualifier: ptr("1")}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.updateAlias(t.Context(), &sdk.UpdateAliasInput{FunctionName: ptr("f"), Name: ptr("live"), FunctionVersion: ptr("1")}); err != nil {
		t.Fatal(err)
	}
	if f, _ = store.Function("f"); f.ProvisionedFor("1") != 3 || f.ProvisionedFor("2") != 0 {
		t.Errorf("%+v %+v", f.Provisioned, f.Aliases)
	}
	_, err = a.putProvisionedConcurrencyConfig(t.Context(), &sdk.PutProvisionedConcurrencyConfigInput{FunctionName: ptr("f"), Qualifier: ptr(""), ProvisionedConcurrentExecutions: aws.Int32(3)})
	wantError(t, err, thaw.CodeInvalidParameterValue, "The function resource provided must be an alias or a published version.")
}
