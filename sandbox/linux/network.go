package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Networks hands out network namespaces, one per key, reference-counted. sandbox/linux/network is the one there is.
type Networks interface {
	Acquire(ctx context.Context, key string) (Namespace, error)
}

// Namespace is one network namespace in use.
type Namespace interface {
	// Do runs fn on a locked thread inside the namespace.
	Do(fn func() error) error
	// HostAddr is where the host is seen from inside; invalid when it is not seen.
	HostAddr() netip.Addr
	// Release gives the namespace back. It is called once.
	Release()
}

// AcquireFunc makes Networks of a function, for pools whose method gives a concrete type.
type AcquireFunc func(ctx context.Context, key string) (Namespace, error)

// Acquire calls the function.
func (f AcquireFunc) Acquire(ctx context.Context, key string) (Namespace, error) { return f(ctx, key) }

// hostNetwork is the host's own namespace.
type hostNetwork struct{}

func (hostNetwork) Do(fn func() error) error { return fn() }
func (hostNetwork) HostAddr() netip.Addr     { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }
func (hostNetwork) Release()                 {}

// openNetNS gives a descriptor of the namespace, for pid 1 to enter.
func openNetNS(ns Namespace) (*os.File, error) {
	var f *os.File
	err := ns.Do(func() error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open network namespace: %w", err)
		}
		f = os.NewFile(uintptr(fd), "netns")
		return nil
	})
	return f, err
}

// backlog is how many connections may wait to be taken. The kernel keeps what they send, on nobody's account, and would let
// thousands of them wait.
const backlog = 64

// listenIn opens the sandbox's listener inside the namespace: for the Runtime API and that of extensions.
func (s *shim) listenIn(ns Namespace) (l net.Listener, err error) {
	err = ns.Do(func() error {
		tcp, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return err
		}
		if err := boundBacklog(tcp); err != nil {
			return errors.Join(err, tcp.Close())
		}
		l = s.guarded(tcp, ns)
		return nil
	})
	return l, err
}

func boundBacklog(l *net.TCPListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.Listen(int(fd), backlog) })
	return errors.Join(err, failed)
}
