package edge

import (
	"context"
	"net/http"
	"time"

	"thaw"
	"thaw/invoke/async"
	"thaw/trigger/delivery"
)

// How many functions one answer lists at most, and how many events by default and at most.
const (
	eventFunctionsPage = 100
	eventsDefault      = 20
	eventsMax          = 100
)

// deadEvents is where the dead ones begin in a list of a function's events.
const deadEvents = "dead-0"

// Deliveries tells what became of what rules and schedules sent.
type Deliveries interface {
	Counts() delivery.Counts
	Outcomes() []delivery.Outcome
}

// functionEventsView is what waits of a function's asynchronous invocations. The counts from Accepted on are since the
// platform started.
type functionEventsView struct {
	Name      string `json:"name"`
	Waiting   int    `json:"waiting"`
	Running   int    `json:"running"`
	Retrying  int    `json:"retrying"`
	Dead      int    `json:"dead"`
	Bytes     int64  `json:"bytes"`
	OldestAge int64  `json:"oldest_age_ms,omitempty"` // of those that wait or retry; 0: there is none

	Accepted         int64 `json:"accepted"`
	Attempts         int64 `json:"attempts"`
	Succeeded        int64 `json:"succeeded"`
	FunctionErrors   int64 `json:"function_errors"`
	Throttles        int64 `json:"throttles"`
	Failed           int64 `json:"failed"`
	Died             int64 `json:"died"`
	DeliveryFailures int64 `json:"delivery_failures"`
	// Problem is the last failure of a destination or dead-letter queue.
	Problem    string `json:"problem,omitempty"`
	ProblemAge int64  `json:"problem_age_ms,omitempty"`

	Events []eventView `json:"events,omitempty"` // not in a list of functions
	After  string      `json:"after,omitempty"`  // of the events: what the next page is asked for with
}

// eventView is one asynchronous invocation.
type eventView struct {
	ID        string `json:"id"` // its request id
	State     string `json:"state"`
	Qualifier string `json:"qualifier,omitempty"`
	Age       int64  `json:"age_ms"`
	Attempts  int    `json:"attempts"`            // that the function failed
	Throttles int    `json:"throttles,omitempty"` // that found no room since
	NextTry   int64  `json:"next_try_ms,omitempty"`
	Error     string `json:"error,omitempty"`
	Condition string `json:"condition,omitempty"` // how a dead one ended, as in AWS's destination record
	Reason    string `json:"reason,omitempty"`    // why it was delivered nowhere
	Bytes     int    `json:"bytes"`
}

// deliveriesView is what became of what rules and schedules sent, since the platform started.
type deliveriesView struct {
	Waiting   int           `json:"waiting"` // to be tried again
	Delivered uint64        `json:"delivered"`
	Dead      uint64        `json:"dead_letters"`
	Dropped   uint64        `json:"dropped"`
	Failures  []failureView `json:"failures,omitempty"` // the newest first
}

type failureView struct {
	Age    int64  `json:"age_ms"`
	ID     string `json:"id"`
	Source string `json:"source"`
	Target string `json:"target"`
	Status string `json:"status"` // retrying, dead-letter or dropped
	Error  string `json:"error"`
}

type eventsView struct {
	Functions  []functionEventsView `json:"functions"`
	Deliveries *deliveriesView      `json:"deliveries,omitempty"` // on the first page
	After      string               `json:"after,omitempty"`      // what the next page is asked for with; empty: this is the last
}

func (s *Server) handleEvents() {
	s.native.HandleFunc("GET /_thaw/events", s.serveEvents)
	s.native.HandleFunc("GET /_thaw/events/{name}", s.serveFunctionEvents)
	s.native.HandleFunc("POST /_thaw/events/{name}/redrive", func(w http.ResponseWriter, r *http.Request) { s.changeDead(w, r, s.cfg.Events.Redrive) })
	s.native.HandleFunc("POST /_thaw/events/{name}/discard", func(w http.ResponseWriter, r *http.Request) { s.changeDead(w, r, s.cfg.Events.Discard) })
}

// age is how long ago something was, ms, at least 1; 0 for never.
func age(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(time.Since(t).Milliseconds(), 1)
}

func viewEvents(f *async.FunctionEvents) functionEventsView {
	return functionEventsView{
		Name: f.Function, Waiting: f.Waiting, Running: f.Running, Retrying: f.Retrying, Dead: f.Dead, Bytes: f.Bytes, OldestAge: age(f.Oldest),
		Accepted: f.Accepted, Attempts: f.Attempts, Succeeded: f.Succeeded, FunctionErrors: f.FunctionErrors, Throttles: f.Throttles,
		Failed: f.Failed, Died: f.Died, DeliveryFailures: f.DeliveryFailures, Problem: f.Problem, ProblemAge: age(f.ProblemAt),
	}
}

// serveEvents lists the functions that have or had asynchronous invocations, and what became of what rules and schedules sent.
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	after := r.URL.Query().Get("after")
	list := s.cfg.Events.Functions(after, eventFunctionsPage)
	view := eventsView{Functions: make([]functionEventsView, len(list))}
	for i := range list {
		view.Functions[i] = viewEvents(&list[i])
	}
	if len(list) == eventFunctionsPage {
		view.After = list[len(list)-1].Function
	}
	if after == "" && s.cfg.Deliveries != nil {
		c := s.cfg.Deliveries.Counts()
		view.Deliveries = &deliveriesView{Waiting: c.Waiting, Delivered: c.Delivered, Dead: c.Dead, Dropped: c.Dropped}
		for _, o := range s.cfg.Deliveries.Outcomes() {
			view.Deliveries.Failures = append(view.Deliveries.Failures, failureView{Age: age(o.At), ID: o.ID, Source: o.Source, Target: o.Target, Status: o.Status, Error: o.Error})
		}
	}
	writeView(w, &view)
}

// functionEvents finds a function that is there or has events.
func (s *Server) functionEvents(name string) (async.FunctionEvents, error) {
	f, ok := s.cfg.Events.Function(name)
	if !ok {
		if _, ok := s.cfg.Catalog.Function(name); !ok {
			return f, thaw.Errorf(thaw.CodeResourceNotFound, "Function not found: %s", s.cfg.Account.FunctionARN(name, ""))
		}
	}
	return f, nil
}

// serveFunctionEvents shows a function's events one by one: with state=dead the dead ones alone.
func (s *Server) serveFunctionEvents(w http.ResponseWriter, r *http.Request) {
	name, query := r.PathValue("name"), r.URL.Query()
	f, err := s.functionEvents(name)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	limit, err := number(r, "limit", eventsDefault, 1, eventsMax)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	after := query.Get("after")
	switch state := query.Get("state"); {
	case state == "":
	case state != string(async.StateDead):
		s.refuse(w, r, thaw.Errorf(thaw.CodeInvalidParameterValue, "state must be dead, or left out for all events, not %q.", state))
		return
	case after == "":
		after = deadEvents
	}
	events, next, err := s.cfg.Events.Events(r.Context(), name, after, int(limit))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	view := viewEvents(&f)
	view.Events, view.After = make([]eventView, len(events)), next
	for i := range events {
		e := &events[i]
		view.Events[i] = eventView{
			ID: e.ID, State: string(e.State), Qualifier: e.Qualifier, Age: age(e.Accepted), Attempts: e.Attempts, Throttles: e.Throttles,
			Error: e.Error, Condition: e.Condition, Reason: e.Reason, Bytes: e.Size,
		}
		if !e.Next.IsZero() {
			view.Events[i].NextTry = max(time.Until(e.Next).Milliseconds(), 1)
		}
	}
	writeView(w, &view)
}

// changeDead does something with the dead events of a function: those that the parameters id name, or all.
func (s *Server) changeDead(w http.ResponseWriter, r *http.Request, change func(ctx context.Context, function string, ids ...string) (int, error)) {
	name, ids := r.PathValue("name"), r.URL.Query()["id"]
	if _, err := s.functionEvents(name); err != nil {
		s.refuse(w, r, err)
		return
	}
	n, err := change(r.Context(), name, ids...)
	if err == nil && n == 0 && len(ids) > 0 {
		err = thaw.Errorf(thaw.CodeResourceNotFound, "Function %s has no dead event with the request id %s.", name, ids[0])
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	writeView(w, &countView{Count: n})
}
