package template

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"thaw"
	"thaw/sandbox"
)

// Bounds of class-data archives: of one, of all on this node, both in bytes, and of the time that making one takes.
const (
	maxArchive   = 256 << 20
	maxArchives  = 4 << 30
	archiveLimit = 2 * time.Minute
)

// WantsArchive reports whether Archive would run the function's init.
func WantsArchive(plan *sandbox.Plan, settings Settings) bool {
	if plan.Launch.ArchiveArgs == nil || settings.Off {
		return false
	}
	_, err := os.Stat(plan.Launch.Archive)
	return err != nil
}

// Archive makes the class-data archive of plan's version, for runtimes that have such, unless it is there: an environment
// of its own runs init, serves the event that settings ask for, if any, and leaves the archive of every class that was loaded.
// made says in words that there is one, why says why there is none; both are empty for other runtimes, and when settings turn
// it off. An error only when ctx has ended. A version starts without one as well, only slower.
func Archive(ctx context.Context, cfg *sandbox.Config, plan *sandbox.Plan, arn string, settings Settings) (made, why string, err error) {
	if !WantsArchive(plan, settings) {
		if info, err := os.Stat(plan.Launch.Archive); err == nil {
			return archived(info.Size()), "", nil
		}
		return "", "", nil
	}
	limited, cancel := context.WithTimeout(ctx, archiveLimit)
	defer cancel()
	size, err := makeArchive(limited, cfg, plan, arn, settings.event())
	failure, failed := errors.AsType[*thaw.FunctionError](err)
	switch {
	case err == nil:
		return archived(size), "", nil
	case ctx.Err() != nil:
		return "", "", ctx.Err()
	case limited.Err() != nil:
		why = fmt.Sprintf("it took longer than %v", archiveLimit)
	case failed:
		why = sentence(failure)
	default:
		why = err.Error()
	}
	return "", "there is no class-data archive: " + why, nil
}

func archived(size int64) string {
	return fmt.Sprintf("its classes come from an archive of %.1f MB, made at deployment", float64(size)/1e6)
}

// makeArchive brings the archive to its place and gives its size. The file has its name when it is whole.
func makeArchive(ctx context.Context, cfg *sandbox.Config, plan *sandbox.Plan, arn string, event []byte) (size int64, err error) {
	dir := filepath.Dir(plan.Launch.Archive)
	room, err := archiveRoom(dir)
	if err != nil {
		return 0, err
	}
	bounded := *plan
	bounded.InitLimit = initLimit(plan.Version)
	env, err := cfg.BootArchive(ctx, &bounded)
	if err != nil {
		return 0, err
	}
	defer env.Close() //nolint:errcheck // told by its driver
	if event != nil {
		if err := warmUp(ctx, env, arn, event); err != nil {
			return 0, fmt.Errorf("the warm-up invocation failed: %w", err)
		}
	}
	file, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(file.Name())
	err = env.Archive(ctx, file, min(maxArchive, room))
	info, statErr := file.Stat()
	// A JVM believes the lengths in an archive's head: one that a power cut has cut short would end it with SIGBUS.
	if err := errors.Join(err, statErr, file.Chmod(0o644), file.Sync(), file.Close()); err != nil {
		return 0, err
	}
	if info.Size() == 0 {
		return 0, errors.New("the JVM wrote none")
	}
	return info.Size(), os.Rename(file.Name(), plan.Launch.Archive)
}

// archiveRoom makes the folder of archives and says how many bytes may still go there.
func archiveRoom(dir string) (int64, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	room := int64(maxArchives)
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		room -= info.Size()
	}
	if room <= 0 {
		return 0, fmt.Errorf("those of this node have %d GiB already", maxArchives>>30)
	}
	return room, nil
}
