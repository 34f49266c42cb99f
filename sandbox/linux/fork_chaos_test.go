package linux

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Every step has a name of its own, and so a new one takes part in the tests of all steps.
func TestForkStepsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for step := StepForkThaw; step < endForkSteps; step++ {
		if name := step.String(); name == "fork: " || seen[name] {
			t.Errorf("step %d is called %q", step, name)
		}
		seen[step.String()] = true
	}
}

// descendants gives the processes below one, the parent before its children.
func descendants(pid int) (all []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for _, child := range strings.Fields(string(b)) {
			n, _ := strconv.Atoi(child)
			all = append(append(all, n), descendants(n)...)
		}
	}
	return all
}

// Each process of a new environment is killed right before each step of the host's, as far as it is there by then: the intermediate,
// pid 1, and the runtime. No fork hangs, and what comes of it is an environment that works, one that
// has ended, or an error; the template forks on.
func TestKillingAForkAtAnyStep(t *testing.T) {
	needRoot(t)
	d := open(t)
	p := park(t, d, specOf(t, hello("python3.11", "")))
	if err := mustFork(t, p).Close(); err != nil {
		t.Fatal(err)
	}
	before := steady(t, d)
	killed := 0
	for step := StepForkHere; step < endForkSteps; step++ {
		for victim := range 3 {
			t.Run(fmt.Sprintf("%s process %d", step, victim), func(t *testing.T) {
				var once atomic.Bool
				hit := false
				d.fail = func(s Step) error {
					if s != step || !once.CompareAndSwap(false, true) {
						return nil
					}
					// The template itself is the first of them.
					for deadline := time.Now().Add(20 * time.Millisecond); time.Now().Before(deadline); {
						if all := slices.DeleteFunc(descendants(p.shim.pid), func(pid int) bool { return pid == p.runtime }); len(all) > victim {
							unix.Kill(all[victim], unix.SIGKILL)
							hit = true
							killed++
							break
						}
					}
					return nil
				}
				c, err := forkOne(within(t), p)
				d.fail = nil
				if errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("hung: %v", err)
				}
				if err == nil {
					// A runtime that was killed after it had said that it is ready is found out by its first event.
					if _, err := c.try(within(t), "1"); errors.Is(err, context.DeadlineExceeded) || err != nil && !hit {
						t.Errorf("invoke: %v", err)
					}
					if err := c.Close(); err != nil {
						t.Error(err)
					}
				}
				settled(t, d, before)
				after := mustFork(t, p)
				after.invoke(t, "1")
				if err := after.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	if killed < 10 {
		t.Errorf("%d processes were killed", killed)
	}
}

const crashStep = "THAW_TEST_CRASH_STEP"

// The process that this test starts again as itself is killed right before each step of a fork: a later driver of the instance
// leaves nothing alive.
func TestKillingThePlatformAtAnyStepOfAFork(t *testing.T) {
	needRoot(t)
	if instance := os.Getenv(crashEnv); instance != "" {
		crashWhileForking(t, instance)
	}
	for step := StepForkThaw; step < StepForkUnshare; step++ { // the rest happens inside of these
		t.Run(step.String(), func(t *testing.T) {
			instance, dir := fmt.Sprintf("tcrash%d", step), t.TempDir()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestKillingThePlatformAtAnyStepOfAFork$")
			cmd.Env = append(os.Environ(), crashEnv+"="+instance, "THAW_TEST_CRASH_DIR="+dir, fmt.Sprintf("%s=%d", crashStep, step))
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			crashed := false
			for sc := bufio.NewScanner(out); !crashed && sc.Scan(); {
				crashed = sc.Text() == "crash me"
			}
			var pids []int
			if crashed {
				pids = descendants(cmd.Process.Pid)
			}
			cmd.Process.Kill()
			cmd.Wait()
			if len(pids) < 3 { // the template, its pid 1 and the helper
				t.Errorf("the process had %v below it", pids)
			}
			d := open(t, func(c *Config) { c.Instance, c.Dir = instance, dir })
			if names, err := d.groups.names(); err != nil || len(names) != 0 {
				t.Errorf("cgroups %v, %v", names, err)
			}
			if !eventually(func() bool { return len(living(pids)) == 0 }) {
				t.Errorf("the processes %v live", living(pids))
			}
		})
	}
}

// living leaves out those that have ended, zombies too.
func living(pids []int) (all []int) {
	for _, pid := range pids {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(b), ") Z ") {
			all = append(all, pid)
		}
	}
	return all
}

func crashWhileForking(t *testing.T, instance string) {
	d, err := New(t.Context(), Config{Instance: instance, Dir: os.Getenv("THAW_TEST_CRASH_DIR"), Network: "none"})
	if err != nil {
		t.Fatal(err)
	}
	p := park(t, d, specOf(t, hello("python3.11", "")))
	n, _ := strconv.Atoi(os.Getenv(crashStep))
	d.fail = func(s Step) error {
		if int(s) == n {
			fmt.Println("crash me")
			select {}
		}
		return nil
	}
	forkOne(t.Context(), p)
	t.Fatal("the step was not reached")
}

// The end of a template's pid 1 takes with it what was forked. The kernel has it wait for all of them, and what is frozen
// would not end on cgroup v1.
func TestKilledPid1OfATemplateTakesWhatIsFrozen(t *testing.T) {
	needRoot(t)
	d := open(t)
	p := park(t, d, specOf(t, hello("python3.11", "")))
	c := mustFork(t, p)
	c.invoke(t, "1")
	if err := c.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(p.shim.pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for what, ended := range map[string]<-chan struct{}{"template": p.done, "environment": c.Process.(*forked).done} {
		select {
		case <-ended:
		case <-time.After(patience):
			t.Errorf("the %s does not end", what)
		}
	}
}
