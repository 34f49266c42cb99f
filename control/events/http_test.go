package events

import (
	"context"
	"sync"
	"testing"
	"time"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/apitest"
	"thaw/control/internal/golden"
	"thaw/trigger/delivery"
	trigger "thaw/trigger/events"
)

var account = thaw.Account{ID: "123456789012", Region: "eu-west-1"}

// world is the API with the bus behind it, and what that delivered.
type world struct {
	*apitest.Clock
	api *API

	mu   sync.Mutex
	sent []delivery.Delivery
	fail error
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{Clock: apitest.NewClock(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))}
	records := trigger.NewRecords(apitest.Store(t))
	bus := trigger.New(account, records, w.deliver, w.Now, nil)
	w.api = New(account, records, bus.Publish)
	w.api.now = w.Now
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

func service(t testing.TB, w *world) *awsapi.Service {
	t.Helper()
	return apitest.Service(t, "events", w.api.Register)
}

func TestGolden(t *testing.T) {
	golden.Run(t, func(t *testing.T) golden.Conversation {
		return golden.Conversation{ContentType: "application/x-amz-json-1.1", Handler: golden.Targeted("AWSEvents", service(t, newWorld(t)))}
	})
}
