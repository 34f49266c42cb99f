package edge

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"thaw"
	"thaw/awsapi"
	"thaw/invoke"
	"thaw/invoke/async"
	"thaw/placement"
	"thaw/state"
)

func TestLocalHost(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:4566": true, "127.1.2.3:80": true, "localhost": true, "localhost:4566": true, "LocalHost": true,
		"[::1]": true, "[::1]:4566": true, "::1": true, "[::ffff:127.0.0.1]:80": true, "lambda.localhost:4566": true,
		"": false, ":4566": false, "example.com": false, "example.com:4566": false, "10.0.0.1": false, "0.0.0.0:4566": false, "[::]:4566": false,
		"localhost.example.com": false, "127.0.0.1.example.com": false, "127.0.0.1.nip.io:4566": false, "notlocalhost": false,
		"localhost@example.com": false, "example.com#localhost": false, "127.0.0.1:80@example.com": false, "2130706433": false, "0x7f.1": false,
		"localhost:80:80": false, "[::1": true, "[::1]x": false, ".localhost.": false,
	} {
		if got := localHost(host); got != want {
			t.Errorf("localHost(%q) = %v", host, got)
		}
	}
}

func TestMayBeOf(t *testing.T) {
	for stream, want := range map[string]bool{
		"2026/01/31/fn[$LATEST]0123": true, "2026/01/31/fn[7]0123": true, "2026/01/31/[7]0123": true, "mine": true, "a/b": true, "": true,
		"2026/01/31/fn2[7]0123": false, "2026/01/31/f[7]0123": false, "2026/01/31/x-fn[$LATEST]0123": false,
	} {
		if got := mayBeOf(stream, "fn"); got != want {
			t.Errorf("%s: %v", stream, got)
		}
	}
}

func TestCheckBrowser(t *testing.T) {
	for _, test := range []struct {
		name, host string
		header     map[string]string
		refused    bool
	}{
		{name: "an SDK", host: "127.0.0.1:4566"},
		{name: "a page of this machine", host: "localhost:4566", header: map[string]string{"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}},
		{name: "typed into a browser", host: "localhost:4566", header: map[string]string{"Sec-Fetch-Site": "none"}},
		{name: "DNS rebinding", host: "evil.example:4566", refused: true},
		{name: "DNS rebinding with its own origin", host: "evil.example:4566", header: map[string]string{"Origin": "http://evil.example:4566", "Sec-Fetch-Site": "same-origin"}, refused: true},
		{name: "a form of another site", host: "localhost:4566", header: map[string]string{"Origin": "https://evil.example"}, refused: true},
		{name: "a sandboxed frame", host: "localhost:4566", header: map[string]string{"Origin": "null"}, refused: true},
		{name: "an image of another site", host: "localhost:4566", header: map[string]string{"Sec-Fetch-Site": "cross-site"}, refused: true},
		{name: "an origin that looks local", host: "localhost:4566", header: map[string]string{"Origin": "http://localhost.evil.example"}, refused: true},
		{name: "an origin with a user", host: "localhost:4566", header: map[string]string{"Origin": "http://localhost@evil.example"}, refused: true},
		{name: "an extension", host: "localhost:4566", header: map[string]string{"Origin": "chrome-extension://abcdef"}, refused: true},
		{name: "a file", host: "localhost:4566", header: map[string]string{"Origin": "file://"}, refused: true},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Host = test.host
		for name, value := range test.header {
			r.Header.Set(name, value)
		}
		err := checkBrowser(r)
		if (err != nil) != test.refused || err != nil && thaw.CodeOf(err) != thaw.CodeAccessDenied {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestInvokedName(t *testing.T) {
	for path, want := range map[string]string{
		"/2015-03-31/functions/f/invocations":                                       "f",
		"/2015-03-31/functions/f/invocations/":                                      "f",
		"/2015-03-31/functions/invocations/invocations":                             "invocations",
		"/2015-03-31/functions/arn:aws:lambda:us-east-1:1:function:f:1/invocations": "arn:aws:lambda:us-east-1:1:function:f:1",
		"/2015-03-31/functions//invocations":                                        "",
		"/2015-03-31/functions/a/b/invocations":                                     "a/b", // no name, and refused as one
	} {
		if got, ok := invokedName(path); !ok || got != want {
			t.Errorf("%s: %q, %v", path, got, ok)
		}
	}
	for _, path := range []string{
		"/2015-03-31/functions/invocations", "/2015-03-31/functions/f", "/2015-03-31/functions/f/invocation", "/2015-03-31/functions/",
		"/2015-03-31/functions/f/invocations/x", "/2016-03-31/functions/f/invocations", "2015-03-31/functions/f/invocations", "", "/",
	} {
		if got, ok := invokedName(path); ok {
			t.Errorf("%s: %q", path, got)
		}
	}
}

func parse(path string, header map[string]string, body io.Reader) (*invoke.Request, string, error) {
	r := httptest.NewRequest(http.MethodPost, "/", body)
	r.URL.Path, r.URL.RawQuery, _ = strings.Cut(path, "?")
	for name, value := range header {
		r.Header.Set(name, value)
	}
	buffer := make([]byte, 0, smallBody)
	request := &invoke.Request{}
	name, _ := invokedName(r.URL.Path)
	kind, err := parseInvoke(r, name, request, &buffer)
	return request, kind, err
}

func TestParseInvoke(t *testing.T) {
	const f = "/2015-03-31/functions/f/invocations"
	request, kind, err := parse("/2015-03-31/functions/arn:aws:lambda:us-east-1:000000000000:function:f:live/invocations?Qualifier=live", map[string]string{
		"X-Amz-Log-Type": "Tail", "X-Amz-Client-Context": "eyJjdXN0b20iOnt9fQ==", "X-Amzn-Trace-Id": "Root=1-2-3", "X-Thaw-Start": "forced",
	}, strings.NewReader("{}"))
	want := thaw.FunctionRef{Account: "000000000000", Region: "us-east-1", Name: "f", Qualifier: "live"}
	if err != nil || kind != "RequestResponse" || request.Function != want || request.Qualifier != "live" || !request.LogTail || !request.Forced ||
		request.ClientContext != `{"custom":{}}` || request.TraceID != "Root=1-2-3" || string(request.Payload) != "{}" {
		t.Errorf("%+v, %q, %v", request, kind, err)
	}
	if request, kind, err := parse(f, map[string]string{"X-Amz-Invocation-Type": "DryRun", "X-Amz-Log-Type": "None", "X-Thaw-Start": "spare"}, nil); err != nil || kind != "DryRun" || !request.Spare || request.Forced || request.LogTail || len(request.Payload) != 0 {
		t.Errorf("%+v, %q, %v", request, kind, err)
	}
	for _, test := range []struct {
		path   string
		header map[string]string
		body   io.Reader
		code   thaw.ErrorCode
		say    string
	}{
		{path: "/2015-03-31/functions//invocations", code: thaw.CodeValidation, say: "'functionName'"},
		{path: "/2015-03-31/functions/a b/invocations", code: thaw.CodeValidation, say: "Value 'a b' at 'functionName'"},
		{path: "/2015-03-31/functions/a/../b/invocations", code: thaw.CodeValidation, say: "'functionName'"},
		{path: "/2015-03-31/functions/f\n/invocations", code: thaw.CodeValidation, say: "'functionName'"},
		{path: f + "?Qualifier=", code: thaw.CodeValidation, say: "Value '' at 'qualifier'"},
		{path: f + "?Qualifier=a.b", code: thaw.CodeValidation, say: "Value 'a.b' at 'qualifier'"},
		{path: f + "?Qualifier=" + strings.Repeat("x", 129), code: thaw.CodeValidation, say: "length less than or equal to 128"},
		{path: f, header: map[string]string{"X-Amz-Invocation-Type": "Event", "X-Thaw-Start": "forced"}, code: thaw.CodeInvalidParameterValue, say: "X-Thaw-Start"},
		{path: f, header: map[string]string{"X-Amz-Invocation-Type": "Event"}, body: strings.NewReader(strings.Repeat("x", async.MaxPayload+1)), code: thaw.CodeRequestEntityTooLarge, say: "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)"},
		{path: f, header: map[string]string{"X-Amz-Invocation-Type": "Event"}, body: io.MultiReader(strings.NewReader(strings.Repeat("x", async.MaxPayload+1))), code: thaw.CodeRequestEntityTooLarge, say: "Event invocation type"},
		{path: f, header: map[string]string{"X-Amz-Invocation-Type": "event"}, code: thaw.CodeValidation, say: "'invocationType'"},
		{path: f, header: map[string]string{"X-Amz-Log-Type": "tail"}, code: thaw.CodeValidation, say: "'logType'"},
		{path: f, header: map[string]string{"X-Amz-Client-Context": "no base64"}, code: thaw.CodeInvalidRequestContent, say: "Client context"},
		{path: f, header: map[string]string{"X-Amz-Client-Context": strings.Repeat("e", 3584)}, code: thaw.CodeInvalidRequestContent, say: "3583"},
		{path: f, body: strings.NewReader(strings.Repeat("x", maxBody+1)), code: thaw.CodeRequestTooLarge, say: "6291457 byte payload is too large"},
		{path: f, body: io.MultiReader(strings.NewReader(strings.Repeat("x", maxBody+1))), code: thaw.CodeRequestTooLarge, say: "6291457 byte payload is too large"}, // chunked
		{path: f, body: io.MultiReader(strings.NewReader("{"), failing{}), code: thaw.CodeInvalidRequestContent, say: "could not be read"},
	} {
		_, _, err := parse(test.path, test.header, test.body)
		if e, ok := errors.AsType[*thaw.Error](err); !ok || e.Code != test.code || !strings.Contains(e.Message, test.say) {
			t.Errorf("%.80s %v: %.300v, want %s with %q", test.path, test.header, err, test.code, test.say)
		}
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestReadBody(t *testing.T) {
	for _, size := range []int{0, 1, smallBody - 1, smallBody, smallBody + 1, maxBody} {
		for _, known := range []bool{true, false} {
			text := strings.Repeat("x", size)
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(text))
			if !known {
				r.ContentLength = -1
			}
			buffer := make([]byte, 0, smallBody)
			body, err := readBody(r, &buffer, kindSync, maxBody)
			if err != nil || string(body) != text {
				t.Errorf("%d bytes, known %v: %d bytes, %v", size, known, len(body), err)
			}
			if cap(buffer) > 2*smallBody {
				t.Errorf("%d bytes, known %v: a buffer of %d bytes goes back to the pool", size, known, cap(buffer))
			}
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("short"))
	r.ContentLength = 10
	buffer := make([]byte, 0, smallBody)
	if _, err := readBody(r, &buffer, kindSync, maxBody); thaw.CodeOf(err) != thaw.CodeInvalidRequestContent {
		t.Errorf("a body that ends early: %v", err)
	}
}

func FuzzParseInvoke(f *testing.F) {
	f.Add("/2015-03-31/functions/f/invocations", "Qualifier=1", "Event")
	f.Add("/2015-03-31/functions/arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST/invocations", "", "")
	f.Add("/2015-03-31/functions/invocations", "Qualifier=%zz", "DryRun")
	f.Add("/2015-03-31/functions/../../x/invocations/", "&=;", "RequestResponse")
	f.Fuzz(func(t *testing.T, path, query, kind string) {
		name, ok := invokedName(path)
		if !ok {
			return
		}
		if rest := strings.TrimSuffix(path, "/"); rest != invokePrefix+name+invokeSuffix {
			t.Fatalf("%q was cut to %q", path, name)
		}
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.URL.Path, r.URL.RawQuery = path, query
		r.Header.Set("X-Amz-Invocation-Type", kind)
		buffer := make([]byte, 0, smallBody)
		request := &invoke.Request{}
		parsed, err := parseInvoke(r, name, request, &buffer)
		if err != nil {
			if _, ok := errors.AsType[*thaw.Error](err); !ok {
				t.Errorf("%v is no answer", err)
			}
			return
		}
		if parsed != kindSync && parsed != kindDry && parsed != kindEvent {
			t.Errorf("invocation type %q", parsed)
		}
		plain := func(s string) bool {
			return !strings.ContainsFunc(s, func(c rune) bool {
				return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_$.", c)
			})
		}
		if ref := request.Function; ref.Name == "" || strings.Contains(ref.Name, ".") || !plain(ref.Name+ref.Qualifier+request.Qualifier) {
			t.Errorf("%q became %+v, qualifier %q", name, ref, request.Qualifier)
		}
	})
}

func FuzzExplanation(f *testing.F) {
	f.Add("ValueError")
	f.Add("Fehler\u00e4\U0001f600\x7f\x00\"\\")
	f.Add("\xff")
	f.Fuzz(func(t *testing.T, errorType string) {
		record := &thaw.Invocation{RequestID: "id", Kind: thaw.StartBoot, Cause: thaw.CauseFirst, ErrorType: errorType, RestoreDuration: 2500 * time.Microsecond, Billed: 3 * time.Millisecond, MemorySize: 128}
		record.Phases[thaw.PhaseInit] = thaw.Span{Length: 1500 * time.Microsecond}
		text := appendExplanation(nil, record)
		var got struct {
			RequestID string           `json:"request_id"`
			Kind      string           `json:"start_kind"`
			Cause     string           `json:"cause"`
			ErrorType string           `json:"error_type"`
			Phases    map[string]int64 `json:"phases"`
			RestoreUS int64            `json:"restore_us"`
			BilledMS  int64            `json:"billed_ms"`
			MemoryMB  int64            `json:"memory_mb"`
		}
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if got.RequestID != "id" || got.Kind != "boot" || got.Cause != "first" || got.Phases["init"] != 1500 || len(got.Phases) != 1 || got.RestoreUS != 2500 || got.BilledMS != 3 || got.MemoryMB != 128 ||
			got.ErrorType != strings.ToValidUTF8(errorType, "") && !strings.ContainsRune(got.ErrorType, '\ufffd') {
			t.Errorf("%s", text)
		}
	})
}

// nothing is a catalog without functions, and a Placer without environments.
type nothing struct{}

func (nothing) Function(string) (*thaw.Function, bool)      { return nil, false }
func (nothing) Idle(*thaw.Version) (placement.Lease, bool)  { return placement.Lease{}, false }
func (nothing) Release(placement.Lease)                     {}
func (nothing) Spare(*thaw.Version) (placement.Lease, bool) { return placement.Lease{}, false }
func (nothing) Wake(*thaw.Version)                          {}
func (nothing) Provisioned(*thaw.Version) (placement.Lease, bool) {
	return placement.Lease{}, false
}
func (nothing) Functions(string, int) []*thaw.Function                { return nil }
func (nothing) Watch(ctx context.Context, _ func(state.Change)) error { <-ctx.Done(); return ctx.Err() }
func (nothing) Acquire(context.Context, *thaw.Version, bool) (placement.Lease, error) {
	return placement.Lease{}, errors.New("nothing")
}

func newServer(t *testing.T) *Server {
	t.Helper()
	account := thaw.Account{ID: "000000000000", Region: "us-east-1"}
	services := map[string]Service{}
	for _, name := range []string{"lambda", "iam", "sts"} {
		service, err := awsapi.New(name)
		if err != nil {
			t.Fatal(err)
		}
		services[name] = service
	}
	return New(Config{
		Services: services, Catalog: nothing{}, Account: account, Version: "test", Download: http.NotFoundHandler(), Log: slog.New(slog.DiscardHandler),
		Invoker: invoke.New(invoke.Config{Catalog: nothing{}, Placer: nothing{}, Account: account, Concurrency: 1}),
	})
}

// accepted keeps what it is given, and refuses the function named none.
type accepted struct {
	nothingMuch
	list []*async.Event
}

type nothingMuch = Events

func (a *accepted) Enqueue(_ context.Context, e *async.Event) (string, error) {
	if e.Function.Name == "none" {
		return "", thaw.Errorf(thaw.CodeResourceNotFound, "Function not found: none")
	}
	kept := *e
	kept.Payload = append([]byte(nil), e.Payload...)
	a.list = append(a.list, &kept)
	return e.RequestID, nil
}

// TestAccept: asynchronous invocations are answered with 202, no body and the request id that the function will see.
func TestAccept(t *testing.T) {
	s := newServer(t)
	events := &accepted{}
	s.cfg.Events = events
	for _, test := range []struct {
		path, kind, body string
		status           int
		errorType        string
	}{
		{"/2015-03-31/functions/f/invocations?Qualifier=live", "Event", `{"a":1}`, 202, ""},
		{"/2014-11-13/functions/f:live/invoke-async/", "", `{"a":1}`, 202, ""},
		{"/2014-11-13/functions/f/invoke-async", "", "", 202, ""},
		{"/2015-03-31/functions/none/invocations", "Event", "{}", 404, "ResourceNotFoundException"},
		{"/2014-11-13/functions/none/invoke-async/", "", "{}", 404, "ResourceNotFoundException"},
		{"/2014-11-13/functions/a b/invoke-async/", "", "{}", 400, "ValidationException"},
		{"/2014-11-13/functions/f/invoke-async/", "", strings.Repeat("x", maxInvokeAsync+1), 413, "RequestEntityTooLargeException"},
	} {
		events.list = nil
		r := httptest.NewRequest(http.MethodPost, strings.ReplaceAll(test.path, " ", "%20"), strings.NewReader(test.body))
		r.Host = "localhost:4566"
		r.Header.Set("X-Amz-Invocation-Type", test.kind)
		r.Header.Set("X-Amzn-Trace-Id", "Root=1-2-3")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != test.status || w.Header().Get("X-Amzn-Errortype") != test.errorType {
			t.Errorf("%s: %d %s %s", test.path, w.Code, w.Header().Get("X-Amzn-Errortype"), w.Body)
		}
		if test.status != http.StatusAccepted {
			if len(events.list) != 0 {
				t.Errorf("%s: accepted", test.path)
			}
			continue
		}
		if len(events.list) != 1 || w.Body.Len() != 0 || w.Header().Get("X-Amzn-Trace-Id") != "Root=1-2-3" {
			t.Fatalf("%s: %d events, %q, %v", test.path, len(events.list), w.Body, w.Header())
		}
		e := events.list[0]
		if e.RequestID == "" || e.RequestID != w.Header().Get("X-Amzn-Requestid") || string(e.Payload) != test.body || e.TraceID != "Root=1-2-3" || e.Function.Name != "f" {
			t.Errorf("%s: %+v", test.path, e)
		}
	}
}

func TestDispatch(t *testing.T) {
	s := newServer(t)
	for _, test := range []struct {
		method, path, target string
		status               int
		errorType            string
	}{
		{"GET", "/_thaw/health", "", 200, ""},
		{"POST", "/_thaw/health", "", 404, "UnknownOperationException"},
		{"GET", "/_thaw/", "", 404, "UnknownOperationException"},
		{"GET", "/_thaw/logs?function=f", "", 404, "ResourceNotFoundException"},
		{"POST", "/2015-03-31/functions/f/invocations", "", 404, "ResourceNotFoundException"},
		{"POST", "/2015-03-31/functions/f/invocations/", "", 404, "ResourceNotFoundException"},
		{"POST", "/2015-03-31/functions/invocations", "", 404, "UnknownOperationException"},
		{"GET", "/2014-11-13/functions/f/invoke-async/", "", 404, "UnknownOperationException"},
		{"PUT", "/2015-03-31/functions/f/invocations", "", 404, "UnknownOperationException"},
		{"GET", "/2015-03-31/functions/f", "", 501, "NotImplementedException"}, // no operation is registered here
		{"GET", "/nowhere", "", 404, "UnknownOperationException"},
		{"POST", "/", "AmazonSQS.SendMessage", 404, "UnknownOperationException"},
	} {
		r := httptest.NewRequest(test.method, test.path, nil)
		r.Host = "localhost:4566"
		if test.target != "" {
			r.Header.Set("X-Amz-Target", test.target)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != test.status || w.Header().Get("X-Amzn-Errortype") != test.errorType {
			t.Errorf("%s %s %s: %d %s %s", test.method, test.path, test.target, w.Code, w.Header().Get("X-Amzn-Errortype"), w.Body)
		}
	}
}

// TestBodyThatStops: a client that stops in the middle of its body is answered and hung up on.
func TestBodyThatStops(t *testing.T) {
	s := newServer(t)
	s.bodyTime = 20 * time.Millisecond
	server := httptest.NewServer(s)
	defer server.Close()
	for _, path := range []string{"/2015-03-31/functions/f/invocations", "/"} {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nAction=", path)
		c.SetReadDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // a connection that was just made
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || response.StatusCode/100 != 4 {
			t.Errorf("%s: %v, %v", path, response, err)
		}
	}
}
