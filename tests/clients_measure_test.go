package tests

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw/tests/harness"
)

// planeLine is one measurement of scripts/measure/plane.py.
type planeLine struct {
	Kind, Status, Environments                  string
	Count, Served, Failed, Throttled, Available int
	MostAtOnce                                  int `json:"most_at_once"`
	Got, Wanted                                 int
	Within                                      bool
	Types, Reasons, Versions                    map[string]int
	RetryAfter                                  map[string]int `json:"retry_after"`
	P50                                         *float64       `json:"added_p50_ms"`
	P99                                         *float64       `json:"added_p99_ms"`
	AskedAfter                                  float64        `json:"asked_s"`
	ReadyAfter                                  float64        `json:"ready_s"`
	Activities                                  []string
}

// TestMeasurePlane runs the program that measures the service plane, as it would run on AWS, with small numbers. How long things
// take is not looked at.
func TestMeasurePlane(t *testing.T) {
	python := findPython(t)
	p := harness.Start(t, harness.Options{Config: network + forkConfig})
	out, text, err := run(t, p.Env(), "", python, unmodified(t, python, filepath.Join(harness.Root(), "scripts", "measure", "plane.py"),
		"--bursts", "4,12", "--reserved", "3", "--canary", "300", "--weight", "0.25", "--provisioned", "2", "--load", "4",
		"--max-capacity", "5", "--poll", "0.05", "--patience", "50")...)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, text)
	}
	var got []planeLine
	var kinds []string
	for line := range strings.Lines(out) {
		var l planeLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		got = append(got, l)
		kinds = append(kinds, l.Kind)
	}
	if want := "burst burst burst burst reserved canary provisioned provisioned-burst load-step"; strings.Join(kinds, " ") != want {
		t.Fatalf("it measured %q:\n%s", kinds, out)
	}
	for i, l := range got[:4] {
		if l.Count != []int{4, 4, 12, 12}[i] || l.Served != l.Count || l.Failed+l.Throttled != 0 || l.Types["on-demand"] != l.Count || l.MostAtOnce < 1 || l.MostAtOnce > l.Count {
			t.Errorf("burst: %+v", l)
		}
		if l.P50 == nil || l.P99 == nil || !(0 < *l.P50 && *l.P50 <= *l.P99) {
			t.Errorf("burst: %v and %v ms", l.P50, l.P99)
		}
	}
	// Callers that begin late find a permit that was given back, so not all of the second three need be refused.
	reserved := got[4]
	if reserved.Served+reserved.Throttled != 6 || reserved.Served < 3 || reserved.MostAtOnce > 3 || reserved.Failed != 0 ||
		reserved.Reasons["ReservedFunctionConcurrentInvocationLimitExceeded"] != reserved.Throttled || reserved.RetryAfter["1"] != reserved.Throttled || reserved.Throttled == 0 {
		t.Errorf("reserved: %+v", reserved)
	}
	canary := got[5]
	if canary.Served != 300 || !canary.Within || canary.Versions["1"]+canary.Versions["2"] != 300 || canary.Got == 0 {
		t.Errorf("canary: %+v", canary)
	}
	if l := got[6]; l.Status != "IN_PROGRESS" || l.Available != 2 || l.ReadyAfter <= 0 {
		t.Errorf("provisioned: %+v", l)
	}
	if l := got[7]; l.Served != 4 || l.Types["provisioned-concurrency"] < 2 || l.Types["provisioned-concurrency"]+l.Types["on-demand"] != 4 {
		t.Errorf("provisioned-burst: %+v", l)
	}
	if l := got[8]; l.Wanted != 5 || l.Available != 5 || l.Throttled != 0 || l.Served == 0 || l.AskedAfter <= 0 || l.ReadyAfter < l.AskedAfter || len(l.Activities) == 0 {
		t.Errorf("load-step: %+v", l)
	}
	left, err := p.Lambda().ListFunctions(t.Context(), &lambda.ListFunctionsInput{})
	if err != nil || len(left.Functions) != 0 {
		t.Errorf("it leaves %+v, %v", left, err)
	}
	p.Stop()
	harness.NothingLeft(t, p.Data)
}

// eventsLine is one measurement of scripts/measure/events.py.
type eventsLine struct {
	Kind                             string
	Sent, Accepted, Attempted, Count int
	Delivered, Lost, Again, Rate     int
	PerSecond                        float64  `json:"per_second"`
	FirstP50                         *float64 `json:"first_attempt_p50_ms"`
	FirstP99                         *float64 `json:"first_attempt_p99_ms"`
	P50                              *float64 `json:"p50_ms"`
	P99                              *float64 `json:"p99_ms"`
}

// TestMeasureEvents runs the program that measures the event side, as it would run on AWS, with small numbers. How long things
// take is not looked at; that nothing is lost is.
func TestMeasureEvents(t *testing.T) {
	python := findPython(t)
	p := harness.Start(t, harness.Options{Config: network + forkConfig})
	out, text, err := run(t, p.Env(), "", python, unmodified(t, python, filepath.Join(harness.Root(), "scripts", "measure", "events.py"),
		"--senders", "4", "--seconds", "1", "--paced", "10", "--rates", "5,50", "--patience", "60")...)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, text)
	}
	ordered := func(low, high *float64) bool { return low != nil && high != nil && 0 < *low && *low <= *high }
	var kinds []string
	for line := range strings.Lines(out) {
		var l eventsLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		kinds = append(kinds, l.Kind)
		good := false
		switch l.Kind {
		case "paced":
			good = l.Sent == 10 && l.Attempted == 10 && ordered(l.FirstP50, l.FirstP99)
		case "accepted":
			good = l.Accepted > 0 && l.Attempted == l.Accepted && l.Lost == 0 && l.PerSecond > 0 && ordered(l.FirstP50, l.FirstP99)
		case "mapping":
			good = l.Sent == l.Rate && l.Delivered == l.Sent && l.Lost == 0 && ordered(l.P50, l.P99)
		default:
			good = l.Count > 0 && l.PerSecond > 0
		}
		if !good {
			t.Errorf("%s", line)
		}
	}
	if want := "paced accepted send send-batch receive-delete mapping mapping"; strings.Join(kinds, " ") != want {
		t.Fatalf("it measured %q:\n%s", kinds, out)
	}
	left, err := p.Lambda().ListFunctions(t.Context(), &lambda.ListFunctionsInput{})
	if err != nil || len(left.Functions) != 0 {
		t.Errorf("it leaves %+v, %v", left, err)
	}
	p.Stop()
	harness.NothingLeft(t, p.Data)
}
