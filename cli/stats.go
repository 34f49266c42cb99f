package cli

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"thaw"
)

// distribution describes measured lengths of time, in milliseconds.
type distribution struct {
	Count  int     `json:"count"`
	Mean   float64 `json:"mean_ms"`
	Median float64 `json:"median_ms"`
	Min    float64 `json:"min_ms"`
	Max    float64 `json:"max_ms"`
	StdDev float64 `json:"stddev_ms"` // of the sample: n-1
	P95    float64 `json:"p95_ms"`
	P99    float64 `json:"p99_ms"`
}

// distribute describes values, which it sorts. Percentiles are by nearest rank: each is a value that was measured.
func distribute(values []time.Duration) distribution {
	n := len(values)
	if n == 0 {
		return distribution{}
	}
	slices.Sort(values)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	var sum float64
	for _, v := range values {
		sum += ms(v)
	}
	mean := sum / float64(n)
	var squares float64
	for _, v := range values {
		squares += (ms(v) - mean) * (ms(v) - mean)
	}
	d := distribution{
		Count: n, Mean: mean, Min: ms(values[0]), Max: ms(values[n-1]),
		P95: ms(rank(values, 95)), P99: ms(rank(values, 99)),
		Median: (ms(values[(n-1)/2]) + ms(values[n/2])) / 2,
	}
	if n > 1 {
		d.StdDev = math.Sqrt(squares / float64(n-1))
	}
	return d
}

// rank is the nearest-rank percentile of sorted values.
func rank(sorted []time.Duration, percent int) time.Duration {
	i := (len(sorted)*percent + 99) / 100
	return sorted[max(i, 1)-1]
}

// benchResult is what a benchmark found.
type benchResult struct {
	Version     int                     `json:"version"`
	Mode        string                  `json:"mode"`
	Function    string                  `json:"function"`
	Concurrency int                     `json:"concurrency"`
	Elapsed     float64                 `json:"elapsed_ms"`
	PerSecond   float64                 `json:"per_second"`
	Errors      int                     `json:"errors"`
	FirstError  string                  `json:"first_error,omitempty"`
	Starts      map[string]int          `json:"starts"` // by "kind" or "kind cause"
	Total       distribution            `json:"total"`
	Phases      map[string]distribution `json:"phases"`
}

// summarise describes the samples that did not fail; a phase is described over the samples in which it took time.
func summarise(mode, function string, concurrency int, samples []sample, elapsed time.Duration) *benchResult {
	r := &benchResult{
		Version: jsonVersion, Mode: mode, Function: function, Concurrency: concurrency,
		Elapsed: float64(elapsed) / float64(time.Millisecond),
		Starts:  map[string]int{}, Phases: map[string]distribution{},
	}
	var total []time.Duration
	phases := map[string][]time.Duration{}
	for i := range samples {
		s := &samples[i]
		if s.err != nil {
			if r.Errors++; r.FirstError == "" {
				r.FirstError = s.err.Error()
			}
			continue
		}
		total = append(total, s.took)
		if s.inv == nil {
			continue
		}
		r.Starts[strings.TrimSpace(string(s.inv.StartKind)+" "+string(s.inv.Cause))]++
		for phase, us := range s.inv.Phases {
			if us > 0 {
				phases[phase] = append(phases[phase], time.Duration(us)*time.Microsecond)
			}
		}
	}
	r.Total = distribute(total)
	r.PerSecond = float64(r.Total.Count) / elapsed.Seconds()
	for phase, values := range phases {
		r.Phases[phase] = distribute(values)
	}
	return r
}

func (r *benchResult) write(w io.Writer) error {
	fmt.Fprintf(w, "%s %s: %d invocations, %d at once, %.0f per second, %d errors\n",
		r.Mode, r.Function, r.Total.Count+r.Errors, r.Concurrency, r.PerSecond, r.Errors)
	for _, kind := range slices.Sorted(maps.Keys(r.Starts)) {
		fmt.Fprintf(w, "  %5d x %s\n", r.Starts[kind], kind)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "ms\tcount\tmean\tmedian\tmin\tmax\tstddev\tp95\tp99\t")
	line := func(name string, d distribution) {
		fmt.Fprintf(t, "%s\t%d\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t\n", name, d.Count, d.Mean, d.Median, d.Min, d.Max, d.StdDev, d.P95, d.P99)
	}
	line("end to end", r.Total)
	for phase := range thaw.NumPhases {
		if d, ok := r.Phases[phase.String()]; ok {
			line(phase.String(), d)
		}
	}
	return t.Flush()
}
