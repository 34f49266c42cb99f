package autoscaling

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/golden"
	"thaw/state"
	trigger "thaw/trigger/autoscaling"
)

var account = thaw.Account{ID: "123456789012", Region: "eu-west-1"}

// world is the API over one function, f, with the aliases live and other of version 1, and the loop on the same records.
type world struct {
	api  *API
	loop *trigger.Loop

	mu  sync.Mutex
	f   thaw.Function
	now time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	store, err := state.Open(t.Context(), state.Config{Dir: filepath.Join(t.TempDir(), "data")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	w := &world{now: time.Date(2026, 3, 2, 12, 0, 0, 250e6, time.UTC)}
	w.f = thaw.Function{
		Name: "f", Published: []thaw.Version{{Number: "1", State: thaw.StateActive}}, Provisioned: map[string]thaw.Provisioned{},
		Aliases: map[string]thaw.Alias{"live": {Name: "live", Version: "1"}, "other": {Name: "other", Version: "1"}},
	}
	records := trigger.NewRecords(store)
	w.api = New(account, records, w)
	w.api.now = w.clock
	w.loop, err = trigger.New(trigger.Config{
		Records: records, Functions: w, Now: w.clock,
		Provision: func(_ context.Context, _, qualifier string, n int) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.f.Provisioned[qualifier] = thaw.Provisioned{Requested: n}
			return nil
		},
		Usage: func(_, qualifier string) (inFlight, allocated int, ok bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			n := w.f.Provisioned[qualifier].Requested
			return n, n, n > 0
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) Function(name string) (*thaw.Function, bool) { return &w.f, name == "f" }

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// pass lets a time pass and the loop look once.
func (w *world) pass(t *testing.T, d time.Duration) {
	t.Helper()
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	if err := w.loop.Tick(t.Context(), w.clock()); err != nil {
		t.Fatal(err)
	}
}

func (w *world) service(t testing.TB) *awsapi.Service {
	t.Helper()
	s, err := awsapi.New("application-autoscaling")
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

// TestGolden has the operation's name in the path, where the golden files can show it. A step "pass 2s" lets time pass.
func TestGolden(t *testing.T) {
	golden.Run(t, func(t *testing.T) golden.Conversation {
		w := newWorld(t)
		s := w.service(t)
		return golden.Conversation{
			ContentType: "application/x-amz-json-1.1",
			Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				r.Header.Set("X-Amz-Target", "AnyScaleFrontendService."+strings.TrimPrefix(r.URL.Path, "/"))
				r.URL.Path = "/"
				s.ServeHTTP(rw, r)
			}),
			Step: func(t *testing.T, word, argument string) {
				d, err := time.ParseDuration(argument)
				if word != "pass" || err != nil {
					t.Fatalf("unknown step %s %s", word, argument)
				}
				w.pass(t, d)
			},
		}
	})
}
