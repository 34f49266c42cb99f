package events

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

const sample = `{"version":"0","id":"7bf7","detail-type":"State","source":"ec2","account":"123456789012","time":"2015-11-11T21:29:54Z","region":"eu-west-1","resources":["arn:1","arn:2"],"detail":{"instance-id":"i-1","state":"RUN \"NING\"","n":1.50,"ok":true,"nothing":null,"items":[{"a":1},{"a":2},{"b":3}],"o":{"z":1,"a":"<>"},"a/b":"slash","":1}}`

func TestPath(t *testing.T) {
	for path, want := range map[string]string{
		"$":                        sample,
		"$.source":                 `"ec2"`,
		"$.detail-type":            `"State"`,
		"$.detail.instance-id":     `"i-1"`,
		"$['detail']['a/b']":       `"slash"`,
		"$.detail.a/b":             `"slash"`,
		`$.detail["state"]`:        `"RUN \"NING\""`,
		"$.detail.n":               "1.50",
		"$.detail.nothing":         "null",
		"$.detail.o":               `{"z":1,"a":"<>"}`,
		"$.resources[1]":           `"arn:2"`,
		"$.resources":              `["arn:1","arn:2"]`,
		"$.detail.items[*].a":      "[1,2]",
		"$.detail.items.*.a":       "[1,2]",
		"$.detail.o.*":             `["<>",1]`,
		"$.detail.items[0]":        `{"a":1}`,
		"$.detail.missing":         "-",
		"$.resources[2]":           "-",
		"$.source.x":               "-",
		"$.source[0]":              "-",
		"$.source[*]":              "-",
		"$.detail.missing[*].deep": "-",
		"$.resources[*].deep":      "[]",
	} {
		steps, err := parsePath(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		part, ok := find(json.RawMessage(sample), steps)
		got := string(part)
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	for _, path := range []string{"", "detail", "$detail", "$.", "$..a", "$.a.", "$[", "$[]", "$[x]", "$['']", "$[-1]", "$[1:2]", "$.a b", "$.a[?(@.b)]", "$.a()", "$[99999999999]", "$" + strings.Repeat(".a", 200)} {
		if err := CheckPath(path); err == nil {
			t.Errorf("%q is taken", path)
		}
	}
}

func TestPayload(t *testing.T) {
	at := time.Date(2026, 3, 2, 12, 0, 0, 250e6, time.UTC)
	paths := map[string]string{"instance": "$.detail.instance-id", "state": "$.detail.state", "n": "$.detail.n", "o": "$.detail.o", "no": "$.detail.no", "time": "$.time", "nothing": "$.detail.nothing"}
	for _, tt := range []struct{ name, template, want string }{
		{"a text", `"<instance> is in state <no>."`, `"i-1 is in state ."`},
		{"recorded from AWS", `"Event of <instance> type, at time <time>, info extracted from detail <no>"`, `"Event of i-1 type, at time 2015-11-11T21:29:54Z, info extracted from detail "`},
		{"an object", `{"instance": <instance>, "n": <n>, "o": <o>}`, `{"instance": "i-1", "n": 1.50, "o": {"z":1,"a":"<>"}}`},
		{"an object with texts", `{"a": "<instance> \"<state>\"", "b": "<n>", "c": "<o>"}`, `{"a": "i-1 \"RUN \"NING\"\"", "b": "1.50", "c": "{\"z\":1,\"a\":\"<>\"}"}`},
		{"what is not there", `{"a": <no>, "b": <nothing>}`, `{"a": "", "b": null}`},
		{"no text at all", `<instance> is <state>`, `"i-1" is "RUN \"NING\""`},
		{"the rule", `{"arn": <aws.events.rule-arn>, "name": "<aws.events.rule-name>", "came": <aws.events.event.ingestion-time>}`, `{"arn": "arn:rule", "name": "r", "came": "2026-03-02T12:00:00.250Z"}`},
		{"the event", `{"e": <aws.events.event.json>}`, `{"e": ` + sample + `}`},
		{"the event without its detail", `{"e": <aws.events.event>}`, `{"e": {"version":"0","id":"7bf7","detail-type":"State","source":"ec2","account":"123456789012","time":"2015-11-11T21:29:54Z","region":"eu-west-1","resources":["arn:1","arn:2"]}}`},
		{"no variable", `{"a": "1 < 2 > 1 <> < instance>"}`, `{"a": "1 < 2 > 1 <> < instance>"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := CheckTemplate(tt.template, paths); err != nil {
				t.Fatal(err)
			}
			got, err := (&Target{Template: &tt.template, Paths: paths}).payload(moment{"arn:rule", "r", []byte(sample), at})
			if err != nil || string(got) != tt.want {
				t.Errorf("%v\ngot  %s\nwant %s", err, got, tt.want)
			}
		})
	}
	input, path, none := `{"x":1}`, "$.detail.o", "$.none"
	for want, target := range map[string]*Target{input: {Input: &input}, `{"z":1,"a":"<>"}`: {InputPath: &path}, "null": {InputPath: &none}, sample: {}} {
		if got, err := target.payload(moment{event: []byte(sample)}); err != nil || string(got) != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
	for template, paths := range map[string]map[string]string{
		"<unknown>":       {"known": "$.a"},
		"<a>":             {"a": "b"},
		"<aws.mine>":      {"aws.mine": "$.a"},
		"<aws.events.no>": nil,
	} {
		if err := CheckTemplate(template, paths); err == nil {
			t.Errorf("%s %v is taken", template, paths)
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, path := range []string{"$.detail.items[*].a", "$['detail'][\"o\"].*", "$.resources[1]", "$.detail.a/b"} {
		f.Add(path, sample)
	}
	f.Fuzz(func(t *testing.T, path, text string) {
		steps, err := parsePath(path)
		if err != nil || !json.Valid([]byte(text)) {
			return
		}
		if part, ok := find(json.RawMessage(text), steps); ok && !json.Valid(part) {
			t.Errorf("%s of %s is %s", path, text, part)
		}
	})
}

// FuzzTemplate puts what it likes into a template that is JSON: what comes out is JSON too.
func FuzzTemplate(f *testing.F) {
	f.Add(`{"a": "<v> \"<v>\"", "b": <v>}`, `"te\"xt"`)
	f.Add(`["<v>", <v>, "\\"]`, `{"a":[1,"<v>"]}`)
	f.Fuzz(func(t *testing.T, template, value string) {
		paths := map[string]string{"v": "$.detail"}
		if CheckTemplate(template, paths) != nil || !json.Valid([]byte(value)) {
			return
		}
		if dry := strings.ReplaceAll(template, "<v>", "1"); !json.Valid([]byte(dry)) {
			return
		}
		event := `{"detail":` + value + `}`
		out, err := (&Target{Template: &template, Paths: paths}).payload(moment{event: []byte(event)})
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(out) {
			t.Errorf("%s with %s is %s", template, value, out)
		}
	})
}
