package async

import (
	"context"
	"errors"
	"fmt"
	"time"

	"thaw"
	"thaw/invoke"
	"thaw/state/queues"
)

// attempt invokes the function with an event and does what follows from how that went.
func (d *Dispatcher) attempt(ctx context.Context, l *lane, q Queue, m *queues.Received, f *flight) {
	env, err := decodeEnvelope(m.Meta)
	if err != nil {
		// Nothing can be attempted with it, and nobody else can be told.
		env = envelope{RequestID: m.ID, Accepted: max(m.Sent.UnixMilli(), 1)}
		if l.settle(f) {
			d.die(ctx, l, q, f, &env, &ending{condition: conditionDamaged, message: err.Error()}, err.Error())
		}
		return
	}
	before := decodeProgress(m.Note)
	function, _ := d.cfg.Catalog.Function(l.function)
	h := env.handling(function)
	now := d.cfg.Now()
	last := ending{
		attempts: before.Attempts, status: before.Status, version: before.Version, message: before.Error,
		functionError: before.Status == statusOK, trace: env.Trace,
	}
	switch {
	case before.Attempts > h.maxRetries:
		// It has had its attempts, and what came then was cut short, or fewer are wanted now.
		last.condition = conditionRetries
	case now.Sub(time.UnixMilli(env.Accepted)) >= h.maxAge:
		last.condition = conditionAge
		if last.message == "" {
			last.message = fmt.Sprintf("The event was older than %d seconds before it could be attempted.", int(h.maxAge.Seconds()))
		}
	case function != nil && function.Reserved != nil && *function.Reserved == 0:
		last = ending{condition: conditionReserved, attempts: before.Attempts, message: textReserved, trace: env.Trace}
	default:
		d.invoke(ctx, l, q, m, f, &env, &h, &before)
		return
	}
	if l.settle(f) {
		d.end(ctx, l, q, m, f, &env, &h, &last)
	}
}

// textReserved is what AWS's dead letters say of a function with no concurrency, without a space that it lacks there too.
const textReserved = "Function not invoked. Function isconfigured with zero reserved concurrent executions"

// Statuses of the answers that records and dead letters tell: what a synchronous Invoke would have.
const (
	statusOK        = 200
	statusRejected  = 400
	statusMissing   = 404
	statusThrottled = 429
	statusFailed    = 500
)

// invoke is one attempt.
func (d *Dispatcher) invoke(ctx context.Context, l *lane, q Queue, m *queues.Received, f *flight, env *envelope, h *handling, before *progress) {
	l.counted.attempts.Add(1)
	begin := d.cfg.Now()
	response, err := d.cfg.Invoker.Invoke(ctx, &invoke.Request{
		Function: thaw.FunctionRef{Name: l.function}, Qualifier: env.Qualifier, Payload: m.Body,
		TraceID: env.Trace, RequestID: env.RequestID, Start: begin, Async: true, EventAge: begin.Sub(time.UnixMilli(env.Accepted)),
	})
	now := d.cfg.Now()
	result := ending{attempts: before.Attempts + 1, trace: env.Trace}
	retry := time.Duration(-1) // none
	throttles := 0
	switch kind, status := classify(err); {
	case err == nil:
		result.status, result.version, result.payload = statusOK, response.ExecutedVersion, response.Payload
		result.functionError = response.FunctionError
		if response.Record.TraceID != "" {
			result.trace = response.Record.TraceID
		}
		l.answered()
		if !response.FunctionError {
			result.condition = conditionSuccess
			l.counted.succeeded.Add(1)
			break
		}
		l.counted.functionErrors.Add(1)
		result.message = errorMessage(response.Payload)
		result.condition, retry = conditionRetries, d.cfg.RetryWait*time.Duration(result.attempts)
	case kind == failedRecursion:
		result.status, result.message, result.condition = status, message(err), conditionRecursion
		result.attempts = before.Attempts
	case kind == failedForGood:
		result.status, result.message = status, message(err)
		result.condition, retry = conditionRetries, d.cfg.RetryWait*time.Duration(result.attempts)
	default:
		// There was no room, or the function was not ready, or the platform failed: that costs none of its attempts.
		l.counted.throttles.Add(1)
		l.throttled(f.number, now, d.backoff)
		throttles = before.Throttles + 1
		result.attempts, result.status, result.message = before.Attempts, status, message(err)
		retry = d.backoff.after(throttles)
	}
	if !l.settle(f) {
		return // it was handed back before this, and is attempted again
	}
	if retry < 0 {
		d.end(ctx, l, q, m, f, env, h, &result)
		return
	}
	if throttles == 0 && result.attempts > h.maxRetries {
		d.end(ctx, l, q, m, f, env, h, &result)
		return
	}
	// An event that would be too old at its next attempt ends now, as on AWS.
	if now.Add(retry).Sub(time.UnixMilli(env.Accepted)) >= h.maxAge {
		result.condition = conditionAge
		d.end(ctx, l, q, m, f, env, h, &result)
		return
	}
	d.handBack(ctx, l, q, m.Handle, retry, encode(&progress{
		Attempts: result.attempts, Throttles: throttles, Next: now.Add(retry).UnixMilli(),
		Status: result.status, Version: result.version, Error: cut(result.message, maxError),
	}))
}

// failure is what an attempt's error means for the event.
type failure int

const (
	failedForNow    failure = iota // the next attempt may find room, or the function ready
	failedForGood                  // it counts as an attempt that the function failed
	failedRecursion                // the event is part of a loop, which ends here
)

// classify tells what an error of Invoke means, and the status that a caller of Invoke would have seen.
func classify(err error) (failure, int) {
	e, ok := errors.AsType[*thaw.Error](err)
	if !ok {
		return failedForNow, statusFailed
	}
	switch e.Code {
	case thaw.CodeTooManyRequests:
		return failedForNow, statusThrottled
	case thaw.CodeRecursiveInvocation:
		return failedRecursion, statusRejected
	case thaw.CodeResourceNotFound:
		return failedForGood, statusMissing
	case thaw.CodeAccessDenied, thaw.CodeInvalidParameterValue, thaw.CodeInvalidRequestContent, thaw.CodeValidation, thaw.CodeRequestTooLarge:
		return failedForGood, statusRejected
	default: // not ready, or the platform's
		return failedForNow, statusFailed
	}
}

// message is what an error tells callers.
func message(err error) string {
	if e, ok := errors.AsType[*thaw.Error](err); ok {
		return e.Message
	}
	return err.Error()
}

func (l *lane) answered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.window.answered()
}

func (l *lane) throttled(attempt uint64, now time.Time, b backoff) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.window.throttled(attempt, now, b)
}
