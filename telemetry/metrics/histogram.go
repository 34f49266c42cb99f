package metrics

import (
	"math"
	"slices"
)

// Buckets are those of Prometheus's native histograms: at schema s, bucket i holds what is above base^(i-1) and at most base^i, where
// base is 2^(2^-s). Negative values have buckets of their own by their distance from zero, and zero has one.
const (
	finest = 4
	// maxBuckets bounds the buckets of each sign. A histogram that needs more has every two of its buckets joined.
	maxBuckets = 512
)

// MaxRelativeError is how far a percentile may be from the exact one, as a part of the exact one, unless the values of one period
// fill more than 512 buckets, which takes values that spread over nine orders of magnitude: then it is twice that, and so on.
const MaxRelativeError = 0.0217

// bounds are the upper bounds of the buckets between 0.5 and 1 at the finest schema.
var bounds = func() (b [1 << finest]float64) {
	for i := range b {
		b[i] = math.Exp2(float64(i)/(1<<finest) - 1)
	}
	return b
}()

type bucket struct {
	index int32
	count float64
}

// histogram is the distribution of some values. The zero value is empty, and ready.
type histogram struct {
	coarser            int8 // how many times buckets were joined: the schema is finest - coarser
	zero               float64
	positive, negative []bucket // by rising index, without empty ones
}

// indexOf is the bucket of a value above zero at the finest schema.
func indexOf(v float64) int32 {
	fraction, exponent := math.Frexp(v)
	i, _ := slices.BinarySearch(bounds[:], fraction)
	return int32(i + (exponent-1)*len(bounds))
}

// boundOf is the upper bound of a bucket at a schema, without the error that powers of a base would gather.
func boundOf(index int32, schema int8) float64 {
	if schema < 0 {
		return math.Ldexp(1, int(index)<<-schema)
	}
	n := int32(1) << schema
	return math.Ldexp(bounds[(index&(n-1))<<(finest-schema)], int(index>>schema)+1)
}

func (h *histogram) schema() int8 { return finest - h.coarser }

func (h *histogram) add(v, count float64) {
	switch {
	case v > 0:
		h.positive = insert(h.positive, coarsen(indexOf(v), h.coarser), count)
	case v < 0:
		h.negative = insert(h.negative, coarsen(indexOf(-v), h.coarser), count)
	default:
		h.zero += count
	}
	h.bound()
}

// coarsen is the bucket that holds bucket i after every two have been joined by times.
func coarsen(i int32, by int8) int32 { return (i-1)>>by + 1 }

func insert(buckets []bucket, index int32, count float64) []bucket {
	i, found := slices.BinarySearchFunc(buckets, index, func(b bucket, index int32) int { return int(b.index) - int(index) })
	if found {
		buckets[i].count += count
		return buckets
	}
	return slices.Insert(buckets, i, bucket{index, count})
}

func (h *histogram) bound() {
	for len(h.positive) > maxBuckets || len(h.negative) > maxBuckets {
		h.join(1)
	}
}

// join makes buckets coarser.
func (h *histogram) join(by int8) {
	h.coarser += by
	h.positive, h.negative = joined(h.positive, by), joined(h.negative, by)
}

func joined(buckets []bucket, by int8) []bucket {
	out := buckets[:0]
	for _, b := range buckets {
		b.index = coarsen(b.index, by)
		if n := len(out); n > 0 && out[n-1].index == b.index {
			out[n-1].count += b.count
		} else {
			out = append(out, b)
		}
	}
	return out
}

// merge adds what other holds; other stays as it is.
func (h *histogram) merge(other *histogram) {
	if h.coarser < other.coarser {
		h.join(other.coarser - h.coarser)
	}
	by := h.coarser - other.coarser
	h.zero += other.zero
	h.positive = merged(h.positive, other.positive, by)
	h.negative = merged(h.negative, other.negative, by)
	h.bound()
}

func merged(into, from []bucket, by int8) []bucket {
	for _, b := range from {
		index := coarsen(b.index, by)
		if n := len(into); n == 0 || into[n-1].index < index {
			into = append(into, bucket{index, b.count})
		} else {
			into = insert(into, index, b.count)
		}
	}
	return into
}

// total is the number of the values.
func (h *histogram) total() float64 {
	n := h.zero
	for _, b := range h.positive {
		n += b.count
	}
	for _, b := range h.negative {
		n += b.count
	}
	return n
}

func (h *histogram) reset() {
	h.coarser, h.zero, h.positive, h.negative = 0, 0, h.positive[:0], h.negative[:0]
}

// span is one bucket with the bounds of what it holds.
type span struct{ lower, upper, count float64 }

// spans calls fn for each bucket by rising value until fn returns false. Bounds are cut to minimum and maximum.
func (h *histogram) spans(minimum, maximum float64, fn func(span) bool) {
	schema := h.schema()
	cut := func(lower, upper, count float64) span {
		return span{min(max(lower, minimum), maximum), max(min(upper, maximum), minimum), count}
	}
	for _, b := range slices.Backward(h.negative) {
		if !fn(cut(-boundOf(b.index, schema), -boundOf(b.index-1, schema), b.count)) {
			return
		}
	}
	if h.zero > 0 && !fn(span{0, 0, h.zero}) {
		return
	}
	for _, b := range h.positive {
		if !fn(cut(boundOf(b.index-1, schema), boundOf(b.index, schema), b.count)) {
			return
		}
	}
}

// middle is the value that is relatively nearest to both ends.
func (s span) middle() float64 {
	if s.lower == s.upper || s.lower+s.upper == 0 {
		return s.upper
	}
	return 2 * s.lower * s.upper / (s.lower + s.upper)
}

// summary is what is kept of values: of a minute, a second, or a period.
type summary struct {
	count, sum, min, max float64
	histogram            histogram
}

func (s *summary) add(v, count float64) {
	s.extend(v, v)
	s.count += count
	s.sum += v * count
	s.histogram.add(v, count)
}

// addSet adds a statistic set. Its distribution is known only where all of its values are equal.
func (s *summary) addSet(set *StatisticSet) {
	if set.SampleCount <= 0 {
		return
	}
	s.extend(set.Minimum, set.Maximum)
	s.count += set.SampleCount
	s.sum += set.Sum
	if set.Minimum == set.Maximum {
		s.histogram.add(set.Minimum, set.SampleCount)
	}
}

func (s *summary) extend(low, high float64) {
	if s.count == 0 {
		s.min, s.max = low, high
		return
	}
	s.min, s.max = min(s.min, low), max(s.max, high)
}

func (s *summary) merge(other *summary) {
	if other.count == 0 {
		return
	}
	s.extend(other.min, other.max)
	s.count += other.count
	s.sum += other.sum
	s.histogram.merge(&other.histogram)
}

func (s *summary) reset() {
	s.count, s.sum, s.min, s.max = 0, 0, 0, 0
	s.histogram.reset()
}

func (s *summary) point(at int64, unit string) Point {
	p := Point{Unit: unit, Count: s.count, Sum: s.sum, Min: s.min, Max: s.max, histogram: s.histogram}
	p.At = unixTime(at)
	p.undescribed = s.min != s.max && s.histogram.total() < s.count*(1-1e-9)
	return p
}
