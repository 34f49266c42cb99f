package invoke

import (
	"context"
	"time"

	"thaw"
	"thaw/placement"
)

// respondLimit is how long the record of an invocation with extensions waits for its response to have been written.
const respondLimit = time.Minute

// goOn lets the extensions of an environment finish with an invocation that its runtime has answered, as AWS does: the
// caller has its answer at once, the environment and the permit are given back when all are done, and REPORT counts
// their time. Who wants the log's tail waits for it.
func (i *Invoker) goOn(ctx context.Context, run *run, held *holding, u *usage) *Response {
	if run.request.LogTail {
		run.finish(ctx, &held.lease)
		i.release(held)
		i.ended(run.request, u, &run.response)
		return &run.response
	}
	answer := run.response
	responded := make(chan thaw.Span, 1)
	if run.request.Responds {
		answer.later = responded
	}
	rest, taken := *run, *held
	i.going.Go(func() {
		rest.finish(ctx, &taken.lease)
		i.release(&taken)
		u.counted.count(&rest.response)
		if i.cfg.Record == nil {
			return
		}
		if rest.request.Responds {
			timer := time.NewTimer(respondLimit)
			defer timer.Stop()
			select {
			case rest.response.Record.Phases[thaw.PhaseRespond] = <-responded:
			case <-timer.C:
			}
		}
		i.cfg.Record(&rest.response.Record)
	})
	return &answer
}

// finish waits for the extensions, and ends the record and the log. What they do wrong is not the caller's any more.
func (r *run) finish(ctx context.Context, l *placement.Lease) {
	rec := &r.response.Record
	if !rec.Crashed && !rec.TimedOut {
		answered := r.response
		err := l.Finish(ctx, rec.RequestID, r.deadline)
		end := time.Now()
		rec.Duration, rec.PostRuntime = end.Sub(r.begin), end.Sub(l.Answered())
		rec.MaxMemoryUsed = megabytes(l.MemoryPeak(end, rec.Duration), rec.MemorySize)
		if err != nil {
			r.failed(l.Stream, err, end)
			r.response.Payload, r.response.FunctionError = answered.Payload, answered.FunctionError
		}
	}
	r.report(l.Stream, nil)
	l.Report(time.Now(), rec)
}

// Drain waits for invocations that only extensions still work on, until ctx ends.
func (i *Invoker) Drain(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		i.going.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
