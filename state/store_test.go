package state

import (
	"errors"
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
