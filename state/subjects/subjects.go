// Package subjects receives messages from NATS servers that are not this platform's own: from subjects of core NATS, and
// from streams of JetStream through durable consumers.
//
// JetStream keeps a message until we acknowledge it, so that each is dealt with at least once. While it is in hand here
// the server hears every third of its patience (AckWait) that somebody works on it; when that ends, however suddenly, the
// server delivers it again. Core NATS delivers a message once, to whoever listens: what arrives here and cannot be dealt
// with is lost, and said so.
package subjects

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Message is one message as a Reader gives it out.
type Message struct {
	// ID names the message in the calls below, and does so again when it is delivered again: STREAM:SEQUENCE, or what is
	// made up for one of core NATS.
	ID        string
	Subject   string
	Body      []byte
	Header    map[string][]string
	Stream    string // empty for core NATS, as the following are
	Sequence  uint64
	Delivered int // 1 the first time
	Stored    time.Time
}

// Config is what a Reader needs. Address and Name are required.
type Config struct {
	Address Address
	// Name tells this reader from others: readers with the same name share the messages, on however many nodes. Letters,
	// digits, - and _.
	Name string
	// Credentials, each empty if there is none. CredentialsFile is a .creds file with a user's JWT and key.
	User, Password, Token, CredentialsFile string
	// Log gets what the operator should know. Nil means slog.Default().
	Log *slog.Logger
}

// Reader receives messages of one address. Any number of goroutines may use it.
type Reader interface {
	// Receive waits up to wait for a message and gives out those that are there then, at most limit. None in time is no error.
	Receive(ctx context.Context, limit int, wait time.Duration) ([]Message, error)
	// Done acknowledges messages. What it cannot tell the server is delivered again.
	Done(ids []string) error
	// Failed has messages delivered again after a pause that grows with each delivery, or gives them up after the last one.
	Failed(ids []string) error
	// Return has messages delivered again at once.
	Return(ids []string) error
	// Backlog is how many messages waited at the last look, without asking the server.
	Backlog() int
	// Run keeps messages in hand from being delivered to others. It returns when ctx ends; then nothing is kept.
	Run(ctx context.Context)
	// Close ends the connection, after what Done, Failed and Return said has been sent.
	Close()
}

// ErrLost is in the error of Failed and Return for messages that no server will deliver again.
var ErrLost = errors.New("core NATS delivers a message once, so that it is lost; read it from a stream to keep it")

const (
	dialTimeout  = 5 * time.Second
	flushTimeout = 5 * time.Second
)

// Open connects to the server, and to the stream and its consumer where the address names them.
func Open(ctx context.Context, cfg Config) (Reader, error) {
	if cfg.Name == "" {
		return nil, errors.New("state/subjects: Name is required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	nc, err := connect(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Address.Stream == "" {
		return newCore(nc, cfg)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("use JetStream of %s: %w", cfg.Address.Server, err)
	}
	s := &stream{cfg: cfg, nc: nc, js: js, held: map[string]*held{}}
	if _, err := s.bind(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return s, nil
}

func connect(cfg Config) (*nats.Conn, error) {
	log := cfg.Log.With("server", cfg.Address.Server, "subject", cfg.Address.Subject, "stream", cfg.Address.Stream)
	opts := []nats.Option{
		nats.Name("thaw " + cfg.Name), nats.Timeout(dialTimeout), nats.MaxReconnects(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("the connection to a NATS server broke; it is made again", "error", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Error("a NATS server reports an error", "error", err)
		}),
	}
	if cfg.User != "" {
		opts = append(opts, nats.UserInfo(cfg.User, cfg.Password))
	}
	if cfg.Token != "" {
		opts = append(opts, nats.Token(cfg.Token))
	}
	if cfg.CredentialsFile != "" {
		opts = append(opts, nats.UserCredentials(cfg.CredentialsFile))
	}
	nc, err := nats.Connect(cfg.Address.Server, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w; check that the server runs there and that the credentials are right", cfg.Address.Server, err)
	}
	return nc, nil
}

func closeConn(nc *nats.Conn) {
	_ = nc.FlushTimeout(flushTimeout) // what is not heard of is delivered again
	nc.Close()
}
