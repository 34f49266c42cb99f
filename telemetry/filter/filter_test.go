package filter

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMatch(t *testing.T) {
	const object = `{"eventType": "UpdateTrail", "sourceIPAddress": "111.111.111.111", "n": 4.5e1, "ok": true, "nothing": null,
		"arrayKey": ["value", "another"], "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}], "a-b": {"c d": "x"}}`
	const access = `127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534`
	for _, test := range []struct {
		pattern, message string
		want             bool
	}{
		{"", "anything", true},
		{"ERROR", "[ERROR 401] UNAUTHORIZED REQUEST", true},
		{"error", "[ERROR 401] UNAUTHORIZED REQUEST", false},
		{"ERROR ARGUMENTS", "[ERROR 419] MISSING ARGUMENTS", true},
		{"ERROR ARGUMENTS", "[ERROR 401] UNAUTHORIZED REQUEST", false},
		{"?ERROR ?ARGUMENTS", "[ERROR 401] UNAUTHORIZED REQUEST", true},
		{"?WARN ?ARGUMENTS", "[ERROR 401] UNAUTHORIZED REQUEST", false},
		{"?WARN ERROR", "[ERROR 401] UNAUTHORIZED REQUEST", true}, // with another term, optional ones do not count
		{"ERROR -ARGUMENTS", "[ERROR 401] UNAUTHORIZED REQUEST", true},
		{"ERROR -ARGUMENTS", "[ERROR 419] MISSING ARGUMENTS", false},
		{`"INTERNAL SERVER"`, "[ERROR 500] INTERNAL SERVER ERROR", true},
		{`"say \"x\""`, `they say "x"`, true},
		{"%AUTHORIZED%", "[ERROR 401] UNAUTHORIZED REQUEST", true},
		{"%^ERROR%", "[ERROR 401] UNAUTHORIZED REQUEST", false},
		{`%\d{3}%`, "[ERROR 401]", true},
		{"REPORT", "REPORT RequestId: x", true},
		{`{ $.eventType = "UpdateTrail" }`, object, true},
		{`{ $.eventType = "Update*" }`, object, true},
		{`{ $.eventType != "UpdateTrail" }`, object, false},
		{`{ $.sourceIPAddress != 123.123.* }`, object, true},
		{`{ $.arrayKey[0] = "value" }`, object, true},
		{`{ $.arrayKey[2] = "value" }`, object, false},
		{`{ $.objectList[1].id = 2 }`, object, true},
		{`{ $.objectList[*].name = "b" }`, object, true},
		{`{ $.n > 44 && $.n <= 45 }`, object, true},
		{`{ $.n = 4.5e+1 }`, object, true},
		{`{ $.n < 45 }`, object, false},
		{`{ $.ok IS TRUE }`, object, true},
		{`{ $.ok IS FALSE }`, object, false},
		{`{ $.nothing IS NULL }`, object, true},
		{`{ $.other NOT EXISTS }`, object, true},
		{`{ $.nothing NOT EXISTS }`, object, false},
		{`{ $.other IS NULL }`, object, false},
		{`{ ($.eventType = "x" || $.n = 45) && $.ok IS TRUE }`, object, true},
		{`{ $.eventType = "x" || $.n = 45 && $.ok IS FALSE }`, object, false},
		{`{ $.eventType = %[Uu]pdate% }`, object, true},
		{`{ $['a-b']['c d'] = "x" }`, object, true},
		{`{ $.a = 1 }`, "not JSON", false},
		{`[ip, server, user, time, request, status_code, bytes]`, access, true},
		{`[ip, server, user, time, request, status_code]`, access, false},
		{`[ip, ..., status_code = 4*, bytes]`, access, true},
		{`[ip, ..., status_code = 5*, bytes]`, access, false},
		{`[ip=%127\.0\.0\.[1-9]%, ...]`, access, true},
		{`[..., bytes > 1000]`, access, true},
		{`[..., bytes < 1000]`, access, false},
		{`[ip, server, user, time, request, status_code = 404 || status_code = 410, bytes]`, access, true},
		{`[ip, server, user, time, request, (status_code = 404 || status_code = 410) && status_code != 404, bytes]`, access, false},
		{`[w1=ERROR, w2]`, "ERROR happened", true},
		{`[w1!=ERROR&&w1!=WARN, w2]`, "WARN happened\n", false},
		{`[ip, server, user, time, request = "GET*", ...]`, access, true},
	} {
		p, err := Compile(test.pattern)
		if err != nil {
			t.Errorf("%s: %v", test.pattern, err)
			continue
		}
		if got := p.Match(test.message); got != test.want {
			t.Errorf("%s on %s: %v", test.pattern, test.message, got)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, pattern := range []string{
		`"open`, `%open`, `%a(b)%`, `{ $.a }`, `{ a = 1 }`, `{ $.a = 1`, `{ $.a > x }`, `{ $.a = 1 } x`, `{ ($.a = 1 }`, `[a, b`, `[a b]`,
		`[a=1, ..., ...]`, `{ $.a IS 3 }`, `{ $.a NOT 3 }`, `{ $. = 1 }`, `{ $[x] = 1 }`, "%a% %b% %c%", "?", `{`, `[`, `[]`, "a(b",
		"{" + strings.Repeat("(", 100), "[" + strings.Repeat("(", 100),
	} {
		if _, err := Compile(pattern); err == nil {
			t.Errorf("%s is taken", pattern)
		}
	}
}

func TestExtract(t *testing.T) {
	for _, test := range []struct {
		pattern, message string
		want             map[string]string
	}{
		{`{ $.a = 1 && $.b.c = "x" }`, `{"a": 1, "b": {"c": "x"}}`, map[string]string{"$.a": "1", "$.b.c": "x"}},
		{`[ip, ..., n]`, "1.2.3.4 x y 5", map[string]string{"$ip": "1.2.3.4", "$n": "5"}},
		{"word", "word", map[string]string{}},
	} {
		p, err := Compile(test.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, p.Extract(test.message)); diff != "" {
			t.Errorf("%s: %s", test.pattern, diff)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, pattern := range []string{
		"", "ERROR -x ?y", `"a\"b"`, "%a.b%", `{ $.a[0].b = "x*" && ($.c >= 3 || $.d IS NULL) }`, `[a, b=4*, ..., c>3 || c=1]`, `{ $['x'] NOT EXISTS }`,
	} {
		f.Add(pattern, `{"a":[{"b":"xy"}],"c":3}`)
		f.Add(pattern, `a 404 "b c" [d]`)
	}
	f.Fuzz(func(t *testing.T, pattern, message string) {
		p, err := Compile(pattern)
		if err != nil {
			return
		}
		first := p.Match(message)
		p.Extract(message)
		if v, err := p.Value(message); err == nil {
			v.Of(message)
		}
		if p.Match(message) != first {
			t.Error("the same message is judged in two ways")
		}
	})
}

func TestValue(t *testing.T) {
	for _, test := range []struct{ pattern, value, message, want string }{
		{`{ $.a = * }`, "$.latency.ms", `{"a": 1, "latency": {"ms": 4.5}}`, "4.5"},
		{`{ $.a = * }`, "$.list[1]", `{"a": 1, "list": [1, "x"]}`, "x"},
		{`{ $.a = * }`, "$.none", `{"a": 1}`, "-"},
		{`[ip, ..., bytes]`, "$bytes", "1.2.3.4 x 1534", "1534"},
	} {
		p, err := Compile(test.pattern)
		if err != nil {
			t.Fatal(err)
		}
		v, err := p.Value(test.value)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := v.Of(test.message)
		if !ok {
			got = "-"
		}
		if got != test.want {
			t.Errorf("%s of %s: %q", test.value, test.message, got)
		}
	}
	for pattern, value := range map[string]string{"word": "$.a", "[a, b]": "$c", "[a]": "a", "{ $.a = 1 }": "$", "{ $.b = 1 }": "$.a b", "{ $.c = 1 }": "x"} {
		p, err := Compile(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Value(value); err == nil {
			t.Errorf("%s is taken for %s", value, pattern)
		}
	}
}

// One message of the largest size would take a minute.
func TestExpensiveExpressionsAreRefused(t *testing.T) {
	for _, pattern := range []string{"%[ab]{1000}[bc]{1000}%", "{ $.a = %[ab]{900}% && $.b = %[ab]{900}% }", "[a = %[ab]{900}%, b = %[ab]{900}%]"} {
		if _, err := Compile(pattern); err == nil || !strings.Contains(err.Error(), "too long") {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}
