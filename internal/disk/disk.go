// Package disk has one idea: how much a file system has room for, so that whoever must not meet a full one can ask before it writes.
package disk

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Free is how many bytes may still be written to the file system of a directory, without what is kept for root.
func Free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("look at free space: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
