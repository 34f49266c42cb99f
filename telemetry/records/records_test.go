package records

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"thaw"
	"thaw/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openStore opens a store on a directory and closes it with the test.
func openStore(t testing.TB, dir string) *state.Store {
	t.Helper()
	store, err := state.Open(t.Context(), state.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// start runs a Recorder until the test ends, or stop is called.
func start(t testing.TB, cfg Config) (r *Recorder, stop func()) {
	t.Helper()
	r = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return r, stop
}

func invocation(function string, kind thaw.StartKind) thaw.Invocation {
	return thaw.Invocation{
		RequestID: uuid.NewString(), Function: function, Version: thaw.Latest, Kind: kind, Start: time.Now().UTC().Truncate(time.Microsecond),
		EnvironmentID: "0123456789abcdef0123456789abcdef", TraceID: "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1",
		MemorySize: 128, MaxMemoryUsed: 31, Duration: 1234 * time.Microsecond, Billed: 2 * time.Millisecond,
		Phases: thaw.Phases{thaw.PhaseAdmit: {Length: 20 * time.Microsecond}, thaw.PhaseHandler: {Start: 30 * time.Microsecond, Length: 1234 * time.Microsecond}},
	}
}

// full has every field set.
func full() thaw.Invocation {
	i := invocation("full", thaw.StartBoot)
	i.Version, i.Alias, i.Provisioned, i.SpilledOver, i.Cause = "17", "live", true, true, thaw.CauseDeployed
	i.InitDuration, i.RestoreDuration, i.BilledRestore = time.Second, 2*time.Second, 3*time.Millisecond
	i.ErrorType, i.Failed, i.TimedOut, i.Crashed = "Sandbox.Timedout", true, true, true
	i.Node, i.ProfileID, i.Async, i.EventAge = "node-1", "fedcba9876543210fedcba9876543210", true, time.Minute
	i.NodeFull, i.FailedInit, i.PostRuntime = true, 4*time.Second, 3*time.Millisecond
	for phase := range thaw.NumPhases {
		i.Phases[phase] = thaw.Span{Start: time.Duration(phase) * time.Millisecond, Length: time.Duration(phase+1) * time.Microsecond}
	}
	return i
}

// TestFullIsFull has whoever adds a field to the record say how it is kept.
func TestFullIsFull(t *testing.T) {
	v := reflect.ValueOf(full())
	for n := range v.NumField() {
		name := v.Type().Field(n).Name
		if v.Field(n).IsZero() && name != "Caller" { // it is not kept
			t.Errorf("full has no %s: set it there, and keep it (appendRecord) or say here why not", name)
		}
	}
}

func TestEveryFieldIsKept(t *testing.T) {
	r, _ := start(t, Config{Store: openStore(t, t.TempDir()).Invocations(state.InvocationsConfig{})})
	odd := invocation("odd", thaw.StartWarm)
	odd.RequestID, odd.EnvironmentID = "no uuid", "ABCDEF00000000000000000000000000"
	odd.Phases = thaw.Phases{}
	for _, want := range []thaw.Invocation{full(), odd, {RequestID: uuid.NewString(), Function: "empty", Version: thaw.Latest, Start: time.Now().UTC().Truncate(time.Microsecond)}} {
		r.Add(&want)
		got, err := r.Request(t.Context(), want.RequestID)
		if err != nil || len(got) != 1 {
			t.Fatalf("%s: %d records, %v", want.Function, len(got), err)
		}
		if diff := cmp.Diff(want, got[0]); diff != "" {
			t.Errorf("%s changed (-want +got):\n%s", want.Function, diff)
		}
	}
}

func TestLookUpByFunction(t *testing.T) {
	r, _ := start(t, Config{Store: openStore(t, t.TempDir()).Invocations(state.InvocationsConfig{})})
	kinds := []thaw.StartKind{thaw.StartWarm, thaw.StartFork, thaw.StartBoot}
	begin := time.Now().UTC().Truncate(time.Microsecond)
	for n := range 90 {
		for _, function := range []string{"a", "b", "c"} {
			i := invocation(function, kinds[n%3])
			i.Start = begin.Add(time.Duration(n) * time.Millisecond)
			r.Add(&i)
		}
	}
	for _, test := range []struct {
		query Query
		want  int
		first time.Duration
	}{
		{Query{Function: "a"}, 90, 89},
		{Query{Function: "b", Kinds: []thaw.StartKind{thaw.StartFork}}, 30, 88},
		{Query{Function: "b", Kinds: []thaw.StartKind{thaw.StartWarm, thaw.StartBoot}, Limit: 5}, 5, 89},
		{Query{Function: "c", Since: begin.Add(-time.Hour), Until: begin.Add(time.Hour), Limit: 1}, 1, 89},
		{Query{Function: "c", Since: begin.Add(time.Hour)}, 0, 0},
		{Query{Function: "c", Until: begin.Add(-time.Hour)}, 0, 0},
		{Query{Function: "d"}, 0, 0},
	} {
		got, err := r.Invocations(t.Context(), test.query)
		if err != nil || len(got) != test.want {
			t.Errorf("%+v: %d records, %v", test.query, len(got), err)
			continue
		}
		for n := range got {
			if got[n].Function != test.query.Function || n > 0 && got[n].Start.After(got[n-1].Start) {
				t.Errorf("%+v: record %d is %s of %v", test.query, n, got[n].Function, got[n].Start)
			}
		}
		if test.want > 0 && !got[0].Start.Equal(begin.Add(test.first*time.Millisecond)) {
			t.Errorf("%+v: the newest is of %v", test.query, got[0].Start.Sub(begin))
		}
	}
}

func TestAllAttemptsOfAnAsynchronousInvocation(t *testing.T) {
	r, _ := start(t, Config{Store: openStore(t, t.TempDir()).Invocations(state.InvocationsConfig{})})
	id, accepted := uuid.NewString(), time.Now().Add(-time.Minute)
	for n := range 3 {
		i := invocation("f", thaw.StartWarm)
		i.RequestID, i.Async, i.EventAge = id, true, time.Duration(n)*20*time.Second
		i.Start = accepted.Add(i.EventAge)
		r.Add(&i)
		other := invocation("f", thaw.StartBoot)
		r.Add(&other)
		r.Flush(t.Context())
	}
	got, err := r.Request(t.Context(), id)
	if err != nil || len(got) != 3 {
		t.Fatalf("%d attempts, %v", len(got), err)
	}
	for n := range got {
		if want := time.Duration(n) * 20 * time.Second; got[n].EventAge != want {
			t.Errorf("attempt %d was at %v", n, got[n].EventAge)
		}
	}
	if got, err = r.Request(t.Context(), uuid.NewString()); err != nil || len(got) != 0 {
		t.Errorf("an unknown id has %d records, %v", len(got), err)
	}
}

func TestProfiles(t *testing.T) {
	r, _ := start(t, Config{Store: openStore(t, t.TempDir()).Invocations(state.InvocationsConfig{})})
	make := func(version string, n int) *thaw.InitProfile {
		return &thaw.InitProfile{
			ID: fmt.Sprintf("%s-%d", version, n), Function: "f", Version: version, Length: time.Second, At: time.Now().UTC(),
			Modules:     []thaw.Module{{Name: "app", Parent: -1, Kind: thaw.ModuleImport, Total: time.Second}, {Name: "pandas", File: "/var/task/pandas/__init__.py", Bytes: 3}},
			Connections: []thaw.Connection{{Host: "db", Address: "10.0.0.1:5432", TCP: time.Millisecond, Module: -1}},
		}
	}
	for n := range 25 {
		r.Profiled(make(thaw.Latest, n))
		if n == 0 {
			r.Profiled(make("1", n))
			r.Profiled(&thaw.InitProfile{ID: "other", Function: "f2", Version: "1"})
		}
	}
	ids := []string{"", "other", "1-0"}
	for n := range 25 {
		ids = append(ids, fmt.Sprint("$LATEST-", n))
	}
	all, err := r.Profiles(t.Context(), "f", ids...)
	if err != nil || len(all) != 21 {
		t.Fatalf("%d profiles, %v", len(all), err)
	}
	if all[0].ID != "$LATEST-24" {
		t.Errorf("the newest is %s", all[0].ID)
	}
	got, err := r.Profiles(t.Context(), "f", "1-0", "$LATEST-0")
	if err != nil || len(got) != 1 {
		t.Fatalf("the published version's profile is lost, or the oldest is kept: %v, %v", got, err)
	}
	want := make("1", 0)
	want.At = got[0].At
	if diff := cmp.Diff(want, &got[0]); diff != "" {
		t.Errorf("it changed (-want +got):\n%s", diff)
	}
	if got, err = r.Profiles(t.Context(), "f"); len(got) != 0 || err != nil {
		t.Errorf("nobody asked for %v, %v", got, err)
	}
}

func TestSinksGetEachRecordOnce(t *testing.T) {
	var seen atomic.Int64
	order := make(chan string, 1<<16)
	r, stop := start(t, Config{
		Store: openStore(t, t.TempDir()).Invocations(state.InvocationsConfig{}),
		Sinks: []func([]thaw.Invocation){
			func(list []thaw.Invocation) { seen.Add(int64(len(list))); order <- "first" },
			func([]thaw.Invocation) { order <- "second" },
		},
	})
	const writers, each = 8, 500
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for range each {
				i := invocation(fmt.Sprint("f", w), thaw.StartWarm)
				r.Add(&i)
			}
		})
	}
	all.Wait()
	stop()
	if n := uint64(seen.Load()) + r.Dropped(); n != writers*each || r.Dropped() > 0 {
		t.Errorf("sinks saw %d of %d, %d were dropped", seen.Load(), writers*each, r.Dropped())
	}
	if a, b := <-order, <-order; a != "first" || b != "second" {
		t.Errorf("sinks were called as %s, %s", a, b)
	}
}

// stuck is a store that stores nothing until it is let go, and fails then.
type stuck struct{ let chan struct{} }

var errStuck = errors.New("no store")

func (s stuck) Append(context.Context, []state.InvocationBatch) error { <-s.let; return errStuck }
func (s stuck) AppendProfile(context.Context, string, string, []byte) error {
	<-s.let
	return errStuck
}
func (stuck) Read(context.Context, []string, time.Time, time.Time, func(time.Time, []byte) error) error {
	return nil
}
func (stuck) ReadProfiles(context.Context, string, func(time.Time, []byte) error) error { return nil }

// TestWhatCannotBeKeptIsCounted also sees that neither Add nor the sinks wait for the store.
func TestWhatCannotBeKeptIsCounted(t *testing.T) {
	store := stuck{let: make(chan struct{})}
	var seen atomic.Int64
	r, stop := start(t, Config{Store: store, Sinks: []func([]thaw.Invocation){func(list []thaw.Invocation) { seen.Add(int64(len(list))) }}})
	const added = 3 * maxWaiting
	for range added {
		i := invocation("f", thaw.StartWarm)
		r.Add(&i)
	}
	const profiles = 3 * maxUnstored
	for range profiles {
		r.Profiled(&thaw.InitProfile{Function: "f", Version: "1"})
	}
	close(store.let)
	stop()
	if got := r.Dropped(); got != added+profiles {
		t.Errorf("%d of %d were counted as lost", got, added+profiles)
	}
	if seen.Load() == 0 {
		t.Error("the sinks saw nothing")
	}
}

func TestBoundWithoutRun(t *testing.T) {
	r := New(Config{})
	for range 2 * maxWaiting {
		i := invocation("f", thaw.StartWarm)
		r.Add(&i)
	}
	held := 0
	for n := range r.shards {
		held += len(r.shards[n].records)
	}
	if held > maxWaiting || uint64(held)+r.Dropped() != 2*maxWaiting {
		t.Errorf("%d are held, %d dropped", held, r.Dropped())
	}
}

// TestRetention sees that what is beyond the bounds is gone from the disk, not only from answers.
func TestRetention(t *testing.T) {
	t.Run("size", func(t *testing.T) {
		dir := t.TempDir()
		const bound = 4 << 20
		r, _ := start(t, Config{Store: openStore(t, dir).Invocations(state.InvocationsConfig{MaxBytes: bound})})
		firstOne := invocation("f", thaw.StartBoot)
		r.Add(&firstOne)
		var last thaw.Invocation
		for range 60 {
			for range 1000 {
				last = invocation("f", thaw.StartBoot)
				last.TraceID = uuid.NewString() + uuid.NewString() + uuid.NewString()
				r.Add(&last)
			}
			r.Flush(t.Context())
		}
		if r.Dropped() > 0 {
			t.Fatalf("%d were dropped", r.Dropped())
		}
		if used := diskUse(t, dir, "thaw-invocations"); used > bound+bound/2 {
			t.Errorf("%d bytes on disk, bound %d", used, bound)
		}
		if got, err := r.Request(t.Context(), firstOne.RequestID); err != nil || len(got) != 0 {
			t.Errorf("the first record is still there: %d, %v", len(got), err)
		}
		if got, err := r.Request(t.Context(), last.RequestID); err != nil || len(got) != 1 {
			t.Errorf("the last record is not there: %d, %v", len(got), err)
		}
	})
	t.Run("age", func(t *testing.T) {
		dir := t.TempDir()
		r, _ := start(t, Config{Store: openStore(t, dir).Invocations(state.InvocationsConfig{MaxAge: time.Second})})
		var old thaw.Invocation
		for range 2000 {
			old = invocation("f", thaw.StartBoot)
			old.TraceID = uuid.NewString() + uuid.NewString()
			r.Add(&old)
		}
		r.Profiled(&thaw.InitProfile{ID: "p", Function: "f", Version: "1"})
		if got, err := r.Request(t.Context(), old.RequestID); err != nil || len(got) != 1 {
			t.Fatalf("%d records, %v", len(got), err)
		}
		full := diskUse(t, dir, "thaw-invocations")
		deadline := time.After(30 * time.Second)
		for {
			got, err := r.Request(t.Context(), old.RequestID)
			profiles, profilesErr := r.Profiles(t.Context(), "f", "p")
			if err != nil || profilesErr != nil {
				t.Fatal(err, profilesErr)
			}
			if used := diskUse(t, dir, "thaw-invocations"); len(got) == 0 && len(profiles) == 0 && used < full/2 {
				return
			}
			select {
			case <-deadline:
				t.Fatalf("%d records and %d profiles are still there, on disk %d bytes of %d", len(got), len(profiles), diskUse(t, dir, "thaw-invocations"), full)
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
}

// diskUse is the size of a stream's files.
func diskUse(t *testing.T, dir, stream string) (total int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, stream) {
			return nil // a file may go while it is looked at
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

// TestRecordsOutliveTheStore reads what another Recorder has written.
func TestRecordsOutliveTheStore(t *testing.T) {
	dir := t.TempDir()
	i := full()
	func() {
		store, err := state.Open(t.Context(), state.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		r, stop := start(t, Config{Store: store.Invocations(state.InvocationsConfig{})})
		r.Add(&i)
		stop()
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	r, _ := start(t, Config{Store: openStore(t, dir).Invocations(state.InvocationsConfig{})})
	if got, err := r.Request(t.Context(), i.RequestID); err != nil || len(got) != 1 {
		t.Errorf("%d records, %v", len(got), err)
	}
}

func TestDamagedBatchesArePassedOver(t *testing.T) {
	records := openStore(t, t.TempDir()).Invocations(state.InvocationsConfig{})
	r, _ := start(t, Config{Store: records})
	i := invocation("f", thaw.StartBoot)
	r.Add(&i)
	r.Flush(t.Context())
	for _, data := range [][]byte{{}, {9, 1, 2}, {format}, {format, 0xff, 0xff, 0xff, 0xff, 0x7f}, compress([]byte{0xff, 0xff})} {
		if err := records.Append(t.Context(), []state.InvocationBatch{{Shelf: shelfName(shelfOf("f", false)), Data: data}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := records.AppendProfile(t.Context(), "f", "1", []byte{format, 1}); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Invocations(t.Context(), Query{Function: "f"}); err != nil || len(got) != 1 {
		t.Errorf("%d records, %v", len(got), err)
	}
	if got, err := r.Profiles(t.Context(), "f", ""); err != nil || len(got) != 0 {
		t.Errorf("%d profiles, %v", len(got), err)
	}
}

// FuzzUnpack holds what reads the store to its bounds, and packing to give back what was packed.
func FuzzUnpack(f *testing.F) {
	one := full()
	f.Add(pack([]thaw.Invocation{one, {}})[0].Data)
	f.Add([]byte{format})
	profile, err := packProfile(&thaw.InitProfile{ID: "x", Modules: []thaw.Module{{Name: "m"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(profile)
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = unpack(data, func(i *thaw.Invocation) error {
			again := 0
			for _, b := range pack([]thaw.Invocation{*i}) {
				if err := unpack(b.Data, func(*thaw.Invocation) error { again++; return nil }); err != nil {
					t.Error(err)
				}
			}
			if again != 1 {
				t.Errorf("one record became %d", again)
			}
			return nil
		})
		_, _ = unpackProfile(data)
	})
}

// BenchmarkAdd is what the request path pays.
func BenchmarkAdd(b *testing.B) {
	r, _ := start(b, Config{Store: stuckOpen{}})
	i := invocation("f", thaw.StartWarm)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Add(&i)
		}
	})
	b.ReportMetric(float64(r.Dropped())/float64(b.N), "dropped/op")
}

// BenchmarkAddKept is as much, as long as nothing is dropped.
func BenchmarkAddKept(b *testing.B) {
	r := New(Config{Store: stuckOpen{}})
	i := invocation("f", thaw.StartWarm)
	for n := 0; b.Loop(); n++ {
		if n%r.limit == 0 {
			b.StopTimer()
			r.drain()
			for len(r.unstored) > 0 {
				<-r.unstored
			}
			b.StartTimer()
		}
		r.Add(&i)
	}
	b.ReportMetric(float64(r.Dropped())/float64(b.N), "dropped/op")
}

// stuckOpen takes everything and keeps nothing.
type stuckOpen struct{ stuck }

func (stuckOpen) Append(context.Context, []state.InvocationBatch) error { return nil }

// BenchmarkStored is what a record costs altogether, off the request path included.
func BenchmarkStored(b *testing.B) {
	r, _ := start(b, Config{Store: openStore(b, b.TempDir()).Invocations(state.InvocationsConfig{})})
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		i := invocation(fmt.Sprint("f", n%100), thaw.StartWarm)
		r.Add(&i)
		if n++; n%1000 == 0 {
			r.Flush(b.Context())
		}
	}
	r.Flush(b.Context())
	b.ReportMetric(float64(r.Dropped()), "dropped")
}

// BenchmarkPack shows how large a stored record is.
func BenchmarkPack(b *testing.B) {
	list := make([]thaw.Invocation, 500)
	for n := range list {
		list[n] = invocation("function-of-some-length", thaw.StartWarm)
		list[n].TraceID = "Root=1-" + uuid.NewString()[:8] + "-" + strings.ReplaceAll(uuid.NewString(), "-", "")[:24] + ";Parent=" + uuid.NewString()[:8] + uuid.NewString()[:8] + ";Sampled=0;Lineage=12345678:1"
		list[n].EnvironmentID = strings.ReplaceAll(uuid.NewString(), "-", "")
	}
	size := 0
	for b.Loop() {
		size = 0
		for _, batch := range pack(list) {
			size += len(batch.Data)
		}
	}
	b.ReportMetric(float64(size)/float64(len(list)), "bytes/record")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(list)), "ns/record")
}
