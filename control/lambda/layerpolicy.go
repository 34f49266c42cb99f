package lambda

import (
	"context"
	"errors"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/google/uuid"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
)

// Policies of layers are kept and shown. They would let other accounts in, and there are none.
func (a *API) addLayerVersionPermission(ctx context.Context, in *sdk.AddLayerVersionPermissionInput) (*sdk.AddLayerVersionPermissionOutput, error) {
	name, err := a.layerName("AddLayerVersionPermission", in.LayerName)
	if err != nil {
		return nil, err
	}
	if operation.Value(in.OrganizationId) != "" && operation.Value(in.Principal) != "*" {
		return nil, invalid("When you specify an organization ID, the principal must be set to '*'.")
	}
	arn := a.cfg.Account.LayerARN(name, operation.Value(in.VersionNumber))
	document, err := layerStatement(arn, in)
	if err != nil {
		return nil, err
	}
	p, err := a.changeLayerPolicy(ctx, name, operation.Value(in.VersionNumber), in.RevisionId, func(p *thaw.Policy) error {
		if indexStatement(*p, operation.Value(in.StatementId)) >= 0 {
			return thaw.Errorf(thaw.CodeResourceConflict, "The statement id (%s) provided already exists. Please provide a new statement id, or remove the existing statement.", operation.Value(in.StatementId))
		}
		p.Statements = append(p.Statements, thaw.Statement{SID: operation.Value(in.StatementId), Document: document})
		if size := len(policyDocument(*p)); size > maxPolicy {
			return thaw.Errorf(thaw.CodePolicyLengthExceeded, "The final policy size (%d) is bigger than the limit (%d).", size, maxPolicy)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.AddLayerVersionPermissionOutput{Statement: &document, RevisionId: &p.RevisionID}, nil
}

func layerStatement(arn string, in *sdk.AddLayerVersionPermissionInput) (string, error) {
	who, err := principal(operation.Value(in.Principal))
	if err != nil {
		return "", err
	}
	s := statementDocument{Sid: operation.Value(in.StatementId), Effect: "Allow", Principal: who, Action: operation.Value(in.Action), Resource: arn}
	if organization := operation.Value(in.OrganizationId); organization != "" {
		s.Condition = &condition{StringEquals: map[string]string{"aws:PrincipalOrgID": organization}}
	}
	return s.text()
}

func (a *API) removeLayerVersionPermission(ctx context.Context, in *sdk.RemoveLayerVersionPermissionInput) (*sdk.RemoveLayerVersionPermissionOutput, error) {
	name, err := a.layerName("RemoveLayerVersionPermission", in.LayerName)
	if err != nil {
		return nil, err
	}
	_, err = a.changeLayerPolicy(ctx, name, operation.Value(in.VersionNumber), in.RevisionId, func(p *thaw.Policy) error {
		i := indexStatement(*p, operation.Value(in.StatementId))
		if i < 0 {
			return thaw.Errorf(thaw.CodeResourceNotFound, "Statement %s is not found in resource policy.", operation.Value(in.StatementId))
		}
		p.Statements = slices.Delete(p.Statements, i, i+1)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.RemoveLayerVersionPermissionOutput{}, nil
}

func (a *API) getLayerVersionPolicy(ctx context.Context, in *sdk.GetLayerVersionPolicyInput) (*sdk.GetLayerVersionPolicyOutput, error) {
	name, err := a.layerName("GetLayerVersionPolicy", in.LayerName)
	if err != nil {
		return nil, err
	}
	v, err := a.findLayer(ctx, name, operation.Value(in.VersionNumber))
	switch {
	case err != nil:
		return nil, err
	case v == nil:
		return nil, a.noLayerVersion(name, operation.Value(in.VersionNumber))
	case v.Policy == nil || len(v.Policy.Statements) == 0:
		return nil, errNoPolicy
	}
	return &sdk.GetLayerVersionPolicyOutput{Policy: operation.Optional(policyDocument(*v.Policy)), RevisionId: &v.Policy.RevisionID}, nil
}

// changeLayerPolicy makes one change of a layer version's policy and gives it a new revision.
func (a *API) changeLayerPolicy(ctx context.Context, name string, number int64, revisionID *string, change func(*thaw.Policy) error) (*thaw.Policy, error) {
	var p *thaw.Policy
	_, err := state.UpdateRecord(ctx, a.cfg.Layers, name, func(r *thaw.LayerRecord) error {
		v := layerVersion(r, number)
		if v == nil {
			return a.noLayerVersion(name, number)
		}
		if v.Policy == nil {
			v.Policy = &thaw.Policy{}
		}
		p = v.Policy
		if operation.Value(revisionID) != "" && *revisionID != p.RevisionID {
			return thaw.Errorf(thaw.CodePreconditionFailed, "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest Revision Id")
		}
		if err := change(p); err != nil {
			return err
		}
		p.RevisionID = uuid.NewString()
		return checkLayerRecord(r)
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, a.noLayerVersion(name, number)
	}
	return p, storeError(err)
}

func (a *API) noLayerVersion(name string, number int64) error {
	arn := a.cfg.Account.LayerARN(name, number)
	return thaw.Errorf(thaw.CodeResourceNotFound, "Layer version %s does not exist.", arn)
}
