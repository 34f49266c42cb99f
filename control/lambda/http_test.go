package lambda

import (
	"encoding/base64"
	"net/http"
	"testing"

	"thaw/control/internal/apitest"
	"thaw/control/internal/golden"
	"thaw/state"
)

// service is the Lambda service over a, as edge mounts it.
func service(t testing.TB, a *API) http.Handler {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/", apitest.Service(t, "lambda", a.Register))
	mux.Handle(DownloadPath, a.Downloads())
	return mux
}

func serve(t testing.TB, change ...func(*Config)) (url string, a *API, store *state.Store) {
	t.Helper()
	a, store = newAPI(t, change...)
	a.cfg.BaseURL = apitest.Serve(t, service(t, a))
	return a.cfg.BaseURL, a, store
}

// The answers were compared with recorded ones of AWS where there are such; the messages that AWS does not have say what
// to do instead.
func TestGolden(t *testing.T) {
	golden.Run(t, func(t *testing.T) golden.Conversation {
		a, store := newAPI(t, func(c *Config) { c.HasQueue = func(name string) bool { return name != "none" } })
		variables := map[string]string{
			"ZIP":  base64.StdEncoding.EncodeToString(zipOf(t, "one")),
			"ZIP2": base64.StdEncoding.EncodeToString(zipOf(t, "two")),
			"ROLE": roleARN,
		}
		return golden.Conversation{
			Handler: service(t, a), ContentType: "application/json", Variables: variables,
			Step: func(t *testing.T, word, argument string) {
				switch word {
				case "settle":
					settle(t, store, argument, "")
				case "fail":
					settle(t, store, argument, "init failed: no module named app")
				case "settle-mappings": // and name the one that changed last
					for _, id := range settleMappings(t, store) {
						variables["UUID"] = id
					}
				default:
					t.Fatalf("unknown step %s", word)
				}
			},
		}
	})
}
