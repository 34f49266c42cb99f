package alarms

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"thaw"
	"thaw/state"
	"thaw/trigger/delivery"
)

// fromAlarm is the kind of deliveries.
const fromAlarm = "alarm"

// CheckAction tells whether an action is one that there is here: the ARN of a function or a queue of the account, or the URL of
// a webhook. What is named need not be there. The code is CodeValidation, or CodeNotImplemented for what AWS has besides.
func CheckAction(account thaw.Account, target string) error {
	if IsWebhook(target) {
		return ParseWebhook(target)
	}
	parts := strings.SplitN(target, ":", 6)
	_, err := delivery.ParseTarget(account, target)
	switch {
	case err == nil:
		return nil
	case len(parts) == 6 && parts[0] == "arn" && parts[3] != account.Region && (parts[2] == "lambda" || parts[2] == "sqs"):
		return thaw.Errorf(thaw.CodeValidation, "Invalid region %s specified. Only %s is supported.", parts[3], account.Region)
	case len(parts) == 6 && parts[0] == "arn" && thaw.CodeOf(err) == thaw.CodeNotImplemented, len(parts) == 6 && parts[0] == "arn" && parts[2] != "lambda" && parts[2] != "sqs":
		return thaw.Errorf(thaw.CodeNotImplemented, "The action %s is not implemented. An action is the ARN of a Lambda function or an SQS queue of account %s in %s, or the http or https URL of a webhook.", target, account.ID, account.Region)
	}
	return thaw.Errorf(thaw.CodeValidation, "Invalid arn syntax: %s", target)
}

// dispatch begins what waits in outboxes, as far as there is room. What there is no room for waits for the next tick.
func (l *Loop) dispatch(ctx context.Context, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, k := range l.known {
		a := k.alarm
		direct, hook := due(a, now)
		if direct {
			l.begin(name, l.direct, func() { l.work(ctx, k, a, now, false) })
		}
		host := hostOf(hook)
		if hook == "" || l.hosts[host] >= perHost {
			continue
		}
		if l.begin("!"+name, l.calls, func() {
			defer l.leave(host)
			l.work(ctx, k, a, now, true)
		}) {
			l.hosts[host]++
		}
	}
}

// leave notes that an alarm's webhooks have been called.
func (l *Loop) leave(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hosts[host]--; l.hosts[host] <= 0 {
		delete(l.hosts, host)
	}
}

// begin runs work in a slot, unless work under that key is under way or no slot is free, and reports whether it does. The caller
// holds mu.
func (l *Loop) begin(key string, slots chan struct{}, work func()) bool {
	if l.busy[key] {
		return false
	}
	select {
	case slots <- struct{}{}:
	default:
		return false
	}
	l.busy[key] = true
	l.working.Go(func() {
		defer func() {
			l.mu.Lock()
			delete(l.busy, key)
			l.mu.Unlock()
			<-slots
		}()
		work()
	})
	return true
}

// due tells which kinds of tasks of an alarm can be done at a time: whether there are direct ones, and the first webhook.
func due(a *Alarm, now time.Time) (direct bool, hook string) {
	for i := range a.Outbox {
		switch t := &a.Outbox[i]; {
		case now.Before(t.Next):
		case !IsWebhook(t.Target):
			direct = true
		case hook == "":
			hook = t.Target
		}
	}
	return direct, hook
}

// outcome is what was done of an outbox: the items for the history, and the errors by task, nil where it went well.
type outcome struct {
	items   []Item
	results map[string]error
}

// work does what is due of one kind and stores what came of it. What cannot be stored is kept and is all that is tried until it
// can be: with a full disk, say, nothing may be done again every second.
func (l *Loop) work(ctx context.Context, k *known, a *Alarm, now time.Time, calls bool) {
	unnoted := &k.direct
	if calls {
		unnoted = &k.calls
	}
	o := *unnoted // of this goroutine alone, as busy says
	again := o != nil
	if !again {
		if o = l.perform(ctx, a, now, calls); o == nil {
			return // it is done again after the start that follows
		}
	}
	err := l.cfg.Records.record(ctx, a, o.items, l.cfg.Now().UTC())
	if err == nil {
		err = l.clear(ctx, a, o.results)
	}
	*unnoted = nil
	if err != nil {
		*unnoted = o
		if !again && ctx.Err() == nil {
			l.cfg.Log.Error("what an alarm did cannot be noted; this is tried again every second, and what a restart finds is done again", "alarm", a.Name, "error", err)
		}
	}
}

// perform does what is due of one kind, in the order of the outbox. It gives nil where ctx ended meanwhile.
func (l *Loop) perform(ctx context.Context, a *Alarm, now time.Time, calls bool) *outcome {
	o := &outcome{results: map[string]error{}}
	for i := range a.Outbox {
		t := &a.Outbox[i]
		switch {
		case now.Before(t.Next) || IsWebhook(t.Target) != calls:
			continue
		case t.Item != nil:
			o.items = append(o.items, *t.Item)
			o.results[t.ID] = nil
			continue
		}
		message, err := l.do(ctx, a, t)
		if ctx.Err() != nil {
			return nil
		}
		o.results[t.ID] = err
		if t.Target != EventTarget && (err == nil || over(t, err, l.cfg.Now())) {
			o.items = append(o.items, actionItem(t, message, err, l.cfg.Now().UTC()))
		}
	}
	return o
}

// clear takes what was done out of the outbox, and puts off what failed.
func (l *Loop) clear(ctx context.Context, a *Alarm, results map[string]error) error {
	stored, err := l.cfg.Records.Update(ctx, a.Name, func(x *Alarm) error {
		if !x.Created.Equal(a.Created) {
			return errMoot
		}
		now := l.cfg.Now().UTC()
		x.Outbox = slices.DeleteFunc(x.Outbox, func(t Task) bool {
			err, done := results[t.ID]
			return done && (err == nil || over(&t, err, now))
		})
		for i := range x.Outbox {
			if t := &x.Outbox[i]; results[t.ID] != nil {
				t.Next = now.Add(wait(t))
				t.Tries++
			}
		}
		return nil
	})
	switch {
	case err == nil:
		l.learn(stored)
	case isGone(err):
		l.drop(a.Name)
	case !errors.Is(err, errMoot):
		return err
	}
	return nil
}

// wait is the pause after a task has failed again.
func wait(t *Task) time.Duration {
	if IsWebhook(t.Target) {
		return webhookWaits[min(t.Tries, len(webhookWaits)-1)]
	}
	return min(time.Second<<min(t.Tries, 10), lastWait)
}

// over reports whether a task that failed with err is not tried again.
func over(t *Task, err error, now time.Time) bool {
	if _, yes := errors.AsType[errFinal](err); yes {
		return true
	}
	if IsWebhook(t.Target) {
		return t.Tries >= len(webhookWaits)
	}
	return now.Sub(t.New.Updated) >= giveUpAfter
}

// do carries out one action once. message is what it was about to send.
func (l *Loop) do(ctx context.Context, a *Alarm, t *Task) (message string, err error) {
	if t.Target == EventTarget {
		if l.cfg.Publish == nil {
			return "", nil
		}
		return "", l.cfg.Publish(ctx, a.event(l.cfg.Account, t))
	}
	if IsWebhook(t.Target) {
		message = a.message(l.cfg.Account, t)
		return message, l.post(ctx, t.Target, t.ID, message)
	}
	to, err := delivery.ParseTarget(l.cfg.Account, t.Target)
	if err != nil {
		return "", errFinal{err}
	}
	x := delivery.Delivery{
		ID: t.ID, Kind: fromAlarm, Source: ARN(l.cfg.Account, a.Name), Time: l.cfg.Now().UTC(), Target: t.Target, Policy: delivery.DefaultPolicy, Once: true,
	}
	if to.Queue != "" {
		message = a.message(l.cfg.Account, t)
		sum := sha256.Sum256([]byte(a.Name))
		x.Group = hex.EncodeToString(sum[:])
		if !l.cfg.HasQueue(to.Queue) {
			return message, errFinal{thaw.Errorf(thaw.CodeQueueDoesNotExist, "The specified queue does not exist.")}
		}
	} else {
		message = a.forFunction(l.cfg.Account, t)
		if err := l.mayInvoke(to.Function, t.Target, ARN(l.cfg.Account, a.Name)); err != nil {
			return message, errFinal{err}
		}
	}
	x.Input = []byte(message)
	return message, l.cfg.Deliver(ctx, x)
}

// mayInvoke refuses functions that are not there, and those whose policy does not allow it.
func (l *Loop) mayInvoke(ref thaw.FunctionRef, arn, alarm string) error {
	f, ok := l.cfg.Functions.Function(ref.Name)
	if !ok {
		return thaw.Errorf(thaw.CodeResourceNotFound, "Function not found: %s", arn)
	}
	if !allowed(f, ref.Qualifier, l.cfg.Account, alarm) {
		return thaw.Errorf(thaw.CodeAccessDenied, "CloudWatch Alarms is not authorized to perform: lambda:InvokeFunction on the resource: %s because no resource-based policy allows the lambda:InvokeFunction action", arn)
	}
	return nil
}

// What the history repeats at most: of a message, bytes, and of an error, characters, which the other side of a webhook may have
// written.
const (
	maxPublished = 4 << 10
	maxError     = 500
)

// actionItem is what the history says of an action.
func actionItem(t *Task, sent string, err error, now time.Time) Item {
	data := struct {
		State     string          `json:"actionState"`
		At        int64           `json:"stateUpdateTimestamp"`
		Target    string          `json:"notificationResource"`
		Published json.RawMessage `json:"publishedMessage,omitempty"`
		Error     string          `json:"error,omitempty"`
	}{State: "Succeeded", At: t.New.Updated.UnixMilli(), Target: t.Target}
	if len(sent) <= maxPublished && sent != "" {
		data.Published = json.RawMessage(encode(sent))
	}
	item := Item{ID: uuid.NewSHA1(uuid.NameSpaceURL, []byte(t.ID)).String(), At: now, Type: ItemAction, Summary: "Successfully executed action " + t.Target}
	if err != nil {
		data.State, data.Error = "Failed", cut(message(err), maxError)
		item.Summary = "Failed to execute action " + t.Target + `. Received error: "` + data.Error + `"`
	}
	item.Data = encode(data)
	return item
}

// isGone reports whether an alarm was deleted in the meantime.
func isGone(err error) bool { return errors.Is(err, state.ErrNotFound) }
