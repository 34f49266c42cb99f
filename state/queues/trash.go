package queues

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server/avl"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// When what is deleted is taken from the stream. The front of the stream goes in one operation; what lies behind a
// message that still waits is taken out one by one, which costs the engine more, so that some is left lying.
const (
	collectInterval = time.Second
	frontBytes      = 4 << 20          // of the front, that are collected at once
	frontAge        = 10 * time.Second // after which any front is
	looseAge        = 10 * time.Second // what is younger may yet come to be of the front
	looseBytes      = 8 << 20          // behind it, or
	looseCount      = 20_000
	looseShare      = 8   // 1/8 of what lives, if that is more
	maxRemovals     = 256 // without an answer: the engine drops requests beyond 10,000
)

// trash is what is deleted and still in the stream. A deleted message's record of its deletion is kept until the message
// is gone from the stream.
type trash struct {
	mu        sync.Mutex
	live      avl.SequenceSet // everything in the stream that is needed
	top       uint64          // the newest sequence known: everything up to it is in live or not needed
	liveBytes int64
	dead      []remains
	deadBytes int64
	collected time.Time // when the front was last
	looked    time.Time // when older and newer were set
	older     uint64    // top at least looseAge ago
	newer     uint64    // top when it was looked at last
	purges    []purge
}

// purge is the messages of one queue up to last, all of which are deleted.
type purge struct {
	queue uint64
	last  uint64
	rec   *record // says so; nil: the queue itself is deleted
}

type remains struct {
	seq  uint64
	size int
	rec  *record // says that this is deleted; nil for records
}

// born notes what was stored. Calls come in the order of the stream.
func (t *trash) born(seq uint64, size int) {
	t.mu.Lock()
	t.live.Insert(seq)
	t.top = max(t.top, seq)
	t.liveBytes += int64(size)
	t.mu.Unlock()
}

// died notes what is not needed any more. rec is held for it until it is gone.
func (t *trash) died(seq uint64, size int, rec *record) {
	t.mu.Lock()
	if t.live.Delete(seq) {
		t.liveBytes -= int64(size)
	}
	t.dead = append(t.dead, remains{seq, size, rec})
	t.deadBytes += int64(size)
	t.mu.Unlock()
}

// left notes messages that are not needed any more and go with a purge.
func (t *trash) left(messages []*message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range messages {
		if t.live.Delete(m.seq) {
			t.liveBytes -= int64(m.size)
		}
	}
}

func (t *trash) purge(p purge) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.purges = append(t.purges, p)
}

// floor is the first sequence that is needed, or may be: all below are not.
func (t *trash) floor() uint64 {
	if t.live.IsEmpty() {
		return t.top + 1
	}
	first, _ := t.live.MinMax()
	return first
}

// take divides what is dead: the front is complete up to and without floor; loose is what is worth taking out one by one.
func (t *trash) take(now time.Time, all bool) (floor uint64, front, loose []remains) {
	t.mu.Lock()
	defer t.mu.Unlock()
	floor = t.floor()
	bytes := 0
	// Those below the floor come first, in no order.
	n := 0
	for i, r := range t.dead {
		if r.seq < floor {
			bytes += r.size
			t.dead[n], t.dead[i] = t.dead[i], t.dead[n]
			n++
		}
	}
	if n > 0 && (all || bytes >= frontBytes || now.Sub(t.collected) >= frontAge) {
		t.collected = now
		front = slices.Clone(t.dead[:n])
		t.dead = slices.Clone(t.dead[n:])
		t.deadBytes -= int64(bytes)
	}
	if now.Sub(t.looked) >= looseAge {
		t.looked, t.older, t.newer = now, t.newer, t.top
	}
	loose, t.dead = t.takeLoose(all)
	return floor, front, loose
}

// takeLoose divides what is dead into what is to be taken out one by one, and the rest.
func (t *trash) takeLoose(all bool) (loose, rest []remains) {
	old := t.older
	if all {
		old = math.MaxUint64
	}
	count, bytes := 0, int64(0)
	for _, r := range t.dead {
		if r.seq <= old {
			count++
			bytes += int64(r.size)
		}
	}
	if count == 0 || !all && count < looseCount && bytes < max(looseBytes, t.liveBytes/looseShare) {
		return nil, t.dead
	}
	loose = make([]remains, 0, count)
	rest = make([]remains, 0, len(t.dead)-count)
	for _, r := range t.dead {
		if r.seq <= old {
			loose = append(loose, r)
		} else {
			rest = append(rest, r)
		}
	}
	t.deadBytes -= bytes
	return loose, rest
}

// keep puts back what could not be taken out.
func (t *trash) keep(rest []remains) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dead = append(t.dead, rest...)
	for _, r := range rest {
		t.deadBytes += int64(r.size)
	}
}

// collect takes what is deleted from the stream, or all of it that is worth it.
func (e *Queues) collect(ctx context.Context, all bool) error {
	if err := e.purge(ctx); err != nil {
		return err
	}
	floor, front, loose := e.trash.take(e.cfg.Now(), all)
	if len(front) > 0 {
		if err := e.stream.Purge(ctx, jetstream.WithPurgeSequence(floor)); err != nil {
			e.trash.keep(front)
			e.trash.keep(loose)
			return e.streams.Error("give back the space of deleted messages", err)
		}
		for _, r := range front {
			e.release(r.rec)
		}
	}
	return e.takeOut(ctx, loose)
}

// purge removes what whole queues left.
func (e *Queues) purge(ctx context.Context) error {
	e.trash.mu.Lock()
	purges := e.trash.purges
	e.trash.purges = nil
	e.trash.mu.Unlock()
	for i, p := range purges {
		err := e.stream.Purge(ctx, jetstream.WithPurgeSubject(messageSubject(p.queue)), jetstream.WithPurgeSequence(p.last+1))
		if err != nil {
			e.trash.mu.Lock()
			e.trash.purges = append(e.trash.purges, purges[i:]...)
			e.trash.mu.Unlock()
			return e.streams.Error("give back the space of a purged queue", err)
		}
		e.release(p.rec)
	}
	return nil
}

// takeOut removes messages from the stream one by one.
func (e *Queues) takeOut(ctx context.Context, loose []remains) error {
	slices.SortFunc(loose, func(a, b remains) int { return int(a.seq) - int(b.seq) }) // neighbours share a block on disk
	slots := make(chan struct{}, maxRemovals)
	var mu sync.Mutex
	var failed []remains
	var failure error
	fail := func(r remains, err error) {
		mu.Lock()
		defer mu.Unlock()
		failed, failure = append(failed, r), err
	}
	for i, r := range loose {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			e.trash.keep(loose[i:])
			return ctx.Err()
		}
		msg := &nats.Msg{
			Subject: "$JS.API.STREAM.MSG.DELETE." + streamName,
			Data:    fmt.Appendf(nil, `{"seq":%d,"no_erase":true}`, r.seq),
		}
		err := e.reads.send(msg, func(answer *nats.Msg, err error) {
			if err == nil {
				err = takenOut(answer)
			}
			if err != nil {
				fail(r, err)
			} else {
				e.release(r.rec)
			}
			<-slots
		})
		if err != nil {
			fail(r, err)
			<-slots
		}
	}
	for range cap(slots) {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err() // the rest is taken out all the same
		}
	}
	mu.Lock()
	defer mu.Unlock()
	e.trash.keep(failed)
	if failure != nil {
		return e.streams.Error("give back the space of deleted messages", failure)
	}
	return nil
}

// errCodeNoSequence is a code of the server's errors.json that the client has no name for.
const errCodeNoSequence jetstream.ErrorCode = 10043

// takenOut reads the answer to a removal. One that is gone already is no error.
func takenOut(answer *nats.Msg) error {
	var resp struct {
		Success bool                `json:"success"`
		Error   *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &resp); err != nil {
		return fmt.Errorf("answer of the state engine: %w", err)
	}
	switch {
	case resp.Success:
		return nil
	case resp.Error == nil:
		return errors.New("state engine did not delete a message")
	case resp.Error.ErrorCode == errCodeNoSequence || resp.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound ||
		strings.Contains(resp.Error.Description, "no message found"):
		return nil
	}
	return resp.Error
}
