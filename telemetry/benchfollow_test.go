package telemetry_test

import (
	"context"
	"sync"
	"testing"

	"thaw/state"
	"thaw/telemetry"
	"thaw/telemetry/groups"
)

// follow runs the collector, and the index that follows what is stored, as the platform does.
func follow(b *testing.B, store *state.Store, logs *telemetry.Logs) (stop func()) {
	x, err := groups.New(groups.Config{Store: store, Settings: groups.NewSettings(store)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = logs.Run(ctx) })
	running.Go(func() { _ = x.Run(ctx) })
	return func() { cancel(); running.Wait() }
}
