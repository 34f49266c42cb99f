package runtimes

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// CredentialsPath is where ServeAPI gives credentials away.
const CredentialsPath = "/2021-04-23/credentials"

// credentialsLife is how long AWS's clients keep credentials before they ask again, after AWS's runtime interface emulator.
const credentialsLife = 16 * time.Minute

// Credentials are what an environment with SnapStart is given on request and not in its variables.
type Credentials struct {
	accessKeyID, secretAccessKey, sessionToken string
	authorization                              string
}

// HoldCredentials takes the credentials out of what Environ made, and puts in the token that they are given for. The
// variable AWS_CONTAINER_CREDENTIALS_FULL_URI is for whoever opens the listener to add.
func HoldCredentials(env []string) ([]string, *Credentials) {
	c := &Credentials{authorization: rand.Text()}
	held := map[string]*string{
		"AWS_ACCESS_KEY_ID": &c.accessKeyID, "AWS_SECRET_ACCESS_KEY": &c.secretAccessKey, "AWS_SESSION_TOKEN": &c.sessionToken,
		// The function's own would lead its clients elsewhere.
		"AWS_CONTAINER_AUTHORIZATION_TOKEN": new(string), "AWS_CONTAINER_CREDENTIALS_FULL_URI": new(string),
	}
	shown := make([]string, 0, len(env))
	for _, pair := range env {
		key, value, _ := strings.Cut(pair, "=")
		if to, ok := held[key]; ok {
			*to = value
			continue
		}
		shown = append(shown, pair)
	}
	return append(shown, "AWS_CONTAINER_AUTHORIZATION_TOKEN="+c.authorization), c
}

// serve is GET CredentialsPath; the errors are the emulator's.
func (c *Credentials) serve(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(c.authorization)) == 0 {
		http.Error(w, "cannot get credentials for the provided token", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	answer := struct {
		AccessKeyID     string    `json:"AccessKeyId"`
		SecretAccessKey string    `json:"SecretAccessKey"`
		Token           string    `json:"Token"`
		Expiration      time.Time `json:"Expiration"`
	}{c.accessKeyID, c.secretAccessKey, c.sessionToken, time.Now().Add(credentialsLife).UTC()}
	json.NewEncoder(w).Encode(answer) //nolint:errcheck // the runtime has gone
}
