// Package xray reads and writes the tracing header of AWS X-Ray, X-Amzn-Trace-Id, and turns W3C's traceparent into it. Its
// fields are key=value pairs between semicolons; Root is the trace, Parent the caller's segment and Sampled whether what
// happens is to be recorded (AWS, X-Ray concepts, tracing header).
package xray

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"
)

// Decision is what a header's Sampled says.
type Decision int8

// What was decided about recording a trace. Undecided leaves it to whoever comes next.
const (
	Undecided Decision = iota
	NotSampled
	Sampled
)

// Header is what a tracing header says.
type Header struct {
	Root     [16]byte // the trace: 4 bytes of Unix time, 12 random ones
	Parent   [8]byte  // the caller's segment; zero: none
	Decision Decision
}

const (
	rootKey    = "Root="
	parentKey  = "Parent="
	sampledKey = "Sampled="
)

// Parse reads a header. It reports false for one without a trace in X-Ray's form; a Parent that is none is left out.
func Parse(header string) (h Header, ok bool) {
	for field := range strings.SplitSeq(header, ";") {
		field = strings.TrimSpace(field)
		switch {
		case strings.HasPrefix(field, rootKey):
			ok = parseRoot(&h.Root, field[len(rootKey):])
		case strings.HasPrefix(field, parentKey):
			if !parseHex(h.Parent[:], field[len(parentKey):]) {
				h.Parent = [8]byte{}
			}
		case field == sampledKey+"1":
			h.Decision = Sampled
		case field == sampledKey+"0":
			h.Decision = NotSampled
		}
	}
	return h, ok
}

// parseRoot reads 1-8 digits-24 digits.
func parseRoot(root *[16]byte, s string) bool {
	return len(s) == 35 && s[:2] == "1-" && s[10] == '-' && parseHex(root[:4], s[2:10]) && parseHex(root[4:], s[11:])
}

func parseHex(dst []byte, s string) bool {
	if len(s) != 2*len(dst) {
		return false
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

// Append writes Root, Parent unless it is zero, and Sampled unless nothing is decided.
func (h *Header) Append(dst []byte) []byte {
	dst = append(dst, rootKey+"1-"...)
	dst = hex.AppendEncode(dst, h.Root[:4])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, h.Root[4:])
	if h.Parent != [8]byte{} {
		dst = append(dst, ";"+parentKey...)
		dst = hex.AppendEncode(dst, h.Parent[:])
	}
	switch h.Decision {
	case Sampled:
		dst = append(dst, ";"+sampledKey+"1"...)
	case NotSampled:
		dst = append(dst, ";"+sampledKey+"0"...)
	}
	return dst
}

// Rewrite gives header with the trace, parent and decision of h, and the other fields, such as Self and Lineage, as they were.
func (h *Header) Rewrite(header string) string {
	dst := h.Append(make([]byte, 0, len(header)+40))
	for field := range strings.SplitSeq(header, ";") {
		field = strings.TrimSpace(field)
		if field == "" || strings.HasPrefix(field, rootKey) || strings.HasPrefix(field, parentKey) || strings.HasPrefix(field, sampledKey) {
			continue
		}
		dst = append(append(dst, ';'), field...)
	}
	return string(dst)
}

// NewTrace gives an id for a trace that begins now. Ids need only differ, not be secret.
func NewTrace(now time.Time) (id [16]byte) {
	binary.BigEndian.PutUint32(id[:], uint32(now.Unix()))
	binary.BigEndian.PutUint32(id[4:], rand.Uint32())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	return id
}

// NewSegment gives an id for a segment, never zero.
func NewSegment() (id [8]byte) {
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}

// FromW3C turns a traceparent header into a tracing header, empty when it is none: 00-trace-parent-flags in hexadecimal digits
// (W3C, Trace Context, version 00; of later versions the same part is read, as it demands).
func FromW3C(traceparent string) string {
	s := strings.TrimSpace(traceparent)
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || len(s) > 55 && (s[:2] == "00" || s[55] != '-') {
		return ""
	}
	var version, flags [1]byte
	var h Header
	if !parseHex(version[:], s[:2]) || version[0] == 0xff || !parseHex(h.Root[:], s[3:35]) || !parseHex(h.Parent[:], s[36:52]) || !parseHex(flags[:], s[53:55]) ||
		strings.ContainsFunc(s[:55], func(r rune) bool { return r >= 'A' && r <= 'F' }) || // not allowed there
		h.Root == [16]byte{} || h.Parent == [8]byte{} {
		return ""
	}
	h.Decision = NotSampled
	if flags[0]&1 != 0 {
		h.Decision = Sampled
	}
	return string(h.Append(nil))
}

// Sampler decides about traces that nobody has decided about.
type Sampler struct {
	share  float64
	second atomic.Int64 // the last one whose first trace was taken
}

// NewSampler makes a Sampler that takes a share of the traces, 0 to 1, the same ones wherever they come by; of functions whose
// tracing is Active it takes the first of each second and at least 5 % besides (AWS, X-Ray's default sampling rule).
func NewSampler(share float64) *Sampler { return &Sampler{share: share} }

const (
	// activeShare and one a second are X-Ray's default rule.
	activeShare = 0.05
	// clockSlack is how far a request may be late, in seconds.
	clockSlack = 60
)

// Sample decides about a trace.
func (s *Sampler) Sample(root [16]byte, active bool, now time.Time) bool {
	share := s.share
	if active {
		// Around the turn of a second requests come in any order; a clock that is set back is followed.
		second, last := now.Unix(), s.second.Load()
		if (second > last || second < last-clockSlack) && s.second.CompareAndSwap(last, second) {
			return true
		}
		share = max(share, activeShare)
	}
	// The last bytes of an id are random.
	return float64(binary.BigEndian.Uint64(root[8:])) < share*(1<<64)
}
