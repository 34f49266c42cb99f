package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"thaw/scripts/platform"
)

// How much is measured. Each round measures everything once, so that what disturbs the machine for a while disturbs all
// alike; what is shown is the median over the rounds.
const (
	rounds           = 5
	callsPerRound    = 2000
	connections      = 16
	throughputLength = 2 * time.Second
	platformStarts   = 10
	idleBefore       = 3 * time.Second
)

// warmResult is what one target did when nothing had to start.
type warmResult struct {
	Name          string
	P50, P95, P99 time.Duration // one connection
	PerSecond     float64       // at 16 connections
}

// findings are all that one run measured.
type findings struct {
	Machine  machine
	Warm     []warmResult
	Starts   []startResult
	Memory   []memoryResult
	Forks    []forkRate
	Bursts   []burst
	Arrivals *arrivalsResult
	Idle     *idleResult
	Step     *stepResult
	Waits    []contention
	Events   *eventsResult

	Telemetry *telemetryResult

	Start    time.Duration // from exec to the first answer, fresh data directory
	Restart  time.Duration // the same with a data directory that was used before
	IdleRSS  int64         // bytes, nothing deployed
	UsedRSS  int64         // bytes, at the end, with every example deployed and its environments idle
	Quick    bool
	Measured time.Time
}

func (f *findings) warm(name string) *warmResult {
	i := slices.IndexFunc(f.Warm, func(w warmResult) bool { return w.Name == name })
	if i < 0 {
		return &warmResult{Name: name}
	}
	return &f.Warm[i]
}

func (f *findings) starts(name string) *startResult {
	i := slices.IndexFunc(f.Starts, func(r startResult) bool { return r.Example.Name == name })
	if i < 0 {
		return &startResult{}
	}
	return &f.Starts[i]
}

func run(ctx context.Context, o *options) error {
	report, err := platform.Doctor(ctx, o.binary)
	if err != nil {
		return err
	}
	examples, err := platform.Examples(&report, o.examples)
	if err != nil {
		return err
	}
	f := &findings{Quick: o.quick, Measured: time.Now()}
	if f.Machine, err = look(ctx, o.binary, &report); err != nil {
		return err
	}
	var failed error
	for _, part := range []struct {
		name    string
		measure func() error
	}{
		{"platform", func() error { return measurePlatform(ctx, o, f) }},
		{"starts", func() error { return measureStarts(ctx, o, examples, f) }},
		{"memory", func() error { return measureMemory(ctx, o, examples, f) }},
		{"forks", func() error { return measureForks(ctx, o, examples, f) }},
		{"bursts", func() error { return measureBursts(ctx, o, examples, f) }},
		{"plane", func() error { return measurePlane(ctx, o, examples, f) }},
		{"events", func() error { return measureEvents(ctx, o, examples, f) }},
		{"telemetry", func() error { return measureTelemetry(ctx, o, examples, f) }},
		{"warm", func() error {
			measure := func(p *platform.Platform) error { return measureCalls(ctx, o, p, examples, f) }
			if o.config == "" {
				return withSettings(ctx, o, defaultSpares, measure)
			}
			return withPlatform(ctx, o, measure)
		}},
	} {
		if !o.wants(part.name) {
			continue
		}
		if err := part.measure(); ctx.Err() != nil {
			return err
		} else if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", part.name, err)) // the other parts took their time, too
		}
	}
	var page strings.Builder
	f.write(&page)
	fmt.Print(page.String())
	if failed != nil || o.out == "" {
		return failed
	}
	if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(o.out, []byte(page.String()), 0o644)
}

var began = time.Now()

// say tells how far the run is.
func say(what string) {
	fmt.Fprintf(os.Stderr, "%4.0f s: measuring %s\n", time.Since(began).Seconds(), what)
}

// withPlatform runs fn against a platform with a data directory of its own, which is gone afterwards.
func withPlatform(ctx context.Context, o *options, fn func(*platform.Platform) error) error {
	dir, err := os.MkdirTemp("", "thaw-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return withData(ctx, o, dir, fn)
}

func withData(ctx context.Context, o *options, dir string, fn func(*platform.Platform) error) error {
	listen, err := platform.FreeAddress()
	if err != nil {
		return err
	}
	logFile, err := os.CreateTemp("", "thaw-bench-log-")
	if err != nil {
		return err
	}
	defer os.Remove(logFile.Name())
	defer logFile.Close()
	p, err := platform.Start(ctx, platform.Config{Binary: o.binary, Data: dir, Listen: listen, File: o.config, Log: logFile})
	if err == nil {
		err = errors.Join(fn(p), p.Stop())
	}
	if err != nil {
		showEnd(logFile)
	}
	return err
}

// showEnd copies the end of the platform's log, which says why something went wrong.
func showEnd(log *os.File) {
	const end = 4 << 10
	info, err := log.Stat()
	if err != nil {
		return
	}
	if _, err := log.Seek(max(info.Size()-end, 0), io.SeekStart); err == nil {
		_, _ = io.Copy(os.Stderr, log)
	}
}

// measurePlatform measures starts with fresh and with used data directories, and the memory of an idle platform.
func measurePlatform(ctx context.Context, o *options, f *findings) error {
	start := func(dir string) (took time.Duration, err error) {
		err = withData(ctx, o, dir, func(p *platform.Platform) error { took = p.Ready; return nil })
		return took, err
	}
	used, err := os.MkdirTemp("", "thaw-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(used)
	f.Restart, err = platform.Median(o.scale(platformStarts), func() (time.Duration, error) { return start(used) })
	if err != nil {
		return err
	}
	f.Start, err = platform.Median(o.scale(platformStarts), func() (time.Duration, error) {
		dir, err := os.MkdirTemp("", "thaw-bench-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		return start(dir)
	})
	if err != nil {
		return err
	}
	return withPlatform(ctx, o, func(p *platform.Platform) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(idleBefore):
		}
		f.IdleRSS, err = residentMemory(p.PID)
		return err
	})
}

// residentMemory is the VmRSS of a process, in bytes.
func residentMemory(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return sumKB(text, "VmRSS:"), err
}

// defaultSpares is the platform's own default, for platforms that need other settings than the defaults only elsewhere.
const defaultSpares = "  spares: 2\n"

// withSettings runs fn against a platform with settings of environments, indented lines of YAML, and otherwise the defaults:
// what is given with -config is not for it.
func withSettings(ctx context.Context, o *options, environments string, fn func(*platform.Platform) error) error {
	file, err := os.CreateTemp("", "thaw-bench-*.yaml")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString("runtimes:\n  nearest: true\nenvironments:\n" + environments)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	own := *o
	own.config = file.Name()
	return withPlatform(ctx, &own, fn)
}

// echoes are the examples whose warm path is measured: they answer the event and nothing else.
var echoes = []string{"python-echo", "node-echo", "go-lambda"}

func measureCalls(ctx context.Context, o *options, p *platform.Platform, examples []platform.Example, f *findings) error {
	targets := map[string]*target{}
	var order []string
	add := func(name string, t *target) {
		targets[name] = t
		order = append(order, name)
	}
	for _, b := range []struct{ name, kind, runtime string }{
		{"net/http echo", "echo", ""}, {"relay, Python", "relay-python", "python"}, {"relay, Node", "relay-node", "nodejs"},
	} {
		server, err := startBare(ctx, b.kind, interpreterOf(examples, b.runtime))
		if err != nil {
			return err
		}
		defer server.stop()
		add(b.name, &server.target)
	}
	for i := range examples {
		e := &examples[i]
		if err := p.Deploy(ctx, e); err != nil {
			return err
		}
		t := &target{url: invokeURL(p, e.Name)}
		if _, err := sequential(ctx, t, 1); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
		if slices.Contains(echoes, e.Name) {
			add(e.Name, t)
		}
	}
	if err := measureWarm(ctx, o, targets, order, f); err != nil {
		return err
	}
	var err error
	f.UsedRSS, err = residentMemory(p.PID)
	return err
}

// interpreterOf is the path of the interpreter that the examples of a language are compared with.
func interpreterOf(examples []platform.Example, language string) string {
	for i := range examples {
		if language != "" && strings.HasPrefix(examples[i].Runtime, language) {
			return examples[i].Plain[0]
		}
	}
	return ""
}

func measureWarm(ctx context.Context, o *options, targets map[string]*target, order []string, f *findings) error {
	length := o.shorten(throughputLength)
	measured := map[string][]warmResult{}
	for round := range rounds {
		for _, name := range order {
			say(fmt.Sprintf("warm %s, round %d of %d", name, round+1, rounds))
			took, err := sequential(ctx, targets[name], o.scale(callsPerRound))
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			perSecond, err := throughput(ctx, targets[name], connections, length)
			if err != nil {
				return fmt.Errorf("%s at %d connections: %w", name, connections, err)
			}
			measured[name] = append(measured[name], warmResult{
				Name: name, P50: took.percentile(50), P95: took.percentile(95), P99: took.percentile(99), PerSecond: perSecond,
			})
		}
	}
	for _, name := range order {
		m := measured[name]
		f.Warm = append(f.Warm, warmResult{
			Name:      name,
			P50:       medianOf(m, func(r *warmResult) time.Duration { return r.P50 }),
			P95:       medianOf(m, func(r *warmResult) time.Duration { return r.P95 }),
			P99:       medianOf(m, func(r *warmResult) time.Duration { return r.P99 }),
			PerSecond: medianOf(m, func(r *warmResult) float64 { return r.PerSecond }),
		})
	}
	return nil
}

func medianOf[E any, T time.Duration | float64](results []E, value func(*E) T) T {
	values := make([]T, len(results))
	for i := range results {
		values[i] = value(&results[i])
	}
	slices.Sort(values)
	return values[len(values)/2]
}
