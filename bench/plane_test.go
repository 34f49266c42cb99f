package main

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"thaw"
)

func TestPoissonArrivals(t *testing.T) {
	const perSecond, functions, skew = 200.0, 50, 1.1
	all := poissonArrivals(1, perSecond, time.Minute, functions, skew)
	if again := poissonArrivals(1, perSecond, time.Minute, functions, skew); !slices.Equal(all, again) {
		t.Error("the same seed gives other arrivals")
	}
	if other := poissonArrivals(2, perSecond, time.Minute, functions, skew); slices.Equal(all, other) {
		t.Error("another seed gives the same arrivals")
	}
	// The number is Poisson's, whose deviation is the root of its mean; five of them are beyond chance.
	if want := perSecond * 60; math.Abs(float64(len(all))-want) > 5*math.Sqrt(want) {
		t.Errorf("%d arrivals, want about %.0f", len(all), want)
	}
	// The gaps are exponential: their deviation is their mean, and 1-1/e of them are below it.
	var sum, squares float64
	short := 0
	for i := 1; i < len(all); i++ {
		gap := (all[i].At - all[i-1].At).Seconds()
		if gap < 0 {
			t.Fatalf("arrival %d comes before the one before it", i)
		}
		sum, squares = sum+gap, squares+gap*gap
		if gap < 1/perSecond {
			short++
		}
	}
	n := float64(len(all) - 1)
	mean := sum / n
	if deviation := math.Sqrt(squares/n - mean*mean); math.Abs(deviation/mean-1) > 0.1 {
		t.Errorf("gaps of %.6f s on average deviate by %.6f s", mean, deviation)
	}
	if share := float64(short) / n; math.Abs(share-(1-1/math.E)) > 0.03 {
		t.Errorf("%.3f of the gaps are below the mean", share)
	}
	// Popularity: each function's share is that of 1/k^skew.
	counts := make([]int, functions)
	for _, a := range all {
		counts[a.Function]++
	}
	whole := 0.0
	for k := 1; k <= functions; k++ {
		whole += math.Pow(float64(k), -skew)
	}
	for _, k := range []int{1, 2, 10, functions} {
		want := float64(len(all)) * math.Pow(float64(k), -skew) / whole
		if got := float64(counts[k-1]); math.Abs(got-want) > 5*math.Sqrt(want) {
			t.Errorf("function %d has %.0f arrivals, want about %.0f", k, got, want)
		}
	}
}

func TestServed(t *testing.T) {
	s := served{Kinds: map[thaw.StartKind]int{}}
	s.add(false, thaw.StartWarm, 2)
	s.add(false, thaw.StartFork, 1)
	s.add(true, "", 9)
	s.sort()
	if s.count() != 3 || s.Refused != 1 || !slices.Equal(s.Added, latencies{1, 2}) || !slices.Equal(s.Cold, latencies{1}) || s.share(thaw.StartFork) != 50 {
		t.Errorf("%+v", s)
	}
}

func TestCPUTimes(t *testing.T) {
	own, reaped, err := processCPU([]byte("12 (a ) b) S 1 12 12 0 -1 4194560 5 6 7 8 150 50 3 4 20 0 9\n"))
	if err != nil || own != 2*time.Second || reaped != 70*time.Millisecond {
		t.Errorf("%s and %s, %v", own, reaped, err)
	}
	if _, _, err := processCPU([]byte("12 (a) S 1")); err == nil {
		t.Error("too short a line is taken")
	}
	if got := threadCPU([]byte("1500 20 3\n")); got != 1500 {
		t.Errorf("%s", got)
	}
	// 1 went on, 2 is new, and 3 has ended after 5 more.
	platform, below := spentCPU{platform: 5, below: map[int]time.Duration{1: 7, 2: 3}, reaped: 125}.since(
		spentCPU{platform: 2, below: map[int]time.Duration{1: 4, 3: 100}, reaped: 20})
	if platform != 3 || below != 3+3+5 {
		t.Errorf("%d and %d", platform, below)
	}
}

func TestHolderIn(t *testing.T) {
	for want, stack := range map[string][]string{
		"placement.(*fleet).take":                                  {"sync.(*Mutex).Unlock", "thaw/placement.(*fleet).take", "thaw/placement.(*Placer).Idle"},
		"invoke.(*Invoker).Invoke in Go's runtime":                 {"runtime.unlock", "runtime.mallocgc", "thaw/invoke.(*Invoker).Invoke", "main.f"},
		"invoke.(*Invoker).acquire in context.(*cancelCtx).cancel": {"sync.(*Mutex).Unlock", "context.(*cancelCtx).cancel", "thaw/invoke.(*Invoker).acquire", "main.f"},
	} {
		if got := holderIn(stack); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, stack := range [][]string{nil, {"runtime.unlock", "main.main"}, {"sync.(*Mutex).Unlock", "thaw/sandbox/sandboxtest.(*process).send", "thaw/sandbox.(*Environment).Invoke"}} {
		if got := holderIn(stack); got != "" {
			t.Errorf("%v: %q", stack, got)
		}
	}
}

// TestContention looks for what must be there whatever the machine: calls that were made, slow ones among them.
func TestContention(t *testing.T) {
	for _, slow := range []bool{false, true} {
		c, err := contend(t.Context(), slow, 100*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		// Without slow calls a start that was ordered while warming up may still come in, so their absence is not asked for.
		if c.Invocations == 0 || slow && c.DriverCalls == 0 {
			t.Errorf("slow %t: %d invocations, %d calls of the driver", slow, c.Invocations, c.DriverCalls)
		}
	}
}

func TestPageOfPlane(t *testing.T) {
	const milli = time.Millisecond
	all := served{Added: latencies{1 * milli, 3 * milli}, Cold: latencies{3 * milli}, Kinds: map[thaw.StartKind]int{thaw.StartWarm: 1, thaw.StartFork: 1}, Refused: 1}
	got := page(&findings{
		Bursts: []burst{{Function: "python-sleep", Size: 2, Works: sleeps, Took: latencies{1 * milli, 2 * milli}, Kinds: map[thaw.StartKind]int{thaw.StartFork: 2}}},
		Arrivals: &arrivalsResult{
			Functions: 50, PerSecond: 200, Length: time.Minute, All: all, Later: served{Added: latencies{milli}, Kinds: map[thaw.StartKind]int{thaw.StartWarm: 1}},
			PlatformCPU: milli / 2, BelowCPU: 2 * milli, PlatformRSS: 100 << 20, Environments: 70, Memory: footprint{Private: 200 << 20, Kernel: 100 << 20},
		},
		Idle: &idleResult{Function: "python-echo", Environments: 1000, Each: footprint{Private: 1 << 20, Kernel: 1 << 19}, Calls: 7,
			Before: warmResult{P50: milli, P99: 2 * milli}, With: warmResult{P50: milli * 11 / 10, P99: 3 * milli}},
		Step: &stepResult{First: latencies{time.Second}, Load: latencies{4 * time.Second}, Needed: latencies{5 * time.Second, 6 * time.Second}, Calls: 200, Spilled: 50},
		Waits: []contention{
			{Callers: 16, Invocations: 1000, Holders: []holder{{"a.b", 10, 30 * time.Microsecond}, {"c.d", 5, 10 * time.Microsecond}}},
			{Slow: true, Callers: 16, Invocations: 20, DriverCalls: 30},
		},
	})
	for _, want := range []string{
		"| python-sleep (100ms) | 2 | 1.000 | 2.000 | 2.000 | 0 | 2 | 0 | 0 | 0 |",
		"200/s on average, as a Poisson process, for 1m0s, over 50 functions of 100ms and 128 MB",
		"| all | 3 | 1.000 | 3.000 | 3.000 | 3.000 | 1 (50.00%) | 0 (0.00%) | 1 (50.00%) | 0 (0.00%) | 50.00% | 1 |\n| of the second half | 1 | 1.000 | 1.000 | | | 1 (100.00%) |",
		"CPU time of an invocation: 0.500 ms of the platform's process, 2.000 ms of all processes below it",
		"there are 70 environments, which hold 300 MB", "process 100 MB.",
		"## 1000 idle environments", "| warm p50 of another function, 7 calls | 1.000 | 1.100 | 1.100 |\n| warm p99 of another function | 2.000 | 3.000 | 1.500 |",
		"Each environment holds 1.50 MB: 1.00 MB of private pages and 0.50 MB of the kernel's.",
		"| 2: the first of more | 1.00 | 1.00 |\n| 8: one for each in flight | 4.00 | 4.00 |\n| 10: what the target asks for | 5.00 | 6.00 |",
		"Of the 200 invocations until then 25% were served on demand.",
		"| at once | 16 | 1000 | 0 | 40 | `a.b` | 10 | 3.0 |\n| | | | | | `c.d` | 5 | 2.0 |\n| slow | 16 | 20 | 30 | 0 | nobody | 0 | |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if got := page(&findings{Arrivals: &arrivalsResult{}, Step: &stepResult{}}); strings.Contains(got, "NaN") || strings.Contains(got, "## Arrivals") || strings.Contains(got, "## From a step") {
		t.Errorf("nothing was measured, but:\n%s", got)
	}
}
