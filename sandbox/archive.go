package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// archiveMemory is what an environment that makes a class-data archive gets at least, MB: it needs several times the
// archive's size, and one core.
const archiveMemory = 1769

// ErrArchiveSize is what Archive fails with when the archive has more bytes than allowed.
var ErrArchiveSize = errors.New("sandbox: the class-data archive is too large")

// BootArchive boots an environment that makes its version's class-data archive (runtimes.Launch.ArchiveArgs). It serves
// events until Archive. Errors are as for Boot.
func (c *Config) BootArchive(ctx context.Context, plan *Plan) (*Environment, error) {
	spec := c.spec(plan)
	spec.Args = plan.Launch.ArchiveArgs
	spec.RuntimeAPI = false
	spec.MemoryMB = max(spec.MemoryMB, archiveMemory)
	return c.boot(ctx, plan, spec)
}

// Archive has an environment of BootArchive write its archive to to, at most limit bytes, and waits until the runtime has
// ended, which it does by itself. What comes is the function's word: code of the user has run in that environment. Errors:
// ErrArchiveSize, *thaw.FunctionError when the runtime ended without an archive, ctx's own, to's. After it only Close may
// follow.
func (e *Environment) Archive(ctx context.Context, to io.Writer, limit int64) error {
	e.dead.Store(true)
	channel := e.process.Channel()
	if channel == nil {
		return fmt.Errorf("sandbox: %s has no channel for an archive", e.ID)
	}
	stop := context.AfterFunc(ctx, func() { channel.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // a deadline in the past ends every call
	defer stop()
	err := channel.CloseWrite()
	if err == nil {
		var n int64
		n, err = io.Copy(to, io.LimitReader(channel, limit+1))
		if err == nil && n > limit {
			return ErrArchiveSize
		}
	}
	e.output.drain("")
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("sandbox: the archive of %s: %w", e.ID, err)
	}
	select {
	case <-e.process.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	if exit := e.process.Exit(); exit.Signal != "" || exit.Code != 0 {
		return e.awaitExit()
	}
	return nil
}
