package edge

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"thaw"
	"thaw/state"
	"thaw/state/queues"
)

// queuesPage is how many queues one answer of the native API lists at most.
const queuesPage = 100

// The messages that one peek shows: by default, and at most.
const (
	peekDefault = 10
	peekMax     = 100
	peekBytes   = 4 << 20 // of bodies and attributes, and at least one message
)

// UserQueues begins the engine's names of the queues that users have through the SQS API. What follows is the name that
// they gave.
const UserQueues = "sqs/"

// Queues is what the native API asks of the message queues.
type Queues interface {
	Queue(name string) (*queues.Queue, bool)
	List(prefix, after string, limit int) []*queues.Queue
	Move(ctx context.Context, from, to string, most int) (moved int, err error)
}

// QueueMapping is an event source mapping as the native view of its queue shows it.
type QueueMapping struct {
	ID         string `json:"id"`       // its UUID
	Function   string `json:"function"` // with the qualifier, if it has one
	State      string `json:"state"`
	LastResult string `json:"last_result,omitempty"` // AWS's LastProcessingResult
}

// deadLetters is where a queue's messages go after so many receives.
type deadLetters struct {
	Queue       string `json:"queue"`
	MaxReceives int    `json:"max_receives"`
}

// queueView is what waits in a queue. The oldest message is the oldest that is not in flight.
type queueView struct {
	Name         string         `json:"name"`
	FIFO         bool           `json:"fifo"`
	Waiting      int            `json:"waiting"`
	InFlight     int            `json:"in_flight"`
	Delayed      int            `json:"delayed"`
	Bytes        int64          `json:"bytes"`
	OldestAge    int64          `json:"oldest_age_ms,omitempty"` // 0: none
	DeadLetters  *deadLetters   `json:"dead_letters,omitempty"`
	DeadLetterOf []string       `json:"dead_letter_of,omitempty"` // not in a list
	Mappings     []QueueMapping `json:"mappings,omitempty"`       // not in a list
}

type queuesView struct {
	Queues []queueView `json:"queues"`
	After  string      `json:"after,omitempty"` // what the next page is asked for with; empty: this is the last
}

// messageView is a message that was looked at and not received.
type messageView struct {
	ID         string          `json:"id"`
	Sequence   uint64          `json:"sequence"`
	Age        int64           `json:"age_ms"`
	Receives   int             `json:"receives"`
	Group      string          `json:"group,omitempty"`
	DeadFrom   string          `json:"dead_from,omitempty"` // the queue that it died in
	Attributes json.RawMessage `json:"attributes,omitempty"`
	Body       string          `json:"body"`
}

type messagesView struct {
	Messages []messageView `json:"messages"`
	After    uint64        `json:"after,omitempty"` // what the next page is asked for with; 0: this is the last
}

func (s *Server) handleQueues() {
	s.native.HandleFunc("GET /_thaw/queues", s.serveQueues)
	s.native.HandleFunc("GET /_thaw/queues/{name}", s.withQueue(s.serveQueue))
	s.native.HandleFunc("GET /_thaw/queues/{name}/messages", s.withQueue(s.servePeek))
	s.native.HandleFunc("POST /_thaw/queues/{name}/redrive", s.withQueue(s.serveRedrive))
	s.native.HandleFunc("POST /_thaw/queues/{name}/purge", s.withQueue(s.servePurge))
}

// refuse answers err as the Lambda API would: the native API has no error form of its own.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	s.cfg.Services[lambdaService].WriteError(w, r, err)
}

// withQueue looks for the queue that a path names.
func (s *Server) withQueue(serve func(http.ResponseWriter, *http.Request, *queues.Queue)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		q, ok := s.cfg.Queues.Queue(UserQueues + name)
		if !ok {
			s.refuse(w, r, queueNotFound(name))
			return
		}
		serve(w, r, q)
	}
}

func queueNotFound(name string) error {
	return thaw.Errorf(thaw.CodeResourceNotFound, "There is no queue named %s.", name)
}

// queueError is an error of the engine as a caller is told it.
func queueError(name string, err error) error {
	switch {
	case errors.Is(err, state.ErrNotFound):
		return queueNotFound(name)
	case errors.Is(err, state.ErrFull):
		return &thaw.Error{Code: thaw.CodeService, Message: "The disk is full. Delete messages, or give the data directory more room, and try again.", Cause: err}
	default:
		return err
	}
}

func viewQueue(q *queues.Queue) queueView {
	info, depth := q.Info(), q.Depth()
	v := queueView{
		Name: strings.TrimPrefix(info.Name, UserQueues), FIFO: info.Options.FIFO,
		Waiting: depth.Visible, InFlight: depth.InFlight, Delayed: depth.Delayed, Bytes: depth.Bytes, OldestAge: age(depth.Oldest),
	}
	if to := info.Options.DeadLetter; to != "" {
		v.DeadLetters = &deadLetters{Queue: strings.TrimPrefix(to, UserQueues), MaxReceives: info.Options.MaxReceives}
	}
	return v
}

// serveQueues lists the users' queues by name.
func (s *Server) serveQueues(w http.ResponseWriter, r *http.Request) {
	after := r.URL.Query().Get("after")
	if after != "" {
		after = UserQueues + after
	}
	list := s.cfg.Queues.List(UserQueues, after, queuesPage)
	view := queuesView{Queues: make([]queueView, len(list))}
	for i, q := range list {
		view.Queues[i] = viewQueue(q)
	}
	if len(list) == queuesPage {
		view.After = view.Queues[queuesPage-1].Name
	}
	writeView(w, &view)
}

// serveQueue shows one queue with what is connected to it.
func (s *Server) serveQueue(w http.ResponseWriter, r *http.Request, q *queues.Queue) {
	view := viewQueue(q)
	name := q.Info().Name
	for after := ""; ; {
		page := s.cfg.Queues.List(UserQueues, after, queuesPage)
		for _, other := range page {
			info := other.Info()
			if info.Options.DeadLetter == name {
				view.DeadLetterOf = append(view.DeadLetterOf, strings.TrimPrefix(info.Name, UserQueues))
			}
			after = info.Name
		}
		if len(page) < queuesPage {
			break
		}
	}
	if s.cfg.Mappings != nil {
		var err error
		if view.Mappings, err = s.cfg.Mappings(r.Context(), view.Name); err != nil {
			s.refuse(w, r, err)
			return
		}
	}
	writeView(w, &view)
}

// servePeek shows messages without receiving them.
func (s *Server) servePeek(w http.ResponseWriter, r *http.Request, q *queues.Queue) {
	after, err := number(r, "after", 0, 0, 1<<63-1)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	limit, err := number(r, "limit", peekDefault, 1, peekMax)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	messages, err := q.Peek(r.Context(), after, int(limit))
	if err != nil {
		s.refuse(w, r, queueError(r.PathValue("name"), err))
		return
	}
	view := messagesView{Messages: make([]messageView, 0, len(messages))}
	size := 0
	for i := range messages {
		m := &messages[i]
		var meta struct {
			Attributes json.RawMessage `json:"attributes"`
		}
		_ = json.Unmarshal(m.Meta, &meta) // a message may have none
		body := strings.ToValidUTF8(string(m.Body), "\uFFFD")
		if size += len(body) + len(meta.Attributes); size > peekBytes && i > 0 {
			messages, limit = messages[:i], uint64(i)
			break
		}
		view.Messages = append(view.Messages, messageView{
			ID: m.ID, Sequence: m.Sequence, Age: age(m.Sent), Receives: m.Receives,
			Group: m.Group, DeadFrom: strings.TrimPrefix(m.DeadFrom, UserQueues), Attributes: meta.Attributes, Body: body,
		})
	}
	if uint64(len(messages)) == limit {
		view.After = messages[len(messages)-1].Sequence
	}
	writeView(w, &view)
}

// number reads a parameter of a query within bounds.
func number(r *http.Request, name string, fallback, low, high uint64) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < low || n > high {
		return 0, thaw.Errorf(thaw.CodeInvalidParameterValue, "%s must be a number from %d to %d, not %q.", name, low, high, text)
	}
	return n, nil
}

// countView says how many messages or events a change was about.
type countView struct {
	Count int `json:"count"`
	Left  int `json:"left,omitempty"` // that could be received and were not moved
}

// serveRedrive moves messages to where they died, or to another queue, oldest first: those that are there when it begins.
func (s *Server) serveRedrive(w http.ResponseWriter, r *http.Request, q *queues.Queue) {
	to := r.URL.Query().Get("to")
	if to != "" {
		if _, ok := s.cfg.Queues.Queue(UserQueues + to); !ok {
			s.refuse(w, r, queueNotFound(to))
			return
		}
		to = UserQueues + to
	}
	from := q.Info().Name
	if to == from {
		s.refuse(w, r, thaw.Errorf(thaw.CodeInvalidParameterValue, "The messages are in this queue already: name another one to move them to."))
		return
	}
	const all = 0
	most, err := number(r, "limit", all, 1, 1<<31-1)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	moved, err := s.cfg.Queues.Move(r.Context(), from, to, int(most))
	if err != nil {
		s.refuse(w, r, queueError(r.PathValue("name"), err))
		return
	}
	writeView(w, &countView{Count: moved, Left: q.Depth().Visible})
}

// servePurge drops all messages of a queue, those in flight too.
func (s *Server) servePurge(w http.ResponseWriter, r *http.Request, q *queues.Queue) {
	depth := q.Depth()
	if err := q.Purge(r.Context()); err != nil {
		s.refuse(w, r, queueError(r.PathValue("name"), err))
		return
	}
	writeView(w, &countView{Count: depth.Visible + depth.InFlight + depth.Delayed})
}
