package tests

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw/tests/harness"
)

// attackerSource runs the script that it is sent. What attempt calls must fail; what says is reported to the test.
const attackerSource = `
import ctypes, errno, json, os, signal, socket, stat, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def handler(event, context):
    report = []
    def say(*what):
        report.append(' '.join(str(w) for w in what))
    def call(nr, *args):
        libc.syscall.restype = ctypes.c_long
        r = libc.syscall(ctypes.c_long(nr), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
        if r < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return r
    def attempt(what, fn, *args):
        try:
            r = fn(*args)
        except OSError as e:
            say('denied', what, errno.errorcode.get(e.errno, type(e).__name__))
        else:
            say('BREACH', what, repr(r)[:200])
    def connect(host, port, timeout=0.3):
        with socket.create_connection((host, port), timeout) as s:
            return s.getpeername()
    def read(path):
        with open(path, 'rb') as f: return f.read(100) or os.stat('/nothing was read')
    def write(path, data=b'x'):
        with open(path, 'wb', buffering=0) as f: return f.write(data)
    exec(event['script'], dict(globals(), **locals()))
    return report
`

// bystanderSource is the function that must go on, with something to steal wherever a function may keep it.
const bystanderSource = `
import os, socket, time
# in its code: @SECRET@
held = ['@SECRET@'.upper().lower()]
open('/tmp/kept', 'w').write('@SECRET@')
print('in its log: @SECRET@')
def handler(event, context):
    if type(event) is int:
        return [event, open('/tmp/kept').read() == os.environ['SECRET'] == held[0]]
    if 'listen' in event:
        with socket.create_server(('0.0.0.0', event['listen'])) as s:
            s.settimeout(event['seconds'])
            try:
                return 'visited by %s' % (s.accept()[1][0],)
            except TimeoutError:
                return 'nobody came'
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect(('host.thaw.internal', 9))
        return [s.getsockname()[0], s.getpeername()[0]]
`

// siege is a platform under attack.
type siege struct {
	*harness.Platform
	client *lambda.Client
	secret string
	calls  int
}

func newSiege(t *testing.T, o harness.Options, client func(p *harness.Platform) *lambda.Client) *siege {
	p := harness.Start(t, o)
	s := &siege{Platform: p, client: client(p), secret: "secret-" + strings.ToLower(rand.Text())}
	source := strings.ReplaceAll(bystanderSource, "@SECRET@", s.secret)
	harness.Deploy(t, s.client, &harness.Function{Name: "bystander", Source: source, Env: map[string]string{"SECRET": s.secret}, Timeout: 30})
	harness.Deploy(t, s.client, &harness.Function{Name: "attacker", Source: attackerSource, Timeout: 20, MemoryMB: 512})
	s.healthy(t)
	return s
}

// healthy holds the platform and the bystander to their work.
func (s *siege) healthy(t *testing.T) {
	t.Helper()
	s.WaitHealthy()
	s.calls++
	if got, want := harness.MustInvoke(t, s.client, "bystander", strconv.Itoa(s.calls)), fmt.Sprintf("[%d, true]", s.calls); got != want {
		t.Errorf("the bystander answers %s, want %s", got, want)
	}
	select {
	case <-s.Done():
		t.Fatal("the platform ended")
	default:
	}
}

// attack runs a script as the attacker and gives what it reports.
func (s *siege) attack(t *testing.T, script string) []string {
	t.Helper()
	payload, failed, err := s.send(t.Context(), "attacker", script)
	if err != nil || failed {
		t.Fatalf("the script failed: %v %s", err, payload)
	}
	var report []string
	if err := json.Unmarshal([]byte(payload), &report); err != nil {
		t.Fatalf("%v: %s", err, payload)
	}
	return report
}

func (s *siege) send(ctx context.Context, function, script string) (payload string, failed bool, err error) {
	event, err := json.Marshal(map[string]string{"script": script})
	if err != nil {
		return "", false, err
	}
	return harness.Invoke(ctx, s.client, function, string(event))
}

// repelled wants every attempt of a script denied, and at least count of them made.
func (s *siege) repelled(t *testing.T, count int, script string) {
	t.Helper()
	report := s.attack(t, script)
	denied := 0
	for _, line := range report {
		if strings.HasPrefix(line, "denied ") {
			denied++
		} else {
			t.Error(line)
		}
	}
	if denied < count {
		t.Errorf("%d attempts, want %d or more: %q", denied, count, report)
	}
}

// hostAddresses are the IPv4 addresses of this machine, loopback among them.
func hostAddresses(t *testing.T) []string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{"host.thaw.internal"}
	for _, a := range all {
		if ip, _, err := net.ParseCIDR(a.String()); err == nil && ip.To4() != nil {
			hosts = append(hosts, ip.String())
		}
	}
	return hosts
}

// literal writes a value as Python's literal.
func literal(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// TestAttacks lets a function try what it must not be able to do. Each attack ends with the platform and another
// function as they were.
func TestAttacks(t *testing.T) {
	s := newSiege(t, harness.Options{}, (*harness.Platform).Lambda)
	for _, a := range []struct {
		name string
		run  func(*testing.T, *siege)
	}{
		{"read what is the host's or another function's", attackFiles},
		{"see and signal others", attackProcesses},
		{"ask the kernel for more", attackKernel},
		{"write what is read-only", attackReadOnly},
		{"lead the platform through links", attackLinks},
		{"reach the control API of a loopback listener", attackLoopbackControl},
		{"reach other functions' networks", attackNetworks},
		{"fork bomb", attackForks},
		{"memory bomb", attackMemory},
		{"fill tmp", attackTmp},
		{"burn CPU", attackCPU},
		{"outlive the timeout", attackTimeout},
		{"garble its channel", attackChannel},
		{"forge log frames", attackLogs},
		{"abuse the Runtime API", attackRuntimeAPI},
	} {
		t.Run(a.name, func(t *testing.T) {
			a.run(t, s)
			s.healthy(t)
		})
	}
	s.Stop()
	harness.NothingLeft(t, s.Data)
}

func attackFiles(t *testing.T, s *siege) {
	hostFile := filepath.Join(t.TempDir(), "host")
	if err := os.WriteFile(hostFile, []byte(s.secret), 0o644); err != nil {
		t.Fatal(err)
	}
	s.repelled(t, 20, `
for path in ['/etc/shadow', '/root/.ssh', '/proc/1/environ', '/proc/1/mem', '/proc/1/root/etc/shadow', '/proc/kcore', '/proc/kmsg',
             `+literal(hostFile)+`, `+literal(s.Data)+`, `+literal(filepath.Join(s.Data, "jetstream"))+`, `+literal(filepath.Join(s.Data, "credentials.json"))+`]:
    attempt('read ' + path, read, path)
    attempt('list ' + path, os.listdir, path)
for up in ('/proc/self/root', '/proc/self/cwd/../../..', '/..', '/tmp/..'):
    attempt('read ' + up, read, up + `+literal(hostFile)+`)
`)
	// Nothing that it can open holds the other's secret, whose text the script must not hold itself.
	report := s.attack(t, `
prefix, files = b'sec' + b'ret-', 0
mine = open('/proc/self/environ', 'rb').read()
for top, dirs, names in os.walk('/'):
    if top == '/':
        dirs[:] = [d for d in dirs if d not in ('usr', 'lib', 'lib64', 'bin', 'sbin', 'dev')]
    if top == '/proc':
        dirs[:] = [d for d in dirs if d != str(os.getpid()) and d not in ('self', 'thread-self')]
    for name in names:
        path = os.path.join(top, name)
        if not os.path.isfile(path): continue
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            data = os.read(fd, 1 << 20)
        except OSError:
            data = b''
        os.close(fd)
        files += 1
        if prefix in data: say('BREACH', path)
if prefix in mine or any(prefix.decode() in v for v in os.environ.values()): say('BREACH environment')
say('files', files > 100, os.path.exists('/tmp/kept'), os.listdir('/var/task'))
`)
	if want := []string{"files True False ['app.py']"}; !slices.Equal(report, want) {
		t.Errorf("it found %q, want %q", report, want)
	}
}

func attackProcesses(t *testing.T, s *siege) {
	pids := []int{s.Pid(), os.Getpid()}
	for _, line := range harness.Belongings(t, s.Data) {
		if fields := strings.Fields(line); fields[0] == "process" {
			pid, _ := strconv.Atoi(fields[1])
			pids = append(pids, pid)
		}
	}
	if len(pids) < 4 {
		t.Fatalf("no sandboxes among %v", pids)
	}
	s.repelled(t, 2*len(pids), `
own = sorted(int(p) for p in os.listdir('/proc') if p.isdigit())
say('denied' if set(own) <= {1, os.getpid()} else 'BREACH', 'sees', own)
for pid in `+literal(pids)+`:
    if pid in own: continue
    attempt('signal %d' % pid, os.kill, pid, 0)
    attempt('kill group %d' % pid, os.killpg, pid, 9)
    attempt('environment of %d' % pid, read, '/proc/%d/environ' % pid)
attempt('kill everything', lambda: [os.kill(p, 9) for p in range(1, 70000) if p != os.getpid()])
`)
}

func attackKernel(t *testing.T, s *siege) {
	s.repelled(t, 25, `
attempt('mount tmpfs', call, 165, b'x', b'/tmp', b'tmpfs', 0, 0)
attempt('remount /', call, 165, 0, b'/', 0, 32 | 4096, 0)
attempt('umount', call, 166, b'/usr', 2)
attempt('pivot_root', call, 155, b'/tmp', b'/tmp')
attempt('ptrace', call, 101, 16, 1, 0, 0)
attempt('process_vm_readv', call, 310, 1, struct.pack('QQ', 0, 0), 1, struct.pack('QQ', 0, 0), 1, 0)
for flag in (0x10000000, 0x20000000, 0x20000, 0x40000000, 0x02000000):
    attempt('unshare %x' % flag, call, 272, flag)
for name, nr in (('init_module', 175), ('finit_module', 313), ('kexec_load', 246), ('bpf', 321), ('perf_event_open', 298), ('io_uring_setup', 425),
                 ('userfaultfd', 323), ('keyctl', 250), ('open_by_handle_at', 304), ('reboot', 169), ('swapoff', 168), ('iopl', 172)):
    attempt(name, call, nr, 0, 0, 0, 0, 0)
for major, minor, kind in ((1, 1, stat.S_IFCHR), (8, 0, stat.S_IFBLK), (254, 0, stat.S_IFBLK), (10, 229, stat.S_IFCHR)):
    attempt('mknod %d:%d' % (major, minor), os.mknod, '/tmp/node', kind | 0o666, os.makedev(major, minor))
for path in ('/dev/mem', '/dev/vda', '/dev/sda', '/dev/kvm', '/dev/loop-control'):
    attempt('open ' + path, os.open, path, os.O_RDWR)
attempt('raw socket', socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
attempt('packet socket', socket.socket, 17, socket.SOCK_RAW, 0)
attempt('become root', os.setuid, 0)
say('denied' if all(l.split()[1].strip('0') == '' for l in open('/proc/self/status') if l.startswith('Cap')) else 'BREACH', 'capabilities')
`)
}

func attackReadOnly(t *testing.T, s *siege) {
	s.repelled(t, 14, `
for path in ('/var/task/app.py', '/var/task/new', '/usr/new', '/usr/bin/python3', '/etc/passwd', '/etc/hosts', '/etc/resolv.conf', '/opt/new', '/new', '/lib/new',
             '/var/runtime/new', '/root/new', '/proc/sysrq-trigger', '/proc/sys/kernel/core_pattern', '/proc/sys/net/ipv4/ip_forward'):
    attempt('write ' + path, write, path)
attempt('remove code', os.unlink, '/var/task/app.py')
attempt('chmod code', os.chmod, '/var/task/app.py', 0o777)
attempt('rename code', os.rename, '/var/task/app.py', '/tmp/app.py')
`)
}

func attackLinks(t *testing.T, s *siege) {
	dir := t.TempDir()
	kept := filepath.Join(dir, "kept")
	if err := os.WriteFile(kept, []byte("kept"), 0o666); err != nil {
		t.Fatal(err)
	}
	s.repelled(t, 4, `
os.makedirs('/tmp/a/b', exist_ok=True)
for name, target in (('file', `+literal(kept)+`), ('dir', `+literal(dir)+`), ('data', `+literal(s.Data)+`), ('up', '../../../../../../..'), ('passwd', '/etc/passwd')):
    os.symlink(target, '/tmp/a/b/' + name)
    attempt('write through ' + name, write, '/tmp/a/b/' + name + ('/kept' if name in ('dir', 'data', 'up') else ''))
attempt('hard link', os.link, '/usr/bin/env', '/tmp/env')
os.rename('/tmp/a', '/tmp/c')
`)
	// The environment ends with its links still there.
	harness.Update(t, s.client, "attacker", map[string]string{"app.py": attackerSource + "\n# again\n"})
	s.attack(t, "say('new')")
	if b, err := os.ReadFile(kept); err != nil || string(b) != "kept" {
		t.Errorf("the host's file: %q %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(s.Data, "VERSION")); err != nil {
		t.Error(err)
	}
}

func attackLoopbackControl(t *testing.T, s *siege) {
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	hosts := append(hostAddresses(t), "0.0.0.0", "localhost")
	s.repelled(t, len(hosts), `
for host in `+literal(hosts)+`:
    attempt('control API on ' + host, connect, host, `+port+`)
for host in ('169.254.169.254', '169.254.170.2', '100.100.100.200', '168.63.129.16'):
    attempt('metadata at ' + host, connect, host, 80)
attempt('IPv6', lambda: connect('::1', `+port+`))
`)
	// The host itself is reached, so that what was refused was refused.
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	report := s.attack(t, fmt.Sprintf("connect('host.thaw.internal', %d); say('reached')", l.Addr().(*net.TCPAddr).Port))
	if !slices.Equal(report, []string{"reached"}) {
		t.Errorf("%q", report)
	}
}

func attackNetworks(t *testing.T, s *siege) {
	var address []string
	if err := json.Unmarshal([]byte(harness.MustInvoke(t, s.client, "bystander", `{"address": true}`)), &address); err != nil {
		t.Fatal(err)
	}
	const port = 18080
	var bystander sync.WaitGroup
	bystander.Go(func() {
		payload, failed, err := harness.Invoke(t.Context(), s.client, "bystander", fmt.Sprintf(`{"listen": %d, "seconds": 3}`, port))
		if err != nil || failed || payload != `"nobody came"` {
			t.Errorf("the bystander's listener: %v %s", err, payload)
		}
	})
	s.repelled(t, 9, fmt.Sprintf(`
for i in range(8):
    attempt('the other function', connect, %q, %d, 0.2)
    time.sleep(0.1)
attempt('its Runtime API', connect, %q, 9001)
`, address[0], port, address[0]))
	bystander.Wait()
}

// besides invokes the bystander for as long as the attack lasts, at least once.
func (s *siege) besides(t *testing.T, attack func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); attack() }()
	for over := false; !over && !t.Failed(); {
		select {
		case <-done:
			over = true
		case <-time.After(50 * time.Millisecond):
		}
		s.healthy(t)
	}
	<-done
}

func attackForks(t *testing.T, s *siege) {
	harness.Deploy(t, s.client, &harness.Function{Name: "forks", Timeout: 2, Source: `
import os
def handler(event, context):
    made = 0
    while event:
        try:
            if os.fork() == 0:
                made = 0
        except OSError:
            pass
`})
	s.besides(t, func() {
		payload, failed, err := harness.Invoke(t.Context(), s.client, "forks", `{"go": 1}`)
		if err != nil || !failed {
			t.Errorf("the bomb's answer: %v %s", err, payload)
		}
	})
	if payload := harness.MustInvoke(t, s.client, "forks", `{}`); payload != "null" {
		t.Errorf("afterwards it answers %s", payload)
	}
}

func attackMemory(t *testing.T, s *siege) {
	harness.Deploy(t, s.client, &harness.Function{Name: "memory", Source: `
def handler(event, context):
    held = []
    while event:
        held.append(bytearray(b'x') * (8 << 20))
`})
	s.besides(t, func() {
		payload, failed, err := harness.Invoke(t.Context(), s.client, "memory", `{"go": 1}`)
		if err != nil || !failed || !strings.Contains(payload, "Runtime.OutOfMemory") {
			t.Errorf("the bomb's answer: %v %s", err, payload)
		}
	})
	if payload := harness.MustInvoke(t, s.client, "memory", `{}`); payload != "null" {
		t.Errorf("afterwards it answers %s", payload)
	}
}

func attackTmp(t *testing.T, s *siege) {
	harness.Deploy(t, s.client, &harness.Function{Name: "tmp", Source: attackerSource, Timeout: 20, MemoryMB: 1536})
	script := func(text string) string {
		payload, failed, err := s.send(t.Context(), "tmp", text)
		if err != nil || failed {
			t.Fatalf("the script failed: %v %s", err, payload)
		}
		return payload
	}
	got := script(`
written = 0
with open('/tmp/full', 'wb', buffering=0) as f:
    try:
        while written < 1 << 30: written += f.write(bytes(1 << 20))
        say('BREACH', written)
    except OSError as e:
        say(errno.errorcode[e.errno], written <= 512 << 20)
`)
	if got != `["ENOSPC True"]` {
		t.Errorf("bytes without end: %s", got)
	}
	s.healthy(t)
	got = script(`
names = 0
os.unlink('/tmp/full')
os.makedirs('/tmp/many')
try:
    while names < 1 << 21:
        os.close(os.open('/tmp/many/%d' % names, os.O_CREAT | os.O_WRONLY)); names += 1
    say('BREACH', names)
except OSError as e:
    say(errno.errorcode[e.errno])
`)
	if got != `["ENOSPC"]` {
		t.Errorf("files without end: %s", got)
	}
}

func attackCPU(t *testing.T, s *siege) {
	s.besides(t, func() {
		s.send(t.Context(), "attacker", `
end = time.time() + 2
for i in range(8):
    if os.fork() == 0:
        while time.time() < end: pass
        os._exit(0)
while time.time() < end: pass
`)
	})
}

func attackTimeout(t *testing.T, s *siege) {
	l, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	harness.Deploy(t, s.client, &harness.Function{Name: "stays", Timeout: 1, Source: fmt.Sprintf(`
import os, signal, socket, time
def handler(event, context):
    if not event: return os.listdir('/tmp')
    for i in range(3):
        if os.fork() == 0:
            os.setsid()
            for n in range(1, 65):
                try: signal.signal(n, signal.SIG_IGN)
                except (OSError, ValueError): pass
            if os.fork() == 0:
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                while True:
                    s.sendto(b'alive', ('host.thaw.internal', %d))
                    open('/tmp/alive', 'w').close()
                    time.sleep(0.01)
            os._exit(0)
    time.sleep(60)
`, l.LocalAddr().(*net.UDPAddr).Port)})
	payload, failed, err := harness.Invoke(t.Context(), s.client, "stays", `{"go": 1}`)
	if err != nil || !failed || !strings.Contains(payload, "Sandbox.Timedout") {
		t.Errorf("its answer: %v %s", err, payload)
	}
	packet, heard := make([]byte, 16), 0
	hear := func(within time.Duration) bool {
		l.SetReadDeadline(time.Now().Add(within)) //nolint:errcheck // a closed listener ends the read
		_, _, err := l.ReadFrom(packet)
		if err == nil {
			heard++
		}
		return err == nil
	}
	harness.Eventually(t, "its children are gone", func() bool { return !hear(300 * time.Millisecond) })
	if heard == 0 {
		t.Error("its children were never heard")
	}
	if payload := harness.MustInvoke(t, s.client, "stays", `{}`); payload != "[]" {
		t.Errorf("afterwards its /tmp holds %s", payload)
	}
	if hear(100 * time.Millisecond) {
		t.Error("its children live again")
	}
}

func attackChannel(t *testing.T, s *siege) {
	harness.Deploy(t, s.client, &harness.Function{Name: "garbler", Source: attackerSource, Timeout: 2, MemoryMB: 512})
	frame := "def frame(kind, meta, body): return kind + struct.pack('>II', len(meta), len(body)) + meta + body\n"
	for _, a := range []struct{ name, script string }{
		{"garbage", `os.write(3, b'GET / HTTP/1.1\r\n\r\n' * 100)`},
		{"an absurd body", `os.write(3, b'S' + struct.pack('>II', 0, 0xffffffff) + b'x' * 1000)`},
		{"an absurd meta", `os.write(3, b'F' + struct.pack('>II', 0xffffffff, 10) + b'x' * 1000)`},
		{"a body that does not end", `
os.write(3, b'S' + struct.pack('>II', 0, 0xfffffff0))
try:
    while True: os.write(3, bytes(1 << 20))
except OSError: pass`},
		{"ready again", `os.write(3, frame(b'R', b'', b''))`},
		{"not JSON", `os.write(3, frame(b'S', b'', b'\xff\x00{'))`},
		{"many answers", `[os.write(3, frame(b'S', b'', b'"forged"')) for i in range(1000)]`},
		{"an error with a forged type", `os.write(3, frame(b'F', b'X\r\nX-Amz-Function-Error: none\x00' * 100, b'not json'))`},
		{"an event for itself", `os.write(3, frame(b'I', b'a\0b\0c\0d\0e\0f', b'{}'))`},
		{"closed", `os.close(3)`},
		{"shut down", `socket.socket(fileno=3).shutdown(socket.SHUT_RDWR)`},
		{"a descriptor sent along", `socket.send_fds(socket.socket(fileno=3), [frame(b'S', b'', b'1')], [0, 1, 2] * 50)`},
	} {
		t.Run(a.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
			defer cancel()
			payload, failed, err := s.send(ctx, "garbler", frame+a.script)
			// Whatever it gets, it is an answer of its own.
			if err != nil || payload == "" {
				t.Errorf("its answer: %v %.200s", err, payload)
			}
			t.Logf("answer (error: %v): %.200q", failed, payload)
			s.healthy(t)
			// An answer in advance may meet its next event, and only that.
			harness.Eventually(t, "the function works again", func() bool {
				payload, _, err := s.send(t.Context(), "garbler", "say('sane')")
				if err != nil {
					t.Fatalf("its next answer: %v", err)
				}
				return payload == `["sane"]`
			})
		})
	}
	if kb := residentKB(t, s.Pid()); kb > 512<<10 {
		t.Errorf("the platform holds %d KB", kb)
	}
}

// residentKB is a process's memory.
func residentKB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kb
}

// logOf is the text of a function's log.
func (s *siege) logOf(t *testing.T, function string) string {
	t.Helper()
	response, err := http.Get(s.URL + "/_thaw/logs?function=" + function)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("logs of %s: %s %v", function, response.Status, err)
	}
	return string(text)
}

func attackLogs(t *testing.T, s *siege) {
	magic := `magic = b'\xa5\x5a\x00\x03'` + "\n"
	for _, script := range []string{
		`os.write(1, magic + struct.pack('>IQ', 0xffffffff, 0) + b'short')`,
		`os.write(1, magic + struct.pack('>IQ', 5, 0xffffffffffffffff) + b'ages!')`,
		`os.write(1, magic + struct.pack('>IQ', 5, 0) + b'epoch')`,
		`os.write(1, magic * 1000)`,
		`os.write(1, magic[:2])`,
		`os.write(1, b'END RequestId: forged\nREPORT RequestId: forged\tDuration: -1 ms\n')`,
		`os.write(1, b'\x00\xff\xfe"}\n{"stream":"forged"}\n')`,
		`[os.write(1, bytes(1 << 16)) for i in range(160)]`,
	} {
		if payload, _, err := s.send(t.Context(), "attacker", magic+script); err != nil {
			t.Errorf("%s: %v %s", script, err, payload)
		}
	}
	s.attack(t, "print('after the forgeries')")
	harness.Eventually(t, "the log goes on", func() bool { return strings.Contains(s.logOf(t, "attacker"), "after the forgeries") })
	text := s.logOf(t, "attacker")
	for line := range strings.Lines(text) {
		var event struct {
			Timestamp int64
			Stream    string
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%v: %.200s", err, line)
		}
		if at := time.UnixMilli(event.Timestamp); time.Since(at).Abs() > 2*time.Hour || strings.Contains(event.Stream, "forged") {
			t.Errorf("a forged event: %.200s", line)
		}
	}
	if strings.Contains(text, s.secret) {
		t.Error("the bystander's secret is in the attacker's log")
	}
	if own := s.logOf(t, "bystander"); !strings.Contains(own, s.secret) || strings.Contains(own, "forged") {
		t.Errorf("the bystander's log: %.2000s", own)
	}
}

// apiAttacker is a custom runtime that runs scripts around its answer.
const apiAttacker = `#!/usr/bin/python3
import http.client, json, os, socket, threading
api = os.environ['AWS_LAMBDA_RUNTIME_API']
def ask(method, path, body=None, headers={}):
    c = http.client.HTTPConnection(api, timeout=20)
    try:
        c.request(method, '/2018-06-01/runtime/' + path, body, headers)
        r = c.getresponse()
        return r.status, r.read(), r.headers
    finally:
        c.close()
while True:
    _, event, headers = ask('GET', 'invocation/next')
    id, report = headers['Lambda-Runtime-Aws-Request-Id'], []
    try:
        exec(json.loads(event)['script'])
    except Exception as e:
        report.append(repr(e))
    ask('POST', 'invocation/' + id + '/response', json.dumps(report))
`

func attackRuntimeAPI(t *testing.T, s *siege) {
	harness.Deploy(t, s.client, &harness.Function{
		Name: "api", Runtime: "provided.al2023", Files: map[string]string{"bootstrap+x": apiAttacker}, MemoryMB: 512, Timeout: 20,
	})
	for _, a := range []struct{ name, script, want string }{
		{"wrong ids", `
for other in ('00000000-0000-0000-0000-000000000000', '../../..', '%2e%2e', 'x' * 5000):
    report.append(ask('POST', 'invocation/' + other + '/response', '"forged"')[0] in (301, 307, 400, 403, 404))
`, `[true, true, true, true]`},
		{"next while running", `report.append(ask('POST', 'init/error', '{}')[0])`, `[403]`},
		{"unknown paths", `report.extend(ask(m, p)[0] in (301, 307, 404, 405) for m, p in (('GET', '../../_thaw/logs?function=bystander'), ('DELETE', 'invocation/next'), ('GET', '')))`, `[true, true, true]`},
		{"a flood", `
def flood():
    for i in range(100):
        try: ask('POST', 'invocation/wrong/response', 'x' * 1000)
        except OSError: pass
threads = [threading.Thread(target=flood) for i in range(20)]
[x.start() for x in threads]; [x.join() for x in threads]
report.append('over')
`, `["over"]`},
		{"open connections", `
host, port = api.split(':')
held = []
for i in range(500):
    try: held.append(socket.create_connection((host, int(port)), 0.2))
    except OSError: break
for c in held: c.close()
report.append(len(held) > 0)
`, `[true]`},
		{"garbage", `
host, port = api.split(':')
for data in (bytes(4096), b'GET / HTTP/9.9\r\n\r\n', b'POST /2018-06-01/runtime/invocation/x/response HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n', b'A' * (1 << 21)):
    c = socket.create_connection((host, int(port)), 5)
    try: c.sendall(data)
    except OSError: pass
    c.close()
report.append('over')
`, `["over"]`},
		{"answered twice", `ask('POST', 'invocation/' + id + '/response', '"first"'); report.append('second')`, `"first"`},
	} {
		t.Run(a.name, func(t *testing.T) {
			payload, failed, err := s.send(t.Context(), "api", a.script)
			if err != nil || failed || payload != a.want {
				t.Errorf("its answer: %v %s, want %s", err, payload, a.want)
			}
			s.healthy(t)
		})
	}
	if payload, failed, err := s.send(t.Context(), "api", "report.append('sane')"); err != nil || failed || payload != `["sane"]` {
		t.Errorf("its last answer: %v %s", err, payload)
	}
}

// TestAttacksOnAuthenticatedControl has a function knock at a listener that it can reach.
func TestAttacksOnAuthenticatedControl(t *testing.T) {
	_, port, _ := strings.Cut(harness.FreeAddress(t), ":")
	s := newSiege(t, harness.Options{Listen: "0.0.0.0:" + port}, func(p *harness.Platform) *lambda.Client {
		return harness.ClientWith(p.URL, "us-east-1", generatedKeys(t, p.Data))
	})
	report := s.attack(t, `
import http.client
for host in `+literal(hostAddresses(t))+`:
    try: connect(host, `+port+`)
    except OSError: continue
    for method, path, headers in (
            ('GET', '/2015-03-31/functions', {}),
            ('POST', '/2015-03-31/functions/bystander/invocations', {}),
            ('GET', '/_thaw/logs?function=bystander', {}),
            ('GET', '/_thaw/code/bystander', {}),
            ('GET', '/2015-03-31/functions', {'Host': '127.0.0.1'}),
            ('GET', '/2015-03-31/functions', {'Authorization': 'AWS4-HMAC-SHA256 Credential=%s/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=%s' % (os.environ['AWS_ACCESS_KEY_ID'], '0' * 64)})):
        c = http.client.HTTPConnection(host, `+port+`, timeout=2)
        try:
            c.request(method, path, headers=headers)
            r = c.getresponse()
            body = r.read().decode()
            say('denied' if r.status in (400, 401, 403, 404) else 'BREACH', host, method, path, r.status, body[:200])
        finally:
            c.close()
`)
	denied := 0
	for _, line := range report {
		switch {
		case strings.HasPrefix(line, "denied ") && !strings.Contains(line, s.secret):
			denied++
		default:
			t.Error(line)
		}
	}
	if denied < 6 {
		t.Errorf("only %d requests were answered: %q", denied, report)
	}
	// With the placeholder credentials of its environment it is a stranger.
	var keys []string
	payload := s.attack(t, `say(os.environ['AWS_ACCESS_KEY_ID']); say(os.environ['AWS_SECRET_ACCESS_KEY']); say(os.environ.get('AWS_SESSION_TOKEN', ''))`)
	keys = append(keys, payload...)
	stranger := harness.ClientWith(s.URL, "us-east-1", static(keys[0], keys[1], keys[2]))
	if _, err := stranger.ListFunctions(t.Context(), &lambda.ListFunctionsInput{MaxItems: aws.Int32(1)}); harness.Code(err) != "UnrecognizedClientException" {
		t.Errorf("its own credentials: %v", err)
	}
	s.healthy(t)
}
