package code

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"thaw"
)

// LayersDigest names what layers make together, in the form of a package's digest: of one layer it is the layer's own. It is
// what Sweep asks for.
func LayersDigest(digests []string) string {
	if len(digests) == 1 {
		return digests[0]
	}
	hash := sha256.New()
	io.WriteString(hash, "layers")
	for _, digest := range digests {
		io.WriteString(hash, "\x00"+digest)
	}
	return base64.StdEncoding.EncodeToString(hash.Sum(nil))
}

// Layers gives one directory with the files of all these layers, of which there is at least one, as an environment has them at
// /opt: where two have something of the same name, the later one's is there, and directories are joined. The files are hard
// links to those of the layers' own trees, so that a merge costs names and no data. Everything else is as for Dir.
func (c *Cache) Layers(ctx context.Context, digests []string) (string, error) {
	if len(digests) == 1 {
		return c.Dir(ctx, digests[0])
	}
	merge := func(ctx context.Context, _, name string) (*unpacked, error) { return c.merge(ctx, name, digests) }
	return c.get(ctx, LayersDigest(digests), merge)
}

// RetainLayers is Retain for what Layers gives.
func (c *Cache) RetainLayers(digests []string) (release func()) {
	return c.Retain(LayersDigest(digests))
}

// merge joins the trees of layers into one.
func (c *Cache) merge(ctx context.Context, name string, digests []string) (_ *unpacked, err error) {
	dirs := make([]string, len(digests))
	for n, digest := range digests {
		// Not once the merge is done: its files stay with it.
		defer c.Retain(digest)()
		if dirs[n], err = c.Dir(ctx, digest); err != nil {
			return nil, err
		}
	}
	return c.inSlot(ctx, func() (*unpacked, error) {
		m, err := planMerge(ctx, dirs)
		if err != nil {
			return nil, together(err)
		}
		return c.build(ctx, name, m.diskSize(), func(whole string) error { return m.write(ctx, whole) })
	})
}

// merged is what several layers become.
type merged struct {
	tree  *tree
	from  map[string]string // of each file, the tree that it comes from
	bytes int64             // of the files, whole blocks
}

// planMerge looks at the trees from the last to the first, so that what is there already wins.
func planMerge(ctx context.Context, dirs []string) (*merged, error) {
	m := &merged{tree: newTree(len(dirs) * maxNodes), from: map[string]string{}}
	for _, dir := range slices.Backward(dirs) {
		err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil || name == "." {
				return err
			}
			return m.add(dir, name, entry)
		})
		if err != nil {
			return nil, fmt.Errorf("merge layers: %w", err)
		}
	}
	// Each layer's links stay inside by themselves. One layer's link may lead through another's.
	return m, m.tree.checkLinks()
}

// together words what is wrong with layers that are right one by one.
func together(err error) error {
	if known, ok := errors.AsType[*thaw.Error](err); ok {
		return thaw.Errorf(known.Code, "These layers cannot be used together: %s", strings.TrimPrefix(known.Message, unusable+" In this file, "))
	}
	return err
}

func (m *merged) add(dir, name string, entry fs.DirEntry) error {
	taken := m.tree.nodes[name]
	switch entry.Type() {
	case fs.ModeDir:
		if taken != 0 && taken != directory {
			return fs.SkipDir
		}
		return m.tree.add(name, directory)
	case fs.ModeSymlink:
		if taken != 0 {
			return nil
		}
		target, err := os.Readlink(filepath.Join(dir, name))
		if err == nil {
			err = errors.Join(m.tree.add(name, link), m.tree.addTarget(name, target))
		}
		return err
	case 0:
		if taken != 0 {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		m.from[name] = dir
		m.bytes += info.Size() / block * block
		return m.tree.add(name, file)
	default:
		return fmt.Errorf("%s is nothing that thaw put there", filepath.Join(dir, name))
	}
}

// diskSize counts the files in full, although they are shared: they stay when the layers' own trees have gone.
func (m *merged) diskSize() int64 { return int64(len(m.tree.nodes)+1)*block + m.bytes }

// write makes the tree in an empty directory. What it writes below are directories that it has made itself.
func (m *merged) write(ctx context.Context, whole string) error {
	for _, name := range slices.Sorted(maps.Keys(m.tree.nodes)) { // parents first
		if err := ctx.Err(); err != nil {
			return err
		}
		to := filepath.Join(whole, filepath.FromSlash(path.Clean(name)))
		var err error
		switch m.tree.nodes[name] {
		case directory:
			if err = os.Mkdir(to, directoryMode); err == nil {
				err = os.Chmod(to, directoryMode) // whatever the umask is
			}
		case link:
			err = os.Symlink(m.tree.links[name], to)
		default:
			err = linkFile(filepath.Join(m.from[name], name), to)
		}
		if err != nil {
			return fmt.Errorf("merge layers: %w", err)
		}
	}
	return nil
}

// linkFile gives a file a second name, or copies it where the file system has no more names for it.
func linkFile(from, to string) error {
	err := os.Link(from, to)
	if !errors.Is(err, unix.EMLINK) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return errors.Join(out.Chmod(info.Mode().Perm()), setModified(out, info.ModTime()), out.Close())
}
