package linux

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"thaw/sandbox"
)

func TestMemoryBomb(t *testing.T) {
	needRoot(t)
	d := open(t)
	spec := python("b = []\nwhile True: b.append(b'x' * (1 << 20))")
	spec.MemoryMB = 64
	p := start(t, d, spec)
	out := collect(p)
	exit := wait(t, p)
	if exit.Signal != "killed" || !p.OOMKilled() {
		t.Errorf("exit %+v, OOMKilled %v: %s", exit, p.OOMKilled(), out())
	}
	if peak := p.MemoryPeak(); peak > 64<<20 || peak < 60<<20 {
		t.Errorf("peak %d", peak)
	}
	p.Close()
	if !p.OOMKilled() || p.MemoryPeak() == 0 {
		t.Error("what the cgroup said is forgotten after Close")
	}
}

func TestMemoryOfAChildIsBoundedAsWell(t *testing.T) {
	needRoot(t)
	d := open(t)
	spec := python(`
import os
pid = os.fork()
if pid == 0:
    b = []
    while True: b.append(b'x' * (1 << 20))
print(os.waitpid(pid, 0)[1])`)
	spec.MemoryMB = 64
	p := start(t, d, spec)
	out := collect(p)
	if exit := wait(t, p); exit != (sandbox.ExitStatus{}) || strings.TrimSpace(out()) != "9" || !p.OOMKilled() {
		t.Errorf("exit %+v, OOMKilled %v: %s", exit, p.OOMKilled(), out())
	}
}

func TestForkBomb(t *testing.T) {
	needRoot(t)
	d := open(t)
	spec := python(`
import os, time
n = 0
try:
    while n < 5000:
        if os.fork() == 0:
            time.sleep(10000)
        n += 1
except OSError as e:
    print(n, e.errno, flush=True)
time.sleep(10000)`)
	spec.MemoryMB = 2048
	p := start(t, d, spec)
	b := make([]byte, 64)
	n, err := p.Output().Read(b)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(b[:n]))
	if forks, _ := strconv.Atoi(got[0]); forks != 1023 || got[1] != strconv.Itoa(int(syscall.EAGAIN)) {
		t.Errorf("%q, want 1023 forks", got)
	}
	pids, err := p.(*process).shim.group.pids()
	if err != nil || len(pids) < 1024 {
		t.Fatalf("%d processes, %v", len(pids), err)
	}
	p.Kill()
	wait(t, p)
	for _, pid := range pids {
		if err := unix.Kill(pid, 0); err != unix.ESRCH {
			t.Fatalf("process %d is left: %v", pid, err)
		}
	}
}

func TestTmpIsBounded(t *testing.T) {
	needRoot(t)
	d := open(t)
	spec := python(`
import errno, os
n = 0
try:
    with open('/tmp/f', 'wb', buffering=0) as f:
        while True: n += f.write(b'x' * 65536)
except OSError as e:
    print(n, errno.errorcode[e.errno])
os.unlink('/tmp/f')
n = 0
try:
    while True:
        open('/tmp/%d' % n, 'w').close(); n += 1
except OSError as e:
    print(errno.errorcode[e.errno])
`)
	spec.TmpMB = 8
	out, exit := outcome(t, d, spec)
	if got := lines(out); exit != (sandbox.ExitStatus{}) || len(got) != 2 || !strings.HasSuffix(got[0], " ENOSPC") || got[1] != "ENOSPC" {
		t.Fatalf("%+v: %s", exit, out)
	}
	if n, _ := strconv.Atoi(strings.Fields(out)[0]); n > 8<<20 || n < 7<<20 {
		t.Errorf("%d bytes fitted into 8 MB", n)
	}
}

// stubborn leaves daemons in sessions of their own that ignore signals, and says so.
const stubborn = `
import os, signal, time
for i in range(5):
    if os.fork() == 0:
        os.setsid()
        for s in range(1, 65):
            try: signal.signal(s, signal.SIG_IGN)
            except (OSError, ValueError): pass
        if os.fork() == 0:
            while True: time.sleep(0.001)
        os._exit(0)
print('up', flush=True)
while True: time.sleep(0.001)
`

func TestKillLeavesNothingRunning(t *testing.T) {
	needRoot(t)
	for _, frozen := range []bool{false, true} {
		t.Run("frozen="+strconv.FormatBool(frozen), func(t *testing.T) {
			d := open(t)
			p := start(t, d, python(stubborn))
			if b := make([]byte, 2); readFull(p, b) != nil {
				t.Fatal("not up")
			}
			pids, err := p.(*process).shim.group.pids()
			if err != nil || len(pids) < 7 {
				t.Fatalf("%v %v", pids, err)
			}
			if frozen {
				if err := p.Freeze(); err != nil {
					t.Fatal(err)
				}
			}
			p.Kill()
			if got := wait(t, p); got.Signal != "killed" {
				t.Errorf("exit %+v", got)
			}
			for _, pid := range pids {
				if err := unix.Kill(pid, 0); err != unix.ESRCH {
					t.Errorf("process %d: %v", pid, err)
				}
			}
			if err := p.Freeze(); !errors.Is(err, ErrEnded) {
				t.Errorf("freeze after kill: %v", err)
			}
		})
	}
}

func TestFreezeStopsEverything(t *testing.T) {
	needRoot(t)
	d := open(t)
	p := start(t, d, python(`
import os, sys, time
if os.fork() == 0: os.setsid()
while True: os.write(1, b'x'); time.sleep(0.0005)`))
	one := make([]byte, 1)
	if err := readFull(p, one); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := errors.Join(p.Freeze(), p.Freeze()); err != nil {
			t.Fatal(err)
		}
		drain(t, p)
		// Frozen means frozen: nothing arrives although the pipe has room.
		p.Output().SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		if n, err := p.Output().Read(one); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read %d bytes of a frozen sandbox: %v", n, err)
		}
		p.Output().SetReadDeadline(time.Time{})
		if err := errors.Join(p.Thaw(), p.Thaw()); err != nil {
			t.Fatal(err)
		}
		if err := readFull(p, one); err != nil {
			t.Fatal(err)
		}
	}
}

// drain reads what is in the pipe.
func drain(t *testing.T, p sandbox.Process) {
	t.Helper()
	raw, err := p.Output().SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	raw.Control(func(fd uintptr) {
		for {
			if n, _ := unix.Read(int(fd), b); n <= 0 {
				return
			}
		}
	})
}

func TestCPUShare(t *testing.T) {
	for _, c := range []struct{ memory, quota int }{{128, 1447}, {1769, 20000}, {3538, 40000}, {10240, 115771}, {1, minQuota}} {
		if got := cpuQuota(c.memory); got != c.quota {
			t.Errorf("%d MB: %d µs, want %d", c.memory, got, c.quota)
		}
	}
}

// The kernel itself counts how often a group was throttled.
func TestLimitCPUThrottlesOnlyWhenAsked(t *testing.T) {
	needRoot(t)
	d := open(t)
	spec := python(`
import sys, time
print('up', flush=True)
sys.stdin.close()
while True: pass`)
	spec.MemoryMB = 128
	p := start(t, d, spec)
	if err := readFull(p, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	stat := throttleFile(p)
	if n := field(stat, "nr_throttled"); n != 0 {
		t.Errorf("throttled %d times before LimitCPU", n)
	}
	if err := p.LimitCPU(); err != nil {
		t.Fatal(err)
	}
	if !eventually(func() bool { return field(stat, "nr_throttled") > 0 }) {
		t.Fatal("never throttled")
	}
}

func throttleFile(p sandbox.Process) string {
	switch g := p.(*process).shim.group.(type) {
	case *legacyGroup:
		return g.cpu + "/cpu.stat"
	case *unifiedGroup:
		return g.dir + "/cpu.stat"
	}
	return ""
}
