package linux

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// heavy are functions by what their start costs.
var heavy = map[string]function{
	"python":       hello("python3.11", "import json, logging"),
	"python-boto3": hello("python3.11", "import boto3\ns = boto3.client('s3', region_name='us-east-1')"),
	"node":         hello("nodejs20.x", ""),
	"ruby":         hello("ruby3.2", "require 'json'"),
}

// BenchmarkFork is the time from Fork to the runtime's ready frame, one after the other and eight at a time; what each step took (the
// median, in µs); and the memory that an idle environment has for itself: its cgroup's, the kernel's share included.
func BenchmarkFork(b *testing.B) {
	needRoot(b)
	for name, f := range heavy {
		for _, parallel := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/parallel=%d", name, parallel), func(b *testing.B) {
				d := open(b)
				p := park(b, d, specOf(b, f))
				steps := map[Step][]time.Duration{}
				var mu sync.Mutex
				d.observe = func(s Step, took time.Duration) {
					mu.Lock()
					defer mu.Unlock()
					steps[s] = append(steps[s], took)
				}
				var ready []time.Duration
				var memory []time.Duration // bytes
				var group sync.WaitGroup
				slots := make(chan struct{}, parallel)
				began := time.Now()
				for b.Loop() {
					slots <- struct{}{}
					group.Go(func() {
						defer func() { <-slots }()
						t0 := time.Now()
						c, err := forkOne(context.Background(), p)
						if err != nil {
							b.Error(err)
							return
						}
						took := time.Since(t0)
						var used uint64
						if g, ok := c.Process.(*forked).shim.group.(*legacyGroup); ok && parallel == 1 {
							f, _ := os.Open(g.memory + "/memory.usage_in_bytes")
							used = counter(f)
							f.Close()
						}
						mu.Lock()
						ready, memory = append(ready, took), append(memory, time.Duration(used))
						mu.Unlock()
						c.Close()
					})
				}
				group.Wait()
				b.ReportMetric(float64(len(ready))/time.Since(began).Seconds(), "forks/s")
				slices.Sort(ready)
				b.ReportMetric(float64(ready[len(ready)/2].Microseconds()), "ready-p50-µs")
				b.ReportMetric(float64(ready[len(ready)*99/100].Microseconds()), "ready-p99-µs")
				if parallel > 1 {
					return
				}
				b.ReportMetric(float64(median(memory))/1024, "memory-KiB")
				for s := StepForkThaw; s < endForkSteps; s++ {
					if len(steps[s]) > 0 {
						b.ReportMetric(float64(median(steps[s]).Nanoseconds())/1000, forkStepNames[s-numSteps]+"-µs")
					}
				}
			})
		}
	}
}
