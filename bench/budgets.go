package main

import (
	_ "embed"
	"fmt"
	"io"
	"strings"
	"time"

	"thaw"
)

// The budgets, after the design's table; ratios are to what was measured in the same run.
const (
	warmBudget       = 1.25 // of the relay's p50
	throughputBudget = 0.5  // of the relay's calls a second
	binaryBudget     = 8 * time.Millisecond
	spareBudget      = 300 * time.Microsecond // above warm
	javaSpareBudget  = 5 * time.Millisecond
	javaBootBudget   = 0.7 // of the plain JVM's time
	forksBudget      = 300 // a second
	memoryBudget     = 2 << 20
	startBudget      = 150 * time.Millisecond
	idleBudget       = 60 << 20
)

// forkBudgets are the functions whose forks have a budget.
var forkBudgets = []struct {
	function string
	budget   time.Duration
}{
	{"python-echo", 6 * time.Millisecond}, {"node-echo", 6 * time.Millisecond},
	{"python-boto3", 10 * time.Millisecond}, {"node-s3", 10 * time.Millisecond},
}

// line is one budget and what was measured against it.
type line struct {
	what, measured, compared, ratio, budget string
	met                                     bool
	// start is the start that the budget is for, nil for another one: its phases say what a missed one spends its time on.
	start *started
}

func verdict(met bool) string {
	if met {
		return "yes"
	}
	return "**no**"
}

// budgets are the lines of the table, without those that nothing was measured for.
func (f *findings) budgets() (lines []line) {
	lines = append(lines, f.warmBudgets()...)
	lines = append(lines, f.startBudgets()...)
	for _, r := range f.Forks {
		lines = append(lines, line{
			what: "forks a second, " + r.Function, measured: fmt.Sprintf("%.0f/s", r.PerSecond), compared: fmt.Sprintf("plain starts %.1f/s", r.Plain),
			ratio: fmt.Sprintf("%.2f", r.PerSecond/r.Plain), budget: fmt.Sprintf("%d/s", forksBudget), met: r.PerSecond >= forksBudget,
		})
	}
	for _, m := range f.Memory {
		if m.Function != "python-echo" && m.Function != "node-echo" {
			continue
		}
		lines = append(lines, line{
			what: "idle environment after one event, " + m.Function, measured: mb(m.Served.whole()) + " MB", compared: "private pages alone " + mb(m.Served.Private) + " MB",
			budget: mb(memoryBudget) + " MB", met: m.Served.whole() <= memoryBudget,
		})
	}
	if f.Telemetry != nil {
		lines = append(lines, f.Telemetry.budgets()...)
	}
	if f.Start > 0 {
		lines = append(lines,
			line{what: "platform start, new data", measured: ms(f.Start) + " ms", budget: ms(startBudget) + " ms", met: f.Start <= startBudget},
			line{what: "platform start, used data", measured: ms(f.Restart) + " ms", budget: ms(startBudget) + " ms", met: f.Restart <= startBudget})
	}
	if f.IdleRSS > 0 {
		l := line{what: "platform idle, resident", measured: fmt.Sprintf("%.1f MB", float64(f.IdleRSS)/(1<<20)), budget: fmt.Sprintf("%d MB", idleBudget>>20), met: f.IdleRSS <= idleBudget}
		if f.UsedRSS > 0 {
			l.compared = fmt.Sprintf("with every example deployed and used %.1f MB", float64(f.UsedRSS)/(1<<20))
		}
		lines = append(lines, l)
	}
	return lines
}

func (f *findings) warmBudgets() (lines []line) {
	if len(f.Warm) == 0 {
		return nil
	}
	pairs := []struct{ function, relay string }{{"python-echo", "relay, Python"}, {"node-echo", "relay, Node"}}
	for _, pair := range pairs {
		function, relay := f.warm(pair.function), f.warm(pair.relay)
		r := float64(function.P50) / float64(relay.P50)
		lines = append(lines, line{
			what: "warm p50, " + function.Name + ", 1 connection", measured: ms(function.P50) + " ms", compared: relay.Name + " " + ms(relay.P50) + " ms",
			ratio: fmt.Sprintf("%.2f", r), budget: fmt.Sprintf("%.2f", warmBudget), met: r <= warmBudget,
		})
	}
	for _, pair := range pairs {
		function, relay := f.warm(pair.function), f.warm(pair.relay)
		r := function.PerSecond / relay.PerSecond
		lines = append(lines, line{
			what: fmt.Sprintf("warm throughput, %s, %d connections", function.Name, connections), measured: fmt.Sprintf("%.0f/s", function.PerSecond),
			compared: fmt.Sprintf("%s %.0f/s", relay.Name, relay.PerSecond), ratio: fmt.Sprintf("%.2f", r), budget: fmt.Sprintf("%.2f", throughputBudget), met: r >= throughputBudget,
		})
	}
	return lines
}

func (f *findings) startBudgets() (lines []line) {
	// add compares one kind of start with the plain one.
	add := func(kind thaw.StartKind, function string, budget time.Duration) {
		r := f.starts(function)
		took, plain := r.p50(kind), r.p50(kindPlain)
		if took == 0 {
			return
		}
		lines = append(lines, line{
			what: fmt.Sprintf("%s start, %s", kind, function), measured: ms(took) + " ms", compared: "`" + r.Example.Words + "` " + ms(plain) + " ms",
			ratio: ratio(took, plain), budget: ms(budget) + " ms", met: took <= budget, start: r.Kinds[kind],
		})
	}
	for _, function := range []string{"python-echo", "node-echo"} {
		r := f.starts(function)
		spare, warm := r.p50(thaw.StartSpare), r.p50(thaw.StartWarm)
		if spare == 0 || warm == 0 {
			continue
		}
		lines = append(lines, line{
			what: "spare start, " + function, measured: ms(spare) + " ms", compared: "warm, called in the same way " + ms(warm) + " ms", ratio: ratio(spare, warm),
			budget: ms(spareBudget) + " ms above warm", met: spare-warm <= spareBudget, start: r.Kinds[thaw.StartSpare],
		})
	}
	for _, b := range forkBudgets {
		add(thaw.StartFork, b.function, b.budget)
	}
	for _, function := range []string{"go-lambda", "rust-hello"} {
		add(thaw.StartBoot, function, binaryBudget)
	}
	add(thaw.StartSpare, "java-hello", javaSpareBudget)
	for _, function := range []string{"java-hello", "java-gson"} {
		r := f.starts(function)
		boot, plain := r.p50(thaw.StartBoot), r.p50(kindPlain)
		if boot == 0 {
			continue
		}
		lines = append(lines, line{
			what: "boot start, " + function, measured: ms(boot) + " ms", compared: "`" + r.Example.Words + "` " + ms(plain) + " ms", ratio: ratio(boot, plain),
			budget: fmt.Sprintf("%.2f", javaBootBudget), met: float64(boot) <= javaBootBudget*float64(plain), start: r.Kinds[thaw.StartBoot],
		})
	}
	return lines
}

func (f *findings) writeBudgets(w io.Writer) {
	fmt.Fprint(w, "## Budgets\n\n| what | measured | compared with | ratio | budget | met |\n|---|---:|---:|---:|---:|---|\n")
	for _, l := range f.budgets() {
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", l.what, l.measured, l.compared, l.ratio, l.budget, verdict(l.met))
	}
	fmt.Fprintln(w)
}

// tried is what was done about budgets that are or were missed, kept by hand.
//
//go:embed tried.md
var tried string

// writeMissed says phase by phase what takes the time of the starts that are over their budget.
func (f *findings) writeMissed(w io.Writer) {
	var missed []line
	for _, l := range f.budgets() {
		if !l.met {
			missed = append(missed, l)
		}
	}
	if len(missed) == 0 {
		return
	}
	fmt.Fprint(w, "## What is missed, and why\n\n")
	for _, l := range missed {
		fmt.Fprintf(w, "- %s: %s, of a budget of %s.", l.what, l.measured, l.budget)
		if l.start != nil {
			fmt.Fprintf(w, " Of the time, in ms: %s.", spent(l.start))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(tried))
	fmt.Fprintln(w)
}

// spent lists the phases of a start with their medians, those too short to matter left out; what is in no phase is HTTP.
func spent(s *started) string {
	const worthTelling = 20 * time.Microsecond
	var parts []string
	rest := s.Took.percentile(50)
	for phase := range thaw.NumPhases {
		d := s.Phases[phase]
		rest -= d
		if d >= worthTelling {
			parts = append(parts, fmt.Sprintf("%s %.2f", phase, float64(d)/float64(time.Millisecond)))
		}
	}
	return strings.Join(append(parts, fmt.Sprintf("the rest %.2f", float64(max(rest, 0))/float64(time.Millisecond))), ", ")
}
