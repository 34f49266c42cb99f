package linux

import (
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"thaw/sandbox"
)

// TestRootless runs the tests below as a user without privilege.
func TestRootless(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("", "rootless")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const uid = 54321
	binary, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "test"), binary, 0o755)
	}
	if err == nil {
		err = errors.Join(os.Mkdir(filepath.Join(dir, "tmp"), 0o755), os.Chown(filepath.Join(dir, "tmp"), uid, uid), os.Chmod(dir, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "test"), "-test.run", "^TestUnprivileged", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Join(dir, "tmp"), "HOME=/nonexistent")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "--- SKIP") {
		t.Errorf("%v\n%s", err, out)
	}
}

func needUnprivileged(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		t.Skip("runs below TestRootless")
	}
}

// Without root nobody enters the network of a sandbox, which is said rather than that telemetry is lost.
func TestUnprivilegedNetwork(t *testing.T) {
	needUnprivileged(t)
	for network, want := range map[sandbox.Network]bool{sandbox.NetworkNone: false, sandbox.NetworkHost: true} {
		d := open(t, func(c *Config) { c.Network = network })
		p := start(t, d, python("import time; time.sleep(60)"))
		dialer, ok := p.(sandbox.Dialer)
		if !ok || dialer.Dials() != want {
			t.Errorf("%v: %t", network, !want)
		}
		if _, err := dialer.DialPort(t.Context(), 1); errors.Is(err, errNoWay) == want {
			t.Errorf("%v: %v", network, err)
		}
	}
}

func TestUnprivilegedView(t *testing.T) {
	needUnprivileged(t)
	d := open(t)
	spec := python(`
import os, urllib.request
print(os.getuid(), os.getgid(), os.getpid(), sorted(p for p in os.listdir('/proc') if p.isdigit()))
print([l for l in open('/proc/self/status') if l.startswith(('CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp:'))])
for p in ('/etc/shadow', '/x', '/usr/x', '/proc/sysrq-trigger', '/proc/self/uid_map'):
    try: open(p, 'w'); print('BREACH', p)
    except OSError: pass
open('/tmp/x', 'w').write('y'); open('/dev/null', 'w').write('y')
print(sorted(int(f) for f in os.listdir('/proc/self/fd')))
print(urllib.request.urlopen('http://' + os.environ['AWS_LAMBDA_RUNTIME_API']).read().decode())`)
	spec.RuntimeAPI = true
	p := start(t, d, spec)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "event") })}
	go server.Serve(p.Listener())
	defer server.Close()
	out := collect(p)
	exit := wait(t, p)
	got := lines(out())
	want := []string{"993 990 2 ['2']", `['CapEff:\t0000000000000000\n', 'CapBnd:\t0000000000000000\n', 'NoNewPrivs:\t1\n', 'Seccomp:\t2\n']`, "[0, 1, 2, 3]", "event"}
	if exit != (sandbox.ExitStatus{}) || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("exit %+v: %s", exit, out())
	}
	if p.MemoryPeak() == 0 {
		t.Error("no memory use known")
	}
}

func TestUnprivilegedFreezeAndKill(t *testing.T) {
	needUnprivileged(t)
	d := open(t)
	p := start(t, d, python(stubborn+"\n"))
	if err := readFull(p, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Freeze(), p.Thaw(), p.Freeze()); err != nil {
		t.Fatal(err)
	}
	state := stateOf(t, childOf(t, p.(*process).shim.pid))
	if d.Limits() == "none" && state != "T" {
		t.Errorf("state %s of a frozen process", state)
	}
	p.Kill()
	if exit := wait(t, p); exit.Signal != "killed" {
		t.Errorf("exit %+v", exit)
	}
}

// stateOf waits for a process to stand still, and gives its state.
func stateOf(t *testing.T, pid int) (state string) {
	t.Helper()
	eventually(func() bool {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		state = rest[:1]
		return state == "T"
	})
	return state
}

func TestUnprivilegedExitStatusAndLeaks(t *testing.T) {
	needUnprivileged(t)
	d := open(t)
	if _, err := d.Start(t.Context(), &sandbox.Spec{Args: []string{"/absent"}, MemoryMB: 128, TmpMB: 16}); !errors.Is(err, sandbox.ErrEntrypoint) {
		t.Errorf("got %v", err)
	}
	before := look(t, d)
	for code := range 5 {
		if out, exit := outcome(t, d, python("import sys; sys.exit("+strconv.Itoa(code)+")")); exit != (sandbox.ExitStatus{Code: code}) {
			t.Errorf("exit %+v: %s", exit, out)
		}
	}
	if after := look(t, d); after.processes != 0 || after.mounts != before.mounts {
		t.Errorf("before %+v, after %+v", before, after)
	}
}
