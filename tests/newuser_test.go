package tests

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"thaw/tests/harness"
)

// heavy are functions whose imports take long, each with the client that its author would use.
var heavy = []struct {
	name   string
	client func(t *testing.T) client
	pack   func(t *testing.T) release
}{
	{"boto3", boto3, func(t *testing.T) release {
		return packExample(t, "python-boto3", "boto3", "python3.11", "app.handler", "app.py", `import os
import boto3
s3 = boto3.client("s3", region_name="eu-central-1")
print("initialised")
def handler(event, context):
    return {"region": s3.meta.region_name, "sdk": boto3.__name__, "initialization": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]}
`)
	}},
	{"client-s3", nodeSDK, func(t *testing.T) release {
		return packExample(t, "node-s3", "node_modules", "nodejs20.x", "index.handler", "index.mjs", `import { S3Client } from "@aws-sdk/client-s3";
const s3 = new S3Client({ region: "eu-central-1" });
console.log("initialised");
export const handler = async () => ({ region: await s3.config.region(), sdk: s3.config.serviceId, initialization: process.env.AWS_LAMBDA_INITIALIZATION_TYPE });
`)
	}},
}

// packExample takes the libraries of a built example, whose folder libraries tells that it is, with a source of its own.
func packExample(t *testing.T, example, libraries, runtime, handler, file, source string) release {
	t.Helper()
	dir := filepath.Join(harness.Root(), "bin", "examples", example)
	if _, err := os.Stat(filepath.Join(dir, libraries)); err != nil {
		if _, text, err := run(t, nil, "", filepath.Join(harness.Root(), "scripts", "examples.sh")); err != nil {
			t.Fatalf("scripts/examples.sh: %v\n%s", err, text)
		}
	}
	files := map[string]string{}
	vendor(t, files, dir, "")
	files[file] = source
	return release{writeZip(t, files), runtime, handler}
}

// TestNewUser does what somebody does who tries the platform for the first time: deploy a function with heavy imports,
// wait with the client's own waiter, invoke it once. The first answer comes from a spare or a fork and never waits for
// init, and REPORT says of the start what AWS's would.
func TestNewUser(t *testing.T) {
	for _, c := range []struct{ name, config, report string }{
		{"spares", "", "\n"}, // made before the request came: no time of it is the request's
		{"forks", noSpares, "Init Duration: " + anyMillis + "\t\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := t.TempDir()
			t.Cleanup(func() { harness.NothingLeft(t, data) })
			p := harness.Start(t, harness.Options{Config: forkConfig + c.config, Data: data})
			s := &stage{Platform: p, client: p.Lambda()}
			for _, h := range heavy {
				t.Run(h.name, func(t *testing.T) { s.firstUse(t, h.name, h.client(t), h.pack(t), c.report) })
			}
		})
	}
}

func (s *stage) firstUse(t *testing.T, name string, call client, r release, report string) {
	spares := report == "\n"
	do := func(verb string) outcome {
		t.Helper()
		return call(t, s.Platform, &step{Verb: verb, Name: name, Event: "{}", Zip: r.zip, Runtime: r.runtime, Handler: r.handler})
	}
	do("create")
	do("active")
	if v := s.needTemplate(t, name); v.Template.InitMS <= 0 {
		t.Errorf("its init took %v ms", v.Template.InitMS)
	}
	if spares {
		s.settled(t, name)
	}
	s.checkFirst(t, name, do("invoke"), "on-demand", report)
	s.checkInits(t, name, 1)
	s.explainedStart(t, name, "Init Duration")

	if spares {
		return // what SnapStart changes is how a fork is reported
	}
	// The same with SnapStart, as its documentation says it is set.
	aws := filepath.Join(awsDir(t), "aws")
	if _, text, err := run(t, s.Env(), "", aws, "lambda", "update-function-configuration", "--function-name", name, "--snap-start", "ApplyOn=PublishedVersions"); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	do("updated")
	s.needTemplate(t, name)
	restored := do("invoke")
	if !regexp.MustCompile(`\A` + strings.Replace(initStart, "INIT", "RESTORE", 1) + `RESTORE_REPORT Restore Duration: ` + anyMillis + `\nSTART `).MatchString(restored.Log) {
		t.Errorf("the first log with SnapStart:\n%s", restored.Log)
	}
	s.checkFirst(t, name, restored, "snap-start", "Restore Duration: "+anyMillis+"\tBilled Restore Duration: \\d+ ms\t\n")
	s.checkInits(t, name, 2)
	s.explainedStart(t, name, "Restore Duration")
}

// checkFirst looks at a first answer and at the end of its REPORT.
func (s *stage) checkFirst(t *testing.T, name string, got outcome, initialization, report string) {
	t.Helper()
	var payload struct{ Region, SDK, Initialization string }
	err := json.Unmarshal([]byte(got.Payload), &payload)
	if err != nil || got.FunctionError != "" || payload.Region != "eu-central-1" || payload.SDK == "" || payload.Initialization != initialization {
		t.Errorf("%s answers %+v, %v", name, got, err)
	}
	if !regexp.MustCompile(`\nREPORT RequestId: \S+` + anyReport + report + `\z`).MatchString(got.Log) {
		t.Errorf("the first log of %s does not end with %q:\n%s", name, report, got.Log)
	}
}

// checkInits counts how often a function was initialised: once for each deployment, by its template, and in no environment.
func (s *stage) checkInits(t *testing.T, name string, want int) {
	t.Helper()
	inits := 0
	s.logs(t, name, func(e logEvent) { inits += strings.Count(e.Message, "initialised") })
	if inits != want {
		t.Errorf("%s was initialised %d times, want %d", name, inits, want)
	}
}

// explainedStart has the command line start one more environment and say what it took.
func (s *stage) explainedStart(t *testing.T, name, reported string) {
	t.Helper()
	cmd, out := s.thaw(t.Context(), t, "invoke", name, "--cold", "--explain", "--log")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s", out) // the times that this run took
	for _, want := range []string{
		`(?m)^start +fork of the initialised template, because a new environment was asked for \(forced\)$`,
		`(?m)^reported +` + reported + ` \d`, `(?m)^runtime +\d+\.\d+ ms`, `(?m)^restore +\d+\.\d+ ms`, `(?m)^handler +\d+\.\d+ ms`, `(?m)^total +\d+\.\d+ ms`,
		`(?m)^REPORT .*\t` + reported + `: \d`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("thaw invoke --explain lacks %q:\n%s", want, out)
		}
	}
	other := map[string]string{"Init Duration": "Restore Duration", "Restore Duration": "Init Duration"}[reported]
	if strings.Contains(out.String(), other) {
		t.Errorf("both %s and %s are reported:\n%s", reported, other, out)
	}
}

// TestDatabaseAtImport has a function that connects to a database when it is imported. It works, it is not forked, and
// wherever its owner looks, the database is named.
func TestDatabaseAtImport(t *testing.T) {
	port, service := databaseServer(t)
	s := startForking(t)
	dir := t.TempDir()
	source := `import socket
database = socket.create_connection(("host.thaw.internal", ` + strconv.Itoa(port) + `))
def handler(event, context):
    return database.getpeername()[1]
`
	if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	reason := regexp.MustCompile(`because init opened a TCP connection to [0-9.]+:` + strconv.Itoa(port) + ` \(` + service + `\)\n`)
	for _, args := range [][]string{
		{"deploy", dir, "--name", "orders", "--runtime", "python3.11", "--handler", "app.handler"},
		{"get", "orders"},
	} {
		cmd, out := s.thaw(t.Context(), t, args...)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("thaw %s: %v: %s", args[0], err, out)
		}
		if !strings.Contains(out.String(), "booted, not forked (unsafe)\n") || !reason.MatchString(out.String()) {
			t.Errorf("thaw %s does not say why:\n%s", args[0], out)
		}
	}
	if v := s.standing(t, "orders"); v.Template.State != "unsafe" || len(v.Template.Reasons) != 1 || !reason.MatchString("because "+v.Template.Reasons[0]+"\n") {
		t.Errorf("the platform's view: %+v", v)
	}
	a, err := s.tryCall(t.Context(), http.MethodPost, "/2015-03-31/functions/orders/invocations", invokeHeaders, strings.NewReader("{}"))
	if err != nil || a.payload != strconv.Itoa(port) || !slices.Contains([]string{"boot", "spare"}, a.explanation.Kind) {
		t.Errorf("%v %+v", err, a)
	}
}

// databaseServer accepts connections on the port of a database that nobody else has here.
func databaseServer(t *testing.T) (port int, service string) {
	t.Helper()
	for port, service := range map[int]string{5432: "postgres", 6379: "redis", 3306: "mysql"} {
		listener, err := net.Listen("tcp4", net.JoinHostPort("0.0.0.0", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		var server sync.WaitGroup
		server.Go(func() {
			var held []net.Conn
			for {
				c, err := listener.Accept()
				if err != nil {
					break
				}
				held = append(held, c)
			}
			for _, c := range held {
				c.Close()
			}
		})
		t.Cleanup(func() { listener.Close(); server.Wait() })
		return port, service
	}
	t.Skip("every port of a database is in use on this machine")
	return 0, ""
}
