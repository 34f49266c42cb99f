package alarms

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The forms of times in CloudWatch's texts.
const (
	stampFormat  = "2006-01-02T15:04:05.000-0700"
	pointFormat  = "02/01/06 15:04:05"
	spokenFormat = "Monday 02 January, 2006 15:04:05 UTC"
)

// How many datapoints the texts name at most; StateReason has 1,023 characters, StateReasonData 4,000.
const (
	namedPoints = 10
	datedPoints = 20
)

// Initial is the reason of an alarm that has not been evaluated yet.
const Initial = "Unchecked: Initial alarm creation"

// reason words a verdict as CloudWatch does.
func (m *Metric) reason(v *verdict) string {
	if v.state == Insufficient {
		return fmt.Sprintf("Insufficient Data: %s unknown.", were(v.filled, "datapoint"))
	}
	treated := fmt.Sprintf("%s treated as [%s]", were(v.filled, "missing datapoint"), treatment(m.Missing))
	judged := v.matching(m)
	switch {
	case len(v.used) == 0:
		return fmt.Sprintf("Threshold Crossed: no datapoints were received for %s and %s.", count(v.filled, "period"), treated)
	case v.filled > 0 && (m.Missing == TreatBreaching || m.Missing == TreatNotBreaching):
		return fmt.Sprintf("Threshold Crossed: %s %s %s and %s.", count(len(judged), "datapoint"), named(judged), m.relation(v.state, len(judged)), treated)
	case v.filled > 0:
		return fmt.Sprintf("Threshold Crossed: %s %s %s.", count(len(judged), "datapoint"), named(judged), m.relation(v.state, len(judged)))
	}
	least, way := m.M(), "OK -> ALARM"
	if v.state == OK {
		least, way = m.Evaluation-m.M()+1, "ALARM -> OK"
	}
	return fmt.Sprintf("Threshold Crossed: %d out of the last %d datapoints %s %s (minimum %s for %s transition).",
		len(judged), m.Evaluation, named(judged), m.relation(v.state, len(judged)), count(least, "datapoint"), way)
}

// matching are the datapoints that speak for the verdict; all where none does, as where missing ones alone decided.
func (v *verdict) matching(m *Metric) []Point {
	var list []Point
	for _, p := range v.used {
		if m.breaches(p.Value) == (v.state == InAlarm) {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return v.used
	}
	return list
}

func (m *Metric) relation(state State, n int) string {
	words := "was"
	if n != 1 {
		words = "were"
	}
	if state == OK {
		words += " not"
	}
	return words + " " + comparisonWords[m.Comparison] + " the threshold (" + decimal(m.Threshold) + ")"
}

var comparisonWords = map[string]string{
	"GreaterThanOrEqualToThreshold": "greater than or equal to",
	"GreaterThanThreshold":          "greater than",
	"LessThanThreshold":             "less than",
	"LessThanOrEqualToThreshold":    "less than or equal to",
}

func treatment(missing string) string {
	if missing == TreatBreaching {
		return "Breaching"
	}
	return "NonBreaching"
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func were(n int, what string) string {
	if n == 1 {
		return "1 " + what + " was"
	}
	return strconv.Itoa(n) + " " + what + "s were"
}

func named(points []Point) string {
	var list []string
	for _, p := range points[:min(len(points), namedPoints)] {
		list = append(list, decimal(p.Value)+" ("+time.Unix(p.At, 0).UTC().Format(pointFormat)+")")
	}
	if len(points) > namedPoints {
		list = append(list, "...")
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// decimal writes a number as Java does, and with it CloudWatch: 50.0, 1.0E10.
func decimal(v float64) string {
	if v == 0 || math.Abs(v) >= 1e-3 && math.Abs(v) < 1e7 {
		text := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(text, ".") {
			text += ".0"
		}
		return text
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(v, 'E', -1, 64), "E")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	n, _ := strconv.Atoi(exponent) // FormatFloat has written it
	return mantissa + "E" + strconv.Itoa(n)
}

// reasonData is StateReasonData of a verdict at a time, over the periods that were looked at, the newest first.
func (m *Metric) reasonData(v *verdict, now time.Time, looked []Point) string {
	type dated struct {
		Timestamp string          `json:"timestamp"`
		Value     json.RawMessage `json:"value,omitempty"`
	}
	data := struct {
		Version   string            `json:"version"`
		QueryDate string            `json:"queryDate"`
		StartDate string            `json:"startDate,omitempty"`
		Unit      string            `json:"unit,omitempty"`
		Statistic string            `json:"statistic,omitempty"`
		Period    int               `json:"period"`
		Recent    []json.RawMessage `json:"recentDatapoints"`
		Threshold json.RawMessage   `json:"threshold"`
		Evaluated []dated           `json:"evaluatedDatapoints"`
	}{
		Version: "1.0", QueryDate: now.UTC().Format(stampFormat), Period: m.Period(), Recent: []json.RawMessage{}, Evaluated: []dated{},
		Threshold: json.RawMessage(decimal(m.Threshold)),
	}
	if q := m.Returned(); q.Expression == "" {
		data.Statistic, data.Unit = q.Stat, q.Unit
	}
	if n := len(v.used); n > 0 {
		data.StartDate = time.Unix(v.used[n-1].At, 0).UTC().Format(stampFormat)
	}
	for i := min(len(v.used), datedPoints) - 1; i >= 0; i-- {
		data.Recent = append(data.Recent, json.RawMessage(decimal(v.used[i].Value)))
	}
	shown := v.used
	if len(shown) == 0 {
		shown = looked
	}
	for _, p := range shown[:min(len(shown), datedPoints)] {
		d := dated{Timestamp: time.Unix(p.At, 0).UTC().Format(stampFormat)}
		if !math.IsNaN(p.Value) {
			d.Value = json.RawMessage(decimal(p.Value))
		}
		data.Evaluated = append(data.Evaluated, d)
	}
	return encode(data)
}

// encode is JSON without escapes that JSON does not ask for.
func encode(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "{}" // nothing here is given what JSON cannot say
	}
	return strings.TrimSuffix(b.String(), "\n")
}
