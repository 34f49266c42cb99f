package runtimes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"

	"thaw"
)

var testAccount = thaw.Account{ID: "000000000000", Region: "us-east-1"}

// registry is one Discover for all tests, with the prepared bootstraps in a folder that TestMain removes. Interpreters in
// the folders of THAW_TEST_INTERPRETERS, a list like PATH, are tested too.
var registry = sync.OnceValue(func() *Registry {
	r, err := Discover(context.Background(), Config{Dir: testDir, Getenv: os.Getenv, Extra: filepath.SplitList(os.Getenv("THAW_TEST_INTERPRETERS"))})
	if err != nil {
		panic(err)
	}
	return r
})

var testDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "thaw-runtimes-")
	if err != nil {
		panic(err)
	}
	testDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// child is a runtime outside any sandbox.
type child struct {
	conn   Conn
	cmd    *exec.Cmd
	output *outputLog
	ended  chan error
}

// outputLog collects what the output parser makes of the pipe.
type outputLog struct {
	mu       sync.Mutex
	messages []string
	parser   *Output
}

func (o *outputLog) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.parser.Write(data)
}

func (o *outputLog) all() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.parser.Flush()
	return slices.Clone(o.messages)
}

// socketpair gives the host's end as a connection and the child's as a file.
func socketpair(t testing.TB) (*net.UnixConn, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	host := os.NewFile(uintptr(fds[0]), "host")
	defer host.Close()
	conn, err := net.FileConn(host)
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*net.UnixConn), os.NewFile(uintptr(fds[1]), "child")
}

// startRuntime starts the version's runtime with codeDir in /var/task's place.
func startRuntime(t testing.TB, l *Launch, v *thaw.Version, codeDir string, env ...string) *child {
	t.Helper()
	conn, file := socketpair(t)
	defer file.Close()
	runtimeDir := l.Binds[0].Source
	args := slices.Clone(l.Args)
	for i := range args {
		args[i] = strings.Replace(args[i], RuntimeDir+"/", runtimeDir+"/", 1)
	}
	c := &child{conn: NewFrames(conn), ended: make(chan error, 1)}
	c.output = &outputLog{}
	c.output.parser = NewOutput(func(message []byte, _ time.Time) {
		c.output.messages = append(c.output.messages, string(message))
	})
	c.cmd = exec.Command(args[0], args[1:]...)
	c.cmd.Dir = codeDir
	c.cmd.ExtraFiles = []*os.File{file}
	c.cmd.Stdout, c.cmd.Stderr = c.output, c.output
	for _, pair := range append(Environ(v, testAccount, "stream", false, l.Env...), env...) {
		pair = strings.ReplaceAll(pair, RuntimeDir, runtimeDir)
		c.cmd.Env = append(c.cmd.Env, strings.ReplaceAll(pair, TaskRoot, codeDir))
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.ended <- c.cmd.Wait() }()
	t.Cleanup(func() {
		c.conn.Close()
		c.cmd.Process.Kill()
		<-c.ended
	})
	return c
}

// wait gives the child's exit as text: "exit status 1", "signal: killed", "exit status 0".
func (c *child) wait(t testing.TB) string {
	t.Helper()
	select {
	case err := <-c.ended:
		c.ended <- err
		return c.cmd.ProcessState.String()
	case <-time.After(20 * time.Second):
		t.Fatal("the runtime did not end")
		return ""
	}
}

// TestBootstraps runs every case of testdata/LANGUAGE against every interpreter of the language that this host has.
// A case is a txtar archive. The comment is a list of steps, one a line:
//
//	handler: main.handler        env: KEY=value        min: 3.12        max: 3.11
//	event: JSON                  passes an event (default meta); the next line says what must come of it
//	response: TEXT               exactly
//	error: TYPE JSON             a function error; in JSON "*" matches everything and "re:…" a regular expression
//	last-error: TYPE JSON        the same, and the runtime must end
//	init-error: TYPE JSON        instead of events
//	exit: exit status 1          the runtime must end by itself, without an answer to the event before
//	log: "Go string"             this message must have been written; log~: a regular expression; no-log~: none such
//
// $TASK stands for the folder of the code.
func TestBootstraps(t *testing.T) {
	for _, language := range []string{"python", "nodejs", "ruby"} {
		files, err := filepath.Glob("testdata/" + language + "/*.txtar")
		if err != nil || len(files) == 0 {
			t.Errorf("no cases for %s: %v", language, err)
		}
		ran := false
		for _, in := range registry().Interpreters() {
			if in.Language != language || in.Unusable != "" && !strings.Contains(in.Unusable, "chmod") {
				continue
			}
			ran = true
			for _, file := range files {
				name := strings.TrimSuffix(filepath.Base(file), ".txtar")
				t.Run(language+in.Version+"/"+name, func(t *testing.T) {
					t.Parallel()
					runCase(t, in, file)
				})
			}
		}
		if !ran {
			t.Logf("this host has no %s: its bootstrap was not tested", language)
		}
	}
}

// TestEventSizes sends events whose frames end at, before and after the bounds of the bootstraps' buffers.
func TestEventSizes(t *testing.T) {
	for _, in := range registry().Interpreters() {
		if in.Unusable != "" || in.Language == "java" {
			continue
		}
		t.Run(in.Language+in.Version, func(t *testing.T) {
			t.Parallel()
			c := startEcho(t, in)
			ctx := testContext(t)
			for _, size := range []int{2, 65536 - 100, 65535, 65536, 65537, 131072, 300_000, thaw.MaxPayload, 10} {
				for around := -12; around <= 0; around++ {
					text := `"` + strings.Repeat("x", max(0, size-2+around)) + `"`
					response, err := c.conn.Invoke(ctx, &Event{RequestID: "id", Payload: []byte(text)})
					if err != nil || string(response) != text {
						t.Fatalf("%d bytes: %d bytes, %v", len(text), len(response), err)
					}
					if size > 300_000 {
						break
					}
				}
			}
		})
	}
}

func launchFor(t testing.TB, in Interpreter, v *thaw.Version) *Launch {
	t.Helper()
	dir, err := registry().prepare(context.Background(), &in)
	if err != nil {
		t.Fatal(err)
	}
	id := identifier{language: in.Language}
	return &Launch{
		Args:  append([]string{in.Path}, commandLine(in.Language, v.MemorySize)...),
		Env:   id.environ(&in),
		Binds: []Bind{{dir, RuntimeDir}},
	}
}

func runCase(t *testing.T, in Interpreter, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := txtar.Write(archive, dir); err != nil {
		t.Fatal(err)
	}
	v := &thaw.Version{Function: "fn", Number: thaw.Latest, Runtime: "test", MemorySize: 256, Environment: map[string]string{}}
	var steps [][2]string
	for line := range strings.Lines(string(archive.Comment)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		value = strings.ReplaceAll(value, "$TASK", dir)
		switch {
		case !ok || strings.HasPrefix(key, "#"):
		case key == "handler":
			v.Handler = value
		case key == "env":
			name, text, _ := strings.Cut(value, "=")
			v.Environment[name] = text
		case key == "min" && compareVersions(in.Version, value) < 0, key == "max" && compareVersions(minor(in.Version), value) > 0:
			t.Skipf("%s is for %s %s", in.Version, key, value)
		case key == "min", key == "max":
		default:
			steps = append(steps, [2]string{key, value})
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := startRuntime(t, launchFor(t, in, v), v, dir)
	defer func() {
		if t.Failed() {
			t.Logf("output: %q", c.output.all())
		}
	}()
	runSteps(ctx, t, c, steps)
}

func runSteps(ctx context.Context, t *testing.T, c *child, steps [][2]string) {
	t.Helper()
	var response []byte
	err := c.conn.WaitInit(ctx)
	for _, step := range steps {
		key, want := step[0], step[1]
		switch key {
		case "event":
			if err != nil {
				t.Fatalf("before event %s: %v", want, err)
			}
			response, err = c.conn.Invoke(ctx, &Event{
				RequestID: "11111111-2222-3333-4444-555555555555", DeadlineMS: time.Now().Add(time.Minute).UnixMilli(),
				FunctionARN: "arn:aws:lambda:us-east-1:000000000000:function:fn", TraceID: "Root=1-5-6",
				ClientContext: `{"custom":{"k":"v"},"client":{"app_title":"app"},"env":{}}`, Payload: []byte(want),
			})
		case "response":
			if err != nil || string(response) != want {
				t.Fatalf("response %q, %v; want %q", response, err, want)
			}
		case "error", "init-error", "last-error":
			matchFunctionError(t, err, want)
			if key == "last-error" && !errors.Is(err, io.EOF) {
				t.Fatalf("%v does not say that the runtime ends", err)
			}
			if err = nil; key != "error" {
				c.wait(t)
			}
		case "exit":
			if !errors.Is(err, io.EOF) {
				t.Fatalf("%v instead of io.EOF", err)
			}
			if got := c.wait(t); got != want {
				t.Fatalf("ended with %q, want %q", got, want)
			}
		case "log":
			text, err := strconv.Unquote(want)
			if err != nil {
				t.Fatalf("%s: %v", want, err)
			}
			c.awaitLog(t, want, func(message string) bool { return message == text })
		case "log~":
			c.awaitLog(t, want, regexp.MustCompile(want).MatchString)
		case "no-log~":
			if i := slices.IndexFunc(c.output.all(), regexp.MustCompile(want).MatchString); i >= 0 {
				t.Fatalf("message %q matches %s", c.output.all()[i], want)
			}
		default:
			t.Fatalf("unknown step %q", key)
		}
	}
}

func (c *child) awaitLog(t *testing.T, what string, match func(string) bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !slices.ContainsFunc(c.output.all(), match) {
		if time.Now().After(deadline) {
			t.Fatalf("no message %s in %q", what, c.output.all())
		}
		syscall.Select(0, nil, nil, nil, &syscall.Timeval{Usec: 2000})
	}
}

func matchFunctionError(t *testing.T, err error, want string) {
	t.Helper()
	wantType, wantJSON, _ := strings.Cut(want, " ")
	failure, ok := errors.AsType[*thaw.FunctionError](err)
	if !ok {
		t.Fatalf("%v is not a function error", err)
	}
	var pattern, value any
	if err := json.Unmarshal([]byte(wantJSON), &pattern); err != nil {
		t.Fatalf("%s: %v", wantJSON, err)
	}
	if err := json.Unmarshal(failure.Payload, &value); err != nil {
		t.Fatalf("%s: %v", failure.Payload, err)
	}
	if failure.Type != wantType {
		t.Errorf("type %q, want %q", failure.Type, wantType)
	}
	if err := match(pattern, value); err != nil {
		t.Fatalf("%s: %v", failure.Payload, err)
	}
}

// match compares decoded JSON with a pattern.
func match(pattern, value any) error {
	switch p := pattern.(type) {
	case string:
		expression, isExpression := strings.CutPrefix(p, "re:")
		text, isText := value.(string)
		switch {
		case p == "*", isText && !isExpression && text == p, isText && isExpression && regexp.MustCompile(expression).MatchString(text):
			return nil
		}
	case map[string]any:
		object, ok := value.(map[string]any)
		if !ok || len(object) != len(p) {
			return fmt.Errorf("%v is not like %v", value, pattern)
		}
		for key := range p {
			if err := match(p[key], object[key]); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
		return nil
	case []any:
		list, ok := value.([]any)
		if !ok || len(list) != len(p) {
			return fmt.Errorf("%v is not like %v", value, pattern)
		}
		for i := range p {
			if err := match(p[i], list[i]); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return nil
	default:
		if pattern == value {
			return nil
		}
	}
	return fmt.Errorf("%v is not %v", value, pattern)
}
