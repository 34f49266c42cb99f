// Package delivery brings what a rule or a schedule sends to its target: a function, as an asynchronous invocation, or an
// SQS queue. What cannot be delivered now is stored and tried again as the target's retry policy says; what cannot be
// delivered at all goes to the target's dead-letter queue, with the attributes that AWS gives such messages.
//
//	Deliver ──▶ delivered                                the target has stored it
//	        ├─▶ stored, tried again ──▶ delivered
//	        │                       └─▶ dead             attempts or age exhausted
//	        └─▶ dead                                     the target is not there, or will never take it
//
// A function that fails later is not this package's concern: asynchronous invocations have retries of their own.
//
// Several nodes may run the retries: a stored delivery is claimed before it is tried, and a claim expires. All attempts at
// one delivery have the same id, by which a repeat can be recognised.
//
// Locks: Deliverer.mu guards what waits and the list of outcomes; nothing is called while it is held.
package delivery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"thaw"
	"thaw/state"
	"thaw/state/queues"
)

// Policy is a target's RetryPolicy.
type Policy struct {
	Attempts int           `json:"attempts"` // MaximumRetryAttempts: after the first one; 0 to 185
	Age      time.Duration `json:"age"`      // MaximumEventAgeInSeconds: 1 minute to 24 hours
}

// DefaultPolicy is AWS's: 185 retries within 24 hours.
var DefaultPolicy = Policy{Attempts: 185, Age: 24 * time.Hour}

// The kinds of sources.
const (
	FromRule     = "rule"
	FromSchedule = "schedule"
)

// Delivery is one thing for one target.
type Delivery struct {
	// ID is a UUID. It becomes the request id of an invocation and the id of a message.
	ID     string    `json:"id"`
	Kind   string    `json:"kind"`   // FromRule or FromSchedule
	Source string    `json:"source"` // the rule's or the schedule's ARN
	Time   time.Time `json:"time"`   // when it was due, or when its event came
	Target string    `json:"target"` // an ARN
	Group  string    `json:"group,omitempty"`
	// Input is what the target gets. In a schedule's the keywords <aws.scheduler.…> are replaced at each attempt.
	Input []byte `json:"input"`
	// Event is what the dead-letter queue gets; nil: Input.
	Event      []byte `json:"event,omitempty"`
	Policy     Policy `json:"policy"`
	DeadLetter string `json:"dead_letter,omitempty"` // a queue's ARN; empty: none
	Trace      string `json:"trace,omitempty"`       // an X-Ray trace header; empty: none
	// Once: whoever made the delivery may have made it before, with the same id, and not know.
	Once bool `json:"once,omitempty"`
}

// Invocation is an asynchronous invocation.
type Invocation struct {
	ID       string // the request id to use
	Function thaw.FunctionRef
	Payload  []byte
	Trace    string // an X-Ray trace header, empty for none
	Once     bool   // one with this id that was accepted a short time ago counts as this one
}

// Config is what a Deliverer needs. Now and Log may be nil.
type Config struct {
	Store   *state.Store
	Account thaw.Account
	// Enqueue accepts an asynchronous invocation: it is stored when Enqueue returns. An invocation whose id was accepted
	// before may be accepted again or not. CodeResourceNotFound says that there is no such function; that and what the
	// invocation itself is to blame for is not tried again.
	Enqueue func(ctx context.Context, i Invocation) error
	// Send puts a message into a queue by its name without "sqs/": it is stored when Send returns. state.ErrNotFound says
	// that there is no such queue. Group and Dedup are set for names that end with .fifo.
	Send func(ctx context.Context, queue string, m queues.Message) error
	// Now is the clock, nil for the machine's.
	Now func() time.Time
	// Log gets what ends without being delivered. Nil means slog.Default().
	Log *slog.Logger
}

// Outcome is how a delivery ended that was not delivered, or why it is tried again.
type Outcome struct {
	At     time.Time `json:"at"`
	ID     string    `json:"id"`
	Source string    `json:"source"`
	Target string    `json:"target"`
	Status string    `json:"status"` // one of the Status constants
	Error  string    `json:"error"`
}

// What became of a delivery.
const (
	StatusRetrying = "retrying"
	StatusDead     = "dead-letter" // it is in the dead-letter queue
	StatusDropped  = "dropped"     // there is no dead-letter queue, or it cannot be used
)

// Counts are totals since the process began, and how much waits now.
type Counts struct {
	Delivered, Dead, Dropped, Attempts uint64
	Waiting                            int
}

// maxOutcomes bounds the list of outcomes.
const maxOutcomes = 256

// Deliverer delivers. New makes it; Run carries out the retries.
type Deliverer struct {
	cfg     Config
	records *state.Records
	node    string // tells this process's claims from others'

	mu       sync.Mutex
	waiting  map[string]*pending
	outcomes []Outcome // the newest last
	counts   Counts
}

// New makes a deliverer. The error says what is missing in cfg.
func New(cfg Config) (*Deliverer, error) {
	if cfg.Store == nil || cfg.Enqueue == nil || cfg.Send == nil {
		return nil, errors.New("trigger/delivery: Store, Enqueue and Send are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Deliverer{cfg: cfg, records: cfg.Store.Records("delivery"), node: uuid.NewString(), waiting: map[string]*pending{}}, nil
}

// attemptTime bounds one attempt. A rule has five targets at most, all of which are tried while its claim holds.
const attemptTime = 5 * time.Second

// Deliver makes the first attempt. It returns nil when x was delivered, is dead, or is stored to be tried again; an error
// says that x is nowhere.
func (d *Deliverer) Deliver(ctx context.Context, x Delivery) error {
	err := d.attempt(ctx, &x, 1)
	if err == nil {
		d.count(func(c *Counts) { c.Delivered++ })
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p := &pending{Delivery: x, Tries: 1}
	if why := p.over(d.cfg.Now(), err); why != alive {
		if again := d.bury(ctx, p, why, err); again == nil {
			return nil
		}
		p.Buried, p.Why = true, why
	}
	p.Error, p.Next = err.Error(), d.cfg.Now().Add(backoff(x.ID, 1))
	if stored := d.records.Create(ctx, x.ID, p); stored != nil && !errors.Is(stored, state.ErrExists) {
		return fmt.Errorf("deliver %s to %s: %w; it cannot be kept either: %w", x.ID, x.Target, err, stored)
	}
	d.note(ctx, p, StatusRetrying, err)
	return nil
}

// attempt tries once. n counts attempts from 1.
func (d *Deliverer) attempt(ctx context.Context, x *Delivery, n int) error {
	d.count(func(c *Counts) { c.Attempts++ })
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	to, err := ParseTarget(d.cfg.Account, x.Target)
	if err != nil {
		return err
	}
	input := x.Input
	if x.Kind == FromSchedule {
		input = x.fill(n)
	}
	if to.Queue == "" {
		return d.cfg.Enqueue(ctx, Invocation{ID: x.ID, Function: to.Function, Payload: input, Trace: x.Trace, Once: x.Once})
	}
	m := queues.Message{ID: x.ID, Body: input}
	if x.Trace != "" {
		m.Meta = queues.SQSMeta{System: map[string]queues.SQSAttribute{"AWSTraceHeader": {Type: "String", String: x.Trace}}}.Encode()
	}
	if strings.HasSuffix(to.Queue, ".fifo") {
		m.Group, m.Dedup = x.Group, x.ID
	}
	return d.cfg.Send(ctx, to.Queue, m)
}

// fill replaces the keywords that AWS's page "Adding context attributes" lists.
func (x *Delivery) fill(n int) []byte {
	if !strings.Contains(string(x.Input), "<aws.scheduler.") {
		return x.Input
	}
	return []byte(strings.NewReplacer(
		"<aws.scheduler.schedule-arn>", x.Source,
		"<aws.scheduler.scheduled-time>", x.Time.UTC().Format(time.RFC3339),
		"<aws.scheduler.execution-id>", x.execution(n),
		"<aws.scheduler.attempt-number>", strconv.Itoa(n),
	).Replace(string(x.Input)))
}

// execution is an id of one attempt, as long as AWS's.
func (x *Delivery) execution(n int) string {
	sum := sha256.Sum256([]byte(x.ID + "/" + strconv.Itoa(n)))
	return hex.EncodeToString(sum[:8])
}

func (d *Deliverer) count(change func(*Counts)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.counts)
}

// Counts gives the totals.
func (d *Deliverer) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.counts
	c.Waiting = len(d.waiting)
	return c
}

// Outcomes gives the newest failures of this process, the newest first.
func (d *Deliverer) Outcomes() []Outcome {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]Outcome, 0, len(d.outcomes))
	for i := len(d.outcomes) - 1; i >= 0; i-- {
		list = append(list, d.outcomes[i])
	}
	return list
}

// note counts, logs and lists an outcome that is not a delivery.
func (d *Deliverer) note(ctx context.Context, p *pending, status string, err error) {
	now := d.cfg.Now().UTC()
	level := slog.LevelWarn
	d.mu.Lock()
	switch status {
	case StatusDead:
		d.counts.Dead++
	case StatusDropped:
		d.counts.Dropped++
		level = slog.LevelError
	}
	d.outcomes = append(d.outcomes, Outcome{At: now, ID: p.ID, Source: p.Source, Target: p.Target, Status: status, Error: err.Error()})
	if len(d.outcomes) > maxOutcomes {
		d.outcomes = append([]Outcome(nil), d.outcomes[len(d.outcomes)-maxOutcomes:]...)
	}
	d.mu.Unlock()
	d.cfg.Log.Log(ctx, level, "an event was not delivered", "status", status, "source", p.Source, "target", p.Target, "id", p.ID, "attempts", p.Tries, "error", err)
}
