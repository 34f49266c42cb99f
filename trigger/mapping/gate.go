package mapping

import (
	"context"
	"sync"
)

// gate lets a number of batches through at the same time. The number may change at any time; what has passed is not
// called back.
type gate struct {
	mu      sync.Mutex
	limit   int
	held    int             // places taken: batches being received or processed
	busy    int             // of them, being processed
	waiting []chan struct{} // who waits for a place, in order
	starved bool            // somebody waited since the last look
	batches int             // batches that the function has had since the last look
}

func newGate(limit int) *gate { return &gate{limit: limit} }

// acquire takes a place; it fails only with ctx's error.
func (g *gate) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g.mu.Lock()
	if g.held < g.limit && len(g.waiting) == 0 {
		g.held++
		g.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	g.waiting = append(g.waiting, turn)
	g.starved = true
	g.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, w := range g.waiting {
		if w == turn {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			return ctx.Err()
		}
	}
	g.held-- // it came at the same moment
	g.admit()
	return ctx.Err()
}

// release gives a place back.
func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held--
	g.admit()
}

// work counts a batch as being processed until the function that it gives is called, with whether the function ran.
func (g *gate) work() (end func(ran bool)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy++
	return func(ran bool) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.busy--
		if ran {
			g.batches++
		}
	}
}

// setLimit changes the number of places.
func (g *gate) setLimit(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = n
	g.admit()
}

// admit lets those pass for whom there is a place. The lock is held.
func (g *gate) admit() {
	for g.held < g.limit && len(g.waiting) > 0 {
		g.held++
		close(g.waiting[0])
		g.waiting = g.waiting[1:]
	}
}

// use is what a gate has seen since the last look.
type use struct {
	busy    int
	batches int
	starved bool // every place was taken, and somebody wanted one more
}

// look tells how the gate is used and begins to count anew.
func (g *gate) look() use {
	g.mu.Lock()
	defer g.mu.Unlock()
	u := use{busy: g.busy, batches: g.batches, starved: g.starved || len(g.waiting) > 0}
	g.batches, g.starved = 0, false
	return u
}
