package lambda

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw"
)

const arnF = "arn:aws:lambda:us-east-1:000000000000:function:f"

func TestGetFunctionByEveryName(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	for _, name := range []string{"f", "000000000000:f", "000000000000:function:f", "us-east-1:000000000000:function:f", "function:f", arnF} {
		for _, qualifier := range []string{"", "$LATEST"} {
			for _, in := range []sdk.GetFunctionInput{
				{FunctionName: &name, Qualifier: &qualifier},
				{FunctionName: ptr(strings.TrimSuffix(name+":"+qualifier, ":"))},
			} {
				out, err := a.getFunction(t.Context(), &in)
				if err != nil {
					t.Errorf("%s %s: %v", *in.FunctionName, qualifier, err)
					continue
				}
				want := strings.TrimSuffix(arnF+":"+qualifier, ":")
				if *out.Configuration.FunctionArn != want || *out.Configuration.Version != "$LATEST" || *out.Code.RepositoryType != "S3" {
					t.Errorf("%s %s: %+v", *in.FunctionName, qualifier, out.Configuration)
				}
			}
		}
	}
}

func TestReadErrors(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	get := func(name string, qualifier *string) error {
		_, err := a.getFunction(t.Context(), &sdk.GetFunctionInput{FunctionName: &name, Qualifier: qualifier})
		_, other := a.getFunctionConfiguration(t.Context(), &sdk.GetFunctionConfigurationInput{FunctionName: &name, Qualifier: qualifier})
		if thaw.CodeOf(err) != thaw.CodeOf(other) {
			t.Errorf("GetFunction %v, GetFunctionConfiguration %v", err, other)
		}
		return err
	}
	remove := func(name string, qualifier *string) error {
		_, err := a.deleteFunction(t.Context(), &sdk.DeleteFunctionInput{FunctionName: &name, Qualifier: qualifier})
		return err
	}
	const mismatch = "The derived qualifier from the function name does not match the specified qualifier."
	wantError(t, get("none", nil), thaw.CodeResourceNotFound, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:none")
	wantError(t, get("none", ptr("$LATEST")), thaw.CodeResourceNotFound, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:none:$LATEST")
	wantError(t, get("f", ptr("1221")), thaw.CodeResourceNotFound, "Function not found: "+arnF+":1221")
	wantError(t, get("f", ptr("live")), thaw.CodeResourceNotFound, "Function not found: "+arnF+":live")
	wantError(t, get("f:$LATEST", ptr("1")), thaw.CodeInvalidParameterValue, mismatch)
	wantError(t, get("arn:aws:lambda:eu-north-1:000000000000:function:f", nil), thaw.CodeResourceNotFound, "Functions from 'eu-north-1' are not reachable in this region ('us-east-1')")
	wantError(t, get("arn:aws:lambda:eu-north-1:000000000001:function:f", nil), thaw.CodeAccessDenied, "")
	wantError(t, get("f f", nil), thaw.CodeValidation, "")

	wantError(t, remove("f:1", ptr("$LATEST")), thaw.CodeInvalidParameterValue, mismatch)
	wantError(t, remove("f", ptr("$LATEST")), thaw.CodeInvalidParameterValue, "$LATEST version cannot be deleted without deleting the function.")
	wantError(t, remove("none", ptr("$LATEST")), thaw.CodeInvalidParameterValue, "$LATEST version cannot be deleted without deleting the function.")
	wantError(t, remove("f", ptr("live")), thaw.CodeInvalidParameterValue, "Deletion of aliases is not currently supported.")
	wantError(t, remove("none", nil), thaw.CodeResourceNotFound, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:none")
	wantError(t, remove("none", ptr("7")), thaw.CodeResourceNotFound, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:none")
	if err := remove("f", ptr("7")); err != nil {
		t.Error(err)
	}
	if err := get("f", nil); err != nil {
		t.Error(err)
	}
	if err := remove("f", nil); err != nil {
		t.Error(err)
	}
	wantError(t, remove("f", nil), thaw.CodeResourceNotFound, "Function not found: "+arnF)
}

func TestDeleteWhilePending(t *testing.T) {
	a, store := newAPI(t)
	if _, err := a.createFunction(t.Context(), createInput(t, "f")); err != nil {
		t.Fatal(err)
	}
	first, _ := store.Function("f")
	out, err := a.deleteFunction(t.Context(), &sdk.DeleteFunctionInput{FunctionName: ptr("f")})
	if err != nil || out.StatusCode != 200 {
		t.Fatalf("%+v %v", out, err)
	}
	if _, ok := store.Function("f"); ok {
		t.Error("still there")
	}
	if again := active(t, a, store, "f"); again.Config.Generation <= first.Config.Generation {
		t.Error("a new function of the same name has an old generation")
	}
}

func TestListThousands(t *testing.T) {
	a, _ := newAPI(t)
	const n = 2500
	var want []string
	zip := zipOf(t, "same")
	for i := range n {
		in := createInput(t, numbered(i))
		in.Code.ZipFile = zip
		if _, err := a.createFunction(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		want = append(want, numbered(i))
	}
	for _, size := range []*int32{nil, aws.Int32(7), aws.Int32(10000)} {
		var got []string
		var marker *string
		for pages := 0; ; pages++ {
			out, err := a.listFunctions(t.Context(), &sdk.ListFunctionsInput{MaxItems: size, Marker: marker})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range out.Functions {
				got = append(got, *f.FunctionName)
			}
			if limit := min(50, int(aws.ToInt32(size))); size != nil && out.NextMarker != nil && len(out.Functions) != limit {
				t.Fatalf("page of %d, want %d", len(out.Functions), limit)
			}
			if marker = out.NextMarker; marker == nil {
				break
			}
			if pages == 3 && size == nil {
				// A function that goes between pages hides no other.
				if _, err := a.deleteFunction(t.Context(), &sdk.DeleteFunctionInput{FunctionName: &got[len(got)-1]}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("listed %d functions of %d", len(got), len(want))
		}
		if size == nil {
			want = slices.Delete(want, 199, 200)
		}
	}
	out, err := a.getAccountSettings(t.Context(), nil)
	if err != nil || out.AccountUsage.FunctionCount != n-1 || out.AccountUsage.TotalCodeSize != int64(len(zip)*(n-1)) {
		t.Errorf("%+v %v", out.AccountUsage, err)
	}
	if l := out.AccountLimit; l.ConcurrentExecutions != 1000 || *l.UnreservedConcurrentExecutions != 1000 || l.CodeSizeZipped != 52428800 || l.CodeSizeUnzipped != 262144000 || l.TotalCodeSize != 80530636800 {
		t.Errorf("%+v", l)
	}
}

func TestListShows(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	out, err := a.listFunctions(t.Context(), &sdk.ListFunctionsInput{FunctionVersion: "ALL"})
	if err != nil || len(out.Functions) != 1 || out.NextMarker != nil {
		t.Fatalf("%+v %v", out, err)
	}
	f := out.Functions[0]
	if *f.FunctionArn != arnF+":$LATEST" || f.State != "" || f.LastUpdateStatus != "" || f.RuntimeVersionConfig != nil || *f.CodeSha256 == "" {
		t.Errorf("%+v", f)
	}
	for _, marker := range []string{"%%", "made-up"} { // the second is base64, but of nothing that is a name
		_, err = a.listFunctions(t.Context(), &sdk.ListFunctionsInput{Marker: ptr(marker)})
		wantError(t, err, thaw.CodeInvalidParameterValue, "")
	}
	_, err = a.listFunctions(t.Context(), &sdk.ListFunctionsInput{MasterRegion: ptr("ALL")})
	wantError(t, err, thaw.CodeInvalidParameterValue, "")
	out, err = a.listFunctions(t.Context(), &sdk.ListFunctionsInput{MasterRegion: ptr("ALL"), FunctionVersion: "ALL"})
	if err != nil || len(out.Functions) != 0 {
		t.Errorf("%+v %v", out, err)
	}
}

// Of several tags that cannot be, the answer names the same one each time.
func TestWrongTagsGetTheSameAnswer(t *testing.T) {
	for range 20 {
		wantError(t, checkTags(nil, map[string]string{"aws:c": "", "aws:a": "", "aws:b": ""}), thaw.CodeInvalidParameterValue, "Tag key 'aws:a' is not allowed: the prefix aws: is reserved. Choose another key.")
	}
}

func TestTags(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	tag := func(tags map[string]string) error {
		_, err := a.tagResource(t.Context(), &sdk.TagResourceInput{Resource: ptr(arnF), Tags: tags})
		return err
	}
	many := map[string]string{}
	for i := range 50 {
		many[fmt.Sprint("key", i)] = ""
	}
	before, _ := store.Function("f")
	if err := tag(map[string]string{"a": "1", "b": "2"}); err != nil {
		t.Fatal(err)
	}
	after, _ := store.Function("f")
	if after.Config.RevisionID == before.Config.RevisionID || after.Running.RevisionID != after.Config.RevisionID || after.Config.Generation != before.Config.Generation {
		t.Errorf("a tag changes the revision and nothing else of the version: %+v", after)
	}
	wantError(t, tag(many), thaw.CodeInvalidParameterValue, "Number of tags exceeds resource tag limit.")
	wantError(t, tag(nil), thaw.CodeInvalidParameterValue, "An error occurred and the request cannot be processed.")
	wantError(t, tag(map[string]string{"": "x"}), thaw.CodeInvalidParameterValue, "")
	wantError(t, tag(map[string]string{strings.Repeat("ä", 129): "x"}), thaw.CodeInvalidParameterValue, "")
	wantError(t, tag(map[string]string{"x": strings.Repeat("ä", 257)}), thaw.CodeInvalidParameterValue, "")
	wantError(t, tag(map[string]string{"AWS:x": ""}), thaw.CodeInvalidParameterValue, "")
	if err := tag(map[string]string{strings.Repeat("ä", 128): strings.Repeat("ä", 256), "a": "3"}); err != nil {
		t.Error(err)
	}
	if _, err := a.untagResource(t.Context(), &sdk.UntagResourceInput{Resource: ptr(arnF), TagKeys: []string{"b", "absent", strings.Repeat("ä", 128)}}); err != nil {
		t.Error(err)
	}
	list := func(resource string) (map[string]string, error) {
		out, err := a.listTags(t.Context(), &sdk.ListTagsInput{Resource: &resource})
		if err != nil {
			return nil, err
		}
		return out.Tags, nil
	}
	if got, err := list(arnF); err != nil || !maps.Equal(got, map[string]string{"a": "3"}) {
		t.Errorf("%v %v", got, err)
	}
	out, err := a.getFunction(t.Context(), &sdk.GetFunctionInput{FunctionName: ptr("f")})
	if err != nil || out.Tags["a"] != "3" {
		t.Errorf("%v %v", out, err)
	}
	_, err = list(arnF + ":$LATEST")
	wantError(t, err, thaw.CodeInvalidParameterValue, "Tags on function aliases and versions are not supported. Please specify a function ARN.")
	_, err = list("arn:aws:lambda:us-east-1:000000000000:function:none")
	wantError(t, err, thaw.CodeResourceNotFound, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:none")
	_, err = list("arn:aws:lambda:us-east-1:000000000000:event-source-mapping:1")
	wantError(t, err, thaw.CodeResourceNotFound, "")
	_, err = list("f")
	wantError(t, err, thaw.CodeValidation, "")
	_, err = a.untagResource(t.Context(), &sdk.UntagResourceInput{Resource: ptr(arnF + "2"), TagKeys: []string{"a"}})
	wantError(t, err, thaw.CodeResourceNotFound, "Function not found: "+arnF+"2")
}

func TestDownload(t *testing.T) {
	a, store := newAPI(t)
	now := time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)
	a.now = func() time.Time { return now }
	zip := zipOf(t, "f")
	active(t, a, store, "f")
	out, err := a.getFunction(t.Context(), &sdk.GetFunctionInput{FunctionName: ptr("f")})
	if err != nil {
		t.Fatal(err)
	}
	link, err := url.Parse(*out.Code.Location)
	if err != nil || link.Scheme+"://"+link.Host != "http://thaw.test" {
		t.Fatal(link, err)
	}
	fetch := func(method string, link *url.URL) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		a.Downloads().ServeHTTP(w, httptest.NewRequest(method, link.RequestURI(), nil))
		return w
	}
	if w := fetch("GET", link); w.Code != 200 || w.Body.String() != string(zip) || w.Header().Get("Content-Type") != "application/zip" || w.Header().Get("Content-Length") != fmt.Sprint(len(zip)) {
		t.Errorf("%d %v, %d bytes", w.Code, w.Header(), w.Body.Len())
	}
	if w := fetch("HEAD", link); w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("HEAD: %d", w.Code)
	}
	if w := fetch("POST", link); w.Code != 405 {
		t.Errorf("POST: %d", w.Code)
	}
	with := func(change func(url.Values)) *url.URL {
		q := link.Query()
		change(q)
		other := *link
		other.RawQuery = q.Encode()
		return &other
	}
	stolen := *link
	stolen.Path = DownloadPath + "other"
	// The same bytes in a row, divided elsewhere.
	digest := link.Query().Get("sha256")
	moved := *with(func(q url.Values) { q.Set("sha256", digest[1:]) })
	moved.Path = link.Path + digest[:1]
	for name, bad := range map[string]*url.URL{
		"later":       with(func(q url.Values) { q.Set("expires", "99999999999") }),
		"other code":  with(func(q url.Values) { q.Set("sha256", "x") }),
		"no token":    with(func(q url.Values) { q.Del("token") }),
		"other name":  &stolen,
		"moved bytes": &moved,
	} {
		if w := fetch("GET", bad); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "GetFunction") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	b, _ := newAPI(t)
	w := httptest.NewRecorder()
	b.Downloads().ServeHTTP(w, httptest.NewRequest("GET", link.RequestURI(), nil))
	if w.Code != http.StatusForbidden {
		t.Errorf("another process's link: %d", w.Code)
	}
	now = now.Add(linkLife + time.Second)
	if w := fetch("GET", link); w.Code != http.StatusForbidden {
		t.Errorf("expired: %d", w.Code)
	}
	now = now.Add(-linkLife)
	gone := *link
	expires := link.Query().Get("expires")
	gone.RawQuery = url.Values{"sha256": {"gone"}, "expires": {expires}, "token": {a.token("f", "gone", expires)}}.Encode()
	if w := fetch("GET", &gone); w.Code != http.StatusNotFound {
		t.Errorf("gone: %d", w.Code)
	}
	a.cfg.Packages = broken{a.cfg.Packages}
	func() {
		defer func() {
			if recover() != http.ErrAbortHandler {
				t.Error("a package that breaks off looks whole")
			}
		}()
		fetch("GET", link)
	}()
}

// broken gives packages whose reading fails in the middle.
type broken struct{ Packages }

type breaks struct{ n int }

func (b *breaks) Read(p []byte) (int, error) {
	if b.n++; b.n > 1 {
		return 0, io.ErrUnexpectedEOF
	}
	return copy(p, "PK"), nil
}
func (*breaks) Close() error { return nil }

func (broken) OpenCode(context.Context, string) (io.ReadCloser, error) { return new(breaks), nil }

func TestNewChecksItsConfig(t *testing.T) {
	good, _ := newAPI(t)
	for name, change := range map[string]func(*Config){
		"functions":    func(c *Config) { c.Functions = nil },
		"packages":     func(c *Config) { c.Packages = nil },
		"runtimes":     func(c *Config) { c.Runtimes = nil },
		"check":        func(c *Config) { c.CheckPackage = nil },
		"account":      func(c *Config) { c.Account.ID = "" },
		"region":       func(c *Config) { c.Account.Region = "" },
		"architecture": func(c *Config) { c.Architecture = "amd64" },
	} {
		cfg := good.cfg
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
