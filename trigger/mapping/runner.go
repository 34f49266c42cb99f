package mapping

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"thaw"
)

// ending is how a runner is told to end.
type ending int

const (
	drain    ending = iota + 1 // the mapping is disabled, changed or deleted: what was received is still worked on
	giveBack                   // the platform stops: what no function has yet goes back
)

// Bounds of a runner's waits.
const (
	pollWait    = 20 * time.Second // of one receive; SQS's longest
	firstPause  = 100 * time.Millisecond
	longestStep = 5 * time.Second // between two attempts at anything
	settleTries = 5
	// spare is what may be missing of the time that a function may take when it is invoked: queues whose visibility timeout
	// equals the function's timeout would have every message hidden anew.
	spare = time.Second
	// keepAhead is for how much longer than needed messages are hidden anew, so that it is not done at each attempt.
	keepAhead = 30 * time.Second
)

// maxEvent is how large an event may become, bytes: a synchronous invocation's payload.
const maxEvent = thaw.MaxPayload

// runner runs one revision of one mapping.
type runner struct {
	loop    *Loop
	mapping *Mapping
	gate    *gate
	scaler  scaler // under scaling
	scaling sync.Mutex

	receiving context.Context // until the runner is told to end
	stop      context.CancelFunc
	working   context.Context // until the platform waits no longer
	cut       context.CancelFunc
	how       atomic.Int32 // an ending, once it is told
	finished  chan struct{}
	batches   sync.WaitGroup

	source  atomic.Pointer[source]
	result  atomic.Pointer[string] // the last outcome; what was noted of it is noted
	noted   string
	notedAt time.Time
	said    atomic.Pointer[string] // the last failure that was logged
}

// newRunner makes the runner of a mapping as it is now. Of ctx it has the values only: what ends it is end.
func newRunner(ctx context.Context, l *Loop, m *Mapping) *runner {
	r := &runner{loop: l, mapping: m, finished: make(chan struct{}), noted: m.LastResult}
	ctx = context.WithoutCancel(ctx)
	r.receiving, r.stop = context.WithCancel(ctx)
	r.working, r.cut = context.WithCancel(ctx)
	r.scaler.limit = min(startBatches, r.ceiling())
	r.gate = newGate(r.scaler.limit)
	return r
}

// run receives and processes until the runner is told to end, and returns when the last batch is settled.
func (r *runner) run() {
	defer r.loop.poke()
	defer close(r.finished)
	defer r.cut()
	defer r.stop()
	f, err := newFilter(r.mapping.Filters)
	if err != nil { // the API refuses such filters: the record is another version's
		r.fail("the mapping's filters cannot be read", err)
		<-r.receiving.Done()
		return
	}
	s := r.open()
	if s == nil {
		return
	}
	defer s.close()
	r.source.Store(&s)
	var receivers sync.WaitGroup
	for range max(1, s.receivers()) {
		receivers.Go(func() { r.receive(s, f) })
	}
	receivers.Wait()
	r.batches.Wait()
}

// open opens the source, trying until it is there; nil when the runner is told to end before.
func (r *runner) open() source {
	for pause := firstPause; ; pause = longer(pause) {
		s, err := r.loop.open(r.receiving, r.mapping)
		if err == nil {
			return s
		}
		if r.receiving.Err() != nil {
			return nil
		}
		r.fail("the source of a mapping cannot be opened", err)
		if !r.rest(pause) {
			return nil
		}
	}
}

// end tells the runner to end; a later call may make it more urgent.
func (r *runner) end(how ending) {
	r.how.Store(int32(how))
	r.stop()
}

// abandon has the runner wait for nothing any more. What functions still work on comes again.
func (r *runner) abandon() { r.cut() }

func (r *runner) ended() bool {
	select {
	case <-r.finished:
		return true
	default:
		return false
	}
}

// rest waits, and reports false when the runner was told to end meanwhile. Half of the wait is random, so that many that
// failed together do not come back together.
func (r *runner) rest(pause time.Duration) bool {
	timer := time.NewTimer(pause/2 + rand.N(pause/2+1)) //nolint:gosec // no secret
	defer timer.Stop()
	select {
	case <-r.receiving.Done():
		return false
	case <-timer.C:
		return true
	}
}

func longer(pause time.Duration) time.Duration { return min(2*pause, longestStep) }

// receive gathers batches, one after the other, each when there is a place for it.
func (r *runner) receive(s source, f filter) {
	c := collector{source: s, size: r.mapping.BatchSize, window: time.Duration(r.mapping.Window) * time.Second, polled: func(n int) { r.count(metricPolled, n) }}
	pause := firstPause
	for r.gate.acquire(r.receiving) == nil {
		batch, err := c.next(r.receiving)
		if len(batch) == 0 {
			r.gate.release()
			switch {
			case err == nil || r.receiving.Err() != nil:
			default:
				r.fail("messages cannot be received", err)
				r.rest(pause)
				pause = longer(pause)
			}
			continue
		}
		pause = firstPause
		if len(c.carry) > 0 && r.mapping.Source.FIFO() {
			// What had no room may be of the same groups: it must not overtake the batch, nor run beside it.
			if !r.process(s, f, batch) {
				r.handBack(s, c.carry)
				c.carry = nil
			}
			r.gate.release()
			continue
		}
		r.batches.Go(func() {
			defer r.gate.release()
			r.process(s, f, batch)
		})
	}
	if len(c.carry) > 0 {
		r.handBack(s, c.carry)
	}
}

// handBack gives messages back that no function has got, to be received at once.
func (r *runner) handBack(s source, messages []message) {
	if err := s.hide(r.working, messages, 0); err != nil {
		r.fail("messages that were received cannot be given back and show after their visibility timeout", err)
	}
}

// process has a batch go through the filter and the function, and settles it. It tells whether all of it is dealt with.
func (r *runner) process(s source, f filter, batch []message) bool {
	wanted, others := f.sift(batch)
	if len(f) > 0 {
		r.count(metricFiltered, len(others))
	}
	r.settle(s, others)
	return len(wanted) == 0 || r.handle(s, wanted)
}

// handle is process for messages that are for the function.
func (r *runner) handle(s source, wanted []message) bool {
	if ending(r.how.Load()) == giveBack {
		r.handBack(s, wanted)
		return false
	}
	end := r.gate.work()
	result, err := r.invoke(s, wanted)
	end(err == nil)
	switch {
	case r.working.Err() != nil:
	case errors.Is(err, errGivenBack):
	case thaw.CodeOf(err) == thaw.CodeRecursiveInvocation && len(wanted) > 1 && !r.mapping.Source.FIFO():
		// One of them is part of a loop. The others shall not share its fate.
		half := len(wanted) / 2
		first := r.handle(s, wanted[:half])
		return r.handle(s, wanted[half:]) && first
	case err != nil:
		r.backOff()
		r.fail("a function cannot be invoked", err)
		r.failed(s, wanted)
	case result.FunctionError:
		if !r.mapping.ReportFailures { // AWS slows down only then
			r.backOff()
		}
		r.note(resultFailed)
		r.failed(s, wanted)
	default:
		return r.succeeded(s, wanted, result.Payload)
	}
	return false
}

// The outcomes that LastProcessingResult tells of, after AWS's for streams.
const (
	resultOK     = "OK"
	resultFailed = "PROBLEM: Function call failed"
)

// succeeded settles a batch after its function's response. It tells whether all of it is dealt with.
func (r *runner) succeeded(s source, batch []message, response []byte) bool {
	if !r.mapping.ReportFailures {
		r.note(resultOK)
		r.processed(s, batch)
		return true
	}
	failed, all := failures(response, batch)
	switch {
	case all:
		r.note("PROBLEM: The function's response is not a partial batch response")
		r.count(metricFailed, len(batch))
		r.failed(s, batch)
	case len(failed) > 0:
		done, again := split(batch, failed)
		r.note(fmt.Sprintf("PROBLEM: The function reported %d of %d messages as failed", len(again), len(batch)))
		r.count(metricFailed, len(again))
		r.processed(s, done)
		r.failed(s, again)
	default:
		r.note(resultOK)
		r.processed(s, batch)
		return true
	}
	return false
}

// errGivenBack says that a batch went back to its source.
var errGivenBack = errors.New("given back")

// invoke invokes the function with a batch, again and again while it throttles or the platform cannot invoke it now. The
// messages stay hidden meanwhile.
func (r *runner) invoke(s source, batch []message) (Result, error) {
	c := &Call{Function: thaw.FunctionRef{Name: r.mapping.Function}, Qualifier: r.mapping.Qualifier, Payload: event(batch), Traces: traces(batch)}
	if err := r.keep(s, batch, 0); err != nil {
		return Result{}, err
	}
	for pause := firstPause; ; pause = longer(pause) {
		result, err := r.call(c)
		r.countAttempt(len(batch), result, err)
		if err == nil || !passing(err) {
			return result, err
		}
		r.backOff()
		r.problem(err)
		if r.ceiling() > 0 {
			if err := r.keep(s, batch, pause); err != nil {
				return Result{}, err
			}
			if r.rest(pause) {
				continue
			}
		} // otherwise the function is gone or stopped, and the messages wait in the queue
		if r.working.Err() == nil {
			r.handBack(s, batch)
		}
		return Result{}, errGivenBack
	}
}

// traces are those that the messages of a batch have, one that several in a row have once.
func traces(batch []message) []string {
	var all []string
	for i := range batch {
		if t := batch[i].trace; t != "" && (len(all) == 0 || all[len(all)-1] != t) {
			all = append(all, t)
		}
	}
	return all
}

// call invokes once. A function that is still at work when the platform waits no longer is left to itself.
func (r *runner) call(c *Call) (Result, error) {
	type outcome struct {
		result Result
		err    error
	}
	ended := make(chan outcome, 1)
	go func() {
		result, err := r.loop.cfg.Invoke(r.working, c)
		ended <- outcome{result, err}
	}()
	select {
	case o := <-ended:
		return o.result, o.err
	case <-r.working.Done():
		return Result{}, r.working.Err()
	}
}

// passing reports whether an invocation may succeed later without anybody changing the batch.
func passing(err error) bool {
	switch thaw.CodeOf(err) {
	case thaw.CodeTooManyRequests, thaw.CodeService, thaw.CodeResourceNotFound, thaw.CodeResourceConflict, thaw.CodeResourceNotReady, thaw.CodeInternal:
		return true
	}
	return false
}

// keep sees to it that nobody else gets the messages of a batch during a pause and while the function works on them.
func (r *runner) keep(s source, batch []message, pause time.Duration) error {
	needed := pause + r.timeout()
	until := time.Now().Add(needed)
	short := false
	for i := range batch {
		if h := batch[i].hidden; !h.IsZero() && h.Before(until.Add(-spare)) {
			short = true
		}
	}
	if !short {
		return nil
	}
	d := needed + keepAhead
	if err := s.hide(r.working, batch, d); err != nil {
		return fmt.Errorf("keep messages hidden: %w", err)
	}
	hidden := time.Now().Add(d)
	for i := range batch {
		batch[i].hidden = hidden
	}
	return nil
}

// timeout is how long the function may work on a batch.
func (r *runner) timeout() time.Duration {
	f, ok := r.loop.cfg.Functions.Function(r.mapping.Function)
	if !ok {
		return 0
	}
	return Timeout(f, r.mapping.Qualifier)
}

// Timeout is the longest that an invocation of a function's qualifier may take, that of both versions of an alias.
func Timeout(f *thaw.Function, qualifier string) time.Duration {
	seconds := 0
	for _, number := range versions(f, qualifier) {
		if v := f.Version(number); v != nil {
			seconds = max(seconds, v.Timeout)
		}
	}
	return time.Duration(seconds) * time.Second
}

// versions are those that a qualifier stands for.
func versions(f *thaw.Function, qualifier string) []string {
	switch alias, ok := f.Aliases[qualifier]; {
	case ok && alias.Other != "":
		return []string{alias.Version, alias.Other}
	case ok:
		return []string{alias.Version}
	case qualifier == "":
		return []string{thaw.Latest}
	default:
		return []string{qualifier}
	}
}

// processed is settle for what the function has dealt with.
func (r *runner) processed(s source, messages []message) {
	if len(messages) == 0 {
		return
	}
	deleted := 0
	if r.settle(s, messages) {
		deleted = len(messages)
	}
	r.count(metricDeleted, deleted)
}

// settle deletes messages that are dealt with, and tells whether it could. One that cannot be deleted comes again, so that
// it is tried a few times.
func (r *runner) settle(s source, messages []message) bool {
	if len(messages) == 0 {
		return true
	}
	var err error
	pause := firstPause
	for range settleTries {
		if err = s.done(r.working, messages); err == nil || r.working.Err() != nil {
			return err == nil
		}
		r.rest(pause)
		pause = longer(pause)
	}
	r.fail("messages that a function has dealt with cannot be deleted and will come again", err)
	return false
}

func (r *runner) failed(s source, messages []message) {
	if err := s.failed(r.working, messages); err != nil && r.working.Err() == nil {
		r.fail("the source cannot be told of messages that a function failed on", err)
	}
}
