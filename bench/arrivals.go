package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"thaw"
	"thaw/scripts/platform"
)

// The arrivals that are measured. The seed makes every run ask for the same at the same times.
const (
	arrivalRate      = 200 // a second
	arrivalLength    = 60 * time.Second
	arrivalFunctions = 50
	arrivalSkew      = 1.1
	arrivalSeed      = 20260101
)

// arrival is one request to come.
type arrival struct {
	At       time.Duration // since the first could have come
	Function int           // 0 is the most popular one
}

// poissonArrivals are requests that come independently of each other, perSecond on average, for length. Each is for one of
// so many functions, the k-th of which is asked for in proportion to 1/k^skew (Zipf); skew is above 1.
func poissonArrivals(seed uint64, perSecond float64, length time.Duration, functions int, skew float64) (all []arrival) {
	random := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // the same ones each time are what is wanted
	popular := rand.NewZipf(random, skew, 1, uint64(functions-1))
	at := 0.0
	for {
		at += random.ExpFloat64() / perSecond
		if at >= length.Seconds() {
			return all
		}
		all = append(all, arrival{At: time.Duration(at * float64(time.Second)), Function: int(popular.Uint64())})
	}
}

// served is how requests were answered.
type served struct {
	Added   latencies // by those that were answered: end to end, from when the request was due, less what the handler sleeps
	Cold    latencies // of Added, by those that were not warm
	Kinds   map[thaw.StartKind]int
	Refused int
}

func (s *served) count() int { return len(s.Added) + s.Refused }

// share is the part of a kind of start in what was answered, in percent.
func (s *served) share(kind thaw.StartKind) float64 {
	return 100 * float64(s.Kinds[kind]) / float64(max(len(s.Added), 1))
}

func (s *served) sort() {
	slices.Sort(s.Added)
	slices.Sort(s.Cold)
}

// arrivalsResult is what arrivals over many functions did.
type arrivalsResult struct {
	Functions    int
	PerSecond    float64
	Length       time.Duration
	All          served
	Later        served        // the second half: most functions have their environments
	PlatformCPU  time.Duration // per invocation
	BelowCPU     time.Duration // per invocation, by all processes below the platform
	PlatformRSS  int64         // bytes, at the end
	Environments int           // at the end
	Memory       footprint     // of all processes below the platform at the end, less what there was with nothing deployed
}

func measureArrivals(ctx context.Context, o *options, sleep *platform.Example, f *findings) error {
	r := &arrivalsResult{Functions: o.scale(arrivalFunctions), PerSecond: arrivalRate, Length: o.shorten(arrivalLength)}
	return withSettings(ctx, o, defaultSpares, func(p *platform.Platform) error {
		bare, err := weigh(ctx, p)
		if err != nil {
			return err
		}
		say(fmt.Sprintf("arrivals: deploying %d functions", r.Functions))
		targets := make([]target, r.Functions)
		for i := range targets {
			e := *sleep
			e.Name = fmt.Sprintf("%s-%02d", sleep.Name, i)
			if err := p.Deploy(ctx, &e); err != nil {
				return err
			}
			targets[i] = target{url: invokeURL(p, e.Name), headers: explain}
		}
		each := func(do func(name string) error) error {
			for i := range targets {
				if err := do(fmt.Sprintf("%s-%02d", sleep.Name, i)); err != nil {
					return err
				}
			}
			return nil
		}
		if err := each(func(name string) error { return awaitSpares(ctx, p, name, 0) }); err != nil {
			return err
		}
		before, err := cpuOf(p)
		if err != nil {
			return err
		}
		say(fmt.Sprintf("%.0f arrivals a second for %s", r.PerSecond, r.Length))
		if err := r.serve(ctx, targets); err != nil {
			return err
		}
		after, err := cpuOf(p)
		if err != nil {
			return err
		}
		r.PlatformCPU, r.BelowCPU = after.since(before)
		r.PlatformCPU /= time.Duration(max(r.All.count(), 1))
		r.BelowCPU /= time.Duration(max(r.All.count(), 1))
		full, err := weigh(ctx, p)
		if err != nil {
			return err
		}
		r.Memory = full.since(bare)
		if r.PlatformRSS, err = residentMemory(p.PID); err != nil {
			return err
		}
		f.Arrivals = r
		return each(func(name string) error {
			v, err := lookAt(ctx, p, name)
			r.Environments += v.Environments.Idle + v.Environments.Spares
			return err
		})
	})
}

// serve makes the requests when they are due, however long those before take.
func (r *arrivalsResult) serve(ctx context.Context, targets []target) error {
	conns := &pool{free: make([][]*conn, len(targets)), targets: targets}
	defer conns.hangUp()
	r.All.Kinds, r.Later.Kinds = map[thaw.StartKind]int{}, map[thaw.StartKind]int{}
	var mu sync.Mutex // guards r and failed
	var failed error
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := time.Now()
	for _, a := range poissonArrivals(arrivalSeed, r.PerSecond, r.Length, len(targets), arrivalSkew) {
		due := begin.Add(a.At)
		if err := wait(ctx, max(time.Until(due), 0)); err != nil {
			break
		}
		all.Go(func() {
			told, err := conns.call(ctx, a.Function)
			added := time.Since(due) - sleeps
			mu.Lock()
			defer mu.Unlock()
			halves := []*served{&r.All}
			if a.At >= r.Length/2 {
				halves = append(halves, &r.Later)
			}
			_, full := errors.AsType[*refusal](err)
			if err != nil && !full {
				failed = errors.Join(failed, err)
				cancel()
				return
			}
			for _, s := range halves {
				s.add(full, told.Kind, added)
			}
		})
	}
	all.Wait()
	r.All.sort()
	r.Later.sort()
	if failed == nil {
		failed = ctx.Err()
	}
	return failed
}

func (s *served) add(refused bool, kind thaw.StartKind, added time.Duration) {
	if refused {
		s.Refused++
		return
	}
	s.Kinds[kind]++
	s.Added = append(s.Added, added)
	if kind != thaw.StartWarm {
		s.Cold = append(s.Cold, added)
	}
}

// pool keeps the connections to each target that nobody uses.
type pool struct {
	targets []target
	mu      sync.Mutex
	free    [][]*conn
}

// call makes one call to a target. A refusal leaves the connection usable, any other error ends it.
func (p *pool) call(ctx context.Context, to int) (told explanation, err error) {
	p.mu.Lock()
	var c *conn
	if last := len(p.free[to]) - 1; last >= 0 {
		c, p.free[to] = p.free[to][last], p.free[to][:last]
	}
	p.mu.Unlock()
	if c == nil {
		if c, err = dial(ctx, &p.targets[to]); err != nil {
			return told, err
		}
	}
	err = c.call()
	if _, full := errors.AsType[*refusal](err); err != nil && !full {
		c.Close()
		return told, err
	}
	if err == nil {
		if err = json.Unmarshal(c.explanation, &told); err != nil {
			err = fmt.Errorf("X-Thaw-Invocation: %w", err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free[to] = append(p.free[to], c)
	return told, err
}

func (p *pool) hangUp() {
	for _, conns := range p.free {
		hangUp(conns)
	}
}
