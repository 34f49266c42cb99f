package lambda

import (
	"crypto/sha256"
	"encoding/hex"
	"reflect"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
	"thaw/control/internal/operation"
)

// timeFormat is LastModified's: milliseconds, and UTC written as +0000.
const timeFormat = "2006-01-02T15:04:05.000+0000"

// describe renders a version as the Lambda API shows it. The ARN carries the qualifier that the request had.
func (a *API) describe(v *thaw.Version, qualifier string) *types.FunctionConfiguration {
	c := a.list(v, qualifier)
	c.State = types.State(v.State)
	c.StateReason = operation.Optional(v.StateReason)
	c.StateReasonCode = types.StateReasonCode(v.StateReasonCode)
	c.LastUpdateStatus = types.LastUpdateStatus(v.LastUpdate)
	c.LastUpdateStatusReason = operation.Optional(v.LastUpdateReason)
	c.LastUpdateStatusReasonCode = types.LastUpdateStatusReasonCode(v.LastUpdateCode)
	c.RuntimeVersionConfig = &types.RuntimeVersionConfig{RuntimeVersionArn: aws.String(a.runtimeARN(v.Runtime))}
	return c
}

// list renders what ListFunctions shows, which is less than what GetFunction shows: neither states nor runtime versions.
func (a *API) list(v *thaw.Version, qualifier string) *types.FunctionConfiguration {
	c := &types.FunctionConfiguration{
		Architectures:    []types.Architecture{types.Architecture(v.Architecture)},
		CodeSha256:       aws.String(v.Code.SHA256),
		CodeSize:         v.Code.Size,
		Description:      aws.String(v.Description),
		EphemeralStorage: &types.EphemeralStorage{Size: aws.Int32(int32(v.TmpSize))},
		FunctionArn:      aws.String(a.cfg.Account.FunctionARN(v.Function, qualifier)),
		FunctionName:     aws.String(v.Function),
		Handler:          aws.String(v.Handler),
		LastModified:     aws.String(v.LastModified.UTC().Format(timeFormat)),
		LoggingConfig:    logging(v),
		MemorySize:       aws.Int32(int32(v.MemorySize)),
		PackageType:      types.PackageTypeZip,
		RevisionId:       aws.String(v.RevisionID),
		Role:             aws.String(v.Role),
		Runtime:          types.Runtime(v.Runtime),
		SnapStart:        snapStart(v),
		Timeout:          aws.Int32(int32(v.Timeout)),
		TracingConfig:    &types.TracingConfigResponse{Mode: types.TracingMode(v.TracingMode)},
		Version:          aws.String(v.Number),
	}
	if v.DeadLetter != "" {
		c.DeadLetterConfig = &types.DeadLetterConfig{TargetArn: aws.String(v.DeadLetter)}
	}
	for i := range v.Layers {
		c.Layers = append(c.Layers, types.Layer{Arn: &v.Layers[i].ARN, CodeSize: v.Layers[i].Code.Size})
	}
	if len(v.Environment) > 0 {
		c.Environment = &types.EnvironmentResponse{Variables: v.Environment}
	}
	return c
}

// snapStart says when SnapStart applies. It optimises published versions only, so that $LATEST is always Off.
func snapStart(v *thaw.Version) *types.SnapStartResponse {
	r := &types.SnapStartResponse{ApplyOn: types.SnapStartApplyOnNone, OptimizationStatus: types.SnapStartOptimizationStatusOff}
	if v.SnapStarted() {
		r.ApplyOn = types.SnapStartApplyOnPublishedVersions
		if v.Number != thaw.Latest {
			r.OptimizationStatus = types.SnapStartOptimizationStatusOn
		}
	}
	return r
}

// runtimeARN has the form of AWS's runtime version ARNs. Its digest names the runtime identifier: there is one
// interpreter for each, the host's.
func (a *API) runtimeARN(runtime string) string {
	sum := sha256.Sum256([]byte("thaw runtime " + runtime))
	return "arn:aws:lambda:" + a.cfg.Account.Region + "::runtime:" + hex.EncodeToString(sum[:])
}

// fill copies c into an operation's output. The SDK repeats the members of some structures in several outputs whose types
// have nothing in common; a test holds that each of them has every member.
func fill[Out, In any](out *Out, c *In) *Out {
	from, to := reflect.ValueOf(c).Elem(), reflect.ValueOf(out).Elem()
	for i := range from.NumField() {
		if f := from.Type().Field(i); f.IsExported() {
			to.FieldByName(f.Name).Set(from.Field(i))
		}
	}
	return out
}

func accountSettings(l Limits, unreserved int, functions, size int64) *sdk.GetAccountSettingsOutput {
	return &sdk.GetAccountSettingsOutput{
		AccountLimit: &types.AccountLimit{
			CodeSizeUnzipped:               thaw.MaxUnzipped,
			CodeSizeZipped:                 thaw.MaxZip,
			ConcurrentExecutions:           l.ConcurrentExecutions,
			TotalCodeSize:                  l.TotalCodeSize,
			UnreservedConcurrentExecutions: aws.Int32(int32(unreserved)),
		},
		AccountUsage: &types.AccountUsage{FunctionCount: functions, TotalCodeSize: size},
	}
}
