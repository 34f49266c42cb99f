package insights

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// row is one log event with what the query has made of it, or one group of stats.
type row struct {
	event *Event // nil for a group
	set   map[string]value
	size  int // bytes of the texts in set
	// keys are what the row is sorted by.
	keys []value
	// found is what the message tells; nil until it is asked for.
	found map[string]value
	// results of the aggregate functions, while a group is finished.
	results []value
}

// maxRow bounds the texts that a query makes of one row, bytes. What comes beyond has no value.
const maxRow = 8 << 20

func (r *row) put(name string, v value) {
	if old, ok := r.set[name].(string); ok {
		r.size -= len(old)
	}
	if s, ok := v.(string); ok {
		if r.size+len(s) > maxRow {
			v = nil
		} else {
			r.size += len(s)
		}
	}
	if r.set == nil {
		r.set = map[string]value{}
	}
	r.set[name] = v
}

func (r *row) get(name string) value {
	if v, ok := r.set[name]; ok {
		return v
	}
	if r.event == nil {
		return nil
	}
	switch name {
	case "@message":
		return r.event.Message
	case "@timestamp":
		return moment(r.event.At.UnixMilli())
	case "@ingestionTime":
		return moment(r.event.Stored.UnixMilli())
	case "@logStream":
		return r.event.Stream
	case "@log":
		return r.event.Log
	case "@ptr":
		return r.event.Pointer
	}
	if r.found == nil {
		r.found = discover(r.event)
	}
	return r.found[name]
}

// Bounds of what is found in a message, as in the documentation of discovered fields, and how deep it is looked.
const (
	maxDiscovered = 200
	maxNesting    = 50
)

// discover finds the fields of a message: those of Lambda's START, END and REPORT lines, and those of the first JSON
// object in it.
func discover(e *Event) map[string]value {
	found := map[string]value{}
	if e.RequestID != "" {
		found["@requestId"] = e.RequestID
	}
	message := e.Message
	if first, _, _ := strings.Cut(message, " "); first == "START" || first == "END" || first == "REPORT" {
		lambdaLine(message, first, found)
	}
	begin := strings.IndexByte(message, '{')
	if begin < 0 {
		return found
	}
	var object map[string]any
	decoder := json.NewDecoder(strings.NewReader(message[begin:]))
	decoder.UseNumber()
	if decoder.Decode(&object) == nil {
		flatten("", object, found, 0)
	}
	return found
}

// lambdaLine reads a platform line. Memory is in bytes, of which AWS has a million in a megabyte.
func lambdaLine(message, kind string, found map[string]value) {
	_, id, ok := strings.Cut(message, "RequestId: ")
	if !ok {
		return
	}
	if end := strings.IndexAny(id, " \t\r\n"); end >= 0 {
		id = id[:end]
	}
	found["@type"], found["@requestId"] = kind, id
	if kind != "REPORT" {
		return
	}
	for part := range strings.SplitSeq(message, "\t") {
		key, text, ok := strings.Cut(part, ": ")
		if !ok {
			continue
		}
		text, unit, _ := strings.Cut(strings.TrimSpace(text), " ")
		switch key {
		case "XRAY TraceId":
			found["@xrayTraceId"] = text
			continue
		case "SegmentId":
			found["@xraySegmentId"] = text
			continue
		}
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue
		}
		if unit == "MB" {
			n *= 1e6
		}
		if name, ok := reported[key]; ok {
			found[name] = n
		}
	}
}

var reported = map[string]string{
	"Duration": "@duration", "Billed Duration": "@billedDuration", "Memory Size": "@memorySize", "Max Memory Used": "@maxMemoryUsed",
	"Init Duration": "@initDuration", "Restore Duration": "@restoreDuration", "Billed Restore Duration": "@billedRestoreDuration",
}

// flatten names the values in an object by their paths: a.b, a.0.b.
func flatten(path string, v any, found map[string]value, depth int) {
	if len(found) >= maxDiscovered || depth > maxNesting {
		return
	}
	inner := func(name string, v any) {
		if path != "" {
			name = path + "." + name
		}
		flatten(name, v, found, depth+1)
	}
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) { // the same ones each time, where there are too many
			inner(name, v[name])
		}
	case []any:
		for i, x := range v {
			inner(strconv.Itoa(i), x)
		}
	case string:
		found[path] = v
	case json.Number:
		if n, err := v.Float64(); err == nil {
			found[path] = n
		}
	case bool:
		found[path] = strconv.FormatBool(v)
	}
}

// Fields gives all fields of an event, those that are found in its message too.
func Fields(e *Event) []Field {
	r := &row{event: e}
	list := []Field{}
	for _, name := range []string{"@ptr", "@timestamp", "@ingestionTime", "@log", "@logStream", "@message"} {
		list = append(list, Field{name, toText(r.get(name))})
	}
	found := discover(e)
	for _, name := range slices.Sorted(maps.Keys(found)) {
		list = append(list, Field{name, toText(found[name])})
	}
	return list
}
