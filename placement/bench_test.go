package placement

import (
	"strconv"
	"sync/atomic"
	"testing"

	"thaw"
	"thaw/sandbox/sandboxtest"
)

// BenchmarkHandOut is the warm path, a take and a return without an invocation between them. Run it with -cpu 16 and
// -mutexprofile to see what requests wait for.
func BenchmarkHandOut(b *testing.B) {
	for _, functions := range []int{1, 16} {
		b.Run(strconv.Itoa(functions)+" functions", func(b *testing.B) {
			r := newRig(b, sandboxtest.Runtime{}, nil)
			versions := make([]*thaw.Version, functions)
			for n := range versions {
				versions[n] = r.deploy("f"+strconv.Itoa(n), "x", 1)
				var held []Lease
				for range 32 / functions {
					l := r.acquire(b, versions[n], false)
					l.Served++
					held = append(held, l)
				}
				for _, l := range held {
					r.Release(l)
				}
			}
			var next atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				v := versions[int(next.Add(1))%functions]
				for pb.Next() {
					if l, ok := r.Idle(v); ok {
						r.Release(l)
					}
				}
			})
		})
	}
}
