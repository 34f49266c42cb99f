package metrics

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// diskReserve is what metrics leave free on their disk. The store ends the process at a write that the kernel refuses for want of
// space, so that nothing is written without asking first; and what the platform itself has to store comes before metrics, which is
// why this is twice what package state leaves free.
const diskReserve = 64 << 20

// joinShare is the part of what is stored that must be free besides: blocks are joined to at most largestInRange parts of it, and
// those that are joined go afterwards.
const joinShare = 8

var errNoRoom = errors.New("the disk is full")

// room reports whether something may be written to a disk with so many bytes in the store; the error says how much is free.
func (m *Metrics) room(stored int64) error {
	free, err := m.free()
	if err != nil {
		return err
	}
	if untouched := diskReserve + stored/joinShare; free < untouched {
		return fmt.Errorf("%w: %d MiB are free in %s and metrics leave %d MiB untouched; free some space", errNoRoom, free>>20, m.cfg.Dir, untouched>>20)
	}
	return nil
}

// isOfMachine reports whether an error is the machine's and not one of what is stored: it may be over later, and what is stored is
// as good as it was.
func isOfMachine(err error) bool {
	if errors.Is(err, errNoRoom) {
		return true
	}
	errno, _ := errors.AsType[syscall.Errno](err)
	switch errno {
	case unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EROFS, unix.EACCES, unix.EPERM:
		return true
	}
	return false
}
