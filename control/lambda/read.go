package lambda

import (
	"context"
	"encoding/base64"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
	"thaw/state"
)

// maxPage is the most that ListFunctions puts on a page, whatever MaxItems says, after its documentation.
const maxPage = 50

func (a *API) getFunction(_ context.Context, in *sdk.GetFunctionInput) (*sdk.GetFunctionOutput, error) {
	t, err := a.resolve("GetFunction", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	f, err := a.find(t)
	if err != nil {
		return nil, err
	}
	return &sdk.GetFunctionOutput{
		Code:          &types.FunctionCodeLocation{RepositoryType: aws.String("S3"), Location: aws.String(a.location(f))},
		Configuration: a.describe(&f.Config, t.qualifier),
		Tags:          f.Tags,
	}, nil
}

func (a *API) getFunctionConfiguration(_ context.Context, in *sdk.GetFunctionConfigurationInput) (*sdk.GetFunctionConfigurationOutput, error) {
	t, err := a.resolve("GetFunctionConfiguration", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	f, err := a.find(t)
	if err != nil {
		return nil, err
	}
	return fill(&sdk.GetFunctionConfigurationOutput{}, a.describe(&f.Config, t.qualifier)), nil
}

// listFunctions pages by name. The marker is the last name of the page before, so that functions which come and go
// between two pages neither repeat nor hide others.
func (a *API) listFunctions(_ context.Context, in *sdk.ListFunctionsInput) (*sdk.ListFunctionsOutput, error) {
	after, err := base64.RawURLEncoding.DecodeString(value(in.Marker))
	last, named := thaw.ParseFunctionRef(string(after))
	if err != nil || len(after) > 0 && (!named || last.Name != string(after)) {
		return nil, invalid("Marker is not one that ListFunctions gave. Start again without it.")
	}
	qualifier := ""
	if in.FunctionVersion == types.FunctionVersionAll {
		qualifier = thaw.Latest
	}
	if in.MasterRegion != nil {
		if in.FunctionVersion != types.FunctionVersionAll {
			return nil, invalid("FunctionVersion must be set to ALL when MasterRegion is specified.")
		}
		// It asks for the replicas of Lambda@Edge functions, and there are none.
		return &sdk.ListFunctionsOutput{Functions: []types.FunctionConfiguration{}}, nil
	}
	limit := maxPage
	if in.MaxItems != nil {
		limit = min(limit, int(*in.MaxItems))
	}
	if limit < 1 {
		return nil, thaw.Errorf(thaw.CodeValidation, "1 validation error detected: Value '%d' at 'maxItems' failed to satisfy constraint: Member must have value greater than or equal to 1", limit)
	}
	functions := a.cfg.Functions.Functions(string(after), limit+1)
	out := &sdk.ListFunctionsOutput{Functions: make([]types.FunctionConfiguration, 0, limit)}
	for i, f := range functions {
		if i == limit {
			out.NextMarker = aws.String(base64.RawURLEncoding.EncodeToString([]byte(functions[i-1].Name)))
			break
		}
		out.Functions = append(out.Functions, *a.list(&f.Config, qualifier))
	}
	return out, nil
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
		// AWS counts a version that is not there as deleted, as long as its function exists.
		_, err := a.find(target{name: t.name})
		return done, err
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
