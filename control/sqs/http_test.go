package sqs

import (
	"context"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/apitest"
	"thaw/control/internal/golden"
	"thaw/state/queues"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var account = thaw.Account{ID: "123456789012", Region: "eu-west-1"}

// patience is when a test gives up waiting for what must come.
const patience = 20 * time.Second

// world is the API on queues of its own, which run, as does the API.
type world struct {
	*apitest.Clock // the API's alone

	api     *API
	queues  *queues.Queues
	handler http.Handler
}

func newWorld(t testing.TB) *world {
	t.Helper()
	store := apitest.Store(t)
	q, err := queues.Open(t.Context(), store, queues.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Clock: apitest.NewClock(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)), queues: q, api: New(account, q, nil)}
	w.api.now = w.Now
	w.handler = service(t, w)
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); running.Wait() })
	running.Go(func() { q.Run(ctx) })     //nolint:errcheck // it ends with the test
	running.Go(func() { w.api.Run(ctx) }) //nolint:errcheck // it ends with the test
	return w
}

func service(t testing.TB, w *world) *awsapi.Service {
	t.Helper()
	return apitest.Service(t, "sqs", w.api.Register)
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

// TestGolden has a file for each protocol. $HANDLE and $HANDLE2 are the receipt handles that were given last.
func TestGolden(t *testing.T) {
	golden.Run(t, func(t *testing.T) golden.Conversation {
		w := newWorld(t)
		c := golden.Conversation{ContentType: "application/x-www-form-urlencoded", Variables: map[string]string{}}
		handler := w.handler
		if strings.HasSuffix(t.Name(), "json") {
			c.ContentType, handler = "application/x-amz-json-1.0", golden.Targeted("AmazonSQS", handler)
		}
		c.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			handler.ServeHTTP(rw, r)
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
