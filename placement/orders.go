package placement

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"thaw"
)

// start is an order to make an environment.
type start struct {
	fleet   *fleet
	version *thaw.Version
	waiter  *waiter
	at      time.Time
}

// orders are the starts that wait for a starter or for room, in one lane per function. The lanes take turns, so that a
// function's first start waits behind at most one of each other function, however many those have ordered.
type orders struct {
	limit int           // of all lanes together
	kick  chan struct{} // a token whenever the dispatcher should look again
	// blocked: the order whose turn it is waits for room.
	blocked atomic.Bool
	// full is until when some order waited for room, Unix µs.
	full atomic.Int64

	mu     sync.Mutex
	lanes  map[string]*list.Element // of *lane, by function
	ring   list.List                // the lane whose turn it is first
	count  int
	closed bool
}

// lane holds one function's orders, oldest first. It is in the ring while it holds any.
type lane struct {
	function string
	orders   []start
	granted  int // environments of other functions that were given up for it, and that it has not replaced yet
}

func newOrders(limit int) *orders {
	return &orders{limit: limit, kick: make(chan struct{}, 1), lanes: map[string]*list.Element{}}
}

// add queues an order. Above the limit it gives back the newest order of the function that has ordered most, which may be
// this one: what is full for one function is not for another. ok is false when nothing is taken any more.
func (o *orders) add(s start) (dropped *start, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, false
	}
	function := s.fleet.key.function
	e := o.lanes[function]
	if e == nil {
		e = o.ring.PushBack(&lane{function: function})
		o.lanes[function] = e
	}
	l := e.Value.(*lane)
	l.orders = append(l.orders, s)
	if o.count++; o.count > o.limit {
		longest := e
		for e := o.ring.Front(); e != nil; e = e.Next() {
			if len(e.Value.(*lane).orders) > len(longest.Value.(*lane).orders) {
				longest = e
			}
		}
		l := longest.Value.(*lane)
		last := l.orders[len(l.orders)-1]
		l.orders[len(l.orders)-1] = start{}
		l.orders = l.orders[:len(l.orders)-1]
		o.took(longest)
		dropped = &last
	}
	o.look()
	return dropped, true
}

// look has the dispatcher look again.
func (o *orders) look() {
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

// freed tells an order that waits for room that there may be some.
func (o *orders) freed() {
	if o.blocked.Load() {
		o.look()
	}
}

// waitedForRoom reports whether an order of the given instant waited while the node had no room.
func (o *orders) waitedForRoom(at time.Time) bool { return o.full.Load() > at.UnixMicro() }

// first is the order whose turn it is.
func (o *orders) first() (s start, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.ring.Front()
	if e == nil {
		return start{}, false
	}
	return e.Value.(*lane).orders[0], true
}

// remove takes an order that first gave out of its lane, whose turn is then over. It reports false when the order has been
// dropped meanwhile.
func (o *orders) remove(s start) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.lanes[s.fleet.key.function]
	if e == nil {
		return false
	}
	l := e.Value.(*lane)
	if l.orders[0].waiter != s.waiter {
		return false
	}
	l.orders[0] = start{}
	l.orders = l.orders[1:]
	l.granted = max(l.granted-1, 0)
	o.ring.MoveToBack(e)
	o.took(e)
	return true
}

// took accounts for an order that has left its lane. The caller holds o.mu.
func (o *orders) took(e *list.Element) {
	o.count--
	if l := e.Value.(*lane); len(l.orders) == 0 {
		o.ring.Remove(e)
		delete(o.lanes, l.function)
	}
}

// late takes out what was ordered before an instant, and says when the oldest of the rest was, zero if there is none.
func (o *orders) late(before time.Time) (late []start, oldest time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var next *list.Element
	for e := o.ring.Front(); e != nil; e = next {
		next = e.Next()
		l := e.Value.(*lane)
		for len(l.orders) > 0 && !l.orders[0].at.After(before) {
			late = append(late, l.orders[0])
			l.orders = l.orders[1:]
			o.took(e)
		}
		if len(l.orders) > 0 && (oldest.IsZero() || l.orders[0].at.Before(oldest)) {
			oldest = l.orders[0].at
		}
	}
	return late, oldest
}

// grant decides whether a function that could go on using an environment is to give it up, since another one waits that
// has none, or that would still have fewer; the other's turn is then next. held tells how many environments a function has.
func (o *orders) grant(from string, held func(function string) int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for e := o.ring.Front(); e != nil; e = e.Next() {
		l := e.Value.(*lane)
		if l.function == from || l.granted >= len(l.orders) {
			continue
		}
		if n := held(l.function) + l.granted; n == 0 || held(from) > n+1 {
			l.granted++
			o.ring.MoveToFront(e)
			return true
		}
	}
	return false
}

// waiting is how many orders there are.
func (o *orders) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.count
}

// close refuses all further orders and gives out those that there are.
func (o *orders) close() (left []start) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for e := o.ring.Front(); e != nil; e = e.Next() {
		left = append(left, e.Value.(*lane).orders...)
	}
	o.ring.Init()
	clear(o.lanes)
	o.count = 0
	return left
}
