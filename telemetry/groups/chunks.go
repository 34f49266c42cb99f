package groups

import "thaw/telemetry"

// maxChunks bounds the chunks of one group; minChunk is the least size of a closed one, bytes, and maxChunkBatches the
// most batches of one.
const (
	maxChunks       = 128
	minChunk        = 256 << 10
	maxChunkBatches = 2048
)

// A chunk is a run of a group's batches: between the sequences First and Last there are batches of Bytes bytes together,
// whose events have times from From to To.
type chunk struct {
	First, Last uint64
	From, To    int64 // µs; To < From: no events
	Bytes       int64
	Batches     int64
}

func (c *chunk) add(sequence uint64, size int, meta telemetry.Meta) {
	if c.Batches == 0 {
		*c = chunk{First: sequence, From: 1, To: 0}
	}
	c.Last = sequence
	c.Batches++
	c.Bytes += int64(size)
	if meta.Events > 0 {
		c.widen(meta.From.UnixMicro(), meta.To.UnixMicro())
	}
}

func (c *chunk) widen(from, to int64) {
	if c.To < c.From {
		c.From, c.To = from, to
		return
	}
	c.From, c.To = min(c.From, from), max(c.To, to)
}

// chunks are those of one group, oldest first.
type chunks []chunk

// add notes a batch.
func (cs chunks) add(sequence uint64, size int, meta telemetry.Meta) chunks {
	n := len(cs)
	if n == 0 || cs[n-1].Bytes >= max(minChunk, cs.bytes()/(maxChunks/2)) || cs[n-1].Batches >= maxChunkBatches {
		cs = append(cs, chunk{})
		n++
	}
	cs[n-1].add(sequence, size, meta)
	if n > maxChunks {
		cs = cs.halve()
	}
	return cs
}

// halve makes one chunk of every two.
func (cs chunks) halve() chunks {
	half := cs[:0]
	for i := 0; i < len(cs); i += 2 {
		c := cs[i]
		if i+1 < len(cs) {
			next := cs[i+1]
			c.Last, c.Bytes, c.Batches = next.Last, c.Bytes+next.Bytes, c.Batches+next.Batches
			if next.From <= next.To {
				c.widen(next.From, next.To)
			}
		}
		half = append(half, c)
	}
	return half
}

func (cs chunks) bytes() (n int64) {
	for i := range cs {
		n += cs[i].Bytes
	}
	return n
}

// expire drops what lies before the sequence first, and all but the newest limit batches. What a chunk has lost in part is
// taken to be of average size.
func (cs chunks) expire(first uint64, limit int64) chunks {
	for len(cs) > 0 && cs[0].Last < first {
		cs = cs[1:]
	}
	var batches int64
	for i := range cs {
		batches += cs[i].Batches
	}
	for excess := batches - limit; excess > 0 && len(cs) > 0; {
		c := &cs[0]
		if c.Batches <= excess {
			excess -= c.Batches
			cs = cs[1:]
			continue
		}
		c.Bytes -= c.Bytes * excess / c.Batches
		c.Batches -= excess
		excess = 0
	}
	return cs
}

// forget takes out a batch that was deleted.
func (cs chunks) forget(sequence uint64, size int) {
	for i := range cs {
		if c := &cs[i]; c.First <= sequence && sequence <= c.Last {
			c.Bytes = max(0, c.Bytes-int64(size))
			c.Batches = max(0, c.Batches-1)
			return
		}
	}
}
