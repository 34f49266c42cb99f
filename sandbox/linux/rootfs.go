package linux

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"thaw/sandbox"
)

// The user that functions run as, as AWS names and numbers it.
const (
	functionUID = 993
	functionGID = 990
	hostName    = "sandbox"
)

// rootfs is the directory that every sandbox has as its root, mounted read-only: directories to mount on, a few files
// of our own, and copies of what libraries look for in /etc. It holds nothing secret and nothing of one sandbox. It is
// an ordinary directory, so that the host's mount table stays as it is and a sandbox needs no calls to fill its root.
type rootfs struct {
	dir     string
	hosts   string   // directory of the hosts files, one per address of the host
	devices bool     // the device nodes are in dir; otherwise the host's are bound
	system  []string // what of systemDirs is bound
	trees   []string // what of hostTrees is there

	mu      sync.Mutex
	targets map[string]bool // mount points made so far
}

// deviceNumbers are the devices of a sandbox: those that hold nothing.
var deviceNumbers = map[string]uint32{
	"null": uint32(unix.Mkdev(1, 3)), "zero": uint32(unix.Mkdev(1, 5)), "full": uint32(unix.Mkdev(1, 7)),
	"random": uint32(unix.Mkdev(1, 8)), "urandom": uint32(unix.Mkdev(1, 9)), "tty": uint32(unix.Mkdev(5, 0)),
}

var deviceNames = []string{"null", "zero", "full", "random", "urandom", "tty"}

// systemDirs are bound from the host when they are directories there, and copied when they are symbolic links into
// /usr, as on a host with merged /usr.
var systemDirs = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// hostFiles are copied from the host, and hostTrees bound: what the resolver, TLS, the dynamic linker, time zones and
// interpreters read. Only what everyone may read is copied; in a tree the function has the rights of any other user.
var (
	hostFiles = []string{
		"/etc/ld.so.cache", "/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/services", "/etc/protocols", "/etc/gai.conf",
		"/etc/host.conf", "/etc/resolv.conf", "/etc/os-release",
	}
	hostTrees = []string{
		"/etc/alternatives", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/crypto-policies", "/etc/fonts", "/etc/java*",
	}
)

// maskedProc are files of /proc that say something about the host, or act on it, beyond what a function needs.
var maskedProc = []string{"kcore", "keys", "key-users", "interrupts", "kallsyms", "kmsg", "latency_stats", "sched_debug",
	"sysrq-trigger", "timer_list"}

// mask is the empty file that stands in for them, read-only: /dev/null would take what is written to it. Forked
// environments find it in their root.
const mask = "etc/.masked"

// buildRootfs makes the directory anew.
func buildRootfs(dir string, root bool, resolver []byte) (_ *rootfs, err error) {
	r := &rootfs{dir: filepath.Join(dir, "root"), hosts: filepath.Join(dir, "hosts"), targets: map[string]bool{}}
	for _, d := range []string{r.dir, r.hosts} {
		if err := os.RemoveAll(d); err != nil {
			return nil, err
		}
		if err := mkdirAll(d); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.remove())
		}
	}()
	for _, d := range []string{"dev/shm", "etc", "home", "mnt", "opt", "proc", "root", "run", "tmp", "var/lang", "var/runtime",
		"var/task", "var/tmp"} {
		if err := mkdirAll(filepath.Join(r.dir, d)); err != nil {
			return nil, err
		}
	}
	for _, d := range systemDirs {
		st, err := os.Lstat(d)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return nil, err
		case st.Mode()&os.ModeSymlink != 0:
			if err := copyFile(d, r.dir+d); err != nil {
				return nil, err
			}
		default:
			if err := mkdirAll(r.dir + d); err != nil {
				return nil, err
			}
			r.system = append(r.system, d)
		}
	}
	for _, f := range hostFiles {
		if err := copyFile(f, r.dir+f); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	for _, pattern := range hostTrees {
		matches, _ := filepath.Glob(pattern)
		for _, m := range matches {
			if st, err := os.Lstat(m); err != nil || !st.IsDir() {
				continue
			}
			if err := mkdirAll(r.dir + m); err != nil {
				return nil, err
			}
			r.trees = append(r.trees, m)
		}
	}
	own := map[string]string{
		"passwd":        fmt.Sprintf("root:x:0:0:root:/root:/sbin/nologin\nsbx_user1051:x:%d:%d::/home/sbx_user1051:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n", functionUID, functionGID),
		"group":         fmt.Sprintf("root:x:0:\nsbx_user1051:x:%d:\nnogroup:x:65534:\n", functionGID),
		"hosts":         hostsFile(netip.Addr{}),
		"hostname":      hostName + "\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n",
	}
	if len(resolver) > 0 {
		own["resolv.conf"] = string(resolver)
	}
	for name, text := range own {
		if err := writeFile(filepath.Join(r.dir, "etc", name), []byte(text)); err != nil {
			return nil, err
		}
	}
	if err := writeFile(filepath.Join(r.dir, mask), nil); err != nil {
		return nil, err
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
		"stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, filepath.Join(r.dir, "dev", name)); err != nil {
			return nil, err
		}
	}
	return r, r.makeDevices(root)
}

// makeDevices makes the nodes in the directory when the host may, and when its file system lets them work.
func (r *rootfs) makeDevices(root bool) error {
	var st unix.Statfs_t
	if err := unix.Statfs(r.dir, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: r.dir, Err: err}
	}
	r.devices = root && st.Flags&unix.ST_NODEV == 0
	for _, name := range deviceNames {
		p := filepath.Join(r.dir, "dev", name)
		if r.devices {
			err := unix.Mknod(p, unix.S_IFCHR|0o666, int(deviceNumbers[name]))
			if err == nil {
				err = unix.Chmod(p, 0o666)
			}
			if err == nil {
				continue
			}
			if err != unix.EPERM {
				return &os.PathError{Op: "mknod", Path: p, Err: err}
			}
			r.devices = false
		}
		if err := writeFile(p, nil); err != nil {
			return err
		}
	}
	return nil
}

func (r *rootfs) remove() error {
	return errors.Join(os.RemoveAll(r.dir), os.RemoveAll(r.hosts))
}

const (
	readOnly = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID
	noDevice = readOnly | unix.MOUNT_ATTR_NODEV
	inert    = noDevice | unix.MOUNT_ATTR_NOEXEC
)

// assemble adds the operations that make the root file system, up to but not including the change of root. tmp are the
// options of /tmp.
func (r *rootfs) assemble(m *message, tmp string) {
	attr := uint64(noDevice)
	if r.devices {
		attr = readOnly
	}
	m.bind(StepRoot, r.dir, r.dir, attr)
	for _, d := range r.system {
		m.bind(StepRoot, d, r.dir+d, noDevice)
	}
	for _, d := range r.trees {
		m.bind(StepRoot, d, r.dir+d, inert)
	}
	if !r.devices {
		for _, name := range deviceNames {
			m.bind(StepRoot, "/dev/"+name, filepath.Join(r.dir, "dev", name), readOnly|unix.MOUNT_ATTR_NOEXEC)
		}
	}
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	m.mount(StepRoot, "proc", filepath.Join(r.dir, "proc"), "proc", quiet, "hidepid=2")
	for _, name := range maskedProc {
		if _, err := os.Lstat("/proc/" + name); err == nil {
			m.mount(StepRoot, filepath.Join(r.dir, mask), filepath.Join(r.dir, "proc", name), "", unix.MS_BIND, "")
		}
	}
	m.mount(StepRoot, "shm", filepath.Join(r.dir, "dev/shm"), "tmpfs", quiet, "mode=1777,size=64m,nr_inodes=4096")
	m.mount(StepRoot, "tmp", filepath.Join(r.dir, "tmp"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, tmp)
}

// mounts adds the operations for a Spec's mounts, and for the name of the host.
func (r *rootfs) mounts(m *message, mounts []sandbox.Mount, host netip.Addr) error {
	for _, mt := range mounts {
		target, err := r.target(mt)
		if err != nil {
			return err
		}
		if target != "" {
			m.bind(StepMounts, mt.Source, target, noDevice)
		}
	}
	if host.IsValid() {
		file, err := r.hostsFor(host)
		if err != nil {
			return err
		}
		m.bind(StepMounts, file, filepath.Join(r.dir, "etc/hosts"), inert)
	}
	return nil
}

// target makes sure that there is something to mount on, and gives its path on the host. It gives nothing for what
// every sandbox sees at that place anyway.
func (r *rootfs) target(mt sandbox.Mount) (string, error) {
	if !path.IsAbs(mt.Target) || path.Clean(mt.Target) != mt.Target || !filepath.IsAbs(mt.Source) {
		return "", fmt.Errorf("mount %s at %s: both have to be clean absolute paths", mt.Source, mt.Target)
	}
	for _, d := range append([]string{"/proc", "/dev", "/tmp"}, systemDirs...) {
		if mt.Target == d || strings.HasPrefix(mt.Target, d+"/") {
			if mt.Source == mt.Target && slices.Contains(r.system, d) {
				return "", nil
			}
			// What is mounted below a bound system directory needs a place that the host has; the others are ours.
			if !slices.Contains(r.system, d) {
				return "", fmt.Errorf("mount %s at %s: the sandbox has its own %s", mt.Source, mt.Target, d)
			}
			return r.dir + mt.Target, nil
		}
	}
	st, err := os.Stat(mt.Source)
	if err != nil {
		return "", err
	}
	at := r.dir + mt.Target
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.targets[mt.Target] {
		return at, nil
	}
	if st.IsDir() {
		err = mkdirAll(at)
	} else if err = mkdirAll(filepath.Dir(at)); err == nil {
		if _, err = os.Lstat(at); errors.Is(err, os.ErrNotExist) {
			err = writeFile(at, nil)
		}
	}
	if err != nil {
		return "", err
	}
	r.targets[mt.Target] = true
	return at, nil
}

// hostsFor gives the path of the hosts file that names the host by this address.
func (r *rootfs) hostsFor(host netip.Addr) (string, error) {
	file := filepath.Join(r.hosts, host.String())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.targets[file] {
		return file, nil
	}
	if err := writeFile(file, []byte(hostsFile(host))); err != nil {
		return "", err
	}
	r.targets[file] = true
	return file, nil
}

// hostsFile is /etc/hosts. sandbox.localdomain is where AWS's extensions listen for telemetry.
func hostsFile(host netip.Addr) string {
	s := "127.0.0.1 localhost sandbox.localdomain " + hostName + "\n::1 localhost\n"
	if host.IsValid() {
		s += host.String() + " host.thaw.internal\n"
	}
	return s
}

// mkdirAll makes directories that everyone may enter, whatever the umask.
func mkdirAll(dir string) error {
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := mkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.Chmod(dir, 0o755)
}

func writeFile(path string, data []byte) error {
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}

// copyFile copies a symbolic link, or a file that everyone may read; other files are left out. A link that leads to what
// a sandbox does not have, as /etc/resolv.conf does on many hosts, is followed.
func copyFile(from, to string) error {
	st, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if st.Mode()&os.ModeSymlink != 0 {
		link, err := os.Readlink(from)
		if err != nil {
			return err
		}
		if leadsInside(link, from) {
			return os.Symlink(link, to)
		}
	}
	data, err := readPublic(from)
	if errors.Is(err, errNotPublic) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return writeFile(to, data)
}

// leadsInside says whether a link found at from leads to what a sandbox has as well.
func leadsInside(link, from string) bool {
	if !filepath.IsAbs(link) {
		link = filepath.Join(filepath.Dir(from), link)
	}
	return slices.ContainsFunc(systemDirs, func(d string) bool { return link == d || strings.HasPrefix(link, d+"/") })
}

var errNotPublic = errors.New("not a file that everyone may read")

// readPublic reads a regular file of at most 4 MB that everyone may read.
func readPublic(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&fs.FileMode(0o004) == 0 || st.Size() > 4<<20 {
		return nil, errNotPublic
	}
	return io.ReadAll(f)
}
