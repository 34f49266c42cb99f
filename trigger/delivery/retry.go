package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"strconv"
	"sync"
	"time"

	"thaw/state"
	"thaw/state/queues"
)

// pending is a delivery that is tried again.
type pending struct {
	Delivery
	Tries int       `json:"tries"` // attempts that failed
	Next  time.Time `json:"next"`
	Error string    `json:"error"`
	// Buried: it is dead for the reason Why, and what is tried again is the dead-letter queue.
	Buried bool   `json:"buried,omitempty"`
	Why    reason `json:"why,omitempty"`
	// Claim is who tries now, and when that began and is over.
	Claim *claim `json:"claim,omitempty"`
}

type claim struct {
	By    string    `json:"by"`
	At    time.Time `json:"at"`
	Until time.Time `json:"until"`
}

// held reports whether another than node has the claim. One from the future is of a clock that has been put back since.
func (c *claim) held(node string, now time.Time) bool {
	return c != nil && c.By != node && now.Before(c.Until) && !now.Before(c.At.Add(-claimTime))
}

// reason is why a delivery ended; the words are those of EXHAUSTED_RETRY_CONDITION.
type reason string

const (
	alive    reason = ""
	tooOften reason = "MaximumRetryAttempts"
	tooOld   reason = "MaximumEventAgeInSeconds"
	useless  reason = "-" // no condition was exhausted
)

const (
	claimTime   = 30 * time.Second
	firstRetry  = time.Second
	lastRetry   = 5 * time.Minute
	lookEvery   = time.Second
	retriesLive = 16 // attempts at a time
)

// over tells whether a delivery that failed with err ends now.
func (p *pending) over(now time.Time, err error) reason {
	if _, yes := final(err); yes {
		return useless
	}
	switch {
	case p.Tries > p.Policy.Attempts:
		return tooOften
	case now.Sub(p.Time) >= p.Policy.Age:
		return tooOld
	}
	return alive
}

// backoff is how long to wait after the n-th attempt: 1, 2, 4 seconds and so on up to 5 minutes, and up to half of it more,
// so that what failed together is not tried again together.
func backoff(id string, n int) time.Duration {
	d := lastRetry
	if n < 10 {
		d = min(firstRetry<<(n-1), lastRetry)
	}
	h := fnv.New32a()
	h.Write([]byte(id + strconv.Itoa(n)))
	return d + d*time.Duration(h.Sum32()%512)/1024
}

// bury sends a dead delivery to its dead-letter queue. An error says that this has to be tried again.
func (d *Deliverer) bury(ctx context.Context, p *pending, why reason, cause error) error {
	if p.DeadLetter == "" {
		d.note(ctx, p, StatusDropped, cause)
		return nil
	}
	to, err := ParseTarget(d.cfg.Account, p.DeadLetter)
	if err == nil {
		body := p.Event
		if body == nil {
			body = p.fill(p.Tries)
		}
		ctx, cancel := context.WithTimeout(ctx, attemptTime)
		defer cancel()
		err = d.cfg.Send(ctx, to.Queue, queues.Message{ID: p.ID, Body: body, Meta: p.obituary(why, cause).Encode()})
	}
	if err == nil {
		d.note(ctx, p, StatusDead, cause)
		return nil
	}
	if _, yes := final(err); yes {
		d.note(ctx, p, StatusDropped, errors.Join(cause, err))
		return nil
	}
	return err
}

// obituary is what a message in the dead-letter queue tells: the attributes that EventBridge and EventBridge Scheduler set.
func (p *pending) obituary(why reason, cause error) queues.SQSMeta {
	code, _ := final(cause)
	meta := queues.SQSMeta{Attributes: map[string]queues.SQSAttribute{}}
	set := func(name, text string) { meta.Attributes[name] = queues.SQSAttribute{Type: "String", String: text} }
	set("TARGET_ARN", p.Target)
	set("ERROR_CODE", code)
	set("ERROR_MESSAGE", cause.Error())
	set("RETRY_ATTEMPTS", strconv.Itoa(p.Tries-1))
	if why != useless {
		set("EXHAUSTED_RETRY_CONDITION", string(why))
	}
	if p.Kind == FromRule {
		set("RULE_ARN", p.Source)
		return meta
	}
	set("SCHEDULE_ARN", p.Source)
	set("SCHEDULED_TIME", p.Time.UTC().Format(time.RFC3339))
	set("EXECUTION_ID", p.execution(p.Tries))
	set("IS_PAYLOAD_TRUNCATED", "false")
	return meta
}

// Run tries again what waits, until ctx ends; it returns nil then.
func (d *Deliverer) Run(ctx context.Context) error {
	var following sync.WaitGroup
	var failed error
	ctx, stop := context.WithCancel(ctx)
	defer following.Wait()
	defer stop()
	following.Go(func() {
		failed = d.records.Follow(ctx, d.changed, func() {})
		stop()
	})
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			following.Wait()
			return failed
		case <-ticker.C:
			d.Tick(ctx)
		}
	}
}

// changed takes in what is stored. A record that cannot be read is left alone.
func (d *Deliverer) changed(key string, value json.RawMessage) {
	p := new(pending)
	if value != nil && json.Unmarshal(value, p) != nil {
		d.cfg.Log.Error("a stored delivery cannot be read and is left where it is", "id", key)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if value == nil {
		delete(d.waiting, key)
		return
	}
	d.waiting[key] = p
}

// Tick tries once what is due: what Run does every second. It returns when all attempts have ended.
func (d *Deliverer) Tick(ctx context.Context) {
	now := d.cfg.Now()
	d.mu.Lock()
	var due []string
	for key, p := range d.waiting {
		if !now.Before(p.Next) && !p.Claim.held(d.node, now) {
			due = append(due, key)
		}
	}
	d.mu.Unlock()
	var trying sync.WaitGroup
	slots := make(chan struct{}, retriesLive)
	for _, key := range due {
		slots <- struct{}{}
		trying.Go(func() {
			defer func() { <-slots }()
			if err := d.again(ctx, key); err != nil && ctx.Err() == nil {
				d.cfg.Log.Error("a stored delivery cannot be tried again for now", "id", key, "error", err)
			}
		})
	}
	trying.Wait()
}

// errNotNow leaves a stored delivery as it is.
var errNotNow = errors.New("not now")

// again claims one stored delivery, tries it, and stores what came of it.
func (d *Deliverer) again(ctx context.Context, key string) error {
	p, err := state.UpdateRecord(ctx, d.records, key, func(p *pending) error {
		now := d.cfg.Now()
		if now.Before(p.Next) || p.Claim.held(d.node, now) {
			return errNotNow
		}
		p.Claim = &claim{By: d.node, At: now, Until: now.Add(claimTime)}
		return nil
	})
	switch {
	case errors.Is(err, errNotNow):
		return nil
	case errors.Is(err, state.ErrNotFound):
		d.changed(key, nil)
		return nil
	case err != nil:
		return err
	}
	ended, cause := d.try(ctx, p)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if ended {
		err = state.DeleteRecord(ctx, d.records, key, func(*pending) error { return nil })
		if err == nil || errors.Is(err, state.ErrNotFound) {
			d.changed(key, nil)
			return nil
		}
		return err
	}
	_, err = state.UpdateRecord(ctx, d.records, key, func(stored *pending) error {
		if stored.Claim == nil || stored.Claim.By != d.node {
			return errNotNow
		}
		p.Claim, p.Error, p.Next = nil, cause.Error(), d.cfg.Now().Add(backoff(p.ID, p.Tries))
		*stored = *p
		return nil
	})
	if errors.Is(err, errNotNow) || errors.Is(err, state.ErrNotFound) {
		return nil
	}
	return err
}

// try makes one attempt, at the target or, for what is dead, at its dead-letter queue. It tells whether that was the end.
func (d *Deliverer) try(ctx context.Context, p *pending) (ended bool, cause error) {
	if p.Buried {
		cause = errors.New(p.Error)
		return d.bury(ctx, p, p.Why, cause) == nil, cause
	}
	cause = d.attempt(ctx, &p.Delivery, p.Tries+1)
	if cause == nil {
		d.count(func(c *Counts) { c.Delivered++ })
		return true, nil
	}
	if ctx.Err() != nil {
		return false, cause
	}
	p.Tries++
	why := p.over(d.cfg.Now(), cause)
	if why == alive {
		d.note(ctx, p, StatusRetrying, cause)
		return false, cause
	}
	if d.bury(ctx, p, why, cause) == nil {
		return true, nil
	}
	p.Buried, p.Why = true, why
	return false, cause
}
