package awsapi

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write testdata/*.txtar from what the SDK sends and the service answers")

// A tape records what an SDK client sends and a service answers, and compares it with the golden file of the service.
// The golden files show the wire form to readers, and are the seeds of the fuzz tests.
type tape struct {
	next    http.Handler
	path    string
	golden  map[string]string
	archive txtar.Archive
	request string
	answer  string
}

func newTape(t *testing.T, service string, next http.Handler) *tape {
	tp := &tape{next: next, path: filepath.Join("testdata", service+".txtar"), golden: make(map[string]string)}
	tp.archive.Comment = []byte("What the SDK's client sends, and what the service answers, for each operation with every member set.\n" +
		"Written by go test -update; headers that differ from run to run are left out.\n\n")
	if *update {
		return tp
	}
	archive, err := txtar.ParseFile(tp.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.Files {
		tp.golden[f.Name] = string(f.Data)
	}
	return tp
}

func (tp *tape) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(text))
	tp.request = fmt.Sprintf("%s %s\n%s\n%s\n", r.Method, r.URL.RequestURI(), steady(r.Header), readable(r.Header, text))
	ctx := WithRequest(r.Context(), Request{ID: "01234567-89ab-cdef-0123-456789abcdef"})
	answer := httptest.NewRecorder()
	tp.next.ServeHTTP(answer, r.WithContext(ctx))
	tp.answer = fmt.Sprintf("%d\n%s\n%s\n", answer.Code, steady(answer.Header()), readable(answer.Header(), answer.Body.Bytes()))
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// readable is a body as people read it: CBOR in its diagnostic notation, with the entries of maps in order.
func readable(header http.Header, text []byte) string {
	if header.Get("Content-Type") != cborContentType {
		return string(text)
	}
	var tree any
	err := cbor.Unmarshal(text, &tree)
	if err == nil {
		text, err = cborText.Marshal(tree)
	}
	if err == nil {
		var notation string
		if notation, err = cbor.Diagnose(text); err == nil {
			return notation
		}
	}
	return err.Error()
}

// steady prints the headers that do not differ from run to run.
func steady(header http.Header) string {
	var lines []string
	for name, values := range header {
		switch name {
		case "Accept-Encoding", "Amz-Sdk-Invocation-Id", "Amz-Sdk-Request", "Authorization", "User-Agent", "X-Amz-Date":
			continue
		}
		lines = append(lines, name+": "+strings.Join(values, ", ")+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func (tp *tape) check(t *testing.T, operation string) {
	for _, part := range []struct{ name, text string }{{operation + "/request", tp.request}, {operation + "/response", tp.answer}} {
		tp.archive.Files = append(tp.archive.Files, txtar.File{Name: part.name, Data: []byte(part.text)})
		if *update {
			continue
		}
		if diff := cmp.Diff(tp.golden[part.name], part.text); diff != "" {
			t.Errorf("%s differs from %s (go test -update writes it anew):\n%s", part.name, tp.path, diff)
		}
	}
}

func (tp *tape) save(t *testing.T) {
	if *update && !t.Failed() {
		if err := os.WriteFile(tp.path, txtar.Format(&tp.archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestModelsAreCurrent has the generator compare the committed models with what it would write.
func TestModelsAreCurrent(t *testing.T) {
	script, err := os.ReadFile("models/generate.py")
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(string(script), "VERSION = \"")
	version, _, _ = strings.Cut(version, "\"")
	have, err := exec.Command("python3", "-c", "import botocore; print(botocore.__version__)").Output()
	if err != nil || strings.TrimSpace(string(have)) != version {
		t.Skipf("python3 with botocore %s is not here (%q), so the models cannot be made anew", version, have)
	}
	if out, err := exec.Command("python3", "-B", "models/generate.py", "--check").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// snapshots is the folder of the SDK module, which carries the wire form of every operation as its generator sees it.
func snapshots(t *testing.T, folder string) string {
	const module = "github.com/aws/aws-sdk-go-v2/service/lambda"
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	path := filepath.Join(strings.TrimSpace(string(out)), folder)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("this version of %s carries no %s", module, folder)
	}
	return path
}

// readSnapshot splits a file into its first line, its headers and its body.
func readSnapshot(t *testing.T, path string) (line string, header http.Header, body string) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line, rest, _ := strings.Cut(string(text), "\n")
	header = make(http.Header)
	for {
		var h string
		if h, rest, _ = strings.Cut(strings.TrimPrefix(rest, "\n"), "\n"); h == "" {
			break
		}
		name, value, ok := strings.Cut(h, ": ")
		if !ok {
			t.Fatalf("%s: %q is no header", path, h)
		}
		header.Add(name, value)
		if strings.HasPrefix(rest, "\n") || rest == "" {
			return line, header, strings.TrimPrefix(rest, "\n")
		}
	}
	return line, header, rest
}

// TestRequestSnapshots decodes the SDK's own request of every operation, lets the SDK encode the outcome, and compares.
func TestRequestSnapshots(t *testing.T) {
	folder := snapshots(t, "request_snapshot")
	s := newLambda(t)
	var sent *http.Request
	var sentBody []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sentBody, _ = io.ReadAll(r.Body)
		sent = r
		w.WriteHeader(http.StatusTeapot)
	}))
	defer server.Close()
	for _, c := range calls(s.model, clients["lambda"](server.URL)) {
		if c.name == "InvokeWithResponseStream" {
			continue // the SDK has no snapshot of it
		}
		t.Run(c.name, func(t *testing.T) {
			line, header, text := readSnapshot(t, filepath.Join(folder, c.name+".request.snap"))
			method, target, _ := strings.Cut(line, " ")
			r := httptest.NewRequest(method, target, strings.NewReader(text))
			r.Header = header
			call, err := s.router.find(r)
			if err != nil || call.op.name != c.name {
				t.Fatalf("routed to %v, %v", call.op, err)
			}
			n, err := s.binder.bind(call.op.Input, c.in)
			if err != nil {
				t.Fatal(err)
			}
			in := reflect.New(c.in)
			if _, err := decodeREST(httptest.NewRecorder(), r, &handler{op: call.op, input: n, limit: maxRESTBody}, call, in.Elem()); err != nil {
				t.Fatal(err)
			}
			sent = nil
			if _, err = c.invoke(in); sent == nil {
				t.Fatal(err)
			}
			if sent.Method != method || sent.URL.RequestURI() != target {
				t.Errorf("sent %s %s, snapshot %s %s", sent.Method, sent.URL.RequestURI(), method, target)
			}
			for name := range header {
				if sent.Header.Get(name) != header.Get(name) {
					t.Errorf("sent %s: %q, snapshot %q", name, sent.Header.Get(name), header.Get(name))
				}
			}
			compareText(t, string(sentBody), text)
		})
	}
}

// TestResponseSnapshots lets the SDK decode its own answer of every operation, encodes the outcome, and compares.
func TestResponseSnapshots(t *testing.T) {
	folder := snapshots(t, "response_snapshot")
	s := newLambda(t)
	var status int
	var header http.Header
	var text string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name := range header {
			w.Header().Set(name, header.Get(name))
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}))
	defer server.Close()
	f := filler{}
	for _, c := range calls(s.model, clients["lambda"](server.URL)) {
		if c.name == "InvokeWithResponseStream" {
			continue // its answer is an event stream
		}
		t.Run(c.name, func(t *testing.T) {
			var line string
			line, header, text = readSnapshot(t, filepath.Join(folder, c.name+".response.snap"))
			if _, err := fmt.Sscan(line, &status); err != nil {
				t.Fatal(err)
			}
			in := reflect.New(c.in)
			input, err := s.binder.bind(s.model.Operations[c.name].Input, c.in)
			if err != nil {
				t.Fatal(err)
			}
			f.required(input, in.Elem())
			out, err := c.invoke(in)
			if err != nil {
				t.Fatal(err)
			}
			n, err := s.binder.bind(s.model.Operations[c.name].Output, c.out)
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			if err := s.writeREST(w, &handler{op: s.model.Operations[c.name], output: n}, "", out.Elem()); err != nil {
				t.Fatal(err)
			}
			for name := range header {
				if name != "Content-Type" && w.Header().Get(name) != header.Get(name) {
					t.Errorf("answered %s: %q, snapshot %q", name, w.Header().Get(name), header.Get(name))
				}
			}
			// The status is the HTTP status; only the SDK's generator writes it into the body, too, and no client reads it there.
			for _, f := range n.fields {
				if f.In == inStatus {
					text = strings.Replace(text, `"`+f.Name+`":200`, "", 1)
				}
			}
			compareText(t, w.Body.String(), text)
		})
	}
}

// compareText compares two bodies, as JSON where they are.
func compareText(t *testing.T, got, want string) {
	t.Helper()
	var g, w any
	if json.Unmarshal([]byte(got), &g) == nil && json.Unmarshal([]byte(want), &w) == nil {
		if diff := cmp.Diff(w, g); diff != "" {
			t.Errorf("body, want and got:\n%s", diff)
		}
		return
	}
	if got != want {
		t.Errorf("body %q, want %q", got, want)
	}
}

// required sets only the required members, to anything that the SDK accepts.
func (f *filler) required(n *node, v reflect.Value) {
	for i := range n.fields {
		m := &n.fields[i]
		if !m.Required {
			continue
		}
		place := settle(v.Field(m.index))
		switch m.node.kind {
		case kindString:
			place.SetString("x")
		case kindStructure:
			f.required(m.node, place)
		case kindList:
			place.Set(reflect.MakeSlice(m.node.typ, 0, 0))
		case kindMap:
			place.Set(reflect.MakeMap(m.node.typ))
		case kindStream:
			place.Set(reflect.ValueOf(strings.NewReader("x")))
		case kindBlob:
			place.SetBytes([]byte("x"))
		}
	}
}

// TestAbsentMembers shows what an output leaves out: nil members and empty enumerations, but not empty lists or numbers
// that the SDK holds without pointer.
func TestAbsentMembers(t *testing.T) {
	s := newLambda(t)
	Handle(s, "GetFunctionConfiguration", func(context.Context, *lambda.GetFunctionConfigurationInput) (*lambda.GetFunctionConfigurationOutput, error) {
		return &lambda.GetFunctionConfigurationOutput{State: types.StatePending, Layers: []types.Layer{}, Description: new("")}, nil
	})
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/2015-03-31/functions/f/configuration", nil))
	if want := `{"CodeSize":0,"Description":"","Layers":[],"State":"Pending"}`; w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	} else {
		compareText(t, w.Body.String(), want)
	}
}

// TestInvokeStatuses shows that an output's own status goes before the model's.
func TestInvokeStatuses(t *testing.T) {
	s := newLambda(t)
	s.Log = slog.New(slog.DiscardHandler)
	out := new(lambda.InvokeOutput)
	Handle(s, "Invoke", func(context.Context, *lambda.InvokeInput) (*lambda.InvokeOutput, error) { return out, nil })
	for _, tt := range []struct {
		out    lambda.InvokeOutput
		status int
		body   string
	}{
		{lambda.InvokeOutput{StatusCode: 200, Payload: []byte("null")}, 200, "null"},
		{lambda.InvokeOutput{StatusCode: 202}, 202, ""},
		{lambda.InvokeOutput{StatusCode: 204}, 204, ""},
		{lambda.InvokeOutput{}, 200, ""},
		{lambda.InvokeOutput{StatusCode: 99}, 500, "ServiceException"},
	} {
		out = &tt.out
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", "/2015-03-31/functions/f/invocations", nil))
		got := w.Body.String()
		if w.Code == 500 {
			got = w.Header().Get("X-Amzn-ErrorType")
		}
		if w.Code != tt.status || got != tt.body {
			t.Errorf("%d %q, want %d %q", w.Code, got, tt.status, tt.body)
		}
	}
}
