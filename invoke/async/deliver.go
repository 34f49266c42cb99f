package async

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"thaw"
	"thaw/state"
	"thaw/state/queues"
)

// end sends an event where its function's owner wants it, and takes it out of its queue. What neither a destination nor a
// dead-letter queue took of an event that was not dealt with stays as a dead one.
func (d *Dispatcher) end(ctx context.Context, l *lane, q Queue, m *queues.Received, f *flight, env *envelope, h *handling, end *ending) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if end.condition == conditionSuccess {
		if h.onSuccess != "" {
			if _, err := d.sendRecord(ctx, l, h.onSuccess, env, m.Body, end); err != nil {
				d.undelivered(l, env, "OnSuccess", h.onSuccess, err)
			}
		}
		d.remove(ctx, l, q, m.Handle)
		return
	}
	l.counted.failed.Add(1)
	d.count(metricDropped, l.function, env.Qualifier)
	taken, reasons := false, []string{}
	if h.onFailure != "" {
		whole, err := d.sendRecord(ctx, l, h.onFailure, env, m.Body, end)
		taken = err == nil && whole
		switch {
		case err != nil:
			d.undelivered(l, env, "OnFailure", h.onFailure, err)
			reasons = append(reasons, "OnFailure destination: "+err.Error())
		case !whole:
			reasons = append(reasons, "the record for the OnFailure destination had no room for it")
		}
	}
	if h.deadLetter != "" {
		if err := d.sendDeadLetter(ctx, h.deadLetter, env, m.Body, end); err != nil {
			d.undelivered(l, env, toDeadLetter, h.deadLetter, err)
			reasons = append(reasons, "dead-letter queue: "+err.Error())
		} else {
			taken = true
		}
	}
	if taken {
		d.remove(ctx, l, q, m.Handle)
		return
	}
	if len(reasons) == 0 {
		reasons = append(reasons, "the function has neither an OnFailure destination nor a dead-letter queue")
	}
	d.die(ctx, l, q, f, env, end, strings.Join(reasons, "; "))
}

// remove takes an event that has ended out of its queue. Where that fails it is attempted again: at least once, not once.
func (d *Dispatcher) remove(ctx context.Context, l *lane, q Queue, handle string) {
	if err := q.Delete(ctx, handle); err != nil && !errors.Is(err, queues.ErrClosed) {
		d.cfg.Log.Warn("an event that has ended could not be removed and may be attempted again", "function", l.function, "error", err)
	}
}

// die keeps an event among the dead ones of its function.
func (d *Dispatcher) die(ctx context.Context, l *lane, q Queue, f *flight, env *envelope, end *ending, reason string) {
	dead := *env
	now := d.cfg.Now()
	dead.Dead = &death{
		At: now.UnixMilli(), Condition: end.condition, Reason: cut(reason, maxError), Attempts: end.attempts, Error: cut(end.message, maxError),
	}
	err := q.Die(ctx, f.handle, encode(&dead))
	if errors.Is(err, state.ErrNotFound) {
		// Somebody has removed the queue of the dead.
		if err = d.makeQueues(ctx, l.function); err == nil {
			err = q.Die(ctx, f.handle, encode(&dead))
		}
	}
	if err == nil {
		l.counted.died.Add(1)
		d.trim(ctx, l)
		return
	}
	d.cfg.Log.Warn("an event that failed could not be put with the dead ones; that is tried again", "function", l.function, "request_id", env.RequestID, "error", err)
	// Its attempts are kept with it, so that it is not attempted again because of this.
	wait := max(d.backoff.longest/10, d.backoff.first)
	d.handBack(ctx, l, q, f.handle, wait, encode(&progress{
		Attempts: max(end.attempts, 1), Next: now.Add(wait).UnixMilli(), Status: end.status, Version: end.version, Error: cut(end.message, maxError),
	}))
}

// toDeadLetter is where a dead-letter queue is named.
const toDeadLetter = "DeadLetterConfig"

// undelivered notes a delivery that failed: counted, shown, and logged at most once a second for each function.
func (d *Dispatcher) undelivered(l *lane, env *envelope, kind, arn string, err error) {
	l.counted.deliveryFailures.Add(1)
	if kind == toDeadLetter {
		d.count(metricDeadLetter, l.function, env.Qualifier)
	} else {
		d.count(metricUndeliverable, l.function, env.Qualifier)
	}
	now := d.cfg.Now()
	l.problem.Lock()
	defer l.problem.Unlock()
	l.problem.at, l.problem.text = now, cut(kind+" "+arn+": "+err.Error(), maxError)
	if now.Sub(l.problem.said) < time.Second {
		return
	}
	l.problem.said = now
	d.cfg.Log.Warn("the outcome of an asynchronous invocation could not be delivered", "function", l.function, "request_id", env.RequestID, "to", kind, "arn", arn, "error", err)
}

// sendRecord sends the record of how an event ended to a destination. whole is false when the record had to go without the
// event's payload.
func (d *Dispatcher) sendRecord(ctx context.Context, l *lane, arn string, env *envelope, payload []byte, end *ending) (whole bool, err error) {
	record, whole := newRecord(&d.cfg.Account, l.function, env, payload, end, d.cfg.Now())
	if ref, ok := thaw.ParseQueueARN(arn); ok {
		return whole, d.sendToQueue(ctx, ref, record, queues.SQSMeta{System: traceAttribute(end.trace)})
	}
	ref, ok := thaw.ParseFunctionRef(arn)
	if !ok || !strings.Contains(arn, ":lambda:") {
		return false, errors.New("thaw delivers to SQS queues and Lambda functions only")
	}
	_, err = d.Enqueue(ctx, &Event{Function: ref, Payload: record, TraceID: end.trace, Wait: true})
	if e, ok := errors.AsType[*thaw.Error](err); ok {
		return whole, errors.New(e.Message) // without the code, for people
	}
	return whole, err
}

// sendDeadLetter sends an event as it came to its function's dead-letter queue, with attributes that say what was wrong.
// Their names and types are AWS's.
func (d *Dispatcher) sendDeadLetter(ctx context.Context, arn string, env *envelope, payload []byte, end *ending) error {
	ref, ok := thaw.ParseQueueARN(arn)
	if !ok {
		return errors.New("thaw delivers to SQS queues only")
	}
	if len(payload) == 0 {
		payload = emptyEvent
	}
	meta := queues.SQSMeta{
		System:     traceAttribute(end.trace),
		Attributes: map[string]queues.SQSAttribute{"RequestID": {Type: "String", String: env.RequestID}},
	}
	if end.status != 0 {
		meta.Attributes["ErrorCode"] = queues.SQSAttribute{Type: "Number", String: strconv.Itoa(end.status)}
	}
	if text := cut(end.message, maxError); text != "" {
		meta.Attributes["ErrorMessage"] = queues.SQSAttribute{Type: "String", String: text}
	}
	size := len(payload)
	for name, a := range meta.Attributes {
		size += len(name) + len(a.Type) + len(a.String)
	}
	if size > maxRecord {
		return fmt.Errorf("with its attributes the event has %d bytes, and a message at most %d", size, maxRecord)
	}
	return d.sendToQueue(ctx, ref, payload, meta)
}

// traceAttribute passes a trace on, with its lineage, so that a loop through a queue is seen as one.
func traceAttribute(trace string) map[string]queues.SQSAttribute {
	if trace == "" {
		return nil
	}
	return map[string]queues.SQSAttribute{"AWSTraceHeader": {Type: "String", String: trace}}
}

// sendToQueue sends a message to one of the users' queues.
func (d *Dispatcher) sendToQueue(ctx context.Context, ref thaw.QueueRef, body []byte, meta queues.SQSMeta) error {
	if !d.cfg.Account.OwnsQueue(ref) {
		return fmt.Errorf("the queue %s is of another account or region; thaw delivers to its own queues", ref.Name)
	}
	q, ok := d.cfg.Queues.Queue(sqsPrefix + ref.Name)
	if !ok {
		return fmt.Errorf("there is no queue named %s", ref.Name)
	}
	if q.Info().Options.FIFO {
		return fmt.Errorf("the queue %s is a FIFO queue, which Lambda does not deliver to", ref.Name)
	}
	sent := q.Send(ctx, queues.Message{Body: body, Meta: meta.Encode()})
	if len(sent) != 1 {
		return fmt.Errorf("the queue %s gave %d results for one message", ref.Name, len(sent))
	}
	return sent[0].Err
}
