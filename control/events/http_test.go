package events

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/golden"
	"thaw/state"
	"thaw/trigger/delivery"
	trigger "thaw/trigger/events"
)

var account = thaw.Account{ID: "123456789012", Region: "eu-west-1"}

// world is the API with the bus behind it, and what that delivered.
type world struct {
	api *API

	mu   sync.Mutex
	now  time.Time
	sent []delivery.Delivery
	fail error
}

func newWorld(t testing.TB) *world {
	t.Helper()
	store, err := state.Open(t.Context(), state.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	w := &world{now: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)}
	records := trigger.NewRecords(store)
	bus := trigger.New(account, records, w.deliver, w.clock, nil)
	w.api = New(account, records, bus.Publish)
	w.api.now = w.clock
	return w
}

func (w *world) deliver(_ context.Context, d delivery.Delivery) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return w.fail
	}
	w.sent = append(w.sent, d)
	return nil
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
	s, err := awsapi.New("events")
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

// TestGolden has the operation's name in the path, where the golden files can show it.
func TestGolden(t *testing.T) {
	golden.Run(t, func(t *testing.T) golden.Conversation {
		s := newWorld(t).service(t)
		return golden.Conversation{
			ContentType: "application/x-amz-json-1.1",
			Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				r.Header.Set("X-Amz-Target", "AWSEvents."+strings.TrimPrefix(r.URL.Path, "/"))
				r.URL.Path = "/"
				s.ServeHTTP(rw, r)
			}),
		}
	})
}
