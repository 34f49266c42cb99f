// Package probe finds out what this machine offers to sandboxes, by trying it. It changes nothing that outlives a call:
// what it makes belongs to a process or a thread that ends.
package probe

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/cgroups/v3"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"thaw/sandbox"
	"thaw/sandbox/linux"
)

// Capability is one thing that a machine offers or does not.
type Capability struct {
	// Name is a few words, fixed: scripts may look for it.
	Name string
	// Present says whether it works here, for the user who asked.
	Present bool
	// Detail is what was found: a version, a setting, the kernel's error.
	Detail string
	// WithoutIt says what is weaker or does not work where it is missing.
	WithoutIt string
}

// Probe tries everything, in an order that reads from the most to the least fundamental. It takes some tens of
// milliseconds. What was not tried before ctx ended is reported as missing.
func Probe(ctx context.Context) []Capability {
	caps := []Capability{kernel(), root(), userNamespaces(ctx)}
	for _, ns := range kinds {
		caps = append(caps, namespace(ctx, ns))
	}
	caps = append(caps, changeOfRoot(), seccomp())
	limits := delegated()
	caps = append(caps, controllers(limits)...)
	caps = append(caps, memoryPeak(limits), networks(), forks(), whole(ctx))
	return caps
}

func found(name, without string, err error, detail string) Capability {
	if err != nil {
		detail = err.Error()
	}
	return Capability{Name: name, Present: err == nil, Detail: detail, WithoutIt: without}
}

// minKernel has everything that a sandbox is made with; the youngest of it are mount_setattr (5.12) and the
// close-on-exec flag of close_range (5.11).
const minKernel = "5.12"

func kernel() Capability {
	var u unix.Utsname
	err := unix.Uname(&u)
	release := unix.ByteSliceToString(u.Release[:])
	if err == nil && !atLeast(release, minKernel) {
		err = fmt.Errorf("%s is older than %s", release, minKernel)
	}
	return found("Linux "+minKernel, "no sandbox can be made", err, release)
}

// atLeast compares the first two numbers of two kernel releases.
func atLeast(release, least string) bool {
	a, b := numbers(release), numbers(least)
	return a[0] > b[0] || a[0] == b[0] && a[1] >= b[1]
}

func numbers(release string) (n [2]int) {
	for i, s := range strings.SplitN(release, ".", 3) {
		if i == len(n) {
			break
		}
		digits := s
		if end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			digits = s[:end]
		}
		n[i], _ = strconv.Atoi(digits)
	}
	return n
}

func root() Capability {
	var err error
	if euid := os.Geteuid(); euid != 0 {
		err = fmt.Errorf("uid %d", euid)
	}
	return found("root", "environments share the caller's user id outside, have no network but loopback (or the host's), and cgroups only where the session delegates them", err, "uid 0")
}

func userNamespaces(ctx context.Context) Capability {
	const without = "no sandbox can be made"
	if n := sysctl("user/max_user_namespaces"); n == "0" {
		return found("user namespaces", without, errors.New("user.max_user_namespaces is 0"), "")
	}
	err := try(ctx, unix.CLONE_NEWUSER)
	detail := "user.max_user_namespaces is " + sysctl("user/max_user_namespaces")
	if sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1" {
		detail += "; AppArmor restricts those of users without privilege (kernel.apparmor_restrict_unprivileged_userns)"
		if err != nil {
			err = fmt.Errorf("%w: %s", err, "AppArmor restricts them: run as root, or set kernel.apparmor_restrict_unprivileged_userns=0")
		}
	}
	return found("user namespaces", without, err, detail)
}

type kind struct {
	name, without string
	flag          uintptr
}

var kinds = []kind{
	{"pid namespaces", "no sandbox can be made", unix.CLONE_NEWPID},
	{"mount namespaces", "no sandbox can be made", unix.CLONE_NEWNS},
	{"ipc namespaces", "no sandbox can be made", unix.CLONE_NEWIPC},
	{"uts namespaces", "no sandbox can be made", unix.CLONE_NEWUTS},
	{"cgroup namespaces", "no sandbox can be made", unix.CLONE_NEWCGROUP},
	{"network namespaces", "functions run in the host's network (network: host)", unix.CLONE_NEWNET},
}

func namespace(ctx context.Context, k kind) Capability {
	flag := k.flag
	if os.Geteuid() != 0 {
		flag |= unix.CLONE_NEWUSER
	}
	return found(k.name, k.without, try(ctx, flag), "")
}

// try starts a program that does nothing in new namespaces.
func try(ctx context.Context, flags uintptr) error {
	cmd := exec.CommandContext(ctx, "/bin/true")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if flags&unix.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return cmd.Run()
}

// changeOfRoot looks at what pivot_root(2) demands of the present root: not the initial RAM disk.
func changeOfRoot() Capability {
	const without = "no sandbox can be made"
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return found("pivot_root", without, err, "")
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 5 || f[4] != "/" {
			continue
		}
		_, fstype, _ := strings.Cut(line, " - ")
		if strings.HasPrefix(fstype, "rootfs ") {
			return found("pivot_root", without, errors.New("the root is the initial RAM disk, which cannot be left"), "")
		}
		return found("pivot_root", without, nil, "the root is a "+strings.Fields(fstype)[0])
	}
	return found("pivot_root", without, errors.New("the root is not a mount point"), "")
}

func seccomp() Capability {
	return found("seccomp filters", "no sandbox can be made", actionAvailable(unix.SECCOMP_RET_ERRNO), "")
}

// controllers are the cgroup controllers, each found where sandboxes would use it. delegated is what a user who is not
// root has.
func controllers(delegated string) []Capability {
	var out []Capability
	mode := cgroups.Mode()
	available := ""
	if mode == cgroups.Unified {
		b, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
		available = string(b)
	}
	for _, c := range []struct{ name, without string }{
		{"memory", "MemorySize is not enforced, and running out of memory is not told apart from a crash"},
		{"cpu", "every function may use every core"},
		{"pids", "a fork bomb is bounded by the machine alone"},
		{"freezer", "idle environments are stopped by signals, which their processes can notice"},
	} {
		var err error
		detail := "cgroup v2"
		switch {
		case mode == cgroups.Unified && c.name == "freezer":
		case mode == cgroups.Unified:
			if !strings.Contains(" "+strings.Join(strings.Fields(available), " ")+" ", " "+c.name+" ") {
				err = errors.New("not among the controllers of /sys/fs/cgroup")
			}
		case mode == cgroups.Legacy || mode == cgroups.Hybrid:
			detail = "cgroup v1"
			if _, serr := os.Stat(filepath.Join("/sys/fs/cgroup", c.name, "cgroup.procs")); serr != nil {
				err = errors.New("not mounted below /sys/fs/cgroup")
			}
		default:
			err = errors.New("no cgroup file system at /sys/fs/cgroup")
		}
		if err == nil && os.Geteuid() != 0 {
			err = isDelegated(delegated, c.name)
		}
		out = append(out, found("cgroup "+c.name, c.without, err, detail))
	}
	return out
}

// delegated says what bounds the sandboxes of a user who is not root, as in a systemd session; nothing for root, who
// needs nobody's leave.
func delegated() string {
	if os.Geteuid() == 0 {
		return ""
	}
	limits, err := linux.Limits(instance())
	if err != nil {
		return ""
	}
	return limits
}

func isDelegated(limits, controller string) error {
	switch {
	case limits == "":
		return errors.New("this user may not make groups")
	case !strings.Contains(limits, controller):
		return errors.New("not delegated to this user")
	}
	return nil
}

func memoryPeak(delegated string) Capability {
	const without = "Max Memory Used is what was in use when it was asked for, or the largest process's alone, not the highest of all"
	if os.Geteuid() != 0 {
		if err := isDelegated(delegated, "memory"); err != nil {
			return found("memory peak", without, err, "")
		}
	}
	switch cgroups.Mode() {
	case cgroups.Legacy, cgroups.Hybrid:
		_, err := os.Stat("/sys/fs/cgroup/memory/memory.max_usage_in_bytes")
		return found("memory peak", without, err, "memory.max_usage_in_bytes")
	default:
		var u unix.Utsname
		err := unix.Uname(&u)
		if release := unix.ByteSliceToString(u.Release[:]); err == nil && !atLeast(release, "5.19") {
			err = fmt.Errorf("memory.peak came with Linux 5.19, this is %s", release)
		}
		return found("memory peak", without, err, "memory.peak")
	}
}

// networks tries, in a network namespace of a thread's own, what the functions' network is made of.
func networks() Capability {
	const name, without = "nftables and veth", "functions have no network but loopback, or the host's"
	if os.Geteuid() != 0 {
		return found(name, without, errors.New("needs root"), "")
	}
	result := make(chan error, 1)
	go func() {
		// The thread is not unlocked: it ends with the goroutine, and the namespace with the thread.
		runtime.LockOSThread()
		result <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("network namespace: %w", err)
			}
			attrs := netlink.NewLinkAttrs()
			attrs.Name = "probe0"
			if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "probe1"}); err != nil {
				return fmt.Errorf("veth: %w", err)
			}
			conn, err := nftables.New()
			if err != nil {
				return fmt.Errorf("nftables: %w", err)
			}
			table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "probe"})
			conn.AddChain(&nftables.Chain{Name: "nat", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
			if err := conn.Flush(); err != nil {
				return fmt.Errorf("nftables: %w", err)
			}
			return nil
		}()
	}()
	return found(name, without, <-result, "")
}

// forks looks at what the kernel's settings let a template do. Only one that runs can try it; it does before it is used.
func forks() Capability {
	return found("forks", "every environment is booted: there are no templates", linux.ForkObstacle(), "no setting is in the way")
}

// whole makes a sandbox and runs a program in it: what the rest adds up to.
func whole(ctx context.Context) Capability {
	const name, without = "a whole sandbox", "no function can run"
	dir, err := os.MkdirTemp("", "thaw-probe-")
	if err != nil {
		return found(name, without, err, "")
	}
	defer os.RemoveAll(dir)
	detail, err := runOne(ctx, dir)
	return found(name, without, err, detail)
}

func runOne(ctx context.Context, dir string) (detail string, err error) {
	name := instance()
	d, err := linux.New(ctx, linux.Config{Instance: name, Dir: dir, Network: sandbox.NetworkNone})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	p, err := d.Start(ctx, &sandbox.Spec{ID: name, Args: []string{"/bin/true"}, MemoryMB: 128, TmpMB: 1})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	select {
	case <-p.Done():
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if exit := p.Exit(); exit != (sandbox.ExitStatus{}) {
		return "", fmt.Errorf("/bin/true ended with %+v", exit)
	}
	return d.Limits(), nil
}

// instance is a name that no other probe has.
func instance() string {
	var id [4]byte
	rand.Read(id[:])
	return "probe" + hex.EncodeToString(id[:])
}

func sysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
