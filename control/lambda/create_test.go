package lambda

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"thaw"
)

func TestCreateFunctionDefaults(t *testing.T) {
	a, store := newAPI(t)
	a.now = func() time.Time { return time.Date(2026, 11, 21, 20, 0, 0, 7e6, time.UTC) }
	in := createInput(t, "hello")
	out, err := a.createFunction(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	code := digest(in.Code.ZipFile)
	want := &sdk.CreateFunctionOutput{
		Architectures: []types.Architecture{"x86_64"}, CodeSha256: &code.SHA256, CodeSize: code.Size, Description: ptr(""),
		EphemeralStorage: &types.EphemeralStorage{Size: aws.Int32(512)},
		FunctionArn:      ptr("arn:aws:lambda:us-east-1:000000000000:function:hello"), FunctionName: ptr("hello"),
		Handler: ptr("app.handler"), LastModified: ptr("2026-11-21T20:00:00.007+0000"),
		LoggingConfig: &types.LoggingConfig{LogFormat: "Text", LogGroup: ptr("/aws/lambda/hello")},
		MemorySize:    aws.Int32(128), PackageType: "Zip", Role: ptr(roleARN), Runtime: "python3.11",
		RuntimeVersionConfig: out.RuntimeVersionConfig, RevisionId: out.RevisionId,
		SnapStart: &types.SnapStartResponse{ApplyOn: "None", OptimizationStatus: "Off"},
		State:     "Pending", StateReason: ptr("The function is being created."), StateReasonCode: "Creating",
		Timeout: aws.Int32(3), TracingConfig: &types.TracingConfigResponse{Mode: "PassThrough"}, Version: ptr("$LATEST"),
	}
	if diff := cmp.Diff(want, out, cmpopts.IgnoreUnexported(sdk.CreateFunctionOutput{}, types.EphemeralStorage{}, types.LoggingConfig{}, types.RuntimeVersionConfig{}, types.SnapStartResponse{}, types.TracingConfigResponse{}), cmpopts.IgnoreFields(sdk.CreateFunctionOutput{}, "ResultMetadata")); diff != "" {
		t.Error(diff)
	}
	f, ok := store.Function("hello")
	if !ok || f.Config.Generation != uint64(a.now().UnixMicro()) || f.Running != nil || f.Config.RevisionID == "" {
		t.Errorf("stored %+v", f)
	}
	_, err = a.createFunction(t.Context(), createInput(t, "hello"))
	wantError(t, err, thaw.CodeResourceConflict, "Function already exist: hello")
}

func TestCreateFunctionRefuses(t *testing.T) {
	a, store := newAPI(t, func(c *Config) { c.Limits.TotalCodeSize = 60 << 20 })
	const roleText = `1 validation error detected: Value 'nobody' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+`
	tests := []struct {
		name    string
		change  func(*sdk.CreateFunctionInput)
		code    thaw.ErrorCode
		message string // whole, or a part of it when it ends in …
	}{
		{"name too long", func(in *sdk.CreateFunctionInput) { in.FunctionName = ptr(strings.Repeat("n", 65)) }, thaw.CodeInvalidParameterValue, "1 validation error detected: Value '" + strings.Repeat("n", 65) + "' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64"},
		{"qualified name", func(in *sdk.CreateFunctionInput) { in.FunctionName = ptr("f:$LATEST") }, thaw.CodeValidation, "1 validation error detected: Value 'f:$LATEST' at 'functionName' …"},
		{"not a name", func(in *sdk.CreateFunctionInput) { in.FunctionName = ptr("a b") }, thaw.CodeValidation, "1 validation error detected: Value 'a b' at 'functionName' …"},
		{"other account", func(in *sdk.CreateFunctionInput) { in.FunctionName = ptr("123456789012:function:f") }, thaw.CodeAccessDenied, "User: arn:aws:iam::000000000000:root is not authorized to perform: lambda:CreateFunction on resource: arn:aws:lambda:us-east-1:123456789012:function:f because no resource-based policy allows the lambda:CreateFunction action"},
		{"other region", func(in *sdk.CreateFunctionInput) {
			in.FunctionName = ptr("arn:aws:lambda:eu-west-1:000000000000:function:f")
		}, thaw.CodeResourceNotFound, "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"},
		{"no handler", func(in *sdk.CreateFunctionInput) { in.Handler = nil }, thaw.CodeInvalidParameterValue, "Runtime and Handler are mandatory parameters for functions created with deployment packages."},
		{"no runtime", func(in *sdk.CreateFunctionInput) { in.Runtime = "" }, thaw.CodeInvalidParameterValue, "Runtime and Handler are mandatory parameters for functions created with deployment packages."},
		{"absent runtime", func(in *sdk.CreateFunctionInput) { in.Runtime = "java21" }, thaw.CodeInvalidParameterValue, "Runtime java21 is not installed; there are [python3.11 nodejs20.x]"},
		{"role", func(in *sdk.CreateFunctionInput) { in.Role = ptr("nobody") }, thaw.CodeValidation, roleText},
		{"architecture", func(in *sdk.CreateFunctionInput) { in.Architectures = []types.Architecture{"arm64"} }, thaw.CodeInvalidParameterValue, "Architecture arm64 cannot run on this machine, which is x86_64. …"},
		{"no code", func(in *sdk.CreateFunctionInput) { in.Code = &types.FunctionCode{} }, thaw.CodeInvalidParameterValue, "Please provide a source for function code."},
		{"bad zip", func(in *sdk.CreateFunctionInput) { in.Code.ZipFile = []byte("not a zip") }, thaw.CodeInvalidParameterValue, "Could not unzip uploaded file. Please check your file, then try to upload again."},
		{"big zip", func(in *sdk.CreateFunctionInput) { in.Code.ZipFile = make([]byte, thaw.MaxZip+1) }, thaw.CodeRequestEntityTooLarge, "Zipped size must be smaller than 52428800 bytes"},
		{"timeout", func(in *sdk.CreateFunctionInput) { in.Timeout = aws.Int32(901) }, thaw.CodeValidation, "1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900"},
		{"memory", func(in *sdk.CreateFunctionInput) { in.MemorySize = aws.Int32(127) }, thaw.CodeValidation, "1 validation error detected: Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"},
		{"tmp", func(in *sdk.CreateFunctionInput) {
			in.EphemeralStorage = &types.EphemeralStorage{Size: aws.Int32(10241)}
		}, thaw.CodeValidation, "1 validation error detected: Value '10241' at 'ephemeralStorage.size' failed to satisfy constraint: Member must have value less than or equal to 10240"},
		{"reserved variables", func(in *sdk.CreateFunctionInput) {
			in.Environment = &types.Environment{Variables: map[string]string{"AWS_REGION": "x", "AWS_ACCESS_KEY_ID": "y", "A": "b"}}
		}, thaw.CodeInvalidParameterValue, "Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: AWS_ACCESS_KEY_ID, AWS_REGION"},
		{"NUL in variable", func(in *sdk.CreateFunctionInput) {
			in.Environment = &types.Environment{Variables: map[string]string{"AB": "a\x00b"}}
		}, thaw.CodeInvalidParameterValue, `Environment variable "AB" cannot be set: …`},
		{"big variables", func(in *sdk.CreateFunctionInput) {
			in.Environment = &types.Environment{Variables: map[string]string{"BIG": strings.Repeat("<", 4088)}}
		}, thaw.CodeInvalidParameterValue, `Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: {"BIG":"` + strings.Repeat("<", 4088) + `"}`},
		{"tag", func(in *sdk.CreateFunctionInput) { in.Tags = map[string]string{"aws:x": "y"} }, thaw.CodeInvalidParameterValue, "Tag key 'aws:x' is not allowed: …"},
		{"publish to", func(in *sdk.CreateFunctionInput) { in.PublishTo = "LATEST_PUBLISHED" }, thaw.CodeInvalidParameterValue, "PublishTo is not …"},
		{"image", func(in *sdk.CreateFunctionInput) { in.PackageType = "Image" }, thaw.CodeInvalidParameterValue, "PackageType is not …"},
		{"image uri", func(in *sdk.CreateFunctionInput) { in.Code = &types.FunctionCode{ImageUri: ptr("x")} }, thaw.CodeInvalidParameterValue, "ImageUri is not …"},
		{"s3", func(in *sdk.CreateFunctionInput) {
			in.Code = &types.FunctionCode{S3Bucket: ptr("bucket"), S3Key: ptr("key")}
		}, thaw.CodeInvalidParameterValue, "S3Bucket is not supported by thaw yet: packages are not read from S3; send the package in ZipFile (at most 50 MB)."},
		{"zip and s3", func(in *sdk.CreateFunctionInput) { in.Code.S3Bucket = ptr("bucket") }, thaw.CodeInvalidParameterValue, "S3Bucket is not …"},
		{"source key", func(in *sdk.CreateFunctionInput) { in.Code.SourceKMSKeyArn = ptr("arn:aws:kms:x") }, thaw.CodeInvalidParameterValue, "SourceKMSKeyArn is not …"},
		{"signing", func(in *sdk.CreateFunctionInput) { in.CodeSigningConfigArn = ptr("arn") }, thaw.CodeInvalidParameterValue, "CodeSigningConfigArn is not …"},
		{"tenancy", func(in *sdk.CreateFunctionInput) { in.TenancyConfig = &types.TenancyConfig{} }, thaw.CodeInvalidParameterValue, "TenancyConfig is not …"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in := createInput(t, "refused")
			test.change(in)
			_, err := a.createFunction(t.Context(), in)
			wantPart(t, err, test.code, test.message)
			if n := len(store.Functions("", 1)); n != 0 {
				t.Errorf("%d functions were stored", n)
			}
		})
	}
}

func wantPart(t *testing.T, err error, code thaw.ErrorCode, message string) {
	t.Helper()
	part, cut := strings.CutSuffix(message, "…")
	if !cut {
		wantError(t, err, code, message)
		return
	}
	wantError(t, err, code, "")
	if !strings.HasPrefix(err.Error(), string(code)+": "+part) {
		t.Errorf("error %v, want %s…", err, part)
	}
}

func TestSettingsRefusedOnCreateAndUpdate(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "there")
	tests := []struct {
		member string
		set    func(*sdk.UpdateFunctionConfigurationInput)
	}{
		{"CapacityProviderConfig", func(in *sdk.UpdateFunctionConfigurationInput) {
			in.CapacityProviderConfig = &types.CapacityProviderConfig{}
		}},
		{"DeadLetterConfig with an SNS topic", func(in *sdk.UpdateFunctionConfigurationInput) {
			in.DeadLetterConfig = &types.DeadLetterConfig{TargetArn: ptr("arn:aws:sns:us-east-1:000000000000:t")}
		}},
		{"DurableConfig", func(in *sdk.UpdateFunctionConfigurationInput) { in.DurableConfig = &types.DurableConfig{} }},
		{"FileSystemConfigs", func(in *sdk.UpdateFunctionConfigurationInput) {
			in.FileSystemConfigs = make([]types.FileSystemConfig, 1)
		}},
		{"ImageConfig", func(in *sdk.UpdateFunctionConfigurationInput) {
			in.ImageConfig = &types.ImageConfig{Command: []string{"x"}}
		}},
		{"KMSKeyArn", func(in *sdk.UpdateFunctionConfigurationInput) { in.KMSKeyArn = ptr("arn:aws:kms:x") }},
		{"TracingConfig", func(in *sdk.UpdateFunctionConfigurationInput) {
			in.TracingConfig = &types.TracingConfig{Mode: "Active"}
		}},
		{"VpcConfig", func(in *sdk.UpdateFunctionConfigurationInput) {
			in.VpcConfig = &types.VpcConfig{SubnetIds: []string{"subnet-1"}}
		}},
	}
	for _, test := range tests {
		t.Run(test.member, func(t *testing.T) {
			update := &sdk.UpdateFunctionConfigurationInput{FunctionName: ptr("there")}
			test.set(update)
			_, err := a.updateFunctionConfiguration(t.Context(), update)
			wantPart(t, err, thaw.CodeInvalidParameterValue, test.member+"…")
			_, err = a.createFunction(t.Context(), withSettings(createInput(t, "new"), update))
			wantPart(t, err, thaw.CodeInvalidParameterValue, test.member+"…")
			if !strings.Contains(err.Error(), "is not supported by thaw yet: ") {
				t.Errorf("%v does not say so", err)
			}
		})
	}
}

// withSettings copies what both operations share.
func withSettings(in *sdk.CreateFunctionInput, u *sdk.UpdateFunctionConfigurationInput) *sdk.CreateFunctionInput {
	in.CapacityProviderConfig, in.DeadLetterConfig, in.DurableConfig, in.FileSystemConfigs = u.CapacityProviderConfig, u.DeadLetterConfig, u.DurableConfig, u.FileSystemConfigs
	in.ImageConfig, in.KMSKeyArn, in.Layers, in.LoggingConfig = u.ImageConfig, u.KMSKeyArn, u.Layers, u.LoggingConfig
	in.SnapStart, in.TracingConfig, in.VpcConfig = u.SnapStart, u.TracingConfig, u.VpcConfig
	return in
}

func TestDefaultsThatToolsSendPass(t *testing.T) {
	a, _ := newAPI(t)
	in := withSettings(createInput(t, "tools"), &sdk.UpdateFunctionConfigurationInput{
		DeadLetterConfig: &types.DeadLetterConfig{TargetArn: ptr("")}, FileSystemConfigs: []types.FileSystemConfig{},
		ImageConfig: &types.ImageConfig{}, KMSKeyArn: ptr(""), Layers: []string{},
		LoggingConfig: &types.LoggingConfig{LogFormat: "Text", LogGroup: ptr("/mine")},
		SnapStart:     &types.SnapStart{ApplyOn: "None"}, TracingConfig: &types.TracingConfig{Mode: "PassThrough"},
		VpcConfig: &types.VpcConfig{SubnetIds: []string{}, SecurityGroupIds: []string{}, Ipv6AllowedForDualStack: aws.Bool(false)},
	})
	in.CodeSigningConfigArn, in.PackageType, in.Architectures = ptr(""), "Zip", []types.Architecture{"x86_64"}
	in.Environment = &types.Environment{Variables: map[string]string{"FULL": strings.Repeat("x", 4096-len(`{"FULL":""}`))}}
	out, err := a.createFunction(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if *out.LoggingConfig.LogGroup != "/mine" || len(out.Environment.Variables["FULL"]) == 0 {
		t.Errorf("%+v", out)
	}
}

func TestCodeStorageLimit(t *testing.T) {
	a, store := newAPI(t, func(c *Config) { c.Limits.TotalCodeSize = 200 })
	active(t, a, store, "one")
	_, err := a.createFunction(t.Context(), createInput(t, "two"))
	wantError(t, err, thaw.CodeCodeStorageExceeded, "Code storage limit exceeded.")
	// The package that an update replaces does not count.
	if _, err := a.updateFunctionCode(t.Context(), &sdk.UpdateFunctionCodeInput{FunctionName: ptr("one"), ZipFile: zipOf(t, "x")}); err != nil {
		t.Fatal(err)
	}
}
