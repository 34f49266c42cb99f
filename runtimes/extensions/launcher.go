package extensions

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"thaw/runtimes"
)

// LauncherPath is where an environment with external extensions has the program that starts them. Its arguments are the
// runtime's command; it finds the host by AWS_LAMBDA_RUNTIME_API.
const LauncherPath = "/run/thaw/launch"

// launcherRuntime is the runtime's number in the launcher's protocol, which launcher/launch.c describes.
const launcherRuntime = 255

// WriteLauncher puts the launcher into dir, if it is not there, and gives its path: what is to be bound at LauncherPath.
func WriteLauncher(dir string) (string, error) {
	sum := sha256.Sum256(launcher)
	file := filepath.Join(dir, "launch-"+hex.EncodeToString(sum[:6]))
	if info, err := os.Stat(file); err == nil && info.Size() == int64(len(launcher)) {
		return file, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	fresh, err := os.CreateTemp(dir, ".launch-")
	if err != nil {
		return "", err
	}
	defer os.Remove(fresh.Name())
	_, err = fresh.Write(launcher)
	if err == nil {
		err = fresh.Chmod(0o755)
	}
	if closed := fresh.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(fresh.Name(), file)
	}
	return file, err
}

// BindOpt gives a version's environments a directory of the host at /opt, and has the external extensions in it started. The
// launcher is kept in dir.
func BindOpt(l *runtimes.Launch, opt, dir string) (err error) {
	l.Binds = append(l.Binds[:len(l.Binds):len(l.Binds)], runtimes.Bind{Source: opt, Target: "/opt"})
	if l.Extensions, err = Find(opt); err != nil || len(l.Extensions) == 0 {
		return err
	}
	l.Launcher, err = WriteLauncher(dir)
	return err
}

// Find lists the external extensions of what an environment has at /opt: the names in opt/extensions of all that is no
// directory, sorted, and no more of them than show that there are too many. What cannot be executed is one that fails, and so
// is a link to nothing, as on AWS. Links are not followed: where they lead to is another thing inside.
func Find(opt string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(opt, "extensions"))
	if err != nil {
		if os.IsNotExist(err) || isNotDir(err) {
			return nil, nil
		}
		return nil, err
	}
	var names []string
	for _, entry := range entries { // os.ReadDir has sorted them
		if entry.IsDir() {
			continue
		}
		if names = append(names, entry.Name()); len(names) > MaxExtensions {
			break
		}
	}
	return names, nil
}

func isNotDir(err error) bool {
	pathError, ok := err.(*fs.PathError)          //nolint:errorlint // os gives it bare
	return ok && pathError.Err == syscall.ENOTDIR //nolint:errorlint // a bare errno
}

// Hazard says why environments with these external extensions are not forked.
func Hazard(names []string) string {
	return "the extension " + printable(strings.Join(names, ", ")) + " in /opt/extensions is a process of its own, which a fork would not have"
}

// launcherConn is the connection of an environment's launcher. The first that comes is it: nothing of the function's runs
// before it has connected.
type launcherConn struct {
	host          *Host
	arrived       chan struct{} // closed when it has connected
	lost          chan struct{} // closed when it is heard no more
	runtimeExited chan struct{}

	mu     sync.Mutex
	conn   net.Conn
	closed bool
	exits  map[int]syscall.WaitStatus
}

func (l *launcherConn) init(h *Host) {
	l.host = h
	l.arrived, l.lost, l.runtimeExited = make(chan struct{}), make(chan struct{}), make(chan struct{})
	l.exits = map[int]syscall.WaitStatus{}
}

// serve takes the connection over from the HTTP server.
func (l *launcherConn) serve(w http.ResponseWriter, _ *http.Request) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		refuse(w, http.StatusInternalServerError, "InternalServerError", "Internal Server Error")
		return
	}
	l.mu.Lock()
	if l.conn != nil || l.closed {
		l.mu.Unlock()
		refuse(w, http.StatusForbidden, "InvalidRequestFormat", "The launcher is connected already")
		return
	}
	conn, buffered, err := hijacker.Hijack()
	if err != nil {
		l.mu.Unlock()
		return
	}
	l.conn = conn
	l.mu.Unlock()
	close(l.arrived)
	l.follow(buffered.Reader)
}

// await blocks until the launcher has connected.
func (l *launcherConn) await(ctx context.Context) error {
	select {
	case <-l.arrived:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.host.gone:
		return io.EOF
	}
}

func (l *launcherConn) connected() bool {
	select {
	case <-l.arrived:
	default:
		return false
	}
	select {
	case <-l.lost:
		return false
	default:
		return true
	}
}

// follow reads what the launcher tells, until it is gone.
func (l *launcherConn) follow(r *bufio.Reader) {
	defer close(l.lost)
	outputs := map[int]*runtimes.Output{}
	defer func() {
		for _, out := range outputs {
			out.Flush()
		}
	}()
	var text [64 << 10]byte
	for {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		index := int(head[1])
		switch head[0] {
		case 'o':
			length := int(binary.BigEndian.Uint16(head[2:]))
			if _, err := io.ReadFull(r, text[:length]); err != nil || index >= MaxExtensions {
				return
			}
			out := outputs[index]
			if out == nil {
				out = runtimes.NewOutput(l.host.extensionLog)
				outputs[index] = out
			}
			out.Write(text[:length]) //nolint:errcheck // never fails
			if l.host.cfg.WaitRoom != nil {
				l.host.cfg.WaitRoom(l.host.ctx)
			}
		case 'e', 'f':
			var rest [2]byte
			if _, err := io.ReadFull(r, rest[:]); err != nil {
				return
			}
			value := binary.BigEndian.Uint32([]byte{head[2], head[3], rest[0], rest[1]})
			if out := outputs[index]; out != nil {
				out.Flush()
			}
			if head[0] == 'f' {
				l.host.notStarted(index, syscall.Errno(value))
				continue
			}
			l.exit(index, syscall.WaitStatus(value))
		default:
			return
		}
	}
}

func (l *launcherConn) exit(index int, status syscall.WaitStatus) {
	l.mu.Lock()
	_, known := l.exits[index]
	if !known && (index < MaxExtensions || index == launcherRuntime) {
		l.exits[index] = status
	}
	l.mu.Unlock()
	if known {
		return
	}
	if index == launcherRuntime {
		close(l.runtimeExited)
	}
	l.host.ended(index, status)
}

func (l *launcherConn) exited(index int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.exits[index]
	return ok
}

// RuntimeExited is closed when the launcher has told that the runtime process has ended; never where there is none.
func (h *Host) RuntimeExited() <-chan struct{} { return h.launcher.runtimeExited }

// RuntimeStatus is how the runtime process ended; valid after RuntimeExited.
func (h *Host) RuntimeStatus() syscall.WaitStatus {
	h.launcher.mu.Lock()
	defer h.launcher.mu.Unlock()
	return h.launcher.exits[launcherRuntime]
}

// commandWait bounds how long the launcher may leave a command unread.
const commandWait = time.Second

func (l *launcherConn) command(parts ...byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil || l.closed {
		return
	}
	l.conn.SetWriteDeadline(time.Now().Add(commandWait)) //nolint:errcheck // a launcher that has gone is seen by the reader
	l.conn.Write(parts)                                  //nolint:errcheck // as above
}

func (l *launcherConn) start(index int, name string) {
	if len(name) > maxName {
		return
	}
	l.command(append([]byte{'x', byte(index), byte(len(name))}, name...)...)
}

func (l *launcherConn) startRuntime()     { l.command('r', launcherRuntime) }
func (l *launcherConn) terminateRuntime() { l.command('t', launcherRuntime) }
func (l *launcherConn) kill(index int)    { l.command('k', byte(index)) }

func (l *launcherConn) close() {
	l.mu.Lock()
	conn := l.conn
	l.closed = true
	l.mu.Unlock()
	if conn != nil {
		conn.Close()
		<-l.lost
	}
}
