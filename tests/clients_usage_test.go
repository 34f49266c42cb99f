package tests

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"thaw/tests/harness"
)

// usageLine is one finding of scripts/measure/usage.py.
type usageLine struct {
	Kind           string
	Count, Cold    int
	Errors         float64
	Invocations    float64
	Throttles      float64
	Busiest        *int
	P50, P99, Rate []float64
	Samples        float64
	Least, Most    float64
	Metrics        []string
	Queue          string
	Waiting        int
	Wanted         bool
	Duration, Init any
	Billed         float64 `json:"billed_ms"`
	EndToEnd       float64 `json:"end_to_end_ms"`
}

// TestMeasureUsage runs a program that measures a function and analyses its use through CloudWatch, as it would run on AWS, and
// compares the numbers.
func TestMeasureUsage(t *testing.T) {
	python := findPython(t)
	p := harness.Start(t, harness.Options{Config: "environments:\n  spares: 0\n  templates: 0\n"})
	harness.Deploy(t, p.Lambda(), &harness.Function{Name: "f", Source: `
import time
def handler(event, context):
    time.sleep(0.002)
    if event["n"] % 5 == 4:
        raise ValueError("every fifth")
    return event
`})
	url := queue(t, sqsClient(p), "processing-queue-f", nil)
	sendNumbers(t, sqsClient(p), url, 0, 3)
	out, text, err := run(t, p.Env(), "", python, unmodified(t, python, filepath.Join(harness.Root(), "scripts", "measure", "usage.py"), "f", "--count", "20")...)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, text)
	}
	found := map[string]usageLine{}
	for line := range strings.Lines(out) {
		var l usageLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		found[l.Kind] = l
	}
	if l := found["invocations"]; l.Count != 20 || l.Errors != 4 || l.Cold != 1 || l.Billed < 40 || l.EndToEnd < 2 {
		t.Errorf("%+v", l)
	}
	if l := found["usage"]; l.Invocations != 20 || l.Errors != 4 || l.Throttles != 0 || l.Busiest == nil {
		t.Errorf("%+v", l)
	}
	if l := found["percentiles"]; len(l.P50) != 1 || l.P50[0] < 2 || len(l.P99) != 1 || l.P99[0] < l.P50[0] || !slices.Equal(l.Rate, []float64{20}) {
		t.Errorf("%+v", l)
	}
	if l := found["own"]; l.Samples != 20 || l.Least < 2 || l.Most < l.Least || !slices.Equal(l.Metrics, []string{"Batch", "Duration", "EndToEnd"}) {
		t.Errorf("%+v", l)
	}
	if l := found["warming"]; l.Queue != "processing-queue-f" || l.Waiting != 3 || !l.Wanted {
		t.Errorf("%+v", l)
	}
	p.Stop()
	harness.NothingLeft(t, p.Data)
}
