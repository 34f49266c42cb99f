package mapping

import (
	"bytes"
	"crypto/md5" //nolint:gosec // it is what the records have
	"encoding/base64"
	"encoding/hex"
	"encoding/json"

	"thaw/state/queues"
)

// sqsRecord is one element of the Records of an SQS event, its members in the order in which AWS writes them.
type sqsRecord struct {
	MessageID         string                  `json:"messageId"`
	ReceiptHandle     string                  `json:"receiptHandle"`
	Body              string                  `json:"body"`
	Attributes        sqsSystem               `json:"attributes"`
	MessageAttributes map[string]sqsAttribute `json:"messageAttributes"`
	MD5OfAttributes   string                  `json:"md5OfMessageAttributes,omitempty"`
	MD5OfBody         string                  `json:"md5OfBody"`
	EventSource       string                  `json:"eventSource"`
	EventSourceARN    string                  `json:"eventSourceARN"`
	Region            string                  `json:"awsRegion"`
}

// sqsSystem is the system attributes of a message; those of FIFO queues are empty on others.
type sqsSystem struct {
	Receives      string `json:"ApproximateReceiveCount"`
	Trace         string `json:"AWSTraceHeader,omitempty"`
	Sent          string `json:"SentTimestamp"`
	Sequence      string `json:"SequenceNumber,omitempty"`
	Group         string `json:"MessageGroupId,omitempty"`
	Sender        string `json:"SenderId"`
	Dedup         string `json:"MessageDeduplicationId,omitempty"`
	FirstReceived string `json:"ApproximateFirstReceiveTimestamp"`
	DeadFrom      string `json:"DeadLetterQueueSourceArn,omitempty"`
}

// sqsAttribute is a message attribute. The lists are always empty: SQS has no such attributes.
type sqsAttribute struct {
	String     *string  `json:"stringValue,omitempty"`
	Binary     *string  `json:"binaryValue,omitempty"`
	StringList []string `json:"stringListValues"`
	BinaryList []string `json:"binaryListValues"`
	Type       string   `json:"dataType"`
}

func newAttribute(of queues.SQSAttribute) sqsAttribute {
	a := sqsAttribute{StringList: []string{}, BinaryList: []string{}, Type: of.Type}
	if of.IsBinary() {
		encoded := base64.StdEncoding.EncodeToString(of.Binary)
		a.Binary = &encoded
	} else {
		a.String = &of.String
	}
	return a
}

func (r *sqsRecord) json() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(r) // strings, and maps of them: nothing that can fail
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func md5Hex(b []byte) string {
	sum := md5.Sum(b) //nolint:gosec // see above
	return hex.EncodeToString(sum[:])
}

const (
	eventHead = `{"Records":[`
	eventTail = `]}`
)

// event joins the records of messages to the event that the function gets.
func event(messages []message) []byte {
	size := len(eventHead) + len(eventTail)
	for i := range messages {
		size += len(messages[i].record) + 1
	}
	b := append(make([]byte, 0, size), eventHead...)
	for i := range messages {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, messages[i].record...)
	}
	return append(b, eventTail...)
}
