package linux

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"

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
func (o *originals) makePrivate(id uint32, tmpMB int) (mounts []*os.File, err error) {
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
		if err := copyTree(o[i], m, int(id)); err != nil {
			return mounts, fmt.Errorf("copy what init left in %s: %w", dir, err)
		}
	}
	return mounts, nil
}

func makeTmpfs(options map[string]string, attributes int) (*os.File, error) {
	fsfd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fsfd)
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
	return os.NewFile(uintptr(fd), "tmpfs"), nil
}

// copyTree copies files, folders and symbolic links with mode and times, for the owner id. Sockets, pipes and further names of
// a file are not copied as such: a socket belongs to a process, and each name gets a file of its own. The source stands
// still, and its names are not followed out of it.
func copyTree(from *os.Root, mount *os.File, id int) error {
	to, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", mount.Fd()))
	if err != nil {
		return err
	}
	defer to.Close()
	var folders []string // whose times change while they are filled
	err = fs.WalkDir(from.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := from.Lstat(name)
		if err != nil {
			return err
		}
		switch mode := info.Mode(); {
		case mode.IsDir():
			folders = append(folders, name)
			err = to.Mkdir(name, 0o700)
		case mode.IsRegular():
			err = copyContent(from, to, name)
		case mode&fs.ModeSymlink != 0:
			var link string
			if link, err = from.Readlink(name); err == nil {
				err = to.Symlink(link, name)
			}
			if err == nil {
				err = to.Lchown(name, id, id)
			}
			return err
		default:
			return nil
		}
		if err == nil {
			err = to.Lchown(name, id, id)
		}
		if err == nil {
			err = to.Chmod(name, info.Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky))
		}
		if err == nil && !info.IsDir() {
			err = to.Chtimes(name, info.ModTime(), info.ModTime())
		}
		return err
	})
	for _, name := range folders {
		if info, serr := from.Lstat(name); serr == nil {
			err = errors.Join(err, to.Chtimes(name, info.ModTime(), info.ModTime()))
		}
	}
	return err
}

func copyContent(from, to *os.Root, name string) error {
	source, err := from.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := to.OpenFile(path.Clean(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}
