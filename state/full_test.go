package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"thaw"
	"thaw/state/internal/smalldisk"
)

// uniquePackage is a megabyte that no other n gives.
func uniquePackage(n int) []byte {
	zip := make([]byte, 1<<20)
	binary.BigEndian.PutUint64(zip, uint64(n))
	return zip
}

func TestFullDiskRefusesBeforeTheEngineBreaks(t *testing.T) {
	dir := smalldisk.Mount(t, "80m")
	if dir == "" {
		return
	}
	ctx := t.Context()
	s := open(t, Config{Dir: dir})
	if err := s.CreateFunction(ctx, function("first")); err != nil {
		t.Fatal(err)
	}
	if err := s.Records("kind").Create(ctx, "many", []string{"one", "two"}); err != nil {
		t.Fatal(err)
	}
	var kept []thaw.Code
	var err error
	for n := 0; err == nil && n < 200; n++ {
		var code thaw.Code
		if code, err = s.PutCode(ctx, uniquePackage(n)); err == nil {
			kept = append(kept, code)
		}
	}
	if !errors.Is(err, ErrFull) || len(kept) < 20 {
		t.Fatalf("after %d packages: %v", len(kept), err)
	}
	t.Logf("after %d packages: %v", len(kept), err)
	// What the last refusal left over is less than a package; a small file takes it.
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateFunction(ctx, function("second")); !errors.Is(err, ErrFull) {
		t.Errorf("create: %v", err)
	}
	if _, err := s.UpdateFunction(ctx, "first", func(f *thaw.Function) error { f.Config.Timeout = 9; return nil }); !errors.Is(err, ErrFull) {
		t.Errorf("update: %v", err)
	}
	if err := s.Records("kind").Put(ctx, "key", 1); !errors.Is(err, ErrFull) {
		t.Errorf("put record: %v", err)
	}
	less := func(list *[]string) error { *list = (*list)[:1]; return nil }
	if _, err := UpdateRecord(ctx, s.Records("kind"), "many", less); !errors.Is(err, ErrFull) {
		t.Errorf("update record: %v", err)
	}
	if list, err := ReduceRecord(ctx, s.Records("kind"), "many", less); err != nil || len(*list) != 1 {
		t.Errorf("reduce a record on a full disk: %v, %v", list, err)
	}
	if err := s.KeepCode(ctx, kept[0].SHA256); err != nil {
		t.Errorf("keep a package on a full disk: %v", err)
	}
	if f, _ := s.Function("first"); f == nil || f.Config.Timeout != 0 {
		t.Errorf("the refused update shows: %+v", f)
	}
	for _, code := range kept {
		readWhole(t, s, code.SHA256)
	}
	if err := s.DeleteFunction(ctx, "first"); err != nil {
		t.Errorf("delete on a full disk: %v", err)
	}
	if err := s.sweepCode(ctx, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		err := s.CreateFunction(ctx, function("second"))
		if err == nil {
			break
		}
		if !errors.Is(err, ErrFull) || time.Now().After(deadline) {
			t.Fatalf("create after space was freed: %v", err)
		}
	}
}

func TestDiskThatOthersFillLosesNothing(t *testing.T) {
	dir := smalldisk.Mount(t, "48m")
	if dir == "" {
		return
	}
	ctx := t.Context()
	s, err := Open(ctx, Config{Dir: dir, DiskReserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.CreateFunction(ctx, function("first")); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 1<<12))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Truncate(fileSize(t, f) - 64<<10); err != nil {
		t.Fatal(err)
	}
	// The room is asked for by hand, so that the engine meets the full disk itself.
	s.room.path = ""
	acknowledged := 0
	for ; ; acknowledged++ {
		if err = s.CreateFunction(ctx, function(fmt.Sprintf("more-%d", acknowledged))); err != nil {
			break
		}
		if acknowledged > 10_000 {
			t.Fatal("64 KiB hold 10,000 functions")
		}
	}
	if !errors.Is(err, ErrFull) {
		t.Errorf("create: %v", err)
	}
	t.Logf("after %d functions: %v", acknowledged, err)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, Config{Dir: dir}); !errors.Is(err, ErrFull) {
		t.Errorf("open on a full disk: %v", err)
	}
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	s = open(t, Config{Dir: dir, DiskReserve: 1})
	if _, ok := s.Function("first"); !ok {
		t.Error("function first is gone")
	}
	for n := range acknowledged {
		if _, ok := s.Function(fmt.Sprintf("more-%d", n)); !ok {
			t.Errorf("function more-%d is gone", n)
		}
	}
	if err := s.CreateFunction(ctx, function("last")); err != nil {
		t.Errorf("create after space was freed: %v", err)
	}
}

func fileSize(t *testing.T, f *os.File) int64 {
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
