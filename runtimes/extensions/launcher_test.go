package extensions

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"thaw/runtimes"
)

// recorded reads launcher/SHA256.
func recorded(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open("launcher/SHA256")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := map[string]string{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		name, value, _ := strings.Cut(sc.Text(), " ")
		m[name] = value
	}
	return m
}

func TestNativeArtefactsMatchTheirSource(t *testing.T) {
	want := recorded(t)
	for _, name := range []string{"launch.c", "build.sh", "launch_amd64", "launch_arm64"} {
		b, err := os.ReadFile(filepath.Join("launcher", name))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != want[name] {
			t.Errorf("launcher/%s is not what launcher/SHA256 records; run launcher/build.sh", name)
		}
	}
}

func TestNativeArtefactsAreReproducible(t *testing.T) {
	out, err := exec.Command("x86_64-linux-gnu-gcc", "--version").Output()
	if err != nil {
		t.Skip("no compiler")
	}
	if version, _, _ := strings.Cut(string(out), "\n"); version != recorded(t)["compiler"] {
		t.Skipf("compiler is %q, the artefacts were built with %q", version, recorded(t)["compiler"])
	}
	if _, err := exec.LookPath("aarch64-linux-gnu-gcc"); err != nil {
		t.Skip("no compiler for arm64")
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "launcher/build.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"launch_amd64", "launch_arm64"} {
		built, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		committed, err := os.ReadFile(filepath.Join("launcher", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(built, committed) {
			t.Errorf("launcher/%s is not what its source builds to; run launcher/build.sh", name)
		}
	}
}

func TestBindOpt(t *testing.T) {
	opt, dir := t.TempDir(), t.TempDir()
	l := &runtimes.Launch{}
	if err := BindOpt(l, opt, dir); err != nil || l.Extensions != nil || l.Launcher != "" || len(l.Binds) != 1 || l.Binds[0].Target != "/opt" {
		t.Fatalf("%+v, %v", l, err)
	}
	if err := os.MkdirAll(filepath.Join(opt, "extensions", "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b", "a"} {
		if err := os.WriteFile(filepath.Join(opt, "extensions", name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("b", filepath.Join(opt, "extensions", "c")); err != nil {
		t.Fatal(err)
	}
	if err := BindOpt(l, opt, dir); err != nil || !slices.Equal(l.Extensions, []string{"a", "b", "c"}) {
		t.Fatalf("%+v, %v", l, err)
	}
	if st, err := os.Stat(l.Launcher); err != nil || st.Mode().Perm() != 0o755 || st.Size() != int64(len(launcher)) {
		t.Error(st, err)
	}
	// A link leads where it leads inside: it is none of the host's.
	if err := errors.Join(os.Symlink("/opt/bin/agent", filepath.Join(opt, "extensions", "d")), os.Symlink(opt, filepath.Join(opt, "extensions", "e"))); err != nil {
		t.Fatal(err)
	}
	if names, err := Find(opt); err != nil || !slices.Equal(names, []string{"a", "b", "c", "d", "e"}) {
		t.Errorf("%q, %v", names, err)
	}
	for n := range 100 {
		if err := os.WriteFile(filepath.Join(opt, "extensions", fmt.Sprint("many-", n)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := Find(opt); err != nil || len(names) != MaxExtensions+1 {
		t.Errorf("%d names, %v", len(names), err)
	}
	if err := os.WriteFile(filepath.Join(opt, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if names, err := Find(filepath.Join(opt, "file")); err != nil || names != nil {
		t.Error(names, err)
	}
}

// fakeLauncher connects as the launcher does.
func (e *environment) fakeLauncher() (net.Conn, *bufio.Reader) {
	e.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(e.base, "http://"))
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { c.Close() })
	io.WriteString(c, "POST /thaw/launcher HTTP/1.1\r\nHost: launcher\r\nContent-Length: 0\r\n\r\n")
	return c, bufio.NewReader(c)
}

func (e *environment) command(r *bufio.Reader, n int) string {
	e.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		e.t.Fatal(err)
	}
	return string(b)
}

// The launcher is told to start the extensions, then the runtime, and at the end SIGTERM and SHUTDOWN come in AWS's order.
func TestLaunchAndShutdown(t *testing.T) {
	e := serve(t, "a", "b")
	c, r := e.fakeLauncher()
	launched := make(chan error, 1)
	go func() { launched <- e.Launch(timeout(t)) }()
	if got := e.command(r, 8); got != "x\x00\x01ax\x01\x01b" {
		t.Fatalf("%q", got)
	}
	if status, _, _ := e.do("POST", "/thaw/launcher", ""); status != 403 {
		t.Errorf("a second launcher: %d", status)
	}
	a, b := e.mustRegister("a", "INVOKE", "SHUTDOWN"), e.mustRegister("b", "INVOKE")
	if err := within(t, launched); err != nil {
		t.Fatal(err)
	}
	if got := e.command(r, 2); got != "r\xff" {
		t.Fatalf("%q", got)
	}
	gotA := e.next(a)
	e.next(b)
	if err := e.Ready(timeout(t)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "o\x00\x00\x06hello\no\x01\x00\x02wo", "o\x01\x00\x04rld\n")
	ended := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		e.Shutdown(Spindown, nil, ended)
	}()
	if got := e.command(r, 2); got != "t\xff" {
		t.Fatalf("%q", got)
	}
	c.Write([]byte{'e', 255, 0, 0, 15, 0}) // status 15 << 8: it ended with code 15
	if got := e.command(r, 2); got != "k\x01" {
		t.Fatalf("%q", got)
	}
	if got := within(t, gotA); !strings.Contains(got, `"eventType":"SHUTDOWN"`) || !strings.Contains(got, `"shutdownReason":"spindown"`) {
		t.Error(got)
	}
	c.Write([]byte{'e', 1, 0, 0, 0, 9, 'e', 0, 0, 0, 0, 0})
	within(t, over)
	within(t, e.RuntimeExited())
	if status := e.RuntimeStatus(); status.ExitStatus() != 15 {
		t.Error(status)
	}
	if failure := e.Failure(); failure != nil {
		t.Errorf("an end that was asked for: %v", failure)
	}
	if got := e.log.String(); got != "hello\nworld\n" {
		t.Errorf("log %q", got)
	}
}

func TestLauncherTellsOfFailures(t *testing.T) {
	for _, c := range []struct{ frame, kind, message string }{
		{"f\x00" + string([]byte{0, 0, 0, byte(syscall.EACCES)}), "Extension.LaunchError", "fork/exec /opt/extensions/a: permission denied"},
		{"f\xff" + string([]byte{0, 0, 0, byte(syscall.ENOENT)}), "Runtime.InvalidEntrypoint", "fork/exec /bin/runtime: no such file or directory"},
		{"e\x00" + string([]byte{0, 0, 1, 0}), "Extension.Crash", "exit status 1"},
		{"e\x00" + string([]byte{0, 0, 0, 9}), "Extension.Crash", "signal: killed"},
		{"e\x00" + string([]byte{0, 0, 0, 0}), "Extension.Crash", "exit code 0"},
	} {
		e := serve(t, "a")
		conn, _ := e.fakeLauncher()
		within(t, e.launcher.arrived)
		io.WriteString(conn, c.frame)
		within(t, e.failed.Done())
		if f := e.Failure(); f.Type != c.kind || string(f.Payload) != c.message {
			t.Errorf("%q: %s %s", c.frame, f.Type, f.Payload)
		}
	}
}

// What the launcher says is the function's word: nothing in it can do more than end the conversation.
func FuzzLauncher(f *testing.F) {
	f.Add([]byte("o\x00\x00\x06hello\ne\x00\x00\x00\x00\x00f\xff\x00\x00\x00\x02e\xff\x00\x00\x00\x00"))
	f.Add([]byte("o\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, said []byte) {
		h := New(t.Context(), Config{External: []string{"a", "b"}, Log: (&lines{}).write})
		defer h.Close()
		h.launcher.follow(bufio.NewReader(bytes.NewReader(said)))
	})
}
