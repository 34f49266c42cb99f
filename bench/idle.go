package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"thaw"
	"thaw/scripts/platform"
)

const (
	heldEnvironments = 1000
	heldRounds       = 3
)

// idleResult is what it takes to hold many idle environments.
type idleResult struct {
	Function     string
	Environments int
	Each         footprint
	Calls        int // of another function, in each round
	// Before and With are how long warm calls of the other function took, by themselves and beside the idle environments: p50
	// and p99, the medians of the rounds.
	Before, With warmResult
}

// measureIdle has a function take a spare for each request although others are idle, until so many are.
func measureIdle(ctx context.Context, o *options, echo *platform.Example, f *findings) error {
	if os.Geteuid() != 0 {
		say("no idle environments: only root can read the pages of other users' processes")
		return nil
	}
	r := &idleResult{Function: echo.Name, Environments: o.scale(heldEnvironments), Calls: o.scale(callsPerRound)}
	return withSettings(ctx, o, defaultSpares+roomForAll, func(p *platform.Platform) error {
		other := *echo
		other.Name = "other"
		for _, e := range []*platform.Example{echo, &other} {
			if err := p.Deploy(ctx, e); err != nil {
				return err
			}
			if err := awaitSpares(ctx, p, e.Name, 2); err != nil {
				return err
			}
		}
		say("a warm function by itself")
		var err error
		if r.Before, err = warmRounds(ctx, &target{url: invokeURL(p, other.Name)}, r.Calls); err != nil {
			return err
		}
		if err := awaitSpares(ctx, p, other.Name, 2); err != nil {
			return err
		}
		few, spares, err := weighWith(ctx, p, echo.Name)
		if err != nil {
			return err
		}
		say(fmt.Sprintf("%d idle environments", r.Environments))
		if err := hold(ctx, p, echo.Name, r.Environments); err != nil {
			return err
		}
		many, environments, err := weighWith(ctx, p, echo.Name)
		if err != nil {
			return err
		}
		r.Each = many.since(few).per(max(environments-spares, 1))
		say("a warm function beside them")
		if r.With, err = warmRounds(ctx, &target{url: invokeURL(p, other.Name)}, r.Calls); err != nil {
			return err
		}
		f.Idle = r
		return nil
	})
}

// hold makes a function's environments until so many have answered an event and are idle.
func hold(ctx context.Context, p *platform.Platform, name string, count int) error {
	c, err := dial(ctx, &target{url: invokeURL(p, name), headers: startHeaders[thaw.StartSpare]})
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, spareLimit)
	defer cancel()
	for {
		v, err := lookAt(ctx, p, name)
		switch {
		case err != nil:
			return err
		case v.Environments.Idle >= count:
			return awaitSpares(ctx, p, name, 1)
		case v.Environments.Spares > 0:
			if err := c.call(); err != nil {
				return err
			}
			continue
		}
		if err := wait(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("%s has %d idle environments after %s, not %d: %w", name, v.Environments.Idle, spareLimit, count, err)
		}
	}
}

// weighWith is weigh, and how many environments a function has then.
func weighWith(ctx context.Context, p *platform.Platform, name string) (f footprint, environments int, err error) {
	if f, err = weigh(ctx, p); err != nil {
		return f, 0, err
	}
	v, err := lookAt(ctx, p, name)
	return f, v.Environments.Idle + v.Environments.Spares, err
}

// warmRounds are rounds of calls over one connection.
func warmRounds(ctx context.Context, t *target, calls int) (warmResult, error) {
	var p50, p99 latencies
	for range heldRounds {
		took, err := sequential(ctx, t, calls)
		if err != nil {
			return warmResult{}, err
		}
		p50, p99 = append(p50, took.percentile(50)), append(p99, took.percentile(99))
	}
	slices.Sort(p50)
	slices.Sort(p99)
	return warmResult{P50: p50.percentile(50), P99: p99.percentile(50)}, nil
}
