package tests

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw/tests/harness"
)

// presenceSource is a function that tells a listener of the test when an invocation begins and ends, and goes on only when
// the listener has taken note.
const presenceSource = `
import os, socket, time
def handler(event, context):
    if event.get('fail') == 'raise':
        raise Exception('as asked')
    if event.get('fail') == 'exit':
        os._exit(1)
    with socket.create_connection(('host.thaw.internal', PORT)) as s, s.makefile('rwb') as f:
        def say(what):
            f.write(what.encode() + b'\n')
            f.flush()
            f.readline()
        say(context.function_name + (' hold' if event.get('hold') else ''))
        time.sleep(event.get('sleep', 0.02))
        say('bye')
    return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']
`

// presence knows which functions' handlers run at the same time, and the most that ever did.
type presence struct {
	listener net.Listener
	mu       sync.Mutex
	now      map[string]int
	most     map[string]int // the name "" is all together
	released chan struct{}  // what holds goes on when it is closed
}

func newPresence(t *testing.T) *presence {
	t.Helper()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &presence{listener: l, now: map[string]int{}, most: map[string]int{}, released: make(chan struct{})}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.follow(c)
		}
	}()
	return p
}

func (p *presence) follow(c net.Conn) {
	defer c.Close()
	lines := bufio.NewScanner(c)
	if !lines.Scan() {
		return
	}
	name, hold := strings.CutSuffix(lines.Text(), " hold")
	p.change(name, 1)
	defer func() {
		p.change(name, -1)
		fmt.Fprintln(c)
	}()
	if hold {
		p.mu.Lock()
		released := p.released
		p.mu.Unlock()
		<-released
	}
	fmt.Fprintln(c)
	lines.Scan()
}

func (p *presence) change(name string, by int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range []string{name, ""} {
		p.now[n] += by
		p.most[n] = max(p.most[n], p.now[n])
	}
}

func (p *presence) present(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now[name]
}

func (p *presence) atMost(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most[name]
}

// release lets go on what holds, and holds what comes next.
func (p *presence) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.released)
	p.released = make(chan struct{})
}

func (p *presence) source() string {
	return fmt.Sprintf("PORT = %d\n", p.listener.Addr().(*net.TCPAddr).Port) + presenceSource
}

// refusal says what is wrong with a 429; empty: nothing.
func refusal(a *answer, reasons ...string) string {
	var body struct{ Type, Message, Reason string }
	if err := json.Unmarshal([]byte(a.payload), &body); err != nil {
		return err.Error()
	}
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if a.status != http.StatusTooManyRequests || a.header.Get("X-Amzn-Errortype") != "TooManyRequestsException" || body.Message != "Rate Exceeded." || err != nil || seconds < 1 {
		return fmt.Sprintf("%d %v %s", a.status, a.header, a.payload)
	}
	for _, r := range reasons {
		if body.Reason == r {
			return ""
		}
	}
	return "the reason is " + body.Reason
}

// The account's limit has to be above the 100 that AWS leaves without a reserve.
const (
	accountLimit    = "ConcurrentInvocationLimitExceeded"
	functionLimit   = "ReservedFunctionConcurrentInvocationLimitExceeded"
	hammeredAccount = 108
	hammeredReserve = 3
)

// hammered is a platform with little concurrency.
type hammered struct {
	*stage
	presence     *presence
	environments func(*stage) []int
}

func (h *hammered) send(ctx context.Context, name, event string) (*answer, error) {
	return h.tryCall(ctx, http.MethodPost, "/2015-03-31/functions/"+name+"/invocations", nil, strings.NewReader(event))
}

func (h *hammered) reserve(t *testing.T, name string, n int) {
	t.Helper()
	var err error
	if n < 0 {
		_, err = h.client.DeleteFunctionConcurrency(t.Context(), &lambda.DeleteFunctionConcurrencyInput{FunctionName: &name})
	} else {
		_, err = h.client.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: &name, ReservedConcurrentExecutions: aws.Int32(int32(n))})
	}
	if err != nil && t.Context().Err() == nil {
		t.Errorf("reserve %d for %s: %v", n, name, err)
	}
}

// TestLimits sends more than is allowed at once, for long, with everything going wrong that can, and looks from inside the
// functions whether a limit holds, and afterwards whether all of it is still there.
func TestLimits(t *testing.T) {
	h := &hammered{presence: newPresence(t), environments: newRuntimes(t)}
	data := t.TempDir()
	t.Cleanup(func() { harness.NothingLeft(t, data) })
	p := harness.Start(t, harness.Options{Config: forkConfig + fmt.Sprintf("environments:\n  concurrency: %d\n", hammeredAccount), Data: data})
	h.stage = &stage{Platform: p, client: p.Lambda()}
	for _, name := range []string{"kept", "free", "other", "moody"} {
		h.python(t, name, h.presence.source(), deployed{timeout: 60})
	}
	h.python(t, "hung", h.presence.source(), deployed{timeout: 1})
	h.python(t, "broken", "raise Exception('no')\n", deployed{})
	h.reserve(t, "kept", hammeredReserve)
	t.Run("storm", func(t *testing.T) { h.storm(t) })
	h.full(t)
	t.Run("failures", func(t *testing.T) { h.failures(t) })
	h.full(t)
	h.reserve(t, "kept", 0)
	if a, err := h.send(t.Context(), "kept", "{}"); err != nil || refusal(a, functionLimit) != "" {
		t.Errorf("with nothing reserved: %v %+v", err, a)
	}
	h.reserve(t, "kept", hammeredReserve)
	h.full(t)
}

// storm has 140 clients, and limits that change while they call.
func (h *hammered) storm(t *testing.T) {
	const clients, each = 140, 12
	var calls, changes sync.WaitGroup
	var over atomic.Bool
	changes.Go(func() {
		for n := 0; !over.Load(); n++ {
			h.reserve(t, "kept", hammeredReserve-n%2)
			h.reserve(t, "moody", []int{4, -1, 1, 5}[n%4])
			<-time.After(10 * time.Millisecond)
		}
		h.reserve(t, "kept", hammeredReserve)
		h.reserve(t, "moody", -1)
	})
	var served, refused, wrong atomic.Int64
	for i := range clients {
		name := []string{"kept", "free", "other", "moody", "free", "other", "free"}[i%7]
		event := `{"sleep": 0.2}`
		if name == "kept" {
			event = "{}"
		}
		calls.Go(func() {
			for done := 0; done < each; {
				a, err := h.send(t.Context(), name, event)
				switch {
				case err == nil && a.status == http.StatusOK && a.payload == `"on-demand"`:
					served.Add(1)
					done++
				case err == nil && name == "kept" && refusal(a, functionLimit) == "", err == nil && refusal(a, accountLimit, functionLimit) == "":
					refused.Add(1)
					<-time.After(time.Duration(1+rand.IntN(10)) * time.Millisecond)
				default:
					if wrong.Add(1) < 5 {
						t.Errorf("%s: %v %+v", name, err, a)
					}
					done++
				}
			}
		})
	}
	calls.Wait()
	over.Store(true)
	changes.Wait()
	t.Logf("%d served, %d refused; at most at once: %v", served.Load(), refused.Load(), h.presence.most)
	if refused.Load() == 0 {
		t.Error("nothing was refused")
	}
	if n := h.presence.atMost("kept"); n > hammeredReserve {
		t.Errorf("%d invocations at once, where %d are reserved", n, hammeredReserve)
	}
	if n := h.presence.atMost(""); n > hammeredAccount {
		t.Errorf("%d invocations at once in an account with %d", n, hammeredAccount)
	}
}

// failures sends what ends badly in every way: raised, exited, timed out, never initialised, killed, abandoned by its caller.
func (h *hammered) failures(t *testing.T) {
	const each = 12
	var calls, kills sync.WaitGroup
	var over atomic.Bool
	kills.Go(func() {
		for !over.Load() {
			if all := h.environments(h.stage); len(all) > 0 {
				syscall.Kill(all[rand.IntN(len(all))], syscall.SIGKILL) //nolint:errcheck // it may have gone by itself
			}
			<-time.After(50 * time.Millisecond)
		}
	})
	var seen sync.Map
	for i := range 40 {
		calls.Go(func() {
			for n := range each {
				name, event := []string{"kept", "free", "other"}[i%3], []string{"{}", `{"fail": "raise"}`, `{"fail": "exit"}`}[n%3]
				if n%4 == 3 {
					name, event = []string{"broken", "hung"}[i%2], `{"sleep": 30}`
				}
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if n%5 == 4 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(30))*time.Millisecond)
				}
				a, err := h.send(ctx, name, event)
				cancel()
				switch {
				case err != nil && !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("%s: %v", name, err)
				case err != nil:
					seen.Store("abandoned", true)
				case a.status == http.StatusOK:
					kind, _ := a.failure()
					seen.Store(kind, true)
				case refusal(a, accountLimit, functionLimit) != "":
					t.Errorf("%s: %d %s", name, a.status, a.payload)
				}
			}
		})
	}
	calls.Wait()
	over.Store(true)
	kills.Wait()
	for _, kind := range []string{"abandoned", "Sandbox.Timedout", "Exception", "Runtime.ExitError", ""} {
		if _, ok := seen.Load(kind); !ok {
			t.Errorf("nothing ended with %q", kind)
		}
	}
}

// full waits until nothing runs, and then has every permit taken at once, and not one more.
func (h *hammered) full(t *testing.T) {
	t.Helper()
	type use struct {
		Account   struct{ Limit, Claimed, Unreserved int }
		Functions []struct {
			Name  string `json:"name"`
			Usage struct {
				OnDemand    int `json:"on_demand"`
				Provisioned int
			}
		}
	}
	harness.Eventually(t, "nothing runs", func() bool {
		var v use
		a := h.call(t, http.MethodGet, "/_thaw/functions", nil, nil)
		if err := json.Unmarshal([]byte(a.payload), &v); err != nil || len(v.Functions) == 0 {
			t.Fatalf("%v %s", err, a.payload)
		}
		running := v.Account.Unreserved
		for i := range v.Functions {
			running += v.Functions[i].Usage.OnDemand + v.Functions[i].Usage.Provisioned
		}
		return running == 0 && h.presence.present("") == 0
	})
	var calls sync.WaitGroup
	hold := func(name string, n int) {
		for range n {
			calls.Go(func() {
				if a, err := h.send(t.Context(), name, `{"hold": true}`); err != nil || a.status != http.StatusOK || a.payload != `"on-demand"` {
					t.Errorf("%s, within its limit: %v %+v", name, err, a)
				}
			})
		}
	}
	hold("kept", hammeredReserve)
	hold("free", hammeredAccount-hammeredReserve)
	defer calls.Wait()
	defer h.presence.release()
	harness.Eventually(t, "the limits are reached", func() bool {
		return h.presence.present("kept") == hammeredReserve && h.presence.present("") == hammeredAccount || t.Failed()
	})
	for name, reason := range map[string]string{"kept": functionLimit, "free": accountLimit, "other": accountLimit} {
		if a, err := h.send(t.Context(), name, "{}"); err != nil {
			t.Error(err)
		} else if wrong := refusal(a, reason); wrong != "" {
			t.Errorf("%s, one above the limit: %s", name, wrong)
		}
	}
}

// TestCanary sends a share of an alias's traffic to a second version, moves the alias under load, and deletes what it no
// longer points at.
func TestCanary(t *testing.T) {
	s := startForking(t)
	f := &versioned{stage: s, name: "split"}
	s.python(t, f.name, source("1"), deployed{})
	one := f.publish(t)
	f.update(t, source("2"))
	two := f.publish(t)
	alias := func(version, other string, weight float64) *lambda.UpdateAliasInput {
		in := &lambda.UpdateAliasInput{FunctionName: &f.name, Name: aws.String("live"), FunctionVersion: &version, RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{}}}
		if other != "" {
			in.RoutingConfig.AdditionalVersionWeights[other] = weight
		}
		return in
	}
	if _, err := s.client.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: &f.name, Name: aws.String("live"), FunctionVersion: &one}); err != nil {
		t.Fatal(err)
	}
	// call invokes the alias and gives the version that ran, which header, environment and context must agree on.
	call := func() string {
		a, err := f.tryCall(t.Context(), http.MethodPost, "/2015-03-31/functions/"+f.name+":live/invocations", nil, strings.NewReader("{}"))
		if err != nil || a.status != http.StatusOK {
			t.Errorf("%v %+v", err, a)
			return ""
		}
		var v identity
		if err := json.Unmarshal([]byte(a.payload), &v); err != nil || strconv.Itoa(v.Code) != v.Version || v.Context != v.Version || a.header.Get("X-Amz-Executed-Version") != v.Version ||
			!strings.HasSuffix(v.ARN, ":function:split:live") {
			t.Errorf("%v, executed version %q: %+v", err, a.header.Get("X-Amz-Executed-Version"), v)
		}
		return v.Version
	}
	for _, weight := range []float64{0.1, 0.25} {
		if _, err := s.client.UpdateAlias(t.Context(), alias(one, two, weight)); err != nil {
			t.Fatal(err)
		}
		const clients, each = 8, 313
		var ones, twos atomic.Int64
		var callers sync.WaitGroup
		for range clients {
			callers.Go(func() {
				for range each {
					switch call() {
					case one:
						ones.Add(1)
					case two:
						twos.Add(1)
					}
				}
			})
		}
		callers.Wait()
		const n = clients * each
		deviation := math.Sqrt(n * weight * (1 - weight))
		if off := math.Abs(float64(twos.Load()) - n*weight); off > 5*deviation || ones.Load()+twos.Load() != n {
			t.Errorf("with weight %g, %d and %d of %d", weight, ones.Load(), twos.Load(), n)
		}
	}

	var over atomic.Bool
	var callers sync.WaitGroup
	var count atomic.Int64
	for range 6 {
		callers.Go(func() {
			for !over.Load() && !t.Failed() {
				call()
				count.Add(1)
			}
		})
	}
	defer callers.Wait()
	defer over.Store(true)
	more := func() {
		before := count.Load()
		harness.Eventually(t, "the load goes on", func() bool { return count.Load() > before+12 || t.Failed() })
	}
	moves := []*lambda.UpdateAliasInput{alias(two, "", 0), alias(one, two, 0.5), alias(one, "", 0)}
	for n := range 30 {
		if _, err := s.client.UpdateAlias(t.Context(), moves[n%3]); err != nil {
			t.Fatal(err)
		}
		if got, want := call(), *moves[n%3].FunctionVersion; n%3 != 1 && got != want {
			t.Errorf("just pointed at %s, the alias runs %s", want, got)
		}
		more()
	}
	remove := &lambda.DeleteFunctionInput{FunctionName: &f.name, Qualifier: &one}
	for _, in := range []*lambda.UpdateAliasInput{alias(one, "", 0), alias(two, one, 0.5)} {
		if _, err := s.client.UpdateAlias(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if _, err := s.client.DeleteFunction(t.Context(), remove); harness.Code(err) != "ResourceConflictException" {
			t.Errorf("deleting a version that an alias points at: %v", err)
		}
	}
	if _, err := s.client.UpdateAlias(t.Context(), alias(two, "", 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.DeleteFunction(t.Context(), remove); err != nil {
		t.Error(err)
	}
	if a := s.call(t, http.MethodPost, "/2015-03-31/functions/split:"+one+"/invocations", nil, nil); a.status != http.StatusNotFound {
		t.Errorf("a version that was deleted answers %d %s", a.status, a.payload)
	}
	more()
	harness.Eventually(t, "nothing is left of the deleted version", func() bool {
		for _, v := range f.view(t).Versions {
			if v.Version == one {
				return false
			}
		}
		return true
	})
}

// initSource tells the listener of an init, which takes a while.
const initSource = `
import socket, time
with socket.create_connection(('host.thaw.internal', PORT)) as s:
    s.sendall(b'init\n')
    s.recv(1)
    time.sleep(0.3)
    s.sendall(b'bye\n')
    s.recv(1)
`

// newRuntimes gives the processes of functions that were started after this call, without templates.
func newRuntimes(t *testing.T) (environments func(s *stage) []int) {
	t.Helper()
	own, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	others := (&stage{Platform: &harness.Platform{}}).bootstraps()
	return func(s *stage) (all []int) {
		bootstraps := s.bootstraps()
		for _, pid := range bootstraps {
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			_, rest, _ := strings.Cut(string(stat), ") ")
			if fields := strings.Fields(rest); len(fields) > 1 {
				if parent, _ := strconv.Atoi(fields[1]); slices.Contains(bootstraps, parent) {
					continue // a template's own, from its trial of a fork
				}
			}
			// A template is in this process's user namespace, and an environment is not.
			if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid)); err == nil && ns != own && !slices.Contains(others, pid) {
				all = append(all, pid)
			}
		}
		return all
	}
}

// TestProvisionedProcesses counts the processes behind the API's words.
func TestProvisionedProcesses(t *testing.T) {
	presence, environments := newPresence(t), newRuntimes(t)
	data := t.TempDir()
	t.Cleanup(func() { harness.NothingLeft(t, data) })
	start := func() *stage {
		p := harness.Start(t, harness.Options{Config: forkConfig + "environments:\n  spares: 0\n", Data: data})
		return &stage{Platform: p, client: p.Lambda()}
	}
	s := start()
	code := strings.Replace(presence.source(), "import os", initSource+"import os", 1)
	const n = 4
	for _, kind := range []struct {
		name string
		d    deployed
	}{{"booted", deployed{tags: booted}}, {"forked", deployed{}}} {
		t.Run(kind.name, func(t *testing.T) {
			f := &versioned{stage: s, name: kind.name}
			s.python(t, f.name, code, kind.d)
			version := f.publish(t)
			harness.Eventually(t, "nothing runs yet", func() bool { return len(environments(s)) == 0 })
			f.provision(t, version, n)
			get := &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: &f.name, Qualifier: &version}
			progressed := false
			harness.Eventually(t, "it is READY", func() bool {
				c, err := s.client.GetProvisionedConcurrencyConfig(t.Context(), get)
				if err != nil {
					t.Fatal(err)
				}
				have := len(environments(s))
				if int(*c.AvailableProvisionedConcurrentExecutions) > have {
					t.Fatalf("%d are available, and %d processes there", *c.AvailableProvisionedConcurrentExecutions, have)
				}
				progressed = progressed || c.Status == types.ProvisionedConcurrencyStatusEnumInProgress
				if c.Status == types.ProvisionedConcurrencyStatusEnumReady && (have != n || presence.present("init") > 0 || *c.AvailableProvisionedConcurrentExecutions != n) {
					t.Fatalf("it is READY with %d of %d, %d processes, %d of them in init", *c.AvailableProvisionedConcurrentExecutions, n, have, presence.present("init"))
				}
				return c.Status == types.ProvisionedConcurrencyStatusEnumReady
			})
			if !progressed && kind.d.tags != nil {
				t.Error("it was never IN_PROGRESS")
			}
			if a := f.invoke(t, f.name+":"+version, "{}"); a.payload != `"provisioned-concurrency"` || a.explanation.Kind != "provisioned" {
				t.Errorf("the first invocation gave %s, a %s start", a.payload, a.explanation.Kind)
			}
			before := f.view(t).Usage.SpilledOver
			var calls sync.WaitGroup
			var onDemand atomic.Int64
			for range n + 2 {
				calls.Go(func() {
					a, err := f.tryCall(t.Context(), http.MethodPost, "/2015-03-31/functions/"+f.name+":"+version+"/invocations", nil, strings.NewReader(`{"hold": true}`))
					switch {
					case err != nil || a.status != http.StatusOK:
						t.Errorf("%v %+v", err, a)
					case a.payload == `"on-demand"`:
						onDemand.Add(1)
					}
				})
			}
			harness.Eventually(t, "all run", func() bool { return presence.present(f.name) == n+2 || t.Failed() })
			presence.release()
			calls.Wait()
			if counted := f.view(t).Usage.SpilledOver - before; onDemand.Load() != 2 || counted != 2 {
				t.Errorf("%d ran on demand, and %d are counted", onDemand.Load(), counted)
			}

			// One that dies is replaced.
			for _, pid := range environments(s) {
				syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // it may have gone by itself
			}
			harness.Eventually(t, "they are there again", func() bool { return f.available(t, version) == n && len(environments(s)) >= n })

			s.Kill()
			s = start()
			f.stage = s
			f.awaitProvisioned(t, version, types.ProvisionedConcurrencyStatusEnumReady)
			if have := len(environments(s)); have != n {
				t.Errorf("after a crash, READY is %d processes", have)
			}
			if a := f.invoke(t, f.name+":"+version, "{}"); a.payload != `"provisioned-concurrency"` || a.explanation.Kind != "provisioned" {
				t.Errorf("after a crash, the first invocation gave %s, a %s start", a.payload, a.explanation.Kind)
			}
			f.provision(t, version, 1)
			harness.Eventually(t, "what was taken away has gone", func() bool { return len(environments(s)) == 1 })
			f.provision(t, version, 0)
			harness.Eventually(t, "all have gone", func() bool { return len(environments(s)) == 0 })
			if _, err := s.client.GetProvisionedConcurrencyConfig(t.Context(), get); harness.Code(err) != "ProvisionedConcurrencyConfigNotFoundException" {
				t.Errorf("%v", err)
			}
			if _, err := s.client.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: &f.name}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBurstAndFirst has one function's burst take all starts, and another's first request come after it.
func TestBurstAndFirst(t *testing.T) {
	presence := newPresence(t)
	s := startForking(t, "environments:\n  queue: 1m\n") // who waits is looked at, not for how long
	for _, name := range []string{"bulk", "first"} {
		s.python(t, name, presence.source(), deployed{timeout: 60})
	}
	const burst = 300
	var calls sync.WaitGroup
	for range burst {
		calls.Go(func() {
			a, err := s.tryCall(t.Context(), http.MethodPost, "/2015-03-31/functions/bulk/invocations", nil, strings.NewReader(`{"hold": true}`))
			if err != nil || a.status != http.StatusOK || a.header.Get("X-Amz-Function-Error") != "" {
				t.Errorf("%v %+v", err, a)
			}
		})
	}
	defer calls.Wait()
	defer presence.release()
	harness.Eventually(t, "the burst is under way", func() bool { return presence.present("bulk") > 5 || t.Failed() })
	header := map[string]string{"X-Thaw-Start": "forced"} // or a spare would serve it
	a := s.call(t, http.MethodPost, "/2015-03-31/functions/first/invocations", header, strings.NewReader("{}"))
	if served := presence.present("bulk"); a.status != http.StatusOK || served == burst {
		t.Errorf("the first request was answered %d %s when %d of the burst were served", a.status, a.payload, served)
	} else {
		t.Logf("the first request was answered when %d of the burst were served", served)
	}
	harness.Eventually(t, "all of the burst is served", func() bool { return presence.present("bulk") == burst || t.Failed() })
}

// TestWaitForInactive does what a client does with a function that has become Inactive.
func TestWaitForInactive(t *testing.T) {
	data := t.TempDir()
	t.Cleanup(func() { harness.NothingLeft(t, data) })
	p := harness.Start(t, harness.Options{Config: forkConfig + "environments:\n  inactive_after: 2s\n", Data: data})
	s := &stage{Platform: p, client: p.Lambda()}
	s.python(t, "idle", source("1"), deployed{})
	get := &lambda.GetFunctionInput{FunctionName: aws.String("idle")}
	harness.Eventually(t, "it is Inactive", func() bool {
		c, err := s.client.GetFunction(t.Context(), get)
		return err == nil && c.Configuration.State == types.StateInactive && c.Configuration.StateReasonCode == types.StateReasonCodeIdle
	})
	_, err := s.client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: get.FunctionName})
	if conflict := (*types.ResourceConflictException)(nil); !errors.As(err, &conflict) {
		t.Errorf("the first invocation gave %v", err)
	}
	waiter := lambda.NewFunctionActiveV2Waiter(s.client, func(o *lambda.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 20*time.Millisecond
	})
	// Between the refusal and the way back it is Inactive still, which the waiter waits through as through Pending.
	if _, err := waiter.WaitForOutput(t.Context(), get, harness.Patience); err != nil {
		t.Fatal(err)
	}
	if payload, failed, err := harness.Invoke(t.Context(), s.client, "idle", "{}"); err != nil || failed {
		t.Errorf("%v %s", err, payload)
	}
}

// callsItself calls itself with the AWS SDK until that is refused, and says how often it has run.
const callsItself = `
import boto3, json, os
client = boto3.client("lambda", endpoint_url=os.environ["ENDPOINT"], aws_access_key_id=os.environ["ID"], aws_secret_access_key=os.environ["SECRET"])
def handler(event, context):
    depth = event.get("depth", 1)
    if depth >= event["enough"]:
        return {"depth": depth, "refused": ""}
    try:
        answer = client.invoke(FunctionName=context.function_name, Payload=json.dumps({**event, "depth": depth + 1}))
    except client.exceptions.RecursiveInvocationException as e:
        return {"depth": depth, "refused": e.response["Error"]["Code"]}
    return json.load(answer["Payload"])
`

// withBoto3 adds the machine's boto3 to a package, as much of it as calls of Lambda need.
func withBoto3(t *testing.T, files map[string]string) {
	t.Helper()
	python := findPython(t)
	out, text, err := run(t, nil, "", python, "-c", `
import os, boto3, botocore, dateutil, jmespath, s3transfer, six, urllib3
for m in boto3, botocore, dateutil, jmespath, s3transfer, urllib3: print(m.__name__, os.path.dirname(m.__file__))
print("six", six.__file__)`)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for line := range strings.Lines(out) {
		name, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasSuffix(path, ".py") {
			files[name+".py"] = string(readFile(t, path))
			continue
		}
		vendor(t, files, path, name)
	}
	for name := range files {
		if rest, ok := strings.CutPrefix(name, "botocore/data/"); ok && strings.Contains(rest, "/") && !strings.HasPrefix(rest, "lambda/") {
			delete(files, name)
		}
	}
}

// TestRecursion has a function call itself through the API.
func TestRecursion(t *testing.T) {
	data := t.TempDir()
	t.Cleanup(func() { harness.NothingLeft(t, data) })
	const id, secret = "AKIARECURSION0000000", "a-secret-of-the-recursion-test"
	_, port, _ := net.SplitHostPort(harness.FreeAddress(t))
	p := harness.Start(t, harness.Options{
		Data: data, Listen: "0.0.0.0:" + port,
		Config: forkConfig + "auth:\n  required: true\n  access_keys:\n    " + id + ": " + secret + "\n",
	})
	keys := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, nil
	})
	s := &stage{Platform: p, client: harness.ClientWith(p.URL, "us-east-1", keys)}
	files := map[string]string{"f.py": callsItself}
	withBoto3(t, files)
	s.deploy(t, "again", deployed{
		runtime: "python3.11", handler: "f.handler", files: files, timeout: 30, memory: 256,
		environment: map[string]string{"ENDPOINT": "http://host.thaw.internal:" + port, "ID": id, "SECRET": secret},
	})
	ask := func(event string) (v struct {
		Depth   int
		Refused string
	},
	) {
		t.Helper()
		if err := json.Unmarshal([]byte(harness.MustInvoke(t, s.client, "again", event)), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	// AWS: a function runs about 16 times in one chain of requests.
	if v := ask(`{"enough": 40}`); v.Depth != 16 || v.Refused != "RecursiveInvocationException" {
		t.Errorf("it ended %+v", v)
	}
	if v := ask(`{"enough": 10}`); v.Depth != 10 || v.Refused != "" {
		t.Errorf("a chain that ends by itself ended %+v", v)
	}
	if _, err := s.client.PutFunctionRecursionConfig(t.Context(), &lambda.PutFunctionRecursionConfigInput{FunctionName: aws.String("again"), RecursiveLoop: types.RecursiveLoopAllow}); err != nil {
		t.Fatal(err)
	}
	if v := ask(`{"enough": 24}`); v.Depth != 24 || v.Refused != "" {
		t.Errorf("where loops are allowed it ended %+v", v)
	}
}
