package subjects

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
)

// waitingMessages bounds what core NATS has delivered and nobody has received. What comes then is lost.
const waitingMessages = 16_384

// core reads a subject of core NATS.
type core struct {
	cfg  Config
	nc   *nats.Conn
	in   chan *nats.Msg
	sub  *nats.Subscription
	lost atomic.Int64 // messages dropped because nobody received them, as far as it was said
}

func newCore(nc *nats.Conn, cfg Config) (Reader, error) {
	c := &core{cfg: cfg, nc: nc, in: make(chan *nats.Msg, waitingMessages)}
	var err error
	if c.sub, err = nc.ChanQueueSubscribe(cfg.Address.Subject, "thaw-"+cfg.Name, c.in); err == nil {
		err = nc.FlushTimeout(dialTimeout) // the server has heard of it: what is published from now on comes
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("subscribe to %s of %s: %w", cfg.Address.Subject, cfg.Address.Server, err)
	}
	return c, nil
}

func (c *core) Receive(ctx context.Context, limit int, wait time.Duration) ([]Message, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var got []Message
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, nil
	case msg := <-c.in:
		got = append(got, c.message(msg))
	}
	for len(got) < limit {
		select {
		case msg := <-c.in:
			got = append(got, c.message(msg))
			continue
		default:
		}
		break
	}
	c.sayLost()
	return got, nil
}

func (c *core) message(msg *nats.Msg) Message {
	return Message{ID: uuid.NewString(), Subject: msg.Subject, Body: msg.Data, Header: msg.Header, Delivered: 1}
}

// sayLost logs how many messages came while nobody received.
func (c *core) sayLost() {
	dropped, err := c.sub.Dropped()
	if err != nil {
		return
	}
	if before := c.lost.Swap(int64(dropped)); int64(dropped) > before {
		c.cfg.Log.Error("messages of core NATS came faster than functions could take them and are lost",
			"server", c.cfg.Address.Server, "subject", c.cfg.Address.Subject, "lost", int64(dropped)-before)
	}
}

func (c *core) Done([]string) error { return nil }

func (c *core) Failed(ids []string) error { return c.loss(ids) }

func (c *core) Return(ids []string) error { return c.loss(ids) }

func (c *core) loss(ids []string) error {
	return fmt.Errorf("%d messages of %s: %w", len(ids), c.cfg.Address.Subject, ErrLost)
}

func (c *core) Backlog() int { return len(c.in) }

func (c *core) Run(ctx context.Context) { <-ctx.Done() }

func (c *core) Close() {
	_ = c.sub.Unsubscribe()
	closeConn(c.nc)
	if n := len(c.in); n > 0 {
		c.cfg.Log.Error("messages of core NATS that no function had got are lost", "server", c.cfg.Address.Server, "subject", c.cfg.Address.Subject, "lost", n)
	}
}
