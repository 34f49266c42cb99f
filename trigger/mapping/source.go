package mapping

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"thaw"
	"thaw/state/subjects"
)

// Source names where a mapping's messages come from.
type Source struct {
	// ARN is AWS's EventSourceArn, empty for sources that have none.
	ARN string `json:"arn,omitempty"`
	// Endpoint is the URL of a server that is not this platform: an SQS API (http or https) that has the queue of ARN, or
	// a NATS server (nats or tls). Empty: the queue is this platform's, or AWS's where the ARN says so.
	Endpoint string `json:"endpoint,omitempty"`
	// Credentials is the prefix of the environment variables of this platform with the credentials for another server:
	// PREFIX_AWS_ACCESS_KEY_ID and so on, or PREFIX_NATS_USER and its like. Empty: the variables without prefix.
	Credentials string `json:"credentials,omitempty"`
	// External says that the queue is not this platform's.
	External bool `json:"external,omitempty"`
}

// Kind is what a source is.
type Kind int

// The kinds of sources. KindUnknown is a source that cannot be followed.
const (
	KindUnknown  Kind = iota
	KindQueue         // a queue of this platform
	KindExternal      // a queue behind another SQS API
	KindNATS          // a subject or a consumer of a NATS server
)

// Kind tells what s is.
func (s *Source) Kind() Kind {
	switch {
	case strings.HasPrefix(s.Endpoint, "nats://"), strings.HasPrefix(s.Endpoint, "tls://"):
		return KindNATS
	case s.ARN == "":
		return KindUnknown
	case s.External:
		return KindExternal
	default:
		return KindQueue
	}
}

// FIFO reports whether s is a FIFO queue.
func (s *Source) FIFO() bool { return s.ARN != "" && strings.HasSuffix(s.ARN, ".fifo") }

// QueueName is the name of the queue of s as package queues knows it, and the empty string where s is no queue.
func (s *Source) QueueName() string {
	if arn, ok := ParseQueueARN(s.ARN); ok {
		return userQueues + arn.Name
	}
	return ""
}

// userQueues begins the names of the queues that users have, as package queues knows them.
const userQueues = "sqs/"

// QueueARN is the ARN of a queue, taken apart.
type QueueARN struct{ Region, Account, Name string }

var queueARNPattern = regexp.MustCompile(`^arn:aws[a-zA-Z-]*:sqs:([a-z0-9-]+):(\d{12}):([a-zA-Z0-9_-]{1,80}(?:\.fifo)?)$`)

// ParseQueueARN takes the ARN of a queue apart; ok is false when s is none.
func ParseQueueARN(s string) (arn QueueARN, ok bool) {
	m := queueARNPattern.FindStringSubmatch(s)
	if m == nil {
		return QueueARN{}, false
	}
	return QueueARN{Region: m[1], Account: m[2], Name: m[3]}, true
}

// CheckEndpoint judges the URL of a server. Errors are sentences for the user.
func CheckEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "":
		return fmt.Errorf("'%s' is not a URL. Write it like http://elasticmq:9324 or nats://nats:4222/orders", endpoint)
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "nats" && u.Scheme != "tls":
		return fmt.Errorf("'%s' has the scheme %s. An SQS API has http or https, a NATS server nats or tls", endpoint, u.Scheme)
	case u.User != nil:
		return fmt.Errorf("'%s' holds a password. Put it into the environment of the platform and name the variables in SourceAccessConfigurations", u.Redacted())
	case u.Scheme == "nats" || u.Scheme == "tls":
		_, err := subjects.ParseAddress(endpoint)
		return err
	}
	return nil
}

// message is one message as a source gives it out.
type message struct {
	id     string // what a partial batch response names it by
	handle string // the source's own
	body   []byte // what filters see under the key body
	// record is the message's part of the event: a JSON object.
	record []byte
	trace  string // AWSTraceHeader, empty for none
	// hidden is until when nobody else gets the message; zero: for ever.
	hidden time.Time
}

// source gives out messages. A message that is given out is not given to others until it is hidden no more. All methods
// may be called from several goroutines.
type source interface {
	// receive waits up to wait for the first message and gives out up to most. None in time is no error.
	receive(ctx context.Context, most int, wait time.Duration) ([]message, error)
	// done deletes what the function, or a filter, has dealt with.
	done(ctx context.Context, messages []message) error
	// failed is told what the function has failed on. A queue has nothing to do: the visibility timeout brings it back.
	failed(ctx context.Context, messages []message) error
	// hide hides messages for d from now on; 0 gives them back at once.
	hide(ctx context.Context, messages []message, d time.Duration) error
	// backlog is how many messages wait to be received, -1 where that is not known without asking another server.
	backlog() int
	// receivers is how many receives at a time are worth while.
	receivers() int
	// close gives up what the source holds. Nothing else is called then.
	close()
}

// open makes the source of a mapping. It fails where the source is not there now; the caller tries again.
func (l *Loop) open(ctx context.Context, m *Mapping) (source, error) {
	switch m.Source.Kind() {
	case KindQueue:
		q := &ownQueue{lookup: l.cfg.Queue, name: m.Source.QueueName(), arn: m.Source.ARN, region: l.cfg.Account.Region}
		_, err := q.queue()
		return q, err
	case KindExternal:
		return l.openExternal(ctx, m)
	case KindNATS:
		return l.openNATS(ctx, m)
	default:
		return nil, thaw.Errorf(thaw.CodeNotImplemented, "This version of thaw does not follow the source %s%s.", m.Source.ARN, m.Source.Endpoint)
	}
}
