package network

import (
	"context"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func openForBench(b *testing.B, cfg Config) *Pool {
	b.Helper()
	needHost(b)
	cfg.Instance, cfg.Dir = "bench", b.TempDir()
	p, err := Open(context.Background(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := p.Close(); err != nil {
			b.Error(err)
		}
	})
	return p
}

func benchCreate(b *testing.B, cfg Config) {
	p := openForBench(b, cfg)
	var made []*netns
	for b.Loop() {
		ns, err := p.host.create(uint32(len(made)))
		if err != nil {
			b.Fatal(err)
		}
		made = append(made, ns)
	}
	if err := p.host.destroy(made); err != nil {
		b.Fatal(err)
	}
}

func benchDestroy(b *testing.B, cfg Config, batch int) {
	p := openForBench(b, cfg)
	made := make([]*netns, b.N)
	for i := range made {
		var err error
		if made[i], err = p.host.create(uint32(i)); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for batch := range slices.Chunk(made, batch) {
		if err := p.host.destroy(batch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCreate(b *testing.B)          { benchCreate(b, Config{}) }
func BenchmarkCreateLoopback(b *testing.B)  { benchCreate(b, Config{LoopbackOnly: true}) }
func BenchmarkDestroy(b *testing.B)         { benchDestroy(b, Config{}, 1) }
func BenchmarkDestroyBatch(b *testing.B)    { benchDestroy(b, Config{}, 50) }
func BenchmarkDestroyLoopback(b *testing.B) { benchDestroy(b, Config{LoopbackOnly: true}, 1) }

func BenchmarkAcquireShared(b *testing.B) {
	p := openForBench(b, Config{})
	keep, err := p.Acquire(context.Background(), "f")
	if err != nil {
		b.Fatal(err)
	}
	defer keep.Release()
	for b.Loop() {
		n, err := p.Acquire(context.Background(), "f")
		if err != nil {
			b.Fatal(err)
		}
		n.Release()
	}
}

// BenchmarkAcquireAhead takes from a stock that is as large as the run is long, so that nothing is made meanwhile.
func BenchmarkAcquireAhead(b *testing.B) {
	p := openForBench(b, Config{LoopbackOnly: true, Max: b.N + 1})
	for i := range b.N {
		ns, err := p.host.create(uint32(i))
		if err != nil {
			b.Fatal(err)
		}
		p.free = append(p.free, ns)
	}
	held := make([]*Namespace, b.N)
	keys := make([]string, b.N)
	for i := range keys {
		keys[i] = strconv.Itoa(i)
	}
	b.ResetTimer()
	for i, key := range keys {
		var err error
		if held[i], err = p.Acquire(context.Background(), key); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	for _, n := range held {
		n.Release()
	}
}

func BenchmarkAcquireMake(b *testing.B) {
	p := openForBench(b, Config{})
	held := make([]*Namespace, 0, b.N)
	for b.Loop() {
		n, err := p.Acquire(context.Background(), strconv.Itoa(len(held)))
		if err != nil {
			b.Fatal(err)
		}
		held = append(held, n)
	}
	for _, n := range held {
		n.Release()
	}
}

func BenchmarkDo(b *testing.B) {
	p := openForBench(b, Config{LoopbackOnly: true})
	n, err := p.Acquire(context.Background(), "f")
	if err != nil {
		b.Fatal(err)
	}
	defer n.Release()
	for b.Loop() {
		if err := n.Do(func() error { unix.Getpid(); return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
