package queues

import (
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"thaw/state"
)

// TestServerOnThePort keeps the queues in a NATS server of their own, and restarts it under them.
func TestServerOnThePort(t *testing.T) {
	dir := t.TempDir()
	var srv *server.Server
	start := func(port int) {
		t.Helper()
		var err error
		srv, err = server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true})
		must(t, err)
		srv.Start()
		if !srv.ReadyForConnections(10 * time.Second) {
			t.Fatal("server does not come up")
		}
	}
	stop := func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	}
	start(server.RANDOM_PORT)
	defer func() { stop() }()
	addr := srv.Addr().(*net.TCPAddr)
	ctx := t.Context()
	p := &place{t: t, dir: "", clock: newClock(), cfg: state.Config{NATSURL: srv.ClientURL()}}
	p.open()
	defer p.close()
	q := p.create("a", Options{Visibility: time.Minute})
	sent := send(t, q, "one", "two")
	expect(t, q, 1, "one")

	for _, seq := range []uint64{sent[0].Sequence, 1000} {
		c, err := p.ask(ctx, seq)
		must(t, err)
		if there := seq != 1000; there != (c != nil) || there && c.envelope.id != sent[0].ID {
			t.Errorf("message %d: %+v", seq, c)
		}
	}

	stop()
	start(addr.Port)
	poll(t, func() bool { return p.streams.Conn.Status() == nats.CONNECTED })
	poll(t, func() bool {
		return q.Send(ctx, Message{Body: []byte("three")})[0].Err == nil
	})
	p.reopen()
	q = p.queue("a")
	if d := q.Depth(); d.InFlight != 1 || d.Visible < 2 {
		t.Errorf("%+v", d)
	}
	p.pass(time.Minute)
	for _, r := range receive(t, q, 10) {
		must(t, q.Delete(ctx, r.Handle))
	}
	p.depth(q, 0, 0, 0)
}
