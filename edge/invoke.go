package edge

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"thaw"
	"thaw/invoke"
	"thaw/invoke/async"
	"thaw/telemetry/xray"
)

// Headers in the form in which net/http keeps them, so that setting one needs no canonicalisation.
const (
	headerRequestID = "X-Amzn-Requestid"
	headerExecuted  = "X-Amz-Executed-Version"
	headerError     = "X-Amz-Function-Error"
	headerLog       = "X-Amz-Log-Result"
	headerTrace     = "X-Amzn-Trace-Id"
	headerExplained = "X-Thaw-Invocation"
)

// smallBody is the largest request body that is read into a pooled buffer.
const smallBody = 64 << 10

var bodies = sync.Pool{New: func() any { b := make([]byte, 0, smallBody); return &b }}

// maxBody is the largest body that an invocation may have, bytes.
const maxBody = thaw.MaxPayload

// invokedName cuts the function's name out of the path of an Invoke request. A trailing slash, which old SDKs send, does
// not count.
func invokedName(path string) (name string, ok bool) {
	path = strings.TrimSuffix(path, "/")
	if len(path) < len(invokePrefix)+len(invokeSuffix) || !strings.HasPrefix(path, invokePrefix) || !strings.HasSuffix(path, invokeSuffix) {
		return "", false
	}
	return path[len(invokePrefix) : len(path)-len(invokeSuffix)], true
}

// acceptedName cuts the function's name out of the path of an InvokeAsync request.
func acceptedName(path string) (name string, ok bool) {
	path = strings.TrimSuffix(path, "/")
	if len(path) < len(acceptPrefix)+len(acceptSuffix) || !strings.HasPrefix(path, acceptPrefix) || !strings.HasSuffix(path, acceptSuffix) {
		return "", false
	}
	return path[len(acceptPrefix) : len(path)-len(acceptSuffix)], true
}

// Invocation types of the Lambda API.
const (
	kindSync  = "RequestResponse"
	kindEvent = "Event"
	kindDry   = "DryRun"
)

// maxInvokeAsync bounds the payload of an InvokeAsync request, bytes, after its documentation.
const maxInvokeAsync = 256 << 10

// serveInvokeAsync is POST /2014-11-13/functions/{name}/invoke-async, which is what Invoke with the type Event is.
func (s *Server) serveInvokeAsync(w http.ResponseWriter, r *http.Request, name string) {
	request := invoke.Request{Start: time.Now(), RequestID: requestID()}
	w.Header()[headerRequestID] = []string{request.RequestID}
	lambda := s.cfg.Services[lambdaService]
	buffer := bodies.Get().(*[]byte)
	defer func() { bodies.Put(buffer) }()
	ref, ok := thaw.ParseFunctionRef(name)
	if !ok {
		lambda.WriteError(w, r, invalidName(name))
		return
	}
	request.Function, request.TraceID = ref, traceOf(r)
	var err error
	if request.Payload, err = readBody(r, buffer, kindEvent, maxInvokeAsync); err != nil {
		lambda.WriteError(w, r, err)
		return
	}
	s.accept(w, r, &request)
}

// accept stores an asynchronous invocation and says so.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, request *invoke.Request) {
	request.TraceID = invoke.TraceHead(request)
	_, err := s.cfg.Events.Enqueue(r.Context(), &async.Event{
		Function: request.Function, Qualifier: request.Qualifier, Payload: request.Payload, TraceID: request.TraceID,
		RequestID: request.RequestID,
	})
	if err != nil {
		s.cfg.Services[lambdaService].WriteError(w, r, err)
		return
	}
	header := w.Header()
	header[headerTrace] = []string{request.TraceID}
	header["Content-Length"] = nothingMore
	w.WriteHeader(http.StatusAccepted)
}

// serveInvoke is POST /2015-03-31/functions/{name}/invocations.
func (s *Server) serveInvoke(w http.ResponseWriter, r *http.Request, name string) {
	request := invoke.Request{Start: time.Now(), RequestID: requestID()}
	header := w.Header()
	header[headerRequestID] = []string{request.RequestID}
	lambda := s.cfg.Services[lambdaService]

	buffer := bodies.Get().(*[]byte)
	defer func() { bodies.Put(buffer) }()
	kind, err := parseInvoke(r, name, &request, buffer)
	if err != nil {
		lambda.WriteError(w, r, err)
		return
	}
	if r.ContentLength != 0 {
		// The function may take longer than its event took to come.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // only a test's recorder has none
	}
	switch kind {
	case kindEvent:
		s.accept(w, r, &request)
		return
	case kindDry:
		executed, err := s.cfg.Invoker.Check(&request)
		if err != nil {
			lambda.WriteError(w, r, err)
			return
		}
		header[headerExecuted] = []string{executed}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	request.Responds = true
	response, err := s.cfg.Invoker.Invoke(r.Context(), &request)
	if err != nil {
		lambda.WriteError(w, r, err)
		return
	}
	record := &response.Record
	responding := response.Answered()
	header["Content-Type"] = jsonType
	header[headerExecuted] = []string{response.ExecutedVersion}
	header[headerTrace] = []string{record.TraceID}
	if response.FunctionError {
		header[headerError] = unhandled
	}
	if request.LogTail {
		header[headerLog] = []string{base64.StdEncoding.EncodeToString(response.LogTail)}
	}
	if r.Header.Get("X-Thaw-Explain") != "" {
		record.Phases.Set(thaw.PhaseRespond, record.Start, responding, time.Now())
		header[headerExplained] = []string{string(appendExplanation(nil, record))}
	}
	header["Content-Length"] = []string{strconv.Itoa(len(response.Payload))}
	w.WriteHeader(http.StatusOK)
	w.Write(response.Payload) //nolint:errcheck // the caller has gone; the invocation is over
	s.cfg.Invoker.Responded(response, responding, time.Now())
}

var (
	jsonType    = []string{"application/json"}
	unhandled   = []string{"Unhandled"}
	nothingMore = []string{"0"}
)

// parseInvoke reads an Invoke request. The payload lies in *buffer when it is small.
func parseInvoke(r *http.Request, name string, request *invoke.Request, buffer *[]byte) (kind string, err error) {
	ref, ok := thaw.ParseFunctionRef(name)
	if !ok {
		return "", invalidName(name)
	}
	request.Function = ref
	if r.URL.RawQuery != "" {
		if query := r.URL.Query(); query.Has("Qualifier") {
			request.Qualifier = query.Get("Qualifier")
			if err := checkQualifier(request.Qualifier); err != nil {
				return "", err
			}
		}
	}
	kind = r.Header.Get("X-Amz-Invocation-Type")
	switch kind {
	case "":
		kind = kindSync
	case kindSync, kindDry, kindEvent:
	default:
		return "", thaw.Errorf(thaw.CodeValidation, "1 validation error detected: Value '%s' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]", kind)
	}
	switch log := r.Header.Get("X-Amz-Log-Type"); log {
	case "", "None":
	case "Tail":
		request.LogTail = true
	default:
		return "", thaw.Errorf(thaw.CodeValidation, "1 validation error detected: Value '%s' at 'logType' failed to satisfy constraint: Member must satisfy enum value set: [None, Tail]", log)
	}
	if encoded := r.Header.Get("X-Amz-Client-Context"); encoded != "" {
		context, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(encoded) > 3583 {
			return "", thaw.Errorf(thaw.CodeInvalidRequestContent, "Client context must be a valid Base64-encoded JSON object of at most 3583 bytes.")
		}
		request.ClientContext = string(context)
	}
	request.TraceID = traceOf(r)
	switch r.Header.Get("X-Thaw-Start") {
	case "forced":
		request.Forced = true
	case "spare":
		request.Spare = true
	}
	limit := maxBody
	if kind == kindEvent {
		limit = async.MaxPayload
		if request.Forced || request.Spare {
			return "", thaw.Errorf(thaw.CodeInvalidParameterValue, "X-Thaw-Start says how a synchronous invocation is to start. Leave it out with the invocation type Event.")
		}
	}
	request.Payload, err = readBody(r, buffer, kind, limit)
	return kind, err
}

// traceOf is the trace that a request belongs to, by X-Ray's header or else by W3C's.
func traceOf(r *http.Request) string {
	if trace := r.Header.Get(headerTrace); trace != "" {
		return invoke.KeepTrace(trace)
	}
	if parent := r.Header.Get("Traceparent"); parent != "" {
		return xray.FromW3C(parent)
	}
	return ""
}

func invalidName(name string) error {
	return thaw.Errorf(thaw.CodeValidation, "1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}(-gov)?-[a-z]+-\\d{1}:)?(\\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\\$LATEST|[a-zA-Z0-9-_]+))?", name)
}

// checkQualifier holds the Qualifier parameter to the Lambda API's model, in AWS's words.
func checkQualifier(q string) error {
	const failed = "1 validation error detected: Value '%s' at 'qualifier' failed to satisfy constraint: Member must "
	switch {
	case len(q) < 1:
		return thaw.Errorf(thaw.CodeValidation, failed+"have length greater than or equal to 1", q)
	case len(q) > 128:
		return thaw.Errorf(thaw.CodeValidation, failed+"have length less than or equal to 128", q)
	case q != "$LATEST.PUBLISHED" && strings.ContainsFunc(q, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '$'
	}):
		return thaw.Errorf(thaw.CodeValidation, failed+`satisfy regular expression pattern: \$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+`, q)
	}
	return nil
}

// readBody reads the payload of an invocation of a kind, at most limit bytes, into *buffer where it fits.
func readBody(r *http.Request, buffer *[]byte, kind string, limit int) ([]byte, error) {
	length := r.ContentLength
	if length > int64(limit) {
		return nil, tooLarge(length, kind, limit)
	}
	if length == 0 {
		return nil, nil
	}
	body := (*buffer)[:0]
	if length > 0 {
		body = slices.Grow(body, int(length))[:length]
		if length <= smallBody {
			*buffer = body
		}
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, thaw.Errorf(thaw.CodeInvalidRequestContent, "The request's body ended before its Content-Length of %d bytes.", length)
		}
		return body, nil
	}
	all, err := io.ReadAll(io.LimitReader(r.Body, int64(limit)+1))
	switch {
	case err != nil:
		return nil, thaw.Errorf(thaw.CodeInvalidRequestContent, "The request's body could not be read: %v", err)
	case len(all) > limit:
		return nil, tooLarge(int64(len(all)), kind, limit)
	}
	return all, nil
}

// tooLarge is AWS's recorded text for a payload over the limit, which has another code for events.
func tooLarge(length int64, kind string, limit int) error {
	if kind == kindEvent {
		return async.TooLarge(length, limit)
	}
	return thaw.Errorf(thaw.CodeRequestTooLarge, "%d byte payload is too large for the RequestResponse invocation type (limit %d bytes)", length, limit)
}

// appendExplanation is the record as the JSON of X-Thaw-Invocation.
func appendExplanation(b []byte, r *thaw.Invocation) []byte {
	b = append(b, `{"request_id":"`...)
	b = append(b, r.RequestID...)
	b = append(b, `","start_kind":"`...)
	b = append(b, r.Kind...)
	b = append(b, `","cause":"`...)
	b = append(b, r.Cause...)
	b = append(b, `","environment":"`...)
	b = append(b, r.EnvironmentID...)
	b = append(b, `","error_type":`...)
	name, _ := json.Marshal(r.ErrorType) // a string never fails; it may be any class name of the function's
	b = append(b, name...)
	b = append(b, `,"phases":{`...)
	first := true
	for phase, span := range r.Phases {
		if span.Length == 0 {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, '"')
		b = append(b, thaw.Phase(phase).String()...)
		b = append(b, `":`...)
		b = strconv.AppendInt(b, span.Length.Microseconds(), 10)
	}
	for _, n := range []struct {
		key   string
		value int64
	}{
		{`},"duration_us":`, r.Duration.Microseconds()},
		{`,"init_us":`, r.InitDuration.Microseconds()},
		{`,"restore_us":`, r.RestoreDuration.Microseconds()},
		{`,"failed_init_us":`, r.FailedInit.Microseconds()},
		{`,"post_runtime_us":`, r.PostRuntime.Microseconds()},
		{`,"billed_ms":`, r.Billed.Milliseconds()},
		{`,"memory_mb":`, int64(r.MemorySize)},
		{`,"max_memory_mb":`, int64(r.MaxMemoryUsed)},
	} {
		b = append(b, n.key...)
		b = strconv.AppendInt(b, n.value, 10)
	}
	return append(b, '}')
}

func sorted(names []string) []string { slices.Sort(names); return names }
