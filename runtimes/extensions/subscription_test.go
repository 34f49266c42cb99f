package extensions

import (
	"strings"
	"testing"
	"time"
)

func TestParseSubscription(t *testing.T) {
	const destination = `"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:8080/a?b=c"}`
	for _, c := range []struct{ api, body, problems string }{
		{telemetryAPI, `{"schemaVersion":"2022-12-13","types":["platform","platform","function"],` + destination + `}`, ""},
		{telemetryAPI, `{"schemaVersion":"2025-01-29","types":["extension"],"destination":{"protocol":"TCP","port":9}}`, ""},
		{logsAPI, `{"types":["extension"],"destination":{"protocol":"HTTP","URI":"http://sandbox:1","method":"PUT"}}`, ""},
		{telemetryAPI, `{"schemaVersion":"2022-07-01","destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain"}}`, "URI port is not provided; types should not be empty"},
		{telemetryAPI, `{"types":["platform"],` + destination + `}`, "schemaVersion is not provided"},
		{telemetryAPI, `{"schemaVersion":"1","types":["all"]}`, `schemaVersion should be one of 2022-07-01, 2022-12-13, 2025-01-29; destination is not provided; "all" is not a type: platform, function and extension are`},
		{logsAPI, `{"types":["platform"],"destination":{"protocol":"HTTP","URI":"https://169.254.169.254:80"}}`, "URI scheme should be http; URI host should be sandbox.localdomain"},
		{logsAPI, `{"types":["platform"],"destination":{"protocol":"TCP","port":9001}}`, "port 9001 is reserved"},
		{logsAPI, `{"types":["platform"],"destination":{"protocol":"TCP","port":70000}}`, "port should be between 1 and 65535"},
		{logsAPI, `{"types":["platform"],"destination":{"protocol":"TCP"}}`, "port is not provided"},
		{logsAPI, `{"types":["platform"],"destination":{"protocol":"UDP"}}`, "protocol should be HTTP or TCP"},
		{logsAPI, `{"types":["platform"],"buffering":{"maxItems":1,"maxBytes":2097152,"timeoutMs":0},` + destination + `}`,
			"maxItems should be between 1000 and 10000; maxBytes should be between 262144 and 1048576; timeoutMs should be between 25 and 30000"},
		{logsAPI, `[`, "the body is not a subscription: unexpected end of JSON input"},
	} {
		_, problems := parseSubscription(c.api, []byte(c.body))
		if got := strings.Join(problems, "; "); got != c.problems {
			t.Errorf("%s\ngot  %s\nwant %s", c.body, got, c.problems)
		}
	}
	// A body that is wrong many times is not answered many times.
	_, problems := parseSubscription(telemetryAPI, []byte(`{"types":[`+strings.Repeat(`"a",`, maxBody/4)+`"b"]}`))
	if len(problems) > 10 {
		t.Errorf("%d problems", len(problems))
	}
	s, _ := parseSubscription(telemetryAPI, []byte(`{"schemaVersion":"2022-12-13","types":["platform","platform","function"],`+destination+`}`))
	if s.port != 8080 || s.url != "http://sandbox.localdomain:8080/a?b=c" || s.method != "POST" || len(s.categories) != 2 ||
		s.items != 10000 || s.bytes != 256<<10 || s.timeout != time.Second {
		t.Errorf("%+v", s)
	}
}

func FuzzParseSubscription(f *testing.F) {
	f.Add(`{"schemaVersion":"2022-12-13","types":["platform"],"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:8080"}}`, true)
	f.Add(`{"types":["function"],"destination":{"protocol":"TCP","port":1}}`, false)
	f.Fuzz(func(t *testing.T, body string, telemetry bool) {
		api := logsAPI
		if telemetry {
			api = telemetryAPI
		}
		s, problems := parseSubscription(api, []byte(body))
		if len(problems) > 0 {
			return
		}
		if s.port < 1 || s.port > 65535 || s.port == reservedPort || len(s.categories) == 0 || s.items > 10000 || s.bytes > 1<<20 || s.tcp == (s.url != "") {
			t.Errorf("%q was taken: %+v", body, s)
		}
	})
}
