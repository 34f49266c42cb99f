package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"thaw/cli"
)

// ask runs one command line with JSON output and decodes what it prints.
func ask(t *testing.T, answer any, getenv func(string) string, args ...string) {
	t.Helper()
	var out, complaint bytes.Buffer
	exit := run(t.Context(), append(args, "--json"), cli.Streams{In: strings.NewReader(""), Out: &out, Err: &complaint}, getenv)
	if exit != cli.ExitOK {
		t.Fatalf("thaw %v: exit %d: %s", args, exit, complaint.String())
	}
	if err := json.Unmarshal(out.Bytes(), answer); err != nil {
		t.Fatalf("thaw %v: %v: %s", args, err, out.String())
	}
}

// nowhere is an environment whose platform does not run.
func nowhere(name string) string {
	if name == "THAW_ENDPOINT" {
		return "http://127.0.0.1:1"
	}
	return ""
}

type variables struct {
	Variables map[string]string `json:"variables"`
}

// TestEnvPrintsThePlatformsOwnKeys is the promise of thaw.sample.yaml.
func TestEnvPrintsThePlatformsOwnKeys(t *testing.T) {
	t.Chdir(t.TempDir())
	cfg := defaults()
	if err := os.Mkdir(cfg.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	var before variables
	ask(t, &before, nowhere, "env")
	if _, err := os.Stat(filepath.Join(cfg.Data, credentialsFile)); err == nil {
		t.Error("asking for a pair made one")
	}
	keys, err := accessKeys(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"env"}, {"env", "--data", cfg.Data}} {
		var got variables
		ask(t, &got, nowhere, args...)
		id, secret := got.Variables["AWS_ACCESS_KEY_ID"], got.Variables["AWS_SECRET_ACCESS_KEY"]
		if want, ok := keys[id]; !ok || secret != want {
			t.Errorf("thaw %v gives %s, %s; the platform takes %v", args, id, secret, keys)
		}
		if id == before.Variables["AWS_ACCESS_KEY_ID"] {
			t.Errorf("thaw %v gives the stand-in", args)
		}
	}
}

func TestOwnCredentialsThatAreNotThere(t *testing.T) {
	t.Chdir(t.TempDir())
	if key, secret, err := ownCredentials(""); key != "" || secret != "" || err != nil {
		t.Errorf("no data directory: %q, %q, %v", key, secret, err)
	}
	data := t.TempDir()
	path := filepath.Join(data, credentialsFile)
	for _, text := range []string{"", "{", `{"access_key_id": "AKIA0000000000000000"}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if key, secret, err := ownCredentials(data); key != "" || secret != "" || err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %q, %q, %v", text, key, secret, err)
		}
	}
}

// TestDoctorSaysWhyAnInterpreterIsNotUsed puts a program in PATH that tells a version as Python does, and lacks its library.
func TestDoctorSaysWhyAnInterpreterIsNotUsed(t *testing.T) {
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "python3")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), path, "--version").Output(); err != nil || len(out) == 0 {
		t.Skip("this machine's /bin/true tells no version")
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	var report cli.Report
	ask(t, &report, nowhere, "doctor")
	for _, i := range report.Interpreters {
		if i.Path == path {
			if !strings.Contains(i.Unusable, "standard library") {
				t.Errorf("%+v does not say that it is not used, and why", i)
			}
			return
		}
	}
	t.Errorf("%s is not among %+v", path, report.Interpreters)
}
