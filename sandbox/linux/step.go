package linux

import (
	"errors"
	"fmt"
	"syscall"

	"thaw/sandbox"
)

// Step names one touch of the kernel on the way to a running sandbox. Errors carry it, and a test can make exactly one
// fail.
type Step uint8

// The steps, in order. Those from StepClone on happen inside the sandbox's pid 1; native/init.c counts them in the
// same order.
const (
	StepCgroup      Step = iota + 1 // make the cgroup
	StepSpawn                       // start pid 1 in new namespaces
	StepAttach                      // move it into the cgroup
	StepIsolate                     // mount propagation, cgroup namespace, session keyring, host name
	StepRoot                        // root file system, /proc, /dev, /tmp
	StepLimits                      // resource limits
	StepNetwork                     // find the network namespace
	StepListen                      // open the Runtime API's listener
	StepMemory                      // bound the memory
	StepPipes                       // output pipe and channel
	StepJoin                        // enter the network namespace
	StepMounts                      // the mounts of the Spec
	StepPivot                       // change the root, let go of the host's
	StepClone                       // the runtime process, in its user namespace
	StepMaps                        // id maps, /proc read-only
	StepDrop                        // pid 1 gives up its privileges
	StepCredentials                 // the runtime process gives up its own
	StepFilter                      // system call filter
	StepExec                        // run the command
	numSteps
)

var stepNames = [numSteps]string{"", "cgroup", "spawn", "attach", "isolate", "root", "limits", "network", "listen", "memory",
	"pipes", "join", "mounts", "pivot", "clone", "maps", "drop", "credentials", "filter", "exec"}

// String is the step's name in errors and measurements.
func (s Step) String() string {
	if s < numSteps {
		return stepNames[s]
	}
	if s < endForkSteps {
		return "fork: " + forkStepNames[s-numSteps]
	}
	return fmt.Sprintf("step %d", uint8(s))
}

// StepError is a start that failed: which step, and why. Err is a syscall.Errno when the kernel said so.
type StepError struct {
	Step Step
	Err  error
}

// Error names the step and the reason.
func (e *StepError) Error() string { return "sandbox: " + e.Step.String() + ": " + e.Err.Error() }

// Unwrap gives the reason.
func (e *StepError) Unwrap() error { return e.Err }

// Is reports sandbox.ErrEntrypoint for a command that cannot be run, as opposed to a sandbox that cannot be made.
func (e *StepError) Is(target error) bool {
	if target != sandbox.ErrEntrypoint || e.Step != StepExec {
		return false
	}
	errno, ok := errors.AsType[syscall.Errno](e.Err)
	if !ok {
		return false
	}
	switch errno {
	case syscall.ENOENT, syscall.EACCES, syscall.ENOEXEC, syscall.ENOTDIR, syscall.ELOOP, syscall.EISDIR, syscall.ELIBBAD, syscall.ETXTBSY, syscall.EPERM:
		return true
	}
	return false
}

// Errors that callers tell apart.
var (
	// ErrClosed: the driver has been closed.
	ErrClosed = errors.New("sandbox: driver is closed")
	// ErrEnded: the sandbox has ended or was killed.
	ErrEnded = errors.New("sandbox: has ended")
)
