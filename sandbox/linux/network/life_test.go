package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func init() {
	roles["hold"] = hold
	roles["sit"] = func([]string) error { _, err := io.Copy(io.Discard, os.Stdin); return err }
	roles["unprivileged"] = unprivileged
}

// hold opens an instance, takes a namespace and keeps it until it is killed. With the third argument it starts a
// process inside that outlives it.
func hold(args []string) error {
	p, err := Open(context.Background(), Config{Dir: args[0], Instance: args[1]})
	if err != nil {
		return err
	}
	n, err := p.Acquire(context.Background(), "f")
	if err != nil {
		return err
	}
	pid := 0
	if len(args) > 2 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), envRole+"=sit")
		cmd.Stdin = os.Stdin // the test's pipe: it ends with the test if nothing else ends it
		if err := n.Do(cmd.Start); err != nil {
			return err
		}
		pid = cmd.Process.Pid
	}
	fmt.Println(pid)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// startHolder starts hold and returns once it holds.
func startHolder(t *testing.T, args ...string) (kill func(), orphan int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), envRole+"=hold")
	cmd.Stderr = os.Stderr
	// Not a StdinPipe, which Wait closes: the orphan reads from it as well, and has to outlive the holder.
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	cmd.Stdin = theirs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	killed := false
	kill = func() {
		if !killed {
			killed = true
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the holder did not get ready: %v", err)
	}
	if _, err := fmt.Sscan(line, &orphan); err != nil {
		t.Fatal(err)
	}
	return kill, orphan
}

func TestNextOpenSweepsAKilledInstance(t *testing.T) {
	needHost(t)
	for _, next := range []string{"t1", "t2"} {
		for _, orphaned := range []bool{false, true} {
			t.Run(fmt.Sprintf("by %s, orphan %v", next, orphaned), func(t *testing.T) {
				dir := t.TempDir()
				before := traces(t)
				args := []string{dir, "t1"}
				if orphaned {
					args = append(args, "orphan")
				}
				kill, orphan := startHolder(t, args...)
				if orphaned {
					t.Cleanup(func() { syscall.Kill(orphan, syscall.SIGKILL) })
				}
				if now := traces(t); !strings.Contains(now, "link tht1-0000") || !strings.Contains(now, "table thaw-t1") ||
					!strings.Contains(now, ipForward+"=1") {
					t.Fatalf("the holder did not set up what this test is about:\n%s", now)
				}
				kill()
				if orphaned {
					if now := traces(t); !strings.Contains(now, "link tht1-0000") || !strings.Contains(now, "table thaw-t1") {
						t.Fatalf("want a link and its filter as long as a process lives inside:\n%s", now)
					}
				} else {
					eventually(t, func() (bool, string) {
						now := traces(t)
						return !strings.Contains(now, "link tht1-"), "the link outlives the process:\n" + now
					})
				}

				p, err := Open(context.Background(), Config{Dir: dir, Instance: next})
				if err != nil {
					t.Fatal(err)
				}
				if now := traces(t); strings.Contains(now, "link tht1-") || strings.Contains(now, "table thaw-t1") != (next == "t1") {
					t.Errorf("left after Open:\n%s", now)
				}
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				untouched(t, before)
				if left := claims(t, dir); len(left) != 0 {
					t.Errorf("left in the directory: %v", left)
				}
			})
		}
	}
}

// claims is what is in dir besides the lock that every instance shares.
func claims(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name() != "lock" {
			names = append(names, f.Name())
		}
	}
	return names
}

func TestSecondOpenOfALivingInstance(t *testing.T) {
	needHost(t)
	dir := t.TempDir()
	kill, _ := startHolder(t, dir, "t1")
	before := traces(t)
	if _, err := Open(context.Background(), Config{Dir: dir, Instance: "t1"}); !errors.Is(err, ErrInUse) {
		t.Fatalf("got %v, want ErrInUse", err)
	}
	untouched(t, before)
	kill()
	openPool(t, Config{Dir: dir, Instance: "t1"})
}

func TestForwardingIsPutBackByTheLast(t *testing.T) {
	needHost(t)
	join(t, "first", "192.0.2")
	join(t, "second", "192.0.3")
	restore := func(name, value string) {
		old, err := readSysctl(name)
		if err == nil {
			err = writeSysctl(name, value)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { writeSysctl(name, old) })
	}
	restore("ipv4/conf/all/accept_redirects", "0") // Linux sets it to 1 when forwarding goes off
	restore("ipv4/conf/second/forwarding", "1")    // Linux sets it to 0 then
	dir := t.TempDir()
	before := traces(t)

	a := openPool(t, Config{Dir: dir, Instance: "a"})
	b := openPool(t, Config{Dir: dir, Instance: "b"})
	if a.Prefix().Overlaps(b.Prefix()) {
		t.Errorf("both instances use %s", a.Prefix())
	}
	kill, _ := startHolder(t, dir, "c")
	kill()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if v, _ := readSysctl(ipForward); v != "1" {
		t.Fatalf("ip_forward is %s while an instance needs it", v)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if v, _ := readSysctl(ipForward); v != "0" {
		t.Errorf("ip_forward is %s after the last living instance", v)
	}
	// What the killed one left besides goes with the next.
	if err := openPool(t, Config{Dir: dir, Instance: "d"}).Close(); err != nil {
		t.Fatal(err)
	}
	untouched(t, before)
}

func TestForwardingOfOthersStays(t *testing.T) {
	needHost(t)
	if err := writeSysctl(ipForward, "1"); err != nil {
		t.Fatal(err)
	}
	defer writeSysctl(ipForward, "0")
	dir := t.TempDir()
	before := traces(t)
	p := openPool(t, Config{Dir: dir})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	untouched(t, before)
}

func TestRecordOfAnotherBootIsIgnored(t *testing.T) {
	needHost(t)
	dir := t.TempDir()
	if err := writeForwarding(dir, &forwarding{Scope: "another", AcceptRedirects: "0"}); err != nil {
		t.Fatal(err)
	}
	if err := writeSysctl(ipForward, "1"); err != nil {
		t.Fatal(err)
	}
	defer writeSysctl(ipForward, "0")
	if err := openPool(t, Config{Dir: dir}).Close(); err != nil {
		t.Fatal(err)
	}
	if v, _ := readSysctl(ipForward); v != "1" {
		t.Error("ip_forward was put to what it was before another boot")
	}
}

// Each way to fail must leave the host as it was.
func TestFailedOpenLeavesNothing(t *testing.T) {
	needHost(t)
	joinOutside(t)
	dir := t.TempDir()
	before := traces(t)
	tests := []struct {
		name string
		ctx  context.Context
		cfg  Config
		want error
	}{
		{"prefix of a route", context.Background(), Config{Prefix: netip.MustParsePrefix("198.51.100.16/28")}, ErrPrefix},
		{"prefix around a route", context.Background(), Config{Prefix: netip.MustParsePrefix("198.51.0.0/16")}, ErrPrefix},
		{"locked by another, and no time", done(), Config{}, context.Canceled},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.Dir, test.cfg.Instance = dir, "t1"
			if test.want == context.Canceled {
				unlock, err := lockHost(context.Background(), dir)
				if err != nil {
					t.Fatal(err)
				}
				defer unlock()
			}
			fds := openFiles(t)
			if _, err := Open(test.ctx, test.cfg); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if now := openFiles(t); now != fds {
				t.Errorf("%d descriptors, were %d", now, fds)
			}
			untouched(t, before)
			if left := claims(t, dir); len(left) != 0 {
				t.Errorf("left in the directory: %v", left)
			}
		})
	}
}

func done() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func openFiles(t testing.TB) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// unprivileged prints what Open says without privileges.
func unprivileged(args []string) error {
	_, err := Open(context.Background(), Config{Dir: args[0], Instance: "t1"})
	_, err2 := Open(context.Background(), Config{Dir: args[0], Instance: "t1", LoopbackOnly: true})
	if !errors.Is(err, ErrNotPermitted) || !errors.Is(err2, ErrNotPermitted) {
		return fmt.Errorf("got %v and %v, want ErrNotPermitted", err, err2)
	}
	return nil
}

func TestWithoutPrivileges(t *testing.T) {
	needHost(t)
	dir, err := os.MkdirTemp("", "thaw-network") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	exe := filepath.Join(dir, "exe")
	b, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(exe, b, 0o755)
	}
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, filepath.Join(dir, "run"))
	cmd.Env = append(os.Environ(), envRole+"=unprivileged")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// netNamespaces counts the network namespaces that threads and descriptors of this process hold.
func netNamespaces(t testing.TB) int {
	t.Helper()
	seen := make(map[string]bool)
	for _, pattern := range []string{"/proc/self/task/*/ns/net", "/proc/self/fd/*"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			var st unix.Stat_t
			if unix.Stat(name, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
				if to, err := os.Readlink(name); err == nil && strings.HasPrefix(to, "net:[") {
					seen[to] = true
				}
			}
		}
	}
	return len(seen)
}
