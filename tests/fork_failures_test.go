package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw/tests/harness"
)

// discard is a testing.TB for looks that are repeated.
type discard struct{ testing.TB }

func (discard) Helper()      {}
func (discard) Fatal(...any) {}

// bootstraps are the processes on this machine that run functions for the platform, templates among them.
func (s *stage) bootstraps() (all []int) {
	for _, b := range harness.Belongings(discard{}, s.Data) {
		if fields := strings.Fields(b); fields[0] == "process" && strings.Contains(b, "bootstrap.") {
			pid, _ := strconv.Atoi(fields[1])
			all = append(all, pid)
		}
	}
	return all
}

// templates are those of bootstraps that are in this process's user namespace, as templates are and environments are not.
func (s *stage) templates(t *testing.T) (all []int) {
	t.Helper()
	own, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range s.bootstraps() {
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid)); err == nil && ns == own {
			all = append(all, pid)
		}
	}
	return all
}

// template waits until there is one template, and gives its process.
func (s *stage) template(t *testing.T) (pid int) {
	t.Helper()
	harness.Eventually(t, "there is one template", func() bool {
		all := s.templates(t)
		if len(all) == 1 {
			pid = all[0]
		}
		return len(all) == 1
	})
	return pid
}

// accounted waits until the function has its spares, and the processes on this machine are those that the platform tells of for its only function.
func (s *stage) accounted(t *testing.T, name string) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		v, all := s.standing(t, name), s.bootstraps()
		want := v.Environments.Spares + v.Environments.Idle
		if v.Template.State == "ready" {
			want++
		}
		if v.Template.State != "building" && v.Environments.Spares >= defaultSpares && v.Environments.Starts+v.Environments.Busy == 0 && len(all) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the platform tells of %+v, and there are the processes %v, the templates %v among them", v, all, s.templates(t))
		}
		<-time.After(20 * time.Millisecond)
	}
}

func alive(pids []int) (left []int) {
	for _, pid := range pids {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !bytes.Contains(text, []byte(") Z ")) {
			left = append(left, pid)
		}
	}
	return left
}

// load invokes a function from several sides, in turn as it comes and forced, until stop is called. Each answer is
// checked, with what since returned before the request was sent.
func (s *stage) load(t *testing.T, name string, since func() int, check func(a *answer, since int) error) (stop func()) {
	t.Helper()
	var over atomic.Bool
	var callers sync.WaitGroup
	var count atomic.Int64
	for range 3 {
		callers.Go(func() {
			for n := 0; !over.Load(); n++ {
				header := map[string]string{"X-Thaw-Explain": "true"}
				if n%3 == 0 {
					header["X-Thaw-Start"] = "forced"
				}
				before := since()
				a, err := s.tryCall(t.Context(), http.MethodPost, "/2015-03-31/functions/"+name+"/invocations", header, strings.NewReader("{}"))
				if err == nil && (a.status != http.StatusOK || a.header.Get("X-Amz-Function-Error") != "") {
					err = fmt.Errorf("%d %s", a.status, a.payload)
				}
				if err == nil {
					err = check(a, before)
				}
				if err != nil {
					t.Errorf("beside it: %v", err)
					return
				}
				count.Add(1)
			}
		})
	}
	stop = sync.OnceFunc(func() {
		over.Store(true)
		callers.Wait()
		t.Logf("%d invocations beside it", count.Load())
	})
	t.Cleanup(stop) // where the test gives up before
	return stop
}

func anyAnswer(*answer, int) error { return nil }
func never() int                   { return 0 }

// TestUpdatesWithTemplates changes the code again and again while the function is invoked.
func TestUpdatesWithTemplates(t *testing.T) {
	s := startForking(t)
	source := func(n int) string {
		return fmt.Sprintf("import json, time\ntime.sleep(0.05)\ndef handler(event, context):\n    return %d\n", n)
	}
	s.python(t, "changes", source(0), deployed{})
	var inForce atomic.Int64
	stop := s.load(t, "changes", func() int { return int(inForce.Load()) }, func(a *answer, since int) error {
		if n, err := strconv.Atoi(a.payload); err != nil || n < since {
			return fmt.Errorf("the answer of %s after update %d was Successful, a %s", a.payload, since, a.explanation.Kind)
		}
		return nil
	})
	const updates = 6
	for n := 1; n <= updates && !t.Failed(); n++ {
		if _, err := s.client.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{
			FunctionName: aws.String("changes"), ZipFile: harness.Zip(t, map[string]string{"f.py": source(n)}),
		}); err != nil {
			t.Fatal(err)
		}
		s.awaitUpdate(t, "changes")
		inForce.Store(int64(n))
		if state := s.standing(t, "changes").Template.State; state != "ready" {
			t.Errorf("after update %d was Successful, its template is %s", n, state)
		}
	}
	stop()
	s.accounted(t, "changes")
	old := s.bootstraps()
	harness.Update(t, s.client, "changes", map[string]string{"f.py": source(updates + 1)})
	s.accounted(t, "changes")
	if left := alive(old); len(left) > 0 {
		t.Errorf("of the old code, the processes %v are left", left)
	}
	if a := s.fork(t, "changes", "{}"); a.payload != strconv.Itoa(updates+1) {
		t.Errorf("a fork answers %s", a.payload)
	}
	old = s.bootstraps()
	if _, err := s.client.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("changes")}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "nothing of the deleted function is left", func() bool { return len(alive(old)) == 0 && len(s.bootstraps()) == 0 })
}

// TestKilledWithTemplates kills the platform, and starts it on the same data: requests are served while the template is
// made again.
func TestKilledWithTemplates(t *testing.T) {
	s := startForking(t)
	s.python(t, "slow", "import time\ntime.sleep(1)\ndef handler(event, context):\n    return True\n", deployed{})
	s.succeed(t, "slow", "{}", "true")
	s.settled(t, "slow")
	old := s.bootstraps()
	if len(old) < 1+defaultSpares {
		t.Fatalf("template and spares are not among %v", old)
	}
	s.Kill()
	again := harness.Start(t, harness.Options{Config: forkConfig, Data: s.Data})
	s = &stage{Platform: again, client: again.Lambda()}
	if left := alive(old); len(left) > 0 {
		t.Errorf("of the killed platform, the processes %v are left", left)
	}
	s.succeed(t, "slow", "{}", "true")
	s.accounted(t, "slow")
	s.needTemplate(t, "slow")
	s.fork(t, "slow", "{}")
	again.Stop()
	harness.NothingLeft(t, again.Data)
}

// TestKilledTemplate kills a template's processes from outside: requests go on, and there is a new template soon.
func TestKilledTemplate(t *testing.T) {
	s := startForking(t)
	for _, language := range []struct{ name, runtime, file, source string }{
		{"python", "python3.11", "f.py", "def handler(event, context):\n    return True\n"},
		{"node", "nodejs20.x", "f.js", "exports.handler = async () => true;\n"},
		{"ruby", "ruby3.3", "f.rb", "def handler(event:, context:)\n  true\nend\n"},
	} {
		t.Run(language.name, func(t *testing.T) {
			name := language.name
			s.deploy(t, name, deployed{runtime: language.runtime, handler: "f.handler", files: map[string]string{language.file: language.source}})
			s.needTemplate(t, name)
			s.fork(t, name, "{}")
			for range 3 {
				dead := s.template(t)
				stop := s.load(t, name, never, anyAnswer)
				if err := syscall.Kill(dead, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				harness.Eventually(t, "there is a new template", func() bool {
					all := s.templates(t)
					return len(all) == 1 && all[0] != dead && s.standing(t, name).Template.State == "ready"
				})
				stop()
			}
			s.fork(t, name, "{}")
			s.accounted(t, name)

			// Its pid 1 takes with it what was forked from it.
			dead := s.template(t)
			if err := syscall.Kill(parent(t, dead), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				s.succeed(t, name, "{}", "true")
			}
			s.accounted(t, name)
			if now := s.template(t); now == dead {
				t.Error("the template lives on")
			}
			s.standsAs(t, name, "ready")
			s.fork(t, name, "{}")
			s.settled(t, name)
			if _, err := s.client.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: &name}); err != nil {
				t.Fatal(err)
			}
			harness.Eventually(t, "nothing of the function is left", func() bool { return len(s.bootstraps()) == 0 })
		})
	}
}

func parent(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	ppid, err := strconv.Atoi(strings.Fields(rest)[1])
	if err != nil || ppid <= 1 {
		t.Fatalf("the parent of %d: %d %v", pid, ppid, err)
	}
	return ppid
}

// TestWildTemplates has functions that do not come to rest by themselves after init: parked, they do not run.
func TestWildTemplates(t *testing.T) {
	s := startForking(t)
	for _, wild := range []struct{ name, runtime, file, source string }{
		{"signals", "python3.11", "f.py", "import signal\nn = 0\ndef tick(*_):\n    global n\n    for i in range(1000): n += 1\nsignal.signal(signal.SIGALRM, tick)\n" +
			"signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)\ndef handler(event, context):\n    return True\n"},
		{"timers", "nodejs20.x", "f.js", "let hoard = [];\nsetInterval(() => { for (const end = Date.now() + 2; Date.now() < end;); hoard.push(1); }, 4);\nexports.handler = async () => true;\n"},
	} {
		t.Run(wild.name, func(t *testing.T) {
			s.deploy(t, wild.name, deployed{runtime: wild.runtime, handler: "f.handler", files: map[string]string{wild.file: wild.source}})
			s.needTemplate(t, wild.name)
			s.settled(t, wild.name)
			pid := s.template(t)
			harness.Eventually(t, "the template is frozen", func() bool { return frozen(t, pid) })
			before := ticks(t, pid)
			for range 25 { // time in which it could burn some
				<-time.After(20 * time.Millisecond)
			}
			if after := ticks(t, pid); after != before {
				t.Errorf("parked, it took %d ticks of CPU time", after-before)
			}
			for range 5 {
				if a := s.fork(t, wild.name, "{}"); a.payload != "true" {
					t.Errorf("a fork answers %s", a.payload)
				}
			}
			harness.Eventually(t, "the template is frozen again", func() bool { return frozen(t, pid) })
			if _, err := s.client.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: &wild.name}); err != nil {
				t.Fatal(err)
			}
			harness.Eventually(t, "nothing of the function is left", func() bool { return len(s.bootstraps()) == 0 })
		})
	}
}

// frozen reports whether a process's cgroup is frozen, on cgroup v1 and v2.
func frozen(t *testing.T, pid int) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for _, file := range []string{filepath.Join("/sys/fs/cgroup", fields[1], fields[2], "freezer.state"), filepath.Join("/sys/fs/cgroup", fields[2], "cgroup.events")} {
			state, err := os.ReadFile(file)
			if err == nil && (strings.HasPrefix(string(state), "FROZEN") || strings.Contains(string(state), "frozen 1")) {
				return true
			}
		}
	}
	return false
}

// ticks is a process's CPU time in clock ticks.
func ticks(t *testing.T, pid int) (sum int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	for _, field := range strings.Fields(rest)[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// forcer has each invocation served by an environment of its own, and counts them by how they started.
type forcer struct {
	mu    sync.Mutex
	kinds map[string]int
}

// Do sends a request.
func (f *forcer) Do(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/invocations") {
		r.Header.Set("X-Thaw-Start", "forced")
		r.Header.Set("X-Thaw-Explain", "true")
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	if text := response.Header.Get("X-Thaw-Invocation"); text != "" {
		var explanation struct {
			Kind string `json:"start_kind"`
		}
		if err := json.Unmarshal([]byte(text), &explanation); err != nil {
			return nil, err
		}
		f.mu.Lock()
		f.kinds[explanation.Kind]++
		f.mu.Unlock()
	}
	return response, nil
}

// TestAttacksFromForks repeats the attacks that a fork could be weaker against than an environment that was booted.
func TestAttacksFromForks(t *testing.T) {
	f := &forcer{kinds: map[string]int{}}
	s := newSiege(t, harness.Options{}, func(p *harness.Platform) *lambda.Client {
		return lambda.New(lambda.Options{
			BaseEndpoint: aws.String(p.URL), Region: "us-east-1", RetryMaxAttempts: 1, HTTPClient: f,
			Credentials: credentials.NewStaticCredentialsProvider("thaw-test-access-key", "thaw-test-secret-key", ""),
		})
	})
	for _, a := range []struct {
		name string
		run  func(*testing.T, *siege)
	}{
		{"read what is the host's or another function's", attackFiles},
		{"see and signal others", attackProcesses},
		{"ask the kernel for more", attackKernel},
		{"write what is read-only", attackReadOnly},
		{"lead the platform through links", attackLinks},
		{"reach the control API of a loopback listener", attackLoopbackControl},
		{"reach other functions' networks", attackNetworks},
		{"reach the template", attackTemplate},
		{"fork bomb", attackForks},
		{"memory bomb", attackMemory},
		{"outlive the timeout", attackTimeout},
		{"garble its channel", attackChannel},
	} {
		t.Run(a.name, func(t *testing.T) {
			a.run(t, s)
			s.healthy(t)
		})
	}
	if f.kinds["fork"] == 0 || len(f.kinds) != 1 {
		t.Errorf("the starts were %v", f.kinds)
	}
	s.Stop()
	harness.NothingLeft(t, s.Data)
}

// attackTemplate looks for ways to what the environments of a function have in common.
func attackTemplate(t *testing.T, s *siege) {
	s.attack(t, `
open('/tmp/for-the-next', 'w').write('x'); open('/dev/shm/for-the-next', 'w').write('x')
os.chmod('/tmp', 0o777)
sys.modules['json'].planted = True
`)
	s.repelled(t, 6, `
for path in ('/tmp/for-the-next', '/dev/shm/for-the-next'):
    attempt('read ' + path, read, path)
say('BREACH' if hasattr(json, 'planted') else 'denied', 'modules')
say('denied' if all(os.readlink('/proc/self/ns/' + n) for n in ('user', 'pid', 'mnt', 'ipc', 'uts')) and os.getppid() in (0, 1) else 'BREACH', 'parent', os.getppid())
for line in open('/proc/self/status'):
    name, value = line.split(':')
    if name == 'NoNewPrivs': say('denied' if value.strip() == '1' else 'BREACH', line)
    if name == 'Seccomp': say('denied' if value.strip() == '2' else 'BREACH', line)
    if name == 'Groups': say('denied' if value.split() in ([], ['990'], ['65534']) else 'BREACH', line)
known = ('/dev/null', 'pipe:', 'socket:', '/var/task', '/proc/')
for fd in os.listdir('/proc/self/fd'):
    try: link = os.readlink('/proc/self/fd/' + fd)
    except OSError: continue
    say('denied' if int(fd) <= 3 or link.startswith(known) else 'BREACH', 'descriptor', fd, link)
for flag in (0x10000000, 0x10000000 | 0x20000, 0x20000000 | 0x20000 | 0x10000000 | 0x08000000 | 0x04000000):
    attempt('unshare %x as its template may' % flag, call, 272, flag)
`)
}

// TestManyForks makes one fork after the other, and compares what the machine and the platform hold.
func TestManyForks(t *testing.T) {
	const forks, callers = 300, 2
	s := startForking(t)
	s.python(t, "many", "import os\nopen('/tmp/kept', 'w').write('x' * 1000)\ndef handler(event, context):\n    return True\n", deployed{})
	many := func(n int) {
		var calls sync.WaitGroup
		var boots atomic.Int64
		for range callers {
			calls.Go(func() {
				for range n / callers {
					a, err := s.forced(t.Context(), "many", "{}")
					if err != nil || a.payload != "true" {
						t.Errorf("%v %+v", err, a)
						return
					}
					if a.explanation.Kind != "fork" {
						boots.Add(1)
					}
				}
			})
		}
		calls.Wait()
		if boots.Load() > 0 {
			t.Errorf("%d of %d forced starts were no forks", boots.Load(), n)
		}
		s.accounted(t, "many")
	}
	held := func() (map[string]int, int) {
		http.DefaultClient.CloseIdleConnections()
		descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		return kinds(harness.Belongings(t, s.Data)), len(descriptors)
	}
	many(20) // what is made once is there now
	var before map[string]int
	var descriptors int
	harness.Eventually(t, "the platform rests", func() bool {
		was, n := before, descriptors
		before, descriptors = held()
		<-time.After(100 * time.Millisecond)
		return n == descriptors && slices.Equal(sortedCounts(was), sortedCounts(before))
	})
	template := s.template(t)
	many(forks)
	if now := s.template(t); now != template {
		t.Errorf("the template %d has been replaced by %d", template, now)
	}
	var after map[string]int
	var now int
	deadline := time.Now().Add(15 * time.Second)
	for {
		after, now = held()
		if now <= descriptors && slices.Equal(sortedCounts(before), sortedCounts(after)) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %d forks the machine holds %v and the platform %d descriptors, before %v and %d", forks, after, now, before, descriptors)
		}
		<-time.After(50 * time.Millisecond)
	}
}

func sortedCounts(all map[string]int) (words []string) {
	for kind, n := range all {
		words = append(words, fmt.Sprintf("%s %d", kind, n))
	}
	slices.Sort(words)
	return words
}
