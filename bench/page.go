package main

import (
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"thaw"
)

// write writes the page in Markdown.
func (f *findings) write(w io.Writer) {
	fmt.Fprint(w, "# Benchmarks\n\nWritten by `make bench`; do not edit. Times in milliseconds.\n\n")
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
	f.writeMissed(w)
	f.writeWarm(w)
	f.writeStarts(w)
	f.writePhases(w, thaw.StartBoot, "Cold: booted", "On a platform without templates and spares.")
	f.writePhases(w, thaw.StartFork, "Cold: forked", "From the version's template. A runtime that is not here cannot be forked; its first requests get spares.")
	f.writeMemory(w)
	f.writeForks(w)
	f.writeBursts(w)
	f.writePlane(w)
	f.writeEvents(w)
	f.writeTelemetry(w)
	fmt.Fprint(w, method)
}

// method ends the page.
//
//go:embed method.md
var method string

func ms(d time.Duration) string {
	v := float64(d) / float64(time.Millisecond)
	if v < 10 {
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

func (f *findings) writeWarm(w io.Writer) {
	if len(f.Warm) == 0 {
		return
	}
	fmt.Fprintf(w, "## Warm\n\nOne connection; medians over the rounds.\n\n| what | p50 | p95 | p99 | calls/s, %d connections |\n|---|---:|---:|---:|---:|\n", connections)
	for i := range f.Warm {
		r := &f.Warm[i]
		fmt.Fprintf(w, "| %s | %s | %s | %s | %.0f |\n", r.Name, ms(r.P50), ms(r.P95), ms(r.P99), r.PerSecond)
	}
	fmt.Fprintln(w)
}

// writeStarts writes every kind of start of every function.
func (f *findings) writeStarts(w io.Writer) {
	if len(f.Starts) == 0 {
		return
	}
	fmt.Fprint(w, "## Starts\n\nFrom the first byte sent to the last byte received over HTTP. The ratio is of the medians, to the plain start of the same.\n\n"+
		"| function | start | starts | p50 | p95 | p99 | ratio |\n|---|---|---:|---:|---:|---:|---:|\n")
	for i := range f.Starts {
		r := &f.Starts[i]
		name, plain := r.Example.Name, r.p50(kindPlain)
		for _, kind := range kinds {
			s := r.Kinds[kind]
			if s == nil || len(s.Took) == 0 {
				continue
			}
			words := string(kind)
			if kind == kindPlain {
				words += " (`" + r.Example.Words + "`)"
			}
			fmt.Fprintf(w, "| %s | %s | %d%s | %s | %s | %s | %s |\n", name, words, len(s.Took), othersOf(s.Other),
				ms(s.Took.percentile(50)), ms(s.Took.percentile(95)), ms(s.Took.percentile(99)), ratio(s.Took.percentile(50), plain))
			name = ""
		}
	}
	fmt.Fprintln(w)
}

// othersOf names the starts that came to be in another way than was asked for.
func othersOf(others map[thaw.StartKind]int) (text string) {
	for _, kind := range kinds {
		if n := others[kind]; n > 0 {
			text += fmt.Sprintf(", and %d %s", n, kind)
		}
	}
	return text
}

func ratio(a, b time.Duration) string {
	if b == 0 {
		return ""
	}
	return fmt.Sprintf("%.3f", float64(a)/float64(b))
}

// writePhases writes where one kind of start spends its time.
func (f *findings) writePhases(w io.Writer, kind thaw.StartKind, title, words string) {
	if !slices.ContainsFunc(f.Starts, func(r startResult) bool { return r.p50(kind) > 0 }) {
		return
	}
	fmt.Fprintf(w, "## %s\n\n%s Medians of each phase.\n\n| function |", title, words)
	for phase := range thaw.NumPhases {
		fmt.Fprintf(w, " %s |", phase)
	}
	fmt.Fprint(w, " end to end | plain start of the same | ratio |\n|---|", strings.Repeat("---:|", int(thaw.NumPhases)+3), "\n")
	for i := range f.Starts {
		r := &f.Starts[i]
		if r.p50(kind) == 0 {
			continue
		}
		fmt.Fprintf(w, "| %s |", r.Example.Name)
		for phase := range thaw.NumPhases {
			if d := r.Kinds[kind].Phases[phase]; d > 0 {
				fmt.Fprintf(w, " %.2f |", float64(d)/float64(time.Millisecond))
			} else {
				fmt.Fprint(w, " |")
			}
		}
		fmt.Fprintf(w, " %s | %s | %s |\n", ms(r.p50(kind)), ms(r.p50(kindPlain)), ratio(r.p50(kind), r.p50(kindPlain)))
	}
	fmt.Fprintln(w)
}

func mb(n int64) string { return fmt.Sprintf("%.2f", float64(n)/(1<<20)) }

func (f *findings) writeMemory(w io.Writer) {
	if len(f.Memory) == 0 {
		return
	}
	fmt.Fprint(w, "## Memory of an idle environment\n\nMB each. Private are the private pages of its processes, kernel is the kernel's own memory for it, its /tmp included.\n\n"+
		"| function | environments | fresh: private | kernel | after one event: private | kernel |\n|---|---:|---:|---:|---:|---:|\n")
	for _, m := range f.Memory {
		fmt.Fprintf(w, "| %s | %d | %s | %s | %s | %s |\n", m.Function, m.Environments, mb(m.Fresh.Private), mb(m.Fresh.Kernel), mb(m.Served.Private), mb(m.Served.Kernel))
	}
	fmt.Fprintln(w)
}

func (f *findings) writeForks(w io.Writer) {
	if len(f.Forks) == 0 {
		return
	}
	fmt.Fprintf(w, "## Forks, sustained\n\n%d connections ask for a new environment each time; it serves the event and ends.\n\n"+
		"| function | for | forks/s | other starts | refused | plain starts/s | ratio |\n|---|---:|---:|---:|---:|---:|---:|\n", forkConnections)
	for _, r := range f.Forks {
		fmt.Fprintf(w, "| %s | %s | %.0f | %d | %d | %.1f | %.2f |\n", r.Function, r.Length, r.PerSecond, r.Other, r.Refused, r.Plain, r.PerSecond/r.Plain)
	}
	fmt.Fprintln(w)
}

func (f *findings) writeBursts(w io.Writer) {
	if len(f.Bursts) == 0 {
		return
	}
	fmt.Fprint(w, "## Bursts\n\nSimultaneous first requests to a function that was just deployed and has two spares. An environment that has answered is free for the "+
		"next\nrequest of the burst, hence the warm ones. Where the handler does something, the times are without that: they are what the platform added.\n\n"+
		"| function | at once | p50 | p99 | max | spare | fork | boot | warm | refused | max ÷ plain start |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for i := range f.Bursts {
		b := &f.Bursts[i]
		name := b.Function
		if b.Works > 0 {
			name += fmt.Sprintf(" (%s)", b.Works)
		}
		fmt.Fprintf(w, "| %s | %d |", name, b.Size)
		if len(b.Took) == 0 {
			fmt.Fprint(w, " | | |")
		} else {
			fmt.Fprintf(w, " %s | %s | %s |", ms(b.Took.percentile(50)), ms(b.Took.percentile(99)), ms(b.Took.percentile(100)))
		}
		for _, kind := range []thaw.StartKind{thaw.StartSpare, thaw.StartFork, thaw.StartBoot, thaw.StartWarm} {
			fmt.Fprintf(w, " %d |", b.Kinds[kind])
		}
		worst := time.Duration(0)
		if len(b.Took) > 0 {
			worst = b.Took.percentile(100)
		}
		fmt.Fprintf(w, " %d | %s |\n", b.Refused, ratio(worst, f.starts(b.Function).p50(kindPlain)))
	}
	fmt.Fprintln(w)
}
