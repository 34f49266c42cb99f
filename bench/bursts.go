package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"thaw"
	"thaw/scripts/platform"
)

// burstFunctions are the examples that bursts are measured with, and burstSizes how many first requests come at once.
var (
	burstFunctions = []string{"python-echo", "node-echo", "python-boto3", "go-lambda"}
	burstSizes     = []int{10, 100, 500}
)

// burst is how simultaneous first requests to a fresh function were answered.
type burst struct {
	Function string
	Size     int
	Works    time.Duration // what an invocation does by itself; it is not in Took
	Took     latencies     // of those that were answered
	Kinds    map[thaw.StartKind]int
	Refused  int
}

// measureBursts deploys each function anew for each burst.
func measureBursts(ctx context.Context, o *options, examples []platform.Example, f *findings) error {
	return withSettings(ctx, o, defaultSpares, func(p *platform.Platform) error {
		for i := range examples {
			if !slices.Contains(burstFunctions, examples[i].Name) {
				continue
			}
			for _, size := range burstSizes {
				say(fmt.Sprintf("a burst of %d to %s", size, examples[i].Name))
				b, err := measureBurst(ctx, p, examples[i], size, 0)
				if err != nil {
					return fmt.Errorf("burst of %d to %s: %w", size, examples[i].Name, err)
				}
				f.Bursts = append(f.Bursts, *b)
			}
		}
		return nil
	})
}

func measureBurst(ctx context.Context, p *platform.Platform, e platform.Example, size int, works time.Duration) (_ *burst, err error) {
	b := &burst{Function: e.Name, Size: size, Works: works, Kinds: map[thaw.StartKind]int{}}
	e.Name = fmt.Sprintf("%s-%d", e.Name, size)
	if err := p.Deploy(ctx, &e); err != nil {
		return nil, err
	}
	if err := awaitSpares(ctx, p, e.Name, 2); err != nil {
		return nil, err
	}
	conns, err := dialMany(ctx, &target{url: invokeURL(p, e.Name), headers: explain}, size)
	defer hangUp(conns)
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, pauses[thaw.StartFork]); err != nil {
		return nil, err
	}
	took, errs := make(latencies, size), make([]error, size)
	var all sync.WaitGroup
	begin := time.Now()
	for i, c := range conns {
		all.Go(func() {
			errs[i] = c.call()
			took[i] = time.Since(begin) - works
		})
	}
	all.Wait()
	for i, c := range conns {
		if _, full := errors.AsType[*refusal](errs[i]); full {
			b.Refused++
			continue
		}
		if errs[i] != nil {
			return nil, errs[i]
		}
		var told explanation
		if err := json.Unmarshal(c.explanation, &told); err != nil {
			return nil, fmt.Errorf("X-Thaw-Invocation: %w", err)
		}
		b.Kinds[told.Kind]++
		b.Took = append(b.Took, took[i])
	}
	slices.Sort(b.Took)
	return b, p.Run(ctx, nil, "delete", e.Name)
}

func dialMany(ctx context.Context, t *target, count int) (conns []*conn, err error) {
	for range count {
		c, err := dial(ctx, t)
		if err != nil {
			return conns, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

func hangUp(conns []*conn) {
	for _, c := range conns {
		c.Close()
	}
}
