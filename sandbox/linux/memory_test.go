package linux

import (
	"io"
	"os"
	"testing"
	"time"

	"thaw/sandbox"
)

// hoarders is what the scripts about memory share: both take MB.
const hoarders = `
import errno, mmap, os, socket, time
def fill(path, mb):
    n = 0
    try:
        with open(path, 'ab', buffering=0) as f:
            while n < mb << 20: n += f.write(b'x' * (1 << 20))
    except OSError as e:
        print(errno.errorcode[e.errno], flush=True)
def hold(mb):
    return [bytearray(b'x') * (1 << 20) for _ in range(mb)]
`

func TestTmpDoesNotCountAsMemory(t *testing.T) {
	needRoot(t)
	d := open(t)
	for name, script := range map[string]string{
		"written":         "fill('/tmp/f', 1000)",
		"with memory":     "keep = hold(40); fill('/tmp/f', 1000)",
		"memory after":    "fill('/tmp/f', 1000); keep = hold(40)",
		"again and again": "for i in range(3): fill('/tmp/f', 100); os.unlink('/tmp/f')\nfill('/tmp/f', 1000)",
		"many files": `
try:
    for i in range(1 << 20): open('/tmp/%d' % i, 'w').close()
except OSError as e: print(errno.errorcode[e.errno])`,
		"mapped": `
f = open('/tmp/f', 'w+b'); f.truncate(290 << 20)
m = mmap.mmap(f.fileno(), 0)
for i in range(0, 290 << 20, 4096): m[i] = 1
fill('/tmp/g', 1000)`,
	} {
		t.Run(name, func(t *testing.T) {
			spec := python(hoarders + script)
			spec.MemoryMB, spec.TmpMB = 64, 300
			p := start(t, d, spec)
			out := collect(p)
			if exit := wait(t, p); exit != (sandbox.ExitStatus{}) || p.OOMKilled() || out() != "ENOSPC\n" {
				t.Errorf("exit %+v, OOMKilled %v: %q", exit, p.OOMKilled(), out())
			}
			if peak := p.MemoryPeak(); peak > 64<<20 || peak < 5<<20 {
				t.Errorf("peak %d", peak)
			}
		})
	}
}

func TestPeakLeavesOutTmp(t *testing.T) {
	needRoot(t)
	d := open(t)
	spec := python(hoarders + "fill('/tmp/f', 200); print('x', flush=True); time.sleep(1000)")
	spec.MemoryMB, spec.TmpMB = 256, 300
	p := start(t, d, spec)
	if err := readFull(p, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if peak := p.MemoryPeak(); peak > 64<<20 || peak < 5<<20 {
		t.Errorf("peak %d", peak)
	}
}

// Whatever is not in /tmp is memory, also when /tmp holds a lot or has held it.
func TestMemoryOutsideTmpIsBounded(t *testing.T) {
	needRoot(t)
	d := open(t)
	for name, script := range map[string]string{
		"beside a full tmp": "fill('/tmp/f', 1000); keep = hold(1000)",
		"after a full tmp":  "fill('/tmp/f', 1000); os.unlink('/tmp/f'); keep = hold(1000)",
		"in place of tmp":   "fill('/tmp/f', 250); os.unlink('/tmp/f'); keep = hold(150); time.sleep(1000)",
		"piece by piece": `
fill('/tmp/f', 250)
keep = []
for i in range(250, 0, -2): os.truncate('/tmp/f', i << 20); keep += hold(2)
time.sleep(1000)`,
		"memfd":   "f = os.memfd_create('x'); fill('/proc/self/fd/%d' % f, 1000)",
		"dev shm": "fill('/dev/shm/f', 60); keep = hold(1000)",
		"shared": `
m = mmap.mmap(-1, 290 << 20)
for i in range(0, 290 << 20, 4096): m[i] = 1
time.sleep(1000)`,
		"system V": `
import ctypes
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
a = libc.shmat(libc.shmget(0, 290 << 20, 0o1600), None, 0)
for i in range(0, 290 << 20, 4096): ctypes.memset(a + i, 1, 1)
time.sleep(1000)`,
		"socket buffers": `
keep = []
for i in range(400):
    a, b = socket.socketpair(); a.setblocking(False); keep += [a, b]
    try:
        while True: a.send(b'x' * 65536)
    except OSError: pass
time.sleep(1000)`,
	} {
		t.Run(name, func(t *testing.T) {
			spec := python(hoarders + script)
			spec.MemoryMB, spec.TmpMB = 64, 300
			p := start(t, d, spec)
			out := collect(p)
			if exit := wait(t, p); exit.Signal != "killed" || !p.OOMKilled() {
				t.Errorf("exit %+v, OOMKilled %v: %s", exit, p.OOMKilled(), out())
			}
			if peak := p.MemoryPeak(); peak > 64<<20 || peak < 30<<20 {
				t.Errorf("peak %d", peak)
			}
		})
	}
}

// A sandbox that is thawed for moments only is looked at when it is frozen.
func TestMemoryIsBoundedAcrossFreezes(t *testing.T) {
	needRoot(t)
	d := open(t)
	spec := python(hoarders + `
fill('/tmp/f', 250); os.unlink('/tmp/f')
keep = []
while True: os.write(1, b'x'); keep += hold(1)`)
	spec.MemoryMB, spec.TmpMB = 64, 300
	p := start(t, d, spec)
	guard := p.(*process).guard
	for ended := false; !ended; {
		if _, err := io.ReadFull(p.Output(), make([]byte, 1)); err != nil {
			break
		}
		if p.Freeze() != nil {
			break
		}
		if used := guard.outsideTmp(); used > 96<<20 {
			t.Fatalf("%d bytes in use, %d allowed", used, guard.bound)
		}
		drain(t, p)
		ended = p.Thaw() != nil
	}
	if exit := wait(t, p); exit.Signal != "killed" || !p.OOMKilled() {
		t.Errorf("exit %+v, OOMKilled %v", exit, p.OOMKilled())
	}
}

// fakeMemory is a group of which only the memory is there. kernel is what reclaimTo gets back beside the file cache.
type fakeMemory struct {
	noGroup
	used, cache, kernel uint64
	limit               int64
}

func (f *fakeMemory) usage() uint64     { return f.used }
func (f *fakeMemory) fileCache() uint64 { return f.cache }
func (f *fakeMemory) limitMemory(b int64) error {
	f.limit = b
	return nil
}

func (f *fakeMemory) reclaimTo(b int64) {
	f.limit = b
	f.used, f.cache, f.kernel = f.used-f.cache-f.kernel, 0, 0
}

func TestMemoryGuard(t *testing.T) {
	tmp, err := os.Open("/proc") // a file system that is always empty
	if err != nil {
		t.Fatal(err)
	}
	defer tmp.Close()
	f := &fakeMemory{}
	m, err := newMemoryGuard(f, tmp, 128, 512)
	if err != nil {
		t.Fatal(err)
	}
	const mb, most = 1 << 20, (128 + 512 + 2 + 128) << 20
	began := time.Now()
	for i, c := range []struct {
		used, cache, kernel uint64 // MB
		cpu                 float64
		at                  time.Duration
		limit               int64
		again               time.Duration
		ok                  bool
	}{
		{used: 64, cpu: 0.5, limit: most, again: 15625 * time.Microsecond, ok: true},
		{used: 64, cpu: 0.03125, limit: most, again: 250 * time.Millisecond, ok: true},
		{used: 1, cpu: 0.01, limit: most, again: maxLook, ok: true},
		{used: 128, cpu: 0.03125, limit: most, again: minLook, ok: true},
		{used: 500, cache: 436, cpu: 0.03125, limit: most, again: 250 * time.Millisecond, ok: true},
		{used: 500, cache: 300, kernel: 136, cpu: 0.03125, limit: most, again: 250 * time.Millisecond, ok: true},
		{used: 129, cpu: 1, limit: 129 * mb, again: minLook, ok: true},
		{used: 129, cpu: 1, at: overtime - 1, limit: 129 * mb, again: minLook, ok: true},
		{used: 129, cpu: 1, at: overtime, limit: 129 * mb, again: minLook},
		{used: 64, cpu: 0.03125, at: overtime, limit: most, again: 250 * time.Millisecond, ok: true},
		{used: 129, cpu: 1, at: overtime + 1, limit: 129 * mb, again: minLook, ok: true},
	} {
		f.used, f.cache, f.kernel, m.cpu = c.used*mb, c.cache*mb, c.kernel*mb, c.cpu
		if ok := m.look(began.Add(c.at)); ok != c.ok || f.limit != c.limit || m.again != c.again {
			t.Errorf("%d: %v, limit %d, again %s; want %v, %d, %s", i, ok, f.limit, m.again, c.ok, c.limit, c.again)
		}
	}
}
