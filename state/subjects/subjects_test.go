package subjects

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// theServer is a NATS server on loopback with a client.
type theServer struct {
	url string
	nc  *nats.Conn
	js  jetstream.JetStream
}

func start(t *testing.T) *theServer {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, Username: "u", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(patience) {
		t.Fatal("the server does not come up")
	}
	nc, err := nats.Connect(srv.ClientURL(), nats.UserInfo("u", "p"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &theServer{url: srv.ClientURL(), nc: nc, js: js}
}

// orders makes a stream with n messages orders.1 to orders.n.
func (s *theServer) orders(t *testing.T, n int) jetstream.Stream {
	t.Helper()
	stream, err := s.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.*"}})
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= n; i++ {
		msg := nats.NewMsg(fmt.Sprintf("orders.%d", i))
		msg.Data = fmt.Appendf(nil, "order %d", i)
		msg.Header.Set("Customer", "c")
		if _, err := s.js.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	return stream
}

func (s *theServer) open(t *testing.T, path, name string) Reader {
	t.Helper()
	address, err := ParseAddress(s.url + path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), Config{Address: address, Name: name, User: "u", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait(); r.Close() })
	return r
}

// receive waits for n messages.
func receive(t *testing.T, r Reader, n int) []Message {
	t.Helper()
	var got []Message
	for deadline := time.Now().Add(patience); len(got) < n; {
		some, err := r.Receive(t.Context(), n-len(got), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, some...); time.Now().After(deadline) {
			t.Fatalf("%d messages of %d", len(got), n)
		}
	}
	return got
}

func ids(messages []Message) []string {
	var all []string
	for _, m := range messages {
		all = append(all, m.ID)
	}
	return all
}

// nothing holds that no message comes soon.
func nothing(t *testing.T, r Reader) {
	t.Helper()
	if got, err := r.Receive(t.Context(), 10, 300*time.Millisecond); len(got) > 0 || err != nil {
		t.Errorf("%v %v", got, err)
	}
}

func TestStreamGivesOutWhatItHasAndForgetsWhatIsDone(t *testing.T) {
	s := start(t)
	stream := s.orders(t, 5)
	r := s.open(t, "/orders.*?stream=ORDERS", "m1")
	if n := r.Backlog(); n != 5 {
		t.Errorf("backlog %d", n)
	}
	got := receive(t, r, 2)
	if m := got[0]; m.ID != "ORDERS:1" || m.Subject != "orders.1" || string(m.Body) != "order 1" || m.Header["Customer"][0] != "c" ||
		m.Stream != "ORDERS" || m.Sequence != 1 || m.Delivered != 1 || time.Since(m.Stored) > patience {
		t.Errorf("%+v", m)
	}
	if n := r.Backlog(); n != 3 {
		t.Errorf("backlog %d", n)
	}
	got = append(got, receive(t, r, 3)...)
	nothing(t, r)
	if err := r.Done(ids(got)); err != nil {
		t.Error(err)
	}
	if err := r.Done(ids(got)); err != nil { // once more is nothing
		t.Error(err)
	}
	r.Close()
	r = s.open(t, "/orders.*?stream=ORDERS", "m1")
	nothing(t, r)
	if n := r.Backlog(); n != 0 {
		t.Errorf("backlog %d", n)
	}
	other := s.open(t, "/orders.3?stream=ORDERS", "m2") // another reader has its own place
	if got := receive(t, other, 1); got[0].Subject != "orders.3" {
		t.Errorf("%+v", got)
	}
	fresh := s.open(t, "/orders.*?stream=ORDERS&deliver=new", "m3")
	nothing(t, fresh)
	if _, err := s.js.Publish(t.Context(), "orders.6", []byte("late")); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, fresh, 1); string(got[0].Body) != "late" {
		t.Errorf("%+v", got)
	}
	if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != 6 {
		t.Errorf("%+v %v", info, err)
	}
}

func TestStreamDeliversAgainWhatFailedAndWhatWasReturned(t *testing.T) {
	s := start(t)
	s.orders(t, 2)
	r := s.open(t, "/?stream=ORDERS&retry=50ms", "m1")
	got := receive(t, r, 2)
	if err := r.Failed(ids(got[:1])); err != nil {
		t.Error(err)
	}
	if err := r.Return(ids(got[1:])); err != nil {
		t.Error(err)
	}
	again := receive(t, r, 2)
	slices.SortFunc(again, func(a, b Message) int { return strings.Compare(a.ID, b.ID) })
	if !slices.Equal(ids(again), ids(got)) || again[0].Delivered != 2 || again[1].Delivered != 2 {
		t.Errorf("%+v", again)
	}
}

func TestStreamGivesUpAfterTheLastDelivery(t *testing.T) {
	s := start(t)
	s.orders(t, 1)
	told, err := s.nc.SubscribeSync("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.ORDERS.*")
	if err != nil {
		t.Fatal(err)
	}
	r := s.open(t, "/?stream=ORDERS&retry=10ms&max_deliver=3", "m1")
	for n := 1; n <= 3; n++ {
		got := receive(t, r, 1)
		if got[0].Delivered != n {
			t.Errorf("delivery %d: %+v", n, got[0])
		}
		if err := r.Failed(ids(got)); err != nil {
			t.Error(err)
		}
	}
	nothing(t, r)
	if msg, err := told.NextMsg(patience); err != nil || !strings.Contains(string(msg.Data), "failed on all of 3 deliveries") {
		t.Errorf("%v %s", err, msg.Data)
	}
}

func TestStreamKeepsWhatIsInHandAndLosesNothingWhenItEnds(t *testing.T) {
	s := start(t)
	stream := s.orders(t, 1)
	if _, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "own", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 400 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	address, err := ParseAddress(s.url + "/?stream=ORDERS&consumer=own")
	if err != nil {
		t.Fatal(err)
	}
	first, err := Open(t.Context(), Config{Address: address, Name: "m1", User: "u", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { first.Run(ctx) })
	receive(t, first, 1)
	second := s.open(t, "/?stream=ORDERS&consumer=own", "m2")
	if got, err := second.Receive(t.Context(), 1, 2*time.Second); len(got) > 0 || err != nil {
		t.Errorf("a message in hand was given to another: %v %v", got, err)
	}
	cancel() // as if the first one's process had ended
	running.Wait()
	if got := receive(t, second, 1); got[0].Delivered != 2 {
		t.Errorf("%+v", got)
	}
}

func TestStreamFindsItsConsumerAgain(t *testing.T) {
	s := start(t)
	s.orders(t, 1)
	r := s.open(t, "/?stream=ORDERS", "m1")
	if err := r.Done(ids(receive(t, r, 1))); err != nil {
		t.Fatal(err)
	}
	if err := s.js.DeleteConsumer(t.Context(), "ORDERS", "thaw-m1"); err != nil {
		t.Fatal(err)
	}
	var got []Message
	for deadline := time.Now().Add(patience); len(got) == 0 && time.Now().Before(deadline); {
		got, _ = r.Receive(t.Context(), 1, time.Second)
	}
	if len(got) != 1 {
		t.Error("nothing comes of the consumer that was made again")
	}
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	s := start(t)
	stream := s.orders(t, 0)
	if _, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "noack", AckPolicy: jetstream.AckNonePolicy}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/a?stream=NONE":                 "has no stream NONE; make it first",
		"/?stream=ORDERS&consumer=none":  "has no consumer none; make it first",
		"/?stream=ORDERS&consumer=noack": "explicit acknowledgement",
	} {
		address, err := ParseAddress(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), Config{Address: address, Name: "m", User: "u", Password: "p"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := Open(t.Context(), Config{Address: address, Name: "m"}); err == nil || !strings.Contains(err.Error(), "credentials") {
			t.Errorf("%s without credentials: %v", path, err)
		}
	}
}

func TestCoreSharesWhatIsPublished(t *testing.T) {
	s := start(t)
	a, b := s.open(t, "/news.>", "m1"), s.open(t, "/news.>", "m1")
	other := s.open(t, "/news.sport", "m2")
	for i := range 100 {
		if err := s.nc.Publish("news.sport", fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.nc.Publish("weather", nil); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for deadline := time.Now().Add(patience); len(seen) < 100 && time.Now().Before(deadline); {
		for _, r := range []Reader{a, b} {
			got, err := r.Receive(t.Context(), 7, 10*time.Millisecond)
			if err != nil || len(got) > 7 {
				t.Fatalf("%d messages: %v", len(got), err)
			}
			for _, m := range got {
				if seen[string(m.Body)] || m.ID == "" || m.Subject != "news.sport" {
					t.Errorf("%+v", m)
				}
				seen[string(m.Body)] = true
			}
		}
	}
	got := receive(t, other, 100)
	nothing(t, a)
	if len(seen) != 100 {
		t.Errorf("%d messages", len(seen))
	}
	if err := errors.Join(other.Done(ids(got[:1])), a.Done(nil)); err != nil {
		t.Error(err)
	}
	if err := other.Failed(ids(got[1:])); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "99 messages of news.sport") {
		t.Errorf("%v", err)
	}
}
