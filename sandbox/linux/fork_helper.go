package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"thaw/sandbox/linux/seccomp"
)

// forking is what a driver needs for templates, made when the first one is started.
type forking struct {
	once   sync.Once
	err    error
	filter []byte // a template's
	second []byte // what is installed on top in what it forks

	proven atomic.Bool // the kernel has let a template fork, and has refused none since
	told   sync.Once   // why it refuses

	mu     sync.Mutex // guards helper's conversation: one message, one reply
	helper *shim
}

// prepare starts the helper.
func (f *forking) prepare(d *Driver) error {
	f.once.Do(func() {
		if f.filter, f.err = filterBytes(seccomp.TemplateProgram); f.err != nil {
			return
		}
		if f.second, f.err = filterBytes(seccomp.ForkedProgram); f.err != nil {
			return
		}
		f.helper, f.err = startHelper(d)
	})
	return f.err
}

// stop ends the helper.
func (f *forking) stop() {
	f.once.Do(func() { f.err = ErrClosed })
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.helper == nil {
		return
	}
	f.helper.conn.Close() // end of file is what it ends with
	<-f.helper.ended
	f.helper.pidfd.Close()
	f.helper = nil
}

// ask has the helper carry out a message.
func (f *forking) ask(ctx context.Context, m *message, files []int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.helper == nil {
		return ErrClosed
	}
	// A reply that nobody waited for would be taken for the next one's; the helper's work is short.
	r, _, err := f.helper.ask(context.WithoutCancel(ctx), m.buf, files)
	if err == nil && r.kind != replyReady {
		err = fmt.Errorf("the helper answered %c", r.kind)
	}
	return err
}

// startHelper starts native/init.c's program in its life as helper: in the host's own namespaces, with its privilege, and
// outside every sandbox.
func startHelper(d *Driver) (_ *shim, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "helper"), os.NewFile(uintptr(pair[1]), "helper")
	defer ours.Close()
	defer theirs.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	s := &shim{conn: c.(*net.UnixConn), group: noGroup{}, ended: make(chan struct{})}
	pidfd, null := -1, d.null.Fd()
	s.pid, err = syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", d.shim.Fd()), []string{"thaw-init", "helper"}, &syscall.ProcAttr{
		Dir: "/", Files: []uintptr{null, null, null, theirs.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the helper: %w", err), s.conn.Close())
	}
	unix.SetNonblock(pidfd, true)
	s.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	go s.wait()
	return s, nil
}
