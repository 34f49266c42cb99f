package network

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Namespace is one reference to a network namespace. Its methods may be called from several goroutines.
type Namespace struct {
	pool  *Pool
	lease *lease

	released bool // Pool.mu
}

// Do calls fn on an OS thread inside the namespace and returns its error. Sockets that fn opens and processes that it
// starts stay inside. fn must not start goroutines that rely on the namespace, and should be short: the pool's Close
// waits for it. A process that fn starts with a parent-death signal does not get it when fn returns: the thread goes
// on living in the host's namespace. Errors besides fn's: ErrReleased, ErrClosed, the kernel's.
func (n *Namespace) Do(fn func() error) error {
	if err := n.pool.ref(n); err != nil {
		return err
	}
	defer n.pool.calls.Done()
	defer n.pool.unref(n.lease)
	fd := n.lease.ns.fd
	return onThread(n.pool.host.ns, func() error { return unix.Setns(fd, unix.CLONE_NEWNET) }, fn)
}

// HostAddr is where the host is seen from inside; the same for all namespaces of a pool, not valid when loopback only.
func (n *Namespace) HostAddr() netip.Addr { return n.pool.HostAddr() }

// Addr is the namespace's own address; not valid when loopback only.
func (n *Namespace) Addr() netip.Addr { return n.lease.ns.addr }

// Release gives the reference back and returns at once. After the last one the namespace is destroyed in the
// background, its link first: a process that still runs inside reaches nothing any more. Idempotent.
func (n *Namespace) Release() {
	n.pool.mu.Lock()
	released := n.released
	n.released = true
	n.pool.mu.Unlock()
	if !released {
		n.pool.unref(n.lease)
	}
}
