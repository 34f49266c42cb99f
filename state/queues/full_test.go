package queues

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"thaw/state"
	"thaw/state/internal/smalldisk"
)

func TestFullDiskKeepsWhatItHasAndDrains(t *testing.T) {
	dir := smalldisk.Mount(t, "80m")
	if dir == "" {
		return
	}
	p := &place{t: t, dir: dir, clock: newClock()}
	p.open()
	t.Cleanup(p.close)
	ctx := t.Context()
	q := p.create("q", Options{Visibility: time.Minute, DeadLetter: "dead", MaxReceives: 1})
	p.create("dead", Options{})
	kept := 0
	body := make([]byte, 100<<10)
	var refused error
	for refused == nil && kept < 1000 {
		sent := q.Send(ctx, Message{ID: fmt.Sprint(kept), Body: body})[0]
		if refused = sent.Err; refused == nil {
			kept++
		}
	}
	if !errors.Is(refused, state.ErrFull) || kept < 100 {
		t.Fatalf("after %d messages: %v", kept, refused)
	}
	t.Logf("after %d messages: %v", kept, refused)
	// What the last refusal left over is less than a message; a small file takes it.
	must(t, os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 200<<10), 0o600))
	if sent := q.Send(ctx, Message{Body: []byte("small")})[0]; !errors.Is(sent.Err, state.ErrFull) {
		t.Errorf("a small message: %v", sent.Err)
	}
	if _, err := p.Create(ctx, Info{Name: "other"}); !errors.Is(err, state.ErrFull) {
		t.Errorf("create: %v", err)
	}
	p.reopen()
	q = p.queue("q")
	p.depth(q, kept, 0, 0)

	// What is there can be worked off, and dies where it should.
	got := receive(t, q, 10)
	if len(got) != 10 {
		t.Fatalf("%d received", len(got))
	}
	for _, r := range got[:5] {
		must(t, q.Delete(ctx, r.Handle))
	}
	must(t, q.Return(ctx, got[5].Handle, 0, []byte("note")))
	must(t, p.moveDoomed(ctx))
	p.depth(p.queue("dead"), 1, 0, 0)
	must(t, q.Die(ctx, got[6].Handle, nil))
	p.depth(p.queue("dead"), 2, 0, 0)
	p.reopen()
	q = p.queue("q")
	p.depth(q, kept-10, 3, 0)
	for worked := 10; worked < kept; {
		got := receive(t, q, 10)
		handles := make([]string, len(got))
		for i, r := range got {
			handles[i] = r.Handle
		}
		for _, err := range q.DeleteBatch(ctx, handles) {
			must(t, err)
		}
		worked += len(got)
		must(t, p.collect(ctx, true))
	}
	poll(t, func() bool {
		must(t, p.collect(ctx, true))
		return q.Send(ctx, Message{Body: body})[0].Err == nil
	})
}
