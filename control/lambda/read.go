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

func (a *API) getFunction(_ context.Context, in *sdk.GetFunctionInput) (*sdk.GetFunctionOutput, error) {
	t, err := a.resolve("GetFunction", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	f, v, err := a.find(t)
	if err != nil {
		return nil, err
	}
	return &sdk.GetFunctionOutput{
		Code:          &types.FunctionCodeLocation{RepositoryType: aws.String("S3"), Location: aws.String(a.location(v))},
		Concurrency:   concurrency(f),
		Configuration: a.describe(v, t.qualifier),
		Tags:          f.Tags,
	}, nil
}

func (a *API) getFunctionConfiguration(_ context.Context, in *sdk.GetFunctionConfigurationInput) (*sdk.GetFunctionConfigurationOutput, error) {
	t, err := a.resolve("GetFunctionConfiguration", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	_, v, err := a.find(t)
	if err != nil {
		return nil, err
	}
	return fill(&sdk.GetFunctionConfigurationOutput{}, a.describe(v, t.qualifier)), nil
}

// listFunctions goes by name, and with FunctionVersion ALL by version within a function.
func (a *API) listFunctions(_ context.Context, in *sdk.ListFunctionsInput) (*sdk.ListFunctionsOutput, error) {
	last, err := functionMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	all := in.FunctionVersion == types.FunctionVersionAll
	if in.MasterRegion != nil {
		if !all {
			return nil, invalid("FunctionVersion must be set to ALL when MasterRegion is specified.")
		}
		// It asks for the replicas of Lambda@Edge functions, and there are none.
		return &sdk.ListFunctionsOutput{Functions: []types.FunctionConfiguration{}}, nil
	}
	size, err := pageSize(in.MaxItems)
	if err != nil {
		return nil, err
	}
	items := a.versionsAfter(last, all, size+1)
	out := &sdk.ListFunctionsOutput{Functions: make([]types.FunctionConfiguration, 0, size)}
	for i, v := range items {
		if i == size {
			out.NextMarker = operation.Token(last.String())
			break
		}
		last = target{name: v.Function}
		if all {
			last.qualifier = v.Number
		}
		out.Functions = append(out.Functions, *a.list(v, last.qualifier))
	}
	return out, nil
}

// versionsAfter gives up to n versions that come after last: $LATEST of each function, or all versions.
func (a *API) versionsAfter(last target, all bool, n int) []*thaw.Version {
	var items []*thaw.Version
	if f, ok := a.cfg.Functions.Function(last.name); ok && all && last.qualifier != "" {
		for _, v := range versions(f) {
			if versionKey(v.Number) > versionKey(last.qualifier) {
				items = append(items, v)
			}
		}
	}
	after := last.name
	for len(items) < n {
		functions := a.cfg.Functions.Functions(after, n)
		for _, f := range functions {
			if all {
				items = append(items, versions(f)...)
			} else {
				items = append(items, &f.Config)
			}
			after = f.Name
		}
		if len(functions) < n {
			break
		}
	}
	return items[:min(n, len(items))]
}

// functionMarker reads a marker of ListFunctions: a function's name, with the number of a version where all are listed.
func functionMarker(marker *string) (target, error) {
	key, err := operation.After(given(marker))
	if err == nil && key == "" {
		return target{}, nil
	}
	ref, ok := thaw.ParseFunctionRef(key)
	last := target{ref.Name, ref.Qualifier}
	if err != nil || !ok || last.String() != key {
		return target{}, wrongMarker("ListFunctions")
	}
	return last, nil
}

// deleteFunction forgets the function at once, also while it runs: its environments are drained by whoever watches the
// store. Its log group stays, as it does on AWS.
func (a *API) deleteFunction(ctx context.Context, in *sdk.DeleteFunctionInput) (*sdk.DeleteFunctionOutput, error) {
	t, err := a.resolve("DeleteFunction", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	done := &sdk.DeleteFunctionOutput{StatusCode: 200}
	switch {
	case t.qualifier == thaw.Latest:
		return nil, invalid("$LATEST version cannot be deleted without deleting the function.")
	case isAlias(t.qualifier):
		return nil, invalid("Deletion of aliases is not currently supported.")
	case t.qualifier != "":
		if err := a.deleteVersion(ctx, t); err != nil {
			return nil, err
		}
		return done, nil
	}
	err = a.cfg.Functions.DeleteFunction(ctx, t.name)
	if errors.Is(err, state.ErrNotFound) {
		return nil, a.notFound(t)
	}
	if err != nil {
		return nil, storeError(err)
	}
	return done, nil
}
