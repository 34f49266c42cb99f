package lambda

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/uuid"

	"thaw"
	"thaw/control/internal/apitest"
	"thaw/state"
	"thaw/state/queues"
	"thaw/trigger/mapping"
)

var account = thaw.Account{ID: "000000000000", Region: "us-east-1"}

const roleARN = "arn:aws:iam::000000000000:role/made-up"

// knownRuntimes stands in for the interpreters of a machine.
type knownRuntimes []string

func (k knownRuntimes) Check(runtime string) error {
	if slices.Contains(k, runtime) {
		return nil
	}
	return thaw.Errorf(thaw.CodeInvalidParameterValue, "Runtime %s is not installed; there are %v", runtime, []string(k))
}

// knownQueue stands in for the queues of a platform.
func knownQueue(name string) (queues.Info, bool) {
	visibility, ok := map[string]time.Duration{"sqs/orders": 30 * time.Second, "sqs/orders.fifo": 30 * time.Second, "sqs/short": time.Second}[name]
	return queues.Info{Name: name, Options: queues.Options{Visibility: visibility}}, ok
}

// settleMappings does the loop's part, and gives the UUIDs of all mappings, the oldest first.
func settleMappings(t testing.TB, store *state.Store) []string {
	t.Helper()
	records := store.Records("event-source-mapping")
	all, err := mapping.NewRecords(store).All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b *mapping.Mapping) int { return a.Modified.Compare(b.Modified) })
	var ids []string
	for _, m := range all {
		ids = append(ids, m.UUID)
		switch {
		case m.State == mapping.StateDeleting:
			err = records.Delete(t.Context(), m.UUID)
		case m.Enabled:
			m.State = mapping.StateEnabled
			err = records.Put(t.Context(), m.UUID, m)
		default:
			m.State = mapping.StateDisabled
			err = records.Put(t.Context(), m.UUID, m)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

func checkZip(_ context.Context, r io.ReaderAt, size int64) (unzipped int64, err error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return 0, thaw.Errorf(thaw.CodeInvalidParameterValue, "Could not unzip uploaded file. Please check your file, then try to upload again.")
	}
	for _, f := range z.File {
		unzipped += int64(f.UncompressedSize64)
	}
	return unzipped, nil
}

func newAPI(t testing.TB, change ...func(*Config)) (*API, *state.Store) {
	t.Helper()
	store := apitest.Store(t)
	cfg := Config{
		Account: account, Architecture: "x86_64", BaseURL: "http://thaw.test", Functions: store, Packages: store,
		Runtimes: knownRuntimes{"python3.11", "nodejs20.x"}, CheckPackage: checkZip, Layers: store.Records(thaw.LayerRecords),
		Mappings: mapping.NewRecords(store), Queue: knownQueue,
	}
	for _, c := range change {
		c(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a, store
}

func zipOf(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	// Stored, so that digests do not depend on the compressor.
	f, err := w.CreateHeader(&zip.FileHeader{Name: "app.py", Method: zip.Store})
	if err == nil {
		_, err = io.WriteString(f, text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func createInput(t testing.TB, name string) *sdk.CreateFunctionInput {
	return &sdk.CreateFunctionInput{
		FunctionName: &name, Role: ptr(roleARN), Runtime: types.RuntimePython311, Handler: ptr("app.handler"),
		Code: &types.FunctionCode{ZipFile: zipOf(t, name)},
	}
}

// active creates a function and does placement's part.
func active(t testing.TB, a *API, store *state.Store, name string) *thaw.Function {
	t.Helper()
	if _, err := a.createFunction(t.Context(), createInput(t, name)); err != nil {
		t.Fatal(err)
	}
	return settle(t, store, name, "")
}

// settle does placement's part: it ends what is under way, in failure when reason is not empty.
func settle(t testing.TB, store *state.Store, name, reason string) *thaw.Function {
	t.Helper()
	f, err := store.UpdateFunction(t.Context(), name, func(f *thaw.Function) error { return finish(f, reason) })
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// finish ends the update of $LATEST that is under way and every preparation of a published version.
func finish(f *thaw.Function, reason string) error {
	v := &f.Config
	for i := range f.Published {
		if p := &f.Published[i]; p.State == thaw.StatePending {
			p.RevisionID = uuid.NewString()
			p.State, p.StateReason, p.StateReasonCode = thaw.StateActive, "", ""
			p.LastUpdate = thaw.UpdateSuccessful
			if reason != "" {
				p.State, p.StateReason, p.StateReasonCode = thaw.StateFailed, reason, "FunctionError"
				p.LastUpdate, p.LastUpdateReason, p.LastUpdateCode = thaw.UpdateFailed, reason, "FunctionError"
			}
		}
	}
	if v.State != thaw.StatePending && v.LastUpdate != thaw.UpdateInProgress {
		return nil
	}
	v.RevisionID = uuid.NewString()
	switch {
	case reason == "":
		v.State, v.StateReason, v.StateReasonCode = thaw.StateActive, "", ""
		v.LastUpdate, v.LastUpdateReason, v.LastUpdateCode = thaw.UpdateSuccessful, "", ""
		running := *v
		f.Running = &running
	case f.Running == nil:
		v.State, v.StateReason, v.StateReasonCode = thaw.StateFailed, reason, "FunctionError"
		v.LastUpdate, v.LastUpdateReason, v.LastUpdateCode = thaw.UpdateFailed, reason, "FunctionError"
	default:
		v.LastUpdate, v.LastUpdateReason, v.LastUpdateCode = thaw.UpdateFailed, reason, "FunctionError"
	}
	return nil
}

// wantError checks the code and, unless it is empty, the whole message.
func wantError(t testing.TB, err error, code thaw.ErrorCode, message string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s: %s", code, message)
	}
	want := thaw.Errorf(code, "%s", message)
	if thaw.CodeOf(err) != code || message != "" && err.Error() != want.Error() {
		t.Fatalf("error %v\n want %s: %s", err, code, message)
	}
}

func ptr[T any](v T) *T { return &v }

func numbered(i int) string { return fmt.Sprintf("function-%05d", i) }
