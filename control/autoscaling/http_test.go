package autoscaling

import (
	"context"
	"sync"
	"testing"
	"time"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/apitest"
	"thaw/control/internal/golden"
	trigger "thaw/trigger/autoscaling"
)

var account = thaw.Account{ID: "123456789012", Region: "eu-west-1"}

// world is the API over one function, f, with the aliases live and other of version 1, and the loop on the same records.
type world struct {
	*apitest.Clock
	api  *API
	loop *trigger.Loop

	mu sync.Mutex
	f  thaw.Function
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{Clock: apitest.NewClock(time.Date(2026, 3, 2, 12, 0, 0, 250e6, time.UTC))}
	w.f = thaw.Function{
		Name: "f", Published: []thaw.Version{{Number: "1", State: thaw.StateActive}}, Provisioned: map[string]thaw.Provisioned{},
		Aliases: map[string]thaw.Alias{"live": {Name: "live", Version: "1"}, "other": {Name: "other", Version: "1"}},
	}
	records := trigger.NewRecords(apitest.Store(t))
	w.api = New(account, records, w)
	w.api.now = w.Now
	var err error
	w.loop, err = trigger.New(trigger.Config{
		Records: records, Functions: w, Now: w.Now,
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

// pass lets a time pass and the loop look once.
func (w *world) pass(t *testing.T, d time.Duration) {
	t.Helper()
	w.Pass(d)
	if err := w.loop.Tick(t.Context(), w.Now()); err != nil {
		t.Fatal(err)
	}
}

func service(t testing.TB, w *world) *awsapi.Service {
	t.Helper()
	return apitest.Service(t, "application-autoscaling", w.api.Register)
}

// TestGolden has a step "pass 2s", which lets time pass.
func TestGolden(t *testing.T) {
	golden.Run(t, func(t *testing.T) golden.Conversation {
		w := newWorld(t)
		return golden.Conversation{
			ContentType: "application/x-amz-json-1.1", Handler: golden.Targeted("AnyScaleFrontendService", service(t, w)),
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
