package iam

import (
	"context"
	"maps"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/service/iam"

	"thaw"
	"thaw/control/internal/operation"
)

func (a *API) putRolePolicy(ctx context.Context, in *sdk.PutRolePolicyInput) (*sdk.PutRolePolicyOutput, error) {
	if err := checkIdentityPolicy(operation.Value(in.PolicyDocument)); err != nil {
		return nil, err
	}
	_, err := a.changeRole(ctx, in.RoleName, func(r *role) error {
		if r.Inline == nil {
			r.Inline = map[string]string{}
		}
		r.Inline[operation.Value(in.PolicyName)] = *in.PolicyDocument
		total := 0
		for _, document := range r.Inline {
			total += size(document)
		}
		if total > maxInlinePolicies {
			return thaw.Errorf(thaw.CodeLimitExceeded, "Maximum policy size of %d bytes exceeded for role %s", maxInlinePolicies, r.Name)
		}
		return nil
	})
	return &sdk.PutRolePolicyOutput{}, err
}

func (a *API) getRolePolicy(ctx context.Context, in *sdk.GetRolePolicyInput) (*sdk.GetRolePolicyOutput, error) {
	r, err := a.role(ctx, in.RoleName)
	if err != nil {
		return nil, err
	}
	document, ok := r.Inline[operation.Value(in.PolicyName)]
	if !ok {
		return nil, noInline(in.PolicyName)
	}
	return &sdk.GetRolePolicyOutput{PolicyDocument: escape(document), PolicyName: in.PolicyName, RoleName: &r.Name}, nil
}

func (a *API) deleteRolePolicy(ctx context.Context, in *sdk.DeleteRolePolicyInput) (*sdk.DeleteRolePolicyOutput, error) {
	_, err := a.changeRole(ctx, in.RoleName, func(r *role) error {
		if _, ok := r.Inline[operation.Value(in.PolicyName)]; !ok {
			return noInline(in.PolicyName)
		}
		delete(r.Inline, *in.PolicyName)
		return nil
	})
	return &sdk.DeleteRolePolicyOutput{}, err
}

func (a *API) listRolePolicies(ctx context.Context, in *sdk.ListRolePoliciesInput) (*sdk.ListRolePoliciesOutput, error) {
	r, err := a.role(ctx, in.RoleName)
	if err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(r.Inline))
	part, next, err := page(names, func(name string) string { return name }, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &sdk.ListRolePoliciesOutput{PolicyNames: append([]string{}, part...), Marker: next, IsTruncated: next != nil}, nil
}

func noInline(name *string) error {
	return thaw.Errorf(thaw.CodeNoSuchEntity, "The role policy with name %s cannot be found.", operation.Value(name))
}
