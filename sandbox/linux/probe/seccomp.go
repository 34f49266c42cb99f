package probe

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// actionAvailable asks the kernel whether filters can give this answer; golang.org/x/sys has no function for it.
func actionAvailable(action uint32) error {
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	if errno != 0 {
		return errno
	}
	return nil
}
