package linux

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"thaw"
	"thaw/runtimes"
	"thaw/sandbox"
)

var testAccount = thaw.Account{ID: "000000000000", Region: "us-east-1"}

// registries finds the interpreters once; the folder is below the system's own for temporary files.
var registry = sync.OnceValues(func() (*runtimes.Registry, error) {
	return runtimes.Discover(context.Background(), runtimes.Config{Dir: filepath.Join(os.TempDir(), fmt.Sprintf("thaw-fork-test-%d", os.Getpid())), Nearest: true})
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
	l, err := r.Launch(t.Context(), f.version(), code)
	if err != nil {
		t.Skip(err)
	}
	spec := &sandbox.Spec{
		Args: l.TemplateArgs, Env: runtimes.Environ(f.version(), testAccount, "stream", l.Env...), Dir: "/var/task", Channel: true, Template: true,
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
		t.Fatalf("init: %v\n%s", err, log())
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
	deadline := time.Now().Add(patience)
	b, err := c.conn.Invoke(within(t), &runtimes.Event{RequestID: "r", DeadlineMS: deadline.UnixMilli(), FunctionARN: "arn", Payload: []byte(payload)})
	if err != nil {
		t.Fatalf("invoke: %v\n", err)
	}
	return string(b)
}

const pythonCounter = `
import os, time, json, random, ssl, uuid, socket
open('/tmp/init', 'w').write('from init')
booted = time.time()
count = 0
def handler(event, context):
    global count
    count += 1
    return dict(count=count, pid=os.getpid(), ppid=os.getppid(), uid=os.getuid(), gid=os.getgid(), tmp=sorted(os.listdir('/tmp')), init=open('/tmp/init').read(), stream=os.environ.get('AWS_LAMBDA_LOG_STREAM_NAME'),
        procs=sorted(p for p in os.listdir('/proc') if p.isdigit()), cgroup=[l.strip().split(':')[2] for l in open('/proc/self/cgroup')], user=__import__('pwd').getpwuid(os.getuid()).pw_name, host=socket.gethostname())
`

func TestPythonForks(t *testing.T) {
	needRoot(t)
	d := open(t)
	p := park(t, d, specOf(t, function{runtime: "python3.11", handler: "app.handler", files: map[string]string{"app.py": pythonCounter}}))
	for i := range 3 {
		c := mustFork(t, p, fmt.Sprintf("AWS_LAMBDA_LOG_STREAM_NAME=s%d", i))
		for n := 1; n <= 2; n++ {
			var got map[string]any
			out := c.invoke(t, "{}")
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatal(err)
			}
			t.Log(out)
			if got["count"] != float64(n) {
				t.Error(out)
			}
		}
	}
	_ = strings.Contains
	_ = io.EOF
}

func TestNodeAndRubyFork(t *testing.T) {
	needRoot(t)
	d := open(t)
	for _, f := range []function{
		{runtime: "nodejs20.x", handler: "app.handler", files: map[string]string{"app.js": `let count = 0; require('fs').writeFileSync('/tmp/init', 'x');
exports.handler = async () => ({count: ++count, pid: process.pid, ppid: process.ppid, r: Math.random(), s: process.env.AWS_LAMBDA_LOG_STREAM_NAME, self: require('fs').readlinkSync('/proc/self'), uid: process.getuid(), f: require('fs').readdirSync('/tmp'), u: require('os').userInfo().username})`}},
		{runtime: "ruby3.2", handler: "app.handler", files: map[string]string{"app.rb": `$count = 0
def handler(event:, context:)
  { count: $count += 1, pid: Process.pid, ppid: Process.ppid, r: rand, s: ENV['AWS_LAMBDA_LOG_STREAM_NAME'], self: File.readlink('/proc/self') }
end`}},
	} {
		p := park(t, d, specOf(t, f))
		for range 2 {
			c := mustFork(t, p, "AWS_LAMBDA_LOG_STREAM_NAME=s")
			t.Log(c.invoke(t, "{}"))
			t.Log(c.invoke(t, "{}"))
		}
	}
}
