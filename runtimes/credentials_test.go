package runtimes

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"

	"thaw"
)

// TestCredentials asks with AWS's own client, as a function's SDK does.
func TestCredentials(t *testing.T) {
	v := &thaw.Version{Function: "fn", Number: thaw.Latest, SnapStart: thaw.SnapStartPublished, Environment: map[string]string{
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/elsewhere", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "mine",
	}}
	whole := Environ(v, testAccount, "stream", false)
	shown, held := HoldCredentials(whole)
	secrets := []string{}
	for _, pair := range whole {
		key, value, _ := strings.Cut(pair, "=")
		switch key {
		case "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN":
			secrets = append(secrets, value)
		case "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN":
		default:
			if !slices.Contains(shown, pair) {
				t.Errorf("%s is gone", key)
			}
			continue
		}
		if slices.Contains(shown, pair) {
			t.Errorf("%s is still there", key)
		}
	}
	token, _ := strings.CutPrefix(shown[len(shown)-1], "AWS_CONTAINER_AUTHORIZATION_TOKEN=")
	if len(token) < 20 || len(shown) != len(whole)-4 {
		t.Fatalf("%q of %d variables, %d before", token, len(shown), len(whole))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn := ServeAPI(l, held, nil)
	defer conn.Close()
	ask := func(token string) *endpointcreds.Provider {
		return endpointcreds.New("http://"+l.Addr().String()+CredentialsPath, func(o *endpointcreds.Options) { o.AuthorizationToken = token })
	}
	got, err := ask(token).Retrieve(testContext(t))
	if err != nil || !got.CanExpire || !slices.Equal([]string{got.AccessKeyID, got.SecretAccessKey, got.SessionToken}, secrets) {
		t.Errorf("%+v, %v, want %q", got, err, secrets)
	}
	for _, wrong := range []string{"", "mine", token + "x", token[1:]} {
		if got, err := ask(wrong).Retrieve(testContext(t)); err == nil {
			t.Errorf("%q opened %+v", wrong, got)
		}
	}
}
