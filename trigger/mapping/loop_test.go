package mapping

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"thaw"
	"thaw/state"
	"thaw/state/queues"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a loop over a real store.
type world struct {
	*bench
	store   *state.Store
	records *Records
	stop    func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	store, err := state.Open(t.Context(), state.Config{Dir: filepath.Join(t.TempDir(), "data")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	w := &world{bench: newBench(t, queues.Options{}), store: store, records: NewRecords(store)}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) start() {
	w.t.Helper()
	cfg := w.config()
	cfg.Records = w.records
	l, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := l.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	w.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
}

// until waits until ok, for a minute at most.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-deadline:
			w.t.Fatalf("%s: not within a minute; invoked with %s", what, w.told())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (w *world) untilState(state string) {
	w.t.Helper()
	w.until(state, func() bool { return w.state() == state })
}

func (w *world) state() string {
	m, err := w.records.Get(w.t.Context(), w.mapping().UUID)
	if err != nil {
		return err.Error()
	}
	return m.State
}

// ask changes the mapping as the API does.
func (w *world) ask(to string, change func(*Mapping)) {
	w.t.Helper()
	_, err := w.records.Update(w.t.Context(), w.mapping().UUID, func(m *Mapping) error {
		change(m)
		m.State = to
		m.Revision++
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestLoopFollowsTheRecords(t *testing.T) {
	w := newWorld(t)
	w.queue.send("a")
	if err := w.records.Create(t.Context(), w.mapping(func(m *Mapping) { m.State = StateCreating })); err != nil {
		t.Fatal(err)
	}
	w.until("a", func() bool { return w.told() == "a" })
	w.untilState(StateEnabled)

	w.ask(StateUpdating, func(m *Mapping) { m.BatchSize = 1 })
	w.untilState(StateEnabled)
	w.queue.send("b")
	w.until("b", func() bool { return w.told() == "a|b" })

	w.ask(StateDisabling, func(m *Mapping) { m.Enabled = false })
	w.untilState(StateDisabled)
	w.queue.send("c")
	w.ask(StateUpdating, func(m *Mapping) { m.BatchSize = 2 })
	w.untilState(StateDisabled)
	w.wantTold("a|b")

	w.stop() // and nothing is forgotten
	w.ask(StateEnabling, func(m *Mapping) { m.Enabled = true })
	w.start()
	w.until("c", func() bool { return w.told() == "a|b|c" })
	w.untilState(StateEnabled)
	w.stop()
	w.queue.send("d")
	w.start()
	w.until("d", func() bool { return w.told() == "a|b|c|d" })

	w.ask(StateDeleting, func(*Mapping) {})
	w.until("deleted", func() bool {
		_, err := w.records.Get(t.Context(), w.mapping().UUID)
		return errors.Is(err, state.ErrNotFound)
	})
	w.queue.send("e")
	w.stop()
	w.wantTold("a|b|c|d")
	w.wantLeft("e=0")
}

func TestDeletingWaitsForTheFunction(t *testing.T) {
	w := newWorld(t)
	working, release := make(chan struct{}), make(chan struct{})
	w.mu.Lock()
	w.serve = func(context.Context, []string) (Result, error) {
		close(working)
		<-release
		return Result{}, nil
	}
	w.mu.Unlock()
	w.queue.send("a")
	if err := w.records.Create(t.Context(), w.mapping()); err != nil {
		t.Fatal(err)
	}
	<-working
	w.ask(StateDeleting, func(*Mapping) {})
	select {
	case <-time.After(4 * tickEvery):
	case <-t.Context().Done():
	}
	if got := w.state(); got != StateDeleting {
		t.Errorf("state %s", got)
	}
	close(release)
	w.until("deleted", func() bool {
		_, err := w.records.Get(t.Context(), w.mapping().UUID)
		return errors.Is(err, state.ErrNotFound)
	})
	w.wantLeft("")
}

// Records that cannot be read are tried again and again, but not more often with each thing that happens meanwhile.
func TestUnreadableRecordsAreNotReadEverFaster(t *testing.T) {
	w := newWorld(t)
	w.stop()
	kept := w.store.Records("event-source-mapping")
	if err := kept.Put(t.Context(), "bad", 1); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	w.start()
	for n := range 50 {
		if err := kept.Put(t.Context(), "bad", n); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Millisecond)
	}
	if n := runtime.NumGoroutine() - before; n > 20 {
		t.Errorf("%d goroutines wait to read them", n)
	}
	if err := kept.Delete(t.Context(), "bad"); err != nil {
		t.Fatal(err)
	}
	w.queue.send("a")
	if err := w.records.Create(t.Context(), w.mapping()); err != nil {
		t.Fatal(err)
	}
	w.until("a", func() bool { return w.told() == "a" })
}

func TestOutcomesAreWrittenDown(t *testing.T) {
	w := newWorld(t)
	w.mu.Lock()
	w.serve = func(context.Context, []string) (Result, error) { return Result{FunctionError: true}, nil }
	w.mu.Unlock()
	w.queue.send("a")
	if err := w.records.Create(t.Context(), w.mapping()); err != nil {
		t.Fatal(err)
	}
	w.until("the outcome", func() bool {
		m, err := w.records.Get(t.Context(), w.mapping().UUID)
		return err == nil && m.LastResult == resultFailed
	})
}

func TestNewAsksForWhatItNeeds(t *testing.T) {
	b := newBench(t, queues.Options{})
	for name, without := range map[string]func(*Config){
		"account":   func(c *Config) { c.Account = thaw.Account{} },
		"records":   func(c *Config) { c.Records = nil },
		"functions": func(c *Config) { c.Functions = nil },
		"queue":     func(c *Config) { c.Queue = nil },
		"invoke":    func(c *Config) { c.Invoke = nil },
	} {
		cfg := b.config()
		without(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("New works without %s", name)
		}
	}
}
