package lambda

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/uuid"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
)

func (a *API) createAlias(ctx context.Context, in *sdk.CreateAliasInput) (*sdk.CreateAliasOutput, error) {
	t, err := a.unqualified("CreateAlias", in.FunctionName)
	if err != nil {
		return nil, err
	}
	alias := thaw.Alias{Name: operation.Value(in.Name), Version: operation.Value(in.FunctionVersion), Description: operation.Value(in.Description), RevisionID: uuid.NewString()}
	if err := route(&alias, in.RoutingConfig); err != nil {
		return nil, err
	}
	_, err = a.update(ctx, t.name, func(f *thaw.Function) error {
		if f.Version(alias.Version) == nil {
			return a.notFound(target{t.name, alias.Version})
		}
		if _, ok := f.Aliases[alias.Name]; ok {
			return thaw.Errorf(thaw.CodeResourceConflict, "Alias already exists: %s", a.arn(target{t.name, alias.Name}))
		}
		if err := a.checkRoute(f, &alias); err != nil {
			return err
		}
		if f.Aliases == nil {
			f.Aliases = map[string]thaw.Alias{}
		}
		f.Aliases[alias.Name] = alias
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, a.notFound(target{t.name, alias.Version})
	}
	if err != nil {
		return nil, err
	}
	c := a.alias(t.name, alias)
	return fill(&sdk.CreateAliasOutput{}, &c), nil
}

// updateAlias takes the members that in carries. An alias that has provisioned concurrency takes it along to its new
// version: whoever provides it asks thaw.Function.ProvisionedFor.
func (a *API) updateAlias(ctx context.Context, in *sdk.UpdateAliasInput) (*sdk.UpdateAliasOutput, error) {
	t, err := a.unqualified("UpdateAlias", in.FunctionName)
	if err != nil {
		return nil, err
	}
	name := operation.Value(in.Name)
	var alias thaw.Alias
	_, err = a.update(ctx, t.name, func(f *thaw.Function) error {
		var ok bool
		if alias, ok = f.Aliases[name]; !ok {
			return thaw.Errorf(thaw.CodeResourceNotFound, "Alias not found: %s", a.arn(target{t.name, name}))
		}
		if err := checkRevision(alias.RevisionID, in.RevisionId); err != nil {
			return err
		}
		if in.FunctionVersion != nil {
			alias.Version = *in.FunctionVersion
		}
		if in.Description != nil {
			alias.Description = *in.Description
		}
		if err := route(&alias, in.RoutingConfig); err != nil {
			return err
		}
		if f.Version(alias.Version) == nil {
			return a.notFound(target{t.name, alias.Version})
		}
		if err := a.checkRoute(f, &alias); err != nil {
			return err
		}
		if f.Provisioned[name].Requested > 0 {
			if err := checkProvisionedAlias(f, &alias); err != nil {
				return err
			}
		}
		alias.RevisionID = uuid.NewString()
		f.Aliases[name] = alias
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, a.notFound(t)
	}
	if err != nil {
		return nil, err
	}
	c := a.alias(t.name, alias)
	return fill(&sdk.UpdateAliasOutput{}, &c), nil
}

func (a *API) getAlias(_ context.Context, in *sdk.GetAliasInput) (*sdk.GetAliasOutput, error) {
	t, err := a.unqualified("GetAlias", in.FunctionName)
	if err != nil {
		return nil, err
	}
	f, _, err := a.find(t)
	if err != nil {
		return nil, err
	}
	alias, ok := f.Aliases[operation.Value(in.Name)]
	if !ok {
		return nil, a.noAlias(target{t.name, operation.Value(in.Name)})
	}
	c := a.alias(t.name, alias)
	return fill(&sdk.GetAliasOutput{}, &c), nil
}

// deleteAlias also deletes what is kept for the alias: its policy, its provisioned concurrency and its configuration of
// asynchronous invocations. An alias that is not there counts as deleted.
func (a *API) deleteAlias(ctx context.Context, in *sdk.DeleteAliasInput) (*sdk.DeleteAliasOutput, error) {
	t, err := a.unqualified("DeleteAlias", in.FunctionName)
	if err != nil {
		return nil, err
	}
	_, err = a.update(ctx, t.name, func(f *thaw.Function) error {
		if _, ok := f.Aliases[operation.Value(in.Name)]; !ok {
			return errNothingToDo
		}
		delete(f.Aliases, operation.Value(in.Name))
		forget(f, operation.Value(in.Name))
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, a.notFound(t)
	}
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteAliasOutput{}, nil
}

// listAliases sorts by name. FunctionVersion asks for the aliases whose first version it is.
func (a *API) listAliases(_ context.Context, in *sdk.ListAliasesInput) (*sdk.ListAliasesOutput, error) {
	t, err := a.unqualified("ListAliases", in.FunctionName)
	if err != nil {
		return nil, err
	}
	f, _, err := a.find(t)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(f.Aliases)) {
		if in.FunctionVersion == nil || f.Aliases[name].Version == *in.FunctionVersion {
			names = append(names, name)
		}
	}
	page, next, err := cut("ListAliases", names, sameText, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListAliasesOutput{Aliases: make([]types.AliasConfiguration, len(page)), NextMarker: next}
	for i, name := range page {
		out.Aliases[i] = a.alias(t.name, f.Aliases[name])
	}
	return out, nil
}

func sameText(s string) string { return s }

// alias renders an alias as the Lambda API shows it.
func (a *API) alias(function string, alias thaw.Alias) types.AliasConfiguration {
	c := types.AliasConfiguration{
		AliasArn:        aws.String(a.arn(target{function, alias.Name})),
		Description:     aws.String(alias.Description),
		FunctionVersion: aws.String(alias.Version),
		Name:            aws.String(alias.Name),
		RevisionId:      aws.String(alias.RevisionID),
	}
	if alias.Other != "" {
		c.RoutingConfig = &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{alias.Other: alias.Weight}}
	}
	return c
}

// route takes the second version of a routing configuration; one without entries takes it away, none leaves it.
func route(alias *thaw.Alias, r *types.AliasRoutingConfiguration) error {
	if r == nil {
		return nil
	}
	if len(r.AdditionalVersionWeights) > 1 {
		return invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
	}
	alias.Other, alias.Weight = "", 0
	for version, weight := range r.AdditionalVersionWeights {
		alias.Other, alias.Weight = version, weight
	}
	return nil
}

// checkRoute judges the second version of an alias whose first one exists.
func (a *API) checkRoute(f *thaw.Function, alias *thaw.Alias) error {
	switch {
	case alias.Other == "":
		return nil
	case alias.Other == alias.Version:
		return invalid("Invalid function version %s. Function version %[1]s is already included in routing configuration.", alias.Version)
	case alias.Version == thaw.Latest || alias.Other == thaw.Latest:
		return invalid("$LATEST is not supported for an alias pointing to more than 1 version")
	case f.Version(alias.Other) == nil:
		return a.notFound(target{f.Name, alias.Other})
	}
	return nil
}

func (a *API) noAlias(t target) error {
	return thaw.Errorf(thaw.CodeResourceNotFound, "Cannot find alias arn: %s", a.arn(t))
}
