package queues

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// fetch reads messages. One that is not there is nil.
func (e *Queues) fetch(ctx context.Context, seqs []uint64) ([]*content, error) {
	if len(seqs) == 0 {
		return nil, nil
	}
	f := &fetching{contents: make([]*content, len(seqs)), done: make(chan struct{}), left: len(seqs)}
	for i, seq := range seqs {
		if c := e.cache.get(seq); c != nil {
			f.tell(i, c, nil)
			continue
		}
		select {
		case e.fetching <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		msg := &nats.Msg{Subject: "$JS.API.DIRECT.GET." + streamName, Data: fmt.Appendf(nil, `{"seq":%d}`, seq)}
		err := e.reads.send(msg, func(answer *nats.Msg, err error) {
			<-e.fetching
			var c *content
			if err == nil {
				c, err = readContent(answer)
			}
			f.tell(i, c, err)
		})
		if err != nil {
			<-e.fetching
			f.tell(i, nil, err)
		}
	}
	timer := time.NewTimer(answerTimeout)
	defer timer.Stop()
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, e.streams.Error("read messages", errNoAnswer)
	}
	if f.err != nil {
		return nil, e.streams.Error("read messages", f.err)
	}
	for i, c := range f.contents {
		if c == nil && e.clustered() {
			if f.contents[i], f.err = e.ask(ctx, seqs[i]); f.err != nil {
				return nil, e.streams.Error("read messages", f.err)
			}
		}
	}
	return f.contents, nil
}

// clustered reports whether several servers keep the stream.
func (e *Queues) clustered() bool { return e.stream.CachedInfo().Config.Replicas > 1 }

// ask reads a message from the server that leads the stream. Another one, which answered first, may not have had it yet.
func (e *Queues) ask(ctx context.Context, seq uint64) (*content, error) {
	answer, err := e.streams.Conn.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+streamName, fmt.Appendf(nil, `{"seq":%d}`, seq))
	if err != nil {
		return nil, err
	}
	var resp struct {
		Message struct {
			Headers []byte `json:"hdrs"`
			Data    []byte `json:"data"`
		} `json:"message"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &resp); err != nil {
		return nil, fmt.Errorf("answer of the state engine: %w", err)
	}
	if resp.Error != nil {
		if resp.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return nil, nil
		}
		return nil, resp.Error
	}
	headers, err := nats.DecodeHeadersMsg(resp.Message.Headers)
	if err != nil {
		return nil, err
	}
	return readContent(&nats.Msg{Header: headers, Data: resp.Message.Data})
}

type fetching struct {
	contents []*content
	done     chan struct{}

	mu   sync.Mutex
	left int
	err  error
}

func (f *fetching) tell(i int, c *content, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.contents[i] = c
	if err != nil {
		f.err = err
	}
	if f.left--; f.left == 0 {
		close(f.done)
	}
}

// readContent reads the answer to a direct get.
func readContent(answer *nats.Msg) (*content, error) {
	switch status := answer.Header.Get("Status"); status {
	case "":
	case "404":
		return nil, nil
	default:
		return nil, fmt.Errorf("state engine answers %s %s", status, answer.Header.Get("Description"))
	}
	value := answer.Header.Get(header)
	env, err := decodeEnvelope(value)
	if err != nil {
		return nil, err
	}
	return &content{env, value, answer.Data}, nil
}
