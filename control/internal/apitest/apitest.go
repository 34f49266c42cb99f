// Package apitest starts the operations of an API for tests: over a store and a clock of their own, behind a listener, and
// with the clients that people use. It knows no API.
package apitest

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"thaw/awsapi"
	"thaw/state"
)

// Store is an empty store, which ends with the test.
func Store(t testing.TB) *state.Store {
	t.Helper()
	store, err := state.Open(t.Context(), state.Config{Dir: filepath.Join(t.TempDir(), "data")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

// Clock stands still until it is told to go on.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock makes a clock that shows now.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now is what the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Pass puts the clock forward, or back.
func (c *Clock) Pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Service is the service of a name with the operations that register adds.
func Service(t testing.TB, name string, register func(*awsapi.Service)) *awsapi.Service {
	t.Helper()
	s, err := awsapi.New(name)
	if err != nil {
		t.Fatal(err)
	}
	register(s)
	return s
}

// Serve gives the URL of a listener, which ends with the test.
func Serve(t testing.TB, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// environment is what AWS's tools need, and nothing of the machine's own.
func environment(region string) []string {
	return append(os.Environ(),
		"AWS_ACCESS_KEY_ID=thaw", "AWS_SECRET_ACCESS_KEY=thaw", "AWS_DEFAULT_REGION="+region, "AWS_REGION="+region,
		"AWS_EC2_METADATA_DISABLED=true", "PYTHONIOENCODING=utf-8", "AWS_PAGER=")
}

// Boto3 runs Python with arguments, a script's file, or -c and a script, before its own. It fails the test where the
// script fails, and skips it on a machine without boto3.
func Boto3(t testing.TB, region string, arguments ...string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil || exec.CommandContext(t.Context(), python, "-c", "import boto3").Run() != nil {
		t.Skip("needs python3 with boto3")
	}
	cmd := exec.CommandContext(t.Context(), python, arguments...)
	cmd.Env = environment(region)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// CommandLine gives AWS's command line for one service at a URL: it runs a command and gives what that printed. A command
// that fails fails the test. The test is skipped on a machine without it.
func CommandLine(t testing.TB, region, url, service string) func(command ...string) string {
	t.Helper()
	aws, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("needs the AWS command line")
	}
	return func(command ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), aws, append([]string{"--endpoint-url", url, "--output", "json", service}, command...)...)
		cmd.Env = environment(region)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", command, err, out)
		}
		return string(out)
	}
}
