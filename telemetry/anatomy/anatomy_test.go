package anatomy

import (
	"strings"
	"testing"
	"time"

	"thaw"
)

// lengths makes phases of milliseconds that follow each other.
func lengths(of map[thaw.Phase]float64) (p thaw.Phases) {
	var at time.Duration
	for phase := range thaw.NumPhases {
		if n, ok := of[phase]; ok {
			p[phase] = thaw.Span{Start: at, Length: time.Duration(n * float64(time.Millisecond))}
			at += p[phase].Length
		}
	}
	return p
}

func boot(init, handler float64) *thaw.Invocation {
	return &thaw.Invocation{
		Function: "f", Version: thaw.Latest, Kind: thaw.StartBoot, Cause: thaw.CauseFirst, MemorySize: 128, MaxMemoryUsed: 60,
		Phases: lengths(map[thaw.Phase]float64{
			thaw.PhaseAdmit: 0.1, thaw.PhasePlace: 0.2, thaw.PhaseSandbox: 4, thaw.PhaseRuntime: 20, thaw.PhaseInit: init, thaw.PhaseHandler: handler,
		}),
	}
}

const msec = time.Millisecond

// pandas is what a module that imports pandas and boto3 spends 520 ms on.
func pandas() *thaw.InitProfile {
	return &thaw.InitProfile{Length: 520 * msec, Modules: []thaw.Module{
		{Name: "app", Parent: -1, Kind: thaw.ModuleImport, File: "/var/task/app.py", Self: 8 * msec, Total: 520 * msec},
		{Name: "pandas", Parent: 0, Kind: thaw.ModuleImport, File: "/var/task/pandas/__init__.py", Self: 50 * msec, Total: 412 * msec, Bytes: 10},
		{Name: "numpy", Parent: 1, Kind: thaw.ModuleImport, File: "/var/task/numpy/__init__.py", Self: 60 * msec, Total: 200 * msec, Bytes: 5},
		{Name: "numpy.core", Parent: 2, Kind: thaw.ModuleImport, File: "/var/task/numpy/core/__init__.py", Self: 140 * msec, Total: 140 * msec},
		{Name: "pandas.core", Parent: 1, Kind: thaw.ModuleImport, File: "/var/task/pandas/core/__init__.py", Self: 162 * msec, Total: 162 * msec},
		{Name: "boto3", Parent: 0, Kind: thaw.ModuleImport, File: "/usr/lib/python3/dist-packages/boto3/__init__.py", Self: 5 * msec, Total: 90 * msec},
		{Name: "botocore", Parent: 5, Kind: thaw.ModuleImport, File: "/usr/lib/python3/dist-packages/botocore/__init__.py", Self: 85 * msec, Total: 85 * msec},
		{Name: "json", Parent: 0, Kind: thaw.ModuleImport, File: "/usr/lib/python3.11/json/__init__.py", Self: 10 * msec, Total: 10 * msec},
	}}
}

// TestVerdicts holds each rule to words that say what happened, and others that must not be there.
func TestVerdicts(t *testing.T) {
	usual := func(start float64, init float64) Usual {
		u := Usual{Count: 12, Start: time.Duration(start * float64(msec))}
		u.Phases[thaw.PhaseInit] = time.Duration(init * float64(msec))
		return u
	}
	warm := Usual{Count: 40}
	warm.Phases[thaw.PhaseHandler] = 4 * msec
	with := func(i *thaw.Invocation, change func(*thaw.Invocation)) *thaw.Invocation { change(i); return i }
	for _, test := range []struct {
		name     string
		of       Case
		dominant string
		first    string // phase of the first finding
		want     []string
		not      []string
	}{
		{
			name: "heavy import, tag off",
			of: Case{Invocation: boot(520, 3), Profile: pandas(), Handler: "app.handler",
				Template: Template{State: "off", Reasons: []string{"the tag thaw:snapshot is off"}}},
			dominant: "init", first: "init",
			want: []string{
				"547 ms, of which 520 ms (95 %) were init",
				"nothing had run this version",
				"import pandas took 412 of 520 ms of init (200 ms of it numpy)",
				"Import it inside the handler that needs it, or let thaw fork the environments: thaw:snapshot is off because the function has the tag",
				"import boto3 took 90 of 520 ms of init (85 ms of it botocore)",
				"It was not forked: the tag thaw:snapshot is off.",
			},
			not: []string{"json", "import app "},
		},
		{
			name: "heavy import, unsafe to fork",
			of: Case{Invocation: boot(520, 3), Profile: pandas(), Handler: "app.handler",
				Template: Template{State: "unsafe", Reasons: []string{"2 threads are running after init (reporter)", "init is connected to db:5432"}}},
			dominant: "init", first: "init",
			want: []string{"which it does not because 2 threads are running after init (reporter); init is connected to db:5432."},
		},
		{
			name:     "heavy import, template ready by now",
			of:       Case{Invocation: boot(520, 3), Profile: pandas(), Handler: "app.handler", Template: Template{State: "ready"}},
			dominant: "init", first: "init",
			want: []string{"It has one now", "does not pay for it again"},
		},
		{
			name:     "init not measured",
			of:       Case{Invocation: boot(520, 3), NotMeasured: "telemetry.init_profile is off", Template: Template{State: "unsupported", Reasons: []string{"the runtime provided.al2023 cannot be forked"}}},
			dominant: "init", first: "init",
			want: []string{"Init took 520 ms. What it did was not measured, since telemetry.init_profile is off.", "the runtime provided.al2023 cannot be forked"},
		},
		{
			name: "own code",
			of: Case{Invocation: boot(300, 3), Handler: "app.handler", Profile: &thaw.InitProfile{Length: 300 * msec, Modules: []thaw.Module{
				{Name: "app", Parent: -1, Kind: thaw.ModuleImport, File: "/var/task/app.py", Self: 50 * msec, Total: 300 * msec},
				{Name: "tables", Parent: 0, Kind: thaw.ModuleImport, File: "/var/task/tables.py", Self: 240 * msec, Total: 250 * msec},
				{Name: "json", Parent: 1, Kind: thaw.ModuleImport, File: "/usr/lib/python3.11/json/__init__.py", Self: 10 * msec, Total: 10 * msec},
			}}},
			dominant: "init", first: "init",
			want: []string{"The function's own modules, without what they import, took 290 of 300 ms of init, most of it tables."},
			not:  []string{"import json"},
		},
		{
			name: "connection",
			of: Case{Invocation: boot(300, 3), Handler: "app.handler", Profile: &thaw.InitProfile{Length: 300 * msec,
				Connections: []thaw.Connection{{Host: "db.example", Address: "10.0.0.1:5432", DNS: 150 * msec, TCP: 20 * msec, TLS: 60 * msec, Module: -1}}}},
			dominant: "init", first: "init",
			want: []string{"Opening connections took 230 of 300 ms of init, the slowest to db.example: name resolution 150 ms, TCP 20 ms, TLS 60 ms.", "Name resolution is most of it"},
		},
		{
			name: "require",
			of: Case{Invocation: boot(200, 3), Handler: "index.handler", Profile: &thaw.InitProfile{Length: 200 * msec, Modules: []thaw.Module{
				{Name: "/var/task/index.js", Parent: -1, Kind: thaw.ModuleRequire, File: "/var/task/index.js", Self: 2 * msec, Total: 190 * msec},
				{Name: "/var/task/node_modules/@aws-sdk/client-s3/dist/index.js", Parent: 0, Kind: thaw.ModuleRequire, File: "/var/task/node_modules/@aws-sdk/client-s3/dist/index.js", Total: 150 * msec},
				{Name: "/var/task/lib/x.js", Parent: 0, Kind: thaw.ModuleRequire, File: "/var/task/lib/x.js", Total: 30 * msec},
				{Name: "/var/task/node_modules/lodash/lodash.js", Parent: 2, Kind: thaw.ModuleRequire, File: "/var/task/node_modules/lodash/lodash.js", Total: 28 * msec},
			}}},
			dominant: "init", first: "init",
			want: []string{`require("@aws-sdk/client-s3") took 150 of 200 ms`, `require("lodash") took 28 of 200 ms`, "Call require inside the handler"},
		},
		{
			name:     "unusually slow",
			of:       Case{Invocation: boot(900, 3), Usual: usual(300, 270), Profile: pandas(), Handler: "app.handler"},
			dominant: "init", first: "init",
			want: []string{"usual boot takes 300 ms before the handler (median of 12); this one took 924 ms, 3.1 times as long, 630 ms more in init."},
		},
		{
			name:     "as usual",
			of:       Case{Invocation: boot(300, 3), Usual: usual(310, 280)},
			dominant: "init", first: "init",
			want: []string{"; this one took 324 ms."},
			not:  []string{"times as long"},
		},
		{
			name:     "no median of two",
			of:       Case{Invocation: boot(300, 3), Usual: Usual{Count: 2, Start: msec}},
			dominant: "init", first: "init",
			not: []string{"usual"},
		},
		{
			name: "node full",
			of: Case{Invocation: with(boot(30, 3), func(i *thaw.Invocation) {
				i.NodeFull, i.Cause = true, thaw.CauseScaleOut
				i.Phases[thaw.PhasePlace].Length = 800 * msec
			})},
			dominant: "place", first: "place",
			want: []string{"It waited 800 ms for room", "environments.max", "every other environment was busy"},
		},
		{
			name:     "waited for its turn",
			of:       Case{Invocation: with(boot(30, 3), func(i *thaw.Invocation) { i.Phases[thaw.PhasePlace].Length = 800 * msec })},
			dominant: "place", first: "place",
			want: []string{"waited 800 ms for its turn", "environments.starters"},
		},
		{
			name: "waited for another request's environment",
			of: Case{Invocation: &thaw.Invocation{Kind: thaw.StartWarm, Phases: lengths(map[thaw.Phase]float64{
				thaw.PhaseAdmit: 0.1, thaw.PhasePlace: 90, thaw.PhaseHandler: 3,
			})}},
			dominant: "place", first: "place",
			want: []string{"It waited 90 ms for an environment: all were busy"},
		},
		{
			name: "fork",
			of: Case{Invocation: &thaw.Invocation{Kind: thaw.StartFork, Cause: thaw.CauseScaleOut, Phases: lengths(map[thaw.Phase]float64{
				thaw.PhaseAdmit: 0.1, thaw.PhasePlace: 0.1, thaw.PhaseRuntime: 8, thaw.PhaseRestore: 2, thaw.PhaseHandler: 3,
			})}, Profile: pandas(), Template: Template{State: "ready"}},
			dominant: "runtime", first: "runtime",
			want: []string{"forked from the version's template", "Forking took 8.0 ms."},
			not:  []string{"pandas", "not forked"},
		},
		{
			name: "restore hooks",
			of: Case{Invocation: &thaw.Invocation{Kind: thaw.StartFork, Cause: thaw.CauseScaleOut, Phases: lengths(map[thaw.Phase]float64{
				thaw.PhaseRuntime: 8, thaw.PhaseRestore: 120, thaw.PhaseHandler: 3,
			})}},
			dominant: "restore", first: "restore",
			want: []string{"The restore took 120 ms"},
		},
		{
			name: "spare, first call slow",
			of: Case{Invocation: &thaw.Invocation{Kind: thaw.StartSpare, Cause: thaw.CauseScaleOut, Phases: lengths(map[thaw.Phase]float64{
				thaw.PhasePlace: 0.1, thaw.PhaseHandler: 300,
			})}, Warm: warm},
			dominant: "handler", first: "handler",
			want: []string{"its start cost next to nothing", "The handler took 300 ms; its warm calls take 4.0 ms (median of 40).", "thaw:warmup-event"},
		},
		{
			name: "warm",
			of: Case{Invocation: &thaw.Invocation{Kind: thaw.StartWarm, Phases: lengths(map[thaw.Phase]float64{
				thaw.PhaseAdmit: 0.02, thaw.PhaseHandler: 4,
			})}, Warm: warm},
			dominant: "handler",
			want:     []string{"4.0 ms were the handler", "warm environment"},
		},
		{
			name: "fetch",
			of: Case{Invocation: with(boot(30, 3), func(i *thaw.Invocation) {
				i.Phases[thaw.PhaseFetch] = thaw.Span{Start: msec, Length: 2 * time.Second}
			})},
			dominant: "fetch", first: "fetch",
			want: []string{"unpacking it took 2000 ms, once for this code"},
		},
		{
			name: "failed init",
			of: Case{Invocation: with(boot(5000, 0), func(i *thaw.Invocation) {
				i.Failed, i.ErrorType, i.Crashed = true, "Runtime.ImportModuleError", true
				i.Phases[thaw.PhaseHandler] = thaw.Span{}
			})},
			dominant: "init", first: "init",
			want: []string{"Init failed (Runtime.ImportModuleError), so that the handler never ran.", "thaw logs f"},
			not:  []string{"not measured"},
		},
		{
			name: "failed import",
			of: Case{Invocation: with(boot(500, 0), func(i *thaw.Invocation) {
				i.Failed, i.ErrorType, i.Crashed = true, "Runtime.ImportModuleError", true
				i.Phases[thaw.PhaseHandler] = thaw.Span{}
			}), Profile: &thaw.InitProfile{Modules: []thaw.Module{
				{Name: "app", Parent: -1, Failed: true}, {Name: "mine", Parent: 0, Failed: true}, {Name: "json", Parent: 1}, {Name: "missing", Parent: 1, Failed: true}, {Name: "optional", Parent: 2, Failed: true},
			}}},
			dominant: "init", first: "init",
			want: []string{"Init failed (Runtime.ImportModuleError) in loading missing, so that"},
		},
		{
			name: "extensions go on",
			of: Case{Invocation: &thaw.Invocation{Kind: thaw.StartWarm, Duration: 900 * msec, PostRuntime: 890 * msec, Phases: lengths(map[thaw.Phase]float64{
				thaw.PhaseHandler: 10,
			})}},
			dominant: "handler", first: "post_runtime",
			want: []string{
				"its start cost next to nothing. Extensions went on for 890 ms after the response.",
				"Extensions went on for 890 ms after the response; the caller did not wait for them, but the environment was busy and they are billed.",
			},
		},
		{
			name: "extensions go on for a moment",
			of: Case{Invocation: &thaw.Invocation{Kind: thaw.StartWarm, Duration: 12 * msec, PostRuntime: 2 * msec, Phases: lengths(map[thaw.Phase]float64{
				thaw.PhaseHandler: 10, thaw.PhaseRespond: 1,
			})}},
			dominant: "handler",
			want:     []string{"Extensions went on for 2.0 ms after the response."},
			not:      []string{"billed"},
		},
		{
			name: "the caller waits for extensions",
			of: Case{Invocation: &thaw.Invocation{Kind: thaw.StartWarm, Duration: 900 * msec, PostRuntime: 890 * msec, Phases: thaw.Phases{
				thaw.PhaseHandler: {Length: 10 * msec}, thaw.PhaseRespond: {Start: 900 * msec, Length: msec},
			}}},
			dominant: "post_runtime", first: "post_runtime",
			want: []string{"took 901 ms, of which 890 ms (99 %) were extensions, after the handler had answered.", "the caller waited for them, since it asked for the log's tail"},
			not:  []string{"next to nothing", "did not wait"},
		},
		{
			name: "repeated init",
			of: Case{Usual: usual(60, 30), Invocation: with(boot(30, 3), func(i *thaw.Invocation) {
				i.FailedInit = 10 * time.Second
				for phase := thaw.PhaseSandbox; phase <= thaw.PhaseHandler; phase++ {
					i.Phases[phase].Start += i.FailedInit
				}
			})},
			dominant: "init", first: "init",
			want: []string{
				"took 10057 ms, of which 10000 ms (99 %) were an init that failed and was repeated.", "A first init failed after 10000 ms and was repeated",
				"167.6 times as long, 10000 ms of it an init that failed and was repeated.",
			},
		},
		{
			name: "timeout on the first call",
			of: Case{Invocation: with(boot(30, 3000), func(i *thaw.Invocation) {
				i.Failed, i.TimedOut, i.ErrorType, i.Duration = true, true, thaw.ErrorTimedOut, 3*time.Second
			}), Warm: warm, Timeout: 3},
			dominant: "handler", first: "handler",
			want: []string{"timeout of 3 s", "Its warm calls take 4.0 ms"},
		},
		{
			name: "out of memory",
			of: Case{Invocation: with(boot(30, 300), func(i *thaw.Invocation) {
				i.Failed, i.Crashed, i.ErrorType, i.MaxMemoryUsed = true, true, thaw.ErrorOutOfMemory, 128
			})},
			dominant: "handler", first: "handler",
			want: []string{"it used 128 of 128 MB", "Raise MemorySize"},
		},
		{
			name: "crash",
			of: Case{Invocation: with(boot(30, 300), func(i *thaw.Invocation) {
				i.Failed, i.Crashed, i.ErrorType = true, true, thaw.ErrorExit
			})},
			dominant: "handler", first: "handler",
			want: []string{"The runtime ended during the invocation (Runtime.ExitError)"},
		},
		{
			name: "second attempt",
			of: Case{Invocation: &thaw.Invocation{Kind: thaw.StartWarm, Async: true, EventAge: 61 * time.Second, Failed: true, ErrorType: "ValueError",
				Phases: lengths(map[thaw.Phase]float64{thaw.PhaseHandler: 4})}, Attempt: 2},
			dominant: "handler", first: "handler",
			want: []string{"Attempt 2 took 4.0 ms", "It began 1m1s after the event was accepted.", "answered with an error (ValueError)"},
		},
		{
			name: "provisioned, spilled over",
			of: Case{Invocation: with(boot(30, 3), func(i *thaw.Invocation) { i.SpilledOver = true }),
				Template: Template{State: "building"}},
			dominant: "init", first: "init",
			want: []string{"Every provisioned environment of its version was busy.", "one is being made"},
		},
		{
			name: "nothing known",
			of:   Case{Invocation: &thaw.Invocation{}},
			want: []string{"The invocation took 0.00 ms."},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := Explain(&test.of)
			var all strings.Builder
			for _, s := range []string{v.Summary, v.Start, v.NotForked, v.Compared} {
				all.WriteString(s + "\n")
			}
			for _, f := range v.Findings {
				all.WriteString(f.What + "\n" + f.Do + "\n")
			}
			for _, want := range test.want {
				if !strings.Contains(all.String(), want) {
					t.Errorf("does not say %q:\n%s", want, all.String())
				}
			}
			for _, not := range test.not {
				if strings.Contains(all.String(), not) {
					t.Errorf("says %q:\n%s", not, all.String())
				}
			}
			if v.Dominant != test.dominant {
				t.Errorf("%q dominated, not %q", v.Dominant, test.dominant)
			}
			first := ""
			if len(v.Findings) > 0 {
				first = v.Findings[0].Phase
			}
			if first != test.first {
				t.Errorf("the first finding is of %q, not %q:\n%s", first, test.first, all.String())
			}
			for line := range strings.Lines(all.String()) {
				if text := strings.TrimSpace(line); text != "" && !strings.HasSuffix(text, ".") && !strings.HasSuffix(text, "thaw logs f") {
					t.Errorf("%q is no sentence", text)
				}
			}
		})
	}
}

func TestUsual(t *testing.T) {
	var list []thaw.Invocation
	for n := range 5 {
		list = append(list, *boot(float64(100*(n+1)), 1))
	}
	failed := *boot(9000, 0)
	failed.Failed = true
	list = append(list, failed, thaw.Invocation{Kind: thaw.StartWarm})
	u := UsualOf(list, thaw.StartBoot)
	if u.Count != 5 || u.Phases[thaw.PhaseInit] != 300*msec || u.Start != 324300*time.Microsecond || u.Slowest != 524300*time.Microsecond {
		t.Errorf("%+v", u)
	}
	if u = UsualOf(list, thaw.StartFork); u.Count != 0 {
		t.Errorf("%+v of none", u)
	}
	if i := Typical(list, thaw.StartBoot); i == nil || i.Phases[thaw.PhaseInit].Length != 300*msec {
		t.Errorf("the typical one is %+v", i)
	}
	if i := Typical(list[5:6], thaw.StartBoot); i == nil || !i.Failed {
		t.Error("a failed one does not stand for failed ones")
	}
	if Typical(list, thaw.StartFork) != nil {
		t.Error("there is a typical one of none")
	}
}

// FuzzTakeApart sees that no profile that a function could have made up ends it.
func FuzzTakeApart(f *testing.F) {
	f.Add("app", "/var/task/app.py", "pandas", "/var/task/node_modules/@x/y/z.js", 0, 1, int64(5), "app.handler")
	f.Add("", "", "", "", 1, 1, int64(-1), "")
	f.Fuzz(func(_ *testing.T, name1, file1, name2, file2 string, parent1, parent2 int, total int64, handler string) {
		p := &thaw.InitProfile{Length: time.Duration(total)}
		for n := range 4 {
			p.Modules = append(p.Modules,
				thaw.Module{Name: name1, File: file1, Parent: parent1 + n, Kind: thaw.ModuleImport, Total: time.Duration(total)},
				thaw.Module{Name: name2, File: file2, Parent: parent2, Kind: thaw.ModuleRequire, Self: time.Duration(total), Total: time.Duration(total)})
		}
		p.Connections = []thaw.Connection{{Host: name1, DNS: time.Duration(total), Module: parent1}}
		Explain(&Case{Invocation: boot(100, 1), Profile: p, Handler: handler})
	})
}
