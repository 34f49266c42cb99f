package mapping

import (
	"context"
	"time"
)

// collector gathers messages to batches. One goroutine uses it.
type collector struct {
	source source
	size   int           // messages in a batch
	window time.Duration // for how long a batch is gathered, from its first message on
	polled func(int)     // told how many messages each receive that worked brought; may be nil
	carry  []message     // received and not yet in a batch: the event would have become too large
}

// next gives the next batch, which is empty when there was no message for a while or ctx has ended. Messages come without
// an error even where one occurred after them.
func (c *collector) next(ctx context.Context) ([]message, error) {
	var batch []message
	bytes := len(eventHead) + len(eventTail)
	full := c.take(&batch, &bytes)
	if len(batch) == 0 {
		received, err := c.receive(ctx, c.size, pollWait)
		if len(received) == 0 {
			return nil, err
		}
		c.carry = received
		full = c.take(&batch, &bytes)
	}
	over := time.Now().Add(c.window)
	for !full && c.window > 0 && ctx.Err() == nil {
		left := time.Until(over)
		if left <= 0 {
			break
		}
		received, err := c.receive(ctx, c.size-len(batch), min(left, pollWait))
		c.carry = received
		full = c.take(&batch, &bytes)
		if err != nil {
			break
		}
	}
	return batch, nil
}

func (c *collector) receive(ctx context.Context, most int, wait time.Duration) ([]message, error) {
	received, err := c.source.receive(ctx, most, wait)
	if c.polled != nil && (len(received) > 0 || err == nil) {
		c.polled(len(received))
	}
	return received, err
}

// take moves what fits from carry to the batch, and reports whether the batch is full.
func (c *collector) take(batch *[]message, bytes *int) (full bool) {
	for len(c.carry) > 0 {
		size := len(c.carry[0].record) + 1
		if len(*batch) > 0 && *bytes+size > maxEvent {
			return true
		}
		*batch, *bytes = append(*batch, c.carry[0]), *bytes+size
		if c.carry = c.carry[1:]; len(*batch) >= c.size {
			return true
		}
	}
	c.carry = nil
	return false
}
