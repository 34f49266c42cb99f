package telemetry

import (
	"strconv"
	"time"

	"thaw"
)

// The platform's own log lines, in AWS's exact text (recorded CloudWatch output). All are appended to dst, so that a
// caller can reuse one buffer.

// AppendInitStart is written when an environment is made.
func AppendInitStart(dst []byte, runtimeVersion, runtimeARN string) []byte {
	return appendRuntime(append(dst, "INIT_START "...), runtimeVersion, runtimeARN)
}

// AppendRestoreStart is written instead of INIT_START when an environment is forked with SnapStart.
func AppendRestoreStart(dst []byte, runtimeVersion, runtimeARN string) []byte {
	return appendRuntime(append(dst, "RESTORE_START "...), runtimeVersion, runtimeARN)
}

func appendRuntime(dst []byte, runtimeVersion, runtimeARN string) []byte {
	dst = append(dst, "Runtime Version: "...)
	dst = append(dst, runtimeVersion...)
	dst = append(dst, "\tRuntime Version ARN: "...)
	dst = append(dst, runtimeARN...)
	return append(dst, '\n')
}

// AppendInitReport is written only when init failed: status is "error" or "timeout", phase "init" or "invoke".
func AppendInitReport(dst []byte, length time.Duration, phase, status, errorType string) []byte {
	dst = append(dst, "INIT_REPORT Init Duration: "...)
	dst = appendMillis(dst, length)
	dst = append(dst, " ms\tPhase: "...)
	dst = append(dst, phase...)
	return appendStatus(dst, status, errorType)
}

// AppendRestoreReport ends what AppendRestoreStart began. status is empty for a restore that succeeded, else "error" or
// "timeout" (AWS, Lambda execution environment lifecycle, failures during the Restore phase).
func AppendRestoreReport(dst []byte, length time.Duration, status, errorType string) []byte {
	dst = append(dst, "RESTORE_REPORT Restore Duration: "...)
	dst = appendMillis(dst, length)
	dst = append(dst, " ms"...)
	if status == "" {
		return append(dst, '\n')
	}
	return appendStatus(dst, status, errorType)
}

func appendStatus(dst []byte, status, errorType string) []byte {
	dst = append(dst, "\tStatus: "...)
	dst = append(dst, status...)
	if errorType != "" {
		dst = append(dst, "\tError Type: "...)
		dst = append(dst, errorType...)
	}
	return append(dst, '\n')
}

// AppendStart is the START line.
func AppendStart(dst []byte, requestID, version string) []byte {
	dst = append(dst, "START RequestId: "...)
	dst = append(dst, requestID...)
	dst = append(dst, " Version: "...)
	dst = append(dst, version...)
	return append(dst, '\n')
}

// AppendEnd is the END line.
func AppendEnd(dst []byte, requestID string) []byte {
	dst = append(dst, "END RequestId: "...)
	dst = append(dst, requestID...)
	return append(dst, '\n')
}

// AppendReport is the REPORT line of a finished invocation.
func AppendReport(dst []byte, r *thaw.Invocation) []byte {
	dst = append(dst, "REPORT RequestId: "...)
	dst = append(dst, r.RequestID...)
	dst = append(dst, "\tDuration: "...)
	dst = appendMillis(dst, r.Duration)
	dst = append(dst, " ms\tBilled Duration: "...)
	dst = strconv.AppendInt(dst, r.Billed.Milliseconds(), 10)
	dst = append(dst, " ms\tMemory Size: "...)
	dst = strconv.AppendInt(dst, int64(r.MemorySize), 10)
	dst = append(dst, " MB\tMax Memory Used: "...)
	dst = strconv.AppendInt(dst, int64(r.MaxMemoryUsed), 10)
	dst = append(dst, " MB\t"...)
	if r.InitDuration > 0 {
		dst = append(dst, "Init Duration: "...)
		dst = appendMillis(dst, r.InitDuration)
		dst = append(dst, " ms\t"...)
	}
	if r.RestoreDuration > 0 {
		dst = append(dst, "Restore Duration: "...)
		dst = appendMillis(dst, r.RestoreDuration)
		dst = append(dst, " ms\tBilled Restore Duration: "...)
		dst = strconv.AppendInt(dst, r.BilledRestore.Milliseconds(), 10)
		dst = append(dst, " ms\t"...)
	}
	switch {
	case r.TimedOut:
		dst = append(dst, "Status: timeout"...)
	case r.Crashed:
		dst = append(dst, "Status: error\tError Type: "...)
		dst = append(dst, r.ErrorType...)
	}
	return append(dst, '\n')
}

func appendDropped(dst []byte, events int) []byte {
	dst = append(dst, "thaw: "...)
	dst = strconv.AppendInt(dst, int64(events), 10)
	return append(dst, " log events were dropped: the function writes faster than the store can keep\n"...)
}

// Billed is what AWS bills: handler and init together, rounded up to whole milliseconds.
func Billed(duration, init time.Duration) time.Duration {
	const ms = time.Millisecond
	return (duration + init + ms - 1) / ms * ms
}

// appendMillis writes d in milliseconds with two decimals.
func appendMillis(dst []byte, d time.Duration) []byte {
	return strconv.AppendFloat(dst, float64(d)/float64(time.Millisecond), 'f', 2, 64)
}
