package queues

import "testing"

// A message that stays must not have the cache remember all that come and go after it.
func TestCacheForgetsWhatIsGone(t *testing.T) {
	var c cache
	c.put(1, newContent(envelope{id: "stays"}, []byte("x")))
	for seq := uint64(2); seq < 10_000; seq++ {
		c.put(seq, newContent(envelope{id: "goes"}, []byte("x")))
		c.remove(seq)
	}
	if len(c.order) > 100 || c.get(1) == nil || len(c.contents) != 1 {
		t.Errorf("%d remembered, %d kept", len(c.order), len(c.contents))
	}
	large := make([]byte, cacheBytes/10)
	for seq := uint64(10_000); seq < 10_020; seq++ {
		c.put(seq, newContent(envelope{id: "large"}, large))
	}
	if c.bytes > cacheBytes || c.get(1) != nil || c.get(10_019) == nil {
		t.Errorf("%d bytes are kept, the first %v, the last %v", c.bytes, c.get(1) != nil, c.get(10_019) != nil)
	}
}
