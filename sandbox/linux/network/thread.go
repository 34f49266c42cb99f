package network

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// errExited stands for the result of a function that ended its goroutine instead of returning.
var errExited = errors.New("the function ended its goroutine inside the network namespace")

// onThread runs enter and then fn on one OS thread, and takes the thread back to the namespace at home. A goroutine
// of its own carries it: if the way back fails the goroutine ends with its thread still locked, and the runtime ends
// the thread rather than let other code run in the wrong namespace. New threads are never cloned from a locked one,
// so none starts inside.
func onThread(home int, enter, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errExited
		defer func() { done <- err }()
		runtime.LockOSThread()
		if e := enter(); e != nil {
			err = e
			runtime.UnlockOSThread()
			return
		}
		defer func() {
			if e := unix.Setns(home, unix.CLONE_NEWNET); e != nil {
				err = errors.Join(err, fmt.Errorf("return to the host's network namespace: %w", e))
				return
			}
			runtime.UnlockOSThread()
		}()
		err = fn()
	}()
	return <-done
}

func openCurrentNamespace() (int, error) {
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the thread's network namespace: %w", err)
	}
	return fd, nil
}
