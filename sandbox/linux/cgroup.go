package linux

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3"
	"golang.org/x/sys/unix"
)

// CPU shares, after AWS: at 1,769 MB a function has the equivalent of one core.
const (
	memoryPerCore = 1769  // MB
	cpuPeriod     = 20000 // µs; short, so that a small function is not stalled for long at a time
	minQuota      = 1000  // µs, the kernel's least
)

// maxProcesses is AWS's bound on processes and threads, with pid 1 on top.
const maxProcesses = 1024 + 1

// cpuQuota is the run time per period that memoryMB is worth, in µs.
func cpuQuota(memoryMB int) int {
	return max(memoryMB*cpuPeriod/memoryPerCore, minQuota)
}

// hierarchy makes groups. One of cgroup v1, cgroup v2 or noCgroups.
type hierarchy interface {
	// make makes an empty group.
	make(name string) (group, error)
	// names lists the groups that are there.
	names() ([]string, error)
	// load opens a group that an earlier instance left.
	load(name string) (group, error)
	// close removes the groups' parent.
	close() error
	// describe says what it bounds, for errors and doctor.
	describe() string
	// boundsMemory says whether its groups bound memory.
	boundsMemory() bool
}

// group is one sandbox's cgroup.
type group interface {
	// fd is a directory that a process can be created in, -1 where that is not possible.
	fd() int
	attach(pid int) error
	// boundsMemory says whether limitMemory works, and what the memory is known by.
	boundsMemory() bool
	// limitMemory sets the bound at which the kernel kills. On cgroup v1 it fails when more than that is in use.
	limitMemory(bytes int64) error
	// reclaimTo has the kernel take back what it can until at most bytes are in use. It kills nothing.
	reclaimTo(bytes int64)
	// usage is what is in use now, fileCache what of it is a copy of files on disk, bytes.
	usage() uint64
	fileCache() uint64
	limitCPU(quotaMicros int) error
	// freezes says whether setFrozen works.
	freezes() bool
	// setFrozen asks for the state, frozen says whether it has been reached.
	setFrozen(on bool) error
	frozen() (bool, error)
	peak() uint64
	oomKills() uint64
	pids() ([]int, error)
	// remove waits for the kernel to let go of processes that have ended.
	remove() error
}

var errNoFreezer = errors.New("no freezer cgroup")

// findHierarchy gives the groups of this instance, and an error that says what is missing.
func findHierarchy(instance string, root bool) (hierarchy, error) {
	name := "thaw-" + instance
	switch cgroups.Mode() {
	case cgroups.Unified:
		return openUnified("/sys/fs/cgroup", name, root)
	case cgroups.Hybrid, cgroups.Legacy:
		return openLegacy("/sys/fs/cgroup", name)
	}
	return nil, errors.New("no cgroup file system at /sys/fs/cgroup")
}

// Limits says, for people, what would bound a sandbox of this user here, as Driver.Limits does. It makes a group and
// removes it; instance is as in Config.
func Limits(instance string) (string, error) {
	h, err := findHierarchy(instance, os.Geteuid() == 0)
	if err != nil {
		return "", err
	}
	return h.describe(), h.close()
}

// noCgroups is what an unprivileged host without delegated cgroups has.
type noCgroups struct{}

func (noCgroups) make(string) (group, error) { return noGroup{}, nil }
func (noCgroups) names() ([]string, error)   { return nil, nil }
func (noCgroups) load(string) (group, error) { return noGroup{}, nil }
func (noCgroups) close() error               { return nil }
func (noCgroups) describe() string           { return "none" }
func (noCgroups) boundsMemory() bool         { return false }

type noGroup struct{}

func (noGroup) fd() int                 { return -1 }
func (noGroup) attach(int) error        { return nil }
func (noGroup) limitMemory(int64) error { return nil }
func (noGroup) reclaimTo(int64)         {}
func (noGroup) usage() uint64           { return 0 }
func (noGroup) fileCache() uint64       { return 0 }
func (noGroup) limitCPU(int) error      { return nil }
func (noGroup) freezes() bool           { return false }
func (noGroup) boundsMemory() bool      { return false }
func (noGroup) setFrozen(bool) error    { return errNoFreezer }
func (noGroup) frozen() (bool, error)   { return false, errNoFreezer }
func (noGroup) peak() uint64            { return 0 }
func (noGroup) oomKills() uint64        { return 0 }
func (noGroup) pids() ([]int, error)    { return nil, nil }
func (noGroup) remove() error           { return nil }

// put writes a cgroup file that exists; it never makes one.
func put(dir, file, value string) error {
	fd, err := unix.Open(filepath.Join(dir, file), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Join(dir, file), Err: err}
	}
	// A signal, such as those of Go's scheduler, interrupts a write for which the kernel takes memory back.
	for range 100 {
		if _, err = unix.Write(fd, []byte(value)); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	unix.Close(fd)
	if err != nil {
		return &os.PathError{Op: "write " + value, Path: filepath.Join(dir, file), Err: err}
	}
	return nil
}

// counter reads one number from an open file.
func counter(f *os.File) uint64 {
	if f == nil {
		return 0
	}
	var b [32]byte
	n, _ := f.ReadAt(b[:], 0)
	v, _ := strconv.ParseUint(string(bytes.TrimSpace(b[:n])), 10, 64)
	return v
}

// field reads "name value" from a file of such lines; a name that is not there counts zero. Several names are added up.
func field(path string, names ...string) (sum uint64) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && slices.Contains(names, f[0]) {
			v, _ := strconv.ParseUint(f[1], 10, 64)
			sum += v
		}
	}
	return sum
}

func readPids(path string) ([]int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, s := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if pid > 0 { // zero is a process outside our pid namespace
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// subdirectories lists the names of the directories in dir; none when dir is not there.
func subdirectories(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// removeGroup removes a cgroup directory. The kernel reports a group as busy for a moment after its last process has
// been waited for.
func removeGroup(dir string) error {
	deadline := time.Now().Add(5 * time.Second)
	for pause := 100 * time.Microsecond; ; pause *= 2 {
		err := unix.Rmdir(dir)
		if err == nil || err == unix.ENOENT {
			return nil
		}
		if err != unix.EBUSY || time.Now().After(deadline) {
			return &os.PathError{Op: "rmdir", Path: dir, Err: err}
		}
		time.Sleep(min(pause, 20*time.Millisecond)) //nolint:forbidigo // polls with a deadline: the kernel tells nobody when it lets go
	}
}
