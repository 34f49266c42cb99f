package tests

import (
	"encoding/json"
	"strings"
	"testing"

	"thaw/tests/harness"
)

// TestBoto3 runs what programs with boto3 rely on.
func TestBoto3(t *testing.T) {
	python := findPython(t)
	p := harness.Start(t, harness.Options{Config: network + "environments:\n  concurrency: 12\n"})
	_, text, err := run(t, append(p.Env(), "CONCURRENCY=12"), "", python, clientFile("python/api_test.py"))
	if err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	p.Stop()
	harness.NothingLeft(t, p.Data)
}

// TestMeasuringProgram runs a program that was written to measure functions on AWS.
func TestMeasuringProgram(t *testing.T) {
	python := findPython(t)
	p := harness.Start(t, harness.Options{Config: network + cold})
	harness.Deploy(t, p.Lambda(), &harness.Function{
		Name: "measured", Source: "import os\n\ndef handler(event, context):\n    return os.environ.get('FORCE_COLD_START')\n",
	})
	out, text, err := run(t, p.Env(), "", python, unmodified(t, python, clientFile("python/measure.py"), "measured")...)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	type summary struct {
		Kind          string
		Count, OK     int
		WithInit      int `json:"with_init"`
		Min, P95, P99 float64
		Median, Max   float64
	}
	var got []summary
	for line := range strings.Lines(out) {
		var s summary
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		got = append(got, s)
	}
	if len(got) != 2 {
		t.Fatalf("it printed %s", out)
	}
	first, warm := got[0], got[1]
	if first.Kind != "cold" || first.Count != 4 || first.OK != 4 || first.WithInit != 4 {
		t.Errorf("cold: %+v", first)
	}
	// Ten callers at once scale out to ten environments at most; the first one was there.
	if warm.Kind != "warm" || warm.Count != 60 || warm.OK != 60 || warm.WithInit > 9 {
		t.Errorf("warm: %+v", warm)
	}
	for _, s := range got {
		if !(0 < s.Min && s.Min <= s.Median && s.Median <= s.P95 && s.P95 <= s.P99 && s.P99 <= s.Max) {
			t.Errorf("figures out of order: %+v", s)
		}
	}
	p.Stop()
	harness.NothingLeft(t, p.Data)
}
