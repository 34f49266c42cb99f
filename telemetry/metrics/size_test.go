package metrics

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"thaw"
)

// TestAMonthOfAThousandFunctions writes what a thousand functions leave in a month: a tenth of them is invoked each minute, three
// tenths each ten minutes, the rest each hour, ten times each time; one start in fifty is not warm. THAW_MONTH is the number of days,
// 0 in the usual run: a month takes minutes.
func TestAMonthOfAThousandFunctions(t *testing.T) {
	days, _ := strconv.Atoi(os.Getenv("THAW_MONTH"))
	functions := 1000
	if days == 0 {
		days, functions = 1, 20
	}
	dir := t.TempDir()
	begun := noon.Truncate(24 * time.Hour)
	c := newClock(begun)
	r := begin(t, dir, Config{Now: c.now, MaxBytes: 64 << 30, MaxAge: 60 * 24 * time.Hour})
	rng := rand.New(rand.NewPCG(9, 9))
	names := make([]string, functions)
	for i := range names {
		names[i] = fmt.Sprintf("orders-service-function-%d", i)
	}
	var batch []thaw.Invocation
	var invocations int
	var spent time.Duration
	for minute := range days * 24 * 60 {
		batch = batch[:0]
		for i, name := range names {
			every := 60
			switch {
			case i%10 == 0:
				every = 1
			case i%10 < 4:
				every = 10
			}
			if (minute+i)%every != 0 {
				continue
			}
			for range 10 {
				batch = append(batch, simulated(rng, name, c.now()))
			}
		}
		invocations += len(batch)
		start := time.Now()
		r.Invocations(batch)
		c.add(time.Minute)
		r.flushed()
		if minute%120 == 0 {
			if err := r.store.db.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		spent += time.Since(start)
	}
	if err := r.store.db.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	one := Metric{Namespace: NamespaceLambda, Name: "Duration", Dimensions: []Dimension{{DimensionFunction, names[0]}}}
	start := time.Now()
	points := r.query(one, begun, c.now(), time.Hour)
	hourly := time.Since(start)
	start = time.Now()
	minutes := r.query(one, begun, c.now(), time.Minute)
	if len(points) != days*24 || len(minutes) != days*24*60 {
		t.Errorf("%d hours and %d minutes in %d days", len(points), len(minutes), days)
	}
	byMinute := time.Since(start)
	start = time.Now()
	if listed, _, err := r.List(t.Context(), Filter{Namespace: NamespaceLambda}, "", 500); err != nil || len(listed) == 0 {
		t.Fatal(err)
	}
	listing := time.Since(start)
	blocks := int64(0)
	for _, b := range r.store.db.Blocks() {
		blocks += b.Size()
	}
	stats := r.Stats()
	r.stop()
	t.Logf("%d days, %d functions, %d invocations: %d series, %.1f MB on disk, of which blocks %.1f MB; written in %v; one metric over all days by the hour %v, by the minute %v; list %v",
		days, functions, invocations, stats.Series, float64(onDisk(t, dir))/1e6, float64(blocks)/1e6, spent.Round(time.Second), hourly, byMinute, listing)
}

// simulated is one invocation of a function whose durations vary as real ones do.
func simulated(rng *rand.Rand, name string, at time.Time) thaw.Invocation {
	r := invoked(at.Add(time.Duration(rng.IntN(60000))*time.Millisecond), nil)
	r.Function = name
	r.Duration = time.Duration((8 + rng.ExpFloat64()*20) * float64(time.Millisecond))
	r.Billed = r.Duration.Truncate(time.Millisecond) + time.Millisecond
	r.MaxMemoryUsed = 40 + rng.IntN(3)
	if rng.IntN(50) == 0 {
		r.Kind, r.Cause = thaw.StartSpare, thaw.CauseScaleOut
		r.Phases[thaw.PhasePlace].Length = time.Duration(rng.IntN(900)+100) * time.Microsecond
	}
	if rng.IntN(200) == 0 {
		r.Failed = true
	}
	return r
}

func onDisk(t testing.TB, dir string) (n int64) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// BenchmarkQuery reads thirty days of one metric that has values in each minute.
func BenchmarkQuery(b *testing.B) {
	c := newClock(noon)
	m, err := Open(Config{Dir: b.TempDir(), Now: c.now, MaxBytes: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	if m.store, err = m.open(ctx); err != nil {
		b.Fatal(err)
	}
	if err := m.resume(ctx); err != nil {
		b.Fatal(err)
	}
	close(m.ready)
	rng := rand.New(rand.NewPCG(9, 9))
	const days = 30
	for minute := range days * 24 * 60 {
		d := Datum{Metric: latency, Unit: UnitMilliseconds}
		for range 20 {
			d.Values = append(d.Values, 8+rng.ExpFloat64()*20)
		}
		if err := m.Put(ctx, []Datum{d}); err != nil {
			b.Fatal(err)
		}
		c.add(time.Minute)
		if minute%60 == 59 {
			m.flush(ctx, c.now())
		}
	}
	if err := m.store.db.Compact(ctx); err != nil {
		b.Fatal(err)
	}
	for _, period := range []time.Duration{time.Minute, 5 * time.Minute, time.Hour} {
		b.Run(period.String(), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := m.Query(ctx, latency, noon, c.now(), period); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	if err := m.end(ctx); err != nil {
		b.Fatal(err)
	}
}
