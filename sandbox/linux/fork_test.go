package linux

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"thaw"
	"thaw/runtimes"
	"thaw/sandbox"
)

var testAccount = thaw.Account{ID: "000000000000", Region: "us-east-1"}

// bootstrapDir is where the bootstraps are prepared.
var bootstrapDir = filepath.Join(os.TempDir(), fmt.Sprintf("thaw-fork-test-%d", os.Getpid()))

// registry finds the interpreters once.
var registry = sync.OnceValues(func() (*runtimes.Registry, error) {
	return runtimes.Discover(context.Background(), runtimes.Config{Dir: bootstrapDir, Nearest: true})
})

// function is the code of a test: files by name.
type function struct {
	runtime, handler string
	files            map[string]string
	mounts           []sandbox.Mount
	memoryMB         int
}

func (f function) version() *thaw.Version {
	return &thaw.Version{Function: "f", Number: "1", Runtime: f.runtime, Handler: f.handler, MemorySize: max(f.memoryMB, 256)}
}

// specOf is the sandbox of a template.
func specOf(t testing.TB, f function) *sandbox.Spec {
	t.Helper()
	r, err := registry()
	if err != nil {
		t.Fatal(err)
	}
	code := t.TempDir()
	for name, text := range f.files {
		file := filepath.Join(code, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l, err := r.Launch(t.Context(), f.version(), code, "")
	if err != nil {
		t.Skip(err)
	}
	spec := &sandbox.Spec{
		Args: slices.Concat(l.TemplateArgs, l.ProfileArgs), Env: runtimes.Environ(f.version(), testAccount, "stream", false, l.Env...), Dir: "/var/task", Channel: true, Template: true,
		MemoryMB: f.version().MemorySize, TmpMB: 64, Mounts: append([]sandbox.Mount{{Source: code, Target: "/var/task"}}, f.mounts...),
	}
	for _, b := range l.Binds {
		spec.Mounts = append(spec.Mounts, sandbox.Mount{Source: b.Source, Target: b.Target})
	}
	return spec
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// parked is a template that was started, initialised and parked, and what it wrote.
type parked struct {
	*template
	conn runtimes.Parker
	log  func() string
}

func initialise(t testing.TB, d *Driver, spec *sandbox.Spec) *parked {
	t.Helper()
	p := start(t, d, spec).(*template)
	log := collect(p)
	conn := runtimes.NewFrames(p.Channel()).(runtimes.Parker)
	if err := conn.WaitInit(within(t)); err != nil {
		p.Close()
		t.Fatalf("init: %v, exit %+v\n%s", err, p.Exit(), log())
	}
	return &parked{p, conn, log}
}

func park(t testing.TB, d *Driver, spec *sandbox.Spec) *parked {
	t.Helper()
	p := initialise(t, d, spec)
	if err := p.conn.Park(within(t)); err != nil {
		p.Close()
		t.Fatalf("park: %v\n%s", err, p.log())
	}
	if err := p.Park(); err != nil {
		t.Fatal(err)
	}
	return p
}

// child is one forked environment.
type child struct {
	sandbox.Process
	conn runtimes.Conn
	log  func() string
}

func forkOne(ctx context.Context, t sandbox.Template, env ...string) (*child, error) {
	p, err := t.Fork(ctx, &sandbox.ForkSpec{Env: env, MemoryMB: 256, TmpMB: 64})
	if err != nil {
		return nil, err
	}
	c := &child{p, runtimes.NewFrames(p.Channel()), collect(p)}
	if err := c.conn.WaitInit(ctx); err != nil {
		p.Close()
		return nil, fmt.Errorf("%w; it wrote %s", err, c.log())
	}
	return c, nil
}

func mustFork(t testing.TB, p *parked, env ...string) *child {
	t.Helper()
	c, err := forkOne(within(t), p, env...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

func (c *child) invoke(t testing.TB, payload string) string {
	t.Helper()
	b, err := c.try(within(t), payload)
	if err != nil {
		t.Fatalf("invoke: %v\n", err)
	}
	return b
}

func (c *child) try(ctx context.Context, payload string) (string, error) {
	deadline := time.Now().Add(patience)
	b, err := c.conn.Invoke(ctx, &runtimes.Event{RequestID: "r", DeadlineMS: deadline.UnixMilli(), FunctionARN: "arn", Payload: []byte(payload)})
	return string(b), err
}

// about tells an environment of itself, in each language.
var about = map[string]function{
	"python": {runtime: "python3.11", handler: "app.handler", files: map[string]string{"app.py": `
import os, pwd, socket
open('/tmp/init', 'w').write('from init')
os.mkdir('/tmp/d'); os.symlink('../init', '/tmp/d/link')
opened = open('/var/task/app.py'); opened.read(4)
writing = open('/tmp/w', 'w'); writing.write('a'); writing.flush()
os.chdir('/tmp/d')
count = 0
def handler(event, context):
    global count
    count += 1
    writing.write(event); writing.flush()
    return dict(count=count, pid=os.getpid(), ppid=os.getppid(), uid=os.getuid(), gid=os.getgid(), tmp=sorted(os.listdir('/tmp')), init=open('link').read(), env=os.environ['AWS_LAMBDA_LOG_STREAM_NAME'],
        written=open('/tmp/w').read(), offset=opened.tell(), read=len(opened.read(2)), user=pwd.getpwuid(os.getuid()).pw_name, host=socket.gethostname(),
        procs=sorted(p for p in os.listdir('/proc') if p.isdigit()), cgroups=sorted({l.strip().split(':')[2] for l in open('/proc/self/cgroup')}))
`}},
	"node": {runtime: "nodejs20.x", handler: "app.handler", files: map[string]string{"app.js": `
const fs = require('fs'), os = require('os');
fs.writeFileSync('/tmp/init', 'from init'); fs.mkdirSync('/tmp/d'); fs.symlinkSync('../init', '/tmp/d/link');
const opened = fs.openSync('/var/task/app.js'); fs.readSync(opened, Buffer.alloc(4));
const writing = fs.openSync('/tmp/w', 'w'); fs.writeSync(writing, 'a');
process.chdir('/tmp/d');
let count = 0;
const random = Math.random;
exports.handler = async (event) => {
  fs.writeSync(writing, event);
  const body = await (await fetch('data:text/plain,x')).text();
  return {count: ++count, pid: process.pid, ppid: process.ppid, uid: process.getuid(), gid: process.getgid(), tmp: fs.readdirSync('/tmp').sort(), init: fs.readFileSync('link', 'utf8'), env: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    written: fs.readFileSync('/tmp/w', 'utf8'), offset: 4, read: fs.readSync(opened, Buffer.alloc(2)), user: os.userInfo().username, host: os.hostname(),
    procs: fs.readdirSync('/proc').filter((p) => /^[0-9]+$/.test(p)), cgroups: [...new Set(fs.readFileSync('/proc/self/cgroup', 'utf8').trim().split('\n').map((l) => l.split(':')[2]))]};
};`}},
	"ruby": {runtime: "ruby3.2", handler: "app.handler", files: map[string]string{"app.rb": `
require 'etc'
require 'socket'
File.write('/tmp/init', 'from init'); Dir.mkdir('/tmp/d'); File.symlink('../init', '/tmp/d/link')
$opened = File.open('/var/task/app.rb'); $opened.sysread(4)
$writing = File.open('/tmp/w', 'w'); $writing.syswrite('a')
Dir.chdir('/tmp/d')
$count = 0
def handler(event:, context:)
  $writing.syswrite(event)
  { count: $count += 1, pid: Process.pid, ppid: Process.ppid, uid: Process.uid, gid: Process.gid, tmp: Dir.children('/tmp').sort, init: File.read('link'), env: ENV['AWS_LAMBDA_LOG_STREAM_NAME'],
    written: File.read('/tmp/w'), offset: $opened.sysseek(0, IO::SEEK_CUR), read: $opened.sysread(2).size, user: Etc.getpwuid(Process.uid).name, host: Socket.gethostname,
    procs: Dir.children('/proc').grep(/^[0-9]+$/), cgroups: File.readlines('/proc/self/cgroup').map { |l| l.strip.split(':')[2] }.uniq }
end`}},
}

// A forked environment is like a booted one, and has what init made; what it changes, its siblings do not see.
func TestForkedEnvironments(t *testing.T) {
	needRoot(t)
	d := open(t)
	for language, f := range about {
		t.Run(language, func(t *testing.T) {
			p := park(t, d, specOf(t, f))
			var all []*child
			for i := range 3 {
				all = append(all, mustFork(t, p, fmt.Sprintf("AWS_LAMBDA_LOG_STREAM_NAME=stream %d = x", i)))
			}
			for n := 1; n <= 2; n++ {
				for i, c := range all {
					var got map[string]any
					if err := json.Unmarshal([]byte(c.invoke(t, `"b"`)), &got); err != nil {
						t.Fatal(err)
					}
					want := map[string]any{
						"count": float64(n), "pid": 2.0, "ppid": 1.0, "uid": 993.0, "gid": 990.0, "tmp": []any{"d", "init", "w"}, "init": "from init",
						"env": fmt.Sprintf("stream %d = x", i), "written": "abb"[:1+n], "offset": float64(2 + 2*n), "read": 2.0, "user": "sbx_user1051", "host": "sandbox",
						"procs": []any{"2"}, "cgroups": []any{"/"},
					}
					if language == "node" {
						want["offset"] = 4.0
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("environment %d, invocation %d: %s", i, n, diff)
					}
				}
			}
		})
	}
}

// The exit status, the output and the end of an environment are told as a booted one's are.
func TestForkedEnvironmentEnds(t *testing.T) {
	needRoot(t)
	d := open(t)
	f := hello("python3.11", "import os, sys, signal\nprint('init', flush=True)")
	f.files["app.py"] = "import os, sys, signal\nprint('at init', flush=True)\ndef handler(event, context):\n    print('doing', event, flush=True)\n    exec(event)\n"
	p := park(t, d, specOf(t, f))
	for code, want := range map[string]sandbox.ExitStatus{
		"os._exit(7)":              {Code: 7},
		"os.kill(os.getpid(), 9)":  {Signal: "killed"},
		"os.kill(os.getpid(), 11)": {Signal: "segmentation fault"},
		"sys.exit(3)":              {Code: 3},
		"if os.fork() == 0: signal.pause()\nos._exit(4)": {Code: 4},
	} {
		c := mustFork(t, p)
		payload, _ := json.Marshal(code)
		if _, err := c.conn.Invoke(within(t), &runtimes.Event{RequestID: "r", Payload: payload}); err == nil {
			t.Errorf("%s: answered", code)
		}
		if got := wait(t, c); got != want {
			t.Errorf("%s: %+v, want %+v", code, got, want)
		}
		if out := c.log(); !strings.Contains(out, "doing") || strings.Contains(out, "at init") {
			t.Errorf("%s: output %q", code, out)
		}
	}
	node := park(t, d, specOf(t, hello("nodejs20.x", "exports.exit = 1; process.on('exit', () => console.log('bye'))")))
	c := mustFork(t, node)
	c.Kill()
	if got := wait(t, c); got.Signal != "killed" {
		t.Errorf("%+v", got)
	}
	f = hello("nodejs20.x", "")
	f.files["app.js"] = "exports.handler = async (event) => process.exit(5);"
	c = mustFork(t, park(t, d, specOf(t, f)))
	if _, err := c.conn.Invoke(within(t), &runtimes.Event{RequestID: "r", Payload: []byte("1")}); err == nil {
		t.Error("answered")
	}
	if got := wait(t, c); got.Code != 5 {
		t.Errorf("node exits with %+v", got)
	}
}

// Hooks run in the order of the package that they come from, and what goes wrong in them has AWS's types.
func TestSnapshotHooks(t *testing.T) {
	needRoot(t)
	d := open(t)
	const hooks = `
from snapshot_restore_py import register_before_snapshot, register_after_restore
log = []
register_before_snapshot(log.append, 'b1'); register_before_snapshot(log.append, 'b2')
register_after_restore(log.append, 'a1'); register_after_restore(log.append, 'a2')
@register_after_restore
def last(): %s
@register_before_snapshot
def first(): %s
def handler(event, context): return log
`
	f := hello("python3.11", "")
	f.files["app.py"] = fmt.Sprintf(hooks, "log.append(__import__('os').environ['X'])", "log.append('b3')")
	c := mustFork(t, park(t, d, specOf(t, f)), "X=env")
	if got := c.invoke(t, "1"); got != `["b3", "b2", "b1", "a1", "a2", "env"]` {
		t.Error(got)
	}
	f.files["app.py"] = fmt.Sprintf(hooks, "pass", "1 / 0")
	p := initialise(t, d, specOf(t, f))
	err := p.conn.Park(within(t))
	if failure, ok := errors.AsType[*thaw.FunctionError](err); !ok || failure.Type != "Runtime.BeforeSnapshotError" || !strings.Contains(string(failure.Payload), "ZeroDivisionError") {
		t.Errorf("park: %v", err)
	}
	if got := wait(t, p); got.Code != 64 {
		t.Errorf("exit %+v", got)
	}
	f.files["app.py"] = fmt.Sprintf(hooks, "1 / 0", "pass")
	_, err = forkOne(within(t), park(t, d, specOf(t, f)))
	if failure, ok := errors.AsType[*thaw.FunctionError](err); !ok || failure.Type != "Runtime.AfterRestoreError" || !strings.Contains(string(failure.Payload), "ZeroDivisionError") {
		t.Errorf("restore: %v", err)
	}
}

// A parked template does nothing, whatever its code has set going, and an environment goes on with it.
func TestParkedTemplateStandsStill(t *testing.T) {
	needRoot(t)
	d := open(t)
	f := hello("nodejs20.x", "")
	f.files["app.js"] = "let n = 0; setInterval(() => { n++; console.log('tick'); }, 1);\nexports.handler = async () => new Promise((ok) => { const from = n; setTimeout(() => ok(n > from), 50); });"
	p := park(t, d, specOf(t, f))
	busy := hello("python3.11", "import threading\ndef spin():\n    while True: pass\nthreading.Thread(target=spin, daemon=True).start()")
	q := park(t, d, specOf(t, busy))
	if hazards, err := q.Hazards(); err != nil || len(hazards) != 1 {
		t.Errorf("hazards %q, %v", hazards, err)
	}
	mustFork(t, p)
	mustFork(t, q)
	for _, p := range []*parked{p, q} {
		// It is frozen again a little after the last fork.
		for deadline := time.Now().Add(patience); ; <-time.After(time.Millisecond) {
			if frozen, err := p.shim.group.frozen(); err == nil && frozen {
				break
			} else if time.Now().After(deadline) {
				t.Fatalf("frozen: %v, %v", frozen, err)
			}
		}
	}
	before := [2]int{cpuTime(t, p.runtime), cpuTime(t, q.runtime)}
	mustFork(t, park(t, d, specOf(t, about["python"])))
	if after := [2]int{cpuTime(t, p.runtime), cpuTime(t, q.runtime)}; after != before {
		t.Errorf("the parked templates went on: %v, then %v", before, after)
	}
	if got := mustFork(t, p).invoke(t, "1"); got != "true" {
		t.Errorf("timers in the environment: %s", got)
	}
}

// cpuTime gives a process's user time in ticks.
func cpuTime(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	n, err := strconv.Atoi(strings.Fields(rest)[11])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
