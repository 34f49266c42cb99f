package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"thaw"
	"thaw/invoke"
	"thaw/telemetry/records"
)

// kept are records in memory, the newest first.
type kept []thaw.Invocation

func (k kept) Request(_ context.Context, id string) (found []thaw.Invocation, err error) {
	for _, i := range k {
		if i.RequestID == id {
			found = append(found, i)
		}
	}
	return found, nil
}

func (k kept) Invocations(_ context.Context, q records.Query) (found []thaw.Invocation, err error) {
	for _, i := range k {
		if i.Function == q.Function && (len(q.Kinds) == 0 || i.Kind == q.Kinds[0] || len(q.Kinds) > 1) && !i.Start.Before(q.Since) {
			found = append(found, i)
		}
	}
	return found, nil
}

func (kept) Profiles(_ context.Context, _ string, ids ...string) (found []thaw.InitProfile, err error) {
	if len(ids) > maxProfiles {
		return nil, fmt.Errorf("%d profiles are asked for", len(ids))
	}
	for _, id := range ids {
		found = append(found, thaw.InitProfile{ID: id, Length: time.Second, Modules: []thaw.Module{{Name: "pandas", Parent: -1, Kind: thaw.ModuleImport, Total: 900 * time.Millisecond}}})
	}
	return found, nil
}

func (kept) Dropped() uint64 { return 3 }

// explaining is a server with some records.
func explaining(t *testing.T, k Records) func(path string) *httptest.ResponseRecorder {
	return explainingThrottled(t, k, nil)
}

func explainingThrottled(t *testing.T, k Records, throttled func(context.Context, string, time.Time) (map[string]int64, error)) func(path string) *httptest.ResponseRecorder {
	t.Helper()
	v := thaw.Version{Number: thaw.Latest, State: thaw.StateActive, Handler: "app.handler", Timeout: 3}
	server := newServer(t)
	d := deployed{{Name: "f", Config: v, Running: &v}}
	s := New(Config{
		Services: server.cfg.Services, Catalog: d, Placement: d, Download: http.NotFoundHandler(), Log: slog.New(slog.DiscardHandler),
		Invoker: invoke.New(invoke.Config{Catalog: nothing{}, Placer: nothing{}, Concurrency: 10}), Records: k, MeasuresInit: true, Throttled: throttled,
	})
	return func(path string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
}

func record(id, function string, kind thaw.StartKind, start time.Time, length time.Duration) thaw.Invocation {
	i := thaw.Invocation{RequestID: id, Function: function, Version: thaw.Latest, Kind: kind, Cause: thaw.CauseScaleOut, Start: start, ProfileID: "p"}
	if kind == thaw.StartWarm {
		i.Cause = ""
	}
	i.Phases[thaw.PhaseInit] = thaw.Span{Length: length}
	i.Phases[thaw.PhaseHandler] = thaw.Span{Start: length, Length: time.Millisecond}
	return i
}

func TestExplainInvocation(t *testing.T) {
	now := time.Now()
	late := record("async", "gone", thaw.StartBoot, now, time.Second)
	late.Async = true
	ask := explaining(t, kept{record("a", "f", thaw.StartBoot, now, time.Second), late, late})
	var view invocationView
	w := ask("/_thaw/invocations/a")
	if err := json.Unmarshal(w.Body.Bytes(), &view); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %v %s", w.Code, err, w.Body)
	}
	if view.Dropped != 3 || len(view.Attempts) != 1 || view.Attempts[0].Profile == nil || view.Attempts[0].Profile.ID != "p" ||
		!strings.Contains(view.Attempts[0].Verdict.Findings[0].What, "import pandas took 900 of 1000 ms") {
		t.Errorf("%+v", view)
	}
	// Of a function that is gone as well, and each attempt by its number.
	if w = ask("/_thaw/invocations/async"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "Attempt 2 took") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w = ask("/_thaw/invocations/b"); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "could not keep up") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestExplainManyAttempts holds an answer to few profiles, which can be large: the last attempts'.
func TestExplainManyAttempts(t *testing.T) {
	var k kept
	for n := range 100 {
		i := record("a", "f", thaw.StartBoot, time.Now(), time.Second)
		i.Async, i.ProfileID = true, fmt.Sprint(n/2)
		k = append(k, i)
	}
	var view invocationView
	w := explaining(t, k)("/_thaw/invocations/a")
	if err := json.Unmarshal(w.Body.Bytes(), &view); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %v %s", w.Code, err, w.Body)
	}
	for n := range view.Attempts {
		if has := view.Attempts[n].Profile != nil; has != (n >= 80) {
			t.Errorf("attempt %d has a profile: %v", n, has)
		}
	}
}

func TestStarts(t *testing.T) {
	now := time.Now()
	var k kept
	for n := range 5 {
		k = append(k, record("boot"+string(rune('0'+n)), "f", thaw.StartBoot, now, time.Duration(n+1)*100*time.Millisecond))
	}
	k = append(k, record("fork", "f", thaw.StartFork, now, time.Millisecond), record("old", "f", thaw.StartBoot, now.Add(-48*time.Hour), time.Hour))
	ask := explaining(t, k)
	var view startsView
	w := ask("/_thaw/functions/f/starts")
	if err := json.Unmarshal(w.Body.Bytes(), &view); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %v %s", w.Code, err, w.Body)
	}
	if len(view.Kinds) != 2 || view.Kinds[0].StartKind != thaw.StartBoot || view.Kinds[0].Count != 5 || view.Kinds[0].Median != 300_000 || view.Kinds[0].Phases["init"] != 300_000 {
		t.Errorf("%+v", view.Kinds)
	}
	if view.Typical == nil || view.Typical.RequestID != "boot2" || len(view.Slowest) != slowestShown || view.Slowest[0].RequestID != "boot4" {
		t.Errorf("%+v, %+v", view.Typical, view.Slowest)
	}
	if w = ask("/_thaw/functions/absent/starts"); w.Code != http.StatusNotFound {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w = ask("/_thaw/functions/f/invocations?kind=fork"); w.Code != http.StatusOK || strings.Count(w.Body.String(), "request_id") != 1 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, query := range []string{"kind=cool", "limit=1001", "since=-1h"} {
		if w = ask("/_thaw/functions/f/invocations?" + query); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

// TestStartsSaysWhatWasThrottled asks for the time that the starts are of as well.
func TestStartsSaysWhatWasThrottled(t *testing.T) {
	var asked time.Time
	count := func(_ context.Context, function string, since time.Time) (map[string]int64, error) {
		asked = since
		return map[string]int64{"ConcurrentInvocationLimitExceeded": 2, "ReservedFunctionConcurrentInvocationLimitExceeded": 5, "new": 1}, nil
	}
	now := time.Now()
	var k kept
	for range records.MaxLimit {
		k = append(k, record("r", "f", thaw.StartBoot, now.Add(-time.Minute), time.Millisecond))
	}
	for _, test := range []struct {
		of   kept
		back time.Duration
	}{{k[:1], time.Hour}, {k, time.Minute}} { // of the latter there are more than are counted
		var view startsView
		w := explainingThrottled(t, test.of, count)("/_thaw/functions/f/starts?since=1h")
		if err := json.Unmarshal(w.Body.Bytes(), &view); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%d %v %s", w.Code, err, w.Body)
		}
		if len(view.Throttled) != 3 || view.Throttled[0].Count != 5 || !strings.Contains(view.Throttled[0].What, "reserved concurrency") || view.Throttled[1].Do == "" || view.Throttled[2].Reason != "new" {
			t.Errorf("%+v", view.Throttled)
		}
		if !view.Since.Equal(asked) || now.Sub(asked)-test.back > time.Minute/2 || test.back-now.Sub(asked) > time.Minute/2 {
			t.Errorf("since %v, throttled since %v", view.Since, asked)
		}
	}
}

func TestWithoutRecords(t *testing.T) {
	ask := explaining(t, nil)
	for _, path := range []string{"/_thaw/invocations/a", "/_thaw/functions/f/starts", "/_thaw/functions/f/invocations"} {
		if w := ask(path); w.Code != http.StatusNotImplemented || !strings.Contains(w.Body.String(), "telemetry.invocations") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
