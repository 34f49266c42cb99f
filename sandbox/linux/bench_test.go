package linux

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"thaw/runtimes/extensions"
	"thaw/sandbox"
)

// BenchmarkStart is the time from Start to the first byte of a static Go program, with a spare at hand and without
// one, and what each step on the host's side took (the median, in µs; exec is everything inside pid 1).
func BenchmarkStart(b *testing.B) {
	needRoot(b)
	dir := buildGo(b, helloGo)
	spec := &sandbox.Spec{
		Args: []string{"/var/task/bootstrap"}, Dir: "/var/task", MemoryMB: 128, TmpMB: 512, Channel: true,
		Mounts: []sandbox.Mount{{Source: dir, Target: "/var/task"}},
	}
	for _, spares := range []int{0, 8} {
		b.Run(fmt.Sprintf("spares=%d", spares), func(b *testing.B) {
			d := open(b, func(c *Config) { c.Spares = spares; c.Network = sandbox.NetworkHost })
			var mu sync.Mutex
			steps := map[Step][]time.Duration{}
			d.observe = func(s Step, took time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				steps[s] = append(steps[s], took)
			}
			ctx, cancel := context.WithCancel(b.Context())
			var run sync.WaitGroup
			if spares > 0 {
				run.Go(func() { d.Run(ctx) })
			}
			defer run.Wait()
			defer cancel()
			var first, closed []time.Duration
			for b.Loop() {
				b.StopTimer()
				if !eventually(func() bool { return len(d.spares) == spares }) {
					b.Fatal("the spares are not made again")
				}
				b.StartTimer()
				began := time.Now()
				p, err := d.Start(ctx, spec)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(p.Channel(), make([]byte, 5)); err != nil {
					b.Fatal(err)
				}
				first = append(first, time.Since(began))
				b.StopTimer()
				began = time.Now()
				if err := p.Close(); err != nil {
					b.Fatal(err)
				}
				closed = append(closed, time.Since(began))
				b.StartTimer()
			}
			b.ReportMetric(float64(median(first).Microseconds()), "first-byte-µs")
			b.ReportMetric(float64(median(closed).Microseconds()), "close-µs")
			mu.Lock()
			defer mu.Unlock()
			for s := StepCgroup; s < numSteps; s++ {
				if len(steps[s]) > 0 {
					b.ReportMetric(float64(median(steps[s]).Nanoseconds())/1000, s.String()+"-µs")
				}
			}
		})
	}
}

// BenchmarkFreeze is one freeze and one thaw of an idle interpreter.
func BenchmarkFreeze(b *testing.B) {
	needRoot(b)
	d := open(b)
	p := start(b, d, python("print('up', flush=True); import time; time.sleep(10000)"))
	io.ReadFull(p.Output(), make([]byte, 2))
	var freeze, thaw []time.Duration
	for b.Loop() {
		t0 := time.Now()
		if err := p.Freeze(); err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		if err := p.Thaw(); err != nil {
			b.Fatal(err)
		}
		freeze, thaw = append(freeze, t1.Sub(t0)), append(thaw, time.Since(t1))
	}
	b.ReportMetric(float64(median(freeze).Nanoseconds())/1000, "freeze-µs")
	b.ReportMetric(float64(median(thaw).Nanoseconds())/1000, "thaw-µs")
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.(*process).shim.pid))
	b.Logf("pid 1:\n%s", status)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkInitListener is what every boot pays so that init may register an extension: the listener, the API on it, and
// their end. Nothing of it is left when init is over.
func BenchmarkInitListener(b *testing.B) {
	for b.Loop() {
		l, err := (&shim{id: 1}).listenIn(hostNetwork{})
		if err != nil {
			b.Fatal(err)
		}
		h := extensions.New(b.Context(), extensions.Config{Log: (&heard{}).Write})
		h.Serve(l)
		if err := h.Ready(b.Context()); err != nil || !h.Empty() {
			b.Fatal(err)
		}
		h.Close()
	}
}
