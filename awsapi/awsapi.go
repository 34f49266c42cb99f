// Package awsapi speaks AWS's wire protocols over the structs of aws-sdk-go-v2: rest-json for Lambda and EventBridge
// Scheduler, query with XML answers for IAM and STS, JSON 1.1 for Application Auto Scaling, EventBridge and CloudWatch Logs,
// JSON 1.0 and query for SQS, and these two with CBOR for CloudWatch; event streams as answers in JSON. It finds the operation that a request means, decodes it, checks every constraint of AWS's model, calls what
// was registered for it and encodes the result or the error as AWS does. It also verifies Signature Version 4.
//
// It is not a client, knows nothing of what an operation does, and keeps no state between requests. What it knows of a
// service comes from the embedded models (see models/README.md); what AWS does beside its model is in exceptions.go, each
// with its source.
//
// A Service is set up by New and Handle in one goroutine; from then on it is read only and ServeHTTP may be called by
// many. There are no locks.
package awsapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"runtime/debug"
	"strings"

	"thaw"
)

// Service is one AWS service over its protocol.
type Service struct {
	// Log receives every failure that is masked from the caller, with the request's id. Nil means slog.Default(). Set
	// it before serving.
	Log *slog.Logger

	model    *model
	router   router
	binder   binder
	handlers map[string]*handler
}

// handler is one registered operation. Call gets a pointer to a new input and gives a pointer to the output.
type handler struct {
	op     *operation
	input  *node
	output *node
	limit  int64
	call   func(ctx context.Context, input any) (any, error)

	// Of an operation that answers with events; call and output are nil then. failures are the errors that its model has
	// for the stream itself.
	stream   func(ctx context.Context, input any, out *EventStream) error
	events   map[reflect.Type]streamEvent
	failures map[string]bool
}

// New makes the service of that name, which is the one that Signature Version 4 signs for: "lambda", "iam", "sts",
// "application-autoscaling", "sqs", "events", "scheduler", "monitoring", which is CloudWatch, or "logs". No operation is
// registered yet.
func New(name string) (*Service, error) {
	load, ok := models[name]
	if !ok {
		return nil, fmt.Errorf("awsapi: no model of a service %q", name)
	}
	m, err := load()
	if err != nil {
		return nil, err
	}
	return &Service{model: m, router: newRouter(m), binder: newBinder(m), handlers: make(map[string]*handler)}, nil
}

// Handle registers fn for an operation, by AWS's name of it. In and Out are the SDK's structs, such as
// lambda.CreateFunctionInput and lambda.CreateFunctionOutput. fn gets an input that satisfies the model's constraints and
// is its own to keep; RequestFrom(ctx) tells about the request. It returns an output, or an error that WriteError
// understands; a nil output without an error is answered as an empty one.
//
// Handle panics when the operation is not in the model, is registered already, or when In or Out lacks a member of it:
// mistakes of the program, found when it starts.
func Handle[In, Out any](s *Service, operation string, fn func(context.Context, *In) (*Out, error)) {
	call := func(ctx context.Context, input any) (any, error) {
		out, err := fn(ctx, input.(*In))
		if err != nil {
			return nil, err
		}
		if out == nil {
			out = new(Out)
		}
		return out, nil
	}
	if err := s.handle(operation, reflect.TypeFor[In](), reflect.TypeFor[Out](), call); err != nil {
		panic(err) //nolint:forbidigo // before the first function runs: the same mistake is found by every start
	}
}

// Union names the SDK's types that stand for the members of a union, for which the SDK has the interface I: pointers to
// them, all there are. It must come before the operations that the union is a part of.
func Union[I any](s *Service, members ...I) {
	for _, m := range members {
		t := reflect.TypeFor[I]()
		s.binder.unions[t] = append(s.binder.unions[t], reflect.TypeOf(m).Elem())
	}
}

func (s *Service) handle(name string, in, out reflect.Type, call func(context.Context, any) (any, error)) error {
	op := s.model.Operations[name]
	switch {
	case op == nil || !op.Full:
		return fmt.Errorf("awsapi: the model of %s has no shapes for %s", s.model.Service, name)
	case s.handlers[name] != nil:
		return fmt.Errorf("awsapi: %s %s is registered twice", s.model.Service, name)
	}
	h := &handler{op: op, limit: bodyLimit(s.model.Service, name), call: call}
	var err error
	if h.input, err = s.binder.bind(op.Input, in); err != nil {
		return fmt.Errorf("awsapi: %s %s: input: %w", s.model.Service, name, err)
	}
	if h.output, err = s.binder.bind(op.Output, out); err != nil {
		return fmt.Errorf("awsapi: %s %s: output: %w", s.model.Service, name, err)
	}
	s.handlers[name] = h
	return nil
}

// ServeHTTP answers one request to the service. Every answer carries the request's id.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := RequestFrom(r.Context())
	req.fill(r)
	req.Service, req.Protocol = s.model.Service, s.protocol(r)
	fail := func(err error) { s.WriteError(w, r.WithContext(WithRequest(r.Context(), req)), err) }
	defer func() {
		p := recover()
		switch p {
		case nil:
		case http.ErrAbortHandler:
			panic(p) //nolint:forbidigo // net/http takes it as the order to cut the connection
		default:
			fail(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	if err := s.serve(w, r, &req); err != nil {
		fail(err)
	}
}

// serve notes in req which operation it is, once it knows.
func (s *Service) serve(w http.ResponseWriter, r *http.Request, req *Request) error {
	var call incoming
	var err error
	switch req.Protocol {
	case protocolREST:
		call, err = s.router.find(r)
	case protocolJSON:
		call, err = findTarget(s.model, r)
	case protocolCBOR:
		call, err = findPath(s.model, r)
	default:
		call, err = findAction(s.model, r)
	}
	if err != nil {
		return err
	}
	req.Operation = call.op.name
	h := s.handlers[call.op.name]
	if h == nil {
		return thaw.Errorf(thaw.CodeNotImplemented, "%s does not implement the operation %s.", serviceTitle(s.model.Service), call.op.name)
	}
	in := reflect.New(h.input.typ)
	nulls, err := decode(w, r, req.Protocol, h, call, in.Elem())
	if err != nil {
		return err
	}
	if err := validate(s.model.Service, h.op.name, h.input, in.Elem(), nulls); err != nil {
		return err
	}
	if h.stream != nil {
		return s.serveStream(w, r, h, req, in.Interface())
	}
	out, err := h.call(WithRequest(r.Context(), *req), in.Interface())
	if err != nil {
		return err
	}
	write := s.writeQuery
	switch req.Protocol {
	case protocolREST:
		write = s.writeREST
	case protocolJSON:
		write = s.writeTarget
	case protocolCBOR:
		write = s.writeCBOR
	}
	return write(w, h, req.ID, reflect.ValueOf(out).Elem())
}

// protocol is the one that a request speaks. A service that has several tells them apart by what only CBOR and what only
// JSON has.
func (s *Service) protocol(r *http.Request) string {
	switch m := s.model; {
	case m.Protocol == protocolCBOR && isCBOR(r):
		return protocolCBOR
	case m.QueryCompatible && r.Header.Get("X-Amz-Target") == "" && !strings.HasPrefix(r.Header.Get("Content-Type"), jsonContentType):
		return protocolQuery
	case m.Protocol == protocolCBOR:
		return protocolJSON
	default:
		return m.Protocol
	}
}

func decode(w http.ResponseWriter, r *http.Request, protocol string, h *handler, call incoming, in reflect.Value) (nulls map[string]bool, err error) {
	switch protocol {
	case protocolREST:
		return decodeREST(w, r, h, call, in)
	case protocolJSON:
		return decodeTarget(w, r, h, in)
	case protocolCBOR:
		return decodeContent(w, r, h, in)
	default:
		return nil, decodeQuery(call.form, h.input, in)
	}
}

func (s *Service) logger() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.Default()
}

// canceled tells a caller that went away from a failure.
func canceled(r *http.Request, err error) bool {
	return r.Context().Err() != nil && errors.Is(err, context.Canceled)
}

func serviceTitle(service string) string {
	switch service {
	case "lambda":
		return "AWS Lambda"
	case "iam":
		return "AWS IAM"
	case "sts":
		return "AWS STS"
	case "application-autoscaling":
		return "Application Auto Scaling"
	case "sqs":
		return "Amazon SQS"
	case "events":
		return "Amazon EventBridge"
	case "scheduler":
		return "Amazon EventBridge Scheduler"
	case "monitoring":
		return "Amazon CloudWatch"
	case "logs":
		return "Amazon CloudWatch Logs"
	}
	return service
}
