package iam

import (
	"net/url"
	"testing"

	"thaw/awsapi"
	"thaw/control/internal/apitest"
	"thaw/control/internal/golden"
)

func service(t testing.TB, a *API) *awsapi.Service {
	t.Helper()
	return apitest.Service(t, "iam", a.Register)
}

func TestGolden(t *testing.T) {
	golden.Run(t, func(t *testing.T) golden.Conversation {
		return golden.Conversation{
			Handler: service(t, newAPI(t)), ContentType: "application/x-www-form-urlencoded",
			Variables: map[string]string{"TRUST": url.QueryEscape(trust), "POLICY": url.QueryEscape(allowAll)},
		}
	})
}
