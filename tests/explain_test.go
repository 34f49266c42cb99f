package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"thaw/tests/harness"
)

// ask runs the command line to its end.
func (s *stage) ask(t *testing.T, args ...string) (out string, exit int) {
	t.Helper()
	cmd, printed := s.thaw(t.Context(), t, args...)
	_ = cmd.Wait() // the exit code says it
	return printed.String(), cmd.ProcessState.ExitCode()
}

// explain runs thaw explain, whose output must hold all of want, whatever its lines are broken at.
func (s *stage) explain(t *testing.T, what string, want ...string) string {
	t.Helper()
	out, exit := s.ask(t, "explain", what)
	if exit != 0 {
		t.Fatalf("thaw explain %s: exit %d\n%s", what, exit, out)
	}
	flat := strings.Join(strings.Fields(out), " ")
	for _, w := range want {
		if !regexp.MustCompile(w).MatchString(flat) {
			t.Errorf("thaw explain %s does not say %q:\n%s", what, w, out)
		}
	}
	return out
}

// heavyPython is a function that loads a library which loads another one, as pandas does numpy.
var heavyPython = deployed{runtime: "python3.11", handler: "f.handler", files: map[string]string{
	"f.py":                        "import json\nimport pandas\nimport light\ndef handler(event, context):\n    return event\n",
	"light.py":                    "x = 1\n",
	"pandas/__init__.py":          "import time\nimport numpy\nfrom pandas import frames\ntime.sleep(0.05)\n",
	"pandas/frames.py":            "import time\ntime.sleep(0.1)\n",
	"numpy/__init__.py":           "import time\ntime.sleep(0.2)\n",
	"numpy-1.0.dist-info/LICENSE": "x",
}}

var heavyNode = deployed{runtime: "nodejs20.x", handler: "index.handler", files: map[string]string{
	"index.js":                        "const heavy = require('heavy'); exports.handler = async (e) => e\n",
	"node_modules/heavy/package.json": `{"name": "heavy", "main": "main.js"}`,
	"node_modules/heavy/main.js":      "require('inner'); const end = Date.now() + 50; while (Date.now() < end);\n",
	"node_modules/inner/index.js":     "const end = Date.now() + 200; while (Date.now() < end);\n",
}}

// TestExplainNamesTheImport is what nobody could tell before: which import a slow start was spent on, and what to do.
func TestExplainNamesTheImport(t *testing.T) {
	s := startStageWith(t, noSpares)
	for _, test := range []struct {
		name string
		of   deployed
		want []string
	}{
		{"python", heavyPython, []string{
			`import pandas took \d+ of \d+ ms of init \(2\d\d ms of it numpy\)`, `Import it inside the handler that needs it, or let thaw fork`,
			`f .* pandas .* numpy`,
		}},
		{"node", heavyNode, []string{
			`require\("heavy"\) took \d+ of \d+ ms of init \(\d+ ms of it inner\)`, `Call require inside the handler that needs it, or let thaw fork`,
			`index.js .* heavy`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.of.tags = booted
			s.deploy(t, test.name, test.of)
			a := s.succeed(t, test.name, `{"n":1}`, `{"n":1}`)
			always := []string{
				`of which \d+ ms \(\d+ %\) were init`, `booted for it, since nothing had run this version`, `thaw:snapshot is off`,
				`init \d+\.\d ms`, `What its init loaded`, "environment " + a.explanation.Environment,
			}
			s.explain(t, a.id, append(always, test.want...)...)
			s.explain(t, test.name, append([]string{`1 invocations`, `boot 1 0`, `first 1`, `A typical one of the kind that costs most: ` + a.id}, test.want...)...)
			var view struct {
				Version  int `json:"version"`
				Attempts []struct {
					RequestID string `json:"request_id"`
					Kind      string `json:"start_kind"`
					Profile   struct {
						Modules []struct {
							Name  string `json:"name"`
							Total int64  `json:"total_us"`
						} `json:"modules"`
					} `json:"profile"`
					Verdict struct {
						Dominant string `json:"dominant"`
					} `json:"verdict"`
				} `json:"attempts"`
			}
			out, exit := s.ask(t, "explain", a.id, "--json")
			if err := json.Unmarshal([]byte(out), &view); err != nil || exit != 0 || view.Version != 1 || len(view.Attempts) != 1 {
				t.Fatalf("exit %d, %v: %s", exit, err, out)
			}
			if got := view.Attempts[0]; got.RequestID != a.id || got.Kind != "boot" || got.Verdict.Dominant != "init" || len(got.Profile.Modules) == 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestExplainEachKindOfStart runs the same function in environments that came about in every way.
func TestExplainEachKindOfStart(t *testing.T) {
	s := startForking(t)
	s.deploy(t, "kinds", heavyPython)
	s.needTemplate(t, "kinds")
	s.settled(t, "kinds")
	spare := s.invoke(t, "kinds", `{}`)
	warm := s.invoke(t, "kinds", `{}`)
	fork, err := s.forced(t.Context(), "kinds", `{}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		a    *answer
		kind string
		want []string
	}{
		{spare, "spare", []string{`in a spare, an environment that was made before the request came`, `What the init that this start did not have to go through`, `numpy`}},
		{warm, "warm", []string{`in a warm environment, which had served before`, `its start cost next to nothing|were the handler`}},
		{fork, "fork", []string{`forked from the version's template for it, since the caller asked for a new environment`, `restore`, `numpy`}},
	} {
		if test.a.explanation.Kind != test.kind {
			t.Errorf("a start is %s, not %s", test.a.explanation.Kind, test.kind)
		}
		if out := s.explain(t, test.a.id, test.want...); strings.Contains(out, "not forked") {
			t.Errorf("a %s is told not to be forked:\n%s", test.kind, out)
		}
	}
	s.explain(t, "kinds", `3 invocations`, `forked from a template; each saves`, `fork 1`, `spare 1`)

	hazardous := heavyPython
	hazardous.files = map[string]string{"f.py": "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True, name='reporter').start()\ndef handler(e, c): return e\n"}
	s.deploy(t, "unsafe", hazardous)
	a, err := s.forced(t.Context(), "unsafe", `{}`)
	if err != nil {
		t.Fatal(err)
	}
	s.explain(t, a.id, `booted for it`, `It was not forked: 1 thread is running after init`)
}

// TestExplainFailures asks about calls that went wrong.
func TestExplainFailures(t *testing.T) {
	s := startStageWith(t, noSpares+"events:\n  retry_wait: 1s\n")
	s.python(t, "broken", "import nothing_of_that_name\n", deployed{tags: booted})
	s.python(t, "slow", "import time\ndef handler(e, c): time.sleep(60)\n", deployed{tags: booted, timeout: 1})
	s.python(t, "exits", "import os\ndef handler(e, c): os._exit(3)\n", deployed{tags: booted})
	s.python(t, "raises", "def handler(e, c): raise KeyError('x')\n", deployed{tags: booted})

	s.explain(t, s.invoke(t, "broken", `{}`).id, `Init failed \(Runtime.ImportModuleError\) in loading nothing_of_that_name, so that the handler never ran`, `thaw logs broken`, `error Runtime.ImportModuleError`)
	s.explain(t, s.invoke(t, "slow", `{}`).id, `ran into the function's timeout of 1 s`, `error Sandbox.Timedout`)
	s.explain(t, s.invoke(t, "slow", `{}`).id, `the last environment was ended by a timeout \(timed-out\)`)
	s.explain(t, s.invoke(t, "exits", `{}`).id, `The runtime ended during the invocation \(Runtime.ExitError\)`)
	s.explain(t, s.invoke(t, "raises", `{}`).id, `The function answered with an error \(KeyError\)`)

	// An event's attempts have one request id.
	a := s.call(t, http.MethodPost, "/2015-03-31/functions/raises/invocations", map[string]string{"X-Amz-Invocation-Type": "Event"}, strings.NewReader(`{}`))
	if a.status != http.StatusAccepted {
		t.Fatalf("%d %s", a.status, a.payload)
	}
	harness.Eventually(t, "all attempts are recorded", func() bool {
		out, exit := s.ask(t, "explain", a.id)
		return exit == 0 && strings.Contains(out, "Attempt 3 took")
	})
	s.explain(t, a.id, `Attempt 1 took .* It began .* after the event was accepted.* Attempt 2 took .* Attempt 3 took .* It began \S+ (ms )?after the event was accepted`)

	// What was refused ran nothing.
	if r := s.call(t, http.MethodPut, "/2017-10-31/functions/raises/concurrency", nil, strings.NewReader(`{"ReservedConcurrentExecutions": 0}`)); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.payload)
	}
	var refused *answer
	harness.Eventually(t, "the function is throttled", func() bool {
		refused = s.call(t, http.MethodPost, "/2015-03-31/functions/raises/invocations", invokeHeaders, strings.NewReader(`{}`))
		return refused.status == http.StatusTooManyRequests
	})
	if out, exit := s.ask(t, "explain", refused.id); exit != 4 || !strings.Contains(out, "refused (429") {
		t.Errorf("exit %d: %s", exit, out)
	}
	harness.Eventually(t, "the throttles are told with their reason", func() bool {
		out, exit := s.ask(t, "explain", "raises")
		return exit == 0 && strings.Contains(out, "ReservedFunctionConcurrentInvocationLimitExceeded")
	})
	s.explain(t, "raises", `[1-9]\d* throttles`, `Throttled \(429\) since .* [1-9]\d* ReservedFunctionConcurrentInvocationLimitExceeded .* reserved concurrency`)
	if out, exit := s.ask(t, "explain", "nobody"); exit != 4 || !strings.Contains(out, "Function not found") {
		t.Errorf("exit %d: %s", exit, out)
	}

	// The native API's list, and what it refuses.
	for query, want := range map[string]int{"": http.StatusOK, "?kind=boot&since=1h&limit=2": http.StatusOK, "?kind=cold": http.StatusOK,
		"?kind=lukewarm": http.StatusBadRequest, "?since=yesterday": http.StatusBadRequest, "?limit=0": http.StatusBadRequest} {
		r := s.call(t, http.MethodGet, "/_thaw/functions/slow/invocations"+query, nil, nil)
		if r.status != want || want == http.StatusOK && strings.Count(r.payload, `"request_id"`) != 2 {
			t.Errorf("%s: %d %s", query, r.status, r.payload)
		}
	}
}

// TestRecordsSurviveKill: of what ended a good while before a kill -9, nothing is lost.
func TestRecordsSurviveKill(t *testing.T) {
	data := t.TempDir()
	options := harness.Options{Config: stageConfig + noSpares, Data: data}
	p := harness.Start(t, options)
	s := &stage{Platform: p, client: p.Lambda()}
	s.python(t, "f", "def handler(e, c): return e\n", deployed{tags: booted})
	type ended struct {
		id string
		at time.Time
	}
	var mu sync.Mutex
	var all []ended
	var callers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				a, err := s.tryCall(t.Context(), http.MethodPost, "/2015-03-31/functions/f/invocations", nil, strings.NewReader(`{}`))
				if err != nil || a.status != http.StatusOK {
					return // killed
				}
				mu.Lock()
				all = append(all, ended{a.id, time.Now()})
				mu.Unlock()
			}
		})
	}
	harness.Eventually(t, "there are calls", func() bool { mu.Lock(); defer mu.Unlock(); return len(all) > 2000 })
	killed := time.Now()
	s.Kill()
	close(stop)
	callers.Wait()

	p = harness.Start(t, options)
	s = &stage{Platform: p, client: p.Lambda()}
	kept := map[string]bool{}
	var list struct {
		Invocations []struct {
			RequestID string `json:"request_id"`
		} `json:"invocations"`
	}
	// The newest thousand; the calls before them are not what a kill could take.
	r := s.call(t, http.MethodGet, "/_thaw/functions/f/invocations?limit=1000", nil, nil)
	if err := json.Unmarshal([]byte(r.payload), &list); err != nil || r.status != http.StatusOK {
		t.Fatalf("%d %v %s", r.status, err, r.payload)
	}
	for _, i := range list.Invocations {
		kept[i.RequestID] = true
	}
	var worst time.Duration
	lost, before := 0, 0
	for n := len(all) - 1; n >= max(0, len(all)-800); n-- {
		if kept[all[n].id] {
			continue
		}
		lost++
		if age := killed.Sub(all[n].at); age > time.Second { // a machine under load stores later than 100 ms
			before++
			worst = max(worst, age)
		} else {
			worst = max(worst, age)
		}
	}
	t.Logf("%d calls, %d of the last ones lost, the oldest %v before the kill", len(all), lost, worst)
	if before > 0 {
		t.Errorf("%d records of calls are lost that ended more than a second before the kill", before)
	}
	if len(kept) == 0 {
		t.Error("nothing was kept")
	}
	first := fmt.Sprint(all[0].id)
	s.explain(t, first, `The invocation took`)
}
