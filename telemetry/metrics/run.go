package metrics

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// endTime is how long the last flush may take, and againAfter when opening is tried again.
const (
	endTime    = 10 * time.Second
	againAfter = time.Second
)

// Run reads what is stored, then flushes, compacts and deletes what is too old until ctx ends, and closes the store.
func (m *Metrics) Run(ctx context.Context) (err error) {
	defer close(m.ended)
	if err := m.begin(ctx); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	now := m.cfg.Now()
	flushed, expired := now.Add(-slack).Truncate(time.Minute), now
	for {
		select {
		case <-ctx.Done():
			return m.end(context.WithoutCancel(ctx))
		case <-m.early:
			if !m.failing {
				m.flush(ctx, m.cfg.Now().Add(MaxFuture+time.Hour))
			}
			continue
		case <-tick.C:
		}
		now := m.cfg.Now()
		m.second(now)
		// A clock that was put back has minutes, too.
		if minute := now.Add(-slack).Truncate(time.Minute); !minute.Equal(flushed) {
			flushed = minute
			m.flush(ctx, minute)
		}
		if now.Sub(expired) >= expireEvery {
			expired = now
			m.mu.Lock()
			m.memory.catalog.expire(now.Add(-listedFor).Unix())
			m.lambda = newLambdaSeries()
			m.mu.Unlock()
		}
	}
}

// begin opens what is stored, and tries again as long as it is the machine that does not let it: metrics are not worth a platform that
// does not start. Meanwhile values wait in memory.
func (m *Metrics) begin(ctx context.Context) error {
	for {
		err := m.tryBegin(context.WithoutCancel(ctx)) // a stop that comes meanwhile has what is in memory stored
		if err == nil {
			m.unreadable.Store(nil)
			close(m.ready)
			return nil
		}
		if ctx.Err() != nil || !isOfMachine(err) {
			return err
		}
		if m.unreadable.Swap(&err) == nil {
			m.cfg.Log.Error("the metrics cannot be opened; it is tried again each second", "because", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(againAfter):
			m.poll(m.cfg.Now())
		}
	}
}

func (m *Metrics) tryBegin(ctx context.Context) error {
	if err := m.room(0); err != nil {
		return err
	}
	st, err := m.open(ctx)
	if err != nil {
		return err
	}
	m.setStore(st)
	if err := m.resume(ctx); err != nil {
		m.setStore(nil)
		return errors.Join(err, st.close())
	}
	return nil
}

func (m *Metrics) setStore(st *store) {
	m.reading.Lock()
	defer m.reading.Unlock()
	m.store = st
}

// Stores that were put aside.
const damaged = "damaged-"

// open opens the store. One that cannot be read is put aside, in the place of one that was before.
func (m *Metrics) open(ctx context.Context) (*store, error) {
	dir := filepath.Join(m.cfg.Dir, storeDir)
	st, err := m.openAndLearn(ctx, dir)
	if err == nil || isOfMachine(err) {
		return st, err
	}
	older, globbed := filepath.Glob(filepath.Join(m.cfg.Dir, damaged+"*"))
	err = errors.Join(err, globbed)
	for _, path := range older {
		err = errors.Join(err, os.RemoveAll(path))
	}
	aside := filepath.Join(m.cfg.Dir, damaged+m.cfg.Now().UTC().Format("20060102T150405"))
	if renamed := os.Rename(dir, aside); renamed != nil {
		return nil, errors.Join(err, renamed)
	}
	m.cfg.Log.Error("the metrics could not be read and were put aside", "because", err, "kept", aside)
	return m.openAndLearn(ctx, dir)
}

// openAndLearn opens the store and learns its series, newer ones first.
func (m *Metrics) openAndLearn(ctx context.Context, dir string) (*store, error) {
	st, err := openStore(ctx, dir, &m.cfg)
	if err != nil {
		return nil, err
	}
	now := m.cfg.Now()
	for _, window := range []struct{ from, to time.Duration }{{0, recentlyFor}, {recentlyFor, listedFor}} {
		until := now.Add(-window.from)
		if window.from == 0 {
			until = now.Add(MaxFuture + time.Hour) // a sample's time has the number of its flush in it
		}
		ids, err := st.known(ctx, now.Add(-window.to), until)
		if err != nil {
			return nil, errors.Join(err, st.close())
		}
		m.mu.Lock()
		for _, id := range ids {
			m.learn(id, now.Add(-window.from).Unix())
		}
		m.mu.Unlock()
	}
	return st, nil
}

// resume stores what the journal of a killed platform holds, and begins a journal.
func (m *Metrics) resume(ctx context.Context) error {
	now := m.cfg.Now()
	dir := filepath.Join(m.cfg.Dir, journalDir)
	left := memory{catalog: newCatalog(), max: m.cfg.MaxSeries}
	number, err := recoverJournal(dir, left.restore)
	if err != nil {
		return err
	}
	m.journal = journal{dir: dir, number: number}
	if number > 0 {
		if err := m.replay(ctx, &left); err != nil {
			return err
		}
	}
	// Numbers never come back, not even where somebody has removed the journal.
	m.journal.number = max(number, uint64(max(now.Unix(), 1)))
	if err := m.carry(); err != nil {
		return err
	}
	if number > 0 {
		os.Remove(m.journal.path(number))
	}
	return nil
}

// replay stores what a journal held under the number of the flush that did not come, or did not come to its end: what it had stored
// is not stored twice.
func (m *Metrics) replay(ctx context.Context, left *memory) error {
	left.settle(func(*series, int64, *summary) {})
	detached := left.detach(m.cfg.Now().Add(MaxFuture + time.Hour).Unix())
	m.mu.Lock()
	for _, s := range detached {
		if known := m.learn(s.id, s.lastSeen); known != nil {
			s.refs = known.refs
		}
	}
	m.mu.Unlock()
	commit, tooOld, err := m.store.append(ctx, m.journal.number, detached)
	if err == nil {
		err = commit()
	}
	m.noteTooOld(tooOld)
	return err
}

// learn makes a stored series known; nil where its id cannot be read or there are too many. The caller holds mu.
func (m *Metrics) learn(id string, seen int64) *series {
	s := m.memory.catalog.series[id]
	if s == nil {
		d := decoder{data: []byte(id)}
		of := d.identity()
		if d.err != nil || len(d.data) > 0 || len(m.memory.catalog.series) >= m.memory.max {
			return nil
		}
		s = m.memory.catalog.add(id, of, "")
	}
	s.lastSeen = max(s.lastSeen, seen)
	return s
}

// second brings what came in the last second into the journal.
func (m *Metrics) second(now time.Time) { m.take(now, time.Time{}) }

// take is second that takes what is in slots before a time out of memory, to be stored: all of it is in the journal.
func (m *Metrics) take(now, before time.Time) (detached []*series) {
	m.poll(now)
	m.journal.begin()
	m.mu.Lock()
	cells := m.memory.settle(m.journal.add)
	if !before.IsZero() {
		detached = m.memory.detach(before.Unix())
	}
	m.mu.Unlock()
	err := m.room(0)
	if err == nil {
		err = m.journal.write()
	} else {
		m.journal.end()
	}
	if err != nil && cells > 0 {
		m.mu.Lock()
		if m.memory.refused[reasonJournal] == 0 {
			m.cfg.Log.Error("what is counted now will be lost if the platform is killed in this minute", "because", err)
		}
		m.memory.refused[reasonJournal] += cells
		m.mu.Unlock()
	}
	return detached
}

// poll adds the gauges and the counts that were taken on the request path.
func (m *Metrics) poll(now time.Time) {
	var gauges []Gauge
	if m.cfg.Gauges != nil {
		gauges = m.cfg.Gauges()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range gauges {
		g := &gauges[i]
		id := identity{Metric: g.Sorted(), Unit: g.Unit, Resolution: 60}
		s := m.memory.find(&id)
		if s == nil || m.memory.full() {
			m.memory.refuse(s)
			continue
		}
		m.memory.add(s, slotOf(now, 60), g.Value, 1)
	}
	m.addCounts(now)
}

// flush stores what is in slots before a time, and begins a new journal with the rest.
func (m *Metrics) flush(ctx context.Context, before time.Time) {
	detached := m.take(m.cfg.Now(), before)
	if err := m.storeAll(ctx, detached); err != nil {
		m.mu.Lock()
		m.memory.attach(detached)
		m.memory.refused[reasonStore]++
		m.mu.Unlock()
		if !m.failing {
			m.cfg.Log.Error("metrics could not be stored; it is tried again each minute, and they wait in memory", "because", err)
		}
		m.failing = true
		return
	}
	if m.failing {
		m.failing = false
		m.cfg.Log.Info("metrics are stored again")
	}
	if err := m.carry(); err != nil {
		m.cfg.Log.Error("the metrics' journal cannot be written", "because", err)
	}
}

func (m *Metrics) storeAll(ctx context.Context, detached []*series) error {
	if len(detached) == 0 {
		return nil
	}
	if err := m.room(m.store.size()); err != nil {
		return err
	}
	commit, tooOld, err := m.store.append(ctx, m.journal.number, detached)
	if err != nil {
		return err
	}
	m.reading.Lock()
	defer m.reading.Unlock()
	if err := commit(); err != nil {
		return err
	}
	m.mu.Lock()
	m.memory.release(detached)
	m.mu.Unlock()
	m.noteTooOld(tooOld)
	return nil
}

// noteTooOld counts what the store does not take any more. That happens when it has values of a time that is yet to come.
func (m *Metrics) noteTooOld(n int) {
	if n == 0 {
		return
	}
	m.mu.Lock()
	m.memory.refused[reasonOld] += uint64(n)
	m.mu.Unlock()
	if !m.tooOld {
		m.cfg.Log.Error("values are dropped, since the store of metrics has much newer ones: was the clock ahead? If it was, stop thaw and move the store away, or wait until then",
			"newest", m.store.newest(), "store", filepath.Join(m.cfg.Dir, storeDir))
	}
	m.tooOld = true
}

// carry begins the next journal with what stays in memory.
func (m *Metrics) carry() error {
	m.journal.forget()
	m.journal.begin()
	m.mu.Lock()
	m.memory.settle(func(*series, int64, *summary) {})
	for _, s := range m.memory.active {
		for _, c := range s.cells {
			m.journal.add(s, c.slot, &c.total)
		}
	}
	m.mu.Unlock()
	return m.journal.rotate()
}

// end stores everything and closes the store. What comes later is refused.
func (m *Metrics) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	m.second(m.cfg.Now())
	m.mu.Lock()
	m.stopped = true
	m.mu.Unlock()
	m.flush(ctx, m.cfg.Now().Add(MaxFuture+time.Hour))
	m.reading.Lock()
	defer m.reading.Unlock()
	m.journal.end()
	err := m.store.close()
	m.store = nil
	return err
}
