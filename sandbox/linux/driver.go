package linux

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"thaw/sandbox"
	"thaw/sandbox/linux/seccomp"
)

// Config is what a Driver needs. The zero value of an optional field means its default.
type Config struct {
	// Instance names the data directory on this machine: a short word of letters and digits, part of cgroup names.
	Instance string
	// Dir is a directory of the driver's own; what is in it is replaced.
	Dir string
	// Network is the platform's network setting; the default is sandbox.NetworkNAT for root, else sandbox.NetworkNone.
	Network sandbox.Network
	// Networks gives the namespaces; only sandbox.NetworkNAT needs it.
	Networks Networks
	// Resolver is the text of /etc/resolv.conf in sandboxes; empty: a copy of the host's.
	Resolver []byte
	// IDBase is the first of 65,536 host ids for the users of sandboxes; the default is a block from 0x70000000 on,
	// chosen by Instance. It means nothing to a host that is not root.
	IDBase uint32
	// Spares is how many sandboxes Run keeps ready, at most 1,024.
	Spares int
	// FavorMoves asks the kernel for quick moves between cgroups, for the whole machine; only root can have them.
	FavorMoves bool
	// Logf hears what goes wrong where no caller waits; the default is silence.
	Logf func(format string, args ...any)
}

// Driver makes sandboxes out of namespaces, cgroups and a system call filter.
type Driver struct {
	root     bool
	network  sandbox.Network
	networks Networks
	groups   hierarchy
	rootfs   *rootfs
	ids      *ids
	filter   []byte
	forking  forking
	limits   []rlimit
	shim     *os.File
	null     *os.File
	moves    *os.File // what favorMoves gave; may be nil
	logf     func(string, ...any)

	ready  int // how many spares there shall be
	spares chan *shim
	wanted chan struct{} // a token whenever a spare was taken

	forkLimit time.Duration // how long a fork may take

	// fail and observe are the tests' hooks: an error from fail makes that step fail; observe hears how long one took.
	fail    func(Step) error
	observe func(Step, time.Duration)

	mu      sync.Mutex
	closed  bool
	count   uint64
	live    map[sandbox.Process]struct{}
	pending sync.WaitGroup // starts and preparations under way
}

var _ sandbox.Driver = (*Driver)(nil)

var instanceName = regexp.MustCompile(`^[a-z0-9]{1,16}$`)

// New makes a driver and removes what an earlier driver of the same instance left behind: processes, cgroups, files.
// The caller sees to it that no other driver of the instance is running. Nothing is left when it fails.
func New(ctx context.Context, cfg Config) (_ *Driver, err error) {
	if !instanceName.MatchString(cfg.Instance) {
		return nil, fmt.Errorf("sandbox: instance %q: must be 1 to 16 lower-case letters and digits", cfg.Instance)
	}
	if cfg.Spares < 0 || cfg.Spares > 1024 {
		return nil, fmt.Errorf("sandbox: %d spares: must be 0 to 1024", cfg.Spares)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	d := &Driver{
		root:    os.Geteuid() == 0,
		network: cfg.Network, networks: cfg.Networks,
		logf:   cfg.Logf,
		ready:  cfg.Spares,
		spares: make(chan *shim, cfg.Spares),
		wanted: make(chan struct{}, 1),
		live:   map[sandbox.Process]struct{}{},

		forkLimit: sandbox.RestoreTimeout,
	}
	if d.logf == nil {
		d.logf = func(string, ...any) {}
	}
	if err := d.checkNetwork(); err != nil {
		return nil, err
	}
	base := cfg.IDBase
	if base == 0 {
		base = defaultIDBase(cfg.Instance)
	}
	d.ids = newIDs(base)

	if d.groups, err = findHierarchy(cfg.Instance, d.root); err != nil {
		if d.root {
			return nil, fmt.Errorf("sandbox: %w", err)
		}
		d.groups = noCgroups{}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.release())
		}
	}()
	if err = sweep(ctx, d.groups); err != nil {
		return nil, fmt.Errorf("sandbox: remove what the last instance left: %w", err)
	}
	if d.rootfs, err = buildRootfs(dir, d.root, cfg.Resolver); err != nil {
		return nil, fmt.Errorf("sandbox: root directory: %w", err)
	}
	if d.filter, err = filterBytes(seccomp.Program); err != nil {
		return nil, err
	}
	if d.limits, err = resourceLimits(); err != nil {
		return nil, err
	}
	if d.null, err = os.OpenFile("/dev/null", os.O_RDWR, 0); err != nil {
		return nil, err
	}
	if d.shim, err = openShim(); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if cfg.FavorMoves && d.root {
		var refused error
		if d.moves, refused = favorMoves(cfg.Instance); refused != nil {
			d.logf("sandbox: starts may wait for the kernel to move processes between cgroups: %v", refused)
		}
	}
	return d, nil
}

func (d *Driver) checkNetwork() error {
	switch d.network {
	case "":
		d.network = sandbox.NetworkNAT
		if !d.root {
			d.network = sandbox.NetworkNone
		}
	case sandbox.NetworkNAT, sandbox.NetworkNone, sandbox.NetworkHost:
	default:
		return fmt.Errorf("sandbox: network %q: must be nat, none or host", d.network)
	}
	if d.network == sandbox.NetworkNAT {
		if !d.root {
			return errors.New("sandbox: network nat needs root; use none or host")
		}
		if d.networks == nil {
			return errors.New("sandbox: network nat needs a pool of namespaces")
		}
	}
	return nil
}

func filterBytes(program func(goarch string) ([]bpf.RawInstruction, error)) ([]byte, error) {
	prog, err := program(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	if len(prog) > maxFilter {
		return nil, fmt.Errorf("sandbox: the system call filter has %d instructions, more than %d", len(prog), maxFilter)
	}
	var b []byte
	for _, insn := range prog {
		f := unix.SockFilter{Code: insn.Op, Jt: insn.Jt, Jf: insn.Jf, K: insn.K}
		b = append(b, (*[unsafe.Sizeof(f)]byte)(unsafe.Pointer(&f))[:]...)
	}
	return b, nil
}

type rlimit struct {
	resource   int
	soft, hard uint64
}

// resourceLimits are AWS's 1,024 open files, no core dumps, and no more locked memory or queued kernel objects than
// distributions give by default. None is above the host's own, which would take a privilege.
func resourceLimits() ([]rlimit, error) {
	want := []rlimit{
		{unix.RLIMIT_NOFILE, 1024, 1024},
		{unix.RLIMIT_CORE, 1, 1}, // 0 would still start the host's handler of core dumps, see core(5)
		{unix.RLIMIT_STACK, 8 << 20, 64 << 20},
		{unix.RLIMIT_MEMLOCK, 8 << 20, 8 << 20},
		{unix.RLIMIT_MSGQUEUE, 819200, 819200},
		{unix.RLIMIT_SIGPENDING, 4096, 4096},
		{unix.RLIMIT_NICE, 0, 0},
		{unix.RLIMIT_RTPRIO, 0, 0},
	}
	for i := range want {
		var have unix.Rlimit
		if err := unix.Getrlimit(want[i].resource, &have); err != nil {
			return nil, fmt.Errorf("getrlimit: %w", err)
		}
		want[i].hard = min(want[i].hard, have.Max)
		want[i].soft = min(want[i].soft, want[i].hard)
	}
	return want, nil
}

// Limits says, for people, what bounds a sandbox here.
func (d *Driver) Limits() string { return d.groups.describe() }

// Bounded reports whether sandboxes cannot use more memory than their own.
func (d *Driver) Bounded() bool { return d.groups.boundsMemory() }

// Run keeps spares ready until ctx ends. Start works without it, only slower.
func (d *Driver) Run(ctx context.Context) error {
	for pause := time.Duration(0); ; {
		for len(d.spares) < d.ready && ctx.Err() == nil {
			if !d.begin() {
				return nil
			}
			s, err := d.prepare(ctx, d.name())
			if err == nil {
				d.spares <- s // Run is the only sender, and there is room
				pause = 0
			}
			d.pending.Done()
			if err != nil && ctx.Err() == nil {
				d.logf("sandbox: make a spare: %v", err)
				pause = min(max(2*pause, 100*time.Millisecond), 10*time.Second)
				break
			}
		}
		var retry <-chan time.Time
		if pause > 0 {
			retry = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.wanted:
		case <-retry:
		}
	}
}

// begin counts a start or preparation under way, so that Close can wait for it.
func (d *Driver) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.pending.Add(1)
	return true
}

func (d *Driver) name() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count++
	return strconv.FormatUint(d.count, 10)
}

// step runs one step on the host's side.
func (d *Driver) step(step Step, fn func() error) error {
	if d.fail != nil {
		if err := d.fail(step); err != nil {
			return &StepError{Step: step, Err: err}
		}
	}
	if d.observe != nil {
		defer func(t time.Time) { d.observe(step, time.Since(t)) }(time.Now())
	}
	err := fn()
	if _, named := errors.AsType[*StepError](err); err != nil && !named {
		return &StepError{Step: step, Err: err}
	}
	return err
}

// take gives a spare, or makes one.
func (d *Driver) take(ctx context.Context) (*shim, error) {
	for {
		select {
		case s := <-d.spares:
			select {
			case d.wanted <- struct{}{}:
			default:
			}
			select {
			case <-s.ended: // killed from outside while it waited
				if err := s.discard(d); err != nil {
					d.logf("sandbox: remove a spare that was killed: %v", err)
				}
				continue
			default:
				return s, nil
			}
		default:
			return d.prepare(ctx, d.name())
		}
	}
}

// Start makes a sandbox and runs the command in it; see sandbox.Driver. Errors are *StepError; errors.Is tells
// sandbox.ErrEntrypoint and ErrClosed apart.
func (d *Driver) Start(ctx context.Context, spec *sandbox.Spec) (sandbox.Process, error) {
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	if !d.begin() {
		return nil, ErrClosed
	}
	defer d.pending.Done()
	if spec.Template {
		return d.startTemplate(ctx, spec)
	}
	s, err := d.take(ctx)
	if err != nil {
		return nil, err
	}
	p := &process{driver: d, shim: s, quota: cpuQuota(spec.MemoryMB), done: make(chan struct{})}
	if err := p.start(ctx, spec); err != nil {
		return nil, errors.Join(err, p.undo())
	}
	d.enlist(p)
	go p.watch()
	p.watchMemory()
	return p, nil
}

func (d *Driver) enlist(p sandbox.Process) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live[p] = struct{}{}
}

func (d *Driver) delist(p sandbox.Process) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.live, p)
}

// alive lists what was started and not closed.
func (d *Driver) alive() []sandbox.Process {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.live))
}

func checkSpec(spec *sandbox.Spec) error {
	switch {
	case len(spec.Args) == 0 || !filepath.IsAbs(spec.Args[0]):
		return errors.New("sandbox: the command has to be an absolute path")
	case spec.MemoryMB < 1:
		return fmt.Errorf("sandbox: %d MB of memory", spec.MemoryMB)
	case spec.TmpMB < 1:
		return fmt.Errorf("sandbox: %d MB of /tmp", spec.TmpMB)
	case spec.Dir != "" && !filepath.IsAbs(spec.Dir):
		return fmt.Errorf("sandbox: working directory %q is not absolute", spec.Dir)
	}
	return nil
}

// acquire finds the network of a sandbox; nil for one that brought its own.
func (d *Driver) acquire(ctx context.Context, key string) (Namespace, error) {
	switch d.network {
	case sandbox.NetworkNAT:
		ns, err := d.networks.Acquire(ctx, key)
		if err != nil {
			return nil, err // whatever ns is, a nil pointer of a concrete type included
		}
		return ns, nil
	case sandbox.NetworkHost:
		return hostNetwork{}, nil
	}
	return nil, nil
}

func hostAddr(ns Namespace) netip.Addr {
	if ns == nil {
		return netip.Addr{}
	}
	return ns.HostAddr()
}

// Close ends every sandbox and gives everything back. Starts under way fail or are ended; later ones give ErrClosed.
// Run has to have returned or to be about to.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	d.pending.Wait()
	close(d.spares)

	live := d.alive()
	var errs []error
	for _, p := range live {
		p.Kill()
	}
	for _, p := range live {
		errs = append(errs, p.Close())
	}
	var spares []*shim
	for s := range d.spares {
		s.kill()
		spares = append(spares, s)
	}
	for _, s := range spares {
		errs = append(errs, s.discard(d))
	}
	d.forking.stop()
	return errors.Join(append(errs, d.release())...)
}

// release gives back what New made.
func (d *Driver) release() error {
	var errs []error
	if d.groups != nil {
		errs = append(errs, d.groups.close())
	}
	if d.rootfs != nil {
		errs = append(errs, d.rootfs.remove())
	}
	for _, f := range []*os.File{d.shim, d.null, d.moves} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
