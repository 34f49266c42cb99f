package mapping

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"thaw"
	"thaw/internal/ownbody"
	"thaw/state/queues"
)

// sqsAPI is what is called of an SQS API.
type sqsAPI interface {
	GetQueueUrl(ctx context.Context, in *sqs.GetQueueUrlInput, opts ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error)
	GetQueueAttributes(ctx context.Context, in *sqs.GetQueueAttributesInput, opts ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
	ReceiveMessage(ctx context.Context, in *sqs.ReceiveMessageInput, opts ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(ctx context.Context, in *sqs.DeleteMessageBatchInput, opts ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
	ChangeMessageVisibilityBatch(ctx context.Context, in *sqs.ChangeMessageVisibilityBatchInput, opts ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error)
}

// Bounds of SQS's API.
const (
	sqsBatch = 10
	sqsWait  = 20 * time.Second
)

// answerTime is how long a server may be silent, beyond the wait that it was asked for.
const answerTime = 10 * time.Second

// externalReceivers is how many requests for messages are under way at the same time: AWS's pollers begin with as many.
const externalReceivers = 5

// externalQueue is a queue behind another SQS API: AWS's, or any that speaks its protocol.
type externalQueue struct {
	api         sqsAPI
	client      *http.Client
	url         string
	arn, region string
	visibility  time.Duration
}

// openExternal looks a queue up behind its API. The credentials are environment variables of this platform, so that none
// is stored: PREFIX_AWS_ACCESS_KEY_ID, PREFIX_AWS_SECRET_ACCESS_KEY and, where there is one, PREFIX_AWS_SESSION_TOKEN.
func (l *Loop) openExternal(ctx context.Context, m *Mapping) (source, error) {
	arn, ok := ParseQueueARN(m.Source.ARN)
	if !ok {
		return nil, thaw.Errorf(thaw.CodeInvalidParameterValue, "%s is not the ARN of a queue.", m.Source.ARN)
	}
	keys, err := l.credentials(m.Source.Credentials)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: answerTime}).DialContext, TLSHandshakeTimeout: answerTime,
		ResponseHeaderTimeout: sqsWait + answerTime, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute,
	}}
	options := sqs.Options{Region: arn.Region, Credentials: keys, HTTPClient: ownbody.Client{HTTP: client}}
	if m.Source.Endpoint != "" {
		options.BaseEndpoint = &m.Source.Endpoint
	}
	q := &externalQueue{api: sqs.New(options), client: client, arn: m.Source.ARN, region: arn.Region}
	if err := q.find(ctx, arn); err != nil {
		q.close()
		return nil, outside(err)
	}
	return q, nil
}

// credentials reads the environment variables with a prefix.
func (l *Loop) credentials(prefix string) (aws.CredentialsProvider, error) {
	if prefix != "" {
		prefix += "_"
	}
	id, _ := l.cfg.Environment(prefix + "AWS_ACCESS_KEY_ID")
	secret, _ := l.cfg.Environment(prefix + "AWS_SECRET_ACCESS_KEY")
	token, _ := l.cfg.Environment(prefix + "AWS_SESSION_TOKEN")
	if id == "" || secret == "" {
		return nil, thaw.Errorf(thaw.CodeInvalidParameterValue, "The environment of thaw has no %sAWS_ACCESS_KEY_ID and %[1]sAWS_SECRET_ACCESS_KEY. Set both and start it again.", prefix)
	}
	return credentials.NewStaticCredentialsProvider(id, secret, token), nil
}

func (q *externalQueue) find(ctx context.Context, arn QueueARN) error {
	found, err := q.api.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &arn.Name, QueueOwnerAWSAccountId: &arn.Account})
	if err != nil {
		return err
	}
	q.url = aws.ToString(found.QueueUrl)
	attributes, err := q.api.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &q.url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameVisibilityTimeout}})
	if err != nil {
		return err
	}
	seconds, err := strconv.Atoi(attributes.Attributes[string(types.QueueAttributeNameVisibilityTimeout)])
	if err != nil {
		return fmt.Errorf("visibility timeout of %s: %w", q.arn, err)
	}
	q.visibility = time.Duration(seconds) * time.Second
	return nil
}

// outside words the error of another server for the mapping's owner.
func outside(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return &thaw.Error{Code: thaw.CodeService, Message: "The SQS API of the queue answered: " + err.Error(), Cause: err}
}

func (q *externalQueue) receive(ctx context.Context, most int, wait time.Duration) ([]message, error) {
	seconds := max(1, int32(min(wait, sqsWait)/time.Second))
	asked := time.Now()
	out, err := q.api.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: &q.url, MaxNumberOfMessages: int32(min(most, sqsBatch)), WaitTimeSeconds: seconds,
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		AttributeNames:              []types.QueueAttributeName{types.QueueAttributeNameAll}, //nolint:staticcheck // servers that do not know the newer member
		MessageAttributeNames:       []string{"All"},
	})
	if err != nil {
		return nil, outside(err)
	}
	if len(out.Messages) == 0 && time.Since(asked) < time.Duration(seconds)*time.Second/2 {
		// A server without long polling would be asked without end.
		pause(ctx, min(wait, time.Second))
	}
	hidden := time.Now().Add(q.visibility)
	messages := make([]message, len(out.Messages))
	for i := range out.Messages {
		m := &out.Messages[i]
		body := aws.ToString(m.Body)
		messages[i] = message{
			id: aws.ToString(m.MessageId), handle: aws.ToString(m.ReceiptHandle), body: []byte(body), record: q.record(m, body),
			trace: m.Attributes["AWSTraceHeader"], hidden: hidden,
		}
	}
	return messages, nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (q *externalQueue) record(m *types.Message, body string) []byte {
	a := m.Attributes
	rec := sqsRecord{
		MessageID: aws.ToString(m.MessageId), ReceiptHandle: aws.ToString(m.ReceiptHandle), Body: body,
		Attributes: sqsSystem{
			Receives: a["ApproximateReceiveCount"], Trace: a["AWSTraceHeader"], Sent: a["SentTimestamp"], Sequence: a["SequenceNumber"],
			Group: a["MessageGroupId"], Sender: a["SenderId"], Dedup: a["MessageDeduplicationId"], FirstReceived: a["ApproximateFirstReceiveTimestamp"],
			DeadFrom: a["DeadLetterQueueSourceArn"],
		},
		MessageAttributes: make(map[string]sqsAttribute, len(m.MessageAttributes)),
		MD5OfAttributes:   aws.ToString(m.MD5OfMessageAttributes), MD5OfBody: aws.ToString(m.MD5OfBody),
		EventSource: "aws:sqs", EventSourceARN: q.arn, Region: q.region,
	}
	for name, v := range m.MessageAttributes {
		rec.MessageAttributes[name] = newAttribute(queues.SQSAttribute{Type: aws.ToString(v.DataType), String: aws.ToString(v.StringValue), Binary: v.BinaryValue})
	}
	return rec.json()
}

func (q *externalQueue) done(ctx context.Context, messages []message) error {
	var all []error
	for some := range slices.Chunk(messages, sqsBatch) {
		entries := make([]types.DeleteMessageBatchRequestEntry, len(some))
		for i := range some {
			entries[i] = types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &some[i].handle}
		}
		out, err := q.api.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &q.url, Entries: entries})
		if err == nil {
			err = refusals(out.Failed)
		}
		all = append(all, err)
	}
	return outside(errors.Join(all...))
}

func (q *externalQueue) hide(ctx context.Context, messages []message, d time.Duration) error {
	var all []error
	seconds := int32((d + time.Second - 1) / time.Second)
	for some := range slices.Chunk(messages, sqsBatch) {
		entries := make([]types.ChangeMessageVisibilityBatchRequestEntry, len(some))
		for i := range some {
			entries[i] = types.ChangeMessageVisibilityBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &some[i].handle, VisibilityTimeout: seconds}
		}
		out, err := q.api.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &q.url, Entries: entries})
		if err == nil {
			err = refusals(out.Failed)
		}
		all = append(all, err)
	}
	return outside(errors.Join(all...))
}

// refusals are the entries of a batch that were not carried out. Those that are the sender's fault have a handle that is
// worth nothing any more: trying again would not help.
func refusals(failed []types.BatchResultErrorEntry) error {
	var all []error
	for i := range failed {
		if f := &failed[i]; !f.SenderFault {
			all = append(all, fmt.Errorf("%s: %s", aws.ToString(f.Code), aws.ToString(f.Message)))
		}
	}
	return errors.Join(all...)
}

func (q *externalQueue) failed(context.Context, []message) error { return nil }

func (q *externalQueue) backlog() int { return -1 }

func (q *externalQueue) receivers() int { return externalReceivers }

func (q *externalQueue) close() { q.client.CloseIdleConnections() }
