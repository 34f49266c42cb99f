package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"thaw"
	"thaw/runtimes"
	"thaw/runtimes/extensions"
	"thaw/sandbox"
)

// heard is a log that keeps what is written.
type heard struct {
	mu    sync.Mutex
	lines []string
}

func (h *heard) Write(_ time.Time, _ string, message []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, string(message))
}

func (h *heard) WaitRoom(context.Context) {}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.lines, "")
}

// await waits until the log has every text.
func (h *heard) await(t testing.TB, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !eventually(func() bool { return strings.Contains(h.String(), text) }) {
			t.Fatalf("the log has no %q:\n%s", text, h)
		}
	}
}

// extensionOf builds a Go program into a directory for /opt and gives that.
func extensionOf(t testing.TB, name, pkg string) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command")
	}
	opt := openDir(t)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", filepath.Join(opt, "extensions", name), pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return opt
}

// script puts an executable text into a directory for /opt.
func script(t testing.TB, opt, name, text string) {
	t.Helper()
	dir := filepath.Join(opt, "extensions")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func openDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755) //nolint:errcheck // the function's user has to get there
	}
	return dir
}

// planOf is an environment of a function, with what is in opt at /opt.
func planOf(t testing.TB, f function, opt string) (*sandbox.Plan, *heard) {
	t.Helper()
	r, err := registry()
	if err != nil {
		t.Fatal(err)
	}
	code := openDir(t)
	for name, text := range f.files {
		mode := os.FileMode(0o644)
		if name == "bootstrap" {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(code, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	v := f.version()
	v.Timeout, v.TmpSize = 10, 512
	l, err := r.Launch(t.Context(), v, code, "")
	if err != nil {
		t.Skip(err)
	}
	if opt != "" {
		if err := extensions.BindOpt(l, opt, bootstrapDir); err != nil {
			t.Fatal(err)
		}
	}
	log := &heard{}
	return &sandbox.Plan{ID: sandbox.NewID(), LogStream: "stream", Log: log, Version: v, Launch: l, CodeDir: code, InitLimit: patience}, log
}

func boot(t testing.TB, plan *sandbox.Plan) (*sandbox.Environment, error) {
	t.Helper()
	c := &sandbox.Config{Driver: open(t), Account: testAccount}
	e, err := c.Boot(within(t), plan)
	if err == nil {
		t.Cleanup(func() { e.Close() })
	}
	return e, err
}

func invoke(t testing.TB, e *sandbox.Environment, id, payload string) (string, error) {
	t.Helper()
	if !e.Claim() {
		t.Fatal("the environment cannot be claimed")
	}
	defer e.Release()
	deadline := time.Now().Add(patience)
	response, err := e.Invoke(t.Context(), &runtimes.Event{RequestID: id, DeadlineMS: deadline.UnixMilli(), FunctionARN: "arn", TraceID: "Root=1-2-3", Payload: []byte(payload)}, deadline)
	if err != nil {
		return string(response), err
	}
	if err := e.Finish(t.Context(), id, deadline); err != nil {
		return string(response), err
	}
	e.Report(time.Now(), &thaw.Invocation{RequestID: id, Duration: time.Millisecond, Billed: time.Millisecond, MemorySize: 128, MaxMemoryUsed: 20})
	return string(response), nil
}

var echoes = map[string]function{
	"python": {runtime: "python3.11", handler: "app.handler", files: map[string]string{"app.py": "def handler(e, c):\n    print('from the function')\n    return e\n"}},
	"node":   {runtime: "nodejs20.x", handler: "app.handler", files: map[string]string{"app.js": "exports.handler = async e => { console.log('from the function'); return e }"}},
	"ruby":   {runtime: "ruby3.2", handler: "app.handler", files: map[string]string{"app.rb": "def handler(event:, context:)\n  puts 'from the function'\n  event\nend\n"}},
	"provided": {runtime: "provided.al2023", handler: "x", files: map[string]string{"bootstrap": `#!/bin/sh
exec /usr/bin/python3 -I -c '
import os, urllib.request
base = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with urllib.request.urlopen(base + "next") as r:
        rid, body = r.headers["Lambda-Runtime-Aws-Request-Id"], r.read()
    print("from the function", flush=True)
    urllib.request.urlopen(urllib.request.Request(base + rid + "/response", data=body)).read()
'
`}},
}

// An extension in /opt/extensions lives through all phases beside every kind of runtime.
func TestExternalExtension(t *testing.T) {
	needRoot(t)
	opt := extensionOf(t, "go-extension", "thaw/examples/go-extension")
	for name, f := range echoes {
		t.Run(name, func(t *testing.T) {
			plan, log := planOf(t, f, opt)
			e, err := boot(t, plan)
			if err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			if !e.Extended() || e.Timing.Extended.IsZero() || !e.Timing.Ready.After(e.Timing.Extended) {
				t.Errorf("extended %t, timing %+v", e.Extended(), e.Timing)
			}
			for n := range 3 {
				if n == 2 {
					if err := e.Freeze(); err != nil {
						t.Fatal(err)
					}
				}
				if got, err := invoke(t, e, fmt.Sprint("request-", n), `[1]`); err != nil || got != `[1]` {
					t.Fatalf("%s, %v\n%s", got, err, log)
				}
			}
			log.await(t, "EXTENSION\tName: go-extension\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\n",
				"TELEMETRY\tName: go-extension\tState: Subscribed\tTypes: [platform, function]\n",
				"extension INVOKE request-0\n", "extension INVOKE request-2\n",
				"telemetry platform.initStart ", "telemetry platform.initRuntimeDone ", "telemetry platform.initReport ", "telemetry platform.extension ",
				"telemetry platform.telemetrySubscription ", "telemetry platform.start ", "telemetry platform.runtimeDone ", "telemetry platform.report ",
				`from the function\n"`)
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			log.await(t, "extension SHUTDOWN spindown\n")
		})
	}
}

// The caller has its answer when the runtime gives it; the environment is busy until the extensions are done.
func TestExtensionsGoOn(t *testing.T) {
	needRoot(t)
	opt := openDir(t)
	script(t, opt, "late.py", pythonExtension+`
register("late.py", ["INVOKE"])
while True:
    next()
    while not os.path.exists("/tmp/go"):
        time.sleep(0.01)
    os.remove("/tmp/go")
`)
	f := function{runtime: "python3.11", handler: "app.handler", files: map[string]string{"app.py": "def handler(e, c):\n    if e: open('/tmp/go', 'w').close()\n"}}
	plan, log := planOf(t, f, opt)
	e, err := boot(t, plan)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if _, err := invoke(t, e, "quick", "1"); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if !e.Claim() {
		t.Fatal("not to be claimed")
	}
	deadline := time.Now().Add(time.Second)
	if _, err := e.Invoke(t.Context(), &runtimes.Event{RequestID: "slow", Payload: []byte("0")}, deadline); err != nil {
		t.Fatalf("the answer waits for the extension: %v", err)
	}
	err = e.Finish(t.Context(), "slow", deadline)
	broken, ok := errors.AsType[*sandbox.Broken](err)
	if !ok || !broken.TimedOut || e.Usable() || !e.TimedOut() {
		t.Errorf("%v, usable %t", err, e.Usable())
	}
}

const pythonExtension = `#!/usr/bin/python3
import json, os, sys, time, urllib.request
base = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"]
ident = {}
def register(name, events):
    q = urllib.request.Request(base + "/2020-01-01/extension/register", data=json.dumps({"events": events}).encode(), headers={"Lambda-Extension-Name": name})
    with urllib.request.urlopen(q) as r:
        ident["Lambda-Extension-Identifier"] = r.headers["Lambda-Extension-Identifier"]
        return json.load(r)
def next():
    with urllib.request.urlopen(urllib.request.Request(base + "/2020-01-01/extension/event/next", headers=ident)) as r:
        return json.load(r)
`

// What goes wrong with an extension is the environment's end, with AWS's name for it.
func TestFailingExtensions(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name, script   string
		atInit         bool
		kind, contains string
	}{
		{"ends before it registers", "#!/bin/sh\nexit 3\n", true, "Extension.Crash", "exit status 3"},
		{"ends well before it registers", "#!/bin/sh\n", true, "Extension.Crash", "exit code 0"},
		{"cannot be run", "no program\n", true, "Extension.LaunchError", "exec format error"},
		{"reports an init error", pythonExtension + `
register("x", [])
urllib.request.urlopen(urllib.request.Request(base + "/2020-01-01/extension/init/error", data=b"{}", headers=ident | {"Lambda-Extension-Function-Error-Type": "Extension.NoKey"}))
time.sleep(100)
`, true, "Extension.InitError", "Extension.NoKey"},
		{"ends within an invocation", pythonExtension + "register('x', ['INVOKE'])\nnext()\nos.kill(os.getpid(), 9)\n", false, "Extension.Crash", "signal: killed"},
		{"reports an error within an invocation", pythonExtension + `
register("x", ["INVOKE"])
next()
urllib.request.urlopen(urllib.request.Request(base + "/2020-01-01/extension/exit/error", data=b"{}", headers=ident | {"Lambda-Extension-Function-Error-Type": "Extension.Lost"}))
`, false, "Extension.ExitError", "Extension.Lost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt := openDir(t)
			script(t, opt, "x", c.script)
			f := function{runtime: "python3.11", handler: "app.handler", files: map[string]string{"app.py": "import time\ndef handler(e, c): time.sleep(20)\n"}}
			plan, log := planOf(t, f, opt)
			e, err := boot(t, plan)
			if c.atInit != (err != nil) {
				t.Fatalf("boot: %v\n%s", err, log)
			}
			if !c.atInit {
				_, err = invoke(t, e, "one", "1")
				if broken, ok := errors.AsType[*sandbox.Broken](err); !ok || broken.TimedOut {
					t.Errorf("invoke: %v\n%s", err, log)
				}
			}
			failure, ok := errors.AsType[*thaw.FunctionError](err)
			if !ok || failure.Type != c.kind || !strings.Contains(string(failure.Payload), c.contains) {
				t.Errorf("got %v (%s)\n%s", err, failure.Payload, log)
			}
		})
	}
}

// A program that registers from within the runtime's process is an internal extension.
func TestInternalExtensions(t *testing.T) {
	needRoot(t)
	for name, f := range map[string]function{
		"python": {runtime: "python3.11", handler: "app.handler", files: map[string]string{"ext.py": pythonExtension, "app.py": `
import threading, signal, sys
from ext import *
register("inside", ["INVOKE"])
def follow():
    while True: print("internal", next()["requestId"], flush=True)
threading.Thread(target=follow, daemon=True).start()
def handler(e, c): return e
`}},
		"node": {runtime: "nodejs20.x", handler: "app.handler", files: map[string]string{"app.mjs": `
import { Worker } from 'node:worker_threads';
const worker = new Worker(` + "`" + `
  const { parentPort } = require('node:worker_threads'), fs = require('node:fs');
  const base = 'http://' + process.env.AWS_LAMBDA_RUNTIME_API + '/2020-01-01/extension/';
  (async () => {
    const r = await fetch(base + 'register', {method: 'POST', headers: {'Lambda-Extension-Name': 'inside'}, body: JSON.stringify({events: ['INVOKE']})});
    const headers = {'Lambda-Extension-Identifier': r.headers.get('lambda-extension-identifier')};
    parentPort.postMessage('registered');
    for (;;) fs.writeSync(1, 'internal ' + (await (await fetch(base + 'event/next', {headers})).json()).requestId + '\\n');
  })();
` + "`" + `, {eval: true});
await new Promise(r => worker.once('message', r));
export const handler = async e => e;
`}},
	} {
		t.Run(name, func(t *testing.T) {
			plan, log := planOf(t, f, "")
			e, err := boot(t, plan)
			if err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			if !e.Extended() {
				t.Fatalf("it has no extension\n%s", log)
			}
			if got, err := invoke(t, e, "request-1", `7`); err != nil || got != `7` {
				t.Fatalf("%s, %v\n%s", got, err, log)
			}
			if got, err := invoke(t, e, "request-2", `8`); err != nil || got != `8` {
				t.Fatalf("%s, %v\n%s", got, err, log)
			}
			log.await(t, "EXTENSION\tName: inside\tState: Ready\tEvents: [INVOKE]\n", "internal request-1", "internal request-2")
		})
	}
}

// AWS's own Go client registers an internal extension when a function wants to hear of its end. It is used as it is published.
func TestPublicGoExtension(t *testing.T) {
	needRoot(t)
	program, err := os.ReadFile(filepath.Join(buildGo(t, `
package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.StartWithOptions(func(_ context.Context, e json.RawMessage) (json.RawMessage, error) { return e, nil },
		lambda.WithEnableSIGTERM(func() { fmt.Println("told to end") }))
}
`), "bootstrap"))
	if err != nil {
		t.Fatal(err)
	}
	f := function{runtime: "provided.al2023", handler: "x", files: map[string]string{"bootstrap": string(program)}}
	plan, log := planOf(t, f, "")
	e, err := boot(t, plan)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	for _, id := range []string{"one", "two"} {
		if got, err := invoke(t, e, id, `[7]`); err != nil || got != `[7]` {
			t.Fatalf("%s, %v\n%s", got, err, log)
		}
	}
	if err := e.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	log.await(t, "EXTENSION\tName: GoLangEnableSIGTERM\tState: Ready\tEvents: []\n", "told to end\n")
}

// What init has started by itself is known before anything is forked from it.
func TestExtensionsMakeNoTemplate(t *testing.T) {
	needRoot(t)
	f := function{runtime: "python3.11", handler: "app.handler", files: map[string]string{"ext.py": pythonExtension, "app.py": `
import threading
from ext import *
register("inside", ["INVOKE"])
threading.Thread(target=next, daemon=True).start()
def handler(e, c): return e
`}}
	plan, log := planOf(t, f, "")
	c := &sandbox.Config{Driver: open(t), Account: testAccount}
	e, err := c.BootTemplate(within(t), plan)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	defer e.Close()
	hazards, err := e.Park(within(t))
	if err != nil || len(hazards) != 1 || !strings.Contains(hazards[0], "the internal extension inside") {
		t.Errorf("%q, %v", hazards, err)
	}
}

// An extension that floods, and one that asks without end, cost their own environment and nobody else.
func TestHostileExtensions(t *testing.T) {
	needRoot(t)
	opt := openDir(t)
	script(t, opt, "flood.py", pythonExtension+`
import http.client, socket, threading
register("flood.py", ["INVOKE", "SHUTDOWN"])
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
def subscribe(uri):
    q = urllib.request.Request(base + "/2022-07-01/telemetry", method="PUT", headers=ident, data=json.dumps({"schemaVersion": "2022-12-13",
        "types": ["platform", "extension"], "destination": {"protocol": "HTTP", "URI": uri}}).encode())
    try: return urllib.request.urlopen(q).status
    except urllib.error.HTTPError as e: return e.code
print("subscribed", subscribe("http://169.254.169.254:80/"), subscribe("http://host.thaw.internal:22/"), subscribe("http://sandbox.localdomain:4"), flush=True)
held = []
for _ in range(100):
    s = socket.socket(); s.settimeout(0.2)
    try: s.connect((host, int(port))); s.sendall(b"GET /x HTTP/1.1\r\n"); held.append(s)
    except OSError: pass
for s in held: s.close()
def write():
    while True: os.write(1, b"x" * 65536)
threading.Thread(target=write, daemon=True).start()
while True: next()
`)
	plan, log := planOf(t, echoes["python"], opt)
	quiet := &counted{}
	plan.Log = quiet
	e, err := boot(t, plan)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	for n := range 3 {
		if got, err := invoke(t, e, fmt.Sprint(n), "[1]"); err != nil || got != "[1]" {
			t.Fatalf("%s, %v", got, err)
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if first := quiet.first(); !strings.Contains(first, "subscribed 400 400 200") {
		t.Errorf("log begins with %q", first)
	}
}

// counted is a log that keeps its beginning, and slows writers down as the platform's does.
type counted struct {
	mu   sync.Mutex
	head strings.Builder
}

func (c *counted) Write(_ time.Time, _ string, message []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.head.Len() < 4096 {
		c.head.Write(message[:min(len(message), 200)])
	}
}

func (c *counted) WaitRoom(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Millisecond):
	}
}

func (c *counted) first() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.head.String()
}
