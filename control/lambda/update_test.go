package lambda

import (
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
	"thaw/state"
)

const (
	pendingText  = "The operation cannot be performed at this time. The function is currently in the following state: Pending"
	progressText = "The operation cannot be performed at this time. An update is in progress for resource: arn:aws:lambda:us-east-1:000000000000:function:f"
	revisionText = "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
)

func describeInput(text string) *sdk.UpdateFunctionConfigurationInput {
	return &sdk.UpdateFunctionConfigurationInput{FunctionName: ptr("f"), Description: &text}
}

func TestUpdateStateMachine(t *testing.T) {
	a, store := newAPI(t)
	created, err := a.createFunction(t.Context(), createInput(t, "f"))
	if err != nil {
		t.Fatal(err)
	}
	code := &sdk.UpdateFunctionCodeInput{FunctionName: ptr("f"), ZipFile: zipOf(t, "new")}
	_, err = a.updateFunctionCode(t.Context(), code)
	wantError(t, err, thaw.CodeResourceConflict, pendingText)
	_, err = a.updateFunctionConfiguration(t.Context(), describeInput("d"))
	wantError(t, err, thaw.CodeResourceConflict, pendingText)

	was := settle(t, store, "f", "")
	if was.Config.RevisionID == *created.RevisionId {
		t.Error("no new revision at Active")
	}
	out, err := a.updateFunctionCode(t.Context(), code)
	if err != nil {
		t.Fatal(err)
	}
	if out.State != "Active" || out.LastUpdateStatus != "InProgress" || out.LastUpdateStatusReasonCode != "Creating" ||
		*out.LastUpdateStatusReason != "The function is being created." || *out.CodeSha256 != digest(code.ZipFile).SHA256 || *out.RevisionId == was.Config.RevisionID {
		t.Errorf("update answers %+v", out)
	}
	f, _ := store.Function("f")
	if f.Config.Generation <= was.Config.Generation || f.Running == nil || f.Running.Generation != was.Config.Generation || f.Running.Code != was.Config.Code {
		t.Errorf("stored %+v", f)
	}
	_, err = a.updateFunctionConfiguration(t.Context(), describeInput("d"))
	wantError(t, err, thaw.CodeResourceConflict, progressText)
	_, err = a.updateFunctionCode(t.Context(), code)
	wantError(t, err, thaw.CodeResourceConflict, progressText)
	// Tags and permissions go on meanwhile.
	if _, err := a.tagResource(t.Context(), &sdk.TagResourceInput{Resource: ptr(*out.FunctionArn), Tags: map[string]string{"a": "b"}}); err != nil {
		t.Error(err)
	}

	settle(t, store, "f", "init failed")
	got, err := a.getFunctionConfiguration(t.Context(), &sdk.GetFunctionConfigurationInput{FunctionName: ptr("f")})
	if err != nil {
		t.Fatal(err)
	}
	if got.State != "Active" || got.LastUpdateStatus != "Failed" || *got.LastUpdateStatusReason != "init failed" || got.LastUpdateStatusReasonCode != "FunctionError" {
		t.Errorf("after a failed update: %+v", got)
	}
	if _, err := a.updateFunctionConfiguration(t.Context(), describeInput("d")); err != nil {
		t.Fatal(err)
	}
	settle(t, store, "f", "")
}

func TestFailedFunctionCanBeMended(t *testing.T) {
	a, store := newAPI(t)
	if _, err := a.createFunction(t.Context(), createInput(t, "f")); err != nil {
		t.Fatal(err)
	}
	settle(t, store, "f", "no module named app")
	got, err := a.getFunctionConfiguration(t.Context(), &sdk.GetFunctionConfigurationInput{FunctionName: ptr("f")})
	if err != nil || got.State != "Failed" || *got.StateReason != "no module named app" || got.StateReasonCode != "FunctionError" {
		t.Fatalf("%+v %v", got, err)
	}
	out, err := a.updateFunctionCode(t.Context(), &sdk.UpdateFunctionCodeInput{FunctionName: ptr("f"), ZipFile: zipOf(t, "fixed")})
	if err != nil || out.State != "Pending" || out.LastUpdateStatus != "InProgress" {
		t.Fatalf("%+v %v", out, err)
	}
	f := settle(t, store, "f", "")
	if f.Config.State != thaw.StateActive {
		t.Errorf("%+v", f.Config)
	}
}

func TestRedundantUpdateIsAnUpdate(t *testing.T) {
	a, store := newAPI(t)
	first := active(t, a, store, "f")
	out, err := a.updateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: ptr("f")})
	if err != nil {
		t.Fatal(err)
	}
	if out.LastUpdateStatus != "InProgress" || *out.RevisionId == first.Config.RevisionID {
		t.Errorf("%+v", out)
	}
}

func TestUpdateConfigurationTakesOnlyWhatIsSent(t *testing.T) {
	a, store := newAPI(t)
	in := createInput(t, "f")
	in.Environment, in.Timeout = &types.Environment{Variables: map[string]string{"AA": "1"}}, aws.Int32(10)
	in.LoggingConfig = &types.LoggingConfig{LogGroup: ptr("/mine")}
	if _, err := a.createFunction(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	settle(t, store, "f", "")
	out, err := a.updateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: ptr("f"), MemorySize: aws.Int32(256), Description: ptr("d"),
		LoggingConfig: &types.LoggingConfig{LogFormat: "Text"}, Handler: ptr("b.c"), Runtime: "nodejs20.x", Role: ptr(roleARN + "2")})
	if err != nil {
		t.Fatal(err)
	}
	if *out.MemorySize != 256 || *out.Timeout != 10 || out.Environment.Variables["AA"] != "1" || *out.Description != "d" || *out.LoggingConfig.LogGroup != "/mine" || *out.Handler != "b.c" || out.Runtime != "nodejs20.x" || *out.Role != roleARN+"2" {
		t.Errorf("%+v", out)
	}
	settle(t, store, "f", "")
	out, err = a.updateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: ptr("f"), Environment: &types.Environment{}, LoggingConfig: &types.LoggingConfig{LogGroup: ptr("/aws/lambda/f")}})
	if err != nil || out.Environment != nil || *out.LoggingConfig.LogGroup != "/aws/lambda/f" {
		t.Errorf("%+v %v", out, err)
	}
}

func TestUpdateRefuses(t *testing.T) {
	a, store := newAPI(t)
	was := active(t, a, store, "f")
	zip := zipOf(t, "z")
	code := func(change func(*sdk.UpdateFunctionCodeInput)) error {
		in := &sdk.UpdateFunctionCodeInput{FunctionName: ptr("f"), ZipFile: zip}
		change(in)
		_, err := a.updateFunctionCode(t.Context(), in)
		return err
	}
	config := func(change func(*sdk.UpdateFunctionConfigurationInput)) error {
		in := &sdk.UpdateFunctionConfigurationInput{FunctionName: ptr("f")}
		change(in)
		_, err := a.updateFunctionConfiguration(t.Context(), in)
		return err
	}
	notFound := "Function not found: arn:aws:lambda:us-east-1:000000000000:function:none"
	wantError(t, code(func(in *sdk.UpdateFunctionCodeInput) { in.RevisionId = ptr("old") }), thaw.CodePreconditionFailed, revisionText)
	wantError(t, code(func(in *sdk.UpdateFunctionCodeInput) { in.FunctionName = ptr("none") }), thaw.CodeResourceNotFound, notFound)
	wantError(t, code(func(in *sdk.UpdateFunctionCodeInput) { in.FunctionName = ptr("f:1") }), thaw.CodeInvalidParameterValue, "")
	wantError(t, code(func(in *sdk.UpdateFunctionCodeInput) { in.ZipFile = nil }), thaw.CodeInvalidParameterValue, "Please provide a source for function code.")
	wantError(t, code(func(in *sdk.UpdateFunctionCodeInput) { in.ZipFile = []byte("x") }), thaw.CodeInvalidParameterValue, "")
	wantPart(t, code(func(in *sdk.UpdateFunctionCodeInput) { in.PublishTo = "LATEST_PUBLISHED" }), thaw.CodeInvalidParameterValue, "PublishTo is …")
	wantPart(t, code(func(in *sdk.UpdateFunctionCodeInput) { in.S3Bucket = ptr("b") }), thaw.CodeInvalidParameterValue, "S3Bucket is …")
	wantPart(t, code(func(in *sdk.UpdateFunctionCodeInput) { in.Architectures = []types.Architecture{"arm64"} }), thaw.CodeInvalidParameterValue, "Architecture arm64 …")
	wantError(t, config(func(in *sdk.UpdateFunctionConfigurationInput) { in.RevisionId = ptr("old") }), thaw.CodePreconditionFailed, revisionText)
	wantError(t, config(func(in *sdk.UpdateFunctionConfigurationInput) { in.FunctionName = ptr("none") }), thaw.CodeResourceNotFound, notFound)
	wantError(t, config(func(in *sdk.UpdateFunctionConfigurationInput) { in.Runtime = "java21" }), thaw.CodeInvalidParameterValue, "")
	wantError(t, config(func(in *sdk.UpdateFunctionConfigurationInput) { in.Role = ptr("x") }), thaw.CodeValidation, "")
	wantError(t, config(func(in *sdk.UpdateFunctionConfigurationInput) { in.Handler = ptr("") }), thaw.CodeInvalidParameterValue, "")
	wantError(t, config(func(in *sdk.UpdateFunctionConfigurationInput) { in.Timeout = aws.Int32(0) }), thaw.CodeValidation, "")
	now, _ := store.Function("f")
	if now.Config.RevisionID != was.Config.RevisionID || now.Config.Generation != was.Config.Generation {
		t.Error("a refused update left a trace")
	}
	if err := code(func(in *sdk.UpdateFunctionCodeInput) { in.RevisionId = &was.Config.RevisionID }); err != nil {
		t.Error(err)
	}
}

func TestDryRunShowsTheDigestAndChangesNothing(t *testing.T) {
	a, store := newAPI(t)
	was := active(t, a, store, "f")
	zip := zipOf(t, "dry")
	out, err := a.updateFunctionCode(t.Context(), &sdk.UpdateFunctionCodeInput{FunctionName: ptr("f"), ZipFile: zip, DryRun: true})
	if err != nil || *out.CodeSha256 != digest(zip).SHA256 || out.LastUpdateStatus != "Successful" {
		t.Errorf("%+v %v", out, err)
	}
	now, _ := store.Function("f")
	if !reflect.DeepEqual(now, was) {
		t.Errorf("changed to %+v", now)
	}
	if _, err := store.OpenCode(t.Context(), digest(zip).SHA256); err == nil {
		t.Error("the package was stored")
	}
	stored, err := store.PutCode(t.Context(), zip)
	if err != nil || stored != digest(zip) {
		t.Errorf("the store names it %v, a dry run %v", stored, digest(zip))
	}
}

func TestOneOfManyUpdatesWins(t *testing.T) {
	a, store := newAPI(t)
	was := active(t, a, store, "f")
	for round := range 3 {
		var won, lost atomic.Int32
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				var err error
				if i%2 == 0 {
					_, err = a.updateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: ptr("f"), Timeout: aws.Int32(int32(i + 1))})
				} else {
					_, err = a.updateFunctionCode(t.Context(), &sdk.UpdateFunctionCodeInput{FunctionName: ptr("f"), ZipFile: zipOf(t, numbered(i))})
				}
				switch {
				case err == nil:
					won.Add(1)
				case err.Error() == string(thaw.CodeResourceConflict)+": "+progressText:
					lost.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 || lost.Load() != 49 {
			t.Fatalf("round %d: %d updates won and %d lost", round, won.Load(), lost.Load())
		}
		f := settle(t, store, "f", "")
		if f.Config.Generation <= was.Config.Generation {
			t.Fatalf("generation %d after %d", f.Config.Generation, was.Config.Generation)
		}
		was = f
	}
}

func TestOneOfManyCreationsWins(t *testing.T) {
	a, _ := newAPI(t)
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := a.createFunction(t.Context(), createInput(t, "same"))
			switch {
			case err == nil:
				won.Add(1)
			case thaw.CodeOf(err) == thaw.CodeResourceConflict:
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 19 {
		t.Errorf("%d won, %d lost", won.Load(), lost.Load())
	}
}

// fill panics when an output lacks a member, so this calls it for each.
func TestOutputsHaveEveryMember(t *testing.T) {
	c := &types.FunctionConfiguration{FunctionName: ptr("f")}
	for _, name := range []*string{
		fill(&sdk.CreateFunctionOutput{}, c).FunctionName,
		fill(&sdk.UpdateFunctionCodeOutput{}, c).FunctionName,
		fill(&sdk.UpdateFunctionConfigurationOutput{}, c).FunctionName,
		fill(&sdk.GetFunctionConfigurationOutput{}, c).FunctionName,
	} {
		if name == nil || *name != "f" {
			t.Error("not copied")
		}
	}
	alias := &types.AliasConfiguration{Name: ptr("a")}
	for _, name := range []*string{
		fill(&sdk.CreateAliasOutput{}, alias).Name, fill(&sdk.UpdateAliasOutput{}, alias).Name, fill(&sdk.GetAliasOutput{}, alias).Name,
	} {
		if name == nil || *name != "a" {
			t.Error("not copied")
		}
	}
}

var _ Functions = (*state.Store)(nil)

func TestDeadLetterQueue(t *testing.T) {
	a, store := newAPI(t, func(c *Config) { c.HasQueue = func(name string) bool { return name == "failed" } })
	const failed = "arn:aws:sqs:us-east-1:000000000000:failed"
	in := createInput(t, "f")
	in.DeadLetterConfig = &types.DeadLetterConfig{TargetArn: ptr(failed)}
	out, err := a.createFunction(t.Context(), in)
	if err != nil || out.DeadLetterConfig == nil || *out.DeadLetterConfig.TargetArn != failed {
		t.Fatalf("%+v, %v", out, err)
	}
	settle(t, store, "f", "")
	set := func(d *types.DeadLetterConfig) (*types.DeadLetterConfig, error) {
		out, err := a.updateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: ptr("f"), DeadLetterConfig: d})
		if err != nil {
			return nil, err
		}
		settle(t, store, "f", "")
		return out.DeadLetterConfig, nil
	}
	if d, err := set(nil); err != nil || *d.TargetArn != failed {
		t.Errorf("an update without it: %v, %v", d, err)
	}
	for arn, say := range map[string]string{
		"arn:aws:sns:us-east-1:000000000000:t":      "DeadLetterConfig with an SNS topic is not supported by thaw yet: …",
		"arn:aws:sqs:us-east-1:000000000000:none":   "The dead-letter queue arn:aws:sqs:us-east-1:000000000000:none cannot be used: there is no such queue; create it first.",
		"arn:aws:sqs:us-east-1:111111111111:failed": "The dead-letter queue arn:aws:sqs:us-east-1:111111111111:failed cannot be used: it is of another account…",
		"arn:aws:sqs:us-east-1:000000000000:a.fifo": "The dead-letter queue arn:aws:sqs:us-east-1:000000000000:a.fifo cannot be used: it is a FIFO queue…",
		"arn:aws:s3:::bucket":                       "The dead-letter queue arn:aws:s3:::bucket cannot be used: it is not the ARN of an SQS queue.",
	} {
		_, err := set(&types.DeadLetterConfig{TargetArn: &arn})
		wantPart(t, err, thaw.CodeInvalidParameterValue, say)
	}
	if d, err := set(&types.DeadLetterConfig{TargetArn: ptr("")}); err != nil || d != nil {
		t.Errorf("an empty ARN: %v, %v", d, err)
	}
}
