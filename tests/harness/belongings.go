package harness

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// networkDir is where the platforms of a machine find one another.
const networkDir = "/run/thaw/network"

// Instance is the word by which a platform with this data directory names its things on the machine.
func Instance(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:4])
}

// Belongings lists what the machine holds of the platform with this data directory, whatever other platforms run:
// processes (its own, and sandboxes by their mounts and groups), mounts, cgroups, links, nftables tables, claims.
func Belongings(t testing.TB, data string) []string {
	t.Helper()
	instance := Instance(data)
	found := map[string]bool{}
	for _, pid := range pids() {
		if line, ok := belongs(pid, data, instance); ok {
			found["process "+strconv.Itoa(pid)+" "+line] = true
		}
	}
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mountinfo)) {
		if strings.Contains(line, data+"/") {
			found["mount "+strings.TrimSpace(line)] = true
		}
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, "thaw-"+instance) {
			found["cgroup "+path] = true
		}
		return nil // a group that vanishes meanwhile is no matter
	})
	all, err := netlink.LinkList()
	if err != nil {
		all, _ = netlink.LinkList() // cut short by another platform's change
	}
	for _, l := range all {
		if strings.HasPrefix(l.Attrs().Name, "th"+instance) {
			found["link "+l.Attrs().Name] = true
		}
	}
	if c, err := nftables.New(); err == nil {
		list, _ := c.ListTables()
		for _, table := range list {
			if strings.Contains(table.Name, instance) {
				found["nftables table "+table.Name] = true
			}
		}
	}
	if _, err := os.Stat(filepath.Join(networkDir, instance+".instance")); err == nil {
		found["claim "+instance] = true
	}
	return slices.Sorted(maps.Keys(found))
}

func pids() []int {
	entries, _ := os.ReadDir("/proc")
	var all []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// belongs reports whether a process is the platform itself, or runs in one of its sandboxes or groups.
func belongs(pid int, data, instance string) (line string, ok bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	if len(command) == 0 || pid == os.Getpid() {
		return "", false // a kernel thread, or a zombie whose parent is still to fetch it
	}
	line = strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " "))
	mounts, _ := os.ReadFile(filepath.Join(dir, "mountinfo"))
	groups, _ := os.ReadFile(filepath.Join(dir, "cgroup"))
	own := strings.Contains(line, "--data "+data+" ") || strings.HasSuffix(line, "--data "+data)
	in := strings.Contains(string(groups), "thaw-"+instance) || (inOtherNamespace(dir) && strings.Contains(string(mounts), data+"/"))
	return line, own || in
}

func inOtherNamespace(dir string) bool {
	self, _ := os.Readlink("/proc/self/ns/mnt")
	other, err := os.Readlink(filepath.Join(dir, "ns", "mnt"))
	return err == nil && other != self
}

// NothingLeft fails the test if the machine still holds something of the platform with this data directory.
func NothingLeft(t testing.TB, data string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := Belongings(t, data)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("left on the machine:\n%s", strings.Join(left, "\n"))
			return
		}
		<-time.After(20 * time.Millisecond)
	}
}
