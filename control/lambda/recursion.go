package lambda

import (
	"cmp"
	"context"
	"errors"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
	"thaw/state"
)

func (a *API) putFunctionRecursionConfig(ctx context.Context, in *sdk.PutFunctionRecursionConfigInput) (*sdk.PutFunctionRecursionConfigOutput, error) {
	t, err := a.unqualified("PutFunctionRecursionConfig", in.FunctionName)
	if err != nil {
		return nil, err
	}
	_, err = a.update(ctx, t.name, func(f *thaw.Function) error {
		f.RecursiveLoop = string(in.RecursiveLoop)
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, a.notFound(t)
	}
	if err != nil {
		return nil, err
	}
	return &sdk.PutFunctionRecursionConfigOutput{RecursiveLoop: in.RecursiveLoop}, nil
}

func (a *API) getFunctionRecursionConfig(_ context.Context, in *sdk.GetFunctionRecursionConfigInput) (*sdk.GetFunctionRecursionConfigOutput, error) {
	t, err := a.unqualified("GetFunctionRecursionConfig", in.FunctionName)
	if err != nil {
		return nil, err
	}
	f, _, err := a.find(t)
	if err != nil {
		return nil, err
	}
	loop := cmp.Or(f.RecursiveLoop, thaw.RecursionTerminate)
	return &sdk.GetFunctionRecursionConfigOutput{RecursiveLoop: types.RecursiveLoop(loop)}, nil
}
