package linux

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// anonymous are kernel objects that a copy would share with its template, by the names that /proc has for them.
var anonymous = map[string]string{
	"[eventpoll]": "an epoll instance (an event loop)", "[eventfd]": "an eventfd", "inotify": "an inotify instance (it watches files)",
	"[timerfd]": "a timerfd", "[signalfd]": "a signalfd", "[io_uring]": "an io_uring", "[fanotify]": "a fanotify group",
	"[pidfd]": "a pidfd", "[userfaultfd]": "a userfaultfd",
}

// Devices that have no state, and kinds of file systems whose files are the kernel's and not the same for every process.
var (
	stateless   = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
	kernelFiles = []int64{unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, mqueueMagic, unix.NSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC}
)

const mqueueMagic = 0x19800202 // MQUEUE_MAGIC of ipc/mqueue.c

// descriptors looks at what is open. What is not known to be safe is not.
func (e *examination) descriptors() error {
	entries, err := os.ReadDir(e.dir + "/fd")
	if err != nil {
		return err
	}
	sockets, err := e.sockets()
	if err != nil {
		return err
	}
	own := []string{fmt.Sprintf("pipe:[%d]", e.output)}
	if channel, err := os.Readlink(e.dir + "/fd/3"); err == nil {
		own = append(own, channel)
	}
	for _, entry := range entries {
		link, err := os.Readlink(e.dir + "/fd/" + entry.Name())
		switch {
		case errors.Is(err, fs.ErrNotExist) || slices.Contains(own, link) || e.makesAgain(link):
			continue
		case err != nil:
			return err
		case strings.HasPrefix(link, "/"):
			if err := e.file(entry.Name(), link); err != nil {
				return err
			}
		default:
			e.tell("%s", tellObject(link, sockets))
		}
	}
	return nil
}

// makesAgain says whether the runtime has such an object of its own, which it replaces in a copy.
func (e *examination) makesAgain(link string) bool {
	switch link {
	case "anon_inode:[eventpoll]", "anon_inode:[eventfd]":
		return e.node || e.ruby
	}
	return e.node && strings.HasPrefix(link, "pipe:")
}

// tellObject puts a descriptor that is no file into words, given those for the sockets by inode.
func tellObject(link string, sockets map[string]string) string {
	kind, rest, _ := strings.Cut(link, ":")
	switch kind {
	case "socket":
		if words, known := sockets[strings.Trim(rest, "[]")]; known {
			return words
		}
		return "init holds a socket"
	case "pipe":
		return "init holds a pipe"
	case "anon_inode":
		if words, known := anonymous[rest]; known {
			return "init holds " + words
		}
		return "init holds a kernel object (" + rest + ")"
	}
	return "init holds a kernel object (" + link + ")"
}

// file judges an open file by what it is, the way it is open, and the locks that are held through it.
func (e *examination) file(fd, path string) error {
	b, err := os.ReadFile(e.dir + "/fdinfo/" + fd)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	flags, locked := uint64(0), false
	for line := range strings.Lines(string(b)) {
		switch f := strings.Fields(line); {
		case len(f) == 2 && f[0] == "flags:":
			if flags, err = strconv.ParseUint(f[1], 8, 64); err != nil {
				return err
			}
		case len(f) > 0 && f[0] == "lock:":
			locked = true
		}
	}
	if flags&unix.O_PATH != 0 {
		return nil // names a file, no more
	}
	var st unix.Stat_t
	var system unix.Statfs_t
	if err := errors.Join(unix.Stat(e.dir+"/fd/"+fd, &st), unix.Statfs(e.dir+"/fd/"+fd, &system)); err != nil {
		return err
	}
	name, deleted := strings.CutSuffix(path, " (deleted)")
	if locked {
		e.tell("init holds a lock on %s", name)
	}
	writing := flags&unix.O_ACCMODE != unix.O_RDONLY
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFCHR && slices.Contains(stateless, name):
	case kind == unix.S_IFIFO:
		e.tell("init keeps the named pipe %s open", name)
	case kind != unix.S_IFREG && kind != unix.S_IFDIR:
		e.tell("init keeps the device %s open", name)
	case strings.HasPrefix(name, "/memfd:"):
		e.tell("init holds memory that all environments would share (%s)", name)
	case slices.Contains(kernelFiles, int64(system.Type)): //nolint:unconvert // not an int64 on every architecture
		e.tell("init keeps %s open, a file of the kernel's", name)
	case writing && deleted:
		e.tell("init keeps %s open for writing, which it has deleted", name)
	case writing:
		// In /tmp too: environments have copies of its files, and what is open is the template's.
		e.tell("init keeps %s open for writing", name)
	}
	return nil
}
