package mapping

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"thaw"
	"thaw/state/queues"
)

// Queue is a queue of this platform, as package queues has it.
type Queue interface {
	Info() queues.Info
	Depth() queues.Depth
	Receive(ctx context.Context, most int, wait time.Duration, visibility *time.Duration) ([]queues.Received, error)
	DeleteBatch(ctx context.Context, handles []string) []error
	ChangeVisibilityBatch(ctx context.Context, changes []queues.VisibilityChange) []error
}

// ownQueue is a queue of this platform as a source. It looks the queue up each time, since one that was deleted and made
// again is another.
type ownQueue struct {
	lookup      func(name string) (Queue, bool)
	name        string
	arn, region string
}

func (s *ownQueue) queue() (Queue, error) {
	q, ok := s.lookup(s.name)
	if !ok {
		return nil, thaw.Errorf(thaw.CodeResourceNotFound, "The queue %s does not exist.", s.arn)
	}
	return q, nil
}

func (s *ownQueue) receive(ctx context.Context, most int, wait time.Duration) ([]message, error) {
	q, err := s.queue()
	if err != nil {
		return nil, err
	}
	received, err := q.Receive(ctx, most, wait, nil)
	// Hidden is counted from here, later than the queue does it: what looks at it leaves room for that.
	hidden := time.Now().Add(q.Info().Options.Visibility)
	messages := make([]message, 0, len(received))
	for i := range received {
		r := &received[i]
		m := message{id: r.ID, handle: r.Handle, body: r.Body, hidden: hidden}
		m.record, m.trace = s.record(r)
		messages = append(messages, m)
	}
	return messages, err
}

func (s *ownQueue) done(ctx context.Context, messages []message) error {
	q, err := s.queue()
	if err != nil {
		return nil //nolint:nilerr // the messages went with the queue
	}
	handles := make([]string, len(messages))
	for i := range messages {
		handles[i] = messages[i].handle
	}
	return joined(q.DeleteBatch(ctx, handles))
}

func (s *ownQueue) hide(ctx context.Context, messages []message, d time.Duration) error {
	q, err := s.queue()
	if err != nil {
		return err
	}
	changes := make([]queues.VisibilityChange, len(messages))
	for i := range messages {
		changes[i] = queues.VisibilityChange{Handle: messages[i].handle, Visibility: d}
	}
	return joined(q.ChangeVisibilityBatch(ctx, changes))
}

// joined leaves out of the errors of a batch those that say that a message is no longer the receiver's: it was deleted or
// purged, or its time is over and somebody else has it.
func joined(errs []error) error {
	var all []error
	for _, err := range errs {
		if err != nil && !errors.Is(err, queues.ErrHandle) && !errors.Is(err, queues.ErrNotInFlight) && !errors.Is(err, queues.ErrClosed) {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

func (s *ownQueue) failed(context.Context, []message) error { return nil }

func (s *ownQueue) backlog() int {
	q, err := s.queue()
	if err != nil {
		return 0
	}
	return q.Depth().Visible
}

// receivers is one: it costs nothing to ask, and messages that come together stay together.
func (s *ownQueue) receivers() int { return 1 }

func (s *ownQueue) close() {}

// record renders a message as the SQS service hands it to functions, and gives its trace.
func (s *ownQueue) record(r *queues.Received) (record []byte, trace string) {
	meta, _ := queues.ParseSQSMeta(r.Meta) // what cannot be read is left out, and the body passed on
	rec := sqsRecord{
		MessageID: r.ID, ReceiptHandle: r.Handle, Body: string(r.Body),
		Attributes: sqsSystem{
			Receives: strconv.Itoa(r.Receives), Trace: meta.System["AWSTraceHeader"].String,
			Sent: milliseconds(r.Sent), Sender: meta.Sender, FirstReceived: milliseconds(r.FirstReceived),
			Group: r.Group, Dedup: r.Dedup,
		},
		MessageAttributes: make(map[string]sqsAttribute, len(meta.Attributes)),
		MD5OfAttributes:   meta.MD5OfAttributes(), MD5OfBody: md5Hex(r.Body),
		EventSource: "aws:sqs", EventSourceARN: s.arn, Region: s.region,
	}
	if from, ok := strings.CutPrefix(r.DeadFrom, userQueues); ok {
		rec.Attributes.DeadFrom = s.arn[:strings.LastIndexByte(s.arn, ':')+1] + from
	}
	if s.fifo() {
		rec.Attributes.Sequence = fmt.Sprintf("%020d", r.Sequence)
	}
	for name, a := range meta.Attributes {
		rec.MessageAttributes[name] = newAttribute(a)
	}
	return rec.json(), rec.Attributes.Trace
}

func (s *ownQueue) fifo() bool { return (&Source{ARN: s.arn}).FIFO() }

func milliseconds(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
