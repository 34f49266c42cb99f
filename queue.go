package thaw

import "regexp"

// QueueRef is an SQS queue as an ARN names it.
type QueueRef struct {
	Account string
	Region  string
	Name    string // with its .fifo, if it has one
}

// The names are those that CreateQueue admits: letters, digits, - and _, at most 80 characters, .fifo included.
var queuePattern = regexp.MustCompile(`^arn:aws[a-zA-Z-]*:sqs:([a-z]{2}(?:-[a-z]+)+-\d):(\d{12}):([a-zA-Z0-9_-]{1,80}|[a-zA-Z0-9_-]{1,75}\.fifo)$`)

// ParseQueueARN takes the ARN of an SQS queue apart; ok is false when s is none.
func ParseQueueARN(s string) (ref QueueRef, ok bool) {
	m := queuePattern.FindStringSubmatch(s)
	if m == nil {
		return QueueRef{}, false
	}
	return QueueRef{Region: m[1], Account: m[2], Name: m[3]}, true
}

// QueueARN is the ARN of an SQS queue of this account.
func (a Account) QueueARN(name string) string {
	return "arn:aws:sqs:" + a.Region + ":" + a.ID + ":" + name
}

// OwnsQueue reports whether a queue is one of this account and region.
func (a Account) OwnsQueue(ref QueueRef) bool { return ref.Account == a.ID && ref.Region == a.Region }
