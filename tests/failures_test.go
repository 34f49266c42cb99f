package tests

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw/tests/harness"
)

// stageConfig runs functions on the interpreters that there are, without a network: what fails here fails alike with one.
const stageConfig = "runtimes:\n  nearest: true\nnetwork:\n  mode: none\n"

// noSpares has no environment made that no request waits for.
const noSpares = "environments:\n  spares: 0\n"

// stage is a platform with what the tests of failures, logs and bad input do on it.
type stage struct {
	*harness.Platform
	client *lambda.Client
}

// startStage starts a platform that must leave nothing on the machine when it has stopped.
func startStage(t *testing.T) *stage {
	t.Helper()
	return startStageWith(t, "")
}

func startStageWith(t *testing.T, config string) *stage {
	t.Helper()
	data := t.TempDir()
	t.Cleanup(func() { harness.NothingLeft(t, data) })
	p := harness.Start(t, harness.Options{Config: stageConfig + config, Data: data})
	return &stage{Platform: p, client: p.Lambda()}
}

// deployed is a function to be created; zero fields are defaults.
type deployed struct {
	runtime, handler string
	files            map[string]string
	memory, timeout  int32
	tmp              int32
	environment      map[string]string
	tags             map[string]string
}

// booted are the tags of a function whose environments are all booted.
var booted = map[string]string{"thaw:snapshot": "off"}

func (d deployed) input(t *testing.T, name string) *lambda.CreateFunctionInput {
	t.Helper()
	in := &lambda.CreateFunctionInput{
		FunctionName: &name, Runtime: types.Runtime(d.runtime), Handler: &d.handler,
		Role: aws.String("arn:aws:iam::000000000000:role/any"),
		Code: &types.FunctionCode{ZipFile: harness.Zip(t, d.files)},
	}
	if d.memory > 0 {
		in.MemorySize = &d.memory
	}
	if d.timeout > 0 {
		in.Timeout = &d.timeout
	}
	if d.tmp > 0 {
		in.EphemeralStorage = &types.EphemeralStorage{Size: &d.tmp}
	}
	in.Tags = d.tags
	if d.environment != nil {
		in.Environment = &types.Environment{Variables: d.environment}
	}
	return in
}

// deploy creates a function and waits until it is Active.
func (s *stage) deploy(t *testing.T, name string, d deployed) {
	t.Helper()
	if _, err := s.client.CreateFunction(t.Context(), d.input(t, name)); err != nil {
		t.Fatal(err)
	}
	s.awaitUpdate(t, name)
}

// awaitUpdate waits for the end of a creation or an update, which must be a success.
func (s *stage) awaitUpdate(t *testing.T, name string) {
	t.Helper()
	harness.Eventually(t, name+" is Active", func() bool {
		c, err := s.client.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		if err != nil {
			t.Fatal(err)
		}
		if c.State == types.StateFailed || c.LastUpdateStatus == types.LastUpdateStatusFailed {
			t.Fatalf("%s: %s%s", name, aws.ToString(c.StateReason), aws.ToString(c.LastUpdateStatusReason))
		}
		return c.State == types.StateActive && c.LastUpdateStatus == types.LastUpdateStatusSuccessful
	})
}

// python deploys one Python file whose handler is f.handler.
func (s *stage) python(t *testing.T, name, source string, d deployed) {
	t.Helper()
	d.runtime, d.handler, d.files = "python3.11", "f.handler", map[string]string{"f.py": source}
	s.deploy(t, name, d)
}

// answer is what an Invoke call came back with.
type answer struct {
	status      int
	header      http.Header
	payload     string
	id          string
	tail        string // of the log
	explanation struct {
		Kind        string           `json:"start_kind"`
		Cause       string           `json:"cause"`
		Environment string           `json:"environment"`
		ErrorType   string           `json:"error_type"`
		Phases      map[string]int64 `json:"phases"` // us
	}
}

// failure reads the payload of a function's failure.
func (a *answer) failure() (kind, message string) {
	var e struct{ ErrorType, ErrorMessage string }
	_ = json.Unmarshal([]byte(a.payload), &e)
	return e.ErrorType, e.ErrorMessage
}

// call is one request to the platform, without an SDK between.
func (s *stage) call(t *testing.T, method, path string, header map[string]string, body io.Reader) *answer {
	t.Helper()
	a, err := s.tryCall(t.Context(), method, path, header, body)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (s *stage) tryCall(ctx context.Context, method, path string, header map[string]string, body io.Reader) (*answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.URL+path, body)
	if err != nil {
		return nil, err
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	payload, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	a := &answer{status: response.StatusCode, header: response.Header, payload: string(payload), id: response.Header.Get("X-Amzn-Requestid")}
	tail, err := base64.StdEncoding.DecodeString(response.Header.Get("X-Amz-Log-Result"))
	if err != nil {
		return nil, err
	}
	a.tail = string(tail)
	if text := response.Header.Get("X-Thaw-Invocation"); text != "" {
		if err := json.Unmarshal([]byte(text), &a.explanation); err != nil {
			return nil, fmt.Errorf("%w in %s", err, text)
		}
	}
	return a, nil
}

var invokeHeaders = map[string]string{"X-Amz-Log-Type": "Tail", "X-Thaw-Explain": "true", "Content-Type": "application/json"}

// invoke invokes a function, which must come back with status 200.
func (s *stage) invoke(t *testing.T, name, payload string) *answer {
	t.Helper()
	a := s.call(t, http.MethodPost, "/2015-03-31/functions/"+name+"/invocations", invokeHeaders, strings.NewReader(payload))
	if a.status != http.StatusOK {
		t.Fatalf("invoking %s gave %d %s", name, a.status, a.payload)
	}
	return a
}

// succeed invokes a function, which must answer want.
func (s *stage) succeed(t *testing.T, name, payload, want string) *answer {
	t.Helper()
	a := s.invoke(t, name, payload)
	if a.header.Get("X-Amz-Function-Error") != "" || spaced(a.payload) != want {
		t.Errorf("%s(%s) = %s %s, want %s\n%s", name, payload, a.header.Get("X-Amz-Function-Error"), a.payload, want, a.tail)
	}
	return a
}

// Patterns of what differs from one invocation to the next.
const (
	anyMillis = `\d+\.\d\d ms`
	anyReport = "\tDuration: " + anyMillis + "\tBilled Duration: \\d+ ms\tMemory Size: \\d+ MB\tMax Memory Used: \\d+ MB\t"
	initStart = "INIT_START Runtime Version: \\S+\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:[0-9a-f]{64}\n"
)

// matches compares a text with a pattern in which ID stands for the request's id.
func matches(t *testing.T, what, text, pattern, id string) {
	t.Helper()
	pattern = strings.ReplaceAll(pattern, "ID", regexp.QuoteMeta(id))
	if !regexp.MustCompile(`(?s)\A` + pattern + `\z`).MatchString(text) {
		t.Errorf("%s is\n%q\nand does not match\n%q", what, text, pattern)
	}
}

// The handlers of each language do what the event says, and otherwise tell what they find: how often this environment
// has been called, and whether /tmp holds what an earlier call wrote.
const (
	pythonActor = `import ctypes, os, sys, time
count = 0
def handler(event, context):
    global count
    count += 1
    mark = os.path.exists('/tmp/mark')
    open('/tmp/mark', 'w').close()
    do = event.get('do')
    if do: print('about to', do)
    if do == 'raise': raise ValueError('no such luck')
    if do == 'exit': sys.exit(event['status'])
    if do == 'hard exit': os._exit(event['status'])
    if do == 'segfault': ctypes.string_at(0)
    if do == 'hog':
        hoard = []
        while True: hoard.append(bytearray(b'x' * (1 << 20)))
    if do == 'sleep': time.sleep(60)
    if do == 'large': return 'x' * event['size']
    if do == 'unserialisable': return {1, 2}
    if do == 'fill':
        try:
            with open('/tmp/big', 'wb') as f:
                while True: f.write(b'x' * (1 << 20))
        except OSError as error:
            return {'errno': error.errno, 'free': os.statvfs('/tmp').f_bavail}
    return {'count': count, 'mark': mark}
`
	nodeActor = `const fs = require('fs');
let count = 0;
exports.handler = async (event) => {
  count++;
  const mark = fs.existsSync('/tmp/mark');
  fs.writeFileSync('/tmp/mark', '');
  if (event.do) console.log('about to ' + event.do);
  if (event.do === 'raise') throw new RangeError('no such luck');
  if (event.do === 'exit') process.exit(event.status);
  if (event.do === 'uncaught') { setImmediate(() => { throw new TypeError('nobody caught me'); }); await new Promise(() => {}); }
  if (event.do === 'hog') { const hoard = []; for (;;) hoard.push(Buffer.alloc(1 << 20, 'x')); }
  if (event.do === 'sleep') for (;;);
  if (event.do === 'large') return 'x'.repeat(event.size);
  return { count, mark };
};
`
	rubyActor = `$count = 0
def handler(event:, context:)
  $count += 1
  mark = File.exist?('/tmp/mark')
  File.write('/tmp/mark', '')
  what = event['do']
  puts "about to #{what}" if what
  case what
  when 'raise' then raise ArgumentError, 'no such luck'
  when 'exit' then exit(event['status'])
  when 'hard exit' then exit!(event['status'])
  when 'sleep' then sleep 60
  when 'hog'
    hoard = []
    loop { hoard << 'x' * (1 << 20) }
  when 'large' then return 'x' * event['size']
  end
  { count: $count, mark: mark }
end
`
)

// actorFailure is one way for an actor to fail.
type actorFailure struct {
	name, event string
	kind        string // the payload's errorType
	message     string // its errorMessage, a pattern
	log         string // between the actor's own line and END, a pattern
	status      string // behind REPORT's last tab, a pattern
	survives    bool   // the environment goes on, as AWS's does after an exception
}

const (
	exitWithoutReason = "RequestId: ID Error: Runtime exited without providing a reason"
	exitWith          = "RequestId: ID Error: Runtime exited with error: "
	statusExit        = "Status: error\tError Type: Runtime.ExitError"
	statusMemory      = "Status: error\tError Type: Runtime.OutOfMemory"
)

// exited is the failure of a runtime that ended.
func exited(name, event, reason string) actorFailure {
	message := exitWithoutReason
	if reason != "" {
		message = exitWith + reason
	}
	return actorFailure{name: name, event: event, kind: "Runtime.ExitError", message: message, log: ".*" + message + "\nRuntime.ExitError\n", status: statusExit}
}

func hogged(event string) actorFailure {
	message := exitWith + "signal: killed"
	return actorFailure{name: "out of memory", event: event, kind: "Runtime.OutOfMemory", message: message, log: message + "\nRuntime.OutOfMemory\n", status: statusMemory}
}

func timedOut() actorFailure {
	const text = "Task timed out after 1.00 seconds"
	return actorFailure{name: "timeout", event: `{"do":"sleep"}`, kind: "Sandbox.Timedout", message: "RequestId: ID Error: " + text,
		log: `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ID ` + text + "\n\n", status: "Status: timeout"}
}

func tooLong() actorFailure {
	return actorFailure{name: "response too large", event: `{"do":"large","size":6291600}`, kind: "Function.ResponseSizeTooLarge",
		message: `Response payload size exceeded maximum allowed payload size \(6291556 bytes\)\.`, log: ".*", survives: true}
}

func TestFailuresOfHandlers(t *testing.T) {
	s := startStage(t)
	for _, actor := range []struct {
		name     string
		deployed deployed
		failures []actorFailure
	}{
		{"python", deployed{runtime: "python3.11", handler: "f.handler", files: map[string]string{"f.py": pythonActor}}, []actorFailure{
			{name: "exception", event: `{"do":"raise"}`, kind: "ValueError", message: "no such luck", survives: true,
				log: "\\[ERROR\\] ValueError: no such luck\nTraceback \\(most recent call last\\):\n[^\n]*File \"/var/task/f.py\", line 10, in handler\n.*"},
			{name: "not JSON", event: `{"do":"unserialisable"}`, kind: "Runtime.MarshalError",
				message: "Unable to marshal response: Object of type set is not JSON serializable", log: ".*", survives: true},
			exited("sys.exit(0)", `{"do":"exit","status":0}`, ""),
			exited("sys.exit(3)", `{"do":"exit","status":3}`, "exit status 3"),
			exited("os._exit(4)", `{"do":"hard exit","status":4}`, "exit status 4"),
			exited("segfault", `{"do":"segfault"}`, "signal: segmentation fault"),
			hogged(`{"do":"hog"}`), timedOut(), tooLong(),
		}},
		{"node", deployed{runtime: "nodejs20.x", handler: "index.handler", files: map[string]string{"index.js": nodeActor}}, []actorFailure{
			{name: "exception", event: `{"do":"raise"}`, kind: "RangeError", message: "no such luck", survives: true,
				log: "[^\n]*\tID\tERROR\tInvoke Error \t\\{\"errorType\":\"RangeError\",\"errorMessage\":\"no such luck\",.*\n"},
			{name: "uncaught exception", event: `{"do":"uncaught"}`, kind: "TypeError", message: "nobody caught me",
				log: "[^\n]*\tID\tERROR\tUncaught Exception \t\\{\"errorType\":\"TypeError\".*\n", status: ".*"},
			exited("process.exit(0)", `{"do":"exit","status":0}`, ""),
			exited("process.exit(3)", `{"do":"exit","status":3}`, "exit status 3"),
			hogged(`{"do":"hog"}`), timedOut(), tooLong(),
		}},
		{"ruby", deployed{runtime: "ruby3.3", handler: "f.handler", files: map[string]string{"f.rb": rubyActor}}, []actorFailure{
			{name: "exception", event: `{"do":"raise"}`, kind: "Function<ArgumentError>", message: "no such luck", log: ".*no such luck.*", survives: true},
			// AWS's client reports every exception, SystemExit too, and ends after one that is no StandardError.
			{name: "exit(3)", event: `{"do":"exit","status":3}`, kind: "Function<SystemExit>", message: "exit", log: ".*", status: ".*"},
			exited("exit!(4)", `{"do":"hard exit","status":4}`, "exit status 4"),
			hogged(`{"do":"hog"}`), timedOut(), tooLong(),
		}},
	} {
		t.Run(actor.name, func(t *testing.T) {
			actor.deployed.timeout, actor.deployed.memory = 10, 192
			s.deploy(t, actor.name, actor.deployed)
			s.succeed(t, actor.name, `{}`, `{"count":1,"mark":false}`)
			for _, f := range actor.failures {
				t.Run(f.name, func(t *testing.T) {
					s.fail(t, actor.name, f)
				})
			}
		})
	}
}

// spaced removes the blanks that Python's JSON has and the others' has not.
func spaced(json string) string {
	return strings.NewReplacer(": ", ":", ", ", ",").Replace(json)
}

// fail makes an actor fail, and then finds it as it must be.
func (s *stage) fail(t *testing.T, function string, f actorFailure) {
	t.Helper()
	if strings.Contains(f.kind, "Timedout") {
		s.configure(t, function, &lambda.UpdateFunctionConfigurationInput{Timeout: aws.Int32(1)})
		defer s.configure(t, function, &lambda.UpdateFunctionConfigurationInput{Timeout: aws.Int32(10)})
	}
	// An environment that has served, so that there is something to be cleaned.
	var before struct{ Count int }
	if err := json.Unmarshal([]byte(s.invoke(t, function, `{}`).payload), &before); err != nil {
		t.Fatal(err)
	}
	a := s.invoke(t, function, f.event)
	if got := a.header.Get("X-Amz-Function-Error"); got != "Unhandled" {
		t.Errorf("X-Amz-Function-Error is %q; %s", got, a.payload)
	}
	kind, message := a.failure()
	if kind != f.kind || a.explanation.ErrorType != f.kind {
		t.Errorf("errorType is %q, explained as %q, not %q: %s", kind, a.explanation.ErrorType, f.kind, a.payload)
	}
	matches(t, "errorMessage", message, f.message, a.id)
	status := f.status
	if f.survives {
		status = ""
	}
	if len(a.tail) < 4096 {
		matches(t, "the log", a.tail, "START RequestId: ID Version: \\$LATEST\n[^\n]*about to [^\n]*\n"+f.log+"END RequestId: ID\nREPORT RequestId: ID"+anyReport+status+"\n", a.id)
	}

	var after struct {
		Count int
		Mark  bool
	}
	next := s.invoke(t, function, `{}`)
	if err := json.Unmarshal([]byte(next.payload), &after); err != nil {
		t.Fatalf("%v in %s", err, next.payload)
	}
	switch {
	case next.header.Get("X-Amz-Function-Error") != "":
		t.Errorf("the next invocation fails: %s", next.payload)
	case f.survives && (after.Count != before.Count+2 || !after.Mark):
		t.Errorf("the next invocation finds %+v after %+v, not the same environment", after, before)
	case !f.survives && (after.Count != 1 || after.Mark):
		t.Errorf("the next invocation finds %+v, not a clean environment", after)
	case !f.survives && (next.explanation.Kind == "warm" || next.explanation.Cause == ""):
		t.Errorf("the next start is explained as %+v", next.explanation)
	}
}

// configure changes a function and waits for the end of the change.
func (s *stage) configure(t *testing.T, name string, in *lambda.UpdateFunctionConfigurationInput) {
	t.Helper()
	in.FunctionName = &name
	if _, err := s.client.UpdateFunctionConfiguration(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	s.awaitUpdate(t, name)
}

// TestFailuresOfInit: what does not get as far as its handler. All of it is the function's failure, with both attempts
// in the log as AWS writes them, and is over when good code is deployed.
func TestFailuresOfInit(t *testing.T) {
	s := startStage(t)
	python := func(source string) deployed {
		return deployed{runtime: "python3.11", handler: "f.handler", files: map[string]string{"f.py": source}}
	}
	node := func(source string) deployed {
		return deployed{runtime: "nodejs20.x", handler: "index.handler", files: map[string]string{"index.js": source}}
	}
	ruby := func(source string) deployed {
		return deployed{runtime: "ruby3.3", handler: "f.handler", files: map[string]string{"f.rb": source}}
	}
	provided := func(name, content string) deployed {
		return deployed{runtime: "provided.al2023", handler: "any", files: map[string]string{name: content}}
	}

	// One init that blocks costs AWS's ten seconds, so it runs beside the others.
	blocked := python("import time\nprint('blocking')\ntime.sleep(60)\n")
	blocked.timeout, blocked.tags = 1, booted
	s.deploy(t, "blocked", blocked)
	late := make(chan *answer, 1)
	ctx := t.Context()
	go func() {
		a, err := s.tryCall(ctx, http.MethodPost, "/2015-03-31/functions/blocked/invocations", invokeHeaders, strings.NewReader("{}"))
		if err != nil {
			t.Errorf("blocked init: %v", err)
			a = &answer{}
		}
		late <- a
	}()

	const exit1 = exitWith + "exit status 1"
	for _, test := range []struct {
		name     string
		deployed deployed
		kind     string
		message  string // pattern
		text     string // what each attempt writes itself, pattern
	}{
		{"python-import", python("import nosuchmodule\n"), "Runtime.ImportModuleError", "Unable to import module 'f': No module named 'nosuchmodule'",
			"\\[ERROR\\] Runtime.ImportModuleError: Unable to import module 'f': No module named 'nosuchmodule'\nTraceback \\(most recent call last\\):\n"},
		{"python-syntax", python("def handler(:\n"), "Runtime.UserCodeSyntaxError", "Syntax error in module 'f': .*", "\\[ERROR\\] Runtime.UserCodeSyntaxError: .*\n"},
		{"python-handler", python("def other(e, c): pass\n"), "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'f'", "\\[ERROR\\] Runtime.HandlerNotFound: .*\n"},
		{"python-exception", python("raise KeyError('missing')\n"), "KeyError", "'missing'", "\\[ERROR\\] KeyError: 'missing'\nTraceback .*\n"},
		{"python-exit", python("import sys\nprint('leaving')\nsys.exit(1)\n"), "Runtime.ExitError", exit1, "leaving\n"},
		{"python-exit-0", python("import sys\nprint('leaving')\nsys.exit(0)\n"), "Runtime.ExitError", exitWithoutReason, "leaving\n"},
		{"python-segfault", python("import ctypes\nprint('falling')\nctypes.string_at(0)\n"), "Runtime.ExitError", exitWith + "signal: segmentation fault", "falling\n"},
		{"python-hog", python("print('eating')\nhoard = []\nwhile True: hoard.append(bytearray(b'x' * (1 << 20)))\n"), "Runtime.OutOfMemory", exitWith + "signal: killed", "eating\n"},
		{"node-import", node("require('nosuchmodule');\n"), "Runtime.ImportModuleError", "Error: Cannot find module 'nosuchmodule'\n.*", ".*Runtime.ImportModuleError.*\n"},
		{"node-handler", node("exports.other = 1;\n"), "Runtime.HandlerNotFound", "index.handler is undefined or not exported", ".*Runtime.HandlerNotFound.*\n"},
		{"node-exception", node("throw new RangeError('at load');\n"), "RangeError", "at load", ".*RangeError.*\n"},
		{"node-exit", node("console.log('leaving'); process.exit(1);\n"), "Runtime.ExitError", exit1, ".*leaving\n"},
		{"ruby-import", ruby("require 'nosuchgem'\n"), "Init<LoadError>", ".*nosuchgem", ".*nosuchgem.*\n"},
		{"ruby-exception", ruby("raise ArgumentError, 'at load'\n"), "Init<ArgumentError>", "at load", ".*at load.*\n"},
		{"ruby-exit", ruby("puts 'leaving'\nexit(1)\n"), "Runtime.ExitError", exit1, "leaving\n"},
		{"bootstrap-missing", provided("other", "x"), "Runtime.InvalidEntrypoint", `RequestId: ID Error: Couldn't find valid bootstrap\(s\): \[/var/task/bootstrap /opt/bootstrap\]`, ""},
		{"bootstrap-not-executable", provided("bootstrap", "#!/bin/sh\n"), "Runtime.InvalidEntrypoint", "RequestId: ID Error: fork/exec /var/task/bootstrap: permission denied", ""},
		{"bootstrap-format", provided("bootstrap+x", "\x00\x01\x02 no program"), "Runtime.InvalidEntrypoint", "RequestId: ID Error: fork/exec /var/task/bootstrap: exec format error", ""},
		{"bootstrap-interpreter", provided("bootstrap+x", "#!/no/such/interpreter\n"), "Runtime.InvalidEntrypoint", "RequestId: ID Error: fork/exec /var/task/bootstrap: no such file or directory", ""},
		{"bootstrap-leaves", provided("bootstrap+x", "#!/bin/sh\necho leaving\nexit 0\n"), "Runtime.ExitError", exitWithoutReason, "leaving\n"},
		{"bootstrap-exits", provided("bootstrap+x", "#!/bin/sh\necho leaving\nexit 127\n"), "Runtime.ExitError", exitWith + "exit status 127", "leaving\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.deploy(t, test.name, test.deployed)
			a := s.invoke(t, test.name, `{}`)
			s.checkInitFailure(t, a, test.kind, test.message, test.text)
			if test.deployed.runtime == "python3.11" {
				// The function itself was not harmed.
				in := &lambda.UpdateFunctionCodeInput{FunctionName: &test.name, ZipFile: harness.Zip(t, map[string]string{"f.py": "def handler(e, c): return 'well'\n"})}
				if _, err := s.client.UpdateFunctionCode(t.Context(), in); err != nil {
					t.Fatal(err)
				}
				s.awaitUpdate(t, test.name)
				s.succeed(t, test.name, `{}`, `"well"`)
			}
		})
	}

	a := <-late
	if kind, message := a.failure(); kind != "Sandbox.Timedout" || message != "RequestId: "+a.id+" Error: Task timed out after 1.00 seconds" {
		t.Errorf("a blocked init gives %s", a.payload)
	}
	matches(t, "the log of a blocked init", a.tail, initStart+"blocking\nINIT_REPORT Init Duration: 1\\d{4}.\\d\\d ms\tPhase: init\tStatus: timeout\n"+
		"blocking\nINIT_REPORT Init Duration: \\d{4}\\.\\d\\d ms\tPhase: invoke\tStatus: timeout\n"+
		"START RequestId: ID Version: \\$LATEST\n\\S+ ID Task timed out after 1.00 seconds\n\nEND RequestId: ID\nREPORT RequestId: ID"+anyReport+"Status: timeout\n", a.id)
}

func (s *stage) checkInitFailure(t *testing.T, a *answer, kind, message, text string) {
	t.Helper()
	if got := a.header.Get("X-Amz-Function-Error"); got != "Unhandled" {
		t.Errorf("X-Amz-Function-Error is %q", got)
	}
	gotKind, gotMessage := a.failure()
	if gotKind != kind {
		t.Errorf("errorType is %q, not %q: %s", gotKind, kind, a.payload)
	}
	matches(t, "errorMessage", gotMessage, message, a.id)
	if len(a.tail) == 4096 {
		return
	}
	quoted := regexp.QuoteMeta(kind)
	report := func(phase string) string {
		return "INIT_REPORT Init Duration: " + anyMillis + "\tPhase: " + phase + "\tStatus: error\tError Type: " + quoted + "\n"
	}
	matches(t, "the log", a.tail, initStart+text+report("init")+text+report("invoke")+
		"START RequestId: ID Version: \\$LATEST\nRequestId: ID Error: .*\n"+quoted+"\nEND RequestId: ID\n"+
		"REPORT RequestId: ID"+anyReport+"Status: error\tError Type: "+quoted+"\n", a.id)
}

// TestInitThatFailsOnceServes: the second attempt serves, and its invocation is a success.
func TestInitThatFailsOnceServes(t *testing.T) {
	s := startStage(t)
	// What differs between two attempts of one start is chance: with so many starts, each way is taken.
	s.python(t, "unsteady", "import os\nif os.urandom(1)[0] < 128: raise RuntimeError('not today')\ndef handler(e, c): return 'well'\n", deployed{tags: booted})
	const path = "/2015-03-31/functions/unsteady/invocations"
	header := map[string]string{"X-Thaw-Start": "forced", "X-Amz-Log-Type": "Tail"}
	harness.Eventually(t, "an init fails once and then serves", func() bool {
		a := s.call(t, http.MethodPost, path, header, strings.NewReader("{}"))
		if a.header.Get("X-Amz-Function-Error") != "" || !strings.Contains(a.tail, "INIT_REPORT") {
			return false
		}
		matches(t, "the log", a.tail, initStart+"\\[ERROR\\] RuntimeError: not today\n.*\nINIT_REPORT Init Duration: "+anyMillis+
			"\tPhase: init\tStatus: error\tError Type: RuntimeError\nSTART RequestId: ID Version: \\$LATEST\nEND RequestId: ID\nREPORT RequestId: ID.*\n", a.id)
		return a.payload == `"well"`
	})
}

// TestRuntimeThatEndsWithoutAnAnswer: a custom runtime that asks for an event and ends.
func TestRuntimeThatEndsWithoutAnAnswer(t *testing.T) {
	s := startStage(t)
	s.deploy(t, "coy", deployed{runtime: "provided.al2023", handler: "any", timeout: 30, files: map[string]string{"bootstrap+x": `#!/bin/bash
exec 4<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API%:*}/${AWS_LAMBDA_RUNTIME_API#*:}"
printf 'GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n' >&4
sleep 0.2
exit 3
`}})
	for range 2 {
		a := s.invoke(t, "coy", "{}")
		if kind, message := a.failure(); kind != "Runtime.ExitError" || message != "RequestId: "+a.id+" Error: Runtime exited with error: exit status 3" {
			t.Errorf("%s", a.payload)
		}
	}
}

func TestFullTmp(t *testing.T) {
	s := startStage(t)
	s.python(t, "full", pythonActor, deployed{memory: 1024, timeout: 30})
	s.succeed(t, "full", `{"do":"fill"}`, `{"errno":28,"free":0}`)
	// The environment goes on, as on AWS, with its /tmp as it is; a new one has its own.
	s.succeed(t, "full", `{"do":"fill"}`, `{"errno":28,"free":0}`)
	a := s.call(t, http.MethodPost, "/2015-03-31/functions/full/invocations", map[string]string{"X-Thaw-Start": "forced"}, strings.NewReader("{}"))
	if a.payload != `{"count": 1, "mark": false}` {
		t.Errorf("a new environment finds %s", a.payload)
	}
}

// TestRuntimeThatDiesIdle: nobody's invocation fails because a runtime ended while it had nothing to do.
func TestRuntimeThatDiesIdle(t *testing.T) {
	s := startStageWith(t, noSpares) // one that dies while it is made is another matter
	s.python(t, "mortal", pythonActor, deployed{environment: map[string]string{"MARK": s.Data}, tags: booted})
	for range 5 {
		s.succeed(t, "mortal", `{}`, `{"count":1,"mark":false}`)
		pids := processesWith("MARK=" + s.Data)
		if len(pids) == 0 {
			t.Fatal("no process of the function is there")
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	if a := s.succeed(t, "mortal", `{}`, `{"count":1,"mark":false}`); a.explanation.Cause != "crashed" {
		t.Errorf("the start is explained as %+v", a.explanation)
	}
}

// processesWith lists the processes that have a variable in their environment.
func processesWith(variable string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(append([]byte{0}, text...), []byte("\x00"+variable+"\x00")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
