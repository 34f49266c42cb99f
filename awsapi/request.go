package awsapi

import (
	"bytes"
	"context"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"
)

// Request is what a handler may want to know of the request beside its input.
type Request struct {
	// ID is the request's id, a UUID as AWS's are: in the x-amzn-RequestId header of the answer and in the log.
	ID string
	// Service and Operation are AWS's names of what is called.
	Service   string
	Operation string
	// Protocol is the one that the request speaks: "rest-json", "json", "query" or "cbor".
	Protocol string
	// Endpoint is where the caller sent the request: http://HOST:PORT.
	Endpoint string
	// AccessKey and Region are what the request's credential scope claims, empty without one. The access key is proved
	// only when a Verifier has accepted the request.
	AccessKey string
	Region    string
	// Header is the request's own; it must not be changed.
	Header http.Header
}

type requestKey struct{}

// WithRequest returns a context that carries req. Whoever serves a Service may set ID beforehand, to use one id for
// several layers; ServeHTTP fills what is empty.
func WithRequest(ctx context.Context, req Request) context.Context {
	return context.WithValue(ctx, requestKey{}, req)
}

// RequestFrom is the request that ctx carries: in a handler, its own. The zero Request where there is none.
func RequestFrom(ctx context.Context) Request {
	req, _ := ctx.Value(requestKey{}).(Request)
	return req
}

func (req *Request) fill(r *http.Request) {
	if req.ID == "" {
		req.ID = uuid.NewString()
	}
	if c, ok := claimedCredential(r); ok {
		req.AccessKey, req.Region = c.accessKey, c.region
	}
	req.Header = r.Header
	req.Endpoint = "http://" + r.Host
	if r.TLS != nil {
		req.Endpoint = "https://" + r.Host
	}
}

// Identify says which AWS service a request is meant for, by AWS's signing name of it, and which region; either is empty
// when the request does not tell. It looks, in this order, at the credential scope of Signature Version 4 (header or
// query), the X-Amz-Target header, the path, and the Action of the query or of a form. To see a form it reads up to
// maxQueryBody bytes of the body and puts them back.
func Identify(r *http.Request) (service, region string) {
	if c, ok := claimedCredential(r); ok && c.service != "" {
		return c.service, c.region
	}
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		return serviceOfTarget(target), ""
	}
	if isDatedPath(r.URL.Path) {
		return "lambda", ""
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, rpcPrefix); ok {
		name, _, _ := strings.Cut(rest, "/")
		return serviceOfTarget(name), ""
	}
	if isQueuePath(r.URL.Path) {
		return "sqs", ""
	}
	query := r.URL.Query()
	if query.Get("Action") == "" && isForm(r) {
		query, _ = peekForm(r)
	}
	return serviceOfAction(query.Get("Action"), query.Get("Version")), ""
}

// isDatedPath knows Lambda's paths, which all begin with the date of an API version: /2015-03-31/functions.
func isDatedPath(path string) bool {
	if len(path) < 12 || path[0] != '/' || path[5] != '-' || path[8] != '-' || path[11] != '/' {
		return false
	}
	for _, i := range [...]int{1, 2, 3, 4, 6, 7, 9, 10} {
		if path[i] < '0' || path[i] > '9' {
			return false
		}
	}
	return true
}

// isQueuePath knows the paths of SQS's queue URLs, an account and a name: /123456789012/my-queue.
func isQueuePath(path string) bool {
	account, name, ok := strings.Cut(strings.Trim(path, "/"), "/")
	return ok && len(account) == 12 && strings.Trim(account, "0123456789") == "" && name != "" && !strings.Contains(name, "/")
}

// serviceOfTarget reads X-Amz-Target, "Prefix_Version.Operation", where the prefix is the service's own.
func serviceOfTarget(target string) string {
	prefix, _, _ := strings.Cut(target, ".")
	prefix, _, _ = strings.Cut(prefix, "_")
	switch prefix {
	case "AnyScaleFrontendService":
		return "application-autoscaling"
	case "AWSEvents":
		return "events"
	case "GraniteServiceVersion20100801":
		return "monitoring"
	case "AWSStepFunctions":
		return "states"
	case "TrentService":
		return "kms"
	}
	return strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(prefix, "Amazon"), "AWS"))
}

// serviceOfAction tells the services of the query protocol apart: by the API version, which differs, then by the name.
func serviceOfAction(action, version string) string {
	if action == "" {
		return ""
	}
	for _, name := range []string{"sts", "iam", "sqs", "monitoring"} {
		m, err := models[name]()
		if err != nil {
			continue
		}
		if version == m.Version || version == "" && m.Operations[action] != nil {
			return name
		}
	}
	return ""
}

func isForm(r *http.Request) bool {
	if r.Method != http.MethodPost || r.Body == nil {
		return false
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && media == "application/x-www-form-urlencoded"
}

// peekForm reads what a form has of Action and Version and leaves the body as it was. It does not read more, since nobody
// has vouched for the request yet.
func peekForm(r *http.Request) (url.Values, error) {
	body := r.Body
	head, err := io.ReadAll(io.LimitReader(body, maxQueryBody))
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), body), body}
	if err != nil {
		return nil, err
	}
	form := make(url.Values)
	for part := range strings.SplitSeq(string(head), "&") {
		if name, value, _ := strings.Cut(part, "="); (name == "Action" || name == "Version") && !form.Has(name) {
			value, _ = url.QueryUnescape(value) // what it cannot read names nothing
			form.Set(name, value)
		}
	}
	return form, nil
}
