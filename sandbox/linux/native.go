package linux

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The artefact embedded in initBinary is built from native/init.c by native/build.sh.

// openShim puts pid 1's program into a sealed memory file: nothing has to be executable on disk, and nobody, not even
// a sandbox that got hold of the file, can change it.
func openShim() (*os.File, error) {
	fd, err := unix.MemfdCreate("thaw-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|mfdExec)
	if err == unix.EINVAL { // before 6.3 there is no such flag, and every memory file is executable
		fd, err = unix.MemfdCreate("thaw-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create (vm.memfd_noexec forbids executable memory files when it is 2): %w", err)
	}
	// Whoever is started from it gets descriptors of its own up to lowestShim before the path of this one is looked up.
	low := fd
	fd, err = unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, lowestShim)
	unix.Close(low)
	if err != nil {
		return nil, fmt.Errorf("fcntl: %w", err)
	}
	f := os.NewFile(uintptr(fd), "thaw-init")
	if _, err := f.Write(initBinary); err != nil {
		f.Close()
		return nil, fmt.Errorf("write pid 1's program: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal pid 1's program: %w", err)
	}
	return f, nil
}

// lowestShim is above every descriptor that pid 1 or the helper starts with.
const lowestShim = 16

const mfdExec = 0x10 // MFD_EXEC of linux/memfd.h
