package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

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

// TestPage looks at the verdicts: each budget is met by one set of numbers and missed by another.
func TestPage(t *testing.T) {
	page := func(f *findings) string {
		var b strings.Builder
		f.write(&b)
		return b.String()
	}
	f := &findings{
		Measured: time.Unix(0, 0), Start: startBudget, Restart: startBudget, IdleRSS: idleBudget,
		Warm: []warmResult{
			{Name: "relay, Python", P50: 400, PerSecond: 1000}, {Name: "relay, Node", P50: 400, PerSecond: 1000},
			{Name: "python-echo", P50: 500, PerSecond: 500}, {Name: "node-echo", P50: 500, PerSecond: 500},
		},
		Cold: []coldResult{{Example: platform.Example{Name: "go-lambda"}, Plain: time.Millisecond, Boot: platform.Bench{Total: platform.Distribution{Median: 8}}}},
	}
	if got := page(f); strings.Count(got, "| yes |") != 8 || strings.Contains(got, "**no**") {
		t.Errorf("all budgets are met, but:\n%s", got)
	}
	for i := range f.Warm[2:] {
		f.Warm[2+i].P50++
		f.Warm[2+i].PerSecond--
	}
	f.Start++
	f.Restart++
	f.IdleRSS++
	f.Cold[0].Boot.Total.Median = 8.001
	if got := page(f); strings.Count(got, "**no**") != 8 {
		t.Errorf("no budget is met, but:\n%s", got)
	}
}
