package queues

import (
	"slices"
	"sync"
)

// cacheBytes bounds the messages kept in memory besides the stream, so that a message that is received soon after it was
// sent is not read back.
const cacheBytes = 32 << 20

// content is a message as it is stored.
type content struct {
	envelope envelope
	value    string // the envelope as it is in the header
	data     []byte
}

func newContent(env envelope, data []byte) *content { return &content{env, env.encode(), data} }

// size is what a message takes on disk, nearly.
func (c *content) size() int { return storedSize(len(c.data), len(c.value)) }

func storedSize(data, value int) int { return data + value + 64 }

// cache keeps the newest messages.
type cache struct {
	mu       sync.Mutex
	contents map[uint64]*content
	order    []uint64 // as they came; some are gone from contents
	bytes    int
}

func (c *cache) put(seq uint64, m *content) {
	if m.size() > cacheBytes/8 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.contents == nil {
		c.contents = map[uint64]*content{}
	}
	c.contents[seq] = m
	c.order = append(c.order, seq)
	c.bytes += m.size()
	for c.bytes > cacheBytes {
		c.drop(c.order[0])
		c.order = c.order[1:]
	}
	if len(c.order) > 64+2*len(c.contents) {
		c.order = slices.DeleteFunc(c.order, func(seq uint64) bool { return c.contents[seq] == nil })
	}
}

func (c *cache) get(seq uint64) *content {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.contents[seq]
}

func (c *cache) remove(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(seq)
}

func (c *cache) drop(seq uint64) {
	if m, ok := c.contents[seq]; ok {
		c.bytes -= m.size()
		delete(c.contents, seq)
	}
}
