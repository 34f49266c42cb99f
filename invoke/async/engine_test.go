package async

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"thaw"
	"thaw/invoke"
	"thaw/state"
	"thaw/state/queues"
)

// TestRealEngine runs the Dispatcher on the engine that it ships with: an event fails, waits, survives a restart, dies and
// is started again.
func TestRealEngine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	var mu sync.Mutex
	attempts := make(chan string, 10)
	p := &platform{t: t, began: time.Now(), functions: map[string]*thaw.Function{}}
	v := thaw.Version{Function: "f", Number: thaw.Latest, State: thaw.StateActive}
	p.functions["f"] = &thaw.Function{Name: "f", Config: v, Running: &v, EventInvoke: map[string]thaw.EventInvoke{thaw.Latest: {MaxRetries: number(1)}}}
	fail := true
	p.handle = func(r *invoke.Request) (string, bool, error) {
		mu.Lock()
		defer mu.Unlock()
		attempts <- r.RequestID
		return failed, fail, nil
	}
	start := func(wait time.Duration) (d *Dispatcher, stop func()) {
		store, err := state.Open(t.Context(), state.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		engine, err := queues.Open(t.Context(), store, queues.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if d, err = New(Config{Queues: NewEngine(engine), Invoker: p, Catalog: p, Account: account, RetryWait: wait, Log: slog.New(slog.DiscardHandler)}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() { engine.Run(ctx) }) //nolint:errcheck // it ends with ctx
		dispatching, end := context.WithCancel(t.Context())
		var dispatcher sync.WaitGroup
		dispatcher.Go(func() {
			if err := d.Run(dispatching); err != nil {
				t.Error(err)
			}
		})
		return d, func() {
			end()
			dispatcher.Wait()
			cancel()
			group.Wait()
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	eventually := func(d *Dispatcher, what string, ok func(FunctionEvents) bool) {
		t.Helper()
		for deadline := time.After(30 * time.Second); ; {
			f, _ := d.Function("f")
			if ok(f) {
				return
			}
			select {
			case <-deadline:
				t.Fatalf("not in time: %s: %+v", what, f)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	d, stop := start(2 * time.Second)
	id, err := d.Enqueue(t.Context(), &Event{Function: thaw.FunctionRef{Name: "f"}, Payload: []byte(`{"n":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	eventually(d, "it waits for its retry", func(f FunctionEvents) bool { return f.Retrying == 1 })
	stop()
	d, stop = start(2 * time.Second)
	list, _, err := d.Events(t.Context(), "f", "", 10)
	if err != nil || len(list) != 1 || list[0].ID != id || list[0].Attempts != 1 || list[0].Error != "no" {
		t.Fatalf("%+v, %v", list, err)
	}
	eventually(d, "it is dead", func(f FunctionEvents) bool { return f.Dead == 1 && f.Retrying+f.Running+f.Waiting == 0 })
	if list, _, err := d.Events(t.Context(), "f", "", 10); err != nil || len(list) != 1 || list[0].State != StateDead || list[0].Attempts != 2 {
		t.Errorf("%+v, %v", list, err)
	}
	mu.Lock()
	fail = false
	mu.Unlock()
	if n, err := d.Redrive(t.Context(), "f", id); n != 1 || err != nil {
		t.Errorf("redrive: %d, %v", n, err)
	}
	eventually(d, "nothing is left", func(f FunctionEvents) bool {
		return f.Succeeded == 1 && f.Dead+f.Retrying+f.Running+f.Waiting == 0
	})
	stop()
	close(attempts)
	n := 0
	for got := range attempts {
		if n++; got != id {
			t.Errorf("an attempt as %s, not %s", got, id)
		}
	}
	if n != 3 {
		t.Errorf("%d attempts", n)
	}
}

// TestOnce: an event that is told again, as after a crash, is accepted again without a second one, and others with its id are.
func TestOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := &platform{t: t, began: time.Now(), functions: map[string]*thaw.Function{"f": {Name: "f"}}}
	tell := func(e Event) (accepted int64, waiting int) {
		t.Helper()
		store, err := state.Open(t.Context(), state.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		engine, err := queues.Open(t.Context(), store, queues.Config{})
		if err != nil {
			t.Fatal(err)
		}
		d, err := New(Config{Queues: NewEngine(engine), Invoker: p, Catalog: p, Account: account, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if id, err := d.Enqueue(t.Context(), &e); id != e.RequestID || err != nil {
				t.Errorf("%s, %v", id, err)
			}
		}
		f, _ := d.Function("f")
		return f.Accepted, f.Waiting
	}
	event := Event{Function: thaw.FunctionRef{Name: "f"}, RequestID: "11111111-1111-1111-1111-111111111111", Once: true}
	if accepted, waiting := tell(event); accepted != 1 || waiting != 1 {
		t.Errorf("%d accepted, %d wait", accepted, waiting)
	}
	if accepted, waiting := tell(event); accepted != 0 || waiting != 1 {
		t.Errorf("after a restart: %d accepted, %d wait", accepted, waiting)
	}
	event.Once = false
	if accepted, waiting := tell(event); accepted != 2 || waiting != 3 {
		t.Errorf("others: %d accepted, %d wait", accepted, waiting)
	}
}
