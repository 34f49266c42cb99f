package state

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Names in JetStream; a cluster may hold other people's streams too.
const (
	functionsBucket = "thaw-functions"
	recordsBucket   = "thaw-records"
	codeStream      = "thaw-code"
	codeSubject     = "thaw.code."
	logStream       = "thaw-logs"
	logSubject      = "thaw.log."
)

// markerTTL is how long a deletion stays visible to nodes that were away.
const markerTTL = 24 * time.Hour

// formatKey is the metadata key under which the functions bucket keeps formatVersion, for data in a cluster.
const formatKey = "thaw-format"

// Store is open state. All methods may be called from several goroutines.
type Store struct {
	cfg  Config
	dir  *directory     // nil without Config.Dir
	srv  *server.Server // nil with Config.NATSURL
	nc   *nats.Conn
	js   jetstream.JetStream
	room room

	functions jetstream.KeyValue
	records   jetstream.KeyValue
	code      jetstream.Stream
	logs      jetstream.Stream

	catalog *catalog
	sender  *sender

	connsMu sync.Mutex
	conns   []*nats.Conn // of packages below this one

	stop      context.CancelFunc // ends what runs in the background
	closed    <-chan struct{}
	running   sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// Open opens the state, making what is missing, and returns once the catalog is complete. ctx bounds the opening only.
// It fails with ErrLocked, ErrNewerVersion or ErrFull, each saying what to do, and then leaves nothing running.
func Open(ctx context.Context, cfg Config) (_ *Store, err error) {
	cfg = cfg.withDefaults()
	if cfg.Dir == "" && cfg.NATSURL == "" {
		return nil, errors.New("open state: neither a data directory nor a NATS address is given")
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Store{cfg: cfg, catalog: newCatalog(), stop: stop, closed: background.Done()}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()

	if cfg.Dir != "" {
		if s.dir, err = openDirectory(cfg.Dir); err != nil {
			return nil, err
		}
	}
	if cfg.NATSURL == "" {
		s.room.path, s.room.reserve = cfg.Dir, cfg.DiskReserve
		if err = s.room.enough(); err != nil {
			return nil, err
		}
		if s.srv, err = startEngine(ctx, cfg, &s.room); err != nil {
			return nil, err
		}
	}
	if s.nc, err = connect(s.srv, cfg, "thaw-state"); err != nil {
		return nil, err
	}
	if s.js, err = jetstream.New(s.nc, jetstream.WithPublishAsyncTimeout(ackTimeout)); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	if err = s.openStreams(ctx); err != nil {
		return nil, s.storeError("open state", err)
	}
	if s.sender, err = newSender(s.srv, cfg, &s.room); err != nil {
		return nil, err
	}
	s.running.Go(func() { s.sender.run(background) })
	if err = s.loadCatalog(ctx, background); err != nil {
		return nil, s.storeError("load functions", err)
	}
	return s, nil
}

// openStreams makes the buckets and streams, or brings those of an earlier start to the present configuration.
func (s *Store) openStreams(ctx context.Context) error {
	if err := s.checkClusterFormat(ctx); err != nil {
		return err
	}
	var err error
	s.functions, err = s.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket:         functionsBucket,
		Replicas:       s.cfg.Replicas,
		LimitMarkerTTL: markerTTL,
		Metadata:       map[string]string{formatKey: strconv.Itoa(formatVersion)},
	})
	if err != nil {
		return fmt.Errorf("functions: %w", err)
	}
	s.records, err = s.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket:         recordsBucket,
		Replicas:       s.cfg.Replicas,
		LimitMarkerTTL: markerTTL,
	})
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	s.code, err = s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:              codeStream,
		Subjects:          []string{codeSubject + "*.*"},
		Replicas:          s.cfg.Replicas,
		MaxMsgsPerSubject: 1,
		AllowDirect:       true,
	})
	if err != nil {
		return fmt.Errorf("code: %w", err)
	}
	s.logs, err = s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:              logStream,
		Subjects:          []string{logSubject + "*"},
		Replicas:          s.cfg.Replicas,
		Discard:           jetstream.DiscardOld,
		MaxBytes:          s.cfg.LogBytes,
		MaxAge:            s.cfg.LogAge,
		MaxMsgsPerSubject: s.cfg.LogEvents,
	})
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	return nil
}

// checkClusterFormat is to data in a cluster what the VERSION file is to a directory.
func (s *Store) checkClusterFormat(ctx context.Context) error {
	if s.srv != nil {
		return nil
	}
	kv, err := s.js.KeyValue(ctx, functionsBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return err
	}
	return checkFormat(status.Metadata()[formatKey], s.cfg.NATSURL)
}

// Close ends everything that runs, waiting up to two seconds for log events that are on their way. What was
// acknowledged before is kept. Calls that are under way fail.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		if s.sender != nil {
			s.sender.drain(2 * time.Second)
		}
		s.stop()
		s.running.Wait()
		s.closeConns()
		if s.sender != nil {
			s.sender.nc.Close()
		}
		if s.nc != nil {
			s.nc.Close()
		}
		if s.srv != nil {
			stopEngine(s.srv)
		}
		if s.dir != nil {
			s.closeErr = s.dir.close()
		}
	})
	return s.closeErr
}
