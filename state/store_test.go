package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

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

// TestSyncAlwaysReachesTheDisk asks the kernel what it has yet to write of the file that functions are in.
func TestSyncAlwaysReachesTheDisk(t *testing.T) {
	unwritten := func(always bool) uint64 {
		dir := t.TempDir()
		s := open(t, Config{Dir: dir, SyncAlways: always})
		if err := s.CreateFunction(t.Context(), function("f")); err != nil {
			t.Fatal(err)
		}
		blocks, err := filepath.Glob(filepath.Join(dir, "jetstream/jetstream/*/streams/KV_"+functionsBucket+"/msgs/*.blk"))
		if err != nil || len(blocks) != 1 {
			t.Fatalf("files of functions: %v, %v", blocks, err)
		}
		f, err := os.Open(blocks[0])
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var pages unix.Cachestat_t
		if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &pages, 0); err != nil {
			t.Skipf("this kernel does not tell: %v", err)
		}
		return pages.Dirty + pages.Writeback
	}
	if unwritten(false) == 0 {
		t.Skip("this file system has nothing to write, or does not tell")
	}
	if n := unwritten(true); n != 0 {
		t.Errorf("%d pages are not on the disk after an acknowledged write", n)
	}
}
