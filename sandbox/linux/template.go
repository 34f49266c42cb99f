package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"thaw/sandbox"
)

// template is a sandbox whose runtime process is forked from.
//
// Its runtime is in the host's user namespace, as a host user of its own without any capability: the id maps of the environments
// can only be written from the namespace in which they are made. Its pid 1 is in a cgroup of its own and is not frozen
// with the runtime, because it reaps what the forks leave; and it outlives the runtime as long as there are environments, whose
// pid namespaces are below its own.
//
// States: running → parked ⇄ forking → ended → closed → released. Released is when the last environment has been closed.
type template struct {
	*process
	reaper  group    // pid 1's
	account []string // files
	runtime int      // host pid of the runtime process

	networkKey string

	asking sync.Mutex // one request at a time on the channel, whole

	mu       sync.Mutex // guards the following; taken before process.mu
	parked   bool
	files    originals
	forks    int // under way, while the template has to run
	children int // environments, and forks that could become some
	idle     *time.Timer
	closed   bool

	releasing sync.Once
	released  error
}

var _ sandbox.Template = (*template)(nil)

// freezeAfter is how long a template stays thawed for the next of a burst of forks.
const freezeAfter = 50 * time.Millisecond

var errNotParked = errors.New("sandbox: the template is not parked")

// startTemplate is Start for Spec.Template.
func (d *Driver) startTemplate(ctx context.Context, spec *sandbox.Spec) (_ *template, err error) {
	if !d.root {
		return nil, fmt.Errorf("%w: that needs root", sandbox.ErrNoTemplates)
	}
	if !spec.Channel {
		return nil, errors.New("sandbox: a template needs a channel")
	}
	if err := d.forking.prepare(d); err != nil {
		return nil, fmt.Errorf("%w: %w", sandbox.ErrNoTemplates, err)
	}
	s, err := d.take(ctx)
	if err != nil {
		return nil, err
	}
	t := &template{networkKey: spec.NetworkKey, process: &process{driver: d, shim: s, quota: cpuQuota(spec.MemoryMB), done: make(chan struct{})}}
	t.template = t
	defer func() {
		if err != nil {
			err = errors.Join(err, t.undo(), t.forget())
		}
	}()
	own := *spec
	if own.Mounts, err = t.writeAccount(spec.Mounts); err != nil {
		return nil, &StepError{Step: StepMounts, Err: err}
	}
	if err := t.start(ctx, &own); err != nil {
		return nil, err
	}
	if err := d.step(StepAttach, func() (err error) {
		if t.runtime, err = onlyChild(s.pid); err != nil {
			return err
		}
		if t.reaper, err = d.groups.make(d.name()); err != nil {
			return err
		}
		return t.reaper.attach(s.pid)
	}); err != nil {
		return nil, err
	}
	d.enlist(t)
	go t.watch()
	t.watchMemory()
	return t, nil
}

// writeAccount gives the template's user a name: its number is not the one that functions have.
func (t *template) writeAccount(mounts []sandbox.Mount) ([]sandbox.Mount, error) {
	mounts = mounts[:len(mounts):len(mounts)]
	id := t.shim.id
	for name, line := range map[string]string{
		"passwd": fmt.Sprintf("sbx_user1051:x:%d:%d::/home/sbx_user1051:/sbin/nologin\n", id, id),
		"group":  fmt.Sprintf("sbx_user1051:x:%d:\n", id),
	} {
		common, err := os.ReadFile(filepath.Join(t.driver.rootfs.dir, "etc", name))
		if err != nil {
			return nil, err
		}
		file := filepath.Join(t.driver.rootfs.hosts, fmt.Sprintf("%s-%d", name, id))
		t.account = append(t.account, file)
		if err := writeFile(file, append(common, line...)); err != nil {
			return nil, err
		}
		mounts = append(mounts, sandbox.Mount{Source: file, Target: "/etc/" + name})
	}
	return mounts, nil
}

// change makes a template's of the last operations of a start.
func (t *template) change(m *message, run *runArgs) error {
	m.add(op{code: opFilter, step: StepFilter, blob: t.driver.forking.filter})
	run.template = true
	run.uid, run.gid = t.shim.id, t.shim.id
	run.uidMap, run.gidMap = "", ""
	return nil
}

// onlyChild gives the pid of a process's first child as the host sees it.
func onlyChild(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, err
	}
	var child int
	if _, err := fmt.Sscan(string(b), &child); err != nil {
		return 0, errors.New("the runtime process has gone")
	}
	return child, nil
}

// watch waits for the end of the runtime process, and ends what else is there.
func (t *template) watch() {
	t.exit = sandbox.ExitStatus{Signal: syscall.SIGKILL.String()}
	for {
		r, _, err := t.shim.receive()
		if err != nil {
			t.endAll()
			break
		}
		if r.kind != replyExited {
			continue
		}
		if ws := syscall.WaitStatus(r.value); ws.Signaled() {
			t.exit = sandbox.ExitStatus{Signal: ws.Signal().String()}
		} else {
			t.exit = sandbox.ExitStatus{Code: ws.ExitStatus()}
		}
		break
	}
	if err := empty(context.Background(), t.shim.group); err != nil { //nolint:forbidigo // the template has ended; there is no caller
		t.driver.logf("sandbox: end what a template left: %v", err)
	}
	close(t.done)
}

// endAll waits for the end of pid 1, which is on its way. It takes with it what was forked, and waits for it: also for what is
// frozen, which on cgroup v1 takes no signal.
func (t *template) endAll() {
	for {
		for _, p := range t.driver.alive() {
			if f, ok := p.(*forked); ok && f.template == t {
				f.Kill()
			}
		}
		_ = t.shim.group.setFrozen(false) // what cannot be thawed dies frozen
		select {
		case <-t.shim.ended:
			return
		case <-time.After(endAgain): // one may have been frozen since
		}
	}
}

// endAgain is the pause between attempts to end what a template's end takes with it.
const endAgain = 100 * time.Millisecond

// Park freezes the runtime. The driver's first is preceded by a trial of what the kernel can refuse; errors.Is tells
// sandbox.ErrNoTemplates apart.
func (t *template) Park() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrEnded
	}
	if t.parked {
		return nil
	}
	if !t.driver.forking.proven.Load() {
		err := t.driver.refused(t.driver.step(StepForkUnshare, t.try), sysctl)
		if errors.Is(err, sandbox.ErrNoTemplates) {
			return err
		}
		t.driver.forking.proven.Store(err == nil) // what else goes wrong is the template's fault, and its forks will tell
		t.awaitTrial()
	}
	files, err := openOriginals(t.runtime)
	if err != nil {
		return fmt.Errorf("sandbox: look at the template's files: %w", err)
	}
	// Its number cannot have become another process's before it was looked at if it is its own still.
	if pid, err := onlyChild(t.shim.pid); err != nil || pid != t.runtime {
		files.close()
		return ErrEnded
	}
	if err := t.Freeze(); err != nil {
		files.close()
		return err
	}
	t.files, t.parked = files, true
	return nil
}

// hold keeps the template running for one fork, and counts its environment.
func (t *template) hold() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return ErrEnded
	case !t.parked:
		return errNotParked
	}
	if t.idle != nil {
		t.idle.Stop()
		t.idle = nil
	}
	if err := t.Thaw(); err != nil {
		return err
	}
	t.forks++
	t.children++
	return nil
}

// letGo is called when a fork needs the template no longer.
func (t *template) letGo() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forks--
	if t.forks > 0 || t.closed {
		return
	}
	if t.idle != nil {
		t.idle.Stop()
	}
	t.idle = time.AfterFunc(freezeAfter, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.forks > 0 || t.closed {
			return
		}
		if err := t.Freeze(); err != nil && !errors.Is(err, ErrEnded) {
			t.driver.logf("sandbox: freeze a template: %v", err)
		}
	})
}

// Kill ends the runtime process. The environments go on.
func (t *template) Kill() {
	t.killed.Store(true)
	select {
	case <-t.done:
		return
	default:
	}
	pids, err := t.shim.group.pids()
	if err != nil {
		t.driver.logf("sandbox: kill a template: %v", err)
	}
	for _, pid := range pids {
		unix.Kill(pid, unix.SIGKILL)
	}
	_ = t.shim.group.setFrozen(false) // it is being killed: what cannot be thawed dies frozen
}

// Close gives back what is the runtime's; the rest goes with the last environment.
func (t *template) Close() error {
	t.closing.Do(func() {
		t.mu.Lock()
		t.closed = true
		if t.idle != nil {
			t.idle.Stop()
		}
		t.mu.Unlock()
		t.Kill()
		<-t.done
		t.process.mu.Lock()
		t.readPeak()
		t.readOOM()
		t.process.closed = true
		t.process.mu.Unlock()
		t.channel.Close()
		t.output.Close()
		t.files.close()
		t.closeErr = t.shim.group.remove()
		t.driver.delist(t)
		t.mu.Lock()
		last := t.children == 0
		t.mu.Unlock()
		if last {
			t.closeErr = errors.Join(t.closeErr, t.release())
		}
	})
	return t.closeErr
}

// leave is the end of one environment.
func (t *template) leave() error {
	t.mu.Lock()
	t.children--
	last := t.closed && t.children == 0
	t.mu.Unlock()
	if !last {
		return nil
	}
	t.closing.Do(func() {}) // Close may be half way
	return t.release()
}

// release ends pid 1 and gives back what is left.
func (t *template) release() error {
	t.releasing.Do(func() { t.released = errors.Join(t.undo(), t.forget()) })
	return t.released
}

// forget gives back what a template has beyond a sandbox.
func (t *template) forget() error {
	var errs []error
	if t.reaper != nil {
		errs = append(errs, t.reaper.remove())
	}
	for _, file := range t.account {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
