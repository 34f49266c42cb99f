package state

import (
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"

	"thaw/internal/disk"
)

// room hands out what is free on the data directory's file system, down to a reserve. JetStream stops a stream for good
// at the first write that the kernel refuses for want of space; asking first keeps it from getting there.
type room struct {
	path    string // empty: no bound, the data is elsewhere
	reserve int64
	taken   atomic.Int64
	broken  atomic.Pointer[string] // why the engine stopped writing, if it did
}

// recordOverhead is what a write costs on disk beyond its own bytes, generously.
const recordOverhead = 4096

// take claims room for a write of n bytes. The caller gives it back, with the same n, when the write is done.
func (r *room) take(n int) error { return r.takeUrgent(n, 1) }

// takeUrgent is take that leaves only the given fraction of the reserve: 2 is half of it.
func (r *room) takeUrgent(n int, fraction int64) error {
	if err := r.failure(); err != nil {
		return err
	}
	if r.path == "" {
		return nil
	}
	free, err := disk.Free(r.path)
	if err != nil {
		return err
	}
	if taken := r.taken.Add(int64(n) + recordOverhead); free-taken < r.reserve/fraction {
		r.give(n)
		return fmt.Errorf("%w: %d MiB are free on the file system of %s and thaw leaves %d MiB untouched; free some space and try again",
			ErrFull, free>>20, r.path, r.reserve>>20)
	}
	return nil
}

func (r *room) give(n int) {
	if r.path != "" {
		r.taken.Add(-int64(n) - recordOverhead)
	}
}

// enough reports whether the engine can be started. That takes little, and has to work below the reserve too: deleting
// functions makes room.
func (r *room) enough() error {
	free, err := disk.Free(r.path)
	if err != nil {
		return err
	}
	if free < r.reserve/8 {
		return fmt.Errorf("%w: %d KiB are free on the file system of %s and thaw needs %d KiB to start; free some space and try again",
			ErrFull, free>>10, r.path, r.reserve>>13)
	}
	return nil
}

// noteBroken keeps the first reason why the engine stopped writing. The engine tells nobody else: the writer's call just
// goes unanswered.
func (r *room) noteBroken(why string) { r.broken.CompareAndSwap(nil, &why) }

// failure is the error of every write after the engine stopped writing.
func (r *room) failure() error {
	why := r.broken.Load()
	if why == nil {
		return nil
	}
	if strings.Contains(*why, syscall.ENOSPC.Error()) {
		return fmt.Errorf("%w: free some space, then restart thaw: %s", ErrFull, *why)
	}
	return fmt.Errorf("state engine stopped writing; look at the disk, then restart thaw: %s", *why)
}
