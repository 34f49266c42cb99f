package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"

	"thaw"
	"thaw/internal/ownbody"
)

// The credentials and the region that stand in where the environment has none. A platform that does not check
// signatures takes any.
const (
	defaultKey    = "thaw"
	defaultSecret = "thaw"
	defaultRegion = "us-east-1"
)

// maxAnswer bounds what the program reads of one answer of the native API, and of an invocation's error.
const maxAnswer = thaw.MaxResponse + 1<<20

// target is the endpoint as the user meant it, with a scheme and without a trailing slash.
func (p *program) target() string {
	s := p.endpoint
	for _, name := range []string{"THAW_ENDPOINT", "AWS_ENDPOINT_URL"} {
		if s == "" {
			s = p.deps.Getenv(name)
		}
	}
	if s == "" {
		s = DefaultEndpoint
	}
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	return strings.TrimRight(s, "/")
}

// client speaks with one platform. Its connections end with close.
type client struct {
	*lambda.Client
	base   string
	region string
	creds  aws.CredentialsProvider
	signer *v4.Signer
	http   *http.Client
}

// connect makes a client; it sends nothing yet. connections bounds the kept-alive connections.
func (p *program) connect(connections int) (*client, error) {
	base := p.target()
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, usage(fmt.Sprintf("the endpoint %q is not an http or https URL", base), "thaw --endpoint "+DefaultEndpoint+" list")
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConns:        connections,
		MaxIdleConnsPerHost: connections,
		MaxConnsPerHost:     connections,
		DisableCompression:  true,
		Proxy:               http.ProxyFromEnvironment,
	}
	c := &client{
		base:   base,
		region: first(p.deps.Getenv("AWS_REGION"), p.deps.Getenv("AWS_DEFAULT_REGION"), defaultRegion),
		creds: credentials.NewStaticCredentialsProvider(
			first(p.deps.Getenv("AWS_ACCESS_KEY_ID"), defaultKey),
			first(p.deps.Getenv("AWS_SECRET_ACCESS_KEY"), defaultSecret),
			p.deps.Getenv("AWS_SESSION_TOKEN")),
		signer: v4.NewSigner(),
		http:   &http.Client{Transport: transport},
	}
	c.Client = lambda.New(lambda.Options{
		BaseEndpoint: aws.String(base),
		Region:       c.region,
		Credentials:  c.creds,
		HTTPClient:   ownbody.Client{HTTP: c.http},
		// A retry would hide from the user, and from a benchmark, what the platform answered.
		Retryer: aws.NopRetryer{},
	})
	return c, nil
}

// talk has ask speak with the platform over a connection of its own, while the user sees what is being done. wrong words
// what ask fails with.
func (p *program) talk(doing string, ask func(*client) error, wrong func(error) *Error) error {
	c, err := p.connect(1)
	if err != nil {
		return err
	}
	defer c.close()
	m := p.progress(doing, -1)
	err = ask(c)
	m.stop()
	if err != nil {
		return wrong(err)
	}
	return nil
}

// askNative sends one request to the native API. what says in its failure what cannot be done: "cannot look at q".
func (p *program) askNative(ctx context.Context, method, path string, query url.Values, answer any, what string, wrong func(error) *Error) error {
	ask := func(c *client) error { return c.native(ctx, method, path, query, answer) }
	return p.talk(strings.TrimPrefix(what, "cannot "), ask, wrong)
}

func (c *client) close() { c.http.CloseIdleConnections() }

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// health is the answer of GET /_thaw/health.
type health struct {
	Status   string   `json:"status"`
	Version  string   `json:"version"`
	Region   string   `json:"region"`
	Account  string   `json:"account"`
	Runtimes []string `json:"runtimes,omitempty"`
}

// errNotThaw is returned for an endpoint where something else than thaw answers.
var errNotThaw = errors.New("what answers there is not thaw: it has no /_thaw/health")

func (c *client) health(ctx context.Context) (*health, error) {
	resp, err := c.get(ctx, "/_thaw/health", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var h health
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&h) != nil {
		return nil, errNotThaw
	}
	return &h, nil
}

// get sends a signed request to the native API. The caller closes the body, whatever the status is.
func (c *client) get(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	req, err := c.request(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return nil, err
	}
	return c.http.Do(req)
}

// native asks the native API and decodes its answer. What is not a success is an error as the SDK would have made it.
func (c *client) native(ctx context.Context, method, path string, query url.Values, answer any) error {
	req, err := c.request(ctx, method, path, query, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("the platform's answer is not JSON: %w", err)
	}
	return nil
}

// request makes a request signed for the Lambda API.
func (c *client) request(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Request, error) {
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(string(body)))
	if err != nil {
		return nil, err
	}
	keys, err := c.creds.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	if err := c.signer.SignHTTP(ctx, keys, req, hex.EncodeToString(sum[:]), "lambda", c.region, time.Now()); err != nil {
		return nil, err
	}
	return req, nil
}

// refusal is the error of an answer that is not a success, as the SDK would have made it. It reads the body.
func refusal(resp *http.Response) error {
	code, _, _ := strings.Cut(resp.Header.Get("X-Amzn-ErrorType"), ":")
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // a body cut short leaves the status, which is enough
	var wire struct {
		Message  string `json:"message"`
		Message2 string `json:"Message"`
		Type     string `json:"__type"`
	}
	_ = json.Unmarshal(body, &wire) // a body that is not JSON is shown as text below
	e := &smithy.GenericAPIError{Code: first(code, wire.Type, resp.Status), Message: first(wire.Message, wire.Message2)}
	if e.Message == "" {
		e.Message = first(strings.TrimSpace(string(body[:min(len(body), 200)])), resp.Status)
	}
	return e
}
