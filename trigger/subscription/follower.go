package subscription

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"thaw"
	"thaw/state"
	"thaw/telemetry/filter"
	"thaw/telemetry/groups"
)

// Bounds of a follower.
const (
	// gather is how long events wait for others of their stream.
	gather = 250 * time.Millisecond
	// maxGathered is how many bytes of messages are gathered at most, and maxPayload how many one payload has of them: an
	// asynchronous invocation takes 1 MiB, and what cannot be compressed grows by a third.
	maxGathered = 4 << 20
	maxPayload  = 700 << 10
	// Pauses between attempts, and for how long a payload is tried, as on AWS.
	firstPause  = 100 * time.Millisecond
	maxPause    = time.Minute
	maxAttempts = 24 * time.Hour
	// saveEvery is how often the position is kept.
	saveEvery = time.Second
	// eventRoom is what an event has in a payload beside its message, bytes, about.
	eventRoom = 128
	// inherit is for how long what belongs to no invocation, such as the lines of an init, counts as part of the chain of
	// requests that the group's log showed last: environments that crash again and again write such lines in a loop too.
	inherit = 10 * time.Minute
)

// position is how far a filter is.
type position struct {
	After  uint64 `json:"after"`
	Filter uint64 `json:"filter"` // After of the filter that it belongs to: one that was put anew begins anew
}

// follower follows one filter.
type follower struct {
	d       *Deliverer
	key     string
	group   string
	filter  groups.Subscription
	metric  *groups.MetricFilter // nil: it is a subscription
	pattern *filter.Pattern
	meter   *meter

	cancel  context.CancelFunc
	running sync.WaitGroup

	// What was gathered, by origin in the order in which they came.
	origins []origin
	events  map[origin][]groups.Event
	size    int
	at      position // behind what was gathered
	kept    position // what is stored
	saved   time.Time
	warned  bool
	came    bool // events were read since the last flush, whether they are meant or not

	// The longest lineage that the log showed of late, and when that was.
	lineage string
	chained time.Time
}

// origin is where events that share a payload come from.
type origin struct{ stream, lineage string }

func newFollower(d *Deliverer, group string, s groups.Subscription) *follower {
	return &follower{d: d, key: group + "\x00" + s.Name, group: group, filter: s, events: map[origin][]groups.Event{}}
}

// maxKey is the longest key under which a position is kept as it is, bytes; a group and a filter may have longer names together
// than a record.
const maxKey = 1000

func positionKey(key string) string {
	if len(key) <= maxKey {
		return key
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(key)))
}

func (f *follower) start(ctx context.Context) {
	ctx, f.cancel = context.WithCancel(ctx)
	f.running.Go(func() { f.run(ctx) })
}

func (f *follower) stop() {
	f.cancel()
	f.running.Wait()
}

// read is one stored batch.
type read struct {
	sequence uint64
	events   []groups.Event // those that are meant
	some     bool           // it had events
	lineage  string         // the longest that an invocation's events have, meant or not
}

func (f *follower) run(ctx context.Context) {
	var err error
	if f.pattern, err = filter.Compile(f.filter.Pattern); err != nil {
		f.d.cfg.Log.Error("a stored subscription filter cannot be read", "log group", f.group, "filter", f.filter.Name, "error", err)
		return
	}
	if f.metric != nil {
		if f.meter, err = newMeter(f.pattern, f.metric); err != nil {
			f.d.cfg.Log.Error("a stored metric filter cannot be read", "log group", f.group, "filter", f.filter.Name, "error", err)
			return
		}
	}
	f.at = position{f.filter.After, f.filter.After}
	var kept position
	if err := f.d.positions.Get(ctx, positionKey(f.key), &kept); err == nil && kept.Filter == f.filter.After {
		f.at = kept
	}
	f.kept = f.at
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, maxPause) {
		if err := f.follow(ctx); ctx.Err() == nil {
			f.d.cfg.Log.Warn("following a log group broke off", "log group", f.group, "error", err)
			wait(ctx, pause)
		}
	}
	// What was gathered and not delivered is read again by the next start.
	f.save(context.WithoutCancel(ctx))
}

// follow gathers and delivers until ctx ends or the store fails.
func (f *follower) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := make(chan read)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	ended := make(chan error, 1)
	reading.Go(func() {
		ended <- f.d.cfg.Groups.Follow(ctx, f.group, f.at.After, func(sequence uint64, events []groups.Event) error {
			b := read{sequence: sequence, some: len(events) > 0}
			for i := range events {
				if e := &events[i]; e.RequestID != "" && len(e.Lineage) > len(b.lineage) {
					b.lineage = e.Lineage
				}
				if f.pattern.Match(events[i].Message) {
					b.events = append(b.events, events[i])
				}
			}
			select {
			case batches <- b:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return err
		case b := <-batches:
			f.add(b)
			if due == nil {
				due = time.After(gather)
			}
			if f.size < maxGathered {
				continue
			}
		case <-due:
		}
		due = nil
		if err := f.flush(ctx); err != nil {
			return err
		}
	}
}

func (f *follower) add(b read) {
	f.at.After = b.sequence
	f.came = f.came || b.some
	f.noteLineage(b.lineage)
	for _, e := range b.events {
		from := origin{e.Stream, f.lineageOf(&e)}
		if f.events[from] == nil {
			f.origins = append(f.origins, from)
		}
		f.events[from] = append(f.events[from], e)
		f.size += len(e.Message) + eventRoom
	}
}

// flush delivers what was gathered. It fails only when ctx ends.
func (f *follower) flush(ctx context.Context) error {
	if f.meter != nil {
		if err := f.measure(ctx); err != nil {
			return err
		}
		clear(f.events)
		f.origins = nil
	}
	for _, from := range f.origins {
		for events := f.events[from]; len(events) > 0; {
			n, size := 0, 0
			for n < len(events) && (n == 0 || size+len(events[n].Message)+eventRoom <= maxPayload) {
				size += len(events[n].Message) + eventRoom
				n++
			}
			if err := f.deliver(ctx, from, events[:n]); err != nil {
				return err
			}
			events = events[n:]
		}
	}
	f.origins, f.size, f.came = nil, 0, false
	clear(f.events)
	if now := f.d.cfg.Now(); now.Sub(f.saved) >= saveEvery {
		f.saved = now
		f.kept = f.at
		f.save(ctx)
	}
	return nil
}

// save keeps how far the filter is.
func (f *follower) save(ctx context.Context) {
	at := f.kept
	if len(f.origins) == 0 {
		at = f.at
	}
	ctx, cancel := context.WithTimeout(ctx, maxSave)
	defer cancel()
	if err := f.d.positions.Put(ctx, positionKey(f.key), at); err != nil && ctx.Err() == nil && !errors.Is(err, state.ErrClosed) {
		f.d.cfg.Log.Warn("the position of a subscription filter cannot be kept", "log group", f.group, "filter", f.filter.Name, "error", err)
	}
}

const maxSave = 5 * time.Second

// record is the form of CloudWatch Logs.
type record struct {
	MessageType         string   `json:"messageType"`
	Owner               string   `json:"owner"`
	LogGroup            string   `json:"logGroup"`
	LogStream           string   `json:"logStream"`
	SubscriptionFilters []string `json:"subscriptionFilters"`
	LogEvents           []event  `json:"logEvents"`
}

type event struct {
	ID              string            `json:"id"`
	Timestamp       int64             `json:"timestamp"`
	Message         string            `json:"message"`
	ExtractedFields map[string]string `json:"extractedFields,omitempty"`
}

func (f *follower) payload(stream string, events []groups.Event) ([]byte, error) {
	r := record{"DATA_MESSAGE", f.d.cfg.Account.ID, f.group, stream, []string{f.filter.Name}, make([]event, len(events))}
	for i := range events {
		e := &events[i]
		r.LogEvents[i] = event{ID: e.ID(), Timestamp: e.Event.At.UnixMilli(), Message: e.Message}
		if f.pattern.Columns() {
			r.LogEvents[i].ExtractedFields = f.pattern.Extract(e.Message)
		}
	}
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	encoder := json.NewEncoder(zip)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(r)
	if err == nil {
		err = zip.Close()
	}
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `{"awslogs":{"data":%q}}`, base64.StdEncoding.EncodeToString(b.Bytes())), nil
}

// space is the name space of the request ids, which are made from what they are for.
var space = uuid.MustParse("0f6cf3e5-6d0c-4d0e-9a39-9f6a5b6b5d5e")

// deliver hands events of a stream over. It fails only when ctx ends.
func (f *follower) deliver(ctx context.Context, from origin, events []groups.Event) error {
	payload, err := f.payload(from.stream, events)
	if err != nil {
		return err
	}
	// After a crash events may be gathered in other portions: only the same ones are the same invocation.
	of := fmt.Sprintf("%s\x00%s%s%d", f.key, events[0].ID(), events[len(events)-1].ID(), len(events))
	ref, _ := thaw.ParseFunctionRef(f.filter.Destination)
	i := Invocation{Function: ref, ID: uuid.NewSHA1(space, []byte(of)).String(), Payload: payload, Lineage: from.lineage}
	mark := f.d.markOf(ref.Name)
	again := recurs(i.Lineage, mark)
	switch {
	case i.Lineage == "":
		i.Lineage = mark + ":1"
	case !again:
		i.Lineage += "|" + mark + ":1"
	}
	return f.try(ctx, len(events), func() error {
		if err := f.allowed(ref, again); err != nil {
			return err
		}
		if err := f.d.cfg.Enqueue(ctx, i); err != nil {
			return err
		}
		f.d.count(func(c *Counts) { c.Delivered++ })
		return nil
	})
}

// try delivers events until that succeeds or is of no use. It fails only when ctx ends.
func (f *follower) try(ctx context.Context, events int, attempt func() error) error {
	begin := f.d.cfg.Now()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := attempt()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			f.warned = false
			return nil
		}
		if final(err) || f.d.cfg.Now().Sub(begin) > maxAttempts {
			f.d.count(func(c *Counts) { c.Dropped += uint64(events) })
			if !f.warned { // once, until something is delivered again
				f.d.cfg.Log.Warn("log events for a filter were dropped", "log group", f.group, "filter", f.filter.Name, "events", events, "error", err)
				f.warned = true
			}
			return nil
		}
		wait(ctx, pause)
	}
}

// lineageOf is the lineage of the chain of requests in which an event was written, empty where it was in none.
func (f *follower) lineageOf(e *groups.Event) string {
	if e.RequestID == "" && e.Lineage == "" && f.d.cfg.Now().Sub(f.chained) < inherit {
		return f.lineage
	}
	return e.Lineage
}

// noteLineage keeps a lineage that the log has shown.
func (f *follower) noteLineage(lineage string) {
	now := f.d.cfg.Now()
	if lineage != "" && (len(lineage) >= len(f.lineage) || now.Sub(f.chained) >= inherit) {
		f.lineage, f.chained = lineage, now
	}
}

// markOf stands in a lineage for a function that logs have invoked. It has the form of AWS's hashes. Who invokes a function can
// make up a lineage, and must not be able to hide what that writes from a function that watches its log: nobody knows the mark
// but who is in the chain behind it.
func (d *Deliverer) markOf(function string) string {
	h := hmac.New(sha256.New, d.secret[:])
	h.Write([]byte(function)) //nolint:errcheck // hashes never fail
	return fmt.Sprintf("%x", h.Sum(nil)[:4])
}

// recurs reports whether a lineage has a mark.
func recurs(lineage, mark string) bool {
	for entry := range strings.SplitSeq(lineage, "|") {
		if strings.HasPrefix(entry, mark+":") {
			return true
		}
	}
	return false
}

// allowed refuses functions that are gone, that do not let CloudWatch Logs invoke them any more, those that write to the
// group themselves by now: they would be invoked for what they write about that, and those that logs have invoked before
// in the same chain of requests.
func (f *follower) allowed(ref thaw.FunctionRef, recurs bool) error {
	fn, ok := f.d.cfg.Functions.Function(ref.Name)
	if !ok {
		return thaw.Errorf(thaw.CodeResourceNotFound, "Function not found: %s", f.filter.Destination)
	}
	if groups.WritesTo(fn, ref.Qualifier, f.group) {
		return thaw.Errorf(thaw.CodeInvalidParameterValue, "The function writes to the log group %s itself.", f.group)
	}
	if recurs && fn.RecursiveLoop != thaw.RecursionAllow {
		return thaw.Errorf(thaw.CodeRecursiveInvocation, "These events were written in consequence of others that logs had invoked the function for already. If the loop is meant, allow it with PutFunctionRecursionConfig.")
	}
	if !groups.Permits(fn.Policies[ref.Qualifier], f.d.cfg.Account, f.group) {
		return thaw.Errorf(thaw.CodeAccessDenied, "The function's policy does not permit CloudWatch Logs to invoke it.")
	}
	return nil
}

// final reports whether trying again is of no use.
func final(err error) bool {
	told, ok := errors.AsType[*thaw.Error](err)
	return ok && slices.Contains([]thaw.ErrorCode{
		thaw.CodeResourceNotFound, thaw.CodeAccessDenied, thaw.CodeInvalidParameterValue, thaw.CodeInvalidRequestContent,
		thaw.CodeRequestTooLarge, thaw.CodeRequestEntityTooLarge, thaw.CodeRecursiveInvocation, thaw.CodeLimitExceeded,
	}, told.Code)
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
