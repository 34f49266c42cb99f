package code

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// reserve claims room for a tree, evicting what was not used for the longest time if need be.
func (c *Cache) reserve(size int64) error {
	c.mu.Lock()
	victims, enough := c.choose(c.used+size-c.max, func(string) bool { return true }, time.Now())
	if !enough {
		used := c.used
		c.mu.Unlock()
		return fmt.Errorf("%w: %d of %d MiB are taken and what is in use cannot go; this package needs %d MiB more: delete functions or raise the bound",
			ErrCacheFull, used>>20, c.max>>20, size>>20)
	}
	c.used += size
	moved, err := c.evict(victims)
	c.mu.Unlock()
	err = errors.Join(err, removeAll(moved))
	if err != nil {
		c.giveBack(size)
	}
	return err
}

func (c *Cache) giveBack(size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used -= size
}

// Sweep drops the trees that nobody retains, that were not handed out in the last minute and for which wanted says no:
// wanted tells the digests that some function refers to. The trees of such functions may still be evicted when room is
// needed, and are unpacked again when they are asked for.
func (c *Cache) Sweep(ctx context.Context, wanted func(digest string) bool) error {
	return c.sweep(ctx, wanted, time.Now())
}

func (c *Cache) sweep(ctx context.Context, wanted func(digest string) bool, now time.Time) error {
	// wanted is the caller's: it is asked before the lock is taken.
	unwanted := map[string]bool{}
	c.trees.Range(func(k, _ any) bool {
		if digest := k.(string); !wanted(digest) {
			unwanted[digest] = true
		}
		return true
	})
	c.mu.Lock()
	victims, _ := c.choose(c.used+1, func(digest string) bool { return unwanted[digest] }, now)
	moved, err := c.evict(victims)
	c.mu.Unlock()
	for _, path := range moved {
		if ctx.Err() != nil {
			return ctx.Err() // what is left lies in partial and goes when the cache is opened next
		}
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// victim is a tree that may go.
type victim struct {
	digest string
	tree   *unpacked
	last   int64
}

// choose gives trees of at least size bytes together, those first that were not used for the longest time, out of those
// that are neither retained nor young and that may go; enough says whether there are as many. c.mu is held.
func (c *Cache) choose(size int64, may func(digest string) bool, now time.Time) (victims []victim, enough bool) {
	if size <= 0 {
		return nil, true
	}
	c.trees.Range(func(k, v any) bool {
		digest, t := k.(string), v.(*unpacked)
		last := t.last.Load()
		if c.holds[digest] == 0 && now.Sub(time.Unix(0, last)) > youth && may(digest) {
			victims = append(victims, victim{digest, t, last})
		}
		return true
	})
	slices.SortFunc(victims, func(a, b victim) int { return int(min(1, max(-1, a.last-b.last))) })
	for n, v := range victims {
		if size -= v.tree.size; size <= 0 {
			return victims[:n+1], true
		}
	}
	return victims, false
}

// evict takes trees out of the cache and moves them to where nobody looks for them, each in one step, so that a tree
// under its name is never one of which a part is gone. The caller removes what was moved, without the lock. c.mu is held.
func (c *Cache) evict(victims []victim) (moved []string, err error) {
	for _, v := range victims {
		if !v.tree.last.CompareAndSwap(v.last, evicted) {
			continue // it was handed out since it was chosen
		}
		c.trees.Delete(v.digest)
		c.used -= v.tree.size
		to, mkErr := os.MkdirTemp(filepath.Join(c.dir, partialDir), "evicted-")
		if mkErr == nil {
			moved = append(moved, to)
			mkErr = os.Rename(v.tree.path, filepath.Join(to, "tree"))
		}
		err = errors.Join(err, mkErr)
	}
	return moved, err
}

func removeAll(paths []string) error {
	var err error
	for _, path := range paths {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}
