package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"thaw"
	"thaw/scripts/platform"
)

// TestMain lets startBare start the test binary as the server for comparison.
func TestMain(m *testing.M) {
	for i, arg := range os.Args {
		if arg == "-serve" && i+3 < len(os.Args) {
			if err := serveBare(context.Background(), os.Args[i+1], os.Args[i+3]); err != nil {
				os.Stderr.WriteString(err.Error() + "\n")
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// TestRelays sends the event through each server for comparison and looks at what comes back.
func TestRelays(t *testing.T) {
	for kind, program := range map[string]string{"echo": "", "relay-python": "python3", "relay-node": "node"} {
		t.Run(kind, func(t *testing.T) {
			interpreter := ""
			if program != "" {
				path, err := exec.LookPath(program)
				if err != nil {
					t.Skipf("no %s here", program)
				}
				interpreter = path
			}
			b, err := startBare(t.Context(), kind, interpreter)
			if err != nil {
				t.Fatal(err)
			}
			defer b.stop()
			resp, err := http.Post(b.url, "application/json", strings.NewReader(event))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body := make([]byte, len(event)+1)
			n, _ := resp.Body.Read(body)
			if string(body[:n]) != event {
				t.Errorf("%d: %q", resp.StatusCode, body[:n])
			}
			took, err := sequential(t.Context(), &b.target, 20)
			if err != nil || len(took) != 20 {
				t.Errorf("%d calls, %v", len(took), err)
			}
			if perSecond, err := throughput(t.Context(), &b.target, 4, 20*time.Millisecond); err != nil || perSecond <= 0 {
				t.Errorf("%v a second, %v", perSecond, err)
			}
		})
	}
}

func TestLoadGeneratorSeesFailures(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"status":         func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "busy", http.StatusTooManyRequests) },
		"function error": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Amz-Function-Error", "Unhandled") },
		"Content-Length": func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() },
	}
	for want, handler := range answers {
		server := httptest.NewServer(handler)
		_, err := sequential(t.Context(), &target{url: server.URL + "/"}, 1)
		server.Close()
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "429", "status"), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestPercentile(t *testing.T) {
	l := latencies{1, 2, 3, 4}
	for p, want := range map[int]time.Duration{1: 1, 50: 2, 75: 3, 76: 4, 100: 4} {
		if got := l.percentile(p); got != want {
			t.Errorf("p%d: %d, want %d", p, got, want)
		}
	}
}

// startsOf are starts of a function whose kinds took so long.
func startsOf(name string, took map[thaw.StartKind]time.Duration) startResult {
	r := startResult{Example: platform.Example{Name: name, Words: "plain " + name}, Kinds: map[thaw.StartKind]*started{}}
	for kind, d := range took {
		r.Kinds[kind] = &started{Took: latencies{d}}
	}
	return r
}

func page(f *findings) string {
	var b strings.Builder
	f.write(&b)
	return b.String()
}

// TestPage looks at the verdicts: each budget is met by one set of numbers and missed by another.
func TestPage(t *testing.T) {
	const budgets = 20
	findingsWith := func(more time.Duration) *findings {
		over := int64(more)
		return &findings{
			Measured: time.Unix(0, 0), Start: startBudget + more, Restart: startBudget + more, IdleRSS: idleBudget + over,
			Warm: []warmResult{
				{Name: "relay, Python", P50: 400, PerSecond: 1000}, {Name: "relay, Node", P50: 400, PerSecond: 1000},
				{Name: "python-echo", P50: 500 + more, PerSecond: 500 - float64(more)}, {Name: "node-echo", P50: 500 + more, PerSecond: 500 - float64(more)},
			},
			Starts: []startResult{
				startsOf("python-echo", map[thaw.StartKind]time.Duration{thaw.StartFork: 6*time.Millisecond + more, thaw.StartWarm: 100, thaw.StartSpare: 100 + spareBudget + more}),
				startsOf("node-echo", map[thaw.StartKind]time.Duration{thaw.StartFork: 6*time.Millisecond + more, thaw.StartWarm: 100, thaw.StartSpare: 100 + spareBudget + more}),
				startsOf("python-boto3", map[thaw.StartKind]time.Duration{thaw.StartFork: 10*time.Millisecond + more}),
				startsOf("node-s3", map[thaw.StartKind]time.Duration{thaw.StartFork: 10*time.Millisecond + more}),
				startsOf("go-lambda", map[thaw.StartKind]time.Duration{thaw.StartBoot: binaryBudget + more}),
				startsOf("rust-hello", map[thaw.StartKind]time.Duration{thaw.StartBoot: binaryBudget + more}),
				startsOf("java-hello", map[thaw.StartKind]time.Duration{kindPlain: 1000, thaw.StartBoot: 700 + more, thaw.StartSpare: javaSpareBudget + more}),
				startsOf("java-gson", map[thaw.StartKind]time.Duration{kindPlain: 1000, thaw.StartBoot: 700 + more}),
			},
			Forks:  []forkRate{{Function: "python-echo", PerSecond: forksBudget - float64(more), Plain: 50}},
			Memory: []memoryResult{{Function: "python-echo", Served: footprint{Private: 1 << 20, Kernel: memoryBudget - 1<<20 + over}}, {Function: "java-hello", Served: footprint{Private: 1 << 30}}},
		}
	}
	if got := page(findingsWith(0)); strings.Count(got, "| yes |") != budgets || strings.Contains(got, "**no**") || strings.Contains(got, "missed") {
		t.Errorf("all %d budgets are met, but %d:\n%s", budgets, strings.Count(got, "| yes |"), got)
	}
	if got := page(findingsWith(1)); strings.Count(got, "| **no** |") != budgets || strings.Contains(got, "| yes |") || !strings.Contains(got, strings.TrimSpace(tried)) {
		t.Errorf("no budget of %d is met, but:\n%s", budgets, got)
	}
	if got := page(&findings{}); strings.Contains(got, "| yes |") || strings.Contains(got, "NaN") {
		t.Errorf("nothing was measured, but:\n%s", got)
	}
}

// TestPageOfStarts looks at the lines that are not verdicts.
func TestPageOfStarts(t *testing.T) {
	fork := &started{Took: latencies{7 * time.Millisecond, 8 * time.Millisecond, 9 * time.Millisecond}, Other: map[thaw.StartKind]int{thaw.StartBoot: 2}}
	fork.Phases[thaw.PhaseRuntime], fork.Phases[thaw.PhaseAdmit] = 6*time.Millisecond, time.Microsecond
	r := startsOf("python-echo", map[thaw.StartKind]time.Duration{kindPlain: 16 * time.Millisecond})
	r.Kinds[thaw.StartFork] = fork
	got := page(&findings{
		Starts: []startResult{r},
		Bursts: []burst{
			{Function: "python-echo", Size: 3, Took: latencies{1e6, 32e6}, Kinds: map[thaw.StartKind]int{thaw.StartSpare: 2}, Refused: 1},
			{Function: "node-echo", Size: 1, Refused: 1},
		},
	})
	for _, want := range []string{
		"| python-echo | plain (`plain python-echo`) | 1 | 16.0 | 16.0 | 16.0 | 1.000 |\n|  | fork | 3, and 2 boot | 8.000 | 9.000 | 9.000 | 0.500 |",
		"| fork start, python-echo | 8.000 ms | `plain python-echo` 16.0 ms | 0.500 | 6.000 ms | **no** |",
		"Of the time, in ms: runtime 6.00, the rest 2.00.",
		"| python-echo | 3 | 1.000 | 32.0 | 32.0 | 2 | 0 | 0 | 0 | 1 | 2.000 |",
		"| node-echo | 1 | | | | 0 | 0 | 0 | 0 | 1 |  |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
}

func TestRepeatDoesExpensiveThingsLess(t *testing.T) {
	for took, want := range map[time.Duration]int{expensive: 40, expensive + 1: 10} {
		n := 0
		if err := repeat(t.Context(), 40, func() (time.Duration, error) { n++; return took, nil }); err != nil || n != want {
			t.Errorf("%s each: done %d times, want %d; %v", took, n, want, err)
		}
	}
}

func TestRefusalIsTold(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Thaw-Explain") == "" {
			w.WriteHeader(http.StatusTooManyRequests)
		}
		w.Header().Set("X-Thaw-Invocation", `{"start_kind":"fork"}`)
	}))
	defer server.Close()
	for headers, want := range map[string]string{"": "", explain: `{"start_kind":"fork"}`} {
		c, err := dial(t.Context(), &target{url: server.URL + "/", headers: headers})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		err = c.call()
		if _, full := errors.AsType[*refusal](err); full != (headers == "") || string(c.explanation) != want {
			t.Errorf("%q: %v, %s", headers, err, c.explanation)
		}
	}
}

func TestDescendantsAndTheirMemory(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "sleep 60 & wait")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	deadline := time.Now().Add(10 * time.Second)
	for {
		all, err := descendants(os.Getpid())
		below, err2 := descendants(cmd.Process.Pid)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if len(below) == 1 && slices.Contains(all, below[0]) && slices.Contains(all, cmd.Process.Pid) && !slices.Contains(below, cmd.Process.Pid) {
			syscall.Kill(below[0], syscall.SIGKILL)
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v below this process, %v below the shell", all, below)
		}
	}
	if got := sumKB([]byte("Private_Clean:  4 kB\nPrivate_Dirty:\t8 kB\nOther: x\nPrivate_Clean: 1 kB\n"), "Private_Clean:"); got != 5<<10 {
		t.Errorf("%d bytes", got)
	}
}
