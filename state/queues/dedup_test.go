package queues

import (
	"testing"
	"time"
)

// A message with a deduplication id is stored once within the window on every queue, also when the first is gone and the
// store has been opened anew; those without one are not looked at.
func TestDeduplicationOnStandardQueues(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	q := p.create("a", Options{})
	zero := time.Duration(0)
	once := Message{ID: "first", Body: []byte("once"), Dedup: "d", Group: "not kept", Delay: &zero}
	first := q.Send(ctx, once)[0]
	for _, again := range q.Send(ctx, once, once) {
		if !again.Duplicate || again.Sequence != first.Sequence || again.ID != "first" {
			t.Errorf("%+v, the first was %+v", again, first)
		}
	}
	p.reopen()
	q = p.queue("a")
	if again := q.Send(ctx, once)[0]; !again.Duplicate {
		t.Errorf("opened anew: %+v", again)
	}
	got := expect(t, q, 10, "once")
	if got[0].Group != "" {
		t.Errorf("group %s", got[0].Group)
	}
	must(t, q.Delete(ctx, got[0].Handle))
	must(t, p.collect(ctx, true))
	p.reopen()
	q = p.queue("a")
	if again := q.Send(ctx, once)[0]; !again.Duplicate || again.Sequence != first.Sequence {
		t.Errorf("of one that is gone: %+v", again)
	}
	p.depth(q, 0, 0, 0)
	p.pass(DeduplicationWindow)
	if later := q.Send(ctx, once)[0]; later.Duplicate || later.Err != nil {
		t.Errorf("after the window: %+v", later)
	}
	send(t, q, "x", "x")
	p.depth(q, 3, 0, 0)
}
