// Package edge is the platform's listener: it tells the AWS services apart, guards the door (Host and Origin on an
// unauthenticated loopback listener, SigV4 on any other), serves the Invoke API itself, and passes control calls on.
package edge

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"thaw"
	"thaw/awsapi"
	"thaw/invoke"
	"thaw/invoke/async"
	"thaw/placement"
	"thaw/telemetry"
)

// Service is one AWS service behind the listener.
type Service interface {
	http.Handler
	// WriteError answers err in the service's wire form.
	WriteError(w http.ResponseWriter, r *http.Request, err error)
}

// Authenticator checks a request's signature and says whose it is. Errors are *thaw.Error.
type Authenticator interface {
	Verify(r *http.Request) (accessKey string, err error)
}

// Placement is what the native function API asks of placement.
type Placement interface {
	Report(v *thaw.Version) placement.Report
	Totals() placement.Totals
}

// Functions is what the native API asks of the catalog.
type Functions interface {
	Function(name string) (*thaw.Function, bool)
	// Functions lists at most limit functions by name, those after one.
	Functions(after string, limit int) []*thaw.Function
}

// Events takes asynchronous invocations in, and tells what became of them; *async.Dispatcher is one. An error is as the
// Lambda API has it.
type Events interface {
	Enqueue(ctx context.Context, e *async.Event) (requestID string, err error)
	Functions(after string, limit int) []async.FunctionEvents
	Function(name string) (async.FunctionEvents, bool)
	Events(ctx context.Context, function, after string, limit int) (list []async.EventView, next string, err error)
	Redrive(ctx context.Context, function string, ids ...string) (int, error)
	Discard(ctx context.Context, function string, ids ...string) (int, error)
}

// Config is what the edge is made of.
type Config struct {
	// Services by the name in SigV4's credential scope: lambda, sqs, iam and so on.
	Services map[string]Service
	Invoker  *invoke.Invoker
	// Events takes asynchronous invocations.
	Events Events
	// Placement tells what a version has on this node.
	Placement Placement
	Catalog   Functions
	Logs      *telemetry.Logs
	// Queues are the message queues, for the native API.
	Queues Queues
	// Mappings gives the event source mappings that read one of the users' queues; nil: none.
	Mappings func(ctx context.Context, queue string) ([]QueueMapping, error)
	// Deliveries tells what became of what rules and schedules sent; nil: nothing is told.
	Deliveries Deliveries
	// Records are those of the invocations that have ended; nil: none are kept.
	Records Records
	// Throttled counts a function's invocations that were refused from an instant on, by AWS's name of the limit; nil: nobody
	// counts them.
	Throttled func(ctx context.Context, function string, since time.Time) (map[string]int64, error)
	// MeasuresInit: profiles of inits are made.
	MeasuresInit bool
	// Metrics answers GET /metrics; nil: there is nothing. MetricsToken is a bearer token that stands for its signature; empty: none does.
	Metrics      http.Handler
	MetricsToken string
	// Download serves deployment packages to holders of a link made by GetFunction.
	Download http.Handler
	// Authenticator is nil on a loopback listener without authentication.
	Authenticator Authenticator
	Account       thaw.Account
	Version       string
	// Runtimes are the identifiers that functions can be made with here.
	Runtimes []string
	Log      *slog.Logger
}

// Server answers every request of the platform's listener.
type Server struct {
	cfg    Config
	native *http.ServeMux
	health []byte
	// bodyTime bounds how long a request's body may take to come.
	bodyTime time.Duration
}

// bodyTime lets the largest package, 70 MB with its encoding, come over a line of 5 Mbit/s.
const bodyTime = 2 * time.Minute

// New makes a Server.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, native: http.NewServeMux(), bodyTime: bodyTime}
	s.health, _ = json.Marshal(map[string]any{
		"status": "ok", "version": cfg.Version, "account": cfg.Account.ID, "region": cfg.Account.Region, "runtimes": cfg.Runtimes,
	})
	s.native.HandleFunc("GET /_thaw/health", s.serveHealth)
	s.native.HandleFunc("GET /_thaw/logs", s.serveLogs)
	s.native.HandleFunc("GET /_thaw/functions", s.serveFunctions)
	s.native.HandleFunc("GET /_thaw/functions/{name}", s.serveFunction)
	s.handleQueues()
	s.handleEvents()
	s.handleRecords()
	s.native.Handle("GET /_thaw/code/", cfg.Download)
	s.native.HandleFunc(nativePrefix, func(w http.ResponseWriter, r *http.Request) {
		cfg.Services[lambdaService].WriteError(w, r, thaw.Errorf(thaw.CodeUnknownOperation, "thaw has nothing at %s %s.", r.Method, r.URL.Path))
	})
	return s
}

// invokePrefix begins the path of Invoke; the function's name and "/invocations" follow.
const (
	invokePrefix  = "/2015-03-31/functions/"
	invokeSuffix  = "/invocations"
	acceptPrefix  = "/2014-11-13/functions/" // of InvokeAsync, as above
	acceptSuffix  = "/invoke-async"
	nativePrefix  = "/_thaw/"
	healthPath    = nativePrefix + "health"
	codePrefix    = nativePrefix + "code/"
	metricsPath   = "/metrics"
	lambdaService = "lambda"
	iamService    = "iam"
)

// mayScrape reports whether a request for the metrics brings the token that stands for its signature.
func (s *Server) mayScrape(r *http.Request) bool {
	if s.cfg.MetricsToken == "" || r.URL.Path != metricsPath {
		return false
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return ok && subtle.ConstantTimeCompare([]byte(token), []byte(s.cfg.MetricsToken)) == 1
}

// ServeHTTP dispatches one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if s.cfg.Authenticator == nil {
		if err := checkBrowser(r); err != nil {
			s.service(r).WriteError(w, r, err)
			return
		}
	} else if path != healthPath && !strings.HasPrefix(path, codePrefix) && !s.mayScrape(r) {
		if _, err := s.cfg.Authenticator.Verify(r); err != nil {
			s.service(r).WriteError(w, r, err)
			return
		}
	}
	if r.ContentLength != 0 {
		// Without a deadline a client that stops in the middle of its body would keep its connection for ever. The
		// server sets its own with the next request.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.bodyTime)) // only a test's recorder has none
	}
	if r.Method == http.MethodPost {
		if name, ok := invokedName(path); ok {
			s.serveInvoke(w, r, name)
			return
		}
		if name, ok := acceptedName(path); ok {
			s.serveInvokeAsync(w, r, name)
			return
		}
	}
	switch {
	case path == metricsPath && r.Method == http.MethodGet && s.cfg.Metrics != nil:
		s.cfg.Metrics.ServeHTTP(w, r)
	case strings.HasPrefix(path, nativePrefix):
		s.native.ServeHTTP(w, r)
	default:
		s.service(r).ServeHTTP(w, r)
	}
}

// service finds the AWS service that a request is for.
func (s *Server) service(r *http.Request) Service {
	name, _ := awsapi.Identify(r)
	if service, ok := s.cfg.Services[name]; ok {
		return service
	}
	form := s.cfg.Services[lambdaService]
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		form = s.cfg.Services[iamService]
	}
	return unknownService{name: name, Service: form, known: s.serviceNames()}
}

func (s *Server) serviceNames() string {
	names := make([]string, 0, len(s.cfg.Services))
	for name := range s.cfg.Services {
		names = append(names, name)
	}
	return strings.Join(sorted(names), ", ")
}

// unknownService answers for a service that this platform does not have, in the wire form of one that it has.
type unknownService struct {
	Service
	name  string
	known string
}

func (u unknownService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	what := "the request " + r.Method + " " + r.URL.Path
	if u.name != "" {
		what = "the service " + u.name
	}
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		what += " (operation " + target + ")"
	}
	u.WriteError(w, r, thaw.Errorf(thaw.CodeUnknownOperation, "thaw does not know %s. It serves: %s.", what, u.known))
}

// checkBrowser keeps web pages from driving a listener that asks for no credentials: a foreign Host (DNS rebinding) or
// Origin (a cross-site request) is refused.
func checkBrowser(r *http.Request) error {
	if !localHost(r.Host) {
		return thaw.Errorf(thaw.CodeAccessDenied, "The Host header %q does not name this machine. Use http://127.0.0.1 or http://localhost, or start thaw with authentication on a public address.", r.Host)
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		_, host, ok := strings.Cut(origin, "://")
		if !ok || !localHost(host) {
			return thaw.Errorf(thaw.CodeAccessDenied, "Requests from the web page %q are refused: this listener asks for no credentials.", origin)
		}
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" {
		return thaw.Errorf(thaw.CodeAccessDenied, "Cross-site requests are refused: this listener asks for no credentials.")
	}
	return nil
}

// localHost reports whether a Host header's value names this machine.
func localHost(hostport string) bool {
	host := strings.ToLower(hostport)
	if h, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
		host = h
	}
	switch host {
	case "127.0.0.1", "localhost", "[::1]", "::1":
		return true
	}
	if strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(s.health) //nolint:errcheck // the client has gone
}

// logLine is one line of the native log API.
type logLine struct {
	Timestamp int64  `json:"timestamp"` // Unix time, ms
	Stream    string `json:"stream"`
	RequestID string `json:"request_id,omitempty"`
	Message   string `json:"message"`
}

// serveLogs streams a function's log as JSON lines.
func (s *Server) serveLogs(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	name := query.Get("function")
	lambda := s.cfg.Services[lambdaService]
	f, ok := s.cfg.Catalog.Function(name)
	if !ok {
		lambda.WriteError(w, r, thaw.Errorf(thaw.CodeResourceNotFound, "Function not found: %s", s.cfg.Account.FunctionARN(name, "")))
		return
	}
	var since time.Time
	if text := query.Get("since"); text != "" {
		var err error
		if since, err = time.Parse(time.RFC3339, text); err != nil {
			lambda.WriteError(w, r, thaw.Errorf(thaw.CodeInvalidParameterValue, "since must be a time such as 2026-01-31T12:00:00Z, not %q.", text))
			return
		}
	}
	follow := query.Get("follow") == "true"
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	flusher := http.NewResponseController(w)
	if err := flusher.Flush(); err != nil {
		return
	}
	encoder := json.NewEncoder(w)
	err := s.cfg.Logs.Read(r.Context(), f.Config.LogGroupName(), since, follow, func(e telemetry.Event) error {
		if f.Config.LogGroup != "" && !mayBeOf(e.Stream, name) {
			return nil
		}
		if err := encoder.Encode(logLine{e.At.UnixMilli(), e.Stream, e.RequestID, e.Message}); err != nil {
			return err
		}
		if follow {
			return flusher.Flush()
		}
		return nil
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		s.cfg.Log.Warn("reading logs ended early", "function", name, "error", err)
	}
}

// mayBeOf reports whether a stream of a group that several functions may share can be this function's: one of a function's has
// its name, as in 2026/01/31/NAME[$LATEST]ID; those of earlier versions of thaw have none.
func mayBeOf(stream, function string) bool {
	owner, _, ok := strings.Cut(stream[strings.LastIndexByte(stream, '/')+1:], "[")
	return !ok || owner == "" || owner == function
}

// requestID is the id of one request: the x-amzn-RequestId of its answer, and the invocation's own.
func requestID() string { return uuid.NewString() }
