package metricmath

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"thaw/telemetry/metrics"
)

// label is what a series is called: the query's own label, in which what stands in ${} is filled in, or one that is made
// up. Each series of an array has its own name behind the query's.
func (e *evaluation) label(q *Query, s *series, array bool, zone *time.Location) string {
	own := s.label
	if own == "" {
		own = q.ID
	}
	if q.Label == "" {
		if array || q.Stat != nil {
			return own
		}
		return q.ID
	}
	if strings.Contains(q.Label, "${") {
		return dynamicPart.ReplaceAllStringFunc(q.Label, func(part string) string {
			m := dynamicPart.FindStringSubmatch(part)
			if m[2] != "" {
				return e.property(m[2], s)
			}
			return summarised(m[1], own, s, zone)
		})
	}
	if array && own != q.ID {
		return q.Label + " " + own
	}
	return q.Label
}

// dynamicPart is ${WORD} or ${PROP('Name')}, after the user guide's page "Using dynamic labels".
var dynamicPart = regexp.MustCompile(`\$\{\s*(?:([A-Z_]+)|PROP\(\s*['"]([^'"]*)['"]\s*\))\s*\}`)

// absentPart is what stands for what cannot be told.
const absentPart = "--"

// property is one of the metric that a series is of.
func (e *evaluation) property(name string, s *series) string {
	switch name {
	case "AccountId":
		return e.account
	case "Region":
		return e.region
	case "Period":
		return strconv.FormatInt(s.period, 10)
	}
	if s.stat == nil {
		return absentPart
	}
	switch name {
	case "MetricName":
		return s.stat.Metric.Name
	case "Namespace":
		return s.stat.Metric.Namespace
	case "Stat":
		return s.stat.Statistic.String()
	}
	if d, ok := strings.CutPrefix(name, "Dim."); ok {
		if v, ok := dimension(&s.stat.Metric, d); ok {
			return v
		}
	}
	return absentPart
}

func dimension(m *metrics.Metric, name string) (string, bool) {
	for _, d := range m.Dimensions {
		if d.Name == name {
			return d.Value, true
		}
	}
	return "", false
}

// summarised is a number or time of the series.
func summarised(name, own string, s *series, zone *time.Location) string {
	if name == "LABEL" {
		return own
	}
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	if name == "DATAPOINT_COUNT" {
		return strconv.Itoa(len(s.values))
	}
	if len(s.values) == 0 {
		return absentPart
	}
	low, high := 0, 0
	for i, v := range s.values {
		if v < s.values[low] {
			low = i
		}
		if v > s.values[high] {
			high = i
		}
	}
	end := len(s.values) - 1
	clock := func(i int) string { return time.Unix(s.at[i], 0).In(zone).Format("2006-01-02 15:04:05 UTC-07:00") }
	switch name {
	case "AVG":
		return number(averageOf(s.values))
	case "SUM":
		return number(sumOf(s.values))
	case "MIN":
		return number(s.values[low])
	case "MAX":
		return number(s.values[high])
	case "FIRST":
		return number(s.values[0])
	case "LAST":
		return number(s.values[end])
	case "MIN_MAX_RANGE":
		return number(s.values[low]) + " - " + number(s.values[high])
	case "FIRST_LAST_RANGE":
		return number(s.values[0]) + " - " + number(s.values[end])
	case "MIN_TIME":
		return clock(low)
	case "MAX_TIME":
		return clock(high)
	case "FIRST_TIME":
		return clock(0)
	case "LAST_TIME":
		return clock(end)
	case "FIRST_LAST_TIME_RANGE":
		return clock(0) + " - " + clock(end)
	case "MIN_MAX_TIME_RANGE":
		return clock(low) + " - " + clock(high)
	}
	return "${" + name + "}"
}
