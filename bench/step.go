package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	scaling "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw/scripts/platform"
)

// The step of load: from nothing to so many in flight, and how provisioned concurrency follows.
const (
	stepLoad   = 8
	stepTarget = 0.7
	stepMin    = 1
	stepMax    = 10
	stepRuns   = 5
	stepLimit  = time.Minute // when what does not come has failed
	stepPoll   = 10 * time.Millisecond
)

// stepNeeds is the capacity of which the load is the target's share, as far as the maximum allows it.
var stepNeeds = min(int(math.Ceil(stepLoad/stepTarget)), stepMax)

// stepResult is how long it took from the step until provisioned environments were there, in each run, sorted.
type stepResult struct {
	First   latencies // until there was one more than at the minimum
	Load    latencies // until each request in flight had one
	Needed  latencies // until all that the target asks for were there
	Calls   int       // in all runs, until then
	Spilled int       // of Calls, on demand
}

func measureStep(ctx context.Context, o *options, sleep *platform.Example, f *findings) error {
	runs := stepRuns
	if o.quick {
		runs = 1
	}
	r := &stepResult{}
	return withSettings(ctx, o, defaultSpares, func(p *platform.Platform) error {
		for run := range runs {
			say(fmt.Sprintf("a step of load, run %d of %d", run+1, runs))
			e := *sleep
			e.Name = fmt.Sprintf("%s-step-%d", sleep.Name, run)
			if err := r.measure(ctx, p, &e); err != nil {
				return fmt.Errorf("step of load: %w", err)
			}
		}
		for _, l := range []latencies{r.First, r.Load, r.Needed} {
			slices.Sort(l)
		}
		f.Step = r
		return nil
	})
}

// scaled is a version whose provisioned concurrency is scaled.
type scaled struct {
	functions *lambda.Client
	scaling   *applicationautoscaling.Client
	name      string
	version   string
}

func (s *scaled) id() *string { return aws.String("function:" + s.name + ":" + s.version) }

func (r *stepResult) measure(ctx context.Context, p *platform.Platform, e *platform.Example) error {
	s := &scaled{
		functions: lambda.New(lambda.Options{BaseEndpoint: endpointOf(p), Region: anyRegion, Credentials: anyKey}),
		scaling:   applicationautoscaling.New(applicationautoscaling.Options{BaseEndpoint: endpointOf(p), Region: anyRegion, Credentials: anyKey}),
		name:      e.Name,
	}
	if err := p.Deploy(ctx, e); err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	if err := r.step(ctx, p, s); err != nil {
		return err
	}
	if _, err := s.scaling.DeregisterScalableTarget(ctx, &applicationautoscaling.DeregisterScalableTargetInput{
		ServiceNamespace: scaling.ServiceNamespaceLambda, ScalableDimension: scaling.ScalableDimensionLambdaFunctionProvisionedConcurrency, ResourceId: s.id(),
	}); err != nil {
		return err
	}
	return p.Run(ctx, nil, "delete", s.name)
}

// prepare publishes a version and has it scaled, and returns when the least capacity is there.
func (s *scaled) prepare(ctx context.Context) error {
	v, err := s.functions.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: &s.name})
	if err != nil {
		return err
	}
	s.version = *v.Version
	if err := poll(ctx, func() (bool, error) {
		c, err := s.functions.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &s.name, Qualifier: &s.version})
		return err == nil && c.State == types.StateActive, err
	}); err != nil {
		return fmt.Errorf("version %s is not Active: %w", s.version, err)
	}
	if _, err := s.functions.PutProvisionedConcurrencyConfig(ctx, &lambda.PutProvisionedConcurrencyConfigInput{
		FunctionName: &s.name, Qualifier: &s.version, ProvisionedConcurrentExecutions: aws.Int32(stepMin),
	}); err != nil {
		return err
	}
	if _, err := s.scaling.RegisterScalableTarget(ctx, &applicationautoscaling.RegisterScalableTargetInput{
		ServiceNamespace: scaling.ServiceNamespaceLambda, ScalableDimension: scaling.ScalableDimensionLambdaFunctionProvisionedConcurrency,
		ResourceId: s.id(), MinCapacity: aws.Int32(stepMin), MaxCapacity: aws.Int32(stepMax),
	}); err != nil {
		return err
	}
	if _, err := s.scaling.PutScalingPolicy(ctx, &applicationautoscaling.PutScalingPolicyInput{
		ServiceNamespace: scaling.ServiceNamespaceLambda, ScalableDimension: scaling.ScalableDimensionLambdaFunctionProvisionedConcurrency,
		ResourceId: s.id(), PolicyName: aws.String("utilization"), PolicyType: scaling.PolicyTypeTargetTrackingScaling,
		TargetTrackingScalingPolicyConfiguration: &scaling.TargetTrackingScalingPolicyConfiguration{
			TargetValue: aws.Float64(stepTarget),
			PredefinedMetricSpecification: &scaling.PredefinedMetricSpecification{
				PredefinedMetricType: scaling.MetricTypeLambdaProvisionedConcurrencyUtilization,
			},
		},
	}); err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		n, err := s.available(ctx)
		return n >= stepMin, err
	})
}

func (s *scaled) available(ctx context.Context) (int, error) {
	c, err := s.functions.GetProvisionedConcurrencyConfig(ctx, &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: &s.name, Qualifier: &s.version})
	if err != nil {
		return 0, err
	}
	return int(aws.ToInt32(c.AvailableProvisionedConcurrentExecutions)), nil
}

// step begins the load and watches the capacity until all that is needed is there.
func (r *stepResult) step(ctx context.Context, p *platform.Platform, s *scaled) error {
	conns, err := dialMany(ctx, &target{url: invokeURL(p, s.name+":"+s.version)}, stepLoad)
	defer hangUp(conns)
	if err != nil {
		return err
	}
	loaded, stop := context.WithCancel(ctx)
	defer stop()
	load := make(chan error, 1)
	begin := time.Now()
	go func() {
		_, err := everyone(loaded, conns, stepLimit)
		load <- err
	}()
	marks := []struct {
		capacity int
		took     *latencies
	}{{stepMin + 1, &r.First}, {stepLoad, &r.Load}, {stepNeeds, &r.Needed}}
	err = poll(ctx, func() (bool, error) {
		n, err := s.available(ctx)
		for len(marks) > 0 && n >= marks[0].capacity {
			*marks[0].took = append(*marks[0].took, time.Since(begin))
			marks = marks[1:]
		}
		return len(marks) == 0, err
	})
	v, err2 := lookAt(ctx, p, s.name)
	stop()
	if err := errors.Join(err, err2, <-load); err != nil {
		return err
	}
	r.Calls += v.Usage.Invocations
	r.Spilled += v.Usage.SpilledOver
	return nil
}

// poll asks again and again until it is so.
func poll(ctx context.Context, so func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	for {
		ok, err := so()
		if ok || err != nil {
			return err
		}
		if err := wait(ctx, stepPoll); err != nil {
			return err
		}
	}
}
