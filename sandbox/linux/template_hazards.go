package linux

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxHazards bounds what Hazards tells; a process with more of one kind has them summed up.
const maxHazards = 20

// Hazards looks at /proc; see sandbox.Template.
func (t *template) Hazards() ([]string, error) {
	t.mu.Lock()
	closed := t.closed
	t.mu.Unlock()
	if closed {
		return nil, ErrEnded
	}
	for end := time.Now().Add(settleLimit); ; <-time.After(settlePause) {
		found, err := t.examine()
		if err != nil || len(found) == 0 || time.Now().After(end) {
			return found, err
		}
	}
}

// A thread that is about to end or to wait for work when init is over, and the runtime, which reads its own maps on its way to where
// it is parked, get this long for it.
const (
	settleLimit = time.Second
	settlePause = 5 * time.Millisecond
)

// examine is one look at all that can be wrong.
func (t *template) examine() ([]string, error) {
	pids, err := t.shim.group.pids()
	if err != nil {
		return nil, err
	}
	e := &examination{dir: fmt.Sprintf("/proc/%d", t.runtime), pid: t.runtime}
	if e.program, err = os.Readlink(e.dir + "/exe"); err != nil {
		return nil, err
	}
	e.node = strings.HasPrefix(filepath.Base(e.program), "node")
	e.ruby = strings.HasPrefix(filepath.Base(e.program), "ruby")
	e.output = inodeOf(t.output)
	for _, look := range []func() error{e.threads, func() error { return e.processes(pids) }, e.descriptors, e.memory, e.timers} {
		if err := look(); err != nil {
			return nil, fmt.Errorf("sandbox: look at the template: %w", err)
		}
	}
	if n := len(e.found) - maxHazards; n > 0 {
		e.found = append(e.found[:maxHazards], fmt.Sprintf("init left %d more that cannot be forked", n))
	}
	return e.found, nil
}

func inodeOf(f *os.File) (inode uint64) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) {
		var st unix.Stat_t
		if unix.Fstat(int(fd), &st) == nil {
			inode = st.Ino
		}
	})
	return inode
}

// examination is one look at a process.
type examination struct {
	dir, program string
	pid          int
	node, ruby   bool
	output       uint64
	found        []string
}

func (e *examination) tell(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(e.found, s) {
		e.found = append(e.found, s)
	}
}

// nodeThreads are names of threads that Node.js has of its own: its main one's before libuv 1.50 named them.
var nodeThreads = []string{"node", "libuv-worker", "SignalInspector", "DelayedTaskSchedu", "DelayedTaskSche", "V8Worker"}

// threads looks for threads that a fork would not copy.
func (e *examination) threads() error {
	names, err := e.foreignThreads()
	if err != nil {
		return err
	}
	different := slices.Compact(slices.Sorted(slices.Values(names)))
	switch {
	case len(names) == 1:
		e.tell("1 thread is running after init (%s)", names[0])
	case len(names) > 1:
		e.tell("%d threads are running after init (%s)", len(names), strings.Join(different, ", "))
	}
	return nil
}

// foreignThreads gives the names of the threads that are not the runtime's own. Of Node.js's own, those that wait for work are made
// again by it, or, started with --single-threaded, not needed; one of those that wait for events is its scheduler of delayed
// tasks, the others are of workers.
func (e *examination) foreignThreads() (names []string, err error) {
	tasks, err := os.ReadDir(e.dir + "/task")
	if err != nil {
		return nil, err
	}
	schedulers := 0
	for _, task := range tasks {
		if task.Name() == strconv.Itoa(e.pid) {
			continue
		}
		dir := filepath.Join(e.dir, "task", task.Name())
		comm, err := os.ReadFile(dir + "/comm")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // has ended
		}
		name := strings.TrimSpace(string(comm))
		if e.node && (slices.Contains(nodeThreads, name) || name == filepath.Base(e.program)) {
			work, events := waitsFor(dir)
			if events {
				schedulers++
			}
			if work || events && schedulers == 1 {
				continue
			}
		}
		names = append(names, name)
	}
	return names, nil
}

// waitsFor says whether a thread sleeps in futex(2), as one does that waits on a condition or a semaphore, or in epoll_pwait(2).
func waitsFor(task string) (work, events bool) {
	b, _ := os.ReadFile(task + "/syscall") // "running", or that of a thread that has ended
	number, _, _ := strings.Cut(string(b), " ")
	return number == strconv.Itoa(unix.SYS_FUTEX), number == strconv.Itoa(unix.SYS_EPOLL_PWAIT)
}

// processes looks for others than the runtime in the cgroup.
func (e *examination) processes(pids []int) error {
	for _, pid := range pids {
		if pid == e.pid {
			continue
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			continue // has ended
		}
		e.tell("init left the process %s running", strings.TrimSpace(string(comm)))
	}
	return nil
}

// memory looks for mappings that a copy would have together with its template: all shared ones but those of files that nobody
// writes to. In /tmp and /dev/shm environments have files of their own, and the mapping is of the template's.
func (e *examination) memory() error {
	b, err := os.ReadFile(e.dir + "/maps")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		if words := tellMapping(strings.TrimSuffix(line, "\n")); words != "" {
			e.tell("%s", words)
		}
	}
	return nil
}

// tellMapping puts one line of /proc/PID/maps into words; nothing for a mapping that is safe.
func tellMapping(line string) string {
	f := strings.Fields(line)
	if len(f) < 5 || len(f[1]) != 4 || f[1][3] != 's' {
		return ""
	}
	name := strings.Join(f[5:], " ")
	_, deleted := strings.CutSuffix(name, " (deleted)")
	switch {
	case name == "" || strings.HasPrefix(name, "/dev/zero"):
		name = "anonymous"
	case strings.HasPrefix(name, "/") && f[1][1] != 'w' && !deleted && !privateFile(name):
		return ""
	}
	return "init holds memory that all environments would share (" + strings.TrimSuffix(name, " (deleted)") + ")"
}

// privateFile says whether a path is in a folder that every environment has for itself.
func privateFile(path string) bool {
	return slices.ContainsFunc(privateDirs, func(dir string) bool { return strings.HasPrefix(path, dir+"/") })
}

// timers looks for POSIX timers, which no copy gets. Those of setitimer it does: see runtimes/native/fork.c.
func (e *examination) timers() error {
	b, err := os.ReadFile(e.dir + "/timers")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a kernel without them
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		signal, is := strings.CutPrefix(line, "signal: ")
		signal, _, _ = strings.Cut(signal, "/")
		if !is || e.ruby && signal == strconv.Itoa(int(unix.SIGVTALRM)) { // Ruby's own, which it makes again
			continue
		}
		e.tell("init left a timer (timer_create)")
	}
	return nil
}
