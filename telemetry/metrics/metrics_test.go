package metrics

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"thaw"
)

func TestMain(m *testing.M) {
	// The store leaves these two behind when it cannot be opened, which TestADamagedStoreIsPutAside makes it do.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/prometheus/prometheus/tsdb/wlog.(*WL).run"))
}

// clock is a time that tests move.
type clock struct{ ns atomic.Int64 }

func newClock(at time.Time) *clock {
	c := &clock{}
	c.set(at)
	return c
}

func (c *clock) set(at time.Time)    { c.ns.Store(at.UnixNano()) }
func (c *clock) now() time.Time      { return time.Unix(0, c.ns.Load()).UTC() }
func (c *clock) add(d time.Duration) { c.ns.Add(int64(d)) }

// running is a store whose loop the test turns by hand.
type running struct {
	*Metrics
	t *testing.T
}

// begin opens a store and does what Run does before its loop.
func begin(t *testing.T, dir string, cfg Config) *running {
	t.Helper()
	cfg.Dir = dir
	m, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if m.store, err = m.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(m.ready)
	return &running{m, t}
}

// flushed stores all minutes that are over.
func (r *running) flushed() {
	r.t.Helper()
	r.flush(r.t.Context(), r.cfg.Now().Truncate(time.Minute))
	if n := r.Stats().Refused[reasonNames[reasonStore]]; n > 0 {
		r.t.Fatalf("%d flushes failed", n)
	}
}

// kill leaves the store as a process that was killed does.
func (r *running) kill() {
	r.journal.end()
	r.store.db.Close()
	r.store = nil
}

func (r *running) stop() {
	r.t.Helper()
	if err := r.end(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) put(data ...Datum) {
	r.t.Helper()
	if err := r.Put(r.t.Context(), data); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) query(m Metric, from, to time.Time, period time.Duration) []Point {
	r.t.Helper()
	points, _, err := r.Query(r.t.Context(), m, from, to, period)
	if err != nil {
		r.t.Fatal(err)
	}
	return points
}

var (
	noon    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	latency = Metric{Namespace: "App", Name: "Latency", Dimensions: []Dimension{{"Service", "s"}}}
)

// shown compares points by what they say, not by how their buckets lie.
var shown = []cmp.Option{cmpopts.IgnoreUnexported(Point{}), cmpopts.EquateApprox(1e-12, 0)}

func point(at time.Time, unit string, values ...float64) Point {
	p := Point{At: at, Unit: unit, Min: math.Inf(1), Max: math.Inf(-1)}
	for _, v := range values {
		p.Count++
		p.Sum += v
		p.Min, p.Max = min(p.Min, v), max(p.Max, v)
	}
	return p
}

// TestReadersSeeValuesAtOnceAndOnce reads the same values while they are new, journalled, flushed, reopened and compacted.
func TestReadersSeeValuesAtOnceAndOnce(t *testing.T) {
	c := newClock(noon)
	dir := t.TempDir()
	r := begin(t, dir, Config{Now: c.now})
	r.put(Datum{Metric: latency, Unit: "Milliseconds", Values: []float64{3, 9}, Counts: []float64{2, 1}})
	c.add(time.Minute)
	r.put(Datum{Metric: latency, Unit: "Milliseconds", Values: []float64{-5, 0}})
	want := []Point{point(noon, "Milliseconds", 3, 3, 9), point(noon.Add(time.Minute), "Milliseconds", -5, 0)}
	check := func(when string) {
		t.Helper()
		if diff := cmp.Diff(want, r.query(latency, noon, noon.Add(time.Hour), time.Minute), shown...); diff != "" {
			t.Errorf("%s:\n%s", when, diff)
		}
		whole := r.query(latency, noon.Add(-time.Hour), noon.Add(time.Hour), time.Hour)
		if len(whole) != 1 || whole[0].Count != 5 || whole[0].Min != -5 || whole[0].Max != 9 || whole[0].Percentile(50) > 3.1 || whole[0].Percentile(50) < 2.9 {
			t.Errorf("%s, by the hour: %+v", when, whole)
		}
	}
	check("new")
	r.second(c.now())
	check("journalled")
	r.flushed()
	check("the first minute flushed")
	c.add(time.Minute)
	r.flushed()
	check("flushed")
	r.stop()
	r = begin(t, dir, Config{Now: c.now})
	check("reopened")
	// A value that comes late for a minute that was stored is added to it.
	r.put(Datum{Metric: latency, Unit: "Milliseconds", At: noon.Add(59 * time.Second), Values: []float64{100}})
	want[0] = point(noon, "Milliseconds", 3, 3, 9, 100)
	late := func(when string) {
		t.Helper()
		if diff := cmp.Diff(want, r.query(latency, noon, noon.Add(time.Hour), time.Minute), shown...); diff != "" {
			t.Errorf("%s:\n%s", when, diff)
		}
	}
	late("late")
	r.flushed()
	late("late, flushed")
	if err := r.store.db.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.store.db.CompactOOOHead(t.Context()); err != nil {
		t.Fatal(err)
	}
	late("late, compacted")
	r.stop()
}

// TestAKillLosesNothingThatWasJournalled kills the store at every step and compares what comes back.
func TestAKillLosesNothingThatWasJournalled(t *testing.T) {
	for _, step := range []string{"journalled", "flushed to the store, journal kept", "flushed", "flushed and written again"} {
		t.Run(step, func(t *testing.T) {
			c := newClock(noon)
			dir := t.TempDir()
			r := begin(t, dir, Config{Now: c.now})
			for i := range 50 {
				r.put(Datum{Metric: latency, Values: []float64{float64(i)*1.1 + 0.3}})
				if i%10 == 0 {
					r.second(c.now())
				}
			}
			r.second(c.now())
			c.add(time.Minute)
			r.put(Datum{Metric: latency, Values: []float64{7}})
			r.second(c.now())
			want := r.query(latency, noon, noon.Add(time.Hour), time.Minute)
			if len(want) != 2 || want[0].Count != 50 {
				t.Fatalf("%+v", want)
			}
			switch step {
			case "flushed to the store, journal kept":
				r.mu.Lock()
				detached := r.memory.detach(noon.Add(time.Minute).Unix())
				r.mu.Unlock()
				if err := r.storeAll(t.Context(), detached); err != nil {
					t.Fatal(err)
				}
			case "flushed", "flushed and written again":
				r.flushed()
				if step == "flushed and written again" {
					r.put(Datum{Metric: latency, Values: []float64{8}})
					r.put(Datum{Metric: latency, At: noon, Values: []float64{1000}})
					r.second(c.now())
					want = r.query(latency, noon, noon.Add(time.Hour), time.Minute)
				}
			}
			r.kill()
			for range 2 {
				r = begin(t, dir, Config{Now: c.now})
				if diff := cmp.Diff(want, r.query(latency, noon, noon.Add(time.Hour), time.Minute), shown...); diff != "" {
					t.Error(diff)
				}
				if found, _, err := r.List(t.Context(), Filter{}, "", 10); err != nil || len(found) != 1 {
					t.Errorf("listed %v, %v", found, err)
				}
				r.kill()
			}
		})
	}
}

// TestATornJournalIsReadToItsTear cuts the journal at every byte.
func TestATornJournalIsReadToItsTear(t *testing.T) {
	c := newClock(noon)
	dir := t.TempDir()
	r := begin(t, dir, Config{Now: c.now})
	for i := range 3 {
		r.put(Datum{Metric: latency, Values: []float64{float64(i)}}, Datum{Metric: latency, Unit: "Count", Values: []float64{1}})
		r.second(c.now())
	}
	path := r.journal.path(r.journal.number)
	r.kill()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before := -1.0
	for n := range len(whole) + 1 {
		torn := t.TempDir()
		if err := os.WriteFile(filepath.Join(torn, filepath.Base(path)), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		count := 0.0
		if _, err := recoverJournal(torn, func(_ identity, _ int64, s *summary) { count += s.count }); err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		if count < before {
			t.Fatalf("%d bytes give %v values, fewer bytes %v", n, count, before)
		}
		before = count
	}
	if before != 6 {
		t.Errorf("the whole journal gives %v values", before)
	}
}

// TestNumbersAreMergedAsTheyAre compares a day of random values, some late, with sums made by hand.
func TestNumbersAreMergedAsTheyAre(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	c := newClock(noon)
	r := begin(t, t.TempDir(), Config{Now: c.now})
	type sums struct{ count, sum, low, high float64 }
	want := map[int64]*sums{}
	for i := range 300 {
		for range rng.IntN(4) {
			at := c.now()
			if rng.IntN(10) == 0 {
				at = at.Add(-time.Duration(rng.IntN(36)) * time.Hour)
			}
			v := math.Round(rng.ExpFloat64()*1000) / 8
			r.put(Datum{Metric: latency, At: at, Values: []float64{v}})
			hour := at.Truncate(time.Hour).Unix()
			s := want[hour]
			if s == nil {
				s = &sums{low: v, high: v}
				want[hour] = s
			}
			s.count++
			s.sum += v
			s.low, s.high = min(s.low, v), max(s.high, v)
		}
		c.add(5 * time.Minute)
		r.flushed()
		if i%100 == 99 {
			if err := r.store.db.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	points := r.query(latency, noon.Add(-48*time.Hour), c.now(), time.Hour)
	if len(points) != len(want) {
		t.Errorf("%d hours, want %d", len(points), len(want))
	}
	for _, p := range points {
		s := want[p.At.Unix()]
		if s == nil || p.Count != s.count || math.Abs(p.Sum-s.sum) > 1e-6 || p.Min != s.low || p.Max != s.high {
			t.Errorf("%v: %v values of %v from %v to %v, want %+v", p.At, p.Count, p.Sum, p.Min, p.Max, s)
		}
	}
	r.stop()
}

func TestRefused(t *testing.T) {
	c := newClock(noon)
	r := begin(t, t.TempDir(), Config{Now: c.now, MaxSeries: 3})
	good := Datum{Metric: latency, Values: []float64{1}}
	with := func(change func(*Datum)) Datum { d := good; change(&d); return d }
	for name, d := range map[string]Datum{
		"no value":         with(func(d *Datum) { d.Values = nil }),
		"no name":          with(func(d *Datum) { d.Name = "" }),
		"not a number":     with(func(d *Datum) { d.Values = []float64{math.NaN()} }),
		"infinite":         with(func(d *Datum) { d.Values = []float64{math.Inf(1)} }),
		"too large":        with(func(d *Datum) { d.Values = []float64{math.Ldexp(1, 361)} }),
		"counts missing":   with(func(d *Datum) { d.Values, d.Counts = []float64{1, 2}, []float64{1} }),
		"negative count":   with(func(d *Datum) { d.Counts = []float64{-1} }),
		"too old":          with(func(d *Datum) { d.At = noon.Add(-MaxPast - time.Second) }),
		"too far ahead":    with(func(d *Datum) { d.At = noon.Add(MaxFuture + time.Second) }),
		"resolution":       with(func(d *Datum) { d.Resolution = 30 }),
		"dimension twice":  with(func(d *Datum) { d.Dimensions = []Dimension{{"a", "1"}, {"a", "2"}} }),
		"dimension empty":  with(func(d *Datum) { d.Dimensions = []Dimension{{"a", ""}} }),
		"contradiction":    with(func(d *Datum) { d.Values, d.Stats = nil, &StatisticSet{1, 1, 2, 1} }),
		"negative samples": with(func(d *Datum) { d.Values, d.Stats = nil, &StatisticSet{-1, 1, 1, 1} }),
	} {
		if err := r.Put(t.Context(), []Datum{good, d}); thaw.CodeOf(err) != thaw.CodeInvalidParameterValue {
			t.Errorf("%s: %v", name, err)
		}
	}
	if points := r.query(latency, noon, noon.Add(time.Minute), time.Minute); len(points) != 0 {
		t.Errorf("of refused data something was added: %+v", points)
	}
	for i := range 3 {
		r.put(with(func(d *Datum) { d.Dimensions = []Dimension{{"n", fmt.Sprint(i)}} }))
	}
	err := r.Put(t.Context(), []Datum{with(func(d *Datum) { d.Dimensions = []Dimension{{"n", "3"}} })})
	if thaw.CodeOf(err) != thaw.CodeLimitExceeded || r.Stats().Refused[reasonNames[reasonSeries]] != 1 {
		t.Errorf("one metric too many: %v, %v", err, r.Stats())
	}
	r.memory.held = refuseAt
	if err := r.Put(t.Context(), []Datum{with(func(d *Datum) { d.Dimensions = []Dimension{{"n", "0"}} })}); thaw.CodeOf(err) != thaw.CodeTooManyRequests {
		t.Errorf("no memory left: %v", err)
	}
	r.memory.held = 0
	r.kill()
}

func TestHighResolution(t *testing.T) {
	c := newClock(noon)
	r := begin(t, t.TempDir(), Config{Now: c.now})
	var want []Point
	for i := range 5 {
		r.put(Datum{Metric: latency, Resolution: 1, Values: []float64{float64(i), 10}})
		want = append(want, point(c.now(), UnitNone, float64(i), 10))
		c.add(time.Second)
	}
	for range 2 {
		if diff := cmp.Diff(want, r.query(latency, noon, noon.Add(time.Minute), time.Second), shown...); diff != "" {
			t.Error(diff)
		}
		c.add(time.Minute)
		r.flushed()
	}
	r.stop()
}

func TestList(t *testing.T) {
	c := newClock(noon)
	dir := t.TempDir()
	r := begin(t, dir, Config{Now: c.now})
	var all []string
	for i := range 25 {
		m := Metric{"App", fmt.Sprintf("m%d", i%5), []Dimension{{"n", fmt.Sprint(i)}, {"a", "x"}}}
		r.put(Datum{Metric: m, Values: []float64{1}}, Datum{Metric: m, Unit: "Bytes", Values: []float64{1}})
		all = append(all, m.Sorted().Key())
	}
	slices.Sort(all)
	c.add(4 * time.Hour)
	recent := Metric{Namespace: "Zoo", Name: "recent"}
	r.put(Datum{Metric: recent, Values: []float64{1}})
	all = append(all, recent.Key())
	pages := func() (keys []string) {
		t.Helper()
		after := ""
		for {
			found, next, err := r.List(t.Context(), Filter{}, after, 7)
			if err != nil || len(found) > 7 {
				t.Fatal(found, err)
			}
			for _, m := range found {
				keys = append(keys, m.Key())
			}
			if next == "" {
				return keys
			}
			after = next
		}
	}
	if diff := cmp.Diff(all, pages()); diff != "" {
		t.Error(diff)
	}
	for _, test := range []struct {
		filter Filter
		want   int
	}{
		{Filter{Namespace: "App"}, 25},
		{Filter{Namespace: "App", Name: "m1"}, 5},
		{Filter{Dimensions: []Dimension{{"n", "7"}}}, 1},
		{Filter{Dimensions: []Dimension{{"n", ""}}}, 25},
		{Filter{Dimensions: []Dimension{{"n", ""}, {"a", "y"}}}, 0},
		{Filter{RecentlyActive: true}, 1},
		{Filter{Namespace: "None"}, 0},
	} {
		if found, _, err := r.List(t.Context(), test.filter, "", 100); err != nil || len(found) != test.want {
			t.Errorf("%+v: %d found, want %d, %v", test.filter, len(found), test.want, err)
		}
	}
	c.add(time.Minute)
	r.flushed()
	r.stop()
	r = begin(t, dir, Config{Now: c.now})
	if diff := cmp.Diff(all, pages()); diff != "" {
		t.Errorf("reopened:\n%s", diff)
	}
	c.add(15 * 24 * time.Hour)
	if found, _, err := r.List(t.Context(), Filter{}, "", 100); err != nil || len(found) != 0 {
		t.Errorf("after two weeks %d are listed, %v", len(found), err)
	}
	r.memory.catalog.expire(c.now().Add(-listedFor).Unix())
	if n := r.Stats().Series; n != 0 {
		t.Errorf("after two weeks %d series are known", n)
	}
	r.stop()
}

// TestARestartInTheFirstMinute: what is stored of a minute may have times that are yet to come.
func TestARestartInTheFirstMinute(t *testing.T) {
	c := newClock(noon.Add(time.Second))
	dir := t.TempDir()
	for n := range 3 {
		r := begin(t, dir, Config{Now: c.now})
		r.put(Datum{Metric: latency, Values: []float64{1}})
		if got := r.query(latency, noon, noon.Add(time.Minute), time.Minute); len(got) != 1 || got[0].Sum != float64(n+1) {
			t.Errorf("after %d restarts: %+v", n, got)
		}
		if n < 2 {
			r.stop()
			r = begin(t, dir, Config{Now: c.now})
			if found, _, err := r.List(t.Context(), Filter{RecentlyActive: true}, "", 10); err != nil || len(found) != 1 {
				t.Errorf("after %d restarts: listed %v, %v", n, found, err)
			}
		}
		r.stop()
	}
}

// TestRun drives the real loop: what is written before it is up, while it runs and at its end is there the next time.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir, Gauges: func() []Gauge { return []Gauge{{Metric{"AWS/Lambda", "ConcurrentExecutions", nil}, "Count", 3}} }}
	m, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	from := time.Now().Add(-time.Hour)
	put := func() {
		t.Helper()
		if err := m.Put(t.Context(), []Datum{{Metric: latency, Values: []float64{1}}}); err != nil {
			t.Fatal(err)
		}
	}
	put()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- m.Run(ctx) }()
	gauge := Metric{Namespace: "AWS/Lambda", Name: "ConcurrentExecutions"}
	deadline := time.After(30 * time.Second)
	for {
		points, _, err := m.Query(t.Context(), gauge, from, time.Now().Add(time.Hour), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if len(points) > 0 && points[0].Max == 3 {
			break
		}
		select {
		case <-deadline:
			t.Fatal("no gauge was read")
		case <-time.After(20 * time.Millisecond):
		}
	}
	put()
	cancel()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if err := m.Put(t.Context(), []Datum{{Metric: latency, Values: []float64{1}}}); err == nil {
		t.Error("a value was taken after the end")
	}
	if _, _, err := m.Query(t.Context(), latency, from, time.Now(), time.Hour); err == nil {
		t.Error("a query was answered after the end")
	}
	r := begin(t, dir, Config{})
	points := r.query(latency, from, time.Now().Add(time.Hour), 24*time.Hour)
	count := 0.0
	for _, p := range points {
		count += p.Count
	}
	if count != 2 {
		t.Errorf("%+v", points)
	}
	r.stop()
}

// TestAStopBeforeTheStoreIsOpenStoresValues: what came until then is there the next time.
func TestAStopBeforeTheStoreIsOpenStoresValues(t *testing.T) {
	dir := t.TempDir()
	c := newClock(noon)
	for n := range 3 {
		m, err := Open(Config{Dir: dir, Now: c.now})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Put(t.Context(), []Datum{{Metric: latency, Values: []float64{1}}}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := m.Run(ctx); err != nil {
			t.Fatal(err)
		}
		r := begin(t, dir, Config{Now: c.now})
		if got := r.query(latency, noon, noon.Add(time.Minute), time.Minute); len(got) != 1 || got[0].Sum != float64(n+1) {
			t.Errorf("%+v", got)
		}
		r.stop()
	}
}

// TestADamagedStoreIsPutAside: the platform starts without its metrics, and keeps the damaged ones.
func TestADamagedStoreIsPutAside(t *testing.T) {
	dir := t.TempDir()
	block := filepath.Join(dir, storeDir, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
	if err := os.MkdirAll(block, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(block, "meta.json"), []byte(`{"ulid":"01ARZ3NDEKTSV4RRFFQ69G5FAV","minTime":1,"maxTime":2,"version":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := begin(t, dir, Config{})
	r.put(Datum{Metric: latency, Values: []float64{1}})
	r.stop()
	aside, err := filepath.Glob(filepath.Join(dir, "damaged-*"))
	if err != nil || len(aside) != 1 {
		t.Errorf("put aside: %v, %v", aside, err)
	}
}

// TestAStoreThatFailsKeepsValues: what could not be stored is still read, and stored later.
func TestAStoreThatFailsKeepsValues(t *testing.T) {
	c := newClock(noon)
	r := begin(t, t.TempDir(), Config{Now: c.now})
	r.put(Datum{Metric: latency, Values: []float64{1}})
	r.second(c.now())
	r.mu.Lock()
	detached := r.memory.detach(noon.Add(time.Hour).Unix())
	r.mu.Unlock()
	r.put(Datum{Metric: latency, Values: []float64{5}})
	if got := r.query(latency, noon, noon.Add(time.Minute), time.Minute); len(got) != 1 || got[0].Sum != 6 {
		t.Errorf("while it is being stored: %+v", got)
	}
	r.mu.Lock()
	r.memory.attach(detached)
	r.mu.Unlock()
	c.add(time.Minute)
	r.flushed()
	if got := r.query(latency, noon, noon.Add(time.Minute), time.Minute); len(got) != 1 || got[0].Sum != 6 || r.memory.held != 0 {
		t.Errorf("stored later: %+v, %d bytes held", got, r.memory.held)
	}
	r.stop()
}

func TestQueryIsBounded(t *testing.T) {
	r := begin(t, t.TempDir(), Config{})
	for _, period := range []time.Duration{0, -time.Second, 1500 * time.Millisecond} {
		if _, _, err := r.Query(t.Context(), latency, noon, noon.Add(time.Hour), period); thaw.CodeOf(err) != thaw.CodeInvalidParameterValue {
			t.Errorf("a period of %v: %v", period, err)
		}
	}
	if _, _, err := r.Query(t.Context(), latency, noon, noon.Add(3000*time.Hour), time.Second); thaw.CodeOf(err) != thaw.CodeInvalidParameterValue {
		t.Errorf("millions of points: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	unready, err := Open(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := unready.Query(ctx, latency, noon, noon.Add(time.Hour), time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("a query before the store is open: %v", err)
	}
	r.stop()
}
