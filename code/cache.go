package code

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"thaw"
)

// ErrCacheFull is what Dir fails with when the trees in use leave no room for another.
var ErrCacheFull = errors.New("code cache is full")

// ErrClosed is what Dir fails with after Close.
var ErrClosed = errors.New("code cache is closed")

// DefaultMaxBytes bounds a cache whose Config does not.
const DefaultMaxBytes = 16 << 30

// youth is for how long a tree that was handed out is spared by evictions, so that whoever got it can retain it.
const youth = time.Minute

// Source is where packages come from; state.Store is one.
type Source interface {
	// OpenCode reads a package by its digest in standard base64.
	OpenCode(ctx context.Context, sha256 string) (io.ReadCloser, error)
}

// Cache holds unpacked packages on this node's disk. All methods may be called from several goroutines. Digests are in
// thaw.Code's form, standard base64.
type Cache struct {
	dir  string
	src  Source
	max  int64
	slot chan struct{} // one per unpacking that may run

	trees sync.Map // digest -> *unpacked; what Dir looks at first

	mu      sync.Mutex
	used    int64 // bytes of trees and of flights
	flights map[string]*flight
	holds   map[string]int // Retain minus release
	closed  bool
	running sync.WaitGroup
}

// unpacked is a whole tree.
type unpacked struct {
	path string
	size int64
	last atomic.Int64 // when Dir last gave it, Unix ns, or evicted
}

// evicted is no time at which Dir gave a tree.
const evicted = -1

// touch notes that the tree is handed out now, unless it is on its way out.
func (t *unpacked) touch() bool {
	for {
		last := t.last.Load()
		if last == evicted {
			return false
		}
		if t.last.CompareAndSwap(last, time.Now().UnixNano()) {
			return true
		}
	}
}

// flight is an unpacking that runs, and those who wait for it.
type flight struct {
	digest string
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid after done

	waits     int  // guarded by Cache.mu
	abandoned bool // guarded by Cache.mu until done
}

// OpenCache opens the cache in dir, making it if need be. What a crash left half done is removed. maxBytes bounds the
// trees together; 0 means DefaultMaxBytes. One process at a time may have a directory open, which the caller sees to.
func OpenCache(dir string, src Source, maxBytes int64) (*Cache, error) {
	if maxBytes == 0 {
		maxBytes = DefaultMaxBytes
	}
	// An absolute path, since trees become sources of mounts.
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open code cache: %w", err)
	}
	c := &Cache{dir: dir, src: src, max: maxBytes, slot: make(chan struct{}, 2), flights: map[string]*flight{}, holds: map[string]int{}}
	found, err := recoverTrees(dir)
	if err != nil {
		return nil, fmt.Errorf("open code cache: %w", err)
	}
	for digest, t := range found {
		c.trees.Store(digest, t)
		c.used += t.size
	}
	return c, nil
}

// Dir gives the directory of an unpacked package, unpacking it first if need be. However many ask, a package is unpacked
// once; ctx ends the caller's wait, and the unpacking when nobody waits any more. A tree that was handed out stays for a
// minute at least, and for as long as it is retained. Dir makes no system call when the tree is there.
//
// It fails with the source's error, with a *thaw.Error when the package cannot be unpacked, with ErrCacheFull, or with
// the file system's error.
func (c *Cache) Dir(ctx context.Context, digest string) (string, error) {
	return c.get(ctx, digest, c.fetchInSlot)
}

// maker makes the tree of a digest, which name is in hex.
type maker func(ctx context.Context, digest, name string) (*unpacked, error)

func (c *Cache) get(ctx context.Context, digest string, unpack maker) (string, error) {
	for {
		if path, ok := c.lookup(digest); ok {
			return path, nil
		}
		f, err := c.join(ctx, digest, unpack)
		if err != nil {
			return "", err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
		}
		if c.leave(f) {
			return "", ctx.Err()
		}
		// A flight that was given up by everybody may still be there when the next one asks.
		if f.err != nil && !f.abandoned {
			return "", f.err
		}
	}
}

func (c *Cache) lookup(digest string) (string, bool) {
	v, ok := c.trees.Load(digest)
	if !ok || !v.(*unpacked).touch() {
		return "", false
	}
	return v.(*unpacked).path, true
}

// join gives the flight of a digest, starting it if there is none. The flight outlives ctx: it ends with its last waiter.
func (c *Cache) join(ctx context.Context, digest string, unpack maker) (*flight, error) {
	sum, err := base64.StdEncoding.Strict().DecodeString(digest)
	if err != nil || len(sum) != sha256.Size {
		return nil, fmt.Errorf("package %q: not a SHA-256 digest in base64", digest)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	f := c.flights[digest]
	if f == nil {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		f = &flight{digest: digest, done: make(chan struct{}), cancel: cancel}
		c.flights[digest] = f
		c.running.Go(func() { c.fly(ctx, f, hex.EncodeToString(sum), unpack) })
	}
	f.waits++
	return f, nil
}

// leave ends a caller's wait and reports whether the flight goes on without it.
func (c *Cache) leave(f *flight) (early bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.waits--
	if c.flights[f.digest] != f {
		return false
	}
	if f.waits == 0 {
		f.abandoned = true
		f.cancel()
	}
	return true
}

// fly runs one flight to its end, whatever that is.
func (c *Cache) fly(ctx context.Context, f *flight, name string, unpack maker) {
	defer f.cancel()
	var t *unpacked
	var err error
	if _, ok := c.trees.Load(f.digest); !ok {
		t, err = unpack(ctx, f.digest, name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.flights, f.digest)
	if err != nil && c.closed {
		err = ErrClosed
	}
	if err != nil {
		f.err = fmt.Errorf("unpack package %s: %w", f.digest, err)
	} else if t != nil {
		c.trees.Store(f.digest, t)
	}
	close(f.done)
}

// inSlot does work that keeps a disk and a processor busy, when one of the slots for such is free.
func (c *Cache) inSlot(ctx context.Context, work func() (*unpacked, error)) (*unpacked, error) {
	select {
	case c.slot <- struct{}{}:
		defer func() { <-c.slot }()
		return work()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *Cache) fetchInSlot(ctx context.Context, digest, name string) (*unpacked, error) {
	return c.inSlot(ctx, func() (*unpacked, error) { return c.fetch(ctx, digest, name) })
}

// fetch brings a package here, checks its digest and unpacks it into trees.
func (c *Cache) fetch(ctx context.Context, digest, name string) (_ *unpacked, err error) {
	work, err := os.MkdirTemp(filepath.Join(c.dir, partialDir), name[:8]+"-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	zip, size, err := c.spool(ctx, work, digest, name)
	if err != nil {
		return nil, err
	}
	defer zip.Close()
	a, err := openArchive(ctx, zip, size)
	if err != nil {
		return nil, err
	}
	return c.build(ctx, name, a.diskSize(), func(whole string) error {
		root, err := os.OpenRoot(whole)
		if err != nil {
			return err
		}
		defer root.Close()
		return a.unpack(ctx, root)
	})
}

// build makes room for a tree, has it written into an empty directory, and puts it among the trees.
func (c *Cache) build(ctx context.Context, name string, size int64, write func(whole string) error) (_ *unpacked, err error) {
	work, err := os.MkdirTemp(filepath.Join(c.dir, partialDir), name[:8]+"-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	t := &unpacked{size: size, path: treePath(c.dir, name, size)}
	t.last.Store(time.Now().UnixNano())
	if err := c.reserve(size); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.giveBack(size)
		}
	}()
	whole := filepath.Join(work, "tree")
	if err := os.Mkdir(whole, directoryMode); err != nil {
		return nil, err
	}
	if err := errors.Join(os.Chmod(whole, directoryMode), write(whole), ctx.Err()); err != nil { // whatever the umask is
		return nil, err
	}
	return t, os.Rename(whole, t.path)
}

// spool copies a package into a file, since an archive is read from its end, and checks the digest on the way. The file
// has no name any more when it returns.
func (c *Cache) spool(ctx context.Context, work, digest, name string) (_ *os.File, _ int64, err error) {
	in, err := c.src.OpenCode(ctx, digest)
	if err != nil {
		return nil, 0, err
	}
	defer in.Close()
	out, err := os.CreateTemp(work, "package-")
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			out.Close()
		}
	}()
	if err := os.Remove(out.Name()); err != nil {
		return nil, 0, err
	}
	hash := sha256.New()
	size, err := io.Copy(io.MultiWriter(out, hash), io.LimitReader(in, thaw.MaxUnzipped+1))
	if err != nil {
		return nil, 0, err
	}
	if size > thaw.MaxUnzipped {
		return nil, 0, fmt.Errorf("package has more than %d bytes", thaw.MaxUnzipped)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != name {
		return nil, 0, fmt.Errorf("the bytes that came have digest %s, not %s; deploy the function again", got, name)
	}
	return out, size, nil
}

// block is what a file system gives space in, bytes.
const block = 4096

// diskSize is about what the tree takes on disk: whole blocks.
func (a *archive) diskSize() int64 {
	size := int64(len(a.tree.nodes)+1) * block
	for _, i := range a.items {
		size += int64(i.zip.UncompressedSize64) / block * block
	}
	return size
}

// Retain keeps a tree, there already or not, until release is called, whatever Sweep and the bound say. Whoever runs code
// from a tree retains it. Calls of release after the first do nothing.
func (c *Cache) Retain(digest string) (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holds[digest]++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.holds[digest]--; c.holds[digest] == 0 {
			delete(c.holds, digest)
		}
	})
}

// Close ends all unpacking and waits for it. Trees stay, for the next OpenCache.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.closed = true
	for _, f := range c.flights {
		f.cancel()
	}
	c.mu.Unlock()
	c.running.Wait()
	return nil
}
