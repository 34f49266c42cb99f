package extensions

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"thaw"
	"thaw/runtimes"
)

// received is one event as a consumer gets it.
type received struct {
	Time, Type string
	Record     json.RawMessage
}

// consumer is a listener for telemetry: what comes is in events. answer gives the status of each request.
func consumer(t *testing.T, answer func() int) (port int, events <-chan received) {
	t.Helper()
	got := make(chan received, 10000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var batch []received
		body, _ := io.ReadAll(r.Body)
		if status := answer(); status != 200 {
			http.Redirect(w, r, "http://example.com/", status)
			return
		}
		if err := json.Unmarshal(body, &batch); err != nil {
			t.Errorf("%v: %s", err, body)
		}
		for _, e := range batch {
			got <- e
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port, got
}

func (e *environment) subscribeTo(id, path, schema, types, destination string) {
	e.t.Helper()
	e.expect(200, `"OK"`, "PUT", path, fmt.Sprintf(`{"schemaVersion":%q,"types":%s,"buffering":{"timeoutMs":25},"destination":%s}`, schema, types, destination),
		headerIdentifier, id)
}

// play is one invocation as the environment tells of it.
func (e *environment) play() {
	at := time.UnixMilli(1700000000123)
	e.FunctionLog(at, []byte("a line\n"))
	event := &runtimes.Event{RequestID: "one", TraceID: "Root=1"}
	e.Begin(event, at)
	e.RuntimeDone(event, at, at.Add(1500*time.Microsecond), 16, "success", "")
	e.Report(at.Add(2*time.Millisecond), at.Add(1500*time.Microsecond), &thaw.Invocation{
		RequestID: "one", TraceID: "Root=1", Duration: 2 * time.Millisecond, Billed: 125 * time.Millisecond, InitDuration: 123 * time.Millisecond, MemorySize: 128, MaxMemoryUsed: 30,
	})
}

func TestTelemetryEvents(t *testing.T) {
	e := serve(t)
	e.InitDone(time.UnixMilli(1700000000000), 123456*time.Microsecond, "", false)
	for _, c := range []struct {
		name, path, schema string
		want               []string
	}{
		{"telemetry", "/2022-07-01/telemetry", "2022-12-13", []string{
			`platform.initStart {"initializationType":"on-demand","phase":"init","runtimeVersion":"python:3.11","runtimeVersionArn":"arn","functionName":"f","functionVersion":"$LATEST","instanceId":"e","instanceMaxMemory":134217728}`,
			`platform.initRuntimeDone {"initializationType":"on-demand","phase":"init","status":"success"}`,
			`platform.initReport {"initializationType":"on-demand","phase":"init","status":"success","metrics":{"durationMs":123.456}}`,
			`platform.telemetrySubscription {"name":"telemetry","state":"Subscribed","types":["platform","function"]}`,
			`function "a line\n"`,
			`platform.start {"requestId":"one","version":"$LATEST","tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1"}}`,
			`platform.runtimeDone {"requestId":"one","status":"success","metrics":{"durationMs":1.5,"producedBytes":16},"spans":[{"name":"responseLatency","start":"2023-11-14T22:13:20.123Z","durationMs":1.5},{"name":"responseDuration","start":"2023-11-14T22:13:20.124Z","durationMs":0}],"tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1"}}`,
			`platform.report {"requestId":"one","status":"success","metrics":{"durationMs":2,"billedDurationMs":125,"memorySizeMB":128,"maxMemoryUsedMB":30,"initDurationMs":123},"spans":[{"name":"extensionOverhead","start":"2023-11-14T22:13:20.124Z","durationMs":0.5}],"tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1"}}`,
		}},
		{"logs", "/2020-08-15/logs", "2021-03-18", []string{
			`platform.logsSubscription {"name":"logs","state":"Subscribed","types":["platform","function"]}`,
			`function "a line\n"`,
			`platform.start {"requestId":"one","version":"$LATEST"}`,
			`platform.runtimeDone {"requestId":"one","status":"success"}`,
			`platform.end {"requestId":"one"}`,
			`platform.report {"requestId":"one","metrics":{"durationMs":2,"billedDurationMs":125,"memorySizeMB":128,"maxMemoryUsedMB":30,"initDurationMs":123}}`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := serve(t)
			e.InitDone(time.UnixMilli(1700000000000), 123456*time.Microsecond, "", false)
			id := e.mustRegister(c.name)
			port, events := consumer(t, func() int { return 200 })
			e.subscribeTo(id, c.path, c.schema, `["platform","function"]`, fmt.Sprintf(`{"protocol":"HTTP","URI":"http://sandbox.localdomain:%d/x"}`, port))
			e.play()
			for _, want := range c.want {
				got := within(t, events)
				if text := got.Type + " " + string(got.Record); text != want {
					t.Errorf("got  %s\nwant %s", text, want)
				}
				if _, err := time.Parse(time.RFC3339, got.Time); err != nil {
					t.Error(err)
				}
			}
			want := map[string]string{"telemetry": "TELEMETRY", "logs": "LOGS"}[c.name] + "\tName: " + c.name + "\tState: Subscribed\tTypes: [platform, function]\n"
			if e.log.String() != want {
				t.Errorf("log %q, want %q", e.log, want)
			}
		})
	}
}

func TestTelemetryOverTCP(t *testing.T) {
	e := serve(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e.subscribeTo(e.mustRegister("a"), "/2022-07-01/telemetry", "2022-07-01", `["function"]`, fmt.Sprintf(`{"protocol":"TCP","port":%d}`, l.Addr().(*net.TCPAddr).Port))
	e.FunctionLog(time.Now(), []byte("one\n"))
	e.FunctionLog(time.Now(), []byte("two\n"))
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(patience))
	scanner := bufio.NewScanner(c)
	for _, want := range []string{`"one\n"`, `"two\n"`} {
		var got received
		if !scanner.Scan() || json.Unmarshal(scanner.Bytes(), &got) != nil || string(got.Record) != want {
			t.Errorf("got %q, want %s", scanner.Text(), want)
		}
	}
}

// Where logs are JSON, lines that are objects are records as they are, from the schema on that has that, and the platform's
// lines are objects.
func TestJSONLogs(t *testing.T) {
	e := serve(t)
	e.cfg.JSON = true
	wants := map[string][]string{}
	all := map[string]<-chan received{}
	for _, s := range []struct{ path, schema string }{
		{"/2022-07-01/telemetry", "2022-12-13"}, {"/2022-07-01/telemetry", "2025-01-29"}, {"/2022-07-01/telemetry", "2022-07-01"}, {"/2020-08-15/logs", "2021-03-18"},
	} {
		port, events := consumer(t, func() int { return 200 })
		e.subscribeTo(e.mustRegister(s.schema), s.path, s.schema, `["function"]`, fmt.Sprintf(`{"protocol":"HTTP","URI":"http://sandbox:%d"}`, port))
		all[s.schema] = events
		wants[s.schema] = []string{`"{\"level\": \"INFO\"}\n"`, `"{\"level\"\n"`}
	}
	wants["2022-12-13"][0], wants["2025-01-29"][0] = `{"level":"INFO"}`, `{"level":"INFO"}`
	e.FunctionLog(time.Now(), []byte(`{"level": "INFO"}`+"\n"))
	e.FunctionLog(time.Now(), []byte(`{"level"`+"\n"))
	for schema, want := range wants {
		for _, want := range want {
			if got := within(t, all[schema]); string(got.Record) != want {
				t.Errorf("%s: got %s, want %s", schema, got.Record, want)
			}
		}
	}
	var line received
	first, _, _ := strings.Cut(e.log.String(), "\n")
	if err := json.Unmarshal([]byte(first), &line); err != nil || line.Type != "platform.telemetrySubscription" || line.Time == "" {
		t.Errorf("log %q: %v", e.log, err)
	}
}

// A consumer that refuses for a while gets everything; where its answer points is not followed.
func TestTelemetryIsSentAgain(t *testing.T) {
	e := serve(t)
	refusals := 2
	port, events := consumer(t, func() int {
		if refusals > 0 {
			refusals--
			return http.StatusTemporaryRedirect
		}
		return 200
	})
	e.subscribeTo(e.mustRegister("a"), "/2022-07-01/telemetry", "2022-07-01", `["function"]`, fmt.Sprintf(`{"protocol":"HTTP","URI":"http://sandbox:%d"}`, port))
	e.FunctionLog(time.Now(), []byte("kept\n"))
	if got := within(t, events); string(got.Record) != `"kept\n"` {
		t.Errorf("got %s", got.Record)
	}
}

// A consumer that is not there, and one that does not answer, cost no more than their buffers; what they miss is counted.
func TestTelemetryIsBounded(t *testing.T) {
	e := serve(t)
	release, first := make(chan struct{}), make(chan struct{}, 100)
	port, events := consumer(t, func() int {
		first <- struct{}{}
		<-release
		return 200
	})
	e.subscribeTo(e.mustRegister("a"), "/2022-07-01/telemetry", "2022-07-01", `["platform","function"]`, fmt.Sprintf(`{"protocol":"HTTP","URI":"http://sandbox.localdomain:%d"}`, port))
	within(t, first)
	line := []byte(strings.Repeat("x", 1000) + "\n")
	const written = 5000
	for range written {
		e.FunctionLog(time.Now(), line)
	}
	s := e.telemetry.subscribers[0]
	s.mu.Lock()
	held, dropped := s.bytes, s.dropped.Records
	s.mu.Unlock()
	if held > 256<<10 || dropped < written-2*260 {
		t.Errorf("%d bytes are held, %d records dropped", held, dropped)
	}
	close(release)
	got := 0
	for {
		event := within(t, events)
		if event.Type == "function" {
			got++
			continue
		}
		if event.Type != "platform.logsDropped" {
			continue
		}
		var lost struct {
			Records int    `json:"droppedRecords"`
			Bytes   int    `json:"droppedBytes"`
			Reason  string `json:"reason"`
		}
		if err := json.Unmarshal(event.Record, &lost); err != nil || lost.Records+got != written || lost.Bytes < 1000*lost.Records || lost.Reason != reasonSlow {
			t.Errorf("%s after %d events: %v", event.Record, got, err)
		}
		return
	}
}

func TestSubscriptionRefusals(t *testing.T) {
	e := serve(t)
	id := e.mustRegister("a")
	e.expect(400, refused("ValidationError", "schemaVersion is not provided; destination is not provided; types should not be empty"), "PUT", "/2022-07-01/telemetry", "{}", headerIdentifier, id)
	e.expect(400, refused("Logs.ValidationError", "destination is not provided; types should not be empty"), "PUT", "/2020-08-15/logs", "{}", headerIdentifier, id)
	const telemetry = `{"schemaVersion":"2022-07-01","types":["function"],"destination":{"protocol":"TCP","port":1}}`
	const logs = `{"types":["function"],"destination":{"protocol":"TCP","port":1}}`
	e.expect(200, `"OK"`, "PUT", "/2022-07-01/telemetry", telemetry, headerIdentifier, id)
	e.expect(200, `"OK"`, "PUT", "/2022-07-01/telemetry/", telemetry, headerIdentifier, id)
	if n := len(e.telemetry.subscribers); n != 1 {
		t.Errorf("%d subscribers", n)
	}
	if want := "TELEMETRY\tName: a\tState: Subscribed\tTypes: [function]\nTELEMETRY\tName: a\tState: Already subscribed\tTypes: [function]\n"; e.log.String() != want {
		t.Errorf("log %q, want %q", e.log, want)
	}
	e.expect(400, refused("Logs.ValidationError", "the extension takes telemetry by the Telemetry API already"), "PUT", "/2020-08-15/logs", logs, headerIdentifier, id)
	e.next(id)
	if err := e.Ready(timeout(t)); err != nil {
		t.Fatal(err)
	}
	e.expect(403, refused("Telemetry.SubscriptionClosed", "Telemetry API subscription is closed already"), "PUT", "/2022-07-01/telemetry", telemetry, headerIdentifier, id)

	e.cfg.Dial = nil
	_, _, text := e.do("PUT", "/2022-07-01/telemetry", telemetry, headerIdentifier, id)
	if !strings.Contains(text, "without root") {
		t.Error(text)
	}
}

// The Logs API has a word of its own for what went wrong.
func TestStatusOfAFailure(t *testing.T) {
	for api, want := range map[string]string{"/2022-07-01/telemetry": "error", "/2020-08-15/logs": "failure"} {
		e := serve(t)
		schema := map[string]string{"/2022-07-01/telemetry": "2022-12-13", "/2020-08-15/logs": "2021-03-18"}[api]
		port, events := consumer(t, func() int { return 200 })
		e.subscribeTo(e.mustRegister("a"), api, schema, `["platform"]`, fmt.Sprintf(`{"protocol":"HTTP","URI":"http://sandbox:%d"}`, port))
		e.RuntimeDone(&runtimes.Event{RequestID: "one"}, time.Now(), time.Now(), 0, "error", "Function.Broken")
		for {
			got := within(t, events)
			if got.Type != "platform.runtimeDone" {
				continue
			}
			if !strings.Contains(string(got.Record), fmt.Sprintf(`"status":%q`, want)) {
				t.Errorf("%s: %s", api, got.Record)
			}
			break
		}
	}
}

// A frame of an extension may claim any time; what it claims is not what the log's index has to bear.
func TestTimeOfAnExtensionsLine(t *testing.T) {
	var at time.Time
	h := New(t.Context(), Config{Log: func(when time.Time, _ string, _ []byte) { at = when }})
	defer h.Close()
	out := runtimes.NewOutput(h.extensionLog)
	for _, micros := range []uint64{0, 1 << 63, 1<<63 - 1} {
		frame := binary.BigEndian.AppendUint64([]byte("\xa5\x5a\x00\x03\x00\x00\x00\x02"), micros)
		out.Write(append(frame, "hi"...))
		if age := time.Since(at).Abs(); age > time.Hour {
			t.Errorf("%d: %s", micros, at)
		}
	}
}

// failing is a connection that ends together with the environment, and is slow to say so.
type failing struct {
	net.Conn
	end func()
}

func (f *failing) Write([]byte) (int, error) {
	f.end()
	return 0, io.ErrClosedPipe
}

func (f *failing) Close() error { return nil }

// A connection to a subscriber that breaks as its environment ends is closed by whoever comes first, and only what is there.
func TestConnectionBreaksAtTheEnd(t *testing.T) {
	for range 200 {
		h := New(t.Context(), Config{})
		h.cfg.Dial = func(context.Context, int) (net.Conn, error) { return &failing{end: h.stop}, nil }
		s := newSubscriber(h, "a", &subscription{tcp: true, port: 1})
		if err := s.stream(h.ctx, &delivery{to: s.subscription, body: []byte("x")}); err == nil {
			t.Fatal("it was delivered")
		}
		h.Close()
	}
}

// heardEarly is a connection of which something has been read.
type heardEarly struct {
	net.Conn
	read *bufio.Reader
}

func (h *heardEarly) Read(b []byte) (int, error) { return h.read.Read(b) }

// What a consumer says unasked, before a request and after its answer, is not the platform's to log.
func TestUnaskedAnswers(t *testing.T) {
	var platform bytes.Buffer
	log.SetOutput(&platform)
	defer log.SetOutput(os.Stderr)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	requests := make(chan struct{})
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				io.WriteString(c, strings.Repeat("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 3)+"on fire\n")
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					requests <- struct{}{}
				}
				io.Copy(io.Discard, c)
			})
		}
	})
	e := serve(t)
	dial := e.cfg.Dial
	e.cfg.Dial = func(ctx context.Context, port int) (net.Conn, error) {
		c, err := dial(ctx, port)
		if err != nil {
			return nil, err
		}
		early := bufio.NewReader(c)
		_, err = early.Peek(1) // the consumer has spoken already
		return &heardEarly{c, early}, err
	}
	e.subscribeTo(e.mustRegister("a"), "/2022-07-01/telemetry", "2022-07-01", `["function"]`, fmt.Sprintf(`{"protocol":"HTTP","URI":"http://sandbox:%d"}`, l.Addr().(*net.TCPAddr).Port))
	for range 20 {
		e.FunctionLog(time.Now(), []byte("line\n"))
		within(t, requests)
	}
	e.Close()
	l.Close()
	serving.Wait()
	if platform.Len() > 0 {
		t.Errorf("it logs %.200q", platform.String())
	}
}

// What a logsDropped told that did not arrive is told again.
func TestLostCountsAreCounted(t *testing.T) {
	e := serve(t)
	refuse := atomic.Bool{}
	refuse.Store(true)
	port, events := consumer(t, func() int {
		if refuse.Load() {
			return http.StatusTemporaryRedirect
		}
		return 200
	})
	e.subscribeTo(e.mustRegister("a"), "/2022-07-01/telemetry", "2022-12-13", `["platform","function"]`, fmt.Sprintf(`{"protocol":"HTTP","URI":"http://sandbox:%d"}`, port))
	s := e.telemetry.subscribers[0]
	lost := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.dropped.Records
	}
	for n := range 2 {
		before := lost()
		e.FunctionLog(time.Now(), []byte("gone\n"))
		for deadline := time.Now().Add(patience); lost() <= before; <-time.After(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("after %d, %d are counted", n, lost())
			}
		}
	}
	// Two lines, and platform.initStart and platform.telemetrySubscription, which came with the first.
	refuse.Store(false)
	e.FunctionLog(time.Now(), []byte("kept\n"))
	for {
		event := within(t, events)
		if event.Type != "platform.logsDropped" {
			continue
		}
		if !strings.Contains(string(event.Record), `"droppedRecords":4`) {
			t.Errorf("%s", event.Record)
		}
		return
	}
}

// However many subscribe, what an environment has the platform hold is bounded.
func TestSubscribersAreBoundedTogether(t *testing.T) {
	e := serve(t)
	block := make(chan struct{})
	port, _ := consumer(t, func() int { <-block; return 200 })
	defer close(block)
	for n := range MaxExtensions {
		e.expect(200, `"OK"`, "PUT", "/2022-07-01/telemetry", fmt.Sprintf(`{"schemaVersion":"2022-07-01","types":["function"],"buffering":{"maxBytes":1048576},"destination":{"protocol":"HTTP","URI":"http://sandbox:%d"}}`, port),
			headerIdentifier, e.mustRegister(fmt.Sprint(n)))
	}
	line := []byte(strings.Repeat("x", 100<<10) + "\n")
	for range 100 {
		e.FunctionLog(time.Now(), line)
	}
	waiting := 0
	for _, s := range e.telemetry.subscribers {
		s.mu.Lock()
		waiting += s.bytes
		s.mu.Unlock()
	}
	if held := e.telemetry.held.Load(); held > maxHeld || waiting > maxHeld || held < maxHeld/2 {
		t.Errorf("%d bytes are held, %d of them wait", held, waiting)
	}
}

// Nor do many environments together hold more than a node has for it, and what they held comes back with their end.
func TestEnvironmentsAreBoundedTogether(t *testing.T) {
	budget := &Budget{}
	budget.held.Store(maxBudget - 1<<20) // the others'
	e := serve(t)
	e.cfg.Budget = budget
	block := make(chan struct{})
	port, _ := consumer(t, func() int { <-block; return 200 })
	defer close(block)
	for n := range 5 {
		e.expect(200, `"OK"`, "PUT", "/2022-07-01/telemetry", fmt.Sprintf(`{"schemaVersion":"2022-07-01","types":["function"],"buffering":{"maxBytes":1048576},"destination":{"protocol":"HTTP","URI":"http://sandbox:%d"}}`, port),
			headerIdentifier, e.mustRegister(fmt.Sprint(n)))
	}
	line := []byte(strings.Repeat("x", 100<<10) + "\n")
	for range 100 {
		e.FunctionLog(time.Now(), line)
	}
	if held := budget.held.Load(); held > maxBudget || held < maxBudget-200<<10 {
		t.Errorf("%d bytes are held of %d", held, maxBudget)
	}
	e.Close()
	if held := budget.held.Load(); held != maxBudget-1<<20 {
		t.Errorf("%d bytes are held by nobody", held-(maxBudget-1<<20))
	}
	e.FunctionLog(time.Now(), line)
	if held := budget.held.Load(); held != maxBudget-1<<20 {
		t.Errorf("%d bytes are held after the end", held-(maxBudget-1<<20))
	}
}

// Nobody who listens costs nothing.
func TestNobodyListens(t *testing.T) {
	e := serve(t)
	if err := e.Ready(timeout(t)); err != nil {
		t.Fatal(err)
	}
	line := []byte("a line\n")
	if n := testing.AllocsPerRun(100, func() { e.FunctionLog(time.Now(), line) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestBrief(t *testing.T) {
	inner := errors.New("connection refused")
	if got := brief(fmt.Errorf("a: %w", fmt.Errorf("b: %w", inner))); !errors.Is(got, inner) || got.Error() != "connection refused" || brief(nil) != nil {
		t.Error(got)
	}
}

// Nothing is heard on a connection before something is said on it, or it is closed.
func TestGate(t *testing.T) {
	for _, open := range []func(net.Conn){func(c net.Conn) { go c.Write([]byte("x")) }, func(c net.Conn) { c.Close() }} {
		ours, theirs := net.Pipe()
		c := gate(ours)
		read, answered := make(chan error), make(chan struct{})
		go func() {
			defer close(answered)
			theirs.Write([]byte("early"))
		}()
		go func() {
			_, err := c.Read(make([]byte, 9))
			read <- err
		}()
		select {
		case <-answered:
			t.Error("it was heard")
		case <-time.After(10 * time.Millisecond):
		}
		open(c)
		within(t, read)
		c.Close()
		theirs.Close()
		within(t, answered)
	}
}
