package telemetry

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"thaw"
)

// TestLinesInJSON compares with recorded CloudWatch output where there is some; the rest has the members of AWS's schema.
func TestLinesInJSON(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)
	json := func(level string) Lines {
		return LinesOf(&thaw.Version{Function: "f", Number: "$LATEST", MemorySize: 256, LogFormat: "JSON", LogLevel: "INFO", SystemLevel: level})
	}
	init := &Init{Type: "on-demand", Phase: "init", Runtime: "nodejs:22.1", RuntimeARN: "arn:r", ID: "e"}
	provisioned := &Init{Type: "provisioned-concurrency", Phase: "init", ID: "e"}
	good := &thaw.Invocation{
		RequestID: "id", Version: "$LATEST", Duration: 3923569 * time.Microsecond, Billed: 4069 * time.Millisecond, MemorySize: 256, MaxMemoryUsed: 118,
		InitDuration: 145399 * time.Microsecond, TraceID: "Root=1;Parent=2;Sampled=0",
	}
	restored := &thaw.Invocation{RequestID: "id", Duration: time.Millisecond, RestoreDuration: 2 * time.Millisecond, BilledRestore: 3 * time.Millisecond, TraceID: "Root=1;Sampled=1"}
	late := &thaw.Invocation{RequestID: "id", TimedOut: true, ErrorType: thaw.ErrorTimedOut, Duration: 5 * time.Second}
	bad := &thaw.Invocation{RequestID: "id", ErrorType: "Sorry\"<b>\n", Duration: time.Second}
	dead := &thaw.Invocation{RequestID: "id", ErrorType: thaw.ErrorExit, Crashed: true}
	const head = `{"time":"2026-01-02T03:04:05.678Z","type":"platform.`
	for _, test := range []struct {
		what  string
		write func(l Lines) []byte
		debug []string // of the lines at DEBUG, what follows head
		info  int      // how many of the last of them there are at INFO
		warn  int
	}{
		{"init", func(l Lines) []byte { return l.InitStart(nil, at, init) }, []string{`initStart","record":{"initializationType":"on-demand","phase":"init","runtimeVersion":"nodejs:22.1","runtimeVersionArn":"arn:r","functionName":"f","functionVersion":"$LATEST","instanceId":"e","instanceMaxMemory":268435456}}`}, 1, 0},
		{"init without version", func(l Lines) []byte { return l.InitStart(nil, at, provisioned) }, []string{`initStart","record":{"initializationType":"provisioned-concurrency","phase":"init","functionName":"f","functionVersion":"$LATEST","instanceId":"e","instanceMaxMemory":268435456}}`}, 0, 0},
		{"restore", func(l Lines) []byte { return l.RestoreStart(nil, at, init) }, []string{`restoreStart","record":{"runtimeVersion":"nodejs:22.1","runtimeVersionArn":"arn:r","functionName":"f","functionVersion":"$LATEST","instanceId":"e","instanceMaxMemory":268435456}}`}, 1, 0},
		{"init done", func(l Lines) []byte { return l.InitReport(nil, at, init, time.Second, "", "") }, []string{`initRuntimeDone","record":{"initializationType":"on-demand","phase":"init","status":"success"}}`, `initReport","record":{"initializationType":"on-demand","phase":"init","status":"success","metrics":{"durationMs":1000}}}`}, 0, 0},
		{"provisioned init done", func(l Lines) []byte { return l.InitReport(nil, at, provisioned, time.Second, "", "") }, []string{`initRuntimeDone","record":{"initializationType":"provisioned-concurrency","phase":"init","status":"success"}}`, `initReport","record":{"initializationType":"provisioned-concurrency","phase":"init","status":"success","metrics":{"durationMs":1000}}}`}, 1, 0},
		{"init failed", func(l Lines) []byte { return l.InitReport(nil, at, init, time.Second, "error", "E") }, []string{`initRuntimeDone","record":{"initializationType":"on-demand","phase":"init","status":"error","errorType":"E"}}`, `initReport","record":{"initializationType":"on-demand","phase":"init","status":"error","errorType":"E","metrics":{"durationMs":1000}}}`}, 2, 2},
		{"restore done", func(l Lines) []byte { return l.RestoreReport(nil, at, 1500*time.Microsecond, "", "") }, []string{`restoreRuntimeDone","record":{"status":"success"}}`, `restoreReport","record":{"status":"success","metrics":{"durationMs":1.5}}}`}, 1, 0},
		{"restore failed", func(l Lines) []byte { return l.RestoreReport(nil, at, time.Second, "timeout", "") }, []string{`restoreRuntimeDone","record":{"status":"timeout"}}`, `restoreReport","record":{"status":"timeout","metrics":{"durationMs":1000}}}`}, 2, 2},
		{"start", func(l Lines) []byte { return l.Start(nil, at, good, "arn:f") }, []string{`start","record":{"requestId":"id","functionArn":"arn:f","version":"$LATEST"}}`}, 1, 0},
		{"end", func(l Lines) []byte { return l.End(nil, at, good, 16) }, []string{`runtimeDone","record":{"requestId":"id","status":"success","metrics":{"durationMs":3923.569,"producedBytes":16}}}`}, 0, 0},
		{"end in time", func(l Lines) []byte { return l.End(nil, at, late, 0) }, []string{`runtimeDone","record":{"requestId":"id","status":"timeout","metrics":{"durationMs":5000,"producedBytes":0}}}`}, 1, 1},
		{"report", func(l Lines) []byte { return l.Report(nil, at, good) }, []string{`report","record":{"requestId":"id","metrics":{"durationMs":3923.569,"billedDurationMs":4069,"memorySizeMB":256,"maxMemoryUsedMB":118,"initDurationMs":145.399},"status":"success"}}`}, 1, 0},
		{"report of a restore", func(l Lines) []byte { return l.Report(nil, at, restored) }, []string{`report","record":{"requestId":"id","metrics":{"durationMs":1,"billedDurationMs":0,"memorySizeMB":0,"maxMemoryUsedMB":0,"restoreDurationMs":2,"billedRestoreDurationMs":3},"tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1;Sampled=1"},"status":"success"}}`}, 1, 0},
		{"report of an error", func(l Lines) []byte { return l.Report(nil, at, bad) }, []string{`report","record":{"requestId":"id","metrics":{"durationMs":1000,"billedDurationMs":0,"memorySizeMB":0,"maxMemoryUsedMB":0},"status":"error","errorType":"Sorry\"<b>\n"}}`}, 1, 1},
		{"a timeout's text", func(l Lines) []byte { return l.Fault(nil, at, late, "Task timed out\n\n") }, nil, 0, 0},
		{"a crash's text", func(l Lines) []byte { return l.Fault(nil, at, dead, "why\nType\n") }, []string{`fault","record":"why\nType"}`}, 1, 1},
	} {
		for level, want := range map[string][]string{"DEBUG": test.debug, "INFO": test.debug[len(test.debug)-test.info:], "WARN": test.debug[len(test.debug)-test.warn:]} {
			text := ""
			for _, line := range want {
				text += head + line + "\n"
			}
			if got := string(test.write(json(level))); got != text {
				t.Errorf("%s at %s:\n%s\nwant\n%s", test.what, level, got, text)
			}
		}
	}
}

func TestLinesAsText(t *testing.T) {
	l := LinesOf(&thaw.Version{Function: "f", Number: "1"})
	r := &thaw.Invocation{RequestID: "id", Version: "1", Duration: time.Millisecond, Billed: time.Millisecond}
	now := time.Now()
	got := string(l.Start(nil, now, r, "arn")) + string(l.Fault(nil, now, r, "text\n")) + string(l.End(nil, now, r, 0)) + string(l.Report(nil, now, r)) +
		string(l.InitReport(nil, now, &Init{Phase: "init"}, time.Second, "", ""))
	want := string(AppendStart(nil, "id", "1")) + "text\n" + string(AppendEnd(nil, "id")) + string(AppendReport(nil, r))
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// Whatever a function calls its errors, the line is one JSON object.
func FuzzReportInJSON(f *testing.F) {
	f.Add("Exception", "id")
	f.Fuzz(func(t *testing.T, errorType, id string) {
		l := LinesOf(&thaw.Version{LogFormat: "JSON"})
		line := l.Report(nil, time.Now(), &thaw.Invocation{RequestID: id, ErrorType: errorType})
		if !json.Valid(line) || strings.Count(string(line), "\n") != 1 {
			t.Errorf("%q", line)
		}
	})
}
