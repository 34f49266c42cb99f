package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"
)

// follower keeps what Follow tells.
type follower struct {
	mu    sync.Mutex
	view  map[string]string
	ready chan struct{}
}

func follow(t *testing.T, ctx context.Context, r *Records) (*follower, <-chan error) {
	t.Helper()
	f := &follower{view: map[string]string{}, ready: make(chan struct{}, 10)}
	ended := make(chan error, 1)
	go func() {
		ended <- r.Follow(ctx, func(key string, value json.RawMessage) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if value == nil {
				delete(f.view, key)
			} else {
				f.view[key] = string(value)
			}
		}, func() { f.ready <- struct{}{} })
	}()
	return f, ended
}

func (f *follower) await(t *testing.T, want map[string]string) {
	t.Helper()
	for deadline := time.After(20 * time.Second); ; {
		f.mu.Lock()
		same := maps.Equal(f.view, want)
		got := fmt.Sprint(f.view)
		f.mu.Unlock()
		if same {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("got %s, want %v", got, want)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestFollow(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	ctx, stop := context.WithCancel(t.Context())
	things, others := s.Records("thing"), s.Records("other")
	for _, key := range []string{"a/b", "ü.*"} {
		if err := things.Put(ctx, key, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := things.Put(ctx, "gone", 1); err != nil {
		t.Fatal(err)
	}
	if err := things.Delete(ctx, "gone"); err != nil {
		t.Fatal(err)
	}
	f, ended := follow(t, ctx, things)
	<-f.ready
	f.await(t, map[string]string{"a/b": "1", "ü.*": "1"})
	if err := errors.Join(others.Put(ctx, "x", 1), things.Put(ctx, "a/b", 2), things.Create(ctx, "new", 3), things.Delete(ctx, "ü.*"), things.Create(ctx, "gone", 4)); err != nil {
		t.Fatal(err)
	}
	f.await(t, map[string]string{"a/b": "2", "new": "3", "gone": "4"})
	stop()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	_, ended = follow(t, t.Context(), things)
	s.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, ErrClosed) {
			t.Errorf("with the store closed: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it goes on without a store")
	}
}

func TestDeleteRecord(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	ctx := t.Context()
	things := s.Records("thing")
	if err := things.Put(ctx, "a", 1); err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	if err := DeleteRecord(ctx, things, "a", func(*int) error { return no }); !errors.Is(err, no) {
		t.Errorf("refused: %v", err)
	}
	looks := 0
	err := DeleteRecord(ctx, things, "a", func(v *int) error {
		if looks++; looks == 1 {
			return things.Put(ctx, "a", 2) // in between
		}
		if *v != 2 {
			t.Errorf("the second look is at %d", *v)
		}
		return nil
	})
	if err != nil || looks != 2 {
		t.Errorf("%d looks, %v", looks, err)
	}
	if err := DeleteRecord(ctx, things, "a", func(*int) error { return nil }); !errors.Is(err, ErrNotFound) {
		t.Errorf("of nothing: %v", err)
	}
}
