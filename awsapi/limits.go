package awsapi

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"

	"thaw"
)

// Request bodies, in bytes. maxCodeBody was recorded from AWS; a package of thaw.MaxZip in base64 with the rest of the
// request just fits. maxQueryBody holds IAM's largest document, 131,072 characters, when every one of them is escaped.
const (
	maxCodeBody  = 70_167_211
	maxRESTBody  = thaw.MaxPayload
	maxQueryBody = 1 << 20
	// A message of SQS, or all of a batch, has up to 1 MiB, which escapes in JSON and in forms treble; so have events, and
	// so has a batch of log events.
	maxQueueBody = 4 << 20
	// A compressed body may be this much larger when it is unpacked: a request of PutMetricData with 1,000 metrics of 150
	// values each has some 10 MB as a form.
	maxUnpacked = 16 << 20
)

// What the parts of a request may come to, since the smallest take hundreds of times their size in memory. The 1,000 metrics
// of 150 values, 150 counts and 30 dimensions that PutMetricData takes have 366,000 parameters or 467,000 items.
const (
	maxParameters = 400_000  // of a form
	maxItems      = 500_000  // of CBOR: values, and keys of maps
	maxElements   = 32 << 20 // of JSON's lists and maps, in bytes of memory
	elementCost   = 100      // in bytes of memory, of a map's entry or of what is noted of a null, beside what it holds
)

// tooMany is the answer to a request with more parts than that.
func tooMany() error {
	return thaw.Errorf(thaw.CodeRequestEntityTooLarge, "The request has more values than can be taken together. Send fewer in one request.")
}

func bodyLimit(service, operation string) int64 {
	switch {
	case service == "sqs", operation == "PutEvents", operation == "PutLogEvents":
		return maxQueueBody
	case service != "lambda":
		return maxQueryBody
	case operation == "CreateFunction", operation == "UpdateFunctionCode", operation == "PublishLayerVersion":
		return maxCodeBody
	default:
		return maxRESTBody
	}
}

// body is a request's body that has been read whole, so that the next reader need not copy it.
type body struct {
	bytes.Reader
	all []byte
}

func newBody(all []byte) *body {
	b := &body{all: all}
	b.Reset(all)
	return b
}

// Close does nothing: the connection's own body was read to its end.
func (b *body) Close() error { return nil }

var errTooLarge = errors.New("body larger than its limit")

// readBody reads a body of at most limit bytes, else errTooLarge. Nothing is read of one that declares to be larger. A
// body that breaks off is the caller's failure.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if b, ok := r.Body.(*body); ok {
		if int64(len(b.all)) > limit {
			return nil, errTooLarge
		}
		return b.all, nil
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	if r.ContentLength > limit {
		return nil, errTooLarge
	}
	var buf bytes.Buffer
	if r.ContentLength > 0 {
		buf.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, errTooLarge
	}
	if err != nil {
		return nil, &thaw.Error{Code: thaw.CodeSerialization, Message: "The request body ended early.", Cause: err}
	}
	return buf.Bytes(), nil
}

// readContent is readBody, and unpacks what the client has compressed: AWS's SDKs compress what their models say may be,
// such as PutMetricData's. The limit is of what was sent.
func readContent(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	text, err := readBody(w, r, limit)
	encoding := r.Header.Get("Content-Encoding")
	if err != nil || encoding == "" || encoding == "identity" {
		return text, err
	}
	if encoding != "gzip" {
		return nil, thaw.Errorf(thaw.CodeUnsupportedMediaType, "The content encoding %q is not supported. Use gzip, or none.", encoding)
	}
	reader, err := gzip.NewReader(bytes.NewReader(text))
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(reader, maxUnpacked+1))
	}
	switch {
	case err != nil:
		return nil, &thaw.Error{Code: thaw.CodeSerialization, Message: "The request body is not the gzip that its Content-Encoding says it is.", Cause: err}
	case len(text) > maxUnpacked:
		return nil, errTooLarge
	}
	return text, nil
}

// tooLarge is AWS's answer to a body over the limit. Both texts were recorded from AWS.
func tooLarge(operation string, size, limit int64) error {
	if operation == "Invoke" && size > 0 {
		return thaw.Errorf(thaw.CodeRequestTooLarge, "%d byte payload is too large for the RequestResponse invocation type (limit %d bytes)", size, limit)
	}
	return thaw.Errorf(thaw.CodeRequestEntityTooLarge, "Request must be smaller than %d bytes for the %s operation", limit, operation)
}
