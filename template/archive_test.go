package template

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"thaw"
	"thaw/runtimes"
	"thaw/sandbox"
	"thaw/sandbox/sandboxtest"
)

type noLog struct{}

func (noLog) Write(time.Time, string, []byte) {}
func (noLog) WaitRoom(context.Context)        {}
func archivePlan(t *testing.T) *sandbox.Plan {
	t.Helper()
	return &sandbox.Plan{
		ID: sandbox.NewID(), Log: noLog{}, CodeDir: t.TempDir(), InitLimit: time.Minute,
		Version: &thaw.Version{Function: "fn", Number: thaw.Latest, Runtime: "java21", MemorySize: 128, TmpSize: 512, Timeout: 3},
		Launch: &runtimes.Launch{
			Channel: true, Args: []string{"/bin/false"}, ArchiveArgs: []string{"/bin/true"},
			Archive: filepath.Join(t.TempDir(), "archives", "one.jsa"),
		},
	}
}

// writes is a runtime that leaves this archive and ends with this status.
func writes(content string, status int) func(io.Writer) int {
	return func(channel io.Writer) int {
		io.WriteString(channel, content)
		return status
	}
}

func TestArchive(t *testing.T) {
	for _, test := range []struct {
		name    string
		runtime sandboxtest.Runtime
		tags    map[string]string
		made    bool
		why     string
		events  string
	}{
		{name: "made", runtime: sandboxtest.Runtime{Last: writes("classes", 0)}, made: true},
		{name: "with an event", runtime: sandboxtest.Runtime{Last: writes("classes", 0)}, tags: map[string]string{thaw.TagWarmupEvent: `{"n":1}`}, made: true, events: `{"n":1}`},
		{name: "off", runtime: sandboxtest.Runtime{Last: writes("classes", 0)}, tags: map[string]string{thaw.TagSnapshot: "off"}},
		{name: "failed at its end", runtime: sandboxtest.Runtime{Last: writes("half of the cla", 1)}, why: "exit status 1"},
		{name: "empty", runtime: sandboxtest.Runtime{Last: writes("", 0)}, why: "the JVM wrote none"},
		{name: "init fails", runtime: sandboxtest.Runtime{Init: func(*sandbox.Spec, io.Writer) error { return io.EOF }}, why: thaw.ErrorExit},
		{name: "event fails", tags: map[string]string{thaw.TagWarmup: "true"}, runtime: sandboxtest.Runtime{
			Handle: func(*sandbox.Spec, []byte, io.Writer) ([]byte, error) { return nil, io.EOF },
		}, why: thaw.ErrorExit},
	} {
		t.Run(test.name, func(t *testing.T) {
			var events []string
			if test.runtime.Handle == nil {
				test.runtime.Handle = func(_ *sandbox.Spec, event []byte, _ io.Writer) ([]byte, error) {
					events = append(events, string(event))
					return event, nil
				}
			}
			driver := &sandboxtest.Driver{Runtime: test.runtime}
			cfg := &sandbox.Config{Driver: driver}
			plan := archivePlan(t)
			made, why, err := Archive(t.Context(), cfg, plan, "arn", SettingsOf(test.tags))
			if err != nil || (made != "") != test.made || (why != "") != (test.why != "") || !strings.Contains(why, test.why) {
				t.Fatalf("%q, %q, %v", made, why, err)
			}
			if got := strings.Join(events, " "); got != test.events {
				t.Errorf("it served %q", got)
			}
			content, err := os.ReadFile(plan.Launch.Archive)
			if test.made && string(content) != "classes" || !test.made && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%q, %v", content, err)
			}
			left, _ := filepath.Glob(filepath.Join(filepath.Dir(plan.Launch.Archive), ".new-*"))
			if len(left) > 0 || driver.Open.Load() != 0 {
				t.Errorf("left behind: %v, %d environments", left, driver.Open.Load())
			}
			starts := driver.Started.Load()
			if test.made {
				if again, why, err := Archive(t.Context(), cfg, plan, "arn", SettingsOf(test.tags)); again != made || why != "" || err != nil || driver.Started.Load() != starts {
					t.Errorf("one that is there: %q, %q, %v, %d starts", again, why, err, driver.Started.Load()-starts)
				}
			}
		})
	}
}

// TestArchiveBounds cuts off an archive that is too large, and a runtime that does not end.
func TestArchiveBounds(t *testing.T) {
	cfg := &sandbox.Config{Driver: &sandboxtest.Driver{Runtime: sandboxtest.Runtime{Last: writes("12345", 0)}}}
	env, err := cfg.BootArchive(t.Context(), archivePlan(t))
	if err != nil {
		t.Fatal(err)
	}
	defer env.Close()
	var got bytes.Buffer
	if err := env.Archive(t.Context(), &got, 4); !errors.Is(err, sandbox.ErrArchiveSize) || got.Len() > 5 {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	stuck := make(chan struct{})
	cfg = &sandbox.Config{Driver: &sandboxtest.Driver{Runtime: sandboxtest.Runtime{Last: func(io.Writer) int {
		cancel()
		<-stuck
		return 0
	}}}}
	env, err = cfg.BootArchive(t.Context(), archivePlan(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := env.Archive(ctx, &got, 4); !errors.Is(err, context.Canceled) {
		t.Errorf("a runtime that does not end: %v", err)
	}
	close(stuck)
	env.Close()
}
