package queues

import (
	"errors"
	"testing"
	"time"
)

// TestRecall: after a crash nothing that was received stays hidden; what was handed back with a delay does, and counts and
// notes are kept.
func TestRecall(t *testing.T) {
	p := newPlace(t)
	q, err := p.Create(t.Context(), Info{Name: "events/f", Options: Options{Visibility: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if sent := q.Send(t.Context(), Message{Body: []byte("x")}); sent[0].Err != nil {
			t.Fatal(sent[0].Err)
		}
	}
	got, err := q.Receive(t.Context(), 3, 0, nil)
	if err != nil || len(got) != 3 {
		t.Fatalf("%v, %v", got, err)
	}
	if err := q.Return(t.Context(), got[2].Handle, time.Hour, []byte("later")); err != nil {
		t.Fatal(err)
	}
	p.reopen()
	q, _ = p.Queue("events/f")
	if d := q.Depth(); d.Visible != 1 || d.InFlight != 2 || d.Delayed != 1 {
		t.Fatalf("%+v", d)
	}
	if n, err := q.Recall(t.Context()); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	p.reopen()
	q, _ = p.Queue("events/f")
	if d := q.Depth(); d.Visible != 3 || d.InFlight != 0 || d.Delayed != 1 {
		t.Errorf("%+v", d)
	}
	again, err := q.Receive(t.Context(), 10, 0, nil)
	if err != nil || len(again) != 3 {
		t.Fatalf("%v, %v", again, err)
	}
	twice := 0
	for i := range again {
		if again[i].Receives == 2 {
			twice++
		}
	}
	if twice != 2 {
		t.Errorf("%d were received twice: %+v", twice, again)
	}
	if n, err := q.Recall(t.Context()); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if err := p.Delete(t.Context(), "events/f"); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Recall(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("a queue that is gone: %v", err)
	}
}
