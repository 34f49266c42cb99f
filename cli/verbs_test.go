package cli

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"thaw"
)

// TestDeployChanges looks at what is sent: code before configuration, only what flags name, and nothing for nothing.
func TestDeployChanges(t *testing.T) {
	f := newFakePlatform(t)
	f.pollsUntilActive = 3
	deps := testDeps(f.URL)
	dir := writeTree(t, map[string]string{"app.py": pythonHandler})
	deploy := func(args ...string) {
		t.Helper()
		if got := run(t, t.Context(), "", deps, append([]string{"deploy", dir}, args...)...); got.exit != ExitOK {
			t.Fatalf("%+v", got)
		}
	}
	deploy("--env", "STAGE=dev", "--memory", "256")
	deploy()
	if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(pythonHandler+"# 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	deploy("--timeout", "10")
	want := []string{
		`create {"Environment":{"Variables":{"STAGE":"dev"}},"FunctionName":"hello","Handler":"app.handler","MemorySize":256,"Role":"arn:aws:iam::123456789012:role/thaw","Runtime":"python3.11","Timeout":3}`,
		`update code hello {}`,
		`update configuration hello {"Timeout":10}`,
	}
	if diff := cmp.Diff(want, f.requests); diff != "" {
		t.Error(diff)
	}
}

func TestDeployZip(t *testing.T) {
	f := newFakePlatform(t)
	data, err := pack(writeTree(t, map[string]string{"app.py": pythonHandler}))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "my fn.zip")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := run(t, t.Context(), "", testDeps(f.URL), "deploy", path); got.exit != ExitOK || !strings.Contains(got.out, "created my-fn\n") {
		t.Errorf("%+v", got)
	}
	if err := os.Truncate(path, thaw.MaxZip+1); err != nil {
		t.Fatal(err)
	}
	if got := run(t, t.Context(), "", testDeps(f.URL), "deploy", path); got.exit != ExitUsage || !strings.Contains(got.errOut, "50 MB packed and 250 MB unpacked") {
		t.Errorf("%+v", got)
	}
	if err := os.WriteFile(path, []byte("not a zip"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := run(t, t.Context(), "", testDeps(f.URL), "deploy", path); got.exit != ExitUsage || !strings.Contains(got.errOut, "not a valid zip file") {
		t.Errorf("%+v", got)
	}
}

func TestDeployFailsAndTimesOut(t *testing.T) {
	dir := writeTree(t, map[string]string{"app.py": pythonHandler})
	f := newFakePlatform(t)
	f.failUpdate = "the package is broken"
	if got := run(t, t.Context(), "", testDeps(f.URL), "deploy", dir); got.exit != ExitFailed || !strings.Contains(got.errOut, f.failUpdate) {
		t.Errorf("%+v", got)
	}
	f = newFakePlatform(t)
	f.pollsUntilActive = 1 << 30
	if got := run(t, t.Context(), "", testDeps(f.URL), "deploy", dir, "--wait", "1ms"); got.exit != ExitTimeout || !strings.Contains(got.errOut, "still Pending") {
		t.Errorf("%+v", got)
	}
}

func TestRequestsAreSigned(t *testing.T) {
	var mu sync.Mutex
	var signatures []string
	f := newFakePlatform(t)
	inner := f.Config.Handler
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		signatures = append(signatures, r.Header.Get("Authorization"))
		mu.Unlock()
		inner.ServeHTTP(w, r)
	})
	deps := testDeps(f.URL)
	endpoint := deps.Getenv
	deps.Getenv = func(name string) string {
		return first(endpoint(name), map[string]string{"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_REGION": "eu-west-1"}[name])
	}
	run(t, t.Context(), "", deps, "invoke", "hello")
	run(t, t.Context(), "", deps, "logs", "hello")
	run(t, t.Context(), "", deps, "bench", "cold", "hello", "-n", "1")
	if len(signatures) != 3 {
		t.Fatalf("%d requests", len(signatures))
	}
	for _, s := range signatures {
		if !strings.Contains(s, "Credential=AKIDTEST/") || !strings.Contains(s, "/eu-west-1/lambda/aws4_request") {
			t.Errorf("signed as %q", s)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for _, s := range []string{"", "plain-1.2/x:y@z%+=,_", "a b", "it's", `$HOME "x" \`, "new\nline", "ü"} {
		out, err := exec.Command("sh", "-c", "printf %s "+shellQuote(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q became %q (%v)", s, out, err)
		}
	}
}

func TestDistribute(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(100-i)*time.Millisecond)
	}
	got := distribute(hundred)
	want := distribution{Count: 100, Mean: 50.5, Median: 50.5, Min: 1, Max: 100, StdDev: 29.011491975882016, P95: 95, P99: 99}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := distribute([]time.Duration{time.Millisecond}); got != (distribution{Count: 1, Mean: 1, Median: 1, Min: 1, Max: 1, P95: 1, P99: 1}) {
		t.Errorf("one: %+v", got)
	}
	if got := distribute(nil); got != (distribution{}) {
		t.Errorf("none: %+v", got)
	}
}

// TestProgress checks that a terminal sees the label, that the line is cleared at the end, and that nothing is drawn
// for short work or without a terminal.
func TestProgress(t *testing.T) {
	drawn := &syncBuffer{}
	p := &program{io: Streams{Err: drawn, Terminal: true}}
	m := p.progressAfter("deploying hello", 10, 0)
	m.step()
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(drawn.String(), "deploying hello") && time.Now().Before(deadline) {
		m.step()
	}
	m.stop()
	if !strings.Contains(drawn.String(), "deploying hello") {
		t.Errorf("drawn: %q", drawn.String())
	}
	if after := drawn.String(); !strings.HasSuffix(after, "\r") {
		t.Errorf("the line is not cleared: %q", after)
	}
	for _, quiet := range []*program{{io: Streams{Err: &syncBuffer{}, Terminal: true}}, {io: Streams{Err: &syncBuffer{}}}} {
		m := quiet.progressAfter("x", -1, time.Hour)
		m.stop()
		if s := quiet.io.Err.(*syncBuffer).String(); s != "" {
			t.Errorf("drawn: %q", s)
		}
	}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func FuzzParseInvocation(f *testing.F) {
	f.Add(fakeInvocation)
	f.Add(`{"phases":{"init":-5,"handler":9223372036854775807,"x":1}}`)
	f.Add(`{"phases":{"admit":-9223372036854775808,"handler":9223372036854775807,"init":9223372036854775807}}`)
	f.Fuzz(func(t *testing.T, header string) {
		inv := parseInvocation(http.Header{headerInvocation: {header}})
		if inv == nil {
			return
		}
		var out bytes.Buffer
		writeExplanation(&out, "f", inv)
		for line := range strings.SplitSeq(out.String(), "\n") {
			if strings.Count(line, "█") > barWidth {
				t.Errorf("bar too long: %s", line)
			}
		}
	})
}

// TestDeployElsewhere: another Lambda API has no templates to tell of, and that is nothing to remark on.
func TestDeployElsewhere(t *testing.T) {
	f := newFakePlatform(t)
	f.foreign = true
	dir := writeTree(t, map[string]string{"app.py": pythonHandler})
	got := run(t, t.Context(), "", testDeps(f.URL), "deploy", dir, "--runtime", "python3.11", "--handler", "app.handler")
	if got.exit != ExitOK || strings.Contains(got.out+got.errOut, "starts") {
		t.Errorf("%+v", got)
	}
}
