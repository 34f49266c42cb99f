// Package smalldisk gives tests a file system that they can fill.
package smalldisk

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// T is a test: what is used of *testing.T.
type T interface {
	Helper()
	Name() string
	Context() context.Context
	TempDir() string
	Logf(format string, args ...any)
	Skip(args ...any)
	Fatal(args ...any)
}

// Mount runs the calling test again, in a process with its own mount namespace, and there gives it a tmpfs of the given
// size, as mount's option size has it. It returns "" in the outer process, whose work is then done.
func Mount(t T, size string) string {
	t.Helper()
	const inside = "THAW_TEST_SMALL_DISK"
	if dir := os.Getenv(inside); dir != "" { //nolint:forbidigo // what a test tells itself
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(cmd.Environ(), inside+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if errors.Is(err, syscall.EPERM) {
		t.Skip("needs the right to make a mount namespace")
	}
	if err != nil {
		t.Fatal(err)
	}
	return ""
}
