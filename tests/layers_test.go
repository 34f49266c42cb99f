package tests

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw/tests/harness"
)

// TestLayersWithBoto3 runs a program that uses layers.
func TestLayersWithBoto3(t *testing.T) {
	python := findPython(t)
	p := harness.Start(t, harness.Options{Config: network})
	if _, text, err := run(t, p.Env(), "", python, unmodified(t, python, clientFile("python/layers.py"))...); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	p.Stop()
	harness.NothingLeft(t, p.Data)
}

// TestLayersWithTheCLI publishes a Python package and calls it, with the commands that AWS's guide has for that.
func TestLayersWithTheCLI(t *testing.T) {
	dir := awsDir(t)
	p := harness.Start(t, harness.Options{Config: network})
	call := func(args ...string) map[string]any {
		t.Helper()
		out, text, err := run(t, p.Env(), "", filepath.Join(dir, "aws"), append([]string{"lambda"}, append(args, "--output", "json")...)...)
		if err != nil {
			t.Fatalf("aws lambda %s: %v\n%s", strings.Join(args, " "), err, text)
		}
		answer := map[string]any{}
		if out != "" {
			if err := json.Unmarshal([]byte(out), &answer); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		return answer
	}
	layer := call("publish-layer-version", "--layer-name", "greeting", "--description", "says hello", "--compatible-runtimes", "python3.11",
		"--zip-file", "fileb://"+writeZip(t, map[string]string{
			"python/greet/__init__.py":                             "from greet.words import WORD\n",
			"python/greet/words.py":                                "WORD = 'hello'\n",
			"python/lib/python3.11/site-packages/only311.py":       "HERE = True\n",
			"bin/shout+x":                                          "#!/bin/sh\necho HELLO\n",
			"python/greet-1.0.dist-info/METADATA":                  "Metadata-Version: 2.1\nName: greet\nVersion: 1.0\n",
			"python/lib/python3.11/site-packages/data/numbers.txt": "42",
		}))
	arn := layer["LayerVersionArn"].(string)
	source := `import importlib.metadata, os, subprocess, sys
import greet, only311
def handler(event, context):
    try: open('/opt/new', 'w')
    except OSError as e: refused = e.strerror
    return [greet.WORD, only311.HERE, subprocess.run(['shout'], capture_output=True, text=True, check=True).stdout, importlib.metadata.version('greet'), refused]
`
	call("create-function", "--function-name", "greeter", "--runtime", "python3.11", "--handler", "app.handler", "--role", "arn:aws:iam::000000000000:role/any",
		"--layers", arn, "--zip-file", "fileb://"+writeZip(t, map[string]string{"app.py": source}))
	call("wait", "function-active-v2", "--function-name", "greeter")
	answer := filepath.Join(t.TempDir(), "answer")
	call("invoke", "--function-name", "greeter", answer)
	if got, want := string(readFile(t, answer)), `["hello", true, "HELLO\n", "1.0", "Read-only file system"]`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := call("get-layer-version-by-arn", "--arn", arn); got["Description"] != "says hello" {
		t.Errorf("%v", got)
	}
	if got := call("list-layers", "--compatible-runtime", "python3.11"); len(got["Layers"].([]any)) != 1 {
		t.Errorf("%v", got)
	}
	call("add-layer-version-permission", "--layer-name", "greeting", "--version-number", "1", "--statement-id", "all", "--action", "lambda:GetLayerVersion", "--principal", "*")
	if got := call("get-layer-version-policy", "--layer-name", "greeting", "--version-number", "1"); !strings.Contains(got["Policy"].(string), `"Principal":"*"`) {
		t.Errorf("%v", got)
	}
	call("remove-layer-version-permission", "--layer-name", "greeting", "--version-number", "1", "--statement-id", "all")
	call("delete-layer-version", "--layer-name", "greeting", "--version-number", "1")
	call("invoke", "--function-name", "greeter", answer)
	p.Stop()
	harness.NothingLeft(t, p.Data)
}

// layer publishes files and gives the version's ARN.
func (s *stage) layer(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	out, err := s.client.PublishLayerVersion(t.Context(), &lambda.PublishLayerVersionInput{
		LayerName: &name, Content: &types.LayerVersionContentInput{ZipFile: harness.Zip(t, files)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return *out.LayerVersionArn
}

// TestLayersInEnvironments looks at /opt in booted and forked environments, and after a crash of the platform.
func TestLayersInEnvironments(t *testing.T) {
	s := startStage(t)
	layers := []string{
		s.layer(t, "a", map[string]string{"python/a.py": "X = 'a'\n", "which": "a"}), s.layer(t, "b", map[string]string{"python/b.py": "X = 'b'\n", "which": "b"}),
		s.layer(t, "c", map[string]string{"python/c.py": "X = 'c'\n", "which": "c"}), s.layer(t, "d", map[string]string{"which": "d"}), s.layer(t, "e", map[string]string{"bin/e+x": "#!/bin/sh\n", "which": "e"}),
	}
	const source = `import a, b, c, os
def handler(event, context):
    mounts = [l.split()[5].split(',')[0] for l in open('/proc/self/mountinfo') if l.split()[4].startswith('/opt')]
    return [a.X + b.X + c.X, open('/opt/which').read(), os.access('/opt/bin/e', os.X_OK), mounts, os.stat('/opt/which').st_uid == os.getuid()]
`
	const want = `["abc", "e", true, ["ro"], false]`
	for name, tags := range map[string]map[string]string{"forked": nil, "booted": booted} {
		in := deployed{runtime: "python3.11", handler: "f.handler", files: map[string]string{"f.py": source}, tags: tags}.input(t, name)
		in.Layers = layers
		if _, err := s.client.CreateFunction(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		s.awaitUpdate(t, name)
		if a := s.invoke(t, name, "{}"); a.payload != want {
			t.Errorf("%s (%s): %s\n%s", name, a.explanation.Kind, a.payload, a.tail)
		}
	}
	in := deployed{runtime: "provided.al2023", handler: "any", files: map[string]string{"readme": ""}}.input(t, "custom")
	in.Layers = []string{s.layer(t, "runtime", map[string]string{"bootstrap+x": `#!/usr/bin/python3
import os, urllib.request
api = 'http://' + os.environ['AWS_LAMBDA_RUNTIME_API'] + '/2018-06-01/runtime/invocation/'
while True:
    with urllib.request.urlopen(api + 'next') as r:
        id = r.headers['Lambda-Runtime-Aws-Request-Id']; r.read()
    urllib.request.urlopen(urllib.request.Request(api + id + '/response', b'"' + __file__.encode() + b'"', method='POST')).read()
`})}
	if _, err := s.client.CreateFunction(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	s.awaitUpdate(t, "custom")
	if a := s.invoke(t, "custom", "{}"); a.payload != `"/opt/bootstrap"` {
		t.Errorf("%s\n%s", a.payload, a.tail)
	}

	data := s.Data
	s.Kill()
	s.Platform = harness.Start(t, harness.Options{Config: stageConfig, Data: data})
	s.client = s.Lambda()
	for _, name := range []string{"forked", "booted"} {
		if a := s.invoke(t, name, "{}"); a.payload != want {
			t.Errorf("%s after a crash: %s\n%s", name, a.payload, a.tail)
		}
	}
}

// TestHostileLayers publishes what tries to get out of /opt.
func TestHostileLayers(t *testing.T) {
	s := startStage(t)
	type entry struct {
		name string
		mode fs.FileMode
		body string
	}
	pack := func(entries ...entry) []byte {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for _, e := range entries {
			h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
			h.SetMode(e.mode)
			f, err := w.CreateHeader(h)
			if err == nil {
				_, err = f.Write([]byte(e.body))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	publish := func(name string, archive []byte) (string, error) {
		out, err := s.client.PublishLayerVersion(t.Context(), &lambda.PublishLayerVersionInput{LayerName: &name, Content: &types.LayerVersionContentInput{ZipFile: archive}})
		if err != nil {
			return "", err
		}
		return *out.LayerVersionArn, nil
	}
	for what, archive := range map[string][]byte{
		"a way up":              pack(entry{"../../etc/cron.d/x", 0o644, "x"}),
		"an absolute name":      pack(entry{"/etc/cron.d/x", 0o644, "x"}),
		"an absolute link":      pack(entry{"l", fs.ModeSymlink | 0o777, "/etc/shadow"}),
		"a link up":             pack(entry{"a/l", fs.ModeSymlink | 0o777, "../../../etc/shadow"}),
		"a file through a link": pack(entry{"l", fs.ModeSymlink | 0o777, "."}, entry{"l/x", 0o644, "x"}),
		"a device":              pack(entry{"sda", fs.ModeDevice | 0o666, ""}),
		"a character device":    pack(entry{"mem", fs.ModeDevice | fs.ModeCharDevice | 0o666, ""}),
		"a pipe":                pack(entry{"p", fs.ModeNamedPipe | 0o666, ""}),
		"a socket":              pack(entry{"s", fs.ModeSocket | 0o666, ""}),
		"too much":              pack(entry{"zeros", 0o644, strings.Repeat("\x00", 262_144_001)}),
	} {
		if arn, err := publish("hostile", archive); harness.Code(err) != "InvalidParameterValueException" {
			t.Errorf("%s: %s, %v", what, arn, err)
		}
	}
	setuid, err := publish("setuid", pack(entry{"bin/root", fs.ModeSetuid | fs.ModeSetgid | 0o4755, "#!/bin/sh\nid -u\n"}))
	if err != nil {
		t.Fatal(err)
	}
	// Each of these is harmless by itself; together the link leads out.
	down, err := publish("down", pack(entry{"p/q/x", 0o644, "x"}, entry{"l", fs.ModeSymlink | 0o777, "p/q/../../x"}))
	if err != nil {
		t.Fatal(err)
	}
	dot, err := publish("dot", pack(entry{"p", fs.ModeSymlink | 0o777, "."}, entry{"q/y", 0o644, "y"}))
	if err != nil {
		t.Fatal(err)
	}
	in := deployed{runtime: "python3.11", handler: "f.handler", files: map[string]string{"f.py": "def handler(e, c): pass\n"}}.input(t, "together")
	in.Layers = []string{down, dot}
	if _, err := s.client.CreateFunction(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the function is refused", func() bool {
		c, err := s.client.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("together")})
		return err == nil && c.State == types.StateFailed && strings.Contains(aws.ToString(c.StateReason), "These layers cannot be used together")
	})
	in = deployed{runtime: "python3.11", handler: "f.handler", files: map[string]string{"f.py": `import os, subprocess
def handler(e, c):
    tried = []
    for path in ('/opt/new', '/opt/bin/root', '/opt/bin/../../etc/x'):
        try: open(path, 'a'); tried.append(path)
        except OSError: pass
    for call in (lambda: os.chmod('/opt/bin/root', 0o777), lambda: os.unlink('/opt/bin/root'), lambda: os.mkdir('/opt/d')):
        try: call(); tried.append('changed')
        except OSError: pass
    return [tried, oct(os.stat('/opt/bin/root').st_mode), int(subprocess.run(['/opt/bin/root'], capture_output=True).stdout) == os.getuid()]
`}}.input(t, "inside")
	in.Layers = []string{setuid}
	if _, err := s.client.CreateFunction(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	s.awaitUpdate(t, "inside")
	if a := s.invoke(t, "inside", "{}"); a.payload != `[[], "0o100755", true]` {
		t.Errorf("%s\n%s", a.payload, a.tail)
	}
	if left, _ := filepath.Glob(filepath.Join(s.Data, "code", "partial", "*")); len(left) > 0 {
		t.Errorf("left in the cache: %v", left)
	}
	if _, err := os.Stat("/etc/cron.d/x"); err == nil {
		t.Error("a layer wrote to the host")
	}
}

// TestLogsInJSON reads the log of functions whose LoggingConfig asks for JSON.
func TestLogsInJSON(t *testing.T) {
	s := startStage(t)
	for name, d := range map[string]deployed{
		"python": {runtime: "python3.11", handler: "f.handler", files: map[string]string{"f.py": `import logging
logger = logging.getLogger()
def handler(event, context):
    logger.debug('hidden'); logger.info('shown', extra={'order': 7}); print('plain'); print('{"level": "debug", "timestamp": "2024-11-02T16:51:31Z", "message": "hidden"}')
    if event: raise ValueError('bad')
`}},
		"node": {runtime: "nodejs20.x", handler: "f.handler", files: map[string]string{"f.js": `exports.handler = async (event) => {
  console.debug('hidden'); console.log({ order: 7 }); process.stdout.write('plain\n');
  if (event.fail) throw new Error('bad');
};`}},
	} {
		for _, level := range []types.SystemLogLevel{"DEBUG", "WARN"} {
			name := name + "-" + strings.ToLower(string(level))
			in := d.input(t, name)
			in.LoggingConfig = &types.LoggingConfig{LogFormat: types.LogFormatJson, SystemLogLevel: level}
			if _, err := s.client.CreateFunction(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			s.awaitUpdate(t, name)
			ok := s.invoke(t, name, "{}")
			bad := s.invoke(t, name, `{"fail": true}`)
			s.awaitEvent(t, name, func(e logEvent) bool {
				return e.RequestID == bad.id && strings.Contains(e.Message, `"type":"platform.report"`)
			})
			kinds := map[string]int{}
			kind := regexp.MustCompile(`^\{"time":"[^"]+Z","type":"(platform\.\w+)","record":\{`)
			s.logs(t, name, func(e logEvent) {
				if strings.Contains(e.Message, "hidden") {
					t.Errorf("%s: %s", name, e.Message)
				}
				if m := kind.FindStringSubmatch(e.Message); m != nil {
					kinds[m[1]]++
				} else if e.Message != "plain\n" && !strings.Contains(e.Message, `"level":`) && !strings.Contains(e.Message, `"level": `) && !strings.Contains(e.Message, `"log_level": `) {
					t.Errorf("%s: %q is neither the platform's nor the function's", name, e.Message)
				}
				if !json.Valid([]byte(e.Message)) && e.Message != "plain\n" {
					t.Errorf("%s: %q is no JSON", name, e.Message)
				}
			})
			want := map[string]int{"platform.start": 2, "platform.runtimeDone": 2, "platform.report": 2}
			if level == "WARN" {
				want = map[string]int{"platform.start": 0, "platform.runtimeDone": 1, "platform.report": 1}
			}
			for kind, n := range want {
				if kinds[kind] != n {
					t.Errorf("%s: %d of %s, want %d; %v", name, kinds[kind], kind, n, kinds)
				}
			}
			if text := s.logText(t, name); !strings.Contains(text, `"order": 7`) && !strings.Contains(text, `"order":7`) || !strings.Contains(text, ok.id) {
				t.Errorf("%s: %s", name, text)
			}
			if level == "DEBUG" && !strings.Contains(ok.tail, `"status":"success"`) {
				t.Errorf("%s: the tail is %s", name, ok.tail)
			}
		}
	}
}

// TestWrapperScripts has scripts of layers start runtimes, with another handler, as those of OpenTelemetry do.
func TestWrapperScripts(t *testing.T) {
	s := startStage(t)
	wrapper := s.layer(t, "wrapper", map[string]string{"wrapper+x": "#!/bin/bash\nexport MARK=wrapped _HANDLER=instead.handler\nexec \"$@\"\n"})
	for name, d := range map[string]deployed{
		"python": {runtime: "python3.11", handler: "none.handler", files: map[string]string{"instead.py": "import os\ndef handler(e, c): return os.environ['MARK']\n"}},
		"node":   {runtime: "nodejs20.x", handler: "none.handler", files: map[string]string{"instead.js": "exports.handler = async () => process.env.MARK;\n"}},
	} {
		d.environment = map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}
		in := d.input(t, name)
		in.Layers = []string{wrapper}
		if _, err := s.client.CreateFunction(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		s.awaitUpdate(t, name)
		s.succeed(t, name, "{}", `"wrapped"`)
	}
}

// TestSharedLogGroup has two functions write to one log group.
func TestSharedLogGroup(t *testing.T) {
	s := startStage(t)
	const source = "def handler(e, c):\n    print('said by', c.function_name)\n    return [c.log_group_name, c.log_stream_name]\n"
	for _, name := range []string{"one", "two"} {
		in := deployed{runtime: "python3.11", handler: "f.handler", files: map[string]string{"f.py": source}}.input(t, name)
		in.LoggingConfig = &types.LoggingConfig{LogGroup: aws.String("shared")}
		if _, err := s.client.CreateFunction(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		s.awaitUpdate(t, name)
		if a := s.invoke(t, name, "{}"); !regexp.MustCompile(`^\["shared", "\d{4}/\d\d/\d\d/` + name + `\[\$LATEST\][0-9a-f]{32}"\]$`).MatchString(a.payload) {
			t.Errorf("%s: %s", name, a.payload)
		}
	}
	for name, other := range map[string]string{"one": "two", "two": "one"} {
		s.awaitEvent(t, name, func(e logEvent) bool { return e.Message == "said by "+name+"\n" })
		if text := s.logText(t, name); strings.Contains(text, "said by "+other) {
			t.Errorf("the log of %s: %s", name, text)
		}
	}
}
