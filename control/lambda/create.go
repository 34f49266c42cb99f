package lambda

import (
	"bytes"
	"context"
	"errors"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
)

// Defaults of CreateFunction, after its documentation. The architecture's default is the host's, where AWS has x86_64.
const (
	defaultTimeout = 3   // seconds
	defaultMemory  = 128 // MB
	defaultTmp     = 512 // MB
)

const (
	reasonCreating     = "The function is being created."
	reasonCodeCreating = "Creating"
)

func (a *API) createFunction(ctx context.Context, in *sdk.CreateFunctionInput) (*sdk.CreateFunctionOutput, error) {
	name, err := a.newName(in.FunctionName)
	if err != nil {
		return nil, err
	}
	v, err := a.newVersion(name, in)
	if err != nil {
		return nil, err
	}
	if v.Layers, err = a.useLayers(ctx, in.Layers); err != nil {
		return nil, err
	}
	if err := checkTags(nil, in.Tags); err != nil {
		return nil, err
	}
	if _, exists := a.cfg.Functions.Function(name); exists {
		return nil, alreadyExists(name)
	}
	if v.Code, err = a.store(ctx, name, in.Code.ZipFile); err != nil {
		return nil, err
	}
	if err := v.CheckUnzipped(); err != nil {
		return nil, err
	}
	f := &thaw.Function{Name: name, Config: *v}
	if len(in.Tags) > 0 {
		f.Tags = in.Tags
	}
	revision(f)
	shown := &f.Config
	if in.Publish {
		layers, err := a.layerUsage(ctx)
		if err != nil {
			return nil, err
		}
		if shown, err = a.publish(f, nil, layers); err != nil {
			return nil, err
		}
	}
	err = a.cfg.Functions.CreateFunction(ctx, f)
	if errors.Is(err, state.ErrExists) {
		return nil, alreadyExists(name)
	}
	if err != nil {
		return nil, storeError(err)
	}
	// AWS shows the version here under the unqualified ARN.
	return fill(&sdk.CreateFunctionOutput{}, a.describe(shown, "")), nil
}

func alreadyExists(name string) error {
	return thaw.Errorf(thaw.CodeResourceConflict, "Function already exist: %s", name)
}

// newVersion makes the $LATEST version that in asks for, without its code, or says what of in cannot be had.
func (a *API) newVersion(name string, in *sdk.CreateFunctionInput) (*thaw.Version, error) {
	if in.PackageType != "" && in.PackageType != types.PackageTypeZip {
		return nil, refused("PackageType", "container images cannot run; send a .zip package with PackageType Zip")
	}
	if in.PublishTo != "" {
		return nil, errPublishTo
	}
	if operation.Value(in.CodeSigningConfigArn) != "" {
		return nil, refused("CodeSigningConfigArn", "signatures are not checked; leave it out")
	}
	if in.TenancyConfig != nil {
		return nil, refused("TenancyConfig", "environments are not kept per tenant; leave it out")
	}
	if err := refuseSettings(&settings{
		CapacityProviderConfig: in.CapacityProviderConfig, DurableConfig: in.DurableConfig,
		FileSystemConfigs: in.FileSystemConfigs, ImageConfig: in.ImageConfig, KMSKeyArn: in.KMSKeyArn,
		VpcConfig: in.VpcConfig,
	}); err != nil {
		return nil, err
	}
	if in.Code == nil {
		return nil, errNoCode
	}
	if err := refuseCode(in.Code.S3Bucket, in.Code.S3Key, in.Code.S3ObjectVersion, in.Code.ImageUri, in.Code.SourceKMSKeyArn, in.Code.S3ObjectStorageMode); err != nil {
		return nil, err
	}
	if in.Runtime == "" || operation.Value(in.Handler) == "" {
		return nil, invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
	}
	if err := a.cfg.Runtimes.Check(string(in.Runtime)); err != nil {
		return nil, err
	}
	if err := checkRole(in.Role); err != nil {
		return nil, err
	}
	architecture, err := a.architecture(in.Architectures)
	if err != nil {
		return nil, err
	}
	now := a.now()
	v := &thaw.Version{
		Function: name, Number: thaw.Latest,
		Description:  operation.Value(in.Description),
		Runtime:      string(in.Runtime),
		Handler:      operation.Value(in.Handler),
		Role:         operation.Value(in.Role),
		Architecture: architecture,
		Timeout:      defaultTimeout,
		MemorySize:   defaultMemory,
		TmpSize:      defaultTmp,
		TracingMode:  string(types.TracingModePassThrough),
		State:        thaw.StatePending, StateReason: reasonCreating, StateReasonCode: reasonCodeCreating,
		LastModified: now.UTC(),
		Generation:   thaw.NextGeneration(0, now),
	}
	if err := setNumbers(v, in.Timeout, in.MemorySize, in.EphemeralStorage); err != nil {
		return nil, err
	}
	if err := setEnvironment(v, in.Environment); err != nil {
		return nil, err
	}
	if err := a.setTracing(v, in.TracingConfig); err != nil {
		return nil, err
	}
	if err := a.setDeadLetter(v, in.DeadLetterConfig); err != nil {
		return nil, err
	}
	if err := setLogging(v, in.LoggingConfig); err != nil {
		return nil, err
	}
	setSnapStart(v, in.SnapStart)
	return v, nil
}

// architecture is the one asked for, which must be the host's.
func (a *API) architecture(asked []types.Architecture) (string, error) {
	if len(asked) == 0 {
		return a.cfg.Architecture, nil
	}
	if string(asked[0]) != a.cfg.Architecture {
		return "", invalid("Architecture %s cannot run on this machine, which is %s. Build the package for %s and set Architectures to it.", asked[0], a.cfg.Architecture, a.cfg.Architecture)
	}
	return a.cfg.Architecture, nil
}

// store checks the package of a function or of a layer, whose function is empty, and keeps it. A package that nothing comes to
// name is dropped by the store's sweep.
func (a *API) store(ctx context.Context, function string, zip []byte) (thaw.Code, error) {
	unzipped, err := a.checkZip(ctx, function, zip)
	if err != nil {
		return thaw.Code{}, err
	}
	code, err := a.cfg.Packages.PutCode(ctx, zip)
	code.Unzipped = unzipped
	return code, storeError(err)
}

func (a *API) checkZip(ctx context.Context, function string, zip []byte) (unzipped int64, err error) {
	if zip == nil {
		return 0, errNoCode
	}
	if len(zip) > thaw.MaxZip {
		return 0, thaw.Errorf(thaw.CodeRequestEntityTooLarge, "Zipped size must be smaller than %d bytes", thaw.MaxZip)
	}
	layers, err := a.layerUsage(ctx)
	if err != nil {
		return 0, err
	}
	if _, used := a.usage(function); used+layers+int64(len(zip)) > a.cfg.Limits.TotalCodeSize {
		return 0, errCodeStorage
	}
	return a.cfg.CheckPackage(ctx, bytes.NewReader(zip), int64(len(zip)))
}

var errCodeStorage = thaw.Errorf(thaw.CodeCodeStorageExceeded, "Code storage limit exceeded.")
