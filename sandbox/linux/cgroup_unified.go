package linux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// unified is cgroup v2: one tree.
type unified struct {
	dir         string   // the instance's directory
	controllers []string // what its groups have
	moved       *moved   // nil unless processes had to make room
}

var unifiedControllers = []string{"memory", "cpu", "pids"}

// openUnified makes the instance's directory and enables the controllers for its groups, in the first of three places
// that lets it: below the mount point; beside the caller's own group (a systemd session); in the caller's own group,
// whose processes then move to one within (a service with Delegate=, a container). Root gets every controller or an
// error; another user gets what has been delegated.
func openUnified(mount, name string, root bool) (*unified, error) {
	own := filepath.Join(mount, ownUnifiedGroup())
	parents := []string{mount}
	if own != mount {
		parents = append(parents, filepath.Dir(own))
	}
	var errs []error
	for _, parent := range parents {
		u, err := openUnifiedIn(parent, name, wantedControllers(parent, root))
		if err == nil {
			return u, nil
		}
		errs = append(errs, err)
	}
	m, err := moveProcesses(own, filepath.Join(own, name+"-host"))
	if err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	u, err := openUnifiedIn(own, name, wantedControllers(own, root))
	if err != nil {
		return nil, errors.Join(append(errs, err, m.back())...)
	}
	u.moved = m
	return u, nil
}

// wantedControllers are all for root, for other users those that there are in dir.
func wantedControllers(dir string, root bool) []string {
	if root {
		return unifiedControllers
	}
	b, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	available := strings.Fields(string(b))
	return slices.DeleteFunc(slices.Clone(unifiedControllers), func(c string) bool { return !slices.Contains(available, c) })
}

func openUnifiedIn(parent, name string, controllers []string) (*unified, error) {
	dir := filepath.Join(parent, name)
	err := os.Mkdir(dir, 0o755)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	for _, d := range []string{parent, dir} {
		if err := enableControllers(d, controllers); err != nil {
			unix.Rmdir(dir)
			return nil, err
		}
	}
	return &unified{dir: dir, controllers: controllers}, nil
}

// enableControllers enables all that are not enabled yet, or none.
func enableControllers(dir string, controllers []string) error {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	enabled := strings.Fields(string(b))
	if b, err = os.ReadFile(filepath.Join(dir, "cgroup.controllers")); err != nil {
		return err
	}
	available := strings.Fields(string(b))
	var missing []string
	for _, c := range controllers {
		if !slices.Contains(available, c) {
			return fmt.Errorf("cgroup v2 controller %s is not available in %s", c, dir)
		}
		if !slices.Contains(enabled, c) {
			missing = append(missing, "+"+c)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := put(dir, "cgroup.subtree_control", strings.Join(missing, " ")); err != nil {
		return fmt.Errorf("cgroup v2 controllers cannot be enabled: %w", err)
	}
	return nil
}

// ownUnifiedGroup is this process's path in the v2 tree, empty when there is none.
func ownUnifiedGroup() string {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path
		}
	}
	return ""
}

func (u *unified) boundsMemory() bool { return slices.Contains(u.controllers, "memory") }

func (u *unified) describe() string {
	return "cgroup v2: " + strings.Join(append(slices.Clone(u.controllers), "freezer"), ", ")
}

func (u *unified) names() ([]string, error) { return subdirectories(u.dir) }

func (u *unified) close() error {
	err := removeGroup(u.dir)
	if u.moved != nil {
		err = errors.Join(err, u.moved.back())
	}
	return err
}

func (u *unified) load(name string) (group, error) {
	return &unifiedGroup{dir: filepath.Join(u.dir, name)}, nil
}

func (u *unified) make(name string) (_ group, err error) {
	g := &unifiedGroup{dir: filepath.Join(u.dir, name), controllers: u.controllers}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.remove())
		}
	}()
	if slices.Contains(u.controllers, "pids") {
		if err := put(g.dir, "pids.max", strconv.Itoa(maxProcesses)); err != nil {
			return nil, err
		}
	}
	if slices.Contains(u.controllers, "memory") {
		if err := put(g.dir, "memory.swap.max", "0"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		// memory.peak came with 5.19; before, the current use has to do.
		if g.peakFile, err = os.Open(filepath.Join(g.dir, "memory.peak")); errors.Is(err, os.ErrNotExist) {
			g.peakFile, err = os.Open(filepath.Join(g.dir, "memory.current"))
		}
		if err != nil {
			return nil, err
		}
	}
	if slices.Contains(u.controllers, "memory") {
		if g.usageFile, err = os.Open(filepath.Join(g.dir, "memory.current")); err != nil {
			return nil, err
		}
	}
	if g.freezeFile, err = os.OpenFile(filepath.Join(g.dir, "cgroup.freeze"), os.O_WRONLY, 0); err != nil {
		return nil, err
	}
	if g.dirFile, err = os.Open(g.dir); err != nil {
		return nil, err
	}
	return g, nil
}

type unifiedGroup struct {
	dir                                      string
	controllers                              []string
	dirFile, peakFile, usageFile, freezeFile *os.File // nil in a group that was loaded
}

func (g *unifiedGroup) fd() int {
	if g.dirFile == nil {
		return -1
	}
	return int(g.dirFile.Fd())
}

func (g *unifiedGroup) freezes() bool { return true }

func (g *unifiedGroup) boundsMemory() bool { return slices.Contains(g.controllers, "memory") }

// attach has nothing to do for a process that was created in the group.
func (g *unifiedGroup) attach(int) error {
	g.dirFile.Close()
	g.dirFile = nil
	return nil
}

func (g *unifiedGroup) limitMemory(bytes int64) error {
	if !g.boundsMemory() {
		return nil
	}
	return put(g.dir, "memory.max", strconv.FormatInt(bytes, 10))
}

// reclaimTo sets the bound above which the kernel reclaims, for which it does so at once, and takes it away again: it
// would slow the sandbox down.
func (g *unifiedGroup) reclaimTo(bytes int64) {
	put(g.dir, "memory.high", strconv.FormatInt(bytes, 10)) //nolint:errcheck // the use tells what was taken back
	put(g.dir, "memory.high", "max")                        //nolint:errcheck // fails where the group has gone
}

func (g *unifiedGroup) usage() uint64 { return counter(g.usageFile) }

func (g *unifiedGroup) fileCache() uint64 {
	return field(filepath.Join(g.dir, "memory.stat"), "inactive_file", "active_file")
}

func (g *unifiedGroup) limitCPU(quotaMicros int) error {
	if quotaMicros < 0 {
		return put(g.dir, "cpu.max", "max")
	}
	if !slices.Contains(g.controllers, "cpu") {
		return nil
	}
	return put(g.dir, "cpu.max", fmt.Sprintf("%d %d", quotaMicros, cpuPeriod))
}

func (g *unifiedGroup) setFrozen(on bool) error {
	v := "0"
	if on {
		v = "1"
	}
	if g.freezeFile == nil {
		return put(g.dir, "cgroup.freeze", v)
	}
	_, err := g.freezeFile.WriteAt([]byte(v), 0)
	return err
}

func (g *unifiedGroup) frozen() (bool, error) {
	return field(filepath.Join(g.dir, "cgroup.events"), "frozen") == 1, nil
}

func (g *unifiedGroup) peak() uint64 { return counter(g.peakFile) }

func (g *unifiedGroup) oomKills() uint64 {
	return field(filepath.Join(g.dir, "memory.events"), "oom_kill")
}

func (g *unifiedGroup) pids() ([]int, error) {
	pids, err := readPids(filepath.Join(g.dir, "cgroup.procs"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return pids, err
}

func (g *unifiedGroup) remove() error {
	for _, f := range []*os.File{g.dirFile, g.peakFile, g.usageFile, g.freezeFile} {
		if f != nil {
			f.Close()
		}
	}
	return removeGroup(g.dir)
}
