// Command demo shows thaw to somebody who has just built it: it starts the platform, deploys the examples, invokes each
// in new environments and in warm ones through the AWS API, prints what each phase cost beside a plain start of the same, and keeps the
// platform up until it is interrupted.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"thaw"
	"thaw/scripts/platform"
)

// shown are the examples that the demo deploys. The last two need a JDK and cargo and are left out without.
var shown = []string{"python-boto3", "node-s3", "ruby-echo", "go-lambda", "java-hello", "rust-hello"}

// How many invocations a line of the table stands for.
const (
	coldRuns  = 5
	warmRuns  = 200
	plainRuns = 5
)

func main() {
	once := flag.Bool("once", false, "end after the table, and leave nothing behind")
	binary := flag.String("thaw", "bin/thaw", "path of thaw")
	examples := flag.String("examples", "bin/examples", "directory of the built examples")
	config := flag.String("config", "scripts/demo/thaw.yaml", "configuration file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *binary, *examples, *config, *once)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil:
	case interrupted && errors.Is(err, context.Canceled):
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// heldLog keeps what the platform prints until it is asked for: while all goes well, the table stands alone.
type heldLog struct {
	mu   sync.Mutex
	held bytes.Buffer
	to   io.Writer // nil: hold
}

// maxHeld bounds what is held; a start prints a few lines.
const maxHeld = 1 << 20

func (l *heldLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to != nil {
		return l.to.Write(b)
	}
	if l.held.Len() < maxHeld {
		l.held.Write(b)
	}
	return len(b), nil
}

// release writes what was held, if withHeld, and everything from now on to w.
func (l *heldLog) release(w io.Writer, withHeld bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if withHeld {
		_, _ = l.held.WriteTo(w)
	}
	l.to = w
}

func run(ctx context.Context, binary, root, config string, once bool) (err error) {
	report, err := platform.Doctor(ctx, binary)
	if err != nil {
		return err
	}
	all, err := platform.Examples(&report, root)
	if err != nil {
		return err
	}
	examples := pick(all)
	plain := map[string]time.Duration{}
	for i := range examples {
		fmt.Fprintf(os.Stderr, "measuring a plain start: %s\n", examples[i].Words)
		if plain[examples[i].Name], err = examples[i].PlainStart(ctx, plainRuns); err != nil {
			return err
		}
	}

	log := &heldLog{}
	cfg := platform.Config{Binary: binary, Data: "data", Listen: "127.0.0.1:4566", File: config, Log: log}
	if once {
		if cfg.Data, err = os.MkdirTemp("", "thaw-demo-"); err != nil {
			return err
		}
		defer os.RemoveAll(cfg.Data)
		if cfg.Listen, err = platform.FreeAddress(); err != nil {
			return err
		}
	}
	fmt.Fprintln(os.Stderr, "starting the platform")
	p, err := platform.Start(ctx, cfg)
	if err != nil {
		log.release(os.Stderr, true)
		return err
	}
	defer func() {
		if stopErr := p.Stop(); stopErr != nil {
			err = errors.Join(err, stopErr)
		}
	}()
	if err := show(ctx, p, examples, plain); err != nil {
		log.release(os.Stderr, true)
		return err
	}
	if once {
		return nil
	}
	log.release(os.Stderr, false)
	fmt.Printf("\nThe platform is up at %s and keeps its data in ./%s, with the settings of\n%s. Ctrl-C stops it.\nTry in another terminal:\n\n", p.URL, cfg.Data, cfg.File)
	fmt.Printf("  %s invoke python-boto3 --payload '{\"key\":\"report.pdf\"}' --explain\n", binary)
	fmt.Printf("  %s get python-boto3\n", binary)
	fmt.Printf("  %s bench cold go-lambda\n", binary)
	fmt.Printf("  eval \"$(%s env)\" && aws lambda list-functions\n\n", binary)
	select {
	case <-ctx.Done():
		return nil
	case <-p.Done():
		return errors.New("thaw up ended by itself")
	}
}

func pick(all []platform.Example) []platform.Example {
	var picked []platform.Example
	for _, name := range shown {
		for i := range all {
			if all[i].Name == name {
				picked = append(picked, all[i])
			}
		}
	}
	return picked
}

// columns are the phases of the table; what belongs to none of them is in the end-to-end time.
var columns = []thaw.Phase{thaw.PhaseAdmit, thaw.PhasePlace, thaw.PhaseFetch, thaw.PhaseSandbox, thaw.PhaseRuntime, thaw.PhaseInit, thaw.PhaseRestore, thaw.PhaseHandler, thaw.PhaseRespond}

// show deploys and measures each example and prints the table.
func show(ctx context.Context, p *platform.Platform, examples []platform.Example, plain map[string]time.Duration) error {
	var table strings.Builder
	fmt.Fprintf(&table, "\nmilliseconds, medians; platform up in %.0f ms\n\n%-13s %-5s", float64(p.Ready.Microseconds())/1000, "function", "start")
	for _, phase := range columns {
		fmt.Fprintf(&table, " %8s", phase)
	}
	fmt.Fprintf(&table, " %10s  %s\n", "end to end", "plain start of the same")
	for i := range examples {
		e := &examples[i]
		fmt.Fprintf(os.Stderr, "deploying and invoking %s\n", e.Name)
		if err := p.Deploy(ctx, e); err != nil {
			return err
		}
		var cold, warm platform.Bench
		if err := p.Run(ctx, &cold, "bench", "cold", e.Name, "--count", fmt.Sprint(coldRuns)); err != nil {
			return err
		}
		if err := p.Run(ctx, &warm, "bench", "warm", e.Name, "--count", fmt.Sprint(warmRuns)); err != nil {
			return err
		}
		line(&table, e.Name, kind(cold.Starts), &cold, fmt.Sprintf("%10.1f  %s", float64(plain[e.Name].Microseconds())/1000, e.Words))
		line(&table, "", "warm", &warm, "")
	}
	fmt.Print(table.String())
	return nil
}

// kind names how most of some starts came about; starts are counted by kind and cause ("fork forced").
func kind(starts map[string]int) string {
	names := slices.Sorted(maps.Keys(starts))
	if len(names) == 0 {
		return "none"
	}
	most := slices.MaxFunc(names, func(a, b string) int { return starts[a] - starts[b] })
	name, _, _ := strings.Cut(most, " ")
	return name
}

func line(w io.Writer, name, start string, b *platform.Bench, plain string) {
	fmt.Fprintf(w, "%-13s %-5s", name, start)
	for _, phase := range columns {
		d, ok := b.Phases[phase.String()]
		if !ok {
			fmt.Fprintf(w, " %8s", "-")
			continue
		}
		fmt.Fprintf(w, " %8.2f", d.Median)
	}
	fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf(" %10.2f  %s", b.Total.Median, strings.TrimSpace(plain)), " "))
}
