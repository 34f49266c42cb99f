package queues

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// pipe sends requests to the engine without waiting for the answer to the one before. Answers are handled one after the
// other, in the order in which they come, which for writes is the order in which they were made.
type pipe struct {
	nc    *nats.Conn
	inbox string

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]answered
	closed  bool
}

// answered handles an answer, or says why there will be none. It must not wait.
type answered func(msg *nats.Msg, err error)

// errLost leaves the outcome of a write open. What was written and not acknowledged shows when the store is opened again.
var errLost = errors.New("the connection to the state engine broke off; try again")

func newPipe(nc *nats.Conn) (*pipe, error) {
	p := &pipe{nc: nc, inbox: nats.NewInbox() + ".", waiting: map[uint64]answered{}}
	sub, err := nc.Subscribe(p.inbox+"*", p.answer)
	if err != nil {
		return nil, err
	}
	return p, sub.SetPendingLimits(-1, -1) // callers bound what they ask
}

func (p *pipe) answer(msg *nats.Msg) {
	n, err := strconv.ParseUint(strings.TrimPrefix(msg.Subject, p.inbox), 36, 64)
	if err != nil {
		return
	}
	p.mu.Lock()
	done := p.waiting[n]
	delete(p.waiting, n)
	p.mu.Unlock()
	if done != nil {
		done(msg, nil)
	}
}

// send makes a request. done is called exactly once, on another goroutine, unless send fails.
func (p *pipe) send(msg *nats.Msg, done answered) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	p.last++
	n := p.last
	p.waiting[n] = done
	p.mu.Unlock()
	msg.Reply = p.inbox + strconv.FormatUint(n, 36)
	err := p.nc.PublishMsg(msg)
	if err == nil {
		return nil
	}
	p.mu.Lock()
	_, ours := p.waiting[n]
	delete(p.waiting, n)
	p.mu.Unlock()
	if !ours { // fail was faster and has called done
		return nil
	}
	if errors.Is(err, nats.ErrConnectionClosed) {
		return ErrClosed
	}
	return err
}

// fail answers everything that waits with an error; with ErrClosed also everything to come.
func (p *pipe) fail(err error) {
	p.mu.Lock()
	waiting := p.waiting
	p.waiting = map[uint64]answered{}
	p.closed = p.closed || errors.Is(err, ErrClosed)
	p.mu.Unlock()
	for _, done := range waiting {
		done(nil, err)
	}
}

// stored reads the answer to a write: the sequence it got.
func stored(msg *nats.Msg) (uint64, error) {
	if msg.Header.Get("Status") == "503" {
		return 0, nats.ErrNoResponders
	}
	// {"stream":"thaw-queues","seq":12} is what it nearly always is.
	const before = `{"stream":"` + streamName + `","seq":`
	if data := string(msg.Data); strings.HasPrefix(data, before) && strings.HasSuffix(data, "}") {
		if seq, err := strconv.ParseUint(data[len(before):len(data)-1], 10, 64); err == nil {
			return seq, nil
		}
	}
	var ack struct {
		Seq   uint64              `json:"seq"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &ack); err != nil {
		return 0, fmt.Errorf("answer of the state engine: %w", err)
	}
	if ack.Error != nil {
		return 0, ack.Error
	}
	return ack.Seq, nil
}
