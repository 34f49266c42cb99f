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
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeCredentials(path)
	}
	if err != nil {
		return nil, fmt.Errorf("access key: %w", err)
	}
	var c credentials
	if err := json.Unmarshal(text, &c); err != nil || c.AccessKeyID == "" || c.SecretAccessKey == "" {
		return nil, fmt.Errorf("access key: %s is damaged; delete it to have a new pair made", path)
	}
	return map[string]string{c.AccessKeyID: c.SecretAccessKey}, nil
}

func makeCredentials(path string) ([]byte, error) {
	var secret [30]byte
	rand.Read(secret[:]) //nolint:errcheck // never fails
	text, err := json.MarshalIndent(credentials{
		AccessKeyID:     "AKIA" + rand.Text()[:16],
		SecretAccessKey: base64.StdEncoding.EncodeToString(secret[:]),
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	return text, os.WriteFile(path, append(text, '\n'), 0o600)
}
