package linux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// legacy is cgroup v1: one tree per controller.
type legacy struct {
	memory, cpu, processes, freezer string // the instance's directory in each
}

// legacyControllers are the ones a sandbox needs.
var legacyControllers = []string{"memory", "cpu", "pids", "freezer"}

// openLegacy makes the instance's directory in each controller's tree.
func openLegacy(mount, name string) (_ *legacy, err error) {
	dirs := make([]string, len(legacyControllers))
	defer func() {
		if err != nil {
			for _, dir := range dirs {
				if dir != "" {
					unix.Rmdir(dir)
				}
			}
		}
	}()
	for i, c := range legacyControllers {
		if !legacyMounted(mount, c) {
			return nil, fmt.Errorf("cgroup v1 controller %s is not mounted at %s", c, filepath.Join(mount, c))
		}
		dir := filepath.Join(mount, c, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		dirs[i] = dir
	}
	// The scheduler weighs the instance against single processes of the host: all its functions together would get the
	// share of one.
	if err := put(dirs[1], "cpu.shares", strconv.Itoa(1024*runtime.NumCPU())); err != nil {
		return nil, err
	}
	return &legacy{memory: dirs[0], cpu: dirs[1], processes: dirs[2], freezer: dirs[3]}, nil
}

func legacyMounted(mount, controller string) bool {
	var st unix.Statfs_t
	return unix.Statfs(filepath.Join(mount, controller), &st) == nil && st.Type == unix.CGROUP_SUPER_MAGIC
}

func (l *legacy) dirs() []string { return []string{l.memory, l.cpu, l.processes, l.freezer} }

func (l *legacy) boundsMemory() bool { return true }

func (l *legacy) describe() string { return "cgroup v1: " + strings.Join(legacyControllers, ", ") }

func (l *legacy) names() ([]string, error) {
	var all []string
	seen := map[string]bool{}
	for _, dir := range l.dirs() {
		names, err := subdirectories(dir)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if !seen[n] {
				seen[n] = true
				all = append(all, n)
			}
		}
	}
	return all, nil
}

func (l *legacy) close() error {
	var errs []error
	for _, dir := range l.dirs() {
		errs = append(errs, removeGroup(dir))
	}
	return errors.Join(errs...)
}

func (l *legacy) load(name string) (group, error) {
	return &legacyGroup{
		memory: filepath.Join(l.memory, name), cpu: filepath.Join(l.cpu, name),
		processes: filepath.Join(l.processes, name), freezer: filepath.Join(l.freezer, name),
	}, nil
}

func (l *legacy) make(name string) (_ group, err error) {
	loaded, _ := l.load(name)
	g := loaded.(*legacyGroup)
	defer func() {
		if err != nil {
			err = errors.Join(err, g.remove())
		}
	}()
	for _, dir := range g.dirs() {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if err := put(g.processes, "pids.max", strconv.Itoa(maxProcesses)); err != nil {
		return nil, err
	}
	if err := put(g.cpu, "cpu.cfs_period_us", strconv.Itoa(cpuPeriod)); err != nil {
		return nil, err
	}
	// A host's swap is not a function's memory.
	if err := put(g.memory, "memory.swappiness", "0"); err != nil {
		return nil, err
	}
	if g.peakFile, err = os.Open(filepath.Join(g.memory, "memory.max_usage_in_bytes")); err != nil {
		return nil, err
	}
	if g.usageFile, err = os.Open(filepath.Join(g.memory, "memory.usage_in_bytes")); err != nil {
		return nil, err
	}
	if g.stateFile, err = os.OpenFile(filepath.Join(g.freezer, "freezer.state"), os.O_RDWR, 0); err != nil {
		return nil, err
	}
	return g, nil
}

type legacyGroup struct {
	memory, cpu, processes, freezer string
	peakFile, usageFile, stateFile  *os.File // nil in a group that was loaded
}

func (g *legacyGroup) dirs() []string { return []string{g.memory, g.cpu, g.processes, g.freezer} }

func (g *legacyGroup) fd() int       { return -1 }
func (g *legacyGroup) freezes() bool { return true }

func (g *legacyGroup) boundsMemory() bool { return true }

func (g *legacyGroup) attach(pid int) error {
	for _, dir := range g.dirs() {
		if err := put(dir, "cgroup.procs", strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
}

func (g *legacyGroup) limitMemory(bytes int64) error {
	v := strconv.FormatInt(bytes, 10)
	// The bound on memory and swap together is there only when the kernel accounts swap. It cannot be below the other,
	// so what is changed first depends on the direction.
	files := []string{"memory.limit_in_bytes", "memory.memsw.limit_in_bytes"}
	err := put(g.memory, files[0], v)
	if errors.Is(err, unix.EINVAL) {
		slices.Reverse(files)
		err = put(g.memory, files[0], v)
	}
	if err != nil {
		return err
	}
	if err := put(g.memory, files[1], v); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// reclaimTo sets the bound, for which the kernel takes back what it can; it refuses when that is not enough.
func (g *legacyGroup) reclaimTo(bytes int64) {
	put(g.memory, "memory.limit_in_bytes", strconv.FormatInt(bytes, 10)) //nolint:errcheck // the use tells what was taken back
}

func (g *legacyGroup) usage() uint64 { return counter(g.usageFile) }

func (g *legacyGroup) fileCache() uint64 {
	return field(filepath.Join(g.memory, "memory.stat"), "inactive_file", "active_file")
}

func (g *legacyGroup) limitCPU(quotaMicros int) error {
	return put(g.cpu, "cpu.cfs_quota_us", strconv.Itoa(quotaMicros))
}

func (g *legacyGroup) setFrozen(on bool) error {
	state := "THAWED"
	if on {
		state = "FROZEN"
	}
	if g.stateFile == nil {
		return put(g.freezer, "freezer.state", state)
	}
	_, err := g.stateFile.WriteAt([]byte(state), 0)
	return err
}

func (g *legacyGroup) frozen() (bool, error) {
	var b [16]byte
	n, err := g.stateFile.ReadAt(b[:], 0)
	if n == 0 && err != nil {
		return false, err
	}
	return strings.TrimSpace(string(b[:n])) == "FROZEN", nil
}

func (g *legacyGroup) peak() uint64 { return counter(g.peakFile) }

func (g *legacyGroup) oomKills() uint64 {
	return field(filepath.Join(g.memory, "memory.oom_control"), "oom_kill")
}

func (g *legacyGroup) pids() ([]int, error) {
	var all []int
	for _, dir := range g.dirs() {
		pids, err := readPids(filepath.Join(dir, "cgroup.procs"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		all = append(all, pids...)
	}
	return all, nil
}

func (g *legacyGroup) remove() error {
	for _, f := range []*os.File{g.peakFile, g.usageFile, g.stateFile} {
		if f != nil {
			f.Close()
		}
	}
	var errs []error
	for _, dir := range g.dirs() {
		errs = append(errs, removeGroup(dir))
	}
	return errors.Join(errs...)
}
