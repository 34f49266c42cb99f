package sandbox

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"thaw"
	"thaw/runtimes"
)

// shut is a process whose network the host cannot enter, or can.
type shut struct {
	Process
	dials bool
}

func (s shut) Dials() bool                                     { return s.dials }
func (s shut) DialPort(context.Context, int) (net.Conn, error) { return nil, net.ErrClosed }

// nowhere is a log that keeps nothing.
type nowhere struct{}

func (nowhere) Write(time.Time, string, []byte) {}
func (nowhere) WaitRoom(context.Context)        {}

// Where telemetry cannot be delivered Subscribe says so.
func TestSubscribeWithoutAWayIn(t *testing.T) {
	for dials, want := range map[bool]int{true: 200, false: 400} {
		plan := &Plan{Version: &thaw.Version{}, Launch: &runtimes.Launch{Args: []string{"x"}}, Log: nowhere{}}
		h := (&Config{}).host(t.Context(), plan, shut{dials: dials})
		mux := http.NewServeMux()
		h.Routes(mux)
		ask := func(method, path, body, name, value string) *httptest.ResponseRecorder {
			r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
			r.Header.Set(name, value)
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, r)
			return w
		}
		id := ask("POST", "/2020-01-01/extension/register", "{}", "Lambda-Extension-Name", "a").Header().Get("Lambda-Extension-Identifier")
		w := ask("PUT", "/2022-07-01/telemetry", `{"schemaVersion":"2022-07-01","types":["platform"],"destination":{"protocol":"TCP","port":9}}`, "Lambda-Extension-Identifier", id)
		if w.Code != want {
			t.Errorf("dials %t: %d %s", dials, w.Code, w.Body)
		}
		h.Close()
	}
}
