package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"thaw"
)

type benchFlags struct {
	count       int
	concurrency int
	payload     string
	qualifier   string
}

// benchMode is one of the verb's three kinds.
type benchMode struct {
	name        string
	short       string
	count       int  // default of --count
	concurrency int  // default of --concurrency; 0 means as many as --count
	cold        bool // ask for a new environment each time
	prime       bool // one invocation before that does not count
}

var benchModes = []benchMode{
	{name: "cold", short: "A new environment for each invocation", count: 20, concurrency: 1, cold: true},
	{name: "warm", short: "Environments that have served before", count: 1000, concurrency: 1, prime: true},
	{name: "burst", short: "All invocations at once", count: 50},
}

// maxBenchConcurrency bounds the connections of a benchmark.
const maxBenchConcurrency = 1000

func (p *program) bench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a function's starts and invocations",
		Long: `Invoke a function many times and show how long it took: as this program saw it, and phase by phase as the platform
recorded it.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage("what is to be measured: cold, warm or burst", "thaw bench warm NAME")
		},
	}
	for _, mode := range benchModes {
		cmd.AddCommand(p.benchMode(mode))
	}
	return cmd
}

func (p *program) benchMode(mode benchMode) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:               mode.name + " NAME",
		Short:             mode.short,
		Args:              oneArgument("a function's name"),
		ValidArgsFunction: p.completeFunction,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.concurrency == 0 {
				f.concurrency = min(f.count, maxBenchConcurrency)
			}
			if f.count < 1 || f.concurrency < 1 || f.concurrency > maxBenchConcurrency {
				return usage(fmt.Sprintf("--count must be at least 1 and --concurrency from 1 to %d", maxBenchConcurrency), "thaw bench "+mode.name+" "+args[0])
			}
			payload, err := p.readPayload(f.payload)
			if err != nil {
				return err
			}
			return p.runBench(cmd.Context(), mode, args[0], payload, &f)
		},
	}
	flags := cmd.Flags()
	flags.IntVarP(&f.count, "count", "n", mode.count, "how many invocations are measured")
	text := "how many are under way at once"
	if mode.concurrency == 0 {
		text += " (default: all)"
	}
	flags.IntVarP(&f.concurrency, "concurrency", "c", mode.concurrency, text)
	flags.StringVarP(&f.payload, "payload", "p", "", "the event: JSON, @FILE, or - for standard input (default {})")
	flags.StringVar(&f.qualifier, "qualifier", "", "version or alias")
	return cmd
}

// sample is one measured invocation.
type sample struct {
	took time.Duration // from the first byte sent to the last byte received
	inv  *invocation   // nil when the platform did not explain
	err  error         // the request failed, or the function did
}

func (p *program) runBench(ctx context.Context, mode benchMode, name string, payload []byte, f *benchFlags) error {
	c, err := p.connect(f.concurrency)
	if err != nil {
		return err
	}
	defer c.close()
	call := &benchCall{client: c, name: name, payload: payload, cold: mode.cold, path: "/2015-03-31/functions/" + url.PathEscape(name) + "/invocations"}
	if f.qualifier != "" {
		call.query = url.Values{"Qualifier": {f.qualifier}}
	}
	if mode.prime {
		if s := call.once(ctx); s.err != nil {
			return p.benchFailure(ctx, name, s.err)
		}
	}
	m := p.progress(mode.name+" "+name, f.count)
	begin := time.Now()
	samples := call.many(ctx, f.count, f.concurrency, m.step)
	elapsed := time.Since(begin)
	m.stop()
	if ctx.Err() != nil {
		return p.remote(ctx, "", "", ctx.Err())
	}
	result := summarise(mode.name, name, f.concurrency, samples, elapsed)
	if result.Total.Count == 0 {
		return p.benchFailure(ctx, name, samples[0].err)
	}
	if p.json {
		p.writeJSON(p.io.Out, result)
	} else if err := result.write(p.io.Out); err != nil {
		return err
	}
	if result.Errors > 0 {
		return &Error{What: fmt.Sprintf("%d of %d invocations failed", result.Errors, len(samples)), Why: result.FirstError, Next: "thaw logs " + name, Exit: ExitFailed}
	}
	return nil
}

func (p *program) benchFailure(ctx context.Context, name string, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return p.remote(ctx, "cannot measure "+name, name, err)
}

// benchCall sends one invocation again and again. It speaks HTTP itself: the SDK's own work would be a good part of
// what a warm invocation takes.
type benchCall struct {
	client  *client
	path    string
	query   url.Values
	payload []byte
	name    string
	cold    bool
}

// many sends count invocations, concurrency of them at once, and returns all samples. step is called after each.
func (b *benchCall) many(ctx context.Context, count, concurrency int, step func()) []sample {
	samples := make([]sample, count)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(concurrency, count) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				if samples[i].err = ctx.Err(); samples[i].err == nil {
					samples[i] = b.once(ctx)
				}
				step()
			}
		})
	}
	workers.Wait()
	return samples
}

// once measures one invocation. Signing is not part of it.
func (b *benchCall) once(ctx context.Context) sample {
	req, err := b.client.request(ctx, http.MethodPost, b.path, b.query, b.payload)
	if err != nil {
		return sample{err: err}
	}
	req.Header.Set(headerExplain, "true")
	if b.cold {
		req.Header.Set(headerStart, startForced)
	}
	begin := time.Now()
	resp, err := b.client.http.Do(req)
	if err != nil {
		return sample{err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return sample{err: refusal(resp)}
	}
	var body bytes.Buffer
	if _, err := io.Copy(&body, io.LimitReader(resp.Body, thaw.MaxResponse)); err != nil {
		return sample{err: err}
	}
	s := sample{took: time.Since(begin), inv: parseInvocation(resp.Header)}
	if resp.Header.Get("X-Amz-Function-Error") != "" {
		s.err = functionFailure(b.name, body.Bytes())
	}
	return s
}
