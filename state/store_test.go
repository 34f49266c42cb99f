package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"thaw"
)

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func function(name string) *thaw.Function {
	return &thaw.Function{Name: name, Config: thaw.Version{Function: name, Number: thaw.Latest, Runtime: "python3.11", Environment: map[string]string{"A": "1"}}}
}

func TestFunctionLife(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	ctx := t.Context()
	f := function("f")
	if err := s.CreateFunction(ctx, f); err != nil {
		t.Fatal(err)
	}
	f.Config.Environment["A"] = "changed by the caller"
	got, ok := s.Function("f")
	if !ok || got.Config.Environment["A"] != "1" {
		t.Fatalf("catalog shows %+v, %v after create", got, ok)
	}
	if err := s.CreateFunction(ctx, f); !errors.Is(err, ErrExists) {
		t.Fatalf("second create: %v", err)
	}
	_, err := s.UpdateFunction(ctx, "f", func(f *thaw.Function) error { f.Config.Timeout = 7; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if now, _ := s.Function("f"); now.Config.Timeout != 7 || got.Config.Timeout != 0 {
		t.Fatal("update changed the shared value, or did not show")
	}
	if err := s.DeleteFunction(ctx, "f"); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Function("f"); ok {
		t.Fatal("deleted function is still in the catalog")
	}
	if err := s.DeleteFunction(ctx, "f"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("second delete: %v", err)
	}
	if err := s.CreateFunction(ctx, function("f")); err != nil {
		t.Fatalf("create after delete: %v", err)
	}
}

// TestSyncAlwaysReachesTheFiles looks at how the engine has opened the file that functions are written to.
func TestSyncAlwaysReachesTheFiles(t *testing.T) {
	for _, always := range []bool{false, true} {
		dir := t.TempDir()
		s := open(t, Config{Dir: dir, SyncAlways: always})
		if err := s.CreateFunction(t.Context(), function("f")); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, fd := range files {
			name, _ := os.Readlink(fd)
			if !strings.HasPrefix(name, dir) || !strings.Contains(name, functionsBucket) || !strings.HasSuffix(name, ".blk") {
				continue
			}
			info, err := os.ReadFile(strings.Replace(fd, "/fd/", "/fdinfo/", 1))
			if err != nil {
				t.Fatal(err)
			}
			var pos, flags int
			if _, err := fmt.Sscanf(string(info), "pos: %d\nflags: %o", &pos, &flags); err != nil {
				t.Fatal(err)
			}
			found = true
			if sync := flags&syscall.O_SYNC == syscall.O_SYNC; sync != always {
				t.Errorf("SyncAlways %v: %s is open with O_SYNC %v", always, name, sync)
			}
		}
		if !found {
			t.Errorf("SyncAlways %v: no file of functions is open", always)
		}
	}
}
