package records

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"thaw"
	"thaw/state"
)

// Bounds of what waits.
const (
	// drainEvery is how long a record waits before it is passed on, at most.
	drainEvery = 50 * time.Millisecond
	// maxWaiting bounds the records that wait in all shards together; some 500 bytes each.
	maxWaiting = 16384
	// maxUnstored bounds the drains that wait for the store, and the profiles.
	maxUnstored = 64
	// storePatience bounds one attempt to store.
	storePatience = 10 * time.Second
	// flushPatience bounds how long a reader waits for what was added before it.
	flushPatience = 2 * time.Second
	// complainEvery is how often the log is told that records are lost, at most.
	complainEvery = time.Minute
)

// Store keeps batches of records by shelf, and profiles by function; *state.Invocations is one.
type Store interface {
	// Append stores batches and returns when they are stored.
	Append(ctx context.Context, batches []state.InvocationBatch) error
	// Read calls fn for each batch on the given shelves, none meaning all, that was stored from since until until, oldest
	// first; a zero time is no bound. It ends with fn's first error.
	Read(ctx context.Context, shelves []string, since, until time.Time, fn func(at time.Time, data []byte) error) error
	// AppendProfile stores one profile; of each version the newest few are kept.
	AppendProfile(ctx context.Context, function, version string, data []byte) error
	// ReadProfiles calls fn for each profile of a function, oldest first.
	ReadProfiles(ctx context.Context, function string, fn func(at time.Time, data []byte) error) error
}

// Config is what a Recorder is made of.
type Config struct {
	Store Store
	// Sinks get each batch of records, one sink after the other, in the order in which shards are drained. They must be
	// quick, since what comes meanwhile waits, and must not keep the slice.
	Sinks []func([]thaw.Invocation)
	// Node is named in records that name none; may be empty.
	Node string
	// Log gets what the operator should know. Nil: dropped.
	Log *slog.Logger
}

// Recorder takes records and profiles and keeps them. Its methods may be called from several goroutines.
type Recorder struct {
	cfg    Config
	shards []shard
	limit  int // of one shard
	mine   sync.Pool
	next   atomic.Uint32

	wake     chan struct{} // a token when there is something to drain
	full     chan struct{} // a token when it should not wait
	flush    chan chan struct{}
	profiles chan *thaw.InitProfile
	unstored chan unstored
	ended    chan struct{} // closed when Run has ended

	dropped    atomic.Uint64
	complained time.Time // of the storing goroutine
}

// shard is a part of the records that wait. Each CPU has one of its own for most of the time, which is what keeps Add from
// waiting for other CPUs.
type shard struct {
	mu      sync.Mutex
	records []thaw.Invocation
	spare   []thaw.Invocation // the draining goroutine's
	_       [64]byte          // no two on one cache line
}

// unstored is what one drain gives to the storing goroutine: batches with so many records, or a mark among them.
type unstored struct {
	batches []state.InvocationBatch
	records int
	reached chan struct{}
}

// New makes a Recorder; Run passes on what it takes.
func New(cfg Config) *Recorder {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	n := 2 * runtime.GOMAXPROCS(0)
	r := &Recorder{
		cfg: cfg, shards: make([]shard, n), limit: max(maxWaiting/n, 128),
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1), flush: make(chan chan struct{}),
		profiles: make(chan *thaw.InitProfile, maxUnstored), unstored: make(chan unstored, maxUnstored), ended: make(chan struct{}),
	}
	// A pool keeps what it holds by CPU. It may forget some of it, so that it holds references to a fixed set of shards.
	r.mine.New = func() any { return &r.shards[r.next.Add(1)%uint32(len(r.shards))] }
	return r
}

// Add takes a copy of a finished invocation's record. It never waits; when too many wait already, the record is dropped
// and counted.
func (r *Recorder) Add(i *thaw.Invocation) {
	s := r.mine.Get().(*shard)
	s.mu.Lock()
	n := len(s.records)
	if n < r.limit {
		s.records = append(s.records, *i)
	}
	s.mu.Unlock()
	r.mine.Put(s)
	switch n {
	case 0:
		signal(r.wake)
	case r.limit / 2:
		signal(r.full)
	case r.limit:
		r.dropped.Add(1)
	}
}

// Profiled takes the profile of an init. It never waits; when too many wait already, the profile is dropped and counted.
func (r *Recorder) Profiled(p *thaw.InitProfile) {
	select {
	case r.profiles <- p:
	default:
		r.dropped.Add(1)
	}
}

// Dropped counts the records and profiles that were lost since the platform started.
func (r *Recorder) Dropped() uint64 { return r.dropped.Load() }

// Run passes records on until ctx ends, and then what is left.
func (r *Recorder) Run(ctx context.Context) error {
	defer close(r.ended)
	var storing errgroup.Group
	storing.Go(func() error { r.store(context.WithoutCancel(ctx)); return nil })
	r.drainUntil(ctx)
	close(r.unstored)
	return storing.Wait()
}

// drainUntil drains until ctx ends, and once more. It sleeps while there is nothing.
func (r *Recorder) drainUntil(ctx context.Context) {
	timer := time.NewTimer(drainEvery)
	defer timer.Stop()
	timer.Stop()
	waiting := false // the timer runs
	for {
		select {
		case <-ctx.Done():
			r.drain()
			return
		case <-r.wake:
			if !waiting {
				timer.Reset(drainEvery)
				waiting = true
			}
		case <-timer.C:
			waiting = false
			r.drain()
		case <-r.full:
			r.drain()
		case reached := <-r.flush:
			r.drain()
			select {
			case r.unstored <- unstored{reached: reached}:
			default:
				close(reached) // the store is far behind: the reader sees what there is
			}
		}
	}
}

// drain passes on everything that waits.
func (r *Recorder) drain() {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		records := s.records
		s.records = s.spare[:0]
		s.mu.Unlock()
		if s.spare = records[:0]; len(records) == 0 {
			continue
		}
		for i := range records {
			records[i].Node = cmp.Or(records[i].Node, r.cfg.Node)
		}
		for _, sink := range r.cfg.Sinks {
			sink(records)
		}
		select {
		case r.unstored <- unstored{batches: pack(records), records: len(records)}:
		default:
			r.dropped.Add(uint64(len(records)))
		}
		clear(records) // what their texts belong to is let go
	}
}

// store stores what drain gives it, and profiles, until there is no more.
func (r *Recorder) store(ctx context.Context) {
	for {
		select {
		case p := <-r.profiles:
			r.storeProfile(ctx, p)
		case u, open := <-r.unstored:
			switch {
			case !open:
				r.storeProfiles(ctx)
				return
			case u.reached != nil:
				r.storeProfiles(ctx)
				close(u.reached)
			default:
				attempt, cancel := context.WithTimeout(ctx, storePatience)
				if err := r.cfg.Store.Append(attempt, u.batches); err != nil {
					r.lost(u.records, err)
				}
				cancel()
			}
		}
	}
}

// storeProfiles stores the profiles that wait.
func (r *Recorder) storeProfiles(ctx context.Context) {
	for {
		select {
		case p := <-r.profiles:
			r.storeProfile(ctx, p)
		default:
			return
		}
	}
}

func (r *Recorder) storeProfile(ctx context.Context, p *thaw.InitProfile) {
	attempt, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	data, err := packProfile(p)
	if err == nil {
		err = r.cfg.Store.AppendProfile(attempt, p.Function, p.Version, data)
	}
	if err != nil {
		r.lost(1, err)
	}
}

// lost counts what could not be stored, and says so now and then.
func (r *Recorder) lost(n int, err error) {
	r.dropped.Add(uint64(n))
	if now := time.Now(); now.Sub(r.complained) >= complainEvery && !errors.Is(err, state.ErrClosed) {
		r.complained = now
		r.cfg.Log.Warn("invocation records are lost", "so far", r.dropped.Load(), "because", err)
	}
}

// Flush waits, for a bounded time, until what was added before it can be read.
func (r *Recorder) Flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushPatience)
	defer cancel()
	reached := make(chan struct{})
	select {
	case r.flush <- reached:
	case <-r.ended:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-reached:
	case <-r.ended:
	case <-ctx.Done():
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
