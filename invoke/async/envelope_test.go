package async

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestCut(t *testing.T) {
	for _, test := range []struct {
		text  string
		limit int
		want  string
	}{
		{"short", 10, "short"}, {"exactly", 7, "exactly"}, {"longer", 4, "long"}, {"", 4, ""},
		{"ab\u00e4", 3, "ab"}, {"ab\u00e4", 4, "ab\u00e4"}, {"\U0001f600\U0001f600", 7, "\U0001f600"},
		{"a\x00b\x1fc\td\n", 10, "a?b?c\td\n"}, {"a\xffb", 10, "a?b"},
	} {
		if got := cut(test.text, test.limit); got != test.want {
			t.Errorf("cut(%q, %d) = %q, want %q", test.text, test.limit, got, test.want)
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add("text", 3)
	f.Add("\xff\x80\x80\x80\x80\x80", 5)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if limit < 0 || limit > 1<<16 {
			return
		}
		got := cut(text, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\x08\x1f") {
			t.Errorf("cut(%q, %d) = %q", text, limit, got)
		}
	})
}

func FuzzDecodeEnvelope(f *testing.F) {
	f.Add([]byte(`{"id":"x","q":"live","trace":"Root=1","at":5,"kept":{"max_age":60},"dead":{"at":1,"condition":"c","reason":"r","attempts":2}}`))
	f.Add([]byte(`{"id":"","at":-1}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decodeEnvelope(data)
		if err != nil {
			return
		}
		if e.RequestID == "" || e.Accepted <= 0 {
			t.Errorf("%+v", e)
		}
		again, err := decodeEnvelope(encode(&e))
		if err != nil || again.RequestID != strings.ToValidUTF8(e.RequestID, "\ufffd") {
			t.Errorf("%+v became %+v, %v", e, again, err)
		}
		e.handling(nil)
	})
}

func FuzzDecodeProgress(f *testing.F) {
	f.Add([]byte(`{"n":2,"t":1,"next":5,"status":200,"v":"1","error":"no"}`))
	f.Add([]byte(`{"n":-1}`))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		p := decodeProgress(data)
		if p.Attempts < 0 || p.Throttles < 0 {
			t.Errorf("%+v", p)
		}
		if again := decodeProgress(encode(&p)); again.Attempts != p.Attempts || again.Next != p.Next {
			t.Errorf("%+v became %+v", p, again)
		}
	})
}

// FuzzRecord holds that a destination's record is JSON within its bound, whatever the payloads are.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"a":"<b>"}`), []byte("\xff"), "cond", 200)
	f.Add([]byte(nil), []byte("no JSON"), "", 0)
	f.Add([]byte("\xff"), []byte(`{`), "\xff", 500)
	now := time.Unix(0, 0)
	f.Fuzz(func(t *testing.T, request, response []byte, text string, status int) {
		env := envelope{RequestID: text, Qualifier: text, Accepted: 1}
		record, whole := newRecord(&account, "f", &env, request, &ending{condition: text, status: status, payload: response, functionError: status == 200}, now)
		var got invocationRecord
		if err := json.Unmarshal(record, &got); err != nil {
			t.Fatalf("%v in %q", err, record)
		}
		if len(record) > maxRecord || got.Version != "1.0" || (got.ResponseContext != nil) != (status != 0) {
			t.Errorf("%q", record)
		}
		if json.Valid(request) && len(request) > 0 && whole {
			var want, have bytes.Buffer
			if json.Compact(&want, request) != nil || json.Compact(&have, got.RequestPayload) != nil || !bytes.Equal(want.Bytes(), have.Bytes()) {
				t.Errorf("%q became %q", request, got.RequestPayload)
			}
		}
	})
}

// TestLargeRecord: a record that is too large goes without the answer, then without the event, which is kept elsewhere.
func TestLargeRecord(t *testing.T) {
	env := envelope{RequestID: "id", Accepted: 1}
	quoted := func(n int) []byte { return []byte(`"` + strings.Repeat("x", n-2) + `"`) }
	for _, test := range []struct {
		request, response       int
		hasRequest, hasResponse bool
	}{
		{100, 100, true, true}, {maxRecord / 2, maxRecord/2 - 1000, true, true}, {maxRecord / 2, maxRecord / 2, true, false},
		{100, 6 << 20, true, false}, {maxRecord, 100, false, false},
	} {
		record, whole := newRecord(&account, "f", &env, quoted(test.request), &ending{condition: conditionRetries, attempts: 3, status: 200, functionError: true, payload: quoted(test.response)}, time.Unix(0, 0))
		var got invocationRecord
		if err := json.Unmarshal(record, &got); err != nil || len(record) > maxRecord || whole != test.hasRequest ||
			(len(got.RequestPayload) > 0) != test.hasRequest || (len(got.ResponsePayload) > 0) != test.hasResponse || got.ResponseContext == nil {
			t.Errorf("%+v: %d bytes, whole %v, %.200s, %v", test, len(record), whole, record, err)
		}
	}
}
