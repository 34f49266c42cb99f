package queues

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"thaw/state"
)

// opened gives a queue of a place with the real clock, with Run going.
func opened(b *testing.B, dir string, o Options) (*Queues, *Queue, func()) {
	b.Helper()
	store, err := state.Open(context.Background(), state.Config{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	e, err := Open(context.Background(), store, Config{})
	if err != nil {
		b.Fatal(err)
	}
	q, ok := e.Queue("q")
	if !ok {
		if q, err = e.Create(context.Background(), Info{Name: "q", Options: o}); err != nil {
			b.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Run(ctx)
	}()
	return e, q, func() {
		cancel()
		<-done
		store.Close()
	}
}

var kilobyte = make([]byte, 1000)

// share runs fn n times, by several callers.
func share(callers, n int, fn func()) {
	var wait sync.WaitGroup
	work := make(chan struct{}, n)
	for range n {
		work <- struct{}{}
	}
	close(work)
	for range callers {
		wait.Go(func() {
			for range work {
				fn()
			}
		})
	}
	wait.Wait()
}

func BenchmarkSend(b *testing.B) {
	for _, callers := range []int{1, 16, 64} {
		b.Run(strconv.Itoa(callers), func(b *testing.B) {
			_, q, stop := opened(b, b.TempDir(), Options{})
			defer stop()
			b.ResetTimer()
			used := cpu()
			share(callers, b.N, func() {
				if s := q.Send(context.Background(), Message{Body: kilobyte}); s[0].Err != nil {
					b.Error(s[0].Err)
				}
			})
			work(b, used, b.N)
		})
	}
}

func BenchmarkSendBatch10(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(strconv.Itoa(callers), func(b *testing.B) {
			_, q, stop := opened(b, b.TempDir(), Options{})
			defer stop()
			batch := make([]Message, 10)
			for i := range batch {
				batch[i].Body = kilobyte
			}
			b.ResetTimer()
			used := cpu()
			share(callers, b.N, func() {
				for _, s := range q.Send(context.Background(), batch...) {
					if s.Err != nil {
						b.Error(s.Err)
					}
				}
			})
			work(b, used, 10*b.N)
		})
	}
}

// BenchmarkReceive receives and deletes what waits.
func BenchmarkReceive(b *testing.B) {
	for _, batch := range []int{1, 10} {
		for _, callers := range []int{1, 16} {
			b.Run(fmt.Sprintf("%d-at-a-time/%d", batch, callers), func(b *testing.B) {
				e, q, stop := opened(b, b.TempDir(), Options{Visibility: time.Minute})
				defer stop()
				messages := make([]Message, batch)
				for i := range messages {
					messages[i].Body = kilobyte
				}
				for range b.N {
					q.Send(context.Background(), messages...)
				}
				e.cache = cache{}
				b.ResetTimer()
				used := cpu()
				share(callers, b.N, func() {
					got, err := q.Receive(context.Background(), batch, 0, nil)
					if err != nil {
						b.Error(err)
					}
					handles := make([]string, len(got))
					for i := range got {
						handles[i] = got[i].Handle
					}
					for _, err := range q.DeleteBatch(context.Background(), handles) {
						if err != nil {
							b.Error(err)
						}
					}
				})
				work(b, used, batch*b.N)
			})
		}
	}
}

// BenchmarkThrough sends and, at the same time, receives and deletes.
func BenchmarkThrough(b *testing.B) {
	for _, fifo := range []bool{false, true} {
		b.Run(fmt.Sprintf("fifo=%v", fifo), func(b *testing.B) {
			_, q, stop := opened(b, b.TempDir(), Options{Visibility: time.Minute, FIFO: fifo})
			defer stop()
			b.ResetTimer()
			used := cpu()
			var wait sync.WaitGroup
			left := make(chan struct{}, b.N)
			for range 8 {
				wait.Go(func() {
					for len(left) < b.N {
						got, err := q.Receive(context.Background(), 10, 100*time.Millisecond, nil)
						if err != nil {
							b.Error(err)
							return
						}
						handles := make([]string, len(got))
						for i := range got {
							handles[i] = got[i].Handle
						}
						for range q.DeleteBatch(context.Background(), handles) {
							left <- struct{}{}
						}
					}
				})
			}
			var mu sync.Mutex
			n := 0
			share(16, b.N, func() {
				mu.Lock()
				n++
				id := strconv.Itoa(n)
				mu.Unlock()
				if s := q.Send(context.Background(), Message{Body: kilobyte, Group: id[len(id)-1:], Dedup: id}); s[0].Err != nil {
					b.Error(s[0].Err)
				}
			})
			wait.Wait()
			work(b, used, b.N)
		})
	}
}

// work reports messages per second, and what one takes of a processor, which other programs disturb less.
func work(b *testing.B, used time.Duration, messages int) {
	b.ReportMetric(float64(messages)/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(float64((cpu()-used).Microseconds())/float64(messages), "cpu-µs/message")
}

// BenchmarkBacklog measures what a million messages of 1 KB cost while they wait. Run it with -benchtime=1x.
func BenchmarkBacklog(b *testing.B) {
	n := backlog()
	dir := b.TempDir()
	_, q, stop := opened(b, dir, Options{Visibility: time.Minute})
	heapNow := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heapNow()
	batch := make([]Message, 1000)
	for i := range batch {
		batch[i].Body = kilobyte
	}
	start := time.Now()
	for range n / len(batch) {
		for _, s := range q.Send(context.Background(), batch...) {
			if s.Err != nil {
				b.Fatal(s.Err)
			}
		}
	}
	b.ReportMetric(float64(n)/time.Since(start).Seconds(), "sends/s")
	q.e.cache = cache{}
	<-time.After(6 * time.Second) // the engine gives up its own cache
	b.ReportMetric(float64(heapNow()-before)/float64(n), "heap-bytes/message")
	stop()
	var disk int64
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, _ error) error {
		if info, err := d.Info(); err == nil {
			disk += info.Size()
		}
		return nil
	})
	b.ReportMetric(float64(disk)/float64(n), "disk-bytes/message")
	for range b.N {
		start := time.Now()
		store, err := state.Open(context.Background(), state.Config{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "store-open-s")
		start = time.Now()
		used := cpu()
		e, err := Open(context.Background(), store, Config{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "queues-open-s")
		b.ReportMetric((cpu() - used).Seconds(), "queues-open-cpu-s")
		q, _ := e.Queue("q")
		if d := q.Depth(); d.Visible != n {
			b.Errorf("%+v", d)
		}
		b.ReportMetric(float64(heapNow()-before)/float64(n), "heap-reopened/message")
		start = time.Now()
		if got, err := q.Receive(context.Background(), 10, 0, nil); err != nil || len(got) != 10 {
			b.Errorf("%v %v", len(got), err)
		}
		b.ReportMetric(float64(time.Since(start).Microseconds()), "first-receive-µs")
		store.Close()
	}
	os.RemoveAll(dir)
}

// cpu is what this process has used.
func cpu() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// backlog is how many messages BenchmarkBacklog leaves waiting.
func backlog() int {
	if n, err := strconv.Atoi(os.Getenv("THAW_BENCH_BACKLOG")); err == nil {
		return n
	}
	return 1_000_000
}
