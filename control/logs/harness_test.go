package logs

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"thaw"
	"thaw/control/internal/apitest"
	"thaw/control/internal/golden"
	"thaw/state"
	"thaw/telemetry"
	"thaw/telemetry/groups"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"), goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"))
}

var account = thaw.Account{ID: "123456789012", Region: "eu-west-1"}

// world is the API over a store of its own, with the functions deaf and open: the second lets CloudWatch Logs invoke it.
type world struct {
	api   *API
	store *state.Store
	logs  *telemetry.Logs
	index *groups.Index
}

const permission = `{"Effect":"Allow","Principal":{"Service":"logs.amazonaws.com"},"Action":"lambda:InvokeFunction"}`

func (w *world) Function(name string) (*thaw.Function, bool) {
	f := &thaw.Function{Name: name, Config: thaw.Version{Function: name}}
	if name == "open" {
		f.Policies = map[string]thaw.Policy{"": {Statements: []thaw.Statement{{SID: "s", Document: permission}}}}
	}
	return f, name == "open" || name == "deaf"
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{store: apitest.Store(t)}
	w.logs = telemetry.NewLogs(w.store)
	var err error
	w.index, err = groups.New(groups.Config{Store: w.store, Settings: groups.NewSettings(w.store), Flush: w.logs.Flush})
	if err != nil {
		t.Fatal(err)
	}
	w.api, err = New(Config{Account: account, Groups: w.index, Functions: w})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{w.index.Run, w.api.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { w.api.StopTails(); cancel(); running.Wait() })
	return w
}

func (w *world) handler(t testing.TB) http.Handler { return apitest.Service(t, "logs", w.api.Register) }

// write is what a function's environment does.
func (w *world) write(group, stream, requestID string, lines ...string) {
	s := w.logs.Stream(group, stream)
	for _, line := range lines {
		s.Write(time.Now(), requestID, []byte(line+"\n"))
	}
}

// TestGolden has its clock at 1,772,452,800,000 ms.
func TestGolden(t *testing.T) {
	golden.Run(t, func(t *testing.T) golden.Conversation {
		w := newWorld(t)
		w.api.cfg.Now = apitest.NewClock(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)).Now
		return golden.Conversation{
			ContentType: "application/x-amz-json-1.1", Handler: golden.Targeted("Logs_20140328", w.handler(t)),
			Variables: map[string]string{"LATEST": "$$LATEST"},
			Step: func(t *testing.T, word, argument string) {
				if word != "await" {
					t.Fatalf("unknown step %s %s", word, argument)
				}
				w.await(t)
			},
		}
	})
}

// await waits until no query runs or waits.
func (w *world) await(t *testing.T) {
	t.Helper()
	for deadline := time.After(10 * time.Second); ; {
		w.api.mu.Lock()
		busy := slices.ContainsFunc(w.api.queries, func(q *query) bool { return !done(q.status) })
		w.api.mu.Unlock()
		if !busy {
			return
		}
		select {
		case <-deadline:
			t.Fatal("a query does not end")
		case <-time.After(10 * time.Millisecond):
		}
	}
}
