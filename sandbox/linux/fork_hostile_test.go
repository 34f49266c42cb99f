package linux

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"thaw/runtimes"
	"thaw/sandbox"
)

// double is user code that takes its template's place: it speaks for the bootstrap on the channel, and answers each request for a
// fork itself, in Python and by the book but for what a test puts into the functions at its beginning.
const double = `
import array, ctypes, os, select, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def must(r):
    if r < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return r
EVERY = 0x10000000 | 0x20000 | 0x8000000 | 0x4000000 | 0x20000000
def unshare(flags=EVERY): must(libc.syscall(272, ctypes.c_long(flags)))
def send(s, kind, fds=()):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
    s.sendmsg([struct.pack('=BBHi', ord(kind), 0, 0, 0)], rights)
def receive(s, size=1 << 19):
    data, ancillary, _, _ = s.recvmsg(size, socket.CMSG_SPACE(16))
    fds = array.array('i')
    for level, kind, body in ancillary:
        fds.frombytes(body[:len(body) // 4 * 4])
    return data, list(fds)
def frame(s, kind, meta=b'', body=b''): s.sendall(kind + struct.pack('>II', len(meta), len(body)) + meta + body)
def drop_capabilities():
    for cap in range(64): libc.prctl(24, cap, 0, 0, 0)
    must(libc.syscall(126, struct.pack('=Ii', 0x20080522, 0), bytes(24)))
def install(program):
    buffer = ctypes.create_string_buffer(program, len(program))
    must(libc.syscall(317, ctypes.c_long(1), ctypes.c_long(0), struct.pack('=HxxxxxxQ', len(program) // 8, ctypes.addressof(buffer))))

def before_here(control): pass
def before_first(control): pass
def in_first(control): pass
def after_first(control): pass
def in_runtime(channel): pass
def confine(uid, gid, program):
    os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid)
    drop_capabilities()
    install(program)
def serve(channel):
    frame(channel, b'R', b'%d' % (time.time_ns() // 1000))
    while channel.recv(1 << 16): frame(channel, b'S', b'application/json', b'"double"')
def here(control): send(control, 'H')
def go(control):
    here(control)
    unshare()
    send(control, 'U')
    return receive(control)
def run_runtime(channel):
    in_runtime(channel)
    head = b''
    while len(head) < 20: head += channel.recv(20 - len(head))
    _, _, _, uid, gid, filter, variables = struct.unpack('=BBHIIII', head)
    rest = b''
    while len(rest) < filter + variables: rest += channel.recv(1 << 16)
    confine(uid, gid, rest[:filter])
    libc.prctl(4, 1, 0, 0, 0)
    send(channel, 'S')
    serve(channel)
    os._exit(0)
def become_first(control, program, uid, gid):
    os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid)
    os.dup2(control.fileno(), 3)
    args = (ctypes.c_char_p * 3)(b'thaw-init', b'reaper', None)
    must(libc.syscall(322, ctypes.c_long(program), b'', args, (ctypes.c_char_p * 1)(None), ctypes.c_long(0x1000)))
def intermediate(control):
    before_here(control)
    message, fds = go(control)
    _, _, _, uid, gid = struct.unpack('=BBHII', message)
    program, output, channel = fds
    unshare(0x2000000)
    before_first(control)
    if os.fork() == 0:
        in_first(control)
        if os.fork() == 0: run_runtime(socket.socket(fileno=channel))
        os.set_inheritable(program, True)
        become_first(control, program, uid, gid)
    after_first(control)
    os._exit(0)
def answer(control):
    child = os.fork()
    if child == 0:
        os.dup2(control.fileno(), 3) # the bootstrap has closed it in this process
        try: intermediate(control)
        except BaseException: import traceback; print('failed', traceback.format_exc(), flush=True)
        os._exit(1)
    os.waitpid(child, 0)
def meanwhile(): pass
#LIE
host = socket.socket(fileno=os.dup(3))
frame(host, b'R', b'%d' % (time.time_ns() // 1000))
host.recv(9)
frame(host, b'P')
kept = []
while True:
    meanwhile()
    data, fds = receive(host, 1)
    if not data: os._exit(0)
    try: answer(socket.socket(fileno=fds[0]))
    except BaseException: import traceback; print('failed', traceback.format_exc(), flush=True)
`

// lies are what a double does otherwise. works: the fork is one all the same, and lives.
var lies = []struct {
	name, code string
	works      bool
}{
	{"by the book", "", true},
	{"descriptors with every answer", `
plain = send
def send(s, kind, fds=()): plain(s, kind, [0, 1, 2])
`, true},
	{"pid 1 outside the cgroup", `
early = []
def go(control):
    unshare()
    r, w = os.pipe()
    heard, tell = os.pipe()
    if os.fork() == 0:
        os.read(r, 1)
        message, fds = receive(control)
        os.write(tell, b'x')
        _, _, _, uid, gid = struct.unpack('=BBHII', message)
        if os.fork() == 0: run_runtime(socket.socket(fileno=fds[2]))
        os.set_inheritable(fds[0], True)
        become_first(control, fds[0], uid, gid)
    send(control, 'H'); send(control, 'U')
    os.write(w, b'x')
    os.read(heard, 1)
    os._exit(0)
`, false},
	{"a runtime in namespaces of its own, with the template's files", `
def in_runtime(channel):
    os.setresgid(990, 990, 990); os.setresuid(993, 993, 993)
    unshare()
def confine(uid, gid, program):
    drop_capabilities(); install(program)
`, false},
	{"a runtime with capabilities", `
def confine(uid, gid, program):
    libc.prctl(8, 1, 0, 0, 0)
    os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid)
    install(program)
`, false},
	{"a runtime without the last filter", `
def install(program): pass
`, false},
	{"a runtime that is pid 1's user", `
def confine(uid, gid, program):
    os.setresgid(989, 989, 989); os.setresuid(992, 992, 992)
    drop_capabilities(); install(program)
`, false},
	{"a further process with capabilities", `
def in_first(control):
    if os.fork() == 0:
        while True: time.sleep(1000)
`, false},
	{"a further process outside the pid namespace", `
def after_first(control):
    while True: time.sleep(1000)
`, false},
	{"pid 1 that is code of the user's", `
def become_first(control, program, uid, gid):
    send(control, 'R')
    receive(control)
    send(control, 'S')
    while True: time.sleep(1000)
`, false},
	{"the intermediate as pid 1", `
def before_first(control):
    send(control, 'R')
    receive(control)
    send(control, 'S')
`, false},
	{"no answer", "def answer(control): kept.append(control)\n", false},
	{"no requests taken", "def meanwhile(): time.sleep(1000)\n", false},
	{"silence after the first word", "def go(control):\n    send(control, 'H')\n    time.sleep(1000)\n", false},
	{"silence after the second word", "def before_first(control): time.sleep(1000)\n", false},
	{"silence of pid 1", "def become_first(*_): time.sleep(1000)\n", false},
	{"silence of the runtime", "def confine(*_): time.sleep(1000)\n", false},
	{"an end after the first word", "def go(control):\n    send(control, 'H')\n    os._exit(0)\n", false},
	{"an end after the second word", "def before_first(control): os._exit(0)\n", false},
	{"an end of pid 1", "def become_first(*_): os._exit(0)\n", false},
	{"an end of the runtime", "def confine(*_): os._exit(0)\n", false},
	{endOfDouble, "def here(control):\n    send(control, 'H')\n    os.kill(os.getppid(), 9)\n", false},
	{"words without end", `
def here(control):
    control.setblocking(False)
    for _ in range(10000):
        try: send(control, 'H')
        except BlockingIOError: time.sleep(0.001)
        except OSError: os._exit(0)
`, false},
	{"words that are none", "def here(control): control.send(b'x' * 1000)\n", false},
	{"an empty word", "def here(control): control.send(b'')\n", false},
	{"a failure of an unknown step", "def here(control): control.send(struct.pack('=BBHi', ord('F'), 200, 0, 1))\n", false},
	{"a wrong word", "def here(control): send(control, 'R')\n", false},
}

// endOfDouble ends the double and leaves its intermediate, which may come to an environment that is as it should be.
const endOfDouble = "an end of the double"

// A fork is what it should be or it fails, in bounded time, and nothing of it is left, whatever the template answers.
func TestTemplatesThatLie(t *testing.T) {
	needRoot(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("the script has the system call numbers of amd64")
	}
	d := open(t)
	d.forkLimit = 2 * time.Second
	bystander := mustFork(t, park(t, d, specOf(t, hello("python3.11", ""))))
	before := steady(t, d)
	for _, lie := range lies {
		t.Run(lie.name, func(t *testing.T) {
			p := initialise(t, d, specOf(t, hello("python3.11", strings.Replace(double, "#LIE", lie.code, 1))))
			if err := p.conn.Park(within(t)); err != nil {
				t.Fatal(err)
			}
			if err := p.Park(); err != nil && lie.works {
				t.Fatal(err)
			}
			for range 2 {
				c, err := forkOne(within(t), p)
				switch {
				case err != nil && lie.works:
					t.Errorf("failed: %v", err)
				case err == nil && !lie.works && lie.name != endOfDouble:
					t.Errorf("forked")
				case err != nil:
					t.Log(err)
				}
				if err == nil {
					if lie.works {
						c.conn.Invoke(within(t), &runtimes.Event{RequestID: "r", Payload: []byte("1")}) //nolint:errcheck // that it ends is enough
					}
					if err := c.Close(); err != nil {
						t.Error(err)
					}
				}
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			if t.Failed() {
				t.Log(p.log())
			}
			settled(t, d, before)
			bystander.invoke(t, "1")
		})
	}
}

// A template that takes no requests holds up nobody for longer than a fork may take, once its channel is full as well.
func TestManyForksOfATemplateThatTakesNone(t *testing.T) {
	needRoot(t)
	d := open(t)
	d.forkLimit = 100 * time.Millisecond
	p := park(t, d, specOf(t, hello("python3.11", "")))
	mustFork(t, p)
	unix.Kill(p.runtime, unix.SIGSTOP)
	fill(t, p.channel)
	if _, err := p.Fork(within(t), &sandbox.ForkSpec{MemoryMB: 128, TmpMB: 16}); err == nil || t.Context().Err() != nil {
		t.Errorf("got %v", err)
	}
	if got := wait(t, p); got.Signal != "killed" {
		t.Errorf("the template ended with %+v", got)
	}
}

// fill writes to a connection until it takes no more.
func fill(t *testing.T, c *net.UnixConn) {
	t.Helper()
	c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for range 1 << 20 {
		if _, err := c.Write(make([]byte, 1)); err != nil {
			return
		}
	}
	t.Fatal(fmt.Errorf("the channel takes everything"))
}

// What a before-snapshot hook leaves running is found as what init leaves is.
func TestHazardsOfHooks(t *testing.T) {
	needRoot(t)
	d := open(t)
	for code, want := range map[string]string{
		"threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()": "1 thread is running after init (python3*)",
		"subprocess.Popen(['sleep', '1000'])":                                    "init left the process *", // it may not run its program yet
		"held.append(open('/tmp/x', 'w'))":                                       "init keeps /tmp/x open for writing",
	} {
		f := hello("python3.11", "")
		f.files["app.py"] = "import subprocess, threading, time\nfrom snapshot_restore_py import register_before_snapshot\nheld = []\n@register_before_snapshot\ndef hook():\n    " + code + "\ndef handler(event, context): pass\n"
		p := initialise(t, d, specOf(t, f))
		if err := p.conn.Park(within(t)); err != nil {
			t.Fatal(err)
		}
		if got, err := p.Hazards(); err != nil || len(got) != 1 || !matches(got[0], want) {
			t.Errorf("%s: %q, %v, want %q", code, got, err, want)
		}
	}
}
