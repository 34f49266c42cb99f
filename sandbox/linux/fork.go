package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"thaw/sandbox"
)

// forked is an environment that came from a template. Its shim is pid 1 of its own pid namespace, a child of the template's pid 1
// and not of this process.
type forked struct {
	*process
	template *template
}

// Fork follows the picture in runtimes/native/fork.c. Errors are *StepError, ErrEnded, or the context's. It takes RestoreTimeout
// at most. A template that does not answer by then, or that was found to lie, is ended.
func (t *template) Fork(ctx context.Context, spec *sandbox.ForkSpec) (sandbox.Process, error) {
	switch {
	case spec.MemoryMB < 1:
		return nil, fmt.Errorf("sandbox: %d MB of memory", spec.MemoryMB)
	case spec.TmpMB < 1:
		return nil, fmt.Errorf("sandbox: %d MB of /tmp", spec.TmpMB)
	}
	d := t.driver
	if !d.begin() {
		return nil, ErrClosed
	}
	defer d.pending.Done()
	if err := d.step(StepForkThaw, t.hold); err != nil {
		if errors.Is(err, ErrEnded) || errors.Is(err, errNotParked) {
			return nil, errors.Unwrap(err)
		}
		return nil, err
	}
	f := &fork{template: t, driver: d, spec: spec}
	f.process = &process{driver: d, shim: &shim{group: noGroup{}}, quota: cpuQuota(spec.MemoryMB), done: make(chan struct{})}
	defer f.letGo()
	limited, cancel := context.WithTimeout(ctx, d.forkLimit)
	defer cancel()
	if err := f.run(limited); err != nil {
		err = d.refused(err, sysctl) // a setting can change while the template lives
		if errors.Is(err, errLied) || errors.Is(err, sandbox.ErrNoTemplates) || limited.Err() != nil && ctx.Err() == nil {
			d.logf("sandbox: end a template, since a fork of it failed: %v", err)
			t.Kill() // which also ends what it has kept of the fork to itself
			f.borrowed = false
		}
		return nil, errors.Join(err, f.undo())
	}
	p := &forked{process: f.process, template: t}
	d.enlist(p)
	go p.watch()
	p.watchMemory()
	return p, nil
}

// duplicate gives a second descriptor of what f is.
func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("fcntl: %w", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// Close gives everything back.
func (p *forked) Close() error {
	p.closing.Do(func() {
		p.Kill()
		<-p.done
		p.closeErr = errors.Join(p.undo(), p.template.leave())
		p.driver.delist(p)
	})
	return p.closeErr
}

// fork is one fork under way.
type fork struct {
	template *template
	driver   *Driver
	spec     *sandbox.ForkSpec
	process  *process
	gone     bool // the template has been let go
	borrowed bool // a process of the environment's cgroup may be using the template's memory

	theirs  []*os.File // the ends of the output pipe and of the channel
	mounts  []*os.File
	runtime int      // host pid
	maker   *os.File // pidfd of the template's intermediate
	place   string   // the environment's cgroups, as /proc/PID/cgroup has them
}

// letGo tells the template that it is not needed any more.
func (f *fork) letGo() {
	if !f.gone {
		f.gone = true
		f.template.letGo()
	}
}

func (f *fork) run(ctx context.Context) error {
	d, s := f.driver, f.process.shim
	defer func() {
		closeAll(f.theirs) //nolint:errcheck // the environment has copies of its own
		closeAll(f.mounts) //nolint:errcheck // as above
		if f.maker != nil {
			f.maker.Close()
		}
	}()
	if err := d.step(StepForkCgroup, func() (err error) {
		if s.id, err = d.ids.take(); err != nil {
			return err
		}
		g, err := d.groups.make(d.name())
		if err != nil {
			return err
		}
		s.group = g
		return nil
	}); err != nil {
		return err
	}
	if err := d.step(StepForkNetwork, func() (err error) {
		f.process.ns, err = d.acquire(ctx, f.template.networkKey)
		return err
	}); err != nil {
		return err
	}
	if err := d.step(StepForkFiles, func() (err error) {
		if f.mounts, err = f.template.files.makePrivate(ctx, s.id, f.spec.TmpMB); err != nil {
			return err
		}
		if s.group.boundsMemory() {
			if s.tmp, err = duplicate(f.mounts[0]); err != nil { // /tmp is the first of privateDirs
				return err
			}
		}
		f.process.guard, err = newMemoryGuard(s.group, s.tmp, f.spec.MemoryMB, f.spec.TmpMB)
		return err
	}); err != nil {
		return err
	}
	var control *os.File
	if err := d.step(StepForkPipes, func() (err error) {
		if f.theirs, err = f.process.openPipes(true); err != nil {
			return err
		}
		control, err = f.openControl()
		return err
	}); err != nil {
		return err
	}
	err := d.step(StepForkRequest, func() error { return f.template.request(ctx, control) })
	control.Close()
	if err != nil {
		return err
	}
	if err := f.leaveTemplate(ctx); err != nil {
		return err
	}
	f.letGo()
	if err := f.furnish(ctx); err != nil {
		return err
	}
	return f.startRuntime(ctx)
}

// openControl makes the socket that pid 1 and its maker are spoken to on, and gives their end.
func (f *fork) openControl() (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "control")
	defer ours.Close()
	// The kernel then tells who sends.
	if err := unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		theirs.Close()
		return nil, fmt.Errorf("SO_PASSCRED: %w", err)
	}
	c, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, err
	}
	f.process.shim.conn = c.(*net.UnixConn)
	return theirs, nil
}

// request asks the template for one fork.
func (t *template) request(ctx context.Context, control *os.File) error {
	t.asking.Lock()
	defer t.asking.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	t.channel.SetWriteDeadline(deadline) // its end is full when it takes no requests
	stop := context.AfterFunc(ctx, func() { t.channel.SetWriteDeadline(time.Unix(1, 0)) })
	_, _, err := t.channel.WriteMsgUnix([]byte{forkRequest}, unix.UnixRights(int(control.Fd())), nil)
	runtime.KeepAlive(control)
	if !stop() && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// leaveTemplate is everything until pid 1 has its own program, and the template goes on.
func (f *fork) leaveTemplate(ctx context.Context) error {
	d, s := f.driver, f.process.shim
	var maker int
	if err := d.step(StepForkHere, func() (err error) {
		if maker, err = f.hear(ctx, s.conn, forkHere); err != nil {
			return err
		}
		pidfd, err := unix.PidfdOpen(maker, unix.PIDFD_NONBLOCK)
		if err != nil {
			return fmt.Errorf("pidfd_open: %w", err)
		}
		f.maker = os.NewFile(uintptr(pidfd), "pidfd")
		return f.isTemplates(maker)
	}); err != nil {
		return err
	}
	if err := d.step(StepForkAttach, func() (err error) {
		if err := s.group.attach(maker); err != nil {
			return err
		}
		if f.place, err = placeOf(maker); err == nil && exited(pidfdOf(f.maker)) {
			err = errMakerEnded // and the number may be another's
		}
		return err
	}); err != nil {
		return err
	}
	if err := d.step(StepForkMaps, func() error {
		if _, err := f.hear(ctx, s.conn, forkUnshared); err != nil {
			return err
		}
		uids := fmt.Sprintf("%d %d 1\n%d %d 1\n", functionUID, s.id, reaperUID, d.ids.shim())
		gids := fmt.Sprintf("%d %d 1\n%d %d 1\n", functionGID, s.id, reaperGID, d.ids.shim())
		dir := fmt.Sprintf("/proc/%d", maker)
		return errors.Join(put(dir, "uid_map", uids), put(dir, "gid_map", gids))
	}); err != nil {
		return err
	}
	if err := d.step(StepForkGo, func() error {
		rights := unix.UnixRights(int(d.shim.Fd()), int(f.theirs[0].Fd()), int(f.theirs[1].Fd()))
		_, _, err := s.conn.WriteMsgUnix(goMessage(d.forkFail()), rights, nil)
		f.borrowed = err == nil
		// Only the environment has them from here on, so that its end is the end of the channel.
		err = errors.Join(err, closeAll(f.theirs))
		f.theirs = nil
		return err
	}); err != nil {
		return err
	}
	return d.step(StepForkReaper, func() error {
		pid, err := f.hear(ctx, s.conn, replyReady)
		if err != nil {
			return err
		}
		f.borrowed = false
		pidfd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
		if err != nil {
			return fmt.Errorf("pidfd_open: %w", err)
		}
		if err := f.isFirst(pid); err != nil {
			return errors.Join(err, unix.Close(pidfd))
		}
		s.pid, s.pidfd, s.ended = pid, os.NewFile(uintptr(pidfd), "pidfd"), make(chan struct{})
		go s.follow()
		return nil
	})
}

// follow waits for the end of a pid 1 that is not this process's child.
func (s *shim) follow() {
	defer close(s.ended)
	raw, err := s.pidfd.SyscallConn()
	if err == nil {
		raw.Read(func(fd uintptr) bool { return exited(int(fd)) })
	}
}

// furnish gives the environment its file systems, and pid 1 its place.
func (f *fork) furnish(ctx context.Context) error {
	d, s := f.driver, f.process.shim
	if err := d.step(StepForkWatch, func() error {
		// When memory runs out the kernel shall choose anything but pid 1.
		if err := put(fmt.Sprintf("/proc/%d", s.pid), "oom_score_adj", "0"); err != nil {
			return err
		}
		m := &message{}
		m.add(op{code: opFilter, step: StepForkWatch, blob: d.forking.second})
		m.add(op{code: opWatch, step: StepForkWatch, n: 2}) // its ids it took before it ran its program
		return s.send(m.buf, nil)
	}); err != nil {
		return err
	}
	if err := d.step(StepForkMounts, func() error { return f.mount(ctx) }); err != nil {
		return err
	}
	return d.step(StepForkWatch, func() error {
		pid, err := f.hear(ctx, s.conn, replyStarted)
		if err == nil && pid != s.pid { // and so its pid was not another process's when it was opened
			err = fmt.Errorf("%w: pid 1 is another process", errLied)
		}
		if err != nil {
			return err
		}
		return setPassCred(s.conn, 0)
	})
}

// mount has the helper mount what is the environment's own.
func (f *fork) mount(ctx context.Context) error {
	spaces := make([]*os.File, 2)
	for i, name := range []string{"pid", "mnt"} {
		var err error
		if spaces[i], err = os.Open(fmt.Sprintf("/proc/%d/ns/%s", f.process.shim.pid, name)); err != nil {
			closeAll(spaces[:i]) //nolint:errcheck // they were for looking only
			return err
		}
	}
	defer closeAll(spaces) //nolint:errcheck // they were for looking only
	m := &message{}
	m.add(op{code: opPIDNS, step: StepForkMounts, n: 0})
	m.add(op{code: opProc, step: StepForkMounts, s: [4]string{"hidepid=2"}})
	m.add(op{code: opMountNS, step: StepForkMounts, n: 1})
	m.add(op{code: opMove, step: StepForkMounts, n: ^uint32(0), s: [4]string{"/proc"}})
	for _, name := range maskedProc {
		if _, err := os.Lstat("/proc/" + name); err == nil {
			m.mount(StepForkMounts, "/"+mask, "/proc/"+name, "", unix.MS_BIND, "")
		}
	}
	for i, dir := range privateDirs {
		m.add(op{code: opMove, step: StepForkMounts, n: uint32(2 + i), s: [4]string{dir}})
	}
	var fds []int
	for _, file := range append(spaces, f.mounts...) {
		fds = append(fds, int(file.Fd()))
	}
	err := f.driver.forking.ask(ctx, m, fds)
	runtime.KeepAlive(f.mounts)
	return err
}

// startRuntime lets the new runtime become one, and looks at what it is.
func (f *fork) startRuntime(ctx context.Context) error {
	d, channel := f.driver, f.process.channel
	if err := d.step(StepForkStart, func() error {
		b, err := startMessage(d.forkFail(), d.forking.second, f.spec.Env)
		if err != nil {
			return err
		}
		if err := setPassCred(channel, 1); err != nil {
			return err
		}
		if _, err := channel.Write(b); err != nil {
			return err
		}
		if f.runtime, err = f.hear(ctx, channel, forkStarted); err != nil {
			return err
		}
		return setPassCred(channel, 0)
	}); err != nil {
		return err
	}
	return d.step(StepForkVerify, func() error {
		// The template stands still until the intermediate has ended, which it could not in a frozen environment.
		if err := f.makerEnds(ctx); err != nil {
			return err
		}
		return f.verify()
	})
}

// makerEnds waits for the end of the intermediate, which is due when pid 1 runs its own program.
func (f *fork) makerEnds(ctx context.Context) error {
	raw, err := f.maker.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.maker.SetReadDeadline(time.Unix(1, 0)) })
	err = raw.Read(func(fd uintptr) bool { return exited(int(fd)) })
	if !stop() && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func setPassCred(c *net.UnixConn, on int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, on) })
	return errors.Join(cerr, err)
}

// hear waits for a reply of one kind, and gives the host pid of its sender.
func (f *fork) hear(ctx context.Context, c *net.UnixConn, want byte) (int, error) {
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	// There is room for the sender's credentials, which come first, and for no descriptor: any would stay open here.
	b, oob := make([]byte, replySize), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	if !stop() && ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil {
		return 0, err
	}
	kind, err := parseForkReply(b[:n])
	if _, failed := errors.AsType[*StepError](err); err != nil && !failed {
		err = fmt.Errorf("%w: %w", errLied, err)
	}
	if err == nil && kind != want {
		err = fmt.Errorf("%w: heard %q for %q", errLied, kind, want)
	}
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, err
	}
	for _, m := range messages {
		if cred, err := unix.ParseUnixCredentials(&m); err == nil && cred.Pid > 0 {
			return int(cred.Pid), nil
		}
	}
	return 0, errors.New("the kernel did not tell who spoke")
}

// borrowLimit bounds the wait for a pid 1 that is about to leave the template's memory.
const borrowLimit = 5 * time.Second

// undo gives back what run took, as far as it came. Whatever of the fork is alive finds its socket closed; what does not end
// by that is killed. A process that borrows the template's memory is not: it could hold locks of the C library there.
func (f *fork) undo() error {
	s := f.process.shim
	if f.borrowed {
		s.conn.SetReadDeadline(time.Now().Add(borrowLimit))
		if _, err := s.conn.Read(make([]byte, replySize)); errors.Is(err, os.ErrDeadlineExceeded) {
			f.driver.logf("sandbox: end a template that does not finish a fork")
			f.template.Kill()
		}
	}
	if s.conn != nil {
		s.conn.Close()
	}
	if f.process.channel != nil {
		f.process.channel.Close()
	}
	return errors.Join(clearOut(context.Background(), s.group), f.process.undo(), f.template.leave()) //nolint:forbidigo // its caller may have given up; what it made has to go all the same
}
