package linux

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"thaw/runtimes"
	"thaw/sandbox"
)

// belongings is what a template and its environments could leave behind.
type belongings struct {
	machine
	inside    int // processes in the driver's cgroups
	templates int // files of templates
}

func lookAtForks(t testing.TB, d *Driver) belongings {
	t.Helper()
	b := belongings{machine: look(t, d)}
	b.namespaces = namespacesBelow(t)
	names, err := d.groups.names()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, name := range names {
		g, err := d.groups.load(name)
		if err != nil {
			t.Fatal(err)
		}
		pids, _ := g.pids()
		for _, pid := range pids {
			seen[pid] = true
		}
	}
	b.inside = len(seen)
	files, _ := filepath.Glob(filepath.Join(d.rootfs.hosts, "*-*"))
	b.templates = len(files)
	return b
}

// namespacesBelow counts the user, pid and mount namespaces of this process's descendants.
func namespacesBelow(t testing.TB) int {
	t.Helper()
	spaces := map[string]bool{}
	var walk func(pid int)
	walk = func(pid int) {
		for _, kind := range []string{"user", "pid", "mnt", "ipc", "uts", "cgroup"} {
			if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind)); err == nil {
				spaces[ns] = true
			}
		}
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		for _, task := range tasks {
			b, _ := os.ReadFile(task)
			for _, child := range strings.Fields(string(b)) {
				var n int
				fmt.Sscan(child, &n)
				walk(n)
			}
		}
	}
	walk(os.Getpid())
	return len(spaces)
}

// steady looks until what there is does not change any more.
func steady(t testing.TB, d *Driver) belongings {
	t.Helper()
	last, same := lookAtForks(t, d), 0
	for deadline := time.Now().Add(patience); same < 10 && time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		if now := lookAtForks(t, d); now == last {
			same++
		} else {
			last, same = now, 0
		}
	}
	return last
}

// settled waits until what there is is what there was: zombies are reaped by a template's pid 1 in its own time.
func settled(t testing.TB, d *Driver, want belongings) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; <-time.After(5 * time.Millisecond) {
		got := lookAtForks(t, d)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("before %+v, after %+v", want, got)
		}
	}
}

func TestNothingIsLeftAfterAThousandForks(t *testing.T) {
	needRoot(t)
	d := open(t)
	warm, err := d.startTemplate(t.Context(), specOf(t, hello("python3.11", ""))) // the helper stays for all
	if err != nil {
		t.Fatal(err)
	}
	if err := warm.Close(); err != nil {
		t.Fatal(err)
	}
	none := steady(t, d)
	p := park(t, d, specOf(t, hello("python3.11", "open('/tmp/x', 'w').write('x')")))
	fork := func() error {
		c, err := forkOne(context.Background(), p)
		if err != nil {
			return err
		}
		if _, err := c.conn.Invoke(context.Background(), &runtimes.Event{RequestID: "r", Payload: []byte("1")}); err != nil {
			return err
		}
		return c.Close()
	}
	if err := fork(); err != nil {
		t.Fatal(err)
	}
	one := steady(t, d)
	var group errgroup.Group
	group.SetLimit(4)
	for range 1000 {
		group.Go(fork)
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	settled(t, d, one)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	settled(t, d, none)
}

// The environments of a template live on when it is closed, and the last one takes with it what was left.
func TestEnvironmentsOutliveTheirTemplate(t *testing.T) {
	needRoot(t)
	d := open(t)
	p := park(t, d, specOf(t, about["python"]))
	a, b := mustFork(t, p, "AWS_LAMBDA_LOG_STREAM_NAME=a"), mustFork(t, p, "AWS_LAMBDA_LOG_STREAM_NAME=b")
	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Fork(within(t), &sandbox.ForkSpec{MemoryMB: 128, TmpMB: 16}); !errors.Is(err, ErrEnded) {
		t.Errorf("fork of a closed template: %v", err)
	}
	if _, err := p.Hazards(); !errors.Is(err, ErrEnded) {
		t.Errorf("hazards of a closed template: %v", err)
	}
	a.invoke(t, `"x"`)
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	b.invoke(t, `"x"`)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if names, err := d.groups.names(); err != nil || len(names) != 0 {
		t.Errorf("cgroups %v, %v", names, err)
	}
}

func TestAFailureAtAnyStepOfAForkLeavesNothing(t *testing.T) {
	needRoot(t)
	d := open(t)
	boom := errors.New("boom")
	for _, runtime := range []string{"python3.11", "nodejs20.x", "ruby3.2"} {
		p := park(t, d, specOf(t, hello(runtime, "")))
		if err := mustFork(t, p).Close(); err != nil {
			t.Fatal(err)
		}
		before := steady(t, d)
		for failing := StepForkThaw; failing < endForkSteps; failing++ {
			t.Run(runtime+" "+failing.String(), func(t *testing.T) {
				d.fail = func(s Step) error {
					if s == failing {
						return boom
					}
					return nil
				}
				c, err := forkOne(within(t), p)
				d.fail = nil
				if err == nil {
					c.Close()
					t.Fatal("forked")
				}
				if se, ok := errors.AsType[*StepError](err); !ok || se.Step != failing || !errors.Is(err, boom) && !errors.Is(err, syscall.EIO) {
					t.Errorf("got %v", err)
				}
				settled(t, d, before)
				after := mustFork(t, p) // the template is none the worse
				after.invoke(t, "1")
				if err := after.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The template's runtime, or its pid 1 and with it every process below, is killed right before each step. No fork hangs; what comes of
// it is an environment that works or an error, and nothing is left.
func TestKillingATemplateAtAnyStep(t *testing.T) {
	needRoot(t)
	d := open(t)
	warm := park(t, d, specOf(t, hello("python3.11", "")))
	if err := warm.Close(); err != nil {
		t.Fatal(err)
	}
	before := steady(t, d)
	for _, victim := range []string{"runtime", "pid 1", "close"} {
		for step := StepForkThaw; step <= StepForkVerify; step++ {
			t.Run(victim+" "+step.String(), func(t *testing.T) {
				p := park(t, d, specOf(t, hello("python3.11", "")))
				var once atomic.Bool
				closed := make(chan struct{})
				d.fail = func(s Step) error {
					if s != step || !once.CompareAndSwap(false, true) {
						return nil
					}
					switch victim {
					case "runtime":
						unix.Kill(p.runtime, unix.SIGKILL)
						p.shim.group.setFrozen(false)
					case "pid 1":
						unix.Kill(p.shim.pid, unix.SIGKILL)
						p.shim.group.setFrozen(false)
					default:
						go func() { p.Close(); close(closed) }()
					}
					return nil
				}
				c, err := forkOne(within(t), p)
				d.fail = nil
				if errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("hung: %v", err)
				}
				if err == nil && victim != "pid 1" {
					c.invoke(t, "1")
				}
				if err == nil {
					if err := c.Close(); err != nil {
						t.Error(err)
					}
				}
				if victim == "close" {
					<-closed
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
				settled(t, d, before)
			})
		}
	}
}

// A request that the template never takes ends with its context.
func TestForkOfAStoppedTemplateEndsWithItsContext(t *testing.T) {
	needRoot(t)
	d := open(t)
	p := park(t, d, specOf(t, hello("python3.11", "")))
	mustFork(t, p)
	before := steady(t, d)
	unix.Kill(p.runtime, unix.SIGSTOP)
	ctx, cancel := context.WithCancel(t.Context())
	d.fail = func(s Step) error {
		if s == StepForkHere {
			cancel()
		}
		return nil
	}
	_, err := p.Fork(ctx, &sandbox.ForkSpec{MemoryMB: 128, TmpMB: 16})
	d.fail = nil
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	unix.Kill(p.runtime, unix.SIGCONT)
	settled(t, d, before)
	mustFork(t, p).invoke(t, "1")
}

// The process that this test starts again as itself forks environments and is killed: a later driver of the instance finds nothing alive.
func TestSweepAfterACrashWithTemplates(t *testing.T) {
	needRoot(t)
	if instance := os.Getenv(crashEnv); instance != "" {
		crashWithTemplates(t, instance)
	}
	const instance = "tforkcrash"
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestSweepAfterACrashWithTemplates$")
	cmd.Env = append(os.Environ(), crashEnv+"="+instance, "THAW_TEST_CRASH_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for sc := bufio.NewScanner(out); sc.Scan() && sc.Text() != "crash me"; {
		var pid int
		if _, err := fmt.Sscanf(sc.Text(), "pid %d", &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	if len(pids) < 8 {
		t.Fatalf("the crashed process reported %v", pids)
	}
	d := open(t, func(c *Config) { c.Instance, c.Dir = instance, dir })
	if names, err := d.groups.names(); err != nil || len(names) != 0 {
		t.Errorf("cgroups %v, %v", names, err)
	}
	for _, pid := range pids {
		for deadline := time.Now().Add(patience); ; <-time.After(time.Millisecond) {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if len(b) == 0 || strings.Contains(string(b), "State:\tZ") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("process %d lives:\n%s", pid, b)
			}
		}
	}
}

func crashWithTemplates(t *testing.T, instance string) {
	d, err := New(t.Context(), Config{Instance: instance, Dir: os.Getenv("THAW_TEST_CRASH_DIR"), Network: sandbox.NetworkNone})
	if err != nil {
		t.Fatal(err)
	}
	p := park(t, d, specOf(t, hello("python3.11", "")))
	tell := func(g group) {
		pids, _ := g.pids()
		for _, pid := range pids {
			fmt.Println("pid", pid)
		}
	}
	for i := range 3 {
		c, err := forkOne(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		tell(c.Process.(*forked).shim.group)
		if i > 0 {
			c.Freeze()
		}
	}
	tell(p.shim.group)
	tell(p.reaper)
	fmt.Println("pid", d.forking.helper.pid)
	fmt.Println("crash me")
	select {}
}

// What each of many environments, forked at once, writes to a file that init holds open stays with it.
func TestFilesThatInitHoldsStayApart(t *testing.T) {
	needRoot(t)
	d := open(t)
	for _, f := range []function{
		{runtime: "python3.11", handler: "app.handler", files: map[string]string{"app.py": "import os\nheld = open('/tmp/held', 'a')\ndef handler(event, context):\n    held.write('x'); held.flush()\n    return os.path.getsize('/tmp/held')\n"}},
		{runtime: "nodejs20.x", handler: "app.handler", files: map[string]string{"app.js": "const fs = require('fs'), held = fs.openSync('/tmp/held', 'a');\nexports.handler = async () => { fs.writeSync(held, 'x'); return fs.statSync('/tmp/held').size; };"}},
		{runtime: "ruby3.2", handler: "app.handler", files: map[string]string{"app.rb": "$held = File.open('/tmp/held', 'a')\ndef handler(event:, context:)\n  $held.syswrite('x')\n  File.size('/tmp/held')\nend"}},
	} {
		p := park(t, d, specOf(t, f))
		var group errgroup.Group
		group.SetLimit(4)
		for range 60 {
			group.Go(func() error {
				c, err := forkOne(context.Background(), p)
				if err != nil {
					return err
				}
				size, err := c.conn.Invoke(context.Background(), &runtimes.Event{RequestID: "r", Payload: []byte("1")})
				if err == nil && string(size) != "1" {
					err = fmt.Errorf("the file has %s bytes", size)
				}
				return errors.Join(err, c.Close())
			})
		}
		if err := group.Wait(); err != nil {
			t.Errorf("%s: %v", f.runtime, err)
		}
	}
}
