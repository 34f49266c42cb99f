package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"thaw"
)

func TestUpdatesOfOneFunctionAllCount(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	if err := s.CreateFunction(t.Context(), function("f")); err != nil {
		t.Fatal(err)
	}
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				f, err := s.UpdateFunction(t.Context(), "f", func(f *thaw.Function) error { f.Config.Generation++; return nil })
				if err != nil {
					t.Error(err)
					return
				}
				if now, _ := s.Function("f"); now.Config.Generation < f.Config.Generation {
					t.Errorf("catalog shows %d after %d was acknowledged", now.Config.Generation, f.Config.Generation)
				}
			}
		})
	}
	wg.Wait()
	if f, _ := s.Function("f"); f.Config.Generation != writers*each {
		t.Fatalf("%d of %d updates count", f.Config.Generation, writers*each)
	}
}

func TestUpdateErrors(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	mine := errors.New("mine")
	if _, err := s.UpdateFunction(t.Context(), "f", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("update of nothing: %v", err)
	}
	if err := s.CreateFunction(t.Context(), function("f")); err != nil {
		t.Fatal(err)
	}
	_, err := s.UpdateFunction(t.Context(), "f", func(f *thaw.Function) error { f.Config.Timeout = 5; return mine })
	if err != mine {
		t.Errorf("aborted update: %v", err)
	}
	if f, _ := s.Function("f"); f.Config.Timeout != 0 {
		t.Error("aborted update shows")
	}
	f, err := s.UpdateFunction(t.Context(), "f", func(f *thaw.Function) error { f.Name = "other"; return nil })
	if err != nil || f.Name != "f" {
		t.Errorf("rename: %v, %v", f, err)
	}
}

func TestOneOfManyCreatesWins(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	for round := range 20 {
		name := fmt.Sprintf("f%d", round%2)
		won := make(chan bool, 6)
		for range cap(won) {
			go func() {
				err := s.CreateFunction(t.Context(), function(name))
				if err != nil && !errors.Is(err, ErrExists) {
					t.Error(err)
				}
				won <- err == nil
			}()
		}
		winners := 0
		for range cap(won) {
			if <-won {
				winners++
			}
		}
		if winners != 1 {
			t.Fatalf("%d creates of one function succeeded", winners)
		}
		if err := s.DeleteFunction(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFunctionsPages(t *testing.T) {
	dir := t.TempDir()
	names := []string{"B", "a", "a-", "aa", "b", "z"}
	s := open(t, Config{Dir: dir})
	for _, i := range []int{3, 0, 5, 1, 4, 2} {
		if err := s.CreateFunction(t.Context(), function(names[i])); err != nil {
			t.Fatal(err)
		}
	}
	check := func(s *Store) {
		t.Helper()
		for _, limit := range []int{1, 2, 3, 6, 100} {
			var got []string
			for after := ""; ; {
				page := s.Functions(after, limit)
				if len(page) == 0 {
					break
				}
				for _, f := range page {
					got = append(got, f.Name)
				}
				after = got[len(got)-1]
			}
			if !slices.Equal(got, names) {
				t.Errorf("pages of %d: %q", limit, got)
			}
		}
		if got := s.Functions("", 0); len(got) != 0 {
			t.Errorf("page of 0 has %d", len(got))
		}
		if got := s.Functions("a+", 1); len(got) != 1 || got[0].Name != "a-" {
			t.Errorf("after a name that is not there: %v", got)
		}
	}
	check(s)
	s.Close()
	check(open(t, Config{Dir: dir}))
}

func TestWatch(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	for _, name := range []string{"b", "a"} {
		if err := s.CreateFunction(t.Context(), function(name)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	changes := make(chan Change, 100)
	ended := make(chan error)
	go func() { ended <- s.Watch(ctx, func(c Change) { changes <- c }) }()
	next := func(name string, timeout int) {
		t.Helper()
		select {
		case c := <-changes:
			if c.Name != name || (c.Function == nil) != (timeout < 0) || c.Function != nil && c.Function.Config.Timeout != timeout {
				t.Fatalf("got %s %+v, want %s with timeout %d", c.Name, c.Function, name, timeout)
			}
		case <-ctx.Done():
			t.Fatal("no change came")
		}
	}
	next("a", 0)
	next("b", 0)
	for i := range 3 {
		if _, err := s.UpdateFunction(ctx, "a", func(f *thaw.Function) error { f.Config.Timeout = i + 1; return nil }); err != nil {
			t.Fatal(err)
		}
		next("a", i+1)
	}
	if err := s.DeleteFunction(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	next("b", -1)
	if err := s.CreateFunction(ctx, function("b")); err != nil {
		t.Fatal(err)
	}
	next("b", 0)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestWatchEndsWithTheStore(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	ended := make(chan error)
	go func() { ended <- s.Watch(context.Background(), func(Change) {}) }()
	s.Close()
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}
