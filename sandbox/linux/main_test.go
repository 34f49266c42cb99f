package linux

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"thaw/sandbox"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(bootstrapDir)
		os.Exit(code)
	}))
}

// patience bounds every wait in the tests; none of them measures time.
const patience = 30 * time.Second

// eventually polls until ok, for patience at most, and says whether it came to that.
func eventually(ok func() bool) bool {
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		}
	}
	return true
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// open makes a driver of its own instance, and closes it at the end of the test.
func open(t testing.TB, change ...func(*Config)) *Driver {
	t.Helper()
	var id [4]byte
	rand.Read(id[:])
	cfg := Config{Instance: "t" + hex.EncodeToString(id[:]), Dir: t.TempDir(), Network: sandbox.NetworkNone, FavorMoves: true, Logf: t.Logf}
	for _, fn := range change {
		fn(&cfg)
	}
	d, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close the driver: %v", err)
		}
	})
	return d
}

// python is a sandbox that runs a script with the host's interpreter.
func python(script string, args ...string) *sandbox.Spec {
	return &sandbox.Spec{
		Args: append([]string{"/usr/bin/python3", "-I", "-c", script}, args...), Env: []string{"PATH=/usr/bin:/bin", "HOME=/tmp"},
		Dir: "/tmp", MemoryMB: 256, TmpMB: 16,
	}
}

func start(t testing.TB, d *Driver, spec *sandbox.Spec) sandbox.Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p, err := d.Start(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p
}

func wait(t testing.TB, p sandbox.Process) sandbox.ExitStatus {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatal("the sandbox does not end")
	}
	return p.Exit()
}

// outcome runs a sandbox to its end and gives what it wrote.
func outcome(t testing.TB, d *Driver, spec *sandbox.Spec) (string, sandbox.ExitStatus) {
	t.Helper()
	p := start(t, d, spec)
	out := collect(p)
	exit := wait(t, p)
	return out(), exit
}

// collect reads the output of a sandbox until it ends.
func collect(p sandbox.Process) func() string {
	var b bytes.Buffer
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(&b, p.Output()) })
	return func() string { wg.Wait(); return b.String() }
}

// buildGo compiles a static program and gives the directory that it is in.
func buildGo(t testing.TB, source string) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "bootstrap"), filepath.Join(dir, "main.go"))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func lines(s string) []string { return strings.Split(strings.TrimSpace(s), "\n") }

func readFull(p sandbox.Process, b []byte) error {
	_, err := io.ReadFull(p.Output(), b)
	return err
}
