package code

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"thaw"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errNoPackage = errors.New("no such package")

// shelf is a source in memory.
type shelf struct {
	mu       sync.Mutex
	packages map[string][]byte
	opened   atomic.Int32
	hold     chan struct{} // when set, reading waits for it to be closed or for the context
}

func (s *shelf) put(archive []byte) string {
	sum := sha256.Sum256(archive)
	digest := base64.StdEncoding.EncodeToString(sum[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.packages == nil {
		s.packages = map[string][]byte{}
	}
	s.packages[digest] = archive
	return digest
}

func (s *shelf) OpenCode(ctx context.Context, digest string) (io.ReadCloser, error) {
	s.opened.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	archive, ok := s.packages[digest]
	if !ok {
		return nil, errNoPackage
	}
	return &held{ctx, s.hold, bytes.NewReader(archive)}, nil
}

type held struct {
	ctx  context.Context
	hold chan struct{}
	*bytes.Reader
}

func (h *held) Close() error { return nil }

func (h *held) WriteTo(w io.Writer) (int64, error) {
	if h.hold != nil {
		select {
		case <-h.hold:
		case <-h.ctx.Done():
			return 0, h.ctx.Err()
		}
	}
	return h.Reader.WriteTo(w)
}

func (h *held) Read(p []byte) (int, error) {
	if h.hold != nil {
		select {
		case <-h.hold:
		case <-h.ctx.Done():
			return 0, h.ctx.Err()
		}
	}
	return h.Reader.Read(p)
}

func openCache(t testing.TB, dir string, src Source, max int64) *Cache {
	t.Helper()
	c, err := OpenCache(dir, src, max)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func sized(t testing.TB, seed byte, size int) []byte {
	return pack(t, part{name: "body", mode: 0o644, body: strings.Repeat(string(rune('a'+seed%26)), size)})
}

func isEmpty(t *testing.T, dir string) {
	t.Helper()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%s holds %v, %v", dir, entries, err)
	}
}

func TestDirUnpacksOnce(t *testing.T) {
	src := &shelf{hold: make(chan struct{})}
	digest := src.put(sized(t, 0, 1000))
	dir := t.TempDir()
	c := openCache(t, dir, src, 0)
	paths := make(chan string)
	for range 20 {
		go func() {
			path, err := c.Dir(t.Context(), digest)
			if err != nil {
				t.Error(err)
			}
			paths <- path
		}()
	}
	for deadline := time.Now().Add(10 * time.Second); c.waiting(digest) < 20; {
		if time.Now().After(deadline) {
			t.Fatal("not all callers wait")
		}
	}
	close(src.hold)
	first := <-paths
	for range 19 {
		if path := <-paths; path != first {
			t.Errorf("paths %s and %s", first, path)
		}
	}
	if n := src.opened.Load(); n != 1 {
		t.Errorf("package was fetched %d times", n)
	}
	if body, err := os.ReadFile(filepath.Join(first, "body")); err != nil || len(body) != 1000 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	isEmpty(t, filepath.Join(dir, partialDir))
	if allocs := testing.AllocsPerRun(100, func() { c.Dir(t.Context(), digest) }); allocs > 1 {
		t.Errorf("Dir of a tree that is there makes %v allocations", allocs)
	}
}

func (c *Cache) waiting(digest string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[digest]; f != nil {
		return f.waits
	}
	return 0
}

func TestUnpackingGoesOnForThoseWhoStillWait(t *testing.T) {
	src := &shelf{hold: make(chan struct{})}
	digest := src.put(sized(t, 0, 1))
	dir := t.TempDir()
	c := openCache(t, dir, src, 0)
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp, stayed := make(chan error), make(chan error)
	go func() { _, err := c.Dir(ctx, digest); gaveUp <- err }()
	go func() { _, err := c.Dir(t.Context(), digest); stayed <- err }()
	for deadline := time.Now().Add(10 * time.Second); c.waiting(digest) < 2; {
		if time.Now().After(deadline) {
			t.Fatal("not all callers wait")
		}
	}
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up got %v", err)
	}
	close(src.hold)
	if err := <-stayed; err != nil {
		t.Errorf("who stayed got %v", err)
	}
}

func TestUnpackingEndsWhenNobodyWaits(t *testing.T) {
	src := &shelf{hold: make(chan struct{})}
	digest := src.put(sized(t, 0, 1))
	dir := t.TempDir()
	c := openCache(t, dir, src, 0)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { _, err := c.Dir(ctx, digest); done <- err }()
		for deadline := time.Now().Add(10 * time.Second); c.waiting(digest) < 1; {
			if time.Now().After(deadline) {
				t.Fatal("nobody waits")
			}
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	close(src.hold)
	if _, err := c.Dir(t.Context(), digest); err != nil {
		t.Fatalf("after others gave up: %v", err)
	}
	c.Close()
	isEmpty(t, filepath.Join(dir, partialDir))
	if c.used != c.treeBytes() {
		t.Errorf("%d bytes are counted, %d are there", c.used, c.treeBytes())
	}
}

func (c *Cache) treeBytes() (n int64) {
	c.trees.Range(func(_, v any) bool { n += v.(*unpacked).size; return true })
	return n
}

func TestDirErrors(t *testing.T) {
	src := &shelf{}
	dir := t.TempDir()
	c := openCache(t, dir, src, 100_000)
	hostile := src.put(pack(t, part{name: "ok", mode: 0o644}, part{name: "../x", mode: 0o644}))
	halfway := src.put(corrupt(pack(t, part{name: "ok", mode: 0o644, body: "ok"}, part{name: "broken", mode: 0o644, body: strings.Repeat("abc", 9999)}), "broken"))
	other := src.put(sized(t, 1, 1))
	src.packages[other] = sized(t, 2, 1)
	large := src.put(sized(t, 3, 200_000))
	for _, test := range []struct {
		what, digest string
		is           error
		say          string
	}{
		{"no digest", "../../x", nil, "not a SHA-256 digest"},
		{"hex", strings.Repeat("00", 32), nil, "not a SHA-256 digest"},
		{"missing", base64.StdEncoding.EncodeToString(make([]byte, 32)), errNoPackage, ""},
		{"hostile", hostile, &thaw.Error{Code: thaw.CodeInvalidParameterValue}, "leads out"},
		{"damaged in the middle", halfway, &thaw.Error{Code: thaw.CodeInvalidParameterValue}, unusable},
		{"other bytes", other, nil, "have digest"},
		{"too large", large, ErrCacheFull, "raise the bound"},
	} {
		path, err := c.Dir(t.Context(), test.digest)
		if err == nil || path != "" || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.say) {
			t.Errorf("%s: %q, %v", test.what, path, err)
		}
	}
	isEmpty(t, filepath.Join(dir, partialDir))
	isEmpty(t, filepath.Join(dir, treesDir))
	if c.used != 0 {
		t.Errorf("%d bytes are counted", c.used)
	}
	c.Close()
	if _, err := c.Dir(t.Context(), large); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

// age makes all trees look as if they had been handed out long ago, in the order of their digests' arguments.
func (c *Cache) age(digests ...string) {
	for n, digest := range digests {
		if v, ok := c.trees.Load(digest); ok {
			v.(*unpacked).last.Store(time.Now().Add(-time.Hour).UnixNano() + int64(n))
		}
	}
}

func TestEviction(t *testing.T) {
	src := &shelf{}
	var digests []string
	for n := range byte(6) {
		digests = append(digests, src.put(sized(t, n, 10_000)))
	}
	dir := t.TempDir()
	c := openCache(t, dir, src, 50_000) // three trees of 16 KiB
	get := func(n int) (string, error) { return c.Dir(t.Context(), digests[n]) }
	here := func(n int) bool { _, ok := c.trees.Load(digests[n]); return ok }
	must := func(n int) string {
		t.Helper()
		path, err := get(n)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	must(0)
	must(1)
	must(2)
	if _, err := get(3); !errors.Is(err, ErrCacheFull) {
		t.Fatalf("young trees were evicted: %v", err)
	}
	release := c.Retain(digests[0])
	c.age(digests[0], digests[2], digests[1])
	must(3)
	if !here(0) || !here(1) || here(2) {
		t.Errorf("retained %v, used last %v, used first %v", here(0), here(1), here(2))
	}
	again := c.Retain(digests[0])
	again()
	again()
	c.age(digests[:4]...)
	if err := c.Sweep(t.Context(), func(digest string) bool { return digest == digests[1] }); err != nil {
		t.Fatal(err)
	}
	if !here(0) || !here(1) || here(3) {
		t.Errorf("after the sweep: retained %v, wanted %v, neither %v", here(0), here(1), here(3))
	}
	release()
	if err := c.Sweep(t.Context(), func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if here(0) || here(1) || c.used != 0 {
		t.Errorf("after everything was given up: %v, %v, %d bytes", here(0), here(1), c.used)
	}
	isEmpty(t, filepath.Join(dir, partialDir))
	isEmpty(t, filepath.Join(dir, treesDir))
	must(0)
}

func TestReopen(t *testing.T) {
	src := &shelf{}
	digest := src.put(sized(t, 0, 10_000))
	dir := t.TempDir()
	c := openCache(t, dir, src, 0)
	path, err := c.Dir(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	used := c.used
	c.Close()
	// What a crash in the middle of unpacking leaves.
	half := filepath.Join(dir, partialDir, "00000000-123", "tree", "deep")
	if err := os.MkdirAll(half, 0o755); err != nil {
		t.Fatal(err)
	}
	c = openCache(t, dir, src, 0)
	isEmpty(t, filepath.Join(dir, partialDir))
	if again, err := c.Dir(t.Context(), digest); err != nil || again != path || src.opened.Load() != 1 || c.used != used {
		t.Errorf("%s, %v after %d fetches, %d bytes; before %s, %d bytes", again, err, src.opened.Load(), c.used, path, used)
	}
	c.Close()

	defer func(was string) { bootID = was }(bootID)
	bootID = filepath.Join(t.TempDir(), "boot_id")
	if err := os.WriteFile(bootID, []byte("another boot\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(path, "body"), 0); err != nil {
		t.Fatal(err)
	}
	c = openCache(t, dir, src, 0)
	isEmpty(t, filepath.Join(dir, treesDir))
	isEmpty(t, filepath.Join(dir, partialDir))
	if path, err = c.Dir(t.Context(), digest); err != nil {
		t.Fatal(err)
	}
	if body, err := os.ReadFile(filepath.Join(path, "body")); err != nil || len(body) != 10_000 {
		t.Errorf("a tree of an earlier boot was served: %d bytes, %v", len(body), err)
	}
	c.Close()

	if err := os.WriteFile(filepath.Join(dir, treesDir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCache(dir, src, 0); err == nil || !strings.Contains(err.Error(), "mine") {
		t.Errorf("a stranger's file in the cache: %v", err)
	}
}

// TestCacheHammer has many ask for more trees than fit while others sweep: whoever retains a tree before asking for it
// finds it whole for as long as it is retained.
func TestCacheHammer(t *testing.T) {
	src := &shelf{}
	var digests []string
	for n := range byte(8) {
		digests = append(digests, src.put(sized(t, n, 10_000)))
	}
	c := openCache(t, t.TempDir(), src, 5*20_000)
	stop := make(chan struct{})
	var sweeper, workers sync.WaitGroup
	sweeper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := c.sweep(t.Context(), func(d string) bool { return d == digests[0] }, time.Now().Add(time.Hour)); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for w := range 4 {
		workers.Go(func() {
			for n := range 150 {
				digest := digests[(w*3+n*5)%len(digests)]
				release := c.Retain(digest)
				path, err := c.Dir(t.Context(), digest)
				if err == nil {
					body, readErr := os.ReadFile(filepath.Join(path, "body"))
					if readErr != nil || len(body) != 10_000 {
						err = fmt.Errorf("%d bytes, %w", len(body), readErr)
					}
				}
				if err != nil && !errors.Is(err, ErrCacheFull) {
					t.Error(err)
				}
				release()
			}
		})
	}
	workers.Wait()
	close(stop)
	sweeper.Wait()
	if c.used != c.treeBytes() || c.used > c.max || len(c.holds) != 0 || len(c.flights) != 0 {
		t.Errorf("%d bytes counted, %d there, %d holds, %d flights", c.used, c.treeBytes(), len(c.holds), len(c.flights))
	}
}
