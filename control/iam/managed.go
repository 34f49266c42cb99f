package iam

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
)

// onlyVersion is the id of every policy's one version: further versions cannot be made.
const onlyVersion = "v1"

// policyARN takes the ARN of a managed policy apart: the account, or aws, and the name that ends it.
var policyARN = regexp.MustCompile(`^arn:aws[a-z-]*:iam::(\d{12}|aws):policy/(?:[!-.0-~]+/)*([\w+=,.@-]+)$`)

// policy is the record of one customer managed policy.
type policy struct {
	Name        string    `json:"name"`
	Path        string    `json:"path"`
	ID          string    `json:"id"`
	Created     time.Time `json:"created"`
	Description string    `json:"description,omitempty"`
	Document    string    `json:"document"`
	Tags        []tag     `json:"tags,omitempty"`
}

func (a *API) arn(p *policy) string {
	return "arn:aws:iam::" + a.account.ID + ":policy" + p.Path + p.Name
}

func (a *API) createPolicy(ctx context.Context, in *sdk.CreatePolicyInput) (*sdk.CreatePolicyOutput, error) {
	if err := checkIdentityPolicy(operation.Value(in.PolicyDocument)); err != nil {
		return nil, err
	}
	if size(*in.PolicyDocument) > maxManagedPolicy {
		return nil, overQuota("PolicySize", maxManagedPolicy)
	}
	p := &policy{
		Name: operation.Value(in.PolicyName), Path: "/", ID: newID("ANPA"), Created: a.now().UTC().Truncate(time.Second),
		Description: operation.Value(in.Description), Document: *in.PolicyDocument,
	}
	if in.Path != nil {
		p.Path = *in.Path
	}
	var err error
	if p.Tags, err = addTags(nil, in.Tags); err != nil {
		return nil, err
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	if err := createRecord(ctx, a.policies, p.Name, p, quota{"PoliciesPerAccount", maxPolicies}, "A policy called %s already exists. Duplicate names are not allowed."); err != nil {
		return nil, err
	}
	shown := a.showPolicy(p, usage{})
	shown.Description = nil // CreatePolicy leaves it out
	return &sdk.CreatePolicyOutput{Policy: shown}, nil
}

func (a *API) getPolicy(ctx context.Context, in *sdk.GetPolicyInput) (*sdk.GetPolicyOutput, error) {
	p, err := a.policy(ctx, operation.Value(in.PolicyArn))
	if err != nil {
		return nil, err
	}
	used, err := a.usage(ctx)
	if err != nil {
		return nil, err
	}
	shown := a.showPolicy(p, used[a.arn(p)])
	if shown.Tags == nil {
		shown.Tags = []types.Tag{}
	}
	return &sdk.GetPolicyOutput{Policy: shown}, nil
}

func (a *API) getPolicyVersion(ctx context.Context, in *sdk.GetPolicyVersionInput) (*sdk.GetPolicyVersionOutput, error) {
	p, err := a.policy(ctx, operation.Value(in.PolicyArn))
	if err == nil && operation.Value(in.VersionId) != onlyVersion || errors.Is(err, errNoPolicy) && !ownedByAWS(operation.Value(in.PolicyArn)) {
		return nil, thaw.Errorf(thaw.CodeNoSuchEntity, "Policy %s version %s does not exist or is not attachable.", operation.Value(in.PolicyArn), operation.Value(in.VersionId))
	}
	if err != nil {
		return nil, err
	}
	v := showVersion(p)
	v.Document = escape(p.Document)
	return &sdk.GetPolicyVersionOutput{PolicyVersion: &v}, nil
}

func (a *API) listPolicyVersions(ctx context.Context, in *sdk.ListPolicyVersionsInput) (*sdk.ListPolicyVersionsOutput, error) {
	p, err := a.policy(ctx, operation.Value(in.PolicyArn))
	if err != nil {
		return nil, err
	}
	return &sdk.ListPolicyVersionsOutput{Versions: []types.PolicyVersion{showVersion(p)}}, nil
}

func (a *API) listPolicies(ctx context.Context, in *sdk.ListPoliciesInput) (*sdk.ListPoliciesOutput, error) {
	policies, err := all[policy](ctx, a.policies)
	if err != nil {
		return nil, err
	}
	used, err := a.usage(ctx)
	if err != nil {
		return nil, err
	}
	policies = slices.DeleteFunc(policies, func(p *policy) bool {
		u := used[a.arn(p)]
		return in.Scope == types.PolicyScopeTypeAws || !strings.HasPrefix(p.Path, operation.Value(in.PathPrefix)) ||
			in.OnlyAttached && u.attached == 0 ||
			in.PolicyUsageFilter == types.PolicyUsageTypePermissionsBoundary && u.boundary == 0
	})
	part, next, err := page(policies, func(p *policy) string { return key(p.Name) }, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListPoliciesOutput{Policies: make([]types.Policy, len(part)), Marker: next, IsTruncated: next != nil}
	for i, p := range part {
		out.Policies[i] = *a.showPolicy(p, used[a.arn(p)])
		out.Policies[i].Description, out.Policies[i].Tags = nil, nil // lists leave them out
	}
	return out, nil
}

func (a *API) deletePolicy(ctx context.Context, in *sdk.DeletePolicyInput) (*sdk.DeletePolicyOutput, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, err := a.policy(ctx, operation.Value(in.PolicyArn))
	if err != nil {
		return nil, err
	}
	used, err := a.usage(ctx)
	if err != nil {
		return nil, err
	}
	if used[a.arn(p)] != (usage{}) {
		return nil, thaw.Errorf(thaw.CodeDeleteConflict, "Cannot delete a policy attached to entities.")
	}
	err = a.policies.Delete(ctx, key(p.Name))
	if errors.Is(err, state.ErrNotFound) {
		return nil, noPolicy(*in.PolicyArn)
	}
	return &sdk.DeletePolicyOutput{}, storeError(err)
}

// attachRolePolicy takes any ARN of AWS's own policies by its form: thaw keeps no list of them and evaluates none.
func (a *API) attachRolePolicy(ctx context.Context, in *sdk.AttachRolePolicyInput) (*sdk.AttachRolePolicyOutput, error) {
	arn := operation.Value(in.PolicyArn)
	if !policyARN.MatchString(arn) {
		return nil, badARN(arn)
	}
	_, err := a.changeRole(ctx, in.RoleName, func(r *role) error {
		if !ownedByAWS(arn) {
			if _, err := a.policy(ctx, arn); errors.Is(err, errNoPolicy) {
				return thaw.Errorf(thaw.CodeNoSuchEntity, "Policy %s does not exist or is not attachable.", arn)
			} else if err != nil {
				return err
			}
		}
		if slices.Contains(r.Attached, arn) {
			return nil
		}
		if len(r.Attached) >= maxAttached {
			return overQuota("PoliciesPerRole", maxAttached)
		}
		r.Attached = append(r.Attached, arn)
		return nil
	})
	return &sdk.AttachRolePolicyOutput{}, err
}

func (a *API) detachRolePolicy(ctx context.Context, in *sdk.DetachRolePolicyInput) (*sdk.DetachRolePolicyOutput, error) {
	arn := operation.Value(in.PolicyArn)
	if !policyARN.MatchString(arn) {
		return nil, badARN(arn)
	}
	_, err := a.changeRole(ctx, in.RoleName, func(r *role) error {
		at := slices.Index(r.Attached, arn)
		if at < 0 {
			return noPolicy(arn)
		}
		r.Attached = slices.Delete(r.Attached, at, at+1)
		return nil
	})
	return &sdk.DetachRolePolicyOutput{}, err
}

func (a *API) listAttachedRolePolicies(ctx context.Context, in *sdk.ListAttachedRolePoliciesInput) (*sdk.ListAttachedRolePoliciesOutput, error) {
	r, err := a.role(ctx, in.RoleName)
	if err != nil {
		return nil, err
	}
	var wanted []string
	for _, arn := range slices.Sorted(slices.Values(r.Attached)) {
		if strings.HasPrefix(pathOf(arn), operation.Value(in.PathPrefix)) {
			wanted = append(wanted, arn)
		}
	}
	part, next, err := page(wanted, func(arn string) string { return arn }, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListAttachedRolePoliciesOutput{AttachedPolicies: make([]types.AttachedPolicy, len(part)), Marker: next, IsTruncated: next != nil}
	for i, arn := range part {
		out.AttachedPolicies[i] = types.AttachedPolicy{PolicyArn: aws.String(arn), PolicyName: aws.String(policyARN.FindStringSubmatch(arn)[2])}
	}
	return out, nil
}

// pathOf is the path in a policy's ARN: from the slash after "policy" to the last one.
func pathOf(arn string) string {
	_, path, _ := strings.Cut(arn, ":policy")
	return path[:strings.LastIndexByte(path, '/')+1]
}

func ownedByAWS(arn string) bool {
	m := policyARN.FindStringSubmatch(arn)
	return m != nil && m[1] == "aws"
}

// errNoPolicy is what errors.Is finds in the error for a policy that is not there.
var errNoPolicy = &thaw.Error{Code: thaw.CodeNoSuchEntity}

func noPolicy(arn string) error {
	return thaw.Errorf(thaw.CodeNoSuchEntity, "Policy %s was not found.", arn)
}

func badARN(arn string) error {
	return thaw.Errorf(thaw.CodeValidationError, "ARN %s is not valid.", arn)
}

// policy reads a customer managed policy, or says that there is none.
func (a *API) policy(ctx context.Context, arn string) (*policy, error) {
	m := policyARN.FindStringSubmatch(arn)
	if m == nil {
		return nil, badARN(arn)
	}
	if m[1] == "aws" {
		return nil, thaw.Errorf(thaw.CodeNoSuchEntity, "Policy %s was not found. thaw keeps no documents of AWS managed policies; they can be attached to roles all the same.", arn)
	}
	p := new(policy)
	err := a.policies.Get(ctx, key(m[2]), p)
	if errors.Is(err, state.ErrNotFound) || err == nil && a.arn(p) != arn {
		return nil, noPolicy(arn)
	}
	return p, err
}

// usage counts the roles that have a policy attached, and those that have it as their boundary.
type usage struct{ attached, boundary int32 }

func (a *API) usage(ctx context.Context) (map[string]usage, error) {
	roles, err := all[role](ctx, a.roles)
	if err != nil {
		return nil, err
	}
	used := map[string]usage{}
	for _, r := range roles {
		for _, arn := range r.Attached {
			u := used[arn]
			u.attached++
			used[arn] = u
		}
		if r.Boundary != "" {
			u := used[r.Boundary]
			u.boundary++
			used[r.Boundary] = u
		}
	}
	return used, nil
}

func (a *API) showPolicy(p *policy, u usage) *types.Policy {
	return &types.Policy{
		Arn:                           aws.String(a.arn(p)),
		AttachmentCount:               aws.Int32(u.attached),
		CreateDate:                    aws.Time(p.Created),
		DefaultVersionId:              aws.String(onlyVersion),
		Description:                   operation.Optional(p.Description),
		IsAttachable:                  true,
		Path:                          aws.String(p.Path),
		PermissionsBoundaryUsageCount: aws.Int32(u.boundary),
		PolicyId:                      aws.String(p.ID),
		PolicyName:                    aws.String(p.Name),
		Tags:                          showTags(p.Tags),
		UpdateDate:                    aws.Time(p.Created),
	}
}

func showVersion(p *policy) types.PolicyVersion {
	return types.PolicyVersion{CreateDate: aws.Time(p.Created), IsDefaultVersion: true, VersionId: aws.String(onlyVersion)}
}
