package extensions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// earlyEvents and earlyBytes bound what is kept of init for who subscribes later in it.
	earlyEvents = 1000
	earlyBytes  = 256 << 10
	// maxHeld bounds what all subscribers of an environment have waiting and on its way, bytes.
	maxHeld = 4 << 20
	// attempts is how often a batch is sent before it is dropped, with pauses that double from firstPause.
	attempts   = 5
	firstPause = 50 * time.Millisecond
	// answerBytes is how much of a subscriber's answer is read.
	answerBytes = 64 << 10

	reasonSlow   = "Consumer seems to have fallen behind as it has not acknowledged receipt of logs."
	reasonFailed = "Some logs were dropped because the consumer did not take them: "
)

// telemetry are the subscribers of one environment. Its lock is held for copying only.
type telemetry struct {
	host      *Host
	listening atomic.Bool // somebody takes events, or may yet
	held      atomic.Int64

	mu          sync.Mutex
	subscribers []*subscriber
	early       []*event
	earlySize   int
	closed      bool // to subscriptions
	over        bool
	work        sync.WaitGroup
}

func (t *telemetry) init(h *Host) {
	t.host = h
	t.listening.Store(true)
}

// emit gives an event to who takes it. It never waits.
func (t *telemetry) emit(e *event) {
	if !t.listening.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return
	}
	for _, s := range t.subscribers {
		s.take(e)
	}
	if t.closed {
		return
	}
	size := e.size + 128
	if len(t.early) < earlyEvents && t.earlySize+size <= earlyBytes {
		t.early = append(t.early, e)
		t.earlySize += size
	}
}

// errSubscriptionClosed says that init is over.
var errSubscriptionClosed = errors.New("extensions: the subscription is closed")

// subscribe enters a subscriber, which gets what there was of init first. A further subscription of an extension, which already
// tells of, takes the place of the first: there is one of each.
func (t *telemetry) subscribe(name string, s *subscription) (already bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.over {
		return false, errSubscriptionClosed
	}
	for _, known := range t.subscribers {
		if known.name == name {
			known.mu.Lock()
			known.subscription = *s
			known.mu.Unlock()
			return true, nil
		}
	}
	subscriber := newSubscriber(t.host, name, s)
	for _, e := range t.early {
		subscriber.take(e)
	}
	t.subscribers = append(t.subscribers, subscriber)
	t.work.Add(1)
	go func() {
		defer t.work.Done()
		subscriber.run(t.host.ctx)
	}()
	return false, nil
}

func (t *telemetry) closeSubscription() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.early = nil
	t.listening.Store(len(t.subscribers) > 0)
}

// Budget bounds what all environments of a node together have waiting for subscribers, which may take their time. The zero
// value is ready for use.
type Budget struct{ held atomic.Int64 }

// maxBudget is what a Budget allows, bytes.
const maxBudget = 256 << 20

// hold counts bytes that are about to wait, unless there would be too many.
func (t *telemetry) hold(size int) bool {
	budget := t.host.cfg.Budget
	switch {
	case t.held.Add(int64(size)) > maxHeld:
	case budget != nil && budget.held.Add(int64(size)) > maxBudget:
		budget.held.Add(-int64(size))
	default:
		return true
	}
	t.held.Add(-int64(size))
	return false
}

// release counts bytes that wait no longer.
func (t *telemetry) release(size int64) {
	t.held.Add(-size)
	if budget := t.host.cfg.Budget; budget != nil {
		budget.held.Add(-size)
	}
}

// flush has everything delivered that is buffered, without waiting for it.
func (t *telemetry) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.subscribers {
		s.flush()
	}
}

// close waits for the deliverers, whose context has ended.
func (t *telemetry) close() {
	t.mu.Lock()
	t.over = true
	t.listening.Store(false)
	t.mu.Unlock()
	t.work.Wait()
	t.release(t.held.Load()) // what is waiting yet goes with the environment
}

// serveSubscribe is the Subscribe operation of either API.
func (h *Host) serveSubscribe(api string) func(http.ResponseWriter, *http.Request, *extension) {
	prefix := ""
	if api == logsAPI {
		prefix = "Logs."
	}
	return func(w http.ResponseWriter, r *http.Request, x *extension) {
		body, err := readBody(r)
		if err != nil {
			refuse(w, http.StatusBadRequest, prefix+"ValidationError", err.Error())
			return
		}
		s, problems := parseSubscription(api, body)
		if h.cfg.Dial == nil {
			problems = append(problems, "telemetry cannot be delivered into this sandbox: its network cannot be entered without root")
		}
		h.mu.Lock()
		if x.subscribed != "" && x.subscribed != api {
			problems = append(problems, "the extension takes telemetry by the "+x.subscribed+" API already")
		}
		if len(problems) == 0 {
			x.subscribed = api
		}
		h.mu.Unlock()
		if len(problems) > 0 {
			refuse(w, http.StatusBadRequest, prefix+"ValidationError", strings.Join(problems, "; "))
			return
		}
		already, err := h.telemetry.subscribe(x.name, &s)
		if err != nil {
			refuse(w, http.StatusForbidden, api+".SubscriptionClosed", api+" API subscription is closed already")
			return
		}
		now := time.Now()
		line, kind := "TELEMETRY", "platform.telemetrySubscription"
		if api == logsAPI {
			line, kind = "LOGS", "platform.logsSubscription"
		}
		record := subscribed{x.name, "Subscribed", s.categories}
		if already {
			record.State = "Already subscribed"
		}
		e := &event{at: now, category: categoryPlatform, kind: kind}
		if e.telemetry = record; api == logsAPI {
			e.telemetry, e.logs = nil, record
		}
		h.tell(fmt.Sprintf("%s\tName: %s\tState: %s\tTypes: [%s]", line, printable(x.name), record.State, strings.Join(s.categories, ", ")), e)
		if h.cfg.WaitRoom != nil {
			h.cfg.WaitRoom(r.Context()) // one that subscribes without end writes that many lines
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `"OK"`)
	}
}

// subscriber buffers one extension's telemetry and delivers it: at most one buffer on its way and one that fills.
type subscriber struct {
	host *Host
	name string
	wake chan struct{}

	mu           sync.Mutex
	subscription subscription
	pending      [][]byte
	bytes        int
	since        time.Time // when the first of pending came
	urgent       bool
	dropped      dropped

	client    *http.Client
	conn      net.Conn
	connected int // the port that conn is to
}

func newSubscriber(h *Host, name string, s *subscription) *subscriber {
	return &subscriber{host: h, name: name, subscription: *s, wake: make(chan struct{}, 1)}
}

// take buffers an event, or drops and counts it.
func (s *subscriber) take(e *event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.subscription.wants(e.category) {
		return
	}
	encoded := e.encode(&s.subscription)
	if encoded == nil {
		return
	}
	// One event may be larger than the whole buffer.
	full := len(s.pending) > 0 && s.bytes+len(encoded) > s.subscription.bytes || len(s.pending) >= s.subscription.items
	if full || !s.host.telemetry.hold(len(encoded)) {
		s.drop(1, len(encoded), reasonSlow)
		return
	}
	if len(s.pending) == 0 {
		s.since = time.Now()
	}
	s.pending = append(s.pending, encoded)
	s.bytes += len(encoded)
	if len(s.pending) == 1 || s.full() {
		s.signal()
	}
}

func (s *subscriber) drop(records, size int, reason string) {
	s.dropped.Records += records
	s.dropped.Bytes += size
	s.dropped.Reason = reason
}

// full says whether the buffer is delivered without waiting for its time: at half of what it may hold, so that there is
// room for what comes meanwhile.
func (s *subscriber) full() bool {
	return s.bytes >= s.subscription.bytes/2 || len(s.pending) >= s.subscription.items/2
}

func (s *subscriber) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscriber) flush() {
	s.mu.Lock()
	s.urgent = true
	s.mu.Unlock()
	s.signal()
}

// delivery is a batch on its way.
type delivery struct {
	to     subscription
	batch  [][]byte
	body   []byte  // the batch, joined
	events int     // those that were waiting
	size   int     // theirs, bytes
	told   dropped // what the platform.logsDropped behind them tells, if there is one
}

// due gives what is to be delivered now, or how long to wait for it; neither: until something comes.
func (s *subscriber) due(now time.Time) (d *delivery, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == 0 {
		s.urgent = false
		return nil, 0
	}
	if left := s.subscription.timeout - now.Sub(s.since); left > 0 && !s.urgent && !s.full() {
		return nil, left
	}
	d = &delivery{to: s.subscription, batch: s.pending, events: len(s.pending), size: s.bytes}
	if s.dropped.Records > 0 && s.subscription.wants(categoryPlatform) {
		d.told, s.dropped = s.dropped, dropped{}
		e := event{at: now, category: categoryPlatform, kind: "platform.logsDropped", telemetry: d.told, logs: d.told}
		d.batch = append(d.batch, e.encode(&s.subscription))
	}
	s.pending, s.bytes, s.urgent = nil, 0, false
	return d, 0
}

// join makes the batch one body, which takes its place: lines of JSON for TCP, an array for HTTP.
func (d *delivery) join() {
	first, between, last := "[", ",", "]"
	if d.to.tcp {
		first, between, last = "", "\n", "\n"
	}
	room := len(first) + len(last)
	for _, event := range d.batch {
		room += len(event) + len(between)
	}
	d.body = append(make([]byte, 0, room), first...)
	for i, event := range d.batch {
		if i > 0 {
			d.body = append(d.body, between...)
		}
		d.body = append(d.body, event...)
	}
	d.body = append(d.body, last...)
	d.batch = nil
}

// run delivers until ctx ends.
func (s *subscriber) run(ctx context.Context) {
	defer s.disconnect()
	for ctx.Err() == nil {
		d, wait := s.due(time.Now())
		if d != nil {
			d.join()
			err := s.send(ctx, d)
			s.host.telemetry.release(int64(d.size))
			if err != nil && ctx.Err() == nil {
				s.mu.Lock()
				s.drop(d.told.Records+d.events, d.told.Bytes+d.size, reasonFailed+err.Error())
				s.mu.Unlock()
			}
			continue
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-s.wake:
		case <-timer:
		case <-ctx.Done():
		}
	}
}

// send delivers a batch, again after growing pauses where the consumer does not take it.
func (s *subscriber) send(ctx context.Context, d *delivery) (err error) {
	for attempt, pause := 0, firstPause; attempt < attempts; attempt, pause = attempt+1, 2*pause {
		if attempt > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if d.to.tcp {
			err = s.stream(ctx, d)
		} else {
			err = s.post(ctx, d)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// stream writes what is delivered. The connection is kept.
func (s *subscriber) stream(ctx context.Context, d *delivery) (err error) {
	if s.conn != nil && s.connected != d.to.port {
		s.conn.Close()
		s.conn = nil
	}
	if s.conn == nil {
		if s.conn, err = s.host.cfg.Dial(ctx, d.to.port); err != nil {
			return brief(err)
		}
		s.connected = d.to.port
	}
	conn := s.conn // which is nil by the time at which a late end of ctx comes to it
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err = conn.Write(d.body); err != nil {
		conn.Close()
		s.conn = nil
	}
	return brief(err)
}

// post sends what is delivered. There is no limit of time: the environment may be frozen meanwhile, and what the
// consumer keeps waiting is its own buffer.
func (s *subscriber) post(ctx context.Context, d *delivery) error {
	if s.client == nil {
		s.client = s.newClient()
	}
	r, err := http.NewRequestWithContext(ctx, d.to.method, d.to.url, bytes.NewReader(d.body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := s.client.Do(r)
	if err != nil {
		return brief(err)
	}
	defer response.Body.Close()
	io.CopyN(io.Discard, response.Body, answerBytes) //nolint:errcheck // the status is what counts
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("it answered with status %d", response.StatusCode)
	}
	return nil
}

// gated is a connection on which nothing is heard before something has been said. What a consumer says unasked, the transport
// would write into the platform's own log.
type gated struct {
	net.Conn
	open func()
	said chan struct{}
}

func gate(c net.Conn) net.Conn {
	said := make(chan struct{})
	return &gated{c, sync.OnceFunc(func() { close(said) }), said}
}

func (g *gated) Read(b []byte) (int, error) {
	<-g.said
	return g.Conn.Read(b)
}

func (g *gated) Write(b []byte) (int, error) {
	g.open()
	return g.Conn.Write(b)
}

func (g *gated) Close() error {
	defer g.open()
	return g.Conn.Close()
}

// newClient makes a client that can reach nothing but ports inside the sandbox, wherever an answer points. Each request has a
// connection of its own: on one that is kept an answer too many would be one that is unasked.
func (s *subscriber) newClient() *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				s.mu.Lock()
				port := s.subscription.port
				s.mu.Unlock()
				c, err := s.host.cfg.Dial(ctx, port)
				if err != nil {
					return nil, err
				}
				return gate(c), nil
			},
			DisableCompression: true, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
		},
	}
}

func (s *subscriber) disconnect() {
	if s.client != nil {
		s.client.CloseIdleConnections()
	}
	if s.conn != nil {
		s.conn.Close()
	}
}

// brief is an error's inmost cause, without the address that the function does not know.
func brief(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
