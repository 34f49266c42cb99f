package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// memoryStore is a Store that can be made to refuse.
type memoryStore struct {
	mu      sync.Mutex
	busy    bool
	batches map[string][][]byte
	// entered is sent to by a publisher, which then waits for leave; nil: it does not.
	entered, leave chan struct{}
}

var errBusy = errors.New("busy")

func (m *memoryStore) PublishLog(group, _ string, data []byte) error {
	if m.entered != nil {
		m.entered <- struct{}{}
		<-m.leave
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy {
		return errBusy
	}
	if m.batches == nil {
		m.batches = map[string][][]byte{}
	}
	m.batches[group] = append(m.batches[group], data)
	return nil
}

func (m *memoryStore) ReadLogs(_ context.Context, group string, _ time.Time, _ bool, fn func(time.Time, []byte) error) error {
	m.mu.Lock()
	batches := m.batches[group]
	m.mu.Unlock()
	for _, b := range batches {
		if err := fn(time.Time{}, b); err != nil {
			return err
		}
	}
	return nil
}

func (m *memoryStore) setBusy(busy bool) {
	m.mu.Lock()
	m.busy = busy
	m.mu.Unlock()
}

func read(t *testing.T, l *Logs) string {
	t.Helper()
	var text strings.Builder
	if err := l.Read(t.Context(), "g", time.Time{}, false, func(e Event) error { text.WriteString(e.Message); return nil }); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func TestNothingIsLostWhileTheStoreIsBusy(t *testing.T) {
	store := &memoryStore{}
	logs := NewLogs(store)
	s := logs.Stream("g", "s")
	store.setBusy(true)
	s.Write(time.Now(), "", []byte("one "))
	logs.Flush()
	s.Write(time.Now(), "", []byte("two "))
	logs.Flush()
	store.setBusy(false)
	s.Write(time.Now(), "", []byte("three"))
	if got := read(t, logs); got != "one two three" {
		t.Errorf("got %q", got)
	}
}

// A stream that a flood fills hands over batches of one size, in their order, whatever the store does meanwhile.
func TestFullBatchesStayInOrder(t *testing.T) {
	store := &memoryStore{}
	logs := NewLogs(store)
	s := logs.Stream("g", "s")
	store.setBusy(true)
	var want strings.Builder
	for n := range 400 {
		line := fmt.Sprintf("%04d%s\n", n, strings.Repeat("x", 1000))
		want.WriteString(line)
		s.Write(time.Now(), "id", []byte(line))
		if n%100 == 99 {
			logs.Flush()
		}
	}
	store.setBusy(false)
	if read(t, logs); !s.pending.empty() || len(s.full) > 0 {
		t.Error("something waits after a flush")
	}
	if got := read(t, logs); got != want.String() {
		t.Errorf("%d bytes of %d, or out of order", len(got), want.Len())
	}
	for _, data := range store.batches["g"] {
		if cap(data) > flushSize+flushSize/4 || len(data) > flushSize {
			t.Errorf("a batch of %d bytes takes %d", len(data), cap(data))
		}
	}
}

// What a stream holds follows what is written now: neither a rest nor small batches have the room of a large one before.
func TestAStreamHoldsNoRoomOfWhatItWroteOnce(t *testing.T) {
	store := &memoryStore{}
	logs := NewLogs(store)
	s := logs.Stream("g", "s")
	s.Write(time.Now(), "id", bytes.Repeat([]byte("x"), 100<<10))
	logs.Flush()
	if room := cap(s.pending.data); room != 0 {
		t.Errorf("a stream that rests holds %d bytes", room)
	}
	for range 3 {
		s.Write(time.Now(), "id", []byte("small\n"))
		logs.Flush()
	}
	if last := store.batches["g"][3]; cap(last) > 4*len(last) {
		t.Errorf("a batch of %d bytes takes %d", len(last), cap(last))
	}
}

// A reader sees what was written before it, also when Run is just bringing that to the store.
func TestFlushWaitsForAnotherFlush(t *testing.T) {
	store := &memoryStore{entered: make(chan struct{}), leave: make(chan struct{})}
	logs := NewLogs(store)
	logs.Stream("g", "s").Write(time.Now(), "", []byte("x"))
	var flushing sync.WaitGroup
	flushing.Go(logs.Flush)
	<-store.entered
	seen := make(chan string, 1)
	flushing.Go(func() { seen <- read(t, logs) })
	select {
	case got := <-seen:
		t.Errorf("a reader did not wait, and saw %q", got)
	case <-time.After(50 * time.Millisecond):
	}
	close(store.leave)
	flushing.Wait()
}

func TestEventsOfAChainCarryItsLineage(t *testing.T) {
	store := &memoryStore{}
	logs := NewLogs(store)
	s := logs.Stream("g", "s")
	s.Write(time.Now(), "", []byte("init"))
	s.Write(time.Now(), "one", []byte("alone"))
	s.Descend("two", "f:1|g:2")
	s.Write(time.Now(), "two", []byte("chained"))
	s.Write(time.Now(), "three", []byte("alone again"))
	var got []string
	if err := logs.Read(t.Context(), "g", time.Time{}, false, func(e Event) error {
		got = append(got, e.RequestID+"/"+e.Lineage)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"/", "one/", "two/f:1|g:2", "three/"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestFloodIsDroppedAndCounted(t *testing.T) {
	store := &memoryStore{}
	store.setBusy(true)
	logs := NewLogs(store)
	s := logs.Stream("g", "s")
	line := bytes.Repeat([]byte("x"), 1024)
	const lines = 4096
	for range lines {
		s.Write(time.Now(), "", line)
	}
	dropped := logs.Dropped()
	if dropped == 0 || dropped >= lines {
		t.Fatalf("%d of %d dropped", dropped, lines)
	}
	if size := s.size(); size > maxBuffered+2*MaxMessage {
		t.Errorf("%d bytes are held", size)
	}
	store.setBusy(false)
	logs.Flush()
	s.Write(time.Now(), "", []byte("end\n"))
	text := read(t, logs)
	if want := fmt.Sprintf("thaw: %d log events were dropped", dropped); !strings.Contains(text, want) {
		t.Errorf("the log does not say %q", want)
	}
	if kept := strings.Count(text, string(line)); uint64(kept)+dropped != lines {
		t.Errorf("%d kept and %d dropped of %d", kept, dropped, lines)
	}
}

func TestWaitRoomEndsWhenTheStoreCatchesUp(t *testing.T) {
	store := &memoryStore{}
	store.setBusy(true)
	logs := NewLogs(store)
	s := logs.Stream("g", "s")
	for range 4 {
		s.Write(time.Now(), "", bytes.Repeat([]byte("x"), MaxMessage))
	}
	waited := make(chan struct{})
	go func() { s.WaitRoom(t.Context()); close(waited) }()
	store.setBusy(false)
	deadline := time.After(10 * time.Second)
	for {
		logs.Flush()
		select {
		case <-waited:
			return
		case <-deadline:
			t.Fatal("still waiting")
		default:
		}
	}
}

func TestTailKeepsTheLast4KB(t *testing.T) {
	s := NewLogs(&memoryStore{}).Stream("g", "s")
	s.EndTail()
	s.Write(time.Now(), "", []byte("before\n"))
	s.BeginTail()
	for i := range 10_000 {
		s.Write(time.Now(), "", fmt.Appendf(nil, "line %d", i))
	}
	got := string(s.EndTail())
	if len(got) != tailSize || !strings.HasSuffix(got, "\nline 9999\n") || strings.Contains(got, "before") {
		t.Errorf("%d bytes, ends with %q", len(got), got[max(0, len(got)-30):])
	}
	if s.EndTail() != nil {
		t.Error("the tail goes on after its end")
	}
}

func TestConcurrentWritersAndFlush(t *testing.T) {
	store := &memoryStore{}
	logs := NewLogs(store)
	ctx, cancel := context.WithCancel(t.Context())
	var running, writers sync.WaitGroup
	running.Go(func() { _ = logs.Run(ctx) })
	const each = 2000
	for range 4 {
		s := logs.Stream("g", "s")
		writers.Go(func() {
			for range each {
				s.Write(time.Now(), "id", []byte("x"))
			}
		})
	}
	writers.Wait()
	cancel()
	running.Wait()
	if got := len(read(t, logs)); got+int(logs.Dropped()) != 4*each {
		t.Errorf("%d events of %d, %d dropped", got, 4*each, logs.Dropped())
	}
}
