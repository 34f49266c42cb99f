package linux

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"thaw/sandbox"
)

// prelude is what the attacking scripts share. attempt calls something that must fail with an OSError; what does not
// fail is a breach.
const prelude = `
import ctypes, errno, os, signal, socket, struct, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
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
        print('denied', what, errno.errorcode.get(e.errno, e.errno))
    else:
        print('BREACH', what, repr(r)[:200])
def read(path):
    with open(path, 'rb') as f: return f.read(100)
def write(path, data):
    with open(path, 'wb', buffering=0) as f: return f.write(data)
victim, host_pid, host_file, data_dir = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
`

// attacks call the kernel by the numbers of amd64.
var attacks = []struct {
	name, script string
}{
	{"files of the host", `
for p in ['/etc/shadow', '/etc/gshadow', '/etc/sudoers', '/root/.bashrc', '/root/.ssh', '/home', '/var/lib', '/var/log', '/boot', '/sys', '/work',
          host_file, data_dir, '/proc/1/root', '/proc/1/cwd', '/proc/1/environ', '/proc/1/mem', '/proc/1/maps', '/proc/1/exe', '/proc/1/fd',
          '/proc/kcore', '/proc/kmsg', '/dev/mem', '/dev/kmsg', '/dev/vda', '/dev/sda', '/dev/loop0', '/dev/loop-control', '/dev/fuse', '/dev/kvm', '/dev/net/tun']:
    attempt('list ' + p, lambda: os.listdir(p) or (_ for _ in ()).throw(OSError(errno.ENOENT, 'empty')))
    attempt('read ' + p, lambda: read(p) or (_ for _ in ()).throw(OSError(errno.ENOENT, 'empty')))
`},
	{"leave through links and directories", `
for p in ['/../../../../' + host_file, '/proc/self/root/' + host_file, '/proc/self/cwd/../../../' + host_file, '/proc/thread-self/root/../../' + host_file]:
    attempt('read ' + p, read, p)
for fd in os.listdir('/proc/self/fd'):
    attempt('through descriptor ' + fd, lambda: os.listdir('/proc/self/fd/' + fd + '/'))
os.symlink(host_file, '/tmp/link')
attempt('through a link', read, '/tmp/link')
`},
	{"inherited descriptors", `
d = os.open('/proc/self/fd', os.O_RDONLY)
open_now = []
for fd in range(0, 1024):
    if fd == d: continue
    try: open_now.append((fd, os.readlink('/proc/self/fd/%d' % fd)))
    except OSError: pass
extra = [f for f in open_now if f[0] > 2]
print('BREACH' if extra else 'denied', 'descriptors', extra)
print('denied input', os.read(0, 1))
`},
	{"write what is read-only", `
for p in ['/etc/passwd', '/usr/bin/thaw', '/var/task/x', '/bin/x', '/lib/x', '/x', '/opt/x', '/root/x', '/dev/x', '/home/x', '/var/tmp/x', '/run/x',
          '/proc/sysrq-trigger', '/proc/interrupts', '/proc/sys/kernel/hostname', '/proc/sys/kernel/core_pattern', '/proc/sys/vm/drop_caches', '/proc/sys/net/ipv4/ip_forward',
          '/proc/self/uid_map', '/proc/self/setgroups', '/proc/self/oom_score_adj', '/proc/1/oom_score_adj', '/proc/self/mem']:
    attempt('write ' + p, write, p, b'x')
attempt('chmod', os.chmod, '/dev/null', 0o600)
attempt('chown', os.chown, '/tmp', 0, 0)
attempt('unlink', os.unlink, '/etc/passwd')
`},
	{"see and signal others", `
pids = [int(p) for p in os.listdir('/proc') if p.isdigit()]
other = [p for p in pids if p != os.getpid()]
print('BREACH' if other else 'denied', 'sees', other)
for pid in (victim, host_pid):
    if pid == os.getpid(): continue
    attempt('signal', os.kill, pid, 0)
    for f in ('environ', 'mem', 'maps', 'cmdline', 'root', 'fd', 'ns'):
        attempt(f, lambda: read('/proc/%d/%s' % (pid, f)))
attempt('pidfd', os.pidfd_open, host_pid)
attempt('kill pid 1', os.kill, 1, 9)
attempt('terminate pid 1', os.kill, 1, 15)
time.sleep(0.05)
print('denied: pid 1 lives', os.getppid())
`},
	{"trace and read memory", `
child = os.fork()
if child == 0:
    time.sleep(1000)
attempt('ptrace attach', call, 101, 16, child, 0, 0)
attempt('ptrace seize', call, 101, 0x4206, child, 0, 0)
attempt('ptrace traceme', call, 101, 0, 0, 0, 0)
buf = ctypes.create_string_buffer(16)
iov = struct.pack('QQ', ctypes.addressof(buf), 16)
attempt('process_vm_readv', call, 310, child, iov, 1, iov, 1, 0)
attempt('process_vm_writev', call, 311, child, iov, 1, iov, 1, 0)
attempt('ptrace pid 1', call, 101, 16, 1, 0, 0)
attempt('pidfd_getfd', call, 438, os.pidfd_open(1), 3, 0)
attempt('kcmp', call, 312, os.getpid(), 1, 0, 0, 0)
`},
	{"mounts and namespaces", `
attempt('mount tmpfs', call, 165, b'x', b'/tmp', b'tmpfs', 0, 0)
attempt('mount bind', call, 165, b'/', b'/tmp', 0, 4096, 0)
attempt('remount', call, 165, 0, b'/', 0, 32 | 4096, 0)
attempt('umount', call, 166, b'/proc/keys', 2)
attempt('umount usr', call, 166, b'/usr', 2)
attempt('pivot_root', call, 155, b'/tmp', b'/tmp')
attempt('chroot', os.chroot, '/tmp')
for flag in (0x10000000, 0x20000000, 0x20000, 0x40000000, 0x4000000, 0x8000000, 0x2000000, 0x80):
    attempt('unshare %x' % flag, call, 272, flag)
    if flag != 0x80:  # clone has the exit signal in these bits
        attempt('clone %x' % flag, call, 56, flag | 17, 0, 0, 0, 0)
attempt('clone3', call, 435, struct.pack('QQQQQQQQ', 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64)
attempt('setns', call, 308, os.open('/proc/self/ns/net', os.O_RDONLY), 0)
attempt('setns of pid 1', lambda: call(308, os.open('/proc/1/ns/mnt', os.O_RDONLY), 0))
for name, nr in (('open_tree', 428), ('move_mount', 429), ('fsopen', 430), ('mount_setattr', 442), ('fspick', 433), ('statmount', 457), ('listmount', 458)):
    attempt(name, call, nr, 0, 0, 0, 0, 0)
attempt('sethostname', socket.sethostname, 'x')
`},
	{"kernel interfaces", `
for name, nr in (('init_module', 175), ('finit_module', 313), ('delete_module', 176), ('kexec_load', 246), ('kexec_file_load', 320), ('reboot', 169),
                 ('swapon', 167), ('swapoff', 168), ('acct', 163), ('quotactl', 179), ('settimeofday', 164), ('clock_settime', 227), ('iopl', 172), ('ioperm', 173),
                 ('syslog', 103), ('bpf', 321), ('perf_event_open', 298), ('userfaultfd', 323), ('io_uring_setup', 425), ('io_uring_enter', 426),
                 ('add_key', 248), ('request_key', 249), ('keyctl', 250), ('open_by_handle_at', 304), ('name_to_handle_at', 303), ('lookup_dcookie', 212),
                 ('modify_ldt', 154), ('fanotify_init', 300), ('memfd_secret', 447), ('vhangup', 153), ('move_pages', 279), ('uselib', 134), ('sysfs', 139)):
    attempt(name, call, nr, 0, 0, 0, 0, 0)
attempt('syslog read all', call, 103, 3, ctypes.create_string_buffer(100), 100)
attempt('adjtimex', call, 159, struct.pack('I', 1) + bytes(300))
attempt('x32', call, 0x40000000 + 39)
attempt('nice', os.setpriority, os.PRIO_PROCESS, 0, -20)
attempt('real time', lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
import resource
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096)); print('BREACH files')
except ValueError:
    print('denied more files')
`},
	{"devices", `
import stat
for major, minor, kind in ((1, 1, stat.S_IFCHR), (1, 2, stat.S_IFCHR), (8, 0, stat.S_IFBLK), (254, 0, stat.S_IFBLK), (7, 0, stat.S_IFBLK), (10, 229, stat.S_IFCHR)):
    attempt('mknod %d %d' % (major, minor), os.mknod, '/tmp/d%d.%d' % (major, minor), kind | 0o666, os.makedev(major, minor))
attempt('tty', read, '/dev/tty')
`},
	{"become root", `
for name in ('setuid', 'setgid', 'seteuid', 'setegid'):
    attempt(name, getattr(os, name), 0)
attempt('setresuid', os.setresuid, 0, 0, 0)
attempt('setgroups', os.setgroups, [0])
libc.prctl(4, 1, 0, 0, 0)
attempt('capset', call, 126, struct.pack('II', 0x20080522, 0), struct.pack('IIIIII', 0xffffffff, 0xffffffff, 0, 0xffffffff, 0xffffffff, 0))
for p in ('/bin/su', '/usr/bin/su', '/usr/bin/mount', '/usr/bin/passwd', '/usr/bin/newgrp'):
    if os.path.exists(p):
        out = subprocess.run([p, '--help'] if 'mount' in p else [p], capture_output=True, stdin=subprocess.DEVNULL)
        print('denied' if out.returncode else 'ran', p)
r = subprocess.run(['/usr/bin/su', '-c', 'id -u'], capture_output=True, stdin=subprocess.DEVNULL)
print('BREACH' if r.stdout.strip() == b'0' else 'denied', 'su', r.stderr[:80])
with open('/tmp/suid', 'wb') as f: f.write(open('/usr/bin/id', 'rb').read())
os.chmod('/tmp/suid', 0o6755)
r = subprocess.run(['/tmp/suid'], capture_output=True)
print('BREACH' if b'euid' in r.stdout or b'uid=0' in r.stdout else 'denied', 'own suid', r.stdout)
`},
	{"sockets", `
attempt('raw', socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
attempt('raw6', socket.socket, socket.AF_INET6, socket.SOCK_RAW, 58)
attempt('packet', socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0)
attempt('alg', socket.socket, 38, socket.SOCK_SEQPACKET, 0)
attempt('vsock', socket.socket, 40, socket.SOCK_STREAM, 0)
attempt('bluetooth', socket.socket, 31, socket.SOCK_RAW, 0)
for proto in (2, 4, 6, 9, 10, 12, 15, 16):
    attempt('netlink %d' % proto, socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, proto)
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.send(struct.pack('IHHII', 32, 16, 5, 1, 0) + struct.pack('BBHiII', 0, 0, 0, 1, 0, 1))
kind, = struct.unpack_from('H', s.recv(1000), 4)
print('denied' if kind == 2 else 'BREACH', 'take the link down')
attempt('port 80', socket.socket().bind, ('127.0.0.1', 80)) if open('/proc/sys/net/ipv4/ip_unprivileged_port_start').read().strip() != '0' else None
`},
	{"cgroups", `
for line in open('/proc/self/cgroup'):
    path = line.strip().split(':', 2)[2]
    print('denied own path' if path == '/' else 'BREACH path ' + path)
attempt('list', os.listdir, '/sys/fs/cgroup')
attempt('mount', call, 165, b'cgroup', b'/tmp', b'cgroup', 0, b'memory')
attempt('mount2', call, 165, b'cgroup2', b'/tmp', b'cgroup2', 0, 0)
`},
	{"another's temporary files", `
print('BREACH' if os.path.exists('/tmp/secret') else 'denied', os.listdir('/tmp'), os.listdir('/dev/shm'))
attempt('shm', call, 29, 4242, 16, 0)
attempt('msg', call, 68, 4242, 0)
attempt('sem', call, 64, 4242, 1, 0)
`},
}

func TestAttacksFail(t *testing.T) {
	needRoot(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("the scripts have the system call numbers of amd64")
	}
	d := open(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("the host's"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(secret), 0o777); err != nil {
		t.Fatal(err)
	}
	bystander := exec.CommandContext(t.Context(), "/bin/sleep", "1000")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer bystander.Wait()
	defer bystander.Process.Kill()
	// The victim has the same program, so its pid inside is likely the attacker's own; the host's view is tried, too.
	other := python(`
import os, subprocess
open('/tmp/secret', 'w').write('x'); open('/dev/shm/secret', 'w').write('x')
import ctypes; libc = ctypes.CDLL(None)
libc.syscall(29, 4242, 4096, 0o1666); libc.syscall(68, 4242, 0o1666); libc.syscall(64, 4242, 1, 0o1666)
print('up', flush=True)
import time; time.sleep(10000)`)
	other.Env = append(other.Env, "SECRET=of another environment")
	victim := start(t, d, other)
	if b := make([]byte, 2); readFull(victim, b) != nil || string(b) != "up" {
		t.Fatalf("victim says %q", b)
	}
	victimPID := childOf(t, victim.(*process).shim.pid)
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			spec := python(prelude+a.script+"\nprint('finished')", strconv.Itoa(victimPID), strconv.Itoa(bystander.Process.Pid), secret, d.rootfs.dir)
			spec.Env = append(spec.Env, "PYTHONUNBUFFERED=1")
			spec.Mounts = []sandbox.Mount{{Source: t.TempDir(), Target: "/var/task"}}
			out, exit := outcome(t, d, spec)
			if strings.Contains(out, "BREACH") || exit != (sandbox.ExitStatus{}) || !strings.Contains(out, "finished") || !strings.Contains(out, "denied") {
				t.Errorf("exit %+v:\n%s", exit, out)
			}
		})
	}
	select {
	case <-victim.Done():
		t.Errorf("the victim ended: %+v", victim.Exit())
	default:
	}
	if err := bystander.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the host's process: %v", err)
	}
}

// childOf gives the pid of a sandbox's runtime process as the host sees it.
func childOf(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.Fields(string(b))[0])
	if err != nil {
		t.Fatal(err)
	}
	return child
}
