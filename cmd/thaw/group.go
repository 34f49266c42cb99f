package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// group runs the parts of the platform and stops them in the reverse order of their start, each one wholly before the
// next: what hands out work stops before what does it.
type group struct {
	failed context.CancelCauseFunc
	stops  []func() error
}

// run starts a part. When it ends before it was told to, the whole platform stops.
func (g *group) run(ctx context.Context, name string, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var err error
	var done sync.WaitGroup
	done.Go(func() {
		err = part(ctx)
		if ctx.Err() == nil {
			if err == nil {
				err = errors.New("ended by itself")
			}
			g.failed(fmt.Errorf("%s: %w", name, err))
		}
	})
	g.onStop(name, func() error {
		cancel()
		done.Wait()
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	})
}

// onStop adds a step to the stop.
func (g *group) onStop(name string, stop func() error) {
	g.stops = append(g.stops, func() error {
		if err := stop(); err != nil {
			return fmt.Errorf("stop %s: %w", name, err)
		}
		return nil
	})
}

// stop runs the steps, last first, and joins their errors.
func (g *group) stop() error {
	var all []error
	for i := len(g.stops) - 1; i >= 0; i-- {
		if err := g.stops[i](); err != nil {
			all = append(all, err)
		}
	}
	g.stops = nil
	return errors.Join(all...)
}
