package linux

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"thaw/sandbox"
)

// On a machine whose controllers are all with cgroup v1, the second version's freezer and its way of starting a process
// in a group are there all the same.
func TestUnifiedFreezerAndSpawn(t *testing.T) {
	needRoot(t)
	mount := unifiedMount(t)
	d := open(t)
	groups, err := openUnifiedIn(mount, filepath.Base(d.rootfs.dir)+"-thaw-test", nil)
	if err != nil {
		t.Fatal(err)
	}
	old := d.groups
	d.groups = groups
	t.Cleanup(func() {
		if err := groups.close(); err != nil {
			t.Error(err)
		}
		d.groups = old
	})
	p := start(t, d, python(stubborn))
	if err := readFull(p, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	shim := p.(*process).shim
	b, err := os.ReadFile("/proc/" + strconv.Itoa(childOf(t, shim.pid)) + "/cgroup")
	if err != nil || !strings.Contains(string(b), "thaw-test/1\n") {
		t.Errorf("cgroups %s, %v", b, err)
	}
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	if frozen, err := shim.group.frozen(); !frozen || err != nil {
		t.Errorf("frozen %v, %v", frozen, err)
	}
	if err := p.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	if exit := wait(t, p); exit != (sandbox.ExitStatus{Signal: "killed"}) {
		t.Errorf("exit %+v", exit)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if names, err := groups.names(); len(names) != 0 || err != nil {
		t.Errorf("left %v, %v", names, err)
	}
}

// The files that a group of the second version has, on a directory that is none: what is written where.
func TestUnifiedBounds(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"memory.max", "memory.high", "cpu.max", "cgroup.freeze"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for f, text := range map[string]string{"memory.events": "low 0\noom 2\noom_kill 1\n", "memory.peak": "4711\n", "memory.current": "4242\n", "memory.stat": "file 9\ninactive_file 3\nactive_file 4\n", "cgroup.procs": "12\n0\n13\n", "cgroup.events": "populated 1\nfrozen 1\n"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := &unifiedGroup{dir: dir, controllers: unifiedControllers}
	g.reclaimTo(64 << 20)
	for _, err := range []error{g.limitMemory(128 << 20), g.limitCPU(1447), g.setFrozen(true)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for f, want := range map[string]string{"memory.max": "134217728", "cpu.max": "1447 20000", "cgroup.freeze": "1"} {
		if b, _ := os.ReadFile(filepath.Join(dir, f)); string(b) != want {
			t.Errorf("%s: %q, want %q", f, b, want)
		}
	}
	for name, f := range map[string]**os.File{"memory.peak": &g.peakFile, "memory.current": &g.usageFile} {
		opened, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer opened.Close()
		*f = opened
	}
	if high, _ := os.ReadFile(filepath.Join(dir, "memory.high")); !strings.HasPrefix(string(high), "max") {
		t.Errorf("memory.high is left at %s", high)
	}
	if g.usage() != 4242 || g.fileCache() != 7 {
		t.Errorf("usage %d, file cache %d", g.usage(), g.fileCache())
	}
	frozen, _ := g.frozen()
	pids, _ := g.pids()
	if g.oomKills() != 1 || g.peak() != 4711 || !frozen || !slices.Equal(pids, []int{12, 13}) {
		t.Errorf("kills %d, peak %d, frozen %v, pids %v", g.oomKills(), g.peak(), frozen, pids)
	}
}

func TestIDsAreReusedLast(t *testing.T) {
	p := newIDs(firstID)
	seen := map[uint32]bool{p.shim(): true}
	for range idBlock - 1 {
		id, err := p.take()
		if err != nil || seen[id] || id < firstID || id >= firstID+idBlock {
			t.Fatalf("%d, %v", id, err)
		}
		seen[id] = true
	}
	if _, err := p.take(); err != errNoID {
		t.Errorf("got %v", err)
	}
	p.give(firstID + 5)
	p.give(firstID + 3)
	a, _ := p.take()
	b, _ := p.take()
	if a != firstID+5 || b != firstID+3 {
		t.Errorf("%d then %d", a, b)
	}
	if base := defaultIDBase("x"); base < firstID || base > maxHostID-idBlock+1 || base%idBlock != 0 {
		t.Errorf("base %#x", base)
	}
}

// unifiedMount is where cgroup v2 is mounted, with its controllers or without.
func unifiedMount(t *testing.T) string {
	t.Helper()
	for _, m := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(m, &st) == nil && int64(st.Type) == unix.CGROUP2_SUPER_MAGIC {
			return m
		}
	}
	t.Skip("no cgroup v2 file system")
	return ""
}

func TestProcessesMakeRoomAndComeBack(t *testing.T) {
	needRoot(t)
	own := filepath.Join(unifiedMount(t), "thaw-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(own, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeGroup(own); err != nil {
			t.Error(err)
		}
	})
	dir, err := os.Open(own)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	within := filepath.Join(own, "host")
	holds := func(group string) {
		t.Helper()
		if pids, err := readPids(filepath.Join(group, "cgroup.procs")); err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
			t.Fatalf("%s has %v, %v", group, pids, err)
		}
	}
	m, err := moveProcesses(own, within)
	if err != nil {
		t.Fatal(err)
	}
	holds(within)
	// On a machine whose controllers are with cgroup v1 there are none to enable.
	u, err := openUnifiedIn(own, "i1", wantedControllers(own, false))
	if err != nil {
		t.Fatal(err)
	}
	// Another instance of the same place keeps the first from putting everything back, and is not disturbed by it.
	other, err := openUnifiedIn(own, "i2", u.controllers)
	if err != nil {
		t.Fatal(err)
	}
	u.moved = m
	if err := u.close(); err != nil {
		t.Fatal(err)
	}
	if len(u.controllers) > 0 {
		holds(within)
		other.moved = m
	}
	if err := other.close(); err != nil {
		t.Fatal(err)
	}
	holds(own)
	if _, err := os.Stat(within); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", within, err)
	}
}
