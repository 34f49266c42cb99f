package edge

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestWhoMayScrape: where requests must be signed, /metrics, and nothing else, takes the token instead.
func TestWhoMayScrape(t *testing.T) {
	scraped := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	for _, test := range []struct {
		name          string
		authenticator Authenticator
		token         string
		path, header  string
		want          int
	}{
		{"nobody must sign", nil, "", "/metrics", "", http.StatusOK},
		{"unsigned", refuseAll{}, "", "/metrics", "", http.StatusForbidden},
		{"no token is set", refuseAll{}, "", "/metrics", "Bearer ", http.StatusForbidden},
		{"the token", refuseAll{}, "secret", "/metrics", "Bearer secret", http.StatusOK},
		{"another token", refuseAll{}, "secret", "/metrics", "Bearer secrets", http.StatusForbidden},
		{"another scheme", refuseAll{}, "secret", "/metrics", "Basic secret", http.StatusForbidden},
		{"another path", refuseAll{}, "secret", "/_thaw/functions", "Bearer secret", http.StatusForbidden},
		{"a path below", refuseAll{}, "secret", "/metrics/../_thaw/functions", "Bearer secret", http.StatusForbidden},
	} {
		server := New(Config{
			Services: map[string]Service{lambdaService: lambdaModel(t)}, Download: http.NotFoundHandler(),
			Authenticator: test.authenticator, Metrics: scraped, MetricsToken: test.token,
		})
		request := httptest.NewRequest(http.MethodGet, "http://127.0.0.1"+test.path, nil)
		if test.header != "" {
			request.Header.Set("Authorization", test.header)
		}
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, request)
		if answer.Code != test.want {
			t.Errorf("%s: %d, want %d: %s", test.name, answer.Code, test.want, answer.Body)
		}
	}
}
