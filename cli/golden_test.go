package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

type outcome struct {
	exit        int
	out, errOut string
}

// run runs one command line in process.
func run(t *testing.T, ctx context.Context, stdin string, deps Deps, args ...string) outcome {
	t.Helper()
	var out, errOut bytes.Buffer
	exit := Run(ctx, args, Streams{In: strings.NewReader(stdin), Out: &out, Err: &errOut}, deps)
	return outcome{exit, out.String(), errOut.String()}
}

func testDeps(endpoint string) Deps {
	return Deps{
		Version: "v0.0.0-test",
		Getenv: func(name string) string {
			if name == "THAW_ENDPOINT" {
				return endpoint
			}
			return ""
		},
		Credentials: func(data string) (string, string, error) {
			if data == "there" {
				return "AKIAOWN", "own+secret/=", nil
			}
			return "", "", nil
		},
		Doctor: func(context.Context) (Report, error) {
			return Report{
				Capabilities: []Capability{
					{Name: "user namespaces", Present: true, Detail: "as root", WithoutIt: "functions run as the platform's user"},
					{Name: "seccomp", Present: false, WithoutIt: "functions may use every system call"},
				},
				Interpreters: []Interpreter{
					{Language: "python", Version: "3.11.2", Path: "/usr/bin/python3.11"},
					{Language: "ruby", Version: "1.8.7", Path: "/opt/ruby/bin/ruby", Unusable: "older than 2.7"},
				},
			}, nil
		},
	}
}

// writeTree makes a directory from name -> content.
func writeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "hello")
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const pythonHandler = "def handler(event, context):\n    return event\n"

func TestOutput(t *testing.T) {
	hello := writeTree(t, map[string]string{"app.py": pythonHandler})
	empty := writeTree(t, map[string]string{"README": "nothing to run\n"})
	deployed := []string{"deploy", hello}
	cases := []struct {
		name  string
		setup [][]string // commands that are run first and must succeed
		stdin string
		args  []string
	}{
		{name: "version", args: []string{"version"}},
		{name: "version-json", args: []string{"version", "--json"}},
		{name: "help", args: []string{"--help"}},
		{name: "unknown-verb", args: []string{"deplyo"}},
		{name: "unknown-flag", args: []string{"list", "--colour"}},
		{name: "missing-argument", args: []string{"invoke"}},
		{name: "bad-endpoint", args: []string{"list", "--endpoint", "ftp://x"}},
		{name: "list-empty", args: []string{"list"}},
		{name: "list", setup: [][]string{deployed, {"deploy", hello, "--name", "other", "--memory", "1769"}}, args: []string{"list"}},
		{name: "list-json", setup: [][]string{deployed}, args: []string{"list", "--json"}},
		{name: "deploy", args: deployed},
		{name: "deploy-json", args: []string{"deploy", hello, "--json"}},
		{name: "deploy-unsafe", args: []string{"deploy", hello, "--name", "unsafe"}},
		{name: "deploy-unsafe-json", args: []string{"deploy", hello, "--name", "unsafe", "--json"}},
		{name: "deploy-building", args: []string{"deploy", hello, "--name", "building"}},
		{name: "deploy-unseen", args: []string{"deploy", hello, "--name", "unseen"}},
		{name: "get", setup: [][]string{deployed}, args: []string{"get", "hello"}},
		{name: "get-json", setup: [][]string{deployed}, args: []string{"get", "hello", "--json"}},
		{name: "get-off", setup: [][]string{{"deploy", hello, "--name", "off"}}, args: []string{"get", "off"}},
		{name: "get-building", setup: [][]string{{"deploy", hello, "--name", "building"}}, args: []string{"get", "building"}},
		{name: "get-evicted", setup: [][]string{{"deploy", hello, "--name", "evicted"}}, args: []string{"get", "evicted"}},
		{name: "get-failing", setup: [][]string{{"deploy", hello, "--name", "failing"}}, args: []string{"get", "failing"}},
		{name: "deploy-failing", args: []string{"deploy", hello, "--name", "failing"}},
		{name: "get-unsafe", setup: [][]string{{"deploy", hello, "--name", "unsafe"}}, args: []string{"get", "unsafe"}},
		{name: "get-versions", setup: [][]string{{"deploy", hello, "--name", "versions"}}, args: []string{"get", "versions"}},
		{name: "get-missing", args: []string{"get", "hello"}},
		{name: "deploy-unchanged", setup: [][]string{deployed}, args: deployed},
		{name: "deploy-config", setup: [][]string{deployed}, args: []string{"deploy", hello, "--handler", "app.other", "--env", "A=1=2", "--timeout", "9"}},
		{name: "deploy-nothing-to-run", args: []string{"deploy", empty}},
		{name: "deploy-bad-env", args: []string{"deploy", hello, "--env", "A"}},
		{name: "deploy-no-directory", args: []string{"deploy", "no/such/directory"}},
		{name: "invoke", args: []string{"invoke", "hello", "--payload", `{"n":1}`}},
		{name: "invoke-stdin", stdin: "[1]", args: []string{"invoke", "hello", "--payload", "-"}},
		{name: "invoke-explain", args: []string{"invoke", "hello", "--explain", "--log", "--cold"}},
		{name: "invoke-parts", args: []string{"invoke", "parts", "--explain"}},
		{name: "invoke-fork", args: []string{"invoke", "forked", "--explain"}},
		{name: "invoke-restore", args: []string{"invoke", "restored", "--explain"}},
		{name: "invoke-spare", args: []string{"invoke", "spared", "--explain"}},
		{name: "invoke-restore-json", args: []string{"invoke", "restored", "--json"}},
		{name: "invoke-json", args: []string{"invoke", "hello", "--json", "--log"}},
		{name: "invoke-async", args: []string{"invoke", "hello", "--async"}},
		{name: "invoke-async-log", args: []string{"invoke", "hello", "--async", "--log"}},
		{name: "invoke-fails", args: []string{"invoke", "fails"}},
		{name: "invoke-fails-json", args: []string{"invoke", "fails", "--json"}},
		{name: "invoke-missing", args: []string{"invoke", "missing"}},
		{name: "invoke-busy", args: []string{"invoke", "busy"}},
		{name: "invoke-not-json", args: []string{"invoke", "hello", "--payload", "{n:1}"}},
		{name: "invoke-no-file", args: []string{"invoke", "hello", "--payload", "@no/such/file"}},
		{name: "explain", args: []string{"explain", "00000000-0000-4000-8000-000000000001", "--imports", "4"}},
		{name: "explain-async", args: []string{"explain", "00000000-0000-4000-8000-000000000002"}},
		{name: "explain-json", args: []string{"explain", "00000000-0000-4000-8000-000000000002", "--json"}},
		{name: "explain-extensions", args: []string{"explain", "00000000-0000-4000-8000-000000000003"}},
		{name: "explain-extensions-waited", args: []string{"explain", "00000000-0000-4000-8000-000000000004"}},
		{name: "explain-function-like-an-id", args: []string{"explain", "00000000000040008000000000000001"}},
		{name: "explain-missing", args: []string{"explain", "00000000-0000-4000-8000-00000000000f"}},
		{name: "explain-function", args: []string{"explain", "hello", "--since", "1h"}},
		{name: "explain-function-warm", args: []string{"explain", "warm"}},
		{name: "explain-function-missing", args: []string{"explain", "missing"}},
		{name: "explain-bad-since", args: []string{"explain", "hello", "--since", "-1h"}},
		{name: "alarms", args: []string{"alarms"}},
		{name: "alarms-json", args: []string{"alarms", "--json"}},
		{name: "alarms-recommended", setup: [][]string{deployed}, args: []string{"alarms", "recommended", "hello"}},
		{name: "alarms-recommended-json", setup: [][]string{deployed}, args: []string{"alarms", "recommended", "hello", "--action", "https://example.com/hook", "--json"}},
		{name: "alarms-recommended-none", args: []string{"alarms", "recommended", "--all"}},
		{name: "alarms-recommended-missing", args: []string{"alarms", "recommended", "missing"}},
		{name: "logs", args: []string{"logs", "hello"}},
		{name: "logs-json", args: []string{"logs", "hello", "--json"}},
		{name: "logs-silent", args: []string{"logs", "silent"}},
		{name: "logs-missing", args: []string{"logs", "missing"}},
		{name: "logs-bad-since", args: []string{"logs", "hello", "--since", "yesterday"}},
		{name: "delete", setup: [][]string{deployed}, args: []string{"delete", "hello"}},
		{name: "delete-json", setup: [][]string{deployed}, args: []string{"delete", "hello", "--json"}},
		{name: "delete-missing", args: []string{"delete", "hello"}},
		{name: "delete-missing-json", args: []string{"delete", "hello", "--json"}},
		{name: "doctor", args: []string{"doctor"}},
		{name: "doctor-json", args: []string{"doctor", "--json"}},
		{name: "doctor-endpoint", args: []string{"doctor", "--endpoint", "http://x"}},
		{name: "env", args: []string{"env", "--access-key", "AKIDTEST", "--secret-key", "it's"}},
		{name: "env-default", args: []string{"env"}},
		{name: "env-half", args: []string{"env", "--access-key", "AKIDTEST"}},
		{name: "env-data", args: []string{"env", "--data", "there"}},
		{name: "env-no-data", args: []string{"env", "--data", "nowhere"}},
		{name: "env-json", args: []string{"env", "--json"}},
		{name: "env-unset", args: []string{"env", "--unset"}},
		{name: "bench", args: []string{"bench"}},
		{name: "bench-missing", args: []string{"bench", "cold", "missing"}},
		{name: "bench-fails", args: []string{"bench", "warm", "fails"}},
		{name: "bench-no-count", args: []string{"bench", "warm", "hello", "--count", "0"}},
		{name: "queue", args: []string{"queue"}},
		{name: "queue-list", args: []string{"queue", "list"}},
		{name: "queue-list-json", args: []string{"queue", "list", "--json"}},
		{name: "queue-show", args: []string{"queue", "show", "orders"}},
		{name: "queue-show-json", args: []string{"queue", "show", "orders", "--json"}},
		{name: "queue-show-missing", args: []string{"queue", "show", "missing"}},
		{name: "queue-send-no-delay", args: []string{"queue", "send", "orders", "tea", "--delay", "0"}},
		{name: "queue-send", args: []string{"queue", "send", "orders", "tea", "--group", "g", "--delay", "5"}},
		{name: "queue-send-stdin", stdin: "tea", args: []string{"queue", "send", "orders", "-", "--json"}},
		{name: "queue-send-missing", args: []string{"queue", "send", "missing", "tea"}},
		{name: "queue-send-nothing", args: []string{"queue", "send", "orders"}},
		{name: "queue-send-no-file", args: []string{"queue", "send", "orders", "@no/such/file"}},
		{name: "queue-peek", args: []string{"queue", "peek", "orders"}},
		{name: "queue-peek-json", args: []string{"queue", "peek", "orders", "--json", "-n", "2", "--after", "3"}},
		{name: "queue-redrive", args: []string{"queue", "redrive", "orders-dead"}},
		{name: "queue-redrive-json", args: []string{"queue", "redrive", "orders-dead", "--to", "other", "-n", "5", "--json"}},
		{name: "queue-purge", args: []string{"queue", "purge", "orders"}},
		{name: "queue-purge-missing-json", args: []string{"queue", "purge", "missing", "--json"}},
		{name: "complete-queue", args: []string{"__complete", "queue", "show", "orders-"}},
		{name: "events", args: []string{"events"}},
		{name: "events-list", args: []string{"events", "list"}},
		{name: "events-list-json", args: []string{"events", "list", "--json"}},
		{name: "events-show", args: []string{"events", "show", "hello"}},
		{name: "events-show-paged", args: []string{"events", "show", "paged", "--dead", "-n", "3"}},
		{name: "events-show-json", args: []string{"events", "show", "hello", "--json"}},
		{name: "events-show-missing", args: []string{"events", "show", "missing"}},
		{name: "events-redrive", args: []string{"events", "redrive", "hello", "--id", "00000000-0000-4000-8000-00000000000f"}},
		{name: "events-discard", args: []string{"events", "discard", "hello"}},
		{name: "events-discard-json", args: []string{"events", "discard", "hello", "--json"}},
		{name: "complete-events", args: []string{"__complete", "events", "show", "he"}},
		{name: "top", args: []string{"top", "--once"}},
		{name: "top-name", args: []string{"top", "--once", "--sort", "name"}},
		{name: "top-json", args: []string{"top", "--once", "--json", "--sort", "throttles"}},
		{name: "top-bad-sort", args: []string{"top", "--sort", "colour"}},
		{name: "top-bad-interval", args: []string{"top", "--interval", "1ms"}},
		{name: "complete-sort", args: []string{"__complete", "top", "--sort", ""}},
		{name: "completion-json", args: []string{"completion", "bash", "--json"}},
		{name: "complete-name", setup: [][]string{deployed, {"deploy", hello, "--name", "other"}}, args: []string{"__complete", "invoke", "he"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := newFakePlatform(t)
			f.pollsUntilActive = 2
			deps := testDeps(f.URL)
			for _, args := range c.setup {
				if got := run(t, t.Context(), "", deps, args...); got.exit != ExitOK {
					t.Fatalf("%q: %+v", args, got)
				}
			}
			got := run(t, t.Context(), c.stdin, deps, c.args...)
			text := fmt.Sprintf("$ thaw %s\nexit %d\n--- standard output\n%s--- standard error\n%s", strings.Join(c.args, " "), got.exit, got.out, got.errOut)
			text = strings.NewReplacer(f.URL, "http://PLATFORM", hello, "HELLO", empty, "EMPTY",
				runtime.Version(), "GOVERSION", runtime.GOOS+"/"+runtime.GOARCH, "OS/ARCH").Replace(text)
			text = clock.ReplaceAllString(text, `"time":"TIME"`)
			compareGolden(t, c.name, codeIdentity.ReplaceAllString(text, "CODE"))
		})
	}
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (make it with: go test ./cli -update)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

// codeIdentity matches what depends on the compressor of the Go version: a package's digest and size.
var codeIdentity = regexp.MustCompile(`[A-Za-z0-9+/]{43}=|\b1[0-9][0-9] B\b|"code_bytes": [0-9]+`)

// clock matches the time of a reading.
var clock = regexp.MustCompile(`"time":"[^"]+"`)

var digits = regexp.MustCompile(`[0-9]+\.[0-9]+`)

// TestBenchOutput replaces what was measured, which no two runs share, and its width.
func TestBenchOutput(t *testing.T) {
	f := newFakePlatform(t)
	got := run(t, t.Context(), "", testDeps(f.URL), "bench", "cold", "hello", "-n", "8", "-c", "2")
	lines := strings.Split(got.out, "\n")
	for i, line := range lines {
		line = regexp.MustCompile(`[0-9]+ per second`).ReplaceAllString(line, "N per second")
		if strings.Contains(line, "end to end") {
			line = digits.ReplaceAllString(line, "T")
		}
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	compareGolden(t, "bench-cold", fmt.Sprintf("exit %d\n%s", got.exit, strings.Join(lines, "\n")))
	if len(f.requests) != 8 {
		t.Errorf("%d requests, want 8", len(f.requests))
	}
	for _, r := range f.requests {
		if !strings.Contains(r, "start=forced") {
			t.Errorf("not forced: %s", r)
		}
	}
}

func TestUnreachable(t *testing.T) {
	f := newFakePlatform(t)
	f.Close()
	for _, args := range [][]string{{"list"}, {"deploy", writeTree(t, map[string]string{"app.py": pythonHandler})}, {"invoke", "x"}, {"logs", "x"}, {"delete", "x"}, {"bench", "warm", "x"}, {"top"}, {"queue", "list"}, {"queue", "send", "x", "y"}, {"queue", "purge", "x"}, {"events", "list"}, {"events", "show", "x"}, {"explain", "x"}} {
		got := run(t, t.Context(), "", testDeps(f.URL), args...)
		if got.exit != ExitUnreachable || !strings.Contains(got.errOut, "thaw up") || !strings.Contains(got.errOut, "connection refused") {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

func TestInterrupted(t *testing.T) {
	f := newFakePlatform(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := run(t, ctx, "", testDeps(f.URL), "invoke", "hello"); got.exit != ExitInterrupted {
		t.Errorf("invoke: %+v", got)
	}
	if got := run(t, ctx, "", testDeps(f.URL), "bench", "burst", "hello"); got.exit != ExitInterrupted {
		t.Errorf("bench: %+v", got)
	}
}

// TestEmptyLists: what there is none of says what makes one.
func TestEmptyLists(t *testing.T) {
	f := newFakePlatform(t)
	f.empty = true
	for verb, next := range map[string]string{"queue": "create-queue", "events": "--async"} {
		if got := run(t, t.Context(), "", testDeps(f.URL), verb, "list"); got.exit != ExitOK || got.out != "" || !strings.Contains(got.errOut, next) {
			t.Errorf("%s: %+v", verb, got)
		}
		if got := run(t, t.Context(), "", testDeps(f.URL), verb, "list", "--json"); got.exit != ExitOK || !strings.Contains(got.out, "[]") {
			t.Errorf("%s: %+v", verb, got)
		}
	}
}

// TestQueueRequests looks at what is sent.
func TestQueueRequests(t *testing.T) {
	f := newFakePlatform(t)
	for _, args := range [][]string{
		{"queue", "send", "orders", "tea", "--group", "g", "--dedup", "d", "--delay", "5"},
		{"queue", "peek", "orders", "-n", "2", "--after", "3"},
		{"queue", "redrive", "orders"},
		{"queue", "redrive", "orders", "--to", "a.fifo", "-n", "5"},
		{"queue", "purge", "orders"},
		{"events", "show", "hello", "--dead", "--after", "x"},
		{"events", "redrive", "hello"},
		{"events", "discard", "hello", "--id", "1"},
	} {
		if got := run(t, t.Context(), "", testDeps(f.URL), args...); got.exit != ExitOK {
			t.Errorf("%q: %+v", args, got)
		}
	}
	want := []string{
		`AmazonSQS.GetQueueUrl {"QueueName":"orders"}`,
		`AmazonSQS.SendMessage {"DelaySeconds":5,"MessageBody":"tea","MessageDeduplicationId":"d","MessageGroupId":"g","QueueUrl":"` + f.URL + `/` + fakeAccount + `/orders"}`,
		"GET /_thaw/queues/orders/messages?after=3&limit=2",
		"POST /_thaw/queues/orders/redrive",
		"POST /_thaw/queues/orders/redrive?limit=5&to=a.fifo",
		"POST /_thaw/queues/orders/purge",
		"GET /_thaw/events/hello?after=x&limit=20&state=dead",
		"POST /_thaw/events/hello/redrive",
		"POST /_thaw/events/hello/discard?id=1",
	}
	if diff := cmp.Diff(want, f.requests); diff != "" {
		t.Error(diff)
	}
}

// TestFollowEndsQuietly interrupts once both lines are there.
func TestFollowEndsQuietly(t *testing.T) {
	f := newFakePlatform(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &cancelAfter{cancel: cancel, lines: 3}
	exit := Run(ctx, []string{"logs", "hello", "-f"}, Streams{In: strings.NewReader(""), Out: out, Err: os.Stderr}, testDeps(f.URL))
	if exit != ExitOK || !strings.Contains(out.String(), "<two>\nlines\n") {
		t.Errorf("exit %d, output %q", exit, out.String())
	}
}

type cancelAfter struct {
	bytes.Buffer
	cancel context.CancelFunc
	lines  int
}

func (c *cancelAfter) Write(b []byte) (int, error) {
	defer func() {
		if strings.Count(c.String(), "\n") >= c.lines {
			c.cancel()
		}
	}()
	return c.Buffer.Write(b)
}

func TestUp(t *testing.T) {
	var got UpOptions
	deps := testDeps("")
	deps.Up = func(_ context.Context, options UpOptions) error { got = options; return nil }
	if o := run(t, t.Context(), "", deps, "up", "--listen", "127.0.0.1:0", "--data", "d", "--config", "c.yaml", "--json"); o.exit != ExitOK {
		t.Fatalf("%+v", o)
	}
	got.Log = nil
	if want := (UpOptions{Listen: "127.0.0.1:0", Data: "d", Config: "c.yaml", JSON: true}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	deps.Up = func(context.Context, UpOptions) error {
		return &Error{What: "port 4566 is taken", Why: "another process listens there", Next: "thaw up --listen 127.0.0.1:4567", Exit: ExitFailed}
	}
	o := run(t, t.Context(), "", deps, "up")
	if want := "thaw: port 4566 is taken: another process listens there\n  next: thaw up --listen 127.0.0.1:4567\n"; o.exit != ExitFailed || o.errOut != want {
		t.Errorf("%+v", o)
	}
	deps.Up = func(context.Context, UpOptions) error { return errors.New("disk full") }
	if o := run(t, t.Context(), "", deps, "up"); o.exit != ExitFailed || o.errOut != "thaw: the platform stopped: disk full\n" {
		t.Errorf("%+v", o)
	}
}
