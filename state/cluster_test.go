package state

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"thaw"
)

// startServer runs a NATS server on a port of its own, in place of a cluster.
func startServer(t *testing.T) string {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { stopEngine(srv) })
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("server does not come up")
	}
	return srv.ClientURL()
}

func TestNodesSeeEachOthersWrites(t *testing.T) {
	url := startServer(t)
	a, b := open(t, Config{NATSURL: url}), open(t, Config{NATSURL: url})
	ctx := t.Context()
	wait := func(s *Store, what string, ok func(*thaw.Function, bool) bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !ok(s.Function("f")); {
			if time.Now().After(deadline) {
				t.Fatalf("the other node does not see the %s", what)
			}
		}
	}
	if err := a.CreateFunction(ctx, function("f")); err != nil {
		t.Fatal(err)
	}
	wait(b, "creation", func(_ *thaw.Function, ok bool) bool { return ok })
	for i := range 50 {
		s := []*Store{a, b}[i%2]
		if _, err := s.UpdateFunction(ctx, "f", func(f *thaw.Function) error { f.Config.Timeout++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*Store{a, b} {
		wait(s, "updates", func(f *thaw.Function, ok bool) bool { return ok && f.Config.Timeout == 50 })
	}
	if err := b.DeleteFunction(ctx, "f"); err != nil {
		t.Fatal(err)
	}
	wait(a, "deletion", func(_ *thaw.Function, ok bool) bool { return !ok })
	if _, err := a.UpdateFunction(ctx, "f", func(*thaw.Function) error { return nil }); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	code, err := a.PutCode(ctx, uniquePackage(1))
	if err != nil {
		t.Fatal(err)
	}
	readWhole(t, b, code.SHA256)
}

func TestClusterOfANewerVersionIsRefused(t *testing.T) {
	url := startServer(t)
	s := open(t, Config{NATSURL: url})
	if _, err := s.js.UpdateKeyValue(t.Context(), jetstream.KeyValueConfig{
		Bucket: functionsBucket, LimitMarkerTTL: markerTTL, Metadata: map[string]string{formatKey: "2"},
	}); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Config{NATSURL: url})
	if !errors.Is(err, ErrNewerVersion) || !strings.Contains(err.Error(), url) {
		t.Fatal(err)
	}
}

// brokenFeed is a feed that has ended.
type brokenFeed chan jetstream.KeyValueEntry

func (f brokenFeed) Updates() <-chan jetstream.KeyValueEntry { return f }
func (f brokenFeed) Stop() error                             { return nil }

func TestBrokenFeedIsTakenUpAgain(t *testing.T) {
	url := startServer(t)
	a, b := open(t, Config{NATSURL: url}), open(t, Config{NATSURL: url})
	ctx, cancel := context.WithCancel(t.Context())
	for _, name := range []string{"kept", "deleted", "changed"} {
		if err := a.CreateFunction(ctx, function(name)); err != nil {
			t.Fatal(err)
		}
	}
	// A catalog of its own, which knows what b knew before the feed broke off.
	lone := &Store{cfg: b.cfg, functions: b.functions, catalog: newCatalog()}
	for _, name := range []string{"kept", "deleted", "changed"} {
		f, rev, err := b.readFunction(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		lone.catalog.apply(name, f, rev, true)
	}
	if err := a.DeleteFunction(ctx, "deleted"); err != nil {
		t.Fatal(err)
	}
	change := func(n int) {
		t.Helper()
		if _, err := a.UpdateFunction(ctx, "changed", func(f *thaw.Function) error { f.Config.Timeout = n; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	change(1)
	feed := make(brokenFeed)
	close(feed)
	ended := make(chan struct{})
	go func() { defer close(ended); lone.follow(ctx, feed) }()
	wait := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; {
			_, kept := lone.Function("kept")
			_, deleted := lone.Function("deleted")
			changed, ok := lone.Function("changed")
			if kept && !deleted && ok && changed.Config.Timeout == n {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("kept %v, deleted %v, changed %+v", kept, deleted, changed)
			}
		}
	}
	wait(1)
	change(2)
	wait(2)
	cancel()
	<-ended
}
