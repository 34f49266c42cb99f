package sandbox

import (
	"bytes"
	"encoding/json"
	"strings"

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

// levelOf is the level of what a function wrote: that of a JSON object's member "level", or of "log_level", which AWS's Python
// client has for errors. What has none, or is no JSON object, counts as INFO (AWS, "Log-level filtering").
func levelOf(message []byte) level {
	message = bytes.TrimLeft(message, " \t\r\n")
	if len(message) == 0 || message[0] != '{' || !bytes.Contains(message, []byte(`level"`)) {
		return levelInfo
	}
	var object struct {
		Level    string `json:"level"`
		LogLevel string `json:"log_level"`
	}
	if json.Unmarshal(message, &object) != nil {
		return levelInfo
	}
	for _, name := range []string{object.Level, object.LogLevel} {
		if found, ok := levels[strings.ToUpper(name)]; ok {
			return found
		}
	}
	return levelInfo
}
