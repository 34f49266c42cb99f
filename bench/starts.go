package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"thaw"
	"thaw/scripts/platform"
)

// kinds are the ways to an answer that are compared, dearest first; a plain start has no platform.
var kinds = []thaw.StartKind{kindPlain, thaw.StartBoot, thaw.StartFork, thaw.StartSpare, thaw.StartWarm}

// kindPlain is the same interpreter with the same imports, started and ended without a platform.
const kindPlain thaw.StartKind = "plain"

// startHeaders ask for each kind. What the platform cannot give is answered in another way, and counted as such.
var startHeaders = map[thaw.StartKind]string{
	thaw.StartBoot:  "X-Thaw-Start: forced\r\n",
	thaw.StartFork:  "X-Thaw-Start: forced\r\n",
	thaw.StartSpare: "X-Thaw-Start: spare\r\n",
	thaw.StartWarm:  "",
}

// pauses come before each start, so that it is measured by itself: what the one before left has been removed. Before a
// fork the template, and before the use of a spare the spare, is frozen again, as it would be for a first request.
var pauses = map[thaw.StartKind]time.Duration{
	thaw.StartBoot:  5 * time.Millisecond,
	thaw.StartFork:  55 * time.Millisecond,
	thaw.StartSpare: 30 * time.Millisecond,
}

// A kind of start that takes longer than expensive is measured a quarter as often.
const (
	expensive  = 100 * time.Millisecond
	firstTries = 4
)

// started is what starts of one kind took.
type started struct {
	Took   latencies
	Phases [thaw.NumPhases]time.Duration // medians
	Other  map[thaw.StartKind]int        // starts that came to be in another way than was asked for; they are not in the rest
}

// startResult is what the starts of one function took, of those kinds that its runtime has.
type startResult struct {
	Example platform.Example
	Kinds   map[thaw.StartKind]*started
}

// p50 is the median of a kind's starts, zero where there are none.
func (r *startResult) p50(kind thaw.StartKind) time.Duration {
	if s := r.Kinds[kind]; s != nil && len(s.Took) > 0 {
		return s.Took.percentile(50)
	}
	return 0
}

// explanation is what the platform tells of an invocation in X-Thaw-Invocation, as far as it is used here.
type explanation struct {
	Kind   thaw.StartKind   `json:"start_kind"`
	Phases map[string]int64 `json:"phases"` // µs
}

const explain = "X-Thaw-Explain: true\r\n"

// measureKinds measures starts of a function that is deployed.
func measureKinds(ctx context.Context, o *options, p *platform.Platform, r *startResult, wanted ...thaw.StartKind) error {
	for _, kind := range wanted {
		say(string(kind) + " starts of " + r.Example.Name)
		s, err := measureKind(ctx, o, p, r.Example.Name, kind)
		if err != nil {
			return fmt.Errorf("%s starts of %s: %w", kind, r.Example.Name, err)
		}
		if len(s.Took) > 0 {
			r.Kinds[kind] = s
		}
	}
	return nil
}

func measureKind(ctx context.Context, o *options, p *platform.Platform, name string, kind thaw.StartKind) (*started, error) {
	c, err := dial(ctx, &target{url: invokeURL(p, name), headers: explain + startHeaders[kind]})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	s := &started{Other: map[thaw.StartKind]int{}}
	phases := map[string]latencies{}
	err = repeat(ctx, o.starts, func() (time.Duration, error) {
		began := time.Now()
		if kind == thaw.StartSpare {
			if err := awaitSpares(ctx, p, name, 1); err != nil {
				return 0, err
			}
		}
		if err := wait(ctx, pauses[kind]); err != nil {
			return 0, err
		}
		begin := time.Now()
		if err := c.call(); err != nil {
			return 0, err
		}
		took := time.Since(begin)
		var e explanation
		if err := json.Unmarshal(c.explanation, &e); err != nil {
			return 0, fmt.Errorf("X-Thaw-Invocation: %w", err)
		}
		if e.Kind != kind {
			s.Other[e.Kind]++
			return time.Since(began), nil
		}
		s.Took = append(s.Took, took)
		for phase, us := range e.Phases {
			phases[phase] = append(phases[phase], time.Duration(us)*time.Microsecond)
		}
		return time.Since(began) - pauses[kind], nil
	})
	slices.Sort(s.Took)
	for phase := range thaw.NumPhases {
		if all := phases[phase.String()]; len(all) > 0 {
			slices.Sort(all)
			s.Phases[phase] = all.percentile(50)
		}
	}
	return s, err
}

// measurePlain measures starts without a platform.
func measurePlain(ctx context.Context, o *options, r *startResult) error {
	say("plain starts of " + r.Example.Name)
	s := &started{}
	err := repeat(ctx, o.starts, func() (time.Duration, error) {
		took, err := r.Example.StartPlain(ctx)
		s.Took = append(s.Took, took)
		return took, err
	})
	slices.Sort(s.Took)
	r.Kinds[kindPlain] = s
	return err
}

// repeat does something count times, or a quarter as often when that turns out to be expensive.
func repeat(ctx context.Context, count int, do func() (time.Duration, error)) error {
	var first time.Duration
	for i := 0; i < count; i++ {
		took, err := do()
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if first += took; i+1 == firstTries && first > firstTries*expensive {
			count = max(count/4, firstTries)
		}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func invokeURL(p *platform.Platform, name string) string {
	return p.URL + "/2015-03-31/functions/" + name + "/invocations"
}

// view is what GET /_thaw/functions/NAME tells, as far as it is used here.
type view struct {
	Template struct {
		State string `json:"state"`
	} `json:"template"`
	Environments struct {
		Idle   int `json:"idle"`
		Spares int `json:"spares"`
		Starts int `json:"starts"`
	} `json:"environments"`
	Usage struct {
		Invocations int `json:"invocations"`
		SpilledOver int `json:"spilled_over"`
	} `json:"usage"`
}

// viewer asks for views.
var viewer = &http.Client{Timeout: callLimit}

func lookAt(ctx context.Context, p *platform.Platform, name string) (v view, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/_thaw/functions/"+name, http.NoBody)
	if err != nil {
		return v, err
	}
	resp, err := viewer.Do(req)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return v, fmt.Errorf("GET /_thaw/functions/%s: %s", name, resp.Status)
	}
	return v, json.NewDecoder(resp.Body).Decode(&v)
}

// spareLimit is when spares that do not come have failed.
const spareLimit = 2 * time.Minute

// awaitSpares waits until a function has want spares and nothing is being made for it.
func awaitSpares(ctx context.Context, p *platform.Platform, name string, want int) error {
	ctx, cancel := context.WithTimeout(ctx, spareLimit)
	defer cancel()
	for {
		v, err := lookAt(ctx, p, name)
		if err != nil {
			return err
		}
		if v.Environments.Spares >= want && v.Environments.Starts == 0 {
			return nil
		}
		if err := wait(ctx, 2*time.Millisecond); err != nil {
			return fmt.Errorf("%s has %d spares after %s, not %d: %w", name, v.Environments.Spares, spareLimit, want, err)
		}
	}
}

// forkable reports whether a function's environments are forked here.
func forkable(ctx context.Context, p *platform.Platform, name string) (bool, error) {
	v, err := lookAt(ctx, p, name)
	return v.Template.State == "ready", err
}

// measureStarts measures every function: plain starts, boots on a platform that has neither templates nor spares, and the
// rest on one with both.
func measureStarts(ctx context.Context, o *options, examples []platform.Example, f *findings) error {
	for i := range examples {
		f.Starts = append(f.Starts, startResult{Example: examples[i], Kinds: map[thaw.StartKind]*started{}})
	}
	for i := range f.Starts {
		if err := measurePlain(ctx, o, &f.Starts[i]); err != nil {
			return err
		}
	}
	each := func(settings string, measure func(*platform.Platform, *startResult) error) error {
		return withSettings(ctx, o, settings, func(p *platform.Platform) error {
			for i := range f.Starts {
				r := &f.Starts[i]
				if err := p.Deploy(ctx, &r.Example); err != nil {
					return err
				}
				if err := measure(p, r); err != nil {
					return err
				}
				if err := p.Run(ctx, nil, "delete", r.Example.Name); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := each("  templates: 0\n  spares: 0\n", func(p *platform.Platform, r *startResult) error {
		return measureKinds(ctx, o, p, r, thaw.StartBoot)
	}); err != nil {
		return err
	}
	return each(defaultSpares, func(p *platform.Platform, r *startResult) error {
		forks, err := forkable(ctx, p, r.Example.Name)
		if err != nil {
			return err
		}
		if forks {
			if err := measureKinds(ctx, o, p, r, thaw.StartFork); err != nil {
				return err
			}
		}
		return measureKinds(ctx, o, p, r, thaw.StartSpare, thaw.StartWarm)
	})
}
