package linux

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxHazards bounds what Hazards tells; a process with more of one kind has them summed up.
const maxHazards = 20

// services are names for the ports that functions connect to, in the words of their users rather than of /etc/services.
var services = map[uint16]string{
	22: "ssh", 25: "smtp", 53: "dns", 80: "http", 389: "ldap", 443: "https", 465: "smtps", 587: "smtp", 1433: "sqlserver", 1521: "oracle",
	2181: "zookeeper", 3306: "mysql", 4222: "nats", 5432: "postgres", 5672: "amqp", 6379: "redis", 8125: "statsd", 8126: "datadog",
	9042: "cassandra", 9092: "kafka", 9200: "elasticsearch", 11211: "memcached", 27017: "mongodb", 50051: "grpc",
}

// anonymous are kernel objects that a copy would share with its template, by the names that /proc has for them.
var anonymous = map[string]string{
	"[eventpoll]": "an epoll instance (an event loop)", "[eventfd]": "an eventfd", "inotify": "an inotify instance (it watches files)",
	"[timerfd]": "a timerfd", "[signalfd]": "a signalfd", "[io_uring]": "an io_uring", "[fanotify]": "a fanotify group",
	"[pidfd]": "a pidfd", "[userfaultfd]": "a userfaultfd",
}

// Hazards looks at /proc; see sandbox.Template.
func (t *template) Hazards() ([]string, error) {
	t.mu.Lock()
	closed := t.closed
	t.mu.Unlock()
	if closed {
		return nil, ErrEnded
	}
	pids, err := t.shim.group.pids()
	if err != nil {
		return nil, err
	}
	e := &examination{dir: fmt.Sprintf("/proc/%d", t.runtime), pid: t.runtime}
	if e.program, err = os.Readlink(e.dir + "/exe"); err != nil {
		return nil, err
	}
	e.node = strings.HasPrefix(filepath.Base(e.program), "node")
	e.ruby = strings.HasPrefix(filepath.Base(e.program), "ruby")
	e.output = inodeOf(t.output)
	for _, look := range []func() error{e.threads, func() error { return e.processes(pids) }, e.descriptors, e.memory, e.locks} {
		if err := look(); err != nil {
			return nil, fmt.Errorf("sandbox: look at the template: %w", err)
		}
	}
	if n := len(e.found) - maxHazards; n > 0 {
		e.found = append(e.found[:maxHazards], fmt.Sprintf("init left %d more that cannot be forked", n))
	}
	return e.found, nil
}

func inodeOf(f *os.File) (inode uint64) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) {
		var st unix.Stat_t
		if unix.Fstat(int(fd), &st) == nil {
			inode = st.Ino
		}
	})
	return inode
}

// examination is one look at a process.
type examination struct {
	dir, program string
	pid          int
	node, ruby   bool
	output       uint64
	found        []string
}

func (e *examination) tell(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(e.found, s) {
		e.found = append(e.found, s)
	}
}

// nodeThreads are names of threads that Node.js has of its own: its main one's before libuv 1.50 named them.
var nodeThreads = []string{"node", "libuv-worker", "SignalInspector", "DelayedTaskSchedu", "DelayedTaskSche", "V8Worker"}

// threads looks for threads that a fork would not copy. Of Node.js's own, those that wait for work are made again by it, or,
// started with --single-threaded, not needed; the first of those that wait for events is its scheduler of delayed tasks.
func (e *examination) threads() error {
	tasks, err := os.ReadDir(e.dir + "/task")
	if err != nil {
		return err
	}
	var names []string
	count, schedulers := 0, 0
	for _, task := range tasks {
		dir := filepath.Join(e.dir, "task", task.Name())
		if task.Name() == strconv.Itoa(e.pid) {
			continue
		}
		comm, err := os.ReadFile(dir + "/comm")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		name := strings.TrimSpace(string(comm))
		if e.node && (slices.Contains(nodeThreads, name) || name == filepath.Base(e.program)) {
			work, events := waitsFor(dir)
			if events {
				schedulers++
			}
			if work || events && schedulers == 1 {
				continue
			}
		}
		count++
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	switch slices.Sort(names); {
	case count == 1:
		e.tell("1 thread is running after init (%s)", names[0])
	case count > 1:
		e.tell("%d threads are running after init (%s)", count, strings.Join(names, ", "))
	}
	return nil
}

// waitsFor says whether a thread sleeps in futex(2), as one does that waits on a condition or a semaphore, or without end in
// epoll_pwait(2).
func waitsFor(task string) (work, events bool) {
	b, err := os.ReadFile(task + "/syscall")
	f := strings.Fields(string(b))
	if err != nil || len(f) < 5 {
		return false, false
	}
	return f[0] == strconv.Itoa(unix.SYS_FUTEX), f[0] == strconv.Itoa(unix.SYS_EPOLL_PWAIT) && f[4] == "0xffffffff"
}

// processes looks for others than the runtime in the cgroup.
func (e *examination) processes(pids []int) error {
	for _, pid := range pids {
		if pid == e.pid {
			continue
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			continue // has ended
		}
		e.tell("init left the process %s running", strings.TrimSpace(string(comm)))
	}
	return nil
}

// descriptors looks at what is open.
func (e *examination) descriptors() error {
	entries, err := os.ReadDir(e.dir + "/fd")
	if err != nil {
		return err
	}
	sockets, err := e.sockets()
	if err != nil {
		return err
	}
	channel, _ := os.Readlink(e.dir + "/fd/3")
	for _, entry := range entries {
		link, err := os.Readlink(e.dir + "/fd/" + entry.Name())
		if err != nil {
			continue
		}
		kind, rest, _ := strings.Cut(link, ":")
		switch {
		case link == channel:
		case kind == "socket" && !strings.HasPrefix(link, "/"):
			words, known := sockets[strings.Trim(rest, "[]")]
			if !known {
				words = "init holds a socket"
			}
			e.tell("%s", words)
		case kind == "pipe" && !strings.HasPrefix(link, "/"):
			if strings.Trim(rest, "[]") != strconv.FormatUint(e.output, 10) && !e.node {
				e.tell("init holds a pipe")
			}
		case kind == "anon_inode":
			words, known := anonymous[rest]
			switch {
			case (e.node || e.ruby) && (rest == "[eventpoll]" || rest == "[eventfd]"): // its own, which it makes again
			case known:
				e.tell("init holds %s", words)
			default:
				e.tell("init holds a kernel object (%s)", rest)
			}
		case strings.HasPrefix(link, "/"):
			e.file(entry.Name(), link)
		}
	}
	return nil
}

// file judges an open file by its path and the way it is open.
func (e *examination) file(fd, path string) {
	b, err := os.ReadFile(e.dir + "/fdinfo/" + fd)
	if err != nil {
		return
	}
	flags := uint64(0)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "flags:" {
			flags, _ = strconv.ParseUint(f[1], 8, 64)
		}
	}
	info, err := os.Stat(e.dir + "/fd/" + fd)
	if flags&unix.O_ACCMODE == unix.O_RDONLY || err != nil || info.Mode()&fs.ModeDevice != 0 {
		return
	}
	name, deleted := strings.CutSuffix(path, " (deleted)")
	switch {
	case strings.HasPrefix(name, "/memfd:"):
		e.tell("init holds memory that all environments would share (%s)", name)
	case deleted:
		e.tell("init keeps %s open for writing, which it has deleted", name)
	case info.Mode()&fs.ModeNamedPipe != 0:
		e.tell("init keeps the named pipe %s open", name)
	default:
		// In /tmp too: environments have copies of its files, and what is open is the template's.
		e.tell("init keeps %s open for writing", name)
	}
}

// memory looks for mappings that a copy would write to together with its template.
func (e *examination) memory() error {
	b, err := os.ReadFile(e.dir + "/maps")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 5 || len(f[1]) != 4 || f[1][1] != 'w' || f[1][3] != 's' {
			continue
		}
		name := "anonymous"
		if len(f) > 5 && f[5] != "/dev/zero" {
			name = f[5]
		}
		if strings.HasPrefix(name, "anon_inode:") {
			continue // told with the descriptor
		}
		e.tell("init holds memory that all environments would share (%s)", name)
	}
	return nil
}

// locks looks for locks on files, which a copy either has not or has together with its template.
func (e *examination) locks() error {
	b, err := os.ReadFile("/proc/locks")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[4] != strconv.Itoa(e.pid) {
			continue
		}
		name := "a file"
		if i := strings.LastIndexByte(f[5], ':'); i >= 0 {
			name = e.nameOf(f[5][i+1:])
		}
		e.tell("init holds a lock on %s", name)
	}
	return nil
}

// nameOf finds an open file by its inode.
func (e *examination) nameOf(inode string) string {
	entries, _ := os.ReadDir(e.dir + "/fd")
	for _, entry := range entries {
		var st unix.Stat_t
		if err := unix.Stat(e.dir+"/fd/"+entry.Name(), &st); err == nil && strconv.FormatUint(st.Ino, 10) == inode {
			if link, err := os.Readlink(e.dir + "/fd/" + entry.Name()); err == nil {
				return link
			}
		}
	}
	return "a file"
}

// sockets tells every socket of the process's network namespace, by inode.
func (e *examination) sockets() (map[string]string, error) {
	all := map[string]string{}
	for _, protocol := range []string{"tcp", "tcp6", "udp", "udp6", "unix", "netlink"} {
		b, err := os.ReadFile(e.dir + "/net/" + protocol)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			if inode, words := tellSocket(protocol, strings.Fields(line)); inode != "" {
				all[inode] = words
			}
		}
	}
	return all, nil
}

// tellSocket puts one line of /proc/net into words; nothing for a heading.
func tellSocket(protocol string, f []string) (inode, words string) {
	switch {
	case protocol == "unix" && len(f) >= 7:
		if len(f) > 7 {
			return f[6], "init holds the Unix socket " + f[7]
		}
		return f[6], "init holds a Unix socket"
	case protocol == "netlink" && len(f) >= 10:
		return f[9], "init holds a netlink socket"
	case protocol == "unix" || protocol == "netlink" || len(f) < 10:
		return "", ""
	}
	local, lok := parseAddress(f[1])
	remote, rok := parseAddress(f[2])
	if !lok || !rok {
		return "", ""
	}
	name := strings.ToUpper(strings.TrimSuffix(protocol, "6"))
	const listening = "0A"
	switch {
	case name == "TCP" && f[3] == listening:
		return f[9], fmt.Sprintf("init listens on TCP port %d", local.Port())
	case remote.Port() == 0:
		return f[9], fmt.Sprintf("init opened %s port %d", name, local.Port())
	}
	words = fmt.Sprintf("init opened a %s connection to %s", name, remote)
	if service, known := services[remote.Port()]; known {
		words += " (" + service + ")"
	}
	return f[9], words
}

// parseAddress reads an address as /proc/net has it: words of 32 bits in the host's order, and a port in hexadecimal.
func parseAddress(s string) (netip.AddrPort, bool) {
	words, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(words)
	p, perr := strconv.ParseUint(port, 16, 16)
	if err != nil || perr != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4]) // both architectures are little-endian
	}
	addr, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(p)), ok
}
