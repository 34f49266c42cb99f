package records

import (
	"context"
	"errors"
	"slices"
	"time"

	"thaw"
)

// Bounds of what one question may read or get.
const (
	// MaxLimit is how many records one answer has at most.
	MaxLimit = 10_000
	// maxAttempts bounds the attempts of one asynchronous invocation that are shown.
	maxAttempts = 100
)

// Query asks for records of one function.
type Query struct {
	Function string
	// Kinds are the start kinds wanted; none: all. Those that are not warm are found quickly.
	Kinds []thaw.StartKind
	// Since and Until bound the instant at which a record was stored, which is at most 100 ms after the invocation ended. Zero: no bound.
	Since, Until time.Time
	// Limit is how many are wanted: the newest. 1 to MaxLimit; 0: MaxLimit.
	Limit int
}

// errEnough ends a read early.
var errEnough = errors.New("enough")

// Invocations gives a function's records, the newest first.
func (r *Recorder) Invocations(ctx context.Context, q Query) ([]thaw.Invocation, error) {
	r.Flush(ctx)
	limit := q.Limit
	if limit <= 0 || limit > MaxLimit {
		limit = MaxLimit
	}
	var found []thaw.Invocation
	err := r.cfg.Store.Read(ctx, shelvesOf(q.Function, q.Kinds), q.Since, q.Until, func(_ time.Time, data []byte) error {
		err := unpack(data, func(i *thaw.Invocation) error {
			if i.Function == q.Function && (len(q.Kinds) == 0 || slices.Contains(q.Kinds, i.Kind)) {
				found = append(found, *i)
			}
			return nil
		})
		if len(found) > 2*limit {
			newestFirst(found)
			clear(found[limit:])
			found = found[:limit]
		}
		return r.tolerate(err)
	})
	if err != nil {
		return nil, err
	}
	newestFirst(found)
	return found[:min(len(found), limit)], nil
}

func newestFirst(list []thaw.Invocation) {
	slices.SortStableFunc(list, func(a, b thaw.Invocation) int { return b.Start.Compare(a.Start) })
}

// lookBack is how far back the first look for a request id goes; each further one goes lookFurther times as far.
const (
	lookBack    = time.Minute
	lookFurther = 8
	looks       = 6 // the last one but the rest goes back half a year
)

// Request gives the records of a request id, all attempts of an asynchronous one, oldest first; none where there is no
// record. The newest records are looked through first.
func (r *Recorder) Request(ctx context.Context, requestID string) ([]thaw.Invocation, error) {
	r.Flush(ctx)
	now := time.Now()
	until, since := time.Time{}, now.Add(-lookBack)
	back := lookBack
	for look := range looks {
		if look == looks-1 {
			since = time.Time{}
		}
		found, err := r.requestBetween(ctx, requestID, since, until)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 {
			if !found[0].Async {
				return found, nil
			}
			// The other attempts are anywhere between its acceptance and now.
			accepted := found[0].Start.Add(-found[0].EventAge)
			return r.requestBetween(ctx, requestID, accepted.Add(-time.Second), time.Time{})
		}
		back *= lookFurther
		until, since = since, now.Add(-back)
	}
	return nil, nil
}

func (r *Recorder) requestBetween(ctx context.Context, requestID string, since, until time.Time) ([]thaw.Invocation, error) {
	var found []thaw.Invocation
	needle := appendID(nil, requestID)
	err := r.cfg.Store.Read(ctx, nil, since, until, func(_ time.Time, data []byte) error {
		err := r.tolerate(unpackWith(data, needle, func(i *thaw.Invocation) error {
			if i.RequestID == requestID {
				found = append(found, *i)
			}
			return nil
		}))
		if err == nil && len(found) > 0 && (!found[0].Async || len(found) >= maxAttempts) {
			return errEnough
		}
		return err
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	slices.SortStableFunc(found, func(a, b thaw.Invocation) int { return a.Start.Compare(b.Start) })
	return found, nil
}

// tolerate passes over a batch that cannot be read: the others can.
func (r *Recorder) tolerate(err error) error {
	if errors.Is(err, errDamaged) {
		r.cfg.Log.Warn("a batch of invocation records cannot be read", "because", err)
		return nil
	}
	return err
}

// Profiles gives those of the profiles of a function's inits that records' ProfileID name, the newest first; one that is not
// kept, or not any more, is not among them. A function's can be many, and some MB each: no more are held than are asked for.
func (r *Recorder) Profiles(ctx context.Context, function string, ids ...string) ([]thaw.InitProfile, error) {
	r.Flush(ctx)
	var found []thaw.InitProfile
	err := r.cfg.Store.ReadProfiles(ctx, function, func(_ time.Time, data []byte) error {
		p, err := unpackProfile(data)
		if err == nil && slices.Contains(ids, p.ID) {
			found = append(found, *p)
		}
		return r.tolerate(err)
	})
	if err != nil {
		return nil, err
	}
	slices.Reverse(found)
	return found, nil
}
