package extensions

import (
	"bytes"
	"encoding/json"
	"time"

	"thaw"
	"thaw/runtimes"
)

// Categories of events.
const (
	categoryPlatform  = "platform"
	categoryFunction  = "function"
	categoryExtension = "extension"
)

// event is one telemetry event before it is known who takes it. A nil record is of no event in that API.
type event struct {
	at        time.Time
	category  string
	kind      string
	telemetry any    // the record in the Telemetry API
	logs      any    // the record in the Logs API
	logsSince string // the first schema of the Logs API that has it; empty: all
	line      string // of a function or an extension, where record is the object that it is
	size      int    // of a line, bytes
}

// objectsSince is the first schema in which a line that is a JSON object is one; the older ones have it as text (AWS, "Lambda
// Telemetry API Event schema reference", function).
const objectsSince = "2022-12-13"

// timeFormat is that of the events' time and of the spans' start.
const timeFormat = "2006-01-02T15:04:05.000Z"

func stamp(at time.Time) string { return at.UTC().Format(timeFormat) }

// encode is the event as a subscriber gets it, nil if its API or schema has none.
func (e *event) encode(s *subscription) []byte {
	record := e.telemetry
	if s.api == logsAPI {
		record = e.logs
		if e.logsSince > s.schema {
			return nil
		}
	}
	if record == nil {
		return nil
	}
	if e.line != "" && s.schema < objectsSince {
		record = e.line
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if enc.Encode(struct {
		Time   string `json:"time"`
		Type   string `json:"type"`
		Record any    `json:"record"`
	}{stamp(e.at), e.kind, record}) != nil {
		return nil // nothing that is put into it can fail
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// The records, after AWS's developer guide ("Lambda Telemetry API Event schema reference").
type (
	initStart struct {
		Type     string `json:"initializationType"`
		Phase    string `json:"phase"`
		Version  string `json:"runtimeVersion,omitempty"`
		ARN      string `json:"runtimeVersionArn,omitempty"`
		Function string `json:"functionName,omitempty"`
		Number   string `json:"functionVersion,omitempty"`
		Instance string `json:"instanceId,omitempty"`
		Memory   int    `json:"instanceMaxMemory,omitempty"` // bytes
	}
	initRuntimeDone struct {
		Type      string `json:"initializationType"`
		Phase     string `json:"phase"`
		Status    string `json:"status"`
		ErrorType string `json:"errorType,omitempty"`
	}
	initReport struct {
		Type    string         `json:"initializationType"`
		Phase   string         `json:"phase"`
		Status  string         `json:"status"`
		Error   string         `json:"errorType,omitempty"`
		Metrics durationMetric `json:"metrics"`
	}
	durationMetric struct {
		Duration millis `json:"durationMs"`
	}
	traceContext struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	start struct {
		ID      string        `json:"requestId"`
		Version string        `json:"version,omitempty"`
		Tracing *traceContext `json:"tracing,omitempty"`
	}
	requestOnly struct {
		ID string `json:"requestId"`
	}
	span struct {
		Name     string `json:"name"`
		Start    string `json:"start"`
		Duration millis `json:"durationMs"`
	}
	runtimeDone struct {
		ID        string              `json:"requestId"`
		Status    string              `json:"status"`
		ErrorType string              `json:"errorType,omitempty"`
		Metrics   *runtimeDoneMetrics `json:"metrics,omitempty"`
		Spans     []span              `json:"spans,omitempty"`
		Tracing   *traceContext       `json:"tracing,omitempty"`
	}
	runtimeDoneMetrics struct {
		Duration millis `json:"durationMs"`
		Bytes    int    `json:"producedBytes"`
	}
	runtimeDoneLogs struct {
		ID     string `json:"requestId"`
		Status string `json:"status"` // success, failure or timeout
	}
	report struct {
		ID        string        `json:"requestId"`
		Status    string        `json:"status,omitempty"`
		ErrorType string        `json:"errorType,omitempty"`
		Metrics   reportMetrics `json:"metrics"`
		Spans     []span        `json:"spans,omitempty"`
		Tracing   *traceContext `json:"tracing,omitempty"`
	}
	reportMetrics struct {
		Duration      millis `json:"durationMs"`
		Billed        int64  `json:"billedDurationMs"`
		Size          int    `json:"memorySizeMB"`
		Used          int    `json:"maxMemoryUsedMB"`
		Init          millis `json:"initDurationMs,omitempty"`
		Restore       millis `json:"restoreDurationMs,omitempty"`
		BilledRestore int64  `json:"billedRestoreDurationMs,omitempty"`
	}
	extensionRecord struct {
		Name      string   `json:"name"`
		State     string   `json:"state"`
		Events    []string `json:"events"`
		ErrorType string   `json:"errorType,omitempty"`
	}
	subscribed struct {
		Name  string   `json:"name"`
		State string   `json:"state"`
		Types []string `json:"types"`
	}
	dropped struct {
		Reason  string `json:"reason"`
		Records int    `json:"droppedRecords"`
		Bytes   int    `json:"droppedBytes"`
	}
)

// millis is a length of time in milliseconds with three decimals at most.
type millis float64

func toMillis(d time.Duration) millis { return millis(float64(d.Microseconds()) / 1000) }

func tracing(value string) *traceContext {
	if value == "" {
		return nil
	}
	return &traceContext{Type: "X-Amzn-Trace-Id", Value: value}
}

func (h *Host) emitInitStart() {
	c := &h.cfg
	h.telemetry.emit(&event{at: time.Now(), category: categoryPlatform, kind: "platform.initStart", telemetry: initStart{
		Type: c.InitializationType, Phase: c.Phase, Version: c.RuntimeVersion, ARN: c.RuntimeARN, Function: c.Function,
		Number: c.Version, Instance: c.EnvironmentID, Memory: c.MemoryMB << 20,
	}})
}

// InitDone tells of the end of the runtime's init, and of the whole init's length. failure is empty on success;
// timedOut says that the time ran out.
func (h *Host) InitDone(at time.Time, length time.Duration, failure string, timedOut bool) {
	status := "success"
	switch {
	case timedOut:
		status = "timeout"
	case failure != "":
		status = "error"
	}
	c := &h.cfg
	h.telemetry.emit(&event{at: at, category: categoryPlatform, kind: "platform.initRuntimeDone",
		telemetry: initRuntimeDone{c.InitializationType, c.Phase, status, failure}})
	h.telemetry.emit(&event{at: at, category: categoryPlatform, kind: "platform.initReport",
		telemetry: initReport{c.InitializationType, c.Phase, status, failure, durationMetric{toMillis(length)}}})
}

func (h *Host) emitStart(at time.Time, e *runtimes.Event) {
	h.telemetry.emit(&event{at: at, category: categoryPlatform, kind: "platform.start",
		telemetry: start{e.RequestID, h.cfg.Version, tracing(e.TraceID)}, logs: start{ID: e.RequestID, Version: h.cfg.Version}})
}

// RuntimeDone tells that the runtime has answered, or will not.
func (h *Host) RuntimeDone(e *runtimes.Event, begin, end time.Time, produced int, status, errorType string) {
	length := end.Sub(begin)
	logsStatus := status
	if status == "error" {
		logsStatus = "failure"
	}
	h.telemetry.emit(&event{at: end, category: categoryPlatform, kind: "platform.runtimeDone",
		telemetry: runtimeDone{
			ID: e.RequestID, Status: status, ErrorType: errorType, Tracing: tracing(e.TraceID),
			Metrics: &runtimeDoneMetrics{toMillis(length), produced},
			// A response comes whole here, so that its first byte is there when its last is.
			Spans: []span{{"responseLatency", stamp(begin), toMillis(length)}, {"responseDuration", stamp(end), 0}},
		},
		logs: runtimeDoneLogs{e.RequestID, logsStatus}, logsSince: "2021-03-18"})
}

// Report tells of a finished invocation what REPORT says. after is when the runtime was done.
func (h *Host) Report(at, after time.Time, r *thaw.Invocation) {
	status, errorType := "success", ""
	switch {
	case r.TimedOut:
		status = "timeout"
	case r.Crashed:
		status, errorType = "error", r.ErrorType
	case r.ErrorType != "":
		status, errorType = "error", r.ErrorType
	}
	metrics := reportMetrics{
		Duration: toMillis(r.Duration), Billed: r.Billed.Milliseconds(), Size: r.MemorySize, Used: r.MaxMemoryUsed,
		Init: toMillis(r.InitDuration), Restore: toMillis(r.RestoreDuration), BilledRestore: r.BilledRestore.Milliseconds(),
	}
	h.telemetry.emit(&event{at: at, category: categoryPlatform, kind: "platform.end", logs: requestOnly{r.RequestID}})
	h.telemetry.emit(&event{at: at, category: categoryPlatform, kind: "platform.report",
		telemetry: report{
			ID: r.RequestID, Status: status, ErrorType: errorType, Metrics: metrics, Tracing: tracing(r.TraceID),
			Spans: []span{{"extensionOverhead", stamp(after), toMillis(max(0, at.Sub(after)))}},
		},
		logs: report{ID: r.RequestID, Metrics: metrics}})
	if r.Crashed || r.TimedOut {
		h.telemetry.emit(&event{at: at, category: categoryPlatform, kind: "platform.fault",
			logs: "RequestId: " + r.RequestID + " Error: " + r.ErrorType})
	}
}

// FunctionLog passes on a line of the function's own log. It costs nothing where nobody listens.
func (h *Host) FunctionLog(at time.Time, line []byte) {
	if h.telemetry.listening.Load() {
		h.telemetry.emit(h.lineEvent(at, categoryFunction, line))
	}
}

// extensionLog takes a line that an extension wrote. The time is its word, if it wrote a frame.
func (h *Host) extensionLog(message []byte, at time.Time) {
	at = runtimes.MessageTime(at)
	id := ""
	if current := h.current.Load(); current != nil {
		id = *current
	}
	line := append(bytes.Clone(message), '\n')
	h.cfg.Log(at, id, line)
	if h.telemetry.listening.Load() {
		h.telemetry.emit(h.lineEvent(at, categoryExtension, line))
	}
}

// lineEvent is the event of a line, whose record is the text, or the object that it is where logs are JSON.
func (h *Host) lineEvent(at time.Time, category string, line []byte) *event {
	text := string(line)
	e := &event{at: at, category: category, kind: category, telemetry: text, logs: text, size: len(text)}
	if !h.cfg.JSON {
		return e
	}
	if object := bytes.TrimSpace(line); len(object) > 0 && object[0] == '{' && json.Valid(object) {
		record := json.RawMessage(bytes.Clone(object))
		e.telemetry, e.logs, e.line, e.size = record, record, text, 2*len(text)
	}
	return e
}
