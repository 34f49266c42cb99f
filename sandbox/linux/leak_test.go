package linux

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"thaw/sandbox"
)

// machine is what a sandbox could leave behind.
type machine struct {
	processes, mounts, groups, namespaces int
	descriptors                           int
}

// look counts what belongs to this test: its children, its mounts, its descriptors, and the cgroups of its drivers.
func look(t testing.TB, d *Driver) machine {
	t.Helper()
	var m machine
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	spaces := map[string]bool{}
	for _, p := range procs {
		if b, _ := os.ReadFile(p); strings.HasPrefix(string(b), "thaw-init") && isOurs(p) {
			m.processes++
		}
		if ns, err := os.Readlink(filepath.Join(filepath.Dir(p), "ns/mnt")); err == nil && isOurs(p) {
			spaces[ns] = true
		}
	}
	m.namespaces = len(spaces)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	m.mounts = strings.Count(string(mounts), "\n")
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	m.descriptors = len(fds)
	names, err := d.groups.names()
	if err != nil {
		t.Fatal(err)
	}
	m.groups = len(names)
	return m
}

// isOurs says whether this process is the parent.
func isOurs(cmdline string) bool {
	b, _ := os.ReadFile(filepath.Join(filepath.Dir(cmdline), "stat"))
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	return len(f) > 1 && f[1] == fmt.Sprint(os.Getpid())
}

func TestNothingIsLeftAfterManyStarts(t *testing.T) {
	needRoot(t)
	d := open(t, func(c *Config) { c.Spares = 4 })
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { d.Run(ctx) })
	cycle := func() {
		spec := &sandbox.Spec{Args: []string{"/bin/true"}, MemoryMB: 128, TmpMB: 16, Channel: true, RuntimeAPI: true}
		p, err := d.Start(ctx, spec)
		if err != nil {
			t.Error(err)
			return
		}
		io.Copy(io.Discard, p.Output())
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	settle := func() machine {
		if !eventually(func() bool { return len(d.spares) == 4 }) {
			t.Fatal("the spares are not made again")
		}
		return look(t, d)
	}
	cycle()
	before := settle()
	for range 50 {
		var batch sync.WaitGroup
		for range 4 {
			batch.Go(cycle)
		}
		batch.Wait()
	}
	if after := settle(); after != before {
		t.Errorf("before %+v, after %+v", before, after)
	}
	cancel()
	run.Wait()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if m := look(t, d); m.processes != 0 || m.groups != 0 {
		t.Errorf("after Close: %+v", m)
	}
	if _, err := d.Start(t.Context(), python("")); !errors.Is(err, ErrClosed) {
		t.Errorf("start after Close: %v", err)
	}
}

func TestAFailureAtAnyStepLeavesNothing(t *testing.T) {
	needRoot(t)
	d := open(t, func(c *Config) { c.Network = sandbox.NetworkHost })
	spec := python("")
	spec.Channel, spec.RuntimeAPI = true, true
	spec.Mounts = []sandbox.Mount{{Source: t.TempDir(), Target: "/var/task"}}
	warm, err := d.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	warm.Close()
	boom := errors.New("boom")
	var failing Step
	d.fail = func(s Step) error {
		if s == failing {
			return boom
		}
		return nil
	}
	before := look(t, d)
	for failing = StepCgroup; failing < numSteps; failing++ {
		if failing == StepJoin {
			continue // the host's network is not joined; see the test of namespaces
		}
		t.Run(failing.String(), func(t *testing.T) {
			p, err := d.Start(t.Context(), spec)
			if err == nil {
				p.Close()
				t.Fatal("started")
			}
			var se *StepError
			if !errors.As(err, &se) || se.Step != failing || !errors.Is(err, boom) && !errors.Is(err, syscall.EIO) {
				t.Errorf("got %v", err)
			}
			if errors.Is(err, sandbox.ErrEntrypoint) {
				t.Error("taken for a bad command")
			}
			if after := look(t, d); after != before {
				t.Errorf("before %+v, after %+v", before, after)
			}
		})
	}
}

// The process that this test starts again as itself makes sandboxes and is then killed.
const crashEnv = "THAW_TEST_CRASH_INSTANCE"

func TestSweepAfterACrash(t *testing.T) {
	needRoot(t)
	if instance := os.Getenv(crashEnv); instance != "" {
		crash(t, instance)
	}
	const instance = "tcrash"
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestSweepAfterACrash$")
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
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		var pid int
		if _, err := fmt.Sscanf(sc.Text(), "pid %d", &pid); err == nil {
			pids = append(pids, pid)
		}
		if sc.Text() == "crash me" {
			break
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	if len(pids) < 6 {
		t.Fatalf("the crashed process reported %v", pids)
	}
	d := open(t, func(c *Config) { c.Instance, c.Dir = instance, dir })
	if names, err := d.groups.names(); err != nil || len(names) != 0 {
		t.Errorf("cgroups %v, %v", names, err)
	}
	for _, pid := range pids {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if len(b) > 0 && !strings.Contains(string(b), "State:\tZ") {
			t.Errorf("process %d lives:\n%s", pid, b)
		}
	}
	if out, exit := outcome(t, d, python("print('works')")); out != "works\n" {
		t.Errorf("%+v %q", exit, out)
	}
}

func crash(t *testing.T, instance string) {
	d, err := New(t.Context(), Config{Instance: instance, Dir: os.Getenv("THAW_TEST_CRASH_DIR"), Network: sandbox.NetworkNone, Spares: 1})
	if err != nil {
		t.Fatal(err)
	}
	go d.Run(t.Context())
	for i := range 3 {
		p, err := d.Start(t.Context(), python(stubborn))
		if err != nil {
			t.Fatal(err)
		}
		if err := readFull(p, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
		pids, _ := p.(*process).shim.group.pids()
		for _, pid := range pids {
			fmt.Println("pid", pid)
		}
		if i > 0 {
			p.Freeze()
		}
	}
	fmt.Println("crash me")
	select {}
}
