package runtimes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"sync"

	"golang.org/x/net/netutil"

	"thaw"
)

// runtimeState is what the runtime has last done, in the words of AWS's runtime interface emulator.
//
//	Started ──next──> Ready ──event──> Running ──response or error──> InvocationResponse ──body read──> ResponseSent
//	   │                ^                                                                                   │
//	   ├─init/error─> InitError                              Ready <────────────────next────────────────────┘
//	   │
//	   └─restore/next─> Restoring ──next──> Ready            where SnapStart is set
//	                        │
//	                        └─restore/error─> RuntimeRestoreErrorState
type runtimeState string

const (
	stateStarted            runtimeState = "Started"
	stateInitError          runtimeState = "InitError"
	stateRestoring          runtimeState = "Restoring"
	stateRestoreError       runtimeState = "RuntimeRestoreErrorState"
	stateReady              runtimeState = "Ready"
	stateRunning            runtimeState = "Running"
	stateInvocationResponse runtimeState = "InvocationResponse"
	stateInvocationError    runtimeState = "InvocationErrorResponse"
	stateResponseSent       runtimeState = "ResponseSent"
)

var transitions = map[runtimeState][]runtimeState{
	stateStarted:            {stateReady, stateInitError, stateRestoring},
	stateRestoring:          {stateReady, stateRestoreError},
	stateReady:              {stateReady, stateRunning},
	stateRunning:            {stateInvocationResponse, stateInvocationError},
	stateInvocationResponse: {stateResponseSent},
	stateInvocationError:    {stateResponseSent},
	stateResponseSent:       {stateReady, stateRunning},
}

const (
	// maxAPIConnections bounds what one environment can hold open on the host. Runtimes use one or two.
	maxAPIConnections = 32
	// maxDrain is how much of a too large body is read before the connection is cut.
	maxDrain = 64 * 1024 * 1024

	headerErrorType = "Lambda-Runtime-Function-Error-Type"
	headerErrorBody = "Lambda-Runtime-Function-Error-Body"
	headerMode      = "Lambda-Runtime-Function-Response-Mode"
)

// runtimeAPI is the HTTP Runtime API of one environment, version 2018-06-01. Its one lock is never held while waiting.
type runtimeAPI struct {
	server  http.Server
	serving chan struct{} // closed when the server has ended
	closed  chan struct{}
	close   sync.Once

	initDone chan struct{} // closed at the first next, and at an error of init or of after-restore hooks
	events   chan *apiInvocation

	mu      sync.Mutex
	state   runtimeState
	current *apiInvocation
	initErr *thaw.FunctionError
}

// apiInvocation is one event on its way; done has room for the outcome.
type apiInvocation struct {
	event *Event
	done  chan apiOutcome
}

type apiOutcome struct {
	response []byte
	err      error
}

// ServeAPI serves the HTTP Runtime API (2018-06-01/runtime) on a listener that only one environment can reach, until
// the Conn is closed; the listener belongs to it from then on. WaitInit ends with the runtime's first next. Invoke ends
// with the response; the following one waits for the runtime's next next. The Conn cannot see the runtime's process:
// whoever does must close the Conn when it has ended, and calls in progress then return io.EOF.
//
// With credentials, which stand for SnapStart, it gives those away to who has their token, and has restore/next and restore/error too, as AWS's has them for SnapStart alone. Programs that speak HTTP
// are not forked, so that the runtime is in the environment which it will serve from the beginning: restore/next is answered
// at once, and WaitInit ends with the next that follows the after-restore hooks. One that fails is a *thaw.FunctionError of
// type Runtime.AfterRestoreError, or of the type in AWS's form that the runtime gave.
//
// routes, if there is one, adds what else the listener serves: the APIs of extensions.
func ServeAPI(l net.Listener, credentials *Credentials, routes func(*http.ServeMux)) Conn {
	a := &runtimeAPI{
		serving:  make(chan struct{}),
		closed:   make(chan struct{}),
		initDone: make(chan struct{}),
		events:   make(chan *apiInvocation),
		state:    stateStarted,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/ping", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "pong") })
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", a.serveNext)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", a.serveResponse)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", a.serveError)
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", a.serveStartError(stateInitError, thaw.ErrorRuntimeUnknown))
	if routes != nil {
		routes(mux)
	}
	served := "/2018-06-01/runtime, without restore, which needs SnapStart"
	if credentials != nil {
		mux.HandleFunc("GET "+CredentialsPath, credentials.serve)
		served = "/2018-06-01/runtime"
		mux.HandleFunc("GET /2018-06-01/runtime/restore/next", a.serveRestoreNext)
		mux.HandleFunc("POST /2018-06-01/runtime/restore/error", a.serveStartError(stateRestoreError, errorAfterRestore))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		apiError(w, http.StatusNotFound, "UnknownPath",
			r.Method+" "+r.URL.Path+" is not served here: this platform has "+served+", and for extensions /2020-01-01/extension, /2022-07-01/telemetry and /2020-08-15/logs.")
	})
	a.server.Handler = mux
	a.server.ErrorLog = log.New(io.Discard, "", 0) // what a function sends is not the operator's problem
	go func() {
		defer close(a.serving)
		a.server.Serve(netutil.LimitListener(l, maxAPIConnections)) //nolint:errcheck // Close ends it
	}()
	return a
}

func (a *runtimeAPI) WaitInit(ctx context.Context) error {
	select {
	case <-a.initDone:
	default:
		select {
		case <-a.initDone:
		case <-a.closed:
			return io.EOF
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.initErr != nil {
		return a.initErr
	}
	return nil
}

func (a *runtimeAPI) Invoke(ctx context.Context, event *Event) ([]byte, error) {
	inv := &apiInvocation{event, make(chan apiOutcome, 1)}
	for {
		select {
		case a.events <- inv:
		case <-a.closed:
			return nil, ErrNotTaken
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		response, err := a.outcome(ctx, inv)
		if !errors.Is(err, errGaveUp) {
			return response, err
		}
	}
}

// errGaveUp says that the connection which took the event had been cut by the runtime, which may ask again.
var errGaveUp = errors.New("runtimes: the runtime gave up waiting for an event")

func (a *runtimeAPI) outcome(ctx context.Context, inv *apiInvocation) ([]byte, error) {
	select {
	case out := <-inv.done:
		return out.response, out.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-a.closed:
	}
	// A runtime may answer and end at once.
	select {
	case out := <-inv.done:
		return out.response, out.err
	default:
		return nil, io.EOF
	}
}

// Gone says that the runtime has ended, while the listener is still needed: calls in progress return io.EOF.
func (a *runtimeAPI) Gone() { a.close.Do(func() { close(a.closed) }) }

func (a *runtimeAPI) Close() error {
	a.Gone()
	err := a.server.Close()
	<-a.serving
	return err
}

// enter changes the state, or answers with AWS's error and returns false. id is checked when it is not empty.
func (a *runtimeAPI) enter(w http.ResponseWriter, to runtimeState, id string) (*apiInvocation, bool) {
	a.mu.Lock()
	from, current := a.state, a.current
	known := id == "" || current != nil && current.event.RequestID == id
	allowed := false
	for _, state := range transitions[from] {
		allowed = allowed || state == to
	}
	if known && allowed {
		a.state = to
		if (from == stateStarted || from == stateRestoring) && to == stateReady {
			defer close(a.initDone)
		}
	}
	a.mu.Unlock()
	switch {
	case !known:
		apiError(w, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
	case !allowed:
		apiError(w, http.StatusForbidden, "InvalidStateTransition", fmt.Sprintf(
			"State transition from %s to %s failed for runtime. Error: State transition is not allowed", from, to))
	}
	return current, known && allowed
}

func (a *runtimeAPI) serveNext(w http.ResponseWriter, r *http.Request) {
	if _, ok := a.enter(w, stateReady, ""); !ok {
		return
	}
	var inv *apiInvocation
	select {
	case inv = <-a.events:
	case <-r.Context().Done():
		return
	case <-a.closed:
		return
	}
	if r.Context().Err() != nil {
		inv.done <- apiOutcome{err: errGaveUp}
		return
	}
	a.mu.Lock()
	a.state, a.current = stateRunning, inv
	a.mu.Unlock()
	event := inv.event
	header := w.Header()
	for name, value := range map[string]string{
		"Content-Type":                        "application/json",
		"Content-Length":                      strconv.Itoa(len(event.Payload)),
		"Lambda-Runtime-Aws-Request-Id":       event.RequestID,
		"Lambda-Runtime-Deadline-Ms":          strconv.FormatInt(event.DeadlineMS, 10),
		"Lambda-Runtime-Invoked-Function-Arn": event.FunctionARN,
		"Lambda-Runtime-Trace-Id":             event.TraceID,
		"Lambda-Runtime-Client-Context":       event.ClientContext,
		"Lambda-Runtime-Cognito-Identity":     event.CognitoIdentity,
	} {
		if value != "" {
			header.Set(name, value)
		}
	}
	w.Write(event.Payload)
}

func (a *runtimeAPI) serveResponse(w http.ResponseWriter, r *http.Request) {
	if mode := r.Header.Get(headerMode); mode != "" && mode != "streaming" {
		apiError(w, http.StatusBadRequest, "InvalidFunctionResponseMode", "Invalid function response mode: "+mode)
		return
	}
	inv, ok := a.enter(w, stateInvocationResponse, r.PathValue("id"))
	if !ok {
		return
	}
	body, err := readBounded(r)
	if kind := r.Trailer.Get(headerErrorType); err == nil && kind != "" {
		// The function failed in the middle of its response.
		payload, decodeErr := base64.StdEncoding.DecodeString(r.Trailer.Get(headerErrorBody))
		if decodeErr != nil {
			payload = nil
		}
		err = functionError(apiErrorType(kind, thaw.ErrorFunctionUnknown), payload)
	}
	a.answer(w, inv, body, err)
}

func (a *runtimeAPI) serveError(w http.ResponseWriter, r *http.Request) {
	inv, ok := a.enter(w, stateInvocationError, r.PathValue("id"))
	if !ok {
		return
	}
	body, err := readBounded(r)
	if err == nil {
		err = functionError(apiErrorType(r.Header.Get(headerErrorType), thaw.ErrorFunctionUnknown), body)
	}
	a.answer(w, inv, nil, err)
}

// answer ends the invocation for its caller and tells the runtime how its post was taken.
func (a *runtimeAPI) answer(w http.ResponseWriter, inv *apiInvocation, body []byte, err error) {
	a.mu.Lock()
	a.state = stateResponseSent
	a.mu.Unlock()
	failure, _ := errors.AsType[*thaw.FunctionError](err)
	switch {
	case err != nil && failure == nil:
		err = &thaw.FunctionError{
			Type:    errorTruncated,
			Payload: errorObject(errorTruncated, "The runtime's response was cut short"),
		}
		apiError(w, http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request detected as truncated")
	case failure != nil && failure.Type == thaw.ErrorResponseTooLarge:
		apiError(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge",
			fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", thaw.MaxResponse))
	default:
		apiAccepted(w)
	}
	inv.done <- apiOutcome{body, err}
}

const errorTruncated = "Runtime.TruncatedResponse"

// errorAfterRestore is the type of a failed after-restore hook, after AWS's page on SnapStart's runtime hooks.
const errorAfterRestore = "Runtime.AfterRestoreError"

// serveRestoreNext is where a snapshot would be taken and restored. There is none of a program that cannot be forked.
func (a *runtimeAPI) serveRestoreNext(w http.ResponseWriter, _ *http.Request) {
	if _, ok := a.enter(w, stateRestoring, ""); ok {
		w.WriteHeader(http.StatusOK)
	}
}

// serveStartError takes the error that ends a start. otherwise is its type where the runtime gives none in AWS's form.
func (a *runtimeAPI) serveStartError(to runtimeState, otherwise string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, ok := a.enter(w, to, ""); !ok {
			return
		}
		body, err := readBounded(r)
		failure, isFailure := errors.AsType[*thaw.FunctionError](err)
		if !isFailure {
			failure = functionError(apiErrorType(r.Header.Get(headerErrorType), otherwise), body)
		}
		a.mu.Lock()
		a.initErr = failure
		a.mu.Unlock()
		apiAccepted(w)
		close(a.initDone)
	}
}

// readBounded reads a body of at most thaw.MaxResponse; a larger one is a *thaw.FunctionError.
func readBounded(r *http.Request) ([]byte, error) {
	limit := int64(thaw.MaxResponse)
	if r.ContentLength > limit {
		io.CopyN(io.Discard, r.Body, maxDrain) //nolint:errcheck // it is refused, however much of it comes
		return nil, responseTooLarge()
	}
	if r.ContentLength > 0 {
		body := make([]byte, 0, min(r.ContentLength, trustedBody)+1)
		return appendAll(body, r.Body)
	}
	body, err := appendAll(nil, io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		io.CopyN(io.Discard, r.Body, maxDrain) //nolint:errcheck // it is refused, however much of it comes
		return nil, responseTooLarge()
	}
	return body, nil
}

func appendAll(body []byte, r io.Reader) ([]byte, error) {
	for {
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			return body, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

var apiErrorTypePattern = regexp.MustCompile(`^(Runtime|Function)\.[A-Z][a-zA-Z]+$`)

// apiErrorType keeps the types that AWS keeps.
func apiErrorType(kind, otherwise string) string {
	if apiErrorTypePattern.MatchString(kind) {
		return kind
	}
	return otherwise
}

func apiAccepted(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	io.WriteString(w, `{"status":"OK"}`+"\n")
}

func apiError(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	answer := struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}{message, kind}
	json.NewEncoder(w).Encode(answer) //nolint:errcheck // the runtime has gone
}
