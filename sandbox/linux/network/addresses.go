package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// candidates are tried in this order when the configuration names no prefix. The last is set aside for benchmarks of
// network gear (RFC 2544) and so seldom routed.
var candidates = []netip.Prefix{
	netip.MustParsePrefix("10.213.0.0/16"),
	netip.MustParsePrefix("172.29.0.0/16"),
	netip.MustParsePrefix("192.168.208.0/20"),
	netip.MustParsePrefix("198.18.0.0/16"),
}

// choosePrefix returns want if it is free, or the first free candidate if want is not valid.
func choosePrefix(want netip.Prefix, taken []netip.Prefix) (netip.Prefix, error) {
	try := candidates
	if want.IsValid() {
		try = []netip.Prefix{want}
	}
	var err error
next:
	for _, p := range try {
		for _, t := range taken {
			if p.Overlaps(t) {
				err = fmt.Errorf("%w: %s overlaps %s, which this host uses", ErrPrefix, p, t)
				continue next
			}
		}
		return p, nil
	}
	return netip.Prefix{}, err
}

// slots hands out the numbers of namespaces. The number that was given back longest ago comes last, so that packets
// still under way to a destroyed namespace do not meet a new one.
type slots struct {
	size uint32 // numbers 0 to size-1
	next uint32
	used map[uint32]struct{}
}

func newSlots(size int) *slots {
	return &slots{size: uint32(size), used: make(map[uint32]struct{})}
}

func (s *slots) take() (n uint32, ok bool) {
	if len(s.used) >= int(s.size) {
		return 0, false
	}
	for {
		n = s.next
		s.next = (s.next + 1) % s.size
		if _, taken := s.used[n]; !taken {
			s.used[n] = struct{}{}
			return n, true
		}
	}
}

func (s *slots) give(n uint32) { delete(s.used, n) }

// hostAddr is the prefix's first usable address; slotAddr gives the ones after it.
func hostAddr(p netip.Prefix) netip.Addr { return addrAt(p, 1) }

func slotAddr(p netip.Prefix, slot uint32) netip.Addr { return addrAt(p, slot+2) }

// slotCount leaves out the network address, the host's and the broadcast address.
func slotCount(p netip.Prefix) int { return 1<<(32-p.Bits()) - 3 }

func addrAt(p netip.Prefix, i uint32) netip.Addr {
	b := p.Addr().As4()
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(b[:])+i)
	return netip.AddrFrom4(a)
}
