package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"thaw/cli"
	"thaw/state"
)

// screen collects what a program prints while another goroutine looks.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// command runs one command line in this process.
func command(ctx context.Context, endpoint string, args ...string) (exit int, out, complaint string) {
	var stdout, stderr screen
	getenv := func(name string) string {
		if name == "THAW_ENDPOINT" {
			return endpoint
		}
		return ""
	}
	exit = run(ctx, args, cli.Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr}, getenv)
	return exit, stdout.String(), stderr.String()
}

// TestVerbsAgainstUp runs the platform and the verbs that talk to it in one process, and looks that no goroutine is left.
func TestVerbsAgainstUp(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the default network needs root")
	}
	before := goleak.IgnoreCurrent()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	endpoint := "http://" + address
	data := t.TempDir()

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan int, 1)
	log := &screen{}
	go func() {
		ended <- run(ctx, []string{"up", "--listen", address, "--data", data}, cli.Streams{In: strings.NewReader(""), Out: log, Err: log}, nil)
	}()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(log.String(), "thaw is up"); {
		select {
		case exit := <-ended:
			t.Fatalf("exit status %d: %s", exit, log)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("not up: %s", log)
		}
	}

	function := filepath.Join(t.TempDir(), "greeter")
	err = errors.Join(os.Mkdir(function, 0o755),
		os.WriteFile(filepath.Join(function, "app.py"), []byte("def handler(event, context):\n    print('said hello')\n    return {'hello': event}\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		exit int
		says string
	}{
		{[]string{"list"}, cli.ExitOK, ""},
		{[]string{"deploy", function}, cli.ExitOK, "greeter"},
		{[]string{"invoke", "greeter", "--payload", `"you"`}, cli.ExitOK, `{"hello": "you"}`},
		{[]string{"invoke", "greeter", "--payload", `"you"`, "--explain"}, cli.ExitOK, "warm"},
		{[]string{"list", "--json"}, cli.ExitOK, "greeter"},
		{[]string{"logs", "greeter"}, cli.ExitOK, "said hello"},
		{[]string{"invoke", "stranger"}, cli.ExitNotFound, "thaw list"},
		{[]string{"invoke", "greeter", "--async"}, cli.ExitOK, ""},
		{[]string{"invoke", "stranger", "--async"}, cli.ExitNotFound, "thaw list"},
		{[]string{"events", "list"}, cli.ExitOK, "greeter"},
		{[]string{"events", "show", "greeter"}, cli.ExitOK, "greeter: "},
		{[]string{"events", "show", "stranger"}, cli.ExitNotFound, "thaw events list"},
		{[]string{"events", "discard", "greeter", "--id", "none"}, cli.ExitNotFound, "no dead event"},
		{[]string{"queue", "list"}, cli.ExitOK, "no queues yet"},
		{[]string{"queue", "show", "stranger"}, cli.ExitNotFound, "thaw queue list"},
		{[]string{"queue", "send", "stranger", "x"}, cli.ExitNotFound, "thaw queue list"},
		{[]string{"up", "--listen", address, "--data", t.TempDir()}, cli.ExitFailed, "uses that port"},
		{[]string{"up", "--listen", "127.0.0.1:0", "--data", data}, cli.ExitFailed, "another thaw uses it"},
		{[]string{"delete", "greeter"}, cli.ExitOK, ""},
		{[]string{"invoke", "greeter"}, cli.ExitNotFound, ""},
	} {
		exit, out, complaint := command(t.Context(), endpoint, c.args...)
		if exit != c.exit || !strings.Contains(out+complaint, c.says) {
			t.Errorf("thaw %s: exit %d, want %d with %q:\n%s%s", strings.Join(c.args, " "), exit, c.exit, c.says, out, complaint)
		}
	}
	stop()
	select {
	case exit := <-ended:
		if exit != cli.ExitOK {
			t.Errorf("exit status %d: %s", exit, log)
		}
	case <-time.After(time.Minute):
		t.Fatalf("it does not stop: %s", log)
	}
	if exit, _, complaint := command(t.Context(), endpoint, "list"); exit != cli.ExitUnreachable {
		t.Errorf("list after the stop: exit %d: %s", exit, complaint)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if err := goleak.Find(before); err != nil {
		t.Errorf("goroutines are left: %v", err)
	}
}

// TestUpThatFailsLeavesNoGoroutine fails starts at different depths.
func TestUpThatFailsLeavesNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	newer := t.TempDir()
	if err := os.WriteFile(filepath.Join(newer, "VERSION"), []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		exit int
	}{
		{"configuration", []string{"--config", "/nonexistent"}, cli.ExitUsage},
		{"listener", []string{"--listen", "192.0.2.1:1", "--data", t.TempDir()}, cli.ExitUsage},
		{"state", []string{"--listen", "127.0.0.1:0", "--data", newer}, cli.ExitFailed},
		{"network", []string{"--listen", "127.0.0.1:0", "--data", t.TempDir(), "--config", writeConfig(t, "network:\n  mode: nat\n  prefix: 127.0.0.0/24\n")}, cli.ExitFailed},
	} {
		if exit, _, complaint := command(t.Context(), "", append([]string{"up"}, c.args...)...); exit != c.exit {
			t.Errorf("%s: exit %d, want %d: %s", c.name, exit, c.exit, complaint)
		}
	}
	if err := goleak.Find(before); err != nil {
		t.Errorf("goroutines are left: %v", err)
	}
}

func TestWhenFree(t *testing.T) {
	tries := 0
	n, err := whenFree(t.Context(), state.ErrLocked, func() (int, error) {
		if tries++; tries < 3 {
			return 0, fmt.Errorf("still: %w", state.ErrLocked)
		}
		return tries, nil
	})
	if n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	tries = 0
	if _, err := whenFree(t.Context(), state.ErrLocked, func() (int, error) { tries++; return 0, state.ErrFull }); tries != 1 || !errors.Is(err, state.ErrFull) {
		t.Errorf("%v after %d", err, tries)
	}
}
