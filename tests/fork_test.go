package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"thaw/tests/harness"
)

// forkConfig runs functions on the interpreters that there are, everything else at its default.
const forkConfig = "runtimes:\n  nearest: true\n"

// startForking starts a platform with spares and templates, which must leave nothing on the machine when it has stopped.
// settings are further sections of its configuration.
func startForking(t *testing.T, settings ...string) *stage {
	t.Helper()
	data := t.TempDir()
	t.Cleanup(func() { harness.NothingLeft(t, data) })
	p := harness.Start(t, harness.Options{Config: forkConfig + strings.Join(settings, ""), Data: data})
	return &stage{Platform: p, client: p.Lambda()}
}

// standing is GET /_thaw/functions/NAME.
type standing struct {
	Template struct {
		State   string   `json:"state"`
		Reasons []string `json:"reasons"`
		InitMS  float64  `json:"init_ms"`
	} `json:"template"`
	Environments struct {
		Busy, Idle, Spares, Wanted, Starts int
	} `json:"environments"`
}

func (s *stage) standing(t *testing.T, name string) standing {
	t.Helper()
	a := s.call(t, http.MethodGet, "/_thaw/functions/"+name, nil, nil)
	var v standing
	if err := json.Unmarshal([]byte(a.payload), &v); err != nil || a.status != http.StatusOK {
		t.Fatalf("the platform's view of %s: %d %s", name, a.status, a.payload)
	}
	return v
}

// settled waits until a function has its spares and nothing is on its way.
func (s *stage) settled(t *testing.T, name string) standing {
	t.Helper()
	var v standing
	harness.Eventually(t, name+" has its spares", func() bool {
		v = s.standing(t, name)
		return v.Template.State != "building" && v.Environments.Spares >= defaultSpares && v.Environments.Starts == 0 && v.Environments.Busy == 0
	})
	return v
}

// defaultSpares is environments.spares in thaw.sample.yaml.
const defaultSpares = 2

// needTemplate skips the test where a runtime cannot be forked here, and fails it where it should have been.
func (s *stage) needTemplate(t *testing.T, name string) standing {
	t.Helper()
	v := s.standing(t, name)
	switch v.Template.State {
	case "ready":
	case "unsupported":
		t.Skipf("no template: %q", v.Template.Reasons)
	default:
		t.Fatalf("the template of %s is %s: %q", name, v.Template.State, v.Template.Reasons)
	}
	return v
}

// forced invokes a function in an environment of its own.
func (s *stage) forced(ctx context.Context, name, payload string) (*answer, error) {
	a, err := s.tryCall(ctx, http.MethodPost, "/2015-03-31/functions/"+name+"/invocations",
		map[string]string{"X-Amz-Log-Type": "Tail", "X-Thaw-Explain": "true", "X-Thaw-Start": "forced"}, strings.NewReader(payload))
	if err == nil && (a.status != http.StatusOK || a.header.Get("X-Amz-Function-Error") != "") {
		err = fmt.Errorf("%d %s %s\n%s", a.status, a.header.Get("X-Amz-Function-Error"), a.payload, a.tail)
	}
	return a, err
}

// fork invokes a function in an environment of its own, which must be a fork.
func (s *stage) fork(t *testing.T, name, payload string) *answer {
	t.Helper()
	a, err := s.forced(t.Context(), name, payload)
	if err != nil {
		t.Fatal(err)
	}
	if a.explanation.Kind != "fork" || a.explanation.Cause != "forced" {
		t.Fatalf("a forced start of %s is %s, because %s", name, a.explanation.Kind, a.explanation.Cause)
	}
	return a
}

// tellers are functions with a slow init that tell what they find. Each writes to what init made: a global, and a file in
// /tmp.
var tellers = []struct {
	name     string
	deployed deployed
}{
	{"python", deployed{runtime: "python3.11", handler: "f.handler", files: map[string]string{"f.py": `import os, socket, time
time.sleep(0.3)
print('initialised')
shared = []
os.makedirs('/tmp/a/b', mode=0o750)
with open('/tmp/a/b/kept', 'w') as f: f.write('kept')
os.symlink('kept', '/tmp/a/b/link')
open('/tmp/held', 'w').close()
def handler(event, context):
    shared.append(event)
    with open('/tmp/held', 'a') as f: f.write('x')
    new = not os.path.exists('/tmp/mine')
    open('/tmp/mine', 'w').close()
    return {
        'shared': len(shared), 'held': os.path.getsize('/tmp/held'), 'new': new, 'kept': open('/tmp/a/b/link').read(),
        'mode': oct(os.stat('/tmp/a/b').st_mode)[-3:], 'pid': [os.getpid(), int(os.readlink('/proc/self'))], 'uid': [os.getuid(), os.geteuid(), os.getgid()],
        'owner': os.stat('/tmp/a/b/kept').st_uid, 'host': socket.gethostname(), 'initialization': os.environ['AWS_LAMBDA_INITIALIZATION_TYPE'],
        'stream': [os.environ['AWS_LAMBDA_LOG_STREAM_NAME'], context.log_stream_name], 'key': os.environ['AWS_ACCESS_KEY_ID'],
        'token': os.environ['AWS_SESSION_TOKEN'], 'own': os.environ['OWN'], 'names': sorted(os.environ),
        'status': [l.split()[1] for l in open('/proc/self/status') if l[:3] == 'Cap'],
    }
`}, environment: map[string]string{"OWN": "mine"}}},
	{"node", deployed{runtime: "nodejs20.x", handler: "f.handler", files: map[string]string{"f.js": `const fs = require('fs'), os = require('os');
for (const end = Date.now() + 300; Date.now() < end;);
console.log('initialised');
const shared = [];
fs.mkdirSync('/tmp/a/b', { recursive: true, mode: 0o750 });
fs.writeFileSync('/tmp/a/b/kept', 'kept');
fs.symlinkSync('kept', '/tmp/a/b/link');
fs.writeFileSync('/tmp/held', '');
exports.handler = async (event, context) => {
  shared.push(event);
  fs.appendFileSync('/tmp/held', 'x');
  const fresh = !fs.existsSync('/tmp/mine');
  fs.writeFileSync('/tmp/mine', '');
  return {
    shared: shared.length, held: fs.statSync('/tmp/held').size, new: fresh, kept: fs.readFileSync('/tmp/a/b/link', 'utf8'),
    mode: (fs.statSync('/tmp/a/b').mode & 0o777).toString(8), pid: [process.pid, Number(fs.readlinkSync('/proc/self'))], uid: [process.getuid(), process.geteuid(), process.getgid()],
    owner: fs.statSync('/tmp/a/b/kept').uid, host: os.hostname(), initialization: process.env.AWS_LAMBDA_INITIALIZATION_TYPE,
    stream: [process.env.AWS_LAMBDA_LOG_STREAM_NAME, context.logStreamName], key: process.env.AWS_ACCESS_KEY_ID,
    token: process.env.AWS_SESSION_TOKEN, own: process.env.OWN, names: Object.keys(process.env).sort(),
    status: fs.readFileSync('/proc/self/status', 'utf8').split('\n').filter((l) => l.startsWith('Cap')).map((l) => l.split(/\s+/)[1]),
  };
};
`}, environment: map[string]string{"OWN": "mine"}}},
	{"ruby", deployed{runtime: "ruby3.3", handler: "f.handler", files: map[string]string{"f.rb": `require 'fileutils'; require 'socket'
sleep 0.3
puts 'initialised'
$shared = []
FileUtils.mkdir_p('/tmp/a'); Dir.mkdir('/tmp/a/b', 0o750)
File.write('/tmp/a/b/kept', 'kept')
File.symlink('kept', '/tmp/a/b/link')
File.write('/tmp/held', '')
def handler(event:, context:)
  $shared << event
  File.write('/tmp/held', 'x', mode: 'a')
  fresh = !File.exist?('/tmp/mine')
  File.write('/tmp/mine', '')
  {
    shared: $shared.size, held: File.size('/tmp/held'), new: fresh, kept: File.read('/tmp/a/b/link'),
    mode: (File.stat('/tmp/a/b').mode & 0o777).to_s(8), pid: [Process.pid, File.readlink('/proc/self').to_i], uid: [Process.uid, Process.euid, Process.gid],
    owner: File.stat('/tmp/a/b/kept').uid, host: Socket.gethostname, initialization: ENV['AWS_LAMBDA_INITIALIZATION_TYPE'],
    stream: [ENV['AWS_LAMBDA_LOG_STREAM_NAME'], context.log_stream_name], key: ENV['AWS_ACCESS_KEY_ID'],
    token: ENV['AWS_SESSION_TOKEN'], own: ENV['OWN'], names: ENV.keys.sort,
    status: File.readlines('/proc/self/status').select { |l| l.start_with?('Cap') }.map { |l| l.split[1] },
  }
end
`}, environment: map[string]string{"OWN": "mine"}}},
}

// told is what a teller answers.
type told struct {
	Shared, Held    int
	New             bool
	Kept, Mode      string
	Pid, UID        []int
	Owner           int
	Host            string
	Initialization  string
	Stream          []string
	Key, Token, Own string
	Names, Status   []string
}

func tell(t *testing.T, a *answer) told {
	t.Helper()
	var v told
	if err := json.Unmarshal([]byte(a.payload), &v); err != nil {
		t.Fatalf("%v: %s", err, a.payload)
	}
	return v
}

// TestStartsByFork looks at functions with a slow init: once they are Active, no request waits for init.
func TestStartsByFork(t *testing.T) {
	s := startForking(t)
	for _, teller := range tellers {
		t.Run(teller.name, func(t *testing.T) {
			s.deploy(t, teller.name, teller.deployed)
			if v := s.needTemplate(t, teller.name); v.Template.InitMS < 300 {
				t.Errorf("its init took 300 ms, not %v", v.Template.InitMS)
			}
			first := s.invoke(t, teller.name, "1")
			if kind := first.explanation.Kind; kind != "spare" && kind != "fork" || first.explanation.Cause != "first" {
				t.Errorf("the first start is %s, because %s", kind, first.explanation.Cause)
			}
			if again := s.invoke(t, teller.name, "2"); again.explanation.Kind != "warm" || tell(t, again).Shared != 2 {
				t.Errorf("the second start is %s: %s", again.explanation.Kind, again.payload)
			}
			s.settled(t, teller.name)
			s.explained(t, teller.name)
			s.apart(t, teller.name, teller.deployed)
			inits := 0
			s.logs(t, teller.name, func(e logEvent) { inits += strings.Count(e.Message, "initialised") })
			if inits != 1 {
				t.Errorf("init ran %d times", inits)
			}
			s.getReady(t, teller.name)
		})
	}
	t.Run("a function that a request waits for beside others", s.burst)
}

// explained looks at what the explanation and REPORT say of a fork.
func (s *stage) explained(t *testing.T, name string) {
	a := s.fork(t, name, "0")
	for _, phase := range []string{"place", "runtime", "restore", "handler"} {
		if a.explanation.Phases[phase] <= 0 {
			t.Errorf("a fork's phases lack %s: %v", phase, a.explanation.Phases)
		}
	}
	for _, phase := range []string{"init", "fetch"} {
		if _, ok := a.explanation.Phases[phase]; ok {
			t.Errorf("a fork's phases have %s: %v", phase, a.explanation.Phases)
		}
	}
	matches(t, "a fork's log", a.tail, "START RequestId: ID Version: \\$LATEST\nEND RequestId: ID\nREPORT RequestId: ID"+anyReport+"Init Duration: "+anyMillis+"\t\n", a.id)
	cmd, out := s.thaw(t.Context(), t, "invoke", name, "--explain", "--payload", "0")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !regexp.MustCompile(`(?m)^.*(warm|spare|fork)\b`).MatchString(out.String()) || !strings.Contains(out.String(), "handler") {
		t.Errorf("thaw invoke --explain:\n%s", out)
	}
}

// apart compares forks of one template with one another and with an environment that was booted.
func (s *stage) apart(t *testing.T, name string, d deployed) {
	d.tags = booted
	s.deploy(t, name+"-booted", d)
	reference, err := s.forced(t.Context(), name+"-booted", "0")
	if err != nil {
		t.Fatal(err)
	}
	if reference.explanation.Kind != "boot" {
		t.Errorf("with the tag, a forced start is %s", reference.explanation.Kind)
	}
	want := tell(t, reference)
	seen := map[string]bool{}
	environments := map[string]bool{}
	for range 4 {
		a := s.fork(t, name, "0")
		v := tell(t, a)
		if v.Shared != 1 || v.Held != 1 || !v.New || v.Kept != "kept" {
			t.Errorf("an environment is not as init left it: %s", a.payload)
		}
		for _, word := range []string{v.Stream[0], v.Key, v.Token} {
			if seen[word] || word == "" {
				t.Errorf("%q is another environment's as well", word)
			}
			seen[word] = true
		}
		if environments[a.explanation.Environment] || !strings.Contains(v.Stream[0], a.explanation.Environment) || v.Stream[1] != v.Stream[0] {
			t.Errorf("environment %s with the streams %q", a.explanation.Environment, v.Stream)
		}
		environments[a.explanation.Environment] = true
		if v.Pid[0] != v.Pid[1] {
			t.Errorf("it is process %d and takes itself for %d", v.Pid[1], v.Pid[0])
		}
		if v.Mode != want.Mode || v.Owner != want.Owner || !slices.Equal(v.UID, want.UID) || v.Host != want.Host || v.Own != "mine" ||
			!slices.Equal(v.Names, want.Names) || v.Initialization != want.Initialization {
			t.Errorf("a fork differs from a booted environment:\n%s\n%s", a.payload, reference.payload)
		}
		for _, capabilities := range v.Status {
			if strings.Trim(capabilities, "0") != "" {
				t.Errorf("it has capabilities: %q", v.Status)
			}
		}
	}
}

// getReady reads the words for a function that is forked.
func (s *stage) getReady(t *testing.T, name string) {
	cmd, out := s.thaw(t.Context(), t, "get", name)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !regexp.MustCompile(`(?m)^starts: forked from a template; each saves \d{3,} ms of init$`).MatchString(out.String()) {
		t.Errorf("thaw get:\n%s", out)
	}
}

// burst sends many first requests at the same time.
func (s *stage) burst(t *testing.T) {
	s.python(t, "burst", "import time\ntime.sleep(0.3)\nn = 0\ndef handler(event, context):\n    global n\n    n += 1\n    time.sleep(0.2)\n    return n\n", deployed{})
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			a, err := s.tryCall(t.Context(), http.MethodPost, "/2015-03-31/functions/burst/invocations", invokeHeaders, strings.NewReader("0"))
			if err != nil || a.status != http.StatusOK || a.header.Get("X-Amz-Function-Error") != "" {
				t.Errorf("%v %+v", err, a)
				return
			}
			if kind := a.explanation.Kind; kind == "boot" || (kind == "warm") == (a.payload == "1") {
				t.Errorf("one of many first starts is %s, and answers %s", kind, a.payload)
			}
		})
	}
	calls.Wait()
}

// TestUnsafeToFork has functions whose init leaves what copies of a process cannot share: they are booted, work, and
// the reason is told.
func TestUnsafeToFork(t *testing.T) {
	listener, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var echoes sync.WaitGroup
	echoes.Go(func() {
		for {
			c, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }() //nolint:errcheck // its peer has gone
		}
	})
	defer echoes.Wait()
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	s := startForking(t)
	for _, c := range []struct{ name, init, handler, reason string }{
		{"connection", "import socket\ns = socket.create_connection(('host.thaw.internal', " + port + "))", "s.sendall(b'yes'); return s.recv(3) == b'yes'", `TCP connection to \S+:` + port},
		{"thread", "import threading\nready, asked = threading.Event(), threading.Event()\ndef run():\n    while True: asked.wait(); asked.clear(); ready.set()\nthreading.Thread(target=run, daemon=True).start()",
			"asked.set(); return ready.wait(5)", `1 thread is running after init`},
		{"child", "import subprocess\np = subprocess.Popen(['sleep', '1000'])", "return p.poll() is None", `process sleep running`},
		{"inotify", "import ctypes, os\nlibc = ctypes.CDLL(None)\nfd = libc.inotify_init()\nlibc.inotify_add_watch(fd, b'/tmp', 0x100)",
			"import tempfile; tempfile.mkstemp(); return len(os.read(fd, 1000)) > 0", `inotify`},
		{"file", "import os\nf = os.memfd_create('mine')", "os.write(f, b'x'); return os.fstat(f).st_size > 0", `/memfd:mine`},
		{"tmpfile", "f = open('/tmp/held', 'a')", "f.write('x'); f.flush(); return True", `/tmp/held open for writing`},
		{"lock", "import fcntl\nf = open('/tmp/lock', 'w')\nfcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)", "import os; return os.system('flock -n /tmp/lock true') != 0", `lock on /tmp/lock`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.python(t, c.name, c.init+"\ndef handler(event, context):\n    "+c.handler+"\n", deployed{})
			s.unforked(t, c.name, "unsafe", c.reason)
		})
	}
	for _, c := range []struct {
		name, runtime, file, source, reason string
	}{
		{"node-connection", "nodejs20.x", "f.js", `
const socket = require('net').connect(` + port + `, 'host.thaw.internal');
const connected = new Promise((ok, failed) => socket.on('connect', ok).on('error', failed));
module.exports = { handler: async () => { await connected; socket.write('yes'); return await new Promise((ok) => socket.once('data', (d) => ok(String(d) === 'yes'))); } };
`, `TCP connection to \S+:` + port},
		{"ruby-thread", "ruby3.3", "f.rb", "$asked, $ready = Queue.new, Queue.new\nThread.new { loop { $ready << ($asked.pop == 1) } }\ndef handler(event:, context:)\n  $asked << 1\n  $ready.pop\nend\n",
			`1 thread is running after init`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.deploy(t, c.name, deployed{runtime: c.runtime, handler: "f.handler", files: map[string]string{c.file: c.source}})
			if v := s.standing(t, c.name); v.Template.State == "unsupported" {
				t.Skipf("no template: %q", v.Template.Reasons)
			}
			s.unforked(t, c.name, "unsafe", c.reason)
		})
	}
}

// unforked looks at a function that must not be forked, and must work: it answers true.
func (s *stage) unforked(t *testing.T, name, state, reason string) {
	t.Helper()
	s.succeed(t, name, "0", "true")
	v := s.settled(t, name)
	if v.Template.State != state || !regexp.MustCompile(reason).MatchString(strings.Join(v.Template.Reasons, "\n")) {
		t.Fatalf("its template is %s because %q, want %s because %s", v.Template.State, v.Template.Reasons, state, reason)
	}
	cmd, out := s.thaw(t.Context(), t, "get", name)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if want := "starts: booted, not forked (" + state + ")\n  because " + v.Template.Reasons[0] + "\n"; !strings.Contains(out.String(), want) {
		t.Errorf("thaw get lacks %q:\n%s", want, out)
	}
	a, err := s.forced(t.Context(), name, "0")
	if err != nil || a.payload != "true" || a.explanation.Kind != "boot" {
		t.Fatalf("booted: %v %+v", err, a)
	}
	if a := s.succeed(t, name, "0", "true"); a.explanation.Kind != "warm" {
		t.Errorf("the environment that served is not used again: %s", a.explanation.Kind)
	}
}

// TestTagsOfTemplates has functions whose owner decides about their template.
func TestTagsOfTemplates(t *testing.T) {
	s := startForking(t)
	create := func(t *testing.T, name, source string, tags map[string]string) {
		t.Helper()
		s.python(t, name, source, deployed{tags: tags})
	}
	const remembers = "seen = []\ndef handler(event, context):\n    seen.append(event)\n    return seen\n"
	for _, c := range []struct {
		name string
		tags map[string]string
		want string
	}{
		{"warmed", map[string]string{"thaw:warmup-event": `{"a": [1, "é"]}`}, `[{"a": [1, "\u00e9"]}, 7]`},
		{"convention", map[string]string{"thaw:warmup": "true"}, `[{"warmup": true}, 7]`},
		{"cold", map[string]string{"thaw:warmup": "false", "other": "tag"}, `[7]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			create(t, c.name, remembers, c.tags)
			s.settled(t, c.name)
			for range 2 {
				if a := s.fork(t, c.name, "7"); a.payload != c.want {
					t.Errorf("a fork has seen %s, want %s", a.payload, c.want)
				}
			}
			if a := s.invoke(t, c.name, "7"); a.payload != c.want || a.explanation.Kind != "spare" {
				t.Errorf("a %s has seen %s, want %s", a.explanation.Kind, a.payload, c.want)
			}
		})
	}
	t.Run("off", func(t *testing.T) {
		create(t, "off", "def handler(event, context):\n    return True\n", map[string]string{"thaw:snapshot": "off"})
		s.unforked(t, "off", "off", "^the tag thaw:snapshot is off$")
	})
	t.Run("a warm-up that fails", func(t *testing.T) {
		create(t, "refuses", "def handler(event, context):\n    if event == {'warmup': True}: raise ValueError('not me')\n    return True\n", map[string]string{"thaw:warmup": "true"})
		s.unforked(t, "refuses", "failed", "^the warm-up invocation failed: ValueError: not me$")
	})
	t.Run("a warm-up that ends the process", func(t *testing.T) {
		create(t, "ends", "import os\ndef handler(event, context):\n    if event == {'warmup': True}: os._exit(3)\n    return True\n", map[string]string{"thaw:warmup": "true"})
		s.unforked(t, "ends", "failed", "^the warm-up invocation failed: .*exit status 3")
	})
}

// rolls are functions that roll every generator of their language, those that init used among them.
var rolls = []struct {
	name     string
	deployed deployed
}{
	{"python", deployed{runtime: "python3.11", handler: "f.handler", files: map[string]string{"f.py": `import os, random, secrets, ssl, tempfile, uuid
own = random.Random()
class Holder: pass
holder = Holder(); holder.deep = [{'generator': random.Random()}]
for warm in (random.random, random.gauss, own.random, uuid.uuid1, uuid.uuid4, secrets.token_bytes): warm(0, 1) if warm is random.gauss else warm()
ssl.RAND_bytes(8)
try:
    import numpy
    numpy.random.random(); generator = numpy.random.default_rng()
except ImportError:
    numpy = None
def handler(event, context):
    r = {
        'random': random.random(), 'gauss': random.gauss(0, 1), 'own': own.random(), 'deep': holder.deep[0]['generator'].random(), 'bits': random.getrandbits(64),
        'uuid1': str(uuid.uuid1()), 'uuid4': str(uuid.uuid4()), 'urandom': os.urandom(8).hex(), 'ssl': ssl.RAND_bytes(8).hex(), 'secrets': secrets.token_hex(8),
        'system': random.SystemRandom().random(), 'name': os.path.basename(tempfile.mktemp()),
    }
    if numpy is not None: r['numpy'] = numpy.random.random(); r['generator'] = generator.random()
    return r
`}}},
	{"node", deployed{runtime: "nodejs20.x", handler: "f.handler", files: map[string]string{"f.js": `const crypto = require('crypto');
Math.random(); crypto.randomBytes(8); crypto.randomUUID(); crypto.getRandomValues(new Uint8Array(8));
exports.handler = async () => ({
  random: Math.random(), more: Math.random(), bytes: crypto.randomBytes(8).toString('hex'), uuid: crypto.randomUUID(), uncached: crypto.randomUUID({ disableEntropyCache: true }),
  values: Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString('hex'), integer: crypto.randomInt(2 ** 47),
  key: crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' }).d,
});
`}}},
	{"ruby", deployed{runtime: "ruby3.3", handler: "f.handler", files: map[string]string{"f.rb": `require 'securerandom'; require 'openssl'; require 'tempfile'
$own = Random.new
rand; $own.rand; SecureRandom.hex; OpenSSL::Random.random_bytes(8); Random.rand; [1, 2].shuffle
def handler(event:, context:)
  { rand: rand, random: Random.rand, own: $own.rand, hex: SecureRandom.hex(8), uuid: SecureRandom.uuid, ssl: OpenSSL::Random.random_bytes(8).unpack1('H*'),
    shuffle: (1..40).to_a.shuffle.join(' '), urandom: Random.urandom(8).unpack1('H*'), seed: Random.new_seed.to_s }
end
`}}},
}

// TestForksAreUnique makes many environments from one template: no two of them, nor two spares, roll the same.
func TestForksAreUnique(t *testing.T) {
	const environments, callers = 200, 4
	s := startForking(t)
	for _, r := range rolls {
		t.Run(r.name, func(t *testing.T) {
			s.deploy(t, r.name, r.deployed)
			s.needTemplate(t, r.name)
			var mu sync.Mutex
			seen := map[string]map[any]bool{}
			note := func(payload string) error {
				var values map[string]any
				if err := json.Unmarshal([]byte(payload), &values); err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				for name, value := range values {
					if seen[name] == nil {
						seen[name] = map[any]bool{}
					}
					seen[name][value] = true
				}
				return nil
			}
			var calls sync.WaitGroup
			for range callers {
				calls.Go(func() {
					for range environments / callers {
						a, err := s.forced(t.Context(), r.name, "0")
						if err == nil && a.explanation.Kind != "fork" {
							err = fmt.Errorf("a forced start is %s", a.explanation.Kind)
						}
						if err == nil {
							err = note(a.payload)
						}
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			calls.Wait()
			s.settled(t, r.name)
			if a := s.invoke(t, r.name, "0"); a.explanation.Kind != "spare" {
				t.Errorf("with spares, a start is %s", a.explanation.Kind)
			} else if err := note(a.payload); err != nil {
				t.Error(err)
			}
			if len(seen) == 0 {
				t.Fatal("nothing was rolled")
			}
			for name, values := range seen {
				if len(values) != environments+1 {
					t.Errorf("%s: %d values of %d environments", name, len(values), environments+1)
				}
			}
		})
	}
}
