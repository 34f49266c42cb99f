package scheduler

import (
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/golden"
	"thaw/state"
	trigger "thaw/trigger/scheduler"
)

var account = thaw.Account{ID: "123456789012", Region: "eu-west-1"}

// world is the API with a clock.
type world struct {
	api *API

	mu  sync.Mutex
	now time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	store, err := state.Open(t.Context(), state.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	w := &world{now: time.Date(2026, 3, 2, 12, 0, 0, 250e6, time.UTC)}
	w.api = New(account, trigger.NewRecords(store))
	w.api.now = w.clock
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) service(t testing.TB) *awsapi.Service {
	t.Helper()
	s, err := awsapi.New("scheduler")
	if err != nil {
		t.Fatal(err)
	}
	w.api.Register(s)
	return s
}

func (w *world) serve(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(w.service(t))
	t.Cleanup(server.Close)
	return server.URL
}

func TestGolden(t *testing.T) {
	golden.Run(t, func(t *testing.T) golden.Conversation {
		return golden.Conversation{ContentType: "application/json", Handler: newWorld(t).service(t)}
	})
}
