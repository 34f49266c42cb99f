package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// logMeta is the header that holds a batch's description; sizeHeader is the engine's own, on messages without their data.
const (
	logMeta    = "Thaw-Log"
	sizeHeader = "Nats-Msg-Size"
)

// logInactive is for how long the engine keeps a reader that has gone without saying so.
const logInactive = 30 * time.Second

// How many batches are fetched before they are asked for. Followers stay, there may be many, and some wait for what they
// deliver to: each holds that many batches meanwhile.
const (
	readAhead   = 256
	followAhead = 16
)

// LogRecord is one stored batch of a log group.
type LogRecord struct {
	Group    string
	Sequence uint64    // grows from batch to batch, over all groups
	At       time.Time // when it was stored
	Meta     string    // as PublishLog or AppendLog got it
	Data     []byte    // nil where descriptions only are read
	Size     int       // of Data, bytes
}

func logMessage(subject, meta string, data []byte) *nats.Msg {
	msg := &nats.Msg{Subject: subject, Data: data}
	if meta != "" {
		msg.Header = nats.Header{logMeta: {meta}}
	}
	return msg
}

// ReadLogs passes the batches of a log group that were stored at or after since to fn, oldest first, each with the time
// at which it was stored; batches published before the call are among them, unless a flood is being stored. A zero since
// means all. Without follow it ends after the newest batch there is; with follow it goes on with those to come until ctx
// ends, and returns ctx's error. An error of fn ends it and is returned as it is.
func (s *Store) ReadLogs(ctx context.Context, group string, since time.Time, follow bool, fn func(at time.Time, data []byte) error) error {
	if err := s.syncLogs(ctx); err != nil {
		return err
	}
	cfg := jetstream.OrderedConsumerConfig{}
	if !since.IsZero() {
		cfg.DeliverPolicy = jetstream.DeliverByStartTimePolicy
		cfg.OptStartTime = &since
	}
	return s.consumeLogs(ctx, group, cfg, 0, follow, func(r LogRecord) error { return fn(r.At, r.Data) })
}

// ScanLogs passes the batches of a log group with sequences from first to last to fn, in their order. It does not wait for
// what was published before; LogRange does. An empty group means all of them. With described, the records come without
// their data. An error of fn ends it and is returned as it is.
func (s *Store) ScanLogs(ctx context.Context, group string, first, last uint64, described bool, fn func(LogRecord) error) error {
	if first > last {
		return nil
	}
	cfg := jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(first, 1), HeadersOnly: described,
	}
	return s.consumeLogs(ctx, group, cfg, last, false, fn)
}

// FollowLogs passes the batches of a log group behind the sequence after to fn, and goes on with those to come until ctx
// ends, and returns ctx's error. An empty group means all of them. With described, the records come without their data. An
// error of fn ends it and is returned as it is.
func (s *Store) FollowLogs(ctx context.Context, group string, after uint64, described bool, fn func(LogRecord) error) error {
	cfg := jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1, HeadersOnly: described,
	}
	return s.consumeLogs(ctx, group, cfg, 0, true, fn)
}

// LogLimit is how many batches of one log group are kept at most.
func (s *Store) LogLimit() int64 { return s.cfg.LogEvents }

// LogRange is the sequences of the oldest and the newest stored batch of all groups, with what was published before. When
// none is stored, first is last+1.
func (s *Store) LogRange(ctx context.Context) (first, last uint64, err error) {
	if err := s.syncLogs(ctx); err != nil {
		return 0, 0, err
	}
	info, err := s.logs.Info(ctx)
	if err != nil {
		return 0, 0, s.storeError("look at logs", err)
	}
	return info.State.FirstSeq, info.State.LastSeq, nil
}

// FirstLogSince is the sequence of the first batch of a group stored at or after since, or last+1 of LogRange if there is none.
func (s *Store) FirstLogSince(ctx context.Context, group string, since time.Time) (uint64, error) {
	_, last, err := s.LogRange(ctx)
	if err != nil {
		return 0, err
	}
	first := last + 1
	found := errors.New("found")
	cfg := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since, HeadersOnly: true}
	err = s.consumeLogs(ctx, group, cfg, 0, false, func(r LogRecord) error { first = r.Sequence; return found })
	if err != nil && err != found { //nolint:errorlint // it is passed on as it is
		return 0, err
	}
	return first, nil
}

// PurgeLogs deletes the stored batches of a log group with sequences below before, or all of them with 0. What still waits
// to be stored comes after it.
func (s *Store) PurgeLogs(ctx context.Context, group string, before uint64) error {
	token, err := escapeName(group)
	if err != nil {
		return fmt.Errorf("log group: %w", err)
	}
	options := []jetstream.StreamPurgeOpt{jetstream.WithPurgeSubject(logSubject + token)}
	if before > 0 {
		options = append(options, jetstream.WithPurgeSequence(before))
	}
	if err := s.logs.Purge(ctx, options...); err != nil {
		return s.storeError("purge logs of "+group, err)
	}
	return nil
}

// DeleteLog deletes one stored batch. One that is not there is no error.
func (s *Store) DeleteLog(ctx context.Context, sequence uint64) error {
	err := s.logs.DeleteMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) && strings.Contains(err.Error(), "no message found") {
		return nil // the client tells the engine's reason as text only
	}
	if err != nil {
		return s.storeError("delete logs", err)
	}
	return nil
}

// syncLogs waits for a bounded time until what was published before is stored.
func (s *Store) syncLogs(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, syncPatience)
	defer cancel()
	if err := s.sender.sync(waiting); errors.Is(err, ErrClosed) {
		return err
	}
	return ctx.Err()
}

// consumeLogs passes what cfg asks for of a group, or of all, to fn. Without follow it ends behind the sequence last, if
// that is not 0, or with the newest batch.
func (s *Store) consumeLogs(ctx context.Context, group string, cfg jetstream.OrderedConsumerConfig, last uint64, follow bool, fn func(LogRecord) error) error {
	token := "*"
	if group != "" {
		var err error
		if token, err = escapeName(group); err != nil {
			return fmt.Errorf("log group: %w", err)
		}
	}
	doing := "read logs of " + group
	cfg.FilterSubjects = []string{logSubject + token}
	cfg.InactiveThreshold = logInactive
	consumer, err := s.logs.OrderedConsumer(ctx, cfg)
	if err != nil {
		return s.storeError(doing, err)
	}
	defer func() {
		// A reader that is not told to go would stay for logInactive; it fails where the engine has gone.
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), syncPatience)
		defer cancel()
		_ = s.logs.DeleteConsumer(ending, consumer.CachedInfo().Name) //nolint:errcheck // see above
	}()
	if !follow && consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	ahead := readAhead
	if follow && !cfg.HeadersOnly {
		ahead = followAhead
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(ahead))
	if err != nil {
		return s.storeError(doing, err)
	}
	defer messages.Stop()
	next := func() (jetstream.Msg, error) { return nextStored(ctx, consumer, messages) }
	if follow {
		next = func() (jetstream.Msg, error) { return messages.Next(jetstream.NextContext(ctx)) }
	}
	for {
		msg, err := next()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return ErrClosed
		}
		if err != nil {
			return s.storeError(doing, err)
		}
		record, pending, err := logRecord(msg, group)
		if err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		if last > 0 && record.Sequence > last {
			return nil
		}
		if err := fn(record); err != nil {
			return err
		}
		if !follow && (pending == 0 || last > 0 && record.Sequence == last) {
			return nil
		}
	}
}

func logRecord(msg jetstream.Msg, group string) (r LogRecord, pending uint64, err error) {
	meta, err := msg.Metadata()
	if err != nil {
		return r, 0, err
	}
	if group == "" {
		if group, err = unescapeName(strings.TrimPrefix(msg.Subject(), logSubject)); err != nil {
			return r, 0, err
		}
	}
	r = LogRecord{Group: group, Sequence: meta.Sequence.Stream, At: meta.Timestamp, Data: msg.Data(), Size: len(msg.Data())}
	if headers := msg.Headers(); headers != nil {
		r.Meta = headers.Get(logMeta)
		if size := headers.Get(sizeHeader); size != "" {
			if r.Size, err = strconv.Atoi(size); err != nil {
				return r, 0, fmt.Errorf("size of batch %d: %w", r.Sequence, err)
			}
			r.Data = nil
		}
	}
	return r, meta.NumPending, nil
}
