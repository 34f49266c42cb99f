package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Names in JetStream, of what is kept of invocations.
const (
	invocationStream  = "thaw-invocations"
	invocationSubject = "thaw.invocation."
	profileStream     = "thaw-profiles"
	profileSubject    = "thaw.profile."
)

// keptProfiles is how many init profiles are kept of one version of a function.
const keptProfiles = 20

// profileShare is the part of InvocationsConfig.MaxBytes that profiles may have.
const profileShare = 8

// InvocationsConfig bounds what is kept of invocations. Zero values mean the defaults named here.
type InvocationsConfig struct {
	// MaxAge is how long a record or a profile is kept. Default 7 days.
	MaxAge time.Duration
	// MaxBytes bounds all of them together. Default 256 MiB.
	MaxBytes int64
}

// Invocations keeps batches of invocation records, and profiles of inits. What is too old, or beyond the bound, is deleted,
// the oldest first. Its methods may be called from several goroutines; the first one opens what is needed.
type Invocations struct {
	store *Store
	cfg   InvocationsConfig

	opening sync.Mutex
	opened  *openInvocations // nil until something was asked for
}

type openInvocations struct {
	streams  *Streams
	js       jetstream.JetStream
	records  jetstream.Stream
	profiles jetstream.Stream
}

// InvocationBatch is a batch of records as its writer packed it, on a shelf of the writer's choice: letters, digits and dots.
type InvocationBatch struct {
	Shelf string
	Data  []byte
}

// Invocations is where records of invocations are kept. It does nothing yet.
func (s *Store) Invocations(cfg InvocationsConfig) *Invocations {
	if cfg.MaxAge == 0 {
		cfg.MaxAge = 7 * 24 * time.Hour
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 256 << 20
	}
	return &Invocations{store: s, cfg: cfg}
}

// open makes the connection and the streams at the first use, so that the platform's start does not wait for them.
func (i *Invocations) open(ctx context.Context) (*openInvocations, error) {
	i.opening.Lock()
	defer i.opening.Unlock()
	if i.opened != nil {
		return i.opened, nil
	}
	streams, err := i.store.Streams("thaw-invocations", func() {})
	if err != nil {
		return nil, err
	}
	o := &openInvocations{streams: streams}
	if o.js, err = jetstream.New(streams.Conn, jetstream.WithPublishAsyncTimeout(ackTimeout)); err == nil {
		o.records, err = streams.Stream(ctx, jetstream.StreamConfig{
			Name:     invocationStream,
			Subjects: []string{invocationSubject + ">"},
			Discard:  jetstream.DiscardOld,
			MaxAge:   i.cfg.MaxAge,
			MaxBytes: i.cfg.MaxBytes - i.cfg.MaxBytes/profileShare,
		})
	}
	if err == nil {
		o.profiles, err = streams.Stream(ctx, jetstream.StreamConfig{
			Name:              profileStream,
			Subjects:          []string{profileSubject + "*.*"},
			Discard:           jetstream.DiscardOld,
			MaxAge:            i.cfg.MaxAge,
			MaxBytes:          i.cfg.MaxBytes / profileShare,
			MaxMsgsPerSubject: keptProfiles,
		})
	}
	if err != nil {
		streams.Conn.Close()
		return nil, err
	}
	i.opened = o
	return o, nil
}

// Append stores batches and returns when all of them are stored. An error does not tell which are.
func (i *Invocations) Append(ctx context.Context, batches []InvocationBatch) error {
	o, err := i.open(ctx)
	if err != nil {
		return err
	}
	size := 0
	for _, b := range batches {
		size += len(b.Data)
	}
	if err := o.streams.Take(size, Filling); err != nil {
		return err
	}
	defer o.streams.Give(size)
	acks := make([]jetstream.PubAckFuture, 0, len(batches))
	for _, b := range batches {
		ack, err := o.js.PublishAsync(invocationSubject+b.Shelf, b.Data)
		if err != nil {
			return o.streams.Error("store invocations", err)
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return o.streams.Error("store invocations", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-i.store.closed:
			return ErrClosed
		}
	}
	return nil
}

// Read calls fn for each batch on the given shelves, none meaning all, that was stored from since until until, oldest first;
// a zero time is no bound. It ends with fn's first error, which it returns as it is.
func (i *Invocations) Read(ctx context.Context, shelves []string, since, until time.Time, fn func(at time.Time, data []byte) error) error {
	o, err := i.open(ctx)
	if err != nil {
		return err
	}
	subjects := make([]string, len(shelves))
	for n, shelf := range shelves {
		subjects[n] = invocationSubject + shelf
	}
	return o.read(ctx, o.records, subjects, since, until, fn)
}

// AppendProfile stores a profile of a function's version, of which the newest 20 are kept.
func (i *Invocations) AppendProfile(ctx context.Context, function, version string, data []byte) error {
	subject, err := profileSubjectOf(function, version)
	if err != nil {
		return err
	}
	o, err := i.open(ctx)
	if err != nil {
		return err
	}
	if err := o.streams.Take(len(data), Filling); err != nil {
		return err
	}
	defer o.streams.Give(len(data))
	if _, err := o.js.Publish(ctx, subject, data); err != nil {
		return o.streams.Error("store a profile", err)
	}
	return nil
}

// ReadProfiles calls fn for each profile of a function, oldest first. It ends with fn's first error.
func (i *Invocations) ReadProfiles(ctx context.Context, function string, fn func(at time.Time, data []byte) error) error {
	subject, err := profileSubjectOf(function, "")
	if err != nil {
		return err
	}
	o, err := i.open(ctx)
	if err != nil {
		return err
	}
	return o.read(ctx, o.profiles, []string{subject}, time.Time{}, time.Time{}, fn)
}

// profileSubjectOf is where a version's profiles are, or with an empty version those of all.
func profileSubjectOf(function, version string) (string, error) {
	token, err := escapeName(function)
	if err != nil {
		return "", fmt.Errorf("function: %w", err)
	}
	if version == "" {
		return profileSubject + token + ".*", nil
	}
	number, err := escapeName(version)
	if err != nil {
		return "", fmt.Errorf("version: %w", err)
	}
	return profileSubject + token + "." + number, nil
}

// read passes what a stream holds now to fn.
func (o *openInvocations) read(ctx context.Context, stream jetstream.Stream, subjects []string, since, until time.Time, fn func(at time.Time, data []byte) error) error {
	const doing = "read invocations"
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: subjects}
	if !since.IsZero() {
		cfg.DeliverPolicy = jetstream.DeliverByStartTimePolicy
		cfg.OptStartTime = &since
	}
	consumer, err := stream.OrderedConsumer(ctx, cfg)
	if err != nil {
		return o.streams.Error(doing, err)
	}
	defer func() {
		// The engine would keep a reader that is not told to go for some minutes; it fails where the engine has gone.
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), syncPatience)
		defer cancel()
		_ = stream.DeleteConsumer(ending, consumer.CachedInfo().Name) //nolint:errcheck // see above
	}()
	// What comes later is not read: a reader that is slow does not run after a writer that is quick.
	pending := consumer.CachedInfo().NumPending
	if pending == 0 {
		return nil
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(256))
	if err != nil {
		return o.streams.Error(doing, err)
	}
	defer messages.Stop()
	for range pending {
		msg, err := nextStored(ctx, consumer, messages)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return o.streams.Error(doing, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return o.streams.Error(doing, err)
		}
		if !until.IsZero() && meta.Timestamp.After(until) {
			return nil
		}
		if err := fn(meta.Timestamp, msg.Data()); err != nil {
			return err
		}
		if meta.NumPending == 0 {
			return nil // some were deleted meanwhile
		}
	}
	return nil
}
