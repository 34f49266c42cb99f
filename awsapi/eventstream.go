package awsapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream/eventstreamapi"
	smithyjson "github.com/aws/smithy-go/encoding/json"

	"thaw"
)

const (
	eventStreamType = "application/vnd.amazon.eventstream"
	// initialResponse is the event that holds the output's other members. Clients of the JSON protocols wait for it before
	// they give their caller a stream.
	initialResponse = "initial-response"
	// maxEventWait is how long a client may take to read one event, beyond what the connection's buffers hold.
	maxEventWait = 30 * time.Second
	// headStart is how long a stream waits before its header. aws-sdk-go-v2 closes its request's body when the header comes;
	// if net/http has not looked for the end of that body yet, it takes this for a failure and cuts the connection.
	headStart = 10 * time.Millisecond
)

// EventType is one kind of event that a stream can have: a member of the model's event stream and the SDK's struct for it.
type EventType struct {
	name string
	typ  reflect.Type
}

// Event names a kind of event: Event[types.LiveTailSessionStart]("sessionStart").
func Event[T any](name string) EventType {
	return EventType{name: name, typ: reflect.TypeFor[T]()}
}

// HandleStream registers fn for an operation that answers with a stream of events, which goes on until fn returns. The
// context of fn ends when the client goes away. An error before the first Send is answered as any operation's is; after it,
// it is the last event: an exception if the model's stream has that error, else an error of the protocol. HandleStream
// panics as Handle does. Only the JSON protocol's streams are implemented.
func HandleStream[In any](s *Service, operation string, fn func(context.Context, *In, *EventStream) error, events ...EventType) {
	call := func(ctx context.Context, input any, out *EventStream) error { return fn(ctx, input.(*In), out) }
	if err := s.handleStream(operation, reflect.TypeFor[In](), call, events); err != nil {
		panic(err) //nolint:forbidigo // as in Handle
	}
}

func (s *Service) handleStream(name string, in reflect.Type, call func(context.Context, any, *EventStream) error, events []EventType) error {
	op := s.model.Operations[name]
	switch {
	case op == nil || !op.Full:
		return fmt.Errorf("awsapi: the model of %s has no shapes for %s", s.model.Service, name)
	case s.handlers[name] != nil:
		return fmt.Errorf("awsapi: %s %s is registered twice", s.model.Service, name)
	case s.model.Protocol != protocolJSON:
		return fmt.Errorf("awsapi: %s %s: there are no event streams of the protocol %s", s.model.Service, name, s.model.Protocol)
	}
	shape := s.model.stream(op)
	if shape == nil {
		return fmt.Errorf("awsapi: %s %s does not answer with an event stream", s.model.Service, name)
	}
	h := &handler{op: op, limit: bodyLimit(s.model.Service, name), stream: call, events: make(map[reflect.Type]streamEvent), failures: make(map[string]bool)}
	var err error
	if h.input, err = s.binder.bind(op.Input, in); err != nil {
		return fmt.Errorf("awsapi: %s %s: input: %w", s.model.Service, name, err)
	}
	for _, m := range shape.Members {
		if _, isError := s.model.Errors[m.Shape]; isError {
			h.failures[m.Name] = true
			continue
		}
		for _, e := range events {
			if e.name != m.Name {
				continue
			}
			n, err := s.binder.bind(m.Shape, e.typ)
			if err != nil {
				return fmt.Errorf("awsapi: %s %s: event %s: %w", s.model.Service, name, e.name, err)
			}
			h.events[e.typ] = streamEvent{name: m.Wire, node: n}
		}
	}
	if len(h.events) != len(events) {
		return fmt.Errorf("awsapi: %s %s: the model has not all of the events %v", s.model.Service, name, events)
	}
	s.handlers[name] = h
	return nil
}

// stream is the shape of the events that an operation answers with; nil where it answers otherwise.
func (m *model) stream(op *operation) *shape {
	output := m.Shapes[op.Output]
	if output == nil {
		return nil
	}
	for _, member := range output.Members {
		if s := m.Shapes[member.Shape]; s.EventStream {
			return s
		}
	}
	return nil
}

// streamEvent is one kind of event of a registered operation.
type streamEvent struct {
	name string
	node *node
}

// EventStream is the answer of an operation that HandleStream has registered. One goroutine at a time may use it.
type EventStream struct {
	gone    <-chan struct{} // closed when the client has gone
	w       http.ResponseWriter
	control *http.ResponseController
	encoder *eventstream.Encoder
	buffer  bytes.Buffer
	handler *handler
	id      string
	version string // of the JSON protocol
	begun   bool
}

// Send writes an event, a pointer to a struct of which HandleStream was told, and hands it to the network. An error of
// the network means that the client has gone, or reads too slowly; the operation should end then.
func (s *EventStream) Send(event any) error {
	v := reflect.ValueOf(event)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("awsapi: an event is a pointer to a struct, not %T", event)
	}
	e, ok := s.handler.events[v.Type().Elem()]
	if !ok {
		return fmt.Errorf("awsapi: %s has no event %T", s.handler.op.name, event)
	}
	if err := s.Begin(); err != nil {
		return err
	}
	body := smithyjson.NewEncoder()
	encodeStructure(body.Value, e.node, v.Elem())
	return s.write(eventstreamapi.EventMessageType, eventstreamapi.EventTypeHeader, e.name, body.Bytes())
}

// Begin sends the answer's header, so that the client knows that the stream is open, unless Send has done so already.
func (s *EventStream) Begin() error {
	if s.begun {
		return nil
	}
	s.begun = true
	select {
	case <-s.gone:
	case <-time.After(headStart):
	}
	// A listener may have set a deadline for the request's body. It must not end what goes on after it.
	_ = s.control.SetReadDeadline(time.Time{}) // only a test's recorder has none
	header := s.w.Header()
	header.Set("X-Amzn-Requestid", s.id)
	header.Set("Content-Type", eventStreamType)
	header.Set("Cache-Control", "no-cache")
	s.w.WriteHeader(http.StatusOK)
	return s.write(eventstreamapi.EventMessageType, eventstreamapi.EventTypeHeader, initialResponse, []byte("{}"))
}

// write sends one message. kind is what it is and name, in the header that nameHeader is, which one of that kind.
func (s *EventStream) write(kind, nameHeader, name string, payload []byte) error {
	m := eventstream.Message{Payload: payload}
	m.Headers.Set(eventstreamapi.MessageTypeHeader, eventstream.StringValue(kind))
	m.Headers.Set(nameHeader, eventstream.StringValue(name))
	m.Headers.Set(eventstreamapi.ContentTypeHeader, eventstream.StringValue(jsonContentType+s.version))
	return s.send(m)
}

func (s *EventStream) send(m eventstream.Message) error {
	s.buffer.Reset()
	if err := s.encoder.Encode(&s.buffer, m); err != nil {
		return fmt.Errorf("awsapi: event of %s: %w", s.handler.op.name, err)
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(maxEventWait)) // as above
	if _, err := s.w.Write(s.buffer.Bytes()); err != nil {
		return err
	}
	return s.control.Flush()
}

// fail ends a stream that has begun with an error as its last event.
func (s *EventStream) fail(e *thaw.Error) error {
	if s.handler.failures[string(e.Code)] {
		body := smithyjson.NewEncoder()
		object := body.Object()
		object.Key("message").String(e.Message)
		object.Close()
		return s.write(eventstreamapi.ExceptionMessageType, eventstreamapi.ExceptionTypeHeader, string(e.Code), body.Bytes())
	}
	var m eventstream.Message
	m.Headers.Set(eventstreamapi.MessageTypeHeader, eventstream.StringValue(eventstreamapi.ErrorMessageType))
	m.Headers.Set(eventstreamapi.ErrorCodeHeader, eventstream.StringValue(string(e.Code)))
	m.Headers.Set(eventstreamapi.ErrorMessageHeader, eventstream.StringValue(e.Message))
	return s.send(m)
}

// run calls the operation. What it panics with is an error like any other: the answer may have begun.
func (h *handler) run(ctx context.Context, in any, out *EventStream) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p) //nolint:forbidigo // as in ServeHTTP
		default:
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return h.stream(ctx, in, out)
}

// serveStream has an operation answer with its events. The error is one that nothing was answered to yet.
func (s *Service) serveStream(w http.ResponseWriter, r *http.Request, h *handler, req *Request, in any) error {
	out := &EventStream{
		gone: r.Context().Done(), w: w, control: http.NewResponseController(w), encoder: eventstream.NewEncoder(), handler: h, id: req.ID, version: s.model.JSON,
	}
	err := h.run(WithRequest(r.Context(), *req), in, out)
	if err != nil && !out.begun {
		return err
	}
	defer func() { _ = out.control.SetWriteDeadline(time.Time{}) }() // the connection may serve more
	switch {
	case r.Context().Err() != nil: // nobody is left to be told
		return nil
	case err == nil:
		_ = out.Begin() // an empty stream; a client that has gone misses nothing
		return nil
	}
	_ = out.fail(s.explain(r, req, err)) // as above
	return nil
}
