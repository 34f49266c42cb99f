package iam

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
)

// defaultSession is a role's MaxSessionDuration, seconds, after the documentation of CreateRole.
const defaultSession = 3600

// role is the record of one role, with all that belongs to it alone.
type role struct {
	Name        string            `json:"name"`
	Path        string            `json:"path"`
	ID          string            `json:"id"`
	Created     time.Time         `json:"created"`
	Trust       string            `json:"trust"` // the assume role policy document
	Description string            `json:"description,omitempty"`
	MaxSession  int32             `json:"max_session"` // seconds
	Boundary    string            `json:"boundary,omitempty"`
	Tags        []tag             `json:"tags,omitempty"`
	Inline      map[string]string `json:"inline,omitempty"`   // policy documents by name
	Attached    []string          `json:"attached,omitempty"` // ARNs of managed policies
}

func (a *API) createRole(ctx context.Context, in *sdk.CreateRoleInput) (*sdk.CreateRoleOutput, error) {
	if err := checkTrustPolicy(operation.Value(in.AssumeRolePolicyDocument)); err != nil {
		return nil, err
	}
	r := &role{
		Name: operation.Value(in.RoleName), Path: "/", ID: newID("AROA"), Created: a.now().UTC().Truncate(time.Second),
		Trust: operation.Value(in.AssumeRolePolicyDocument), Description: operation.Value(in.Description), MaxSession: defaultSession,
		Boundary: operation.Value(in.PermissionsBoundary),
	}
	if in.Path != nil {
		r.Path = *in.Path
	}
	if in.MaxSessionDuration != nil {
		r.MaxSession = *in.MaxSessionDuration
	}
	if r.Boundary != "" && !policyARN.MatchString(r.Boundary) {
		return nil, badARN(r.Boundary)
	}
	var err error
	if r.Tags, err = addTags(nil, in.Tags); err != nil {
		return nil, err
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	if err := createRecord(ctx, a.roles, r.Name, r, quota{"RolesPerAccount", maxRoles}, "Role with name %s already exists."); err != nil {
		return nil, err
	}
	shown := a.showRole(r)
	shown.MaxSessionDuration = nil // CreateRole alone leaves it out
	return &sdk.CreateRoleOutput{Role: shown}, nil
}

func (a *API) getRole(ctx context.Context, in *sdk.GetRoleInput) (*sdk.GetRoleOutput, error) {
	r, err := a.role(ctx, in.RoleName)
	if err != nil {
		return nil, err
	}
	shown := a.showRole(r)
	shown.RoleLastUsed = &types.RoleLastUsed{}
	return &sdk.GetRoleOutput{Role: shown}, nil
}

func (a *API) listRoles(ctx context.Context, in *sdk.ListRolesInput) (*sdk.ListRolesOutput, error) {
	roles, err := all[role](ctx, a.roles)
	if err != nil {
		return nil, err
	}
	var wanted []*role
	for _, r := range roles {
		if strings.HasPrefix(r.Path, operation.Value(in.PathPrefix)) {
			wanted = append(wanted, r)
		}
	}
	part, next, err := page(wanted, func(r *role) string { return key(r.Name) }, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListRolesOutput{Roles: make([]types.Role, len(part)), Marker: next, IsTruncated: next != nil}
	for i, r := range part {
		out.Roles[i] = *a.showRole(r)
		out.Roles[i].Tags, out.Roles[i].PermissionsBoundary = nil, nil // lists leave them out
	}
	return out, nil
}

func (a *API) updateRole(ctx context.Context, in *sdk.UpdateRoleInput) (*sdk.UpdateRoleOutput, error) {
	_, err := a.changeRole(ctx, in.RoleName, func(r *role) error {
		if in.Description != nil {
			r.Description = *in.Description
		}
		if in.MaxSessionDuration != nil {
			r.MaxSession = *in.MaxSessionDuration
		}
		return nil
	})
	return &sdk.UpdateRoleOutput{}, err
}

func (a *API) updateAssumeRolePolicy(ctx context.Context, in *sdk.UpdateAssumeRolePolicyInput) (*sdk.UpdateAssumeRolePolicyOutput, error) {
	if err := checkTrustPolicy(operation.Value(in.PolicyDocument)); err != nil {
		return nil, err
	}
	_, err := a.changeRole(ctx, in.RoleName, func(r *role) error {
		r.Trust = *in.PolicyDocument
		return nil
	})
	return &sdk.UpdateAssumeRolePolicyOutput{}, err
}

func (a *API) deleteRole(ctx context.Context, in *sdk.DeleteRoleInput) (*sdk.DeleteRoleOutput, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, err := a.role(ctx, in.RoleName)
	switch {
	case err != nil:
		return nil, err
	case len(r.Attached) > 0:
		return nil, thaw.Errorf(thaw.CodeDeleteConflict, "Cannot delete entity, must detach all policies first.")
	case len(r.Inline) > 0:
		return nil, thaw.Errorf(thaw.CodeDeleteConflict, "Cannot delete entity, must delete policies first.")
	}
	err = a.roles.Delete(ctx, key(r.Name))
	if errors.Is(err, state.ErrNotFound) {
		return nil, noRole(in.RoleName)
	}
	return &sdk.DeleteRoleOutput{}, storeError(err)
}

// listInstanceProfilesForRole is asked by tools before they delete a role. There are no instance profiles.
func (a *API) listInstanceProfilesForRole(ctx context.Context, in *sdk.ListInstanceProfilesForRoleInput) (*sdk.ListInstanceProfilesForRoleOutput, error) {
	if _, err := a.role(ctx, in.RoleName); err != nil {
		return nil, err
	}
	return &sdk.ListInstanceProfilesForRoleOutput{InstanceProfiles: []types.InstanceProfile{}}, nil
}

// role reads a role, or says that there is none.
func (a *API) role(ctx context.Context, name *string) (*role, error) {
	r := new(role)
	err := a.roles.Get(ctx, key(operation.Value(name)), r)
	if errors.Is(err, state.ErrNotFound) {
		return nil, noRole(name)
	}
	return r, err
}

// changeRole applies change to a role and stores it. An error of change leaves the role as it was.
func (a *API) changeRole(ctx context.Context, name *string, change func(*role) error) (*role, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, err := state.UpdateRecord(ctx, a.roles, key(operation.Value(name)), change)
	if errors.Is(err, state.ErrNotFound) {
		return nil, noRole(name)
	}
	return r, storeError(err)
}

func noRole(name *string) error {
	return thaw.Errorf(thaw.CodeNoSuchEntity, "The role with name %s cannot be found.", operation.Value(name))
}

func overQuota(what string, limit int) error {
	return thaw.Errorf(thaw.CodeLimitExceeded, "Cannot exceed quota for %s: %d", what, limit)
}

func (a *API) showRole(r *role) *types.Role {
	shown := &types.Role{
		Arn:                      aws.String("arn:aws:iam::" + a.account.ID + ":role" + r.Path + r.Name),
		AssumeRolePolicyDocument: escape(r.Trust),
		CreateDate:               aws.Time(r.Created),
		Description:              operation.Optional(r.Description),
		MaxSessionDuration:       aws.Int32(r.MaxSession),
		Path:                     aws.String(r.Path),
		RoleId:                   aws.String(r.ID),
		RoleName:                 aws.String(r.Name),
		Tags:                     showTags(r.Tags),
	}
	if r.Boundary != "" {
		shown.PermissionsBoundary = &types.AttachedPermissionsBoundary{
			PermissionsBoundaryArn:  aws.String(r.Boundary),
			PermissionsBoundaryType: types.PermissionsBoundaryAttachmentTypePolicy,
		}
	}
	return shown
}
