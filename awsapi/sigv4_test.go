package awsapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw"
)

const testKey, testSecret = "AKIDEXAMPLE0000", "secret"

func testVerifier() *Verifier {
	return NewVerifier(func(key string) (string, bool) { return testSecret, key == testKey })
}

// guard answers requests whose signature holds with the body's length, and others with the error's code.
func guard(t *testing.T) *httptest.Server {
	v := testVerifier()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, err := v.Verify(r)
		if err != nil || key != testKey {
			t.Errorf("%s %s: %q, %v", r.Method, r.URL, key, err)
			w.WriteHeader(http.StatusForbidden)
			return
		}
		text, err := io.ReadAll(r.Body)
		if err != nil || r.ContentLength >= 0 && int64(len(text)) != r.ContentLength {
			t.Errorf("%s %s: body of %d bytes, declared %d, %v", r.Method, r.URL, len(text), r.ContentLength, err)
		}
		w.Header().Set("X-Verified", "yes")
		if service, _ := Identify(r); service != "lambda" {
			_, _ = io.WriteString(w, "<R><CreateRoleResult/><GetCallerIdentityResult/></R>")
		} else {
			_, _ = io.WriteString(w, "{}")
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// TestVerifySDK sends every operation of all services through the SDK's clients, as their users have them.
func TestVerifySDK(t *testing.T) {
	url := guard(t).URL
	f := filler{rand: rand.New(rand.NewPCG(1, 2))}
	for name, newClient := range clients {
		s := newService(t, name)
		for _, c := range calls(s.model, newClient(url)) {
			if c.name == "StartLiveTail" {
				continue // its client puts "stream-" before the host
			}
			n, err := s.binder.bind(s.model.Operations[c.name].Input, c.in)
			if err != nil {
				t.Fatal(err)
			}
			in := reflect.New(c.in)
			f.structure(n, in.Elem())
			if endpoint := in.Elem().FieldByName("EndpointId"); endpoint.IsValid() {
				endpoint.SetZero() // a global endpoint is signed for with AWS4-ECDSA-P256-SHA256
			}
			_, _ = c.invoke(in) // what the client makes of the answer is not the matter here
		}
	}
}

// TestVerifyBotocore does the same from Python, with ARNs in paths, presigned URLs and bodies.
func TestVerifyBotocore(t *testing.T) {
	if err := exec.Command("python3", "-c", "import botocore.session").Run(); err != nil {
		t.Skip("python3 has no botocore here, so its signatures cannot be tried")
	}
	const script = `
import sys, urllib.request, botocore.session
from botocore.config import Config
url = sys.argv[1]
session = botocore.session.Session()
session.set_credentials("AKIDEXAMPLE0000", "secret")
def client(name):
    return session.create_client(name, region_name="eu-west-1", endpoint_url=url, config=Config(retries={"max_attempts": 1}))
l, i, s = client("lambda"), client("iam"), client("sts")
arn = "arn:aws:lambda:eu-west-1:123456789012:function:my-name"
l.list_functions(MaxItems=3, Marker="a+b/c= d~é")
l.get_function(FunctionName=arn + ":$LATEST", Qualifier="$LATEST")
l.tag_resource(Resource=arn, Tags={"a": "b"})
l.untag_resource(Resource=arn, TagKeys=["a b", "a", "Z", "é"])
l.create_function(FunctionName="f", Role="arn:aws:iam::123456789012:role/r", Code={"ZipFile": b"PK" * 100000})
l.invoke(FunctionName="f", Payload=b'{"a": 1}', LogType="Tail", ClientContext="eyJ9")
l.get_durable_execution(DurableExecutionArn=arn + ":1/durable-execution/run/id")
i.create_role(RoleName="r", AssumeRolePolicyDocument='{"a b": "+&=%"}')
s.get_caller_identity()
for presigned in (s.generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET"),
                  l.generate_presigned_url("list_functions", {"Marker": "a b"}, ExpiresIn=604800)):
    assert urllib.request.urlopen(presigned).headers["X-Verified"] == "yes"
`
	out, err := exec.Command("python3", "-c", script, guard(t).URL).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// signed is a request as the SDK's signer makes it, received by a server.
func signed(t testing.TB, method, target, text string, at time.Time, change func(*http.Request)) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, "http://localhost:4566"+target, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	digest := sha256.Sum256([]byte(text))
	hash := hex.EncodeToString(digest[:])
	if declared := r.Header.Get("X-Amz-Content-Sha256"); declared != "" {
		hash = declared
	}
	err = v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, r, hash, "lambda", region, at)
	if err != nil {
		t.Fatal(err)
	}
	return received(t, r)
}

// received passes a client's request over the wire.
func received(t testing.TB, r *http.Request) *http.Request {
	t.Helper()
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		t.Fatal(err)
	}
	got := readRequest(wire.Bytes())
	if got == nil {
		t.Fatal("the request does not survive the wire")
	}
	return got
}

func TestVerify(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const target = "/2015-03-31/functions/a%3Ab//c?x=1&b=%20"
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	auth := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
		}
	}
	tests := []struct {
		name          string
		at            time.Time
		before, after func(*http.Request) // before and after signing
		want          thaw.ErrorCode      // empty: accepted
		message       string
	}{
		{name: "as signed"},
		{name: "behind, within the skew", at: now.Add(-5 * time.Minute)},
		{name: "ahead, within the skew", at: now.Add(5 * time.Minute)},
		{name: "signed header with blanks", before: header("X-Amz-Meta", "  a   b  ")},
		{name: "unsigned payload", before: header("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")},
		{name: "header added on the way", after: header("Via", "proxy")},
		{name: "too old", at: now.Add(-5*time.Minute - time.Second), want: thaw.CodeInvalidSignature,
			message: "Signature expired: 20260102T025904Z is now earlier than 20260102T025905Z (20260102T030405Z - 5 min.)"},
		{name: "too new", at: now.Add(5*time.Minute + time.Second), want: thaw.CodeInvalidSignature, message: "Signature not yet current: "},
		{name: "no signature", after: func(r *http.Request) { r.Header.Del("Authorization") }, want: thaw.CodeMissingAuthentication, message: "Missing Authentication Token"},
		{name: "another scheme", after: header("Authorization", "Bearer x"), want: thaw.CodeIncompleteSignature},
		{name: "no parameters", after: header("Authorization", "AWS4-HMAC-SHA256"), want: thaw.CodeIncompleteSignature,
			message: "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter."},
		{name: "short credential", after: auth("/eu-west-1/lambda/aws4_request", ""), want: thaw.CodeIncompleteSignature},
		{name: "unknown key", after: auth(testKey, "AKIDOTHER"), want: thaw.CodeUnrecognizedClient, message: "The security token included in the request is invalid."},
		{name: "another region", after: auth(region, "us-east-1"), want: thaw.CodeInvalidSignature, message: "The request signature we calculated does not match"},
		{name: "another service", after: auth("/lambda/", "/iam/"), want: thaw.CodeInvalidSignature},
		{name: "another day", after: auth("20260102", "20260103"), want: thaw.CodeInvalidSignature, message: "Date in Credential scope does not match"},
		{name: "date of another form", after: header("X-Amz-Date", "now"), want: thaw.CodeIncompleteSignature},
		{name: "another date", after: header("X-Amz-Date", "20260102T030406Z"), want: thaw.CodeInvalidSignature},
		{name: "signature that is no number", after: auth("Signature=", "Signature=zz"), want: thaw.CodeInvalidSignature},
		{name: "host not signed", after: auth("host;", ""), want: thaw.CodeInvalidSignature, message: "'Host' must be a 'SignedHeader'"},
		{name: "date not signed", after: auth(";x-amz-date", ""), want: thaw.CodeInvalidSignature},
		{name: "headers out of order", after: auth("host;x-amz-date", "x-amz-date;host"), want: thaw.CodeInvalidSignature},
		{name: "another method", after: func(r *http.Request) { r.Method = "PUT" }, want: thaw.CodeInvalidSignature},
		{name: "another path", after: func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/x", "" }, want: thaw.CodeInvalidSignature},
		{name: "another query", after: func(r *http.Request) { r.URL.RawQuery += "&c=2" }, want: thaw.CodeInvalidSignature},
		{name: "another host", after: func(r *http.Request) { r.Host = "elsewhere" }, want: thaw.CodeInvalidSignature},
		{name: "another body", after: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("other")) }, want: thaw.CodeInvalidSignature},
		{name: "another body than declared", before: header("X-Amz-Content-Sha256", strings.Repeat("0", 64)), want: thaw.CodeInvalidSignature, message: "x-amz-content-sha256"},
		{name: "streamed payload", before: header("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), want: thaw.CodeInvalidSignature, message: "STREAMING"},
		{name: "body too large", after: func(r *http.Request) { r.ContentLength = maxCodeBody + 1 }, want: thaw.CodeRequestEntityTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.at.IsZero() {
				tt.at = now
			}
			r := signed(t, "POST", target, "the body", tt.at, tt.before)
			if tt.after != nil {
				tt.after(r)
			}
			v := testVerifier()
			v.now = func() time.Time { return now }
			key, err := v.Verify(r)
			if tt.want == "" {
				if err != nil || key != testKey {
					t.Fatalf("got %q, %v", key, err)
				}
				if text, _ := io.ReadAll(r.Body); string(text) != "the body" {
					t.Errorf("the body is %q afterwards", text)
				}
				return
			}
			if thaw.CodeOf(err) != tt.want || !strings.Contains(err.Error(), tt.message) || key != "" {
				t.Errorf("got %q, %v\nwant %s: %s", key, err, tt.want, tt.message)
			}
		})
	}
}

func TestVerifyPresigned(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	presign := func(expires string) *http.Request {
		r := httptest.NewRequest("GET", "http://localhost:4566/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Expires="+expires, nil)
		r.RequestURI = ""
		uri, _, err := v4.NewSigner().PresignHTTP(context.Background(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, r, empty, "sts", region, now)
		if err != nil {
			t.Fatal(err)
		}
		return httptest.NewRequest("GET", uri, nil)
	}
	tests := []struct {
		name, expires string
		after         time.Duration
		change        func(*http.Request)
		want          thaw.ErrorCode
	}{
		{name: "at once", expires: "60"},
		{name: "at its end", expires: "604800", after: 7 * 24 * time.Hour},
		{name: "ahead, within the skew", expires: "60", after: -5 * time.Minute},
		{name: "too late", expires: "60", after: 61 * time.Second, want: thaw.CodeInvalidSignature},
		{name: "too early", expires: "60", after: -301 * time.Second, want: thaw.CodeInvalidSignature},
		{name: "too long a life", expires: "604801", want: thaw.CodeIncompleteSignature},
		{name: "no life", expires: "0", want: thaw.CodeIncompleteSignature},
		{name: "life prolonged", expires: "60", change: func(r *http.Request) {
			r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "X-Amz-Expires=60", "X-Amz-Expires=600", 1)
		}, want: thaw.CodeInvalidSignature},
		{name: "no date", expires: "60", change: func(r *http.Request) {
			r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "X-Amz-Date=", "X-Amz-Dated=", 1)
		}, want: thaw.CodeIncompleteSignature},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := presign(tt.expires)
			if tt.change != nil {
				tt.change(r)
			}
			v := testVerifier()
			v.now = func() time.Time { return now.Add(tt.after) }
			key, err := v.Verify(r)
			if tt.want == "" && (err != nil || key != testKey) || tt.want != "" && thaw.CodeOf(err) != tt.want {
				t.Errorf("got %q, %v; want %q", key, err, tt.want)
			}
		})
	}
}

// TestCanonicalPaths holds both forms of a path with empty or dotted segments: as it is, and as botocore resolves it.
func TestCanonicalPaths(t *testing.T) {
	for wire, want := range map[string][]string{
		"/":                 {"/"},
		"/a%3Ab/c":          {"/a%253Ab/c"},
		"/a//b/../c/./d/":   {"/a//b/../c/./d/", "/a/c/d/"},
		"/functions/":       {"/functions/"},
		"/a b":              {"/a%2520b"},
		"/%2e%2e/x%2F..%2F": {"/%252e%252e/x%252F..%252F"},
	} {
		u := new(url.URL)
		if path, err := url.PathUnescape(wire); err == nil {
			u.Path, u.RawPath = path, wire
		}
		if got := canonicalPaths(u); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", wire, got, want)
		}
	}
}

// TestVerifyReadsNoStrangersBody shows that a body is not buffered for a caller who has no key.
func TestVerifyReadsNoStrangersBody(t *testing.T) {
	r := signed(t, "POST", "/", "body", time.Now(), nil)
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), testKey, "AKIDOTHER", 1))
	r.Body = io.NopCloser(readerFunc(func([]byte) (int, error) { t.Error("the body was read"); return 0, io.EOF }))
	if _, err := testVerifier().Verify(r); thaw.CodeOf(err) != thaw.CodeUnrecognizedClient {
		t.Error(err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestVerifyThenServe shows that a verified body reaches the handler without being read twice.
func TestVerifyThenServe(t *testing.T) {
	s := newLambda(t)
	var got []byte
	Handle(s, "Invoke", func(ctx context.Context, in *lambda.InvokeInput) (*lambda.InvokeOutput, error) {
		got = in.Payload
		if req := RequestFrom(ctx); req.AccessKey != testKey || req.Region != region || req.Operation != "Invoke" || req.Service != "lambda" || req.ID == "" {
			t.Errorf("the request is %+v", req)
		}
		return nil, nil
	})
	r := signed(t, "POST", "/2015-03-31/functions/f/invocations", `{"a":1}`, time.Now(), nil)
	if _, err := testVerifier().Verify(r); err != nil {
		t.Fatal(err)
	}
	s.ServeHTTP(httptest.NewRecorder(), r)
	if string(got) != `{"a":1}` {
		t.Errorf("the handler got %q", got)
	}
}
