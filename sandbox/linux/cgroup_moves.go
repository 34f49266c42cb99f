package linux

import (
	"os"

	"golang.org/x/sys/unix"
)

// favorMoves has the kernel move processes between cgroups quickly, for as long as the file is open. Without it a move that
// does not closely follow another one waits for a grace period of RCU, 5 to 16 ms, and each start makes one.
//
// The kernel's option for it, favordynmods, belongs to a hierarchy and has effect for all (cgroups(7), since Linux 6.0). A
// hierarchy of our own without controllers, mounted nowhere, leaves the host's mounts as they are and goes with this
// process. From Linux 6.18 on the kernel keeps the quick way until it is booted again. Its price is a slightly slower fork
// and exit of every process.
func favorMoves(name string) (*os.File, error) {
	return detachedMount("cgroup", []string{"none", "favordynmods"}, map[string]string{"name": "moves-" + name},
		unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
}
