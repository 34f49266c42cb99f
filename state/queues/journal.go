package queues

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"thaw/state"
)

// Bounds of the journal. A header has at most 64 KiB, after base64.
const (
	maxRecord      = 44 << 10
	maxOpsWaiting  = 1 << 20
	recordOverhead = 128 // of a record besides its operations, bytes on disk
)

// record is a stored record of operations. It is needed as long as one of them is the newest about its message.
type record struct {
	seq  uint64
	size int
	ops  int32        // that it had
	live atomic.Int32 // that are needed
}

// Records of which little is needed are written anew when all records together take thinBytes and thinShare times what
// is needed of them.
const (
	thinBytes = 16 << 20
	thinShare = 4
	thinMost  = 10_000 // operations at a time
	opBytes   = 64     // of one operation, about
)

// sparse reports whether little of a record is needed.
func (r *record) sparse() bool { return r.live.Load()*thinShare < r.ops }

// newRecord notes a stored record. Each of its operations is held.
func (e *Queues) newRecord(seq uint64, ops, length int) *record {
	rec := &record{seq: seq, size: length + recordOverhead, ops: int32(ops)}
	rec.live.Store(rec.ops)
	e.recordBytes.Add(int64(rec.size))
	e.recordOps.Add(int64(ops))
	e.trash.born(seq, rec.size)
	return rec
}

// journal stores operations. Those that come while a record is being stored go into the next one together, so that many
// callers share one write.
type journal struct {
	e *Queues

	mu      sync.Mutex
	waiting []entry
	busy    bool // a record is being stored
}

// entry is an operation to be stored. done is called once, with the record that it is in, which is held for it, or with
// an error; then it may be stored nevertheless. It must not wait.
type entry struct {
	op   op
	done func(rec *record, err error)
}

// add queues an operation. Operations on one message take effect in the order of add, which is why it is called with the
// queue's lock held; kick follows without it.
func (j *journal) add(o op, done func(*record, error)) {
	j.mu.Lock()
	j.waiting = append(j.waiting, entry{o, done})
	j.mu.Unlock()
}

// overloaded reports whether the engine is so far behind that nothing more should be added.
func (j *journal) overloaded() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.waiting) > maxOpsWaiting
}

// kick stores what waits, unless a record is being stored, whose end does it.
func (j *journal) kick() {
	for {
		batch := j.cut()
		if batch == nil {
			return
		}
		if err := j.store(batch); err == nil {
			return // its answer goes on
		} else {
			j.finish(batch, nil, err)
		}
	}
}

// cut takes as many operations as fit into a record.
func (j *journal) cut() []entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.busy || len(j.waiting) == 0 {
		return nil
	}
	size, n := 0, 0
	for n < len(j.waiting) {
		size += j.waiting[n].op.size()
		if n > 0 && size > maxRecord {
			break
		}
		n++
	}
	batch := j.waiting[:n:n]
	j.waiting = j.waiting[n:]
	j.busy = true
	return batch
}

// store sends a record on its way; finish is called with its answer.
func (j *journal) store(batch []entry) error {
	ops := make([]op, len(batch))
	for i := range batch {
		ops[i] = batch[i].op
	}
	value := encodeOps(j.e.wall(), ops)
	if err := j.e.streams.Take(len(value), state.Freeing); err != nil {
		return err
	}
	msg := &nats.Msg{Subject: recordSubject, Header: nats.Header{header: {value}}}
	err := j.e.writes.send(msg, func(answer *nats.Msg, err error) {
		j.e.streams.Give(len(value))
		var seq uint64
		if err == nil {
			seq, err = stored(answer)
		}
		var rec *record
		if err == nil {
			rec = j.e.newRecord(seq, len(batch), len(value))
		}
		j.finish(batch, rec, err)
		j.kick()
	})
	if err != nil {
		j.e.streams.Give(len(value))
	}
	return err
}

func (j *journal) finish(batch []entry, rec *record, err error) {
	if err != nil {
		err = j.e.streams.Error("store operations on messages", err)
	}
	for _, e := range batch {
		e.done(rec, err)
	}
	j.mu.Lock()
	j.busy = false
	j.mu.Unlock()
}

// release says that an operation of rec is not needed any more.
func (e *Queues) release(rec *record) {
	if rec == nil {
		return
	}
	e.recordOps.Add(-1)
	if rec.live.Add(-1) == 0 {
		e.recordBytes.Add(-int64(rec.size))
		e.trash.died(rec.seq, rec.size, nil)
	}
}

// thin stores what is needed of sparse records anew, so that those can go. A message that stays long would otherwise keep
// a record for itself that was shared with hundreds.
func (e *Queues) thin() {
	bytes := e.recordBytes.Load()
	if bytes < thinBytes || bytes < thinShare*opBytes*e.recordOps.Load() {
		return
	}
	e.rewrite()
}

// rewrite does what thin is for.
func (e *Queues) rewrite() {
	left := thinMost
	for _, q := range e.List("", "", math.MaxInt) {
		left = q.rewrite(left)
	}
}

func (q *Queue) rewrite(left int) int {
	q.lock()
	defer q.unlock()
	now := q.e.now()
	for _, m := range q.index.messages {
		if left == 0 {
			break
		}
		if m.more == nil || m.more.rec == nil || m.spot == nowhere || !m.more.rec.sparse() {
			continue
		}
		left--
		q.index.lift(m)
		q.note(m, max(0, m.more.until-now), m.more.inFlight, m.more.note, func(error) {}, func(error) {})
	}
	return left
}
