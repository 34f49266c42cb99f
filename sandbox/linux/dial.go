package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"thaw/sandbox"
)

var (
	_ sandbox.Dialer     = (*process)(nil)
	_ sandbox.Terminator = (*process)(nil)
)

// DialPort connects to a port of the sandbox's loopback interface. The socket is made inside the sandbox's network and
// stays there; connecting waits outside, since a listener that does not accept could hold it up.
func (p *process) DialPort(ctx context.Context, port int) (net.Conn, error) {
	if port < 1 || port > 65535 {
		return nil, fmt.Errorf("sandbox: port %d", port)
	}
	fd := -1
	open := func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	}
	if err := p.inNetwork(open); err != nil {
		return nil, fmt.Errorf("sandbox: make a socket in its network: %w", err)
	}
	err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	file := os.NewFile(uintptr(fd), "dial")
	defer file.Close()
	if errors.Is(err, unix.EINPROGRESS) {
		err = awaitConnect(ctx, file)
	}
	if err != nil {
		return nil, fmt.Errorf("sandbox: connect to port %d: %w", port, err)
	}
	return net.FileConn(file)
}

// awaitConnect waits until a connect under way has come to its end.
func awaitConnect(ctx context.Context, file *os.File) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { file.SetWriteDeadline(time.Unix(1, 0)) }) //nolint:errcheck // a deadline in the past ends the wait
	defer stop()
	var result error
	err = raw.Write(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 0)
		if err != nil && !errors.Is(err, unix.EINTR) {
			result = err
			return true
		}
		if n == 0 {
			return false
		}
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if result = err; err == nil && code != 0 {
			result = syscall.Errno(code)
		}
		return true
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(err, result)
}

// errNoWay says that the sandbox's network cannot be entered.
var errNoWay = errors.New("the network of a sandbox can be entered by root only")

// Dials reports whether DialPort has a way in.
func (p *process) Dials() bool { return p.ns != nil || p.driver.root }

// inNetwork runs fn on a thread inside the sandbox's network.
func (p *process) inNetwork(fn func() error) error {
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return ErrEnded
	}
	if p.ns != nil {
		return p.ns.Do(fn)
	}
	if !p.Dials() {
		return errNoWay
	}
	// The sandbox has brought its own, that of its pid 1.
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", p.shim.pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	if exited(pidfdOf(p.shim.pidfd)) {
		return ErrEnded // the number may be another process's by now
	}
	done := make(chan error, 1)
	go func() {
		// It is never unlocked, so that the thread ends here rather than serve others in the wrong network.
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}

// Terminate asks the first process to end.
func (p *process) Terminate() error {
	pid, err := onlyChild(p.shim.pid)
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// A process with this number that is pid 1's child now has been so when the descriptor was opened.
	if again, err := onlyChild(p.shim.pid); err != nil || again != pid {
		return ErrEnded
	}
	return unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0)
}
