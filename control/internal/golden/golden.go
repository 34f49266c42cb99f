// Package golden runs files of recorded conversations against an HTTP handler, for tests. A file is a txtar archive whose
// sections are, in turn, requests and answers:
//
//	-- POST /2015-03-31/functions --
//	{"FunctionName": "hello", …}
//	-- 201 --
//	{"FunctionName": "hello", …}
//
// A section whose name begins with another word than an HTTP method or a status is a step of the test's own, such as
// "settle hello". In requests, $NAME stands for a variable of the test. In answers, whatever changes from run to run is
// masked. With the flag -update the answers are written anew.
package golden

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the answers of golden files anew")

// Conversation is what a file runs against.
type Conversation struct {
	Handler http.Handler
	// ContentType is sent with requests that have a body.
	ContentType string
	// Variables replace $NAME in requests.
	Variables map[string]string
	// Step runs a section of the test's own.
	Step func(t *testing.T, word, argument string)
}

// Run runs every file of testdata that ends in .txtar as a subtest, each against a conversation of its own.
func Run(t *testing.T, start func(t *testing.T) Conversation) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { runFile(t, file, start(t)) })
	}
}

func runFile(t *testing.T, file string, c Conversation) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var last *httptest.ResponseRecorder
	var asked string
	for i, section := range archive.Files {
		word, argument, _ := strings.Cut(section.Name, " ")
		switch {
		case word == strings.ToUpper(word) && !isStatus(word):
			asked = section.Name
			last = c.send(word, argument, section.Data)
		case isStatus(word):
			got := fmt.Sprint(last.Code)
			if kind := last.Header().Get("X-Amzn-ErrorType"); kind != "" {
				got += " " + kind
			}
			body := pretty(last.Body.Bytes())
			if *update {
				archive.Files[i] = txtar.File{Name: got, Data: []byte(body)}
				continue
			}
			if got != section.Name || body != string(section.Data) {
				t.Errorf("%s: answer %d to %s\n got %s\n%s\nwant %s\n%s", file, i, asked, got, body, section.Name, section.Data)
			}
		default:
			c.Step(t, word, argument)
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func isStatus(word string) bool {
	_, err := strconv.Atoi(word)
	return err == nil
}

func (c Conversation) send(method, target string, body []byte) *httptest.ResponseRecorder {
	value := func(name string) string {
		if v, ok := c.Variables[name]; ok {
			return v
		}
		return "$" + name
	}
	text := os.Expand(strings.TrimSpace(string(body)), value)
	r := httptest.NewRequest(method, strings.ReplaceAll(os.Expand(target, value), " ", "%20"), strings.NewReader(text))
	if text != "" {
		r.Header.Set("Content-Type", c.ContentType)
	}
	w := httptest.NewRecorder()
	c.Handler.ServeHTTP(w, r)
	return w
}

// Targeted sends requests on to handler with the operation's name, which they have in their path where golden files can
// show it, in the header X-Amz-Target, as the JSON protocols have it. service is what AWS puts before it there.
func Targeted(service string, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("X-Amz-Target", service+"."+strings.TrimPrefix(r.URL.Path, "/"))
		r.URL.Path = "/"
		handler.ServeHTTP(w, r)
	})
}

// masks hide what no two runs have in common.
var masks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000`), "TIME+0000"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000`), "SECONDS+0000"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIMEZ"},
	{regexp.MustCompile(`("LastModified": )\d{10}(\.\d+)?`), "${1}EPOCH"},
	{regexp.MustCompile(`expires=\d+`), "expires=TIME"},
	{regexp.MustCompile(`token=[0-9a-f]{64}`), "token=TOKEN"},
	{regexp.MustCompile(`scalable-target/[0-9a-f]{36}`), "scalable-target/ID"},
	{regexp.MustCompile(`(Timestamp(": "?|</Name>\n<Value>|>))\d{10,13}\b`), "${1}EPOCH"},
	{regexp.MustCompile(`("(creation|ingestion|lastIngestion|create)Time": )\d{13}\b`), "${1}EPOCH"},
	{regexp.MustCompile(`("uploadSequenceToken": ")\d{56}`), "${1}TOKEN"},
	{regexp.MustCompile(`((Receipt|Task)Handle(": "|>))[\w+/=-]{12,}`), "${1}HANDLE"},
	{regexp.MustCompile(`Value [\w-]{12,} for parameter ReceiptHandle`), "Value HANDLE for parameter ReceiptHandle"},
	{regexp.MustCompile(`(SequenceNumber(": "|</Name>\n<Value>|>))\d{20}`), "${1}SEQUENCE"},
	{regexp.MustCompile(`\b(AROA|ANPA)[A-Z2-7]{17}\b`), "${1}ID"},
}

// pretty indents JSON, so that a difference is one line, and masks. Other text gets a line end only.
func pretty(body []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, body, "", "  ") != nil {
		b.Reset()
		b.WriteString(strings.ReplaceAll(string(body), "><", ">\n<"))
	}
	text := b.String()
	for _, m := range masks {
		text = m.pattern.ReplaceAllString(text, m.with)
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text
}
