package sqs

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state/queues"
)

// Limits of ReceiveMessage and ChangeMessageVisibility, after their documentation.
const (
	maxReceive    = 10
	maxWait       = 20     // seconds
	maxVisibility = 43_200 // seconds
)

const traceHeader = "AWSTraceHeader"

// systemNames are the message system attributes that can be asked for.
var systemNames = []string{
	"SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "SequenceNumber",
	"MessageDeduplicationId", "MessageGroupId", traceHeader, "DeadLetterQueueSourceArn",
}

func (a *API) receiveMessage(ctx context.Context, in *receiveMessageInput) (*sdk.ReceiveMessageOutput, error) {
	q, err := a.at(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	n, wait, visibility, err := in.read(q)
	if err != nil {
		return nil, err
	}
	names := slices.Concat(in.AttributeNames, in.MessageSystemAttributeNames)
	for _, name := range names {
		if name != "All" && !slices.Contains(systemNames, name) {
			return nil, unknownAttribute(name)
		}
	}
	received, err := a.receive(ctx, q, n, wait, visibility)
	switch {
	case errors.Is(err, queues.ErrInFlight) && q.fifo: // AWS's FIFO queues return no error then
		return &sdk.ReceiveMessageOutput{}, nil
	case err != nil:
		return nil, wording(ctx, err)
	}
	out := &sdk.ReceiveMessageOutput{}
	for i := range received {
		m, err := a.received(q, &received[i], names, in.MessageAttributeNames)
		if err != nil {
			return nil, err
		}
		out.Messages = append(out.Messages, m)
	}
	return out, nil
}

// receive is the queue's, but waits no longer than StopWaiting allows.
func (a *API) receive(ctx context.Context, q *queue, n int, wait time.Duration, visibility *time.Duration) ([]queues.Received, error) {
	select {
	case <-a.hurry:
		wait = 0
	default:
	}
	if wait == 0 {
		return q.Receive(ctx, n, 0, visibility)
	}
	until, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-a.hurry:
			cancel()
		case <-until.Done():
		}
	}()
	received, err := q.Receive(until, n, wait, visibility)
	cancel()
	<-done
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		return nil, nil
	}
	return received, err
}

// read gives the numbers of a request, checked, with the queue's own where it has none.
func (in *receiveMessageInput) read(q *queue) (n int, wait time.Duration, visibility *time.Duration, err error) {
	n = 1
	if in.MaxNumberOfMessages != nil {
		n = int(*in.MaxNumberOfMessages)
	}
	seconds, _ := strconv.Atoi(q.get(receiveWait))
	if in.WaitTimeSeconds != nil {
		seconds = int(*in.WaitTimeSeconds)
	}
	switch {
	case n < 1 || n > maxReceive:
		err = invalidValue(n, "MaxNumberOfMessages", "Must be between 1 and 10, if provided.")
	case seconds < 0 || seconds > maxWait:
		err = invalidValue(seconds, "WaitTimeSeconds", "Must be >= 0 and <= 20, if provided.")
	case in.VisibilityTimeout != nil && (*in.VisibilityTimeout < 0 || *in.VisibilityTimeout > maxVisibility):
		err = invalidValue(*in.VisibilityTimeout, visibilityTimeout, "Must be >= 0 and <= 43200, if provided.")
	case in.ReceiveRequestAttemptId != nil && !q.fifo:
		err = invalidValue(*in.ReceiveRequestAttemptId, "ReceiveRequestAttemptId", "The request include parameter that is not valid for this queue type.")
	case in.ReceiveRequestAttemptId != nil:
		err = thaw.Errorf(thaw.CodeNotImplemented, "ReceiveRequestAttemptId: thaw does not repeat the answer to a receive. Leave it out; what a lost answer held is received again after the visibility timeout.")
	}
	if in.VisibilityTimeout != nil {
		d := time.Duration(*in.VisibilityTimeout) * time.Second
		visibility = &d
	}
	return n, time.Duration(seconds) * time.Second, visibility, err
}

// received is a message with those of its attributes that were asked for.
func (a *API) received(q *queue, r *queues.Received, systemWanted, wanted []string) (types.Message, error) {
	m := types.Message{MessageId: &r.ID, ReceiptHandle: &r.Handle, Body: aws.String(string(r.Body)), MD5OfBody: md5Of(r.Body)}
	meta, err := queues.ParseSQSMeta(r.Meta)
	if err != nil {
		return m, err
	}
	for name, v := range a.system(q, r, &meta) {
		if v != "" && (slices.Contains(systemWanted, name) || slices.Contains(systemWanted, "All")) {
			if m.Attributes == nil {
				m.Attributes = make(map[string]string, len(systemNames))
			}
			m.Attributes[name] = v
		}
	}
	chosen := choose(meta.Attributes, wanted)
	m.MD5OfMessageAttributes = operation.Optional(queues.MD5OfSQSAttributes(chosen))
	for name, v := range chosen {
		if m.MessageAttributes == nil {
			m.MessageAttributes = make(map[string]types.MessageAttributeValue, len(chosen))
		}
		shown := types.MessageAttributeValue{DataType: aws.String(v.Type)}
		if v.IsBinary() {
			shown.BinaryValue = v.Binary
		} else {
			shown.StringValue = aws.String(v.String)
		}
		m.MessageAttributes[name] = shown
	}
	return m, nil
}

// system gives a message's system attributes; those that it has not are empty.
func (a *API) system(q *queue, r *queues.Received, meta *queues.SQSMeta) func(yield func(name, v string) bool) {
	return func(yield func(name, v string) bool) {
		milliseconds := func(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
		source := ""
		if from, ok := strings.CutPrefix(r.DeadFrom, prefix); ok {
			source = a.arn(from)
		}
		for _, x := range [...][2]string{
			{"SenderId", meta.Sender}, {"SentTimestamp", milliseconds(r.Sent)}, {"ApproximateReceiveCount", strconv.Itoa(r.Receives)},
			{"ApproximateFirstReceiveTimestamp", milliseconds(r.FirstReceived)}, {"SequenceNumber", operation.Value(q.sequence(r.Sequence))},
			{"MessageDeduplicationId", r.Dedup}, {"MessageGroupId", r.Group}, {traceHeader, meta.System[traceHeader].String},
			{"DeadLetterQueueSourceArn", source},
		} {
			if !yield(x[0], x[1]) {
				return
			}
		}
	}
}

// choose gives the attributes whose names were asked for: by name, by "prefix.*", or all, by "All" and ".*". Names that
// there cannot be are passed over, as on AWS.
func choose(all map[string]queues.SQSAttribute, wanted []string) map[string]queues.SQSAttribute {
	var chosen map[string]queues.SQSAttribute
	for name, v := range all {
		if !slices.ContainsFunc(wanted, func(w string) bool {
			start, isPrefix := strings.CutSuffix(w, ".*")
			return w == "All" || w == name || isPrefix && strings.HasPrefix(name, start)
		}) {
			continue
		}
		if chosen == nil {
			chosen = make(map[string]queues.SQSAttribute, len(all))
		}
		chosen[name] = v
	}
	return chosen
}
