package sqs

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/golden"
	"thaw/state"
	"thaw/state/queues"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var account = thaw.Account{ID: "123456789012", Region: "eu-west-1"}

// patience is when a test gives up waiting for what must come.
const patience = 20 * time.Second

// world is the API on queues of its own, which run, as does the API.
type world struct {
	api     *API
	queues  *queues.Queues
	handler http.Handler

	mu  sync.Mutex
	now time.Time // the API's clock alone
}

func newWorld(t testing.TB) *world {
	t.Helper()
	store, err := state.Open(t.Context(), state.Config{Dir: filepath.Join(t.TempDir(), "data")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	q, err := queues.Open(t.Context(), store, queues.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{queues: q, api: New(account, q, nil), now: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)}
	w.api.now = func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.now
	}
	w.handler = w.service(t)
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); running.Wait() })
	running.Go(func() { q.Run(ctx) })     //nolint:errcheck // it ends with the test
	running.Go(func() { w.api.Run(ctx) }) //nolint:errcheck // it ends with the test
	return w
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) service(t testing.TB) *awsapi.Service {
	t.Helper()
	s, err := awsapi.New("sqs")
	if err != nil {
		t.Fatal(err)
	}
	w.api.Register(s)
	return s
}

func (w *world) serve(t testing.TB) string {
	t.Helper()
	server := httptest.NewServer(w.service(t))
	t.Cleanup(server.Close)
	return server.URL
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	end := time.After(patience)
	for !holds() {
		select {
		case <-end:
			t.Fatalf("%s did not come", what)
		case <-time.After(time.Millisecond):
		}
	}
}

var handlePattern = regexp.MustCompile(`ReceiptHandle(?:":"|>)([^"<]+)`)

// TestGolden has the operation's name of JSON requests in the path, where the golden files can show it. $HANDLE and
// $HANDLE2 are the receipt handles that were given last.
func TestGolden(t *testing.T) {
	golden.Run(t, func(t *testing.T) golden.Conversation {
		w := newWorld(t)
		s := w.service(t)
		c := golden.Conversation{ContentType: "application/x-www-form-urlencoded", Variables: map[string]string{}}
		c.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(t.Name(), "json") {
				r.Header.Set("X-Amz-Target", "AmazonSQS."+strings.TrimPrefix(r.URL.Path, "/"))
				r.Header.Set("Content-Type", "application/x-amz-json-1.0")
				r.URL.Path = "/"
			}
			s.ServeHTTP(rw, r)
			answer := rw.(*httptest.ResponseRecorder)
			if kind := answer.Header().Get("Content-Type"); kind != "application/x-amz-json-1.0" && kind != "text/xml" {
				t.Errorf("an answer of type %q", kind)
			}
			for i, m := range handlePattern.FindAllStringSubmatch(answer.Body.String(), 2) {
				c.Variables["HANDLE"+[]string{"", "2"}[i]] = m[1]
			}
		})
		c.Step = func(t *testing.T, word, argument string) {
			switch word {
			case "died":
				eventually(t, "the dead message", func() bool {
					q, _ := w.queues.Queue(prefix + "orders-dead")
					return q.Depth().Visible == 1
				})
			case "moved":
				w.moved(t, argument)
			default:
				t.Fatalf("unknown step %s", word)
			}
		}
		return c
	})
}

// moved waits until no move task of a queue is active.
func (w *world) moved(t testing.TB, name string) {
	t.Helper()
	eventually(t, "the end of the move", func() bool {
		q, ok, err := w.api.named(name)
		return err == nil && ok && len(q.Tasks) > 0 && !q.Tasks[0].active()
	})
}
