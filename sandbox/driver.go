package sandbox

import (
	"context"
	"errors"
	"net"
	"os"
)

// Network says what an environment can reach.
type Network string

// The network settings of the platform's configuration.
const (
	NetworkNAT  Network = "nat"  // own namespace per function version, translated to the outside; needs root
	NetworkNone Network = "none" // own namespace, loopback only
	NetworkHost Network = "host" // the host's own
)

// Mount is a host directory or file bound into an environment, always read-only, without set-uid and devices.
type Mount struct {
	Source string
	Target string
}

// Spec is what a driver needs to make one sandbox and start one process in it.
type Spec struct {
	// ID names the environment on this node: 32 hex digits, never used twice.
	ID string
	// NetworkKey tells environments that share a network namespace: one per function version generation.
	NetworkKey string
	// Mounts come on top of the driver's own: /usr, /lib*, /bin, /etc in part, /proc, /dev, /tmp.
	Mounts []Mount
	// Args is the command, found inside the sandbox; Args[0] is an absolute path.
	Args []string
	// Env is the whole environment, KEY=value. RuntimeAPI adds AWS_LAMBDA_RUNTIME_API to it.
	Env []string
	// Dir is the working directory inside the sandbox.
	Dir string
	// MemoryMB bounds memory, and CPU in proportion: 1,769 MB are one core (AWS's own figure). CPU is not bounded
	// until Process.LimitCPU.
	MemoryMB int
	// TmpMB bounds /tmp.
	TmpMB int
	// Channel asks for a socketpair: the process finds its end at descriptor 3.
	Channel bool
	// Template asks for a process that environments can be forked from: Start gives a Template, or ErrNoTemplates. Its
	// command runs under a host user of its own, and without a user namespace.
	Template bool
	// RuntimeAPI asks for a listener inside the environment's network; the driver adds
	// AWS_LAMBDA_RUNTIME_API=host:port to Env.
	RuntimeAPI bool
	// CredentialsPath has the driver add AWS_CONTAINER_CREDENTIALS_FULL_URI to Env as well: this path on that listener.
	CredentialsPath string
}

// ErrEntrypoint is what Start fails with when the sandbox could be made, but the command in it is missing, not executable
// or of the wrong format: the function's fault, not the platform's.
var ErrEntrypoint = errors.New("sandbox: the command cannot be run")

// ErrNoTemplates is what Start fails with when the machine, or the user that the platform runs as, cannot fork
// environments; the error says why. They can be booted all the same.
var ErrNoTemplates = errors.New("sandbox: environments cannot be forked here")

// Driver makes sandboxes. sandbox/linux is the one there is.
type Driver interface {
	// Start makes a sandbox and starts the process. It returns once the process runs or has failed to; what it made
	// is gone again when it returns an error. ctx bounds Start alone, not the life of the process.
	Start(ctx context.Context, spec *Spec) (Process, error)
}

// Process is a running sandbox. All methods may be called from several goroutines.
type Process interface {
	// Channel is the host's end of the socketpair, nil if the spec asked for none. The caller may set deadlines on it.
	Channel() *net.UnixConn
	// Listener is the Runtime API's listener inside the environment's network, nil if the spec asked for none.
	Listener() net.Listener
	// Output is the read end of the one pipe that carries the process's stdout and stderr. It is non-blocking and
	// known to Go's poller.
	Output() *os.File
	// LimitCPU applies the CPU share that belongs to MemoryMB; before, the process runs at full speed (init).
	LimitCPU() error
	// Freeze stops every process of the sandbox; Thaw lets them go on. Both are idempotent.
	Freeze() error
	Thaw() error
	// MemoryPeak is the highest memory use so far, bytes. It costs one read of an open file.
	MemoryPeak() uint64
	// OOMKilled says whether the kernel killed something in this sandbox for want of memory.
	OOMKilled() bool
	// Done is closed when the first process has ended and everything else in the sandbox was killed.
	Done() <-chan struct{}
	// Exit is valid after Done.
	Exit() ExitStatus
	// Kill ends every process of the sandbox and returns at once; Done follows. It works on a frozen sandbox.
	Kill()
	// Close kills, waits, and gives everything back: cgroup, ids, mounts, descriptors. Idempotent.
	Close() error
}

// Template is a Process that environments are forked from. Its life is one way: running, parked, ended. It runs one of the
// embedded bootstraps, is parked when the bootstrap said that it waits to be forked (runtimes.Parker), and nothing of the
// user runs in it from then on.
type Template interface {
	Process
	// Hazards looks at the process for what makes it unsafe to fork: threads, connections, child processes, descriptors and
	// memory that all environments would share. Each is a sentence's end in words for the function's author; none when it
	// is safe. An error says that the process could not be looked at.
	Hazards() ([]string, error)
	// Park freezes the template and takes note of what init wrote to /tmp. Fork comes after it.
	Park() error
	// Fork makes an environment of its own from the template: own user, pid, mount, ipc, uts and cgroup namespace, own
	// host user, own cgroup, own /tmp and /dev/shm with copies of the template's files; it shares the template's network
	// namespace. It returns once the new process has given up its privileges and goes on to the interpreter; the
	// interpreter then answers on the channel as a booted one does. ctx bounds Fork alone. Several calls may overlap.
	// Close of the template does not end the environments.
	Fork(ctx context.Context, spec *ForkSpec) (Process, error)
}

// ForkSpec is what is an environment's own, and not its template's.
type ForkSpec struct {
	// ID names the environment as Spec.ID does.
	ID string
	// Env are variables, KEY=value, that the bootstrap sets before code of the user runs; the template's others stay.
	Env []string
	// MemoryMB and TmpMB are as in Spec. What init left in /tmp has to fit into TmpMB.
	MemoryMB, TmpMB int
}

// ExitStatus is how the first process ended.
type ExitStatus struct {
	Code   int    // valid when Signal is empty
	Signal string // "killed", "segmentation fault"; the names of syscall.Signal.String
}
