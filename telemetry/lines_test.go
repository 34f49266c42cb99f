package telemetry

import (
	"testing"
	"time"

	"thaw"
)

func TestLines(t *testing.T) {
	const id = "8f507cfc-xmpl-4697-b07a-ac58fc914c95"
	warm := thaw.Invocation{RequestID: id, Version: "$LATEST", Duration: 3010 * time.Microsecond, Billed: 4 * time.Millisecond, MemorySize: 128, MaxMemoryUsed: 36}
	cold := warm
	cold.InitDuration = 110100 * time.Microsecond
	restored := warm // the durations of a recorded AWS line
	restored.Duration, restored.Billed = 2338660*time.Microsecond, 2521*time.Millisecond
	restored.RestoreDuration, restored.BilledRestore = 398970*time.Microsecond, 182*time.Millisecond
	timedOut := warm
	timedOut.TimedOut, timedOut.ErrorType = true, thaw.ErrorTimedOut
	crashed := warm
	crashed.Crashed, crashed.ErrorType = true, thaw.ErrorExit
	failed := warm
	failed.ErrorType = "ValueError"
	const report = "REPORT RequestId: " + id + "\tDuration: 3.01 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t"
	for _, test := range []struct{ name, got, want string }{
		{"start", string(AppendStart(nil, id, "$LATEST")), "START RequestId: " + id + " Version: $LATEST\n"},
		{"end", string(AppendEnd(nil, id)), "END RequestId: " + id + "\n"},
		{"warm", string(AppendReport(nil, &warm)), report + "\n"},
		{"cold", string(AppendReport(nil, &cold)), report + "Init Duration: 110.10 ms\t\n"},
		{"restored", string(AppendReport(nil, &restored)), "REPORT RequestId: " + id + "\tDuration: 2338.66 ms\tBilled Duration: 2521 ms\t" +
			"Memory Size: 128 MB\tMax Memory Used: 36 MB\tRestore Duration: 398.97 ms\tBilled Restore Duration: 182 ms\t\n"},
		{"timeout", string(AppendReport(nil, &timedOut)), report + "Status: timeout\n"},
		{"crash", string(AppendReport(nil, &crashed)), report + "Status: error\tError Type: Runtime.ExitError\n"},
		{"handler error", string(AppendReport(nil, &failed)), report + "\n"},
		{"init start", string(AppendInitStart(nil, "python:3.11.2", "arn:x")), "INIT_START Runtime Version: python:3.11.2\tRuntime Version ARN: arn:x\n"},
		{"init error", string(AppendInitReport(nil, 10170*time.Microsecond, "init", "error", "Runtime.ExitError")),
			"INIT_REPORT Init Duration: 10.17 ms\tPhase: init\tStatus: error\tError Type: Runtime.ExitError\n"},
		{"init timeout", string(AppendInitReport(nil, 9999790*time.Microsecond, "init", "timeout", "")),
			"INIT_REPORT Init Duration: 9999.79 ms\tPhase: init\tStatus: timeout\n"},
		{"restore start", string(AppendRestoreStart(nil, "java:11.v20", "arn:x")), "RESTORE_START Runtime Version: java:11.v20\tRuntime Version ARN: arn:x\n"},
		{"restore", string(AppendRestoreReport(nil, 398970*time.Microsecond, "", "")), "RESTORE_REPORT Restore Duration: 398.97 ms\n"},
		{"restore error", string(AppendRestoreReport(nil, 1236040*time.Microsecond, "error", "Runtime.ExitError")),
			"RESTORE_REPORT Restore Duration: 1236.04 ms\tStatus: error\tError Type: Runtime.ExitError\n"},
		{"restore timeout", string(AppendRestoreReport(nil, 1236040*time.Microsecond, "timeout", "")), "RESTORE_REPORT Restore Duration: 1236.04 ms\tStatus: timeout\n"},
	} {
		if test.got != test.want {
			t.Errorf("%s:\n got %q\nwant %q", test.name, test.got, test.want)
		}
	}
}

func TestBilled(t *testing.T) {
	for _, test := range []struct{ duration, init, want time.Duration }{
		{0, 0, 0},
		{time.Microsecond, 0, time.Millisecond},
		{time.Millisecond, 0, time.Millisecond},
		{2338660 * time.Microsecond, 182 * time.Millisecond, 2521 * time.Millisecond}, // a recorded AWS line
	} {
		if got := Billed(test.duration, test.init); got != test.want {
			t.Errorf("Billed(%v, %v) = %v, want %v", test.duration, test.init, got, test.want)
		}
	}
}
