package awsapi

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// readRequest reads a request as a server does; nil when it is none.
func readRequest(wire []byte) *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire)))
	if err != nil {
		return nil
	}
	return r
}

// seeds adds the golden requests of a service.
func seeds(f *testing.F, service string) {
	archive, err := txtar.ParseFile(filepath.Join("testdata", service+".txtar"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		if strings.HasSuffix(file.Name, "/request") {
			line, rest, _ := strings.Cut(string(file.Data), "\n")
			f.Add([]byte(strings.ReplaceAll(line, " /", " http://localhost/") + " HTTP/1.1\r\n" + strings.Replace(rest, "\n", "\r\n", 3)))
		}
	}
}

// fuzzService sends arbitrary requests to all operations. Each must be answered, by a handler or with the caller's
// mistake, and never with a failure of the service.
func fuzzService(f *testing.F, name string) {
	s := newService(f, name)
	s.Log = slog.New(slog.DiscardHandler)
	for _, c := range calls(s.model, clients[name]("http://localhost")) {
		if s.model.stream(s.model.Operations[c.name]) != nil {
			continue
		}
		s.handle(c.name, c.in, c.out, func(_ context.Context, in any) (any, error) {
			if in == nil {
				panic("no input")
			}
			return reflect.New(c.out).Interface(), nil
		})
	}
	seeds(f, name)
	f.Fuzz(func(t *testing.T, wire []byte) {
		r := readRequest(wire)
		if r == nil {
			return
		}
		Identify(r)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != http.StatusNotImplemented {
			if _, err := io.ReadAll(r.Body); err == nil {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
	})
}

func FuzzLambda(f *testing.F) { fuzzService(f, "lambda") }

func FuzzSQS(f *testing.F) {
	for _, form := range []string{
		"Action=SendMessage&MessageBody=b&MessageAttribute.1.Name=n&MessageAttribute.1.Value.DataType=Binary&MessageAttribute.1.Value.BinaryValue=AP8%3D",
		"Action=SetQueueAttributes&Attribute.Name=Policy&Attribute.Value=",
		"Action=GetQueueAttributes&AttributeName.1=All&AttributeName=b",
	} {
		f.Add([]byte("POST /123456789012/q HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: " + strconv.Itoa(len(form)) + "\r\n\r\n" + form))
	}
	fuzzService(f, "sqs")
}

func FuzzIAM(f *testing.F) { fuzzService(f, "iam") }

func FuzzApplicationAutoScaling(f *testing.F) { fuzzService(f, "application-autoscaling") }

func FuzzEvents(f *testing.F) { fuzzService(f, "events") }

func FuzzScheduler(f *testing.F) { fuzzService(f, "scheduler") }

func FuzzLogs(f *testing.F) { fuzzService(f, "logs") }

// FuzzMonitoring has the golden requests of CloudWatch in JSON and as forms; FuzzCBOR is about its third protocol.
func FuzzMonitoring(f *testing.F) {
	seeds(f, "monitoring@json")
	seeds(f, "monitoring@query")
	fuzzService(f, "monitoring")
}

func FuzzSTS(f *testing.F) { fuzzService(f, "sts") }

// FuzzRoute looks for a path that the router trips over, or gives to two operations from one run to the next.
func FuzzRoute(f *testing.F) {
	m, err := models["lambda"]()
	if err != nil {
		f.Fatal(err)
	}
	for _, op := range m.Operations {
		f.Add(op.Method, op.URI)
	}
	f.Add("GET", "/2017-03-31/tags/arn%3Aaws/%zz//")
	one, two := newRouter(m), newRouter(m)
	f.Fuzz(func(t *testing.T, method, target string) {
		r := readRequest([]byte(method + " " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		if r == nil {
			return
		}
		a, errA := one.find(r)
		b, errB := two.find(r)
		if a.op != b.op || (errA == nil) != (errB == nil) {
			t.Errorf("%s and %s", a.op.name, b.op.name)
		}
		for label, value := range a.labels {
			if value == "" {
				t.Errorf("%s is empty", label)
			}
		}
	})
}

// FuzzSignature looks for a header or query that trips the reader of signatures, or that passes without the secret.
func FuzzSignature(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKID/20260102/eu-west-1/lambda/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("00", 32), "20260102T030405Z", "a=1&X-Amz-Expires=60")
	f.Add("", "", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2F20260102%2Feu-west-1%2Fsts%2Faws4_request&X-Amz-Date=20260102T030405Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00")
	f.Add("AWS4-HMAC-SHA256", "Fri, 02 Jan 2026 03:04:05 GMT", "%zz=&&=")
	f.Fuzz(func(t *testing.T, authorization, date, query string) {
		r := httptest.NewRequest("POST", "/a//b/../c", strings.NewReader("body"))
		r.URL.RawQuery = query
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		r.Header.Set("X-Amz-Date", date)
		Identify(r)
		s, err := readSignature(r)
		if err != nil {
			return
		}
		v := NewVerifier(func(string) (string, bool) { return "a secret that nobody has used", true })
		v.now = func() time.Time { return s.time }
		if _, err := v.Verify(r); err == nil {
			t.Error("accepted")
		}
	})
}
