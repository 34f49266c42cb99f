package lambda

import (
	"cmp"
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
)

// The machine has one interpreter for each runtime identifier. So every mode comes to the same: Auto and FunctionUpdate
// are kept and shown, and Manual takes only the runtime version that is in use.
func (a *API) putRuntimeManagementConfig(ctx context.Context, in *sdk.PutRuntimeManagementConfigInput) (*sdk.PutRuntimeManagementConfigOutput, error) {
	t, err := a.managed("PutRuntimeManagementConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	manual := in.UpdateRuntimeOn == types.UpdateRuntimeOnManual
	if !manual && in.RuntimeVersionArn != nil {
		return nil, invalid("RuntimeVersionArn is for UpdateRuntimeOn Manual only. Leave it out, or set UpdateRuntimeOn to Manual.")
	}
	_, err = a.update(ctx, t.name, func(f *thaw.Function) error {
		number := cmp.Or(t.qualifier, thaw.Latest)
		v := f.Version(number)
		if v == nil {
			return a.notFound(t)
		}
		if inUse := a.runtimeARN(v.Runtime); manual && operation.Value(in.RuntimeVersionArn) != inUse {
			return invalid("UpdateRuntimeOn Manual takes only the runtime version that is in use, since this machine has no other for %s. Set RuntimeVersionArn to %s.", v.Runtime, inUse)
		}
		if f.UpdateRuntimeOn == nil {
			f.UpdateRuntimeOn = map[string]string{}
		}
		f.UpdateRuntimeOn[number] = string(in.UpdateRuntimeOn)
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, a.notFound(t)
	}
	if err != nil {
		return nil, err
	}
	return &sdk.PutRuntimeManagementConfigOutput{FunctionArn: aws.String(a.arn(t)), RuntimeVersionArn: in.RuntimeVersionArn, UpdateRuntimeOn: in.UpdateRuntimeOn}, nil
}

func (a *API) getRuntimeManagementConfig(_ context.Context, in *sdk.GetRuntimeManagementConfigInput) (*sdk.GetRuntimeManagementConfigOutput, error) {
	t, err := a.managed("GetRuntimeManagementConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	f, v, err := a.find(t)
	if err != nil {
		return nil, err
	}
	mode := types.UpdateRuntimeOn(cmp.Or(f.UpdateRuntimeOn[v.Number], string(types.UpdateRuntimeOnAuto)))
	out := &sdk.GetRuntimeManagementConfigOutput{FunctionArn: aws.String(a.arn(t)), UpdateRuntimeOn: mode}
	if mode == types.UpdateRuntimeOnManual {
		out.RuntimeVersionArn = aws.String(a.runtimeARN(v.Runtime))
	}
	return out, nil
}

// managed is resolve for the operations whose qualifier names a version.
func (a *API) managed(op string, name, qualifier *string) (target, error) {
	t, err := a.resolve(op, name, qualifier)
	if err == nil && isAlias(t.qualifier) {
		err = invalid("Runtime management is set for $LATEST or a published version, not for an alias. Set Qualifier to a version's number.")
	}
	return t, err
}
