package linux

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// memoryGuard keeps a sandbox's memory at MemorySize although its cgroup is charged for /tmp as well, which does not
// count on AWS. The kernel's own bound is at MemorySize and a full /tmp together; the guard looks, as often as the
// sandbox could have used up what was left, at what is not in /tmp. Once that is too much it lowers the kernel's bound
// to what is in use, so that the next allocation finds the victim in the way it always does.
//
// Between two looks a sandbox can exceed MemorySize by what it can allocate in minLook, a few percent, and never by
// more than the size of /tmp. The guard is not safe for concurrent use: process.mu guards it.
type memoryGuard struct {
	group   group
	tmp     *os.File      // /tmp itself
	bound   int64         // MemorySize, bytes
	most    int64         // the kernel's bound, bytes
	cpu     float64       // cores that the sandbox may use; taken as one until LimitCPU
	lowered bool          // the kernel's bound is below most
	over    time.Time     // since when there is too much
	again   time.Duration // until the next look
	timer   *time.Timer
}

const (
	// growth is how many bytes of memory one core can take in a second, at most. 2 GB were measured with pages of 4 KB,
	// 7.5 GB with huge ones.
	growth = 8 << 30

	minLook = 10 * time.Millisecond
	maxLook = time.Second
	// overtime is how long a sandbox may stay above its bound without the kernel having freed anything. A process that
	// was killed needs its share of the CPU to go.
	overtime = 2 * time.Second

	// What a full /tmp takes beside its contents: the index of its pages, and the inode and the name of each file.
	tmpFilesPerMB = 256
	tmpFileBytes  = 1 << 10
	tmpIndexShare = 256
)

// tmpCharge is what contents and files of /tmp are charged, bytes.
func tmpCharge(contents, files int64) int64 {
	return contents + contents/tmpIndexShare + files*tmpFileBytes
}

// newMemoryGuard bounds the memory of a sandbox that has just been made. tmp nil: /tmp counts as memory, and there is
// no guard.
func newMemoryGuard(g group, tmp *os.File, memoryMB, tmpMB int) (*memoryGuard, error) {
	bound := int64(memoryMB) << 20
	if tmp == nil {
		return nil, g.limitMemory(bound)
	}
	most := bound + tmpCharge(int64(tmpMB)<<20, int64(tmpMB)*tmpFilesPerMB)
	return &memoryGuard{group: g, tmp: tmp, bound: bound, most: most, cpu: 1, again: minLook}, g.limitMemory(most)
}

// inTmp is what is in /tmp now: the contents of its files, bytes, and how many there are.
func (m *memoryGuard) inTmp() (contents, files int64) {
	var st unix.Statfs_t
	if unix.Fstatfs(int(m.tmp.Fd()), &st) != nil {
		return 0, 0
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize, int64(st.Files - st.Ffree)
}

// look checks the use of memory. It reports false when the sandbox has to be ended.
func (m *memoryGuard) look(now time.Time) bool {
	used := int64(m.group.usage())
	if used > m.bound {
		used = m.outsideTmp()
	}
	if used > m.bound {
		// There may be more that the kernel can take back, of its own structures.
		m.lowered = true
		m.group.reclaimTo(m.bound + tmpCharge(m.inTmp()))
		used = m.outsideTmp()
	}
	if used > m.bound {
		// It may have grown meanwhile, and the kernel refuses; the next look tries again.
		m.group.limitMemory(int64(m.group.usage())) //nolint:errcheck // see above
		if m.over.IsZero() {
			m.over = now
		}
		m.again = minLook
		return now.Sub(m.over) < overtime
	}
	m.over = time.Time{}
	if m.lowered {
		m.lowered = m.group.limitMemory(m.most) != nil
	}
	left := time.Duration(float64(m.bound-used) / growth / m.cpu * float64(time.Second))
	m.again = min(max(left, minLook), maxLook)
	return true
}

// outsideTmp is what is in use for anything but /tmp and copies of files on disk, bytes.
func (m *memoryGuard) outsideTmp() int64 {
	return int64(m.group.usage()) - int64(m.group.fileCache()) - tmpCharge(m.inTmp())
}

// peak is the highest use so far, without the contents of /tmp as they are now: what was there at the time is not known
// any more.
func (m *memoryGuard) peak() uint64 {
	contents, _ := m.inTmp()
	return uint64(min(max(int64(m.group.peak())-contents, 0), m.bound))
}

// openTmp opens the /tmp of a sandbox whose root has not been changed yet; nil where the host may not.
func openTmp(pid int, dir string) (*os.File, error) {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.EACCES || err == unix.EPERM {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("root of pid 1: %w", err)
	}
	defer unix.Close(root)
	tmp := filepath.Join(dir, "tmp")
	fd, err := unix.Openat2(root, tmp, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT, // a link in dir must not lead to the host's mounts
	})
	if err != nil {
		return nil, &os.PathError{Op: "openat2", Path: tmp, Err: err}
	}
	f := os.NewFile(uintptr(fd), tmp)
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		f.Close()
		return nil, fmt.Errorf("%s is not the sandbox's: type %#x, %w", tmp, st.Type, err)
	}
	return f, nil
}
