package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// User code ran in a template, and could go on there in the place of what parks it. So the host believes nothing that a fork
// says of itself: who speaks it hears from the kernel, and what the speaker is it looks up.

var (
	errLied       = errors.New("the template does not fork as it should")
	errMakerEnded = errors.New("the intermediate has ended")
)

// dying is how long a process that is being killed may take to be seen as one that has ended: it leaves its cgroups before.
const dying = 50 * time.Millisecond

// lied is the error for a process that is not what it should be. One that has ended is nothing any more, and no lie.
func lied(pid int, format string, args ...any) error {
	for end := time.Now().Add(dying); time.Now().Before(end); <-time.After(time.Millisecond) {
		status, err := statusOf(pid)
		if err != nil {
			return err
		}
		if state := status["State:"]; strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X") {
			return fmt.Errorf("process %d: %w", pid, unix.ESRCH)
		}
	}
	return fmt.Errorf("%w: "+format, append([]any{errLied}, args...)...)
}

// placeOf gives the cgroups of a process that a sandbox has for itself, as the host sees them.
func placeOf(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return ownPlace(string(b)), err
}

// ownPlace leaves out of a /proc/PID/cgroup (cgroups(7)) the hierarchies that no sandbox is moved in: anybody on the host can mount
// or release one between two readings.
func ownPlace(cgroups string) string {
	var own strings.Builder
	for line := range strings.Lines(cgroups) {
		_, rest, _ := strings.Cut(line, ":")
		controllers, _, _ := strings.Cut(rest, ":")
		unified := controllers == ""
		if unified || slices.ContainsFunc(strings.Split(controllers, ","), func(c string) bool { return slices.Contains(legacyControllers, c) }) {
			own.WriteString(rest)
		}
	}
	return own.String()
}

// pidfdOf gives the number of a pidfd without making it block.
func pidfdOf(f *os.File) (fd int) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1
	}
	_ = raw.Control(func(n uintptr) { fd = int(n) }) // its owner is the caller
	return fd
}

// isTemplates says whether a process is one of the template's: it is about to be moved, and killed when the fork fails.
func (f *fork) isTemplates(pid int) error {
	want, err := placeOf(f.template.runtime)
	if err != nil {
		return err
	}
	have, err := placeOf(pid)
	if err == nil && have != want {
		err = lied(pid, "the intermediate is not in its cgroup")
	}
	return err
}

// isFirst says whether a process is pid 1 of a pid namespace right below the template's, in the environment's cgroups. Every other
// process of the namespace began as its copy or after it, and so is in them as well.
func (f *fork) isFirst(pid int) error {
	own, err := statusOf(pid)
	if err != nil {
		return err
	}
	templates, err := statusOf(f.template.shim.pid)
	if err != nil {
		return err
	}
	below := len(strings.Fields(own["NSpid:"])) - len(strings.Fields(templates["NSpid:"]))
	if below != 1 || !strings.HasSuffix(own["NSpid:"], " 1") {
		return lied(pid, "its pid 1 is %s", own["NSpid:"])
	}
	return f.isInPlace(pid)
}

func (f *fork) isInPlace(pid int) error {
	have, err := placeOf(pid)
	if err == nil && have != f.place {
		err = lied(pid, "a process is not in the environment's cgroup")
	}
	return err
}

// verify looks at an environment before an event is handed to it. Its pid 1 runs thaw's program and nothing can trace or load anything into
// it; its runtime, and what an after-restore hook may have started by now, are in the same namespaces, none of them the
// template's; nobody has a capability, another user's id, or fewer filters than there should be. What a filter
// does cannot be seen from outside: a runtime that installed one of its own for the last one can still call unshare, as it
// could in the template.
func (f *fork) verify() error {
	s := f.process.shim
	if err := f.isProgram(s.pid); err != nil {
		return err
	}
	pids, err := s.group.pids()
	if err != nil {
		return err
	}
	pids = append(pids, s.pid, f.runtime)
	slices.Sort(pids)
	for _, pid := range slices.Compact(pids) {
		id := s.id
		if pid == s.pid {
			id = f.driver.ids.shim()
		}
		err := errors.Join(f.isInPlace(pid), f.isApart(pid), isConfined(pid, id, pid == s.pid))
		if hasEnded(err) && pid != s.pid && pid != f.runtime {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func hasEnded(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// isProgram says whether a process runs native/init.c.
func (f *fork) isProgram(pid int) error {
	var want, have unix.Stat_t
	if err := unix.Fstat(int(f.driver.shim.Fd()), &want); err != nil {
		return err
	}
	if err := unix.Stat(fmt.Sprintf("/proc/%d/exe", pid), &have); err != nil {
		return err
	}
	if have.Dev != want.Dev || have.Ino != want.Ino {
		return lied(pid, "its pid 1 runs another program")
	}
	return nil
}

// isApart compares a process's namespaces with pid 1's and with the template's.
func (f *fork) isApart(pid int) error {
	for _, kind := range []string{"user", "pid", "mnt", "ipc", "uts", "cgroup"} {
		first, err := namespaceOf(f.process.shim.pid, kind)
		if err != nil {
			return err
		}
		own, err := namespaceOf(pid, kind)
		if err != nil {
			return err
		}
		templates, err := namespaceOf(f.template.shim.pid, kind)
		if err != nil {
			return err
		}
		if own != first || own == templates {
			return lied(pid, "a process is in another %s namespace", kind)
		}
	}
	return nil
}

func namespaceOf(pid int, kind string) (string, error) {
	return os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
}

// statusOf gives /proc/PID/status by its words.
func statusOf(pid int) (map[string]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if words := strings.Fields(line); len(words) > 0 {
			all[words[0]] = strings.Join(words[1:], " ")
		}
	}
	return all, nil
}

// isConfined says whether a process is the one user, has no capability, and has both filters. first: it is pid 1.
func isConfined(pid int, id uint32, first bool) error {
	status, err := statusOf(pid)
	if err != nil {
		return err
	}
	if _, told := status["Seccomp_filters:"]; !told { // Linux before 5.9 does not count them
		status["Seccomp_filters:"] = "2"
	}
	const none = "0000000000000000"
	ids := strings.TrimSpace(strings.Repeat(fmt.Sprintf(" %d", id), 4))
	for name, want := range map[string]string{"Uid:": ids, "Gid:": ids, "Groups:": "", "NoNewPrivs:": "1", "Seccomp:": "2", "Seccomp_filters:": "2",
		"CapInh:": none, "CapPrm:": none, "CapEff:": none, "CapBnd:": none, "CapAmb:": none} {
		if name == "CapBnd:" && first {
			continue // it began without the capability that emptying this takes; with no_new_privs nothing is to be had from it
		}
		if have, told := status[name]; !told || have != want {
			return lied(pid, "a process has %s %s", name, have)
		}
	}
	return nil
}

// clearOut kills what a failed fork has left in its cgroup. The intermediate's pid may have become a process's of the host between the
// moment when it was heard of and the one when it was moved: such a process is not killed.
func clearOut(ctx context.Context, g group) error {
	own, err := namespaceOf(os.Getpid(), "pid")
	if err != nil {
		return err
	}
	pids, err := g.pids()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if ns, err := namespaceOf(pid, "pid"); err == nil && ns == own {
			return fmt.Errorf("process %d of the host is in an environment's cgroup", pid)
		}
	}
	return empty(ctx, g)
}
