package scheduler

import (
	"testing"
	"time"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/apitest"
	"thaw/control/internal/golden"
	trigger "thaw/trigger/scheduler"
)

var account = thaw.Account{ID: "123456789012", Region: "eu-west-1"}

// world is the API with a clock.
type world struct {
	*apitest.Clock
	api *API
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{Clock: apitest.NewClock(time.Date(2026, 3, 2, 12, 0, 0, 250e6, time.UTC))}
	w.api = New(account, trigger.NewRecords(apitest.Store(t)))
	w.api.now = w.Now
	return w
}

func service(t testing.TB, w *world) *awsapi.Service {
	t.Helper()
	return apitest.Service(t, "scheduler", w.api.Register)
}

func TestGolden(t *testing.T) {
	golden.Run(t, func(t *testing.T) golden.Conversation {
		return golden.Conversation{ContentType: "application/json", Handler: service(t, newWorld(t))}
	})
}
