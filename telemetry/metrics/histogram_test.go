package metrics

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// exact is the smallest of sorted values that p percent of them are not above.
func exact(sorted []float64, p float64) float64 {
	i := int(math.Ceil(float64(len(sorted))*p/100)) - 1
	return sorted[max(0, min(i, len(sorted)-1))]
}

// TestPercentilesAreWithinTheBound holds percentiles of several distributions against the exact ones.
func TestPercentilesAreWithinTheBound(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, draw := range map[string]func() float64{
		"uniform":     func() float64 { return rng.Float64() * 1000 },
		"exponential": func() float64 { return rng.ExpFloat64() * 20 },
		"log-normal":  func() float64 { return math.Exp(rng.NormFloat64() * 2) },
		"two modes": func() float64 {
			if rng.IntN(100) == 0 {
				return 800 + rng.Float64()*400
			}
			return 2 + rng.Float64()
		},
		"small":       func() float64 { return rng.Float64() * 1e-9 },
		"both signs":  func() float64 { return rng.NormFloat64() * 50 },
		"whole":       func() float64 { return float64(rng.IntN(12)) },
		"powers of 2": func() float64 { return math.Exp2(float64(rng.IntN(20))) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{1, 2, 3, 10, 997, 20_000} {
				values := make([]float64, n)
				var parts [3]summary
				sum := 0.0
				for i := range values {
					values[i] = draw()
					sum += values[i]
					parts[i%len(parts)].add(values[i], 1)
				}
				whole := summary{}
				for i := range parts {
					whole.merge(&parts[i])
				}
				slices.Sort(values)
				p := whole.point(0, UnitNone)
				if p.Count != float64(n) || p.Min != values[0] || p.Max != values[n-1] || math.Abs(p.Sum-sum) > 1e-9*math.Abs(sum)+1e-6 {
					t.Fatalf("count %v sum %v min %v max %v of %d values", p.Count, p.Sum, p.Min, p.Max, n)
				}
				for _, percent := range []float64{0, 0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9, 99.99, 100} {
					got, want := p.Percentile(percent), exact(values, percent)
					if math.Abs(got-want) > MaxRelativeError*math.Abs(want) {
						t.Errorf("%d values: p%v is %v, exactly %v: off by %.2f%%", n, percent, got, want, 100*math.Abs(got-want)/math.Abs(want))
					}
				}
			}
		})
	}
}

func TestEqualValuesAreExact(t *testing.T) {
	var s summary
	s.add(123.456, 1000)
	p := s.point(0, UnitNone)
	for _, percent := range []float64{0, 1, 50, 99.9, 100} {
		if got := p.Percentile(percent); got != 123.456 {
			t.Errorf("p%v is %v", percent, got)
		}
	}
}

// TestBucketsAreBounded feeds values that spread over all that there can be.
func TestBucketsAreBounded(t *testing.T) {
	var s summary
	for e := -360; e <= 360; e++ {
		for step := range 16 {
			s.add(math.Ldexp(1+float64(step)/16, e), 1)
			s.add(-math.Ldexp(1+float64(step)/16, e), 1)
		}
	}
	if len(s.histogram.positive) > maxBuckets || len(s.histogram.negative) > maxBuckets || s.histogram.coarser == 0 {
		t.Errorf("%d and %d buckets, joined %d times", len(s.histogram.positive), len(s.histogram.negative), s.histogram.coarser)
	}
	if s.histogram.total() != s.count {
		t.Errorf("the buckets hold %v of %v values", s.histogram.total(), s.count)
	}
	var fine summary
	fine.add(1, 5)
	fine.merge(&s)
	if fine.histogram.total() != fine.count || fine.histogram.coarser != s.histogram.coarser {
		t.Errorf("merged: %v of %v values, joined %d times", fine.histogram.total(), fine.count, fine.histogram.coarser)
	}
}

func TestBoundsHoldTheirValues(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 100_000 {
		v := math.Ldexp(rng.Float64()+0.5, rng.IntN(700)-350)
		for by := range int8(6) {
			i := coarsen(indexOf(v), by)
			if low, high := boundOf(i-1, finest-by), boundOf(i, finest-by); v <= low || v > high {
				t.Fatalf("%v is in bucket %d of schema %d, from %v to %v", v, i, finest-by, low, high)
			}
		}
	}
}

func TestStatistics(t *testing.T) {
	var s summary
	for i := range 100 {
		s.add(float64(i+1), 1) // 1 to 100
	}
	p := s.point(0, UnitNone)
	for text, want := range map[string]float64{
		"SampleCount": 100, "Sum": 5050, "Average": 50.5, "Minimum": 1, "Maximum": 100,
		"p50": 50, "p99": 99, "p100": 100, "p0": 1,
		"tm90": 45.5, "TM(10%:90%)": 50.5, "TM(:90%)": 45.5, "TM(10%:)": 55.5, "IQM": 50.5, "TM(20:80)": 50.5,
		"tc90": 90, "TC(10%:90%)": 80, "TC(20:80)": 60, "TC(:80)": 80, "TC(80:)": 20,
		"ts90": 4095, "TS(80%:)": 1810, "TM(:)": math.NaN(),
		"PR(:80)": 80, "PR(20:80)": 60, "PR(80:)": 20, "PR(:1000)": 100, "PR(1000:)": 0,
		"wm90": 50.05, "WM(10%:90%)": 50.5, "WM(20:80)": 50.4,
	} {
		stat, ok := ParseStatistic(text)
		if math.IsNaN(want) {
			if ok {
				t.Errorf("%s was read as %+v", text, stat)
			}
			continue
		}
		if !ok {
			t.Errorf("%s is not a statistic", text)
			continue
		}
		if got, ok := p.Value(stat); !ok || math.Abs(got-want) > 0.03*want+1e-9 {
			t.Errorf("%s is %v, %v; exactly %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "p", "p101", "P50", "p50%", "TM(90%:10%)", "TM(10%:90)", "TM(10:90%)", "PR(10%:90%)", "TM(-1%:50%)", "IQM(1:2)", "average", "tm(10%:90%)", "p99.12345678901"} {
		if s, ok := ParseStatistic(text); ok {
			t.Errorf("%q was read as %+v", text, s)
		}
	}
}

// TestSetsHaveNoPercentiles: of a statistic set nobody knows how its values lie, unless they are all equal.
func TestSetsHaveNoPercentiles(t *testing.T) {
	p50, _ := ParseStatistic("p50")
	tm90, _ := ParseStatistic("tm90")
	var s summary
	s.addSet(&StatisticSet{SampleCount: 10, Sum: 100, Minimum: 1, Maximum: 40})
	p := s.point(0, UnitNone)
	if _, ok := p.Value(p50); ok {
		t.Error("a percentile of what has none")
	}
	if _, ok := p.Value(tm90); ok {
		t.Error("a trimmed mean of what has none")
	}
	if p.Average() != 10 || p.Max != 40 {
		t.Errorf("%+v", p)
	}
	var equal summary
	equal.addSet(&StatisticSet{SampleCount: 10, Sum: 100, Minimum: 10, Maximum: 10})
	p = equal.point(0, UnitNone)
	if v, ok := p.Value(p50); !ok || v != 10 {
		t.Errorf("p50 of ten tens is %v, %v", v, ok)
	}
}

func FuzzParseStatistic(f *testing.F) {
	for _, text := range []string{"p99.9", "TM(10%:90%)", "PR(:300)", "IQM", "Average", "TC(0.5:-3)"} {
		f.Add(text)
	}
	var s summary
	for i := range 50 {
		s.add(float64(i)-10, 2)
	}
	p := s.point(0, UnitNone)
	f.Fuzz(func(t *testing.T, text string) {
		stat, ok := ParseStatistic(text)
		if !ok {
			return
		}
		if stat.String() != text {
			t.Errorf("%q became %q", text, stat)
		}
		if v, ok := p.Value(stat); ok && (math.IsNaN(v) || math.IsInf(v, 0)) {
			t.Errorf("%s is %v", text, v)
		}
	})
}
