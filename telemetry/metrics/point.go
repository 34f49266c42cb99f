package metrics

import "math"

// Average is Sum/SampleCount.
func (p *Point) Average() float64 { return p.Sum / p.Count }

// Percentile is the smallest value that p percent (0 to 100) of the values are not above, within MaxRelativeError; NaN where it
// cannot be told, since statistic sets are among the values.
func (p *Point) Percentile(percent float64) float64 {
	switch {
	case p.Count <= 0 || p.undescribed:
		return math.NaN()
	case percent <= 0:
		return p.Min
	case percent >= 100:
		return p.Max
	case p.Min == p.Max:
		return p.Min
	}
	total := p.histogram.total()
	rank := math.Ceil(total*percent/100 - 1e-9*total)
	switch {
	case rank <= 1:
		return p.Min
	case rank >= total:
		return p.Max
	}
	value, seen := p.Max, 0.0
	p.histogram.spans(p.Min, p.Max, func(s span) bool {
		seen += s.count
		if seen >= rank {
			value = s.middle()
			return false
		}
		return true
	})
	return value
}

// Value is one of CloudWatch's statistics of the point. ok is false where there is none: percentiles and trimmed statistics of
// values among which are statistic sets, and means of nothing.
func (p *Point) Value(s Statistic) (value float64, ok bool) {
	switch s.kind {
	case sampleCount:
		return p.Count, true
	case sum:
		return p.Sum, true
	case average:
		return p.Average(), p.Count > 0
	case minimum:
		return p.Min, true
	case maximum:
		return p.Max, true
	case percentile:
		value = p.Percentile(s.upper)
		return value, !math.IsNaN(value)
	}
	if p.Count <= 0 || p.undescribed {
		return 0, false
	}
	count, sum := p.within(s)
	switch s.kind {
	case trimmedCount:
		return count, true
	case trimmedSum:
		return sum, true
	case percentileRank:
		return 100 * count / p.Count, true
	case winsorizedMean:
		return p.winsorized(s, count, sum), true
	default:
		if count <= 0 {
			return 0, false
		}
		return sum / count, true
	}
}

// within is how many values lie above the lower bound and not above the upper one, and their sum. Percents are counted in ranks.
func (p *Point) within(s Statistic) (count, sum float64) {
	low, high := s.lower, s.upper
	if s.percent {
		if low <= 0 && high >= 100 {
			return p.Count, p.Sum
		}
		low, high = low/100*p.Count, high/100*p.Count
	} else if low < p.Min && high >= p.Max {
		return p.Count, p.Sum
	}
	if p.Min == p.Max { // no need to go by buckets, and exact
		if s.percent {
			return high - low, (high - low) * p.Min
		}
		return 0, 0
	}
	seen := 0.0
	p.histogram.spans(p.Min, p.Max, func(b span) bool {
		var part float64
		if s.percent {
			part = (min(seen+b.count, high) - max(seen, low)) / b.count
		} else {
			part = share(b, low, high)
		}
		seen += b.count
		if part > 0 {
			count += part * b.count
			sum += part * b.count * b.middle()
		}
		return true
	})
	return count, sum
}

// share is the part of a bucket's values that lies above low and not above high, where they lie evenly.
func share(b span, low, high float64) float64 {
	if b.lower == b.upper {
		if low < b.upper && b.upper <= high {
			return 1
		}
		return 0
	}
	return (min(high, b.upper) - max(low, b.lower)) / (b.upper - b.lower)
}

// winsorized is the mean after the values outside have been replaced by the bound that they lie behind.
func (p *Point) winsorized(s Statistic, count, sum float64) float64 {
	low, high := s.lower, s.upper
	if s.percent {
		below, above := low/100*p.Count, (100-high)/100*p.Count
		return (sum + below*p.Percentile(low) + above*p.Percentile(high)) / p.Count
	}
	below, _ := p.within(Statistic{lower: math.Inf(-1), upper: low})
	above := max(0, p.Count-below-count)
	if math.IsInf(low, 0) {
		low, below = 0, 0
	}
	if math.IsInf(high, 0) {
		high, above = 0, 0
	}
	return (sum + below*low + above*high) / p.Count
}
