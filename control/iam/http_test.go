package iam

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"thaw/awsapi"
	"thaw/control/internal/golden"
)

func service(t testing.TB, a *API) http.Handler {
	t.Helper()
	s, err := awsapi.New("iam")
	if err != nil {
		t.Fatal(err)
	}
	a.Register(s)
	return s
}

func serve(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(service(t, newAPI(t)))
	t.Cleanup(server.Close)
	return server
}

func TestGolden(t *testing.T) {
	golden.Run(t, func(t *testing.T) golden.Conversation {
		return golden.Conversation{
			Handler: service(t, newAPI(t)), ContentType: "application/x-www-form-urlencoded",
			Variables: map[string]string{"TRUST": url.QueryEscape(trust), "POLICY": url.QueryEscape(allowAll)},
		}
	})
}
