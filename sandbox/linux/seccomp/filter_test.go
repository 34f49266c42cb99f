package seccomp

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	moby "github.com/moby/profiles/seccomp"
)

// decide runs the program on one call. The machine of x/net/bpf reads big-endian words where the kernel reads native
// ones, so each half of an argument is put down big-endian at the place where a little-endian kernel has it.
func decide(t testing.TB, goarch string, audit, nr uint32, args ...uint64) uint32 {
	t.Helper()
	insns, err := instructions(goarch)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, insns, audit, nr, args...)
}

func run(t testing.TB, insns []bpf.Instruction, audit, nr uint32, args ...uint64) uint32 {
	t.Helper()
	vm, err := bpf.NewVM(insns)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data[offNumber:], nr)
	binary.BigEndian.PutUint32(data[offArch:], audit)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[offArgs+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[offArgs+8*i+4:], uint32(a>>32))
	}
	ret, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(ret)
}

// A template may call unshare with the two values that forking takes, each whole; else the filters are the same.
func TestTemplateDecisions(t *testing.T) {
	for name, arch := range arches {
		insns, err := instructions(name, forkFlags...)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := instructions(name)
		if err != nil {
			t.Fatal(err)
		}
		forked, err := forkedInstructions(name)
		if err != nil {
			t.Fatal(err)
		}
		all := uint64(unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWPID)
		for flags, want := range map[uint64]uint32{
			all: allow, unix.CLONE_NEWCGROUP: allow, unix.CLONE_NEWUSER: eperm, unix.CLONE_NEWNS: eperm, 0: eperm, all | unix.CLONE_NEWNET: eperm,
			all | unix.CLONE_NEWCGROUP: eperm, all | 1<<32: eperm, all &^ unix.CLONE_NEWPID: eperm, unix.CLONE_NEWNET: eperm,
		} {
			if got := run(t, insns, arch.audit, arch.numbers["unshare"], flags); got != want {
				t.Errorf("%s: unshare(%#x) is %#x, want %#x", name, flags, got, want)
			}
			if got := run(t, forked, arch.audit, arch.numbers["unshare"], flags); got != eperm {
				t.Errorf("%s: unshare(%#x) is %#x in what was forked", name, flags, got)
			}
		}
		for call, nr := range arch.numbers {
			if call == "unshare" {
				continue
			}
			for _, args := range [][]uint64{{0}, {all}, {17}, {unix.CLONE_NEWUSER | 17}} {
				if got, want := run(t, insns, arch.audit, nr, args...), run(t, plain, arch.audit, nr, args...); got != want {
					t.Errorf("%s: %s(%#x) is %#x in a template and %#x elsewhere", name, call, args, got, want)
				}
				if got := run(t, forked, arch.audit, nr, args...); got != allow {
					t.Errorf("%s: %s(%#x) is %#x in the second filter", name, call, args, got)
				}
			}
		}
	}
}

const (
	allow  = uint32(unix.SECCOMP_RET_ALLOW)
	eperm  = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.EPERM)
	enosys = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.ENOSYS)
	nofam  = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.EAFNOSUPPORT)
)

func TestDecisions(t *testing.T) {
	for _, c := range []struct {
		call string
		args []uint64
		want uint32
	}{
		{"read", nil, allow}, {"write", nil, allow}, {"execve", nil, allow}, {"exit_group", nil, allow}, {"mmap", nil, allow},
		{"futex", nil, allow}, {"epoll_pwait", nil, allow}, {"openat", nil, allow}, {"openat2", nil, allow}, {"newfstatat", nil, allow},
		{"wait4", nil, allow}, {"ppoll", nil, allow}, {"kill", nil, allow}, {"getrandom", nil, allow}, {"rseq", nil, allow},
		{"landlock_create_ruleset", nil, allow}, {"seccomp", nil, allow}, {"prctl", nil, allow}, {"pidfd_open", nil, allow},
		{"clone", []uint64{17}, allow},
		{"clone", []uint64{unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND | unix.CLONE_SETTLS}, allow},
		{"clone", []uint64{unix.CLONE_NEWUSER | 17}, eperm},
		{"clone", []uint64{unix.CLONE_NEWNS | 17}, eperm},
		{"clone", []uint64{unix.CLONE_VM | unix.CLONE_NEWNET}, eperm},
		{"clone", []uint64{unix.CLONE_NEWCGROUP}, eperm},
		{"clone3", nil, enosys},
		{"unshare", []uint64{0}, eperm}, {"setns", nil, eperm},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_STREAM}, allow},
		{"socket", []uint64{unix.AF_INET6}, allow}, {"socket", []uint64{unix.AF_UNIX}, allow},
		{"socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, allow},
		{"socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}, nofam},
		{"socket", []uint64{unix.AF_PACKET}, nofam}, {"socket", []uint64{unix.AF_ALG}, nofam}, {"socket", []uint64{unix.AF_VSOCK}, nofam},
		// The kernel looks at the lower half of a family alone.
		{"socket", []uint64{1<<32 | unix.AF_ALG}, nofam}, {"socket", []uint64{1<<32 | unix.AF_INET}, allow},
		{"personality", []uint64{0}, allow}, {"personality", []uint64{0xffffffff}, allow},
		{"personality", []uint64{0x0040000}, eperm}, {"personality", []uint64{1 << 32}, eperm},
		{"io_uring_setup", nil, enosys}, {"io_uring_enter", nil, enosys},
		{"ptrace", nil, eperm}, {"process_vm_readv", nil, eperm}, {"mount", nil, eperm}, {"umount2", nil, eperm}, {"pivot_root", nil, eperm},
		{"chroot", nil, eperm}, {"bpf", nil, eperm}, {"keyctl", nil, eperm}, {"add_key", nil, eperm}, {"request_key", nil, eperm},
		{"userfaultfd", nil, eperm}, {"perf_event_open", nil, eperm}, {"open_by_handle_at", nil, eperm}, {"kexec_load", nil, eperm},
		{"init_module", nil, eperm}, {"finit_module", nil, eperm}, {"reboot", nil, eperm}, {"swapon", nil, eperm}, {"acct", nil, eperm},
		{"quotactl", nil, eperm}, {"syslog", nil, eperm}, {"fsopen", nil, eperm}, {"move_mount", nil, eperm}, {"setdomainname", nil, eperm},
	} {
		for goarch, a := range arches {
			nr, ok := a.numbers[c.call]
			if !ok {
				t.Errorf("%s has no %s", goarch, c.call)
				continue
			}
			if got := decide(t, goarch, a.audit, nr, c.args...); got != c.want {
				t.Errorf("%s: %s%v: %#x, want %#x", goarch, c.call, c.args, got, c.want)
			}
		}
	}
}

// The tree of ranges decides as the table does, for every number and those around.
func TestTreeEqualsTable(t *testing.T) {
	for goarch, a := range arches {
		rules, err := a.rules(goarch)
		if err != nil {
			t.Fatal(err)
		}
		for nr := range uint32(1100) {
			want := enosys
			if r, ok := rules[nr]; ok {
				want = unix.SECCOMP_RET_ERRNO | uint32(r.errno)
				for _, c := range r.allow {
					if len(c) == 0 {
						want = allow
					}
				}
				if len(r.allow) > 0 && want != allow {
					continue // depends on arguments
				}
			}
			if got := decide(t, goarch, a.audit, nr); got != want {
				t.Errorf("%s %d: %#x, want %#x", goarch, nr, got, want)
			}
		}
		if got := decide(t, goarch, a.audit, 0xffffffff); got != enosys {
			t.Errorf("%s: last number: %#x", goarch, got)
		}
	}
}

func TestOtherConventions(t *testing.T) {
	if got := decide(t, "amd64", unix.AUDIT_ARCH_I386, 4); got != enosys {
		t.Errorf("32-bit call: %#x", got)
	}
	if got := decide(t, "amd64", unix.AUDIT_ARCH_X86_64, 0x40000001); got != enosys {
		t.Errorf("x32 call: %#x", got)
	}
	if got := decide(t, "arm64", unix.AUDIT_ARCH_ARM, 4); got != enosys {
		t.Errorf("32-bit call: %#x", got)
	}
	if _, err := Program("riscv64"); err == nil {
		t.Error("a filter for an architecture without a table")
	}
}

// A new profile that spells a call differently, or one that golang.org/x/sys does not have yet, would lock functions out
// of it without a word: update the tables with go generate, and the number once the rest is of other architectures.
func TestProfileNamesAreKnown(t *testing.T) {
	var unknown []string
	for _, sc := range moby.DefaultProfile().Syscalls {
		if in := sc.Includes; in != nil && (len(in.Caps) > 0 || len(in.Arches) > 0) {
			continue
		}
		for _, name := range sc.Names {
			if _, ok := numbersAMD64[name]; !ok {
				unknown = append(unknown, name)
			}
		}
	}
	if len(unknown) != 61 {
		t.Errorf("%d names of the profile are unknown: %v", len(unknown), unknown)
	}
	for _, name := range append(append([]string{}, denied...), absent...) {
		if _, ok := numbersAMD64[name]; !ok {
			t.Errorf("%s is denied and does not exist", name)
		}
	}
}

func FuzzDecide(f *testing.F) {
	f.Add(uint32(0), uint64(0), uint64(0))
	f.Add(uint32(41), uint64(unix.AF_ALG), uint64(0))
	f.Fuzz(func(t *testing.T, nr uint32, a0, a2 uint64) {
		for goarch, a := range arches {
			got := decide(t, goarch, a.audit, nr, a0, 0, a2)
			if got != allow && got>>16 != unix.SECCOMP_RET_ERRNO>>16 {
				t.Errorf("%s: %d answers %#x", goarch, nr, got)
			}
			if nr == a.numbers["clone"] && got == allow && a0&(unix.CLONE_NEWUSER|unix.CLONE_NEWNS|unix.CLONE_NEWNET|unix.CLONE_NEWPID) != 0 {
				t.Errorf("%s: clone(%#x) is allowed", goarch, a0)
			}
		}
	})
}
