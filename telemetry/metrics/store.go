package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	native "github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/compression"
)

// In the time-series store each of our series is up to three: native histograms with sum, count and buckets, and the minima and the
// maxima, where these do not follow from sum and count. A flush of a slot is a sample of its own: its time is that of the slot plus
// the number of the flush in milliseconds, so that values that come late are added, and those that come twice are not. Readers put
// samples of one slot together.
const (
	labelSeries = "series"
	labelStat   = "stat" // statMin or statMax; none: the histogram
	statMin     = "min"
	statMax     = "max"
)

// Of the store.
const (
	blockRange     = 2 * time.Hour // values that come late make a block for each of their ranges
	walSegment     = 16 << 20
	stripes        = 1 << 10
	writeBuffer    = 64 << 10
	largestInRange = 10 // blocks are joined until each holds this part of what is kept
	lateWindow     = MaxPast + 4*time.Hour
)

// refs are the store's own numbers of the three.
type refs [3]storage.SeriesRef

type store struct {
	db *tsdb.DB
}

func openStore(_ context.Context, dir string, cfg *Config) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	o := tsdb.DefaultOptions()
	o.RetentionDuration = cfg.MaxAge.Milliseconds()
	o.MaxBytes = cfg.MaxBytes
	o.MinBlockDuration = blockRange.Milliseconds()
	o.MaxBlockDuration = max(o.MinBlockDuration, min(cfg.MaxAge/largestInRange, 31*24*time.Hour).Milliseconds())
	o.OutOfOrderTimeWindow = lateWindow.Milliseconds()
	o.WALCompression = compression.Snappy
	o.WALSegmentSize = walSegment
	o.StripeSize = stripes
	o.HeadChunksWriteBufferSize = writeBuffer
	o.WALReplayConcurrency = 1 // environments are being made meanwhile
	o.NoLockfile = true        // the data directory has one
	db, err := tsdb.Open(dir, slog.New(warnings{cfg.Log.Handler()}), nil, o, nil)
	if err != nil {
		return nil, err
	}
	return &store{db: db}, nil
}

func (s *store) close() error { return s.db.Close() }

// size is how many bytes the blocks take.
func (s *store) size() (n int64) {
	for _, b := range s.db.Blocks() {
		n += b.Size()
	}
	return n + s.db.Head().Size()
}

// sampleTime is the time of a slot's sample of a flush, in milliseconds.
func sampleTime(slot int64, resolution int, flush uint64) int64 {
	return slot*1000 + int64(flush%uint64(resolution*1000))
}

// append prepares what is being flushed of series to be stored; commit stores it. tooOld is how many samples the store does not take any
// more.
func (s *store) append(ctx context.Context, flush uint64, all []*series) (commit func() error, tooOld int, err error) {
	app := s.db.Appender(ctx)
	for _, one := range all {
		for _, c := range one.flushing {
			err := appendCell(app, one, c, flush)
			if isTooOld(err) {
				tooOld++
			} else if err != nil {
				return nil, 0, errors.Join(err, app.Rollback())
			}
		}
	}
	return app.Commit, tooOld, nil
}

func appendCell(app storage.Appender, s *series, c *cell, flush uint64) error {
	v := &c.total
	at := sampleTime(c.slot, s.Resolution, flush)
	if err := passed(appendTo(app, s, 0, "", func(ref storage.SeriesRef, l labels.Labels) (storage.SeriesRef, error) {
		return app.AppendHistogram(ref, l, at, nil, nativeHistogram(v))
	})); err != nil {
		return err
	}
	if v.min == v.max && v.sum/v.count == v.min {
		return nil
	}
	for i, extreme := range []struct {
		stat  string
		value float64
	}{{statMin, v.min}, {statMax, v.max}} {
		if err := passed(appendTo(app, s, i+1, extreme.stat, func(ref storage.SeriesRef, l labels.Labels) (storage.SeriesRef, error) {
			return app.Append(ref, l, at, extreme.value)
		})); err != nil {
			return err
		}
	}
	return nil
}

func appendTo(app storage.Appender, s *series, n int, stat string, add func(storage.SeriesRef, labels.Labels) (storage.SeriesRef, error)) error {
	var l labels.Labels
	if stat == "" {
		l = labels.FromStrings(labelSeries, s.id)
	} else {
		l = labels.FromStrings(labelSeries, s.id, labelStat, stat)
	}
	ref, err := add(s.refs[n], l)
	if err == nil {
		s.refs[n] = ref
	}
	return err
}

// passed passes over what the store has already.
func passed(err error) error {
	if errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
		return nil
	}
	return err
}

// isTooOld reports whether the store will not have a sample for its time: to try again would not help.
func isTooOld(err error) bool {
	return errors.Is(err, storage.ErrTooOldSample) || errors.Is(err, storage.ErrOutOfBounds) || errors.Is(err, storage.ErrOutOfOrderSample)
}

// nativeHistogram is a summary as the store keeps it. Values without a distribution are in its count and its sum alone.
func nativeHistogram(v *summary) *native.FloatHistogram {
	h := &native.FloatHistogram{
		CounterResetHint: native.GaugeType,
		Schema:           int32(v.histogram.schema()),
		Count:            v.count, Sum: v.sum, ZeroCount: v.histogram.zero,
	}
	h.PositiveSpans, h.PositiveBuckets = nativeBuckets(v.histogram.positive)
	h.NegativeSpans, h.NegativeBuckets = nativeBuckets(v.histogram.negative)
	return h
}

func nativeBuckets(buckets []bucket) (spans []native.Span, counts []float64) {
	if len(buckets) == 0 {
		return nil, nil
	}
	counts = make([]float64, 0, len(buckets))
	next := int32(0) // the index after the last span
	for i, b := range buckets {
		if i > 0 && b.index == next {
			spans[len(spans)-1].Length++
		} else {
			spans = append(spans, native.Span{Offset: b.index - next, Length: 1})
		}
		counts = append(counts, b.count)
		next = b.index + 1
	}
	return spans, counts
}

// read calls fn for each stored sample of a series with a slot from from to before to, in the order of time. The summary is fn's
// only during the call.
func (s *store) read(ctx context.Context, id string, from, to int64, fn func(at int64, v *summary)) error {
	q, err := s.db.Querier(from*1000, to*1000-1)
	if err != nil {
		return err
	}
	defer q.Close()
	set := q.Select(ctx, true, nil, labels.MustNewMatcher(labels.MatchEqual, labelSeries, id))
	var main chunkenc.Iterator
	var low, high extremes
	for set.Next() {
		one := set.At()
		switch one.Labels().Get(labelStat) {
		case "":
			main = one.Iterator(nil)
		case statMin:
			low.iterator = one.Iterator(nil)
		case statMax:
			high.iterator = one.Iterator(nil)
		}
	}
	if err := set.Err(); err != nil || main == nil {
		return err
	}
	var stored *native.FloatHistogram
	var v summary
	for kind := main.Next(); kind != chunkenc.ValNone; kind = main.Next() {
		if kind != chunkenc.ValFloatHistogram {
			return fmt.Errorf("a sample of the kind %v is among the histograms", kind)
		}
		var at int64
		at, stored = main.AtFloatHistogram(stored)
		if stored.Count <= 0 {
			continue
		}
		v.fill(stored)
		if value, ok := low.at(at); ok {
			v.min = value
		}
		if value, ok := high.at(at); ok {
			v.max = value
		}
		fn(at/1000, &v)
	}
	return main.Err()
}

// extremes are the minima or maxima that belong to histograms of the same time.
type extremes struct {
	iterator chunkenc.Iterator
	time     int64
	value    float64
	begun    bool
}

func (e *extremes) at(t int64) (float64, bool) {
	for e.iterator != nil && (!e.begun || e.time < t) {
		if e.iterator.Next() != chunkenc.ValFloat {
			e.iterator = nil
			break
		}
		e.time, e.value = e.iterator.At()
		e.begun = true
	}
	return e.value, e.begun && e.time == t
}

func (s *summary) fill(h *native.FloatHistogram) {
	s.reset()
	s.count, s.sum = h.Count, h.Sum
	s.min = s.sum / s.count
	s.max = s.min
	s.histogram.coarser = finest - int8(h.Schema)
	s.histogram.zero = h.ZeroCount
	s.histogram.positive = fillBuckets(s.histogram.positive, h.PositiveSpans, h.PositiveBuckets)
	s.histogram.negative = fillBuckets(s.histogram.negative, h.NegativeSpans, h.NegativeBuckets)
}

func fillBuckets(into []bucket, spans []native.Span, counts []float64) []bucket {
	index, n := int32(0), 0
	for _, span := range spans {
		index += span.Offset
		for range span.Length {
			// Chunks have the buckets of all of their samples.
			if n < len(counts) && counts[n] > 0 {
				into = append(into, bucket{index, counts[n]})
			}
			index++
			n++
		}
	}
	return into
}

// newest is the time of the newest sample that is not in a block yet.
func (s *store) newest() time.Time { return time.UnixMilli(s.db.Head().MaxTime()).UTC() }

// known gives the ids of series with samples in blocks that reach into a time.
func (s *store) known(ctx context.Context, from, to time.Time) ([]string, error) {
	q, err := s.db.Querier(from.UnixMilli(), to.UnixMilli())
	if err != nil {
		return nil, err
	}
	defer q.Close()
	ids, _, err := q.LabelValues(ctx, labelSeries, nil)
	return ids, err
}

// warnings passes on what a log says from the level of warnings on.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}

func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }
