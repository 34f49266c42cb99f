package runtimes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"thaw"
)

// apiClient is a runtime as a test plays it.
type apiClient struct {
	t    *testing.T
	base string
}

func newAPI(t *testing.T) (Conn, *apiClient) {
	t.Helper()
	return newAPIFor(t, false)
}

func newAPIFor(t *testing.T, snapStart bool) (Conn, *apiClient) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var held *Credentials
	if snapStart {
		held = &Credentials{accessKeyID: "ASIA", secretAccessKey: "secret", sessionToken: "session", authorization: "token"}
	}
	conn := ServeAPI(l, held, nil)
	t.Cleanup(func() { conn.Close() })
	return conn, &apiClient{t, "http://" + l.Addr().String()}
}

func (c *apiClient) do(method, path, body string, header ...string) (int, http.Header, string) {
	c.t.Helper()
	request, err := http.NewRequest(method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.t.Error(err)
		return 0, nil, ""
	}
	defer response.Body.Close()
	data, _ := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, strings.TrimSpace(string(data))
}

func (c *apiClient) expect(status int, body, method, path, sent string, header ...string) {
	c.t.Helper()
	got, _, text := c.do(method, path, sent, header...)
	if got != status || text != body {
		c.t.Errorf("%s %s: %d %s, want %d %s", method, path, got, text, status, body)
	}
}

const (
	apiNext   = "/2018-06-01/runtime/invocation/next"
	apiPrefix = "/2018-06-01/runtime/invocation/"
	apiInit   = "/2018-06-01/runtime/init/error"

	apiRestoreNext  = "/2018-06-01/runtime/restore/next"
	apiRestoreError = "/2018-06-01/runtime/restore/error"

	accepted = `{"status":"OK"}`
)

func notAllowed(from, to string) string {
	return fmt.Sprintf(`{"errorMessage":"State transition from %s to %s failed for runtime. Error: State transition is not allowed","errorType":"InvalidStateTransition"}`, from, to)
}

const invalidID = `{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}`

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// invokeAsync starts an Invoke and returns its outcome's channel.
func invokeAsync(ctx context.Context, conn Conn, event *Event) <-chan apiOutcome {
	out := make(chan apiOutcome, 1)
	go func() {
		response, err := conn.Invoke(ctx, event)
		out <- apiOutcome{response, err}
	}()
	return out
}

func TestAPIStates(t *testing.T) {
	conn, c := newAPI(t)
	ctx := testContext(t)
	c.expect(200, "pong", "GET", "/2018-06-01/ping", "")
	c.expect(400, invalidID, "POST", apiPrefix+"x/response", "{}")
	event := &Event{RequestID: "one", DeadlineMS: 123, FunctionARN: "arn:f", TraceID: "Root=1", ClientContext: `{"a":1}`, Payload: []byte(`{"n":1}`)}
	out := invokeAsync(ctx, conn, event)
	status, header, body := c.do("GET", apiNext, "")
	if status != 200 || body != `{"n":1}` {
		t.Fatalf("next: %d %s", status, body)
	}
	for name, want := range map[string]string{
		"Lambda-Runtime-Aws-Request-Id": "one", "Lambda-Runtime-Deadline-Ms": "123", "Lambda-Runtime-Invoked-Function-Arn": "arn:f",
		"Lambda-Runtime-Trace-Id": "Root=1", "Lambda-Runtime-Client-Context": `{"a":1}`, "Content-Type": "application/json",
	} {
		if header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, header.Get(name), want)
		}
	}
	if _, there := header["Lambda-Runtime-Cognito-Identity"]; there {
		t.Error("an empty header was sent")
	}
	if err := conn.WaitInit(ctx); err != nil {
		t.Fatal(err)
	}
	c.expect(403, notAllowed("Running", "Ready"), "GET", apiNext, "")
	c.expect(403, notAllowed("Running", "InitError"), "POST", apiInit, "{}")
	c.expect(400, invalidID, "POST", apiPrefix+"two/response", "{}")
	c.expect(400, `{"errorMessage":"Invalid function response mode: buffered","errorType":"InvalidFunctionResponseMode"}`,
		"POST", apiPrefix+"one/response", "{}", headerMode, "buffered")
	c.expect(202, accepted, "POST", apiPrefix+"one/response", `{"r":1}`)
	if o := <-out; o.err != nil || string(o.response) != `{"r":1}` {
		t.Fatalf("%s, %v", o.response, o.err)
	}
	c.expect(403, notAllowed("ResponseSent", "InvocationResponse"), "POST", apiPrefix+"one/response", "{}")
	c.expect(403, notAllowed("ResponseSent", "InvocationErrorResponse"), "POST", apiPrefix+"one/error", "{}")
	status, _, body = c.do("POST", "/2020-01-01/extension/register", "{}")
	if status != 404 || !strings.Contains(body, "extensions") {
		t.Errorf("extension: %d %s", status, body)
	}
}

func TestAPIErrors(t *testing.T) {
	for _, test := range []struct{ sent, sentType, wantType, wantBody string }{
		{`{"errorType":"E","errorMessage":"m"}`, "Runtime.ExitError", "Runtime.ExitError", `{"errorType":"E","errorMessage":"m"}`},
		{`{}`, "Function.Custom", "Function.Custom", `{}`},
		{`{}`, "E", "Function.Unknown", `{}`},
		{`{}`, "", "Function.Unknown", `{}`},
		{`not json`, "Function.lower", "Function.Unknown", `{"errorType":"Function.Unknown","errorMessage":""}`},
	} {
		conn, c := newAPI(t)
		out := invokeAsync(testContext(t), conn, &Event{RequestID: "one"})
		c.do("GET", apiNext, "")
		c.expect(202, accepted, "POST", apiPrefix+"one/error", test.sent, headerErrorType, test.sentType)
		failure, _ := errors.AsType[*thaw.FunctionError]((<-out).err)
		if failure == nil || failure.Type != test.wantType || string(failure.Payload) != test.wantBody {
			t.Errorf("%+v: %v", test, failure)
		}
	}
}

func TestAPIInitError(t *testing.T) {
	conn, c := newAPI(t)
	c.expect(202, accepted, "POST", apiInit, `{"errorType":"E"}`, headerErrorType, "Runtime.Broken")
	failure, _ := errors.AsType[*thaw.FunctionError](conn.WaitInit(testContext(t)))
	if failure == nil || failure.Type != "Runtime.Broken" || string(failure.Payload) != `{"errorType":"E"}` {
		t.Fatalf("%v", failure)
	}
	c.expect(403, notAllowed("InitError", "Ready"), "GET", apiNext, "")
}

func TestAPIRestore(t *testing.T) {
	conn, c := newAPIFor(t, true)
	ctx := testContext(t)
	c.expect(403, notAllowed("Started", "RuntimeRestoreErrorState"), "POST", apiRestoreError, "{}")
	c.expect(200, "", "GET", apiRestoreNext, "")
	c.expect(403, notAllowed("Restoring", "Restoring"), "GET", apiRestoreNext, "")
	c.expect(403, notAllowed("Restoring", "InitError"), "POST", apiInit, "{}")
	waiting, cancel := context.WithCancel(ctx)
	cancel()
	if err := conn.WaitInit(waiting); !errors.Is(err, context.Canceled) {
		t.Fatalf("before the hooks have run: %v", err)
	}
	out := invokeAsync(ctx, conn, &Event{RequestID: "one", Payload: []byte("1")})
	c.expect(200, "1", "GET", apiNext, "")
	if err := conn.WaitInit(ctx); err != nil {
		t.Fatal(err)
	}
	c.expect(403, notAllowed("Running", "Restoring"), "GET", apiRestoreNext, "")
	c.expect(403, notAllowed("Running", "RuntimeRestoreErrorState"), "POST", apiRestoreError, "{}")
	c.expect(202, accepted, "POST", apiPrefix+"one/response", "2")
	if o := <-out; o.err != nil || string(o.response) != "2" {
		t.Errorf("%s, %v", o.response, o.err)
	}
}

func TestAPIRestoreErrors(t *testing.T) {
	for _, test := range []struct{ sent, sentType, wantType, wantBody string }{
		{`{"errorType":"E","errorMessage":"m"}`, "Runtime.AfterRestoreError", "Runtime.AfterRestoreError", `{"errorType":"E","errorMessage":"m"}`},
		{`{}`, "", "Runtime.AfterRestoreError", `{}`},
		{`{}`, "E", "Runtime.AfterRestoreError", `{}`},
		{`{}`, "Function.Custom", "Function.Custom", `{}`},
		{`not json`, "", "Runtime.AfterRestoreError", `{"errorType":"Runtime.AfterRestoreError","errorMessage":""}`},
	} {
		conn, c := newAPIFor(t, true)
		c.expect(200, "", "GET", apiRestoreNext, "")
		c.expect(202, accepted, "POST", apiRestoreError, test.sent, headerErrorType, test.sentType)
		failure, _ := errors.AsType[*thaw.FunctionError](conn.WaitInit(testContext(t)))
		if failure == nil || failure.Type != test.wantType || string(failure.Payload) != test.wantBody {
			t.Errorf("%+v: %v", test, failure)
		}
		c.expect(403, notAllowed("RuntimeRestoreErrorState", "Ready"), "GET", apiNext, "")
		c.expect(403, notAllowed("RuntimeRestoreErrorState", "RuntimeRestoreErrorState"), "POST", apiRestoreError, "{}")
	}
}

// TestAPIBeforeSnapshotError: a hook that fails before the snapshot is an init error of its own type.
func TestAPIBeforeSnapshotError(t *testing.T) {
	conn, c := newAPIFor(t, true)
	c.expect(202, accepted, "POST", apiInit, `{}`, headerErrorType, "Runtime.BeforeSnapshotError")
	failure, _ := errors.AsType[*thaw.FunctionError](conn.WaitInit(testContext(t)))
	if failure == nil || failure.Type != "Runtime.BeforeSnapshotError" {
		t.Fatalf("%v", failure)
	}
	c.expect(403, notAllowed("InitError", "Restoring"), "GET", apiRestoreNext, "")
}

func TestAPIRestoreNeedsSnapStart(t *testing.T) {
	_, c := newAPI(t)
	for path, method := range map[string]string{apiRestoreNext: "GET", apiRestoreError: "POST"} {
		if status, _, body := c.do(method, path, ""); status != 404 || !strings.Contains(body, "SnapStart") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _, body := c.do("GET", CredentialsPath, "", "Authorization", ""); status != 404 {
		t.Errorf("credentials: %d %s", status, body)
	}
}

func TestAPITooLarge(t *testing.T) {
	tooLarge := fmt.Sprintf(`{"errorMessage":"Exceeded maximum allowed payload size (%d bytes).","errorType":"RequestEntityTooLarge"}`, thaw.MaxResponse)
	for name, length := range map[string]int64{"length given": thaw.MaxResponse + 1, "chunked": -1} {
		t.Run(name, func(t *testing.T) {
			conn, c := newAPI(t)
			out := invokeAsync(testContext(t), conn, &Event{RequestID: "one"})
			c.do("GET", apiNext, "")
			request, _ := http.NewRequest("POST", c.base+apiPrefix+"one/response", strings.NewReader(strings.Repeat("x", thaw.MaxResponse+1)))
			request.ContentLength = length
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if text, _ := io.ReadAll(response.Body); response.StatusCode != 413 || strings.TrimSpace(string(text)) != tooLarge {
				t.Errorf("%d %s", response.StatusCode, text)
			}
			failure, _ := errors.AsType[*thaw.FunctionError]((<-out).err)
			if failure == nil || failure.Type != thaw.ErrorResponseTooLarge {
				t.Errorf("%v", failure)
			}
			again := invokeAsync(testContext(t), conn, &Event{RequestID: "two"})
			c.do("GET", apiNext, "")
			c.expect(202, accepted, "POST", apiPrefix+"two/response", strings.Repeat("y", thaw.MaxResponse))
			if o := <-again; o.err != nil || len(o.response) != thaw.MaxResponse {
				t.Errorf("%d bytes, %v", len(o.response), o.err)
			}
		})
	}
}

func TestAPITruncated(t *testing.T) {
	conn, c := newAPI(t)
	out := invokeAsync(testContext(t), conn, &Event{RequestID: "one"})
	c.do("GET", apiNext, "")
	raw, err := net.Dial("tcp", strings.TrimPrefix(c.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(raw, "POST %sone/response HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nshort", apiPrefix)
	raw.(*net.TCPConn).CloseWrite()
	response, err := http.ReadResponse(bufio.NewReader(raw), nil)
	if err != nil || response.StatusCode != 400 {
		t.Errorf("%v, %v", response, err)
	}
	raw.Close()
	failure, _ := errors.AsType[*thaw.FunctionError]((<-out).err)
	if failure == nil || failure.Type != errorTruncated {
		t.Errorf("%v", failure)
	}
}

// TestAPIEnds is about who learns what when the runtime goes, or the context ends.
func TestAPIEnds(t *testing.T) {
	conn, c := newAPI(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := conn.WaitInit(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitInit: %v", err)
	}
	if _, err := conn.Invoke(ended, &Event{RequestID: "one"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Invoke: %v", err)
	}
	out := invokeAsync(testContext(t), conn, &Event{RequestID: "one"})
	c.do("GET", apiNext, "")
	conn.Close()
	if o := <-out; !errors.Is(o.err, io.EOF) || errors.Is(o.err, ErrNotTaken) {
		t.Errorf("taken: %v", o.err)
	}
	if _, err := conn.Invoke(t.Context(), &Event{RequestID: "two"}); !errors.Is(err, ErrNotTaken) || !errors.Is(err, io.EOF) {
		t.Errorf("not taken: %v", err)
	}

	conn, _ = newAPI(t)
	conn.Close()
	if err := conn.WaitInit(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("WaitInit: %v", err)
	}
}

// TestAPIReconnect: a runtime that gave up waiting and asks again loses nothing.
func TestAPIReconnect(t *testing.T) {
	conn, c := newAPI(t)
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		request, _ := http.NewRequestWithContext(ctx, "GET", c.base+apiNext, nil)
		http.DefaultClient.Do(request)
		cancel()
	}
	if err := conn.WaitInit(testContext(t)); err != nil {
		t.Fatal(err)
	}
	asked := make(chan string)
	go func() {
		for {
			status, _, body := c.do("GET", apiNext, "")
			if status == 200 {
				asked <- body
				return
			}
			// An event went to a connection while that was being cut: to the host the runtime has it.
			c.do("POST", apiPrefix+"one/response", "lost")
		}
	}()
	deadline := time.Now().Add(10 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		conn.Invoke(ctx, &Event{RequestID: "one", Payload: []byte("1")})
		cancel()
		select {
		case body := <-asked:
			if body != "1" {
				t.Errorf("%q", body)
			}
			return
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the event never came")
		}
	}
}

func TestAPIBoundsConnections(t *testing.T) {
	_, c := newAPI(t)
	ping := func() net.Conn {
		conn, err := net.Dial("tcp", strings.TrimPrefix(c.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprint(conn, "GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n")
		return conn
	}
	answered := func(conn net.Conn, within time.Duration) bool {
		conn.SetReadDeadline(time.Now().Add(within))
		_, err := conn.Read(make([]byte, 1))
		return err == nil
	}
	var held net.Conn
	for range maxAPIConnections {
		if held = ping(); !answered(held, 10*time.Second) {
			t.Fatal("not answered")
		}
	}
	extra := ping()
	if answered(extra, 50*time.Millisecond) {
		t.Error("one connection too many was served")
	}
	if held.Close(); !answered(extra, 10*time.Second) {
		t.Error("a free place was not given to who waited")
	}
}

var gohandler = sync.OnceValues(func() (string, error) {
	path := filepath.Join(testDir, "gohandler")
	out, err := exec.Command("go", "build", "-o", path, "./testdata/gohandler").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// startAPI starts a program that speaks the Runtime API, and closes the Conn when it has ended, as a sandbox does.
func startAPI(t *testing.T, program string, env ...string) (Conn, *exec.Cmd, <-chan struct{}) {
	t.Helper()
	return startVersion(t, &thaw.Version{Function: "fn", Number: thaw.Latest, Runtime: "provided.al2023", MemorySize: 128}, program, env...)
}

func startVersion(t *testing.T, v *thaw.Version, program string, env ...string) (Conn, *exec.Cmd, <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = Environ(v, testAccount, "stream", false, "AWS_LAMBDA_RUNTIME_API="+l.Addr().String())
	var held *Credentials
	if v.SnapStarted() {
		cmd.Env, held = HoldCredentials(cmd.Env)
	}
	conn := ServeAPI(l, held, nil)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
		conn.Close()
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	return conn, cmd, ended
}

func TestGoHandler(t *testing.T) {
	program, err := gohandler()
	if err != nil {
		t.Fatal(err)
	}
	event := func(payload string) *Event {
		return &Event{RequestID: "r-1", DeadlineMS: time.Now().Add(time.Minute).UnixMilli(), FunctionARN: "arn:f", TraceID: "Root=1",
			ClientContext: `{"custom":{"k":"v"}}`, CognitoIdentity: `{"cognitoIdentityId":"me","cognitoIdentityPoolId":"pool"}`, Payload: []byte(payload)}
	}
	ctx := testContext(t)
	conn, _, _ := startAPI(t, program)
	if err := conn.WaitInit(ctx); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ payload, response, failure string }{
		{`{"n":1}`, `"hello 1"`, ""},
		{`{"do":"context"}`, `{"arn":"arn:f","cognito":"me","custom":{"k":"v"},"deadline":true,"id":"r-1","name":"fn","trace":"Root=1"}`, ""},
		{`{"do":"error"}`, "", `{"errorMessage":"plain","errorType":"errorString"}`},
		{`{"do":"typed"}`, "", `{"errorMessage":"typed","errorType":"failure"}`},
		{`{"do":"stream"}`, `first second`, ""},
		{`{"do":"break"}`, "", `{"errorMessage":"mid-stream","errorType":"errorString"}`},
		{`{"n":2}`, `"hello 2"`, ""},
	} {
		response, err := conn.Invoke(ctx, event(test.payload))
		if test.failure == "" && (err != nil || string(response) != test.response) {
			t.Errorf("%s: %s, %v", test.payload, response, err)
		}
		failure, _ := errors.AsType[*thaw.FunctionError](err)
		if test.failure != "" && (failure == nil || strings.TrimSpace(string(failure.Payload)) != test.failure) {
			t.Errorf("%s: %v", test.payload, err)
		}
	}
	// After a panic the process ends; the next call must learn it.
	_, err = conn.Invoke(ctx, event(`{"do":"panic"}`))
	if failure, _ := errors.AsType[*thaw.FunctionError](err); failure == nil || !strings.Contains(string(failure.Payload), `"gone"`) {
		t.Errorf("panic: %v", err)
	}
	if _, err := conn.Invoke(ctx, event(`{}`)); !errors.Is(err, ErrNotTaken) {
		t.Errorf("after a panic: %v", err)
	}

	conn, cmd, ended := startAPI(t, program)
	if _, err := conn.Invoke(ctx, event(`{"do":"exit","n":3}`)); !errors.Is(err, io.EOF) {
		t.Errorf("exit: %v", err)
	}
	if <-ended; cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("exit: %v", cmd.ProcessState)
	}

	conn, _, _ = startAPI(t, program)
	_, err = conn.Invoke(ctx, event(`{"do":"large","n":7000000}`))
	if failure, _ := errors.AsType[*thaw.FunctionError](err); failure == nil || failure.Type != thaw.ErrorResponseTooLarge {
		t.Errorf("large: %v", err)
	}

	conn, _, _ = startAPI(t, program, "FAIL_INIT=1")
	if err := conn.WaitInit(ctx); !errors.Is(err, io.EOF) {
		t.Errorf("failed init: %v", err)
	}
}

// TestShellBootstrap runs a custom runtime as AWS's tutorial has it: a shell script with curl.
func TestShellBootstrap(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("this host has no curl")
	}
	script := filepath.Join(t.TempDir(), "bootstrap")
	const text = `#!/bin/sh
while true; do
	headers=$(mktemp)
	event=$(curl -sS -LD "$headers" "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next")
	id=$(grep -Fi Lambda-Runtime-Aws-Request-Id "$headers" | tr -d '[:space:]' | cut -d: -f2)
	rm "$headers"
	curl -sS -o /dev/null "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response" -d "echo $event"
done
`
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	conn, _, _ := startAPI(t, script)
	for _, payload := range []string{"{}", "[1]"} {
		response, err := conn.Invoke(testContext(t), &Event{RequestID: "r-1", Payload: []byte(payload)})
		if err != nil || string(response) != "echo "+payload {
			t.Errorf("%s, %v", response, err)
		}
	}
}

// TestRestoringBootstrap runs a custom runtime that has hooks: a shell script with curl.
func TestRestoringBootstrap(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("this host has no curl")
	}
	script := filepath.Join(t.TempDir(), "bootstrap")
	const text = `#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
if [ "$AWS_LAMBDA_INITIALIZATION_TYPE" = snap-start ]; then
	restored=$(curl -sS -w '%{http_code}' "$api/restore/next")
	if [ -n "$HOOK_FAILS" ]; then
		curl -sS -o /dev/null "$api/restore/error" -H 'Lambda-Runtime-Function-Error-Type: Runtime.AfterRestoreError' -d '{"errorType":"Hook","errorMessage":"no"}'
		exit 65
	fi
fi
headers=$(mktemp)
curl -sS -LD "$headers" "$api/invocation/next" > /dev/null
id=$(grep -Fi Lambda-Runtime-Aws-Request-Id "$headers" | tr -d '[:space:]' | cut -d: -f2)
rm "$headers"
curl -sS -o /dev/null "$api/invocation/$id/response" -d "restored $restored"
`
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	v := &thaw.Version{Function: "fn", Number: thaw.Latest, Runtime: "provided.al2023", MemorySize: 128, SnapStart: thaw.SnapStartPublished}
	ctx := testContext(t)
	conn, _, _ := startVersion(t, v, script)
	response, err := conn.Invoke(ctx, &Event{RequestID: "r-1", Payload: []byte("{}")})
	if err != nil || string(response) != "restored 200" {
		t.Errorf("%s, %v", response, err)
	}
	conn, cmd, ended := startVersion(t, v, script, "HOOK_FAILS=1")
	failure, _ := errors.AsType[*thaw.FunctionError](conn.WaitInit(ctx))
	if failure == nil || failure.Type != "Runtime.AfterRestoreError" || string(failure.Payload) != `{"errorType":"Hook","errorMessage":"no"}` {
		t.Errorf("failed hook: %v", failure)
	}
	if <-ended; cmd.ProcessState.ExitCode() != 65 {
		t.Errorf("failed hook: %v", cmd.ProcessState)
	}
}
