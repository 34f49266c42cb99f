package tests

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"thaw/tests/harness"
)

// logEvent is one line of GET /_thaw/logs.
type logEvent struct {
	Timestamp int64  `json:"timestamp"`
	Stream    string `json:"stream"`
	RequestID string `json:"request_id"`
	Message   string `json:"message"`
}

// logs passes every log event of a function to fn, oldest first.
func (s *stage) logs(t *testing.T, function string, fn func(logEvent)) {
	t.Helper()
	response, err := http.Get(s.URL + "/_thaw/logs?function=" + url.QueryEscape(function))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("the logs of %s: %s", function, response.Status)
	}
	lines := bufio.NewReaderSize(response.Body, 1<<20)
	decoder := json.NewDecoder(lines)
	for decoder.More() {
		var e logEvent
		if err := decoder.Decode(&e); err != nil {
			t.Fatal(err)
		}
		fn(e)
	}
}

// awaitEvent waits until an event that is wanted has been stored, which is soon after it was written.
func (s *stage) awaitEvent(t *testing.T, function string, wanted func(logEvent) bool) {
	t.Helper()
	harness.Eventually(t, "the event is in the log of "+function, func() (found bool) {
		s.logs(t, function, func(e logEvent) { found = found || wanted(e) })
		return found
	})
}

// logText is a function's whole log.
func (s *stage) logText(t *testing.T, function string) string {
	t.Helper()
	var text strings.Builder
	s.logs(t, function, func(e logEvent) { text.WriteString(e.Message) })
	return text.String()
}

const talkers = `import logging, os, subprocess, sys, threading, time
logging.getLogger().setLevel('INFO')
sys.stdout.write('from init\n')
def late():
    time.sleep(0.02)
    print('written after the response')
def handler(event, context):
    do = event['do']
    if do == 'many lines':
        logging.info('first\nsecond\n\nfourth')
        logging.getLogger('mine').warning('a\n  b')
        try: raise ValueError('one\ntwo')
        except ValueError: logging.exception('caught')
    if do == 'order':
        for n in range(200):
            (sys.stdout if n % 2 == 0 else sys.stderr).write('line %d\n' % n)
    if do == 'child':
        print('parent before')
        subprocess.run(['sh', '-c', 'echo child out; echo child err >&2'], check=True)
        os.system('echo from the shell')
        print('parent after')
    if do == 'fragment':
        sys.stdout.write('no newline at the end'); sys.stdout.flush()
    if do == 'bytes':
        os.write(1, b'\xff\xfe not UTF-8 \x00\x1b[31m\n')
        print('\u00fc\U0001f600')
    if do == 'tail':
        for n in range(1000): print('line %04d' % n)
    if do == 'long':
        print('x' * (300 * 1024))
    if do == 'late':
        threading.Thread(target=late).start()
    return event.get('return', 0)
`

func TestLogs(t *testing.T) {
	s := startStageWith(t, noSpares)
	s.python(t, "first", talkers, deployed{tags: booted})
	s.python(t, "talker", talkers, deployed{})
	const start, report = "START RequestId: ID Version: \\$LATEST\n", "END RequestId: ID\nREPORT RequestId: ID" + anyReport
	t.Run("first invocation", func(t *testing.T) {
		a := s.succeed(t, "first", `{"do":""}`, "0")
		matches(t, "the log", a.tail, initStart+"from init\n"+start+report+"Init Duration: "+anyMillis+"\t\n", a.id)
		a = s.succeed(t, "talker", `{"do":""}`, "0")
		matches(t, "a fork's log", a.tail, start+report+"Init Duration: "+anyMillis+"\t\n", a.id)
	})
	const stamp = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`
	var order strings.Builder
	for n := range 200 {
		fmt.Fprintf(&order, "line %d\n", n)
	}
	for _, test := range []struct{ do, body string }{
		{"", ""},
		{"many lines", `\[INFO\]` + "\t" + stamp + "\tID\tfirst\nsecond\n\nfourth\n" + `\[WARNING\]` + "\t" + stamp + "\tID\ta\n  b\n" +
			`\[ERROR\]` + "\t" + stamp + "\tID\tcaught\nTraceback \\(most recent call last\\):\n  File [^\n]*\n(    [^\n]*\n)+ValueError: one\ntwo\n"},
		{"order", order.String()},
		{"child", "parent before\nchild out\nchild err\nfrom the shell\nparent after\n"},
		{"fragment", "no newline at the end\n"},
		{"bytes", "\xff\xfe not UTF-8 \x00\x1b\\[31m\nü😀\n"},
	} {
		t.Run(test.do, func(t *testing.T) {
			a := s.succeed(t, "talker", fmt.Sprintf(`{"do":%q}`, test.do), "0")
			if test.do == "bytes" {
				if want := "\xff\xfe not UTF-8 \x00\x1b[31m\nü😀\n"; !strings.Contains(a.tail, want) {
					t.Errorf("the log is %q and lacks %q", a.tail, want)
				}
				return
			}
			matches(t, "the log", a.tail, start+test.body+report+"\n", a.id)
		})
	}
	t.Run("a message of several lines is one event", func(t *testing.T) {
		for _, want := range []string{"\tfirst\nsecond\n\nfourth\n", "\ta\n  b\n"} {
			s.awaitEvent(t, "talker", func(e logEvent) bool { return strings.HasPrefix(e.Message, "[") && strings.HasSuffix(e.Message, want) })
		}
	})
	t.Run("the tail has 4 KB", func(t *testing.T) {
		a := s.succeed(t, "talker", `{"do":"tail"}`, "0")
		s.awaitEvent(t, "talker", func(e logEvent) bool { return strings.HasPrefix(e.Message, "REPORT RequestId: "+a.id) })
		all := s.logText(t, "talker")
		begin := strings.Index(all, "START RequestId: "+a.id)
		if begin < 0 {
			t.Fatal("the log has no START")
		}
		all = all[begin:]
		if len(a.tail) != 4096 || !strings.HasSuffix(all, a.tail) {
			t.Errorf("the tail has %d bytes and is not the end of the log: ...%q", len(a.tail), a.tail[max(0, len(a.tail)-300):])
		}
		matches(t, "the end of the tail", a.tail[strings.LastIndex(a.tail, "line 0999"):], "line 0999\n"+report+"\n", a.id)
	})
	t.Run("a long line is kept", func(t *testing.T) {
		a := s.succeed(t, "talker", `{"do":"long"}`, "0")
		s.awaitEvent(t, "talker", func(e logEvent) bool { return strings.HasPrefix(e.Message, "REPORT RequestId: "+a.id) })
		var size, events int
		s.logs(t, "talker", func(e logEvent) {
			if e.RequestID == a.id && strings.HasPrefix(e.Message, "x") {
				events++
				size += strings.Count(e.Message, "x")
			}
		})
		if size != 300*1024 || events != 2 {
			t.Errorf("%d of %d bytes are there, in %d events", size, 300*1024, events)
		}
	})
	t.Run("no tail without being asked", func(t *testing.T) {
		a := s.call(t, http.MethodPost, "/2015-03-31/functions/talker/invocations", nil, strings.NewReader(`{"do":"order"}`))
		if a.header.Get("X-Amz-Log-Result") != "" {
			t.Errorf("X-Amz-Log-Result is %q", a.tail)
		}
	})
	t.Run("after the response", func(t *testing.T) {
		// The environment goes on until it is frozen, and is thawed by the next invocation.
		s.succeed(t, "talker", `{"do":"late"}`, "0")
		harness.Eventually(t, "what was written after the response is in the log", func() bool {
			s.succeed(t, "talker", `{"do":""}`, "0")
			return strings.Contains(s.logText(t, "talker"), "written after the response\n")
		})
	})
	t.Run("node", func(t *testing.T) {
		s.deploy(t, "node-talker", deployed{runtime: "nodejs20.x", handler: "index.handler", files: map[string]string{"index.js": `
exports.handler = async () => {
  console.log('one\ntwo'); console.error('three\n\nfive'); console.warn('%s is %d', 'six', 6); console.debug({ a: [1] });
  process.stdout.write('plain\nlines\n');
};`}})
		s.invoke(t, "node-talker", "{}")
		a := s.succeed(t, "node-talker", "{}", "null")
		matches(t, "the log", a.tail, start+stamp+"\tID\tINFO\tone\ntwo\n"+stamp+"\tID\tERROR\tthree\n\nfive\n"+stamp+"\tID\tWARN\tsix is 6\n"+
			stamp+"\tID\tDEBUG\t\\{ a: \\[ 1 \\] \\}\nplain\nlines\n"+report+"\n", a.id)
		s.awaitEvent(t, "node-talker", func(e logEvent) bool { return strings.HasSuffix(e.Message, "\tERROR\tthree\n\nfive\n") })
	})
	t.Run("logs are not mixed", func(t *testing.T) {
		const functions, calls = 3, 20
		for n := range functions {
			s.python(t, fmt.Sprintf("own-%d", n), fmt.Sprintf("def handler(e, c): print('I am own-%d')\n", n), deployed{})
		}
		done := make(chan struct{})
		for n := range functions {
			go func() {
				defer func() { done <- struct{}{} }()
				for range calls {
					a, err := s.tryCall(t.Context(), http.MethodPost, fmt.Sprintf("/2015-03-31/functions/own-%d/invocations", n), invokeHeaders, strings.NewReader("{}"))
					if err != nil || strings.Count(a.tail, "I am own-") != 1 || !strings.Contains(a.tail, fmt.Sprintf("I am own-%d\n", n)) {
						t.Errorf("own-%d: %v, %+v", n, err, a)
					}
				}
			}()
		}
		for range functions {
			<-done
		}
		for n := range functions {
			var text string
			harness.Eventually(t, "all calls are in the log", func() bool {
				text = s.logText(t, fmt.Sprintf("own-%d", n))
				return strings.Count(text, "REPORT") >= calls
			})
			if all, own := strings.Count(text, "I am own-"), strings.Count(text, fmt.Sprintf("I am own-%d\n", n)); all != calls || own != calls {
				t.Errorf("the log of own-%d has %d lines, %d its own, not %d", n, all, own, calls)
			}
		}
	})
	t.Run("of a function that is not there", func(t *testing.T) {
		a := s.call(t, http.MethodGet, "/_thaw/logs?function=absent", nil, nil)
		if a.status != http.StatusNotFound || a.header.Get("X-Amzn-Errortype") != "ResourceNotFoundException" {
			t.Errorf("%d %s", a.status, a.payload)
		}
	})
	t.Run("thaw logs", func(t *testing.T) { s.readWithCLI(t) })
}

// thaw starts the command line against the platform.
func (s *stage) thaw(ctx context.Context, t *testing.T, args ...string) (*exec.Cmd, *harness.Output) {
	t.Helper()
	out := &harness.Output{}
	cmd := exec.CommandContext(ctx, harness.Binary(t), append(args, "--endpoint", s.URL)...)
	cmd.Env = append(os.Environ(), s.Env()...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

func (s *stage) readWithCLI(t *testing.T) {
	s.python(t, "read", "def handler(e, c): print('called with', e)\n", deployed{})
	s.invoke(t, "read", `"one"`)
	s.awaitEvent(t, "read", func(e logEvent) bool { return strings.HasPrefix(e.Message, "REPORT") })
	cmd, out := s.thaw(t.Context(), t, "logs", "read")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"INIT_START", "START RequestId", "called with one", "END RequestId", "REPORT RequestId"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("thaw logs lacks %q:\n%s", want, out)
		}
	}
	cmd, out = s.thaw(t.Context(), t, "logs", "-f", "read")
	harness.Eventually(t, "thaw logs -f shows what there is", func() bool { return strings.Contains(out.String(), "called with one") })
	for _, word := range []string{"two", "three"} {
		s.invoke(t, "read", strconv.Quote(word))
		harness.Eventually(t, "thaw logs -f goes on", func() bool { return strings.Contains(out.String(), "called with "+word) })
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("an interrupted thaw logs -f ends with %v\n%s", err, out)
	}
	if n := strings.Count(out.String(), "called with"); n != 3 {
		t.Errorf("thaw logs -f shows %d of 3 lines:\n%s", n, out)
	}
}

// memory reads a figure of /proc/PID/status in bytes: VmRSS, or VmHWM for the highest so far.
func (s *stage) memory(t *testing.T, figure string) uint64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(figure + `:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in %s", figure, text)
	}
	kb, _ := strconv.ParseUint(string(m[1]), 10, 64)
	return kb << 10
}

// TestFloodOfOutput: a function that writes 200 MB neither fills the platform's memory nor stops other functions, and
// what is not in the log is counted there.
func TestFloodOfOutput(t *testing.T) {
	s := startStage(t)
	const lines, size = 200 << 10, 1 << 10
	s.python(t, "flood", fmt.Sprintf(`import os
def handler(e, c):
    block = (b'f' * %d + b'\n') * 64
    for n in range(%d): os.write(1, block)
`, size-1, lines/64), deployed{memory: 1769, timeout: 60})
	s.python(t, "bystander", "def handler(e, c): return e\n", deployed{})
	s.succeed(t, "bystander", "1", "1")
	before := s.memory(t, "VmRSS")

	ended := make(chan *answer, 1)
	go func() {
		a, err := s.tryCall(t.Context(), http.MethodPost, "/2015-03-31/functions/flood/invocations", invokeHeaders, strings.NewReader("{}"))
		if err != nil {
			t.Error(err)
			a = &answer{}
		}
		ended <- a
	}()
	var a *answer
	others := 0
	for a == nil {
		select {
		case a = <-ended:
		default:
			s.succeed(t, "bystander", "2", "2")
			others++
		}
	}
	if a.payload != "null" || others == 0 {
		t.Errorf("the flood gave %s; %d other invocations went on meanwhile", a.payload, others)
	}
	peak := s.memory(t, "VmHWM")
	// 8 MB may wait to be stored, the engine has copies of 2 MB, and the collector lets garbage grow to three times of all
	// that is live; twice this flood grows it by 150 MB.
	if grown := int64(peak) - int64(before); grown > 192<<20 {
		t.Errorf("the platform grew by %d MB", grown>>20)
	}
	dropped := regexp.MustCompile(`thaw: (\d+) log events were dropped`)
	var kept, lost int
	harness.Eventually(t, "the flood is in the log", func() bool {
		kept, lost = 0, 0
		ended := false
		s.logs(t, "flood", func(e logEvent) {
			switch m := dropped.FindStringSubmatch(e.Message); {
			case len(e.Message) == size && e.Message[0] == 'f':
				kept++
			case m != nil:
				n, _ := strconv.Atoi(m[1])
				lost += n
			case strings.HasPrefix(e.Message, "REPORT"):
				ended = true
			}
		})
		return ended
	})
	t.Logf("%d lines kept, %d dropped, %d other invocations meanwhile; memory %d MB before, %d MB at most", kept, lost, others, before>>20, peak>>20)
	if kept+lost != lines {
		t.Errorf("%d lines are in the log and %d are counted as dropped, of %d", kept, lost, lines)
	}
	s.succeed(t, "bystander", "3", "3")
}

// TestLogsSurviveAKill: what was written more than a flush interval before the platform was killed is there after the
// next start. What may be lost is what was written within it.
func TestLogsSurviveAKill(t *testing.T) {
	s := startStageWith(t, noSpares) // nothing is written after the last call, nor at the start
	s.python(t, "lasting", "def handler(e, c): print('number', e)\n", deployed{tags: booted})
	const calls = 20
	for n := range calls {
		s.invoke(t, "lasting", strconv.Itoa(n))
	}
	// What can be read is stored.
	harness.Eventually(t, "the last line is stored", func() bool {
		return strings.Count(s.logText(t, "lasting"), "REPORT") == calls
	})
	before := s.logText(t, "lasting")
	s.Kill()
	p := harness.Start(t, harness.Options{Config: stageConfig + noSpares, Data: s.Data})
	s = &stage{Platform: p, client: p.Lambda()}
	if after := s.logText(t, "lasting"); after != before {
		t.Errorf("the log was\n%s\nand is\n%s", before, after)
	}
	s.succeed(t, "lasting", "99", "null")
	s.awaitEvent(t, "lasting", func(e logEvent) bool { return e.Message == "number 99\n" })
	if !strings.HasPrefix(s.logText(t, "lasting"), before) {
		t.Error("the log does not go on where it was")
	}
}
