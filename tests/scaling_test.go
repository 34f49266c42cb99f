package tests

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	scaling "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	scalingtypes "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw/internal/ownbody"
	"thaw/tests/harness"
)

const (
	scaledNamespace = scalingtypes.ServiceNamespaceLambda
	scaledDimension = scalingtypes.ScalableDimensionLambdaFunctionProvisionedConcurrency
)

// scaled is an alias whose provisioned concurrency follows its load.
type scaled struct {
	*versioned
	scaling *scaling.Client
	alias   string
}

func (s *scaled) resource() *string { return aws.String("function:" + s.name + ":" + s.alias) }

func (s *scaled) register(t *testing.T, in *scaling.RegisterScalableTargetInput) {
	t.Helper()
	in.ServiceNamespace, in.ScalableDimension, in.ResourceId = scaledNamespace, scaledDimension, s.resource()
	if _, err := s.scaling.RegisterScalableTarget(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

func (s *scaled) schedule(t *testing.T, name, expression string, start *time.Time, lowest, highest int32) {
	t.Helper()
	_, err := s.scaling.PutScheduledAction(t.Context(), &scaling.PutScheduledActionInput{
		ServiceNamespace: scaledNamespace, ScalableDimension: scaledDimension, ResourceId: s.resource(),
		ScheduledActionName: &name, Schedule: &expression, StartTime: start,
		ScalableTargetAction: &scalingtypes.ScalableTargetAction{MinCapacity: &lowest, MaxCapacity: &highest},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// capacity is what is asked for and what is there.
func (s *scaled) capacity(t *testing.T) (asked, there int) {
	t.Helper()
	c, err := s.client.GetProvisionedConcurrencyConfig(t.Context(), &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: &s.name, Qualifier: &s.alias})
	if harness.Code(err) == "ProvisionedConcurrencyConfigNotFoundException" {
		return 0, 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return int(*c.RequestedProvisionedConcurrentExecutions), int(*c.AvailableProvisionedConcurrentExecutions)
}

func (s *scaled) awaitCapacity(t *testing.T, n int) {
	t.Helper()
	harness.Eventually(t, "the capacity is as it has to be", func() bool {
		asked, there := s.capacity(t)
		return asked == n && there == n
	})
}

func (s *scaled) activities(t *testing.T) []scalingtypes.ScalingActivity {
	t.Helper()
	out, err := s.scaling.DescribeScalingActivities(t.Context(), &scaling.DescribeScalingActivitiesInput{
		ServiceNamespace: scaledNamespace, ResourceId: s.resource(), ScalableDimension: scaledDimension, IncludeNotScaledActivities: aws.Bool(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.ScalingActivities
}

// tells reports whether an activity with this status has these words in its cause and its description.
func (s *scaled) tells(t *testing.T, status scalingtypes.ScalingActivityStatusCode, cause, description string) bool {
	t.Helper()
	return slices.ContainsFunc(s.activities(t), func(a scalingtypes.ScalingActivity) bool {
		return a.StatusCode == status && strings.Contains(*a.Cause, cause) && strings.Contains(*a.Description, description)
	})
}

// load has clients invoke the alias without a pause.
func (s *scaled) load(t *testing.T, clients int) (stop func()) {
	t.Helper()
	var over atomic.Bool
	var callers sync.WaitGroup
	for range clients {
		callers.Go(func() {
			for !over.Load() && !t.Failed() {
				a, err := s.tryCall(t.Context(), http.MethodPost, "/2015-03-31/functions/"+s.name+":"+s.alias+"/invocations", nil, strings.NewReader(`{"sleep": 0.5}`))
				if err != nil || a.status != http.StatusOK || a.header.Get("X-Amz-Function-Error") != "" {
					t.Errorf("under load: %v %+v", err, a)
				}
			}
		})
	}
	return func() { over.Store(true); callers.Wait() }
}

// TestScaling follows what Application Auto Scaling does to real environments: by load, by time, and not while suspended.
func TestScaling(t *testing.T) {
	environments := newRuntimes(t)
	data := t.TempDir()
	t.Cleanup(func() { harness.NothingLeft(t, data) })
	p := harness.Start(t, harness.Options{Config: forkConfig + "environments:\n  spares: 0\n", Data: data})
	stage := &stage{Platform: p, client: p.Lambda()}
	client := scaling.New(scaling.Options{
		BaseEndpoint: &p.URL, Region: "us-east-1", RetryMaxAttempts: 1, HTTPClient: ownbody.Client{},
		Credentials: credentials.NewStaticCredentialsProvider("thaw-test-access-key", "thaw-test-secret-key", ""),
	})
	make := func(name string) *scaled {
		s := &scaled{versioned: &versioned{stage: stage, name: name}, scaling: client, alias: "live"}
		s.python(t, name, source("1"), deployed{})
		one := s.publish(t)
		if _, err := s.client.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: &s.name, Name: &s.alias, FunctionVersion: &one}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	s, clock := make("followed"), make("clocked")
	defer func() {
		if !t.Failed() {
			return
		}
		for _, s := range []*scaled{s, clock} {
			asked, there := s.capacity(t)
			t.Logf("%s has %d of %d", s.name, there, asked)
			for _, a := range s.activities(t) {
				t.Logf("  %s %s %s: %s %s %+v", a.StartTime.Format(time.TimeOnly), a.StatusCode, *a.Description, *a.Cause, aws.ToString(a.StatusMessage), a.NotScaledReasons)
			}
		}
	}()
	s.register(t, &scaling.RegisterScalableTargetInput{
		MinCapacity: aws.Int32(1), MaxCapacity: aws.Int32(5),
		SuspendedState: &scalingtypes.SuspendedState{DynamicScalingOutSuspended: aws.Bool(true), ScheduledScalingSuspended: aws.Bool(true)},
	})
	if _, err := client.PutScalingPolicy(t.Context(), &scaling.PutScalingPolicyInput{
		ServiceNamespace: scaledNamespace, ScalableDimension: scaledDimension, ResourceId: s.resource(),
		PolicyName: aws.String("track"), PolicyType: scalingtypes.PolicyTypeTargetTrackingScaling,
		TargetTrackingScalingPolicyConfiguration: &scalingtypes.TargetTrackingScalingPolicyConfiguration{
			TargetValue:                   aws.Float64(0.7),
			PredefinedMetricSpecification: &scalingtypes.PredefinedMetricSpecification{PredefinedMetricType: scalingtypes.MetricTypeLambdaProvisionedConcurrencyUtilization},
		},
	}); err != nil {
		t.Fatal(err)
	}
	s.awaitCapacity(t, 1) // the minimum
	if n := len(environments(stage)); n != 1 {
		t.Errorf("a capacity of 1 is %d processes", n)
	}

	// While it is suspended neither load nor time changes anything; the other target's action shows that the time has come.
	stop := s.load(t, 6)
	defer func() { stop() }()
	clock.register(t, &scaling.RegisterScalableTargetInput{MinCapacity: aws.Int32(0), MaxCapacity: aws.Int32(9)})
	soon := time.Now().UTC().Add(3 * time.Second)
	at := "at(" + soon.Format("2006-01-02T15:04:05") + ")"
	s.schedule(t, "suspended", at, nil, 2, 5)
	clock.schedule(t, "once", at, nil, 2, 9)
	clock.awaitCapacity(t, 2)
	if asked, _ := s.capacity(t); asked != 1 {
		t.Errorf("although scaling is suspended, the capacity is %d", asked)
	}
	harness.Eventually(t, "the activities tell of it", func() bool {
		return clock.tells(t, scalingtypes.ScalingActivityStatusCodeSuccessful, "minimum capacity was set to 2", "Setting desired concurrency to 2.")
	})
	start := time.Now().Add(-58 * time.Second) // a rate counts from here
	clock.schedule(t, "rate", "rate(1 minute)", &start, 3, 9)
	clock.awaitCapacity(t, 3)

	s.register(t, &scaling.RegisterScalableTargetInput{SuspendedState: &scalingtypes.SuspendedState{DynamicScalingOutSuspended: aws.Bool(false), ScheduledScalingSuspended: aws.Bool(false)}})
	s.awaitCapacity(t, 5) // six at once, of which the maximum lets five be
	harness.Eventually(t, "the activities tell of it", func() bool {
		return s.tells(t, scalingtypes.ScalingActivityStatusCodeSuccessful, "triggered policy track", "Setting desired concurrency to 5.")
	})
	harness.Eventually(t, "the activities tell why it is no more", func() bool {
		return slices.ContainsFunc(s.activities(t), func(a scalingtypes.ScalingActivity) bool {
			return len(a.NotScaledReasons) == 1 && *a.NotScaledReasons[0].Code == "AlreadyAtMaxCapacity"
		})
	})
	stop()
	stop = func() {}
	s.awaitCapacity(t, 1)
	harness.Eventually(t, "the activities tell of that, too", func() bool {
		return s.tells(t, scalingtypes.ScalingActivityStatusCodeSuccessful, "triggered policy track", "Setting desired concurrency to 1.")
	})

	// Without a target nothing scales any more; what there was stays, as on AWS.
	if _, err := client.DeregisterScalableTarget(t.Context(), &scaling.DeregisterScalableTargetInput{ServiceNamespace: scaledNamespace, ScalableDimension: scaledDimension, ResourceId: s.resource()}); err != nil {
		t.Fatal(err)
	}
	policies, err := client.DescribeScalingPolicies(t.Context(), &scaling.DescribeScalingPoliciesInput{ServiceNamespace: scaledNamespace, ResourceId: s.resource()})
	if err != nil || len(policies.ScalingPolicies) != 0 {
		t.Errorf("%v, policies of a target that is not there: %+v", err, policies)
	}
	actions, err := client.DescribeScheduledActions(t.Context(), &scaling.DescribeScheduledActionsInput{ServiceNamespace: scaledNamespace, ResourceId: s.resource()})
	if err != nil || len(actions.ScheduledActions) != 0 {
		t.Errorf("%v, actions of a target that is not there: %+v", err, actions)
	}
	stop = s.load(t, 6)
	soon = time.Now().UTC().Add(3 * time.Second)
	clock.schedule(t, "later", "at("+soon.Format("2006-01-02T15:04:05")+")", nil, 4, 9)
	clock.awaitCapacity(t, 4)
	if asked, there := s.capacity(t); asked != 1 || there != 1 {
		t.Errorf("without a target the capacity is %d of %d", there, asked)
	}
	s.awaitProvisioned(t, s.alias, types.ProvisionedConcurrencyStatusEnumReady)
}
