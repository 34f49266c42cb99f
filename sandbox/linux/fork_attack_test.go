package linux

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"thaw/runtimes"
	"thaw/sandbox"
)

// forkedAttacks are beyond those that a booted sandbox has to stand.
var forkedAttacks = []struct {
	name, script string
}{
	{"what only a template may", `
NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID = 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000
attempt('unshare as a template', call, 272, NEWUSER | NEWNS | NEWIPC | NEWUTS | NEWPID)
attempt('unshare a cgroup namespace', call, 272, NEWCGROUP)
`},
	{"what is left of the fork", `
status = dict(l.split(':', 1) for l in open('/proc/self/status'))
for name in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'):
    print('denied' if int(status[name], 16) == 0 else 'BREACH', name, status[name].strip())
print('denied' if status['NoNewPrivs'].strip() == '1' and status['Seccomp'].strip() == '2' else 'BREACH', 'filter')
print('denied' if status['Uid'].split() == ['993'] * 4 and status['Gid'].split() == ['990'] * 4 and status['Groups'].split() == [] else 'BREACH', status['Uid'])
attempt('umount the fresh /proc', call, 166, b'/proc', 2)
attempt('umount the fresh /tmp', call, 166, b'/tmp', 2)
attempt('pid 1 limits', lambda: call(302, 1, 7, struct.pack('QQ', 1, 1), 0))
attempt('pid 1 memory', lambda: open('/proc/1/mem', 'rb'))
attempt('ns of pid 1', lambda: os.readlink('/proc/1/ns/mnt'))
`},
	{"a sibling's message queue", "attempt('mq_open', call, 240, b'sibling', 2, 0, 0)"},
}

// A forked environment stands the same attacks as a booted one, and some more; its sibling is the victim.
func TestAttacksFromAForkedEnvironmentFail(t *testing.T) {
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
	f := hello("python3.11", "")
	f.files["app.py"] = `
import os
def handler(event, context):
    if event is None:
        open('/tmp/secret', 'w').write('x'); open('/dev/shm/secret', 'w').write('x')
        import ctypes; libc = ctypes.CDLL(None)
        libc.syscall(29, 4242, 4096, 0o1666); libc.syscall(68, 4242, 0o1666); libc.syscall(64, 4242, 1, 0o1666)
        return libc.syscall(240, b'sibling', 0x42, 0o666, 0) >= 0
    os.execv('/usr/bin/python3', ['python3', '-I', '-u', '-c'] + event)
`
	p := park(t, d, specOf(t, f))
	victim := mustFork(t, p, "SECRET=of another environment")
	if got := victim.invoke(t, "null"); got != "true" {
		t.Fatalf("the victim's queue: %s", got)
	}
	victimPID, err := onlyChild(victim.Process.(*forked).shim.pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []struct {
		name string
		pid  int
	}{{"sibling", victimPID}, {"template", p.runtime}} {
		for _, a := range append(attacks[:len(attacks):len(attacks)], forkedAttacks...) {
			t.Run(target.name+" "+a.name, func(t *testing.T) {
				c := mustFork(t, p)
				args, _ := json.Marshal([]string{prelude + a.script + "\nprint('finished')", strconv.Itoa(target.pid), strconv.Itoa(bystander.Process.Pid), secret, d.rootfs.dir})
				c.conn.Invoke(within(t), &runtimes.Event{RequestID: "r", Payload: args}) // the handler never answers
				exit := wait(t, c)
				out := c.log()
				if strings.Contains(out, "BREACH") || exit != (sandbox.ExitStatus{}) || !strings.Contains(out, "finished") || !strings.Contains(out, "denied") {
					t.Errorf("exit %+v:\n%s", exit, out)
				}
			})
		}
	}
	victim.invoke(t, "null")
	mustFork(t, p)
}

// What user code in a template may: exactly the one call more, and nothing that comes with it.
func TestAttacksFromATemplateFail(t *testing.T) {
	needRoot(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("the scripts have the system call numbers of amd64")
	}
	d := open(t)
	for _, script := range []string{`
attempt('mount', call, 165, b'x', b'/tmp', b'tmpfs', 0, 0)
for flag in (0x10000000, 0x20000000, 0x20000, 0x40000000, 0x4000000, 0x8000000, 0x2000000, 0x10000000 | 0x40000000): attempt('unshare %x' % flag, call, 272, flag)
`, `
call(272, 0x10000000 | 0x20000 | 0x4000000 | 0x8000000 | 0x20000000)
attempt('mount', call, 165, b'x', b'/tmp', b'tmpfs', 0, 0)
attempt('umount', call, 166, b'/proc/keys', 2)
attempt('chroot', os.chroot, '/tmp')
attempt('setns', call, 308, os.open('/proc/self/ns/net', os.O_RDONLY), 0)
attempt('sethostname', socket.sethostname, 'x')
attempt('raw', socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
attempt('ptrace', call, 101, 16, 1, 0, 0)
attempt('bpf', call, 321, 0, 0, 0)
attempt('kill pid 1', os.kill, 1, 9)
attempt('become root', lambda: os.setresuid(0, 0, 0))
attempt('mknod', os.mknod, '/tmp/d', 0o60666, os.makedev(8, 0))
attempt('clone', call, 56, 0x40000000 | 17, 0, 0, 0, 0)
`} {
		f := hello("python3.11", strings.ReplaceAll(prelude, "victim, host_pid, host_file, data_dir = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]", "")+script+"\nprint('finished', flush=True)")
		p := initialise(t, d, specOf(t, f))
		p.Kill()
		wait(t, p)
		if out := p.log(); strings.Contains(out, "BREACH") || !strings.Contains(out, "finished") || !strings.Contains(out, "denied") {
			t.Errorf("%s", out)
		}
	}
}
