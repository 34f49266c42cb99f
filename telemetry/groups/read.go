package groups

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"thaw/state"
	"thaw/telemetry"
)

// Position is the place of an event: its time, the sequence of its batch, and its number in that. Events are in the order
// of their positions.
type Position struct {
	At       int64 // µs
	Sequence uint64
	Number   uint32
}

// Compare orders positions.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.At, q.At), cmp.Compare(p.Sequence, q.Sequence), cmp.Compare(p.Number, q.Number))
}

// The lengths of the parts of an id.
const (
	atDigits       = 20
	sequenceDigits = 20
	numberDigits   = 16
)

// ID is the position as 56 digits, as AWS's ids of events and its tokens have. It sorts as positions do. Times before 1970
// count as 1970.
func (p Position) ID() string {
	return fmt.Sprintf("%0*d%0*d%0*d", atDigits, max(0, p.At), sequenceDigits, p.Sequence, numberDigits, p.Number)
}

// IDLength is the length of an id.
const IDLength = atDigits + sequenceDigits + numberDigits

// ParseID undoes ID.
func ParseID(text string) (p Position, ok bool) {
	if len(text) != IDLength {
		return p, false
	}
	at, err1 := strconv.ParseUint(text[:atDigits], 10, 63)
	sequence, err2 := strconv.ParseUint(text[atDigits:atDigits+sequenceDigits], 10, 64)
	number, err3 := strconv.ParseUint(text[atDigits+sequenceDigits:], 10, 32)
	return Position{At: int64(at), Sequence: sequence, Number: uint32(number)}, err1 == nil && err2 == nil && err3 == nil
}

// Next is the position right behind p.
func (p Position) Next() Position { p.Number++; return p }

// The ends of all positions.
var (
	First = Position{At: math.MinInt64}
	Last  = Position{At: math.MaxInt64, Sequence: math.MaxUint64, Number: math.MaxUint32}
)

// Event is a stored event.
type Event struct {
	telemetry.Event
	Position

	Stored time.Time
}

// Query asks for events of a group.
type Query struct {
	Group string
	// Stream says which streams are meant; nil: all.
	Stream func(name string) bool
	// Match says which events are meant; nil: all.
	Match func(*telemetry.Event) bool
	// From is the first position that is meant, Before the first behind them.
	From, Before Position
	// Backward asks for the latest events instead of the earliest.
	Backward bool
	// Limit and Bytes bound the events of the answer, at least one comes; Scan bounds about how many bytes are read for it.
	Limit, Bytes int
	Scan         int64
}

// Page is an answer.
type Page struct {
	Events []Event // in their order
	// More: there may be further events, from Next on, or before Next if the query was Backward.
	More bool
	Next Position
}

// Read gives the earliest events that a query means, or the latest, in their order. Everything written before is seen.
func (x *Index) Read(ctx context.Context, q Query) (Page, error) {
	if err := x.Sync(ctx); err != nil {
		return Page{}, err
	}
	list := x.chunksOf(q.Group, q.From.At, q.Before.At)
	slices.SortFunc(list, func(a, b chunk) int {
		if q.Backward {
			return cmp.Compare(b.To, a.To)
		}
		return cmp.Compare(a.From, b.From)
	})
	c := collector{backward: q.Backward, limit: q.Limit, most: q.Bytes}
	var read int64
	for i, part := range list {
		// What comes now has events that begin with that time, or end with it.
		edge := Position{At: part.From}
		further := edge.Compare(q.From) > 0 // to end there would bring the next page on
		if q.Backward {
			edge = Position{At: part.To + 1}
			further = edge.Compare(q.Before) < 0
		}
		if i > 0 && c.closed(edge) {
			break
		}
		if i > 0 && read >= q.Scan && further {
			c.stop(edge)
			break
		}
		read += part.Bytes
		err := x.scan(ctx, q.Group, part.First, part.Last, q, c.add)
		if err != nil {
			return Page{}, err
		}
	}
	return c.page(), nil
}

// Scan passes the events of a group with times from from to to, µs, to fn, in the order in which they were stored, and
// counts the bytes that it read. An error of fn ends it and is returned as it is.
func (x *Index) Scan(ctx context.Context, group string, from, to int64, fn func(Event) error) error {
	q := Query{From: Position{At: from}, Before: Position{At: to + 1}}
	for _, part := range x.chunksOf(group, from, to) {
		if err := x.scan(ctx, group, part.First, part.Last, q, fn); err != nil {
			return err
		}
	}
	return nil
}

// Get gives the event at a position that Read or Scan gave. It fails with state.ErrNotFound.
func (x *Index) Get(ctx context.Context, group string, at Position) (Event, error) {
	var found *Event
	q := Query{From: at, Before: at.Next()}
	err := x.scan(ctx, group, at.Sequence, at.Sequence, q, func(e Event) error { found = &e; return nil })
	if err == nil && found == nil {
		err = state.ErrNotFound
	}
	if err != nil {
		return Event{}, err
	}
	return *found, nil
}

// Follow passes the events of a group that were stored behind a sequence to fn, batch by batch, and goes on with those to
// come until ctx ends, and returns ctx's error. An error of fn ends it and is returned as it is.
func (x *Index) Follow(ctx context.Context, group string, after uint64, fn func(sequence uint64, events []Event) error) error {
	var events []Event
	return x.cfg.Store.FollowLogs(ctx, group, after, false, func(r state.LogRecord) error {
		events = events[:0]
		if err := x.decode(r, func(e Event) error { events = append(events, e); return nil }); err != nil {
			return err
		}
		return fn(r.Sequence, events)
	})
}

// Newest is the sequence of the newest stored batch of all groups.
func (x *Index) Newest(ctx context.Context) (uint64, error) {
	x.cfg.Flush()
	_, last, err := x.cfg.Store.LogRange(ctx)
	return last, err
}

// chunksOf gives the chunks of a group that have events from one time to another, oldest first.
func (x *Index) chunksOf(name string, from, to int64) []chunk {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var list []chunk
	if g := x.groups[name]; g != nil {
		for _, c := range g.Chunks {
			if c.From <= c.To && c.To >= from && c.From <= to {
				list = append(list, c)
			}
		}
	}
	return list
}

// scan passes what q means of the batches from first to last to fn.
func (x *Index) scan(ctx context.Context, group string, first, last uint64, q Query, fn func(Event) error) error {
	return x.cfg.Store.ScanLogs(ctx, group, first, last, false, func(r state.LogRecord) error {
		if meta, err := telemetry.ParseMeta(r.Meta); err == nil {
			if meta.Events == 0 || meta.To.UnixMicro() < q.From.At || meta.From.UnixMicro() > q.Before.At || q.Stream != nil && !q.Stream(meta.Stream) {
				return nil
			}
		}
		return x.decode(r, func(e Event) error {
			if e.Compare(q.From) < 0 || e.Compare(q.Before) >= 0 || q.Stream != nil && !q.Stream(e.Stream) ||
				q.Match != nil && !q.Match(&e.Event) {
				return nil
			}
			return fn(e)
		})
	})
}

// decode passes the events of a batch to fn. A damaged one is passed over from where it is damaged: all others can be read.
func (x *Index) decode(r state.LogRecord, fn func(Event) error) error {
	if len(r.Data) == 0 {
		return nil
	}
	var number uint32
	var failed error
	err := telemetry.DecodeBatch(r.Data, func(e telemetry.Event) error {
		failed = fn(Event{e, Position{e.At.UnixMicro(), r.Sequence, number}, r.At})
		number++
		return failed
	})
	if failed != nil {
		return failed
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		x.cfg.Log.Warn("a stored batch of log events is damaged", "group", r.Group, "sequence", r.Sequence, "error", err)
	}
	return nil
}
