package lambda

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw"
	"thaw/state"
)

// maxPolicy is the largest resource-based policy, bytes, after the Lambda quotas page.
const maxPolicy = 20480

// unqualifiedPolicy is the key of the function's own policy among those of its qualifiers.
const unqualifiedPolicy = ""

// Policies are kept and shown, not enforced: whoever holds the platform's credentials may invoke.
func (a *API) addPermission(ctx context.Context, in *sdk.AddPermissionInput) (*sdk.AddPermissionOutput, error) {
	t, err := a.resolve("AddPermission", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if t.qualifier == thaw.Latest {
		return nil, invalid("We currently do not support adding policies for $LATEST.")
	}
	if err := a.qualifierExists(t); err != nil {
		return nil, err
	}
	document, err := statement(a.arn(t), in)
	if err != nil {
		return nil, err
	}
	_, err = a.cfg.Functions.UpdateFunction(ctx, t.name, func(f *thaw.Function) error {
		if err := atRevision(f, in.RevisionId); err != nil {
			return err
		}
		p := f.Policies[unqualifiedPolicy]
		if indexStatement(p, value(in.StatementId)) >= 0 {
			return thaw.Errorf(thaw.CodeResourceConflict, "The statement id (%s) provided already exists. Please provide a new statement id, or remove the existing statement.", value(in.StatementId))
		}
		p.Statements = append(slices.Clip(p.Statements), thaw.Statement{SID: value(in.StatementId), Document: document})
		if size := len(policyDocument(p)); size > maxPolicy {
			return thaw.Errorf(thaw.CodePolicyLengthExceeded, "The final policy size (%d) is bigger than the limit (%d).", size, maxPolicy)
		}
		setPolicy(f, p)
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, a.notFound(t)
	}
	if err != nil {
		return nil, storeError(err)
	}
	return &sdk.AddPermissionOutput{Statement: &document}, nil
}

func (a *API) removePermission(ctx context.Context, in *sdk.RemovePermissionInput) (*sdk.RemovePermissionOutput, error) {
	t, err := a.resolve("RemovePermission", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if _, ok := a.cfg.Functions.Function(t.name); !ok {
		return nil, noPolicyFor(a.arn(target{name: t.name}))
	}
	if t.qualifier == thaw.Latest {
		return nil, errNoPolicy
	}
	if err := a.qualifierExists(t); err != nil {
		return nil, err
	}
	_, err = a.cfg.Functions.UpdateFunction(ctx, t.name, func(f *thaw.Function) error {
		p := f.Policies[unqualifiedPolicy]
		if len(p.Statements) == 0 {
			return errNoPolicy
		}
		i := indexStatement(p, value(in.StatementId))
		if i < 0 {
			return thaw.Errorf(thaw.CodeResourceNotFound, "Statement %s is not found in resource policy.", value(in.StatementId))
		}
		if err := atRevision(f, in.RevisionId); err != nil {
			return err
		}
		p.Statements = slices.Delete(slices.Clone(p.Statements), i, i+1)
		setPolicy(f, p)
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, noPolicyFor(a.arn(target{name: t.name}))
	}
	return &sdk.RemovePermissionOutput{}, storeError(err)
}

func (a *API) getPolicy(_ context.Context, in *sdk.GetPolicyInput) (*sdk.GetPolicyOutput, error) {
	t, err := a.resolve("GetPolicy", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	f, ok := a.cfg.Functions.Function(t.name)
	if !ok {
		return nil, a.notFound(target{name: t.name})
	}
	p := f.Policies[unqualifiedPolicy]
	if t.qualifier != "" || len(p.Statements) == 0 {
		return nil, thaw.Errorf(thaw.CodeResourceNotFound, "The resource you requested does not exist.")
	}
	return &sdk.GetPolicyOutput{Policy: aws.String(policyDocument(p)), RevisionId: aws.String(f.Config.RevisionID)}, nil
}

var errNoPolicy = thaw.Errorf(thaw.CodeResourceNotFound, "No policy is associated with the given resource.")

func noPolicyFor(arn string) error {
	return thaw.Errorf(thaw.CodeResourceNotFound, "No policy found for: %s", arn)
}

// qualifierExists is find with the words that operations on policies have for an alias that is not there.
func (a *API) qualifierExists(t target) error {
	if _, err := a.find(target{name: t.name}); err != nil {
		return err
	}
	if isAlias(t.qualifier) {
		return thaw.Errorf(thaw.CodeResourceNotFound, "Cannot find alias arn: %s", a.arn(t))
	}
	_, err := a.find(t)
	return err
}

// setPolicy puts p in place of the function's policy. A policy's revision is the function's own.
func setPolicy(f *thaw.Function, p thaw.Policy) {
	revision(f)
	if len(p.Statements) == 0 {
		delete(f.Policies, unqualifiedPolicy)
		return
	}
	p.RevisionID = f.Config.RevisionID
	if f.Policies == nil {
		f.Policies = map[string]thaw.Policy{}
	}
	f.Policies[unqualifiedPolicy] = p
}

func indexStatement(p thaw.Policy, sid string) int {
	return slices.IndexFunc(p.Statements, func(s thaw.Statement) bool { return s.SID == sid })
}

// policyDocument is the whole policy as GetPolicy shows it.
func policyDocument(p thaw.Policy) string {
	documents := make([]string, len(p.Statements))
	for i, s := range p.Statements {
		documents[i] = s.Document
	}
	return `{"Version":"2012-10-17","Id":"default","Statement":[` + strings.Join(documents, ",") + `]}`
}
