package linux

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"thaw/sandbox"
)

func TestForkObstacles(t *testing.T) {
	for _, c := range []struct {
		root     bool
		settings map[string]string
		want     string
	}{
		{true, map[string]string{"user/max_user_namespaces": "31000"}, ""},
		{true, nil, ""},
		{false, nil, "forks need root"},
		{true, map[string]string{"user/max_user_namespaces": "0"}, "user.max_user_namespaces is 0"},
		{true, map[string]string{"kernel/unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone is 0"},
		{true, map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "0"}, ""},
		{true, map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "1"}, "AppArmor refuses user namespaces"},
	} {
		err := forkObstacle(c.root, func(name string) string { return c.settings[name] })
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("root %v, %v: %v", c.root, c.settings, err)
		}
	}
}

// A kernel that refuses a template its namespaces is told in words when it is parked, and in the log once.
func TestRefusedForks(t *testing.T) {
	needRoot(t)
	var logged []string
	d := open(t, func(c *Config) {
		c.Logf = func(format string, args ...any) { logged = append(logged, fmt.Sprintf(format, args...)) }
	})
	for _, errno := range []syscall.Errno{unix.EPERM, unix.EACCES, unix.ENOSPC} {
		p := initialise(t, d, specOf(t, hello("python3.11", "")))
		if err := p.conn.Park(within(t)); err != nil {
			t.Fatal(err)
		}
		d.fail = func(s Step) error {
			if s == StepForkUnshare {
				return errno
			}
			return nil
		}
		err := p.Park()
		d.fail = nil
		if !errors.Is(err, sandbox.ErrNoTemplates) || !strings.Contains(err.Error(), "user namespaces") {
			t.Errorf("%v: %v", errno, err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(logged) != 1 || !strings.Contains(logged[0], "cannot be forked here") {
		t.Errorf("logged %q", logged)
	}
}

// A function that denies itself unshare, by a filter of its own, is refused by the kernel.
func TestFunctionThatRefusesItsForks(t *testing.T) {
	needRoot(t)
	d := open(t)
	p := initialise(t, d, specOf(t, hello("python3.11", `
import ctypes, platform, struct
unshare = {'x86_64': 272, 'aarch64': 97}[platform.machine()]
code = b''.join(struct.pack('=HBBI', *i) for i in [(0x20, 0, 0, 0), (0x15, 0, 1, unshare), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7fff0000)])
buffer = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack('=HxxxxxxQ', 4, ctypes.addressof(buffer)))
assert ctypes.CDLL(None).prctl(22, 2, ctypes.byref(program)) == 0
`)))
	if err := p.conn.Park(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := p.Park(); !errors.Is(err, sandbox.ErrNoTemplates) || !strings.Contains(err.Error(), "operation not permitted") {
		t.Errorf("park: %v", err)
	}
}

// Only the kernel's refusal of namespaces is one.
func TestRefusalsAmongFailures(t *testing.T) {
	d := &Driver{root: true, logf: func(string, ...any) {}}
	none := func(string) string { return "" }
	for _, c := range []struct {
		err     error
		refused bool
	}{
		{&StepError{Step: StepForkUnshare, Err: unix.EPERM}, true},
		{&StepError{Step: StepForkUnshare, Err: unix.EIO}, false},
		{&StepError{Step: StepForkMaps, Err: unix.EPERM}, false},
		{unix.EPERM, false},
	} {
		if got := d.refused(c.err, none); errors.Is(got, sandbox.ErrNoTemplates) != c.refused || !c.refused && got != c.err {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

// Timers of init's run in a fork as in an environment that was booted, and not in the template.
func TestTimersOfInit(t *testing.T) {
	needRoot(t)
	d := open(t)
	f := hello("python3.11", "")
	f.files["app.py"] = `
import signal, time
n = 0
def tick(*_):
    global n
    n += 1
    for _ in range(1000): pass
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
signal.setitimer(signal.ITIMER_PROF, 1000, 0)
def handler(event, context):
    seen = n
    while n < seen + 3: time.sleep(0.01)
    return [signal.getitimer(signal.ITIMER_REAL)[1], signal.getitimer(signal.ITIMER_PROF)[0] > 900]
`
	p := park(t, d, specOf(t, f))
	for range 3 {
		if got := mustFork(t, p).invoke(t, "1"); got != "[0.001, true]" {
			t.Errorf("timers %s", got)
		}
	}
}
