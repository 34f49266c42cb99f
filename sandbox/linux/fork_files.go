package linux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// privateDirs are the folders that an environment has for itself. A forked one begins with copies of the template's files.
var privateDirs = []string{"/tmp", "/dev/shm"}

// originals are a parked template's private folders: nil for one that is empty.
type originals [2]*os.Root

// openOriginals looks into the template's folders through the runtime process.
func openOriginals(pid int) (o originals, err error) {
	for i, dir := range privateDirs {
		root, err := os.OpenRoot(fmt.Sprintf("/proc/%d/root%s", pid, dir))
		if err != nil {
			o.close()
			return originals{}, err
		}
		entries, err := fs.ReadDir(root.FS(), ".")
		if err != nil || len(entries) == 0 {
			root.Close()
		} else {
			o[i] = root
		}
		if err != nil {
			o.close()
			return originals{}, err
		}
	}
	return o, nil
}

func (o *originals) close() {
	for i, root := range o {
		if root != nil {
			root.Close()
			o[i] = nil
		}
	}
}

// makePrivate makes the folders of an environment, mounted nowhere yet, in privateDirs' order.
func (o *originals) makePrivate(ctx context.Context, id uint32, tmpMB int) (mounts []*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(mounts) //nolint:errcheck // nothing was mounted yet
			mounts = nil
		}
	}()
	owner := strconv.FormatUint(uint64(id), 10)
	options := [2]map[string]string{
		{"mode": "1777", "uid": owner, "gid": owner, "size": strconv.Itoa(tmpMB) + "m", "nr_inodes": strconv.Itoa(tmpMB * 256)},
		{"mode": "1777", "size": "64m", "nr_inodes": "4096"},
	}
	attributes := [2]int{unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	for i, dir := range privateDirs {
		m, err := makeTmpfs(options[i], attributes[i])
		if err != nil {
			return mounts, fmt.Errorf("%s: %w", dir, err)
		}
		mounts = append(mounts, m)
		if o[i] == nil {
			continue
		}
		if err := copyTree(ctx, o[i], m, int(id)); err != nil {
			return mounts, fmt.Errorf("copy what init left in %s: %w", dir, err)
		}
	}
	return mounts, nil
}

func makeTmpfs(options map[string]string, attributes int) (*os.File, error) {
	return detachedMount("tmpfs", nil, options, attributes)
}

// detachedMount mounts a file system nowhere: it goes with the file. Flags and options are the file system's, attributes are
// MOUNT_ATTR_*.
func detachedMount(kind string, flags []string, options map[string]string, attributes int) (*os.File, error) {
	fsfd, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fsfd)
	for _, flag := range flags {
		if err := unix.FsconfigSetFlag(fsfd, flag); err != nil {
			return nil, fmt.Errorf("fsconfig %s: %w", flag, err)
		}
	}
	for key, value := range options {
		if err := unix.FsconfigSetString(fsfd, key, value); err != nil {
			return nil, fmt.Errorf("fsconfig %s=%s: %w", key, value, err)
		}
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return nil, fmt.Errorf("fsconfig: %w", err)
	}
	fd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return nil, fmt.Errorf("fsmount: %w", err)
	}
	return os.NewFile(uintptr(fd), kind), nil
}

// maxDepth bounds how far folders may be nested in what is copied.
const maxDepth = 128

var errTooDeep = fmt.Errorf("folders are nested deeper than %d", maxDepth)

// copier copies what init left in one private folder, for the owner id: files with their holes, names and modes, folders and
// symbolic links. Sockets and pipes are left out, since they belong to processes. The template may be running user code in
// spite of its bootstrap, so the source can change at any time: nothing is looked up outside of it, nothing but regular files is
// read, and ctx ends the work.
type copier struct {
	id    int
	top   *os.Root          // of the copy
	first map[uint64]string // for files with several names, by inode: where the copy is
}

func copyTree(ctx context.Context, from *os.Root, mount *os.File, id int) error {
	to, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", mount.Fd()))
	if err != nil {
		return err
	}
	defer to.Close()
	c := &copier{id: id, top: to, first: map[uint64]string{}}
	return c.entries(ctx, from, to, "", 0)
}

// entries copies what is in a folder; at is its name below the top.
func (c *copier) entries(ctx context.Context, from, to *os.Root, at string, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	dir, err := from.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := c.entry(ctx, from, to, name, at, depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *copier) entry(ctx context.Context, from, to *os.Root, name, at string, depth int) error {
	info, err := from.Lstat(name)
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		err = c.folder(ctx, from, to, name, path.Join(at, name), depth)
	case mode.IsRegular():
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			if copied, ok := c.first[st.Ino]; ok {
				return c.top.Link(copied, path.Join(at, name))
			}
			c.first[st.Ino] = path.Join(at, name)
		}
		err = c.file(ctx, from, to, name)
	case mode&fs.ModeSymlink != 0:
		link, err := from.Readlink(name)
		if err == nil {
			err = to.Symlink(link, name)
		}
		if err == nil {
			err = to.Lchown(name, c.id, c.id)
		}
		return err
	default:
		return nil
	}
	if err == nil {
		err = to.Lchown(name, c.id, c.id)
	}
	if err == nil {
		err = to.Chmod(name, info.Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky))
	}
	if err == nil { // of a folder too, after it has been filled
		err = to.Chtimes(name, info.ModTime(), info.ModTime())
	}
	return err
}

func (c *copier) folder(ctx context.Context, from, to *os.Root, name, at string, depth int) error {
	if err := to.Mkdir(name, 0o700); err != nil {
		return err
	}
	source, err := from.OpenRoot(name)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := to.OpenRoot(name)
	if err != nil {
		return err
	}
	defer target.Close()
	return c.entries(ctx, source, target, at, depth+1)
}

func (c *copier) file(ctx context.Context, from, to *os.Root, name string) error {
	source, err := from.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%q is not what it was", name)
	}
	target, err := to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(copyContent(ctx, source, target, info.Size()), target.Close())
}

// copyStep is how many bytes are copied between two looks at the context.
const copyStep = 16 << 20

// copyContent leaves holes what they are: a sparse file may be larger than /tmp.
func copyContent(ctx context.Context, source, target *os.File, size int64) error {
	for at := int64(0); at < size; {
		data, err := source.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // a hole up to the end
			break
		}
		if err != nil {
			return err
		}
		end, err := source.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		for at = data; at < end; at += copyStep {
			if err := ctx.Err(); err != nil {
				return err
			}
			if _, err := source.Seek(at, io.SeekStart); err != nil {
				return err
			}
			if _, err := target.Seek(at, io.SeekStart); err != nil {
				return err
			}
			if _, err := io.CopyN(target, source, min(copyStep, end-at)); err != nil {
				return err
			}
		}
		at = end
	}
	return target.Truncate(size)
}
