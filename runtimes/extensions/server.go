package extensions

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/google/uuid"
	"golang.org/x/net/netutil"
)

const (
	// maxConnections bounds what one environment can hold open on the host.
	maxConnections = 32
	// maxBody and maxHeader bound a request, of which an environment may have maxConnections under way for as long as it
	// likes; real ones have some hundred bytes.
	maxBody   = 32 << 10
	maxHeader = 16 << 10
	// maxName bounds an extension's name: a file's.
	maxName = 255

	headerName       = "Lambda-Extension-Name"
	headerIdentifier = "Lambda-Extension-Identifier"
	headerEvent      = "Lambda-Extension-Event-Identifier"
	headerErrorType  = "Lambda-Extension-Function-Error-Type"
	headerFeatures   = "Lambda-Extension-Accept-Feature"
)

// server serves the API alone, for runtimes that do not speak HTTP themselves.
type server struct {
	mu     sync.Mutex
	http   *http.Server
	served chan struct{}
}

// Serve serves the API on a listener that only this environment can reach, until Close. The listener belongs to it from
// then on. A runtime that has the Runtime API on the same listener mounts Routes instead.
func (h *Host) Serve(l net.Listener) {
	mux := http.NewServeMux()
	h.Routes(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "UnknownPath", r.Method+" "+r.URL.Path+" is not served here: this runtime takes its events from elsewhere, and the platform has /2020-01-01/extension, /2022-07-01/telemetry and /2020-08-15/logs.")
	})
	s := &http.Server{Handler: mux, MaxHeaderBytes: maxHeader, ErrorLog: log.New(io.Discard, "", 0)} //nolint:gosec // an extension's next waits for as long as it lives
	served := make(chan struct{})
	h.server.mu.Lock()
	h.server.http, h.server.served = s, served
	h.server.mu.Unlock()
	go func() {
		defer close(served)
		s.Serve(netutil.LimitListener(l, maxConnections)) //nolint:errcheck // Close ends it
	}()
}

func (s *server) close() {
	s.mu.Lock()
	server, served := s.http, s.served
	s.mu.Unlock()
	if server != nil {
		server.Close() //nolint:errcheck // what it would report is that the connections have gone
		<-served
	}
}

// Routes adds the API's paths to a mux.
func (h *Host) Routes(mux *http.ServeMux) {
	mux.HandleFunc("POST /2020-01-01/extension/register", h.serveRegister)
	mux.HandleFunc("GET /2020-01-01/extension/event/next", h.identified(h.serveNext))
	mux.HandleFunc("POST /2020-01-01/extension/init/error", h.identified(h.serveError(stateInitError, "Extension.InitError")))
	mux.HandleFunc("POST /2020-01-01/extension/exit/error", h.identified(h.serveError(stateExitError, "Extension.ExitError")))
	mux.HandleFunc("PUT /2022-07-01/telemetry", h.identified(h.serveSubscribe(telemetryAPI)))
	mux.HandleFunc("PUT /2022-07-01/telemetry/", h.identified(h.serveSubscribe(telemetryAPI)))
	mux.HandleFunc("PUT /2020-08-15/logs", h.identified(h.serveSubscribe(logsAPI)))
	mux.HandleFunc("PUT /2020-08-15/logs/", h.identified(h.serveSubscribe(logsAPI)))
	if len(h.cfg.External) > 0 {
		mux.HandleFunc("POST /thaw/launcher", h.launcher.serve)
	}
}

func (h *Host) serveRegister(w http.ResponseWriter, r *http.Request) {
	name := r.Header.Get(headerName)
	if name == "" {
		refuse(w, http.StatusForbidden, "Extension.InvalidExtensionName", "Empty extension name")
		return
	}
	if len(name) > maxName {
		refuse(w, http.StatusForbidden, "Extension.InvalidExtensionName", "The extension's name is longer than a file's can be")
		return
	}
	var request struct {
		Events            []string `json:"events"`
		ConfigurationKeys []string `json:"configurationKeys"`
	}
	body, err := readBody(r)
	if err == nil {
		err = json.Unmarshal(body, &request)
	}
	if err == nil && len(request.ConfigurationKeys) > 0 {
		err = errors.New("configurationKeys are deprecated; use environment variables instead")
	}
	if err != nil {
		refuse(w, http.StatusForbidden, "InvalidRequestFormat", err.Error())
		return
	}
	id, refused := h.register(name, request.Events)
	if refused != nil {
		refuse(w, http.StatusForbidden, refused.kind, refused.message)
		return
	}
	answer := struct {
		Version string `json:"functionVersion"`
		Name    string `json:"functionName"`
		Handler string `json:"handler"`
		Account string `json:"accountId,omitempty"`
	}{h.cfg.Version, h.cfg.Function, h.cfg.Handler, ""}
	for feature := range strings.SplitSeq(r.Header.Get(headerFeatures), ",") {
		if strings.TrimSpace(feature) == "accountId" {
			answer.Account = h.cfg.AccountID
		}
	}
	w.Header().Set(headerIdentifier, id)
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer) //nolint:errcheck // the extension has gone
}

// refusal is an answer with status 403.
type refusal struct{ kind, message string }

// register enters an extension and gives its identifier. One that no file in /opt/extensions has the name of is internal.
func (h *Host) register(name string, events []string) (id string, _ *refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var x *extension
	for _, known := range h.extensions {
		if known.name == name {
			x = known
		}
	}
	external := x != nil && x.external
	invoke, shutdown := false, false
	for _, event := range events {
		switch {
		case event == "INVOKE":
			invoke = true
		case event == "SHUTDOWN" && external:
			shutdown = true
		case event == "SHUTDOWN":
			return "", &refusal{"Extension.InvalidEventType", event + ": ShutdownEventNotSupportedForInternalExtension"}
		default:
			return "", &refusal{"Extension.InvalidEventType", fmt.Sprintf("%.64s: ErrorInvalidEventType", event)}
		}
	}
	switch {
	case external && x.state != stateStarted:
		return "", &refusal{"Extension.InvalidExtensionState", notAllowed(x.state, stateRegistered, name)}
	case h.closed && !external:
		return "", &refusal{"Extension.RegistrationClosed", "Extension registration closed already"}
	case x != nil && !external:
		return "", &refusal{"Extension.InvalidExtensionState", "Extension with this name already registered"}
	case x == nil && len(h.extensions) >= MaxExtensions:
		return "", &refusal{"Extension.TooManyExtensions", fmt.Sprintf("Extension limit (%d) reached", MaxExtensions)}
	}
	if x == nil {
		x = &extension{name: name, id: uuid.NewString(), deliver: make(chan []byte, 1)}
		h.extensions = append(h.extensions, x)
	}
	x.invoke, x.shutdown, x.state = invoke, shutdown, stateRegistered
	h.notify()
	return x.id, nil
}

func notAllowed(from, to state, name string) string {
	return fmt.Sprintf("State transition from %s to %s failed for extension %s. Error: State transition is not allowed", from, to, name)
}

// identified finds the extension that a request comes from.
func (h *Host) identified(serve func(http.ResponseWriter, *http.Request, *extension)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(headerIdentifier)
		if id == "" {
			refuse(w, http.StatusForbidden, "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
			return
		}
		parsed, err := uuid.Parse(id)
		if err != nil {
			refuse(w, http.StatusForbidden, "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
			return
		}
		var found *extension
		h.mu.Lock()
		for _, x := range h.extensions {
			if x.id == parsed.String() && x.state != stateStarted {
				found = x
			}
		}
		h.mu.Unlock()
		if found == nil {
			refuse(w, http.StatusForbidden, "Extension.UnknownExtensionIdentifier", "Unknown extension "+parsed.String())
			return
		}
		serve(w, r, found)
	}
}

// serveNext waits for the extension's next event. Of several calls the last one gets it: the extension may have given up the
// others without the platform knowing.
func (h *Host) serveNext(w http.ResponseWriter, r *http.Request, x *extension) {
	h.mu.Lock()
	from := x.state
	switch from {
	case stateRegistered, stateReady, stateRunning:
		if len(x.deliver) == 0 {
			x.state = stateReady
			h.notify()
		}
		if x.replaced != nil {
			close(x.replaced)
		}
		x.replaced = make(chan struct{})
	default:
		h.mu.Unlock()
		refuse(w, http.StatusForbidden, "Extension.InvalidExtensionState", notAllowed(from, stateReady, x.id))
		return
	}
	replaced := x.replaced
	h.mu.Unlock()
	var body []byte
	select {
	case body = <-x.deliver:
	case <-replaced:
		refuse(w, http.StatusForbidden, "Extension.InvalidExtensionState", notAllowed(stateReady, stateReady, x.id))
		return
	case <-r.Context().Done():
		return
	case <-h.ctx.Done():
		return
	}
	if r.Context().Err() != nil {
		h.takeBack(x, body)
		return
	}
	w.Header().Set(headerEvent, uuid.NewString())
	w.Header().Set(headerIdentifier, x.id)
	w.Header().Set("Content-Type", "application/json")
	w.Write(body)
}

// serveError takes the error with which an extension gives up.
func (h *Host) serveError(to state, failure string) func(http.ResponseWriter, *http.Request, *extension) {
	return func(w http.ResponseWriter, r *http.Request, x *extension) {
		kind := r.Header.Get(headerErrorType)
		if kind == "" {
			refuse(w, http.StatusForbidden, "Extension.MissingHeader", headerErrorType+" not found")
			return
		}
		if len(kind) > maxName {
			kind = kind[:maxName]
		}
		h.mu.Lock()
		from := x.state
		allowed := from == to || from == stateRegistered || to == stateExitError && (from == stateReady || from == stateRunning)
		h.mu.Unlock()
		if !allowed {
			refuse(w, http.StatusForbidden, "Extension.InvalidExtensionState", notAllowed(from, to, x.id))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set(headerIdentifier, x.id)
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, `{"status":"OK"}`+"\n")
		h.failNamed(x, to, printable(kind), failure, "the extension "+printable(x.name)+" reported "+printable(kind))
	}
}

// printable keeps what can stand in a log line.
func printable(s string) string {
	clean := []byte(s)
	for i, c := range clean {
		if c < ' ' || c > '~' {
			clean[i] = '?'
		}
	}
	return string(clean)
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err == nil && len(body) > maxBody {
		err = fmt.Errorf("the body has more than %d bytes", maxBody)
	}
	return body, err
}

// refuse answers with an error in the form of AWS's APIs inside the environment.
func refuse(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(struct { //nolint:errcheck // the extension has gone
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}{message, kind})
}
