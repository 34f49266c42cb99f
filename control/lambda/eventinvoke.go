package lambda

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
)

// eventInvoke holds the members that PutFunctionEventInvokeConfig and UpdateFunctionEventInvokeConfig share.
type eventInvoke struct {
	maxAge, maxRetries *int32
	destinations       *types.DestinationConfig
}

func (a *API) putFunctionEventInvokeConfig(ctx context.Context, in *sdk.PutFunctionEventInvokeConfigInput) (*sdk.PutFunctionEventInvokeConfigOutput, error) {
	asked := eventInvoke{in.MaximumEventAgeInSeconds, in.MaximumRetryAttempts, in.DestinationConfig}
	c, err := a.setEventInvoke(ctx, "PutFunctionEventInvokeConfig", in.FunctionName, in.Qualifier, &asked, true)
	if err != nil {
		return nil, err
	}
	return &sdk.PutFunctionEventInvokeConfigOutput{DestinationConfig: c.DestinationConfig, FunctionArn: c.FunctionArn, LastModified: c.LastModified, MaximumEventAgeInSeconds: c.MaximumEventAgeInSeconds, MaximumRetryAttempts: c.MaximumRetryAttempts}, nil
}

func (a *API) updateFunctionEventInvokeConfig(ctx context.Context, in *sdk.UpdateFunctionEventInvokeConfigInput) (*sdk.UpdateFunctionEventInvokeConfigOutput, error) {
	asked := eventInvoke{in.MaximumEventAgeInSeconds, in.MaximumRetryAttempts, in.DestinationConfig}
	c, err := a.setEventInvoke(ctx, "UpdateFunctionEventInvokeConfig", in.FunctionName, in.Qualifier, &asked, false)
	if err != nil {
		return nil, err
	}
	return &sdk.UpdateFunctionEventInvokeConfigOutput{DestinationConfig: c.DestinationConfig, FunctionArn: c.FunctionArn, LastModified: c.LastModified, MaximumEventAgeInSeconds: c.MaximumEventAgeInSeconds, MaximumRetryAttempts: c.MaximumRetryAttempts}, nil
}

// setEventInvoke takes the members that are there into the configuration of a qualifier: into an empty one when anew is
// true, else into the one that there must be.
func (a *API) setEventInvoke(ctx context.Context, op string, name, qualifier *string, asked *eventInvoke, anew bool) (*types.FunctionEventInvokeConfig, error) {
	t, err := a.eventTarget(op, name, qualifier)
	if err != nil {
		return nil, err
	}
	if asked.maxAge == nil && asked.maxRetries == nil && asked.destinations == nil {
		return nil, invalid("You must specify at least one of error handling or destination setting.")
	}
	var e thaw.EventInvoke
	_, err = a.update(ctx, t.name, func(f *thaw.Function) error {
		if versionOf(f, t.qualifier) == nil {
			return errNoEventFunction
		}
		present, ok := f.EventInvoke[t.qualifier]
		switch {
		case anew:
			e = thaw.EventInvoke{}
		case !ok:
			return a.noEventInvoke(t)
		default:
			e = present
		}
		e.LastModified = a.now().UTC()
		if asked.maxAge != nil {
			e.MaxAge = aws.Int(int(*asked.maxAge))
		}
		if asked.maxRetries != nil {
			e.MaxRetries = aws.Int(int(*asked.maxRetries))
		}
		if asked.destinations != nil {
			if err := a.setDestinations(f.Name, &e, asked.destinations); err != nil {
				return err
			}
		}
		if f.EventInvoke == nil {
			f.EventInvoke = map[string]thaw.EventInvoke{}
		}
		f.EventInvoke[t.qualifier] = e
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, errNoEventFunction
	}
	if err != nil {
		return nil, err
	}
	c := a.eventInvoke(t, e)
	return &c, nil
}

var errNoEventFunction = thaw.Errorf(thaw.CodeResourceNotFound, "The function doesn't exist.")

func (a *API) noEventInvoke(t target) error {
	return thaw.Errorf(thaw.CodeResourceNotFound, "The function %s doesn't have an EventInvokeConfig", a.arn(t))
}

// eventTarget is resolve where no qualifier means $LATEST.
func (a *API) eventTarget(op string, name, qualifier *string) (target, error) {
	t, err := a.resolve(op, name, qualifier)
	t.qualifier = cmp.Or(t.qualifier, thaw.Latest)
	return t, err
}

// destinationPattern takes the services that can be destinations on AWS. S3 is one for failures only.
var destinationPattern = regexp.MustCompile(`^arn:aws[a-zA-Z0-9-]*:(lambda|sqs|sns|events|s3):`)

// foreignDestinations are those that thaw has not.
var foreignDestinations = map[string]string{
	"sns": "an SNS topic", "events": "an EventBridge event bus", "s3": "an S3 bucket",
}

// setDestinations takes the destinations into e: functions and queues of this platform.
func (a *API) setDestinations(function string, e *thaw.EventInvoke, d *types.DestinationConfig) error {
	success, failure := "", ""
	if d.OnSuccess != nil {
		success = operation.Value(d.OnSuccess.Destination)
	}
	if d.OnFailure != nil {
		failure = operation.Value(d.OnFailure.Destination)
	}
	for _, arn := range []string{failure, success} {
		if arn == "" {
			continue
		}
		m := destinationPattern.FindStringSubmatch(arn)
		if m == nil || m[1] == "s3" && arn == success {
			return invalid("The provided destination config DestinationConfig(onSuccess=%s, onFailure=%s) is invalid.", shownDestination("OnSuccess", success), shownDestination("OnFailure", failure))
		}
		if what, ok := foreignDestinations[m[1]]; ok {
			return refused("DestinationConfig with "+what, "outcomes of asynchronous invocations go to SQS queues and functions of this platform")
		}
		if m[1] == "sqs" {
			if why := a.checkQueue(arn); why != "" {
				return invalid("The destination ARN %s is invalid: %s.", arn, why)
			}
			continue
		}
		ref, ok := thaw.ParseFunctionRef(arn)
		if !ok || a.cfg.Account.CheckOwned("InvokeFunction", ref) != nil {
			return invalid("The destination ARN %s is invalid.", arn)
		}
		if ref.Name == function {
			return invalid("You can't specify the function as a destination for itself.")
		}
		if f, ok := a.cfg.Functions.Function(ref.Name); !ok || versionOf(f, ref.Qualifier) == nil {
			return invalid("The destination ARN %s is invalid.", arn)
		}
	}
	e.OnSuccess, e.OnFailure = success, failure
	return nil
}

func shownDestination(kind, arn string) string {
	if arn == "" {
		return "null"
	}
	return kind + "(destination=" + arn + ")"
}

// eventInvoke renders a configuration as the Lambda API shows it.
func (a *API) eventInvoke(t target, e thaw.EventInvoke) types.FunctionEventInvokeConfig {
	c := types.FunctionEventInvokeConfig{
		DestinationConfig: &types.DestinationConfig{
			OnSuccess: &types.OnSuccess{Destination: operation.Optional(e.OnSuccess)},
			OnFailure: &types.OnFailure{Destination: operation.Optional(e.OnFailure)},
		},
		FunctionArn:  aws.String(a.arn(t)),
		LastModified: &e.LastModified,
	}
	if e.MaxAge != nil {
		c.MaximumEventAgeInSeconds = aws.Int32(int32(*e.MaxAge))
	}
	if e.MaxRetries != nil {
		c.MaximumRetryAttempts = aws.Int32(int32(*e.MaxRetries))
	}
	return c
}

func (a *API) getFunctionEventInvokeConfig(_ context.Context, in *sdk.GetFunctionEventInvokeConfigInput) (*sdk.GetFunctionEventInvokeConfigOutput, error) {
	t, err := a.eventTarget("GetFunctionEventInvokeConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	f, ok := a.cfg.Functions.Function(t.name)
	if !ok {
		return nil, a.noEventInvoke(t)
	}
	e, ok := f.EventInvoke[t.qualifier]
	if !ok {
		return nil, a.noEventInvoke(t)
	}
	c := a.eventInvoke(t, e)
	return &sdk.GetFunctionEventInvokeConfigOutput{DestinationConfig: c.DestinationConfig, FunctionArn: c.FunctionArn, LastModified: c.LastModified, MaximumEventAgeInSeconds: c.MaximumEventAgeInSeconds, MaximumRetryAttempts: c.MaximumRetryAttempts}, nil
}

func (a *API) deleteFunctionEventInvokeConfig(ctx context.Context, in *sdk.DeleteFunctionEventInvokeConfigInput) (*sdk.DeleteFunctionEventInvokeConfigOutput, error) {
	t, err := a.eventTarget("DeleteFunctionEventInvokeConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	_, err = a.update(ctx, t.name, func(f *thaw.Function) error {
		if _, ok := f.EventInvoke[t.qualifier]; !ok {
			return a.noEventInvoke(t)
		}
		delete(f.EventInvoke, t.qualifier)
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, a.noEventInvoke(t)
	}
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteFunctionEventInvokeConfigOutput{}, nil
}

func (a *API) listFunctionEventInvokeConfigs(_ context.Context, in *sdk.ListFunctionEventInvokeConfigsInput) (*sdk.ListFunctionEventInvokeConfigsOutput, error) {
	t, err := a.unqualified("ListFunctionEventInvokeConfigs", in.FunctionName)
	if err != nil {
		return nil, err
	}
	f, ok := a.cfg.Functions.Function(t.name)
	if !ok {
		return nil, errNoEventFunction
	}
	page, next, err := cut("ListFunctionEventInvokeConfigs", slices.Sorted(maps.Keys(f.EventInvoke)), sameText, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListFunctionEventInvokeConfigsOutput{FunctionEventInvokeConfigs: make([]types.FunctionEventInvokeConfig, len(page)), NextMarker: next}
	for i, qualifier := range page {
		out.FunctionEventInvokeConfigs[i] = a.eventInvoke(target{t.name, qualifier}, f.EventInvoke[qualifier])
	}
	return out, nil
}
