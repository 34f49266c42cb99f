package telemetry

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"thaw"
)

// Lines makes the platform's own lines in the log of one version: AWS's text, or its JSON objects ("Lambda Telemetry API Event
// schema reference"; recorded CloudWatch output), of which the version's SystemLogLevel leaves some out ("Log-level filtering",
// the table of system log events). Each method appends a line to dst, several, or nothing.
type Lines struct{ version *thaw.Version }

// LinesOf gives the lines of a version, which must not change.
func LinesOf(v *thaw.Version) Lines { return Lines{v} }

// Init is what lines say of an environment that is being initialised.
type Init struct {
	Type       string // on-demand, provisioned-concurrency or snap-start
	Phase      string // "init", or "invoke" for an init that is repeated within an invocation
	Runtime    string // the runtime's version; empty: not known
	RuntimeARN string
	ID         string // of the environment
}

// Levels of the platform's lines.
const (
	levelDebug = iota
	levelInfo
	levelWarn
)

// outcome is the level of a line that says how something ended: level when it ended well.
func outcome(status string, level int) int {
	if status == statusSuccess {
		return level
	}
	return levelWarn
}

const (
	statusSuccess = "success"
	onDemand      = "on-demand"
)

// wants reports whether the log takes JSON lines of a level.
func (l Lines) wants(level int) bool {
	switch l.version.SystemLevel {
	case "DEBUG":
		return true
	case "WARN":
		return level >= levelWarn
	default:
		return level >= levelInfo
	}
}

// InitStart is written when an environment is made.
func (l Lines) InitStart(dst []byte, at time.Time, i *Init) []byte {
	if !l.version.LogsJSON() {
		return AppendInitStart(dst, i.Runtime, i.RuntimeARN)
	}
	return l.started(dst, at, "platform.initStart", i)
}

// RestoreStart is written instead when an environment is forked with SnapStart.
func (l Lines) RestoreStart(dst []byte, at time.Time, i *Init) []byte {
	if !l.version.LogsJSON() {
		return AppendRestoreStart(dst, i.Runtime, i.RuntimeARN)
	}
	return l.started(dst, at, "platform.restoreStart", i)
}

func (l Lines) started(dst []byte, at time.Time, kind string, i *Init) []byte {
	level := levelInfo
	if i.Runtime == "" {
		level = levelDebug
	}
	if !l.wants(level) {
		return dst
	}
	o := begin(dst, at, kind)
	if kind == "platform.initStart" {
		o.text("initializationType", i.Type)
		o.text("phase", i.Phase)
	}
	o.optional("runtimeVersion", i.Runtime)
	o.optional("runtimeVersionArn", i.RuntimeARN)
	o.text("functionName", l.version.Function)
	o.text("functionVersion", l.version.Number)
	o.text("instanceId", i.ID)
	o.integer("instanceMaxMemory", int64(l.version.MemorySize)<<20)
	return o.end()
}

// InitReport is written when an init has ended: as text only when it failed. status is empty on success, "error" or
// "timeout".
func (l Lines) InitReport(dst []byte, at time.Time, i *Init, length time.Duration, status, errorType string) []byte {
	if !l.version.LogsJSON() {
		if status == "" {
			return dst
		}
		return AppendInitReport(dst, length, i.Phase, status, errorType)
	}
	if status == "" {
		status = statusSuccess
	}
	if l.wants(outcome(status, levelDebug)) {
		o := begin(dst, at, "platform.initRuntimeDone")
		o.initEnd(i, status, errorType)
		dst = o.end()
	}
	level := levelInfo
	if i.Type == onDemand {
		level = levelDebug
	}
	if l.wants(outcome(status, level)) {
		o := begin(dst, at, "platform.initReport")
		o.initEnd(i, status, errorType)
		o.object("metrics")
		o.millis("durationMs", length)
		o.close()
		dst = o.end()
	}
	return dst
}

// RestoreReport ends what RestoreStart began; status is as for InitReport.
func (l Lines) RestoreReport(dst []byte, at time.Time, length time.Duration, status, errorType string) []byte {
	if !l.version.LogsJSON() {
		return AppendRestoreReport(dst, length, status, errorType)
	}
	if status == "" {
		status = statusSuccess
	}
	if l.wants(outcome(status, levelDebug)) {
		o := begin(dst, at, "platform.restoreRuntimeDone")
		o.text("status", status)
		o.optional("errorType", errorType)
		dst = o.end()
	}
	if l.wants(outcome(status, levelInfo)) {
		o := begin(dst, at, "platform.restoreReport")
		o.text("status", status)
		o.optional("errorType", errorType)
		o.object("metrics")
		o.millis("durationMs", length)
		o.close()
		dst = o.end()
	}
	return dst
}

// Start begins an invocation. arn is what it was invoked by.
func (l Lines) Start(dst []byte, at time.Time, r *thaw.Invocation, arn string) []byte {
	if !l.version.LogsJSON() {
		return AppendStart(dst, r.RequestID, r.Version)
	}
	if !l.wants(levelInfo) {
		return dst
	}
	o := begin(dst, at, "platform.start")
	o.text("requestId", r.RequestID)
	o.text("functionArn", arn)
	o.text("version", r.Version)
	o.tracing(r.TraceID)
	return o.end()
}

// End is written when the runtime has answered, or will not. produced is the response's length in bytes.
func (l Lines) End(dst []byte, at time.Time, r *thaw.Invocation, produced int) []byte {
	if !l.version.LogsJSON() {
		return AppendEnd(dst, r.RequestID)
	}
	status, errorType := ended(r)
	if !l.wants(outcome(status, levelDebug)) {
		return dst
	}
	o := begin(dst, at, "platform.runtimeDone")
	o.text("requestId", r.RequestID)
	o.text("status", status)
	o.optional("errorType", errorType)
	o.object("metrics")
	o.millis("durationMs", r.Duration-r.PostRuntime)
	o.integer("producedBytes", int64(produced))
	o.close()
	o.tracing(r.TraceID)
	return o.end()
}

// Report is the REPORT of a finished invocation.
func (l Lines) Report(dst []byte, at time.Time, r *thaw.Invocation) []byte {
	if !l.version.LogsJSON() {
		return AppendReport(dst, r)
	}
	status, errorType := ended(r)
	if !l.wants(outcome(status, levelInfo)) {
		return dst
	}
	o := begin(dst, at, "platform.report")
	o.text("requestId", r.RequestID)
	o.object("metrics")
	o.millis("durationMs", r.Duration)
	o.integer("billedDurationMs", r.Billed.Milliseconds())
	o.integer("memorySizeMB", int64(r.MemorySize))
	o.integer("maxMemoryUsedMB", int64(r.MaxMemoryUsed))
	if r.InitDuration > 0 {
		o.millis("initDurationMs", r.InitDuration)
	}
	if r.RestoreDuration > 0 {
		o.millis("restoreDurationMs", r.RestoreDuration)
		o.integer("billedRestoreDurationMs", r.BilledRestore.Milliseconds())
	}
	o.close()
	o.tracing(r.TraceID)
	o.text("status", status)
	o.optional("errorType", errorType)
	return o.end()
}

// Fault is what is known of an invocation whose environment ended or ran out of time: text is AWS's line for it. In JSON the
// records of End and Report tell of a timeout, and this, in the form of the Logs API, says why an environment ended.
func (l Lines) Fault(dst []byte, at time.Time, r *thaw.Invocation, text string) []byte {
	if !l.version.LogsJSON() {
		return append(dst, text...)
	}
	if r.TimedOut {
		return dst
	}
	o := object{appendHead(dst, at, "platform.fault"), 0}
	o.quote(strings.TrimSuffix(text, "\n"))
	return append(o.data, "}\n"...)
}

// ended is an invocation's status in the records.
func ended(r *thaw.Invocation) (status, errorType string) {
	switch {
	case r.TimedOut:
		return "timeout", ""
	case r.Crashed || r.ErrorType != "":
		return "error", r.ErrorType
	}
	return statusSuccess, ""
}

// object appends the members of one record.
type object struct {
	data []byte
	open byte // what the next member is separated by; 0: nothing
}

func appendHead(dst []byte, at time.Time, kind string) []byte {
	dst = append(dst, `{"time":"`...)
	dst = at.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	dst = append(dst, `","type":"`...)
	dst = append(dst, kind...)
	return append(dst, `","record":`...)
}

func begin(dst []byte, at time.Time, kind string) *object {
	return &object{append(appendHead(dst, at, kind), '{'), 0}
}

func (o *object) end() []byte { return append(o.data, "}}\n"...) }

func (o *object) name(name string) {
	if o.open != 0 {
		o.data = append(o.data, o.open)
	}
	o.open = ','
	o.data = append(o.data, '"')
	o.data = append(o.data, name...)
	o.data = append(o.data, `":`...)
}

func (o *object) text(name, value string) {
	o.name(name)
	o.quote(value)
}

func (o *object) optional(name, value string) {
	if value != "" {
		o.text(name, value)
	}
}

// quote appends a string. What needs escaping is rare: names of errors, which are the function's.
func (o *object) quote(s string) {
	if strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r > '~' }) < 0 {
		o.data = append(append(append(o.data, '"'), s...), '"')
		return
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.Encode(s) //nolint:errcheck // a string always encodes
	o.data = append(o.data, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}

func (o *object) integer(name string, value int64) {
	o.name(name)
	o.data = strconv.AppendInt(o.data, value, 10)
}

// millis appends a length of time in milliseconds with up to three decimals.
func (o *object) millis(name string, d time.Duration) {
	o.name(name)
	o.data = strconv.AppendFloat(o.data, float64(d.Microseconds())/1000, 'f', -1, 64)
}

func (o *object) object(name string) {
	o.name(name)
	o.data = append(o.data, '{')
	o.open = 0
}

func (o *object) close() {
	o.data = append(o.data, '}')
	o.open = ','
}

func (o *object) initEnd(i *Init, status, errorType string) {
	o.text("initializationType", i.Type)
	o.text("phase", i.Phase)
	o.text("status", status)
	o.optional("errorType", errorType)
}

// tracing appends the trace of an invocation that is sampled.
func (o *object) tracing(trace string) {
	if !strings.Contains(trace, "Sampled=1") {
		return
	}
	o.object("tracing")
	o.text("type", "X-Amzn-Trace-Id")
	o.text("value", trace)
	o.close()
}
