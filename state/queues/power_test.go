package queues

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"thaw/state/internal/smalldisk"
)

// TestPowerCutLosesNothing keeps the data in a file system that is itself in a file, with SyncAlways. A power cut is a
// copy of that file: what the kernel has yet to write into it is lost.
func TestPowerCutLosesNothing(t *testing.T) {
	work := smalldisk.Mount(t, "1g")
	if work == "" {
		return
	}
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	t.Setenv(crashSync, "yes")
	image, next, mounted := filepath.Join(work, "image"), filepath.Join(work, "next"), filepath.Join(work, "mounted")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 256<<20))
	run := func(name string, args ...string) error {
		out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		if err != nil {
			t.Logf("%s %q: %v: %s", name, args, err, out)
		}
		return err
	}
	if run("mkfs.ext4", "-q", "-F", image) != nil {
		t.Skip("needs mkfs.ext4")
	}
	must(t, os.Mkdir(mounted, 0o700))
	if run("mount", "-o", "loop", image, mounted) != nil {
		t.Skip("needs a loop device")
	}
	defer syscall.Unmount(mounted, syscall.MNT_DETACH)
	dir := filepath.Join(mounted, "data")
	must(t, os.Mkdir(dir, 0o700))
	a := newTally()
	for round := range rounds {
		runAndKill(t, dir, a, 1+rand.IntN(500), time.Duration(rand.IntN(300_000))*time.Microsecond, func(p *os.Process) error {
			if err := stop(p); err != nil {
				return err
			}
			return errors.Join(run("cp", "--sparse=always", image, next), p.Kill())
		})
		must(t, syscall.Unmount(mounted, 0))
		must(t, os.Rename(next, image))
		must(t, run("mount", "-o", "loop", image, mounted))
		verify(t, dir, a)
		if t.Failed() {
			t.Fatalf("after power cut number %d", round+1)
		}
	}
	t.Logf("%d power cuts: %d messages sent, %d deleted", rounds, len(a.sent), len(a.deleted))
}

// stop stops a process and waits until all its threads stand.
func stop(p *os.Process) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		tasks, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(p.Pid), "task/*/stat"))
		if err != nil {
			return err
		}
		running := len(tasks) == 0
		for _, task := range tasks {
			stat, _ := os.ReadFile(task)
			if i := bytes.LastIndexByte(stat, ')'); i >= 0 && stat[i+2] != 'T' {
				running = true
			}
		}
		if !running {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("the process does not stop")
		}
		<-time.After(time.Millisecond)
	}
}
