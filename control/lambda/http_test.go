package lambda

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"testing"

	"thaw/awsapi"
	"thaw/control/internal/golden"
	"thaw/state"
)

// service is the Lambda service over a, as edge mounts it.
func service(t testing.TB, a *API) http.Handler {
	t.Helper()
	s, err := awsapi.New("lambda")
	if err != nil {
		t.Fatal(err)
	}
	a.Register(s)
	mux := http.NewServeMux()
	mux.Handle("/", s)
	mux.Handle(DownloadPath, a.Downloads())
	return mux
}

func serve(t testing.TB, change ...func(*Config)) (*httptest.Server, *API, *state.Store) {
	t.Helper()
	a, store := newAPI(t, change...)
	server := httptest.NewServer(service(t, a))
	t.Cleanup(server.Close)
	a.cfg.BaseURL = server.URL
	return server, a, store
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
