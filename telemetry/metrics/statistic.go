package metrics

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Statistic is one of CloudWatch's statistics as ParseStatistic reads it: SampleCount, Sum, Average, Minimum, Maximum, pNN.N, tmNN,
// wmNN, tcNN, tsNN, IQM, TM(a:b), WM(a:b), TC(a:b), TS(a:b), PR(a:b).
type Statistic struct {
	name         string // as written
	kind         statisticKind
	lower, upper float64 // percents, or values; infinite where there is no bound
	percent      bool
}

type statisticKind int

const (
	sampleCount statisticKind = iota
	sum
	average
	minimum
	maximum
	percentile
	trimmedMean
	winsorizedMean
	trimmedCount
	trimmedSum
	percentileRank
)

// String is the statistic as it was written.
func (s Statistic) String() string { return s.name }

// Simple reports whether the statistic is one of the five of GetMetricStatistics' Statistics.
func (s Statistic) Simple() bool { return s.kind <= maximum }

var plainStatistics = map[string]statisticKind{
	"SampleCount": sampleCount, "Sum": sum, "Average": average, "Minimum": minimum, "Maximum": maximum,
}

var rangeStatistics = map[string]statisticKind{
	"TM": trimmedMean, "WM": winsorizedMean, "TC": trimmedCount, "TS": trimmedSum, "PR": percentileRank,
}

// The forms of the user guide's "CloudWatch statistics definitions": at most ten decimal places for percentiles.
var (
	shortStatistic = regexp.MustCompile(`^(p|tm|wm|tc|ts)([0-9]{1,3}(?:\.[0-9]{1,10})?)$`)
	rangeStatistic = regexp.MustCompile(`^(TM|WM|TC|TS|PR)\((-?[0-9]+(?:\.[0-9]+)?)?(%)?:(-?[0-9]+(?:\.[0-9]+)?)?(%)?\)$`)
)

// maxStatistic bounds the text of a statistic.
const maxStatistic = 100

// ParseStatistic reads a statistic in CloudWatch's words; ok is false when it is none.
func ParseStatistic(text string) (s Statistic, ok bool) {
	if len(text) > maxStatistic {
		return Statistic{}, false
	}
	s.name = text
	if kind, found := plainStatistics[text]; found {
		s.kind = kind
		return s, true
	}
	if text == "IQM" {
		s.kind, s.lower, s.upper, s.percent = trimmedMean, 25, 75, true
		return s, true
	}
	if m := shortStatistic.FindStringSubmatch(text); m != nil {
		p, err := strconv.ParseFloat(m[2], 64)
		if err != nil || p > 100 {
			return Statistic{}, false
		}
		s.upper, s.percent = p, true
		if m[1] == "p" {
			s.kind = percentile
		} else {
			s.kind = rangeStatistics[strings.ToUpper(m[1])]
		}
		return s, true
	}
	return s.parseRange(rangeStatistic.FindStringSubmatch(text))
}

// parseRange reads the bounds of TM(a:b) and its like: both percents or both values, of which one may be left out.
func (s Statistic) parseRange(m []string) (Statistic, bool) {
	if m == nil || m[2] == "" && m[4] == "" || m[2] == "" && m[3] != "" || m[4] == "" && m[5] != "" {
		return Statistic{}, false
	}
	s.kind = rangeStatistics[m[1]]
	s.percent = m[3] != "" || m[5] != ""
	if m[2] != "" && m[4] != "" && m[3] != m[5] || s.percent && s.kind == percentileRank {
		return Statistic{}, false
	}
	s.lower, s.upper = math.Inf(-1), math.Inf(1)
	if s.percent {
		s.lower, s.upper = 0, 100
	}
	for i, bound := range []*float64{&s.lower, &s.upper} {
		if text := m[2+2*i]; text != "" {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil || s.percent && (v < 0 || v > 100) {
				return Statistic{}, false
			}
			*bound = v
		}
	}
	return s, s.lower <= s.upper
}
