package linux

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"thaw/sandbox"
)

// ForkObstacle says which setting of this machine, or which lack of the platform's, keeps environments from being forked; nil
// when none is known. A template is made by a process without privilege, which Linux, AppArmor or Debian can refuse
// user namespaces.
func ForkObstacle() error { return forkObstacle(os.Geteuid() == 0, sysctl) }

func forkObstacle(root bool, sysctl func(name string) string) error {
	switch {
	case !root:
		return errors.New("forks need root")
	case sysctl("user/max_user_namespaces") == "0":
		return errors.New("user.max_user_namespaces is 0: set it to some thousands")
	case sysctl("kernel/unprivileged_userns_clone") == "0":
		return errors.New("kernel.unprivileged_userns_clone is 0: set it to 1")
	case sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
		return errors.New("AppArmor refuses user namespaces to processes without privilege (kernel.apparmor_restrict_unprivileged_userns is 1): " +
			"set it to 0, or load a profile with the permission userns for the interpreters")
	}
	return nil
}

// sysctl reads a setting of the kernel; empty when it has none of that name.
func sysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// refused turns the kernel's refusal of a fork's namespaces into words, which are logged once. Other errors stay what they are.
func (d *Driver) refused(err error, sysctl func(name string) string) error {
	failed, ok := errors.AsType[*StepError](err)
	if !ok || failed.Step != StepForkUnshare {
		return err
	}
	errno, _ := errors.AsType[syscall.Errno](err)
	switch errno {
	case unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EUSERS, unix.EINVAL, unix.ENOSYS:
	default:
		return err
	}
	reason := forkObstacle(d.root, sysctl)
	if reason == nil {
		reason = fmt.Errorf("the kernel refuses user namespaces to a process without privilege: %w", errno)
	}
	err = fmt.Errorf("%w: %w", sandbox.ErrNoTemplates, reason)
	d.forking.proven.Store(false)
	d.forking.told.Do(func() { d.logf("%v", err) })
	return err
}

// try has the template take the first steps of a fork, as far as the kernel can refuse them, so that it is known before anybody
// waits for an environment.
func (t *template) try() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	ours := os.NewFile(uintptr(pair[0]), "control")
	defer ours.Close() // which the intermediate ends with
	limit := unix.NsecToTimeval(t.driver.forkLimit.Nanoseconds())
	err = unix.SetsockoptTimeval(pair[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	if err == nil {
		t.asking.Lock()
		_, _, err = t.channel.WriteMsgUnix([]byte{forkRequest}, unix.UnixRights(pair[1]), nil)
		t.asking.Unlock()
	}
	unix.Close(pair[1])
	if err != nil {
		return err
	}
	b := make([]byte, replySize)
	for _, want := range []byte{forkHere, forkUnshared} {
		n, err := unix.Read(pair[0], b)
		if errors.Is(err, unix.EAGAIN) {
			return errors.New("the template does not answer")
		}
		if err != nil {
			return err
		}
		kind, err := parseForkReply(b[:n])
		if err != nil {
			return err
		}
		if kind != want {
			return fmt.Errorf("heard %c for %c", kind, want)
		}
	}
	return nil
}

// trialEnd bounds how long a template has for the end of its trial: one that lies need not come to it.
const trialEnd = time.Second

// awaitTrial waits until the process of a trial, which ends with its socket, has ended and was waited for. A template that is frozen
// before that stays in the middle of a fork, and keeps a process.
func (t *template) awaitTrial() {
	children := fmt.Sprintf("/proc/%d/task/%d/children", t.runtime, t.runtime)
	for end := time.Now().Add(trialEnd); time.Now().Before(end); <-time.After(time.Millisecond) {
		if b, err := os.ReadFile(children); err != nil || len(b) == 0 {
			return
		}
	}
}
