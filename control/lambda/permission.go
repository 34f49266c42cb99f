package lambda

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/google/uuid"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
)

// maxPolicy is the largest resource-based policy, bytes, after the Lambda quotas page.
const maxPolicy = 20480

// Policies are kept and shown, not enforced: whoever holds the platform's credentials may invoke.
func (a *API) addPermission(ctx context.Context, in *sdk.AddPermissionInput) (*sdk.AddPermissionOutput, error) {
	t, err := a.resolve("AddPermission", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if t.qualifier == thaw.Latest {
		return nil, invalid("We currently do not support adding policies for $LATEST.")
	}
	var document string
	_, err = a.update(ctx, t.name, func(f *thaw.Function) error {
		err := a.qualified(f, t)
		if err != nil {
			return err
		}
		if document, err = statement(a.arn(t), in); err != nil {
			return err
		}
		if err := checkRevision(policyRevision(f, t.qualifier), in.RevisionId); err != nil {
			return err
		}
		p := f.Policies[t.qualifier]
		if indexStatement(p, operation.Value(in.StatementId)) >= 0 {
			return thaw.Errorf(thaw.CodeResourceConflict, "The statement id (%s) provided already exists. Please provide a new statement id, or remove the existing statement.", operation.Value(in.StatementId))
		}
		p.Statements = append(slices.Clip(p.Statements), thaw.Statement{SID: operation.Value(in.StatementId), Document: document})
		if size := len(policyDocument(p)); size > maxPolicy {
			return thaw.Errorf(thaw.CodePolicyLengthExceeded, "The final policy size (%d) is bigger than the limit (%d).", size, maxPolicy)
		}
		setPolicy(f, t.qualifier, p)
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, a.notFound(target{name: t.name})
	}
	if err != nil {
		return nil, err
	}
	return &sdk.AddPermissionOutput{Statement: &document}, nil
}

func (a *API) removePermission(ctx context.Context, in *sdk.RemovePermissionInput) (*sdk.RemovePermissionOutput, error) {
	t, err := a.resolve("RemovePermission", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	_, err = a.update(ctx, t.name, func(f *thaw.Function) error {
		if t.qualifier == thaw.Latest {
			return errNoPolicy
		}
		if err := a.qualified(f, t); err != nil {
			return err
		}
		p := f.Policies[t.qualifier]
		if len(p.Statements) == 0 {
			return errNoPolicy
		}
		i := indexStatement(p, operation.Value(in.StatementId))
		if i < 0 {
			return thaw.Errorf(thaw.CodeResourceNotFound, "Statement %s is not found in resource policy.", operation.Value(in.StatementId))
		}
		if err := checkRevision(policyRevision(f, t.qualifier), in.RevisionId); err != nil {
			return err
		}
		p.Statements = slices.Delete(slices.Clone(p.Statements), i, i+1)
		setPolicy(f, t.qualifier, p)
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, thaw.Errorf(thaw.CodeResourceNotFound, "No policy found for: %s", a.arn(target{name: t.name}))
	}
	if err != nil {
		return nil, err
	}
	return &sdk.RemovePermissionOutput{}, nil
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
	p := f.Policies[t.qualifier]
	if len(p.Statements) == 0 {
		return nil, thaw.Errorf(thaw.CodeResourceNotFound, "The resource you requested does not exist.")
	}
	return &sdk.GetPolicyOutput{Policy: aws.String(policyDocument(p)), RevisionId: aws.String(policyRevision(f, t.qualifier))}, nil
}

var errNoPolicy = thaw.Errorf(thaw.CodeResourceNotFound, "No policy is associated with the given resource.")

// A policy's revision is that of what it is about: the alias, the published version, or the function itself.
func policyRevision(f *thaw.Function, qualifier string) string {
	if alias, ok := f.Aliases[qualifier]; ok {
		return alias.RevisionID
	}
	if v := versionOf(f, qualifier); v != nil {
		return v.RevisionID
	}
	return ""
}

// setPolicy puts p in the place of a qualifier's policy and gives what it is about a new revision.
func setPolicy(f *thaw.Function, qualifier string, p thaw.Policy) {
	if alias, ok := f.Aliases[qualifier]; ok {
		alias.RevisionID = uuid.NewString()
		f.Aliases[qualifier] = alias
	} else if qualifier == "" {
		revision(f)
	} else if v := f.Version(qualifier); v != nil {
		v.RevisionID = uuid.NewString()
	}
	if len(p.Statements) == 0 {
		delete(f.Policies, qualifier)
		return
	}
	p.RevisionID = policyRevision(f, qualifier)
	if f.Policies == nil {
		f.Policies = map[string]thaw.Policy{}
	}
	f.Policies[qualifier] = p
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
