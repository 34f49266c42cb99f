package linux

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// sweep ends what is left in the groups of a dead instance and removes them. Every process of a sandbox is in its
// group from before the first user code ran, and has no way out of it.
func sweep(ctx context.Context, groups hierarchy) error {
	names, err := groups.names()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		g, err := groups.load(name)
		if err == nil {
			err = empty(ctx, g)
		}
		if err == nil {
			err = g.remove()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cgroup %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// empty kills the processes of a group until there are none.
func empty(ctx context.Context, g group) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		pids, err := g.pids()
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL)
		}
		// A frozen process takes no signal on cgroup v1. A group that was never finished may have no freezer.
		g.setFrozen(false) //nolint:errcheck // the next look at the pids says whether it mattered
		// Nor does one die while its group has used up its CPU share.
		g.limitCPU(-1) //nolint:errcheck // as above
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes %v do not end: %w", pids, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}
