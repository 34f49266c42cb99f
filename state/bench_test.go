package state

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"thaw"
)

func BenchmarkOpenEmpty(b *testing.B) {
	for b.Loop() {
		s, err := Open(b.Context(), Config{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		s.Close()
		b.StartTimer()
	}
}

func BenchmarkOpen1000(b *testing.B) { benchmarkOpen(b, 1000) }
func BenchmarkOpen5000(b *testing.B) { benchmarkOpen(b, 5000) }

func benchmarkOpen(b *testing.B, n int) {
	dir := b.TempDir()
	fill(b, dir, n)
	for b.Loop() {
		s, err := Open(b.Context(), Config{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		s.Close()
		b.StartTimer()
	}
}

func fill(b testing.TB, dir string, n int) {
	s, err := Open(b.Context(), Config{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for i := range n {
		if err := s.CreateFunction(b.Context(), function(fmt.Sprintf("function-%05d", i))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCatalog5000(b *testing.B) {
	dir := b.TempDir()
	fill(b, dir, 5000)
	s := open(b, Config{Dir: dir})
	b.Run("Function", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := s.Function("function-03210"); !ok {
				b.Fatal("missing")
			}
		}
	})
	b.Run("Functions50", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if len(s.Functions("function-03210", 50)) != 50 {
				b.Fatal("missing")
			}
		}
	})
	b.Run("CreateDelete", func(b *testing.B) {
		for b.Loop() {
			if err := s.CreateFunction(b.Context(), function("one")); err != nil {
				b.Fatal(err)
			}
			if err := s.DeleteFunction(b.Context(), "one"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Update", func(b *testing.B) {
		for b.Loop() {
			_, err := s.UpdateFunction(b.Context(), "function-03210", func(f *thaw.Function) error { f.Config.Timeout++; return nil })
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPackage50MB(b *testing.B) {
	s := open(b, Config{Dir: b.TempDir()})
	zip := make([]byte, thaw.MaxZip)
	b.SetBytes(int64(len(zip)))
	i := 0
	for b.Loop() {
		i++
		copy(zip, fmt.Sprint(i))
		if _, err := s.PutCode(b.Context(), zip); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPublishLog(b *testing.B) {
	s := open(b, Config{Dir: b.TempDir()})
	line := []byte(strings.Repeat("x", 200))
	busy := 0
	for b.Loop() {
		if s.PublishLog("/aws/lambda/f", "", line) != nil {
			busy++
		}
	}
	b.ReportMetric(float64(busy)/float64(b.N), "busy/op")
}

// BenchmarkIdleMemory reports what an open store adds to the resident memory of a process.
func BenchmarkIdleMemory(b *testing.B) {
	before := resident(b)
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		s, err := Open(context.Background(), Config{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(resident(b)-before)/(1<<20), "MiB")
		s.Close()
		b.StartTimer()
	}
}

func resident(b *testing.B) int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	var size, rss int64
	fmt.Sscan(string(text), &size, &rss)
	return rss * int64(os.Getpagesize())
}
