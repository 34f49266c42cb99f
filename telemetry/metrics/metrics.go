package metrics

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"thaw"
	"thaw/internal/disk"
)

// Bounds that are no settings.
const (
	// DefaultMaxAge is how long values are kept. AWS keeps its minutes for 15 days, and coarser values for 15 months.
	DefaultMaxAge = 30 * 24 * time.Hour
	// DefaultMaxBytes bounds what the store keeps on disk.
	DefaultMaxBytes = 2 << 30
	// DefaultMaxSeries bounds how many metrics there are, the platform's own included.
	DefaultMaxSeries = 50_000
	// MaxPast and MaxFuture are how far from now a value's time may be (CloudWatch, PutMetricData, Timestamp).
	MaxPast   = 14 * 24 * time.Hour
	MaxFuture = 2 * time.Hour

	// MaxPoints is how many points one query may have.
	MaxPoints = 110_000

	listedFor   = 14 * 24 * time.Hour // ListMetrics: metrics without values in the past two weeks are not listed
	recentlyFor = 3 * time.Hour       // ListMetrics, RecentlyActive
	// slack is how long after its end a minute is stored, so that what the recorder still has is in it.
	slack = 2 * time.Second
	// expireEvery is how often series that nobody writes any more are looked for.
	expireEvery = time.Hour
)

// Config is where metrics are kept, and how much of them.
type Config struct {
	Dir       string        // made if it is not there
	MaxAge    time.Duration // 0: DefaultMaxAge
	MaxBytes  int64         // 0: DefaultMaxBytes
	MaxSeries int           // 0: DefaultMaxSeries
	// Gauges is called once a second, from Run; nil: there are none. It leaves out what is zero.
	Gauges func() []Gauge
	// OnThrottled is told once a second, from Run, how many invocations of a function were refused for a reason; may be nil.
	OnThrottled func(function, reason string, n int)
	Log         *slog.Logger
	Now         func() time.Time // nil: time.Now
}

// Metrics is the store. Its methods may be called from several goroutines.
type Metrics struct {
	cfg    Config
	ready  chan struct{} // closed when what is stored can be read
	ended  chan struct{} // closed when it cannot any more
	early  chan struct{} // asks for a flush before the minute is over
	counts events

	// reading is held by readers while they read memory and store, and by a flush while values go from the one to the other.
	// Before mu.
	reading sync.RWMutex
	store   *store // nil after the end

	mu      sync.Mutex
	memory  memory
	lambda  lambdaSeries
	stopped bool

	unreadable atomic.Pointer[error] // why what is stored cannot be read; nil: it can, or soon
	free       func() (int64, error) // bytes on the disk

	// Of Run alone.
	journal journal
	failing bool // the last flush did not work
	tooOld  bool // there were values that are older than the store takes
}

// Open makes the directory and nothing else; Run opens what is stored. What is written before that waits in memory, and readers
// wait until it is open.
func Open(cfg Config) (*Metrics, error) {
	if cfg.MaxAge <= 0 {
		cfg.MaxAge = DefaultMaxAge
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	if cfg.MaxSeries <= 0 {
		cfg.MaxSeries = DefaultMaxSeries
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, journalDir), 0o700); err != nil {
		return nil, err
	}
	m := &Metrics{cfg: cfg, ready: make(chan struct{}), ended: make(chan struct{}), early: make(chan struct{}, 1)}
	m.memory = memory{catalog: newCatalog(), max: cfg.MaxSeries}
	m.lambda = newLambdaSeries()
	m.counts.init()
	m.free = func() (int64, error) { return disk.Free(cfg.Dir) }
	return m, nil
}

// Below Config.Dir.
const (
	journalDir = "journal"
	storeDir   = "store"
)

// Put adds values. Errors are *thaw.Error: CodeInvalidParameterValue for what cannot be a value, CodeLimitExceeded where there are as many
// metrics as programs may have, CodeTooManyRequests where more waits to be stored than fits into memory. On an error of a datum none
// of the data was added.
func (m *Metrics) Put(_ context.Context, data []Datum) error {
	now := m.cfg.Now()
	for i := range data {
		if err := data[i].check(now); err != nil {
			return err
		}
	}
	found := make([]*series, len(data))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return errStopped()
	}
	if m.memory.full() {
		m.memory.refused[reasonMemory] += uint64(len(data))
		return errFull()
	}
	for i := range data {
		d := &data[i]
		id := identity{Metric: d.Sorted(), Unit: d.Unit, Resolution: d.Resolution}
		if id.Unit == "" {
			id.Unit = UnitNone
		}
		if id.Resolution == 0 {
			id.Resolution = 60
		}
		if found[i] = m.memory.findFor(&id, d.Origin); found[i] == nil {
			m.memory.refused[reasonSeries] += uint64(len(data))
			return errTooMany(m.memory.max)
		}
	}
	for i := range data {
		at := data[i].At
		if at.IsZero() {
			at = now
		}
		m.memory.addDatum(found[i], slotOf(at, found[i].Resolution), &data[i])
	}
	m.askForFlush()
	return nil
}

// askForFlush brings the flush forward when much waits. The caller holds mu.
func (m *Metrics) askForFlush() {
	if m.memory.held >= flushAt {
		select {
		case m.early <- struct{}{}:
		default:
		}
	}
}

func errStopped() error {
	return thaw.Errorf(thaw.CodeService, "The platform is stopping. Try again when it is up.")
}

// List gives at most limit metrics (1 to 10,000) in the order of their Key, beginning after the metric of that Key; next is empty
// at the end. After a restart metrics may count as seen a few hours later than they were.
func (m *Metrics) List(ctx context.Context, filter Filter, after string, limit int) (found []Metric, next string, err error) {
	if err := m.wait(ctx); err != nil {
		return nil, "", err
	}
	since := m.cfg.Now().Add(-listedFor)
	if filter.RecentlyActive {
		since = m.cfg.Now().Add(-recentlyFor)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	found, next = m.memory.catalog.find(&filter, since.Unix(), after, min(max(limit, 1), 10_000))
	return found, next, nil
}

// wait waits until what is stored can be read.
func (m *Metrics) wait(ctx context.Context) error {
	select {
	case <-m.ready:
		return nil
	default:
	}
	if m.unreadable.Load() != nil {
		return thaw.Errorf(thaw.CodeService, "The metrics cannot be read now. The platform's log says why; it goes on by itself when that is over.")
	}
	select {
	case <-m.ready:
		return nil
	case <-m.ended:
		return errStopped()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stats says how much there is and what was not taken.
type Stats struct {
	Series  int   // metrics by unit
	Waiting int64 // bytes in memory that wait for their minute to be over
	Stored  int64 // bytes on disk
	// Refused counts values that were not taken or are not safe, by what was the reason.
	Refused map[string]uint64
}

// Stats gives the counts of now.
func (m *Metrics) Stats() Stats {
	m.mu.Lock()
	s := Stats{Series: len(m.memory.catalog.series), Waiting: m.memory.held, Refused: map[string]uint64{}}
	for r, n := range m.memory.refused {
		s.Refused[reasonNames[r]] = n
	}
	m.mu.Unlock()
	m.reading.RLock()
	if m.store != nil {
		s.Stored = m.store.size()
	}
	m.reading.RUnlock()
	return s
}
