package mapping

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"thaw/state/queues"
)

// startNATS runs a NATS server on loopback, with the stream ORDERS of the subjects orders.*, and gives its address.
func startNATS(t *testing.T, user, password string) (url string, nc *nats.Conn) {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, Username: user, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server does not come up")
	}
	if nc, err = nats.Connect(srv.ClientURL(), nats.UserInfo(user, password)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.*"}}); err != nil {
		t.Fatal(err)
	}
	return srv.ClientURL(), nc
}

// publish publishes each body to a subject; on a stream's it waits until they are stored.
func publish(t *testing.T, nc *nats.Conn, subject string, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if strings.HasPrefix(subject, "orders.") {
			if _, err := nc.Request(subject, []byte(body), time.Minute); err != nil {
				t.Fatal(err)
			}
		} else if err := nc.Publish(subject, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

func of(endpoint string) func(*Mapping) {
	return func(m *Mapping) { m.Source = Source{Endpoint: endpoint} }
}

// until waits until ok, for a minute at most.
func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-deadline:
			b.t.Fatalf("%s: not within a minute; invoked with %s", what, b.told())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// bodies are all that the function has got, in order.
func (b *bench) bodies() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, c := range b.calls {
		all = append(all, c.bodies...)
	}
	return all
}

func (b *bench) got(body string, times int) func() bool {
	return func() bool {
		n := 0
		for _, got := range b.bodies() {
			if got == body {
				n++
			}
		}
		return n == times
	}
}

func TestNATSStreamInBatches(t *testing.T) {
	url, nc := startNATS(t, "", "")
	publish(t, nc, "orders.new", "a", "b", "c", "d", "e")
	b := newBench(t, queues.Options{})
	_, stop := b.run(of(url+"/orders.*?stream=ORDERS"), func(m *Mapping) { m.BatchSize = 3 })
	b.until("all come", func() bool { return len(b.bodies()) == 5 })
	stop(drain)
	b.wantTold("a b c|d e")
	var e struct{ Records []map[string]any }
	if err := json.Unmarshal(b.calls[0].event, &e); err != nil {
		t.Fatal(err)
	}
	r := e.Records[1]
	if r["messageId"] != "ORDERS:2" || r["eventSource"] != "nats" || r["subject"] != "orders.new" || r["stream"] != "ORDERS" || r["sequence"] != 2.0 || r["deliveryCount"] != 1.0 {
		t.Errorf("%v", r)
	}
	if at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(r["timestamp"])); err != nil || time.Since(at) > time.Hour {
		t.Errorf("%v: %v", r, err)
	}
	// What is dealt with does not come to the next runner.
	publish(t, nc, "orders.new", "f")
	_, stop = b.run(of(url + "/orders.*?stream=ORDERS"))
	b.until("f comes", b.got("f", 1))
	stop(drain)
	b.wantTold("a b c|d e|f")
}

func TestNATSStreamFailures(t *testing.T) {
	url, nc := startNATS(t, "", "")
	terminated, err := nc.SubscribeSync("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.ORDERS.>")
	if err != nil {
		t.Fatal(err)
	}
	publish(t, nc, "orders.new", "a", "bad", "c", "poison")
	b := newBench(t, queues.Options{})
	failedOnce := false
	b.serve = func(_ context.Context, bodies []string) (Result, error) {
		var failed []string
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, body := range bodies {
			if body == "bad" && !failedOnce || body == "poison" {
				failed = append(failed, fmt.Sprintf(`{"itemIdentifier": "ORDERS:%d"}`, map[string]int{"bad": 2, "poison": 4}[body]))
			}
		}
		failedOnce = true
		return Result{Payload: []byte(`{"batchItemFailures": [` + strings.Join(failed, ",") + `]}`)}, nil
	}
	_, stop := b.run(of(url+"/orders.*?stream=ORDERS&retry=20ms&max_deliver=3"), func(m *Mapping) { m.ReportFailures = true })
	if msg, err := terminated.NextMsg(time.Minute); err != nil {
		t.Errorf("the poisoned message is not given up: %v; invoked with %s", err, b.told())
	} else if !strings.Contains(string(msg.Data), `"stream_seq":4`) {
		t.Errorf("%s", msg.Data)
	}
	stop(drain)
	got := b.bodies()
	slices.Sort(got)
	if want := "a bad bad c poison poison poison"; strings.Join(got, " ") != want {
		t.Errorf("invoked with %s, want %s", got, want)
	}
}

func TestNATSStreamGivesBackWhatNoFunctionGot(t *testing.T) {
	url, nc := startNATS(t, "", "")
	publish(t, nc, "orders.new", "a")
	b := newBench(t, queues.Options{})
	throttled := make(chan struct{})
	var once sync.Once
	b.serve = func(context.Context, []string) (Result, error) {
		once.Do(func() { close(throttled) })
		return Result{}, errThrottled
	}
	_, stop := b.run(of(url + "/orders.*?stream=ORDERS"))
	<-throttled
	stop(giveBack)
	b.mu.Lock()
	b.serve, b.calls = nil, nil
	b.mu.Unlock()
	_, stop = b.run(of(url + "/orders.*?stream=ORDERS"))
	b.until("a comes again", b.got("a", 1)) // long before the server's patience of 30 s, though no time is looked at
	stop(drain)
}

func TestNATSCoreWithFilterAndBinaryBodies(t *testing.T) {
	url, nc := startNATS(t, "", "")
	b := newBench(t, queues.Options{})
	r, stop := b.run(of(url+"/news.>"), func(m *Mapping) {
		m.Filters = []string{`{"body": {"kind": ["wanted"]}}`, `{"subject": ["news.raw"]}`}
	})
	b.until("the source is open", func() bool { return r.source.Load() != nil })
	publish(t, nc, "news.a", `{"kind": "other"}`, `{"kind": "wanted", "n": 1}`, "text")
	publish(t, nc, "news.raw", "\xff\x00")
	b.until("both come", func() bool { return len(b.bodies()) == 2 })
	stop(drain)
	if got := b.bodies(); !slices.Contains(got, `{"kind": "wanted", "n": 1}`) || !slices.Contains(got, "/wA=") {
		t.Errorf("%q", got)
	}
}

func TestNATSCredentialsComeFromTheEnvironment(t *testing.T) {
	url, nc := startNATS(t, "thaw", "secret")
	publish(t, nc, "orders.new", "a")
	b := newBench(t, queues.Options{})
	cfg := b.config()
	cfg.Environment = func(name string) (string, bool) {
		v, ok := map[string]string{"SHOP_NATS_USER": "thaw", "SHOP_NATS_PASSWORD": "secret"}[name]
		return v, ok
	}
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m := b.mapping(of(url + "/orders.*?stream=ORDERS"))
	if _, err := l.open(t.Context(), m); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("without credentials: %v", err)
	}
	m.Source.Credentials = "SHOP"
	s, err := l.open(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if got, err := s.receive(t.Context(), 1, time.Minute); err != nil || len(got) != 1 || s.backlog() != 0 {
		t.Errorf("%v %v", got, err)
	}
}

func TestCheckEndpointOfNATS(t *testing.T) {
	if err := CheckEndpoint("nats://nats:4222/orders.new?stream=ORDERS"); err != nil {
		t.Error(err)
	}
	if err := CheckEndpoint("nats://nats:4222/orders..new"); err == nil || !strings.Contains(err.Error(), "not a subject") {
		t.Errorf("%v", err)
	}
}
