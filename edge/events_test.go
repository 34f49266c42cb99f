package edge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"thaw/invoke/async"
	"thaw/trigger/delivery"
)

// happened is what became of the asynchronous invocations of functions.
type happened struct {
	functions []async.FunctionEvents
	asked     []string // what Events, Redrive and Discard were asked
}

func (h *happened) Enqueue(context.Context, *async.Event) (string, error) {
	return "", errors.New("nothing is taken here")
}

func (h *happened) Functions(after string, limit int) (page []async.FunctionEvents) {
	for _, f := range h.functions {
		if f.Function > after && len(page) < limit {
			page = append(page, f)
		}
	}
	return page
}

func (h *happened) Function(name string) (async.FunctionEvents, bool) {
	i := slices.IndexFunc(h.functions, func(f async.FunctionEvents) bool { return f.Function == name })
	if i < 0 {
		return async.FunctionEvents{Function: name}, false
	}
	return h.functions[i], true
}

func (h *happened) Events(_ context.Context, function, after string, limit int) ([]async.EventView, string, error) {
	h.asked = append(h.asked, fmt.Sprint(function, " ", after, " ", limit))
	now := time.Now()
	return []async.EventView{
		{ID: "1", State: async.StateRetrying, Qualifier: "live", Accepted: now.Add(-time.Minute), Attempts: 1, Throttles: 2, Next: now.Add(time.Minute), Error: "KeyError", Size: 7},
		{ID: "2", State: async.StateDead, Accepted: now.Add(-time.Hour), Attempts: 3, Condition: "RetriesExhausted", Reason: "no queue"},
	}, "dead-7", nil
}

func (h *happened) Redrive(_ context.Context, function string, ids ...string) (int, error) {
	h.asked = append(h.asked, fmt.Sprint("redrive ", function, ids))
	return 1, nil
}

func (h *happened) Discard(_ context.Context, function string, ids ...string) (int, error) {
	h.asked = append(h.asked, fmt.Sprint("discard ", function, ids))
	return 0, nil
}

func (h *happened) Counts() delivery.Counts {
	return delivery.Counts{Delivered: 5, Dead: 1, Dropped: 2, Waiting: 3}
}

func (h *happened) Outcomes() []delivery.Outcome {
	return []delivery.Outcome{{At: time.Now().Add(-time.Second), ID: "3", Source: "a rule", Target: "a queue", Status: delivery.StatusDropped, Error: "gone"}}
}

func TestNativeViewOfEvents(t *testing.T) {
	h := &happened{}
	for n := range eventFunctionsPage + 1 {
		h.functions = append(h.functions, async.FunctionEvents{Function: fmt.Sprintf("f%03d", n), Waiting: n})
	}
	h.functions[0] = async.FunctionEvents{
		Function: "f000", Waiting: 1, Running: 2, Retrying: 3, Dead: 4, Bytes: 5, Oldest: time.Now().Add(-time.Minute), Accepted: 6, Attempts: 7, Succeeded: 8,
		FunctionErrors: 9, Throttles: 10, Failed: 11, Died: 12, DeliveryFailures: 13, Problem: "no queue", ProblemAt: time.Now().Add(-time.Minute),
	}
	first := functionEventsView{
		Name: "f000", Waiting: 1, Running: 2, Retrying: 3, Dead: 4, Bytes: 5, Accepted: 6, Attempts: 7, Succeeded: 8,
		FunctionErrors: 9, Throttles: 10, Failed: 11, Died: 12, DeliveryFailures: 13, Problem: "no queue",
	}
	s := newServer(t)
	s.cfg.Events, s.cfg.Deliveries = h, h
	measured := cmp.Options{cmpopts.IgnoreFields(functionEventsView{}, "OldestAge", "ProblemAge"), cmpopts.IgnoreFields(eventView{}, "Age", "NextTry"), cmpopts.IgnoreFields(failureView{}, "Age")}
	var list eventsView
	native(t, s, "GET", "/_thaw/events", &list)
	if len(list.Functions) != eventFunctionsPage || list.After != "f099" {
		t.Errorf("%d functions, then %q", len(list.Functions), list.After)
	}
	if diff := cmp.Diff(first, list.Functions[0], measured); diff != "" || list.Functions[0].OldestAge < 60_000 || list.Functions[0].ProblemAge < 60_000 {
		t.Error(diff, list.Functions[0])
	}
	deliveries := &deliveriesView{Waiting: 3, Delivered: 5, Dead: 1, Dropped: 2, Failures: []failureView{{ID: "3", Source: "a rule", Target: "a queue", Status: "dropped", Error: "gone"}}}
	if diff := cmp.Diff(deliveries, list.Deliveries, measured); diff != "" {
		t.Error(diff)
	}
	list = eventsView{}
	native(t, s, "GET", "/_thaw/events?after=f099", &list)
	if len(list.Functions) != 1 || list.After != "" || list.Deliveries != nil {
		t.Errorf("%+v", list)
	}

	var one functionEventsView
	native(t, s, "GET", "/_thaw/events/f000", &one)
	first.After = "dead-7"
	first.Events = []eventView{
		{ID: "1", State: "retrying", Qualifier: "live", Attempts: 1, Throttles: 2, Error: "KeyError", Bytes: 7},
		{ID: "2", State: "dead", Attempts: 3, Condition: "RetriesExhausted", Reason: "no queue"},
	}
	if diff := cmp.Diff(first, one, measured); diff != "" || one.Events[0].NextTry < 1 || one.Events[0].NextTry > 60_000 || one.Events[1].NextTry != 0 {
		t.Error(diff, one.Events)
	}
	native(t, s, "GET", "/_thaw/events/f001?limit=7&after=live-3", &one)
	native(t, s, "GET", "/_thaw/events/f001?state=dead", &one)
	native(t, s, "GET", "/_thaw/events/f001?state=dead&after=dead-9", &one)
	var count countView
	native(t, s, "POST", "/_thaw/events/f001/redrive?id=a&id=b", &count)
	native(t, s, "POST", "/_thaw/events/f001/discard", &count)
	want := []string{"f000  20", "f001 live-3 7", "f001 dead-0 20", "f001 dead-9 20", "redrive f001[a b]", "discard f001[]"}
	if diff := cmp.Diff(want, h.asked); diff != "" {
		t.Error(diff)
	}

	for _, c := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/_thaw/events/gone", 404, "ResourceNotFoundException"},
		{"POST", "/_thaw/events/gone/redrive", 404, "ResourceNotFoundException"},
		{"POST", "/_thaw/events/f001/discard?id=none", 404, "ResourceNotFoundException"},
		{"GET", "/_thaw/events/f001?state=waiting", 400, "InvalidParameterValueException"},
		{"GET", "/_thaw/events/f001?limit=x", 400, "InvalidParameterValueException"},
		{"GET", "/_thaw/events/f001/discard", 404, "UnknownOperationException"},
	} {
		if status, code := native(t, s, c.method, c.path, nil); status != c.status || code != c.code {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, code)
		}
	}
}
