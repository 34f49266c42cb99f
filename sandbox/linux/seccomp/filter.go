// Package seccomp makes the system call filter of a sandbox: Moby's default profile for a process without
// capabilities, tightened, as a BPF program. It does not install it.
//
// What is not on the list fails with EPERM; what this package has never heard of, and the few calls whose callers know
// how to do without, fail with ENOSYS, so that libraries fall back to what is older.
package seccomp

import (
	"fmt"
	"slices"

	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

//go:generate go run gen.go

// denied are calls that the profile allows and a function has no business with.
var denied = []string{
	// Reading and writing other processes, of which the same user's are reachable without a capability.
	"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "pidfd_getfd", "kcmp",
	// File handles step around mounts; fanotify and mount listings have no use without privilege.
	"name_to_handle_at", "open_by_handle_at", "fanotify_mark", "listmount", "statmount",
	// Memory that no cgroup accounts for, and segments that only 16-bit code needs.
	"memfd_secret", "modify_ldt",
	// Kept out by the profile today; named so that a new profile cannot bring them back.
	"add_key", "keyctl", "request_key", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter",
	"io_uring_register", "mount", "umount2", "mount_setattr", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig",
	"fsmount", "fspick", "pivot_root", "chroot", "setns", "unshare", "init_module", "finit_module", "delete_module",
	"kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff", "quotactl", "quotactl_fd", "acct", "syslog",
	"iopl", "ioperm", "vhangup", "settimeofday", "clock_settime", "sethostname", "setdomainname", "lookup_dcookie",
	"nfsservctl", "uselib", "ustat", "sysfs", "_sysctl", "fanotify_init", "vmsplice", "move_pages", "migrate_pages",
}

// absent are calls answered with ENOSYS. The flags of clone3 are in memory, where a filter cannot see them; io_uring
// steps around filters; both have fallbacks in every library that uses them.
var absent = []string{"clone3", "io_uring_setup", "io_uring_enter", "io_uring_register"}

// families are the address families that a socket may have. Netlink is for the list of interfaces and routes alone.
var families = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6}

type arch struct {
	audit   uint32
	numbers map[string]uint32
	// limit is the first number of another calling convention, zero where there is none.
	limit uint32
}

var arches = map[string]arch{
	"amd64": {audit: unix.AUDIT_ARCH_X86_64, numbers: numbersAMD64, limit: 0x40000000},
	"arm64": {audit: unix.AUDIT_ARCH_AARCH64, numbers: numbersARM64},
}

// rule is what happens to one call: allowed when one of the conditions holds, an empty condition always does.
type rule struct {
	allow []condition
	errno uint16
}

// condition is a conjunction of comparisons (argument & mask) == value.
type condition []comparison

type comparison struct {
	arg         uint
	mask, value uint64
}

// Offsets in struct seccomp_data, and return values.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16

	retAllow = unix.SECCOMP_RET_ALLOW
	retErrno = unix.SECCOMP_RET_ERRNO
)

// forkFlags are what a template may unshare, each value as a whole: the namespaces of a new environment, and, once it is in its
// cgroup, the one that begins there. Neither mount nor setns comes with them.
var forkFlags = []uint64{
	unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWPID,
	unix.CLONE_NEWCGROUP,
}

// Program gives the filter for an architecture in Go's naming, ready for seccomp(2).
func Program(goarch string) ([]bpf.RawInstruction, error) {
	return assemble(goarch, nil)
}

// TemplateProgram is Program with the one call more that forking an environment takes: unshare, with its flags alone.
// What is forked installs ForkedProgram on top.
func TemplateProgram(goarch string) ([]bpf.RawInstruction, error) {
	return assemble(goarch, forkFlags)
}

// ForkedProgram takes back what TemplateProgram allows beyond Program: both together decide as Program does. It is short because
// the kernel compiles a filter, and tries it with every call, when it is installed: a third of a millisecond for a long one.
func ForkedProgram(goarch string) ([]bpf.RawInstruction, error) {
	insns, err := forkedInstructions(goarch)
	if err != nil {
		return nil, err
	}
	return bpf.Assemble(insns)
}

// forkedInstructions look at the number alone; calls of another architecture are the other filter's to refuse.
func forkedInstructions(goarch string) ([]bpf.Instruction, error) {
	a, ok := arches[goarch]
	if !ok {
		return nil, fmt.Errorf("seccomp: no filter for architecture %q", goarch)
	}
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: a.numbers["unshare"], SkipFalse: 1},
		bpf.RetConstant{Val: retErrno | uint32(unix.EPERM)},
		bpf.RetConstant{Val: retAllow},
	}, nil
}

func assemble(goarch string, unshare []uint64) ([]bpf.RawInstruction, error) {
	insns, err := instructions(goarch, unshare...)
	if err != nil {
		return nil, err
	}
	return bpf.Assemble(insns)
}

func instructions(goarch string, unshare ...uint64) ([]bpf.Instruction, error) {
	a, ok := arches[goarch]
	if !ok {
		return nil, fmt.Errorf("seccomp: no filter for architecture %q", goarch)
	}
	rules, err := a.rules(goarch)
	if err != nil {
		return nil, err
	}
	if len(unshare) > 0 {
		r := rule{errno: uint16(unix.EPERM)}
		for _, flags := range unshare {
			r.allow = append(r.allow, condition{{arg: 0, mask: ^uint64(0), value: flags}})
		}
		rules[a.numbers["unshare"]] = r
	}
	absentCall := bpf.RetConstant{Val: retErrno | uint32(unix.ENOSYS)}
	prog := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: a.audit, SkipTrue: 1},
		absentCall,
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
	}
	if a.limit != 0 {
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: a.limit, SkipFalse: 1}, absentCall)
	}
	return append(prog, tree(ranges(rules))...), nil
}

// rules evaluates the profile for a process without capabilities and tightens it.
func (a arch) rules(goarch string) (map[uint32]rule, error) {
	rules := make(map[uint32]rule, len(a.numbers))
	for _, nr := range a.numbers {
		rules[nr] = rule{errno: uint16(unix.EPERM)}
	}
	for _, sc := range moby.DefaultProfile().Syscalls {
		if in := sc.Includes; in != nil && (len(in.Caps) > 0 || len(in.Arches) > 0 && !slices.Contains(in.Arches, goarch)) {
			continue
		}
		if ex := sc.Excludes; ex != nil && slices.Contains(ex.Arches, goarch) || sc.Action != specs.ActAllow {
			continue
		}
		for _, name := range sc.Names {
			nr, ok := a.numbers[name]
			if !ok || name == "socket" {
				continue
			}
			cond, err := conditions(sc.Args)
			if err != nil {
				return nil, fmt.Errorf("seccomp: %s: %w", name, err)
			}
			r := rules[nr]
			r.allow = append(r.allow, cond)
			rules[nr] = r
		}
	}
	for _, name := range denied {
		if nr, ok := a.numbers[name]; ok {
			rules[nr] = rule{errno: uint16(unix.EPERM)}
		}
	}
	for _, name := range absent {
		if nr, ok := a.numbers[name]; ok {
			rules[nr] = rule{errno: uint16(unix.ENOSYS)}
		}
	}
	socket := rule{errno: uint16(unix.EAFNOSUPPORT)}
	for _, family := range families {
		socket.allow = append(socket.allow, condition{{arg: 0, mask: 0xffffffff, value: uint64(family)}})
	}
	socket.allow = append(socket.allow, condition{
		{arg: 0, mask: 0xffffffff, value: unix.AF_NETLINK},
		{arg: 2, mask: 0xffffffff, value: unix.NETLINK_ROUTE},
	})
	rules[a.numbers["socket"]] = socket
	return rules, nil
}

func conditions(args []specs.LinuxSeccompArg) (condition, error) {
	var c condition
	for _, arg := range args {
		switch arg.Op {
		case specs.OpEqualTo:
			c = append(c, comparison{arg: arg.Index, mask: ^uint64(0), value: arg.Value})
		case specs.OpMaskedEqual:
			c = append(c, comparison{arg: arg.Index, mask: arg.Value, value: arg.ValueTwo})
		default:
			return nil, fmt.Errorf("comparison %s is not known", arg.Op)
		}
	}
	return c, nil
}

// span is a run of call numbers from first on, up to the next span's, that share one answer.
type span struct {
	first  uint32
	answer []bpf.Instruction
}

func ranges(rules map[uint32]rule) []span {
	unknown := []bpf.Instruction{bpf.RetConstant{Val: retErrno | uint32(unix.ENOSYS)}}
	var numbers []uint32
	for nr := range rules {
		numbers = append(numbers, nr)
	}
	slices.Sort(numbers)
	var spans []span
	add := func(first uint32, answer []bpf.Instruction) {
		if len(spans) == 0 || !slices.Equal(spans[len(spans)-1].answer, answer) {
			spans = append(spans, span{first, answer})
		}
	}
	next := uint32(0)
	for _, nr := range numbers {
		if nr > next {
			add(next, unknown)
		}
		add(nr, rules[nr].compile())
		next = nr + 1
	}
	add(next, unknown)
	return spans
}

// tree is a binary search for the span of the number in the accumulator.
func tree(spans []span) []bpf.Instruction {
	if len(spans) == 1 {
		return spans[0].answer
	}
	mid := len(spans) / 2
	low, high := tree(spans[:mid]), tree(spans[mid:])
	out := []bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: spans[mid].first, SkipTrue: 1},
		bpf.Jump{Skip: uint32(len(low))},
	}
	return append(append(out, low...), high...)
}

// compile gives the instructions for one call; they end in a return on every path.
func (r rule) compile() []bpf.Instruction {
	var out []bpf.Instruction
	for _, c := range r.allow {
		if len(c) == 0 {
			return []bpf.Instruction{bpf.RetConstant{Val: retAllow}}
		}
		out = append(out, c.compile()...)
	}
	return append(out, bpf.RetConstant{Val: retErrno | uint32(r.errno)})
}

// compile allows when every comparison holds and falls through otherwise.
func (c condition) compile() []bpf.Instruction {
	var out []bpf.Instruction
	for _, cmp := range c {
		for half := range 2 {
			mask, value := uint32(cmp.mask>>(32*half)), uint32(cmp.value>>(32*half))
			if mask == 0 {
				continue
			}
			out = append(out,
				bpf.LoadAbsolute{Off: uint32(offArgs + 8*cmp.arg + uint(4*half)), Size: 4},
				bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask},
				bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: value},
			)
		}
	}
	out = append(out, bpf.RetConstant{Val: retAllow})
	for i, insn := range out {
		if jump, ok := insn.(bpf.JumpIf); ok {
			jump.SkipTrue = uint8(len(out) - 1 - i)
			out[i] = jump
		}
	}
	return out
}
