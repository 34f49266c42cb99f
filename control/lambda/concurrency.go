package lambda

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
)

// minUnreserved is what AWS keeps of the account's concurrency for functions that reserve nothing. An account with a
// smaller limit keeps all of it.
const minUnreserved = 100

func (a *API) putFunctionConcurrency(ctx context.Context, in *sdk.PutFunctionConcurrencyInput) (*sdk.PutFunctionConcurrencyOutput, error) {
	t, err := a.unqualified("PutFunctionConcurrency", in.FunctionName)
	if err != nil {
		return nil, err
	}
	n := int(operation.Value(in.ReservedConcurrentExecutions))
	a.reserving.Lock()
	defer a.reserving.Unlock()
	_, err = a.update(ctx, t.name, func(f *thaw.Function) error {
		if n > f.Claim() && a.unclaimed(f.Name)-n < a.floor() {
			return invalid("Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", a.floor())
		}
		if total := f.TotalProvisioned(); total > n {
			return invalid(" ReservedConcurrentExecutions  %d should not be lower than function's total provisioned concurrency [%d].", n, total)
		}
		f.Reserved = &n
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, a.notFound(target{t.name, thaw.Latest})
	}
	if err != nil {
		return nil, err
	}
	return &sdk.PutFunctionConcurrencyOutput{ReservedConcurrentExecutions: reservedMember(&n)}, nil
}

func (a *API) getFunctionConcurrency(_ context.Context, in *sdk.GetFunctionConcurrencyInput) (*sdk.GetFunctionConcurrencyOutput, error) {
	t, err := a.unqualified("GetFunctionConcurrency", in.FunctionName)
	if err != nil {
		return nil, err
	}
	f, _, err := a.find(t)
	if err != nil {
		return nil, err
	}
	return &sdk.GetFunctionConcurrencyOutput{ReservedConcurrentExecutions: reservedMember(f.Reserved)}, nil
}

func (a *API) deleteFunctionConcurrency(ctx context.Context, in *sdk.DeleteFunctionConcurrencyInput) (*sdk.DeleteFunctionConcurrencyOutput, error) {
	t, err := a.unqualified("DeleteFunctionConcurrency", in.FunctionName)
	if err != nil {
		return nil, err
	}
	_, err = a.update(ctx, t.name, func(f *thaw.Function) error {
		if f.Reserved == nil {
			return errNothingToDo
		}
		f.Reserved = nil
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, a.notFound(t)
	}
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteFunctionConcurrencyOutput{}, nil
}

func reservedMember(n *int) *int32 {
	if n == nil {
		return nil
	}
	return aws.Int32(int32(*n))
}

// concurrency is GetFunction's Concurrency member, which a function without a reserve does not have.
func concurrency(f *thaw.Function) *types.Concurrency {
	if f.Reserved == nil {
		return nil
	}
	return &types.Concurrency{ReservedConcurrentExecutions: reservedMember(f.Reserved)}
}

// unclaimed is what the account has left when the claims of all functions are taken out, but for that of the function
// named except.
func (a *API) unclaimed(except string) int {
	left := int(a.cfg.Limits.ConcurrentExecutions)
	for f := range a.functions() {
		if f.Name != except {
			left -= f.Claim()
		}
	}
	return left
}

func (a *API) floor() int { return min(minUnreserved, int(a.cfg.Limits.ConcurrentExecutions)) }

// getAccountSettings shows what is used and what is left. A limit that was lowered below what is reserved leaves nothing.
func (a *API) getAccountSettings(ctx context.Context, _ *sdk.GetAccountSettingsInput) (*sdk.GetAccountSettingsOutput, error) {
	count, size := a.usage("")
	layers, err := a.layerUsage(ctx)
	if err != nil {
		return nil, err
	}
	return accountSettings(a.cfg.Limits, max(a.unclaimed(""), 0), count, size+layers), nil
}
