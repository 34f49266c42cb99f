package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// maxPayload is the largest message, bytes: a chunk of a package, an event with its envelope.
const maxPayload = 8 << 20

// startEngine runs a JetStream server inside this process. It opens no port and handles no signal.
func startEngine(ctx context.Context, cfg Config, room *room) (*server.Server, error) {
	srv, err := server.NewServer(&server.Options{
		ServerName:             "thaw",
		DontListen:             true,
		JetStream:              true,
		StoreDir:               filepath.Join(cfg.Dir, "jetstream"),
		DisableJetStreamBanner: true,
		NoSigs:                 true,
		MaxPayload:             maxPayload,
		MaxControlLine:         16 << 10, // subjects carry escaped names of up to 1,024 bytes
		// The server would size both by what the machine has free at the start. No stream is kept in memory, and the
		// disk is bounded by room, which looks at each write.
		JetStreamMaxMemory: 1 << 20,
		JetStreamMaxStore:  1 << 50,
		SyncAlways:         cfg.SyncAlways,
		SyncInterval:       SyncInterval,
	})
	if err != nil {
		return nil, fmt.Errorf("make state engine: %w", err)
	}
	srv.SetLoggerV2(engineLog{cfg.Log, room}, false, false, false)
	srv.Start()
	wait := 30 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline))
	}
	if !srv.ReadyForConnections(wait) {
		stopEngine(srv)
		return nil, errors.New("state engine did not come up; its log lines say why")
	}
	if !srv.JetStreamEnabled() {
		stopEngine(srv)
		return nil, fmt.Errorf("state engine could not open its files in %s; its log lines say why", cfg.Dir)
	}
	return srv, nil
}

func stopEngine(srv *server.Server) {
	srv.Shutdown()
	srv.WaitForShutdown()
}

// connect makes a client of the embedded server, or of the cluster when there is none.
func connect(srv *server.Server, cfg Config, name string) (*nats.Conn, error) {
	opts := []nats.Option{nats.Name(name), nats.MaxReconnects(-1)}
	if srv != nil {
		opts = append(opts, nats.InProcessServer(srv))
	}
	nc, err := nats.Connect(cfg.NATSURL, opts...)
	if err != nil {
		if cfg.NATSURL != "" {
			return nil, fmt.Errorf("connect to %s: %w; check that the server runs and that --nats names it", cfg.NATSURL, err)
		}
		return nil, fmt.Errorf("connect to state engine: %w", err)
	}
	return nc, nil
}

// engineLog passes the server's warnings and errors on and drops the rest.
type engineLog struct {
	log  *slog.Logger
	room *room
}

func (l engineLog) Noticef(string, ...any) {}
func (l engineLog) Debugf(string, ...any)  {}
func (l engineLog) Tracef(string, ...any)  {}

func (l engineLog) Warnf(format string, v ...any) {
	l.log.Warn("state engine: " + fmt.Sprintf(format, v...))
}

func (l engineLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	// The file store's words for a stream that takes no more writes until the next start; its log is the only place.
	if strings.Contains(text, "Critical write error") {
		l.room.noteBroken(text)
	}
	l.log.Error("state engine: " + text)
}

func (l engineLog) Fatalf(format string, v ...any) { l.Errorf(format, v...) }
