package lambda

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
)

// secondsFormat is LastModified's here: unlike a function's, without milliseconds, as the examples of the documentation are.
const secondsFormat = "2006-01-02T15:04:05+0000"

func (a *API) putProvisionedConcurrencyConfig(ctx context.Context, in *sdk.PutProvisionedConcurrencyConfigInput) (*sdk.PutProvisionedConcurrencyConfigOutput, error) {
	t, err := a.resolve("PutProvisionedConcurrencyConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	p := thaw.Provisioned{Requested: int(operation.Value(in.ProvisionedConcurrentExecutions)), LastModified: a.now().UTC()}
	if err := a.provision(ctx, t, p); err != nil {
		return nil, err
	}
	// What is there of it is known only after the nodes have seen the record.
	return &sdk.PutProvisionedConcurrencyConfigOutput{
		AllocatedProvisionedConcurrentExecutions: aws.Int32(0),
		AvailableProvisionedConcurrentExecutions: aws.Int32(0),
		LastModified:                             aws.String(p.LastModified.Format(secondsFormat)),
		RequestedProvisionedConcurrentExecutions: aws.Int32(int32(p.Requested)),
		Status:                                   types.ProvisionedConcurrencyStatusEnumInProgress,
	}, nil
}

// Provision sets the provisioned concurrency of a version's number or an alias's name; 0 takes it away. It refuses what
// PutProvisionedConcurrencyConfig and DeleteProvisionedConcurrencyConfig refuse, with the same errors.
func (a *API) Provision(ctx context.Context, function, qualifier string, n int) error {
	return a.provision(ctx, target{function, qualifier}, thaw.Provisioned{Requested: n, LastModified: a.now().UTC()})
}

// provision stores a wish, or takes it away when nothing is requested. A wish that is not there counts as taken away, as
// long as its qualifier exists.
func (a *API) provision(ctx context.Context, t target, p thaw.Provisioned) error {
	switch {
	case t.qualifier == thaw.Latest && p.Requested > 0:
		return errProvisionLatest
	case t.qualifier == thaw.Latest, t.qualifier == "":
		return errNotPublished
	}
	a.reserving.Lock()
	defer a.reserving.Unlock()
	_, err := a.update(ctx, t.name, func(f *thaw.Function) error {
		if err := a.qualified(f, t); err != nil {
			return err
		}
		if p.Requested == 0 {
			if _, ok := f.Provisioned[t.qualifier]; !ok {
				return errNothingToDo
			}
			delete(f.Provisioned, t.qualifier)
			return nil
		}
		if err := a.checkProvisioned(f, t.qualifier, p.Requested); err != nil {
			return err
		}
		if f.Provisioned == nil {
			f.Provisioned = map[string]thaw.Provisioned{}
		}
		f.Provisioned[t.qualifier] = p
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return a.missing(t)
	}
	return err
}

var (
	errProvisionLatest = invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
	errNotPublished    = invalid("The function resource provided must be an alias or a published version.")
)

// checkProvisioned judges a wish for n environments of a qualifier that exists.
func (a *API) checkProvisioned(f *thaw.Function, qualifier string, n int) error {
	total := f.TotalProvisioned() - f.Provisioned[qualifier].Requested + n
	if f.Reserved != nil {
		if total > *f.Reserved {
			return invalid("Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function")
		}
	} else if total > f.Claim() {
		left := a.unclaimed(f.Name)
		switch {
		case total > left:
			return invalid("Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [%d].", left)
		case left-total < a.floor():
			return invalid("Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", a.floor())
		}
	}
	if alias, ok := f.Aliases[qualifier]; ok {
		if alias.Other != "" {
			return invalid("Alias with weights can not be used with Provisioned Concurrency")
		}
		return checkProvisionedAlias(f, &alias)
	}
	for name, alias := range f.Aliases {
		if alias.Version == qualifier && f.Provisioned[name].Requested > 0 {
			return thaw.Errorf(thaw.CodeResourceConflict, "Version is pointed by a Provisioned Concurrency alias")
		}
	}
	return nil
}

// checkProvisionedAlias judges where an alias with provisioned concurrency points.
func checkProvisionedAlias(f *thaw.Function, alias *thaw.Alias) error {
	if alias.Version == thaw.Latest {
		return errProvisionLatest
	}
	if _, ok := f.Provisioned[alias.Version]; ok {
		return thaw.Errorf(thaw.CodeResourceConflict, "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version")
	}
	return nil
}

func (a *API) getProvisionedConcurrencyConfig(_ context.Context, in *sdk.GetProvisionedConcurrencyConfigInput) (*sdk.GetProvisionedConcurrencyConfigOutput, error) {
	t, err := a.resolve("GetProvisionedConcurrencyConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if t.qualifier == thaw.Latest || t.qualifier == "" {
		return nil, errNotPublished
	}
	f, ok := a.cfg.Functions.Function(t.name)
	if !ok {
		return nil, a.missing(t)
	}
	if err := a.qualified(f, t); err != nil {
		return nil, err
	}
	p, ok := f.Provisioned[t.qualifier]
	if !ok {
		return nil, thaw.Errorf(thaw.CodeProvisionedNotFound, "No Provisioned Concurrency Config found for this function")
	}
	c := a.provisioned(t, p)
	return &sdk.GetProvisionedConcurrencyConfigOutput{
		AllocatedProvisionedConcurrentExecutions: c.AllocatedProvisionedConcurrentExecutions,
		AvailableProvisionedConcurrentExecutions: c.AvailableProvisionedConcurrentExecutions,
		LastModified:                             c.LastModified,
		RequestedProvisionedConcurrentExecutions: c.RequestedProvisionedConcurrentExecutions,
		Status:                                   c.Status,
		StatusReason:                             c.StatusReason,
	}, nil
}

// provisioned renders a wish and what this node has of it.
func (a *API) provisioned(t target, p thaw.Provisioned) types.ProvisionedConcurrencyConfigListItem {
	var c thaw.Capacity
	if a.cfg.Capacity != nil {
		c = a.cfg.Capacity(t.name, t.qualifier)
	}
	if c.Status == "" {
		c.Status = thaw.ProvisionedInProgress
	}
	return types.ProvisionedConcurrencyConfigListItem{
		AllocatedProvisionedConcurrentExecutions: aws.Int32(int32(c.Allocated)),
		AvailableProvisionedConcurrentExecutions: aws.Int32(int32(c.Available)),
		FunctionArn:                              aws.String(a.arn(t)),
		LastModified:                             aws.String(p.LastModified.Format(secondsFormat)),
		RequestedProvisionedConcurrentExecutions: aws.Int32(int32(p.Requested)),
		Status:                                   types.ProvisionedConcurrencyStatusEnum(c.Status),
		StatusReason:                             operation.Optional(c.Reason),
	}
}

func (a *API) listProvisionedConcurrencyConfigs(_ context.Context, in *sdk.ListProvisionedConcurrencyConfigsInput) (*sdk.ListProvisionedConcurrencyConfigsOutput, error) {
	t, err := a.unqualified("ListProvisionedConcurrencyConfigs", in.FunctionName)
	if err != nil {
		return nil, err
	}
	f, _, err := a.find(t)
	if err != nil {
		return nil, err
	}
	page, next, err := cut("ListProvisionedConcurrencyConfigs", slices.Sorted(maps.Keys(f.Provisioned)), sameText, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListProvisionedConcurrencyConfigsOutput{ProvisionedConcurrencyConfigs: make([]types.ProvisionedConcurrencyConfigListItem, len(page)), NextMarker: next}
	for i, qualifier := range page {
		out.ProvisionedConcurrencyConfigs[i] = a.provisioned(target{t.name, qualifier}, f.Provisioned[qualifier])
	}
	return out, nil
}

func (a *API) deleteProvisionedConcurrencyConfig(ctx context.Context, in *sdk.DeleteProvisionedConcurrencyConfigInput) (*sdk.DeleteProvisionedConcurrencyConfigOutput, error) {
	t, err := a.resolve("DeleteProvisionedConcurrencyConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if err := a.provision(ctx, t, thaw.Provisioned{}); err != nil {
		return nil, err
	}
	return &sdk.DeleteProvisionedConcurrencyConfigOutput{}, nil
}
