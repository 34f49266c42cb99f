package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxMakers bounds how many namespaces are made at a time. The kernel's locks let little more than one through;
	// the second prepares while the first waits.
	maxMakers = 2
	// refillEvery is how soon a failure to make namespaces ahead is tried again.
	refillEvery = time.Second
)

// Pool hands out network namespaces. Its methods may be called from several goroutines.
type Pool struct {
	host *host
	size int
	max  int
	log  *slog.Logger

	done    chan struct{} // closed by Close
	workers sync.WaitGroup
	calls   sync.WaitGroup // Do in progress

	mu       sync.Mutex
	closed   bool
	filling  bool // Run is running
	slots    *slots
	free     []*netns
	held     map[string]*lease
	waiting  []*lease // without a namespace yet, oldest first
	dying    []*netns // bounded by max, like all that exist
	making   int
	removing bool
	failed   error // what went wrong removing namespaces once closed

	closing  sync.Once
	closeErr error // set by closing
}

// lease is one key's namespace, shared by its references. ns and err are set before ready is closed.
type lease struct {
	key   string
	refs  int // Pool.mu
	ready chan struct{}
	ns    *netns
	err   error
}

// Open removes what dead instances on this host left, and sets up the filter and forwarding. It starts no goroutine
// and makes no namespace ahead; Run does. On failure nothing is left behind. Errors: ErrNotPermitted, ErrUnsupported,
// ErrInUse, ErrPrefix, what is wrong with cfg, or the kernel's.
func Open(ctx context.Context, cfg Config) (*Pool, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	h, err := openHost(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open network instance %s: %w", cfg.Instance, err)
	}
	p := &Pool{host: h, size: cfg.Pool, max: cfg.Max, log: cfg.Log,
		done: make(chan struct{}), held: make(map[string]*lease)}
	if !cfg.LoopbackOnly {
		p.max = min(p.max, slotCount(h.prefix))
	}
	p.size = min(p.size, p.max)
	p.slots = newSlots(p.max)
	if !cfg.LoopbackOnly {
		p.slots = newSlots(slotCount(h.prefix))
		if chains, err := ForwardingObstacles(); err != nil || len(chains) > 0 {
			cfg.Log.Warn("another firewall drops forwarded packets; functions may not reach beyond the host",
				"chains", chains, "links", linkPrefix(cfg.Instance)+"*", "error", err)
		}
	}
	return p, nil
}

// Prefix is the range of the namespaces' addresses; not valid when loopback only.
func (p *Pool) Prefix() netip.Prefix { return p.host.prefix }

// HostAddr is the host as every namespace of the pool sees it; not valid when loopback only. The host can bind it
// while any namespace exists.
func (p *Pool) HostAddr() netip.Addr {
	if p.host.loopbackOnly {
		return netip.Addr{}
	}
	return hostAddr(p.host.prefix)
}

// Run keeps Config.Pool namespaces made ahead until ctx ends or the pool is closed. It returns nil in both cases:
// that a namespace cannot be made now is logged and tried again.
func (p *Pool) Run(ctx context.Context) error {
	tick := time.NewTicker(refillEvery)
	defer tick.Stop()
	p.setFilling(true)
	defer p.setFilling(false)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.done:
			return nil
		case <-tick.C:
			p.mu.Lock()
			p.kick()
			p.mu.Unlock()
		}
	}
}

func (p *Pool) setFilling(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filling = on
	p.kick()
}

// Acquire returns a reference to key's namespace: the one that the key has, else one made ahead, else one made now,
// for which it waits until ctx ends. Errors: ErrClosed, ErrExhausted, ctx's, the kernel's.
func (p *Pool) Acquire(ctx context.Context, key string) (*Namespace, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	l := p.held[key]
	if l == nil {
		l = &lease{key: key, ready: make(chan struct{})}
		p.held[key] = l
		if last := len(p.free) - 1; last >= 0 {
			l.ns = p.free[last]
			p.free[last] = nil
			p.free = p.free[:last]
			close(l.ready)
		} else {
			p.waiting = append(p.waiting, l)
		}
		p.kick()
	}
	l.refs++
	p.mu.Unlock()

	select {
	case <-l.ready:
	default:
		select {
		case <-l.ready:
		case <-ctx.Done():
			p.unref(l)
			return nil, fmt.Errorf("wait for a network namespace: %w", ctx.Err())
		}
	}
	if l.err != nil {
		return nil, l.err
	}
	return &Namespace{pool: p, lease: l}, nil
}

// unref gives one reference back; with the last one the namespace is to die.
func (p *Pool) unref(l *lease) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.refs--; l.refs > 0 || p.closed || l.err != nil {
		return
	}
	delete(p.held, l.key)
	if l.ns != nil {
		p.discard(l.ns)
		return
	}
	for i, w := range p.waiting {
		if w == l {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			return
		}
	}
}

// ref takes another reference for the length of a call.
func (p *Pool) ref(n *Namespace) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case n.released:
		return ErrReleased
	case p.closed:
		return ErrClosed
	}
	n.lease.refs++
	p.calls.Add(1)
	return nil
}

// Close destroys all namespaces, those still referenced too, and undoes Open: links, table, and, unless another
// instance needs it, forwarding. It waits for calls of Do to return. Further calls return the same.
func (p *Pool) Close() error {
	p.closing.Do(func() { p.closeErr = p.close() })
	return p.closeErr
}

func (p *Pool) close() error {
	p.mu.Lock()
	p.closed = true
	close(p.done)
	for _, l := range p.waiting {
		l.err = ErrClosed
		close(l.ready)
	}
	p.waiting = nil
	p.mu.Unlock()

	p.calls.Wait()
	p.mu.Lock()
	for _, l := range p.held {
		if l.ns != nil {
			p.discard(l.ns)
		}
	}
	clear(p.held)
	for _, ns := range p.free {
		p.discard(ns)
	}
	p.free = nil
	p.mu.Unlock()
	p.workers.Wait()
	return errors.Join(p.failed, p.host.close())
}

// kick starts makers as long as more are wanted. Pool.mu is held.
func (p *Pool) kick() {
	for p.making < p.wanted() {
		p.making++
		p.workers.Add(1)
		go p.make()
	}
}

// wanted is how many makers there should be: for callers that wait as many as may be, for the stock one.
func (p *Pool) wanted() int {
	if p.closed {
		return 0
	}
	demand := len(p.waiting)
	if p.filling {
		demand += max(0, min(p.size-len(p.free), p.max-len(p.held)-len(p.free)))
	}
	return min(demand, max(1, min(len(p.waiting), maxMakers)))
}

// make makes namespaces while more are wanted.
func (p *Pool) make() {
	defer p.workers.Done()
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { p.making-- }()
	for p.making <= p.wanted() {
		slot, err := p.takeSlot()
		var ns *netns
		if err == nil {
			p.mu.Unlock()
			ns, err = p.host.create(slot)
			p.mu.Lock()
			if err != nil {
				p.slots.give(slot)
			}
		}
		switch {
		case err != nil && len(p.waiting) > 0:
			l := p.nextWaiting()
			l.err = err
			delete(p.held, l.key)
			close(l.ready)
		case err != nil:
			p.log.Warn("cannot make a network namespace ahead", "error", err)
			return
		case p.closed:
			p.discard(ns)
		case len(p.waiting) > 0:
			l := p.nextWaiting()
			l.ns = ns
			close(l.ready)
		case p.filling && len(p.free) < p.size:
			p.free = append(p.free, ns)
		default:
			p.discard(ns)
		}
	}
}

func (p *Pool) takeSlot() (uint32, error) {
	if len(p.slots.used) >= p.max {
		return 0, fmt.Errorf("%w: %d", ErrExhausted, p.max)
	}
	slot, _ := p.slots.take()
	return slot, nil
}

func (p *Pool) nextWaiting() *lease {
	l := p.waiting[0]
	p.waiting[0] = nil
	p.waiting = p.waiting[1:]
	return l
}

// discard hands ns to the one goroutine that removes. Pool.mu is held.
func (p *Pool) discard(ns *netns) {
	p.dying = append(p.dying, ns)
	if !p.removing {
		p.removing = true
		p.workers.Add(1)
		go p.remove()
	}
}

// remove destroys namespaces while there are any to destroy: all at once that came up while it did the last ones.
func (p *Pool) remove() {
	defer p.workers.Done()
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.dying) > 0 {
		batch := p.dying
		p.dying = nil
		p.mu.Unlock()
		err := p.host.destroy(batch)
		p.mu.Lock()
		for _, ns := range batch {
			p.slots.give(ns.slot)
		}
		if err != nil {
			p.log.Warn("cannot remove network namespaces", "count", len(batch), "error", err)
			if p.closed {
				p.failed = errors.Join(p.failed, err)
			}
		}
	}
	p.removing = false
}
