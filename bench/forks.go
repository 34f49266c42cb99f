package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"thaw"
	"thaw/scripts/platform"
)

// Forks, one after the other without a pause, on so many connections and for so long.
const (
	forkConnections = 8
	forkLength      = 30 * time.Second
	plainLength     = 5 * time.Second
)

// forkRate is how many new environments a second one function's template makes, each serving one event and ending.
type forkRate struct {
	Function  string
	Length    time.Duration
	PerSecond float64
	Other     int     // requests that were served from something other than a fork; they are not in PerSecond
	Refused   int     // requests that were answered 429
	Plain     float64 // plain starts of the same a second, as many at the same time
}

// unboundScaling switches AWS's bound on how fast one function's environments become more off: it allows 100 a second in the
// long run, which is less than the machine makes.
const unboundScaling = "  scale_out: 0\n"

// measureForks measures python-echo and node-echo.
func measureForks(ctx context.Context, o *options, examples []platform.Example, f *findings) error {
	return withSettings(ctx, o, defaultSpares+unboundScaling, func(p *platform.Platform) error {
		for i := range examples {
			e := &examples[i]
			if e.Name != "python-echo" && e.Name != "node-echo" {
				continue
			}
			if err := p.Deploy(ctx, e); err != nil {
				return err
			}
			if err := awaitSpares(ctx, p, e.Name, 2); err != nil {
				return err
			}
			forks, err := forkable(ctx, p, e.Name)
			if err != nil {
				return err
			}
			if !forks {
				continue
			}
			r := forkRate{Function: e.Name, Length: o.shorten(forkLength)}
			say(fmt.Sprintf("plain starts of %s for %s", e.Name, o.shorten(plainLength)))
			if r.Plain, err = plainRate(ctx, e, o.shorten(plainLength)); err != nil {
				return err
			}
			say(fmt.Sprintf("forks of %s for %s", e.Name, r.Length))
			if err := r.measure(ctx, p); err != nil {
				return fmt.Errorf("forks of %s: %w", e.Name, err)
			}
			f.Forks = append(f.Forks, r)
			if err := p.Run(ctx, nil, "delete", e.Name); err != nil {
				return err
			}
		}
		return nil
	})
}

// refusedPause is how long a refused connection waits before it asks again.
const refusedPause = 20 * time.Millisecond

func (r *forkRate) measure(ctx context.Context, p *platform.Platform) error {
	conns, err := dialMany(ctx, &target{url: invokeURL(p, r.Function), headers: explain + startHeaders[thaw.StartFork]}, forkConnections)
	defer hangUp(conns)
	if err != nil {
		return err
	}
	var forks, others, refused atomic.Int64
	took, err := during(ctx, len(conns), r.Length, func(ctx context.Context, i int) error {
		err := conns[i].call()
		if _, full := errors.AsType[*refusal](err); full {
			refused.Add(1)
			_ = wait(ctx, refusedPause) // the time is over
			return nil
		}
		if err != nil {
			return err
		}
		var told explanation
		if err := json.Unmarshal(conns[i].explanation, &told); err != nil {
			return fmt.Errorf("X-Thaw-Invocation: %w", err)
		}
		if told.Kind == thaw.StartFork {
			forks.Add(1)
		} else {
			others.Add(1)
		}
		return nil
	})
	r.PerSecond, r.Other, r.Refused = float64(forks.Load())/took.Seconds(), int(others.Load()), int(refused.Load())
	return err
}

// plainRate is how many plain starts a second there are when as many run at the same time as forks are asked for.
func plainRate(ctx context.Context, e *platform.Example, length time.Duration) (float64, error) {
	var starts atomic.Int64
	took, err := during(ctx, forkConnections, length, func(context.Context, int) error {
		if _, err := e.StartPlain(ctx); err != nil {
			return err
		}
		starts.Add(1)
		return nil
	})
	return float64(starts.Load()) / took.Seconds(), err
}

// during has workers do something again and again for a time, and tells how long that was, to the end of the last one.
func during(ctx context.Context, workers int, length time.Duration, do func(ctx context.Context, worker int) error) (took time.Duration, err error) {
	timed, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	errs := make([]error, workers)
	var all sync.WaitGroup
	begin := time.Now()
	for i := range workers {
		all.Go(func() {
			for timed.Err() == nil && errs[i] == nil {
				errs[i] = do(timed, i)
			}
		})
	}
	all.Wait()
	return time.Since(begin), errors.Join(append(errs, ctx.Err())...)
}
