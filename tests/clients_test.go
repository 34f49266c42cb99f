package tests

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw/tests/harness"
)

// step is one call of a session; every client takes the same ones.
type step struct {
	Verb    string `json:"verb"` // create, active (wait), invoke, update, updated (wait), get, delete
	Name    string `json:"name"`
	Runtime string `json:"runtime"`
	Handler string `json:"handler"`
	Zip     string `json:"zip"` // path of the package
	Event   string `json:"event"`
}

// outcome is what a client made of the answer.
type outcome struct {
	Status        int    `json:"status"`
	State         string `json:"state"`
	Update        string `json:"update"`
	SHA256        string `json:"sha256"`
	Payload       string `json:"payload"`
	Log           string `json:"log"`
	Executed      string `json:"executed"`
	FunctionError string `json:"function_error"`
	Error         string `json:"error"`
	Message       string `json:"message"`
}

type client func(t *testing.T, p *harness.Platform, s *step) outcome

// release is a package whose function answers with its release's name and with what its third-party package found.
type release struct {
	zip, runtime, handler string
}

func TestSessions(t *testing.T) {
	for _, session := range []struct {
		name    string
		client  func(t *testing.T) client
		release func(t *testing.T, name string) release
	}{
		{"aws-cli", awsCLI, pythonRelease},
		{"boto3", boto3, pythonRelease},
		{"aws-sdk-go-v2", func(*testing.T) client { return goSDK }, goRelease},
		{"client-lambda", nodeSDK, nodeRelease},
	} {
		t.Run(session.name, func(t *testing.T) { runSession(t, session.client(t), session.release) })
	}
}

// order is the event of all sessions; a function answers with the names in it.
const order = `{"order": {"items": [{"name": "tea"}, {"name": "Käse"}]}}`

func runSession(t *testing.T, call client, pack func(t *testing.T, name string) release) {
	p := harness.Start(t, harness.Options{Config: network + cold})
	do := func(verb string, r *release) outcome {
		t.Helper()
		return call(t, p, &step{Verb: verb, Name: "session", Event: order, Zip: r.zip, Runtime: r.runtime, Handler: r.handler})
	}
	answers := func(name string, cold bool) {
		t.Helper()
		checkAnswer(t, do("invoke", &release{}), name, cold)
	}
	one, two := pack(t, "one"), pack(t, "two")

	if made := do("create", &one); made.State != "Pending" || made.Update != "" {
		t.Errorf("created: %+v", made)
	}
	do("active", &one)
	answers("one", true)
	answers("one", false)
	before := do("get", &one)
	if before.State != "Active" || before.Update != "Successful" {
		t.Errorf("active: %+v", before)
	}

	if updating := do("update", &two); updating.Update != "InProgress" || updating.SHA256 == before.SHA256 {
		t.Errorf("update: %+v", updating)
	}
	do("updated", &two)
	answers("two", true)
	answers("two", false)

	p.Kill()
	p = harness.Start(t, harness.Options{Config: network + cold, Data: p.Data})
	if after := do("get", &two); after.State != "Active" || after.Update != "Successful" || after.SHA256 == before.SHA256 {
		t.Errorf("after the kill: %+v", after)
	}
	answers("two", true)

	if gone := do("delete", &two); gone.Error != "" {
		t.Errorf("delete: %+v", gone)
	}
	want := "Function not found: arn:aws:lambda:us-east-1:000000000000:function:session"
	if gone := do("get", &two); gone.Error != "ResourceNotFoundException" || gone.Message != want {
		t.Errorf("after the delete: %+v", gone)
	}
	p.Stop()
	harness.NothingLeft(t, p.Data)
}

// The log's tail as a whole: what a cold start writes first, the function's own line, and AWS's lines around it.
var (
	tail = regexp.MustCompile(`\A(INIT_START Runtime Version: [^\t\n]+\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:[0-9a-f]+\n)?` +
		`START RequestId: ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) Version: \$LATEST\n((?s:.*\n))` +
		`END RequestId: ([0-9a-f-]{36})\n` +
		`REPORT RequestId: ([0-9a-f-]{36})\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\tMax Memory Used: \d+ MB\t(Init Duration: \d+\.\d\d ms\t)?\n\z`)
	nodeLine = regexp.MustCompile(`\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t([0-9a-f-]{36})\tINFO\t(.*\n)\z`)
)

// checkAnswer holds an invocation of the session's function to what AWS's answer would be.
func checkAnswer(t *testing.T, got outcome, name string, cold bool) {
	t.Helper()
	if got.Status != 200 || got.FunctionError != "" || got.Executed != "$LATEST" {
		t.Errorf("answer: %+v", got)
	}
	var payload struct {
		Release string
		Names   []string
	}
	if err := json.Unmarshal([]byte(got.Payload), &payload); err != nil || payload.Release != name || !slices.Equal(payload.Names, []string{"tea", "Käse"}) {
		t.Errorf("want release %s, got %s (%v)", name, got.Payload, err)
	}
	m := tail.FindStringSubmatch(got.Log)
	if m == nil {
		t.Fatalf("the log's tail:\n%q", got.Log)
	}
	line := m[3]
	if n := nodeLine.FindStringSubmatch(line); n != nil && n[1] == m[2] {
		line = n[2]
	}
	if line != "this is release "+name+"\n" || m[4] != m[2] || m[5] != m[2] {
		t.Errorf("the log's tail:\n%q", got.Log)
	}
	if first, init := m[1] != "", m[6] != ""; first != cold || init != cold {
		t.Errorf("cold is %v, but the log's tail is:\n%q", cold, got.Log)
	}
}

// awsCLI gives each step to the AWS CLI, version 1 or 2.
func awsCLI(t *testing.T) client {
	program := filepath.Join(awsDir(t), "aws")
	return func(t *testing.T, p *harness.Platform, s *step) outcome {
		t.Helper()
		dir := t.TempDir()
		event, answer := filepath.Join(dir, "event.json"), filepath.Join(dir, "answer.json")
		if err := os.WriteFile(event, []byte(s.Event), 0o600); err != nil {
			t.Fatal(err)
		}
		args := map[string][]string{
			"create": {
				"create-function", "--runtime", s.Runtime, "--handler", s.Handler,
				"--role", "arn:aws:iam::000000000000:role/clients", "--zip-file", "fileb://" + s.Zip,
			},
			"active":  {"wait", "function-active-v2"},
			"invoke":  {"invoke", "--log-type", "Tail", "--payload", "fileb://" + event, answer},
			"update":  {"update-function-code", "--zip-file", "fileb://" + s.Zip},
			"updated": {"wait", "function-updated-v2"},
			"get":     {"get-function"},
			"delete":  {"delete-function"},
		}[s.Verb]
		args = append(append([]string{"lambda"}, args...), "--function-name", s.Name, "--output", "json")
		out, errText, err := run(t, p.Env(), "", program, args...)
		if err != nil {
			refusal := regexp.MustCompile(`An error occurred \((\w+)\) when calling the \w+ operation(?: \([^)]*\))?: (.*)`).FindStringSubmatch(errText)
			if refusal == nil {
				t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, errText)
			}
			return outcome{Error: refusal[1], Message: refusal[2]}
		}
		var said struct {
			State, LastUpdateStatus, CodeSha256, LogResult, ExecutedVersion, FunctionError string
			StatusCode                                                                     int
			Configuration                                                                  struct{ State, LastUpdateStatus, CodeSha256 string }
		}
		if out != "" {
			if err := json.Unmarshal([]byte(out), &said); err != nil {
				t.Fatalf("aws %s: %v\n%s", s.Verb, err, out)
			}
		}
		log, err := base64.StdEncoding.DecodeString(said.LogResult)
		if err != nil {
			t.Fatalf("LogResult: %v", err)
		}
		payload, err := os.ReadFile(answer)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		c := &said.Configuration
		return outcome{
			Status: said.StatusCode, State: said.State + c.State, Update: said.LastUpdateStatus + c.LastUpdateStatus,
			SHA256: said.CodeSha256 + c.CodeSha256, Payload: string(payload), Log: string(log),
			Executed: said.ExecutedVersion, FunctionError: said.FunctionError,
		}
	}
}

// program gives each step to a program of ours in the client's own language.
func program(interpreter, script string) client {
	return func(t *testing.T, p *harness.Platform, s *step) outcome {
		t.Helper()
		in, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		out, errText, err := run(t, p.Env(), string(in), interpreter, clientFile(script))
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", script, s.Verb, err, errText)
		}
		var o outcome
		if err := json.Unmarshal([]byte(out), &o); err != nil {
			t.Fatalf("%s %s: %v\n%s", script, s.Verb, err, out)
		}
		return o
	}
}

func boto3(t *testing.T) client { return program(findPython(t), "python/step.py") }

func nodeSDK(t *testing.T) client {
	return program(installNode(t), "node/step.mjs")
}

func goSDK(t *testing.T, p *harness.Platform, s *step) outcome {
	t.Helper()
	ctx, client, get := t.Context(), p.Lambda(), &lambda.GetFunctionInput{FunctionName: &s.Name}
	var o outcome
	var err error
	switch s.Verb {
	case "create":
		var out *lambda.CreateFunctionOutput
		out, err = client.CreateFunction(ctx, &lambda.CreateFunctionInput{
			FunctionName: &s.Name, Runtime: types.Runtime(s.Runtime), Handler: &s.Handler,
			Role: aws.String("arn:aws:iam::000000000000:role/clients"), Code: &types.FunctionCode{ZipFile: readFile(t, s.Zip)},
		})
		if err == nil {
			o = outcome{State: string(out.State), Update: string(out.LastUpdateStatus), SHA256: *out.CodeSha256}
		}
	case "active":
		err = lambda.NewFunctionActiveV2Waiter(client, func(o *lambda.FunctionActiveV2WaiterOptions) {
			o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second
		}).Wait(ctx, get, harness.Patience)
	case "updated":
		err = lambda.NewFunctionUpdatedV2Waiter(client, func(o *lambda.FunctionUpdatedV2WaiterOptions) {
			o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second
		}).Wait(ctx, get, harness.Patience)
	case "update":
		var out *lambda.UpdateFunctionCodeOutput
		out, err = client.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &s.Name, ZipFile: readFile(t, s.Zip)})
		if err == nil {
			o = outcome{State: string(out.State), Update: string(out.LastUpdateStatus), SHA256: *out.CodeSha256}
		}
	case "invoke":
		var out *lambda.InvokeOutput
		out, err = client.Invoke(ctx, &lambda.InvokeInput{FunctionName: &s.Name, Payload: []byte(s.Event), LogType: types.LogTypeTail})
		if err == nil {
			log, _ := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
			o = outcome{
				Status: int(out.StatusCode), Payload: string(out.Payload), Log: string(log),
				Executed: aws.ToString(out.ExecutedVersion), FunctionError: aws.ToString(out.FunctionError),
			}
		}
	case "get":
		out, e := client.GetFunction(ctx, get)
		if none, ok := errors.AsType[*types.ResourceNotFoundException](e); ok {
			return outcome{Error: none.ErrorCode(), Message: none.ErrorMessage()}
		}
		if err = e; err == nil {
			o = outcome{State: string(out.Configuration.State), Update: string(out.Configuration.LastUpdateStatus), SHA256: *out.Configuration.CodeSha256}
		}
	case "delete":
		_, err = client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &s.Name})
	}
	if err != nil {
		t.Fatalf("%s: %v", s.Verb, err)
	}
	return o
}

// pythonRelease vendors jmespath, which comes with boto3.
func pythonRelease(t *testing.T, name string) release {
	t.Helper()
	python := findPython(t)
	out, errText, err := run(t, nil, "", python, "-c", "import jmespath; print(jmespath.__path__[0])")
	if err != nil {
		t.Fatalf("%v\n%s", err, errText)
	}
	files := map[string]string{"app.py": strings.ReplaceAll(string(readFile(t, clientFile("python/session_app.py"))), `"one"`, `"`+name+`"`)}
	vendor(t, files, strings.TrimSpace(out), "jmespath")
	return release{writeZip(t, files), string(types.RuntimePython311), "app.handler"}
}

// nodeRelease vendors jmespath as npm installed it.
func nodeRelease(t *testing.T, name string) release {
	t.Helper()
	major, errText, err := run(t, nil, "", installNode(t), "-p", "process.versions.node.split('.')[0]")
	if err != nil {
		t.Fatalf("%v\n%s", err, errText)
	}
	files := map[string]string{"index.mjs": strings.ReplaceAll(string(readFile(t, clientFile("node/session_app.mjs"))), `"one"`, `"`+name+`"`)}
	vendor(t, files, clientFile("node/node_modules/jmespath"), "node_modules/jmespath")
	return release{writeZip(t, files), "nodejs" + strings.TrimSpace(major) + ".x", "index.handler"}
}

// goRelease is one static binary with aws-lambda-go linked in.
func goRelease(t *testing.T, name string) release {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "bootstrap")
	_, errText, err := run(t, []string{"CGO_ENABLED=0"}, "", "go", "build", "-trimpath", "-ldflags", "-s -w -X main.release="+name, "-o", binary, "thaw/tests/clients/function")
	if err != nil {
		t.Fatalf("%v\n%s", err, errText)
	}
	return release{writeZip(t, map[string]string{"bootstrap+x": string(readFile(t, binary))}), "provided.al2023", "bootstrap"}
}

// TestNoOldAnswerAfterUpdate invokes from several sides while the code changes again and again: what is sent after the
// update was seen Successful is answered by the new code.
func TestNoOldAnswerAfterUpdate(t *testing.T) {
	p := harness.Start(t, harness.Options{Config: network})
	client, name := p.Lambda(), "changing"
	source := func(n string) map[string]string {
		return map[string]string{"app.py": "def handler(event, context):\n    return " + n + "\n"}
	}
	harness.Deploy(t, client, &harness.Function{Name: name, Files: source("0")})
	const updates, callers = 8, 4
	for n := range updates {
		want := string(rune('1' + n))
		before := string(rune('0' + n))
		_, err := client.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: harness.Zip(t, source(want))})
		if err != nil {
			t.Fatal(err)
		}
		var done sync.WaitGroup
		inForce := make(chan struct{})
		for range callers {
			done.Go(func() {
				for range 10_000 {
					var sure bool
					select {
					case <-inForce:
						sure = true
					default:
					}
					payload, failed, err := harness.Invoke(t.Context(), client, name, "{}")
					if err != nil || failed || (payload != want && (sure || payload != before)) {
						t.Errorf("update %s, in force %v: %q %v", want, sure, payload, err)
					}
					if sure || err != nil {
						return
					}
				}
			})
		}
		harness.WaitActive(t, client, name)
		close(inForce)
		done.Wait()
	}
	p.Stop()
	harness.NothingLeft(t, p.Data)
}
