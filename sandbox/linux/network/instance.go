package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Instances on a host know of one another by files in a shared directory, each locked (flock) for as long as its
// process lives and holding the prefix it uses. The kernel drops the lock with the process, however it ends.

// lockHost serializes Open and Close of all instances.
func lockHost(ctx context.Context, dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, permitted(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, permitted(err)
	}
	// Polled, because a blocked flock would not see the context end.
	for {
		ok, err := tryLock(f)
		if err != nil {
			f.Close()
			return nil, err
		}
		if ok {
			return func() { f.Close() }, nil
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for the lock of %s: %w", dir, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func tryLock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return true, nil
}

// claimInstance needs the host lock.
func claimInstance(dir, instance string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, instance+claimSuffix), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, permitted(err)
	}
	ok, err := tryLock(f)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %s", ErrInUse, instance)
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// livingInstances returns the instances whose process lives, with the prefix each uses, the caller's own included;
// the prefix is not valid while it has none. It needs the host lock.
func livingInstances(dir string) (map[string]netip.Prefix, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"+claimSuffix))
	if err != nil {
		return nil, err
	}
	alive := make(map[string]netip.Prefix)
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		free, err := tryLock(f)
		if err != nil {
			f.Close()
			return nil, err
		}
		if !free {
			b := make([]byte, 32)
			n, _ := f.ReadAt(b, 0)
			prefix, _ := netip.ParsePrefix(string(b[:n]))
			alive[strings.TrimSuffix(filepath.Base(file), claimSuffix)] = prefix
		}
		f.Close()
	}
	return alive, nil
}
