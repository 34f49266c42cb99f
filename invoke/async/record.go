package async

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf8"

	"thaw"
)

// Why an event has come to its end: values of condition in the records of destinations. The first three are in AWS's
// documentation, the last two were observed there.
const (
	conditionSuccess   = "Success"
	conditionRetries   = "RetriesExhausted"
	conditionAge       = "EventAgeExceeded"
	conditionReserved  = "ZeroReservedConcurrency"
	conditionRecursion = "RecursiveInvocation"
	// conditionDamaged is thaw's own, of dead events: what is stored of the event cannot be read.
	conditionDamaged = "Damaged"
)

// maxRecord bounds a destination's record, bytes: that of an SQS message and of an asynchronous event.
const maxRecord = MaxPayload

// ending is how an event came to its end.
type ending struct {
	condition string
	attempts  int // AWS's approximateInvokeCount
	// status is that of the last answer, as Invoke would give it: 200 also for function errors; 0: there was none.
	status        int
	version       string // that ran, empty: none did
	functionError bool
	payload       []byte // of the answer
	message       string // what was wrong
	trace         string // X-Amzn-Trace-Id of the last attempt
}

type requestContext struct {
	RequestID   string `json:"requestId"`
	FunctionARN string `json:"functionArn"`
	Condition   string `json:"condition"`
	Attempts    int    `json:"approximateInvokeCount"`
}

type responseContext struct {
	Status        int    `json:"statusCode"`
	Version       string `json:"executedVersion,omitempty"`
	FunctionError string `json:"functionError,omitempty"`
}

// invocationRecord is what destinations get. Form and order of the members are those of AWS's page "Capturing records of
// Lambda asynchronous invocations" and of recorded ones.
type invocationRecord struct {
	Version         string           `json:"version"`
	Timestamp       string           `json:"timestamp"`
	RequestContext  requestContext   `json:"requestContext"`
	RequestPayload  json.RawMessage  `json:"requestPayload,omitempty"`
	ResponseContext *responseContext `json:"responseContext,omitempty"`
	ResponsePayload json.RawMessage  `json:"responsePayload,omitempty"`
}

// newRecord makes the record of an ending. One that would be larger than a destination takes goes without the response's
// payload, then without the request's too: AWS drops payloads there. whole is false when the request's is missing.
func newRecord(account *thaw.Account, function string, e *envelope, payload []byte, end *ending, now time.Time) (record []byte, whole bool) {
	qualifier := e.Qualifier
	if qualifier == "" {
		qualifier = thaw.Latest
	}
	if len(payload) == 0 {
		payload = emptyEvent
	}
	r := invocationRecord{
		Version: "1.0", Timestamp: now.UTC().Format("2006-01-02T15:04:05.000Z"),
		RequestContext: requestContext{e.RequestID, account.FunctionARN(function, qualifier), end.condition, end.attempts},
		RequestPayload: jsonOf(payload),
	}
	if end.status != 0 {
		r.ResponseContext = &responseContext{Status: end.status, Version: end.version}
		if end.functionError {
			r.ResponseContext.FunctionError = "Unhandled"
		}
		r.ResponsePayload = jsonOf(end.payload)
	}
	if record = encodeRecord(&r); len(record) <= maxRecord {
		return record, true
	}
	r.ResponsePayload = nil
	if record = encodeRecord(&r); len(record) <= maxRecord {
		return record, true
	}
	r.RequestPayload = nil
	return encodeRecord(&r), false
}

var emptyEvent = []byte("{}")

// encodeRecord leaves <, > and & as the payloads have them.
func encodeRecord(r *invocationRecord) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.Encode(r) //nolint:errcheck,errchkjson // strings, numbers, and payloads that are JSON, see jsonOf
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// jsonOf gives a payload as JSON. One that is not, as custom runtimes can answer, becomes a JSON string.
func jsonOf(payload []byte) json.RawMessage {
	if len(payload) == 0 || json.Valid(payload) {
		return payload
	}
	if !utf8.Valid(payload) {
		return nil
	}
	return encode(string(payload))
}

// errorMessage is what a function error's payload says was wrong; it may be any JSON.
func errorMessage(payload []byte) string {
	var e struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}
	_ = json.Unmarshal(payload, &e) // one without a message may have a type
	if e.Message == "" {
		return e.Type
	}
	return e.Message
}
