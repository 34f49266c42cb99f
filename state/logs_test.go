package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// readLogs polls until a group has the wanted events.
func readLogs(t *testing.T, s *Store, group string, since time.Time, want ...string) []time.Time {
	t.Helper()
	var got []string
	var times []time.Time
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		got, times = nil, nil
		err := s.ReadLogs(t.Context(), group, since, false, func(at time.Time, data []byte) error {
			got, times = append(got, string(data)), append(times, at)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if slices.Equal(got, want) {
			return times
		}
	}
	t.Fatalf("logs of %s are %q, want %q", group, got, want)
	return nil
}

func publish(t *testing.T, s *Store, group string, events ...string) {
	t.Helper()
	for _, e := range events {
		if err := s.PublishLog(group, "", []byte(e)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLogsReadBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	readLogs(t, s, "/aws/lambda/f", time.Time{})
	publish(t, s, "/aws/lambda/f", "1", "2\nstill 2", "3")
	publish(t, s, "/aws/lambda/f.g", "other")
	times := readLogs(t, s, "/aws/lambda/f", time.Time{}, "1", "2\nstill 2", "3")
	readLogs(t, s, "/aws/lambda/f", times[1], "2\nstill 2", "3")
	readLogs(t, s, "/aws/lambda/f", times[2].Add(time.Hour))
	readLogs(t, s, "/aws/lambda/f.g", time.Time{}, "other")
	if err := s.PurgeLogs(t.Context(), "/aws/lambda/f", 0); err != nil {
		t.Fatal(err)
	}
	readLogs(t, s, "/aws/lambda/f", time.Time{})
	publish(t, s, "/aws/lambda/f", "last words")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.PublishLog("/aws/lambda/f", "", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("publish after close: %v", err)
	}
	s = open(t, Config{Dir: dir})
	readLogs(t, s, "/aws/lambda/f", time.Time{}, "last words")
	readLogs(t, s, "/aws/lambda/f.g", time.Time{}, "other")
}

func TestLogsFollow(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	n := 0
	done := errors.New("done")
	publish(t, s, "/aws/lambda/f", "line 0")
	err := s.ReadLogs(ctx, "/aws/lambda/f", time.Time{}, true, func(_ time.Time, data []byte) error {
		if string(data) != fmt.Sprintf("line %d", n) {
			t.Errorf("event %d is %q", n, data)
		}
		if n++; n == 100 {
			return done
		}
		return s.PublishLog("/aws/lambda/f", "", fmt.Appendf(nil, "line %d", n))
	})
	if err != done {
		t.Fatal(err)
	}
	stop, cancelFollow := context.WithCancel(ctx)
	err = s.ReadLogs(stop, "/aws/lambda/f", time.Time{}, true, func(time.Time, []byte) error {
		if n--; n == 0 {
			cancelFollow()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestLogsAreBounded(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), LogEvents: 3})
	publish(t, s, "a", "1", "2", "3", "4", "5")
	publish(t, s, "b", "1")
	readLogs(t, s, "a", time.Time{}, "3", "4", "5")
	readLogs(t, s, "b", time.Time{}, "1")
	if err := s.PublishLog("a", "", make([]byte, MaxLogEvent+1)); err == nil {
		t.Error("an event over the bound is taken")
	}
	if err := s.PublishLog("", "", nil); err == nil {
		t.Error("a group without a name is taken")
	}
}

func TestLogFloodIsRefusedNotQueued(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	event := bytes.Repeat([]byte("x"), MaxLogEvent)
	refused := 0
	for range 200 {
		if err := s.PublishLog("flood", "", event); errors.Is(err, ErrBusy) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
		if waiting := s.sender.bytes.Load(); waiting > maxLogBytesWaiting {
			t.Fatalf("%d bytes wait", waiting)
		}
	}
	if refused == 0 {
		t.Error("200 MiB at once and nothing was refused")
	}
	for deadline := time.Now().Add(10 * time.Second); s.sender.bytes.Load() != 0; {
		if time.Now().After(deadline) {
			t.Fatal("the flood does not drain")
		}
	}
	if s.LogsDropped() != 0 {
		t.Errorf("%d accepted events were dropped", s.LogsDropped())
	}
	if taken := s.room.taken.Load(); taken != 0 {
		t.Errorf("%d bytes of room are not given back", taken)
	}
}

func TestReadLogsSeesWhatWasPublishedBefore(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	for i := range 200 {
		if err := s.PublishLog("/aws/lambda/f", "", []byte("event")); err != nil {
			t.Fatal(err)
		}
		if i%20 != 0 {
			continue
		}
		seen := 0
		if err := s.ReadLogs(t.Context(), "/aws/lambda/f", time.Time{}, false, func(time.Time, []byte) error { seen++; return nil }); err != nil {
			t.Fatal(err)
		}
		if seen != i+1 {
			t.Fatalf("%d events read after %d were published", seen, i+1)
		}
	}
}

// What a reader was told of may be deleted before it comes to it; it then ends with what is left.
func TestReadersEndWhenTheRestIsDeleted(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	const batches = 2000
	for range batches {
		if err := s.PublishLog("g", "", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	read := 0
	err := s.ReadLogs(t.Context(), "g", time.Time{}, false, func(time.Time, []byte) error {
		if read++; read > 1 {
			return nil
		}
		return s.PurgeLogs(t.Context(), "g", 0)
	})
	if err != nil || read == 0 || read == batches {
		t.Errorf("%d read, %v", read, err)
	}
}

func TestALogThatIsNotThereIsDeleted(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	sequence, err := s.AppendLog(t.Context(), "g", "", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.DeleteLog(t.Context(), sequence); err != nil {
			t.Error(err)
		}
	}
}

// After a flood nothing of it is held, but for the last batch: who waits for the next one may still have it.
func TestStoredLogsAreLetGo(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	const batches = 20
	var gone atomic.Int64
	for range batches {
		data := make([]byte, 64<<10)
		runtime.AddCleanup(&data[0], func(int) { gone.Add(1) }, 0)
		if err := s.PublishLog("g", "", data); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.syncLogs(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.After(10 * time.Second); gone.Load() < batches-1; {
		runtime.GC()
		select {
		case <-deadline:
			t.Fatalf("%d of %d batches are held", batches-gone.Load(), batches)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
