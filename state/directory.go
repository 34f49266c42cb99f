package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// formatVersion is the version of the layout named in the package comment. A thaw refuses data of a higher one.
const formatVersion = 1

// directory is a locked data directory of a version that this program understands.
type directory struct {
	path string
	lock *os.File
}

// openDirectory makes the directory if need be, takes its lock and checks its version.
func openDirectory(path string) (*directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: another thaw uses %s; stop it first, or choose another directory with --data", ErrLocked, path)
		}
		return nil, fmt.Errorf("lock data directory %s: %w", path, err)
	}
	d := &directory{path: path, lock: lock}
	if err := d.checkVersion(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// checkVersion refuses a newer layout and marks a new directory with this one.
func (d *directory) checkVersion() error {
	name := filepath.Join(d.path, "VERSION")
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return writeWhole(name, strconv.Itoa(formatVersion)+"\n")
	}
	if err != nil {
		return fmt.Errorf("read version of data directory: %w", err)
	}
	return checkFormat(strings.TrimSpace(string(text)), d.path)
}

// checkFormat compares the version found at a place with this program's own.
func checkFormat(text, place string) error {
	version, err := strconv.Atoi(text)
	if err != nil || version < 1 {
		return fmt.Errorf("%s does not look like thaw's data: its version is %q; choose another directory with --data", place, text)
	}
	if version > formatVersion {
		return fmt.Errorf("%w: %s has format %d and this thaw knows up to %d; install a newer thaw, or choose another directory with --data",
			ErrNewerVersion, place, version, formatVersion)
	}
	return nil
}

// writeWhole makes a file that is either absent or complete, also after a power cut.
func writeWhole(name, text string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return fullOr(fmt.Errorf("write %s: %w", name, err), filepath.Dir(name))
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
			err = fullOr(fmt.Errorf("write %s: %w", name, err), filepath.Dir(name))
		}
	}()
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// fullOr turns the kernel's "no space" into ErrFull.
func fullOr(err error, path string) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: free some space on the file system of %s: %w", ErrFull, path, err)
	}
	return err
}

func (d *directory) close() error { return d.lock.Close() }
