package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"thaw"
	"thaw/code"
	"thaw/runtimes"
	"thaw/state"
)

// sweepEvery is how often packages that no function refers to any more are looked for.
const sweepEvery = 10 * time.Minute

// sweepPackages drops packages that no function refers to, from the store and from this node's cache.
func sweepPackages(ctx context.Context, store *state.Store, cache *code.Cache, log *slog.Logger) error {
	return sweep(ctx, log, "packages", func() error {
		wanted := packagesInUse(store)
		return errors.Join(store.SweepCode(ctx), cache.Sweep(ctx, func(digest string) bool { return wanted[digest] }))
	})
}

// sweep calls remove, which drops what nothing refers to any more, from time to time until ctx ends.
func sweep(ctx context.Context, log *slog.Logger, what string, remove func() error) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := remove(); err != nil && ctx.Err() == nil {
			log.Warn("cannot sweep "+what, "error", err)
		}
	}
}

// packagesInUse is the set of the digests that functions refer to.
func packagesInUse(store *state.Store) map[string]bool {
	wanted := map[string]bool{}
	for _, v := range versionsInUse(store) {
		wanted[v.Code.SHA256] = true
		if len(v.Layers) > 0 {
			wanted[code.LayersDigest(v.LayerDigests())] = true
		}
	}
	return wanted
}

// versionsInUse are the versions that run, or shall.
func versionsInUse(store *state.Store) (versions []*thaw.Version) {
	const page = 500
	for after := ""; ; {
		functions := store.Functions(after, page)
		for _, f := range functions {
			versions = append(versions, &f.Config)
			if f.Running != nil {
				versions = append(versions, f.Running)
			}
			for i := range f.Published {
				versions = append(versions, &f.Published[i])
			}
			after = f.Name
		}
		if len(functions) < page {
			return versions
		}
	}
}

// sweepArchives drops the class-data archives of versions that are no more.
func sweepArchives(ctx context.Context, store *state.Store, registry *runtimes.Registry, log *slog.Logger) error {
	return sweep(ctx, log, "class-data archives", func() error { return registry.SweepArchives(versionsInUse(store)) })
}
