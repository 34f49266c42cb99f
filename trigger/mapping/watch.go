package mapping

import (
	"context"
	"errors"
	"time"

	"thaw"
)

// adjust has the number of places follow the backlog, and tells what will be needed.
func (r *runner) adjust() {
	u := r.gate.look()
	ceiling := r.ceiling()
	backlog := -1
	if s := r.source.Load(); s != nil {
		backlog = (*s).backlog()
	}
	r.scaling.Lock()
	limit := r.scaler.follow(u, backlog, ceiling)
	r.scaling.Unlock()
	r.gate.setLimit(limit)
	r.expect(u.busy, backlog, limit)
}

// ceiling is the most batches that may be under way. There is none while the function cannot be invoked, so that messages
// wait in their queue, where they count no receives.
func (r *runner) ceiling() int {
	n := r.loop.cfg.MaxConcurrency
	if r.mapping.MaxConcurrency > 0 {
		n = min(n, r.mapping.MaxConcurrency)
	}
	f, ok := r.loop.cfg.Functions.Function(r.mapping.Function)
	if !ok {
		r.note("PROBLEM: The function " + r.mapping.Function + " does not exist")
		return 0
	}
	switch {
	case !invocable(f, r.mapping.Qualifier):
		r.note("PROBLEM: The function " + r.mapping.Function + " is not ready to be invoked")
		return 0
	case f.Reserved != nil && *f.Reserved == 0:
		r.note("PROBLEM: The function's reserved concurrency is 0")
		return 0
	case f.Reserved != nil:
		n = min(n, *f.Reserved)
	}
	return n
}

// invocable reports whether a qualifier stands for a version that can be invoked, or for one that becomes so by itself
// when it is.
func invocable(f *thaw.Function, qualifier string) bool {
	for _, number := range versions(f, qualifier) {
		v := f.Version(number)
		if number == thaw.Latest && f.Running != nil {
			v = f.Running
		}
		if v != nil && (v.State == thaw.StateActive || v.State == thaw.StateInactive) {
			return true
		}
	}
	return false
}

// expect tells of the environments that the backlog will need, beyond those at work.
func (r *runner) expect(busy, backlog, limit int) {
	if r.loop.cfg.Expect == nil || backlog <= 0 {
		return
	}
	batches := (backlog + r.mapping.BatchSize - 1) / r.mapping.BatchSize
	if n := min(limit, busy+batches); n > busy {
		r.loop.cfg.Expect(thaw.Forecast{Function: r.mapping.Function, Qualifier: r.mapping.Qualifier, Environments: n})
	}
}

// backOff lets fewer batches through: the function throttles or fails.
func (r *runner) backOff() {
	r.scaling.Lock()
	limit := r.scaler.backOff(time.Now())
	r.scaling.Unlock()
	r.gate.setLimit(limit)
}

// note keeps the outcome of a batch for the record.
func (r *runner) note(result string) { r.result.Store(&result) }

// problem notes why messages are not processed, in words for the mapping's owner.
func (r *runner) problem(err error) {
	text := "internal error; the platform's log has the reason"
	if told, ok := errors.AsType[*thaw.Error](err); ok {
		text = told.Message
	}
	r.note("PROBLEM: " + text)
}

// writeResult writes the last outcome into the record, when it is another than the one there and not too often.
func (r *runner) writeResult(ctx context.Context) {
	result := r.result.Load()
	if result == nil || *result == r.noted || time.Since(r.notedAt) < noteEvery {
		return
	}
	r.noted, r.notedAt = *result, time.Now()
	if err := r.loop.cfg.Records.noteResult(ctx, r.mapping.UUID, *result); err != nil && ctx.Err() == nil {
		r.fail("the outcome of a mapping's batches cannot be stored", err)
	}
}

// fail notes a failure and logs it, not again and again.
func (r *runner) fail(what string, err error) {
	r.problem(err)
	text := what + ": " + err.Error()
	if last := r.said.Swap(&text); last == nil || *last != text {
		r.loop.cfg.Log.Warn(what, "mapping", r.mapping.UUID, "source", r.mapping.Source.ARN+r.mapping.Source.Endpoint, "function", r.mapping.Function, "error", err)
	}
}
