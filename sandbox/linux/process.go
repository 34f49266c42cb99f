package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"thaw/sandbox"
)

// process is a running sandbox.
type process struct {
	driver   *Driver
	shim     *shim
	ns       Namespace // nil: the sandbox's own
	listener net.Listener
	channel  *net.UnixConn
	output   *os.File
	quota    int
	template *template          // nil: not one
	exit     sandbox.ExitStatus // set before done is closed
	done     chan struct{}
	killed   atomic.Bool

	closing  sync.Once
	closeErr error

	mu       sync.Mutex // guards the freezer's state, the memory and what is read after Close
	isFrozen bool
	guard    *memoryGuard // nil: the kernel's bound is MemorySize
	closed   bool
	oom      bool   // kept when the cgroup goes
	peak     uint64 // kept when the cgroup goes
}

var _ sandbox.Process = (*process)(nil)

// freezeWait bounds Freeze. A process in an uninterruptible system call can hold it up; nothing in a sandbox should.
const freezeWait = 5 * time.Second

// start does every step from StepNetwork on.
func (p *process) start(ctx context.Context, spec *sandbox.Spec) error {
	d, s := p.driver, p.shim
	var theirs []*os.File               // the sandbox's ends
	defer func() { closeAll(theirs) }() //nolint:errcheck // the sandbox has copies of its own

	env := spec.Env
	if err := d.step(StepNetwork, func() (err error) {
		p.ns, err = d.acquire(ctx, spec.NetworkKey)
		return err
	}); err != nil {
		return err
	}
	if spec.RuntimeAPI {
		if err := d.step(StepListen, func() (err error) {
			if p.listener = s.listener; p.listener != nil {
				s.listener = nil
				return nil
			}
			p.listener, err = s.listenIn(p.ns)
			return err
		}); err != nil {
			return err
		}
		env = append(env[:len(env):len(env)], "AWS_LAMBDA_RUNTIME_API="+p.listener.Addr().String())
		if spec.CredentialsPath != "" {
			env = append(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://"+p.listener.Addr().String()+spec.CredentialsPath)
		}
	} else if s.listener != nil {
		s.listener.Close()
		s.listener = nil
	}
	if err := d.step(StepMemory, func() (err error) {
		p.guard, err = newMemoryGuard(s.group, s.tmp, spec.MemoryMB, spec.TmpMB)
		return err
	}); err != nil {
		return err
	}
	if err := d.step(StepPipes, func() (err error) {
		theirs, err = p.openPipes(spec.Channel)
		return err
	}); err != nil {
		return err
	}

	m := &message{fail: d.fail}
	if p.ns != nil && d.network == sandbox.NetworkNAT {
		f, err := openNetNS(p.ns)
		if err != nil {
			return &StepError{Step: StepJoin, Err: err}
		}
		theirs = append(theirs, f)
		m.add(op{code: opNetNS, step: StepJoin, n: uint32(len(theirs) - 1)})
	}
	if err := d.rootfs.mounts(m, spec.Mounts, hostAddr(p.ns)); err != nil {
		return &StepError{Step: StepMounts, Err: err}
	}
	tmp := d.rootfs.dir + "/tmp"
	m.mount(StepMounts, "", tmp, "", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV, s.tmpOptions(d, spec.TmpMB))
	m.add(op{code: opPivot, step: StepPivot, s: [4]string{d.rootfs.dir}})
	run := runArgs{args: spec.Args, env: env, dir: spec.Dir, uid: functionUID, gid: functionGID, channel: spec.Channel}
	if run.dir == "" {
		run.dir = "/"
	}
	if d.root {
		run.shimID = d.ids.shim()
	}
	run.uidMap = fmt.Sprintf("%d %d 1", functionUID, s.id)
	run.gidMap = fmt.Sprintf("%d %d 1", functionGID, s.id)
	if p.template != nil {
		if err := p.template.change(m, &run); err != nil {
			return err
		}
	}
	if err := m.run(run); err != nil {
		return &StepError{Step: StepClone, Err: err}
	}
	fds := make([]int, len(theirs))
	for i, f := range theirs {
		fds[i] = int(f.Fd())
	}
	began := time.Now()
	r, _, err := s.ask(ctx, m.buf, fds)
	runtime.KeepAlive(theirs)
	if err != nil {
		return err
	}
	if d.observe != nil {
		d.observe(StepExec, time.Since(began))
	}
	if r.kind != replyStarted {
		return &StepError{Step: StepExec, Err: fmt.Errorf("pid 1 answered %c for started", r.kind)}
	}
	return s.conn.SetReadDeadline(time.Time{})
}

// openPipes makes the output pipe and the channel, and gives the sandbox's ends in the order that native/init.c
// expects.
func (p *process) openPipes(channel bool) (theirs []*os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe2: %w", err)
	}
	theirs = append(theirs, os.NewFile(uintptr(fds[1]), "output"))
	unix.SetNonblock(fds[0], true)
	p.output = os.NewFile(uintptr(fds[0]), "output")
	// So that the function can open /dev/stdout and /dev/stderr again.
	if id := int(p.shim.id); id != 0 {
		if err := unix.Fchown(fds[1], id, id); err != nil {
			return theirs, fmt.Errorf("fchown: %w", err)
		}
	}
	if !channel {
		return theirs, nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return theirs, fmt.Errorf("socketpair: %w", err)
	}
	theirs = append(theirs, os.NewFile(uintptr(pair[1]), "channel"))
	ours := os.NewFile(uintptr(pair[0]), "channel")
	defer ours.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		return theirs, err
	}
	p.channel = c.(*net.UnixConn)
	return theirs, nil
}

// watch waits for the end, and makes of it what Exit says.
func (p *process) watch() {
	<-p.shim.ended
	p.exit = sandbox.ExitStatus{Signal: syscall.SIGKILL.String()}
	// What pid 1 said last is still in the socket. It says nothing when it was killed itself.
	p.shim.conn.SetReadDeadline(time.Now().Add(time.Second))
	for {
		r, files, err := p.shim.receive()
		closeAll(files) //nolint:errcheck // pid 1 sends none now; a template that has kept the socket could
		if err != nil {
			break
		}
		if r.kind != replyExited {
			continue
		}
		if ws := syscall.WaitStatus(r.value); ws.Signaled() {
			p.exit = sandbox.ExitStatus{Signal: ws.Signal().String()}
		} else {
			p.exit = sandbox.ExitStatus{Code: ws.ExitStatus()}
		}
	}
	close(p.done)
}

func (p *process) Channel() *net.UnixConn   { return p.channel }
func (p *process) Output() *os.File         { return p.output }
func (p *process) Done() <-chan struct{}    { return p.done }
func (p *process) Exit() sandbox.ExitStatus { return p.exit }

// Listener gives an untyped nil when there is none.
func (p *process) Listener() net.Listener { return p.listener }

// LimitCPU applies the share of cpuQuota.
func (p *process) LimitCPU() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrEnded
	}
	if p.guard != nil {
		p.guard.cpu = float64(p.quota) / cpuPeriod
	}
	return p.shim.group.limitCPU(p.quota)
}

// watchMemory begins to look at the memory, now and again until the end.
func (p *process) watchMemory() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.guard == nil {
		return
	}
	p.guard.timer = time.AfterFunc(p.guard.again, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.isFrozen {
			p.lookAtMemory()
		}
	})
}

// lookAtMemory looks now, and sets the timer for the next look. The caller holds mu.
func (p *process) lookAtMemory() {
	if p.guard == nil || p.closed || p.killed.Load() {
		return
	}
	if !p.guard.look(time.Now()) {
		p.oom = true
		p.Kill()
		return
	}
	p.guard.timer.Reset(p.guard.again)
}

// Freeze stops every process and waits until the kernel says so.
func (p *process) Freeze() error { return p.setFrozen(true) }

// Thaw lets them go on.
func (p *process) Thaw() error { return p.setFrozen(false) }

func (p *process) setFrozen(on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.killed.Load() {
		return ErrEnded
	}
	if p.isFrozen == on {
		return nil
	}
	if !p.shim.group.freezes() {
		return p.signalAll(on)
	}
	if on {
		p.lookAtMemory() // or a sandbox that is thawed for short times would never be looked at
	}
	if err := p.shim.group.setFrozen(on); err != nil {
		return err
	}
	p.isFrozen = on
	if !on {
		if p.guard != nil {
			p.guard.timer.Reset(p.guard.again)
		}
		return nil
	}
	deadline := time.Now().Add(freezeWait)
	for spins := 0; ; spins++ {
		if p.killed.Load() { // Kill has thawed, or is about to
			p.isFrozen = false
			return errors.Join(ErrEnded, p.shim.group.setFrozen(false))
		}
		frozen, err := p.shim.group.frozen()
		if err == nil && frozen {
			return nil
		}
		if err == nil && time.Now().After(deadline) {
			err = fmt.Errorf("not frozen after %s", freezeWait)
		}
		if err != nil {
			p.isFrozen = false
			return errors.Join(err, p.shim.group.setFrozen(false))
		}
		if spins > 8 {
			time.Sleep(50 * time.Microsecond) //nolint:forbidigo // polls with a deadline: cgroup v1 tells nobody when all are frozen
		}
	}
}

// signalAll is Freeze and Thaw where there is no freezer: pid 1 stops or continues all others.
func (p *process) signalAll(stop bool) error {
	command := []byte{'c'}
	if stop {
		command[0] = 's'
	}
	if err := p.shim.send(command, nil); err != nil {
		return ErrEnded
	}
	p.isFrozen = stop
	return nil
}

// MemoryPeak reads the cgroup's high-water mark; without a cgroup it is the runtime process's own, as the kernel counts
// its resident memory.
func (p *process) MemoryPeak() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readPeak()
	return p.peak
}

func (p *process) readPeak() {
	if p.closed {
		return
	}
	if !p.shim.group.boundsMemory() {
		p.peak = max(p.peak, p.shim.residentPeak())
		return
	}
	if p.guard != nil {
		p.peak = max(p.peak, p.guard.peak())
		return
	}
	p.peak = max(p.peak, p.shim.group.peak())
}

// OOMKilled asks the cgroup; without one it is never known.
func (p *process) OOMKilled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readOOM()
	return p.oom
}

func (p *process) readOOM() {
	if !p.closed && !p.oom {
		p.oom = p.shim.group.oomKills() > 0
	}
}

// Kill ends everything in the sandbox. It does not wait for a Freeze under way.
func (p *process) Kill() {
	p.killed.Store(true)
	select {
	case <-p.done:
	default:
		p.shim.kill()
	}
}

// Close gives everything back.
func (p *process) Close() error {
	p.closing.Do(func() {
		p.Kill()
		<-p.done
		p.closeErr = p.undo()
		p.driver.delist(p)
	})
	return p.closeErr
}

// undo gives back what start took, as far as it came.
func (p *process) undo() error {
	p.mu.Lock()
	p.readPeak()
	p.readOOM()
	p.closed = true
	if p.guard != nil && p.guard.timer != nil {
		p.guard.timer.Stop()
	}
	p.mu.Unlock()
	var errs []error
	if p.channel != nil {
		p.channel.Close() // the caller may have closed it
	}
	if p.listener != nil {
		p.listener.Close()
	}
	if p.output != nil {
		p.output.Close()
	}
	errs = append(errs, p.shim.discard(p.driver))
	if p.ns != nil {
		p.ns.Release()
	}
	return errors.Join(errs...)
}
