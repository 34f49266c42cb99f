package sqs

import (
	"context"
	"crypto/md5" //nolint:gosec // SQS's own choice: a checksum that its clients verify, not a secret
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state/queues"
)

// Limits of messages, after the documentation of SendMessage and the quotas of the developer guide.
const (
	maxMessage           = 1 << 20 // bytes: of a body with its attributes, and of a whole batch
	maxDelay             = 900     // seconds
	maxMessageAttributes = 10
	maxAttributeName     = 256 // characters
	maxNumberDigits      = 38
)

func (a *API) sendMessage(ctx context.Context, in *sendMessageInput) (*sdk.SendMessageOutput, error) {
	q, err := a.at(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	if q.fifo && in.MessageGroupId == nil {
		return nil, absent("MessageGroupId")
	}
	m, meta, err := a.message(q, &outgoing{
		nil, in.MessageBody, in.DelaySeconds, in.MessageAttributes, in.MessageSystemAttributes, in.MessageDeduplicationId, in.MessageGroupId,
	})
	if err != nil {
		return nil, err
	}
	carryTrace(ctx, &m, meta)
	sent := q.Send(ctx, m)[0]
	if sent.Err != nil {
		return nil, wording(ctx, sent.Err)
	}
	return &sdk.SendMessageOutput{
		MessageId: &sent.ID, MD5OfMessageBody: md5Of(m.Body), SequenceNumber: q.sequence(sent.Sequence),
		MD5OfMessageAttributes: operation.Optional(meta.MD5OfAttributes()), MD5OfMessageSystemAttributes: operation.Optional(meta.MD5OfSystem()),
	}, nil
}

func (a *API) sendMessageBatch(ctx context.Context, in *sendMessageBatchInput) (*sdk.SendMessageBatchOutput, error) {
	q, err := a.at(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	ids := make([]*string, len(in.Entries))
	size := 0
	for i, e := range in.Entries {
		ids[i] = e.Id
		size += e.size()
	}
	if err := checkBatch("SendMessageBatchRequestEntry", ids); err != nil {
		return nil, err
	}
	if size > maxMessage {
		return nil, thaw.Errorf(thaw.CodeBatchTooLong, "Batch requests cannot be longer than %d bytes. You have sent %d bytes.", maxMessage, size)
	}
	out := &sdk.SendMessageBatchOutput{}
	var messages []queues.Message
	var results []types.SendMessageBatchResultEntry // of messages, by their index
	for _, e := range in.Entries {
		if q.fifo && e.MessageGroupId == nil {
			return nil, invalid("The request must contain the parameter MessageGroupId.")
		}
		m, meta, err := a.message(q, &e)
		if errors.Is(err, errNoDeduplication) {
			return nil, err
		}
		if err != nil {
			out.Failed = append(out.Failed, failed(e.Id, err))
			continue
		}
		carryTrace(ctx, &m, meta)
		messages = append(messages, m)
		results = append(results, types.SendMessageBatchResultEntry{
			Id: e.Id, MD5OfMessageBody: md5Of(m.Body),
			MD5OfMessageAttributes: operation.Optional(meta.MD5OfAttributes()), MD5OfMessageSystemAttributes: operation.Optional(meta.MD5OfSystem()),
		})
	}
	if len(messages) == 0 {
		return out, nil
	}
	for i, sent := range q.Send(ctx, messages...) {
		if sent.Err != nil {
			out.Failed = append(out.Failed, failed(results[i].Id, wording(ctx, sent.Err)))
			continue
		}
		results[i].MessageId, results[i].SequenceNumber = &sent.ID, q.sequence(sent.Sequence)
		out.Successful = append(out.Successful, results[i])
	}
	return out, nil
}

// errNoDeduplication fails a whole batch, as on AWS.
var errNoDeduplication error = thaw.Errorf(thaw.CodeInvalidParameterValue, "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly")

// message checks a message and makes what the queue keeps of it.
func (a *API) message(q *queue, out *outgoing) (queues.Message, queues.SQSMeta, error) {
	m := queues.Message{Body: []byte(operation.Value(out.MessageBody)), Group: operation.Value(out.MessageGroupId), Dedup: operation.Value(out.MessageDeduplicationId)}
	meta := queues.SQSMeta{Sender: a.account.ID}
	if len(m.Body) == 0 {
		return m, meta, absent("MessageBody")
	}
	if !allowedText(string(m.Body)) {
		return m, meta, thaw.Errorf(thaw.CodeInvalidMessage, "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF")
	}
	for _, id := range []struct {
		parameter string
		v         *string
	}{{"MessageGroupId", out.MessageGroupId}, {"MessageDeduplicationId", out.MessageDeduplicationId}} {
		if id.v != nil && !identifier.MatchString(*id.v) {
			return m, meta, invalidValue(*id.v, id.parameter, id.parameter+" can only include alphanumeric and punctuation characters. 1 to 128 in length.")
		}
	}
	if err := q.ordering(&m, out); err != nil {
		return m, meta, err
	}
	var err error
	if meta.Attributes, err = messageAttributes(out.MessageAttributes); err != nil {
		return m, meta, err
	}
	if meta.System, err = systemAttributes(out.MessageSystemAttributes); err != nil {
		return m, meta, err
	}
	if limit, _ := strconv.Atoi(q.get(maximumMessageSize)); out.size() > limit {
		return m, meta, invalid("One or more parameters are invalid. Reason: Message must be shorter than %d bytes.", limit)
	}
	m.Meta = meta.Encode()
	return m, meta, nil
}

// ordering checks what FIFO queues have and others have not, and the delay.
func (q *queue) ordering(m *queues.Message, out *outgoing) error {
	const notHere = "The request include parameter that is not valid for this queue type."
	delay := operation.Value(out.DelaySeconds)
	switch {
	case q.fifo && delay != 0:
		return invalidValue(delay, delaySeconds, notHere)
	case delay < 0 || delay > maxDelay:
		return invalidValue(delay, delaySeconds, "DelaySeconds must be >= 0 and <= 900.")
	case !q.fifo && m.Dedup != "":
		return invalidValue(m.Dedup, "MessageDeduplicationId", notHere)
	case q.fifo && m.Dedup == "":
		if q.get(contentBased) != "true" {
			return errNoDeduplication
		}
		digest := sha256.Sum256(m.Body)
		m.Dedup = hex.EncodeToString(digest[:])
	case !q.fifo && out.DelaySeconds != nil:
		d := time.Duration(delay) * time.Second
		m.Delay = &d
	}
	return nil
}

// identifier is what message groups and deduplication ids can be: letters, digits and ASCII punctuation.
var identifier = regexp.MustCompile("^[!-~]{1,128}$")

// allowedText reports whether a text has only characters that XML can have.
func allowedText(text string) bool {
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"): // no UTF-8
			return false
		case r == '\t', r == '\n', r == '\r', r >= ' ' && r != '\uFFFE' && r != '\uFFFF':
		default:
			return false
		}
	}
	return true
}

// size is what counts towards the limits: the body, and names, types and values of message attributes.
func (out *outgoing) size() int {
	n := len(operation.Value(out.MessageBody))
	for name, v := range out.MessageAttributes {
		n += len(name) + len(operation.Value(v.DataType)) + len(operation.Value(v.StringValue)) + len(v.BinaryValue)
	}
	return n
}

var (
	attributeName = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`)
	attributeType = regexp.MustCompile(`^(String|Number|Binary)(\.[^\x00-\x1F]{1,249})?$`)
)

func messageAttributes(brought map[string]types.MessageAttributeValue) (map[string]queues.SQSAttribute, error) {
	if len(brought) == 0 {
		return nil, nil
	}
	if len(brought) > maxMessageAttributes {
		return nil, invalid("Number of message attributes [%d] exceeds the allowed maximum [%d].", len(brought), maxMessageAttributes)
	}
	kept := make(map[string]queues.SQSAttribute, len(brought))
	for _, name := range slices.Sorted(maps.Keys(brought)) {
		if err := checkAttributeName(name); err != nil {
			return nil, err
		}
		v := brought[name]
		var err error
		if kept[name], err = attributeValue("user", name, operation.Value(v.DataType), v.StringValue, v.BinaryValue, len(v.StringListValues)+len(v.BinaryListValues)); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// checkAttributeName follows the developer guide's page on message attributes.
func checkAttributeName(name string) error {
	lower := strings.ToLower(name)
	switch {
	case len(name) > maxAttributeName:
		return invalid("Message (user) attribute names can have %d characters; '%s' has %d.", maxAttributeName, name, len(name))
	case !attributeName.MatchString(name), name[0] == '.', name[len(name)-1] == '.', strings.Contains(name, ".."):
		return invalid("Message (user) attribute name '%s' is invalid: it can have letters, digits, '_', '-', and single periods within.", name)
	case strings.HasPrefix(lower, "aws."), strings.HasPrefix(lower, "amazon."):
		return invalid("Message (user) attribute name '%s' is invalid: names that begin with AWS. or Amazon. are reserved.", name)
	}
	return nil
}

// attributeValue checks an attribute; whose is user or system.
func attributeValue(whose, name, kind string, text *string, binary []byte, lists int) (queues.SQSAttribute, error) {
	a := queues.SQSAttribute{Type: kind}
	empty := func() error {
		return invalid("Message (%s) attribute '%s' must contain a non-empty value of type '%s'.", whose, name, kind)
	}
	switch {
	case lists > 0:
		return a, thaw.Errorf(thaw.CodeUnsupportedOperation, "Message attribute list values are not supported.")
	case kind == "":
		return a, invalid("Message (%s) attribute '%s' must contain a non-empty attribute type.", whose, name)
	case !attributeType.MatchString(kind):
		return a, invalid("The type of message (%s) attribute '%s' is invalid. You must use only the following supported type prefixes: Binary, Number, String.", whose, name)
	case a.IsBinary():
		if len(binary) == 0 || text != nil {
			return a, empty()
		}
		a.Binary = binary
		return a, nil
	case operation.Value(text) == "", len(binary) > 0:
		return a, empty()
	case !allowedText(*text):
		return a, thaw.Errorf(thaw.CodeInvalidMessage, "Invalid characters found in message (%s) attribute '%s'.", whose, name)
	case strings.HasPrefix(kind, "Number") && !isNumber(*text):
		return a, invalid("Can't cast the value of message (%s) attribute '%s' to a number.", whose, name)
	}
	a.String = *text
	return a, nil
}

var number = regexp.MustCompile(`^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$`)

// isNumber reports whether a text is a number of at most 38 digits.
func isNumber(text string) bool {
	digits, _, _ := strings.Cut(strings.ToLower(text), "e")
	n := len(digits) - strings.Count(digits, ".") - strings.Count(digits, "-") - strings.Count(digits, "+")
	return number.MatchString(text) && n <= maxNumberDigits
}

// systemAttributes takes the only one that there is.
func systemAttributes(brought map[string]types.MessageSystemAttributeValue) (map[string]queues.SQSAttribute, error) {
	var kept map[string]queues.SQSAttribute
	for _, name := range slices.Sorted(maps.Keys(brought)) {
		v := brought[name]
		if name != traceHeader {
			return nil, invalid("Message system attribute name '%s' is invalid: the one that can be set is %s.", name, traceHeader)
		}
		if kind := operation.Value(v.DataType); kind != "String" {
			return nil, invalid("The type of message (system) attribute '%s' must be String, not '%s'.", name, kind)
		}
		a, err := attributeValue("system", name, "String", v.StringValue, v.BinaryValue, len(v.StringListValues)+len(v.BinaryListValues))
		if err != nil {
			return nil, err
		}
		kept = map[string]queues.SQSAttribute{name: a}
	}
	return kept, nil
}

// sequence is a message's sequence number as AWS shows it on FIFO queues, in 20 digits, so that texts sort as numbers do.
func (q *queue) sequence(n uint64) *string {
	if !q.fifo {
		return nil
	}
	return aws.String(fmt.Sprintf("%020d", n))
}

func md5Of(body []byte) *string {
	digest := md5.Sum(body) //nolint:gosec // see the import
	return aws.String(hex.EncodeToString(digest[:]))
}
