package network

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

const (
	envHost = "THAW_NETWORK_TEST_HOST" // set in the process whose network namespace plays the host
	envRole = "THAW_NETWORK_TEST_ROLE" // set in processes that a test starts
)

// roles are what this test binary does as a process started by a test.
var roles = map[string]func(args []string) error{}

// TestMain runs the tests in a network namespace of their own that plays the host, so that they share neither routes,
// nftables nor ip_forward with anything else on the machine.
func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		if err := roles[role](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(envHost) == "" && os.Getuid() == 0 {
		os.Exit(runInOwnNetwork())
	}
	if os.Getenv(envHost) != "" {
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err == nil {
			err = writeSysctl(ipForward, "0") // a new namespace has it from the machine
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "prepare the host of the tests:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func runInOwnNetwork() int {
	runtime.LockOSThread() // the death signal goes with the thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), envHost+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	signal.Ignore(os.Interrupt)
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, "cannot make a network namespace to test in:", err)
		return 1
	}
	return 0
}

// needHost skips a test that needs real namespaces where they cannot be made.
func needHost(t testing.TB) {
	t.Helper()
	if os.Getenv(envHost) == "" {
		t.Skip("needs root to make network namespaces")
	}
}
