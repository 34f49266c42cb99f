package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"thaw"
	"thaw/scripts/platform"
)

// budgets that apply, after the design's table; ratios are to what was measured in the same run.
const (
	warmBudget       = 1.25 // of the relay's p50
	throughputBudget = 0.5  // of the relay's calls a second
	goBootBudget     = 8 * time.Millisecond
	startBudget      = 150 * time.Millisecond
	idleBudget       = 60 << 20
)

// write writes the page in Markdown.
func (f *findings) write(w io.Writer) {
	fmt.Fprint(w, "# Benchmarks\n\nWritten by `make bench`; do not edit. Medians; times in milliseconds.\n\n")
	m := &f.Machine
	fmt.Fprintf(w, "Measured on %s: %s, %d cores, %d MB of memory, %s, %s, %s.\nInterpreters: %s.\n\n",
		f.Measured.UTC().Format("2006-01-02 15:04 UTC"), m.CPU, m.Cores, m.MemoryMB, m.Kernel, m.Go, m.Thaw, strings.Join(m.Interpreters, ", "))
	if m.Load > float64(m.Cores)/4 {
		fmt.Fprintf(w, "**The machine had other work: load %.1f in the minute before, on %d cores. Read the ratios, not the times.**\n\n", m.Load, m.Cores)
	}
	if f.Quick {
		fmt.Fprint(w, "**A quick run: a tenth of the work. These numbers are a look, not a result.**\n\n")
	}
	f.writeBudgets(w)
	f.writeWarm(w)
	f.writeCold(w)
	fmt.Fprint(w, `## How it is measured

One load generator serves every line: keep-alive connections, a prepared request, a loop without an HTTP client library. Everything
that is called runs in a process of its own, on the same cores as the load generator. The relay is net/http in front of one
interpreter over a socketpair, whose program reads a length and as many bytes and writes the same back: no JSON, no
sandbox, no log. All warm targets are measured in turn, in several rounds, and the median over the rounds is
shown. A cold call asks for a new environment although others are idle; its time is from the first byte sent to the last byte
received, so it holds the sandbox, the interpreter, the imports and the handler. A plain start is the same interpreter with the
same imports, started and ended without a platform.
`)
}

func ms(d time.Duration) string {
	v := float64(d) / float64(time.Millisecond)
	if v < 10 {
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

func verdict(met bool) string {
	if met {
		return "yes"
	}
	return "**no**"
}

func (f *findings) writeBudgets(w io.Writer) {
	fmt.Fprint(w, "## Budgets\n\n| what | measured | compared with | ratio | budget | met |\n|---|---:|---:|---:|---:|---|\n")
	for _, pair := range []struct{ function, relay string }{{"python-echo", "relay, Python"}, {"node-echo", "relay, Node"}} {
		function, relay := f.warm(pair.function), f.warm(pair.relay)
		ratio := float64(function.P50) / float64(relay.P50)
		fmt.Fprintf(w, "| warm p50, %s, 1 connection | %s ms | %s %s ms | %.2f | %.2f | %s |\n",
			function.Name, ms(function.P50), relay.Name, ms(relay.P50), ratio, warmBudget, verdict(ratio <= warmBudget))
	}
	for _, pair := range []struct{ function, relay string }{{"python-echo", "relay, Python"}, {"node-echo", "relay, Node"}} {
		function, relay := f.warm(pair.function), f.warm(pair.relay)
		ratio := function.PerSecond / relay.PerSecond
		fmt.Fprintf(w, "| warm throughput, %s, %d connections | %.0f/s | %s %.0f/s | %.2f | %.2f | %s |\n",
			function.Name, connections, function.PerSecond, relay.Name, relay.PerSecond, ratio, throughputBudget, verdict(ratio >= throughputBudget))
	}
	for i := range f.Cold {
		c := &f.Cold[i]
		if c.Example.Name != "go-lambda" {
			continue
		}
		took := time.Duration(c.Boot.Total.Median * float64(time.Millisecond))
		fmt.Fprintf(w, "| boot start, %s | %s ms | %s %s ms | %.2f | %s ms | %s |\n", c.Example.Name, ms(took), c.Example.Words, ms(c.Plain),
			float64(took)/float64(c.Plain), ms(goBootBudget), verdict(took <= goBootBudget))
	}
	for _, budget := range []struct {
		function string
		budget   time.Duration
	}{{"python-echo", 6 * time.Millisecond}, {"node-echo", 6 * time.Millisecond}, {"python-boto3", 10 * time.Millisecond}} {
		for i := range f.Cold {
			if c := &f.Cold[i]; c.Example.Name == budget.function {
				took := time.Duration(c.Fork.Total.Median * float64(time.Millisecond))
				fmt.Fprintf(w, "| fork start, %s | %s ms | %s %s ms | %.3f | %s ms | %s |\n", c.Example.Name, ms(took), c.Example.Words, ms(c.Plain),
					float64(took)/float64(c.Plain), ms(budget.budget), verdict(took <= budget.budget))
			}
		}
	}
	fmt.Fprintf(w, "| platform start, new data | %s ms | | | %s ms | %s |\n", ms(f.Start), ms(startBudget), verdict(f.Start <= startBudget))
	fmt.Fprintf(w, "| platform start, used data | %s ms | | | %s ms | %s |\n", ms(f.Restart), ms(startBudget), verdict(f.Restart <= startBudget))
	fmt.Fprintf(w, "| platform idle, resident | %.1f MB | with every example deployed and used %.1f MB | | %d MB | %s |\n\n",
		float64(f.IdleRSS)/(1<<20), float64(f.UsedRSS)/(1<<20), idleBudget>>20, verdict(f.IdleRSS <= idleBudget))
}

func (f *findings) writeWarm(w io.Writer) {
	fmt.Fprintf(w, "## Warm\n\n| what | p50 | p95 | p99 | calls/s, %d connections |\n|---|---:|---:|---:|---:|\n", connections)
	for i := range f.Warm {
		r := &f.Warm[i]
		fmt.Fprintf(w, "| %s | %s | %s | %s | %.0f |\n", r.Name, ms(r.P50), ms(r.P95), ms(r.P99), r.PerSecond)
	}
	fmt.Fprintln(w)
}

func (f *findings) writeCold(w io.Writer) {
	fmt.Fprint(w, "## Cold: booted\n\n")
	f.writeStarts(w, func(c *coldResult) *platform.Bench { return &c.Boot })
	fmt.Fprint(w, "## Cold: forked\n\nPython and Node from their templates. The others cannot be forked and are booted here too; their first requests get spares.\n\n")
	f.writeStarts(w, func(c *coldResult) *platform.Bench { return &c.Fork })
}

func (f *findings) writeStarts(w io.Writer, of func(*coldResult) *platform.Bench) {
	fmt.Fprint(w, "| function |")
	for phase := range thaw.NumPhases {
		fmt.Fprintf(w, " %s |", phase)
	}
	fmt.Fprint(w, " end to end | p95 | p99 | plain start of the same | ratio |\n|---|")
	fmt.Fprint(w, strings.Repeat("---:|", int(thaw.NumPhases)+5), "\n")
	for i := range f.Cold {
		c := &f.Cold[i]
		b := of(c)
		fmt.Fprintf(w, "| %s |", c.Example.Name)
		for phase := range thaw.NumPhases {
			if d, ok := b.Phases[phase.String()]; ok {
				fmt.Fprintf(w, " %.2f |", d.Median)
			} else {
				fmt.Fprint(w, " |")
			}
		}
		plain := float64(c.Plain) / float64(time.Millisecond)
		fmt.Fprintf(w, " %.1f | %.1f | %.1f | %.1f (`%s`) | %.2f |\n", b.Total.Median, b.Total.P95, b.Total.P99, plain, c.Example.Words, b.Total.Median/plain)
	}
	fmt.Fprintln(w)
}
