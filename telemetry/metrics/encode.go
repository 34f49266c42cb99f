package metrics

import (
	"encoding/binary"
	"errors"
	"math"
)

var errDamaged = errors.New("metrics: damaged record")

// A summary as bytes: its four numbers, how often buckets were joined, zeros, then both signs' buckets as their number, and of each
// the difference of its index to the one before and its count.
func appendSummary(dst []byte, s *summary) []byte {
	for _, v := range []float64{s.count, s.sum, s.min, s.max} {
		dst = appendNumber(dst, v)
	}
	dst = append(dst, byte(s.histogram.coarser))
	dst = appendNumber(dst, s.histogram.zero)
	for _, buckets := range [][]bucket{s.histogram.positive, s.histogram.negative} {
		dst = binary.AppendUvarint(dst, uint64(len(buckets)))
		before := int32(0)
		for _, b := range buckets {
			dst = binary.AppendVarint(dst, int64(b.index-before))
			dst = appendNumber(dst, b.count)
			before = b.index
		}
	}
	return dst
}

// whole is how large a number may be that is written as a varint: all counts are.
const whole = 1 << 48

// appendNumber writes n+1 for a small whole number n, else 0 and the number's bits.
func appendNumber(dst []byte, v float64) []byte {
	if n := uint64(v); v >= 0 && v < whole && float64(n) == v && !math.Signbit(v) {
		return binary.AppendUvarint(dst, n+1)
	}
	return binary.LittleEndian.AppendUint64(append(dst, 0), math.Float64bits(v))
}

// decoder reads what the functions above wrote. After an error everything that it gives is zero.
type decoder struct {
	data []byte
	err  error
}

func (d *decoder) fail() { d.data, d.err = nil, errDamaged }

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.data)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.data = d.data[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.data)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.data = d.data[n:]
	return v
}

func (d *decoder) number() float64 {
	n := d.uvarint()
	if n > 0 || d.err != nil {
		return float64(max(n, 1) - 1)
	}
	if len(d.data) < 8 {
		d.fail()
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(d.data))
	d.data = d.data[8:]
	if math.IsNaN(v) || math.IsInf(v, 0) {
		d.fail()
		return 0
	}
	return v
}

func (d *decoder) byte() byte {
	if len(d.data) == 0 {
		d.fail()
		return 0
	}
	b := d.data[0]
	d.data = d.data[1:]
	return b
}

func (d *decoder) string() string {
	n := d.uvarint()
	if n > uint64(len(d.data)) {
		d.fail()
		return ""
	}
	s := string(d.data[:n])
	d.data = d.data[n:]
	return s
}

func (d *decoder) summary() (s summary) {
	s.count, s.sum, s.min, s.max = d.number(), d.number(), d.number(), d.number()
	s.histogram.coarser = int8(d.byte())
	if s.histogram.coarser < 0 || s.histogram.coarser > maxCoarser {
		d.fail()
	}
	s.histogram.zero = d.number()
	s.histogram.positive = d.buckets()
	s.histogram.negative = d.buckets()
	if s.count < 0 || s.histogram.zero < 0 {
		d.fail()
	}
	return s
}

// maxCoarser is where one bucket holds every value there can be of one sign, and maxIndex where the last one lies.
const (
	maxCoarser = 8
	maxIndex   = 1100 << finest
)

func (d *decoder) buckets() []bucket {
	n := d.uvarint()
	if n > maxBuckets {
		d.fail()
		return nil
	}
	var buckets []bucket
	at := int64(0)
	for i := range n {
		delta := d.varint()
		at += delta
		count := d.number()
		if d.err != nil || i > 0 && delta <= 0 || at < -maxIndex || at > maxIndex || count <= 0 {
			d.fail()
			return nil
		}
		buckets = append(buckets, bucket{int32(at), count})
	}
	return buckets
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// identity is what makes a series one: its metric and how its values are kept.
type identity struct {
	Metric
	Unit       string
	Resolution int
	// Own is set for what the platform counts of invocations itself. Such a series is kept once, with all of its dimensions, and
	// answers for fewer of them too.
	Own bool
}

func appendIdentity(dst []byte, id *identity) []byte {
	dst = appendString(appendString(dst, id.Namespace), id.Name)
	dst = binary.AppendUvarint(dst, uint64(len(id.Dimensions)))
	for _, d := range id.Dimensions {
		dst = appendString(appendString(dst, d.Name), d.Value)
	}
	dst = appendString(dst, id.Unit)
	own := byte(0)
	if id.Own {
		own = 1
	}
	return append(dst, byte(id.Resolution), own)
}

func (d *decoder) identity() (id identity) {
	id.Namespace, id.Name = d.string(), d.string()
	n := d.uvarint()
	if n > uint64(len(d.data)) {
		d.fail()
		return id
	}
	for range n {
		id.Dimensions = append(id.Dimensions, Dimension{d.string(), d.string()})
	}
	id.Unit = d.string()
	id.Resolution = int(d.byte())
	id.Own = d.byte() == 1
	if id.Resolution != 1 && id.Resolution != 60 {
		d.fail()
	}
	return id
}
