package lambda

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
)

func (a *API) updateFunctionCode(ctx context.Context, in *sdk.UpdateFunctionCodeInput) (*sdk.UpdateFunctionCodeOutput, error) {
	t, err := a.unqualified("UpdateFunctionCode", in.FunctionName)
	if err != nil {
		return nil, err
	}
	f, _, err := a.find(t)
	if err != nil {
		return nil, err
	}
	if in.PublishTo != "" {
		return nil, errPublishTo
	}
	if err := refuseCode(in.S3Bucket, in.S3Key, in.S3ObjectVersion, in.ImageUri, in.SourceKMSKeyArn, in.S3ObjectStorageMode); err != nil {
		return nil, err
	}
	architecture := f.Config.Architecture
	if in.Architectures != nil {
		if architecture, err = a.architecture(in.Architectures); err != nil {
			return nil, err
		}
	}
	// Looked at before the package is stored, to spare the work, and again when the change is made.
	if err := a.changeable(f, in.RevisionId); err != nil {
		return nil, err
	}
	if in.DryRun {
		v := f.Config
		v.Code, v.Architecture = digest(in.ZipFile), architecture
		if v.Code.Unzipped, err = a.checkZip(ctx, t.name, in.ZipFile); err != nil {
			return nil, err
		}
		if err := v.CheckUnzipped(); err != nil {
			return nil, err
		}
		return fill(&sdk.UpdateFunctionCodeOutput{}, a.describe(&v, "")), nil
	}
	code, err := a.store(ctx, t.name, in.ZipFile)
	if err != nil {
		return nil, err
	}
	layers, err := a.layerUsage(ctx)
	if err != nil {
		return nil, err
	}
	var published *thaw.Version
	f, err = a.change(ctx, t, in.RevisionId, func(f *thaw.Function) error {
		f.Config.Code, f.Config.Architecture = code, architecture
		if err := f.Config.CheckUnzipped(); err != nil {
			return err
		}
		a.begin(f)
		if !in.Publish {
			return nil
		}
		var err error
		published, err = a.publish(f, nil, layers)
		return err
	})
	if err != nil {
		return nil, err
	}
	if published != nil {
		return fill(&sdk.UpdateFunctionCodeOutput{}, a.describe(published, published.Number)), nil
	}
	return fill(&sdk.UpdateFunctionCodeOutput{}, a.describe(&f.Config, "")), nil
}

// digest names a package as the store would.
func digest(zip []byte) thaw.Code {
	sum := sha256.Sum256(zip)
	return thaw.Code{SHA256: base64.StdEncoding.EncodeToString(sum[:]), Size: int64(len(zip))}
}

func (a *API) updateFunctionConfiguration(ctx context.Context, in *sdk.UpdateFunctionConfigurationInput) (*sdk.UpdateFunctionConfigurationOutput, error) {
	t, err := a.unqualified("UpdateFunctionConfiguration", in.FunctionName)
	if err != nil {
		return nil, err
	}
	if _, _, err := a.find(t); err != nil {
		return nil, err
	}
	if err := refuseSettings(&settings{
		CapacityProviderConfig: in.CapacityProviderConfig, DurableConfig: in.DurableConfig,
		FileSystemConfigs: in.FileSystemConfigs, ImageConfig: in.ImageConfig, KMSKeyArn: in.KMSKeyArn,
		VpcConfig: in.VpcConfig,
	}); err != nil {
		return nil, err
	}
	if in.Runtime != "" {
		if err := a.cfg.Runtimes.Check(string(in.Runtime)); err != nil {
			return nil, err
		}
	}
	if in.Role != nil {
		if err := checkRole(in.Role); err != nil {
			return nil, err
		}
	}
	layers, err := a.useLayers(ctx, in.Layers)
	if err != nil {
		return nil, err
	}
	f, err := a.change(ctx, t, in.RevisionId, func(f *thaw.Function) error {
		if in.Layers != nil { // an empty list takes all layers away
			f.Config.Layers = layers
			if err := f.Config.CheckUnzipped(); err != nil {
				return err
			}
		}
		if err := a.setDeadLetter(&f.Config, in.DeadLetterConfig); err != nil {
			return err
		}
		if err := a.setTracing(&f.Config, in.TracingConfig); err != nil {
			return err
		}
		if err := configure(&f.Config, in); err != nil {
			return err
		}
		a.begin(f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return fill(&sdk.UpdateFunctionConfigurationOutput{}, a.describe(&f.Config, "")), nil
}

// configure takes the members that in carries into v. It runs inside the store's compare-and-set and touches only v.
func configure(v *thaw.Version, in *sdk.UpdateFunctionConfigurationInput) error {
	if in.Description != nil {
		v.Description = *in.Description
	}
	if in.Handler != nil {
		if *in.Handler == "" {
			return invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
		}
		v.Handler = *in.Handler
	}
	if in.Runtime != "" {
		v.Runtime = string(in.Runtime)
	}
	if in.Role != nil {
		v.Role = *in.Role
	}
	if err := setLogging(v, in.LoggingConfig); err != nil {
		return err
	}
	setSnapStart(v, in.SnapStart)
	if err := setNumbers(v, in.Timeout, in.MemorySize, in.EphemeralStorage); err != nil {
		return err
	}
	return setEnvironment(v, in.Environment)
}

// change makes one accepted change of code or configuration, also when it changes nothing: AWS goes through InProgress
// and gives new revisions for a redundant update too.
func (a *API) change(ctx context.Context, t target, revisionID *string, apply func(*thaw.Function) error) (*thaw.Function, error) {
	f, err := a.update(ctx, t.name, func(f *thaw.Function) error {
		if err := a.changeable(f, revisionID); err != nil {
			return err
		}
		return apply(f)
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, a.notFound(target{name: t.name})
	}
	return f, err
}

// begin draws the state machine's arrow into an update. A function that never became Active has nothing to serve in the
// meantime, so it is Pending again.
func (a *API) begin(f *thaw.Function) {
	v, now := &f.Config, a.now()
	v.Generation = thaw.NextGeneration(lastGeneration(f), now)
	v.LastModified = now.UTC()
	v.LastUpdate, v.LastUpdateReason, v.LastUpdateCode = thaw.UpdateInProgress, reasonCreating, reasonCodeCreating
	if v.State == thaw.StateFailed {
		v.State, v.StateReason, v.StateReasonCode = thaw.StatePending, reasonCreating, reasonCodeCreating
	}
	revision(f)
}

// changeable refuses an update of a function that is in the middle of one, or that is not at the revision asked for.
func (a *API) changeable(f *thaw.Function, revisionID *string) error {
	if err := atRevision(f, revisionID); err != nil {
		return err
	}
	switch {
	case f.Config.LastUpdate == thaw.UpdateInProgress:
		return thaw.Errorf(thaw.CodeResourceConflict, "The operation cannot be performed at this time. An update is in progress for resource: %s", a.cfg.Account.FunctionARN(f.Name, ""))
	case f.Config.State == thaw.StatePending:
		return thaw.Errorf(thaw.CodeResourceConflict, "The operation cannot be performed at this time. The function is currently in the following state: Pending")
	}
	return nil
}

func atRevision(f *thaw.Function, revisionID *string) error {
	return checkRevision(f.Config.RevisionID, revisionID)
}

// checkRevision is the precondition that RevisionId makes, when a request has it.
func checkRevision(present string, asked *string) error {
	if operation.Value(asked) != "" && *asked != present {
		return thaw.Errorf(thaw.CodePreconditionFailed, "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id")
	}
	return nil
}
