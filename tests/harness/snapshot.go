package harness

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// Machine is what a platform could leave behind: things by a name that says what they are.
type Machine map[string]bool

// Snapshot looks at the processes, namespaces, mounts, cgroups, links and nftables tables of this machine. Other tests'
// platforms are seen too, so tests that compare do not run in parallel.
func Snapshot(t testing.TB) Machine {
	t.Helper()
	m := Machine{}
	processes(m)
	mounts(t, m)
	cgroups(m)
	links(m)
	tables(m)
	return m
}

// Difference lists what after holds and m does not, empty if there is nothing.
func (m Machine) Difference(after Machine) string {
	var left []string
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if !m[name] {
			left = append(left, name)
		}
	}
	return strings.Join(left, "\n")
}

// namespaceKinds are the namespaces that an environment has of its own.
var namespaceKinds = []string{"mnt", "pid", "net", "ipc", "uts", "user"}

// processes lists processes that are in other namespaces than this one, or that run thaw.
func processes(m Machine) {
	self := map[string]string{}
	for _, kind := range namespaceKinds {
		self[kind], _ = os.Readlink("/proc/self/ns/" + kind)
	}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		dir := filepath.Join("/proc", e.Name())
		if e.Name()[0] < '0' || e.Name()[0] > '9' {
			continue
		}
		command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		line := strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " "))
		if line == "" {
			continue // a kernel thread, or a zombie whose parent is still to fetch it
		}
		for _, kind := range namespaceKinds {
			if ns, err := os.Readlink(filepath.Join(dir, "ns", kind)); err == nil && ns != self[kind] {
				m["namespace "+ns] = true
				m["process "+e.Name()+" "+line] = true
			}
		}
		if strings.HasSuffix(strings.Fields(line)[0], "/thaw") {
			m["process "+e.Name()+" "+line] = true
		}
	}
}

func mounts(t testing.TB, m Machine) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		m["mount "+fields[4]+" "+fields[0]] = true
	}
}

func cgroups(m Machine) {
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, "thaw") {
			m["cgroup "+path] = true
		}
		return nil // a group that vanishes meanwhile is no matter
	})
}

func links(m Machine) {
	all, _ := netlink.LinkList()
	for _, l := range all {
		m["link "+l.Attrs().Name] = true
	}
}

func tables(m Machine) {
	c, err := nftables.New()
	if err != nil {
		return
	}
	all, _ := c.ListTables()
	for _, table := range all {
		m["nftables table "+table.Name] = true
	}
}
