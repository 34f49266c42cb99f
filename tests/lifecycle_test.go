package tests

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw/tests/harness"
)

// generatedKeys reads the access key that a platform made at its first start.
func generatedKeys(t *testing.T, data string) aws.CredentialsProvider {
	t.Helper()
	var keys struct {
		ID     string `json:"access_key_id"`
		Secret string `json:"secret_access_key"`
	}
	text, err := os.ReadFile(filepath.Join(data, "credentials.json"))
	if err == nil {
		err = json.Unmarshal(text, &keys)
	}
	if err != nil {
		t.Fatal(err)
	}
	return static(keys.ID, keys.Secret, "")
}

func static(id, secret, token string) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(id, secret, token)
}

// sleeper answers with its event after event.sleep seconds, and touches its /tmp.
const sleeper = "import time\ndef handler(event, context):\n    open('/tmp/x', 'w').write('x')\n    time.sleep(event.get('sleep', 0))\n    return event\n"

// deployLanguages deploys a function of each kind: Python, Node.js, Go.
func deployLanguages(t *testing.T, client *lambda.Client) []string {
	t.Helper()
	harness.Deploy(t, client, &harness.Function{Name: "python", Source: sleeper, Timeout: 60})
	harness.Deploy(t, client, &harness.Function{
		Name: "node", Runtime: types.RuntimeNodejs20x, Handler: "index.handler",
		Files: map[string]string{"index.js": "exports.handler = async (event) => event;\n"},
	})
	bootstrap := filepath.Join(t.TempDir(), "bootstrap")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", bootstrap, "./examples/go-lambda")
	build.Dir, build.Env = harness.Root(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the Go function: %v\n%s", err, out)
	}
	program, err := os.ReadFile(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	harness.Deploy(t, client, &harness.Function{
		Name: "go", Runtime: types.RuntimeProvidedal2023, Files: map[string]string{"bootstrap+x": string(program)},
	})
	return []string{"python", "node", "go"}
}

// kinds are the first words of what a platform holds.
func kinds(belongings []string) map[string]int {
	all := map[string]int{}
	for _, b := range belongings {
		kind, _, _ := strings.Cut(b, " ")
		all[kind]++
	}
	return all
}

// TestStop stops a platform with idle, frozen and busy environments of three languages.
func TestStop(t *testing.T) {
	for _, end := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(end.String(), func(t *testing.T) {
			p := harness.Start(t, harness.Options{})
			client := p.Lambda()
			for _, name := range deployLanguages(t, client) {
				if answer := harness.MustInvoke(t, client, name, `{"n":1}`); !strings.Contains(answer, "1") {
					t.Errorf("%s answers %s", name, answer)
				}
			}
			harness.Eventually(t, "an environment is frozen", func() bool { return frozenGroups(p.Data) > 0 })
			held := kinds(harness.Belongings(t, p.Data))
			for _, kind := range []string{"process", "cgroup", "link", "nftables"} {
				if held[kind] == 0 {
					t.Errorf("the look at the machine does not see any %s: %v", kind, held)
				}
			}
			var calls sync.WaitGroup
			calls.Go(func() {
				payload, failed, err := harness.Invoke(t.Context(), client, "python", `{"sleep":1.5}`)
				if err != nil || failed || payload != `{"sleep": 1.5}` {
					t.Errorf("an invocation that ends soon: %v %s", err, payload)
				}
			})
			calls.Go(func() { // it cannot have its answer, and must not hold the stop up
				if end != syscall.SIGTERM {
					return // once is enough: the stop gives it some time
				}
				if payload, failed, err := harness.Invoke(t.Context(), client, "python", `{"sleep":50}`); err == nil && !failed {
					t.Errorf("an invocation of 50 s: %s", payload)
				}
			})
			harness.Eventually(t, "they are under way", func() bool {
				want := 1
				if end == syscall.SIGTERM {
					want = 2
				}
				return (&stage{Platform: p}).standing(t, "python").Environments.Busy >= want
			})
			if err := syscall.Kill(p.Pid(), end); err != nil {
				t.Fatal(err)
			}
			if exit := p.Exit(); exit != 0 {
				t.Errorf("exit status %d", exit)
			}
			calls.Wait()
			harness.NothingLeft(t, p.Data)
		})
	}
}

// frozenGroups counts the frozen sandboxes, on cgroup v1 and v2.
func frozenGroups(data string) int {
	n := 0
	for _, pattern := range []string{"/sys/fs/cgroup/freezer/*/freezer.state", "/sys/fs/cgroup/freezer/*/*/freezer.state", "/sys/fs/cgroup/*/cgroup.events", "/sys/fs/cgroup/*/*/cgroup.events"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			text, _ := os.ReadFile(file)
			if strings.Contains(file, "thaw-"+harness.Instance(data)) && (strings.HasPrefix(string(text), "FROZEN") || strings.Contains(string(text), "frozen 1")) {
				n++
			}
		}
	}
	return n
}

// busyPython counts the platform's Python processes that sleep in a handler: those whose /tmp has been written.
func busyPython(p *harness.Platform) int {
	n := 0
	for _, b := range harness.Belongings(discard{}, p.Data) {
		if strings.Contains(b, "bootstrap.py") {
			n++
		}
	}
	return n
}

// discard is a testing.TB for looks that are repeated.
type discard struct{ testing.TB }

func (discard) Helper()      {}
func (discard) Fatal(...any) {}

// TestStopWhileStarting stops a platform at random moments of its start.
func TestStopWhileStarting(t *testing.T) {
	data := t.TempDir()
	for range 12 {
		p := harness.Launch(t, harness.Options{Data: data})
		<-time.After(time.Duration(rand.IntN(200)) * time.Millisecond)
		if err := syscall.Kill(p.Pid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		// Before the program has taken the signal over, the signal ends it: -1.
		if exit := p.Exit(); exit != 0 && exit != -1 {
			t.Errorf("exit status %d:\n%s", exit, p.Log)
		}
		if log := p.Log.String(); strings.Contains(log, "thaw: ") || strings.Contains(log, "level=ERROR") {
			t.Errorf("a stop is no failure:\n%s", log)
		}
		p.Kill()
	}
	p := harness.Start(t, harness.Options{Data: data})
	p.Stop()
	harness.NothingLeft(t, data)
}

// TestKilledAndStarted leaves the things of a killed platform on the machine: another platform works beside them, and
// the next start on the same data removes them.
func TestKilledAndStarted(t *testing.T) {
	dead := harness.Start(t, harness.Options{})
	names := deployLanguages(t, dead.Lambda())
	for _, name := range names {
		harness.MustInvoke(t, dead.Lambda(), name, "{}")
	}
	harness.Eventually(t, "an environment is frozen", func() bool { return frozenGroups(dead.Data) > 0 })
	go harness.Invoke(t.Context(), dead.Lambda(), "python", `{"sleep":50}`)
	harness.Eventually(t, "one is busy", func() bool { return busyPython(dead) >= 1 })
	dead.Kill()
	left := harness.Belongings(t, dead.Data)
	t.Logf("the dead one left %v", kinds(left))

	other := harness.Start(t, harness.Options{})
	harness.Deploy(t, other.Lambda(), &harness.Function{Name: "other", Source: sleeper})
	harness.MustInvoke(t, other.Lambda(), "other", "{}")

	again := harness.Start(t, harness.Options{Data: dead.Data})
	now := harness.Belongings(t, dead.Data)
	for _, b := range left {
		if strings.HasPrefix(b, "process ") && slices.Contains(now, b) {
			t.Errorf("still there: %s", b)
		}
	}
	for _, name := range names {
		harness.MustInvoke(t, again.Lambda(), name, "{}")
	}
	harness.MustInvoke(t, other.Lambda(), "other", "{}")
	if _, _, err := harness.Invoke(t.Context(), again.Lambda(), "other", "{}"); harness.Code(err) != "ResourceNotFoundException" {
		t.Errorf("the one's function on the other: %v", err)
	}
	again.Stop()
	harness.NothingLeft(t, dead.Data)
	harness.MustInvoke(t, other.Lambda(), "other", "{}")
	other.Stop()
	harness.NothingLeft(t, other.Data)
}

// tmpfs mounts a small file system of the test's own.
func tmpfs(t *testing.T, options string, flags uintptr) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestStartsThatFail starts what cannot start: one clear line, a fixed exit status, nothing left.
func TestStartsThatFail(t *testing.T) {
	running := harness.Start(t, harness.Options{})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	newer, file := t.TempDir(), filepath.Join(t.TempDir(), "file")
	err = errors.Join(os.WriteFile(filepath.Join(newer, "VERSION"), []byte("99\n"), 0o600), os.WriteFile(file, nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		o    harness.Options
		exit int
		says []string
	}{
		{"port taken", harness.Options{Listen: taken.Addr().String()}, 1, []string{"cannot listen on", "uses that port", "next: thaw up --listen"}},
		{"no such address", harness.Options{Listen: "192.0.2.1:4566"}, 2, []string{"cannot listen on 192.0.2.1:4566"}},
		{"same data", harness.Options{Data: running.Data}, 1, []string{"cannot open the data directory", "another thaw uses it", "next: thaw up --data"}},
		{"newer data", harness.Options{Data: newer}, 1, []string{"newer version", "format 99", "next: install"}},
		{"data is a file", harness.Options{Data: file}, 1, []string{"cannot open the data directory", "not a directory"}},
		{"read-only data", harness.Options{Data: tmpfs(t, "", syscall.MS_RDONLY)}, 1, []string{"cannot open the data directory", "read-only file system"}},
		{"full data", harness.Options{Data: tmpfs(t, "size=1m", 0)}, 1, []string{"cannot open the data directory", "too little space", "next: df -h"}},
		{"unknown key", harness.Options{Config: "network:\n  mod: nat\n"}, 2, []string{"cannot use the configuration", `[2:3] unknown field "mod"`}},
		{"out of range", harness.Options{Config: "environments:\n  max: 0\n"}, 2, []string{"environments.max: 0 is not between 1 and 100000"}},
		{"no value", harness.Options{Config: "environments:\n"}, 2, []string{"environments has no value"}},
		{"not YAML", harness.Options{Config: "listen: [\n"}, 2, []string{"cannot use the configuration", "[1:"}},
		{"no configuration", harness.Options{Args: []string{"--config", "/nonexistent/thaw.yaml"}}, 2, []string{"no such file"}},
		{"unknown flag", harness.Options{Args: []string{"--datta", "x"}}, 2, []string{"unknown flag: --datta"}},
		{"range taken", harness.Options{Config: "network:\n  prefix: 127.0.0.0/24\n"}, 1, []string{"cannot make the functions' network", "next: set network.prefix"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := harness.Launch(t, c.o)
			if exit := p.Exit(); exit != c.exit {
				t.Errorf("exit status %d, want %d", exit, c.exit)
			}
			lines := strings.Split(strings.TrimSpace(p.Log.String()), "\n")
			if !strings.HasPrefix(lines[0], "thaw: ") || len(lines) > 2 || (len(lines) == 2 && !strings.HasPrefix(lines[1], "  next: ")) {
				t.Errorf("it says more than one thing:\n%s", p.Log)
			}
			for _, text := range c.says {
				if !strings.Contains(p.Log.String(), text) {
					t.Errorf("it does not say %q:\n%s", text, p.Log)
				}
			}
			if p.Data != running.Data {
				harness.NothingLeft(t, p.Data)
			}
		})
	}
	harness.Deploy(t, running.Lambda(), &harness.Function{Name: "goes-on", Source: sleeper})
	harness.MustInvoke(t, running.Lambda(), "goes-on", "{}")
	running.Stop()
	harness.NothingLeft(t, running.Data)
}

// TestDiskFull fills the data directory's file system and empties it again.
func TestDiskFull(t *testing.T) {
	mount := tmpfs(t, "size=128m", 0)
	data := filepath.Join(mount, "data")
	p := harness.Start(t, harness.Options{Data: data})
	client := p.Lambda()
	harness.Deploy(t, client, &harness.Function{Name: "before", Source: sleeper})
	harness.MustInvoke(t, client, "before", "{}")

	fill := func(leave int64) {
		t.Helper()
		var st syscall.Statfs_t
		if err := syscall.Statfs(mount, &st); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(mount, "filler"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		block := make([]byte, 64<<10)
		for free := int64(st.Bavail)*st.Bsize - leave; free > 0; free -= int64(len(block)) {
			if _, err := f.Write(block[:min(free, int64(len(block)))]); err != nil {
				return // full to the last byte
			}
		}
	}
	refused := func() {
		t.Helper()
		_, err := client.CreateFunction(t.Context(), (&harness.Function{Name: "refused", Source: sleeper}).Input(t))
		if harness.Code(err) != "ServiceException" || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("a write without room: %v", err)
		}
	}
	whole := func(p *harness.Platform) {
		t.Helper()
		harness.MustInvoke(t, p.Lambda(), "before", "{}")
		list, err := p.Lambda().ListFunctions(t.Context(), &lambda.ListFunctionsInput{})
		if err != nil || !slices.ContainsFunc(list.Functions, func(f types.FunctionConfiguration) bool { return *f.FunctionName == "before" }) {
			t.Errorf("what was acknowledged: %v %v", list, err)
		}
	}
	for _, leave := range []int64{8 << 20, 0} {
		fill(leave)
		refused()
		for range 20 { // their logs have no room either
			whole(p)
		}
	}
	if err := os.Remove(filepath.Join(mount, "filler")); err != nil {
		t.Fatal(err)
	}
	harness.Deploy(t, client, &harness.Function{Name: "after", Source: sleeper})
	harness.MustInvoke(t, client, "after", "{}")
	whole(p)
	p.Stop()
	again := harness.Start(t, harness.Options{Data: data})
	whole(again)
	harness.MustInvoke(t, again.Lambda(), "after", "{}")
	again.Stop()
	harness.NothingLeft(t, data)
}

// TestWithoutRoot runs the platform as a user without privilege: functions answer, with what user namespaces allow.
func TestWithoutRoot(t *testing.T) {
	const uid = 54321
	dir, err := os.MkdirTemp("", "thaw-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary, err := os.ReadFile(harness.Binary(t))
	program, data := filepath.Join(dir, "thaw"), filepath.Join(dir, "data")
	if err == nil {
		err = errors.Join(os.WriteFile(program, binary, 0o755), os.Mkdir(data, 0o700), os.Chown(data, uid, uid), os.Chmod(dir, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("THAW_BIN", program)
	user := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	p := harness.Start(t, harness.Options{Data: data, Attr: user})
	client := p.Lambda()
	harness.Deploy(t, client, &harness.Function{Name: "user", Source: "import os\ndef handler(event, context):\n    return [event, os.getuid(), os.path.exists('/work')]\n"})
	if answer := harness.MustInvoke(t, client, "user", `"hello"`); answer != `["hello", 993, false]` {
		t.Errorf("it answers %s", answer)
	}
	if !strings.Contains(p.Log.String(), "functions have no network") {
		t.Errorf("it does not say what is missing:\n%s", p.Log)
	}
	p.Stop()
	harness.NothingLeft(t, data)

	for _, c := range []struct {
		name string
		o    harness.Options
		says string
	}{
		{"data of root", harness.Options{Data: filepath.Join(dir, "roots")}, "this user may not write there"},
		{"network asked for", harness.Options{Data: data, Config: "network:\n  mode: nat\n"}, "need root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.o.Config != "" { // of a place that the user can read
				config := filepath.Join(dir, "thaw.yaml")
				if err := os.WriteFile(config, []byte(c.o.Config), 0o644); err != nil {
					t.Fatal(err)
				}
				c.o.Config, c.o.Args = "", []string{"--config", config}
			}
			c.o.Attr = user
			p := harness.Launch(t, c.o)
			if exit := p.Exit(); exit != 1 || !strings.Contains(p.Log.String(), c.says) || strings.Count(strings.TrimSpace(p.Log.String()), "\n") > 1 {
				t.Errorf("exit status %d:\n%s", exit, p.Log)
			}
		})
	}
}

// TestSignedRequests asks platforms that demand signatures.
func TestSignedRequests(t *testing.T) {
	_, port, _ := strings.Cut(harness.FreeAddress(t), ":")
	for _, c := range []struct {
		name string
		o    harness.Options
	}{
		{"every address", harness.Options{Listen: "0.0.0.0:" + port}},
		{"loopback", harness.Options{Config: "auth:\n  required: true\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := harness.Start(t, c.o)
			keys := generatedKeys(t, p.Data)
			if info, err := os.Stat(filepath.Join(p.Data, "credentials.json")); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the key's file: %v %v", info.Mode(), err)
			}
			client := harness.ClientWith(p.URL, "us-east-1", keys)
			harness.Deploy(t, client, &harness.Function{Name: "signed", Source: sleeper})
			harness.MustInvoke(t, client, "signed", "{}")
			value, err := keys.Retrieve(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, wrong := range []struct {
				name   string
				client *lambda.Client
				code   string
			}{
				{"no signature", harness.ClientWith(p.URL, "us-east-1", aws.AnonymousCredentials{}), "MissingAuthenticationTokenException"},
				{"wrong secret", harness.ClientWith(p.URL, "us-east-1", static(value.AccessKeyID, value.SecretAccessKey+"x", "")), "InvalidSignatureException"},
				{"unknown key", harness.ClientWith(p.URL, "us-east-1", static("AKIAUNKNOWNUNKNOWN00", value.SecretAccessKey, "")), "UnrecognizedClientException"},
			} {
				if _, _, err := harness.Invoke(t.Context(), wrong.client, "signed", "{}"); harness.Code(err) != wrong.code {
					t.Errorf("invoke with %s: %v, want %s", wrong.name, err, wrong.code)
				}
				if _, err := wrong.client.ListFunctions(t.Context(), &lambda.ListFunctionsInput{}); harness.Code(err) != wrong.code {
					t.Errorf("list with %s: %v, want %s", wrong.name, err, wrong.code)
				}
			}
			for path, want := range map[string]int{"/_thaw/health": 200, "/_thaw/logs?function=signed": 403, "/2015-03-31/functions": 403, "/_thaw/nothing": 403} {
				response, err := http.Get(p.URL + path)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if response.StatusCode != want {
					t.Errorf("GET %s without a signature: %s, want %d", path, response.Status, want)
				}
			}
			p.Stop()
			again := harness.Start(t, harness.Options{Data: p.Data, Config: "auth:\n  required: true\n"})
			harness.MustInvoke(t, harness.ClientWith(again.URL, "us-east-1", keys), "signed", "{}")
			again.Stop()
			own := harness.Start(t, harness.Options{Data: p.Data, Config: "auth:\n  required: true\n  access_keys:\n    AKIAOWNOWNOWNOWNOWN0: ownownownownownown\n"})
			harness.MustInvoke(t, harness.ClientWith(own.URL, "us-east-1", static("AKIAOWNOWNOWNOWNOWN0", "ownownownownownown", "")), "signed", "{}")
			if _, _, err := harness.Invoke(t.Context(), harness.ClientWith(own.URL, "us-east-1", keys), "signed", "{}"); harness.Code(err) != "UnrecognizedClientException" {
				t.Errorf("the generated key beside configured ones: %v", err)
			}
		})
	}
}
