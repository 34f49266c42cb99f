package groups

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"thaw/state"
	"thaw/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// platform is a store with its index, as one start has them.
type platform struct {
	*Index

	store *state.Store
	logs  *telemetry.Logs
	stop  func()
}

func start(t testing.TB, dir string, change ...func(*state.Config, *Config)) *platform {
	t.Helper()
	cfg := state.Config{Dir: dir}
	own := Config{Snapshot: filepath.Join(dir, "log-index")}
	for _, c := range change {
		c(&cfg, &own)
	}
	store, err := state.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	logs := telemetry.NewLogs(store)
	own.Store, own.Settings, own.Flush = store, NewSettings(store), logs.Flush
	x, err := New(own)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := x.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	p := &platform{x, store, logs, sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})}
	t.Cleanup(p.stop)
	return p
}

var epoch = time.UnixMilli(1_700_000_000_000)

func at(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }

func (p *platform) put(t *testing.T, group, stream string, seconds ...int) {
	t.Helper()
	var events []telemetry.Event
	for _, s := range seconds {
		events = append(events, telemetry.Event{At: at(s), Message: fmt.Sprint(stream, s)})
	}
	if err := p.Append(t.Context(), group, stream, events); err != nil {
		t.Fatal(err)
	}
}

func messages(events []Event) []string {
	list := []string{}
	for _, e := range events {
		list = append(list, e.Message)
	}
	return list
}

func (p *platform) readAll(t *testing.T, q Query) []string {
	t.Helper()
	if q.Before == (Position{}) {
		q.Before = Last
	}
	list := []string{}
	for range 10_000 {
		page, err := p.Read(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		got := messages(page.Events)
		if q.Backward {
			slices.Reverse(got)
		}
		list = append(list, got...)
		if !page.More {
			return list
		}
		if q.Backward {
			q.Before = page.Next
		} else {
			q.From = page.Next
		}
	}
	t.Fatal("the pages do not end")
	return nil
}

func TestEventsComeInTheOrderOfTheirTimes(t *testing.T) {
	p := start(t, t.TempDir())
	p.put(t, "g", "a", 3, 5)
	p.put(t, "g", "b", 1, 4)
	p.put(t, "other", "x", 2)
	p.put(t, "g", "a", 2)
	want := []string{"b1", "a2", "a3", "b4", "a5"}
	for limit := 1; limit < 7; limit++ {
		for _, most := range []int{1, 60, 1 << 20} {
			q := Query{Group: "g", Limit: limit, Bytes: most, Scan: 1}
			if diff := cmp.Diff(want, p.readAll(t, q)); diff != "" {
				t.Errorf("limit %d, %d bytes: %s", limit, most, diff)
			}
			q.Backward = true
			back := slices.Clone(want)
			slices.Reverse(back)
			if diff := cmp.Diff(back, p.readAll(t, q)); diff != "" {
				t.Errorf("backward, limit %d, %d bytes: %s", limit, most, diff)
			}
		}
	}
	only := p.readAll(t, Query{
		Group: "g", Limit: 10, Bytes: 1000, From: Position{At: at(3).UnixMicro()}, Before: Position{At: at(5).UnixMicro()},
		Stream: func(name string) bool { return name == "a" },
	})
	if diff := cmp.Diff([]string{"a3"}, only); diff != "" {
		t.Error(diff)
	}
	matched := p.readAll(t, Query{Group: "g", Limit: 1, Bytes: 1000, Match: func(e *telemetry.Event) bool { return strings.HasSuffix(e.Message, "4") }})
	if diff := cmp.Diff([]string{"b4"}, matched); diff != "" {
		t.Error(diff)
	}
	if got := p.readAll(t, Query{Group: "none", Limit: 1, Bytes: 1}); len(got) != 0 {
		t.Error(got)
	}
}

// Many chunks, events far out of order, pages that are bounded by what is read: every event comes once, in order.
func TestPagesOverManyChunks(t *testing.T) {
	p := start(t, t.TempDir())
	random := rand.New(rand.NewPCG(1, 2))
	filler := strings.Repeat("x", 3000)
	type event struct {
		at  int
		key string
	}
	var all []event
	for i := range 300 {
		var events []telemetry.Event
		second := i*10 + random.IntN(10)
		if random.IntN(50) == 0 {
			second = random.IntN(3000)
		}
		for range 2 {
			key := fmt.Sprintf("%06d ", len(all))
			all = append(all, event{second, key})
			events = append(events, telemetry.Event{At: at(second), Message: key + filler})
		}
		if err := p.Append(t.Context(), "g", "s", events); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(p.chunksOf("g", 0, 1<<62)); n < 5 {
		t.Fatalf("%d chunks", n)
	}
	slices.SortStableFunc(all, func(a, b event) int { return a.at - b.at })
	for _, scan := range []int64{1, 1 << 20, 1 << 30} {
		for _, backward := range []bool{false, true} {
			got := p.readAll(t, Query{Group: "g", Limit: 50, Bytes: 100_000, Scan: scan, Backward: backward})
			if backward {
				slices.Reverse(got)
			}
			if len(got) != len(all) {
				t.Fatalf("scan %d, backward %v: %d events of %d", scan, backward, len(got), len(all))
			}
			for i := range got {
				if got[i][:7] != all[i].key {
					t.Fatalf("scan %d, backward %v: event %d is %s, want %s", scan, backward, i, got[i][:7], all[i].key)
				}
			}
		}
	}
}

func TestStreamsAndGroupsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	p.put(t, "g", "a", 5, 3)
	p.put(t, "g", "b", 9)
	if err := p.CreateStream(t.Context(), "g", "empty"); err != nil {
		t.Fatal(err)
	}
	if err := p.CreateStream(t.Context(), "g", "a"); !errors.Is(err, state.ErrExists) {
		t.Errorf("the stream is made twice: %v", err)
	}
	if err := p.Create(t.Context(), "made", Group{Created: at(0), Retention: 3}); err != nil {
		t.Fatal(err)
	}
	if err := p.Create(t.Context(), "g", Group{}); !errors.Is(err, state.ErrExists) {
		t.Errorf("the group is made twice: %v", err)
	}
	if n, err := p.Count(t.Context()); err != nil || n != 2 {
		t.Errorf("%d groups of 2, of which one is empty: %v", n, err)
	}
	if err := p.Update(t.Context(), "g", func(g *Group) error { g.Tags = map[string]string{"k": "v"}; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := p.Update(t.Context(), "none", func(*Group) error { return nil }); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
	show := func(p *platform, times bool) string {
		var b strings.Builder
		list, err := p.Groups(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range list {
			if !times && g.Name == "g" {
				g.Created = time.Time{} // when it was told of, or when it was stored
			}
			fmt.Fprintln(&b, g.Name, g.Created.UnixMicro(), g.Retention, g.Tags, g.Bytes)
			streams, err := p.Streams(t.Context(), g.Name, "", true)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range streams {
				fmt.Fprintln(&b, " ", s.Name, s.From.UnixMicro(), s.To.UnixMicro())
				if times {
					fmt.Fprintln(&b, "  ", s.Created.UnixMicro(), s.Stored.UnixMicro())
				}
			}
		}
		return b.String()
	}
	want, untimed := show(p, true), show(p, false)
	if strings.Count(untimed, "\n") != 5 {
		t.Fatalf("listed:\n%s", untimed)
	}
	p.stop()
	p = start(t, dir)
	if diff := cmp.Diff(want, show(p, true)); diff != "" {
		t.Errorf("with a snapshot: %s", diff)
	}
	p.stop()
	p = start(t, dir, func(_ *state.Config, c *Config) { c.Snapshot = "" })
	if diff := cmp.Diff(untimed, show(p, false)); diff != "" {
		t.Errorf("without a snapshot: %s", diff)
	}
}

func TestWhatWasDeletedIsGone(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	for i := range 20 {
		p.put(t, "g", "a", i)
		p.put(t, "g", "b", i)
		p.put(t, "h", "c", i)
	}
	if err := p.DeleteStream(t.Context(), "g", "a"); err != nil {
		t.Fatal(err)
	}
	if err := p.DeleteStream(t.Context(), "g", "a"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if err := p.DeleteGroup(t.Context(), "h"); err != nil {
		t.Fatal(err)
	}
	p.put(t, "h", "later", 100)
	check := func(p *platform) {
		t.Helper()
		if got := p.readAll(t, Query{Group: "g", Limit: 100, Bytes: 1 << 20}); len(got) != 20 || slices.Contains(got, "a1") {
			t.Errorf("%d events in g: %v", len(got), got)
		}
		if diff := cmp.Diff([]string{"later100"}, p.readAll(t, Query{Group: "h", Limit: 100, Bytes: 1 << 20})); diff != "" {
			t.Error(diff)
		}
		// The old reader goes to the store itself.
		n := 0
		if err := p.logs.Read(t.Context(), "g", time.Time{}, false, func(telemetry.Event) error { n++; return nil }); err != nil || n != 20 {
			t.Errorf("%d events are read, %v", n, err)
		}
		streams, err := p.Streams(t.Context(), "h", "", false)
		if err != nil || len(streams) != 1 {
			t.Errorf("streams of h: %v, %v", streams, err)
		}
	}
	check(p)
	p.stop()
	check(start(t, dir))
}

// A deletion that a crash cut off after it was noted is carried out by the next start.
func TestADeletionIsFinished(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	p.put(t, "g", "a", 1)
	p.put(t, "g", "b", 2)
	p.put(t, "h", "c", 3)
	p.stop()
	store, err := state.Open(t.Context(), state.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for group, meta := range map[string]telemetry.Meta{
		"g": {Kind: telemetry.StreamDeleted, Stream: "a"}, "h": {Kind: telemetry.GroupDeleted},
	} {
		if _, err := store.AppendLog(t.Context(), group, meta.String(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	p = start(t, dir)
	for deadline := time.After(10 * time.Second); ; {
		var left []string
		for _, group := range []string{"g", "h"} {
			if err := p.logs.Read(t.Context(), group, time.Time{}, false, func(e telemetry.Event) error { left = append(left, e.Message); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if slices.Equal(left, []string{"b2"}) {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("left: %v", left)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// The snapshot may be newer than a deletion that was cut off.
func TestADeletionIsFinishedWithASnapshotBehindIt(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	p.put(t, "g", "a", 1)
	p.put(t, "g", "b", 2)
	meta := telemetry.Meta{Kind: telemetry.StreamDeleted, Stream: "a"}
	sequence, err := p.store.AppendLog(t.Context(), "g", meta.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.wait(t.Context(), sequence); err != nil {
		t.Fatal(err)
	}
	p.stop() // which saves
	p = start(t, dir)
	if err := p.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := p.readAll(t, Query{Group: "g", Limit: 10, Bytes: 1 << 20}); !slices.Equal(got, []string{"b2"}) {
		t.Errorf("left: %v", got)
	}
	if len(p.unerased) > 0 {
		t.Errorf("%+v", p.unerased)
	}
}

// A snapshot that is cut off, damaged anywhere, of another version or something else is not believed, and asks for no memory.
func TestADamagedSnapshotIsNotRead(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	p.put(t, "g", "a", 1)
	p.put(t, "g", "b", 2)
	name := p.cfg.Snapshot
	p.stop()
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readSnapshot(name); err != nil {
		t.Fatal(err)
	}
	damaged := [][]byte{nil, whole[:len(whole)-1], whole[:len(whole)/2], whole[32:], append(slices.Clone(whole), 0)}
	for i := range whole {
		other := slices.Clone(whole)
		other[i] ^= 0x80
		damaged = append(damaged, other)
	}
	for i, data := range damaged {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readSnapshot(name); err == nil {
			t.Errorf("the snapshot %d is read", i)
		}
	}
	p = start(t, dir)
	if got := p.readAll(t, Query{Group: "g", Limit: 10, Bytes: 1 << 20}); !slices.Equal(got, []string{"a1", "b2"}) {
		t.Errorf("%v", got)
	}
}

func TestRetentionDeletes(t *testing.T) {
	now := time.Now()
	var clock sync.Mutex
	p := start(t, t.TempDir(), func(_ *state.Config, c *Config) {
		c.Now = func() time.Time { clock.Lock(); defer clock.Unlock(); return now }
	})
	p.put(t, "g", "a", 1, 2)
	p.put(t, "kept", "a", 1)
	if err := p.Update(t.Context(), "g", func(g *Group) error { g.Retention = 1; return nil }); err != nil {
		t.Fatal(err)
	}
	clock.Lock()
	now = now.AddDate(0, 0, 2)
	clock.Unlock()
	if err := p.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, group := range []string{"g", "kept"} {
		if err := p.logs.Read(t.Context(), group, time.Time{}, false, func(telemetry.Event) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if n != 1 {
		t.Errorf("%d events are left", n)
	}
	list, err := p.Groups(t.Context())
	if err != nil || len(list) != 2 || list[0].Bytes != 0 || list[1].Bytes == 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestWhatTheStoreDropsIsDropped(t *testing.T) {
	p := start(t, t.TempDir(), func(c *state.Config, _ *Config) { c.LogEvents = 10 })
	for i := range 30 {
		p.put(t, "g", fmt.Sprint("s", i), i)
	}
	if err := p.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := p.readAll(t, Query{Group: "g", Limit: 100, Bytes: 1 << 20}); len(got) != 10 {
		t.Errorf("%d events", len(got))
	}
	if list, err := p.Groups(t.Context()); err != nil || list[0].Bytes > 10*40 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestFollow(t *testing.T) {
	p := start(t, t.TempDir())
	p.put(t, "g", "a", 1)
	newest, err := p.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.put(t, "g", "a", 2, 3)
	var got []string
	done := errors.New("done")
	err = p.Follow(t.Context(), "g", newest, func(_ uint64, events []Event) error {
		got = append(got, messages(events)...)
		if len(got) == 2 {
			p.put(t, "g", "b", 4)
			return nil
		}
		return done
	})
	if err != done || !slices.Equal(got, []string{"a2", "a3", "b4"}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	x, err := New(Config{Store: new(state.Store), Settings: new(Settings)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range MaxStreams + MaxStreams/2 {
		meta := telemetry.Meta{Kind: telemetry.Written, Stream: fmt.Sprint(i), Events: 1, From: epoch, To: epoch}
		x.apply(state.LogRecord{Group: fmt.Sprint("g", i%3), Sequence: uint64(i + 1), At: epoch, Size: 100}, meta)
	}
	if x.streams > MaxStreams {
		t.Errorf("%d streams", x.streams)
	}
	if _, ok := x.Stream("g0", "0"); ok {
		t.Error("the oldest is kept")
	}
	if newest := MaxStreams + MaxStreams/2 - 1; x.groups[fmt.Sprint("g", newest%3)].Streams[fmt.Sprint(newest)] == nil {
		t.Error("the newest is forgotten")
	}
	for _, g := range x.groups {
		if len(g.Chunks) > maxChunks {
			t.Errorf("%d chunks", len(g.Chunks))
		}
	}
}
