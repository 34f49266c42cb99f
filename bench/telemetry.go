package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"thaw/scripts/platform"
)

const (
	// withoutTelemetry are the settings of a platform that keeps nothing of its invocations but their logs.
	withoutTelemetry = "telemetry:\n  invocations: false\n  init_profile: false\n"
	// telemetryRounds is even: each platform is first as often as the other.
	telemetryRounds = 10
	telemetryBudget = 1.05 // of the same without it
	loggers         = 100
	loggedAtOnce    = 1000 // lines in one invocation
	loggingLength   = 10 * time.Second
	loggedPatience  = time.Minute
)

//go:embed functions/python-lines/app.py
var pythonLines []byte

// telemetryCost is what a warm call costs with telemetry, or without.
type telemetryCost struct {
	P50, P95  time.Duration // one connection
	PerSecond float64       // at 16 connections
	CPU       time.Duration // of the platform's process, per call, at 16 connections
}

// telemetryResult is what telemetry costs and how much of logs can be kept.
type telemetryResult struct {
	Function string
	On, Off  telemetryCost
	Lines    int // that were written by the loggers
	Kept     int // of these
	Took     time.Duration
	Settled  time.Duration // from the last answer until all could be read
}

// measureTelemetry runs a platform with telemetry and one without beside each other and calls them in turn, and then has many
// functions write to their logs.
func measureTelemetry(ctx context.Context, o *options, examples []platform.Example, f *findings) error {
	at := slices.IndexFunc(examples, func(e platform.Example) bool { return e.Name == "python-echo" })
	if at < 0 {
		return errors.New("no python-echo among the examples")
	}
	r := &telemetryResult{Function: examples[at].Name}
	err := withSettings(ctx, o, defaultSpares, func(on *platform.Platform) error {
		return withSettings(ctx, o, defaultSpares+withoutTelemetry, func(off *platform.Platform) error {
			return r.compare(ctx, o, &examples[at], on, off)
		})
	})
	if err != nil {
		return err
	}
	if err := withSettings(ctx, o, defaultSpares, func(p *platform.Platform) error { return r.log(ctx, o, examples[at], p) }); err != nil {
		return err
	}
	f.Telemetry = r
	return nil
}

func (r *telemetryResult) compare(ctx context.Context, o *options, e *platform.Example, on, off *platform.Platform) error {
	for _, p := range []*platform.Platform{on, off} {
		if err := p.Deploy(ctx, e); err != nil {
			return err
		}
	}
	var costs [2][]telemetryCost
	for round := range telemetryRounds {
		for turn := range 2 {
			which := (round + turn) % 2
			say(fmt.Sprintf("telemetry %s, round %d of %d", []string{"on", "off"}[which], round+1, telemetryRounds))
			c, err := costOf(ctx, o, []*platform.Platform{on, off}[which], e.Name)
			if err != nil {
				return err
			}
			costs[which] = append(costs[which], c)
		}
	}
	for which, result := range []*telemetryCost{&r.On, &r.Off} {
		*result = telemetryCost{
			P50:       medianOf(costs[which], func(c *telemetryCost) time.Duration { return c.P50 }),
			P95:       medianOf(costs[which], func(c *telemetryCost) time.Duration { return c.P95 }),
			PerSecond: medianOf(costs[which], func(c *telemetryCost) float64 { return c.PerSecond }),
			CPU:       medianOf(costs[which], func(c *telemetryCost) time.Duration { return c.CPU }),
		}
	}
	return nil
}

func costOf(ctx context.Context, o *options, p *platform.Platform, name string) (c telemetryCost, err error) {
	t := &target{url: invokeURL(p, name)}
	took, err := sequential(ctx, t, o.scale(callsPerRound))
	if err != nil {
		return c, err
	}
	c.P50, c.P95 = took.percentile(50), took.percentile(95)
	before, err := cpuOf(p)
	if err != nil {
		return c, err
	}
	conns, err := dialMany(ctx, t, connections)
	defer hangUp(conns)
	if err != nil {
		return c, err
	}
	begin := time.Now()
	calls, err := everyone(ctx, conns, o.shorten(throughputLength))
	if err != nil {
		return c, err
	}
	c.PerSecond = float64(calls) / time.Since(begin).Seconds()
	after, err := cpuOf(p)
	spent, _ := after.since(before)
	c.CPU = spent / time.Duration(max(calls, 1))
	return c, err
}

// log has many functions write lines as fast as they can, and reads them back.
func (r *telemetryResult) log(ctx context.Context, o *options, e platform.Example, p *platform.Platform) error {
	dir, err := os.MkdirTemp("", "thaw-bench-lines-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// The platform opens the code as another user.
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "app.py"), pythonLines, 0o644)); err != nil {
		return err
	}
	e.Dir = dir
	conns := make([]*conn, 0, loggers)
	defer func() { hangUp(conns) }()
	names := make([]string, o.scale(loggers))
	say(fmt.Sprintf("logs: deploying %d functions", len(names)))
	for i := range names {
		e.Name = fmt.Sprintf("python-lines-%02d", i)
		names[i] = e.Name
		if err := p.Deploy(ctx, &e); err != nil {
			return err
		}
		c, err := dial(ctx, &target{url: invokeURL(p, e.Name), body: fmt.Sprint(loggedAtOnce)})
		if err != nil {
			return err
		}
		conns = append(conns, c)
	}
	say(fmt.Sprintf("logs of %d functions for %s", len(names), o.shorten(loggingLength)))
	var written atomic.Int64
	took, err := during(ctx, len(conns), o.shorten(loggingLength), func(_ context.Context, i int) error {
		if err := conns[i].call(); err != nil {
			return err
		}
		written.Add(loggedAtOnce)
		return nil
	})
	if err != nil {
		return err
	}
	r.Lines, r.Took = int(written.Load()), took
	client := cloudwatchlogs.New(cloudwatchlogs.Options{BaseEndpoint: endpointOf(p), Region: anyRegion, Credentials: anyKey})
	begin := time.Now()
	for {
		if r.Kept, err = countLines(ctx, client, names); err != nil {
			return err
		}
		if r.Settled = time.Since(begin); r.Kept >= r.Lines || r.Settled > loggedPatience {
			return nil
		}
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
	}
}

// countLines asks Logs Insights how many lines of python-lines there are.
func countLines(ctx context.Context, client *cloudwatchlogs.Client, functions []string) (sum int, err error) {
	for _, name := range functions {
		started, err := client.StartQuery(ctx, &cloudwatchlogs.StartQueryInput{
			LogGroupName: aws.String("/aws/lambda/" + name), StartTime: aws.Int64(time.Now().Add(-time.Hour).Unix()), EndTime: aws.Int64(time.Now().Add(time.Hour).Unix()),
			QueryString: aws.String("filter @message like /^xxx/ | stats count(*) as lines"),
		})
		if err != nil {
			return 0, err
		}
		err = poll(ctx, func() (bool, error) {
			got, err := client.GetQueryResults(ctx, &cloudwatchlogs.GetQueryResultsInput{QueryId: started.QueryId})
			if err != nil || got.Status == "Running" || got.Status == "Scheduled" {
				return false, err
			}
			for _, row := range got.Results {
				for _, field := range row {
					var n int
					if _, err := fmt.Sscan(aws.ToString(field.Value), &n); err == nil && aws.ToString(field.Field) == "lines" {
						sum += n
					}
				}
			}
			return true, nil
		})
		if err != nil {
			return 0, err
		}
	}
	return sum, nil
}

func (r *telemetryResult) budgets() []line {
	compare := func(what string, on, off time.Duration) line {
		ratio := float64(on) / float64(max(off, 1))
		return line{
			what: what + " of a warm call with telemetry, " + r.Function, measured: ms(on) + " ms", compared: "without " + ms(off) + " ms",
			ratio: fmt.Sprintf("%.3f", ratio), budget: fmt.Sprintf("%.2f", telemetryBudget), met: ratio <= telemetryBudget,
		}
	}
	return []line{compare("p50", r.On.P50, r.Off.P50), compare("the platform's CPU", r.On.CPU, r.Off.CPU)}
}

func (f *findings) writeTelemetry(w io.Writer) {
	r := f.Telemetry
	if r == nil {
		return
	}
	fmt.Fprintf(w, "## Telemetry\n\nTwo platforms beside each other, one of which keeps records, metrics and init profiles, as is the default, and one with\n"+
		"`telemetry.invocations` and `telemetry.init_profile` off; they are called in turn. Medians of %d rounds; CPU time is the platform's, per call, at %d connections.\n\n"+
		"| telemetry | p50 | p95 | calls/s, %d connections | CPU, ms |\n|---|---:|---:|---:|---:|\n", telemetryRounds, connections, connections)
	for _, c := range []struct {
		name string
		cost *telemetryCost
	}{{"on", &r.On}, {"off", &r.Off}} {
		fmt.Fprintf(w, "| %s | %s | %s | %.0f | %s |\n", c.name, ms(c.cost.P50), ms(c.cost.P95), c.cost.PerSecond, ms(c.cost.CPU))
	}
	fmt.Fprintf(w, "\n%d functions wrote %d lines of 100 bytes in %s, %.0f a second; %d of them could be read with Logs Insights %s after the last answer.\n\n",
		loggers, r.Lines, r.Took.Round(100*time.Millisecond), float64(r.Lines)/r.Took.Seconds(), r.Kept, r.Settled.Round(100*time.Millisecond))
}
