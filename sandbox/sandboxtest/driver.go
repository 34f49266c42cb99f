// Package sandboxtest is a sandbox.Driver whose processes are goroutines that speak the frame protocol, for tests of what
// lies above the sandbox. It isolates nothing.
package sandboxtest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"thaw/sandbox"
)

// Runtime is what a process does. Nil functions do the obvious: init at once, echo the event.
type Runtime struct {
	// Init runs before the process is ready. Its error ends the process with exit status 1.
	Init func(spec *sandbox.Spec, output io.Writer) error
	// Profile is what a process tells of its init, nil for nothing. Failure, if not empty, is the type of the error that it
	// then says it failed to initialise with.
	Profile func(spec *sandbox.Spec) []byte
	Failure string
	// Handle answers one event. Its error ends the process with exit status 1.
	Handle func(spec *sandbox.Spec, event []byte, output io.Writer) ([]byte, error)
	// Last runs when the host has shut its side of the channel for writing, and gives the exit status; nil is a process that
	// is killed by it.
	Last func(channel io.Writer) int
	// Fork runs before a fork of a template is ready. Its error fails the fork.
	Fork func() error
}

// Driver counts what it starts.
type Driver struct {
	Runtime Runtime
	// Listen gives processes that ask for it a listener on the loopback interface, with its address in their variables.
	Listen  bool
	Started atomic.Int64 // starts so far
	Open    atomic.Int64 // processes that have not been closed
	Frozen  atomic.Int64 // processes that are frozen now

	Templates atomic.Int64 // of the processes that have not been closed, those started as templates
}

// Start starts a goroutine.
func (d *Driver) Start(_ context.Context, spec *sandbox.Spec) (sandbox.Process, error) {
	p, err := d.start(d.Runtime, spec)
	if err != nil || !spec.Template {
		return p, err
	}
	d.Templates.Add(1)
	return &template{process: p}, nil
}

// template is a process that is not copied when it is forked: its forks begin anew, without init.
type template struct {
	*process
	once sync.Once
}

func (t *template) Hazards() ([]string, error) { return nil, nil }
func (t *template) Park() error                { return nil }

func (t *template) Fork(_ context.Context, spec *sandbox.ForkSpec) (sandbox.Process, error) {
	runtime := t.driver.Runtime
	runtime.Init, runtime.Profile, runtime.Failure = nil, nil, ""
	if runtime.Fork != nil {
		if err := runtime.Fork(); err != nil {
			return nil, err
		}
	}
	return t.driver.start(runtime, &sandbox.Spec{ID: spec.ID, Env: spec.Env, MemoryMB: spec.MemoryMB, TmpMB: spec.TmpMB})
}

func (t *template) Close() error {
	t.once.Do(func() { t.driver.Templates.Add(-1) })
	return t.process.Close()
}

func (d *Driver) start(runtime Runtime, spec *sandbox.Spec) (*process, error) {
	host, inside, err := socketpair()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, host.Close(), inside.Close())
	}
	p := &process{driver: d, host: host, inside: inside, output: r, writer: w, done: make(chan struct{})}
	if d.Listen && spec.RuntimeAPI {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
		if err != nil {
			return nil, errors.Join(err, host.Close(), inside.Close(), r.Close(), w.Close())
		}
		p.listener = l
		own := *spec
		own.Env = slices.Concat(spec.Env, []string{"AWS_LAMBDA_RUNTIME_API=" + l.Addr().String()})
		spec = &own
	}
	d.Started.Add(1)
	d.Open.Add(1)
	go p.run(runtime, spec)
	return p, nil
}

type process struct {
	driver *Driver
	host   *net.UnixConn
	inside *net.UnixConn
	output *os.File
	writer *os.File
	// listener may be nil
	listener net.Listener

	done   chan struct{}
	exit   sandbox.ExitStatus
	frozen atomic.Bool
	once   sync.Once
}

func (p *process) run(r Runtime, spec *sandbox.Spec) {
	defer close(p.done)
	defer p.inside.Close()
	defer p.writer.Close()
	if r.Init != nil {
		if err := r.Init(spec, p.writer); err != nil {
			p.exit.Code = 1
			return
		}
	}
	if r.Profile != nil {
		if told := r.Profile(spec); told != nil && p.send('T', told) != nil {
			return
		}
	}
	if r.Failure != "" {
		_ = p.sendMeta('X', r.Failure, []byte(`{"errorType":"`+r.Failure+`"}`)) // the host that does not hear it sees the end
		p.exit.Code = 1
		return
	}
	if p.send('R', nil) != nil {
		p.exit.Signal = syscall.SIGKILL.String()
		return
	}
	for {
		kind, event, err := p.receive()
		if err == nil && kind == framePark {
			err = p.send(framePark, nil)
			if err == nil {
				continue
			}
		}
		if errors.Is(err, io.EOF) && r.Last != nil {
			p.exit.Code = r.Last(p.inside)
			return
		}
		if err != nil {
			p.exit.Signal = syscall.SIGKILL.String()
			return
		}
		answer := event
		if r.Handle != nil {
			if answer, err = r.Handle(spec, event, p.writer); err != nil {
				p.exit.Code = 1
				return
			}
		}
		if p.send('S', answer) != nil {
			p.exit.Signal = syscall.SIGKILL.String()
			return
		}
	}
}

func (p *process) send(kind byte, body []byte) error { return p.sendMeta(kind, "", body) }

func (p *process) sendMeta(kind byte, meta string, body []byte) error {
	frame := make([]byte, 9, 9+len(meta)+len(body))
	frame[0] = kind
	binary.BigEndian.PutUint32(frame[1:], uint32(len(meta)))
	binary.BigEndian.PutUint32(frame[5:], uint32(len(body)))
	_, err := p.inside.Write(append(append(frame, meta...), body...))
	return err
}

// framePark is the kind of the frames that ask a process to be a template, and say that it is.
const framePark = 'P'

func (p *process) receive() (kind byte, body []byte, err error) {
	var head [9]byte
	if _, err := io.ReadFull(p.inside, head[:]); err != nil {
		return 0, nil, err
	}
	rest := make([]byte, binary.BigEndian.Uint32(head[1:])+binary.BigEndian.Uint32(head[5:]))
	_, err = io.ReadFull(p.inside, rest)
	return head[0], rest[binary.BigEndian.Uint32(head[1:]):], err
}

func (p *process) Channel() *net.UnixConn   { return p.host }
func (p *process) Listener() net.Listener   { return p.listener }
func (p *process) Output() *os.File         { return p.output }
func (p *process) LimitCPU() error          { return nil }
func (p *process) MemoryPeak() uint64       { return 10 << 20 }
func (p *process) OOMKilled() bool          { return false }
func (p *process) Done() <-chan struct{}    { return p.done }
func (p *process) Exit() sandbox.ExitStatus { return p.exit }

func (p *process) Freeze() error {
	if !p.frozen.Swap(true) {
		p.driver.Frozen.Add(1)
	}
	return nil
}

func (p *process) Thaw() error {
	if p.frozen.Swap(false) {
		p.driver.Frozen.Add(-1)
	}
	return nil
}

// Kill breaks the channel; a handler that blocks elsewhere must end by itself.
func (p *process) Kill() { p.inside.Close() } //nolint:errcheck // ends the goroutine's next read or write

func (p *process) Close() error {
	p.once.Do(func() {
		p.Kill()
		<-p.done
		p.Thaw()       //nolint:errcheck // cannot fail
		p.host.Close() //nolint:errcheck // the other end is gone
		if p.listener != nil {
			p.listener.Close()
		}
		p.driver.Open.Add(-1)
	})
	return nil
}

func socketpair() (host, inside *net.UnixConn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ends := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socketpair")
		c, err := net.FileConn(file)
		file.Close()
		if err != nil {
			return nil, nil, err
		}
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1], nil
}
