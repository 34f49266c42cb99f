package insights

import (
	"cmp"
	"math"
	"strconv"
	"strings"
	"time"
)

// A value is nil where there is none, a string, a float64, or a moment. Texts that look like numbers count as such.
type value = any

// moment is a time in ms since 1970, which is shown as a date.
type moment int64

const momentFormat = "2006-01-02 15:04:05.000"

func toNumber(v value) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case moment:
		return float64(v), true
	case string:
		if v == "" || v[0] > '9' && v[0] != 'N' {
			return 0, false
		}
		n, err := strconv.ParseFloat(v, 64)
		return n, err == nil && !math.IsNaN(n) && !math.IsInf(n, 0)
	}
	return 0, false
}

// toText is a value as the results show it: numbers with up to four decimals.
func toText(v value) string {
	switch v := v.(type) {
	case string:
		return v
	case moment:
		return time.UnixMilli(int64(v)).UTC().Format(momentFormat)
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1e15 {
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
		if math.Abs(v) >= 1e15 {
			return strconv.FormatFloat(v, 'G', -1, 64)
		}
		return strings.TrimRight(strings.TrimRight(strconv.FormatFloat(v, 'f', 4, 64), "0"), ".")
	}
	return ""
}

// truth is what filter asks of a value.
func truth(v value) bool {
	switch v := v.(type) {
	case nil:
		return false
	case string:
		return v == "true" || v != "" && v != "false" && v != "0"
	case float64:
		return v != 0
	}
	return true
}

func boolean(b bool) value {
	if b {
		return 1.0
	}
	return 0.0
}

// order compares two values: as numbers where both are, as texts else; what is missing comes first.
func compareValues(a, b value) int {
	if a == nil || b == nil {
		return cmp.Compare(present(a), present(b))
	}
	x, okX := toNumber(a)
	y, okY := toNumber(b)
	switch {
	case okX && okY:
		return cmp.Compare(x, y)
	case okX != okY:
		return cmp.Compare(present(boolOrNil(okY)), present(boolOrNil(okX))) // numbers come before texts
	}
	return strings.Compare(toText(a), toText(b))
}

func present(v value) int {
	if v == nil {
		return 0
	}
	return 1
}

func boolOrNil(b bool) value {
	if b {
		return b
	}
	return nil
}

// finite gives a number, nothing where it is none.
func finite(n float64) value {
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return nil
	}
	return n
}
