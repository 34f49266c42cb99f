package queues

import (
	"sync"
	"testing"
)

// A purge during a redrive takes messages that the redrive has in hand; the race detector watches.
func TestPurgeDuringAMove(t *testing.T) {
	p := newPlace(t)
	q := p.create("a", Options{})
	for range 10 {
		for range 20 {
			send(t, q, "1", "2", "3", "4", "5", "6", "7", "8", "9", "10")
		}
		var both sync.WaitGroup
		both.Go(func() {
			if moved, err := p.Move(t.Context(), "a", "", 0); moved != 0 || err != nil { // they never were in another queue
				t.Errorf("%d moved, %v", moved, err)
			}
		})
		both.Go(func() {
			if err := q.Purge(t.Context()); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		must(t, q.Purge(t.Context()))
		p.depth(q, 0, 0, 0)
	}
}
