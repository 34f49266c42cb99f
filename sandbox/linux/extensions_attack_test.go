package linux

import (
	"bytes"
	"errors"
	"log"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"thaw"
	"thaw/runtimes"
	"thaw/sandbox"
)

// requests is for extensions that speak to the platform as no client does.
const requests = pythonExtension + `
import errno, socket, threading
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
def ask(method, path, body=b"", **headers): # 0: it hung up
    q = urllib.request.Request(base + path, method=method, data=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(q, timeout=20) as r: return r.status, r.headers, r.read()
    except urllib.error.HTTPError as e:
        try: return e.code, e.headers, e.read()
        except OSError: return e.code, {}, b""
    except OSError: return 0, {}, b""
def serve(handle):
    l = socket.socket(); l.bind(("127.0.0.1", 0)); l.listen(64)
    def accept():
        while True: threading.Thread(target=handle, args=(l.accept()[0],), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    return l.getsockname()[1]
def subscribe(destination, types=("platform", "function", "extension"), **headers):
    return ask("PUT", "/2022-07-01/telemetry", json.dumps({"schemaVersion": "2022-12-13", "types": types, "destination": destination,
        "buffering": {"maxBytes": 1048576, "timeoutMs": 25}}).encode(), **(headers or ident))
def say(*words): print("said", *words, flush=True)
`

// load is what the platform holds: goroutines, and bytes after a collection.
func load() (goroutines int, heap uint64) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), m.HeapAlloc
}

// Whatever an extension sends to the platform, and how often, it costs a bounded part of it, and the function works.
func TestExtensionAgainstThePlatform(t *testing.T) {
	needRoot(t)
	opt := openDir(t)
	script(t, opt, "attack.py", requests+`
_, h, _ = ask("POST", "/2020-01-01/extension/register", b'{"events":[]}', Lambda_Extension_Name="n0")
ident = {"Lambda-Extension-Identifier": h["Lambda-Extension-Identifier"]}
# Malformed and huge.
bad = [b"", b"{", b"[]", b"null", b'{"events": 7}', b'{"events": ["INVOKE"]' * 1000, b'{"events":[' + b'"X",' * 5000 + b'"X"]}',
    b'{"types":[' + b'"X",' * 5000 + b'"X"]}', b"[" * 30000, b"\xff" * 1000, b"x" * 200000, b"x" * (2 << 20)]
codes = set()
for body in bad:
    for path in ("/2020-01-01/extension/register", "/2022-07-01/telemetry", "/2020-08-15/logs", "/2020-01-01/extension/init/error"):
        code, _, answer = ask("POST" if "extension" in path else "PUT", path, body, Lambda_Extension_Name="x\ty", **ident)
        codes.add(code)
        if len(answer) > 4096: say("BREACH answer of", len(answer))
say("codes", sorted(codes - {0, 400, 403})) # "null" is a registration for nothing
# Other identities.
import uuid
for who in ("", "x", str(uuid.uuid4()), str(uuid.UUID(int=0)), "x" * 70000):
    if ask("GET", "/2020-01-01/extension/event/next", None, Lambda_Extension_Identifier=who)[0] == 200: say("BREACH identity", who[:50])
say("launcher", ask("POST", "/thaw/launcher")[0])
# Many names.
made = sum(ask("POST", "/2020-01-01/extension/register", b'{"events":[]}', Lambda_Extension_Name="n%d" % n)[0] == 200 for n in range(50))
say("names", made)
register("attack.py", ["INVOKE", "SHUTDOWN"])
next()
`)
	// Those that have registered under other names never ask for an event, so that init ends with its time.
	plan, log := planOf(t, echoes["python"], opt)
	plan.InitLimit = 5 * time.Second
	_, err := boot(t, plan)
	failure, ok := errors.AsType[*sandbox.InitError](err)
	if !ok {
		t.Fatalf("%v\n%s", err, log)
	}
	log.await(t, "said codes [200]\n", "said launcher 403\n", "said names 7\n")
	if strings.Contains(log.String(), "BREACH") {
		t.Errorf("%v\n%s", failure, log)
	}
}

// An extension that listens and does not read, opens every connection that it can and floods all its logs holds what an
// environment may have, and gives all of it back.
func TestExtensionHoldsWhatItMay(t *testing.T) {
	needRoot(t)
	opt := openDir(t)
	const each = `
def stall(c): time.sleep(1000)
def refuse(c): c.recv(65536); c.sendall(b"HTTP/1.1 307 Over there\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n")
def endless(c):
    c.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True: c.sendall(b"x" * 65536)
def hasty(c): c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nroot: the platform is on fire\n" * 2); time.sleep(1000)
def headers(c):
    c.sendall(b"HTTP/1.1 200 OK\r\n")
    while True: c.sendall(b"a: " + b"x" * 4096 + b"\r\n")
`
	script(t, opt, "hold.py", requests+each+`
handlers = [hasty, refuse, endless, headers, stall]
for n, handle in enumerate(handlers):
    _, h, _ = ask("POST", "/2020-01-01/extension/register", b'{"events":[]}', Lambda_Extension_Name="n%d" % n)
    who = {"Lambda-Extension-Identifier": h["Lambda-Extension-Identifier"]}
    p = serve(handle)
    subscribe({"protocol": "TCP", "port": p} if n == 4 else {"protocol": "HTTP", "URI": "http://sandbox:%d/a" % p}, **who)
    def wait(who=who):
        while True: ask("GET", "/2020-01-01/extension/event/next", None, **who)
    threading.Thread(target=wait, daemon=True).start()
register("hold.py", ["INVOKE", "SHUTDOWN"])
say("subscribed", subscribe({"protocol": "HTTP", "URI": "http://sandbox.localdomain:%d/" % serve(stall)})[0])
def flood():
    while True: os.write(1, b"\x01" * 1000 + b"\n")
def connect():
    held = []
    while len(held) < 900:
        s = socket.socket(); s.setblocking(False)
        try: s.connect_ex((host, int(port)))
        except OSError: break
        held.append(s)
    for s in held:
        try: s.send(b"PUT /2022-07-01/telemetry HTTP/1.1\r\nHost: x\r\nLambda-Extension-Identifier: " + ident["Lambda-Extension-Identifier"].encode() + b"\r\nContent-Length: 30000\r\n\r\n" + b"x" * 29000)
        except OSError: pass
    time.sleep(1000)
with urllib.request.urlopen(urllib.request.Request(base + "/2020-01-01/extension/event/next", headers=ident)) as r: r.read()
threading.Thread(target=flood, daemon=True).start()
threading.Thread(target=connect, daemon=True).start()
time.sleep(1)
say("held")
threading.Thread(target=next, daemon=True).start()
time.sleep(1000)
`)
	var platform bytes.Buffer // its own log, which is nothing of a function's
	log.SetOutput(&platform)
	defer log.SetOutput(os.Stderr)
	before, heapBefore := load()
	plan, _ := planOf(t, echoes["python"], opt)
	quiet := &counted{}
	plan.Log = quiet
	e, err := boot(t, plan)
	if err != nil {
		t.Fatalf("%v\n%s", err, quiet.first())
	}
	if !e.Claim() {
		t.Fatal("not to be claimed")
	}
	deadline := time.Now().Add(4 * time.Second)
	if got, err := e.Invoke(t.Context(), &runtimes.Event{RequestID: "one", Payload: []byte("[1]")}, deadline); err != nil || string(got) != "[1]" {
		t.Fatalf("%s, %v", got, err)
	}
	most, heap := 0, uint64(0)
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until); <-time.After(100 * time.Millisecond) {
		now, bytes := load()
		most, heap = max(most, now), max(heap, bytes)
	}
	// 32 connections have two goroutines each at most, six subscribers three each.
	if most > before+32*2+6*3+20 {
		t.Errorf("%d goroutines, %d before", most, before)
	}
	if heap > heapBefore+24<<20 {
		t.Errorf("%d bytes of heap, %d before", heap, heapBefore)
	}
	t.Logf("goroutines %d to %d, heap %d to %d kB", before, most, heapBefore>>10, heap>>10)
	e.Finish(t.Context(), "one", deadline) //nolint:errcheck // it may be in time
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if !eventually(func() bool { now, _ := load(); return now <= before+5 }) {
		now, _ := load()
		t.Errorf("%d goroutines stay, %d before", now, before)
	}
	if platform.Len() > 0 {
		t.Errorf("the platform's log: %.200q", platform.String())
	}
	if first := quiet.first(); !strings.Contains(first, "subscribed 200") {
		t.Errorf("log begins with %q", first)
	}
}

// What an extension does to its own environment ends that, by the name of what has gone, and nothing hangs.
func TestExtensionAgainstItsEnvironment(t *testing.T) {
	needRoot(t)
	const pids = `
def others():
    for p in os.listdir("/proc"):
        if p.isdigit() and int(p) not in (1, os.getpid()):
            try: yield int(p), open("/proc/%s/cmdline" % p).read().replace("\0", " ")
            except OSError: pass
`
	for _, c := range []struct{ name, script, other, want string }{
		{"kills its sibling", pids + `
next()
for p, c in others():
    if "/opt/extensions/b" in c: os.kill(p, 9)
next()`, "register('b', ['INVOKE'])\nwhile True: next()\n", "Extension.Crash"},
		{"kills the launcher", pids + `
next()
for p, c in others():
    if c.startswith("/run/thaw/launch"): os.kill(p, 9)
next()`, "", "Runtime.ExitError"},
		{"stops the launcher", pids + `
next()
for p, c in others():
    if c.startswith("/run/thaw/launch"): os.kill(p, 19)
next()`, "", ""},
		{"forks and leaves", `
if os.fork(): os._exit(0)
next()
`, "", "Extension.Crash"},
		{"kills the runtime", pids + `
next()
for p, c in others():
    if "bootstrap" in c: os.kill(p, 9)
next()`, "", "Runtime.ExitError"},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt := openDir(t)
			script(t, opt, "a", pythonExtension+"register('a', ['INVOKE', 'SHUTDOWN'])\n"+c.script+"\n")
			if c.other != "" {
				script(t, opt, "b", pythonExtension+c.other)
			}
			f := function{runtime: "python3.11", handler: "app.handler", files: map[string]string{"app.py": "import time\ndef handler(e, c): time.sleep(3); return e\n"}}
			plan, log := planOf(t, f, opt)
			e, err := boot(t, plan)
			if err == nil {
				_, err = invoke(t, e, "one", "1")
				e.Close()
			}
			failure, _ := errors.AsType[*thaw.FunctionError](err)
			if c.want == "" && err == nil {
				return
			}
			if failure == nil || failure.Type != c.want {
				t.Errorf("%v\n%s", err, log)
			}
		})
	}
}

// An extension that starts processes without end, and one that does not end when it is told to, end with their environment.
func TestExtensionsThatDoNotEnd(t *testing.T) {
	needRoot(t)
	opt := openDir(t)
	script(t, opt, "stay", pythonExtension+`
import signal
for s in range(1, 32):
    try: signal.signal(s, signal.SIG_IGN)
    except (OSError, ValueError): pass
register("stay", ["INVOKE", "SHUTDOWN"])
try:
    while True:
        if os.fork() == 0:
            os.setsid(); time.sleep(1000); os._exit(0)
except OSError as e: print("forks", e.errno, flush=True)
while True:
    e = next()
    if e["eventType"] == "SHUTDOWN": print("told to end", flush=True); time.sleep(1000)
`)
	plan, log := planOf(t, function{runtime: "python3.11", handler: "app.handler", files: map[string]string{"app.py": "def handler(e, c): return e\n"}}, opt)
	e, err := boot(t, plan)
	if err == nil {
		log.await(t, "forks 11")
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		return
	}
	// The runtime, or what is to register, has found no room for itself.
	if _, ok := errors.AsType[*sandbox.InitError](err); !ok {
		t.Errorf("%v\n%s", err, log)
	}
}

// What is at /opt, and the launcher, are the host's and for all environments: nothing inside changes them.
func TestLayersAreReadOnly(t *testing.T) {
	needRoot(t)
	opt := openDir(t)
	text := requests + `
import ctypes, shutil
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what, fn, *args):
    try: fn(*args)
    except OSError as e: return
    say("BREACH", what)
def mount(flags):
    if libc.mount(b"none", b"/opt", None, flags, None): raise OSError(ctypes.get_errno(), "mount")
for p in ("/opt/extensions/x", "/opt/extensions/new", "/opt/new", "/run/thaw/launch", "/run/thaw/new"):
    attempt("write " + p, lambda: open(p, "ab").write(b"#"))
    attempt("unlink " + p, os.unlink, p)
    attempt("rename " + p, os.rename, p, p + "2")
    attempt("chmod " + p, os.chmod, p, 0o777)
    attempt("link " + p, os.symlink, "/tmp/x", p)
    attempt("times " + p, os.utime, p)
attempt("chown", os.chown, "/opt/extensions/x", os.getuid(), os.getgid())
attempt("rmdir", os.rmdir, "/opt/extensions")
attempt("remount", mount, 32)
attempt("remount writable", mount, 32 | 4096)
attempt("cover", mount, 4096)
attempt("through proc", lambda: open("/proc/%d/root/opt/extensions/x" % os.getppid(), "ab").write(b"#"))
attempt("own exe", lambda: open("/proc/%d/exe" % os.getppid(), "r+b").write(b"#"))
say("tried")
register("x", [])
next()
`
	script(t, opt, "x", text)
	os.Chmod(opt+"/extensions", 0o777) //nolint:errcheck // so that only the mount is in the way
	os.Chmod(opt+"/extensions/x", 0o777)
	plan, log := planOf(t, echoes["python"], opt)
	if _, err := boot(t, plan); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	log.await(t, "said tried\n")
	if strings.Contains(log.String(), "BREACH") {
		t.Error(log)
	}
	if left, err := os.ReadFile(opt + "/extensions/x"); err != nil || string(left) != text {
		t.Errorf("%d bytes, %v", len(left), err)
	}
}

// Extensions hear why their environment ends, and stand still while it is frozen.
func TestReasonsOfAShutdown(t *testing.T) {
	needRoot(t)
	for _, c := range []struct{ reason, payload string }{{"timeout", `"sleep"`}, {"failure", `"exit"`}, {"failure", `"leave"`}, {"spindown", `1`}} {
		t.Run(c.reason, func(t *testing.T) {
			opt := openDir(t)
			script(t, opt, "x", requests+`
register("x", ["INVOKE", "SHUTDOWN"])
got = []
def take(s):
    with s, s.makefile() as f:
        for line in f: got.append(json.loads(line))
subscribe({"protocol": "TCP", "port": serve(take)}, ["platform"])
def tick():
    while True: say("tick"); time.sleep(0.002)
threading.Thread(target=tick, daemon=True).start()
while True:
    e = next()
    if e["eventType"] == "SHUTDOWN":
        say("reason", e["shutdownReason"], e["deadlineMs"] > time.time() * 1000, sorted(e))
        time.sleep(0.2)
        say("status", [g["record"]["status"] for g in got if g["type"] == "platform.runtimeDone"])
        os._exit(0)
`)
			f := function{runtime: "python3.11", handler: "app.handler", files: map[string]string{"app.py": `
import os, time
def handler(e, c):
    if e == "sleep": time.sleep(100)
    if e == "exit": os._exit(3)
`}}
			if c.payload == `"leave"` { // its last answer is that it ends
				f = function{runtime: "nodejs20.x", handler: "app.handler", files: map[string]string{"app.js": "exports.handler = () => new Promise(() => setTimeout(() => { throw new Error('lost') }))"}}
			}
			plan, log := planOf(t, f, opt)
			e, err := boot(t, plan)
			if err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			if !e.Claim() {
				t.Fatal("not to be claimed")
			}
			deadline := time.Now().Add(500 * time.Millisecond)
			_, err = e.Invoke(t.Context(), &runtimes.Event{RequestID: "one", Payload: []byte(c.payload)}, deadline)
			broken, _ := errors.AsType[*sandbox.Broken](err)
			if c.reason == "spindown" {
				if err := errors.Join(err, e.Finish(t.Context(), "one", deadline)); err != nil {
					t.Fatal(err)
				}
				e.Release()
				if err := e.Freeze(); err != nil {
					t.Fatal(err)
				}
				var ticks int
				eventually(func() bool { // what was in the pipe comes yet
					old := ticks
					<-time.After(20 * time.Millisecond)
					ticks = strings.Count(log.String(), "tick")
					return ticks == old
				})
				<-time.After(50 * time.Millisecond)
				if now := strings.Count(log.String(), "tick"); now != ticks {
					t.Errorf("%d ticks while it is frozen", now-ticks)
				}
			} else if failure, ok := errors.AsType[*thaw.FunctionError](err); !ok || broken != nil && broken.TimedOut != (c.reason == "timeout") {
				t.Errorf("%v, %v", err, failure)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			status := map[string]string{"timeout": "timeout", "failure": "error", "spindown": "success"}[c.reason]
			log.await(t, "said reason "+c.reason+" True ['deadlineMs', 'eventType', 'shutdownReason']\n", "said status ['"+status+"']\n")
		})
	}
}

// An environment whose runtime has ended while it was idle serves no more, although its extensions live.
func TestRuntimeEndsBesideExtensions(t *testing.T) {
	needRoot(t)
	opt := openDir(t)
	script(t, opt, "x", pythonExtension+"register('x', [])\nnext()\n")
	f := function{runtime: "python3.11", handler: "app.handler", files: map[string]string{"app.py": "import os, threading\ndef handler(e, c):\n    threading.Timer(0.05, os._exit, [3]).start()\n"}}
	plan, log := planOf(t, f, opt)
	e, err := boot(t, plan)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if _, err := invoke(t, e, "one", "1"); err != nil {
		t.Fatal(err)
	}
	if !eventually(func() bool { return !e.Usable() }) {
		t.Error("it is offered to the next request")
	}
}
