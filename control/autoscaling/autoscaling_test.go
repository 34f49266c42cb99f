package autoscaling

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"

	"thaw"
	"thaw/state"
	trigger "thaw/trigger/autoscaling"
)

func ptr[T any](v T) *T { return &v }

func registration(qualifier string) *sdk.RegisterScalableTargetInput {
	return &sdk.RegisterScalableTargetInput{
		ServiceNamespace: namespace, ResourceId: ptr("function:f:" + qualifier), ScalableDimension: dimension,
		MinCapacity: ptr[int32](1), MaxCapacity: ptr[int32](10),
	}
}

func action(qualifier, name string) *sdk.PutScheduledActionInput {
	return &sdk.PutScheduledActionInput{
		ServiceNamespace: namespace, ResourceId: ptr("function:f:" + qualifier), ScalableDimension: dimension,
		ScheduledActionName: &name, Schedule: ptr("rate(1 day)"), ScalableTargetAction: &types.ScalableTargetAction{MinCapacity: ptr[int32](1)},
	}
}

func (w *world) register(t testing.TB, qualifiers ...string) (arn string) {
	t.Helper()
	for _, q := range qualifiers {
		out, err := w.api.registerScalableTarget(t.Context(), registration(q))
		if err != nil {
			t.Fatal(err)
		}
		arn = *out.ScalableTargetARN
	}
	return arn
}

// wantCode checks the code of an error.
func wantCode(t testing.TB, err error, code thaw.ErrorCode) {
	t.Helper()
	if err == nil || thaw.CodeOf(err) != code {
		t.Errorf("%v, want %s", err, code)
	}
}

func TestPages(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	var want []string
	for i := range 25 {
		name := fmt.Sprintf("a%02d", i)
		w.f.Aliases[name] = thaw.Alias{Name: name, Version: "1"}
		w.register(t, name)
		want = append(want, "function:f:"+name)
		if _, err := w.api.putScalingPolicy(ctx, &sdk.PutScalingPolicyInput{
			ServiceNamespace: namespace, ResourceId: ptr("function:f:" + name), ScalableDimension: dimension, PolicyName: ptr("p"), PolicyType: types.PolicyTypeTargetTrackingScaling,
			TargetTrackingScalingPolicyConfiguration: &types.TargetTrackingScalingPolicyConfiguration{TargetValue: ptr(0.7), PredefinedMetricSpecification: &types.PredefinedMetricSpecification{PredefinedMetricType: types.MetricTypeLambdaProvisionedConcurrencyUtilization}},
		}); err != nil {
			t.Fatal(err)
		}
		for _, action := range []*sdk.PutScheduledActionInput{action(name, "x"), action(name, "w")} {
			if _, err := w.api.putScheduledAction(ctx, action); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.pass(t, 0)
	collect := func(list func(token *string) ([]string, *string, error)) (all []string, pages int) {
		t.Helper()
		var token *string
		for {
			part, next, err := list(token)
			if err != nil {
				t.Fatal(err)
			}
			all, pages = append(all, part...), pages+1
			if next == nil {
				return all, pages
			}
			token = next
		}
	}
	got, pages := collect(func(token *string) (ids []string, next *string, err error) {
		out, err := w.api.describeScalableTargets(ctx, &sdk.DescribeScalableTargetsInput{ServiceNamespace: namespace, NextToken: token, MaxResults: ptr[int32](7)})
		for i := range out.ScalableTargets {
			ids = append(ids, *out.ScalableTargets[i].ResourceId)
		}
		return ids, out.NextToken, err
	})
	if !slices.Equal(got, want) || pages != 4 {
		t.Errorf("targets on %d pages: %v", pages, got)
	}
	got, pages = collect(func(token *string) (ids []string, next *string, err error) {
		out, err := w.api.describeScalingPolicies(ctx, &sdk.DescribeScalingPoliciesInput{ServiceNamespace: namespace, NextToken: token})
		for i := range out.ScalingPolicies {
			ids = append(ids, *out.ScalingPolicies[i].ResourceId)
		}
		return ids, out.NextToken, err
	})
	if !slices.Equal(got, want) || pages != 3 {
		t.Errorf("policies on %d pages: %v", pages, got)
	}
	got, pages = collect(func(token *string) (ids []string, next *string, err error) {
		out, err := w.api.describeScheduledActions(ctx, &sdk.DescribeScheduledActionsInput{ServiceNamespace: namespace, NextToken: token, MaxResults: ptr[int32](50)})
		for i := range out.ScheduledActions {
			ids = append(ids, *out.ScheduledActions[i].ResourceId+*out.ScheduledActions[i].ScheduledActionName)
		}
		return ids, out.NextToken, err
	})
	if len(got) != 50 || pages != 1 || !slices.IsSorted(got) {
		t.Errorf("%d actions on %d pages: %v", len(got), pages, got)
	}
	got, pages = collect(func(token *string) (ids []string, next *string, err error) {
		out, err := w.api.describeScalingActivities(ctx, &sdk.DescribeScalingActivitiesInput{ServiceNamespace: namespace, NextToken: token, MaxResults: ptr[int32](10)})
		for i := range out.ScalingActivities {
			ids = append(ids, *out.ScalingActivities[i].ResourceId)
		}
		return ids, out.NextToken, err
	})
	if !slices.Equal(got, want) || pages != 3 {
		t.Errorf("activities on %d pages: %v", pages, got)
	}
	out, err := w.api.describeScalingPolicies(ctx, &sdk.DescribeScalingPoliciesInput{ServiceNamespace: namespace, PolicyNames: []string{"q"}})
	if err != nil || len(out.ScalingPolicies) != 0 {
		t.Errorf("policies of another name: %v, %v", out.ScalingPolicies, err)
	}
	if out, err := w.api.describeScheduledActions(ctx, &sdk.DescribeScheduledActionsInput{ServiceNamespace: namespace, ResourceId: ptr("function:f:a03"), ScheduledActionNames: []string{"x"}}); err != nil || len(out.ScheduledActions) != 1 {
		t.Errorf("one action: %v, %v", out, err)
	}
}

func TestQuotas(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	for i := range maxTargets - 5 {
		if err := w.api.records.Create(ctx, &trigger.Target{Function: "f", Qualifier: fmt.Sprint("old", i), ID: newID()}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		name := fmt.Sprint("a", i)
		w.f.Aliases[name] = thaw.Alias{Name: name, Version: "1"}
	}
	var wg sync.WaitGroup
	refused := make(chan error, 10)
	for i := range 10 {
		wg.Go(func() {
			if _, err := w.api.registerScalableTarget(ctx, registration(fmt.Sprint("a", i))); err != nil {
				refused <- err
			}
		})
	}
	wg.Wait()
	close(refused)
	n := 0
	for err := range refused {
		wantCode(t, err, thaw.CodeQuotaExceeded)
		n++
	}
	if n != 5 {
		t.Errorf("%d were refused, want 5", n)
	}

	targets, err := w.api.records.Targets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	q := targets[0].Qualifier
	for i := range maxActions {
		if _, err := w.api.putScheduledAction(ctx, action(q, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.api.putScheduledAction(ctx, action(q, "one more"))
	wantCode(t, err, thaw.CodeQuotaExceeded)
	if _, err = w.api.putScheduledAction(ctx, action(q, "7")); err != nil {
		t.Errorf("one that is there: %v", err)
	}
}

func TestTags(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	arn := w.register(t, "live")
	if again := w.register(t, "live"); again != arn {
		t.Errorf("the ARN changed from %s to %s", arn, again)
	}
	many := map[string]string{}
	for i := range maxTags - 1 {
		many[fmt.Sprint(i)] = "v"
	}
	for _, tags := range []map[string]string{{"a": "1"}, {"A": "2", "a": "3"}} {
		if _, err := w.api.tagResource(ctx, &sdk.TagResourceInput{ResourceARN: &arn, Tags: tags}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.api.tagResource(ctx, &sdk.TagResourceInput{ResourceARN: &arn, Tags: many})
	wantCode(t, err, thaw.CodeTooManyTags)
	if _, err := w.api.untagResource(ctx, &sdk.UntagResourceInput{ResourceARN: &arn, TagKeys: []string{"A", "none"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.api.tagResource(ctx, &sdk.TagResourceInput{ResourceARN: &arn, Tags: many}); err != nil {
		t.Fatal(err)
	}
	out, err := w.api.listTagsForResource(ctx, &sdk.ListTagsForResourceInput{ResourceARN: &arn})
	if err != nil || len(out.Tags) != maxTags || out.Tags["a"] != "3" {
		t.Errorf("%v, %v", out, err)
	}
	if _, err := w.api.deregisterScalableTarget(ctx, &sdk.DeregisterScalableTargetInput{ServiceNamespace: namespace, ResourceId: ptr("function:f:live"), ScalableDimension: dimension}); err != nil {
		t.Fatal(err)
	}
	w.register(t, "live")
	_, err = w.api.listTagsForResource(ctx, &sdk.ListTagsForResourceInput{ResourceARN: &arn})
	wantCode(t, err, thaw.CodeResourceNotFound)
}

// TestBesideTheLoop changes a target from many sides while the loop works on it: nothing of it gets lost.
func TestBesideTheLoop(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.register(t, "live")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 5 {
				if _, err := w.api.putScheduledAction(ctx, action("live", fmt.Sprint(i, j))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 10 {
		w.pass(t, 25e9)
	}
	wg.Wait()
	out, err := w.api.describeScheduledActions(ctx, &sdk.DescribeScheduledActionsInput{ServiceNamespace: namespace})
	if err != nil || len(out.ScheduledActions) != 40 {
		t.Errorf("%d actions, %v", len(out.ScheduledActions), err)
	}
}

// TestNothingIsStoredOfARefusedRequest registers with a tag that is refused after the bounds were taken.
func TestNothingIsStoredOfARefusedRequest(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.register(t, "live")
	in := registration("live")
	in.MinCapacity, in.Tags = aws.Int32(5), map[string]string{"AWS:x": ""}
	_, err := w.api.registerScalableTarget(ctx, in)
	wantCode(t, err, thaw.CodeValidation)
	if target, err := w.api.records.Target(ctx, "function:f:live"); err != nil || target.Min != 1 {
		t.Errorf("%+v, %v", target, err)
	}
	in.ResourceId = aws.String("function:f:other")
	_, err = w.api.registerScalableTarget(ctx, in)
	wantCode(t, err, thaw.CodeValidation)
	if _, err := w.api.records.Target(ctx, "function:f:other"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
