package linux

import (
	"net"
	"slices"
	"strings"
	"testing"

	"thaw/sandbox"
)

// What init does, and what of it is told. The pattern has * for what differs from run to run.
func TestHazards(t *testing.T) {
	needRoot(t)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	address := listener.Addr().String()
	d := open(t, func(c *Config) { c.Network = sandbox.NetworkHost })
	for _, c := range []struct {
		name, runtime, code string
		want                []string
	}{
		{"nothing", "python3.11", "import json, ssl, socket, decimal", nil},
		{"a file read", "python3.11", "f = open('/etc/passwd')", nil},
		{"a file in /tmp", "python3.11", "f = open('/tmp/x', 'w')", []string{"init keeps /tmp/x open for writing"}},
		{"threads", "python3.11", "import threading, time\nfor _ in range(3): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()", []string{"3 threads are running after init (python3*)"}},
		{"a connection", "python3.11", "import socket\ns = socket.create_connection(('127.0.0.1', PORT))", []string{"init opened a TCP connection to 127.0.0.1:PORT"}},
		{"a listener", "python3.11", "import socket\ns = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()", []string{"init listens on TCP port *"}},
		{"a fresh socket", "python3.11", "import socket\ns = socket.socket()", []string{"init holds a socket"}},
		{"udp", "python3.11", "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', 53))", []string{"init opened a UDP connection to 127.0.0.1:53 (dns)"}},
		{"a child", "python3.11", "import subprocess\np = subprocess.Popen(['sleep', '1000'])", []string{"init left the process sleep running"}},
		{"a daemon", "python3.11", "import subprocess\nsubprocess.run(['/bin/sh', '-c', 'sleep 1000 >/dev/null 2>&1 & until grep -q sleep /proc/$!/comm; do :; done'])", []string{"init left the process sleep running"}},
		{"an event loop", "python3.11", "import asyncio\nl = asyncio.new_event_loop()", []string{"init holds an epoll instance (an event loop)", "init holds a Unix socket"}},
		{"a pipe", "python3.11", "import os\np = os.pipe()", []string{"init holds a pipe"}},
		{"shared memory", "python3.11", "import mmap\nm = mmap.mmap(-1, 4096)", []string{"init holds memory that all environments would share (anonymous)"}},
		{"a semaphore", "python3.11", "import multiprocessing\nl = multiprocessing.Lock()", []string{"init holds memory that all environments would share (/dev/shm/*)"}},
		{"a lock", "python3.11", "import fcntl\nf = open('/tmp/lock', 'w'); fcntl.lockf(f, fcntl.LOCK_EX)", []string{"init holds a lock on /tmp/lock", "init keeps /tmp/lock open for writing"}},
		{"a lock on a file that is read", "python3.11", "import fcntl\nf = open('/var/task/app.py'); fcntl.flock(f, fcntl.LOCK_SH)", []string{"init holds a lock on /var/task/app.py"}},
		{"a lock on memory", "python3.11", "import fcntl, os\nf = os.memfd_create('m'); fcntl.lockf(f, fcntl.LOCK_EX)", []string{"init holds a lock on /memfd:m", "init holds memory that all environments would share (/memfd:m)"}},
		{"a native thread", "python3.11", "import ctypes, threading, time\ndef work():\n    ctypes.CDLL(None).prctl(15, b'grpc_global_tim', 0, 0, 0)\n    time.sleep(1000)\nthreading.Thread(target=work, daemon=True).start()", []string{"1 thread is running after init (grpc_global_tim)"}},
		{"a connection over IPv6", "python3.11", "import socket\nl = socket.socket(socket.AF_INET6); l.bind(('::1', 0)); l.listen(); s = socket.create_connection(l.getsockname()[:2])", []string{"init listens on TCP port *", "init opened a TCP connection to [::1]:*"}},
		{"a unix socket", "python3.11", "import socket\nl = socket.socket(socket.AF_UNIX); l.bind('/tmp/s'); l.listen()", []string{"init holds the Unix socket /tmp/s"}},
		{"inotify", "python3.11", "import ctypes\nctypes.CDLL(None).inotify_init()", []string{"init holds an inotify instance (it watches files)"}},
		{"an eventfd", "python3.11", "import os\ne = os.eventfd(0)", []string{"init holds an eventfd"}},
		{"a timerfd", "python3.11", "import ctypes\nctypes.CDLL(None).timerfd_create(1, 0)", []string{"init holds a timerfd"}},
		{"a signalfd", "python3.11", "import ctypes\nctypes.CDLL(None).signalfd(-1, bytes(128), 0)", []string{"init holds a signalfd"}},
		{"a pidfd", "python3.11", "import os\np = os.pidfd_open(os.getpid())", []string{"init holds a pidfd"}},
		{"a namespace", "python3.11", "import os\np = os.open('/proc/self/ns/net', os.O_RDONLY)", []string{"init holds a kernel object (net:*"}},
		{"a posix timer", "python3.11", "import ctypes\nctypes.CDLL(None).timer_create(1, None, ctypes.byref(ctypes.c_void_p()))", []string{"init left a timer (timer_create)"}},
		{"alarms", "python3.11", "import signal\nsignal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)", nil},
		{"a named pipe", "python3.11", "import os\nos.mkfifo('/tmp/p'); p = os.open('/tmp/p', os.O_RDONLY | os.O_NONBLOCK)", []string{"init keeps the named pipe /tmp/p open"}},
		{"a file of /proc", "python3.11", "f = open('/proc/self/status')", []string{"init keeps /proc/*/status open, a file of the kernel's"}},
		{"shared memory that is read", "python3.11", "import mmap\nopen('/tmp/m', 'w').write('x' * 4096)\nwith open('/tmp/m') as f: m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)", []string{"init holds memory that all environments would share (/tmp/m)"}},
		{"shared memory without a name", "python3.11", "import mmap, os\nf = os.memfd_create('m'); os.ftruncate(f, 4096); m = mmap.mmap(f, 4096); os.close(f)", []string{"init holds memory that all environments would share (/memfd:m)"}},
		{"code that is mapped", "python3.11", "import mmap\nwith open('/var/task/app.py') as f: m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)", nil},
		{"a deleted file", "python3.11", "import tempfile\nf = tempfile.TemporaryFile()", []string{"init keeps /tmp/* open for writing, which it has deleted"}},
		{"node: nothing", "nodejs20.x", "require('http'); require('fs').readFile('/etc/passwd', () => {}); require('crypto'); require('dns').lookup('localhost', () => {})", nil},
		{"node: timers", "nodejs20.x", "setInterval(() => {}, 1)", nil},
		{"node: a worker", "nodejs20.x", "const { Worker } = require('worker_threads'); new Worker('setInterval(() => {}, 1000)', { eval: true })", []string{"1 thread is running after init (node)"}},
		{"node: a connection", "nodejs20.x", "exports.s = require('net').connect(PORT, '127.0.0.1'); exports.ready = new Promise((ok) => exports.s.on('connect', ok))", []string{"init opened a TCP connection to 127.0.0.1:PORT"}},
		{"ruby: nothing", "ruby3.2", "require 'json'; require 'openssl'", nil},
		{"ruby: a thread", "ruby3.2", "Thread.new { sleep }", []string{"1 thread is running after init (*)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, port, _ := net.SplitHostPort(address)
			f := hello(c.runtime, strings.ReplaceAll(c.code, "PORT", port))
			p := initialise(t, d, specOf(t, f))
			if strings.Contains(c.code, "connect(PORT") { // Node connects in its own time
				conn, err := listener.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			}
			if err := p.conn.Park(within(t)); err != nil {
				p.Close()
				t.Fatal(err, p.log())
			}
			got, err := p.Hazards()
			if err != nil {
				t.Fatal(err)
			}
			for i := range c.want {
				c.want[i] = strings.ReplaceAll(c.want[i], "PORT", port)
			}
			if !slices.EqualFunc(got, c.want, matches) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func matches(got, pattern string) bool {
	before, after, wild := strings.Cut(pattern, "*")
	if !wild {
		return got == pattern
	}
	return strings.HasPrefix(got, before) && strings.HasSuffix(got, after)
}

// hello is a function of any language that runs the code at init and answers with its event.
func hello(runtime, code string) function {
	switch {
	case strings.HasPrefix(runtime, "python"):
		return function{runtime: runtime, handler: "app.handler", files: map[string]string{"app.py": code + "\ndef handler(event, context):\n    return event\n"}}
	case strings.HasPrefix(runtime, "nodejs"):
		return function{runtime: runtime, handler: "app.handler", files: map[string]string{"app.js": code + "\nexports.handler = async (event) => event;\n"}}
	}
	return function{runtime: runtime, handler: "app.handler", files: map[string]string{"app.rb": code + "\ndef handler(event:, context:)\n  event\nend\n"}}
}

// What no sandbox can make, for its filter, or the kernel does not have yet, is told as well.
func TestDescriptorsInWords(t *testing.T) {
	for link, want := range map[string]string{
		"anon_inode:[io_uring]": "init holds an io_uring", "anon_inode:[userfaultfd]": "init holds a userfaultfd", "anon_inode:[fanotify]": "init holds a fanotify group",
		"anon_inode:bpf-map": "init holds a kernel object (bpf-map)", "socket:[7]": "init holds a socket", "socket:[8]": "told", "pidfd:[9]": "init holds a kernel object (pidfd:[9])",
	} {
		if got := tellObject(link, map[string]string{"8": "told"}); got != want {
			t.Errorf("%s: %q, want %q", link, got, want)
		}
	}
	for line, want := range map[string]string{
		"7f00-7f01 rw-s 00000000 00:01 7 anon_inode:[io_uring]":   "init holds memory that all environments would share (anon_inode:[io_uring])",
		"7f00-7f01 rw-s 00000000 00:01 7 /[aio] (deleted)":        "init holds memory that all environments would share (/[aio])",
		"7f00-7f01 ---s 00000000 00:01 7 /SYSV00000000 (deleted)": "init holds memory that all environments would share (/SYSV00000000)",
		"7f00-7f01 r--s 00000000 fe:00 7 /usr/lib/a b":            "",
		"7f00-7f01 rw-p 00000000 00:00 0 ":                        "",
		"7f00-7f01 rw-s 00000000 00:00 0 /dev/zero (deleted)":     "init holds memory that all environments would share (anonymous)",
	} {
		if got := tellMapping(line); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func TestSocketsInWords(t *testing.T) {
	for _, c := range []struct{ protocol, line, inode, words string }{
		{"tcp", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", "", ""},
		{"tcp", "   0: 0100007F:A1B2 0500000A:1538 01 00000000:00000000 00:00000000 00000000   993        0 4711 1 0000000000000000", "4711", "init opened a TCP connection to 10.0.0.5:5432 (postgres)"},
		{"tcp", "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000   993        0 4712 1 0000000000000000", "4712", "init listens on TCP port 8080"},
		{"tcp6", "   0: 00000000000000000000000001000000:A1B2 0000000000000000FFFF00000500000A:18EB 01 00000000:00000000 00:00000000 00000000   993        0 4713 1 0000000000000000", "4713", "init opened a TCP connection to 10.0.0.5:6379 (redis)"},
		{"tcp6", "   0: 00000000000000000000000001000000:A1B2 00000000000000000000000001000000:18EC 08 00000000:00000000 00:00000000 00000000   993        0 4714 1 0000000000000000", "4714", "init opened a TCP connection to [::1]:6380"},
		{"udp", "   0: 00000000:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000   993        0 4715 2 0000000000000000 0", "4715", "init opened UDP port 5353"},
		{"unix", "0000000000000000: 00000002 00000000 00010000 0001 01 4716 /tmp/x.sock", "4716", "init holds the Unix socket /tmp/x.sock"},
		{"unix", "0000000000000000: 00000003 00000000 00000000 0001 03 4717", "4717", "init holds a Unix socket"},
		{"unix", "Num       RefCount Protocol Flags    Type St Inode Path", "Inode", "init holds the Unix socket Path"},
		{"netlink", "0000000000000000 0   1234       00000000 0        0        0     2        0        4718", "4718", "init holds a netlink socket"},
		{"tcp", "   0: zz:1 yy:2 01 0 0 0 993 0 1 1", "", ""},
	} {
		if inode, words := tellSocket(c.protocol, strings.Fields(c.line)); inode != c.inode || words != c.words {
			t.Errorf("%s: %q %q, want %q %q", c.line, inode, words, c.inode, c.words)
		}
	}
}
