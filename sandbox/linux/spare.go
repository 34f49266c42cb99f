package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"thaw/sandbox"
)

// shim is pid 1 of a sandbox as the host sees it: made ahead, before anything of a request is known.
type shim struct {
	conn  *net.UnixConn
	group group
	id    uint32 // host id of the runtime process, 0: the caller's own
	pid   int
	pidfd *os.File
	// listener is the one that a sandbox without network brings along.
	listener net.Listener
	tmp      *os.File      // its /tmp, nil where /tmp counts as memory
	ended    chan struct{} // closed when pid 1 has been waited for; everything in the sandbox is dead then
	resident uint64        // the largest process's peak, bytes; valid after ended
}

// prepare makes a spare: every step up to StepLimits.
func (d *Driver) prepare(ctx context.Context, name string) (_ *shim, err error) {
	s := &shim{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.discard(d))
		}
	}()
	if err := d.step(StepCgroup, func() (err error) {
		if d.root {
			if s.id, err = d.ids.take(); err != nil {
				return err
			}
		}
		s.group, err = d.groups.make(name)
		return err
	}); err != nil {
		return nil, err
	}
	if err := d.step(StepSpawn, func() error { return s.spawn(d) }); err != nil {
		return nil, err
	}
	if err := d.step(StepAttach, func() error { return s.group.attach(s.pid) }); err != nil {
		return nil, err
	}
	m := &message{fail: d.fail}
	// Slave: what the host unmounts goes away here as well, and nothing from here ever shows on the host.
	m.mount(StepIsolate, "", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
	m.add(op{code: opUnshare, step: StepIsolate, a: unix.CLONE_NEWCGROUP})
	m.add(op{code: opKeyring, step: StepIsolate})
	m.add(op{code: opHost, step: StepIsolate, s: [4]string{hostName}})
	d.rootfs.assemble(m, s.tmpOptions(d, 512))
	for _, l := range d.limits {
		m.add(op{code: opLimit, step: StepLimits, n: uint32(l.resource), a: l.soft, b: l.hard})
	}
	m.add(op{code: opFilter, step: StepLimits, blob: d.filter})
	if d.network == sandbox.NetworkNone {
		m.add(op{code: opUnshare, step: StepJoin, a: unix.CLONE_NEWNET})
		m.add(op{code: opLoopUp, step: StepJoin})
		m.add(op{code: opListen, step: StepListen})
	}
	r, files, err := s.ask(ctx, m.buf, nil)
	if err != nil {
		return nil, err
	}
	if r.kind != replyReady {
		return nil, errors.Join(fmt.Errorf("pid 1 answered %c for ready", r.kind), closeAll(files))
	}
	if s.group.boundsMemory() {
		if s.tmp, err = openTmp(s.pid, d.rootfs.dir); err != nil {
			return nil, errors.Join(&StepError{Step: StepRoot, Err: err}, closeAll(files))
		}
	}
	if len(files) > 0 {
		s.listener, err = net.FileListener(files[0])
		return s, errors.Join(err, closeAll(files))
	}
	return s, nil
}

// tmpOptions are the mount options of /tmp.
func (s *shim) tmpOptions(d *Driver, megabytes int) string {
	id := s.id
	return fmt.Sprintf("mode=1777,uid=%d,gid=%d,size=%dm,nr_inodes=%d", id, id, megabytes, megabytes*tmpFilesPerMB)
}

// spawn starts pid 1 and the goroutine that waits for it.
func (s *shim) spawn(d *Driver) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	ours := os.NewFile(uintptr(pair[0]), "control")
	theirs := os.NewFile(uintptr(pair[1]), "control")
	defer ours.Close()
	defer theirs.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		return err
	}
	s.conn = c.(*net.UnixConn)

	pidfd := -1
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Setsid:     true,
		PidFD:      &pidfd,
	}
	if fd := s.group.fd(); fd >= 0 {
		attr.UseCgroupFD, attr.CgroupFD = true, fd
	}
	if !d.root {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	null := d.null.Fd()
	pid, err := syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", d.shim.Fd()), []string{"thaw-init"}, &syscall.ProcAttr{
		Dir:   "/",
		Files: []uintptr{null, null, null, theirs.Fd()},
		Sys:   attr,
	})
	if err != nil {
		return fmt.Errorf("start pid 1: %w", err)
	}
	s.pid = pid
	s.ended = make(chan struct{})
	if pidfd < 0 {
		// The kernel has no process descriptors; without them a wait would hold a thread per sandbox.
		unix.Kill(pid, unix.SIGKILL)
		var ws unix.WaitStatus
		unix.Wait4(pid, &ws, 0, nil)
		close(s.ended)
		return errors.New("the kernel has no process descriptors (Linux 5.12 is needed)")
	}
	unix.SetNonblock(pidfd, true) // so that Go's poller takes it
	s.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	go s.wait()
	return nil
}

// wait reaps pid 1. It holds no thread: the poller reports the end of the process.
func (s *shim) wait() {
	defer close(s.ended)
	raw, err := s.pidfd.SyscallConn()
	if err == nil {
		raw.Read(func(fd uintptr) bool { return exited(int(fd)) })
	}
	var usage unix.Rusage
	for {
		if _, err := unix.Wait4(s.pid, nil, 0, &usage); err != unix.EINTR {
			s.resident = uint64(usage.Maxrss) << 10
			return
		}
	}
}

// residentPeak is what there is to know of the memory use without a cgroup: the runtime process's own peak.
func (s *shim) residentPeak() uint64 {
	select {
	case <-s.ended:
		return s.resident
	default:
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.pid, s.pid))
	if err != nil {
		return 0
	}
	child, _, _ := strings.Cut(string(b), " ")
	return field("/proc/"+child+"/status", "VmHWM:") << 10
}

// exited asks without waiting whether the process has ended.
func exited(pidfd int) bool {
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1
}

// ask sends one message and gives the one reply, a FAILED one as an error.
func (s *shim) ask(ctx context.Context, msg []byte, files []int) (reply, []*os.File, error) {
	if err := s.send(msg, files); err != nil {
		return reply{}, nil, err
	}
	deadline, _ := ctx.Deadline()
	s.conn.SetReadDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { s.conn.SetReadDeadline(time.Unix(1, 0)) })
	r, received, err := s.receive()
	if !stop() && ctx.Err() != nil {
		closeAll(received) //nolint:errcheck // the caller hears why nothing is done with them
		return reply{}, nil, ctx.Err()
	}
	if err != nil {
		return reply{}, nil, err
	}
	if r.kind == replyFailed {
		closeAll(received) //nolint:errcheck // the caller hears why nothing is done with them
		return reply{}, nil, &StepError{Step: r.step, Err: syscall.Errno(r.value)}
	}
	return r, received, nil
}

func (s *shim) send(msg []byte, files []int) error {
	var oob []byte
	if len(files) > 0 {
		oob = unix.UnixRights(files...)
	}
	if _, _, err := s.conn.WriteMsgUnix(msg, oob, nil); err != nil {
		return fmt.Errorf("tell pid 1: %w", err)
	}
	return nil
}

func (s *shim) receive() (reply, []*os.File, error) {
	var b [replySize]byte
	var oob [64]byte
	n, oobn, _, _, err := s.conn.ReadMsgUnix(b[:], oob[:])
	if err != nil {
		return reply{}, nil, fmt.Errorf("pid 1's answer: %w", err)
	}
	var files []*os.File
	if oobn > 0 {
		msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			return reply{}, nil, err
		}
		for _, m := range msgs {
			fds, err := unix.ParseUnixRights(&m)
			if err != nil {
				return reply{}, files, err
			}
			for _, fd := range fds {
				files = append(files, os.NewFile(uintptr(fd), "listener"))
			}
		}
	}
	r, err := parseReply(b[:n])
	return r, files, err
}

// kill ends pid 1 and with it everything in the sandbox.
func (s *shim) kill() {
	if s.pidfd == nil {
		return
	}
	if raw, err := s.pidfd.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) }) //nolint:errcheck // it has ended already
	}
	// A frozen process takes no signal on cgroup v1. Elsewhere this changes nothing.
	if s.group.freezes() {
		s.group.setFrozen(false) //nolint:errcheck // fails where the group has gone, and its processes before it
	}
	// Processes die on their own CPU share. A fork bomb has used it up for minutes in advance.
	s.group.limitCPU(-1) //nolint:errcheck // as above
}

// discard undoes prepare, as far as it came. It waits for the end of pid 1.
func (s *shim) discard(d *Driver) error {
	s.kill()
	if s.ended != nil {
		<-s.ended
	}
	var errs []error
	if s.pidfd != nil {
		s.pidfd.Close()
	}
	if s.conn != nil {
		s.conn.Close()
	}
	if s.listener != nil {
		s.listener.Close()
	}
	if s.tmp != nil {
		s.tmp.Close()
	}
	if s.group != nil {
		errs = append(errs, s.group.remove())
	}
	if s.id != 0 {
		d.ids.give(s.id)
	}
	return errors.Join(errs...)
}

func closeAll(files []*os.File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
