package code

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"thaw"
)

// Permissions in a tree. Environments run under ids that own none of it, so all is readable to everyone, as AWS demands
// of packages; set-uid and the like are lost.
const (
	directoryMode  fs.FileMode = 0o755
	fileMode       fs.FileMode = 0o644
	executableMode fs.FileMode = 0o755
)

// unpack writes an archive into root, which must be empty. What is wrong with the archive is a *thaw.Error. After an
// error root holds a part of it.
func (a *archive) unpack(ctx context.Context, root *os.Root) error {
	if err := a.makeDirectories(root); err != nil {
		return err
	}
	// Files of one directory come together, so that each directory is looked up once.
	order := make([]*item, len(a.items))
	for n := range a.items {
		order[n] = &a.items[n]
	}
	slices.SortStableFunc(order, func(x, y *item) int { return cmp.Compare(path.Dir(x.name), path.Dir(y.name)) })
	inflate := a.inflater()
	at, here := ".", root
	defer func() {
		if here != root {
			here.Close()
		}
	}()
	for _, i := range order {
		if dir := path.Dir(i.name); dir != at {
			next, err := root.OpenRoot(dir)
			if err != nil {
				return fmt.Errorf("unpack %s: %w", dir, err)
			}
			if here != root {
				here.Close()
			}
			at, here = dir, next
		}
		if err := a.write(ctx, here, inflate, i); err != nil {
			if _, ours := errors.AsType[*thaw.Error](err); ours || ctx.Err() != nil {
				return err
			}
			return fmt.Errorf("unpack %s: %w", i.name, err)
		}
	}
	return nil
}

func (a *archive) makeDirectories(root *os.Root) error {
	var dirs []string
	for name, k := range a.tree.nodes {
		if k == directory {
			dirs = append(dirs, name)
		}
	}
	slices.Sort(dirs) // parents first
	for _, name := range append([]string{"."}, dirs...) {
		if name != "." {
			if err := root.Mkdir(name, directoryMode); err != nil {
				return fmt.Errorf("unpack %s: %w", name, err)
			}
		}
		if err := root.Chmod(name, directoryMode); err != nil { // whatever the umask is
			return fmt.Errorf("unpack %s: %w", name, err)
		}
	}
	return nil
}

// write makes one file or link in its directory. It never opens what is there already.
func (a *archive) write(ctx context.Context, dir *os.Root, inflate *inflater, i *item) error {
	name := path.Base(i.name)
	if i.kind == link {
		return dir.Symlink(i.target, name)
	}
	f, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := inflate.copy(ctx, f, i); err != nil {
		return err
	}
	mode := fileMode
	if i.executable() {
		mode = executableMode
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := setModified(f, i.zip.Modified); err != nil {
		return err
	}
	return f.Close()
}

// setModified keeps the archive's time: Python uses a packaged .pyc only if the source's time is the one it was made of.
func setModified(f *os.File, at time.Time) error {
	if at.Unix() <= 0 {
		return nil
	}
	tv := []unix.Timeval{unix.NsecToTimeval(at.UnixNano()), unix.NsecToTimeval(at.UnixNano())}
	return unix.Futimes(int(f.Fd()), tv)
}
