package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"thaw"
)

// writePlane writes what the platform does under load, bursts aside.
func (f *findings) writePlane(w io.Writer) {
	if r := f.Arrivals; r != nil {
		r.write(w)
	}
	if r := f.Idle; r != nil {
		fmt.Fprintf(w, "## %d idle environments\n\nForks of %s that have each answered one event. `environments.max` is 1,500 and `environments.memory` 100 GB.\n\n"+
			"| what | by itself | beside them | ratio |\n|---|---:|---:|---:|\n", r.Environments, r.Function)
		fmt.Fprintf(w, "| warm p50 of another function, %d calls | %s | %s | %s |\n", r.Calls, ms(r.Before.P50), ms(r.With.P50), ratio(r.With.P50, r.Before.P50))
		fmt.Fprintf(w, "| warm p99 of another function | %s | %s | %s |\n\n", ms(r.Before.P99), ms(r.With.P99), ratio(r.With.P99, r.Before.P99))
		fmt.Fprintf(w, "Each environment holds %s MB: %s MB of private pages and %s MB of the kernel's. The times are medians of %d rounds.\n\n",
			mb(r.Each.whole()), mb(r.Each.Private), mb(r.Each.Kernel), heldRounds)
	}
	if r := f.Step; r != nil && len(r.Needed) > 0 {
		fmt.Fprintf(w, "## From a step of load to provisioned capacity\n\nTarget tracking at %.1f between %d and %d, `fidelity: prompt`. From one instant on, %d requests are in flight to a function of %s. "+
			"Until the\ncapacity is there, what it lacks is served on demand. Seconds since the step, %d runs.\n\n| available | median | longest |\n|---|---:|---:|\n",
			stepTarget, stepMin, stepMax, stepLoad, sleeps, len(r.Needed))
		for _, mark := range []struct {
			what string
			took latencies
		}{
			{fmt.Sprintf("%d: the first of more", stepMin+1), r.First},
			{fmt.Sprintf("%d: one for each in flight", stepLoad), r.Load},
			{fmt.Sprintf("%d: what the target asks for", stepNeeds), r.Needed},
		} {
			fmt.Fprintf(w, "| %s | %.2f | %.2f |\n", mark.what, mark.took.percentile(50).Seconds(), mark.took.percentile(100).Seconds())
		}
		fmt.Fprintf(w, "\nOf the %d invocations until then %.0f%% were served on demand.\n\n", r.Calls, 100*float64(r.Spilled)/float64(max(r.Calls, 1)))
	}
	f.writeWaits(w)
}

func (r *arrivalsResult) write(w io.Writer) {
	all := &r.All
	if len(all.Added) == 0 {
		return
	}
	fmt.Fprintf(w, "## Arrivals\n\n%.0f/s on average, as a Poisson process, for %s, over %d functions of %s and %d MB whose popularity falls as 1/k^%.1f (Zipf; seed %d), none of\nwhich has run before. "+
		"Times are what the platform added. The settings are the defaults.\n\n", r.PerSecond, r.Length, r.Functions, sleeps, sleepMemory, arrivalSkew, arrivalSeed)
	kinds := []thaw.StartKind{thaw.StartWarm, thaw.StartSpare, thaw.StartFork, thaw.StartBoot}
	fmt.Fprint(w, "| requests | count | p50 | p99 | cold p50 | cold p99 |")
	for _, kind := range kinds {
		fmt.Fprintf(w, " %s |", kind)
	}
	fmt.Fprint(w, " cold | refused |\n|---|", strings.Repeat("---:|", 7+len(kinds)), "\n")
	for _, row := range []struct {
		what string
		s    *served
	}{{"all", all}, {"of the second half", &r.Later}} {
		s := row.s
		if len(s.Added) == 0 {
			continue
		}
		fmt.Fprintf(w, "| %s | %d | %s | %s |", row.what, s.count(), ms(s.Added.percentile(50)), ms(s.Added.percentile(99)))
		if len(s.Cold) > 0 {
			fmt.Fprintf(w, " %s | %s |", ms(s.Cold.percentile(50)), ms(s.Cold.percentile(99)))
		} else {
			fmt.Fprint(w, " | |")
		}
		for _, kind := range kinds {
			fmt.Fprintf(w, " %d (%.2f%%) |", s.Kinds[kind], s.share(kind))
		}
		fmt.Fprintf(w, " %.2f%% | %d |\n", 100*float64(len(s.Cold))/float64(len(s.Added)), s.Refused)
	}
	fmt.Fprintf(w, "\nCPU time of an invocation: %s ms of the platform's process, %s ms of all processes below it, starts and spares included. "+
		"At the end\nthere are %d environments, which hold %.0f MB with everything else below the platform (templates, spares, the kernel's part), and the\nplatform's process %.0f MB.\n\n",
		ms(r.PlatformCPU), ms(r.BelowCPU), r.Environments, float64(r.Memory.whole())/(1<<20), float64(r.PlatformRSS)/(1<<20))
}

func (f *findings) writeWaits(w io.Writer) {
	if len(f.Waits) == 0 {
		return
	}
	fmt.Fprintf(w, "## Waiting for locks\n\nGo's mutex profile of the path from a permit to an environment and back: callers of one function, whose environments are goroutines that\n"+
		"answer at once, so that nothing but this path is left. With slow system calls, each call of the driver (start, freeze, thaw, kill, close)\n"+
		"takes %s and environments are frozen as soon as they are idle: a lock held over such a call would make others wait for about as long.\n\n"+
		"| system calls | callers | invocations | driver calls | waited, ns per invocation | held by | waits | mean wait, µs |\n|---|---:|---:|---:|---:|---|---:|---:|\n", slowCall)
	for i := range f.Waits {
		c := &f.Waits[i]
		what := "at once"
		if c.Slow {
			what = "slow"
		}
		fmt.Fprintf(w, "| %s | %d | %d | %d | %d |", what, c.Callers, c.Invocations, c.DriverCalls, c.each().Nanoseconds())
		if len(c.Holders) == 0 {
			fmt.Fprint(w, " nobody | 0 | |\n")
		}
		for j, h := range c.Holders[:min(len(c.Holders), topHolders)] {
			if j > 0 {
				fmt.Fprint(w, "| | | | | |")
			}
			fmt.Fprintf(w, " `%s` | %d | %.1f |\n", h.Name, h.Count, float64(h.Waited)/float64(h.Count)/float64(time.Microsecond))
		}
	}
	fmt.Fprintln(w)
}
