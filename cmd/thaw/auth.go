package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
)

// credentialsFile is where the access key made at the first start is kept, readable by its owner alone.
const credentialsFile = "credentials.json"

type credentials struct {
	AccessKeyID     string `json:"access_key_id"`
	SecretAccessKey string `json:"secret_access_key"`
}

// accessKeys are the configured ones, or the one pair of the data directory, which is made if it is not there.
func accessKeys(cfg *config) (map[string]string, error) {
	if len(cfg.Auth.AccessKeys) > 0 {
		return maps.Clone(cfg.Auth.AccessKeys), nil
	}
	path := filepath.Join(cfg.Data, credentialsFile)
	c, err := readCredentials(path)
	if errors.Is(err, fs.ErrNotExist) {
		c, err = makeCredentials(path)
	}
	if err != nil {
		return nil, fmt.Errorf("access key: %w", err)
	}
	return map[string]string{c.AccessKeyID: c.SecretAccessKey}, nil
}

// ownCredentials are the pair that a platform made for itself in a data directory, "" being the default one; empty when
// there is none. It makes nothing.
func ownCredentials(data string) (accessKey, secretKey string, err error) {
	dir := data
	if dir == "" {
		dir = defaults().Data
	}
	c, err := readCredentials(filepath.Join(dir, credentialsFile))
	// Nobody named the default directory: another user's platform there, which may ask for no keys at all, is no mistake.
	if errors.Is(err, fs.ErrNotExist) || data == "" && errors.Is(err, fs.ErrPermission) {
		return "", "", nil
	}
	return c.AccessKeyID, c.SecretAccessKey, err
}

func readCredentials(path string) (credentials, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return credentials{}, err
	}
	var c credentials
	if err := json.Unmarshal(text, &c); err != nil || c.AccessKeyID == "" || c.SecretAccessKey == "" {
		return credentials{}, fmt.Errorf("%s is damaged; delete it to have a new pair made at the next start", path)
	}
	return c, nil
}

func makeCredentials(path string) (credentials, error) {
	var secret [30]byte
	rand.Read(secret[:]) //nolint:errcheck // never fails
	c := credentials{
		AccessKeyID:     "AKIA" + rand.Text()[:16],
		SecretAccessKey: base64.StdEncoding.EncodeToString(secret[:]),
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return c, err
	}
	return c, os.WriteFile(path, append(text, '\n'), 0o600)
}
