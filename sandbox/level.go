package sandbox

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"thaw"
)

// level is the importance of a message in a log of JSON objects.
type level int

// AWS's levels (ApplicationLogLevel), from the least important on. levelNone is no bound.
const (
	levelNone level = iota
	levelTrace
	levelDebug
	levelInfo
	levelWarn
	levelError
	levelFatal
)

// levels are AWS's names, and those that the languages' own loggers have for the same.
var levels = map[string]level{
	"TRACE": levelTrace, "DEBUG": levelDebug, "INFO": levelInfo, "WARN": levelWarn, "WARNING": levelWarn, "ERROR": levelError,
	"FATAL": levelFatal, "CRITICAL": levelFatal,
}

// leastLevel is what a version's log takes.
func leastLevel(v *thaw.Version) level {
	if v == nil || !v.LogsJSON() {
		return levelNone
	}
	if least, ok := levels[v.LogLevel]; ok {
		return least
	}
	return levelInfo
}

// isTime reports whether a JSON value is a time as RFC 3339 has them.
func isTime(value any) bool {
	text, ok := value.(string)
	if !ok {
		return false
	}
	_, err := time.Parse(time.RFC3339, text)
	return err == nil
}

// levelOf is the level of what a function wrote: that of a JSON object's member "level", or of "log_level", which AWS's Python
// client has for errors. What has none, or no time in the form of RFC 3339, or is no JSON object, counts as INFO (AWS, "Log-level
// filtering").
func levelOf(message []byte) level {
	message = bytes.TrimLeft(message, " \t\r\n")
	if len(message) == 0 || message[0] != '{' || !bytes.Contains(message, []byte(`level"`)) {
		return levelInfo
	}
	var object struct {
		Level     string `json:"level"`
		LogLevel  string `json:"log_level"`
		Timestamp any    `json:"timestamp"`
		Time      any    `json:"time"`
		At        any    `json:"@timestamp"`
	}
	if json.Unmarshal(message, &object) != nil || !isTime(object.Timestamp) && !isTime(object.Time) && !isTime(object.At) {
		return levelInfo
	}
	for _, name := range []string{object.Level, object.LogLevel} {
		if found, ok := levels[strings.ToUpper(name)]; ok {
			return found
		}
	}
	return levelInfo
}
