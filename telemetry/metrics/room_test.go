package metrics

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"thaw"
)

// TestAFullDiskKeepsValues: nothing is written while there is no room, and values wait.
func TestAFullDiskKeepsValues(t *testing.T) {
	c := newClock(noon)
	dir := t.TempDir()
	r := begin(t, dir, Config{Now: c.now})
	var free int64
	r.free = func() (int64, error) { return free, nil }
	want := 0.0
	for range 3 {
		r.put(Datum{Metric: latency, At: noon, Values: []float64{1}})
		want++
		c.add(time.Minute)
		r.flush(t.Context(), c.now().Truncate(time.Minute))
		if got := r.query(latency, noon, noon.Add(time.Minute), time.Minute); len(got) != 1 || got[0].Sum != want {
			t.Errorf("%+v, want %v", got, want)
		}
	}
	if refused := r.Stats().Refused; refused[reasonNames[reasonStore]] != 3 || refused[reasonNames[reasonJournal]] != 3 || r.store.db.Head().NumSeries() != 0 {
		t.Errorf("%v, %d series in the store", refused, r.store.db.Head().NumSeries())
	}
	free = 1 << 40
	r.flush(t.Context(), c.now().Truncate(time.Minute))
	if r.memory.held != 0 || r.journal.file == nil {
		t.Errorf("%d bytes wait when there is room again", r.memory.held)
	}
	r.stop()
	r = begin(t, dir, Config{Now: c.now})
	if got := r.query(latency, noon, noon.Add(time.Minute), time.Minute); len(got) != 1 || got[0].Sum != want {
		t.Errorf("stored %+v, want %v", got, want)
	}
	r.stop()
}

// TestBlocksCanBeJoined: what is stored leaves room for what is made of it.
func TestBlocksCanBeJoined(t *testing.T) {
	c := newClock(noon)
	r := begin(t, t.TempDir(), Config{Now: c.now})
	free := int64(diskReserve + 10)
	r.free = func() (int64, error) { return free, nil }
	for _, want := range []uint64{0, 1} { // nothing is stored the first time
		r.put(Datum{Metric: latency, Values: []float64{1}})
		c.add(time.Minute)
		r.flush(t.Context(), c.now().Truncate(time.Minute))
		if n := r.Stats().Refused[reasonNames[reasonStore]]; n != want {
			t.Errorf("%d flushes were refused, want %d, with %d bytes stored", n, want, r.store.size())
		}
	}
	free = 1 << 40
	r.stop()
}

// TestStartWithAFullDisk: the platform starts, readers are told, and metrics go on when there is room.
func TestStartWithAFullDisk(t *testing.T) {
	dir := t.TempDir()
	before := begin(t, dir, Config{})
	before.put(Datum{Metric: latency, Values: []float64{1}})
	before.stop()
	m, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var free atomic.Int64
	m.free = func() (int64, error) { return free.Load(), nil }
	if err := m.Put(t.Context(), []Datum{{Metric: latency, Values: []float64{1}}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- m.Run(ctx) }()
	from := time.Now().Add(-time.Hour)
	ask := func() ([]Point, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		points, _, err := m.Query(ctx, latency, from, from.Add(2*time.Hour), 24*time.Hour)
		return points, err
	}
	deadline := time.After(30 * time.Second)
	for m.unreadable.Load() == nil {
		m.Stats()
		select {
		case <-deadline:
			t.Fatal("it is not told")
		case <-time.After(5 * time.Millisecond):
		}
	}
	if _, err := ask(); thaw.CodeOf(err) != thaw.CodeService {
		t.Errorf("a query is answered with %v", err)
	}
	free.Store(1 << 40)
	for {
		points, err := ask()
		if err == nil && len(points) == 1 && points[0].Sum == 2 {
			break
		}
		select {
		case <-deadline:
			t.Fatalf("%+v, %v", points, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	cancel()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if aside, err := filepath.Glob(filepath.Join(dir, damaged+"*")); err != nil || len(aside) > 0 {
		t.Errorf("put aside: %v, %v", aside, err)
	}
}

// TestOneStoreIsPutAside: what was put aside before makes room.
func TestOneStoreIsPutAside(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, damaged+"20250101T000000")
	block := filepath.Join(dir, storeDir, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
	for _, path := range []string{old, block} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(block, "meta.json"), []byte(`{"ulid":"01ARZ3NDEKTSV4RRFFQ69G5FAV","minTime":1,"maxTime":2,"version":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	begin(t, dir, Config{}).stop()
	aside, err := filepath.Glob(filepath.Join(dir, damaged+"*"))
	if err != nil || len(aside) != 1 || aside[0] == old {
		t.Errorf("put aside: %v, %v", aside, err)
	}
}
