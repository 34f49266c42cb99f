package linux

import (
	"errors"
	"hash/fnv"
	"sync"
)

// Host ids are given to sandboxes from a block of the instance's own, so that no two running sandboxes share one: the
// kernel then keeps them apart even where no namespace does (signals, ptrace, keys, per-user limits).
const (
	idBlock   = 1 << 16
	idBlocks  = 1 << 11
	firstID   = 0x70000000
	maxHostID = firstID + idBlock*idBlocks - 1
)

// defaultIDBase spreads instances over the blocks.
func defaultIDBase(instance string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(instance))
	return firstID + h.Sum32()%idBlocks*idBlock
}

var errNoID = errors.New("every host id of the block is in use")

// ids hands out numbers from a block, the one given back longest ago first. The block's first is pid 1's own.
type ids struct {
	mu   sync.Mutex
	base uint32
	next uint32
	free []uint32
}

func newIDs(base uint32) *ids { return &ids{base: base, next: 1} }

// shim is the id of every pid 1 once it has given up root.
func (p *ids) shim() uint32 { return p.base }

func (p *ids) take() (uint32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next < idBlock {
		p.next++
		return p.base + p.next - 1, nil
	}
	if len(p.free) == 0 {
		return 0, errNoID
	}
	id := p.free[0]
	p.free = p.free[1:]
	return id, nil
}

func (p *ids) give(id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, id)
}
