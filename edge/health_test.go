package edge

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"thaw"
	"thaw/awsapi"
)

// refuseAll is an Authenticator that nobody gets past.
type refuseAll struct{}

func (refuseAll) Verify(*http.Request) (string, error) {
	return "", thaw.Errorf(thaw.CodeAccessDenied, "no")
}

// TestHealth holds what clients read before they know anything of a platform, on a listener with signatures too.
func TestHealth(t *testing.T) {
	for _, authenticator := range []Authenticator{nil, refuseAll{}} {
		runtimes := []string{"nodejs20.x", "python3.11", "provided.al2023"}
		server := New(Config{
			Services: map[string]Service{lambdaService: lambdaModel(t)}, Download: http.NotFoundHandler(), Authenticator: authenticator,
			Account: thaw.Account{ID: "123456789012", Region: "eu-central-1"}, Version: "v1.2.3", Runtimes: runtimes,
		})
		request := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/_thaw/health", nil)
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, request)
		var got struct {
			Status, Version, Account, Region string
			Runtimes                         []string
		}
		if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || answer.Code != http.StatusOK {
			t.Fatalf("%d %v: %s", answer.Code, err, answer.Body)
		}
		if got.Status != "ok" || got.Version != "v1.2.3" || got.Account != "123456789012" || got.Region != "eu-central-1" || !slices.Equal(got.Runtimes, runtimes) {
			t.Errorf("%+v", got)
		}
	}
}

func lambdaModel(t *testing.T) *awsapi.Service {
	t.Helper()
	service, err := awsapi.New(lambdaService)
	if err != nil {
		t.Fatal(err)
	}
	return service
}
