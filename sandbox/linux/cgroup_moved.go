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

// moved are the processes of a cgroup v2 group, this one among them, in a group within: one whose groups have
// controllers may have no processes itself.
type moved struct {
	from, to string
	enabled  []string // what from had enabled for its groups before
}

// moveTries bounds moveProcesses where processes are started all the time.
const moveTries = 10

func moveProcesses(from, to string) (*moved, error) {
	enabled, err := os.ReadFile(filepath.Join(from, "cgroup.subtree_control"))
	if err != nil {
		return nil, err
	}
	m := &moved{from: from, to: to, enabled: strings.Fields(string(enabled))}
	if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	for range moveTries {
		n, err := moveOnce(from, to)
		if err != nil {
			return nil, errors.Join(err, m.back())
		}
		if n == 0 {
			return m, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("the processes of %s do not all move", from), m.back())
}

// moveOnce moves the processes that there are now, and says how many.
func moveOnce(from, to string) (int, error) {
	pids, err := readPids(filepath.Join(from, "cgroup.procs"))
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		if err := put(to, "cgroup.procs", strconv.Itoa(pid)); err != nil && !errors.Is(err, unix.ESRCH) {
			return 0, err
		}
	}
	return len(pids), nil
}

// back undoes moveProcesses. While another instance has groups there, the controllers cannot go, and the processes stay
// where they are.
func (m *moved) back() error {
	var off []string
	for _, c := range unifiedControllers {
		if !slices.Contains(m.enabled, c) {
			off = append(off, "-"+c)
		}
	}
	err := put(m.from, "cgroup.subtree_control", strings.Join(off, " "))
	if err == nil {
		_, err = moveOnce(m.to, m.from)
	}
	if errors.Is(err, unix.EBUSY) {
		return nil
	}
	if err != nil {
		return err
	}
	return removeGroup(m.to)
}
