package lambda

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
	"thaw/state"
)

func publish(t testing.TB, a *API, name string) *sdk.PublishVersionOutput {
	t.Helper()
	out, err := a.publishVersion(t.Context(), &sdk.PublishVersionInput{FunctionName: &name})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// change gives f a new description and does placement's part.
func change(t testing.TB, a *API, store *state.Store, name, description string) {
	t.Helper()
	if _, err := a.updateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: &name, Description: &description}); err != nil {
		t.Fatal(err)
	}
	settle(t, store, name, "")
}

func TestPublishCopiesLatest(t *testing.T) {
	a, store := newAPI(t)
	was := active(t, a, store, "f")
	out := publish(t, a, "f")
	f, _ := store.Function("f")
	v := f.Version("1")
	if v == nil || f.LastNumber != 1 || v.State != thaw.StatePending || v.LastUpdate != "" || v.Code != was.Config.Code || v.RevisionID != *out.RevisionId || v.RevisionID == was.Config.RevisionID {
		t.Fatalf("%+v", f)
	}
	if v.Generation <= f.Config.Generation || f.Config.Generation != was.Config.Generation {
		t.Errorf("generations %d and %d, before %d", v.Generation, f.Config.Generation, was.Config.Generation)
	}
	if f.Config.RevisionID == was.Config.RevisionID || f.Running.RevisionID != f.Config.RevisionID || f.Config.RevisionID == v.RevisionID {
		t.Error("publishing gives $LATEST a new revision of its own")
	}
	settle(t, store, "f", "")
	before, _ := store.Function("f")
	again, err := a.publishVersion(t.Context(), &sdk.PublishVersionInput{FunctionName: ptr("f"), Description: ptr("other")})
	now, _ := store.Function("f")
	if err != nil || *again.Version != "1" || again.State != "Active" || now != before {
		t.Errorf("%+v %v", again, err)
	}
	// An update that changes nothing publishes nothing; one of the description does.
	if _, err := a.updateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: ptr("f")}); err != nil {
		t.Fatal(err)
	}
	settle(t, store, "f", "")
	if again := publish(t, a, "f"); *again.Version != "1" {
		t.Errorf("version %s after a redundant update", *again.Version)
	}
	change(t, a, store, "f", "d")
	if second := publish(t, a, "f"); *second.Version != "2" {
		t.Errorf("version %s", *second.Version)
	}
	f, _ = store.Function("f")
	if f.Version("1").Description != "" || f.Version("2").Description != "d" {
		t.Errorf("%+v", f.Published)
	}
	settle(t, store, "f", "")
	if _, err := a.updateFunctionConfiguration(t.Context(), describeInput("e")); err != nil {
		t.Fatal(err)
	}
	if f, _ = store.Function("f"); f.Config.Generation <= f.Version("2").Generation {
		t.Error("an update has a generation that a version could have had")
	}
}

func TestUnchangedLooksAtEverything(t *testing.T) {
	base := thaw.Version{Function: "f", Number: thaw.Latest, Environment: map[string]string{"A": "b"}, Timeout: 3, Description: "d"}
	published := base
	published.Number, published.Description, published.LatestDescription, published.State = "1", "own", ptr("d"), thaw.StateActive
	published.RevisionID, published.Generation, published.LastUpdate = "r", 7, thaw.UpdateSuccessful
	if !unchanged(&base, &published) {
		t.Error("a copy is changed")
	}
	for name, change := range map[string]func(*thaw.Version){
		"description": func(v *thaw.Version) { v.Description = "own" },
		"code":        func(v *thaw.Version) { v.Code.SHA256 = "x" },
		"environment": func(v *thaw.Version) { v.Environment = map[string]string{"A": "c"} },
		"timeout":     func(v *thaw.Version) { v.Timeout = 4 },
		"memory":      func(v *thaw.Version) { v.MemorySize = 4 },
		"tmp":         func(v *thaw.Version) { v.TmpSize = 4 },
		"runtime":     func(v *thaw.Version) { v.Runtime = "x" },
		"handler":     func(v *thaw.Version) { v.Handler = "x" },
		"role":        func(v *thaw.Version) { v.Role = "x" },
		"log group":   func(v *thaw.Version) { v.LogGroup = "x" },
		"snap start":  func(v *thaw.Version) { v.SnapStart = thaw.SnapStartPublished },
	} {
		v := base
		if change(&v); unchanged(&v, &published) {
			t.Errorf("%s does not count", name)
		}
	}
}

// Generations of a function's versions are told apart also when the clock stands still or goes back.
func TestGenerationsWithoutClock(t *testing.T) {
	a, store := newAPI(t)
	now := time.Now()
	a.now = func() time.Time { now = now.Add(-time.Second); return now }
	active(t, a, store, "f")
	publish(t, a, "f")
	seen := map[uint64]bool{}
	for i := range 3 {
		change(t, a, store, "f", fmt.Sprint(i))
		publish(t, a, "f")
	}
	f, _ := store.Function("f")
	last := uint64(0)
	for _, v := range f.Published {
		if seen[v.Generation] || v.Generation <= last {
			t.Errorf("generation %d after %d", v.Generation, last)
		}
		seen[v.Generation], last = true, v.Generation
	}
	if seen[f.Config.Generation] {
		t.Errorf("$LATEST has the generation of a published version, %d", f.Config.Generation)
	}
}

func TestVersionTakesRuntimeMode(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	mode := func(qualifier string) types.UpdateRuntimeOn {
		out, err := a.getRuntimeManagementConfig(t.Context(), &sdk.GetRuntimeManagementConfigInput{FunctionName: ptr("f"), Qualifier: &qualifier})
		if err != nil {
			t.Fatal(err)
		}
		return out.UpdateRuntimeOn
	}
	if _, err := a.putRuntimeManagementConfig(t.Context(), &sdk.PutRuntimeManagementConfigInput{FunctionName: ptr("f"), UpdateRuntimeOn: "FunctionUpdate"}); err != nil {
		t.Fatal(err)
	}
	publish(t, a, "f")
	if _, err := a.putRuntimeManagementConfig(t.Context(), &sdk.PutRuntimeManagementConfigInput{FunctionName: ptr("f"), UpdateRuntimeOn: "Auto"}); err != nil {
		t.Fatal(err)
	}
	if mode("1") != "FunctionUpdate" || mode(thaw.Latest) != "Auto" {
		t.Errorf("%s, $LATEST %s", mode("1"), mode(thaw.Latest))
	}
	if _, err := a.deleteFunction(t.Context(), &sdk.DeleteFunctionInput{FunctionName: ptr("f:1")}); err != nil {
		t.Fatal(err)
	}
	if f, _ := store.Function("f"); len(f.UpdateRuntimeOn) != 1 {
		t.Errorf("%v", f.UpdateRuntimeOn)
	}
}

func TestPublishFailedFunction(t *testing.T) {
	a, store := newAPI(t)
	if _, err := a.createFunction(t.Context(), createInput(t, "f")); err != nil {
		t.Fatal(err)
	}
	settle(t, store, "f", "broken")
	_, err := a.publishVersion(t.Context(), &sdk.PublishVersionInput{FunctionName: ptr("f")})
	wantError(t, err, thaw.CodeResourceConflict, "The operation cannot be performed at this time. The function is currently in the following state: Failed")
}

func TestNumbersAreNotUsedTwice(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	publish(t, a, "f")
	for _, q := range []string{"01", "7", "1"} { // only the last one is a version; the others count as deleted
		if _, err := a.deleteFunction(t.Context(), &sdk.DeleteFunctionInput{FunctionName: ptr("f"), Qualifier: &q}); err != nil {
			t.Errorf("%s: %v", q, err)
		}
	}
	if out := publish(t, a, "f"); *out.Version != "2" {
		t.Errorf("version %s after the first was deleted", *out.Version)
	}
}

func TestAliasesHoldBothVersions(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	publish(t, a, "f")
	change(t, a, store, "f", "d")
	publish(t, a, "f")
	for _, name := range []string{"b", "a"} {
		in := &sdk.CreateAliasInput{FunctionName: ptr("f"), Name: &name, FunctionVersion: ptr("1"), RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{"2": 0}}}
		if _, err := a.createAlias(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range []string{"1", "2"} {
		_, err := a.deleteFunction(t.Context(), &sdk.DeleteFunctionInput{FunctionName: ptr("f:" + q)})
		wantError(t, err, thaw.CodeResourceConflict, "Unable to delete version because the following aliases reference it: [a, b]")
	}
}

func TestPoliciesOfQualifiers(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	publish(t, a, "f")
	alias, err := a.createAlias(t.Context(), &sdk.CreateAliasInput{FunctionName: ptr("f"), Name: ptr("live"), FunctionVersion: ptr("1")})
	if err != nil {
		t.Fatal(err)
	}
	before, _ := store.Function("f")
	on := func(q, revision string) *sdk.AddPermissionInput {
		return permission("s", "*", func(in *sdk.AddPermissionInput) { in.Qualifier, in.RevisionId = &q, &revision })
	}
	_, err = a.addPermission(t.Context(), on("live", before.Config.RevisionID))
	wantError(t, err, thaw.CodePreconditionFailed, revisionText)
	if _, err = a.addPermission(t.Context(), on("live", *alias.RevisionId)); err != nil {
		t.Fatal(err)
	}
	if _, err = a.addPermission(t.Context(), on("1", before.Version("1").RevisionID)); err != nil {
		t.Fatal(err)
	}
	now, _ := store.Function("f")
	if now.Config.RevisionID != before.Config.RevisionID || now.Aliases["live"].RevisionID == *alias.RevisionId || now.Version("1").RevisionID == before.Version("1").RevisionID || now.Version("1").Generation != before.Version("1").Generation {
		t.Errorf("%+v", now)
	}
	for q, revision := range map[string]string{"live": now.Aliases["live"].RevisionID, "1": now.Version("1").RevisionID} {
		p, err := a.getPolicy(t.Context(), &sdk.GetPolicyInput{FunctionName: ptr("f"), Qualifier: &q})
		if err != nil || *p.RevisionId != revision || !strings.Contains(*p.Policy, `"Resource":"`+arnF+":"+q+`"`) {
			t.Errorf("%s: %+v %v", q, p, err)
		}
	}
	if _, err := a.deleteAlias(t.Context(), &sdk.DeleteAliasInput{FunctionName: ptr("f"), Name: ptr("live")}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.deleteFunction(t.Context(), &sdk.DeleteFunctionInput{FunctionName: ptr("f:1")}); err != nil {
		t.Fatal(err)
	}
	if now, _ = store.Function("f"); len(now.Policies) != 0 {
		t.Errorf("%+v", now.Policies)
	}
}

// Pages of every size show each version once, also while versions and functions go.
func TestListAllVersions(t *testing.T) {
	a, store := newAPI(t)
	var want []string
	for i := range 5 {
		f := active(t, a, store, numbered(i))
		_, err := store.UpdateFunction(t.Context(), f.Name, func(f *thaw.Function) error {
			for n := 1; n <= 12*i; n++ {
				v := f.Config
				v.Number = fmt.Sprint(n)
				f.Published = append(f.Published, v)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, f.Name+":$LATEST")
		for n := 1; n <= 12*i; n++ {
			want = append(want, fmt.Sprint(f.Name, ":", n))
		}
	}
	list := func(size *int32, between func(page int)) []string {
		var got []string
		in := &sdk.ListFunctionsInput{FunctionVersion: "ALL", MaxItems: size}
		for page := 0; ; page++ {
			out, err := a.listFunctions(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range out.Functions {
				got = append(got, strings.TrimPrefix(*f.FunctionArn, "arn:aws:lambda:us-east-1:000000000000:function:"))
			}
			if in.Marker = out.NextMarker; in.Marker == nil {
				return got
			}
			between(page)
		}
	}
	for _, size := range []*int32{nil, aws.Int32(1), aws.Int32(12), aws.Int32(13), aws.Int32(37), aws.Int32(10000)} {
		if got := list(size, func(int) {}); !slices.Equal(got, want) {
			t.Errorf("size %v: %d of %d", size, len(got), len(want))
		}
	}
	var paged []string
	in := &sdk.ListVersionsByFunctionInput{FunctionName: ptr(numbered(4)), MaxItems: aws.Int32(7)}
	for {
		out, err := a.listVersionsByFunction(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range out.Versions {
			paged = append(paged, numbered(4)+":"+*v.Version)
		}
		if in.Marker = out.NextMarker; in.Marker == nil {
			break
		}
	}
	if !slices.Equal(paged, want[len(want)-49:]) {
		t.Errorf("%d versions of 49", len(paged))
	}
	got := list(aws.Int32(5), func(page int) {
		if page != 1 {
			return
		}
		// The page before ended within the versions of the second function.
		if _, err := a.deleteFunction(t.Context(), &sdk.DeleteFunctionInput{FunctionName: ptr(numbered(1))}); err != nil {
			t.Error(err)
		}
	})
	if i := slices.Index(got, numbered(2)+":$LATEST"); i != 10 || len(got) != 10+len(want)-14 {
		t.Errorf("%v", got)
	}
}

func TestRecordIsBounded(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	_, err := store.UpdateFunction(t.Context(), "f", func(f *thaw.Function) error {
		v := f.Config
		v.Number, v.Environment, v.State = "1", map[string]string{"A": strings.Repeat("x", maxRecord-16_000)}, thaw.StateActive
		f.Published, f.LastNumber = append(f.Published, v), 1
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.updateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: ptr("f"), Environment: &types.Environment{Variables: map[string]string{"AA": strings.Repeat("x", 3000)}}})
	if err != nil {
		t.Fatal(err)
	}
	settle(t, store, "f", "")
	last := ""
	for range 10 {
		var out *sdk.PublishVersionOutput
		out, err = a.publishVersion(t.Context(), &sdk.PublishVersionInput{FunctionName: ptr("f")})
		if err != nil {
			break
		}
		last = *out.Version
		change(t, a, store, "f", last)
	}
	wantPart(t, err, thaw.CodeInvalidParameterValue, "All that is stored of function f, …")
	if last == "" {
		t.Fatal("nothing fits")
	}
	f, _ := store.Function("f")
	if size, err := recordSize(f); err != nil || size > maxRecord {
		t.Errorf("%d bytes, %v", size, err)
	}
	// A record that is too large already can be made smaller, though not small enough in one go.
	_, err = store.UpdateFunction(t.Context(), "f", func(f *thaw.Function) error {
		v := f.Config
		v.Number, v.Environment, v.State = fmt.Sprint(f.LastNumber+1), map[string]string{"A": strings.Repeat("x", 100_000)}, thaw.StateActive
		f.Published, f.LastNumber = append(f.Published, v), f.LastNumber+1
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"2", "1"} {
		if _, err := a.deleteFunction(t.Context(), &sdk.DeleteFunctionInput{FunctionName: ptr("f"), Qualifier: &q}); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, a, "f")
}

func TestCodeStorageCountsLayersWhenAVersionIsPublished(t *testing.T) {
	code, content := createInput(t, "f").Code.ZipFile, zipOf(t, "a layer")
	a, store := newAPI(t, func(c *Config) { c.Limits.TotalCodeSize = int64(2*len(code) + len(content) - 1) })
	active(t, a, store, "f")
	layer := &sdk.PublishLayerVersionInput{LayerName: ptr("deps"), Content: &types.LayerVersionContentInput{ZipFile: content}}
	if _, err := a.publishLayerVersion(t.Context(), layer); err != nil {
		t.Fatal(err)
	}
	_, err := a.publishVersion(t.Context(), &sdk.PublishVersionInput{FunctionName: ptr("f")})
	wantError(t, err, thaw.CodeCodeStorageExceeded, "Code storage limit exceeded.")
}

func TestCodeStorageCountsVersions(t *testing.T) {
	a, store := newAPI(t, func(c *Config) { c.Limits.TotalCodeSize = 3 * 129 })
	active(t, a, store, "f")
	publish(t, a, "f")
	settle(t, store, "f", "")
	in := &sdk.UpdateFunctionCodeInput{FunctionName: ptr("f"), ZipFile: zipOf(t, "222"), Publish: true}
	if _, err := a.updateFunctionCode(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	settle(t, store, "f", "")
	in.ZipFile = zipOf(t, "333")
	_, err := a.updateFunctionCode(t.Context(), in)
	wantError(t, err, thaw.CodeCodeStorageExceeded, "Code storage limit exceeded.")
	if f, _ := store.Function("f"); len(f.Published) != 2 || f.Config.LastUpdate != thaw.UpdateSuccessful {
		t.Errorf("%+v", f)
	}
}

func TestDownloadOfVersion(t *testing.T) {
	url, a, store := serve(t)
	active(t, a, store, "f")
	publish(t, a, "f")
	if _, err := a.updateFunctionCode(t.Context(), &sdk.UpdateFunctionCodeInput{FunctionName: ptr("f"), ZipFile: zipOf(t, "longer than before")}); err != nil {
		t.Fatal(err)
	}
	out, err := a.getFunction(t.Context(), &sdk.GetFunctionInput{FunctionName: ptr("f:1")})
	if err != nil || !strings.HasPrefix(*out.Code.Location, url) {
		t.Fatalf("%+v %v", out, err)
	}
	resp, err := http.Get(*out.Code.Location)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if want := int64(len(zipOf(t, "f"))); resp.StatusCode != 200 || resp.ContentLength != want {
		t.Errorf("%d, %d bytes of %d", resp.StatusCode, resp.ContentLength, want)
	}
}

func TestVersionsPublishedAtOnce(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	var wg sync.WaitGroup
	numbers := make(chan string, 30)
	for range 30 {
		wg.Go(func() {
			out, err := a.publishVersion(t.Context(), &sdk.PublishVersionInput{FunctionName: ptr("f")})
			if err != nil {
				t.Error(err)
				return
			}
			numbers <- *out.Version
		})
	}
	wg.Wait()
	close(numbers)
	for n := range numbers {
		if n != "1" {
			t.Errorf("version %s of an unchanged function", n)
		}
	}
}

// Whichever of the two comes first, no alias is left without its version.
func TestAliasOfVersionThatGoes(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	created := 0
	for i := range 30 {
		name, n := fmt.Sprint("a", i), *publish(t, a, "f").Version
		var wg sync.WaitGroup
		var made, gone error
		wg.Go(func() {
			_, made = a.createAlias(t.Context(), &sdk.CreateAliasInput{FunctionName: ptr("f"), Name: &name, FunctionVersion: &n})
		})
		wg.Go(func() {
			_, gone = a.deleteFunction(t.Context(), &sdk.DeleteFunctionInput{FunctionName: ptr("f"), Qualifier: &n})
		})
		wg.Wait()
		if (made == nil) == (gone == nil) {
			t.Fatalf("alias: %v, deletion: %v", made, gone)
		}
		f, _ := store.Function("f")
		if made == nil {
			created++
		}
		if _, ok := f.Aliases[name]; ok != (f.Version(n) != nil) {
			t.Fatalf("version %s: alias %v, version %v", n, ok, f.Version(n) != nil)
		}
		change(t, a, store, "f", name)
	}
	t.Logf("%d aliases came first, of 30", created)
}
