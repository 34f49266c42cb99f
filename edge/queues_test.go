package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"thaw/state"
	"thaw/state/queues"
)

// native asks a server's native API; the answer is decoded where it is a success.
func native(t *testing.T, s *Server, method, path string, answer any) (status int, code string) {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), answer); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, w.Body)
		}
	}
	return w.Code, w.Header().Get("X-Amzn-ErrorType")
}

// openQueues gives an engine that runs until the test ends.
func openQueues(t *testing.T) *queues.Queues {
	t.Helper()
	store, err := state.Open(t.Context(), state.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	all, err := queues.Open(t.Context(), store, queues.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- all.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		<-ended
		store.Close()
	})
	return all
}

func makeQueue(t *testing.T, all *queues.Queues, name string, o queues.Options, bodies ...string) *queues.Queue {
	t.Helper()
	q, err := all.Create(t.Context(), queues.Info{Name: name, Options: o})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range bodies {
		m := queues.Message{Body: []byte(body), Meta: []byte(`{"attributes":{"Colour":{"type":"String","string":"red"}}}`)}
		if o.FIFO {
			m.Group, m.Dedup = "g", body
		}
		if sent := q.Send(t.Context(), m); sent[0].Err != nil {
			t.Fatal(sent[0].Err)
		}
	}
	return q
}

func TestNativeViewOfQueues(t *testing.T) {
	all := openQueues(t)
	minute := queues.Options{Visibility: time.Minute}
	dying := queues.Options{Visibility: time.Minute, DeadLetter: "sqs/dead", MaxReceives: 1}
	makeQueue(t, all, "sqs/dead", minute)
	orders := makeQueue(t, all, "sqs/orders", dying, "one", "two", "three")
	makeQueue(t, all, "sqs/other.fifo", queues.Options{FIFO: true, Visibility: time.Minute}, "f")
	makeQueue(t, all, "events/function", minute, "not the users'")
	s := newServer(t)
	s.cfg.Queues = all
	s.cfg.Mappings = func(_ context.Context, name string) ([]QueueMapping, error) {
		return []QueueMapping{{ID: "1", Function: "f of " + name, State: "Enabled", LastResult: "OK"}}, nil
	}

	got, err := orders.Receive(t.Context(), 1, 0, nil)
	if err != nil || len(got) != 1 {
		t.Fatalf("%v %v", got, err)
	}
	var list queuesView
	native(t, s, "GET", "/_thaw/queues", &list)
	want := []queueView{
		{Name: "dead"},
		{Name: "orders", Waiting: 2, InFlight: 1, DeadLetters: &deadLetters{"dead", 1}},
		{Name: "other.fifo", FIFO: true, Waiting: 1},
	}
	measured := cmpopts.IgnoreFields(queueView{}, "OldestAge", "Bytes")
	if diff := cmp.Diff(want, list.Queues, measured); diff != "" || list.After != "" {
		t.Error(diff, list.After)
	}
	if q := list.Queues[1]; q.OldestAge < 1 || q.Bytes < 11 || list.Queues[0].OldestAge != 0 {
		t.Errorf("%+v", list.Queues)
	}
	var one queueView
	native(t, s, "GET", "/_thaw/queues/dead", &one)
	if diff := cmp.Diff(queueView{Name: "dead", DeadLetterOf: []string{"orders"}, Mappings: []QueueMapping{{"1", "f of dead", "Enabled", "OK"}}}, one, measured); diff != "" {
		t.Error(diff)
	}

	var page messagesView
	native(t, s, "GET", "/_thaw/queues/orders/messages?limit=2", &page)
	if len(page.Messages) != 2 || page.Messages[1].Body != "two" || page.After != page.Messages[1].Sequence ||
		string(page.Messages[0].Attributes) != `{"Colour":{"type":"String","string":"red"}}` || page.Messages[0].Age < 1 {
		t.Errorf("%+v", page)
	}
	after := page.After
	page = messagesView{}
	native(t, s, "GET", fmt.Sprintf("/_thaw/queues/orders/messages?after=%d", after), &page)
	if len(page.Messages) != 1 || page.Messages[0].Body != "three" || page.After != 0 {
		t.Errorf("%+v", page)
	}
	if d := orders.Depth(); d.Visible != 2 || d.InFlight != 1 {
		t.Errorf("looking has changed %+v", d)
	}

	if err := orders.Die(t.Context(), got[0].Handle, nil); err != nil {
		t.Fatal(err)
	}
	page = messagesView{}
	native(t, s, "GET", "/_thaw/queues/dead/messages", &page)
	if len(page.Messages) != 1 || page.Messages[0].DeadFrom != "orders" {
		t.Errorf("%+v", page)
	}
	var count countView
	native(t, s, "POST", "/_thaw/queues/dead/redrive", &count)
	if d := orders.Depth(); count.Count != 1 || d.Visible != 3 {
		t.Errorf("moved %+v, then %+v", count, d)
	}
	native(t, s, "POST", "/_thaw/queues/orders/redrive?to=dead&limit=2", &count)
	if d := orders.Depth(); count.Count != 2 || d.Visible != 1 {
		t.Errorf("moved %+v, then %+v", count, d)
	}
	count = countView{}
	native(t, s, "POST", "/_thaw/queues/dead/redrive", &count) // they have been moved there and have not died
	if count != (countView{Count: 0, Left: 2}) {
		t.Errorf("%+v", count)
	}
	native(t, s, "POST", "/_thaw/queues/dead/purge", &count)
	if q, _ := all.Queue("sqs/dead"); count.Count != 2 || q.Depth().Visible != 0 {
		t.Errorf("purged %+v, then %+v", count, q.Depth())
	}

	for _, c := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/_thaw/queues/gone", 404, "ResourceNotFoundException"},
		{"GET", "/_thaw/queues/function", 404, "ResourceNotFoundException"}, // not the users'
		{"GET", "/_thaw/queues/gone/messages", 404, "ResourceNotFoundException"},
		{"POST", "/_thaw/queues/gone/purge", 404, "ResourceNotFoundException"},
		{"POST", "/_thaw/queues/dead/redrive?to=gone", 404, "ResourceNotFoundException"},
		{"POST", "/_thaw/queues/dead/redrive?to=dead", 400, "InvalidParameterValueException"},
		{"POST", "/_thaw/queues/dead/redrive?limit=0", 400, "InvalidParameterValueException"},
		{"GET", "/_thaw/queues/dead/messages?limit=101", 400, "InvalidParameterValueException"},
		{"GET", "/_thaw/queues/dead/messages?after=x", 400, "InvalidParameterValueException"},
		{"GET", "/_thaw/queues/dead/purge", 404, "UnknownOperationException"}, // a link purges nothing
	} {
		if status, code := native(t, s, c.method, c.path, nil); status != c.status || code != c.code {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, code)
		}
	}
}

// TestNativeQueuePages has more queues than a page holds, and messages larger than an answer.
func TestNativeQueuePages(t *testing.T) {
	all := openQueues(t)
	for n := range queuesPage + 1 {
		makeQueue(t, all, fmt.Sprintf("sqs/q%03d", n), queues.Options{Visibility: time.Minute})
	}
	s := newServer(t)
	s.cfg.Queues = all
	var list queuesView
	native(t, s, "GET", "/_thaw/queues", &list)
	if len(list.Queues) != queuesPage || list.After != "q099" {
		t.Errorf("%d queues, then %q", len(list.Queues), list.After)
	}
	list = queuesView{}
	native(t, s, "GET", "/_thaw/queues?after=q099", &list)
	if len(list.Queues) != 1 || list.Queues[0].Name != "q100" || list.After != "" {
		t.Errorf("%+v", list)
	}
	large := strings.Repeat("x", 1<<20)
	makeQueue(t, all, "sqs/large", queues.Options{Visibility: time.Minute}, large, large, large, large, large)
	var page messagesView
	native(t, s, "GET", "/_thaw/queues/large/messages", &page)
	if n := len(page.Messages); n != 3 || page.After != page.Messages[2].Sequence { // attributes count too
		t.Errorf("%d messages, then %d", n, page.After)
	}
}
