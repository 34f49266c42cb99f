package groups

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"thaw/state"
	"thaw/telemetry"
)

// Bounds of the index. A stream has some 250 bytes in it.
const (
	// MaxStreams is how many streams are known at most. Those written to least recently are forgotten first; their events
	// are still found by reading the group.
	MaxStreams = 100_000
	// MaxGroups is how many groups can be created at most.
	MaxGroups = 10_000
)

const (
	// patience is how long a reader waits for the index to have what was stored before.
	patience = 5 * time.Second
	// sweepEvery is how often what the store has dropped is dropped here.
	sweepEvery = time.Minute
	// retry is the pause after the store failed.
	retry = time.Second
	// saveAfter is how many entries a snapshot may be behind.
	saveAfter = 20_000
)

// Store keeps the batches of all groups in one sequence; *state.Store is one.
type Store interface {
	AppendLog(ctx context.Context, group, meta string, data []byte) (sequence uint64, err error)
	ScanLogs(ctx context.Context, group string, first, last uint64, described bool, fn func(state.LogRecord) error) error
	FollowLogs(ctx context.Context, group string, after uint64, described bool, fn func(state.LogRecord) error) error
	FirstLogSince(ctx context.Context, group string, since time.Time) (uint64, error)
	LogRange(ctx context.Context) (first, last uint64, err error)
	ObserveLogs(fn func(state.LogRecord))
	LogLimit() int64
	PurgeLogs(ctx context.Context, group string, before uint64) error
	DeleteLog(ctx context.Context, sequence uint64) error
}

// Config is what an Index needs. Store and Settings are required.
type Config struct {
	Store    Store
	Settings *Settings
	// Flush brings what is collected to the store, so that readers see it; nil: there is nothing to bring.
	Flush func()
	// Snapshot is the file that the index is kept in from one start to the next. Empty: it is made anew by each.
	Snapshot string
	// Now is the clock, nil for the machine's.
	Now func() time.Time
	// Log gets what no caller is told. Nil means slog.Default().
	Log *slog.Logger
}

// Index knows the groups and streams. Its methods may be called by many.
type Index struct {
	cfg Config

	mu       sync.RWMutex
	groups   map[string]*group
	streams  int           // of all groups
	sequence uint64        // of the newest entry that is in the index
	moved    chan struct{} // closed when sequence grows
	saved    uint64        // the sequence that the snapshot has
	unerased []erasure     // deletions that were found in the journal and may not have been carried out
	// early holds entries that were told of before those in front of them are in the index, by sequence.
	early map[uint64]state.LogRecord

	sweeping   sync.Mutex     // held by a sweep
	behind     chan struct{}  // wakes Run: the store has what the index has not
	background sync.WaitGroup // what Run has started
}

type group struct {
	Created int64 // µs; when its first batch was stored
	Streams map[string]*stream
	Chunks  chunks
}

type stream struct {
	Created     int64  // µs, as the others; when it was created or first written to
	From, To    int64  // of its earliest and latest event; To < From: it has none
	Stored      int64  // when it was last written to; 0: never
	First, Last uint64 // sequences of its first and last entry
}

// erasure is what has to be deleted from the store: a stream's batches from one sequence to before another, or with an
// empty stream all of the group's before.
type erasure struct {
	Group, Stream string
	First, Before uint64
}

// New makes an Index, which knows nothing before Run has run.
func New(cfg Config) (*Index, error) {
	if cfg.Store == nil || cfg.Settings == nil {
		return nil, errors.New("telemetry/groups: Store and Settings are required")
	}
	if cfg.Flush == nil {
		cfg.Flush = func() {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Index{cfg: cfg, groups: map[string]*group{}, moved: make(chan struct{}), early: map[uint64]state.LogRecord{}, behind: make(chan struct{}, 1)}, nil
}

// Run keeps the index up with the journal until ctx ends, and index and store free of what is over. What this process
// writes it is told of; the rest it reads.
func (x *Index) Run(ctx context.Context) error {
	x.load(ctx)
	x.cfg.Store.ObserveLogs(x.observe)
	defer x.cfg.Store.ObserveLogs(nil)
	x.background.Go(func() { x.sweepAll(ctx) })
	for ctx.Err() == nil {
		err := x.catchUp(ctx)
		if errors.Is(err, state.ErrClosed) {
			break
		}
		if err != nil && ctx.Err() == nil {
			x.cfg.Log.Warn("reading the logs broke off", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(retry):
			}
			continue
		}
		if x.due() {
			x.save()
		}
		select {
		case <-ctx.Done():
		case <-x.behind:
		}
	}
	x.background.Wait()
	x.save()
	return nil
}

// catchUp takes in what the store has and the index has not. The newest entries may have been deleted: that a scan has
// ended tells that nothing is left to come.
func (x *Index) catchUp(ctx context.Context) error {
	_, last, err := x.cfg.Store.LogRange(ctx)
	if err != nil {
		return err
	}
	err = x.cfg.Store.ScanLogs(ctx, "", x.position()+1, last, true, func(r state.LogRecord) error { return x.take(ctx, r) })
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if last > x.sequence {
		x.move(last)
	}
	x.takeEarly()
	return nil
}

// maxEarly bounds what is kept of entries that come while the index is behind; others are read again.
const maxEarly = 4096

// observe takes in an entry that this process has written.
func (x *Index) observe(r state.LogRecord) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if r.Sequence == x.sequence+1 && r.Meta != "" {
		x.enter(r)
		return
	}
	if r.Sequence > x.sequence && len(x.early) < maxEarly && r.Meta != "" {
		x.early[r.Sequence] = r
	}
	x.wake()
}

// takeEarly takes in what has been told of and can follow now.
func (x *Index) takeEarly() {
	for {
		r, ok := x.early[x.sequence+1]
		if !ok {
			break
		}
		x.enter(r)
	}
	for sequence := range x.early {
		if sequence <= x.sequence {
			delete(x.early, sequence)
		}
	}
	if len(x.early) > 0 {
		x.wake()
	}
}

func (x *Index) wake() {
	select {
	case x.behind <- struct{}{}:
	default:
	}
}

func (x *Index) position() uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.sequence
}

// move notes that the index is complete up to sequence.
func (x *Index) move(sequence uint64) {
	x.sequence = sequence
	close(x.moved)
	x.moved = make(chan struct{})
}

// take brings one entry that was read into the index.
func (x *Index) take(ctx context.Context, r state.LogRecord) error {
	if r.Meta == "" {
		// Stored by an earlier version: the batch has to tell.
		err := x.cfg.Store.ScanLogs(ctx, r.Group, r.Sequence, r.Sequence, false, func(whole state.LogRecord) error {
			meta, err := telemetry.BatchMeta(whole.Data)
			r.Meta = meta.String()
			return err
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			x.cfg.Log.Warn("a stored batch of log events cannot be read", "group", r.Group, "error", err)
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if r.Sequence > x.sequence {
		x.enter(r)
	}
	return nil
}

// enter brings the next entry into the index.
func (x *Index) enter(r state.LogRecord) {
	meta, err := telemetry.ParseMeta(r.Meta)
	if err != nil {
		meta = telemetry.Meta{Kind: telemetry.Written} // its size counts
	}
	x.apply(r, meta)
	x.move(r.Sequence)
	if x.dueLocked() {
		x.wake() // Run saves
	}
}

func (x *Index) apply(r state.LogRecord, meta telemetry.Meta) {
	g := x.groups[r.Group]
	switch meta.Kind {
	case telemetry.GroupDeleted:
		if g != nil {
			x.streams -= len(g.Streams)
			delete(x.groups, r.Group)
		}
		x.unerased = append(x.unerased, erasure{Group: r.Group, Before: r.Sequence})
		return
	case telemetry.StreamDeleted:
		if g == nil || g.Streams[meta.Stream] == nil {
			return
		}
		x.unerased = append(x.unerased, erasure{r.Group, meta.Stream, g.Streams[meta.Stream].First, r.Sequence})
		delete(g.Streams, meta.Stream)
		x.streams--
		return
	}
	at := r.At.UnixMicro()
	if g == nil {
		g = &group{Created: at, Streams: map[string]*stream{}}
		x.groups[r.Group] = g
	}
	g.Chunks = g.Chunks.add(r.Sequence, r.Size, meta)
	if meta.Stream == "" {
		return
	}
	s := g.Streams[meta.Stream]
	if s == nil {
		s = &stream{Created: at, From: 1, First: r.Sequence}
		g.Streams[strings.Clone(meta.Stream)] = s
		x.streams++
		x.bound()
	}
	s.Last = r.Sequence
	if meta.Events == 0 {
		return
	}
	from, to := meta.From.UnixMicro(), meta.To.UnixMicro()
	if s.To < s.From {
		s.From, s.To = from, to
	}
	s.From, s.To, s.Stored = min(s.From, from), max(s.To, to), at
}

// bound forgets a tenth of the streams when there are too many.
func (x *Index) bound() {
	if x.streams <= MaxStreams {
		return
	}
	lasts := make([]uint64, 0, x.streams)
	for _, g := range x.groups {
		for _, s := range g.Streams {
			lasts = append(lasts, s.Last)
		}
	}
	slices.Sort(lasts)
	x.drop(func(s *stream) bool { return s.Last < lasts[len(lasts)/10] })
}

// drop takes the streams out that are meant.
func (x *Index) drop(meant func(*stream) bool) {
	for _, g := range x.groups {
		for name, s := range g.Streams {
			if meant(s) {
				delete(g.Streams, name)
				x.streams--
			}
		}
	}
}

// expire drops what the store has dropped, which begins at first.
func (x *Index) expire(first uint64) {
	limit := x.cfg.Store.LogLimit()
	x.mu.Lock()
	defer x.mu.Unlock()
	for name, g := range x.groups {
		g.Chunks = g.Chunks.expire(first, limit)
		begin := x.sequence + 1
		if len(g.Chunks) > 0 {
			begin = max(first, g.Chunks[0].First)
		}
		for streamName, s := range g.Streams {
			if s.Last < begin {
				delete(g.Streams, streamName)
				x.streams--
			}
		}
		if len(g.Chunks) == 0 && len(g.Streams) == 0 {
			delete(x.groups, name)
		}
	}
}

// Sync waits until the index has what was written before, for a bounded time. A platform that has just started with much
// to read again answers with what it has by then.
func (x *Index) Sync(ctx context.Context) error {
	x.cfg.Flush()
	_, last, err := x.cfg.Store.LogRange(ctx)
	if err != nil {
		return err
	}
	return x.wait(ctx, last)
}

func (x *Index) wait(ctx context.Context, sequence uint64) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		x.mu.RLock()
		have, moved := x.sequence, x.moved
		x.mu.RUnlock()
		if have >= sequence {
			return nil
		}
		x.wake()
		select {
		case <-moved:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
