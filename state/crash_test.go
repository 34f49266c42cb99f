package state

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"thaw"
)

// crashDir names the environment variable that makes the test binary the writer that is killed.
const crashDir = "THAW_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(dir))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// document is what the writer stores as a record; fill makes a torn one show.
type document struct {
	N    int
	Fill string
}

func fillFor(n int) string { return strings.Repeat(fmt.Sprintf("%08d", n), 400) }

func packageFor(n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	zip := make([]byte, 1+r.Uint64()%(3*chunkSize))
	r.Read(zip)
	return zip
}

// writeUntilKilled writes with several goroutines and prints one line per acknowledged write: what, key, counter.
func writeUntilKilled(dir string) error {
	ctx := context.Background()
	s, err := Open(ctx, Config{Dir: dir})
	if err != nil {
		return err
	}
	failed := make(chan error)
	first := int(time.Now().UnixMilli() % 1e9)
	write := func(what string, fn func(n int) (string, error)) {
		go func() {
			for n := first; ; n++ {
				key, err := fn(n)
				if err != nil {
					failed <- fmt.Errorf("%s: %w", what, err)
					return
				}
				fmt.Printf("%s %s %d\n", what, key, n)
			}
		}()
	}
	write("updated", func(n int) (string, error) {
		name := fmt.Sprintf("kept-%d", n%7)
		set := func(f *thaw.Function) error {
			f.Config.Generation, f.Config.Description = uint64(n), fillFor(n)
			return nil
		}
		if _, err := s.UpdateFunction(ctx, name, set); !errors.Is(err, ErrNotFound) {
			return name, err
		}
		f := function(name)
		set(f)
		return name, s.CreateFunction(ctx, f)
	})
	write("deleted", func(n int) (string, error) {
		name := fmt.Sprintf("brief-%d", n)
		if err := s.CreateFunction(ctx, function(name)); err != nil {
			return name, err
		}
		fmt.Printf("created %s %d\n", name, n)
		return name, s.DeleteFunction(ctx, name)
	})
	records := s.Records("crash")
	write("recorded", func(n int) (string, error) {
		key := fmt.Sprintf("key/%d", n%11)
		return key, records.Put(ctx, key, document{n, fillFor(n)})
	})
	write("uploaded", func(n int) (string, error) {
		code, err := s.PutCode(ctx, packageFor(n))
		return code.SHA256, err
	})
	go func() {
		for n := 0; ; n++ {
			if err := s.PublishLog("/aws/lambda/crash", "", []byte(fillFor(n))); err != nil && !errors.Is(err, ErrBusy) {
				failed <- err
				return
			}
			if n%100 == 99 {
				if err := records.Put(ctx, "pace", document{}); err != nil {
					failed <- err
					return
				}
			}
		}
	}()
	return <-failed
}

// acknowledged is what the killed writers were told.
type acknowledged struct {
	updated, recorded map[string]int
	created           map[string]bool // and not known to be deleted
	deleted           map[string]bool
	uploaded          map[string]int
}

func (a *acknowledged) note(line string) error {
	var what, key string
	var n int
	if _, err := fmt.Sscan(line, &what, &key, &n); err != nil {
		return fmt.Errorf("writer said %q: %w", line, err)
	}
	switch what {
	case "updated":
		a.updated[key] = n
	case "recorded":
		a.recorded[key] = n
	case "created":
		a.created[key] = true
	case "deleted":
		delete(a.created, key)
		a.deleted[key] = true
	case "uploaded":
		a.uploaded[key] = n
	default:
		return fmt.Errorf("writer said %q", line)
	}
	return nil
}

func TestAcknowledgedWritesSurviveKill(t *testing.T) {
	rounds := 24
	if testing.Short() {
		rounds = 4
	}
	dir := t.TempDir()
	acks := &acknowledged{map[string]int{}, map[string]int{}, map[string]bool{}, map[string]bool{}, map[string]int{}}
	whole := map[string]bool{} // packages that were read back already
	for round := range rounds {
		runAndKill(t, dir, acks, 1+rand.IntN(80), time.Duration(rand.IntN(20_000))*time.Microsecond)
		verify(t, dir, acks, whole)
		if t.Failed() {
			t.Fatalf("after kill number %d", round+1)
		}
	}
	t.Logf("%d kills: %d functions kept, %d deleted, %d records, %d packages", rounds, len(acks.updated), len(acks.deleted), len(acks.recorded), len(acks.uploaded))
	clear(whole)
	verify(t, dir, acks, whole)
}

// runAndKill starts a writer, waits for some acknowledgements and then a moment that falls anywhere in a write, and
// kills it. What the writer printed until its end counts.
func runAndKill(t *testing.T, dir string, acks *acknowledged, count int, moment time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		if err := acks.note(lines.Text()); err != nil {
			t.Error(err)
		}
		if n == count {
			time.AfterFunc(moment, func() { cmd.Process.Kill() })
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.String() != "signal: killed" {
		t.Fatalf("writer ended by itself: %v", err)
	}
}

func verify(t *testing.T, dir string, acks *acknowledged, whole map[string]bool) {
	t.Helper()
	ctx := t.Context()
	s, err := Open(ctx, Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, n := range acks.updated {
		f, ok := s.Function(name)
		if !ok {
			t.Errorf("function %s is gone", name)
		} else if int(f.Config.Generation) < n || f.Config.Description != fillFor(int(f.Config.Generation)) {
			t.Errorf("function %s is at %d, acknowledged was %d", name, f.Config.Generation, n)
		}
	}
	for name := range acks.deleted {
		if _, ok := s.Function(name); ok {
			t.Errorf("deleted function %s is back", name)
		}
	}
	missing := 0
	for name := range acks.created {
		if _, ok := s.Function(name); !ok {
			missing++
			acks.deleted[name] = true
		}
		delete(acks.created, name)
	}
	if missing > 1 {
		t.Errorf("%d created functions are gone; one could have been deleted when the kill came", missing)
	}
	for key, n := range acks.recorded {
		var d document
		if err := s.Records("crash").Get(ctx, key, &d); err != nil || d.N < n || d.Fill != fillFor(d.N) {
			t.Errorf("record %s is at %d (%v), acknowledged was %d", key, d.N, err, n)
		}
	}
	for digest, n := range acks.uploaded {
		if !whole[digest] {
			if sha256Text(packageFor(n)) != digest {
				t.Errorf("package %d was acknowledged as %s", n, digest)
			}
			readWhole(t, s, digest)
			whole[digest] = true
		}
	}
	// Whatever is visible must be whole, acknowledged or not.
	err = s.Records(codeKind).scan(ctx, func(key string, _ jetstream.KeyValueEntry) {
		if digest := base64Digest(t, key); !whole[digest] {
			readWhole(t, s, digest)
			whole[digest] = true
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func readWhole(t *testing.T, s *Store, digest string) {
	t.Helper()
	r, err := s.OpenCode(t.Context(), digest)
	if err != nil {
		t.Errorf("package %s: %v", digest, err)
		return
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Errorf("package %s: %v", digest, err)
	}
}

func TestWriterOfCrashTestReportsErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "VERSION"), []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeUntilKilled(dir); !errors.Is(err, ErrNewerVersion) {
		t.Fatal(err)
	}
}
