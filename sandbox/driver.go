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
	// RuntimeAPI asks for a listener inside the environment's network; the driver adds
	// AWS_LAMBDA_RUNTIME_API=host:port to Env.
	RuntimeAPI bool
}

// ErrEntrypoint is what Start fails with when the sandbox could be made, but the command in it is missing, not executable
// or of the wrong format: the function's fault, not the platform's.
var ErrEntrypoint = errors.New("sandbox: the command cannot be run")

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

// ExitStatus is how the first process ended.
type ExitStatus struct {
	Code   int    // valid when Signal is empty
	Signal string // "killed", "segmentation fault"; the names of syscall.Signal.String
}
