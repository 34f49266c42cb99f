package extensions

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait in the tests; none of them measures time.
const patience = 20 * time.Second

// lines is a log that keeps what is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) write(_ time.Time, _ string, message []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(message)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// environment is a Host whose API is on a loopback port, and whose sandbox is the test's own network.
type environment struct {
	*Host
	t    *testing.T
	base string
	log  *lines

	asking *sync.WaitGroup
}

func serve(t *testing.T, external ...string) *environment {
	t.Helper()
	log := &lines{}
	h := New(t.Context(), Config{
		Function: "f", Version: "$LATEST", Handler: "app.handler", AccountID: "000000000000", EnvironmentID: "e", MemoryMB: 128,
		InitializationType: "on-demand", RuntimeVersion: "python:3.11", RuntimeARN: "arn", Phase: "init", External: external, Runtime: "/bin/runtime",
		Dial: func(ctx context.Context, port int) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		},
		Log: log.write, WaitRoom: func(context.Context) {},
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.Serve(l)
	asking := &sync.WaitGroup{}
	t.Cleanup(func() {
		h.Close()
		asking.Wait()
	})
	return &environment{h, t, "http://" + l.Addr().String(), log, asking}
}

// do makes one request; header is a list of names and values.
func (e *environment) do(method, path, body string, header ...string) (int, http.Header, string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.t.Context()), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, e.base+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		e.t.Error(err)
		return 0, nil, ""
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		e.t.Error(err)
	}
	return response.StatusCode, response.Header, strings.TrimSpace(string(b))
}

func (e *environment) expect(status int, answer, method, path, body string, header ...string) {
	e.t.Helper()
	got, _, text := e.do(method, path, body, header...)
	if got != status || text != answer {
		e.t.Errorf("%s %s %q: %d %s\nwant %d %s", method, path, body, got, text, status, answer)
	}
}

// mustRegister registers an extension and gives its identifier.
func (e *environment) mustRegister(name string, events ...string) string {
	e.t.Helper()
	body, _ := json.Marshal(map[string]any{"events": events})
	status, header, text := e.do("POST", "/2020-01-01/extension/register", string(body), headerName, name)
	if status != 200 {
		e.t.Fatalf("register %s: %d %s", name, status, text)
	}
	return header.Get(headerIdentifier)
}

// next asks for an event in the background. The Host's end ends it.
func (e *environment) next(id string) <-chan string {
	got := make(chan string, 1)
	r, err := http.NewRequestWithContext(context.WithoutCancel(e.t.Context()), http.MethodGet, e.base+"/2020-01-01/extension/event/next", http.NoBody)
	if err != nil {
		e.t.Fatal(err)
	}
	r.Header.Set(headerIdentifier, id)
	e.asking.Go(func() {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Do(r)
		if err != nil {
			got <- err.Error()
			return
		}
		defer response.Body.Close()
		b, _ := io.ReadAll(response.Body)
		got <- string(b)
	})
	return got
}

func within[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("nothing comes")
	}
	return v
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
